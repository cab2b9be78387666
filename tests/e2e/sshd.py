"""A real sshd on loopback, and what it takes to reach it."""
import os
import pathlib
import pwd
import stat
import subprocess

import pytest

import engines


class Sshd:
    """A real sshd on loopback, for one user, with the keys that are in `authorized`."""

    def __init__(self, start, programs, folder, commands=False):
        """`commands`: the user has a shell, which "nobody" has not."""
        self.folder = folder
        self.port = engines.free_port()
        self.user = "nobody" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
        self.authorized = folder / "authorized_keys"
        self.authorized.touch()
        key = folder / "host_key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True, timeout=30)
        self.host_key = " ".join((folder / "host_key.pub").read_text().split()[:2])
        (folder / "config").write_text(f"""
Port {self.port}
ListenAddress 127.0.0.1
HostKey {key}
AuthorizedKeysFile {self.authorized}
PidFile none
StrictModes no
UsePAM yes
PasswordAuthentication no
ClientAliveInterval 1
ClientAliveCountMax 2
""")
        self.command = [str(programs / "sshd"), "-D", "-e", "-f", str(folder / "config")]
        if os.geteuid() == 0:  # as root it wants a user of its own and a folder in /run; as another it serves that one
            for path in (folder, *folder.parents[:3]):
                os.chmod(path, os.stat(path).st_mode | stat.S_IXOTH | stat.S_IROTH)
            os.chown(key, pwd.getpwnam("nobody").pw_uid, -1)
            self.command = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", *self.command]
            if commands:  # in a mount namespace, so that the machine's own list of users stays as it is
                users = folder / "passwd"
                lines = pathlib.Path("/etc/passwd").read_text().splitlines()
                users.write_text("".join((f"nobody:x:65534:65534::{folder}:/bin/sh" if x.startswith("nobody:") else x) + "\n"
                                         for x in lines))
                self.command = ["unshare", "-m", "sh", "-c", 'mount --bind "$0" /etc/passwd && exec "$@"', str(users),
                                *self.command]
        self.start = start
        self.run()

    def client(self):
        """The words of an SSH command without the last one, with a key that may do everything."""
        key = self.folder / "client_key"
        if not key.exists():
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True, timeout=30)
            with self.authorized.open("a") as file:
                file.write((self.folder / "client_key.pub").read_text())
            (self.folder / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {self.host_key}\n")
        return ["ssh", "-T", "-F", "none", "-p", str(self.port), "-i", str(key), "-o", "BatchMode=yes", "-o",
                f"UserKnownHostsFile={self.folder}/known_hosts", "-o", "GlobalKnownHostsFile=none", "-o", "IdentitiesOnly=yes",
                "-o", "LogLevel=ERROR", f"{self.user}@127.0.0.1"]

    def run(self):
        self.process = self.start.process("sshd", self.command)
        self.process.log.wait_for("Server listening on")


def made(start, commands):
    programs = engines.unpacked("sshd")
    folder = pathlib.Path(subprocess.run(["mktemp", "-d", "/tmp/pf-sshd.XXXXXX"], capture_output=True, text=True,
                                         check=True).stdout.strip())
    if os.geteuid() == 0:  # the unpacked programs lie in root's home
        subprocess.run(["cp", "-a", str(programs.parent), str(folder / "programs")], check=True)
        programs = folder / "programs" / "bin"
    try:
        yield Sshd(start, programs, folder, commands)
    finally:
        subprocess.run(["rm", "-rf", str(folder)], check=True)


@pytest.fixture
def sshd(start):
    yield from made(start, commands=False)


@pytest.fixture
def sshd_with_shell(start):
    """One whose user may run commands; where that cannot be had without changing the machine, it is skipped."""
    if os.geteuid() == 0:
        may = subprocess.run(["unshare", "-m", "true"], capture_output=True, text=True)
        if may.returncode != 0:
            engines.required(f"no mount namespace for a user with a shell: {may.stderr.strip()}")
    elif pwd.getpwuid(os.geteuid()).pw_shell.endswith(("nologin", "false")):
        engines.required("the user has no shell to log in with")
    yield from made(start, commands=True)
