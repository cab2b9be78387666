"""Random requests in the dialects of other tools, before fleets of either engine and of both. What is right is
answered in the dialect, or refused by the name of a field that it has; what reaches a phone holds all that was asked.
What is wrong is refused in the dialect, without a word of the client's, and no phone is troubled with it.
"""
import json
import random
import re

import pytest

from client import counted, fresh, request

SEED = 20261121
CANARY = "c4n4ry"

OPENAI, TEXT = "/v1/chat/completions", "/v1/completions"
CHAT, GENERATE = "/api/chat", "/api/generate"
ANTHROPIC = "/v1/messages"
ROUTES = [OPENAI, TEXT, CHAT, GENERATE, ANTHROPIC]

# Ollama's names, llama-server's, and how to make one.
OPTIONS = [
    ("num_predict", "max_tokens", lambda r: r.randint(1, 9)),
    ("temperature", "temperature", lambda r: r.choice([0, 0.5, 1, 1.25])),
    ("seed", "seed", lambda r: r.choice([0, 7, 2**32 - 1])),
    ("top_p", "top_p", lambda r: r.choice([0.5, 1])),
    ("top_k", "top_k", lambda r: r.randint(1, 90)),
    ("min_p", "min_p", lambda r: r.choice([0, 0.125])),
    ("presence_penalty", "presence_penalty", lambda r: r.choice([-1, 0.5])),
    ("frequency_penalty", "frequency_penalty", lambda r: r.choice([-1.5, 0.25])),
    ("repeat_penalty", "repeat_penalty", lambda r: 1.125),
    ("stop", "stop", lambda r: r.choice([["nothing"], ["a", "b\n"], ["\u2028"]])),
]
OF_ANTHROPIC = {"num_predict": "max_tokens", "temperature": "temperature", "top_p": "top_p", "top_k": "top_k",
                "stop": "stop_sequences"}
LLAMA_NAMES = {ollama: llama for ollama, llama, _ in OPTIONS}
PIECES = ["a word", "Gr\u00fc\u00dfe", "\U0001f600", "\u2028\u2029", "\"quoted\"", "back\\slash", "\n\n", "\t",
          "\x01\x1f", "{\"a\": [1]}", "data: [DONE]\n\n", "</s><|im_end|>", " ", "\ufffd", "0", "null"]
SCHEMA = {"type": "object", "properties": {"answer": {"type": "string"}}, "required": ["answer"]}


def words(r):
    return "".join(r.choice(PIECES) for _ in range(r.randint(1, 4)))


def tool(r):
    parameters = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    return {"type": "function", "function": {"name": r.choice(["count_to", "f-1"]), "description": words(r),
                                             "parameters": parameters}}


