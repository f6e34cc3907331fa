"""ipc_burst_fragment against ipc_fragment and ipc_fragment6 packet by packet."""

from __future__ import annotations

import ctypes
import re
from ctypes import POINTER, byref, c_uint8, c_uint32, c_uint64
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment
from scapy.packet import Raw

STATUS_H = Path(__file__).resolve().parents[2] / "src_c/include/ipsec_core/status.h"
STATUSES = re.findall(r"^    X\((\w+), (\w+),", STATUS_H.read_text(), re.MULTILINE)
NUMBER = {name: number for number, (name, _) in enumerate(STATUSES)}
# Packets that no driver has seen are fragmented as well, before IPsec.
PASSING = [n for n, (name, verdict) in enumerate(STATUSES) if verdict == "PASS" or name == "UNPROCESSED"]
OTHERS = [n for n in range(len(STATUSES)) if n not in PASSING]


class Burst(ctypes.Structure):
    _fields_ = [
        *(("arena", ctypes.c_void_p), ("offset", POINTER(c_uint32)), ("length", POINTER(c_uint32))),
        *(("sa", POINTER(c_uint32)), ("filter", POINTER(c_uint32)), ("time", POINTER(c_uint64))),
        *(("status", POINTER(c_uint8)), ("capacity", c_uint32), ("count", c_uint32)),
        *(("stride", c_uint32), ("max_packet", c_uint32)),
    ]


class Entry(NamedTuple):
    packet: bytes
    status: int
    time: int = 0
    sa: int = 0
    filter: int = 0


class Bursts:
    """Two of them, `inside` filled with the entries."""

    def __init__(self, c: ctypes.CDLL, entries: list[Entry], capacity: int, max_packet: int) -> None:
        self.c = c
        self.identification, self.next = c_uint32(100), c_uint32(0)
        self.inside, self.out = POINTER(Burst)(), POINTER(Burst)()
        assert c.ipc_burst_create(256, 65535, byref(self.inside)) == 0
        assert c.ipc_burst_create(capacity, max_packet, byref(self.out)) == 0
        burst = self.inside.contents
        for i, entry in enumerate(entries):
            assert c.ipc_burst_add(self.inside, entry.packet, len(entry.packet), c_uint64(entry.time)) == 0
            burst.status[i], burst.sa[i], burst.filter[i] = entry.status, entry.sa, entry.filter

    def fragment(self, mtu: int) -> int:
        call = self.c.ipc_burst_fragment
        return int(call(self.inside, byref(self.next), self.out, mtu, byref(self.identification)))

    def take(self) -> list[Entry]:
        """What is in `out`, which is empty afterwards."""
        b = self.out.contents
        result = [
            Entry(ctypes.string_at(b.arena + b.offset[i], b.length[i]), b.status[i], b.time[i], b.sa[i], b.filter[i])
            for i in range(b.count)
        ]
        b.count = 0
        return result

    def __del__(self) -> None:
        self.c.ipc_burst_destroy(self.inside)
        self.c.ipc_burst_destroy(self.out)


def v4(size: int, **fields: Any) -> bytes:
    return bytes(IP(**({"src": "10.0.0.1", "dst": "10.0.0.2", "proto": 50} | fields)) / Raw(bytes([size % 251]) * size))


def v6(size: int) -> bytes:
    return bytes(IPv6(src="2001:db8::1", dst="2001:db8::2", nh=50) / Raw(bytes([size % 251]) * size))


def expected(library: Any, entries: list[Entry], mtu: int, capacity: int, max_packet: int) -> list[Entry]:
    """The same packet by packet."""
    result, identification = [], 100
    for entry in entries:
        if entry.status not in PASSING:
            continue
        packet, version = entry.packet, entry.packet[0] >> 4
        pieces, status = [packet], entry.status
        if len(packet) > mtu and version == 6 and mtu >= 1280:
            _, pieces = library.fragment(packet, mtu, identification=identification)
        elif len(packet) > mtu and (version == 6 or packet[6] & 0x40):
            status = NUMBER["EXCEEDS_MTU"]
        elif len(packet) > mtu:
            _, pieces = library.fragment(packet, mtu)
        if status == entry.status and (len(pieces) > capacity or any(len(x) > max_packet for x in pieces)):
            pieces, status = [packet], NUMBER["TOO_BIG"]
        if status == entry.status and len(pieces) > 1 and version == 6:
            identification += 1
        result += [Entry(piece[:max_packet], status, *entry[2:]) for piece in pieces]
    return result


