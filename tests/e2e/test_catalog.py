"""Which models the fleet has, as OpenAI's and Ollama's clients ask for it; and public names for them."""
import json
import re

import pytest

import engines
from client import counted, request
from harness import until
from raw.phone import MODEL, HostilePhone, Ollama, head

QWEN = "qwen2.5:1.5b"
QUICK = {"probe_interval_s": 0.2}


@pytest.fixture(scope="module")
def fleet(start_once, llama_programs, counting_model):
    """Two Ollamas with models of their own, a simulated llama-server and a real one."""
    first, = start_once.sim(1, model=QWEN)
    second, = start_once.sim(1, model="Phi3:mini")
    simulated, = start_once.sim(1, "llama-server", model="gemma")
    real = start_once.own(engines.LlamaServer(llama_programs, counting_model))
    phones = [first.entry(aliases={"small": QWEN}),
              second.entry(aliases={"small": "phi3:MINI", "nobody": "gone:7b"}),
              simulated.entry(aliases={"Team/Chat": "gemma"}),
              real.entry(name="real")]
    gateway = start_once.gateway(phones)
    gateway.ollamas, gateway.llama, gateway.real = [first, second], simulated, real
    return gateway


def get(gateway, path, status=200):
    reply = request(gateway.port, "GET", path)
    assert (reply.status, reply.headers["Content-Type"]) == (status, "application/json"), reply
    return reply.json()


def post(gateway, path, body=None, method="POST"):
    return request(gateway.port, method, path, body)


ALL = ["gemma", "Phi3:mini", QWEN, "small", "Team/Chat", "tiny"]


# ---- lists


def test_openais_list(fleet):
    listed = get(fleet, "/v1/models")
    assert listed["object"] == "list"
    assert [m["id"] for m in listed["data"]] == ALL
    for model in listed["data"]:
        assert (model["object"], model["owned_by"]) == ("model", "pocketfleet")
        assert isinstance(model["created"], int) and model["created"] > 1_700_000_000
    by_id = {m["id"]: m for m in listed["data"]}
    assert by_id["tiny"]["meta"]["n_ctx_train"] == 8192 and by_id["Team/Chat"]["meta"] == by_id["gemma"]["meta"]
    assert "meta" not in by_id[QWEN]


@pytest.mark.parametrize("asked, spelled", [("tiny", "tiny"), (QWEN, QWEN), ("PHI3:mini", "Phi3:mini"), ("small:latest", "small"),
                                            ("Team/Chat", "Team/Chat"), ("team%2Fchat", "Team/Chat")])
def test_openais_one_model(fleet, asked, spelled):
    assert get(fleet, f"/v1/models/{asked}")["id"] == spelled


@pytest.mark.parametrize("asked", ["gone", "nobody", "team", "Team/Chat/more"])
def test_openais_model_that_nobody_has(fleet, asked):
    why = get(fleet, f"/v1/models/{asked}", 404)["error"]
    assert set(why) == {"message", "type", "param", "code"} and why["code"] == "model_not_found"


def test_ollamas_list(fleet):
    models = get(fleet, "/api/tags")["models"]
    assert [m["name"] for m in models] == [m["model"] for m in models] == ALL
    by_name = {m["name"]: m for m in models}
    own, = request(fleet.ollamas[0].port, "GET", "/api/tags").json()["models"]
    assert by_name[QWEN] == own
    assert by_name["small"] == {**own, "name": "small", "model": "small"}
    for model in models:
        assert re.fullmatch("[0-9a-f]{64}", model["digest"]), "Ollama's client cuts its first digits unseen"
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", model["modified_at"])
        assert isinstance(model["size"], int) and model["size"] > 0
        assert model["details"]["format"] == "gguf"
    assert by_name["tiny"]["details"]["quantization_level"] == "Q8_0"


def test_what_is_loaded_and_where(fleet):
    assert request(fleet.ollamas[0].port, "POST", "/api/generate", {"model": QWEN}).status == 200
    models = until(lambda: len(found := get(fleet, "/api/ps")["models"]) == 3 and found, "the loaded model to be seen")
    by_name = {m["name"]: m for m in models}
    assert set(by_name) == {"gemma", QWEN, "tiny"}
    own, = request(fleet.ollamas[0].port, "GET", "/api/ps").json()["models"]
    assert {k: v for k, v in by_name[QWEN].items() if k not in ("pocketfleet", "expires_at")} == \
        {k: v for k, v in own.items() if k != "expires_at"}
    assert by_name[QWEN]["pocketfleet"] == {"phones": [fleet.ollamas[0].name]}
    assert by_name["tiny"]["pocketfleet"] == {"phones": ["real"]}
    assert by_name["tiny"]["expires_at"] > "2900" and by_name["tiny"]["context_length"] == 4096


