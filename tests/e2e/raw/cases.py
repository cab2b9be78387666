"""Hostile requests, byte by byte, each with the verdict that it must get. test_raw.py sends them.

    refused   the last of `answers` says no (a batch says it for each item), then the connection is closed,
              and no phone has heard of it. Behind every such row goes a good request, which a gateway with
              loose framing would serve.
    ended     nothing is wrong, but this was the last request on its connection: what follows is not answered.
    answered  odd, but legal: exactly these answers, and the request behind it is understood as well. Without
              such rows a gateway that refuses everything would pass.

H is for HTTP itself, B for bodies; rows with the same number are about the same thing. What is too long to be
spelt out is a Repeat.
"""
import dataclasses
import gzip
import json

BODY_LIMIT = 256 * 1024  # body_bytes of the gateway that is tested
PROMPT_LIMIT = BODY_LIMIT - len('{"prompt":""}')


@dataclasses.dataclass(frozen=True)
class Repeat:
    """So many times the same bytes, which are made when they are sent."""
    data: bytes
    times: int


@dataclasses.dataclass(frozen=True)
class Row:
    id: str
    what: str
    send: tuple                # bytes and Repeats
    verdict: str
    answers: tuple             # for each answer the statuses it may have; None: closed without a word
    alone: bool = False        # nothing goes behind it: the row is that nothing follows
    big: bool = False          # must cost no memory
    phone: int = 0             # requests that reach a phone
    has: tuple = ()            # what the answers must contain
    lacks: tuple = ()          # and what they must not
    fault: str = ""            # known to be served otherwise, and why


ROWS = []


def _add(verdict, id, what, send, answers, more):
    parts = send if isinstance(send, tuple) else (send,)
    sets = tuple(a if isinstance(a, tuple) else (a,) for a in answers)
    assert all(row.id != id for row in ROWS), id
    ROWS.append(Row(id, what, parts, verdict, sets, **more))


def refused(id, what, send, *answers, **more):
    _add("refused", id, what, send, answers, more)


def ended(id, what, send, *answers, **more):
    _add("ended", id, what, send, answers, more)


def answered(id, what, send, *answers, **more):
    _add("answered", id, what, send, answers, more)


# ---- building blocks


def _bytes(text):
    return text if isinstance(text, bytes) else text.encode("latin-1")


def head(*fields, first="POST /ask HTTP/1.1", host="Host: localhost", end=b"\r\n"):
    lines = [first, *([host] if host else []), *fields]
    return end.join(_bytes(line) for line in lines) + end + end


def chunked(*sizes_and_data, last=b"0\r\n\r\n"):
    return b"".join(b"%x\r\n%s\r\n" % (len(d), d) for d in sizes_and_data) + last


BODY = b'{"prompt":"x"}'
CHUNKS = chunked(BODY)
OPEN_CHUNKS = CHUNKS[:-2]      # the trailer is still to come
TE = "Transfer-Encoding: chunked"
LENGTH = f"Content-Length: {len(BODY)}"
CLOSE = "Connection: close"
GET = head(first="GET /health HTTP/1.1")
INNER = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"


def question(text, *fields, path="/ask"):
    """A request whose framing is beyond doubt, so that only its text is judged."""
    text = text if isinstance(text, bytes) else text.encode()
    return head(f"Content-Length: {len(text)}", *fields, first=f"POST {path} HTTP/1.1") + text


# ---- H01 - H06: where a request ends, by its header

UNKNOWN = (400, 501)

refused("H01-length-then-chunked", "two lengths", head(LENGTH, TE) + CHUNKS, 400)
refused("H01-chunked-then-length", "two lengths, the other way round", head(TE, LENGTH) + CHUNKS, 400)
refused("H01-zero-and-chunked", "no body by one, some by the other", head("Content-Length: 0", TE) + CHUNKS,
        400)
refused("H01-short-length", "the rest of the chunks would be a request",
        head("Content-Length: 4", TE) + b"%x\r\n" % len(INNER) + INNER + b"\r\n0\r\n\r\n", 400)
refused("H01-get", "of a request that needs no body", head("Content-Length: 6", TE,
        first="GET /health HTTP/1.1") + b"0\r\n\r\nX", 400)
refused("H01-after-a-good-one", "the second of two", GET + head(LENGTH, TE) + CHUNKS, 200, 400)

for _name, _coding in {
        "gzip": "gzip", "chunked-gzip": "chunked, gzip", "gzip-chunked": "gzip, chunked",
        "identity": "identity", "xchunked": "xchunked", "chunkedx": "chunkedx", "quoted": '"chunked"',
        "comma": "chunked,", "comma-first": ",chunked", "empty": "", "parameter": "chunked;q=1",
        "deflate": "deflate"}.items():
    refused(f"H02-{_name}", "not the one coding that is known; its body would be the next request",
            head(f"Transfer-Encoding: {_coding}") + INNER, UNKNOWN)
refused("H02-gzip-and-length", "a length does not help", head("Transfer-Encoding: gzip", LENGTH) + BODY,
        UNKNOWN)
refused("H02-identity-and-length", "nor here", head(LENGTH, "Transfer-Encoding: identity") + BODY, UNKNOWN)

