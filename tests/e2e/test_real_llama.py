"""Real llama-servers as phones. Their counting model answers " 1 2 3 ... 999" to anything, a token a number: a lost,
repeated or reordered token is seen at once.
"""
import concurrent.futures
import json
import time

import pytest

from client import Connection, counted, fresh, post, question, request
from engines import LlamaServer
from harness import until

STREAMS = 24
TOKENS = 300


@pytest.fixture(scope="module")
def gateway(start_once, llamas):
    """One in front of all four; engine and model are found out."""
    return start_once.gateway(llamas)


def test_detected(gateway, llamas):
    for phone in gateway.health():
        assert phone["engine"] == "llama-server"
    answer = gateway.ask(tokens=2).json()
    assert answer["model"] == "tiny", "the phone's own model, as /v1/models names it"
    assert answer["message"]["content"] == counted(2)
    assert answer["eval_count"] == 2 and answer["prompt_eval_count"] > 5
    assert answer["eval_duration"] > 0


def test_whole_answer_to_its_natural_end(gateway):
    answer = gateway.ask(tokens=2000).json()
    assert answer["message"]["content"] == counted(999)
    assert answer["done_reason"] == "stop"


def test_stream_by_tokens(gateway):
    stream = gateway.ask_stream(tokens=50).finish()
    *pieces, last = stream.lines
    assert [p["message"]["content"] for p in pieces] == [f" {i}" for i in range(1, 51)]
    assert last["done"] is True and last["done_reason"] == "length" and last["eval_count"] == 50
    assert stream.whole


@pytest.mark.parametrize("phones", [1, 2, 4])
def test_many_at_once(start, llamas, phones):
    """Streams and whole answers, more than there are slots, through one, two and four phones."""
    gateway = start.gateway(llamas[:phones], {"queue_wait_s": 60})

    def one(i):
        if i % 3 == 0:
            reply = gateway.ask(tokens=TOKENS)
            return reply.content(), reply.headers["X-Phone"]
        stream = gateway.ask_stream(tokens=TOKENS).finish()
        assert stream.whole and stream.last()["done"] is True, stream.lines[-1:]
        return stream.text(), stream.headers["X-Phone"]

    with concurrent.futures.ThreadPoolExecutor(STREAMS) as pool:
        answers = list(pool.map(one, range(STREAMS)))
    assert [text for text, _ in answers] == [counted(TOKENS)] * STREAMS
    assert {phone for _, phone in answers} == {llama.as_phone for llama in llamas[:phones]}
    gateway.idle()


def test_options_reach_the_sampler(start, llamas):
    gateway = start.gateway(llamas[:1])
    reply = gateway.ask(options={"num_predict": 3, "temperature": 0.25, "seed": 4711, "top_k": 7, "top_p": 0.5,
                                 "min_p": 0.125, "repeat_penalty": 1.0, "presence_penalty": 0.5})
    assert reply.content() == counted(3)
    used = [slot["params"] for slot in llamas[0].slots() if slot.get("params", {}).get("seed") == 4711]
    assert used, "no slot has seen the seed"
    assert (used[0]["temperature"], used[0]["top_k"], used[0]["top_p"], used[0]["min_p"]) == (0.25, 7, 0.5, 0.125)
    assert used[0]["presence_penalty"] == 0.5
    assert used[0]["max_tokens"] == 3
    assert used[0]["stream"] is True


@pytest.mark.parametrize("stop", [" 8", [" 8"], ["no such", " 9 10", " 8"]])
def test_stop(gateway, stop):
    answer = gateway.ask(options={"stop": stop, "num_predict": 50}).json()
    assert answer["message"]["content"] == counted(7)
    assert answer["done_reason"] == "stop"


def test_conversation_is_passed_on_in_order(gateway):
    """An answer that ends with the assistant's words goes on behind them."""
    stream = gateway.ask_stream(messages=[{"role": "user", "content": fresh()},
                                          {"role": "assistant", "content": counted(42)}], tokens=3).finish()
    assert stream.text() == counted(45, first=43)


def test_format_json(gateway):
    content = gateway.ask(format="json", tokens=30).content()
    assert content.lstrip().startswith("{")


def test_format_schema(gateway):
    schema = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 0, "maximum": 9}}, "required": ["n"],
              "additionalProperties": False}
    answer = json.loads(gateway.ask(format=schema, tokens=60).content())
    assert list(answer) == ["n"] and isinstance(answer["n"], int)


@pytest.mark.parametrize("field", [{"keep_alive": "0s"}, {"keep_alive": 0}, {"think": "high"}])
def test_what_llama_server_cannot(gateway, field):
    reply = gateway.ask(**field)
    assert reply.status == 400, reply
    assert next(iter(field)) in reply.error()


def test_unknown_model(gateway):
    reply = gateway.ask(model="qwen2.5:1.5b")
    assert reply.status == 404
    assert "tiny" in reply.error()
    assert gateway.ask(model="tiny", tokens=1).content() == counted(1)


def test_warmup(gateway, llamas):
    reply = request(gateway.port, "POST", "/warmup")
    assert reply.status == 200
    assert {(p["name"], p["ok"]) for p in reply.json()["phones"]} == {(llama.as_phone, True) for llama in llamas}


def test_phone_killed_before_the_request(start, llama_programs, counting_model):
    """Another phone answers, and the client sees nothing of it but the count of attempts."""
    phones = [start.own(LlamaServer(llama_programs, counting_model)) for _ in range(2)]
    gateway = start.gateway(phones, {"probe_interval_s": 60})
    phones[0].kill()
    replies = [gateway.ask(tokens=20) for _ in range(4)]
    assert [r.content() for r in replies] == [counted(20)] * 4
    assert {r.headers["X-Phone"] for r in replies} == {phones[1].as_phone}
    assert [r.notes()["attempts"] for r in replies].count(2) == 1, "the dead phone is tried once, then comes last"


def test_phone_killed_in_mid_stream(start, llama_programs, slow_model):
    phone = start.own(LlamaServer(llama_programs, slow_model, alias="slow"))
    gateway = start.gateway([phone], {"probe_interval_s": 0.2})
    stream = gateway.ask_stream(tokens=900, rescue=False).begun(lines=5)
    phone.kill()
    stream.finish()
    *pieces, last = stream.lines
    assert isinstance(last.get("error"), str) and not stream.whole
    assert "".join(p["message"]["content"] for p in pieces) == counted(len(pieces)), "what came is what was made"
    until(lambda: not gateway.health()[0]["healthy"], "the dead phone to be seen as such")


@pytest.mark.parametrize("route", ["/ask_stream", "/ask"])
def test_client_that_leaves_frees_the_slot(start, llama_programs, slow_model, route):
    """900 tokens take over 2 s; the slot is free long before."""
    phone = start.own(LlamaServer(llama_programs, slow_model, alias="slow", slots=1))
    gateway = start.gateway([phone])
    client = Connection(gateway.port)
    client.send(post(route, question(tokens=900)))
    until(lambda: phone.busy() == 1, "the phone to work on it")
    left = time.monotonic()
    client.reset()
    until(lambda: phone.busy() == 0, "the slot to be free", bound=1.5)
    gateway.idle()
    assert time.monotonic() - left < 1.5
    assert gateway.ask(tokens=5).content() == counted(5)
    gateway.log.wait_for("client_gone")
