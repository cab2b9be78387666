#!/usr/bin/env bash
# Measures the gateway beside HAProxy and nginx on this machine and prints the tables of docs/performance.md.
#
#   scripts/bench.sh [--rounds N] [--seconds S] [--scenario NAME] [--syscalls] [--build NAME=FILE] [--json FILE] ...
#
# Installs what is missing and builds release first; HAProxy and nginx, where they are not installed, are unpacked into
# ~/.cache/pocketfleet ($POCKETFLEET_CACHE), without root. The tables go to stdout, all else to stderr. Fails if an
# answer was wrong, never because one was slow. On a machine with other work to do the numbers are rough: the tables
# say how much of it there was. More options: tests/bench/bench.py --help
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/lib.sh"
root=$(dirname "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")")

if [[ ${1:-} == -h || ${1:-} == --help ]]; then
    sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0"
    exit
fi

# From the caller's folder, since the program runs in the project's.
arguments=()
while (($#)); do
    if [[ $1 == --json && -n ${2:-} ]]; then
        arguments+=(--json "$(readlink -m "$2")")
        shift 2
    else
        arguments+=("$1")
        shift
    fi
done

cd "$root"
scripts/install_deps.sh bench >&2
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
for proxy in haproxy nginx; do
    if command -v "$proxy" >/dev/null; then continue; fi
    if folder=$(tests/testbed/unpack.sh "$proxy"); then
        PATH=$folder:$PATH
    else
        warn "$proxy is neither installed nor can it be unpacked: it is left out"
    fi
done
export PATH
configure_and_build release -DPOCKETFLEET_BENCH=ON -- --target pocketfleet bench_backend bench_load bench_choice
say "measuring"
exec /usr/bin/python3 tests/bench/bench.py "${arguments[@]}"
