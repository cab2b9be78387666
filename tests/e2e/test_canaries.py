"""What is secret or private has a mark, and the mark appears nowhere but where it belongs.

Prompts and header fields through every outcome, in text and JSON: test_log.py. Here also what phones answer, say of
their failures and are asked with, what operators send, and what files hold.
"""
import contextlib
import hashlib
import json
import threading

import pytest

import engines
from admin_side import NETWORKS
from client import Connection, request
from raw.phone import MODEL, HostilePhone, LlamaServer, Ollama, chunk, head

MARK = "canary5093"
PHONES_KEY = f"{MARK}-key-of-all-phones"
ONES_KEY = f"{MARK}-key-of-one-phone"
TOKEN = f"{MARK}-token-of-the-fleet"
CLIENTS_KEY = f"pf_{MARK}_of_a_client"
ADMINS_KEY = f"pf_{MARK}_of_an_admin"
WORD = f"{MARK}-answer".encode()


def secret(folder, name, text):
    file = folder / name
    file.write_text(text)
    file.chmod(0o600)
    return str(file)


def keys_file(folder, **more):
    keys = [{"name": name, "sha256": hashlib.sha256(key.encode()).hexdigest(), "role": role}
            for name, key, role in (("alice", CLIENTS_KEY, "client"), ("root", ADMINS_KEY, "admin"))]
    return secret(folder, "keys.json", json.dumps({"keys": keys, **more}))


# ---- what phones do


def headers(form, *fields):
    return head("200 OK", f"Content-Type: {form.type}", "Transfer-Encoding: chunked", *fields)


def good(phone):
    return lambda line: phone.good(line, (WORD, b" and ", WORD))


def broken_off(phone):
    def answer(line):
        line.send(headers(phone.form) + chunk(phone.form.piece(WORD)))
        line.close()
    return answer


def fault(status, kind, text):
    def made(phone):
        body = text.replace(b"MARK", MARK.encode())
        return lambda line: line.send(head(status, f"Content-Type: {kind}", f"Server: {MARK}-server", f"X-{MARK}: {MARK}",
                                           f"Location: http://{MARK}.example/", f"Content-Length: {len(body)}") + body)
    return made


def in_stream(frame):
    def made(phone):
        text = phone.form.frame(frame.replace(b"MARK", MARK.encode()))
        return lambda line: line.send(headers(phone.form) + chunk(phone.form.piece(WORD), b";" + MARK.encode())
                                      + chunk(text) + b"0\r\n" + f"X-{MARK}: {MARK}\r\n\r\n".encode())
    return made


def unsound(phone):
    def answer(line):
        line.send(f"HTTP/1.1 {MARK} {MARK}\r\n{MARK}\r\n\r\n".encode())
        line.close()
    return answer


DEEDS = {
    "good": good, "broken off": broken_off, "unsound": unsound,
    "500": fault("500 MARK", "application/json", b'{"error":{"code":500,"message":"MARK-why","type":"MARK"}}'),
    "400": fault("400 Bad Request", "application/json", b'{"error":"MARK-why"}'),
    "404": fault("404 Not Found", "application/json", b'{"error":"model MARK-model not found"}'),
    "401": fault("401 Unauthorized", "application/json", b'{"error":{"message":"Invalid API Key MARK"}}'),
    "503": fault("503 Service Unavailable", "application/json", b'{"error":"MARK is busy"}'),
    "redirect": fault("302 Found", "text/plain", b"MARK"), "html": fault("200 OK", "text/html", b"<p>MARK</p>"),
    "error in the stream": in_stream(b'{"error":{"code":500,"message":"MARK-why"}}'),
    "nonsense": in_stream(b'{"MARK":MARK'), "another object": in_stream(b'{"MARK":"MARK"}'),
}


@pytest.fixture
def phones():
    made = [HostilePhone(Ollama()), HostilePhone(LlamaServer())]
    yield made
    for phone in made:
        phone.close()


# ---- who looks on


class Onlooker:
    """All that /events says from now on, until the gateway ends."""

    def __init__(self, gateway):
        self.text = b""
        self._connection = Connection(gateway.port)
        self._connection.send(f"GET /events HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {CLIENTS_KEY}\r\n\r\n")
        assert self._connection.head()[0] == 200
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self):
        with contextlib.suppress(ConnectionError):
            for data in self._connection.chunks():
                self.text += data

    def all(self):
        self._thread.join(20)
        assert not self._thread.is_alive()
        return self.text.decode()


