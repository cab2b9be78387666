"""The Debian package in a clean Debian 12: installed, upgraded over itself, removed, purged."""
import re
import shutil
import subprocess

import pytest

from debian import newer, run
from harness import program

SETTINGS = "/etc/pocketfleet/phones.json"


def test_lintian_has_nothing_to_say(package):
    if not shutil.which("lintian"):
        pytest.skip("there is no lintian: NOT TESTED")
    assert run("lintian", "--allow-root", "--fail-on", "error,warning", "--tag-display-limit", "0", package) == ""


@pytest.fixture(scope="module")
def installed(root, package):
    root.install(package)
    return root


def test_it_runs(installed):
    version = run(program(), "--version").strip()
    assert installed.run("pocketfleet", "--version").strip() == version
    assert installed.run("dpkg-query", "-W", "-f", "${Version}", "pocketfleet") == f"{version}-1"


def test_the_settings_it_comes_with_are_good(installed):
    said = installed.run("pocketfleet", "check", SETTINGS)
    assert said == f"{SETTINGS}: good: 0 phones, listen 127.0.0.1:8000, policy weighted_round_robin\n"
    token = installed.path("/etc/pocketfleet/credentials/fleet.token")
    assert token.stat().st_mode & 0o777 == 0o600 and token.parent.stat().st_mode & 0o777 == 0o700
    assert re.fullmatch(r"[\w-]{32}\n", token.read_text())


@pytest.mark.parametrize("page", ["pocketfleet", "phones.json"])
def test_manuals_are_there(installed, page):
    assert re.search(rf"{page}\S* -", installed.run("man", page))


def test_what_else_is_there(installed):
    for path in ("/usr/share/bash-completion/completions/pocketfleet", "/usr/share/pocketfleet/phones.schema.json",
                 "/usr/share/doc/pocketfleet/copyright", "/usr/share/doc/pocketfleet/docs/operations.md",
                 "/usr/share/doc/pocketfleet/examples/phones.example.json",
                 "/usr/share/doc/pocketfleet/examples/monitoring/rules.yml"):
        assert installed.path(path).is_file(), path
    for example in installed.path("/usr/share/doc/pocketfleet/examples").glob("phones*.json"):
        installed.run("pocketfleet", "check", f"/usr/share/doc/pocketfleet/examples/{example.name}")


def test_the_units_are_sound(installed):
    for unit in ("pocketfleet.service", "pocketfleet.socket"):
        done = subprocess.run(["chroot", installed.folder, "systemd-analyze", "verify", f"/lib/systemd/system/{unit}"],
                              capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), unit


def test_the_service_is_locked_in(installed):
    said = installed.run("systemd-analyze", "security", "--no-pager", "--offline=true", "--threshold=15",
                         "/lib/systemd/system/pocketfleet.service")
    assert float(re.search(r"Overall exposure level for pocketfleet.service: ([\d.]+)", said)[1]) <= 1.5


def test_the_service_is_enabled_and_the_socket_is_not(installed):
    assert installed.run("systemctl", "is-enabled", "pocketfleet.service").strip() == "enabled"
    assert installed.run("systemctl", "is-enabled", "pocketfleet.socket", good=(1,)).strip() == "disabled"


def test_an_upgrade_keeps_what_was_written(installed, package, tmp_path):
    settings, token = installed.path(SETTINGS), installed.path("/etc/pocketfleet/credentials/fleet.token")
    mine = settings.read_text().replace("[]", '[{"host": "192.168.1.50"}]')
    settings.write_text(mine)
    known = token.read_text()
    installed.run("systemctl", "disable", "pocketfleet.service")
    installed.run("dpkg", "-i", installed.copy_in(package))
    assert settings.read_text() == mine
    # A later version comes with other settings: whoever has changed the file is asked, or keeps theirs.
    installed.run("dpkg", "--force-confdef", "--force-confold", "-i", installed.copy_in(newer(package, tmp_path)))
    assert (settings.read_text(), token.read_text()) == (mine, known)
    assert installed.path(f"{SETTINGS}.dpkg-dist").exists()
    assert installed.run("systemctl", "is-enabled", "pocketfleet.service", good=(1,)).strip() == "disabled"
    assert "1 phone," in installed.run("pocketfleet", "check", SETTINGS)


def test_removed_it_leaves_settings_and_purged_nothing(installed):
    root = installed
    root.run("systemctl", "enable", "pocketfleet.service", "pocketfleet.socket")
    state = root.path("/var/lib/private/pocketfleet")
    state.mkdir(parents=True)
    (state / "phones.json.registered").write_text("{}")
    root.path("/var/lib/pocketfleet").symlink_to("private/pocketfleet")
    root.run("dpkg", "--remove", "pocketfleet")
    assert root.path(SETTINGS).exists() and root.path("/etc/pocketfleet/credentials/fleet.token").exists()
    assert not root.path("/usr/bin/pocketfleet").exists()
    root.run("dpkg", "--purge", "pocketfleet")
    assert root.traces() == []
