"""Heartbeats against the real gateway: telemetry, rest, registration, moves; and what must not get in.

Phones differ by loopback address here: 127.0.0.2 and on are as good as addresses on a LAN.
"""
import contextlib
import hashlib
import http.client
import json
import signal
import socket
import socketserver
import threading
import time

import pytest

from client import Reply, counted, fresh, request
from harness import until

TOKEN = "fleet-token-0123456789"
LOOPBACK = {"phone_networks": ["127.0.0.0/8"]}


def beat_of(phone_id, port=None, **more):
    body = {"id": phone_id, "boot_id": None, "seq": 1, "name": None, "interval_s": 60, "uptime_s": None,
            "engine": {"kind": "ollama", "version": None, "port": port, "up": True, "models": ["tiny"]},
            "tunnel_port": None, "battery": {"temperature_c": None, "level": None, "charging": None, "current_ua": None},
            "memory": {"total_kb": None, "available_kb": None}, "wifi": {"rssi_dbm": None, "link_mbps": None}}
    return {**body, **more}


def battery(temperature_c=None, level=None, charging=None):
    return {"battery": {"temperature_c": temperature_c, "level": level, "charging": charging, "current_ua": None}}


def beat(gateway, body, token=TOKEN, source="127.0.0.1"):
    """Sends one heartbeat from that address."""
    gateway.count("/fleet/heartbeat")
    line = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=20, source_address=(source, 0))
    headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
    text = body if isinstance(body, (str, bytes)) else json.dumps(body)
    with contextlib.closing(line):
        line.request("POST", "/fleet/heartbeat", text, headers)
        reply = line.getresponse()
        return Reply(reply.status, dict(reply.getheaders()), reply.read())


class Door(socketserver.ThreadingTCPServer):
    """A port on another loopback address that leads to a simulated phone; counts who came."""

    allow_reuse_address = True
    daemon_threads = True

    class Line(socketserver.BaseRequestHandler):
        def handle(self):
            self.server.came += 1
            with socket.create_connection(("127.0.0.1", self.server.to)) as far:
                def pump(a, b):
                    with contextlib.suppress(OSError):
                        while data := a.recv(65536):
                            b.sendall(data)
                        b.shutdown(socket.SHUT_WR)
                back = threading.Thread(target=pump, args=(far, self.request), daemon=True)
                back.start()
                pump(self.request, far)
                back.join()

    def __init__(self, address, to, port=0):
        self.to, self.came = to, 0
        super().__init__((address, port), self.Line)
        self.port = self.server_address[1]
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()


@pytest.fixture
def door(request):
    def make(address, phone, port=0):
        made = Door(address, phone.port, port)
        request.addfinalizer(lambda: (made.shutdown(), made.server_close()))
        return made
    return make


@pytest.fixture
def token_file(tmp_path):
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")
    file.chmod(0o600)
    return str(file)


@pytest.fixture
def fleet(start, token_file):
    """Two phones of the file with ids, and a gateway that hears them."""
    phones = start.sim(2)
    entries = [p.entry(id=f"pf-{i}") for i, p in enumerate(phones)]
    gateway = start.gateway(entries, {"fleet_token_file": token_file, **LOOPBACK})
    return gateway, phones


def answered_by(gateway, count=6):
    replies = [gateway.ask(fresh(), tokens=3) for _ in range(count)]
    assert [r.content() for r in replies] == [counted(3)] * count
    return [r.headers["X-Phone"] for r in replies]


def by_id(gateway, phone_id):
    return next((p for p in gateway.health() if p.get("id") == phone_id and not p["draining"]), None)


# ---- telemetry


def test_what_a_phone_says_is_shown(fleet):
    gateway, phones = fleet
    body = beat_of("pf-0", battery={"temperature_c": 33.2, "level": 81, "charging": True, "current_ua": -120000},
                   memory={"total_kb": 7900000, "available_kb": 2500000}, wifi={"rssi_dbm": -61, "link_mbps": 433})
    said = beat(gateway, body)
    assert said.status == 200
    assert said.json() == {"phone": phones[0].name, "state": "serving", "reason": None, "interval_s": 60}
    telemetry = by_id(gateway, "pf-0")["telemetry"]
    assert telemetry.pop("age_s") in (0, 1)
    assert telemetry == {"temperature_c": 33.2, "battery_level": 81, "charging": True, "current_ua": -120000,
                         "memory_total_kb": 7900000, "memory_available_kb": 2500000, "wifi_rssi_dbm": -61,
                         "wifi_link_mbps": 433}
    assert by_id(gateway, "pf-1")["telemetry"] is None
    shown = {name: value for (name, labels), value in gateway.metrics().items() if ("phone", phones[0].name) in labels}
    assert shown["pocketfleet_phone_temperature_celsius"] == 33.2
    assert shown["pocketfleet_phone_battery_ratio"] == 0.81
    assert shown["pocketfleet_phone_charging"] == 1


