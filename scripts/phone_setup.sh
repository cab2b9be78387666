#!/usr/bin/env bash
# Makes an Android phone a member of a Pocketfleet: one file for Termux, without root.
# `bash phone_setup.sh --help` tells how; docs/phones.md tells the way from an empty phone to an answer.
#
# Everything it keeps lies below ~/pocketfleet ($POCKETFLEET_HOME), except the services in $PREFIX/var/service, their logs
# in $PREFIX/var/log/sv and one file in ~/.termux/boot. It needs bash, coreutils, curl, awk, sed and grep, and installs the
# rest with pkg. All of it is read before anything runs (see the last line), so it may replace or remove itself.
# shellcheck disable=SC2317 # many functions are called by name: by `step`, by main, by a trap
set -euo pipefail
umask 077
export LC_ALL=C
# The last command of a pipeline runs in this shell: `... | put_file` must be able to say that something changed.
shopt -s lastpipe

# ---- versions and places

# The llama.cpp release of --engine llama-release. All members of an RPC group must run the same build, so it is one number
# for the whole fleet. Its checksum is not known to this file: see engine_checksum.
readonly llama_tag=b11158
readonly llama_url="https://github.com/ggml-org/llama.cpp/releases/download/$llama_tag/llama-$llama_tag-bin-android-arm64.tar.gz"
readonly llama_sha256=''

# The Ollama release of --engine proot-ollama (Termux's own package needs no pin: apt checks its signature).
readonly ollama_version=0.32.9
readonly ollama_sha256_arm64=79617139521db251c716d6229505d7530171ff4d68e476d0c22dabc15726a237
readonly ollama_sha256_amd64=5d747a43369f61e38f20b5a39fcc5c90647e562cdc61e2e56034f1c5b113d540

readonly script_name=phone_setup.sh
readonly container=pocketfleet
readonly services=(pocketfleet-engine pocketfleet-agent pocketfleet-tunnel)
: "${HOME:?is not set}"
PREFIX=${PREFIX:-/data/data/com.termux/files/usr}
home=${POCKETFLEET_HOME:-$HOME/pocketfleet}
sys_root=${POCKETFLEET_SYS:-/sys}
proc_root=${POCKETFLEET_PROC:-/proc}
state_dir=$home/state
models_dir=$home/models
boot_file=$HOME/.termux/boot/10-pocketfleet
# The programs called from here have no business with the token.
environment_token=${POCKETFLEET_TOKEN:-}
unset POCKETFLEET_TOKEN
# sv, runsvdir and svlogd find their places by these two. A shell older than termux-services does not have them.
export PREFIX SVDIR=$PREFIX/var/service LOGDIR=$PREFIX/var/log

