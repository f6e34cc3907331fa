"""The ICMP messages of path MTU discovery against scapy, RFC 1122, RFC 1191 and RFC 4443."""

from __future__ import annotations

import ctypes
from ipaddress import IPv4Address, IPv6Address, ip_address
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_Router_Alert
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoRequest,
    ICMPv6ND_Redirect,
    ICMPv6PacketTooBig,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
)
from scapy.layers.ipsec import AH, ESP
from scapy.packet import Packet, Raw

NOT_FOUND = -6
A4, B4, R4 = "10.1.0.1", "10.2.0.2", "10.9.9.9"
A6, B6, R6 = "2001:db8:1::1", "2001:db8:2::2", "2001:db8:9::9"


class Address(ctypes.Structure):
    _fields_ = [("high", ctypes.c_uint64), ("low", ctypes.c_uint64)]


class PathMtu(ctypes.Structure):
    _fields_ = [
        *((name, Address) for name in ("source", "destination", "router")),
        *(("spi", ctypes.c_uint32), ("mtu", ctypes.c_uint32)),
        *(("source_port", ctypes.c_uint16), ("destination_port", ctypes.c_uint16), ("protocol", ctypes.c_uint8)),
    ]


def number(text: str | IPv4Address | IPv6Address) -> Address:
    address = ip_address(text)
    value = int(address) | (0xFFFF << 32 if address.version == 4 else 0)
    return Address(value >> 64, value & 2**64 - 1)


def text(address: Address) -> str:
    value = IPv6Address(address.high << 64 | address.low)
    return str(value.ipv4_mapped or value)


def too_big(
    library: Any, packet: bytes | Packet, mtu: int, router: str | Address = R4, room: int = 1280
) -> bytes | int:
    """The message, or the code."""
    packet = bytes(packet)
    out = (ctypes.c_uint8 * max(1, room))()
    call = library.c.ipc_icmp_too_big
    call.argtypes = [ctypes.c_char_p, ctypes.c_uint32, ctypes.c_uint32, Address, ctypes.c_void_p, ctypes.c_uint32]
    router = number(router) if isinstance(router, str) else router
    code = call(packet, len(packet), mtu, router, out, room)
    return bytes(out[:code]) if code > 0 else int(code)


def path_mtu(library: Any, packet: bytes | Packet) -> dict[str, Any] | int:
    """What the message says, or the code."""
    packet, found = bytes(packet), PathMtu()
    code = library.c.ipc_icmp_path_mtu(packet, len(packet), ctypes.byref(found))
    if code:
        return int(code)
    result = {name: getattr(found, name) for name, _ in PathMtu._fields_}
    return {name: text(value) if isinstance(value, Address) else value for name, value in result.items()}


def said(source: str, destination: str, router: str, protocol: int, spi: int, mtu: int, ports: Any = (0, 0)) -> Any:
    values = (source, destination, router, spi, mtu, *ports, protocol)
    return dict(zip((name for name, _ in PathMtu._fields_), values, strict=True))


@pytest.mark.parametrize("options", [[], [IPOption_Router_Alert()] * 3])
@pytest.mark.parametrize("transport", [UDP(sport=7, dport=9), TCP(), ICMP(type=8), ICMP(type=13), Raw(b"")])
def test_fragmentation_needed_is_that_of_scapy(library: Any, options: list[Any], transport: Packet) -> None:
    packet = bytes(IP(src=A4, dst=B4, flags="DF", options=options) / transport / Raw(bytes(range(200)) * 8))
    quoted = packet[: (packet[0] & 15) * 4 + 8]
    icmp = ICMP(type=3, code=4, nexthopmtu=1400) / Raw(quoted)
    expected = IP(src=R4, dst=A4, tos=0xC0, id=0, flags="DF", ttl=64) / icmp
    assert too_big(library, packet + b"trailer", 1400) == bytes(expected)


@pytest.mark.parametrize("size", [1281, 1282, 1300, 1500, 65535])
@pytest.mark.parametrize("before", [[], [IPv6ExtHdrHopByHop()], [IPv6ExtHdrFragment(m=1), IPv6ExtHdrDestOpt()]])
def test_packet_too_big_is_that_of_scapy(library: Any, size: int, before: list[Packet]) -> None:
    packet = IPv6(src=A6, dst=B6)
    for header in before:
        packet /= header
    packet /= UDP(sport=7, dport=9, chksum=1) / Raw(b"")
    data = bytes(packet / Raw(b"x" * (size - len(packet))))
    expected = IPv6(src=R6, dst=A6, hlim=64) / ICMPv6PacketTooBig(mtu=1280) / Raw(data[:1232])
    assert too_big(library, data + b"trailer", 1280, R6) == bytes(expected)