def test_unknown_is_null_and_changes_nothing(fleet):
    gateway, phones = fleet
    for phone in range(2):
        assert beat(gateway, beat_of(f"pf-{phone}")).json()["state"] == "serving"
    telemetry = by_id(gateway, "pf-0")["telemetry"]
    assert {k: v for k, v in telemetry.items() if k != "age_s"} == dict.fromkeys(set(telemetry) - {"age_s"})
    assert not [k for k in gateway.metrics() if k[0] == "pocketfleet_phone_temperature_celsius"]
    assert sorted(answered_by(gateway)) == sorted([p.name for p in phones] * 3)


def test_heartbeats_are_counted(fleet):
    gateway, _ = fleet
    beat(gateway, beat_of("pf-0"))
    beat(gateway, beat_of("nobody"))
    beat(gateway, beat_of("pf-0"), token="another-token-than-that")
    beat(gateway, "{")
    seen = {dict(labels)["outcome"]: value for (name, labels), value in gateway.metrics().items()
            if name == "pocketfleet_heartbeats_total"}
    assert seen == {"ok": 1, "stranger": 1, "unauthorized": 1, "bad_request": 1}


# ---- rest


def test_a_hot_phone_rests_until_it_is_cool(fleet):
    gateway, phones = fleet
    said = beat(gateway, beat_of("pf-0", **battery(42.5))).json()
    assert (said["state"], said["reason"]) == ("resting", "too hot: 42.5 C; rests until 38 C")
    seen = by_id(gateway, "pf-0")
    assert not seen["healthy"] and seen["state"] == "up" and seen["resting"] == seen["reason"] == said["reason"]
    assert gateway.metrics()[("pocketfleet_phone_resting", (("phone", phones[0].name),))] == 1
    assert set(answered_by(gateway)) == {phones[1].name}
    beat(gateway, beat_of("pf-0", **battery(40.1)))
    assert set(answered_by(gateway)) == {phones[1].name}, "not cool yet"
    assert beat(gateway, beat_of("pf-0", **battery(37.9))).json()["state"] == "serving"
    assert sorted(answered_by(gateway)) == sorted([p.name for p in phones] * 3)


def test_running_answers_go_on_when_it_gets_hot(start, token_file):
    phone = start.sim(1, decode_rate=50)[0]
    gateway = start.gateway([phone.entry(id="pf-0")], {"fleet_token_file": token_file})
    stream = gateway.ask_stream(tokens=40).begun(lines=3)
    assert beat(gateway, beat_of("pf-0", **battery(50))).json()["state"] == "resting"
    stream.finish()
    assert stream.text() == counted(40) and stream.whole


def test_a_fleet_that_is_too_hot_says_when_to_come_back(fleet):
    gateway, _ = fleet
    for phone in range(2):
        beat(gateway, beat_of(f"pf-{phone}", **battery(45)))
    reply = gateway.ask(fresh(), tokens=3)
    assert reply.status == 503 and reply.headers["Retry-After"] == "60"
    beat(gateway, beat_of("pf-1", **battery(36)))
    assert gateway.ask(fresh(), tokens=3).content() == counted(3)


def test_a_low_battery_is_spared_but_not_idle_when_it_is_needed(fleet):
    gateway, phones = fleet
    beat(gateway, beat_of("pf-0", **battery(level=9, charging=False)))
    assert "battery at 9 %" in by_id(gateway, "pf-0")["resting"]
    assert set(answered_by(gateway)) == {phones[1].name}
    beat(gateway, beat_of("pf-1", **battery(46)))
    assert set(answered_by(gateway)) == {phones[0].name}, "no other is left"
    beat(gateway, beat_of("pf-0", **battery(level=9, charging=True)))
    assert by_id(gateway, "pf-0")["resting"] is None


