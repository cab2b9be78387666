"""GET /events: the fleet, live; and the dashboard's files as any client gets them."""
import contextlib
import json
import re
import signal
import socket
import time

import pytest

from client import Connection, request
from harness import cpu_seconds, resident, sanitized, until

QUICK = {"probe_interval_s": 0.3, "probe_fall": 1, "cache": "never"}


class Watcher:
    """A stream of events; next() gives (name, object), or ("", None) for a comment."""

    def __init__(self, port, buffer=None):
        self.connection = Connection(port)
        if buffer:
            self.connection._socket.close()
            narrow = socket.socket()
            narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
            narrow.settimeout(60)
            narrow.connect(("127.0.0.1", port))
            self.connection._socket = narrow
        self.connection.send("GET /events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n")
        self.ended = False
        self._text = b""

    def head(self):
        self.status, self.headers = self.connection.head()
        self._chunks = self.connection.chunks()
        return self

    def next(self):
        """None at the stream's proper end."""
        while b"\n\n" not in self._text:
            try:
                self._text += next(self._chunks)
            except StopIteration:
                self.ended = True
                return None
        event, _, self._text = self._text.partition(b"\n\n")
        if event.startswith(b":"):
            return "", None
        m = re.fullmatch(rb"event: (fleet|change)\ndata: (.*)", event)
        assert m, event[:200]
        return m[1].decode(), json.loads(m[2])

    def until(self, wanted, bound=20):
        """The first (name, object) that is wanted."""
        end = time.monotonic() + bound
        while time.monotonic() < end:
            name, said = self.next()
            if wanted(name, said or {}):
                return name, said
        raise AssertionError("it did not come")

    def __enter__(self):
        return self.head()

    def __exit__(self, *_):
        self.connection.close()


@pytest.fixture
def small(start):
    """Two phones, one of each engine, slow enough to be watched."""
    one, = start.sim(1, "ollama", decode_rate=20)
    other, = start.sim(1, "llama-server", decode_rate=20)
    gateway = start.gateway([one.entry(name="one", weight=2), other.entry(name="other")], QUICK)
    return gateway


def phones_of(said):
    return {p["name"]: p for p in said.get("phones", [])}


# ---- what is said


def test_first_all_there_is(small):
    with Watcher(small.port) as watcher:
        assert watcher.status == 200 and watcher.headers["Content-Type"] == "text/event-stream"
        assert watcher.headers["Cache-Control"] == "no-store"
        name, said = watcher.next()
    assert name == "fleet"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", said["at"])
    gateway = said["gateway"]
    assert {"phones": 2, "healthy": 2, "inflight": 0, "permits": 2, "waiting": 0, "queue": 64, "requests": 0, "failed": 0,
            "tokens_per_s": 0, "watchers": 1}.items() <= gateway.items()
    assert set(gateway["cache"]) == {"entries", "bytes", "hits", "misses", "joined"}
    phones = phones_of(said)
    assert list(phones) == ["one", "other"], "in the file's order"
    assert {"engine": "ollama", "healthy": True, "state": "up", "breaker": "closed", "reason": "", "inflight": 0, "permits": 1,
            "weight": 2, "drained": False, "draining": False}.items() <= phones["one"].items()
    for unknown in ("tokens_per_s", "answer_tokens_per_s", "first_token_ms", "temperature", "battery", "charging"):
        assert phones["one"][unknown] is None, unknown


def test_then_only_what_changes(small):
    with Watcher(small.port) as watcher:
        watcher.next()
        stream = small.ask_stream(tokens=60).begun()
        name, said = watcher.until(lambda n, s: "inflight" in s.get("gateway", {}))
        assert name == "change"
        busy, = [p for p in said["phones"] if "inflight" in p]
        assert busy["inflight"] == 1 and "model" not in busy and "healthy" not in busy
        # Tokens are seen while they come, not when the answer is over.
        _, said = watcher.until(lambda n, s: any((p.get("tokens_per_s") or 0) > 5 for p in s.get("phones", [])))
        assert stream.lines and not stream.lines[-1]["done"]
        stream.finish()
        _, said = watcher.until(lambda n, s: s.get("gateway", {}).get("requests") == 1)
        _, said = watcher.until(lambda n, s: any(p.get("tokens_per_s") == 0 for p in s.get("phones", [])))
    with Watcher(small.port) as another:
        worked = phones_of(another.next()[1])[busy["name"]]
    assert 15 < worked["answer_tokens_per_s"] < 25
    assert 0 < worked["first_token_ms"] < 5000
    assert worked["answers"] == 1 and worked["failures"] == 0
    # A token may have come with another one, so that they were not counted apart.
    assert len(worked["tokens"]) == 60 and 40 <= sum(worked["tokens"]) <= 61