def test_longest_header_of_the_shortest_packet(library: Any) -> None:
    packet = bytes(IP(src=A4, dst=B4, proto=50, options=[IPOption_Router_Alert()] * 10) / Raw(b"123456789"))
    message = too_big(library, packet, 68)
    assert isinstance(message, bytes)
    assert message[28:] == packet[:68]


def test_mtu_is_told_as_what_every_link_takes_at_least(library: Any) -> None:
    four = too_big(library, IP(src=A4, dst=B4, proto=50) / Raw(bytes(100)), 5)
    six = too_big(library, IPv6(src=A6, dst=B6, nh=50) / Raw(bytes(1300)), 1279, R6)
    assert IP(four)[ICMP].nexthopmtu == 68
    assert IPv6(six)[ICMPv6PacketTooBig].mtu == 1280


def udp4(**fields: Any) -> bytes:
    return bytes(IP(**({"src": A4, "dst": B4} | fields)) / UDP() / Raw(bytes(1000)))


def udp6(**fields: Any) -> bytes:
    return bytes(IPv6(**({"src": A6, "dst": B6} | fields)) / UDP() / Raw(bytes(2000)))


def test_what_must_not_be_answered(library: Any) -> None:
    """RFC 1122 3.2.2, RFC 4443 2.4 (e)."""
    data = Raw(bytes(2000))
    silent: list[Any] = [udp4(frag=1), udp4(frag=8000, flags="MF")]
    silent += [udp4(src=x) for x in ("0.0.0.0", "0.1.2.3", "127.0.0.1", "224.0.0.5", "240.0.0.1", "255.255.255.255")]
    silent += [udp4(dst=x) for x in ("224.0.0.1", "239.1.2.3", "255.255.255.255")]
    silent += [IP(src=A4, dst=B4) / ICMP(type=x) / data for x in (3, 4, 5, 11, 12)]
    assert [too_big(library, x, 500) for x in silent] == [0] * len(silent)
    six: list[Any] = [udp6(src="::"), udp6(src="ff02::1")]
    six += [IPv6(src=A6, dst=B6) / x / data for x in (ICMPv6DestUnreach(), ICMPv6PacketTooBig(), ICMPv6ND_Redirect())]
    six += [IPv6(src=A6, dst=B6) / IPv6ExtHdrDestOpt() / ICMPv6DestUnreach() / data]
    six += [IPv6(src=A6, dst=B6) / IPv6ExtHdrFragment(m=1) / ICMPv6DestUnreach() / data]
    six += [IPv6(src=A6, dst=B6) / IPv6ExtHdrFragment(offset=1, nh=50) / data]
    assert [too_big(library, x, 1280, R6) for x in six] == [0] * len(six)


def test_what_may_be_answered(library: Any) -> None:
    data = Raw(bytes(2000))
    four = [udp4(flags="MF"), udp4(src="223.255.255.255"), IP(src=A4, dst=B4) / ICMP(type=0) / data]
    assert all(isinstance(too_big(library, x, 500), bytes) for x in four)
    # ICMPv6: also packets to a group (RFC 4443 2.4 e.3).
    six = [udp6(dst="ff0e::1"), IPv6(src=A6, dst=B6) / ICMPv6EchoRequest() / data]
    six += [IPv6(src=A6, dst=B6) / IPv6ExtHdrFragment(m=1, nh=50) / data]
    assert all(isinstance(too_big(library, x, 1280, R6), bytes) for x in six)


def test_too_big_refuses(library: Any, names: SimpleNamespace) -> None:
    four, six = udp4(), udp6()
    assert too_big(library, four, len(four)) == names.INVALID
    assert too_big(library, udp6()[:4] + (1240).to_bytes(2, "big") + six[6:], 1200, R6) == names.INVALID
    assert [too_big(library, four, 500, x) for x in (R6, Address(0, 0))] == [names.INVALID] * 2
    assert [too_big(library, six, 1300, x) for x in (R4, Address(0, 0))] == [names.INVALID] * 2
    malformed = [b"", four[:19], four[:-1], b"\x44" + four[1:], b"\x55" + four[1:], six[:39], six[:-1]]
    malformed += [four[:2] + b"\0\x13" + four[4:], six[:6] + b"\0" + six[7:40] + b"\0\xff" + six[42:1300]]
    malformed += [udp6(src="::ffff:10.0.0.1"), udp6(dst="::ffff:10.0.0.1")]
    for packet in malformed:
        assert too_big(library, packet, 500, R4 if packet[:1] < b"\x60" else R6) == names.FORMAT
    assert too_big(library, four, 500, room=55) == too_big(library, six, 1400, R6, room=1279) == names.FULL
    assert isinstance(too_big(library, four, 500, room=56), bytes)


