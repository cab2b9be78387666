"""Phones whose answers are hostile: after a change of addresses anything may answer there.

Whatever comes, the client gets the right answer or a clear error, the gateway spends no memory on it, keeps
nothing of it, and the next question is answered as if nothing had been.
"""
import dataclasses
import re
import socket
import threading
import typing
import uuid

import pytest

from client import BOUND, counted, request
from harness import until
from raw.phone import MODEL, HostilePhone, LlamaServer, Ollama, chunk, head

ANSWER_LIMIT = 1 << 20    # answer_bytes of the gateway
MEMORY = 8 * 1024         # KiB that a row may cost: an answer, a line, and buffers that grew to hold them
TAKEN = 32 << 20          # bytes that may be taken of what has no end, the kernel's buffers included
ENDLESS = 200 << 20
FORMS = {"ollama": Ollama(), "llama-server": LlamaServer()}
UNSOUND = (502,)


def chunked(form, *fields):
    return head("200 OK", f"Content-Type: {form.type}", "Transfer-Encoding: chunked", *fields)


def sized(form, body, *fields, status="200 OK", length=None):
    size = len(body) if length is None else length
    return head(status, f"Content-Type: {form.type}", f"Content-Length: {size}", *fields) + body


def whole(form):
    return b"".join(form.piece(t) for t in (b" 1", b" 2", b" 3")) + form.last()


def error_body(text):
    return b'{"error":{"code":400,"message":"' + text + b'","type":"x"}}'


@dataclasses.dataclass(frozen=True)
class Row:
    id: str
    answer: typing.Callable   # (line, form): what the phone does
    error: tuple = ()         # statuses, if it is one
    text: str = counted(3)    # the answer, if it is none
    begun: bool = False       # some of the answer is sound
    endless: bool = False     # the phone goes on until the gateway closes

    def __str__(self):
        return self.id


ROWS = []


def row(id, answer, **more):
    assert all(r.id != id for r in ROWS), id
    ROWS.append(Row(id, answer, **more))


def send(make, close=False):
    """An answer that is a constant."""
    def answer(line, form):
        line.send(make(form))
        if close:
            line.close()
    return answer


def pieces_of(make, close=False):
    """An answer in several writes."""
    def answer(line, form):
        for part in make(form):
            if not line.send(part):
                return
        if close:
            line.close()
    return answer


