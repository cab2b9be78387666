"""The commands that a plan prints, run: real rpc-servers and a real llama-server, and what these say of layers and memory."""
import json
import os
import queue
import random
import re
import signal
import socket
import subprocess
import threading
import time

import pytest

import engines
from client import request
from harness import Process, program, resident, until

MEDIUM = ("--random", "--name", "medium", "--layers", "12", "--dim", "768", "--ffn", "2048", "--heads", "12",
          "--kv-heads", "4")  # 84 MB


@pytest.fixture(scope="module")
def medium(tmp_path_factory):
    return engines.make_model(tmp_path_factory.mktemp("model") / "medium.gguf", *MEDIUM)


@pytest.fixture(scope="module")
def path(llama_programs, tmp_path_factory):
    """Where the printed names are found: Debian calls the worker's program otherwise."""
    folder = tmp_path_factory.mktemp("bin")
    (folder / "ggml-rpc-server").symlink_to(llama_programs / "rpc-server")
    (folder / "llama-server").symlink_to(llama_programs / "llama-server")
    return f"{folder}:{os.environ['PATH']}"


class Typed(Process):
    """A command as it is typed into a shell."""

    def __init__(self, name, text, path, folder, **env):
        super().__init__(name, ["bash", "-c", f"cd '{folder}'; {text}"],
                         env={"PATH": path, "GGML_NO_BACKTRACE": "1", **env})

    def stop(self, bound=0):
        try:
            os.killpg(self.pid, signal.SIGKILL)  # the shell, and what runs in it
        except ProcessLookupError:
            pass
        until(lambda: not self.left_behind(), "its group to be gone")
        super().stop()

    def largest(self):
        """KiB of its largest process."""
        return max(int(line.split()[1]) for pid, _ in self.left_behind()
                   for line in open(f"/proc/{pid}/status") if line.startswith("VmRSS:"))


class Delay:
    """A TCP proxy on loopback that hands everything on later, in the order in which it came."""

    def __init__(self, port, target, seconds):
        self.seconds, self.target = seconds, target
        self.listener = socket.create_server(("127.0.0.1", port))
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self.target))
            for a, b in ((near, far), (far, near)):
                b.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._relay(a, b)

    def _relay(self, source, sink):
        line = queue.Queue()

        def read():
            try:
                while data := source.recv(1 << 16):
                    line.put((time.monotonic() + self.seconds, data))
            except OSError:
                pass
            line.put((0, b""))

        def write():
            try:
                while True:
                    due, data = line.get()
                    if not data:
                        return sink.shutdown(socket.SHUT_RDWR)
                    time.sleep(max(0.0, due - time.monotonic()))
                    sink.sendall(data)
            except OSError:
                pass
        for each in (read, write):
            threading.Thread(target=each, daemon=True).start()

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)  # wakes whoever waits in accept(), and so holds the port
        self.listener.close()


