"""`pocketfleet group`: a real llama-server over real rpc-servers, what goes wrong with them, and that it is healed."""
import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

import engines
from groups import Group, children_of, free_port, of_another_version, unsplit_answer
from harness import ROOT, Process, program, until


@pytest.fixture(scope="module")
def unsplit(start_once, llama_programs, slow_model):
    return unsplit_answer(start_once, llama_programs, slow_model)


@pytest.fixture
def group(start, llama_programs, slow_model):
    made = start.own(Group(start.folder / "group", llama_programs, slow_model))
    made.ready()
    return made


def test_answers_are_those_of_one_server_and_the_workers_compute(group, unsplit):
    assert group.complete() == unsplit
    for worker in "ab":
        assert "graph_recompute" in group.worker_log(worker)
    assert [m["state"] for m in group.status()["members"]] == ["up", "up", "up"]


FAULTS = {
    "a worker is killed": ("b", signal.SIGKILL, "worker_dead"),
    "a worker is stopped": ("a", signal.SIGSTOP, "worker_frozen"),
    "the master is killed": ("master", signal.SIGKILL, "master_dead"),
    "the master is stopped": ("master", signal.SIGSTOP, "master_frozen"),
}


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
@pytest.mark.parametrize("what", FAULTS)
def test_a_fault_is_noticed_named_and_healed(group, unsplit, what, busy):
    who, how, fault = FAULTS[what]
    before = {m["name"]: m["pid"] for m in group.status()["members"]}
    if busy:
        def ask():
            try:
                group.complete(3000)
            except OSError:
                pass  # cut, as the master is
        client = threading.Thread(target=ask)
        client.start()
        until(lambda: "graph_recompute" in group.worker_log("a"), "the workers to compute")
    began = time.monotonic()
    group.signal_member(who, how)
    group.noticed(fault, who)
    noticed = time.monotonic() - began
    events = group.healed()
    print(f"MEASURED {what}, {'busy' if busy else 'idle'}: noticed {noticed:.2f} s, healed {time.monotonic() - began:.2f} s")
    assert [(e["fault"], e["member"]) for e in events] == [(fault, who)]
    assert group.complete() == unsplit
    after = {m["name"]: m["pid"] for m in group.status()["members"]}
    assert {name for name in before if after[name] != before[name]} == {who, "master"}, "no other was started anew"
    if busy:
        client.join()


def test_a_worker_that_goes_on_in_time_loses_nothing(start, llama_programs, slow_model):
    group = start.own(Group(start.folder / "group", llama_programs, slow_model, frozen_limit_s=30))
    group.ready()
    group.signal_member("a", signal.SIGSTOP)
    until(lambda: group.member("a")["state"] == "frozen", "the frozen worker to be seen")
    assert not group.status()["usable"]
    group.signal_member("a", signal.SIGCONT)
    group.ready()
    assert group.status()["events"] == []


def test_a_second_master_does_not_keep_the_group_from_coming_back(start, llama_programs, slow_model, unsplit):
    group = start.own(Group(start.folder / "group", llama_programs, slow_model, ready_limit_s=3))
    group.ready()
    ends = ",".join(f"{w['host']}:{w['port']}" for w in group.config["workers"])
    other = start.own(Process("other", [
        str(llama_programs / "llama-server"), "-m", str(slow_model), "--host", "127.0.0.1", "--port", str(free_port()),
        "--rpc", ends, "-ngl", "9", "-t", "1"], env={"GGML_NO_BACKTRACE": "1"}))

    def waits():  # two are connected to that port: the group's master, and who waits behind it
        port = f":{group.config['workers'][0]['port']:04X}"
        lines = [line.split() for line in open("/proc/net/tcp")]
        return sum(f[1].endswith(port) and f[3] == "01" for f in lines) == 2
    until(waits, "the second master to wait")
    assert group.complete() == unsplit, "the first one is served"
    began = time.monotonic()
    group.signal_member("master", signal.SIGKILL)  # and now the worker is the other's
    group.noticed("master_stuck")
    noticed = time.monotonic() - began
    group.healed()
    print(f"MEASURED second master: noticed {noticed:.2f} s, healed {time.monotonic() - began:.2f} s")
    assert group.complete() == unsplit
    assert other.running(), "who has lost its workers while it was idle learns of it at its next request"


