"""What holds in every dialect: streams that are whole or say that they are not, rescue, keepalives, names, keys.

What the clients' own libraries make of it: test_clients.py. What real engines say to the same: test_differential.py.
"""
import json

import pytest

import client
import dialects
from client import counted, request
from harness import until
from raw.phone import HostilePhone, LlamaServer, chunk, head

ALL = pytest.mark.parametrize("dialect", dialects.ALL, ids=repr)
QUICK = {"probe_interval_s": 0.2, "breaker_open_s": 1, "slow_start_s": 0}


def fresh():
    """Text that does not end in a number: a raw prompt would be counted on from there."""
    return client.fresh() + ", if you like"


BOTH = pytest.mark.parametrize(("dialect", "engine"),
                               [(d, e) for d in dialects.ALL for e in ("ollama", "llama-server")], ids=str)


@BOTH
def test_whole_and_streamed(start, dialect, engine):
    gateway = start.gateway(start.sim(1, engine, decode_rate=1000))
    reply = dialects.ask(gateway, dialect, fresh(), 7)
    assert reply.status == 200 and dialect.whole(reply) == counted(7), reply
    assert reply.headers["X-Request-Id"] and reply.headers["X-Phone"]
    got = dialects.stream(gateway, dialect, fresh(), 7).finish()
    assert got.done() and got.text() == counted(7), got.raw
    assert got.headers["Content-Type"] == ("text/event-stream" if dialect.sse else "application/x-ndjson")


@BOTH
@pytest.mark.parametrize("kind", ["reset_after", "truncated", "silent_after", "error_in_stream"])
def test_another_phone_goes_on(start, dialect, engine, kind):
    """A phone breaks off in the middle of a stream: the client sees one answer without a gap."""
    phones = start.sim(3, engine, decode_rate=500)
    gateway = start.gateway(phones, {**QUICK, "token_timeout_s": 1})
    phones[0].fault(kind, after_tokens=9, times=1)
    for _ in range(3):  # each has its turn
        got = dialects.stream(gateway, dialect, fresh(), 40).finish()
        assert got.done() and got.text() == counted(40), got.raw
        assert got.error() is None
    assert gateway.metric("pocketfleet_rescues_total", outcome="ok") == 1


@ALL
def test_a_stream_that_nobody_can_go_on_with_says_so(start, dialect):
    """An error in the dialect's own form, and then no proper end: two signs, so that none is taken for whole."""
    phone = start.sim(1, "llama-server", decode_rate=500)[0]
    gateway = start.gateway([phone], {"rescues": 0})
    phone.fault("reset_after", after_tokens=5, times=1)
    got = dialects.stream(gateway, dialect, fresh(), 40).finish()
    assert got.text() == counted(5)
    assert got.error() and got.whole is False, got.raw
    assert not dialect.done(got.raw)


@ALL
def test_keepalives(start, dialect):
    """A client that waits hears something, and nothing that its library would stumble over."""
    phone = start.sim(1, "llama-server", decode_rate=500)[0]
    gateway = start.gateway([phone], {"keepalive_s": 0.1, "rescues": 0, "attempts": 1, "first_token_timeout_s": 30})
    phone.fault("hang", times=1)
    got = dialects.stream(gateway, dialect, fresh(), 5)
    got.begun(200 if dialect.sse is False else 30)
    if dialect.sse:
        assert set(got.raw.split(b"\n")) == {b": keepalive", b""}, got.raw
    else:
        for line in dialect.objects(got.raw):
            assert line["done"] is False and "error" not in line
            assert (line["response"] if "response" in line else line["message"]["content"]) == ""
    got.connection.reset()
    gateway.idle()


@pytest.mark.parametrize("dialect", dialects.ALL[:2], ids=repr)
def test_openai_streams_have_no_event_and_no_id_lines(start, dialect):
    gateway = start.gateway(start.sim(1, decode_rate=1000))
    raw = dialects.stream(gateway, dialect, fresh(), 5).finish().raw
    starts = {line.split(b":")[0] for line in raw.split(b"\n") if line}
    assert starts == {b"data"}
    roles = [o for o in dialect.objects(raw) if o["choices"][0].get("delta", {}).get("role")]
    assert len(roles) == (1 if dialect.name == "openai chat" else 0), "one role frame"


