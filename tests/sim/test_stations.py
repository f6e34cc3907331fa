"""Captures without IPv4 hosts travel by MAC address; ARP names the simulated computers."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from scapy.layers.inet import IP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6
from scapy.layers.l2 import ARP, Ether
from scapy.utils import PcapReader, rdpcap, wrpcap

from ipsec_core.sim._world import Trace
from ipsec_core.sim.world import World

A, B, C = "02:00:00:00:00:0a", "02:00:00:00:00:0b", "02:00:00:00:00:0c"


def raw(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def test_stations_are_counted_like_a_slow_count(captures: Path) -> None:
    path = captures / "sample-captures/wireshark-wiki/general-unsorted/v6.pcap"
    slow: Counter[tuple[bytes, bytes]] = Counter()
    with PcapReader(str(path)) as packets:
        for packet in packets:
            ends = sorted((raw(packet[Ether].src), raw(packet[Ether].dst)))
            if ends[0] != ends[1] and not (ends[0][0] | ends[1][0]) & 1:
                slow[ends[0], ends[1]] += 1
    found = Trace(path).stations(len(slow) + 1)
    assert {(a, b): frames for a, b, frames, _ in found} == dict(slow)
    assert [frames for _, _, frames, _ in found] == sorted(slow.values(), reverse=True)


def test_ipv6_travels_in_clear_between_the_two_busiest_stations(tmp_path: Path) -> None:
    ping = IPv6(src="fd00::a", dst="fd00::b") / ICMPv6EchoRequest(data=b"six")
    frames = [
        Ether(src=A, dst=B) / ping,
        Ether(src=A, dst=C) / ping,
        Ether(src=B, dst=A) / ping,
        Ether(src=A, dst=B) / ping,
    ]
    wrpcap(str(tmp_path / "six.pcap"), frames)
    world = World()
    a, b = world.computer("ALICE", "10.0.0.1"), world.computer("BOB", "10.0.0.2")
    world.capture(world.link(a, b), tmp_path / "link.pcapng")
    world.replay(tmp_path / "six.pcap", a, b)
    world.run()
    seen = rdpcap(str(tmp_path / "link.pcapng"))
    assert [bytes(frame.payload) for frame in seen] == [bytes(ping)] * 3
    assert [frame.src for frame in seen] == ["02:00:0a:00:00:01", "02:00:0a:00:00:02", "02:00:0a:00:00:01"]
    assert world.time.node_counters(1)["packets_delivered"] == 2


def test_raw_ipv6_gets_an_address_per_host(tmp_path: Path) -> None:
    packets = [
        IPv6(src="fd00::a", dst="fd00::b") / ICMPv6EchoRequest(),
        IPv6(src="fd00::b", dst="fd00::a") / ICMPv6EchoRequest(),
    ]
    wrpcap(str(tmp_path / "raw.pcap"), packets, linktype=101)
    ((a, b, frames, _),) = Trace(tmp_path / "raw.pcap").stations()
    assert a != b
    assert frames == 2


@pytest.mark.parametrize("rewrite", [True, False])
def test_arp_names_the_computers(tmp_path: Path, rewrite: bool) -> None:
    ask = Ether(src=A, dst="ff:ff:ff:ff:ff:ff") / ARP(op=1, hwsrc=A, psrc="192.0.2.1", pdst="192.0.2.2")
    tell = Ether(src=B, dst=A) / ARP(op=2, hwsrc=B, psrc="192.0.2.2", hwdst=A, pdst="192.0.2.1")
    data = [
        Ether(src=x, dst=y) / IP(src=p, dst=q, proto=253)
        for x, y, p, q in ((A, B, "192.0.2.1", "192.0.2.2"), (B, A, "192.0.2.2", "192.0.2.1"))
    ]
    wrpcap(str(tmp_path / "arp.pcap"), [ask, tell, *data])
    world = World()
    a, b = world.computer("ALICE", "10.0.0.1"), world.computer("BOB", "10.0.0.2")
    world.capture(world.link(a, b), tmp_path / "link.pcapng")
    world.replay(tmp_path / "arp.pcap", a, b, gateways=not rewrite)
    world.run()
    asked, told = (frame[ARP] for frame in rdpcap(str(tmp_path / "link.pcapng"))[:2])
    one, two = ("10.0.0.1", "10.0.0.2") if rewrite else ("192.0.2.1", "192.0.2.2")
    assert (asked.hwsrc, asked.psrc, asked.hwdst, asked.pdst) == ("02:00:0a:00:00:01", one, "00:00:00:00:00:00", two)
    assert (told.hwsrc, told.psrc, told.hwdst, told.pdst) == ("02:00:0a:00:00:02", two, "02:00:0a:00:00:01", one)