usage() {
    cat <<END
Makes this phone a member of a Pocketfleet.

  bash $script_name MODEL [option...]      installs, starts, and prints the entry for the gateway's phones.json
  bash $script_name COMMAND [option...]

  MODEL: an Ollama tag (qwen2.5:1.5b), the URL of a GGUF file, or the path of a GGUF file that came by cable.

Commands
  install            everything but starting
  start, stop, restart
  status [--json]    what runs
  doctor             looks for everything that is known to bite, with the remedy; exit code 3 when something will
  update             newer engine and script, same phone id
  uninstall          removes all but the models; with --purge the models too
  print-config       the entry for phones.json
  print-inner        the script that is run inside the container of --engine proot-*
  agent [--once]     reports to the gateway; the service pocketfleet-agent runs it

Engine and model
  --engine ollama         Termux's package ollama (the default)
           llama-release  the official llama.cpp release for Android ($llama_tag): quick on new phones, can do RPC
           llama-pkg      Termux's package llama-cpp: slower, no RPC
           proot-ollama   Ollama $ollama_version in a Debian container
           proot-llama    Debian's llama.cpp in a Debian container, can do RPC
  --engine-url URL        another llama.cpp archive for llama-release (https:// or file://)
  --engine-sha256 HEX     its checksum. The checksum of $llama_tag is not in this script: llama-release wants either this
                          option (the release page shows each file's SHA-256) or, in so many words,
                          --engine-sha256 unchecked
  --model M               the same as MODEL      --sha256 HEX   checksum of a GGUF file
  --alias NAME            the name under which the model answers
  --ctx N                 tokens of context for each request (4096)
  --parallel N            requests at a time (1)
  --keep-alive T          how long Ollama keeps an idle model in memory (24h)
  --threads auto|N        auto: the big cores    --flash-attn off|on|auto   (off: on phones it crashes or costs)
  --gpu off|vulkan|opencl (off)

Network
  --port N                11434 for Ollama, 8080 for llama-server, 50052 for an RPC worker
  --bind ADDRESS          127.0.0.1, which is enough for a tunnel and for USB. Any other address wants a key or:
  --i-trust-this-lan      listen for everybody in this network, without a key (Ollama and RPC have none).
                          Without --bind it means --bind 0.0.0.0
  --api-key-file FILE     key for llama-server; 'none' takes a former key away
  --tunnel USER@HOST[:PORT]|none   leads a port of the gateway's host to this engine, by ssh
  --remote-port N         that port (20000..20999; by default below 20500, made from the phone's id)
  --tunnel-host-key 'ssh-ed25519 AAAA...'   the host's key; else it is fetched, shown and must be confirmed (or --yes)

Gateway
  --gateway URL|auto|none     where heartbeats go    --interval S   seconds between them (10)
  --token-file FILE           the fleet's token; POCKETFLEET_TOKEN in the environment does the same
  --device-id ID, --name NAME

One model over several phones (llama.cpp RPC)
  --role standalone|rpc-worker|rpc-master
  --rpc HOST:PORT,...  --tensor-split A,B,...  --ngl N     for the master

Else
  --autostart, --no-autostart     start with the phone (needs the app Termux:Boot); default yes
  --wake-lock, --no-wake-lock     keep the phone awake while it serves; default yes
  --dry-run                       print commands and files, change nothing
  --yes                           do not ask

Options of an install are remembered in ~/pocketfleet/config. POCKETFLEET_LLAMA_BIN=DIR names a directory with a
llama-server and rpc-server of your own. Exit codes: 0 good, 1 a step failed, 2 wrong usage, 3 doctor found something that
will bite, 75 another run is at work.
END
}

# ---- messages

if [[ -t 1 ]]; then bold=$'\033[1m' plain=$'\033[0m'; else bold='' plain=''; fi
say() { printf '%s\n' "$*"; }
title() { printf '%s== %s%s\n' "$bold" "$*" "$plain"; }
warn() { printf 'warning: %s\n' "$*" >&2; }
die() {
    printf '%s: %s\n' "$script_name" "$*" >&2
    exit 1
}
misused() {
    printf '%s: %s\n(bash %s --help tells all options)\n' "$script_name" "$*" "$script_name" >&2
    exit 2
}

# confirmed QUESTION: --yes, or a y on the terminal
confirmed() {
    local answer=''
    ((assume_yes)) && return
    [[ -t 0 ]] || return 1
    read -rp "$1 [y/N] " answer || return 1
    [[ $answer == [yY]* ]]
}

# ---- JSON

# json_string TEXT: a JSON string with its quotes
json_string() {
    local text=$1 code character escaped
    text=${text//\\/\\\\}
    text=${text//\"/\\\"}
    text=${text//$'\n'/\\n}
    text=${text//$'\r'/\\r}
    text=${text//$'\t'/\\t}
    if [[ $text == *[$'\x01'-$'\x1f\x7f']* ]]; then
        for code in {1..31} 127; do
            printf -v escaped '%02x' "$code"
            printf -v character '%b' "\\x$escaped"
            text=${text//"$character"/\\u00$escaped}
        done
    fi
    printf '"%s"' "$text"
}

json_string_or_null() { if [[ -n $1 ]]; then json_string "$1"; else printf null; fi; }

json_number_or_null() {
    if [[ $1 =~ ^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?$ ]]; then printf '%s' "$1"; else printf null; fi
}

json_boolean() { if [[ $1 == 1 ]]; then printf true; else printf false; fi; }

# json_flat: JSON on standard input becomes lines "path<TAB>value" (a.b.0.c), whatever its layout; several values one after
# the other (NDJSON) are read as one after the other. Malformed input ends the output, it never becomes a value.
json_flat() {
    awk '
    function blank() { while (at <= size && index(" \t\r\n", substr(text, at, 1))) at++ }
    function text_of(   out, c, code) {
        at++
        while (at <= size) {
            c = substr(text, at, 1)
            if (c == "\"") { at++; return out }
            if (c == "\\") {
                at++
                c = substr(text, at, 1)
                if (c == "n" || c == "t" || c == "r" || c == "b" || c == "f") c = " "
                else if (c == "u") { code = tolower(substr(text, at + 1, 4)); at += 4
                    c = (code in ascii) ? ascii[code] : "?" }
            }
            if (c == "\n" || c == "\t" || c == "\r") c = " "
            out = out c
            at++
        }
        exit
    }
    function value(path, depth,   c, n, key, start) {
        if (depth > 32) exit
        blank()
        c = substr(text, at, 1)
        if (c == "{") {
            at++; blank()
            if (substr(text, at, 1) == "}") { at++; return }
            while (1) {
                blank()
                if (substr(text, at, 1) != "\"") exit
                key = text_of(); blank()
                if (substr(text, at, 1) != ":") exit
                at++; value(path == "" ? key : path "." key, depth + 1); blank()
                c = substr(text, at, 1); at++
                if (c == "}") return
                if (c != ",") exit
            }
        }
        if (c == "[") {
            at++; blank(); n = 0
            if (substr(text, at, 1) == "]") { at++; return }
            while (1) {
                value(path == "" ? n : path "." n, depth + 1); n++; blank()
                c = substr(text, at, 1); at++
                if (c == "]") return
                if (c != ",") exit
            }
        }
        if (c == "\"") { print path "\t" text_of(); return }
        start = at
        while (at <= size && index("-+.0123456789abcdefghijklmnopqrstuvwxyzE", substr(text, at, 1))) at++
        if (at == start) exit
        print path "\t" substr(text, start, at - start)
    }
    BEGIN { for (i = 32; i < 127; i++) ascii[sprintf("%04x", i)] = sprintf("%c", i) }
    { text = text $0 "\n" }
    END { size = length(text); at = 1; blank(); while (at <= size) { value("", 0); blank() } }'
}

# flat_get PATH: the value at PATH in lines of json_flat; empty when it is not there or null
flat_get() { awk -F'\t' -v path="$1" '$1 == path { if ($2 != "null") print $2; exit }'; }

# ---- effects: the only places that change something, so that --dry-run can show them

dry_run=0
assume_yes=0
changed=0
child=''

# quoted WORD...: as one would type it in a shell
quoted() {
    local word gap=''
    for word; do
        [[ $word =~ ^[A-Za-z0-9_./:=@%+,-]+$ ]] || word=${word@Q}
        printf '%s%s' "$gap" "$word"
        gap=' '
    done
}

show_command() { printf '+ %s\n' "$(quoted "$@")"; }
run() {
    if ((dry_run)); then show_command "$@"; else "$@"; fi
}

# limited SECONDS COMMAND...: with a time limit. The command runs in the background and is waited for, because only then a
# trap can end it; its pid goes beside the lock, so that the next run can end it when this one is killed by force.
limited() {
    local seconds=$1 status=0
    shift
    if ((dry_run)); then
        show_command timeout -k 5 "$seconds" "$@"
        return
    fi
    timeout -k 5 "$seconds" "$@" <&0 &
    child=$!
    if ((holds_lock)); then remember_process "$child" "$home/lock/child"; fi
    wait "$child" || status=$?
    child=''
    if ((status == 124 || status == 137)); then warn "gave up after $seconds s: $1 ${2:-}"; fi
    return "$status"
}

# quick COMMAND...: short questions to the phone, silent, never longer than quick_seconds
quick_seconds=5
quick() { timeout -k 1 "$quick_seconds" "$@" 2>/dev/null </dev/null; }

# put_file PATH MODE: standard input becomes the file, at once or not at all; sets `changed` when it was not so before
put_file() {
    local path=$1 mode=$2 content new
    content=$(cat && printf x)
    content=${content%x}
    if ((dry_run)); then
        say "would write $path (mode $mode):"
        printf '%s' "$content" | sed 's/^/    | /'
        return
    fi
    if [[ -f $path && $(stat -c %a "$path") == "$mode" ]] && printf '%s' "$content" | cmp -s - "$path"; then return; fi
    mkdir -p "${path%/*}" "$state_dir"
    new=$state_dir/new.$$
    printf '%s' "$content" >"$new"
    chmod "$mode" "$new"
    mv -f "$new" "$path"
    changed=1
}

remove() {
    local path
    for path; do
        if [[ -e $path || -L $path ]]; then run rm -rf "$path"; fi
    done
}

# ---- lock

holds_lock=0
restart_needed=()
engine_started=0

start_time() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | awk '{ print $20 }' || true; }

# A process is known by pid and start time: pids come again.
remember_process() { printf '%s %s\n' "$1" "$(start_time "$1")" >"$2"; }

remembered_process_lives() {
    local pid='' started=''
    read -r pid started <"$1" 2>/dev/null || [[ -n $pid ]] || return 1
    [[ $pid =~ ^[0-9]+$ ]] && kill -0 "$pid" 2>/dev/null && [[ -z $started || $started == "$(start_time "$pid")" ]]
}

# The directory is made aside, with the pid in it, and renamed: there is never a lock without an owner. rename() refuses to
# replace a directory that is not empty.
take_lock() {
    local mine=$home/lock.$$ stale=$home/lock.stale.$$ orphan
    ((!dry_run && !holds_lock)) || return 0
    mkdir -p "$mine"
    remember_process $$ "$mine/pid"
    if ! mv -T "$mine" "$home/lock" 2>/dev/null; then
        if remembered_process_lives "$home/lock/pid"; then
            rm -rf "$mine"
            printf '%s: another run is at work (pid %s); wait for it, or stop it\n' "$script_name" \
                "$(cut -d' ' -f1 "$home/lock/pid")" >&2
            exit 75
        fi
        say "lock: taking over from a run that died"
        if mv -T "$home/lock" "$stale" 2>/dev/null; then
            # What that run had started may still write to our files.
            if [[ -f $stale/child ]] && remembered_process_lives "$stale/child"; then
                read -r orphan _ <"$stale/child"
                kill "$orphan" 2>/dev/null || true
                timeout 10 tail -f --pid="$orphan" /dev/null || true
            fi
            rm -rf "$stale"
        fi
        if ! mv -T "$mine" "$home/lock" 2>/dev/null; then
            rm -rf "$mine"
            printf '%s: another run is at work\n' "$script_name" >&2
            exit 75
        fi
    fi
    holds_lock=1
    rm -rf "$state_dir"/new.* "$home"/lock.stale.*
}

clean_up() {
    if [[ -n $child ]]; then kill "$child" 2>/dev/null || true; fi
    if ((holds_lock)); then rm -rf "$home/lock"; fi
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# ---- options and config

readonly option_names=(engine role model sha256 alias ctx parallel keep_alive port bind api_key_file i_trust_this_lan threads
    flash_attn gpu rpc tensor_split ngl gateway token_file device_id name interval tunnel remote_port tunnel_host_key
    autostart wake_lock engine_url engine_sha256 llama_bin)
# What was copied below $home needs no remembering.
readonly unremembered=' api_key_file token_file device_id '
declare -A option=() given=()
command=''
json=0 purge=0 once=0

is_option() {
    local known
    for known in "${option_names[@]}"; do [[ $known != "$1" ]] || return 0; done
    return 1
}

# The file is data: KEY=VALUE, the value is the rest of the line as it stands.
load_config() {
    local line key
    [[ -f $home/config ]] || return 0
    while IFS= read -r line || [[ -n $line ]]; do
        [[ $line == *=* && $line != '#'* ]] || continue
        key=${line%%=*}
        key=${key,,}
        if is_option "$key"; then option[$key]=${line#*=}; else warn "$home/config: unknown key '${line%%=*}'"; fi
    done <"$home/config"
}

config_text() {
    local key
    printf '# Options of the last install, kept by %s: KEY=VALUE, read as plain text.\n' "$script_name"
    for key in "${option_names[@]}"; do
        if [[ -n ${option[$key]:-} && $unremembered != *" $key "* ]]; then printf '%s=%s\n' "${key^^}" "${option[$key]}"; fi
    done
}

parse_arguments() {
    local words=() key
    while (($#)); do
        case $1 in
            -h | --help | help)
                usage
                exit 0
                ;;
            --dry-run) dry_run=1 ;;
            --yes | -y) assume_yes=1 ;;
            --json) json=1 ;;
            --purge) purge=1 ;;
            --once) once=1 ;;
            --i-trust-this-lan) given[i_trust_this_lan]=yes ;;
            --autostart | --wake-lock)
                key=${1#--}
                given[${key//-/_}]=yes
                ;;
            --no-autostart | --no-wake-lock)
                key=${1#--no-}
                given[${key//-/_}]=no
                ;;
            --*=*)
                key=${1%%=*}
                set -- "$key" "${1#*=}" "${@:2}"
                continue
                ;;
            --*)
                key=${1#--}
                key=${key//-/_}
                is_option "$key" || misused "unknown option '$1'"
                (($# > 1)) || misused "$1 wants a value"
                [[ $2 != *$'\n'* ]] || misused "the value of $1 has a line break"
                given[$key]=$2
                shift
                ;;
            -*) misused "unknown option '$1'" ;;
            *) words+=("$1") ;;
        esac
        shift
    done
    if ((${#words[@]})); then
        case ${words[0]} in
            install | start | stop | restart | status | doctor | update | uninstall | print-config | print-inner | agent)
                command=${words[0]}
                words=("${words[@]:1}")
                ;;
        esac
    fi
    if [[ -z $command ]]; then
        ((${#words[@]})) || misused "name a model or a command"
        command=up
    fi
    if ((${#words[@]})); then
        [[ $command == up || $command == install ]] || misused "unexpected '${words[0]}'"
        ((${#words[@]} == 1)) || misused "unexpected '${words[1]}'"
        given[model]=${words[0]}
    fi
}

merge_options() {
    local key
    load_config
    # What belonged to the former model or engine must not be taken for the new one's.
    if [[ -n ${given[model]:-} && ${given[model]} != "${option[model]:-}" ]]; then option[sha256]='' option[alias]=''; fi
    if [[ -n ${given[engine_url]:-} && ${given[engine_url]} != "${option[engine_url]:-}" ]]; then option[engine_sha256]=''; fi
    if [[ -n ${given[engine]:-} && ${given[engine]} != "${option[engine]:-}" ]]; then option[port]=''; fi
    if [[ -n ${POCKETFLEET_LLAMA_BIN:-} ]]; then option[llama_bin]=$POCKETFLEET_LLAMA_BIN; fi
    for key in "${!given[@]}"; do option[$key]=${given[$key]}; done
}

# one_of OPTION WORD...
one_of() {
    local name=$1 word
    shift
    for word; do [[ ${option[$name]} != "$word" ]] || return 0; done
    misused "--${name//_/-} is '${option[$name]}'; it must be one of: $*"
}

# number OPTION LOW HIGH
number() {
    [[ -n ${option[$1]:-} ]] || return 0
    if ! [[ ${option[$1]} =~ ^[0-9]{1,9}$ ]] || ((10#${option[$1]} < $2 || 10#${option[$1]} > $3)); then
        misused "--${1//_/-} is '${option[$1]}'; it must be a number from $2 to $3"
    fi
}

matching() {
    if [[ -n ${option[$1]:-} && ! ${option[$1]} =~ $2 ]]; then misused "--${1//_/-} is '${option[$1]}'; it must be $3"; fi
}

# Defaults, checks, and what follows from the options. Nothing is asked and nothing is changed here.
resolve_options() {
    local digits
    : "${option[role]:=standalone}" "${option[ctx]:=4096}" "${option[parallel]:=1}" "${option[keep_alive]:=24h}"
    : "${option[threads]:=auto}" "${option[flash_attn]:=off}" "${option[gpu]:=off}" "${option[interval]:=10}"
    : "${option[autostart]:=yes}" "${option[wake_lock]:=yes}" "${option[gateway]:=none}"
    one_of role standalone rpc-worker rpc-master
    if [[ -z ${option[engine]:-} ]]; then
        if [[ ${option[role]} == standalone ]]; then option[engine]=ollama; else option[engine]=llama-release; fi
    fi
    one_of engine ollama llama-release llama-pkg proot-ollama proot-llama
    one_of flash_attn off on auto
    one_of gpu off vulkan opencl
    one_of autostart yes no
    one_of wake_lock yes no
    number ctx 256 1048576
    number parallel 1 64
    number port 1024 65535
    number remote_port 1024 65535
    number ngl 0 10000
    number interval 2 300
    [[ ${option[threads]} == auto ]] || number threads 1 256
    matching sha256 '^[0-9a-fA-F]{64}$' '64 hexadecimal digits'
    matching engine_sha256 '^([0-9a-fA-F]{64}|unchecked)$' "64 hexadecimal digits, or the word 'unchecked'"
    matching engine_url '^(https?|file)://' 'a URL (https:// or file://)'
    matching keep_alive '^-?[0-9]+(ms|s|m|h)?$' 'a time such as 24h, 30m or -1 (for ever)'
    matching bind '^[0-9A-Fa-f.:]+$' 'an IP address of this phone'
    matching alias '^[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}$' 'a plain name'
    matching device_id '^[A-Za-z0-9._-]{1,64}$' '1 to 64 of A-Z a-z 0-9 . _ -'
    matching rpc '^[A-Za-z0-9.-]+:[0-9]+(,[A-Za-z0-9.-]+:[0-9]+)*$' 'HOST:PORT,HOST:PORT,...'
    matching tensor_split '^[0-9.]+(,[0-9.]+)*$' 'numbers with commas between'
    matching gateway '^(none|auto|https?://[^/ ]+(/[^ ]*)?)$' 'a URL such as http://192.168.1.10:8000, auto or none'
    [[ ${option[tunnel]:-} != none ]] || option[tunnel]=''
    matching tunnel '^[A-Za-z0-9_][A-Za-z0-9._-]*@([A-Za-z0-9][A-Za-z0-9.-]*|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?$' \
        'USER@HOST or USER@HOST:PORT, or none'
    digits=${option[tunnel]:-}
    digits=${digits##*:}
    if [[ $digits =~ ^[0-9]+$ ]] && ((10#$digits > 65535)); then misused "--tunnel is '${option[tunnel]}'; there is no port $digits"; fi
    matching tunnel_host_key '^(ssh-|ecdsa-)[a-z0-9-]+ [A-Za-z0-9+/=]+( .*)?$' "a key such as 'ssh-ed25519 AAAA...'"
    option[gateway]=${option[gateway]%/}
    family=llama
    [[ ${option[engine]} != *ollama ]] || family=ollama
    check_combinations
    resolve_model
    resolve_address
}

check_combinations() {
    local engine=${option[engine]}
    if [[ ${option[role]} != standalone ]]; then
        [[ $family == llama ]] || misused "Ollama cannot share a model over phones: take --engine llama-release or proot-llama"
        [[ $engine != llama-pkg || -n ${option[llama_bin]:-} ]] ||
            misused "Termux's llama-cpp package is built without RPC: take --engine llama-release or proot-llama"
    fi
    [[ ${option[role]} != rpc-master || -n ${option[rpc]:-} ]] || misused "--role rpc-master wants --rpc HOST:PORT,..."
    [[ -z ${option[rpc]:-} || ${option[role]} == rpc-master ]] || misused "--rpc is for --role rpc-master"
    case ${option[gpu]}:$engine in
        off:* | vulkan:ollama | vulkan:llama-pkg | opencl:llama-pkg) ;;
        *) misused "--gpu ${option[gpu]} does not go with --engine $engine (vulkan: ollama, llama-pkg; opencl: llama-pkg)" ;;
    esac
    [[ -z ${given[api_key_file]:-} || ${given[api_key_file]} == none || $family == llama ]] ||
        misused "Ollama has no keys; --api-key-file is for llama-server"
    [[ ${option[role]} != rpc-worker || -z ${given[api_key_file]:-} ]] || misused "an RPC worker has no keys"
}

# model_form: tag, url, path or none; model_file: the GGUF llama-server opens; model_name: what clients call it
resolve_model() {
    local model=${option[model]:-} base
    model_form=none model_file='' model_name=''
    [[ -n $model ]] || return 0
    case ${model,,} in
        http://* | https://* | file://*) model_form=url ;;
        /* | ./* | ../* | '~'* | *.gguf) model_form=path ;;
        *) model_form=tag ;;
    esac
    case $model_form in
        tag)
            [[ $model =~ ^[A-Za-z0-9][A-Za-z0-9._/-]*(:[A-Za-z0-9._-]+)?$ ]] ||
                misused "'$model' is neither a command, an Ollama tag, a URL nor the path of a GGUF file"
            [[ $family == ollama || ${option[role]} == rpc-worker ]] ||
                misused "llama-server takes a GGUF file: give its URL or path, or take --engine ollama for the tag '$model'"
            [[ -z ${option[sha256]:-} ]] || misused "--sha256 is for a GGUF file; Ollama checks what it pulls by itself"
            model_name=${option[alias]:-$model}
            return
            ;;
        path)
            [[ $model != '~'/* ]] || model=$HOME/${model#'~'/}
            [[ $model == /* ]] || model=$PWD/$model
            option[model]=$model
            ;;
    esac
    base=${model%%[?#]*}
    base=${base##*/}
    [[ ! $base =~ -0*[0-9]+-of-[0-9]+\.gguf$ ]] ||
        misused "'$base' is one part of a split model; take a model in one file (or join it with llama-gguf-split --merge)"
    base=${base//[^A-Za-z0-9._-]/-}
    [[ -n $base ]] || misused "the URL '$model' has no file name"
    [[ ${base,,} == *.gguf ]] || base=$base.gguf
    model_file=$models_dir/$base
    base=${base%.*}
    model_name=${option[alias]:-${base,,}}
}

resolve_address() {
    tunnel_port=''
    port=${option[port]:-}
    if [[ -z $port ]]; then
        case $family:${option[role]} in
            ollama:*) port=11434 ;;
            *:rpc-worker) port=50052 ;;
            *) port=8080 ;;
        esac
    fi
    if [[ -n ${option[tunnel]:-} ]]; then
        tunnel_port=${option[remote_port]:-$((20000 + $(printf '%s' "$(phone_id)" | cksum | cut -d' ' -f1) % 500))}
    fi
}

# With this install llama-server has a key, a new one or the one of an earlier install.
has_api_key() {
    case ${given[api_key_file]:-} in
        '') [[ -s $home/api_key ]] ;;
        none) return 1 ;;
    esac
}

# What listens where: nothing but loopback without a key or the explicit word.
resolve_bind() {
    bind=${option[bind]:-}
    if [[ -z $bind ]]; then
        bind=127.0.0.1
        [[ ${option[i_trust_this_lan]:-} != yes ]] || bind=0.0.0.0
    fi
    [[ $bind != 127.* && $bind != ::1 ]] || return 0
    [[ ${option[i_trust_this_lan]:-} != yes ]] || return 0
    if [[ $family == llama && ${option[role]} != rpc-worker ]]; then
        if has_api_key; then return; fi
        misused "--bind $bind opens llama-server to the network: give --api-key-file FILE, or say --i-trust-this-lan"
    fi
    misused "--bind $bind opens $([[ $family == ollama ]] && echo Ollama || echo the RPC worker) to the network without a key:" \
        "say --i-trust-this-lan if you trust everybody in it, or use --tunnel or USB"
}

# A beginner on the LAN is asked once; who cannot be asked gets loopback and is told.
ask_about_lan() {
    [[ -z ${option[bind]:-} && -z $tunnel_port && ${option[i_trust_this_lan]:-} != yes ]] || return 0
    if [[ -t 0 ]] && ((!assume_yes && !dry_run)); then
        say "The gateway can reach this phone over the Wi-Fi only if the engine listens there. It has no key then: everybody in"
        say "this network could use it. At home that is usually fine; in a café or a school it is not."
        if confirmed "Listen on the network?"; then option[i_trust_this_lan]=yes; fi
    fi
}

# ---- what the phone is

android_property() { quick getprop "$1" || true; }

phone_id() {
    if [[ -n ${option[device_id]:-} ]]; then
        printf '%s' "${option[device_id]}"
    elif [[ -s $home/id ]]; then
        head -c 64 "$home/id" | tr -d '\n'
    fi
}

phone_name() {
    local name=${option[name]:-}
    [[ -n $name ]] || name=$(android_property ro.product.model)
    name=${name,,}
    name=$(printf '%s' "$name" | tr -c 'a-z0-9._-' '-' | tr -s '-')
    name=${name#-}
    name=${name:0:64}
    printf '%s' "${name%-}"
}

memory_kb() { awk -v key="$1:" '$1 == key { print $2; exit }' "$proc_root/meminfo" 2>/dev/null || true; }

# Little cores (Cortex-A53, A55, A510, A520 and the Kryo silvers made from them) only hold the big ones up.
readonly little_parts='0xd03 0xd04 0xd05 0xd46 0xd80 0x800 0x801 0x803 0x805'

# Lines "cpu part", as far as /proc/cpuinfo has them
cpu_parts() {
    awk -F'[ \t]*:[ \t]*' '$1 == "processor" { cpu = $2 } $1 == "CPU part" { print cpu, tolower($2) }' \
        "$proc_root/cpuinfo" 2>/dev/null || true
}

# Lines "cpu kHz", as far as the kernel shows them
cpu_frequencies() {
    local file khz cpu
    for file in "$sys_root"/devices/system/cpu/cpu[0-9]*/cpufreq/cpuinfo_max_freq; do
        cpu=${file%/cpufreq/*}
        { read -r khz <"$file"; } 2>/dev/null || continue
        if [[ $khz =~ ^[0-9]+$ ]]; then printf '%s %s\n' "${cpu##*/cpu}" "$khz"; fi
    done
}

# The clusters with the highest frequencies: all but the slowest one, which stays only when it is nearly as fast as the
# fastest (80 %) and not known to be made of little cores. Without frequencies the core types decide, then half the cores.
big_cores() {
    {
        printf 'little %s\n' "$little_parts"
        cpu_parts | sed 's/^/part /'
        cpu_frequencies | sed 's/^/freq /'
        printf 'all %s\n' "$(quick nproc || echo 2)"
    } | awk '
        $1 == "little" { for (i = 2; i <= NF; i++) little[$i] = 1 }
        $1 == "part" { parts++; if ($3 in little) { is_little[$2] = 1; littles++ } }
        $1 == "freq" { khz[$2] = $3 + 0; freqs++
            if ($3 + 0 > top) top = $3 + 0
            if (!slow || $3 + 0 < slow) slow = $3 + 0 }
        $1 == "all" { all = $2 }
        END {
            if (freqs) {
                for (cpu in khz)
                    if (khz[cpu] > slow || top == slow || (slow >= 0.8 * top && !(cpu in is_little))) n++
            } else if (parts) n = littles < parts ? parts - littles : parts
            else n = int(all / 2)
            print (n < 1 ? 1 : n)
        }'
}

threads() { if [[ ${option[threads]} == auto ]]; then big_cores; else printf '%s\n' "${option[threads]}"; fi; }

# The address other machines know this phone by. Android 13 forbids `ip addr`, so curl is asked which address it used
# towards the gateway; then whatever else may still be readable.
lan_address() {
    local address=''
    if [[ $bind != 0.0.0.0 && $bind != :: && $bind != 127.* && $bind != ::1 ]]; then
        printf '%s' "$bind"
        return
    fi
    if [[ ${option[gateway]} == http* ]]; then
        address=$(quick curl -s -o /dev/null -m 3 -w '%{local_ip}' "${option[gateway]}/health" || true)
        [[ $address != 127.* ]] || address=''
    fi
    [[ -n $address ]] || address=$(quick ifconfig | awk '
        /^[a-z]/ { name = $1; sub(/:.*/, "", name) }
        $1 == "inet" { sub(/addr:/, "", $2)
            if (name ~ /^(wlan|swlan|ap|eth)/ && !found) found = $2
            else if ($2 !~ /^127\./ && name !~ /^(rmnet|ccmni|tun|dummy)/ && !other) other = $2 }
        END { print (found ? found : other) }' || true)
    if [[ -z $address ]] && termux_api_is_there; then
        address=$(quick termux-wifi-connectioninfo | json_flat | flat_get ip || true)
    fi
    if [[ $address =~ ^[0-9]+(\.[0-9]+){3}$ && $address != 0.0.0.0 ]]; then printf '%s' "$address"; fi
}

# Without the app Termux:API its commands hang for ever.
termux_api_is_there() {
    command -v termux-battery-status >/dev/null && [[ $(quick pm path com.termux.api || true) == package:* ]]
}

in_termux() { [[ -d $PREFIX ]] && command -v pkg >/dev/null; }

# ---- steps: done once, and again when their inputs change

update_forces=' '

# step NAME INPUT... -- FUNCTION: skipped when NAME was finished with these very inputs and what it made is still there
# (checked by the function there_NAME, if it exists)
step() {
    local name=$1 inputs=() hash
    shift
    while [[ $1 != -- ]]; do
        inputs+=("$1")
        shift
    done
    hash=$(printf '%s\0' "$name" "${inputs[@]}" | sha256sum)
    hash=${hash%% *}
    if [[ $update_forces != *" $name "* && -f $state_dir/$name && $(<"$state_dir/$name") == "$hash" ]] &&
        { ! declare -F "there_$name" >/dev/null || "there_$name"; }; then
        say "$name: unchanged"
        return
    fi
    title "$name"
    "$2"
    ((!dry_run)) || return 0
    mkdir -p "$state_dir"
    printf '%s\n' "$hash" >"$state_dir/new.$$"
    mv -f "$state_dir/new.$$" "$state_dir/$name"
}

# file_step NAME FUNCTION: FUNCTION writes files by put_file, which sees for itself what is new
file_step() {
    changed=0
    if ((dry_run)); then title "$1"; fi
    "$2"
    if ((changed)); then say "$1: written"; elif ((!dry_run)); then say "$1: unchanged"; fi
}

# ---- downloads

human_size() { awk -v n="$1" 'BEGIN { if (n >= 1e9) printf "%.2f GB", n / 1e9; else if (n >= 1e6) printf "%.1f MB", n / 1e6; else if (n >= 1e3) printf "%.1f kB", n / 1e3; else printf "%d B", n }'; }
file_size() { stat -Lc %s "$1" 2>/dev/null || echo 0; }

remote_size() {
    timeout -k 1 20 curl -sSIL --max-time 15 "$1" 2>/dev/null </dev/null |
        awk 'tolower($1) == "content-length:" { n = $2 + 0 } END { if (n > 0) printf "%.0f\n", n }' || true
}

# show_progress LABEL FILE TOTAL: until the background command ends. On a terminal one line, else a line every 10 seconds.
show_progress() {
    local label=$1 file=$2 total=$3 size text ticks=0
    while kill -0 "$child" 2>/dev/null; do
        if ((ticks % 20 == 0)) || [[ -t 1 ]]; then
            size=$(file_size "$file")
            text="$label: $(human_size "$size")"
            [[ -z $total ]] || text+=" of $(human_size "$total") ($((size * 100 / total)) %)"
            if [[ -t 1 ]]; then printf '\r%s  ' "$text"; else say "$text"; fi
        fi
        ticks=$((ticks + 1))
        sleep 0.5
    done
    if [[ -t 1 ]]; then printf '\n'; fi
}

check_sha256() {
    local file=$1 wanted=${2,,} found
    found=$(sha256sum "$file")
    found=${found%% *}
    if [[ -z $wanted || $wanted == unchecked ]]; then
        warn "the checksum of ${file##*/} was not checked; it is sha256 $found"
    elif [[ $found != "$wanted" ]]; then
        rm -f "$file" "$file.from"
        die "wrong checksum: expected sha256 $wanted, found $found. The file was removed."
    else
        say "sha256 is right"
    fi
}

# download URL FILE SHA256: resumes FILE.part; FILE appears only when it is whole and its checksum right
download() {
    local url=$1 file=$2 sha256=$3 part=$2.part total status=0
    local fetch=(timeout -k 5 43200 curl -fL -sS --retry 5 --retry-delay 2 --connect-timeout 20 --speed-limit 1000
        --speed-time 60 -C - -o "$part" "$url")
    if ((dry_run)); then
        show_command "${fetch[@]}"
        say "would check sha256 ${sha256:-(none given)}, then move it to $file"
        return
    fi
    mkdir -p "${file%/*}"
    if [[ -f $part && $(cat "$part.from" 2>/dev/null) != "$url" ]]; then rm -f "$part"; fi
    printf '%s\n' "$url" >"$part.from"
    total=$(remote_size "$url")
    if [[ -n $total && $(file_size "$part") -gt $total ]]; then rm -f "$part"; fi
    if [[ -z $total || $(file_size "$part") -ne $total ]]; then
        if [[ -s $part ]]; then say "going on at $(human_size "$(file_size "$part")")"; fi
        "${fetch[@]}" &
        child=$!
        if ((holds_lock)); then remember_process "$child" "$home/lock/child"; fi
        show_progress "${file##*/}" "$part" "$total"
        wait "$child" || status=$?
        child=''
        # 33: the server cannot resume
        if ((status == 33)); then
            rm -f "$part"
            die "the server cannot continue a half-finished download; run again to start it anew"
        fi
        ((status == 0)) || die "cannot download $url (curl: $status). What has come is kept; run again to go on."
    fi
    [[ -s $part ]] || die "nothing came from $url"
    check_sha256 "$part" "$sha256"
    mv -f "$part" "$file"
    rm -f "$part.from"
    say "${file##*/}: $(human_size "$(file_size "$file")")"
}

# ---- step: packages

wanted_packages() {
    printf '%s\n' curl termux-services termux-api
    case ${option[engine]} in
        ollama) printf '%s\n' ollama ;;
        llama-pkg) [[ -n ${option[llama_bin]:-} ]] || printf '%s\n' llama-cpp ;;
        proot-*) printf '%s\n' proot-distro ;;
    esac
    case ${option[gpu]}:${option[engine]} in
        vulkan:ollama) printf '%s\n' ollama-backend-vulkan ;;
        *:llama-pkg) [[ ${option[gpu]} == off ]] || printf 'llama-cpp-backend-%s\n' "${option[gpu]}" ;;
    esac
    if [[ -n $tunnel_port ]]; then printf '%s\n' openssh; fi
}

there_packages() {
    local needed=(curl sv termux-wake-lock) tool
    case ${option[engine]} in
        ollama) needed+=(ollama) ;;
        proot-*) needed+=(proot-distro) ;;
    esac
    for tool in "${needed[@]}"; do command -v "$tool" >/dev/null || return 1; done
}

install_packages() {
    local list=() package
    in_termux || ((dry_run)) || die "this is not Termux (no pkg, or no directory $PREFIX). Install Termux from F-Droid, open it, and run this there."
    mapfile -t list < <(wanted_packages)
    if ((!dry_run)); then
        # Remembered for uninstall: what was not here before.
        mkdir -p "$state_dir"
        for package in "${list[@]}"; do
            if ! quick dpkg -s "$package" >/dev/null && ! grep -qx "$package" "$state_dir/added-packages" 2>/dev/null; then
                printf '%s\n' "$package" >>"$state_dir/added-packages"
            fi
        done
        [[ -e $HOME/.ollama ]] || printf 'not there before\n' >"$state_dir/dot-ollama"
    fi
    limited 1800 pkg install -y "${list[@]}" </dev/null ||
        die "pkg install failed (see above). If it names a mirror, run termux-change-repo; if libraries, run pkg upgrade; then run this again."
}

# ---- step: engine

llama_binary() {
    local name dir
    for name; do
        for dir in ${option[llama_bin]:+"${option[llama_bin]}"} "$home/engine/current"; do
            if [[ -x $dir/$name ]]; then
                printf '%s' "$dir/$name"
                return
            fi
        done
    done
    if [[ ${option[engine]} == llama-pkg && -z ${option[llama_bin]:-} ]]; then
        for name; do
            if dir=$(command -v "$name"); then
                printf '%s' "$dir"
                return
            fi
        done
    fi
    return 1
}

engine_program() {
    if [[ ${option[role]} == rpc-worker ]]; then llama_binary ggml-rpc-server rpc-server; else llama_binary llama-server; fi
}

there_engine() {
    case ${option[engine]} in
        ollama) command -v ollama >/dev/null ;;
        proot-*) container_is_there ;;
        *) engine_program >/dev/null ;;
    esac
}

# The pinned release's checksum could not be had when this was written, and an invented one would be worse than none: so
# somebody must say it, or say that it is not wanted.
engine_checksum() {
    local sha256=${option[engine_sha256]:-}
    if [[ -z $sha256 && -z ${option[engine_url]:-} ]]; then sha256=$llama_sha256; fi
    [[ -n $sha256 ]] || misused "the checksum of ${option[engine_url]:-$llama_url} is not known to this script." \
        "Look it up on the release's page and give --engine-sha256 HEX, or say --engine-sha256 unchecked"
    printf '%s' "$sha256"
}

engine_tag() {
    local url=${option[engine_url]:-$llama_url}
    if [[ ${url##*/} =~ (b[0-9]{3,6}) ]]; then
        printf '%s' "${BASH_REMATCH[1]}"
    else
        url=$(printf '%s' "$url" | sha256sum)
        printf 'url-%s' "${url:0:12}"
    fi
}

install_engine() {
    case ${option[engine]} in
        ollama) check_engine_runs ollama --version ;;
        proot-*) install_container ;;
        llama-release) if [[ -z ${option[llama_bin]:-} ]]; then install_llama_release; fi ;;
    esac
    ((!dry_run)) || return 0
    if [[ $family == llama && ${option[engine]} != proot-* ]]; then
        engine_program >/dev/null ||
            die "no $([[ ${option[role]} == rpc-worker ]] && echo 'ggml-rpc-server or rpc-server' || echo llama-server) in ${option[llama_bin]:-this engine}"
        [[ ${option[role]} == rpc-worker ]] || check_engine_runs "$(engine_program)" --version
    fi
}

check_engine_runs() {
    local output
    ((!dry_run)) || return 0
    output=$(timeout -k 1 30 "$@" 2>&1 </dev/null) ||
        die "the engine does not run: $1 says: $(printf '%s' "$output" | tail -n 3)"$'\n'"If it names a library: run pkg upgrade, then this again."
    say "$(printf '%s\n' "$output" | grep -m1 -i version || printf '%s\n' "$output" | head -n 1)"
}

install_llama_release() {
    local url=${option[engine_url]:-$llama_url} tag sha256 archive unpacked found
    sha256=$(engine_checksum) || exit
    tag=$(engine_tag)
    archive=$home/engine/$tag.tar.gz unpacked=$home/engine/$tag.new
    download "$url" "$archive" "$sha256"
    if ((dry_run)); then
        show_command tar -xzf "$archive" -C "$unpacked"
        say "would make $home/engine/current a link to the directory with llama-server in $home/engine/$tag"
        return
    fi
    rm -rf "$unpacked"
    mkdir -p "$unpacked"
    limited 600 tar -xzf "$archive" -C "$unpacked" || die "cannot unpack $archive"
    found=$(find "$unpacked" -type f -name llama-server | head -n 1)
    [[ -n $found ]] || die "there is no llama-server in $url"
    found=${found%/*}
    rm -rf "$home/engine/$tag"
    mv -T "$unpacked" "$home/engine/$tag"
    ln -sfn "$tag${found#"$unpacked"}" "$home/engine/current.new"
    mv -Tf "$home/engine/current.new" "$home/engine/current"
    rm -f "$archive"
    # Older releases go only now that the new one is in place.
    find "$home/engine" -mindepth 1 -maxdepth 1 -type d ! -name "$tag" -exec rm -rf {} +
}

# ---- the container of the proot engines

container_is_there() {
    [[ -d $PREFIX/var/lib/proot-distro/containers/$container/rootfs || -d $PREFIX/var/lib/proot-distro/installed-rootfs/$container ]]
}

install_container() {
    local image=debian enter=(proot-distro login "$container" --)
    # Only Debian's unstable suite has llama.cpp.
    [[ ${option[engine]} != proot-llama ]] || image=debian:sid
    if ((dry_run)) || ! container_is_there; then
        limited 3600 proot-distro install --override-alias "$container" "$image" </dev/null ||
            die "proot-distro could not install the container (see above)"
    fi
    if ((dry_run)); then
        show_command timeout -k 5 7200 proot-distro login "$container" -- bash -s
        say "with this on its standard input:"
        inner_script | sed 's/^/    | /'
        return
    fi
    [[ $command != update ]] || enter+=(env POCKETFLEET_UPDATE=1)
    limited 7200 "${enter[@]}" bash -s < <(inner_script) ||
        die "the script inside the container failed (see above); run again to go on where it stopped"
}

# What happens inside the container. It stands alone: `phone_setup.sh print-inner --engine proot-llama | bash` does the same
# in any Debian root.
inner_script() {
    cat <<'END'
# All of it is read before anything runs: what it calls may read the standard input it comes from.
set -euo pipefail
export DEBIAN_FRONTEND=noninteractive LC_ALL=C PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

# need PACKAGE...: installs what is missing
need() {
    local package missing=()
    for package; do
        [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || missing+=("$package")
    done
    if ((${#missing[@]} == 0)); then
        echo "packages: unchanged"
        return
    fi
    timeout 900 apt-get -q update
    timeout 3600 apt-get -q install -y --no-install-recommends "${missing[@]}"
}

END
    if [[ ${option[engine]} == proot-llama ]]; then inner_llama; else inner_ollama; fi
    printf '\nmain </dev/null\nexit\n'
}

inner_llama() {
    cat <<'END'
main() {
    local server packages=(llama.cpp-tools llama.cpp-tools-extra libggml0-backend-rpc)
    need ca-certificates "${packages[@]}"
    if [[ ${POCKETFLEET_UPDATE:-} == 1 ]]; then
        timeout 900 apt-get -q update
        timeout 3600 apt-get -q install -y --only-upgrade "${packages[@]}"
    fi
    # Debian keeps the RPC server off the PATH.
    for server in /usr/libexec/*/llama/bin/ggml-rpc-server; do
        if [[ -x $server && $(readlink /usr/local/bin/ggml-rpc-server) != "$server" ]]; then
            ln -sfn "$server" /usr/local/bin/ggml-rpc-server
        fi
    done
    timeout 60 llama-server --version 2>&1 | grep version
}
END
}

inner_ollama() {
    cat <<END
version=$ollama_version
arm64_sha256=$ollama_sha256_arm64
amd64_sha256=$ollama_sha256_amd64

END
    cat <<'END'
main() {
    local arch sum archive
    arch=$(dpkg --print-architecture)
    case $arch in
        arm64) sum=$arm64_sha256 ;;
        amd64) sum=$amd64_sha256 ;;
        *)
            echo "Ollama is not made for $arch" >&2
            exit 1
            ;;
    esac
    if [[ $(timeout 20 ollama --version 2>/dev/null || true) == *"$version"* ]]; then
        echo "ollama $version: unchanged"
        return
    fi
    need ca-certificates curl zstd tar
    archive=/var/cache/pocketfleet/ollama-$version-$arch.tar.zst
    mkdir -p "${archive%/*}"
    if [[ ! -f $archive ]]; then
        # Kept when it breaks off, and continued the next time.
        timeout 21600 curl -fL --retry 5 --connect-timeout 20 --speed-limit 1000 --speed-time 60 -C - -o "$archive.part" \
            "https://github.com/ollama/ollama/releases/download/v$version/ollama-linux-$arch.tar.zst"
        if ! echo "$sum  $archive.part" | sha256sum -c --quiet; then
            rm -f "$archive.part"
            echo "wrong checksum; the file was removed, run again" >&2
            exit 1
        fi
        mv -f "$archive.part" "$archive"
    fi
    # The libraries for NVIDIA cards are most of the archive and of no use on a phone.
    timeout 1800 tar --zstd -xf "$archive" -C /usr/local --exclude='*cuda*'
    timeout 20 ollama --version
    rm -f "$archive"
}
END
}

# ---- steps: id, token, key, script, config

write_id() {
    local id
    id=$(phone_id)
    if [[ -z $id ]] && ((dry_run)); then
        say "would make an id for this phone in $home/id (mode 600)"
        return
    fi
    if [[ -z $id ]]; then id=pf-$(od -An -N8 -tx1 /dev/urandom | tr -d ' \n'); fi
    printf '%s\n' "$id" | put_file "$home/id" 600
}

token_source() {
    if [[ -n $environment_token ]]; then
        printf '%s' "$environment_token"
    elif [[ -n ${option[token_file]:-} ]]; then
        [[ -r ${option[token_file]} ]] || misused "cannot read the token file ${option[token_file]}"
        [[ -s ${option[token_file]} ]] || misused "the token file ${option[token_file]} is empty"
        head -n 1 "${option[token_file]}" | tr -d '\r\n'
    elif [[ -s $home/token ]]; then
        head -n 1 "$home/token" | tr -d '\r\n'
    fi
}

write_token() {
    local token
    token=$(token_source) || exit
    [[ -n $token ]] || return 0
    [[ $token =~ ^[[:graph:]]{1,512}$ ]] || misused "the token has spaces or control characters, or is too long"
    if ((dry_run)); then
        say "would write the token to $home/token (mode 600)"
    else
        printf '%s\n' "$token" | put_file "$home/token" 600
    fi
}

write_api_key() {
    case ${given[api_key_file]:-} in
        '') ;;
        none) remove "$home/api_key" ;;
        *)
            if ((dry_run)); then
                say "would copy ${given[api_key_file]} to $home/api_key (mode 600)"
            else
                put_file "$home/api_key" 600 <"${given[api_key_file]}"
            fi
            ;;
    esac
}

own_path() {
    local path=${BASH_SOURCE[0]:-}
    [[ -f $path ]] || die "save this script to a file first (curl -o $script_name ...), then run bash $script_name"
    readlink -f "$path"
}

# The services must not depend on where the script was downloaded to.
write_script() {
    local source
    source=$(own_path) || exit
    if ((dry_run)); then
        show_command cp "$source" "$home/bin/$script_name"
    else
        put_file "$home/bin/$script_name" 700 <"$source"
    fi
}

write_config() { config_text | put_file "$home/config" 600; }

# ---- step: model

gguf_is_sound() {
    [[ $(head -c 4 "$1" 2>/dev/null | tr -d '\0') == GGUF ]]
}

copy_file() {
    local source=$1 target=$2
    if ((dry_run)); then
        show_command cp "$source" "$target"
        return
    fi
    mkdir -p "${target%/*}"
    timeout -k 5 7200 cp "$source" "$target.part" &
    child=$!
    if ((holds_lock)); then remember_process "$child" "$home/lock/child"; fi
    show_progress "copying ${target##*/}" "$target.part" "$(file_size "$source")"
    wait "$child" || die "cannot copy $source"
    child=''
    mv -f "$target.part" "$target"
}

# Brings the GGUF file to $model_file (or, by path, leaves it where Ollama can read it)
fetch_gguf() {
    local found
    if [[ $model_form == url ]]; then
        [[ -n ${option[sha256]:-} ]] || warn "no --sha256 was given, so nobody can tell whether the right file came"
        download "${option[model]}" "$model_file" "${option[sha256]:-}"
    else
        [[ -f ${option[model]} ]] || ((dry_run)) || die "there is no file ${option[model]}"
        if [[ -n ${option[sha256]:-} ]] && ((!dry_run)); then
            found=$(sha256sum "${option[model]}" | cut -d' ' -f1)
            [[ $found == "${option[sha256],,}" ]] ||
                die "wrong checksum of ${option[model]}: expected sha256 ${option[sha256],,}, found $found"
            say "sha256 is right"
        fi
        if [[ $family == llama && $(readlink -f "${option[model]}") != "$(readlink -f "$model_file")" ]]; then
            copy_file "${option[model]}" "$model_file"
        fi
    fi
    ((!dry_run)) || return 0
    gguf_is_sound "$(gguf_path)" || die "$(gguf_path) is not a GGUF file"
}

gguf_path() {
    if [[ $model_form == path && $family == ollama ]]; then printf '%s' "${option[model]}"; else printf '%s' "$model_file"; fi
}

there_model() {
    case $family in
        llama) [[ -f $model_file ]] ;;
        *) engine_is_up && ollama_has "$model_name" ;;
    esac
}

install_model() {
    if [[ $family == llama ]]; then
        fetch_gguf
        return
    fi
    if [[ $model_form == tag ]]; then
        ollama_pull "${option[model]}"
        if [[ $model_name != "${option[model]}" ]]; then
            ollama_call POST /api/copy "{\"source\":$(json_string "${option[model]}"),\"destination\":$(json_string "$model_name")}"
        fi
    else
        fetch_gguf
        ollama_create
    fi
}

# ---- Ollama's API

engine_address() {
    local address=$bind
    case $address in 0.0.0.0 | ::) address=127.0.0.1 ;; esac
    [[ $address != *:* ]] || address="[$address]"
    printf 'http://%s:%s' "$address" "$port"
}

# with_bearer FILE CURL-ARGUMENT...: the secret goes to curl by standard input, since anybody may read a command line
with_bearer() {
    local file=$1 secret=''
    shift
    if [[ -s $file ]]; then secret=$(grep -v '^#' "$file" | head -n 1 | tr -d '\r\n'); fi
    if [[ -z $secret ]]; then
        timeout -k 5 660 curl "$@" </dev/null
    else
        secret=${secret//\\/\\\\}
        printf 'header = "Authorization: Bearer %s"\n' "${secret//\"/\\\"}" | timeout -k 5 660 curl --config - "$@"
    fi
}

# engine_get PATH [SECONDS]
engine_get() {
    local key=$home/api_key
    [[ $family == llama ]] || key=/nonexistent
    with_bearer "$key" -fsS --noproxy '*' -m "${2:-2}" "$(engine_address)$1" 2>/dev/null
}

engine_is_up() {
    if [[ $family == ollama ]]; then engine_get /api/version >/dev/null; else engine_get /v1/models >/dev/null; fi
}

ollama_call() {
    local method=$1 path=$2 body=$3
    local request=(curl -fsS --noproxy '*' -m 600 -X "$method" "$(engine_address)$path" -d "$body")
    if ((dry_run)); then show_command "${request[@]}"; else "${request[@]}" </dev/null >/dev/null || die "Ollama refused $path"; fi
}

# Names of the models the engine has, one a line
engine_models() {
    if [[ $family == ollama ]]; then
        engine_get /api/tags | json_flat | awk -F'\t' '$1 ~ /^models\.[0-9]+\.name$/ { print $2 }'
    else
        engine_get /v1/models | json_flat | awk -F'\t' '$1 ~ /^data\.[0-9]+\.id$/ { print $2 }'
    fi
}

# Ollama's names have a tag, `latest` if need be, and know no case.
ollama_has() {
    local wanted=${1,,}
    [[ ${wanted##*/} == *:* ]] || wanted=$wanted:latest
    engine_models | tr '[:upper:]' '[:lower:]' | grep -qxF -- "$wanted"
}

# Ollama tells its progress as NDJSON; a line is printed for each twentieth of a layer and for each new status.
ollama_pull() {
    local request=(curl -sS -N --noproxy '*' --max-time 43200 --speed-limit 1 --speed-time 600 "$(engine_address)/api/pull"
        -d "{\"model\":$(json_string "$1"),\"stream\":true}")
    if ((dry_run)); then
        show_command "${request[@]}"
        return
    fi
    "${request[@]}" </dev/null | awk '
        function field(name,   pattern, value) {
            pattern = "\"" name "\"[ ]*:[ ]*(\"([^\"\\\\]|\\\\.)*\"|[0-9]+)"
            if (!match($0, pattern)) return ""
            value = substr($0, RSTART, RLENGTH)
            sub(/^"[a-z]+"[ ]*:[ ]*/, "", value)
            gsub(/^"|"$/, "", value)
            return value
        }
        {
            if (field("error") != "") { print "Ollama: " field("error"); failed = 1; next }
            status = field("status"); total = field("total") + 0; done = field("completed") + 0
            if (status == "success") good = 1
            if (total > 0) {
                part = int(done * 20 / total)
                if (status != last || part != shown) {
                    printf "%s: %.1f of %.1f MB (%d %%)\n", status, done / 1e6, total / 1e6, done * 100 / total
                    shown = part
                }
            } else if (status != last && status != "") print status
            last = status
            fflush()
        }
        END { exit !(good && !failed) }' ||
        die "Ollama could not pull '$1' (see above). What has come is kept; run again to go on. Tags: https://ollama.com/library"
}

# Copying a GGUF file somewhere registers nothing: Ollama must create a model from it.
ollama_create() {
    local modelfile=$home/Modelfile path binds
    path=$(gguf_path)
    [[ $path != *\"* ]] || die "the path of the model has a quotation mark"
    [[ $path != *[[:space:]]* ]] || path="\"$path\""
    {
        printf 'FROM %s\n' "$path"
        [[ ${option[threads]} == auto ]] || printf 'PARAMETER num_thread %s\n' "${option[threads]}"
    } | put_file "$modelfile" 600
    if [[ ${option[engine]} == proot-ollama ]]; then
        binds=(--bind "$home:$home")
        [[ $model_form != path ]] || binds+=(--bind "${option[model]%/*}:${option[model]%/*}")
        limited 3600 proot-distro login "$container" "${binds[@]}" -- env OLLAMA_HOST="$(engine_address)" ollama create "$model_name" -f "$modelfile" </dev/null ||
            die "ollama create failed (see above)"
    else
        limited 3600 env OLLAMA_HOST="$(engine_address)" ollama create "$model_name" -f "$modelfile" </dev/null ||
            die "ollama create failed (see above)"
    fi
    # Ollama has its own copy now.
    if [[ $model_form == url ]]; then remove "$model_file"; fi
    remove "$modelfile"
}

# ---- command lines of the engines

# engine_help PROGRAM...: what the engine that is there says about its flags. On a dry run without an engine a recent
# llama.cpp is assumed.
engine_help() {
    if timeout -k 1 60 "$@" --help </dev/null 2>&1; then return; fi
    ((!dry_run)) || printf '%s\n' '--flash-attn [on|off|auto] --load-mode --cache-ram --fit --metrics --sse-ping-interval --device -c, --cache'
}

has_flag() { grep -qE -- "(^|[ ,])$2([ ,=]|\$)" <<<"$1"; }

# Sets engine_command: the command line of llama-server, with the flags this build knows
llama_server_command() {
    local program=("$@") help model=$model_file key=$home/api_key
    help=$(engine_help "$@")
    if [[ ${option[engine]} == proot-llama ]]; then model=/models/${model_file##*/} key=/api_key; fi
    engine_command=("${program[@]}" -m "$model" -a "$model_name" --host "$bind" --port "$port"
        -c "$((option[ctx] * option[parallel]))" -np "${option[parallel]}" -t "$(threads)")
    # CPU flash attention crashed on phones with long prompts, so it is said even where `auto` is the default.
    if grep -qE -- '--flash-attn +[[<{(]?(on|auto|off)' <<<"$help"; then
        engine_command+=(--flash-attn "${option[flash_attn]}")
    elif [[ ${option[flash_attn]} == on ]]; then
        engine_command+=(--flash-attn)
    fi
    # The default cache of prompts is 8 GB, more than a phone has.
    if has_flag "$help" --cache-ram; then
        engine_command+=(--cache-ram "$([[ ${option[role]} == rpc-master ]] && echo 0 || echo 256)")
    fi
    ! has_flag "$help" --metrics || engine_command+=(--metrics)
    ! has_flag "$help" --sse-ping-interval || engine_command+=(--sse-ping-interval 5)
    if [[ ${option[role]} == rpc-master ]]; then
        engine_command+=(--rpc "${option[rpc]}" -sm layer -ngl "${option[ngl]:-99}")
        [[ -z ${option[tensor_split]:-} ]] || engine_command+=(-ts "${option[tensor_split]}")
        if has_flag "$help" --fit || has_flag "$help" -fit; then engine_command+=(-fit off); fi
        if has_flag "$help" --load-mode; then
            engine_command+=(--load-mode none)
        elif has_flag "$help" --no-mmap; then
            engine_command+=(--no-mmap)
        fi
    elif [[ ${option[gpu]} == off ]]; then
        ! has_flag "$help" --device || engine_command+=(--device none)
    else
        engine_command+=(-ngl 99)
    fi
    if has_api_key; then engine_command+=(--api-key-file "$key"); fi
}

rpc_server_command() {
    local help
    help=$(engine_help "$@")
    engine_command=("$@" -H "$bind" -p "$port" -t "$(threads)")
    # -c keeps big tensors on the phone, so that the next start of the master does not send them again.
    ! has_flag "$help" -c || engine_command+=(-c)
}

ollama_environment() {
    local host=$bind
    [[ $host != *:* ]] || host="[$host]"
    engine_environment=("OLLAMA_HOST=$host:$port" "OLLAMA_MODELS=${1}/ollama" "OLLAMA_KEEP_ALIVE=${option[keep_alive]}"
        "OLLAMA_NUM_PARALLEL=${option[parallel]}" "OLLAMA_CONTEXT_LENGTH=${option[ctx]}" OLLAMA_MAX_LOADED_MODELS=1
        OLLAMA_NO_CLOUD=1)
    case ${option[flash_attn]} in
        off) engine_environment+=(OLLAMA_FLASH_ATTENTION=0) ;;
        on) engine_environment+=(OLLAMA_FLASH_ATTENTION=1) ;;
    esac
    if [[ ${option[gpu]} == vulkan ]]; then engine_environment+=(OLLAMA_VULKAN=1); fi
}

# Sets engine_command and engine_environment for the options at hand
engine_command_line() {
    local inside=() binds=(--bind "$models_dir:/models") program
    engine_environment=()
    case ${option[engine]} in
        ollama)
            ollama_environment "$models_dir"
            engine_command=(ollama serve)
            ;;
        proot-ollama)
            ollama_environment /models
            engine_command=(proot-distro login "$container" "${binds[@]}" -- env "${engine_environment[@]}" ollama serve)
            engine_environment=()
            ;;
        proot-llama)
            inside=(proot-distro login "$container")
            if [[ ${option[role]} == rpc-worker ]]; then
                rpc_server_command "${inside[@]}" -- ggml-rpc-server
                engine_command=("${inside[@]}" "${binds[@]}" -- env LLAMA_CACHE=/models/rpc-cache "${engine_command[@]:4}")
            else
                if has_api_key; then binds+=(--bind "$home/api_key:/api_key"); fi
                llama_server_command "${inside[@]}" -- llama-server
                engine_command=("${inside[@]}" "${binds[@]}" -- "${engine_command[@]:4}")
            fi
            ;;
        *)
            if ! program=$(engine_program); then
                ((dry_run)) || die "the engine is not there; run: bash $script_name install"
                program=$home/engine/current/llama-server
                [[ ${option[role]} != rpc-worker ]] || program=$home/engine/current/ggml-rpc-server
            fi
            if [[ ${option[role]} == rpc-worker ]]; then
                engine_environment=("LLAMA_CACHE=$models_dir/rpc-cache")
                rpc_server_command "$program"
            else
                llama_server_command "$program"
            fi
            ;;
    esac
}

# ---- step: services

shell_path() { if [[ -x $PREFIX/bin/bash ]]; then printf '%s' "$PREFIX/bin/bash"; else readlink -f "$BASH"; fi; }

run_head() {
    cat <<END
#!$(shell_path)
# Written by $script_name; its next install writes it anew.
exec 2>&1
export PATH=$(quoted "$PREFIX/bin"):\$PATH HOME=$(quoted "$HOME") PREFIX=$(quoted "$PREFIX")
END
}

# A crash loop would heat the phone: two starts are at least 5 seconds apart.
run_pause() {
    cat <<'END'
last=0
if [[ -f last-start ]]; then read -r last <last-start; fi
printf -v now '%(%s)T' -1
printf '%s\n' "$now" >last-start
if ((now - last < 5)); then sleep 5; fi
END
}

engine_run() {
    local variable
    run_head
    run_pause
    for variable in "${engine_environment[@]}"; do printf 'export %s\n' "$(quoted "$variable")"; done
    if [[ ${option[role]} == rpc-worker ]]; then
        printf '# A master that gave up would kill the worker by SIGPIPE.\ntrap "" PIPE\n'
    elif [[ ${option[role]} == rpc-master ]]; then
        cat <<END
# A master that finds a worker missing aborts, so it waits for all of them.
for worker in ${option[rpc]//,/ }; do
    until timeout 5 bash -c 'exec 3<>"/dev/tcp/\${1%:*}/\${1##*:}"' _ "\$worker" 2>/dev/null; do
        echo "waiting for the worker \$worker"
        sleep 10
    done
done
END
    fi
    printf 'exec %s\n' "$(quoted "${engine_command[@]}")"
}

agent_run() {
    run_head
    run_pause
    printf 'export POCKETFLEET_HOME=%s\n' "$(quoted "$home")"
    printf 'exec %s\n' "$(quoted "$(shell_path)" "$home/bin/$script_name" agent)"
}

tunnel_run() {
    tunnel_target
    run_head
    cat <<END
# The host keeps the port of a lost connection until it notices (see ClientAliveInterval); so try, and try again, and not
# all phones at the same moment.
sleep \$((2 + RANDOM % 6))
exec $(quoted "${tunnel_command[@]}")
END
}

log_run() {
    cat <<END
#!$(shell_path)
mkdir -p $(quoted "$LOGDIR/sv/$1")
exec svlogd -tt $(quoted "$LOGDIR/sv/$1")
END
}

# service NAME FUNCTION: FUNCTION prints its run file. A new service directory appears whole and switched off.
write_service() {
    local name=$1 directory=$SVDIR/$1 new
    if ((!dry_run)) && [[ ! -d $directory ]]; then
        new=$state_dir/service.$name
        rm -rf "$new"
        mkdir -p "$new/log" "$SVDIR"
        : >"$new/down"
        "$2" | put_file "$new/run" 700
        log_run "$name" | put_file "$new/log/run" 700
        mv -T "$new" "$directory"
    else
        "$2" | put_file "$directory/run" 700
        log_run "$name" | put_file "$directory/log/run" 700
    fi
    # 4 files of half a megabyte
    printf 's500000\nn4\n' | put_file "$LOGDIR/sv/$name/config" 600
}

wants_agent() { [[ ${option[gateway]} == http* ]]; }

write_services() {
    local name before
    ((dry_run)) || mkdir -p "$models_dir"
    engine_command_line
    restart_needed=()
    for name in "${services[@]}"; do
        before=$changed
        changed=0
        case $name in
            *-engine) write_service "$name" engine_run ;;
            *-agent) if wants_agent; then write_service "$name" agent_run; else remove_service "$name"; fi ;;
            *-tunnel) if [[ -n $tunnel_port ]]; then write_service "$name" tunnel_run; else remove_service "$name"; fi ;;
        esac
        if ((changed)); then restart_needed+=("$name"); fi
        changed=$((changed | before))
    done
}

