"""Bytes no well-meaning client sends. Whatever comes: at most one answer, no phone is bothered, the process lives."""
import concurrent.futures
import json
import time

import pytest

from client import Connection, counted, post, question, request
from harness import until

CRLF = "\r\n"
LIMIT = 64 * 1024  # body_bytes of this gateway
SMUGGLED = "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture(scope="module")
def phones(start_once):
    return start_once.sim(1, answer_tokens=3, decode_rate=1000)


@pytest.fixture(scope="module")
def shared(start_once, phones):
    return start_once.gateway([p.entry(max_concurrency=8) for p in phones],
                              {"header_timeout_s": 1, "body_timeout_s": 1, "idle_timeout_s": 5, "body_bytes": LIMIT,
                               "cache": "never"})


@pytest.fixture
def gateway(shared, phones):
    """Afterwards the gateway is as it was: alive, idle, answering."""
    before = open_files(shared)
    asked = phones[0].state()["requests"]
    yield shared
    assert phones[0].state()["requests"] == asked, "a phone was asked"
    assert shared.running()
    assert shared.ask(tokens=3).content() == counted(3)
    shared.idle()
    until(lambda: open_files(shared) <= before + 2, "the connections to be closed")


def open_files(process):
    import os
    return len(os.listdir(f"/proc/{process.pid}/fd"))


