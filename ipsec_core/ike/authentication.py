"""The authentication methods of Main Mode as strategies: pre-shared key, RSA signatures, Kerberos V5.

Each has its SKEYID, its payloads beside the KE and ID payloads, and its proof over HASH_I and HASH_R. An object serves
one exchange, from the choice of the offer on. It raises MalformedMessage or Unverified for a message that does not
count, CredentialRefused for a peer, or for credentials of ours, that are not good enough.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from hmac import compare_digest

from ipsec_core.ike import keys, wire
from ipsec_core.ike.credentials import Certificates, Claim, CredentialRefused, GssContext, Kerberos, PeerIdentity
from ipsec_core.ike.events import MainModePolicy
from ipsec_core.ike.failures import FailureReason, MalformedMessage, Unverified
from ipsec_core.ike.iana import AuthMethod, CertificateEncoding, Hash, IdType, MainModeAttribute, Notify
from ipsec_core.ike.offers import encode_identity, host

Payloads = tuple[wire.Payload, ...]

# Kerberos needs one token each way, negotiated mechanisms one or two more.
MAX_GSS_STEPS = 8


class Authentication(ABC):
    """What the methods have in common: by default nothing beside the proof."""

    @abstractmethod
    def skeyid(self, algorithm: Hash, nonces: tuple[bytes, bytes], shared: bytes) -> bytes:
        """SKEYID (RFC 2409 section 5); `nonces` is Ni_b, Nr_b, `shared` is g^xy."""

    def identity(self, local: str) -> wire.Identification:
        """Our ID payload; `local` is our address."""
        return encode_identity(host(local))

    def hear(self, payloads: Payloads) -> None:
        """Take in what the peer sent, from message 3 on."""
        return

    def answer(self, payloads: Payloads) -> Payloads:
        """The responder's part of a further round trip before message 5."""
        raise MalformedMessage(Notify.INVALID_PAYLOAD_TYPE, "a GSS token without Kerberos")

    def say(self) -> Payloads:
        """What goes with our KE and nonce, and alone for as long as we are `unfinished`."""
        return ()

    @property
    def unfinished(self) -> bool:
        """Whether an initiator needs another round trip before message 5."""
        return False

    def covered(self, *, by_us: bool) -> bytes:
        """What the HASH of one end covers after its ID payload."""
        return b""

    @abstractmethod
    def prove(self, proof: bytes) -> Payloads:
        """What goes with our ID payload; `proof` is our HASH_I or HASH_R."""

    @abstractmethod
    def verify(self, now: float, identity: wire.Identification, payloads: Payloads, proof: bytes) -> PeerIdentity:
        """Check what came with the peer's ID payload; `proof` is the HASH that the peer has to have."""


