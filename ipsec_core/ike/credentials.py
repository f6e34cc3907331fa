"""How two computers prove who they are in Main Mode: what IKE needs of certificates and of Kerberos.

The objects behind these protocols belong to the computer; IKE knows neither files nor libraries of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ipsec_core.ike.failures import FailureReason
from ipsec_core.ike.iana import AuthMethod


@dataclass(frozen=True, slots=True)
class PeerIdentity:
    """Who the peer has proved to be, for audits 541 and 544.

    `name` is the Kerberos name or the certificate's subject, empty for a preshared key; `issuer` and `root` are those
    of the certificate.
    """

    method: AuthMethod
    name: str = ""
    issuer: str = ""
    root: str = ""


@dataclass(frozen=True, slots=True)
class Claim:
    """What a peer offers as proof (RFC 2409 section 5.1).

    Its ID payload (type, data), its certificates and CRLs (DER, own certificate first), our HASH and its signature.
    """

    identity: tuple[int, bytes]
    chain: Sequence[bytes]
    crls: Sequence[bytes]
    digest: bytes
    signature: bytes


class CredentialRefused(Exception):
    """A certificate or a token that is not good enough, with the reason for the event log."""

    def __init__(self, reason: FailureReason, text: str, identity: PeerIdentity | None = None) -> None:
        super().__init__(text)
        self.reason = reason
        self.identity = identity


class Certificates(Protocol):
    """The computer's certificate and the roots that it trusts (RFC 2409 section 5.1, RFC 2408 sections 3.9, 3.10)."""

    @property
    def subject(self) -> bytes:
        """The DER name of our certificate, the body of ID_DER_ASN1_DN."""

    def requests(self) -> tuple[bytes, ...]:
        """The DER names of the roots that we trust, one CERTREQ payload each."""

    def chain(self, requested: Sequence[bytes]) -> tuple[bytes, ...]:
        """Our certificate and what leads to a root that the peer asked for (DER); CredentialRefused without one."""

    def sign(self, digest: bytes) -> bytes:
        """PKCS #1 v1.5 over HASH_I or HASH_R itself, without an algorithm identifier (RFC 2409 section 5.1)."""

    def verify(self, now: float, claim: Claim) -> PeerIdentity:
        """Who the peer has proved to be; CredentialRefused says what is wrong."""


class GssContext(Protocol):
    """One GSS-API security context. Every method raises CredentialRefused when the mechanism does."""

    @property
    def complete(self) -> bool: ...

    @property
    def peer(self) -> str:
        """The peer's name, once complete."""

    def step(self, token: bytes | None) -> bytes | None:
        """The next token for the peer, given the peer's last one (None to begin)."""

    def wrap(self, data: bytes) -> bytes: ...

    def unwrap(self, data: bytes) -> bytes: ...


class Kerberos(Protocol):
    """The computer's Kerberos credentials."""

    @property
    def name(self) -> str:
        """Our GSS endpoint name, as attribute 16384 carries it."""

    def initiate(self, peer: str) -> GssContext:
        """A context towards the endpoint name that the peer sent."""

    def accept(self) -> GssContext: ...
