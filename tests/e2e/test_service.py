"""As a service of systemd: what it is told, sockets that it hands over, its journal, its credentials.

The test is the service manager: it has the notify socket and the listening socket, and sets the environment.
"""
import contextlib
import ctypes
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from client import Connection, ask, counted, post, question
from harness import PATIENCE, program, until


@pytest.fixture(scope="module")
def phones(start_once):
    return start_once.sim(2, decode_rate=1000, answer_tokens=5)


class Manager:
    """What systemd's end of $NOTIFY_SOCKET hears: (seconds, {name: value}) for each message."""

    def __init__(self, folder):
        self.path = str(folder / "notify")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.path)
        self._heard, self._news = [], threading.Condition()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self):
        while text := self._socket.recv(65536).decode():
            with self._news:
                said = dict(line.split("=", 1) for line in text.splitlines())
                self._heard.append((time.monotonic(), said))
                self._news.notify_all()

    def heard(self, name, start=0):
        with self._news:
            return [(at, said) for at, said in self._heard[start:] if name in said]

    def mark(self):
        with self._news:
            return len(self._heard)

    def wait_for(self, name, count=1, start=0, bound=PATIENCE, good=lambda said: True):
        """COUNT messages with NAME in them."""
        def enough():
            return [m for m in self.heard(name, start) if good(m[1])][:count]
        with self._news:
            there = self._news.wait_for(lambda: len(enough()) == count, bound)
            assert there, f"{count} x {name} expected, heard: {self._heard}"
            return enough()

    def close(self):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
            end.sendto(b"", self.path)
        self._thread.join(PATIENCE)
        self._socket.close()


@pytest.fixture
def manager(tmp_path):
    manager = Manager(tmp_path)
    yield manager
    manager.close()


# ---- what it is told


def test_ready_means_that_it_listens(start, phones, manager):
    gateway = start.gateway(phones, env={"NOTIFY_SOCKET": manager.path})
    (_, said), = manager.wait_for("READY")
    assert said == {"READY": "1"}
    assert gateway.ask().content() == counted(5)


def test_the_state_in_words(start, phones, manager):
    nobody = {"name": "nobody", "host": "127.0.0.1", "port": 1}
    start.gateway([*phones, nobody], healthy=2, env={"NOTIFY_SOCKET": manager.path})
    manager.wait_for("STATUS", good=lambda said: said["STATUS"] == "2 of 3 phones up, 0 requests running, 0 waiting")


@pytest.mark.parametrize("good", [True, False], ids=["good", "broken"])
def test_a_reload_has_a_beginning_and_an_end(start, phones, manager, good):
    gateway = start.gateway(phones, env={"NOTIFY_SOCKET": manager.path})
    manager.wait_for("READY")
    mark, began = manager.mark(), time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    if not good:
        gateway.file.write_text("[")
    gateway.signal(signal.SIGHUP)
    (_, said), = manager.wait_for("RELOADING", start=mark)
    assert said["RELOADING"] == "1"
    assert began <= int(said["MONOTONIC_USEC"]) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    manager.wait_for("READY", start=mark)
    assert manager.heard("RELOADING", mark)[0][0] <= manager.heard("READY", mark)[0][0]


def test_stopping_and_how_long_that_may_take(start, phones, manager):
    gateway = start.gateway(phones, {"drain_s": 33}, env={"NOTIFY_SOCKET": manager.path})
    gateway.signal(signal.SIGTERM)
    (_, said), = manager.wait_for("STOPPING")
    assert said["STOPPING"] == "1" and int(said["EXTEND_TIMEOUT_USEC"]) > 33_000_000
    assert gateway.wait() == 0


def test_without_a_service_manager_nothing_is_told(start, phones, manager):
    gateway = start.gateway(phones)
    gateway.signal(signal.SIGHUP)
    gateway.stop()
    assert manager.mark() == 0


# ---- signs of life

PTRACE_ATTACH, PTRACE_DETACH, WALL = 16, 17, 0x40000000