class Asked:
    """A request, and what of it any engine has to be told."""

    def __init__(self, r, route):
        self.route, self.body = route, {"model": r.choice(["tiny", "Tiny", "tiny:latest"])}
        self.messages, self.prompt, self.options = [], None, {}
        self.format = self.think = self.tools = None
        self.calls = []  # (name, arguments) of earlier turns
        self.ask(r)
        if r.random() < 0.5:
            self.body["stream"] = r.random() < 0.5
        for ollama, llama, make in OPTIONS:
            if r.random() < 0.3 and (route != ANTHROPIC or ollama in OF_ANTHROPIC):
                self.set_option(r, ollama, llama, make(r))
        if route == ANTHROPIC:
            self.set_option(r, "num_predict", "max_tokens", 5)
        if route in (OPENAI, CHAT) and r.random() < 0.3:
            self.tools = self.body["tools"] = [tool(r) for _ in range(r.randint(1, 2))]
            self.forget_limits()
        elif route != ANTHROPIC and route != TEXT and r.random() < 0.3:
            self.ask_for_json(r)
        if r.random() < 0.3:
            self.ask_for_thinking(r)
        if r.random() < 0.25:
            self.body.update(r.choice(self.of_the_dialect()))
        names = list(self.body)
        r.shuffle(names)
        self.body = {name: self.body[name] for name in names}

    # ---- the parts

    def ask(self, r):
        system = words(r) if r.random() < 0.4 else None
        if self.route == TEXT:
            self.prompt = self.body["prompt"] = words(r)
        elif self.route == GENERATE:
            self.body["prompt"] = words(r)
            if r.random() < 0.3:
                self.body["raw"], self.prompt = True, self.body["prompt"]
            else:
                if system:
                    self.body["system"] = system
                    self.messages.append(("system", system))
                self.messages.append(("user", self.body["prompt"]))
        else:
            said = []
            if system and self.route == ANTHROPIC:
                self.body["system"] = system
                self.messages.append(("system", system))
            elif system:
                role = r.choice(["system", "developer"]) if self.route == OPENAI else r.choice(["system", "System"])
                said.append({"role": role, "content": system})
                self.messages.append(("system", system))
            for i in range(r.randint(0, 2)):
                said += self.turn(r, i)
            said.append(self.message(r, "user", words(r)))
            self.body["messages"] = said

    def message(self, r, role, text):
        """In one of the forms that there are."""
        self.messages.append((role, text))
        if self.route != CHAT and r.random() < 0.3:
            return {"role": role, "content": [{"type": "text", "text": text}]}
        return {"role": role, "content": text}

    def turn(self, r, i):
        said = [self.message(r, "user", words(r))]
        if self.route == ANTHROPIC or r.random() < 0.6:
            return said + [self.message(r, "assistant", words(r))]
        name, arguments, result = "count_to", {"n": r.randint(1, 9), "text": words(r)}, words(r)
        self.calls.append((name, arguments))
        self.messages += [("assistant", ""), ("tool", result)]
        if self.route == OPENAI:
            call = {"id": f"call_{i}", "type": "function",
                    "function": {"name": name, "arguments": json.dumps(arguments)}}
            return said + [{"role": "assistant", "content": None, "tool_calls": [call]},
                           {"role": "tool", "tool_call_id": f"call_{i}", "content": result}]
        call = {"function": {"name": name, "arguments": arguments}}
        return said + [{"role": "assistant", "content": "", "tool_calls": [call]},
                       {"role": "tool", "tool_name": name, "content": result}]

    def set_option(self, r, ollama, llama, value):
        self.options[ollama] = value
        if self.route in (CHAT, GENERATE):
            self.body.setdefault("options", {})[ollama] = value
        elif self.route == ANTHROPIC:
            self.body[OF_ANTHROPIC[ollama]] = value
        else:
            name = "max_completion_tokens" if ollama == "num_predict" and r.random() < 0.5 else llama
            self.body[name] = value[0] if ollama == "stop" and len(value) == 1 else value

    def forget_limits(self):
        """They would cut a call, or JSON."""
        for name in ("stop", "num_predict", "max_tokens", "max_completion_tokens"):
            self.body.pop(name, None)
            self.options.pop(name, None)
            self.body.get("options", {}).pop(name, None)

    def ask_for_json(self, r):
        self.forget_limits()
        self.format = r.choice(["json", SCHEMA])
        if self.route != OPENAI:
            self.body["format"] = self.format
        elif self.format == "json":
            self.body["response_format"] = {"type": "json_object"}
        else:
            self.body["response_format"] = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}

    def ask_for_thinking(self, r):
        if self.route in (CHAT, GENERATE):
            self.think = self.body["think"] = r.choice([True, False, "high"])
        elif self.route == OPENAI:
            self.think, name, value = r.choice([
                ("high", "reasoning_effort", "high"), (False, "reasoning_effort", "none"),
                (True, "chat_template_kwargs", {"enable_thinking": True})])
            self.body[name] = value

    def of_the_dialect(self):
        """What only engines that speak it can be asked."""
        if self.route in (CHAT, GENERATE):
            return [{"keep_alive": "10m"}, {"keep_alive": 0}, {"logprobs": True}, {"truncate": True},
                    {"newer": {"a": 1}}, {"keep_alive": None}, {"shift": False}]
        if self.route == ANTHROPIC:
            return [{"metadata": {"user_id": "u"}}, {"newer": {"a": 1}}]
        return [{"user": "u"}, {"metadata": {"a": "b"}}, {"cache_prompt": False}, {"newer": [1, {"a": None}]},
                {"logit_bias": [[7, -100]]}, {"logprobs": None}, {"samplers": ["top_k"]}]

    @property
    def streams(self):
        return self.body.get("stream", self.route in (CHAT, GENERATE))


# ---- what a phone is sent


def text_of(content):
    if isinstance(content, list):
        assert all(set(part) == {"type", "text"} and part["type"] == "text" for part in content), content
        return "\n".join(part["text"] for part in content)
    return content or ""