def endless(make_start, block, total=ENDLESS):
    """An answer without end: sent until the gateway closes."""
    def answer(line, form):
        data = block(form)
        data *= max(1, (64 << 10) // len(data))
        line.send(make_start(form))
        while line.sent < total and line.send(data):
            pass
        line.close()
    return answer


# ---- U14: not the engine's form, or not all of it

HTML = b"<html><body>POISON: please log in</body></html>"

row("html", send(lambda f: head("200 OK", "Content-Type: text/html", f"Content-Length: {len(HTML)}") + HTML),
    error=UNSOUND)
row("html chunked", send(lambda f: head("200 OK", "Content-Type: text/html", "Transfer-Encoding: chunked")
                         + chunk(HTML) + b"0\r\n\r\n"), error=UNSOUND)
row("html until the end", send(lambda f: head("200 OK", "Content-Type: text/html") + HTML, close=True),
    error=UNSOUND)
row("wrong type", send(lambda f: head("200 OK", "Content-Type: image/png") + whole(f), close=True))
row("no type", send(lambda f: head("200 OK", f"Content-Length: {len(whole(f))}") + whole(f)))
row("empty", send(lambda f: sized(f, b"")), error=UNSOUND)
row("empty chunked", send(lambda f: chunked(f) + b"0\r\n\r\n"), error=UNSOUND)
row("nothing at all", send(lambda f: b"", close=True), error=UNSOUND)
row("half a header", send(lambda f: chunked(f)[:-9], close=True), error=UNSOUND)
row("header, no body", send(lambda f: chunked(f), close=True), error=UNSOUND)
row("length cut", send(lambda f: sized(f, f.piece(b" 1"), length=5000), close=True), error=UNSOUND,
    begun=True)
row("chunks cut", send(lambda f: chunked(f) + chunk(f.piece(b" 1")), close=True), error=UNSOUND, begun=True)
row("cut in a chunk", send(lambda f: chunked(f) + chunk(f.piece(b" 1"))[:-9], close=True), error=UNSOUND,
    begun=True)
row("no end marker", send(lambda f: chunked(f) + chunk(f.piece(b" 1")) + b"0\r\n\r\n"), error=UNSOUND,
    begun=True)
row("no end marker, until the end", send(lambda f: head("200 OK") + f.piece(b" 1"), close=True),
    error=UNSOUND, begun=True)
row("until the end", send(lambda f: head("200 OK", f"Content-Type: {f.type}") + whole(f), close=True))
row("until the end in HTTP/1.0", send(lambda f: b"HTTP/1.0 200 OK\r\n\r\n" + whole(f), close=True))
row("chunks cut behind the marker", send(lambda f: chunked(f) + chunk(whole(f)), close=True))
for name, body in {
        "number": b"5", "null": b"null", "array": b"[]", "text": b'"POISON"', "object": b'{"x":"POISON"}',
        "deep": b"[" * 100_000, "deep objects": b'{"a":' * 100_000, "nan": b'{"done":NaN}',
        "two in a line": b'{"message":{}}{"message":{}}'}.items():
    row(f"json {name}", send(lambda f, b=body: sized(f, f.frame(b))), error=UNSOUND)
row("ollama's answer from llama-server, and the other way round",
    send(lambda f: sized(f, whole(next(other for other in FORMS.values() if other is not f)))), error=UNSOUND)

# ---- U15: lines and events

row("line without end", endless(lambda f: chunked(f), lambda f: chunk(b"x" * 16384)), error=UNSOUND,
    endless=True)
row("text without end", endless(lambda f: chunked(f) + chunk(f.piece(b" 1")[:-20]),
    lambda f: chunk(b"x" * 16384)), error=UNSOUND, endless=True)
row("line without end, until the end", endless(lambda f: head("200 OK"), lambda f: b"x" * 16384),
    error=UNSOUND, endless=True)
row("event of 10 MB", endless(lambda f: chunked(f), lambda f: chunk(b"data: " + b"x" * 1000 + b"\n"),
    total=10 << 20), error=UNSOUND, endless=True)
row("nothing, for ever", endless(lambda f: chunked(f), lambda f: chunk(f.idle() * 1000), total=10 << 30),
    error=(504,), endless=True)
row("last line without its end", send(lambda f: sized(f, whole(f).rstrip(b"\n"))))
row("last line without its end, chunked", send(lambda f: chunked(f) + chunk(whole(f).rstrip(b"\n"))
    + b"0\r\n\r\n"))
row("last line without its end, until the end", send(lambda f: head("200 OK") + whole(f).rstrip(b"\n"),
    close=True))
row("lines that end with CR LF", send(lambda f: sized(f, whole(f).replace(b"\n", b"\r\n"))))
row("a byte a chunk", pieces_of(lambda f: [chunked(f), *(chunk(bytes([b])) for b in whole(f)), b"0\r\n\r\n"]))

# ---- U16: text that is none

BROKEN = {"ff": b"\xff", "cut": b"\xe2\x82", "overlong": b"\xc0\xaf", "surrogate": b"\xed\xa0\x80",
          "control": b"\x01", "nul": b"\x00", "bad escape": b"\\x41"}
for name, text in BROKEN.items():
    row(f"utf-8 {name}", send(lambda f, t=text: chunked(f) + chunk(f.piece(b" 1") + f.piece(t) + f.last())
            + b"0\r\n\r\n"), error=UNSOUND, begun=True)
row("character in two chunks", pieces_of(lambda f: [chunked(f), *(chunk(part) for part in split_inside(
    f.piece("ü€\U0001d11e".encode()) + f.last())), b"0\r\n\r\n"]), text="ü€\U0001d11e")
row("nul escape", send(lambda f: sized(f, f.piece(b"a\\u0000b") + f.last())), text="a\0b")
row("line ends as escapes", send(lambda f: sized(f, f.piece(b"a\\r\\ndata: b\\n\\n") + f.last())),
    text="a\r\ndata: b\n\n")


def split_inside(body):
    """Cut within each character that has several bytes."""
    cuts = [0] + [i for i in range(len(body)) if 0x80 <= body[i] < 0xc0] + [len(body)]
    return [body[a:b] for a, b in zip(cuts, cuts[1:]) if b > a]


# ---- U17: other statuses

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
row("100 first", send(lambda f: CONTINUE + sized(f, whole(f))))
row("103 and 100 first", pieces_of(lambda f: [b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n", CONTINUE,
                                              sized(f, whole(f))]))
row("100 for ever", endless(lambda f: b"", lambda f: CONTINUE), error=UNSOUND, endless=True)
row("100 with a length", send(lambda f: b"HTTP/1.1 100 Continue\r\nContent-Length: 6\r\n\r\nPOISON"
    + sized(f, whole(f)), close=True), error=UNSOUND)
row("101", send(lambda f: head("101 Switching Protocols", "Upgrade: h2c", "Connection: Upgrade") + whole(f),
    close=True), error=UNSOUND)
row("204", send(lambda f: head("204 No Content")), error=UNSOUND)
row("206", send(lambda f: sized(f, whole(f), status="206 Partial Content")), error=UNSOUND)
row("304", send(lambda f: head("304 Not Modified", "Content-Length: 100")), error=UNSOUND)
row("600", send(lambda f: sized(f, whole(f), status="600 POISON")), error=UNSOUND)
row("999", send(lambda f: sized(f, whole(f), status="999 POISON")), error=UNSOUND)

# ---- U19: refusals

for status in (400, 413, 422, 501):
    row(f"{status}", send(lambda f, s=status: sized(f, error_body(b"no, not that"), status=f"{s} x")),
            error=(status,))
row("400 in html", send(lambda f: sized(f, HTML, status="400 x")), error=(400,))
row("404", send(lambda f: sized(f, error_body(b"model not found"), status="404 x")), error=UNSOUND)
row("401", send(lambda f: sized(f, error_body(b"POISON"), status="401 x")), error=UNSOUND)
row("error of 9 MB", endless(lambda f: sized(f, b"", status="400 x", length=9 << 20), lambda f: b"x" * 16384,
    total=9 << 20), error=(400,), endless=True)
row("error without end", endless(lambda f: head("500 x"), lambda f: b"x" * 16384), error=UNSOUND,
    endless=True)
row("error that never comes", pieces_of(lambda f: [sized(f, b'{"error":', status="400 x", length=100)]),
    error=(400, 502, 504), endless=True)

# ---- U20: HTTP that is not sound

TRAILER = b"X: " + b"t" * 70_000 + b"\r\n"
row("trailer of 70 kB", send(lambda f: chunked(f) + chunk(f.piece(b" 1")) + b"0\r\n" + TRAILER + b"\r\n"),
    error=UNSOUND, begun=True)
row("trailer of 70 kB behind the marker", send(lambda f: chunked(f) + chunk(whole(f)) + b"0\r\n" + TRAILER
    + b"\r\n"))
row("trailers without end", endless(lambda f: chunked(f) + chunk(f.piece(b" 1")) + b"0\r\n",
                                    lambda f: b"X: " + b"t" * 4096 + b"\r\n"), error=UNSOUND, begun=True,
                                    endless=True)
row("small trailer", send(lambda f: chunked(f) + chunk(whole(f)) + b"0\r\nX: y\r\n\r\n"))
row("header of 70 kB", send(lambda f: head("200 OK", "X: " + "h" * 70_000) + whole(f), close=True),
    error=UNSOUND)
row("header without end", endless(lambda f: b"HTTP/1.1 200 OK\r\n", lambda f: b"X: " + b"h" * 1000 + b"\r\n"),
    error=UNSOUND, endless=True)
row("reason without end", endless(lambda f: b"HTTP/1.1 200 ", lambda f: b"h" * 1000), error=UNSOUND,
    endless=True)
for name, fields in {
        "length and chunked": ["Content-Length: 5", "Transfer-Encoding: chunked"],
        "chunked and length": ["Transfer-Encoding: chunked", "Content-Length: 5"],
        "two lengths": ["Content-Length: 5", "Content-Length: 6"], "length minus": ["Content-Length: -1"],
        "length plus": ["Content-Length: +5"], "length 2-64": ["Content-Length: 18446744073709551617"],
        "coding gzip": ["Transfer-Encoding: gzip"], "coding twice": ["Transfer-Encoding: chunked"] * 2,
        "coding xchunked": ["Transfer-Encoding: xchunked"],
        "control in a field": ["X: a\x00b", "Content-Length: 5"],
        "no colon": ["nonsense", "Content-Length: 5"]}.items():
    row(name, send(lambda f, h=fields: head("200 OK", *h) + chunk(whole(f)) + b"0\r\n\r\n", close=True),
            error=UNSOUND)
for name, first in {
        "HTTP/2.0": b"HTTP/2.0 200 OK", "ICY": b"ICY 200 OK", "no status": b"HTTP/1.1 OK",
        "20": b"HTTP/1.1 20 OK", "2000": b"HTTP/1.1 2000 OK", "tls": b"\x15\x03\x01\x00\x02\x02\x28",
        "HTTP/0.9": b"{}"}.items():
    row(f"first line {name}", send(lambda f, b=first: b + b"\r\nContent-Length: %d\r\n\r\n" % len(whole(f))
            + whole(f), close=True), error=UNSOUND)
row("chunk size no number", send(lambda f: chunked(f) + b"zz\r\n" + whole(f), close=True), error=UNSOUND)
row("chunk size 17 digits", send(lambda f: chunked(f) + b"1" * 17 + b"\r\n" + whole(f), close=True),
    error=UNSOUND)
row("chunk longer than told", send(lambda f: chunked(f) + b"5\r\n" + whole(f), close=True), error=UNSOUND)
row("chunk extension of 40 kB", send(lambda f: chunked(f) + chunk(whole(f), b";" + b"e" * 40_000)
    + b"0\r\n\r\n"))
row("chunk extension of 100 kB", send(lambda f: chunked(f) + chunk(whole(f), b";" + b"e" * 100_000)
    + b"0\r\n\r\n", close=True), error=UNSOUND)
row("chunk extension without end", endless(lambda f: chunked(f) + b"5;", lambda f: b"e" * 1000),
    error=UNSOUND, endless=True)
row("9 MB of answer", endless(lambda f: chunked(f), lambda f: chunk(f.piece(b"x" * 1000)), total=9 << 20),
    error=UNSOUND, begun=True, endless=True)
row("9 MB behind the marker", endless(lambda f: chunked(f) + chunk(whole(f)),
    lambda f: chunk(f.piece(b"POISON")), total=9 << 20))


# ---- the rows


class Setting:
    """A hostile phone and a gateway that knows no other."""

    def __init__(self, start, engine, **settings):
        self.form = FORMS[engine]
        self.phone = HostilePhone(self.form)
        self.gateway = start.gateway(
            [self.phone.entry()], {"first_token_timeout_s": 1, "token_timeout_s": 1, "loading_timeout_s": 1,
                                   "queue_wait_s": 1, "answer_bytes": ANSWER_LIMIT, "breaker_failures": 1000,
                                   "breaker_connect_failures": 1000,
                                   "probe_interval_s": 60,  # so that only questions use the connections
                                   **settings})

    def say(self, answer):
        self.phone.answer = lambda line: answer(line, self.form)

    def ask(self, route, prompt):
        """(status, text, error): an answer that ends as it should has no error."""
        if route == "/ask":
            reply = self.gateway.ask(prompt)
            if reply.status == 200:
                return 200, reply.content(), None
            return reply.status, "", reply.error()
        stream = self.gateway.ask_stream(prompt)
        if stream.head() != 200:
            length = int(stream.headers["Content-Length"])
            body = stream.connection.exactly(length).decode()
            stream.connection.close()
            assert body.startswith('{"error":"'), body
            return stream.status, "", body
        stream.finish()
        assert (stream.error() is None) == stream.whole, stream.lines[-3:]
        return 200, stream.text(), stream.error()


@pytest.fixture(scope="module", params=list(FORMS))
def setting(request, start_once):
    made = Setting(start_once, request.param)
    yield made
    made.gateway.stop()
    made.phone.close()


def status_line(gateway, name):
    with open(f"/proc/{gateway.pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(name))


def forget_peak(gateway):
    with open(f"/proc/{gateway.pid}/clear_refs", "w") as refs:
        refs.write("5")
    return status_line(gateway, "VmRSS")


def most(gateway):
    """KiB that a row may cost. Sanitizers keep what is freed for a while."""
    with open(f"/proc/{gateway.pid}/maps") as maps:
        return 100 * MEMORY if re.search(r"/lib[at]san\.", maps.read()) else MEMORY


@pytest.mark.parametrize("route", ["/ask", "/ask_stream"])
@pytest.mark.parametrize("row", ROWS, ids=str)
def test_answer(setting, row, route):
    gateway, phone = setting.gateway, setting.phone
    prompt = f"{row.id} {uuid.uuid4().hex}"
    setting.say(row.answer)
    memory = forget_peak(gateway)

    status, text, error = setting.ask(route, prompt)

    if row.error:
        assert error, f"an answer: {text[:200]!r}"
        late = row.begun and route == "/ask_stream" and status == 200
        assert status in row.error or late, (status, error)
        assert "POISON" not in text + error
    else:
        assert (status, text, error) == (200, row.text, None)
    if row.endless:
        line = phone.lines[-1]
        assert line.over.wait(BOUND), "the gateway does not close"
        assert line.sent < TAKEN or status == 504, f"{line.sent} bytes were taken"
    assert status_line(gateway, "VmHWM") - memory < most(gateway)

    # The same question: asked anew if the answer was none, and answered as it should be.
    asked = phone.asked
    phone.answer = phone.good
    assert setting.ask(route, prompt) == (200, row.text if not row.error else counted(3), None)
    assert phone.asked == asked + (1 if row.error else 0)
    gateway.idle()
    assert gateway.running()
    assert setting.ask("/ask", f"and the next {uuid.uuid4().hex}") == (200, counted(3), None)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(setting, status):
    trap = socket.create_server(("127.0.0.1", 0))
    trap.setblocking(False)
    where = f"http://127.0.0.1:{trap.getsockname()[1]}{setting.form.route}"
    setting.say(send(lambda f: head(f"{status} x", f"Location: {where}", "Content-Length: 0")))
    assert setting.ask("/ask", uuid.uuid4().hex)[0] == 502
    # The error is there: were it going to ask elsewhere, it would have.
    with pytest.raises(BlockingIOError):
        trap.accept()
    trap.close()
    setting.phone.answer = setting.phone.good
    assert setting.ask("/ask", uuid.uuid4().hex) == (200, counted(3), None)


# ---- more than one answer


def poison(form):
    return sized(form, form.piece(b"POISON") + form.last())


def test_second_answer_at_once(setting):
    """What stands behind an answer is nobody's."""
    setting.say(send(lambda f: sized(f, whole(f)) + poison(f)))
    assert setting.ask("/ask", uuid.uuid4().hex) == (200, counted(3), None)
    setting.phone.answer = setting.phone.good
    for _ in range(3):
        assert setting.ask("/ask", uuid.uuid4().hex) == (200, counted(3), None)


def unread(ports):
    """Bytes that have come to the first port from the second, and that nobody has read."""
    with open("/proc/net/tcp") as table:
        rows = [line.split() for line in table][1:]
    return sum(int(row[4].split(":")[1], 16) for row in rows
               if [int(row[i].split(":")[1], 16) for i in (1, 2)] == list(ports))


def test_second_answer_later(setting):
    """One that comes while the connection rests is not taken for the answer to the next question."""
    told, sent = threading.Event(), threading.Event()
    ports = []

    def answer(line, form):
        line.send(sized(form, whole(form)))
        told.wait(BOUND)
        ports.extend((line.socket.getpeername()[1], line.socket.getsockname()[1]))
        line.send(poison(form))
        sent.set()

    setting.say(answer)
    assert setting.ask("/ask", uuid.uuid4().hex) == (200, counted(3), None)
    setting.phone.answer = setting.phone.good
    told.set()
    assert sent.wait(BOUND)
    until(lambda: unread(ports), "it to be there")  # sent is not arrived: TCP may pace it
    for _ in range(3):
        assert setting.ask("/ask", uuid.uuid4().hex) == (200, counted(3), None)


@pytest.mark.parametrize("then", ["close", "read", "wait"])
@pytest.mark.parametrize("status", [200, 413])
def test_answer_before_the_request(setting, status, then):
    """The phone answers when it has seen the header of a long question.

    An error is allowed: what is still to be sent may be lost, and with it the answer.
    """
    phone, gateway = setting.phone, setting.gateway
    over = threading.Event()

    def answer(line, form):
        line.send(sized(form, whole(form) if status == 200 else error_body(b"too long"),
        status=f"{status} x"))
        if then == "wait":
            over.wait(BOUND)
        if then == "read":
            line.socket.settimeout(0.5)
            try:
                while line.socket.recv(1 << 20):
                    pass
            except OSError:
                pass
        line.close()

    setting.say(answer)
    phone.early = True
    try:
        prompt = uuid.uuid4().hex + "x" * 4_000_000
        got, text, error = setting.ask("/ask", prompt)
    finally:
        phone.early = False
        over.set()
    assert (got, text, error) == (200, counted(3), None) if not error else got in (413, 502, 504)
    phone.answer = phone.good
    assert setting.ask("/ask", uuid.uuid4().hex) == (200, counted(3), None)
    gateway.idle()


# ---- what the breaker learns


@pytest.mark.parametrize("engine", list(FORMS))
def test_breaker(start, engine):
    """The client's mistakes do not move it, the phone's do."""
    made = Setting(start, engine, breaker_failures=2, breaker_open_s=60, queue_wait_s=0.1)
    name = made.phone.name

    def state():
        return made.gateway.phone(name)["breaker"]

    for status in (400, 413, 422, 404, 501):
        made.say(send(lambda f, s=status: sized(f, error_body(b"no"), status=f"{s} x")))
        for _ in range(3):
            assert made.ask("/ask", uuid.uuid4().hex)[2]
        assert state() == "closed", status
    made.say(send(lambda f: sized(f, HTML)))
    assert made.ask("/ask", uuid.uuid4().hex)[0] == 502
    assert state() == "closed"
    assert made.ask("/ask", uuid.uuid4().hex)[0] == 502
    assert state() == "open"
    made.gateway.stop()
    made.phone.close()


@pytest.mark.parametrize("engine", list(FORMS))
def test_another_phone_answers(start, engine):
    """What one phone does badly before its answer has begun, another does well."""
    form = FORMS[engine]
    bad, good = HostilePhone(form), HostilePhone(form)
    gateway = start.gateway([bad.entry(name="bad", weight=1000), good.entry(name="good")],
                            {"breaker_failures": 1000, "cache": "never", "policy": "least_loaded"})
    for status, body in (("404 x", error_body(b"model not found")), ("200 OK", HTML), ("200 OK", b""),
                         ("302 x", b""), ("204 x", None)):
        asked = bad.asked
        data = head(status) if body is None else sized(form, body, status=status)
        bad.answer = lambda line, d=data: line.send(d)
        gateway.unsuspected()
        for route in ("/ask", "/ask_stream"):
            reply = request(gateway.port, "POST", route, {"prompt": uuid.uuid4().hex, "model": MODEL})
            assert reply.status == 200 and reply.headers["X-Phone"] == "good", (status, reply)
        assert bad.asked > asked, "the bad phone was not even asked"
    gateway.idle()
    gateway.stop()
    bad.close()
    good.close()
