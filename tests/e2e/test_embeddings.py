"""Embeddings: one request's inputs over the whole fleet, in OpenAI's and Ollama's dialects.

A simulated phone's vector depends on the text alone, whatever its engine: what is lost, doubled or out of order shows.
"""
import base64
import concurrent.futures
import json
import random
import struct
import threading
import time

import pytest

from client import Connection, post, request
from engines import LlamaServer
from harness import until

MODEL = "tiny"


def texts(count, words=8):
    """No two alike."""
    return [f"text {i} " + " ".join(str((i * 37 + k * 11) % 1000) for k in range(words)) for i in range(count)]


def fleet(start, count, engine="ollama", **options):
    return start.sim(count, engine, **{"embeddings": "true", "model": MODEL, "slots": 2, **options})


def straight(phone, inputs):
    """The vectors from the phone itself."""
    if phone.engine == "ollama":
        return request(phone.port, "POST", "/api/embed", {"model": MODEL, "input": inputs}).json()["embeddings"]
    data = request(phone.port, "POST", "/v1/embeddings", {"model": MODEL, "input": inputs}).json()["data"]
    return [d["embedding"] for d in data]


def openai(gateway, inputs, **more):
    return request(gateway.port, "POST", "/v1/embeddings", {"model": MODEL, "input": inputs, **more})


def ollama(gateway, inputs, **more):
    return request(gateway.port, "POST", "/api/embed", {"model": MODEL, "input": inputs, **more})


def vectors(reply):
    """Of either dialect's answer."""
    assert reply.status == 200, reply
    body = reply.json()
    if "embeddings" in body:
        return body["embeddings"]
    assert body["object"] == "list" and body["model"] == MODEL
    assert [d["index"] for d in body["data"]] == list(range(len(body["data"])))
    assert all(d["object"] == "embedding" for d in body["data"])
    return [d["embedding"] for d in body["data"]]


def close(some, others):
    return len(some) == len(others) and all(
        len(a) == len(b) and all(abs(x - y) < 1e-5 for x, y in zip(a, b)) for a, b in zip(some, others))


def served(phones):
    return [p.state()["completed"] for p in phones]


# ---- one engine

@pytest.fixture(scope="module")
def phones(start_once):
    """Three, at about 30 texts a second and slot."""
    return fleet(start_once, 3, prefill_rate=1000)


@pytest.fixture(scope="module")
def gateway(start_once, phones):
    return start_once.gateway(phones, {"log_format": "json"})


def test_a_hundred_inputs_over_three_phones(gateway, phones):
    inputs = texts(100)
    expected = straight(phones[0], inputs)
    assert len({tuple(v) for v in expected}) == 100
    before = served(phones)
    reply = openai(gateway, inputs)
    assert vectors(reply) == expected
    assert all(now > then for now, then in zip(served(phones), before)), "every phone had a part"
    assert sorted(reply.headers["X-Phone"].split(", ")) == sorted(p.name for p in phones)
    usage = reply.json()["usage"]
    assert usage["prompt_tokens"] == usage["total_tokens"] > 100
    assert vectors(ollama(gateway, inputs)) == expected


def test_the_fleet_works_at_once(gateway, phones):
    inputs = texts(120)
    began = time.monotonic()
    straight(phones[0], inputs)
    alone = time.monotonic() - began
    began = time.monotonic()
    assert len(vectors(openai(gateway, inputs))) == 120
    assert time.monotonic() - began < 0.6 * alone


def test_float_and_base64_are_the_same(gateway):
    inputs = texts(10)
    floats = vectors(openai(gateway, inputs, encoding_format="float"))
    coded = vectors(openai(gateway, inputs, encoding_format="base64"))
    for some, code in zip(floats, coded):
        data = base64.b64decode(code, validate=True)
        assert list(struct.unpack(f"<{len(data) // 4}f", data)) == list(struct.unpack("<8f", struct.pack("<8f", *some)))


def test_one_input(gateway, phones):
    expected = straight(phones[0], ["alone"])
    assert vectors(openai(gateway, "alone")) == expected
    reply = ollama(gateway, "alone")
    assert vectors(reply) == expected
    body = reply.json()
    assert body["model"] == MODEL and body["total_duration"] > 0 and body["prompt_eval_count"] > 0


def test_the_older_route(gateway, phones):
    reply = request(gateway.port, "POST", "/api/embeddings", {"model": MODEL, "prompt": "alone"})
    assert reply.status == 200 and reply.json() == {"embedding": straight(phones[0], ["alone"])[0]}
    assert {p.last()["target"] for p in phones if p.state()["requests"]} & {"/api/embeddings"}
    reply = request(gateway.port, "POST", "/api/embeddings", {"model": MODEL, "prompt": ""})
    assert reply.json() == {"embedding": []}


