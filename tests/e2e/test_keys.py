"""Who may ask: keys, what each allows, and browsers' pages."""
import json
import os
import pathlib
import re
import signal
import subprocess

import pytest

from client import Connection, counted, fresh, post, question, request
from harness import Gateway, program, until


def run(*arguments, **more):
    done = subprocess.run([program(), *map(str, arguments)], capture_output=True, text=True, timeout=60, **more)
    return done.returncode, done.stdout, done.stderr


class Keys:
    """A file with keys, and the keys themselves."""

    def __init__(self, folder):
        self.file = pathlib.Path(folder) / "keys.json"
        self.of = {}

    def new(self, name, *options):
        code, out, err = run("key", "new", "--file", self.file, "--name", name, *options)
        assert code == 0, err
        self.of[name] = out.strip()
        return self.of[name]

    def remove(self, name):
        code, _, err = run("key", "remove", "--file", self.file, name)
        assert code == 0, err


@pytest.fixture
def keys(tmp_path):
    return Keys(tmp_path)


def with_keys(start, keys, phones, **settings):
    """A gateway whose keys are in that file; asked as its first key."""
    return start.gateway(phones, {"api_keys_file": str(keys.file), **settings}, key=next(iter(keys.of.values())))


def asked(gateway, key=None, path="/ask", body=None, **headers):
    if key:
        headers["Authorization"] = f"Bearer {key}"
    body = question(tokens=3) if body is None else body
    return request(gateway.port, "POST", path, body, headers)


def test_a_key_is_shown_once_and_kept_as_a_digest(keys):
    key = keys.new("alice", "--rate", 60, "--concurrency", 2, "--model", "qwen2.5:1.5b", "--cache", "own")
    admin = keys.new("bob", "--admin")
    assert re.fullmatch(r"pf_[\w-]{43}", key) and key != admin
    assert keys.file.stat().st_mode & 0o777 == 0o600
    text = keys.file.read_text()
    assert key not in text and key[3:] not in text
    assert json.loads(text)["keys"][0]["name"] == "alice"
    code, out, _ = run("key", "list", "--file", keys.file)
    assert code == 0 and re.search(r"^alice +client +60 +2 +own +qwen2.5:1.5b$", out, re.M), out
    assert re.search(r"^bob +admin +- +- +shared +all$", out, re.M)
    code, out, _ = run("key", "list", "--file", keys.file, "--json")
    assert json.loads(out) == json.loads(text)
    keys.remove("alice")
    assert [k["name"] for k in json.loads(keys.file.read_text())["keys"]] == ["bob"]
    for wrong, why in ((["remove", "bob"], "the last key"), (["remove", "eve"], "no key of that name"),
                       (["new", "--name", "bob"], "a key of that name"), (["new", "--name", "a\tb"], "printable")):
        code, _, err = run("key", wrong[0], "--file", keys.file, *wrong[1:])
        assert code == 2 and why in err, err


def test_the_file_is_found_by_phones_json(keys, tmp_path):
    phones = tmp_path / "phones.json"
    phones.write_text(json.dumps({"gateway": {"api_keys_file": "keys.json"}, "phones": [{"host": "127.0.0.1"}]}))
    code, out, err = run("key", "new", "--phones", phones, "--name", "alice")
    assert code == 0 and out.startswith("pf_"), err
    assert run("check", phones)[0] == 0
    phones.write_text('[{"host":"127.0.0.1"}]')
    code, _, err = run("key", "new", "--phones", phones, "--name", "alice")
    assert code == 2 and "api_keys_file" in err


@pytest.mark.parametrize(("text", "place", "expected"), [
    ("[]", "", 'an object with "keys"'), ('{"keys":[]}', "keys: ", "at least one key"), ("{", "line 1, column", ""),
    ('{"keys":[{"name":"a"}]}', "keys[0].sha256", "a value"), ('{"keys":[7]}', "keys[0]", "an object"),
    ('{"keys":[{"name":"a","sha256":"secret-key-by-mistake"}]}', "keys[0].sha256", "64 digits"),
    ('{"keys":[{"name":"a","sha256":"%s","rate_per_minut":1}]}' % ("0a" * 32), "keys[0].rate_per_minut", "rate_per_minute"),
    ('{"keys":[{"name":"a","sha256":"%s"},{"name":"a","sha256":"%s"}]}' % ("0a" * 32, "0b" * 32), "keys[1].name", "no other"),
    ('{"keys":[{"name":"a","sha256":"%s"},{"name":"b","sha256":"%s"}]}' % ("0a" * 32, "0a" * 32), "keys[1].sha256", "once"),
])
def test_mistakes_in_the_file_are_told_with_their_place(keys, tmp_path, text, place, expected):
    keys.file.write_text(text)
    keys.file.chmod(0o600)
    phones = tmp_path / "phones.json"
    phones.write_text(json.dumps({"gateway": {"api_keys_file": "keys.json"}, "phones": [{"host": "127.0.0.1"}]}))
    code, _, err = run("check", phones)
    assert code == 2 and "gateway.api_keys_file" in err and place in err and expected in err, err
    assert "secret" not in err, "what stands there may be the key itself"


