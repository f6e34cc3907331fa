"""Our IKE and libreswan's: to completion in both roles, the same keys on both ends, protected traffic."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from shutil import which

import pytest
import wireshark
from esp_peer import EspPeer
from interop_kit import need
from namespaces import OUR_ADDRESS, OUR_HOST, PEER_ADDRESS, PEER_HOST, Namespaces
from our_computer import OurComputer, converse, policy, run
from pluto import PRESHARED_KEY, PROGRAMS, Pluto

pytestmark = pytest.mark.interop
KEY = {"preshared_key": PRESHARED_KEY}
Make = Callable[..., OurComputer]


@pytest.fixture
def pluto(lab: Namespaces, shim: object) -> Pluto:
    need((PROGRAMS / "pluto").exists(), "libreswan")
    need(which("certutil") is not None, "certutil")
    folder = lab.folder / "pluto"
    folder.mkdir()
    return Pluto(lab, lab.peers, folder, shim)


@pytest.fixture
def esp_peer(lab: Namespaces, pluto: Pluto) -> Iterator[EspPeer]:
    made = EspPeer(lab.peers, pluto.folder / "sas.jsonl")
    yield made
    made.close()


@pytest.mark.parametrize("mode", ["transport", "tunnel"])
@pytest.mark.parametrize("initiator", ["ours", "pluto"])
def test_preshared_key(
    initiator: str, mode: str, lab: Namespaces, pluto: Pluto, esp_peer: EspPeer, our_computer: Make
) -> None:
    tunnel = mode == "tunnel"
    subnets = {"leftsubnet": f"{PEER_HOST}/32", "rightsubnet": f"{OUR_HOST}/32"} if tunnel else {}
    proposals = {"ike": "3des-sha1-modp2048", "phase2alg": "3des-sha1", "pfs": "yes" if tunnel else "no"}
    pluto.start({"type": mode, **proposals, **subnets})
    ours = our_computer(policy(["3DES-SHA1-14"], ["ESP[3DES,SHA1]"], KEY, tunnel=tunnel, pfs=tunnel))
    here, there = (OUR_HOST, PEER_HOST) if tunnel else (OUR_ADDRESS, PEER_ADDRESS)
    if initiator == "pluto":
        whack = pluto.initiate()
        run([ours, esp_peer], lambda: whack.ended, "whack --initiate")
        assert "IPsec SA established" in whack.output
    converse(ours, [esp_peer], here, there)
    converse(esp_peer, [ours], there, here)
    assert pluto.said("IKE SA established")
    assert pluto.said("IPsec SA established" + (" tunnel" if tunnel else " transport") + " mode")
    assert len(ours.audits(541)) == 2
    theirs = {sa.spi: (sa.encryption_key, sa.integrity_key) for sa in pluto.sas.values()}
    assert {record.spi: (record.encryption_key, record.integrity_key) for record in ours.computer.keys} == theirs
    frames = wireshark.check(lab.recorded(), [ours], lab.folder / "wireshark")
    assert wireshark.messages(frames, wireshark.MAIN_MODE) == 6
    assert wireshark.messages(frames, wireshark.QUICK_MODE) == 3
