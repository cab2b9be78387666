#!/usr/bin/python3
"""Pocketfleet beside HAProxy and nginx: what a request, and a relayed token, costs in CPU time.

The same simulated phones (bench_backend) and the same clients (bench_load) for everybody, on loopback. Contenders take
turns, round by round, so that whatever else the machine does meets all of them. The CPU time is that of the contender's
own processes, user and system, in the scheduler's nanoseconds. Ratios are taken within a round; what is
printed is the median over the rounds. scripts/bench.sh builds what this needs and runs it.
"""

import argparse
import contextlib
import datetime
import json
import os
import platform
import re
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

import choice
import held
from contenders import (Contender, Setting, cpu_seconds, family, fetch, find_program, machine_busy, note, pin, start,
                        start_contender)

PHONES = 4
ASK_TOKENS = 4
STREAM_TOKENS = 200
SCENARIOS = ("ask", "ask-streamed", "stream", "cached", "ask-2", "cached-2", "streams", "waiting", "choice")
PROMPT = "Name a river in Europe, and the sea it ends in."
MOST_LOAD_S = 300


# --- scenarios --------------------------------------------------------------------------------------------------------


def ollama_chat(tokens, stream):
    return json.dumps({"model": "bench", "messages": [{"role": "user", "content": PROMPT + " {n}"}],
                       "stream": stream, "options": {"num_predict": tokens}})


def our_ask(tokens, mark=" {n}"):
    return json.dumps({"prompt": PROMPT + mark, "options": {"num_predict": tokens}})


class Request:
    """What the clients send to one contender, and what each answer must be."""

    def __init__(self, path, body, tokens=None, end='"done":true'):
        self.path = path
        self.body = body
        self.tokens = tokens
        self.end = end


class Scenario:
    def __init__(self, name, title, unit, tokens, pause_us, ours, theirs, reference, workers=1):
        self.name = name
        self.title = title
        self.unit = unit  # what the CPU time is divided by: "request" or "token"
        self.tokens = tokens
        self.pause_us = pause_us
        self.ours = ours
        self.theirs = theirs
        self.reference = reference  # whose CPU time the others' is compared with
        self.workers = workers
        self.from_memory = self.theirs.path == "/constant"

    def request(self, contender):
        return self.theirs if contender in ("haproxy", "nginx", "direct") else self.ours


def scenarios(options):
    ask = Request("/ask", our_ask(ASK_TOKENS), ASK_TOKENS)
    ask_once = Request("/ask", our_ask(ASK_TOKENS, ""), ASK_TOKENS)
    chat = Request("/api/chat", ollama_chat(ASK_TOKENS, False), ASK_TOKENS)
    constant = Request("/constant", our_ask(ASK_TOKENS, ""), None, "")
    return [
        Scenario("ask", f"ask: answers of {ASK_TOKENS} tokens; the proxies ask the phone for one JSON, we for a stream",
                 "request", ASK_TOKENS, 0, ask, chat, "haproxy"),
        Scenario("ask-streamed", f"ask, streamed upstream: answers of {ASK_TOKENS} tokens, every phone sends the same "
                 "stream; the proxies pass it on, we make one JSON of it",
                 "request", ASK_TOKENS, 0, ask,
                 Request("/api/chat", ollama_chat(ASK_TOKENS, True), ASK_TOKENS), "haproxy"),
        Scenario("stream", f"stream: {options.connections} streams at once, {STREAM_TOKENS} tokens each, one segment "
                 f"a token, {options.pause_us / 1000:g} ms apart",
                 "token", STREAM_TOKENS, options.pause_us,
                 Request("/ask_stream", our_ask(STREAM_TOKENS), STREAM_TOKENS),
                 Request("/api/chat", ollama_chat(STREAM_TOKENS, True), STREAM_TOKENS), "haproxy"),
        Scenario("cached", "cached: the same /ask again and again; the proxies return a constant of the same size",
                 "request", ASK_TOKENS, 0, ask_once, constant, "nginx"),
        Scenario("ask-2", "ask-2: as ask, with two workers each; two cores do all the work, the clients' too",
                 "request", ASK_TOKENS, 0, ask, chat, "haproxy", 2),
        Scenario("cached-2", "cached-2: as cached, with two workers each",
                 "request", ASK_TOKENS, 0, ask_once, constant, "nginx", 2),
    ]