@ALL
def test_unknown_models_and_bad_fields(start, dialect):
    gateway = start.gateway(start.sim(1, "llama-server"))
    for body, status in [({"model": "nobody-has-it"}, 404), ({"messages": 7, "prompt": 7}, 400),
                         ({"stream": "yes"}, 400), ({"temperature": "hot", "options": {"temperature": "hot"}}, 400)]:
        reply = request(gateway.port, "POST", dialect.path, {**dialect.body("x", 3), **body})
        assert reply.status == status, reply
        told = reply.json()["error"]
        if dialect.path.startswith("/api"):
            assert isinstance(told, str) and told
            continue
        assert told["message"] and told["type"]
        if dialect.name == "anthropic":
            assert reply.json()["type"] == "error" and reply.json()["request_id"] == reply.headers["X-Request-Id"]
        else:
            assert set(told) == {"message", "type", "param", "code"}
    assert gateway.health()[0]["breaker"] == "closed"


@ALL
def test_when_no_phone_is_left(start, dialect):
    """Worth asking again: 503 and when. Every phone has been tried: not worth it, and said to the libraries."""
    phone = start.sim(1, "llama-server")[0]
    gateway = start.gateway([phone], {"breaker_failures": 1, "attempts": 1, "breaker_open_s": 5})
    phone.fault("error_500", times=1)
    reply = dialects.ask(gateway, dialect, fresh(), 3)
    assert reply.status == 502 and reply.headers["X-Should-Retry"] == "false", reply
    reply = dialects.ask(gateway, dialect, fresh(), 3)
    assert reply.status == 503 and int(reply.headers["Retry-After"]) >= 1, reply
    assert reply.headers["X-Should-Retry"] is None


@ALL
def test_a_clients_key_stays_here(start, dialect):
    phone = start.sim(1, "llama-server")[0]
    gateway = start.gateway([phone])
    headers = {"Authorization": "Bearer sk-secret-of-the-client", "X-Api-Key": "sk-secret-of-the-client",
               "X-Stainless-Lang": "js", "OpenAI-Organization": "org-secret", "X-Conversation-Id": "7"}
    assert dialects.ask(gateway, dialect, fresh(), 3, headers=headers).status == 200
    seen = json.dumps(phone.last()).lower()
    for word in ("secret", "stainless", "conversation"):
        assert word not in seen
    assert "sk-secret" not in gateway.log.text()


@BOTH
def test_fields_that_would_be_lost_are_named(start, dialect, engine):
    """An engine that speaks the dialect gets what it alone may know; for another one the field is refused."""
    phone = start.sim(1, engine)[0]
    gateway = start.gateway([phone])
    seen = phone.state()["requests"]
    reply = dialects.ask(gateway, dialect, fresh(), 3, a_field_of_tomorrow={"x": 1})
    speaks = dialect.name == "anthropic" or dialect.name.startswith("ollama") == (engine == "ollama")
    if speaks:
        assert reply.status == 200, reply
        assert json.loads(phone.last()["body"])["a_field_of_tomorrow"] == {"x": 1}
    else:
        assert reply.status == 400 and b"a_field_of_tomorrow" in reply.body, reply
        assert phone.state()["requests"] == seen


def test_phones_of_the_other_engine_are_passed_over(start):
    """In a mixed fleet a field that one engine alone has leads there, every time."""
    ollama, llama = start.sim(1, "ollama")[0], start.sim(1, "llama-server")[0]
    gateway = start.gateway([ollama, llama])
    chat, generate = dialects.ALL[0], dialects.ALL[3]
    for _ in range(4):
        reply = dialects.ask(gateway, chat, fresh(), 3, logit_bias={"7": 1})
        assert reply.status == 200 and reply.headers["X-Phone"] == llama.name
        reply = dialects.ask(gateway, generate, fresh(), 3, template="{{ .Prompt }}")
        assert reply.status == 200 and reply.headers["X-Phone"] == ollama.name


def test_a_model_that_does_not_think(start):
    """The same name, two engines: the one whose model refuses to think is passed over, and blamed for nothing."""
    ollama, llama = start.sim(1, "ollama")[0], start.sim(1, "llama-server")[0]
    gateway = start.gateway([ollama, llama])
    for _ in range(4):
        reply = dialects.ask(gateway, dialects.ALL[0], fresh(), 3, reasoning_effort="low")
        assert reply.status == 200 and reply.headers["X-Phone"] == llama.name, reply
    assert gateway.phone(ollama.name)["breaker"] == "closed"
    alone = start.gateway([ollama])
    reply = dialects.ask(alone, dialects.ALL[0], fresh(), 3, reasoning_effort="low")
    assert reply.status == 400 and reply.json()["error"]["param"] == "think", reply


