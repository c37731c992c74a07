#!/bin/sh
# Runs t/*.t (or the files in T) under one build that `make module` made: build/nginx-test.sh BUILD [OUT]
set -eu
cd "$(dirname "$0")/.."
. build/lib.sh

build=${1:?vendored, debian or tree}
out=$(absolute "${2:-$(out_of "$build")}")
[ -x "$out/nginx" ] || die "$out/nginx is not there"

# Test::Nginx::Socket is CPAN's. Where it is not installed, t/fallback does what our files use of it.
libraries=
perl -MTest::Nginx::Socket -e1 2>/dev/null || libraries=-It/fallback

# shellcheck disable=SC2086 # T and PROVE_ARGS are lists of words
if [ -n "${T:-}" ]; then set -- $T; else set -- t/*.t; fi
[ -e "$1" ] || die "no tests: $1 is not there"

# Not below the project: the workers run as nobody, and unix sockets have short names.
scratch=$(mktemp -d "${TMPDIR:-/tmp}/checkups-t.XXXXXX")
chmod 755 "$scratch"

# make exports it where it was set on the command line; to nginx it names inherited sockets.
unset NGINX
TEST_NGINX_BINARY=$out/nginx
TEST_NGINX_LOAD_MODULES=$out/ngx_http_checkups_module.so
TEST_NGINX_SERVROOT=$scratch/servroot
export TEST_NGINX_BINARY TEST_NGINX_LOAD_MODULES TEST_NGINX_SERVROOT

say "prove under $("$out/nginx" -v 2>&1 | sed 's/.*: //') ($build)${libraries:+, with t/fallback}"
# shellcheck disable=SC2086
if prove $libraries ${PROVE_ARGS:-} "$@" </dev/null; then
    rm -rf "$scratch"
else
    die "t/ failed under $build nginx; the last servroot is $TEST_NGINX_SERVROOT"
fi