refused("H03-twice", "the same coding in two lines", head(TE, TE) + CHUNKS, 400)
refused("H03-chunked-identity", "two codings in two lines", head(TE, "Transfer-Encoding: identity") + CHUNKS,
        400)
refused("H03-identity-chunked", "in the other order", head("Transfer-Encoding: identity", TE) + CHUNKS, 400)
refused("H03-folded", "the value on a line of its own", head("Transfer-Encoding:", " chunked") + CHUNKS, 400)
refused("H03-folded-tab", "the same with a tab", head("Transfer-Encoding:\r\n\tchunked") + CHUNKS, 400)
refused("H03-folded-away", "a folded line that hides a coding",
        head("X: a\r\n Transfer-Encoding: chunked", LENGTH) + BODY, 400)
refused("H03-space-before-colon", "some read it, some do not", head("Transfer-Encoding : chunked") + CHUNKS,
        400)
refused("H03-vertical-tab", "white space to some", head("Transfer-Encoding:\x0bchunked") + CHUNKS, 400)
refused("H03-form-feed", "the same behind it", head("Transfer-Encoding: chunked\x0c") + CHUNKS, 400)
refused("H03-nul", "a NUL behind it", head("Transfer-Encoding: chunked\x00") + CHUNKS, 400)

refused("H04-http-1.0", "1.0 knows no chunks", head(TE, first="POST /ask HTTP/1.0") + CHUNKS, 400)
refused("H04-http-1.0-keep-alive", "nor if it wants to go on",
        head(TE, "Connection: keep-alive", first="POST /ask HTTP/1.0") + CHUNKS, 400)

for _name, _fields in {
        "twice-the-same": ["Content-Length: 14", "Content-Length: 14"],
        "two": ["Content-Length: 5", "Content-Length: 14"], "list": ["Content-Length: 14, 14"],
        "plus": ["Content-Length: +14"], "minus": ["Content-Length: -1"], "hex": ["Content-Length: 0xe"],
        "empty": ["Content-Length:"], "two-numbers": ["Content-Length: 1 4"],
        "fraction": ["Content-Length: 14.0"], "exponent": ["Content-Length: 1e1"],
        "space-before-colon": ["Content-Length : 14"], "folded": ["Content-Length:", " 14"],
        "vertical-tab": ["Content-Length: \x0b14"], "2-64": ["Content-Length: 18446744073709551616"],
        "2-64-and-14": ["Content-Length: 18446744073709551630"],
        "2-63": ["Content-Length: 9223372036854775808"]}.items():
    refused(f"H05-{_name}", "not exactly one number that fits", head(*_fields) + BODY,
            (400, 413) if _name.startswith("2-6") else 400)

refused("H06-huge", "no one waits for a petabyte", head("Content-Length: 1000000000000000") + b"abc", 413)

# ---- H07 - H10, H30: chunks and what stands behind them

for _name, _chunks in {
        "minus": b"-1\r\nx\r\n", "hex-prefix": b"0x3\r\nabc\r\n0\r\n\r\n",
        "no-number": b"zz\r\nabc\r\n0\r\n\r\n", "17-digits": b"10000000000000000\r\nabc\r\n",
        "17-digits-and-3": b"10000000000000003\r\nabc\r\n0\r\n\r\n",
        "longer-than-told": b"3\r\nabcX\r\n0\r\n\r\n", "no-line-end": b"3\r\nabc0\r\n\r\n",
        "empty-size": b"\r\nabc\r\n0\r\n\r\n", "space-first": b" 3\r\nabc\r\n0\r\n\r\n",
        "plus": b"+3\r\nabc\r\n0\r\n\r\n", "bare-cr": b"3\rabc\r\n0\r\n\r\n"}.items():
    refused(f"H07-{_name}", "the size of a chunk is not sound", head(TE) + _chunks, (400, 413))

refused("H08-lf-only", "lines that end with LF alone", head(TE) + b"e\n" + BODY + b"\n0\n\n", (400, 408))
refused("H08-lf-behind-size", "one such line", head(TE) + b"e\n" + BODY + b"\r\n0\r\n\r\n", (400, 408))
refused("H08-lf-behind-data", "the one behind the data", head(TE) + b"e\r\n" + BODY + b"\n0\r\n\r\n",
        (400, 408))
refused("H08-lf-behind-last", "the last but one", head(TE) + b"e\r\n" + BODY + b"\r\n0\n\r\n", (400, 408))

refused("H09-extension-64k", "a chunk with an endless extension",
        (head(TE) + b"3;", Repeat(b"e", 65536), b"\r\n" + BODY), (400, 413, 431), big=True)
refused("H09-million-chunks", "a million chunks of a byte, 6 bytes for each",
        (head(TE), Repeat(b"1\r\nx\r\n", 1_000_000)), (408, 413), big=True)
refused("H09-extension-each", "1 kB of extension for each byte, 50 MB for 50 kB",
        (head(TE), Repeat(b"1;" + b"e" * 1000 + b"\r\nx\r\n", 50_000)), (400, 408, 413), big=True)

refused("H10-host", "the trailer cannot name the host", head(TE, host=None) + OPEN_CHUNKS
        + b"Host: localhost\r\n\r\n", 400)
