"""The programs under test as objects: the gateway, simulated phones. Each is started with Popen and stopped by its pid.

Nothing here sleeps for a fixed time: every wait is for something, and has a bound.
"""
import collections
import contextlib
import json
import os
import pathlib
import re
import signal
import subprocess
import threading
import time

from client import ask, ask_stream, request

ROOT = pathlib.Path(__file__).resolve().parents[2]

# What a build with sanitizers on a busy machine may need. Passing tests never come near.
PATIENCE = 20.0


def program():
    """The built program: $POCKETFLEET, or the newest one under build/."""
    named = os.environ.get("POCKETFLEET")
    if named:
        return named
    built = [p for p in (ROOT / "build").glob("*/pocketfleet") if os.access(p, os.X_OK)]
    if not built:
        raise RuntimeError("set POCKETFLEET to the built program")
    return str(max(built, key=lambda p: p.stat().st_mtime))


def until(look, what, bound=PATIENCE, step=0.01):
    """Looks again and again until it sees something true, and returns it; fails with the last it saw at the bound."""
    end = time.monotonic() + bound
    while True:
        seen = look()
        if seen:
            return seen
        if time.monotonic() > end:
            raise AssertionError(f"not within {bound:g} s: {what} (last seen: {seen!r})")
        time.sleep(step)


class Log:
    """What a process has written so far, line by line; filled by a thread that ends with the process."""

    def __init__(self, stream):
        self._lines = []
        self._news = threading.Condition()
        self._ended = False
        self._thread = threading.Thread(target=self._read, args=(stream,), daemon=True)
        self._thread.start()

    def _read(self, stream):
        for line in stream:
            with self._news:
                self._lines.append(line.rstrip("\n"))
                self._news.notify_all()
        stream.close()
        with self._news:
            self._ended = True
            self._news.notify_all()

    def lines(self):
        with self._news:
            return list(self._lines)

    def text(self):
        return "\n".join(self.lines())

    def mark(self):
        """A place to look from, for wait_for()."""
        return len(self.lines())

    def wait_for(self, pattern, bound=PATIENCE, start=0):
        """The first match of a regular expression in a line from `start` on."""
        found = self.wait_for_lines(pattern, 1, bound, start)
        return found[0]

    def wait_for_lines(self, pattern, count, bound=PATIENCE, start=0):
        sought, end = re.compile(pattern), time.monotonic() + bound
        with self._news:
            while True:
                found = [m for m in map(sought.search, self._lines[start:]) if m]
                if len(found) >= count:
                    return found
                left = end - time.monotonic()
                if self._ended or left <= 0:
                    why = "the process has ended" if self._ended else f"waited {bound:g} s"
                    raise AssertionError(f"{count} lines with {pattern!r} expected, {len(found)} there ({why}):\n"
                                         + "\n".join(self._lines[-40:]))
                self._news.wait(left)

    def close(self):
        self._thread.join(PATIENCE)


