# Common to the scripts of this folder, which read it with `. build/lib.sh` from the project's root.
# shellcheck shell=sh

# The options and variables of our own make are not meant for the makes further down (nginx's).
unset MAKEFLAGS MFLAGS MAKELEVEL MAKEOVERRIDES

say() { printf '%s\n' "$*"; }

die() {
    printf 'checkups: %s\n' "$*" >&2
    exit 1
}

# What users set on the command line may be relative; cargo's build scripts run elsewhere.
absolute() {
    case $1 in
        /*) printf '%s\n' "$1" ;;
        *) printf '%s/%s\n' "$PWD" "$1" ;;
    esac
}

# Puts a file in place by rename, and only when it differs: a running nginx that has mapped the old
# one keeps it whole, and nothing is newer than it need be.
install_file() {
    if cmp -s "$1" "$2"; then
        say "$2 is up to date"
        return
    fi
    mkdir -p "$(dirname "$2")"
    cp "$1" "$2.new.$$"
    mv -f "$2.new.$$" "$2"
    say "$2 is new"
}

# Where the files of one build go. $1 is vendored, debian or tree.
out_of() {
    case $1 in
        vendored) say objs ;;
        debian) say objs/debian ;;
        tree) say objs/custom ;;
        *) die "no such build: '$1' (NGINX= and BUILDS= take vendored and debian)" ;;
    esac
}

# A shell that is not a login shell (CI, sudo) may lack the PATH that the Rust installer wrote.
need_cargo() {
    if ! command -v cargo >/dev/null && [ -x "${CARGO_HOME:-$HOME/.cargo}/bin/cargo" ]; then
        PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
        export PATH
    fi
    wanted=$(sed -n 's/^rust-version *= *"\([0-9.]*\)".*/\1/p' Cargo.toml)
    command -v cargo >/dev/null ||
        die "cargo was not found: install Rust $wanted or later (rustup is the usual way) and try again"

    version=$(cargo --version | cut -d' ' -f2)
    oldest=$(printf '%s\n' "$wanted" "$version" | sort -t. -k1,1n -k2,2n | head -n1)
    [ "$oldest" = "$wanted" ] ||
        die "cargo is $version, but Rust $wanted or later is needed ($(command -v cargo))"
}
