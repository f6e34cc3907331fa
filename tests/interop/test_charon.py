"""Our IKE and strongSwan's: both phases in both directions, the same keys on both ends, protected traffic."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import wireshark
from charon import PRESHARED_KEY, Charon, connection
from esp_peer import ESP, EspPeer
from namespaces import OUR_ADDRESS, OUR_HOST, PEER_ADDRESS, PEER_HOST, Namespaces
from our_computer import OurComputer, converse, policy, run

pytestmark = pytest.mark.interop
KEY = {"preshared_key": PRESHARED_KEY}
Make = Callable[..., OurComputer]


@dataclass(frozen=True)
class Suite:
    """The same algorithms in our words and in strongSwan's; `child` with the words of ESP or AH."""

    main_mode: str
    ike: str
    quick_mode: str
    child: str
    protocol: str = "esp"


SUITES = {
    "3des-sha1-modp1024": Suite("3DES-SHA1-2", "3des-sha1-modp1024", "ESP[3DES,SHA1]", "3des-sha1"),
    "3des-md5-modp768": Suite("3DES-MD5-1", "3des-md5-modp768", "ESP[3DES,MD5]", "3des-md5"),
    "des-md5-modp768": Suite("DES-MD5-1", "des-md5-modp768", "ESP[DES,MD5]", "des-md5"),
    "aes128-sha1-modp1024": Suite("AES-128-SHA1-2", "aes128-sha1-modp1024", "ESP[AES-128-CBC,SHA1]", "aes128-sha1"),
    "aes128-sha256-modp2048": Suite(
        "AES-128-SHA256-14", "aes128-sha256-modp2048", "ESP[AES-128-CBC,SHA256]", "aes128-sha256"
    ),
    "aes256-sha384-modp3072": Suite("AES-256-SHA384-15", "aes256-sha384-modp3072", "ESP[AES-128-GCM]", "aes128gcm16"),
    "aes256-sha512-ecp256": Suite("AES-256-SHA512-19", "aes256-sha512-ecp256", "ESP[NULL,SHA1]", "null-sha1"),
    "ah-sha1": Suite("3DES-SHA1-2", "3des-sha1-modp1024", "AH[SHA1]", "sha1", "ah"),
    "ah-md5": Suite("3DES-MD5-1", "3des-md5-modp768", "AH[MD5]", "md5", "ah"),
    "ah-sha256": Suite("3DES-SHA1-2", "3des-sha1-modp1024", "AH[SHA256]", "sha256", "ah"),
}


def addresses(mode: str) -> tuple[str, str]:
    return (OUR_HOST, PEER_HOST) if mode == "tunnel" else (OUR_ADDRESS, PEER_ADDRESS)


def selectors(mode: str) -> dict[str, str]:
    ours, peers = addresses(mode)
    return {"local_ts": f"{peers}/32", "remote_ts": f"{ours}/32"} if mode == "tunnel" else {}


@pytest.mark.parametrize("mode", ["transport", "tunnel"])
@pytest.mark.parametrize("initiator", ["ours", "charon"])
@pytest.mark.parametrize("name", SUITES)
def test_preshared_key(
    name: str, initiator: str, mode: str, lab: Namespaces, charon: Charon, esp_peer: EspPeer, our_computer: Make
) -> None:
    suite = SUITES[name]
    # Perfect forward secrecy in half of the cases, each way round.
    pfs = (initiator == "ours") == (mode == "tunnel")
    group = suite.ike.rpartition("-")[2]
    child = {suite.protocol: f"{suite.child}-{group}" if pfs else suite.child}
    charon.start(connection(suite.ike, **child, mode=mode, child=selectors(mode)))
    ours = our_computer(policy([suite.main_mode], [suite.quick_mode], KEY, tunnel=mode == "tunnel", pfs=pfs))
    here, there = addresses(mode)
    if initiator == "charon":
        swanctl = charon.initiate()
        run([ours, esp_peer], lambda: swanctl.ended, "swanctl --initiate")
        assert "completed successfully" in swanctl.output
    converse(ours, [esp_peer], here, there)
    converse(esp_peer, [ours], there, here)
    check_both_ends(ours, charon, pfs=pfs)
    frames = wireshark.check(lab.recorded(), [ours], lab.folder / "wireshark")
    assert wireshark.messages(frames, wireshark.MAIN_MODE) == 6
    assert wireshark.messages(frames, wireshark.QUICK_MODE) == 3


def check_both_ends(ours: OurComputer, charon: Charon, *, pfs: bool) -> None:
    """Audit 541 twice on our side, both SAs established in charon's log, and the same keys here and there."""
    assert [text.partition("\n")[0] for text in ours.audits(541)] == ["IKE established a security association."] * 2
    for words in (r"IKE_SA connection0\[\d+\] established", r"CHILD_SA child0\{\d+\} established"):
        run([ours], lambda words=words: charon.said(words), "charon's log")
    assert charon.said(r"selected proposal: (ESP|AH):\S+/(MODP|ECP)_\d+/NO_EXT_SEQ") == pfs
    ((_, key),) = ours.computer.ike_keys
    assert charon.secret("encryption key Ka") == key
    # The keys of AH, which Wireshark has no table for, are the same if the two ends take each other's packets.
    theirs = {sa.spi: (sa.encryption_key, sa.integrity_key) for sa in charon.sas.values() if sa.protocol == ESP}
    assert {record.spi: (record.encryption_key, record.integrity_key) for record in ours.computer.keys} == theirs