def test_a_worker_that_is_lost_is_left_out(start, llama_programs, slow_model, unsplit):
    """The plan for those that are left is made with what `replan` names."""
    marker = start.folder / "broken"
    phones = [{"name": name, "host": f"127.0.0.{i}", "ram_mb": 2000, "role": role, **speed} for name, i, role, speed in (
        ("master", 1, "master", {}), ("a", 2, "worker", {"gb_per_s": 10}), ("b", 3, "worker", {"gb_per_s": 10}))]
    (start.folder / "plan.json").write_text(json.dumps(phones))
    group = start.own(Group(start.folder / "group", llama_programs, slow_model, restarts=2, longest_pause_s=0.3,
                            replan={"phones": "../plan.json"}, workers=[{"host": "127.0.0.2"}, {
                                "host": "127.0.0.3", "prefix": ["sh", "-c", f'[ -e {marker} ] && exit 3; exec "$@"', "sh"]}]))
    group.ready()
    marker.touch()
    group.signal_member("b", signal.SIGKILL)
    until(lambda: group.status()["left_out"] == ["b"], "the lost worker to be left out")
    status = group.ready()
    assert [(m["name"], m["state"]) for m in status["members"]] == [("a", "up"), ("master", "up"), ("b", "lost")]
    assert group.complete() == unsplit
    command = children_of(group.pid)
    assert any(b"-ngl\0009\0" in open(f"/proc/{pid}/cmdline", "rb").read() for pid in command)
    assert "a member is lost, the others go on without it member=b" in group.log.text()


def test_who_cannot_be_done_without_is_tried_again(start, llama_programs, slow_model, unsplit):
    marker = start.folder / "broken"
    group = start.own(Group(start.folder / "group", llama_programs, slow_model, restarts=1, longest_pause_s=0.3, workers=[
        {"host": "127.0.0.2", "prefix": ["sh", "-c", f'[ -e {marker} ] && exit 3; exec "$@"', "sh"]}]))
    group.ready()
    marker.touch()
    group.signal_member("a", signal.SIGKILL)
    until(lambda: group.member("a")["lost"], "the worker to be lost")
    assert 'no_plan_without_it="the file has no \\"replan\\""' in group.log.text()
    marker.unlink()
    group.ready()
    assert group.complete() == unsplit


def test_another_build_is_named_and_nothing_is_started(start, llama_programs, slow_model):
    group = start.own(Group(start.folder / "group", llama_programs, slow_model, workers=[
        {"host": "127.0.0.2", "version": ["echo", "version: 0.6.0 (build 11000)"]}, {"host": "127.0.0.3"}]))
    assert group.wait() == 1
    assert "version_mismatch: nothing is started worker=a" in group.log.text()
    assert "0.6.0 (build 11000)" in group.log.text() and "build 11669" in group.log.text()
    assert group.worker_log("a") == group.worker_log("b") == group.worker_log("master") == ""


def test_workers_of_different_protocols_get_no_master(start, llama_programs, slow_model):
    group = start.own(Group(start.folder / "group", llama_programs, slow_model, workers=[
        {"host": "127.0.0.2"}, {"host": "127.0.0.3", "prefix": ["sh", "-c", 'echo "Starting RPC server v9.9.9"; exec "$@"', "sh"]}]))
    group.noticed("version_mismatch")
    assert group.worker_log("master") == ""


@pytest.mark.parametrize("answer", ["V9.1.2", "V3.0.0-short", "hang-up"])
def test_a_master_that_meets_another_version_names_the_worker(start, llama_programs, slow_model, answer):
    """A real master: it ends at once, each time with other words, or with words that could be a crash's."""
    group = start.own(Group(start.folder / "group", llama_programs, slow_model, longest_pause_s=0.3, workers=[
        {"host": "127.0.0.3", **of_another_version(answer)}]))
    group.noticed("version_mismatch", "a")
    status = until(lambda: (s := group.status()) and s["fault"] == "version_mismatch" and s, "its status to say so")
    assert status["faulty_member"] == "a" and not status["usable"]
    assert status["reason"] == "a does not go together with the master: they speak different versions"
    assert group.worker_log("master"), "it was the master that found out"
    assert {e["fault"] for e in group.status()["events"]} == {"version_mismatch"}


def test_of_several_workers_the_one_with_another_version_is_named(start, llama_programs, slow_model):
    group = start.own(Group(start.folder / "group", llama_programs, slow_model, longest_pause_s=0.3, workers=[
        {"host": "127.0.0.2"}, {"host": "127.0.0.3", **of_another_version("V9.1.2")}]))
    group.noticed("version_mismatch", "b")


