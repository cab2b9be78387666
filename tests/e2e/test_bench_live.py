"""The benchmark of policies in real time (tests/bench/live.py), very small: that it measures what it says."""
import asyncio
import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

import engines
from harness import ROOT, program

BENCH = ROOT / "tests" / "bench"
sys.path.insert(0, str(BENCH))

import live  # noqa: E402
import live_fleet  # noqa: E402
import live_load  # noqa: E402

BOUND_S = 300


def run(*arguments, path):
    """As scripts/bench.sh runs it: tables on stdout."""
    env = {**os.environ, "POCKETFLEET": program(), "PATH": f"{path}:{os.environ['PATH']}"}
    return subprocess.run([sys.executable, BENCH / "live.py", "--fleet", "mixed-6", "--compress", "50", "--seeds", "1",
                           *arguments], capture_output=True, text=True, timeout=BOUND_S, env=env)


def table(text):
    """{contender: {heading: cell}} of the only table."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    heads, _, *cells = rows
    assert all(len(row) == len(heads) for row in rows), text
    return {row[0]: dict(zip(heads, row)) for row in cells}


def test_a_batch_is_answered_rightly_by_everybody_and_stands_beside_haproxy():
    haproxy = engines.unpacked("haproxy")
    done = run("--workload", "batch", "--batch", "8", path=haproxy)
    assert done.returncode == 0, done.stderr
    rows = table(done.stdout)
    assert set(rows) == {"haproxy roundrobin", "haproxy leastconn", "haproxy fast phones", "pocketfleet adaptive",
                         "pocketfleet least_loaded", "pocketfleet weighted_round_robin"}
    assert rows["haproxy leastconn"]["× haproxy leastconn"] == "1.00"
    for row in rows.values():
        assert row["wrong"] == row["asked again"] == row["wasted"] == "0"
        assert float(row["last answer s"]) > 0
        assert int(row["prompt tokens read"]) > 0
    assert "8 requests a run" in done.stdout


def test_conversations_are_spared_what_was_read_before(tmp_path):
    haproxy = engines.unpacked("haproxy")
    file = tmp_path / "all.json"
    done = run("--workload", "conversations-overloaded", "--arrivals", "60", "--json", str(file), path=haproxy)
    assert done.returncode == 0, done.stderr
    rows = table(done.stdout)
    assert "haproxy sticky" in rows
    assert all(row["wrong"] == "0" for row in rows.values())
    results = {r["contender"]: r for r in json.loads(file.read_text())["workloads"][0]["rounds"]}
    for result in results.values():
        assert sum(result["by_phone"].values()) == result["requests"]
    asked = {r["read"] + r["cached"] for r in results.values()}
    assert len(asked) == 1, "everybody is sent the same prompts"
    assert results["haproxy sticky"]["cached"] > 0


def test_phones_that_do_not_start_are_a_failure(tmp_path):
    broken = tmp_path / "pocketfleet"
    broken.write_text("#!/bin/sh\nexit 3\n")
    broken.chmod(0o755)
    env = {**os.environ, "POCKETFLEET": str(broken)}
    done = subprocess.run([sys.executable, BENCH / "live.py", "--fleet", "mixed-6", "--seeds", "1", "--workload",
                           "batch"], capture_output=True, text=True, timeout=BOUND_S, env=env)
    assert done.returncode == 1
    assert "NOT MEASURED" in done.stderr


def test_no_request_is_no_measurement():
    done = run("--workload", "conversations", "--arrivals", "0.1", path="/nonexistent")
    assert done.returncode == 1
    assert "nobody asks within 0.1 s" in done.stderr


# ---- what is asked, and how it is judged


def test_the_same_seed_asks_the_same():
    def drawn(seed, name="poisson"):
        phones = live_fleet.make_fleet("mixed-12", seed)
        work = live_fleet.make_workload(name, phones, seed, 64, 300)
        return [(p.name, p.decode, p.weight) for p in phones], [(r.at, r.bytes(80)) for r in work.requests], work.kills

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)
    assert drawn(1)[2] == () != drawn(1, "poisson-failing")[2]


def test_weights_are_the_true_speeds():
    phones = live_fleet.make_fleet("mixed-12", 3)
    assert max(p.weight for p in phones) == live_fleet.HEAVIEST
    by_speed = sorted((p for p in phones if p.permits == 1), key=lambda p: p.capacity(*live_fleet.means()))
    assert [p.weight for p in by_speed] == sorted(p.weight for p in by_speed)
    assert sorted(p.later for p in phones)[:2] == [0.2, 0.5]


def test_a_conversation_repeats_what_was_said():
    first, second, *_ = live_fleet.Author(1).conversation(0, 7)
    before, after = json.loads(first.body)["messages"], json.loads(second.body)["messages"]
    assert after[:3] == [*before, {"role": "assistant", "content": live_fleet.text_of(first.answer)}]
    assert second.after is first
    assert b"X-Conversation: 7\r\n" in second.bytes(80)


def sent(text, finish="stop", end="data: [DONE]\n\n", status=200):
    """An answer's bytes, in two chunks that meet within an event."""
    body = "".join(f"data: {json.dumps(e)}\n\n" for e in (
        {"choices": [{"delta": {"role": "assistant", "content": None}, "finish_reason": None}]},
        {"choices": [{"delta": {"content": text}, "finish_reason": None}]},
        {"choices": [{"delta": {}, "finish_reason": finish}]})) + end
    chunks = "".join(f"{len(part):x}\r\n{part}\r\n" for part in (body[:150], body[150:])) + "0\r\n\r\n"
    return f"HTTP/1.1 {status} OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}".encode()


@pytest.mark.parametrize(("raw", "why"), [
    (sent(" 1 2 3"), None),
    (sent(" 1 2 4"), "3 tokens expected"),
    (sent(" 1 2"), "3 tokens expected"),
    (sent(" 1 2 3", finish="length"), "ends by 'length'"),
    (sent(" 1 2 3", end=""), "ends by"),
    (sent(" 1 2 3", status=503), "status 503"),
    (sent(" 1 2 3")[:120], "not to be read"),
    (b"", "not to be read"),
])
def test_each_answer_is_judged(raw, why):
    async def arrive():
        request = live_fleet.Request(b"{}", 3, "stop", 0.0)
        answer = live_load.Answer(request, asyncio.get_running_loop())
        answer.begin()
        for byte in range(0, len(raw), 7):
            answer.data_received(raw[byte:byte + 7])
        return answer

    answer = asyncio.run(arrive())
    wrong = answer.wrong()
    assert (wrong is None) if why is None else (why in wrong)
    if why is None:
        assert answer.first <= answer.last


def test_ratios_are_taken_within_a_seed():
    def result(contender, seed, p50):
        return {"contender": contender, "seed": seed, "p50": p50}

    rounds = [result("haproxy leastconn", 1, 10), result("haproxy leastconn", 2, 100), result("adaptive", 1, 5),
              result("adaptive", 2, 80)]
    assert live.ratio(rounds, "adaptive", "p50") == "0.65"
    assert live.ratio(rounds[2:], "adaptive", "p50") == ""


def test_it_says_how_it_is_used():
    done = subprocess.run([ROOT / "scripts" / "bench.sh", "--help"], capture_output=True, text=True, timeout=60)
    assert "--scenario live" in done.stdout
    assert re.search(r"tests/bench/live\.py", done.stdout) and pathlib.Path(BENCH / "live.py").exists()
