"""The machine store: own certificates, and a peer's held against every rule, with a small PKI made here."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from random import Random

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.utils import NoDigestInfo
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    pkcs12,
)
from scapy.layers.inet import UDP
from scapy.utils import PcapReader

from ipsec_core.computer.certificates import MachineCertificate, MachineStore
from ipsec_core.errors import PolicyError
from ipsec_core.ike import Certificates, Claim, CredentialRefused, FailureReason, PeerIdentity
from ipsec_core.ike.iana import AuthMethod, Encryption, IdType, PayloadType
from ipsec_core.ike.keys import PhaseOneCipher
from ipsec_core.ike.wire import HEADER_LENGTH

EPOCH = datetime(2001, 9, 11, tzinfo=UTC)
DAY = 86400.0
HASH = bytes(range(20))
ADDRESS, HOST, MAIL = "10.0.0.2", "bob.example.com", "bob@example.com"
_KEYS: dict[str, rsa.RSAPrivateKey] = {}


def key_of(name: str) -> rsa.RSAPrivateKey:
    """Made once for each of the few names: a key takes a tenth of a second."""
    if name not in _KEYS:
        _KEYS[name] = rsa.generate_private_key(65537, 2048)
    return _KEYS[name]


def name_of(common: str) -> x509.Name:
    parts = ((x509.NameOID.COUNTRY_NAME, "XX"), (x509.NameOID.ORGANIZATION_NAME, "Lab, Ltd"))
    oids = (*parts, (x509.NameOID.COMMON_NAME, common))
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in oids])


def issue(
    subject: str,
    issuer: str,
    *extensions: tuple[x509.ExtensionType, bool],
    key: str | None = None,
    issuer_key: str | None = None,
    start: float = -30,
    end: float = 365,
    serial: int = 77,
    public: ec.EllipticCurvePublicKey | None = None,
) -> x509.Certificate:
    """A certificate; keys bear the common names unless told otherwise; `start` and `end` in days from EPOCH."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(name_of(subject))
        .issuer_name(name_of(issuer))
        .public_key(public or key_of(key or subject).public_key())
        .serial_number(serial)
        .not_valid_before(EPOCH + timedelta(days=start))
        .not_valid_after(EPOCH + timedelta(days=end))
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(key_of(issuer_key or issuer), hashes.SHA256())


def authority(subject: str, issuer: str, **rest: object) -> x509.Certificate:
    return issue(subject, issuer, (x509.BasicConstraints(ca=True, path_length=None), True), **rest)  # type: ignore[arg-type]


def key_usage(*, digital_signature: bool) -> x509.KeyUsage:
    rest = dict.fromkeys(("data_encipherment", "key_agreement", "key_cert_sign", "crl_sign"), False)
    rest |= dict.fromkeys(("encipher_only", "decipher_only", "content_commitment"), False)
    return x509.KeyUsage(digital_signature=digital_signature, key_encipherment=True, **rest)


def crl(issuer: str, *serials: int, start: float = -1, end: float = 7, key: str | None = None) -> bytes:
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(name_of(issuer))
        .last_update(EPOCH + timedelta(days=start))
        .next_update(EPOCH + timedelta(days=end))
    )
    for serial in serials:
        revoked = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(EPOCH).build()
        builder = builder.add_revoked_certificate(revoked)
    return builder.sign(key_of(key or issuer), hashes.SHA256()).public_bytes(Encoding.DER)


def der(*certificates: x509.Certificate) -> list[bytes]:
    return [certificate.public_bytes(Encoding.DER) for certificate in certificates]


ROOT = authority("root", "root")
NAMES = x509.SubjectAlternativeName([x509.IPAddress(IPv4Address(ADDRESS)), x509.DNSName(HOST), x509.RFC822Name(MAIL)])
BOB = issue("bob", "root", (NAMES, False))
DN = (IdType.DER_ASN1_DN, BOB.subject.public_bytes())


def store(**rest: object) -> MachineStore:
    own = MachineCertificate(issue("alice", "root"), key_of("alice"))
    return MachineStore(**({"epoch": EPOCH, "own": [own], "roots": [ROOT]} | rest))  # type: ignore[arg-type]


def alice(**rest: object) -> Certificates:
    return store(**rest).for_root("root")