refused("H10-good-host", "nor mend it", head(TE, host="Host: evil.example") + OPEN_CHUNKS
        + b"Host: localhost\r\n\r\n", 403)
refused("H10-good-origin", "nor the page that asks", head(TE, "Origin: http://evil.example") + OPEN_CHUNKS
        + b"Origin: http://localhost\r\n\r\n", 403)
answered("H10-ignored", "what stands in the trailer is no header: no host, origin, id, end of the connection",
         head(TE) + OPEN_CHUNKS
         + b"Host: evil.example\r\nOrigin: https://evil.example\r\nAuthorization: Bearer x\r\n"
         b"X-Forwarded-For: 10.0.0.1\r\nX-Request-Id: from-the-trailer\r\nConnection: close\r\n\r\n", 200,
         phone=1, lacks=(b"from-the-trailer",))
for _name, _field in {"length": b"Content-Length: 3", "chunked": TE.encode()}.items():
    refused(f"H10-{_name}", "nor is a length there one, and who sends it means no good",
            head(TE, CLOSE) + OPEN_CHUNKS + _field + b"\r\n\r\n", 400)
answered("H10-coding", "nor is a coding there one", head(TE) + OPEN_CHUNKS
        + b"Content-Encoding: gzip\r\n\r\n", 200, phone=1)

for _name, _trailer in {
        "70k": (b"X: ", Repeat(b"t", 70_000), b"\r\n\r\n"),
        "1m": (b"X: ", Repeat(b"t", 1_000_000), b"\r\n\r\n"),
        "200m": (Repeat(b"X: " + b"t" * 4096 + b"\r\n", 50_000), b"\r\n"),
        "many-small": (Repeat(b"X: y\r\n", 500_000), b"\r\n"),
        "no-colon": (Repeat(b"t", 1_000_000),)}.items():
    refused(f"H30-{_name}", "a trailer without end", (head(TE) + OPEN_CHUNKS, *_trailer), (400, 413, 431),
            big=True)

# ---- H11 - H17: the header

for _name, _host in {
        "none": None, "empty": "Host:", "space": "Host: a b", "userinfo": "Host: user@localhost",
        "at": "Host: @localhost", "port": "Host: localhost:x", "path": "Host: localhost/x",
        "bracket": "Host: [::1", "list": "Host: localhost, localhost", "scheme": "Host: http://localhost",
        "long-port": "Host: localhost:1234567", "twice": "Host: localhost\r\nHost: localhost",
        "two": "Host: localhost\r\nHost: other",
        "two-apart": "Host: localhost\r\nX: y\r\nhOST: other"}.items():
    refused(f"H11-{_name}", "not exactly one valid Host", head(LENGTH, host=_host) + BODY, 400)
refused("H11-none-http-1.0", "in 1.0 as well", head(LENGTH, host=None, first="POST /ask HTTP/1.0") + BODY,
        400)
refused("H11-foreign", "a name that is not ours (DNS rebinding)", head(LENGTH, host="Host: evil.example")
        + BODY, 403)
refused("H11-foreign-suffix", "one that begins like ours", head(LENGTH, host="Host: localhost.evil.example")
        + BODY, 403)

for _name, _first in {
        "absolute-other": "POST http://evil.example/ask HTTP/1.1",
        "absolute-own": "POST http://localhost/ask HTTP/1.1", "no-slash": "POST ask HTTP/1.1",
        "star": "POST * HTTP/1.1", "query-only": "POST ?/ask HTTP/1.1",
        "authority": "POST localhost HTTP/1.1"}.items():
    refused(f"H12-{_name}", "not a path", head(LENGTH, first=_first) + BODY, 400)
refused("H12-connect", "no tunnels", head(first="CONNECT localhost:80 HTTP/1.1", host="Host: localhost:80"),
        (400, 405))
refused("H12-trace", "no echo", head(first="TRACE /ask HTTP/1.1"), (400, 405))

for _name, _path in {
        "dots": "/x/../ask", "dots-encoded": "/x/%2e%2e/ask", "double-slash": "//ask",
        "slash-encoded": "/%2fask", "parameter": "/ask;x=1", "nul-encoded": "/ask%00",
        "letter-encoded": "/%61sk", "upper-case": "/ASK", "slash-behind": "/ask/", "backslash": "/\\ask",
        "fragment": "/ask#x", "dot": "/./ask", "not-ascii": "/ask\xff"}.items():
    refused(f"H13-{_name}", "like a path, but not that path: nothing is normalised",
            question(BODY, CLOSE, path=_path), (400, 404))

for _name, _field in {
        "nul": "X: a\x00b", "control": "X: a\x01b", "bare-cr": "X: a\rb", "delete": "X: a\x7fb",
        "escape": "X: \x1b[2J", "space-before-colon": "X : a", "space-in-name": "a b: c", "no-name": ": c",
        "no-colon": "no colon", "nul-in-name": "X\x00: a", "name-not-ascii": "X\xe9: a",
        "folded-first": " leading: fold", "folded": "X: a\r\n folded", "folded-tab": "X: a\r\n\tfolded",
        "cr-cr-lf": "X: a\r", "hidden-coding": "X: a\rTransfer-Encoding: chunked"}.items():
    refused(f"H14-{_name}", "a header line that is read in more than one way", head(_field, LENGTH) + BODY,
            400)
