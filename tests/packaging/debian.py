"""A Debian 12 root with the package in it: as a folder, and booted."""
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).resolve()
sys.path.insert(0, str(HERE.parents[1] / "e2e"))

from harness import PATIENCE, Process, until  # noqa: E402

# systemd, since the package is a service; the rest is what a user has. Its name changes when the list does.
INCLUDED = ("systemd", "systemd-sysv", "dbus", "man-db", "ca-certificates")
CACHED = "debian-bookworm-systemd"


def cannot(what):
    """Skips loudly; fails where $POCKETFLEET_REQUIRE_ROOT says that it has to be possible."""
    if os.environ.get("POCKETFLEET_REQUIRE_ROOT"):
        pytest.fail(f"{what}: NOT TESTED")
    pytest.skip(f"{what}: NOT TESTED")


def run(*command, good=(0,), bound=120, **more):
    """The command's standard output; its standard error is part of a failure."""
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=bound, **more)
    assert done.returncode in good, f"{command}: {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def newer(package, into):
    """The same package as a later version, with another default in its phones.json."""
    unpacked = into / "unpacked"
    run("dpkg-deb", "-R", package, unpacked)
    control = unpacked / "DEBIAN" / "control"
    control.write_text(re.sub(r"^Version: .*$", "Version: 99.0-1", control.read_text(), flags=re.M))
    settings = unpacked / "etc" / "pocketfleet" / "phones.json"
    settings.write_text(settings.read_text().replace('"phones"', '"phones" '))
    made = into / "pocketfleet_99.0-1.deb"
    run("dpkg-deb", "--root-owner-group", "-Zxz", "-z0", "-b", unpacked, made)
    return made


def cached_root():
    if os.geteuid() != 0:
        cannot("chroot needs root")
    if not shutil.which("debootstrap"):
        cannot("there is no debootstrap")
    cache = pathlib.Path(os.environ.get("POCKETFLEET_CACHE")
                         or pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "pocketfleet")
    base = cache / CACHED
    if not (base / ".complete").exists():
        cache.mkdir(parents=True, exist_ok=True)
        new = pathlib.Path(f"{base}.new")
        for old in (base, new):
            run("rm", "-rf", "--one-file-system", old)
        done = subprocess.run(["debootstrap", "--variant=minbase", "--include=" + ",".join(INCLUDED), "bookworm", str(new)],
                              capture_output=True, text=True, timeout=500)
        if done.returncode != 0:
            cannot(f"debootstrap failed: {done.stdout.strip().splitlines()[-1:]}")
        (new / ".complete").touch()
        new.rename(base)
    return base


class Root:
    """A Debian root in a folder, in which commands are run by chroot."""

    def __init__(self, folder, base):
        self.folder, self._base = folder, base
        run("cp", "-a", "--reflink=auto", base, folder)
        shutil.copy("/etc/resolv.conf", folder / "etc" / "resolv.conf")
        # A host's name that resolves, or each command waits for a name server.
        (folder / "etc" / "hosts").write_text("127.0.0.1 localhost\n")

    def run(self, *command, **more):
        environment = {k: v for k, v in os.environ.items() if k.endswith("_proxy")}
        environment |= {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "DEBIAN_FRONTEND": "noninteractive",
                        "LC_ALL": "C.UTF-8", "MANPAGER": "cat", **more.pop("env", {})}
        return run("chroot", self.folder, *command, env=environment, **more)

    def path(self, name):
        return self.folder / name.lstrip("/")

    def copy_in(self, file):
        shutil.copy(file, self.folder / "root" / file.name)
        return f"/root/{file.name}"

    def install(self, package):
        """As a user does. What apt has fetched is kept for the next time."""
        where = self.copy_in(package)
        command = ["apt-get", "-q", "-y", "-o", "Dpkg::Use-Pty=0", "--no-install-recommends", "install", where]
        try:
            self.run(*command)
        except AssertionError:  # no index yet, or an old one
            try:
                self.run("apt-get", "-q", "update")
            except AssertionError as e:
                cannot(f"there is no mirror: {str(e)[-300:]}")
            self.run(*command)
        for kept in ("var/cache/apt/archives", "var/lib/apt/lists"):
            run("cp", "-ru", f"{self.folder / kept}/.", self._base / kept)

    def traces(self):
        """Every path that has the package's name in it."""
        found = run("find", self.folder, "-xdev", "-iname", "*pocketfleet*", "-not", "-path", f"{self.folder}/root/*",
                    "-not", "-path", f"{self.folder}/var/cache/*", "-not", "-path", f"{self.folder}/var/log/*")
        return sorted("/" + str(pathlib.Path(line).relative_to(self.folder)) for line in found.splitlines())


def new_root(tmp_path_factory):
    base = cached_root()
    folder = tmp_path_factory.mktemp("debian") / "root"
    root = Root(folder, base)
    done = subprocess.run(["chroot", str(folder), "/bin/true"], capture_output=True, text=True)
    if done.returncode != 0:
        cannot(f"chroot does not work here: {done.stderr}")
    return root


class Machine:
    """The root, booted: systemd is its process 1. It has a loopback of its own and no other network."""

    def __init__(self, root):
        self.root = root
        self._nspawn = Process("systemd-nspawn", ["systemd-nspawn", "--register=no", "--keep-unit", "--quiet", "--boot",
                                                  "--private-network", "--console=pipe", "-D", str(root.folder)])
        try:
            until(self._booted, "the container to be booted", bound=60)
        except AssertionError as e:
            log = self._nspawn.log.text()[-800:]
            self._nspawn.kill()
            cannot(f"a container cannot be booted here ({e}): {log}")

    def _first(self):
        try:
            children = pathlib.Path(f"/proc/{self._nspawn.pid}/task/{self._nspawn.pid}/children").read_text().split()
        except OSError:
            return None
        return int(children[0]) if children else None

    def _booted(self):
        if not self._nspawn.running():
            raise AssertionError("systemd-nspawn has ended")
        self.leader = self._first()
        if self.leader is None:
            return False
        done = subprocess.run(self.inside("systemctl", "is-system-running"), capture_output=True, text=True, timeout=30)
        return done.stdout.strip() in ("running", "degraded")

    def inside(self, *command):
        return ["nsenter", "-t", str(self.leader), "-m", "-u", "-i", "-n", "-p", "--", "/usr/bin/env", "-i",
                "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND=noninteractive", "SYSTEMD_COLORS=0", *map(str, command)]

    def on_its_network(self, *command):
        """The machine's programs, on the container's loopback."""
        return ["nsenter", "-t", str(self.leader), "-n", "--", *map(str, command)]

    def run(self, *command, **more):
        return run(*self.inside(*command), **more)

    def show(self, name, unit="pocketfleet.service"):
        return self.run("systemctl", "show", "--value", "-p", name, unit).strip()

    def pid(self):
        """Of the service, as this machine's own processes see it."""
        wanted = self.show("MainPID")
        for entry in pathlib.Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    numbers = re.search(r"^NSpid:\s+\d+\s+(\d+)$", (entry / "status").read_text(), re.M)
                    if numbers and numbers[1] == wanted and "pocketfleet" in (entry / "cmdline").read_text():
                        return int(entry.name)
                except OSError:
                    continue
        raise AssertionError(f"no process {wanted}")

    def journal(self, *more):
        return self.run("journalctl", "-u", "pocketfleet", "-o", "cat", "--no-pager", *more)

    def stop(self):
        self.run("systemctl", "poweroff", good=(0, 1))
        try:
            self._nspawn.wait(PATIENCE)
        except AssertionError:
            self._nspawn.kill()
