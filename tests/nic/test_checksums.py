"""Checksum tasks, transmit and receive, against scapy's."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nic_kit import association, moved
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Packet, Raw

from ipsec_core import Burst, Driver, Status
from ipsec_core.driver import NIC_CAPABILITIES, Nic, NicCheck, NicTask

OPTIONS = [b"\x94\x04\x00\x00"]
ALL = NicTask.IPV4_CHECKSUM | NicTask.TCP_CHECKSUM | NicTask.UDP_CHECKSUM
GOOD = {"tcp": NicCheck.IPV4_GOOD | NicCheck.TCP_GOOD, "udp": NicCheck.IPV4_GOOD | NicCheck.UDP_GOOD}


def transmitted(nic: Nic, packets: list[bytes], tasks: int, max_packet: int = 2048) -> list[bytes]:
    source, target = Burst(256, max_packet).load(packets), Burst(256, max_packet)
    assert nic.transmit(source, target, tasks) is None
    return [target.packet(i) for i in range(len(target))]


def received(nic: Nic, *packets: bytes) -> list[NicCheck]:
    return [NicCheck(int(bits)) for bits in nic.receive(Burst(256).load(packets))]


def layers(kind: str, data: bytes, options: bool = False) -> Packet:
    header = IP(src="10.1.0.1", dst="10.1.0.2", options=OPTIONS if options else [])
    upper = TCP(sport=4000, dport=80, seq=7, flags="A") if kind == "tcp" else UDP(sport=4000, dport=53)
    return header / upper / Raw(data)


def blank(packet: Packet, value: int = 0xBEEF) -> bytes:
    """The packet as the host hands it over: what stands in the checksum fields does not count."""
    copy = packet.copy()
    copy[IP].chksum = value
    copy[TCP if TCP in copy else UDP].chksum = value
    return bytes(copy)


packets = st.builds(layers, st.sampled_from(["tcp", "udp"]), st.binary(max_size=200), st.booleans())


@settings(deadline=None, max_examples=60)
@given(packet=packets, capabilities=st.sets(st.sampled_from(sorted(NIC_CAPABILITIES))))
def test_the_checksums_are_scapys_with_any_nic(packet: Packet, capabilities: set[str]) -> None:
    """What the NIC cannot do the host does: only the NIC's figures differ."""
    nic = Nic(capabilities)
    assert transmitted(nic, [blank(packet)], ALL) == [bytes(packet)]
    figures = nic.statistics()
    assert figures["checksums_sent"] + figures["checksums_by_host"] == 2
    wanted = {"send-ipv4-checksum", "send-tcp-checksum" if TCP in packet else "send-udp-checksum"}
    able = not packet[IP].options or "send-ip-options" in capabilities
    assert figures["checksums_sent"] == (len(wanted & capabilities) if able else 0)


@pytest.mark.parametrize("kind", ["tcp", "udp"])
@pytest.mark.parametrize("task", list(NicTask)[:3])
def test_only_what_is_asked_for(kind: str, task: NicTask) -> None:
    packet = layers(kind, b"data")
    (out,) = transmitted(Nic(), [blank(packet)], task)
    whole, found = bytes(packet), IP(out)
    upper = TCP if kind == "tcp" else UDP
    assert found.chksum == (IP(whole).chksum if task == NicTask.IPV4_CHECKSUM else 0xBEEF)
    mine = task == {"tcp": NicTask.TCP_CHECKSUM, "udp": NicTask.UDP_CHECKSUM}[kind]
    assert found[upper].chksum == (IP(whole)[upper].chksum if mine else 0xBEEF)


def test_a_udp_checksum_of_zero_is_sent_as_ones() -> None:
    """RFC 768: 0 would say that there is none. Data equal to the checksum without data make the sum all ones."""
    (empty,) = transmitted(Nic(), [blank(layers("udp", bytes(2)))], NicTask.UDP_CHECKSUM)
    (out,) = transmitted(Nic(), [blank(layers("udp", empty[26:28]), 0)], ALL)
    assert out[26:28] == b"\xff\xff"
    assert received(Nic(), out) == [GOOD["udp"]]


@pytest.mark.parametrize(
    "packet",
    [b"", b"\x45", bytes(IPv6() / UDP() / b"data"), bytes(layers("tcp", b"x"))[:30], b"\x4f" + bytes(30)],
    ids=["empty", "one byte", "ipv6", "cut", "bad header"],
)
def test_what_is_no_whole_ipv4_packet_is_left_alone(packet: bytes) -> None:
    nic = Nic()
    assert transmitted(nic, [packet], ALL) == [packet]
    assert received(nic, packet) == [NicCheck(0)]
    assert moved(Nic().statistics(), nic.statistics()) == {"packets_sent": 1}


