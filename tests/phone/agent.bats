#!/usr/bin/env bats
# The agent on the phone: what it tells the gateway, when, and what it does when nobody or nothing answers.
load helpers

setup() {
    setup_phone
    real_sleep
    on_phone pkg install -y termux-api >/dev/null
    token_file=$phone_root/token
    echo "t0ken-Secret-81" >"$token_file"
    chmod 600 "$token_file"
}
teardown() { teardown_phone; }

# agent ARGUMENT...: in the background until the test ends; its output is in $agent_log
start_agent() {
    agent_log=$phone_root/agent.log
    on_phone "$phone_prefix/bin/bash" "$phone_home/phone_setup.sh" agent --gateway "$gateway" --token-file "$token_file" \
        --device-id pf-0123456789ab --port "$engine_port" --interval 2 "$@" >"$agent_log" 2>&1 &
}
once() {
    run -0 phone agent --once --gateway "$gateway" --token-file "$token_file" --device-id pf-0123456789ab \
        --port "$engine_port" "$@"
}

# Pauses of the agent shrink to nothing; what it wanted to sleep is written down, short waits apart.
without_sleeping() {
    rm "$phone_prefix/bin/sleep"
    cat >"$phone_prefix/bin/sleep" <<SLEEP
#!/bin/sh
case \$1 in 0.[0-4]*) ;; *) echo "\$1" >>"$stub_state/sleeps" ;; esac
exec "\$STUB_SLEEP" 0.1
SLEEP
    chmod +x "$phone_prefix/bin/sleep"
}

@test "one beat: POST with the token and every key of the contract" {
    start_gateway
    once --name pixel-8 --interval 7
    [[ $(beats) == 1 ]] || fail "expected one heartbeat, got $(beats): $(cat "$gateway_folder/requests")"
    assert_equal "$(beat 1 'method')" POST
    assert_equal "$(beat 1 'headers["authorization"]')" "Bearer t0ken-Secret-81"
    assert_equal "$(beat 1 'headers.get("content-type")')" application/json
    assert_equal "$(beat 1 'sorted(body)')" \
        '["battery", "boot_id", "engine", "id", "interval_s", "memory", "name", "seq", "tunnel_port", "uptime_s", "wifi"]'
    assert_equal "$(beat 1 'sorted(body["engine"])')" '["kind", "models", "port", "up", "version"]'
    assert_equal "$(beat 1 'sorted(body["battery"])')" '["charging", "current_ua", "level", "temperature_c"]'
    assert_equal "$(beat 1 'sorted(body["memory"])')" '["available_kb", "total_kb"]'
    assert_equal "$(beat 1 'sorted(body["wifi"])')" '["link_mbps", "rssi_dbm"]'
    assert_equal "$(beat 1 'body["id"]')" pf-0123456789ab
    assert_equal "$(beat 1 'body["boot_id"]')" 0d9b6a9e-3a0c-4b0e-9a43-0123456789ab
    assert_equal "$(beat 1 'body["seq"]')" 1
    assert_equal "$(beat 1 'body["name"]')" pixel-8
    assert_equal "$(beat 1 'body["interval_s"]')" 7
    assert_equal "$(beat 1 'body["tunnel_port"]')" null
}

@test "an RPC worker says how the phone is, and nothing of an engine; nobody knocks at its port" {
    start_gateway
    once --engine llama-release --engine-sha256 unchecked --role rpc-worker
    assert_equal "$(beat 1 'body["engine"]')" '{"kind": null, "version": null, "port": null, "up": null, "models": []}'
    assert_equal "$(beat 1 'sorted(body["battery"])')" '["charging", "current_ua", "level", "temperature_c"]'
    refute grep -q ":$engine_port/" "$stub_state/log"
}

@test "numbers stay what they are: decimals, minus signs, no rounding" {
    start_gateway
    once
    assert_equal "$(beat 1 'body["battery"]')" \
        '{"temperature_c": 33.2, "level": 81, "charging": true, "current_ua": -120000}'
    assert_equal "$(beat 1 'body["wifi"]')" '{"rssi_dbm": -61, "link_mbps": 433}'
    assert_equal "$(beat 1 'body["memory"]')" '{"total_kb": 7600000, "available_kb": 4200000}'
    assert_equal "$(beat 1 'body["uptime_s"]')" 86400.5
}

