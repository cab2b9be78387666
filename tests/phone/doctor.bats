#!/usr/bin/env bats
# doctor: each thing that will bite, with its remedy; exit 3 for those, 0 for a healthy phone.
load helpers
setup() {
    setup_phone
    services_run
    start_gateway
    make_model "$phone_root/m.gguf"
}
teardown() { teardown_phone; }

installed() {
    run -0 phone install --yes --engine ollama --model qwen2.5:1.5b --port "$engine_port" --gateway "$gateway" "$@"
}
doctor() { run phone doctor; }
bites() { [[ $status == 3 ]] || fail "expected exit code 3, got $status: $output"; }
does_not_bite() { [[ $status == 0 ]] || fail "expected exit code 0, got $status: $output"; }

@test "a healthy phone: exit 0" {
    installed
    doctor
    does_not_bite
}
@test "a bare healthy phone before any install: exit 0, and nothing is written" {
    local before
    before=$(contents)
    doctor
    does_not_bite
    same "$before" "$(contents)" "doctor writes nothing"
}
@test "32-bit: bites, with what to do" {
    echo armv8l >"$stub_state/arch"
    property ro.product.cpu.abi armeabi-v7a
    property ro.product.cpu.abilist armeabi-v7a,armeabi
    doctor
    bites
    assert_output --partial arm
    assert_output --partial aarch64
}
@test "Termux of Google Play: bites, F-Droid is named" {
    phone_env+=(TERMUX_VERSION=googleplay.2026.02.11)
    doctor
    bites
    assert_output --partial Play
    assert_output --partial F-Droid
}
@test "Termux of Google Play on Android 17: the LAN is blocked, it is said" {
    phone_env+=(TERMUX_VERSION=googleplay.2026.02.11)
    property ro.build.version.release 17
    property ro.build.version.sdk 37
    doctor
    bites
    assert_output --partial LAN
}
@test "F-Droid's Termux on Android 17: no word of the Play Store" {
    property ro.build.version.release 17
    property ro.build.version.sdk 37
    doctor
    refute_output --partial F-Droid
}
@test "no Termux:API app: its name and where from; never called" {
    sed -i /com.termux.api/d "$stub_state/apps"
    doctor
    assert_output --partial Termux:API
    assert_output --partial F-Droid
    assert_equal "$(calls termux-battery-status)" ""
}
@test "the app is there but hangs: said within 15 s" {
    on_phone pkg install -y termux-api >/dev/null
    rule termux-battery-status '*' hang
    local begin=$SECONDS
    doctor
    ((SECONDS - begin <= 15)) || fail "it took $((SECONDS - begin)) s"
    assert_output --partial Termux:API
}
@test "the app is there but the package is not: pkg install termux-api" {
    doctor
    assert_output --partial "pkg install termux-api"
}
@test "no Termux:Boot app while autostart is on: named" {
    installed --autostart
    sed -i /com.termux.boot/d "$stub_state/apps"
    doctor
    assert_output --partial Termux:Boot
}
@test "Android 11: no word of phantom processes" {
    property ro.build.version.release 11
    property ro.build.version.sdk 30
    doctor
    refute_output --partial phantom
}
@test "Android 12: the two device_config lines" {
    property ro.build.version.release 12
    property ro.build.version.sdk 31
    doctor
    assert_output --partial "adb shell device_config set_sync_disabled_for_tests persistent"
    assert_output --partial "adb shell device_config put activity_manager max_phantom_processes 2147483647"
    refute_output --partial settings_enable_monitor_phantom_procs
}
@test "Android 12L: the settings line" {
    property ro.build.version.release 12
    property ro.build.version.sdk 32
    doctor
    assert_output --partial "adb shell settings put global settings_enable_monitor_phantom_procs false"
    refute_output --partial max_phantom_processes
}
@test "Android 13: the settings line" {
    property ro.build.version.release 13
    property ro.build.version.sdk 33
    doctor
    assert_output --partial "adb shell settings put global settings_enable_monitor_phantom_procs false"
}
@test "Android 14: the developer option by its name, and the settings line" {
    doctor
    assert_output --partial "Disable child process restrictions"
    assert_output --partial "adb shell settings put global settings_enable_monitor_phantom_procs false"
}
@test "doze: the deviceidle line" {
    doctor
    assert_output --partial "adb shell dumpsys deviceidle whitelist +com.termux"
}
@test "too little free storage for the model bites, with both numbers" {
    installed --engine llama-pkg --model "$phone_root/m.gguf"
    echo 20 >"$stub_state/free_kb"
    doctor
    bites
    assert_output --regexp 'storage|disk|space'
    assert_output --regexp '[0-9.]+ ?(kB|KiB|MB|MiB|GB|GiB)'
}
@test "too little memory for the model bites, with both numbers" {
    memory 1800000 300000
    installed
    doctor
    bites
    assert_output --partial memory
    assert_output --regexp '[0-9.]+ ?(MB|MiB|GB|GiB|kB)'
}
@test "a gateway that does not answer bites, with its address" {
    installed
    kill "$gateway_pid"
    until_true 5 eval '! answers "$gateway/"'
    doctor
    bites
    assert_output --partial "$gateway"
}
@test "a gateway that takes the connection and says nothing: bites, in bounded time" {
    installed
    kill "$gateway_pid"
    until_true 5 eval '! answers "$gateway/"'
    python3 -c 'import socket, sys, time
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); s.bind(("127.0.0.1", int(sys.argv[1]))); s.listen(50); time.sleep(600)' "$gateway_port" 3>&- &
    servers+=("$!")
    local begin=$SECONDS
    doctor
    bites
    ((SECONDS - begin <= 20)) || fail "it took $((SECONDS - begin)) s"
}
@test "a service that is installed but does not run: said" {
    installed
    run phone stop
    doctor
    assert_output --partial pocketfleet
    assert_output --regexp 'start|not running|down|stopped'
}
@test "an engine on the LAN without a key is said" {
    installed --bind 0.0.0.0 --i-trust-this-lan
    doctor
    assert_output --regexp 'LAN|0\.0\.0\.0'
}
@test "every command of Android and Termux hangs: doctor still ends within 60 s" {
    on_phone pkg install -y termux-api termux-services >/dev/null
    local command
    for command in pm getprop am dumpsys settings termux-battery-status termux-wifi-connectioninfo termux-info ifconfig sv pkg dpkg; do
        rule "$command" '*' hang
    done
    local begin=$SECONDS
    phone_limit=90 doctor
    ((SECONDS - begin <= 60)) || fail "it took $((SECONDS - begin)) s"
    [[ $status != 124 ]] || fail "it had to be ended"
}
@test "every command of Android fails: doctor ends, and what it cannot know it calls unknown" {
    local command
    for command in pm getprop am dumpsys settings termux-info ifconfig; do rule "$command" '*' fail 255; done
    doctor
    assert_output --partial unknown
}