def conversation(messages):
    roles = {"developer": "system"}
    return [(roles.get(m["role"].lower(), m["role"].lower()), text_of(m.get("content"))) for m in messages]


def assert_sent(asked, phone, got):
    """That the request is sound for that engine, and all there."""
    assert got["method"] == "POST"
    body = json.loads(got["body"], object_pairs_hook=unique)
    assert body["model"].lower().removesuffix(":latest") == "tiny" and body["stream"] is True
    if phone.engine == "ollama":
        assert_sent_to_ollama(asked, got["path"], body)
    else:
        assert_sent_to_llama(asked, got["path"], body)


def unique(pairs):
    assert len({name for name, _ in pairs}) == len(pairs), pairs
    return dict(pairs)


def assert_sent_to_ollama(asked, path, body):
    if asked.route == ANTHROPIC:
        assert_sent_as_it_is(asked, path, body)
        return
    assert path == ("/api/generate" if asked.prompt is not None or asked.route == GENERATE else "/api/chat")
    if asked.prompt is not None:
        assert body["prompt"] == asked.prompt and body["raw"] is True
    elif path == "/api/generate":
        assert (body.get("system"), body["prompt"]) == (dict(asked.messages).get("system"), asked.messages[-1][1])
    else:
        assert conversation(body["messages"]) == asked.messages
        assert all(isinstance(m.get("content", ""), str) for m in body["messages"])
        calls = [c["function"] for m in body["messages"] for c in m.get("tool_calls", [])]
        assert [(c["name"], c["arguments"]) for c in calls] == asked.calls
    assert body.get("options", {}) == asked.options
    assert body.get("format") == asked.format
    assert body.get("think") == asked.think
    assert body.get("tools") == asked.tools
    known = {"model", "stream", "messages", "prompt", "raw", "options", "format", "think", "tools"}
    assert asked.route in (CHAT, GENERATE) or set(body) <= known, "nothing that it does not know"
    if asked.route in (CHAT, GENERATE):
        given = {name for name, value in asked.body.items() if value is not None}
        assert given <= set(body) | {"stream"}, "nothing is lost"


def assert_sent_as_it_is(asked, path, body):
    assert path == "/v1/messages"
    assert body == {**asked.body, "stream": True, "model": body["model"]}


def assert_sent_to_llama(asked, path, body):
    if asked.route == ANTHROPIC:
        assert_sent_as_it_is(asked, path, body)
        return
    assert body["stream_options"] == {"include_usage": True}
    if asked.prompt is not None:
        assert (path, body["prompt"]) == ("/v1/completions", asked.prompt)
    else:
        assert path == "/v1/chat/completions"
        assert conversation(body["messages"]) == asked.messages
        calls, answered = [], []
        for m in body["messages"]:
            calls += m.get("tool_calls") or []
            answered += [m["tool_call_id"]] if m["role"] == "tool" else []
        assert [(c["function"]["name"], json.loads(c["function"]["arguments"])) for c in calls] == asked.calls
        assert [c["id"] for c in calls] == answered and all(c["type"] == "function" for c in calls)
    for name, value in asked.options.items():
        sent = body[LLAMA_NAMES[name]]
        assert ([sent] if isinstance(sent, str) else sent) == value, name
    expected = {"json": {"type": "json_object"}, None: None}.get(
        asked.format if asked.format in ("json", None) else "schema", "schema")
    if expected == "schema":
        assert body["response_format"]["json_schema"]["schema"] == asked.format
    else:
        assert body.get("response_format") == expected
    if isinstance(asked.think, bool) and "reasoning_effort" not in asked.body:
        assert body["chat_template_kwargs"] == {"enable_thinking": asked.think}
    assert body.get("tools") == asked.tools
    if asked.route in (OPENAI, TEXT):
        left = {k: v for k, v in asked.body.items() if k not in ("model", "stream")}
        assert left.items() <= {**body, **{k: left[k] for k in left if left[k] is None}}.items() or \
            all(body.get(k) == v for k, v in left.items()), "in the client's own words"


# ---- what comes back


def events(reply, named=False):
    assert reply.headers["Content-Type"] == "text/event-stream", reply
    *blocks, rest = reply.text().split("\n\n")
    assert not rest
    found = []
    for block in blocks:
        name, _, data = block.rpartition("data: ")
        assert "\n" not in data and name in ([f"event: {json.loads(data)['type']}\n"] if named else [""]), block
        found.append(data if data == "[DONE]" else json.loads(data))
    return found


