#!/usr/bin/python3
"""Fake phones for a real adb: each speaks adbd's protocol on a TCP port of 127.0.0.1.

    adb connect 127.0.0.1:PORT       makes adb know one; its serial is then 127.0.0.1:PORT

A phone has ports of its own (`ports` says which port of this machine stands behind each of them), a battery, system
properties and settings, and a shell that knows the few commands the tools of this project use. It can be unplugged and
plugged in again, forget who may debug it, and stop answering.

In a test: make a Phone, and close() it. By hand, with commands on stdin (`help` lists them):

    fake_adbd.py PORT[:MODEL[:PHONE_PORT=LOCAL_PORT,...]] ...

adb looks for emulators on ports 5555 to 5585 and would find a phone there a second time: use 6000 and above.
"""
import contextlib
import itertools
import re
import shlex
import socket
import struct
import sys
import threading

CNXN, AUTH, OPEN, OKAY, CLSE, WRTE = (int.from_bytes(n, "little")
                                      for n in (b"CNXN", b"AUTH", b"OPEN", b"OKAY", b"CLSE", b"WRTE"))
VERSION = 0x01000000
MOST_DATA = 256 * 1024
A_TOKEN, A_PUBLIC_KEY = 1, 3               # kinds of AUTH
STDOUT, STDERR, EXIT = 1, 2, 3             # packets of the shell,v2 service

MEMORY = "MemTotal:        7654321 kB\nMemFree:          123456 kB\nMemAvailable:    3456789 kB\n"
BOOT_ID = "3b0e9d7c-1f5a-4c53-9d5e-0a2b4c6d8e0f"


def listener(port=0):
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(("127.0.0.1", port))
    s.listen()
    return s


def hang_up(s):
    with contextlib.suppress(OSError):
        s.shutdown(socket.SHUT_RDWR)
    s.close()


def failure(why):
    """As adbd tells of it."""
    return b"FAIL%04x" % len(why) + why.encode()


def thread(work, *arguments):
    threading.Thread(target=work, args=arguments, daemon=True).start()


