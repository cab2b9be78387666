#!/usr/bin/env bats
# Killed by SIGKILL at each step, as Android does it: the next run finishes. And two runs at once.
load helpers
setup() {
    setup_phone
    services_run
    install=(install --yes --port "$engine_port")
}
teardown() { teardown_phone; }

# run_until COMMAND...: the install in a session of its own, in the background; when COMMAND becomes true the whole
# session dies (timeout gives its child a process group of its own, so a group would not be all).
killed_when() {
    local patience=30
    on_phone setsid "$phone_prefix/bin/bash" "$phone_home/phone_setup.sh" "${install[@]}" >"$phone_root/first.log" 2>&1 &
    local leader=$!
    if ! until_true "$patience" "$@"; then
        cat "$phone_root/first.log" >&2
        fail "the install never came to that step"
    fi
    local pids
    # setsid forks only when it leads a group already; either way the session is the install's
    mapfile -t pids < <(ps -e -o pid=,sid= | awk -v sid="$(session_of "$leader")" '$2 == sid { print $1 }')
    kill -KILL "${pids[@]}" 2>/dev/null || true
    wait "$leader" 2>/dev/null || true
}
session_of() { # of the install: that of the process whose parent chain begins at $1, or $1's own
    local sid
    sid=$(ps -o sid= -p "$1" | tr -d ' ')
    if [[ $sid == "$(ps -o sid= -p $$ | tr -d ' ')" ]]; then
        sid=$(ps -e -o sid=,ppid= | awk -v parent="$1" '$2 == parent { print $1; exit }')
    fi
    echo "$sid"
}
finishes() {
    no_rules
    rm -f "$stub_state/pull.hang" "$stub_state/hung"/*
    run -0 phone "${install[@]}"
    run -0 phone "${install[@]}"
    assert_output --partial unchanged
    local left
    left=$(find "$phone_home" "$phone_prefix" \( -name '*.part' -o -name '*.tmp' -o -name '*.new' -o -name 'lock*' \) ! -path '*/usr/bin/*')
    [[ -z $left ]] || fail "left lying about: $left"
}
at() { # at COMMAND PATTERN: the install hangs there
    rule "$1" "$2" hang
    killed_when test -e "$stub_state/hung/$1"
}

@test "killed while packages are installed" {
    install+=(--engine ollama --model qwen2.5:1.5b)
    at pkg '*install*'
    finishes
}
@test "killed while the services are enabled" {
    install+=(--engine ollama --model qwen2.5:1.5b)
    on_phone pkg install -y termux-services >/dev/null
    rule sv-enable '*' hang
    rule sv '*' hang
    rule service-daemon '*' hang
    killed_when eval 'compgen -G "$stub_state/hung/s*" >/dev/null'
    finishes
}
@test "killed in the middle of a pull" {
    install+=(--engine ollama --model qwen2.5:1.5b)
    touch "$stub_state/pull.hang"
    killed_when test -e "$stub_state/hung/pull"
    finishes
    run -0 grep -cx qwen2.5:1.5b "$stub_state/ollama.models"
    assert_output 1
}
@test "killed in the middle of the engine's download, which goes on where it was" {
    start_files
    make_release "$files_folder/llama-b11000-bin-android-arm64.tar.gz"
    make_model "$phone_root/m.gguf"
    install+=(--engine llama-release --engine-url "$files/llama-b11000-bin-android-arm64.tar.gz" --engine-sha256
        "$(sha256_of "$files_folder/llama-b11000-bin-android-arm64.tar.gz")" --model "$phone_root/m.gguf")
    touch "$files_control/hang"
    killed_when test -e "$files_control/hung"
    rm "$files_control/hang"
    finishes
    run -0 grep -E 'bytes=[1-9][0-9]*- 206' "$files_control/requests"
}
@test "killed in the middle of the model's download" {
    start_files
    make_release "$phone_root/release.tar.gz"
    make_model "$files_folder/m.gguf" 256
    install+=(--engine llama-release --engine-url "file://$phone_root/release.tar.gz" --engine-sha256
        "$(sha256_of "$phone_root/release.tar.gz")" --model "$files/m.gguf" --sha256 "$(sha256_of "$files_folder/m.gguf")")
    touch "$files_control/hang"
    killed_when test -e "$files_control/hung"
    rm "$files_control/hang"
    finishes
    cmp "$files_folder/m.gguf" "$(find "$pocketfleet/models" -name '*.gguf' | head -n1)"
}
@test "killed while the release is unpacked" {
    make_release "$phone_root/release.tar.gz"
    make_model "$phone_root/m.gguf"
    install+=(--engine llama-release --engine-url "file://$phone_root/release.tar.gz" --engine-sha256
        "$(sha256_of "$phone_root/release.tar.gz")" --model "$phone_root/m.gguf")
    # A tar that unpacks half and stops
    rm "$phone_prefix/bin/tar"
    printf '#!/bin/sh\ncase "$*" in *x*) mkdir -p half; : >"%s/hung.tar"; exec sleep 600 ;; esac\nexec %s "$@"\n' \
        "$phone_root" "$(type -P tar)" >"$phone_prefix/bin/tar"
    chmod +x "$phone_prefix/bin/tar"
    killed_when test -e "$phone_root/hung.tar"
    ln -sf "$(type -P tar)" "$phone_prefix/bin/tar"
    finishes
}
@test "killed while the Debian container is installed" {
    install+=(--engine proot-ollama --model qwen2.5:1.5b)
    on_phone pkg install -y proot-distro >/dev/null
    at proot-distro 'install*'
    finishes
}
@test "killed while the engine is installed in the container" {
    install+=(--engine proot-ollama --model qwen2.5:1.5b)
    on_phone pkg install -y proot-distro >/dev/null
    at proot-distro '*login*'
    finishes
}
@test "killed while the tunnel's key is made" {
    install+=(--engine ollama --model qwen2.5:1.5b --tunnel fleet@192.168.1.10 --remote-port 20001
        --tunnel-host-key "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGiven")
    on_phone pkg install -y openssh >/dev/null
    at ssh-keygen '*'
    finishes
}
@test "killed in uninstall: a second uninstall finishes" {
    install+=(--engine ollama --model qwen2.5:1.5b)
    run -0 phone "${install[@]}"
    install=(uninstall --yes --purge)
    rule sv '*' hang
    rule sv-disable '*' hang
    killed_when eval 'compgen -G "$stub_state/hung/sv*" >/dev/null'
    no_rules
    run -0 phone uninstall --yes --purge
    [[ ! -e $pocketfleet ]] || fail "left: $(find "$pocketfleet")"
}

@test "the second of two installs leaves with 75 and says who is at it; the first finishes" {
    rule pkg '*install*' hang
    on_phone "$phone_prefix/bin/bash" "$phone_home/phone_setup.sh" "${install[@]}" --engine ollama --model qwen2.5:1.5b \
        >"$phone_root/first.log" 2>&1 &
    until_true 20 test -e "$stub_state/hung/pkg"
    run -75 phone "${install[@]}" --engine ollama --model qwen2.5:1.5b
    assert_output --regexp '[0-9]+'
    run -75 phone uninstall --yes
}
@test "status, doctor and print-config do not wait for an install" {
    run -0 phone "${install[@]}" --engine ollama --model qwen2.5:1.5b
    rule pkg '*' hang
    on_phone "$phone_prefix/bin/bash" "$phone_home/phone_setup.sh" update --yes >"$phone_root/first.log" 2>&1 &
    until_true 20 test -e "$stub_state/hung/pkg"
    run -0 phone status
    run -0 phone print-config
}
@test "the lock of a dead process is taken over" {
    local dead
    dead=$(bash -c 'echo $$')
    run -0 phone "${install[@]}" --engine ollama --model qwen2.5:1.5b
    mkdir -p "$pocketfleet/lock"
    echo "$dead" >"$pocketfleet/lock/pid"
    run -0 phone "${install[@]}" --engine ollama --model qwen2.5:1.5b
    [[ ! -e $pocketfleet/lock ]] || fail "the lock is still there"
}
@test "a lock without a pid, left by one killed between two steps, is taken over" {
    mkdir -p "$pocketfleet/lock"
    touch -d '10 minutes ago' "$pocketfleet/lock"
    run -0 phone "${install[@]}" --engine ollama --model qwen2.5:1.5b
}
@test "twelve at once: one installs, eleven leave with 75 or find it done; never two at it" {
    local n
    for n in {1..12}; do
        (
            code=0
            on_phone "$phone_prefix/bin/bash" "$phone_home/phone_setup.sh" "${install[@]}" --engine ollama \
                --model qwen2.5:1.5b >"$phone_root/run.$n" 2>&1 || code=$?
            echo "$code" >"$phone_root/rc.$n"
        ) 3>&- &
    done
    until_true 60 eval '(($(ls "$phone_root"/rc.* 2>/dev/null | wc -l) == 12))'
    run -0 bash -c "cat '$phone_root'/rc.* | sort | uniq -c"
    refute_line --regexp ' ([1-9]|7[^5]|[1-689][0-9]|[0-9]{3})$'
    assert_line --regexp ' 0$'
    assert_equal "$(grep -c '^pkg install.*ollama' "$stub_state/log")" 1
}
