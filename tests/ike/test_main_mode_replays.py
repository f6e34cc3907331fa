"""Main Modes of other implementations played again: given their random numbers, our messages are theirs, byte for byte.

The captures come with all secrets: strongSwan with a pre-shared key and with RSA signatures, racoon with Kerberos.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.utils import NoDigestInfo
from cryptography.hazmat.primitives.serialization import Encoding
from scapy.layers.inet import IP, UDP
from scapy.utils import PcapReader

from ipsec_core.ike import IkeOptions, MainModeOffer, MainModePolicy, NatTraversal, PeerIdentity, keys, main_mode, wire
from ipsec_core.ike.credentials import Claim, CredentialRefused
from ipsec_core.ike.failures import FailureReason
from ipsec_core.ike.iana import (
    AuthMethod,
    CertificateEncoding,
    Encryption,
    ExchangeType,
    Group,
    Hash,
    IdType,
    PayloadType,
)
from ipsec_core.ike.main_mode import MainMode, State
from ipsec_core.ike.nat import NatPath
from ipsec_core.ike.offers import choose_main_mode, encode_identity

unhex = bytes.fromhex
CIPHERS = {
    "DES_CBC": (Encryption.DES_CBC, 0),
    "3DES_CBC": (Encryption.TRIPLE_DES_CBC, 0),
    "AES_CBC_128": (Encryption.AES_CBC, 128),
}
GROUPS = {"MODP_768": Group.MODP_768, "MODP_1024": Group.MODP_1024, "MODP_group_2": Group.MODP_1024}
GROUPS["MODP_2048"] = Group.MODP_2048
HASHES = {"md5": Hash.MD5, "sha1": Hash.SHA1, "sha256": Hash.SHA256}


class Recorded:
    """One captured Main Mode: its messages (whole, fragments put together) as (message, source, destination)."""

    def __init__(self, captures: Path, name: str) -> None:
        self.folder = captures.parent / "lab" / "pcaps"
        if not (self.folder / f"{name}.vector.json").exists():
            pytest.skip(f"no key log {name}")
        self.vector: dict[str, Any] = json.loads((self.folder / f"{name}.vector.json").read_text())
        cipher, _, _, group = self.vector["prop"].removeprefix("IKE:").split("/")
        self.encryption, self.key_bits = CIPHERS[cipher]
        self.group = GROUPS[group]
        self.cookies = unhex(self.vector["cky_i"]), unhex(self.vector["cky_r"])
        self.messages: list[tuple[bytes, tuple[str, int], tuple[str, int]]] = []
        fragments = b""
        with PcapReader(str(self.folder / f"{name}.pcap")) as packets:
            for packet in packets:
                if UDP not in packet or packet[UDP].sport not in (500, 4500):
                    continue
                data = bytes(packet[UDP].payload)
                if packet[UDP].sport == 4500:
                    data = data.removeprefix(bytes(4))
                if data[:8] != self.cookies[0] or data[18] != ExchangeType.MAIN_MODE:
                    continue
                if data[16] == PayloadType.FRAGMENT:
                    fragments += data[36:]
                    if not data[35] & 1:
                        continue
                    data = fragments
                ends = (packet[IP].src, packet[UDP].sport), (packet[IP].dst, packet[UDP].dport)
                if not any(data == message for message, _, _ in self.messages):
                    self.messages.append((data, *ends))
        assert len(self.messages) == 6

    def sa_body(self) -> bytes:
        data = self.messages[0][0]
        return wire.only(wire.parse_clear(wire.parse_header(data), data), wire.SecurityAssociation).body()

    def clear(self, number: int) -> tuple[wire.Payload, ...]:
        """The payloads of message 1 to 4."""
        data = self.messages[number - 1][0]
        return wire.parse_clear(wire.parse_header(data), data)

    def play(
        self, monkeypatch: pytest.MonkeyPatch, *, initiator: bool, options: IkeOptions, **credentials: Any
    ) -> tuple[MainMode, Callable[[int], bytes | None]]:
        """An exchange with the numbers of the captured one, and what gives it a captured message."""
        own, mm = "ir"[not initiator], self.vector["mm"]

        class Known:
            def __init__(self, group: Group, random: Callable[[int], bytes]) -> None:
                self.public = unhex(mm[f"gx{own}"])

            def shared(self, peer: bytes) -> bytes:
                assert peer == unhex(mm["gxr" if initiator else "gxi"])
                return unhex(mm["gxy"])

        monkeypatch.setattr(main_mode, "DiffieHellman", Known)
        auth = credentials.pop("auth", AuthMethod.PRESHARED_KEY)
        offer = MainModeOffer(
            self.encryption, HASHES[self.vector["prf"]], self.group, auth, 0xFFFF_FFFF, key_bits=self.key_bits
        )
        local, remote = ("10.99.0.1", "10.99.0.2")[:: 1 if initiator else -1]
        exchange = MainMode(
            initiator=initiator,
            local=local,
            remote=remote,
            policy=MainModePolicy((offer,), **credentials),
            random=lambda length: unhex(mm[f"n{own}"]),
            cookie=self.cookies[not initiator],
            peer_cookie=wire.NO_COOKIE if initiator else self.cookies[0],
            initial_contact=lambda: True,
            options=options,
        )
        if initiator:
            exchange.start()
            exchange._sa_body = self.sa_body()

        def give(number: int) -> bytes | None:
            data, source, destination = self.messages[number - 1]
            assert (source[0], destination[0]) == (remote, local)
            return exchange.receive(wire.parse_header(data), data, local_port=destination[1], remote_port=source[1])

        return exchange, give


NAT_T = IkeOptions(nat_traversal=(NatTraversal.RFC_3947,))
PRESHARED = [
    "lab-tp-3des-md5",
    "lab-tp-3des-sha1",
    "lab-tp-aes-sha1",
    "lab-tp-des-md5",
    "ss-3des-sha1-1024_3des-sha1",
    "ss-aes128-sha256-2048_gcm",
    "ss-des-sha1-768_des-md5",
    "lab-natt-tp-3des",
]


@pytest.mark.parametrize("name", PRESHARED)
@pytest.mark.parametrize("initiator", [True, False])
def test_strongswan_with_a_preshared_key(
    captures: Path, monkeypatch: pytest.MonkeyPatch, name: str, initiator: bool
) -> None:
    recorded = Recorded(captures, name)
    exchange, give = recorded.play(
        monkeypatch, initiator=initiator, options=NAT_T, preshared_key=recorded.vector["psk"].encode()
    )
    # With kernel-libipsec, and where told to, each end of these sends a false hash of its own source.
    forced = name.startswith(("ss-", "lab-natt"))
    false = len(recorded.vector["keys"]["HASH_I"]) // 2 if forced else 0
    for number in (2, 4, 6) if initiator else (1, 3, 5):
        answer, expected = give(number), recorded.messages[number % 6][0]
        if number in (2, 3):
            assert answer is not None
            assert answer[: len(answer) - false] == expected[: len(expected) - false]
        elif number in (4, 5):
            assert answer is not None
            iv = exchange._first_iv if initiator else recorded.messages[4][0][-len(exchange._first_iv) :]
            ours, theirs = (exchange._cipher.open(iv, data[28:]) for data in (answer, expected))
            # strongSwan always pads, we only where the cipher needs it.
            assert theirs.startswith(ours)
            assert not any(theirs[len(ours) :])
            exchange._iv = expected[-len(iv) :]
    assert exchange.state is State.ESTABLISHED
    assert exchange.nat == (NatPath(NatTraversal.RFC_3947, False, True) if forced else None)
    assert exchange.common.dialect is NatTraversal.RFC_3947
    assert exchange.peer == PeerIdentity(AuthMethod.PRESHARED_KEY)
    assert exchange.peer_initial_contact is not initiator
    assert not exchange.microsoft_peer


class Papers:
    """The certificate of the peer as a file; our own side signs with what was captured."""

    def __init__(self, peer: bytes, own: bytes) -> None:
        self.peer, self.own = x509.load_pem_x509_certificate(peer), x509.load_pem_x509_certificate(own)
        self.signed: list[bytes] = []
        self.requested: Sequence[bytes] = ()

    @property
    def subject(self) -> bytes:
        return self.own.subject.public_bytes()

    def requests(self) -> tuple[bytes, ...]:
        return (self.own.issuer.public_bytes(),)

    def chain(self, requested: Sequence[bytes]) -> tuple[bytes, ...]:
        self.requested = requested
        return (self.own.public_bytes(Encoding.DER),)

    def sign(self, digest: bytes) -> bytes:
        self.signed.append(digest)
        return bytes(256)

    def verify(self, now: float, claim: Claim) -> PeerIdentity:
        assert claim.identity == (IdType.DER_ASN1_DN, self.peer.subject.public_bytes())
        assert list(claim.chain) == [self.peer.public_bytes(Encoding.DER)]
        key = self.peer.public_key()
        assert isinstance(key, RSAPublicKey)
        try:
            key.verify(claim.signature, claim.digest, PKCS1v15(), NoDigestInfo())
        except InvalidSignature:
            raise CredentialRefused(FailureReason.INVALID_SIGNATURE, "signature") from None
        return PeerIdentity(AuthMethod.RSA_SIGNATURES, self.peer.subject.rfc4514_string())


@pytest.mark.parametrize("initiator", [True, False])
def test_strongswan_with_rsa_signatures(captures: Path, monkeypatch: pytest.MonkeyPatch, initiator: bool) -> None:
    """Message 5 is bigger than strongSwan likes and comes in two fragments."""
    recorded = Recorded(captures, "ss-rsa_3des-sha1-1024_3des-sha1")
    pems = [(recorded.folder / f"ss-rsa-peer-{end}.pem").read_bytes() for end in "ab"]
    papers = Papers(*(pems[::-1] if initiator else pems))
    exchange, give = recorded.play(
        monkeypatch, initiator=initiator, options=NAT_T, auth=AuthMethod.RSA_SIGNATURES, certificates=papers
    )
    for number in (2, 4) if initiator else (1, 3, 5):
        answer = give(number)
    proof = unhex(recorded.vector["keys"]["HASH_I" if initiator else "HASH_R"])
    assert papers.signed == [proof]
    # The initiator's request comes in message 4, the responder's in message 5.
    assert papers.requested == papers.requests()
    if initiator:
        # What strongSwan answered follows its own message 5.
        exchange._iv = recorded.messages[4][0][-8:]
        assert give(6) is None
    else:
        assert answer is not None
        assert len(answer) == len(recorded.messages[5][0])
    assert exchange.state is State.ESTABLISHED
    assert exchange.peer is not None
    assert exchange.peer.name.startswith("CN=peer-" + "ab"[initiator])


class Tokens:
    """A security context that has the captured tokens, and knows what is in the captured HASH payload."""

    name = ""
    peer = "the peer"

    def __init__(self, name: str, answers: list[bytes | None], proof: bytes) -> None:
        self.name, self.answers, self.proof = name, answers, proof
        self.received: list[bytes | None] = []
        self.wrapped: list[bytes] = []

    def initiate(self, peer: str) -> Tokens:
        self.target = peer
        return self

    def accept(self) -> Tokens:
        return self

    @property
    def complete(self) -> bool:
        return not self.answers

    def step(self, token: bytes | None) -> bytes | None:
        self.received.append(token)
        return self.answers.pop(0)

    def wrap(self, data: bytes) -> bytes:
        self.wrapped.append(data)
        return data

    def unwrap(self, data: bytes) -> bytes:
        assert len(data) == 80
        return self.proof


@pytest.mark.parametrize("initiator", [True, False])
def test_racoon_with_kerberos(captures: Path, monkeypatch: pytest.MonkeyPatch, initiator: bool) -> None:
    """The peer's HASH only comes out right if name and tokens are where racoon has them."""
    recorded = Recorded(captures, "racoon-gss")
    tokens = [wire.only(recorded.clear(number), wire.GssToken).data for number in (3, 4)]
    hashes = unhex(recorded.vector["keys"]["HASH_I"]), unhex(recorded.vector["keys"]["HASH_R"])
    names = "host/hosta.lab.test", "host/hostb.lab.test"
    answers: list[bytes | None] = [tokens[0], None] if initiator else [tokens[1]]
    kerberos = Tokens(names[not initiator], answers, hashes[initiator])
    exchange, give = recorded.play(
        monkeypatch, initiator=initiator, options=NAT_T, auth=AuthMethod.KERBEROS, kerberos=kerberos
    )
    if initiator:
        assert give(2) == recorded.messages[2][0]
        assert give(4) is not None
        assert kerberos.target == names[1]
        exchange._iv = recorded.messages[4][0][-8:]
        assert give(6) is None
    else:
        answer = give(1)
        assert answer is not None
        ours = wire.only(wire.parse_clear(wire.parse_header(answer), answer), wire.SecurityAssociation)
        assert ours == wire.only(recorded.clear(2), wire.SecurityAssociation)
        assert give(3) == recorded.messages[3][0]
        assert give(5) is not None
    assert kerberos.received == ([None, tokens[1]] if initiator else [tokens[0]])
    assert exchange.peer == PeerIdentity(AuthMethod.KERBEROS, "the peer")
    # Our own HASH has our address as identity, with protocol and port 0; racoon writes UDP and 500.
    assert len(kerberos.wrapped[0]) == 20
    logged = unhex(recorded.vector["hash_i_data" if initiator else "hash_r_data"])
    end = wire.Identification(IdType.IPV4_ADDR, 17, 500, bytes((10, 99, 0, 1 if initiator else 2)))
    assert exchange._proof(end, by_initiator=initiator) == hashes[not initiator]
    assert logged.endswith(exchange._authentication.covered(by_us=True))


