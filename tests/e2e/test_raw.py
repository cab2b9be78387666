"""The rows of raw/cases.py against the program, over a plain socket."""
import re

import pytest

from client import Connection, Stream, counted, post, question
from harness import until
from raw.cases import BODY_LIMIT, ROWS, Repeat

BOUND = 10        # seconds for a row; a gateway that waits for more than its own limits hangs
MEMORY = 2048     # KiB that a big row may cost
BATCH = 64 * 1024

# All that an answer's header may hold: what a request smuggles into it would be another.
KNOWN = {"Server", "Date", "X-Request-Id", "Content-Type", "Content-Length", "Connection", "Allow",
         "Retry-After", "X-Phone", "X-Cache", "Transfer-Encoding"}
# And all that a phone may see of it.
FORWARDED = {"accept", "content-length", "content-type", "host", "user-agent"}

# Behind each row: shows whether the gateway still knows where a request begins.
MARK = post("/ask", {"prompt": "this is the mark"}, ["X-Request-Id: the-mark", "Connection: close"])

PLANNED = ([f"H{i:02}" for i in (*range(1, 22), *range(26, 31))]
           + [f"B{i:02}" for i in (1, *range(3, 9), *range(10, 14))])

ran, passed = [], []


@pytest.fixture(scope="module")
def phone(start_once):
    return start_once.sim(1, answer_tokens=3, decode_rate=5000)[0]


@pytest.fixture(scope="module")
def gateway(start_once, phone):
    gateway = start_once.gateway([phone.entry(max_concurrency=8)],
                                 {"header_timeout_s": 0.7, "body_timeout_s": 0.7, "idle_timeout_s": 0.7,
                                  "body_bytes": BODY_LIMIT, "cache": "never"})
    # What the allocator takes once, it keeps: the memory of later rows is measured from there.
    assert gateway.ask("x" * (BODY_LIMIT - 100)).status == 200
    return gateway


