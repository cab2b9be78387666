#!/usr/bin/env bats
# Tokens, keys and where they may be: files of mode 600, stdin, the environment; never a command line or a log.
load helpers
setup() {
    setup_phone
    services_run
    start_gateway 2
    secret=t0ken-Very-Secret-4711
    key=k3y-Very-Secret-0815
    printf '%s\n' "$secret" >"$phone_root/token"
    printf '%s\n' "$key" >"$phone_root/key"
    make_model "$phone_root/m.gguf"
    make_release "$phone_root/release.tar.gz"
    install=(install --yes --port "$engine_port" --gateway "$gateway")
    release=(--engine llama-release --engine-url "file://$phone_root/release.tar.gz"
        --engine-sha256 "$(sha256_of "$phone_root/release.tar.gz")" --model "$phone_root/m.gguf")
}
teardown() { teardown_phone; }

# Watches all command lines of the machine for the secrets until stopped. The brackets: a grep must not find another one.
watch_command_lines() {
    while :; do
        grep -lsaE '[t]0ken-Very-Secret|[k]3y-Very-Secret' /proc/[0-9]*/cmdline >>"$phone_root/seen" 2>/dev/null || true
    done 3>&- &
    servers+=("$!")
    watcher=$!
}
nowhere_seen() {
    kill "$watcher"
    [[ ! -s $phone_root/seen ]] || fail "a secret was on a command line: $(sort -u "$phone_root/seen")"
    run grep -nE 't0ken-Very-Secret|k3y-Very-Secret' "$stub_state/log"
    assert_output ""
}

@test "token and key are on no command line during install, start, status, doctor, agent and uninstall" {
    watch_command_lines
    local verb
    run -0 phone "${install[@]}" "${release[@]}" --token-file "$phone_root/token" --api-key-file "$phone_root/key"
    refute_output --partial Very-Secret
    for verb in start restart status 'status --json' print-config 'agent --once' doctor; do
        # shellcheck disable=SC2086
        run phone $verb
        refute_output --partial Very-Secret
    done
    until_true 20 at_least_beats 1
    run -0 phone uninstall --yes --purge
    refute_output --partial Very-Secret
    nowhere_seen
    assert_equal "$(beat 1 'headers["authorization"]')" "Bearer $secret"
}
@test "POCKETFLEET_TOKEN in the environment is taken over into the file, mode 600" {
    watch_command_lines
    phone_env+=(POCKETFLEET_TOKEN="$secret")
    run -0 phone qwen2.5:1.5b --port "$engine_port" --gateway "$gateway" --engine ollama
    refute_output --partial Very-Secret
    assert_equal "$(cat "$pocketfleet/token")" "$secret"
    assert_equal "$(stat -c %a "$pocketfleet/token")" 600
    nowhere_seen
}
@test "the token is not in the config, a run file, a log, a stamp or the environment of the engine" {
    run -0 phone "${install[@]}" --engine ollama --model qwen2.5:1.5b --token-file "$phone_root/token"
    run -0 phone start
    until_true 20 at_least_beats 1
    run grep -rl Very-Secret "$phone_home" "$phone_prefix"
    assert_output "$pocketfleet/token"
    run cat "$stub_state/ollama.env"
    refute_output --partial Very-Secret
}
@test "what holds secrets is readable by the user alone" {
    run -0 phone "${install[@]}" --engine ollama --model qwen2.5:1.5b --token-file "$phone_root/token" \
        --tunnel fleet@192.168.1.10 --remote-port 20001 --tunnel-host-key "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGiven"
    assert_equal "$(stat -c %a "$pocketfleet/token")" 600
    assert_equal "$(stat -c %a "$pocketfleet/ssh")" 700
    local file
    while IFS= read -r file; do
        assert_equal "$(basename "$file") $(stat -c %a "$file")" "$(basename "$file") 600"
    done < <(grep -rl 'PRIVATE KEY' "$pocketfleet")
}
@test "the token keeps mode 600 under a umask of 000, also for a moment" {
    run -0 on_phone bash -c 'umask 000; exec bash "$HOME/phone_setup.sh" "$@"' x "${install[@]}" --engine ollama \
        --model qwen2.5:1.5b --token-file "$phone_root/token"
    assert_equal "$(stat -c %a "$pocketfleet/token")" 600
}
@test "a dry-run does not print the token or the key" {
    run -0 phone "${install[@]}" "${release[@]}" --token-file "$phone_root/token" --api-key-file "$phone_root/key" --dry-run
    refute_output --partial Very-Secret
}
@test "a token of several lines or with control characters adds no header" {
    printf 'a\r\nX-Evil: 1\n' >"$phone_root/token"
    run phone agent --once --gateway "$gateway" --port "$engine_port" --token-file "$phone_root/token"
    if ((status == 0)); then assert_equal "$(beat 1 '"x-evil" in headers')" false; fi
    printf 'a b\033c\n' >"$phone_root/token"
    run phone "${install[@]}" --engine ollama --model qwen2.5:1.5b --token-file "$phone_root/token"
    assert_failure 2
}
@test "an empty token file is refused" {
    printf '' >"$phone_root/token"
    run phone "${install[@]}" --engine ollama --model qwen2.5:1.5b --token-file "$phone_root/token"
    assert_failure 2
}
@test "a password in the gateway's address is refused or kept off command lines" {
    run phone install --yes --port "$engine_port" --engine ollama --model qwen2.5:1.5b --gateway "http://me:k3y-Very-Secret@127.0.0.1:1"
    run grep -n 'k3y-Very-Secret' "$stub_state/log"
    assert_output ""
}
@test "bash -x shows no token by accident of tracing in the services' run files" {
    run -0 phone "${install[@]}" --engine ollama --model qwen2.5:1.5b --token-file "$phone_root/token"
    run grep -rE 'set -[a-z]*x' "$phone_prefix/var/service"
    assert_output ""
}
