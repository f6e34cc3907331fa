"""ipc_trace_map: who sends to whom; rewriting against scapy's checksums; reassembly against ipc_reassembler_input."""

from __future__ import annotations

import random
import struct
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPerror, TCPerror, UDPerror, fragment
from scapy.layers.l2 import ARP
from scapy.packet import Packet, Raw

A, B, C = "10.0.0.1", "10.0.0.2", "10.0.0.3"
NEW_A, NEW_B = "192.168.77.200", "172.31.255.254"
BROADCAST = b"\xff" * 6


def mac(number: int) -> bytes:
    return bytes([0, 0, 0, 0, 0, number])


def frame(packet: Packet | bytes, src: int = 1, dst: int = 2, kind: int = 0x800, to: bytes | None = None) -> bytes:
    return (to or mac(dst)) + mac(src) + kind.to_bytes(2, "big") + bytes(packet)


def pcap(path: Path, frames: list[bytes], gap: int = 1000) -> Path:
    data = struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 262144, 1)
    for number, x in enumerate(frames):
        data += struct.pack("<IIII", *divmod(number * gap, 10**9), len(x), len(x)) + x
    path.write_bytes(data)
    return path


def mapped(library: Any, path: Path, *maps: Any, reassemble: bool = False) -> Any:
    trace = library.trace(path)
    assert (trace.code, trace.error) == (0, "")
    assert trace.map(*maps, reassemble=reassemble) == 0
    return trace


def routes(trace: Any) -> list[tuple[int, int, int]]:
    return [(x.number, x.sender, x.receiver) for x in trace.frames()]


def ip(src: str, dst: str, **fields: Any) -> Packet:
    return IP(src=src, dst=dst, **fields) / UDP(sport=1, dport=2) / Raw(b"hello")


# --- who sends what to whom ---


def test_ipv4_frames(library: Any, names: SimpleNamespace, tmp_path: Path) -> None:
    pairs = [(A, B), (B, A), (A, C), (C, A), (A, A), (A, "10.0.1.9"), (A, "224.0.0.5"), (C, "224.0.0.5")]
    pairs += [(B, "255.255.255.255"), ("0.0.0.0", "255.255.255.255"), ("10.0.1.3", "10.0.1.4")]
    frames = [frame(ip(*x)) for x in pairs] + [frame(ip(A, "10.0.1.255"), to=BROADCAST)]
    maps = names.host(A, 0), names.host(B, 7), names.host("10.0.1.0", 7, prefix=24)
    trace = mapped(library, pcap(tmp_path / "x", frames), *maps)
    assert routes(trace) == [(1, 0, 7), (2, 7, 0), (6, 0, 7), (7, 0, 0), (9, 7, 7), (12, 0, 0)]
    assert (trace.stats.mapped, trace.stats.unmapped) == (6, 6)


def test_the_first_map_wins(library: Any, names: SimpleNamespace, tmp_path: Path) -> None:
    path = pcap(tmp_path / "x", [frame(ip(A, B))])
    assert routes(mapped(library, path, names.host(A, 3), names.host("10.0.0.0", 4, prefix=8))) == [(1, 3, 4)]
    assert routes(mapped(library, path, names.host("0.0.0.0", 4, prefix=0), names.host(A, 3))) == []
    assert routes(mapped(library, path, names.host(A, 3), names.host("10.0.99.99", 4, prefix=8))) == [(1, 3, 4)]


def test_other_frames_follow_mac_addresses(library: Any, names: SimpleNamespace, tmp_path: Path) -> None:
    frames = [
        frame(b"before", 1, 2, 0x806),
        frame(ip(A, B), 1, 2),
        frame(ip(B, "8.8.8.8"), 2, 9),
        frame(ip(C, A), 3, 1),
        frame(b"reply", 2, 1, 0x806),
        frame(b"who has", 1, kind=0x806, to=BROADCAST),
        frame(b"multicast", 2, kind=0x86DD, to=bytes.fromhex("333300000001")),
        frame(b"unknown destination", 1, 8, 0x806),
        frame(b"unknown source", 8, 1, 0x806),
        frame(b"unknown source", 8, kind=0x806, to=BROADCAST),
        frame(b"host that is not mapped", 3, 1, 0x806),
        frame(b"itself", 1, 1, 0x9000),
    ]
    trace = mapped(library, pcap(tmp_path / "x", frames), names.host(A, 5), names.host(B, 6))
    assert routes(trace) == [(1, 5, 6), (2, 5, 6), (5, 6, 5), (6, 5, 5), (7, 6, 6)]
    assert trace.frames()[0].l3 == b"before"


