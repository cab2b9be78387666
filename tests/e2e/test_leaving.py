"""Clients that leave, at any moment and in any way, and clients that do not read.

A phone computes for nobody as soon as its client has gone: what is measured is the time from the client's
leaving to the end of the connection as the phone sees it. Run with -s to see the figures.
"""
import collections
import contextlib
import pathlib
import random
import select
import socket
import statistics
import threading
import time
import uuid

import pytest

from client import Connection, counted, fresh, post, question
from harness import open_files, resident, sanitized, until
from raw.phone import MODEL, HostilePhone, Ollama, chunk, head

LEAVING = ["close", "reset", "half_close"]
ROUTES = ["/ask", "/ask_stream", "/ask_batch", "/ask_batch in lines"]
AT_ONCE = 4     # permits of the phone
BOUND = 0.25    # seconds from a client's leaving to the end of the phone's connection: usually some ms
LONGEST = 2.0   # for the slowest of many, on a machine that has other things to do as well
ROUNDS = 5
# One failure that is charged to the phone, and it would rest for an hour.
STRICT = {"breaker_failures": 1, "breaker_connect_failures": 1, "breaker_open_s": 3600,
          "probe_interval_s": 60, "cache": "never", "log_format": "json"}


class WatchingPhone(HostilePhone):
    """Says nothing, or talks without end, until the gateway closes, and notes when that was."""

    def __init__(self):
        super().__init__(Ollama())
        self.left = []   # when connections ended
        self.begun = 0   # answers of which some pieces are out
        self.enough = threading.Event()  # answers that talk come to their end
        self.busy = self.most_busy = 0
        self._books = threading.Lock()

    @contextlib.contextmanager
    def at_work(self):
        with self._books:
            self.busy += 1
            self.most_busy = max(self.most_busy, self.busy)
        try:
            yield
        finally:
            with self._books:
                self.busy -= 1

    def wait(self, line):
        with self.at_work():
            self._until_left(line)

    def talk(self, line):
        line.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self.at_work():
            line.send(head("200 OK", f"Content-Type: {self.form.type}", "Transfer-Encoding: chunked"))
            pieces = 0
            while not select.select([line.socket], [], [], 0.005)[0]:
                if self.enough.is_set():
                    line.send(chunk(self.form.last()) + b"0\r\n\r\n")
                    return
                line.send(chunk(self.form.piece(b" x")))
                pieces += 1
                if pieces == 3:
                    with self._books:
                        self.begun += 1
            self._until_left(line)

    def _until_left(self, line):
        try:
            while line.socket.recv(4096):
                pass
        except ConnectionError:
            pass
        now = time.monotonic()
        line.close()
        with self._books:
            self.left.append(now)


def body_of(route, items):
    """(path, JSON, headers)"""
    if not route.startswith("/ask_batch"):
        return route, question(), []
    lines = ["Accept: application/x-ndjson"] if route.endswith("lines") else []
    return "/ask_batch", {"prompts": [fresh() for _ in range(items)]}, lines


class Client:
    """One request, sent but not read."""

    def __init__(self, gateway, route, items=2 * AT_ONCE):
        self.id = uuid.uuid4().hex
        path, body, headers = body_of(route, items)
        self.connection = Connection(gateway.port)
        self.connection.send(post(path, body, [*headers, f"X-Request-Id: {self.id}"]))
        self.running = min(items, AT_ONCE) if path == "/ask_batch" else 1

    def leave(self, how):
        """When it was."""
        now = time.monotonic()
        getattr(self.connection, how)()
        return now

    def gone(self, gateway, phase):
        """Its line in the log."""
        record = gateway.record(self.id)
        assert (record["outcome"], record["status"], record["phase"]) == ("client_gone", 499, phase), record
        self.connection.close()


def attempts(gateway):
    """{outcome: count}"""
    found = collections.Counter()
    for (name, labels), value in gateway.metrics().items():
        if name == "pocketfleet_attempts_total":
            found[dict(labels)["outcome"]] += int(value)
    return found


def tell(what, delays):
    print(f"\n{what}: median {statistics.median(delays) * 1000:.1f} ms, most {max(delays) * 1000:.1f} ms "
          f"of {len(delays)}")


