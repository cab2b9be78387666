"""scripts/adb_farm.py with a real adb and fake phones: ports that come back and are nobody else's, settings,
heartbeats; and real llama-servers behind the phones, which the gateway reaches over the cables.

Each test has an adb server of its own, on a port of its own, which ends with it.
"""
import contextlib
import http.server
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import threading

import pytest

from client import counted, request
from engines import LlamaServer, free_port
from harness import ROOT, PATIENCE, Process, program, until

sys.path.insert(0, str(ROOT / "tests" / "phone"))
from fake_adbd import BOOT_ID, Phone  # noqa: E402

FARM = ROOT / "scripts" / "adb_farm.py"


@pytest.fixture(scope="session")
def adb_program():
    """The path of a real adb. Where there is none: skipped, or failed if $POCKETFLEET_REQUIRE_ENGINE."""
    found = shutil.which("adb")
    if not found:
        why = "ADB IS NOT INSTALLED, NOT TESTED: apt-get install adb"
        if os.environ.get("POCKETFLEET_REQUIRE_ENGINE"):
            pytest.fail(why)
        pytest.skip(why)
    return found


class Table:
    """A table with phones on it, their cables, the machine at the other end, and its adb server."""

    def __init__(self, folder, adb, start):
        self.folder, self.start, self._adb = folder, start, adb
        self.phones, self._taken = [], set()
        self.map_file = folder / "adb_farm.json"
        self.port = self.port_of_own()
        first = 21000 + self.port % 1000 * 10  # for new phones; another run of these tests has other ports
        self.new_ports = f"{first}-{first + 9}"
        # Its home: where adb keeps its keys and logs, and nobody else's.
        self.env = {"ANDROID_ADB_SERVER_PORT": str(self.port), "HOME": str(folder), "TMPDIR": str(folder),
                    "ANDROID_VENDOR_KEYS": "", "ANDROID_SERIAL": ""}

    def port_of_own(self):
        """One that nobody listens on, away from where adb looks for emulators, and not given out before."""
        return until(lambda: next((p for p in [free_port()] if p >= 6000 and p not in self._taken
                                   and not self._taken.add(p)), None), "a free port")

    def adb(self, *arguments, check=True):
        done = subprocess.run([self._adb, *arguments], env={**os.environ, **self.env}, stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=PATIENCE)
        assert not check or done.returncode == 0, done
        return done.stdout + done.stderr

    def phone(self, model="Pixel 8", plugged=True, **more):
        phone = Phone(model, **more)
        self.phones.append(phone)
        if plugged:
            self.plug(phone)
        return phone

    def plug(self, phone):
        """What the kernel does for a cable: adb learns of the phone, whether it wants to or not."""
        phone.replug()
        self.adb("disconnect", phone.serial, check=False)
        self.adb("connect", phone.serial)
        until(lambda: phone.serial in self.states(), "adb to know the phone")
        strangers = set(self.states()) - {p.serial for p in self.phones}
        if strangers:
            pytest.skip(f"REAL PHONES ARE PLUGGED IN ({strangers}), NOT TESTED: these tests would change them")

    def unplug(self, phone):
        """adb goes on trying to reach a phone in the network that has left; one on a cable is gone at once."""
        phone.unplug()
        self.adb("disconnect", phone.serial, check=False)

    def states(self):
        lines = self.adb("devices").splitlines()
        return dict(line.split("\t") for line in lines if "\t" in line)

    def forwards(self):
        """{port here: (serial, port there)}"""
        words = [line.split() for line in self.adb("forward", "--list").splitlines()]
        return {int(w[1][4:]): (w[0], int(w[2][4:])) for w in words if len(w) == 3}

    def leads_to(self, port, phone, there):
        return self.forwards().get(port) == (phone.serial, there)

    def command(self, name, *arguments):
        ports = ["--ports", self.new_ports] if name == "forward" else []
        return [sys.executable, str(FARM), name, "--map", str(self.map_file), *ports, *map(str, arguments)]

    def farm(self, name, *arguments, status=0, env=None):
        """Runs it to its end; (stdout, stderr)."""
        done = subprocess.run(self.command(name, *arguments), env={**os.environ, **self.env, **(env or {})},
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE)
        assert done.returncode == status, done
        return done.stdout, done.stderr

    def watch(self, *arguments):
        watch = self.start.own(Process("watch", self.command("watch", "--poll", 0.1, *arguments), env=self.env))
        with watch.starting():
            watch.log.wait_for("^watching")
        return watch

    def map(self):
        return json.loads(self.map_file.read_text())

    def write_map(self, **phones):
        self.map_file.write_text(json.dumps(phones))

    def entry(self, phone, **more):
        """For the map: the phone on a port of this machine that is free now, its engine on its own 8080."""
        port = self.port_of_own()
        entries = self.map() if self.map_file.exists() else {}
        name = phone.model.lower().replace(" ", "-")
        entries[phone.serial] = {"port": port, "remote_port": 8080, "name": name, **more}
        self.map_file.write_text(json.dumps(entries))
        return port

    def clear(self):
        self.adb("kill-server", check=False)
        for phone in self.phones:
            phone.close()


