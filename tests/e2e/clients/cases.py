"""The cases: what each asks a library to do before a fleet, and what that should make of it.

A case is a function of an Ask. It returns nothing if all is as it should be, or what is refused or done otherwise.
"""
import concurrent.futures
import functools
import json
import re
import threading

import pytest

from chaos import Cut
from client import counted, fresh
from clients.library import BOUND
from harness import until

FLEETS = {"llama-server": "llama-server's phones alone", "ollama": "Ollama's phones alone", "mixed": "phones of both"}
CLIENTS = {"openai": "OpenAI", "ollama": "Ollama", "anthropic": "Anthropic", "langchain_openai": "LangChain, OpenAI",
           "langchain_ollama": "LangChain, Ollama"}
SECRET = "sk-secret-of-a-client"
INPUTS = [f"text number {i}" for i in range(20)]


class Refused(Exception):
    """The library has raised an error; with what it knows of it, and the exchanges that there were."""

    def __init__(self, said):
        super().__init__(said["error"]["message"])
        self.error, self.wire = said["error"], said["wire"]


class Ask:
    """One library before one fleet."""

    def __init__(self, fleet, library):
        self.fleet, self.library, self.client = fleet, library, library.client
        self.dialect = self.client.partition("_")[2] or self.client

    def __call__(self, case, gateway, **call):
        """Its facts."""
        said = self.said(case, gateway, **call)
        if "error" in said:
            raise Refused(said)
        return said["facts"]

    def said(self, case, gateway, meanwhile=None, **call):
        call = {"base": gateway.url, "model": "tiny", "prompt": fresh(), "tokens": 8, **call}
        said = self.library.run(case, meanwhile, **call)
        for answer in said["wire"]:
            assert answer["headers"].get("x-request-id"), answer
        return said

    def refused(self, status, case, gateway, **call):
        """The error of a case that has to be refused; with the request's id where the library tells it."""
        with pytest.raises(Refused) as refusal:
            self(case, gateway, **call)
        error, wire = refusal.value.error, refusal.value.wire
        assert error["status"] == status == wire[-1]["status"], (error, wire)
        if self.dialect != "ollama":
            assert error["request_id"] == wire[-1]["headers"]["x-request-id"]
        return error, wire


FINISH = {"openai": {"length": "length", "tools": "tool_calls"},
          "anthropic": {"length": "max_tokens", "tools": "tool_use"},
          "ollama": {"length": "length", "tools": "stop"}}


def counts(usage, answer):
    assert usage and usage["answer"] == answer and usage["prompt"] > 0, usage


def chat(ask):
    said = ask.said("chat", ask.fleet.plain)
    facts = said["facts"]
    assert facts["text"] == counted(8)
    if ask.client in ("openai", "anthropic"):
        assert facts["request_id"] == said["wire"][0]["headers"]["x-request-id"]
    assert facts["model"] == "tiny"
    assert facts["finish"] == FINISH[ask.dialect]["length"]
    counts(facts["usage"], 8)
    assert not facts.get("reasoning") and not facts.get("calls")


def stream(ask):
    facts = ask("stream", ask.fleet.plain, tokens=50)
    assert facts["text"] == counted(50)
    assert len(facts["pieces"]) > 5
    assert facts["finish"] == FINISH[ask.dialect]["length"]
    assert facts.get("models", ["tiny"]) == ["tiny"]
    assert len(facts.get("ids", [1])) == 1, "one answer has one id"
    if ask.client == "openai":
        assert facts["usage"] is None, "nobody asked for it"


def stream_usage(ask):
    facts = ask("stream_usage", ask.fleet.plain, tokens=50)
    assert facts["text"] == counted(50)
    counts(facts["usage"], 50)


def customary(ask):
    """Fields that programs send by habit, whatever the phones can do with them."""
    assert ask("customary", ask.fleet.plain)["text"] == counted(8)


def two_answers(ask):
    facts = ask("two_answers", ask.fleet.plain)
    assert facts["texts"] == [counted(8)] * 2 and facts["order"] == [0, 1]
    counts(facts["usage"], 16)


def called(calls):
    assert [c["name"] for c in calls] == ["count_to"]
    assert json.loads(calls[0]["arguments"]) == {"n": 3}


def tools(ask):
    facts = ask("tools", ask.fleet.able)
    called(facts["calls"])
    assert facts["finish"] == FINISH[ask.dialect]["tools"]
    assert facts["calls"][0]["id"] or ask.dialect == "ollama"


def tools_stream(ask):
    facts = ask("tools_stream", ask.fleet.able)
    called(facts["calls"])
    assert facts["text"] == counted(8), "the answer to the tool's result"


def tools_text(ask):
    """A model that does not know tools: text. llama-server takes the request."""
    facts = ask("tools", ask.fleet.plain)
    assert facts["text"] or facts["calls"]


def json_output(ask):
    facts = ask("json", ask.fleet.able, tokens=100)
    assert json.loads(facts["schema"]) == json.loads(facts["object"]) == {"answer": "1 2 3"}


