"""`pocketfleet demo`: a fleet to try things with, and the line that tries it, as a newcomer copies it."""
import json
import os
import re
import signal
import subprocess

import pytest

from client import counted, request
from harness import Process, program, until


class Demo(Process):
    def __init__(self, *arguments, env=None):
        super().__init__("demo", [program(), "demo", "--listen", "127.0.0.1:0", *arguments], env=env, one_stream=False)
        with self.starting():
            self.port = int(self.errors.wait_for(r"listening on 127\.0\.0\.1:(\d+)")[1])
            self.curl = self.log.wait_for(r"^\s*(curl .*)$")[1]

    def health(self):
        return request(self.port, "GET", "/health").json()["phones"]


@pytest.fixture
def demo(start):
    def begin(*arguments, **more):
        return start.own(Demo(*arguments, **more))
    return begin


def run_as_it_stands(line):
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def content_of(output):
    """The text of an answer, whole or streamed."""
    lines = [json.loads(line) for line in output.splitlines() if line.strip()]
    assert lines[-1]["done"] is True, output
    return "".join(line["message"]["content"] for line in lines)


def test_the_curl_line(demo):
    running = demo("--phones", "3")
    assert f":{running.port}/" in running.curl
    text = content_of(run_as_it_stands(running.curl))
    assert text == counted(len(text.split())) and text
    assert len(running.health()) == 3
    until(lambda: all(p["healthy"] for p in running.health()), "all phones to be healthy")
    assert {p["engine"] for p in running.health()} == {"ollama", "llama-server"}, "of both kinds"


def test_by_default_there_are_some_phones(demo):
    running = demo()
    assert len(running.health()) >= 2
    until(lambda: all(p["healthy"] for p in running.health()), "all phones to be healthy")


@pytest.mark.parametrize("which", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_when_asked(demo, which):
    running = demo("--phones", "2")
    running.signal(which)
    assert running.wait(bound=10) == 0
    assert running.left_behind() == []


def test_real_llama_servers(demo, llama_programs, counting_model):
    """--model runs real llama-servers, found on PATH; they end with it."""
    running = demo("--phones", "2", "--model", str(counting_model),
                   env={"PATH": f"{llama_programs}:{os.environ['PATH']}", "GGML_NO_BACKTRACE": "1"})
    text = content_of(run_as_it_stands(running.curl))  # at once: whoever copies the line does not wait
    assert text == counted(len(text.split())) and text
    until(lambda: [p["healthy"] for p in running.health()] == [True, True], "both to be healthy")
    assert {p["engine"] for p in running.health()} == {"llama-server"}
    ports = [p["port"] for p in running.health()]
    assert all(request(port, "GET", "/health").headers["Server"] == "llama.cpp" for port in ports)
    children = running.left_behind()
    assert len(children) >= 3, "itself and two servers"
    running.signal(signal.SIGTERM)
    assert running.wait(bound=15) == 0
    until(lambda: running.left_behind() == [], "no child to be left", bound=2)


@pytest.mark.parametrize("arguments, said", [
    (["--model", "/no/such/file.gguf"], "/no/such/file.gguf"), (["--phones", "0"], "phones"),
    (["--phones", "x"], "phones"), (["--listen", "nonsense"], "nonsense|listen")])
def test_mistakes_are_told(start, arguments, said):
    done = subprocess.run([program(), "demo", *arguments], capture_output=True, text=True, timeout=20)
    assert done.returncode not in (0, None) and done.returncode > 0
    assert re.search(said, done.stdout + done.stderr)
    assert len((done.stdout + done.stderr).strip().splitlines()) <= 5


def test_model_without_llama_server(counting_model, tmp_path):
    """A clear word where llama-server is not installed."""
    done = subprocess.run([program(), "demo", "--listen", "127.0.0.1:0", "--model", str(counting_model)],
                          capture_output=True, text=True, timeout=20, env={**os.environ, "PATH": str(tmp_path)})
    assert done.returncode > 0
    assert "llama-server" in done.stdout + done.stderr