@pytest.fixture
def table(tmp_path, adb_program, start):
    folder = tmp_path / "table"
    folder.mkdir()
    table = Table(folder, adb_program, start)
    yield table
    start.stop()  # what uses the phones, before them
    table.clear()


def stub(table, devices="", otherwise="exit 1"):
    """An adb that lists these, for what a fake phone cannot be."""
    file = table.folder / "stub-adb"
    file.write_text('#!/bin/sh\ncase "$*" in\nversion) echo "Android Debug Bridge version 1.0.41";;\n'
                    f"*devices*) cat <<'END'\nList of devices attached\n{devices}\nEND\n;;\n"
                    f"*--list) ;;\n*) {otherwise};;\nesac\n")
    file.chmod(0o755)
    return file


# ---- ports


def test_forward_gives_ports_and_keeps_them(table):
    a, b = table.phone("Pixel 8"), table.phone("SM G973F")
    table.farm("forward", "--remote-port", 8080, "--model", "qwen2.5:1.5b")
    made = table.map()
    assert [made[p.serial]["name"] for p in (a, b)] == ["pixel-8", "sm-g973f"]
    assert len({made[p.serial]["port"] for p in (a, b)}) == 2
    for phone in (a, b):
        entry = made[phone.serial]
        assert entry["remote_port"] == 8080 and entry["model"] == "qwen2.5:1.5b"
        assert table.leads_to(entry["port"], phone, 8080)
    before = table.forwards()
    table.farm("forward")
    assert table.map() == made and table.forwards() == before


def test_two_phones_of_one_model_have_two_names(table):
    phones = [table.phone("Pixel 8") for _ in range(2)]
    table.farm("forward")
    assert sorted(table.map()[p.serial]["name"] for p in phones) == ["pixel-8", "pixel-8-2"]


def test_bytes_pass(table):
    """Through the forward to what listens on the phone; a port where nothing does is a closed connection."""
    with http_server(lambda path, body: (200, {"data": [{"id": "tiny"}]})) as server:
        phone = table.phone(ports={8080: server.port, 8081: table.port_of_own()})
        port = table.entry(phone)
        table.farm("forward")
        assert request(port, "GET", "/v1/models").json() == {"data": [{"id": "tiny"}]}
        out, _ = table.farm("list")
        assert "llama-server" in out and "pixel-8" in out
        table.farm("forward", "--remote-port", 8081)
        assert table.forwards() == {port: (phone.serial, 8081)}, "the old one is gone, the port is kept"
        out, _ = table.farm("list")
        assert "silent" in out


def test_forward_after_unplugging(table):
    phone, other = table.phone(), table.phone("Pixel 6")
    ports = [table.entry(p) for p in (phone, other)]
    table.farm("forward")
    table.unplug(phone)
    assert list(table.forwards()) == [ports[1]], "adb forgets the forwards of a phone that leaves"
    out, _ = table.farm("forward")
    assert "not plugged in" in out
    table.farm("forward", "-s", phone.serial, status=1)
    table.plug(phone)
    assert list(table.forwards()) == [ports[1]], "and does not remember them"
    table.farm("forward")
    assert table.leads_to(ports[0], phone, 8080)


def test_no_port_is_stolen_from_another_phone(table):
    mine, other = table.phone(), table.phone("Pixel 6")
    port = table.entry(mine)
    table.adb("-s", other.serial, "forward", f"tcp:{port}", "tcp:9999")
    out, _ = table.farm("forward", "-s", mine.serial, status=1)
    assert str(port) in out and other.serial in out and "taken" in out and "--port" in out
    assert table.forwards() == {port: (other.serial, 9999)}
    better = table.port_of_own()
    table.farm("forward", "-s", mine.serial, "--port", better)
    assert table.forwards() == {port: (other.serial, 9999), better: (mine.serial, 8080)}