class Group:
    """What `pocketfleet plan` says for these phones, and the processes of it."""

    def __init__(self, start, path, model, phones, *options):
        self.start, self.path, self.folder = start, path, model.parent
        file = start.folder / "plan.json"
        file.write_text(json.dumps(phones))
        done = subprocess.run([program(), "plan", str(model), "--phones", str(file), "--json", *map(str, options)],
                              capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
        self.answer = json.loads(done.stdout)
        self.plan = self.answer["plan"]
        self.phones = {p["name"]: p for p in phones}

    def run(self, change=lambda text: text, delays=None):
        """Types the commands. `delays`: seconds of delay to each worker, for proxies in the place of the tunnels."""
        self.workers, self.proxies = [], []
        for c in self.plan["commands"]:
            if c["role"] == "worker":
                worker = self.start.own(Typed(c["on"], c["command"], self.path, self.folder, GGML_RPC_DEBUG="1"))
                worker.log.wait_for("Starting RPC server")
                self.workers.append(worker)
            elif c["role"] == "tunnel":
                at, to = map(int, re.search(r"-[LR] 127\.0\.0\.1:(\d+):127\.0\.0\.1:(\d+)", c["command"]).groups())
                self.proxies.append(Delay(at, to, delays[self.worker_at(to)]))
        until(lambda: all(self.accepts(w) for w in self.workers), "workers to listen")
        master = self.plan["commands"][-1]
        self.master = self.start.own(Typed("master", change(master["command"]), self.path, self.folder,
                                           LLAMA_ARG_LOG_VERBOSITY="5"))
        self.port = self.phones[master["on"]]["http_port"]
        until(lambda: not self.master.running() or self.ready(), "the master to be ready", bound=60)
        assert self.master.running(), self.master.log.text()[-3000:]

    def worker_at(self, port):
        return next(name for name, p in self.phones.items() if p.get("rpc_port") == port)

    def accepts(self, worker):
        with socket.socket() as s:
            s.settimeout(1)
            return s.connect_ex(("127.0.0.1", self.phones[worker.name]["rpc_port"])) == 0

    def ready(self):
        try:
            return request(self.port, "GET", "/health", bound=5).status == 200
        except OSError:
            return False

    def complete(self, tokens):
        reply = request(self.port, "POST", "/completion",
                        json.dumps({"prompt": "one two three", "n_predict": tokens, "temperature": 0}))
        assert reply.status == 200, reply
        return reply.json()

    def stop(self):
        for each in [self.master, *self.workers]:
            each.stop()
        for proxy in self.proxies:
            proxy.close()

    def check_layers(self):
        """Each layer, and the output as the last one, is where the plan has it."""
        assigned = {int(layer): device for layer, device in re.findall(
            r"layer +(\d+) assigned to device (\w+)", self.master.log.text())}
        expected = {}
        for i, m in enumerate(self.plan["members"]):
            for layer in range(m["first_layer"], m["first_layer"] + m["layers"]):
                expected[layer] = f"RPC{i - 1}" if i else "CPU"
        layers = self.answer["model"]["layers"]
        expected[layers] = f"RPC{len(self.plan['members']) - 2}"
        assert assigned == expected

    def buffers(self, device):
        """MiB that the master's log says it has there: of weights, cache, computing."""
        text = self.master.log.text()
        return [sum(map(float, re.findall(rf"{device} {what} buffer size = +([\d.]+) MiB", text)))
                for what in ("model", "KV", "compute")]

    def check_memory(self):
        for m, endpoint, worker in zip(self.plan["members"][1:], self.plan["endpoints"], self.workers):
            real = self.buffers(re.escape(f"[{endpoint}]"))
            said = [m[k] / 2**20 for k in ("weights_bytes", "kv_bytes", "compute_bytes")]
            assert real[0] > 0 and real[2] > 0, "the log has another form"
            assert sum(said) == pytest.approx(sum(real), rel=0.15), (m["name"], said, real)
            assert said[0] == pytest.approx(real[0], rel=0.02) and said[1] == pytest.approx(real[1], rel=0.02)
            assert worker.largest() * 1024 < m["memory_bytes"], "the process has no more than was planned"
        real = self.buffers(r"CPU(?:_Mapped)?")
        m = self.plan["members"][0]
        assert (m["weights_bytes"] + m["kv_bytes"] + m["compute_bytes"]) / 2**20 == pytest.approx(sum(real), rel=0.15)

    def check_workers_computed(self):
        for worker in self.workers:
            assert "graph_compute" in worker.log.text()


def phone(name, ram, speed, rtt=1, **more):
    return {"name": name, "host": "127.0.0.1", "ram_mb": ram, "gb_per_s": speed, "threads": 1,
            "rpc_port": free_ports(1), "http_port": free_ports(1),
            "link": {"rtt_ms": rtt, "up_mbit": 10000, "down_mbit": 10000}, **more}


def deskbound(ram):
    """Its speed is not known, so it gets no layers."""
    return {k: v for k, v in phone("m", ram, 0, role="master").items() if k != "gb_per_s"}


# Alone it needs 306 MB. How many workers each fleet's memory makes necessary, and who is in it.
FLEETS = {
    "two workers, and the master has layers": (2, lambda: [
        phone("m", 320, 10, role="master"), phone("a", 230, 10, role="worker"), phone("b", 300, 10, role="worker")]),
    "two workers have everything": (2, lambda: [
        deskbound(300), phone("a", 345, 10, role="worker"), phone("b", 345, 10, role="worker")]),
    "one worker, slow master": (1, lambda: [phone("m", 400, 1, role="master"), phone("a", 400, 10, role="worker")]),
    "one worker, full master": (1, lambda: [phone("m", 330, 20, role="master"), phone("a", 360, 2, role="worker")]),
}


def free_ports(count):
    """As many in a row that nobody listens on, below those that the kernel gives away; the first one."""
    def try_some():
        first, taken = random.randrange(20000, 32000), []
        try:
            for port in range(first, first + count):
                taken.append(socket.create_server(("127.0.0.1", port)))
            return first
        except OSError:
            return None
        finally:
            for s in taken:
                s.close()
    return until(try_some, "free ports in a row")


@pytest.fixture(scope="module")
def unsplit(start_once, path, medium):
    """What one llama-server answers with the same options."""
    alone = Group(start_once, path, medium, [phone("alone", 2000, 10)], "--batch", 512)
    assert alone.plan["kind"] == "single"
    alone.run()
    answer = alone.complete(40)["content"]
    alone.stop()
    return answer


@pytest.mark.parametrize("fleet", FLEETS)
def test_a_plan_runs_as_it_says(start, path, medium, unsplit, fleet):
    workers, phones = FLEETS[fleet]
    group = Group(start, path, medium, phones(), "--batch", 512)
    assert group.plan["kind"] == "split" and len(group.plan["tensor_split"]) == workers
    group.run()
    assert group.complete(40)["content"] == unsplit
    group.check_layers()
    group.check_memory()
    group.check_workers_computed()


def test_a_split_by_hand_is_slower_where_links_differ(start, path, medium, unsplit):
    """Through tunnels, one of which takes 60 ms there and back: the plan leaves that phone out, or the others would wait
    for it at every token. The equal split asks all three."""
    phones = [deskbound(300), phone("a", 340, 10, role="worker"),
              phone("far", 340, 10, rtt=60, role="worker"), phone("b", 340, 10, role="worker")]
    delays = {"a": 0.001, "far": 0.030, "b": 0.001}
    port = free_ports(4)
    group = Group(start, path, medium, phones, "--batch", 512, "--tunnel", "--port", port)
    assert {m["name"] for m in group.plan["members"]} == {"m", "a", "b"}
    left = next(x for x in group.answer["left_out"] if x["name"] == "far")
    assert left["reason"] == "slower" and left["token_ms_with_it"] > group.plan["token_ms"] + 50
    group.run(delays=delays)
    planned = group.complete(40)
    group.check_layers()
    group.check_memory()
    group.stop()
    assert planned["content"] == unsplit

    far = next(p for p in phones if p["name"] == "far")
    worker = start.own(Typed("far", f"exec ggml-rpc-server -H 127.0.0.1 -p {far['rpc_port']} -t 1", path, medium.parent))
    proxy = Delay(port + 3, far["rpc_port"], delays["far"])

    def equally(text):
        text = re.sub(r"--rpc (\S+)", rf"--rpc \1,127.0.0.1:{port + 3}", text)
        return re.sub(r"-ts \S+ -ngl \S+", "-ts 4,4,5 -ngl 13", text)
    worker.log.wait_for("Starting RPC server")
    group.run(change=equally, delays=delays)
    equal = group.complete(40)
    proxy.close()
    assert equal["content"] == unsplit
    # Not a matter of load: each token goes through the slow tunnel and back.
    assert equal["timings"]["predicted_per_token_ms"] > 60
    assert planned["timings"]["predicted_per_token_ms"] < equal["timings"]["predicted_per_token_ms"]