# ---- one model


def test_show_of_an_ollama(fleet):
    own = request(fleet.ollamas[0].port, "POST", "/api/show", {"model": QWEN}).json()
    for body in ({"model": QWEN}, {"name": QWEN.upper()}, {"model": QWEN, "verbose": True}):
        reply = post(fleet, "/api/show", body)
        assert reply.status == 200 and reply.json()["model_info"] == own["model_info"]
    assert post(fleet, "/api/show", {"model": QWEN}).json() == own


def test_show_of_an_alias(fleet):
    shown = post(fleet, "/api/show", {"model": "small"}).json()
    assert shown["modelfile"] in (f"FROM {QWEN}\n", "FROM Phi3:mini\n"), "what the phone calls it"


def test_show_of_a_llama_server(fleet):
    shown = post(fleet, "/api/show", {"model": "tiny"}).json()
    assert "<|im_start|>" in shown["template"] and shown["parameters"] == "num_ctx 4096"
    info = shown["model_info"]
    assert info[info["general.architecture"] + ".context_length"] == 8192
    assert shown["capabilities"] == ["completion"]
    assert post(fleet, "/api/show", {"model": "team/chat"}).json()["details"]["parameter_size"] == "1.5B"


def test_show_of_what_nobody_has(fleet):
    reply = post(fleet, "/api/show", {"model": "gone"})
    assert (reply.status, reply.json()) == (404, {"error": "model 'gone' not found"})


@pytest.mark.parametrize("body", [b"", b"{", {}, {"model": 5}, {"model": ""}, {"model": "a", "verbose": 1}])
def test_show_refuses_what_is_not_asked_well(fleet, body):
    assert post(fleet, "/api/show", body).status == 400


def test_show_asks_another_phone_when_one_fails(start):
    phones = start.sim(1) + start.sim(1)
    gateway = start.gateway(phones, {"probe_interval_s": 60})
    phones[0].fault("refuse", duration_ms=60_000)
    assert "completion" in post(gateway, "/api/show", {"model": QWEN}).json()["capabilities"]
    phones[1].fault("refuse", duration_ms=60_000)
    reply = post(gateway, "/api/show", {"model": QWEN})
    assert reply.status == 502 and reply.error()


NOT_AN_ANSWER = {  # what a phone says, and what the client is told
    "a page": (head("200 OK", "Content-Length: 13") + b"<html></html>", 502),
    "an array": (head("200 OK", "Content-Length: 2") + b"[]", 502),
    "half of it": (head("200 OK", "Content-Length: 2") + b'{"', 502),
    "nothing": (head("200 OK", "Content-Length: 0"), 502),
    "cut": (head("200 OK", "Content-Length: 900") + b"{", 502),
    "too much": (head("200 OK") + b"{" + b" " * (2 << 20) + b"}", 502),
    "go away": (head("302 Found", "Location: /", "Content-Length: 0"), 502),
    "broken": (head("500 x", "Content-Length: 0"), 502),
    "unknown": (head("404 x", "Content-Length: 0"), 404),
    "not HTTP": (b"nonsense\r\n\r\n", 502),
}


class AskedToShow(Ollama):
    route = "/api/show"


@pytest.mark.parametrize("case", NOT_AN_ANSWER)
def test_show_relays_nothing_but_an_answer(hostile, case):
    phone, gateway = hostile
    answer, status = NOT_AN_ANSWER[case]

    def say(line):
        line.send(answer)
        line.close()

    phone.answer, asked = say, phone.asked
    reply = post(gateway, "/api/show", {"model": MODEL})
    assert reply.status == status and reply.error()
    assert phone.asked > asked


@pytest.fixture(scope="module")
def hostile(start_once):
    phone = HostilePhone(AskedToShow())
    gateway = start_once.gateway([phone.entry()], {"probe_interval_s": 60})
    yield phone, gateway
    gateway.stop()
    phone.close()


# ---- what clients look for, and what is not served here


