"""`pocketfleet group` over real SSH: workers and master are started through an sshd, watched, healed, and ended."""
import os
import shutil
import signal
import subprocess

import pytest

from groups import Group, unsplit_answer
from harness import until
from sshd import sshd_with_shell  # noqa: F401


@pytest.fixture(scope="module")
def unsplit(start_once, llama_programs, slow_model):
    return unsplit_answer(start_once, llama_programs, slow_model)


@pytest.fixture
def elsewhere(sshd_with_shell, llama_programs, slow_model):  # noqa: F811
    """Programs and model where the user of the other machine finds them."""
    folder = sshd_with_shell.folder
    subprocess.run(["cp", "-a", str(llama_programs.parent), str(folder / "llama")], check=True)
    shutil.copy(slow_model, folder / "model.gguf")
    os.chmod(folder / "model.gguf", 0o644)
    return folder / "llama" / "bin", folder / "model.gguf"


def process_with(words):
    """The pid of the process, not of a shell or an ssh, with these arguments; None: there is none."""
    sought = "".join(f"{w}\0" for w in words).encode()
    for entry in os.listdir("/proc"):
        try:
            line = open(f"/proc/{entry}/cmdline", "rb").read() if entry.isdigit() else b""
            if sought in line and open(f"/proc/{entry}/stat").read().rpartition(")")[2].split()[0] != "Z":
                return int(entry)
        except OSError:
            pass
    return None


def there(member):
    """Of a worker or the master, by its address."""
    port = "--port" if "arguments" in member and "-np" in member["arguments"] else "-p"
    return process_with([member["host"], port, str(member["port"])])


def parent_of(pid):
    return int(open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[1])


def session_of(pid):
    """The sshd that serves the connection on which the process runs."""
    while "sshd" not in open(f"/proc/{pid}/comm").read():
        pid = parent_of(pid)
    return pid


@pytest.fixture
def group(start, sshd_with_shell, elsewhere):  # noqa: F811
    programs, model = elsewhere
    ssh = {"ssh": sshd_with_shell.client(), "program": str(programs / "rpc-server")}
    made = start.own(Group(start.folder / "group", programs, model, first_pause_s=0.3, workers=[
        {"host": "127.0.0.2", **ssh}, {"host": "127.0.0.3", **ssh}]))
    made.ready(60)
    return made


def test_a_worker_that_dies_there_is_healed_and_nobody_is_left_behind(group, unsplit):
    a, b = group.config["workers"]
    assert group.complete() == unsplit
    first = there(b)
    assert first and os.stat(f"/proc/{first}").st_uid != 0
    os.kill(first, signal.SIGKILL)
    group.noticed("worker_dead", "b")
    events = group.healed(60)
    assert [(e["fault"], e["member"]) for e in events] == [("worker_dead", "b")]
    assert there(b) not in (None, first)
    assert group.complete() == unsplit
    assert group.stop() == 0
    until(lambda: not there(a) and not there(b), "the workers to have ended")


def test_the_master_runs_there_too(start, sshd_with_shell, elsewhere, unsplit):  # noqa: F811
    programs, model = elsewhere
    ssh = {"ssh": sshd_with_shell.client()}
    group = start.own(Group(start.folder / "group", programs, model, workers=[{"host": "127.0.0.2", **ssh}], master=ssh))
    group.ready(60)
    assert group.complete() == unsplit
    worker, master = group.config["workers"][0], group.config["master"]
    os.kill(there(master), signal.SIGKILL)
    group.noticed("master_dead", "master")
    group.healed(60)
    assert group.complete() == unsplit
    group.signal(signal.SIGKILL)  # and without a chance to tell anybody
    group.wait()
    until(lambda: not there(worker) and not there(master), "both to have ended")


def test_who_loses_its_connection_ends_and_is_started_anew(group, unsplit):
    b = group.config["workers"][1]
    first = there(b)
    os.kill(group.pid_of("b"), signal.SIGKILL)  # ssh's near end
    group.noticed("worker_dead", "b")
    group.healed(60)
    until(lambda: not os.path.exists(f"/proc/{first}"), "the worker of the dead connection to have ended")
    assert group.complete() == unsplit


def test_a_worker_that_outlives_its_connection_is_in_the_way_until_sshd_notices(group, unsplit):
    """The far end of the connection sleeps: the old worker has the port, and the new one cannot start."""
    b = group.config["workers"][1]
    first = there(b)
    session = session_of(first)
    os.kill(session, signal.SIGSTOP)
    try:
        os.kill(group.pid_of("b"), signal.SIGKILL)
        group.noticed("worker_dead", "b")
        until(lambda: group.member("b")["failures"] >= 2, "the new one to fail", bound=30)
        assert os.path.exists(f"/proc/{first}") and not group.status()["usable"]
    finally:
        os.kill(session, signal.SIGCONT)
    until(lambda: not os.path.exists(f"/proc/{first}"), "the old one to end")
    group.healed(60)
    assert group.complete() == unsplit


def test_a_connection_that_hangs_is_given_up(group, unsplit):
    """ssh's near end sleeps: sshd ends the worker, and the master, which cannot reach it any more, says so."""
    b = group.config["workers"][1]
    first = there(b)
    os.kill(group.pid_of("b"), signal.SIGSTOP)
    until(lambda: not os.path.exists(f"/proc/{first}"), "sshd to give the connection up", bound=30)
    try:  # the master notices at its next request only
        group.complete()
    except (OSError, AssertionError):
        pass
    group.noticed("worker_silent", "b")
    group.healed(60)
    assert there(b) not in (None, first)
    assert group.complete() == unsplit