def test_a_router_teaches_nothing(library: Any, names: SimpleNamespace, tmp_path: Path) -> None:
    frames = [frame(ip(A, B), 1, 9), frame(ip(A, B), 9, 2), frame(ip(B, A), 2, 9), frame(ip(B, A), 9, 1)]
    frames += [frame(b"arp", 9, 1, 0x806), frame(b"arp", 1, 9, 0x806), frame(b"arp", 1, 2, 0x806)]
    trace = mapped(library, pcap(tmp_path / "x", frames), names.host(A, 0), names.host(B, 1))
    assert [x for x in routes(trace) if x[0] > 4] == [(7, 0, 1)]
    assert trace.stats.unmapped == 2


# --- rewriting ---


def right(packet: Packet) -> list[bool | None]:
    """For the header and the transport checksum: right, wrong, or none (None)."""
    result: list[bool | None] = []
    for layer in (packet, packet.payload):
        name = {"IP": "chksum", "TCP": "chksum", "UDP": "chksum", "ICMP": "chksum"}.get(type(layer).__name__)
        if name is None or (isinstance(layer, UDP) and layer.chksum == 0):
            result.append(None)
            continue
        copy = packet.copy()
        target = copy if layer is packet else copy.payload
        del target.chksum
        fresh = IP(bytes(copy))
        expected = (fresh if layer is packet else fresh.payload).chksum
        result.append(expected == layer.chksum)
    return result


def check_rewriting(library: Any, names: SimpleNamespace, path: Path) -> list[list[bool | None]]:
    plain = library.trace(path)
    conversations = plain.conversations(1)
    if plain.code or not conversations:
        return []
    a, b = (".".join(map(str, x.to_bytes(4, "big"))) for x in conversations[0][:2])
    assert plain.map(names.host(a, 0), names.host(b, 1)) == 0
    changed = mapped(library, path, names.host(a, 0, NEW_A), names.host(b, 1, NEW_B))
    verdicts = []
    new = {a: NEW_A, b: NEW_B}
    before, after = plain.frames(), changed.frames()
    assert len(before) == len(after)
    for old, now in zip(before, after, strict=True):
        assert (old.l2, old.time, old.number, old.sender, old.receiver) == (
            *(now.l2, now.time, now.number),
            *(now.sender, now.receiver),
        )
        if old.ethertype == 0x806:
            arp = ARP(old.l3)
            arp.psrc, arp.pdst = new.get(arp.psrc, arp.psrc), new.get(arp.pdst, arp.pdst)
            assert bytes(arp) == now.l3
            continue
        if old.ethertype != 0x800:
            assert old.l3 == now.l3
            continue
        x, y = IP(old.l3), IP(now.l3)
        assert y.src == new[x.src]
        assert y.dst == (new[x.dst] if old.sender != old.receiver else x.dst)
        assert right(x) == right(y), (path, old.number)
        verdicts.append(right(x))
    return verdicts


def test_captures_keep_their_checksums_verdicts(library: Any, names: SimpleNamespace, captures: Path) -> None:
    wrong_headers = wrong_transport = packets = 0
    paths = [*sorted(captures.glob("zeek/traffic/*.pcap")), captures / "tcpreplay/traffic/test.pcap"]
    for path in paths:
        if path.stat().st_size > 100_000:
            continue
        verdicts = check_rewriting(library, names, path)
        packets += len(verdicts)
        wrong_headers += sum(x[0] is False for x in verdicts)
        wrong_transport += sum(x[1] is False for x in verdicts)
    assert packets > 200
    assert wrong_headers > 0
    assert wrong_transport > 0


transports = st.one_of(
    st.builds(lambda c: TCP(sport=1, dport=2, chksum=c), st.one_of(st.none(), st.integers(0, 0xFFFF))),
    st.builds(lambda c: UDP(sport=1, dport=2, chksum=c), st.one_of(st.none(), st.integers(0, 0xFFFF))),
)
addresses = st.integers(1, 0xDFFFFFFF).map(lambda x: ".".join(map(str, x.to_bytes(4, "big"))))