def resident(process):
    with open(f"/proc/{process.pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))


def answers(gateway, data, bound=10):
    """Sends bytes, and reads until the gateway closes; the statuses it has answered with."""
    with Connection(gateway.port, bound) as c:
        c.send(data)
        text = c.rest()
    return [int(line.split()[1]) for line in text.split(b"\r\n") if line.startswith(b"HTTP/1.")], text


def head(*fields, first="POST /ask HTTP/1.1", host=True):
    return CRLF.join([first, *(["Host: localhost"] if host else []), *fields]) + CRLF + CRLF


BODY = '{"prompt":"x"}'
CHUNKED = f"{len(BODY):x}{CRLF}{BODY}{CRLF}0{CRLF}{CRLF}"


# ---- where a request ends


@pytest.mark.parametrize("fields", [
    [f"Content-Length: {len(BODY)}", "Transfer-Encoding: chunked"],
    ["Transfer-Encoding: chunked", f"Content-Length: {len(BODY)}"],
    ["Content-Length: 0", "Transfer-Encoding: chunked"],
    ["Transfer-Encoding: gzip"], ["Transfer-Encoding: chunked, gzip"], ["Transfer-Encoding: gzip, chunked"],
    ["Transfer-Encoding: identity"], ["Transfer-Encoding: xchunked"], ['Transfer-Encoding: "chunked"'],
    ["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"],
    ["Transfer-Encoding: chunked", "Transfer-Encoding: identity"],
    ["Transfer-Encoding: chunked,"], ["Transfer-Encoding:\x0bchunked"], ["Transfer-Encoding : chunked"],
    ["Transfer-Encoding:", " chunked"],
    ["Content-Length: 5", "Content-Length: 5"], ["Content-Length: 5", "Content-Length: 6"], ["Content-Length: 5, 5"],
    ["Content-Length: +5"], ["Content-Length: -1"], ["Content-Length: 0x5"], ["Content-Length:"],
    ["Content-Length: 5 5"], ["Content-Length: 18446744073709551616"], ["Content-Length: 18446744073709551619"],
], ids=lambda fields: " | ".join(fields))
def test_ambiguous_length(gateway, fields):
    """What follows the header is never taken for a second request."""
    statuses, _ = answers(gateway, head(*fields) + SMUGGLED + SMUGGLED)
    assert len(statuses) == 1 and statuses[0] in (400, 413, 501), statuses


def test_chunked_in_http_1_0(gateway):
    statuses, _ = answers(gateway, head("Transfer-Encoding: chunked", first="POST /ask HTTP/1.0") + CHUNKED + SMUGGLED)
    assert statuses == [400]


@pytest.mark.parametrize("body", [
    "-1\r\nx\r\n", "0x3\r\nabc\r\n0\r\n\r\n", "10000000000000000\r\nabc\r\n", "3\r\nabcX\r\n0\r\n\r\n", "zz\r\n",
    "3\nabc\n0\n\n", "\r\n", "3;" + "e" * 65536 + "\r\nabc\r\n0\r\n\r\n", " 3\r\nabc\r\n0\r\n\r\n"])
def test_bad_chunks(gateway, body):
    statuses, _ = answers(gateway, head("Transfer-Encoding: chunked") + body + SMUGGLED)
    assert len(statuses) == 1 and statuses[0] in (400, 408, 413, 431), statuses


@pytest.mark.parametrize("size", [70_000, 1_000_000])
def test_endless_trailer(gateway, size):
    """A trailer field of this size throws in the depths of the HTTP library, past every handler."""
    statuses, _ = answers(gateway, head("Transfer-Encoding: chunked") + CHUNKED[:-2] + "X: " + "t" * size + CRLF + CRLF)
    assert len(statuses) == 1 and statuses[0] in (400, 413, 431), statuses


def test_many_trailers(gateway):
    """20 MB of fields of 4 kB: refused, or read at no cost in memory."""
    before = resident(gateway)
    with Connection(gateway.port, 20) as c:
        c.send(head("Transfer-Encoding: chunked") + CHUNKED[:-2])
        field = "X: " + "t" * 4096 + CRLF
        for _ in range(5000):
            if not c.send(field):
                break
    assert resident(gateway) - before < 2048


# ---- the header


@pytest.mark.parametrize("data", [
    head("Content-Length: 0", host=False),
    head("Host: localhost", "Content-Length: 0"),
    head("Host: other", "Content-Length: 0"),
    head("Host:", host=False), head("Host: a b", host=False), head("Host: user@localhost", host=False),
    head("Host: localhost:x", host=False), head("Host: localhost/x", host=False), head("Host: [::1", host=False),
], ids=["none", "twice", "two", "empty", "space", "userinfo", "port", "path", "bracket"])
def test_host(gateway, data):
    statuses, _ = answers(gateway, data)
    assert statuses == [400]


@pytest.mark.parametrize("first", ["POST ask HTTP/1.1", "POST http://localhost/ask HTTP/1.1", "GET * HTTP/1.1",
                                   "CONNECT localhost:80 HTTP/1.1", "TRACE / HTTP/1.1", "post /ask HTTP/1.1",
                                   "M" * 3000 + " /ask HTTP/1.1", "GET  /health HTTP/1.1", "GET /health",
                                   "GET /health HTTP/1.2", "GET /health HTTP/2.0", "GET /health http/1.1",
                                   "PRI * HTTP/2.0", " GET /health HTTP/1.1", "GET /health HTTP/1.1 ",
                                   "GET /hea\x00lth HTTP/1.1", "GET /hea lth HTTP/1.1"])
def test_request_line(gateway, first):
    statuses, _ = answers(gateway, head(first=first))
    assert len(statuses) <= 1 and all(s in (400, 405, 431, 501, 505) for s in statuses), statuses


@pytest.mark.parametrize("field", ["X: a\x00b", "X: a\x01b", "X: a\rb", "X : a", "a b: c", ": c", "no colon",
                                   "X\x00: a", " leading: fold", "X: a\r\n folded", "X: a\r\n\tfolded"])
def test_header_field(gateway, field):
    statuses, _ = answers(gateway, head(field, "Content-Length: 0"))
    assert statuses == [400]


@pytest.mark.parametrize("data, wanted", [
    (head("X: " + "x" * 65536), 431), (head(*(f"X{i}: y" for i in range(150)), "Content-Length: 0"), 431),
    (head(first="GET /health?" + "q" * 3000 + " HTTP/1.1"), 414),
    (head(first="GET /" + "q" * 65536 + " HTTP/1.1"), (414, 431)),
], ids=["one large field", "many fields", "target", "large target"])
def test_too_much_header(gateway, data, wanted):
    statuses, _ = answers(gateway, data)
    assert len(statuses) == 1 and statuses[0] in (wanted if isinstance(wanted, tuple) else (wanted,)), statuses


@pytest.mark.parametrize("data", [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"\x00" * 500, bytes(range(256)) * 8,
                                  b"\xff" * 40000, b"\n" * 40000, b"\r\n" * 20000, b"GET", b"\r", b"{\"prompt\":1}"],
                         ids=["tls", "zeros", "all bytes", "ff", "lf", "crlf", "cut", "cr", "json"])
def test_not_http(gateway, data):
    statuses, _ = answers(gateway, data)
    assert len(statuses) <= 1 and all(s in (400, 408, 431) for s in statuses), statuses


def test_nothing_follows_a_refusal(gateway):
    """After bytes whose end is not known, the connection is closed."""
    statuses, text = answers(gateway, head("Transfer-Encoding: gzip") + post("/ask", question()).decode())
    assert statuses == [400]
    assert b"connection: close" in text.lower()


# ---- the body


@pytest.mark.parametrize("length", [LIMIT + 1, 10**15])
def test_announced_body_over_the_limit(gateway, length):
    """Refused before it is sent."""
    with Connection(gateway.port, 10) as c:
        c.send(head(f"Content-Length: {length}") + "abc")
        assert c.reply().status == 413


def test_announced_body_over_the_limit_is_not_asked_for(gateway):
    with Connection(gateway.port, 10) as c:
        c.send(head(f"Content-Length: {LIMIT + 1}", "Expect: 100-continue"))
        assert c.reply().status == 413, "and no 100 Continue before"


def test_unannounced_body_over_the_limit(gateway):
    before = resident(gateway)
    with Connection(gateway.port, 10) as c:
        c.send(head("Transfer-Encoding: chunked"))
        chunk = "1000\r\n" + "x" * 4096 + CRLF
        for _ in range(5000):  # 20 MB, if it were let
            if not c.send(chunk):
                break
        else:
            pytest.fail("20 MB were taken")
    assert resident(gateway) - before < 4096


def nested(depth, closed=True):
    return "[" * depth + ("]" * depth if closed else "")


@pytest.mark.parametrize("text", [
    f'{{"prompt":"x","format":{nested(65)}}}', nested(65), nested(30000), nested(60000, closed=False), '{"a":' * 10000,
    f'{{"prompt":"x","options":{{"stop":{nested(64)}}}}}'],
                         ids=["in format", "65", "30000", "unclosed", "objects", "in stop"])
def test_too_deep(gateway, text):
    reply = request(gateway.port, "POST", "/ask", text)
    assert reply.status == 400 and reply.error()


@pytest.mark.parametrize("text", [b'{"prompt":"\xff"}', b'{"prompt":"\xc0\xaf"}', b'{"prompt":"\xed\xa0\x80"}',
                                  b'\xef\xbb\xbf{"prompt":"x"}', b'{"prompt":"x"}\x00', b'{"prompt":"\x01"}',
                                  '{"prompt":"x"}'.encode("utf-16")],
                         ids=["ff", "overlong", "surrogate", "bom", "nul", "control", "utf-16"])
def test_bad_text(gateway, text):
    assert request(gateway.port, "POST", "/ask", text).status == 400


def test_compressed_body(gateway):
    reply = request(gateway.port, "POST", "/ask", BODY, {"Content-Encoding": "gzip"})
    assert reply.status == 415


def test_unknown_expectation(gateway):
    assert request(gateway.port, "POST", "/ask", BODY, {"Expect": "200-ok"}).status == 417


# ---- time


def test_slow_header(gateway):
    """A byte now and then does not hold a connection."""
    with Connection(gateway.port, 10) as c:
        began = time.monotonic()
        c.send("GET /health HTTP/1.1\r\nHost: localhost\r\nX: ")
        while time.monotonic() - began < 8:
            if not c.send("x"):
                break
            time.sleep(0.1)  # this is the slowness under test
            if has_answer(c):
                break
        assert time.monotonic() - began < 4, "cut at the header's time limit"


def has_answer(connection):
    import select
    return bool(select.select([connection._socket], [], [], 0)[0])


def test_silent_connection(gateway):
    """Says nothing at all: closed without a word."""
    with Connection(gateway.port, 10) as c:
        began = time.monotonic()
        assert c.rest() == b""
        assert 0.5 < time.monotonic() - began < 4


def test_slow_body(gateway):
    with Connection(gateway.port, 10) as c:
        began = time.monotonic()
        c.send(head("Content-Length: 100") + "{")
        assert c.reply().status == 408
        assert time.monotonic() - began < 5


@pytest.mark.parametrize("data", ["POST /ask HTT", head("Content-Length: 100") + '{"prompt":',
                                  head("Content-Length: 5")], ids=["header", "body", "no body"])
@pytest.mark.parametrize("how", ["close", "reset", "half_close"])
def test_half_a_request(gateway, data, how):
    c = Connection(gateway.port, 10)
    c.send(data)
    getattr(c, how)()
    if how == "half_close":
        text = c.rest()
        assert text == b"" or text.startswith(b"HTTP/1.1 4")
        c.close()


def test_many_silent_connections_do_not_hold_up_others(gateway):
    crowd = [Connection(gateway.port) for _ in range(300)]
    began = time.monotonic()
    assert request(gateway.port, "GET", "/health").status == 200
    assert time.monotonic() - began < 1
    for c in crowd:
        c.close()


# ---- more than one request on a connection


@pytest.fixture
def talking(shared):
    return shared


def test_pipelined_requests_are_answered_in_order(talking):
    with Connection(talking.port, 10) as c:
        c.send(b"".join(post("/ask", question(tokens=n)) for n in (3, 1, 2)))
        assert [c.reply().content() for _ in range(3)] == [counted(n) for n in (3, 1, 2)]


def test_requests_cut_at_every_byte(talking):
    """However the network portions a request, it is the same request."""
    data = post("/ask", {"prompt": "ü€𝄞", "options": {"num_predict": 2}})
    chunked = (head("Transfer-Encoding: chunked") + "5\r\n" + BODY[:5] + f"\r\n{len(BODY) - 5:X};a=b\r\n" + BODY[5:]
               + "\r\n0\r\nTrailer: x\r\n\r\n").encode()

    def one(cut):
        whole, at = cut
        with Connection(talking.port, 10) as c:
            c.send(whole[:at])
            time.sleep(0.002)  # so that they do not travel together
            c.send(whole[at:])
            return c.reply().status

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        cuts = [(w, i) for w in (data, chunked) for i in range(1, len(w))]
        assert set(pool.map(one, cuts)) == {200}


def test_trailers_are_no_headers(talking):
    """What comes behind the body changes nothing: no host, no origin, no id."""
    with Connection(talking.port, 10) as c:
        c.send(head("Transfer-Encoding: chunked") + CHUNKED[:-2]
               + "Host: evil.example\r\nOrigin: https://evil.example\r\nX-Request-Id: from-the-trailer\r\n"
               + "Connection: close\r\n\r\n" + SMUGGLED)
        first = c.reply()
        assert first.status == 200 and first.headers["X-Request-Id"] != "from-the-trailer"
        second = c.reply()
        assert second.status == 200 and second.json()["phones"]


@pytest.mark.parametrize("field", ["Content-Length: 3", "Transfer-Encoding: chunked"])
def test_a_length_in_the_trailer(talking, field):
    """Passed over, or refused; but never the length of anything."""
    statuses, _ = answers(talking, head("Transfer-Encoding: chunked", "Connection: close") + CHUNKED[:-2] + field
                          + CRLF + CRLF + SMUGGLED)
    assert statuses in ([200], [400])


def test_a_body_of_exactly_the_limit(talking):
    body = json.dumps({"prompt": ""})
    body = json.dumps({"prompt": "x" * (LIMIT - len(body))})
    assert len(body) == LIMIT
    assert request(talking.port, "POST", "/ask", body).status == 200


def test_depth_64_is_read(talking):
    """Refused for what it says, not for its depth; with 65 levels the text is not read at all."""
    reply = request(talking.port, "POST", "/ask", f'{{"prompt":"x","options":{{"stop":{nested(62)}}}}}')
    assert reply.status == 400 and "stop" in reply.error()


def test_a_client_that_takes_nothing(start):
    """A client that reads nothing of a long answer is cut off; the phone waits meanwhile, and no memory is filled."""
    phone = start.sim(1, decode_rate=1_000_000)[0]
    gateway = start.gateway([phone], {"write_stall_s": 1, "log_format": "json"})
    import socket
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    s.connect(("127.0.0.1", gateway.port))
    before = resident(gateway)
    s.sendall(post("/ask_stream", question(tokens=200_000), ["X-Request-Id: stalled"]))
    assert gateway.record("stalled")["outcome"] in ("client_gone", "client_stalled")
    assert resident(gateway) - before < 16 * 1024
    s.close()
    gateway.idle()
    until(lambda: phone.state()["active"] == 0, "the phone to be told", bound=2)
    assert gateway.ask(tokens=2).content() == counted(2)
