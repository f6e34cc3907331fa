"""Security methods and traffic selectors as values; Main Mode offers and identities on the wire.

The proposals of Quick Mode are in `proposals`.

Choice: a responder takes the first of the *initiator's* transforms that its own list contains. RFC 2408 section 4.2
leaves the choice to the responder but calls the initiator's order its preference. Lifetimes are no ground for refusal;
each end uses the shorter of its own and the offered one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, summarize_address_range

from ipsec_core.errors import NegotiationError
from ipsec_core.ike.failures import MalformedMessage, ProposalMismatch
from ipsec_core.ike.iana import (
    TRANSFORM_KEY_IKE,
    AhTransform,
    AuthAlgorithm,
    AuthMethod,
    Encapsulation,
    Encryption,
    EspTransform,
    Group,
    Hash,
    IdType,
    LifeType,
    MainModeAttribute,
    Notify,
    Protocol,
)
from ipsec_core.ike.values import value
from ipsec_core.ike.wire import Attribute, Identification, Proposal, SecurityAssociation, Transform

DEFAULT_MAIN_MODE_SECONDS = 28_800
AES_KEY_BITS = (128, 192, 256)
MAX_LIFETIME = 0xFFFF_FFFF
# Offers of a peer, whom nobody knows yet, that are looked at to say why none is ours.
MAX_COMPARED = 64


def _check_lifetime(name: str, value: int, minimum: int) -> None:
    if not minimum <= value <= MAX_LIFETIME:
        raise NegotiationError(f"{name}: {value} is outside {minimum}..{MAX_LIFETIME}")


def _check_key_bits(cipher: IntEnum, key_bits: int, *, variable: bool) -> None:
    accepted = AES_KEY_BITS if variable else (0,)
    if key_bits not in accepted:
        raise NegotiationError(f"key_bits of {cipher.name}: {key_bits} is none of {', '.join(map(str, accepted))}")


@dataclass(frozen=True, slots=True)
class MainModeOffer:
    """One key-exchange security method. `key_bits` is for AES only, `lifetime_seconds` at least 1."""

    encryption: Encryption
    hash: Hash
    group: Group
    auth: AuthMethod = AuthMethod.PRESHARED_KEY
    lifetime_seconds: int = DEFAULT_MAIN_MODE_SECONDS
    key_bits: int = 0

    def __post_init__(self) -> None:
        _check_key_bits(self.encryption, self.key_bits, variable=self.encryption is Encryption.AES_CBC)
        _check_lifetime("lifetime_seconds", self.lifetime_seconds, 1)


@dataclass(frozen=True, slots=True)
class QuickModeOffer:
    """One security method: ESP, AH, or AH around ESP (RFC 2401 section 4.5).

    `transform` None is AH alone, `ah` None is ESP alone. `integrity` is that of ESP: None for AH alone, for AES-GCM,
    and for encryption inside AH; encryption with no integrity at all is not offered and not accepted. `key_bits` is for
    AES only. `lifetime_kilobytes` 0 means no limit by volume. `encapsulation` is TUNNEL or TRANSPORT; whether ESP then
    goes in UDP is found out with each peer.
    """

    transform: EspTransform | None
    integrity: AuthAlgorithm | None
    encapsulation: Encapsulation
    key_bits: int = 0
    lifetime_seconds: int = 3600
    lifetime_kilobytes: int = 100_000
    pfs_group: Group | None = None
    ah: AhTransform | None = None

    def __post_init__(self) -> None:
        _check_lifetime("lifetime_seconds", self.lifetime_seconds, 1)
        _check_lifetime("lifetime_kilobytes", self.lifetime_kilobytes, 0)
        if self.transform is None:
            if self.ah is None:
                raise NegotiationError("transform and ah: both None, at least one is needed")
            if self.integrity is not None or self.key_bits:
                raise NegotiationError("integrity and key_bits: they are for ESP, transform is None")
            return
        _check_key_bits(self.transform, self.key_bits, variable=self.transform.variable)
        # RFC 2406 section 3.2: NULL needs an integrity algorithm, also inside AH.
        bare = self.transform.combined or (self.ah is not None and self.transform is not EspTransform.NULL)
        if self.integrity is None and not bare:
            raise NegotiationError(f"integrity of {self.transform.name}: it takes an integrity algorithm")
        if self.integrity is not None and self.transform.combined:
            raise NegotiationError(f"integrity of {self.transform.name}: it takes no integrity algorithm")

    @property
    def protocols(self) -> tuple[Protocol, ...]:
        """AH before ESP: in this order SAs and proposals of a bundle come."""
        return (Protocol.AH,) * (self.ah is not None) + (Protocol.ESP,) * (self.transform is not None)

    def with_lifetimes(self, seconds: int, kilobytes: int) -> QuickModeOffer:
        if (seconds, kilobytes) == (self.lifetime_seconds, self.lifetime_kilobytes):
            return self
        return replace(self, lifetime_seconds=seconds, lifetime_kilobytes=kilobytes)


@value
class TrafficSelector:
    """The traffic of one SA pair as its own end sees it: `source` is the local side. 0 is any protocol, any port."""

    source: IPv4Network
    destination: IPv4Network
    protocol: int = 0
    source_port: int = 0
    destination_port: int = 0

    def mirrored(self) -> TrafficSelector:
        """The same traffic seen from the other end."""
        return TrafficSelector(self.destination, self.source, self.protocol, self.destination_port, self.source_port)

    def covers(self, other: TrafficSelector) -> bool:
        """Whether everything that `other` selects is selected here."""
        return (
            other.source.subnet_of(self.source)
            and other.destination.subnet_of(self.destination)
            and self.protocol in (0, other.protocol)
            and self.source_port in (0, other.source_port)
            and self.destination_port in (0, other.destination_port)
        )

    def __str__(self) -> str:
        ends = f"{self.source}:{self.source_port} -> {self.destination}:{self.destination_port}"
        return f"{ends} protocol {self.protocol}"


# Identification payloads


@lru_cache(maxsize=1024)
def host(address: str) -> IPv4Network:
    """One computer; reading an address costs more than everything else that is done with it."""
    return IPv4Network(address)


def encode_identity(network: IPv4Network, protocol: int = 0, port: int = 0) -> Identification:
    """ID_IPV4_ADDR for a host, ID_IPV4_ADDR_SUBNET otherwise (RFC 2407 section 4.6.2)."""
    if network.prefixlen == 32:
        return Identification(IdType.IPV4_ADDR, protocol, port, network.network_address.packed)
    data = network.network_address.packed + network.netmask.packed
    return Identification(IdType.IPV4_ADDR_SUBNET, protocol, port, data)


def _range(first: IPv4Address, last: IPv4Address) -> IPv4Network:
    """The network from `first` to `last`; ValueError if there is none: the driver's selectors are networks."""
    (network,) = summarize_address_range(first, last)
    return network


