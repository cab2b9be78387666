#!/usr/bin/env bats
# --dry-run: the exact commands and files, compared with golden/*; and nothing is written or started.
# POCKETFLEET_UPDATE_GOLDEN=1 bats tests/phone/dry_run.bats writes the golden files anew.
load helpers
setup() {
    setup_phone
    sum=$(printf 'a%.0s' {1..64})
    release=(--engine llama-release --engine-sha256 "$sum")
    gguf=(--model https://example.org/qwen2.5-1.5b-q4_k_m.gguf --sha256 "$(printf 'b%.0s' {1..64})")
    before=$(contents)
}
teardown() { teardown_phone; }

# dry GOLDEN ARGUMENT...
dry() {
    local name=$1 changing
    shift
    run -0 phone "$@" --dry-run
    same "$before" "$(contents)" "a dry run wrote something"
    changing=$(grep -vE '^(curl|pm|getprop|dpkg|dpkg-query|uname|nproc|df|ifconfig|ip|termux-info|settings|dumpsys|sv status|sv check|ollama --version|llama-server (--help|--version))( |$)' \
        "$stub_state/log" || true)
    [[ -z $changing ]] || fail "a dry run called: $changing"
    golden "$name" <<<"$output"
}

@test "engine ollama" { dry ollama.txt install --engine ollama --model qwen2.5:1.5b; }
@test "engine llama-release" { dry llama-release.txt install "${release[@]}" "${gguf[@]}"; }
@test "engine llama-pkg" { dry llama-pkg.txt install --engine llama-pkg "${gguf[@]}"; }
@test "engine proot-ollama" { dry proot-ollama.txt install --engine proot-ollama --model qwen2.5:1.5b; }
@test "engine proot-llama" { dry proot-llama.txt install --engine proot-llama "${gguf[@]}"; }
@test "role rpc-worker" { dry rpc-worker.txt install "${release[@]}" --role rpc-worker; }
@test "role rpc-worker in proot" { dry rpc-worker-proot.txt install --engine proot-llama --role rpc-worker; }
@test "role rpc-master" {
    dry rpc-master.txt install "${release[@]}" "${gguf[@]}" --role rpc-master --rpc 127.0.0.1:50052,127.0.0.1:50053 \
        --tensor-split 7,6 --ngl 13
}
@test "a tunnel with the host's key" {
    dry tunnel.txt install --engine ollama --model qwen2.5:1.5b --tunnel fleet@192.168.1.10:2222 --remote-port 20001 \
        --tunnel-host-key "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGiven"
}
@test "a tunnel whose host key must be fetched" {
    dry tunnel-scan.txt install --engine ollama --model qwen2.5:1.5b --tunnel fleet@gateway.lan --remote-port 20001
}
@test "a gateway with a token" {
    echo the-token >"$phone_root/token"
    dry gateway.txt install --engine ollama --model qwen2.5:1.5b --gateway http://192.168.1.10:8000 \
        --token-file "$phone_root/token" --name my-phone --device-id pf-0123456789abcdef
}
@test "llama-server on the LAN with a key" {
    echo the-key >"$phone_root/key"
    dry lan-key.txt install "${release[@]}" "${gguf[@]}" --bind 0.0.0.0 --api-key-file "$phone_root/key"
}
@test "everything by hand" {
    dry by-hand.txt install --engine llama-pkg "${gguf[@]}" --alias mine --ctx 2048 --parallel 2 --port 8081 --threads 3 \
        --flash-attn auto --gpu vulkan --no-autostart --no-wake-lock
}
@test "the one-argument form" { dry one-argument.txt qwen2.5:1.5b; }
@test "an installed phone: install, start, stop, restart, update and uninstall as dry runs change nothing" {
    services_run
    run -0 phone install --yes --engine ollama --model qwen2.5:1.5b --port "$engine_port"
    before=$(contents)
    local verb
    for verb in install start stop restart update uninstall 'uninstall --purge'; do
        # shellcheck disable=SC2086
        run phone $verb --dry-run --yes
        [[ $status == 0 ]] || fail "$verb --dry-run: exit code $status: $output"
        same "$before" "$(contents)" "after $verb --dry-run"
    done
}
@test "what a dry run prints of the run files is what an install writes" {
    services_run
    run -0 phone install --yes --engine ollama --model qwen2.5:1.5b --port "$engine_port" --dry-run
    local printed=$output line
    run -0 phone install --yes --engine ollama --model qwen2.5:1.5b --port "$engine_port"
    while IFS= read -r line; do
        [[ $printed == *"$line"* ]] || fail "the dry run did not show: $line"
    done <"$phone_prefix/var/service/pocketfleet-engine/run"
}
