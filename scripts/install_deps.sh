#!/usr/bin/env bash
# Installs the Debian 12 packages that are needed and not there yet.
#
#   scripts/install_deps.sh [build|test|bench|fuzz|plots]
#
#   build   what compiles the program (the default)
#   test    that, and what runs the tests
#   bench   the same: what measures is built with the tests
#   fuzz    that, and the compiler that has libFuzzer
#   plots   what compiles the program, and what draws the pictures of scripts/bench.sh --scenario fleet --plots
#
# Needs root, or sudo, only if something is missing. None of these packages starts a service.
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/lib.sh"

packages=(g++ cmake ninja-build ccache pkg-config python3 dpkg-dev libboost1.81-dev nlohmann-json3-dev libspdlog-dev libcli11-dev
    prometheus-cpp-dev libssl-dev libsimdjson-dev libmimalloc-dev libqrencode-dev libsystemd-dev
    libxxhash-dev)
tools=(g++ cmake ninja pkg-config python3)
readonly for_tests=(libgtest-dev libgmock-dev python3-pytest python3-jsonschema curl
    adb bats bats-assert bats-support shellcheck openssh-client zbar-tools debootstrap chromium
    lintian mandoc systemd-container)
readonly test_tools=(curl)
readonly for_fuzzing=(clang-16 libclang-rt-16-dev llvm-16)  # llvm: names in stack traces

what=${1:-build}
case $what in
    build) ;;
    test | bench)
        packages+=("${for_tests[@]}")
        tools+=("${test_tools[@]}")
        # Not beside a Node.js from elsewhere.
        command -v npm >/dev/null || packages+=(nodejs npm)
        ;;
    fuzz)
        packages+=("${for_tests[@]}" "${for_fuzzing[@]}")
        tools+=("${test_tools[@]}" clang++-16)
        ;;
    plots) packages+=(python3-matplotlib) ;;
    -h | --help)
        sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0"
        exit
        ;;
    *) die "'$what' is not one of: build, test, bench, fuzz, plots" ;;
esac

system=$(. /etc/os-release 2>/dev/null && echo "${ID:-unknown} ${VERSION_ID:-}") || system=unknown
if [[ $system != "debian 12" ]]; then
    warn "this is '$system'; packages are known for Debian 12 only, so nothing is installed"
    lacking=()
    for tool in "${tools[@]}"; do command -v "$tool" >/dev/null || lacking+=("$tool"); done
    ((${#lacking[@]} == 0)) ||
        die "not found: ${lacking[*]}. Install what Debian 12 calls: ${packages[*]}"
    say "the tools are there (${tools[*]}); going on"
    exit
fi

missing=()
for package in "${packages[@]}"; do
    [[ $(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || missing+=("$package")
done
if ((${#missing[@]} == 0)); then
    say "everything is there ($what: ${#packages[@]} packages)"
    exit
fi

as_root=()
if ((EUID != 0)); then
    command -v sudo >/dev/null ||
        die "there is no sudo; as root: apt-get update; apt-get install --no-install-recommends ${missing[*]}"
    as_root=(sudo)
fi
say "installing ${#missing[@]} of ${#packages[@]} packages: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
# An index that cannot be fetched is not the end: the one that is there may do.
"${as_root[@]}" apt-get -q update || warn "apt-get update failed; trying with the package index that is there"
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get -q -y -o Dpkg::Use-Pty=0 install --no-install-recommends "${missing[@]}" ||
    die "apt-get could not install: ${missing[*]}"
say "done: everything is there ($what: ${#packages[@]} packages)"