def whatever_comes(gateway, method, path, body, fields):
    """As text, header and all, until the gateway closes: streams may be cut."""
    with Connection(gateway.port) as connection:
        data = json.dumps(body) if body is not None else ""
        lines = [f"{name}: {value}" for name, value in {"Host": "localhost", "Connection": "close", **fields}.items()]
        connection.send("\r\n".join([f"{method} {path} HTTP/1.1", f"Content-Length: {len(data)}", *lines]) + f"\r\n\r\n{data}")
        return connection.rest().decode()


def ask_everything(gateway):
    """On every route that asks a model, with the mark wherever a client may write."""
    fields = {"X-API-Key": CLIENTS_KEY, "Cookie": MARK, "User-Agent": MARK, "Referer": f"http://{MARK}.example",
              "X-Request-Id": f"{MARK} id", "traceparent": f"00-{MARK}", "X-Forwarded-For": MARK}
    said = {"role": "user", "content": f"{MARK}-said"}
    tool = {"type": "function", "function": {"name": f"{MARK}_tool", "parameters": {"type": "object"}}}
    for path, body in (
            ("/ask", {"prompt": f"{MARK}-prompt", "system": f"{MARK}-system", "cache": False}),
            ("/ask_stream", {"messages": [said]}), ("/ask_batch", {"prompts": [f"{MARK}-item", f"{MARK}-another"]}),
            ("/v1/chat/completions", {"model": MODEL, "messages": [said], "tools": [tool], "user": MARK}),
            ("/v1/chat/completions", {"model": MODEL, "messages": [said], "stream": True, "metadata": {MARK: MARK}}),
            ("/v1/completions", {"model": MODEL, "prompt": f"{MARK}-text"}),
            ("/v1/embeddings", {"model": MODEL, "input": f"{MARK}-text"}),
            ("/v1/messages", {"model": MODEL, "max_tokens": 5, "messages": [said]}),
            ("/api/chat", {"model": MODEL, "messages": [said], "options": {MARK: 1}}),
            ("/api/generate", {"model": MODEL, "prompt": f"{MARK}-prompt", "suffix": MARK}),
            ("/api/show", {"model": f"{MARK}-model"}), ("/warmup", {"model": f"{MARK}-model"}),
            ("/api/pull", {"model": f"{MARK}-model"})):
        yield whatever_comes(gateway, "POST", path, body, fields)
    yield whatever_comes(gateway, "GET", f"/v1/models/{MARK}?{MARK}", None, fields)
    yield whatever_comes(gateway, "GET", f"/ui/{MARK}", None, {})
    for wrong in ({"Authorization": f"Bearer {MARK}-guess"}, {"Authorization": f"Basic {MARK}"}, {"X-API-Key": MARK}):
        yield whatever_comes(gateway, "POST", "/ask", {"prompt": MARK}, wrong)
        yield whatever_comes(gateway, "GET", "/admin/phones", None, wrong)
    for token in (TOKEN, f"{MARK}-guess"):
        beat = {"id": "pf-unknown", "battery": {"level": f"{MARK}-level"}, MARK: MARK}
        yield whatever_comes(gateway, "POST", "/fleet/heartbeat", beat, {"Authorization": f"Bearer {token}"})


def operate_with_everything(gateway):
    """What an operator may send, right and wrong. The mark is in what is no name and no address."""
    def admin(method, path, body=None):
        return request(gateway.port, method, "/admin/" + path, body, {"X-API-Key": ADMINS_KEY})

    sound = {"host": "127.0.0.1", "port": 9, "name": "added"}
    for body in ({**sound, "token_sha256": f"{MARK}-token"}, {**sound, "api_key": f"{MARK}-key"}, {**sound, MARK: 1},
                 {**sound, "api_key_file": f"../{MARK}"}, {**sound, "api_key_file": f"{MARK}.key"}, {**sound, "id": f"{MARK} id"},
                 {**sound, "weight": f"{MARK}-weight"}, {**sound, "host": f"http://user:{MARK}@10.0.0.1/"}, [MARK], f'{{"{MARK}'):
        reply = admin("POST", "phones", body)
        assert reply.status == 400, (body, reply)
    reply = admin("POST", "phones", {**sound, "id": "pf-added", "api_key_file": "one.key", "token_sha256": hashlib.sha256(b"x").hexdigest()})
    assert reply.status == 201 and MARK not in reply.text(), reply
    for method, path, body in (("PATCH", "phones/added", {"weight": MARK}), ("PATCH", "phones/added", {MARK: MARK}),
                               ("POST", "phones/added/breaker", {"state": MARK}), ("POST", "phones/added/breaker", f"[{MARK}"),
                               ("POST", f"phones/{MARK}/drain", None), ("DELETE", f"phones/{MARK}", None),
                               ("POST", f"phones/added/{MARK}", None), ("POST", "reload", {MARK: MARK})):
        assert admin(method, path, body).status in (200, 400, 404), path
    assert admin("DELETE", "phones/added").status == 200
    return admin("GET", "phones").text()