@contextlib.contextmanager
def stopped(process, thread):
    """One thread of a process stands still, as if it were in an endless loop; the others go on."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.ptrace(PTRACE_ATTACH, thread, None, None) != 0:
        pytest.skip(f"a thread cannot be stopped here: {os.strerror(ctypes.get_errno())}")
    os.waitpid(thread, WALL)
    try:
        yield
    finally:
        libc.ptrace(PTRACE_DETACH, thread, None, None)


def thread_called(process, name):
    tasks = pathlib.Path(f"/proc/{process.pid}/task").iterdir()
    return next(int(t.name) for t in tasks if (t / "comm").read_text().strip() == name)


@pytest.mark.parametrize("workers", [1, 3])
def test_signs_of_life_are_never_late(start, phones, manager, workers):
    limit = 2.0
    start.gateway(phones, {"workers": workers},
                  env={"NOTIFY_SOCKET": manager.path, "WATCHDOG_USEC": str(int(limit * 1e6))})
    signs = [at for at, _ in manager.wait_for("WATCHDOG", 4)]
    assert max(b - a for a, b in zip(signs, signs[1:])) < limit


def test_a_worker_that_hangs_ends_the_signs_of_life(start, phones, manager):
    gateway = start.gateway(phones, {"workers": 3},
                            env={"NOTIFY_SOCKET": manager.path, "WATCHDOG_USEC": "400000"})
    manager.wait_for("WATCHDOG", 2)
    with stopped(gateway, thread_called(gateway, "worker 2")):
        gateway.log.wait_for("a worker does not answer")
        mark, seen = manager.mark(), gateway.log.mark()
        gateway.log.wait_for_lines("a worker does not answer", 4, start=seen)
        assert not manager.heard("WATCHDOG", mark)
    manager.wait_for("WATCHDOG", 2, start=mark)


def test_so_does_the_first_one(start, phones, manager):
    gateway = start.gateway(phones, {"workers": 2},
                            env={"NOTIFY_SOCKET": manager.path, "WATCHDOG_USEC": "400000"})
    manager.wait_for("WATCHDOG", 2)
    with stopped(gateway, gateway.pid):
        mark = manager.mark()
        with pytest.raises(AssertionError):
            manager.wait_for("WATCHDOG", 2, start=mark, bound=1.2)  # one may have been on its way
    manager.wait_for("WATCHDOG", 2, start=mark)


def test_the_watchdog_of_another_process_is_not_ours(start, phones, manager):
    gateway = start.gateway(phones, env={"NOTIFY_SOCKET": manager.path, "WATCHDOG_USEC": "100000",
                                         "WATCHDOG_PID": "1"})
    manager.wait_for("READY")
    for _ in range(20):
        gateway.ask()
    assert not manager.heard("WATCHDOG")


# ---- sockets that are handed over

# Does what systemd does between fork and exec: descriptor 3 and on, and the environment that tells of them.
HAND_OVER = """
import fcntl, os, sys
given = [int(n) for n in sys.argv[1].split(",")]
spare = [fcntl.fcntl(n, fcntl.F_DUPFD, 100) for n in given]
for i, n in enumerate(spare):
    os.dup2(n, 3 + i)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(given)))