def test_missing_heartbeats_make_a_phone_suspect_never_dead(fleet):
    gateway, phones = fleet
    beat(gateway, beat_of("pf-0", interval_s=1))
    assert not by_id(gateway, "pf-0")["quiet"]
    until(lambda: by_id(gateway, "pf-0")["quiet"], "three intervals to pass", bound=10)
    assert by_id(gateway, "pf-0")["healthy"]
    assert set(answered_by(gateway)) == {phones[1].name}
    beat(gateway, beat_of("pf-1", **battery(45)))
    assert set(answered_by(gateway)) == {phones[0].name}, "it is asked when no other can be"
    beat(gateway, beat_of("pf-0", interval_s=60))
    assert not by_id(gateway, "pf-0")["quiet"]


# ---- who may say what


@pytest.mark.parametrize("token", [None, "", "another-token-than-that", TOKEN + "x", TOKEN[:-1]])
def test_the_token_is_needed(fleet, token):
    gateway, _ = fleet
    reply = beat(gateway, beat_of("pf-0", **battery(60)), token=token)
    assert reply.status == 401 and reply.headers["WWW-Authenticate"] == "Bearer"
    assert by_id(gateway, "pf-0")["telemetry"] is None


def test_a_token_of_its_own_replaces_the_fleets(start, token_file):
    phone = start.sim(1)[0]
    own = "this-phone-alone-has-it"
    gateway = start.gateway([phone.entry(id="pf-0", token_sha256=hashlib.sha256(own.encode()).hexdigest())],
                            {"fleet_token_file": token_file})
    assert beat(gateway, beat_of("pf-0", **battery(60))).status == 401
    assert beat(gateway, beat_of("pf-0", **battery(30)), token=own).json()["state"] == "serving"
    assert beat(gateway, beat_of("pf-1"), token=own).status == 401, "it is good for that phone only"


def test_without_a_token_there_are_no_heartbeats(start):
    gateway = start.gateway(start.sim(1))
    reply = beat(gateway, beat_of("pf-0"))
    assert reply.status == 403 and "fleet_token_file" in reply.error()


@pytest.mark.parametrize("change, where", [
    ({"id": ""}, "id: "), ({"id": "a b"}, "id: "), ({"id": "x" * 65}, "id: "), ({"id": 5}, "id: "),
    ({"interval_s": 0}, "interval_s: "), ({"interval_s": "soon"}, "interval_s: "),
    ({"tunnel_port": 70000}, "tunnel_port: "), ({"battery": []}, "battery: "),
    ({"battery": {"temperature_c": "33.2"}}, "battery.temperature_c: "),
    ({"battery": {"temperature_c": 1e9}}, "battery.temperature_c: "),
    ({"battery": {"level": 101}}, "battery.level: "), ({"battery": {"charging": 1}}, "battery.charging: "),
    ({"memory": {"total_kb": -1}}, "memory.total_kb: "), ({"engine": {"kind": "vllm"}}, "engine.kind: "),
    ({"engine": {"port": 0}}, "engine.port: "), ({"engine": {"up": "yes"}}, "engine.up: "),
])
def test_nonsense_is_refused_with_its_place(fleet, change, where):
    gateway, _ = fleet
    reply = beat(gateway, beat_of("pf-0", **change))
    assert reply.status == 400 and reply.error().startswith(where), reply
    assert by_id(gateway, "pf-0")["telemetry"] is None


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\xff", b'{"id":"a","id":"b"}', b"[" * 9999,
                                  b'{"id":"' + b"x" * 20000 + b'"}'])
def test_bodies_that_are_no_heartbeat(fleet, body):
    gateway, _ = fleet
    assert beat(gateway, body).status == 400


def test_what_a_newer_agent_adds_is_passed_over(fleet):
    gateway, _ = fleet
    assert beat(gateway, beat_of("pf-0", colour="red", battery={"temperature_c": 30, "cycles": 100})).status == 200


# ---- joining and moving


@pytest.fixture
def open_house(start, token_file):
    """A gateway without phones in its file that lets phones join."""
    def make(phones=(), mode="open", **settings):
        return start.gateway(list(phones), {"registration": mode, "fleet_token_file": token_file, **LOOPBACK, **settings})
    return make


