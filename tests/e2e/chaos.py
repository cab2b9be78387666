"""What can go wrong between a gateway and its phones, on command; clients of every manner; and the books.

A Link is a TCP proxy in front of one phone: slow, silent, broken off or gone as it is told. All links of a
test run in one thread (Chaos). A LlamaPhone is a real llama-server behind a link; it can die and come back.
"""
import asyncio
import collections
import contextlib
import os
import random
import re
import signal
import socket
import struct
import threading
import time
import traceback

from client import Connection, Stream, counted, post, question
from engines import LlamaServer
from harness import PATIENCE, until

# ---- links

# A piece of an answer with its chunk's end: an event of llama-server, a line of Ollama; or the last chunk.
PIECE = re.compile(rb"[}\]]\n{1,2}\r\n|0\r\n\r\n")
# One that brings text.
TOKEN = re.compile(rb'"(?:content|response)":"(?!")')
# Requests that generate. Looks at the phone pass whatever is to happen to an answer.
GENERATING = (b"POST /v1/chat/completions ", b"POST /completion ", b"POST /api/chat ", b"POST /api/generate ",
              b"POST /v1/messages ")
HELD = 256 * 1024  # bytes that a slow link takes from its phone in advance


def _close(sock, how="fin"):
    if sock is None:
        return
    if how == "rst":
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


class Cut:
    """Ends an answer after so many tokens or bytes (its header's among them). `how`: "fin", "rst" or
    "silent", which keeps the connection and says nothing more. Links that share one are struck `times` times.
    """

    def __init__(self, tokens=None, bytes=None, how="fin", times=1):
        self.tokens, self.bytes, self.how, self.left = tokens, bytes, how, times

    def strikes(self, pair, piece):
        """How much of the piece is still let through; None: this is not the place."""
        if not self.left or not pair.generating:
            return None
        if self.tokens is not None:
            here = pair.tokens + 1 == self.tokens and TOKEN.search(piece) is not None
            size = len(piece)
        else:
            size = self.bytes - pair.bytes
            here = 0 < size <= len(piece)
        if not here:
            return None
        self.left -= 1
        return size