remove_service() {
    local directory=$SVDIR/$1
    if [[ -d $directory ]]; then
        # Should runsvdir bring it up once more before it is gone, it must stay down.
        if ((!dry_run)); then : >"$directory/down"; fi
        limited 20 sv force-shutdown "$1" || true
        changed=1
    fi
    remove "$directory" "$LOGDIR/sv/$1"
}

# ---- steps: boot file, stop script

boot_text() {
    cat <<END
#!$(shell_path)
# Written by $script_name: what Termux:Boot runs after the phone has started and was unlocked once.
export PATH=$(quoted "$PREFIX/bin"):\$PATH HOME=$(quoted "$HOME") PREFIX=$(quoted "$PREFIX")
END
    [[ ${option[wake_lock]} == no ]] || printf 'timeout 20 termux-wake-lock\n'
    printf '. %s\n' "$(quoted "$PREFIX/etc/profile.d/start-services.sh")"
}

write_boot_file() {
    if [[ ${option[autostart]} == yes ]]; then
        boot_text | put_file "$boot_file" 700
    elif [[ -e $boot_file ]]; then
        remove "$boot_file"
        changed=1
    fi
}

write_stop_script() {
    {
        cat <<END
#!$(shell_path)
# Written by $script_name: stops the phone's part in the fleet at once. "bash $script_name start" begins again.
export PATH=$(quoted "$PREFIX/bin"):\$PATH SVDIR=$(quoted "$SVDIR")
END
        cat <<'END'
for service in pocketfleet-agent pocketfleet-tunnel pocketfleet-engine; do
    if [ -d "$SVDIR/$service" ]; then timeout 20 sv down "$service"; fi
done
timeout 20 termux-wake-unlock
END
    } | put_file "$home/stop.sh" 700
}

