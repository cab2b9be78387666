# Shared by the scripts beside it: source "${BASH_SOURCE%/*}/lib.sh"
# shellcheck shell=bash

if [[ -t 2 ]]; then bold=$'\033[1m' plain=$'\033[0m'; else bold='' plain=''; fi
say() { printf '%s== %s%s\n' "$bold" "$*" "$plain" >&2; }
warn() { printf 'warning: %s\n' "$*" >&2; }
die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# Parallel compilations: as many as there are processors, but a Beast translation unit takes over 1 GB, and a laptop
# that swaps is slower than one job.
build_jobs() {
    local processors memory_kb by_memory
    processors=$(nproc)
    memory_kb=$(awk '/^MemAvailable:/ { print $2 }' /proc/meminfo)
    by_memory=$(((memory_kb + 1) / 1500000))
    ((by_memory >= 1)) || by_memory=1
    echo $((processors < by_memory ? processors : by_memory))
}

# configure_and_build PRESET [CMAKE_ARG...] -- [BUILD_ARG...]
configure_and_build() {
    local preset=$1 configure=()
    shift
    while (($#)) && [[ $1 != -- ]]; do
        configure+=("$1")
        shift
    done
    if (($#)); then shift; fi
    say "configuring build/$preset"
    cmake --preset "$preset" "${configure[@]}" >&2 || die "cmake cannot configure the preset '$preset' (see above)"
    say "building build/$preset"
    NINJA_STATUS='[%f/%t %es] ' cmake --build --preset "$preset" --parallel "$(build_jobs)" "$@" >&2 ||
        die "the build of '$preset' failed (see above)"
}
