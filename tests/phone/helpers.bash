# What the phone tests share: load it first, call setup_phone in setup and teardown_phone in teardown.
# shellcheck shell=bash
#
# A test's phone is a throw-away folder with a $PREFIX and a $HOME like Termux's. Only there the script runs, with
# nothing of the host in its environment: PATH is that $PREFIX/bin, which holds links to the host's tools that Termux
# has from the start (no python, no jq) and the stubs of stubs/bin for everything of Termux and Android. "pkg install"
# makes more of them appear.
bats_require_minimum_version 1.5.0
bats_load_library bats-support
bats_load_library bats-assert

tests=$(cd "${BASH_SOURCE[0]%/*}" && pwd)
root=$(cd "$tests/../.." && pwd)
script=${PHONE_SETUP:-$root/scripts/phone_setup.sh}
sha256_of() { sha256sum "$1" | cut -d' ' -f1; }

readonly base_tools="bash sh dash env cat cp mv rm ln ls mkdir rmdir mktemp touch chmod stat head tail cut tr sort uniq
    wc tee date sleep timeout sha256sum md5sum basename dirname readlink realpath printf echo true false test expr seq
    od dd du sync id whoami nohup install truncate mkfifo kill paste join comm tac nl fold split shuf yes numfmt base64
    cksum find xargs grep egrep fgrep sed awk tar gzip gunzip zcat xz bzip2 unzip ps pgrep pkill free setsid flock diff
    cmp which stdbuf tput stty tty uuidgen"
readonly base_stubs="pkg apt apt-get dpkg dpkg-query pm getprop am dumpsys settings termux-wake-lock termux-wake-unlock
    termux-setup-storage termux-notification termux-toast termux-open-url termux-reload-settings termux-info ifconfig
    nproc uname df curl"

# The same for all tests of a run: made once, then copied.
phone_template() {
    local template=${BATS_RUN_TMPDIR:?}/phone work tool
    if [[ ! -d $template ]]; then
        work=$(mktemp -d "$BATS_RUN_TMPDIR/phone.XXXXXX")
        mkdir -p "$work/home" "$work/usr"/{bin,tmp,etc/profile.d,var/log,var/lib,share} "$work/stubs"/{prop,rules} \
            "$work/proc/sys/kernel/random" "$work/sys"
        for tool in $base_tools; do ln -s "$(type -P "$tool" || echo /nonexistent)" "$work/usr/bin/$tool"; done
        find "$work/usr/bin" -lname /nonexistent -delete
        for tool in $base_stubs; do ln -s "$tests/stubs/bin/$tool" "$work/usr/bin/$tool"; done
        # The script's pauses (until the engine is up, between two starts) are cut short: see real_sleep.
        rm "$work/usr/bin/sleep"
        printf '#!/bin/sh\ncase $1 in 0.*) exec "$STUB_SLEEP" "$1" ;; *) exec "$STUB_SLEEP" 0.2 ;; esac\n' >"$work/usr/bin/sleep"
        chmod +x "$work/usr/bin/sleep"
        mv -T "$work" "$template" 2>/dev/null || rm -rf "$work"
    fi
    printf '%s' "$template"
}

setup_phone() {
    phone_root=$BATS_TEST_TMPDIR/phone
    cp -a "$(phone_template)" "$phone_root"
    phone_home=$phone_root/home phone_prefix=$phone_root/usr stub_state=$phone_root/stubs
    pocketfleet=$phone_home/pocketfleet
    cp "$script" "$phone_home/phone_setup.sh"
    phone_env=(HOME="$phone_home" PREFIX="$phone_prefix" PATH="$phone_prefix/bin" TMPDIR="$phone_prefix/tmp"
        LANG=C.UTF-8 TERM=dumb SHELL="$phone_prefix/bin/bash" TERMUX_VERSION=0.118.3 STUB_HOME="$tests/stubs"
        STUB_STATE="$stub_state" STUB_PYTHON="$(type -P python3)" STUB_CURL="$(type -P curl)" STUB_SLEEP="$(type -P sleep)"
        POCKETFLEET_SYS="$phone_root/sys" POCKETFLEET_PROC="$phone_root/proc" LLAMA_CACHE="$phone_home/.cache/llama.cpp")
    # A healthy Pixel 8 with Termux of F-Droid.
    property ro.build.version.release 14
    property ro.build.version.sdk 34
    property ro.product.model "Pixel 8"
    property ro.product.manufacturer Google
    property ro.product.cpu.abi arm64-v8a
    property ro.product.cpu.abilist arm64-v8a
    property ro.soc.model "Tensor G3"
    echo aarch64 >"$stub_state/arch"
    echo 9 >"$stub_state/nproc"
    echo 60000000 >"$stub_state/free_kb"
    printf '%s\n' com.termux com.termux.api com.termux.boot >"$stub_state/apps"
    : >"$stub_state/log"
    : >"$stub_state/packages"
    memory 7600000 4200000
    frequencies 1704000 1704000 1704000 1704000 2367000 2367000 2367000 2367000 2914000
    echo 0d9b6a9e-3a0c-4b0e-9a43-0123456789ab >"$phone_root/proc/sys/kernel/random/boot_id"
    echo "86400.50 300000.00" >"$phone_root/proc/uptime"
    engine_port=$(free_port)
}

