# shellcheck shell=bash
# Sourced by run and extended: named steps, and at the end, also after a failure, a table of their times.

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
    printf '\n== time of each step\n'
    printf '%s\n' "${table[@]}" "$(printf '%5d s  total' "$SECONDS")"
    ((status == 0)) || printf '\nFAILED in: %s\n' "$failed_in"
}
trap finish EXIT

# Installs this version of a cargo subcommand into target/tools, unless it is installed already.
cargo_tool() { # NAME VERSION
    [[ $("target/tools/bin/$1" --version 2>/dev/null) == *"$2" ]] || cargo install "$1" --version "$2" --locked --root target/tools
}

# Installs packages of Debian or Ubuntu.
apt_install() { # PACKAGE...
    local as_root=()
    [[ $EUID == 0 ]] || as_root=(sudo)
    "${as_root[@]}" apt-get update -q
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$@"
}

# Creates target/venv and installs the packages of a requirements file into it.
python_packages() { # FILE
    if ! python3 -m venv target/venv; then
        apt_install python3-venv
        python3 -m venv target/venv
    fi
    target/venv/bin/pip install -q -r "$1"
}
