"""Large packets of the kernel become segments: sizes, numbers, flags and checksums, as scapy reads them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from live_kit import ECN, NEEDS_CSUM, TCPV4, UDP_L4, Header, checksums_are_right, tcp, udp, without_checksum
from scapy.layers.inet import IP, TCP, UDP

from ipsec_core.live._io import VNET_HEADER, segment

TIMESTAMP = (("NOP", None), ("NOP", None), ("Timestamp", (1, 2)))


def large(size: int, **options: object) -> tuple[bytes, bytes]:
    data = bytes(i * 7 % 251 for i in range(size))
    return tcp(data, **options), data  # type: ignore[arg-type]


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 4000), st.integers(300, 1460), st.booleans())
def test_tcp(size: int, mss: int, stamped: bool) -> None:
    packet, data = large(size, flags="FPAC", options=TIMESTAMP if stamped else ())
    segments = segment(bytes(Header(NEEDS_CSUM, TCPV4 | ECN, 40, mss, 20, 16)), without_checksum(packet, 16))
    assert len(segments) == -(-size // mss)
    parsed = [IP(one) for one in segments]
    assert b"".join(bytes(one[TCP].payload) for one in parsed) == data
    for number, one in enumerate(parsed):
        last = number == len(parsed) - 1
        assert one[TCP].seq == 1000 + number * mss
        assert one.id == 7 + number
        assert one.len == len(segments[number])
        # FIN and PSH are the last one's, CWR the first one's (RFC 3168 6.1.2).
        assert one[TCP].flags == "A" + ("FP" if last else "") + ("C" if number == 0 else "")
        assert one[TCP].options == (list(TIMESTAMP) if stamped else [])
        assert checksums_are_right(segments[number])


def test_numbers_go_on_behind_their_last() -> None:
    packet, _ = large(300, seq=0xFFFFFFF0, ident=0xFFFF)
    first, second, _ = map(IP, segment(bytes(Header(NEEDS_CSUM, TCPV4, 40, 100, 20, 16)), packet))
    assert (first[TCP].seq, second[TCP].seq) == (0xFFFFFFF0, 0xFFFFFFF0 + 100 - 2**32)
    assert (first.id, second.id) == (0xFFFF, 0)


def test_udp() -> None:
    data = bytes(range(250))
    segments = segment(bytes(Header(NEEDS_CSUM, UDP_L4, 28, 100, 20, 6)), without_checksum(udp(data), 6))
    assert [len(one) - 28 for one in segments] == [100, 100, 50]
    assert b"".join(bytes(IP(one)[UDP].payload) for one in segments) == data
    assert all(IP(one)[UDP].len == len(one) - 20 and checksums_are_right(one) for one in segments)


@pytest.mark.parametrize(("packet", "field"), [(tcp(b"odd length!"), 16), (udp(b"even"), 6)])
def test_a_checksum_alone_is_completed(packet: bytes, field: int) -> None:
    unfinished = without_checksum(packet, field)
    assert unfinished != packet
    assert segment(bytes(Header(NEEDS_CSUM, 0, 0, 0, 20, field)), unfinished) == [packet]


def test_a_udp_checksum_of_zero_is_sent_as_ones() -> None:
    """RFC 768: zero would say that there is none."""
    bare = udp(bytes(2))
    missing = int.from_bytes(bare[26:28])
    packet = bare[:28] + missing.to_bytes(2)  # the data cancel the rest
    assert segment(bytes(Header(NEEDS_CSUM, 0, 0, 0, 20, 6)), without_checksum(packet, 6))[0][26:28] == b"\xff\xff"


def test_what_is_whole_stays_as_it_is() -> None:
    for packet in (tcp(b"data"), udp(b""), b"\x60" + bytes(39), b""):
        assert segment(bytes(Header()), packet) == [packet]


@pytest.mark.parametrize(
    ("header", "packet"),
    [
        (Header(NEEDS_CSUM, TCPV4, 40, 0, 20, 16), tcp(bytes(500))),  # no size
        (Header(NEEDS_CSUM, TCPV4, 40, 100, 20, 16), tcp(bytes(500))[:30]),
        (Header(NEEDS_CSUM, TCPV4, 40, 100, 20, 16), udp(bytes(500))),
        (Header(NEEDS_CSUM, UDP_L4, 28, 100, 20, 6), tcp(bytes(500))),
        (Header(NEEDS_CSUM, 3, 28, 100, 20, 6), udp(bytes(500))),  # UFO was not asked for
        (Header(NEEDS_CSUM, TCPV4, 40, 100, 20, 16), b""),
        (Header(NEEDS_CSUM, 0, 0, 0, 20, 16), bytes(30)),
        (Header(NEEDS_CSUM, 0, 0, 0, 65535, 65535), bytes(30)),
        (Header(NEEDS_CSUM, TCPV4, 40, 100, 20, 16), tcp(b"")[:32] + b"\xf0" + tcp(b"")[33:]),  # TCP header too long
        (Header(NEEDS_CSUM, TCPV4, 40, 100, 20, 16), tcp(b"")[:32] + b"\x10" + tcp(b"")[33:]),  # too short
        (Header(NEEDS_CSUM, TCPV4, 40, 100, 20, 16), tcp(bytes(500), frag=3)),
    ],
)
def test_what_does_not_fit_together_is_refused(header: Header, packet: bytes) -> None:
    with pytest.raises(ValueError, match="do not fit"):
        segment(bytes(header), packet)


@settings(max_examples=200, deadline=None)
@given(st.binary(min_size=VNET_HEADER, max_size=VNET_HEADER), st.binary(max_size=200))
def test_nothing_breaks_it(header: bytes, packet: bytes) -> None:
    try:
        segments = segment(header, b"\x45" + packet)
    except ValueError:
        return
    assert all(len(one) <= 1 + len(packet) for one in segments)
