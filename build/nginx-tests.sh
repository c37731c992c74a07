#!/bin/sh
# Runs nginx's own suite (https://github.com/nginx/nginx-tests), of which DIR is a checkout, on nginx's
# own balancer and over ours, under one build that `make module` made: build/nginx-tests.sh BUILD OUT DIR
set -eu
cd "$(dirname "$0")/.."
. build/lib.sh

build=${1:?vendored, debian or tree}
out=$(absolute "${2:-$(out_of "$build")}")
suite=${3:-}
[ -n "$suite" ] || die "SUITE= is a checkout of https://github.com/nginx/nginx-tests"
[ -f "$suite/lib/Test/Nginx.pm" ] || die "SUITE=$suite is no checkout of nginx-tests: it has no lib/Test/Nginx.pm"
[ -x "$out/nginx" ] || die "$out/nginx is not there"

# What would rewrite nothing, or the wrong blocks, would find nothing.
prove t/nginx-tests/rewrite.t

# make exports it where it was set on the command line; to nginx it names inherited sockets.
unset NGINX
TEST_NGINX_BINARY=$out/nginx
export TEST_NGINX_BINARY
modules=$("$out/nginx" -V 2>&1 | sed -n "s/.* --modules-path=\([^ ]*\).*/\1/p")
if [ -z "${TEST_NGINX_MODULES:-}" ] && [ -d "$modules" ]; then
    TEST_NGINX_MODULES=$modules
    export TEST_NGINX_MODULES
fi

say "nginx-tests under $("$out/nginx" -v 2>&1 | sed 's/.*: //') ($build)"
# The patterns in T are of names in the suite, not here.
set -f
# shellcheck disable=SC2086 # T is a list of words
exec t/nginx-tests/run "$suite" "$out/ngx_http_checkups_module.so" ${T:-}