def test_no_port_is_taken_from_a_program(table):
    phone = table.phone()
    port = table.entry(phone)
    with socket.socket() as s:
        s.bind(("127.0.0.1", port))
        s.listen()
        out, _ = table.farm("forward", status=1)
        assert str(port) in out and "another program" in out
        assert table.forwards() == {}
    table.farm("forward")
    assert table.leads_to(port, phone, 8080)


def test_new_phones_get_ports_that_are_free(table):
    """Neither one of the map's, nor one that adb or a program has."""
    first = table.phone()
    table.farm("forward")
    base = table.map()[first.serial]["port"]
    second, third = table.phone("Pixel 6"), table.phone("Pixel 5")
    others = next(p for p in range(base + 1, base + 5) if "error" not in table.adb(
        "-s", first.serial, "forward", f"tcp:{p}", "tcp:1", check=False))
    table.farm("forward", "-s", second.serial)
    assert table.map()[second.serial]["port"] > others and table.leads_to(others, first, 1)
    table.farm("forward", "-s", third.serial)
    assert len({e["port"] for e in table.map().values()}) == 3


def test_unforward_removes_its_own_only(table):
    phone, other = table.phone(), table.phone("Pixel 6")
    port, others = table.entry(phone, reverse="8000"), table.entry(other)
    table.farm("forward")
    foreign = table.port_of_own()
    table.adb("-s", phone.serial, "forward", f"tcp:{foreign}", "tcp:5000")
    table.adb("-s", phone.serial, "reverse", "tcp:7000", "tcp:7001")
    out, _ = table.farm("unforward", "-s", phone.serial)
    assert str(port) in out and "8000" in out
    assert table.forwards() == {foreign: (phone.serial, 5000), others: (other.serial, 8080)}
    assert table.adb("-s", phone.serial, "reverse", "--list").split()[-2:] == ["tcp:7000", "tcp:7001"]
    assert "8000" not in table.adb("-s", phone.serial, "reverse", "--list")
    out, _ = table.farm("unforward", "--forget")
    assert table.map() == {} and table.forwards() == {foreign: (phone.serial, 5000)}


def test_unforward_leaves_a_port_that_somebody_else_has_now(table):
    mine, other = table.phone(), table.phone("Pixel 6")
    port = table.entry(mine)
    table.farm("forward")
    table.adb("-s", other.serial, "forward", f"tcp:{port}", "tcp:9999")  # as a careless tool does
    out, _ = table.farm("unforward")
    assert "nothing to remove" in out
    assert table.forwards() == {port: (other.serial, 9999)}


def test_never_with_a_heavy_hand(table):
    """Whatever it does: each phone by its serial number, no port rebound, nothing removed that is not named."""
    log = table.folder / "said"
    wrapper = table.folder / "logging-adb"
    wrapper.write_text(f'#!/bin/sh\necho "$*" >>{log}\nexec adb "$@"\n')
    wrapper.chmod(0o755)
    table.entry(table.phone(), reverse="8000")
    table.phone("Pixel 6")
    for command in ("forward", "list", "tune", "telemetry", "unforward"):
        table.farm(command, "--adb", wrapper)
    said = log.read_text().splitlines()
    ports = [x for x in said if "forward" in x or "reverse" in x]
    assert len([x for x in ports if "--no-rebind" in x]) == 3 and len([x for x in ports if "--remove " in x]) == 3
    assert all("--list" in x or "--no-rebind" in x or "--remove " in x for x in ports)
    assert all(x.startswith("-s ") for x in said if x not in ("version", "devices -l", "forward --list"))
    assert "kill" not in log.read_text() and "disconnect" not in log.read_text()


def test_many_at_once(table):
    """Each of them looks, and then sets what another may have set meanwhile."""
    phones = [table.phone() for _ in range(2)]
    ports = [table.entry(p, name=f"phone-{i}", reverse="8000") for i, p in enumerate(phones)]
    crowd = [table.start.own(Process("forward", table.command("forward"), env=table.env)) for _ in range(6)]
    assert [one.wait() for one in crowd] == [0] * 6, "\n".join(one.log.text() for one in crowd)
    assert table.forwards() == {port: (phone.serial, 8080) for port, phone in zip(ports, phones)}


def test_reverse_reaches_the_gateway(table):
    with http_server(lambda path, body: (200, {"path": path})) as server:
        phone = table.phone()
        table.entry(phone)
        table.farm("forward", "--reverse", f"8000:{server.port}")
        assert table.map()[phone.serial]["reverse"] == f"8000:{server.port}"
        reply = request(phone.reverse_ports[8000], "GET", "/from-the-phone")
        assert reply.json() == {"path": "/from-the-phone"}
        table.farm("forward")
        assert phone.opened.count(f"reverse:forward:norebind:tcp:8000;tcp:{server.port}") == 1, "once is enough"