def reasoning(ask):
    facts = ask("reasoning", ask.fleet.able, model="thinker")
    for each in (facts, facts["streamed"]):
        assert each["reasoning"]
        assert each["text"].startswith(counted(3))
    assert facts["reasoning"] == facts["streamed"]["reasoning"]


def completions(ask):
    facts = ask("completions", ask.fleet.plain, prompt="Count: 1 2 3")
    behind = counted(11, 4)
    raw = ask.dialect == "openai"  # Ollama's own is put into the chat's template
    assert facts["text"] == facts["streamed"]["text"] == (behind if raw else counted(8))
    assert facts.get("raw", behind) == behind
    if "usage" in facts:
        counts(facts["usage"], 8)
        counts(facts["streamed"]["usage"], 8)


def load(ask):
    facts = ask("load", ask.fleet.plain)
    assert facts == {"done": True, "text": "", "finish": "load", "chat": "load"}


def embeddings(ask):
    facts = ask("embeddings", ask.fleet.able, model="embedder", inputs=INPUTS)
    vectors = facts["vectors"]
    assert [len(v) for v in vectors] == [8] * 20
    assert all(abs(sum(x * x for x in v) - 1) < 1e-3 for v in vectors)
    assert len({tuple(v) for v in vectors}) == 20
    assert facts["one"] == vectors[7], "in their order"
    assert facts.get("order", list(range(20))) == list(range(20))
    assert facts.get("plain", vectors) == vectors, "base64 and numbers say the same"
    assert facts.get("model", "embedder") == "embedder"
    assert facts.get("tokens", 1) > 0


def models(ask):
    facts = ask("models", ask.fleet.able)
    assert {name.removesuffix(":latest") for name in facts["names"]} == {"tiny", "thinker", "embedder"}
    assert len(facts["names"]) == 3, "each once"
    assert facts.get("one", "tiny").removesuffix(":latest") == "tiny"


def show(ask):
    facts = ask("show", ask.fleet.able)
    assert "completion" in facts["capabilities"]
    assert re.match(r"\d+\.\d+", facts["version"])
    assert facts["details"] is not None and isinstance(facts["running"], list)


def manage(ask):
    error, _ = ask.refused(403, "manage", ask.fleet.plain)
    return f"403 {error['said']}"


def responses(ask):
    """OpenAI's newer API, which is not spoken here."""
    error, _ = ask.refused(404, "responses", ask.fleet.plain)
    return f"404 {error['said']}"


def count_tokens(ask):
    if ask.fleet.kind == "ollama":
        error, wire = ask.refused(501, "count_tokens", ask.fleet.able)
        assert len(wire) == 1, "asking again does not help"
        return f"501 {error['said']}"
    assert ask("count_tokens", ask.fleet.able)["tokens"] > 0


def abort(ask):
    """The library's own way to stop: the phone stops too."""
    gateway = ask.fleet.slow
    mark = gateway.log.mark()
    said = ask.said("abort", gateway, tokens=300)
    pieces = said.get("facts", said.get("error"))["pieces"]
    if pieces is not None:
        assert 3 <= len(pieces) < 100 and "".join(pieces) == counted(len(pieces))
    if ask.client == "langchain_ollama":
        return "its connection stays, so that the phone goes on to the end"
    gateway.idle()
    until(lambda: any(r.get("status") == 499 for r in gateway.records(mark)), "the client to be gone, says the log")


CLASSES = {"openai": {404: "NotFoundError", 400: "BadRequestError", 503: "InternalServerError",
                      502: "InternalServerError"}}
CLASSES["anthropic"] = {**CLASSES["openai"], 503: "ServiceUnavailableError"}
CLASSES["ollama"] = dict.fromkeys((404, 400, 503, 502), "ResponseError")


def unknown_model(ask):
    error, wire = ask.refused(404, "chat", ask.fleet.plain, model="nobody-has-it", retries=2)
    assert error["class"] == CLASSES[ask.dialect][404], error
    assert "no phone has that model" in error["message"]
    assert len(wire) == 1, "asking again does not help"
    ask.refused(404, "stream", ask.fleet.plain, model="nobody-has-it")


def bad_field(ask):
    error, wire = ask.refused(400, "wrong", ask.fleet.plain, retries=2)
    assert error["class"] == CLASSES[ask.dialect][400], error
    assert "temperature: expected a number" in error["message"]
    if ask.client == "openai":
        assert (error["param"], error["type"]) == ("temperature", "invalid_request_error")
    assert len(wire) == 1


RETRYING = ["openai", "anthropic", "langchain_openai"]


