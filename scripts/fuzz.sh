#!/usr/bin/env bash
# Installs what is missing, builds the fuzzers with clang, and lets each look for inputs that break something.
#
#   scripts/fuzz.sh [SECONDS] [TARGET...]
#
# SECONDS are for each target; 60 is the default. TARGETs are the names of the folders in tests/fuzz/corpus; all of
# them is the default. Each begins with what is in its folder and with what earlier runs have found.
#
# Prints a line for each target. New inputs go to build/fuzz/corpus; what crashes, hangs or breaks an invariant goes to
# build/fuzz/findings, the end of the fuzzer's log beside it, and makes the exit code 1. To keep those new inputs that
# reach new code: build/fuzz/fuzz_TARGET -merge=1 tests/fuzz/corpus/TARGET build/fuzz/corpus/TARGET
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/lib.sh"
root=$(dirname "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")")

if [[ ${1:-} == -h || ${1:-} == --help ]]; then
    sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0"
    exit
fi
seconds=60
if [[ ${1:-} =~ ^[0-9]+$ ]]; then
    seconds=$((10#$1))
    shift
    ((seconds > 0)) || die "0 seconds would be without end"
fi

cd "$root"
targets=("$@")
known=()
for folder in tests/fuzz/corpus/*/; do known+=("$(basename "$folder")"); done
((${#targets[@]})) || targets=("${known[@]}")
for target in "${targets[@]}"; do
    [[ " ${known[*]} " == *" $target "* ]] || die "'$target' is not one of: ${known[*]}"
done

scripts/install_deps.sh fuzz
configure_and_build fuzz

findings=build/fuzz/findings
mkdir -p "$findings"
symbolizer=$(command -v llvm-symbolizer-16) && export ASAN_SYMBOLIZER_PATH=$symbolizer
export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_stack_use_after_return=1:strict_string_checks=1}
export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1:halt_on_error=1}
found_any=0
for target in "${targets[@]}"; do
    say "fuzzing $target for $seconds s"
    mkdir -p "build/fuzz/corpus/$target"
    log=$findings/$target.log
    failed=0
    # The first folder is the one that it writes to.
    "build/fuzz/fuzz_$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
        -dict="tests/fuzz/words/$target.dict" -artifact_prefix="$findings/$target-" \
        "build/fuzz/corpus/$target" "tests/fuzz/corpus/$target" >"$log" 2>&1 || failed=1
    runs=$(sed -n 's/^stat::number_of_executed_units: //p' "$log")
    coverage=$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$log" | tail -1)
    news=$(sed -n 's/^stat::new_units_added: //p' "$log")
    found=$(sed -n 's/.*Test unit written to //p' "$log")
    printf '%-15s %9s executions, coverage %6s, %5s new inputs, %s\n' "$target" "${runs:-?}" "${coverage:-?}" \
        "${news:-?}" "findings: ${found:-$( ((failed)) && echo "it failed" || echo none)}"
    if ((failed)); then
        found_any=1
        tail -n 40 "$log" >&2
    else
        rm -f "$log"
    fi
done
exit "$found_any"
