"""A group as one phone of the fleet: watched by its supervisor's word, rescued, stood in for."""
import signal

import pytest

from client import counted, request
from engines import LlamaServer
from groups import Group
from harness import until


@pytest.fixture
def group(start, llama_programs, slow_model):
    made = start.own(Group(start.folder / "group", llama_programs, slow_model, frozen_limit_s=60))
    made.ready()
    return made


def entry(group, **more):
    return {"name": "big", "host": "127.0.0.1", "port": group.port, "model": "big", "group": {
        "members": [{k: w[k] for k in ("name", "host", "port")} for w in group.config["workers"]],
        "status": f"http://127.0.0.1:{group.status_port}", **more}}


def state(gateway):
    return next(p for p in gateway.health() if p["name"] == "big")


def metric(gateway, now):
    text = request(gateway.port, "GET", "/metrics").text()
    return f'pocketfleet_group_state{{phone="big",state="{now}"}} 1' in text


def test_a_group_that_cannot_is_named_and_stood_in_for(start, llama_programs, counting_model, group):
    small = start.own(LlamaServer(llama_programs, counting_model, alias="small"))
    gateway = start.gateway([entry(group, stand_in="small"), small], {"probe_interval_s": 0.3})
    assert state(gateway)["permits"] == 1
    assert [(m["name"], m["state"]) for m in state(gateway)["group"]["members"]] == [("a", "up"), ("b", "up")]
    assert metric(gateway, "serving")
    reply = gateway.ask(model="big", tokens=5)
    assert reply.headers["X-Phone"] == "big" and "X-Stand-In" not in reply.headers
    assert "stand_in" not in reply.notes()

    group.signal_member("b", signal.SIGSTOP)  # of which /health of llama-server says nothing
    until(lambda: not state(gateway)["healthy"], "the group to be down")
    seen = state(gateway)
    assert seen["state"] == "down" and seen["reason"] == "its group: b stands stopped"
    assert [m["state"] for m in seen["group"]["members"]] == ["up", "frozen"]
    assert metric(gateway, "healing") and not metric(gateway, "serving")

    reply = gateway.ask("the same again", model="big", tokens=5)
    assert reply.content() == counted(5)
    assert reply.headers["X-Stand-In"] == "small" == reply.notes()["stand_in"]
    assert reply.headers["X-Phone"] == small.as_phone
    stream = gateway.ask_stream(model="big", tokens=5)
    stream.finish()
    assert stream.whole and stream.last()["pocketfleet"]["stand_in"] == "small"
    chat = request(gateway.port, "POST", "/v1/chat/completions", {
        "model": "big", "max_tokens": 5, "messages": [{"role": "user", "content": "count"}]})
    assert chat.status == 200 and chat.headers["X-Stand-In"] == "small"

    group.signal_member("b", signal.SIGCONT)
    until(lambda: state(gateway)["healthy"], "the group to be back")
    reply = gateway.ask("the same again", model="big", tokens=5)
    assert reply.headers["X-Phone"] == "big" and "X-Stand-In" not in reply.headers
    assert reply.headers["X-Cache"] == "miss", "what the stand-in said is not the group's answer"


@pytest.mark.parametrize("what", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
def test_a_stream_survives_its_group(start, llama_programs, slow_model, group, what):
    """Another phone has the very same model: it goes on where the group was."""
    other = start.own(LlamaServer(llama_programs, slow_model, alias="big"))
    gateway = start.gateway([{**entry(group), "weight": 1000}, {**other.entry(), "max_concurrency": 1}], {
        "probe_interval_s": 0.3, "token_timeout_s": 1})
    stream = gateway.ask_stream(model="big", tokens=900).begun(lines=5)
    assert stream.headers["X-Phone"] == "big"
    group.signal_member("a", what)
    stream.finish()
    assert stream.whole and stream.text() == counted(900)
    notes = stream.last()["pocketfleet"]
    assert notes["rescues"] == 1 and notes["phone"] == other.as_phone
    if what == signal.SIGKILL:
        until(lambda: state(gateway)["healthy"], "the group to be healed and in the fleet again", bound=40)


def test_without_its_supervisor_the_master_is_believed(start, group):
    unheard = entry(group)
    unheard["group"]["status"] = f"http://127.0.0.1:{group.port + 1}"
    gateway = start.gateway([unheard])
    assert gateway.ask(model="big", tokens=3).content() == counted(3)
    assert state(gateway)["group"]["state"] == "unreachable" and metric(gateway, "unreachable")
