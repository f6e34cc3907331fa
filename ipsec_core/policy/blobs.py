"""The `ipsecData` of stored policy objects, byte for byte ([MS-GPIPSEC] 2.2.1; the objects of a real domain).

    GUID of the kind (16)   length (4)   that many bytes   what follows (`tail`: one byte of padding, then sections)

All numbers are little-endian but IP addresses and masks. Every byte of a blob is in its record, reserved ones and what
old systems left in them too, so that `decode` and `encode` are inverse. Texts are kept as stored: UTF-16LE with its
terminator (`text_of`, `bytes_of`). A blob that is too short, or whose counts say more than it holds, is a PolicyError
of one line; the caller puts the object's name in front.
"""

from __future__ import annotations

import struct
import uuid
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Any, ClassVar

from ipsec_core.errors import PolicyError

POLICY_GUID = uuid.UUID("22202163-4F4C-11D1-863B-00A0248D3021")
ISAKMP_GUID = uuid.UUID("80DC20B8-2EC8-11D1-A89E-00A0248D3021")
NFA_GUID = uuid.UUID("11BBAC00-498D-11D1-8639-00A0248D3021")
NEGOTIATION_GUID = uuid.UUID("80DC20B9-2EC8-11D1-A89E-00A0248D3021")
FILTER_GUID = uuid.UUID("80DC20B5-2EC8-11D1-A89E-00A0248D3021")
VERSION_GUID = uuid.UUID("6A1F5C6F-72B7-11D2-ACF0-0060B0ECCA17")

PADDING = b"\0"
NO_TEXT = b"\0\0"
_NO_ADDRESS = IPv4Address(0)


def text_of(stored: bytes) -> str:
    """The text of a stored one, without its terminator; PolicyError when it is no UTF-16."""
    try:
        return stored.decode("utf-16-le").removesuffix("\0")
    except UnicodeDecodeError:
        raise PolicyError("a text is not UTF-16") from None


def bytes_of(text: str) -> bytes:
    """A text as stored: UTF-16LE with a terminator."""
    try:
        return f"{text}\0".encode("utf-16-le")
    except UnicodeEncodeError:
        raise PolicyError("a text has half a surrogate pair; accepted: Unicode text") from None


