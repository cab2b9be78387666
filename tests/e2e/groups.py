"""A group under its supervisor: real rpc-servers and a real llama-server, each a child of `pocketfleet group run`."""
import json
import os
import random
import signal
import socket
import sys

import engines
from client import request
from harness import ROOT, Process, program, until

# What the tests' model gives: layers, and the output layer.
SPLIT = [4, 5]
LIMITS = {"look_s": 0.2, "ready_limit_s": 20, "stall_limit_s": 10, "frozen_limit_s": 0.5, "first_pause_s": 0.3,
          "longest_pause_s": 2, "grace_s": 1}


def free_port(address="127.0.0.1"):
    """Below those that the kernel gives away, so that nobody has it when it is used."""
    def try_one():
        port = random.randrange(20000, 32000)
        with socket.socket() as s:
            try:
                s.bind((address, port))
                return port
            except OSError:
                return None
    return until(try_one, "a free port")


class Group(Process):
    """`workers`: for each what the file says of it, beside name and port."""

    def __init__(self, folder, programs, model, workers=None, master=None, **more):
        self.folder = folder
        folder.mkdir(exist_ok=True)
        workers = workers or [{"host": "127.0.0.2"}, {"host": "127.0.0.3"}]
        self.port, self.status_port = free_port(), free_port()
        self.file = folder / "group.json"
        self.logs = folder / "logs"
        self.config = {
            "name": "big", "model": str(model), "status": f"127.0.0.1:{self.status_port}", "log_folder": "logs",
            "tensor_split": SPLIT[-len(workers):] if len(workers) > 1 else [9], **LIMITS, **more,
            "master": {"host": "127.0.0.1", "port": self.port, "program": str(programs / "llama-server"),
                       "environment": {"GGML_NO_BACKTRACE": "1"},
                       "arguments": ["-t", "1", "-np", "1", "-c", "4096", "-fa", "off", "--cache-ram", "0", "-a", "big",
                                     "--no-warmup"], **(master or {})},
            "workers": [{"name": "ab"[i], "port": free_port(), "program": str(programs / "rpc-server"),
                         "arguments": ["-t", "1"], "environment": {"GGML_RPC_DEBUG": "1"}, **w}
                        for i, w in enumerate(workers)],
        }
        self.file.write_text(json.dumps(self.config))
        super().__init__("group", [program(), "group", "run", str(self.file)])

    def status(self):
        assert self.running(), self.log.text()
        try:
            return request(self.status_port, "GET", "/", bound=5).json()
        except OSError:
            return None

    def usable(self):
        s = self.status()
        return s if s and s["usable"] else None

    def ready(self, bound=30):
        return until(self.usable, "the group to serve", bound=bound)

    def member(self, name):
        return next(m for m in self.status()["members"] if m["name"] == name)

    def pid_of(self, name):
        return self.member(name)["pid"]

    def signal_member(self, name, which):
        os.kill(self.pid_of(name), which)

    def noticed(self, fault, member=None, bound=30):
        """Until it is named."""
        def look():
            s = self.status()
            return s and [e for e in s["events"] if e["fault"] == fault and member in (None, e["member"])]
        return until(look, f"{fault} of {member} to be noticed", bound=bound)[-1]

    def healed(self, bound=40):
        s = self.ready(bound)
        assert s["events"] and s["events"][-1]["healed_after_s"] is not None, s
        return s["events"]

    def worker_log(self, name):
        file = self.logs / f"{name}.log"
        return file.read_text() if file.exists() else ""

    def complete(self, tokens=40, bound=30):
        reply = request(self.port, "POST", "/completion",
                        {"prompt": "one two three", "n_predict": tokens, "temperature": 0}, bound=bound)
        assert reply.status == 200, reply
        return reply.json()["content"]


def of_another_version(answer):
    """A worker that is started as any other, and answers as one of another build."""
    script = ROOT / "tests" / "e2e" / "other_rpc_server.py"
    return {"program": str(script), "prefix": [sys.executable], "environment": {}, "arguments": ["--answer", answer],
            "version": ["true"]}


def stop(pid):
    os.kill(pid, signal.SIGSTOP)


def children_of(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as children:
        return [int(p) for p in children.read().split()]


def unsplit_answer(start, llama_programs, model):
    """What one llama-server answers to the question of these tests."""
    alone = start.own(engines.LlamaServer(llama_programs, model))
    reply = engines.request(alone.port, "POST", "/completion",
                            {"prompt": "one two three", "n_predict": 40, "temperature": 0})
    alone.stop()
    return reply.json()["content"]
