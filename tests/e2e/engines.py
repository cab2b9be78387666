"""Real programs the gateway works with: llama-server (its phones), Prometheus (which scrapes it)."""
import os
import pathlib
import socket
import subprocess
import sys
from urllib.parse import quote

import pytest

from client import request
from harness import ROOT, Process, until

TESTBED = ROOT / "tests" / "testbed"


def required(what):
    """Skips loudly; fails where $POCKETFLEET_REQUIRE_ENGINE says that everything has to be there."""
    why = f"{what}: NOT TESTED"
    if os.environ.get("POCKETFLEET_REQUIRE_ENGINE"):
        pytest.fail(why)
    pytest.skip(why)


def unpacked(tool):
    """The folder with a tool's programs. Where it cannot be had: skipped, or failed if $POCKETFLEET_REQUIRE_ENGINE."""
    done = subprocess.run([TESTBED / "unpack.sh", tool], capture_output=True, text=True, timeout=300)
    if done.returncode == 0:
        return pathlib.Path(done.stdout.strip())
    return required(f"{tool} cannot be unpacked: {done.stderr.strip().splitlines()[-1:]}")


def make_model(file, *arguments):
    """A model that answers any prompt with " 1 2 3 ... 999"."""
    subprocess.run([sys.executable, TESTBED / "make_tiny_gguf.py", *arguments, str(file)], check=True, timeout=120)
    return file


# About 400 tokens a second instead of some thousands: slow enough to be met in the middle of an answer.
SLOW = ("--layers", "8", "--dim", "512", "--ffn", "1536", "--heads", "8", "--kv-heads", "4", "--name", "slow")


def free_port():
    """A port nobody listens on. Somebody else may take it before it is used: whoever starts a server tries again."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class LlamaServer(Process):
    """A real llama-server as a phone."""

    engine = "llama-server"

    def __init__(self, programs, model, alias="tiny", slots=2, port=None, more=()):
        for _ in range(5):
            self.port = port or free_port()
            super().__init__("llama-server", [
                str(programs / "llama-server"), "-m", str(model), "--host", "127.0.0.1", "--port", str(self.port),
                "-t", "1", "-np", str(slots), "-c", str(4096 * slots), "-a", alias, "--metrics", "--slots", "--props",
                "--no-warmup", "-fa", "off", "--sse-ping-interval", "5", "--cache-ram", "64", "-lv", "2",
                *more,
            ], env={"GGML_NO_BACKTRACE": "1"})
            with self.starting():
                until(lambda: not self.running() or self.ready(), "llama-server to be ready")
            if self.running():
                return
        raise AssertionError(f"llama-server does not start:\n{self.log.text()}")

    def ready(self):
        try:
            return request(self.port, "GET", "/health", bound=5).status == 200
        except OSError:
            return False

    def entry(self, **more):
        return {"host": "127.0.0.1", "port": self.port, "max_concurrency": 2, **more}

    @property
    def as_phone(self):
        """Its name where phones.json gives it none."""
        return f"127.0.0.1:{self.port}"

    def slots(self):
        return request(self.port, "GET", "/slots").json()

    def busy(self):
        return sum(slot["is_processing"] for slot in self.slots())

    def stop(self, bound=0):
        self.kill()  # SIGTERM may leave it hanging with a stream open
        super().stop()


class Prometheus(Process):
    """A real Prometheus that scrapes the gateway five times a second."""

    def __init__(self, programs, folder, target_port, rules=None):
        folder = pathlib.Path(folder)
        config = folder / "prometheus.yml"
        config.write_text(
            "global: {scrape_interval: 200ms, scrape_timeout: 200ms, evaluation_interval: 200ms}\n"
            + (f"rule_files: ['{rules}']\n" if rules else "") +
            "scrape_configs:\n"
            f"  - {{job_name: pocketfleet, static_configs: [{{targets: ['127.0.0.1:{target_port}']}}]}}\n")
        for _ in range(5):
            self.port = free_port()
            super().__init__("prometheus", [
                str(programs / "prometheus"), f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{self.port}", "--log.level=warn"])
            with self.starting():
                until(lambda: not self.running() or self.ready(), "Prometheus to be ready")
            if self.running():
                return
        raise AssertionError(f"Prometheus does not start:\n{self.log.text()}")

    def ready(self):
        try:
            return request(self.port, "GET", "/-/ready", bound=5).status == 200
        except OSError:
            return False

    def api(self, path):
        reply = request(self.port, "GET", f"/api/v1/{path}")
        assert reply.status == 200, reply
        return reply.json()["data"]

    def query(self, expression):
        """[(labels, value)] of an instant query."""
        return [(r["metric"], float(r["value"][1])) for r in self.api(f"query?query={quote(expression)}")["result"]]
