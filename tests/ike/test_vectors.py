"""What test_keys.py leaves of the published vectors: Openswan's messages through the wire format and the HASH that they
carry, and every key log of the lab (strongSwan, racoon): AH, NAT-T, Kerberos and signatures too."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from udp_captures import ike_messages

from ipsec_core.ike import keys, protected, wire
from ipsec_core.ike.failures import Unverified
from ipsec_core.ike.iana import (
    CertificateEncoding,
    Encapsulation,
    Encryption,
    EspTransform,
    ExchangeType,
    Hash,
    IdType,
    Protocol,
    QuickModeAttribute,
)
from ipsec_core.ike.offers import parse_main_mode, parse_selectors

HASHES = {"md5": Hash.MD5, "sha1": Hash.SHA1, "sha256": Hash.SHA256, "sha384": Hash.SHA384, "sha512": Hash.SHA512}
unhex = bytes.fromhex


def load(path: Path) -> Any:
    return json.loads(path.read_text())


# NIST and the HASH_R collections


def test_each_skeyid_depends_on_each_input(captures: Path) -> None:
    """The sets of NIST hold when, and only when, every single input is what they say."""
    vectors = load(captures / "ikev1-kdf/ikev1_skeyid.shared.json")["vectors"]
    for v in vectors:
        want = tuple(unhex(v[f"sKeyId{x}"]) for x in "DAE")
        root, shared, cookies = unhex(v["sKeyId"]), unhex(v["gxy"]), unhex(v["ckyInit"] + v["ckyResp"])
        for changed in range(4):
            given = [root, shared, cookies]
            if changed < 3:
                given[changed] = given[changed][:-1] + bytes([given[changed][-1] ^ 1])
            ids = keys.derive_skeyids(HASHES[v["hash"]], *given)
            assert ((ids.derive, ids.authenticate, ids.encrypt) == want) is (changed == 3)


def test_hash_r_sets_parse_as_payloads(captures: Path) -> None:
    """The SA and ID bodies under those HASHes are what the wire format gives back for them."""
    vectors = load(captures / "ikev1-kdf/ikev1_psk_hash_r.shared.json")["vectors"]
    of_peers = [v for v in vectors if "hashcat" not in v["origin"]]  # random bytes stand for payloads in its self-test
    assert len(of_peers) >= 4
    for v in of_peers:
        sa = wire.SecurityAssociation.parse(wire.Reader(unhex(v["sai_b"])))
        identity = wire.Identification.parse(wire.Reader(unhex(v["idir_b"])))
        assert (sa.body().hex(), identity.body().hex()) == (v["sai_b"], v["idir_b"])
        hashes = {offer.hash for offer in map(parse_main_mode, sa.proposals[0].transforms) if offer}
        assert HASHES[v["hash"]] in hashes


# Openswan


@pytest.fixture(scope="module")
def openswan(captures: Path) -> Any:
    return load(captures / "openswan/openswan_ikev1_vectors.shared.json")


def test_openswan_messages_as_payloads(captures: Path, openswan: Any) -> None:
    """Each of the encrypted messages, taken from its capture."""
    for v in openswan["messages"]:
        data = ike_messages(captures / v["capture"])[v["frame"] - 1]
        header = wire.parse_header(data)
        assert header.encrypted
        assert header.message_id == int(v["msgid"], 16)
        assert data[wire.HEADER_LENGTH :].hex() == v["ciphertext"]
        cipher = keys.PhaseOneCipher(Encryption.TRIPLE_DES_CBC, unhex(v["key"]))
        clear = cipher.open(unhex(v["iv"]), data[wire.HEADER_LENGTH :])
        payloads, end = wire.parse_payloads(header.next_payload, clear)
        names = {"ID": 5, "SIG": 9, "HASH": 8, "SA": 1, "NONCE": 10, "KE": 4}
        assert [(int(p.TYPE), len(p.body())) for p in payloads] == [(names[name], size) for name, size in v["payloads"]]
        assert clear[end:].hex() == v["padding"]
        assert wire.encode_payloads(payloads) == clear[:end]
        assert data[-cipher.block :].hex() == v["next_iv"]


def quick_mode_of_openswan(captures: Path, openswan: Any, skeyid_a: bytes) -> tuple[keys.Session, wire.Header, bytes]:
    (v,) = (message for message in openswan["messages"] if int(message["msgid"], 16))
    data = ike_messages(captures / v["capture"])[v["frame"] - 1]
    header = wire.parse_header(data)
    session = keys.Session(
        Hash.MD5,
        b"",
        skeyid_a,
        keys.PhaseOneCipher(Encryption.TRIPLE_DES_CBC, unhex(v["key"])),
        unhex(openswan["phase2_iv"][0]["last_phase1_block"]),
        header.initiator_cookie,
        header.responder_cookie,
    )
    return session, header, data


def test_openswan_quick_mode(captures: Path, openswan: Any) -> None:
    """IV, cipher, payload chain and HASH(1) of one message; sealed again it is the same message."""
    vector = openswan["hash1"][0]
    session, header, data = quick_mode_of_openswan(captures, openswan, unhex(vector["skeyid_a"]))
    iv = session.iv(header.message_id)
    opened = protected.unseal(session, header, iv, data)
    assert (opened.proof.hex(), opened.rest.hex()) == (vector["hash"], vector["data"])
    opened.verify(session.message_hash(header.message_id, opened.rest))
    proof = session.message_hash(header.message_id, wire.encode_payloads(opened.payloads))
    again = protected.seal(session, ExchangeType.QUICK_MODE, header.message_id, iv, lambda rest: proof, opened.payloads)
    assert again == data
    proposal = wire.only(opened.payloads, wire.SecurityAssociation).proposals[0]
    assert (proposal.protocol, proposal.spi.hex()) == (Protocol.ESP, "12345678")
    assert proposal.transforms[0].identifier == EspTransform.TRIPLE_DES
    assert (
        wire.Attribute.basic(QuickModeAttribute.ENCAPSULATION, Encapsulation.UDP_TUNNEL)
        in proposal.transforms[0].attributes
    )
    selectors = parse_selectors(*wire.every(opened.payloads, wire.Identification))
    assert (str(selectors.source), str(selectors.destination)) == ("10.1.0.10/32", "10.2.0.0/16")


@pytest.mark.parametrize("place", ["skeyid_a", "iv", "last byte", "message id"])
def test_openswan_quick_mode_does_not_verify_otherwise(captures: Path, openswan: Any, place: str) -> None:
    skeyid_a = bytes(16) if place == "skeyid_a" else unhex(openswan["hash1"][0]["skeyid_a"])
    session, header, data = quick_mode_of_openswan(captures, openswan, skeyid_a)
    iv = session.iv(header.message_id)
    if place == "iv":
        iv = bytes(8)
    elif place == "last byte":
        data = data[:-9] + bytes([data[-9] ^ 1]) + data[-8:]

    def opens() -> None:
        opened = protected.unseal(session, header, iv, data)
        opened.verify(session.message_hash(header.message_id ^ (place == "message id"), opened.rest))

    with pytest.raises(Unverified):
        opens()


# The lab


@dataclass(frozen=True)
class Lab:
    """A key log: `vector` is its JSON, `logged` the table of its text by name."""

    name: str
    folder: Path
    vector: dict[str, Any]
    text: str

    def messages(self) -> list[bytes]:
        return ike_messages(self.folder / f"{self.name}.pcap")

    @property
    def hash(self) -> Hash:
        return HASHES[self.vector["prf"]]

    @property
    def cookies(self) -> tuple[bytes, bytes]:
        return unhex(self.vector["cky_i"]), unhex(self.vector["cky_r"])

    def skeyids(self) -> keys.Skeyids:
        mm = {name: unhex(value) for name, value in self.vector["mm"].items()}
        if self.vector["sig_skeyid"]:
            root = keys.skeyid_signature(self.hash, mm["ni"], mm["nr"], mm["gxy"])
        else:
            root = keys.skeyid_preshared(self.hash, self.vector["psk"].encode(), mm["ni"], mm["nr"])
        return keys.derive_skeyids(self.hash, root, mm["gxy"], b"".join(self.cookies))


@pytest.fixture(scope="module")
def labs(captures: Path) -> dict[str, Lab]:
    folder = captures.parent / "lab" / "pcaps"
    found = {}
    for path in sorted(folder.glob("*.vector.json")):
        name = path.name.removesuffix(".vector.json")
        found[name] = Lab(name, folder, load(path), (folder / f"{name}.keys.md").read_text())
    if not found:
        pytest.skip("no key logs of the lab")
    return found


def test_every_main_mode_schedule(labs: dict[str, Lab]) -> None:
    ciphers = {"3DES_CBC": Encryption.TRIPLE_DES_CBC, "DES_CBC": Encryption.DES_CBC, "AES_CBC": Encryption.AES_CBC}
    methods = set()
    for lab in labs.values():
        ids, want = lab.skeyids(), lab.vector["keys"]
        assert [ids.root.hex(), ids.derive.hex(), ids.authenticate.hex(), ids.encrypt.hex()] == [
            want[f"SKEYID{suffix}"] for suffix in ("", "_d", "_a", "_e")
        ], lab.name
        key = keys.cipher_key(lab.hash, ids.encrypt, len(want["encryption key Ka"]) // 2)
        assert key.hex() == want["encryption key Ka"]
        name = lab.vector["prop"].removeprefix("IKE:").split("/")[0]
        cipher = keys.PhaseOneCipher(next(ciphers[c] for c in ciphers if name.startswith(c)), key)
        publics = unhex(lab.vector["mm"]["gxi"]), unhex(lab.vector["mm"]["gxr"])
        assert keys.phase_one_iv(lab.hash, *publics, cipher.block).hex() == want["initial IV"]
        methods.add(lab.vector["sig_skeyid"])
    assert methods == {True, False}


def test_every_main_mode_hash(labs: dict[str, Lab]) -> None:
    """HASH_I and HASH_R from the SA of message 1 and the rest that the peer says it hashed (ID; GSS names)."""
    for lab in labs.values():
        opening = lab.messages()[0]
        sa = wire.only(wire.parse_clear(wire.parse_header(opening), opening), wire.SecurityAssociation).body()
        publics = unhex(lab.vector["mm"]["gxi"]), unhex(lab.vector["mm"]["gxr"])
        for who, step in (("i", 1), ("r", -1)):
            front, cookies = b"".join(publics[::step]), b"".join(lab.cookies[::step])
            data = unhex(lab.vector[f"hash_{who}_data"])
            assert data.startswith(front + cookies + sa), lab.name
            rest = data[len(front + cookies + sa) :]
            assert wire.Identification.parse(wire.Reader(rest)).kind in (IdType.IPV4_ADDR, IdType.DER_ASN1_DN)
            proof = keys.main_mode_hash(lab.hash, lab.skeyids().root, front, cookies, sa, rest)
            assert proof.hex() == lab.vector["keys"][f"HASH_{who.upper()}"], lab.name


def test_every_keymat(labs: dict[str, Lab]) -> None:
    """Of AH and ESP, with and without PFS, behind every way of authentication; "initiator key" is for what it sends."""
    protocols = set()
    for lab in labs.values():
        nonces = unhex(lab.vector["qm"]["ni"] + lab.vector["qm"]["nr"])
        for child in lab.vector["children"]:
            protocol = Protocol[child["proto"]]
            for who, spi in (("responder", child["spi_i"]), ("initiator", child["spi_r"])):
                want = child.get(f"encryption {who} key", "") + child.get(f"integrity {who} key", "")
                material = keys.keymat(
                    lab.hash,
                    lab.skeyids().derive,
                    protocol,
                    unhex(spi),
                    nonces,
                    len(want) // 2,
                    unhex(child["pfs"]),
                )
                assert want
                assert material.hex() == want, lab.name
            protocols.add((protocol, bool(child["pfs"]), lab.vector["sig_skeyid"]))
    assert {(Protocol.AH, False, False), (Protocol.ESP, True, False), (Protocol.ESP, False, True)} <= protocols


def test_signature_is_of_the_hash_itself(labs: dict[str, Lab]) -> None:
    """RFC 2409 section 5.1: PKCS #1 v1.5 type 1 over HASH_I or HASH_R, with no algorithm identifier in between."""
    name = "ss-rsa_3des-sha1-1024_3des-sha1"
    if name not in labs:
        pytest.skip(f"no key log {name}")
    lab = labs[name]
    cipher = keys.PhaseOneCipher(Encryption.TRIPLE_DES_CBC, unhex(lab.vector["keys"]["encryption key Ka"]))
    iv = unhex(lab.vector["keys"]["initial IV"])
    fragments = []
    proofs = []
    for data in lab.messages():
        header = wire.parse_header(data)
        if not header.encrypted:
            # IKE fragments ([MS-IKEE] 2.2.3.1): id, number and flag come before the piece.
            fragments += [p.body()[4:] for p in wire.parse_clear(header, data) if p.TYPE == 132]
            if not fragments:
                continue
            data = b"".join(fragments)
            if len(data) < wire.HEADER_LENGTH or len(data) != int.from_bytes(data[24:28]):
                continue
            header, fragments = wire.parse_header(data), []
        if header.exchange != ExchangeType.MAIN_MODE:
            break
        payloads, _ = wire.parse_payloads(header.next_payload, cipher.open(iv, data[wire.HEADER_LENGTH :]))
        iv = data[-cipher.block :]
        (certificate,) = (p.body() for p in payloads if p.TYPE == 6)
        (signature,) = (p.body() for p in payloads if p.TYPE == 9)
        assert certificate[0] == CertificateEncoding.X509_SIGNATURE
        public = x509.load_der_x509_certificate(certificate[1:]).public_key()
        assert isinstance(public, RSAPublicKey)
        numbers = public.public_numbers()
        block = pow(int.from_bytes(signature), numbers.e, numbers.n).to_bytes(len(signature))
        proofs.append(re.fullmatch(rb"\x00\x01\xff{8,}\x00(.*)", block, re.S)[1].hex())  # type: ignore[index]
    assert proofs == [lab.vector["keys"]["HASH_I"], lab.vector["keys"]["HASH_R"]]
