"""Which packets of an offloaded SA the NIC takes, and which the host keeps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from driver_kit import ip, run, statuses
from nic_kit import AH, TRIPLE_DES, Suite, add, association, computer, sent

from ipsec_core import Driver, Status
from ipsec_core.driver import NIC_CAPABILITIES, Nic

OPTIONS = bytes([148, 4, 0, 0])
WITHOUT_OPTIONS = set(NIC_CAPABILITIES) - {"v4-options"}


def split(nic: Nic, direction: str) -> tuple[int, int]:
    """Packets that the NIC took and that the host kept."""
    figures = nic.statistics()
    return figures[f"ipsec_{direction}"], figures[f"software_{direction}"]


@pytest.mark.parametrize("suite", [TRIPLE_DES, AH], ids=["esp", "ah"])
@pytest.mark.parametrize(("capabilities", "taken"), [(None, True), (WITHOUT_OPTIONS, False)])
def test_ip_options(suite: Suite, capabilities: set[str] | None, taken: bool) -> None:
    near, far = Nic(capabilities), Nic(capabilities)
    a, b = computer("A", suite, nic=near), computer("B", suite, nic=far)
    packets = [ip(b"data", options=OPTIONS)] * 3
    assert statuses(b, "in", sent(a, packets)) == [Status.PROTECTED] * 3
    assert split(near, "sent") == split(far, "received") == ((3, 0) if taken else (0, 3))


def test_ip_options_inside_a_tunnel_are_not_the_nics_business() -> None:
    nic = Nic(WITHOUT_OPTIONS)
    sent(computer("A", mode="tunnel", nic=nic), [ip(b"data", options=OPTIONS)])
    assert split(nic, "sent") == (1, 0)


def test_a_fragment_in_a_tunnel() -> None:
    nic = Nic()
    sent(computer("A", mode="tunnel", nic=nic), [ip(b"data", fragment=0x2000), ip(b"data", fragment=3), ip(b"data")])
    assert split(nic, "sent") == (1, 2)


@pytest.mark.parametrize(("options", "largest"), [({"mtu": 576}, 576), ({}, 1500)])
def test_the_nics_mtu(options: dict[str, Any], largest: int) -> None:
    nic = Nic(**options)
    lengths = [len(p) for p in sent(computer("A", nic=nic), [ip(bytes(n)) for n in range(400, 1500)])]
    assert split(nic, "sent") == (sum(n <= largest for n in lengths), sum(n > largest for n in lengths))
    assert min(lengths) <= largest < max(lengths)


def test_the_path_mtu() -> None:
    nic = Nic()
    packets = [ip(bytes(n)) for n in range(500, 600)]
    lengths = [len(p) for p in sent(computer("A", nic=nic, path_mtu=576), packets)]
    assert split(nic, "sent") == (sum(n <= 576 for n in lengths), sum(n > 576 for n in lengths))
    assert min(lengths) <= 576 < max(lengths)


@pytest.mark.parametrize("end", ["224.0.0.9", "239.255.0.1", "255.255.255.255"])
def test_multicast_and_broadcast(end: str) -> None:
    near, far = Nic(), Nic()
    a, b = computer("A", mode="tunnel", nic=near, destination=end), Driver()
    b.attach_nic(far)
    add(b, association("in", mode="tunnel", destination=end))
    assert statuses(b, "in", sent(a, [ip(b"data")])) == [Status.PROTECTED]
    assert split(near, "sent") == split(far, "received") == (0, 1)


def fragments(packet: bytes, size: int) -> Sequence[bytes]:
    """RFC 791 3.2, of a packet without options."""
    data, pieces = packet[20:], []
    for at in range(0, len(data), size):
        more = 0x2000 if at + size < len(data) else 0
        pieces.append(
            ip(
                data[at : at + size],
                source=".".join(map(str, packet[12:16])),
                destination=".".join(map(str, packet[16:20])),
                protocol=packet[9],
                fragment=more | at // 8,
                identification=int.from_bytes(packet[4:6], "big"),
            )
        )
    return pieces


@pytest.mark.parametrize("suite", [TRIPLE_DES, AH], ids=["esp", "ah"])
def test_what_came_in_fragments(suite: Suite) -> None:
    nic = Nic()
    a, b = computer("A", suite), computer("B", suite, nic=nic)
    first, second, third = sent(a, [ip(bytes(200)), ip(bytes(201)), ip(bytes(202))])
    found = run(b, "in", [first, *fragments(second, 128), third])
    assert [status.name for status, _ in found] == ["PROTECTED", "REASSEMBLING", "PROTECTED", "PROTECTED"]
    assert [len(packet) for status, packet in found if status == Status.PROTECTED] == [220, 221, 222]
    assert split(nic, "received") == (2, 1)
    # Nothing of it is left for the packets of the next burst.
    assert statuses(b, "in", sent(a, [ip(b"x")] * 3)) == [Status.PROTECTED] * 3
    assert split(nic, "received") == (5, 1)


@pytest.mark.parametrize("suite", [TRIPLE_DES, AH], ids=["esp", "ah"])
def test_foreign_ipsec_in_a_tunnel(suite: Suite) -> None:
    """A gateway that carries somebody else's IPsec: for its NIC that is two SAs around one packet."""
    capabilities = set(NIC_CAPABILITIES) - {"transport-tunnel-combined"}
    for bits, taken in ((None, (1, 0)), (capabilities, (0, 1))):
        nic = Nic(bits)
        sent(computer("A", suite, "tunnel", nic), [ip(bytes(40), protocol=50 if suite is TRIPLE_DES else 51)])
        assert split(nic, "sent") == taken


def test_an_ah_packet_that_ends_early() -> None:
    """An AH tunnel packet that ends behind its AH header: nothing inside may be looked at."""
    nic = Nic()
    b = computer("B", AH, "tunnel", nic)
    (whole,) = sent(computer("A", AH, "tunnel"), [ip(b"data")])
    cut = ip(whole[20:44], source="192.0.2.1", destination="192.0.2.2", protocol=51)
    assert statuses(b, "in", [cut]) == [Status.NOT_AUTHENTICATED]
    assert nic.statistics()["ipsec_failed"] == 1