def reread_everything(gateway, folder, entries):
    """Files with secrets in the wrong places: the mistakes are told, and what stands there is not."""
    for wrong in ({"token_sha256": f"{MARK}-token"}, {"host": f"http://user:{MARK}@10.0.0.1"}, {"host": f"user:{MARK}@10.0.0.1"}):
        mark = gateway.log.mark()
        gateway.write([*entries, {"host": "10.0.0.9", **wrong}])
        assert request(gateway.port, "POST", "/admin/reload", headers={"X-API-Key": ADMINS_KEY}).status == 422
        gateway.log.wait_for("the file is not taken", start=mark)
    gateway.write(entries)
    whole = (folder / "keys.json").read_text()
    itself = f"pf_{MARK}"
    for wrong in ({"keys": [{"name": "eve", "sha256": itself}]}, {"keys": itself}, {"keys": [itself]}, itself, {itself: "eve"}):
        for text in (json.dumps(wrong), json.dumps(wrong).replace('"', "")):
            (folder / "keys.json").write_text(text)
            assert request(gateway.port, "POST", "/admin/reload", headers={"X-API-Key": ADMINS_KEY}).status == 422
    (folder / "keys.json").write_text(whole)
    (folder / "all.key").write_text(f"{MARK} two words")
    assert request(gateway.port, "POST", "/admin/reload", headers={"X-API-Key": ADMINS_KEY}).status == 422
    (folder / "all.key").write_text(PHONES_KEY)
    assert request(gateway.port, "POST", "/admin/reload", headers={"X-API-Key": ADMINS_KEY}).status == 200


@pytest.mark.parametrize(("form", "level"), [("text", "trace"), ("json", "trace"), ("journal", "trace"), ("text", "debug"),
                                             ("json", "info"), ("text", "warning"), ("journal", "error")])
def test_the_mark_is_nowhere(start, phones, tmp_path, form, level):
    keys_file(tmp_path)
    secret(tmp_path, "all.key", PHONES_KEY)
    settings = {"log_format": form, "log_level": level, "api_keys_file": str(tmp_path / "keys.json"),
                "phone_api_key_file": str(tmp_path / "all.key"), "registration": "known", "phone_networks": NETWORKS,
                "fleet_token_file": secret(tmp_path, "fleet.token", TOKEN), "breaker_failures": 1000, "token_timeout_s": 1,
                "queue_wait_s": 1, "probe_interval_s": 0.5, "retry_floor": 100, "cache": "never"}
    entries = [phones[0].entry(id="pf-one"), phones[1].entry(api_key_file=secret(tmp_path, "one.key", ONES_KEY))]
    # At levels that leave out the line about the port it has to be known before.
    gateway = start.gateway(entries, settings, key=CLIENTS_KEY, listen=f"127.0.0.1:{engines.free_port()}")
    secret(gateway.file.parent, "one.key", ONES_KEY)
    onlooker = Onlooker(gateway)
    own = []
    for deed in DEEDS.values():
        for phone in phones:
            phone.answer = deed(phone)
        own += ask_everything(gateway)
    assert any(WORD.decode() in text for text in own), "phones have answered with the mark"
    assert phones[0].keys == {f"Bearer {PHONES_KEY}"} and phones[1].keys == {f"Bearer {ONES_KEY}"}
    seen = {"admin": operate_with_everything(gateway)}
    reread_everything(gateway, tmp_path, entries)
    seen |= {path: request(gateway.port, "GET", path, headers={"X-API-Key": CLIENTS_KEY}).text()
             for path in ("/health", "/metrics", "/v1/models", "/api/tags", "/api/ps", "/healthz", "/readyz")}
    others = request(gateway.port, "POST", "/ask", {"prompt": "x", "model": "none"}, {"X-API-Key": CLIENTS_KEY})
    seen["another's error"] = others.text()
    gateway.stop()
    seen["/events"], seen["log"] = onlooker.all(), gateway.log.text()
    assert "fleet" in seen["/events"] and (level in ("error", "warning") or len(gateway.log.lines()) > 100)
    for where, text in seen.items():
        for private in (MARK, *(hashlib.sha256(key.encode()).hexdigest() for key in (CLIENTS_KEY, ADMINS_KEY))):
            at = text.find(private)
            assert at < 0, (where, text[max(0, at - 300):at + 200])