@given(
    transport=transports,
    payload=st.binary(max_size=40),
    ends=st.lists(addresses, min_size=4, max_size=4, unique=True),
    offset=st.sampled_from([0, 0, 0, 5]),
    inside=st.booleans(),
)
@settings(deadline=None, max_examples=200)
def test_rewriting(
    library: Any,
    names: SimpleNamespace,
    tmp_path_factory: pytest.TempPathFactory,
    transport: Packet,
    payload: bytes,
    ends: list[str],
    offset: int,
    inside: bool,
) -> None:
    a, b, new_a, new_b = ends
    inner = IP(src=a, dst=b, frag=offset, ttl=3) / transport / Raw(payload)
    packet = IP(bytes(IP(src=b, dst=a) / ICMP(type=11) / inner) if inside else bytes(inner))
    path = pcap(tmp_path_factory.getbasetemp() / "rewriting.pcap", [frame(packet)])
    maps = names.host(a, 0, new_a), names.host(b, 1, new_b)
    (now,) = mapped(library, path, *maps).frames()
    # What scapy makes of the packet with the new addresses, where the old checksum was what scapy makes of the old.
    expected_inner = inner.copy()
    expected_inner.src, expected_inner.dst = new_a, new_b
    if offset:
        expected_inner.payload = Raw(bytes(inner)[20:])
    expected = IP(src=new_b, dst=new_a) / ICMP(type=11) / expected_inner if inside else expected_inner
    if transport.chksum is None or offset or (transport.chksum == 0 and isinstance(transport, UDP)):
        assert now.l3 == bytes(expected)
        return
    fresh = IP(now.l3)
    assert right(fresh)[0] is True
    # An arbitrary checksum: its difference to the right one stays (modulo 65535), so that wrong stays wrong.
    at = (48 if inside else 20) + (16 if isinstance(transport, TCP) else 6)
    old, new = (int.from_bytes(x[at : at + 2], "big") for x in (bytes(packet), now.l3))
    old_right, new_right = (
        int.from_bytes(bytes(IP(src=s, dst=d) / renewed(transport) / Raw(payload))[at - 28 * inside :][:2], "big")
        for s, d in ((a, b), (new_a, new_b))
    )
    assert (old - old_right) % 0xFFFF == (new - new_right) % 0xFFFF
    if inside:
        assert right(fresh)[1] is True


def renewed(transport: Packet) -> Packet:
    copy = transport.copy()
    copy.chksum = None
    return copy


def test_udp_checksum_that_becomes_zero_is_sent_as_ones(library: Any, names: SimpleNamespace, tmp_path: Path) -> None:
    packet = ip(A, B)
    checksum = IP(bytes(packet))[UDP].chksum
    # An address that makes up for the whole checksum: one's complement sums are linear.
    low = (int.from_bytes(bytes(map(int, B.split(".")))[2:], "big") + checksum) % 0xFFFF
    new_b = f"10.0.{low >> 8}.{low & 255}"
    path = pcap(tmp_path / "x", [frame(packet)])
    (now,) = mapped(library, path, names.host(A, 0), names.host(B, 1, new_b)).frames()
    assert IP(now.l3)[UDP].chksum == 0xFFFF
    assert now.l3 == bytes(ip(A, new_b))


def test_icmp_errors_of_captures(library: Any, names: SimpleNamespace, captures: Path) -> None:
    for name, kind in (("icmp-destunreach-udp.pcap", UDPerror), ("icmp-timeexceeded.pcap", UDPerror)):
        path = captures / "zeek/traffic" / name
        plain = library.trace(path)
        a, b = (".".join(map(str, x.to_bytes(4, "big"))) for x in plain.conversations(1)[0][:2])
        trace = mapped(library, path, names.host(a, 0, NEW_A), names.host(b, 1, NEW_B))
        errors = [IP(x.l3) for x in trace.frames() if IPerror in IP(x.l3)]
        assert errors
        for error in errors:
            assert {error[IPerror].src, error[IPerror].dst} <= {NEW_A, NEW_B}
            assert kind in error or TCPerror in error
            assert right(error) == [True, True]


def test_destination_of_a_broadcast_stays(library: Any, names: SimpleNamespace, tmp_path: Path) -> None:
    path = pcap(tmp_path / "x", [frame(ip(A, "10.0.0.255"), to=BROADCAST)])
    maps = names.host(A, 0, NEW_A), names.host("10.0.0.0", 1, NEW_B, prefix=24)
    (now,) = mapped(library, path, *maps).frames()
    assert now.l3 == bytes(ip(NEW_A, "10.0.0.255"))