def test_a_new_phone_joins_and_serves(start, open_house, door):
    phone = start.sim(1)[0]
    there = door("127.0.0.2", phone)
    gateway = open_house()
    assert gateway.ask(fresh(), tokens=3).status == 503
    said = beat(gateway, beat_of("pf-new", there.port, name="pixel 8"), source="127.0.0.2").json()
    assert said["phone"] == "pixel-8" and said["state"] == "checking"
    gateway.wait_healthy(1)
    seen = by_id(gateway, "pf-new")
    assert (seen["host"], seen["port"], seen["name"]) == ("127.0.0.2", there.port, "pixel-8")
    assert answered_by(gateway, 2) == ["pixel-8"] * 2
    gateway.log.wait_for("a phone has joined .*pixel-8")


def test_names_are_made_different(start, open_house, door):
    phones = start.sim(2)
    doors = [door(f"127.0.0.{2 + i}", p) for i, p in enumerate(phones)]
    gateway = open_house()
    for i, there in enumerate(doors):
        beat(gateway, beat_of(f"pf-{i}", there.port, name="pixel"), source=f"127.0.0.{2 + i}")
    gateway.wait_healthy(2)
    assert sorted(p["name"] for p in gateway.health()) == ["pixel", "pixel-2"]


def test_a_restart_knows_who_has_joined(start, open_house, door):
    phone = start.sim(1)[0]
    there = door("127.0.0.2", phone)
    gateway = open_house()
    beat(gateway, beat_of("pf-new", there.port, name="pixel"), source="127.0.0.2")
    gateway.wait_healthy(1)
    kept = gateway.file.with_name(gateway.file.name + ".registered")
    until(kept.exists, "it to be written")
    assert json.loads(kept.read_text()) == {"phones": [{"id": "pf-new", "name": "pixel", "host": "127.0.0.2",
                                                        "port": there.port, "engine": "ollama"}]}
    gateway.stop()
    again = start.process("gateway", [*gateway.command])
    port = int(again.log.wait_for(r"listening on 127\.0\.0\.1:(\d+)")[1])
    until(lambda: any(p["healthy"] for p in request(port, "GET", "/health").json()["phones"]), "the phone to be back")


def test_a_damaged_list_of_phones_is_told_and_set_aside(start, open_house, door):
    phones = start.sim(2)
    there = door("127.0.0.2", phones[1])
    gateway = open_house(phones[:1])
    gateway.stop()
    kept = gateway.file.with_name(gateway.file.name + ".registered")
    kept.write_text('{"phones":[{"id":"pf-1"}]}')
    again = start.process("gateway", [*gateway.command])
    again.log.wait_for(r"the registered phones cannot be read.*phones\[0\]: expected id, name, host and port.*\.damaged")
    gateway.port = int(again.log.wait_for(r"listening on 127\.0\.0\.1:(\d+)")[1])
    assert beat(gateway, beat_of("pf-2", there.port), source="127.0.0.2").status == 200
    until(kept.exists, "a new list")
    assert kept.with_name(kept.name + ".damaged").read_text() == '{"phones":[{"id":"pf-1"}]}'


def test_registration_can_be_opened_while_it_runs(start, open_house, door):
    """... and what was known from before is not lost by it."""
    phones = start.sim(2)
    doors = [door(f"127.0.0.{2 + i}", p) for i, p in enumerate(phones)]
    gateway = open_house()
    beat(gateway, beat_of("pf-0", doors[0].port), source="127.0.0.2")
    gateway.wait_healthy(1)
    gateway.settings["registration"] = "known"
    gateway.stop()
    gateway.write([{"name": "far", "host": "127.0.0.9"}])
    again = start.process("gateway", [*gateway.command])
    gateway.port = int(again.log.wait_for(r"listening on 127\.0\.0\.1:(\d+)")[1])
    assert [p["name"] for p in gateway.health()] == ["far"]
    gateway.settings["registration"] = "open"
    gateway.write([{"name": "far", "host": "127.0.0.9"}])
    again.signal(signal.SIGHUP)
    again.log.wait_for("the file was reread")
    assert "needs a restart" not in again.log.text()
    until(lambda: by_id(gateway, "pf-0"), "the phone from before")
    beat(gateway, beat_of("pf-1", doors[1].port), source="127.0.0.3")
    kept = gateway.file.with_name(gateway.file.name + ".registered")
    until(lambda: len(json.loads(kept.read_text())["phones"]) == 2, "both to be kept")


