"""Every way in which a simulated phone can fail: what the client sees of it, and what the fleet learns from it."""
import time

import pytest

from client import counted, request
from harness import reachable, until

ENGINES = ["ollama", "llama-server"]

# What the gateway calls it when a phone fails so, in logs and metrics.
OUTCOME = {
    "refuse": "connect_failed", "crash": "connect_failed", "hang": "first_token_timeout", "error_500": "phone_error",
    "busy_503": "phone_busy", "html": "bad_response", "reset_after": "connection_lost",
    "close_after": "connection_lost", "truncated": "connection_lost", "error_in_stream": "phone_error",
    "garbage": "bad_response",
}
BEFORE = ["refuse", "crash", "hang", "error_500", "busy_503", "loading_503", "html", "reset_after", "close_after",
          "truncated", "silent_after", "error_in_stream", "garbage", "huge_line"]
WITHIN = ["reset_after", "close_after", "truncated", "silent_after", "error_in_stream", "garbage", "huge_line"]
TIMES = {"first_token_timeout_s": 1, "loading_timeout_s": 1, "token_timeout_s": 1}
PATIENT = {"breaker_failures": 1000, "breaker_connect_failures": 1000, "probe_fall": 100}


class Pair:
    """Two phones, and a gateway that is patient with them, so that no test's faults reach into the next."""

    def __init__(self, start, engine):
        self.phones = start.sim(2, engine, decode_rate=200, answer_tokens=10, model="tiny")
        self.gateway = start.gateway(self.phones, {**TIMES, **PATIENT, "cache": "never", "log_format": "json"})

    def fault(self, phones, kind, **how):
        if kind in ("refuse", "crash"):
            how["duration_ms"] = 500  # nobody can reach such a phone to clear it
        for phone in phones:
            phone.fault(kind, **how)
        if kind in ("refuse", "crash"):
            until(lambda: not any(map(reachable, phones)), "the phones to be gone")

    def mend(self):
        for phone in self.phones:
            until(lambda: reachable(phone), "the phone to be reached again")
            phone.clear()
        self.gateway.unsuspected()


@pytest.fixture(scope="module", params=ENGINES)
def shared_pair(start_once, request):
    return Pair(start_once, request.param)


@pytest.fixture
def pair(shared_pair):
    yield shared_pair
    shared_pair.mend()


# ---- before the first content


@pytest.mark.parametrize("route", ["whole", "stream"])
@pytest.mark.parametrize("kind", BEFORE)
def test_before_the_first_content_another_phone_answers(pair, kind, route):
    broken, good = pair.phones
    pair.fault([broken], kind)
    replies = []
    for _ in range(2):  # in turn, so one of them is given to the broken phone first
        if route == "whole":
            reply = pair.gateway.ask()
            replies.append((reply.content(), reply.headers, reply.notes()))
        else:
            stream = pair.gateway.ask_stream().finish()
            assert stream.whole and stream.error() is None
            replies.append((stream.text(), stream.headers, stream.last()["pocketfleet"]))
    assert [text for text, _, _ in replies] == [counted(10)] * 2
    assert [notes["phone"] for _, _, notes in replies] == [headers["X-Phone"] for _, headers, _ in replies] \
        == [good.name] * 2
    assert sorted(notes["attempts"] for _, _, notes in replies) == [1, 2]


@pytest.mark.parametrize("route", ["/ask", "/ask_stream"])
@pytest.mark.parametrize("kind", BEFORE)
def test_where_no_phone_can_the_client_is_told(pair, kind, route):
    pair.fault(pair.phones, kind)
    body = {"prompt": "canary-of-the-prompt"}
    reply = request(pair.gateway.port, "POST", route, body, {"X-Request-Id": f"{kind}.{route[1:]}"})
    assert reply.status in (502, 503, 504), reply
    assert reply.error()
    assert "canary" not in reply.text()
    record = pair.gateway.record(f"{kind}.{route[1:]}")
    assert record["status"] == reply.status and record["attempts"] == 2
    if kind in OUTCOME:
        assert record["outcome"] == OUTCOME[kind]
    if kind == "hang":
        assert reply.status == 504


def test_an_end_without_done_is_not_repeated(pair):
    """Ollama ends so when a model repeats itself; another phone would only do the same."""
    pair.fault(pair.phones, "end_without_done", after_tokens=3)
    before = [p.state()["requests"] for p in pair.phones]
    reply = pair.gateway.ask()
    assert reply.status == 502 and reply.error()
    assert sum(p.state()["requests"] for p in pair.phones) == sum(before) + 1


def test_an_empty_answer_is_repeated(pair):
    """Nothing at all is not an engine's answer: another phone may have one."""
    pair.fault([pair.phones[0]], "end_without_done", times=1)
    pair.fault([pair.phones[1]], "end_without_done", times=1)
    before = sum(p.state()["requests"] for p in pair.phones)
    reply = pair.gateway.ask()
    assert reply.status == 502 and reply.error()
    assert sum(p.state()["requests"] for p in pair.phones) == before + 2


def test_a_mistake_of_the_client_is_not_repeated(pair):
    """More than the context holds: llama-server refuses, and the next would too."""
    if pair.phones[0].engine != "llama-server":
        pytest.skip("Ollama cuts a long conversation instead")
    before = sum(p.state()["requests"] for p in pair.phones)
    reply = pair.gateway.ask("word " * 20000)
    assert reply.status == 400, reply
    assert "context" in reply.error()
    assert sum(p.state()["requests"] for p in pair.phones) <= before + 1