@test "charging is null for an unknown word, false for UNPLUGGED, true for each PLUGGED_ one" {
    start_gateway
    local n=0 plugged wanted
    while read -r plugged wanted; do
        no_rules
        rule termux-battery-status '*' answer '{"plugged": "'"$plugged"'", "temperature": 40, "level": 5, "percentage": 5, "current": 7}'
        once
        n=$((n + 1))
        assert_equal "$plugged $(beat "$n" 'body["battery"]["charging"]')" "$plugged $wanted"
        assert_equal "$(beat "$n" 'float(body["battery"]["temperature_c"])')" 40.0
    done <<'TABLE'
UNPLUGGED false
PLUGGED_AC true
PLUGGED_USB true
PLUGGED_WIRELESS true
PLUGGED_DOCK true
TABLE
}

@test "without the Termux:API app, /proc and an engine everything unknown is null, never 0 and never left out" {
    start_gateway
    sed -i /com.termux.api/d "$stub_state/apps"
    rm -rf "$phone_root/proc"
    mkdir "$phone_root/proc"
    once
    assert_equal "$(beat 1 'body["battery"]')" \
        '{"temperature_c": null, "level": null, "charging": null, "current_ua": null}'
    assert_equal "$(beat 1 'body["wifi"]')" '{"rssi_dbm": null, "link_mbps": null}'
    assert_equal "$(beat 1 'body["memory"]')" '{"total_kb": null, "available_kb": null}'
    assert_equal "$(beat 1 'body["boot_id"]')" null
    assert_equal "$(beat 1 'body["uptime_s"]')" null
    assert_equal "$(beat 1 'body["engine"]["up"]')" false
    assert_equal "$(beat 1 'body["engine"]["models"]')" '[]'
    assert_equal "$(calls termux-battery-status)" ""
    assert_equal "$(calls termux-wifi-connectioninfo)" ""
}

@test "nonsense from Termux:API becomes null and the body stays JSON" {
    start_gateway
    rule termux-battery-status '*' answer '{"temperature": "NaN", "level": "", "plugged": null, "current": 12e, "percentage": -}'
    rule termux-wifi-connectioninfo '*' answer '{"API_ERROR": "Location needs to be enabled on the device"}'
    once
    assert_equal "$(beat 1 'body["battery"]["temperature_c"]')" null
    assert_equal "$(beat 1 'body["battery"]["level"]')" null
    assert_equal "$(beat 1 'body["battery"]["charging"]')" null
    assert_equal "$(beat 1 'body["wifi"]')" '{"rssi_dbm": null, "link_mbps": null}'
}

@test "an engine that answers is up, with its version and its models; one that does not is down with none" {
    start_gateway
    printf '%s\n' qwen2.5:1.5b llama3.2:1b >"$stub_state/ollama.models"
    once --engine ollama
    assert_equal "$(beat 1 'body["engine"]["up"]')" false
    assert_equal "$(beat 1 'body["engine"]["kind"]')" ollama
    on_phone OLLAMA_HOST="127.0.0.1:$engine_port" "$tests/stubs/bin/ollama" serve 3>&- &
    until_true 10 answers "http://127.0.0.1:$engine_port/"
    once --engine ollama
    assert_equal "$(beat 2 'body["engine"]')" \
        '{"kind": "ollama", "version": "0.31.1", "port": '"$engine_port"', "up": true, "models": ["qwen2.5:1.5b", "llama3.2:1b"]}'
}

@test "a llama-server's models come from /v1/models" {
    start_gateway
    on_phone "$tests/stubs/bin/llama-server" -m x --alias 'qwen2.5-1.5b' --port "$engine_port" 3>&- &
    until_true 10 answers "http://127.0.0.1:$engine_port/health"
    once --engine llama-release
    assert_equal "$(beat 1 'body["engine"]["kind"]')" llama-server
    assert_equal "$(beat 1 'body["engine"]["up"]')" true
    assert_equal "$(beat 1 'body["engine"]["models"]')" '["qwen2.5-1.5b"]'
}

