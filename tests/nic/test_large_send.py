"""TCP large sends: the segments are what a TCP would have sent, whoever cuts them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nic_kit import moved
from scapy.layers.inet import IP, TCP, UDP
from scapy.packet import Packet, Raw

from ipsec_core import Burst, Status
from ipsec_core.driver import Nic, NicTask

BIG = 65535


def large(data: bytes, flags: str = "PA", *, seq: int = 1000, identification: int = 100, **fields: Any) -> Packet:
    header = IP(src="10.1.0.1", dst="10.1.0.2", id=identification, flags="DF", tos=fields.pop("tos", 0))
    return header / TCP(sport=4000, dport=80, seq=seq, ack=77, flags=flags, window=5000, **fields) / Raw(data)


def send(nic: Nic, packets: list[Packet | bytes], mss: int = 0, capacity: int = 256) -> list[Packet]:
    source, target = Burst(max(1, len(packets)), BIG).load([bytes(p) for p in packets]), Burst(capacity, nic.mtu)
    out: list[Packet] = []
    cursor: tuple[int, int] | None = (0, 0)
    while cursor is not None:
        cursor = nic.transmit(source, target, NicTask.LARGE_SEND, mss, cursor)
        assert len(target) > 0
        out += [IP(target.packet(i)) for i in range(len(target))]
    return out


def whole(packet: Packet) -> bool:
    """Whether scapy computes the same checksums."""
    fresh = packet.copy()
    del fresh[IP].chksum, fresh[TCP].chksum
    return bytes(fresh) == bytes(packet)


@settings(deadline=None, max_examples=60)
@given(
    data=st.binary(min_size=0, max_size=6000),
    mss=st.sampled_from([0, 1, 100, 536, 1460, 65535]),
    mtu=st.sampled_from([300, 576, 1500, 9000]),
    capacity=st.sampled_from([1, 3, 256]),
    options=st.booleans(),
    seq=st.sampled_from([0, 1000, 0xFFFFFF00]),
    identification=st.sampled_from([0, 65530]),
)
def test_what_is_cut_comes_together_again(
    data: bytes, mss: int, mtu: int, capacity: int, options: bool, seq: int, identification: int
) -> None:
    data = data[:300] if mss == 1 else data
    packet = large(
        data,
        seq=seq,
        identification=identification,
        options=[("NOP", None), ("NOP", None), ("Timestamp", (1, 2))] if options else [],
    )
    segments = send(Nic(mtu=mtu), [packet], mss, capacity)
    room = mtu - (52 if options else 40)
    size = min(mss or room, room)
    assert len(segments) == max(1, -(-len(data) // size))
    assert b"".join(bytes(s[TCP].payload) for s in segments) == data
    for i, segment in enumerate(segments):
        assert whole(segment)
        assert len(segment) <= mtu
        assert segment.id == (identification + i) & 0xFFFF
        assert segment[TCP].seq == (seq + i * size) & 0xFFFFFFFF
        assert segment[TCP].ack == 77
        assert segment[TCP].options == packet[TCP].options
        assert segment.flags == "DF"


@pytest.mark.parametrize(
    ("flags", "first", "middle", "last"),
    [
        ("A", "A", "A", "A"),
        ("PA", "A", "A", "PA"),
        ("FPA", "A", "A", "FPA"),
        ("PAC", "AC", "A", "PA"),
        ("AE", *["AE"] * 3),
    ],
)
def test_flags(flags: str, first: str, middle: str, last: str) -> None:
    """FIN and PSH in the last segment alone, CWR in the first (RFC 3168 6.1.2), ECE in all."""
    segments = send(Nic(), [large(bytes(4000), flags)])
    assert [str(s[TCP].flags) for s in segments] == [first, middle, last]


def test_one_segment_keeps_its_flags() -> None:
    (segment,) = send(Nic(), [large(bytes(1460), "FPA")])
    assert segment[TCP].flags == "FPA"
    assert whole(segment)


@pytest.mark.parametrize(
    ("options", "size", "by_nic"),
    [
        ({}, 4000, True),
        ({"capabilities": []}, 4000, False),
        ({"large_send_max": 4000}, 4000, True),
        ({"large_send_max": 3999}, 4000, False),
        ({"large_send_min_segments": 3}, 4000, True),
        ({"large_send_min_segments": 4}, 4000, False),
    ],
)
def test_the_limits_of_the_nic(options: dict[str, Any], size: int, by_nic: bool) -> None:
    """Beyond them the host cuts, with the same result."""
    nic = Nic(**options)
    assert send(nic, [large(bytes(size))]) == send(Nic(), [large(bytes(size))])
    expected = {"large_sends" if by_nic else "large_sends_by_host": 1, "segments": 3, "packets_sent": 3}
    assert moved(Nic().statistics(), nic.statistics()) == expected


FRAGMENT = large(bytes(4000))
FRAGMENT[IP].flags = "MF"


@pytest.mark.parametrize(
    "packet",
    [
        IP(src="10.1.0.1", dst="10.1.0.2", proto=50) / Raw(bytes(4000)),
        IP(src="10.1.0.1", dst="10.1.0.2", proto=51) / Raw(bytes(4000)),
        IP() / UDP() / Raw(bytes(4000)),
        FRAGMENT,
        large(bytes(4000), "S"),
        large(bytes(4000), "RA"),
        large(bytes(4000), "UA"),
        large(bytes(4000), dataofs=4),
        large(bytes(4), dataofs=15),
        b"\x60" + bytes(4000),
        bytes(large(bytes(4000)))[:3000],
    ],
    ids=["esp", "ah", "udp", "fragment", "syn", "rst", "urg", "short header", "long header", "ipv6", "cut"],
)
def test_what_must_not_be_cut(packet: Packet | bytes) -> None:
    """IPsec and large send exclude each other on one packet. Too long for the MTU, it is not sent."""
    nic, source, target = Nic(), Burst(1, BIG).load([bytes(packet)]), Burst(4)
    assert nic.transmit(source, target, NicTask.LARGE_SEND) is None
    fits = len(bytes(packet)) <= 1500
    assert [target.packet(i) for i in range(len(target))] == ([bytes(packet)] if fits else [])
    assert source.status.tolist() == [Status.UNPROCESSED if fits else Status.EXCEEDS_MTU]
    assert nic.statistics()["large_sends_refused"] == 1


def test_the_longest_packet_in_the_smallest_segments() -> None:
    data = bytes(range(256)) * 255
    segments = send(Nic(mtu=68), [large(data)])
    assert len(segments) == -(-len(data) // 28)
    assert b"".join(bytes(s[TCP].payload) for s in segments) == data


def test_one_task_a_packet() -> None:
    packets = [large(bytes(3000), identification=1), large(bytes(3000), identification=50), large(b"x", seq=9)]
    source, target = Burst(3, BIG).load([bytes(p) for p in packets]), Burst(64)
    tasks = [NicTask.LARGE_SEND, NicTask(0), NicTask.TCP_CHECKSUM]
    assert Nic().transmit(source, target, tasks, [1000, 0, 0]) is None
    assert [IP(target.packet(i)).id for i in range(4)] == [1, 2, 3, 100]
    assert target.length.tolist() == [1040, 1040, 1040, 41]
    assert source.status.tolist() == [Status.UNPROCESSED, Status.EXCEEDS_MTU, Status.UNPROCESSED]


@pytest.mark.parametrize("cursor", [(7, 0), (1 << 31, 5), (0, 65535), (0, 7)])
def test_a_cursor_from_elsewhere_does_no_harm(cursor: tuple[int, int]) -> None:
    source, target = Burst(1, BIG).load([bytes(large(bytes(3000)))]), Burst(64)
    assert Nic().transmit(source, target, NicTask.LARGE_SEND, 0, cursor) is None
    assert len(target) <= 3