sizes = st.one_of(st.integers(0, 200), st.integers(1200, 3000), st.just(20000))
packets = st.one_of(sizes.map(v4), sizes.map(v6), sizes.map(lambda n: v4(n, flags="DF")))
numbers = st.integers(0, 2**32 - 1)
entry_lists = st.lists(
    st.builds(Entry, packets, st.sampled_from(PASSING * 3 + OTHERS), st.integers(0, 2**64 - 1), numbers, numbers),
    max_size=12,
)


@given(
    entries=entry_lists,
    mtu=st.sampled_from([68, 576, 1279, 1280, 1500, 9000, 65535]),
    capacity=st.integers(1, 40),
    max_packet=st.sampled_from([68, 1500, 65535]),
)
@settings(deadline=None, max_examples=150)
def test_bursts_are_fragmented_as_packets_are(
    library: Any, entries: list[Entry], mtu: int, capacity: int, max_packet: int
) -> None:
    bursts = Bursts(library.c, entries, capacity, max_packet)
    result: list[Entry] = []
    while bursts.next.value < len(entries):
        before = bursts.next.value
        count = bursts.fragment(mtu)
        taken = bursts.take()
        assert count == len(taken) <= capacity
        assert bursts.next.value > before  # an empty burst always takes one packet
        result += taken
    wanted = expected(library, entries, mtu, capacity, max_packet)
    assert result == wanted
    assert bursts.fragment(mtu) == 0


def test_packets_stay_together(library: Any) -> None:
    """A packet whose pieces have no room waits whole, and is tried again behind what `out` still holds."""
    entries = [Entry(v4(80, id=n), NUMBER["PROTECTED"], n) for n in range(3)] + [Entry(v6(40), NUMBER["SOFT"])]
    bursts = Bursts(library.c, entries, 3, 1500)
    assert bursts.fragment(68) == 2
    assert bursts.next.value == 1
    assert bursts.fragment(68) == 0
    assert bursts.next.value == 1
    assert [x.time for x in bursts.take()] == [0, 0]
    assert bursts.fragment(84) == 2
    assert bursts.fragment(500) == 1
    assert bursts.fragment(500) == 0
    assert [(x.time, len(x.packet)) for x in bursts.take()] == [(1, 84), (1, 36), (2, 100)]
    assert bursts.next.value == 3


def test_what_cannot_go_on(library: Any) -> None:
    fragment = bytes(IPv6(src="::1", dst="::2") / IPv6ExtHdrFragment(nh=50, m=1) / Raw(bytes(2000)))
    options = bytes(IPv6(src="::1", dst="::2") / IPv6ExtHdrDestOpt(nh=60) / Raw(b"\x32\xff" + bytes(2000)))
    cases = [
        (v4(2000, flags="DF"), "EXCEEDS_MTU"),
        (fragment, "EXCEEDS_MTU"),
        (b"\x10" + bytes(1999), "EXCEEDS_MTU"),
        (v4(2000)[:-1], "MALFORMED"),
        (v4(2000, ihl=3), "MALFORMED"),
        (v6(2000)[:-1], "MALFORMED"),
        (options, "MALFORMED"),
        (v4(65000), "TOO_BIG"),
    ]
    bursts = Bursts(library.c, [Entry(packet, NUMBER["PROTECTED"], 5, 6, 7) for packet, _ in cases], 40, 1900)
    wanted = [Entry(packet[:1900], NUMBER[status], 5, 6, 7) for packet, status in cases]
    assert bursts.fragment(1280) == len(cases) - 1
    assert bursts.take() == wanted[:-1]
    assert bursts.fragment(1280) == 1  # only an empty burst shows that its pieces never have room
    assert bursts.take() == wanted[-1:]
    assert bursts.identification.value == 100


def test_padding_behind_the_packet_is_no_reason(library: Any) -> None:
    bursts = Bursts(library.c, [Entry(v4(100, flags="DF") + bytes(50), NUMBER["NO_FILTER"])], 4, 1500)
    assert bursts.fragment(130) == 1
    assert [x.packet for x in bursts.take()] == [v4(100, flags="DF")]


@pytest.mark.parametrize("mtu", [0, 67])
def test_mtu_out_of_range(library: Any, names: Any, mtu: int) -> None:
    bursts = Bursts(library.c, [Entry(v4(8), NUMBER["PROTECTED"])], 4, 1500)
    assert bursts.fragment(mtu) == names.INVALID
    assert bursts.next.value == 0
