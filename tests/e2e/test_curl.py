"""Every endpoint as a person meets it: with the real curl."""
import json
import re
import subprocess

import pytest

from client import counted, fresh
from harness import Gateway

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


class Curled:
    """What one curl has seen. Of several responses (keep-alive), the last."""

    def __init__(self, done, head, body):
        self.exit, self.trace, self.body = done.returncode, done.stderr, body
        first, *fields = head.strip().split("\r\n\r\n")[-1].split("\r\n")
        self.status = int(first.split()[1])
        self.headers = {}
        for field in fields:
            name, _, value = field.partition(":")
            self.headers[name.lower()] = value.strip()

    def json(self):
        return json.loads(self.body)

    def lines(self):
        return [json.loads(line) for line in self.body.splitlines()]

    def error(self):
        text = self.json()["error"]
        assert isinstance(text, str) and text
        return text

    def __repr__(self):
        return f"<{self.status} {self.headers} {self.body[:500]!r}>"


@pytest.fixture(scope="module")
def phones(start_once):
    return start_once.sim(2, answer_tokens=7, model="qwen2.5:1.5b")


@pytest.fixture(scope="module")
def gateway(start_once, phones) -> Gateway:
    return start_once.gateway([p.entry(model="qwen2.5:1.5b") for p in phones])