SPI = 0x89ABCDEF
ipsec = st.sampled_from(
    [
        (ESP(spi=SPI), 50, (0, 0), True),
        (AH(spi=SPI, payloadlen=4), 51, (0, 0), True),
        (UDP(sport=4500, dport=4500) / ESP(spi=SPI), 17, (4500, 4500), False),
        (UDP(sport=34567, dport=4500) / ESP(spi=SPI), 17, (34567, 4500), False),
        (UDP(sport=4500, dport=1025) / ESP(spi=SPI), 17, (4500, 1025), False),
    ]
)


@given(kind=ipsec, size=st.integers(1300, 9000), mtu=st.integers(0, 1299), six=st.booleans(), hop=st.booleans())
@settings(deadline=None, max_examples=100)
def test_what_one_end_says_the_other_reads(library: Any, kind: Any, size: int, mtu: int, six: bool, hop: bool) -> None:
    header, protocol, ports, in_eight_bytes = kind
    if six:
        start = IPv6(src=A6, dst=B6)
        packet = start / IPv6ExtHdrDestOpt(nh=protocol) if hop else IPv6(src=A6, dst=B6, nh=protocol)
    else:
        packet = IP(src=A4, dst=B4, flags="DF", proto=protocol, options=[IPOption_Router_Alert()] * hop)
    message = too_big(library, packet / header / Raw(bytes(size)), mtu, R6 if six else R4)
    assert isinstance(message, bytes)
    a, b, router, least = (A6, B6, R6, 1280) if six else (A4, B4, R4, 68)
    # RFC 792: 8 bytes behind the IPv4 header do not reach the SPI in a UDP datagram.
    spi = SPI if six or in_eight_bytes else 0
    assert path_mtu(library, message) == said(a, b, router, protocol, spi, max(mtu, least), ports)


def message4(quoted: bytes | Packet, mtu: int = 1400, **fields: Any) -> bytes:
    icmp = ICMP(type=fields.pop("type", 3), code=fields.pop("code", 4), nexthopmtu=mtu)
    return bytes(IP(**({"src": R4, "dst": A4} | fields)) / icmp / Raw(bytes(quoted)))


def message6(quoted: bytes | Packet, mtu: int = 1400, **fields: Any) -> bytes:
    return bytes(IPv6(**({"src": R6, "dst": A6} | fields)) / ICMPv6PacketTooBig(mtu=mtu) / Raw(bytes(quoted)))


esp4 = IP(src=A4, dst=B4, proto=50, flags="DF", len=1480)
esp6 = IPv6(src=A6, dst=B6, nh=50, plen=1440)


def test_routers_that_quote_more_or_less(library: Any) -> None:
    nat_t = IP(src=A4, dst=B4, len=1480) / UDP(sport=4500, dport=4500, len=1460, chksum=0)
    assert path_mtu(library, message4(nat_t)) == said(A4, B4, R4, 17, 0, 1400, (4500, 4500))
    assert path_mtu(library, message4(nat_t / ESP(spi=SPI))) == said(A4, B4, R4, 17, SPI, 1400, (4500, 4500))
    assert path_mtu(library, message4(nat_t / Raw(b"\0\0\0\0ike"))) == NOT_FOUND  # RFC 3948 2.2
    assert path_mtu(library, message4(nat_t / Raw(b"\xff"))) == said(A4, B4, R4, 17, 0, 1400, (4500, 4500))
    assert path_mtu(library, message4(bytes(nat_t)[:23])) == NOT_FOUND
    assert path_mtu(library, message4(esp4)) == path_mtu(library, message4(bytes(esp4) + b"abc")) != NOT_FOUND
    assert path_mtu(library, message4(esp4)) == said(A4, B4, R4, 50, 0, 1400)
    assert path_mtu(library, message6(esp6)) == said(A6, B6, R6, 50, 0, 1400)
    ah = IP(src=A4, dst=B4, proto=51, len=1480)
    assert path_mtu(library, message4(ah / Raw(bytes([50, 4, 0, 0, 0, 0, 1])))) == said(A4, B4, R4, 51, 0, 1400)


def test_fragments_of_our_packets(library: Any) -> None:
    """Our own fragments may be too big, too; only the first shows an SPI."""
    for offset, spi in ((0, SPI), (100, 0)):
        four = IP(src=A4, dst=B4, proto=50, flags="MF", frag=offset, len=1480) / ESP(spi=SPI)
        assert path_mtu(library, message4(four)) == said(A4, B4, R4, 50, spi, 1400)
        six = IPv6(src=A6, dst=B6, plen=1440) / IPv6ExtHdrFragment(nh=50, m=1, offset=offset) / ESP(spi=SPI)
        assert path_mtu(library, message6(six)) == said(A6, B6, R6, 50, spi, 1400)
    udp = IP(src=A4, dst=B4, proto=17, frag=100, len=1480) / Raw(b"\x11\x94" * 4)
    assert path_mtu(library, message4(udp)) == NOT_FOUND


