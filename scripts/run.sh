#!/usr/bin/env bash
# Installs what is missing, builds, and serves.
#
#   scripts/run.sh [FILE] [-- more arguments]
#
# FILE, or config/phones.json if there is one, names the phones. Without either, a small fleet of simulated phones is
# served, and the curl line to try is printed. What follows `--` goes to the program: scripts/run.sh -- --phones 8
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/lib.sh"
root=$(dirname "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")")

file=
if [[ ${1:-} == -h || ${1:-} == --help ]]; then
    sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0"
    exit
fi
if (($#)) && [[ $1 != -- ]]; then
    [[ -r $1 && ! -d $1 ]] || die "cannot read '$1' (expected a file like config/phones.example.json)"
    file=$(readlink -f "$1")
    shift
elif [[ -r $root/config/phones.json ]]; then
    file=$root/config/phones.json
fi
if (($#)); then
    [[ $1 == -- ]] || die "'$1' is one argument too many; what is meant for the program goes behind '--'"
    shift
fi

cd "$root"
"$root/scripts/install_deps.sh" build
# To serve, no test is built; and where the tests' libraries are missing, they must not be asked for.
without_tests=()
if [[ $(dpkg-query -W -f='${db:Status-Status}' libgtest-dev 2>/dev/null) != installed ]]; then
    without_tests=(-DPOCKETFLEET_TESTS=OFF)
fi
configure_and_build release "${without_tests[@]}" -- --target pocketfleet

if [[ -n $file ]]; then
    say "serving the phones of $file (Ctrl-C stops)"
    exec build/release/pocketfleet serve --phones "$file" "$@"
fi
say "no config/phones.json: serving a demo fleet of simulated phones (Ctrl-C stops)"
exec build/release/pocketfleet demo "$@"
