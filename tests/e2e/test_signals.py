"""SIGTERM lets running answers end; SIGHUP changes the fleet under load."""
import concurrent.futures
import json
import signal
import threading
import time

import pytest

from client import Connection, counted, post, question, request
from harness import program, until


def listening(gateway):
    try:
        Connection(gateway.port, bound=2).close()
        return True
    except (ConnectionRefusedError, ConnectionResetError):  # the latter: it was closed while we knocked
        return False


@pytest.fixture
def phones(start):
    """100 tokens a second."""
    return start.sim(2, decode_rate=100, answer_tokens=5)


def many(phones):
    return [p.entry(max_concurrency=8) for p in phones]


# ---- SIGTERM


@pytest.mark.parametrize("which", [signal.SIGTERM, signal.SIGINT])
def test_running_answers_end_and_nobody_new_comes_in(start, phones, which):
    gateway = start.gateway(many(phones))
    resting = Connection(gateway.port)  # kept alive, between two requests
    resting.send(post("/ask", question(tokens=1)))
    assert resting.reply().status == 200
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        streams = [gateway.ask_stream(tokens=150).begun() for _ in range(6)]  # 1.5 s
        whole = [pool.submit(lambda: gateway.ask(tokens=100).content()) for _ in range(2)]
        until(lambda: sum(p["inflight"] for p in gateway.health()) == 8, "all to be running")
        gateway.signal(which)
        until(lambda: not listening(gateway), "the listener to be closed", bound=1)
        assert gateway.running()
        assert all(stream.whole is None for stream in streams), "they are still running"
        assert resting.line() is None, "a connection that rests is closed"
        assert [s.finish().text() for s in streams] == [counted(150)] * 6
        assert all(s.whole and s.last()["done"] is True for s in streams)
        assert [f.result() for f in whole] == [counted(100)] * 2
    assert gateway.wait(bound=3) == 0, "as soon as the last answer is out"
    gateway.log.wait_for("(?i)drain")


def test_queued_requests_are_not_forgotten(start):
    """Those who wait when SIGTERM comes get an answer: theirs, or a 503 that sends them elsewhere."""
    phone = start.sim(1, decode_rate=100, answer_tokens=5)[0]
    gateway = start.gateway([phone])
    running = gateway.ask_stream(tokens=100).begun()
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        queued = [pool.submit(gateway.ask) for _ in range(3)]
        until(lambda: request(gateway.port, "GET", "/health").json()["queue"]["waiting"] == 3, "three to wait")
        gateway.signal(signal.SIGTERM)
        assert running.finish().text() == counted(100) and running.whole
        for reply in (f.result() for f in queued):
            assert reply.status == 503 or reply.content() == counted(5), reply
    assert gateway.wait(bound=5) == 0


def test_when_the_grace_is_over(start, phones):
    gateway = start.gateway(many(phones), {"drain_s": 1})
    streams = [gateway.ask_stream(tokens=900).begun() for _ in range(4)]
    began = time.monotonic()
    gateway.signal(signal.SIGTERM)
    for stream in streams:
        stream.finish()
        assert isinstance(stream.error(), str) and stream.whole is False
        assert stream.text() == counted(len(stream.lines) - 1)
    assert gateway.wait(bound=5) == 0
    assert 0.9 < time.monotonic() - began < 4
    for phone in phones:
        until(lambda: phone.state()["active"] == 0, "the phone to be told", bound=2)


def test_second_sigterm_stops_at_once(start, phones):
    gateway = start.gateway(many(phones))
    streams = [gateway.ask_stream(tokens=900).begun() for _ in range(4)]
    gateway.signal(signal.SIGTERM)
    until(lambda: not listening(gateway), "the listener to be closed", bound=1)
    began = time.monotonic()
    gateway.signal(signal.SIGTERM)
    status = gateway.wait(bound=3)
    assert time.monotonic() - began < 2
    assert status >= 0, f"ended by signal {-status}"
    assert all(stream.finish().whole is False for stream in streams)
    gateway.ended = True


def test_sigterm_when_nothing_runs(start, phones):
    gateway = start.gateway(phones)
    began = time.monotonic()
    gateway.signal(signal.SIGTERM)
    assert gateway.wait(bound=3) == 0
    assert time.monotonic() - began < 2


# ---- SIGHUP


class Load(threading.Thread):
    """Asks without pause until it is stopped."""

    def __init__(self, gateway):
        super().__init__()
        self.gateway, self.replies, self.enough = gateway, [], threading.Event()

    def run(self):
        while not self.enough.is_set():
            self.replies.append(self.gateway.ask())

    def phones_since(self, count):
        return {r.headers["X-Phone"] for r in self.replies[count:]}


@pytest.fixture
def under_load():
    loads = []

    def begin(gateway, clients=3):
        loads.extend(Load(gateway) for _ in range(clients))
        for load in loads:
            load.start()
        return loads

    yield begin
    for load in loads:
        load.enough.set()
    for load in loads:
        load.join()