def test_nothing_to_embed(gateway):
    for nothing in ("", []):
        reply = openai(gateway, nothing)
        assert reply.status == 400 and reply.json()["error"]["param"] == "input", reply
        reply = ollama(gateway, nothing)
        assert reply.status == 200 and reply.json()["embeddings"] == []


def test_as_many_as_openai_takes(gateway):
    inputs = [str(i) for i in range(2048)]
    assert len({tuple(v) for v in vectors(openai(gateway, inputs))}) == 2048
    reply = openai(gateway, [*inputs, "one more"])
    assert reply.status == 400 and reply.json()["error"]["param"] == "input"


def test_the_books(gateway):
    reply = openai(gateway, texts(30), user="somebody")
    record = gateway.record(reply.headers["X-Request-Id"])
    assert record["route"] == "/v1/embeddings" and record["outcome"] == "ok" and record["status"] == 200
    assert record["attempts"] >= 3 and record["phone"].startswith("ollama-") and record["phase"] == "done"
    assert record["prompt_tokens"] == reply.json()["usage"]["prompt_tokens"]


def test_ollamas_fields_reach_ollama(gateway, phones):
    fields = {"truncate": True, "keep_alive": "7m", "dimensions": 4, "options": {"temperature": 0.5}, "other": [1]}
    before = served(phones)
    assert ollama(gateway, "one", **fields).status == 200
    phone = next(p for p, then in zip(phones, before) if p.state()["completed"] > then)
    sent = json.loads(phone.last()["body"])
    assert {k: sent[k] for k in fields} == fields and sent["input"] == ["one"]


def test_refusals_have_the_dialects_form(gateway):
    reply = openai(gateway, ["a"], model="nobody-has-it")
    assert reply.status == 404 and reply.json()["error"]["code"] == "model_not_found"
    reply = ollama(gateway, ["a"], model="nobody-has-it")
    assert reply.status == 404 and MODEL in reply.error()
    reply = openai(gateway, [[1, 2, 3]])
    assert reply.status == 400 and reply.json()["error"]["param"] == "input[0]", "no phone with llama-server is there"


def test_invalid_bodies_are_the_clients_fault(gateway):
    rng = random.Random(3)
    values = [None, True, 0, -1, 1.5, 1e400, "", "x", [], {}, ["a", 1], [[]], [[1], "a"], [1, "a"], {"a": 1}, "0", "base64"]
    fields = ["model", "input", "prompt", "encoding_format", "dimensions", "user", "truncate", "keep_alive", "options"]
    for path in ("/v1/embeddings", "/api/embed", "/api/embeddings"):
        bodies = [b"", b"{", b"[]", b"null", b'"x"', b"\xff", b'{"model":"a","model":"b"}', b"[" * 100]
        for _ in range(150):
            body = {"model": MODEL, "input": "x", "prompt": "x"}
            for name in rng.sample(fields, rng.randint(1, 4)):
                body[name] = rng.choice(values)
            bodies.append(json.dumps(body).encode())
        for body in bodies:
            reply = request(gateway.port, "POST", path, body)
            assert reply.status == 200 or 400 <= reply.status < 500, (path, body, reply)
            if reply.status != 200:
                error = reply.json()["error"]
                assert (error["message"] if path.startswith("/v1") else error), reply


@pytest.mark.parametrize("places", [64, 1])
def test_many_clients_at_once(start, phones, places):
    """Each request stands in the queue once at most. With one place there, some are turned away, and nobody hangs."""
    gateway = start.gateway(phones, {"queue": places})
    inputs = texts(30)
    expected = straight(phones[0], inputs)
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        replies = list(pool.map(lambda i: (openai, ollama)[i % 2](gateway, inputs), range(12)))
    good = [r for r in replies if r.status == 200]
    assert all(vectors(r) == expected for r in good)
    assert {r.status for r in replies} <= ({200} if places > 12 else {200, 503}) and good
    gateway.idle()


def test_the_client_leaves(start):
    phones = fleet(start, 2, prefill_rate=50)
    gateway = start.gateway(phones)
    connection = Connection(gateway.port)
    connection.send(post("/v1/embeddings", {"model": MODEL, "input": texts(200)}))
    until(lambda: all(p.state()["active"] for p in phones), "both phones to work")
    connection.reset()
    gateway.idle()
    until(lambda: all(p.state()["active"] == 0 for p in phones), "the phones to stop")
    asked = [p.state()["requests"] for p in phones]
    assert gateway.phone(phones[0].name)["breaker"] == "closed"
    assert [p.state()["requests"] for p in phones] == asked, "nothing is begun for somebody who has left"


