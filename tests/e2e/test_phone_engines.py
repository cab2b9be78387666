"""scripts/phone_setup.sh from nothing to an answer with a real llama-server and rpc-server, and through a real sshd."""
import json
import os
import signal
import socket
import subprocess

import pytest

import engines
from client import counted, fresh, request
from harness import until
from sshd import sshd  # noqa: F401
from termux import Termux

TOKEN = "fleet-token-0123456789"


@pytest.fixture
def termux(tmp_path, llama_programs):
    made = []

    def make():
        made.append(Termux(tmp_path / f"phone-{len(made)}", llama_programs))
        return made[-1]
    yield make
    for phone in made:
        phone.close()


@pytest.fixture
def token_file(tmp_path):
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")
    file.chmod(0o600)
    return file


def entry_of(phone):
    found = json.loads(phone.good("print-config"))
    return found[0] if isinstance(found, list) else found


def test_from_nothing_to_an_answer(start, termux, counting_model):
    pixel = termux()
    port = engines.free_port()
    said = pixel.good(str(counting_model), "--engine", "llama-release", "--engine-sha256", "unchecked", "--port", port,
                      "--ctx", "1024", "--yes", "--gateway", "none")
    assert f'"port": {port}' in said.replace('"port":', '"port": ').replace("  ", " "), said
    gateway = start.gateway([entry_of(pixel)])
    assert gateway.ask(fresh(), tokens=50).content() == counted(50)
    again = pixel.good("install")
    assert "unchanged" in again and gateway.ask(fresh(), tokens=5).content() == counted(5)
    status = json.loads(pixel.good("status", "--json"))
    assert status["services"]["engine"] == "run", status
    pixel.good("stop")
    until(lambda: not gateway.health()[0]["healthy"], "the gateway to see that it has stopped")
    pixel.good("start")
    gateway.wait_healthy(1)
    assert gateway.ask(fresh(), tokens=5).content() == counted(5)
    pixel.good("uninstall", "--purge", "--yes")
    assert not (pixel.home / "pocketfleet").exists()
    assert not [p for p in (pixel.prefix / "var/service").glob("pocketfleet-*")]


def test_an_engine_that_wants_a_key(start, termux, counting_model, tmp_path):
    """In the whole network, and useless to whoever has no key; the gateway has it."""
    key = tmp_path / "key"
    key.write_text("a-key-for-the-engine-123\n")
    key.chmod(0o600)
    pixel, port = termux(), engines.free_port()
    pixel.good(str(counting_model), "--engine", "llama-release", "--engine-sha256", "unchecked", "--port", port, "--bind",
               "0.0.0.0", "--api-key-file", key, "--ctx", "1024", "--yes", "--gateway", "none")
    body = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}
    assert request(port, "POST", "/v1/chat/completions", body).status == 401
    entry = {**entry_of(pixel), "host": "127.0.0.1"}
    without = start.gateway([entry], healthy=0)
    until(lambda: "wants another key" in without.health()[0]["reason"], "the gateway to see why not")
    for phones, settings in (([{**entry, "api_key_file": str(key)}], {}), ([entry], {"phone_api_key_file": str(key)})):
        gateway = start.gateway(phones, settings)
        assert gateway.ask(fresh(), tokens=30).content() == counted(30)
        assert "a-key-for" not in gateway.log.text()


def test_the_roles_of_a_split_model(start, termux, counting_model):
    """Two workers and a master by the script's own command lines; the model's layers are on the workers."""
    workers = []
    for _ in range(2):
        worker, port = termux(), engines.free_port()
        worker.good("install", "--engine", "llama-release", "--engine-sha256", "unchecked", "--role", "rpc-worker",
                    "--port", port, "--yes", "--gateway", "none")
        worker.good("start")
        until(lambda: "rpc" in worker.service_log("engine").lower(), "the worker to be up")
        workers.append((worker, port))
    master, port = termux(), engines.free_port()
    master.good(str(counting_model), "--engine", "llama-release", "--engine-sha256", "unchecked", "--role", "rpc-master",
                "--port", port, "--rpc", ",".join(f"127.0.0.1:{p}" for _, p in workers), "--tensor-split", "1,1",
                "--ngl", "99", "--ctx", "512", "--yes", "--gateway", "none")
    gateway = start.gateway([entry_of(master)])
    assert gateway.ask(fresh(), tokens=30).content() == counted(30)
    for worker, _ in workers:
        assert "Accepted client connection" in worker.service_log("engine"), worker.outputs()


# ---- through a tunnel


def answers(port):
    try:
        with socket.create_connection(("127.0.0.1", port), 1):
            return True
    except OSError:
        return False


