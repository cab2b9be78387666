"""Members of a group in the running gateway: never a phone beside it; what their agents say decides for the group."""
import hashlib

import pytest

from admin_side import NETWORKS, admin, listed, path_to, refused, with_operator
from harness import until
from test_events import Watcher
from test_heartbeat import TOKEN, battery, beat, beat_of, token_file  # noqa: F401

MEMBER = {"name": "galaxy", "host": "10.9.9.2", "port": 50052}


@pytest.fixture
def start(start):
    return with_operator(start)


@pytest.fixture
def master(start):
    """In the place of a group's llama-server."""
    return start.sim(1, engine="llama-server")[0]


def group(master, *members, **more):
    return master.entry(name="big", group={"members": list(members) or [MEMBER]}, **more)


# ---- in a group or alone


def test_a_member_is_not_added_as_a_phone(start, master):
    gateway = start.gateway([group(master)])
    said = refused(gateway, "POST", "phones", {"host": "10.9.9.2", "port": 50052, "name": "x"}, 409)
    assert said == "the address 10.9.9.2:50052 is galaxy's, a member of the group big"
    other = {"host": "10.9.9.3", "name": "other", "group": {"members": [MEMBER]}}
    assert "galaxy's, a member of the group big" in refused(gateway, "POST", "phones", other, 409)
    assert set(listed(gateway)) == {"big"}


def test_a_phone_is_not_taken_into_a_group(start, master):
    phone, = start.sim(1)
    gateway = start.gateway([phone])
    its = {"name": "galaxy", "host": "127.0.0.1", "port": phone.port}
    assert refused(gateway, "POST", "phones", group(master, its), 409) == \
        f"the address 127.0.0.1:{phone.port} of its member galaxy is {phone.name}'s"
    itself = {"host": "127.0.0.1", "port": master.port}
    assert "the group's master has it" in refused(gateway, "POST", "phones", group(master, itself), 400)
    admin(gateway, "DELETE", path_to(phone.name))
    assert admin(gateway, "POST", "phones", group(master, its), 201)["name"] == "big"
    assert "member of the group big" in refused(gateway, "POST", "phones", phone.entry(), 409)
    admin(gateway, "POST", "save")
    assert [p["name"] for p in admin(gateway, "GET", "phones")["phones"]] == ["big"]


def test_a_file_that_has_both_is_not_taken_and_its_members_are_no_added_phones(start, master):
    gateway = start.gateway([group(master)])
    admin(gateway, "POST", "phones", {"host": "10.9.9.3", "port": 50052, "name": "added"}, 201)
    more = {"name": "pixel", "host": "10.9.9.3", "port": 50052}
    gateway.write([group(master, MEMBER, more), {"host": "10.9.9.2", "port": 50052}])
    answer = admin(gateway, "POST", "reload", status=422)
    assert "phones[0].group.members[0]" in answer["error"] and "phones[1] has it" in answer["error"]
    assert set(listed(gateway)) == {"big", "added"}, "the old fleet goes on"
    gateway.write([group(master, MEMBER, more)])
    admin(gateway, "POST", "reload")
    assert set(listed(gateway)) == {"big"}, "the file is right"


def test_a_members_address_is_not_registered(start, master, token_file):  # noqa: F811
    phone, = start.sim(1)
    its = {"name": "galaxy", "host": "127.0.0.5", "port": phone.port}
    gateway = start.gateway([group(master, its)], {
        "registration": "open", "fleet_token_file": token_file, "phone_networks": [*NETWORKS, "127.0.0.0/8"]})
    reply = beat(gateway, beat_of("pf-a", phone.port), source="127.0.0.5")
    assert reply.status == 403
    assert reply.error() == f"the address 127.0.0.5:{phone.port} is galaxy's, a member of the group big"
    assert beat(gateway, beat_of("pf-b", phone.port), source="127.0.0.6").status == 200
    until(lambda: len(listed(gateway)) == 2, "the other one to have joined")
    gateway.write([group(master, its, {"name": "pixel", "host": "127.0.0.6", "port": phone.port})])
    admin(gateway, "POST", "reload")
    assert set(listed(gateway)) == {"big"}, "who has joined is a member now"


# ---- what they say of themselves


OWN_TOKEN = "the-token-of-pixel-alone"