class _Pair:
    """A connection through a link: near is the gateway's, far the phone's."""

    def __init__(self, link, near):
        self.link, self.near, self.far = link, near, None
        self.loop = asyncio.get_running_loop()
        self.told = self.loop.create_future()  # from outside: how it is to end
        self.generating = False
        self.tokens = self.bytes = 0  # of the answer under way
        self._held = bytearray()      # come from the phone, not yet passed on
        self._over = None             # how the phone has ended
        self._news, self._room = asyncio.Event(), asyncio.Event()

    async def run(self):
        tasks, how = [], "rst"
        try:
            if self.link.deaf:
                tasks = [self.loop.create_task(self._swallow())]
                ends = tasks
            else:
                self.far = socket.socket()
                self.far.setblocking(False)
                await self.loop.sock_connect(self.far, ("127.0.0.1", self.link.target))
                self.far.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                tasks = [self.loop.create_task(part) for part in (self._up(), self._down(), self._take())]
                ends = tasks[:2]
            done, _ = await asyncio.wait([*ends, self.told], return_when=asyncio.FIRST_COMPLETED)
            how = self.told.result() if self.told in done else done.pop().result()
        except OSError:
            pass
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self.told.cancel()
            _close(self.near, how)
            _close(self.far)

    async def _swallow(self):
        while await self.loop.sock_recv(self.near, 65536):
            pass
        return "fin"

    async def _up(self):
        while data := await self.loop.sock_recv(self.near, 65536):
            if data.startswith((b"POST ", b"GET ")):
                self.generating = data.startswith(GENERATING)
                self.link.answers += self.generating
                self.tokens = self.bytes = 0
            await self.link.flows.wait()
            await self.loop.sock_sendall(self.far, data)
            self.link.bytes_up += len(data)
        return "fin"

    async def _take(self):
        """Takes all at once. What is held counts as not yet made: it dies with the phone."""
        try:
            while data := await self.loop.sock_recv(self.far, 65536):
                self._held += data
                self._news.set()
                while len(self._held) > HELD:
                    self._room.clear()
                    await self._room.wait()
            self._over = "fin"
        except OSError:
            self._over = "rst"
        self._news.set()

    async def _next(self):
        """The next piece of an answer, or what else there is; nothing at the end."""
        while True:
            piece = PIECE.search(self._held)
            if piece:
                return self._pop(piece.end())
            self._news.clear()
            if self._held and (self._over or not self.generating):
                return self._pop(len(self._held))
            if self._over:
                return b""
            # Half a piece is left to grow; what stays as it is was none.
            try:
                await asyncio.wait_for(self._news.wait(), 0.02 if self._held else None)
            except asyncio.TimeoutError:
                return self._pop(len(self._held))

    def _pop(self, size):
        data = bytes(self._held[:size])
        del self._held[:size]
        self._room.set()
        return data

    async def _down(self):
        link, due = self.link, 0.0
        while piece := await self._next():
            if link.pause and self.generating:
                due = max(due + link.pause, self.loop.time() - 0.05)  # a little late is made good
                await asyncio.sleep(due - self.loop.time())
            if link.stall_share and link.random.random() < link.stall_share:
                link.stalls += 1
                await asyncio.sleep(link.stall_s)
            await link.flows.wait()
            cut = None
            for each in link.cuts:
                size = each.strikes(self, piece)
                if size is not None:
                    cut, piece = each, piece[:size]
                    break
            await self._write(piece)
            if cut:
                link.note(f"{cut.how} after {self.tokens} tokens, {self.bytes} bytes of an answer")
                if cut.how == "silent":
                    await asyncio.Event().wait()  # until the gateway leaves or the link is told to cut
                return cut.how
        return self._over

    async def _write(self, data):
        if self.link.drip_rate:
            step = max(1, int(self.link.drip_rate / 20))
            for i in range(0, len(data), step):
                await self.link.flows.wait()
                await self.loop.sock_sendall(self.near, data[i:i + step])
                await asyncio.sleep(step / self.link.drip_rate)
        else:
            await self.loop.sock_sendall(self.near, data)
        self.bytes += len(data)
        self.link.bytes_down += len(data)
        if TOKEN.search(data):
            self.tokens += 1
            self.link.tokens += 1