def signature(digest: bytes = HASH, key: str = "bob") -> bytes:
    return key_of(key).sign(digest, PKCS1v15(), NoDigestInfo())


def verify(
    checker: Certificates | None = None,
    leaf: x509.Certificate = BOB,
    *others: x509.Certificate,
    identity: tuple[int, bytes] | None = None,
    crls: tuple[bytes, ...] = (),
    signed: bytes | None = None,
    now: float = 0.0,
) -> PeerIdentity:
    identity = identity or (IdType.DER_ASN1_DN, leaf.subject.public_bytes())
    return (checker or alice()).verify(now, Claim(identity, der(leaf, *others), crls, HASH, signed or signature()))


def refused(reason: FailureReason, *arguments: object, **rest: object) -> CredentialRefused:
    with pytest.raises(CredentialRefused) as caught:
        verify(*arguments, **rest)  # type: ignore[arg-type]
    assert caught.value.reason is reason, caught.value
    assert "\n" not in str(caught.value)
    return caught.value


# A good peer


def test_two_computers_believe_each_other() -> None:
    bob = MachineStore(epoch=EPOCH, own=[MachineCertificate(BOB, key_of("bob"))], roots=[ROOT]).for_root("root")
    for one, other, name in ((alice(), bob, "alice"), (bob, alice(), "bob")):
        chain = one.chain(other.requests())
        peer = other.verify(0.0, Claim((IdType.DER_ASN1_DN, one.subject), chain, (), HASH, one.sign(HASH)))
        root = r"CN=root,O=Lab\, Ltd,C=XX"
        assert peer == PeerIdentity(AuthMethod.RSA_SIGNATURES, rf"CN={name},O=Lab\, Ltd,C=XX", root, root)


def test_signature_is_over_the_bare_hash() -> None:
    """RFC 2409 section 5.1: PKCS #1 padding and nothing between it and HASH."""
    raw = alice().sign(HASH)
    numbers = key_of("alice").public_key().public_numbers()
    padded = pow(int.from_bytes(raw), numbers.e, numbers.n).to_bytes(256)
    assert padded == b"\0\1" + b"\xff" * (256 - 3 - len(HASH)) + b"\0" + HASH


@pytest.mark.parametrize(
    "identity",
    [
        DN,
        # The same texts as PrintableString (tag 19) where the certificate has UTF8String (tag 12).
        (
            IdType.DER_ASN1_DN,
            DN[1].replace(b"\x0c\x08Lab, Ltd", b"\x13\x08Lab, Ltd").replace(b"\x0c\x03bob", b"\x13\x03bob"),
        ),
        (IdType.IPV4_ADDR, IPv4Address(ADDRESS).packed),
        (IdType.FQDN, HOST.upper().encode()),
        (IdType.USER_FQDN, MAIL.encode()),
    ],
)
def test_names_of_the_certificate_are_accepted(identity: tuple[int, bytes]) -> None:
    assert verify(identity=identity).name.startswith("CN=bob")


@pytest.mark.parametrize("sent", [True, False], ids=["sent by the peer", "in our store"])
def test_chain_of_three(sent: bool) -> None:
    first, second = authority("first", "root"), authority("second", "first")
    leaf = issue("bob", "second")
    checker = alice() if sent else alice(intermediates=[first, second])
    peer = verify(checker, leaf, *((second, first) if sent else ()))
    assert peer.issuer.startswith("CN=second")
    assert peer.root.startswith("CN=root")
    refused(FailureReason.PEER_CERTIFICATE, alice(), leaf, second)


def test_extended_key_usage_does_not_matter() -> None:
    usage = x509.ExtendedKeyUsage([x509.ObjectIdentifier("1.3.6.1.5.5.8.2.2")])
    verify(None, issue("bob", "root", (usage, False), (key_usage(digital_signature=True), True)))


def test_time_moves() -> None:
    verify(now=364 * DAY)
    assert "not valid" in str(refused(FailureReason.PEER_CERTIFICATE, now=366 * DAY))
    refused(FailureReason.PEER_CERTIFICATE, now=-31 * DAY)


# Bad peers


