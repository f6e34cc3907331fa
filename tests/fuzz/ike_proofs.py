"""Certificates and Kerberos tickets that anybody can check and nobody needs a library for: what IKE does with the true
ones is the same."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha1

from ipsec_core.ike import Claim, CredentialRefused, FailureReason, PeerIdentity
from ipsec_core.ike.iana import AuthMethod

SUBJECT, ROOT = b"subject of ", b"the root"
# What goes to and fro: AP-REQ and AP-REP, and a third token that ends a longer conversation.
TOKENS = (b"AP-REQ", b"AP-REP", b"the end")


def certificate(subject: bytes) -> bytes:
    """As long as a small one."""
    return b"certificate of " + subject + bytes(400)


def signature(digest: bytes) -> bytes:
    return sha1(b"signed" + digest).digest() * 6


class Papers:
    """`ike.Certificates`: a certificate is a sentence, a signature a hash."""

    def __init__(self, local: str) -> None:
        self.subject = SUBJECT + local.encode()

    def requests(self) -> tuple[bytes, ...]:
        return (ROOT,)

    def chain(self, requested: Sequence[bytes]) -> tuple[bytes, ...]:
        if requested and ROOT not in requested:
            raise CredentialRefused(FailureReason.NO_MACHINE_CERTIFICATE, "another root")
        return (certificate(self.subject),)

    def sign(self, digest: bytes) -> bytes:
        return signature(digest)

    def verify(self, now: float, claim: Claim) -> PeerIdentity:
        peer = PeerIdentity(AuthMethod.RSA_SIGNATURES, "peer")
        if not claim.chain or claim.chain[0] != certificate(claim.identity[1]):
            raise CredentialRefused(FailureReason.PEER_CERTIFICATE, "no certificate", peer)
        if claim.signature != signature(claim.digest):
            raise CredentialRefused(FailureReason.INVALID_SIGNATURE, "no signature", peer)
        return peer


class Ticket:
    """`ike.GssContext`: so many tokens in all, two or three."""

    def __init__(self, name: str, tokens: int, *, initiator: bool) -> None:
        self._at = 0 if initiator else 1
        self._tokens = tokens
        self.peer = name
        self.complete = False

    def step(self, token: bytes | None) -> bytes | None:
        expected = TOKENS[self._at - 1] if self._at else None
        if token != expected or self.complete:
            raise CredentialRefused(FailureReason.KERBEROS, "not the token that is due")
        answer = TOKENS[self._at] if self._at < self._tokens else None
        self._at += 2
        # After the last token of all, sent or received, there is nothing to wait for.
        self.complete = self._at > self._tokens
        return answer

    def wrap(self, data: bytes) -> bytes:
        return b"wrapped" + data

    def unwrap(self, data: bytes) -> bytes:
        if not data.startswith(b"wrapped"):
            raise CredentialRefused(FailureReason.KERBEROS, "not wrapped")
        return data[7:]


class Tickets:
    """`ike.Kerberos`."""

    def __init__(self, local: str, tokens: int) -> None:
        self.name = f"host/{local}"
        self._tokens = tokens

    def initiate(self, peer: str) -> Ticket:
        return Ticket(peer, self._tokens, initiator=True)

    def accept(self) -> Ticket:
        return Ticket("", self._tokens, initiator=False)
