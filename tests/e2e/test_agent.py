"""The phone's own agent (scripts/phone_setup.sh agent) against the real gateway."""
import os
import subprocess
import time

import pytest

from client import counted, fresh
from harness import until
from termux import SCRIPT, Termux

TOKEN = "fleet-token-0123456789"


@pytest.fixture
def token_file(tmp_path):
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")
    file.chmod(0o600)
    return file


@pytest.fixture
def termux(tmp_path):
    made = []

    def make(**more):
        made.append(Termux(tmp_path / f"phone-{len(made)}", **more))
        return made[-1]
    yield make
    for phone in made:
        phone.close()


@pytest.fixture
def known(start, token_file):
    """A simulated phone with an id, and a gateway that hears it."""
    phone = start.sim(1)[0]
    gateway = start.gateway([phone.entry(id="pf-1")], {"fleet_token_file": str(token_file)})
    return gateway, phone


def arguments(gateway, phone, token_file, *more, phone_id="pf-1"):
    return ["agent", "--gateway", gateway.url, "--token-file", str(token_file), "--device-id", phone_id, "--port",
            phone.port, "--interval", "2", *more]


def telemetry(gateway, phone_id="pf-1"):
    gone = next((p for p in gateway.health() if p.get("id") == phone_id and not p["draining"]), None)
    return gone and gone["telemetry"]


def test_decimals_and_nulls_arrive(known, termux, token_file):
    gateway, phone = known
    pixel = termux()
    pixel.battery(36.7, 64, "UNPLUGGED")
    pixel.good(*arguments(gateway, phone, token_file, "--once"))
    seen = telemetry(gateway)
    assert (seen["temperature_c"], seen["battery_level"], seen["charging"], seen["current_ua"]) == (36.7, 64, False, -120000)
    assert seen["memory_total_kb"] > 100000 and seen["wifi_rssi_dbm"] < 0


def test_without_termux_api_it_says_so_by_null(known, termux, token_file):
    gateway, phone = known
    pixel = termux()
    (pixel.state / "apps").write_text("com.termux\n")
    pixel.good(*arguments(gateway, phone, token_file, "--once"))
    seen = telemetry(gateway)
    assert seen["temperature_c"] is seen["battery_level"] is seen["charging"] is seen["wifi_rssi_dbm"] is None
    assert seen["memory_available_kb"] > 0


def test_heat_lowers_a_phones_share_and_raises_it_again(start, termux, token_file):
    phones = start.sim(2)
    gateway = start.gateway([phones[0].entry(id="pf-1"), phones[1]], {"fleet_token_file": str(token_file)})
    pixel = termux()

    def share():
        replies = [gateway.ask(fresh(), tokens=3) for _ in range(6)]
        assert [r.content() for r in replies] == [counted(3)] * 6
        return sum(r.headers["X-Phone"] == phones[0].name for r in replies)

    pixel.battery(35.0)
    pixel.good(*arguments(gateway, phones[0], token_file, "--once"))
    assert share() == 3
    pixel.battery(42.3)
    pixel.good(*arguments(gateway, phones[0], token_file, "--once"))
    assert share() == 0
    pixel.battery(37.9)
    pixel.good(*arguments(gateway, phones[0], token_file, "--once"))
    assert share() == 3


class Running:
    """The agent as its service runs it."""

    def __init__(self, phone, arguments, start):
        self.process = start.process("agent", [*phone.before, "env", "-i",
                                               *(f"{k}={v}" for k, v in phone.env.items()), "bash", str(SCRIPT),
                                               *map(str, arguments)])
        self.log = self.process.log


def test_a_hanging_sensor_does_not_hold_up_heartbeats(known, termux, token_file, start):
    gateway, phone = known
    pixel = termux()
    pixel.battery(None)
    Running(pixel, arguments(gateway, phone, token_file), start)
    until(lambda: telemetry(gateway), "a heartbeat", bound=5)

    def beats():
        return gateway.metrics().get(("pocketfleet_heartbeats_total", (("outcome", "ok"),)), 0)

    first = beats()
    began = time.monotonic()
    until(lambda: beats() >= first + 3, "three more", bound=12)
    assert time.monotonic() - began < 9, "2 s apart, not 5"
    assert telemetry(gateway)["temperature_c"] is None


def test_a_wrong_token_is_said_once(known, termux, tmp_path, start):
    gateway, phone = known
    wrong = tmp_path / "wrong"
    wrong.write_text("some-other-token-1234\n")
    wrong.chmod(0o600)
    agent = Running(termux(), arguments(gateway, phone, wrong), start)
    agent.log.wait_for(r"refuses the token \(401\)")
    assert telemetry(gateway) is None


