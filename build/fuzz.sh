#!/bin/sh
# Builds the fuzz targets and runs each of them, or those that are named, for so many seconds (10):
# build/fuzz.sh [SECONDS [TARGET...]]
#
# What a run learns is kept in objs/fuzz/corpus, and the next one goes on from there.
set -eu
cd "$(dirname "$0")/.."
. build/lib.sh

cargo_fuzz=0.13.2

seconds=${1:-10}
[ $# -eq 0 ] || shift
case $seconds in
    '' | *[!0-9]*) die "usage: build/fuzz.sh [SECONDS [TARGET...]]" ;;
esac
need_cargo

# What is fuzzed has to be what goes into the module.
again='cp Cargo.lock fuzz/Cargo.lock && cargo fetch --manifest-path fuzz/Cargo.toml'
cargo fetch --quiet --locked --manifest-path fuzz/Cargo.toml ||
    die "fuzz/Cargo.lock is behind the dependencies: $again"
differ=$(awk '
    /^name = / { name = $3 }
    /^version = "/ && NR == FNR { ours[name] = ours[name] $3 }
    /^version = "/ && NR != FNR && name in ours && !index(ours[name], $3) { print name, $3 }
' Cargo.lock fuzz/Cargo.lock)
[ -z "$differ" ] || die "fuzz/Cargo.lock has other versions than Cargo.lock ($differ): $again"

PATH=$PWD/objs/tools/bin:$PATH
if [ "$(objs/tools/bin/cargo-fuzz --version 2>/dev/null)" != "cargo-fuzz $cargo_fuzz" ]; then
    say "installing cargo-fuzz $cargo_fuzz into objs/tools"
    cargo install --quiet --locked cargo-fuzz --version "$cargo_fuzz" --root objs/tools
fi

# Instrumentation and the address sanitizer are options that a stable rustc takes only when told so;
# a target directory of its own, as all is built anew with them.
host=$(rustc -vV | sed -n 's/^host: //p')
CARGO_TARGET_DIR=$(absolute "${CARGO_TARGET_DIR:-target}")/fuzz
RUSTC_BOOTSTRAP=1
# Memory that was freed is kept from use for a while, 256 MB of it by default. No leaks are looked
# for: that takes rights which containers do not always have.
ASAN_OPTIONS=quarantine_size_mb=64:detect_leaks=0
export PATH CARGO_TARGET_DIR RUSTC_BOOTSTRAP ASAN_OPTIONS
say "building the fuzz targets"
cargo fuzz build --target "$host"

# shellcheck disable=SC2046 # a list of words
[ $# -gt 0 ] || set -- $(cargo fuzz list)
jobs=$(getconf _NPROCESSORS_ONLN)
say "running $# fuzz targets for $seconds s each, $jobs at a time"
# shellcheck disable=SC2016 # the variables are those of the inner shell
printf '%s\n' "$@" | xargs -n 1 -P "$jobs" sh -c '
    programs=$1 seconds=$2 target=$3
    corpus=objs/fuzz/corpus/$target artifacts=objs/fuzz/artifacts/$target log=objs/fuzz/$target.log
    mkdir -p "$corpus" "$artifacts"
    if "$programs/$target" -max_total_time="$seconds" -timeout=30 -artifact_prefix="$artifacts/" \
        "$corpus" "fuzz/corpus/$target" >"$log" 2>&1
    then
        runs=$(sed -n "s/^Done \([0-9]*\) runs.*/\1/p" "$log")
        printf "%-12s ok, %s runs\n" "$target" "$runs"
    else
        printf "%-12s FAILED, all of it in %s:\n" "$target" "$log"
        sed -n "/panicked at/,/^stack backtrace/p; /^SUMMARY:/p; /^artifact_prefix/p; /^Base64/p" "$log" |
            sed "s/^/    /"
        printf "    again: %s FILE\n" "$programs/$target"
        exit 1
    fi
' sh "$CARGO_TARGET_DIR/$host/release" "$seconds" || die "a fuzz target failed"