def test_reverse_is_not_taken_from_somebody_else(table):
    phone = table.phone()
    table.entry(phone, reverse="8000")
    table.adb("-s", phone.serial, "reverse", "tcp:8000", "tcp:9000")
    out, _ = table.farm("forward", status=1)
    assert "tcp:9000" in out and "--reverse" in out
    assert table.adb("-s", phone.serial, "reverse", "--list").split()[-2:] == ["tcp:8000", "tcp:9000"]


# ---- phones that cannot be used, and files that cannot


def test_unauthorized(table):
    phone = table.phone(authorized=False)
    table.entry(phone)
    until(lambda: table.states()[phone.serial] == "unauthorized", "adb to be refused")
    out, _ = table.farm("forward", status=1)
    assert "unauthorized" in out and "Allow" in out
    out, _ = table.farm("list")
    assert "unauthorized" in out and "Allow" in out
    phone.allow()
    until(lambda: table.states()[phone.serial] == "device", "the tap to be seen")
    table.farm("forward")


def test_unauthorized_and_not_in_the_map(table):
    phone = table.phone(authorized=False)
    until(lambda: table.states()[phone.serial] == "unauthorized", "adb to be refused")
    _, errors = table.farm("forward")
    assert phone.serial in errors and "Allow" in errors
    assert not table.map_file.exists()
    _, errors = table.farm("forward", "-s", phone.serial, status=1)
    assert "Allow" in errors


def test_offline(table):
    phone = table.phone()
    table.entry(phone)
    phone.unplug()  # without a word to adb, which calls it offline for a while
    until(lambda: table.states().get(phone.serial) == "offline", "adb to see it")
    out, _ = table.farm("forward", status=1)
    assert "offline" in out and "cable" in out


def test_no_permissions(table):
    line = ("R58M30ABCDE            no permissions (user in plugdev group; are your udev rules wrong?); "
            "see [http://developer.android.com/tools/device.html] usb:1-2 transport_id:1")
    table.write_map(R58M30ABCDE={"port": 20500})
    for command, status in (("list", 0), ("forward", 1)):
        out, _ = table.farm(command, "--adb", stub(table, line), status=status)
        assert "no permissions" in out and "plugdev" in out


def test_two_phones_with_one_serial_number(table):
    lines = "\n".join(f"0123456789ABCDEF       device usb:1-{i} product:x model:Cheap device:x transport_id:{i}"
                      for i in (1, 2))
    _, errors = table.farm("forward", "--adb", stub(table, lines))
    assert "two phones" in errors


def test_adb_that_does_not_answer(table):
    table.write_map(R58M30ABCDE={"port": 20500})
    slow = stub(table, "R58M30ABCDE            device model:X transport_id:1", otherwise="exec sleep 60")
    out, _ = table.farm("forward", "--adb", slow, "--timeout", 0.3, status=1)
    assert "no answer within 0.3 s" in out


def test_no_adb(table):
    _, errors = table.farm("list", "--adb", "/nowhere/adb", status=1)
    assert "/nowhere/adb" in errors and "apt-get install adb" in errors


def test_server_of_another_version_is_not_killed(table):
    """A real client would kill it, and start its own."""
    heard = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        def answer():
            with contextlib.suppress(OSError):
                while True:
                    client, _ = server.accept()
                    heard.append(client.recv(100))
                    client.sendall(b"OKAY00040020")
                    client.close()
        threading.Thread(target=answer, daemon=True).start()
        _, errors = table.farm("list", status=1, env={"ANDROID_ADB_SERVER_PORT": str(server.getsockname()[1])})
    assert "version 32" in errors and "--adb PATH" in errors
    assert heard == [b"000chost:version"]


@pytest.mark.parametrize("text, where, what", [
    ('{"R58": {"port": 20500},}', ":1:25", "not JSON"),
    ("[]", "", "expected an object"),
    ('{"R58": 20500}', '"R58"', "expected an object"),
    ('{"R58": {}}', '"port"', "missing"),
    ('{"R58": {"port": 0}}', '"port" is 0', "1 to 65535"),
    ('{"R58": {"port": true}}', '"port" is true', "1 to 65535"),
    ('{"R58": {"port": 20500, "prot": 1}}', '"prot"', "not known"),
    ('{"R58": {"port": 20500}, "R59": {"port": 20500}}', '"R59"', 'belongs to "R58"'),
    ('{"R58": {"port": 20500, "name": "a"}, "R59": {"port": 20501, "name": "a"}}', '"R59"', 'belongs to "R58"'),
    ('{"R58": {"port": 20500}, "R58": {"port": 20501}}', "R58", "twice"),
    ('{"R 58": {"port": 20500}}', "R 58", "serial number"),
    ('{"R58": {"port": 20500, "reverse": "80000"}}', '"reverse"', "8000:9000"),
    ('{"R58": {"port": 20500, "engine": "vllm"}}', '"engine"', '"ollama"'),
])
def test_bad_map(table, text, where, what):
    table.map_file.write_text(text)
    _, errors = table.farm("emit-config", status=2)
    assert str(table.map_file) in errors and where in errors and what in errors
    assert len(errors.splitlines()) == 1


