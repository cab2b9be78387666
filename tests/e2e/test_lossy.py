"""Phones behind a bad network, in network namespaces of the test's own: packets are lost, a link is cut.

Needs root, and iptables for the losses; where these cannot be had the tests are skipped and say so. All is in
namespaces that end with the processes in them: nothing outside is touched.
"""
import concurrent.futures
import ctypes
import os
import shutil
import subprocess
import sys
import threading
import time

import pytest

from client import counted
from harness import program, until

CLONE_NEWNET = 0x40000000
LIBC = ctypes.CDLL(None, use_errno=True)


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


# The phone's programs listen on loopback: this stands between them and the link, in the same namespace.
FORWARDER = """
import asyncio, sys
async def pump(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    writer.close()
async def one(reader, writer):
    try:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", int(sys.argv[1]))
    except OSError:
        writer.close()
        return
    await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))
async def main():
    server = await asyncio.start_server(one, sys.argv[2], 11434)
    print("ready", flush=True)
    await server.serve_forever()
asyncio.run(main())
"""


class Own:
    """The calling thread, and all that it starts, in a network namespace of its own until close()."""

    def __init__(self):
        self._before = os.open(f"/proc/self/task/{threading.get_native_id()}/ns/net", os.O_RDONLY)
        if LIBC.unshare(CLONE_NEWNET):
            os.close(self._before)
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        try:
            run("ip", "link", "set", "lo", "up")
        except OSError:
            self.close()
            raise

    def close(self):
        LIBC.setns(self._before, CLONE_NEWNET)
        os.close(self._before)


class FarPhone:
    """A simulated phone at the other end of a link, in a namespace that ends with it."""

    def __init__(self, start, number, **options):
        self.name = f"far-{number}"
        self.near, self.address = f"10.77.{number}.1", f"10.77.{number}.2"
        self.device = f"pf{number}"
        given = {"count": 1, "base-port": 7000, "engine": "ollama", "model": "tiny", "prefill-rate": 100000,
                 "load-ms": 0, "slots": 8, **options}
        command = [program(), "sim"]
        for name, value in given.items():
            command += ["--" + name, str(value)]
        own = ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
        self.sim = start.process("sim", [*own, *command])
        self.sim.log.wait_for(r"^sim: ")
        peer = str(self.sim.pid)
        run("ip", "link", "add", self.device, "type", "veth", "peer", "name", "far", "netns", peer)
        run("ip", "addr", "add", f"{self.near}/24", "dev", self.device)
        run("ip", "link", "set", self.device, "up")
        inside = ["nsenter", "--net", "--target", peer]
        run(*inside, "ip", "addr", "add", f"{self.address}/24", "dev", "far")
        run(*inside, "ip", "link", "set", "far", "up")
        forwarder = [sys.executable, "-c", FORWARDER, "7000", self.address]
        self.forwarder = start.process("forwarder", [*inside, *forwarder])
        self.forwarder.log.wait_for("ready")
        self.inside = inside

    def entry(self, **more):
        return {"name": self.name, "host": self.address, "port": 11434, **more}

    def lose(self, share):
        """So much of what comes, at both ends."""
        rule = ["-m", "statistic", "--mode", "random", "--probability", str(share), "-j", "DROP"]
        run("iptables", "-w", "-A", "INPUT", "-i", self.device, *rule)
        run(*self.inside, "iptables", "-w", "-A", "INPUT", "-i", "far", *rule)

    def lost(self):
        """Packets so far."""
        total = 0
        for before in ([], self.inside):
            for line in run(*before, "iptables", "-w", "-L", "INPUT", "-v", "-n", "-x").splitlines():
                if "DROP" in line:
                    total += int(line.split()[0])
        return total

    def cut(self):
        """No packet passes any more; nobody is told."""
        # At the far end: the near one's kernel would answer with errors.
        run(*self.inside, "ip", "link", "set", "far", "down")


@pytest.fixture
def network(start):
    """far(number): a phone at the other end of a link of its own."""
    for tool in ("ip", "unshare", "nsenter"):
        if not shutil.which(tool):
            pytest.skip(f"BAD NETWORKS ARE NOT TESTED: there is no {tool}")
    try:
        own = Own()
    except OSError as e:
        pytest.skip(f"BAD NETWORKS ARE NOT TESTED: no network namespaces: {e}")
    try:
        yield lambda number, **options: FarPhone(start, number, **options)
    finally:
        # The processes in it, and with them their namespaces, end before ours is left.
        try:
            start.stop()
        finally:
            own.close()


def changes(gateway, name):
    """What the prober told of a phone."""
    return [line for line in gateway.log.lines() if f" phone phone={name} " in line]


