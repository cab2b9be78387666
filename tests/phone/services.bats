#!/usr/bin/env bats
# What runit, Termux:Boot and the user start and stop, and which of the engine's options are used.
load helpers
setup() {
    setup_phone
    make_model "$phone_root/m.gguf"
    make_release "$phone_root/release.tar.gz"
    services=$phone_prefix/var/service
    install=(install --yes --port "$engine_port")
    release=(--engine llama-release --engine-url "file://$phone_root/release.tar.gz"
        --engine-sha256 "$(sha256_of "$phone_root/release.tar.gz")" --model "$phone_root/m.gguf")
    tunnel=(--tunnel fleet@192.168.1.10:2222 --remote-port 20001 --tunnel-host-key "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGiven")
}
teardown() { teardown_phone; }

# up ARGUMENT...: installs and starts
up() {
    services_run
    run -0 phone "${install[@]}" "$@"
    run -0 phone start
}
# start_service NAME: its run file as runsv would start it
start_service() {
    (cd "$services/$1" && exec env -i "${phone_env[@]}" ./run >"$phone_root/$1.out" 2>&1 </dev/null 3>&- 4>&-) &
    service_pid=$!
}
engine_call() { calls "$1" | grep -v -- --help | grep -v -- --version | tail -n1; }

@test "each service: run and log/run are executable, exec in the end, and go to svlogger" {
    services_run
    run -0 phone "${install[@]}" --engine ollama --model qwen2.5:1.5b --gateway http://127.0.0.1:1 "${tunnel[@]}"
    local name
    for name in engine agent tunnel; do
        [[ -x $services/pocketfleet-$name/run ]] || fail "expected an executable run of pocketfleet-$name"
        [[ -x $services/pocketfleet-$name/log/run ]] || fail "expected an executable log/run of pocketfleet-$name"
        run -0 cat "$services/pocketfleet-$name/log/run"
        assert_output --regexp 'exec .*(svlogger|svlogd)'
        run -0 bash -n "$services/pocketfleet-$name/run"
        run -0 grep -E '(^|[;&( ])exec ' "$services/pocketfleet-$name/run"
    done
}
@test "the shell of the run files is Termux's, by its full path" {
    services_run
    run -0 phone "${install[@]}" --engine ollama --model qwen2.5:1.5b --gateway http://127.0.0.1:1 "${tunnel[@]}"
    local file
    for file in "$services"/pocketfleet-*/run "$services"/pocketfleet-*/log/run; do
        assert_regex "$(head -n1 "$file")" "^#! ?$phone_prefix/bin/(ba|da)?sh"
    done
}
@test "ollama runs in the foreground with its settings" {
    up --engine ollama --model qwen2.5:1.5b --ctx 2048 --parallel 2 --keep-alive 12h
    run -0 cat "$stub_state/ollama.env"
    assert_line "OLLAMA_HOST=127.0.0.1:$engine_port"
    assert_line OLLAMA_CONTEXT_LENGTH=2048
    assert_line OLLAMA_NUM_PARALLEL=2
    assert_line OLLAMA_KEEP_ALIVE=12h
    assert_line --regexp '^OLLAMA_NO_CLOUD=(1|true)$'
    assert_line --regexp '^OLLAMA_FLASH_ATTENTION=(0|false)$'
}
@test "a run file ends in the engine itself, so that runit's TERM reaches it" {
    services_run
    run -0 phone "${install[@]}" "${release[@]}"
    run -0 phone stop
    start_service pocketfleet-engine
    until_true 10 answers "http://127.0.0.1:$engine_port/health"
    kill -TERM "$service_pid"
    until_true 10 eval '! answers "http://127.0.0.1:$engine_port/health"'
}
@test "the worker's SIGPIPE is ignored, its address and port are as asked" {
    up "${release[@]:0:6}" --role rpc-worker
    until_true 10 test -s "$stub_state/rpc.sigpipe"
    assert_equal "$(cat "$stub_state/rpc.sigpipe")" ignored
    run engine_call ggml-rpc-server
    assert_output --regexp '(-p|--port) '"$engine_port"
    assert_output --regexp '(-H|--host) 127\.0\.0\.1'
    assert_output --regexp '(-t|--threads) 5'
    refute_output --regexp '(^| )(-m|--mem) '
}
@test "a worker that is called rpc-server is found too" {
    local work=$phone_root/old
    mkdir -p "$work/build/bin"
    cp "$tests/stubs/bin/llama-server" "$work/build/bin/"
    sed 's/ggml-rpc-server/rpc-server/' "$tests/stubs/bin/ggml-rpc-server" >"$work/build/bin/rpc-server"
    chmod +x "$work/build/bin/rpc-server"
    cp "$tests/stubs/help/ggml-rpc-server" "$work/build/bin/"
    sed -i 's/\$STUB_HOME\/help\/rpc-server/$STUB_HOME\/help\/ggml-rpc-server/' "$work/build/bin/rpc-server"
    rm "$work/build/bin/ggml-rpc-server"
    tar -C "$work" -czf "$phone_root/release.tar.gz" build
    release[5]=$(sha256_of "$phone_root/release.tar.gz")
    up "${release[@]:0:6}" --role rpc-worker
    until_true 10 test -s "$stub_state/rpc.sigpipe"
    assert_regex "$(engine_call rpc-server)" "$engine_port"
}
@test "a build without any rpc server cannot be a worker, and it is said before anything runs" {
    services_run
    local work=$phone_root/none
    mkdir -p "$work/llama-b1"
    cp "$tests/stubs/bin/llama-server" "$work/llama-b1/"
    tar -C "$work" -czf "$phone_root/release.tar.gz" llama-b1
    release[5]=$(sha256_of "$phone_root/release.tar.gz")
    run -1 phone "${install[@]}" "${release[@]:0:6}" --role rpc-worker
    assert_output --partial rpc-server
}
@test "an RPC master's command line" {
    # Workers that listen, since a master without them must not be started.
    local first second
    first=$(free_port) second=$(free_port)
    python3 -c 'import socket, sys, time
listeners = [socket.create_server(("127.0.0.1", int(port)), reuse_port=False) for port in sys.argv[1:]]
time.sleep(600)' "$first" "$second" 3>&- &
    servers+=("$!")
    up "${release[@]}" --role rpc-master --rpc "127.0.0.1:$first,127.0.0.1:$second" --tensor-split 7,6 --ngl 13
    until_true 10 eval '[[ -n $(engine_call llama-server) ]]'
    run engine_call llama-server
    assert_output --regexp "--rpc 127\\.0\\.0\\.1:$first(,|\\\\,)127\\.0\\.0\\.1:$second"
    assert_output --regexp '(-ts|--tensor-split) 7(,|\\,)6'
    assert_output --regexp '(-ngl|--n-gpu-layers|--gpu-layers) 13'
    assert_output --regexp '(-sm|--split-mode) layer'
    assert_output --regexp '(-fit|--fit) off'
}