class Link:
    """A proxy on a port of its own in front of a phone's. What it is told holds when the call returns."""

    def __init__(self, chaos, target, name):
        self._chaos, self.target, self.name = chaos, target, name
        self.connections = self.answers = self.tokens = self.bytes_up = self.bytes_down = self.stalls = 0
        self.cuts, self.deaf, self.pause, self.drip_rate = [], False, 0.0, 0
        self.stall_share, self.stall_s, self.random = 0.0, 0.0, random.Random(1)
        self._pairs, self._tasks = set(), set()
        self._accepting = self._listener = None
        # Keeps the port while nobody listens, so that nobody else is given it.
        self._place = self._bound(0)
        self.port = self._place.getsockname()[1]
        chaos.do(self._open)

    @staticmethod
    def _bound(port):
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        s.setblocking(False)
        s.bind(("127.0.0.1", port))
        return s

    def note(self, what):
        self._chaos.note(f"{self.name}: {what}")

    # -- in the thread of the links

    def _open(self):
        self.flows = asyncio.Event()
        self.flows.set()
        self._listen()

    def _listen(self):
        if self._listener is None:
            self._listener = self._bound(self.port)
            self._listener.listen(128)
            self._accepting = asyncio.get_running_loop().create_task(self._accept())

    async def _accept(self):
        loop = asyncio.get_running_loop()
        while True:
            near, _ = await loop.sock_accept(self._listener)
            near.setblocking(False)
            near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.connections += 1
            pair = _Pair(self, near)
            self._pairs.add(pair)
            task = loop.create_task(pair.run())
            self._tasks.add(task)
            task.add_done_callback(lambda t, p=pair: (self._pairs.discard(p), self._tasks.discard(t)))

    def _refuse(self):
        if self._listener is not None:
            self._accepting.cancel()
            self._listener.close()
            self._listener = None

    def _cut(self, how):
        cut = [p for p in self._pairs if not p.told.done()]
        for pair in cut:
            pair.told.set_result(how)
        return len(cut)

    async def close(self):
        self._refuse()
        self._cut("rst")
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._place.close()

    # -- for everybody

    def clear(self):
        """As a good network. Answers that were cut silently stay so."""
        def do():
            self.cuts, self.deaf, self.pause, self.drip_rate, self.stall_share = [], False, 0.0, 0, 0.0
            self.flows.set()
            self._listen()
        self._chaos.do(do)

    def slow(self, tokens_per_second):
        """Answers come no faster; all else does."""
        self.pause = 1 / tokens_per_second

    def drip(self, bytes_per_second):
        self.drip_rate = bytes_per_second

    def stall(self, share, seconds):
        """Holds up a share of all pieces, as packets that are lost and sent again do."""
        self.stall_share, self.stall_s = share, seconds

    def cut(self, how="fin"):
        """Ends all connections now; how many there were."""
        count = self._chaos.do(lambda: self._cut(how))
        self.note(f"{how} for {count} connections")
        return count

    def cut_after(self, *cuts):
        """Cut objects, in place of those before."""
        self._chaos.do(lambda: setattr(self, "cuts", list(cuts)))

    def hold(self):
        """Nothing passes any more, in either direction; all connections stay, and more are taken."""
        self._chaos.do(lambda: self.flows.clear())
        self.note("held")

    def let_go(self):
        self._chaos.do(lambda: self.flows.set())
        self.note("let go")

    def black_hole(self):
        """Connections stand and new ones are taken, but nobody is there."""
        self.deaf = True
        self.hold()

    def refuse(self):
        """No new connections; those that there are go on."""
        self._chaos.do(self._refuse)

    def listen(self):
        self._chaos.do(self._listen)

    def open(self):
        """Connections through it now."""
        return self._chaos.do(lambda: len(self._pairs))

    def entry(self, **more):
        """For phones.json."""
        return {"name": self.name, "host": "127.0.0.1", "port": self.port, **more}


class Chaos:
    """The thread of a test's links. It is owned as processes are: start.own(Chaos())."""

    name = "links"

    def __init__(self):
        self.ended = False
        self.pid = os.getpid()
        self.links = []
        self._notes, self._began = [], time.monotonic()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def do(self, what):
        """Runs it in the thread, and returns what it returns."""
        async def run():
            return what()
        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(PATIENCE)

    def link(self, port, name):
        made = Link(self, port, name)
        self.links.append(made)
        return made

    def note(self, what):
        self._notes.append(f"{time.monotonic() - self._began:7.3f} {what}")

    @property
    def errors(self):
        """What was done to whom; stands beside a failure."""
        return self

    def lines(self):
        return list(self._notes)

    def stop(self):
        if self.ended:
            return
        self.ended = True
        for link in self.links:
            asyncio.run_coroutine_threadsafe(link.close(), self._loop).result(PATIENCE)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE)
        self._loop.close()


# ---- phones


class LlamaPhone:
    """A real llama-server behind a link. It is owned as a process is."""

    engine = "llama-server"

    def __init__(self, programs, model, chaos, name, slots=4, alias="tiny"):
        self.name, self.slots = name, slots
        self._make = lambda port=None: LlamaServer(programs, model, alias, slots, port)
        self.server = self._make()
        self.link = chaos.link(self.server.port, name)
        self.kills = 0

    def entry(self, **more):
        return self.link.entry(max_concurrency=self.slots, **more)

    def kill9(self, how="fin"):
        """The process is gone, and with it what it had on its way; its port refuses."""
        self.link.refuse()
        self.server.kill()
        self.link.cut(how)
        self.kills += 1

    def restart(self):
        """On the same port; ready when it returns."""
        assert not self.server.running()
        self.server = self._make(self.server.port)
        self.link.listen()
        self.link.note("is back")

    def freeze(self):
        """SIGSTOP: its connections stand, new ones are taken by its kernel, nothing is answered."""
        self.server.signal(signal.SIGSTOP)
        self.link.hold()

    def thaw(self):
        self.server.signal(signal.SIGCONT)
        self.link.let_go()

    @property
    def pid(self):
        return self.server.pid

    @property
    def errors(self):
        return self.server.errors

    @property
    def ended(self):
        return self.server.ended

    def stop(self):
        self.server.stop()


