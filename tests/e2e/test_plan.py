"""pocketfleet plan: what it says of models and phones, right ones and wrong ones. Running a plan: test_plan_real.py."""
import json
import re
import socket
import subprocess
import time

import pytest

import gguf
from harness import ROOT, program

SEVEN = {"matrix": "Q4_K", "embedding": "Q4_K", "output": "Q6_K"}  # of a 7B: about 4.4 GB


def run(*arguments):
    done = subprocess.run([program(), "plan", *map(str, arguments)], capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout, done.stderr


def phone(name, ram, free, speed, **more):
    """Memory in MB, speed in GB/s."""
    number = int.from_bytes(name.encode(), "big") % 200 + 10
    return {"name": name, "host": f"192.168.1.{number}", "ram_mb": ram, "free_mb": free, "gb_per_s": speed, **more}


@pytest.fixture
def plan(tmp_path):
    """Plans a model on phones; the answer as JSON."""
    def run_it(model, phones, *options, code=0):
        file = tmp_path / "phones.json"
        file.write_text(json.dumps(phones))
        status, out, err = run(*(model if isinstance(model, list) else [model]), "--phones", file, "--json", *options)
        assert status == code, err
        return json.loads(out)
    return run_it


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return {
        "7b": gguf.llama_like(folder / "7b.gguf", 28, 3584, 18944, 28, 4, 152064, SEVEN),
        # As the guide's file: an embedding of 89 MB in Q5_0, and an output layer of its own.
        "0.5b": gguf.llama_like(folder / "0.5b.gguf", 24, 896, 4864, 14, 2, 151936,
                                {"matrix": "Q5_0", "embedding": "Q5_0", "output": "Q8_0"}),
    }


# ---- what guides do by hand


def test_seven_billion_on_eight_six_and_six_gigabytes(plan, models):
    three = [phone("a", 7600, 5400, 20), phone("b", 5600, 3100, 9), phone("c", 5600, 3000, 9)]
    whole = plan(models["7b"], three)["plan"]
    assert whole["kind"] == "single" and whole["master"] == "a", "70 % of 8 GB hold it while so much is free"

    three[0]["free_mb"] = 3400
    answer = plan(models["7b"], three)
    split = answer["plan"]
    assert split["kind"] == "split"
    assert sum(m["layers"] for m in split["members"]) == 28
    assert all(m["memory_bytes"] <= m["may_use_bytes"] for m in split["members"])
    assert [s["fits"] for s in answer["singles"]] == [False] * 3
    assert split["ngl"] == sum(split["tensor_split"]) == 29 - split["members"][0]["layers"]
    assert answer["coarser"][-1]["alone_on"] == "a", "a coarser quantization fits one phone"

    three[1]["free_mb"] = three[2]["free_mb"] = 1400
    tight = plan(models["7b"], three)["plan"]
    assert len(tight["members"]) == 3, "now all three are needed"

    none = plan(models["7b"], [{**p, "free_mb": 1000} for p in three], code=1)
    assert none["plan"] is None and none["needed_bytes"] > none["available_bytes"]
    assert "are missing" in none["why"] and "no coarser quantization known here would fit" in none["why"]


def test_half_a_billion_needs_no_second_phone(models, tmp_path):
    """The guide's 19 % / 81 %: the 19 % are the embedding, which stays with the master whatever one asks for."""
    file = tmp_path / "phones.json"
    file.write_text(json.dumps([phone("a", 7600, 3000, 20), phone("b", 5600, 3000, 9)]))
    code, out, _ = run(models["0.5b"], "--phones", file, "--explain")
    assert code == 0 and "Plan: a alone, no split" in out
    assert re.search(r"The embedding, 89 MB or (19|20) % of the file, is the master's in every split, and no work", out)
    assert "a split makes larger models possible, not faster ones" in out
    assert re.search(r"b: not needed; in a split with it a token takes \S+ ms, without it \S+ \(\+", out)
    assert "--rpc" not in out


def test_a_slow_phone_alone_is_told_to_be_slow(models, tmp_path):
    file = tmp_path / "phones.json"
    file.write_text(json.dumps([phone("slow", 9000, 7000, 1), phone("fast", 7600, 4000, 20)]))
    code, out, _ = run(models["7b"], "--phones", file, "--explain")
    assert code == 0 and "Plan: slow alone" in out and "the fast ones have no room for the whole model" in out
    assert re.search(r"fast: not needed; .* \(-\d+ %\)", out)


def test_fewer_phones_are_an_answer(plan, models):
    answer = plan(models["7b"], [phone("a", 7600, 3300, 20), phone("b", 7600, 3300, 20), phone("weak", 3600, 1400, 1)])
    assert {m["name"] for m in answer["plan"]["members"]} == {"a", "b"}
    left = answer["left_out"][0]
    assert left["name"] == "weak" and left["reason"] == "slower"
    assert left["token_ms_with_it"] > answer["plan"]["token_ms"]


# ---- roles


def test_roles_follow_who_can_be_connected_to(plan, models):
    two = [phone("a", 7600, 3300, 20), phone("b", 7600, 3300, 20, accepts_connections=False)]
    assert plan(models["7b"], two)["plan"]["master"] == "b"
    two[0]["accepts_connections"] = False
    assert plan(models["7b"], two, code=1)["plan"] is None
    two[0]["accepts_connections"] = True
    assert plan(models["7b"], two, "--master", "a", code=1)["plan"] is None
    tunnelled = plan(models["7b"], two, "--master", "a", "--tunnel")["plan"]
    assert tunnelled["master"] == "a"
    worker, tunnel, master = tunnelled["commands"]
    assert "-H 127.0.0.1 -p 50052" in worker["command"]
    assert tunnel["on"] == "b" and "-R 127.0.0.1:50053:127.0.0.1:50052" in tunnel["command"], "b connects to a"
    assert "--rpc 127.0.0.1:50053 " in master["command"]


def test_a_tunnel_goes_from_the_master_where_it_can(plan, models):
    two = [phone("a", 7600, 3300, 20), phone("b", 7600, 3300, 20, ssh="u0_a7@192.168.1.108", ssh_port=8023)]
    commands = plan(models["7b"], two, "--master", "a", "--tunnel")["plan"]["commands"]
    assert commands[1]["on"] == "a" and commands[1]["command"].endswith(
        "-L 127.0.0.1:50053:127.0.0.1:50052 -p 8023 u0_a7@192.168.1.108")


def test_commands_bind_to_own_addresses_only(plan, models):
    phones = [phone("a", 7600, 3300, 20, threads=5), phone("b", 7600, 3300, 20, model_path="~/my models/m.gguf")]
    split = plan(models["7b"], phones, "--master", "b", "--port", 50060)["plan"]
    worker, master = split["commands"]
    assert worker["command"] == f"( trap '' PIPE; exec ggml-rpc-server -H {phones[0]['host']} -p 50060 -t 5 )"
    assert f"--rpc {phones[0]['host']}:50060" in master["command"]
    assert master["command"].startswith("llama-server -m ~/'my models/m.gguf' --host " + phones[1]["host"])
    for flag in ("-sm layer", "-fit off", "-fa off", "-np 1", "--cache-ram 0", "-c 4096"):
        assert flag in master["command"], flag
    everything = json.dumps(split["commands"])
    assert "0.0.0.0" not in everything and "--mem" not in everything and "no-mmap" not in everything
    words = " ".join(split["safety"])
    assert "no authentication" in words and "never to 0.0.0.0" in words and "--tunnel" in words


# ---- --probe


def test_probe_tells_who_can_be_reached(plan, models):
    with socket.socket() as listening, socket.socket() as deaf:
        for s in (listening, deaf):
            s.bind(("127.0.0.1", 0))
        listening.listen()
        deaf.listen(0)
        deaf_port, open_port = deaf.getsockname()[1], listening.getsockname()[1]
        with socket.socket() as filling, socket.socket() as also:  # its queue is full: no answer comes
            for s in (filling, also):
                s.setblocking(False)
                s.connect_ex(("127.0.0.1", deaf_port))
            free = socket.socket()
            free.bind(("127.0.0.1", 0))
            closed_port = free.getsockname()[1]  # bound, but nobody listens
            here = {"host": "127.0.0.1", "link": {"rtt_ms": 500}}
            phones = [{**phone("m", 7600, 3300, 20), "role": "master"},
                      {**phone("open", 7600, 3300, 20), **here, "rpc_port": open_port},
                      {**phone("closed", 7600, 3300, 20), **here, "rpc_port": closed_port},
                      {**phone("deaf", 7600, 3300, 20), **here, "rpc_port": deaf_port}]
            began = time.monotonic()
            answer = plan(models["7b"], phones, "--probe", "--probe-timeout", 0.7)
            assert time.monotonic() - began < 20
            free.close()
    outcomes = {p["name"]: p["outcome"] for p in answer["probes"]}
    assert outcomes == {"open": "open", "closed": "refused", "deaf": "silent"}
    assert [left["reason"] for left in answer["left_out"] if left["name"] == "deaf"] == ["unreachable"]
    for member in answer["plan"]["members"][1:]:
        assert member["round_trip_ms"] < 100, "what was measured, not the 500 ms of the file"


# ---- how fast a phone is


def test_speeds_as_people_measure_them(plan, models):
    model = plan(models["7b"], [phone("a", 9000, 7000, 20)])["model"]
    layers = model["bytes"] - model["embedding_bytes"] - model["output_bytes"]

    def compute_ms(**speed):
        whole = plan(models["7b"], [{"host": "10.0.0.1", "ram_mb": 9000, **speed}])["plan"]
        return whole["members"][0]["compute_ms"]
    read = layers + model["output_bytes"]
    assert compute_ms(gb_per_s=20) == pytest.approx(read / 20e6, rel=1e-6)
    assert compute_ms(ms_per_layer=10) == pytest.approx(280 * read / layers, rel=1e-6), "and the output in proportion"
    assert compute_ms(tokens_per_s=5, of_model_mb=1000) == pytest.approx(read / (5000 * 1048.576), rel=1e-6)
    assert compute_ms(soc="snapdragon-8-gen-2") == pytest.approx(read / 20e6, rel=1e-6)
    assert compute_ms(soc="snapdragon-8-gen-2", gb_per_s=10) == pytest.approx(read / 10e6, rel=1e-6), "measured counts"


# ---- a model without a file


def test_parameters_instead_of_a_file(plan):
    phones = [phone("a", 7600, 5000, 20)]
    given = ["--layers", 28, "--embedding", 3584, "--feed-forward", 18944, "--heads", 28, "--kv-heads", 4,
             "--vocabulary", 152064]
    small = plan(given, phones)
    assert small["model"]["quantization"] == "Q4_K_M"
    assert 4.4e9 < small["model"]["bytes"] < 4.9e9
    assert small["plan"]["kind"] == "single"
    large = plan(given, phones, "--quantization", "Q8_0", code=1)
    assert large["model"]["bytes"] > 1.6 * small["model"]["bytes"]
    assert [o["quantization"] for o in large["coarser"]][-1] == "Q4_K_M"


# ---- what is wrong


@pytest.mark.parametrize("text, path, expected", [
    ("", "line 1, column 1", ""),
    ("[]", "phones", "a list of 1 to 256 phones"),
    ('{"phone": []}', "", 'an object with "phones"'),
    ('[{"host": "192.168.1.9", "ram_mb": 10}]', "phones[0]", "found no speed"),
    ('[{"host": "192.168.1.9", "soc": "mid-range"}]', "phones[0].ram_mb", "found nothing"),
    ('[{"ram_mb": 10, "soc": "mid-range"}]', "phones[0].host", "found nothing"),
    ('[{"host": "0.0.0.0", "ram_mb": 10, "soc": "mid-range"}]', "phones[0].host", "never to all"),
    ('[{"host": "pixel.lan", "ram_mb": 10, "soc": "mid-range"}]', "phones[0].host", "own IPv4 address"),
    ('[{"host": "192.168.1.9", "ram_mb": 10, "soc": "snapdragon"}]', "phones[0].soc", "snapdragon-8-gen-2"),
    ('[{"host": "192.168.1.9", "ram_mb": -1, "soc": "mid-range"}]', "phones[0].ram_mb", "a whole number"),
    ('[{"host": "192.168.1.9", "ram_mb": 10, "tokens_per_s": 3}]', "phones[0]", "of_model_mb"),
    ('[{"host": "192.168.1.9", "ram_mb": 10, "gb_per_s": 3, "ms_per_layer": 3}]', "phones[0]", "two speeds"),
    ('[{"host": "192.168.1.9", "ram_mb": 10, "soc": "mid-range", "link": {"rtt": 3}}]', "phones[0].link.rtt", "rtt_ms"),
    ('[{"host": "192.168.1.9", "ram_mb": 10, "soc": "mid-range", "rammb": 1}]', "phones[0].rammb", "ram_mb"),
    ('[{"host": "192.168.1.9", "ram_mb": 10, "soc": "mid-range", "ssh": "a;b"}]', "phones[0].ssh", "USER@HOST"),
    ('[{"host": "192.168.1.9", "ram_mb": 10, "soc": "mid-range", "role": "both"}]', "phones[0].role", '"worker"'),
    ('[{"host": "192.168.1.9", "ram_mb": 10, "soc": "mid-range"},'
     ' {"host": "192.168.1.9", "name": "b", "ram_mb": 10, "soc": "mid-range"}]', "phones[1]", "each server once"),
    ('[{"host": "192.168.1.9", "name": "b", "ram_mb": 10, "soc": "mid-range"},'
     ' {"host": "192.168.1.8", "name": "b", "ram_mb": 10, "soc": "mid-range"}]', "phones[1].name", "phones[0]"),
])
def test_mistakes_in_the_file_of_phones(tmp_path, models, text, path, expected):
    file = tmp_path / "phones.json"
    file.write_text(text)
    code, out, err = run(models["0.5b"], "--phones", file)
    assert code == 2 and out == ""
    assert err.startswith(f"{file}: {path}") and expected in err, err


def test_every_mistake_is_told_at_once(tmp_path, models):
    file = tmp_path / "phones.json"
    file.write_text('[{"host": 1, "ram_mb": 0, "free_mb": "x"}, {}]')
    code, _, err = run(models["0.5b"], "--phones", file)
    assert code == 2 and len(err.splitlines()) == 5, err


def test_the_page_names_the_keys(tmp_path, models):
    """For a key that resembles none, all there are are listed: those of the page, and those of phones.json."""
    file = tmp_path / "phones.json"
    file.write_text('[{"zzzzzzzzzzzzzzz": 1}]')
    _, _, err = run(models["0.5b"], "--phones", file)
    known = set(re.findall(r'"(\w+)"', next(x for x in err.splitlines() if "zzz" in x).split("expected")[1]))
    page = (ROOT / "docs" / "groups.md").read_text()
    table = re.search(r"\| key \| meaning.*?\n\n", page, re.S)[0].strip()
    documented = {k for line in table.splitlines()[2:] for k in re.findall(r"`(\w+)`", line.split("|")[1])}
    schema = json.loads((ROOT / "config" / "phones.schema.json").read_text())
    assert known == documented | set(schema["definitions"]["phone"]["properties"])
    for soc in re.findall(r"^\| `([\w-]+)` \| [\d.]+ \|", page, re.M):
        file.write_text(json.dumps([{"host": "192.168.1.9", "ram_mb": 4000, "soc": soc}]))
        assert run(models["0.5b"], "--phones", file)[0] == 0, soc


def test_the_example_is_good(plan, models):
    example = json.loads((ROOT / "config" / "plan.example.json").read_text())
    assert plan(models["7b"], example)["plan"]["kind"] == "split"


def test_a_file_of_the_gateway_will_do(plan, models):
    """What only the gateway wants of an entry is passed over."""
    entry = {**phone("a", 7600, 5400, 20), "port": 11434, "weight": 2, "max_concurrency": 1, "model": "x", "engine": "auto"}
    answer = plan(models["0.5b"], {"gateway": {"policy": "least_loaded"}, "phones": [entry]})
    assert answer["plan"]["master"] == "a"


def test_mistakes_in_a_model(tmp_path, models):
    phones = tmp_path / "phones.json"
    phones.write_text(json.dumps([phone("a", 7600, 3000, 20)]))

    def refused(model, *words):
        code, out, err = run(model, "--phones", phones)
        assert code == 2 and out == "" and all(w in err for w in (str(model), *words)), err

    with open(models["0.5b"], "rb") as file:
        whole = file.read(4_000_000)
    for name, data, words in [
            ("empty", b"", ["byte 0", "expected the rest of the header"]),
            ("other", b"PK\x03\x04" + bytes(100), ["byte 0", "GGUF"]),
            ("old", whole[:4] + b"\x01" + whole[5:], ["byte 4: found version 1, expected 2 or 3"]),
            ("cut", whole[:100_000], ["byte 100000: found the end"]),
            ("half", whole, ["is it downloaded whole?"])]:
        file = tmp_path / f"{name}.gguf"
        file.write_bytes(data)
        refused(file, *words)
    refused(tmp_path / "none.gguf", "No such file")
    refused(tmp_path, "no plain file")


def test_a_model_in_several_files(tmp_path, plan):
    names = [tmp_path / f"m-0000{i}-of-00002.gguf" for i in (1, 2)]
    values = {"general.architecture": "llama", "llama.block_count": 1, "llama.context_length": 2048,
              "llama.embedding_length": 64, "llama.attention.head_count": 4, "split.count": 2}
    gguf.write(names[0], values, [("token_embd.weight", (64, 100), "Q8_0")])
    gguf.write(names[1], {"split.no": 1, "split.count": 2}, [("blk.0.attn_q.weight", (64, 64), "Q8_0")])
    assert plan(names[0], [phone("a", 7600, 3000, 20)])["model"]["bytes"] == 64 * 100 * 34 // 32 * 1 + 64 * 64 * 34 // 32
    names[1].unlink()
    file = tmp_path / "phones.json"
    file.write_text(json.dumps([phone("a", 7600, 3000, 20)]))
    code, _, err = run(names[0], "--phones", file)
    assert code == 2 and str(names[1]) in err


@pytest.mark.parametrize("arguments, words", [
    ([], "a GGUF file, or --layers"),
    (["--layers", "3"], "--layers wants --embedding"),
    (["--layers", "0"], "--layers"),
    (["--layers", "3", "--budget-share", "1.5"], "--budget-share"),
    (["--layers", "3", "--quantization", "Q4"], "--quantization"),
])
def test_mistakes_on_the_command_line(tmp_path, arguments, words):
    file = tmp_path / "phones.json"
    file.write_text(json.dumps([phone("a", 7600, 3000, 20)]))
    code, out, err = run("--phones", file, *arguments)
    assert code == 2 and words in err, (out, err)


def test_a_master_that_is_not_there(tmp_path, models):
    file = tmp_path / "phones.json"
    file.write_text(json.dumps([phone("a", 7600, 3000, 20)]))
    code, _, err = run(models["0.5b"], "--phones", file, "--master", "b")
    assert code == 2 and "--master b" in err
