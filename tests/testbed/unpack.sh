#!/usr/bin/env bash
# Unpacks real programs for the tests and benchmarks into a cache folder, without root and without installing them:
# installing would start services and change the machine.
#
#   tests/testbed/unpack.sh TOOL...      TOOL: llama | prometheus | haproxy | nginx | sshd
#
# Prints, for each tool, the folder with its programs (stdout); what it does goes to stderr. What is there already is
# left as it is. The cache: $POCKETFLEET_CACHE, or $XDG_CACHE_HOME/pocketfleet, or ~/.cache/pocketfleet.
#
#   llama        llama-server, rpc-server and their tools, from Debian's unstable suite: 30 MB fetched, 75 MB on disk
#   prometheus   prometheus, promtool       from the machine's own suite, as are
#   haproxy      haproxy
#   nginx        nginx
#   sshd         sshd
set -euo pipefail

say() { printf 'unpack: %s\n' "$*" >&2; }
die() {
    say "$*"
    exit 1
}

((BASH_VERSINFO[0] >= 4)) || die "needs bash 4"
case ${1:-} in
    '' | -h | --help)
        sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0"
        if [[ -n ${1:-} ]]; then exit; else exit 2; fi
        ;;
esac
for needed in apt-get apt-cache dpkg-deb dpkg flock; do
    command -v "$needed" >/dev/null || die "'$needed' is not there; this works on Debian only"
done
case $(dpkg --print-architecture) in
    amd64) readonly triplet=x86_64-linux-gnu loader=ld-linux-x86-64.so.2 ;;
    arm64) readonly triplet=aarch64-linux-gnu loader=ld-linux-aarch64.so.1 ;;
    *) die "the architecture '$(dpkg --print-architecture)' is not known here" ;;
esac

cache=${POCKETFLEET_CACHE:-${XDG_CACHE_HOME:-${HOME:?set HOME or POCKETFLEET_CACHE}/.cache}/pocketfleet}
mkdir -p "$cache" 2>/dev/null || die "cannot make the folder $cache (POCKETFLEET_CACHE names another)"
cache=$(cd "$cache" && pwd)
work=
trap '[[ -z $work ]] || rm -rf "$work"' EXIT

# apt with an index and a download folder of its own: needs no root and leaves the machine's as they are.
# APT::Sandbox::User: as root apt would fetch as a user who may not write here. Check-Valid-Until: on a frozen mirror
# the Release file of a moving suite has expired.
private_apt() {
    mkdir -p "$work/lists/partial" "$work/archives/archives/partial"
    apt_options=(-qq -oDir::State::Lists="$work/lists" -oDir::Cache="$work/archives" -oAcquire::Languages=none
        -oAcquire::Check-Valid-Until=false -oAPT::Sandbox::User= -oDebug::NoLocking=1 "$@")
}

