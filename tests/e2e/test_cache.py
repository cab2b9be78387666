"""The cache of answers, and answers that are being made for somebody who asked the same before."""
import concurrent.futures
import json

import pytest

from client import counted, fresh, request
from harness import until


@pytest.fixture(scope="module")
def phones(start_once):
    """One phone: 200 tokens a second, so that there is a middle of an answer."""
    return start_once.sim(1, decode_rate=200, answer_tokens=20, model="tiny")


@pytest.fixture(scope="module")
def gateway(start_once, phones):
    return start_once.gateway([p.entry(max_concurrency=8) for p in phones])


def asked(phones):
    return sum(p.state()["requests"] for p in phones)


def is_hit(reply):
    return reply.headers["X-Cache"].lower() == "hit"


# ---- what is kept


def test_repeat_is_a_hit(gateway, phones):
    prompt = fresh()
    first = gateway.ask(prompt)
    before = asked(phones)
    again = [gateway.ask(prompt) for _ in range(3)]
    assert [r.content() for r in again] == [first.content()] * 3 == [counted(20)] * 3
    assert [is_hit(r) for r in (first, *again)] == [False, True, True, True]
    assert [r.notes()["cached"] for r in (first, *again)] == [False, True, True, True]
    assert again[0].json()["eval_count"] == first.json()["eval_count"] == 20
    assert asked(phones) == before


def test_hit_is_at_once(gateway, phones):
    """500 tokens take 2.5 s on the phone."""
    prompt = fresh()
    first = gateway.ask(prompt, tokens=500)
    again = gateway.ask(prompt, tokens=500)
    assert again.content() == first.content() == counted(500)
    assert first.json()["total_duration"] > 2e9
    assert again.json()["total_duration"] < 0.2e9


def test_a_text_that_is_known_means_what_its_route_says(gateway):
    """A text that was a hit before is not read again: nothing of what reading decides may change by that."""
    prompt = fresh()
    text = json.dumps({"prompt": prompt, "stream": True})

    def post(path, body):
        return request(gateway.port, "POST", path, body)

    for n in range(4):
        reply = post("/ask_stream", text)
        assert reply.status == 200 and is_hit(reply) == (n > 0)
        assert [json.loads(line)["done"] for line in reply.body.splitlines()][-1]
        assert post("/ask", text).status == 400  # which never streams
    assert is_hit(post("/ask_stream", text.replace(": ", " :  ")))
    assert is_hit(post("/ask", json.dumps({"prompt": prompt})))
    for _ in range(3):
        assert not is_hit(post("/ask", json.dumps({"prompt": prompt, "cache": False})))


@pytest.mark.parametrize("first, second", [("whole", "stream"), ("stream", "whole"), ("stream", "stream")])
def test_hits_across_routes(gateway, phones, first, second):
    prompt = fresh()

    def get(route):
        if route == "whole":
            reply = gateway.ask(prompt, tokens=9)
            return reply.content(), reply.headers, reply.notes()
        stream = gateway.ask_stream(prompt, tokens=9).finish()
        assert stream.whole and stream.last()["done"] is True
        assert [p["message"]["content"] for p in stream.lines[:-1]] == [f" {i}" for i in range(1, 10)], \
            "replayed in the pieces it came in"
        return stream.text(), stream.headers, stream.last()["pocketfleet"]

    text, headers, notes = get(first)
    assert (text, headers["X-Cache"].lower(), notes["cached"]) == (counted(9), "miss", False)
    before = asked(phones)
    text, headers, notes = get(second)
    assert (text, headers["X-Cache"].lower(), notes["cached"]) == (counted(9), "hit", True)
    assert asked(phones) == before


def test_same_question_written_otherwise(gateway):
    """What decides is what is asked, not how it is spelled."""
    prompt = fresh()
    gateway.ask(prompt, system="be brief", options={"num_predict": 3, "temperature": 0.5})
    for body in ({"system": "be brief", "options": {"temperature": 0.5, "num_predict": 3}, "prompt": prompt},
                 {"options": {"num_predict": 3, "temperature": 0.50},
                  "messages": [{"role": "system", "content": "be brief"}, {"content": prompt, "role": "user"}]},
                 {"prompt": prompt, "system": "be brief", "cache": True, "stream": False, "think": None, "images": None,
                  "options": {"num_predict": 3, "temperature": 0.5, "seed": None}}):
        assert is_hit(gateway.ask(**body)), body


@pytest.mark.parametrize("other", [
    {"system": "be long"}, {"options": {"num_predict": 4}}, {"options": {"num_predict": 3, "seed": 1}},
    {"options": {"num_predict": 3, "stop": ["x"]}}, {"format": "json"}, {"think": False}, {"model": "tiny"},
    {"prompt": "something else"}])
def test_another_question_is_a_miss(gateway, other):
    same = {"prompt": fresh(), "system": "be brief", "options": {"num_predict": 3}}
    gateway.ask(**same)
    assert is_hit(gateway.ask(**same))
    assert not is_hit(gateway.ask(**{**same, **other}))


def test_order_of_messages_matters(gateway):
    a, b = {"role": "user", "content": fresh()}, {"role": "assistant", "content": fresh()}
    gateway.ask(messages=[a, b, a])
    assert not is_hit(gateway.ask(messages=[b, a, a]))
    assert is_hit(gateway.ask(messages=[a, b, a]))


def test_cache_false_goes_past_it(gateway, phones):
    prompt = fresh()
    gateway.ask(prompt)
    before = asked(phones)
    past = gateway.ask(prompt, cache=False)
    assert not is_hit(past) and past.notes()["cached"] is False
    assert asked(phones) == before + 1
    assert is_hit(gateway.ask(prompt)), "what was kept is still there"


