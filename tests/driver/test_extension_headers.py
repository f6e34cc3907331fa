"""Headers that transport mode leaves in front of the IPsec header (RFC 4302 3.1.1, RFC 4303 3.1.1)."""

from __future__ import annotations

import struct

from driver_kit import changed, ip6, opening, protecting, run

from ipsec_core import Status

UDP, ROUTING = 17, 43
PORTS = (4500, 4500)


def folded(data: bytes) -> int:
    """The sum of RFC 1071 over whole words: 0xffff when the checksum among them is right."""
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def test_the_udp_checksum_is_in_udp() -> None:
    options = bytes([253, 0, 1, 4, 0, 0, 0, 0])  # PadN: what is written into it would be seen
    packet = ip6(bytes(18), extensions=options, first=0)
    (status, wire), *_ = run(protecting(family=6, encapsulation=PORTS), "out", [packet])
    assert status is Status.PROTECTED
    assert wire[40:48] == bytes([UDP]) + options[1:]
    udp = wire[48:]
    assert struct.unpack_from("!HHH", udp) == (*PORTS, len(udp))
    # RFC 8200 8.1: the pseudo-header has the addresses, the length of UDP and its protocol.
    assert folded(wire[8:40] + struct.pack("!II", len(udp), UDP) + udp + bytes(len(udp) % 2)) == 0xFFFF
    receiver = opening(family=6, encapsulation=PORTS, driver={"nat_traversal": True})
    assert run(receiver, "in", [wire]) == [(Status.PROTECTED, packet)]


def test_what_ah_cannot_read_is_not_sent() -> None:
    """A routing header of a kind whose end nobody knows (RFC 4302 3.3.3.1.2): dropped, and not counted as sent."""
    unknown = bytes([253, 0, 200, 1, 0, 0, 0, 0])
    driver = protecting("ah-sha1", family=6)
    before = driver.counters()
    assert run(driver, "out", [ip6(bytes(18), extensions=unknown, first=ROUTING)])[0][0] is Status.MALFORMED
    assert not {name for name in changed(driver, before) if "bytes" in name}
