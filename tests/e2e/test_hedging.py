"""A second phone for a request whose first one is later than it almost ever is."""
import pytest

from client import counted
from harness import until

ON = {"hedging": True, "cache": "never", "probe_interval_s": 3600}


def hedges(gateway):
    """By which of the two it was that answered."""
    return {outcome: gateway.metric("pocketfleet_hedges_total", outcome=outcome) or 0 for outcome in ("won", "lost")}


def known(gateway, phones):
    """Each phone has answered so often that it is known how late it is at the latest."""
    for _ in range(24 * len(phones)):
        gateway.ask(tokens=2)


@pytest.mark.parametrize("engine", ["ollama", "llama-server"])
def test_an_idle_phone_answers_for_one_that_is_late(start, engine):
    phones = start.sim(4, engine, decode_rate=1000, prefill_rate=10000)
    gateway = start.gateway(phones, ON)
    known(gateway, phones)
    before = hedges(gateway)["won"]  # one in twenty is later than nineteen of twenty
    phones[0].fault("hang")  # takes the request and says nothing
    replies = [gateway.ask(tokens=5) for _ in range(4)]  # in turn: one of them meets it
    assert [r.content() for r in replies] == [counted(5)] * 4
    assert phones[0].name not in [r.headers["X-Phone"] for r in replies]
    assert hedges(gateway)["won"] > before
    late = next(r for r in replies if r.json()["pocketfleet"]["attempts"] == 2)
    assert late.json()["pocketfleet"]["rescues"] == 0
    gateway.idle()
    until(lambda: phones[0].state()["active"] == 0, "the late phone to be let go")
    assert all(p["healthy"] and p["breaker"] == "closed" for p in gateway.health()), "to be late is no failure"


def test_a_stream_is_of_one_phone_only(start):
    phones = start.sim(4, "llama-server", decode_rate=1000, prefill_rate=10000)
    gateway = start.gateway(phones, ON)
    known(gateway, phones)
    before = hedges(gateway)["won"]
    phones[0].fault("hang")
    for _ in range(4):
        stream = gateway.ask_stream(tokens=20)
        stream.finish()
        assert stream.text() == counted(20)
    assert hedges(gateway)["won"] > before
    gateway.idle()


def test_off_nobody_is_asked_twice(start):
    phones = start.sim(4, decode_rate=1000, prefill_rate=10000)
    gateway = start.gateway(phones, {**ON, "hedging": False, "first_token_timeout_s": 1})
    known(gateway, phones)
    phones[0].fault("hang")
    replies = [gateway.ask(tokens=5) for _ in range(4)]
    assert [r.content() for r in replies] == [counted(5)] * 4, "after its time is over another phone is tried, as ever"
    assert hedges(gateway) == {"won": 0, "lost": 0}


def test_with_nobody_to_spare_it_waits(start):
    phones = start.sim(2, decode_rate=1000, prefill_rate=10000)
    gateway = start.gateway(phones, {**ON, "first_token_timeout_s": 1})
    known(gateway, phones)
    phones[0].fault("hang")
    assert [gateway.ask(tokens=5).content() for _ in range(2)] == [counted(5)] * 2
    assert hedges(gateway) == {"won": 0, "lost": 0}, "the other phone is kept for who comes next"
