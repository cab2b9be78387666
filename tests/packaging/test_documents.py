"""Man pages, completion, licence and version say what the program says."""
import json
import re
import shutil
import subprocess

import pytest

from debian import HERE, run
from harness import program

ROOT = HERE.parents[2]
VERSION = re.search(r"project\(pocketfleet VERSION ([\d.]+)", (ROOT / "CMakeLists.txt").read_text())[1]


def help_of(*words):
    return run(program(), *words, "--help")


def listed(text, section):
    """The first words of a section's lines."""
    m = re.search(rf"^{section}:\n((?:  .*\n|\n(?=  ))*)", text, re.M)
    return re.findall(r"^  (\S+)", m[1], re.M) if m else []


def commands(words=()):
    """Every subcommand, as ("cache", "clear"), with its options."""
    text = help_of(*words)
    if words:
        yield words, {o for names in listed(text, "Options") for o in names.split(",")} - {"-h", "--help"}
    for name in listed(text, "Subcommands"):
        yield from commands((*words, name))


@pytest.fixture(scope="module")
def pages(build):
    def page(name):
        return (build / "packaging" / "man" / name).read_text().replace(r"\-", "-")
    return page


def test_the_manual_has_every_subcommand_with_its_options(pages):
    text = pages("pocketfleet.1")
    described = {}
    for part in re.split(r"^\.SS ", text.split(".SH SIGNALS")[0], flags=re.M)[1:]:
        words = re.match(r"pocketfleet((?: [a-z][\w-]*)+)", part)[1].split()
        described[tuple(words)] = {o for line in re.findall(r"^\.B (-.*)$", part, re.M)
                                   for o in re.findall(r"(?<!\S)--?[\w-]+", line)}
    assert described == dict(commands())


def test_the_manual_of_the_file_has_every_key(pages):
    schema = json.loads((ROOT / "config" / "phones.schema.json").read_text())["definitions"]
    text = pages("phones.json.5")
    for part, definition in (("A PHONE", "phone"), ("THE GATEWAY", "gateway")):
        section = text.split(f".SH {part}\n")[1].split(".SH ")[0]
        assert re.findall(r"^\.TP\n\.B (\w+)$", section, re.M) == list(schema[definition]["properties"])


@pytest.mark.parametrize("page", ["pocketfleet.1", "phones.json.5"])
def test_manuals_are_sound(build, page):
    if not shutil.which("mandoc"):
        pytest.skip("there is no mandoc: NOT TESTED")
    said = subprocess.run(["mandoc", "-T", "lint", "-W", "warning", build / "packaging" / "man" / page],
                          capture_output=True, text=True).stdout
    assert [line for line in said.splitlines() if "missing date" not in line] == []


def completed(*words):
    """What bash offers for the last word."""
    script = f'''source {ROOT}/packaging/completion/pocketfleet.bash
        COMP_WORDS=({program()} {" ".join(f"'{w}'" for w in words)}) COMP_CWORD={len(words)}
        _pocketfleet; printf '%s\\n' "${{COMPREPLY[@]}}"'''
    return set(run("bash", "-c", script).split())


def test_completion():
    top = help_of()
    assert completed("") == set(listed(top, "Subcommands"))
    assert completed("s") == {name for name in listed(top, "Subcommands") if name.startswith("s")}
    assert completed("--v") == {"--version"}
    for words, options in commands():
        assert completed(*words, "-") == options | {"-h", "--help"}, words
    assert completed("sim", "--engine", "") == {"ollama", "llama-server"}
    assert completed("sim", "--engine", "o") == {"ollama"}
    assert completed("check", "x") == set(), "a file: bash's own completion"


def test_version_is_said_in_one_place(pages):
    assert run(program(), "--version").strip() == VERSION
    for page in ("pocketfleet.1", "phones.json.5"):
        assert f'"Pocketfleet {VERSION}"' in pages(page)
    changes = (ROOT / "CHANGELOG.md").read_text()
    latest = re.search(r"^## \[(\d[\d.]*)\]", changes, re.M)
    assert latest is None or latest[1] == VERSION, "the last release in CHANGELOG.md"


def test_the_licence_is_stated():
    assert "Apache License" in (ROOT / "LICENSE").read_text()[:200]
    assert "Apache-2.0" in (ROOT / "README.md").read_text()
    assert "License: Apache-2.0" in (ROOT / "packaging" / "debian" / "copyright").read_text()


def test_shell_scripts_are_sound():
    if not shutil.which("shellcheck"):
        pytest.skip("there is no shellcheck: NOT TESTED")
    debian = ROOT / "packaging" / "debian"
    run("shellcheck", debian / "postinst", debian / "prerm", debian / "postrm",
        ROOT / "packaging" / "completion" / "pocketfleet.bash", "--shell=bash")


def test_installed_below_a_prefix(build, tmp_path):
    """`cmake --install --prefix`: everything is below it, and what somebody has written there is kept."""
    run("cmake", "--install", build, "--prefix", tmp_path)
    assert run(tmp_path / "bin" / "pocketfleet", "--version").strip() == VERSION
    unit = (tmp_path / "lib" / "systemd" / "system" / "pocketfleet.service").read_text()
    assert f"ExecStart={tmp_path}/bin/pocketfleet serve --phones {tmp_path}/etc/pocketfleet/phones.json\n" in unit
    settings = tmp_path / "etc" / "pocketfleet" / "phones.json"
    settings.write_text("mine")
    run("cmake", "--install", build, "--prefix", tmp_path)
    assert settings.read_text() == "mine"
    assert (tmp_path / "etc" / "pocketfleet" / "credentials").stat().st_mode & 0o777 == 0o700