@pytest.mark.parametrize("arguments, what", [
    (["forward", "-s", "127.0.0.1:1", "--port", "70000"], "not plugged in"),
    (["forward", "--port", "20500"], "one phone"),
    (["forward", "--ports", "9-8"], "no range of ports"),
    (["emit-config", "-s", "nobody"], "not in the map"),
    (["telemetry", "--token-file", "x"], "--post"),
    (["telemetry", "--post", "127.0.0.1:8000"], "http://"),
])
def test_wrong_usage(table, arguments, what):
    status = 1 if what == "not plugged in" else 2
    _, errors = table.farm(*arguments, status=status)
    assert what in errors and "Traceback" not in errors


def test_help(table):
    for command in ("list", "forward", "watch", "unforward", "tune", "telemetry", "emit-config"):
        out, _ = table.farm(command, "--help")
        assert command in out and "--map" in out


# ---- watch


def test_watch_repairs_after_unplugging(table):
    phone, other = table.phone(), table.phone("Pixel 6")
    port, others = table.entry(phone), table.entry(other)
    watch = table.watch()
    until(lambda: set(table.forwards()) == {port, others}, "both ports")
    table.unplug(phone)
    watch.log.wait_for(r"pixel-8 .*not plugged in")
    assert list(table.forwards()) == [others]
    table.plug(phone)
    until(lambda: table.leads_to(port, phone, 8080), "the port to be back")
    watch.log.wait_for_lines(rf"pixel-8 .*127\.0\.0\.1:{port} leads to", 2)
    assert len([x for x in watch.log.lines() if "pixel-6" in x]) == 1, "nothing to tell of the other"
    watch.signal(signal.SIGINT)
    assert watch.wait() == 0
    assert watch.log.lines()[-1] == "ended" and "Traceback" not in watch.log.text()
    assert set(table.forwards()) == {port, others}


def test_watch_repairs_what_another_tool_removed(table):
    phone = table.phone()
    port = table.entry(phone, reverse="8000")
    watch = table.watch()
    watch.log.wait_for("leads to")
    table.adb("-s", phone.serial, "forward", "--remove-all")
    until(lambda: table.leads_to(port, phone, 8080), "the port to be back")
    table.adb("-s", phone.serial, "reverse", "--remove-all")
    until(lambda: phone.opened.count("reverse:forward:norebind:tcp:8000;tcp:8000") == 2, "the reverse to be back")
    watch.signal(signal.SIGTERM)
    assert watch.wait() == 0


def test_watch_outlives_the_adb_server(table):
    phone = table.phone()
    port = table.entry(phone)
    watch = table.watch()
    watch.log.wait_for("leads to")
    table.adb("kill-server")
    # A cable needs nobody to say this; and whoever asks first starts the new server.
    until(lambda: "connected" in table.adb("connect", phone.serial, check=False), "a new server")
    until(lambda: table.leads_to(port, phone, 8080), "the port to be back")
    watch.log.wait_for_lines("leads to", 2)
    assert watch.running()
    assert watch.stop() == 0


def test_watch_goes_on_when_adb_fails(table):
    """As it does while somebody else stops the server."""
    broken = table.folder / "broken"
    wrapper = table.folder / "failing-adb"
    fails = f'[ -e {broken} ] && echo "error: protocol fault" >&2 && exit 1'
    wrapper.write_text(f'#!/bin/sh\n{fails}\nexec adb "$@"\n')
    wrapper.chmod(0o755)
    table.entry(table.phone())
    watch = table.watch("--adb", wrapper)
    watch.log.wait_for("leads to")
    broken.touch()
    watch.log.wait_for("adb: .*protocol fault; trying again")
    broken.unlink()
    watch.log.wait_for("adb: good again")
    assert watch.stop() == 0


