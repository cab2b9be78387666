"""The subcommands for a running gateway, as a person or a script uses them. What they do to the fleet: test_admin.py."""
import fcntl
import json
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import termios
import threading
import time

import pytest

from admin_side import KEY, admin, listed, with_operator
from client import counted
from harness import program, until

BOUND = 30.0


def run(gateway, *arguments, code=0, env=None, url=None):
    """(standard output, standard error) of `pocketfleet ARGUMENTS`, which must end with this code."""
    where = {"POCKETFLEET_URL": url or gateway.url, "POCKETFLEET_KEY": KEY, "NO_COLOR": "", **(env or {})}
    done = subprocess.run([program(), *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=BOUND, env={**os.environ, **where}, check=False)
    assert done.returncode == code, done
    return done.stdout, done.stderr


def as_json(gateway, *arguments):
    out, errors = run(gateway, *arguments, "--json")
    assert errors == "" and out.count("\n") == 1
    return json.loads(out)


@pytest.fixture
def start(start):
    return with_operator(start)


@pytest.fixture
def phones(start):
    return start.sim(2, decode_rate=100, answer_tokens=5)


@pytest.fixture
def gateway(start, phones):
    first, second = phones
    return start.gateway([first.entry(name="pixel-8", weight=2), second.entry(name="b/c #1 %41")])


# ---- what is told


def test_the_table_is_aligned(gateway, phones):
    run(gateway, "add", "127.0.0.1", "--port", "1", "--name", "gone")
    until(lambda: listed(gateway)["gone"]["state"] == "down", "it to be found down")
    out, errors = run(gateway, "phones")
    assert errors == "" and "\x1b" not in out, "no colour where nobody looks"
    head, *rows, last = out.splitlines()
    assert head.split() == ["NAME", "STATE", "RUNNING", "WEIGHT", "BREAKER", "ENGINE", "MODEL", "ADDRESS", "FROM", "WHY"]
    assert last == "3 phones, 2 healthy"
    for title in ("STATE", "BREAKER", "ENGINE", "ADDRESS", "FROM"):
        at = head.index(title)
        assert all(row[at - 1] == " " and row[at] != " " for row in rows), title
    end = head.index("WEIGHT") + len("WEIGHT")
    assert [row[:end].split()[-1] for row in rows] == ["2", "1", "1"] and all(row[end] == " " for row in rows)
    assert rows[0].startswith("pixel-8") and rows[1].startswith("b/c #1 %41")
    assert rows[2].endswith("the phone cannot be reached") and " down " in rows[2] and " runtime " in rows[2]
    assert all(line == line.rstrip() for line in out.splitlines())


def test_json_is_the_apis(gateway):
    assert as_json(gateway, "phones") == admin(gateway, "GET", "phones")
    assert as_json(gateway, "drain", "pixel-8")["drained"] is True
    assert as_json(gateway, "undrain", "pixel-8") == listed(gateway)["pixel-8"]
    assert as_json(gateway, "set", "pixel-8", "--weight", "7")["weight"] == 7
    assert as_json(gateway, "breaker", "pixel-8", "open")["breaker_held"] is True
    assert as_json(gateway, "add", "10.1.1.1", "--name", "new")["source"] == "runtime"
    assert as_json(gateway, "remove", "new")["removed"] is True
    assert as_json(gateway, "cache", "clear") == {"removed": 0}
    assert as_json(gateway, "save")["written"] is True
    assert as_json(gateway, "reload") == {"phones": 2, "needs_restart": False}
    assert as_json(gateway, "top")["phones"] == gateway.health()


def test_each_says_what_it_did(gateway, phones):
    odd = "b/c #1 %41"
    assert run(gateway, "drain", odd)[0] == f"{odd} is drained: it gets no new requests\n"
    assert listed(gateway)[odd]["drained"] is True
    assert run(gateway, "undrain", odd)[0] == f"{odd} gets requests again\n"
    assert run(gateway, "set", "pixel-8", "--weight", "4", "--permits", "2")[0] == (
        "pixel-8: weight 4, 2 requests at once\n")
    assert run(gateway, "set", "pixel-8", "--permits", "64")[0] == "pixel-8: weight 4, 64 requests at once\n"
    assert "until it is closed by hand" in run(gateway, "breaker", "pixel-8", "open")[0]
    assert "held open" in run(gateway, "phones")[0]
    assert run(gateway, "breaker", "pixel-8", "closed")[0] == "pixel-8: its breaker is closed\n"
    gateway.ask("one", tokens=1)
    assert run(gateway, "cache", "clear")[0] == "1 answer forgotten\n"
    assert run(gateway, "remove", odd)[0] == f"{odd} is removed\n"
    added, _ = run(gateway, "add", "127.0.0.1", "--port", str(phones[1].port), "--name", "again", "--weight", "3",
                   "--permits", "2", "--engine", "ollama", "--model", "qwen2.5:1.5b", "--id", "pf-1")
    assert added.startswith(f"again (127.0.0.1:{phones[1].port}) is in the fleet") and "pocketfleet save" in added
    gateway.wait_healthy(2)
    assert run(gateway, "save")[0] == f"{gateway.file} is written: 2 phones\n"
    assert json.loads(gateway.file.read_text())["phones"][1] == {
        "host": "127.0.0.1", "port": phones[1].port, "weight": 3, "max_concurrency": 2, "name": "again",
        "model": "qwen2.5:1.5b", "engine": "ollama", "id": "pf-1"}
    assert run(gateway, "save")[0] == f"{gateway.file} says all of it already\n"
    assert run(gateway, "reload")[0] == "the file is taken: 2 phones\n"
    gateway.settings["queue"] = 9
    gateway.write([p.entry() for p in phones])
    assert "restart" in run(gateway, "reload")[0]


# ---- drain --wait


def test_drain_waits_until_nothing_runs(gateway, phones):
    streams = [gateway.ask_stream(tokens=400).begun() for _ in range(2)]
    done = []
    waiting = threading.Thread(target=lambda: done.append(run(gateway, "drain", "pixel-8", "--wait")))
    waiting.start()
    until(lambda: listed(gateway)["pixel-8"]["drained"], "it to be drained")
    assert listed(gateway)["pixel-8"]["inflight"] == 1 and not done
    assert [s.finish().text() for s in streams] == [counted(400)] * 2
    waiting.join(BOUND)
    assert done == [("pixel-8 is drained, and nothing runs on it\n", "")]
    assert listed(gateway)["pixel-8"]["inflight"] == 0
    assert as_json(gateway, "drain", "pixel-8", "--wait")["inflight"] == 0


def test_drain_does_not_wait_for_ever(gateway):
    streams = [gateway.ask_stream(tokens=600).begun() for _ in range(2)]
    _, errors = run(gateway, "drain", "pixel-8", "--wait", "--timeout", "1", code=1)
    assert "1 request still running on pixel-8 after 1 s" in errors
    assert listed(gateway)["pixel-8"]["drained"] is True
    for stream in streams:
        stream.abort()


def test_waiting_ends_when_the_gateway_does(start, gateway):
    streams = [gateway.ask_stream(tokens=100000).begun() for _ in range(2)]
    waiting = start.process("drain", [program(), "drain", "pixel-8", "--wait", "--gateway", gateway.url],
                            env={"POCKETFLEET_KEY": KEY})
    until(lambda: listed(gateway)["pixel-8"]["drained"], "it to be drained")
    gateway.kill()
    assert waiting.wait(BOUND) == 3
    for stream in streams:
        stream.connection.close()
    gateway.ended = True


# ---- top


def test_top_prints_once_where_nobody_looks(gateway):
    gateway.ask(tokens=8)
    out, errors = run(gateway, "top")
    assert errors == "" and "\x1b" not in out
    first, second, empty, head, *rows = out.splitlines()
    assert first.startswith(gateway.url + "   ok   ")
    assert second.startswith("requests 1   waiting 0   cache 1 answer") and empty == ""
    assert head.split()[:3] == ["NAME", "STATE", "RUNNING"] and len(rows) == 2
    assert "SPEED" in head and "/s" in out, "the phone that answered"
    listed, _ = run(gateway, "phones")
    assert "SPEED" in listed and "/s" in listed


class Terminal:
    """A subcommand on a terminal of its own."""

    def __init__(self, gateway, *arguments, rows=24, columns=100):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ.update(POCKETFLEET_URL=gateway.url, POCKETFLEET_KEY=KEY, TERM="xterm", NO_COLOR="")
            os.execv(program(), [program(), *arguments])
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.text, self.status = "", None

    def read(self):
        """False: it has ended."""
        if not select.select([self.fd], [], [], 0.05)[0]:
            return True
        try:
            self.text += os.read(self.fd, 65536).decode()
            return True
        except OSError:
            return False

    def until(self, pattern, start=0, bound=BOUND):
        end = time.monotonic() + bound
        while not re.search(pattern, self.text[start:]):
            assert time.monotonic() < end and self.read(), (pattern, self.text[-3000:])
        return len(self.text)

    def end(self):
        while self.read() and self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
        while self.read() and select.select([self.fd], [], [], 0)[0]:
            pass
        if self.status is None:
            self.status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        os.close(self.fd)
        return self.status


@pytest.mark.parametrize("how", ["key", signal.SIGTERM, signal.SIGHUP])
def test_top_redraws_and_gives_the_terminal_back(gateway, how):
    top = Terminal(gateway, "top")
    seen = top.until("pixel-8 .*\x1b\\[32mup")
    admin(gateway, "POST", "phones/pixel-8/drain")
    seen = top.until("pixel-8 .*\x1b\\[33mdrained", seen)
    top.until(r"requests \d+ \(\d+\.\d/s\)   tokens", seen)
    if how == "key":
        os.write(top.fd, b"\x03")
    else:
        os.kill(top.pid, how)
    assert top.end() == 0
    assert top.text.startswith("\x1b[?1049h\x1b[?25l") and top.text.rstrip().endswith("\x1b[?25h\x1b[?1049l")


def test_top_fits_the_terminal(start):
    phones = start.sim(30)
    gateway = start.gateway(phones)
    top = Terminal(gateway, "top", rows=12, columns=40)
    admin(gateway, "POST", f"phones/{phones[20].name}/drain")
    top.until(r"\x1b\[H[^H]*NAME[^\n]*\n" + re.escape(phones[20].name) + "[^H]*and 23 more")
    os.kill(top.pid, signal.SIGTERM)
    assert top.end() == 0
    screen = top.text.split("\x1b[H")[-1].split("\x1b[J")[0]
    lines = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line).strip("\r") for line in screen.split("\n")]
    assert len(lines) <= 12 and max(map(len, lines)) <= 40, lines


