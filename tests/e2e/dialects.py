"""The dialects as a client sees them: how a question is put, and what is read out of an answer."""
import json

from client import Connection, post, request


def events(raw):
    """The data of the events of an SSE body, and whether a line was there that OpenAI's libraries stumble over."""
    out = []
    for event in raw.decode().split("\n\n"):
        data = [line[6:] for line in event.split("\n") if line.startswith("data: ")]
        if data:
            out.append("\n".join(data))
    return out


class Dialect:
    """One route. `body` makes a request; `text`, `done`, `error` read the bytes of a stream."""

    name = path = None
    sse = False

    def messages(self, prompt, **more):
        return {"messages": [{"role": "user", "content": prompt}], **more}

    def whole(self, reply):
        raise NotImplementedError

    def objects(self, raw):
        if self.sse:
            return [json.loads(data) for data in events(raw) if data != "[DONE]"]
        assert b"\n\n" not in raw, "an empty line ends Ollama's clients"
        return [json.loads(line) for line in raw.splitlines()]

    def __repr__(self):
        return self.name


class OpenAIChat(Dialect):
    name, path, sse = "openai chat", "/v1/chat/completions", True

    def body(self, prompt, tokens, stream=False, **more):
        return self.messages(prompt, max_tokens=tokens, stream=stream, **more)

    def whole(self, reply):
        return reply.json()["choices"][0]["message"]["content"]

    def text(self, raw):
        return "".join((c["choices"][0]["delta"].get("content") or "") for c in self.objects(raw) if c.get("choices"))

    def done(self, raw):
        return raw.endswith(b"data: [DONE]\n\n")

    def error(self, raw):
        return next((o["error"]["message"] for o in self.objects(raw) if "error" in o), None)


class OpenAICompletion(OpenAIChat):
    name, path = "openai completion", "/v1/completions"

    def body(self, prompt, tokens, stream=False, **more):
        return {"prompt": prompt, "max_tokens": tokens, "stream": stream, **more}

    def whole(self, reply):
        return reply.json()["choices"][0]["text"]

    def text(self, raw):
        return "".join(c["choices"][0]["text"] for c in self.objects(raw) if c.get("choices"))


class OllamaChat(Dialect):
    name, path = "ollama chat", "/api/chat"

    def body(self, prompt, tokens, stream=False, options=None, **more):
        return self.messages(prompt, options={"num_predict": tokens, **(options or {})}, stream=stream, **more)

    def whole(self, reply):
        return reply.json()["message"]["content"]

    def text(self, raw):
        return "".join(o["message"]["content"] for o in self.objects(raw) if "message" in o)

    def done(self, raw):
        return bool(self.objects(raw)) and self.objects(raw)[-1].get("done") is True

    def error(self, raw):
        return next((o["error"] for o in self.objects(raw) if "error" in o), None)


class OllamaGenerate(OllamaChat):
    name, path = "ollama generate", "/api/generate"

    def body(self, prompt, tokens, stream=False, options=None, **more):
        return {"prompt": prompt, "options": {"num_predict": tokens, **(options or {})}, "stream": stream, **more}

    def whole(self, reply):
        return reply.json()["response"]

    def text(self, raw):
        return "".join(o["response"] for o in self.objects(raw) if "response" in o)


class Anthropic(Dialect):
    name, path, sse = "anthropic", "/v1/messages", True

    def body(self, prompt, tokens, stream=False, **more):
        return self.messages(prompt, max_tokens=tokens, stream=stream, **more)

    def whole(self, reply):
        return "".join(block["text"] for block in reply.json()["content"] if block["type"] == "text")

    def text(self, raw):
        return "".join(o["delta"]["text"] for o in self.objects(raw)
                       if o["type"] == "content_block_delta" and o["delta"]["type"] == "text_delta")

    def done(self, raw):
        return raw.endswith(b'data: {"type":"message_stop"}\n\n')

    def error(self, raw):
        return next((o["error"]["message"] for o in self.objects(raw) if o["type"] == "error"), None)


ALL = [OpenAIChat(), OpenAICompletion(), OllamaChat(), OllamaGenerate(), Anthropic()]


class RawStream:
    """A stream of any dialect, read as bytes."""

    def __init__(self, port, dialect, body, headers=()):
        self.dialect = dialect
        self.connection = Connection(port)
        self.connection.send(post(dialect.path, body, headers))
        self.status, self.headers = self.connection.head()
        self.raw = b""
        self.whole = None  # the body was ended properly
        self._chunks = self.connection.chunks()

    def begun(self, size):
        """Waits for so many bytes."""
        while len(self.raw) < size and self._next():
            pass
        return self

    def _next(self):
        try:
            self.raw += next(self._chunks)
            return True
        except StopIteration:
            self.whole = True
        except ConnectionError:
            self.whole = False
        return False

    def finish(self):
        while self._next():
            pass
        self.connection.close()
        return self

    def text(self):
        return self.dialect.text(self.raw)

    def done(self):
        return self.whole and self.dialect.done(self.raw)

    def error(self):
        return self.dialect.error(self.raw)


def ask(gateway, dialect, prompt, tokens, headers=None, **more):
    """A whole answer."""
    return request(gateway.port, "POST", dialect.path, dialect.body(prompt, tokens, **more), headers)


def stream(gateway, dialect, prompt, tokens, **more):
    return RawStream(gateway.port, dialect, dialect.body(prompt, tokens, stream=True, **more))
