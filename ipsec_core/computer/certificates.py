"""A computer's certificates (RFC 2409 section 5.1): its own, the roots it trusts, and what it makes of a peer's.

Paths are checked by the X.509 verification of `cryptography`: signatures, validity, basic constraints, name
constraints. It takes no SHA-1 or MD5 signature and no issuer with an RSA key under 2048 bits, which Windows 2000 did.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from hmac import compare_digest
from ipaddress import IPv4Address, IPv6Address
from itertools import pairwise
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.utils import NoDigestInfo
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.name import _ASN1Type
from cryptography.x509.verification import Criticality, ExtensionPolicy, PolicyBuilder, Store, VerificationError

from ipsec_core.computer.certificate_files import read_certificates, read_crl, read_identity
from ipsec_core.errors import PolicyError
from ipsec_core.ike.credentials import Certificates, Claim, CredentialRefused, PeerIdentity
from ipsec_core.ike.failures import FailureReason
from ipsec_core.ike.iana import AuthMethod, IdType

# Windows' own, where RFC 4514 has none or another one.
_WINDOWS_NAMES = {x509.NameOID.EMAIL_ADDRESS: "E", x509.NameOID.STATE_OR_PROVINCE_NAME: "S"}
# An IPsec certificate needs no extended key usage and no subjectAltName (RFC 4945 section 5.1.3.12).
_ISSUERS = ExtensionPolicy.permit_all().require_present(x509.BasicConstraints, Criticality.AGNOSTIC, None)
_ENDS = ExtensionPolicy.permit_all()
# What a PrintableString can hold (X.680 section 41.4).
_PRINTABLE = re.compile("[A-Za-z0-9 '()+,./:=?-]*")


@dataclass(frozen=True, slots=True)
class MachineCertificate:
    """A certificate of the computer with its private key."""

    certificate: x509.Certificate
    key: rsa.RSAPrivateKey = field(repr=False)


class MachineStore:
    """The computer's own certificates, trusted roots, intermediate authorities and revocation lists.

    `epoch` is the date and time of `now` 0 (UTC if it names no zone). `crl_level` is StrongCrlCheck: 0 asks no list, 1
    refuses a certificate that a list names, 2 also one for which there is no valid list.
    """

    def __init__(
        self,
        *,
        epoch: datetime,
        own: Sequence[MachineCertificate] = (),
        roots: Sequence[x509.Certificate] = (),
        intermediates: Sequence[x509.Certificate] = (),
        crls: Sequence[x509.CertificateRevocationList] = (),
        crl_level: int = 0,
    ) -> None:
        self.epoch = epoch if epoch.tzinfo else epoch.replace(tzinfo=UTC)
        self.own = tuple(own)
        self.roots = tuple(roots)
        self.intermediates = tuple(intermediates)
        self.crls = tuple(crls)
        self.crl_level = crl_level

    @classmethod
    def load(
        cls,
        *,
        epoch: datetime,
        own: Sequence[Path] = (),
        roots: Sequence[Path] = (),
        intermediates: Sequence[Path] = (),
        crls: Sequence[Path] = (),
        password: bytes | None = None,
        crl_level: int = 0,
    ) -> MachineStore:
        """From files; PolicyError names the one that cannot be read.

        `own`: PKCS #12 (.p12, .pfx), or a PEM certificate with its key in the same file or beside it (.key), and the
        authorities above it in either. All others: PEM or DER. `password` opens encrypted keys.
        """
        identities, above = [], []
        for path in own:
            certificate, key, others = read_identity(path, password)
            identities.append(MachineCertificate(certificate, key))
            above += others
        return cls(
            epoch=epoch,
            own=identities,
            roots=[certificate for path in roots for certificate in read_certificates(path)],
            intermediates=[*above, *(certificate for path in intermediates for certificate in read_certificates(path))],
            crls=[read_crl(path) for path in crls],
            crl_level=crl_level,
        )

    @classmethod
    def load_folder(
        cls, folder: Path, *, epoch: datetime, password: bytes | None = None, crl_level: int = 0
    ) -> MachineStore:
        """From FOLDER/own and FOLDER/roots, and from FOLDER/intermediates and FOLDER/crls if they are there."""
        if not all((folder / name).is_dir() for name in ("own", "roots")):
            raise PolicyError(f"{folder}; accepted: a folder with the folders own and roots")

        def files(name: str) -> list[Path]:
            return sorted(path for path in (folder / name).glob("*") if path.is_file() and path.suffix != ".key")

        return cls.load(
            epoch=epoch,
            own=files("own"),
            roots=files("roots"),
            intermediates=files("intermediates"),
            crls=files("crls"),
            password=password,
            crl_level=crl_level,
        )

    def for_root(self, *root_names: str) -> Certificates:
        """What IKE needs for authentication methods that name root authorities, in order of preference.

        A name is a distinguished name in either order ("C=XX, O=Lab, CN=Root") or the common name alone. PolicyError
        when no certificate of ours leads to one of them.
        """
        roots = [root for name in root_names for root in self.roots if _text(name) in _forms(root.subject)]
        for root in roots:
            for own in self.own:
                path = _path(own.certificate, root, self.intermediates)
                if path is not None:
                    return _MachineCertificates(self, own, path, roots)
        usable = self.usable_roots()
        fault = "no certificate of this computer leads to it" if roots else "not a trusted root of this computer"
        names = "; ".join(root_names)
        raise PolicyError(
            f"certificate {names!r}: {fault}; accepted: {'; '.join(usable) or 'none, it has no certificate'}"
        )

    def usable_roots(self) -> tuple[str, ...]:
        """The names of the roots that certificates of ours lead to."""
        return tuple(
            root.subject.rfc4514_string()
            for root in self.roots
            if any(_path(own.certificate, root, self.intermediates) for own in self.own)
        )


class _MachineCertificates:
    """`ike.Certificates`: one certificate of ours, `path` from it to an authority under one of `roots`."""

    def __init__(
        self,
        store: MachineStore,
        own: MachineCertificate,
        path: Sequence[x509.Certificate],
        roots: Sequence[x509.Certificate],
    ) -> None:
        self._store = store
        self._key = own.key
        self._path = tuple(certificate.public_bytes(Encoding.DER) for certificate in path)
        self._issuers = {certificate.issuer.public_bytes() for certificate in path}
        self._roots = tuple(roots)
        self._subject = own.certificate.subject.public_bytes()

    @property
    def subject(self) -> bytes:
        return self._subject

    def requests(self) -> tuple[bytes, ...]:
        return tuple(root.subject.public_bytes() for root in self._roots)

    def chain(self, requested: Sequence[bytes]) -> tuple[bytes, ...]:
        # An empty name takes any authority (RFC 2408 section 3.10), and so does a peer that asks for nothing.
        if requested and all(requested) and self._issuers.isdisjoint(requested):
            raise CredentialRefused(
                FailureReason.NO_MACHINE_CERTIFICATE, "none of the authorities that the peer asks for is above ours"
            )
        return self._path

    def sign(self, digest: bytes) -> bytes:
        return self._key.sign(digest, PKCS1v15(), NoDigestInfo())

    def verify(self, now: float, claim: Claim) -> PeerIdentity:
        leaf, *others = _parse(claim.chain)
        peer = PeerIdentity(AuthMethod.RSA_SIGNATURES, leaf.subject.rfc4514_string(), leaf.issuer.rfc4514_string())
        time = self._store.epoch + timedelta(seconds=now)
        try:
            path = self._verified_path(leaf, others, time)
            peer = replace(peer, root=path[-1].subject.rfc4514_string())
            key = _usable_key(leaf)
            _check_identity(leaf, *claim.identity)
            self._check_revocation(path, claim.crls, time)
            if not compare_digest(key.recover_data_from_signature(claim.signature, PKCS1v15(), None), claim.digest):
                raise InvalidSignature
        except CredentialRefused as error:
            error.identity = peer
            raise
        except InvalidSignature as error:
            raise CredentialRefused(FailureReason.INVALID_SIGNATURE, "signature over HASH is wrong", peer) from error
        except ValueError as error:
            # An extension that does not decode.
            raise CredentialRefused(FailureReason.PEER_CERTIFICATE, str(error), peer) from error
        return peer

    def _verified_path(
        self, leaf: x509.Certificate, others: list[x509.Certificate], time: datetime
    ) -> list[x509.Certificate]:
        """From the leaf to a root of ours."""
        builder = PolicyBuilder().store(Store(list(self._roots))).time(time)
        verifier = builder.extension_policies(ca_policy=_ISSUERS, ee_policy=_ENDS).build_client_verifier()
        try:
            return verifier.verify(leaf, [*others, *self._store.intermediates]).chain
        except VerificationError as error:
            # What follows is the whole certificate as Python shows it.
            text = str(error).partition(" (encountered processing")[0]
            raise CredentialRefused(FailureReason.PEER_CERTIFICATE, text) from error

    def _check_revocation(self, path: Sequence[x509.Certificate], sent: Sequence[bytes], time: datetime) -> None:
        if not self._store.crl_level:
            return
        lists = (*self._store.crls, *_parse_crls(sent))
        for certificate, issuer in pairwise(path):
            signed = [crl for crl in lists if _is_list_of(crl, issuer)]
            name = certificate.subject.rfc4514_string()
            if any(crl.get_revoked_certificate_by_serial_number(certificate.serial_number) for crl in signed):
                raise CredentialRefused(FailureReason.PEER_CRL_FAILED, f"{name} is revoked")
            if self._store.crl_level > 1 and not any(_is_current(crl, time) for crl in signed):
                raise CredentialRefused(FailureReason.PEER_CRL_FAILED, f"no valid revocation list for {name}")


def _text(name: str) -> str:
    return re.sub(r"\s*(?<!\\),\s*", ",", name.strip()).casefold()


def _forms(name: x509.Name) -> set[str]:
    """The ways to write a distinguished name in a policy."""
    forms = {str(attribute.value) for attribute in name.get_attributes_for_oid(x509.NameOID.COMMON_NAME)}
    for short_names in ({}, _WINDOWS_NAMES):
        parts = [part.rfc4514_string(short_names) for part in name.rdns]
        forms |= {",".join(parts), ",".join(reversed(parts))}
    return {_text(form) for form in forms}


def _path(
    leaf: x509.Certificate, root: x509.Certificate, pool: Sequence[x509.Certificate]
) -> tuple[x509.Certificate, ...] | None:
    """The leaf and the authorities between it and the root; None if it is not under that root."""
    if _issued(leaf, root):
        return (leaf,)
    for issuer in pool:
        if _issued(leaf, issuer):
            rest = _path(issuer, root, [other for other in pool if other != issuer])
            if rest is not None:
                return (leaf, *rest)
    return None


def _issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _parse(chain: Sequence[bytes]) -> list[x509.Certificate]:
    if not chain:
        raise CredentialRefused(FailureReason.PEER_CERTIFICATE, "the peer sent no certificate")
    try:
        certificates = [x509.load_der_x509_certificate(der) for der in chain]
        # Names are decoded when they are asked for.
        for certificate in certificates:
            certificate.subject, certificate.issuer  # noqa: B018
    except (ValueError, CryptographyDeprecationWarning) as error:
        # The warning of a serial number that is not positive, where warnings are errors.
        raise CredentialRefused(FailureReason.CERTIFICATE_PAYLOAD, f"not a certificate: {error}") from error
    return certificates


def _parse_crls(sent: Sequence[bytes]) -> list[x509.CertificateRevocationList]:
    try:
        return [x509.load_der_x509_crl(der) for der in sent]
    except ValueError as error:
        raise CredentialRefused(FailureReason.CERTIFICATE_PAYLOAD, f"not a revocation list: {error}") from error


def _usable_key(leaf: x509.Certificate) -> rsa.RSAPublicKey:
    key = leaf.public_key()
    if not isinstance(key, rsa.RSAPublicKey):
        raise CredentialRefused(FailureReason.BAD_CERTIFICATE_TYPE, "the key of the certificate is not RSA")
    usages = [one.value for one in leaf.extensions if isinstance(one.value, x509.KeyUsage)]
    if not all(usage.digital_signature for usage in usages):
        raise CredentialRefused(FailureReason.BAD_KEY_USAGE, "the certificate is not for digital signatures")
    return key


def _check_identity(leaf: x509.Certificate, kind: int, data: bytes) -> None:
    """The ID payload has to be one of the certificate's names (RFC 2407 section 4.6.2, RFC 4945 section 3)."""
    if kind == IdType.DER_ASN1_DN:
        known = data in _encodings(leaf.subject)
    else:
        names = [one.value for one in leaf.extensions if isinstance(one.value, x509.SubjectAlternativeName)]
        known = any(_is_identity(name, kind, data) for one in names for name in one)
    if not known:
        raise CredentialRefused(
            FailureReason.ID_PAYLOAD, "the certificate does not name the identity of the ID payload"
        )