@test "a model with quotes, backslashes and umlauts in its name leaves the body JSON" {
    start_gateway
    printf '%s\n' 'a"b\c:ü' plain >"$stub_state/ollama.models"
    on_phone OLLAMA_HOST="127.0.0.1:$engine_port" "$tests/stubs/bin/ollama" serve 3>&- &
    until_true 10 answers "http://127.0.0.1:$engine_port/"
    once --engine ollama
    assert_equal "$(beat 1 'type(body).__name__')" dict
    assert_equal "$(beat 1 '"plain" in body["engine"]["models"]')" true
}

@test "the name is the phone's model made safe when none is given" {
    start_gateway
    property ro.product.model 'SM-G991B "Ultra" 5G/ü'
    once
    assert_regex "$(beat 1 'body["name"]')" '^[A-Za-z0-9._-]+$'
    assert_regex "$(beat 1 'body["name"].lower()')" 'sm-g991b'
}

@test "without --device-id an id is made once and kept" {
    start_gateway
    run -0 phone agent --once --gateway "$gateway" --token-file "$token_file"
    run -0 phone agent --once --gateway "$gateway" --token-file "$token_file"
    assert_regex "$(beat 1 'body["id"]')" '^pf-[A-Za-z0-9._-]{1,61}$'
    assert_equal "$(beat 2 'body["id"]')" "$(beat 1 'body["id"]')"
}

@test "seq counts up from 1 and the interval is kept within its jitter" {
    start_gateway 2
    start_agent
    until_true 12 at_least_beats 3
    assert_equal "$(beat 1 '[b["body"]["seq"] for b in beats][:3]')" "[1, 2, 3]"
    assert_equal "$(beat 1 'all(1.5 < b["time"] - a["time"] < 3.0 for a, b in zip(beats, beats[1:]))')" true
}

@test "the battery is read at most every 30 s, however short the interval" {
    start_gateway 2
    without_sleeping
    start_agent
    until_true 12 at_least_beats 5
    assert_equal "$(calls termux-battery-status | wc -l)" 1
    assert_equal "$(beat 5 'body["battery"]["temperature_c"]')" 33.2
}

@test "a Termux:API that hangs does not hold up the beats for long" {
    start_gateway 2
    rule termux-battery-status '*' hang
    rule termux-wifi-connectioninfo '*' hang
    start_agent
    until_true 30 at_least_beats 3
    assert_equal "$(beat 1 'body["battery"]["temperature_c"]')" null
    # 5 s for each of the two tools at the very most, then the interval
    assert_equal "$(beat 1 'max(b["time"] - a["time"] for a, b in zip(beats, beats[1:])) < 13')" true
    assert_equal "$(beat 1 '2 > beats[2]["time"] - beats[1]["time"] - 2.5')" true
}

@test "an engine that hangs does not hold up the beats for long and is down" {
    start_gateway 2
    python3 -c 'import socket, sys, time
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); s.bind(("127.0.0.1", int(sys.argv[1]))); s.listen(50); time.sleep(600)' "$engine_port" 3>&- &
    servers+=("$!")
    start_agent --engine ollama
    until_true 20 at_least_beats 2
    assert_equal "$(beat 1 'body["engine"]["up"]')" false
    assert_equal "$(beat 1 'beats[1]["time"] - beats[0]["time"] < 8')" true
}

@test "the interval of the answer is taken over, within 2..300" {
    start_gateway 3
    without_sleeping
    start_agent --interval 2
    until_true 12 at_least_beats 3
    assert_equal "$(beat 1 '[b["body"]["interval_s"] for b in beats][:3]')" "[2, 3, 3]"
    assert_equal "$(awk '$1 < 2.6 || $1 > 3.4' "$stub_state/sleeps")" ""
    local wanted so_far
    for wanted in 0:2 -5:2 1:2 7.9:7 1000000:300; do
        gateway_says 200 '{"phone":"pixel-8","state":"serving","reason":null,"interval_s":'"${wanted%:*}"'}'
        so_far=$(beats)
        until_true 12 at_least_beats $((so_far + 3))
        # -5 is no interval at all: the one before stays, which is 2
        assert_equal "$wanted $(beat $((so_far + 3)) 'body["interval_s"]')" "$wanted ${wanted#*:}"
    done
}

