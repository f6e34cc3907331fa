"""What ike-scan finds out about our responder: the transforms of the policy, no Aggressive Mode, Windows."""

from __future__ import annotations

from collections.abc import Callable
from shutil import which

import pytest
from interop_kit import BACKOFF_SECONDS, need
from namespaces import OUR_ADDRESS, Namespaces, Program, wait_until
from our_computer import OurComputer, policy, run

pytestmark = pytest.mark.interop
Make = Callable[..., OurComputer]
KEY = {"preshared_key": "nobody finds it out"}
METHODS = ["3DES-SHA1-2", "3DES-MD5-2", "DES-SHA1-1", "DES-MD5-1"]
# The numbers of ike-scan's --trans: encryption, hash, authentication, group.
ACCEPTED = {
    "5,2,1,2": "Enc=3DES Hash=SHA1 Auth=PSK Group=2:modp1024",
    "5,1,1,2": "Enc=3DES Hash=MD5 Auth=PSK Group=2:modp1024",
    "1,2,1,1": "Enc=DES Hash=SHA1 Auth=PSK Group=1:modp768",
    "1,1,1,1": "Enc=DES Hash=MD5 Auth=PSK Group=1:modp768",
}
REFUSED = ("1,2,1,2", "5,2,1,1", "5,2,3,2", "5,2,1,5", "7/128,2,1,2", "7/256,4,1,14")


@pytest.fixture
def scan(lab: Namespaces, our_computer: Make) -> Callable[..., str]:
    """Runs ike-scan in the peer's namespace; what it prints."""
    need(which("ike-scan") is not None, "ike-scan")
    ours = our_computer(policy(METHODS, ["ESP[3DES,SHA1]"], KEY), profile="windows-2000")
    count = 0

    def started(*words: str, seconds: float = 15.0) -> str:
        nonlocal count
        count += 1
        command = ("ike-scan", "--sport=0", "--retry=1", "--timeout=1000", *words, OUR_ADDRESS)
        program = lab.start(lab.peers, command, f"ike-scan{count}")
        run([ours], lambda: program.ended, "ike-scan", seconds)
        return program.output

    return started


def test_transforms_of_the_policy(scan: Callable[..., str]) -> None:
    for transform, words in ACCEPTED.items():
        output = scan("--trans=" + transform)
        assert "Main Mode Handshake returned" in output
        assert words in output
    for transform in REFUSED:
        assert "Notify message 14 (NO-PROPOSAL-CHOSEN)" in scan("--trans=" + transform)


def test_several_transforms_and_a_vendor_id(scan: Callable[..., str]) -> None:
    output = scan("--trans=7/256,4,1,14", "--trans=5,1,1,2", "--trans=5,2,1,2", "-M")
    assert ACCEPTED["5,1,1,2"] in output
    assert "Windows-2000" in output


def test_no_aggressive_mode(scan: Callable[..., str]) -> None:
    output = scan("--aggressive", "--id=test", "--trans=5,2,1,2")
    assert "Aggressive Mode Handshake" not in output
    assert "0 returned handshake; 0 returned notify" in output


def test_nothing_else_is_answered(scan: Callable[..., str]) -> None:
    for words in (
        ["--ikev2"],
        ["--headerver=0x20"],
        ["--hdrflags=1"],
        ["--exchange=3"],
        ["--rcookie=1122334455667788"],
    ):
        assert "0 returned handshake; 0 returned notify" in scan("--trans=5,2,1,2", *words), words


def test_retransmissions_look_like_windows_2000(backoff: Program | None) -> None:
    """Copies at 0, 1, 3, 7, 15, 31 and 63 s. ike-scan runs beside the other tests, which is why this comes last."""
    need(backoff is not None, "ike-scan, and root,")
    assert backoff is not None
    wait_until(lambda: backoff.ended, "ike-scan --showbackoff", BACKOFF_SECONDS)
    assert backoff.said(r"10\.99\.0\.1\tImplementation guess: Windows 2000, 2003 or XP"), backoff.output