def test_refusal_names_who_the_peer_claimed_to_be() -> None:
    error = refused(FailureReason.PEER_CERTIFICATE, now=366 * DAY)
    assert error.identity == PeerIdentity(
        AuthMethod.RSA_SIGNATURES, r"CN=bob,O=Lab\, Ltd,C=XX", r"CN=root,O=Lab\, Ltd,C=XX"
    )


def test_another_root_is_refused() -> None:
    refused(FailureReason.PEER_CERTIFICATE, None, issue("bob", "other"))
    # A root that says it is ours, and a peer that brings its own root along.
    refused(FailureReason.PEER_CERTIFICATE, None, issue("bob", "root", issuer_key="other"))
    refused(FailureReason.PEER_CERTIFICATE, None, issue("bob", "other"), authority("other", "other"))
    refused(FailureReason.PEER_CERTIFICATE, None, issue("bob", "bob"))


def test_a_trusted_root_that_the_policy_does_not_name_is_refused() -> None:
    other = authority("other", "other")
    checker = alice(roots=[ROOT, other])
    refused(FailureReason.PEER_CERTIFICATE, checker, issue("bob", "other"))
    both = store(roots=[ROOT, other]).for_root("other", "root")
    assert verify(both, issue("bob", "other")).root.startswith("CN=other")
    assert len(both.requests()) == 2


def test_a_peer_that_issues_certificates_is_refused() -> None:
    mallory = issue("bob", "mallory"), issue("mallory", "root")
    refused(FailureReason.PEER_CERTIFICATE, None, *mallory)
    denied = issue("mallory", "root", (x509.BasicConstraints(ca=False, path_length=None), True))
    refused(FailureReason.PEER_CERTIFICATE, None, mallory[0], denied)
    narrow = issue("root", "root", (x509.BasicConstraints(ca=True, path_length=0), True))
    refused(FailureReason.PEER_CERTIFICATE, alice(roots=[narrow]), issue("bob", "first"), authority("first", "root"))


def test_wrong_key_usage_is_refused() -> None:
    leaf = issue("bob", "root", (key_usage(digital_signature=False), True))
    refused(FailureReason.BAD_KEY_USAGE, None, leaf)


def test_keys_that_are_not_rsa_are_refused() -> None:
    leaf = issue("bob", "root", public=ec.derive_private_key(5, ec.SECP256R1()).public_key())
    refused(FailureReason.BAD_CERTIFICATE_TYPE, None, leaf)


def test_unknown_critical_extension_is_refused() -> None:
    unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
    verify(None, issue("bob", "root", (unknown, False)))
    refused(FailureReason.PEER_CERTIFICATE, None, issue("bob", "root", (unknown, True)))


@pytest.mark.parametrize(
    "identity",
    [
        (IdType.DER_ASN1_DN, name_of("alice").public_bytes()),
        (IdType.DER_ASN1_DN, b""),
        (IdType.DER_ASN1_DN, DN[1].replace(b"bob", b"Bob")),
        (IdType.IPV4_ADDR, IPv4Address("10.0.0.3").packed),
        (IdType.FQDN, b"alice.example.com"),
        (IdType.FQDN, MAIL.encode()),
        (IdType.USER_FQDN, HOST.encode()),
        (IdType.KEY_ID, DN[1]),
    ],
)
def test_other_identities_are_refused(identity: tuple[int, bytes]) -> None:
    refused(FailureReason.ID_PAYLOAD, identity=identity)


def test_wrong_signatures_are_refused() -> None:
    for wrong in (
        signature(bytes(20)),
        signature(key="alice"),
        signature()[:-1],
        b"\0" + signature(),
        b"x",
        bytes(256),
        # With the algorithm identifier of X.509 and TLS.
        key_of("bob").sign(b"x", PKCS1v15(), hashes.SHA256()),
    ):
        refused(FailureReason.INVALID_SIGNATURE, signed=wrong)


def test_no_certificate_or_rubbish_is_refused() -> None:
    for chain, reason in (
        ([], FailureReason.PEER_CERTIFICATE),
        ([b""], FailureReason.CERTIFICATE_PAYLOAD),
        ([b"rubbish"], FailureReason.CERTIFICATE_PAYLOAD),
    ):
        with pytest.raises(CredentialRefused) as caught:
            alice().verify(0.0, Claim(DN, chain, (), HASH, signature()))
        assert caught.value.reason is reason


