"""Two of our own computers: over real sockets in two namespaces, and the same in virtual time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import wireshark
from namespaces import OUR_ADDRESS, PEER_ADDRESS, Namespaces
from our_computer import OurComputer, converse, policy

from ipsec_core.computer.computer import Computer
from ipsec_core.driver import Burst

pytestmark = pytest.mark.interop
Make = Callable[..., OurComputer]
KEY = {"preshared_key": "between the two of us"}


def computers(lab: Namespaces, our_computer: Make, main_mode: str, quick_mode: str, **rest: Any) -> list[OurComputer]:
    ends = ((lab.ours, OUR_ADDRESS, PEER_ADDRESS, b"ours"), (lab.peers, PEER_ADDRESS, OUR_ADDRESS, b"peer's"))
    return [
        our_computer(
            policy([main_mode], [quick_mode], KEY, ours=here, peer=there, **rest), space=space, address=here, seed=seed
        )
        for space, here, there, seed in ends
    ]


def in_virtual_time(pair: list[OurComputer]) -> list[list[bytes]]:
    """The IKE payloads that two computers of the same seeds and policies send when one sends a packet."""
    made = [
        Computer(
            "OURS",
            owner.computer.address,
            owner.policy,
            seed=seed,
            profile="modern",
            hold_packets=4,
            key_log=True,
        )
        for owner, seed in zip(pair, (b"ours", b"peer's"), strict=True)
    ]
    sent: list[list[bytes]] = [[], []]
    now, packet = pair[0].first  # a responder's cookie knows the minute
    for end in made:
        end.start(now)
    made[0].driver.outbound(Burst(1).load([packet]), now)
    moved = True
    while moved:
        moved = False
        for number, end in enumerate(made):
            for upcall in end.driver.upcalls():
                end.upcall(now, upcall)
            for packet in end.take_packets():
                now += 0.001
                sent[number].append(packet[28:])
                made[1 - number].datagram(now, packet)
                moved = True
    return sent


@pytest.mark.parametrize(
    ("main_mode", "quick_mode", "pfs"),
    [
        ("3DES-SHA1-2", "ESP[3DES,SHA1]", False),
        ("DES-MD5-1", "ESP[AES-128-GCM]", True),
        ("3DES-SHA1-2", "AH[MD5]+ESP[DES,SHA1]", False),
    ],
)
def test_real_and_virtual_time(main_mode: str, quick_mode: str, pfs: bool, lab: Namespaces, our_computer: Make) -> None:
    ours, theirs = computers(lab, our_computer, main_mode, quick_mode, pfs=pfs)
    converse(ours, [theirs], OUR_ADDRESS, PEER_ADDRESS)
    converse(theirs, [ours], PEER_ADDRESS, OUR_ADDRESS)
    assert [len(end.audits(541)) for end in (ours, theirs)] == [2, 2]
    assert ours.computer.ike_keys == theirs.computer.ike_keys
    assert {(key.spi, key.encryption_key) for key in ours.computer.keys} == {
        (key.spi, key.encryption_key) for key in theirs.computer.keys
    }
    assert ours.refused == theirs.refused == []
    frames = wireshark.check(lab.recorded(), [ours], lab.folder / "wireshark")
    assert [frame.exchange for frame in frames if frame.exchange] == ["2"] * 6 + ["32"] * 3
    assert all(frame.spi for frame in frames if not frame.exchange), "something went in clear"
    assert in_virtual_time([ours, theirs]) == [ours.sent, theirs.sent]