# ---- tunnel

# Sets tunnel_command, and tunnel_host and tunnel_ssh_port as ssh and known_hosts want them
tunnel_target() {
    local target=${option[tunnel]} login
    login=${target%%@*}
    tunnel_host=${target#*@}
    tunnel_ssh_port=22
    if [[ $tunnel_host == \[*\]:* || ($tunnel_host != \[* && $tunnel_host == *:*) ]]; then
        tunnel_ssh_port=${tunnel_host##*:}
        tunnel_host=${tunnel_host%:*}
    fi
    tunnel_host=${tunnel_host#[}
    tunnel_host=${tunnel_host%]}
    tunnel_command=(ssh -N -T -F none -p "$tunnel_ssh_port" -i "$home/ssh/id_ed25519" -o IdentitiesOnly=yes -o BatchMode=yes
        -o StrictHostKeyChecking=yes -o "UserKnownHostsFile=$home/ssh/known_hosts" -o ConnectTimeout=15
        -o ExitOnForwardFailure=yes -o ServerAliveInterval=15 -o ServerAliveCountMax=3
        -R "127.0.0.1:$tunnel_port:$(tunnel_engine_host):$port" "$login@$tunnel_host")
}

tunnel_engine_host() { case $bind in 0.0.0.0 | :: | 127.*) echo 127.0.0.1 ;; *) printf '%s\n' "$bind" ;; esac; }

there_tunnel() { [[ -s $home/ssh/id_ed25519 && -s $home/ssh/id_ed25519.pub && -s $home/ssh/known_hosts ]]; }

install_tunnel() {
    local line known
    tunnel_target
    if ((!dry_run)); then mkdir -p "$home/ssh"; fi
    if [[ ! -s $home/ssh/id_ed25519 ]]; then
        limited 30 ssh-keygen -q -t ed25519 -N '' -C "pocketfleet-$(phone_id)" -f "$home/ssh/id_ed25519" </dev/null || die "ssh-keygen failed"
    fi
    known=$tunnel_host
    [[ $tunnel_ssh_port == 22 ]] || known="[$tunnel_host]:$tunnel_ssh_port"
    if [[ -n ${option[tunnel_host_key]:-} ]]; then
        line="$known ${option[tunnel_host_key]}"
    elif ((dry_run)); then
        show_command timeout -k 5 20 ssh-keyscan -T 10 -p "$tunnel_ssh_port" "$tunnel_host"
        return
    else
        line=$(timeout -k 5 20 ssh-keyscan -T 10 -t ed25519 -p "$tunnel_ssh_port" "$tunnel_host" 2>/dev/null </dev/null | grep -v '^#' | head -n 1) ||
            die "$tunnel_host does not answer on port $tunnel_ssh_port; is sshd running there?"
        say "the host's key is:"
        printf '%s\n' "$line" | ssh-keygen -lf - || die "that is no key"
        confirmed "Is it right? (on the host: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub)" ||
            die "the host's key was not confirmed: give --tunnel-host-key 'ssh-ed25519 AAAA...', or --yes to take this one"
    fi
    printf '%s\n' "$line" | put_file "$home/ssh/known_hosts" 600
}

tunnel_advice() {
    local public='(the key that install makes)'
    if [[ -s $home/ssh/id_ed25519.pub ]]; then public=$(<"$home/ssh/id_ed25519.pub"); fi
    cat <<END
On the gateway's host, once, for the tunnel:
  1. as root, a user that can do nothing else (if there is none yet):
       useradd --create-home --shell /usr/sbin/nologin ${option[tunnel]%%@*}
  2. this line in ~${option[tunnel]%%@*}/.ssh/authorized_keys:
       restrict,port-forwarding,permitlisten="127.0.0.1:$tunnel_port",permitopen="127.0.0.1:1",command="/usr/sbin/nologin" $public
     (this port and nothing else: no other one, no connection from the host onwards, no command)
  3. in /etc/ssh/sshd_config, then "systemctl reload ssh", so that the port of a lost phone is free again after a minute:
       ClientAliveInterval 15
       ClientAliveCountMax 3
END
}

# ---- install

# A gateway that cannot be found is asked for; a script cannot be asked.
find_gateway() {
    local found=''
    [[ ${option[gateway]} == auto ]] || return 0
    # mDNS needs a tool on the phone. Termux's avahi does not start on Android 13 and later and Android gives Termux no
    # multicast, so this is a chance, not a promise.
    if command -v avahi-browse >/dev/null; then
        found=$(timeout -k 1 8 avahi-browse -rpt _pocketfleet._tcp 2>/dev/null </dev/null |
            awk -F';' '$1 == "=" && $3 == "IPv4" { print "http://" $8 ":" $9; exit }' || true)
    fi
    # Over USB (adb reverse) the gateway is on this phone's loopback.
    if [[ -z $found ]] && quick curl -fsS -m 3 -o /dev/null http://127.0.0.1:8000/health; then found=http://127.0.0.1:8000; fi
    if [[ -z $found && -t 0 ]] && ((!assume_yes)); then
        say "The gateway was not found: phones have no working tool for mDNS. Its log shows its address."
        read -rp "Address of the gateway, such as http://192.168.1.10:8000: " found || true
    fi
    [[ $found =~ ^https?://[^/\ ]+ ]] ||
        die "--gateway auto found no gateway: phones have no working tool for mDNS. Give its address: --gateway http://192.168.1.10:8000"
    say "gateway: $found"
    option[gateway]=${found%/}
}

install() {
    local was_running
    [[ $model_form != none || ${option[role]} == rpc-worker ]] || misused "which model? Give --model TAG, URL or PATH"
    # Better before the first download than after it.
    if [[ ${option[engine]} == llama-release && -z ${option[llama_bin]:-} ]]; then engine_checksum >/dev/null || exit; fi
    if [[ -n ${given[api_key_file]:-} && ${given[api_key_file]} != none && ! -s ${given[api_key_file]} ]]; then
        misused "the key file ${given[api_key_file]} is empty or not there"
    fi
    token_source >/dev/null || exit
    ask_about_lan
    resolve_bind
    find_gateway
    take_lock
    step packages "$(wanted_packages)" -- install_packages
    file_step id write_id
    resolve_address
    file_step token write_token
    file_step api-key write_api_key
    step engine "${option[engine]}" "${option[role]}" "${option[engine_url]:-$llama_url}" "${option[engine_sha256]:-}" \
        "${option[llama_bin]:-}" "$(inner_script)" -- install_engine
    file_step script write_script
    file_step config write_config
    if [[ $family == llama && ${option[role]} != rpc-worker ]]; then
        check_room
        step model "$model_form" "${option[model]}" "${option[sha256]:-}" "$model_file" -- install_model
    fi
    if [[ -n $tunnel_port ]]; then
        if ((dry_run)) && [[ -z ${option[remote_port]:-}$(phone_id) ]]; then
            say "the remote port $tunnel_port stands for one that is made from the phone's id"
        fi
        step tunnel "${option[tunnel]}" "${option[tunnel_host_key]:-}" -- install_tunnel
    fi
    file_step services write_services
    file_step boot write_boot_file
    file_step stop-script write_stop_script
    if [[ $family == ollama ]]; then
        # Ollama brings models only while it runs.
        check_room
        was_running=$(service_state pocketfleet-engine)
        start_engine
        step model "$model_form" "${option[model]}" "${option[sha256]:-}" "$model_name" "${option[threads]}" -- install_model
        if [[ $command != up && $was_running != run ]]; then service_down pocketfleet-engine; fi
    fi
    if [[ -n $tunnel_port ]]; then tunnel_advice; fi
    if [[ $command == install ]]; then say "installed; next: bash $script_name start"; fi
}

# ---- services at work

service_state() {
    local answer
    [[ -d $SVDIR/$1 ]] || {
        echo absent
        return
    }
    answer=$(quick sv status "$1" || true)
    case ${answer%%:*} in
        run | down | finish) printf '%s\n' "${answer%%:*}" ;;
        *) echo unsupervised ;;
    esac
}

# Starts runit's daemon if need be and waits until it has noticed the service (it looks every 5 seconds)
supervise() {
    local try
    if ((dry_run)); then
        show_command timeout -k 5 20 service-daemon start
        return
    fi
    for try in {1..15}; do
        if quick sv status "$1" >/dev/null; then return; fi
        if ((try == 1)) && command -v service-daemon >/dev/null; then limited 20 service-daemon start >/dev/null 2>&1 </dev/null || true; fi
        sleep 1
    done
    die "runit does not take up $1. Close all Termux sessions, open Termux anew (that starts termux-services) and run this again."
}

service_up() {
    supervise "$1"
    limited 20 sv up "$1" || die "cannot start $1"
}

service_down() {
    local try
    [[ -d $SVDIR/$1 ]] || ((dry_run)) || return 0
    limited 20 sv down "$1" || true
    ((!dry_run)) || return 0
    for try in {1..20}; do
        if [[ $(service_state "$1") != run ]]; then return; fi
        sleep 0.5
    done
    warn "$1 does not stop (waited $((try / 2)) s)"
}

start_engine() {
    if ((${#restart_needed[@]})) && [[ " ${restart_needed[*]} " == *' pocketfleet-engine '* && $(service_state pocketfleet-engine) == run ]]; then
        limited 30 sv restart pocketfleet-engine || true
    fi
    service_up pocketfleet-engine
    # Ollama answers at once, llama-server when its model is loaded.
    if [[ $family == ollama ]]; then wait_for_engine 45; else wait_for_engine 300; fi
    engine_started=1
}

wait_for_engine() {
    local seconds=$1 waited=0
    [[ ${option[role]} != rpc-worker ]] || return 0
    if ((dry_run)); then
        say "would wait up to $seconds s for $(engine_address)"
        return
    fi
    until engine_is_up; do
        ((waited < seconds)) || die "the engine does not answer at $(engine_address) after $seconds s; see $LOGDIR/sv/pocketfleet-engine/current"
        ((waited % 10)) || say "waiting for the engine ($waited s)"
        sleep 1
        waited=$((waited + 1))
    done
}

keep_alive_json() { if [[ ${option[keep_alive]} =~ ^-?[0-9]+$ ]]; then printf '%s' "${option[keep_alive]}"; else json_string "${option[keep_alive]}"; fi; }

# Loads the model now, so that the first question does not wait for it. Ollama must not be left while it loads: it would
# give the load up.
warm_up() {
    local path body request
    [[ ${option[role]} != rpc-worker && -n $model_name ]] || return 0
    if [[ $family == ollama ]]; then
        path=/api/generate
        body="{\"model\":$(json_string "$model_name"),\"keep_alive\":$(keep_alive_json)}"
    else
        path=/v1/chat/completions
        body='{"messages":[{"role":"user","content":"Hi"}],"max_tokens":1}'
    fi
    request=(-fsS --noproxy '*' -m 600 -H 'Content-Type: application/json' "$(engine_address)$path" -d "$body")
    if ((dry_run)); then
        show_command curl "${request[@]}"
        return
    fi
    say "loading $model_name"
    if with_bearer "$([[ $family == llama ]] && echo "$home/api_key" || echo /nonexistent)" "${request[@]}" >/dev/null; then
        say "$model_name is loaded"
    else
        warn "the model could not be loaded; see $LOGDIR/sv/pocketfleet-engine/current"
    fi
}

start() {
    local name
    if [[ ${option[wake_lock]} == yes ]]; then
        limited 20 termux-wake-lock </dev/null || warn "no wake lock; the phone may fall asleep"
    fi
    [[ -d $SVDIR/pocketfleet-engine ]] || ((dry_run)) || die "nothing is installed; run: bash $script_name MODEL"
    for name in "${services[@]}"; do
        [[ -d $SVDIR/$name ]] || ((dry_run)) || continue
        if ((dry_run)); then
            if [[ $name == *-agent ]] && ! wants_agent; then continue; fi
            if [[ $name == *-tunnel && -z $tunnel_port ]]; then continue; fi
        fi
        if [[ ${option[autostart]} == yes ]]; then remove "$SVDIR/$name/down"; elif ((!dry_run)); then : >"$SVDIR/$name/down"; fi
        if [[ " ${restart_needed[*]-} " == *" $name "* && $(service_state "$name") == run && $name != *-engine ]]; then
            limited 30 sv restart "$name" || true
        fi
        if [[ $name != *-engine ]]; then service_up "$name"; elif ((!engine_started)); then start_engine; fi
    done
    warm_up
    say "started"
}

stop() {
    local name
    for name in pocketfleet-agent pocketfleet-tunnel pocketfleet-engine; do
        if [[ -d $SVDIR/$name ]]; then service_down "$name"; fi
    done
    limited 20 termux-wake-unlock </dev/null || true
    say "stopped"
}

# ---- print-config

# The entry of the gateway's phones.json, seen from the gateway: through a tunnel the phone is a port of its own host.
print_config() {
    local host=$bind entry_port=$port id name fields
    [[ ${option[role]} != rpc-worker ]] || die "an RPC worker has no entry in phones.json; its master wants --rpc $(rpc_address)"
    if [[ -n $tunnel_port ]]; then
        host=127.0.0.1 entry_port=$tunnel_port
    elif [[ $bind != 127.* && $bind != ::1 ]]; then
        host=$(lan_address)
        if [[ -z $host ]]; then
            host=ADDRESS-OF-THIS-PHONE
            warn "this phone's address cannot be seen from here: look in Settings > Wi-Fi and put it in the place of $host"
        fi
    elif [[ -t 2 ]]; then
        warn "the engine listens on 127.0.0.1 only: the entry below is for USB (adb forward). For the Wi-Fi install with" \
            "--i-trust-this-lan or --tunnel."
    fi
    id=$(phone_id)
    name=$(phone_name)
    fields="\"host\":$(json_string "$host"),\"port\":$entry_port"
    [[ -z $name ]] || fields+=",\"name\":$(json_string "$name")"
    fields+=",\"engine\":\"$([[ $family == ollama ]] && echo ollama || echo llama-server)\""
    [[ -z $model_name ]] || fields+=",\"model\":$(json_string "$model_name")"
    fields+=",\"max_concurrency\":${option[parallel]}"
    [[ -z $id ]] || fields+=",\"id\":$(json_string "$id")"
    printf '{%s}\n' "$fields"
}

# Where the master finds this worker: at its own loopback by tunnel or USB, else in the network
rpc_address() {
    if [[ -n $tunnel_port ]]; then
        printf '127.0.0.1:%s' "$tunnel_port"
    elif [[ $bind == 127.* || $bind == ::1 ]]; then
        printf '127.0.0.1:PORT (the PORT of adb forward tcp:PORT tcp:%s)' "$port"
    else
        printf '%s:%s' "$(lan_address)" "$port"
    fi
}

up() {
    install
    start
    title "done"
    if [[ ${option[role]} == rpc-worker ]]; then
        say "This is an RPC worker. Its master wants: --rpc $(rpc_address)"
        wants_agent && say "In the gateway's phones.json, a member of its group: \"id\": $(json_string "$(phone_id)")"
        return 0
    fi
    say "The engine listens on $bind:$port.$([[ $bind == 127.* && -z $tunnel_port ]] && printf ' Only this phone itself and USB (adb forward) can reach it. To open it to the Wi-Fi, run this again with --i-trust-this-lan, or with --tunnel USER@HOST.')"
    say "Entry for the gateway's phones.json:"
    print_config
}

# ---- status

status_text() {
    local name up=no models=''
    if [[ ${option[role]} == rpc-worker ]]; then
        # It serves one connection at a time; a question would stand in its master's way.
        up='not asked'
    elif engine_is_up; then
        up=yes
        models=$(engine_models | paste -sd' ' -)
    fi
    say "phone    $(phone_id) ($(phone_name))"
    say "engine   ${option[engine]}, ${option[role]}, $bind:$port, answers: $up${models:+, models: $models}"
    for name in "${services[@]}"; do say "service  $name: $(service_state "$name")"; done
    say "gateway  ${option[gateway]}$(heartbeat_text)"
    if [[ -n $tunnel_port ]]; then say "tunnel   ${option[tunnel]}, port $tunnel_port there"; fi
}

status_json() {
    local up=false names='' model name states=''
    if [[ ${option[role]} == rpc-worker ]]; then
        up=null
    elif engine_is_up; then
        up=true
        while IFS= read -r model; do names+=${names:+,}$(json_string "$model"); done < <(engine_models)
    fi
    for name in "${services[@]}"; do states+=${states:+,}"\"${name#pocketfleet-}\":\"$(service_state "$name")\""; done
    read_heartbeat_file
    printf '{"id":%s,"name":%s,"installed":%s,"role":"%s","engine":{"package":"%s","kind":"%s","bind":"%s","port":%s,"up":%s,"model":%s,"models":[%s]},' \
        "$(json_string_or_null "$(phone_id)")" "$(json_string_or_null "$(phone_name)")" \
        "$(json_boolean "$([[ -d $SVDIR/pocketfleet-engine ]] && echo 1)")" "${option[role]}" "${option[engine]}" \
        "$([[ $family == ollama ]] && echo ollama || echo llama-server)" "$bind" "$port" "$up" \
        "$(json_string_or_null "$model_name")" "$names"
    printf '"services":{%s},"tunnel_port":%s,"gateway":%s,"heartbeat":{"http":%s,"state":%s,"reason":%s,"age_s":%s,"state_age_s":%s}}\n' \
        "$states" "$(json_number_or_null "$tunnel_port")" \
        "$(json_string_or_null "$([[ ${option[gateway]} != http* ]] || printf '%s' "${option[gateway]}")")" \
        "$(json_number_or_null "$beat_http")" "$(json_string_or_null "$beat_state")" "$(json_string_or_null "$beat_reason")" \
        "$(json_number_or_null "$beat_age")" "$(json_number_or_null "$beat_state_age")"
}

# What the agent noted of the gateway's last answer: time, time since when the state holds, HTTP status, state, reason
read_heartbeat_file() {
    local time='' since='' now
    beat_http='' beat_state='' beat_reason='' beat_age='' beat_state_age=''
    [[ -f $state_dir/heartbeat ]] || return 0
    IFS=$'\t' read -r time since beat_http beat_state beat_reason <"$state_dir/heartbeat" || return 0
    printf -v now '%(%s)T' -1
    [[ $beat_state != - ]] || beat_state=''
    [[ $time =~ ^[0-9]+$ && $since =~ ^[0-9]+$ ]] || return 0
    beat_age=$((now - time)) beat_state_age=$((now - since))
}

heartbeat_text() {
    read_heartbeat_file
    [[ -n $beat_http ]] || return 0
    if [[ $beat_http == 000 ]]; then
        printf ', %s s ago: no answer: %s' "$beat_age" "$beat_reason"
    else
        printf ', %s s ago: HTTP %s %s %s' "$beat_age" "$beat_http" "$beat_state" "$beat_reason"
    fi
}

# ---- agent: what the phone tells the gateway

log() { printf '%s\n' "$*"; }

# A sensor is read in the background and its line collected when it comes: Termux:API may hang, and the heartbeat must not.
declare -A sensor_fd=() sensor_value=() sensor_read=() sensor_begun=() sensor_failures=() sensor_rest=()

read_battery() {
    local flat plugged charging=null
    termux_api_is_there || return 1
    flat=$(quick termux-battery-status | json_flat) || return 1
    [[ -n $flat ]] || return 1
    plugged=$(flat_get plugged <<<"$flat")
    case $plugged in
        UNPLUGGED) charging=false ;;
        PLUGGED_*) charging=true ;;
    esac
    printf '{"temperature_c":%s,"level":%s,"charging":%s,"current_ua":%s}\n' \
        "$(json_number_or_null "$(flat_get temperature <<<"$flat")")" \
        "$(json_number_or_null "$(flat_get percentage <<<"$flat")")" "$charging" \
        "$(json_number_or_null "$(flat_get current <<<"$flat")")"
}

read_wifi() {
    local flat
    termux_api_is_there || return 1
    flat=$(quick termux-wifi-connectioninfo | json_flat) || return 1
    [[ -n $flat ]] || return 1
    printf '{"rssi_dbm":%s,"link_mbps":%s}\n' "$(json_number_or_null "$(flat_get rssi <<<"$flat")")" \
        "$(json_number_or_null "$(flat_get link_speed_mbps <<<"$flat")")"
}

sensor_failed() {
    sensor_failures[$1]=$((${sensor_failures[$1]:-0} + 1))
    if ((sensor_failures[$1] >= 3)); then
        sensor_failures[$1]=0
        sensor_rest[$1]=$((SECONDS + 600))
        log "$1: no answer 3 times (is the app Termux:API installed?); the next try is in 10 minutes"
    fi
}

# poll_sensor NAME: collects an answer that has come, and asks again when the last question is 30 s old
poll_sensor() {
    local name=$1 fd line='' status=0
    if [[ -n ${sensor_fd[$name]:-} ]]; then
        fd=${sensor_fd[$name]}
        IFS= read -r -t 0.01 -u "$fd" line || status=$?
        if ((status > 128)); then return; fi
        exec {fd}<&-
        sensor_fd[$name]=''
        if ((status == 0)); then
            sensor_value[$name]=$line sensor_read[$name]=$SECONDS sensor_failures[$name]=0
        else
            sensor_failed "$name"
        fi
    fi
    if ((SECONDS >= ${sensor_rest[$name]:-0} && SECONDS - ${sensor_begun[$name]:--1000} >= 30)); then
        sensor_begun[$name]=$SECONDS
        exec {fd}< <("read_$name" 2>/dev/null </dev/null)
        sensor_fd[$name]=$fd
    fi
}

# poll_sensors SECONDS: waits that long for answers that are under way
poll_sensors() {
    local tries=$(($1 * 10))
    while true; do
        poll_sensor battery
        poll_sensor wifi
        if [[ -z ${sensor_fd[battery]}${sensor_fd[wifi]} ]] || ((tries-- <= 0)); then return; fi
        sleep 0.1
    done
}

# sensor NAME NOTHING: the last value, unless it is too old to be true
sensor() {
    if [[ -n ${sensor_value[$1]:-} ]] && ((SECONDS - sensor_read[$1] <= 120)); then
        printf '%s' "${sensor_value[$1]}"
    else
        printf '%s' "$2"
    fi
}

# Sets engine_seen (true or false), engine_version and engine_list
look_at_engine() {
    local answer name path=/v1/models count=0 pattern='^data\.[0-9]+\.id$' before=$engine_seen
    [[ $family != ollama ]] || path=/api/tags pattern='^models\.[0-9]+\.name$'
    engine_list=''
    if [[ ${option[role]} == rpc-worker ]]; then
        engine_seen=null # it serves one connection at a time: a question would stand in its master's way
        return
    fi
    if ! answer=$(engine_get "$path"); then
        engine_seen=false engine_version=''
        return
    fi
    engine_seen=true
    while IFS= read -r name; do
        ((count++ < 32)) || break
        engine_list+=${engine_list:+,}$(json_string "${name:0:256}")
    done < <(printf '%s' "$answer" | json_flat | awk -F'\t' -v pattern="$pattern" '$1 ~ pattern { print $2 }')
    [[ -n $engine_version ]] || engine_version=$(ask_engine_version || true)
    if [[ $before == false ]]; then keep_model_warm; fi
}

ask_engine_version() {
    local version
    if [[ $family == ollama ]]; then
        version=$(engine_get /api/version | json_flat | flat_get version)
    else
        version=$(engine_get /props | json_flat | flat_get build_info)
    fi
    version=${version//[^A-Za-z0-9._+-]/}
    printf '%s' "${version:0:64}"
}

# An Ollama that has just come up (after a restart of the phone, say) has no model in memory: load it before somebody asks.
keep_model_warm() {
    local loaded
    ((!once)) && [[ $family == ollama && -n $model_name ]] || return 0
    loaded=$(engine_get /api/ps) || return 0
    if ! printf '%s' "$loaded" | json_flat | grep -q '^models\.0\.'; then
        warm_up >/dev/null 2>&1 </dev/null &
    fi
}

first_line() { head -n 1 "$1" 2>/dev/null || true; }

heartbeat_body() {
    local uptime boot_id kind=llama-server at=$port tunnel_end=$tunnel_port
    [[ $family != ollama ]] || kind=ollama
    # Of a worker it is not said where it listens: it is no engine that the gateway could ask.
    if [[ ${option[role]} == rpc-worker ]]; then kind='' at=null tunnel_end=''; fi
    uptime=$(first_line "$proc_root/uptime")
    boot_id=$(first_line "$proc_root/sys/kernel/random/boot_id")
    [[ $boot_id =~ ^[A-Za-z0-9-]{1,64}$ ]] || boot_id=''
    printf '{"id":%s,"boot_id":%s,"seq":%s,"name":%s,"interval_s":%s,"uptime_s":%s,' "$(json_string "$1")" \
        "$(json_string_or_null "$boot_id")" "$2" "$(json_string_or_null "$3")" "$4" "$(json_number_or_null "${uptime%% *}")"
    printf '"engine":{"kind":%s,"version":%s,"port":%s,"up":%s,"models":[%s]},"tunnel_port":%s,' \
        "$(json_string_or_null "$kind")" "$(json_string_or_null "$engine_version")" "$at" \
        "$engine_seen" "$engine_list" "$(json_number_or_null "$tunnel_end")"
    printf '"battery":%s,' "$(sensor battery '{"temperature_c":null,"level":null,"charging":null,"current_ua":null}')"
    printf '"memory":{"total_kb":%s,"available_kb":%s},' "$(json_number_or_null "$(memory_kb MemTotal)")" \
        "$(json_number_or_null "$(memory_kb MemAvailable)")"
    printf '"wifi":%s}' "$(sensor wifi '{"rssi_dbm":null,"link_mbps":null}')"
}

# note_heartbeat HTTP STATE REASON: for status and doctor; the flash is written only for news, or once a minute
note_heartbeat() {
    local now text
    printf -v now '%(%s)T' -1
    if [[ "$1 $2" != "$noted" ]]; then
        noted="$1 $2" noted_since=$now
    elif ((now - noted_at < 60)); then
        return 0
    fi
    noted_at=$now
    text=${3//[[:cntrl:]]/ }
    mkdir -p "$state_dir"
    printf '%s\t%s\t%s\t%s\t%s\n' "$now" "$noted_since" "$1" "${2:--}" "$text" >"$state_dir/heartbeat.new"
    mv -f "$state_dir/heartbeat.new" "$state_dir/heartbeat"
}

# nap MILLISECONDS, give or take a tenth, so that the phones of a fleet do not come all at once. In the background, because
# a trap waits for a command in the foreground.
nap() {
    local ms=$(($1 * (90 + RANDOM % 21) / 100)) text
    printf -v text '%d.%03d' $((ms / 1000)) $((ms % 1000))
    sleep "$text" &
    child=$!
    wait "$child" || true
    child=''
}

# send_heartbeat ID SEQ NAME INTERVAL: sets http and answer, or trouble (curl's own words)
send_heartbeat() {
    local output
    http=000 answer=''
    output=$(with_bearer "$token_path" -sS -m 8 --connect-timeout 5 --max-filesize 65536 -X POST \
        -H 'Content-Type: application/json' --data-raw "$(heartbeat_body "$@")" -w '\n%{http_code}' \
        "${option[gateway]}/fleet/heartbeat" 2>&1) || true
    if [[ ${output##*$'\n'} =~ ^[0-9]{3}$ ]]; then
        http=${output##*$'\n'} answer=${output%$'\n'*}
    fi
    # Where curl's own words stand depends on which of the two streams came first.
    [[ $http != 000 || $output != *curl:* ]] || trouble=$(grep -o 'curl: .*' <<<"$output" | head -n 1)
}

# understand_heartbeat: logs what is new, sets delay_ms and, when the gateway says so, interval
understand_heartbeat() {
    local flat state='' reason='' wanted text
    flat=$(printf '%s' "$answer" | json_flat)
    if [[ $http == 200 ]]; then
        state=$(flat_get state <<<"$flat")
        reason=$(flat_get reason <<<"$flat")
        wanted=$(flat_get interval_s <<<"$flat")
        if [[ $wanted =~ ^[0-9]+(\.[0-9]+)?$ ]]; then
            interval=$(awk -v n="$wanted" 'BEGIN { n = int(n); print (n < 2 ? 2 : n > 300 ? 300 : n) }')
        fi
        text="the gateway knows this phone as '$(flat_get phone <<<"$flat")', $state${reason:+: $reason}"
        failures=0 delay_ms=$((interval * 1000))
    else
        failures=$((failures + 1))
        reason=$(flat_get error <<<"$flat")
        reason=${reason:0:200}
        delay_ms=$((failures > 6 ? 60000 : 1000 << (failures - 1)))
        case $http in
            401) text="the gateway refuses the token (401); put the right one into $home/token" delay_ms=60000 ;;
            403) text="the gateway refuses this phone (403): $reason" delay_ms=60000 ;;
            404) text="the gateway takes no heartbeats at ${option[gateway]}/fleet/heartbeat (404)" delay_ms=60000 ;;
            000) text="no answer from the gateway: $trouble" reason=$trouble ;;
            *) text="the gateway answers $http: $reason" ;;
        esac
        ((delay_ms <= 60000)) || delay_ms=60000
    fi
    text=${text//[[:cntrl:]]/ }
    if [[ $http:$text != "$last_log" ]]; then log "$text"; fi
    last_log=$http:$text
    note_heartbeat "$http" "$state" "$reason" || true
}

agent() {
    local id name seq=0 interval=${option[interval]} token_path=$home/token
    local http=000 answer='' trouble='' failures=0 delay_ms=0 last_log='' noted='' noted_since=0 noted_at=0
    engine_seen=false engine_version='' engine_list=''
    find_gateway
    [[ ${option[gateway]} == http* ]] || misused "the agent wants --gateway URL"
    if [[ -n ${option[token_file]:-} ]]; then token_path=${option[token_file]}; fi
    if [[ -n $environment_token ]]; then
        printf '%s\n' "$environment_token" | put_file "$home/token" 600
        token_path=$home/token
    fi
    [[ -s $token_path ]] || log "there is no token at $token_path; the gateway may refuse this phone"
    id=$(phone_id)
    if [[ -z $id ]]; then
        write_id
        id=$(phone_id)
    fi
    name=$(phone_name)
    ((once)) || log "heartbeats of $id to ${option[gateway]} every $interval s"
    while true; do
        seq=$((seq + 1))
        if ((once)); then
            poll_sensors 12
        elif ((seq == 1)); then
            poll_sensors 1
        else
            poll_sensors 0
        fi
        look_at_engine
        send_heartbeat "$id" "$seq" "$name" "$interval"
        understand_heartbeat
        if ((once)); then
            [[ $http == 200 ]] || exit 1
            return
        fi
        nap "$delay_ms"
    done
}

# ---- room for the model

# Sets model_bytes and model_bytes_are (known, guessed or unknown)
measure_model() {
    local name tag size=''
    model_bytes=0 model_bytes_are=unknown
    case $model_form in
        none) return ;;
        path) size=$(file_size "${option[model]}") ;;
        url) if [[ -f $model_file ]]; then size=$(file_size "$model_file"); else size=$(remote_size "${option[model]}"); fi ;;
        tag)
            name=${option[model]%%:*} tag=${option[model]#*:}
            [[ ${option[model]} == *:* ]] || tag=latest
            [[ $name == */* ]] || name=library/$name
            if [[ $name != *.*/* ]]; then
                size=$(timeout -k 1 12 curl -fsS -m 10 -H 'Accept: application/vnd.docker.distribution.manifest.v2+json' \
                    "https://registry.ollama.ai/v2/$name/manifests/$tag" 2>/dev/null </dev/null | json_flat |
                    awk -F'\t' '$1 ~ /^layers\.[0-9]+\.size$/ { n += $2 } END { if (n) printf "%.0f\n", n }' || true)
            fi
            ;;
    esac
    if [[ $size =~ ^[0-9]+$ ]] && ((size > 0)); then
        model_bytes=$size model_bytes_are=known
    elif [[ ${option[model],,} =~ ([0-9]+(\.[0-9]+)?)b ]]; then
        # Four bits a weight and what goes with them
        model_bytes=$(awk -v b="${BASH_REMATCH[1]}" 'BEGIN { printf "%.0f\n", b * 0.66e9 + 70e6 }') model_bytes_are=guessed
    fi
}

free_bytes() {
    local directory=$home
    while [[ ! -d $directory ]]; do directory=${directory%/*}; done
    quick df -Pk "${directory:-/}" | awk 'NR == 2 { printf "%.0f\n", $4 * 1024 }' || true
}

# Room for the key-value cache, by the rule that a token takes about 1/32768 of a 4-bit model (1.5B: 32 kB; 8B: 140 kB)
cache_bytes() { awk -v m="$model_bytes" -v t="$((option[ctx] * option[parallel]))" 'BEGIN { printf "%.0f\n", m / 32768 * t }'; }

# The download of a model that cannot fit is not begun.
check_room() {
    local free
    ((!dry_run)) && [[ ! -f $state_dir/model || $model_form != tag ]] && ! [[ -f $model_file ]] || return 0
    measure_model
    free=$(free_bytes)
    [[ $model_bytes_are != unknown && -n $free ]] || return 0
    if ((free < model_bytes * 13 / 10)); then
        if [[ $model_bytes_are == known ]]; then
            die "not enough room: the model has $(human_size "$model_bytes") and needs 1.3 times that; $(human_size "$free") are free"
        fi
        warn "the model may not fit: about $(human_size "$model_bytes"), and $(human_size "$free") are free"
    fi
}

# ---- doctor

found_errors=0 found_warnings=0

# finding good|note|warn|FAIL TEXT [REMEDY-LINE...]
finding() {
    local kind=$1 line
    case $kind in
        FAIL) found_errors=$((found_errors + 1)) ;;
        warn) found_warnings=$((found_warnings + 1)) ;;
    esac
    printf '%-5s %s\n' "$kind" "$2"
    for line in "${@:3}"; do printf '        %s\n' "$line"; done
}

doctor() {
    local sdk release
    # Where one command of Android hangs most do, and there are a dozen questions.
    quick_seconds=3
    sdk=$(android_property ro.build.version.sdk)
    release=$(android_property ro.build.version.release)
    [[ $sdk =~ ^[0-9]+$ ]] || sdk=0
    doctor_termux "$sdk" "$release"
    doctor_processor
    doctor_apps
    doctor_phantom_killer "$sdk"
    doctor_sleep "$sdk"
    doctor_room
    doctor_services
    doctor_openness
    doctor_gateway
    say ""
    say "$found_errors that will bite, $found_warnings that may"
    ((found_errors == 0)) || exit 3
}

doctor_termux() {
    local sdk=$1 release=$2
    if ((sdk == 0)); then
        finding note "Android's version is unknown (getprop does not answer): what depends on it is not judged"
    else
        finding good "Android $release (API $sdk), $(android_property ro.product.manufacturer) $(android_property ro.product.model)"
    fi
    if ! in_termux; then
        finding FAIL "this is not Termux: no pkg, or no directory $PREFIX" "Install Termux from F-Droid (https://f-droid.org/packages/com.termux/), open it, and run this there."
    elif [[ ${TERMUX_VERSION:-} == googleplay* ]]; then
        if ((sdk >= 37)); then
            finding FAIL "Termux is from Google Play (${TERMUX_VERSION}), and from Android 17 on that build can neither reach the LAN nor be reached from it" \
                "Remove it and install Termux, Termux:API and Termux:Boot from F-Droid or GitHub (all three from the same place)." \
                "There is no setting that helps. Loopback still works: USB with adb forward and adb reverse, or a VPN."
        else
            finding FAIL "Termux is from Google Play (${TERMUX_VERSION}): other packages, another way to start at boot, and no network from Android 17 on" \
                "Remove it and install Termux, Termux:API and Termux:Boot from F-Droid or GitHub (all three from the same place)."
        fi
    else
        finding good "Termux ${TERMUX_VERSION:-(version not known)}"
    fi
}

doctor_processor() {
    local machine
    machine=$(uname -m)
    case $machine in
        aarch64 | arm64) finding good "processor $machine, $(big_cores) big cores" ;;
        x86_64)
            if [[ ${option[engine]} == llama-release && -z ${option[llama_bin]:-} ]]; then
                finding FAIL "processor x86_64: the llama.cpp release for Android is for arm64 only" "Take --engine ollama or --engine proot-llama."
            else
                finding good "processor $machine, $(big_cores) big cores"
            fi
            ;;
        *) finding FAIL "processor $machine: the engines are made for 64 bits (aarch64, x86_64)" \
            "A 64-bit phone with a 32-bit Android cannot be helped; take another phone." ;;
    esac
}

doctor_apps() {
    if [[ $(quick pm path com.termux.api || true) != package:* ]]; then
        finding warn "the app Termux:API is missing: no battery, heat and Wi-Fi values for the gateway" \
            "Install it from where Termux came from (F-Droid or GitHub), open it once, then: pkg install termux-api"
    elif ! command -v termux-battery-status >/dev/null; then
        finding warn "the package termux-api is missing" "pkg install termux-api"
    elif [[ -z $(quick termux-battery-status | json_flat | flat_get percentage || true) ]]; then
        finding warn "Termux:API is installed but does not answer within 5 s" \
            "Open the app once; switch off battery optimisation for it; in the worst case install it anew."
    else
        finding good "Termux:API answers"
    fi
    if [[ ${option[autostart]} == yes ]]; then
        if [[ $(quick pm path com.termux.boot || true) == package:* ]]; then
            finding good "Termux:Boot is installed (it must have been opened once; it starts 2 to 10 minutes after the phone is unlocked)"
        else
            finding warn "the app Termux:Boot is missing: nothing starts after a restart of the phone" \
                "Install it from where Termux came from (F-Droid or GitHub) and open it once; or run with --no-autostart."
        fi
    fi
}

# Android 12 and later kill background processes when all apps together have more than 32, and those that need much CPU.
doctor_phantom_killer() {
    local sdk=$1 setting
    ((sdk >= 31)) || return 0
    setting=$(quick settings get global settings_enable_monitor_phantom_procs || true)
    if [[ $setting == false ]]; then
        finding good "Android's phantom process killer is off"
        return
    fi
    local text="Android kills background processes that need much CPU (\"[Process completed (signal 9)]\"); whether that is switched off cannot be seen from here"
    if ((sdk >= 34)); then
        finding warn "$text" "On the phone: Settings > System > Developer options > Disable child process restrictions." \
            "Or from a PC: adb shell settings put global settings_enable_monitor_phantom_procs false" \
            "(undo: adb shell settings delete global settings_enable_monitor_phantom_procs)"
    elif ((sdk >= 32)); then
        finding warn "$text" "From a PC: adb shell settings put global settings_enable_monitor_phantom_procs false" \
            "(undo: adb shell settings delete global settings_enable_monitor_phantom_procs)"
    else
        finding warn "$text" "From a PC: adb shell device_config set_sync_disabled_for_tests persistent" \
            "      and: adb shell device_config put activity_manager max_phantom_processes 2147483647"
    fi
}

doctor_sleep() {
    local sdk=$1
    finding note "battery exemption: cannot be seen from here" \
        "Settings > Apps > Termux > Battery > Unrestricted (the same for Termux:API and Termux:Boot)," \
        "or from a PC: adb shell dumpsys deviceidle whitelist +com.termux"
    if ((sdk >= 34)); then
        finding note "Wi-Fi sleep: on Android 14 and later the wake lock does not keep the Wi-Fi awake while the screen is off" \
            "When answers come in fits and starts: USB (adb forward) with the charger is the sure cure;" \
            "or leave the screen on while it charges, from a PC: adb shell svc power stayon usb"
    else
        finding note "Wi-Fi sleep: Settings > Wi-Fi > Advanced > Keep Wi-Fi on during sleep: Always (where the phone has it)"
    fi
    if [[ ${option[wake_lock]} == no ]]; then
        finding warn "without a wake lock the phone falls asleep and answers stop" "Run again with --wake-lock."
    fi
    if [[ $family == llama && ${option[flash_attn]} != off ]]; then
        finding warn "flash attention on the CPU has crashed on Android 15 with long prompts" "Run again with --flash-attn off."
    fi
}

doctor_room() {
    local free available wanted kind loaded=0
    if [[ $model_form == none ]]; then return; fi
    measure_model
    if [[ $model_bytes_are == unknown ]]; then
        finding note "the size of the model is not known, so its room cannot be judged"
        return
    fi
    kind=''
    [[ $model_bytes_are == known ]] || kind='about '
    free=$(free_bytes)
    if [[ -f $state_dir/model && -n $free ]] && ((free < 500000000)); then
        finding FAIL "storage: only $(human_size "$free") are free; Android and the engine fail when it is full (the model has $kind$(human_size "$model_bytes"))" \
            "Free some room: 0.5 GB at least, 1.3 times the model for a change of it."
    elif [[ -f $state_dir/model ]]; then
        finding good "the model is on the phone ($kind$(human_size "$model_bytes")); $(human_size "${free:-0}") are free"
    elif [[ -n $free ]] && ((free < model_bytes * 13 / 10)); then
        finding FAIL "storage: the model has $kind$(human_size "$model_bytes") and needs 1.3 times that; $(human_size "$free") are free" \
            "Free some room, or take a smaller model."
    else
        finding good "storage: $(human_size "${free:-0}") are free for a model of $kind$(human_size "$model_bytes")"
    fi
    available=$(memory_kb MemAvailable)
    [[ -n $available ]] || return 0
    wanted=$(awk -v m="$model_bytes" -v c="$(cache_bytes)" 'BEGIN { printf "%.0f\n", m + c + 0.8e9 }')
    if engine_is_up; then
        if [[ $family == llama ]]; then loaded=1; elif engine_get /api/ps | json_flat | grep -q '^models\.0\.'; then loaded=1; fi
    fi
    if ((loaded)); then
        finding good "memory: the model is loaded, $(human_size $((available * 1024))) are left"
    elif ((available * 1024 < wanted)); then
        finding FAIL "memory: the model, its cache and 0.8 GB for Android are $kind$(human_size "$wanted"); $(human_size $((available * 1024))) are available" \
            "Close other apps or restart the phone; else a smaller model or a smaller --ctx. A model that does not fit is a hundred times slower."
    else
        finding good "memory: $(human_size $((available * 1024))) available, $kind$(human_size "$wanted") wanted"
    fi
}

doctor_services() {
    local name state
    if [[ ! -d $SVDIR/pocketfleet-engine ]]; then
        finding note "not installed yet: bash $script_name MODEL"
        return
    fi
    for name in "${services[@]}"; do
        state=$(service_state "$name")
        case $state in
            absent) ;;
            run) finding good "service $name runs" ;;
            unsupervised) finding FAIL "service $name: runit does not run" "Close all Termux sessions and open Termux anew, or: bash $script_name start" ;;
            down) if [[ -e $SVDIR/$name/down ]]; then
                finding note "service $name is not started: bash $script_name start"
            else
                finding FAIL "service $name is down" "bash $script_name start; its log: $LOGDIR/sv/$name/current"
            fi ;;
            *) finding FAIL "service $name is $state" "bash $script_name start; its log: $LOGDIR/sv/$name/current" ;;
        esac
    done
    if [[ ${option[role]} == rpc-worker || ($(service_state pocketfleet-engine) != run && -e $SVDIR/pocketfleet-engine/down) ]]; then return; fi
    if engine_is_up; then
        finding good "the engine answers at $(engine_address)"
    else
        finding FAIL "the engine does not answer at $(engine_address)" "Its log: $LOGDIR/sv/pocketfleet-engine/current"
    fi
}

doctor_openness() {
    if [[ $bind == 127.* || $bind == ::1 ]] || { [[ $family == llama && ${option[role]} != rpc-worker ]] && has_api_key; }; then return; fi
    finding warn "the engine listens on $bind without a key: everybody in this network can use it" \
        "Fine at home; else --bind 127.0.0.1 with --tunnel USER@HOST or USB, or llama-server with --api-key-file."
}

doctor_gateway() {
    local code loopback=0
    if [[ ${option[gateway]} != http* ]]; then
        finding note "no gateway is set (--gateway URL): the phone sends no heartbeats"
        return
    fi
    [[ $bind != 127.* && $bind != ::1 || -n $tunnel_port || ${option[gateway]} == *//127.* ]] || loopback=1
    if ((loopback)); then
        finding warn "the engine listens on this phone only, without a tunnel: the gateway can reach it only over USB (adb forward)" \
            "Run again with --i-trust-this-lan, or with --tunnel USER@HOST."
    fi
    code=$(quick curl -s -o /dev/null -m 4 -w '%{http_code}' "${option[gateway]}/health" || true)
    if [[ ! $code =~ ^[1-5][0-9][0-9]$ ]]; then
        finding FAIL "the gateway ${option[gateway]} cannot be reached" \
            "Does it run, and listen on the network (not on 127.0.0.1)? Is the address right, no firewall between?" \
            "Are phone and gateway in the same network? A guest network, and access points with \"AP isolation\" or \"client" \
            "isolation\", keep their members apart: switch that off, or use USB (adb reverse)."
        return
    fi
    finding good "the gateway answers (HTTP $code)"
    doctor_heartbeat "$loopback"
}