def test_damaged_certificates_are_refused_and_nothing_else() -> None:
    random = Random(1)
    good = der(BOB)[0]
    checker, signed = alice(crl_level=1), signature()
    for _ in range(1500):
        data = bytearray(good)
        for _ in range(random.choice((1, 1, 3))):
            data[random.randrange(len(data))] = random.randrange(256)
        if bytes(data) != good:
            with pytest.raises(CredentialRefused):
                checker.verify(0.0, Claim(DN, [bytes(data)], [bytes(data)], HASH, signed))


# Revocation lists


def test_level_0_asks_no_list() -> None:
    verify(alice(crl_level=0), crls=(crl("root", 77), b"rubbish"))


@pytest.mark.parametrize("level", [1, 2])
@pytest.mark.parametrize("sent", [True, False])
def test_revoked_certificates_are_refused(level: int, sent: bool) -> None:
    revoked = crl("root", 5, 77)
    ours = () if sent else (x509.load_der_x509_crl(revoked),)
    error = refused(FailureReason.PEER_CRL_FAILED, alice(crl_level=level, crls=ours), crls=(revoked,) * sent)
    assert "CN=bob" in str(error)


def test_revoked_authority_is_refused() -> None:
    first = authority("first", "root", serial=9)
    refused(FailureReason.PEER_CRL_FAILED, alice(crl_level=1), issue("bob", "first"), first, crls=(crl("root", 9),))


@pytest.mark.parametrize(
    ("lists", "fine"),
    [
        ((), False),
        ((crl("root"),), True),
        ((crl("root", 5),), True),
        ((crl("root", end=-0.5),), False),
        ((crl("root", start=0.5),), False),
        ((crl("root", key="other"),), False),
        ((crl("other"),), False),
        ((crl("other"), crl("root")), True),
    ],
    ids=["none", "empty", "another", "outdated", "early", "forged", "of others", "two"],
)
def test_level_2_needs_a_valid_list(lists: tuple[bytes, ...], fine: bool) -> None:
    verify(alice(crl_level=1), crls=lists)
    if fine:
        verify(alice(crl_level=2), crls=lists)
    else:
        refused(FailureReason.PEER_CRL_FAILED, alice(crl_level=2), crls=lists)


def test_a_forged_list_revokes_nobody() -> None:
    verify(alice(crl_level=1), crls=(crl("root", 77, key="other"),))


def test_rubbish_list() -> None:
    refused(FailureReason.CERTIFICATE_PAYLOAD, alice(crl_level=1), crls=(b"rubbish",))


# Our own certificate


@pytest.mark.parametrize(
    "name", ["root", "ROOT", r"CN=root, O=Lab\, Ltd, C=XX", r"C=XX,O=Lab\, Ltd,CN=root", r"c=xx, o=lab\, ltd, cn=root"]
)
def test_ways_to_name_a_root(name: str) -> None:
    assert store().for_root(name).subject == name_of("alice").public_bytes()


def test_chain_for_what_the_peer_asks_for() -> None:
    first, second = authority("first", "root"), authority("second", "first")
    other = authority("other", "other")
    leaf = issue("alice", "second")
    checker = alice(own=[MachineCertificate(leaf, key_of("alice"))], intermediates=[other, second, first])
    path = tuple(der(leaf, second, first))
    for requested in ((), (b"",), ("root",), ("second",), ("other", "root")):
        names = [name if isinstance(name, bytes) else name_of(name).public_bytes() for name in requested]
        assert checker.chain(names) == path
    with pytest.raises(CredentialRefused) as caught:
        checker.chain([name_of("other").public_bytes()])
    assert caught.value.reason is FailureReason.NO_MACHINE_CERTIFICATE


def test_own_certificate_is_the_one_under_the_first_root() -> None:
    other = authority("other", "other")
    theirs = MachineCertificate(issue("carol", "other"), key_of("carol"))
    own = [MachineCertificate(issue("alice", "root"), key_of("alice")), theirs]
    both = MachineStore(epoch=EPOCH, own=own, roots=[ROOT, other])
    assert both.for_root("other", "root").subject == name_of("carol").public_bytes()
    assert both.for_root("root", "other").subject == name_of("alice").public_bytes()