# ---- books


class Books:
    """Nothing gets lost: what was sent to a gateway is what it has counted, and it is as it was before."""

    def __init__(self, gateway, phones):
        self.gateway = gateway
        self._ports = {entry["port"] for entry in (p.entry() if hasattr(p, "entry") else p for p in phones)}
        settings = gateway.settings
        self._most_idle = (len(self._ports) * settings.get("phone_idle_connections", 2)
                           * settings.get("workers", 1))
        until(lambda: gateway.metric("pocketfleet_connections") == 1, "no client but this one")
        until(lambda: self.files()[0] == self._rest(), "the files it has open to stay the same")
        self.before = self.files()[0]

    def _rest(self):
        first = self.files()[0]
        return first if self.files()[0] == first else None

    def files(self):
        """Open files of the gateway: connections to phones apart from all others."""
        pid, to_phones, links = self.gateway.pid, set(), []
        for entry in os.scandir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                links.append(os.readlink(entry.path))
        with open(f"/proc/{pid}/net/tcp") as table:
            for fields in map(str.split, table):
                if fields[0] != "sl" and int(fields[2].split(":")[1], 16) in self._ports:
                    to_phones.add(f"socket:[{fields[9]}]")
        phones = sum(link in to_phones for link in links)
        return len(links) - phones, phones

    def counted(self, metrics=None):
        """{route: requests that are over}."""
        routes = collections.Counter()
        for (name, labels), value in (metrics or self.gateway.metrics()).items():
            if name == "pocketfleet_requests_total":
                routes[dict(labels)["route"]] += int(value)
        return routes

    def wrong(self):
        """Everything that does not fit, as text."""
        found = []
        others, to_phones = self.files()
        if others != self.before:
            found.append(f"{others} open files, {self.before} before")
        if to_phones > self._most_idle:
            found.append(f"{to_phones} connections to phones, {self._most_idle} may be kept")
        for phone in self.gateway.health():
            if phone["inflight"]:
                found.append(f"{phone['inflight']} in flight on {phone['name']}")
        metrics = self.gateway.metrics()
        sent = collections.Counter(self.gateway.sent)
        sent["/metrics"] -= 1  # this one is not over while it is answered
        have = self.counted(metrics)
        for route in sorted({*sent, *have}):
            if sent[route] != have[route]:
                found.append(f"{route}: {sent[route]} sent, {have[route]} counted")
        for (name, labels), value in metrics.items():
            if name == "pocketfleet_phone_in_flight" and value:
                found.append(f"{labels}: {value:g} in flight, say the metrics")
            if name in ("pocketfleet_queue_length", "pocketfleet_request_body_bytes") and value:
                found.append(f"{name} is {value:g}")
        return found

    def balance(self, bound=2.0):
        """To be called when the last answer has come."""
        assert self.gateway.running(), self.gateway.log.text()[-4000:]
        last = []

        def fits():
            last[:] = self.wrong()
            return not last
        try:
            until(fits, "the books to balance", bound, step=0.05)
        except AssertionError:
            raise AssertionError(f"the books do not balance after {bound:g} s: " + "; ".join(last)) from None


# ---- clients


class Told:
    """What came of many clients' requests: counts of (kind, verdict), a text for each that was not well."""

    def __init__(self):
        self._lock = threading.Lock()
        self.counts = collections.Counter()
        self.rescues = 0
        self.complaints = []

    def note(self, kind, verdict, detail=None, notes=None):
        with self._lock:
            self.counts[kind, verdict] += 1
            if notes:
                self.rescues += notes.get("rescues", 0)
            if detail is not None and len(self.complaints) < 200:
                self.complaints.append(f"{kind} {verdict}: {detail}")

    def count(self, kind=None, verdict=None):
        with self._lock:
            return sum(n for (k, v), n in self.counts.items() if kind in (None, k) and verdict in (None, v))

    def __repr__(self):
        with self._lock:
            counts = {f"{k} {v}": n for (k, v), n in sorted(self.counts.items())}
            return f"{counts}, {self.rescues} rescues, complaints: " + "\n".join(self.complaints[:10])


