"""Debian's Chromium, driven by playwright-core, which is fetched once from npm."""
import contextlib
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
BOUND = 40  # seconds for a command


def required(what):
    why = f"{what}: THE DASHBOARD IS NOT TESTED"
    if os.environ.get("POCKETFLEET_REQUIRE_BROWSER") == "1":
        pytest.fail(why)
    pytest.skip(why)


def chromium():
    path = os.environ.get("POCKETFLEET_CHROMIUM") or shutil.which("chromium")
    if not path:
        required("there is no chromium")
    return path


@functools.lru_cache(maxsize=None)
def folder():
    """A folder with node_modules as package-lock.json has them, fetched once. Runs that fetch at once do not disturb
    each other: the folder appears whole."""
    for program in ("node", "npm"):
        if not shutil.which(program):
            required(f"'{program}' is not there")
    said = subprocess.run(["node", "--version"], capture_output=True, text=True, timeout=60).stdout
    if int(re.match(r"v(\d+)", said)[1]) < 18:
        required("playwright-core needs Node 18")
    return npm.installed(HERE, "browser", required)


class Browser:
    """A browser in a process of its own, with one page at a time. Commands are those of drive.mjs."""

    name = "browser"

    def __init__(self, scratch):
        self.ended = False
        shutil.copy(HERE / "drive.mjs", scratch)
        with contextlib.suppress(FileExistsError):
            (pathlib.Path(scratch) / "node_modules").symlink_to(folder() / "node_modules")
        self._process = subprocess.Popen(["node", "drive.mjs", chromium()], cwd=scratch, text=True, stdin=subprocess.PIPE,
                                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
        self.pid = self._process.pid
        self._answers, self._heard = queue.Queue(), []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self._process.stdout:
            try:
                self._answers.put(json.loads(line))
            except ValueError:
                self._heard.append(line.rstrip())
        self._answers.put(None)

    def do(self, command, **how):
        self._process.stdin.write(json.dumps({"command": command, **how}) + "\n")
        self._process.stdin.flush()
        try:
            answer = self._answers.get(timeout=BOUND)
        except queue.Empty:
            answer = None
        if answer is None or "failed" in answer:
            why = answer["failed"] if answer else "no answer"
            raise AssertionError(f"{command} {how}: {why}\n" + "\n".join(self._heard[-20:]))
        return answer["value"]

    @property
    def errors(self):
        return self

    def lines(self):
        return self._heard[-20:]

    def stop(self):
        """Its browser ends with it."""
        self.ended = True
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