def test_roots_without_a_certificate_of_ours() -> None:
    other = authority("other", "other")
    with pytest.raises(PolicyError, match=r"'missing': not a trusted root of this computer; accepted: CN=root"):
        store().for_root("missing")
    with pytest.raises(PolicyError, match=r"'other': no certificate of this computer leads to it; accepted: CN=root"):
        store(roots=[ROOT, other]).for_root("other")
    with pytest.raises(PolicyError, match="accepted: none, it has no certificate"):
        store(own=[]).for_root("root")


# Files


def pem(name: str, password: bytes | None = None) -> bytes:
    protection = BestAvailableEncryption(password) if password else NoEncryption()
    return key_of(name).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, protection)


def bundle(name: str, password: bytes, *certificates: x509.Certificate) -> bytes:
    own, *others = certificates
    return pkcs12.serialize_key_and_certificates(
        b"one", key_of(name), own, others, BestAvailableEncryption(password) if password else NoEncryption()
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("own", "roots", "intermediates", "crls"):
        (tmp_path / name).mkdir()
    (tmp_path / "roots" / "root.pem").write_bytes(ROOT.public_bytes(Encoding.PEM))
    return tmp_path


LEAF, FIRST = issue("alice", "first"), authority("first", "root")


@pytest.mark.parametrize(
    "files",
    [
        {"alice.pem": LEAF.public_bytes(Encoding.PEM) + FIRST.public_bytes(Encoding.PEM) + pem("alice")},
        {
            "alice.cer": LEAF.public_bytes(Encoding.DER),
            "alice.key": pem("alice"),
            "../intermediates/ca.der": der(FIRST)[0],
        },
        {"alice.pfx": bundle("alice", b"secret", LEAF, FIRST)},
    ],
    ids=["one file", "key beside", "pkcs12"],
)
def test_folder(folder: Path, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        (folder / "own" / name).write_bytes(data)
    (folder / "crls" / "root.crl").write_bytes(crl("root", 77))
    password = b"secret" if "alice.pfx" in files else None
    loaded = MachineStore.load_folder(folder, epoch=EPOCH.replace(tzinfo=None), password=password, crl_level=1)
    checker = loaded.for_root("root")
    assert checker.chain(()) == tuple(der(LEAF, FIRST))
    refused(FailureReason.PEER_CRL_FAILED, checker)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("own/a.pem", b"nonsense", "accepted: PEM or DER certificates"),
        ("own/a.pem", ROOT.public_bytes(Encoding.PEM), "accepted: a PEM private key"),
        ("own/a.pem", BOB.public_bytes(Encoding.PEM) + pem("alice"), "not that of the certificate"),
        ("own/a.pem", BOB.public_bytes(Encoding.PEM) + pem("bob", b"x"), "accepted: a PEM private key"),
        ("own/a.p12", bundle("bob", b"x", BOB), "accepted: a PKCS #12 file that its password opens"),
        ("own/a.p12", b"nonsense", "accepted: a PKCS #12 file"),
        ("roots/a.pem", pem("bob"), "accepted: PEM or DER certificates"),
        ("crls/a.crl", der(ROOT)[0], "accepted: a PEM or DER revocation list"),
    ],
)
def test_bad_files(folder: Path, name: str, data: bytes, message: str) -> None:
    path = folder / name
    path.write_bytes(data)
    with pytest.raises(PolicyError) as caught:
        MachineStore.load_folder(folder, epoch=EPOCH)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match=r"none\.pem: No such file"):
        MachineStore.load(epoch=EPOCH, roots=[tmp_path / "none.pem"])


def test_keys_of_another_kind(folder: Path) -> None:
    curve = ec.derive_private_key(5, ec.SECP256R1())
    key = curve.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    leaf = issue("bob", "root", public=curve.public_key()).public_bytes(Encoding.PEM)
    (folder / "own" / "a.pem").write_bytes(leaf + key)
    with pytest.raises(PolicyError, match=r"another kind; accepted: RSA"):
        MachineStore.load_folder(folder, epoch=EPOCH)


def test_a_private_key_is_not_shown() -> None:
    assert "key" not in repr(store().own[0]).lower().replace("public_key", "")


# Real exchanges