@pytest.fixture
def heard(start, master, token_file):  # noqa: F811
    """A group of two members with ids, and another phone with the same model."""
    other, = start.sim(1, engine="llama-server")
    members = [{**MEMBER, "id": "pf-a"},
               {"name": "pixel", "host": "10.9.9.3", "id": "pf-b", "token_sha256": hashlib.sha256(OWN_TOKEN.encode()).hexdigest()}]
    return start.gateway([group(master, *members, id="pf-master"), other.entry(name="other")], {
        "registration": "open", "fleet_token_file": token_file, "phone_networks": [*NETWORKS, "127.0.0.0/8"]})


def members_of(gateway):
    return {m["name"]: m for m in gateway.phone("big")["group"]["members"]}


def test_each_members_readings_are_shown(heard):
    said = beat(heard, beat_of("pf-a", 11434, **battery(33.5, 70, True)), source="127.0.0.9")
    assert said.json() == {"phone": "big", "state": "serving", "reason": None, "interval_s": 60}
    assert beat(heard, beat_of("pf-b", **battery(30, 90))).status == 401, "it has a token of its own"
    assert beat(heard, beat_of("pf-b", **battery(30, 90)), token=OWN_TOKEN).status == 200
    assert {p["name"] for p in heard.health()} == {"big", "other"}, "heard, and no phone by itself"
    seen = members_of(heard)
    assert seen["galaxy"]["id"] == "pf-a" and seen["galaxy"]["telemetry"]["temperature_c"] == 33.5
    assert seen["pixel"]["telemetry"]["battery_level"] == 90
    assert heard.phone("big")["telemetry"] is None, "the master has said nothing"
    by = {"phone": "big", "member": "galaxy"}
    assert heard.metric("pocketfleet_group_member_temperature_celsius", **by) == 33.5
    assert heard.metric("pocketfleet_group_member_battery_ratio", **by) == 0.7
    assert heard.metric("pocketfleet_group_member_charging", **by) == 1
    assert heard.metric("pocketfleet_group_member_heartbeat_age_seconds", **by) < 60
    assert not [labels for name, labels in heard.metrics() if name == "pocketfleet_group_member_charging"
                and ("member", "pixel") in labels], "unknown is no 0"


def test_who_watches_sees_the_worst_of_all_and_each(heard):
    beat(heard, beat_of("pf-master", **battery(31, 80, False)))
    beat(heard, beat_of("pf-a", **battery(39.5, 90, False)))
    beat(heard, beat_of("pf-b", **battery(None, 20, True)), token=OWN_TOKEN)
    with Watcher(heard.port) as watcher:
        big = next(p for p in watcher.next()[1]["phones"] if p["name"] == "big")
    assert (big["temperature"], big["battery"], big["charging"]) == (39.5, 20, True)
    assert big["members"] == [
        {"name": "galaxy", "state": None, "temperature": 39.5, "battery": 90, "charging": False},
        {"name": "pixel", "state": None, "temperature": None, "battery": 20, "charging": True}]


def answered_by(gateway, count=4):
    return {gateway.ask(tokens=3).headers["X-Phone"] for _ in range(count)}


def test_the_hottest_member_decides_for_the_group(heard):
    assert answered_by(heard) == {"big", "other"}, "nobody has said anything"
    beat(heard, beat_of("pf-b"), token=OWN_TOKEN)
    assert answered_by(heard) == {"big", "other"}, "what is not known changes nothing"
    said = beat(heard, beat_of("pf-a", **battery(43.5)))
    assert said.json()["state"] == "resting"
    assert heard.phone("big")["reason"] == "galaxy: too hot: 43.5 C; rests until 38 C"
    assert not heard.phone("big")["healthy"] and answered_by(heard) == {"other"}
    beat(heard, beat_of("pf-b", **battery(30)), token=OWN_TOKEN)
    assert not heard.phone("big")["healthy"], "the other one's coolness is no help"
    beat(heard, beat_of("pf-a", **battery(37)))
    assert heard.phone("big")["healthy"] and answered_by(heard) == {"big", "other"}


def test_the_emptiest_member_spares_the_group(heard):
    beat(heard, beat_of("pf-a", **battery(30, 90)))
    beat(heard, beat_of("pf-b", **battery(30, 9, False)), token=OWN_TOKEN)
    assert heard.phone("big")["resting"] == "pixel: battery at 9 % and not charging: spared"
    assert heard.phone("big")["healthy"] and answered_by(heard) == {"other"}
    beat(heard, beat_of("pf-b", **battery(30, 9, True)), token=OWN_TOKEN)
    assert answered_by(heard) == {"big", "other"}


def test_ids_are_taken_once(heard):
    said = refused(heard, "POST", "phones", {"host": "10.9.9.9", "id": "pf-a"}, 409)
    assert said == "the id pf-a is galaxy's, a member of the group big"