def test_files_that_others_can_read_are_refused(keys, tmp_path):
    keys.new("alice")
    phones = tmp_path / "phones.json"
    phones.write_text(json.dumps({"gateway": {"api_keys_file": "keys.json"}, "phones": [{"host": "127.0.0.1"}]}))
    assert run("check", phones)[0] == 0
    keys.file.chmod(0o640)
    code, _, err = run("check", phones)
    assert code == 2 and "chmod 600" in err


def test_a_key_is_needed(start, keys):
    alice, phones = keys.new("alice"), start.sim(1)
    gateway = with_keys(start, keys, phones)
    seen = phones[0].state()["requests"]
    for key in (None, "wrong", alice + "x", alice[:-1], "alice"):
        reply = asked(gateway, key)
        assert reply.status == 401 and reply.headers["WWW-Authenticate"] == "Bearer", reply
        assert reply.error() and alice not in reply.text()
    assert phones[0].state()["requests"] == seen
    for headers in ({"Authorization": f"Bearer {alice}"}, {"Authorization": f"bearer {alice}"}, {"X-API-Key": alice}):
        assert request(gateway.port, "POST", "/ask", question(tokens=3), headers).content() == counted(3)
    two = Connection(gateway.port)
    two.send(post("/ask", question(tokens=3), [f"Authorization: Bearer {alice}", "Authorization: Bearer wrong"]))
    assert two.head()[0] == 401, "whose it is cannot be told"
    assert request(gateway.port, "POST", f"/ask?api_key={alice}&key={alice}", question(tokens=3)).status == 401
    for path, form in (("/v1/chat/completions", lambda b: b["error"]["type"]), ("/v1/messages", lambda b: b["error"]["type"])):
        reply = request(gateway.port, "POST", path, {})
        assert reply.status == 401 and form(reply.json()) == "authentication_error", reply
    for path in ("/health", "/metrics", "/v1/models", "/api/tags", "/nowhere"):
        assert request(gateway.port, "GET", path).status == 401, path
        assert request(gateway.port, "GET", path, headers={"X-API-Key": alice}).status == (404 if path == "/nowhere" else 200)
    assert request(gateway.port, "GET", "/").text() == "Ollama is running"
    log = gateway.log.text()
    assert re.search(r"route=/ask key=alice .*outcome=ok", log) and "outcome=unauthorized" in log
    assert alice not in log and alice[3:] not in log


def test_the_body_of_a_stranger_is_not_waited_for(start, keys):
    keys.new("alice")
    gateway = with_keys(start, keys, start.sim(1))
    stranger = Connection(gateway.port)
    stranger.send(b"POST /ask HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3000000\r\n\r\n")
    assert stranger.head()[0] == 401


def test_guesses_are_limited(start, keys):
    alice = keys.new("alice")
    gateway = with_keys(start, keys, start.sim(1))
    replies = [asked(gateway, f"guess-{i}") for i in range(12)]
    assert [r.status for r in replies] == [401] * 10 + [429] * 2
    assert int(replies[-1].headers["Retry-After"]) >= 1
    assert asked(gateway, alice).status == 200, "who has a key is not locked out by a neighbour"


def test_so_many_a_minute(start, keys):
    alice, bob = keys.new("alice", "--rate", 600), keys.new("bob", "--rate", 2)
    gateway = with_keys(start, keys, start.sim(1))
    replies = [asked(gateway, bob) for _ in range(3)]
    assert [r.status for r in replies] == [200, 200, 429]
    assert 1 <= int(replies[2].headers["Retry-After"]) <= 30 and replies[2].headers["X-Should-Retry"] is None
    assert "2 times a minute" in replies[2].error()
    assert asked(gateway, alice).status == 200
    reply = request(gateway.port, "POST", "/v1/chat/completions", {}, {"Authorization": f"Bearer {bob}"})
    assert reply.status == 429 and reply.json()["error"]["type"] == "rate_limit_error", reply


