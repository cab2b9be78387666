"""`pocketfleet invite`: one line, or a QR code, by which a phone joins."""
import json
import re
import shutil
import stat
import subprocess

import pytest

from client import request
from engines import required
from harness import ROOT, program

OPEN = {"listen": "0.0.0.0:8000", "allow_unauthenticated_lan": True, "registration": "open", "fleet_token_file": "token"}


@pytest.fixture
def invite(tmp_path):
    def run(*arguments, gateway=OPEN, phones=()):
        file = tmp_path / "phones.json"
        file.write_text(json.dumps({"gateway": gateway, "phones": list(phones)}))
        done = subprocess.run([program(), "invite", "--phones", str(file), *arguments], capture_output=True, text=True,
                              timeout=30)
        return done.returncode, done.stdout, done.stderr
    run.token = tmp_path / "token"
    return run


def test_it_makes_a_token_once(invite):
    code, out, err = invite("--address", "192.168.1.10:8000")
    assert code == 0 and "made " in err
    token = invite.token.read_text().strip()
    assert re.fullmatch(r"[A-Za-z0-9_-]{32}", token)
    assert stat.S_IMODE(invite.token.stat().st_mode) == 0o600
    assert (f"  curl -fsS http://192.168.1.10:8000/phone_setup.sh -o phone_setup.sh && POCKETFLEET_TOKEN={token} "
            "bash phone_setup.sh qwen2.5:1.5b --gateway http://192.168.1.10:8000\n") in out
    again = invite("--address", "192.168.1.10:8000")
    assert again == (0, out, "")


def test_tokens_differ(invite):
    seen = set()
    for _ in range(5):
        assert invite("--address", "a:1")[0] == 0
        seen.add(invite.token.read_text())
        invite.token.unlink()
    assert len(seen) == 5


def test_the_address_is_the_files_where_phones_reach_it(invite):
    code, out, _ = invite(gateway={**OPEN, "listen": "192.168.7.7:9000"})
    assert code == 0 and " http://192.168.7.7:9000/phone_setup.sh " in out
    code, out, err = invite(gateway={**OPEN, "listen": "127.0.0.1:8000"})
    assert code == 2 and out == "" and "phones do not reach it" in err


@pytest.mark.parametrize("gateway", [{}, {"registration": "known"}, {"fleet_token_file": "token"}])
def test_where_phones_cannot_join_it_says_what_is_missing(invite, gateway):
    code, out, err = invite("--address", "a:1", gateway=gateway, phones=[{"host": "b"}])
    assert code == 2 and out == "" and '"registration": "open"' in err


@pytest.mark.parametrize("arguments", [["--model", "a b"], ["--model", "$(reboot)"], ["--model", "-x"],
                                       ["--address", "a;b"], ["--address", "a b"]])
def test_what_a_shell_would_read_otherwise_is_refused(invite, arguments):
    code, out, err = invite(*(["--address", "a:1"] if "--model" in arguments else []), *arguments)
    assert code == 2 and out == "" and err.startswith(arguments[0])


def test_a_token_that_others_can_read_is_refused(invite):
    invite.token.write_text("0123456789abcdef0123\n")
    invite.token.chmod(0o644)
    code, out, err = invite("--address", "a:1")
    assert code == 2 and out == "" and "chmod 600" in err


def pixels(text, scale=6):
    """The code as a terminal shows it, as an image (PGM)."""
    rows = []
    for line in text.splitlines():
        if line.startswith("\x1b[30;107m"):
            cells = re.sub(r"\x1b\[[0-9;]*m", "", line)
            rows += [[c in "█▀" for c in cells], [c in "█▄" for c in cells]]
    lines = [b"".join((b"\0" if dark else b"\xff") * scale for dark in row) * scale for row in rows]
    return b"P5 %d %d 255\n" % (len(rows[0]) * scale, len(rows) * scale) + b"".join(lines)


def test_the_qr_code_says_the_same(invite, tmp_path):
    if shutil.which("zbarimg") is None:
        required("zbarimg is not installed")
    code, out, _ = invite("--address", "192.168.1.10:8000", "--qr")
    assert code == 0
    image = tmp_path / "code.pgm"
    image.write_bytes(pixels(out))
    read = subprocess.run(["zbarimg", "-q", "--raw", str(image)], capture_output=True, text=True, timeout=30)
    command = next(line.strip() for line in out.splitlines() if line.startswith("  curl "))
    assert read.stdout.strip() == command


def test_the_script_comes_from_the_gateway(start):
    gateway = start.gateway(start.sim(1))
    reply = request(gateway.port, "GET", "/phone_setup.sh")
    assert reply.status == 200 and reply.headers["Content-Type"].startswith("text/x-shellscript")
    assert reply.body == (ROOT / "scripts" / "phone_setup.sh").read_bytes()
