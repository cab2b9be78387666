"""What an operator does to a running gateway: the admin API. The subcommands over it: test_admin_commands.py."""
import concurrent.futures
import json
import os
import signal
import stat
import threading

import pytest

from admin_side import KEY, admin, ask, listed, path_to, refused, with_operator
from client import counted, request
from harness import program, until

ODD = "Küche"  # no name for a phone
NAMES = ["b/c", "d%2Fe f", "#1 ?x=y&z", "~'<i>{}()*;:@=+,$!|^`", "..", "drain"]


@pytest.fixture
def start(start):
    return with_operator(start)


@pytest.fixture
def phones(start):
    return start.sim(2, decode_rate=100, answer_tokens=5)


class Load(threading.Thread):
    """Asks one question after the other until it is told to stop."""

    def __init__(self, gateway):
        super().__init__(daemon=True)
        self.gateway, self.replies, self.enough = gateway, [], threading.Event()
        self.start()

    def run(self):
        while not self.enough.is_set():
            self.replies.append(self.gateway.ask(tokens=5, cache=False))

    def end(self):
        self.enough.set()
        self.join(30)
        assert not self.is_alive()
        assert [r.status for r in self.replies] == [200] * len(self.replies)
        assert all(r.content() == counted(5) for r in self.replies)


@pytest.fixture
def under_load():
    loads = []

    def begin(gateway, count=4):
        loads.extend(Load(gateway) for _ in range(count))
        until(lambda: all(len(load.replies) > 2 for load in loads), "requests to be answered")
        return loads

    yield begin
    for load in loads:
        load.enough.set()
        load.join(30)


def some_more(loads, each=5):
    seen = [len(load.replies) for load in loads]
    until(lambda: all(len(load.replies) >= n + each for load, n in zip(loads, seen)), "some more requests")


# ---- the list


def test_it_takes_the_operators_key(fleet):
    for key, status in [("", 401), ("pf_another_key_that_is_not_right", 401), (KEY, 200)]:
        assert ask(fleet, "GET", "phones", key=key).status == status


def test_the_list(start, phones):
    first, second = phones
    gateway = start.gateway([first.entry(weight=3, max_concurrency=2, model="qwen2.5:1.5b"), second])
    one = listed(gateway)[first.name]
    assert one == {"name": first.name, "host": "127.0.0.1", "port": first.port, "engine": "ollama", "state": "up",
                   "model": "qwen2.5:1.5b", "weight": 3, "max_concurrency": 2, "healthy": True, "reason": "",
                   "draining": False, "drained": False, "breaker": "closed", "breaker_held": False, "inflight": 0,
                   "permits": 2, "source": "file", "speeds": []}
    assert ask(gateway, "HEAD", "phones").status == 200


# ---- drain


def test_a_drained_phone_finishes_what_it_has_and_gets_nothing_new(start, phones, under_load):
    first, second = phones
    gateway = start.gateway([p.entry(max_concurrency=8) for p in phones])
    loads = under_load(gateway)
    long = []
    while {s.headers["X-Phone"] for s in long} != {first.name, second.name}:
        long.append(gateway.ask_stream(tokens=300).begun())

    drained = admin(gateway, "POST", path_to(first.name, "/drain"))
    assert drained["drained"] is True and drained["healthy"] is False and drained["draining"] is False
    assert drained["inflight"] > 0 and drained["reason"].startswith("drained by hand")
    until(lambda: listed(gateway)[first.name]["inflight"] <= len(long), "its short requests to end")
    before = first.state()["requests"]
    some_more(loads, 10)
    assert first.state()["requests"] == before, "nothing new"
    shown = gateway.phone(first.name)
    assert (shown["drained"], shown["healthy"], shown["state"]) == (True, False, "up")
    assert request(gateway.port, "GET", "/health").json()["status"] == "ok", "nothing is wrong with it"
    assert gateway.metric("pocketfleet_phone_drained", phone=first.name) == 1
    assert gateway.metric("pocketfleet_phone_drained", phone=second.name) == 0

    assert [s.finish().text() for s in long] == [counted(300)] * len(long), "what ran was finished"
    until(lambda: listed(gateway)[first.name]["inflight"] == 0, "nothing to be left on it")
    assert admin(gateway, "POST", path_to(first.name, "/drain")) == listed(gateway)[first.name], "twice is no mistake"

    assert admin(gateway, "POST", path_to(first.name, "/undrain"))["healthy"] is True
    until(lambda: first.state()["requests"] > before, "it to be used again")
    for load in loads:
        load.end()