def test_anthropic_is_for_recent_ollama(start):
    """From 0.14 on Ollama serves it. An older one is never asked, and blamed for nothing; alone it means 501."""
    old, new = start.sim(1, "ollama", messages="false")[0], start.sim(1, "ollama")[0]
    alone, both = start.gateway([old]), start.gateway([old, new])
    seen = old.state()["requests"]
    for stream in (False, True):
        reply = dialects.ask(alone, dialects.ALL[4], fresh(), 3, stream=stream)
        assert reply.status == 501 and reply.json()["error"]["type"] == "not_supported_error", reply
        assert "from 0.14 on" in reply.json()["error"]["message"]
    for _ in range(4):
        reply = dialects.ask(both, dialects.ALL[4], fresh(), 3)
        assert reply.status == 200 and reply.headers["X-Phone"] == new.name, reply
    assert old.state()["requests"] == seen and both.phone(old.name)["breaker"] == "closed"
    assert dialects.ask(alone, dialects.ALL[2], fresh(), 3).status == 200


def test_ollama_counts_no_tokens(start):
    gateway = start.gateway(start.sim(1, "ollama"))
    reply = request(gateway.port, "POST", "/v1/messages/count_tokens", dialects.ALL[4].body("x", 1))
    assert reply.status == 501 and reply.json()["type"] == "error", reply


def test_a_choice_of_tools_that_ollama_would_not_heed(start):
    """Ollama reads no tool_choice: the phone that does is asked; without one the field is refused by its name."""
    ollama, llama = start.sim(1, "ollama")[0], start.sim(1, "llama-server")[0]
    both, alone = start.gateway([ollama, llama]), start.gateway([ollama])
    tools = [{"name": "look_up", "input_schema": {"type": "object"}}]
    for _ in range(4):
        reply = dialects.ask(both, dialects.ALL[4], fresh(), 60, tools=tools, tool_choice={"type": "any"})
        assert reply.status == 200 and reply.headers["X-Phone"] == llama.name, reply
    reply = dialects.ask(alone, dialects.ALL[4], fresh(), 60, tools=tools, tool_choice={"type": "any"})
    assert reply.status == 400 and "tool_choice" in reply.json()["error"]["message"], reply
    assert dialects.ask(alone, dialects.ALL[4], fresh(), 60, tools=tools, tool_choice={"type": "auto"}).status == 200


def test_anthropics_model_that_no_phone_has(start):
    """A phone that has lost the model says so in the layer's own form of an error."""
    gateway = start.gateway(start.sim(1, "ollama"))
    reply = dialects.ask(gateway, dialects.ALL[4], fresh(), 3, model="no-such-model")
    assert reply.status == 404 and reply.json()["error"]["type"] == "not_found_error", reply


@pytest.mark.parametrize("engine", ["ollama", "llama-server"])
def test_choices(start, engine):
    """`n` answers come from as many phones, in their order, whole and interleaved in a stream."""
    phones = start.sim(3, engine, decode_rate=300)
    gateway = start.gateway(phones)
    body = dialects.ALL[0].body(fresh(), 12, n=3, seed=7)
    reply = request(gateway.port, "POST", "/v1/chat/completions", body)
    choices = reply.json()["choices"]
    assert [c["index"] for c in choices] == [0, 1, 2]
    assert [c["message"]["content"] for c in choices] == [counted(12)] * 3
    assert reply.json()["usage"]["completion_tokens"] == 36
    seeds = {json.loads(p.last()["body"])["seed"] if engine == "llama-server" else
             json.loads(p.last()["body"])["options"]["seed"] for p in phones}
    assert seeds == {7, 8, 9}, "each its own, or all would say the same"
    got = dialects.stream(gateway, dialects.ALL[0], fresh(), 12, n=3, stream_options={"include_usage": True}).finish()
    assert got.done()
    texts = ["", "", ""]
    for o in dialects.ALL[0].objects(got.raw):
        for c in o["choices"]:
            texts[c["index"]] += c["delta"].get("content") or ""
    assert texts == [counted(12)] * 3
    prompts = {"prompt": ["a", "b"], "max_tokens": 4, "n": 2}
    reply = request(gateway.port, "POST", "/v1/completions", prompts)
    assert [c["text"] for c in reply.json()["choices"]] == [counted(4)] * 4
    for n in (0, 17, "2", 1.5, -1):
        assert request(gateway.port, "POST", "/v1/chat/completions", {**body, "n": n}).status == 400


def test_one_of_several_choices_fails(start):
    phones = start.sim(2, "llama-server", decode_rate=300)
    gateway = start.gateway(phones, {"rescues": 0, "attempts": 1, "breaker_failures": 100})
    phones[1].fault("reset_after", after_tokens=4, times=1)
    got = dialects.stream(gateway, dialects.ALL[0], fresh(), 30, n=2).finish()
    assert got.whole is False and got.error(), "not one half of an answer without a word"
    phones[0].fault("error_500", times=1)
    reply = dialects.ask(gateway, dialects.ALL[0], fresh(), 30, n=2)
    assert reply.status == 502, reply
    gateway.idle()