@pytest.mark.parametrize(
    ("length", "mtu"),
    [
        *((65535, 32000), (32001, 32000), (32000, 17914), (8167, 8166), (4352, 2002), (1500, 1492)),
        *((1492, 1006), (576, 508), (508, 296), (297, 296), (296, 68), (68, 68), (20, 68)),
    ],
)
def test_plateau_where_an_old_router_says_zero(library: Any, length: int, mtu: int) -> None:
    """RFC 1191 7.1."""
    quoted = IP(src=A4, dst=B4, proto=50, len=length) / (ESP(spi=SPI) if length > 27 else Raw(b""))
    found = path_mtu(library, message4(quoted, 0))
    assert isinstance(found, dict)
    assert found["mtu"] == mtu


def test_mtu_has_a_floor(library: Any) -> None:
    found = [path_mtu(library, message4(esp4 / ESP(spi=1), x)) for x in (1, 67, 68, 65535)]
    assert [x["mtu"] for x in found if isinstance(x, dict)] == [68, 68, 68, 65535]
    found = [path_mtu(library, message6(esp6 / ESP(spi=1), x)) for x in (0, 68, 1279, 1281, 2**32 - 1)]
    assert [x["mtu"] for x in found if isinstance(x, dict)] == [1280, 1280, 1280, 1281, 2**32 - 1]


def test_what_is_something_else(library: Any) -> None:
    others: list[Any] = [esp4 / ESP(), esp6 / ESP(), message4(esp4, code=1), message4(esp4, type=11)]
    others[0].len = others[1].plen = None
    others += [message4(IP(src=A4, dst=B4, len=1480) / x) for x in (TCP(), UDP(sport=500, dport=500), ICMP())]
    others += [message6(IPv6(src=A6, dst=B6, plen=1440) / TCP()), IPv6(src=R6, dst=A6) / ICMPv6DestUnreach() / esp6]
    assert [path_mtu(library, x) for x in others] == [NOT_FOUND] * len(others)


def test_path_mtu_refuses(library: Any, names: SimpleNamespace) -> None:
    four, six = message4(esp4 / ESP(spi=SPI)), message6(esp6 / ESP(spi=SPI))
    bad = [four[:n] for n in range(len(four))] + [six[:n] for n in range(len(six))]
    for good, start in ((four, 22), (six, 42)):  # any change breaks the checksum
        bad += [good[:at] + bytes([good[at] ^ 4]) + good[at + 1 :] for at in range(start, len(good))]
    bad += [message4(bytes(esp4)[:19]), message6(bytes(esp6)[:39]), message4(b""), message6(b"")]
    bad += [message4(esp6), message6(esp4), message4(b"\x43" + bytes(esp4)[1:]), message4(b"\x50" + bytes(esp4)[1:])]
    bad += [message4(esp4, dst="10.1.0.9"), message6(esp6, dst="2001:db8:1::2")]  # not to the packet's source
    bad += [message4(esp4, flags="MF"), message4(esp4, frag=3)]
    bad += [bytes(IPv6(src=R6, dst=A6) / IPv6ExtHdrFragment(m=1) / ICMPv6PacketTooBig(mtu=1400) / esp6)]
    bad += [message6(IPv6(src=A6, dst="::ffff:10.0.0.1", nh=50, plen=1440))]
    bad += [message6(bytes(IPv6(src=A6, dst=B6, nh=60, plen=1440)) + b"\x32\x09")]  # options not all there
    results = [path_mtu(library, x) for x in bad]
    assert [i for i, x in enumerate(results) if x != names.FORMAT] == []


@given(data=st.binary(max_size=120), at=st.integers(0, 90), six=st.booleans())
@settings(deadline=None, max_examples=300)
def test_any_bytes(library: Any, data: bytes, at: int, six: bool) -> None:
    """A message, overwritten anywhere, its lengths put right: a code or an answer, never more than is there."""
    packet = bytearray(message6(esp6 / ESP(spi=SPI)) if six else message4(esp4 / ESP(spi=SPI)))
    packet[at : at + len(data)] = data
    if len(packet) > 6:
        packet[4 if six else 2 : 6 if six else 4] = (len(packet) - 40 * six).to_bytes(2, "big", signed=True)
    for code in (path_mtu(library, bytes(packet)), too_big(library, bytes(packet), 68)):
        assert not isinstance(code, int) or code in (0, -2, NOT_FOUND, -9)
