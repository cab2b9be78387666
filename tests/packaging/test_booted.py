"""The package in a booted Debian 12: systemd itself is the service manager."""
import json
import os
import signal
import subprocess
import sys

import pytest

from debian import newer, run
from harness import ROOT, program, until

SETTINGS = "/etc/pocketfleet/phones.json"


def ask(machine, body, path="/ask"):
    return json.loads(run(*machine.on_its_network("curl", "-sS", "-m", 30, f"http://127.0.0.1:8000{path}", *(
        ["-d", json.dumps(body)] if body else []))))


def all_up(machine):
    until(lambda: sum(p["healthy"] for p in ask(machine, None, "/health")["phones"]) == 2, "the phones to be up")


@pytest.fixture(scope="module")
def fleet(machine):
    """Two simulated phones on the container's loopback; the service knows them."""
    sim = subprocess.Popen(machine.on_its_network(program(), "sim", "--count", "2", "--decode-rate", "100",
                                                  "--slots", "8", "--answer-tokens", "5"), stdout=subprocess.PIPE, text=True)
    ports = [int(sim.stdout.readline().rsplit(":", 1)[1]) for _ in range(2)]
    settings = json.loads(machine.root.path(SETTINGS).read_text())
    settings["gateway"]["cache"] = "never"
    settings["phones"] = [{"host": "127.0.0.1", "port": port, "max_concurrency": 8} for port in ports]
    machine.root.path(SETTINGS).write_text(json.dumps(settings))
    machine.run("systemctl", "restart", "pocketfleet")
    all_up(machine)
    yield
    sim.terminate()
    sim.wait(20)


def drop_in(machine, *lines):
    """Settings of the unit for one test."""
    folder, text = "/run/systemd/system/pocketfleet.service.d", "\n".join(("[Service]", *lines))
    machine.run("sh", "-c", f"mkdir -p {folder} && printf '%s\n' '{text}' >{folder}/test.conf")
    machine.run("systemctl", "daemon-reload")


@pytest.fixture
def own_settings(machine):
    yield lambda *lines: drop_in(machine, *lines)
    machine.run("rm", "-rf", "/run/systemd/system/pocketfleet.service.d")
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "restart", "pocketfleet")


def test_it_serves_after_the_boot(machine):
    assert machine.show("ActiveState") == "active"
    until(lambda: machine.show("StatusText") == "0 of 0 phones up, 0 requests running, 0 waiting", "its state")
    assert ask(machine, None, "/health")["status"] == "down"


def test_it_is_nobody_and_sees_its_credentials_only(machine):
    status = open(f"/proc/{machine.pid()}/status").read()
    uid = int(status.split("Uid:\t")[1].split()[0])
    assert 61184 <= uid <= 65519, "a dynamic user"
    assert "CapEff:\t0000000000000000" in status and "NoNewPrivs:\t1" in status and "Seccomp:\t2" in status
    # That it runs says that it has read the fleet's token, which is root's alone on disk.
    assert machine.root.path("/etc/pocketfleet/credentials/fleet.token").stat().st_uid == 0
    assert machine.root.path("/var/lib/private/pocketfleet").stat().st_uid == uid


def test_it_answers(machine, fleet):
    assert ask(machine, {"prompt": "count"})["message"]["content"] == " 1 2 3 4 5"
    assert machine.show("NRestarts") == "0"


def test_its_lines_have_priorities(machine, fleet):
    ask(machine, {"prompt": "count"})
    record = json.loads(machine.run("journalctl", "-u", "pocketfleet", "-o", "json", "-n", "1", "--grep", "^request "))
    assert record["PRIORITY"] == "6" and record["MESSAGE"].startswith("request request_id=")


def test_reload(machine, fleet):
    good = machine.root.path(SETTINGS).read_text()
    pid = machine.show("MainPID")
    machine.root.path(SETTINGS).write_text("[")
    machine.run("systemctl", "reload", "pocketfleet")
    until(lambda: "the old fleet goes on" in machine.journal("-p", "err"), "the error")
    machine.root.path(SETTINGS).write_text(good)
    machine.run("systemctl", "reload", "pocketfleet")
    until(lambda: "the file was reread" in machine.journal("-n", "5"), "the reload")
    assert machine.show("MainPID") == pid and machine.show("ActiveState") == "active"


