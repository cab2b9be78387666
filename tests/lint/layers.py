#!/usr/bin/env python3
"""Each layer includes only the layers and libraries it may. The build enforces the layers; system headers are on every
include path, so the libraries are checked here."""
import pathlib
import re
import sys

LAYERS = {
    "core": {"core"},
    "wire": {"core", "wire"},
    "engines": {"core", "wire", "engines"},
    "service": {"core", "wire", "engines", "service"},
    "transport": {"core", "wire", "service", "transport"},
    "sim": {"core", "wire", "sim"},
    "app": {"core", "wire", "engines", "service", "transport", "sim", "app"},
}
# library: how its headers begin, and who may use it
LIBRARIES = {
    r"boost/system/": set(LAYERS),
    r"boost/asio": {"service", "transport", "sim", "app"},
    r"boost/beast": {"transport", "sim", "app"},
    r"boost/": set(),
    r"nlohmann/": {"wire", "engines", "service", "sim", "app"},
    r"simdjson": {"wire", "engines"},
    r"xxhash": {"wire"},
    r"openssl/": {"wire", "transport"},
    r"spdlog/|fmt/": {"app"},
    r"prometheus/": {"app"},
    r"CLI/": {"app"},
    r"systemd/": {"app"},
    r"(mutex|thread|shared_mutex|condition_variable|fstream|iostream)$": set(LAYERS) - {"core"},
}


def main(root):
    faults = []
    for top in ("include/pocketfleet", "src"):
        for path in sorted((root / top).rglob("*.[ch]pp")):
            layer = path.relative_to(root / top).parts[0]
            for number, line in enumerate(path.read_text().splitlines(), 1):
                m = re.match(r'#include ["<]([^">]+)[">]', line)
                if not m:
                    continue
                header = m.group(1)
                own = re.match(r"pocketfleet/(\w+)/", header)
                if own and own.group(1) not in LAYERS[layer]:
                    faults.append(f"{path.relative_to(root)}:{number}: {layer} may not include {own.group(1)}: {header}")
                rule = next((users for prefix, users in LIBRARIES.items() if re.match(prefix, header)), None)
                if rule is not None and layer not in rule:
                    faults.append(f"{path.relative_to(root)}:{number}: {layer} may not use {header}")
    print("\n".join(faults) or "every include is one its layer may have")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1])))
