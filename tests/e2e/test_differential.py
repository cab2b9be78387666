"""The same requests sent straight to a real llama-server and through the gateway: the answers are equal, field by
field, but for what DIFFERENCES names. Whole answers and streams, chat and plain text, on two models: one that counts,
and one with random weights, whose words depend on everything in the context.

A phone has one slot, and each request is sent to it twice before the gateway sends it: so both find the same cache of
the prompt in it, and even the counts of cached tokens have to agree.
"""
import fnmatch
import json

import pytest

from client import request
from engines import LlamaServer, make_model

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"

# (place, what may differ, why). "value": both have it, of one type. "missing": the gateway may leave it out. "chunk":
# the whole event. A place is a path in an answer, or behind "event." in an event of a stream; [] is any index.
DIFFERENCES = [
    ("*created", "value", "the time of the answer"),
    ("id", "value", "the gateway's own"),
    ("event.id", "value", "the gateway's own"),
    ("*timings.*_ms", "value", "measured"),
    ("*timings.*_per_second", "value", "measured"),
    ("event.system_fingerprint", "missing", "stands in the last object only"),
    ("event.timings", "missing", "timings_per_token: stands in the last object only"),
    ("event.usage", "missing", "plain text: llama-server's last chunk has it even if nobody asked for it"),
    ("event.prompt_progress", "chunk", "return_progress: the gateway keeps it to itself"),
    ("event.choices[].text", "chunk", "plain text: no chunks without text but the last; their logprobs go to the next"),
]
# Whole answers are put together from streams, hence what test_prefilled and test_tools_with_logprobs show. Lists of
# prompts are so many requests: test_prompts. The gateway is stricter than llama-server where STRICTER says so.

def user(text):
    return {"role": "user", "content": text}


def text_part(text):
    return {"type": "text", "text": text}


TOOL = {"type": "function", "function": {"name": "count_to", "description": "Counts.", "parameters": {
    "type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}}}
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 0, "maximum": 9}}, "required": ["n"],
          "additionalProperties": False}
ASKED = {"type": "function", "id": "call_7", "function": {"name": "count_to", "arguments": "{\"n\":3}"}}
HELLO = {"messages": [user("hello, count")]}

# What both routes have, beside the question.
SHARED = {
    "plain": {},
    "stop": {"stop": " 4"},
    "stops": {"stop": ["nothing", " 3"]},
    "stop_across_tokens": {"stop": "3 4"},
    "seed": {"seed": 42},
    "sampled_with_seed": {"seed": 42, "temperature": 0.9, "top_p": 0.9, "top_k": 30},
    "max_completion_tokens": {"max_completion_tokens": 3},
    "no_limit_but_stop": {"max_tokens": None, "stop": " 9"},
    "n_predict": {"max_tokens": None, "n_predict": 4},
    "penalties": {"presence_penalty": 0.5, "frequency_penalty": 0.25, "repeat_penalty": 1.1, "repeat_last_n": 8},
    "min_p": {"min_p": 0.1},
    "typical_p": {"typical_p": 0.9},
    "samplers": {"samplers": ["top_k", "temperature"]},
    "without_prompt_cache": {"cache_prompt": False},
    "timings_per_token": {"timings_per_token": True},
    "logit_bias": {"logit_bias": [[1346, -100]]},
    "grammar": {"grammar": "root ::= \" 7\" \" 8\""},
    "ignore_eos": {"ignore_eos": True},
    "return_tokens": {"return_tokens": True},
    "side_fields": {"user": "somebody", "metadata": {"a": "b"}, "store": False},
    "a_field_nobody_knows": {"frobnicate": {"deeply": [1, 2, {"x": None}]}},
    "nulls": {"stop": None, "seed": None, "logit_bias": None, "stream_options": None, "n": None, "user": None},
    "two_tokens": {"max_tokens": 2},
    "no_tokens_to_make": {"max_tokens": 0},
    "one_choice": {"n": 1},
}