def test_watch_waits_for_a_stolen_port(table):
    phone, other = table.phone(), table.phone("Pixel 6")
    port = table.entry(phone)
    watch = table.watch()
    watch.log.wait_for("leads to its port")
    table.adb("-s", other.serial, "forward", f"tcp:{port}", "tcp:9999")
    watch.log.wait_for(f"port {port} of this machine is taken.*{other.serial}")
    assert table.forwards() == {port: (other.serial, 9999)}
    table.adb("-s", other.serial, "forward", "--remove", f"tcp:{port}")
    until(lambda: table.leads_to(port, phone, 8080), "the port to be back")
    assert len([x for x in watch.log.lines() if "is taken" in x]) == 1


def test_watch_names_new_phones_and_reads_the_map_anew(table):
    known = table.phone()
    table.entry(known)
    watch = table.watch()
    watch.log.wait_for("leads to")
    new = table.phone("Pixel 6")
    watch.log.wait_for(f"{new.serial}: not in the map")
    whole = table.map_file.read_text()
    table.map_file.write_text("{")
    watch.log.wait_for(r"map: .*not JSON.*going on")
    table.map_file.write_text(whole)
    watch.log.wait_for("map: good again")
    table.farm("forward", "-s", new.serial)
    watch.log.wait_for(r"pixel-6 .*leads to")


def test_watch_is_not_held_up_by_a_phone_that_is_silent(table):
    """Its reverse has to be asked for; the other phone's port is repaired meanwhile."""
    stuck, other = table.phone(), table.phone("Pixel 6")
    table.entry(stuck, reverse="8000")
    port = table.entry(other)
    watch = table.watch("--timeout", 0.5)
    watch.log.wait_for_lines("leads to", 2)
    stuck.frozen.set()
    watch.log.wait_for(r"pixel-8 .*no answer within 0\.5 s")
    table.adb("-s", other.serial, "forward", "--remove", f"tcp:{port}")
    until(lambda: table.leads_to(port, other, 8080), "the port to be back")
    stuck.unplug()  # whatever waits for its answer has one


# ---- tune


PHANTOM = ("global", "settings_enable_monitor_phantom_procs")


def undo_lines(out, phone):
    """The commands, as a shell would take them, each with adb's words in front."""
    start = f"adb -s {phone.serial} shell "
    return [line.strip() for line in out.splitlines() if line.strip().startswith(start)]


def test_tune_and_undo(table):
    phone = table.phone()
    table.entry(phone)
    before = (dict(phone.shell.settings), set(phone.shell.whitelist))
    out, _ = table.farm("tune")
    assert phone.shell.settings[PHANTOM] == "false"
    assert phone.shell.settings["global", "stay_on_while_plugged_in"] == "2"
    assert "com.termux" in phone.shell.whitelist
    undo = undo_lines(out, phone)
    assert len(undo) == 3

    done = len(phone.shell.changes())
    again, _ = table.farm("tune")
    assert again.count("already so") == 3 and not undo_lines(again, phone)
    assert len(phone.shell.changes()) == done, "what is so is not touched"

    for line in undo:
        subprocess.run(["sh", "-c", line], env={**os.environ, **table.env}, check=True, timeout=PATIENCE)
    assert (phone.shell.settings, phone.shell.whitelist) == before


def test_tune_keeps_what_was_set(table):
    phone = table.phone()
    table.entry(phone)
    phone.shell.settings.update({PHANTOM: "true", ("global", "stay_on_while_plugged_in"): "1"})
    out, _ = table.farm("tune")
    assert phone.shell.settings["global", "stay_on_while_plugged_in"] == "3", "the charger's stays beside USB's"
    assert "settings put global settings_enable_monitor_phantom_procs true" in out
    assert "settings put global stay_on_while_plugged_in 1" in out


@pytest.mark.parametrize("api", [30, 31, 32])
def test_tune_by_android_version(table, api):
    phone = table.phone(api=api)
    table.entry(phone)
    out, _ = table.farm("tune")
    limit = phone.shell.device_config.get(("activity_manager", "max_phantom_processes"))
    assert (limit, phone.shell.no_sync) == (("2147483647", "persistent") if api == 31 else (None, "none"))
    assert phone.shell.settings.get(PHANTOM) == ("false" if api == 32 else None)
    if api == 31:
        for line in undo_lines(out, phone):
            subprocess.run(["sh", "-c", line], env={**os.environ, **table.env}, check=True, timeout=PATIENCE)
        assert phone.shell.device_config == {} and phone.shell.no_sync == "none"