class Shell:
    """What `adb shell` reaches: commands in, (text, exit status) out. Everything it was asked is in `asked`."""

    def __init__(self, model, release, api):
        self.props = {"ro.product.model": model, "ro.build.version.release": str(release),
                      "ro.build.version.sdk": str(api)}
        self.packages = {"com.termux"}
        self.settings = {("global", "stay_on_while_plugged_in"): "0"}
        self.device_config = {}
        self.no_sync = "none"
        self.whitelist = {"com.android.vending"}
        self.battery = {"AC powered": "false", "USB powered": "true", "Wireless powered": "false",
                        "Max charging current": "500000", "status": "2", "health": "2", "present": "true",
                        "level": "81", "scale": "100", "voltage": "4123", "temperature": "332",
                        "technology": "Li-ion"}
        self.files = {"/proc/meminfo": MEMORY, "/proc/uptime": "1234.56 4321.00\n",
                      "/proc/sys/kernel/random/boot_id": BOOT_ID + "\n"}
        self.stubborn = False  # takes no change, as a vendor's Android may do
        self.asked = []

    def run(self, line):
        self.asked.append(line)
        words = shlex.split(line)
        known = {"dumpsys": self.dumpsys, "getprop": self.getprop, "settings": self.do_settings, "svc": self.svc,
                 "device_config": self.do_device_config, "pm": self.pm, "cat": self.cat, "echo": self.echo}
        if not words or words[0] not in known:
            return f"/system/bin/sh: {line}: not found\n", 127
        return known[words[0]](*words[1:])

    def changes(self):
        """The commands that would change something."""
        return [c for c in self.asked if re.search(r" put | delete |^svc|whitelist [+-]|set_sync_disabled", c)]

    def dumpsys(self, service="", *words):
        if service == "battery":
            return "Current Battery Service state:\n" + "".join(f"  {k}: {v}\n" for k, v in self.battery.items()), 0
        if service == "deviceidle" and words[:1] == ("whitelist",):
            return self.deviceidle(*words[1:])
        return f"Can't find service: {service}\n", 0

    def deviceidle(self, change=None):
        if change is None:
            system = "system-excidle,com.android.vending,10042\n"
            return system + "".join(f"user,{p},10123\n" for p in sorted(self.whitelist)), 0
        package = change[1:]
        if change[0] == "+" and package not in self.packages:
            return f"Unknown package: {package}\n", 0
        if not self.stubborn:
            (self.whitelist.add if change[0] == "+" else self.whitelist.discard)(package)
        return f"{'Added' if change[0] == '+' else 'Removed'}: {package}\n", 0

    def getprop(self, name):
        return self.props.get(name, "") + "\n", 0

    def do_settings(self, verb, space, name, value=None):
        if verb == "get":
            return self.settings.get((space, name), "null") + "\n", 0
        if self.stubborn:
            return "java.lang.SecurityException: Permission denial: writing to settings\n", 255
        if verb == "put":
            self.settings[space, name] = value
            return "", 0
        return f"Deleted {int(self.settings.pop((space, name), None) is not None)} rows\n", 0

    def svc(self, *words):
        kinds = {"false": "0", "true": "7", "ac": "1", "usb": "2", "wireless": "4"}
        if words[:2] != ("power", "stayon") or words[-1] not in kinds:
            return "Available commands:\n    power\n", 0
        if not self.stubborn:
            self.settings["global", "stay_on_while_plugged_in"] = kinds[words[2]]
        return "", 0

    def do_device_config(self, verb, *words):
        if verb == "get_sync_disabled_for_tests":
            return self.no_sync + "\n", 0
        if verb == "set_sync_disabled_for_tests":
            self.no_sync = words[0]
        elif verb == "get":
            return self.device_config.get(words, "null") + "\n", 0
        elif verb == "put":
            self.device_config[words[:2]] = words[2]
        elif verb == "delete":
            self.device_config.pop(words, None)
        return "", 0

    def pm(self, verb, package):
        if verb == "path" and package in self.packages:
            return f"package:/data/app/{package}/base.apk\n", 0
        return "", 1

    def cat(self, file):
        if file in self.files:
            return self.files[file], 0
        return f"cat: {file}: Permission denied\n", 1

    def echo(self, *words):
        return " ".join(words) + "\n", 0


class Stream:
    """One of the many connections that run through a link."""

    def __init__(self, link, local, remote):
        self.link, self.local, self.remote = link, local, remote
        self.socket = None
        self.may_send = threading.Event()  # the other side has taken the last piece
        self.closed = False

    def accept(self):
        self.link.send(OKAY, self.local, self.remote)

    def write(self, data):
        for i in range(0, len(data), MOST_DATA):
            self.may_send.clear()
            self.link.send(WRTE, self.local, self.remote, data[i:i + MOST_DATA])
            self.may_send.wait()
            if self.closed:
                return

    def pump(self):
        """Everything from its socket to the other side."""
        while not self.closed:
            try:
                data = self.socket.recv(65536)
            except OSError:
                data = b""
            if not data:
                break
            self.write(data)
        self.close()

    def close(self):
        self.link.send(CLSE, self.local, self.remote)
        self.drop()

    def drop(self):
        """Without a word to the other side, which is gone or has said so itself."""
        self.link.streams.pop(self.local, None)
        self.closed = True
        self.may_send.set()
        if self.socket:
            hang_up(self.socket)


