"""Clients of `live`: each request on a connection of its own, its bytes kept with the times that matter.

One event loop for all clients of all contenders. Answers are read after the run, so that reading them disturbs no time.
"""

import asyncio
import json
import re

from live_fleet import text_of

PATIENCE_S = 600
MOST_TRIES = 6
PAUSE_S = 1  # of the phones' seconds, before asking again
FIRST_TOKEN = re.compile(rb'"content":\s*"[^"]')
END = b"data: [DONE]"
LOOK_BACK = 64


class Answer(asyncio.Protocol):
    """What came back for one request. Times are the loop's; None: it never came to that.

    Somebody whose answer is broken off, or refused, asks again: `first` is then the very first sign of an answer.
    """

    def __init__(self, request, loop):
        self.request = request
        self.loop = loop
        self.bytes = bytearray()
        self.asked = loop.time()
        self.first = None
        self.last = None
        self.tries = 0

    def begin(self):
        self.tries += 1
        self.bytes.clear()
        self.over = self.loop.create_future()

    def data_received(self, data):
        known = len(self.bytes)
        self.bytes += data
        if self.first is None and FIRST_TOKEN.search(self.bytes, max(0, known - LOOK_BACK)):
            self.first = self.loop.time()
        if self.last is None and self.bytes.find(END, max(0, known - LOOK_BACK)) >= 0:
            self.last = self.loop.time()

    def connection_lost(self, exc):
        if not self.over.done():
            self.over.set_result(exc)

    def wrong(self):
        """What is wrong with it; None: nothing."""
        try:
            status, text, finish = read(bytes(self.bytes))
        except (ValueError, KeyError, IndexError, TypeError) as error:
            return f"not to be read: {error}: {bytes(self.bytes[:200])!r}"
        if status != 200:
            return f"status {status}: {bytes(self.bytes[-200:])!r}"
        if text != text_of(self.request.answer):
            return f"{self.request.answer} tokens expected, got {text[:40]!r}...{text[-20:]!r}"
        if finish != self.request.ends_by or self.last is None:
            return f"ends by {finish!r}, {self.request.ends_by!r} expected"
        return None


def unchunked(body):
    """The bytes of a chunked body; as many as there are, if it is cut."""
    parts, at = [], 0
    while (line := body.find(b"\r\n", at)) >= 0:
        size = int(body[at:line].split(b";")[0], 16)
        if size == 0:
            break
        parts.append(body[line + 2:line + 2 + size])
        at = line + 4 + size
    return b"".join(parts)


def read(raw):
    """Status, text and finish_reason of an answer's bytes."""
    head, _, body = raw.partition(b"\r\n\r\n")
    status = int(head.split(b" ", 2)[1])
    if status != 200:
        return status, "", None
    if b"transfer-encoding: chunked" in head.lower():
        body = unchunked(body)
    text, finish = [], None
    for line in body.split(b"\n"):
        if not line.startswith(b"data: {"):
            continue
        event = json.loads(line[len(b"data: "):])
        for choice in event["choices"]:
            text.append(choice["delta"].get("content") or "")
            finish = choice["finish_reason"] or finish
    return status, "".join(text), finish


class Lateness:
    """How late the event loop itself is: what the times measured here cannot be better than. Seconds."""

    STEP_S = 0.02

    def __init__(self):
        self.all = []

    async def watch(self):
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + self.STEP_S
            await asyncio.sleep(self.STEP_S)
            self.all.append(loop.time() - due)


async def ask(answer, port):
    answer.begin()
    transport = None
    try:
        transport, _ = await answer.loop.create_connection(lambda: answer, "127.0.0.1", port)
        transport.write(answer.request.bytes(port))
        await asyncio.wait_for(answer.over, PATIENCE_S)
    except (OSError, asyncio.TimeoutError):
        pass  # wrong() tells
    finally:
        if transport:
            transport.abort()


async def ask_until_whole(request, port, compress, answers):
    answer = Answer(request, asyncio.get_running_loop())
    answers.append(answer)
    while True:
        await ask(answer, port)
        if answer.last is not None or answer.tries == MOST_TRIES:
            return
        await asyncio.sleep(PAUSE_S / compress)


async def play(workload, port, compress):
    """Asks everything when it is due. The answers, and when it began."""
    loop = asyncio.get_running_loop()
    begun = loop.time()
    answers = []
    followers = {id(request.after): request for request in workload.requests if request.after}

    async def go(request):
        await asyncio.sleep(max(0.0, begun + request.at / compress - loop.time()))
        while request:
            await ask_until_whole(request, port, compress, answers)
            request = followers.get(id(request))
            if request:
                await asyncio.sleep(request.at / compress)

    await asyncio.gather(*[go(request) for request in workload.requests if not request.after])
    return answers, begun