# ---- modes


def test_deterministic(start, phones):
    gateway = start.gateway(phones, {"cache": "deterministic"})
    for options, kept in (({}, False), ({"temperature": 0.1}, False), ({"temperature": 0}, True), ({"seed": 7}, True)):
        prompt = fresh()
        hits = [is_hit(gateway.ask(prompt, options={"num_predict": 2, **options})) for _ in range(2)]
        assert hits == [False, kept], options


def test_never(start, phones):
    gateway = start.gateway(phones, {"cache": "never"})
    prompt = fresh()
    before = asked(phones)
    assert not any(is_hit(gateway.ask(prompt, options={"temperature": 0, "num_predict": 2})) for _ in range(3))
    assert asked(phones) == before + 3


# ---- what is not kept


def test_errors_are_not_kept(gateway, phones):
    prompt = fresh()
    phones[0].fault("error_500", times=1)
    assert gateway.ask(prompt).status >= 500
    reply = gateway.ask(prompt)
    assert reply.content() == counted(20) and not is_hit(reply)


@pytest.mark.parametrize("kind", ["reset_after", "end_without_done", "error_in_stream"])
def test_cut_answers_are_not_kept(gateway, phones, kind):
    prompt = fresh()
    phones[0].fault(kind, after_tokens=5)  # also where it is to go on
    stream = gateway.ask_stream(prompt).finish()
    assert stream.error() and not stream.whole
    phones[0].clear()
    reply = gateway.ask(prompt)
    assert reply.content() == counted(20) and not is_hit(reply)


def test_abandoned_answers_are_not_kept(gateway, phones):
    prompt = fresh()
    cancelled = phones[0].state()["cancelled"]
    gateway.ask_stream(prompt, tokens=500).begun(lines=3).abort()
    until(lambda: phones[0].state()["cancelled"] == cancelled + 1, "the phone to be told", bound=2)
    gateway.idle()
    reply = gateway.ask(prompt, tokens=500)
    assert reply.content() == counted(500) and not is_hit(reply)


# ---- while it is being made


def test_identical_requests_are_one_generation(gateway, phones):
    prompt = fresh()
    before = asked(phones)

    def one(i):
        if i % 2:
            return gateway.ask(prompt, tokens=60).content()
        stream = gateway.ask_stream(prompt, tokens=60).finish()
        assert stream.whole
        return stream.text()

    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        assert list(pool.map(one, range(12))) == [counted(60)] * 12
    assert asked(phones) == before + 1


def test_who_comes_later_gets_it_from_the_beginning(gateway, phones):
    prompt = fresh()
    before = asked(phones)
    first = gateway.ask_stream(prompt, tokens=100).begun(lines=30)
    second = gateway.ask_stream(prompt, tokens=100)
    assert second.begun(lines=1).lines[0]["message"]["content"] == " 1"
    assert first.finish().text() == second.finish().text() == counted(100)
    assert asked(phones) == before + 1


@pytest.mark.parametrize("followers", ["streams", "whole"])
def test_the_leaders_leaving_does_not_fail_the_followers(gateway, phones, followers):
    prompt = fresh()
    before, cancelled = asked(phones), phones[0].state()["cancelled"]
    leader = gateway.ask_stream(prompt, tokens=200).begun(lines=3)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        if followers == "streams":
            others = [gateway.ask_stream(prompt, tokens=200).begun(lines=3) for _ in range(3)]
            leader.abort()
            texts = [s.finish().text() for s in others]
            assert all(s.whole for s in others)
        else:
            mine = gateway.ask_stream(prompt, tokens=200).begun(lines=3)  # shows that the followers come in the middle
            others = [pool.submit(lambda: gateway.ask(prompt, tokens=200).content()) for _ in range(3)]
            until(lambda: len(mine.begun(lines=len(mine.lines) + 1).lines) > 60, "the middle of it")
            leader.abort()
            mine.abort()
            texts = [f.result() for f in others]
    assert texts == [counted(200)] * 3
    assert asked(phones) == before + 1, "one generation for all"
    assert phones[0].state()["cancelled"] == cancelled


def test_when_all_leave_the_phone_is_freed(gateway, phones):
    prompt = fresh()
    cancelled = phones[0].state()["cancelled"]
    streams = [gateway.ask_stream(prompt, tokens=900).begun(lines=2) for _ in range(3)]
    for stream in streams:
        stream.abort()
    until(lambda: phones[0].state()["cancelled"] == cancelled + 1, "the phone to be told", bound=2)
    gateway.idle()


def test_a_failing_generation_fails_for_all_who_wait(start, phones):
    gateway = start.gateway(phones)
    prompt = fresh()
    phones[0].fault("reset_after", after_tokens=20)  # also where it is to go on
    streams = [gateway.ask_stream(prompt, tokens=100).begun(lines=2) for _ in range(3)]
    for stream in streams:
        stream.finish()
        assert stream.error() and not stream.whole
    phones[0].clear()
    gateway.unsuspected()
    assert gateway.ask(prompt, tokens=100).content() == counted(100)


def test_requests_that_go_past_the_cache_are_not_joined(gateway, phones):
    prompt = fresh()
    before = asked(phones)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        texts = list(pool.map(lambda _: gateway.ask(prompt, tokens=30, cache=False).content(), range(4)))
    assert texts == [counted(30)] * 4
    assert asked(phones) == before + 4