@pytest.mark.parametrize("mode", ["known", "open"])
def test_a_phone_that_moves_is_followed_and_a_stranger_gets_nothing(start, open_house, door, mode):
    phone, stranger = start.sim(2)
    old = door("127.0.0.2", phone)
    gateway = open_house([{"name": "pixel", "host": "127.0.0.2", "port": old.port, "id": "pf-1"}], mode)
    assert answered_by(gateway, 2) == ["pixel"] * 2
    # DHCP gives it another address, and its old one to somebody else's server.
    new = door("127.0.0.3", phone)
    old.to = stranger.port
    said = beat(gateway, beat_of("pf-1", new.port), source="127.0.0.3").json()
    assert said["phone"] == "pixel"
    gateway.wait_healthy(1)
    assert answered_by(gateway, 4) == ["pixel"] * 4
    assert by_id(gateway, "pf-1")["host"] == "127.0.0.3"
    assert stranger.last()["target"] == "", "no question ever came to it"
    def looks():
        return gateway.metrics()[("pocketfleet_probes_total", (("phone", "pixel"), ("result", "good")))]

    came, seen = old.came, looks()
    until(lambda: looks() >= seen + 2, "some more looks at the new address")
    assert old.came == came, "nobody looks at the old one any more"
    gateway.log.wait_for("a phone has moved .*pixel")


def test_what_has_been_learned_of_it_moves_with_it(start, open_house, door):
    phone = start.sim(1)[0]
    old, new = door("127.0.0.2", phone), door("127.0.0.3", phone)
    gateway = open_house([{"name": "pixel", "host": "127.0.0.2", "port": old.port, "id": "pf-1"}], "known")
    beat(gateway, beat_of("pf-1", old.port, **battery(44)), source="127.0.0.2")
    said = beat(gateway, beat_of("pf-1", new.port), source="127.0.0.3").json()
    assert said["state"] == "resting", "it is as hot as it was"


def test_phones_that_change_places(start, open_house, door):
    one, two = start.sim(2)
    a, b = door("127.0.0.2", one, 0), None
    b = door("127.0.0.3", two, a.port)
    gateway = open_house([{"name": "one", "host": "127.0.0.2", "port": a.port, "id": "pf-1"},
                          {"name": "two", "host": "127.0.0.3", "port": b.port, "id": "pf-2"}], "known")
    a.to, b.to = two.port, one.port
    beat(gateway, beat_of("pf-1", b.port), source="127.0.0.3")
    until(lambda: by_id(gateway, "pf-2") is None, "nobody to be where only one can be")
    beat(gateway, beat_of("pf-2", a.port), source="127.0.0.2")
    gateway.wait_healthy(2)
    assert {by_id(gateway, f"pf-{i}")["host"] for i in (1, 2)} == {"127.0.0.2", "127.0.0.3"}
    assert by_id(gateway, "pf-1")["host"] == "127.0.0.3"


def test_two_devices_with_one_id_do_not_pull_it_to_and_fro(start, open_house, door):
    phone = start.sim(1)[0]
    doors = {address: door(address, phone) for address in ("127.0.0.2", "127.0.0.3")}
    gateway = open_house([{"name": "pixel", "host": "127.0.0.1", "port": phone.port, "id": "pf-1"}], "known")
    beat(gateway, beat_of("pf-1", doors["127.0.0.2"].port), source="127.0.0.2")
    for _ in range(5):
        said = beat(gateway, beat_of("pf-1", doors["127.0.0.3"].port), source="127.0.0.3").json()
        assert "another phone with this id" in said["reason"]
        beat(gateway, beat_of("pf-1", doors["127.0.0.2"].port), source="127.0.0.2")
    assert by_id(gateway, "pf-1")["host"] == "127.0.0.2"


def test_known_follows_only_the_files_phones(start, open_house, door):
    phones = start.sim(2)
    there = door("127.0.0.2", phones[1])
    gateway = open_house([phones[0].entry(id="pf-0")], "known")
    said = beat(gateway, beat_of("pf-1", there.port), source="127.0.0.2").json()
    assert said["state"] == "unknown" and "not open" in said["reason"]
    assert len(gateway.health()) == 1


