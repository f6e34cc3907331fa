"""ipc_fragment6 and the reassembly of IPv6 fragments against scapy, RFC 8200 4.5, RFC 5722 and RFC 6946."""

from __future__ import annotations

import os
import random
from ipaddress import IPv6Address
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scapy.layers.inet6 import (
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    defragment6,
    fragment6,
)
from scapy.packet import Raw
from scapy.utils import rdpcap

HOP, ROUTING, FRAGMENT, ESP, NONE, DESTINATION = 0, 43, 44, 50, 59, 60
NOTHING = dict.fromkeys(("fragments", "datagrams", "overlaps", "timeouts", "overflows", "malformed"), 0)
A, B = "2001:db8::1", "2001:db8::2"

Header = tuple[int, bytes]  # its number, and itself from the second byte on


def header(number: int, size: int = 8) -> Header:
    """Options (PadN) or a routing header of `size` bytes."""
    if number == ROUTING:
        return number, bytes([size // 8 - 1]) + bytes(size - 2)
    # PadN options of at most 255 bytes of data each (RFC 8200 4.2)
    left, options = size - 2, b""
    while left:
        take = min(left, 257) - (left - min(left, 257) == 1)
        options += bytes([1, take - 2]) + bytes(take - 2) if take > 1 else b"\0"
        left -= take
    return number, bytes([size // 8 - 1]) + options


def make(headers: list[Header], payload: bytes, protocol: int = ESP, src: str = A, dst: str = B) -> bytes:
    numbers = [number for number, _ in headers] + [protocol]
    chain = b"".join(bytes([following]) + rest for (_, rest), following in zip(headers, numbers[1:], strict=True))
    length = len(chain) + len(payload)
    start = b"\x60\0\0\0" + length.to_bytes(2, "big") + bytes([numbers[0], 64])
    return start + IPv6Address(src).packed + IPv6Address(dst).packed + chain + payload


def piece(
    data: bytes,
    at: int,
    more: bool,
    before: list[Header] | None = None,
    id: int = 7,
    protocol: int = ESP,
    **addresses: str,
) -> bytes:
    """Fragment with `data` at byte `at`, behind the headers `before`."""
    fragment = (FRAGMENT, b"\0" + (at | more).to_bytes(2, "big") + id.to_bytes(4, "big"))
    return make([*(before or []), fragment], data, protocol, **addresses)


def noise(size: int) -> bytes:
    return random.Random(size).randbytes(size)


@pytest.mark.parametrize("size", [1233, 1400, 2464, 2465, 4000, 65000])
@pytest.mark.parametrize("mtu", [1280, 1281, 1286, 1500, 9000])
def test_fragments_are_those_of_scapy(library: Any, size: int, mtu: int) -> None:
    routing = IPv6ExtHdrRouting(addresses=["2001:db8::3"])
    before = IPv6(src=A, dst=B, tc=5, fl=77, hlim=9) / IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt() / routing
    behind = IPv6ExtHdrDestOpt(nh=ESP) / Raw(noise(size))
    packet = bytes(before / behind)
    count, ours = library.fragment(packet, mtu, identification=0x89ABCDEF)
    if len(packet) <= mtu:
        # fragment6 counts the fragment header it is given.
        assert (count, ours) == (1, [packet])
        return
    scapys = fragment6(before / IPv6ExtHdrFragment(id=0x89ABCDEF) / behind, mtu)
    assert ours == [bytes(x) for x in scapys]
    assert count == len(ours) > 1
    assert bytes(defragment6([IPv6(x) for x in ours])) == packet


@pytest.mark.parametrize(
    ("headers", "repeated"),
    [
        ([], 0),
        ([header(HOP)], 1),
        ([header(DESTINATION)], 0),
        ([header(HOP), header(DESTINATION)], 1),
        ([header(DESTINATION), header(ROUTING)], 2),
        ([header(HOP), header(DESTINATION), header(ROUTING, 24), header(DESTINATION)], 3),
        ([header(ROUTING), header(ROUTING), header(DESTINATION)], 2),
    ],
)
def test_headers_that_all_fragments_repeat(library: Any, headers: list[Header], repeated: int) -> None:
    """RFC 8200 4.5: up to the routing header, else the hop-by-hop options, else none."""
    packet = make(headers, noise(3000))
    _, fragments = library.fragment(packet, 1400, identification=1)
    start = len(make(headers[:repeated], b""))
    named = len(make(headers[: repeated - 1], b"")) if repeated else 6
    for fragment in fragments:
        assert fragment[named] == FRAGMENT
        assert fragment[start] == [*(number for number, _ in headers), ESP][repeated]
        assert fragment[40:named] + fragment[named + 1 : start] == packet[40:named] + packet[named + 1 : start]
        assert int.from_bytes(fragment[4:6], "big") == len(fragment) - 40


def test_packet_that_fits_is_emitted_as_it_is(library: Any) -> None:
    packet = make([], noise(1240))
    assert library.fragment(packet + b"trailer", 1280, identification=3) == (1, [packet])


def test_fragment6_refuses(library: Any, names: SimpleNamespace) -> None:
    def code(packet: bytes, mtu: int = 1280) -> int:
        result, fragments = library.fragment(packet, mtu, identification=1)
        assert fragments == []
        return int(result)

    packet = make([], noise(2000))
    assert code(packet, 1279) == names.INVALID
    assert code(packet[:-1]) == code(packet[:39]) == code(b"\x45" + packet[1:]) == names.INVALID
    assert code(packet[:4] + b"\0\0\0" + packet[7:]) == names.INVALID  # a jumbogram
    assert code(piece(noise(2000), 0, False)) == names.FULL
    assert code(piece(noise(2000), 0, True, [header(DESTINATION)])) == names.FULL
    assert code(make([(DESTINATION, b"\xff" + bytes(1990))], b"", 6)) == names.INVALID  # reaches over the end
    assert code(make([header(HOP, 1272)], noise(100))) == names.INVALID
    assert code(make([header(DESTINATION, 1232)], noise(100))) == names.INVALID
    assert library.fragment(make([header(DESTINATION, 1224)], noise(100)), 1280, identification=1)[0] == 2
    assert library.fragment(packet, 1280, identification=1, stop_after=1)[0] == -77


OPTIONS = st.sampled_from([8, 16, 24, 264]).map
before_lists = st.tuples(
    st.lists(OPTIONS(lambda n: header(HOP, n)), max_size=1),
    st.sampled_from([[], [header(ROUTING, 24)], [header(DESTINATION, 16), header(ROUTING, 40)]]),
    st.lists(OPTIONS(lambda n: header(DESTINATION, n)), max_size=2),
).map(lambda lists: [x for each in lists for x in each])
sizes = st.one_of(st.integers(0, 3000), st.integers(60000, 65535))
packets = st.tuples(before_lists, sizes).map(
    lambda x: make(x[0], noise(max(0, min(x[1], 65535 - sum(len(rest) + 1 for _, rest in x[0])))))
)


@given(packet=packets, mtu=st.integers(1280, 9000), shuffle=st.randoms(use_true_random=False), repeat=st.booleans())
@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
def test_reassembly_undoes_fragmentation(
    library: Any, packet: bytes, mtu: int, shuffle: random.Random, repeat: bool
) -> None:
    count, fragments = library.fragment(packet, mtu, identification=9)
    assert count == len(fragments) > 0
    assert all(len(x) <= mtu for x in fragments)
    final = fragments.pop(shuffle.randrange(len(fragments)))
    fragments *= 2 if repeat else 1
    shuffle.shuffle(fragments)
    table = library.reassembler()
    assert all(table.input(x) == 0 for x in fragments)
    assert table.input(final) == packet
    assert table.stats["overlaps"] == table.stats["malformed"] == 0
    assert table.stats["fragments"] == (0 if count == 1 else len(fragments) + 1)


def test_longest_datagram(library: Any, names: SimpleNamespace) -> None:
    packet = make([header(HOP)], noise(65527))
    table = library.reassembler()
    fragments = library.fragment(packet, 1500, identification=1)[1]
    assert [table.input(x) for x in fragments][-1] == packet
    longest = make([], noise(65535))
    assert [table.input(x) for x in library.fragment(longest, 1500, identification=1)[1]][-1] == longest
    assert table.input(piece(b"a" * 8, 65528, False)) == names.FORMAT
    assert table.input(piece(b"a" * 7, 65528, False, [header(DESTINATION)])) == names.FORMAT
    assert table.input(piece(b"a" * 7, 65528, False)) == 0
    # The first fragment brings headers for which nothing is left of 65535 bytes.
    fragments = library.fragment(longest, 1500, identification=1)[1]
    assert library.reassembler().input(fragments[0]) == 0
    fragments[0] = piece(fragments[0][48:], 0, True, [header(DESTINATION)], id=1)
    assert [table.input(x) for x in fragments][-1] == names.FORMAT
    assert table.stats["malformed"] == 3


@given(data=st.data())
@settings(deadline=None, max_examples=300)
def test_any_overlap_refuses_the_datagram(library: Any, data: st.DataObject) -> None:
    """Two random extents of one datagram against the definition: equal, apart, or refused (RFC 5722 4)."""
    payload = noise(256)

    def extent() -> tuple[int, int, bool]:
        start = data.draw(st.integers(1, 30))
        return start * 8, data.draw(st.integers(start + 1, 31)) * 8, data.draw(st.booleans())

    table = library.reassembler()
    first, second = extent(), extent()
    assert table.input(piece(payload[slice(*first[:2])], first[0], first[2])) == 0
    code = table.input(piece(payload[slice(*second[:2])], second[0], second[2]))
    apart = first[1] <= second[0] or second[1] <= first[0]
    for x, y in ((first, second), (second, first)):
        apart &= x[2] or y[1] < x[1]  # nothing behind the last one
    assert code == (0 if first == second or apart else -9)
    assert table.stats["overlaps"] == (code != 0)


def test_overlap_refuses_what_comes_later_too(library: Any, names: SimpleNamespace) -> None:
    table = library.reassembler(timeout=100)
    assert table.input(piece(b"a" * 16, 0, True)) == 0
    assert table.input(piece(b"b" * 16, 8, True)) == names.FORMAT
    assert table.input(piece(b"b" * 8, 16, False), 99) == names.FORMAT
    assert table.stats == NOTHING | {"fragments": 3, "overlaps": 1}
    assert table.input(piece(b"a" * 16, 0, True), 100) == 0
    assert table.input(piece(b"b" * 8, 16, False), 100) == make([], b"a" * 16 + b"b" * 8)


def test_timeout(library: Any) -> None:
    table = library.reassembler(timeout=60)
    assert table.input(piece(b"a" * 8, 0, True), 1) == 0
    assert table.input(piece(b"b", 8, False), 61) == 0
    assert table.stats == NOTHING | {"fragments": 2, "timeouts": 1}


@pytest.mark.parametrize("field", [{"src": "2001:db8::3"}, {"dst": "2001:db8::3"}, {"id": 8}, {"id": 7 | 1 << 16}])
def test_datagrams_are_kept_apart(library: Any, field: dict[str, Any]) -> None:
    addresses = {name: value for name, value in field.items() if name != "id"}
    table = library.reassembler()
    assert table.input(piece(b"a" * 8, 0, True)) == 0
    assert table.input(piece(b"b" * 8, 0, True, **field)) == 0
    assert table.input(piece(b"c", 8, False)) == make([], b"a" * 8 + b"c")
    assert table.input(piece(b"d", 8, False, **field)) == make([], b"b" * 8 + b"d", **addresses)


def test_only_the_first_fragment_says_the_next_header(library: Any) -> None:
    """RFC 8200 4.5: those of the others do not count, nor do other headers before them."""
    table = library.reassembler()
    assert table.input(piece(b"c", 8, False, [header(DESTINATION)], protocol=17)) == 0
    assert table.input(piece(b"a" * 8, 0, True, [header(HOP)], protocol=6)) == make([header(HOP)], b"a" * 8 + b"c", 6)


def test_mapped_addresses_are_not_those_of_ipv4(library: Any) -> None:
    table = library.reassembler()
    ipv4 = bytes.fromhex("4500001c000720000100") + bytes(2) + bytes([10, 0, 0, 1, 10, 0, 0, 2]) + b"v4 bytes"
    assert table.input(ipv4[:9] + b"\0" + ipv4[10:]) == 0
    assert table.input(piece(b"c", 8, False, src="::ffff:10.0.0.1", dst="::ffff:10.0.0.2")) == 0
    assert table.stats == NOTHING | {"fragments": 2}


@pytest.mark.parametrize("before", [[], [header(HOP)], [header(DESTINATION), header(ROUTING)]])
@pytest.mark.parametrize("size", [0, 1, 8, 1200, 60000])
def test_atomic_fragment_is_a_whole_datagram(library: Any, before: list[Header], size: int) -> None:
    """RFC 6946 4: also between the fragments of a datagram with the same identification."""
    table = library.reassembler()
    assert table.input(piece(b"a" * 8, 0, True)) == 0
    atomic = piece(noise(size), 0, False, before, protocol=ESP if size else NONE)
    whole = make(before, noise(size), ESP if size else NONE)
    assert table.input(atomic + b"trailer") == whole
    if size:
        assert bytes(defragment6([IPv6(atomic)])) == whole
    assert table.last == 0
    assert table.input(piece(b"c", 8, False)) == make([], b"a" * 8 + b"c")
    assert table.stats == NOTHING | {"fragments": 2, "datagrams": 1}


def test_longest_atomic_fragment(library: Any) -> None:
    assert library.reassembler().input(piece(noise(65527), 0, False)) == make([], noise(65527))


def test_malformed(library: Any, names: SimpleNamespace) -> None:
    good = piece(b"a" * 8, 0, True)
    table = library.reassembler()
    bad = [good[:n] for n in range(len(good))]
    bad += [piece(b"a" * 9, 0, True), piece(b"", 0, True), piece(b"", 8, False), piece(b"", 0, False)]
    bad += [make([header(HOP), (FRAGMENT, b"\0\0\1")], b"")]  # 4 of the 8 bytes
    bad += [make([(HOP, b"\1" + bytes(6))], b"", FRAGMENT), make([(DESTINATION, b"\0")], b"", FRAGMENT)]
    bad += [piece(b"a" * 8, 0, True, [header(HOP, 1264 - 40 + 8)])]
    # Extension headers that go on in the next fragment; a fragment header in a fragment.
    bad += [piece(bytes([ESP, 1, 1, 4]) + bytes(4), 0, more, protocol=DESTINATION) for more in (True, False)]
    bad += [piece(bytes([ESP, 0, 1, 4]) + bytes(4), 0, more, protocol=DESTINATION) for more in (True, False)]
    bad += [piece(b"a" * 8, 0, more, protocol=FRAGMENT) for more in (True, False)]
    bad += [piece(bytes([FRAGMENT, 0, 1, 4]) + bytes(12), 0, False, protocol=DESTINATION)]
    bad += [good[:4] + b"\0\0\0" + good[7:]]  # a jumbogram
    assert [table.input(x) for x in bad] == [names.FORMAT] * len(bad)
    assert table.stats == NOTHING | {"malformed": len(bad)}
    assert table.last == 0
    assert table.input(piece(b"a" * 8, 0, True, [header(HOP, 1264 - 40)])) == 0


def test_whole_packets_pass(library: Any) -> None:
    table = library.reassembler()
    fragment_in_esp = make([], piece(b"a" * 8, 0, True))
    late_hop_by_hop = make([header(DESTINATION), header(HOP), (FRAGMENT, bytes(7))], b"a")
    for packet in (make([header(HOP), header(DESTINATION)], b"a" * 9), fragment_in_esp, late_hop_by_hop, make([], b"")):
        assert table.input(packet + b"trailer") == packet
    assert sum(table.stats.values()) == 0


def bucket(identification: int, buckets: int) -> int:
    """Of the reassembler, for fragments from A to B."""
    word = 2**64 - 1
    source, destination = (int.from_bytes(IPv6Address(x).packed, "big") for x in (A, B))
    value = 0
    for x in (source >> 64, source & word, destination >> 64, destination & word, identification << 32 | 256):
        value = (value ^ x) * 0x9E3779B97F4A7C15 & word
        value ^= value >> 32
    return value % buckets


def test_chosen_identifications_make_no_long_walk(library: Any) -> None:
    """CVE-2016-10396: all in one bucket of 256, of which 16 stay, and the table is not full."""
    chosen = [x for x in range(20000) if bucket(x, 256) == 5][:40]
    table = library.reassembler(datagrams=256)
    assert all(table.input(piece(b"a" * 8, 0, True, id=x)) == 0 for x in chosen)
    assert table.stats == NOTHING | {"fragments": 40, "overflows": 24}
    assert all(isinstance(table.input(piece(b"c", 8, False, id=x)), bytes) for x in chosen[-16:])


def resident() -> int:
    """Bytes of memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_a_million_bad_fragments_take_no_memory(library: Any) -> None:
    generator = random.Random(6)
    bad = []
    for _ in range(2000):
        fragment = bytearray(
            piece(generator.randbytes(generator.randrange(1, 400)), generator.randrange(0, 8000) * 8, True)
            if generator.random() < 0.5
            else piece(b"a" * 8 * generator.randrange(1, 40), generator.randrange(12) * 8, generator.random() < 0.7)
        )
        fragment[44 + generator.randrange(4)] = generator.randrange(256)
        if generator.random() < 0.3:
            fragment[generator.randrange(len(fragment))] = generator.randrange(256)
        bad.append(bytes(fragment[: generator.randrange(len(fragment))] if generator.random() < 0.2 else fragment))
    table = library.reassembler(datagrams=16, timeout=1000)
    results = [0, 0]
    for now in range(500):
        if now == 20:
            before = resident()
        for fragment in bad:
            code = table.input(fragment, now)
            results[code == 0] += 1
    if os.environ.get("IPSEC_CORE_SANITIZE") != "1":  # which keeps what Python frees
        assert resident() - before < 1 << 20
    assert sum(results) == 1_000_000
    assert min(results) > 100_000
    stats = table.stats
    assert min(stats["overlaps"], stats["overflows"], stats["malformed"]) > 1000


def ipv6_packets(path: Path) -> list[bytes]:
    return [bytes(x[IPv6].original)[: 40 + x[IPv6].plen] for x in rdpcap(str(path)) if IPv6 in x]


def test_captured_fragments_reassemble_as_scapy_does(library: Any, captures: Path) -> None:
    packets_ = ipv6_packets(captures / "zeek/traffic/ipv6-fragmented-dns.pcap")
    table = library.reassembler(timeout=60 * 10**9)
    results = [table.input(x) for x in packets_]
    parsed = [IPv6(x) for x in packets_]
    fragments = [x for x in parsed if IPv6ExtHdrFragment in x and x[IPv6ExtHdrFragment].id == 2]
    assert results[:3] == packets_[:3]
    assert results[3:7] == [0, packets_[4], 0, 0]
    assert results[7] == bytes(defragment6(fragments))
    assert table.stats == NOTHING | {"fragments": 4, "datagrams": 1}


def test_captured_datagrams_that_are_too_long(library: Any, captures: Path) -> None:
    """46 fragments of 1440 bytes each, beyond 65535: the last of them are refused, and nothing becomes whole."""
    table = library.reassembler(timeout=3600 * 10**9)
    results = [table.input(x) for x in ipv6_packets(captures / "zeek/traffic/ipv6-reassembly-state-leak.pcap")]
    assert results == ([0] * 45 + [-9]) * 2
    assert table.stats == NOTHING | {"fragments": 90, "malformed": 2}