def assert_answer(asked, reply):
    {OPENAI: openai_answer, TEXT: openai_answer, CHAT: ollama_answer, GENERATE: ollama_answer,
     ANTHROPIC: anthropic_answer}[asked.route](asked, reply)
    assert re.fullmatch(r"[\w.-]+", reply.headers["X-Request-Id"])
    assert reply.headers["X-Cache"] in ("hit", "miss", "bypass")


def assert_said(asked, text, calls, reason):
    if asked.tools and asked.messages[-1][0] != "tool":
        assert [(c["name"], c["arguments"]) for c in calls] == [(asked.tools[0]["function"]["name"], {"n": 3})]
    elif asked.format:
        assert not calls
        assert json.loads(text) == {"answer": "1 2 3"}
    else:
        assert not calls
        numbers = [int(n) for n in text.split()]
        if numbers:
            assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
        else:
            assert reason in ("length", "max_tokens"), "all of them went into the reasoning"
    assert reason in ("stop", "length", "tool_calls", "end_turn", "max_tokens")


def openai_answer(asked, reply):
    chat = asked.route == OPENAI
    if not asked.streams:
        body = reply.json()
        choice = body["choices"][0]
        assert body["object"] == ("chat.completion" if chat else "text_completion") and len(body["choices"]) == 1
        assert body["usage"]["total_tokens"] == body["usage"]["prompt_tokens"] + body["usage"]["completion_tokens"]
        message = choice["message"] if chat else {"content": choice["text"]}
    else:
        *chunks, done = events(reply)
        assert done == "[DONE]" and not any("error" in chunk for chunk in chunks)
        assert len({chunk["id"] for chunk in chunks}) == 1
        choices = [chunk["choices"][0] for chunk in chunks]
        assert [c["finish_reason"] is None for c in choices] == [True] * (len(choices) - 1) + [False]
        choice, message = choices[-1], {"content": "", "tool_calls": []}
        assert not chat or [("role" in c["delta"]) for c in choices] == [True] + [False] * (len(choices) - 1)
        for c in choices:
            message["content"] += (c["delta"].get("content") if chat else c["text"]) or ""
            for delta in c.get("delta", {}).get("tool_calls", []):
                if delta["index"] == len(message["tool_calls"]):
                    message["tool_calls"].append({"id": delta["id"], "function": {"name": "", "arguments": ""}})
                for name, part in delta["function"].items():
                    message["tool_calls"][delta["index"]]["function"][name] += part
    calls = message.get("tool_calls") or []
    assert all(call["id"] for call in calls)
    assert_said(asked, message["content"], [{"name": c["function"]["name"], "arguments": json.loads(
        c["function"]["arguments"])} for c in calls], choice["finish_reason"])


def ollama_answer(asked, reply):
    assert reply.headers["Content-Type"] == ("application/x-ndjson" if asked.streams else "application/json"), reply
    if asked.streams:
        assert reply.text().endswith("\n")
    lines = [json.loads(line) for line in reply.text().removesuffix("\n").split("\n")]
    assert asked.streams or len(lines) == 1
    assert [line["done"] for line in lines] == [False] * (len(lines) - 1) + [True]
    assert not any("error" in line for line in lines)
    assert {line["model"] for line in lines} == {asked.body["model"]}
    messages = [line["message"] if asked.route == CHAT else {"content": line["response"]} for line in lines]
    assert_said(asked, "".join(m["content"] for m in messages),
                [call["function"] for m in messages for call in m.get("tool_calls", [])], lines[-1]["done_reason"])
    assert lines[-1]["eval_count"] > 0 and lines[-1]["total_duration"] > 0


def anthropic_answer(asked, reply):
    if not asked.streams:
        body = reply.json()
        assert (body["type"], body["role"]) == ("message", "assistant")
        text, reason = "".join(block.get("text", "") for block in body["content"]), body["stop_reason"]
    else:
        found = events(reply, named=True)
        types = [event["type"] for event in found]
        assert types[0] == "message_start" and types[-2:] == ["message_delta", "message_stop"]
        text = "".join(e["delta"].get("text", "") for e in found if e["type"] == "content_block_delta")
        reason = found[-2]["delta"]["stop_reason"]
    assert_said(asked, text, [], reason)


