"""A NAT in front of us: the kernel's, which gives every flow another address and port, and changes its mind."""

from __future__ import annotations

import hashlib
import re
import shutil
import sys

import pytest
from agent import Agent, tunnel_policy
from charon import PRESHARED_KEY, Charon, connection
from interop_kit import need
from namespaces import OUR_ADDRESS, OUR_HOST, PEER_ADDRESS, PEER_HOST, Namespaces, wait_until

pytestmark = pytest.mark.interop
PUBLIC_ADDRESS = "10.99.0.3"
SELECTORS = {"local_ts": f"{PEER_HOST}/32", "remote_ts": f"{OUR_HOST}/32"}
MAIN_MODE, QUICK_MODE = "AES-128-SHA1-2", "ESP[AES-128-GCM]"
SIZE = 3_000_000
SERVE = """
import hashlib, socket, sys
with socket.create_server((sys.argv[1], 40000)) as server:
    print("listening", flush=True)
    stream = server.accept()[0]
    data = b"".join(iter(lambda: stream.recv(65536), b""))
    print(hashlib.sha256(data).hexdigest(), flush=True)
"""
SEND = """
import socket, sys
with socket.create_connection((sys.argv[2], 40000), source_address=(sys.argv[1], 0)) as stream:
    stream.sendall(bytes(int(sys.argv[3])))
"""


class Nat:
    """What leaves our namespace in UDP comes from the public address, and from ports that nobody chose."""

    def __init__(self, lab: Namespaces) -> None:
        for program in ("iptables", "conntrack"):
            need(shutil.which(program) is not None, program)
        self.lab = lab
        lab.run(lab.ours, "ip", "addr", "add", f"{PUBLIC_ADDRESS}/32", "dev", lab.ours.interface)
        self.change(20_000)

    def change(self, first: int) -> None:
        """It forgets whom it knew, as one that was switched off, and takes ports from another hundred."""
        rule = ("POSTROUTING", "-o", self.lab.ours.interface, "-p", "udp", "-j", "SNAT", "--random")
        ports = f"{PUBLIC_ADDRESS}:{first}-{first + 99}"
        for words in (("-F",), ("-A", *rule, "--to-source", ports)):
            said = self.lab.run(self.lab.ours, "iptables", "-t", "nat", *words)
            assert not said, said
        assert "emptied" in self.lab.run(self.lab.ours, "conntrack", "-F")


@pytest.fixture
def nat(lab: Namespaces) -> Nat:
    return Nat(lab)


def received(lab: Namespaces, source: str, destination: str, count: int) -> int:
    said = lab.run(lab.ours, "ping", "-c", str(count), "-i", "0.2", "-W", "1", "-I", source, destination)
    return int(re.findall(r"(\d+) received", said)[0])


def test_charon(lab: Namespaces, nat: Nat, carrying_charon: Charon) -> None:
    for space, host in ((lab.ours, OUR_HOST), (lab.peers, PEER_HOST)):
        lab.give(space, host)
    settings = {"remote_addrs": "%any"}
    carrying_charon.start(
        connection("aes128-sha1-modp1024", "aes128gcm16", mode="tunnel", child=SELECTORS, settings=settings)
    )
    hosts, gateways = (OUR_HOST, PEER_HOST), (OUR_ADDRESS, PEER_ADDRESS)
    policy = tunnel_policy(MAIN_MODE, QUICK_MODE, PRESHARED_KEY, hosts=hosts, gateways=gateways)
    Agent(lab, lab.ours, "OURS").start(policy, "--profile", "modern")
    assert received(lab, *hosts, count=5) >= 4, "the first may come before charon is ready"
    assert carrying_charon.said("remote host is behind NAT")
    assert carrying_charon.said(rf"received packet: from {PUBLIC_ADDRESS}\[200\d\d\] to {PEER_ADDRESS}\[4500\]")


def to_host(address: str) -> str:
    """The policy of one of two hosts."""
    return f"""
name = "Transport"
key_exchange = {{ methods = ["{MAIN_MODE}"] }}
[[rules]]
name = "To the peer"
filters = [{{ source = "me", destination = "{address}" }}]
action = {{ negotiate = ["{QUICK_MODE}"] }}
authentication = [{{ preshared_key = "{PRESHARED_KEY}" }}]
"""


@pytest.mark.parametrize("mode", ["transport", "tunnel"])
def test_a_nat_that_changes_its_mind(lab: Namespaces, nat: Nat, mode: str) -> None:
    """Between two agents: TCP, whose checksums the NAT spoils in transport mode; then other ports, of which the packets
    themselves tell the peer (RFC 3947 section 7). What was under way to the old one is lost, no more."""
    hosts, gateways = (OUR_ADDRESS, PEER_ADDRESS), (OUR_ADDRESS, PEER_ADDRESS)
    policies = [to_host(PEER_ADDRESS), to_host(PUBLIC_ADDRESS)]
    if mode == "tunnel":
        hosts = (OUR_HOST, PEER_HOST)
        for space, host in zip((lab.ours, lab.peers), hosts, strict=True):
            lab.give(space, host)
        ends = ((hosts, gateways), (hosts[::-1], (PEER_ADDRESS, PUBLIC_ADDRESS)))
        policies = [
            tunnel_policy(MAIN_MODE, QUICK_MODE, PRESHARED_KEY, hosts=between, gateways=by) for between, by in ends
        ]
    ours, peers = Agent(lab, lab.ours, "OURS"), Agent(lab, lab.peers, "PEER", address=PEER_ADDRESS)
    for agent, policy in zip((ours, peers), policies, strict=True):
        agent.start(policy, "--profile", "modern", "--trace")
    assert received(lab, *hosts, count=5) == 5
    server = lab.start(lab.peers, (sys.executable, "-c", SERVE, hosts[1]), "server")
    wait_until(lambda: server.said("listening"), "the server")
    lab.run(lab.ours, sys.executable, "-c", SEND, *hosts, str(SIZE))
    wait_until(lambda: server.ended, "the transfer")
    assert hashlib.sha256(bytes(SIZE)).hexdigest() in server.output
    nat.change(30_000)
    assert received(lab, *hosts, count=10) >= 9
    assert peers.program.said(rf"Path: {PUBLIC_ADDRESS} is at {PUBLIC_ADDRESS} port 300\d\d")
    assert received(lab, *hosts, count=5) == 5
    # IKE has followed: the end of the one reaches the other through the new mapping.
    peers.program.stop()
    wait_until(lambda: len(ours.audits(542)) == len(ours.audits(543)) == 1, "the ends of both modes")
