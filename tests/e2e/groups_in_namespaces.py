"""Run by test_groups.py inside a network namespace: each worker has a namespace of its own, so that its link can go down."""
import os
import pathlib
import signal
import subprocess
import threading
import time

import pytest

from groups import Group
from harness import until


def ip(*words):
    subprocess.run(["ip", *map(str, words)], check=True, capture_output=True, timeout=10)


class Net:
    """A switch, here at 10.77.0.1, and two machines at it, 10.77.0.2 and .3."""

    def __init__(self):
        ip("link", "set", "lo", "up")
        ip("link", "add", "br0", "type", "bridge")
        ip("addr", "add", "10.77.0.1/24", "dev", "br0")
        ip("link", "set", "br0", "up")
        self.holders = []
        own = os.readlink("/proc/self/ns/net")
        for i in (2, 3):
            holder = subprocess.Popen(["unshare", "-n", "sleep", "infinity"])
            self.holders.append(holder)
            until(lambda: os.readlink(f"/proc/{holder.pid}/ns/net") != own, "the namespace")
            ip("link", "add", f"v{i}", "type", "veth", "peer", "name", "eth0", "netns", holder.pid)
            ip("link", "set", f"v{i}", "master", "br0", "up")
            for words in ("link set lo up", f"addr add 10.77.0.{i}/24 dev eth0", "link set eth0 up"):
                subprocess.run(["nsenter", "-t", str(holder.pid), "-n", "ip", *words.split()], check=True, timeout=10)

    def workers(self):
        return [{"host": f"10.77.0.{i}", "prefix": ["nsenter", "-t", str(h.pid), "-n"]}
                for i, h in zip((2, 3), self.holders)]

    def link(self, i, state):
        ip("link", "set", f"v{i}", state)

    def remember(self, i):
        """Where it is on the switch: while the kernel asks for that it counts no retransmission, and forgets nothing."""
        entry = subprocess.run(["ip", "neigh", "show", f"10.77.0.{i}", "dev", "br0"], check=True, capture_output=True,
                               text=True, timeout=10).stdout.split()
        ip("neigh", "replace", f"10.77.0.{i}", "lladdr", entry[entry.index("lladdr") + 1], "dev", "br0", "nud", "permanent")

    def forget(self, i):
        subprocess.run(["ip", "neigh", "del", f"10.77.0.{i}", "dev", "br0"], capture_output=True, timeout=10)

    def close(self):
        for holder in self.holders:
            holder.kill()
            holder.wait()


@pytest.fixture(scope="module")
def net():
    made = Net()
    yield made
    made.close()


@pytest.fixture
def group(request, start, net):
    limit = getattr(request, "param", 4)
    made = start.own(Group(start.folder / "group", pathlib.Path(os.environ["GROUPS_PROGRAMS"]),
                           os.environ["GROUPS_MODEL"], workers=net.workers(), ready_limit_s=limit, stall_limit_s=2))
    made.ready()
    yield made
    for i in (2, 3):
        net.link(i, "up")
        net.forget(i)


def same(group):
    return group.complete() == os.environ["GROUPS_UNSPLIT"]


def long_answer(group):
    """A client in another thread, until the workers compute for it."""
    def ask():
        try:
            group.complete(3000, bound=120)
        except OSError:
            pass
    client = threading.Thread(target=ask, daemon=True)
    before = group.worker_log("b").count("graph_recompute")
    client.start()
    until(lambda: group.worker_log("b").count("graph_recompute") > before + 3, "the workers to compute")
    return client


def test_answers_over_a_network(group):
    assert same(group)
    assert "graph_recompute" in group.worker_log("a") and "graph_recompute" in group.worker_log("b")


def test_a_link_that_is_down_is_named_and_healed_when_it_is_back(group, net):
    long_answer(group)
    began = time.monotonic()
    net.link(3, "down")
    group.noticed("link_down", "b")
    print(f"MEASURED link down, busy: noticed {time.monotonic() - began:.2f} s")
    group.noticed("master_stuck", "b")
    net.link(3, "up")
    began = time.monotonic()
    group.healed()
    print(f"MEASURED link back: healed {time.monotonic() - began:.2f} s")
    assert same(group)


@pytest.mark.parametrize("group", [12], indirect=True)  # until then nobody touches the worker
def test_a_master_that_vanished_without_a_word(group, net):
    """The worker behind the dead link never hears of its master's end: it has to be started anew, or serves nobody."""
    pathlib.Path("/proc/sys/net/ipv4/tcp_orphan_retries").write_text("1")
    first = group.pid_of("b")
    net.remember(3)
    net.link(3, "down")
    began = time.monotonic()
    group.signal_member("master", signal.SIGKILL)
    group.noticed("master_dead", "master")
    noticed = time.monotonic() - began

    def forgotten():
        return not any(line.split()[3] in ("04", "05", "09", "0B") for line in open("/proc/net/tcp"))
    until(forgotten, "the dead master's connections to be forgotten", bound=30)
    assert group.pid_of("b") == first, "nobody has touched the worker yet"
    net.link(3, "up")
    back = time.monotonic()
    group.noticed("master_stuck", "b")
    print(f"MEASURED master vanished: noticed {noticed:.2f} s, stuck worker named {time.monotonic() - back:.2f} s after")
    group.healed()
    print(f"MEASURED master vanished: healed {time.monotonic() - back:.2f} s after the link was back")
    assert group.pid_of("b") != first
    assert same(group)


def test_a_worker_that_sleeps_is_no_link_that_is_down(group):
    long_answer(group)
    group.signal_member("b", signal.SIGSTOP)
    group.noticed("worker_frozen", "b")
    group.healed()
    assert same(group)
