"""Segments of one TCP flow become one large packet for the kernel, and cutting it gives them back."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from live_kit import NEEDS_CSUM, TCPV4, Header, tcp, udp

from ipsec_core.live._io import coalesce, segment

MSS = 100


def flow(count: int, last: int = MSS, **options: object) -> list[bytes]:
    """Full segments and a last one, with numbers as the kernel's own segmentation gives them."""
    sizes = [MSS] * (count - 1) + [last]
    return [
        tcp(bytes([i]) * size, seq=1000 + i * MSS, ident=7 + i, **options)  # type: ignore[arg-type]
        for i, size in enumerate(sizes)
    ]


def test_one_packet_for_a_flow() -> None:
    packets = flow(5, 30)
    [(header, joined)] = coalesce(packets)
    assert Header.read(header) == Header(NEEDS_CSUM, TCPV4, 40, MSS, 20, 16)
    assert len(joined) == 40 + 4 * MSS + 30
    assert segment(header, joined) == packets


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, MSS), st.booleans()), max_size=4))
def test_nothing_is_lost_and_nothing_changes_place(runs: list[tuple[int, int, bool]]) -> None:
    packets: list[bytes] = []
    for count, last, stamped in runs:
        stamp = (("NOP", None), ("NOP", None), ("Timestamp", (len(packets), 2))) if stamped else ()
        packets += flow(count, last, options=stamp, ack=len(packets))
        packets.append(udp(b"between"))
    assert [one for header, packet in coalesce(packets) for one in segment(header, packet)] == packets


def test_a_push_goes_up_at_once() -> None:
    packets = flow(4)
    packets[1] = tcp(b"\1" * MSS, seq=1000 + MSS, ident=8, flags="PA")
    written = coalesce(packets)
    assert [len(packet) - 40 for _, packet in written] == [2 * MSS, 2 * MSS]
    assert segment(*written[0]) == packets[:2]


def test_limits() -> None:
    """An IP packet has 65535 bytes; a packet, 128 parts."""
    full = [tcp(bytes(1400), seq=1000 + i * 1400, ident=7 + i) for i in range(60)]
    assert [len(packet) for _, packet in coalesce(full)] == [40 + 46 * 1400, 40 + 14 * 1400]
    assert [len(packet) for _, packet in coalesce(flow(200))] == [40 + 128 * MSS, 40 + 72 * MSS]


@pytest.mark.parametrize(
    "other",
    [
        tcp(b"\1" * MSS, seq=1000 + MSS + 1, ident=8),  # a gap
        tcp(b"\1" * MSS, seq=1000, ident=8),  # the same again
        tcp(b"\1" * (MSS + 1), seq=1000 + MSS, ident=8),  # longer than the first
        tcp(b"\1" * MSS, seq=1000 + MSS, ident=8, ack=6),
        tcp(b"\1" * MSS, seq=1000 + MSS, ident=8, flags="FA"),
        tcp(b"\1" * MSS, seq=1000 + MSS, ident=8, flags="EA"),
        tcp(b"\1" * MSS, seq=1000 + MSS, ident=8, options=(("NOP", None),) * 4),
        tcp(b"\1" * MSS, seq=1000 + MSS, ident=8, tos=1),
        tcp(b"\1" * MSS, seq=1000 + MSS, ident=8, ttl=9),
        tcp(b"", seq=1000 + MSS, ident=8),  # an acknowledgement
        udp(b"\1" * MSS),
        b"\x45",
    ],
)
def test_what_differs_is_not_joined(other: bytes) -> None:
    first = flow(1)[0]
    assert coalesce([first, other]) == [(bytes(Header()), first), (bytes(Header()), other)]


@pytest.mark.parametrize("at", [10, 30, 36, 50])
def test_a_broken_segment_goes_up_as_it_is(at: int) -> None:
    """What joins gets new checksums, which would make it look whole."""
    packets = flow(3)
    for number in range(3):
        broken = bytearray(packets[number])
        broken[at] ^= 1
        given = [*packets[:number], bytes(broken), *packets[number + 1 :]]
        written = coalesce(given)
        assert (bytes(Header()), bytes(broken)) in written
        assert [one for header, packet in written for one in segment(header, packet)] == given