refused("H14-lf-only", "a header whose lines end with LF alone", head(LENGTH, end=b"\n") + BODY, 400)
refused("H14-one-lf", "one line of it", head(f"{LENGTH}\nX: y") + BODY, 400)
refused("H14-lf-hides-length", "a length behind a bare LF", head("X: y\nContent-Length: 14") + BODY, 400)

refused("H15-17k-field", "a field over the header's limit", (b"POST /ask HTTP/1.1\r\nHost: localhost\r\nX: ",
                                                             Repeat(b"x", 17_000), b"\r\n\r\n"), 431)
refused("H15-64k-field", "one that fills the buffer", (b"POST /ask HTTP/1.1\r\nHost: localhost\r\nX: ",
                                                       Repeat(b"x", 65536), b"\r\n\r\n"), 431, big=True)
refused("H15-64k-name", "the same as a name", (b"POST /ask HTTP/1.1\r\nHost: localhost\r\n",
        Repeat(b"x", 65536), b": y\r\n\r\n"), 431, big=True)
refused("H15-150-fields", "too many fields", head(*(f"X{i}: y" for i in range(150)), LENGTH) + BODY, 431)
refused("H15-20m", "fields without end", (b"POST /ask HTTP/1.1\r\nHost: localhost\r\n",
                                          Repeat(b"X: " + b"y" * 1000 + b"\r\n", 20_000)), 431, big=True)
refused("H15-3k-target", "a target over its limit", head(first="GET /health?" + "q" * 3000 + " HTTP/1.1"),
        414)
refused("H15-9k-target", "more of it", head(first="GET /health?" + "q" * 9000 + " HTTP/1.1"), 414)
refused("H15-64k-target", "one that fills the buffer", (b"GET /", Repeat(b"q", 65536), b" HTTP/1.1\r\n\r\n"),
        (414, 431), big=True)

refused("H16-lower-case", "methods are in upper case", head(LENGTH, first="post /ask HTTP/1.1") + BODY,
        (400, 405))
refused("H16-mixed-case", "all of it", head(LENGTH, first="Post /ask HTTP/1.1") + BODY, (400, 405))
refused("H16-3000-letters", "no method", head(LENGTH, first="M" * 3000 + " /ask HTTP/1.1") + BODY, (400, 405))
refused("H16-nul", "a NUL in it", head(LENGTH, first="PO\x00ST /ask HTTP/1.1") + BODY, 400)
refused("H16-unknown", "a method of other protocols", head(LENGTH, first="PROPFIND /ask HTTP/1.1") + BODY,
        405)
refused("H16-space-first", "white space before it", b" " + head(LENGTH) + BODY, 400)

for _name, _first in {
        "2.0": "POST /ask HTTP/2.0", "1.2": "POST /ask HTTP/1.2", "0.9": "POST /ask HTTP/0.9",
        "none": "POST /ask", "lower-case": "POST /ask http/1.1", "two-digits": "POST /ask HTTP/1.10",
        "no-minor": "POST /ask HTTP/1", "space-behind": "POST /ask HTTP/1.1 ",
        "two-spaces": "POST  /ask HTTP/1.1", "tab": "POST\t/ask\tHTTP/1.1",
        "nul-in-target": "POST /a\x00sk HTTP/1.1", "space-in-target": "POST /a sk HTTP/1.1",
        "other-protocol": "POST /ask ICAP/1.0"}.items():
    refused(f"H17-{_name}", "not the first line of HTTP/1.1 or 1.0", head(LENGTH, first=_first) + BODY,
            (400, 505))
refused("H17-h2-preface", "HTTP/2 without asking", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0",
        (400, 505))