class _Reader:
    """A blob from its start; what is asked for beyond its end is refused."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, count: int, what: str) -> bytes:
        if count > len(self.data) - self.at:
            left = len(self.data) - self.at
            raise PolicyError(f"{what} at byte {self.at} takes {count} bytes, and {left} are left")
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, what: str) -> int:
        return int.from_bytes(self.take(4, what), "little")

    def text(self, what: str) -> bytes:
        return self.take(self.number(f"length of {what}"), what)

    def unpack(self, layout: struct.Struct, what: str) -> tuple[Any, ...]:
        return layout.unpack(self.take(layout.size, what))

    def count(self, size: int, what: str) -> int:
        """A number of records of at least `size` bytes each, that fit."""
        number = self.number(f"number of {what}")
        if number > (len(self.data) - self.at) // size:
            raise PolicyError(
                f"{number} {what} at byte {self.at} do not fit into the {len(self.data) - self.at} bytes left"
            )
        return number

    @property
    def rest(self) -> bytes:
        return self.take(len(self.data) - self.at, "rest")


def _number(value: int) -> bytes:
    return value.to_bytes(4, "little")


def _counted(text: bytes) -> bytes:
    return _number(len(text)) + text


@dataclass(frozen=True, slots=True)
class PolicyData:
    """Of ipsecPolicy (2.2.1.1.1): seconds between looks at the directory, 0 for the default of 10800."""

    polling_seconds: int
    rest: bytes = b""
    tail: bytes = PADDING
    guid: ClassVar[uuid.UUID] = POLICY_GUID

    @classmethod
    def read(cls, body: _Reader, tail: bytes) -> PolicyData:
        return cls(body.number("polling interval"), body.rest, tail)

    def write(self) -> bytes:
        return _number(self.polling_seconds) + self.rest


_MAIN_MODE = struct.Struct("<4sIIII24sIIII4s")


@dataclass(frozen=True, slots=True)
class MainModeMethod:
    """One offer of Main Mode: cipher 1 DES, 3 (and 2) 3DES, hash 1 MD5, 2 SHA1, group 1, 2, 0x10000001 (2048 bits)."""

    cipher: int
    hash: int
    group: int
    lifetime_seconds: int
    quick_mode_limit: int = 0
    lifetime_kilobytes: int = 0
    key_bits: int = 64
    rounds: int = 8
    version: bytes = bytes(4)
    reserved: bytes = b"\x40" + bytes(23)
    pfs: bytes = bytes(4)

    @classmethod
    def read(cls, data: _Reader) -> MainModeMethod:
        version, cipher, bits, rounds, hash_, reserved, group, limit, kilobytes, seconds, pfs = data.unpack(
            _MAIN_MODE, "Main Mode method"
        )
        return cls(cipher, hash_, group, seconds, limit, kilobytes, bits, rounds, version, reserved, pfs)

    def write(self) -> bytes:
        return _MAIN_MODE.pack(
            self.version,
            self.cipher,
            self.key_bits,
            self.rounds,
            self.hash,
            self.reserved,
            self.group,
            self.quick_mode_limit,
            self.lifetime_kilobytes,
            self.lifetime_seconds,
            self.pfs,
        )


_ISAKMP = struct.Struct("<16s4sII4sII20s")


@dataclass(frozen=True, slots=True)
class IsakmpData:
    """Of ipsecISAKMPPolicy (2.2.1.2.1). Limits of 0 are none, a lifetime of 0 is the default of 28800 s."""

    methods: tuple[MainModeMethod, ...]
    instance: bytes = bytes(16)
    master_pfs: int = 0
    options: int = 0
    quick_mode_limit: int = 0
    lifetime_seconds: int = 0
    reserved: tuple[bytes, bytes, bytes] = (bytes(4), bytes(4), bytes(20))
    rest: bytes = b""
    tail: bytes = PADDING
    guid: ClassVar[uuid.UUID] = ISAKMP_GUID

    @classmethod
    def read(cls, body: _Reader, tail: bytes) -> IsakmpData:
        instance, zero, pfs, options, groups, limit, seconds, zeros = body.unpack(_ISAKMP, "Main Mode settings")
        count = body.count(_MAIN_MODE.size, "Main Mode methods")
        methods = tuple(MainModeMethod.read(body) for _ in range(count))
        return cls(methods, instance, pfs, options, limit, seconds, (zero, groups, zeros), body.rest, tail)

    def write(self) -> bytes:
        zero, groups, zeros = self.reserved
        head = _ISAKMP.pack(
            self.instance,
            zero,
            self.master_pfs,
            self.options,
            groups,
            self.quick_mode_limit,
            self.lifetime_seconds,
            zeros,
        )
        return head + _number(len(self.methods)) + b"".join(method.write() for method in self.methods) + self.rest


@dataclass(frozen=True, slots=True)
class AuthenticationData:
    """A way to authenticate: kind 1 preshared key, 3 certificate, 5 Kerberos; the value as stored."""

    kind: int
    value: bytes = field(default=NO_TEXT, repr=False)


ALL_INTERFACES, LAN_INTERFACES, DIAL_UP_INTERFACES = 0xFFFF_FFFD, 0xFFFF_FFFE, 0xFFFF_FFFF


@dataclass(frozen=True, slots=True)
class NfaData:
    """Of ipsecNFA (2.2.1.3.1), the rule; a preshared key stands in it in clear."""

    authentication: tuple[AuthenticationData, ...]
    interface_type: int = ALL_INTERFACES
    interface_name: bytes = NO_TEXT
    tunnel_endpoint: IPv4Address = _NO_ADDRESS
    is_tunnel: int = 0
    active: int = 1
    endpoint_name: bytes = NO_TEXT
    rest: bytes = b""
    tail: bytes = PADDING
    guid: ClassVar[uuid.UUID] = NFA_GUID

    @classmethod
    def read(cls, body: _Reader, tail: bytes) -> NfaData:
        count = body.count(8, "authentication methods")
        authentication = tuple(
            AuthenticationData(body.number("authentication method"), body.text("authentication method"))
            for _ in range(count)
        )
        interface, name = body.number("interface type"), body.text("interface name")
        endpoint = IPv4Address(body.take(4, "tunnel endpoint"))
        is_tunnel, active = body.number("tunnel flag"), body.number("active flag")
        endpoint_name = body.text("name of the tunnel endpoint")
        return cls(authentication, interface, name, endpoint, is_tunnel, active, endpoint_name, body.rest, tail)

    def write(self) -> bytes:
        methods = (_number(one.kind) + _counted(one.value) for one in self.authentication)
        return b"".join(
            (
                _number(len(self.authentication)),
                *methods,
                _number(self.interface_type),
                _counted(self.interface_name),
                self.tunnel_endpoint.packed,
                _number(self.is_tunnel),
                _number(self.active),
                _counted(self.endpoint_name),
                self.rest,
            )
        )


AH, ESP = 1, 2
_OFFER = struct.Struct("<20I")


@dataclass(frozen=True, slots=True)
class AlgorithmData:
    """One protocol of an offer: `kind` AH (1; algorithm 1 MD5, 2 SHA1) or ESP (2; algorithm 1 DES, 3 3DES, 0 or 2 null,
    integrity 0 none, 1 MD5, 2 SHA1)."""

    algorithm: int = 0
    integrity: int = 0
    kind: int = 0
    key_bits: int = 0
    rounds: int = 0


NO_ALGORITHMS = (AlgorithmData(),) * 3


@dataclass(frozen=True, slots=True)
class QuickModeOfferData:
    """One offer of Quick Mode. The first `count` of three algorithms count; with none it is the fall back to clear."""

    lifetime_seconds: int = 0
    lifetime_kilobytes: int = 0
    options: int = 0
    pfs: int = 0
    count: int = 0
    algorithms: tuple[AlgorithmData, AlgorithmData, AlgorithmData] = NO_ALGORITHMS

    @classmethod
    def read(cls, data: _Reader) -> QuickModeOfferData:
        numbers: tuple[int, ...] = data.unpack(_OFFER, "Quick Mode offer")
        if numbers[4] > 3:
            raise PolicyError(f"a Quick Mode offer has {numbers[4]} algorithms; accepted: 0 to 3")
        first, second, third = (AlgorithmData(*numbers[at : at + 5]) for at in (5, 10, 15))
        seconds, kilobytes, options, pfs, count = numbers[:5]
        return cls(seconds, kilobytes, options, pfs, count, (first, second, third))

    def write(self) -> bytes:
        algorithms = (
            number
            for one in self.algorithms
            for number in (one.algorithm, one.integrity, one.kind, one.key_bits, one.rounds)
        )
        head = (self.lifetime_seconds, self.lifetime_kilobytes, self.options, self.pfs, self.count)
        return _OFFER.pack(*head, *algorithms)


@dataclass(frozen=True, slots=True)
class NegotiationData:
    """Of ipsecNegotiationPolicy (2.2.1.4.1), the filter action: its offers in order of preference."""

    offers: tuple[QuickModeOfferData, ...] = ()
    rest: bytes = b""
    tail: bytes = PADDING
    guid: ClassVar[uuid.UUID] = NEGOTIATION_GUID

    @classmethod
    def read(cls, body: _Reader, tail: bytes) -> NegotiationData:
        count = body.count(_OFFER.size, "Quick Mode offers")
        return cls(tuple(QuickModeOfferData.read(body) for _ in range(count)), body.rest, tail)

    def write(self) -> bytes:
        return _number(len(self.offers)) + b"".join(offer.write() for offer in self.offers) + self.rest


_SELECTORS = struct.Struct("<16sI4s4s4s4s4sIHHBB2s")


@dataclass(frozen=True, slots=True)
class FilterRecord:
    """One filter of a list; addresses and masks as written, protocol and port 0 are any."""

    filter_id: uuid.UUID
    source: IPv4Address
    source_mask: IPv4Address
    destination: IPv4Address
    destination_mask: IPv4Address
    protocol: int = 0
    source_port: int = 0
    destination_port: int = 0
    mirrored: int = 1
    description: bytes = NO_TEXT
    source_name: bytes = NO_TEXT
    destination_name: bytes = NO_TEXT
    tunnel_endpoint: IPv4Address = _NO_ADDRESS
    is_tunnel: int = 0
    special: int = 0
    options: bytes = bytes(2)

    @classmethod
    def read(cls, data: _Reader) -> FilterRecord:
        source_name, destination_name = data.text("source name"), data.text("destination name")
        description = data.text("description of a filter")
        guid, mirrored, *addresses, protocol, source_port, destination_port, is_tunnel, special, options = data.unpack(
            _SELECTORS, "filter"
        )
        source, source_mask, destination, destination_mask, tunnel = (IPv4Address(one) for one in addresses)
        return cls(
            uuid.UUID(bytes_le=guid),
            source,
            source_mask,
            destination,
            destination_mask,
            protocol,
            source_port,
            destination_port,
            mirrored,
            description,
            source_name,
            destination_name,
            tunnel,
            is_tunnel,
            special,
            options,
        )

    def write(self) -> bytes:
        return b"".join(
            (
                *map(_counted, (self.source_name, self.destination_name, self.description)),
                _SELECTORS.pack(
                    self.filter_id.bytes_le,
                    self.mirrored,
                    self.source.packed,
                    self.source_mask.packed,
                    self.destination.packed,
                    self.destination_mask.packed,
                    self.tunnel_endpoint.packed,
                    self.protocol,
                    self.source_port,
                    self.destination_port,
                    self.is_tunnel,
                    self.special,
                    self.options,
                ),
            )
        )


_SMALLEST_FILTER = 3 * 4 + _SELECTORS.size


@dataclass(frozen=True, slots=True)
class FilterData:
    """Of ipsecFilter (2.2.1.5.1), the filter list. Systems disagree about what the length counts: `length_offset` is
    the stored one less the bytes of number and records, 0 in those of Windows 2000 to 2003, -4 in later ones."""

    records: tuple[FilterRecord, ...]
    length_offset: int = 0
    tail: bytes = PADDING
    guid: ClassVar[uuid.UUID] = FILTER_GUID

    def write(self) -> bytes:
        return _number(len(self.records)) + b"".join(record.write() for record in self.records)


@dataclass(frozen=True, slots=True)
class VersionData:
    """Of the ipsecNFA called "Version Information Object", which no policy refers to: who wrote the store, and when."""

    version: int
    time: int
    texts: tuple[bytes, bytes, bytes]  # system, user, remark
    rest: bytes = b""
    tail: bytes = PADDING
    guid: ClassVar[uuid.UUID] = VERSION_GUID

    @classmethod
    def read(cls, body: _Reader, tail: bytes) -> VersionData:
        version, time = body.number("version"), body.number("time")
        texts = (body.text("system"), body.text("user"), body.text("remark"))
        return cls(version, time, texts, body.rest, tail)

    def write(self) -> bytes:
        return _number(self.version) + _number(self.time) + b"".join(map(_counted, self.texts)) + self.rest


_Counted = PolicyData | IsakmpData | NfaData | NegotiationData | VersionData
BlobData = _Counted | FilterData
_KINDS: dict[uuid.UUID, type[_Counted]] = {
    kind.guid: kind for kind in (PolicyData, IsakmpData, NfaData, NegotiationData, VersionData)
}


def decode(data: bytes) -> BlobData:
    """The record of a blob; PolicyError of one line when it is none."""
    reader = _Reader(data)
    guid = uuid.UUID(bytes_le=reader.take(16, "GUID of the kind"))
    length = reader.number("length")
    if guid == FILTER_GUID:
        return _read_filters(reader, length)
    kind = _KINDS.get(guid)
    if kind is None:
        known = ", ".join(f"{{{one}}}".upper() for one in (*_KINDS, FILTER_GUID))
        raise PolicyError(f"{{{str(guid).upper()}}} is not a kind of ipsecData; accepted: {known}")
    body = _Reader(reader.take(length, "what the length counts"))
    return kind.read(body, reader.rest)


def _read_filters(reader: _Reader, length: int) -> FilterData:
    start = reader.at
    count = reader.count(_SMALLEST_FILTER, "filters")
    records = tuple(FilterRecord.read(reader) for _ in range(count))
    offset = length - (reader.at - start)
    if offset not in (0, -4):
        raise PolicyError(f"the length says {length}, and the {count} filters take {reader.at - start} bytes")
    return FilterData(records, offset, reader.rest)


def encode(data: BlobData) -> bytes:
    """The blob of a record."""
    body = data.write()
    length = len(body) + (data.length_offset if isinstance(data, FilterData) else 0)
    return data.guid.bytes_le + _number(length) + body + data.tail
