"""The driver and the oracle make the same packets, and open each other's: every suite, mode and family."""

from __future__ import annotations

from typing import Any

import pytest
from driver_kit import HOSTS, MODES, SUITES, of_family, opening, oracle, protecting, run

from ipsec_core import Status

ALL = pytest.mark.parametrize("name", SUITES)
FAMILIES = pytest.mark.parametrize("family", [4, 6])
LENGTHS = [0, 1, 2, 3, 5, 6, 7, 8, 13, 40, 99]


def iv_of(wire: bytes, name: str, mode: str, family: int) -> bytes:
    """The IV on the wire, which is the driver's choice."""
    start = 20 if family == 4 else 40
    start += 12 if name.startswith("ah") else 8
    return wire[start : start + 8]


@ALL
@FAMILIES
@pytest.mark.parametrize("mode", MODES)
def test_the_same_bytes(name: str, family: int, mode: Any, backend: str) -> None:
    out = protecting(name, mode, family, driver={"backend": backend})
    into = opening(name, mode, family, driver={"backend": backend})
    packets = [of_family(family, bytes(range(n))) for n in LENGTHS]
    wires = [wire for _, wire in run(out, "out", packets)]
    twin = oracle(name, mode, family)
    for number, (packet, wire) in enumerate(zip(packets, wires, strict=True), 1):
        assert wire == twin.seal(packet, number, iv_of(wire, name, mode, family), number)
        header = 20 if family == 4 else 40
        assert len(wire) - len(packet) == out.overhead(out.sas()[0].handle, len(packet), header)
    assert run(into, "in", wires) == [(Status.PROTECTED, packet) for packet in packets]
    assert out.sas()[0].bytes == into.sas()[0].bytes


@ALL
@FAMILIES
def test_the_other_family_inside_of_a_tunnel(name: str, family: int) -> None:
    packet = of_family(10 - family, b"inside")
    ((status, wire),) = run(protecting(name, "tunnel", family), "out", [packet])
    assert status is Status.PROTECTED
    assert wire == oracle(name, "tunnel", family).seal(packet, 1, iv_of(wire, name, "tunnel", family))
    assert run(opening(name, "tunnel", family), "in", [wire]) == [(Status.PROTECTED, packet)]


@FAMILIES
def test_selectors_of_a_family_do_not_let_the_other_one_in(family: int) -> None:
    from ipaddress import ip_network

    hosts = [ip_network(host) for host in HOSTS[family]]
    into = opening(mode="tunnel", family=4, inner_source=hosts[0], inner_destination=hosts[1])
    twin = oracle(mode="tunnel")
    wires = [twin.seal(of_family(f, b"x"), n, bytes(8)) for n, f in enumerate((family, 10 - family), 1)]
    assert [status for status, _ in run(into, "in", wires)] == [Status.PROTECTED, Status.WRONG_SELECTOR]