def test_a_phone_that_goes_and_one_that_comes(start, small):
    with Watcher(small.port) as watcher:
        watcher.next()
        new, = start.sim(1)
        entries = json.loads(small.file.read_text())["phones"]
        small.reload([entries[0], new.entry(name="late")])
        gone, late = [], {}
        def told(_, said):
            gone.extend(said.get("gone", []))
            late.update(phones_of(said).get("late", {}))
            return gone and late.get("healthy")
        watcher.until(told)
    assert gone == ["other"] and late["engine"] == "ollama" and late["weight"] == 1


def test_a_phone_that_dies_is_said_within_seconds(start):
    phone, = start.sim(1)
    gateway = start.gateway([phone.entry(name="one")], {"probe_interval_s": 1})
    with Watcher(gateway.port) as watcher:
        watcher.next()
        start.processes[0].kill()
        began = time.monotonic()
        _, said = watcher.until(lambda n, s: phones_of(s).get("one", {}).get("state") == "down")
        assert time.monotonic() - began < 6
    assert phones_of(said)["one"]["reason"], said


def test_a_quiet_second_is_a_comment(small):
    with Watcher(small.port) as watcher:
        watcher.next()
        seen = [watcher.next() for _ in range(4)]
    assert ("", None) in seen, seen


def test_all_watchers_get_the_same_once_a_second(small):
    with contextlib.ExitStack() as stack:
        watchers = [stack.enter_context(Watcher(small.port)) for _ in range(3)]
        for watcher in watchers:
            watcher.next()
        stream = small.ask_stream(tokens=70)
        seen = [[], [], []]
        began = time.monotonic()
        while time.monotonic() - began < 3.5:
            for watcher, got in zip(watchers, seen):
                got.append(watcher.next())
        stream.finish()
    moments = [[said["at"] for _, said in got if said] for got in seen]
    assert moments[0][-2:] == moments[1][-2:] == moments[2][-2:], "each picture is made once"
    assert all(len(got) <= 6 for got in seen), "one a second"


# ---- what it may cost


def test_so_many_watch_and_no_more(small):
    with contextlib.ExitStack() as stack:
        watchers = [stack.enter_context(Watcher(small.port)) for _ in range(64)]
        assert all(w.next()[0] == "fleet" for w in watchers)
        reply = request(small.port, "GET", "/events")
        assert reply.status == 503 and int(reply.headers["Retry-After"]) > 0 and "64" in reply.error()
        assert small.ask(tokens=1).status == 200
        watchers[0].connection.close()
        until(lambda: request_head(small.port) == 200, "a free place")


def request_head(port):
    return request(port, "HEAD", "/events").status


def test_200_phones_and_64_watchers_are_cheap(start):
    gateway = start.gateway(start.sim(200, slots=1), {"probe_interval_s": 5})
    with contextlib.ExitStack() as stack:
        watchers = [stack.enter_context(Watcher(gateway.port)) for _ in range(64)]
        for watcher in watchers:
            assert len(watcher.next()[1]["phones"]) == 200
        before, began, memory = cpu_seconds(gateway), time.monotonic(), resident(gateway)
        for _ in range(5):
            for watcher in watchers:
                watcher.next()
        share = (cpu_seconds(gateway) - before) / (time.monotonic() - began)
        if not sanitized():
            assert share < 0.5, f"{share:.0%} of a core"
            assert resident(gateway) - memory < 16 << 10


def test_a_slow_watcher_misses_changes_and_gets_the_whole_again(start):
    gateway = start.gateway(start.sim(200, slots=1), {"probe_interval_s": 5})
    with Watcher(gateway.port) as quick:
        quick.next()
        slow = Watcher(gateway.port, buffer=4096)  # what it has asked for fills all that the kernel keeps
        slow.head()
        stream = gateway.ask_stream(tokens=8000)
        memory = resident(gateway)
        for _ in range(5):
            quick.next()
        assert sanitized() or resident(gateway) - memory < 8 << 10
        assert slow.next()[0] == "fleet"
        assert slow.next()[0] == "fleet", "not the changes that it has missed"
        stream.abort()
        slow.connection.close()


def test_who_watches_does_not_hold_up_the_end(small):
    with Watcher(small.port) as watcher:
        watcher.next()
        began = time.monotonic()
        small.signal(signal.SIGTERM)
        while watcher.next():
            pass
        assert watcher.ended, "its body is ended properly"
        assert small.wait() == 0
        assert time.monotonic() - began < 5


