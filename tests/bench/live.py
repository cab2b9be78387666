#!/usr/bin/python3
"""The gateway's policies beside HAProxy over the same simulated phones, in real time.

Every contender gets a fleet of its own, of one process a phone (`pocketfleet sim`): slow and fast ones, with prompt
caches, and their speeds drawn from measured phones. All contenders of a round get the same requests, byte for byte, at
the same times; phones and requests come from the seed. Time is compressed: with --compress 10 a phone does in one
second what it does in ten. All seconds printed are the phones' own.

An hour later (batch-later, poisson-later): the weights stay as they were written, but one of the fastest phones is at
half its speed and another one at a fifth; every contender has seen a few answers before that, and none since. While
engines are killed (poisson-failing): once a minute one of them, for 20 s. Clients whose answer is broken off ask again
after a second. Conversations come at a rate at which turns, were they lone questions, would take a quarter of the
fleet, or with -overloaded four fifths.

Fails if an answer was wrong, never because one was late. scripts/bench.sh --scenario live builds what this needs.
"""

import argparse
import asyncio
import contextlib
import json
import os
import signal
import statistics
import sys
import tempfile
import time

import live_fleet
import live_load
from bench import machine
from contenders import cpu_seconds, find_program, machine_busy, note
from live_contenders import HAPROXY, OURS, REFERENCE, STICKY, start_gateway, start_haproxy, start_phones

WORKLOADS = ("batch", "batch-later", "poisson", "poisson-later", "poisson-failing", "conversations",
             "conversations-overloaded")


# --- one contender's turn ---------------------------------------------------------------------------------------------


def percentile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))]


def start_for(name, programs, stack, folder, log, phones, compress):
    if name in HAPROXY:
        return start_haproxy(name, programs["haproxy"], stack, folder, log, phones, compress)
    return start_gateway(name, programs["pocketfleet"], stack, folder, log, phones, compress)


def sums(phones, keys):
    states = [phone.state() for phone in phones]
    return {key: sum(state[key] for state in states) for key in keys}


class Turn:
    """One contender, with its phones, for one workload."""

    KEYS = ("tokens", "prompt_tokens", "cached_tokens")

    def __init__(self, name, programs, fleet, options, stack):
        self.name = name
        self.compress = options.compress
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="pocketfleet-live-"))
        log = stack.enter_context(open(f"{folder}/log", "w+", encoding="utf-8", errors="replace"))
        try:
            self.phones = start_phones(stack, log, programs["pocketfleet"], fleet, options.compress)
            self.contender = start_for(name, programs, stack, folder, log, self.phones, options.compress)
        except RuntimeError as error:
            log.seek(0)
            raise RuntimeError(f"{error}\n{log.read()[-2000:]}") from error

    def cpu(self):
        return cpu_seconds(self.contender.pid) + sum(cpu_seconds(phone.child.pid) for phone in self.phones)

    def make_ready(self, later):
        for phone in self.phones if later else []:
            phone.grow_slow()
        self.before = sums(self.phones, self.KEYS)
        self.served = {phone.phone.name: phone.state()["completed"] for phone in self.phones}

    def result(self, workload, answers, begun):
        """In the phones' own seconds."""
        wrong = [what for what in (answer.wrong() for answer in answers) if what]
        for what in wrong[:3]:
            note(f"  {self.name}: WRONG: {what}")
        after = sums(self.phones, self.KEYS)
        used = {key: after[key] - self.before[key] for key in self.KEYS}
        wanted = sum(request.made() for request in workload.requests)
        counted = [answer for answer in answers if answer.last is not None
                   and (answer.asked - begun) * self.compress >= workload.counted_from]
        found = {
            "contender": self.name, "requests": len(workload.requests), "counted": len(counted),
            "wrong": len(wrong) + len(workload.requests) - len(answers),
            "again": sum(answer.tries - 1 for answer in answers), "wasted": used["tokens"] - wanted,
            "read": used["prompt_tokens"], "cached": used["cached_tokens"],
            "by_phone": {phone.phone.name: phone.state()["completed"] - self.served[phone.phone.name]
                         for phone in self.phones},
        }
        if counted:
            whole = [(answer.last - answer.asked) * self.compress for answer in counted]
            first = [(answer.first - answer.asked) * self.compress for answer in counted if answer.first is not None]
            found.update(p50=percentile(whole, 0.5), p95=percentile(whole, 0.95), first50=percentile(first, 0.5),
                         first95=percentile(first, 0.95),
                         makespan=(max(answer.last for answer in counted) - begun) * self.compress)
        return found