def test_tune_without_termux_dry_and_refused(table):
    phone = table.phone()
    table.entry(phone)
    out, _ = table.farm("tune", "--dry-run")
    assert len(undo_lines(out, phone)) == 3 and phone.shell.changes() == []
    phone.shell.packages.clear()
    _, errors = table.farm("tune", "--dry-run")
    assert "com.termux is not installed" in errors
    phone.shell.stubborn = True
    out, _ = table.farm("tune", status=1)
    assert "NOT SET" in out and "SecurityException" in out


# ---- telemetry


@contextlib.contextmanager
def http_server(answer):
    """On a free port; `answer(path, body)` gives the status and what becomes JSON. `taken`: what came, with headers."""
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.reply(None)

        def do_POST(self):
            self.reply(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def reply(self, body):
            server.taken.append((self.path, dict(self.headers), body))
            status, value = answer(self.path, body)
            data = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.port, server.taken = server.server_address[1], []
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def ollama(path, _):
    known = {"/api/version": {"version": "0.31.1"}, "/api/tags": {"models": [{"name": "qwen2.5:1.5b"}]}}
    return (200, known[path]) if path in known else (404, {})


def test_telemetry(table):
    """All keys, decimals, and null for what is not known."""
    with http_server(ollama) as server:
        phone = table.phone(ports={8080: server.port})
        port = table.entry(phone)
        table.farm("forward")
        out, _ = table.farm("telemetry")
    assert json.loads(out) == {
        "id": "adb-" + phone.serial.replace(":", "-"), "boot_id": BOOT_ID, "seq": 1, "name": "pixel-8",
        "interval_s": 10, "uptime_s": 1234.56,
        "engine": {"kind": "ollama", "version": "0.31.1", "port": 8080, "up": True, "models": ["qwen2.5:1.5b"]},
        "tunnel_port": port,
        "battery": {"temperature_c": 33.2, "level": 81, "charging": True, "current_ua": None},
        "memory": {"total_kb": 7654321, "available_kb": 3456789},
        "wifi": {"rssi_dbm": None, "link_mbps": None},
    }


@pytest.mark.parametrize("battery, expected", [
    ({"temperature": "-5", "level": "50", "scale": "200", "USB powered": "false"}, (-0.5, 25, False)),
    ({"temperature": "420", "Dock powered": "true", "USB powered": "false"}, (42.0, 81, True)),
    ({"present": "false"}, (None, None, None)),
    ({"temperature": "warm", "level": ""}, (None, None, True)),
    ({"temperature": "2147483647", "level": "-1"}, (None, None, True)),
    (None, (None, None, None)),
])
def test_battery(table, battery, expected):
    phone = table.phone()
    table.entry(phone)
    if battery is None:
        phone.shell.battery.clear()
    else:
        phone.shell.battery.update(battery)
    phone.shell.files.clear()
    body = json.loads(table.farm("telemetry")[0])
    assert tuple(body["battery"][k] for k in ("temperature_c", "level", "charging")) == expected
    assert body["memory"] == {"total_kb": None, "available_kb": None}
    assert body["boot_id"] is None and body["uptime_s"] is None and body["tunnel_port"] is None
    assert body["engine"]["up"] is False and body["engine"]["models"] == []


def test_telemetry_is_sent_as_heartbeats(table):
    phone, silent = table.phone(), table.phone("Pixel 6")
    table.entry(phone, id="pixel")
    table.entry(silent)
    silent.silent.set()
    token = table.folder / "token"
    token.write_text("sesame-1234\n")
    token.chmod(0o600)
    with http_server(lambda path, body: (200, {"phone": "pixel-8", "state": "serving", "reason": None})) as gateway:
        out, errors = table.farm("telemetry", "--post", f"http://127.0.0.1:{gateway.port}/", "--token-file", token,
                                 "--timeout", 0.5, status=1)
    assert "serving" in out and "no answer within" in errors
    (path, headers, body), = gateway.taken
    assert path == "/fleet/heartbeat" and headers["Authorization"] == "Bearer sesame-1234"
    assert body["id"] == "pixel" and body["battery"]["temperature_c"] == 33.2


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500])
def test_heartbeat_refused(table, status):
    phone = table.phone()
    table.entry(phone)
    with http_server(lambda path, body: (status, {"error": "no such phone"})) as gateway:
        out, _ = table.farm("telemetry", "--post", f"http://127.0.0.1:{gateway.port}", status=1)
    assert str(status) in out and "no such phone" in out