def test_a_drain_survives_a_reload(start, phones):
    first, second = phones
    gateway = start.gateway(phones)
    admin(gateway, "POST", path_to(first.name, "/drain"))
    gateway.reload([second, first.entry(weight=5)], healthy=1)
    assert listed(gateway)[first.name]["drained"] is True
    assert {gateway.ask(tokens=1).headers["X-Phone"] for _ in range(4)} == {second.name}


def test_a_fleet_that_is_drained_refuses_at_once(start, phones):
    gateway = start.gateway(phones[:1])
    admin(gateway, "POST", path_to(phones[0].name, "/drain"))
    reply = gateway.ask(tokens=1)
    assert reply.status == 503 and 1 <= int(reply.headers["Retry-After"]) <= 60


# ---- breaker


def test_a_breaker_by_hand(start, phones):
    first, second = phones
    gateway = start.gateway(phones, {"breaker_open_s": 1, "breaker_failures": 2})
    opened = admin(gateway, "POST", path_to(first.name, "/breaker"), {"state": "open"})
    assert (opened["breaker"], opened["breaker_held"], opened["healthy"]) == ("open", True, False)
    assert "by hand" in opened["reason"]
    looks = gateway.metric("pocketfleet_probes_total", phone=first.name, result="good")
    until(lambda: gateway.metric("pocketfleet_probes_total", phone=first.name, result="good") > looks + 2,
          "more time than a breaker rests")
    assert {gateway.ask(tokens=1).headers["X-Phone"] for _ in range(4)} == {second.name}
    assert listed(gateway)[first.name]["breaker"] == "open", "it stays so until it is closed"
    closed = admin(gateway, "POST", path_to(first.name, "/breaker"), {"state": "closed"})
    assert (closed["breaker"], closed["breaker_held"], closed["healthy"]) == ("closed", False, True)
    assert {gateway.ask(tokens=1).headers["X-Phone"] for _ in range(4)} == {first.name, second.name}


def test_a_breaker_that_has_opened_is_closed_by_hand(start, phones):
    first, second = phones
    gateway = start.gateway([first.entry(max_concurrency=3), second], {"breaker_failures": 2, "breaker_open_s": 300})
    first.fault("error_500")
    until(lambda: gateway.ask(tokens=1) and gateway.phone(first.name)["breaker"] == "open", "its breaker to open")
    first.clear()
    closed = admin(gateway, "POST", path_to(first.name, "/breaker"), {"state": "closed"})
    assert (closed["breaker"], closed["healthy"], closed["permits"]) == ("closed", True, 3), "no slow start"


# ---- weight and permits


def test_weight_and_permits_change_under_load(start, phones, under_load):
    first, second = phones
    gateway = start.gateway([p.entry(max_concurrency=4) for p in phones])
    loads = under_load(gateway)
    for weight, permits in [(1, 1), (50, 8), (3, 2), (1000, 64)]:
        got = admin(gateway, "PATCH", path_to(first.name), {"weight": weight, "max_concurrency": permits})
        assert (got["weight"], got["max_concurrency"]) == (weight, permits)
        some_more(loads)
    assert admin(gateway, "PATCH", path_to(second.name), {"weight": 2})["max_concurrency"] == 4, "the other stays"
    for load in loads:
        load.end()


def test_a_weight_counts(start, phones):
    first, second = phones
    gateway = start.gateway(phones)
    admin(gateway, "PATCH", path_to(first.name), {"weight": 3})
    used = [gateway.ask(tokens=1).headers["X-Phone"] for _ in range(40)]
    assert used.count(first.name) == 30


def test_more_permits_serve_those_who_wait(start):
    phone, = start.sim(1, decode_rate=100)
    gateway = start.gateway([phone])
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        long = gateway.ask_stream(tokens=300).begun()
        waiting = [pool.submit(gateway.ask, tokens=100 + i) for i in range(2)]
        until(lambda: gateway.metric("pocketfleet_queue_length") == 2, "two to wait")
        assert admin(gateway, "PATCH", path_to(phone.name), {"max_concurrency": 3})["inflight"] == 3
        assert [w.result().status for w in waiting] == [200, 200]
        assert long.finish().text() == counted(300)


