#!/usr/bin/env bats
# Downloads: resumable, checked, never half a file under its name.
load helpers
setup() {
    setup_phone
    services_run
    start_files
    make_model "$files_folder/m.gguf" 512
    make_release "$files_folder/llama-b11000-bin-android-arm64.tar.gz"
    sum=$(sha256_of "$files_folder/m.gguf")
    release_sum=$(sha256_of "$files_folder/llama-b11000-bin-android-arm64.tar.gz")
    install=(install --yes --port "$engine_port" --engine llama-release
        --engine-url "$files/llama-b11000-bin-android-arm64.tar.gz" --engine-sha256 "$release_sum" --model "$files/m.gguf")
}
teardown() { teardown_phone; }
# in_runs N ARGUMENT...: some run of the first N succeeds; each begins where the one before stopped
in_runs() {
    local most=$1 n
    shift
    for ((n = 1; n <= most; n++)); do
        run phone "$@"
        if ((status == 0)); then return; fi
        ((status == 1)) || fail "run $n: exit code $status: $output"
    done
    fail "not done in $most runs: $output"
}
model_file() { find "$pocketfleet/models" -name '*.gguf' | head -n1; }

@test "a download that breaks off goes on where it was, in the same run or the next" {
    echo 2 >"$files_control/cut"
    in_runs 3 "${install[@]}" --sha256 "$sum"
    cmp "$files_folder/m.gguf" "$(model_file)"
    run -0 grep -E 'bytes=[1-9][0-9]*- 206' "$files_control/requests"
    run -0 phone "${install[@]}" --sha256 "$sum"
    assert_output --partial unchanged
}
@test "a sum that does not fit: exit 1, both sums are said, nothing under the model's name" {
    local wrong
    wrong=$(printf '0%.0s' {1..64})
    run -1 phone "${install[@]}" --sha256 "$wrong"
    assert_output --partial "$wrong"
    assert_output --partial "$sum"
    assert_equal "$(model_file)" ""
    run -0 phone "${install[@]}" --sha256 "$sum"
    cmp "$files_folder/m.gguf" "$(model_file)"
}
@test "an engine whose sum does not fit is not unpacked" {
    local wrong
    wrong=$(printf 'f%.0s' {1..64})
    install[9]=$wrong
    run -1 phone "${install[@]}"
    assert_output --partial "$wrong"
    assert_output --partial "$release_sum"
    run find "$pocketfleet/engine" -name llama-server
    assert_output ""
}
@test "another release by URL without its sum is refused" {
    run phone install --yes --engine llama-release --engine-url "$files/llama-b11000-bin-android-arm64.tar.gz" --model "$files/m.gguf"
    assert_failure 2
    assert_output --partial -- --engine-sha256
}
@test "the sum may be written in capitals" {
    run -0 phone "${install[@]}" --sha256 "${sum^^}"
}
@test "a server without Range: from the start again, and right in the end" {
    touch "$files_control/no-range"
    echo 1 >"$files_control/cut"
    in_runs 3 "${install[@]}" --sha256 "$sum"
    cmp "$files_folder/m.gguf" "$(model_file)"
}
@test "a whole .part of an earlier run is taken (416 is no failure)" {
    run -0 phone "${install[@]}" --sha256 "$sum"
    local file
    file=$(model_file)
    mv "$file" "$file.part"
    run -0 phone "${install[@]}" --sha256 "$sum"
    cmp "$files_folder/m.gguf" "$(model_file)"
}
@test "a .part longer than or different from the file does not end in a wrong model" {
    run -0 phone "${install[@]}" --sha256 "$sum"
    local file
    file=$(model_file)
    rm "$file"
    head -c 300000 /dev/urandom >"$file.part"
    in_runs 2 "${install[@]}" --sha256 "$sum"
    cmp "$files_folder/m.gguf" "$(model_file)"
}
@test "a model that is not there: exit 1 and 404 or 'not found' is said" {
    install[11]=$files/nowhere.gguf
    run -1 phone "${install[@]}"
    assert_output --regexp '404|[Nn]ot [Ff]ound'
    assert_equal "$(model_file)" ""
}
@test "what is no GGUF is refused, as a page that asks one to log in would be" {
    echo '<html>Please log in</html>' >"$files_folder/page.gguf"
    install[11]=$files/page.gguf
    run -1 phone "${install[@]}"
    assert_output --partial GGUF
}
@test "progress is shown: percent and bytes" {
    run -0 phone "${install[@]}" --sha256 "$sum"
    assert_output --regexp 'm\.gguf: .* of .*\([0-9]+ ?%\)'
    assert_output --regexp '[0-9.]+ ?([kKM]i?B|bytes)'
}
@test "too little free storage: said before anything is fetched" {
    echo 100 >"$stub_state/free_kb"
    run phone "${install[@]}" --sha256 "$sum"
    assert_failure
    assert_output --regexp 'space|storage|free|disk'
    [[ $(cat "$files_control/requests") != *"GET /m.gguf"* ]] || fail "it was fetched all the same"
}
@test "a model from a local path is used, and its sum checked" {
    install[11]=$files_folder/m.gguf
    run -1 phone "${install[@]}" --sha256 "$(printf '1%.0s' {1..64})"
    assert_output --partial "$sum"
    run -0 phone "${install[@]}" --sha256 "$sum"
}
@test "a local path that is not there: says so" {
    install[11]=/nowhere/m.gguf
    run phone "${install[@]}"
    assert_failure
    assert_output --partial /nowhere/m.gguf
}
@test "an archive with paths that lead out writes nothing outside" {
    local evil=$phone_root/evil
    mkdir -p "$evil/llama-b1"
    cp "$tests/stubs/bin/llama-server" "$evil/llama-b1/"
    echo owned >"$evil/owned"
    tar -C "$evil/llama-b1" -czPf "$files_folder/evil.tar.gz" ../owned llama-server
    install[7]=$files/evil.tar.gz
    install[9]=$(sha256_of "$files_folder/evil.tar.gz")
    run phone "${install[@]}"
    run find "$phone_home" "$phone_prefix" -name owned ! -path "*/engine/*/*"
    assert_output ""
}
@test "a plain http address without a sum is warned of" {
    run -0 phone "${install[@]}"
    assert_output --regexp 'sha256|not checked|unchecked'
}
