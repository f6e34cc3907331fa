#!/usr/bin/env bash
# record-traffic.sh OUT.pcap -- record the traffic of a small office: a client and a server, real programs, one Ethernet segment.
#
# Two network namespaces joined by a veth pair stand for the two hosts. Their interfaces have an MTU of 1400 bytes: the size that a host
# uses on a 1500-byte Ethernet when its IPsec driver tells the stack about the room that ESP needs, so that every recorded packet still
# fits a 1500-byte frame after encapsulation. labs/README.md tells what comes out.
set -euo pipefail

readonly CLIENT=192.168.57.10 SERVER=192.168.57.20 MTU=1400 LIMIT=30
readonly NEEDS="ip:iproute2 ethtool:ethtool tcpdump:tcpdump nginx:nginx-light curl:curl dnsmasq:dnsmasq-base dig:bind9-dnsutils
vsftpd:vsftpd ping:iputils-ping taskset:util-linux logger:bsdutils python3:python3-minimal"
export PATH="$PATH:/usr/sbin:/sbin" LC_ALL=C

exec 3>&2 # a trap can run while a command's own output is redirected
fail() {
    echo "record-traffic.sh: $*" >&3
    exit 2
}

[ $# -eq 1 ] || fail "usage: record-traffic.sh OUT.pcap"
readonly OUT=$1
[ "$(id -u)" -eq 0 ] || fail "needs root to make network namespaces"
if [ ! -d "$(dirname -- "$OUT")" ] || [ -d "$OUT" ]; then fail "$OUT: not a file name in an existing directory"; fi
missing=""
for need in $NEEDS; do
    command -v "${need%%:*}" >/dev/null || missing+=" ${need##*:}"
done
[ -z "$missing" ] || fail "programs are missing, install the Debian packages:$missing"

# The whole run is bounded: timeout ends this shell, and its trap ends everything else.
if [ -z "${RECORD_TRAFFIC_BOUNDED:-}" ]; then
    RECORD_TRAFFIC_BOUNDED=1 exec timeout --foreground --preserve-status --kill-after=8 "$LIMIT" "$BASH" "$0" "$OUT"
fi

work=$(mktemp -d /tmp/ipsec-office.XXXXXX) # not below TMPDIR: the servers' users must be able to enter
client_ns=ipsec-client-$$
server_ns=ipsec-server-$$
pids=()

tear_down() {
    trap '' INT TERM HUP
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
    for ns in "$client_ns" "$server_ns"; do ip netns del "$ns" 2>/dev/null || true; done
    rm -rf -- "$work" "$OUT.part"
}
trap tear_down EXIT
trap 'fail "not finished after $LIMIT seconds"' TERM
trap 'fail "interrupted"' INT HUP

on_client() { ip netns exec "$client_ns" "$@"; }
on_server() { ip netns exec "$server_ns" "$@"; }

# quietly WHAT COMMAND...: a command that must work; what it says is shown only when it fails, in the one line of the error.
quietly() {
    local what=$1
    shift
    "$@" >"$work/said" 2>&1 </dev/null || fail "$what failed: $(tr '\n' ' ' <"$work/said")"
}

# wait_for WHAT COMMAND...: until the command succeeds, at most five seconds.
wait_for() {
    local what=$1 tries=50
    shift
    until "$@" >"$work/said" 2>&1; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || fail "$what did not start: $(tail -n 1 "$work/$what.log") $(cat "$work/said")"
        sleep 0.1
    done
}

# On one CPU a packet is stamped and delivered before the answer to it is made: the capture is in the order of its time stamps.
cpus=$(taskset -pc $$)
cpus=${cpus##*: }
taskset -pc "${cpus%%[,-]*}" $$ >/dev/null

set_up_host() { # NAMESPACE INTERFACE MAC ADDRESS
    # No IPv6 noise. No window scaling: bursts stay below 64 KB, as with hosts of the year 2000.
    ip netns exec "$1" sh -c 'for key in all default; do
        file=/proc/sys/net/ipv6/conf/$key/disable_ipv6; if [ -e $file ]; then echo 1 >$file; fi
    done; echo 0 >/proc/sys/net/ipv4/tcp_window_scaling'
    ip -n "$1" link set dev "$2" address "$3" mtu "$MTU"
    # Segments are cut and checksums are computed before the packet is seen, as on a wire.
    ip netns exec "$1" ethtool -K "$2" tx off rx off sg off tso off gso off gro off >/dev/null
    ip -n "$1" addr add "$4/24" dev "$2"
    ip -n "$1" link set dev lo up
    ip -n "$1" link set dev "$2" up
}

set_up_network() {
    ip netns add "$client_ns"
    ip netns add "$server_ns"
    ip -n "$client_ns" link add eth0 type veth peer name eth0 netns "$server_ns"
    set_up_host "$client_ns" eth0 02:00:c0:a8:39:0a "$CLIENT"
    set_up_host "$server_ns" eth0 02:00:c0:a8:39:14 "$SERVER"
}
(set -e; set_up_network) >"$work/said" 2>&1 || fail "cannot make the two namespaces: $(tr '\n' ' ' <"$work/said")"

# Files to fetch: random, so that nothing on the way can compress them.
chmod 755 "$work"
mkdir -p "$work/www" "$work/ftp/incoming" "$work/empty" "$work/tmp"
head -c 400000 /dev/urandom >"$work/www/report.bin"
head -c 260000 /dev/urandom >"$work/ftp/drawing.bin"
head -c 360000 /dev/urandom >"$work/upload.bin"
for page in $(seq 1 12); do
    echo "<html><title>Page $page</title><p>$(head -c $((page * 200)) /dev/urandom | base64)</p></html>" >"$work/www/page$page.html"
done
chown daemon "$work/ftp/incoming" # the user of vsftpd must have a home directory, which nobody has not

cat >"$work/nginx.conf" <<CONF
daemon off;
worker_processes 1;
user nobody nogroup;
pid $work/nginx.pid;
error_log stderr;
events { worker_connections 64; }
http {
    access_log off;
    server_tokens off;
    client_body_temp_path $work/tmp/body;
    proxy_temp_path $work/tmp/proxy;
    fastcgi_temp_path $work/tmp/fastcgi;
    uwsgi_temp_path $work/tmp/uwsgi;
    scgi_temp_path $work/tmp/scgi;
    server { listen $SERVER:80; root $work/www; }
}
CONF
cat >"$work/vsftpd.conf" <<CONF
listen=YES
listen_ipv6=NO
listen_address=$SERVER
background=NO
anonymous_enable=YES
no_anon_password=YES
anon_root=$work/ftp
anon_upload_enable=YES
write_enable=YES
ftp_username=daemon
nopriv_user=nobody
secure_chroot_dir=$work/empty
seccomp_sandbox=NO
isolate=NO
isolate_network=NO
xferlog_enable=NO
ftpd_banner=Files of the office
CONF

# Not through on_server: the id that the shell keeps must be the program's own.
ip netns exec "$server_ns" nginx -p "$work" -e stderr -c "$work/nginx.conf" >"$work/nginx.log" 2>&1 </dev/null &
pids+=($!)
ip netns exec "$server_ns" vsftpd "$work/vsftpd.conf" >"$work/vsftpd.log" 2>&1 </dev/null &
pids+=($!)
ip netns exec "$server_ns" dnsmasq --keep-in-foreground --conf-file=/dev/null --no-resolv --no-hosts --user=nobody --pid-file= \
    --listen-address="$SERVER" --bind-interfaces --local=/office.example/ --host-record="files.office.example,$SERVER" \
    --host-record="client.office.example,$CLIENT" --mx-host=office.example,files.office.example,10 \
    --txt-record=office.example,"A small office with one server" >"$work/dnsmasq.log" 2>&1 </dev/null &
pids+=($!)
ip netns exec "$server_ns" python3 -c 'import socket, sys
sink = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sink.bind((sys.argv[1], 514))
while True: sink.recv(2048)' "$SERVER" >"$work/syslog.log" 2>&1 </dev/null &
pids+=($!)
# The servers are asked from their own host: nothing of this waiting crosses the wire.
wait_for nginx on_server curl -q -sS --fail --noproxy '*' --max-time 1 -o /dev/null "http://$SERVER/page1.html"
wait_for vsftpd on_server curl -q -sS --noproxy '*' --max-time 1 -o /dev/null "ftp://$SERVER/"
wait_for syslog on_server sh -c 'grep -qi ":0202 " /proc/net/udp'
wait_for dnsmasq on_server dig +short +time=1 +tries=1 "@$SERVER" files.office.example

ip netns exec "$client_ns" tcpdump -i eth0 -n -s 0 -B 16384 -Z root --immediate-mode -U --time-stamp-precision=nano -w "$work/office.pcap" \
    >/dev/null 2>"$work/tcpdump.log" </dev/null &
recorder=$!
pids+=("$recorder")
wait_for tcpdump grep -q 'listening on' "$work/tcpdump.log"

fetch() { # WHAT CURL-OPTIONS...
    local what=$1
    shift
    quietly "$what" on_client curl -q -sS --fail --noproxy '*' --max-time 6 -o /dev/null "$@"
}
ask() { quietly "the query for $*" on_client dig +time=2 +tries=1 "@$SERVER" "$@"; }
web=(--resolve "files.office.example:80:$SERVER")
site=http://files.office.example

# One packet that nobody answers, then silence: the acquire of the first packet has the time for a whole IKE negotiation, and only
# one of the two computers begins one.
quietly "the first syslog message" on_client logger --rfc5424=notime,notq,nohost --udp --server "$SERVER" --port 514 --tag office "the office opens"
sleep 0.5
quietly "the first ping" on_client ping -n -q -c 1 -W 2 "$SERVER"

ask files.office.example A
ask office.example MX
ask office.example TXT
ask nobody.office.example A
ask -x "$SERVER"
for page in $(seq 1 12); do fetch "page $page" "${web[@]}" "$site/page$page.html"; done
fetch "all pages on one connection" "${web[@]}" "$site/page[1-12].html"
fetch "all pages at once" "${web[@]}" --parallel --parallel-immediate "$site/page[1-12].html"
quietly "small pings" on_client ping -n -q -c 50 -i 0.01 -w 3 "$SERVER"
# 4000 octets of data make three fragments each way.
quietly "large pings of the client" on_client ping -n -q -s 4000 -c 20 -i 0.02 -w 3 "$SERVER"
quietly "large pings of the server" on_server ping -n -q -s 4000 -c 20 -i 0.02 -w 3 "$CLIENT"
fetch "the HTTP download" "${web[@]}" "$site/report.bin"
ask client.office.example A
fetch "the FTP download" "ftp://$SERVER/drawing.bin"
fetch "the FTP upload" -T "$work/upload.bin" "ftp://$SERVER/incoming/upload.bin"
cmp -s "$work/upload.bin" "$work/ftp/incoming/upload.bin" || fail "the file that arrived by FTP differs from the one that was sent"
for name in $(seq 1 20); do ask "host$name.office.example" A; done
quietly "the last ping" on_client ping -n -q -c 1 -W 2 "$SERVER"
sleep 0.3 # the last FIN and its ACK

kill -INT "$recorder"
wait "$recorder" || fail "tcpdump failed: $(tail -n 1 "$work/tcpdump.log")"
grep -q '^0 packets dropped by kernel' "$work/tcpdump.log" || fail "tcpdump lost packets: $(tail -n 1 "$work/tcpdump.log")"
[ -z "$(tcpdump -n -r "$work/office.pcap" greater $((MTU + 15)) 2>/dev/null | head -n 1)" ] ||
    fail "a recorded frame is larger than the MTU of $MTU bytes: an offload of the veth is still on"
mv -- "$work/office.pcap" "$OUT.part"
mv -- "$OUT.part" "$OUT"
echo "$OUT: $(sed -n 's/ packets captured$//p' "$work/tcpdump.log") packets, $(stat -c %s -- "$OUT") bytes"
