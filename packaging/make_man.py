#!/usr/bin/env python3
"""Makes the man pages, so that they say what the program and the schema say.

  make_man.py PROGRAM SCHEMA VERSION INTO

In packaging/man/*.in, @COMMANDS@ becomes the program's subcommands and options as --help lists them, and @KEYS:NAME@
the keys of one of the schema's definitions.
"""
import gzip
import json
import pathlib
import re
import subprocess
import sys


def roff(text):
    """Text as troff takes it: no line begins with a request, and a hyphen is the one of the keyboard."""
    text = text.replace("\\", r"\e").replace("-", r"\-")
    return "\n".join(r"\&" + line if line[:1] in (".", "'") else line for line in text.splitlines())


def entry(head, text):
    return f".TP\n.B {roff(head)}\n{roff(text) or r'&'}\n"


def entries(section):
    """[(left column, right column)] of one section of CLI11's help."""
    found = []
    for line in section.splitlines():
        if m := re.fullmatch(r"  (\S+(?: \S+)*)(?: {2,}(.*))?", line):
            found.append([m[1], m[2] or ""])
        elif line.strip() and found:
            found[-1][1] = f"{found[-1][1]} {line.strip()}".strip()
    return found


def sections(text):
    """{title: lines} of CLI11's help; the first lines are under ""."""
    parts = re.split(r"^(\w[\w ]*):$", text, flags=re.M)
    return {"": parts[0], **dict(zip(parts[1::2], parts[2::2]))}


def help_of(program, words):
    return subprocess.run([program, *words, "--help"], check=True, capture_output=True, text=True, timeout=60).stdout


def plain(left):
    """CLI11's left column without its types and checks: names, and whether there is a value."""
    names, *more = left.split(" ")
    names = re.sub(r"\{.*?\}", "", names).replace(",", ", ")
    kind = re.match(r"(TEXT|BOOLEAN|[A-Z]{2,})", " ".join(more))
    if not names.startswith("-") or kind is None or kind[0] == "REQUIRED":
        return names
    return f"{names} {dict(TEXT='TEXT', BOOLEAN='true|false').get(kind[0], 'N')}"


def commands(program, words=()):
    parts = sections(help_of(program, words))
    out = []
    if words:
        usage = re.search(r"^Usage: (.*)$", parts[""], re.M)[1]
        out.append(f".SS {roff(usage)}\n{roff(parts[''].splitlines()[0])}\n")
        for title in ("Positionals", "Options"):
            for head, text in entries(parts.get(title, "")):
                if not head.startswith("-h,"):
                    out.append(entry(plain(head), text))
    for name, _ in entries(parts.get("Subcommands", "")):
        out += commands(program, (*words, name))
    return out


def values(about):
    """Which values a key takes, and its default."""
    said = []
    if "enum" in about:
        said.append(", ".join(json.dumps(v) for v in about["enum"]))
    elif "minimum" in about and "maximum" in about:
        said.append(f"{about['minimum']} to {about['maximum']}")
    elif about.get("type") in ("boolean", "array", "object"):
        said.append({"boolean": "true or false"}.get(about["type"], about["type"]))
    if "default" in about:
        said.append(f"default {json.dumps(about['default'])}")
    return "; ".join(said)


def keys(schema, definition):
    out = []
    for key, about in schema["definitions"][definition]["properties"].items():
        extra = values(about)
        out.append(entry(key, about["description"] + (f" ({extra})" if extra else "")))
    return out


def main(program, schema, version, into):
    schema = json.loads(pathlib.Path(schema).read_text(encoding="utf-8"))
    into = pathlib.Path(into)
    into.mkdir(parents=True, exist_ok=True)
    for template in sorted((pathlib.Path(__file__).parent / "man").glob("*.in")):
        text = template.read_text(encoding="utf-8").replace("@VERSION@", version)
        text = text.replace("@COMMANDS@\n", "".join(commands(program)) if "@COMMANDS@" in text else "")
        text = re.sub(r"@KEYS:(\w+)@\n", lambda m: "".join(keys(schema, m[1])), text)
        page = into / template.stem
        page.write_text(text, encoding="utf-8")
        # Without name and time, so that the same page is the same file.
        with open(f"{page}.gz", "wb") as raw, gzip.GzipFile("", "wb", 9, raw, 0) as packed:
            packed.write(text.encode())


if __name__ == "__main__":
    main(*sys.argv[1:])
