"""ISAKMP messages as values: parse and encode (RFC 2408 section 3).

`parse_header` and `parse_payloads` raise `MalformedMessage` for anything that is not exactly one well-formed message.
The parser is strict about reserved fields and lengths, so that encoding a parsed payload gives the same bytes again;
the HASH computations of RFC 2409 section 5 depend on that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache, partial
from struct import Struct
from typing import Any, ClassVar, TypeVar

from ipsec_core.ike.failures import MalformedMessage
from ipsec_core.ike.iana import DOI_IPSEC, SITUATION_IDENTITY_ONLY, Flags, Notify, PayloadType
from ipsec_core.ike.values import value

HEADER_LENGTH = 28
COOKIE_LENGTH = 8
NO_COOKIE = bytes(COOKIE_LENGTH)
VERSION = 0x10
MAX_PAYLOADS = 64
MAX_PROPOSALS = 64
MAX_TRANSFORMS = 128
MAX_ATTRIBUTES = 32
MAX_SPIS = 256


_GENERIC = Struct(">BBH")
_ATTRIBUTE = Struct(">HH")
_TRANSFORM_BODY = Struct(">BBH")
_TRANSFORM = Struct(">BBHBBH")
_PROPOSAL_BODY = Struct(">BBBB")
_PROPOSAL = Struct(">BBHBBBB")
_SITUATION = Struct(">II")
_IDENTIFICATION = Struct(">BBH")
_HEADER = Struct(">8s8sBBBBII")


class Reader:
    """A cursor over untrusted bytes. Every read is bounds-checked; an overrun raises MalformedMessage(`notify`)."""

    __slots__ = ("_data", "_end", "_position", "notify")

    def __init__(self, data: bytes, notify: Notify = Notify.PAYLOAD_MALFORMED) -> None:
        self._data = data
        self._position = 0
        self._end = len(data)
        self.notify = notify

    @property
    def position(self) -> int:
        return self._position

    @property
    def remaining(self) -> int:
        return self._end - self._position

    def take(self, length: int) -> bytes:
        start = self._position
        end = start + length
        if not start <= end <= self._end:
            raise self.malformed(f"{length} bytes wanted at offset {start}, {self._end - start} left")
        self._position = end
        return self._data[start:end]

    def rest(self) -> bytes:
        start = self._position
        self._position = self._end
        return self._data[start:]

    def number(self, length: int) -> int:
        return int.from_bytes(self.take(length))

    def fields(self, form: Struct) -> tuple[Any, ...]:
        """Several fixed fields at once."""
        start = self._position
        end = start + form.size
        if end > self._end:
            raise self.malformed(f"{form.size} bytes wanted at offset {start}, {self._end - start} left")
        self._position = end
        return form.unpack_from(self._data, start)

    def chained(self) -> tuple[int, bytes]:
        """The generic header of RFC 2408 section 3.2 and what it is about: the type that follows, the body."""
        following, reserved, length = self.fields(_GENERIC)
        if reserved:
            raise self.malformed("a reserved field is not zero")
        return following, self.take(length - 4)

    def header(self) -> tuple[int, Reader]:
        """As `chained`, with a reader of the body."""
        following, body = self.chained()
        return following, Reader(body, self.notify)

    def zero(self, length: int) -> None:
        """A RESERVED field. RFC 2408 section 5.3: other values make the payload malformed."""
        if any(self.take(length)):
            raise self.malformed("a reserved field is not zero")

    def finish(self) -> None:
        if self._position != self._end:
            raise self.malformed(f"{self.remaining} bytes too many")

    def malformed(self, text: str) -> MalformedMessage:
        return MalformedMessage(self.notify, text)


@value
class Attribute:
    """A data attribute, RFC 2408 section 3.3: two bytes of value (TV), or any length if `variable` (TLV)."""

    type: int
    value: bytes
    variable: bool = False

    @classmethod
    def basic(cls, kind: int, number: int) -> Attribute:
        return cls(kind, number.to_bytes(2))

    @classmethod
    def long(cls, kind: int, number: int) -> Attribute:
        """A number as four bytes of variable attribute, the way Windows writes life durations."""
        return cls(kind, number.to_bytes(4), variable=True)

    @property
    def number(self) -> int:
        return int.from_bytes(self.value)

    def encode(self) -> bytes:
        if self.variable:
            return _ATTRIBUTE.pack(self.type, len(self.value)) + self.value
        return (0x8000 | self.type).to_bytes(2) + self.value

    @classmethod
    def parse_all(cls, reader: Reader) -> tuple[Attribute, ...]:
        """Attributes up to the end."""
        attributes: list[Attribute] = []
        while reader.remaining:
            if len(attributes) == MAX_ATTRIBUTES:
                raise reader.malformed(f"more than {MAX_ATTRIBUTES} attributes")
            kind, word = reader.fields(_ATTRIBUTE)
            if kind & 0x8000:
                attributes.append(cls(kind & 0x7FFF, word.to_bytes(2)))
            else:
                attributes.append(cls(kind, reader.take(word), True))
        return tuple(attributes)


@value
class Transform:
    """RFC 2408 section 3.6."""

    number: int
    identifier: int
    attributes: tuple[Attribute, ...] = ()

    def encode(self, following: int) -> bytes:
        body = b"".join([attribute.encode() for attribute in self.attributes])
        return _TRANSFORM.pack(following, 0, 8 + len(body), self.number, self.identifier, 0) + body

    @classmethod
    def parse(cls, reader: Reader) -> Transform:
        number, identifier, reserved = reader.fields(_TRANSFORM_BODY)
        if reserved:
            raise reader.malformed("a reserved field is not zero")
        return cls(number, identifier, Attribute.parse_all(reader))


@lru_cache(maxsize=64)
def _transform(body: bytes, notify: Notify) -> Transform:
    """The same few transforms come in every negotiation."""
    return Transform.parse(Reader(body, notify))


@value
class Proposal:
    """RFC 2408 section 3.5. Proposals with one number belong together (a logical AND)."""

    number: int
    protocol: int
    spi: bytes
    transforms: tuple[Transform, ...]

    def having(self, *transforms: Transform) -> Proposal:
        """This proposal with other transforms."""
        return Proposal(self.number, self.protocol, self.spi, transforms)

    def encode(self, following: int) -> bytes:
        last = len(self.transforms) - 1
        body = self.spi + b"".join(
            [
                transform.encode(PayloadType.TRANSFORM if index < last else PayloadType.NONE)
                for index, transform in enumerate(self.transforms)
            ]
        )
        fields = self.number, self.protocol, len(self.spi), len(self.transforms)
        return _PROPOSAL.pack(following, 0, 8 + len(body), *fields) + body

    @classmethod
    def parse(cls, reader: Reader) -> Proposal:
        number, protocol, spi_size, count = reader.fields(_PROPOSAL_BODY)
        if count > MAX_TRANSFORMS:
            raise reader.malformed(f"more than {MAX_TRANSFORMS} transforms")
        spi = reader.take(spi_size)
        transforms = []
        for left in range(count, 0, -1):
            following, transform = reader.chained()
            if following != (PayloadType.TRANSFORM if left > 1 else PayloadType.NONE):
                raise reader.malformed("TRANSFORM chain does not agree with its count")
            transforms.append(_transform(transform, reader.notify))
        reader.finish()
        return cls(number, protocol, spi, tuple(transforms))


@value
class SecurityAssociation:
    """SA payload of the IPsec DOI with SIT_IDENTITY_ONLY, RFC 2408 section 3.4 and RFC 2407 section 4.6.1."""

    TYPE: ClassVar[PayloadType] = PayloadType.SA
    proposals: tuple[Proposal, ...]

    def body(self) -> bytes:
        last = len(self.proposals) - 1
        return _SITUATION.pack(DOI_IPSEC, SITUATION_IDENTITY_ONLY) + b"".join(
            [
                proposal.encode(PayloadType.PROPOSAL if index < last else PayloadType.NONE)
                for index, proposal in enumerate(self.proposals)
            ]
        )

    @classmethod
    def parse(cls, reader: Reader) -> SecurityAssociation:
        doi, situation = reader.fields(_SITUATION)
        if doi != DOI_IPSEC:
            raise MalformedMessage(Notify.DOI_NOT_SUPPORTED, "SA payload of an unknown DOI")
        if situation != SITUATION_IDENTITY_ONLY:
            raise MalformedMessage(Notify.SITUATION_NOT_SUPPORTED, "SA payload with labelled situation")
        reader.notify = Notify.BAD_PROPOSAL_SYNTAX
        proposals: list[Proposal] = []
        following = reader.remaining
        while following:
            if len(proposals) == MAX_PROPOSALS:
                raise reader.malformed(f"more than {MAX_PROPOSALS} proposals")
            following, proposal = reader.header()
            if following not in (PayloadType.NONE, PayloadType.PROPOSAL):
                raise reader.malformed(f"payload type {following} among proposals")
            proposals.append(Proposal.parse(proposal))
        reader.finish()
        return cls(tuple(proposals))


@value
class KeyExchange:
    """RFC 2408 section 3.7."""

    TYPE: ClassVar[PayloadType] = PayloadType.KEY_EXCHANGE
    data: bytes

    def body(self) -> bytes:
        return self.data


@value
class Identification:
    """RFC 2407 section 4.6.2: type, IP protocol, port (0 = any) and the identity itself."""

    TYPE: ClassVar[PayloadType] = PayloadType.IDENTIFICATION
    kind: int
    protocol: int
    port: int
    data: bytes

    def body(self) -> bytes:
        return _IDENTIFICATION.pack(self.kind, self.protocol, self.port) + self.data

    @classmethod
    def parse(cls, reader: Reader) -> Identification:
        kind, protocol, port = reader.fields(_IDENTIFICATION)
        return cls(kind, protocol, port, reader.rest())


@value
class Certificate:
    """CERT payload, RFC 2408 section 3.9: what `encoding` (`CertificateEncoding`) says, a certificate or a CRL."""

    TYPE: ClassVar[PayloadType] = PayloadType.CERTIFICATE
    encoding: int
    data: bytes

    def body(self) -> bytes:
        return bytes((self.encoding,)) + self.data

    @classmethod
    def parse(cls, reader: Reader) -> Certificate:
        return cls(reader.number(1), reader.rest())


@value
class CertificateRequest:
    """CERTREQ payload, RFC 2408 section 3.10: the DER name of an authority, empty for any."""

    TYPE: ClassVar[PayloadType] = PayloadType.CERTIFICATE_REQUEST
    encoding: int
    authority: bytes

    def body(self) -> bytes:
        return bytes((self.encoding,)) + self.authority

    @classmethod
    def parse(cls, reader: Reader) -> CertificateRequest:
        return cls(reader.number(1), reader.rest())


@value
class HashData:
    """HASH payload, RFC 2408 section 3.11."""

    TYPE: ClassVar[PayloadType] = PayloadType.HASH
    data: bytes

    def body(self) -> bytes:
        return self.data


@value
class Signature:
    """SIG payload, RFC 2408 section 3.12."""

    TYPE: ClassVar[PayloadType] = PayloadType.SIGNATURE
    data: bytes

    def body(self) -> bytes:
        return self.data


@value
class Nonce:
    """RFC 2408 section 3.13; 8 to 256 bytes (RFC 2409 section 5)."""

    TYPE: ClassVar[PayloadType] = PayloadType.NONCE
    data: bytes

    def body(self) -> bytes:
        return self.data

    @classmethod
    def parse(cls, reader: Reader) -> Nonce:
        if not 8 <= reader.remaining <= 256:
            raise reader.malformed(f"nonce of {reader.remaining} bytes, 8 to 256 are allowed")
        return cls(reader.rest())


@value
class Notification:
    """RFC 2408 section 3.14."""

    TYPE: ClassVar[PayloadType] = PayloadType.NOTIFICATION
    protocol: int
    spi: bytes
    notify: int
    data: bytes = b""
    doi: int = DOI_IPSEC

    def body(self) -> bytes:
        fields = bytes((self.protocol, len(self.spi))) + self.notify.to_bytes(2)
        return self.doi.to_bytes(4) + fields + self.spi + self.data

    @classmethod
    def parse(cls, reader: Reader) -> Notification:
        doi, protocol, spi_size, notify = reader.number(4), reader.number(1), reader.number(1), reader.number(2)
        return cls(protocol, reader.take(spi_size), notify, reader.rest(), doi)


@value
class Delete:
    """RFC 2408 section 3.15: SPIs that the sender no longer accepts. They have one size."""

    TYPE: ClassVar[PayloadType] = PayloadType.DELETE
    protocol: int
    spi_size: int
    spis: tuple[bytes, ...]
    doi: int = DOI_IPSEC

    def body(self) -> bytes:
        fields = bytes((self.protocol, self.spi_size)) + len(self.spis).to_bytes(2)
        return self.doi.to_bytes(4) + fields + b"".join(self.spis)

    @classmethod
    def parse(cls, reader: Reader) -> Delete:
        doi, protocol, spi_size, count = reader.number(4), reader.number(1), reader.number(1), reader.number(2)
        if count > MAX_SPIS:
            raise reader.malformed(f"more than {MAX_SPIS} SPIs")
        spis = tuple(reader.take(spi_size) for _ in range(count))
        reader.finish()
        return cls(protocol, spi_size, spis, doi)


@value
class VendorId:
    """RFC 2408 section 3.16."""

    TYPE: ClassVar[PayloadType] = PayloadType.VENDOR_ID
    data: bytes

    def body(self) -> bytes:
        return self.data


@value
class GssToken:
    """A token of GSS-API, draft-ietf-ipsec-isakmp-gss-auth-07."""

    TYPE: ClassVar[PayloadType] = PayloadType.GSS_TOKEN
    data: bytes

    def body(self) -> bytes:
        return self.data


@value
class NatDetection:
    """NAT-D, RFC 3947 section 3.2: the hash of an address and a port. `TYPE` tells RFC from draft (NAT_D_DRAFT)."""

    TYPE: PayloadType
    data: bytes

    def body(self) -> bytes:
        return self.data


@value
class NatOriginalAddress:
    """NAT-OA, RFC 3947 section 5.2: `kind` is an `IdType`. `TYPE` tells RFC from draft (NAT_OA_DRAFT)."""

    TYPE: PayloadType
    kind: int
    address: bytes

    def body(self) -> bytes:
        return bytes((self.kind, 0, 0, 0)) + self.address

    @classmethod
    def parse(cls, kind: PayloadType, reader: Reader) -> NatOriginalAddress:
        identity = reader.number(1)
        reader.zero(3)
        return cls(kind, identity, reader.rest())


@value
class Opaque:
    """A payload of a type that this codec does not look into (private types)."""

    TYPE: int
    data: bytes

    def body(self) -> bytes:
        return self.data


Payload = (
    SecurityAssociation
    | KeyExchange
    | Identification
    | Certificate
    | CertificateRequest
    | HashData
    | Signature
    | Nonce
    | Notification
    | Delete
    | VendorId
    | GssToken
    | NatDetection
    | NatOriginalAddress
    | Opaque
)

AnyPayload = TypeVar("AnyPayload", bound=Payload)

# Those without a structure of their own.
_PLAIN: dict[int, Callable[[bytes], Payload]] = {
    KeyExchange.TYPE: KeyExchange,
    HashData.TYPE: HashData,
    Signature.TYPE: Signature,
    VendorId.TYPE: VendorId,
    GssToken.TYPE: GssToken,
    PayloadType.NAT_D: partial(NatDetection, PayloadType.NAT_D),
    PayloadType.NAT_D_DRAFT: partial(NatDetection, PayloadType.NAT_D_DRAFT),
}
_PARSERS: dict[int, Callable[[Reader], Payload]] = {
    SecurityAssociation.TYPE: SecurityAssociation.parse,
    Identification.TYPE: Identification.parse,
    Certificate.TYPE: Certificate.parse,
    CertificateRequest.TYPE: CertificateRequest.parse,
    Nonce.TYPE: Nonce.parse,
    Notification.TYPE: Notification.parse,
    Delete.TYPE: Delete.parse,
    PayloadType.NAT_OA: lambda reader: NatOriginalAddress.parse(PayloadType.NAT_OA, reader),
    PayloadType.NAT_OA_DRAFT: lambda reader: NatOriginalAddress.parse(PayloadType.NAT_OA_DRAFT, reader),
}


# All sets of flags that there are: a look-up costs less than making one anew for every message.
_FLAGS = tuple(map(Flags, range(8)))
_ENCRYPTED = frozenset(flags for flags in _FLAGS if flags & Flags.ENCRYPTION)


@value
class Header:
    """RFC 2408 section 3.1 without the length, which follows from the message."""

    initiator_cookie: bytes
    responder_cookie: bytes
    exchange: int
    flags: Flags = Flags.NONE
    message_id: int = 0
    next_payload: int = PayloadType.NONE

    @property
    def encrypted(self) -> bool:
        return self.flags in _ENCRYPTED

    def encode(self, body_length: int) -> bytes:
        return _HEADER.pack(
            self.initiator_cookie,
            self.responder_cookie,
            self.next_payload,
            VERSION,
            self.exchange,
            self.flags,
            self.message_id,
            HEADER_LENGTH + body_length,
        )


def parse_header(data: bytes) -> Header:
    """The header of one whole datagram; its length field must be the length of `data`."""
    if len(data) < HEADER_LENGTH:
        raise MalformedMessage(Notify.PAYLOAD_MALFORMED, f"{len(data)} bytes, a header has {HEADER_LENGTH}")
    fields = _HEADER.unpack_from(data)
    initiator_cookie, responder_cookie, next_payload, version, exchange, flags, message_id, length = fields
    if version >> 4 != VERSION >> 4:
        raise MalformedMessage(Notify.INVALID_MAJOR_VERSION, f"version {version >> 4}.{version & 15}")
    if version & 15:
        raise MalformedMessage(Notify.INVALID_MINOR_VERSION, f"version {version >> 4}.{version & 15}")
    if flags >= len(_FLAGS):
        raise MalformedMessage(Notify.INVALID_FLAGS, f"flags {flags:#04x}")
    if length != len(data):
        raise MalformedMessage(Notify.UNEQUAL_PAYLOAD_LENGTHS, f"length {length} in a datagram of {len(data)} bytes")
    if initiator_cookie == NO_COOKIE:
        raise MalformedMessage(Notify.INVALID_COOKIE, "initiator cookie is zero")
    return Header(initiator_cookie, responder_cookie, exchange, _FLAGS[flags], message_id, next_payload)


def parse_payloads(first: int, data: bytes) -> tuple[tuple[Payload, ...], int]:
    """The payload chain in `data` that begins with type `first`, and the offset where it ends (padding may follow)."""
    reader = Reader(data)
    payloads: list[Payload] = []
    kind = first
    while kind:  # not PayloadType.NONE
        if len(payloads) == MAX_PAYLOADS:
            raise reader.malformed(f"more than {MAX_PAYLOADS} payloads")
        following, body = reader.chained()
        if kind in _PLAIN:
            payloads.append(_PLAIN[kind](body))
        elif kind in _PARSERS:
            payloads.append(_PARSERS[kind](Reader(body)))
        else:
            payloads.append(Opaque(kind, body))
        kind = following
    return tuple(payloads), reader.position


def parse_clear(header: Header, data: bytes) -> tuple[Payload, ...]:
    """The payloads of a whole message that is not encrypted."""
    body = data[HEADER_LENGTH:]
    payloads, end = parse_payloads(header.next_payload, body)
    # Openswan and its heirs round clear messages up to four bytes; more than that is no padding.
    if len(body) - end > 3:
        raise MalformedMessage(Notify.UNEQUAL_PAYLOAD_LENGTHS, f"{len(body) - end} bytes after the last payload")
    return payloads


def first_body(message: bytes) -> bytes:
    """The body of the first payload of a whole message that `parse_clear` has accepted."""
    length = int.from_bytes(message[HEADER_LENGTH + 2 : HEADER_LENGTH + 4])
    return message[HEADER_LENGTH + 4 : HEADER_LENGTH + length]


def encode_payloads(payloads: tuple[Payload, ...], following: int = PayloadType.NONE, rest: bytes = b"") -> bytes:
    """The chain of `payloads`, in front of `rest`, which begins with a payload of the type `following`.

    The type of the first goes into the message header.
    """
    for payload in reversed(payloads):
        body = payload.body()
        rest = _GENERIC.pack(following, 0, 4 + len(body)) + body + rest
        following = payload.TYPE
    return rest


def encode_clear(header: Header, payloads: tuple[Payload, ...]) -> bytes:
    """A whole message that is not encrypted. `header.next_payload` is what `first_type` says."""
    body = encode_payloads(payloads)
    return header.encode(len(body)) + body


def first_type(payloads: tuple[Payload, ...]) -> int:
    return payloads[0].TYPE if payloads else PayloadType.NONE


def every(payloads: Iterable[Payload], kind: type[AnyPayload]) -> tuple[AnyPayload, ...]:
    """The payloads of one kind, in their order."""
    return tuple([payload for payload in payloads if isinstance(payload, kind)])


def only(payloads: Iterable[Payload], kind: type[AnyPayload]) -> AnyPayload:
    """The one payload of a kind; MalformedMessage if it is missing or repeated."""
    found = every(payloads, kind)
    if len(found) != 1:
        raise MalformedMessage(Notify.INVALID_PAYLOAD_TYPE, f"{len(found)} payloads of {kind.__name__}, 1 is needed")
    return found[0]
