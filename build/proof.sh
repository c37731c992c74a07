#!/bin/sh
# The long proofs under one build: build/proof.sh BUILD [ARGUMENT...] (the arguments are t/proof/run's)
set -eu
cd "$(dirname "$0")/.."
. build/lib.sh

BUILD=${1:?vendored or debian}
shift
out=$(absolute "$(out_of "$BUILD")")
[ -x "$out/nginx" ] || die "$out/nginx is not there"
[ -x t/proof/run ] || die "t/proof/run is not there (or not executable)"

NGINX=$out/nginx
MODULE=$out/ngx_http_checkups_module.so
export BUILD NGINX MODULE
t/proof/run "$@"
# With names of parts, these are all that is wanted.
case "$*" in
    '' | --sample)
        t/proof/dies.py "$@"
        t/proof/kills.py "$@"
        t/proof/updates.py "$@"
        t/proof/plus.py "$@"
        t/proof/fuzz_api.py "$@"
        ;;
esac

# The core wants what only a build for development has. Its proofs take long, and are for one build.
case "$BUILD $*" in
    *--sample*) exit ;;
    vendored*) ;;
    *) exit ;;
esac
FEATURES=development sh build/module.sh vendored objs/development
# The module at rest is the one without.
sh build/module.sh vendored
NGINX=$(absolute objs/development/nginx)
MODULE=$(absolute objs/development/ngx_http_checkups_module.so)
say "a million updates on the heap"
cargo test --locked --release --lib million -- --ignored
for proof in kills updates reloads; do
    python3 "t/proof/core/$proof.py"
done
