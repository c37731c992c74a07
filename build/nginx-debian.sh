#!/bin/sh
# Makes target/debian/nginx/{src,objs}: nginx as the distribution built it, configured but not
# compiled, for the headers. The package nginx-dev holds headers and configure, not the sources;
# configured with the same arguments they give the same module signature as the distribution's binary.
set -eu
cd "$(dirname "$0")/.."
. build/lib.sh

binary=/usr/sbin/nginx
packaged=/usr/share/nginx/src
tree=${CARGO_TARGET_DIR:-target}/debian/nginx
tree=$(absolute "$tree")

[ -x "$binary" ] || die "$binary is not there: NGINX=debian wants Debian's package nginx"
[ -x "$packaged/configure" ] || die "$packaged/configure is not there: NGINX=debian wants Debian's package nginx-dev"

# Configured already for exactly these packages and this place?
facts=$("$binary" -V 2>&1; dpkg-query -W -f='${Package} ${Version}\n' nginx nginx-dev; say "$tree")
if [ -f "$tree/facts" ] && [ "$facts" = "$(cat "$tree/facts")" ]; then
    exit
fi

ours=$(sed -n 's/^#define NGINX_VERSION  *"\(.*\)"/\1/p' "$packaged/src/core/nginx.h")
case $facts in
    *"nginx/$ours"*) ;;
    *) die "$binary is not the nginx $ours of nginx-dev: install both from the same source" ;;
esac

say "Configuring the headers of Debian's nginx $ours"
rm -rf "$tree"
mkdir -p "$tree"
cp -R "$packaged" "$tree/src"

# Dynamic modules that want yet more -dev packages and do not change the ABI are left out. The
# arguments are quoted for a shell as configure wrote them down.
arguments=$("$binary" -V 2>&1 | sed -n 's/^configure arguments: //p')
eval "set -- $arguments"
for argument; do
    shift
    case $argument in
        *geoip* | *image_filter* | *perl* | *xslt*) ;;
        *) set -- "$@" "$argument" ;;
    esac
done

if ! (cd "$tree/src" && ./configure "$@" --builddir="$tree/objs") >"$tree/configure.log" 2>&1; then
    tail -n 20 "$tree/configure.log" >&2
    die "configure failed; all of it is in $tree/configure.log"
fi
say "$facts" >"$tree/facts"
