# Sourced by every command in bin/: writes down the call, then does what the test asked for. shellcheck shell=bash
#
#   $STUB_STATE/log             one line a call: the command and its arguments, quoted like %q
#   $STUB_STATE/times           the same with the second before it
#   $STUB_STATE/rules/COMMAND   lines PATTERN<TAB>ACTION<TAB>VALUE; the first whose pattern (a glob over the arguments,
#                               joined by a blank) fits is obeyed:
#                                 fail RC      says so on stderr and leaves with RC
#                                 hang         writes its pid to $STUB_STATE/hung/COMMAND and sleeps
#                                 answer FILE  prints FILE and leaves with 0
#   $STUB_STATE/hung/COMMAND    there as soon as a hanging call hangs
: "${STUB_STATE:?the stubs need STUB_STATE}" "${STUB_SLEEP:?and the real sleep}"
stub_name=${0##*/}
{
    printf -v stub_line '%q ' "$stub_name" "$@"
    printf '%s\n' "${stub_line% }" >>"$STUB_STATE/log"
    printf '%s %s\n' "$EPOCHREALTIME" "${stub_line% }" >>"$STUB_STATE/times"
}
if [[ -f $STUB_STATE/rules/$stub_name ]]; then
    while IFS=$'\t' read -r stub_pattern stub_action stub_value; do
        # shellcheck disable=SC2053  # a glob on purpose
        [[ "$*" == $stub_pattern ]] || continue
        case $stub_action in
            fail)
                echo "$stub_name: stub told to fail with $stub_value" >&2
                exit "$stub_value"
                ;;
            hang)
                mkdir -p "$STUB_STATE/hung"
                echo "$$" >"$STUB_STATE/hung/$stub_name.new"
                mv "$STUB_STATE/hung/$stub_name.new" "$STUB_STATE/hung/$stub_name"
                exec "$STUB_SLEEP" 600
                ;;
            answer)
                cat "$stub_value"
                exit 0
                ;;
        esac
    done <"$STUB_STATE/rules/$stub_name"
fi