def test_a_running_answer_is_finished_while_watchers_are_sent_away(small):
    stream = small.ask_stream(tokens=60).begun(2)
    with Watcher(small.port) as watcher:
        watcher.next()
        began = time.monotonic()
        small.signal(signal.SIGTERM)
        while watcher.next():
            pass
        assert time.monotonic() - began < 2, "before the answer of three seconds is whole"
    assert stream.finish().whole and stream.last()["done"]
    assert small.wait() == 0


def test_head_says_what_would_come(small):
    with Connection(small.port) as connection:
        for _ in range(2):
            connection.send("HEAD /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
            reply = connection.reply("HEAD")
            assert reply.status == 200 and reply.headers["Content-Type"] == "text/event-stream"
        connection.send("GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.reply("GET").status == 200


def test_watching_is_no_request_for_the_numbers(small):
    with Watcher(small.port) as watcher:
        watcher.next()
    small.ask(tokens=1)
    with Watcher(small.port) as watcher:
        assert watcher.until(lambda n, s: s.get("gateway", {}).get("requests") == 1)


# ---- the page's files

HTML = {"Accept": "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"}
POLICY = ("default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
          "base-uri 'none'; form-action 'none'; frame-ancestors 'none'")


def names_in(page):
    return sorted(set(re.findall(r'(?:src|href)="(ui/[^"]+)"', page)))


def test_browsers_get_the_page_and_others_ollamas_greeting(small):
    page = request(small.port, "GET", "/", headers=HTML)
    assert page.status == 200 and page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "Accept" in page.headers["Vary"] and page.text().startswith("<!doctype html>")
    for headers in ({}, {"Accept": "*/*"}, {"Accept": "application/json"}):
        reply = request(small.port, "GET", "/", headers=headers)
        assert (reply.status, reply.text()) == (200, "Ollama is running")
        assert reply.headers["Content-Type"] == "text/plain; charset=utf-8" and "Accept" in reply.headers["Vary"]
    assert request(small.port, "HEAD", "/").headers["Content-Length"] == str(len("Ollama is running"))


def test_every_file_of_the_page_is_there_and_sealed(small):
    page = request(small.port, "GET", "/", headers=HTML)
    names = set(names_in(page.text()))
    for path in [p for p in names if p.endswith(".js")]:
        names |= {"ui/" + n for n in re.findall(r'from "\./([^"]+)"', request(small.port, "GET", "/" + path).text())}
    assert {"ui/app.js", "ui/dashboard.css", "ui/icon.svg"} <= names and len(names) > 8
    types = {"js": "text/javascript; charset=utf-8", "css": "text/css; charset=utf-8", "svg": "image/svg+xml"}
    for path, headers in [("/", HTML), *[("/" + n, {}) for n in sorted(names)]]:
        reply = request(small.port, "GET", path, headers=headers)
        assert reply.status == 200, path
        if path != "/":
            assert reply.headers["Content-Type"] == types[path.rpartition(".")[2]], path
        assert reply.headers["Content-Security-Policy"] == POLICY
        assert reply.headers["X-Content-Type-Options"] == "nosniff" and reply.headers["Referrer-Policy"] == "no-referrer"
        assert reply.headers["Cache-Control"] == "no-cache"
        head = request(small.port, "HEAD", path, headers=headers)
        assert head.body == b"" and int(head.headers["Content-Length"]) == len(reply.body)
        known = {**headers, "If-None-Match": f'"other", W/{reply.headers["ETag"]}'}
        again = request(small.port, "GET", path, headers=known)
        assert (again.status, again.body) == (304, b"") and again.headers["ETag"] == reply.headers["ETag"]
        assert "Content-Length" not in again.headers
        changed = request(small.port, "GET", path, headers={**headers, "If-None-Match": '"0123456789abcdef"'})
        assert changed.status == 200 and changed.body == reply.body


def test_the_page_has_nothing_inline_and_nothing_from_elsewhere(small):
    page = request(small.port, "GET", "/", headers=HTML).text()
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*src=)|https?://", page)
    for path in names_in(page):
        text = request(small.port, "GET", "/" + path).text()
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text), path
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text), path


@pytest.mark.parametrize("path", ["/ui/", "/ui/none.js", "/ui/index.html", "/ui/../app.js", "/ui/%2e%2e/app.js", "/ui"])
def test_no_other_file(small, path):
    assert request(small.port, "GET", path).status == 404


def test_a_gateway_without_the_page(start):
    gateway = start.gateway(start.sim(1), {"dashboard": False})
    assert request(gateway.port, "GET", "/", headers=HTML).text() == "Ollama is running"
    assert request(gateway.port, "GET", "/ui/app.js").status == 404
    with Watcher(gateway.port) as watcher:
        assert watcher.next()[0] == "fleet"