@pytest.mark.parametrize(("protocol", "size"), [(6, 17), (17, 7), (1, 7), (1, 27)])
def test_a_checksum_that_is_not_there_stays_untouched(
    library: Any, names: SimpleNamespace, tmp_path: Path, protocol: int, size: int
) -> None:
    packet = IP(src=A, dst=B, proto=protocol) / Raw(b"\x0b" + bytes(7) + bytes(IP(src=A, dst=B))[: size - 8])
    data = bytes(packet)[: 20 + size]
    data = data[:2] + len(data).to_bytes(2, "big") + data[4:]
    path = pcap(tmp_path / "x", [frame(data), frame(ip(B, A))])
    trace = mapped(library, path, names.host(A, 0, NEW_A), names.host(B, 1, NEW_B))
    short, following = trace.frames()
    assert short.l3[20:] == data[20:]
    assert following.l2 + following.l3 == frame(ip(NEW_B, NEW_A))


def test_an_embedded_header_beyond_the_packet_stays_untouched(
    library: Any, names: SimpleNamespace, tmp_path: Path
) -> None:
    inner = b"\x4f" + bytes(IP(src=A, dst=B, proto=6))[1:]
    packet = IP(src=B, dst=A) / ICMP(type=11) / Raw(inner)
    path = pcap(tmp_path / "x", [frame(packet), frame(ip(B, A))])
    trace = mapped(library, path, names.host(A, 0, NEW_A), names.host(B, 1, NEW_B))
    assert [x.l3[20:] for x in trace.frames()] == [bytes(packet)[20:], bytes(ip(NEW_B, NEW_A))[20:]]


def test_same_address_changes_nothing(library: Any, names: SimpleNamespace, tmp_path: Path) -> None:
    packet = bytearray(bytes(ip(A, B)))
    packet[10:12] = b"\xff\xff"
    path = pcap(tmp_path / "x", [frame(bytes(packet))])
    (now,) = mapped(library, path, names.host(A, 0, A), names.host(B, 1, B)).frames()
    assert now.l3 == bytes(packet)


# --- reassembly ---


def pieces(payload: int = 3000, number: int = 1, src: str = A, dst: str = B) -> tuple[bytes, list[bytes]]:
    packet = IP(src=src, dst=dst, id=number) / UDP(sport=1, dport=2) / Raw(random.Random(number).randbytes(payload))
    return bytes(packet), [bytes(x) for x in fragment(packet, 1480)]


def test_fragments_are_joined_at_the_time_of_the_last(library: Any, names: SimpleNamespace, tmp_path: Path) -> None:
    one, first = pieces(3000, 1)
    two, second = pieces(2000, 2, B, A)
    frames = [frame(x) for x in (first[2], second[0], first[0], ip(A, B), second[1], first[1], first[0])]
    maps = names.host(A, 0), names.host(B, 1)
    trace = mapped(library, pcap(tmp_path / "x", frames), *maps, reassemble=True)
    got = [(x.number, x.time, x.l3) for x in trace.frames()]
    # The last frame repeats a fragment of a datagram that is complete: an incomplete datagram of its own.
    assert got == [(4, 3000, bytes(ip(A, B))), (5, 4000, two), (6, 5000, one), (7, 6000, first[0])]
    assert all(x.l2 == frames[0][:14] for x in trace.frames())
    stats = trace.stats
    assert (stats.frames, stats.mapped, stats.reassembled, stats.unmapped) == (7, 4, 5, 0)
    assert stats.max_l3 == len(one)
    assert stats.bytes == sum(14 + len(x[2]) for x in got)


def test_joined_datagrams_are_rewritten_whole(library: Any, names: SimpleNamespace, tmp_path: Path) -> None:
    one, first = pieces(3000, 1)
    packet = IP(src=A, dst=B, id=9) / TCP(sport=1, dport=2) / Raw(b"tiny first fragment")
    tiny = [bytes(x) for x in fragment(packet, 8)]  # the checksum is in the third
    maps = names.host(A, 0, NEW_A), names.host(B, 1, NEW_B)
    path = pcap(tmp_path / "x", [frame(x) for x in first + tiny])
    joined = [IP(x.l3) for x in mapped(library, path, *maps, reassemble=True).frames()]
    assert [right(x) for x in joined] == [[True, True], [True, True]]
    assert [(x.src, x.dst) for x in joined] == [(NEW_A, NEW_B)] * 2
    assert bytes(joined[0])[20:26] == one[20:26]
    # Left as they are, the first fragment carries the checksum of the whole datagram.
    apart = [x.l3 for x in mapped(library, path, *maps).frames()][: len(first)]
    table = library.reassembler()
    assert [table.input(x) for x in apart][-1] == bytes(joined[0])