def test_one_that_hangs_is_ended_and_started_again(machine, fleet, own_settings):
    own_settings("WatchdogSec=1", "TimeoutAbortSec=1")
    machine.run("systemctl", "restart", "pocketfleet")
    before = machine.show("MainPID")
    os.kill(machine.pid(), signal.SIGSTOP)
    until(lambda: machine.show("MainPID") not in (before, "0") and machine.show("ActiveState") == "active", "the restart")
    assert machine.show("NRestarts") == "1"
    assert "Watchdog timeout" in machine.journal("-n", "50")
    assert ask(machine, {"prompt": "count"})["message"]["content"] == " 1 2 3 4 5"


def test_a_long_answer_is_not_cut_by_the_units_own_limit(machine, fleet, own_settings):
    """The program says how long it may take: drain_s, not TimeoutStopSec."""
    own_settings("TimeoutStopSec=1")
    machine.run("systemctl", "restart", "pocketfleet")
    all_up(machine)
    stream = subprocess.Popen(machine.on_its_network(
        "curl", "-sSN", "http://127.0.0.1:8000/ask_stream", "-d",
        '{"prompt":"count","options":{"num_predict":300}}'), stdout=subprocess.PIPE, text=True)
    first = stream.stdout.readline()
    machine.run("systemctl", "stop", "pocketfleet")
    lines = [json.loads(line) for line in [first, *stream.stdout]]
    assert stream.wait(20) == 0
    assert lines[-1]["done"] is True and "error" not in lines[-1]
    assert machine.show("Result") == "success"


LOAD = r"""
import sys
sys.path.insert(0, sys.argv[1])
from client import ask
import threading
statuses, faults, enough = [], [], threading.Event()
def client():
    while not enough.is_set():
        try:
            statuses.append(ask(8000).status)
            sys.stdout.write("one more\n")
            sys.stdout.flush()
        except OSError as e:
            faults.append(repr(e))
clients = [threading.Thread(target=client) for _ in range(4)]
for c in clients: c.start()
sys.stdin.readline()
enough.set()
for c in clients: c.join()
print(sorted(set(statuses)), faults)
"""


def test_with_the_socket_restarts_refuse_no_connection(machine, fleet):
    machine.run("systemctl", "stop", "pocketfleet.service")
    machine.run("systemctl", "start", "pocketfleet.socket")
    try:
        assert ask(machine, {"prompt": "count"})["message"]["content"] == " 1 2 3 4 5", "a connection starts the service"
        load = subprocess.Popen(machine.on_its_network(sys.executable, "-c", LOAD, ROOT / "tests" / "e2e"),
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(3):
            for _ in range(20):
                assert load.stdout.readline() == "one more\n"
            pid = machine.show("MainPID")
            machine.run("systemctl", "restart", "pocketfleet.service")
            assert machine.show("MainPID") != pid
        said, _ = load.communicate("enough\n", timeout=60)
        assert said.splitlines()[-1] == "[200] []"
    finally:
        machine.run("systemctl", "stop", "pocketfleet.service", "pocketfleet.socket")
        machine.run("systemctl", "start", "pocketfleet.service")


def test_an_upgrade_restarts_it(machine, package, tmp_path):
    pid = machine.show("MainPID")
    machine.root.copy_in(newer(package, tmp_path))
    machine.run("dpkg", "--force-confdef", "--force-confold", "-i", "/root/pocketfleet_99.0-1.deb")
    assert machine.show("MainPID") not in (pid, "0") and machine.show("ActiveState") == "active"


def test_purged_while_it_runs_it_is_stopped_and_gone(machine):
    pid = machine.pid()
    machine.run("dpkg", "--purge", "pocketfleet")
    until(lambda: not _there(pid), "the process to be gone")
    assert machine.show("LoadState") == "not-found"
    assert machine.root.traces() == []


def _there(pid):
    try:
        return "Z" not in open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0]
    except OSError:
        return False
