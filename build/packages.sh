#!/bin/sh
# Sees to it that the system packages for the given purposes are there: build/packages.sh PURPOSE...
#
# On Debian and its derivatives the missing ones are installed. Elsewhere they are looked for by
# what they bring, and the script says what it did not find and stops.
set -eu
cd "$(dirname "$0")/.."
. build/lib.sh

# The one list. Columns: purpose, Debian package, and how to see that it is there on other systems:
#   cmd NAME    a command               lib NAME    a library that pkg-config knows
#   perl NAME   a Perl module           libclang    bindgen's libclang       -    only Debian has it
#   skip        it need not be there: what wants it says so, and is skipped
#
# The nginx-dev of Debian depends on headers that nothing here uses, but so it is.
list() {
    cat <<'LIST'
module  make                     cmd make
module  gcc                      cmd cc
module  pkgconf                  cmd pkg-config
module  libclang-dev             libclang
module  libpcre2-dev             lib libpcre2-8
module  zlib1g-dev               lib zlib
module  libssl-dev               lib libssl

debian  nginx                    -
debian  nginx-dev                -

test    perl                     cmd prove
test    libtest-base-perl        perl Test::Base
test    libtest-longstring-perl  perl Test::LongString
test    python3                  cmd python3
test    curl                     cmd curl
test    openssl                  cmd openssl
test    redis-server             cmd redis-server
test    mariadb-server           cmd mariadb-install-db
test    mariadb-client           cmd mariadb
test    postgresql               cmd initdb
test    python3-venv             cmd pip3
test    prometheus               cmd promtool
test    prometheus-nginx-exporter  cmd prometheus-nginx-exporter
test    golang-go                skip
test    golang-github-nginxinc-nginx-plus-go-client-dev  skip

suite   perl                     cmd prove
suite   openssl                  cmd openssl
suite   iproute2                 cmd ip
suite   memcached                cmd memcached
suite   uwsgi-core               cmd uwsgi
suite   uwsgi-plugin-python3     -
suite   libcache-memcached-fast-perl  perl Cache::Memcached::Fast
suite   libcache-memcached-perl  perl Cache::Memcached
suite   libcryptx-perl           perl Crypt::Misc
suite   libfcgi-perl             perl FCGI
suite   libio-socket-ssl-perl    perl IO::Socket::SSL
suite   libscgi-perl             perl SCGI

fuzz    make                     cmd make
fuzz    g++                      cmd c++

demo    python3                  cmd python3
demo    curl                     cmd curl

proof   wrk                      cmd wrk
proof   python3                  cmd python3

bench   wrk                      cmd wrk
bench   valgrind                 cmd valgrind
bench   util-linux               cmd taskset
bench   python3                  cmd python3
bench   haproxy                  cmd haproxy
LIST
}

has_libclang() {
    [ -n "${LIBCLANG_PATH:-}" ] && return
    command -v llvm-config >/dev/null && return
    for file in /usr/lib*/libclang[.-]* /usr/lib/*/libclang[.-]* /usr/lib/llvm*/lib/libclang[.-]* \
        /usr/local/lib/libclang[.-]* /usr/local/llvm*/lib/libclang[.-]* \
        /opt/homebrew/opt/llvm/lib/libclang[.-]* /Library/Developer/CommandLineTools/usr/lib/libclang[.-]*
    do
        [ -e "$file" ] && return
    done
    return 1
}

# Is it there, by the third and fourth column?
found() {
    case $1 in
        cmd) command -v "$2" >/dev/null ;;
        lib) pkg-config --exists "$2" 2>/dev/null ;;
        perl) perl -M"$2" -e1 2>/dev/null ;;
        libclang) has_libclang ;;
        skip) true ;;
        *) false ;;
    esac
}

installed() { [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

on_debian() {
    [ -e /etc/debian_version ] && command -v dpkg-query >/dev/null && command -v apt-get >/dev/null
}

missing_on_debian() {
    while read -r package _; do
        installed "$package" || say "$package"
    done
}

missing_elsewhere() {
    while read -r package how what; do
        found "$how" "$what" && continue
        case $how in
            cmd) say "  the command $what" ;;
            lib) say "  the library $what with its headers (looked for with pkg-config)" ;;
            perl) say "  the Perl module $what" ;;
            libclang) say "  libclang, the library (LIBCLANG_PATH says where, if it is there)" ;;
            *) say "  the Debian package $package, which there is on Debian only" ;;
        esac
    done
}

[ $# -gt 0 ] || die "usage: build/packages.sh PURPOSE... (module, debian, test, suite, fuzz, demo, proof)"
wanted=$(for purpose; do list | awk -v p="$purpose" '$1 == p { print $2, $3, $4 }'; done | sort -u)
[ -n "$wanted" ] || die "no such purpose: $*"

if ! on_debian; then
    missing=$(say "$wanted" | missing_elsewhere)
    [ -z "$missing" ] && exit
    say "checkups: for '$*' this machine lacks:" >&2
    say "$missing" >&2
    say "It is not a Debian, so nothing was installed. Install these and try again." >&2
    case " $* " in
        *' debian '*) say "(Without a Debian, leave out its nginx: make test BUILDS=vendored)" >&2 ;;
    esac
    exit 3
fi

missing=$(say "$wanted" | missing_on_debian | tr '\n' ' ')
missing=${missing% }
[ -n "$missing" ] || exit 0

# shellcheck disable=SC2086 # a list of words
if [ "$(id -u)" = 0 ]; then
    sh build/apt-install.sh $missing
elif ! command -v sudo >/dev/null; then
    say "checkups: not installed: $missing" >&2
    say "There is no sudo here; as root: sh build/apt-install.sh $missing" >&2
    exit 3
elif [ -t 0 ]; then
    sudo sh build/apt-install.sh $missing
else
    sudo -n sh build/apt-install.sh $missing || {
        say "checkups: not installed: $missing" >&2
        say "As root: sh build/apt-install.sh $missing" >&2
        exit 3
    }
fi