@pytest.mark.parametrize("path", ["/api/generate", "/api/chat"])
def test_a_model_is_loaded_and_unloaded(start, path):
    phones = start.sim(2, "ollama")
    gateway = start.gateway(phones, {"probe_interval_s": 0.2})
    model = gateway.health()[0]["model"]
    reply = request(gateway.port, "POST", path, {"model": model, "keep_alive": "10m"})
    assert reply.status == 200 and reply.json()["done_reason"] == "load" and reply.json()["done"] is True, reply
    until(lambda: any(model in p["loaded"] for p in gateway.health()), "it to be seen in memory")
    reply = request(gateway.port, "POST", path, {"model": model, "keep_alive": 0, "stream": False})
    assert reply.json()["done_reason"] == "unload", reply
    until(lambda: not any(p["loaded"] for p in gateway.health()), "it to be gone from all")
    assert request(gateway.port, "POST", path, {"model": "nobody-has-it"}).status == 404
    assert request(gateway.port, "POST", path, b"").status == 400


def test_options_that_reload_are_left_out_and_named(start):
    phone = start.sim(1, "ollama")[0]
    gateway = start.gateway([phone])
    reply = dialects.ask(gateway, dialects.ALL[2], fresh(), 3, options={"num_ctx": 8192, "num_thread": 4, "seed": 1})
    assert reply.status == 200 and reply.headers["X-Ignored-Options"] == "num_ctx, num_thread"
    assert json.loads(phone.last()["body"])["options"] == {"num_predict": 3, "seed": 1}
    passing = start.gateway([phone], {"load_options": "pass"})
    reply = dialects.ask(passing, dialects.ALL[2], fresh(), 3, options={"num_ctx": 8192})
    assert reply.headers["X-Ignored-Options"] is None
    assert json.loads(phone.last()["body"])["options"]["num_ctx"] == 8192


@pytest.mark.parametrize(("dialect", "engine"),
                         [(d, e) for d in dialects.ALL for e in ("ollama", "llama-server")
                          if d.name in ("openai chat", "ollama chat", "anthropic")], ids=str)
def test_tools_and_reasoning(start, dialect, engine):
    gateway = start.gateway(start.sim(1, engine, reasoning=4, decode_rate=1000))
    tool = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}
    if dialect.name == "anthropic":
        tool = {"name": "look_up", "input_schema": {"type": "object"}}
    whole = dialects.ask(gateway, dialect, fresh(), 60, tools=[tool]).json()
    raw = dialects.stream(gateway, dialect, fresh(), 60, tools=[tool]).finish()
    assert raw.done(), raw.raw
    seen = dialect.objects(raw.raw)
    if dialect.name == "openai chat":
        choice = whole["choices"][0]
        call = choice["message"]["tool_calls"][0]
        assert choice["finish_reason"] == "tool_calls" and choice["message"]["reasoning_content"], choice
        assert call["function"]["name"] == "look_up" and json.loads(call["function"]["arguments"]) == {"n": 3}
        assert call["id"] and call["type"] == "function"
        deltas = [d for o in seen for c in o["choices"] for d in c["delta"].get("tool_calls", [])]
        assert json.loads("".join(d["function"].get("arguments", "") for d in deltas)) == {"n": 3}
        assert seen[-1]["choices"][0]["finish_reason"] == "tool_calls"
    elif dialect.name == "ollama chat":
        call = whole["message"]["tool_calls"][0]
        assert call["function"]["name"] == "look_up" and call["function"]["arguments"] == {"n": 3}
        assert whole["message"]["thinking"] and whole["done_reason"] == "stop"
        calls = [c for o in seen for c in o["message"].get("tool_calls", [])]
        assert [c["function"]["arguments"] for c in calls] == [{"n": 3}]
    else:
        kinds = [block["type"] for block in whole["content"]]
        assert kinds == ["thinking", "tool_use"] and whole["stop_reason"] == "tool_use", whole
        assert whole["content"][1]["input"] == {"n": 3} and whole["content"][1]["name"] == "look_up"
        parts = [o["delta"]["partial_json"] for o in seen if o.get("delta", {}).get("type") == "input_json_delta"]
        assert json.loads("".join(parts)) == {"n": 3}


