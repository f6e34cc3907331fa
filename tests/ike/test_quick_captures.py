"""Quick Modes of strongSwan and racoon from the key logs beside their captures, with our exchange in either role.

Given the nonce, the SPI (and under PFS the secret) of one end, our exchange takes the other end's messages as they were
on the wire, and must come to the SAs that both ends logged, to the byte.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest
from udp_captures import ike_messages

from ipsec_core.ike import (
    AhTransform,
    AuthAlgorithm,
    Encapsulation,
    Encryption,
    EspTransform,
    Group,
    Hash,
    NatTraversal,
    QuickModeOffer,
    QuickModePolicy,
    TrafficSelector,
    keys,
    proposals,
    protected,
    wire,
)
from ipsec_core.ike.iana import ExchangeType, Protocol
from ipsec_core.ike.nat import NatPath
from ipsec_core.ike.quick_mode import QuickMode, State

INITIATOR, RESPONDER = "10.99.0.1", "10.99.0.2"
HASHES = {"md5": Hash.MD5, "sha1": Hash.SHA1, "sha256": Hash.SHA256}
CIPHERS = {
    "NULL": (EspTransform.NULL, 0),
    "DES_CBC": (EspTransform.DES, 0),
    "3DES_CBC": (EspTransform.TRIPLE_DES, 0),
    "AES_CBC_128": (EspTransform.AES_CBC, 128),
    "AES_GCM_16_128": (EspTransform.AES_GCM_16, 128),
}
AUTH = {
    "HMAC_MD5_96": (AuthAlgorithm.HMAC_MD5, AhTransform.MD5),
    "HMAC_SHA1_96": (AuthAlgorithm.HMAC_SHA1, AhTransform.SHA1),
    "HMAC_SHA2_256_128": (AuthAlgorithm.HMAC_SHA256, AhTransform.SHA256),
}
unhex = bytes.fromhex


@dataclass
class Log:
    """One Quick Mode: what was logged of it, and its three messages."""

    vector: Any
    offer: QuickModeOffer
    selectors: TrafficSelector
    nat: NatPath | None
    session: keys.Session
    messages: list[bytes]

    @property
    def child(self) -> Any:
        return self.vector["children"][0]


def offer_of(text: str, name: str, pfs: str) -> QuickModeOffer:
    """The proposal as charon logged it, e.g. ESP:3DES_CBC/HMAC_SHA1_96/NO_EXT_SEQ; its lifetime is that of the lab."""
    protocol, _, words = text.partition(":")
    items = words.split("/")
    mode = Encapsulation.TRANSPORT if "-tp-" in name or "-ah-" in name or "gss" in name else Encapsulation.TUNNEL
    seconds = 3600 if "gss" in name else 3960
    rest = (seconds, 0, Group.MODP_1024 if pfs else None)
    if protocol == "AH":
        return QuickModeOffer(None, None, mode, 0, *rest, ah=AUTH[items[0]][1])
    cipher, bits = CIPHERS[items[0]]
    return QuickModeOffer(cipher, None if cipher.combined else AUTH[items[1]][0], mode, bits, *rest)


@pytest.fixture(scope="module")
def folder(captures: Path) -> Path:
    folder = captures.parent / "lab" / "pcaps"
    if not folder.is_dir():
        pytest.skip("no folder of keyed captures beside the real ones")
    return folder


NAMES = [
    *(f"lab-{kind}" for kind in ("ah-sha1", "ah-sha256", "natt-tp-3des", "tp-3des-md5", "tp-3des-sha1")),
    *(f"lab-{kind}" for kind in ("tp-aes-sha1", "tp-des-md5", "tp-null-sha1", "tun-3des-sha1")),
    "racoon-gss",
    *(f"ss-3des-sha1-1024_{kind}" for kind in ("3des-sha1", "null-sha1", "pfs")),
    *("ss-aes128-sha1-1024_aes-sha256", "ss-aes128-sha256-2048_gcm", "ss-des-sha1-768_des-md5"),
    *("ss-h2h_3des-sha1", "ss-rsa_3des-sha1-1024_3des-sha1"),
]


@pytest.fixture(params=NAMES)
def log(request: pytest.FixtureRequest, folder: Path) -> Log:
    name = request.param
    vector = json.loads((folder / f"{name}.vector.json").read_text())
    text = (folder / f"{name}.keys.md").read_text()
    words = re.search(r"CHILD `([^`]+)`  TS `(\S+) === (\S+)`", text)
    if words:
        proposal, source, destination = words.groups()
    else:
        proposal, source, destination = "ESP:3DES_CBC/HMAC_SHA1_96", INITIATOR, RESPONDER
    main, quick = [], []
    for data in dict.fromkeys(ike_messages(folder / f"{name}.pcap")):  # without repetitions
        if data[:8].hex() == vector["cky_i"]:
            header = wire.parse_header(data)
            if header.exchange == ExchangeType.MAIN_MODE and header.encrypted:
                main.append(data)
            elif header.exchange == ExchangeType.QUICK_MODE and header.message_id == int(vector["qm"]["msgid"], 16):
                quick.append(data)
    cipher_text = vector["prop"].removeprefix("IKE:")
    encryption = Encryption.AES_CBC if cipher_text.startswith("AES") else Encryption.TRIPLE_DES_CBC
    encryption = Encryption.DES_CBC if cipher_text.startswith("DES") else encryption
    cipher = keys.PhaseOneCipher(encryption, unhex(vector["keys"]["encryption key Ka"]))
    session = keys.Session(
        HASHES[vector["prf"]],
        unhex(vector["keys"]["SKEYID_d"]),
        unhex(vector["keys"]["SKEYID_a"]),
        cipher,
        main[-1][-cipher.block :],
        unhex(vector["cky_i"]),
        unhex(vector["cky_r"]),
    )
    nat = NatPath(NatTraversal.RFC_3947, True, True) if "natt" in name or name.startswith("ss-") else None
    return Log(
        vector,
        offer_of(proposal, name, vector["children"][0]["pfs"]),
        TrafficSelector(IPv4Network(source), IPv4Network(destination)),
        nat,
        session,
        quick,
    )


class Secret:
    """A Diffie-Hellman exchange of which only the outcome is known."""

    public = bytes(128)

    def __init__(self, secret: str) -> None:
        self.secret = unhex(secret)

    def shared(self, peer: bytes) -> bytes:
        assert len(peer) == len(self.public)
        return self.secret


def exchange(log: Log, monkeypatch: pytest.MonkeyPatch, *, initiator: bool) -> QuickMode:
    """Our end, with what the end of that role drew at random."""
    role = "i" if initiator else "r"
    spi = int(log.child[f"spi_{role}"], 16)
    nonce = unhex(log.vector["qm"][f"n{role}"])
    monkeypatch.setattr("ipsec_core.ike.quick_mode.DiffieHellman", lambda group, random: Secret(log.child["pfs"]))
    ends = (INITIATOR, RESPONDER) if initiator else (RESPONDER, INITIATOR)

    def find_policy(selectors: TrafficSelector) -> QuickModePolicy | None:
        return QuickModePolicy((log.offer,), 1) if selectors == log.selectors.mirrored() else None

    return QuickMode(
        log.session,
        int(log.vector["qm"]["msgid"], 16),
        initiator=initiator,
        local=ends[0],
        remote=ends[1],
        random=lambda n: nonce,
        allocate_spi=lambda: spi,
        find_policy=find_policy,
        nat=log.nat,
    )


def check(log: Log, quick: QuickMode) -> None:
    """The SAs against the log. charon calls "encryption key" of GCM what is key and salt; a null cipher has none."""
    sas = (quick.inbound, quick.outbound) if quick.initiator else (quick.outbound, quick.inbound)
    for (child,), role, spi in zip(sas, ("responder", "initiator"), ("spi_i", "spi_r"), strict=True):
        assert child.spi == int(log.child[spi], 16)
        assert child.protocol is Protocol[log.child["proto"]]
        assert (child.encryption_key + child.salt).hex() == log.child.get(f"encryption {role} key", "")
        assert child.authentication_key.hex() == log.child.get(f"integrity {role} key", "")
    assert quick.offer == log.offer


def give(quick: QuickMode, message: bytes) -> bytes | None:
    return quick.receive(wire.parse_header(message), message)


def test_as_responder(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """Message 1 of the capture; then message 3, which proves both nonces."""
    one, two, three = log.messages
    quick = exchange(log, monkeypatch, initiator=False)
    answer = give(quick, one)
    assert answer is not None
    check(log, quick)
    # Ours differs from theirs in the order of attributes at most, so that message 3 follows theirs.
    quick._iv = two[-log.session.cipher.block :]
    assert give(quick, three) is None
    assert quick.state is State.ESTABLISHED


def test_as_initiator(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """Message 2 of the capture; our message 3 is then the one of the capture, bit for bit but for more padding."""
    one, two, three = log.messages
    quick = exchange(log, monkeypatch, initiator=True)
    quick.start(log.selectors, (log.offer,), 1)
    quick._iv = one[-log.session.cipher.block :]
    answer = give(quick, two)
    check(log, quick)
    assert quick.state is State.ESTABLISHED
    assert answer is not None
    assert answer[: wire.HEADER_LENGTH - 4] == three[: wire.HEADER_LENGTH - 4]
    assert three[wire.HEADER_LENGTH :].startswith(answer[wire.HEADER_LENGTH :])
    if log.nat and log.offer.encapsulation is Encapsulation.TRANSPORT:
        assert [str(quick.originals.local), str(quick.originals.remote)] == [INITIATOR, RESPONDER]


def test_proposals_as_logged(log: Log) -> None:
    """Both SA payloads: one offer, the logged one, under the logged SPIs."""
    iv = log.session.iv(int(log.vector["qm"]["msgid"], 16))
    for message, spi in zip(log.messages, ("spi_i", "spi_r"), strict=False):
        opened = protected.unseal(log.session, wire.parse_header(message), iv, message)
        iv = message[-log.session.cipher.block :]
        sa = wire.only(opened.payloads, wire.SecurityAssociation)
        (offer,) = proposals.quick_mode_offers(sa)
        udp = {Encapsulation.UDP_TUNNEL: Encapsulation.TUNNEL, Encapsulation.UDP_TRANSPORT: Encapsulation.TRANSPORT}
        assert (offer.encapsulation in udp) == (log.nat is not None)
        plain = udp.get(offer.encapsulation, offer.encapsulation)
        assert offer == QuickModeOffer(
            log.offer.transform,
            log.offer.integrity,
            offer.encapsulation,
            log.offer.key_bits,
            log.offer.lifetime_seconds,
            0,
            log.offer.pfs_group,
            log.offer.ah,
        )
        assert plain is log.offer.encapsulation
        assert [p.spi.hex() for p in sa.proposals] == [log.child[spi]]