def test_the_file_rules_again_when_it_says_something_else(start, phones):
    first, second = phones
    gateway = start.gateway(phones)
    admin(gateway, "PATCH", path_to(first.name), {"weight": 7, "max_concurrency": 3})
    admin(gateway, "DELETE", path_to(second.name))
    gateway.reload([second, first], healthy=1)
    shown = listed(gateway)
    assert set(shown) == {first.name}, "the file says the same of the removed one"
    assert (shown[first.name]["weight"], shown[first.name]["max_concurrency"]) == (7, 3)
    gateway.reload([second.entry(weight=2), first.entry(weight=9)], healthy=2)
    shown = listed(gateway)
    assert (shown[first.name]["weight"], shown[first.name]["max_concurrency"]) == (9, 3)
    assert shown[second.name]["weight"] == 2


# ---- add and remove


def test_phones_are_added_and_removed_under_load(start, phones, under_load):
    first, second = phones
    third, = start.sim(1, decode_rate=100, answer_tokens=5)
    gateway = start.gateway([p.entry(max_concurrency=8) for p in phones])
    loads = under_load(gateway)
    long = []
    while {s.headers["X-Phone"] for s in long} != {first.name, second.name}:
        long.append(gateway.ask_stream(tokens=300).begun())

    added = admin(gateway, "POST", "phones", third.entry(max_concurrency=8, weight=2), 201)
    assert (added["name"], added["source"], added["weight"]) == (third.name, "runtime", 2)
    until(lambda: third.state()["requests"] > 0, "the new one to be used")
    gone = admin(gateway, "DELETE", path_to(first.name))
    assert gone["removed"] is True and gone["inflight"] > 0
    until(lambda: listed(gateway)[first.name]["inflight"] <= len(long), "its short requests to end")
    before = first.state()["requests"]
    some_more(loads)
    assert first.state()["requests"] == before
    assert listed(gateway)[first.name]["draining"] is True
    assert [s.finish().text() for s in long] == [counted(300)] * len(long)
    until(lambda: set(listed(gateway)) == {second.name, third.name}, "the removed one to be gone")

    assert admin(gateway, "POST", "phones", first.entry(max_concurrency=8), 201)["source"] == "file", "as it was"
    until(lambda: first.state()["requests"] > before, "it to be used again")
    gateway.signal(signal.SIGHUP)
    gateway.log.wait_for("the file was reread")
    assert {n: p["source"] for n, p in listed(gateway).items()} == {
        first.name: "file", second.name: "file", third.name: "runtime"}, "an added phone survives a reload"
    for load in loads:
        load.end()


def test_names_addresses_and_ids_are_taken_once(start, phones):
    first, second = phones
    gateway = start.gateway([first.entry(id="pf-1"), second])
    other = {"host": "10.9.9.9", "name": "other"}
    assert first.name in refused(gateway, "POST", "phones", {**other, "name": first.name}, 409)
    assert f"127.0.0.1:{second.port}" in refused(gateway, "POST", "phones", {**second.entry(), "name": "x"}, 409)
    assert "pf-1" in refused(gateway, "POST", "phones", {**other, "id": "pf-1"}, 409)
    assert set(listed(gateway)) == {first.name, second.name}
    admin(gateway, "DELETE", path_to(second.name))
    assert admin(gateway, "POST", "phones", second.entry(name="again"), 201)["name"] == "again"


@pytest.mark.parametrize("name", NAMES)
def test_odd_names(start, phones, name):
    first, second = phones
    gateway = start.gateway([first.entry(name=name), second.entry(name="plain")])
    assert admin(gateway, "POST", path_to(name, "/drain"))["name"] == name
    assert admin(gateway, "PATCH", path_to(name), {"weight": 2})["weight"] == 2
    assert admin(gateway, "POST", path_to(name, "/breaker"), {"state": "open"})["name"] == name
    assert [p["drained"] for p in listed(gateway).values()] == [True, False]
    admin(gateway, "POST", "save")
    assert admin(gateway, "DELETE", path_to(name))["name"] == name
    assert set(listed(gateway)) == {"plain"}
    assert admin(gateway, "POST", "phones", first.entry(name=name), 201)["name"] == name


