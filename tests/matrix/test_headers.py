"""IPv6 extension headers and IPv4 options in front of what is protected, and packets as long as they can be."""

from __future__ import annotations

import struct
from ipaddress import ip_address
from itertools import combinations

import pytest
from fields import IPV6_OPTIONS, NO_OPERATION, NO_SEGMENT_LEFT, RECORD_ROUTE, ROUTER_ALERT
from matrix_kit import HEADER, HOSTS, Shape, Suite, clear, ipv4, ipv6, payload, receiver, run, sender, shapes, twin
from oracle import AH, DESTINATION, FRAGMENT, HOP_BY_HOP, ROUTING, place, with_length

from ipsec_core import Burst, Status

PACKET_MAX = 65535
SUITES = [
    Suite("esp", "AES-256-GCM", "none"),
    Suite("esp", "3DES-CBC", "HMAC-SHA1-96"),
    Suite("esp", "NULL", "AES-128-GMAC"),
    Suite("ah", "NULL", "HMAC-SHA2-256-128"),
    Suite("ah", "NULL", "AES-256-GMAC"),
]
ORDER = (HOP_BY_HOP, DESTINATION, ROUTING, FRAGMENT, DESTINATION)
"""RFC 8200 4.1. A Fragment header on a whole packet is an atomic fragment (RFC 6946)."""
CONTENTS = {
    HOP_BY_HOP: b"\1" + IPV6_OPTIONS,
    DESTINATION: b"\1" + IPV6_OPTIONS,
    ROUTING: NO_SEGMENT_LEFT,
    FRAGMENT: b"\5\0\0" + b"\1\2\3\4",  # the reserved byte is whatever a sender leaves in it
}
CHAINS = [chain for length in range(len(ORDER) + 1) for chain in combinations(ORDER, length)]
IPV4_OPTIONS = [RECORD_ROUTE + ROUTER_ALERT + NO_OPERATION, ROUTER_ALERT, b"\x44\x28" + bytes(38), bytes(4)]


def with_extensions(chain: tuple[int, ...], size: int) -> bytes:
    kinds = (*chain, 253)
    extensions = b"".join(bytes((after,)) + CONTENTS[kind] for kind, after in zip(chain, kinds[1:], strict=True))
    return ipv6(payload(size), protocol=kinds[0], extensions=extensions, tos=0x28, flow=0x12345)


PACKETS = {
    6: [with_extensions(chain, number) for number, chain in enumerate(CHAINS)],
    4: [ipv4(payload(number), options=options, tos=0x28) for number, options in enumerate(IPV4_OPTIONS)],
}


def without_fragment(packet: bytes) -> bytes:
    """RFC 8200 4.5: a whole packet with a Fragment header is processed as if it had none."""
    if packet[0] >> 4 == 4:
        return packet
    at, next_at = 40, 6
    while packet[next_at] in (HOP_BY_HOP, DESTINATION, ROUTING):
        next_at, at = at, at + 8 + packet[at + 1] * 8
    if packet[next_at] != FRAGMENT or at >= place(packet)[0]:
        return packet  # none, or IPsec goes in front of it
    header = bytearray(packet[:at])
    header[next_at] = packet[at]
    struct.pack_into("!H", header, 4, len(packet) - 40 - 8)
    return bytes(header) + packet[at + 8 :]


def with_fragment(packet: bytes) -> bytes:
    """The opposite: the header goes where fragmentation puts it, behind what every router reads."""
    at, next_at = 40, 6
    while packet[next_at] in (HOP_BY_HOP, ROUTING) or (packet[next_at] == DESTINATION and packet[at] == ROUTING):
        next_at, at = at, at + 8 + packet[at + 1] * 8
    header = bytearray(packet[:at])
    inserted = bytes((header[next_at],)) + CONTENTS[FRAGMENT]
    header[next_at] = FRAGMENT
    struct.pack_into("!H", header, 4, len(packet) - 40 + 8)
    return bytes(header) + inserted + packet[at:]


@pytest.mark.parametrize("suite", SUITES, ids=str)
def test_headers_in_front(suite: Suite, backend: str) -> None:
    """IPsec has its place behind what the way needs (RFC 4303 3.1.1), UDP with it; the oracle agrees."""
    for shape in shapes(suite):
        transport = shape.mode == "transport"
        driver = sender(suite, shape, backend=backend)
        (handle,) = (sa.handle for sa in driver.sas())
        packets = PACKETS[shape.inner]
        if suite.protocol == "ah" and transport:
            refused = [packet for packet in packets if without_fragment(packet) != packet]
            assert {status for status, _ in run(driver, "out", refused)} == ({Status.FRAGMENT} if refused else set())
            packets = [packet for packet in packets if packet not in refused]
        results = run(driver, "out", packets)
        for sequence, (packet, (status, sealed)) in enumerate(zip(packets, results, strict=True), 1):
            assert status is Status.PROTECTED
            header = place(packet)[0]
            at = (header if transport else HEADER[shape.outer]) + 8 * shape.udp + (8 if suite.protocol == "esp" else 12)
            identification = struct.unpack_from("!H", sealed, 4)[0]
            assert sealed == twin(suite, shape).seal(packet, sequence, sealed[at : at + suite.iv], identification), (
                shape
            )
            assert len(sealed) - len(packet) == driver.overhead(handle, len(packet), header)
        wanted = [without_fragment(packet) if transport else packet for packet in packets]
        opened = run(receiver(suite, shape, backend=backend), "in", [sealed for _, sealed in results])
        assert opened == [(Status.PROTECTED, packet) for packet in wanted], shape


