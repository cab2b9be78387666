#!/usr/bin/env bats
# What runs inside the container of the proot engines, run in a real Debian root. Needs root, debootstrap and a mirror;
# without them the tests are skipped, and say so. Run apart: bats tests/phone/inner_debian.bats
# The root is kept in ${XDG_CACHE_HOME:-~/.cache}/pocketfleet/debian-bookworm; each run works on a copy.
load helpers

loudly_skip() {
    echo "# NOT TESTED: the proot engines' inner script: $1" >&3
    skip "$1"
}

setup_file() {
    export inner_root='' inner_reason=''
    if ((EUID != 0)); then inner_reason="needs root for chroot"; return; fi
    if ! type -P debootstrap >/dev/null; then inner_reason="there is no debootstrap"; return; fi
    local cache=${XDG_CACHE_HOME:-$HOME/.cache}/pocketfleet base
    base=$cache/debian-bookworm
    if [[ ! -e $base/.complete ]]; then
        mkdir -p "$cache"
        # The packages that the script wants come with the root, so that apt is asked for them only in the test of that.
        if ! timeout 300 debootstrap --variant=minbase bookworm "$base.new" >"$BATS_FILE_TMPDIR/debootstrap.log" 2>&1; then
            tail -n 5 "$BATS_FILE_TMPDIR/debootstrap.log" | sed 's/^/# /' >&3
            inner_reason="debootstrap failed"
            rm -rf --one-file-system "$base.new"
            return
        fi
        touch "$base.new/.complete"
        rm -rf --one-file-system "$base"
        mv "$base.new" "$base"
    fi
    inner_root=$BATS_FILE_TMPDIR/root
    cp -a --reflink=auto "$base" "$inner_root"
    if [[ $(chroot "$inner_root" /bin/echo it works 2>&1) != "it works" ]]; then inner_reason="chroot does not work here"; fi
}
teardown_file() { if [[ -n ${inner_root:-} ]]; then rm -rf --one-file-system "$inner_root"; fi; }

setup() {
    [[ -z $inner_reason ]] || loudly_skip "$inner_reason"
    setup_phone
}
teardown() { teardown_phone; }

# inner ENGINE: its inner script
inner() { phone print-inner --engine "$1"; }
# inside COMMAND...: in the root, with the script on stdin
inside() { chroot "$inner_root" /usr/bin/env -i HOME=/root TERM=dumb /bin/bash "$@" 3>&- 4>&-; }

# A mirror in the root itself, with packages that only look like llama.cpp's.
local_mirror() {
    local repository=$inner_root/repository name work
    rm -rf "$repository"
    mkdir -p "$repository"
    for name in llama.cpp-tools llama.cpp-tools-extra libggml0-backend-rpc; do
        work=$(mktemp -d "$BATS_TEST_TMPDIR/deb.XXXXXX")
        mkdir -p "$work/DEBIAN" "$work/usr/bin" "$work/usr/libexec/any/llama/bin" "$work/usr/share/doc/$name"
        echo "of $name alone, or dpkg lets the package disappear" >"$work/usr/share/doc/$name/README"
        case $name in
            llama.cpp-tools) printf '#!/bin/sh\necho "version: 0.7.0 (build 11669, commit Debian)" >&2\n' >"$work/usr/bin/llama-server" ;;
            *-extra) printf '#!/bin/sh\necho worker\n' >"$work/usr/libexec/any/llama/bin/ggml-rpc-server" ;;
        esac
        find "$work/usr/bin" "$work/usr/libexec" -type f -exec chmod 755 {} +
        chmod 755 "$work" "$work/DEBIAN"
        printf 'Package: %s\nVersion: 1:0.7.0-1\nArchitecture: all\nMaintainer: Nobody <nobody@example.org>\nDescription: a stand-in\n' \
            "$name" >"$work/DEBIAN/control"
        dpkg-deb --root-owner-group -b "$work" "$repository/$name.deb" >/dev/null
        {
            cat "$work/DEBIAN/control"
            printf 'Filename: ./%s.deb\nSize: %s\nSHA256: %s\n\n' "$name" "$(stat -c %s "$repository/$name.deb")" "$(sha256_of "$repository/$name.deb")"
        } >>"$repository/Packages"
    done
    echo 'deb [trusted=yes] file:/repository ./' >"$inner_root/etc/apt/sources.list.d/local.list"
}

@test "print-inner prints bash that parses, for both engines" {
    local engine
    for engine in proot-ollama proot-llama; do
        inner "$engine" >"$BATS_TEST_TMPDIR/inner"
        run -0 bash -n "$BATS_TEST_TMPDIR/inner"
        if type -P shellcheck >/dev/null; then run -0 shellcheck -s bash "$BATS_TEST_TMPDIR/inner"; fi
    done
}

