"""Signature laxness: CVE-2004-0155 (a certificate without a signature that counts), CVE-2018-16151 and CVE-2018-16152
(PKCS #1 v1.5 blocks that say more than they must). The signer makes the blocks himself; what is in them differs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha1

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding

from ipsec_core.computer.certificates import MachineCertificate, MachineStore
from ipsec_core.ike import Certificates, Claim, CredentialRefused, FailureReason, PeerIdentity
from ipsec_core.ike.iana import IdType

EPOCH = datetime(2001, 1, 1, tzinfo=UTC)
HASH = sha1(b"HASH_I").digest()
SIZE = 256
# The digest information of SHA-1 (RFC 8017 section 9.2), which signatures of IKEv1 do not have.
SHA1_INFO = bytes.fromhex("3021300906052b0e03021a05000414")


@dataclass
class Signer:
    key: rsa.RSAPrivateKey
    certificate: bytes
    verifier: Certificates

    def verify(self, block: bytes, chain: list[bytes] | None = None) -> PeerIdentity:
        """As for a message 5 whose signature is the private power of `block`."""
        numbers = self.key.private_numbers()
        signature = pow(int.from_bytes(block), numbers.d, numbers.public_numbers.n).to_bytes(SIZE)
        return self.raw(signature, chain)

    def raw(self, signature: bytes, chain: list[bytes] | None = None) -> PeerIdentity:
        certificate = x509.load_der_x509_certificate(self.certificate)
        identity = (int(IdType.DER_ASN1_DN), certificate.subject.public_bytes())
        chain = [self.certificate] if chain is None else chain
        return self.verifier.verify(3600.0, Claim(identity, chain, (), HASH, signature))


def name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])


def issue(subject: str, key: rsa.RSAPrivateKey) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(name(subject))
        .issuer_name(name("root"))
        .public_key(key.public_key())
        .serial_number(1 + len(subject))
        .not_valid_before(EPOCH - timedelta(days=1))
        .not_valid_after(EPOCH + timedelta(days=365))
    )


@pytest.fixture(scope="module")
def signer() -> Signer:
    root_key, key = (rsa.generate_private_key(65537, 2048) for _ in range(2))
    basic = x509.BasicConstraints(ca=True, path_length=None)
    root = issue("root", root_key).add_extension(basic, True).sign(root_key, hashes.SHA256())
    leaf = issue("peer", key).sign(root_key, hashes.SHA256())
    ours = issue("we", root_key).sign(root_key, hashes.SHA256())
    store = MachineStore(epoch=EPOCH, own=(MachineCertificate(ours, root_key),), roots=(root,))
    return Signer(key, leaf.public_bytes(Encoding.DER), store.for_root("root"))


def block(content: bytes, *, kind: int = 1, filler: bytes = b"\xff") -> bytes:
    return bytes((0, kind)) + filler * (SIZE - 3 - len(content)) + b"\0" + content


def test_the_right_one_is_accepted(signer: Signer) -> None:
    assert "peer" in signer.verify(block(HASH)).name


FORGED = {
    "rubbish behind the hash": b"\0\1" + b"\xff" * 8 + b"\0" + HASH + bytes(SIZE - 11 - len(HASH)),
    "less padding, zeros in front": bytes(40) + block(HASH)[40:],
    "padding of other bytes": block(HASH, filler=b"\xfe"),
    "one other byte in the padding": b"\0\1" + b"\xff" * 20 + b"\xfe" + block(HASH)[23:],
    "block type 0": block(HASH, kind=0, filler=b"\0"),
    "block type 2, as for encryption": block(HASH, kind=2, filler=b"\x55"),
    "digest information in front": block(SHA1_INFO + HASH),
    "an algorithm with parameters full of rubbish": block(SHA1_INFO[:13] + b"\x04\x20" + bytes(32) + HASH),
    "an algorithm that nobody knows": block(bytes.fromhex("302130090605550403020105000414") + HASH),
    "half the hash": block(HASH[:10]),
    "the hash and a byte": block(HASH + b"\0"),
    "a byte and the hash": block(b"\0" + HASH),
    "no hash": block(b""),
    "another hash": block(sha1(b"HASH_R").digest()),
    "no zero behind the padding": b"\0\1" + b"\xff" * (SIZE - 2 - len(HASH)) + HASH,
    "nothing": bytes(SIZE),
    "one": bytes(SIZE - 1) + b"\1",
}


@pytest.mark.parametrize("fault", FORGED)
def test_no_other_block_is(signer: Signer, fault: str) -> None:
    assert len(FORGED[fault]) == SIZE
    with pytest.raises(CredentialRefused) as caught:
        signer.verify(FORGED[fault])
    assert caught.value.reason is FailureReason.INVALID_SIGNATURE


@pytest.mark.parametrize("length", [0, 1, 20, SIZE - 1, SIZE + 1, 4096])
def test_signatures_of_another_size(signer: Signer, length: int) -> None:
    for signature in (bytes(length), b"\xff" * length):
        with pytest.raises(CredentialRefused):
            signer.raw(signature)


def test_a_certificate_proves_nothing_by_itself(signer: Signer) -> None:
    """CVE-2004-0155: somebody else's certificate, which everybody can see, with any signature or with none."""
    other = rsa.generate_private_key(65537, 2048)
    forged = pow(int.from_bytes(block(HASH)), other.private_numbers().d, other.public_key().public_numbers().n)
    for signature in (forged.to_bytes(SIZE), b"", HASH):
        with pytest.raises(CredentialRefused) as caught:
            signer.raw(signature)
        assert caught.value.reason is FailureReason.INVALID_SIGNATURE


def test_no_chain_and_a_chain_of_rubbish(signer: Signer) -> None:
    for chain in ([], [b""], [b"\x30\x80"], [signer.certificate[:-1]], [signer.certificate + b"\0"]):
        with pytest.raises(CredentialRefused):
            signer.verify(block(HASH), chain)