def test_off_follows_nobody(start, open_house, door):
    phone = start.sim(1)[0]
    there = door("127.0.0.2", phone)
    gateway = open_house([phone.entry(id="pf-0")], "off")
    beat(gateway, beat_of("pf-0", there.port), source="127.0.0.2")
    beat(gateway, beat_of("pf-1", there.port), source="127.0.0.2")
    assert [(p["host"], p["port"]) for p in gateway.health()] == [("127.0.0.1", phone.port)]


@pytest.mark.parametrize("change, source, says", [
    ({}, "127.0.0.2", "is in none of the phone_networks"),
    ({"tunnel_port": 22}, "127.0.0.2", "tunnel_port: expected one of the gateway's tunnel_ports, 20000 to 20999"),
])
def test_only_configured_networks(start, open_house, change, source, says):
    gateway = open_house(start.sim(1), phone_networks=["192.168.0.0/16", "127.0.0.9/32"])
    if source == "127.0.0.2" and not change:  # loopback outside the networks is USB, not an address
        said = beat(gateway, beat_of("pf-1", 11434), source=source)
        assert said.json()["state"] == "unknown" and "cannot see where" in said.json()["reason"]
        return
    said = beat(gateway, beat_of("pf-1", 11434, **change), source=source)
    assert said.status == 403 and says in said.error()
    assert len(gateway.health()) == 1


def test_low_ports_and_the_files_addresses_are_not_taken(start, open_house):
    phone = start.sim(1)[0]
    gateway = open_house([phone])
    low = beat(gateway, beat_of("pf-1", 80), source="127.0.0.2")
    assert low.status == 403 and "1024 or more" in low.error()
    taken = beat(gateway, beat_of("pf-1", phone.port), source="127.0.0.1")
    assert taken.status == 403 and "has that address" in taken.error()


def test_a_tunnel_is_an_address(start, open_house):
    phone = start.sim(1)[0]
    gateway = open_house(tunnel_ports=f"{phone.port}-{phone.port}")
    said = beat(gateway, beat_of("pf-1", 11434, tunnel_port=phone.port), source="127.0.0.2").json()
    assert said["phone"] == "pf-1"
    gateway.wait_healthy(1)
    assert by_id(gateway, "pf-1")["host"] == "127.0.0.1" and answered_by(gateway, 1) == ["pf-1"]


def test_a_reload_keeps_who_has_joined(start, open_house, door):
    phones = start.sim(2)
    there = door("127.0.0.2", phones[1])
    gateway = open_house([phones[0]])
    beat(gateway, beat_of("pf-1", there.port), source="127.0.0.2")
    gateway.wait_healthy(2)
    gateway.reload([phones[0]], healthy=2)
    assert len(gateway.health()) == 2


def test_many_heartbeats_do_no_harm(fleet):
    """2,000 in a row over kept connections, good, forged and broken ones, while requests run."""
    gateway, phones = fleet
    stop = threading.Event()
    replies = []

    def ask():
        while not stop.is_set():
            replies.append(gateway.ask(fresh(), tokens=3).content())

    asking = threading.Thread(target=ask)
    asking.start()
    bodies = [json.dumps(beat_of("pf-0", **battery(33.3))), json.dumps(beat_of("pf-x")), "{", json.dumps(beat_of("pf-1"))]
    began = time.monotonic()

    def send():
        line = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=20)
        with contextlib.closing(line):
            for i in range(500):
                line.request("POST", "/fleet/heartbeat", bodies[i % 4], {"Authorization": f"Bearer {TOKEN}"})
                reply = line.getresponse()
                reply.read()
                assert reply.status == (400 if i % 4 == 2 else 200)

    senders = [threading.Thread(target=send) for _ in range(4)]
    for s in senders:
        s.start()
    for s in senders:
        s.join()
    print(f"{2000 / (time.monotonic() - began):.0f} heartbeats/s")
    stop.set()
    asking.join()
    assert set(replies) == {counted(3)}
    seen = {dict(labels)["outcome"]: value for (name, labels), value in gateway.metrics().items()
            if name == "pocketfleet_heartbeats_total"}
    assert seen == {"ok": 1000, "stranger": 500, "bad_request": 500}