def verdict_of(stream, tokens, take=None):
    """Reads a counting stream to its end, or as `take` does; how it has ended for its client.

    ok; error: told in the stream, which is then cut; refused: an honest status; silent: cut without a word;
    wrong: not what the model says, or an end that contradicts itself; hung: nothing came any more.
    """
    try:
        if stream.head() != 200:
            return "refused"
    except TimeoutError:
        return "hung"
    except AssertionError:
        return "silent"
    try:
        (take or (lambda s: s.finish()))(stream)
    except TimeoutError:
        return "hung"
    except (AssertionError, OSError, ValueError):
        return "wrong"
    finally:
        stream.connection.close()
    text, wanted = stream.text(), counted(tokens)
    done = [line for line in stream.lines if line.get("done")]
    if done:
        good = stream.whole and text == wanted and stream.lines[-1].get("done") and len(done) == 1
        return "ok" if good else "wrong"
    if not wanted.startswith(text) or stream.whole:
        return "wrong"
    return "error" if stream.error() else "silent"


def describe(stream, tokens):
    """For a complaint: how far it had come, and its last line."""
    text, wanted = stream.text(), counted(tokens)
    same = next((i for i, (a, b) in enumerate(zip(text, wanted)) if a != b), min(len(text), len(wanted)))
    return (f"{len(stream.lines)} lines, whole={stream.whole}, {text.count(' ')} tokens, right up to "
            f"...{text[max(0, same - 12):same]!r}, then {text[same:same + 24]!r}; ends {stream.lines[-1:]}")


def ask_stream(gateway, told, tokens, kind="stream", take=None, connection=None, **fields):
    """A streaming client."""
    gateway.count("/ask_stream")
    stream = Stream(gateway.port, question(tokens=tokens, **fields), connection=connection)
    verdict = verdict_of(stream, tokens, take)
    notes = stream.last().get("pocketfleet") if verdict == "ok" else None
    told.note(kind, verdict, None if verdict == "ok" else describe(stream, tokens), notes)


def ask_whole(gateway, told, tokens, **fields):
    """A client that waits for the whole answer."""
    try:
        reply = gateway.ask(tokens=tokens, **fields)
    except (OSError, ValueError) as e:
        return told.note("whole", "lost", repr(e))
    if reply.status != 200:
        return told.note("whole", "lost", repr(reply))
    answer = reply.json()
    good = answer["message"]["content"] == counted(tokens) and answer["eval_count"] == tokens
    return told.note("whole", "ok" if good else "wrong", None if good else repr(reply), answer["pocketfleet"])


def ask_and_leave(gateway, told, tokens, lines):
    """A client that leaves without a word after some lines."""
    stream = gateway.ask_stream(tokens=tokens)
    try:
        stream.begun(lines)
        verdict = "left" if stream.whole is None else "ended before"
        # However far it came, it was right so far.
        if not counted(tokens).startswith(stream.text()):
            verdict = "wrong"
    except (AssertionError, OSError, ValueError):
        verdict = "ended before"
    stream.abort()
    told.note("leaving", verdict, describe(stream, tokens) if verdict == "wrong" else None)


class Narrow(Connection):
    """A connection into which little fits: who does not read from it soon holds up the gateway."""

    def __init__(self, port, bound=60.0):
        self._socket = socket.socket()
        self._socket.settimeout(bound)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        # With large segments the other side's kernel would take megabytes.
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
        self._socket.connect(("127.0.0.1", port))
        self._bytes = b""
        self.closed = False


def ask_slowly(gateway, told, tokens, lines_per_second, home):
    """A client that reads slower than the phone writes."""
    def take(stream):
        for _ in stream:
            home.wait(1 / lines_per_second)
    ask_stream(gateway, told, tokens, "slow", take, Narrow(gateway.port))