# ---- refusals


def message_of(route, reply):
    """The text of a refusal in the form of the route."""
    assert reply.headers["Content-Type"] == "application/json", reply
    assert reply.headers["X-Request-Id"], reply
    body = reply.json()
    if route in (CHAT, GENERATE):
        assert set(body) == {"error"}, body
        text = body["error"]
    elif route == ANTHROPIC:
        assert set(body) == {"type", "error", "request_id"} and body["type"] == "error", body
        assert body["request_id"] == reply.headers["X-Request-Id"]
        text = body["error"]["message"]
    else:
        assert set(body) == {"error"} and set(body["error"]) == {"message", "type", "param", "code"}, body
        text = body["error"]["message"]
    assert isinstance(text, str) and text
    return text


def assert_names_a_field(asked, text):
    path = text.partition(": ")[0]
    assert re.fullmatch(r"[\w.\[\]]+", path), text
    value = asked.body
    for step in re.findall(r"\w+", path):
        value = value[int(step)] if isinstance(value, list) else value[step]


# ---- tests


@pytest.fixture(scope="module", params=["ollama", "llama-server", "both"])
def fleet(request, start_once):
    engines = ["ollama", "llama-server"] if request.param == "both" else [request.param]
    phones = [start_once.sim(1, engine, model="tiny", answer_tokens=6, reasoning=2)[0] for engine in engines]
    gateway = start_once.gateway(phones, {"cache": "never"})
    gateway.kind, gateway.phones = request.param, {phone.name: phone for phone in phones}
    return gateway


def requests_of(gateway):
    return {name: phone.state()["requests"] for name, phone in gateway.phones.items()}


@pytest.mark.parametrize("route", ROUTES)
def test_what_is_right(fleet, route):
    r = random.Random(f"{SEED} {fleet.kind} {route}")
    answered = 0
    for i in range(60):
        asked = Asked(r, route)
        before = requests_of(fleet)
        reply = request(fleet.port, "POST", route, json.dumps(asked.body), {"Content-Type": "application/json"})
        context = f"{i}: {json.dumps(asked.body)}\n{reply}"
        try:
            if reply.status == 200:
                answered += 1
                phone = fleet.phones[reply.headers["X-Phone"]]
                assert_sent(asked, phone, phone.last())
                assert_answer(asked, reply)
            else:
                text = message_of(route, reply)
                assert reply.status == 400
                assert requests_of(fleet) == before
                assert fleet.kind != "both", "there is always one that can"
                assert_names_a_field(asked, text)
        except (AssertionError, KeyError, ValueError, IndexError, TypeError) as e:
            raise AssertionError(f"{e!r}\n{context}") from e
    assert answered > 20


@pytest.mark.parametrize("more", [{}, {"tools": [tool(random.Random(SEED))]}, {"top_logprobs": 2}])
@pytest.mark.parametrize("route", [CHAT, GENERATE])
def test_ollamas_logprobs(start, route, more):
    """As the phone's stream has them: of reasoning, of text, of calls."""
    phone = start.sim(1, "ollama", model="tiny", answer_tokens=4, reasoning=2)[0]
    gateway = start.gateway([phone])
    asked = {"messages": [{"role": "user", "content": fresh()}]} if route == CHAT else {"prompt": fresh()}

    def lines(port, stream):
        body = {"model": "tiny", **asked, **more, "logprobs": True, "stream": stream}
        return [json.loads(line) for line in request(port, "POST", route, body).text().splitlines()]

    def entries(lines):
        return [entry for line in lines for entry in line.get("logprobs", [])]

    def said(lines):
        return [{name: line.get(name, line.get("message", {}).get(name)) for name in
                 ("thinking", "content", "response", "logprobs")} for line in lines]

    straight, through = lines(phone.port, True), lines(gateway.port, True)
    assert entries(straight)
    assert entries(lines(gateway.port, False)) == entries(through) == entries(straight)
    if "tools" not in more:  # their call stands in the last line, not in the one before it
        assert said(through) == said(straight)


