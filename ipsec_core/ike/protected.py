"""Messages under an established Main Mode SA: HASH first, then encrypted (RFC 2409 sections 5.5 and 5.7)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from hmac import compare_digest

from ipsec_core.ike import wire
from ipsec_core.ike.failures import MalformedMessage, Unverified
from ipsec_core.ike.iana import ExchangeType, Flags, PayloadType
from ipsec_core.ike.keys import Session
from ipsec_core.ike.values import value


@value
class Opened:
    """A decrypted message: its HASH, the payloads after that, and those as bytes, which is what the HASH covers."""

    proof: bytes
    payloads: tuple[wire.Payload, ...]
    rest: bytes

    def verify(self, expected: bytes) -> None:
        if not compare_digest(self.proof, expected):
            raise Unverified("HASH is wrong")


def seal(
    session: Session,
    exchange: ExchangeType,
    message_id: int,
    iv: bytes,
    proof: Callable[[bytes], bytes],
    payloads: tuple[wire.Payload, ...],
    flags: Flags = Flags.ENCRYPTION,
) -> bytes:
    """A whole message; its last cipher block is the next IV under `message_id`. `proof` makes the HASH for the rest."""
    rest = wire.encode_payloads(payloads)
    clear = wire.encode_payloads((wire.HashData(proof(rest)),), wire.first_type(payloads), rest)
    body = session.cipher.seal(iv, clear)
    header = wire.Header(
        session.initiator_cookie, session.responder_cookie, exchange, flags, message_id, PayloadType.HASH
    )
    return header.encode(len(body)) + body


def unseal(session: Session, header: wire.Header, iv: bytes, data: bytes) -> Opened:
    """Decrypt without believing anything yet. Raises Unverified if no payload chain with a HASH in front comes out."""
    clear = session.cipher.open(iv, data[wire.HEADER_LENGTH :])
    try:
        payloads, end = wire.parse_payloads(header.next_payload, clear)
    except MalformedMessage as error:
        raise Unverified(f"decrypts to no payload chain ({error})") from error
    if not payloads or not isinstance(payloads[0], wire.HashData):
        raise Unverified("no HASH in front")
    return Opened(payloads[0].data, payloads[1:], clear[4 + len(payloads[0].data) : end])


def seal_informational(session: Session, message_id: int, payloads: tuple[wire.Payload, ...]) -> bytes:
    """A protected Informational message (notify or delete)."""
    proof = partial(session.message_hash, message_id)
    return seal(session, ExchangeType.INFORMATIONAL, message_id, session.iv(message_id), proof, payloads)


def open_informational(session: Session, header: wire.Header, data: bytes) -> tuple[wire.Payload, ...]:
    """The payloads of a protected Informational message; Unverified unless it is from the peer."""
    opened = unseal(session, header, session.iv(header.message_id), data)
    opened.verify(session.message_hash(header.message_id, opened.rest))
    return opened.payloads
