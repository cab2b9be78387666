"""The log: one line a request, with everything about it but what was asked and answered."""
import re
import time

import pytest

from client import Connection, Stream, counted, post, question, request
from harness import until

CANARY = "canary7319"


@pytest.fixture(scope="module")
def phones(start_once):
    return start_once.sim(2, decode_rate=200, answer_tokens=5, model="tiny")


@pytest.fixture(scope="module")
def gateway(start_once, phones):
    return start_once.gateway(phones, {"log_format": "json", "log_level": "trace", "attempts": 2,
                                       "breaker_failures": 1000})


TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.mark.parametrize(("sent", "passed"), [
    (f"00-{TRACE}-00f067aa0ba902b7-01", True), (f"42-{TRACE}-00f067aa0ba902b7-01-of-tomorrow", True),
    (f"00-{TRACE}-00f067aa0ba902b7-01-more", False), (f"00-{'0' * 32}-00f067aa0ba902b7-01", False),
    (f"00-{TRACE}-{'0' * 16}-01", False), (f"ff-{TRACE}-00f067aa0ba902b7-01", False), ("00-" + CANARY, False),
    (f"00-{TRACE.upper()}-00f067aa0ba902b7-01", False), (None, False)])
def test_a_trace(gateway, phones, sent, passed):
    for path, body in (("/ask", question(tokens=2)), ("/api/chat", {"model": "tiny", "messages": [{"role": "user", "content": "x"}]})):
        reply = request(gateway.port, "POST", path, body, {"traceparent": sent} if sent else {})
        phone = next(p for p in phones if p.name == reply.headers["X-Phone"])
        assert phone.last()["path"] == path.replace("/ask", "/api/chat")
        seen = phone.last()["headers"].get("traceparent")
        assert seen == (f"00-{TRACE}-00f067aa0ba902b7-01" if passed else None), path
        assert gateway.record(reply.headers["X-Request-Id"])["trace_id"] == (TRACE if passed else "")


def test_a_good_request(gateway):
    reply = gateway.ask(tokens=5)
    record = gateway.record(reply.headers["X-Request-Id"])
    assert record["route"] == "/ask"
    assert record["phone"] == reply.headers["X-Phone"]
    assert (record["outcome"], record["status"], record["attempts"]) == ("ok", 200, 1)
    assert (record["prompt_tokens"], record["answer_tokens"]) == (reply.json()["prompt_eval_count"], 5)
    assert 0 <= record["queued_ms"] <= record["first_token_ms"] <= record["total_ms"]
    assert record["total_ms"] >= 20, "5 tokens, 200 a second"


def test_a_stream(gateway):
    stream = gateway.ask_stream(tokens=40).finish()
    record = gateway.record(stream.headers["X-Request-Id"])
    assert (record["route"], record["outcome"], record["status"]) == ("/ask_stream", "ok", 200)
    assert record["answer_tokens"] == 40
    assert record["first_token_ms"] < record["total_ms"] - 100


def test_a_hit(gateway):
    prompt = f"hit me {time.monotonic()}"
    gateway.ask(prompt)
    record = gateway.record(gateway.ask(prompt).headers["X-Request-Id"])
    assert (record["outcome"], record["status"], record["attempts"]) == ("ok", 200, 0)


@pytest.mark.parametrize("path, body, status, outcome", [
    ("/ask", {"promt": "x"}, 400, "bad_request"), ("/ask", {"prompt": "x", "model": "none"}, 404, "model_not_found"),
    ("/nothing", {}, 404, "not_found")])
def test_refusals(gateway, path, body, status, outcome):
    reply = request(gateway.port, "POST", path, body)
    record = gateway.record(reply.headers["X-Request-Id"])
    assert (record["status"], record["outcome"]) == (reply.status, outcome) == (status, outcome)
    assert record["route"] == (path if path == "/ask" else "other"), "a path nobody knows is no value of its own"


def test_a_batch_is_one_line(gateway):
    reply = request(gateway.port, "POST", "/ask_batch", {"prompts": [f"{i} {time.monotonic()}" for i in range(3)]})
    record = gateway.record(reply.headers["X-Request-Id"])
    assert (record["route"], record["status"], record["outcome"]) == ("/ask_batch", 200, "ok")
    assert record["attempts"] == 3 and record["answer_tokens"] == 15


@pytest.fixture
def all_well(gateway, phones):
    """Whatever a test has done to the phones is undone."""
    yield
    for phone in phones:
        phone.clear()
    gateway.idle()


def test_a_client_that_left_in_mid_stream(gateway, all_well):
    stream = gateway.ask_stream(tokens=500).begun(lines=3)
    stream.abort()
    record = gateway.record(stream.headers["X-Request-Id"])
    assert (record["outcome"], record["status"], record["phase"]) == ("client_gone", 499, "streaming")


