#!/usr/bin/env python3
"""Phones on USB cables as a fleet: each gets a port of this machine that leads to its engine, and keeps it.

    adb_farm.py forward                 every phone that is plugged in gets its port; new ones are written to the map
    adb_farm.py emit-config             the entries for the gateway's phones.json
    adb_farm.py watch                   ports come back when a phone does; runs until it is stopped
    adb_farm.py COMMAND --help          more about a command

The map (adb_farm.json, see --map) says which port belongs to which serial number. It is plain JSON and may be edited:

    {"R58M30ABCDE": {"port": 20500, "remote_port": 11434, "name": "galaxy-s10", "model": "qwen2.5:1.5b"}}

Other users of adb on this machine are left alone: no port is taken from another phone or program, nobody else's forward
is removed, and the adb server is never stopped. ANDROID_ADB_SERVER_PORT is honoured.

Exit status: 0 good, 1 something did not work (it says what), 2 wrong usage or a map that cannot be used.
"""
from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import dataclasses
import fcntl
import http.client
import json
import os
import pathlib
import random
import re
import select
import shlex
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
import urllib.parse
from collections.abc import Callable, Iterable, Iterator
from typing import Any

# The upper half of the ports that the gateway takes for tunnels; the lower half is left to phones on ssh.
PORTS = range(20500, 21000)
OLLAMA_PORT = 11434
QUICK_S = 5.0        # for what a phone answers at once, if it answers
ENGINE_S = 2.0
INTERVALS_S = (2, 300)
BACKOFF_MOST_S = 60.0
MOST_ANSWER = 1 << 20
TERMUX = "com.termux"

ADVICE = {
    "unauthorized": 'unlock the phone and tap "Allow" (tick "Always allow from this computer"). No such question: pull '
                    'the cable and plug it in again, or "Revoke USB debugging authorizations" in its Developer options',
    "offline": "adb sees the phone, but it does not answer: unlock it, pull the cable and plug it in again; if that "
               "does not help, switch USB debugging off and on, try another cable or port",
    "no permissions": "this user may not open the USB device: `sudo apt-get install "
                      "android-sdk-platform-tools-common`, `sudo usermod -aG plugdev $USER`, log in again, and plug "
                      "the phone in again",
    "authorizing": "wait a moment; if it stays so, look at the phone's screen",
    "connecting": "wait a moment",
    "twice": "two phones call themselves so, and adb cannot tell them apart: unplug one of them",
}
NOT_ANDROID = "Android does not run on it now: start it"


class Trouble(Exception):
    """Something the user has to know; `status` is the exit status it leads to."""

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.status = status


def printable(text: str, most: int = 300) -> str:
    """What a phone or another program said, on one line and without anything that steers a terminal."""
    return "".join(c if c.isprintable() else " " for c in text.strip())[:most]


def say(text: str) -> None:
    print(text, flush=True)


def complain(text: str) -> None:
    print(f"adb_farm: {text}", file=sys.stderr, flush=True)


# ---- the map


TEXT = re.compile(r"[!#-\[\]-~](?:[ !#-\[\]-~]*[!#-\[\]-~])?")  # what phones.json takes as a name or model
SERIAL = re.compile(r"[A-Za-z0-9._:][A-Za-z0-9._:-]{0,63}")
ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
REVERSE = re.compile(r"(\d{1,5})(?::(\d{1,5}))?")


def is_number(low: int, high: int) -> Callable[[Any], bool]:
    return lambda v: isinstance(v, int) and not isinstance(v, bool) and low <= v <= high


def is_text(pattern: re.Pattern[str], most: int) -> Callable[[Any], bool]:
    return lambda v: isinstance(v, str) and len(v) <= most and pattern.fullmatch(v) is not None


def is_reverse(value: Any) -> bool:
    found = REVERSE.fullmatch(value) if isinstance(value, str) else None
    return found is not None and all(1 <= int(port) <= 65535 for port in found.groups() if port)


PORT_WANTED = (is_number(1, 65535), "a whole number from 1 to 65535")
FIELDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "port": PORT_WANTED,
    "remote_port": PORT_WANTED,
    "name": (is_text(TEXT, 64), 'text of 1 to 64 ordinary characters, without " and \\'),
    "model": (is_text(TEXT, 256), 'text of 1 to 256 ordinary characters, without " and \\'),
    "engine": (lambda v: v in ("ollama", "llama-server", "auto"), '"ollama", "llama-server" or "auto"'),
    "id": (is_text(ID, 64), "1 to 64 letters, digits, dots, underscores and hyphens"),
    "weight": (is_number(1, 1000), "a whole number from 1 to 1000"),
    "max_concurrency": (is_number(1, 64), "a whole number from 1 to 64"),
    "reverse": (is_reverse, 'text like "8000", or "8000:9000": the phone\'s port, and the one of this machine'),
}


@dataclasses.dataclass(frozen=True)
class Phone:
    """One entry of the map."""

    serial: str
    port: int                            # of this machine; leads to
    remote_port: int = OLLAMA_PORT       # the engine's port on the phone
    name: str | None = None
    model: str | None = None
    engine: str | None = None
    id: str | None = None
    weight: int | None = None
    max_concurrency: int | None = None
    reverse: str | None = None           # "PHONE'S[:OURS]": how the phone reaches the gateway

    @property
    def title(self) -> str:
        return f"{self.name} ({self.serial})" if self.name else self.serial

    @property
    def forward(self) -> Forward:
        return Forward(self.serial, f"tcp:{self.port}", f"tcp:{self.remote_port}")

    @property
    def reverse_ends(self) -> tuple[str, str] | None:
        """As adb spells them: the phone's end, ours."""
        found = REVERSE.fullmatch(self.reverse or "")
        return (f"tcp:{found[1]}", f"tcp:{found[2] or found[1]}") if found else None

    @property
    def heartbeat_id(self) -> str:
        return self.id or ("adb-" + re.sub(r"[^A-Za-z0-9._-]", "-", self.serial))[:64]

    @property
    def engine_kind(self) -> str:
        """What serves the model, as far as it is known without asking."""
        if self.engine in ("ollama", "llama-server"):
            return self.engine
        return "ollama" if self.remote_port == OLLAMA_PORT else "llama-server"

    def entry(self) -> dict[str, Any]:
        """Its value in the map."""
        fields = dataclasses.asdict(self)
        del fields["serial"]
        return {k: v for k, v in fields.items() if v is not None}