def test_incomplete_overlapping_and_malformed_travel_as_they_are(
    library: Any, names: SimpleNamespace, tmp_path: Path
) -> None:
    _, first = pieces(3000, 1)
    _, second = pieces(3000, 2)
    overlap = bytes(IP(src=A, dst=B, id=2, frag=1, flags="MF", proto=17) / Raw(bytes(16)))
    malformed = bytes(IP(src=A, dst=B, id=3, flags="MF", proto=17) / Raw(bytes(15)))
    sent = [first[0], second[0], overlap, second[1], second[2], malformed, first[2]]
    maps = names.host(A, 0), names.host(B, 1)
    trace = mapped(library, pcap(tmp_path / "x", [frame(x) for x in sent]), *maps, reassemble=True)
    assert [x.l3 for x in trace.frames()] == sent
    assert trace.stats.reassembled == 0


def test_an_old_fragment_does_not_travel_with_a_new_datagram(
    library: Any, names: SimpleNamespace, tmp_path: Path
) -> None:
    """The same id again after the timeout: the fragment that was left over is no part of the second datagram."""
    one, first = pieces(3000, 1)
    sent = [first[0], *first]
    maps = names.host(A, 0), names.host(B, 1)
    late = mapped(library, pcap(tmp_path / "x", [frame(x) for x in sent], gap=25 * 10**9), *maps, reassemble=True)
    # 0, 25, 50, 75 s: the first of all is 60 s old when the last one comes.
    assert [x.l3 for x in late.frames()] == sent
    soon = mapped(library, pcap(tmp_path / "x", [frame(x) for x in sent], gap=10**9), *maps, reassemble=True)
    assert [x.l3 for x in soon.frames()] == [one]
    assert soon.stats.reassembled == 4


def test_more_datagrams_than_the_table_holds(library: Any, names: SimpleNamespace, tmp_path: Path) -> None:
    """1200 first fragments, then the others: those of the first 176 datagrams were pushed out."""
    _, both = pieces(1600)
    split = [[x[:4] + number.to_bytes(2, "big") + x[6:] for x in both] for number in range(1200)]
    frames = [frame(x[0]) for x in split] + [frame(x[1]) for x in split[176:]]
    maps = names.host(A, 0), names.host(B, 1)
    trace = mapped(library, pcap(tmp_path / "x", frames), *maps, reassemble=True)
    assert trace.stats.mapped == 1200
    assert trace.stats.reassembled == 2 * 1024
    assert trace.stats.bytes == sum(map(len, frames[:176])) + 1024 * (14 + 1628)


@pytest.mark.parametrize(
    ("name", "datagrams"),
    [
        ("zeek/traffic/fragmented-syn.pcap", 1),
        ("sample-captures/wireshark-wiki/general-unsorted/ipv4frags.pcap", 1),
        ("corelight-spicy-ipsec/ipsec_client.pcap", 3),
    ],
)
def test_captures_with_fragments(
    library: Any, names: SimpleNamespace, captures: Path, name: str, datagrams: int
) -> None:
    def parts(reassemble: bool) -> Any:
        trace = library.trace(captures / name)
        a, b, *_ = trace.conversations(1)[0]
        hosts = (".".join(map(str, x.to_bytes(4, "big"))) for x in (a, b))
        assert trace.map(*(names.host(x, i) for i, x in enumerate(hosts)), reassemble=reassemble) == 0
        return trace

    apart, joined = parts(False), parts(True)
    table = library.reassembler(timeout=60 * 10**9)
    results = [table.input(x.l3, x.time) for x in apart.frames() if x.ethertype == 0x800]
    whole = [x for x in results if isinstance(x, bytes)]
    assert [x.l3 for x in joined.frames() if x.ethertype == 0x800] == whole
    stats = joined.stats
    assert stats.frames == stats.mapped + stats.unmapped + stats.unsendable + stats.reassembled - datagrams