@pytest.mark.parametrize("kind", ["tcp", "udp"])
@pytest.mark.parametrize(("flags", "frag"), [("MF", 0), (0, 5)])
def test_fragments_have_a_header_checksum_alone(kind: str, flags: str | int, frag: int) -> None:
    packet = layers(kind, bytes(40))
    packet[IP].flags, packet[IP].frag = flags, frag
    whole = bytearray(blank(packet))
    (out,) = transmitted(Nic(), [bytes(whole)], ALL)
    assert out[20:] == whole[20:]
    assert out[10:12] == bytes(packet)[10:12]
    assert received(Nic(), out) == [NicCheck.IPV4_GOOD]


@pytest.mark.parametrize("protocol", [6, 17])
@pytest.mark.parametrize("size", [0, 4, 7, 19])
def test_no_room_for_a_transport_header(protocol: int, size: int) -> None:
    packet = bytes(IP(src="10.1.0.1", dst="10.1.0.2", proto=protocol) / Raw(b"\x01" * size))
    if protocol == 6 or size < 8:
        assert transmitted(Nic(), [packet], ALL) == [packet]
    assert received(Nic(), packet) == [NicCheck.IPV4_GOOD]


@pytest.mark.parametrize("kind", ["tcp", "udp"])
@pytest.mark.parametrize("options", [False, True])
@pytest.mark.parametrize("size", [0, 1, 2, 3, 64, 1401])
def test_receive(kind: str, options: bool, size: int) -> None:
    """Every damaged bit is found, and told apart by header and transport."""
    rng = random.Random(size)
    nic, good = Nic(), bytes(layers(kind, rng.randbytes(size), options))
    header = 24 if options else 20
    bad_transport = NicCheck.IPV4_GOOD | (NicCheck.TCP_BAD if kind == "tcp" else NicCheck.UDP_BAD)
    assert received(nic, good) == [GOOD[kind]]
    wanted, wrong = [], []
    for at in [8, 10, 12, 19, header, header + 3, *([len(good) - 1] if size else [])]:
        wrong.append(good[:at] + bytes([good[at] ^ 1 << rng.randrange(8)]) + good[at + 1 :])
        wanted.append(NicCheck.IPV4_BAD if at < header else bad_transport)
    assert received(nic, *wrong) == wanted
    figures = nic.statistics()
    assert figures["checksums_bad"] == len(wrong)
    assert figures["checksums_good"] == 2 + sum(bits == bad_transport for bits in wanted)


def test_a_udp_packet_without_a_checksum_is_not_checked() -> None:
    packet = layers("udp", b"data")
    packet[UDP].chksum = 0
    assert received(Nic(), bytes(packet)) == [NicCheck.IPV4_GOOD]


@pytest.mark.parametrize("missing", ["receive-ipv4-checksum", "receive-tcp-checksum", "receive-ip-options"])
def test_receive_capabilities(missing: str) -> None:
    nic = Nic(set(NIC_CAPABILITIES) - {missing})
    plain, options = received(nic, bytes(layers("tcp", b"x")), bytes(layers("tcp", b"x", True)))
    expected = {
        "receive-ipv4-checksum": (NicCheck.TCP_GOOD, NicCheck.TCP_GOOD),
        "receive-tcp-checksum": (NicCheck.IPV4_GOOD, NicCheck.IPV4_GOOD),
        "receive-ip-options": (GOOD["tcp"], NicCheck(0)),
    }
    assert (plain, options) == expected[missing]


def test_enable_offload_0() -> None:
    nic, driver, packet = Nic(), Driver(), layers("tcp", b"data")
    driver.attach_nic(nic, enable_offload=False)
    assert received(nic, bytes(packet)) == [NicCheck(0)]
    assert transmitted(nic, [blank(packet)], ALL) == [bytes(packet)]
    assert nic.statistics()["checksums_by_host"] == 2


def test_packets_that_the_driver_dropped_are_not_sent() -> None:
    driver = Driver(seed=1)
    driver.add_sa(association("in"))
    good, esp = bytes(layers("tcp", b"data")), bytes(IP(src="10.1.0.1", dst="10.1.0.2", proto=50) / Raw(bytes(40)))
    source, target = Burst().load([esp, good]), Burst()
    driver.inbound(source)
    assert Nic().transmit(source, target) is None
    assert target.packets() == [good]
    assert target.status.tolist() == [Status.NO_FILTER]


def test_longer_than_the_mtu() -> None:
    nic, source, target = Nic(mtu=576), Burst().load([bytes(layers("udp", bytes(n))) for n in (548, 549)]), Burst()
    assert nic.transmit(source, target) is None
    assert target.length.tolist() == [576]
    assert source.status.tolist() == [Status.UNPROCESSED, Status.EXCEEDS_MTU]
    assert nic.statistics()["packets_too_long"] == 1
