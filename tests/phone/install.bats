#!/usr/bin/env bats
# install, install again, uninstall: with each engine.
load helpers
setup() {
    setup_phone
    services_run
    bare=$(contents)
    make_model "$phone_root/m.gguf"
    make_release "$phone_root/release.tar.gz"
    release=(--engine-url "file://$phone_root/release.tar.gz" --engine-sha256 "$(sha256_of "$phone_root/release.tar.gz")")
}
teardown() { teardown_phone; }

install() { run -0 phone install --yes --port "$engine_port" "$@"; }

# twice ARGUMENT...: the second install says "unchanged" and changes no file
twice() {
    install "$@"
    local after_first installed
    after_first=$(listing | grep -v ' d ')
    : >"$stub_state/log"
    install "$@"
    assert_output --partial unchanged
    same "$after_first" "$(listing | grep -v ' d ')" "the second install changed files"
    installed=$(grep -E '^(pkg|apt|apt-get) .*install|^proot-distro install|^ssh-keygen .*-t' "$stub_state/log" || true)
    [[ -z $installed ]] || fail "the second install did again: $installed"
}

# The script may be left where the user put it; packages stay, for they are not ours.
leaves_nothing() {
    run -0 phone uninstall --yes "$@"
    local left
    left=$(cd "$phone_root" && find home usr \( -name '*pocketfleet*' -o -path '*/.termux/boot/*' \) 2>/dev/null)
    [[ -z $left ]] || fail "uninstall left: $left"
}

