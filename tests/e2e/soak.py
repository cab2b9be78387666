#!/usr/bin/env python3
"""A gateway under everything at once, for as long as one likes: phones that die, stop and vanish, clients of
every manner, hostile bytes, reloads. scripts/soak.sh is the way to start it; test_soak.py runs a short one.

The load is moderate on purpose: what is looked for needs time, not force.
"""
import argparse
import os
import pathlib
import random
import re
import signal
import sys
import tempfile
import threading
import time

import engines
from chaos import (LONG_NAME, Books, Chaos, Crowd, LlamaPhone, ask_and_leave, ask_and_stall, ask_slowly,
                   ask_stream, ask_whole, send_hostile_bytes)
from conftest import Started
from harness import until

RATE = 40         # tokens a second of each answer, as phones have it
AT_ONCE = 4       # answers on one phone
KILL_EACH = 10.0  # seconds
DOWN = 2.0        # how long a killed phone stays away
STOPPED = 6.0     # and a stopped or vanished one
STALL = 18.0      # for so long a stalled reader takes nothing: 12 s fill the kernels, then it stalls
SETTINGS = {
    "probe_interval_s": 1, "probe_timeout_s": 0.5, "token_timeout_s": 2, "first_token_timeout_s": 4,
    "breaker_open_s": 1, "breaker_max_open_s": 5, "slow_start_s": 2, "write_stall_s": 3, "queue_wait_s": 20,
    "cache_entries": 32,  # full within minutes, so that what grows after that is a leak
}


def resident(pid):
    """MiB."""
    with open(f"/proc/{pid}/statm") as f:
        return int(f.read().split()[1]) * os.sysconf("SC_PAGESIZE") / 2**20


def slope(points):
    """Of the line through (hours, MiB) with the least squares; 0 where there are too few."""
    if len(points) < 3:
        return 0.0
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 0.0


def as_text(counts):
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "none"


class Schedule:
    """Things that happen each so many seconds, in one thread; ends what it has begun."""

    def __init__(self):
        self.over = threading.Event()
        self.mistakes = []
        self._next = []  # [when, each, act]; each None: once
        self._thread = threading.Thread(target=self._run, daemon=True)

    def each(self, seconds, act, first=None):
        self._next.append([time.monotonic() + (seconds if first is None else first), seconds, act])

    def once(self, seconds, act):
        self._next.append([time.monotonic() + seconds, None, act])

    def start(self):
        self._thread.start()

    def _run(self):
        while self._next:
            self._next.sort(key=lambda entry: entry[0])
            entry = self._next[0]
            if entry[1] is not None and self.over.is_set():
                self._next.pop(0)
                continue
            # What was begun is ended on time; waiting for what would begin is cut short.
            left = entry[0] - time.monotonic()
            if left > 0:
                if entry[1] is None:
                    threading.Event().wait(left)
                elif self.over.wait(left):
                    continue
            if entry[1] is None:
                self._next.pop(0)
            else:
                entry[0] += entry[1]
            try:
                entry[2]()
            except Exception as e:  # the soak goes on, and says so at its end
                self.mistakes.append(repr(e))

    def end(self):
        self.over.set()
        self._thread.join(60)
        assert not self._thread.is_alive()


