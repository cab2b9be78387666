"""phones.json: `pocketfleet check`, the schema for editors and the page of documentation say the same."""
import json
import os
import re
import subprocess
import sys

import jsonschema
import pytest

from harness import ROOT, program, sanitized

SCHEMA = json.loads((ROOT / "config/phones.schema.json").read_text(encoding="utf-8"))
SETTINGS = SCHEMA["definitions"]["gateway"]["properties"]
PHONE = SCHEMA["definitions"]["phone"]["properties"]
EXAMPLES = sorted((ROOT / "config").glob("phones*.example.json"))
BY_SCHEMA = jsonschema.Draft7Validator(SCHEMA)


@pytest.fixture
def check(tmp_path):
    """Runs `pocketfleet check` on a text or bytes or a value; gives the exit code, stdout and the lines of stderr."""

    def run(content):
        path = tmp_path / "phones.json"
        if not isinstance(content, (str, bytes)):
            content = json.dumps(content)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return run_check(path)

    return run


def run_check(path):
    done = subprocess.run([program(), "check", str(path)], capture_output=True, text=True, timeout=30)
    return done.returncode, done.stdout, done.stderr.splitlines()


# ---- the files in config/


def test_schema_is_a_schema():
    jsonschema.Draft7Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.name)
def test_examples_are_good(path):
    value = json.loads(path.read_text())
    BY_SCHEMA.validate(value)
    code, out, err = run_check(path)
    assert (code, err) == (0, [])
    phones = value if isinstance(value, list) else value["phones"]
    assert re.match(rf"{re.escape(str(path))}: good: {len(phones)} phones\b", out), out


def test_both_forms_have_an_example():
    assert {type(json.loads(p.read_text())) for p in EXAMPLES} == {list, dict}


def test_program_knows_the_same_keys(check):
    """For a key that resembles none, `check` lists all there are."""
    for content, known in [
        ([{"host": "a", "zzzzzzzzzzzzzzz": 1}], PHONE),
        ({"gateway": {"zzzzzzzzzzzzzzz": 1}, "phones": [{"host": "a"}]}, SETTINGS),
    ]:
        code, _, err = check(content)
        assert code == 2 and len(err) == 1
        assert re.findall(r'"(\w+)"', err[0].split("expected")[1]) == sorted(known)


def test_defaults_are_good_and_documented(check):
    code, _, err = check({"gateway": {k: s["default"] for k, s in SETTINGS.items()}, "phones": [{"host": "a"}]})
    assert (code, err) == (0, [])
    page = (ROOT / "docs/configuration.md").read_text(encoding="utf-8")
    for key, about in {**PHONE, **SETTINGS}.items():
        row = re.search(rf"^\| `{key}` \| ([^|]*) \|", page, re.M)
        assert row, f"docs/configuration.md has no row for {key}"
        if "default" in about:
            default = about["default"]
            text = default if isinstance(default, str) and key == "engine" else json.dumps(default)
            assert row[1].startswith(f"`{text}`"), (key, row[1], text)


# ---- what is wrong is said