def in_time(delays):
    assert statistics.median(delays) < BOUND and max(delays) < LONGEST


@pytest.fixture(scope="module")
def watching():
    phone = WatchingPhone()
    yield phone
    phone.close()


@pytest.fixture(scope="module")
def shared(start_once, watching):
    return start_once.gateway([watching.entry(max_concurrency=AT_ONCE)], STRICT)


@pytest.fixture
def gateway(shared, watching):
    """Afterwards it is as before: nothing runs, nothing waits, the phone is not to blame."""
    watching.left.clear()
    watching.begun = watching.most_busy = 0
    watching.enough.clear()
    yield shared
    shared.idle()
    seen = shared.health()[0]
    assert (seen["breaker"], seen["healthy"], seen["permits"]) == ("closed", True, AT_ONCE), seen
    assert shared.metric("pocketfleet_queue_length") == 0
    assert watching.most_busy <= AT_ONCE
    watching.answer = watching.good
    assert shared.ask().content() == counted(3)


# ---- while a phone works for it


@pytest.mark.parametrize("how", LEAVING)
@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("phase", ["waiting", "streaming"])
def test_the_phone_is_told_at_once(gateway, watching, phase, route, how):
    """Before its first token and behind it; of a batch every item that runs, and none is begun any more."""
    watching.answer = watching.wait if phase == "waiting" else watching.talk
    before, delays = attempts(gateway), []
    for _ in range(ROUNDS):
        watching.left.clear()
        asked, watching.begun = watching.asked, 0
        client = Client(gateway, route)
        until(lambda: watching.asked == asked + client.running, "the phone to be asked")
        if phase == "streaming":
            until(lambda: watching.begun == client.running, "the first pieces", step=0.002)
        if phase == "streaming" and route == "/ask_stream":
            assert client.connection.head()[0] == 200
        left = client.leave(how)
        until(lambda: len(watching.left) == client.running, "the phone to be told", step=0.001)
        delays += [when - left for when in watching.left]
        client.gone(gateway, "waiting" if route.startswith("/ask_batch") else phase)
        gateway.idle()
        assert watching.asked == asked + client.running, "nothing more was sent"
    new = attempts(gateway) - before
    assert new == {"aborted": ROUNDS * client.running}, new
    tell(f"{phase}, {route}, {how}", delays)
    in_time(delays)


# ---- while it waits for a phone


@pytest.mark.parametrize("how", LEAVING)
@pytest.mark.parametrize("route", ROUTES)
def test_who_leaves_the_queue_is_never_sent(gateway, watching, route, how):
    watching.answer = watching.talk
    holding = [gateway.ask_stream().begun() for _ in range(AT_ONCE)]
    before, asked, delays = attempts(gateway), watching.asked, []
    for _ in range(ROUNDS):
        client = Client(gateway, route, items=3)
        waiting = 3 if route.startswith("/ask_batch") else 1
        until(lambda: gateway.metric("pocketfleet_queue_length") == waiting, "it to wait")
        left = client.leave(how)
        until(lambda: gateway.metric("pocketfleet_queue_length") == 0, "it to be gone", step=0.001)
        delays.append(time.monotonic() - left)
        client.gone(gateway, "waiting" if route.startswith("/ask_batch") else "queued")
    watching.enough.set()
    assert [s.finish().whole for s in holding] == [True] * AT_ONCE
    gateway.idle()
    assert watching.asked == asked
    assert attempts(gateway) - before == {"ok": AT_ONCE}
    tell(f"queued, {route}, {how}", delays)
    in_time(delays)


def test_leaving_the_queue_lets_the_next_one_in(gateway, watching):
    """Of ten that wait every second one leaves: the others are served, each once."""
    watching.answer = watching.talk
    holding = [gateway.ask_stream().begun() for _ in range(AT_ONCE)]
    asked = watching.asked
    clients = []
    for n in range(1, 11):
        clients.append(Client(gateway, "/ask"))
        until(lambda: gateway.metric("pocketfleet_queue_length") == n, "it to wait")
    for client in clients[::2]:
        client.leave("reset")
    until(lambda: gateway.metric("pocketfleet_queue_length") == 5, "five to be gone")
    watching.enough.set()
    assert [c.connection.reply().status for c in clients[1::2]] == [200] * 5
    for client in clients[1::2]:
        client.connection.close()
    assert [s.finish().whole for s in holding] == [True] * AT_ONCE
    assert watching.asked == asked + 5