def test_so_many_at_once(start, keys):
    bob, alice = keys.new("bob", "--concurrency", 1), keys.new("alice")
    gateway = with_keys(start, keys, [start.sim(1, decode_rate=20)[0].entry(max_concurrency=4)])
    stream = Connection(gateway.port)
    stream.send(post("/ask_stream", question(tokens=4000), [f"X-API-Key: {bob}"]))
    assert stream.head()[0] == 200
    second = asked(gateway, bob)
    assert second.status == 429 and second.headers["Retry-After"] == "1", second
    assert asked(gateway, alice).status == 200
    stream.close()
    until(lambda: asked(gateway, bob).status == 200, "its place is free when it leaves")


def watching(port, key):
    connection = Connection(port)
    connection.send(f"GET /events HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {key}\r\n\r\n")
    return connection.head()[0], connection


def test_who_watches_takes_no_place(start, keys):
    """A dashboard that is open costs no phone: the key's only request can still be made, and made while one runs."""
    bob, alice = keys.new("bob", "--concurrency", 1), keys.new("alice")
    gateway = with_keys(start, keys, [start.sim(1, decode_rate=20)[0].entry(max_concurrency=4)])
    open_ones = [watching(gateway.port, bob) for _ in range(16)]
    assert [status for status, _ in open_ones] == [200] * 16
    stream = Connection(gateway.port)
    stream.send(post("/ask_stream", question(tokens=4000), [f"X-API-Key: {bob}"]))
    assert stream.head()[0] == 200
    assert asked(gateway, bob).status == 429, "its place is taken by the stream"
    assert watching(gateway.port, bob)[0] == 503, "one more than a key may have"
    assert watching(gateway.port, alice)[0] == 200, "nobody else is kept out"
    open_ones[0][1].close()
    until(lambda: watching(gateway.port, bob)[0] == 200, "a free seat")
    for _, connection in open_ones:
        connection.close()
    stream.close()


def test_models(start, keys):
    """A key for some models: others are refused, and not shown; who names none gets the key's first."""
    alice = keys.new("alice")
    bob = keys.new("bob", "--model", "small:1b", "--model", "qwen2.5:1.5b")
    phone = start.sim(1, other_models="small:1b,large:7b")[0]
    gateway = with_keys(start, keys, [phone])
    assert asked(gateway, alice, body=question(tokens=3, model="large:7b")).status == 200
    for path, body in (("/ask", question(tokens=3, model="large:7b")), ("/api/show", {"model": "large:7b"}),
                       ("/v1/chat/completions", {"model": "large:7b", "messages": [{"role": "user", "content": "x"}]}),
                       ("/api/embed", {"model": "large:7b", "input": "x"}), ("/api/generate", {"model": "large:7b"}),
                       ("/v1/messages", {"model": "large:7b", "max_tokens": 3, "messages": [{"role": "user", "content": "x"}]}),
                       ("/v1/messages/count_tokens", {"model": "large:7b", "messages": [{"role": "user", "content": "x"}]}),
                       ("/warmup", {"model": "large:7b"})):
        before = phone.state()["requests"]
        reply = asked(gateway, bob, path, body)
        assert reply.status == 403 and "large" not in reply.text(), (path, reply)
        assert phone.state()["requests"] == before
    batch = asked(gateway, bob, "/ask_batch", {"requests": [question(tokens=3), question(tokens=3, model="large:7b")]})
    assert [r["ok"] for r in batch.json()["results"]] == [True, False]
    assert asked(gateway, bob, body=question(tokens=3, model="qwen2.5:1.5b")).status == 200
    assert asked(gateway, bob).json()["model"] == "small:1b"
    seen = {name: {m["id"] for m in request(gateway.port, "GET", "/v1/models", headers={"X-API-Key": key}).json()["data"]}
            for name, key in keys.of.items()}
    assert seen["bob"] == {"small:1b", "qwen2.5:1.5b"} and "large:7b" in seen["alice"]
    tags = request(gateway.port, "GET", "/api/tags", headers={"X-API-Key": bob}).json()["models"]
    assert {m["name"] for m in tags} == seen["bob"]
    assert request(gateway.port, "GET", "/v1/models/large:7b", headers={"X-API-Key": bob}).status == 404


