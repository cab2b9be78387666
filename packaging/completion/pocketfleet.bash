# Completion of pocketfleet's subcommands and options for bash. The program itself is asked, so that this is never out
# of date.

# The left column of a section of a --help: _pocketfleet_words SECTION PROGRAM [SUBCOMMAND...]
_pocketfleet_words() {
    local section=$1
    shift
    "$@" --help 2>/dev/null | awk -v section="$section:" '
        /^[A-Za-z].*:$/ { inside = $0 == section; next }
        inside && /^  [^ ]/ { n = split($1, names, ","); for (i = 1; i <= n; i++) print names[i] }'
}

# The values that an option may take, where --help names them: TEXT:{one,other}
_pocketfleet_values() {
    local option=$1
    shift
    "$@" --help 2>/dev/null | sed -n "s/^  \(-[^ ]*,\)\{0,1\}$option [^ ]*:{\([^}]*\)}.*/\2/p" | tr ',' '\n'
}

_pocketfleet() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} words=("${COMP_WORDS[0]}") i
    # What stands before the cursor and is a subcommand leads deeper.
    for ((i = 1; i < COMP_CWORD; i++)); do
        if _pocketfleet_words Subcommands "${words[@]}" | grep -qxF -- "${COMP_WORDS[i]}"; then
            words+=("${COMP_WORDS[i]}")
        fi
    done
    COMPREPLY=()
    local -a known=()
    mapfile -t known < <(_pocketfleet_values "$before" "${words[@]}")
    if ((${#known[@]} == 0)) && [[ $word == -* ]]; then
        mapfile -t known < <(_pocketfleet_words Options "${words[@]}")
    elif ((${#known[@]} == 0)); then
        mapfile -t known < <(_pocketfleet_words Subcommands "${words[@]}")
    fi
    mapfile -t COMPREPLY < <(compgen -W "${known[*]}" -- "$word")
    # Files, where a value or a FILE may stand.
    if ((${#COMPREPLY[@]} == 0 && ${#words[@]} > 1)) && [[ $word != -* ]]; then
        compopt -o default 2>/dev/null
    fi
}
complete -F _pocketfleet pocketfleet