class Soak:
    """`start` starts things as the fixture of that name does."""

    def __init__(self, start, programs, model, seconds, clients=14, seed=1, say=None, progress=30.0,
                 settings=None):
        self.seconds, self.clients, self.seed, self.progress = seconds, clients, seed, progress
        self.say = say or (lambda _: None)
        self.links = start.own(Chaos())
        self.llamas = [start.own(LlamaPhone(programs, model, self.links, f"llama-{i}", AT_ONCE))
                       for i in range(1, 5)]
        simulated = start.sim(2, "ollama", decode_rate=RATE, slots=AT_ONCE, model=LONG_NAME)
        self.sims = [self.links.link(phone.port, f"ollama-{i}") for i, phone in enumerate(simulated, 1)]
        for phone in self.llamas:
            phone.link.slow(RATE)
        self.entries = [p.entry() for p in self.llamas]
        self.entries += [p.entry(max_concurrency=AT_ONCE) for p in self.sims]
        self.gateway = start.gateway(self.entries, {**SETTINGS, **(settings or {})})
        self.books = Books(self.gateway, self.entries)
        self.crowd, self.schedule = Crowd(), Schedule()
        self.told = self.crowd.told
        self.random = random.Random(seed)
        self.kills = self.stops = self.reloads = 0
        self.away = set()  # phones that are being treated badly
        self.memory = []   # (hours, MiB)
        self.crashed = False

    # -- what the clients do

    def ask(self, rng):
        dice, tokens = rng.random(), rng.randint(40, 200)
        if dice < 0.05:
            ask_and_leave(self.gateway, self.told, tokens, rng.randint(1, 30))
        elif dice < 0.10:
            ask_and_stall(self.gateway, self.told, 1200, STALL, self.crowd.home, model=LONG_NAME)
        elif dice < 0.15:
            ask_slowly(self.gateway, self.told, tokens, 25, self.crowd.home)
        elif dice < 0.25:  # others ask the same: from the cache, or together
            ask_stream(self.gateway, self.told, 100, prompt=f"again {rng.randint(1, 50)}")
        elif dice < 0.65:
            ask_stream(self.gateway, self.told, tokens)
        else:
            ask_whole(self.gateway, self.told, tokens)

    # -- what happens to the phones

    def _victim(self, among):
        free = [p for p in among if p not in self.away]
        if len(self.away) > 1 or not free:  # the fleet is to be in trouble, not gone
            return None
        victim = self.random.choice(free)
        self.away.add(victim)
        return victim

    def kill(self):
        victim = self._victim(self.llamas + self.sims)
        if victim is None:
            return
        self.kills += 1
        if victim in self.sims:
            victim.refuse()
            victim.cut(self.random.choice(["fin", "rst"]))
        else:
            victim.kill9(self.random.choice(["fin", "rst"]))

        def back():
            victim.listen() if victim in self.sims else victim.restart()
            self.away.discard(victim)
        self.schedule.once(DOWN, back)

    def stop_one(self):
        """SIGSTOP and the black hole in turn."""
        hole = self.stops % 2 == 1
        victim = self._victim(self.sims if hole else self.llamas)
        if victim is None:
            return
        self.stops += 1
        if hole:
            victim.black_hole()
        else:
            victim.freeze()

        def back():
            if hole:
                victim.clear()
                victim.cut("rst")  # what it swallowed is gone
            else:
                victim.thaw()
            self.away.discard(victim)
        self.schedule.once(STOPPED, back)

    def reload(self):
        """Other weights, then a broken file, then as before."""
        step = self.reloads % 3
        self.reloads += 1
        if step == 1:
            self.gateway.file.write_text('{"phones": [{"host": "127.0.0.1"')
        else:
            weights = (1, 2, 3) if step == 0 else (1,)
            self.gateway.write([{**entry, "weight": weights[i % len(weights)]}
                                for i, entry in enumerate(self.entries)])
        self.gateway.signal(signal.SIGHUP)

    # -- the run

    def run(self):
        began = time.monotonic()
        minute = min(60.0, self.seconds / 3)
        warm = min(600.0, self.seconds / 3)
        said = began
        self.crowd.add(self.clients, self.ask, (0.5, 4.0))
        which = iter(range(10**9))
        self.crowd.add(1, lambda _: send_hostile_bytes(self.gateway, self.told, next(which)), (0.5, 2.0))
        self.schedule.each(min(KILL_EACH, self.seconds / 4), self.kill)
        self.schedule.each(minute, self.stop_one, minute / 2)
        self.schedule.each(minute, self.reload, minute / 3)
        self.schedule.start()
        pause = threading.Event()
        try:
            while (now := time.monotonic()) - began < self.seconds:
                if not self.gateway.running():
                    self.crashed = True
                    break
                if now - began >= warm:
                    self.memory.append(((now - began) / 3600, resident(self.gateway.pid)))
                if now - said >= self.progress:
                    said = now
                    self.say(self.line(now - began))
                pause.wait(min(5.0, max(0.05, began + self.seconds - now)))
        finally:
            self.schedule.end()
            self.crowd.go_home(120)
        self.seconds_run = time.monotonic() - began
        return self.finish()

    def line(self, seconds):
        count = self.told.count
        streams = count("stream", "ok") + count("slow", "ok")
        return (f"{seconds:.0f} s: {count()} requests, {streams} streams and "
                f"{count('whole', 'ok')} whole answers well, {count(verdict='error')} with an error line, "
                f"{count('whole', 'lost') + count('whole', 'wrong')} lost, {self.told.rescues} rescued, "
                f"{self.kills} kills, {resident(self.gateway.pid):.1f} MiB")

    def finish(self):
        """Lets everything come to rest, and counts."""
        count = self.told.count
        self.crashed = self.crashed or not self.gateway.running()
        permits, files, books = None, None, ["the gateway is gone"]
        if not self.crashed:
            def settled():
                # A breaker that is half-open closes by good answers only.
                ask_whole(self.gateway, self.told, 2)
                phones = self.gateway.health()
                return all(p["healthy"] and p["permits"] == AT_ONCE and p["inflight"] == 0 for p in phones)
            try:
                until(settled, "all phones to have all their permits", 30, step=0.1)
            except AssertionError:
                pass  # the numbers tell
            phones = self.gateway.health()
            permits = sum(p["inflight"] + abs(AT_ONCE - p["permits"]) for p in phones)
            try:
                self.books.balance(5)
                books = []
            except AssertionError as e:
                books = [str(e)]
            # One that is just being closed is no drift; the books, where they balance, have waited for it.
            files = self.books.files()[0] - self.books.before if books else 0
        faults = [line for line in self.gateway.log.lines()
                  if "a handler threw" in line or "reached the event loop" in line]
        metrics = {} if self.crashed else self.gateway.metrics()

        def counted(metric, label):
            return {dict(labels)[label]: int(value)
                    for (name, labels), value in metrics.items() if name == metric}
        streams = count("stream") + count("slow")
        readers = ("stream", "slow", "leaving", "stalled")
        self.rows = {
            "seconds": round(self.seconds_run),
            "requests": count(),
            "streams": streams,
            "non-streamed": count("whole"),
            "clients that left": count("leaving"),
            "stalled readers": f"{count('stalled')}, cut off {count('stalled', 'silent')}",
            "hostile inputs": count("hostile"),
            "kills": self.kills,
            "stops and black holes": self.stops,
            "reloads": self.reloads,
            "lost non-streamed": count("whole", "lost") + count("whole", "wrong"),
            "silent cuts": count("stream", "silent") + count("slow", "silent"),
            "wrong or hung": sum(count(k, v) for k in (*readers, "hostile") for v in ("wrong", "hung")),
            "streams with an in-protocol error": count("stream", "error") + count("slow", "error"),
            "streams refused with a status": count("stream", "refused") + count("slow", "refused"),
            "rescued": self.told.rescues,
            "rescues counted": as_text(counted("pocketfleet_rescues_total", "outcome")),
            "retries counted": as_text(counted("pocketfleet_retries_total", "reason")),
            "crashes": int(self.crashed) + len(faults),
            "fd drift": files,
            "permit drift": permits,
            "RSS slope, MiB/h": f"{slope(self.memory):.2f} over {len(self.memory)} samples"
                                f" ({self.memory[-1][1]:.1f} MiB)" if self.memory else "none",
            "outcomes sum = accepted": "no" if books else "yes",
        }
        self.wrong = [f"{name}: {self.rows[name]}" for name in
                      ("lost non-streamed", "silent cuts", "wrong or hung", "crashes", "fd drift",
                       "permit drift") if self.rows[name] != 0]
        if permits:
            unsettled = [p for p in phones if p["permits"] != AT_ONCE or p["inflight"]]
            self.wrong.append(f"not as before: {unsettled}")
        self.wrong += books + faults[:5] + [f"the soak itself: {m}" for m in self.schedule.mistakes]
        self.wrong += [c for c in self.told.complaints if c.startswith("client broken")]
        return not self.wrong

    def log_of_failures(self):
        """The gateway's lines about requests that did not end well."""
        fine = re.compile(r" outcome=(ok|client_gone|client_stalled|bad_request) ")
        return [line for line in self.gateway.log.lines() if " outcome=" in line and not fine.search(line)]

    def table(self):
        width = max(map(len, self.rows))
        rows = [f"| {name:{width}} | {value} |" for name, value in self.rows.items()]
        return "\n".join([f"| {'what':{width}} | |", f"|{'-' * (width + 2)}|---|", *rows])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("hours", type=float)
    parser.add_argument("--clients", type=int, default=14)
    parser.add_argument("--seed", type=int, default=1, help="of which phone is hit when")
    parser.add_argument("--progress", type=float, default=30.0, metavar="SECONDS", help="between two lines")
    args = parser.parse_args()
    if not 0 < args.hours <= 100:
        parser.error("HOURS: more than 0, at most 100")
    # An end from outside takes the processes along.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        start = Started(folder)
        try:
            programs, model = engines.unpacked("llama"), engines.make_model(folder / "tiny.gguf")
            soak = Soak(start, programs, model, args.hours * 3600, args.clients, args.seed,
                        lambda line: print(line, file=sys.stderr, flush=True), args.progress)
            good = soak.run()
            print(soak.table(), flush=True)
            for what in soak.wrong + soak.told.complaints[:20]:
                print(what, file=sys.stderr)
            if not good:
                print("\n".join(soak.log_of_failures()[-100:]), file=sys.stderr)
        finally:
            start.stop()
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