def test_slow_is_no_fault(pair):
    pair.fault(pair.phones, "slow", factor=0.1)
    reply = pair.gateway.ask(tokens=10)  # 0.5 s
    assert reply.content() == counted(10) and reply.notes()["attempts"] == 1


# ---- within


@pytest.mark.parametrize("kind", WITHIN)
def test_within_a_stream_another_phone_goes_on(pair, kind):
    pair.fault([pair.phones[0]], kind, after_tokens=5)
    for _ in range(2):  # in turn, so one of them begins on the broken phone
        stream = pair.gateway.ask_stream(tokens=30).finish()
        assert stream.whole and stream.error() is None
        assert stream.text() == counted(30), "nothing lost, nothing twice"
        assert stream.last()["eval_count"] == 30 and stream.last()["done_reason"] == "length"
    assert pair.gateway.metric("pocketfleet_rescues_total", outcome="ok") >= 1


@pytest.mark.parametrize("kind", [*WITHIN, "end_without_done"])
def test_within_a_stream_it_is_said_and_cut(pair, kind):
    """Two signs, so that nobody takes half an answer for a whole one: an error line, and a body without its end."""
    pair.fault(pair.phones, kind, after_tokens=5, times=1)
    stream = pair.gateway.ask_stream(tokens=30, rescue=False)
    stream.finish()
    *pieces, last = stream.lines
    assert set(last) == {"error"} and isinstance(last["error"], str) and last["error"]
    assert stream.whole is False
    assert stream.text() == counted(len(pieces)), "what came is what was made"
    # A reset may overtake what was sent before it.
    assert 1 <= len(pieces) <= 5 if kind in ("reset_after", "huge_line") else len(pieces) == 5
    assert not any(p["done"] for p in pieces)
    record = pair.gateway.record(stream.headers["X-Request-Id"])
    assert record["status"] == 200 and record["outcome"] != "ok" and record["attempts"] == 1
    if kind in OUTCOME:
        assert record["outcome"] == OUTCOME[kind]
    elif kind == "silent_after":
        assert record["outcome"] == "stalled"
    elif kind == "end_without_done":
        assert record["outcome"] == "truncated"


@pytest.mark.parametrize("kind", WITHIN)
def test_within_a_whole_answer_another_phone_answers(pair, kind):
    """The client of /ask has not seen anything yet."""
    broken, good = pair.phones
    pair.fault([broken], kind, after_tokens=5)
    replies = [pair.gateway.ask() for _ in range(2)]
    assert [r.content() for r in replies] == [counted(10)] * 2
    assert {r.headers["X-Phone"] for r in replies} == {good.name}
    assert sorted(r.notes()["attempts"] for r in replies) == [1, 2]


def test_attempts_are_bounded(start):
    phones = start.sim(5)
    gateway = start.gateway(phones, {"attempts": 3})
    for phone in phones:
        phone.fault("html")
    assert gateway.ask().status == 502
    assert sum(p.state()["requests"] for p in phones) == 3


def test_what_makes_two_phones_fail_is_not_given_to_a_third(start):
    phones = start.sim(4)
    gateway = start.gateway(phones)
    for phone in phones:
        phone.fault("error_500")
    assert gateway.ask().status == 502
    assert sum(p.state()["requests"] for p in phones) == 2


def test_no_phone_is_asked_twice_for_one_request(start):
    phones = start.sim(2)
    gateway = start.gateway(phones, {"attempts": 5})
    for phone in phones:
        phone.fault("error_500")
    assert gateway.ask().status == 502
    assert [p.state()["requests"] for p in phones] == [1, 1]


# ---- times


def test_connect_timeout(start):
    """An address that answers nothing, as a phone does whose Wi-Fi is gone: 192.0.2.1 is for documentation."""
    phone = start.sim(1)[0]
    gateway = start.gateway([phone, {"name": "gone", "host": "192.0.2.1", "engine": "ollama"}],
                            {"connect_timeout_s": 0.3, "probe_interval_s": 0.2}, healthy=1)
    seen = until(lambda: gateway.phone("gone") if gateway.phone("gone")["state"] == "down" else None,
                 "the prober to give it up")
    assert seen["healthy"] is False and seen["reason"]
    assert gateway.ask(tokens=2).headers["X-Phone"] == phone.name


def test_first_token_and_request_timeout(start):
    phone = start.sim(1, "llama-server", decode_rate=10)[0]
    gateway = start.gateway([phone], {"first_token_timeout_s": 0.5, "token_timeout_s": 10, "request_timeout_s": 1.5})
    phone.fault("hang", times=1)
    began = time.monotonic()
    assert gateway.ask().status == 504
    assert 0.4 < time.monotonic() - began < 1.4
    began = time.monotonic()
    stream = gateway.ask_stream(tokens=100).finish()  # 10 s, if it were let
    assert stream.error() and not stream.whole
    assert stream.text() == counted(len(stream.lines) - 1)
    assert 1.2 < time.monotonic() - began < 4
    until(lambda: phone.state()["active"] == 0, "the phone to be told", bound=2)