class BreakerWatch(threading.Thread):
    """How often a phone's breaker changes."""

    def __init__(self, gateway, name):
        super().__init__()
        self.gateway, self.name, self.seen, self.enough = gateway, name, [], threading.Event()

    def run(self):
        while not self.enough.wait(0.2):
            state = self.gateway.phone(self.name)["breaker"]
            if not self.seen or self.seen[-1] != state:
                self.seen.append(state)

    def stop(self):
        self.enough.set()
        self.join()
        return self.seen


def test_a_third_of_all_packets_is_lost(network, start):
    """Slow, but whole; and the phone is not taken out and back again all the time."""
    if not shutil.which("iptables"):
        pytest.skip("LOSSY NETWORKS ARE NOT TESTED: iptables is not installed")
    far, good = network(1, **{"decode-rate": 50}), network(2, **{"decode-rate": 50})
    gateway = start.gateway([far.entry(max_concurrency=2), good.entry(max_concurrency=2)],
                            {"probe_interval_s": 5, "cache": "never"})
    try:
        far.lose(0.3)
    except OSError as e:
        pytest.skip(f"LOSSY NETWORKS ARE NOT TESTED: {e}")
    before = len(changes(gateway, far.name))
    watch = BreakerWatch(gateway, far.name)
    watch.start()
    seconds, results, lock = 60, [], threading.Lock()
    end = time.monotonic() + seconds

    def client():
        while time.monotonic() < end:
            began = time.monotonic()
            stream = gateway.ask_stream(tokens=60).finish()  # 1.2 s
            with lock:
                results.append((stream.status, stream.whole and stream.text() == counted(60),
                                stream.last().get("pocketfleet"), time.monotonic() - began))

    clients = [threading.Thread(target=client) for _ in range(4)]
    for each in clients:
        each.start()
    for each in clients:
        each.join(seconds + 60)
    states = watch.stop()
    probed = changes(gateway, far.name)[before:]
    by_far = [r for r in results if r[2] and r[2]["phone"] == far.name]
    by_good = [r for r in results if r[2] and r[2]["phone"] == good.name]
    rescued = sum(r[2].get("rescues", 0) for r in results if r[2])
    lost = far.lost()
    print(f"\n{len(results)} answers, {len(by_far)} from the lossy phone "
          f"(slowest {max((r[3] for r in by_far), default=0):.1f} s), {len(by_good)} from the good one, "
          f"{rescued} rescues, {lost} packets lost; breaker {states}, prober {len(probed)} changes")
    assert lost > 100, "else nothing was shown"
    assert all(status == 200 and whole for status, whole, _, _ in results), results
    assert by_far, "the lossy phone was used"
    assert len(states) - 1 + len(probed) <= 2 * (seconds / 60), (states, probed)


def test_the_link_goes(network, start):
    """No FIN, no reset: a phone that has left the Wi-Fi. Another one goes on with its stream, and answers
    the questions that were sent to it afterwards.
    """
    phones = [network(1, **{"decode-rate": 20}), network(2, **{"decode-rate": 200})]
    gateway = start.gateway([p.entry(max_concurrency=4) for p in phones],
                            {"cache": "never", "phone_idle_ollama_s": 60})
    first = second = None
    while first is not phones[0]:  # the slow one, so that its stream lasts
        stream = gateway.ask_stream(tokens=400).begun(10)
        first, second = (phones if stream.headers["X-Phone"] == phones[0].name else phones[::-1])
        if first is not phones[0]:
            stream.abort()
    # A connection to each that rests.
    assert {gateway.ask(tokens=1).headers["X-Phone"] for _ in range(2)} == {p.name for p in phones}

    def ask(_):
        began = time.monotonic()
        reply = gateway.ask(tokens=2)
        return reply, time.monotonic() - began

    first.cut()
    cut_at = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(ask, n) for n in range(4)]
        seen, longest = cut_at, 0.0
        for _ in stream._going:
            now = time.monotonic()
            longest, seen = max(longest, now - seen), now
        took = time.monotonic() - cut_at
        replies = [f.result() for f in asked]
    stream.finish()
    moved = [seconds for reply, seconds in replies if reply.notes()["attempts"] > 1]
    print(f"\nthe stream was whole {took:.1f} s after the link was cut, silent for {longest:.1f} s; "
          f"questions that were sent there: {', '.join(f'{s:.1f} s' for s in moved)}")
    assert stream.whole and stream.text() == counted(400)
    notes = stream.last()["pocketfleet"]
    assert notes["rescues"] == 1 and notes["phone"] == second.name
    assert longest <= 25
    assert [r.content() for r, _ in replies] == [counted(2)] * 4
    assert moved, "one was sent there"
    assert max(moved) <= 25
    until(lambda: not gateway.phone(first.name)["healthy"], "the prober to see it")
    assert gateway.phone(second.name)["healthy"] is True