def test_a_worker_that_the_master_cannot_connect_to_is_started_anew(start, llama_programs, slow_model, unsplit):
    """It listens, but elsewhere than the master looks for it; so it is as long as `away` is there."""
    away = start.folder / "away"
    away.touch()
    group = start.own(Group(start.folder / "group", llama_programs, slow_model, longest_pause_s=0.3, workers=[
        {"host": "127.0.0.2", "ssh": ["sh", "-c", f'case "$0" in *" -H "*) [ -e {away} ] && '
                                                  '{ echo "Starting RPC server v8.0.0"; exec cat; } ;; esac; '
                                                  'exec sh -c "$0"']}]))
    group.noticed("worker_silent", "a")
    away.unlink()
    group.ready()
    assert group.complete() == unsplit


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_nobody_is_left_behind(group, how):
    pids = children_of(group.pid)
    assert len(pids) == 3
    group.signal(how)
    group.wait()
    until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in pids), "all of them to be gone")


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_what_runs_elsewhere_ends_with_its_connection(start, llama_programs, slow_model, unsplit, how):
    """A shell in a session of its own, which no signal reaches, in the place of SSH's other end."""
    shell = ["setsid", "--wait", "sh", "-c"]
    group = start.own(Group(start.folder / "group", llama_programs, slow_model, workers=[
        {"host": "127.0.0.2", "ssh": shell}, {"host": "127.0.0.3", "ssh": shell}]))
    group.ready()
    assert group.complete() == unsplit

    def there(worker):
        words = f"-H\0{worker['host']}\0-p\0{worker['port']}\0".encode()
        for entry in os.listdir("/proc"):
            try:
                if entry.isdigit() and words in open(f"/proc/{entry}/cmdline", "rb").read():
                    return int(entry)
            except OSError:
                pass
        return None
    a, b = group.config["workers"]
    os.kill(there(a), signal.SIGKILL)
    group.noticed("worker_dead", "a")
    group.healed()
    assert group.complete() == unsplit
    os.kill(group.pid_of("b"), signal.SIGKILL)  # the connection, not the worker
    group.noticed("worker_dead", "b")
    group.healed()
    assert group.complete() == unsplit
    group.signal(how)
    group.wait()
    until(lambda: not there(a) and not there(b), "the workers to have ended")


def check(folder, **change):
    file = folder / "group.json"
    whole = {"model": "m.gguf", "master": {"host": "192.168.1.2"}, "workers": [{"host": "192.168.1.3"}],
             "tensor_split": [9], **change}
    file.write_text(json.dumps(whole))
    return subprocess.run([program(), "group", "check", str(file)], capture_output=True, text=True, timeout=20)


def test_a_worker_on_all_addresses_has_to_be_meant(tmp_path):
    refused = check(tmp_path, workers=[{"host": "0.0.0.0", "at": "192.168.1.3:50052"}])
    assert refused.returncode == 2
    assert 'workers[0].host: found "0.0.0.0" (a string)' in refused.stderr and "on_all_addresses" in refused.stderr
    meant = check(tmp_path, workers=[{"host": "0.0.0.0", "at": "192.168.1.3:50052", "on_all_addresses": True}])
    assert meant.returncode == 0, meant.stderr
    hidden = check(tmp_path, workers=[{"host": "192.168.1.3", "arguments": ["-H", "0.0.0.0"]}])
    assert hidden.returncode == 2 and "workers[0].arguments[0]" in hidden.stderr


def test_the_example_is_good():
    done = subprocess.run([program(), "group", "check", str(ROOT / "config" / "group.example.json")],
                          capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, done.stderr
    assert "--rpc 192.168.1.51:50052,127.0.0.1:50054 -ts 10,8 -ngl 18" in done.stdout


def test_in_namespaces(llama_programs, slow_model, unsplit, tmp_path):
    """What takes a network of its own, without root: groups_in_namespaces.py, in one."""
    may = subprocess.run(["unshare", "-Urn", "ip", "link", "add", "br0", "type", "bridge"], capture_output=True, text=True)
    if may.returncode != 0:
        engines.required(f"no network namespaces without root: {may.stderr.strip()}")
    done = subprocess.run(
        ["unshare", "-Urn", "--kill-child", sys.executable, "-m", "pytest", "-q", "-rP", "-p", "no:cacheprovider",
         str(ROOT / "tests" / "e2e" / "groups_in_namespaces.py")],
        env={**os.environ, "POCKETFLEET": program(), "GROUPS_PROGRAMS": str(llama_programs),
             "GROUPS_MODEL": str(slow_model), "GROUPS_UNSPLIT": unsplit},
        capture_output=True, text=True, timeout=300)
    print(done.stdout)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
