#!/usr/bin/env bats
# --threads auto: the fast processors, from whatever the phone lets one read.
load helpers
setup() {
    setup_phone
    make_model "$phone_root/m.gguf"
    make_release "$phone_root/release.tar.gz"
}
teardown() { teardown_phone; }

threads_are() {
    run -0 phone install --dry-run --yes --engine llama-release --engine-url "file://$phone_root/release.tar.gz" \
        --engine-sha256 "$(sha256_of "$phone_root/release.tar.gz")" --model "$phone_root/m.gguf" "${@:2}"
    # As llama-server's option or as a setting of the run file: -t 5, --threads 5, THREADS=5
    grep -qE -- "(^|[^A-Za-z])(-t|--threads|[Tt][Hh][Rr][Ee][Aa][Dd][Ss]=?)[ '\"=]*$1([^0-9]|\$)" <<<"$output" ||
        fail "expected $1 threads in: $(grep -iE -- '--?t(hreads)?\b|threads' <<<"$output")"
    if grep -qE -- "(-t|--threads) +auto" <<<"$output"; then fail "'auto' was handed on to the engine"; fi
}

@test "Tensor G3, 4 + 4 + 1: the five fast ones" { threads_are 5; }
@test "8 Gen 2, 3 + 4 + 1: the five fast ones" {
    frequencies 2016000 2016000 2016000 2803200 2803200 2803200 2803200 3187200
    threads_are 5
}
@test "4 + 4: the four fast ones" {
    frequencies 1612800 1612800 1612800 1612800 2208000 2208000 2208000 2208000
    threads_are 4
}
@test "4 + 4, the slow ones nearly as fast but known to be small: the four others" {
    frequencies 1804800 1804800 1804800 1804800 2016000 2016000 2016000 2016000
    cpu_parts 0xd03 0xd03 0xd03 0xd03 0xd09 0xd09 0xd09 0xd09
    threads_are 4
}
@test "8 alike: all of them" {
    frequencies 2000000 2000000 2000000 2000000 2000000 2000000 2000000 2000000
    threads_are 8
}
@test "6 + 2: the two fast ones" {
    frequencies 1804800 1804800 1804800 1804800 1804800 1804800 2304000 2304000
    threads_are 2
}
@test "more than nine processors are counted as numbers, not as text" {
    frequencies 1000000 1000000 2000000 2000000 2000000 2000000 2000000 2000000 2000000 2000000 2000000 2000000
    threads_are 10
}
@test "no frequencies: the big ones by their part in /proc/cpuinfo" {
    frequencies
    cpu_parts 0xd05 0xd05 0xd05 0xd05 0xd41 0xd41 0xd41 0xd44
    threads_are 4
}
@test "unreadable or empty frequency files count as none" {
    rm -rf "$phone_root/sys/devices"
    mkdir -p "$phone_root/sys/devices/system/cpu/cpu0/cpufreq"
    : >"$phone_root/sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq"
    cpu_parts 0xd46 0xd46 0xd46 0xd46 0xd4d 0xd4d 0xd4d 0xd4d 0xd4e
    threads_are 5
}
@test "neither: half of nproc" {
    frequencies
    rm -f "$phone_root/proc/cpuinfo"
    threads_are 4
}
@test "one processor: one thread" {
    frequencies
    rm -f "$phone_root/proc/cpuinfo"
    echo 1 >"$stub_state/nproc"
    threads_are 1
}
@test "a number is taken as it is" { threads_are 3 --threads 3; }