# The phone cannot see whether the gateway reaches it; what the gateway says of it for some time tells.
doctor_heartbeat() {
    read_heartbeat_file
    if [[ -z $beat_http ]]; then
        finding note "no heartbeat was sent yet"
    elif ((beat_age > 300)); then
        finding warn "the last heartbeat was $beat_age s ago" "bash $script_name restart"
    elif [[ $beat_http == 401 ]]; then
        finding FAIL "the gateway refuses the token" "POCKETFLEET_TOKEN=... bash $script_name install  (the gateway's host: pocketfleet invite)"
    elif [[ $beat_http == 000 ]]; then
        finding warn "the gateway did not answer the last heartbeat: $beat_reason"
    elif [[ $beat_http != 200 ]]; then
        finding FAIL "the gateway does not take the heartbeat: HTTP $beat_http $beat_reason"
    elif [[ $beat_state == down || $beat_state == checking ]] && ((beat_state_age > 120)); then
        if engine_is_up && (($1 == 0)); then
            finding FAIL "the gateway hears this phone, the engine runs, and yet the gateway has called it '$beat_state' for $beat_state_age s${beat_reason:+ ($beat_reason)}" \
                "So the way from the gateway to the phone is closed. The usual causes: AP isolation or a guest network, a firewall of the" \
                "phone's maker, a VPN on the phone. --tunnel USER@HOST goes round all of them; so does USB (adb forward)."
        else
            finding warn "the gateway has called this phone '$beat_state' for $beat_state_age s${beat_reason:+ ($beat_reason)}"
        fi
    elif [[ $beat_state == unknown ]]; then
        finding warn "the gateway does not have this phone in its fleet" \
            "Put this into its phones.json: $(print_config 2>/dev/null)"
    else
        finding good "heartbeat: the gateway calls this phone '$beat_state'"
    fi
}