@test "an answer that is not JSON does not end the agent" {
    start_gateway 2
    gateway_says 200 '<html>'
    without_sleeping
    start_agent
    until_true 12 at_least_beats 2
    gateway_says 200 ''
    until_true 12 at_least_beats 4
}

@test "when the gateway fails it waits 1, 2, 4, 8 s, and goes on with the interval when it is back" {
    start_gateway 2
    gateway_says 503 '{"error":"busy"}'
    without_sleeping
    start_agent
    until_true 15 at_least_beats 5
    run -0 head -n 4 "$stub_state/sleeps"
    local n
    for n in 0 1 2 3; do
        awk -v got="${lines[n]}" -v wanted=$((1 << n)) 'BEGIN { exit !(got > wanted * 0.45 && got < wanted * 1.55) }' ||
            fail "pause $((n + 1)) was ${lines[n]} s, expected about $((1 << n)) s"
    done
    gateway_says 200 '{"phone":"pixel-8","state":"serving","reason":null,"interval_s":2}'
    local so_far
    so_far=$(beats)
    until_true 10 at_least_beats $((so_far + 3))
    run -0 tail -n 1 "$stub_state/sleeps"
    assert_regex "$output" '^(1\.[789]|2)'
}
@test "the pauses are real: a beat that failed is tried again after a second, not at once" {
    start_gateway 2
    gateway_says 503 '{"error":"busy"}'
    start_agent
    until_true 10 at_least_beats 2
    assert_equal "$(beat 1 '0.5 < beats[1]["time"] - beats[0]["time"] < 3')" true
}

@test "a gateway that comes later is found, and one that goes away and comes back too" {
    start_gateway 2
    kill "$gateway_pid"
    without_sleeping
    start_agent
    until_true 5 grep -q . "$agent_log"
    start_gateway 2
    until_true 10 at_least_beats 2
    kill "$gateway_pid"
    until_true 10 eval '! answers "$gateway/"'
    start_gateway 2
    until_true 10 at_least_beats 2
}

@test "the pauses grow to 60 s and no further" {
    start_gateway 2
    gateway_says 500 '{"error":"no"}'
    without_sleeping
    start_agent
    until_true 20 at_least_beats 9
    run -0 awk '{ if ($1 > 66.1) bad = 1; if ($1 > 40) long = 1 } END { exit bad || !long }' "$stub_state/sleeps"
}

refused_for_good() {
    start_gateway 2
    gateway_says "$1" '{"error":"no"}'
    without_sleeping
    start_agent
    until_true 20 at_least_beats 4
    # The number in brackets, or as "answers 403"; ports may have the same digits.
    assert_equal "$1 said $(grep -cE "(\\(|[Hh][Tt][Tt][Pp] |answers )$1" "$agent_log") times" "$1 said 1 times"
    assert_equal "$(awk '$1 < 50' "$stub_state/sleeps")" ""
}
@test "401 is said once and tried again every 60 s" {
    refused_for_good 401
    assert_regex "$(cat "$agent_log")" token
}
@test "403 is said once and tried again every 60 s" { refused_for_good 403; }
@test "404 is said once and tried again every 60 s" { refused_for_good 404; }

@test "the token is on no command line" {
    start_gateway 2
    start_agent
    until_true 12 at_least_beats 1
    refute_line_in_log t0ken-Secret
    rule curl '*' hang
    until_true 12 test -e "$stub_state/hung/curl"
    run grep -lsaF t0ken-Secret-81 /proc/[0-9]*/cmdline
    assert_output ""
    assert_equal "$(beat 1 'headers["authorization"]')" "Bearer t0ken-Secret-81"
    run cat "$agent_log"
    refute_output --partial t0ken-Secret-81
}
refute_line_in_log() {
    run grep -F "$1" "$stub_state/log"
    assert_output ""
}

@test "without a gateway the agent says so and does not start" {
    run phone agent --once --gateway none
    assert_failure
    assert_output --partial gateway
}

@test "one beat that is refused ends with 1 and the gateway's words" {
    start_gateway
    gateway_says 400 '{"error":"battery.level: expected 0..100, found 181"}'
    run -1 phone agent --once --gateway "$gateway" --token-file "$token_file" --device-id pf-0123456789ab
    assert_output --partial "battery.level: expected 0..100"
}
