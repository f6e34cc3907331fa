"""Protected packets field by field: how many bits each has, and what the driver may say when one of them is flipped.

The replay window is off in these tests, so that one driver takes the same packet again and again.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from ipaddress import ip_address

from matrix_kit import HOSTS, Shape, Suite, ipv4, ipv6
from oracle import attach, place

from ipsec_core import Status

Maker = Callable[[bytes], tuple[bytes, "list[Field]"]]
Field = tuple[int, frozenset[Status]]
"""Bits, verdicts."""


def _any_of(*statuses: Status) -> frozenset[Status]:
    return frozenset(statuses)


PASSES = _any_of(Status.PROTECTED)
COVERED = _any_of(Status.NOT_AUTHENTICATED)
UNKNOWN = _any_of(Status.BAD_SPI)
LENGTH = _any_of(Status.MALFORMED, Status.NOT_AUTHENTICATED)
BROKEN = _any_of(Status.MALFORMED)
ANOTHER_VERSION = _any_of(Status.NOT_IP, Status.MALFORMED, Status.NO_FILTER)
# It is no IPsec packet any more, or another one: nothing of it is taken for protected.
ANOTHER_PROTOCOL = _any_of(Status.NO_FILTER, Status.EXEMPT, Status.BAD_SPI, Status.MALFORMED, Status.REASSEMBLING)
MOVED = _any_of(Status.MALFORMED, Status.BAD_SPI, Status.NO_FILTER, Status.NOT_AUTHENTICATED, Status.REASSEMBLING)
FRAGMENT = _any_of(Status.REASSEMBLING, Status.MALFORMED)
NOT_OUR_PEER = _any_of(Status.WRONG_SELECTOR)


def ip_fields(shape: Shape, protocol: str) -> list[Field]:
    """The outermost header, without options.

    AH covers what no router changes (RFC 4302 3.3.3.1); ESP covers nothing of it (RFC 4303 2), but in transport mode
    the addresses are selectors of the SA (RFC 2401 5.2.1).
    """
    ah = protocol == "ah"
    source = COVERED if ah else NOT_OUR_PEER if shape.mode == "transport" else PASSES
    # Cut in front of the ports it is any UDP packet, which is the host's to refuse.
    length = LENGTH | {Status.NO_FILTER} if shape.udp else LENGTH
    if shape.outer == 4:
        return [
            *((4, ANOTHER_VERSION), (4, MOVED)),  # header length
            (8, PASSES),  # type of service
            *((16, length), (16, COVERED if ah else PASSES)),  # identification
            *((2, PASSES), (14, FRAGMENT)),  # reserved bit, DF; MF, offset
            *((8, PASSES), (8, ANOTHER_PROTOCOL), (16, PASSES)),  # time to live; checksum
            *((32, source), (32, UNKNOWN)),
        ]
    # Traffic class, flow label; hop limit.
    return [
        *((4, ANOTHER_VERSION), (28, PASSES), (16, length), (8, ANOTHER_PROTOCOL), (8, PASSES)),
        *((128, source), (128, UNKNOWN)),
    ]


def udp_fields() -> list[Field]:
    """RFC 3948: a NAT changes the source port; the checksum is not looked at (3.1.1)."""
    return [(16, PASSES), (16, ANOTHER_PROTOCOL), (16, BROKEN), (16, PASSES)]


def esp_fields(length: int) -> list[Field]:
    """`length`: bytes from the SPI to the ICV."""
    return [(32, UNKNOWN), (8 * (length - 4), COVERED)]


def ah_fields(length: int) -> list[Field]:
    """`length`: bytes from the next header to the end of the packet."""
    return [(8, COVERED), (8, BROKEN), (16, COVERED), (32, UNKNOWN), (8 * (length - 8), COVERED)]


def of_packet(suite: Suite, shape: Shape, packet: bytes) -> list[Field]:
    """The fields of a protected packet without options and extension headers in front of IPsec."""
    fields = ip_fields(shape, suite.protocol) + (udp_fields() if shape.udp else [])
    inside = len(packet) - sum(bits for bits, _ in fields) // 8
    return fields + (ah_fields(inside) if suite.protocol == "ah" else esp_fields(inside))


def verdicts(fields: Sequence[Field]) -> list[frozenset[Status]]:
    """Of each bit."""
    return [found for bits, found in fields for _ in range(bits)]


def flipped(packet: bytes, bit: int) -> bytes:
    changed = bytearray(packet)
    changed[bit // 8] ^= 0x80 >> bit % 8
    return bytes(changed)


def opened(clear: bytes, shape: Shape, received: bytes) -> bytes:
    """What is inside of a received packet, some of whose unprotected bits are not as they were sent."""
    if shape.mode == "tunnel":
        return clear
    at, next_at = place(clear)
    return attach(received[:at], clear[next_at], clear[at:])


# ---- AH behind options and extension headers -------------------------------------------------------------------------

RECORD_ROUTE = b"\x07\x07\x04\x0a\1\0\1"
ROUTER_ALERT, NO_OPERATION = b"\x94\4\1\2", b"\1"
OPTION_FIELDS: list[Field] = [
    # Record route is zero for the ICV as a whole, so that no bit of its type counts (RFC 4302 appendix A1).
    *((8, PASSES), (8, LENGTH), (8 * 5, PASSES)),
    *((8, LENGTH), (8, LENGTH), (16, COVERED)),  # router alert
    (8, LENGTH),  # no operation
]
# An option that may change, one that may not, and padding (RFC 8200 4.2).
IPV6_OPTIONS = b"\x3e\4\1\2\3\4" + b"\x1e\4\1\2\3\4" + b"\1\0"
IPV6_OPTION_FIELDS: list[Field] = [
    *((8, LENGTH), (8, LENGTH), (32, PASSES)),
    *((8, LENGTH), (8, LENGTH), (32, COVERED)),
    *((8, LENGTH), (8, LENGTH)),
]
EXTENSION_FIELDS: list[Field] = [(8, ANOTHER_PROTOCOL), (8, MOVED), *IPV6_OPTION_FIELDS]
# Type 0 with no segment left: every bit counts (RFC 4302 3.3.3.1.2.2).
NO_SEGMENT_LEFT = b"\2\0\0\0\0\0\0" + ip_address(HOSTS[6][1]).packed
ROUTING_FIELDS: list[Field] = [(8, ANOTHER_PROTOCOL), (8, MOVED), (8, COVERED), (8, LENGTH), (8 * 20, COVERED)]


def options_ipv4(payload: bytes) -> tuple[bytes, list[Field]]:
    """A packet of two kinds of options, and the fields of its options."""
    return ipv4(payload, options=RECORD_ROUTE + ROUTER_ALERT + NO_OPERATION, tos=0x28, fragment=0x4000), OPTION_FIELDS


def options_ipv6(payload: bytes) -> tuple[bytes, list[Field]]:
    """Hop-by-hop options in front of AH, destination options behind."""
    extensions = struct.pack("!BB", 60, 1) + IPV6_OPTIONS + struct.pack("!BB", 253, 1) + IPV6_OPTIONS
    return ipv6(payload, protocol=0, extensions=extensions, tos=0x28, flow=0x12345), EXTENSION_FIELDS


def routed_ipv6(payload: bytes) -> tuple[bytes, list[Field]]:
    """Hop-by-hop options, destination options and a routing header, all in front of AH (RFC 4302 3.1.1)."""
    extensions = struct.pack("!BB", 60, 1) + IPV6_OPTIONS + struct.pack("!BB", 43, 1) + IPV6_OPTIONS
    extensions += struct.pack("!B", 253) + NO_SEGMENT_LEFT
    packet = ipv6(payload, protocol=0, extensions=extensions, tos=0x28, flow=0x12345)
    return packet, EXTENSION_FIELDS + EXTENSION_FIELDS + ROUTING_FIELDS