def test_a_tunnel_goes_up_and_comes_back(start, termux, counting_model, sshd, token_file):
    remote, port = engines.free_port(), engines.free_port()
    gateway = start.gateway([], {"registration": "open", "fleet_token_file": str(token_file),
                                 "tunnel_ports": f"{remote}-{remote}"})
    pixel = termux()
    said = pixel.good(str(counting_model), "--engine", "llama-release", "--engine-sha256", "unchecked", "--port", port,
                      "--ctx", "1024", "--yes", "--device-id", "pf-1", "--gateway", gateway.url, "--interval", "2",
                      "--tunnel", f"{sshd.user}@127.0.0.1:{sshd.port}", "--remote-port", remote, "--tunnel-host-key",
                      sshd.host_key, env={"POCKETFLEET_TOKEN": TOKEN})
    # The host's side as the script prints it.
    line = next(line.strip() for line in said.splitlines() if line.strip().startswith("restrict,"))
    assert f'permitlisten="127.0.0.1:{remote}"' in line
    sshd.authorized.write_text(line + "\n")
    until(lambda: answers(remote), "the tunnel to be up", bound=30)
    until(lambda: [p for p in gateway.health() if p["healthy"] and p["port"] == remote], "the phone to be in the fleet",
          bound=20)
    assert gateway.ask(fresh(), tokens=20).content() == counted(20)

    # The connection dies: runit starts it again (here the test does, in its place).
    os.kill(pixel.pid_of("tunnel"), signal.SIGKILL)
    until(lambda: not answers(remote), "the tunnel to be down")
    until(lambda: not any(p["healthy"] for p in gateway.health()), "the gateway to see it")
    pixel.good("restart")
    until(lambda: answers(remote), "the tunnel to be back", bound=30)
    gateway.wait_healthy(1)
    assert gateway.ask(fresh(), tokens=20).content() == counted(20)


def test_a_key_that_is_restricted_can_do_nothing_else(start, termux, counting_model, sshd):
    remote = engines.free_port()
    pixel = termux()
    said = pixel.good("install", str(counting_model), "--engine", "llama-release", "--engine-sha256", "unchecked",
                      "--port", engines.free_port(), "--yes", "--gateway", "none", "--tunnel",
                      f"{sshd.user}@127.0.0.1:{sshd.port}", "--remote-port", remote, "--tunnel-host-key", sshd.host_key)
    sshd.authorized.write_text(next(x.strip() for x in said.splitlines() if x.strip().startswith("restrict,")) + "\n")
    ssh = ["ssh", "-T", "-F", "none", "-p", str(sshd.port), "-i", str(pixel.home / "pocketfleet/ssh/id_ed25519"), "-o",
           "BatchMode=yes", "-o", f"UserKnownHostsFile={pixel.home}/pocketfleet/ssh/known_hosts", "-o",
           "ExitOnForwardFailure=yes", "-o", "IdentitiesOnly=yes"]
    other = engines.free_port()
    done = subprocess.run([*ssh, "-N", "-R", f"127.0.0.1:{other}:127.0.0.1:1", f"{sshd.user}@127.0.0.1"],
                          capture_output=True, text=True, timeout=30)
    assert done.returncode != 0 and "remote port forwarding failed" in done.stderr, done.stderr
    # No other machine by way of the host, and no command.
    local = engines.free_port()
    onwards = start.process("ssh -L", [*ssh, "-N", "-L", f"127.0.0.1:{local}:127.0.0.1:{sshd.port}",
                                       f"{sshd.user}@127.0.0.1"])
    until(lambda: answers(local), "ssh to listen")
    with socket.create_connection(("127.0.0.1", local), 10) as line:
        assert line.recv(100) == b"", "sshd's banner came through"
    onwards.log.wait_for("administratively prohibited")
    done = subprocess.run([*ssh, f"{sshd.user}@127.0.0.1", "echo", "in"], capture_output=True, text=True, timeout=30)
    assert done.returncode != 0 and "in\n" not in done.stdout


def test_a_stale_listener_is_waited_out(start, termux, counting_model, sshd):
    """The host still holds the port of a connection that is dead: the new one tries until it is free."""
    remote = engines.free_port()
    pixel = termux()
    said = pixel.good("install", str(counting_model), "--engine", "llama-release", "--engine-sha256", "unchecked",
                      "--port", engines.free_port(), "--yes", "--gateway", "none", "--tunnel",
                      f"{sshd.user}@127.0.0.1:{sshd.port}", "--remote-port", remote, "--tunnel-host-key", sshd.host_key)
    sshd.authorized.write_text(next(x.strip() for x in said.splitlines() if x.strip().startswith("restrict,")) + "\n")
    run_file = pixel.prefix / "var/service/pocketfleet-tunnel/run"
    with socket.socket() as stale:
        stale.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        stale.bind(("127.0.0.1", remote))
        stale.listen()
        done = subprocess.run([str(run_file)], env=pixel.env, cwd=run_file.parent, capture_output=True, text=True,
                              timeout=60)
        assert done.returncode != 0 and "remote port forwarding failed" in done.stdout + done.stderr
    tunnel = start.process("tunnel", [str(run_file)], env=pixel.env)
    until(lambda: answers(remote), "the tunnel to be up", bound=30)
    assert tunnel.running()