CHATS = {
    **{name: {**HELLO, **more} for name, more in SHARED.items()},
    "system": {"messages": [{"role": "system", "content": "You count."}, user("hello")]},
    "developer": {"messages": [{"role": "developer", "content": "You count."}, user("hello")]},
    "part": {"messages": [{"role": "user", "content": [text_part("one part")]}]},
    "parts": {"messages": [{"role": "user", "content": [text_part("a part"), text_part("and 17")]}]},
    "system_parts": {"messages": [{"role": "system", "content": [text_part("a"), text_part("b")]}, user("hello")]},
    "turns": {"messages": [user("count"), {"role": "assistant", "content": " 1 2 3"}, user("go on")]},
    "null_content": {"messages": [user("count"), {"role": "assistant", "content": None, "tool_calls": [ASKED]},
                                  {"role": "tool", "tool_call_id": "call_7", "content": " 1 2 3"}]},
    "empty_content": {"messages": [user("")]},
    "named": {"messages": [{**user("count"), "name": "anna"}]},
    "unicode": {"messages": [user("Gr\u00fc\u00dfe \U0001f600 \u2028 \u0000 \ud7ff")]},
    "logprobs": {**HELLO, "logprobs": True},
    "top_logprobs": {**HELLO, "logprobs": True, "top_logprobs": 3},
    "no_logprobs": {**HELLO, "logprobs": False},
    "json_object": {**HELLO, "response_format": {"type": "json_object"}, "max_tokens": 20},
    "json_schema": {**HELLO, "max_tokens": 40, "response_format": {
        "type": "json_schema", "json_schema": {"name": "n", "strict": True, "schema": SCHEMA}}},
    "json_object_schema": {**HELLO, "max_tokens": 40, "response_format": {"type": "json_object", "schema": SCHEMA}},
    "text_format": {**HELLO, "response_format": {"type": "text"}},
    "tools": {**HELLO, "tools": [TOOL]},
    "tools_auto": {**HELLO, "tools": [TOOL], "tool_choice": "auto"},
    "tools_none": {**HELLO, "tools": [TOOL], "tool_choice": "none"},
    "no_tools": {**HELLO, "tools": []},
    "one_call_at_a_time": {**HELLO, "tools": [TOOL], "parallel_tool_calls": False},
    "template_settings": {**HELLO, "chat_template_kwargs": {"enable_thinking": False}},
    "reasoning_effort": {**HELLO, "reasoning_effort": "low"},
    "reasoning_format": {**HELLO, "reasoning_format": "none"},
    "return_progress": {**HELLO, "return_progress": True},
}

# The answer goes on with the last message.
PREFILLED = {
    "prefill": {"messages": [user("count"), {"role": "assistant", "content": " 41 42"}]},
    "continue": {"messages": [user("count"), {"role": "assistant", "content": " 41 42"}],
                 "add_generation_prompt": False, "continue_final_message": True},
}

TEXTS = {
    **{name: {"prompt": "Count: 1 2 3", **more} for name, more in SHARED.items()},
    "list_of_one": {"prompt": ["Count: 11 12"]},
    "tokens": {"prompt": [1346, 1347, 1348]},
    "list_of_tokens": {"prompt": [[1346, 1347, 1348]]},
    "empty": {"prompt": ""},
    "template_of_a_chat": {"prompt": "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n"},
    "unicode": {"prompt": "Gr\u00fc\u00dfe \U0001f600 12"},
    "logprobs": {"prompt": " 1 2", "logprobs": 2},
    "logprobs_held_back": {"prompt": " 1 2", "logprobs": 1, "stop": " 5 8"},
    "logprobs_of_bytes": {"prompt": " 1 2", "logprobs": 1, "max_tokens": 7,
                          "grammar": "root ::= \"\u00e4\U0001f600z\""},
    "n_probs": {"prompt": " 1 2", "n_probs": 2},
    "echo": {"prompt": " 1 2", "echo": True},
    "json_schema": {"prompt": " 1 2", "json_schema": SCHEMA, "max_tokens": 40},
    "echo_off": {"prompt": " 1 2", "echo": False},
    "suffix": {"prompt": " 1 2", "suffix": " 9"},
}