refused("H17-tls", "a TLS hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400)
refused("H17-zeros", "no HTTP", bytes(500), 400)
refused("H17-all-bytes", "no HTTP", bytes(range(256)) * 8, 400)
refused("H17-ff", "no HTTP", Repeat(b"\xff", 40_000), 400)
refused("H17-lf", "nothing but line ends", Repeat(b"\n", 40_000), 400)
refused("H17-crlf", "empty lines without end", Repeat(b"\r\n", 20_000), 400)
refused("H17-json", "a body without a header", b'{"prompt":1}\r\n\r\n', 400)
refused("H17-smtp", "another protocol", b"EHLO localhost\r\n\r\n", 400)
refused("H17-cut", "the beginning of a request, and no more", b"POST /as", 408, alone=True)
refused("H17-cr", "less than that", b"\r", (None, 400, 408), alone=True)

# ---- H18 - H21, H26 - H29: more than one request, and what clients say about the connection

answered("H18-two", "two at once", GET + head(first="GET /nowhere HTTP/1.1"), 200, 404)
answered("H18-two-that-ask", "two at once that need a phone", question(BODY) + question(BODY), 200, 200,
        phone=2)
refused("H18-half", "half a request behind a whole one has the header's time", GET
        + b"POST /ask HTTP/1.1\r\nHost: loc", 200, 408, alone=True)
refused("H18-half-body", "the same with its header whole", GET + head(LENGTH) + BODY[:5], 200, 408,
        alone=True)
ended("H18-close-first", "nothing is read behind a request that closes",
        head(CLOSE, first="GET /health HTTP/1.1"), 200)

answered("H19-continue", "may the body come?", head("Expect: 100-continue", LENGTH) + BODY, 100, 200, phone=1)
answered("H19-continue-1.0", "1.0 does not know the question, and is not answered it",
         head("Expect: 100-continue", LENGTH, "Connection: keep-alive", first="POST /ask HTTP/1.0") + BODY,
         200, phone=1)
refused("H19-too-large", "no, it is too large: and no 100 before",
        head("Expect: 100-continue", f"Content-Length: {BODY_LIMIT + 1}"), 413)
refused("H19-two-lengths", "no, its end is not known", head("Expect: 100-continue", LENGTH, TE), 400)
refused("H19-unknown", "another expectation", head("Expect: 200-ok", LENGTH) + BODY, 417)
refused("H19-two", "one of two is not known", head("Expect: 100-continue, x", LENGTH) + BODY, 417)

answered("H20-length", "a body of a GET that looks like a request",
         head(f"Content-Length: {len(INNER)}", first="GET /health HTTP/1.1") + INNER, 200)
answered("H20-chunked", "the same in a chunk", head(TE, first="GET /health HTTP/1.1") + chunked(INNER), 200)
answered("H20-options", "and of an OPTIONS", head(f"Content-Length: {len(INNER)}",
        first="OPTIONS /ask HTTP/1.1") + INNER, 204)
refused("H20-get-ask", "a question in a GET is none", head(LENGTH, CLOSE, first="GET /ask HTTP/1.1") + BODY,
        405)

answered("H21-hop-by-hop", "fields between neighbours go no further, nor do those about the client", head(
    LENGTH, "Connection: keep-alive, Authorization, Host, Content-Length", "Authorization: Bearer x",
    "TE: trailers", "Keep-Alive: timeout=1000000", "Proxy-Connection: keep-alive",
    "Proxy-Authorization: Basic eA==", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk", "Cookie: a=b",
    "X-Forwarded-For: 10.0.0.1", "X-Forwarded-Host: evil.example", "Forwarded: host=evil.example",
    "X-Original-URL: /metrics", "X-HTTP-Method-Override: DELETE") + BODY, 200, phone=1)
refused("H21-upgrade-h2c", "an offer to upgrade is not taken up: what follows is no HTTP/1.1",
        head("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk",
        first="GET /health HTTP/1.1") + b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 200, (400, 505))
refused("H21-upgrade-websocket", "nor this one",
        head("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
             "Sec-WebSocket-Version: 13", first="GET /health HTTP/1.1")
        + b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58\r\n\r\n", 200, 400)
refused("H21-connection-coding", "naming a field does not take it away",
        head("Connection: Transfer-Encoding", TE, LENGTH) + CHUNKS, 400)
refused("H21-connection-host", "naming it does not excuse its lack",
        head("Connection: Host", LENGTH, host=None) + BODY, 400)
ended("H21-connection-close-list", "close among others is close", head("Connection: close, Authorization",
                                                                         first="GET /health HTTP/1.1"), 200)

ended("H26-idle", "a connection that rests is closed without a word", GET, 200, alone=True)

answered("H27-bad-text-goes-on", "a wrong text in sound framing does not cost the connection",
         question("{") + question(BODY), 400, 200, phone=1)
answered("H27-not-found-goes-on", "nor does a wrong path", question(BODY, path="/nowhere") + question(BODY),
        404, 200, phone=1)
refused("H27-framing-does-not", "unsound framing does", head("Transfer-Encoding: gzip") + question(BODY), 400,
        has=(b"Connection: close",))
refused("H27-chunks-do-not", "in the body too", head(TE) + b"zz\r\n" + question(BODY), 400,
        has=(b"Connection: close",))

refused("H28-garbage-behind", "garbage behind a good request", GET + bytes(range(128, 256)) + b"\r\n\r\n",
        200, 400)
refused("H28-much-behind", "more than the buffer holds", (GET, Repeat(b"\xfe", 100_000)), 200, 400, big=True)

refused("H29-id", "a line end in the id", head("X-Request-Id: a\rSet-Cookie: x=y", LENGTH) + BODY, 400,
        lacks=(b"Set-Cookie",))
refused("H29-model", "line ends in a model's name",
        question('{"prompt":"x","model":"a\\r\\nSet-Cookie: x=y"}', CLOSE), 404, lacks=(b"Set-Cookie",))
refused("H29-field", "in a field's name", question('{"a\\r\\nSet-Cookie: x=y":1}', CLOSE), 400,
        lacks=(b"Set-Cookie",))
refused("H29-path", "encoded in a path", question(BODY, CLOSE, path="/x%0d%0aSet-Cookie:%20x=y"), 404,
        lacks=(b"Set-Cookie",))
refused("H29-method", "in place of a method", head(first="X%0d%0aSet-Cookie /ask HTTP/1.1"), (400, 405),
        lacks=(b"Set-Cookie",))
for _name, _value in {
        "long": "a" * 65, "space": "a b", "markup": "<script>", "quote": 'a"b', "not-ascii": "\xfc",
        "percent": "a%0d%0ab", "empty": ""}.items():
    answered(f"H29-id-{_name}", "an id that is not plain is replaced",
             head(f"X-Request-Id: {_value}", first="GET /nowhere HTTP/1.1"), 404,
             lacks=(b"X-Request-Id: " + (_value or "\r\n").encode("latin-1"),))
answered("H29-id-plain", "one that is plain is kept",
         head("X-Request-Id: " + "aZ0._-" * 10 + "abcd", first="GET /nowhere HTTP/1.1"), 404,
         has=(b"X-Request-Id: " + b"aZ0._-" * 10 + b"abcd\r\n",))

# ---- B: bodies. Their framing is sound, so the connection ends only because the client says so.


def bad_text(id, what, text, status=400, path="/ask", **more):
    refused(id, what, question(text, CLOSE, path=path), status, **more)


def nested(depth, closed=True):
    return "[" * depth + ("]" * depth if closed else "")


def objects(depth):
    return '{"a":' * depth + "1" + "}" * depth


_full = b'{"prompt":"%s"}' % (b"x" * PROMPT_LIMIT)
answered("B01-limit", "a body of exactly the limit", question(_full), 200, phone=1)
answered("B01-limit-chunked", "the same in two chunks", head(TE) + chunked(_full[:1000], _full[1000:]), 200,
        phone=1)
refused("B01-over", "a byte more", question(_full + b" "), 413)
refused("B01-over-announced", "refused before it is sent", head(f"Content-Length: {BODY_LIMIT + 1}"), 413)
refused("B01-over-chunked", "a byte more, not announced", head(TE) + chunked(_full, b" "), 413)
refused("B01-20m-chunked", "and no end", (head(TE), Repeat(b"1000\r\n" + b"x" * 4096 + b"\r\n", 5_000)), 413,
        big=True)

answered("B03-depth-64", "64 levels are read", question('{"prompt":"x","format":' + objects(63) + "}"), 200,
        phone=1)
bad_text("B03-depth-64-stop", "refused for what it says, not for its depth",
         '{"prompt":"x","options":{"stop":' + nested(62) + "}}", has=(b"options.stop",))
for _name, _text in {
        "format": '{"prompt":"x","format":' + objects(64) + "}", "top": nested(65),
        "stop": '{"prompt":"x","options":{"stop":' + nested(64) + "}}",
        "messages": '{"messages":' + nested(64) + "}", "tools": '{"prompt":"x","tools":' + nested(64) + "}",
        "batch": '{"requests":' + nested(64) + "}", "100000": nested(100_000),
        "100000-unclosed": nested(100_000, closed=False), "20000-objects": '{"a":' * 20_000,
        "in-a-string-key": '{"' + "[" * 50_000 + '":' + nested(65) + "}"}.items():
    bad_text(f"B03-{_name}", "too deep", _text, path="/ask_batch" if _name == "batch" else "/ask",
             **({"big": True} if "0000" in _name else {}))
refused("B03-5000000", "five million levels", (head("Content-Length: 5000000"), Repeat(b"[", 5_000_000)), 413,
        big=True)

for _name, _number in {
        "nan": "NaN", "infinity": "Infinity", "minus-infinity": "-Infinity", "1e999": "1e999",
        "minus-1e999": "-1e999", "400-digits": "1" * 400, "hex": "0x10", "plus": "+1", "leading-zero": "01",
        "no-digit": "1.", "dot": ".5", "minus": "-", "1e-999": "1e-999"}.items():
    bad_text(f"B04-{_name}", "not a number of JSON, or one that does not fit",
             '{"prompt":"x","options":{"temperature":' + _number + "}}")
for _name, _number in {
        "30-digits": "1" * 30, "2-64": "18446744073709551616", "2-32": "4294967296", "fraction": "1.5",
        "minus-2": "-2", "string": '"1"', "exponent": "1e3"}.items():
    bad_text(f"B04-whole-{_name}", "not a whole number in its range",
             '{"prompt":"x","options":{"num_predict":' + _number + "}}")
answered("B04-minus-zero", "a number like others", question('{"prompt":"x","options":{"temperature":-0}}'),
        200, phone=1)
answered("B04-largest", "the largest seed", question('{"prompt":"x","options":{"seed":4294967295}}'), 200,
        phone=1)

for _name, _text in {
        "ff": b'{"prompt":"\xff"}', "overlong": b'{"prompt":"\xc0\xaf"}',
        "surrogate-bytes": b'{"prompt":"\xed\xa0\x80"}', "cut-character": b'{"prompt":"\xe2\x82"}',
        "beyond-unicode": b'{"prompt":"\xf5\x80\x80\x80"}', "in-a-key": b'{"prompt":"x","\xff":1}',
        "lone-surrogate": b'{"prompt":"\\ud800"}', "lone-low-surrogate": b'{"prompt":"\\udc00"}',
        "surrogates-swapped": b'{"prompt":"\\udc00\\ud800"}', "bom": b'\xef\xbb\xbf{"prompt":"x"}',
        "nul-behind": b'{"prompt":"x"}\x00', "nul-inside": b'{"prompt":"\x00"}',
        "control": b'{"prompt":"\x01"}', "line-end": b'{"prompt":"\n"}',
        "utf-16": '{"prompt":"x"}'.encode("utf-16"), "utf-32": '{"prompt":"x"}'.encode("utf-32-le"),
        "bad-escape": b'{"prompt":"\\x41"}', "short-escape": b'{"prompt":"\\u12"}'}.items():
    bad_text(f"B05-{_name}", "not JSON in UTF-8", _text)
answered("B05-nul-escape", "a NUL that is spelt out is a character like others",
        question(b'{"prompt":"\\u0000"}'), 200, phone=1)
answered("B05-surrogate-pair", "two halves make one", question(b'{"prompt":"\\ud834\\udd1e"}'), 200, phone=1)

for _name, _text in {
        "model": '{"prompt":"x","model":"","model":"qwen2.5:1.5b"}',
        "stream": '{"prompt":"x","stream":true,"stream":false}', "prompt": '{"prompt":"x","prompt":"x"}',
        "escaped": '{"prompt":"x","p\\u0072ompt":"y"}',
        "in-options": '{"prompt":"x","options":{"seed":1,"seed":2}}',
        "in-a-message": '{"messages":[{"role":"user","role":"system","content":"x"}]}',
        "in-format": '{"prompt":"x","format":{"type":"object","type":"array"}}'}.items():
    bad_text(f"B06-{_name}", "a key twice: who reads it last?", _text)

for _name, _text in {
        "model": '{"prompt":"x","model":5}', "stream": '{"prompt":"x","stream":"yes"}',
        "stream-1": '{"prompt":"x","stream":1}', "messages": '{"messages":{}}',
        "message": '{"messages":["x"]}', "role": '{"messages":[{"role":"tool","content":"x"}]}',
        "content": '{"messages":[{"role":"user","content":5}]}',
        "no-content": '{"messages":[{"role":"user"}]}', "no-messages": '{"messages":[]}',
        "prompt": '{"prompt":["x"]}', "empty-prompt": '{"prompt":""}', "nothing": "{}",
        "both": '{"prompt":"x","messages":[{"role":"user","content":"x"}]}',
        "options": '{"prompt":"x","options":[]}', "stop": '{"prompt":"x","options":{"stop":[1]}}',
        "stops": json.dumps({"prompt": "x", "options": {"stop": ["x"] * 17}}),
        "system": '{"prompt":"x","system":{}}', "images": '{"prompt":"x","images":"x"}',
        "format": '{"prompt":"x","format":5}', "think": '{"prompt":"x","think":"very"}',
        "keep-alive": '{"prompt":"x","keep_alive":"for ever"}', "cache": '{"prompt":"x","cache":1}',
        "array": "[]", "number": "5", "string": '"prompt"', "null": "null", "empty": "",
        "white-space": " \r\n\t"}.items():
    bad_text(f"B07-{_name}", "a wrong type, or nothing", _text)

for _name, _text in {
        "cut": '{"prompt":"x"', "cut-string": '{"prompt":"x', "cut-word": '{"prompt":tru',
        "cut-escape": '{"prompt":"\\', "two": '{"prompt":"x"}{"prompt":"y"}',
        "two-lines": '{"prompt":"x"}\n{"prompt":"y"}', "garbage": '{"prompt":"x"} x',
        "comma": '{"prompt":"x",}', "single-quotes": "{'prompt':'x'}", "comment": '{"prompt":"x"/**/}',
        "no-quotes": '{prompt:"x"}', "form": "prompt=x", "brace": "}"}.items():
    bad_text(f"B08-{_name}", "not one text of JSON", _text)

_gzip = gzip.compress(bytes(10_000_000), mtime=0)  # 10 kB
for _name, _coding in {
        "gzip": "gzip", "twice": "gzip, gzip", "deflate": "deflate", "br": "br", "identity": "identity",
        "unknown": "x"}.items():
    refused(f"B10-{_name}", "compressed bodies are not read",
            head(f"Content-Encoding: {_coding}", f"Content-Length: {len(_gzip)}") + _gzip, 415)

_items = [{"prompt": "one"}, {"promt": "two"}, {"prompt": "three"}]
for _name, _text in {
        "none": '{"prompts":[]}', "no-requests": '{"requests":[]}', "65": json.dumps({"prompts": ["x"] * 65}),
        "both": '{"prompts":["x"],"requests":[{"prompt":"x"}]}', "neither": "{}",
        "no-array": '{"prompts":"x"}', "unknown-field": '{"prompts":["x"],"stream":false}',
        "array": '[{"prompt":"x"}]'}.items():
    bad_text(f"B11-{_name}", "no batch", _text, path="/ask_batch")
bad_text("B11-all-bad", "each item is refused on its own", '{"prompts":[1,"",null,{}]}', 200,
        path="/ask_batch", lacks=(b'"ok":true',))
answered("B11-64", "as many as may be", question(json.dumps({"prompts": [f"{i}" for i in range(64)]}),
        path="/ask_batch"), 200, phone=64, lacks=(b'"ok":false',))
answered("B11-one-bad", "one that is wrong among others fails alone, in its place",
         question(json.dumps({"requests": _items}), path="/ask_batch"), 200, phone=2,
         has=(b'},{"ok":false,"error":"unknown field \\"promt\\"; did you mean \\"prompt\\"?"},{"ok":true,',))
answered("B11-one-huge", "one that fills the batch", question(json.dumps({"prompts": ["x", "y" * 200_000]}),
                                                              path="/ask_batch"), 200, phone=2,
                                                              lacks=(b'"ok":false',))

for _name, _model in {
        "unknown": "llama9000", "path": "../../etc/passwd", "spaces": "a b", "emoji": "\U0001f4f1",
        "markup": "<b>", "quote": 'a"b', "256": "m" * 256, "nul": "a\0b"}.items():
    bad_text(f"B12-{_name}", "a model that no phone has", json.dumps({"prompt": "x", "model": _model}), 404)
bad_text("B12-300", "a name that is too long for one", json.dumps({"prompt": "x", "model": "m" * 300}), 400)
bad_text("B12-in-a-batch", "the same in a batch", '{"prompts":["x"],"model":"../x"}', 200, path="/ask_batch",
         lacks=(b'"ok":true',))

_pattern = json.dumps({"type": "string", "pattern": "(" * 60_000})
bad_text("B13-grammar", "what would crash the phone's parser",
        json.dumps({"prompt": "x", "grammar": "(" * 60_000}))
bad_text("B13-format", "as a text", json.dumps({"prompt": "x", "format": "(" * 60_000}))
bad_text("B13-pattern", "a schema with a pattern of 60 000 brackets", '{"prompt":"x","format":' + _pattern + "}")
bad_text("B13-num-ctx", "a context that no phone can hold", '{"prompt":"x","options":{"num_ctx":1000000000}}')
bad_text("B13-num-gpu", "what makes the phone load its model anew", '{"prompt":"x","options":{"num_gpu":0}}')
answered("B13-keep-alive", "for ever is what Ollama's users say on purpose",
        question('{"prompt":"x","keep_alive":-1}'), 200, phone=1)

# ---- odd, but legal

answered("ok-plain", "what all others are compared with", question(BODY), 200, phone=1)
answered("ok-field-names", "names in any case, white space round values",
         b"POST /ask HTTP/1.1\r\nhOsT:localhost\r\nCONTENT-LENGTH: \t 14 \t\r\n\r\n" + BODY, 200, phone=1)
answered("ok-chunked-case", "the coding in any case", head("transfer-encoding: CHUNKED") + CHUNKS, 200,
        phone=1)
answered("ok-chunks", "small chunks, sizes with zeros before them, in upper case, with an extension",
         head(TE) + b"0001;a=b\r\n{\r\n" + b"00D;x\r\n" + BODY[1:] + b"\r\n000\r\n\r\n", 200, phone=1)
answered("ok-trailer", "a trailer", head(TE, "Trailer: X-Sum") + OPEN_CHUNKS + b"X-Sum: 1\r\n\r\n", 200,
        phone=1)
answered("ok-length-with-zeros", "a length with zeros before it", head("Content-Length: 0000000014") + BODY,
        200, phone=1)
answered("ok-no-body", "a GET with a length of 0", head("Content-Length: 0", first="GET /health HTTP/1.1"),
        200)
answered("ok-query", "what stands behind a ? is passed over", question(BODY, path="/ask?../%00&x=%zz"), 200,
        phone=1)
answered("ok-host-address", "an address and a port", head(LENGTH, host="Host: 127.0.0.1:1") + BODY, 200,
        phone=1)
answered("ok-host-ipv6", "an address in brackets", head(LENGTH, host="Host: [::1]:8000") + BODY, 200, phone=1)
answered("ok-empty-field", "a field without a value", head("X-Empty:", LENGTH) + BODY, 200, phone=1)
answered("ok-not-ascii", "a value that is not ASCII", head("X: \xfc\xff", LENGTH) + BODY, 200, phone=1)
answered("ok-9k-field", "a long field within the header's limit", head("X: " + "y" * 9000, LENGTH) + BODY,
        200, phone=1)
answered("ok-95-fields", "many fields", head(*(f"X{i}: y" for i in range(95)), LENGTH) + BODY, 200, phone=1)
answered("ok-1.0-keep-alive", "1.0 that wants to go on", head(LENGTH, "Connection: keep-alive",
                                                              first="POST /ask HTTP/1.0") + BODY, 200,
                                                              phone=1)
answered("ok-content-type", "any type, as curl -d sends it",
        head("Content-Type: application/x-www-form-urlencoded", LENGTH)
         + BODY, 200, phone=1)
answered("ok-options-star", "the server as a whole", head(first="OPTIONS * HTTP/1.1"), 204)
answered("ok-white-space", "JSON with white space", question(b' \r\n\t{ "prompt"\n:\t"x" } \n'), 200, phone=1)
answered("ok-unicode", "JSON in UTF-8", question('{"prompt":"\u00fc\u20ac\U0001d11e"}'), 200, phone=1)
answered("ok-nulls", "null is not there",
        question('{"prompt":"x","model":null,"format":null,"options":{"seed":null}}'), 200, phone=1)
answered("ok-empty-line-first", "an empty line before a request", b"\r\n" + question(BODY), 200, phone=1)
