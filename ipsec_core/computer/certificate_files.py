"""Certificates, keys and revocation lists in files: PEM, DER, PKCS #12. Every fault is one line with the path."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key, pkcs12

from ipsec_core.errors import PolicyError

T = TypeVar("T")
PKCS12_SUFFIXES = (".p12", ".pfx")


def read_identity(
    path: Path, password: bytes | None = None
) -> tuple[x509.Certificate, rsa.RSAPrivateKey, list[x509.Certificate]]:
    """A computer's certificate, its key, and the other certificates beside them.

    PKCS #12 by its suffix; otherwise PEM, where the key is in the same file or in the one with the suffix .key.
    """
    if path.suffix.lower() in PKCS12_SUFFIXES:
        content = _load(
            path,
            _read(path),
            "a PKCS #12 file that its password opens",
            lambda data: pkcs12.load_pkcs12(data, password),
        )
        own, key = content.cert, content.key
        others = [one.certificate for one in content.additional_certs]
        if own is None or key is None:
            raise PolicyError(f"{path}: no certificate with its private key, a PKCS #12 file needs both")
        certificate = own.certificate
    else:
        certificate, *others = read_certificates(path)
        beside = path.with_suffix(".key")
        source = beside if beside.exists() else path
        what = "a PEM private key, in the file itself or beside it as .key, that the password opens"
        key = _load(source, _read(source), what, lambda data: load_pem_private_key(data, password))
    if not isinstance(key, rsa.RSAPrivateKey):
        raise PolicyError(f"{path}: private key of another kind; accepted: RSA")
    if key.public_key() != certificate.public_key():
        raise PolicyError(f"{path}: the private key is not that of the certificate, which comes first in the file")
    return certificate, key, others


def read_certificates(path: Path) -> list[x509.Certificate]:
    """One or more in PEM, or one in DER."""
    data = _read(path)
    if b"-----BEGIN" in data:
        return _load(path, data, "PEM or DER certificates", x509.load_pem_x509_certificates)
    return [_load(path, data, "PEM or DER certificates", x509.load_der_x509_certificate)]


def read_crl(path: Path) -> x509.CertificateRevocationList:
    """One, in PEM or DER."""
    data = _read(path)
    load = x509.load_pem_x509_crl if b"-----BEGIN" in data else x509.load_der_x509_crl
    return _load(path, data, "a PEM or DER revocation list", load)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise PolicyError(f"{path}: {error.strerror}") from error


def _load(path: Path, data: bytes, accepted: str, load: Callable[[bytes], T]) -> T:
    try:
        return load(data)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        text = str(error).splitlines()[0] if str(error) else "unreadable"
        raise PolicyError(f"{path}: {text}; accepted: {accepted}") from error
