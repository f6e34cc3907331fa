"""NAT traversal with strongSwan, whose kernel-libipsec forces it: ESP in UDP that both ends really carry."""

from __future__ import annotations

import sys
from collections.abc import Callable
from shutil import copy
from typing import NamedTuple

import pytest
import wireshark
from agent import Agent, tunnel_policy
from charon import PRESHARED_KEY, Charon, connection
from esp_peer import EspPeer
from namespaces import (
    OUR_ADDRESS,
    OUR_HOST,
    PEER_ADDRESS,
    PEER_HOST,
    Namespace,
    Namespaces,
    Program,
    wait_until,
)
from our_computer import OurComputer, converse, policy, run

pytestmark = pytest.mark.interop
KEY = {"preshared_key": PRESHARED_KEY}
SELECTORS = {"local_ts": f"{PEER_HOST}/32", "remote_ts": f"{OUR_HOST}/32"}
Make = Callable[..., OurComputer]
PORT = 40_000
STREAM_SECONDS = 10.0
# Both ends of a stream print how many bytes it had and their hash.
SEND = """
import hashlib, random, socket, sys, time
source, destination, port, seconds = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
digest, count, end = hashlib.sha256(), 0, time.monotonic() + seconds
block = random.Random(1).randbytes(20_000)
with socket.create_connection((destination, port), source_address=(source, 0)) as stream:
    while time.monotonic() < end:
        stream.sendall(block)
        digest.update(block)
        count += len(block)
        block = block[1:] + block[:1]
        time.sleep(0.01)
print(count, "bytes", digest.hexdigest())
"""
RECEIVE = """
import hashlib, socket, sys
digest, count = hashlib.sha256(), 0
with socket.create_server((sys.argv[1], int(sys.argv[2]))) as server:
    print("listening", flush=True)
    stream = server.accept()[0]
    while data := stream.recv(65536):
        digest.update(data)
        count += len(data)
print(count, "bytes", digest.hexdigest())
"""


class Transfer(NamedTuple):
    sent: Program
    took: Program


@pytest.mark.parametrize("initiator", ["ours", "charon"])
@pytest.mark.parametrize(
    ("main_mode", "quick_mode", "ike", "esp", "profile"),
    [
        ("3DES-SHA1-2", "ESP[3DES,SHA1]", "3des-sha1-modp1024", "3des-sha1", "modern"),
        ("3DES-MD5-1", "ESP[3DES,MD5]", "3des-md5-modp768", "3des-md5", "windows-2000-update"),
        ("AES-128-SHA256-14", "ESP[AES-128-GCM]", "aes128-sha256-modp2048", "aes128gcm16", "modern"),
    ],
)
def test_tunnel(
    main_mode: str,
    quick_mode: str,
    ike: str,
    esp: str,
    profile: str,
    initiator: str,
    lab: Namespaces,
    carrying_charon: Charon,
    our_computer: Make,
) -> None:
    charon = carrying_charon
    lab.give(lab.peers, PEER_HOST)
    charon.start(connection(ike, esp, mode="tunnel", child=SELECTORS))
    ours = our_computer(policy([main_mode], [quick_mode], KEY, tunnel=True), profile=profile)
    if initiator == "charon":
        swanctl = charon.initiate()
        run([ours], lambda: swanctl.ended, "swanctl --initiate")
        assert "completed successfully" in swanctl.output
    converse(ours, [], OUR_HOST, PEER_HOST)
    ping = lab.start(lab.peers, ("ping", "-c", "5", "-i", "0.2", "-I", PEER_HOST, OUR_HOST), "ping")
    run([ours], lambda: ping.ended, "ping of the peer's host")
    assert "5 received, 0% packet loss" in ping.output
    assert charon.said("faking NAT situation to enforce UDP encapsulation")
    assert charon.said(r"received packet: from 10.99.0.1\[4500\] to 10.99.0.2\[4500\]")
    assert charon.said("CHILD_SA child0.* established")
    assert len(ours.audits(541)) == 2
    ((_, key),) = ours.computer.ike_keys
    assert charon.secret("encryption key Ka") == key
    frames = wireshark.check(lab.recorded(), [ours], lab.folder / "wireshark")
    dialect = "RFC 3947" if profile == "modern" else "draft-ietf-ipsec-nat-t-ike-02\\\\n"
    assert charon.said(rf"received (NAT-T \()?{dialect}\)? vendor ID")
    assert all(4500 in frame.ports for frame in frames if frame.spi)
    assert all(frame.spi or frame.exchange or 4500 in frame.ports for frame in frames), "something went in clear"