def parse_identity(payload: Identification) -> IPv4Network:
    """The network that an identification payload names.

    MalformedMessage for other kinds, IPv6 among them, for holes in a mask and for ranges that are no network.
    """
    try:
        network = _network(payload.kind, payload.data)
    except ValueError:
        network = None
    if network is None:
        raise MalformedMessage(Notify.INVALID_ID_INFORMATION, f"identity of type {payload.kind} is not usable")
    return network


@lru_cache(maxsize=1024)
def _network(kind: int, data: bytes) -> IPv4Network | None:
    """What an identity names; None or ValueError if that is no network."""
    if kind == IdType.IPV4_ADDR:
        return IPv4Network(IPv4Address(data))
    if kind == IdType.IPV4_ADDR_SUBNET and len(data) == 8:
        mask = int.from_bytes(data[4:])
        prefix = 32 - (mask ^ 0xFFFF_FFFF).bit_length()
        network = IPv4Network((data[:4], prefix))
        if int(network.netmask) == mask:
            return network
    if kind == IdType.IPV4_ADDR_RANGE and len(data) == 8:
        return _range(IPv4Address(data[:4]), IPv4Address(data[4:]))
    return None


def encode_selectors(selectors: TrafficSelector) -> tuple[Identification, Identification]:
    """IDci and IDcr of an initiator whose local side is `selectors.source` (RFC 2409 section 5.5)."""
    return (
        encode_identity(selectors.source, selectors.protocol, selectors.source_port),
        encode_identity(selectors.destination, selectors.protocol, selectors.destination_port),
    )


def parse_selectors(initiator: Identification, responder: Identification) -> TrafficSelector:
    """The selectors as the initiator sees them."""
    if initiator.protocol != responder.protocol:
        raise MalformedMessage(Notify.INVALID_ID_INFORMATION, "the two identities name different protocols")
    return TrafficSelector(
        parse_identity(initiator), parse_identity(responder), initiator.protocol, initiator.port, responder.port
    )


# Transforms


def life_attributes(kind: int, duration: int, life: LifeType, value: int) -> tuple[Attribute, Attribute]:
    return Attribute.basic(kind, life), Attribute.long(duration, value)


def read_attributes(
    attributes: Iterable[Attribute], life_type: int, life_duration: int
) -> tuple[dict[int, int], dict[int, int]]:
    """Attribute values and lifetimes by type. Of several values the first counts, unknown ones do no harm.

    A lifetime of zero says as much as none (RFC 2407 section 4.5 leaves it open).
    """
    values: dict[int, int] = {}
    lives: dict[int, int] = {}
    life = 0
    for attribute in attributes:
        if attribute.type == life_type:
            life = attribute.number
        elif attribute.type == life_duration:
            # A duration above 32 bits is as good as the longest that we can write.
            if number := min(attribute.number, MAX_LIFETIME):
                lives.setdefault(life, number)
        elif len(attribute.value) <= 8:
            values.setdefault(attribute.type, attribute.number)
    return values, lives


