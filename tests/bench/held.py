"""What many requests at once hold: memory a streaming and a waiting request, and a token's cost among many streams.

Every measurement is of a fresh process that has served a few requests before: its memory then is what the rest is
compared with. Memory is the process's own (PSS); what the kernel keeps for its sockets is not in it.
"""

import contextlib
import json
import resource
import signal
import statistics
import subprocess
import tempfile
import time

from contenders import Setting, cpu_seconds, memory_bytes, open_files, start, start_contender

MOST_STREAMS = 10_000
SPARE_FILES = 1000
MOST_OF_NGINX = 4000  # 9,500 were not all going after 40 s, and what was measured next failed too; why is not known
TOKENS_A_SECOND = 10_000  # over all streams, however many these are
PERMITS = 64  # the most that a phone may have
READY_S = 40
PROMPT = "Name a river in Europe, and the sea it ends in. {n}"


class Held:
    """One contender after the other, round by round, each time started anew."""

    def __init__(self, options, note):
        self.options = options
        self.note = note
        self.serial = int(time.time()) % 10**6 * 10**6

    def command(self, contender, path, body, connections, requests):
        self.serial += 1_000_000
        return [f"{self.options.programs}/bench_load", "--port", str(contender.port), "--method", "POST",
                "--path", path, "--body", json.dumps(body), "--connections", str(connections),
                "--requests", str(requests), "--first", str(self.serial)]

    @staticmethod
    def ours(contender):
        return contender.name not in ("haproxy", "nginx")

    def body(self, contender, tokens, stream):
        """Path and body of a question to that contender."""
        options = {"num_predict": tokens}
        if self.ours(contender):
            return "/ask_stream" if stream else "/ask", {"prompt": PROMPT, "options": options}
        return "/api/chat", {"model": "bench", "messages": [{"role": "user", "content": PROMPT}], "stream": stream,
                             "options": options}

    def begin(self, name, program, phones, permits, pause_us, most, gateway):
        """A stack that ends everything, and the contender, warm."""
        stack = contextlib.ExitStack()
        try:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="pocketfleet-bench-"))
            log = stack.enter_context(open(f"{folder}/log", "w+", encoding="utf-8", errors="replace"))
            backend = start(stack, [f"{self.options.programs}/bench_backend", "--ports", str(phones), "--pause-us",
                                    str(pause_us)], log, stdout=subprocess.PIPE)
            stack.callback(backend.stdout.close)
            ports = json.loads(backend.stdout.readline())["ports"]
            gateway = {"probe_interval_s": 60, **gateway, **json.loads(self.options.gateway)}
            where = Setting(stack, folder, log, ports, permits, connections=most + SPARE_FILES // 4, gateway=gateway)
            contender = start_contender(name, program, where)
            path, body = self.body(contender, 0, True)  # no token: nothing to wait for
            subprocess.run(self.command(contender, path, body, 8, 32), stdin=subprocess.DEVNULL,
                           stdout=subprocess.DEVNULL, check=True, timeout=120)
            time.sleep(0.5)
            return stack, contender
        except RuntimeError as error:
            log.seek(0)
            said = log.read()[-1000:]
            stack.close()
            raise RuntimeError(f"{error}\n{said}") from error
        except BaseException:
            stack.close()
            raise

    @staticmethod
    def wait_until(load, what, ready):
        deadline = time.monotonic() + READY_S
        while not ready():
            if load.poll() is not None:
                raise RuntimeError(f"{what}: bench_load ended with {load.returncode}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"{what}: not all requests have begun after {READY_S} s")
            time.sleep(0.1)

    def run(self, programs):
        results = []
        for turn in range(min(3, self.options.rounds)):
            for most in self.sizes():
                names = self.contenders(programs, most)
                for name in names[turn % len(names):] + names[:turn % len(names)]:
                    try:
                        found = {"contender": name, "at_once": most, **self.measure(name, programs[name], most)}
                    except RuntimeError as error:
                        if name not in ("haproxy", "nginx"):
                            raise
                        self.note(f"  {most} with {name} NOT MEASURED: {error}")
                        continue
                    results.append(found)
                    self.note(f"  round {turn + 1}: {most} with {name}: " + ", ".join(
                        f"{key} {value:.1f}" for key, value in found.items() if isinstance(value, float)))
        return {"rounds": results, "table": self.table(results)}

    def table(self, results):
        names = list(dict.fromkeys(r["contender"] for r in results))
        sizes = sorted({r["at_once"] for r in results})

        def median(key, name, size):
            values = [r[key] for r in results if r["contender"] == name and r["at_once"] == size]
            return f"{statistics.median(values):.1f}" if values else ""

        def title(words, size):
            return f"{words}, {size:,} at once"

        columns = [(key, words, size) for key, words in self.columns for size in sizes]
        lines = [f"### {self.title}", "",
                 "| | " + " | ".join(title(words, size) for _, words, size in columns) + " |",
                 "|---|" + "--:|" * len(columns)]
        for name in names:
            lines.append(f"| {name} | " + " | ".join(median(key, name, size) for key, _, size in columns) + " |")
        return "\n".join([*lines, "", *self.remarks()]) + "\n"

    def remarks(self):
        return []


class Streams(Held):
    title = f"streams: many at once, {TOKENS_A_SECOND:,} tokens a second over all of them"
    columns = (("kib", "KiB a stream"), ("cpu_us", "CPU µs/token"))

    def contenders(self, programs, most):
        return [name for name in programs if name != "nginx" or most <= MOST_OF_NGINX]

    def sizes(self):
        return sorted({min(n, self.possible()) for n in self.options.streams or (100, 1000, MOST_STREAMS)})

    @staticmethod
    def possible():
        """Who relays a stream has two sockets for it."""
        return (resource.getrlimit(resource.RLIMIT_NOFILE)[0] - SPARE_FILES) // 2

    def remarks(self):
        wanted = max(self.options.streams or (MOST_STREAMS,))
        most = self.possible()
        return [] if most >= wanted else [f"The machine allows {most:,} streams: its limit of open files is "
                                          f"{resource.getrlimit(resource.RLIMIT_NOFILE)[0]:,}.", ""]

    def measure(self, name, program, most):
        pause = most / TOKENS_A_SECOND
        window = max(2.0, min(4.0, self.options.seconds))
        phones = max(4, -(-most // PERMITS) + 1)
        stack, contender = self.begin(name, program, phones, None, int(pause * 1e6), most,
                                      {"phone_idle_connections": 64})
        with stack:
            before = memory_bytes(contender.pid)
            path, body = self.body(contender, int((window + READY_S + 10) / pause), True)
            load = start(stack, self.command(contender, path, body, most, most), None, stdout=subprocess.PIPE)
            stack.callback(load.stdout.close)
            what = f"{name} with {most} streams"

            def progress():
                load.send_signal(signal.SIGUSR1)
                return json.loads(load.stdout.readline() or '{"tokens":0,"answering":0}')

            self.wait_until(load, what, lambda: open_files(contender.pid) >= 2 * most)
            self.wait_until(load, what, lambda: progress()["answering"] >= most)
            time.sleep(pause)
            held = memory_bytes(contender.pid)
            tokens, used = progress()["tokens"], cpu_seconds(contender.pid)
            time.sleep(window)
            tokens, used = progress()["tokens"] - tokens, cpu_seconds(contender.pid) - used
            if load.poll() is not None or tokens == 0:
                raise RuntimeError(f"{what}: they ended too early")
            return {"kib": (held - before) / 1024 / most, "cpu_us": used / tokens * 1e6,
                    "tokens_a_second": tokens / window}


class Waiting(Held):
    title = "waiting: requests that wait for a phone to come free"
    columns = (("kib", "KiB a request"), ("cpu_us", "CPU µs to take one in"))
    PHONES = 4

    def contenders(self, programs, _most):
        return [name for name in programs if name != "nginx"]  # which has no queue

    def sizes(self):
        return sorted(self.options.waiting or (1000, 4000))

    def measure(self, name, program, most):
        # The phones' one request each takes longer than all of this: its second token never comes.
        stack, contender = self.begin(name, program, self.PHONES, 1, 25_000_000, most,
                                      {"queue": most, "queue_wait_s": 120, "first_token_timeout_s": 120})
        with stack:
            before, used = memory_bytes(contender.pid), cpu_seconds(contender.pid)
            files = open_files(contender.pid)
            path, body = self.body(contender, 4, not self.ours(contender))
            load = start(stack, self.command(contender, path, body, most, most), None, stdout=subprocess.PIPE)
            stack.callback(load.stdout.close)
            self.wait_until(load, f"{name} with {most} waiting",
                            lambda: open_files(contender.pid) >= files + most - self.PHONES)
            # The last of them have been read too when the process has nothing left to do.
            last = -1.0
            while (now := cpu_seconds(contender.pid)) - last > 0.002:
                last = now
                time.sleep(0.3)
            held = memory_bytes(contender.pid)
            if load.poll() is not None:
                raise RuntimeError(f"{name} with {most} waiting: they were not kept")
            return {"kib": (held - before) / 1024 / most, "cpu_us": (now - used) / most * 1e6}