@functools.lru_cache(maxsize=None)
def without_phones(fleet):
    """All libraries at once ask a fleet whose phones hang: once to be refused, once until the phones are back."""
    asks = [fleet.ask(client) for client in CLIENTS]
    fleet.hang()
    waiting = [ask for ask in asks if ask.client in RETRYING]
    barrier = threading.Barrier(len(waiting), fleet.come_back, BOUND / 2)
    with concurrent.futures.ThreadPoolExecutor(len(asks)) as pool:
        down = [pool.submit(ask.said, "chat", fleet.down, retries=1) for ask in asks]
        for each in down:
            each.exception()
        back = [pool.submit(ask.said, "chat", fleet.down, barrier.wait, retries=3, pause_at=1) for ask in waiting]
    told = {ask.client: {"down": each.result()} for ask, each in zip(asks, down)}
    for ask, each in zip(waiting, back):
        told[ask.client]["back"] = each.result()
    return told


def all_down(ask):
    said = without_phones(ask.fleet)[ask.client]["down"]
    assert said["error"]["status"] == 503, said
    assert said["error"]["class"] == CLASSES[ask.dialect][503]
    if ask.dialect != "ollama":
        assert said["error"]["request_id"] == said["wire"][-1]["headers"]["x-request-id"]
    assert [answer["status"] for answer in said["wire"]] == [503] * (2 if ask.client in RETRYING else 1)
    assert all(int(answer["headers"]["retry-after"]) >= 1 for answer in said["wire"])


def retried(ask):
    """The first answer is a 503; the phone comes back; the library's own second try succeeds."""
    said = without_phones(ask.fleet)[ask.client]["back"]
    assert said["facts"]["text"] == counted(8)
    assert [answer["status"] for answer in said["wire"]] == [503, 200]


def cut(ask, tokens, how="rst", times=1):
    """Strikes the next answers, whichever phones give them."""
    if tokens and ask.client == "anthropic":
        strike = Cut(bytes=200 * tokens, how=how, times=times)  # its events are not known to the links by their tokens
    else:
        strike = Cut(tokens=tokens, how=how, times=times) if tokens else Cut(bytes=1, how=how, times=times)
    for link in ask.fleet.links:
        link.cut_after(strike)
    return strike


def rescue(ask):
    gateway = ask.fleet.breaking
    gateway.unsuspected()
    before = sum(v for (name, _), v in gateway.metrics().items() if name == "pocketfleet_rescues_total")
    strike = cut(ask, 40)
    try:
        assert ask("stream", gateway, tokens=100)["text"] == counted(100)
    finally:
        cut(ask, 1, times=0)
    assert strike.left == 0, "it was cut"
    assert gateway.metric("pocketfleet_rescues_total", outcome="ok") == before + 1


def broken_off(ask):
    """Where nobody can go on the library raises an error: no half answer is taken for a whole one."""
    gateway = ask.fleet.lost
    gateway.unsuspected()
    strike = cut(ask, 10)
    try:
        with pytest.raises(Refused) as refusal:
            ask("stream", gateway, tokens=100)
    finally:
        cut(ask, 1, times=0)
    assert strike.left == 0, "it was cut"
    pieces = refusal.value.error["pieces"]
    assert pieces and "".join(pieces) == counted(len(pieces))
    # The connection is cut behind the event that says why: a library may see the cut first.
    assert re.search("phone|terminated", refusal.value.error["said"]), refusal.value.error


def not_repeated(ask):
    """All phones have failed it: the gateway says that asking again does not help."""
    gateway = ask.fleet.lost
    gateway.unsuspected()
    cut(ask, None, times=100)
    try:
        error, wire = ask.refused(502, "chat", gateway, retries=1)
    finally:
        cut(ask, 1, times=0)
    assert error["class"] == CLASSES[ask.dialect][502]
    assert all(answer["headers"]["x-should-retry"] == "false" for answer in wire)
    if ask.client == "langchain_openai":
        assert len(wire) == 2
        return "asks again all the same"
    assert len(wire) == 1


def key_is_kept(ask):
    """What a client sends to authorise itself is for the gateway, and goes no further."""
    prompt = fresh()
    ask("chat", ask.fleet.able, prompt=prompt, key=SECRET)
    last = [phone.last() for phone in ask.fleet.able_phones]
    assert any(prompt in seen["body"] for seen in last)
    assert SECRET not in json.dumps(last)
    assert SECRET not in ask.fleet.able.log.text()


CASES = {case.__name__: case for case in (
    chat, stream, stream_usage, customary, two_answers, tools, tools_stream, tools_text, json_output, reasoning,
    completions, load, embeddings, models, show, manage, responses, count_tokens, abort, unknown_model, bad_field,
    all_down, retried, rescue, broken_off, not_repeated, key_is_kept)}
# What a library has no call for, or does not do.
WITHOUT = {
    "openai": {"load", "show", "manage", "count_tokens"},
    "ollama": {"two_answers", "responses", "count_tokens", "retried"},
    "anthropic": {"two_answers", "responses", "json_output", "completions", "load", "embeddings", "show", "manage"},
    "langchain_openai": {"two_answers", "responses", "load", "models", "show", "manage", "count_tokens"},
    "langchain_ollama": {"two_answers", "responses", "load", "models", "show", "manage", "count_tokens", "retried"},
}
