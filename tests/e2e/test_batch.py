"""/ask_batch: many questions in one request, over the whole fleet at once."""
import json
import time

import pytest

from client import Connection, Stream, counted, fresh, post, request
from harness import until


@pytest.fixture(scope="module")
def phones(start_once):
    """Three phones, each answering one question at a time, 100 tokens a second."""
    return start_once.sim(3, slots=1, decode_rate=100, answer_tokens=5, model="tiny")


@pytest.fixture(scope="module")
def gateway(start_once, phones):
    return start_once.gateway(phones)


def batch(gateway, body, **headers):
    return request(gateway.port, "POST", "/ask_batch", body, headers)


def items(*tokens):
    return [{"prompt": fresh(), "options": {"num_predict": n}} for n in tokens]


def test_order_is_kept_while_the_fleet_works_at_once(gateway, phones):
    before = [p.state()["requests"] for p in phones]
    lengths = [60, 5, 40, 3, 20, 7, 30, 2, 25]
    began = time.monotonic()
    reply = batch(gateway, {"requests": items(*lengths)})
    took = time.monotonic() - began
    results = reply.json()["results"]
    assert [r["ok"] for r in results] == [True] * len(lengths)
    assert [r["data"]["message"]["content"] for r in results] == [counted(n) for n in lengths]
    assert all(p.state()["requests"] > n for p, n in zip(phones, before)), "every phone had a part"
    assert took < 0.8 * sum(lengths) / 100, "one after the other would take longer"


def test_each_result_as_soon_as_it_is_there(gateway):
    stream = Stream(gateway.port, {"requests": items(60, 2, 30)}, path="/ask_batch",
                    headers=["Accept: application/x-ndjson"])
    came = [(line["index"], time.monotonic()) for line in stream]
    assert [index for index, _ in came] == [1, 2, 0], "the shortest first"
    assert came[2][1] - came[0][1] > 0.2, "the first did not wait for the last"
    assert stream.whole
    for line, tokens in zip(stream.lines, (2, 30, 60)):
        assert line["ok"] is True and line["data"]["message"]["content"] == counted(tokens)


def test_one_items_failure_is_its_own(gateway):
    body = {"requests": [*items(3), {"prompt": ""}, "no object", {"prompt": "x", "model": "nobody-has-it"},
                         {"prompt": "x", "options": {"num_predcit": 1}}, *items(4)]}
    reply = batch(gateway, body)
    assert reply.status == 200
    results = reply.json()["results"]
    assert [r["ok"] for r in results] == [True, False, False, False, False, True]
    assert results[0]["data"]["message"]["content"] == counted(3)
    assert results[5]["data"]["message"]["content"] == counted(4)
    assert all(isinstance(r["error"], str) and r["error"] for r in results[1:5])
    assert "tiny" in results[3]["error"] and "num_predict" in results[4]["error"]


def test_a_failing_phones_item(start, phones):
    """A fault that hits one item of a batch is mended on another phone; the others do not notice."""
    gateway = start.gateway(phones)
    phones[0].fault("reset_after", after_tokens=2, times=1)
    results = batch(gateway, {"requests": items(5, 6, 7, 8, 9, 10)}).json()["results"]
    phones[0].clear()
    assert [r["data"]["message"]["content"] for r in results] == [counted(n) for n in range(5, 11)]
    assert sorted(r["data"]["pocketfleet"]["attempts"] for r in results) == [1, 1, 1, 1, 1, 2]


def test_prompts_share_what_stands_beside_them(gateway):
    reply = batch(gateway, {"prompts": [fresh(), fresh()], "options": {"num_predict": 4}, "model": "tiny"})
    assert [r["data"]["message"]["content"] for r in reply.json()["results"]] == [counted(4)] * 2


def test_an_items_own_word_goes_before_the_shared(gateway):
    reply = batch(gateway, {"requests": [{"prompt": fresh()}, *items(2)], "options": {"num_predict": 3}})
    assert [r["data"]["message"]["content"] for r in reply.json()["results"]] == [counted(3), counted(2)]


def test_equal_items_are_one_generation(gateway, phones):
    before = sum(p.state()["requests"] for p in phones)
    prompt = fresh()
    results = batch(gateway, {"prompts": [prompt] * 6}).json()["results"]
    assert [r["data"]["message"]["content"] for r in results] == [counted(5)] * 6
    assert sum(p.state()["requests"] for p in phones) == before + 1


@pytest.mark.parametrize("body", [{}, {"requests": []}, {"prompts": []}, {"requests": {}}, {"prompts": "x"},
                                  {"prompts": ["x"], "requests": [{"prompt": "x"}]}, {"prompts": ["x"], "promts": []},
                                  [], {"prompts": ["x"] * 65}])
def test_bad_batch(gateway, body):
    reply = batch(gateway, body)
    assert reply.status == 400, reply
    assert reply.error()


def test_the_largest_batch(start):
    phones = start.sim(2, model="tiny", answer_tokens=3)
    gateway = start.gateway([p.entry(max_concurrency=8) for p in phones])
    results = batch(gateway, {"prompts": [fresh() for _ in range(64)]}).json()["results"]
    assert [r["data"]["message"]["content"] for r in results] == [counted(3)] * 64


def test_client_that_leaves_frees_every_phone(start, phones):
    gateway = start.gateway(phones)
    before = sum(p.state()["cancelled"] for p in phones)
    client = Connection(gateway.port)
    client.send(post("/ask_batch", {"requests": items(500, 500, 500, 500, 500)}))
    until(lambda: sum(p.state()["active"] for p in phones) == 3, "every phone to work on it")
    client.reset()
    until(lambda: sum(p.state()["active"] for p in phones) == 0, "every phone to be free", bound=2)
    gateway.idle()
    assert sum(p.state()["cancelled"] for p in phones) == before + 3
    assert [json.loads(p.last()["body"])["stream"] for p in phones] == [True] * 3