class Process:
    """A program that runs until stop(), in a process group of its own, so that a child left behind is seen."""

    def __init__(self, name, command, env=None, one_stream=True, pass_fds=()):
        self.name = name
        self.command = command
        self.ended = False
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if one_stream else subprocess.PIPE,
            text=True, errors="replace", env={**os.environ, **(env or {})}, start_new_session=True,
            pass_fds=pass_fds)
        self.pid = self._process.pid
        self.log = Log(self._process.stdout)
        self.errors = self.log if one_stream else Log(self._process.stderr)

    @contextlib.contextmanager
    def starting(self):
        """Round what must go well for the process to be of use; else it is ended, and its log is told."""
        try:
            yield
        except BaseException as e:
            self.kill()
            raise AssertionError(f"{self.name} did not start: {e}\n{self.errors.text()[-4000:]}") from e

    def running(self):
        return self._process.poll() is None

    def signal(self, which):
        self._process.send_signal(which)

    def wait(self, bound=PATIENCE):
        """The exit status, when it has ended."""
        try:
            status = self._process.wait(bound)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} still runs after {bound:g} s") from None
        self.log.close()
        self.errors.close()
        return status

    def left_behind(self):
        """Processes of its group that are still there, with their command lines."""
        found = []
        for entry in pathlib.Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            with contextlib.suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(fields[2]) == self.pid and fields[0] != "Z":
                    found.append((int(entry.name), (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()))
        return found

    def stop(self, bound=PATIENCE):
        """Asks it to end (SIGTERM), makes it end (SIGKILL) at the bound; the exit status. Twice does no harm."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(bound)
            except subprocess.TimeoutExpired:
                self._process.kill()
        status = self._process.wait()
        self.log.close()
        self.errors.close()
        left = self.left_behind()
        for pid, _ in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.ended = True
        assert not left, f"{self.name} left children behind: {left}"
        return status

    def kill(self):
        """At once, as a crash or a lost phone is."""
        self._process.kill()
        self._process.wait()
        self.log.close()
        self.errors.close()


def open_files(process):
    return len(os.listdir(f"/proc/{process.pid}/fd"))


def resident(process, which="VmRSS"):
    """KiB; "VmHWM" for the most there has been since forget_peak()."""
    with open(f"/proc/{process.pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(which + ":"))


def sanitized():
    """Sanitizers keep memory of their own: its size says nothing then."""
    return bool({"asan", "tsan"} & set(pathlib.Path(program()).parts))


def forget_peak(process):
    pathlib.Path(f"/proc/{process.pid}/clear_refs").write_text("5")


def cpu_seconds(process):
    """Its own and its kernel's time so far."""
    fields = pathlib.Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class SimPhone:
    """One simulated phone, steered over its own port."""

    def __init__(self, name, engine, port):
        self.name, self.engine, self.port = name, engine, port

    def entry(self, **more):
        """For phones.json."""
        return {"name": self.name, "host": "127.0.0.1", "port": self.port, **more}

    def fault(self, kind, **how):
        reply = request(self.port, "POST", "/sim/fault", {"kind": kind, **how})
        assert reply.status < 300, reply

    def clear(self):
        reply = request(self.port, "DELETE", "/sim/fault")
        assert reply.status < 300, reply

    def state(self):
        return request(self.port, "GET", "/sim/state").json()

    def last(self):
        """The last request that generates, as the phone got it."""
        return request(self.port, "GET", "/sim/last").json()

    def __repr__(self):
        return f"{self.name} ({self.engine}, {self.port})"


def reachable(phone):
    """Its state, if it can be asked."""
    try:
        return phone.state()
    except OSError:
        return None


class Sim(Process):
    """`pocketfleet sim`: COUNT phones in one process. Fast unless told otherwise."""

    def __init__(self, count, engine="ollama", **options):
        given = {"decode_rate": 2000, "prefill_rate": 100000, "load_ms": 0, "slots": 8, **options}
        command = [program(), "sim", "--count", str(count), "--base-port", "0", "--engine", engine]
        for name, value in given.items():
            command += ["--" + name.replace("_", "-"), str(value)]
        super().__init__("sim", command)
        with self.starting():
            found = self.log.wait_for_lines(r"^sim: (\S+) engine=(\S+) http://127\.0\.0\.1:(\d+)", count)
        self.phones = [SimPhone(f"{m[2]}-{m[3]}", m[2], int(m[3])) for m in found]


class Gateway(Process):
    """`pocketfleet serve`, ready when all its phones are healthy (or `healthy` of them).

    `before`: a command that ends by running the one behind it.
    """

    def __init__(self, folder, phones, settings=None, arguments=(), healthy=None, env=None, before=(),
                 listen="127.0.0.1:0", key=None, pass_fds=()):
        self.headers = {"Authorization": f"Bearer {key}"} if key else {}
        self.file = pathlib.Path(folder) / "phones.json"
        # $POCKETFLEET_E2E_SETTINGS, as '{"workers": 4}', runs the same tests with other settings.
        everywhere = json.loads(os.environ.get("POCKETFLEET_E2E_SETTINGS", "{}"))
        self.settings = {"probe_interval_s": 1, **everywhere, **(settings or {})}
        self.sent = collections.Counter()  # requests by route, as far as they are sent by this object
        self._counting = threading.Lock()
        self.write(phones)
        super().__init__("gateway", [*before, program(), "serve", "--phones", str(self.file), "--listen",
                                     listen, *arguments], env=env, pass_fds=pass_fds)
        with self.starting():
            self.port = int(listen.rpartition(":")[2])  # 0: the log tells which
            if self.port:
                until(self.answers, "the gateway to listen")
            else:
                self.port = int(self.log.wait_for(r"listening on [\d.]+:(\d+)")[1])
            self.url = f"http://127.0.0.1:{self.port}"
            self.wait_healthy(len(phones) if healthy is None else healthy)

    def write(self, phones):
        """A new phones.json, whole at once."""
        entries = [p.entry() if hasattr(p, "entry") else p for p in phones]
        new = self.file.with_suffix(".new")
        new.write_text(json.dumps({"gateway": self.settings, "phones": entries}))
        new.rename(self.file)

    def reload(self, phones, healthy=None):
        self.write(phones)
        self.signal(signal.SIGHUP)
        self.wait_healthy(len(phones) if healthy is None else healthy)

    def count(self, route):
        with self._counting:
            self.sent[route] += 1

    def health(self):
        self.count("/health")
        return request(self.port, "GET", "/health", headers=self.headers).json()["phones"]

    def answers(self):
        assert self.running(), f"the gateway has ended:\n{self.log.text()}"
        try:
            return request(self.port, "GET", "/healthz").status == 200
        except OSError:
            return False

    def phone(self, name):
        return next(p for p in self.health() if p["name"] == name)

    def wait_healthy(self, count):
        def enough():
            assert self.running(), f"the gateway has ended:\n{self.log.text()}"
            return sum(p["healthy"] for p in self.health()) == count
        until(enough, f"{count} healthy phones")

    def unsuspected(self):
        """Waits until every phone that has failed is seen well again, and gets its share of requests."""
        until(lambda: not any(p["suspect"] for p in self.health()), "no suspect phone")

    def idle(self):
        """Waits until no request is on any phone."""
        until(lambda: all(p["inflight"] == 0 for p in self.health()), "nothing in flight")

    def records(self, start=0):
        """The log's lines about requests, as objects; for gateways with "log_format": "json"."""
        found = []
        for line in self.log.lines()[start:]:
            with contextlib.suppress(ValueError):
                record = json.loads(line)
                if "route" in record:
                    found.append(record)
        return found

    def record(self, request_id):
        """The line about one request, as soon as it is there."""
        return until(lambda: [r for r in self.records() if r["request_id"] == request_id], "its line in the log")[0]

    def metrics(self):
        """{(name, ((label, value), ...)): value} of /metrics."""
        self.count("/metrics")
        samples = {}
        for line in request(self.port, "GET", "/metrics", headers=self.headers).text().splitlines():
            if line and not line.startswith("#"):
                m = re.fullmatch(r'([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)(?: \d+)?', line)
                assert m, line
                labels = tuple(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', m[2] or ""))
                samples[m[1], labels] = float(m[3])
        return samples

    def metric(self, name, **labels):
        """The sum of a metric's samples that have these labels."""
        wanted, metrics = set(labels.items()), self.metrics()
        assert any(n == name for n, _ in metrics), f"there is no metric {name}"
        return sum(v for (n, have), v in metrics.items() if n == name and wanted <= set(have))

    def ask(self, prompt=None, **more):
        self.count("/ask")
        return ask(self.port, prompt, **self.as_itself(more))

    def as_itself(self, more):
        """With its key, if it wants one."""
        return {**more, "headers": {**self.headers, **(more.get("headers") or {})}} if self.headers else more

    def ask_stream(self, prompt=None, **more):
        self.count("/ask_stream")
        return ask_stream(self.port, prompt, **self.as_itself(more))

    def stop(self, bound=PATIENCE, status=0):
        got = super().stop(bound)
        assert got == status, f"the gateway ended with {got}:\n{self.log.text()[-4000:]}"
        return got