class Link:
    """One connection of an adb server to a phone."""

    def __init__(self, phone, s):
        self.phone, self._socket = phone, s
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sending = threading.Lock()
        self._ids = itertools.count(1)
        self.streams = {}
        self._reverses = {}  # port of the phone -> (listener, what it leads to)

    def send(self, command, arg0, arg1, data=b""):
        head = struct.pack("<6I", command, arg0, arg1, len(data), sum(data) & 0xffffffff, command ^ 0xffffffff)
        with self._sending, contextlib.suppress(OSError):
            self._socket.sendall(head + data)

    def _exactly(self, count):
        data = b""
        while len(data) < count:
            more = self._socket.recv(count - len(data))
            if not more:
                raise EOFError
            data += more
        return data

    def serve(self):
        try:
            while True:
                command, arg0, arg1, count, _, _ = struct.unpack("<6I", self._exactly(24))
                self._take(command, arg0, arg1, self._exactly(count))
        except (EOFError, OSError):
            self.cut()

    def cut(self):
        """As a pulled cable does."""
        hang_up(self._socket)
        for stream in list(self.streams.values()):
            stream.drop()
        for s, _ in self._reverses.values():
            hang_up(s)
        self.phone.links.discard(self)

    def _take(self, command, arg0, arg1, data):
        if self.phone.frozen.is_set():
            return
        stream = self.streams.get(arg1)
        if command in (CNXN, AUTH):
            self._greet(command, arg0)
        elif command == OPEN:
            self._open(data.rstrip(b"\0").decode(), arg0)
        elif stream and command == WRTE:
            self._write(stream, data)
        elif stream and command == OKAY:
            self._taken(stream, arg0)
        elif stream and command == CLSE:
            stream.drop()

    def _greet(self, command, kind):
        if self.phone.authorized:
            self.send(CNXN, VERSION, MOST_DATA, self.phone.banner())
        elif command == CNXN or kind != A_PUBLIC_KEY:
            self.send(AUTH, A_TOKEN, 0, b"t" * 20)
        # else: the question is on the phone's screen, and nobody looks.

    def _write(self, stream, data):
        if stream.socket:
            with contextlib.suppress(OSError):
                stream.socket.sendall(data)
        self.send(OKAY, stream.local, stream.remote)

    def _taken(self, stream, remote):
        first, stream.remote = stream.remote is None, remote
        stream.may_send.set()
        if first:  # an own OPEN is answered
            thread(stream.pump)

    def _stream(self, remote):
        stream = Stream(self, next(self._ids), remote)
        self.streams[stream.local] = stream
        return stream

    def _open(self, service, remote):
        self.phone.opened.append(service)
        kind, _, rest = service.partition(":")
        if kind == "tcp":
            self._connect(int(rest), remote)
        elif kind.split(",")[0] == "shell":
            thread(self._shell, self._stream(remote), rest, "v2" in kind)
        elif kind == "reverse":
            thread(self._reverse, self._stream(remote), rest)
        else:
            self.send(CLSE, 0, remote)

    def _connect(self, port, remote):
        """A port where nothing listens: adb has taken the client's connection already, and now closes it."""
        try:
            s = socket.create_connection(("127.0.0.1", self.phone.ports.get(port, port)), 5)
        except OSError:
            self.send(CLSE, 0, remote)
            return
        s.settimeout(None)
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream = self._stream(remote)
        stream.socket = s
        stream.accept()
        thread(stream.pump)

    def _shell(self, stream, line, v2):
        stream.accept()
        if self.phone.silent.is_set():
            return
        text, status = self.phone.shell.run(line)
        data = text.encode()
        if v2:
            data = b"".join(struct.pack("<BI", kind, len(d)) + d
                            for kind, d in ((STDOUT, data), (EXIT, bytes([status]))) if d)
        stream.write(data)
        stream.close()

    def _reverse(self, stream, request):
        stream.accept()
        verb, _, rest = request.partition(":")
        stream.write({"forward": self._reverse_add, "killforward": self._reverse_remove,
                      "killforward-all": self._reverse_remove_all, "list-forward": self._reverse_list}[verb](rest))
        stream.close()

    def _reverse_list(self, _):
        text = "".join(f"UsbFfs tcp:{port} {to}\n" for port, (_, to) in self._reverses.items()).encode()
        return b"%04x" % len(text) + text

    def _reverse_add(self, rest):
        no_rebind = rest.startswith("norebind:")
        here, to = rest.removeprefix("norebind:").split(";")
        port = int(here.removeprefix("tcp:"))
        if port in self._reverses:
            if no_rebind:
                return failure("cannot rebind existing socket")
            self._reverses[port] = (self._reverses[port][0], to)
            return b"OKAY"
        self._reverses[port] = (listener(), to)
        self.phone.reverse_ports[port] = self._reverses[port][0].getsockname()[1]
        thread(self._reverse_accept, self._reverses[port][0], to)
        return b"OKAY"

    def _reverse_remove(self, rest):
        s, _ = self._reverses.pop(int(rest.removeprefix("tcp:")), (None, None))
        if s is None:
            return failure("listener not found")
        hang_up(s)
        return b"OKAY"

    def _reverse_remove_all(self, _):
        for port in list(self._reverses):
            self._reverse_remove(str(port))
        return b"OKAY"

    def _reverse_accept(self, s, to):
        with contextlib.suppress(OSError):
            while True:
                client, _ = s.accept()
                stream = self._stream(None)
                stream.socket = client
                self.send(OPEN, stream.local, 0, to.encode() + b"\0")