@pytest.fixture
def curl(gateway, tmp_path):
    def run(path, *arguments):
        head, body = tmp_path / "head", tmp_path / "body"
        done = subprocess.run(
            ["curl", "-sS", "-v", "--max-time", "30", "--noproxy", "*", "-D", head, "-o", body, gateway.url + path,
             *arguments], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return Curled(done, head.read_bytes().decode("latin-1"), body.read_text() if body.exists() else "")
    return run


def prompt(text=None):
    return json.dumps({"prompt": text or fresh()})


# ---- the endpoints


def test_ask(curl, phones):
    got = curl("/ask", "-d", prompt())
    assert got.status == 200, got
    assert got.headers["content-type"].startswith("application/json")
    answer = got.json()
    assert answer["model"] == "qwen2.5:1.5b"
    assert RFC3339.fullmatch(answer["created_at"])
    assert answer["message"] == {"role": "assistant", "content": counted(7)}
    assert answer["done"] is True
    assert answer["done_reason"] == "stop"
    assert answer["eval_count"] == 7
    assert answer["prompt_eval_count"] > 0
    for duration in ("total_duration", "load_duration", "prompt_eval_duration", "eval_duration"):
        assert isinstance(answer[duration], int) and answer[duration] >= 0
    assert answer["total_duration"] > 0
    notes = answer["pocketfleet"]
    assert notes["phone"] in [p.name for p in phones]
    assert notes["phone"] == got.headers["x-phone"]
    assert (notes["cached"], notes["attempts"]) == (False, 1)
    assert notes["queued_ms"] >= 0


def test_ask_with_messages_and_system(curl, phones):
    got = curl("/ask", "-d", json.dumps({"system": "be brief", "messages": [{"role": "user", "content": fresh()}],
                                         "options": {"num_predict": 3}}))
    assert got.json()["message"]["content"] == counted(3)
    assert got.json()["done_reason"] == "length"
    phone = next(p for p in phones if p.name == got.headers["x-phone"])
    sent = json.loads(phone.last()["body"])
    assert [m["role"] for m in sent["messages"]] == ["system", "user"]
    assert sent["messages"][0]["content"] == "be brief"
    assert sent["stream"] is True, "the phone is always asked for a stream"


def test_ask_stream(curl):
    got = curl("/ask_stream", "-N", "-d", prompt())
    assert got.status == 200, got
    assert got.headers["content-type"].startswith("application/x-ndjson")
    assert got.headers["transfer-encoding"] == "chunked"
    *pieces, last = got.lines()
    assert [p["message"]["content"] for p in pieces] == [f" {i}" for i in range(1, 8)]
    assert all(p["done"] is False and p["message"]["role"] == "assistant" for p in pieces)
    assert last["done"] is True and last["done_reason"] == "stop" and last["message"]["content"] == ""
    assert last["pocketfleet"]["attempts"] == 1
    assert last["pocketfleet"]["phone"] == got.headers["x-phone"]


def test_ask_batch(curl):
    got = curl("/ask_batch", "-d", json.dumps({"requests": [
        {"prompt": fresh(), "options": {"num_predict": 2}}, {"promt": "?"},
        {"prompt": fresh(), "options": {"num_predict": 5}}]}))
    assert got.status == 200, got
    first, second, third = got.json()["results"]
    assert first["ok"] is True and first["data"]["message"]["content"] == counted(2)
    assert second["ok"] is False and isinstance(second["error"], str) and "prompt" in second["error"]
    assert third["ok"] is True and third["data"]["message"]["content"] == counted(5)


def test_ask_batch_as_it_comes(curl):
    got = curl("/ask_batch", "-N", "-H", "Accept: application/x-ndjson", "-d",
               json.dumps({"prompts": [fresh(), fresh(), fresh()]}))
    assert got.status == 200, got
    assert got.headers["content-type"].startswith("application/x-ndjson")
    results = got.lines()
    assert sorted(r["index"] for r in results) == [0, 1, 2]
    assert all(r["ok"] and r["data"]["message"]["content"] == counted(7) for r in results)


def test_health(curl, phones):
    got = curl("/health")
    assert got.status == 200 and got.headers["content-type"].startswith("application/json")
    seen = got.json()["phones"]
    assert [(p["host"], p["port"], p["healthy"]) for p in seen] == [("127.0.0.1", p.port, True) for p in phones]
    for phone in seen:
        assert phone["model"] == "qwen2.5:1.5b"
        assert phone["engine"] == "ollama"
        assert isinstance(phone["inflight"], int)
        assert "reason" in phone


def test_metrics(curl):
    got = curl("/metrics")
    assert got.status == 200
    assert got.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert re.search(r'^pocketfleet_requests_total\{.*route="/ask".*\} \d+$', got.body, re.M), got.body


def test_warmup(curl, phones):
    got = curl("/warmup", "-X", "POST")
    assert got.status == 200, got
    for phone in phones:
        assert phone.name in got.body
        assert phone.state()["loaded"] == "qwen2.5:1.5b"


# ---- methods


@pytest.mark.parametrize("path", ["/health", "/metrics"])
def test_head(curl, path):
    whole = curl(path)
    got = curl(path, "-I")
    assert got.status == 200
    assert got.body == "" or got.body.startswith("HTTP/1.1 200")  # curl -I writes the header as output
    assert got.headers["content-type"] == whole.headers["content-type"]


def test_head_then_get_on_one_connection(gateway):
    """The response to HEAD has no body on the wire: the next response begins where it should."""
    done = subprocess.run(["curl", "-sS", "-v", "--max-time", "30", "-I", gateway.url + "/health", "--next", "-sS",
                           gateway.url + "/health"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert '"phones"' in done.stdout


@pytest.mark.parametrize("path, allowed", [("/ask", "POST"), ("/ask_stream", "POST"), ("/ask_batch", "POST"),
                                           ("/warmup", "POST"), ("/health", "GET"), ("/metrics", "GET")])
def test_options_and_wrong_method(curl, path, allowed):
    got = curl(path, "-X", "OPTIONS")
    assert got.status in (200, 204), got
    assert allowed in re.split(r",\s*", got.headers["allow"]), got
    got = curl(path, "-X", "GET" if allowed == "POST" else "POST")
    assert got.status == 405, got
    methods = re.split(r",\s*", got.headers["allow"])
    assert allowed in methods and ("HEAD" in methods) == (allowed == "GET"), got
    assert got.error()


def test_unknown_method(curl):
    got = curl("/ask", "-X", "TRACE")
    assert got.status == 501 or (got.status == 405 and "POST" in got.headers["allow"]), got


def test_not_found(curl):
    got = curl("/nothing/here?prompt=x", "-d", prompt())
    assert got.status == 404, got
    assert got.error()


@pytest.mark.parametrize("path", ["/ask/", "/ASK", "//ask", "/ask/../health", "/%61sk", "/ask;x"])
def test_paths_are_taken_literally(curl, path):
    assert curl(path, "--path-as-is", "-d", prompt()).status == 404


def test_query_is_passed_over(curl):
    assert curl("/health?verbose=1").status == 200


# ---- bodies


@pytest.mark.parametrize("content_type", ["application/json", "text/plain", "application/json; charset=utf-8", None])
def test_any_content_type(curl, content_type):
    """curl -d names a form type, which the tests above had; without a header, `-H Content-Type:` sends none."""
    got = curl("/ask", "-H", "Content-Type:" + (f" {content_type}" if content_type else ""), "-d", prompt())
    assert got.status == 200, got


def test_big_body_with_expect(curl, tmp_path):
    """curl asks with Expect: 100-continue before it sends a body over 1 MiB."""
    file = tmp_path / "body.json"
    file.write_text(json.dumps({"prompt": fresh() + "x" * 1_200_000, "options": {"num_predict": 2}}))
    got = curl("/ask", "--data-binary", f"@{file}")
    assert got.status == 200, got
    assert "Expect: 100-continue" in got.trace and "100 Continue" in got.trace


CANARY = "canary8364"


@pytest.mark.parametrize("body", [
    "", " ", "{", '{"prompt":"' + CANARY, '{"prompt":"' + CANARY + '"} {"prompt":"x"}', '["' + CANARY + '"]', "7",
    "null", '"' + CANARY + '"', '{"prompt":NaN}', "{'prompt':'" + CANARY + "'}",
    '{"prompt":"a","prompt":"' + CANARY + '"}',
    '{"prompt":"\\ud800' + CANARY + '"}', '{"prompt":5}', '{"prompt":""}', '{"prompt":null}', "{}",
    '{"prompt":"a","messages":[{"role":"user","content":"' + CANARY + '"}]}', '{"messages":[]}',
    '{"messages":[{"role":"robot","content":"' + CANARY + '"}]}', '{"messages":{"role":"user"}}',
    '{"prompt":"a","options":[]}', '{"prompt":"a","options":{"num_predict":"' + CANARY + '"}}',
    '{"prompt":"a","options":{"num_predict":1e400}}', '{"prompt":"a","options":{"temperature":"' + CANARY + '"}}',
    '{"prompt":"a","options":{"stop":[7]}}', '{"prompt":"a","model":7}', '{"prompt":"a","system":["' + CANARY + '"]}',
    '{"prompt":"a","format":"yaml"}', '{"prompt":"a","think":"' + CANARY + '"}',
    '{"prompt":"a","keep_alive":"300"}', '{"prompt":"a","cache":"' + CANARY + '"}', '{"prompt":"a","stream":true}',
])
def test_bad_body(curl, phones, body):
    before = sum(p.state()["requests"] for p in phones)
    got = curl("/ask", "--data-binary", body)
    assert got.status == 400, got
    assert got.error()
    assert CANARY not in got.body, "an error does not repeat what was sent"
    assert sum(p.state()["requests"] for p in phones) == before, "no phone was bothered"


@pytest.mark.parametrize("body, meant", [
    ({"promt": "x"}, "prompt"), ({"prompt": "x", "sistem": "y"}, "system"), ({"prompt": "x", "modle": "y"}, "model"),
    ({"prompt": "x", "options": {"num_predcit": 3}}, "num_predict"),
    ({"prompt": "x", "options": {"temprature": 0}}, "temperature")])
def test_unknown_field_names_the_nearest(curl, body, meant):
    got = curl("/ask", "-d", json.dumps(body))
    assert got.status == 400, got
    assert f'"{meant}"' in got.error()


@pytest.mark.parametrize("path", ["/ask", "/ask_stream"])
def test_unknown_model(curl, path):
    got = curl(path, "-d", json.dumps({"prompt": "x", "model": "llama9:900b"}))
    assert got.status == 404, got
    assert "qwen2.5:1.5b" in got.error(), "it lists the models there are"
    assert "x-phone" not in got.headers


def test_known_model_however_it_is_written(curl):
    assert curl("/ask", "-d", json.dumps({"prompt": fresh(), "model": "QWEN2.5:1.5B"})).status == 200


# ---- header fields


def test_keep_alive(curl, gateway):
    more = [word for path in ("/ask", "/health") for word in (gateway.url + path, "-o", "/dev/null")]
    got = curl("/ask", "-d", prompt(), *more)
    assert got.trace.count("Re-using existing connection") == 2, got.trace


def test_connection_close(curl):
    got = curl("/health", "-H", "Connection: close")
    assert got.status == 200
    assert got.headers["connection"].lower() == "close"
    assert "Closing connection" in got.trace


def test_http_1_0(curl):
    got = curl("/ask", "--http1.0", "-d", prompt())
    assert got.status == 200 and got.json()["message"]["content"] == counted(7), got


@pytest.mark.parametrize("given", ["a", "abc-123_X.y", "0" * 64])
def test_request_id_is_given_back(curl, gateway, given):
    mark = gateway.log.mark()
    got = curl("/ask", "-H", f"X-Request-Id: {given}", "-d", prompt())
    assert got.headers["x-request-id"] == given
    gateway.log.wait_for(rf"(?<![\w.-]){re.escape(given)}(?![\w.-])", start=mark)


@pytest.mark.parametrize("given", ["", "0" * 65, "a b", 'a"b', "a\\nb", "<script>", "a;b", "ä", "a/../b", "a{b}"])
def test_hostile_request_id_is_replaced(curl, given):
    got = curl("/ask", "-H", f"X-Request-Id: {given}" if given else "X-Request-Id;", "-d", prompt())
    assert got.status == 200, got
    assert got.headers["x-request-id"] != given
    assert REQUEST_ID.fullmatch(got.headers["x-request-id"])


def test_request_ids_differ(curl):
    assert len({curl(path).headers["x-request-id"] for path in ("/health", "/health", "/nothing")}) == 3


def test_cache_hit(curl, phones):
    body = prompt()
    first = curl("/ask", "-d", body)
    assert first.headers["x-cache"].lower() == "miss"
    before = sum(p.state()["requests"] for p in phones)
    second = curl("/ask", "-d", body)
    assert second.headers["x-cache"].lower() == "hit"
    assert second.headers["x-phone"] == first.headers["x-phone"]
    assert second.json()["pocketfleet"]["cached"] is True
    assert second.json()["message"] == first.json()["message"]
    assert sum(p.state()["requests"] for p in phones) == before


@pytest.mark.parametrize("path", ["/ask", "/ask_stream", "/ask_batch", "/warmup", "/health"])
@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1.evil.example"])
def test_foreign_origin(curl, phones, path, origin):
    """A page of somebody else's in the user's browser must neither ask nor read."""
    before = sum(p.state()["requests"] for p in phones)
    get = path == "/health"
    got = curl(path, "-H", f"Origin: {origin}", *([] if get else ["-d", prompt()]))
    assert got.status == 403, got
    assert "access-control-allow-origin" not in got.headers
    assert sum(p.state()["requests"] for p in phones) == before


def test_foreign_preflight(curl):
    got = curl("/ask", "-X", "OPTIONS", "-H", "Origin: https://evil.example", "-H",
               "Access-Control-Request-Method: POST")
    assert "access-control-allow-origin" not in got.headers


def test_own_origin(curl, gateway):
    assert curl("/ask", "-H", f"Origin: {gateway.url}", "-d", prompt()).status == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example"])
def test_foreign_host(curl, host):
    """DNS rebinding: a foreign name that leads here."""
    assert curl("/ask", "-H", f"Host: {host}", "-d", prompt()).status == 403


@pytest.mark.parametrize("host", ["localhost", "localhost:1234", "127.0.0.1", "[::1]:80"])
def test_own_host(curl, host):
    assert curl("/health", "-H", f"Host: {host}").status == 200