async def kill(turns, workload, compress):
    """The same phone of every contender at the same time."""
    loop = asyncio.get_running_loop()
    begun = loop.time()
    for at, which in workload.kills:
        await asyncio.sleep(begun + at / compress - loop.time())
        await asyncio.gather(*[loop.run_in_executor(None, turn.phones[which].be_killed) for turn in turns])


async def play_all(turns, workload, compress):
    """The same for all of them, at the same time; and how late the clients' own clock was."""
    lateness = live_load.Lateness()
    watcher = asyncio.ensure_future(lateness.watch())
    killer = asyncio.ensure_future(kill(turns, workload, compress))
    played = await asyncio.gather(*[live_load.play(workload, turn.contender.port, compress) for turn in turns])
    await killer
    watcher.cancel()
    return played, lateness.all


# --- rounds -----------------------------------------------------------------------------------------------------------


class Live:
    def __init__(self, options, programs):
        self.options = options
        self.programs = programs
        self.errors = 0

    def contenders(self, name):
        ours = list(OURS)
        theirs = list(HAPROXY) if "haproxy" in self.programs else []
        return [each for each in theirs + ours if (each != STICKY or name == "conversations")
                and each in (self.options.contender or theirs + ours)]

    def round(self, name, seed):
        """One workload with one seed: every contender's result."""
        kind, later = name.partition("-")[0], name.endswith("-later")
        fleet = live_fleet.make_fleet(self.options.fleet, seed)
        workload = live_fleet.make_workload(name, fleet, seed, self.options.batch, self.options.arrivals)
        if not workload.requests:
            raise RuntimeError(f"seed {seed}: nobody asks within {self.options.arrivals:g} s (--arrivals)")
        names = self.contenders(kind)
        names = names[seed % len(names):] + names[:seed % len(names)]
        results = []
        for at in range(0, len(names), self.options.at_once):
            results += self.together(names[at:at + self.options.at_once], fleet, workload, seed, later)
        order = self.contenders(kind)
        return workload, sorted(results, key=lambda result: order.index(result["contender"]))

    def together(self, names, fleet, workload, seed, later):
        with contextlib.ExitStack() as stack:
            turns = [Turn(name, self.programs, fleet, self.options, stack) for name in names]
            asyncio.run(play_all(turns, live_fleet.warm_up(fleet, seed), self.options.compress))
            for turn in turns:
                turn.make_ready(later)
            own = sum(turn.cpu() for turn in turns) + time.process_time()
            busy, begun = machine_busy(), time.monotonic()
            played, late = asyncio.run(play_all(turns, workload, self.options.compress))
            busy, took = machine_busy() - busy, (time.monotonic() - begun) * os.cpu_count()
            own = time.process_time() + sum(turn.cpu() for turn in turns) - own
            about = {"own": own / took, "others": max(0.0, busy - own) / took,
                     "late99": percentile(late, 0.99), "late": max(late)}
            return [{**turn.result(workload, *answers), **about, "seed": seed}
                    for turn, answers in zip(turns, played)]

    def run(self, name):
        """All seeds of a workload. None: it could not be measured."""
        rounds, title = [], ""
        for seed in range(1, self.options.seeds + 1):
            workload, results = self.round(name, seed)
            title = workload.title
            self.errors += sum(result["wrong"] for result in results)
            rounds += results
            note(f"  seed {seed}: " + ", ".join(
                f"{r['contender']} {r.get('makespan' if 'batch' in name else 'p95', 0):.1f} s" for r in results))
        return {"workload": name, "title": title, "rounds": rounds, "table": table(name, title, rounds)}


# --- the table --------------------------------------------------------------------------------------------------------


def ratio(rounds, name, key):
    """To the reference, of the same seed; the median. Empty without one."""
    pairs = []
    for result in rounds:
        against = [r[key] for r in rounds if r["contender"] == REFERENCE and r["seed"] == result["seed"] and key in r]
        if result["contender"] == name and against and key in result:
            pairs.append(result[key] / against[0])
    return f"{statistics.median(pairs):.2f}" if pairs else ""


