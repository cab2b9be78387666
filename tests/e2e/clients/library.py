"""The libraries, fetched once from npm, and one of them as a process."""
import functools
import json
import os
import pathlib
import queue
import re
import shutil
import subprocess
import threading

import pytest

import npm

HERE = pathlib.Path(__file__).parent
BOUND = 40  # seconds for a case


def required(what):
    why = f"{what}: NO CLIENT LIBRARY TESTED"
    if os.environ.get("POCKETFLEET_REQUIRE_CLIENTS") == "1":
        pytest.fail(why)
    pytest.skip(why)


def node_version():
    for program in ("node", "npm"):
        if not shutil.which(program):
            required(f"'{program}' is not there")
    said = subprocess.run(["node", "--version"], capture_output=True, text=True, timeout=60).stdout
    return int(re.match(r"v(\d+)", said)[1])


@functools.lru_cache(maxsize=None)
def node_modules():
    """The libraries as package-lock.json has them."""
    if node_version() < 18:
        required("the libraries need Node 18")
    return npm.installed(HERE, "clients", required) / "node_modules"


class Library:
    """A library in a process of its own, which runs one case after the other."""

    name = "client"

    def __init__(self, folder, client):
        self.client, self.ended = client, False
        self._process = subprocess.Popen(["node", "main.mjs", client], cwd=folder, text=True, stdin=subprocess.PIPE,
                                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
        self.pid = self._process.pid
        self._lines, self._heard, self._one = queue.Queue(), [], threading.Lock()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self._process.stdout:
            self._heard.append(line.rstrip())
            self._lines.put(line)
        self._lines.put(None)

    def _tell(self, what):
        self._process.stdin.write(json.dumps(what) + "\n")
        self._process.stdin.flush()

    def _next(self, case):
        try:
            line = self._lines.get(timeout=BOUND)
            return json.loads(line)
        except (queue.Empty, TypeError, ValueError):
            raise AssertionError(f"{self.client}, {case}: no facts\n" + "\n".join(self._heard[-20:])) from None

    def run(self, case, meanwhile=None, **call):
        """The facts. `meanwhile` is done when the library waits for it: before its answer of number `pause_at`."""
        with self._one:
            self._tell({"client": self.client, "case": case, **call})
            while "begun" in (said := self._next(case)):
                meanwhile()
                self._tell({})
            assert not said["noise"], "the library complains"
            return said

    @property
    def errors(self):
        return self

    def lines(self):
        return self._heard[-20:]

    def stop(self):
        self.ended = True
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