class Bench:
    def __init__(self, options):
        self.options = options
        self.serial = int(time.time()) % 10**6 * 10**6  # of prompts: a new one for each request of each run
        self.errors = 0

    def run_load(self, contender, request, *amount, connections=0):
        command = [f"{self.options.programs}/bench_load", "--port", str(contender.port), "--method", "POST",
                   "--path", request.path, "--body", request.body, "--first", str(self.serial),
                   "--connections", str(connections or self.options.connections), *amount]
        if request.tokens is not None:
            command += ["--tokens", str(request.tokens)]
        if request.end:
            command += ["--end", request.end]
        if self.options.pin:
            command = ["taskset", "-c", ",".join(map(str, self.load_cpus())), *command]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=False,
                              timeout=MOST_LOAD_S)
        if done.returncode != 0:
            raise RuntimeError(f"{contender.name}: bench_load ended with {done.returncode}")
        result = json.loads(done.stdout)
        self.serial += result["requests"] + result["errors"] + self.options.connections
        return result

    @staticmethod
    def load_cpus():
        cpus = sorted(os.sched_getaffinity(0))
        return cpus[:-1] or cpus

    def amount(self, scenario):
        if scenario.pause_us == 0:
            return ["--milliseconds", str(int(self.options.seconds * 1000))]
        one = scenario.tokens * scenario.pause_us / 1e6
        return ["--requests", str(self.options.connections * max(1, round(self.options.seconds / one)))]

    def measure(self, scenario, contender, backend_pid):
        """One turn of one contender."""
        request = scenario.request(contender.name)
        busy = machine_busy()
        begun = time.monotonic()
        phones = cpu_seconds(backend_pid)
        own = cpu_seconds(contender.pid) if contender.pid else 0
        result = self.run_load(contender, request, *self.amount(scenario))
        time.sleep(0.05)  # the connections' closing belongs to the run
        result["phone_cpu_seconds"] = cpu_seconds(backend_pid) - phones
        known = result["phone_cpu_seconds"] + result["cpu_seconds"]
        units = result["tokens" if scenario.unit == "token" else "requests"] if result["requests"] else 0
        if contender.pid:
            used = cpu_seconds(contender.pid) - own
            known += used
            result["contender_cpu_seconds"] = used
            if units:
                result["cpu_us"] = used / units * 1e6
        took = time.monotonic() - begun
        result["others"] = max(0.0, machine_busy() - busy - known) / (took * os.cpu_count())
        self.errors += result["errors"]
        if result["errors"]:
            note(f"  {contender.name}: {result['errors']} wrong answers, first: {result['first_error']}")
        return result

    def syscalls(self, scenario, contender):
        """System calls for each request, by name, of a run whose times count for nothing."""
        with tempfile.NamedTemporaryFile("r", encoding="ascii") as table:
            command = ["strace", "-c", "-f", "-o", table.name]
            for member in family(contender.pid):
                command += ["-p", str(member)]
            with contextlib.ExitStack() as stack:
                tracer = start(stack, command, subprocess.DEVNULL, stdout=subprocess.DEVNULL)
                time.sleep(0.5)
                # Traced, a relay is too slow for many streams at full rate, and would find several tokens at once.
                requests, connections = (3200, 0) if scenario.unit == "request" else (8, 2)
                result = self.run_load(contender, scenario.request(contender.name), "--requests", str(requests),
                                       connections=connections)
                tracer.send_signal(signal.SIGINT)
                tracer.wait(10)
            units = max(1, result["tokens"] if scenario.unit == "token" else result["requests"])
            counts = {}
            for line in table.read().splitlines():
                row = re.match(r"\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)$", line)
                if row and row[2] != "total":
                    counts[row[2]] = int(row[1]) / units
        return {name: round(each, 2) for name, each in sorted(counts.items(), key=lambda c: -c[1]) if each >= 0.01}

    def run(self, scenario, programs):
        with contextlib.ExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="pocketfleet-bench-"))
            log = stack.enter_context(open(f"{folder}/log", "w+", encoding="utf-8", errors="replace"))
            return self.run_in(scenario, programs, stack, folder, log)

    def try_to(self, starter, *arguments, log):
        """A contender that does not start is left out, and counts as an error."""
        try:
            return starter(*arguments)
        except (OSError, RuntimeError) as error:
            log.seek(0)
            note(f"  LEFT OUT: {error}\n{log.read()[-2000:]}")
            self.errors += 1
            return None

    def run_in(self, scenario, programs, stack, folder, log):
        command = [f"{self.options.programs}/bench_backend", "--ports", str(PHONES), "--tokens", str(scenario.tokens),
                   "--pause-us", str(scenario.pause_us)]
        backend = start(stack, command, log, stdout=subprocess.PIPE)
        stack.callback(backend.stdout.close)
        phones = json.loads(backend.stdout.readline())["ports"]

        # As many idle connections as the proxies keep: more are in use here than a real phone would ever have.
        gateway = {"phone_idle_connections": min(64, self.options.connections), **json.loads(self.options.gateway)}
        where = Setting(stack, folder, log, phones, None, scenario.workers, constant="x" * 460, gateway=gateway)
        contenders = {}
        for name in sorted(programs, key=lambda n: n in ("haproxy", "nginx")):  # ours tell how long the constant is
            contenders[name] = self.try_to(start_contender, name, programs[name], where, log=log)
            if contenders[name] and scenario.from_memory and name not in ("haproxy", "nginx"):
                ours = contenders[name]
                fetch(ours.port, scenario.ours.path, scenario.ours.body)
                _, fields, body = fetch(ours.port, scenario.ours.path, scenario.ours.body)
                if "hit" not in fields.get("X-Cache", "").lower():
                    note(f"  {name}: X-Cache says {fields.get('X-Cache')!r} to the same prompt again")
                where.constant = "x" * len(body)
        if not scenario.from_memory:
            contenders["direct"] = Contender("direct", phones[0])
        names = [*programs, "direct"]
        taking_part = [contenders[name] for name in names if contenders.get(name)]
        if not taking_part:
            return [], {}

        if self.options.pin:
            pin(backend.pid, self.load_cpus())
            for contender in taking_part:
                if contender.pid:
                    pin(contender.pid, {max(os.sched_getaffinity(0))})

        warm = ["--milliseconds", "500"] if scenario.pause_us == 0 else ["--requests", str(self.options.connections)]
        for contender in taking_part:  # connections, caches, and the allocator's memory
            result = self.run_load(contender, scenario.request(contender.name), *warm)
            if not result["requests"]:
                note(f"  {contender.name}: not one good answer: {result['first_error']}")

        rounds = []
        for turn in range(self.options.rounds):
            first = turn % len(taking_part)
            results = {}
            for contender in taking_part[first:] + taking_part[:first]:
                results[contender.name] = self.measure(scenario, contender, backend.pid)
            rounds.append(results)
            note(f"  round {turn + 1}/{self.options.rounds}: " + ", ".join(
                f"{name} {result['cpu_us']:.1f}" for name, result in results.items() if "cpu_us" in result) +
                f" us/{scenario.unit}; others use {max(r['others'] for r in results.values()):.0%} of the machine")

        calls = {}
        if self.options.syscalls:
            calls = {c.name: self.syscalls(scenario, c) for c in taking_part if c.pid}
        return rounds, calls


