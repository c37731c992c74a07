#!/bin/sh
# Checks the parts without locks in every interleaving, by loom: build/model.sh
set -eu
cd "$(dirname "$0")/.."
. build/lib.sh

need_cargo
# A target directory of its own: the flag makes cargo build everything anew.
CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/loom
RUSTFLAGS="${RUSTFLAGS:-} --cfg loom"
export CARGO_TARGET_DIR RUSTFLAGS
cargo test --locked --lib model
