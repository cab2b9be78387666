"""Libraries from npm, as a package-lock.json has them: fetched once, kept in ~/.cache/pocketfleet."""
import contextlib
import hashlib
import os
import pathlib
import shutil
import subprocess
import tempfile


def installed(folder, name, required):
    """The folder with node_modules; required(WHY) raises where they cannot be had. Runs that fetch at once do not
    disturb each other: it appears whole."""
    lock = (folder / "package-lock.json").read_bytes()
    base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    cache = pathlib.Path(os.environ.get("POCKETFLEET_CACHE") or pathlib.Path(base) / "pocketfleet")
    there = cache / f"{name}-{hashlib.sha256(lock).hexdigest()[:16]}"
    if not there.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        new = pathlib.Path(tempfile.mkdtemp(dir=cache, prefix=f".{name}-"))
        try:
            for each in ("package.json", "package-lock.json"):
                shutil.copy(folder / each, new)
            command = ["timeout", "300", "npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
            done = subprocess.run(command, cwd=new, capture_output=True, text=True,
                                  env={**os.environ, "npm_config_fetch_retries": "1"})
            if done.returncode:
                said = [line for line in done.stderr.splitlines() if line.startswith("npm error")]
                required(f"npm ci fails ({done.returncode}): {' / '.join(said[:3])}")
            with contextlib.suppress(OSError):  # another run was faster
                new.rename(there)
        finally:
            shutil.rmtree(new, ignore_errors=True)
    return there
