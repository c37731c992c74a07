#!/bin/sh
# All of `make test`, stage by stage, up to the first that fails: build/test.sh BUILD...
set -eu
cd "$(dirname "$0")/.."
. build/lib.sh

[ $# -gt 0 ] || die "usage: build/test.sh BUILD... (vendored, debian)"
for build; do out_of "$build" >/dev/null; done
builds=$*
began=$(date +%s)
summary=

finish() {
    printf '\n%s' "$summary"
    say "$1 after $(($(date +%s) - began)) s"
}
trap 'finish INTERRUPTED; exit 130' INT TERM

# stage NAME COMMAND...
stage() {
    name=$1
    shift
    start=$(date +%s)
    printf '\n=== %s\n' "$name"
    status=0
    "$@" </dev/null || status=$?
    took=$(($(date +%s) - start))
    if [ "$status" -ne 0 ]; then
        summary="$summary$(printf '%-32s FAILED (%s s)' "$name" "$took")
"
        finish "make test FAILED at '$name' (exit status $status)"
        exit 1
    fi
    summary="$summary$(printf '%-32s ok (%s s)' "$name" "$took")
"
}

purposes='module test fuzz demo proof'
case " $builds " in *' debian '*) purposes="$purposes debian" ;; esac

# shellcheck disable=SC2086 # a list of words
stage 'system packages' sh build/packages.sh $purposes
need_cargo
stage 'unit tests' cargo test --locked
stage 'models, by loom' sh build/model.sh
stage 'fuzz targets' sh build/fuzz.sh
for build in $builds; do
    stage "module, $build nginx" sh build/module.sh "$build"
done
# shellcheck disable=SC2086
stage 'rustfmt and clippy' sh build/lint.sh $builds
for build in $builds; do
    stage "t/ under $build nginx" sh build/nginx-test.sh "$build"
done
for build in $builds; do
    stage "proof sample, $build nginx" sh build/proof.sh "$build" --sample
done
finish 'make test: all stages passed'