WRONG = {
    "model": [7, [CANARY], {CANARY: 1}, CANARY * 50],
    "stream": [CANARY, 1, [CANARY], {CANARY: CANARY}],
}
WRONG_MESSAGES = [CANARY, 7, {CANARY: CANARY}, [CANARY], [[CANARY]], [None], [{}], [{"content": CANARY}],
                  [{"role": CANARY, "content": CANARY}], [{"role": "user", "content": 7}],
                  [{"role": "user", "content": {"text": CANARY}}], [{"role": ["user"], "content": CANARY}]]
WRONG_OPTIONS = {"temperature": [CANARY, [CANARY], {CANARY: 1}, True], "seed": [CANARY, 1.5, 2**63, -2, [CANARY]],
                 "top_p": [CANARY, True], "top_k": [CANARY, 1.5, {CANARY: 1}]}
EACH_WRONG_OPTION = [{name: value} for name, values in WRONG_OPTIONS.items() for value in values]
WRONG_TOOLS = [CANARY, 7, {CANARY: 1}, [CANARY], [{"type": "function"}], [{"type": "function", "function": CANARY}],
               [{"type": "function", "function": {"name": 7, "description": CANARY}}],
               [{"type": "function", "function": {"name": "f", "parameters": CANARY}}]]
WRONG_IN = {
    OPENAI: {**WRONG, **WRONG_OPTIONS, "messages": [*WRONG_MESSAGES, []], "tools": WRONG_TOOLS,
             "max_tokens": [CANARY, 1.5, 2**40, True], "stop": [7, [CANARY, 7], {CANARY: 1}, [""]],
             "n": [0, 17, CANARY, 1.5], "tool_choice": [CANARY, 7], "stream_options": [CANARY, [CANARY]],
             "response_format": [CANARY, {}, {"type": CANARY}, {"type": "json_schema", "json_schema": {CANARY: 1}}],
             "reasoning_effort": [CANARY, 7]},
    TEXT: {**WRONG, **WRONG_OPTIONS, "prompt": [7, True, {CANARY: 1}, [], [CANARY, 7], [[CANARY]], [[]], [None]],
           "max_tokens": [CANARY, 1.5, 2**40], "stop": [7, [CANARY, 7], [""]], "n": [0, 17, CANARY]},
    CHAT: {**WRONG, "messages": WRONG_MESSAGES, "tools": WRONG_TOOLS, "format": [CANARY, 7, [CANARY]],
           "think": [CANARY, 7, [CANARY]], "keep_alive": [CANARY, True, {CANARY: 1}],
           "options": [CANARY, 7, [CANARY], *EACH_WRONG_OPTION]},
    GENERATE: {**WRONG, "prompt": [7, [CANARY], {CANARY: 1}], "system": [7, [CANARY]], "raw": [CANARY, 1],
               "images": [CANARY, [7], [""]], "context": [CANARY, [CANARY]], "format": [CANARY, 7],
               "options": [CANARY, [CANARY], *EACH_WRONG_OPTION]},
    ANTHROPIC: {**WRONG, "messages": [*WRONG_MESSAGES, []], "system": [7, {CANARY: 1}, [CANARY]],
                "max_tokens": [CANARY, 1.5, 2**40], "stop_sequences": [7, [7]], "temperature": [CANARY, True],
                "top_k": [1.5, CANARY], "tools": [CANARY, {CANARY: 1}]},
}


def right(route):
    if route in (TEXT, GENERATE):
        return {"model": "tiny", "prompt": CANARY}
    return {"model": "tiny", "max_tokens": 3, "messages": [{"role": "user", "content": CANARY}]} if route == ANTHROPIC \
        else {"model": "tiny", "messages": [{"role": "user", "content": CANARY}]}