def test_the_fleet_drains(start):
    """What is under way when the grace is over ends with an honest answer."""
    phones = fleet(start, 1, prefill_rate=20)
    gateway = start.gateway(phones, {"drain_s": 1})
    replies = []
    thread = threading.Thread(target=lambda: replies.append(openai(gateway, texts(100))))
    thread.start()
    until(lambda: phones[0].state()["active"], "the phone to work")
    gateway.stop()
    thread.join()
    assert replies[0].status == 503 and replies[0].json()["error"]["code"] == "shutting_down"


# ---- phones that fail

@pytest.mark.parametrize("engine", ["ollama", "llama-server"])
def test_a_phone_dies_in_the_middle(start, engine):
    phones = fleet(start, 3, engine, prefill_rate=500)
    gateway = start.gateway(phones)
    inputs = texts(100)
    expected = straight(phones[0], inputs)
    before = served(phones)
    replies = []
    thread = threading.Thread(target=lambda: replies.append(openai(gateway, inputs)))
    thread.start()
    until(lambda: phones[1].state()["active"], "the phone to work")
    phones[1].fault("crash", duration_ms=60000)
    thread.join()
    assert vectors(replies[0]) == expected
    assert all(p.state()["completed"] > then for p, then in [(phones[0], before[0]), (phones[2], before[2])])
    gateway.idle()


@pytest.mark.parametrize("kind", ["error_500", "busy_503", "html", "reset_after", "close_after"])
def test_a_fault_is_made_good_elsewhere(start, kind):
    phones = fleet(start, 2)
    gateway = start.gateway(phones)
    inputs = texts(20)
    expected = straight(phones[1], inputs)
    phones[0].fault(kind, times=1)
    assert vectors(ollama(gateway, inputs)) == expected
    assert phones[0].state()["failed"] == 1
    if not kind.endswith("_after"):  # a connection that was idle is replaced without a word
        assert gateway.metric("pocketfleet_retries_total") == 1


def test_all_phones_fail(start):
    phones = fleet(start, 2)
    gateway = start.gateway(phones)
    for p in phones:
        p.fault("error_500")
    reply = openai(gateway, texts(20))
    assert reply.status == 502 and reply.json()["error"]["code"] == "phone_error"
    gateway.idle()


def test_a_slow_phone_is_overtaken(start):
    fast = fleet(start, 2, prefill_rate=2000)
    slow = fleet(start, 1, prefill_rate=5)
    gateway = start.gateway([*fast, *slow])
    inputs = texts(90)
    expected = straight(fast[0], inputs)
    began = time.monotonic()
    reply = openai(gateway, inputs)
    took = time.monotonic() - began
    assert vectors(reply) == expected
    assert took < 5, "the slow phone alone would take half a minute for its first part"
    until(lambda: slow[0].state()["cancelled"] >= 1, "the slow phone to be told to stop")
    assert slow[0].name not in reply.headers["X-Phone"]
    health = gateway.phone(slow[0].name)
    assert health["breaker"] == "closed" and not health["suspect"], "being slow is no fault"


# ---- phones that make no embeddings

def test_chat_phones_with_the_same_model_are_left_alone(start):
    chat = start.sim(2, model=MODEL, slots=2)
    able = fleet(start, 1)
    gateway = start.gateway([*chat, *able])
    inputs = texts(40)
    expected = straight(able[0], inputs)
    assert vectors(openai(gateway, inputs)) == expected
    asked = [p.state()["requests"] for p in chat]
    assert 1 <= max(asked) <= 2, "once for each permit at most"
    for _ in range(5):
        assert vectors(openai(gateway, inputs)) == expected
    assert [p.state()["requests"] for p in chat] == asked, "not asked again"
    assert all(p["breaker"] == "closed" and not p["suspect"] for p in gateway.health())


@pytest.mark.parametrize("engine", ["ollama", "llama-server"])
def test_nobody_makes_embeddings(start, engine):
    phones = start.sim(2, engine, model=MODEL)
    gateway = start.gateway(phones)
    for _ in range(2):
        reply = openai(gateway, texts(20))
        assert reply.status == 501 and "embeddings" in reply.json()["error"]["message"], reply
        assert reply.json()["error"]["code"] == "not_served"
    assert max(p.state()["requests"] for p in phones) <= 32
    if engine == "ollama":
        assert "embeddings" in ollama(gateway, "one").error()


# ---- both engines

@pytest.fixture(scope="module")
def mixed(start_once):
    return [*fleet(start_once, 2), *fleet(start_once, 2, "llama-server")]


@pytest.fixture(scope="module")
def mixed_gateway(start_once, mixed):
    return start_once.gateway(mixed)