def encode_main_mode(offer: MainModeOffer, number: int) -> Transform:
    """Attributes in the order that the Windows family sends; the life duration has four bytes."""
    attributes = [
        Attribute.basic(MainModeAttribute.ENCRYPTION, offer.encryption),
        Attribute.basic(MainModeAttribute.HASH, offer.hash),
        Attribute.basic(MainModeAttribute.GROUP, offer.group),
        Attribute.basic(MainModeAttribute.AUTHENTICATION, offer.auth),
        *life_attributes(
            MainModeAttribute.LIFE_TYPE, MainModeAttribute.LIFE_DURATION, LifeType.SECONDS, offer.lifetime_seconds
        ),
    ]
    if offer.key_bits:
        attributes.append(Attribute.basic(MainModeAttribute.KEY_LENGTH, offer.key_bits))
    return Transform(number, TRANSFORM_KEY_IKE, tuple(attributes))


@lru_cache(maxsize=64)
def parse_main_mode(transform: Transform) -> MainModeOffer | None:
    """The offer that a transform makes, or None if there is something in it that we cannot do."""
    if transform.identifier != TRANSFORM_KEY_IKE:
        return None
    values, lives = read_attributes(transform.attributes, MainModeAttribute.LIFE_TYPE, MainModeAttribute.LIFE_DURATION)
    try:
        return MainModeOffer(
            Encryption(values[MainModeAttribute.ENCRYPTION]),
            Hash(values[MainModeAttribute.HASH]),
            Group(values[MainModeAttribute.GROUP]),
            AuthMethod(values[MainModeAttribute.AUTHENTICATION]),
            lives.get(LifeType.SECONDS, DEFAULT_MAIN_MODE_SECONDS),
            values.get(MainModeAttribute.KEY_LENGTH, 0),
        )
    except (KeyError, ValueError, NegotiationError):
        return None


# Proposals of Main Mode


def main_mode_proposal(offers: Iterable[MainModeOffer]) -> SecurityAssociation:
    """One proposal, a transform per offer, no SPI (RFC 2409 section 5)."""
    transforms = tuple(encode_main_mode(offer, number) for number, offer in enumerate(offers, 1))
    return SecurityAssociation((Proposal(1, Protocol.ISAKMP, b"", transforms),))


def _alone(sa: SecurityAssociation, protocol: Protocol) -> list[tuple[Proposal, Transform]]:
    """Every (proposal, transform) of `protocol` that does not come bundled with another protocol."""
    numbers = [proposal.number for proposal in sa.proposals]
    return [
        (proposal, transform)
        for proposal in sa.proposals
        if proposal.protocol == protocol and numbers.count(proposal.number) == 1
        for transform in proposal.transforms
    ]


def _but_its_lifetime(offer: MainModeOffer) -> tuple[int, ...]:
    """What two offers have to have in common."""
    return offer.encryption, offer.hash, offer.group, offer.auth, offer.key_bits


def choose_main_mode(
    sa: SecurityAssociation, offers: Iterable[MainModeOffer]
) -> tuple[SecurityAssociation, MainModeOffer] | None:
    """The answer to the initiator's SA payload and what was agreed; None if the lists have nothing in common."""
    ours: dict[tuple[int, ...], MainModeOffer] = {}
    for offer in offers:
        ours.setdefault(_but_its_lifetime(offer), offer)
    for proposal, transform in _alone(sa, Protocol.ISAKMP):
        theirs = parse_main_mode(transform)
        if theirs and (found := ours.get(_but_its_lifetime(theirs))):
            shorter = found if found.lifetime_seconds <= theirs.lifetime_seconds else theirs
            return SecurityAssociation((proposal.having(transform),)), shorter
    return None


def single_transform(sa: SecurityAssociation) -> bool:
    """Whether an SA payload is an answer: one proposal with one transform (RFC 2408 section 4.2)."""
    return len(sa.proposals) == 1 and len(sa.proposals[0].transforms) == 1


_MAIN_MODE_WORDS = {
    "encryption": "Phase I Encryption Algorithm",
    "key_bits": "Phase I Key Length",
    "hash": "Phase I Hash Algorithm",
    "group": "Phase I Diffie-Hellman Group",
    "auth": "Authentication Method",
}


def _word(value: object) -> str:
    if isinstance(value, tuple):
        return "+".join(map(_word, value))
    return value.name if isinstance(value, IntEnum) else str(value)


def mismatch(words: dict[str, str], ours: Sequence[object], theirs: Sequence[object]) -> ProposalMismatch | None:
    """The first differing attribute of the two offers that are closest to each other."""
    pairs = [
        [
            (name, getattr(mine, name), getattr(other, name))
            for name in words
            if getattr(mine, name) != getattr(other, name)
        ]
        for other in theirs
        if other is not None
        for mine in ours
    ]
    closest = min(pairs, key=len, default=[])
    if not closest:
        return None
    name, expected, received = closest[0]
    return ProposalMismatch(words[name], _word(expected), _word(received))


def main_mode_mismatch(sa: SecurityAssociation, offers: Sequence[MainModeOffer]) -> ProposalMismatch | None:
    """What event 546 should say about an SA payload from which nothing could be chosen."""
    theirs = [parse_main_mode(transform) for _, transform in _alone(sa, Protocol.ISAKMP)[:MAX_COMPARED]]
    return mismatch(_MAIN_MODE_WORDS, offers, theirs)