def test_one_that_joined_by_itself(start, tmp_path):
    """Its weight is kept over a restart; removed, it may join again."""
    phone, = start.sim(1)
    token = "t" * 32
    secret = tmp_path / "token"
    secret.write_text(token)
    secret.chmod(0o600)
    gateway = start.gateway([], {"registration": "open", "fleet_token_file": str(secret),
                                 "phone_networks": ["127.0.0.0/8"]})

    def beat():
        return request(gateway.port, "POST", "/fleet/heartbeat",
                       {"id": "pf-j", "name": "joined", "engine": {"kind": "ollama", "port": phone.port}},
                       {"Authorization": "Bearer " + token})

    assert beat().status == 200
    gateway.wait_healthy(1)
    assert listed(gateway)["joined"]["source"] == "registered"
    assert admin(gateway, "PATCH", path_to("joined"), {"weight": 6})["weight"] == 6
    registered = gateway.file.with_name("phones.json.registered")
    until(lambda: '"weight":6' in registered.read_text(), "it to be kept")
    assert listed(restarted(start, gateway))["joined"]["weight"] == 6
    assert admin(gateway, "POST", path_to("joined", "/drain"))["drained"] is True
    assert beat().json()["phone"] == "joined"
    assert listed(gateway)["joined"]["drained"] is True

    assert "again" in admin(gateway, "DELETE", path_to("joined"))["remark"]
    assert listed(gateway) == {}
    assert beat().json()["phone"] == "joined"
    assert listed(gateway)["joined"]["weight"] == 1
    assert listed(gateway)["joined"]["drained"] is True, "a phone with an id stays drained wherever it goes"
    assert admin(gateway, "POST", "save")["written"] is False, "it is kept elsewhere"


# ---- mistakes


@pytest.mark.parametrize("body, said", [
    ("{", "invalid JSON at line 1"),
    ("", "invalid JSON"),
    ([], 'expected an object such as {"host"'),
    ({}, "host: found nothing"),
    ({"host": "http://10.0.0.1"}, "host: found"),
    ({"host": "10.0.0.1", "port": 70000}, "port: found 70000, expected a whole number from 1 to 65535"),
    ({"host": "10.0.0.1", "weight": 0}, "weight: found 0"),
    ({"host": "10.0.0.1", "wieght": 2}, 'wieght: found an unknown key, expected a known one; did you mean "weight"?'),
    ({"host": "10.0.0.1", "name": ODD}, "name: found"),
    ({"host": "10.0.0.1", "name": "a\nb"}, "name: found"),
    ({"host": "10.0.0.1", "engine": "vllm"}, "engine: found"),
    ({"host": "10.0.0.1", "api_key_file": "/etc/hostname"}, "api_key_file: found"),
    ({"host": "10.0.0.1", "api_key_file": "../secret"}, "api_key_file: found"),
    ('{"host":"10.0.0.1","host":"10.0.0.2"}', "column 20"),
    ({"host": "10.0.0.1", "tls": True}, "tls: this gateway was started without"),
])
def test_bad_phones_are_refused_by_field(fleet, body, said):
    assert said in refused(fleet, "POST", "phones", body, 400)


@pytest.mark.parametrize("body, said", [
    ({}, '"weight", "max_concurrency" or both'),
    ([1], '"weight", "max_concurrency" or both'),
    ({"weight": 1001}, "weight: found 1001, expected a whole number from 1 to 1000"),
    ({"weight": "2"}, "weight: found"),
    ({"max_concurrency": 0}, "max_concurrency: found 0, expected a whole number from 1 to 64"),
    ({"weight": 2, "name": "x"}, "name: found an unknown key"),
    ("nonsense", "invalid JSON"),
])
def test_bad_changes_are_refused_by_field(fleet, body, said):
    before = listed(fleet)
    assert said in refused(fleet, "PATCH", path_to(fleet.name_of_one), body, 400)
    assert listed(fleet) == before


@pytest.mark.parametrize("body", [{}, {"state": "half-open"}, {"state": "open", "x": 1}, [], "", {"state": None}])
def test_bad_states_are_refused(fleet, body):
    assert "state" in refused(fleet, "POST", path_to(fleet.name_of_one, "/breaker"), body, 400) or body == ""