os.execv(sys.argv[2], sys.argv[2:])
"""


def handing_over(*sockets):
    numbers = [s.fileno() for s in sockets]
    return {"before": [sys.executable, "-c", HAND_OVER, ",".join(map(str, numbers))], "pass_fds": numbers}


@pytest.fixture
def listening():
    with contextlib.ExitStack() as all_of_them:
        def one(kind=socket.SOCK_STREAM, address="127.0.0.1", listens=True):
            made = all_of_them.enter_context(socket.socket(socket.AF_INET, kind))
            made.bind((address, 0))
            if listens and kind == socket.SOCK_STREAM:
                made.listen(4096)
            return made
        yield one


def address_of(one):
    return "{}:{}".format(*one.getsockname())


@pytest.mark.parametrize("workers", [1, 3])
def test_a_socket_that_is_handed_over(start, phones, listening, workers):
    door = listening()
    gateway = start.gateway(phones, {"workers": workers}, listen=address_of(door), **handing_over(door))
    assert gateway.port == door.getsockname()[1]
    assert [gateway.ask().content() for _ in range(20)] == [counted(5)] * 20


def test_restarts_refuse_no_connection(start, phones, listening):
    """Clients that open a connection for each question, while the gateway is stopped and started again."""
    door = listening()
    gateway = start.gateway(phones, {"cache": "never"}, listen=address_of(door), **handing_over(door))
    enough, replies, faults = threading.Event(), [], []
    port = gateway.port

    def client():
        while not enough.is_set():
            try:
                replies.append(ask(port).status)
            except OSError as e:
                faults.append(repr(e))

    clients = [threading.Thread(target=client) for _ in range(8)]
    for one in clients:
        one.start()
    try:
        for _ in range(4):
            so_far = len(replies)
            until(lambda: len(replies) > so_far + 50, "some answers")
            gateway.stop()
            gateway = start.gateway(phones, {"cache": "never"}, listen=address_of(door), **handing_over(door))
        so_far = len(replies)
        until(lambda: len(replies) > so_far + 50, "some answers")
    finally:
        enough.set()
        for one in clients:
            one.join()
    assert not faults
    assert set(replies) == {200}


def test_a_connection_that_came_just_before_the_end(start, phones):
    """Its first request may be on its way: it is answered. One that has nothing to ask holds up nothing for long."""
    gateway = start.gateway(phones)
    asking, silent = Connection(gateway.port), Connection(gateway.port)
    until(lambda: gateway.metric("pocketfleet_connections") == 3, "both to be taken")
    mark = gateway.log.mark()
    gateway.signal(signal.SIGTERM)
    gateway.log.wait_for("draining", start=mark)
    asking.send(post("/ask", question()))
    reply = asking.reply()
    assert (reply.content(), reply.headers["Connection"]) == (counted(5), "close")
    assert gateway.wait(bound=5) == 0
    assert silent.rest() == b""


def refused(phones, tmp_path, listen, *sockets):
    """What `serve` says of sockets that it does not take."""
    file = tmp_path / "phones.json"
    file.write_text(json.dumps([p.entry() for p in phones]))
    how = handing_over(*sockets)
    done = subprocess.run([*how["before"], program(), "serve", "--phones", str(file), "--listen", listen],
                          pass_fds=how["pass_fds"], capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 2, "a restart does not mend it"
    return done.stderr


def test_sockets_that_are_not_taken(phones, tmp_path, listening):
    good = listening()
    said = refused(phones, tmp_path, "127.0.0.1:0", listening(socket.SOCK_DGRAM))
    assert "something else than a TCP socket that listens" in said
    said = refused(phones, tmp_path, "127.0.0.1:0", listening(listens=False))
    assert "something else than a TCP socket that listens" in said
    said = refused(phones, tmp_path, "127.0.0.1:0", good, listening())
    assert "something else than one socket" in said


def test_a_socket_at_another_address_is_not_taken(phones, tmp_path, listening):
    """The file decides who can reach the gateway; a socket unit must not open it to the network in passing."""
    everywhere = listening(address="0.0.0.0")
    said = refused(phones, tmp_path, "127.0.0.1:0", everywhere)
    assert f"a socket at {address_of(everywhere)}" in said and "127.0.0.1:0" in said and "ListenStream=" in said
    loopback = listening()
    said = refused(phones, tmp_path, "127.0.0.1:1", loopback)
    assert address_of(loopback) in said


# ---- the journal

# systemd says which file its journal is, so that a program can see whether its standard error is that one.
TO_THE_JOURNAL = """
import os, sys
about = os.fstat(2)
os.environ["JOURNAL_STREAM"] = f"{about.st_dev}:{about.st_ino + int(sys.argv[1])}"
os.execv(sys.argv[2], sys.argv[2:])
"""
journal = [sys.executable, "-c", TO_THE_JOURNAL, "0"]
elsewhere = [sys.executable, "-c", TO_THE_JOURNAL, "1"]
TIME = r"\d{4}-\d\d-\d\dT"


def test_lines_for_the_journal(start, phones):
    gateway = start.gateway(phones, before=journal)
    gateway.ask()
    gateway.log.wait_for("^<6>request request_id=[0-9a-f]{16} route=/ask key="" phone=")
    gateway.file.write_text("[")
    gateway.signal(signal.SIGHUP)
    gateway.log.wait_for("^<3>the file is not taken mistake=")
    gateway.stop()
    assert all(line.startswith("<") for line in gateway.log.lines())


def test_json_for_the_journal(start, phones):
    gateway = start.gateway(phones, {"log_format": "json"}, before=journal)
    gateway.ask()
    gateway.log.wait_for('"event":"request"')
    for line in gateway.log.lines():
        assert line[:3] in ("<6>", "<4>"), line
        record = json.loads(line[3:])
        assert list(record)[:3] == ["time", "level", "event"]
        assert record["level"] == {"<6>": "info", "<4>": "warning"}[line[:3]]


@pytest.mark.parametrize("settings, before, form", [
    ({}, elsewhere, f"^{TIME}.* info listening"), ({"log_format": "text"}, journal, f"^{TIME}.* info listening"),
    ({"log_format": "journal"}, [], "^<6>listening")], ids=["elsewhere", "text", "asked-for"])
def test_which_form(start, phones, settings, before, form):
    start.gateway(phones, settings, before=before).log.wait_for(form)


def test_mistakes_have_a_priority_too(tmp_path):
    file = tmp_path / "phones.json"
    file.write_text('[{"host": "a", "weight": 0}]')
    done = subprocess.run([*journal, program(), "serve", "--phones", str(file)], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=PATIENCE)
    assert done.returncode == 2
    assert done.stderr.startswith("<3>") and "phones[0].weight" in done.stderr


# ---- credentials and state


def check(file, **env):
    done = subprocess.run([program(), "check", str(file)], capture_output=True, text=True, timeout=PATIENCE,
                          env={**os.environ, **{k: str(v) for k, v in env.items()}})
    return done.returncode, done.stderr


@pytest.fixture
def configured(tmp_path):
    """A file that names a credential; and a folder for credentials."""
    file = tmp_path / "etc" / "phones.json"
    (file.parent / "credentials").mkdir(parents=True)
    file.write_text(json.dumps({"gateway": {"registration": "open", "fleet_token_file": "credential:fleet.token"},
                                "phones": []}))
    passed = tmp_path / "passed"
    passed.mkdir()
    return file, passed


def put(path, mode, text="0123456789abcdef-token\n"):
    path.write_text(text)
    path.chmod(mode)


@pytest.mark.parametrize("name", ["fleet.token", "pocketfleet_fleet.token"])
def test_a_credential_of_the_service(configured, name):
    file, passed = configured
    assert check(file, CREDENTIALS_DIRECTORY=passed)[0] == 2
    put(passed / name, 0o440)  # as systemd leaves it behind an access list
    assert check(file, CREDENTIALS_DIRECTORY=passed) == (0, "")
    put(passed / name, 0o444)
    code, said = check(file, CREDENTIALS_DIRECTORY=passed)
    assert code == 2 and "others can read" in said


def test_the_same_file_at_a_shell(configured):
    file, passed = configured
    code, said = check(file)
    assert code == 2 and str(file.parent / "credentials" / "fleet.token") in said
    put(file.parent / "credentials" / "fleet.token", 0o440)
    assert check(file)[0] == 2, "no access list here: the group can read it"
    put(file.parent / "credentials" / "fleet.token", 0o600)
    assert check(file) == (0, "")


def test_what_it_keeps_is_kept_in_the_folder_for_state(start, phones, tmp_path):
    kept = tmp_path / "phones.json.registered"
    kept.write_text("damaged")
    gateway = start.gateway(phones, env={"STATE_DIRECTORY": str(tmp_path)})
    assert f"kept_as={kept}.damaged" in gateway.log.wait_for("the registered phones cannot be read.*")[0]