def test_top_waits_for_a_gateway_that_is_away(start, gateway):
    top = Terminal(gateway, "top")
    seen = top.until("pixel-8")
    gateway.kill()
    gateway.ended = True
    top.until("no gateway answers", seen)
    os.kill(top.pid, signal.SIGINT)
    assert top.end() == 0


def test_colour_only_where_it_is_wanted(gateway):
    for env, coloured in [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)]:
        master, slave = pty.openpty()
        where = {**os.environ, "TERM": "xterm", "NO_COLOR": "", "POCKETFLEET_URL": gateway.url,
                 "POCKETFLEET_KEY": KEY, **env}
        subprocess.run([program(), "phones"], stdin=subprocess.DEVNULL, stdout=slave, timeout=BOUND, env=where,
                       check=True)
        os.close(slave)
        out = os.read(master, 65536).decode()
        os.close(master)
        assert ("\x1b[32mup" in out) == coloured, (env, out)


# ---- mistakes


def test_without_a_gateway(gateway):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        _, errors = run(gateway, "phones", code=3, url=url)
    assert errors.startswith(f"pocketfleet: no gateway answers at {url} (") and "POCKETFLEET_URL" in errors
    assert "--gateway" in errors and errors.count("\n") == 1


def test_something_else_answers(gateway, phones):
    _, errors = run(gateway, "phones", code=3, url=f"http://127.0.0.1:{phones[0].port}")
    assert "no pocketfleet gateway" in errors


