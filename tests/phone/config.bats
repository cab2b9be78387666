#!/usr/bin/env bats
# print-config and status: what others read.
load helpers
setup() {
    setup_phone
    services_run
}
teardown() { teardown_phone; }
install() { run -0 phone install --yes --port "$engine_port" "$@"; }
# The entry as the last JSON value of stdout; hints may go to stderr.
entry() { on_phone "$phone_prefix/bin/bash" "$phone_home/phone_setup.sh" print-config 2>/dev/null; }

accepted() {
    is_json "$1"
    local program=${POCKETFLEET:-}
    if [[ -z $program ]]; then
        for program in "$root"/build/{release,dev,asan}/pocketfleet; do [[ ! -x $program ]] || break; done
    fi
    [[ -x $program ]] || skip "no pocketfleet program; set POCKETFLEET=PATH"
    printf '%s' "$(json "$1" 'json.dumps(j if isinstance(j, list) or "phones" in j else [j])')" >"$phone_root/phones.json"
    run "$program" check "$phone_root/phones.json"
    if [[ -z ${POCKETFLEET:-} && $output == *'.id: found an unknown key'* ]]; then
        skip "$program was built before phones had an id; POCKETFLEET=PATH names another"
    fi
    [[ $status == 0 ]] || fail "pocketfleet check: $output"
}

@test "print-config is JSON with the facts of the install" {
    make_model "$phone_root/m.gguf"
    install --engine llama-pkg --model "$phone_root/m.gguf" --alias qwen2.5:1.5b --name my-phone --bind 192.168.1.50 \
        --i-trust-this-lan --parallel 2
    local text
    text=$(entry)
    is_json "$text"
    local phone='(j[0] if isinstance(j, list) else j["phones"][0] if "phones" in j else j)'
    assert_equal "$(json "$text" "${phone}[\"model\"]")" qwen2.5:1.5b
    assert_equal "$(json "$text" "${phone}[\"port\"]")" "$engine_port"
    assert_equal "$(json "$text" "${phone}[\"max_concurrency\"]")" 2
    assert_equal "$(json "$text" "${phone}[\"host\"]")" 192.168.1.50
}
@test "pocketfleet check accepts it: ollama" {
    install --engine ollama --model qwen2.5:1.5b --name my-phone
    accepted "$(entry)"
}
@test "pocketfleet check accepts it: llama-server with an alias" {
    make_model "$phone_root/m.gguf"
    make_release "$phone_root/release.tar.gz"
    install --engine llama-release --engine-url "file://$phone_root/release.tar.gz" \
        --engine-sha256 "$(sha256_of "$phone_root/release.tar.gz")" --model "$phone_root/m.gguf" --alias qwen-2.5_1.5b:q4
    accepted "$(entry)"
    run -0 entry
    assert_output --partial '"qwen-2.5_1.5b:q4"'
}
@test "pocketfleet check accepts it: with a token, of which at most the sum is printed" {
    echo the-Token >"$phone_root/token"
    install --engine ollama --model qwen2.5:1.5b --gateway http://127.0.0.1:1 --token-file "$phone_root/token"
    local text
    text=$(entry)
    if [[ $text == *token_sha256* ]]; then assert_regex "$text" "$(printf the-Token | sha256sum | cut -d' ' -f1)"; fi
    [[ $text != *the-Token* ]] || fail "the token itself is printed"
    accepted "$text"
}
@test "a name with quotes and umlauts of the phone's model leaves it JSON" {
    property ro.product.model 'Möbius "X" \\ 5G'
    install --engine ollama --model qwen2.5:1.5b
    accepted "$(entry)"
}
@test "through a tunnel the entry is loopback and the remote port" {
    install --engine ollama --model qwen2.5:1.5b --tunnel fleet@192.168.1.10 --remote-port 20001 \
        --tunnel-host-key "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGiven"
    local text
    text=$(entry)
    assert_regex "$text" 127.0.0.1
    assert_regex "$text" 20001
    accepted "$text"
}
@test "status --json is JSON and nothing else, installed or not, running or not" {
    local text
    text=$(on_phone "$phone_prefix/bin/bash" "$phone_home/phone_setup.sh" status --json 2>/dev/null) || true
    is_json "$text"
    install --engine ollama --model qwen2.5:1.5b
    text=$(on_phone "$phone_prefix/bin/bash" "$phone_home/phone_setup.sh" status --json 2>/dev/null)
    is_json "$text"
    assert_regex "$text" "$engine_port"
    assert_regex "$text" "qwen2.5:1.5b"
    run -0 phone stop
    text=$(on_phone "$phone_prefix/bin/bash" "$phone_home/phone_setup.sh" status --json 2>/dev/null) || true
    is_json "$text"
}
@test "status says in words what runs and after stop what does not" {
    install --engine ollama --model qwen2.5:1.5b
    run phone start
    run -0 phone status
    assert_output --partial ollama
    assert_output --partial "$engine_port"
    run -0 phone stop
    run phone status
    assert_output --regexp 'down|stopped|not running'
}
@test "start, stop and restart end and begin the engine" {
    install --engine ollama --model qwen2.5:1.5b
    run -0 phone start
    until_true 10 answers "http://127.0.0.1:$engine_port/"
    run -0 phone stop
    until_true 10 eval '! answers "http://127.0.0.1:$engine_port/"'
    run -0 phone restart
    until_true 10 answers "http://127.0.0.1:$engine_port/"
}
@test "start and stop twice are no failures" {
    install --engine ollama --model qwen2.5:1.5b
    run -0 phone start
    run -0 phone start
    run -0 phone stop
    run -0 phone stop
}
@test "start before any install says so" {
    run phone start
    assert_failure
    assert_output --partial install
}