@pytest.mark.parametrize("method, what, body", [
    ("DELETE", "", None), ("PATCH", "", {"weight": 1}), ("POST", "/drain", None), ("POST", "/undrain", None),
    ("POST", "/breaker", {"state": "open"})])
@pytest.mark.parametrize("name", ["nobody", "%00", "a/b", ODD])
def test_phones_that_are_not_there(fleet, method, what, body, name):
    assert "there is no phone" in refused(fleet, method, path_to(name, what), body, 404)


@pytest.mark.parametrize("method, path, status", [
    ("PUT", "phones", 405), ("DELETE", "phones", 405), ("GET", "phones/x", 405), ("GET", "phones/x/drain", 405),
    ("POST", "phones/x/y/drain", 404), ("POST", "phones//drain", 404), ("POST", "phones/", 404), ("POST", "x", 404),
    ("GET", "reload", 405), ("GET", "save", 405), ("POST", "cache", 405)])
def test_paths_and_methods(fleet, method, path, status):
    reply = ask(fleet, method, path)
    assert reply.status == status, reply


@pytest.fixture(scope="module")
def fleet(start_once):
    phone, = start_once.sim(1)
    gateway = with_operator(start_once).gateway([phone])
    gateway.name_of_one = phone.name
    return gateway


def test_labels_of_metrics_do_not_come_from_paths(fleet):
    for i in range(20):
        refused(fleet, "DELETE", path_to(f"stranger-{i}"), None, 404)
    routes = {dict(labels).get("route") for name, labels in fleet.metrics() if name == "pocketfleet_requests_total"}
    assert "/admin/phones/{name}" in routes
    assert not any("stranger" in (r or "") for r in routes)


@pytest.mark.parametrize("host", ["169.254.169.254", "127.0.0.1", "::ffff:127.0.0.1", "8.8.8.8", "::1"])
def test_phones_are_added_where_phones_may_be_only(start, phones, host):
    gateway = start.gateway(phones, {"phone_networks": ["192.168.0.0/16"]})
    assert "phone_networks" in refused(gateway, "POST", "phones", {"host": host, "port": phones[0].port}, 400)
    # Names that the resolver takes for numbers need no DNS server to lead here.
    admin(gateway, "POST", "phones", {"host": "0x7f.0.0.1", "port": phones[0].port, "name": "by-name"}, 201)
    until(lambda: "outside phone_networks" in (listed(gateway)["by-name"]["reason"] or ""), "why it gets nothing")


# ---- cache


def test_the_cache_is_cleared(start, phones):
    gateway = start.gateway(phones)
    prompts = ["one", "two", "three"]
    assert [gateway.ask(p, tokens=2).headers["X-Cache"] for p in prompts] == ["miss"] * 3
    assert gateway.ask("two", tokens=2).headers["X-Cache"] == "hit"
    assert admin(gateway, "DELETE", "cache") == {"removed": 3}
    assert admin(gateway, "DELETE", "cache") == {"removed": 0}
    assert gateway.metric("pocketfleet_cache_bytes") == 0
    assert gateway.ask("two", tokens=2).headers["X-Cache"] == "miss"


# ---- reload


def test_reload_is_what_sighup_does(start, phones):
    first, second = phones
    gateway = start.gateway([first])
    gateway.write([first, second])
    assert admin(gateway, "POST", "reload") == {"phones": 2, "needs_restart": False}
    gateway.wait_healthy(2)
    gateway.settings["queue"] = 7
    gateway.write([first, second])
    assert admin(gateway, "POST", "reload") == {"phones": 2, "needs_restart": True}
    assert gateway.metric("pocketfleet_config_last_reload_successful") == 1

    gateway.write([first.entry(weight=0, wieght=1)])
    answer = admin(gateway, "POST", "reload", status=422)
    assert len(answer["mistakes"]) == 2 and answer["mistakes"][0] in answer["error"]
    assert any("phones[0].weight: found 0" in m for m in answer["mistakes"])
    assert gateway.metric("pocketfleet_config_last_reload_successful") == 0
    assert set(listed(gateway)) == {first.name, second.name}, "the old fleet goes on"
    gateway.file.unlink()
    assert "No such file" in admin(gateway, "POST", "reload", status=422)["error"]


# ---- save