teardown_phone() {
    [[ -n ${phone_root:-} ]] || return 0
    local environ try
    # Everything started on that phone has its STUB_STATE; twice, for what was just being started.
    for try in 1 2; do
        while IFS= read -r environ; do
            environ=${environ#/proc/}
            kill -KILL "${environ%%/*}" 2>/dev/null || true
        done < <(grep -lzsxF "STUB_STATE=$stub_state" /proc/[0-9]*/environ)
    done
    for try in "${servers[@]:-}"; do [[ -z $try ]] || kill -KILL "$try" 2>/dev/null || true; done
    rm -rf "$phone_root"
}

# Pauses as long as they are asked for
real_sleep() { ln -sf "$(type -P sleep)" "$phone_prefix/bin/sleep"; }

# phone ARGUMENT...: runs the script on the phone. on_phone COMMAND...: any command there.
# Not by "env -i": the environment of a phone may hold a secret, which would then be on env's command line for a moment.
on_phone() (
    local name
    for name in $(compgen -e); do export -n "${name?}"; done
    for name in $(declare -Fx | cut -d' ' -f3); do export -fn "${name?}"; done
    export "${phone_env[@]}"
    exec env "$@" </dev/null 3>&- 4>&-
)
phone() { on_phone timeout -k 5 "${phone_limit:-60}" "$phone_prefix/bin/bash" "$phone_home/phone_setup.sh" "$@"; }

property() { echo "$2" >"$stub_state/prop/$1"; }
memory() {
    printf 'MemTotal:       %8d kB\nMemFree:          400000 kB\nMemAvailable:   %8d kB\nSwapTotal:  0 kB\n' "$1" "$2" \
        >"$phone_root/proc/meminfo"
}
# frequencies KHZ...: one processor each
frequencies() {
    rm -rf "$phone_root/sys/devices"
    local n=0 khz
    for khz in "$@"; do
        mkdir -p "$phone_root/sys/devices/system/cpu/cpu$n/cpufreq"
        echo "$khz" >"$phone_root/sys/devices/system/cpu/cpu$n/cpufreq/cpuinfo_max_freq"
        n=$((n + 1))
    done
}
# cpu_parts PART...: /proc/cpuinfo of an Arm phone, one processor each
cpu_parts() {
    local n=0 part
    for part in "$@"; do
        printf 'processor\t: %d\nBogoMIPS\t: 49.15\nFeatures\t: fp asimd aes sha2 asimddp i8mm\nCPU implementer\t: 0x41\n' "$n"
        printf 'CPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: %s\nCPU revision\t: 1\n\n' "$part"
        n=$((n + 1))
    done >"$phone_root/proc/cpuinfo"
}

# rule COMMAND PATTERN ACTION [VALUE]: see stubs/common.bash
rule() {
    local value=${4:-}
    if [[ $3 == answer ]]; then
        value=$(mktemp "$stub_state/answer.XXXXXX")
        printf '%s\n' "$4" >"$value"
    fi
    printf '%s\t%s\t%s\n' "$2" "$3" "$value" >>"$stub_state/rules/$1"
}
no_rules() { rm -rf "$stub_state/rules" "$stub_state/hung" && mkdir "$stub_state/rules"; }
calls() { grep -E "^$1( |\$)" "$stub_state/log" || true; }
# "sv up" really starts the run files, so that the engine answers.
services_run() { touch "$stub_state/sv.runs"; }

# until_true SECONDS COMMAND...: waits for an event; says what it waited for when it does not come.
until_true() {
    local end=$((SECONDS + $1 + 1))
    shift
    until "$@"; do
        if ((SECONDS >= end)); then
            echo "never became true: $*" >&2
            return 1
        fi
        sleep 0.05
    done
}

# Below the range that the system gives out by itself, so that nobody gets it in the meantime by chance.
free_port() {
    local port
    for _ in {1..50}; do
        port=$((20000 + (RANDOM * 32768 + RANDOM) % 12000))
        if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
            echo "$port"
            return
        fi
    done
}
answers() { curl -s -o /dev/null --max-time 1 "$1"; }

servers=()
# start_gateway: $gateway is its address, $gateway_folder has what it hears.
start_gateway() {
    gateway_folder=$phone_root/gateway
    mkdir -p "$gateway_folder"
    : >"$gateway_folder/requests"
    gateway_says 200 '{"phone":"pixel-8","state":"serving","reason":null,"interval_s":'"${1:-10}"'}'
    rm -f "$gateway_folder/port"
    python3 "$tests/stubs/gateway.py" "$gateway_folder" ${gateway_port:+"$gateway_port"} 3>&- 4>&- &
    servers+=("$!")
    gateway_pid=$!
    until_true 5 test -s "$gateway_folder/port"
    gateway_port=$(<"$gateway_folder/port")
    gateway=http://127.0.0.1:$gateway_port
}
gateway_says() {
    printf '%s\n%s\n' "$1" "$2" >"$gateway_folder/answer.new"
    mv "$gateway_folder/answer.new" "$gateway_folder/answer"
}
beats() { grep -c '"path": "/fleet/heartbeat"' "$gateway_folder/requests" || true; }
at_least_beats() { (($(beats) >= $1)); }
# beat N EXPRESSION: a Python expression over the N-th heartbeat (from 1): body, headers, time, path, method
beat() {
    python3 - "$gateway_folder/requests" "$1" "$2" <<'PY'
import json, sys
requests = [json.loads(line) for line in open(sys.argv[1], encoding="utf-8")]
beats = [r for r in requests if r["path"] == "/fleet/heartbeat"]
value = eval(sys.argv[3], {"beats": beats, "json": json}, beats[int(sys.argv[2]) - 1])
print(json.dumps(value) if not isinstance(value, str) else value)
PY
}

# start_files: $files is the address of the folder $files_folder; $files_control as stubs/files.py says.
start_files() {
    files_folder=$phone_root/files files_control=$phone_root/files.control
    mkdir -p "$files_folder" "$files_control"
    python3 "$tests/stubs/files.py" "$files_folder" "$files_control" 3>&- 4>&- &
    servers+=("$!")
    until_true 5 test -s "$files_control/port"
    files=http://127.0.0.1:$(<"$files_control/port")
}

# make_release FILE [TAG] [LAYOUT]: a llama.cpp release for Android of stubs. LAYOUT: folder (llama-TAG/...) or build
# (build/bin/..., as older ones).
make_release() {
    local tag=${2:-b11000} top work
    if [[ ${3:-folder} == build ]]; then top=build/bin; else top=llama-$tag; fi
    work=$(mktemp -d "$phone_root/release.XXXXXX")
    mkdir -p "$work/$top"
    cp "$tests/stubs/bin/llama-server" "$tests/stubs/bin/ggml-rpc-server" "$work/$top/"
    # Not to be packed smaller, so that half of the archive is more than curl keeps back
    head -c 400000 /dev/urandom >"$work/$top/libggml.so"
    tar -C "$work" -czf "$1" "${top%%/*}"
    rm -rf "$work"
}
# make_model FILE [KIB]: what begins like a GGUF
make_model() {
    { printf 'GGUF\003\000\000\000' && head -c $((${2:-64} * 1024 - 8)) /dev/zero; } >"$1"
}

# listing: every path below the phone's home and prefix with type, mode, link and, of files, time and sum; but for what
# changes while services run.
listing() {
    (
        cd "$phone_root" || exit
        find home usr ! -path 'usr/tmp' ! -path 'usr/var/log/sv/*/current' ! -name last-start \
            \( -type f -printf '%p %y %m %T@ ' -exec sha256sum {} \; -o -printf '%p %y %m %l\n' \)
    ) | LC_ALL=C sort
}
# contents: the same without times, for what may be written anew as it was
contents() { listing | sed -E 's/ [0-9]+\.[0-9]+ / /'; }

same() {
    if [[ $1 != "$2" ]]; then
        echo "expected no difference: $3" >&2
        diff <(echo "$1") <(echo "$2") >&2
        return 1
    fi
}

# normalised: stdin with what differs from run to run replaced
normalised() {
    sed -E -e "s|$phone_prefix|PREFIX|g" -e "s|$phone_home|HOME|g" -e "s|$phone_root|ROOT|g" -e "s|$root|REPOSITORY|g" \
        -e "s|\\b$engine_port\\b|ENGINE_PORT|g" -e 's/\bpf-[0-9a-f]{8,}\b/pf-ID/g'
}
# golden NAME: compares stdin with golden/NAME; POCKETFLEET_UPDATE_GOLDEN=1 writes it instead.
golden() {
    local file=$tests/golden/$1 got
    got=$(normalised)
    if [[ -n ${POCKETFLEET_UPDATE_GOLDEN:-} ]]; then
        printf '%s\n' "$got" >"$file"
        return 0
    fi
    if [[ ! -f $file ]]; then
        echo "there is no golden/$1; POCKETFLEET_UPDATE_GOLDEN=1 writes it" >&2
        return 1
    fi
    if ! diff -u "$file" <(printf '%s\n' "$got"); then
        echo "not as golden/$1 says (-); if the change is meant: POCKETFLEET_UPDATE_GOLDEN=1 bats tests/phone" >&2
        return 1
    fi
}
is_json() {
    printf '%s' "$1" | python3 -m json.tool >/dev/null || {
        printf 'expected JSON, got: %s\n' "$1" >&2
        return 1
    }
}
# json TEXT EXPRESSION: a Python expression over the parsed text, called j
json() {
    python3 -c 'import json, sys; j = json.loads(sys.argv[1]); v = eval(sys.argv[2]); print(v if isinstance(v, str) else json.dumps(v))' "$1" "$2"
}