def test_heartbeats_again_and_again(table):
    """At the interval that the gateway wishes for; the sequence counts on; SIGTERM ends it."""
    phone = table.phone()
    table.entry(phone)
    with http_server(lambda path, body: (200, {"state": "serving", "interval_s": 2})) as gateway:
        loop = table.start.own(Process("telemetry", table.command(
            "telemetry", "--every", 60, "--post", f"http://127.0.0.1:{gateway.port}"), env=table.env))
        until(lambda: len(gateway.taken) == 2, "two heartbeats")
        assert [(b["seq"], b["interval_s"]) for _, _, b in gateway.taken] == [(1, 60), (2, 2)]
        loop.signal(signal.SIGTERM)
        assert loop.wait() == 0


# ---- with the gateway


def test_emit_config_passes_the_check(table):
    for model in ("Pixel 8", "SM-G973F"):
        table.phone(model)
    table.farm("forward", "--model", "qwen2.5:1.5b", "--engine", "llama-server")
    out, _ = table.farm("emit-config")
    entries = json.loads(out)
    assert {(e["name"], e["host"], e["serial"]) for e in entries} == {
        ("pixel-8", "127.0.0.1", table.phones[0].serial), ("sm-g973f", "127.0.0.1", table.phones[1].serial)}
    assert {e["model"] for e in entries} == {"qwen2.5:1.5b"}
    assert [e["port"] for e in entries] == [table.map()[e["serial"]]["port"] for e in entries]
    file = pathlib.Path(table.folder) / "phones.json"
    file.write_text(out)
    subprocess.run([program(), "check", str(file)], check=True, timeout=PATIENCE, capture_output=True)
    assert [e["id"] for e in entries] == ["adb-" + e["serial"].replace(":", "-") for e in entries]


def test_emit_config_of_nothing(table):
    _, errors = table.farm("emit-config", status=1)
    assert "forward" in errors


def test_gateway_hears_how_hot_a_phone_is(table, start):
    """By heartbeats over the cable; a phone that gets too hot rests."""
    sim, = start.sim(1)
    phone = table.phone(ports={8080: sim.port})
    token = table.folder / "token"
    token.write_text("sesame-1234-5678-9012-3456-7890\n")
    token.chmod(0o600)
    table.farm("forward", "--remote-port", 8080)
    gateway = start.gateway(json.loads(table.farm("emit-config")[0]),
                            {"registration": "known", "fleet_token_file": str(token),
                             "tunnel_ports": table.new_ports})

    def send():
        return table.farm("telemetry", "--post", gateway.url, "--token-file", token)[0]

    assert "serving" in send()
    seen, = gateway.health()
    assert seen["telemetry"]["temperature_c"] == 33.2 and not seen["resting"]
    phone.shell.battery["temperature"] = "470"
    assert "resting" in send()
    assert gateway.health()[0]["resting"]
    token.write_text("another-token-9012-3456-7890\n")
    out, _ = table.farm("telemetry", "--post", gateway.url, "--token-file", token, status=1)
    assert "401" in out


def test_gateway_over_the_cables(table, start, llama_programs, slow_model):
    """Two llama-servers, each on a phone: both answer; when one is unplugged in mid-stream the other goes on where it
    was; plugged in again and repaired, it gets its share again."""
    llamas = [start.own(LlamaServer(llama_programs, slow_model, alias="slow")) for _ in range(2)]
    phones = {}
    for model, llama in zip(("Pixel 8", "Pixel 6"), llamas):
        phone = table.phone(model, ports={8080: llama.port})
        table.entry(phone, model="slow", engine="llama-server")
        phones[model.lower().replace(" ", "-")] = phone
    watch = table.watch()
    watch.log.wait_for_lines("leads to", 2)
    entries = json.loads(table.farm("emit-config")[0])
    gateway = start.gateway(entries, {"probe_interval_s": 0.2})

    def both_answer():
        return {gateway.ask(tokens=3).headers["X-Phone"] for _ in range(4)} == set(phones)

    assert gateway.ask(tokens=20).content() == counted(20)
    until(both_answer, "both phones to answer")

    stream = gateway.ask_stream(tokens=600).begun(lines=20)
    first = stream.headers["X-Phone"]
    table.unplug(phones[first])
    stream.finish()
    assert stream.whole and stream.error() is None and stream.text() == counted(600), "not a token lost or twice"
    assert stream.last()["pocketfleet"]["rescues"] == 1
    until(lambda: not gateway.phone(first)["healthy"], "the unplugged phone to be seen as such")
    assert gateway.ask(tokens=5).content() == counted(5)

    table.plug(phones[first])
    watch.log.wait_for_lines(rf"{first} .*leads to", 2)
    gateway.wait_healthy(2)
    gateway.unsuspected()
    until(both_answer, "both phones to answer again")