# ---- update and uninstall

update() {
    local name running=()
    [[ -f $home/config ]] || ((dry_run)) || die "nothing is installed"
    take_lock
    for name in "${services[@]}"; do
        if [[ $(service_state "$name") == run ]]; then running+=("$name"); fi
    done
    # llama-release changes with its URL, the packages by apt, and the container must be told.
    update_forces=' packages '
    [[ ${option[engine]} != proot-* ]] || update_forces+='engine '
    install
    for name in "${running[@]}"; do
        [[ -d $SVDIR/$name ]] || continue
        limited 30 sv restart "$name" || warn "cannot restart $name"
    done
    if [[ " ${running[*]-} " == *' pocketfleet-engine '* ]]; then
        wait_for_engine 300
        warm_up
    fi
    say "updated"
}

uninstall() {
    local name package added=() others=()
    take_lock
    for name in pocketfleet-agent pocketfleet-tunnel pocketfleet-engine; do
        if [[ -d $SVDIR/$name ]]; then service_down "$name"; fi
        remove_service "$name"
    done
    if command -v termux-wake-unlock >/dev/null; then limited 20 termux-wake-unlock </dev/null || true; fi
    remove "$boot_file"
    for name in "${boot_file%/*}" "$HOME/.termux"; do
        if [[ -d $name ]]; then run rmdir --ignore-fail-on-non-empty "$name"; fi
    done
    if container_is_there; then
        limited 600 proot-distro remove "$container" </dev/null || warn "the container '$container' could not be removed: proot-distro remove $container"
    fi
    if [[ -f $state_dir/dot-ollama && ! -d $HOME/.ollama/models ]]; then remove "$HOME/.ollama"; fi
    if [[ -f $state_dir/added-packages ]]; then mapfile -t added <"$state_dir/added-packages"; fi
    if ((purge)); then
        # Only engines: other programs may have come to need the rest.
        for package in "${added[@]}"; do
            case $package in
                ollama | ollama-backend-* | llama-cpp | llama-cpp-backend-* | proot-distro)
                    if limited 600 pkg uninstall -y "$package" </dev/null; then
                        continue
                    fi
                    warn "cannot uninstall the package $package"
                    ;;
            esac
            others+=("$package")
        done
        added=("${others[@]}")
        remove "$models_dir"
    fi
    for name in state engine config id token api_key ssh bin stop.sh Modelfile; do remove "$home/$name"; done
    ((!dry_run)) || return 0
    rm -rf "$home/lock"
    holds_lock=0
    if [[ -d $models_dir ]]; then rmdir --ignore-fail-on-non-empty "$models_dir"; fi
    if [[ -d $home ]]; then rmdir --ignore-fail-on-non-empty "$home"; fi
    if [[ -d $models_dir ]]; then
        say "left: the models in $models_dir ($(du -sh "$models_dir" | cut -f1)); 'uninstall --purge' removes them too"
    elif [[ -d $home ]]; then
        say "left: files in $home that this script did not make"
    fi
    if ((${#added[@]})); then say "Termux packages that the install brought: ${added[*]} (remove with: pkg uninstall NAME)"; fi
    say "uninstalled"
}

# ---- main

restart() {
    stop
    start
}

main() {
    if (($# == 0)); then
        usage >&2
        exit 2
    fi
    parse_arguments "$@"
    [[ $home == /* && $home != / && ${home%/} != "${HOME%/}" ]] || misused "POCKETFLEET_HOME must be an absolute path of its own, not '$home'"
    # These two must work whatever the config says.
    case $command in
        stop | uninstall)
            "$command"
            return
            ;;
    esac
    merge_options
    resolve_options
    case $command in
        up | install | update) ;;
        print-inner)
            [[ ${option[engine]} == proot-* ]] || option[engine]=proot-$family
            inner_script
            return
            ;;
        *) resolve_bind ;;
    esac
    case $command in
        up) up ;;
        install) install ;;
        start | restart)
            take_lock
            "$command"
            ;;
        status) if ((json)); then status_json; else status_text; fi ;;
        doctor) doctor ;;
        update) update ;;
        print-config)
            [[ -f $home/config ]] || die "nothing is installed; run: bash $script_name MODEL"
            print_config
            ;;
        agent) agent ;;
    esac
}

main "$@"
exit