# ---- while the connection to the phone is being made


class ShyPhone(HostilePhone):
    """Can stop to take connections, as a phone that has just left the Wi-Fi: they hang, nobody refuses."""

    def __init__(self):
        self._taking, self._resting = threading.Event(), threading.Event()
        self._taking.set()
        self._fillers = []
        super().__init__(Ollama())
        self._listener.listen(0)

    def _accept(self):
        while True:
            if not self._taking.is_set():
                self._resting.set()
                self._taking.wait(60)
                self._resting.clear()
            if not select.select([self._listener], [], [], 0.02)[0]:
                continue
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            sock.settimeout(30)
            with self._lock:
                self._open.add(sock)
            thread = threading.Thread(target=self._serve, args=(sock,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def vanish(self):
        """The kernel drops what does not fit the backlog."""
        self._taking.clear()
        assert self._resting.wait(20)
        for _ in range(8):
            s = socket.socket()
            s.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                s.connect(("127.0.0.1", self.port))
            if not select.select([], [s], [], 0.1)[1]:
                s.close()
                return
            self._fillers.append(s)
        raise AssertionError("the backlog is never full")

    def return_(self):
        for s in self._fillers:
            s.close()
        self._fillers.clear()
        self._taking.set()

    def close(self):
        self.return_()
        super().close()

    def connecting(self):
        """Connections to it that do not stand yet."""
        lines = pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]
        return sum(fields[3] == "02" and int(fields[2].split(":")[1], 16) == self.port
                   for fields in map(str.split, lines))


@pytest.fixture(scope="module")
def shy():
    phone = ShyPhone()
    yield phone
    phone.close()


@pytest.fixture(scope="module")
def shy_gateway(start_once, shy):
    return start_once.gateway([shy.entry(max_concurrency=AT_ONCE)],
                              {**STRICT, "phone_idle_connections": 0, "connect_timeout_s": 20})


@pytest.mark.parametrize("how", LEAVING)
@pytest.mark.parametrize("route", ROUTES)
def test_leaving_ends_the_connecting(shy, shy_gateway, route, how):
    gateway, delays = shy_gateway, []
    shy.vanish()
    try:
        for _ in range(3):
            client = Client(gateway, route)
            until(lambda: shy.connecting() == client.running, "it to connect")
            left = client.leave(how)
            until(lambda: shy.connecting() == 0, "it to be given up", step=0.001)
            delays.append(time.monotonic() - left)
            client.gone(gateway, "waiting" if route.startswith("/ask_batch") else "connecting")
            gateway.idle()
    finally:
        shy.return_()
    seen = gateway.health()[0]
    assert (seen["breaker"], seen["healthy"]) == ("closed", True), seen
    assert gateway.ask().content() == counted(3)
    tell(f"connecting, {route}, {how}", delays)
    in_time(delays)


# ---- in the moment of the end


@pytest.mark.parametrize("route", ["/ask", "/ask_stream"])
def test_leaving_in_the_moment_of_the_last_token(gateway, watching, route):
    """The client goes while the phone says its last: one line, one count, one permit back, either way."""
    rng, last, rounds = random.Random(7), threading.Event(), 200
    told = threading.Event()

    def answer(line):
        with watching.at_work():
            line.send(head("200 OK", f"Content-Type: {Ollama.type}", "Transfer-Encoding: chunked")
                      + chunk(watching.form.piece(b" 1")))
            told.set()
            assert last.wait(20)
            line.send(chunk(watching.form.last()) + b"0\r\n\r\n")

    watching.answer = answer
    before, outcomes = attempts(gateway), collections.Counter()
    counted_before = gateway.metric("pocketfleet_requests_total", route=route)
    clients = []
    for n in range(rounds):
        told.clear()
        last.clear()
        client = Client(gateway, route)
        clients.append(client)
        assert told.wait(20)
        if route == "/ask_stream":
            assert client.connection.head()[0] == 200
        last.set()
        end = time.monotonic() + rng.uniform(0, 0.002)
        while time.monotonic() < end:
            pass
        client.leave(LEAVING[n % 3])
        until(lambda: watching.busy == 0, "the phone to have done", step=0.0005)
    gateway.idle()
    ids = {c.id for c in clients}
    for client in clients:
        client.connection.close()
    until(lambda: sum(r["request_id"] in ids for r in gateway.records()) >= rounds, "their lines in the log")
    records = [r for r in gateway.records() if r["request_id"] in ids]
    assert len(records) == rounds, "one line each"
    outcomes.update(r["outcome"] for r in records)
    print(f"\n{route}: {dict(outcomes)}")
    assert set(outcomes) <= {"ok", "client_gone"}
    assert all(r["status"] == (200 if r["outcome"] == "ok" else 499) for r in records)
    assert gateway.metric("pocketfleet_requests_total", route=route) == counted_before + rounds
    new = attempts(gateway) - before
    assert set(new) <= {"ok", "aborted"} and new.total() == rounds, new


# ---- over and over


def test_three_hundred_times(start):
    """Connect, ask, leave: no descriptor, no permit, no memory stays behind."""
    phones = start.sim(2, decode_rate=200, slots=8)
    gateway = start.gateway([p.entry(max_concurrency=8) for p in phones],
                            {**STRICT, "phone_idle_connections": 1})
    rng = random.Random(3)

    def cycle(n):
        client = Client(gateway, ROUTES[n % 4], items=6)
        if n % 3 == 0:
            time.sleep(rng.uniform(0, 0.01))  # so that they leave at different times
        client.leave(LEAVING[n % 3] if n % 6 != 5 else "reset")
        client.connection.close()

    def rest():
        gateway.idle()
        until(lambda: all(p.state()["active"] + p.state()["waiting"] == 0 for p in phones), "all to stop")
        # One that asks, and idle ones to the phones.
        until(lambda: gateway.metric("pocketfleet_connections") == 1, "the connections to be closed")
        return open_files(gateway), resident(gateway)

    for n in range(60):
        cycle(n)
    files, memory = rest()
    for n in range(300):
        cycle(n)
    files_now, memory_now = rest()
    print(f"\n300 cycles: files {files} -> {files_now}, memory {memory} -> {memory_now} KiB")
    assert files_now <= files + 2
    assert memory_now <= memory + 2048 or sanitized()
    assert all((p["breaker"], p["permits"]) == ("closed", 8) for p in gateway.health())
    assert gateway.ask(tokens=3).content() == counted(3)


# ---- clients that do not read


class Narrow(Connection):
    """With a small receive buffer, so that what is not read stays with the gateway."""

    def __init__(self, port, bound=60.0):
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._socket.settimeout(bound)
        self._socket.connect(("127.0.0.1", port))
        self._bytes = b""
        self.closed = False


class FloodingPhone(HostilePhone):
    """An answer without end, as fast as it is taken."""

    def __init__(self):
        super().__init__(Ollama())
        self.answer = self.flood

    def flood(self, line):
        line.send(head("200 OK", f"Content-Type: {self.form.type}", "Transfer-Encoding: chunked"))
        block = chunk(self.form.piece(b" flood") * 500)
        while line.send(block):
            pass

    def sent(self):
        return sum(line.sent for line in self.lines)


STALLED = 20


@pytest.fixture(scope="module")
def stalled(start_once):
    """Twenty clients that take nothing of an answer of 200 MB, beside one that reads; what was seen of it."""
    phone = FloodingPhone()
    calm = start_once.sim(1, decode_rate=100, model="calm")[0]
    gateway = start_once.gateway([phone.entry(max_concurrency=STALLED), calm],
                                 {"cache": "never", "write_stall_s": 5, "log_format": "json",
                                  "answer_bytes": 200 << 20})
    arrivals, ended = [], []

    def read_calmly():
        stream = gateway.ask_stream(tokens=700, model="calm")  # 7 s
        for _ in stream:
            arrivals.append(time.monotonic())
        ended.append(stream.whole)

    reader = threading.Thread(target=read_calmly)
    reader.start()
    until(lambda: len(arrivals) > 20, "the calm stream to go on")
    before = resident(gateway)
    clients, ids = [], []
    try:
        for _ in range(STALLED):
            clients.append(Narrow(gateway.port))
            ids.append(uuid.uuid4().hex)
            clients[-1].send(post("/ask_stream", question(model=MODEL), [f"X-Request-Id: {ids[-1]}"]))
        seen = [0, time.monotonic()]

        def stands_still():
            now = phone.sent()
            if now != seen[0]:
                seen[:] = now, time.monotonic()
            return len(phone.lines) == STALLED and time.monotonic() - seen[1] > 0.5
        until(stands_still, "the phone to be read no further", step=0.05)
        running = gateway.phone(phone.name)["inflight"]
        grown = (resident(gateway) - before) / STALLED
        outcomes = [gateway.record(i)["outcome"] for i in ids]
        until(lambda: all(line.over.is_set() for line in phone.lines), "the phone to be told")
        reader.join(30)
        yield {"running": running, "grown": grown, "outcomes": outcomes, "taken": seen[0] / STALLED,
               "taken_in_all": phone.sent() / STALLED, "arrivals": arrivals, "whole": ended == [True]}
    finally:
        for client in clients:
            client.close()
        phone.close()


def test_stalled_readers(stalled):
    """The phone is made to wait, then they are cut off; nobody else notices."""
    assert stalled["running"] == STALLED, "nobody was cut off early"
    assert set(stalled["outcomes"]) <= {"client_gone", "client_stalled"}
    gaps = sorted(b - a for a, b in zip(stalled["arrivals"], stalled["arrivals"][1:]))
    print(f"\ntaken of the phone for each {stalled['taken'] / 1e6:.1f} MB; beside them gaps p99 "
          f"{gaps[int(len(gaps) * 0.99)] * 1000:.0f} ms, most {gaps[-1] * 1000:.0f} ms")
    assert stalled["taken_in_all"] < 32e6, "most of it in the kernels' buffers"
    assert stalled["whole"] and len(stalled["arrivals"]) == 701
    assert gaps[int(len(gaps) * 0.99)] < 0.25


def test_stalled_readers_take_no_memory(stalled):
    print(f"\n{stalled['grown']:.0f} KiB for each")
    assert stalled["grown"] <= 128 or sanitized()


def read_at(connection, bytes_per_second, bound):
    """Reads at that rate until the other side closes; the bytes."""
    began, data = time.monotonic(), b""
    while time.monotonic() - began < bound:
        got = connection._socket.recv(bytes_per_second // 20)
        if not got:
            break
        data += got
        # This is the slowness under test.
        time.sleep(max(0.0, began + len(data) / bytes_per_second - time.monotonic()))
    return data


@pytest.mark.parametrize("stall, tokens, phone_rate, bytes_per_second", [
    (0.5, 2000, 1000, 60_000),
    (2, 40_000, 1_000_000, 300_000),
], ids=["as tokens come", "behind full buffers"])
def test_a_slow_but_steady_reader_gets_everything(start, stall, tokens, phone_rate, bytes_per_second):
    """What counts is the time without progress: it takes a little all the time, for longer than that."""
    phone = start.sim(1, decode_rate=phone_rate)[0]
    gateway = start.gateway([phone], {"cache": "never", "write_stall_s": stall, "log_format": "json"})
    with Narrow(gateway.port) as connection:
        connection.send(post("/ask_stream", question(tokens=tokens),
                             ["Connection: close", "X-Request-Id: slow"]))
        began = time.monotonic()
        data = read_at(connection, bytes_per_second, 30)
        assert time.monotonic() - began > 2 * stall, "else it was not slow"
    assert data.endswith(b"\r\n0\r\n\r\n") and b'"done":true' in data[-1000:], len(data)
    assert gateway.record("slow")["outcome"] == "ok"
