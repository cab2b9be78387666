"""A phone that answers the prober as it should, and a question with whatever bytes a test wants.

One thread a connection; all of them end with close().
"""
import json
import socket
import threading

MODEL = "hostile:1b"


class Line:
    """The connection as an answer sees it."""

    def __init__(self, sock):
        self.socket = sock
        self.sent = 0
        self.open = True               # after the answer another request may come
        self.over = threading.Event()  # the connection is closed

    def send(self, data):
        """False: the gateway takes no more."""
        try:
            self.socket.sendall(data)
        except OSError:
            self.open = False
            return False
        self.sent += len(data)
        return True

    def close(self):
        self.open = False


class Ollama:
    engine = "ollama"
    type = "application/x-ndjson"
    route = "/api/chat"

    def page(self, path):
        return {"/": "Ollama is running", "/api/version": {"version": "0.33.0"},
                "/api/ps": {"models": [{"name": MODEL}]},
                "/api/tags": {"models": [{"name": MODEL, "digest": "0"}]}}.get(path)

    def frame(self, text):
        return text + b"\n"

    def piece(self, text):
        """A frame with a piece of the answer; `text` in JSON, without its quotes."""
        return self.frame(b'{"message":{"role":"assistant","content":"' + text + b'"},"done":false}')

    def last(self):
        return self.frame(b'{"model":"m","message":{"role":"assistant","content":""},"done":true,'
                          b'"done_reason":"stop","prompt_eval_count":1,"eval_count":3}')

    def idle(self):
        """What says nothing."""
        return b"\n"


class LlamaServer:
    engine = "llama-server"
    type = "text/event-stream"
    route = "/v1/chat/completions"

    def page(self, path):
        return {"/": "", "/health": {"status": "ok"}, "/props": {"total_slots": 4, "model_path": "/m.gguf"},
                "/v1/models": {"data": [{"id": MODEL}]}}.get(path)

    def frame(self, text):
        return b"data: " + text + b"\n\n"

    def piece(self, text):
        return self.frame(b'{"choices":[{"finish_reason":null,"delta":{"content":"' + text + b'"}}]}')

    def last(self):
        return (self.frame(b'{"choices":[{"index":0,"finish_reason":"stop","delta":{}}]}')
                + self.frame(b'{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":3}}')
                + self.frame(b"[DONE]"))

    def idle(self):
        return b": nothing\n\n"


def chunk(data, extension=b""):
    return b"%x%s\r\n%s\r\n" % (len(data), extension, data)


def head(status="200 OK", *fields):
    return "\r\n".join([f"HTTP/1.1 {status}", *fields]).encode("latin-1") + b"\r\n\r\n"


class HostilePhone:
    def __init__(self, form):
        self.form = form
        self.name = f"hostile-{form.engine}"
        self.asked = 0                # questions so far
        self.answer = self.good       # what is done with the next ones: called with the Line
        self.lines = []               # all connections that have asked
        self.keys = set()             # what has come as Authorization
        self.early = False            # answers when it has the header, not the whole request
        self._open = set()
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def entry(self, **more):
        return {"name": self.name, "host": "127.0.0.1", "port": self.port, "model": MODEL, **more}

    def good(self, line, texts=(b" 1", b" 2", b" 3")):
        body = b"".join(chunk(self.form.piece(t)) for t in texts) + chunk(self.form.last()) + b"0\r\n\r\n"
        return line.send(head("200 OK", f"Content-Type: {self.form.type}", "Transfer-Encoding: chunked")
        + body)

    def close(self):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for sock in self._open:
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)
            assert not thread.is_alive()

    def _accept(self):
        while True:
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

    def _serve(self, sock):
        line = Line(sock)
        stream = sock.makefile("rb")
        try:
            while line.open and self._one(line, stream):
                pass
        except OSError:
            pass
        with self._lock:
            self._open.discard(sock)
        stream.close()
        sock.close()
        line.over.set()

    def _one(self, line, stream):
        first = stream.readline().split()
        if len(first) != 3:
            return False
        length = 0
        while (field := stream.readline().rstrip(b"\r\n")):
            name, _, value = field.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
            if name.lower() == b"authorization":
                self.keys.add(value.decode("latin-1").strip())
        path = first[1].decode()
        asks = path == self.form.route
        if not (asks and self.early) and len(stream.read(length)) < length:
            return False
        if asks:
            self.asked += 1
            self.lines.append(line)
            self.answer(line)
            return True
        page = self.form.page(path)
        body = (page if isinstance(page, str) else json.dumps(page)).encode() if page is not None else b"{}"
        fields = ["Server: llama.cpp"] if self.form.engine == "llama-server" else []
        return line.send(head("404 Not Found" if page is None else "200 OK", *fields,
                              f"Content-Length: {len(body)}") + body)