def test_a_long_call_of_a_tool(start):
    """Ollama's clients get a call whole, at its end: who has nothing to read until then does not read slowly."""
    form = LlamaServer()
    phone = HostilePhone(form)
    delta = (b'{"choices":[{"finish_reason":null,"index":0,"delta":{"tool_calls":[{"index":0,'
             b'"function":{"arguments":"%s"}}]}}]}')
    first = (b'{"choices":[{"finish_reason":null,"index":0,"delta":{"tool_calls":[{"index":0,"id":"c","type":"function",'
             b'"function":{"name":"look_up","arguments":"{\\"n\\":\\""}}]}}]}')
    parts = [first] + [delta % b"abcd"] * 2000 + [delta % b'\\"}']

    def answer(line):
        line.send(head("200 OK", f"Content-Type: {form.type}", "Transfer-Encoding: chunked"))
        for part in parts:
            line.send(chunk(form.frame(part)))
        return line.send(chunk(form.last()) + b"0\r\n\r\n")

    phone.answer = answer
    try:
        gateway = start.gateway([phone.entry()], {"token_timeout_s": 2, "request_timeout_s": 10})
        tool = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}
        got = dialects.stream(gateway, dialects.ALL[2], fresh(), 60, tools=[tool]).finish()
        assert got.done(), got.raw[-500:]
        calls = [c for o in dialects.ALL[2].objects(got.raw) for c in o["message"].get("tool_calls", [])]
        assert [c["function"]["arguments"] for c in calls] == [{"n": "abcd" * 2000}]
        gateway.stop()
    finally:
        phone.close()


@pytest.mark.parametrize("engine", ["ollama", "llama-server"])
def test_the_result_of_a_tool_reaches_the_model(start, engine):
    """A second turn, in each dialect: names and ids are joined as the phone's engine wants them."""
    phone = start.sim(1, engine)[0]
    gateway = start.gateway([phone])
    tool = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}
    openai = [{"role": "user", "content": "three?"},
              {"role": "assistant", "content": None, "tool_calls": [
                  {"id": "call_a", "type": "function", "function": {"name": "look_up", "arguments": "{\"n\":3}"}}]},
              {"role": "tool", "tool_call_id": "call_a", "content": "three"}]
    ollama = [{"role": "user", "content": "three?"},
              {"role": "assistant", "content": "", "tool_calls": [
                  {"function": {"name": "look_up", "arguments": {"n": 3}}}]},
              {"role": "tool", "tool_name": "look_up", "content": "three"}]
    for path, messages in [("/v1/chat/completions", openai), ("/api/chat", ollama)]:
        body = {"messages": messages, "tools": [tool], "stream": False}
        reply = request(gateway.port, "POST", path, body)
        assert reply.status == 200, reply
        sent = json.loads(phone.last()["body"])["messages"]
        call, result = sent[1]["tool_calls"][0], sent[2]
        assert result["content"] == "three" and result["role"] == "tool"
        if engine == "ollama":
            assert call["function"]["arguments"] == {"n": 3} and result["tool_name"] == "look_up"
        else:
            assert json.loads(call["function"]["arguments"]) == {"n": 3}
            assert call["id"] == result["tool_call_id"] and call["id"]


def test_an_image_reaches_both_engines(start):
    pixel = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII="
    parts = [{"type": "text", "text": "what?"},
             {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{pixel}"}}]
    for engine in ("ollama", "llama-server"):
        phone = start.sim(1, engine)[0]
        gateway = start.gateway([phone])
        reply = request(gateway.port, "POST", "/v1/chat/completions", {"messages": [{"role": "user", "content": parts}]})
        if engine == "ollama":
            assert reply.status == 200, reply
            message = json.loads(phone.last()["body"])["messages"][0]
            assert message == {"role": "user", "content": "what?", "images": [pixel]}
        reply = request(gateway.port, "POST", "/v1/chat/completions", {"messages": [{"role": "user", "content": [
            {"type": "image_url", "image_url": {"url": "http://192.0.2.1/a.png"}}]}]})
        assert reply.status == 400 or engine == "llama-server", reply


def test_refusals_of_the_connection_speak_the_dialect_too(start):
    """What is refused before a handler has seen it: too large, no such path, no such method."""
    gateway = start.gateway(start.sim(1))
    for path in ("/v1/chat/completions", "/v1/messages", "/api/chat"):
        reply = request(gateway.port, "GET", path)
        assert reply.status == 405
        told = reply.json()["error"]
        assert isinstance(told, str) == path.startswith("/api"), reply
        assert ("request_id" in reply.json()) == (path == "/v1/messages")
    assert request(gateway.port, "GET", "/v1/nothing").json()["error"]["code"] == "not_found"
    assert isinstance(request(gateway.port, "GET", "/api/nothing").json()["error"], str)