# --- results ----------------------------------------------------------------------------------------------------------


def summary(scenario, rounds, calls):
    """Medians over the rounds, a row a contender."""
    rows = []
    for name in rounds[0]:
        results = [turn[name] for turn in rounds]

        def median(key, among=results):
            values = [result[key] for result in among if key in result]
            return statistics.median(values) if values else None

        costs = [result["cpu_us"] for result in results if "cpu_us" in result]
        pairs = [(turn[name].get("cpu_us"), turn.get(scenario.reference, {}).get("cpu_us")) for turn in rounds]
        ratios = [own / other for own, other in pairs if own and other]
        rows.append({
            "contender": name,
            "cpu_us": median("cpu_us"),
            "cpu_us_least": min(costs, default=None), "cpu_us_most": max(costs, default=None),
            "ratio": statistics.median(ratios) if ratios else None,
            "requests_per_second": median("requests_per_second"),
            "units_per_second": statistics.median(
                [r["tokens" if scenario.unit == "token" else "requests"] / r["seconds"] for r in results]),
            "reads_per_token": statistics.median([r["reads"] / max(1, r["tokens"]) for r in results]),
            "core_share": statistics.median([r["contender_cpu_seconds"] / r["seconds"] for r in results])
                          if costs else None,
            "p50_ms": median("p50_ms"), "p99_ms": median("p99_ms"),
            "errors": sum(result["errors"] for result in results),
            "syscalls": calls.get(name),
        })
    return rows


