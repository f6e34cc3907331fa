#!/usr/bin/env bash
# directory.sh [PORT] -- the directory of a domain, DC=example,DC=com, for directory.toml: OpenLDAP on the loopback until Ctrl-C.
#
# It has the policies of domain.ldif, which anyone may read and cn=admin,DC=example,DC=com (password: office) may change. Nothing
# of it is left when it ends. Needs the Debian package slapd, and no root. labs/README.md tells what to do with it.
set -euo pipefail

readonly PORT=${1:-3890} DOMAIN=DC=example,DC=com
export PATH="$PATH:/usr/sbin:/sbin" LC_ALL=C
here=$(cd -- "$(dirname -- "$0")" && pwd)

fail() {
    echo "directory.sh: $*" >&2
    exit 2
}

if [ $# -gt 1 ] || ! [[ $PORT =~ ^[1-9][0-9]{0,4}$ ]] || [ "$PORT" -gt 65535 ]; then fail "usage: directory.sh [PORT]"; fi
if ! command -v slapd slapadd >/dev/null; then fail "programs are missing, install the Debian package: slapd"; fi
listens() { (exec 3<>"/dev/tcp/127.0.0.1/$PORT") 2>/dev/null; }
if listens; then fail "127.0.0.1:$PORT is in use; accepted: directory.sh PORT, and the same PORT in directory.toml"; fi

work=$(mktemp -d "${TMPDIR:-/tmp}/ipsec-directory.XXXXXX")
server=""
tear_down() {
    trap '' INT TERM HUP
    if [ -n "$server" ]; then
        kill "$server" 2>/dev/null || true
        wait "$server" 2>/dev/null || true
    fi
    rm -rf -- "$work"
}
trap tear_down EXIT
trap 'exit 0' INT TERM HUP

mkdir "$work/db"
cat >"$work/slapd.conf" <<CONF
include /etc/ldap/schema/core.schema
include "$here/ipsec.schema"
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile $work/slapd.pid
database mdb
suffix "$DOMAIN"
rootdn "cn=admin,$DOMAIN"
rootpw office
directory $work/db
maxsize 67108864
access to * by * read
CONF

# What a domain has before anyone makes a policy: the containers of the policies and of the Default Domain Policy.
gpo="CN={31B2F340-016D-11D2-945F-00C04FB984F9},CN=Policies,CN=System"
{
    printf 'dn: %s\nobjectClass: dcObject\nobjectClass: organization\no: Example\ndc: example\n\n' "$DOMAIN"
    for name in CN=System "CN=IP Security,CN=System" CN=Policies,CN=System "$gpo" \
        "CN=Machine,$gpo" "CN=Microsoft,CN=Machine,$gpo" "CN=Windows,CN=Microsoft,CN=Machine,$gpo"; do
        printf 'dn: %s,%s\nobjectClass: container\n\n' "$name" "$DOMAIN"
    done
    # slapadd knows no line that tells the version of LDIF.
    sed '/^version:/d' "$here/domain.ldif"
} >"$work/entries.ldif"
slapadd -q -f "$work/slapd.conf" -l "$work/entries.ldif" >"$work/said" 2>&1 || fail "slapadd failed: $(tr '\n' ' ' <"$work/said")"

slapd -f "$work/slapd.conf" -h "ldap://127.0.0.1:$PORT" -d 0 >"$work/said" 2>&1 </dev/null &
server=$!
tries=100
until listens; do
    tries=$((tries - 1))
    if [ "$tries" -eq 0 ] || ! kill -0 "$server" 2>/dev/null; then fail "slapd did not start: $(tr '\n' ' ' <"$work/said")"; fi
    sleep 0.05
done
echo "ldap://127.0.0.1:$PORT/$DOMAIN is there until Ctrl-C"
wait "$server"