@pytest.mark.parametrize("initiator", ["ours", "charon"])
@pytest.mark.parametrize("mode", ["transport", "tunnel"])
def test_plain_charon(
    mode: str, initiator: str, lab: Namespaces, charon: Charon, esp_peer: EspPeer, our_computer: Make
) -> None:
    """With scapy as its data plane charon does transport mode too: NAT-OA, and checksums as the hosts know them."""
    tunnel = mode == "tunnel"
    here, there = (OUR_HOST, PEER_HOST) if tunnel else (OUR_ADDRESS, PEER_ADDRESS)
    item = connection(
        "3des-sha1-modp1024",
        "aes128-sha1",
        mode=mode,
        child=SELECTORS if tunnel else {},
        settings={"encap": "yes"},
    )
    charon.start(item)
    ours = our_computer(policy(["3DES-SHA1-2"], ["ESP[AES-128-CBC,SHA1]"], KEY, tunnel=tunnel))
    if initiator == "charon":
        swanctl = charon.initiate()
        run([ours, esp_peer], lambda: swanctl.ended, "swanctl --initiate")
        assert "completed successfully" in swanctl.output
    converse(ours, [esp_peer], here, there)
    converse(esp_peer, [ours], there, here)
    assert all(sa.udp == (4500, 4500) for sa in charon.sas.values())
    frames = wireshark.check(lab.recorded(), [ours], lab.folder / "wireshark")
    assert all(4500 in frame.ports for frame in frames if frame.spi)


def send_and_count(lab: Namespaces, sender: Namespace, receiver: Namespace, source: str, destination: str) -> Transfer:
    """A TCP stream of known bytes, slow enough to last through some rekeys."""
    took = lab.start(receiver, (sys.executable, "-c", RECEIVE, destination, str(PORT)), f"receive-{receiver.name}")
    wait_until(lambda: took.said("listening"), "the receiver")
    words = (sys.executable, "-c", SEND, source, destination, str(PORT), str(STREAM_SECONDS))
    return Transfer(lab.start(sender, words, f"send-{sender.name}"), took)


@pytest.mark.parametrize("lifetimes", ["ours are short", "charon's are short"])
def test_rekeys_lose_nothing(lifetimes: str, lab: Namespaces, carrying_charon: Charon) -> None:
    """Pings and a TCP stream each way through the agent's TUN device, while the keys change again and again."""
    charon = carrying_charon
    for space, host in ((lab.ours, OUR_HOST), (lab.peers, PEER_HOST)):
        lab.give(space, host)
    short = {"rekey_time": "3s", "life_time": "6s", "rand_time": "0s"} if lifetimes == "charon's are short" else {}
    charon.start(connection("aes128-sha1-modp1024", "aes128gcm16", mode="tunnel", child={**SELECTORS, **short}))
    method = "ESP[AES-128-GCM]" if short else "ESP[AES-128-GCM]:100000k/4s"
    agent = Agent(lab, lab.ours, "OURS")
    hosts, gateways = (OUR_HOST, PEER_HOST), (OUR_ADDRESS, PEER_ADDRESS)
    text = tunnel_policy("AES-128-SHA1-2", method, PRESHARED_KEY, hosts=hosts, gateways=gateways)
    agent.start(text, "--profile", "modern", "--key-log")
    first = lab.run(lab.ours, "ping", "-c", "5", "-i", "0.3", "-I", OUR_HOST, PEER_HOST)
    assert ", 0% packet loss" in first or " 4 received" in first, first
    count = str(int(STREAM_SECONDS / 0.02))
    pings = [
        lab.start(space, ("ping", "-D", "-O", "-c", count, "-i", "0.02", "-I", here, there), f"ping-{here}")
        for space, here, there in ((lab.ours, *hosts), (lab.peers, *reversed(hosts)))
    ]
    streams = [
        send_and_count(lab, lab.ours, lab.peers, *hosts),
        send_and_count(lab, lab.peers, lab.ours, *reversed(hosts)),
    ]
    programs = [*pings, *(end for stream in streams for end in (stream.sent, stream.took))]
    wait_until(lambda: all(program.ended for program in programs), "pings and streams", STREAM_SECONDS + 10)
    for ping in pings:
        assert f"{count} received, 0% packet loss" in ping.output
    for stream in streams:
        assert "bytes" in stream.sent.output
        assert stream.sent.output == stream.took.output.removeprefix("listening\n")
    rekeys = len(charon.lines(r"CHILD_SA child0\{\d+\} established")) - 1
    assert rekeys >= 2
    quick_modes = [text for text in agent.audits(541) if "Quick Mode" in text]
    assert len(quick_modes) == rekeys + 1
    agent.program.stop()
    tables = lab.folder / "wireshark"
    tables.mkdir()
    for name in wireshark.TABLES:
        copy(agent.state / name, tables)
    frames = wireshark.readable(lab.recorded(), tables, "isakmp")
    assert wireshark.messages(frames, wireshark.QUICK_MODE) == 3 * (rekeys + 1)