@pytest.mark.parametrize("suite", SUITES, ids=str)
def test_protected_packets_with_a_fragment_header(suite: Suite, backend: str) -> None:
    """RFC 6946: put there on the way out, after IPsec; the receiver takes it off in front of IPsec."""
    for shape in shapes(suite):
        if shape.outer == 6:
            packets = [packet for packet in PACKETS[shape.inner] if without_fragment(packet) == packet]
            sealed = [packet for _, packet in run(sender(suite, shape, backend=backend), "out", packets)]
            received = [with_fragment(packet) for packet in sealed]
            assert [without_fragment(packet) for packet in received] == sealed
            opened = run(receiver(suite, shape, backend=backend), "in", received)
            assert opened == [(Status.PROTECTED, packet) for packet in packets], shape


@pytest.mark.parametrize("suite", SUITES, ids=str)
def test_as_long_as_packets_can_be(suite: Suite, backend: str) -> None:
    """65535 bytes (RFC 791); what would be longer is not cut."""
    for shape in shapes(suite):
        driver, into = sender(suite, shape, backend=backend), receiver(suite, shape, backend=backend)
        (handle,) = (sa.handle for sa in driver.sas())
        header = HEADER[shape.inner]

        def total(size: int) -> int:
            return header + size + driver.overhead(handle, header + size, header)  # noqa: B023

        fits = max(size for size in range(PACKET_MAX - header - 160, PACKET_MAX - header) if total(size) <= PACKET_MAX)
        for size in (9000, fits - 1, fits, fits + 1, PACKET_MAX - header):
            packet = clear(shape.inner, size)
            burst = Burst(1, PACKET_MAX).load([packet])
            driver.outbound(burst)
            if size > fits:
                assert Status(int(burst.status[0])) is Status.TOO_BIG
                continue
            (sealed,) = burst.packets()
            assert len(sealed) == total(size)
            again = Burst(1, PACKET_MAX).load([sealed])
            into.inbound(again)
            assert again.packets() == [packet], shape
        assert driver.sas()[0].packets == 3


@pytest.mark.parametrize("kind", [131, 137], ids=["loose", "strict"])
def test_ah_on_a_source_route(kind: int, backend: str) -> None:
    """RFC 4302 3.3.3.1.1.2: the destination counts as the receiver sees it, whatever router the packet goes to first.

    (scapy does not look ahead so.)
    """
    suite, shape = Suite("ah", "NULL", "HMAC-SHA1-96"), Shape("transport", 4, 4)
    here, there = (ip_address(host).packed for host in HOSTS[4])
    router, interface = (ip_address(host).packed for host in ("192.0.2.77", "192.0.2.78"))
    packet = bytearray(ipv4(b"payload", options=bytes((kind, 7, 4)) + there + b"\1"))
    packet[16:20] = router
    driver = sender(suite, shape, backend=backend, destination="192.0.2.77")  # what the packet says is what counts
    ((status, sealed),) = run(driver, "out", [bytes(packet)])
    assert status is Status.PROTECTED
    assert sealed[16:20] == router
    # The router sends it on: next address into the destination, its own into the option, the pointer moves on.
    header = bytearray(sealed[:28])
    header[12:28] = here + there + bytes((kind, 7, 8)) + interface + b"\1"
    header[8] -= 1
    arrived = with_length(bytes(header), AH, sealed[28:])
    ((status, inner),) = run(receiver(suite, shape, backend=backend), "in", [arrived])
    assert status is Status.PROTECTED
    assert inner == with_length(bytes(header), 253, b"payload")


@pytest.mark.parametrize("suite", [suite for suite in SUITES if suite.protocol == "esp"], ids=str)
def test_bytes_behind_the_packet_inside_hide_its_length(suite: Suite, backend: str) -> None:
    """RFC 4303 2.7: in a tunnel a peer may put anything there; it is not part of the packet."""
    for shape in shapes(suite):
        if shape.mode == "tunnel":
            packets = [clear(shape.inner, size) for size in range(0, 200, 7)]
            hidden = [packet + payload(1400 - len(packet)) for packet in packets]
            oracle = twin(suite, shape)
            sealed = [oracle.seal(each, number, bytes(suite.iv)) for number, each in enumerate(hidden, 1)]
            opened = run(receiver(suite, shape, backend=backend), "in", sealed)
            assert opened == [(Status.PROTECTED, packet) for packet in packets], shape
