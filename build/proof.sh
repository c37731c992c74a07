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
exec t/proof/run "$@"