class Phone:
    """A phone on the table: plugged in from the start, until unplug() or close()."""

    def __init__(self, model="Pixel 8", ports=None, port=0, release=14, api=34, authorized=True):
        self.model, self.port, self.authorized = model, port, authorized
        self.ports = dict(ports or {})  # its port -> the port of this machine that stands behind it
        self.shell = Shell(model, release, api)
        self.silent = threading.Event()  # its shell takes commands and never answers
        self.frozen = threading.Event()  # nothing of it answers
        self.opened = []                 # every service that was asked for
        self.links = set()
        self.reverse_ports = {}          # its port -> the port of this machine where its programs find that
        self._listener = None
        self.replug()

    @property
    def serial(self):
        return f"127.0.0.1:{self.port}"

    def banner(self):
        name = self.model.replace(" ", "_").encode()
        return (b"device::ro.product.name=%s;ro.product.model=%s;ro.product.device=%s;features=shell_v2,cmd"
                % (name, name, name))

    def replug(self):
        if self._listener is None:
            self._listener = self._listen()
            thread(self._accept, self._listener)

    def _listen(self):
        if self.port:
            return listener(self.port)
        while True:  # away from where adb looks for emulators
            s = listener()
            self.port = s.getsockname()[1]
            if self.port >= 6000:
                return s
            s.close()

    def _accept(self, s):
        with contextlib.suppress(OSError):
            while True:
                link = Link(self, s.accept()[0])
                self.links.add(link)
                thread(link.serve)

    def unplug(self):
        s, self._listener = self._listener, None
        if s:
            hang_up(s)
        for link in list(self.links):
            link.cut()

    close = unplug

    def allow(self):
        """Somebody taps "Allow" on its screen."""
        self.authorized = True
        for link in list(self.links):
            link.send(CNXN, VERSION, MOST_DATA, self.banner())

    def forbid(self):
        """The computers it knows are forgotten: to be seen at the next time it is plugged in."""
        self.authorized = False


HELP = "unplug PORT | replug PORT | forbid PORT | allow PORT | freeze PORT | thaw PORT | quit"


def steer(phones, line):
    verb, _, port = line.partition(" ")
    phone = phones.get(port.strip())
    if phone is None:
        print(HELP, flush=True)
    elif verb in ("unplug", "replug", "forbid", "allow"):
        getattr(phone, verb)()
    elif verb in ("freeze", "thaw"):
        (phone.frozen.set if verb == "freeze" else phone.frozen.clear)()


def main():
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        print(__doc__)
        sys.exit(0 if len(sys.argv) > 1 else 2)
    phones = {}
    for given in sys.argv[1:]:
        port, model, ports = (given.split(":") + ["", ""])[:3]
        pairs = dict(pair.split("=") for pair in ports.split(",") if pair)
        phones[port] = Phone(model or f"Fake {port}", {int(k): int(v) for k, v in pairs.items()}, int(port))
        print(f"phone: {phones[port].serial} {phones[port].model}", flush=True)
    for line in sys.stdin:
        if line.strip() == "quit":
            break
        steer(phones, line.strip())


if __name__ == "__main__":
    main()