@test "proot-llama: real apt installs the packages, the server is on the PATH, the second run changes nothing" {
    local_mirror
    inner proot-llama >"$BATS_TEST_TMPDIR/inner"
    run inside -s <"$BATS_TEST_TMPDIR/inner"
    if ((status != 0)) && [[ $output == *"ca-certificates"* && $output == *"Failed to fetch"* ]]; then loudly_skip "no mirror"; fi
    [[ $status == 0 ]] || fail "exit code $status: $output"
    assert_output --partial 'version: 0.7.0'
    [[ $(chroot "$inner_root" ggml-rpc-server) == worker ]] || fail "ggml-rpc-server is not on the PATH"
    local before
    before=$(cd "$inner_root" && find usr etc var/lib/dpkg -type f -newer repository/Packages -printf '%p %T@\n' | sort)
    run inside -s <"$BATS_TEST_TMPDIR/inner"
    [[ $status == 0 ]] || fail "exit code $status: $output"
    assert_output --partial unchanged
    assert_equal "$(cd "$inner_root" && find usr etc var/lib/dpkg -type f -newer repository/Packages -printf '%p %T@\n' | sort)" "$before"
}

@test "proot-llama: packages that do not exist are a failure with apt's words" {
    rm -f "$inner_root/etc/apt/sources.list.d/local.list"
    chroot "$inner_root" dpkg --purge llama.cpp-tools llama.cpp-tools-extra libggml0-backend-rpc >/dev/null 2>&1 || true
    inner proot-llama >"$BATS_TEST_TMPDIR/inner"
    run inside -s <"$BATS_TEST_TMPDIR/inner"
    assert_failure
    assert_output --partial llama.cpp-tools
}

# An archive in the shape of Ollama's, and a curl that "downloads" it; everything else of the script is real.
ollama_archive() {
    local work=$BATS_TEST_TMPDIR/ollama
    mkdir -p "$work/bin" "$work/lib/ollama/cuda_v13" "$inner_root/usr/local/bin"
    printf '#!/bin/sh\necho "ollama version is %s"\n' "$1" >"$work/bin/ollama"
    chmod 755 "$work/bin/ollama"
    echo library >"$work/lib/ollama/libggml-cpu.so"
    echo gigabytes >"$work/lib/ollama/cuda_v13/libcublas.so"
    tar -C "$work" -cf - bin lib | chroot "$inner_root" zstd -q -c >"$inner_root/archive.tar.zst"
    cat >"$inner_root/usr/local/bin/curl" <<'CURL'
#!/bin/bash
# Obeys -C - and -o as curl does; breaks off half-way while /cut is there.
echo "$*" >>/curl.log
while (($#)); do
    case $1 in -o) out=$2 ;; esac
    shift
done
have=$(stat -c %s "$out" 2>/dev/null || echo 0)
if [[ -e /cut ]]; then
    rm /cut
    head -c 100 /archive.tar.zst >"$out"
    exit 18
fi
tail -c +$((have + 1)) /archive.tar.zst >>"$out"
CURL
    chmod 755 "$inner_root/usr/local/bin/curl"
}
# The script with the sum of our archive in the place of the pinned ones
inner_with_our_sum() {
    inner proot-ollama | sed -E "s/[0-9a-f]{64}/$(sha256_of "$inner_root/archive.tar.zst")/g"
}

@test "proot-ollama: packages by real apt, a wrong sum is refused, a broken download goes on, CUDA is left out" {
    inner proot-ollama >"$BATS_TEST_TMPDIR/inner"
    local version
    version=$(sed -n 's/^version=//p' "$BATS_TEST_TMPDIR/inner")
    assert_regex "$version" '^[0-9]+\.[0-9]+\.[0-9]+$'
    rm -f "$inner_root/etc/apt/sources.list.d/local.list"
    timeout 60 chroot "$inner_root" sh -c 'apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends zstd' \
        >/dev/null 2>&1 || loudly_skip "no mirror"
    ollama_archive "$version"

    run inside -s <"$BATS_TEST_TMPDIR/inner"
    assert_failure
    assert_output --partial checksum
    [[ ! -e $inner_root/usr/local/bin/ollama ]] || fail "it was unpacked all the same"

    inner_with_our_sum >"$BATS_TEST_TMPDIR/inner"
    touch "$inner_root/cut"
    run inside -s <"$BATS_TEST_TMPDIR/inner"
    assert_failure
    run inside -s <"$BATS_TEST_TMPDIR/inner"
    [[ $status == 0 ]] || fail "exit code $status: $output"
    assert_output --partial "ollama version is $version"
    [[ -x $inner_root/usr/local/bin/ollama && -f $inner_root/usr/local/lib/ollama/libggml-cpu.so ]] || fail "not unpacked"
    [[ ! -e $inner_root/usr/local/lib/ollama/cuda_v13/libcublas.so ]] || fail "CUDA was unpacked"
    [[ -z $(find "$inner_root/var/cache/pocketfleet" -type f) ]] || fail "the archive was left"

    : >"$inner_root/curl.log"
    run inside -s <"$BATS_TEST_TMPDIR/inner"
    [[ $status == 0 ]] || fail "exit code $status: $output"
    assert_output --partial unchanged
    assert_equal "$(cat "$inner_root/curl.log")" ""
}

@test "proot-ollama: an architecture Ollama is not made for is said" {
    rm -f "$inner_root/usr/local/bin/ollama"
    printf '#!/bin/sh\necho armhf\n' >"$inner_root/usr/local/bin/dpkg"
    chmod 755 "$inner_root/usr/local/bin/dpkg"
    inner proot-ollama >"$BATS_TEST_TMPDIR/inner"
    run inside -s <"$BATS_TEST_TMPDIR/inner"
    rm "$inner_root/usr/local/bin/dpkg"
    assert_failure
    assert_output --partial armhf
}
