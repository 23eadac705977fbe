# shellcheck shell=bash
# Sourced by run and extended: named steps, the seconds of each, and a table at the end, also after a failure.

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit
name="" started=0 table=()

step() { # NAME
    end_step
    name=$1
    started=$SECONDS
    printf '\n== %s\n' "$name"
}

end_step() {
    [[ -n $name ]] || return 0
    table+=("$(printf '%5d s  %s' $((SECONDS - started)) "$name")")
    name=""
}

finish() {
    local status=$? failed_in=$name
    end_step
    printf '\n== seconds of each step\n'
    printf '%s\n' "${table[@]}" "$(printf '%5d s  all' "$SECONDS")"
    ((status == 0)) || printf '\nFAILED in: %s\n' "$failed_in"
}
trap finish EXIT

# Installs a cargo subcommand of this version into target/tools, where it is not there.
cargo_tool() { # NAME VERSION
    [[ $("target/tools/bin/$1" --version 2>/dev/null) == *"$2" ]] || cargo install "$1" --version "$2" --locked --root target/tools
}
