"""What the machine does to the process: no descriptors left, nobody who takes the log, clocks that jump, a
resolver that says nothing, too much at once to hold, and signals without end. Run with -s to see the figures.
"""
import collections
import concurrent.futures
import contextlib
import datetime
import email.utils
import fcntl
import glob
import http.client
import json
import os
import resource
import signal
import socket
import subprocess
import threading
import time

import pytest

from client import Connection, counted, post, question, request
from harness import cpu_seconds, forget_peak, open_files, program, resident, until

QUIET = {"probe_interval_s": 60, "cache": "never"}


# ---- descriptors


class Kept:
    """A connection that stands before the descriptors go, and asks all the same."""

    def __init__(self, gateway):
        self.connection = Connection(gateway.port)
        self.get("/health")

    def get(self, path):
        self.connection.send(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")
        return self.connection.reply("GET")

    def ask(self):
        self.connection.send(post("/ask", question(tokens=2)))
        return self.connection.reply()

    def accept_errors(self):
        lines = self.get("/metrics").text().splitlines()
        return float(next(li.split()[1] for li in lines if li.startswith("pocketfleet_accept_errors_total")))


@contextlib.contextmanager
def starved(gateway, left=8, clients=60):
    """All its descriptors are taken by clients, and more of these wait outside."""
    most = open_files(gateway) + left
    before = resource.prlimit(gateway.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(gateway.pid, resource.RLIMIT_NOFILE, (most, before[1]))
    crowd = []
    try:
        for _ in range(clients):
            crowd.append(Connection(gateway.port))
        until(lambda: open_files(gateway) >= most, "it to have no descriptor left")
        yield
    finally:
        for each in crowd:
            each.close()
        resource.prlimit(gateway.pid, resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize("workers", [1, 2])
def test_without_descriptors(start, workers):
    """It does not spin, says so, and takes clients again as soon as one has gone."""
    phone = start.sim(1)[0]
    gateway = start.gateway([phone], {**QUIET, "workers": workers, "header_timeout_s": 60})
    kept = Kept(gateway)
    limit = resource.prlimit(gateway.pid, resource.RLIMIT_NOFILE)
    errors = kept.accept_errors()
    with starved(gateway):
        until(lambda: kept.accept_errors() > errors, "the failures to be counted")
        began, used = time.monotonic(), cpu_seconds(gateway)
        time.sleep(2.5)  # what it does meanwhile is what is measured
        share = (cpu_seconds(gateway) - used) / (time.monotonic() - began)
        failures = kept.accept_errors() - errors
        most = open_files(gateway)
    # The crowd is gone, the limit is lowered again to what was in force: it must do with what it has.
    resource.prlimit(gateway.pid, resource.RLIMIT_NOFILE, (most, limit[1]))
    began = time.monotonic()
    assert request(gateway.port, "GET", "/health", bound=10).status == 200
    took = time.monotonic() - began
    print(f"\n{workers} workers: CPU {share * 100:.1f} %, {failures:.0f} failures, "
          f"accepts after {took * 1000:.0f} ms")
    assert share < 0.05
    assert took < 1
    assert gateway.ask(tokens=2).content() == counted(2)
    warnings = sum("cannot accept connections" in line for line in gateway.log.lines())
    assert 1 <= warnings <= failures + 1
    kept.connection.close()


def test_phones_are_not_blamed_for_it(start):
    """That the gateway has no descriptor for a connection to a phone is no failure of the phone."""
    phone = start.sim(1, answer_tokens=2)[0]
    gateway = start.gateway([phone], {**QUIET, "breaker_open_s": 60, "phone_idle_connections": 0})
    kept = Kept(gateway)
    with starved(gateway):
        replies = [kept.ask() for _ in range(4)]
    assert all(r.status in (502, 503) for r in replies), replies
    seen = gateway.health()[0]
    kept.connection.close()
    assert (seen["breaker"], seen["healthy"]) == ("closed", True), seen


# ---- the log


class Unread:
    """A gateway whose standard output and error are pipes; nobody reads them after the first line."""

    def __init__(self, start, phones, settings=None):
        made = start.gateway(phones, settings)  # writes the file
        made.stop()
        self.ended = False
        self.name = "unread gateway"
        self._ends = [os.pipe(), os.pipe()]
        for reading, _ in self._ends:
            fcntl.fcntl(reading, fcntl.F_SETPIPE_SZ, 4096)
        self._process = subprocess.Popen(
            [program(), "serve", "--phones", str(made.file), "--listen", "127.0.0.1:0"],
            stdin=subprocess.DEVNULL, stdout=self._ends[0][1], stderr=self._ends[1][1],
            start_new_session=True)
        self.pid = self._process.pid
        for _, writing in self._ends:
            os.close(writing)
        start.processes.append(self)
        with open(os.dup(self._ends[1][0]), errors="replace") as log:
            first = log.readline()
        self.port = int(first.split("127.0.0.1:")[1].split()[0].rstrip('",'))
        until(lambda: self.health()[0]["healthy"], "the phone to be healthy")

    def health(self):
        return request(self.port, "GET", "/health").json()["phones"]

    def close_pipes(self):
        for reading, _ in self._ends:
            os.close(reading)
        self._ends = []

    @property
    def errors(self):
        return self

    def lines(self):
        return []

    def running(self):
        return self._process.poll() is None

    def stop(self, bound=5):
        """The exit status after SIGTERM."""
        self.ended = True
        if self.running():
            self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(bound)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it does not end within {bound} s of SIGTERM") from None
        finally:
            if self.running():
                self._process.kill()
                self._process.wait()
            self.close_pipes()


def get_many(port, path, count, bound=10):
    """So many requests on one connection; how many statuses of each kind."""
    seen = collections.Counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=bound)
    try:
        for _ in range(count):
            connection.request("GET", path)
            response = connection.getresponse()
            response.read()
            seen[response.status] += 1
    finally:
        connection.close()
    return seen


def dropped_lines(port):
    lines = request(port, "GET", "/metrics").text().splitlines()
    return float(next((li.split()[1] for li in lines if li.startswith("pocketfleet_log_dropped_total")), 0))


def test_nobody_reads_the_log(start):
    """Requests go on, at the same pace; lines are given up and counted; the process can still be ended."""
    phone = start.sim(1, answer_tokens=2)[0]
    gateway = Unread(start, [phone], {"cache": "never"})
    asked, paces = 0, []
    while asked < 5000 or (dropped_lines(gateway.port) == 0 and asked < 40_000):
        began = time.monotonic()
        assert get_many(gateway.port, "/nowhere", 1000) == {404: 1000}
        paces.append(1000 / (time.monotonic() - began))
        asked += 1000
        assert request(gateway.port, "POST", "/ask", question()).content() == counted(2)
    dropped = dropped_lines(gateway.port)
    print(f"\n{asked} requests answered, {dropped:.0f} lines dropped, "
          f"{min(paces):.0f} to {max(paces):.0f} a second")
    assert dropped > 0
    assert gateway.health()[0]["healthy"] is True
    began = time.monotonic()
    assert gateway.stop() == 0
    print(f"ended {time.monotonic() - began:.2f} s after SIGTERM")


def test_the_logs_reader_dies(start):
    """A write to a pipe that nobody holds is an error, not the end."""
    phone = start.sim(1, answer_tokens=2)[0]
    gateway = Unread(start, [phone], {"cache": "never"})
    gateway.close_pipes()
    assert get_many(gateway.port, "/nowhere", 2000) == {404: 2000}
    assert request(gateway.port, "POST", "/ask", question()).content() == counted(2)
    assert gateway.running()
    assert gateway.stop() == 0


# ---- the clock on the wall


@pytest.fixture
def wall(tmp_path):
    """A wall clock for one process: set(seconds) moves it, in both directions. The steady clock stays."""
    libraries = glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1")
    if not libraries:
        pytest.skip("CLOCKS THAT JUMP ARE NOT TESTED: libfaketime is not installed")

    class Wall:
        file = tmp_path / "wall"
        env = {"LD_PRELOAD": libraries[0], "FAKETIME_TIMESTAMP_FILE": str(file), "FAKETIME_NO_CACHE": "1",
               "FAKETIME_DONT_FAKE_MONOTONIC": "1", "FAKETIME_DONT_RESET": "1"}

        def set(self, seconds):
            new = self.file.with_suffix(".new")
            new.write_text(f"{seconds:+d}s\n")
            new.rename(self.file)

    clock = Wall()
    clock.set(0)
    return clock


def shift(gateway):
    """By how much its wall clock differs from ours."""
    date = email.utils.parsedate_to_datetime(request(gateway.port, "GET", "/health").headers["Date"])
    return (date - datetime.datetime.now(datetime.timezone.utc)).total_seconds()


def test_the_wall_clock_jumps(start, wall):
    """An hour forth, and two back: no answer breaks off, no phone is lost, the cache keeps its times."""
    phones = start.sim(2, decode_rate=100, answer_tokens=5)
    gateway = start.gateway([p.entry(max_concurrency=2) for p in phones],
                            {"probe_interval_s": 0.3, "cache_ttl_s": 4, "token_timeout_s": 5,
                             "queue_wait_s": 20, "breaker_failures": 1}, env=wall.env)
    if abs(shift(gateway)) > 60:
        pytest.skip("CLOCKS THAT JUMP ARE NOT TESTED: libfaketime has no effect here")
    quiet = gateway.log.mark()
    kept_at = time.monotonic()
    assert gateway.ask("keep this").headers["X-Cache"] == "miss"
    streams = [gateway.ask_stream(tokens=250).begun() for _ in range(4)]  # 2.5 s: all permits
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(gateway.ask)
        until(lambda: request(gateway.port, "GET", "/health").json()["queue"]["waiting"] == 1, "one to wait")
        for jump in (3600, -3600, 0, 3600, -3600):
            wall.set(jump)
            until(lambda: abs(shift(gateway) - jump) < 30, "the clock to have jumped")
            assert gateway.ask("keep this").headers["X-Cache"] == "hit", jump
            assert all(p["healthy"] for p in gateway.health())
            for stream in streams:
                stream.begun(len(stream.lines) + 20)
        assert time.monotonic() - kept_at < 3.5, "the machine is too slow for this test's times"
        assert [s.finish().text() for s in streams] == [counted(250)] * 4
        assert waiting.result().content() == counted(5)
    looks = [p.state()["connections"] for p in phones]
    until(lambda: gateway.ask("keep this").headers["X-Cache"] == "miss", "what is kept to be too old")
    age = time.monotonic() - kept_at
    print(f"\nkept for {age:.1f} s, 4 were set")
    assert 3.9 < age < 5.5
    changes = [line for line in gateway.log.lines()[quiet:] if " phone phone=" in line]
    assert not changes, changes
    assert looks and gateway.metric("pocketfleet_probes_total", result="good") > 6
    assert all(p["breaker"] == "closed" for p in gateway.health())
    # And it is still drained by the steady clock.
    wall.set(3600)
    assert gateway.ask().content() == counted(5)


# ---- the resolver


@contextlib.contextmanager
def killed(gateway):
    """Ends it without waiting for what the resolver makes it wait for."""
    try:
        yield gateway
    finally:
        if gateway.running():
            gateway.kill()
        gateway.ended = True


LOST = {"name": "lost", "host": "phone.invalid.test", "port": 11434, "engine": "ollama"}


@pytest.fixture
def deaf_resolver(tmp_path):
    """A command in front of a program, for which /etc/resolv.conf names a server that answers nothing."""
    address = "127.0.53.53"
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        server.bind((address, 53))
    except OSError as e:
        server.close()
        pytest.skip(f"A RESOLVER THAT SAYS NOTHING IS NOT TESTED: port 53 of {address}: {e}")
    conf = tmp_path / "resolv.conf"
    conf.write_text(f"nameserver {address}\n")
    before = ["unshare", "--mount", "sh", "-c", f'mount --bind {conf} /etc/resolv.conf && exec "$@"', "sh"]
    done = subprocess.run([*before, "cat", "/etc/resolv.conf"], capture_output=True, text=True, timeout=20)
    if address not in done.stdout:
        server.close()
        pytest.skip(f"A RESOLVER THAT SAYS NOTHING IS NOT TESTED: no mount namespace: {done.stderr.strip()}")
    yield before
    server.settimeout(1)
    assert server.recv(512), "it was asked"
    server.close()


def quantile(values, share):
    return sorted(values)[int(len(values) * share)]


def times_of(gateway, count, phones):
    """How long so many requests took, one after the other; all of them on these phones."""
    out = []
    for _ in range(count):
        began = time.monotonic()
        reply = gateway.ask(tokens=2)
        out.append(time.monotonic() - began)
        assert reply.status == 200 and reply.headers["X-Phone"] in phones, reply
    return out


def test_a_name_that_is_not_answered(start, deaf_resolver):
    """Of two phones with addresses nobody notices that the third has a name that cannot be resolved."""
    phones = start.sim(2, answer_tokens=2)
    names = [p.name for p in phones]
    settings = {"probe_interval_s": 0.2, "phone_idle_connections": 0, "cache": "never"}
    alone = start.gateway(phones, settings)
    usual = times_of(alone, 200, names)
    alone.stop()
    with killed(start.gateway([*phones, LOST], settings, healthy=2, before=deaf_resolver)) as gateway:
        assert gateway.phone("lost")["state"] in ("unknown", "down")
        beside = times_of(gateway, 200, names)
        until(lambda: gateway.phone("lost")["state"] == "down", "the lost one to be found out")
        beside += times_of(gateway, 400, names)
        print(f"\np99 {quantile(usual, 0.99) * 1000:.1f} ms alone, "
              f"{quantile(beside, 0.99) * 1000:.1f} ms beside it, most {max(beside) * 1000:.0f} ms")
        assert quantile(beside, 0.99) < quantile(usual, 0.99) + 0.05
        assert max(beside) < 1
        assert gateway.phone("lost")["reason"] == "the phone cannot be reached"
        assert [gateway.phone(n)["healthy"] for n in names] == [True] * 2
        changes = [line for line in gateway.log.lines() if " phone phone=" in line and "state=down" in line]
        assert all("phone=lost" in line for line in changes), changes


def test_the_end_does_not_wait_for_the_resolver(start, deaf_resolver):
    phone = start.sim(1)[0]
    settings = {"probe_interval_s": 0.2}
    with killed(start.gateway([phone, LOST], settings, healthy=1, before=deaf_resolver)) as gateway:
        gateway.signal(signal.SIGTERM)
        assert gateway.wait(bound=3) == 0


def test_another_name_that_is_answered(start, deaf_resolver):
    """A phone whose name is in /etc/hosts does not wait behind one whose name is asked for in vain."""
    phone = start.sim(1, answer_tokens=2)[0]
    good = phone.entry()
    good["host"] = "localhost"
    settings = {"probe_interval_s": 0.2, "phone_idle_connections": 0, "cache": "never"}
    with killed(start.gateway([good, LOST], settings, healthy=0, before=deaf_resolver)) as gateway:
        until(lambda: gateway.phone(phone.name)["healthy"], "the good one to be up", bound=5)
        took = []
        for _ in range(50):
            began = time.monotonic()
            assert gateway.ask(tokens=2).status == 200
            took.append(time.monotonic() - began)
        assert max(took) < 1, f"{max(took):.1f} s"
        assert gateway.phone(phone.name)["healthy"] is True


# ---- memory


BODY = 1 << 20
BUDGET = 16 << 20
BOUNDED = {**QUIET, "body_bytes": BODY, "all_bodies_bytes": BUDGET, "queue": 100}


def padded(body, size):
    """A JSON object with a field's text made so long that it is `size` bytes."""
    return body.replace(b"PAD", b"x" * (size - len(body) + 3))


def test_sixty_four_full_bodies(start):
    """Four times what may be held at once: some are turned away, the others answered, memory is bounded."""
    phone = start.sim(1, answer_tokens=40, decode_rate=100, prefill_rate=1e9, slots=16)[0]
    gateway = start.gateway([phone.entry(max_concurrency=16)], BOUNDED)
    body = padded(b'{"prompt":"PAD"}', BODY)
    assert request(gateway.port, "POST", "/ask", body).status == 200
    forget_peak(gateway)
    before = resident(gateway)
    with concurrent.futures.ThreadPoolExecutor(64) as pool:
        replies = [f.result() for f in
                   [pool.submit(request, gateway.port, "POST", "/ask", body) for _ in range(64)]]
    grown = resident(gateway, "VmHWM") - before
    statuses = collections.Counter(r.status for r in replies)
    print(f"\n{dict(statuses)}, memory +{grown / 1024:.0f} MiB at most, {BUDGET >> 20} MiB of bodies allowed")
    assert set(statuses) == {200, 503}, statuses
    assert statuses[200] >= BUDGET // BODY
    for reply in replies:
        if reply.status == 503:
            assert int(reply.headers["Retry-After"]) >= 1 and reply.error()
    # The body, the question read from it, and the request to the phone.
    assert grown * 1024 < 4 * BUDGET + (8 << 20)
    gateway.idle()
    until(lambda: gateway.metric("pocketfleet_request_body_bytes") == 0, "the budget to be given back")
    assert gateway.ask().content() == counted(40)


def send_all(port, body, path="/ask"):
    """As simple clients do: the whole request, then the answer; None: the connection was reset instead."""
    with Connection(port) as connection:
        connection.send(post(path, body))
        try:
            return connection.reply()
        except OSError:
            return None


@pytest.mark.parametrize("size", [BODY // 2, 4 * BODY])
def test_who_is_turned_away_is_told(start, size):
    """However large the body that the gateway has no room for: 503 and when to come again."""
    phone = start.sim(1, decode_rate=100, prefill_rate=1e9)[0]
    gateway = start.gateway([phone], {**BOUNDED, "body_bytes": size, "all_bodies_bytes": size})
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        body = padded(b'{"prompt":"PAD","options":{"num_predict":300}}', size)
        holding = pool.submit(send_all, gateway.port, body)  # 3 s
        until(lambda: phone.state()["active"] == 1, "all the room to be taken")
        replies = [send_all(gateway.port, body) for _ in range(10)]
        assert holding.result().content() == counted(300)
    statuses = collections.Counter(r and r.status for r in replies)
    print(f"\n{size} bytes: {dict(statuses)}")
    assert statuses == {503: 10}, statuses
    assert all(int(r.headers["Retry-After"]) >= 1 for r in replies)


LARGE = 10 << 20
HOSTILE = {
    "empty objects": lambda size: b'{"prompt":"x","a":[' + b"{}," * (size // 3) + b"{}]}",
    "numbers": lambda size: b'{"prompt":"x","a":[' + b"1," * (size // 2) + b"1]}",
    "prompts": lambda size: b'{"prompts":[' + b'"",' * (size // 3) + b'""]}',
    "depth": lambda size: b'{"prompt":"x","format":' + b"[" * size + b"}",
    "depth of objects": lambda size: b'{"prompt":"x","format":' + b'{"a":' * (size // 5) + b"}",
    "one after the other": lambda size: b'{"prompt":"x"}' * (size // 14),
    "keys": lambda size: b'{"prompt":"x"' + b"".join(b',"k%07d":0' % i for i in range(size // 13)) + b"}",
    "escapes": lambda size: b'{"prompt":"' + b"\\u0001" * (size // 6) + b'","x":1}',
}


@pytest.fixture(scope="module")
def one_phone(start_once):
    return start_once.sim(1, answer_tokens=2)[0]


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_json_under_a_raised_limit(start, one_phone, kind):
    """10 MB that take far more when read: within bounds, whatever they are made of."""
    raised = start.gateway([one_phone], {**QUIET, "body_bytes": 16 << 20})
    body = HOSTILE[kind](LARGE if kind != "keys" else LARGE // 3)  # which take time, not memory
    route = "/ask_batch" if kind == "prompts" else "/ask"
    forget_peak(raised)
    before, used = resident(raised), cpu_seconds(raised)
    reply = request(raised.port, "POST", route, body)
    grown = (resident(raised, "VmHWM") - before) * 1024
    print(f"\n{kind}: {reply.status}, memory +{grown >> 20} MiB, {grown / len(body):.1f} times the body, "
          f"CPU {cpu_seconds(raised) - used:.2f} s")
    assert reply.status == 400 and reply.error()
    assert len(reply.body) < 4096
    assert grown < 48 * len(body)
    assert raised.ask().content() == counted(2)


def test_json_takes_no_more_than_is_documented(start, one_phone):
    gateway = start.gateway([one_phone], {**QUIET, "body_bytes": 16 << 20})
    body = HOSTILE["empty objects"](LARGE)
    forget_peak(gateway)
    before = resident(gateway)
    assert request(gateway.port, "POST", "/ask", body).status == 400
    assert (resident(gateway, "VmHWM") - before) * 1024 < 40 * len(body)


def test_much_hostile_json_at_once(start, one_phone):
    """Eight times 3 MB where 8 may be held."""
    gateway = start.gateway([one_phone], {**QUIET, "all_bodies_bytes": 8 << 20})
    body = HOSTILE["prompts"](3_000_000)
    forget_peak(gateway)
    before = resident(gateway)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        replies = [f.result() for f in
                   [pool.submit(send_all, gateway.port, body, "/ask_batch") for _ in range(8)]]
    grown = (resident(gateway, "VmHWM") - before) * 1024
    statuses = collections.Counter(r and r.status for r in replies)
    print(f"\n{dict(statuses)}, memory +{grown >> 20} MiB")
    assert set(statuses) <= {400, 503} and statuses[400] >= 2, statuses
    assert grown < 48 * (8 << 20)
    assert gateway.ask().content() == counted(2)


# ---- signals


class Hangup(threading.Thread):
    """SIGHUP, a hundred times a second."""

    def __init__(self, gateway):
        super().__init__()
        self._gateway, self._enough, self.sent = gateway, threading.Event(), 0

    def run(self):
        while not self._enough.wait(0.01) and self._gateway.running():
            self._gateway.signal(signal.SIGHUP)
            self.sent += 1

    def stop(self):
        self._enough.set()
        self.join()


def test_a_storm_of_sighups(start):
    """Two seconds of them, and on while it drains: nobody notices."""
    phones = start.sim(2, decode_rate=100, answer_tokens=5)
    gateway = start.gateway([p.entry(max_concurrency=4) for p in phones], {"cache": "never"})
    files = open_files(gateway)
    streams = [gateway.ask_stream(tokens=200).begun() for _ in range(3)]
    storm = Hangup(gateway)
    storm.start()
    replies, began, took = [], time.monotonic(), []
    while time.monotonic() - began < 2:
        asked = time.monotonic()
        replies.append(gateway.ask())
        took.append(time.monotonic() - asked)
    assert [r.content() for r in replies] == [counted(5)] * len(replies)
    assert [s.finish().text() for s in streams] == [counted(200)] * 3
    assert all(p["healthy"] for p in gateway.health())
    assert open_files(gateway) <= files + 6
    print(f"\n{storm.sent} SIGHUPs, {len(replies)} answers, {quantile(took, 0.99) * 1000:.0f} ms at p99")
    # While it drains.
    last = [gateway.ask_stream(tokens=100).begun() for _ in range(3)]
    gateway.signal(signal.SIGTERM)
    for stream in last:
        stream.begun(80)
    storm.stop()
    assert [s.finish().text() for s in last] == [counted(100)] * 3
    assert gateway.wait(bound=5) == 0
    assert storm.sent > 100


def test_sighup_until_the_last_moment(start):
    """Whoever ends it may also reread it in the same breath: the exit code is that of the end."""
    phone = start.sim(1)[0]
    for n in range(20):
        gateway = start.gateway([phone], QUIET)
        gateway.ended = True
        gateway.signal(signal.SIGTERM)
        end = time.monotonic() + 10
        while gateway.running() and time.monotonic() < end:
            gateway.signal(signal.SIGHUP)
            time.sleep(0.0002)  # so that it comes to its end
        assert gateway.wait(bound=5) == 0, f"number {n + 1}"


def test_three_rereads_under_load(start):
    """A good file, a broken one, a good one, under thousands of requests and ten streams: no failure."""
    phones = start.sim(3, decode_rate=100, answer_tokens=1, slots=32)
    new = start.sim(1, decode_rate=100, answer_tokens=1, slots=32)[0]
    entries = [p.entry(max_concurrency=16) for p in phones]
    gateway = start.gateway(entries, {"queue": 1000})
    gateway.ask("the same")
    streams = [gateway.ask_stream(tokens=500).begun() for _ in range(10)]  # 5 s
    enough, statuses, lock = threading.Event(), collections.Counter(), threading.Lock()

    def client(n):
        connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=20)
        seen = collections.Counter()
        data = json.dumps({"prompt": "the same", "options": {"num_predict": 1}, "cache": n > 0})
        while not enough.is_set():
            connection.request("POST", "/ask", data)
            response = connection.getresponse()
            response.read()
            seen[response.status] += 1
        connection.close()
        with lock:
            statuses.update(seen)

    # Most are answered from the cache, and some by a phone.
    clients = [threading.Thread(target=client, args=(n % 3,)) for n in range(4)]
    for each in clients:
        each.start()
    try:
        for stream in streams:
            stream.begun(50)
        gateway.write([*entries, new.entry(max_concurrency=16)])
        gateway.signal(signal.SIGHUP)
        began = time.monotonic()
        until(lambda: new.state()["requests"] > 0, "the new phone to be used")
        used_after = time.monotonic() - began
        mark = gateway.log.mark()
        gateway.file.write_text('{"phones": [')
        gateway.signal(signal.SIGHUP)
        gateway.log.wait_for("is not taken", start=mark)
        assert gateway.metric("pocketfleet_config_last_reload_successful") == 0
        for stream in streams:
            stream.begun(250)
        before = gateway.metric("pocketfleet_requests_total", route="/ask")
        gateway.write([*entries[:2], new.entry(max_concurrency=16)])
        gateway.signal(signal.SIGHUP)
        until(lambda: gateway.metric("pocketfleet_config_last_reload_successful") == 1, "the third to count")
        assert gateway.metric("pocketfleet_requests_total", route="/ask") >= before, "counters go on"
        assert [s.finish().text() for s in streams] == [counted(500)] * 10
    finally:
        enough.set()
        for each in clients:
            each.join()
    assert all(s.whole and s.last()["done"] for s in streams)
    until(lambda: phones[2].name not in [p["name"] for p in gateway.health()], "the removed one to be gone")
    print(f"\n{dict(statuses)}, the new phone used after {used_after * 1000:.0f} ms")
    assert set(statuses) == {200}
    assert statuses[200] > 1000
    assert used_after < 1.5
