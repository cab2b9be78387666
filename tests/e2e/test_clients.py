"""The libraries that people use, unchanged, against the gateway: OpenAI's, Ollama's, Anthropic's, LangChain's.

clients/*.mjs runs a case and tells what the library made of it; clients/cases.py has what that should be. Each case
runs against three fleets: real llama-servers, simulated Ollama phones, and both. What a counting model cannot do (call
tools, write JSON, reason, embed) is asked of simulated phones of the same engines.

What came out is printed as a table, which also stands in docs/api.md; POCKETFLEET_UPDATE_MATRIX=1 writes it there.
"""
import concurrent.futures
import functools
import json
import os
import re
import shutil
import subprocess

import pytest

from client import request
from harness import ROOT, program, until

pytest.register_assert_rewrite("clients.cases")
from clients.cases import CASES, CLIENTS, FLEETS, WITHOUT, Ask  # noqa: E402
from clients.fleet import Fleet  # noqa: E402
from clients.library import BOUND, HERE, Library, node_modules, node_version, required  # noqa: E402

API = ROOT / "docs" / "api.md"


@pytest.fixture(scope="module")
def libraries(start_once, tmp_path_factory):
    """folder of the scripts, with the libraries beside them; started(fleet, client)"""
    modules, folder = node_modules(), tmp_path_factory.mktemp("clients")
    for script in HERE.glob("*.mjs"):
        shutil.copy(script, folder)
    (folder / "node_modules").symlink_to(modules)

    @functools.lru_cache(maxsize=None)
    def started(_, client):
        if client.startswith("langchain") and node_version() < 20:
            required(f"LangChain needs Node 20, this is {node_version()}")
        return start_once.own(Library(folder, client))

    started.folder = folder
    return started


@pytest.fixture(scope="module")
def fleets(start_once, libraries, request):
    """fleet of a kind; those with a real engine are skipped where that cannot be had."""
    made = {}

    def fleet(kind):
        if kind not in made:
            real = kind != "ollama"
            made[kind] = Fleet(kind, start_once, real and request.getfixturevalue("llama_programs"),
                               real and request.getfixturevalue("counting_model"))
            made[kind].ask = lambda client: Ask(made[kind], libraries(kind, client))
        return made[kind]

    return fleet


def cells():
    return [(kind, client, case) for kind in FLEETS for client in CLIENTS for case in CASES
            if case not in WITHOUT[client] and (case, kind) != ("tools_text", "ollama")]


def test_the_lock_names_no_host():
    """So that the libraries come from the registry that npm is set to."""
    lock = json.loads((HERE / "package-lock.json").read_text())
    assert not any("resolved" in package or "://" in json.dumps(package) for package in lock["packages"].values())
    wanted = json.loads((HERE / "package.json").read_text())["dependencies"]
    assert {name: lock["packages"][f"node_modules/{name}"]["version"] for name in wanted} == wanted, "exact versions"


MATRIX = {}


@pytest.mark.parametrize("kind, client, case", cells())
def test_library(fleets, kind, client, case):
    ask = fleets(kind).ask(client)
    MATRIX[case, client, kind] = CASES[case](ask) or "yes"


@pytest.fixture(scope="module")
def written():
    """The table of what came out, in Markdown."""
    notes, lines = [], ["| case | " + " | ".join(CLIENTS.values()) + " |", "|---" * (len(CLIENTS) + 1) + "|"]
    for case in CASES:
        row = []
        for client in CLIENTS:
            found = {kind: MATRIX[case, client, kind] for kind in FLEETS if (case, client, kind) in MATRIX}
            values = sorted(set(found.values()), key=lambda v: (v != "yes", v))
            marks = ""
            for value in values:
                if value != "yes":
                    where = " and ".join(name for k, name in FLEETS.items() if found.get(k) == value)
                    note = value if len(values) == 1 else f"{where}: {value}"
                    notes += [note] * (note not in notes)
                    marks += f" [{notes.index(note) + 1}]"
            row.append((("yes" if "yes" in values else "no") if values else "-") + marks)
        lines.append(f"| {case.replace('_', ' ')} | " + " | ".join(row) + " |")
    return "\n".join([*lines, "", *(f"{i}. {note}" for i, note in enumerate(notes, 1))])


def test_the_table_in_the_documentation(written, capsys):
    """docs/api.md says what came out here. POCKETFLEET_UPDATE_MATRIX=1 writes it."""
    with capsys.disabled():
        print(f"\n{written}\n")
    if len(MATRIX) < len(cells()):
        pytest.skip("not all cases have passed here")
    text = API.read_text()
    begin, end = "<!-- matrix:begin -->", "<!-- matrix:end -->"
    if begin not in text:
        pytest.skip("docs/api.md has no place for the table yet")
    before, rest = text.split(begin)
    after = rest.split(end)[1]
    if os.environ.get("POCKETFLEET_UPDATE_MATRIX"):
        API.write_text(f"{before}{begin}\n{written}\n{end}{after}")
    else:
        assert rest.split(end)[0].strip() == written, "POCKETFLEET_UPDATE_MATRIX=1 writes it anew"


# ---- the recipes


RECIPES = re.findall(r"^```(sh|js)\n(.*?)^```$", (ROOT / "docs" / "clients.md").read_text(), re.M | re.S)


@pytest.fixture(scope="module")
def demo(start_once):
    process = start_once.process("demo", [program(), "demo", "--listen", "127.0.0.1:0"], one_stream=False)
    with process.starting():
        process.port = int(process.errors.wait_for(r"listening on 127\.0\.0\.1:(\d+)")[1])
        until(lambda: request(process.port, "GET", "/health").json()["status"] == "ok", "its phones to be there")
    return process


@pytest.fixture(scope="module")
def recipes(demo, libraries):
    """What came of each, as it stands in docs/clients.md; all at once."""
    def run(recipe):
        language, text = recipe
        assert "127.0.0.1:8000" in text
        text = text.replace("127.0.0.1:8000", f"127.0.0.1:{demo.port}")
        command = ["bash", "-c", text] if language == "sh" else ["node", "--input-type=module", "-e", text]
        return subprocess.run(command, cwd=libraries.folder, capture_output=True, text=True, timeout=BOUND)

    with concurrent.futures.ThreadPoolExecutor(len(RECIPES)) as pool:
        return [pool.submit(run, recipe) for recipe in RECIPES]


@pytest.mark.parametrize("number", range(len(RECIPES)), ids=lambda i: f"{i + 1}-{RECIPES[i][0]}")
def test_recipe(recipes, number):
    if "@langchain" in RECIPES[number][1] and node_version() < 20:
        required(f"LangChain needs Node 20, this is {node_version()}")
    done = recipes[number].result()
    assert done.returncode == 0 and not done.stderr, done.stderr
    pieces = re.findall(r'"content":"([^"]*)"', done.stdout) if '"done":' in done.stdout else [done.stdout]
    assert "1 2 3 4 5" in "".join(pieces), done.stdout


def test_all_recipes_are_there():
    assert sum(language == "sh" for language, _ in RECIPES) == 3
    assert sum(language == "js" for language, _ in RECIPES) == 5