def table(scenario, rows, rounds):
    def cell(value, form):
        return "" if value is None else format(value, form)

    lines = [f"### {scenario.title}", "",
             f"| | CPU µs/{scenario.unit} | from – to | × {scenario.reference} | {scenario.unit}s/s | of a core "
             "| p50 ms | p99 ms | wrong |",
             "|---|--:|--:|--:|--:|--:|--:|--:|--:|"]
    for row in rows:
        span = "" if row["cpu_us"] is None else f"{row['cpu_us_least']:.1f} – {row['cpu_us_most']:.1f}"
        lines.append(f"| {row['contender']} | {cell(row['cpu_us'], '.1f')} | {span} | {cell(row['ratio'], '.2f')} "
                     f"| {row['units_per_second']:.0f} | {cell(row['core_share'], '.0%')} | {row['p50_ms']:.2f} "
                     f"| {row['p99_ms']:.2f} | {row['errors']} |")
    others = statistics.median([result["others"] for turn in rounds for result in turn.values()])
    lines += ["", f"Other programs used {others:.0%} of the machine (median)."]
    if scenario.unit == "token":
        lines.append("Reads of the client for each token (far below 1: tokens are put together): " + ", ".join(
            f"{row['contender']} {row['reads_per_token']:.2f}" for row in rows) + ".")
    for row in rows:
        if row["syscalls"]:
            lines.append(f"System calls a {scenario.unit}, {row['contender']}: " + ", ".join(
                f"{name} {each:g}" for name, each in row["syscalls"].items()) + ".")
    return "\n".join(lines) + "\n"


def first_line(command):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          check=False, timeout=20, text=True)
    return done.stdout.strip().splitlines()[0] if done.stdout.strip() else "unknown"


def machine(programs):
    model = "unknown processor"
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    versions = {"haproxy": "-v", "nginx": "-v", "pocketfleet": "--version"}
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "cpu": model, "cores": os.cpu_count(), "kernel": platform.release(),
        "versions": {name: first_line([program, versions[name]]) for name, program in programs.items()
                     if name in versions},
    }


def allow_many_files():
    """Ten thousand streams are twenty thousand sockets of the one that relays them."""
    wanted = 2 * held.MOST_STREAMS + held.SPARE_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for limits in ((wanted, max(wanted, hard)), (hard, hard)):
        if soft < limits[0]:
            with contextlib.suppress(ValueError, OSError):
                resource.setrlimit(resource.RLIMIT_NOFILE, limits)
                return


