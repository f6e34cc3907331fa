"""Lifetimes and ends of SAs between our IKE and strongSwan's: nothing is lost while keys change, deletes are obeyed."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

import pytest
import wireshark
from charon import PRESHARED_KEY, Charon, connection
from esp_peer import EspPeer
from namespaces import OUR_ADDRESS, PEER_ADDRESS, Namespaces, wait_until
from our_computer import OurComputer, converse, policy, run

pytestmark = pytest.mark.interop
KEY = {"preshared_key": PRESHARED_KEY}
IKE, ESP = "3des-sha1-modp1024", "3des-sha1"
Make = Callable[..., OurComputer]
GAP = 0.05


def quick_modes(ours: OurComputer) -> int:
    return sum("Quick Mode" in text for text in ours.audits(541))


def main_modes(ours: OurComputer) -> int:
    return len(ours.audits(541)) - quick_modes(ours)


def ping_until(ours: OurComputer, peer: EspPeer, until: Callable[[], object], what: str, seconds: float) -> list[str]:
    """An echo request every `GAP` seconds, from both ends in turn; those that got no answer."""
    ours_sent: list[int] = []
    peers_sent: list[int] = []
    due = time.monotonic()

    def step() -> object:
        nonlocal due
        if time.monotonic() >= due:
            due += GAP
            if len(ours_sent) <= len(peers_sent):
                ours_sent.append(ours.ping(OUR_ADDRESS, PEER_ADDRESS))
            else:
                peers_sent.append(peer.ping(PEER_ADDRESS, OUR_ADDRESS))
        return until()

    def lost() -> list[str]:
        return [f"ours {n}" for n in ours_sent if not ours.answered(n)] + [
            f"peer's {n}" for n in peers_sent if not peer.answered(n)
        ]

    run([ours, peer], step, what, seconds)
    with suppress(TimeoutError):
        run([ours, peer], lambda: not lost(), "the last replies", 1.0)
    return lost()


def test_quick_mode_before_its_lifetime_ends(
    lab: Namespaces, charon: Charon, esp_peer: EspPeer, our_computer: Make
) -> None:
    charon.start(connection(IKE, ESP))
    ours = our_computer(policy(["3DES-SHA1-2"], ["ESP[3DES,SHA1]:100000k/4s"], KEY))
    converse(ours, [esp_peer], OUR_ADDRESS, PEER_ADDRESS)
    lost = ping_until(ours, esp_peer, lambda: quick_modes(ours) == 4, "three rekeys", 20.0)
    assert lost == []
    assert main_modes(ours) == 1
    run([ours, esp_peer], lambda: len(charon.lines(r"CHILD_SA child0\{\d+\} established")) == 4, "charon's log")
    assert ours.refused == []
    wireshark.check(lab.recorded(), [ours], lab.folder / "wireshark")


def test_quick_mode_by_volume(lab: Namespaces, charon: Charon, esp_peer: EspPeer, our_computer: Make) -> None:
    charon.start(connection(IKE, ESP))
    ours = our_computer(policy(["3DES-SHA1-2"], ["ESP[3DES,SHA1]:8k/3600s"], KEY))
    converse(ours, [esp_peer], OUR_ADDRESS, PEER_ADDRESS)
    lost = ping_until(ours, esp_peer, lambda: quick_modes(ours) == 3, "two rekeys", 20.0)
    assert lost == []
    run([ours, esp_peer], lambda: len(charon.lines(r"CHILD_SA child0\{\d+\} established")) == 3, "charon's log")
    wireshark.check(lab.recorded(), [ours], lab.folder / "wireshark")


def test_quick_mode_that_charon_renews(lab: Namespaces, charon: Charon, esp_peer: EspPeer, our_computer: Make) -> None:
    charon.start(connection(IKE, ESP))
    ours = our_computer(policy(["3DES-SHA1-2"], ["ESP[3DES,SHA1]"], KEY))
    converse(ours, [esp_peer], OUR_ADDRESS, PEER_ADDRESS)
    charon.command("--rekey", "--child", "child0")
    lost = ping_until(ours, esp_peer, lambda: quick_modes(ours) == 2, "the rekey", 10.0)
    run([ours, esp_peer], lambda: len(charon.lines(r"CHILD_SA child0\{\d+\} established")) == 2, "charon's log")
    lost += ping_until(ours, esp_peer, lambda: len(ours.received) > 100, "pings under the new SA", 10.0)
    assert lost == []
    wireshark.check(lab.recorded(), [ours], lab.folder / "wireshark")


@pytest.mark.parametrize("who", ["ours", "charon"])
def test_main_mode(who: str, lab: Namespaces, charon: Charon, esp_peer: EspPeer, our_computer: Make) -> None:
    charon.start(connection(IKE, ESP))
    lifetime = ":3s" if who == "ours" else ""
    ours = our_computer(policy([f"3DES-SHA1-2{lifetime}"], ["ESP[3DES,SHA1]:100000k/4s"], KEY))
    converse(ours, [esp_peer], OUR_ADDRESS, PEER_ADDRESS)
    if who == "charon":
        charon.command("--rekey", "--ike", "connection0")
    lost = ping_until(ours, esp_peer, lambda: main_modes(ours) == 2 and quick_modes(ours) == 2, "both anew", 10.0)
    assert lost == []
    run([ours, esp_peer], lambda: len(charon.lines(r"IKE_SA connection0\[\d+\] established")) == 2, "charon's log")
    wireshark.check(lab.recorded(), [ours], lab.folder / "wireshark")


def test_charon_deletes(charon: Charon, esp_peer: EspPeer, our_computer: Make) -> None:
    charon.start(connection(IKE, ESP))
    ours = our_computer(policy(["3DES-SHA1-2"], ["ESP[3DES,SHA1]"], KEY))
    converse(ours, [esp_peer], OUR_ADDRESS, PEER_ADDRESS)
    charon.command("--terminate", "--child", "child0")
    run([ours, esp_peer], lambda: ours.audits(542), "audit 542")
    assert ours.computer.associations() == []
    charon.command("--terminate", "--ike", "connection0")
    run([ours, esp_peer], lambda: ours.audits(543), "audit 543")
    assert ours.computer.counters()["ike_active_main_modes"] == 0
    # And again from the start.
    converse(ours, [esp_peer], OUR_ADDRESS, PEER_ADDRESS)
    assert main_modes(ours) == quick_modes(ours) == 2


def test_we_delete(lab: Namespaces, charon: Charon, esp_peer: EspPeer, our_computer: Make) -> None:
    charon.start(connection(IKE, ESP))
    ours = our_computer(policy(["3DES-SHA1-2"], ["ESP[3DES,SHA1]"], KEY))
    converse(ours, [esp_peer], OUR_ADDRESS, PEER_ADDRESS)
    ours.stop()
    # Two deletes, of which its threads take now the one and now the other first; the second finds nothing more then.
    run([ours], lambda: charon.said("received DELETE for IKE_SA"), "charon's IKE_SA")
    run([ours], lambda: charon.said("deleted SAD entry with SPI"), "charon's CHILD_SA")
    assert len(ours.audits(542)) == len(ours.audits(543)) == 1
    assert "no matching" not in charon.swanctl("--list-sas")
    assert "connection0" not in charon.swanctl("--list-sas")
    wireshark.check(lab.recorded(), [ours], lab.folder / "wireshark")


def test_both_begin_at_once(lab: Namespaces, charon: Charon, esp_peer: EspPeer, our_computer: Make) -> None:
    """Two Main Modes and two Quick Modes cross each other: whatever stays, both ends know it."""
    charon.start(connection(IKE, ESP))
    ours = our_computer(policy(["3DES-SHA1-2"], ["ESP[3DES,SHA1]"], KEY))
    # What becomes of its request is charon's affair: it may move it from one IKE SA to the other and wait in vain.
    charon.initiate()
    wait_until(lambda: charon.said("generating ID_PROT request 0"), "charon's first message")
    converse(ours, [esp_peer], OUR_ADDRESS, PEER_ADDRESS)
    lost = ping_until(ours, esp_peer, lambda: len(ours.received) > 60, "some pings", 10.0)
    assert lost == []
    inbound = {sa.spi for sa in charon.sas.values() if sa.destination == PEER_ADDRESS}
    assert {sa.spi for sa in ours.computer.driver.sas() if sa.direction == "out"} <= inbound
    wireshark.check(lab.recorded(), [ours], lab.folder / "wireshark")