def restarted(start, gateway):
    """Another gateway from the same file."""
    other = start.process("gateway", [gateway.command[0], "serve", "--phones", str(gateway.file), "--listen",
                                      "127.0.0.1:0"])
    other.port = int(other.log.wait_for(r"listening on [\d.]+:(\d+)")[1])
    return other


def as_configured(gateway):
    keys = ("host", "port", "weight", "max_concurrency", "engine", "model")
    return [(p["name"], *(p[k] for k in keys)) for p in admin(gateway, "GET", "phones")["phones"]]


def test_saved_and_started_again_it_is_the_same_fleet(start, phones):
    first, second = phones
    third, = start.sim(1)
    entries = [{"weight": 2, **first.entry()}, {"port": second.port, "host": "127.0.0.1", "name": second.name}]
    gateway = start.gateway(entries)
    settings = gateway.settings
    gateway.file.write_text(json.dumps({"$schema": "./s.json", "phones": entries, "gateway": settings}))
    gateway.file.chmod(0o640)
    admin(gateway, "POST", "reload")
    admin(gateway, "PATCH", path_to(first.name), {"weight": 9})
    admin(gateway, "PATCH", path_to(first.name), {"max_concurrency": 5})
    admin(gateway, "DELETE", path_to(second.name))
    admin(gateway, "POST", "phones", {**third.entry(), "weight": 4, "aliases": {"z": "m", "a": "m"}}, 201)
    admin(gateway, "PATCH", path_to(third.name), {"max_concurrency": 2})
    until(lambda: all(p["healthy"] for p in listed(gateway).values()), "all to be looked at")
    saved = admin(gateway, "POST", "save")
    assert saved == {"file": str(gateway.file), "phones": 2, "written": True}
    assert {p["source"] for p in listed(gateway).values()} == {"file"}

    text = gateway.file.read_text()
    document = json.loads(text)
    assert list(document) == ["$schema", "phones", "gateway"] and document["gateway"] == settings
    one, two = document["phones"]
    assert list(one.items()) == [("weight", 9), *first.entry().items(), ("max_concurrency", 5)], "the order stays"
    assert list(two["aliases"]) == ["z", "a"] and two["max_concurrency"] == 2
    assert stat.S_IMODE(gateway.file.stat().st_mode) == 0o640
    assert os.listdir(gateway.file.parent) == ["phones.json"], "nothing is left beside it"

    again = restarted(start, gateway)
    until(lambda: all(p["healthy"] for p in listed(again).values()), "all to be looked at")
    assert as_configured(again) == as_configured(gateway)
    assert admin(gateway, "POST", "save")["written"] is False and gateway.file.read_text() == text
    assert admin(gateway, "POST", "reload")["phones"] == 2
    assert as_configured(again) == as_configured(gateway)


def test_a_file_that_has_changed_is_not_overwritten(start, phones):
    first, second = phones
    gateway = start.gateway(phones)
    admin(gateway, "PATCH", path_to(first.name), {"weight": 9})
    gateway.write([first, second.entry(weight=3)])
    text = gateway.file.read_text()
    assert "reload" in refused(gateway, "POST", "save", None, 409)
    assert gateway.file.read_text() == text
    admin(gateway, "POST", "reload")
    assert admin(gateway, "POST", "save")["written"] is True
    assert [p["weight"] for p in listed(gateway).values()] == [9, 3]
    assert [p.get("weight") for p in json.loads(gateway.file.read_text())["phones"]] == [9, 3]
    gateway.file.unlink()
    assert "No such file" in refused(gateway, "POST", "save", None, 409)


def test_a_broken_file_is_not_overwritten(start, phones):
    gateway = start.gateway(phones)
    admin(gateway, "PATCH", path_to(phones[0].name), {"weight": 9})
    gateway.file.write_text("[")
    admin(gateway, "POST", "reload", status=422)
    refused(gateway, "POST", "save", None, 409)
    assert gateway.file.read_text() == "["


def test_a_fleet_without_phones_is_not_saved(start, phones):
    gateway = start.gateway(phones[:1])
    admin(gateway, "DELETE", path_to(phones[0].name))
    assert gateway.ask(tokens=1).status == 503
    assert "at least one phone" in refused(gateway, "POST", "save", None, 409)


