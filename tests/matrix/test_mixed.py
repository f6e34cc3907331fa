"""Every suite in every burst: runs of one suite are as short as can be, damaged packets lie between good ones."""

from __future__ import annotations

import struct
from ipaddress import ip_address

import pytest
from fields import flipped
from matrix_kit import PLAIN, SPI, SUITES, Shape, association, ipv4, ipv6, payload, run

from ipsec_core import Action, Driver, Filter, Status

pytestmark = pytest.mark.filterwarnings("ignore::ipsec_core.errors.SecurityWarning")
SIZES = (0, 1, 17, 64, 300, 1337)
FIRST_PORT = 2000
UDP = 17


def packets(shape: Shape) -> list[tuple[int, bytes]]:
    """Number of the suite and clear packet; neighbours belong to different suites."""
    made = []
    for size in SIZES:
        for number in range(len(SUITES)):
            datagram = struct.pack("!HHHH", 1000, FIRST_PORT + number, 8 + size, 0) + payload(size)
            made.append((number, (ipv4 if shape.inner == 4 else ipv6)(datagram, protocol=UDP)))
    return made


@pytest.mark.parametrize("shape", PLAIN, ids=str)
def test_all_suites_in_one_burst(shape: Shape, backend: str) -> None:
    out, into = Driver(seed=1, backend=backend), Driver(seed=2, backend=backend)
    tunnel = ip_address(shape.ends[1]) if shape.mode == "tunnel" else None
    out.set_filters(
        Filter(number, "out", Action.NEGOTIATE, None, None, UDP, destination_port=FIRST_PORT + number, tunnel=tunnel)
        for number in range(len(SUITES))
    )
    for number, suite in enumerate(SUITES):
        out.add_sa(association("out", suite, shape, spi=SPI + number, filter=number))
        into.add_sa(association("in", suite, shape, spi=SPI + number))
    clear = packets(shape)
    sealed = run(out, "out", [packet for _, packet in clear])
    assert {status for status, _ in sealed} == {Status.PROTECTED}
    # In front of each packet itself with its last bit flipped, which is part of every ICV.
    wire, wanted = [], []
    for (number, packet), (_, protected) in zip(clear, sealed, strict=True):
        if SUITES[number].icv:
            wire.append(flipped(protected, 8 * len(protected) - 1))
            wanted.append((Status.NOT_AUTHENTICATED, None))
        wire.append(protected)
        wanted.append((Status.PROTECTED, packet))
    for (status, inside), (expected, packet) in zip(run(into, "in", wire), wanted, strict=True):
        assert status is expected
        assert packet in (None, inside)
    assert [sa.packets for sa in into.sas()] == [sa.packets for sa in out.sas()] == [len(SIZES)] * len(SUITES)
