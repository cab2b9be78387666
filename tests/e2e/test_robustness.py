"""Clients that are slow, silent, or leave in the middle. The process lives, and nobody else waits for them.

What is wrong in the bytes themselves has a table of its own, raw/cases.py.
"""
import concurrent.futures
import time

import pytest

from client import Connection, counted, post, question, request
from harness import until

CRLF = "\r\n"


@pytest.fixture(scope="module")
def phones(start_once):
    return start_once.sim(1, answer_tokens=3, decode_rate=1000)


@pytest.fixture(scope="module")
def shared(start_once, phones):
    return start_once.gateway([p.entry(max_concurrency=8) for p in phones],
                              {"header_timeout_s": 1, "body_timeout_s": 1, "idle_timeout_s": 5, "cache": "never"})


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


def head(*fields):
    return CRLF.join(["POST /ask HTTP/1.1", "Host: localhost", *fields]) + CRLF + CRLF


BODY = '{"prompt":"x"}'


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
