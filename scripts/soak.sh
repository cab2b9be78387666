#!/usr/bin/env bash
# Keeps a gateway under moderate load for hours while its phones die, stop and vanish, its clients leave and
# stall, and its file is reloaded; prints a table of what came of it.
#
#   scripts/soak.sh HOURS [--clients N] [--seed N] [--progress SECONDS]
#
# HOURS may be a fraction: 0.05 is three minutes. Installs what is missing and builds release first, unless
# $POCKETFLEET names a built program. A line each 30 seconds goes to stderr, the table to stdout.
#
# The exit code is 1 if an answer was lost, changed or cut without a word, or if the gateway crashed or did
# not come back to where it was before.
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/lib.sh"
root=$(dirname "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")")

case ${1:-} in
    -h | --help | '')
        sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0"
        if [[ -n ${1:-} ]]; then exit; else exit 2; fi
        ;;
esac
[[ $1 =~ ^[0-9]*\.?[0-9]+$ ]] || die "'$1' is not a number of hours"

if [[ -n ${POCKETFLEET:-} ]]; then
    POCKETFLEET=$(readlink -e "$POCKETFLEET") || die "POCKETFLEET names no program"
else
    cd "$root"
    scripts/install_deps.sh test >&2
    configure_and_build release -- --target pocketfleet
    POCKETFLEET=$root/build/release/pocketfleet
fi
export POCKETFLEET
cd "$root"
tests/testbed/unpack.sh llama >/dev/null || die "the real engine cannot be unpacked (see above)"
say "soaking $POCKETFLEET for $1 h"
exec /usr/bin/python3 -B tests/e2e/soak.py "$@"
