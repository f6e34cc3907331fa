"""NoDefaultExempt (KB 253169, KB 811832): what filters never meet, for each of its values, in both families."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from driver_kit import ip, ip6, opening, oracle, run, statuses, tcp, udp

from ipsec_core import Action, Driver, Filter, Status

BOTH = pytest.mark.parametrize("direction", ["out", "in"])
CACHES = pytest.mark.parametrize("cache", [True, False])
ALL_HOSTS, OTHERS = "ff02::1", "2001:db8::9"


def udp6(source_port: int, destination_port: int, **fields: Any) -> bytes:
    return ip6(struct.pack("!HHHH", source_port, destination_port, 12, 0) + b"data", **{"protocol": 17, **fields})


def tcp6(source_port: int, destination_port: int) -> bytes:
    return ip6(struct.pack("!HHIIBBHHH", source_port, destination_port, 1, 0, 0x50, 2, 8192, 0, 0), protocol=6)


def icmp6(kind: int, **fields: Any) -> bytes:
    return ip6(bytes([kind, 0, 0, 0]) + bytes(20), protocol=58, **fields)


# Packet -> the values of NoDefaultExempt under which it is exempt.
TABLE: dict[str, tuple[bytes, set[int]]] = {
    "IKE": (udp(500, 500), {0, 1, 2, 3}),
    "IKE from another port": (udp(1029, 500), {0, 1, 2, 3}),
    "IKE over IPv6": (udp6(500, 500), {0, 1, 2, 3}),
    "not IKE: answer to another port": (udp(500, 1029), set()),
    "not IKE: TCP": (tcp(500, 500), set()),
    "NAT-T without NAT-T": (udp(4500, 4500), set()),
    "Kerberos UDP to": (udp(1029, 88), {0, 2}),
    "Kerberos UDP from": (udp(88, 1029), {0, 2}),
    "Kerberos TCP to": (tcp(1029, 88), {0, 2}),
    "Kerberos TCP from": (tcp(88, 1029), {0, 2}),
    "Kerberos over IPv6, UDP": (udp6(88, 1029), {0, 2}),
    "Kerberos over IPv6, TCP": (tcp6(1029, 88), {0, 2}),
    "port 88 of SCTP": (ip(struct.pack("!HH", 88, 88), protocol=132), set()),
    "RSVP": (ip(b"path", protocol=46), {0, 2}),
    "RSVP over IPv6": (ip6(b"path", protocol=46), {0, 2}),
    "multicast": (udp(9, 9, destination="224.0.0.5"), {0, 1}),
    "last multicast": (udp(9, 9, destination="239.255.255.255"), {0, 1}),
    "unicast before multicast": (udp(9, 9, destination="223.255.255.255"), set()),
    "broadcast": (udp(68, 67, destination="255.255.255.255"), {0, 1}),
    "IPv6 multicast": (udp6(9, 9, destination="ff05::1:3"), {0, 1}),
    "multicast as source": (udp6(9, 9, source="ff05::1:3"), set()),
    "unicast next to multicast": (udp6(9, 9, destination="fec0::1"), set()),
    "RSVP to a multicast group": (ip(b"path", protocol=46, destination="224.0.0.5"), {0, 1, 2}),
    "IKE to a broadcast": (udp(500, 500, destination="255.255.255.255"), {0, 1, 2, 3}),
    "neighbour solicitation": (icmp6(135, destination="ff02::1:ff00:2"), {0, 1, 2, 3}),
    "neighbour advertisement": (icmp6(136), {0, 1, 2, 3}),
    "router solicitation": (icmp6(133, destination="ff02::2"), {0, 1, 2, 3}),
    "redirect": (icmp6(137), {0, 1, 2, 3}),
    "type before neighbour discovery": (icmp6(132), set()),
    "type after neighbour discovery": (icmp6(138), set()),
    "echo": (icmp6(128), set()),
    "listener report": (icmp6(131, destination=ALL_HOSTS), {0, 1}),
    "bytes of a neighbour under UDP": (ip6(bytes([135]) + bytes(20), protocol=17), set()),
    "later fragment with the port of Kerberos": (udp(88, 88, fragment=0x2001), set()),
    "first fragment with the port of Kerberos": (udp(88, 88, fragment=0x2000), {0, 2}),
}


def blocking(direction: Any, **options: Any) -> Driver:
    driver = Driver(seed=1, **options)
    driver.set_filters([Filter(1, direction, Action.BLOCK, None, None)])
    return driver


@BOTH
@CACHES
@pytest.mark.parametrize("value", range(4))
def test_table(direction: Any, cache: bool, value: int) -> None:
    """Twice, so that the second answer is the cache's."""
    packets = [packet for packet, _ in TABLE.values()]
    wanted = [Status.EXEMPT if value in values else Status.BLOCKED for _, values in TABLE.values()]
    driver = blocking(direction, no_default_exempt=value, cache=cache)
    for _ in range(2):
        found = run(driver, direction, packets)
        assert dict(zip(TABLE, (status for status, _ in found), strict=True)) == dict(zip(TABLE, wanted, strict=True))
        assert [packet for _, packet in found] == packets
    assert driver.filter_packets() == [(1, 2 * wanted.count(Status.BLOCKED))]
    assert (driver.counters()["cache_hits"] > 20) == cache


@BOTH
def test_every_value_differs(direction: Any) -> None:
    packets = [packet for packet, _ in TABLE.values()]
    found = {tuple(statuses(blocking(direction, no_default_exempt=value), direction, packets)) for value in range(4)}
    assert len(found) == 4


@pytest.mark.parametrize("value", range(4))
def test_port_4500(value: int) -> None:
    """With NAT traversal IKE floats to port 4500 (RFC 3947 4): out it is exempt, in it has a marker."""
    driver = blocking("out", no_default_exempt=value, nat_traversal=True)
    packets = [udp(4500, 4500), udp(1029, 4500), udp(4500, 1029), tcp(4500, 4500), udp(4501, 4501), udp6(4500, 4500)]
    exempt, blocked = Status.EXEMPT, Status.BLOCKED
    assert statuses(driver, "out", packets) == [exempt, exempt, exempt, blocked, blocked, exempt]
    into = blocking("in", no_default_exempt=value, nat_traversal=True)
    assert statuses(into, "in", [udp(4500, 4500, bytes(4) + b"IKE"), udp(4500, 1029), udp6(4500, 1029)]) == [exempt] * 3
    assert statuses(into, "in", [udp(4500, 4500, b"\0\0\0\1....")]) == [Status.BAD_SPI]


def test_esp_for_an_exempt_group_is_still_esp() -> None:
    """Exemption is about clear packets: what has an SA's SPI is its business."""
    driver = opening(source="10.1.0.1", destination="224.0.0.5")
    packet = ip(b"x", destination="224.0.0.5")
    assert run(driver, "in", [oracle().seal(packet, 1)]) == [(Status.PROTECTED, packet)]


@BOTH
def test_exempt_flows_have_no_sa(direction: Any) -> None:
    from driver_kit import soft

    driver = Driver()
    driver.set_filters([Filter(1, direction, Action.NEGOTIATE, None, None)])
    driver.add_sa(soft(direction))
    assert statuses(driver, direction, [udp(500, 500), ip(b"x")]) == [Status.EXEMPT, Status.SOFT]
    assert driver.sas()[0].packets == 1
