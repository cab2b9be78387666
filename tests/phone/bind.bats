#!/usr/bin/env bats
# What listens where: nothing on the LAN without a key or the explicit word.
load helpers
setup() {
    setup_phone
    key=$phone_root/key
    echo s3cret-key-for-the-lan >"$key"
    model=$phone_root/m.gguf
    make_model "$model"
    make_release "$phone_root/release.tar.gz"
    release=(--engine llama-release --engine-url "file://$phone_root/release.tar.gz"
        --engine-sha256 "$(sha256_of "$phone_root/release.tar.gz")" --model "$model")
}
teardown() { teardown_phone; }

plan() { run -0 phone install --dry-run --yes --port "$engine_port" "$@"; }
refused() {
    run phone install --dry-run --yes --port "$engine_port" "$@"
    [[ $status == 2 ]] || fail "expected exit code 2 for: $* - got $status: $output"
    assert_output --partial -- --i-trust-this-lan
}

@test "ollama listens on loopback when nothing is said" {
    plan --model qwen2.5:1.5b
    assert_output --partial "127.0.0.1:$engine_port"
    refute_output --partial "0.0.0.0:$engine_port"
}
@test "llama-server listens on loopback when nothing is said" {
    plan "${release[@]}"
    assert_output --regexp '--host [^ ]*127\.0\.0\.1'
    refute_output --partial 0.0.0.0
}
@test "ollama on 0.0.0.0 or a LAN address needs the word" {
    refused --model qwen2.5:1.5b --bind 0.0.0.0
    refused --model qwen2.5:1.5b --bind 192.168.1.50
    refused --model qwen2.5:1.5b --bind ::
    refused --engine proot-ollama --model qwen2.5:1.5b --bind 0.0.0.0
}
@test "a key does not help Ollama, which has none" {
    run -2 phone install --dry-run --yes --port "$engine_port" --model qwen2.5:1.5b --bind 0.0.0.0 --api-key-file "$key"
    assert_output --partial Ollama
}
@test "ollama on the LAN with the word" {
    plan --model qwen2.5:1.5b --bind 0.0.0.0 --i-trust-this-lan
    assert_output --partial "0.0.0.0:$engine_port"
}
@test "llama-server on the LAN needs a key or the word" { refused "${release[@]}" --bind 0.0.0.0; }
@test "llama-server on the LAN with a key, which is in no output" {
    plan "${release[@]}" --bind 0.0.0.0 --api-key-file "$key"
    assert_output --regexp '--host [^ ]*0\.0\.0\.0'
    assert_output --partial -- --api-key-file
    refute_output --partial s3cret-key-for-the-lan
}
@test "llama-server on the LAN with the word" {
    plan "${release[@]}" --bind 0.0.0.0 --i-trust-this-lan
    assert_output --regexp '--host [^ ]*0\.0\.0\.0'
}
@test "an RPC worker on the LAN needs the word; a key does not help it" {
    refused "${release[@]}" --role rpc-worker --bind 0.0.0.0
    run -2 phone install --dry-run --yes "${release[@]}" --role rpc-worker --bind 192.168.1.50 --api-key-file "$key"
    assert_output --partial key
    plan "${release[@]}" --role rpc-worker --bind 192.168.1.50 --i-trust-this-lan
    assert_output --partial 192.168.1.50
}
@test "all of 127.0.0.0/8 and ::1 are loopback" {
    plan "${release[@]}" --bind 127.0.0.2
    plan "${release[@]}" --bind ::1
}
@test "what only looks like loopback is not" {
    run -2 phone install --dry-run --yes "${release[@]}" --bind 127.0.0.1.example.org
    run -2 phone install --dry-run --yes "${release[@]}" --bind ::ffff:192.168.1.50
}
@test "the one-argument form without a terminal stays on loopback and says how to open it" {
    run -0 phone qwen2.5:1.5b --dry-run --port "$engine_port"
    assert_output --partial "127.0.0.1:$engine_port"
    refute_output --partial "OLLAMA_HOST=0.0.0.0"
    assert_output --partial -- --i-trust-this-lan
}
@test "a run file that is there keeps its address when installed again without --bind" {
    services_run
    run -0 phone install --yes --model qwen2.5:1.5b --port "$engine_port" --bind 0.0.0.0 --i-trust-this-lan
    run -0 phone install --yes
    run -0 grep -rh "0.0.0.0" "$phone_prefix/var/service/pocketfleet-engine/run" "$pocketfleet/config"
}