def no_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [k for k, _ in pairs]
        raise Trouble(f"{next(k for k in keys if keys.count(k) > 1)!r} is there twice")
    return found


def read_phone(serial: str, entry: Any) -> Phone:
    if not SERIAL.fullmatch(serial):
        raise Trouble(f"{serial!r} is no serial number as `adb devices` prints it")
    if not isinstance(entry, dict):
        raise Trouble(f'"{serial}" is {json.dumps(entry)[:60]}; expected an object like {{"port": {PORTS[0]}}}')
    for key, value in entry.items():
        if key not in FIELDS:
            raise Trouble(f'"{serial}": "{printable(key)}" is not known; known are {", ".join(FIELDS)}')
        good, wanted = FIELDS[key]
        if not good(value):
            raise Trouble(f'"{serial}": "{key}" is {json.dumps(value)[:60]}; expected {wanted}')
    if "port" not in entry:
        raise Trouble(f'"{serial}": "port" is missing; expected {PORT_WANTED[1]}')
    return Phone(serial, **entry)


def check_unique(phones: Iterable[Phone]) -> None:
    for field in ("port", "name", "heartbeat_id"):
        owners: dict[Any, str] = {}
        for phone in phones:
            value = getattr(phone, field)
            if value is not None and value in owners:
                what = "id" if field == "heartbeat_id" else field
                raise Trouble(f'"{phone.serial}": {what} {json.dumps(value)} belongs to "{owners[value]}" already')
            owners[value] = phone.serial


class Map:
    """The file that says which port is whose. Changed as a whole, by one process at a time."""

    def __init__(self, file: str) -> None:
        self.file = pathlib.Path(file)

    def phones(self) -> dict[str, Phone]:
        """By serial number; none where there is no file yet."""
        try:
            text = self.file.read_text(encoding="utf-8")
        except FileNotFoundError:
            return {}
        except (OSError, UnicodeDecodeError) as e:
            raise Trouble(f"{self.file}: cannot be read: {e}", 2) from e
        try:
            return self._parsed(text)
        except json.JSONDecodeError as e:
            raise Trouble(f"{self.file}:{e.lineno}:{e.colno}: not JSON: {e.msg}", 2) from e
        except (Trouble, RecursionError) as e:
            raise Trouble(f"{self.file}: {e}", 2) from e

    @staticmethod
    def _parsed(text: str) -> dict[str, Phone]:
        whole = json.loads(text, object_pairs_hook=no_doubles)
        if not isinstance(whole, dict):
            raise Trouble(f'expected an object like {{"SERIAL": {{"port": {PORTS[0]}}}}}')
        phones = {serial: read_phone(serial, entry) for serial, entry in whole.items()}
        check_unique(phones.values())
        return phones

    def write(self, phones: dict[str, Phone]) -> None:
        lines = [f"  {json.dumps(s)}: {json.dumps(p.entry())}" for s, p in phones.items()]
        try:
            with tempfile.NamedTemporaryFile("w", dir=self.file.parent, prefix=self.file.name, delete=False) as new:
                new.write("{\n" + ",\n".join(lines) + "\n}\n" if lines else "{}\n")
            os.chmod(new.name, 0o644)
            os.replace(new.name, self.file)
        except OSError as e:
            raise Trouble(f"{self.file}: cannot be written: {e}") from e

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """For reading, changing and writing. The folder is what is locked, since the file is replaced."""
        try:
            folder = os.open(self.file.parent, os.O_RDONLY)
        except OSError as e:
            raise Trouble(f"{self.file}: {e.strerror}: {self.file.parent}", 2) from e
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)


# ---- adb


@dataclasses.dataclass(frozen=True)
class Device:
    """A phone as adb sees it."""

    serial: str
    state: str  # "device": usable; else a key of ADVICE, or what else runs on it
    model: str = ""

    @property
    def usable(self) -> bool:
        return self.state == "device"

    def explained(self) -> str:
        return f"{self.state}: {ADVICE.get(self.state, NOT_ANDROID)}"


@dataclasses.dataclass(frozen=True)
class Forward:
    serial: str
    local: str
    remote: str


DEVICE_LINE = re.compile(r"(?P<serial>\(no serial number\)|\S+)\s+(?P<state>no permissions|\S+)(?P<rest>.*)")


def read_devices(text: str) -> dict[str, Device]:
    """Of `adb devices -l`."""
    found: dict[str, Device] = {}
    for line in text.splitlines():
        m = DEVICE_LINE.fullmatch(line.strip())
        if not m or line.startswith(("*", "List of devices")):
            continue
        model = re.search(r" model:(\S+)", m["rest"])
        state = "twice" if m["serial"] in found else m["state"]
        found[m["serial"]] = Device(m["serial"], printable(state), model[1] if model else "")
    return found