class PresharedKey(Authentication):
    """RFC 2409 section 5.4."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def skeyid(self, algorithm: Hash, nonces: tuple[bytes, bytes], shared: bytes) -> bytes:
        return keys.skeyid_preshared(algorithm, self._key, *nonces)

    def prove(self, proof: bytes) -> Payloads:
        return (wire.HashData(proof),)

    def verify(self, now: float, identity: wire.Identification, payloads: Payloads, proof: bytes) -> PeerIdentity:
        if not compare_digest(wire.only(payloads, wire.HashData).data, proof):
            raise Unverified("HASH of the peer is wrong")
        return PeerIdentity(AuthMethod.PRESHARED_KEY)


class RsaSignatures(Authentication):
    """RFC 2409 section 5.1.

    CERTREQ payloads go in messages 3 and 4 and count wherever they come; CERT payloads go and count only beside an ID
    payload ([MS-IKEE] 3.1.5). `payloads` are those of message 1 or 2.
    """

    def __init__(self, certificates: Certificates, payloads: Payloads) -> None:
        self._certificates = certificates
        self._requested: dict[bytes, None] = {}
        self.hear(payloads)

    def skeyid(self, algorithm: Hash, nonces: tuple[bytes, bytes], shared: bytes) -> bytes:
        return keys.skeyid_signature(algorithm, *nonces, shared)

    def identity(self, local: str) -> wire.Identification:
        return wire.Identification(IdType.DER_ASN1_DN, 0, 0, self._certificates.subject)

    def hear(self, payloads: Payloads) -> None:
        for request in wire.every(payloads, wire.CertificateRequest):
            if request.encoding == CertificateEncoding.X509_SIGNATURE:
                self._requested[request.authority] = None

    def say(self) -> Payloads:
        encoding = CertificateEncoding.X509_SIGNATURE
        return tuple(wire.CertificateRequest(encoding, name) for name in self._certificates.requests())

    def prove(self, proof: bytes) -> Payloads:
        chain = self._certificates.chain(tuple(self._requested))
        certificates = (wire.Certificate(CertificateEncoding.X509_SIGNATURE, data) for data in chain)
        return *certificates, wire.Signature(self._certificates.sign(proof))

    def verify(self, now: float, identity: wire.Identification, payloads: Payloads, proof: bytes) -> PeerIdentity:
        signature = wire.only(payloads, wire.Signature)
        received = wire.every(payloads, wire.Certificate)
        chain, crls = (
            [payload.data for payload in received if payload.encoding == encoding]
            for encoding in (CertificateEncoding.X509_SIGNATURE, CertificateEncoding.CRL)
        )
        return self._certificates.verify(now, Claim((identity.kind, identity.data), chain, crls, proof, signature.data))


class KerberosTokens(Authentication):
    """Kerberos V5 through GSS-API, draft-ietf-ipsec-isakmp-gss-auth-07.

    The tokens travel in messages 3 and 4 and, if the mechanism wants more, in round trips of their own before message
    5; an initiator's last one, which has no answer, in message 5. The HASH goes through gss_wrap. It covers the name
    of its sender, which is UTF-16LE in the SA payload, in 8-bit form (so does racoon), and all tokens of its sender.
    """

    def __init__(self, kerberos: Kerberos, peer: str, *, initiator: bool) -> None:
        self._kerberos = kerberos
        self._peer = peer
        self._initiator = initiator
        self._context: GssContext | None = None
        self._outgoing: bytes | None = None
        self._steps = 0
        self._own_tokens = b""
        self._peer_tokens = b""
        self._last_token = b""

    def skeyid(self, algorithm: Hash, nonces: tuple[bytes, bytes], shared: bytes) -> bytes:
        return keys.skeyid_signature(algorithm, *nonces, shared)

    def hear(self, payloads: Payloads) -> None:
        if not wire.every(payloads, wire.GssToken):
            return
        token = wire.only(payloads, wire.GssToken).data
        if self._context is None:
            self._context = self._kerberos.accept()
        if self._context.complete:
            # Message 5 may have come with a token before, but without a good proof.
            if token == self._last_token:
                return
            raise MalformedMessage(Notify.INVALID_PAYLOAD_TYPE, "a GSS token after the last one")
        self._step(self._context, token)
        self._peer_tokens += token
        self._last_token = token

    def _step(self, context: GssContext, token: bytes | None) -> None:
        self._steps += 1
        if self._steps > MAX_GSS_STEPS:
            raise CredentialRefused(FailureReason.KERBEROS, f"more than {MAX_GSS_STEPS} GSS tokens")
        self._outgoing = context.step(token)
        self._own_tokens += self._outgoing or b""

    def answer(self, payloads: Payloads) -> Payloads:
        self.hear(payloads)
        answer = self.say()
        if not answer:
            raise CredentialRefused(FailureReason.KERBEROS, "no answer to a GSS token that wants one")
        return answer

    def say(self) -> Payloads:
        if self._context is None and self._initiator:
            self._context = self._kerberos.initiate(self._peer)
            self._step(self._context, None)
        if self._context is None or not (self._outgoing or self._context.complete):
            raise MalformedMessage(Notify.INVALID_PAYLOAD_TYPE, "a GSS token is missing")
        return self._pending_token()

    def _pending_token(self) -> Payloads:
        token, self._outgoing = self._outgoing, None
        return (wire.GssToken(token),) if token else ()

    @property
    def unfinished(self) -> bool:
        return self._context is None or not self._context.complete

    def covered(self, *, by_us: bool) -> bytes:
        name, tokens = (self._kerberos.name, self._own_tokens) if by_us else (self._peer, self._peer_tokens)
        return name.encode() + tokens

    def prove(self, proof: bytes) -> Payloads:
        return wire.HashData(self._established().wrap(proof)), *self._pending_token()

    def verify(self, now: float, identity: wire.Identification, payloads: Payloads, proof: bytes) -> PeerIdentity:
        context = self._established()
        peer = PeerIdentity(AuthMethod.KERBEROS, context.peer)
        if not compare_digest(context.unwrap(wire.only(payloads, wire.HashData).data), proof):
            raise CredentialRefused(FailureReason.KERBEROS, "the HASH that the peer wrapped is wrong", peer)
        return peer

    def _established(self) -> GssContext:
        if self._context is None or not self._context.complete:
            raise Unverified("the GSS context is not complete")
        return self._context


def authentication(
    policy: MainModePolicy, method: AuthMethod, transform: wire.Transform, payloads: Payloads, *, initiator: bool
) -> Authentication:
    """The strategy for the method that was chosen; `transform` is the chosen one as the peer sent it in `payloads`."""
    if method is AuthMethod.RSA_SIGNATURES:
        assert policy.certificates is not None
        return RsaSignatures(policy.certificates, payloads)
    if method is AuthMethod.KERBEROS:
        assert policy.kerberos is not None
        return KerberosTokens(policy.kerberos, _gss_name(transform) or "", initiator=initiator)
    return PresharedKey(policy.preshared_key)


# The GSS endpoint name in the SA payload


def with_gss_name(sa: wire.SecurityAssociation, name: str | None) -> wire.SecurityAssociation:
    """An SA payload whose Kerberos transforms carry our name, if there is one, in place of the peer's."""
    if name is None:
        return sa
    own = wire.Attribute(MainModeAttribute.GSS_NAME, name.encode("utf-16-le"), variable=True)

    def named(transform: wire.Transform) -> wire.Transform:
        if not _by_kerberos(transform):
            return transform
        others = tuple(attribute for attribute in transform.attributes if attribute.type != own.type)
        return wire.Transform(transform.number, transform.identifier, (*others, own))

    return _each_proposal(sa, lambda transforms: tuple(map(named, transforms)))


def without_nameless(sa: wire.SecurityAssociation) -> wire.SecurityAssociation:
    """An SA payload without the transforms of method 65001 that lack a GSS name: XAUTH has that number, too."""
    return _each_proposal(
        sa,
        lambda transforms: tuple(t for t in transforms if not _by_kerberos(t) or _gss_name(t) is not None),
    )


def _each_proposal(
    sa: wire.SecurityAssociation, change: Callable[[tuple[wire.Transform, ...]], tuple[wire.Transform, ...]]
) -> wire.SecurityAssociation:
    return wire.SecurityAssociation(tuple(proposal.having(*change(proposal.transforms)) for proposal in sa.proposals))


def _by_kerberos(transform: wire.Transform) -> bool:
    return any(
        attribute.type == MainModeAttribute.AUTHENTICATION and attribute.number == AuthMethod.KERBEROS
        for attribute in transform.attributes
    )


def _gss_name(transform: wire.Transform) -> str | None:
    for attribute in transform.attributes:
        if attribute.type == MainModeAttribute.GSS_NAME:
            try:
                return attribute.value.decode("utf-16-le")
            except UnicodeDecodeError:
                return None
    return None