def lab(captures: Path, name: str) -> Path:
    path = captures.parent / "lab" / "pcaps" / name
    if not path.exists():
        pytest.skip(f"no {name}")
    return path


def auth_messages(path: Path, key: bytes, iv: bytes) -> list[dict[int, list[bytes]]]:
    """Messages 5 and 6 of a Main Mode: payload bodies by type."""
    cipher, found, seen, fragments = PhaseOneCipher(Encryption.TRIPLE_DES_CBC, key), [], set(), b""
    with PcapReader(str(path)) as reader:
        datagrams = [bytes(packet[UDP].payload) for packet in reader if UDP in packet]
    for datagram in datagrams:
        data = datagram.removeprefix(bytes(4))
        if len(data) >= HEADER_LENGTH and data[16] == PayloadType.FRAGMENT:
            # Generic header 4, id 2, number 1, flag of the last one 1; in order in this capture.
            fragments += data[HEADER_LENGTH + 8 :]
            if not data[HEADER_LENGTH + 7]:
                continue
            data, fragments = fragments, b""
        # Main Mode, encrypted, new.
        if len(data) < HEADER_LENGTH or data[18] != 2 or not data[19] & 1 or data in seen:
            continue
        seen.add(data)
        clear, kind, at = cipher.open(iv, data[HEADER_LENGTH:]), data[16], 0
        bodies: dict[int, list[bytes]] = {}
        while kind:
            following, length = clear[at], int.from_bytes(clear[at + 2 : at + 4])
            bodies.setdefault(kind, []).append(clear[at + 4 : at + length])
            kind, at = following, at + length
        found.append(bodies)
        iv = data[-8:]
    return found


@pytest.mark.parametrize("side", [0, 1], ids=["initiator", "responder"])
def test_strongswan(captures: Path, side: int) -> None:
    """ID, CERT and SIG as two strongSwan charons sent them, and HASH from their key log."""
    name = "ss-rsa_3des-sha1-1024_3des-sha1"
    path = lab(captures, f"{name}.pcap")
    log = json.loads(lab(captures, f"{name}.vector.json").read_text())["keys"]
    key, iv = bytes.fromhex(log["encryption key Ka"]), bytes.fromhex(log["initial IV"])
    payloads = auth_messages(path, key, iv)[side]
    root = x509.load_pem_x509_certificate(lab(captures, "ss-rsa-ca.pem").read_bytes())
    own = MachineCertificate(issue("alice", "root"), key_of("alice"))
    checker = MachineStore(epoch=root.not_valid_before_utc, own=[own], roots=[ROOT, root]).for_root("root", "lab root")
    identity, signed = payloads[PayloadType.IDENTIFICATION][0], payloads[PayloadType.SIGNATURE][0]
    chain = [body[1:] for body in payloads[PayloadType.CERTIFICATE]]
    digest = bytes.fromhex(log["HASH_I" if side == 0 else "HASH_R"])
    claim = Claim((identity[0], identity[4:]), chain, (), digest, signed)
    peer = checker.verify(DAY, claim)
    assert peer.name == f"CN=peer-{'ab'[side]},O=ipsec_core lab,C=XX"
    with pytest.raises(CredentialRefused) as caught:
        checker.verify(DAY, replace(claim, digest=digest[::-1]))
    assert caught.value.reason is FailureReason.INVALID_SIGNATURE
    with pytest.raises(CredentialRefused) as caught:
        checker.verify(-DAY, claim)
    assert caught.value.reason is FailureReason.PEER_CERTIFICATE


def test_openswan_and_cisco(captures: Path) -> None:
    """Signatures of 2009 open with the keys of their certificates to a bare MD5 HASH."""
    text = (captures / "wireshark/keys/ikev1_decrypted_expected.shared.json").read_text()
    done = 0
    for message in json.loads(text)["captures"]["ikev1-certs.pcap"]:
        bodies = {one[1]: one[2] for one in message["payloads"]}
        if "SIG" in bodies:
            certificate = x509.load_der_x509_certificate(bytes.fromhex(bodies["CERT"])[1:])
            key = certificate.public_key()
            assert isinstance(key, rsa.RSAPublicKey)
            assert len(key.recover_data_from_signature(bytes.fromhex(bodies["SIG"]), PKCS1v15(), None)) == 16
            done += 1
    assert done == 2