class Adb:
    """The adb client, run once for each thing that is asked of it."""

    def __init__(self, program: str, bound: float) -> None:
        self.program, self.bound = program, bound
        self._version = self._own_version()

    def _own_version(self) -> int | None:
        found = re.search(r"version 1\.0\.(\d+)", self._output(["version"], self.bound).stdout)
        return int(found[1]) if found else None

    def devices(self) -> dict[str, Device]:
        return read_devices(self.run("devices", "-l"))

    def forwards(self) -> list[Forward]:
        words = [line.split() for line in self.run("forward", "--list").splitlines()]
        return [Forward(*w) for w in words if len(w) == 3]

    def reverses(self, serial: str) -> dict[str, str]:
        """The phone's end -> ours."""
        words = [line.split() for line in self.run("reverse", "--list", serial=serial, bound=QUICK_S).splitlines()]
        return {w[-2]: w[-1] for w in words if len(w) >= 2}

    def shell(self, serial: str, command: str) -> str:
        """What the command prints. How it ends is not told: old phones do not say, and others do so at whim."""
        return self.run("shell", command, serial=serial, any_end=True)

    def run(self, *arguments: str, serial: str | None = None, bound: float | None = None, any_end: bool = False) -> str:
        """What it prints. `any_end`: only a failure of adb itself is one."""
        self._spare_server()
        chosen = ["-s", serial] if serial else []
        done = self._output([*chosen, *arguments], min(bound or self.bound, self.bound))
        errors = "\n".join(x for x in done.stderr.splitlines() if not x.startswith("*"))
        if done.returncode and not (any_end and not errors.startswith(("error:", "adb:"))):
            why = re.sub(r"^(adb: )?(error: )?", "", errors) or f"it ended with status {done.returncode}"
            raise Trouble(f"`adb {arguments[0]}` failed: {printable(why)}")
        return done.stdout

    def _output(self, arguments: list[str], bound: float) -> subprocess.CompletedProcess[str]:
        # In a session of its own: Ctrl-C is for this program, which lets adb finish.
        try:
            return subprocess.run([self.program, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                                  errors="replace", timeout=bound, start_new_session=True, check=False)
        except subprocess.TimeoutExpired:
            raise Trouble(f"`adb {' '.join(arguments)[:60]}` gave no answer within {bound:g} s") from None
        except FileNotFoundError:
            raise Trouble(f"there is no {self.program}: `sudo apt-get install adb`, or --adb PATH") from None
        except OSError as e:
            raise Trouble(f"{self.program} cannot be run: {e.strerror}") from None

    def _spare_server(self) -> None:
        """A client kills a server of another version and starts its own. So it is not run where that would happen."""
        other = server_version()
        if other is not None and self._version is not None and other != self._version:
            raise Trouble(f"the adb server that runs here is of version {other}, and {self.program} of version "
                          f"{self._version} would kill it, with everybody's forwards; name the other adb by --adb PATH")


def server_version() -> int | None:
    """Of the adb server that runs here; None: none runs, or it does not say."""
    if os.environ.get("ADB_SERVER_SOCKET") or os.environ.get("ANDROID_ADB_SERVER_ADDRESS"):
        return None
    with contextlib.suppress(OSError, ValueError, OverflowError):
        port = int(os.environ.get("ANDROID_ADB_SERVER_PORT") or 5037)
        with socket.create_connection(("127.0.0.1", port), QUICK_S) as s:
            s.sendall(b"000chost:version")
            answer = s.makefile("rb").read(12)
        return int(answer[8:], 16) if answer.startswith(b"OKAY0004") else None
    return None


# ---- one phone's ports


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Of looking after one phone."""

    phone: Phone
    text: str
    good: bool = False
    absent: bool = False
    repaired: bool = False


def look_after(adb: Adb, phones: Iterable[Phone]) -> list[Outcome]:
    """Sets what is missing. Phones do not wait for each other."""
    devices, forwards, wanted = adb.devices(), adb.forwards(), list(phones)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        return list(pool.map(lambda p: look_after_one(adb, p, devices.get(p.serial), forwards), wanted))


def look_after_one(adb: Adb, phone: Phone, device: Device | None, forwards: list[Forward]) -> Outcome:
    if device is None:
        return Outcome(phone, "not plugged in", absent=True)
    if not device.usable:
        return Outcome(phone, device.explained())
    try:
        repaired = set_forward(adb, phone, forwards)
        repaired |= set_reverse(adb, phone)
    except Trouble as e:
        return Outcome(phone, str(e))
    text = f"127.0.0.1:{phone.port} leads to its port {phone.remote_port}"
    if ends := phone.reverse_ends:
        text += f", its 127.0.0.1:{ends[0][4:]} to port {ends[1][4:]} here"
    return Outcome(phone, text, good=True, repaired=repaired)


def is_forwarded(phone: Phone, forwards: list[Forward]) -> bool:
    """Trouble: its port is somebody else's."""
    there = next((f for f in forwards if f.local == phone.forward.local), None)
    if there and there != phone.forward:
        owner = printable(there.serial)
        raise Trouble(f"port {phone.port} of this machine is taken: somebody let it lead to {printable(there.remote)} "
                      f"of {owner} (`adb -s {owner} forward --remove {there.local}` would end that); it is left so. "
                      f"{another_port(phone)}")
    return there is not None


def set_forward(adb: Adb, phone: Phone, forwards: list[Forward]) -> bool:
    """True: it was missing, and is there now."""
    if is_forwarded(phone, forwards):
        return False
    try:
        adb.run("forward", "--no-rebind", phone.forward.local, phone.forward.remote, serial=phone.serial)
    except Trouble as e:
        if "rebind" in str(e) and is_forwarded(phone, adb.forwards()):
            return False  # a watch beside this one has been faster
        if "in use" in str(e):
            raise Trouble(f"port {phone.port} of this machine is taken by another program "
                          f"(`ss -ltnp sport = :{phone.port}` names it). {another_port(phone)}") from None
        raise
    return True


def another_port(phone: Phone) -> str:
    return f"Free it, or choose another: `adb_farm.py forward -s {phone.serial} --port N`"


def is_reversed(adb: Adb, phone: Phone, ends: tuple[str, str]) -> bool:
    """Trouble: that port of the phone leads elsewhere."""
    there = adb.reverses(phone.serial).get(ends[0])
    if there and there != ends[1]:
        raise Trouble(f"its port {ends[0][4:]} leads to {printable(there)} already, by somebody else's `adb reverse`; "
                      f"it is left so. Choose another: `adb_farm.py forward -s {phone.serial} --reverse N`")
    return there is not None


def set_reverse(adb: Adb, phone: Phone) -> bool:
    ends = phone.reverse_ends
    if not ends or is_reversed(adb, phone, ends):
        return False
    try:
        adb.run("reverse", "--no-rebind", *ends, serial=phone.serial, bound=QUICK_S)
    except Trouble as e:
        if "rebind" in str(e) and is_reversed(adb, phone, ends):
            return False
        raise
    return True


def release(adb: Adb, phone: Phone) -> list[str]:
    """Removes this phone's own entries, and nothing else; what they were."""
    gone = []
    if phone.forward in adb.forwards():
        adb.run("forward", "--remove", phone.forward.local, serial=phone.serial)
        gone.append(f"forward of port {phone.port}")
    device, ends = adb.devices().get(phone.serial), phone.reverse_ends
    if ends and device and device.usable and adb.reverses(phone.serial).get(ends[0]) == ends[1]:
        adb.run("reverse", "--remove", ends[0], serial=phone.serial, bound=QUICK_S)
        gone.append(f"reverse of its port {ends[0][4:]}")
    return gone


# ---- list, forward, unforward, emit-config


Arguments = argparse.Namespace


def chosen(phones: dict[str, Phone], serials: list[str] | None) -> list[Phone]:
    """Those that were named, or all."""
    for serial in serials or []:
        if serial not in phones:
            raise Trouble(f"{serial} is not in the map; in it are: {', '.join(phones) or 'none'}", 2)
    return [p for p in phones.values() if not serials or p.serial in serials]


def do_list(arguments: Arguments) -> int:
    adb, phones = Adb(arguments.adb, arguments.timeout), Map(arguments.map).phones()
    devices, forwards = adb.devices(), adb.forwards()
    rows, notes = [("SERIAL", "STATE", "NAME", "PORT", "LEADS TO", "ENGINE")], []
    for serial in [*phones, *(s for s in devices if s not in phones)]:
        device, phone = devices.get(serial), phones.get(serial)
        rows.append((serial, device.state if device else "not there", *port_columns(phone, forwards)))
        if device and not device.usable:
            notes.append(f"{serial} is {device.explained()}")
        elif device and not phone:
            notes.append(f"{serial} is not in the map: `adb_farm.py forward` gives it a port")
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        say("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
    for note in notes:
        say(note)
    return 0


def port_columns(phone: Phone | None, forwards: list[Forward]) -> tuple[str, str, str, str]:
    if phone is None:
        return "-", "-", "-", "-"
    there = next((f for f in forwards if f.local == phone.forward.local), None)
    if there == phone.forward:
        engine = engine_state(phone)
        return phone.name or "-", str(phone.port), str(phone.remote_port), engine["kind"] if engine["up"] else "silent"
    return phone.name or "-", str(phone.port), f"taken by {printable(there.serial)}" if there else "nothing", "-"


def free_port(among: range, taken: set[int]) -> int:
    for port in among:
        if port in taken:
            continue
        with socket.socket() as s, contextlib.suppress(OSError):
            s.bind(("127.0.0.1", port))
            return port
    raise Trouble(f"none of the ports {among[0]} to {among[-1]} is free: --ports A-B names others")


def free_name(device: Device, port: int, taken: set[str | None]) -> str:
    name = re.sub(r"[^a-z0-9]+", "-", device.model.lower()).strip("-")[:50] or f"phone-{port}"
    return next(n for n in [name, *(f"{name}-{i}" for i in range(2, 10000))] if n not in taken)


def new_phone(device: Device, phones: dict[str, Phone], forwards: list[Forward], among: range) -> Phone:
    taken = {p.port for p in phones.values()}
    taken |= {int(f.local[4:]) for f in forwards if re.fullmatch(r"tcp:\d+", f.local)}
    port = free_port(among, taken)
    return Phone(device.serial, port, name=free_name(device, port, {p.name for p in phones.values()}))


def add_new(adb: Adb, phones: dict[str, Phone], serials: list[str] | None, among: range) -> None:
    """Phones that are plugged in, or named, and have no port yet."""
    devices, forwards = adb.devices(), adb.forwards()
    for serial in serials or devices:
        device = devices.get(serial)
        if serial in phones or (not serials and device and not device.usable):
            continue
        if not device or not device.usable:
            raise Trouble(f"{serial} is {device.explained() if device else 'not plugged in, and not in the map'}")
        if not SERIAL.fullmatch(serial):
            complain(f"{printable(serial)}: phones.json takes no such serial number; left out")
            continue
        phones[serial] = new_phone(device, phones, forwards, among)


def apply_wishes(adb: Adb, phones: dict[str, Phone], arguments: Arguments) -> None:
    """What was said of the phones on the command line."""
    wishes = {k: v for k in FIELDS if (v := getattr(arguments, k, None)) is not None}
    for key, value in wishes.items():
        if not FIELDS[key][0](value):
            raise Trouble(f"--{key.replace('_', '-')} is {value!r}; expected {FIELDS[key][1]}", 2)
    before = chosen(phones, arguments.serial)
    phones.update({p.serial: dataclasses.replace(p, **wishes) for p in before})
    try:
        check_unique(phones.values())
    except Trouble as e:
        raise Trouble(str(e), 2) from None
    for old in before:
        new = phones[old.serial]
        if new.forward != old.forward or new.reverse != old.reverse:
            release(adb, old)


def do_forward(arguments: Arguments) -> int:
    for key in ("port", "name", "id"):  # no two phones may have the same
        if getattr(arguments, key) is not None and len(arguments.serial or []) != 1:
            raise Trouble(f"--{key} is for one phone: name it by -s SERIAL", 2)
    adb, file = Adb(arguments.adb, arguments.timeout), Map(arguments.map)
    with file.locked():
        before = file.phones()
        phones = dict(before)
        add_new(adb, phones, arguments.serial, arguments.ports)
        apply_wishes(adb, phones, arguments)
        if phones != before:
            file.write(phones)
    report_others(adb, phones, arguments)
    return report(look_after(adb, chosen(phones, arguments.serial)), arguments)


def report(outcomes: list[Outcome], arguments: Arguments) -> int:
    """Nobody expects every phone of the map to be there; one that was named is."""
    bad = False
    for outcome in outcomes:
        say(f"{outcome.phone.title}: {outcome.text}")
        bad |= not outcome.good and not (outcome.absent and not arguments.serial)
    if not outcomes:
        say("no phone is plugged in, and none is in the map: switch on USB debugging in its Developer options")
    return int(bad)


def report_others(adb: Adb, phones: dict[str, Phone], arguments: Arguments) -> None:
    """Phones that could not be given a port."""
    for device in adb.devices().values():
        if device.serial not in phones and not device.usable and not arguments.serial:
            complain(f"{printable(device.serial)} is {device.explained()}")


def do_unforward(arguments: Arguments) -> int:
    adb, file = Adb(arguments.adb, arguments.timeout), Map(arguments.map)
    with file.locked():
        phones = file.phones()
        leaving = chosen(phones, arguments.serial)
        good = [release_aloud(adb, phone) for phone in leaving]
        if arguments.forget and leaving:
            file.write({s: p for s, p in phones.items() if p not in leaving})
    return int(not all(good))


def release_aloud(adb: Adb, phone: Phone) -> bool:
    try:
        gone = release(adb, phone)
    except Trouble as e:
        say(f"{phone.title}: {e}")
        return False
    say(f"{phone.title}: {' and '.join(gone) + ' removed' if gone else 'nothing to remove'}")
    return True


def do_emit_config(arguments: Arguments) -> int:
    phones = chosen(Map(arguments.map).phones(), arguments.serial)
    if not phones:
        raise Trouble(f"{arguments.map}: there is no phone in the map; `adb_farm.py forward` puts them there")
    say(json.dumps([config_entry(p) for p in phones], indent=2))
    return 0


def config_entry(phone: Phone) -> dict[str, Any]:
    """The phone in phones.json."""
    entry = {"name": phone.name, "host": "127.0.0.1", "port": phone.port, "serial": phone.serial, "model": phone.model,
             "engine": phone.engine, "weight": phone.weight, "max_concurrency": phone.max_concurrency,
             "id": phone.heartbeat_id}
    return {k: v for k, v in entry.items() if v is not None}


# ---- running until told to end


class Ending:
    """SIGINT and SIGTERM, to be waited for. A socket, since a handler must not touch what its thread may hold."""

    def __init__(self) -> None:
        self._told, self._tell = socket.socketpair()
        self._tell.setblocking(False)
        for which in (signal.SIGINT, signal.SIGTERM):
            signal.signal(which, self._take)

    def _take(self, *_: Any) -> None:
        with contextlib.suppress(OSError):
            self._tell.send(b"x")

    def within(self, seconds: float) -> bool:
        return bool(select.select([self._told], [], [], seconds)[0])


class News:
    """Lets a line through when it is another than the last about the same thing."""

    def __init__(self) -> None:
        self._last: dict[str, str] = {}

    def tell(self, about: str, text: str, anyway: bool = False) -> None:
        if self._last.get(about) != text or anyway:
            say(f"{time.strftime('%H:%M:%S')} {about}: {text}")
        self._last[about] = text

    def forget(self, about: str) -> bool:
        return self._last.pop(about, None) is not None


class Watch:
    """Looks every few seconds, and repairs. The map is read anew each time; one that cannot be used is not."""

    def __init__(self, adb: Adb, file: Map) -> None:
        self._adb, self._file, self._news = adb, file, News()
        self._phones = file.phones()
        self._strangers: set[str] = set()  # plugged in, and not in the map

    def look(self) -> None:
        try:
            self._phones = self._file.phones()
            self._recovered("map")
        except Trouble as e:
            self._news.tell("map", f"{e}; going on with what it was")
        try:
            self._repair()
            self._recovered("adb")
        except Trouble as e:
            self._news.tell("adb", f"{e}; trying again")

    def _repair(self) -> None:
        for outcome in look_after(self._adb, self._phones.values()):
            self._news.tell(outcome.phone.title, outcome.text, anyway=outcome.repaired)
        strangers = {s: d for s, d in self._adb.devices().items() if s not in self._phones}
        for device in strangers.values():
            what = "not in the map: `adb_farm.py forward` gives it a port" if device.usable else device.explained()
            self._news.tell(printable(device.serial), what)
        for serial in self._strangers - set(strangers):
            self._news.forget(printable(serial))
        self._strangers = set(strangers)

    def _recovered(self, what: str) -> None:
        if self._news.forget(what):
            say(f"{time.strftime('%H:%M:%S')} {what}: good again")


def do_watch(arguments: Arguments) -> int:
    watch, ending = Watch(Adb(arguments.adb, arguments.timeout), Map(arguments.map)), Ending()
    say(f"watching; the map is {arguments.map}, Ctrl-C ends it and leaves the ports as they are")
    while True:
        watch.look()
        if ending.within(arguments.poll):
            say("ended")
            return 0


# ---- tune


@dataclasses.dataclass(frozen=True)
class Setting:
    """One thing about a phone that should be so. Commands are for the phone's shell."""

    what: str
    is_so: Callable[[], bool]
    change: tuple[str, ...]
    undo: tuple[str, ...]


Shell = Callable[[str], str]


def global_setting(shell: Shell, what: str, name: str, wanted: str, change: str | None = None) -> Setting:
    def read() -> str:
        return printable(shell(f"settings get global {name}"))

    put, old = f"settings put global {name} ", read()
    undo = f"settings delete global {name}" if old in ("", "null") else put + shlex.quote(old)
    return Setting(what, lambda: read() == wanted, (change or put + wanted,), (undo,))


def phantom_12(shell: Shell, what: str) -> Setting:
    """Android 12.0 has no switch, only a limit; and unless told otherwise it fetches that anew from afar."""
    get, most = "activity_manager max_phantom_processes", "2147483647"

    def read() -> str:
        return printable(shell(f"device_config get {get}"))

    old = read()
    undo = f"device_config delete {get}" if old in ("", "null") else f"device_config put {get} {shlex.quote(old)}"
    return Setting(what, lambda: read() == most,
                   ("device_config set_sync_disabled_for_tests persistent", f"device_config put {get} {most}"),
                   (undo, "device_config set_sync_disabled_for_tests none"))


def phantom(shell: Shell) -> list[Setting]:
    """Since Android 12 background processes are killed that take time or are many, as an engine is."""
    what, api = "background processes are not killed", printable(shell("getprop ro.build.version.sdk"))
    if not api.isdecimal():
        raise Trouble(f"its API level is {api!r}, which is no number")
    if int(api) < 31:
        return []
    if int(api) == 31:
        return [phantom_12(shell, what)]
    return [global_setting(shell, what, "settings_enable_monitor_phantom_procs", "false")]


def not_dozing(shell: Shell) -> list[Setting]:
    if "package:" not in shell(f"pm path {TERMUX}"):
        complain(f"{TERMUX} is not installed on it: nothing to keep from dozing")
        return []

    def is_so() -> bool:
        return f",{TERMUX}," in shell("dumpsys deviceidle whitelist")

    either_way = "dumpsys deviceidle whitelist"
    return [Setting("Termux may run while the phone dozes", is_so,
                    (f"{either_way} +{TERMUX}",), (f"{either_way} -{TERMUX}",))]


def awake_on_usb(shell: Shell) -> list[Setting]:
    """`svc` knows one source of power at a time; where another is set already, it is kept beside USB."""
    name, usb = "stay_on_while_plugged_in", 2
    text = printable(shell(f"settings get global {name}"))
    old = int(text) if text.isdecimal() else 0
    change = "svc power stayon usb" if old == 0 else None
    return [global_setting(shell, "the screen stays on with USB power", name, str(old | usb), change)]


def settle(setting: Setting, shell: Shell, undo_prefix: list[str], dry: bool) -> bool:
    """True: it is so now. `dry`: says what would be done."""
    if setting.is_so():
        say(f"  {setting.what}: already so")
        return True
    if dry:
        say(f"  {setting.what}: would be set by")
        for command in setting.change:
            say(f"    {shlex.join([*undo_prefix, command])}")
        return True
    answers = [shell(command) for command in setting.change]
    good = setting.is_so()
    if good:
        say(f"  {setting.what}: set. Undo:")
    else:
        say(f"  {setting.what}: NOT SET, the phone says: {printable(' '.join(answers)) or 'nothing'}. "
            'Some makers want "USB debugging (Security settings)" in Developer options. Undo, if part of it was done:')
    for command in setting.undo:
        say(f"    {shlex.join([*undo_prefix, command])}")
    return good


def tune_phone(adb: Adb, phone: Phone, dry: bool) -> bool:
    def shell(command: str) -> str:
        return adb.shell(phone.serial, command)

    good = True
    for wanted in (phantom, not_dozing, awake_on_usb):
        for setting in wanted(shell):
            good &= settle(setting, shell, [adb.program, "-s", phone.serial, "shell"], dry)
    return good


def do_tune(arguments: Arguments) -> int:
    adb, good = Adb(arguments.adb, arguments.timeout), True
    for phone, device in there(adb, chosen(Map(arguments.map).phones(), arguments.serial)):
        say(phone.title)
        try:
            if not device.usable:
                raise Trouble(device.explained())
            good &= tune_phone(adb, phone, arguments.dry_run)
        except Trouble as e:
            say(f"  {e}")
            good = False
    return int(not good)


def there(adb: Adb, phones: list[Phone]) -> list[tuple[Phone, Device]]:
    """Those that are plugged in; it is said which are not."""
    if not phones:
        raise Trouble("there is no phone in the map; `adb_farm.py forward` puts them there")
    devices = adb.devices()
    for phone in phones:
        if phone.serial not in devices:
            complain(f"{phone.title} is not plugged in")
    return [(p, devices[p.serial]) for p in phones if p.serial in devices]


# ---- telemetry


def read_battery(text: str) -> dict[str, Any]:
    """Of `dumpsys battery`, which tells the temperature in tenths of a degree. What is not known is None."""
    found = dict(re.findall(r"^\s*([A-Za-z ]+): (\S+)\s*$", text, re.MULTILINE))
    if found.get("present") == "false":
        found = {}
    tenths = whole_number(found.get("temperature"), -600, 1500)
    scale = whole_number(found.get("scale"), 1, 10**6) or 100
    level = whole_number(found.get("level"), 0, scale)
    powered = [v == "true" for k, v in found.items() if k.endswith(" powered")]
    return {"temperature_c": tenths / 10 if tenths is not None else None,
            "level": round(level * 100 / scale) if level is not None else None,
            "charging": any(powered) if powered else None,
            "current_ua": None}


def whole_number(text: str | None, low: int, high: int) -> int | None:
    """None for what cannot be: it is not known then."""
    number = int(text) if text and re.fullmatch(r"-?\d{1,12}", text) else None
    return number if number is not None and low <= number <= high else None


def read_memory(text: str) -> dict[str, int | None]:
    """Of /proc/meminfo."""
    found = dict(re.findall(r"^(\w+): +(\d+) kB", text, re.MULTILINE))
    return {"total_kb": whole_number(found.get("MemTotal"), 0, 10**12),
            "available_kb": whole_number(found.get("MemAvailable"), 0, 10**12)}


def json_of(port: int, path: str) -> Any:
    """What a GET there answers; None: no JSON, or no 200. OSError: nobody answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ENGINE_S)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read(MOST_ANSWER)
        return json.loads(body) if response.status == 200 else None
    except (ValueError, RecursionError):
        return None
    except http.client.HTTPException as e:
        raise OSError(str(e)) from e
    finally:
        connection.close()


def names(answer: Any, within: str, key: str) -> list[str]:
    """Of models, in what an engine answered."""
    items = answer.get(within) if isinstance(answer, dict) else None
    found = [i.get(key) for i in items if isinstance(i, dict)] if isinstance(items, list) else []
    return [n[:256] for n in found if isinstance(n, str)][:64]


def engine_state(phone: Phone) -> dict[str, Any]:
    """Asked through the forwarded port. Only Ollama has /api/version."""
    state: dict[str, Any] = {"kind": phone.engine_kind, "version": None, "port": phone.remote_port, "up": False,
                             "models": []}
    with contextlib.suppress(OSError):
        version = json_of(phone.port, "/api/version")
        if isinstance(version, dict) and isinstance(version.get("version"), str):
            models = names(json_of(phone.port, "/api/tags"), "models", "name")
            return {**state, "kind": "ollama", "version": version["version"][:64], "up": True, "models": models}
        answer = json_of(phone.port, "/v1/models")
        if isinstance(answer, dict):
            return {**state, "kind": "llama-server", "up": True, "models": names(answer, "data", "id")}
    return state


def heartbeat(adb: Adb, phone: Phone, forwarded: bool, seq: int, interval: int) -> dict[str, Any]:
    """What the phone's own agent would send, as far as it can be seen from here."""
    def shell(command: str) -> str:
        return adb.shell(phone.serial, command)

    boot_id = printable(shell("cat /proc/sys/kernel/random/boot_id"))
    uptime = re.match(r"\d+\.\d+", shell("cat /proc/uptime"))
    down = {"kind": phone.engine_kind, "version": None, "port": phone.remote_port, "up": False, "models": []}
    return {
        "id": phone.heartbeat_id,
        "boot_id": boot_id if re.fullmatch(r"[0-9a-f-]{36}", boot_id) else None,
        "seq": seq,
        "name": phone.name,
        "interval_s": interval,
        "uptime_s": float(uptime[0]) if uptime else None,
        "engine": engine_state(phone) if forwarded else down,
        "tunnel_port": phone.port if forwarded else None,
        "battery": read_battery(shell("dumpsys battery")),
        "memory": read_memory(shell("cat /proc/meminfo")),
        "wifi": {"rssi_dbm": None, "link_mbps": None},
    }


class Gateway:
    """Where heartbeats go. No proxy, no redirect: the token is for nobody else."""

    def __init__(self, url: str, token_file: str | None) -> None:
        try:
            parts = urllib.parse.urlsplit(url)
            self._host, self._port = parts.hostname or "", parts.port
            good = parts.scheme in ("http", "https") and self._host and not (parts.username or parts.query)
        except ValueError:
            good = False
        if not good:
            raise Trouble(f"--post is {url!r}; expected the gateway's address, like http://127.0.0.1:8000", 2)
        self._kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._path = parts.path.rstrip("/") + "/fleet/heartbeat"
        self._headers = {"Content-Type": "application/json", **authorization(token_file)}

    def post(self, beat: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """The status and the answer; OSError where there is none."""
        connection = self._kind(self._host, self._port, timeout=QUICK_S)
        try:
            connection.request("POST", self._path, json.dumps(beat), self._headers)
            response = connection.getresponse()
            body = response.read(MOST_ANSWER)
        except http.client.HTTPException as e:
            raise OSError(f"no proper answer ({type(e).__name__})") from e
        finally:
            connection.close()
        try:
            answer = json.loads(body)
        except (ValueError, RecursionError):
            answer = None
        return response.status, answer if isinstance(answer, dict) else {}


def authorization(token_file: str | None) -> dict[str, str]:
    if token_file is None:
        return {}
    try:
        with open(token_file, encoding="ascii") as file:
            if os.fstat(file.fileno()).st_mode & (stat.S_IRGRP | stat.S_IROTH):
                complain(f"{token_file} can be read by others: `chmod 600 {token_file}`")
            token = file.read(4096).strip()
    except (OSError, UnicodeDecodeError) as e:
        raise Trouble(f"--token-file {token_file} cannot be read: {e}", 2) from e
    if not re.fullmatch(r"[!-~]+", token):
        raise Trouble(f"--token-file {token_file}: expected a token on one line, and nothing else", 2)
    return {"Authorization": f"Bearer {token}"}


class Sender:
    """Sends heartbeats, and knows how long to wait until the next."""

    def __init__(self, gateway: Gateway, interval: int) -> None:
        self._gateway, self._news = gateway, News()
        self.interval = interval     # the gateway may wish for another
        self._backoff = 1.0

    def send(self, bodies: list[tuple[Phone, dict[str, Any]]]) -> bool:
        statuses = [self._send_one(phone, body) for phone, body in bodies]
        if all(s == 200 for s in statuses):
            self._backoff = 1.0
        elif any(s in (401, 403, 404) for s in statuses):
            self._backoff = BACKOFF_MOST_S
        else:
            self._backoff = min(self._backoff * 2, BACKOFF_MOST_S)
        return all(s == 200 for s in statuses)

    def wait(self) -> float:
        seconds = max(self.interval, self._backoff) if self._backoff > 1 else self.interval
        return seconds * random.uniform(0.9, 1.1)

    def _send_one(self, phone: Phone, body: dict[str, Any]) -> int:
        try:
            status, answer = self._gateway.post(body)
        except OSError as e:
            self._news.tell(phone.title, f"not sent: {e}")
            return 0
        if status != 200:
            self._news.tell(phone.title, f"refused with {status}: {printable(str(answer.get('error', '')))}")
            return status
        wish = answer.get("interval_s")
        if is_number(*INTERVALS_S)(wish):
            self.interval = wish
        reason = f" ({printable(str(answer['reason']))})" if answer.get("reason") else ""
        self._news.tell(phone.title, f"sent; it is {printable(str(answer.get('state', 'unknown')))}{reason}")
        return status


def read_all(adb: Adb, phones: list[Phone], seq: int, interval: int) -> tuple[list[tuple[Phone, dict[str, Any]]], bool]:
    """Heartbeats of all that are there, and whether none of these was silent."""
    present, forwards = there(adb, phones), adb.forwards()

    def one(pair: tuple[Phone, Device]) -> dict[str, Any] | Trouble:
        phone, device = pair
        try:
            if not device.usable:
                raise Trouble(device.explained())
            return heartbeat(adb, phone, phone.forward in forwards, seq, interval)
        except Trouble as e:
            return e

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        found = list(zip((phone for phone, _ in present), pool.map(one, present)))
    for phone, body in found:
        if isinstance(body, Trouble):
            complain(f"{phone.title}: {body}")
    bodies = [(phone, body) for phone, body in found if not isinstance(body, Trouble)]
    return bodies, len(bodies) == len(found)


def do_telemetry(arguments: Arguments) -> int:
    if arguments.token_file and not arguments.post:
        raise Trouble("--token-file goes with --post GATEWAY", 2)
    adb, file = Adb(arguments.adb, arguments.timeout), Map(arguments.map)
    interval = min(max(arguments.every or 10, INTERVALS_S[0]), INTERVALS_S[1])
    sender = Sender(Gateway(arguments.post, arguments.token_file), interval) if arguments.post else None
    if arguments.every:
        return telemetry_loop(adb, file, arguments, sender, interval)
    return telemetry_once(adb, file, arguments, sender, 1, interval)


def telemetry_once(adb: Adb, file: Map, arguments: Arguments, sender: Sender | None, seq: int, interval: int) -> int:
    bodies, good = read_all(adb, chosen(file.phones(), arguments.serial), seq, interval)
    if sender:
        return int(not (sender.send(bodies) and good))
    for _, body in bodies:
        say(json.dumps(body))
    return int(not good)


def telemetry_loop(adb: Adb, file: Map, arguments: Arguments, sender: Sender | None, interval: int) -> int:
    ending, seq = Ending(), 0
    while True:
        seq += 1
        try:
            telemetry_once(adb, file, arguments, sender, seq, sender.interval if sender else interval)
        except Trouble as e:
            complain(str(e))
        if ending.within(sender.wait() if sender else interval):
            return 0


# ---- the command line


def seconds(text: str) -> float:
    value = float(text)
    if not 0.05 <= value <= 3600:
        raise argparse.ArgumentTypeError(f"{text} is not between 0.05 and 3600")
    return value


def port_range(text: str) -> range:
    found = re.fullmatch(r"(\d{1,5})-(\d{1,5})", text)
    if not found or not 1 <= int(found[1]) <= int(found[2]) <= 65535:
        raise argparse.ArgumentTypeError(f"{text} is no range of ports like {PORTS[0]}-{PORTS[-1]}")
    return range(int(found[1]), int(found[2]) + 1)


def command(commands: Any, name: str, run: Callable[[Arguments], int], text: str, uses_adb: bool = True,
            serials: bool = True) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=text.splitlines()[0], description=text,
                                 formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.set_defaults(run=run)
    parser.add_argument("--map", metavar="FILE", default="adb_farm.json", help="the map (default: %(default)s)")
    if uses_adb:
        parser.add_argument("--adb", metavar="PATH", default="adb", help="the adb client (default: the one on PATH)")
        parser.add_argument("--timeout", metavar="S", type=seconds, default=15.0,
                            help="the longest that adb may take for one thing (default: %(default)g s)")
    if serials:
        parser.add_argument("-s", "--serial", action="append", metavar="SERIAL",
                            help="this phone only; may be given several times (default: all)")
    return parser


def add_forward(commands: Any) -> None:
    parser = command(commands, "forward", do_forward,
                     "Give phones their ports, and set what is missing.\n\n"
                     "A phone that is new gets the next free port and a name, and stands in the map from then on.\n"
                     "What is said here of a phone (--model, --port, ...) is kept in the map.")
    parser.add_argument("--remote-port", type=int, metavar="N",
                        help=f"the engine's port on the phone: {OLLAMA_PORT} is Ollama's (the default), 8080 "
                             "llama-server's")
    parser.add_argument("--model", metavar="TAG", help="the model, as the engine spells it")
    parser.add_argument("--engine", metavar="NAME", help="ollama, llama-server or auto")
    parser.add_argument("--reverse", metavar="G[:L]",
                        help="also let the phone's 127.0.0.1:G lead to port L (default: G) of this machine, where the "
                             "gateway listens: its heartbeats then need no Wi-Fi")
    parser.add_argument("--ports", type=port_range, metavar="A-B", default=PORTS,
                        help=f"where new phones get their ports (default: {PORTS[0]}-{PORTS[-1]}, which are among "
                             "those that the gateway takes for tunnels)")
    parser.add_argument("--port", type=int, metavar="N", help="the port of this machine (one phone only)")
    parser.add_argument("--name", help="the phone's name (one phone only)")
    parser.add_argument("--id", help="its id in heartbeats (one phone only; default: adb-SERIAL)")


def add_telemetry(commands: Any) -> None:
    parser = command(commands, "telemetry", do_telemetry,
                     "Battery, temperature and memory of each phone, for phones without Termux:API.\n\n"
                     "One line of JSON a phone; or sent to the gateway as the phone's heartbeat.")
    parser.add_argument("--post", metavar="URL", help="send them to this gateway, like http://127.0.0.1:8000")
    parser.add_argument("--token-file", metavar="FILE", help="the file with the fleet's token")
    parser.add_argument("--every", metavar="S", type=int, help="again and again, until Ctrl-C (2 to 300)")


def parser() -> argparse.ArgumentParser:
    whole = argparse.ArgumentParser(prog="adb_farm.py", description=__doc__,
                                    formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = whole.add_subparsers(metavar="COMMAND", required=True)
    command(commands, "list", do_list, "Show the phones, their states, ports and engines.", serials=False)
    add_forward(commands)
    watch = command(commands, "watch", do_watch,
                    "Set what is missing again and again: after unplugging, after a restart of the adb server.\n\n"
                    "A line is printed for each change. New phones are named, and not given a port: forward does that.",
                    serials=False)
    watch.add_argument("--poll", metavar="S", type=seconds, default=2.0, help="how often (default: %(default)g s)")
    unforward = command(commands, "unforward", do_unforward, "Remove these ports, and nobody else's.")
    unforward.add_argument("--forget", action="store_true", help="also take the phones out of the map")
    tune = command(commands, "tune", do_tune,
                   "Keep Android from stopping the engine; prints how to undo each change.\n\n"
                   "Nothing is changed that is so already. No root is needed.")
    tune.add_argument("-n", "--dry-run", action="store_true", help="say what would be done, and change nothing")
    add_telemetry(commands)
    command(commands, "emit-config", do_emit_config, "Print the phones as entries of phones.json.", uses_adb=False)
    return whole


def main() -> int:
    arguments = parser().parse_args()
    try:
        return arguments.run(arguments)
    except Trouble as e:
        complain(str(e))
        return e.status
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # whoever read has left; nothing is to be written at the end either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


if __name__ == "__main__":
    sys.exit(main())