def test_both_engines_in_one_answer(mixed_gateway, mixed):
    inputs = texts(100)
    expected = straight(mixed[0], inputs)
    assert expected == straight(mixed[3], inputs)
    for ask in (openai, ollama):
        before = served(mixed)
        assert vectors(ask(mixed_gateway, inputs)) == expected
        assert all(now > then for now, then in zip(served(mixed), before))
    reply = request(mixed_gateway.port, "POST", "/api/embeddings", {"model": MODEL, "prompt": inputs[0]})
    assert reply.json() == {"embedding": expected[0]}


def test_what_only_one_engine_can(mixed_gateway, mixed):
    def who(ask, inputs, **more):
        reply = ask(mixed_gateway, inputs, **more)
        assert reply.status == 200, reply
        names = set(reply.headers["X-Phone"].split(", "))
        return {p.engine for p in mixed if p.name in names}
    inputs = texts(40)
    assert who(openai, inputs, dimensions=4) == {"ollama"}
    assert who(openai, inputs, something=1) == {"llama-server"}
    assert who(openai, [[1, 2, i] for i in range(20)]) == {"llama-server"}
    assert who(ollama, inputs, truncate=True) == {"ollama"}
    assert who(ollama, inputs, options={"seed": 1}) == {"ollama"}
    assert who(ollama, inputs, truncate=False, keep_alive="5m") == {"ollama", "llama-server"}


@pytest.mark.parametrize("field, value", [("truncate", True), ("dimensions", 4), ("keep_alive", 0),
                                          ("options", {"seed": 1}), ("whatever", 1)])
def test_what_llama_server_cannot_is_named(start, field, value):
    gateway = start.gateway(fleet(start, 1, "llama-server"))
    reply = ollama(gateway, "a", **{field: value})
    assert reply.status == 400 and reply.error().startswith(field + ": "), reply
    assert ollama(gateway, "a", truncate=False, keep_alive=-1, options={}).status == 200


# ---- the real engine

@pytest.fixture(scope="module")
def real(start_once, llama_programs, counting_model):
    """With this pooling a vector depends on the text's last token: numbers tell the texts apart."""
    more = ("--embeddings", "--pooling", "last")
    return [start_once.own(LlamaServer(llama_programs, counting_model, more=more)) for _ in range(3)]


def test_real_llama_servers(start, real):
    gateway = start.gateway(real)
    inputs = [f"count {i}" for i in range(100)]
    expected = straight(real[0], inputs)
    assert len({tuple(round(x, 3) for x in v) for v in expected}) > 50
    for ask in (openai, ollama):
        reply = ask(gateway, inputs)
        assert close(vectors(reply), expected)
        assert len(reply.headers["X-Phone"].split(", ")) == 3
    one = openai(gateway, "count 7")
    assert vectors(one) == straight(real[0], ["count 7"]), "the very same numbers"
    assert close(vectors(openai(gateway, [[5, 6], [7]])), straight(real[0], [[5, 6], [7]]))


@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_real_llama_server_and_a_text_too_long(start, llama_programs, counting_model, pooling):
    """With one of them llama-server calls it a fault of its own."""
    phone = start.own(LlamaServer(llama_programs, counting_model, more=("--embeddings", "--pooling", pooling)))
    gateway = start.gateway([phone])
    reply = openai(gateway, ["short", "word " * 3000])
    assert reply.status == 400 and "15001 tokens" in reply.json()["error"]["message"], reply
    health = gateway.phone(phone.as_phone)
    assert not health["suspect"] and health["breaker"] == "closed"
    assert gateway.metric("pocketfleet_attempts_total") <= 2


def test_real_chat_servers_with_the_same_model(start, llama_programs, counting_model, real):
    """One was started without --embeddings, one without a pooling."""
    chat = [start.own(LlamaServer(llama_programs, counting_model, more=more)) for more in ((), ("--embeddings",))]
    inputs = [f"count {i}" for i in range(40)]
    gateway = start.gateway([*chat, real[0]])
    for _ in range(3):
        reply = openai(gateway, inputs)
        assert close(vectors(reply), straight(real[0], inputs))
        assert reply.headers["X-Phone"] == real[0].as_phone
    for phone in chat:
        assert gateway.metric("pocketfleet_attempts_total", phone=phone.as_phone) <= 2
    reply = openai(start.gateway([chat[1]]), inputs)
    assert reply.status == 501 and "pooling" in reply.json()["error"]["message"], reply


def test_a_real_llama_server_is_killed(start, llama_programs, counting_model):
    more = ("--embeddings", "--pooling", "last")
    phones = [start.own(LlamaServer(llama_programs, counting_model, more=more)) for _ in range(2)]
    gateway = start.gateway(phones, {"probe_interval_s": 60})
    inputs = [f"count {i}" for i in range(60)]
    expected = straight(phones[1], inputs)
    phones[0].kill()
    assert close(vectors(openai(gateway, inputs)), expected)