def test_a_file_that_cannot_be_written(start, phones):
    gateway = start.gateway(phones)
    admin(gateway, "PATCH", path_to(phones[0].name), {"weight": 9})
    text = gateway.file.read_text()
    beside = gateway.file.with_name("phones.json.new")
    beside.mkdir()  # where the new one would be written
    assert "Is a directory" in refused(gateway, "POST", "save", None, 503)
    assert gateway.file.read_text() == text
    beside.rmdir()
    assert admin(gateway, "POST", "save")["written"] is True


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_a_file_keeps_its_owner(start, phones):
    gateway = start.gateway(phones)
    os.chown(gateway.file, 12345, 23456)
    admin(gateway, "PATCH", path_to(phones[0].name), {"weight": 9})
    assert admin(gateway, "POST", "save")["written"] is True
    assert (gateway.file.stat().st_uid, gateway.file.stat().st_gid) == (12345, 23456)


def test_a_symbolic_link_stays_one(start, phones):
    gateway = start.gateway(phones)
    real = gateway.file.with_name("real.json")
    gateway.file.rename(real)
    gateway.file.symlink_to("real.json")
    admin(gateway, "PATCH", path_to(phones[0].name), {"weight": 9})
    admin(gateway, "POST", "save")
    assert gateway.file.is_symlink() and json.loads(real.read_text())["phones"][0]["weight"] == 9


def test_the_demo_has_no_file(start):
    demo = start.process("demo", [program(), "demo", "--listen", "127.0.0.1:0", "--phones", "1"])
    demo.port = int(demo.log.wait_for(r"listening on [\d.]+:(\d+)")[1])
    key = demo.log.wait_for(r"admin key: (\S+)")[1]
    for what in ("save", "reload"):
        reply = ask(demo, "POST", what, key=key)
        assert reply.status == 409 and "without a phones.json" in reply.error()
    assert ask(demo, "POST", path_to("sim-1", "/drain"), key=key).json()["drained"] is True


# ---- many at once


def test_changes_at_once(start, under_load):
    """Whatever comes together: no request is lost, and each change is made once."""
    phones = start.sim(4, decode_rate=200, answer_tokens=5)
    gateway = start.gateway([p.entry(max_concurrency=4) for p in phones], {"workers": 3})
    loads = under_load(gateway)
    fixed, others = phones[0], phones[1:]

    def steer(phone, round_):
        path = path_to(phone.name)
        answers = [ask(gateway, *what).status for what in [
            ("POST", path + "/drain"),
            ("PATCH", path, {"weight": 1 + round_ % 9}),
            ("POST", path + "/breaker", {"state": "open" if round_ % 2 else "closed"}),
            ("DELETE", path),
            ("POST", "phones", phone.entry(max_concurrency=4)),
            ("POST", "save"),
            ("POST", path + "/breaker", {"state": "closed"}),
            ("POST", path + "/undrain"),
            ("POST", "reload"),
        ]]
        return answers

    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        for round_ in range(6):
            for answers in pool.map(steer, others, [round_] * 3):
                assert answers == [200, 200, 200, 200, 201, 200, 200, 200, 200], answers
        entry = {"host": "10.1.1.1", "name": "once"}
        codes = list(pool.map(lambda _: ask(gateway, "POST", "phones", entry).status, range(6)))
        assert sorted(codes) == [201] + [409] * 5
        codes = list(pool.map(lambda _: ask(gateway, "DELETE", "phones/once").status, range(6)))
        assert sorted(codes) == [200] + [404] * 5
    some_more(loads)
    for load in loads:
        load.end()
    shown = listed(gateway)
    assert set(shown) == {p.name for p in phones} and all(p["healthy"] for p in shown.values())
    assert [p["name"] for p in json.loads(gateway.file.read_text())["phones"]].count(fixed.name) == 1


def test_a_client_that_leaves_has_its_change_made(start, phones):
    from client import Connection
    gateway = start.gateway(phones)
    leaving = Connection(gateway.port)
    leaving.send(f"POST /admin/{path_to(phones[0].name, '/drain')} HTTP/1.1\r\nHost: localhost\r\n"
                 f"Authorization: Bearer {KEY}\r\nContent-Length: 0\r\n\r\n")
    leaving.reset()
    until(lambda: listed(gateway)[phones[0].name]["drained"], "the change to be made")
