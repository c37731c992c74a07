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

say "clippy, no features"
cargo clippy --locked --all-targets -- -D warnings

# In the release profile and with the features of build/module.sh: then the build script of nginx-sys
# is the very one that ran for the module. Any other profile would build nginx once more.
for build; do
    say "clippy, http, $build nginx"
    (
        use_nginx "$build"
        cargo clippy --locked --release --lib --features "$features" -- -D warnings
    )
done