def status_line(gateway, name):
    with open(f"/proc/{gateway.pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(name))


def forget_peak(gateway):
    """The most memory the process has had is counted anew; what it has now."""
    with open(f"/proc/{gateway.pid}/clear_refs", "w") as refs:
        refs.write("5")
    return status_line(gateway, "VmRSS")


def most(gateway):
    """KiB that a big row may cost. Sanitizers keep what is freed for a while."""
    with open(f"/proc/{gateway.pid}/maps") as maps:
        return 100 * MEMORY if re.search(r"/lib[at]san\.", maps.read()) else MEMORY


def pieces(parts):
    for part in parts:
        if not isinstance(part, Repeat):
            yield part
            continue
        at_once = max(1, min(part.times, BATCH // len(part.data)))
        block = part.data * at_once
        for _ in range(part.times // at_once):
            yield block
        yield part.data * (part.times % at_once)


def answers_in(data):
    """[(status, header, body)] of all that has come; fails on any byte that is part of no answer."""
    found = []
    while data:
        head, end, data = data.partition(b"\r\n\r\n")
        assert end, f"a header without end: {head[:200]!r}"
        first, *lines = head.split(b"\r\n")
        m = re.fullmatch(rb"HTTP/1\.1 (\d{3}) [ -~]*", first)
        assert m, f"no status line: {first[:200]!r}"
        fields = {}
        for line in lines:
            name, colon, value = line.decode("latin-1").partition(": ")
            assert colon and name in KNOWN and name not in fields, f"in the header: {line!r}"
            assert value.isprintable(), f"in the header: {line!r}"
            fields[name] = value
        length = 0 if m[1] in (b"100", b"204") else int(fields["Content-Length"])
        assert len(data) >= length, "a body that is cut"
        found.append((int(m[1]), head + end, data[:length]))
        data = data[length:]
    return found


def exchange(gateway, row):
    """Sends the row and what goes behind it; every byte that came until the gateway closed."""
    with Connection(gateway.port, BOUND) as c:
        parts = row.send if row.alone else (*row.send, MARK)
        for piece in pieces(parts):
            if not c.send(piece):
                break  # hostile clients go on for as long as they can
        data = c.rest()
        # And once more, as a client with a connection of its own pool would.
        c.send(MARK)
        assert c.rest() == b"", "an answer on a connection that was closed"
    return data


def check(gateway, phone, row):
    seen, before = phone.state()["requests"], phone.last()
    memory = forget_peak(gateway) if row.big else 0

    data = exchange(gateway, row)
    got = answers_in(data)

    wanted = [a for a in row.answers if not (a[0] is None and len(got) < len(row.answers))]
    if row.verdict == "answered":
        wanted.append((200,))
    statuses = [status for status, _, _ in got]
    assert len(statuses) == len(wanted) and all(s in w for s, w in zip(statuses, wanted)), \
        f"answers {statuses}, expected {wanted}; the last: {got[-1:]}"
    marked = [b"X-Request-Id: the-mark\r\n" in head for _, head, _ in got]
    assert not any(marked[:-1]) and (not got or marked[-1] == (row.verdict == "answered")), \
        f"which answers are the mark's: {marked}"
    for text in row.has:
        assert text in data, f"{text!r} is not in {data[:1000]!r}"
    for text in row.lacks:
        assert text not in data, f"{text!r} is in {data[:1000]!r}"

    if row.big:
        grown = status_line(gateway, "VmHWM") - memory
        assert grown < most(gateway), f"{grown} KiB more"
    heard = phone.state()["requests"] - seen
    assert heard == row.phone + (row.verdict == "answered"), f"{heard} requests reached the phone"
    last = phone.last()
    if row.verdict == "answered":
        assert set(last["headers"]) == FORWARDED, last["headers"]
    else:
        assert last == before, "something reached the phone"

    assert gateway.running()
    assert gateway.ask(tokens=3).content() == counted(3)
    # The one is that which asks.
    until(lambda: gateway.metric("pocketfleet_connections") == 1, "the connection to be closed", bound=3)


def parameters(verdict):
    return [pytest.param(row, id=row.id,
                         marks=[pytest.mark.xfail(strict=True, reason=row.fault)] if row.fault else [])
            for row in ROWS if row.verdict == verdict]


@pytest.mark.parametrize("row", parameters("refused"))
def test_refused(gateway, phone, row):
    ran.append(row)
    check(gateway, phone, row)
    passed.append(row)


@pytest.mark.parametrize("row", parameters("ended"))
def test_ended(gateway, phone, row):
    ran.append(row)
    check(gateway, phone, row)
    passed.append(row)


@pytest.mark.parametrize("row", parameters("answered"))
def test_answered(gateway, phone, row):
    ran.append(row)
    check(gateway, phone, row)
    passed.append(row)


@pytest.fixture(scope="module")
def early(start_once):
    phone = start_once.sim(1, decode_rate=100)[0]
    return start_once.gateway([phone.entry(max_concurrency=8)], {"cache": "never", "drain_s": 1}), phone


@pytest.mark.parametrize("route, behind", [
    ("/ask", post("/ask", question())), ("/ask", b"\xfe" * 20_000),
    ("/ask_stream", post("/ask", question())), ("/ask_stream", b"\xfe" * 20_000),
    ("/ask_stream", b"\xfe" * 200_000),
    ("/ask", b"\xfe" * 200_000),
], ids=["ask a request", "ask garbage", "stream a request", "stream garbage", "stream too much",
        "ask too much"])
def test_next_request_too_early(early, route, behind):
    """H28: what comes while a request is served is kept within bounds; the client's leaving is still seen."""
    gateway, phone = early
    asked = phone.state()["requests"]
    stream = Stream(gateway.port, question(tokens=250), path=route, bound=BOUND)
    until(lambda: phone.state()["active"] == 1, "the phone to begin")
    if route == "/ask_stream":
        stream.begun()
    memory = forget_peak(gateway)
    stream.connection._socket.setblocking(False)  # the gateway need not take it all
    stream.connection.send(behind)
    stream.connection.close()
    until(lambda: phone.state()["active"] == 0, "the phone to be told", bound=1)
    gateway.idle()
    assert status_line(gateway, "VmHWM") - memory < most(gateway)
    assert phone.state()["requests"] == asked + 1, "the second request was served for nobody"


def test_the_plan_is_covered():
    def rows(verdict):
        return [row.id[:3] for row in ROWS if row.verdict == verdict]
    # A connection that rests is nothing to refuse.
    assert set(PLANNED) - {"H26"} <= set(rows("refused")) and "H26" in rows("ended")
    assert len(rows("refused")) >= 69 and len(rows("answered")) >= 15


def test_no_row_was_an_accident(gateway):
    """A handler that throws is caught, and its client gets an answer; but it is a fault all the same."""
    text = gateway.log.text()
    for words in ("threw", "event loop", "cannot accept", "Set-Cookie", "this is the mark"):
        assert words not in text, words


def test_summary():
    """Fails with the sum, so that one look tells how strict the gateway is; -s shows it in any case."""
    def sums(rows, verdict):
        return sum(row.verdict == verdict for row in rows)
    text = ", ".join(f"{sums(passed, v)} of {sums(ran, v)} {v}" for v in ("refused", "ended", "answered"))
    known = [row.id for row in ran if row.fault]
    print(f"\n{text}; known faults: {', '.join(known) or 'none'}")
    assert len(passed) + len(known) == len(ran), text