@test "ollama: twice, then uninstall" {
    twice --engine ollama --model qwen2.5:1.5b
    run grep -x qwen2.5:1.5b "$stub_state/ollama.models"
    assert_success
    leaves_nothing --purge
}
@test "llama-release: twice, then uninstall" {
    twice --engine llama-release "${release[@]}" --model "$phone_root/m.gguf"
    [[ -L $pocketfleet/engine/current && -x $(find "$pocketfleet/engine/current/" -name llama-server) ]] ||
        fail "expected engine/current with llama-server: $(find "$pocketfleet/engine")"
    leaves_nothing --purge
}
@test "llama-release of the older layout build/bin" {
    make_release "$phone_root/release.tar.gz" b9000 build
    twice --engine llama-release "${release[@]:0:2}" --engine-sha256 "$(sha256_of "$phone_root/release.tar.gz")" \
        --model "$phone_root/m.gguf"
}
@test "llama-pkg: twice, then uninstall" {
    twice --engine llama-pkg --model "$phone_root/m.gguf"
    run -0 grep -x llama-cpp "$stub_state/packages.ever"
    leaves_nothing --purge
}
@test "proot-ollama: twice, then uninstall" {
    twice --engine proot-ollama --model qwen2.5:1.5b
    [[ -d $phone_prefix/var/lib/proot-distro/containers/pocketfleet ]] || fail "expected a container named pocketfleet"
    leaves_nothing --purge
}
@test "proot-llama: twice, then uninstall" {
    twice --engine proot-llama --model "$phone_root/m.gguf"
    leaves_nothing --purge
}
@test "an RPC worker: twice, without any model, then uninstall" {
    twice --engine llama-release "${release[@]}" --role rpc-worker
    leaves_nothing --purge
}
@test "an RPC master: twice, then uninstall" {
    twice --engine llama-release "${release[@]}" --role rpc-master --model "$phone_root/m.gguf" \
        --rpc 127.0.0.1:50052,127.0.0.1:50053 --tensor-split 7,6 --ngl 13
    leaves_nothing --purge
}
@test "with tunnel, gateway and token: twice, then uninstall" {
    printf 'the-token\n' >"$phone_root/token"
    twice --engine ollama --model qwen2.5:1.5b --gateway http://127.0.0.1:1 --token-file "$phone_root/token" \
        --tunnel fleet@192.168.1.10:2222 --remote-port 20001 --tunnel-host-key "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGiven"
    run -0 cat "$phone_prefix/var/service/pocketfleet-tunnel/run"
    leaves_nothing --purge
}
@test "uninstall without --purge keeps the models and says where they are" {
    install --engine llama-release "${release[@]}" --model "$phone_root/m.gguf"
    run -0 phone uninstall --yes
    assert_output --partial models
    [[ -n $(find "$pocketfleet/models" -type f) ]] || fail "the model is gone"
    [[ ! -e $phone_prefix/var/service/pocketfleet-engine ]] || fail "the service is still there"
    [[ ! -e $pocketfleet/engine && ! -e $pocketfleet/config ]] || fail "left: $(ls "$pocketfleet")"
}
@test "uninstall --purge leaves the home and prefix as they were, but for packages" {
    on_phone pkg install -y ollama termux-services termux-api >/dev/null
    local packaged
    packaged=$(contents | grep -v ' d ' | grep -vE '^usr/bin/|\.ollama')
    install --engine ollama --model qwen2.5:1.5b
    run -0 phone uninstall --purge --yes
    same "$packaged" "$(contents | grep -v ' d ' | grep -vE '^usr/bin/|\.ollama')" "uninstall --purge left or took something"
}
@test "uninstall where nothing is installed says so and changes nothing" {
    run -0 phone uninstall --yes
    same "$bare" "$(contents)" "uninstall on a bare phone"
}
@test "uninstall twice" {
    install --engine ollama --model qwen2.5:1.5b
    run -0 phone uninstall --yes --purge
    run -0 phone uninstall --yes --purge
}
@test "uninstall touches no file of the user's and follows no link out" {
    mkdir -p "$phone_home/.termux/boot" "$phone_root/outside"
    echo mine >"$phone_home/.termux/boot/20-mine"
    echo mine >"$phone_root/outside/file"
    install --engine ollama --model qwen2.5:1.5b
    ln -s "$phone_root/outside" "$pocketfleet/models/elsewhere" || mkdir -p "$pocketfleet/models"
    run -0 phone uninstall --yes --purge
    [[ -f $phone_home/.termux/boot/20-mine ]] || fail "the user's boot script is gone"
    [[ -f $phone_root/outside/file ]] || fail "a file outside is gone"
}
@test "the one-argument form installs, starts, and prints the entry and the address" {
    run -0 phone qwen2.5:1.5b --port "$engine_port"
    assert_output --partial '"model"'
    assert_output --partial "127.0.0.1"
    run -0 curl -s "http://127.0.0.1:$engine_port/api/tags"
    assert_output --partial qwen2.5:1.5b
}
@test "installed again with another model: the model changes, the rest is unchanged" {
    install --engine ollama --model qwen2.5:1.5b
    : >"$stub_state/log"
    install --model llama3.2:1b
    run -0 phone print-config
    assert_output --partial llama3.2:1b
    assert_equal "$(grep -cE '^pkg install' "$stub_state/log")" 0
}
@test "options of the install are remembered: start, status and print-config need none" {
    install --engine ollama --model qwen2.5:1.5b --ctx 2048 --parallel 2 --name my-phone
    run -0 grep -E '2048' "$phone_prefix/var/service/pocketfleet-engine/run" "$pocketfleet/config"
    install
    assert_output --partial unchanged
    run -0 grep -E '2048' "$pocketfleet/config"
}
@test "the device id is made once and survives update and reinstall" {
    install --engine ollama --model qwen2.5:1.5b
    local id
    id=$(cat "$pocketfleet/id")
    assert_regex "$id" '^[A-Za-z0-9._-]{1,64}$'
    run -0 phone update --yes
    install --model llama3.2:1b
    assert_equal "$(cat "$pocketfleet/id")" "$id"
}
@test "an edited config is data: no command in it is executed" {
    install --engine ollama --model qwen2.5:1.5b
    # shellcheck disable=SC2016
    printf '%s\n' 'NAME=$(touch "$HOME/owned")' 'touch "$HOME/owned2"' 'ALIAS=x;touch "$HOME/owned3"' >>"$pocketfleet/config"
    run phone status
    run phone print-config
    run phone start
    run find "$phone_home" . -maxdepth 1 -name 'owned*'
    assert_output ""
}
@test "a package that cannot be installed: exit 1, which one, and a rerun finishes" {
    rule pkg '*install*' fail 100
    run -1 phone install --yes --model qwen2.5:1.5b --port "$engine_port"
    assert_output --partial "pkg install"
    no_rules
    install --model qwen2.5:1.5b
}
@test "a model that cannot be pulled: exit 1 with the engine's words, and a rerun finishes" {
    touch "$stub_state/pull.refuse"
    run -1 phone install --yes --model qwen2.5:1.5x --port "$engine_port"
    assert_output --partial "file does not exist"
    rm "$stub_state/pull.refuse"
    install --model qwen2.5:1.5b
}
@test "progress of a pull is shown in percent and bytes" {
    install --engine ollama --model qwen2.5:1.5b
    assert_output --regexp '(25|50|75|100) ?%'
    assert_output --regexp '[0-9.]+ ?(MB|MiB|GB|GiB|bytes)'
}
@test "POCKETFLEET_HOME puts everything elsewhere" {
    phone_env+=(POCKETFLEET_HOME="$phone_home/elsewhere/pf")
    install --engine ollama --model qwen2.5:1.5b
    [[ -f $phone_home/elsewhere/pf/config ]] || fail "expected the config below POCKETFLEET_HOME"
    [[ ! -e $pocketfleet ]] || fail "something is in ~/pocketfleet: $(ls -R "$pocketfleet")"
    run -0 phone uninstall --yes --purge
    [[ ! -e $phone_home/elsewhere/pf ]] || fail "left: $(find "$phone_home/elsewhere/pf")"
}
@test "a home with a blank and a quote in its path" {
    mv "$phone_home" "$phone_root/my home's"
    phone_home="$phone_root/my home's"
    phone_env+=(HOME="$phone_home")
    install --engine llama-release "${release[@]}" --model "$phone_root/m.gguf"
    run -0 phone start
    run -0 curl -s "http://127.0.0.1:$engine_port/health"
    run -0 phone uninstall --yes --purge
}