def table(name, title, rounds):
    seconds = [("makespan", "last answer")] if "batch" in name else [("p50", "p50"), ("p95", "p95")]
    heads = ["", *[head for _, words in seconds for head in (f"{words} s", "from – to", f"× {REFERENCE}")],
             "first token p50 s", "p95 s", "prompt tokens read", "spared", "wasted", "asked again", "wrong"]
    trouble = {"later": ", an hour later", "failing": ", while engines are killed",
               "overloaded": ", more than can be done"}.get(name.partition("-")[2], "")
    lines = [f"### {name.partition('-')[0]}{trouble}: {title}", "", "| " + " | ".join(heads).strip() + " |",
             "|---|" + "--:|" * (len(heads) - 1)]
    for contender in dict.fromkeys(r["contender"] for r in rounds):
        own = [r for r in rounds if r["contender"] == contender]
        cells = [contender if contender in HAPROXY else f"pocketfleet {contender}"]
        for key, _ in seconds:
            values = [r[key] for r in own if key in r]
            cells += ([f"{statistics.median(values):.1f}", f"{min(values):.1f} – {max(values):.1f}",
                       ratio(rounds, contender, key)] if values else ["", "", ""])
        for key in ("first50", "first95"):
            values = [r[key] for r in own if key in r]
            cells.append(f"{statistics.median(values):.1f}" if values else "")
        read, cached = statistics.median([r["read"] for r in own]), sum(r["cached"] for r in own)
        spared = cached / max(1, cached + sum(r["read"] for r in own))
        cells += [f"{read:.0f}", f"{spared:.0%}", str(sum(r["wasted"] for r in own)), str(sum(r["again"] for r in own)),
                  str(sum(r["wrong"] for r in own))]
        lines.append("| " + " | ".join(cells) + " |")
    asked = sorted({r["requests"] for r in rounds})
    lines += ["", f"{asked[0]}{f' to {asked[-1]}' if asked[-1] != asked[0] else ''} requests a run. Processor, of the "
              f"whole machine: this {statistics.median(r['own'] for r in rounds):.0%}, other programs "
              f"{statistics.median(r['others'] for r in rounds):.0%}. The clients' own clock was late by up to "
              f"{statistics.median(r['late99'] for r in rounds) * 1000:.0f} ms in 99 of 100 looks, at worst "
              f"{max(r['late'] for r in rounds) * 1000:.0f} ms.", ""]
    return "\n".join(lines)


def describe(options):
    """The fleet of the first seed, and what it is weighed."""
    phones = live_fleet.make_fleet(options.fleet, 1)
    words = ", ".join(f"{p.name} {p.decode:.1f}/{p.prefill:.0f}" + (f" x{p.permits}" if p.permits > 1 else "") +
                      f" w{p.weight}" + (f" (later {p.later:g})" if p.later < 1 else "") for p in phones)
    return f"Seed 1 (tokens/s answers/prompts, permits, weight): {words}."


def parse():
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5,
                        help="rounds, each with phones and requests of its own (%(default)s)")
    parser.add_argument("--compress", type=float, default=10, help="how much faster than real phones (%(default)s)")
    parser.add_argument("--workload", action="append", choices=WORKLOADS, help="only this one; may be repeated")
    parser.add_argument("--contender", action="append", choices=[*HAPROXY, *OURS],
                        help="only this one; may be repeated")
    parser.add_argument("--fleet", choices=sorted(live_fleet.FLEETS), default="mixed-12", help="(%(default)s)")
    parser.add_argument("--batch", type=int, default=64, help="questions in a batch (%(default)s)")
    parser.add_argument("--arrivals", type=float, default=600, metavar="S",
                        help="for how many of the phones' seconds requests come (%(default)s)")
    parser.add_argument("--at-once", type=int, default=99, metavar="N",
                        help="so many contenders at a time, each with its own phones (all)")
    parser.add_argument("--json", metavar="FILE", help="write all results there, each round's too")
    options = parser.parse_args()
    if min(options.seeds, options.compress, options.batch, options.arrivals, options.at_once) <= 0:
        parser.error("numbers must be more than 0")
    options.program = os.environ.get("POCKETFLEET") or f"{root}/build/release/pocketfleet"
    if not os.access(options.program, os.X_OK):
        parser.error(f"{options.program} is not built")
    return options


def main():
    options = parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the children are stopped
    programs = {"pocketfleet": options.program}
    if haproxy := find_program("haproxy"):
        programs["haproxy"] = haproxy
    else:
        note("haproxy: not found, left out")
    about = machine(programs)
    print(f"{about['date']} · {about['cpu']}, {about['cores']} cores · Linux {about['kernel']} · " +
          " · ".join(about["versions"].values()))
    print(f"\n{options.fleet}, time compressed {options.compress:g} times, all seconds the phones' own; "
          f"{options.seeds} seeds, medians. {describe(options)}\n", flush=True)

    live, results = Live(options, programs), []
    for name in options.workload or WORKLOADS:
        note(f"{name}:")
        try:
            results.append(live.run(name))
        except (OSError, RuntimeError) as error:
            note(f"  {name} NOT MEASURED: {error}")
            live.errors += 1
            continue
        print(results[-1]["table"], flush=True)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as out:
            json.dump({"machine": about, "fleet": options.fleet, "compress": options.compress, "workloads": results},
                      out, indent=1)
    return 1 if live.errors else 0


if __name__ == "__main__":
    sys.exit(main())