def _encodings(subject: x509.Name) -> set[bytes]:
    """The DER of a name with the string types of its certificate, and with the two that peers choose by themselves.

    Names are equal whatever the type of their texts (RFC 5280 section 7.1).
    """
    forms = {subject.public_bytes()}
    for kind in (_ASN1Type.UTF8String, _ASN1Type.PrintableString):
        forms.add(x509.Name([_of_type(part, kind) for part in subject.rdns]).public_bytes())
    return forms


def _of_type(part: x509.RelativeDistinguishedName, kind: _ASN1Type) -> x509.RelativeDistinguishedName:
    """Its texts as `kind`, but those that cannot be as they would be by default."""
    printable = kind is _ASN1Type.PrintableString
    return x509.RelativeDistinguishedName(
        x509.NameAttribute(one.oid, one.value)
        if one.oid == x509.NameOID.COUNTRY_NAME or (printable and not _PRINTABLE.fullmatch(str(one.value)))
        else x509.NameAttribute(one.oid, one.value, kind)
        for one in part
    )


def _is_identity(name: x509.GeneralName, kind: int, data: bytes) -> bool:
    match name:
        case x509.IPAddress(value=(IPv4Address() | IPv6Address()) as address):
            return kind in (IdType.IPV4_ADDR, IdType.IPV6_ADDR) and address.packed == data
        case x509.DNSName():
            return kind == IdType.FQDN and name.value.encode().lower() == data.lower()
        case x509.RFC822Name():
            return kind == IdType.USER_FQDN and name.value.encode().lower() == data.lower()
    return False


def _is_list_of(crl: x509.CertificateRevocationList, issuer: x509.Certificate) -> bool:
    key = issuer.public_key()
    if not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
        return False
    return crl.issuer == issuer.subject and crl.is_signature_valid(key)


def _is_current(crl: x509.CertificateRevocationList, time: datetime) -> bool:
    """Whether it is of that time and complete: a part says so in a critical extension (RFC 5280 section 5.2)."""
    until = crl.next_update_utc
    partial = any(extension.critical for extension in crl.extensions)
    return not partial and crl.last_update_utc <= time and (until is None or time <= until)