BAD = {  # name: content, path, found, expected
    "weight 0": ([{"host": "a", "weight": 0}], "phones[0].weight", "0", "a whole number from 1 to 1000"),
    "negative permits": ([{"host": "a", "max_concurrency": -1}], "phones[0].max_concurrency", "-1", "from 1 to 64"),
    "port 0": ([{"host": "a", "port": 0}], "phones[0].port", "0", "from 1 to 65535"),
    "port 70000": ([{"host": "a", "port": 70000}], "phones[0].port", "70000", "from 1 to 65535"),
    "fraction": ([{"host": "a", "weight": 1.5}], "phones[0].weight", "1.5", "a whole number"),
    "wrong type": ([{"host": "a", "weight": "abc"}], "phones[0].weight", '"abc" (a string)', "a whole number"),
    "no host": ([{"port": 1}], "phones[0].host", "nothing", "a host name or an IP address"),
    "scheme": ([{"host": "http://10.0.0.1"}], "phones[0].host", '"http://10.0.0.1" (a string)', "without a scheme"),
    "port in host": ([{"host": "10.0.0.1:80"}], "phones[0].host", '"10.0.0.1:80" (a string)', '"port": 80'),
    "same address": ([{"host": "a"}, {"host": "A"}], "phones[1]", "the address A:11434", "phones[0] has this one"),
    "same name": ([{"host": "a", "name": "n"}, {"host": "b", "name": "n"}], "phones[1].name", '"n"', "a name of its own"),
    "misspelt key": ([{"host": "a", "wieght": 2}], "phones[0].wieght", "an unknown key", 'did you mean "weight"?'),
    "misspelt setting": ({"gateway": {"que": 1}, "phones": [{"host": "a"}]}, "gateway.que", "an unknown key", '"queue"'),
    "no phones": ({"gateway": {}}, "phones", "nothing", "an array with at least one phone"),
    "empty": ([], "phones", "[] (an array)", "an array with at least one phone"),
    "a number": (5, "", "5", "an array of phones, or an object"),
    "open to the LAN": (
        {"gateway": {"listen": "0.0.0.0:8000"}, "phones": [{"host": "a"}]},
        "gateway.listen", '"0.0.0.0:8000" (a string)', '"allow_unauthenticated_lan": true',
    ),
    "not JSON": ('[\n{"host": oops}]', "line 2, column 10", "invalid literal", "JSON"),
    "half a file": ('[{"host":"a"},\n{"host":', "line 2, column 9", "unexpected end of input", ""),
    "key twice": ('[{"host":"a","host":"b"}]', "line 1, column 14", "a key that this object has already", "once"),
    "NUL": (b'[{"host":"a"}]\0', "line 1, column 15", "a NUL byte", "JSON"),
    "not UTF-8": (b'[{"host":"\xff"}]', "line 1, column 11", "invalid string", ""),
    "nothing": ("", "line 1, column 1", "an empty text", "JSON"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_file(check, tmp_path, case):
    content, path, found, expected = BAD[case]
    code, out, err = check(content)
    assert (code, out, len(err)) == (2, "", 1), err
    assert err[0].startswith(f"{tmp_path}/phones.json: " + (f"{path}: " if path else "") + f"found {found}"), err[0]
    assert expected in err[0].split(", expected ", 1)[1]


def test_every_mistake_at_once(check):
    code, _, err = check({
        "gateway": {"queue": -1, "cache": "sometimes", "polcy": "x", "listen": "fleet.lan:80"},
        "phones": [{"port": 0, "weight": 0}, 7, {"host": "a", "colour": 1}, {"host": "A"}],
    })
    assert code == 2
    paths = [re.match(r"\S+: (\S+): found ", line)[1] for line in err]
    assert paths == [
        "gateway.cache", "gateway.listen", "gateway.polcy", "gateway.queue",
        "phones[0].port", "phones[0].weight", "phones[0].host", "phones[1]", "phones[2].colour", "phones[3]",
    ]


def test_files_that_cannot_be_read(tmp_path):
    assert run_check(tmp_path / "none.json")[0] == 2
    assert "No such file" in run_check(tmp_path / "none.json")[2][0]
    assert run_check(tmp_path)[2] == [f"{tmp_path}: found a directory, expected a file"]
    locked = tmp_path / "locked.json"
    locked.write_text("[]")
    locked.chmod(0)
    if not os.access(locked, os.R_OK):  # root reads everything
        assert "Permission denied" in run_check(locked)[2][0]


# A process begins with the memory of the one that has started it: a small one starts it here.
CHECK_AND_TELL = """
import resource, subprocess, sys
done = subprocess.run(sys.argv[1:], capture_output=True, text=True)
print(done.returncode, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.stderr.write(done.stderr)
"""


def test_huge_file_is_refused_unread(tmp_path):
    path = tmp_path / "huge.json"
    with path.open("wb") as f:
        f.truncate(100 << 20)
    told = subprocess.run([sys.executable, "-S", "-c", CHECK_AND_TELL, program(), "check", str(path)],
                          capture_output=True, text=True, check=True)
    code, peak = map(int, told.stdout.split())
    assert code == 2
    assert told.stderr == f"{path}: found 104857600 bytes, expected at most 4194304 bytes (4 MiB)\n"
    if not sanitized():
        assert peak < 64 << 10  # KiB


# ---- schema and program agree


def agree(check, value, good=None):
    by_schema = BY_SCHEMA.is_valid(value)
    code, _, err = check(value)
    assert (code == 0) == by_schema, (value, err)
    if good is not None:
        assert by_schema == good, value


def values_for(about):
    """A setting's own limits, and what is just outside of them; (value, good)."""
    if "enum" in about:
        return [(v, True) for v in about["enum"]] + [("other", False), (about["enum"][0].upper(), False), (1, False)]
    if about["type"] == "boolean":
        return [(True, True), (False, True), ("true", False), (1, False)]
    if about["type"] in ("integer", "number"):
        low, high = about["minimum"], about["maximum"]
        step = 1 if about["type"] == "integer" else low / 2 or 0.5
        between = low + 0.5 if low + 0.5 < high else low + (high - low) / 2
        return [(low, True), (high, True), (float(high), True), (low - step, False), (high + 1, False), (str(high), False),
                (None, False), (between, about["type"] == "number"), (1e300, False)]
    return []


def test_agree_on_every_setting(check, tmp_path):
    # Those that depend on another setting are tried with that one as they need it.
    token = tmp_path / "token"
    token.write_text("0123456789abcdef\n")
    token.chmod(0o600)
    beside = {"breaker_max_open_s": {"breaker_open_s": 1}, "rest_above_c": {"rest_until_c": 0},
              "rest_until_c": {"rest_above_c": 100}, "registration": {"fleet_token_file": str(token)}}
    for key, about in SETTINGS.items():
        for value, good in values_for(about):
            settings = {**beside.get(key, {}), key: value}
            agree(check, {"gateway": settings, "phones": [{"host": "a"}]}, good)


def test_agree_on_every_key_of_a_phone(check):
    for key, about in PHONE.items():
        for value, good in values_for(about):
            agree(check, [{"host": "a", key: value}], good)


TEXTS = {
    "host": {
        True: ["a", "localhost", "Pixel-7.lan", "a_b", "10.0.0.1", "::1", "[::1]", "fd00::50", "[FD00::50]", "4g", "x" * 63],
        False: ["", "http://a", "https://10.0.0.1/", "a:80", "10.0.0.1:80", "[::1]:80", "a b", " a", "a/b", "u@a", "a?b",
                "10.0.0", "10.0.0.256", "010.0.0.1", "0.0.0.0", "::", "[::]", "a..b", "a.", ".a", "-a", "a-", "bür", "[a]",
                "x" * 64, 5, None, ["a"]],
    },
    "name": {
        True: ["n", "Sam's phone", "a" * 64, "~!#"],
        False: ["", "a" * 65, 'a"b', "a\\b", " a", "a ", "a\tb", "ü", 5],
    },
    "model": {True: ["m", "qwen2.5:1.5b", "hf.co/a/b:Q4_K_M", "m" * 256], False: ["", "m" * 257, "a\nb", 1]},
    "api_key_file": {True: [""], False: ["x" * 4097, 5, None, ["a"]]},
    "id": {True: ["pf-3f9c", "A.b_c-1", "i" * 64], False: ["", "a b", "ä", "a/b", "i" * 65, 1, None]},
    "token_sha256": {True: ["0a" * 32], False: ["", "0A" * 32, "0a" * 31, "0a" * 33, "xy" * 32, 1]},
    "serial": {True: ["R58M30ABCDE", "192.168.1.9:5555"], False: ["", "a b", "-s", "a;b", "s" * 65, 1]},
}


@pytest.mark.parametrize("key", TEXTS)
def test_agree_on_texts(check, key):
    assert {k for k, about in PHONE.items() if about.get("type") == "string"} == set(TEXTS)
    for good, values in TEXTS[key].items():
        for value in values:
            beside = {"id": "pf-1"} if key == "token_sha256" else {}
            agree(check, [{"host": "a", **beside, key: value}], good)


def test_agree_on_aliases(check):
    names = {f"n{i}": "m" for i in range(64)}
    for good in [{}, {"small": "qwen2.5:1.5b"}, {"hf.co/a/b:Q4": "m", "two words": "m"}, {"a" * 256: "m" * 256}, names]:
        agree(check, [{"host": "a", "aliases": good}], True)
    for bad in [[], "m", None, 5, {"": "m"}, {"a": ""}, {"a": 5}, {"a": None}, {"a": ["m"]}, {" a": "m"}, {"a\tb": "m"},
                {"a" * 257: "m"}, {"a": "m" * 257}, {"ü": "m"}, {**names, "one": "more"}]:
        agree(check, [{"host": "a", "aliases": bad}], False)


def test_agree_on_what_belongs_together(check, tmp_path):
    digest = "0a" * 32
    agree(check, [{"host": "a", "token_sha256": digest}], False)
    agree(check, [{"host": "a", "token_sha256": digest, "id": "pf-1"}], True)
    agree(check, {"gateway": {"registration": "open"}, "phones": [{"host": "a"}]}, False)
    agree(check, {"gateway": {"registration": "known"}, "phones": []}, False)
    token = tmp_path / "token"
    token.write_text("0123456789abcdef")
    token.chmod(0o600)
    joining = {"gateway": {"registration": "open", "fleet_token_file": str(token)}, "phones": []}
    agree(check, joining, True)  # they come by themselves


def test_the_fleets_token_is_looked_at(check, tmp_path):
    """What the schema cannot see."""
    def complaint(text, mode=0o600):
        token = tmp_path / "token"
        token.write_bytes(text)
        token.chmod(mode)
        code, _, err = check({"gateway": {"fleet_token_file": str(token)}, "phones": [{"host": "a"}]})
        assert code == (2 if err else 0)
        return "".join(err)

    assert complaint(b"0123456789abcdef\n") == ""
    assert "chmod 600" in complaint(b"0123456789abcdef\n", 0o640)
    for bad in (b"", b"\n", b"tooshort", b"with a space in it", b"two\nlines\nare\ntoo\nmany", b"x" * 257, b"\xff" * 20):
        assert "one line of 16 to 256 printable characters" in complaint(bad)
    for file, where in (({"gateway": {"phone_api_key_file": "nowhere"}, "phones": [{"host": "a"}]}, "gateway.phone_api_key_file"),
                        ([{"host": "a"}, {"host": "b", "api_key_file": "nowhere"}], "phones[1].api_key_file")):
        code, _, err = check(file)
        assert code == 2 and f": {where}: found " in err[0] and "a file with the key" in err[0], err
    code, _, err = check({"gateway": {"fleet_token_file": str(tmp_path / "nowhere")}, "phones": [{"host": "a"}]})
    assert code == 2 and "pocketfleet invite" in err[0]


def test_agree_on_who_may_connect(check, tmp_path):
    def gateway(**settings):
        return {"gateway": settings, "phones": [{"host": "a"}]}

    for address in ["127.0.0.1:8000", "127.1.2.3:0", "[::1]:8000", "localhost:80"]:
        agree(check, gateway(listen=address), True)
    for address in ["0.0.0.0:80", "[::]:80", "192.168.1.2:8000"]:
        agree(check, gateway(listen=address), False)
        agree(check, gateway(listen=address, allow_unauthenticated_lan=False), False)
        agree(check, gateway(listen=address, allow_unauthenticated_lan=True), True)
    for address in ["", "8000", ":8000", "127.0.0.1", "127.0.0.1:", "::1:8000", "fleet.lan:80", "127.0.0.1:x", 8000]:
        agree(check, gateway(listen=address, allow_unauthenticated_lan=True), False)
    keys = tmp_path / "keys.json"
    keys.write_text(json.dumps({"keys": [{"name": "a", "sha256": "0a" * 32}]}))
    keys.chmod(0o600)
    agree(check, gateway(listen="0.0.0.0:80", api_keys_file=str(keys)), True)
    agree(check, gateway(listen="0.0.0.0:80", api_keys_file=""), False)
    agree(check, gateway(api_keys_file=5), False)
    for origins in [[], ["https://app.example", "http://192.168.1.7:3000"]]:
        agree(check, gateway(origins=origins), True)
    for origins in ["https://a", [5], ["*"], ["https://app.example/"], ["https://a"] * 65]:
        agree(check, gateway(origins=origins), False)
    agree(check, gateway(host_names=["fleet.lan", "fleet"]), True)
    agree(check, gateway(host_names=[]), True)
    for names in ["fleet.lan", [5], ["http://x"], ["a"] * 65]:
        agree(check, gateway(host_names=names), False)


def test_agree_on_shapes(check):
    good = [[{"host": "a"}], {"phones": [{"host": "a"}]}, {"gateway": {}, "phones": [{"host": "a"}], "$schema": "./s.json"}]
    bad = [5, None, "x", [], {}, [5], [[]], [{}], {"phones": []}, {"phones": {}}, {"gateway": {}}, {"gateway": [], "phones": good[0]},
           {"phones": good[0], "more": 1}, {"phones": good[0], "$schema": 1}, [{"host": "a", "more": 1}],
           {"gateway": {"more": 1}, "phones": good[0]}, {"host": "a"}]
    for value in good:
        agree(check, value, True)
    for value in bad:
        agree(check, value, False)
