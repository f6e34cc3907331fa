"""Quick Mode offers as proposals (RFC 2408 section 4.2, RFC 2407 sections 4.4 and 4.5), and the choice among them.

Proposals with one number belong together: AH around ESP is two of them, each with the SPI of its own SA. Proposals
with other numbers are alternatives, and so are the transforms of one proposal.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from functools import lru_cache
from itertools import groupby, islice, product

from ipsec_core.errors import NegotiationError
from ipsec_core.ike.failures import ProposalMismatch
from ipsec_core.ike.iana import (
    AhTransform,
    AuthAlgorithm,
    Encapsulation,
    EspTransform,
    Group,
    LifeType,
    Protocol,
    QuickModeAttribute,
)
from ipsec_core.ike.offers import QuickModeOffer, life_attributes, mismatch, read_attributes
from ipsec_core.ike.values import value
from ipsec_core.ike.wire import Attribute, Proposal, Reader, SecurityAssociation, Transform

# RFC 2407 section 4.5: what a proposal without a lifetime means.
DEFAULT_SECONDS = 28_800
# Offers of a peer that are looked at to say why none is ours.
MAX_COMPARED = 256

_WORDS = {
    "protocols": "Phase II protocol",
    "transform": "Phase II ESP Algorithm",
    "ah": "Phase II AH Algorithm",
    "key_bits": "Phase II Key Length",
    "integrity": "HMAC Algorithm",
    "encapsulation": "Encapsulation Mode",
    "pfs_group": "Phase II DH group",
}


@value
class Part:
    """What one transform says: the share of one protocol in an offer. Lifetimes are no ground for refusal."""

    protocol: Protocol
    identifier: AhTransform | EspTransform
    integrity: AuthAlgorithm | None
    key_bits: int
    encapsulation: Encapsulation
    pfs_group: Group | None
    lifetime_seconds: int = field(compare=False)
    lifetime_kilobytes: int = field(compare=False)


def _ah_integrity(transform: AhTransform) -> AuthAlgorithm:
    """The HMAC attribute that has to come with an AH transform (RFC 2407 section 4.4.3, RFC 4868 section 4)."""
    return AuthAlgorithm[f"HMAC_{transform.name}"]


def parts_of(offer: QuickModeOffer) -> tuple[Part, ...]:
    """AH first."""
    rest = (offer.encapsulation, offer.pfs_group, offer.lifetime_seconds, offer.lifetime_kilobytes)
    parts: tuple[Part, ...] = ()
    if offer.ah is not None:
        parts = (Part(Protocol.AH, offer.ah, _ah_integrity(offer.ah), 0, *rest),)
    if offer.transform is not None:
        parts += (Part(Protocol.ESP, offer.transform, offer.integrity, offer.key_bits, *rest),)
    return parts


def offer_of(parts: Iterable[Part]) -> QuickModeOffer | None:
    """The offer that transforms of one bundle make; None if they contradict each other or ask for what we cannot do."""
    by_protocol = {part.protocol: part for part in parts}
    ah, esp = by_protocol.get(Protocol.AH), by_protocol.get(Protocol.ESP)
    first = ah or esp
    if first is None or any(
        (part.encapsulation, part.pfs_group) != (first.encapsulation, first.pfs_group) for part in by_protocol.values()
    ):
        return None
    try:
        return QuickModeOffer(
            EspTransform(esp.identifier) if esp else None,
            esp.integrity if esp else None,
            first.encapsulation,
            esp.key_bits if esp else 0,
            min(part.lifetime_seconds for part in by_protocol.values()),
            shortest_volume(part.lifetime_kilobytes for part in by_protocol.values()),
            first.pfs_group,
            AhTransform(ah.identifier) if ah else None,
        )
    except NegotiationError:
        return None


def shortest_volume(kilobytes: Iterable[int]) -> int:
    """The smallest limit by volume, where 0 is none."""
    return min((limit for limit in kilobytes if limit), default=0)


# Transforms


def lifetimes(seconds: int, kilobytes: int) -> tuple[Attribute, ...]:
    """Life type and duration of a pair of SAs, as a transform or a RESPONDER-LIFETIME notify has them."""
    names = QuickModeAttribute
    attributes: tuple[Attribute, ...] = life_attributes(names.LIFE_TYPE, names.LIFE_DURATION, LifeType.SECONDS, seconds)
    if kilobytes:
        attributes += life_attributes(names.LIFE_TYPE, names.LIFE_DURATION, LifeType.KILOBYTES, kilobytes)
    return attributes


def parse_lifetimes(data: bytes) -> tuple[int, int]:
    """Seconds and kilobytes in the data of a RESPONDER-LIFETIME notify, 0 for what is not there."""
    attributes = Attribute.parse_all(Reader(data))
    _, lives = read_attributes(attributes, QuickModeAttribute.LIFE_TYPE, QuickModeAttribute.LIFE_DURATION)
    return lives.get(LifeType.SECONDS, 0), lives.get(LifeType.KILOBYTES, 0)


def encode_part(part: Part, number: int) -> Transform:
    """Lifetimes first, seconds and kilobytes, as the Windows family sends them."""
    names = QuickModeAttribute
    attributes = [*lifetimes(part.lifetime_seconds, part.lifetime_kilobytes)]
    if part.pfs_group is not None:
        attributes.append(Attribute.basic(names.GROUP, part.pfs_group))
    attributes.append(Attribute.basic(names.ENCAPSULATION, part.encapsulation))
    if part.integrity is not None:
        attributes.append(Attribute.basic(names.AUTHENTICATION, part.integrity))
    if part.key_bits:
        attributes.append(Attribute.basic(names.KEY_LENGTH, part.key_bits))
    return Transform(number, part.identifier, tuple(attributes))


@lru_cache(maxsize=64)
def parse_part(protocol: int, transform: Transform) -> Part | None:
    """What a transform says, or None if there is something in it that we do not know."""
    names = QuickModeAttribute
    values, lives = read_attributes(transform.attributes, names.LIFE_TYPE, names.LIFE_DURATION)
    try:
        part = Part(
            Protocol(protocol),
            (AhTransform if protocol == Protocol.AH else EspTransform)(transform.identifier),
            AuthAlgorithm(values[names.AUTHENTICATION]) if names.AUTHENTICATION in values else None,
            values.get(names.KEY_LENGTH, 0),
            Encapsulation(values[names.ENCAPSULATION]),
            Group(values[names.GROUP]) if names.GROUP in values else None,
            lives.get(LifeType.SECONDS, DEFAULT_SECONDS),
            lives.get(LifeType.KILOBYTES, 0),
        )
    except (KeyError, ValueError):
        return None
    if isinstance(part.identifier, AhTransform) and part.integrity is not _ah_integrity(part.identifier):
        return None
    return part


# Proposals


def quick_mode_proposal(offers: Iterable[QuickModeOffer], spis: Mapping[Protocol, bytes]) -> SecurityAssociation:
    """Neighbours of one protocol are transforms of one proposal, each AH around ESP has a number of its own.

    All proposals of a protocol name the same inbound SPI of ours: only one of them is going to be.
    """
    proposals: list[Proposal] = []
    number = 0
    for protocols, neighbours in groupby(offers, key=lambda offer: offer.protocols):
        together = list(neighbours)
        for alternatives in [together] if len(protocols) == 1 else [[offer] for offer in together]:
            number += 1
            for place, protocol in enumerate(protocols):
                transforms = tuple(encode_part(parts_of(offer)[place], n) for n, offer in enumerate(alternatives, 1))
                proposals.append(Proposal(number, protocol, spis[protocol], transforms))
    return SecurityAssociation(tuple(proposals))


_Parsed = tuple[Proposal, list[Part | None]]


def _bundles(sa: SecurityAssociation) -> list[list[_Parsed]]:
    """The proposals by number, with what each transform says; without those of protocols that we do not know."""
    numbers: dict[int, list[Proposal]] = {}
    for proposal in sa.proposals:
        numbers.setdefault(proposal.number, []).append(proposal)
    bundles = []
    for proposals in numbers.values():
        protocols = {proposal.protocol for proposal in proposals}
        if len(protocols) == len(proposals) and protocols <= {Protocol.AH, Protocol.ESP}:
            bundles.append(
                [
                    (proposal, [parse_part(proposal.protocol, transform) for transform in proposal.transforms])
                    for proposal in proposals
                ]
            )
    return bundles


def quick_mode_offers(sa: SecurityAssociation) -> list[QuickModeOffer]:
    """What an SA payload offers, in its order: at most `MAX_COMPARED`, without those that we cannot do."""
    combinations = (
        offer_of(part for part in parts if part)
        for bundle in _bundles(sa)
        for parts in product(*(parts for _, parts in bundle))
        if None not in parts
    )
    return [offer for offer in islice(combinations, MAX_COMPARED) if offer]


@value
class Choice:
    """`proposals` are the peer's, cut down to one transform each, in its order and under its SPIs.

    `offer` is what was agreed; `shortened` tells whether one of its lifetimes is below the proposed one.
    """

    proposals: tuple[Proposal, ...]
    offer: QuickModeOffer
    shortened: bool


def choose_quick_mode(sa: SecurityAssociation, offers: Sequence[QuickModeOffer]) -> Choice | None:
    """The first of the initiator's proposals that is among `offers`; None if there is none."""
    for bundle in _bundles(sa):
        found = [(ranks, offer) for offer in offers if (ranks := _find(bundle, offer)) is not None]
        if found:
            ranks, offer = min(found, key=lambda item: item[0])
            return _agree(bundle, ranks, offer)
    return None