def main():
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="turns of each contender (%(default)s)")
    parser.add_argument("--seconds", type=float, default=4, help="length of a turn (%(default)s)")
    parser.add_argument("--scenario", action="append", choices=SCENARIOS,
                        help="only this one; may be repeated")
    parser.add_argument("--connections", type=int, default=32, help="clients at once (%(default)s)")
    parser.add_argument("--pause-us", type=int, default=1000, help="between a stream's tokens (%(default)s)")
    parser.add_argument("--pin", action="store_true", help="contenders on the last core, the rest on the others")
    parser.add_argument("--syscalls", action="store_true", help="count system calls, with strace, in a run apart")
    parser.add_argument("--gateway", default="{}", metavar="JSON", help="more members for our gateway object")
    parser.add_argument("--build", action="append", default=[], metavar="NAME=FILE",
                        help="another build of ours (a full path), beside the others; may be repeated")
    parser.add_argument("--reference", metavar="NAME", help="whose CPU time the others' is compared with, for all")
    parser.add_argument("--streams", type=int, action="append", metavar="N",
                        help="for the scenario streams: so many at once; may be repeated (100, 1000, 10000)")
    parser.add_argument("--waiting", type=int, action="append", metavar="N",
                        help="for the scenario waiting: so many at once; may be repeated (1000, 4000)")
    parser.add_argument("--programs", default=f"{root}/build/release", help="folder of bench_backend and bench_load")
    parser.add_argument("--json", metavar="FILE", help="write all results there, each round's too")
    options = parser.parse_args()
    if options.syscalls and not shutil.which("strace"):
        parser.error("--syscalls needs strace")
    if min(options.rounds, options.seconds, options.connections, options.pause_us) <= 0:
        parser.error("numbers must be more than 0")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the children are stopped

    programs = {}
    for name in ("haproxy", "nginx"):
        found = find_program(name)
        if found:
            programs[name] = found
        else:
            note(f"{name}: not found, left out")
    ours = os.environ.get("POCKETFLEET") or f"{root}/build/release/pocketfleet"
    if os.access(ours, os.X_OK):
        programs["pocketfleet"] = ours
    else:
        note(f"pocketfleet: {ours} is not built, LEFT OUT")

    for build in options.build:
        name, _, file = build.partition("=")
        if not os.access(file, os.X_OK):
            parser.error(f"--build: {file} is not a program")
        programs[name] = file
    allow_many_files()

    about = machine(programs)
    print(f"{about['date']} · {about['cpu']}, {about['cores']} cores · Linux {about['kernel']} · " +
          " · ".join(about["versions"].values()))
    print(f"\n{PHONES} phones, {options.connections} connections, {options.rounds} rounds of {options.seconds:g} s, "
          f"medians{', pinned' if options.pin else ''}. HAProxy and nginx are one thread each and log nothing.\n",
          flush=True)

    bench = Bench(options)
    results = []
    wanted = options.scenario or SCENARIOS
    for scenario in scenarios(options):
        if scenario.name not in wanted:
            continue
        scenario.reference = options.reference or scenario.reference
        note(f"{scenario.name}:")
        try:
            rounds, calls = bench.run(scenario, programs)
        except RuntimeError as error:  # somebody died under load: the other scenarios can still be measured
            note(f"  {scenario.name} NOT MEASURED: {error}")
            bench.errors += 1
            continue
        if not rounds:
            continue
        rows = summary(scenario, rounds, calls)
        print(table(scenario, rows, rounds), flush=True)
        results.append({"scenario": scenario.name, "unit": scenario.unit, "reference": scenario.reference,
                        "rows": rows, "rounds": rounds})
    for name, special in (("streams", held.Streams), ("waiting", held.Waiting), ("choice", choice.Choice)):
        if name not in wanted:
            continue
        note(f"{name}:")
        try:
            found = special(options, note).run(programs)
        except (OSError, RuntimeError, subprocess.SubprocessError) as error:
            note(f"  {name} NOT MEASURED: {error}")
            bench.errors += 1
            continue
        print(found["table"], flush=True)
        results.append({"scenario": name, **found})
    if options.json:
        with open(options.json, "w", encoding="utf-8") as out:
            json.dump({"machine": about, "scenarios": results}, out, indent=1)
    return 1 if bench.errors else 0


if __name__ == "__main__":
    sys.exit(main())