def test_a_client_that_left_before_the_first_token(gateway, phones, all_well):
    for phone in phones:
        phone.fault("silent_after", after_tokens=0)
    client = Connection(gateway.port)
    client.send(post("/ask_stream", question(), ["X-Request-Id: left.waiting"]))
    until(lambda: sum(p.state()["active"] for p in phones) == 1, "a phone to work on it")
    client.reset()
    record = gateway.record("left.waiting")
    assert (record["outcome"], record["status"], record["phase"]) == ("client_gone", 499, "waiting")


def test_a_client_that_left_the_queue(gateway, phones, all_well):
    held = [gateway.ask_stream(tokens=900).begun() for _ in phones]
    client = Connection(gateway.port)
    client.send(post("/ask_stream", question(), ["X-Request-Id: left.queue"]))
    until(lambda: request(gateway.port, "GET", "/health").json()["queue"]["waiting"] == 1, "it to wait")
    client.reset()
    record = gateway.record("left.queue")
    for stream in held:
        stream.abort()
    assert (record["outcome"], record["status"], record["phase"]) == ("client_gone", 499, "queued")


def test_every_request_has_one_line(gateway):
    ids = [gateway.ask(tokens=1).headers["X-Request-Id"] for _ in range(20)]
    for request_id in ids:
        gateway.record(request_id)
    logged = [r["request_id"] for r in gateway.records()]
    assert all(logged.count(request_id) == 1 for request_id in ids)


@pytest.mark.parametrize("settings", [{"log_format": "json"}, {"log_format": "text"}], ids=["json", "text"])
def test_nothing_of_what_is_asked_or_answered(start, settings):
    """At the most talkative level, through every kind of outcome: no prompt, no answer, no field of the client's."""
    phones = start.sim(2, "llama-server", decode_rate=500)
    gateway = start.gateway(phones, {**settings, "log_level": "trace", "token_timeout_s": 1, "breaker_failures": 1000})
    body = {"prompt": f"{CANARY}-prompt", "system": f"{CANARY}-system", "options": {"stop": [f"{CANARY}-stop"]}}
    fields = {"Authorization": f"Bearer {CANARY}-key", "Cookie": CANARY, "X-Request-Id": f"{CANARY} id",
              "User-Agent": CANARY}

    def everything():
        answers = [request(gateway.port, "POST", "/ask", body, fields) for _ in range(2)]
        stream = Stream(gateway.port, body, headers=[f"{name}: {value}" for name, value in fields.items()])
        if stream.head() == 200:
            stream.finish()
        items = [body, {"prompt": f"{CANARY}-item"}, {CANARY: 1}]
        request(gateway.port, "POST", "/ask_batch", {"requests": items}, fields)
        request(gateway.port, "POST", "/ask", {**body, "model": f"{CANARY}-model"}, fields)
        request(gateway.port, "POST", "/ask", {**body, CANARY: 1}, fields)
        request(gateway.port, "POST", "/ask", f'{{"{CANARY}', fields)
        request(gateway.port, "POST", f"/{CANARY}?{CANARY}", body, fields)
        request(gateway.port, "POST", "/ask", body, {**fields, "Origin": f"http://{CANARY}.example"})
        request(gateway.port, "POST", "/ask", body, {**fields, "Host": f"{CANARY}.example"})
        return answers

    everything()
    for kind in ("error_500", "reset_after", "html", "error_in_stream", "garbage"):
        for phone in phones:
            phone.fault(kind, after_tokens=3)
        body["prompt"] = f"{CANARY}-{kind}"
        for reply in everything():
            assert CANARY not in reply.text()
    # The answers are numbers: a long run of them would be an answer.
    for stream in (gateway.ask_stream(tokens=30) for _ in range(2)):
        stream.begun().abort()
    gateway.idle()
    for phone in phones:
        phone.clear()
    assert gateway.ask(tokens=30).content() == counted(30)
    gateway.stop()
    log = gateway.log.text()
    assert len(log.splitlines()) > 30
    assert CANARY not in log
    assert not re.search(r"\b1 2 3\b", log)


def test_text_lines_have_the_same_fields(start, phones):
    gateway = start.gateway(phones, {"log_format": "text"})
    mark = gateway.log.mark()
    reply = gateway.ask(tokens=3)
    line = gateway.log.wait_for(".*" + re.escape(reply.headers["X-Request-Id"]) + ".*", start=mark)[0]
    for word in ("/ask", reply.headers["X-Phone"], "ok", "200"):
        assert word in line, line
