"""A phone's Termux as far as it can be had without a phone: a throw-away prefix with stubs for what only Android has,
in which scripts/phone_setup.sh runs as on a phone, with real programs for all else.
"""
import os
import pathlib
import shutil
import signal
import subprocess

from harness import ROOT, until

SCRIPT = ROOT / "scripts" / "phone_setup.sh"
STUBS = ROOT / "tests" / "phone" / "stubs"
# Those that stand for what is not installed on a phone at first, or that these tests have as the real ones.
REAL = {"curl", "ssh", "ssh-keygen", "ssh-keyscan", "llama-server", "ggml-rpc-server", "ollama", "svlogd", "ip", "ifconfig"}


class Termux:
    def __init__(self, folder, programs=None, before=()):
        """`programs`: a folder with real llama-server and rpc-server. `before`: a command that runs the one behind it."""
        self.folder = pathlib.Path(folder)
        self.home, self.prefix, self.state = (self.folder / n for n in ("home", "usr", "state"))
        self.before = list(before)
        for path in (self.home, self.prefix / "bin", self.prefix / "tmp", self.state / "prop", self.state / "rules"):
            path.mkdir(parents=True)
        for stub in (STUBS / "bin").iterdir():
            if stub.name not in REAL:
                (self.prefix / "bin" / stub.name).symlink_to(stub)
        for name in ("ssh", "ssh-keygen", "ssh-keyscan"):  # before "pkg install openssh" gives their stubs
            (self.prefix / "bin" / name).symlink_to(shutil.which(name))
        (self.state / "apps").write_text("com.termux\ncom.termux.api\n")
        (self.state / "log").touch()
        (self.state / "sv.runs").touch()  # "sv up" really starts the run files
        (self.state / "sv.daemon").touch()
        for name, value in {"ro.build.version.release": "14", "ro.build.version.sdk": "34", "ro.product.model": "Pixel 8",
                            "ro.product.cpu.abi": "arm64-v8a"}.items():
            (self.state / "prop" / name).write_text(value + "\n")
        for name, value in {"arch": "aarch64", "nproc": "2", "free_kb": "60000000"}.items():
            (self.state / name).write_text(value + "\n")
        self.env = {"HOME": str(self.home), "PREFIX": str(self.prefix), "TMPDIR": str(self.prefix / "tmp"),
                    "PATH": f"{self.prefix}/bin:/usr/bin:/bin:/usr/sbin:/sbin", "LANG": "C.UTF-8", "TERM": "dumb",
                    "TERMUX_VERSION": "0.118.3", "STUB_HOME": str(STUBS), "STUB_STATE": str(self.state),
                    "STUB_PYTHON": "/usr/bin/python3", "STUB_CURL": shutil.which("curl"),
                    "STUB_SLEEP": shutil.which("sleep"), "SVDIR": str(self.prefix / "var/service"),
                    "LOGDIR": str(self.prefix / "var/log")}
        if programs:
            self.env["POCKETFLEET_LLAMA_BIN"] = str(programs)

    def run(self, *arguments, env=None, bound=90):
        """The script with these arguments, to its end."""
        return subprocess.run([*self.before, "bash", str(SCRIPT), *map(str, arguments)], env={**self.env, **(env or {})},
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=bound)

    def good(self, *arguments, env=None, bound=90):
        done = self.run(*arguments, env=env, bound=bound)
        assert done.returncode == 0, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}\n{self.outputs()}"
        return done.stdout

    def battery(self, temperature_c=33.2, percentage=81, plugged="PLUGGED_USB"):
        """What Termux:API says from now on; None: it hangs."""
        rules = self.state / "rules" / "termux-battery-status"
        if temperature_c is None:
            rules.write_text("*\thang\t\n")
            return
        answer = self.state / "battery"
        answer.write_text('{\n  "plugged": "%s",\n  "temperature": %s,\n  "percentage": %s,\n  "current": -120000\n}\n'
                          % (plugged, temperature_c, percentage))
        rules.write_text(f"*\tanswer\t{answer}\n")

    def service_log(self, name):
        path = self.state / "sv" / f"pocketfleet-{name}.output"
        return path.read_text(errors="replace") if path.exists() else ""

    def outputs(self):
        return "\n".join(f"--- {n}\n{self.service_log(n)}" for n in ("engine", "agent", "tunnel"))

    def pid_of(self, name):
        """The service's process, which is the leader of its session."""
        return int((self.state / "sv" / f"pocketfleet-{name}").read_text())

    def running(self):
        """Processes that belong to this phone."""
        mark, found = f"STUB_STATE={self.state}".encode(), []
        for entry in pathlib.Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and mark in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
            except OSError:
                pass
        return found

    def close(self):
        """Whatever still runs on it, ends."""
        def none_left():
            pids = self.running()
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            return not pids
        until(none_left, "the phone's processes to end")