def test_a_gateway_that_is_away_is_waited_for(start, termux, token_file):
    phone = start.sim(1)[0]
    gateway = start.gateway([phone.entry(id="pf-1")], {"fleet_token_file": str(token_file)})
    port = gateway.port
    gateway.stop()
    agent = Running(termux(), arguments(gateway, phone, token_file), start)
    agent.log.wait_for("no answer from the gateway")
    again = start.gateway([phone.entry(id="pf-1")], {"fleet_token_file": str(token_file)}, listen=f"127.0.0.1:{port}")
    until(lambda: telemetry(again), "the agent to come back", bound=10)
    agent.log.wait_for("the gateway knows this phone as")


def test_the_token_is_on_no_command_line(known, termux, token_file, start):
    """Looked at for as long as the agent beats three times, in all processes."""
    gateway, phone = known
    pixel = termux()
    Running(pixel, arguments(gateway, phone, token_file), start)
    seen, looked = [], 0

    def enough():
        nonlocal looked
        for pid in pixel.running():
            try:
                with open(f"/proc/{pid}/cmdline", "rb") as f:
                    looked += 1
                    if TOKEN.encode() in f.read():
                        seen.append(pid)
            except OSError:
                pass
        return gateway.metrics().get(("pocketfleet_heartbeats_total", (("outcome", "ok"),)), 0) >= 3

    until(enough, "three heartbeats", bound=15, step=0.002)
    assert looked > 100 and not seen


# ---- a phone that moves, in a network of its own


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


@pytest.fixture
def far(start, request):
    """A namespace with one address, 10.78.1.2, and a simulated phone in it; skipped where there can be none."""
    from test_lossy import FarPhone
    if os.geteuid() != 0 or subprocess.run(["unshare", "--net", "true"], capture_output=True, timeout=10).returncode:
        pytest.skip("NO NETWORK NAMESPACES HERE, NOT TESTED")

    class Far(FarPhone):
        def __init__(self):
            super().__init__(start, 78)
    phone = Far()
    request.addfinalizer(lambda: subprocess.run(["ip", "link", "del", phone.device], capture_output=True, timeout=10))
    return phone


def test_a_phone_that_gets_another_address_is_followed(start, termux, token_file, far):
    gateway = start.gateway([{"name": "pixel", "host": far.address, "port": 11434, "id": "pf-1"}],
                            {"fleet_token_file": str(token_file), "registration": "known",
                             "allow_unauthenticated_lan": True}, listen="0.0.0.0:0")
    assert gateway.ask(fresh(), tokens=3).content() == counted(3)
    pixel = termux(before=far.inside)
    agent = Running(pixel, ["agent", "--gateway", f"http://{far.near}:{gateway.port}", "--token-file", str(token_file),
                            "--device-id", "pf-1", "--port", "11434", "--interval", "2"], start)
    until(lambda: telemetry(gateway), "its first heartbeat")
    # DHCP gives it 10.77.78.3, and its old address to somebody else, whose server nobody may ask anything.
    other = "10.77.78.3"
    far.forwarder.stop()
    run(*far.inside, "ip", "addr", "del", f"{far.address}/24", "dev", "far")
    run(*far.inside, "ip", "addr", "add", f"{other}/24", "dev", "far")
    run(*far.inside, "ip", "addr", "add", f"{far.address}/32", "dev", "lo")
    here = start.process("forwarder", [*far.forwarder.command[:-1], other])
    here.log.wait_for("ready")
    stranger = start.process("stranger", [*far.inside, "/usr/bin/python3", "-c", STRANGER, far.address])
    stranger.log.wait_for("ready")
    moved = time.monotonic()
    until(lambda: any(p["host"] == other and p["healthy"] for p in gateway.health()), "the gateway to follow", bound=15)
    took = time.monotonic() - moved
    assert took < 8, f"one interval of 2 s, and two looks: {took:.1f} s"
    gateway.log.wait_for(r"a phone has moved .*phone=pixel address=10\.77\.78\.3:11434")
    questions = stranger.log.mark()
    for _ in range(5):
        assert gateway.ask(fresh(), tokens=3).content() == counted(3)
    said = [line for line in stranger.log.lines()[questions:] if "POST" in line]
    assert not said, said
    assert agent.process.running()


STRANGER = r"""
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        print("GET", self.path, flush=True)
        self.send_error(404)
    def do_POST(self):
        print("POST", self.path, flush=True)
        self.send_error(404)
    def log_message(self, *_):
        pass
server = http.server.ThreadingHTTPServer((sys.argv[1], 11434), Handler)
print("ready", flush=True)
server.serve_forever()
"""