def wrong_bodies(route):
    """Bytes that are no sound request of that route."""
    for name, values in WRONG_IN[route].items():
        for value in values:
            yield json.dumps({**right(route), name: value}).encode()
    text = json.dumps(right(route))
    inside = text[:-1]
    r = random.Random(f"{SEED} {route}")
    for cut in sorted(r.sample(range(len(text)), 12)):
        yield text[:cut].encode()
    for more in (f', "{CANARY}": NaN', ', "temperature": Infinity', ', "top_p": 1e999', ', "seed": 01', ', "x": .5',
                 f', "model": "{CANARY}"', f', "{CANARY}": 1, "{CANARY}": 2', ', "x": "\\ud800"', ', "x": "\\x41"',
                 f', "x": {{"{CANARY}": 1, "{CANARY}": 1}}', f', "x": "{CANARY}\n"', ", 'x': 1", ', "x": 1,',
                 f', {CANARY}: 1', f', "x": {"[" * 5000}{"]" * 5000}', f'}} {CANARY} {{',
                 ', "x": ' + '{"a":' * 3000 + "1" + "}" * 3000):
        yield (inside + more + "}").encode()
    for bad in (b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf5\x80\x80\x80"):
        yield inside.encode() + b', "x": "' + CANARY.encode() + bad + b'"}'
        yield text.encode().replace(CANARY.encode(), CANARY.encode() + bad)
    yield from (b"null", b"[]", b"7", json.dumps(CANARY).encode(), b"[" + text.encode() + b"]",
                b"\xef\xbb\xbf" + text.encode(), text.encode() * 2, text.encode("utf-16"), b"\0" + text.encode(), b" ",
                b"[" * 100000)


@pytest.mark.parametrize("route", ROUTES)
def test_what_is_wrong(fleet, route):
    before = requests_of(fleet)
    said = []
    for body in wrong_bodies(route):
        reply = request(fleet.port, "POST", route, body, {"Content-Type": "application/json"})
        try:
            assert 400 <= reply.status < 500
            assert CANARY not in message_of(route, reply).lower()
            assert CANARY not in str(reply.headers).lower()
        except (AssertionError, KeyError, ValueError) as e:
            said.append(f"{e!r}\n{body[:300]}\n{reply}")
    assert not said, f"{len(said)} of them:\n" + "\n\n".join(said)
    assert requests_of(fleet) == before, "a phone was asked"
    assert fleet.running()


@pytest.mark.parametrize("route", ROUTES)
def test_what_may_be_wrong(fleet, route):
    """Requests with some bytes changed: answered or refused, by the gateway or by the phone."""
    r = random.Random(f"{SEED} {fleet.kind} {route} changed")
    statuses = set()
    for _ in range(60):
        body = bytearray(json.dumps(Asked(r, route).body).encode())
        for _ in range(r.randint(1, 3)):
            at = r.randrange(len(body))
            body[at:at + r.randint(0, 2)] = r.choice([b"", b'"', b"{", b"]", b",", b"0", b"\\", b"null", b"\x80", b"-"])
        reply = request(fleet.port, "POST", route, bytes(body), {"Content-Type": "application/json"})
        statuses.add(reply.status)
        if reply.status != 200:
            message_of(route, reply)
            assert reply.status < 500, (body, reply)
    assert 400 in statuses


# ---- which questions are the same


@pytest.fixture(scope="module")
def caching(start_once):
    """Gateways that differ in what they keep, before the same two phones."""
    phones = [start_once.sim(1, engine, model="tiny", answer_tokens=4)[0] for engine in ("ollama", "llama-server")]
    return {cache: start_once.gateway(phones, {"cache": cache}) for cache in ("always", "everywhere", "deterministic")}


def kept(gateway, route, body):
    whole = {} if route == "/ask" else {"stream": False}
    reply = request(gateway.port, "POST", route, {"model": "tiny", **whole, **body})
    assert reply.status == 200, reply
    return reply.headers["X-Cache"]


def forms(system, prompt, **options):
    """A question in every dialect that can share its answer."""
    messages = [{"role": "system", "content": system}, {"role": "user", "content": prompt}]
    openai = {("max_tokens" if name == "num_predict" else name): value for name, value in options.items()}
    return {
        "/ask": {"system": system, "prompt": prompt, "options": options},
        OPENAI: {"messages": messages, **openai},
        CHAT: {"messages": messages, "options": options},
        GENERATE: {"system": system, "prompt": prompt, "options": options},
    }


@pytest.mark.parametrize("first", ["/ask", OPENAI, CHAT, GENERATE])
@pytest.mark.parametrize("options", [{"temperature": 0}, {"temperature": 0.0, "num_predict": 3}, {"seed": 7}])
def test_one_answer_for_all_dialects(caching, first, options):
    asked = forms("be brief", fresh(), **options)
    assert kept(caching["always"], first, asked[first]) == "miss"
    for _ in range(2):
        for route, body in asked.items():
            assert kept(caching["always"], route, body) == "hit", route
    assert kept(caching["always"], OPENAI, {**asked[OPENAI], "user": "u", "top_logprobs": None}) == "hit"


def test_what_is_not_the_same(caching):
    prompt = fresh()
    user = {"messages": [{"role": "user", "content": prompt}], "temperature": 0}
    cool = {"options": {"temperature": 0}}
    tools = [tool(random.Random(SEED))]
    different = [
        (OPENAI, user),
        (TEXT, {"prompt": prompt, "temperature": 0}),
        (OPENAI, {**user, "tools": tools}),
        (OPENAI, {**user, "tools": tools, "tool_choice": "none"}),
        (OPENAI, {**user, "tools": tools, "tool_choice": "required"}),
        (OPENAI, {**user, "tools": tools, "parallel_tool_calls": False}),
        (OPENAI, {**user, "response_format": {"type": "json_object"}}),
        (OPENAI, {**user, "response_format": {"type": "json_schema", "json_schema": {"schema": SCHEMA}}}),
        (OPENAI, {**user, "logprobs": True}),
        (OPENAI, {**user, "logprobs": True, "top_logprobs": 2}),
        (OPENAI, {**user, "seed": 1}),
        (OPENAI, {**user, "max_tokens": 2}),
        (OPENAI, {**user, "stop": " 2"}),
        (OPENAI, {**user, "reasoning_effort": "none"}),
        (OPENAI, {**user, "grammar": "root ::= \"x\""}),
        (OPENAI, {**user, "grammar": "root ::= \"y\""}),
        (OPENAI, {"messages": [{"role": "system", "content": prompt}], "temperature": 0}),
        (OPENAI, {"messages": user["messages"] * 2, "temperature": 0}),
        (CHAT, {"messages": user["messages"], **cool, "logprobs": True}),
        (GENERATE, {"prompt": prompt, **cool, "template": "{{ .Prompt }}"}),
        (GENERATE, {"prompt": prompt, **cool, "system": "be brief"}),
        (ANTHROPIC, {"messages": user["messages"], "temperature": 0, "max_tokens": 9}),
    ]
    assert [kept(caching["always"], *each) for each in different] == ["miss"] * len(different)
    assert [kept(caching["always"], *each) for each in different] == ["hit"] * len(different)
    same = [(GENERATE, {"prompt": prompt, "raw": True, **cool}),
            (CHAT, {"messages": user["messages"], **cool, "format": "json"}),
            (CHAT, {"messages": user["messages"], **cool, "tools": tools})]
    assert [kept(caching["always"], *each) for each in same] == ["hit"] * len(same)


def test_several_choices(caching):
    """Each is a question of its own; the first is the one that is asked alone."""
    body = {"messages": [{"role": "user", "content": fresh()}], "seed": 5}
    assert kept(caching["always"], OPENAI, {**body, "n": 3}) == "miss"
    assert kept(caching["always"], OPENAI, {**body, "n": 3}) == "hit"
    for seed, expected in ((5, "hit"), (6, "hit"), (7, "hit"), (8, "miss")):
        assert kept(caching["always"], OPENAI, {**body, "seed": seed}) == expected


@pytest.mark.parametrize("cache, expected", [
    ("always", {"/ask": "hit"}),
    ("everywhere", {"/ask": "hit", OPENAI: "hit", CHAT: "hit", GENERATE: "hit"}),
    ("deterministic", {}),
])
def test_what_is_kept_of_answers_by_chance(caching, cache, expected):
    for options in ({}, {"temperature": 0.7}, {"seed": -1}):
        for route in ("/ask", OPENAI, CHAT, GENERATE):
            body = forms("be brief", fresh(), **options)[route]
            kept(caching[cache], route, body)
            assert kept(caching[cache], route, body) == expected.get(route, "bypass"), (route, options)


def test_kept_answers_fit_their_dialect(caching):
    """Of one that another dialect has asked for, whole and as a stream."""
    gateway = caching["always"]
    for first in ("/ask", OPENAI, CHAT, GENERATE):
        asked = forms("be brief", fresh(), temperature=0)
        kept(gateway, first, asked[first])
        for route in (OPENAI, CHAT, GENERATE):
            for stream in (False, True):
                what = Asked.__new__(Asked)
                what.route, what.body = route, {"model": "tiny", "stream": stream, **asked[route]}
                what.tools = what.format = None
                reply = request(gateway.port, "POST", route, what.body)
                assert reply.headers["X-Cache"] == "hit"
                assert_answer(what, reply)
                assert counted(4) in reply.text() or stream
