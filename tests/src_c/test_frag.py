"""ipc_fragment and ipc_reassembler against scapy, and against each other."""

from __future__ import annotations

import ctypes
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP, defragment
from scapy.packet import Raw
from scapy.utils import rdpcap

ROUTER_ALERT = b"\x94\x04\x00\x00"  # copied into all fragments
RECORD_ROUTE = b"\x07\x07\x04\x00\x00\x00\x00"  # first fragment only
NOP = b"\x01"
NOTHING = dict.fromkeys(("fragments", "datagrams", "overlaps", "timeouts", "overflows", "malformed"), 0)


def make(payload: bytes, options: bytes = b"", flags: int = 0, offset: int = 0, **fields: Any) -> bytes:
    options += b"\x00" * (-len(options) % 4)
    fields = {"src": "10.0.0.1", "dst": "10.0.0.2", "id": 7, "proto": 17} | fields
    header = IP(ihl=5 + len(options) // 4, len=20 + len(options) + len(payload), flags=flags, frag=offset, **fields)
    packet = bytearray(bytes(header)[:20] + options + payload)
    packet[10:12] = b"\0\0"
    packet[10:12] = checksum(bytes(packet[: 20 + len(options)]))
    return bytes(packet)


def checksum(header: bytes) -> bytes:
    total = sum(int.from_bytes(header[i : i + 2], "big") for i in range(0, len(header), 2)) % 0xFFFF
    return (0xFFFF - (total or 0xFFFF)).to_bytes(2, "big")


def piece(data: bytes, at: int, more: bool, **fields: Any) -> bytes:
    """Fragment with `data` at byte `at`."""
    return make(data, flags=1 if more else 0, offset=at // 8, **fields)


def test_fragments_are_those_of_scapy(library: Any) -> None:
    packet = IP(src="10.0.0.1", dst="10.0.0.2", id=77, proto=17, ttl=9, tos=8) / Raw(random.Random(1).randbytes(4000))
    count, ours = library.fragment(bytes(packet), 1500)
    scapys = [bytes(x) for x in packet.fragment(1480)]
    assert ours == scapys
    assert count == len(ours) == 3


def test_options_with_copy_bit_stay_in_all_fragments(library: Any) -> None:
    packet = make(b"x" * 130, ROUTER_ALERT + RECORD_ROUTE + NOP)
    count, fragments = library.fragment(packet, 80)
    parsed = [IP(x) for x in fragments]
    assert count == len(parsed) == 3
    assert [x.ihl for x in parsed] == [8, 6, 6]
    assert fragments[0][20:32] == packet[20:32]
    assert all(x[20:24] == ROUTER_ALERT for x in fragments[1:])
    assert [len(x) for x in fragments] == [80, 80, 50]
    assert all(x[10:12] == checksum(x[:10] + b"\0\0" + x[12 : (x[0] & 15) * 4]) for x in fragments)


def test_packet_that_fits_is_emitted_as_it_is(library: Any) -> None:
    packet = make(b"y" * 80, flags=2)
    assert library.fragment(packet + b"trailer", 100) == (1, [packet])


def test_fragments_of_fragments_keep_offset_and_more(library: Any) -> None:
    _, first = library.fragment(make(bytes(range(200)) * 10), 1500)
    pieces = [small for large in first for small in library.fragment(large, 276)[1]]
    offsets = [IP(x).frag for x in pieces]
    assert offsets == sorted(set(offsets))
    assert [bool(IP(x).flags & 1) for x in pieces] == [True] * (len(pieces) - 1) + [False]
    table = library.reassembler()
    assert [table.input(x) for x in pieces][-1] == make(bytes(range(200)) * 10)


def test_fragment_refuses(library: Any, names: SimpleNamespace) -> None:
    packet = make(b"z" * 1000)
    assert library.fragment(make(b"z" * 1000, flags=2), 500) == (names.FULL, [])
    assert library.fragment(packet, 67) == (names.INVALID, [])
    assert library.fragment(packet[:-1], 500) == (names.INVALID, [])
    assert library.fragment(packet[:19], 500) == (names.INVALID, [])
    assert library.fragment(b"\x65" + packet[1:], 500) == (names.INVALID, [])
    assert library.fragment(b"\x44" + packet[1:], 500) == (names.INVALID, [])
    assert library.fragment(make(b"z" * 1000, b"\x94\x01\x00\x00"), 500) == (names.INVALID, [])
    assert library.fragment(make(b"z" * 1000, b"\x94\x05\x00\x00"), 500) == (names.INVALID, [])
    assert library.fragment(make(b"z" * 1001, flags=1), 500) == (names.INVALID, [])
    assert library.fragment(make(b"z" * 1000, offset=8191), 500) == (names.INVALID, [])
    assert library.fragment(packet, 500, stop_after=1)[0] == -77


options = st.lists(st.sampled_from([ROUTER_ALERT, RECORD_ROUTE, NOP, b"\x83\x03\x04"]), max_size=5).map(b"".join)
payloads = st.one_of(st.integers(0, 3000), st.integers(60000, 65535)).map(lambda n: random.Random(n).randbytes(n))
fitting = st.tuples(payloads, options).map(lambda x: make(x[0][: 65535 - 20 - (len(x[1]) + 3) // 4 * 4], x[1]))


@given(packet=fitting, mtu=st.integers(68, 2000), shuffle=st.randoms(use_true_random=False), repeat=st.booleans())
@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
def test_reassembly_undoes_fragmentation(
    library: Any, packet: bytes, mtu: int, shuffle: random.Random, repeat: bool
) -> None:
    count, fragments = library.fragment(packet, mtu)
    assert count == len(fragments) > 0
    assert all(len(x) <= mtu for x in fragments)
    final = fragments.pop(shuffle.randrange(len(fragments)))
    fragments *= 2 if repeat else 1
    shuffle.shuffle(fragments)
    table = library.reassembler()
    assert all(table.input(x) == 0 for x in fragments)
    assert table.input(final) == packet
    assert table.stats["overlaps"] == table.stats["malformed"] == 0


@given(data=st.data())
@settings(deadline=None, max_examples=300)
def test_any_overlap_refuses_the_datagram(library: Any, data: st.DataObject) -> None:
    """Two random extents of one datagram against the definition: equal, apart, or refused."""
    payload = random.Random(2).randbytes(256)

    def extent() -> tuple[int, int]:
        start = data.draw(st.integers(0, 30))
        return start * 8, data.draw(st.integers(start + 1, 31)) * 8

    table = library.reassembler()
    first, second = extent(), extent()
    assert table.input(piece(payload[slice(*first)], first[0], True)) == 0
    code = table.input(piece(payload[slice(*second)], second[0], True))
    apart = first[1] <= second[0] or second[1] <= first[0]
    assert code == (0 if first == second or apart else -9)
    assert table.stats["overlaps"] == (code != 0)


def test_overlap_refuses_what_comes_later_too(library: Any, names: SimpleNamespace) -> None:
    table = library.reassembler(timeout=100)
    assert table.input(piece(b"a" * 16, 0, True)) == 0
    assert table.input(piece(b"b" * 16, 8, True)) == names.FORMAT
    assert table.input(piece(b"b" * 8, 16, False), 99) == names.FORMAT
    assert table.stats == NOTHING | {"fragments": 3, "overlaps": 1}
    assert table.input(piece(b"a" * 16, 0, True), 100) == 0
    assert table.input(piece(b"b" * 8, 16, False), 100) == make(b"a" * 16 + b"b" * 8)


@pytest.mark.parametrize(
    "fragments",
    [
        [piece(b"a" * 8, 0, True), piece(b"b" * 8, 0, True)],  # same extent, other bytes
        [piece(b"a" * 8, 16, False), piece(b"a" * 8, 32, False)],  # two ends
        [piece(b"a" * 8, 16, False), piece(b"a" * 8, 16, True)],  # the end has more behind it
        [piece(b"a" * 8, 16, True), piece(b"a" * 8, 16, False)],  # what has more behind it is the end
        [piece(b"a" * 8, 16, False), piece(b"a" * 8, 24, True)],  # beyond the end
        [piece(b"a" * 8, 24, True), piece(b"a" * 8, 16, False)],  # an end before what is there
        [piece(b"a" * 3, 16, False), piece(b"a" * 4, 16, False)],
        [piece(b"a" * 8, 0, True), piece(b"a" * 8, 8, True), piece(b"a" * 16, 0, True)],
        [piece(b"a" * 16, 0, True), piece(b"a" * 8, 0, True)],
        [piece(b"a" * 16, 0, True), piece(b"a" * 8, 8, True)],
    ],
)
def test_contradictions(library: Any, names: SimpleNamespace, fragments: list[bytes]) -> None:
    table = library.reassembler()
    assert [table.input(x) for x in fragments] == [0] * (len(fragments) - 1) + [names.FORMAT]
    assert table.stats["overlaps"] == 1


def test_timeout(library: Any) -> None:
    table = library.reassembler(timeout=1000)
    assert table.input(piece(b"a" * 8, 0, True), 5) == 0
    assert table.input(piece(b"c" * 8, 16, False), 1004) == 0
    assert table.stats["timeouts"] == 0
    assert table.input(piece(b"b" * 8, 8, True), 1005) == 0
    assert table.stats["timeouts"] == 1
    assert table.last == 2


def test_the_oldest_is_pushed_out(library: Any) -> None:
    table = library.reassembler(datagrams=3)
    for number in range(4):
        assert table.input(piece(b"a" * 8, 0, True, id=number)) == 0
    assert table.stats["overflows"] == 1
    assert table.input(piece(b"b", 8, False, id=3)) == make(b"a" * 8 + b"b", id=3)
    assert table.input(piece(b"b", 8, False, id=1)) == make(b"a" * 8 + b"b", id=1)
    assert table.input(piece(b"b", 8, False, id=0)) == 0
    assert table.stats["overflows"] == 1


@pytest.mark.parametrize("field", [{"src": "10.0.0.3"}, {"dst": "10.0.0.3"}, {"id": 8}, {"proto": 6}])
def test_datagrams_are_kept_apart(library: Any, field: dict[str, Any]) -> None:
    table = library.reassembler()
    assert table.input(piece(b"a" * 8, 0, True)) == 0
    assert table.input(piece(b"b" * 8, 0, True, **field)) == 0
    assert table.input(piece(b"c", 8, False)) == make(b"a" * 8 + b"c")
    assert table.input(piece(b"d", 8, False, **field)) == make(b"b" * 8 + b"d", **field)


def test_many_datagrams_in_a_small_table(library: Any) -> None:
    table = library.reassembler(datagrams=64)
    random_ids = list(range(64))
    random.Random(3).shuffle(random_ids)
    for number in range(64):
        assert table.input(piece(bytes([number]) * 8, 0, True, id=number)) == 0
    for number in random_ids:
        assert table.input(piece(b"z", 8, False, id=number)) == make(bytes([number]) * 8 + b"z", id=number)
    assert table.stats["datagrams"] == 64
    assert table.stats["overflows"] == 0


def test_longest_datagram(library: Any, names: SimpleNamespace) -> None:
    packet = make(random.Random(4).randbytes(65515))
    table = library.reassembler()
    results = [table.input(x) for x in library.fragment(packet, 1500)[1]]
    assert results[-1] == packet
    # A first header with options makes the same payload too long (the "ping of death").
    assert table.input(piece(b"a" * 8, 65512, False)) == names.FORMAT
    fragments = library.fragment(packet, 1500)[1]
    fragments[0] = make(fragments[0][20:], ROUTER_ALERT, flags=1)
    assert [table.input(x) for x in fragments][-1] == names.FORMAT
    assert table.stats["malformed"] == 2


def test_malformed_fragments(library: Any, names: SimpleNamespace) -> None:
    good = piece(b"a" * 8, 0, True)
    table = library.reassembler()
    bad = [b"", good[:-1], good[:19], b"\x65" + good[1:], b"\x44" + good[1:]]
    bad += [piece(b"a" * 9, 0, True), piece(b"", 0, True), piece(b"", 8, False)]
    assert [table.input(x) for x in bad] == [names.FORMAT] * len(bad)
    assert table.stats == NOTHING | {"malformed": len(bad)}
    assert table.last == 0


def test_whole_packets_pass(library: Any) -> None:
    table = library.reassembler()
    packet = make(b"a" * 9, flags=2)
    assert table.input(packet + b"trailer") == packet
    assert sum(table.stats.values()) == 0


def ip_packets(path: Path) -> list[bytes]:
    packets = [x[IP] for x in rdpcap(str(path)) if IP in x]
    return [bytes(x.original)[: x.len] for x in packets]


@pytest.mark.parametrize(
    ("name", "datagrams"),
    [
        ("zeek/traffic/fragmented-syn.pcap", 1),
        ("sample-captures/wireshark-wiki/general-unsorted/ipv4frags.pcap", 1),
        ("corelight-spicy-ipsec/ipsec_client.pcap", 3),
        ("ndpi/traffic/dnscrypt-v1-and-resolver-pings.pcap", 120),
    ],
)
def test_captures_reassemble_as_scapy_does(library: Any, captures: Path, name: str, datagrams: int) -> None:
    packets = ip_packets(captures / name)
    table = library.reassembler(timeout=60 * 10**9)
    ours = [x for x in map(table.input, packets) if isinstance(x, bytes)]
    scapys = [bytes(IP(bytes(x))) for x in defragment([IP(x) for x in packets])]
    assert sorted(ours) == sorted(scapys)
    assert table.stats["datagrams"] == datagrams


@pytest.mark.parametrize(("name", "malformed", "overlaps"), [("fragmented-1.pcap", 1, 1), ("fragmented-2.pcap", 2, 0)])
def test_captured_attack_is_refused(library: Any, captures: Path, name: str, malformed: int, overlaps: int) -> None:
    """First fragments of 18 bytes with MF; in one capture also a first fragment beyond the end."""
    table = library.reassembler(timeout=60 * 10**9)
    results = [table.input(x) for x in ip_packets(captures / "zeek/traffic" / name)]
    assert not any(isinstance(x, bytes) and IP(x).id == 242 for x in results)
    assert (table.stats["malformed"], table.stats["overlaps"]) == (malformed, overlaps)


@pytest.mark.parametrize(("datagrams", "timeout"), [(0, 1), (65537, 1), (1, 0)])
def test_reassembler_refuses(library: Any, names: SimpleNamespace, datagrams: int, timeout: int) -> None:
    out = ctypes.c_void_p()
    code = library.c.ipc_reassembler_create(datagrams, ctypes.c_uint64(timeout), ctypes.byref(out))
    assert code == names.INVALID