def test_captured_choices(captures: Path) -> None:
    """What strongSwan answers is what we would choose."""
    recorded = Recorded(captures, "lab-tp-3des-sha1")
    offer = MainModeOffer(Encryption.TRIPLE_DES_CBC, Hash.SHA1, Group.MODP_1024)
    choice = choose_main_mode(wire.only(recorded.clear(1), wire.SecurityAssociation), (offer,))
    assert choice is not None
    assert choice[0] == wire.only(recorded.clear(2), wire.SecurityAssociation)


def test_openswan_with_certificates(captures: Path) -> None:
    """Wireshark's capture has the cipher key only, but a signature opens to the HASH without one of the keys.

    It is the bare HASH, as long as MD5, without an algorithm identifier (RFC 2409 section 5.1).
    """
    folder = captures / "wireshark" / "keys"
    expected = json.loads((folder / "ikev1_decrypted_expected.shared.json").read_text())
    table = dict(line.split(",") for line in (folder / "ikev1_decryption_table.shared.csv").read_text().split())
    frames = expected["captures"]["ikev1-certs.pcap"]
    cipher = keys.PhaseOneCipher(Encryption(frames[4]["alg"]["enc"]), unhex(table[frames[0]["ispi"]]))
    with PcapReader(str(captures / "wireshark" / "ikev1-certs.pcap")) as packets:
        captured = list(packets)
    messages = [bytes(packet[UDP].payload) for packet in captured]
    for number, frame in ((5, frames[4]), (6, frames[5])):
        header = wire.parse_header(messages[number - 1])
        assert (header.exchange, header.encrypted) == (ExchangeType.MAIN_MODE, True)
        chain, _ = wire.parse_payloads(header.next_payload, cipher.open(unhex(frame["iv"]), messages[number - 1][28:]))
        certificate = wire.only(chain, wire.Certificate)
        assert certificate.encoding == CertificateEncoding.X509_SIGNATURE
        holder = x509.load_der_x509_certificate(certificate.data)
        # It sends its address as identity all the same.
        address = IPv4Address(captured[number - 1][IP].src)
        assert encode_identity(IPv4Network(address)) == wire.only(chain, wire.Identification)
        key = holder.public_key()
        assert isinstance(key, RSAPublicKey)
        signature = wire.only(chain, wire.Signature).data
        assert len(key.recover_data_from_signature(signature, PKCS1v15(), None)) == 16
