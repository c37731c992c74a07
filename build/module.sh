#!/bin/sh
# Builds the module for one nginx: build/module.sh vendored|debian|tree [OUT]
#   vendored  nginx itself too, from the crate nginx-src
#   debian    the distribution's nginx
#   tree      any configured tree: NGINX_SOURCE_DIR and/or NGINX_BUILD_DIR (SOURCE_DIR/objs if unset)
#
# Whether anything has to be done is for cargo to say.
set -eu
cd "$(dirname "$0")/.."
. build/lib.sh
. build/nginx.sh

build=${1:?vendored, debian or tree}
out=${2:-$(out_of "$build")}

need_cargo
use_nginx "$build"

# `cargo rustc --crate-type`, because `cargo build` with the crate types cdylib and rlib drops LTO
# without a word. The messages tell where the files are, also when nothing had to be built.
messages=$(mktemp)
trap 'rm -f "$messages"' EXIT
say "Building the module for $build nginx (the first time takes minutes)"
cargo rustc --locked --release --lib --crate-type cdylib --features "$features" \
    --message-format=json-render-diagnostics >"$messages"

library=$(sed -n '/^{"reason":"compiler-artifact"/s/.*"filenames":\["\([^"]*libngx_checkups\.\(so\|dylib\)\)".*/\1/p' "$messages")
[ -f "$library" ] || die "cargo named no libngx_checkups.so"

case $build in
    vendored)
        vendored=$(sed -n '/^{"reason":"build-script-executed","package_id":"[^"]*nginx-sys[@ ]/s/.*"out_dir":"\([^"]*\)".*/\1/p' "$messages")
        install_file "$vendored/objs/nginx" "$out/nginx"
        # nginx-sys asks to be run again when these change, and its own run has just written them.
        # Without this, the second build compiles nginx-sys and all that stands on it once more.
        started=$vendored/../invoked.timestamp
        if [ -f "$started" ]; then
            touch -r "$started" "$vendored/objs/Makefile" "$vendored/objs/ngx_auto_config.h"
        fi
        ;;
    debian) mkdir -p "$out" && ln -sfn /usr/sbin/nginx "$out/nginx" ;;
    tree) if [ -x "$NGINX_BUILD_DIR/nginx" ]; then install_file "$NGINX_BUILD_DIR/nginx" "$out/nginx"; fi ;;
esac
install_file "$library" "$out/ngx_http_checkups_module.so"
