"""Clients of the gateway: whole answers by http.client, streams by a socket.

Streams are read by hand, because it matters here how they end: with the last chunk, or cut. http.client hides that.
"""
import http.client
import json
import re
import socket
import struct
import uuid

BOUND = 60.0  # seconds without a byte


def counted(last, first=1):
    """What simulated phones and the counting model answer: " 1 2 3 ... LAST"."""
    return "".join(f" {i}" for i in range(first, last + 1))


def fresh():
    """A prompt that nobody has asked before, so that no cache answers it."""
    return f"count, please; this is request {uuid.uuid4().hex}"


def question(prompt=None, tokens=None, **fields):
    """The JSON of /ask. `prompt` None: a fresh one, unless there are messages."""
    body = dict(fields)
    if "messages" not in body:
        body["prompt"] = fresh() if prompt is None else prompt
    if tokens is not None:
        body["options"] = {**body.get("options", {}), "num_predict": tokens}
    return body


class Reply:
    """A whole response."""

    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def text(self):
        return self.body.decode()

    def json(self):
        return json.loads(self.body)

    def content(self):
        """The answer in the body of an /ask."""
        assert self.status == 200, self
        return self.json()["message"]["content"]

    def notes(self):
        return self.json()["pocketfleet"]

    def error(self):
        text = self.json()["error"]
        assert isinstance(text, str) and text, self
        return text

    def __repr__(self):
        return f"<{self.status} {dict(self.headers)} {self.body[:500]!r}>"


def request(port, method, path, body=None, headers=None, bound=BOUND):
    """One request on a connection of its own. A body that is not bytes is sent as JSON."""
    if body is not None and not isinstance(body, (bytes, str)):
        body = json.dumps(body)
        headers = {"Content-Type": "application/json", **(headers or {})}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=bound)
    try:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        return Reply(response.status, response.headers, response.read())
    finally:
        connection.close()


def ask(port, prompt=None, tokens=None, headers=None, bound=BOUND, **fields):
    return request(port, "POST", "/ask", question(prompt, tokens, **fields), headers, bound)


class Connection:
    """A connection on which anything can be sent, and responses are read byte by exact byte."""

    def __init__(self, port, bound=BOUND):
        self._socket = socket.create_connection(("127.0.0.1", port), bound)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._bytes = b""
        self.closed = False  # the other side has closed or reset

    def send(self, data):
        """False: the other side takes no more."""
        try:
            self._socket.sendall(data.encode("latin-1") if isinstance(data, str) else data)
            return True
        except OSError:
            return False

    def half_close(self):
        self._socket.shutdown(socket.SHUT_WR)

    def _more(self):
        try:
            got = self._socket.recv(65536)
        except ConnectionError:
            got = b""
        self.closed = not got
        self._bytes += got
        return bool(got)

    def line(self):
        """The next line without its end; None when the other side has closed before one."""
        while b"\n" not in self._bytes:
            if not self._more():
                return None
        line, _, self._bytes = self._bytes.partition(b"\n")
        return line.rstrip(b"\r")

    def exactly(self, count):
        while len(self._bytes) < count:
            if not self._more():
                return None
        data, self._bytes = self._bytes[:count], self._bytes[count:]
        return data

    def rest(self):
        """Everything until the other side closes."""
        while self._more():
            pass
        data, self._bytes = self._bytes, b""
        return data

    def head(self):
        """(status, headers) of a response; None when the other side closes instead."""
        first = self.line()
        if first is None:
            return None
        m = re.fullmatch(rb"HTTP/1\.[01] (\d{3})(?: .*)?", first)
        assert m, first
        headers = http.client.HTTPMessage()
        while (line := self.line()) != b"":
            assert line is not None, "closed within the header"
            name, _, value = line.decode("latin-1").partition(":")
            headers[name] = value.strip()
        return int(m[1]), headers

    def reply(self, method="POST"):
        """A whole response; None when the other side closes instead."""
        head = self.head()
        if head is None:
            return None
        status, headers = head
        if method == "HEAD" or status in (204, 304):
            return Reply(status, headers, b"")
        if headers.get("Transfer-Encoding", "").lower() == "chunked":
            body = b"".join(self.chunks())
        else:
            body = self.exactly(int(headers["Content-Length"]))
        return Reply(status, headers, body)

    def chunks(self):
        """The chunks of a body. Returns after the last one; ConnectionError when the body is cut."""
        while True:
            size = self.line()
            if size is None:
                raise ConnectionError("cut")
            count = int(size, 16)
            data = self.exactly(count)
            if data is None or self.line() != b"":
                raise ConnectionError("cut")
            if count == 0:
                return
            yield data

    def reset(self):
        """Leaves as a crashed client does: RST instead of FIN."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def close(self):
        self._socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def post(path, body, headers=()):
    """The bytes of a POST."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    fields = ["Host: localhost", f"Content-Length: {len(data)}", *headers]
    return f"POST {path} HTTP/1.1\r\n".encode() + "\r\n".join(fields).encode("latin-1") + b"\r\n\r\n" + data


class Stream:
    """An /ask_stream under way: iterate for its lines, as objects."""

    def __init__(self, port, body, path="/ask_stream", headers=(), bound=BOUND, connection=None):
        self.connection = connection or Connection(port, bound)
        self.connection.send(post(path, body, headers))
        self.lines = []       # all that have come
        self.whole = None     # at the end: True if the body was ended properly, False if it was cut
        self.status = None
        self.headers = None
        self._left = b""

    def head(self):
        """Waits for the header."""
        if self.status is None:
            head = self.connection.head()
            assert head, "the connection was closed before an answer"
            self.status, self.headers = head
        return self.status

    def __iter__(self):
        if self.head() != 200:
            raise AssertionError(f"{self.status}: {self.connection.exactly(int(self.headers['Content-Length']))}")
        assert self.headers["Transfer-Encoding"].lower() == "chunked", dict(self.headers)
        chunks = self.connection.chunks()
        while True:
            try:
                self._left += next(chunks)
            except StopIteration:
                self.whole = True
                assert not self._left, self._left
                return
            except ConnectionError:
                self.whole = False
                return
            while b"\n" in self._left:
                line, _, self._left = self._left.partition(b"\n")
                self.lines.append(json.loads(line))
                yield self.lines[-1]

    def begun(self, lines=1):
        """Waits for so many lines."""
        if len(self.lines) < lines:
            if not hasattr(self, "_going"):
                self._going = iter(self)
            for _ in self._going:
                if len(self.lines) >= lines:
                    break
        return self

    def finish(self):
        """Waits for the end."""
        for _ in getattr(self, "_going", self):
            pass
        self.connection.close()
        return self

    def text(self):
        return "".join(line["message"]["content"] for line in self.lines if "message" in line)

    def last(self):
        return self.lines[-1]

    def error(self):
        """The text of the error that ended it, or None."""
        return self.lines[-1].get("error") if self.lines else None

    def abort(self):
        self.connection.reset()


def ask_stream(port, prompt=None, tokens=None, headers=(), bound=BOUND, **fields):
    """Begins a stream; .finish() reads it to its end."""
    return Stream(port, question(prompt, tokens, **fields), headers=headers, bound=bound)