def test_phones_come_and_go_under_load(start, phones, under_load):
    first, second = phones
    third = start.sim(1, decode_rate=100, answer_tokens=5)[0]
    gateway = start.gateway(many([first, second]), {"cache": "never"})
    long = []
    while {s.headers["X-Phone"] for s in long} != {first.name, second.name}:
        long.append(gateway.ask_stream(tokens=400).begun())
    loads = under_load(gateway)

    # one comes, one goes
    mark = gateway.log.mark()
    gateway.write(many([second, third]))
    gateway.signal(signal.SIGHUP)
    until(lambda: any(third.name in load.phones_since(0) for load in loads), "the new one to be used")
    gateway.log.wait_for("(?i)reload|reread|phones.json", start=mark)
    seen = [len(load.replies) for load in loads]
    before = first.state()["requests"]
    until(lambda: all(len(load.replies) > n + 20 for load, n in zip(loads, seen)), "some more requests")
    assert first.state()["requests"] == before, "the one that is gone gets nothing new"
    assert gateway.phone(first.name)["draining"] is True
    assert gateway.phone(first.name)["healthy"] is False

    # and back
    gateway.write(many([first, second, third]))
    gateway.signal(signal.SIGHUP)
    until(lambda: first.state()["requests"] > before, "it to be used again")

    assert [s.finish().text() for s in long] == [counted(400)] * len(long), "running streams did not notice"
    for load in loads:
        load.enough.set()
        load.join()
        assert [r.status for r in load.replies] == [200] * len(load.replies)
        assert all(r.content() == counted(5) for r in load.replies)
    gateway.idle()


def test_a_removed_phone_is_forgotten_when_its_last_answer_is_out(start, phones):
    first, second = phones
    gateway = start.gateway(phones)
    long = [gateway.ask_stream(tokens=100).begun() for _ in range(2)]
    gateway.write([second])
    gateway.signal(signal.SIGHUP)
    until(lambda: gateway.phone(first.name)["draining"], "the change to be seen")
    assert [s.finish().text() for s in long] == [counted(100)] * 2
    until(lambda: [p["name"] for p in gateway.health()] == [second.name], "the first to be gone", bound=2)


def test_what_is_known_of_a_phone_is_kept(start, phones):
    """A reload must not reset what stays: permits in use, health, the breaker."""
    first, second = phones
    gateway = start.gateway(phones, {"breaker_failures": 2, "breaker_open_s": 60})
    first.fault("error_500")
    until(lambda: gateway.ask() and gateway.phone(first.name)["breaker"] == "open", "its breaker to open")
    long = gateway.ask_stream(tokens=100).begun()
    mark = gateway.log.mark()
    gateway.write([first, second.entry(max_concurrency=2, weight=3)])
    gateway.signal(signal.SIGHUP)
    until(lambda: gateway.phone(second.name)["weight"] == 3, "the change to be seen")
    assert gateway.phone(first.name)["breaker"] == "open"
    assert gateway.phone(second.name)["inflight"] == 1 and gateway.phone(second.name)["healthy"] is True
    assert long.finish().text() == counted(100)
    assert gateway.log.lines()[mark:], "a reload is logged"


@pytest.mark.parametrize("content, said", [
    ('[{"host": "127.0.0.1", "port": 1', "line|column|JSON"),
    ('{"phones": []}', "phones"),
    ('[{"host": "127.0.0.1", "wieght": 2}]', "wieght.*weight"),
    ('[{"host": "http://127.0.0.1"}]', "scheme"),
    (None, "phones.json"),
])
def test_a_broken_file_changes_nothing(start, phones, content, said):
    gateway = start.gateway(many(phones))
    long = gateway.ask_stream(tokens=100).begun()
    if content is None:
        gateway.file.unlink()
    else:
        gateway.file.write_text(content)
    mark = gateway.log.mark()
    gateway.signal(signal.SIGHUP)
    gateway.log.wait_for(said, start=mark)
    assert gateway.running()
    assert [p["name"] for p in gateway.health()] == [p.name for p in phones]
    assert {gateway.ask().headers["X-Phone"] for _ in range(4)} == {p.name for p in phones}
    assert long.finish().text() == counted(100)
    # The mended file is taken.
    gateway.reload(phones[:1])
    assert {gateway.ask().headers["X-Phone"] for _ in range(3)} == {phones[0].name}


def test_settings_of_the_gateway_change_too(start, phones):
    gateway = start.gateway(phones, {"policy": "weighted_round_robin"})
    gateway.settings["policy"] = "least_loaded"
    gateway.reload(many(phones))
    held = gateway.ask_stream(tokens=300).begun()
    others = {p.name for p in phones} - {held.headers["X-Phone"]}
    assert {gateway.ask().headers["X-Phone"] for _ in range(4)} == others
    held.abort()


def test_many_sighups(start, phones):
    gateway = start.gateway(phones)
    for _ in range(200):
        gateway.signal(signal.SIGHUP)
    assert gateway.ask().content() == counted(5)
    gateway.wait_healthy(2)


# ---- starting


@pytest.mark.parametrize("workers", [1, 2])
def test_a_port_that_is_taken(start, phones, workers):
    """Two gateways on one port would share its clients, and nobody would know which has answered."""
    gateway = start.gateway(phones, {"workers": workers})
    second = start.process("gateway", [program(), "serve", "--phones", str(gateway.file), "--listen",
                                       f"127.0.0.1:{gateway.port}"])
    assert second.wait(bound=5) > 0
    assert str(gateway.port) in second.log.text()
    second.ended = True


@pytest.mark.parametrize("which", [signal.SIGHUP, signal.SIGTERM, signal.SIGINT])
def test_signals_count_from_the_first_line_on(start, phones, tmp_path, which):
    """Whoever waits for "listening on" may send one at once."""
    file = tmp_path / "phones.json"
    file.write_text(json.dumps([p.entry() for p in phones]))
    for _ in range(8):
        gateway = start.process("gateway", [program(), "serve", "--phones", str(file), "--listen", "127.0.0.1:0"])
        gateway.log.wait_for("listening on")
        gateway.signal(which)
        if which == signal.SIGHUP:
            gateway.signal(signal.SIGTERM)
        assert gateway.wait(bound=5) == 0