def test_looks_like_ollama(fleet):
    reply = request(fleet.port, "GET", "/")
    assert (reply.status, reply.text()) == (200, "Ollama is running")
    assert reply.headers["Content-Type"] == "text/plain; charset=utf-8"
    reply = request(fleet.port, "HEAD", "/")
    assert (reply.status, reply.body) == (200, b"")
    assert re.fullmatch(r"\d+\.\d+\.\d+", get(fleet, "/api/version")["version"])


@pytest.mark.parametrize("method, path", [("POST", "/api/pull"), ("POST", "/api/push"), ("POST", "/api/create"), ("POST", "/api/copy"),
                                          ("DELETE", "/api/delete"), ("POST", "/api/blobs/sha256:00"), ("HEAD", "/api/blobs/sha256:00")])
def test_models_are_managed_on_the_phones(fleet, method, path):
    before = [phone.state()["requests"] for phone in fleet.ollamas]
    reply = request(fleet.port, method, path, None if method == "HEAD" else {"model": QWEN})
    assert reply.status == 403
    if method != "HEAD":
        assert "managed on the phones" in reply.error()
    assert [phone.state()["requests"] for phone in fleet.ollamas] == before
    assert {m["name"] for m in request(fleet.ollamas[0].port, "GET", "/api/tags").json()["models"]} == {QWEN}


# ---- aliases, to the end


def test_an_alias_is_what_each_phone_has_behind_it(fleet):
    seen = {}
    for _ in range(4):  # in turn
        reply = fleet.ask(model="SMALL", tokens=5)
        assert reply.content() == counted(5) and reply.json()["model"] == "SMALL", "called as the client does"
        phone = reply.headers["X-Phone"]
        seen[phone] = next(p for p in fleet.ollamas if p.name == phone).last()
    assert {phone.name: json.loads(seen[phone.name]["body"])["model"].lower() for phone in fleet.ollamas} == \
        {fleet.ollamas[0].name: QWEN, fleet.ollamas[1].name: "phi3:mini"}
    assert fleet.ask(model="team/chat", tokens=5).headers["X-Phone"] == fleet.llama.name


def test_an_alias_of_what_nobody_has(fleet):
    reply = fleet.ask(model="nobody", tokens=5)
    assert reply.status == 404 and "small" in reply.error() and "nobody" not in reply.error()


def test_the_default_may_be_an_alias(start):
    phone, = start.sim(1)
    gateway = start.gateway([phone.entry(model="small", aliases={"small": QWEN})])
    assert gateway.ask(tokens=5).content() == counted(5)
    assert post(gateway, "/warmup", {"model": "small"}).json()["phones"][0]["ok"]
    assert post(gateway, "/warmup").json()["phones"][0]["ok"]


def test_aliases_change_with_the_file(start):
    phone, = start.sim(1)
    gateway = start.gateway([phone])
    assert gateway.ask(model="small", tokens=5).status == 404
    gateway.reload([phone.entry(aliases={"small": QWEN})])
    until(lambda: gateway.ask(model="small", tokens=5).status == 200, "the alias to be taken")
    gateway.reload([phone])
    until(lambda: gateway.ask(model="small", tokens=5).status == 404, "the alias to be gone")


def test_another_phone_goes_on_with_an_alias(start):
    phones = start.sim(2, decode_rate=300, model=QWEN)
    gateway = start.gateway([phones[0].entry(aliases={"small": QWEN}), phones[1].entry(aliases={"small": QWEN.upper()})], QUICK)
    phones[0].fault("reset_after", after_tokens=10, times=1)
    streams = [gateway.ask_stream(model="small", tokens=60).finish() for _ in range(2)]  # in turn
    assert [s.text() for s in streams] == [counted(60)] * 2
    assert sum(s.last()["pocketfleet"]["rescues"] for s in streams) == 1


def test_the_same_model_goes_on_whatever_it_is_called(start, llama_programs, slow_model):
    phones = [start.own(engines.LlamaServer(llama_programs, slow_model, alias=name)) for name in ("one", "two")]
    gateway = start.gateway([p.entry(name=name, aliases={"both": name}) for p, name in zip(phones, ("one", "two"))], QUICK)
    stream = gateway.ask_stream(model="both", tokens=400).begun(lines=20)
    busy = next(p for p in phones if p.busy())
    busy.kill()
    stream.finish()
    assert stream.whole and stream.text() == counted(400)
    assert stream.last()["pocketfleet"]["rescues"] == 1
