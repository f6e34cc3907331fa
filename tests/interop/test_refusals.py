"""What two ends cannot agree on is refused, and the reason stands in our event log and in strongSwan's log."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from charon import PRESHARED_KEY, Charon, connection
from our_computer import OurComputer, policy, run

from ipsec_core.computer.profiles import MODERN

pytestmark = pytest.mark.interop
KEY = {"preshared_key": PRESHARED_KEY}
IKE, ESP = "3des-sha1-modp1024", "3des-sha1"
Make = Callable[..., OurComputer]


def failed(ours: OurComputer, number: int) -> str:
    """The first audit of that number, when it comes."""
    run([ours], lambda: ours.audits(number), f"audit {number}")
    assert not ours.received
    return ours.audits(number)[0]


def begin(ours: OurComputer, charon: Charon, initiator: str) -> None:
    if initiator == "ours":
        ours.ping()
    else:
        charon.initiate()


@pytest.mark.parametrize("initiator", ["ours", "charon"])
def test_main_mode_proposal(initiator: str, charon: Charon, our_computer: Make) -> None:
    charon.start(connection("3des-md5-modp1024", ESP))
    ours = our_computer(policy(["3DES-SHA1-2"], ["ESP[3DES,SHA1]"], KEY))
    begin(ours, charon, initiator)
    if initiator == "ours":
        text = failed(ours, 547)
        assert "Key Exchange Mode (Main Mode)" in text
        assert "Failure Point:\nPeer" in text
        assert "IKE security attributes are unacceptable" in text
        assert charon.said("no proposal found")
    else:
        text = failed(ours, 546)
        assert "Phase I Hash Algorithm" in text
        assert "Expected value:\nSHA1" in text
        assert "Received value:\nMD5" in text
        run([ours], lambda: charon.said("received NO_PROPOSAL_CHOSEN error notify"), "charon's log")
    assert ours.computer.counters()["oakley_main_modes"] == 0


@pytest.mark.parametrize("initiator", ["ours", "charon"])
def test_quick_mode_proposal(initiator: str, charon: Charon, our_computer: Make) -> None:
    charon.start(connection(IKE, "aes256-sha1"))
    ours = our_computer(policy(["3DES-SHA1-2"], ["ESP[3DES,SHA1]"], KEY))
    begin(ours, charon, initiator)
    if initiator == "ours":
        text = failed(ours, 547)
        assert "Data Protection Mode (Quick Mode)" in text
        assert "Failure Point:\nPeer" in text
        assert "IKE security attributes are unacceptable" in text
        assert charon.said("no matching proposal found, sending NO_PROPOSAL_CHOSEN")
    else:
        text = failed(ours, 546)
        assert "Data Protection Mode (Quick Mode)" in text
        assert "Phase II ESP Algorithm" in text
        run([ours], lambda: charon.said("received NO_PROPOSAL_CHOSEN error notify"), "charon's log")
    assert not charon.said("CHILD_SA child0.* established")


@pytest.mark.parametrize("initiator", ["ours", "charon"])
def test_preshared_key(initiator: str, charon: Charon, our_computer: Make) -> None:
    charon.start(connection(IKE, ESP, preshared_key="another key"))
    # charon waits for two seconds before it sends again, we need not wait for as long.
    gaps = (0.2, 0.4) if initiator == "ours" else MODERN.options.retransmission_gaps
    options = replace(MODERN.options, retransmission_gaps=gaps)
    ours = our_computer(policy(["3DES-SHA1-2"], ["ESP[3DES,SHA1]"], KEY), options=options)
    begin(ours, charon, initiator)
    if initiator == "ours":
        text = failed(ours, 547)
        assert "Key Exchange Mode (Main Mode)" in text
        assert "Negotiation timed out" in text
        assert charon.said("could not decrypt payloads")
    else:
        # What cannot be read may be damage; it is the same again that gives the peer away.
        text = failed(ours, 545)
        assert "Peer IP Address: 10.99.0.2" in text
        assert charon.said("sending retransmit 1 of request message ID 0, seq 3")
    assert not charon.said("IKE_SA connection0.* established")
