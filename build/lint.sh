#!/bin/sh
# rustfmt, and clippy with warnings denied: build/lint.sh BUILD...
# The part without nginx once, the glue for each build (its cfgs differ).
set -eu
cd "$(dirname "$0")/.."
. build/lib.sh
. build/nginx.sh
need_cargo
cargo fmt --version >/dev/null 2>&1 || die "cargo fmt was not found: rustup component add rustfmt"
cargo clippy --version >/dev/null 2>&1 || die "cargo clippy was not found: rustup component add clippy"

say "rustfmt"
cargo fmt --check
cargo fmt --check --manifest-path fuzz/Cargo.toml

say "clippy, no features"
cargo clippy --locked --all-targets -- -D warnings

say "clippy, fuzz targets"
(
    CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/fuzz
    # Nothing is linked here: this spares the compilation of libFuzzer.
    CUSTOM_LIBFUZZER_PATH=/none/none
    export CARGO_TARGET_DIR CUSTOM_LIBFUZZER_PATH
    cargo clippy --locked --all-targets --manifest-path fuzz/Cargo.toml -- -D warnings
)

# In the release profile and with the features of build/module.sh: then the build script of nginx-sys
# is the very one that ran for the module. Any other profile would build nginx once more.
for build; do
    say "clippy, http, $build nginx"
    (
        use_nginx "$build"
        cargo clippy --locked --release --lib --features "$features" -- -D warnings
    )
done
