#!/bin/sh
# Makes the Python that t/lib/grpc_server.py runs on, and prints its path: build/grpc.sh
#
# A virtual environment below objs/, with grpcio and grpcio-health-checking of PyPI. Where it is
# there already, nothing is fetched.
set -eu
cd "$(dirname "$0")/.."
. build/lib.sh

version=1.76.0
home=$PWD/objs/grpc-$version

if [ ! -x "$home/bin/python" ]; then
    # Debian's python3-venv belongs to Debian's python3, whatever else is first on the path.
    python=python3
    [ -x /usr/bin/python3 ] && python=/usr/bin/python3
    new=$home.new.$$
    trap 'rm -rf "$new"' EXIT
    mkdir -p objs
    "$python" -m venv "$new" >&2 || die "python3 cannot make a virtual environment (Debian: python3-venv)"
    "$new/bin/python" -m pip --quiet --disable-pip-version-check install --only-binary :all: \
        "grpcio==$version" "grpcio-health-checking==$version" >&2 ||
        die "pip could not install grpcio $version from PyPI"
    # Of two runs at a time one is too late, and has no need of its own.
    mv -T "$new" "$home" 2>/dev/null || [ -x "$home/bin/python" ] || die "$home could not be made"
fi
say "$home/bin/python"