def _find(bundle: list[_Parsed], offer: QuickModeOffer) -> tuple[int, ...] | None:
    """Which transform of each proposal makes up `offer`."""
    wanted = {part.protocol: part for part in parts_of(offer)}
    if wanted.keys() != {proposal.protocol for proposal, _ in bundle}:
        return None
    try:
        return tuple(parts.index(wanted[Protocol(proposal.protocol)]) for proposal, parts in bundle)
    except ValueError:
        return None


def _agree(bundle: list[_Parsed], ranks: tuple[int, ...], offer: QuickModeOffer) -> Choice:
    chosen = [(proposal, rank, parts[rank]) for (proposal, parts), rank in zip(bundle, ranks, strict=True)]
    theirs = [part for _, _, part in chosen if part]
    seconds = [part.lifetime_seconds for part in theirs]
    volumes = [part.lifetime_kilobytes for part in theirs]
    agreed = offer.with_lifetimes(
        min(offer.lifetime_seconds, *seconds), shortest_volume((offer.lifetime_kilobytes, *volumes))
    )
    return Choice(
        tuple([proposal.having(proposal.transforms[rank]) for proposal, rank, _ in chosen]),
        agreed,
        any(agreed.lifetime_seconds < n for n in seconds) or any(agreed.lifetime_kilobytes != n for n in volumes),
    )


def is_answer(sa: SecurityAssociation) -> bool:
    """Whether an SA payload is an answer: one bundle with one transform for each protocol (RFC 2408 section 4.2)."""
    return len({proposal.number for proposal in sa.proposals}) == 1 and all(
        len(proposal.transforms) == 1 for proposal in sa.proposals
    )


def quick_mode_mismatch(sa: SecurityAssociation, offers: Sequence[QuickModeOffer]) -> ProposalMismatch | None:
    """What event 546 should say about an SA payload from which nothing could be chosen."""
    return mismatch(_WORDS, offers, quick_mode_offers(sa))