# The kernels take some 150 kB of an answer that nobody reads. Such a name in each line fills them the sooner.
LONG_NAME = "a-model-whose-name-makes-every-line-long-" * 5


def ask_and_stall(gateway, told, tokens, seconds, home, **fields):
    """A client that takes nothing for a while; then it looks what there is."""
    connection = Narrow(gateway.port)
    gateway.count("/ask_stream")
    stream = Stream(gateway.port, question(tokens=tokens, **fields), connection=connection)
    home.wait(seconds)
    verdict = verdict_of(stream, tokens)
    # A cut is what a stalled client is told.
    told.note("stalled", verdict, describe(stream, tokens) if verdict in ("wrong", "hung") else None)


# Bytes that no well-meaning client sends, each with one answer, and one count as "other".
_ASK = b"POST /ask HTTP/1.1\r\nHost: localhost\r\n"
HOSTILE = (
    b"GET /health HTTP/1.1\r\n\r\n",
    _ASK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    _ASK + b"Transfer-Encoding: gzip\r\n\r\nGET /health HTTP/1.1\r\n\r\n",
    _ASK + b"Content-Length: 99999999999999\r\n\r\nabc",
    b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 65536 + b"\r\n\r\n",
    b"GET /" + b"q" * 5000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    _ASK + b"Transfer-Encoding: chunked\r\n\r\n-1\r\nx\r\n",
    _ASK + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nX: " + b"t" * 70000 + b"\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    b"GET /health HTTP/1.1\r\nHost: evil.example\r\n\r\n",
)
# And some with an honest framing, which come as far as the route.
MISTAKEN = (b"{", b"[" * 30000, b'{"prompt":"\xff"}', b'{"promt":"x"}',
            b'{"prompt":"x","options":{"num_ctx":1000000000}}')


def send_hostile_bytes(gateway, told, which):
    all_of_them = len(HOSTILE) + len(MISTAKEN)
    which %= all_of_them
    hostile = which < len(HOSTILE)
    data = HOSTILE[which] if hostile else post("/ask", MISTAKEN[which - len(HOSTILE)], ["Connection: close"])
    with Connection(gateway.port, 20) as c:
        c.send(data)
        try:
            text = c.rest()
        except TimeoutError:
            return told.note("hostile", "hung", f"number {which}")
    statuses = [int(line.split()[1]) for line in text.split(b"\r\n") if line.startswith(b"HTTP/1.")]
    # A reset may take the answer with it; whether there was one is then not known, but it was counted.
    gateway.count("other" if hostile else "/ask")
    good = len(statuses) <= 1 and all(400 <= s < 500 or s in (501, 505) for s in statuses)
    if good:
        return told.note("hostile", "refused")
    return told.note("hostile", "wrong", f"number {which}: {text[:200]!r}")


class Crowd:
    """Clients in threads; each does the same again and again until the crowd is sent home."""

    def __init__(self):
        self.home = threading.Event()
        self.told = Told()
        self._pool = []

    def add(self, count, act, think=None):
        """`act(random)` in a loop, with a pause of think=(least, most) seconds between."""
        for _ in range(count):
            rng = random.Random(len(self._pool))
            thread = threading.Thread(target=self._live, args=(act, think, rng), daemon=True)
            self._pool.append(thread)
            thread.start()

    def _live(self, act, think, rng):
        while not self.home.is_set():
            try:
                act(rng)
            except Exception:  # a mistake in a client must not look like one of the gateway
                self.told.note("client", "broken", traceback.format_exc(limit=4))
                return
            if think:
                self.home.wait(rng.uniform(*think))

    def go_home(self, bound=60.0):
        """No new requests; waits for the answers to those that there are."""
        self.home.set()
        end = time.monotonic() + bound
        for thread in self._pool:
            thread.join(max(0.0, end - time.monotonic()))
        left = sum(thread.is_alive() for thread in self._pool)
        assert not left, f"{left} clients still wait: {self.told}"
        return self.told
