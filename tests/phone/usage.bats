#!/usr/bin/env bats
# Wrong usage: exit 2, a message that names what was wrong, and nothing written.
load helpers
setup() {
    setup_phone
    before=$(contents)
}
teardown() { teardown_phone; }

refused() { # refused PART_OF_THE_MESSAGE ARGUMENT...
    local part=$1
    shift
    run phone "$@"
    [[ $status == 2 ]] || fail "expected exit code 2 for: $* - got $status: $output"
    assert_output --partial "$part"
    same "$before" "$(contents)" "after '$*' was refused"
}

@test "no argument at all: the usage, exit 2" {
    run -2 phone
    assert_output --partial "phone_setup.sh"
    same "$before" "$(contents)" "after no argument"
}
@test "--help: the usage, exit 0, every verb and option of it" {
    run -0 phone --help
    local word
    for word in install start stop restart status doctor update uninstall --purge print-config agent --engine --role \
        --model --sha256 --alias --ctx --parallel --keep-alive --port --bind --api-key-file --i-trust-this-lan --threads \
        --flash-attn --gpu --rpc --tensor-split --ngl --gateway --token-file --device-id --name --interval --tunnel \
        --remote-port --tunnel-host-key --autostart --wake-lock --engine-url --engine-sha256 --dry-run --yes; do
        assert_output --partial -- "$word"
    done
    same "$before" "$(contents)" "after --help"
}
@test "an unknown option" { refused --engin install --model qwen2.5:1.5b --engin ollama; }
@test "an unknown option is not passed over because of a dry run" { refused --dry-runn qwen2.5:1.5b --dry-run --dry-runn; }
@test "an option without its value" { refused --port install --model qwen2.5:1.5b --port; }
@test "an option whose value is the next option" { refused --port install --model qwen2.5:1.5b --port --yes; }
@test "two models" { refused llama3 qwen2.5:1.5b llama3; }
@test "an engine that is none" { refused vllm install --model qwen2.5:1.5b --engine vllm; }
@test "a role that is none" { refused boss install --model qwen2.5:1.5b --role boss; }
@test "ports that are none" {
    refused 0 install --model a:b --port 0
    refused 65536 install --model a:b --port 65536
    refused 80x install --model a:b --port 80x
    refused 123456789012345678901234567890 install --model a:b --port 123456789012345678901234567890
}
@test "numbers that are none" {
    refused many install --model a:b --ctx many
    refused -- -1 install --model a:b --ctx=-1
    refused 0 install --model a:b --parallel 0
    refused some install --model a:b --threads some
    refused 0 install --model a:b --threads 0
    refused 1 install --model a:b --interval 1
    refused 301 install --model a:b --interval 301
}
@test "words that are none" {
    refused maybe install --model a:b --flash-attn maybe
    refused cuda install --model a:b --gpu cuda
    refused forever install --model a:b --keep-alive forever
}
@test "sums that are none" {
    refused abc install --model a:b --sha256 abc
    refused zz install --model a:b --engine llama-release --engine-url file:///x --engine-sha256 "$(printf 'zz%.0s' {1..32})"
}
@test "an address that is none" { refused 'not an' install --model a:b --bind 'not an address'; }
@test "a gateway that is no address" { refused ftp install --model a:b --gateway ftp://x; }
@test "a tunnel that is none" {
    refused nobody install --model a:b --tunnel nobody
    refused 99999 install --model a:b --tunnel me@host:99999
    refused -- -oProxyCommand=x install --model a:b --tunnel=-oProxyCommand=x@host
}
@test "a device id outside its alphabet" {
    refused 'a b' install --model a:b --device-id 'a b'
    refused id install --model a:b --device-id "$(printf 'a%.0s' {1..65})"
}
@test "files that are not there" {
    refused /nowhere/key install --model /m.gguf --engine llama-pkg --api-key-file /nowhere/key
    refused /nowhere/token install --model a:b --gateway http://127.0.0.1:1 --token-file /nowhere/token
}
@test "a worker needs the build with RPC; a master needs workers" {
    refused llama-release install --role rpc-worker --engine ollama
    refused --rpc install --role rpc-master --engine llama-release --model file:///m.gguf
    refused llama-release install --role rpc-worker --engine llama-pkg
}
@test "workers' addresses and shares that are none" {
    refused nothing install --role rpc-master --engine llama-release --model file:///m.gguf --rpc nothing
    refused half install --role rpc-master --engine llama-release --model file:///m.gguf --rpc 127.0.0.1:50052 --tensor-split 1,half
}
@test "values with newlines and quotes are refused or harmless" {
    run phone install --model $'a\nPORT=1' --dry-run
    assert_failure 2
    run phone install --model a:b --name $'x\ny' --dry-run
    assert_failure 2
    # shellcheck disable=SC2016
    run phone install --model '$(touch owned)`touch owned`;touch owned' --dry-run --yes
    [[ ! -e owned && ! -e $phone_home/owned ]] || fail "the model's name was executed"
    same "$before" "$(contents)" "after names with shell in them"
}
