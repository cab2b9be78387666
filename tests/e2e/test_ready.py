"""/healthz and /readyz: what a load balancer or a supervisor asks, without a key."""
import json
import re
import signal

import pytest

import engines
from client import Connection, ask_stream, counted, request
from harness import ROOT, Process, until
from test_keys import Keys

ALIVE = (200, {"alive": True})
READY = (200, {"ready": True})
NO_PHONE = (503, {"ready": False, "reason": "no phone can be asked"})
DRAINING = (503, {"ready": False, "reason": "draining"})


def said(gateway, path):
    reply = request(gateway.port, "GET", path)
    assert reply.headers["Content-Type"] == "application/json" and reply.headers["Cache-Control"] == "no-store"
    return reply.status, reply.json()


def becomes(gateway, wanted):
    until(lambda: said(gateway, "/readyz") == wanted, f"/readyz to say {wanted}")
    assert said(gateway, "/healthz") == ALIVE


def test_ready_with_one_phone_that_can_be_asked(start):
    one, other = start.sim(2)
    one.fault("hang")
    other.fault("hang")
    gateway = start.gateway([one, other], {"probe_interval_s": 0.2, "probe_timeout_s": 0.2}, healthy=0)
    becomes(gateway, NO_PHONE)
    one.clear()
    becomes(gateway, READY)
    one.fault("hang")
    becomes(gateway, NO_PHONE)
    other.clear()
    becomes(gateway, READY)


def test_a_fleet_that_was_drained_is_not_ready(start, tmp_path):
    keys = Keys(tmp_path)
    admin = {"X-API-Key": keys.new("root", "--admin")}
    phone = start.sim(1)[0]
    gateway = start.gateway([phone], {"api_keys_file": str(keys.file)})
    becomes(gateway, READY)
    assert request(gateway.port, "POST", f"/admin/phones/{phone.name}/drain", headers=admin).status == 200
    assert said(gateway, "/readyz") == NO_PHONE
    assert request(gateway.port, "POST", f"/admin/phones/{phone.name}/undrain", headers=admin).status == 200
    becomes(gateway, READY)


def test_a_broken_file_leaves_it_ready(start):
    gateway = start.gateway(start.sim(1))
    gateway.file.write_text("[")
    gateway.signal(signal.SIGHUP)
    gateway.log.wait_for("the old fleet goes on")
    becomes(gateway, READY)


def begun(port, path):
    """A connection whose request has come but for its last line: the gateway waits for that, also in a drain."""
    connection = Connection(port)
    connection.send(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n")
    return connection


def test_while_draining(start):
    """The listener is closed, so that whoever comes anew is refused. Who has come in just before is told the truth."""
    gateway = start.gateway(start.sim(1, decode_rate=100))
    alive, ready = begun(gateway.port, "/healthz"), begun(gateway.port, "/readyz")
    stream = gateway.ask_stream(tokens=300).begun()  # 3 s
    until(lambda: gateway.metric("pocketfleet_connections") >= 4, "all to be taken in")
    gateway.signal(signal.SIGTERM)
    gateway.log.wait_for("draining")

    def refused():
        try:
            Connection(gateway.port, bound=2).close()
        except ConnectionError:
            return True
        return False
    until(refused, "the listener to be closed")
    for connection, wanted in ((alive, ALIVE), (ready, DRAINING)):
        connection.send("\r\n")
        reply = connection.reply("GET")
        assert (reply.status, reply.json()) == wanted
        assert reply.headers["Connection"] == "close"
    assert stream.whole is None, "it is still running"
    assert stream.finish().text() == counted(300) and stream.whole
    assert gateway.wait() == 0


def test_heads_and_no_other_methods(start):
    gateway = start.gateway(start.sim(1))
    for path in ("/healthz", "/readyz"):
        head = request(gateway.port, "HEAD", path)
        assert head.status == 200 and head.body == b"" and int(head.headers["Content-Length"]) > 0
        assert request(gateway.port, "POST", path).status == 405


@pytest.mark.parametrize("up", [True, False])
def test_they_tell_nothing_and_fill_no_log(start, tmp_path, up):
    """No key is needed, so no name, address, count or version is told; asked every second, they are no news."""
    keys = Keys(tmp_path)
    key = keys.new("alice")
    phone = start.sim(1)[0]
    entry = phone.entry(name="cellar-phone", port=phone.port if up else 1)
    gateway = start.gateway([entry], {"api_keys_file": str(keys.file), "log_format": "json"}, key=key, healthy=int(up))
    assert request(gateway.port, "GET", "/health").status == 401
    becomes(gateway, READY if up else NO_PHONE)
    for path in ("/healthz", "/readyz"):
        reply = request(gateway.port, "GET", path)
        assert set(reply.json()) <= {"alive", "ready", "reason"}
        everything = json.dumps(dict(reply.headers)) + reply.text()
        assert "cellar" not in everything and "127.0.0.1" not in everything and str(phone.port) not in reply.text()
    done = gateway.metric("pocketfleet_requests_total", route="/readyz", outcome="ok")
    assert done >= 2
    assert not [r for r in gateway.records() if r["route"] in ("/healthz", "/readyz")]


def test_haproxy_as_the_manual_has_it(start, tmp_path):
    """The manual's backend in a real HAProxy: requests go where a phone can be asked, and a restart is not felt."""
    program = engines.unpacked("haproxy") / "haproxy"
    page = (ROOT / "docs" / "operations.md").read_text()
    backend = re.search(r"^    (backend pocketfleet\n(?:        .*\n)+)", page, re.M)[1]
    phone, broken = start.sim(2, decode_rate=200)
    broken.fault("hang")
    looking = {"probe_interval_s": 0.2, "probe_timeout_s": 0.2}
    one, two = start.gateway([phone], looking), start.gateway([broken], looking, healthy=0)
    for address, gateway in (("192.168.1.10:8000", one), ("192.168.1.11:8000", two)):
        assert backend.count(address) == 1
        backend = backend.replace(address, f"127.0.0.1:{gateway.port}")
    port = engines.free_port()
    config = tmp_path / "haproxy.cfg"
    config.write_text("defaults\n    mode http\n    timeout connect 2s\n    timeout client 60s\n"
                      f"frontend in\n    bind 127.0.0.1:{port}\n    default_backend pocketfleet\n{backend}")
    proxy = start.own(Process("haproxy", [program, "-db", "-f", str(config)]))

    def ask():
        return request(port, "POST", "/ask", {"prompt": "x", "cache": False, "options": {"num_predict": 2}})

    def phones_of(count):
        """Of so many requests in a row, over both gateways if both are ready; none of them may fail."""
        replies = [ask() for _ in range(count)]
        assert all(r.status == 200 for r in replies), replies
        return {r.headers["X-Phone"] for r in replies}

    proxy.log.wait_for("Server pocketfleet/two is DOWN")  # it takes both for good until it has looked
    assert phones_of(6) == {phone.name}
    broken.clear()
    until(lambda: phones_of(4) == {phone.name, broken.name}, "the other gateway to get its share")

    stream = ask_stream(port, tokens=400).begun()  # 2 s
    leaving, staying = (one, broken) if stream.headers["X-Phone"] == phone.name else (two, phone)
    leaving.signal(signal.SIGTERM)
    leaving.log.wait_for("draining")
    assert phones_of(6) == {staying.name}, "nobody feels it: who is refused is sent to the other one"
    assert stream.finish().text() == counted(400) and stream.whole
    assert leaving.wait() == 0
