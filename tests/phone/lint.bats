#!/usr/bin/env bats
# The script and the tests' own shell code have no finding of shellcheck's.
load helpers
@test "shellcheck: the script" {
    type -P shellcheck >/dev/null || skip "no shellcheck"
    run -0 shellcheck -x "$script"
}
@test "shellcheck: the stubs" {
    type -P shellcheck >/dev/null || skip "no shellcheck"
    cd "$root" || return
    run -0 shellcheck -x -P "$root" tests/phone/stubs/bin/* tests/phone/stubs/common.bash tests/phone/stubs/svlogger \
        tests/phone/stubs/start-services.sh
}
@test "shellcheck: the tests" {
    type -P shellcheck >/dev/null || skip "no shellcheck"
    cd "$root" || return
    # SC2030/SC2031: each test is a subshell. SC2034: variables of helpers.bash. SC2154: those of helpers and bats.
    # SC2016: eval of what until_true is given.
    run -0 shellcheck -x -e SC1091,SC2016,SC2030,SC2031,SC2034,SC2154 tests/phone/*.bats tests/phone/helpers.bash
}
@test "the script calls neither python nor jq, and nothing of /system" {
    run grep -nE '(^|[^a-z-])(python3?|jq|perl) |(^|[ "=(])/system/' "$script"
    assert_output ""
}
@test "every command that can wait for the outside has a time limit" {
    # `curl "$@"` is given its limit by those who call it.
    run bash -c 'grep -nE "^[[:space:]]*(curl|pkg|pm|dumpsys|termux-battery-status|termux-wifi-connectioninfo|ssh-keyscan) " "$1" |
        grep -vF "curl \"\$@\""' _ "$script"
    assert_output ""
}