def test_whose_answers_are_shared(start, keys):
    alice, carol = keys.new("alice"), keys.new("carol")
    own, alone = keys.new("own", "--cache", "own"), keys.new("alone", "--cache", "none")
    gateway = with_keys(start, keys, start.sim(1))
    body = question(fresh(), 3)

    def cached(key):
        return asked(gateway, key, body=body).headers["X-Cache"]

    assert [cached(alice), cached(carol)] == ["miss", "hit"]
    assert [cached(own), cached(own)] == ["miss", "hit"], "nobody else's, and its own"
    assert [cached(alone), cached(alone)] == ["bypass", "bypass"]


def test_reload(start, keys):
    alice, bob = keys.new("alice"), keys.new("bob")
    gateway = with_keys(start, keys, start.sim(1))
    carol = keys.new("carol")
    keys.remove("bob")
    assert asked(gateway, bob).status == 200 and asked(gateway, carol).status == 401
    gateway.signal(signal.SIGHUP)
    until(lambda: asked(gateway, carol).status == 200, "the new key")
    assert asked(gateway, bob).status == 401 and asked(gateway, alice).status == 200
    mark = gateway.log.mark()
    keys.file.write_text("{")
    gateway.signal(signal.SIGHUP)
    gateway.log.wait_for("the old fleet goes on", start=mark)
    assert asked(gateway, carol).status == 200 and asked(gateway, bob).status == 401


def test_beyond_loopback_only_with_keys(start, keys, tmp_path):
    phones = start.sim(1)
    file = tmp_path / "phones.json"
    file.write_text(json.dumps([phones[0].entry()]))
    code, _, err = run("serve", "--phones", file, "--listen", "0.0.0.0:0")
    assert code == 2 and "api_keys_file" in err and "allow_unauthenticated_lan" in err
    keys.new("root", "--admin")
    gateway = start.gateway(phones, {"api_keys_file": str(keys.file)}, listen="0.0.0.0:0", key=keys.of["root"])
    assert asked(gateway).status == 401, "an admin's key alone closes it to all others"
    assert asked(gateway, keys.of["root"]).status == 200


def test_an_admins_key_alone_changes_nothing_for_clients_of_this_machine(start, keys):
    keys.new("root", "--admin")
    gateway = start.gateway(start.sim(1), {"api_keys_file": str(keys.file)})
    assert asked(gateway).status == 200


def test_systemds_credential(start, keys, tmp_path):
    alice = keys.new("alice")
    keys.file.rename(tmp_path / "api_keys")
    gateway = start.gateway(start.sim(1), {"api_keys_file": "credential:api_keys"},
                            env={"CREDENTIALS_DIRECTORY": str(tmp_path)}, key=alice)
    assert asked(gateway).status == 401 and asked(gateway, alice).status == 200


# ---- pages in browsers


def test_pages_of_an_origin_that_may_ask(start, keys):
    alice = keys.new("alice")
    gateway = with_keys(start, keys, start.sim(1), origins=["https://app.example", "http://127.0.0.1:3000"])
    for origin, may in (("https://app.example", True), ("http://127.0.0.1:3000", True), ("https://app.example:444", False),
                        ("http://app.example", False), ("https://app.example.evil.example", False), ("null", False)):
        before = request(gateway.port, "OPTIONS", "/ask", headers={
            "Origin": origin, "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,content-type,x-stainless-lang"})
        reply = asked(gateway, alice, Origin=origin)
        assert (before.status, reply.status) == ((204, 200) if may else (403, 403)), (origin, before, reply)
        for got in (before, reply):
            assert got.headers["Access-Control-Allow-Origin"] == (origin if may else None)
            assert got.headers["Access-Control-Allow-Credentials"] is None
        if may:
            assert "POST" in before.headers["Access-Control-Allow-Methods"]
            assert before.headers["Access-Control-Allow-Headers"] == "authorization,content-type,x-stainless-lang"
            assert reply.headers["Vary"] == "Origin"
            refused = asked(gateway, None, Origin=origin)
            assert refused.status == 401 and refused.headers["Access-Control-Allow-Origin"] == origin, "so that it can read why"


def test_pages_of_other_sites(start):
    """What a browser says of itself without an Origin, and that a link may be followed."""
    gateway = start.gateway(start.sim(1))
    for headers, status in (({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, 403),
                            ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, 200),
                            ({"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"}, 200),
                            ({"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate"}, 200), ({}, 200)):
        reply = request(gateway.port, "GET", "/health", headers=headers)
        assert reply.status == status, (headers, reply)
        assert reply.headers["Access-Control-Allow-Origin"] is None
    reply = asked(gateway, None, **{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"})
    assert reply.status == 403, "a form of another site"