flags() { # flags AGE ARGUMENT...: $output is llama-server's command line
    echo "$1" >"$stub_state/llama.age"
    up "${release[@]}" "${@:2}"
    until_true 10 answers "http://127.0.0.1:$engine_port/health" || fail "the engine did not come up: $(cat "$stub_state"/sv/*.output)"
    run engine_call llama-server
}
@test "options of a llama-server of 2026" {
    flags 2026 --ctx 2048 --parallel 2 --alias mine
    assert_output --regexp '(-fa|--flash-attn) off'
    assert_output --regexp '(-cram|--cache-ram) [0-9]+'
    assert_output --regexp '(-c|--ctx-size) [0-9]+'
    assert_output --regexp '(-np|--parallel) 2'
    assert_output --regexp '(-a|--alias) mine'
    assert_output --regexp '(-t|--threads) 5'
    refute_output --partial -- --no-mmap
}
@test "options of a llama-server of 2025" {
    flags 2025
    assert_output --regexp '(-fa|--flash-attn) off'
    refute_output --regexp '(-lm|--load-mode|-fit|--fit)( |$)'
}
@test "options of a llama-server of 2024: bare --flash-attn is on, none is off, no --cache-ram" {
    flags 2024
    refute_output --partial -- --flash-attn
    refute_output --partial -- -fa
    refute_output --partial -- --cache-ram
}
@test "flash attention on: bare in 2024, a word in 2026" {
    flags 2024 --flash-attn on
    assert_output --regexp '(-fa|--flash-attn)( -|$)'
}
@test "flash attention on in 2026" {
    flags 2026 --flash-attn on
    assert_output --regexp '(-fa|--flash-attn) on'
}
@test "the tunnel's command line" {
    up --engine ollama --model qwen2.5:1.5b "${tunnel[@]}"
    until_true 20 eval '[[ -n $(calls ssh | grep -- -N) ]]'
    run bash -c "grep -E '^ssh .*-N' '$stub_state/log' | tail -n1"
    assert_output --partial -- "-R 127.0.0.1:20001:127.0.0.1:$engine_port "
    assert_output --partial ExitOnForwardFailure=yes
    assert_output --partial ServerAliveInterval=15
    assert_output --partial StrictHostKeyChecking=yes
    assert_output --partial BatchMode=yes
    assert_output --partial UserKnownHostsFile=
    assert_output --regexp '-p 2222'
    assert_output --partial fleet@192.168.1.10
    assert_output --partial -- "-i $pocketfleet/ssh/"
}
@test "the host's key is the one given, under the name ssh looks for" {
    services_run
    run -0 phone "${install[@]}" --engine ollama --model qwen2.5:1.5b "${tunnel[@]}"
    run -0 grep -rF 'AAAAC3NzaC1lZDI1NTE5AAAAIGiven' "$pocketfleet/ssh"
    assert_output --partial '[192.168.1.10]:2222'
    assert_equal "$(calls ssh-keyscan)" ""
}
@test "without a host key it is scanned, shown and taken only when confirmed" {
    services_run
    run phone install --port "$engine_port" --engine ollama --model qwen2.5:1.5b --tunnel fleet@192.168.1.10:2222 --remote-port 20001
    assert_failure
    assert_output --partial SHA256:
    run grep -rF HostKeyFromScan "$pocketfleet/ssh"
    assert_failure
    run -0 phone "${install[@]}" --engine ollama --model qwen2.5:1.5b --tunnel fleet@192.168.1.10:2222 --remote-port 20001
    assert_output --partial SHA256:
    run -0 grep -rF HostKeyFromScan "$pocketfleet/ssh"
}
@test "the line for the host's authorized_keys is printed, restricted to its port" {
    services_run
    run -0 phone "${install[@]}" --engine ollama --model qwen2.5:1.5b "${tunnel[@]}"
    assert_output --partial 'restrict,port-forwarding,permitlisten="127.0.0.1:20001",permitopen="127.0.0.1:1",command='
    assert_output --partial 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFakePhoneKey'
}
@test "tries of a broken tunnel are seconds apart: runit starts the run file again a second after it ended" {
    services_run
    on_phone pkg install -y openssh >/dev/null
    run -0 phone "${install[@]}" --engine ollama --model qwen2.5:1.5b "${tunnel[@]}"
    rule ssh '*-N*' fail 255
    printf '#!/bin/sh\necho "$1" >>%s/sleeps\nexec "$STUB_SLEEP" 0.05\n' "$stub_state" >"$phone_prefix/bin/sleep"
    start_service pocketfleet-tunnel
    until_true 10 eval '[[ -s $stub_state/sleeps && -n $(calls ssh) ]]'
    run -0 awk '$1 < 1 || $1 > 120 { bad = 1 } END { exit bad }' "$stub_state/sleeps"
}
@test "with --wake-lock and --autostart the boot file takes the lock and starts the services" {
    services_run
    run -0 phone "${install[@]}" --engine ollama --model qwen2.5:1.5b --autostart --wake-lock
    local boot=$phone_home/.termux/boot/10-pocketfleet
    [[ -x $boot ]] || fail "expected an executable $boot"
    : >"$stub_state/log"
    rm -f "$stub_state/sv.daemon"
    run -0 on_phone "$boot"
    assert_regex "$(cat "$stub_state/log")" termux-wake-lock
    assert_regex "$(cat "$stub_state/log")" 'service-daemon start'
}
@test "with --no-autostart there is no boot file; with --no-wake-lock it takes no lock" {
    services_run
    run -0 phone "${install[@]}" --engine ollama --model qwen2.5:1.5b --no-autostart
    [[ ! -e $phone_home/.termux/boot/10-pocketfleet ]] || fail "there is a boot file"
    run -0 phone "${install[@]}" --engine ollama --model qwen2.5:1.5b --autostart --no-wake-lock
    : >"$stub_state/log"
    run -0 on_phone "$phone_home/.termux/boot/10-pocketfleet"
    assert_equal "$(calls termux-wake-lock)" ""
}
@test "the stop script stops all of it" {
    services_run
    run -0 phone "${install[@]}" --engine ollama --model qwen2.5:1.5b --gateway http://127.0.0.1:1
    run phone start
    until_true 10 answers "http://127.0.0.1:$engine_port/"
    [[ -x $pocketfleet/stop.sh ]] || fail "expected an executable stop.sh"
    run -0 on_phone "$pocketfleet/stop.sh"
    until_true 10 eval '! answers "http://127.0.0.1:$engine_port/"'
    until_true 5 eval '[[ -z $(ls "$stub_state/sv" | grep -v output) ]]'
}
@test "an engine that was taken out of the options leaves no service behind" {
    services_run
    run -0 phone "${install[@]}" --engine ollama --model qwen2.5:1.5b "${tunnel[@]}"
    [[ -d $services/pocketfleet-tunnel ]]
    run -0 phone "${install[@]}" --tunnel none
    [[ ! -e $services/pocketfleet-tunnel ]] || fail "the tunnel's service is still there"
}
@test "under the real runit the engine starts, is started again when killed, and stops" {
    type -P runsvdir runsv sv svlogd >/dev/null || skip "no runit on this machine"
    on_phone pkg install -y termux-services ollama >/dev/null
    local program
    for program in runsvdir runsv sv svlogd chpst; do ln -sf "$(type -P "$program")" "$phone_prefix/bin/$program"; done
    printf '#!/bin/sh\n[ "$1" = start ] || exit 0\n[ -e "%s/runsvdir.pid" ] && exit 0\nsetsid runsvdir "$SVDIR" >/dev/null 2>&1 3>&- & echo $! >"%s/runsvdir.pid"\n' \
        "$phone_root" "$phone_root" >"$phone_prefix/bin/service-daemon.new"
    chmod +x "$phone_prefix/bin/service-daemon.new"
    mv -f "$phone_prefix/bin/service-daemon.new" "$phone_prefix/bin/service-daemon"
    printf '#!/bin/sh\nfor s in "$@"; do rm -f "$SVDIR/$s/down"; sv up "$s"; done\n' >"$phone_root/sv-enable"
    chmod +x "$phone_root/sv-enable" && mv -f "$phone_root/sv-enable" "$phone_prefix/bin/sv-enable"
    run -0 phone "${install[@]}" --engine ollama --model qwen2.5:1.5b
    run -0 phone start
    until_true 20 answers "http://127.0.0.1:$engine_port/"
    local pid
    pid=$(on_phone env SVDIR="$services" sv status pocketfleet-engine | sed -E 's/.*\(pid ([0-9]+)\).*/\1/;q')
    kill -KILL "$pid"
    until_true 10 eval '! kill -0 "$pid" 2>/dev/null'
    until_true 20 answers "http://127.0.0.1:$engine_port/"
    run -0 phone stop
    until_true 10 eval '! answers "http://127.0.0.1:$engine_port/"'
    run -0 phone uninstall --yes --purge
    kill "$(cat "$phone_root/runsvdir.pid")" 2>/dev/null || true
}
