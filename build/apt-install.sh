#!/bin/sh
# Installs Debian packages without letting any of them start a service: build/apt-install.sh PACKAGE...
# Run as root. (nginx would take port 80, memcached its own.)
set -eu

policy=/usr/sbin/policy-rc.d
saved=$policy.checkups-saved
mark='# checkups: no service starts while packages are installed'
log=$(mktemp)

# Also undoes what a run that was killed left behind.
restore_policy() {
    if grep -qsF "$mark" "$policy"; then rm -f "$policy"; fi
    if [ -e "$saved" ] || [ -L "$saved" ]; then mv -f "$saved" "$policy"; fi
}

forbid_services() {
    if [ -e "$policy" ] || [ -L "$policy" ]; then mv -f "$policy" "$saved"; fi
    printf '#!/bin/sh\n%s\nexit 101\n' "$mark" >"$policy.new.$$"
    chmod 755 "$policy.new.$$"
    mv -f "$policy.new.$$" "$policy"
}

apt() {
    DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 \
        -o Dpkg::Options::=--force-confold "$@" </dev/null >"$log" 2>&1
}

# Two runs at a time would undo each other's policy.
exec 9>/run/lock/checkups-packages
flock 9

restore_policy
trap 'restore_policy; rm -f "$log"' EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

echo "Installing the Debian packages that are missing: $*"
forbid_services
apt update || echo "(apt-get update failed; going on with the lists that are there)" >&2
if ! apt install --no-install-recommends "$@"; then
    tail -n 30 "$log" >&2
    echo "checkups: apt-get could not install: $*" >&2
    exit 3
fi

if [ -d /run/systemd/system ]; then
    for service in nginx memcached redis-server mariadb-server postgresql prometheus prometheus-nginx-exporter; do
        case " $* " in
            *" $service "*)
                echo "$service was not started, but systemd would at the next boot:" \
                    "'systemctl disable $service' keeps it off."
                ;;
        esac
    done
fi