def test_one_that_does_not_answer(gateway):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        _, errors = run(gateway, "top", code=3, url=f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert "no answer within 5 s" in errors and time.monotonic() - began < 15


class Doorkeeper(threading.Thread):
    """Answers one request with a status, and keeps its head."""

    def __init__(self, status):
        super().__init__(daemon=True)
        self.status, self.head = status, ""
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.start()

    def run(self):
        peer, _ = self.listener.accept()
        with peer:
            while b"\r\n\r\n" not in self.head.encode():
                self.head += peer.recv(65536).decode()
            body = b'{"error":"not for\\u001b[31m you"}'
            peer.sendall(b"HTTP/1.1 %d No\r\nServer: pocketfleet\r\nContent-Type: application/json\r\n"
                         b"Content-Length: %d\r\n\r\n" % (self.status, len(body)) + body)
        self.listener.close()


@pytest.mark.parametrize("status", [401, 403])
def test_a_key_that_is_wanted(gateway, tmp_path, status):
    door = Doorkeeper(status)
    _, errors = run(gateway, "phones", code=4, url=door.url, env={"POCKETFLEET_KEY": ""})
    assert "not for?[31m you" in errors and "--key-file" in errors and "POCKETFLEET_KEY" in errors
    assert "authorization" not in door.head.lower()

    door = Doorkeeper(status)
    _, errors = run(gateway, "phones", code=4, url=door.url, env={"POCKETFLEET_KEY": "k" * 20})
    assert "Is the key right" in errors and "k" * 20 not in errors
    assert "Authorization: Bearer " + "k" * 20 in door.head

    key = tmp_path / "key"
    key.write_text("f" * 30 + "\n")
    key.chmod(0o600)
    door = Doorkeeper(status)
    run(gateway, "drain", "x", "--key-file", str(key), code=4, url=door.url, env={"POCKETFLEET_KEY": "k" * 20})
    assert "Authorization: Bearer " + "f" * 30 in door.head, "the command line goes before the environment"


def test_the_real_ones(gateway):
    _, errors = run(gateway, "phones", code=4, env={"POCKETFLEET_KEY": ""})
    assert "--key-file" in errors
    _, errors = run(gateway, "phones", code=4, env={"POCKETFLEET_KEY": "pf_" + "x" * 43})
    assert "Is the key right" in errors


def test_bad_keys(gateway, tmp_path):
    key = tmp_path / "key"
    assert "No such file" in run(gateway, "phones", "--key-file", str(key), code=2)[1]
    key.write_text("f" * 30)
    key.chmod(0o644)
    assert "chmod 600" in run(gateway, "phones", "--key-file", str(key), code=2)[1]
    assert "POCKETFLEET_KEY" in run(gateway, "phones", code=2, env={"POCKETFLEET_KEY": "a\r\nX: y"})[1]


@pytest.mark.parametrize("url", ["ftp://x", "https://", "http://", "http://x/path", "x:y", "x:123456", "[::1", "http://a b", ":80"])
def test_bad_addresses(gateway, url):
    _, errors = run(gateway, "phones", "--gateway", url, code=2)
    assert url in errors and "expected a URL" in errors


def test_an_authority_that_cannot_be_read(gateway):
    _, errors = run(gateway, "phones", "--gateway", "https://x", "--ca-file", "nowhere", code=2)
    assert "--ca-file nowhere: " in errors


@pytest.mark.parametrize("spelled", ["http://127.0.0.1:{}/", "127.0.0.1:{}", "localhost:{}"])
def test_good_addresses(gateway, spelled):
    run(gateway, "phones", "--gateway", spelled.format(gateway.port), url="http://127.0.0.1:1")


@pytest.mark.parametrize("arguments, said", [
    (("drain",), "NAME"), (("set", "pixel-8"), "--weight"), (("set", "pixel-8", "--weight", "0"), "--weight"),
    (("set", "pixel-8", "--permits", "65"), "--permits"), (("breaker", "pixel-8", "ajar"), "STATE"), (("cache",), "subcommand"),
    (("add",), "HOST"), (("add", "h", "--engine", "x"), "--engine"), (("drain", "a", "b"), "b")])
def test_bad_arguments(gateway, arguments, said):
    _, errors = run(gateway, *arguments, code=2)
    assert said in errors


@pytest.mark.parametrize("arguments, said", [
    (("drain", "nobody"), 'there is no phone "nobody"'), (("remove", "nobody"), 'there is no phone "nobody"'),
    (("add", "http://x"), "host: found"), (("add", "10.1.1.1", "--name", "pixel-8"), "is taken")])
def test_what_the_gateway_refuses(gateway, arguments, said):
    out, errors = run(gateway, *arguments, code=1)
    assert out == "" and said in errors and errors.startswith("pocketfleet: ") and errors.count("\n") == 1


def test_a_broken_file(gateway):
    gateway.file.write_text("[")
    _, errors = run(gateway, "reload", code=1)
    assert "the file is not taken" in errors and "line 1, column 2" in errors
    assert "reload" in run(gateway, "save", code=1)[1]
