#!/usr/bin/env bash
# Measures the gateway beside HAProxy and nginx on this machine and prints the tables of docs/performance.md.
#
#   scripts/bench.sh [--rounds N] [--seconds S] [--scenario NAME] [--syscalls] [--build NAME=FILE] [--json FILE] ...
#   scripts/bench.sh --scenario fleet [--plots] [--seeds N] [--workload W] [--fleet F] [--policy P] [--json FILE] ...
#   scripts/bench.sh --scenario live [--seeds N] [--compress N] [--workload W] [--json FILE] ...
#
# The second compares ways of choosing a phone, in virtual time (tests/bench/fleet, bench_fleet --help); --plots makes
# the pictures of docs/images from it and installs what draws them. The third compares the gateway's policies with
# HAProxy's in real time, over the same simulated phones (tests/bench/live.py --help).
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
fleet=0 live=0 plots=0 json=''
while (($#)); do
    if [[ $1 == --json && -n ${2:-} ]]; then
        json=$(readlink -m "$2")
        arguments+=(--json "$json")
        shift 2
    elif [[ "$1 ${2:-}" == "--scenario fleet" ]]; then
        fleet=1
        shift 2
    elif [[ "$1 ${2:-}" == "--scenario live" ]]; then
        live=1
        shift 2
    elif [[ $1 == --plots ]]; then
        plots=1
        shift
    else
        arguments+=("$1")
        shift
    fi
done

cd "$root"
if ((fleet)); then
    scripts/install_deps.sh >&2
    ((!plots)) || scripts/install_deps.sh plots >&2
    configure_and_build release -DPOCKETFLEET_BENCH=ON -- --target bench_fleet
    if ((plots)) && [[ -z $json ]]; then
        json=$root/build/release/fleet.json
        arguments+=(--json "$json")
    fi
    build/release/bench_fleet "${arguments[@]}"
    ((!plots)) || /usr/bin/python3 scripts/plot_fleet.py "$json"
    exit
fi
((!plots)) || die "--plots is for --scenario fleet"
targets=(pocketfleet)
((live)) || targets+=(bench_backend bench_load bench_choice)
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
configure_and_build release -DPOCKETFLEET_BENCH=ON -- --target "${targets[@]}"
say "measuring"
program=bench
((!live)) || program=live
exec /usr/bin/python3 "tests/bench/$program.py" "${arguments[@]}"
