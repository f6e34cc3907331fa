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


@pytest.mark.parametrize("suite", SUITES, ids=str)
def test_headers_in_front(suite: Suite, backend: str) -> None:
    """IPsec has its place behind what the way needs (RFC 4303 3.1.1), UDP with it; the oracle agrees."""
    for shape in shapes(suite):
        driver = sender(suite, shape, backend=backend)
        (handle,) = (sa.handle for sa in driver.sas())
        packets = PACKETS[shape.inner]
        results = run(driver, "out", packets)
        for sequence, (packet, (status, sealed)) in enumerate(zip(packets, results, strict=True), 1):
            assert status is Status.PROTECTED
            header = place(packet)[0]
            outside = header if shape.mode == "transport" else HEADER[shape.outer]
            at = outside + 8 * shape.udp + (8 if suite.protocol == "esp" else 12)
            identification = struct.unpack_from("!H", sealed, 4)[0]
            assert sealed == twin(suite, shape).seal(packet, sequence, sealed[at : at + suite.iv], identification), (
                shape
            )
            assert len(sealed) - len(packet) == driver.overhead(handle, len(packet), header)
        opened = run(receiver(suite, shape, backend=backend), "in", [sealed for _, sealed in results])
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
