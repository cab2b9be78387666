#!/usr/bin/env bash
# Installs what is missing, builds, and runs all tests; ends with ctest's summary and its exit code.
#
#   scripts/test.sh [PRESET] [CTEST_ARGUMENT...]
#
# PRESET is dev (the default), asan, tsan or release. Examples:
#   scripts/test.sh dev -L unit           only the unit tests
#   scripts/test.sh asan -R e2e           the end-to-end tests against a build with sanitizers
#
# Real llama-servers and a real Prometheus are unpacked into ~/.cache/pocketfleet ($POCKETFLEET_CACHE), without root.
# Where that cannot be done their tests are skipped, loudly; POCKETFLEET_REQUIRE_ENGINE=1 makes it a failure.
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/lib.sh"
root=$(dirname "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")")

preset=dev
case ${1:-} in
    -h | --help)
        sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0"
        exit
        ;;
    dev | asan | tsan | release)
        preset=$1
        shift
        ;;
    '' | -*) ;;
    *) die "'$1' is not one of: dev, asan, tsan, release" ;;
esac

cd "$root"
scripts/install_deps.sh test
say "unpacking the real engine and Prometheus for the tests"
if ! tests/testbed/unpack.sh llama prometheus; then
    [[ -z ${POCKETFLEET_REQUIRE_ENGINE:-} ]] || die "the real engine or Prometheus cannot be unpacked (see above)"
    warn "THE TESTS THAT NEED A REAL llama-server OR Prometheus WILL BE SKIPPED"
fi
configure_and_build "$preset" -DPOCKETFLEET_TESTS=ON
say "testing build/$preset"
exec ctest --preset "$preset" -j2 --output-on-failure "$@"