# program FOLDER NAME COMMAND...: FOLDER/bin/NAME runs COMMAND, in which @ is FOLDER wherever it has been moved to.
# It becomes the command (exec), so that its pid is the one to signal.
program() {
    local folder=$1 name=$2
    shift 2
    mkdir -p "$folder/bin"
    cat >"$folder/bin/$name" <<WRAPPER
#!/bin/sh
here=\$(dirname "\$(dirname "\$(readlink -f "\$0")")")
exec ${*//@/\$here} "\$@"
WRAPPER
    chmod +x "$folder/bin/$name"
}

unpack_llama() {
    local folder=$1 mirror lib
    # The mirror the machine uses anyway. Packages of unstable need a newer libc than the machine's, and with it come
    # all libraries of its generation; mixing them with the machine's does not work.
    # shellcheck disable=SC2016  # apt expands it
    mirror=$(apt-get indextargets --no-release-info --format '$(REPO_URI)' 'Created-By: Packages' |
        awk '/\/debian\/*$/ && !seen++')
    [[ -n $mirror ]] || die "apt knows no mirror of Debian, from which llama.cpp comes"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror sid main" >"$work/sources.list"
    : >"$work/nothing-installed"
    private_apt -oDir::Etc::SourceList="$work/sources.list" -oDir::Etc::SourceParts=/dev/null \
        -oDir::State::status="$work/nothing-installed"
    say "llama: fetching from Debian unstable"
    apt-get "${apt_options[@]}" update >&2 || die "llama: the index of Debian unstable cannot be fetched"
    # rpc-server is in -tools-extra; without the backend, llama-server has no --rpc.
    apt-get "${apt_options[@]}" -y --download-only --no-install-recommends install \
        llama.cpp-tools llama.cpp-tools-extra libggml0-backend-rpc >&2 || die "llama: the packages cannot be fetched"
    for package in "$work"/archives/archives/*.deb; do
        dpkg-deb -x "$package" "$folder"
    done
    # Unstable's own dynamic loader runs the programs on an older libc. ggml looks for its backends beside the running
    # executable, which then is the loader: so a copy of it lies among them. (Noise in the log is left: "failed to
    # enumerate ..."; the processes are called ld.so.)
    lib=usr/lib/$triplet
    cp -L "$folder/$lib/$loader" "$folder/$lib/ggml/backends0/ld.so"
    local run="@/$lib/ggml/backends0/ld.so --library-path @/$lib:@/$lib/llama"
    for path in "$folder"/usr/bin/llama-*; do
        program "$folder" "${path##*/}" "$run" "@/usr/bin/${path##*/}"
    done
    program "$folder" rpc-server "$run" "@/usr/libexec/$triplet/llama/bin/ggml-rpc-server"
    "$folder/bin/llama-server" --version >"$work/version" 2>&1 ||
        die "llama: llama-server does not run: $(<"$work/version")"
    rm -rf "$folder"/usr/share/{doc,man,info,bash-completion}
}

# fetch PACKAGE...: from the machine's own suites, with those libraries they need that are not installed.
fetch() {
    local wanted=("$@") package
    while read -r package; do
        [[ $(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || wanted+=("$package")
    done < <(apt-cache "${apt_options[@]}" depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks \
        --no-replaces --no-enhances "$@" |
        grep -E '^lib[a-z0-9.+-]*[0-9][a-z0-9]*$|^zlib1g$' | grep -v '^libjs-' | sort -u)
    (cd "$work" && apt-get "${apt_options[@]}" download "${wanted[@]}" >&2)
}

unpack_from_suite() {
    local folder=$1
    shift
    say "$1: fetching from the machine's suites"
    private_apt -oDir::State::Lists=/var/lib/apt/lists
    if ! fetch "$@" 2>/dev/null; then
        say "$1: fetching an index, for the machine's is missing or old"
        private_apt
        apt-get "${apt_options[@]}" update >&2 || die "$1: the index of the machine's suites cannot be fetched"
        fetch "$@" || die "$1: the packages cannot be fetched"
    fi
    for package in "$work"/*.deb; do dpkg-deb -x "$package" "$folder"; done
    rm -rf "$folder"/usr/share/{doc,man} "$folder"/etc/init.d
}

unpack_prometheus() {
    unpack_from_suite "$1" prometheus
    mkdir -p "$1/bin"
    ln -s ../usr/bin/prometheus ../usr/bin/promtool "$1/bin/"
    "$1/bin/promtool" --version >/dev/null 2>&1 || die "prometheus: promtool does not run"
}

with_libraries="env LD_LIBRARY_PATH=@/usr/lib/$triplet:@/lib/$triplet"

unpack_haproxy() {
    unpack_from_suite "$1" haproxy
    program "$1" haproxy "$with_libraries" @/usr/sbin/haproxy
    "$1/bin/haproxy" -v >/dev/null || die "haproxy does not run"
}

unpack_nginx() {
    unpack_from_suite "$1" nginx
    # -e: else it opens /var/log/nginx before it reads its configuration.
    program "$1" nginx "$with_libraries" @/usr/sbin/nginx -e stderr
    "$1/bin/nginx" -v 2>/dev/null || die "nginx does not run"
}

unpack_sshd() {
    unpack_from_suite "$1" openssh-server
    program "$1" sshd "$with_libraries" @/usr/sbin/sshd
    "$1/bin/sshd" -V 2>&1 | grep -q OpenSSH || die "sshd does not run"
}

exec 9>"$cache/.lock"
if ! flock -n 9; then
    say "waiting for another one that is unpacking into $cache"
    flock 9
fi
for tool in "$@"; do
    [[ " llama prometheus haproxy nginx sshd " == *" $tool "* ]] || die "'$tool' is not known (--help lists them)"
    place=$cache/$tool-1 # the number goes up when what is unpacked changes
    if [[ ! -d $place ]]; then
        work=$(mktemp -d "$cache/.unpacking.XXXXXX")
        mkdir "$work/new"
        chmod 755 "$work/new"
        "unpack_$tool" "$work/new"
        mv "$work/new" "$place" # whole or not at all
        rm -rf "$work"
        work=
        say "$tool: unpacked into $place"
    fi
    echo "$place/bin"
done