WRONG = {
    "no_messages": (CHAT, {}),
    "messages_null": (CHAT, {"messages": None}),
    "messages_object": (CHAT, {"messages": {"role": "user"}}),
    "messages_text": (CHAT, {"messages": "hello"}),
    "message_text": (CHAT, {"messages": ["hello"]}),
    "no_role": (CHAT, {"messages": [{"content": "x"}]}),
    "role_number": (CHAT, {"messages": [{"role": 1, "content": "x"}]}),
    "no_content": (CHAT, {"messages": [{"role": "user"}]}),
    "content_number": (CHAT, {"messages": [{"role": "user", "content": 7}]}),
    "content_object": (CHAT, {"messages": [{"role": "user", "content": {"type": "text"}}]}),
    "part_without_type": (CHAT, {"messages": [{"role": "user", "content": [{"text": "x"}]}]}),
    "part_of_odd_type": (CHAT, {"messages": [{"role": "user", "content": [{"type": "smell", "smell": "x"}]}]}),
    "image_without_eyes": (CHAT, {"messages": [{"role": "user", "content": [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGVsbG8="}}]}]}),
    "temperature_text": (CHAT, {**HELLO, "temperature": "hot"}),
    "max_tokens_text": (CHAT, {**HELLO, "max_tokens": "many"}),
    "response_format_odd": (CHAT, {**HELLO, "response_format": {"type": "yaml"}}),
    "tools_object": (CHAT, {**HELLO, "tools": {"a": 1}}),
    "tool_choice_odd": (CHAT, {**HELLO, "tools": [TOOL], "tool_choice": "maybe"}),
    "two_choices_and_a_half": (CHAT, {**HELLO, "n": 2.5}),
    "no_choices": (CHAT, {**HELLO, "n": 0}),
    "stream_text": (CHAT, {**HELLO, "stream": "yes"}),
    "grammar_broken": (CHAT, {**HELLO, "grammar": "root ::= ("}),
    "top_logprobs_alone": (CHAT, {**HELLO, "top_logprobs": 2}),
    "two_answers_begun": (CHAT, {"messages": [user("x"), {"role": "assistant", "content": "a"},
                                              {"role": "assistant", "content": "b"}]}),
    "no_prompt": (TEXT, {}),
    "prompt_number": (TEXT, {"prompt": 7}),
    "prompt_object": (TEXT, {"prompt": {"a": 1}}),
    "text_max_tokens_text": (TEXT, {"prompt": "x", "max_tokens": "many"}),
    "text_grammar_broken": (TEXT, {"prompt": "x", "grammar": "root ::= ("}),
    "too_long": (CHAT, {"messages": [user(" 1" * 5000)]}),
    "text_too_long": (TEXT, {"prompt": " 1" * 5000}),
}

# llama-server answers these.
STRICTER = {
    "role_of_nobody": {"messages": [{"role": "nobody", "content": "x"}]},
    "content_null": {"messages": [{"role": "user", "content": None}]},
}


# ---- the two ways


class Ways:
    """Straight to the phone that has a model, and through the gateway."""

    def __init__(self, gateway, phones):
        self.gateway, self.phones = gateway, phones

    def ask(self, path, body, model):
        body = {"model": model, "temperature": 0, "max_tokens": 6, **body}
        phone = self.phones[model]
        request(phone.port, "POST", path, body)
        return request(phone.port, "POST", path, body), request(self.gateway.port, "POST", path, body)


@pytest.fixture(scope="module")
def phones(start_once, llama_programs, counting_model, tmp_path_factory):
    random_model = make_model(tmp_path_factory.mktemp("model") / "random.gguf", "--random")
    return {name: start_once.own(LlamaServer(llama_programs, model, alias=name, slots=1))
            for name, model in (("counting", counting_model), ("random", random_model))}


def ways_with(start, phones, cache):
    return Ways(start.gateway([p.entry(max_concurrency=1) for p in phones.values()], {"cache": cache}), phones)


@pytest.fixture(scope="module")
def ways(start_once, phones):
    """Nothing is cached: each request goes to the phone."""
    return ways_with(start_once, phones, "never")


@pytest.fixture(scope="module")
def cached_ways(start_once, phones):
    return ways_with(start_once, phones, "everywhere")


MODELS = pytest.mark.parametrize("model", ["counting", "random"])


# ---- what came


def events(reply):
    """The objects of a stream, which ends as OpenAI's do."""
    assert reply.status == 200 and reply.headers["Content-Type"].startswith("text/event-stream"), reply
    *blocks, last, rest = reply.text().split("\n\n")
    assert (last, rest) == ("data: [DONE]", ""), reply
    blocks = [b for b in blocks if not b.startswith(":")]
    assert all(b.startswith("data: ") and "\n" not in b for b in blocks), reply
    return [json.loads(b[6:]) for b in blocks]


def unlike(straight, through, where=""):
    """Every difference between two values: (place, kind, one, other)."""
    if isinstance(straight, dict) and isinstance(through, dict):
        for name in sorted({*straight, *through}):
            place = f"{where}.{name}" if where else name
            if name not in through:
                yield place, "missing", straight[name], None
            elif name not in straight:
                yield place, "added", None, through[name]
            else:
                yield from unlike(straight[name], through[name], place)
    elif isinstance(straight, list) and isinstance(through, list):
        if len(straight) != len(through):
            yield where, "length", straight, through
        for one, other in zip(straight, through):
            yield from unlike(one, other, where + "[]")
    elif straight != through or type(straight) is not type(through):
        alike = type(straight) is type(through) or {type(straight), type(through)} == {int, float}
        yield where, "value" if alike else "type", straight, through


def assert_equal(straight, through, before=""):
    def excused(place, kind):
        return any(kind == what and fnmatch.fnmatchcase(place, pattern.replace("[]", "[[]]"))
                   for pattern, what, _ in DIFFERENCES)

    found = [d for d in unlike(straight, through, before) if not excused(*d[:2])]
    assert not found, "\n".join(map(repr, found))


def dropped(event):
    """The two kinds of "chunk" in DIFFERENCES."""
    choice = (event["choices"] or [{}])[0]
    return "prompt_progress" in event or (choice.get("text") == "" and choice["finish_reason"] is None)


def without_dropped(found):
    """What such an event says of probabilities goes to the next."""
    kept, entries = [], []
    for event in found:
        choice = (event["choices"] or [{}])[0]
        entries += (choice.get("logprobs") or {}).get("content", [])
        if dropped(event):
            continue
        if entries:
            choice["logprobs"] = {"content": entries}
        kept.append(event)
        entries = []
    return kept


def assert_same_stream(straight, through):
    straight, through = without_dropped(events(straight)), events(through)
    assert len(straight) == len(through), (straight, through)
    for one, other in zip(straight, through):
        assert_equal(one, other, "event")
    assert len({event["id"] for event in through}) == 1, "one answer has one id"
    last, theirs = through[-1], straight[-1]
    for name in ("system_fingerprint", "timings"):
        assert (name in last) == (name in theirs), name


# ---- tests


def whole(ways, path, body, model):
    straight, through = ways.ask(path, body, model)
    assert straight.status == through.status == 200, (straight, through)
    assert_equal(straight.json(), through.json())
    return through


def streamed(ways, path, body, model):
    straight, through = ways.ask(path, {**body, "stream": True}, model)
    assert straight.status == through.status == 200, (straight, through)
    assert_same_stream(straight, through)
    return through


@MODELS
@pytest.mark.parametrize("case", CHATS)
def test_chat(ways, case, model):
    whole(ways, CHAT, CHATS[case], model)
    streamed(ways, CHAT, CHATS[case], model)
    streamed(ways, CHAT, {**CHATS[case], "stream_options": {"include_usage": True}}, model)


@MODELS
@pytest.mark.parametrize("case", TEXTS)
def test_text(ways, case, model):
    whole(ways, TEXT, TEXTS[case], model)
    streamed(ways, TEXT, TEXTS[case], model)


@MODELS
@pytest.mark.parametrize("case", PREFILLED)
def test_prefilled(ways, case, model):
    """llama-server's whole answer begins with what it was given, its stream does not; the gateway's never does."""
    straight, through = (reply.json() for reply in ways.ask(CHAT, PREFILLED[case], model))
    message = straight["choices"][0]["message"]
    assert message["content"].startswith(" 41 42")
    message["content"] = message["content"].removeprefix(" 41 42")
    assert_equal(straight, through)
    streamed(ways, CHAT, PREFILLED[case], model)


def test_prompts(ways):
    """The choices of llama-server; the tokens of all of them, not of the first."""
    body = {"prompt": ["Count: 1 2", [1346, 1347], "Count: 7"], "max_tokens": 4}
    straight, through = (reply.json() for reply in ways.ask(TEXT, body, "random"))
    assert_equal(straight["choices"], through["choices"])
    assert through["usage"]["completion_tokens"] == 12


def refusal(reply):
    assert 400 <= reply.status < 500 and reply.headers["Content-Type"] == "application/json", reply
    error = reply.json()["error"]
    assert {"message", "type", "param", "code"} == set(error), error
    assert isinstance(error["message"], str) and error["message"], error
    return error


@pytest.mark.parametrize("case", WRONG)
@pytest.mark.parametrize("stream", [{}, {"stream": True}])
def test_refused(ways, case, stream):
    """What llama-server refuses. Some of it as if it were its own fault, with 500."""
    path, body = WRONG[case]
    straight, through = ways.ask(path, {**stream, **body}, "counting")
    assert straight.status >= 400, straight
    refusal(through)
    assert straight.status == 500 or straight.status == through.status, (straight, through)


@pytest.mark.parametrize("case", STRICTER)
def test_stricter(ways, case):
    straight, through = ways.ask(CHAT, STRICTER[case], "counting")
    assert straight.status == 200
    assert refusal(through)["param"].startswith("messages[0].")


def test_tools_with_logprobs(ways):
    """llama-server has these only without a stream, and the gateway always asks for one."""
    body = {**HELLO, "tools": [TOOL], "logprobs": True}
    straight, through = ways.ask(CHAT, body, "counting")
    assert straight.status == 200
    assert "logprobs" in refusal(through)["message"]


@pytest.mark.parametrize("path, body", [(CHAT, CHATS["turns"]), (TEXT, TEXTS["plain"]), (CHAT, CHATS["top_logprobs"])])
def test_from_the_cache(cached_ways, path, body):
    """An answer kept is as equal as a new one; but for the counts of what the phone found in its own cache."""
    body = {**body, "cache_prompt": False}
    for expected in ("miss", "hit"):
        assert whole(cached_ways, path, body, "random").headers["X-Cache"] == expected
    assert streamed(cached_ways, path, body, "random").headers["X-Cache"] == "hit"
