"""Offers, selectors and identities: values, wire forms and the responder's choice."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipsec_core.errors import NegotiationError
from ipsec_core.ike import offers, proposals, wire
from ipsec_core.ike.failures import MalformedMessage, ProposalMismatch
from ipsec_core.ike.iana import AuthAlgorithm, Encapsulation, Encryption, EspTransform, Group, Hash, Protocol
from ipsec_core.ike.offers import MainModeOffer, QuickModeOffer, TrafficSelector

SPI = {Protocol.AH: b"ahah", Protocol.ESP: b"espe"}
seconds = st.integers(1, 0xFFFF_FFFF)


@st.composite
def main_offers(draw: st.DrawFn) -> MainModeOffer:
    encryption = draw(st.sampled_from(Encryption))
    bits = draw(st.sampled_from([128, 192, 256])) if encryption is Encryption.AES_CBC else 0
    group = draw(st.sampled_from(Group))
    return MainModeOffer(encryption, draw(st.sampled_from(Hash)), group, lifetime_seconds=draw(seconds), key_bits=bits)


@st.composite
def quick_offers(draw: st.DrawFn) -> QuickModeOffer:
    transform = draw(st.sampled_from(EspTransform))
    aes = transform.name.startswith("AES")
    return QuickModeOffer(
        transform,
        None if "GCM" in transform.name else draw(st.sampled_from(AuthAlgorithm)),
        draw(st.sampled_from(Encapsulation)),
        draw(st.sampled_from([128, 192, 256])) if aes else 0,
        draw(seconds),
        draw(st.integers(0, 0xFFFF_FFFF)),
        draw(st.none() | st.sampled_from(Group)),
    )


@st.composite
def networks(draw: st.DrawFn) -> IPv4Network:
    prefix = draw(st.integers(0, 32))
    address = draw(st.integers(0, 0xFFFF_FFFF)) >> (32 - prefix) << (32 - prefix)
    return IPv4Network((address, prefix))


port = st.integers(0, 0xFFFF)
selectors = st.builds(TrafficSelector, networks(), networks(), st.integers(0, 255), port, port)


@given(main_offers())
def test_main_mode_offers_survive(offer: MainModeOffer) -> None:
    assert offers.parse_main_mode(offers.encode_main_mode(offer, 1)) == offer


@given(quick_offers())
def test_quick_mode_offers_survive(offer: QuickModeOffer) -> None:
    assert proposals.quick_mode_offers(proposals.quick_mode_proposal((offer,), SPI)) == [offer]


@given(selectors)
def test_selectors_survive(traffic: TrafficSelector) -> None:
    assert offers.parse_selectors(*offers.encode_selectors(traffic)) == traffic
    assert traffic.mirrored().mirrored() == traffic
    assert traffic.covers(traffic)
    assert TrafficSelector(IPv4Network("0.0.0.0/0"), IPv4Network("0.0.0.0/0")).covers(traffic)


def test_windows_attribute_order() -> None:
    """Encryption, hash, group, authentication, life type, life duration as four variable bytes."""
    offer = MainModeOffer(Encryption.TRIPLE_DES_CBC, Hash.SHA1, Group.MODP_1024)
    body = offers.encode_main_mode(offer, 1).encode(0)
    assert body.hex() == "000000240101000080010005800200028004000280030001800b0001000c000400007080"


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: MainModeOffer(Encryption.AES_CBC, Hash.SHA1, Group.MODP_768), "none of 128, 192, 256"),
        (lambda: MainModeOffer(Encryption.DES_CBC, Hash.SHA1, Group.MODP_768, key_bits=64), "none of 0"),
        (lambda: MainModeOffer(Encryption.DES_CBC, Hash.SHA1, Group.MODP_768, lifetime_seconds=0), "1..4294967295"),
        (lambda: QuickModeOffer(EspTransform.DES, None, Encapsulation.TUNNEL), "takes an integrity algorithm"),
        (
            lambda: QuickModeOffer(EspTransform.AES_GCM_16, AuthAlgorithm.HMAC_MD5, Encapsulation.TUNNEL, 128),
            "takes no integrity",
        ),
        (lambda: QuickModeOffer(EspTransform.AES_CTR, None, Encapsulation.TUNNEL, 128), "takes an integrity algorithm"),
        (lambda: QuickModeOffer(EspTransform.AES_GCM_8, None, Encapsulation.TUNNEL), "none of 128, 192, 256"),
        (
            lambda: QuickModeOffer(
                EspTransform.DES, AuthAlgorithm.HMAC_MD5, Encapsulation.TUNNEL, lifetime_kilobytes=-1
            ),
            "lifetime_kilobytes",
        ),
    ],
)
def test_impossible_offers_say_what_is_accepted(make: object, text: str) -> None:
    assert callable(make)
    with pytest.raises(NegotiationError, match=text):
        make()


DES, TRIPLE = (
    MainModeOffer(cipher, Hash.SHA1, Group.MODP_768) for cipher in (Encryption.DES_CBC, Encryption.TRIPLE_DES_CBC)
)


def test_the_initiators_order_counts() -> None:
    choice = offers.choose_main_mode(offers.main_mode_proposal((DES, TRIPLE)), (TRIPLE, DES))
    assert choice is not None
    answer, agreed = choice
    assert agreed == DES
    assert [transform.number for transform in answer.proposals[0].transforms] == [1]


def test_the_shorter_lifetime_counts_and_the_transform_goes_back_unchanged() -> None:
    long, short = (MainModeOffer(Encryption.DES_CBC, Hash.MD5, Group.MODP_768, lifetime_seconds=s) for s in (900, 60))
    for theirs, ours in ((long, short), (short, long)):
        proposal = offers.main_mode_proposal((theirs,))
        choice = offers.choose_main_mode(proposal, (ours,))
        assert choice is not None
        assert choice[0] == proposal
        assert choice[1].lifetime_seconds == 60


def quick(**changes: object) -> QuickModeOffer:
    fields = {
        "transform": EspTransform.DES,
        "integrity": AuthAlgorithm.HMAC_MD5,
        "encapsulation": Encapsulation.TUNNEL,
    } | changes
    return QuickModeOffer(**fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(("a", "b", "agreed"), [(0, 0, 0), (0, 500, 500), (500, 0, 500), (500, 300, 300)])
def test_no_volume_limit_gives_way_to_one(a: int, b: int, agreed: int) -> None:
    proposal = proposals.quick_mode_proposal((quick(lifetime_kilobytes=a),), SPI)
    choice = proposals.choose_quick_mode(proposal, (quick(lifetime_kilobytes=b),))
    assert choice is not None
    assert choice.offer.lifetime_kilobytes == agreed
    assert choice.shortened == (agreed != a)


def test_bundles_are_not_taken_apart() -> None:
    esp = proposals.quick_mode_proposal((quick(),), SPI).proposals[0]
    ah = wire.Proposal(esp.number, 2, b"spi2", (wire.Transform(1, 2),))
    assert proposals.choose_quick_mode(wire.SecurityAssociation((ah, esp)), (quick(),)) is None
    alone = wire.Proposal(esp.number + 1, esp.protocol, b"spi3", esp.transforms)
    choice = proposals.choose_quick_mode(wire.SecurityAssociation((ah, esp, alone)), (quick(),))
    assert choice is not None
    assert choice.proposals[0].spi == b"spi3"


def test_encryption_without_integrity_is_not_accepted() -> None:
    (proposal,) = proposals.quick_mode_proposal((quick(),), SPI).proposals
    (transform,) = proposal.transforms
    bare = wire.Transform(1, transform.identifier, tuple(a for a in transform.attributes if a.type != 5))
    assert proposals.quick_mode_offers(wire.SecurityAssociation((proposal,)))
    proposal = replace(proposal, transforms=(bare,))
    assert not proposals.quick_mode_offers(wire.SecurityAssociation((proposal,)))


def test_unknown_attributes_do_no_harm() -> None:
    transform = offers.encode_main_mode(DES, 1)
    odd = (wire.Attribute(16384, "host$@LAB".encode("utf-16-le"), True), wire.Attribute.basic(99, 1))
    assert offers.parse_main_mode(wire.Transform(1, 1, odd + transform.attributes)) == DES


def test_mismatch_names_the_nearest_pair() -> None:
    theirs = proposals.quick_mode_proposal((quick(pfs_group=Group.MODP_768, transform=EspTransform.NULL), quick()), SPI)
    ours = (quick(transform=EspTransform.TRIPLE_DES), quick(encapsulation=Encapsulation.TRANSPORT))
    expected = ProposalMismatch("Phase II ESP Algorithm", "TRIPLE_DES", "DES")
    assert proposals.quick_mode_mismatch(theirs, ours) == expected
    assert offers.main_mode_mismatch(offers.main_mode_proposal((DES,)), (TRIPLE,)) == ProposalMismatch(
        "Phase I Encryption Algorithm", "TRIPLE_DES_CBC", "DES_CBC"
    )
    assert offers.main_mode_mismatch(wire.SecurityAssociation(()), (TRIPLE,)) is None


@pytest.mark.parametrize(
    "identity",
    [
        wire.Identification(1, 0, 0, b"\x0a\0\0"),
        wire.Identification(1, 0, 0, bytes(16)),
        wire.Identification(4, 0, 0, bytes.fromhex("0a000000 ff00ff00")),
        wire.Identification(4, 0, 0, bytes.fromhex("0a000001 ffffff00")),
        wire.Identification(4, 0, 0, bytes.fromhex("0a000000")),
        wire.Identification(7, 0, 0, bytes.fromhex("0a000001 0a0000ff")),
        wire.Identification(2, 0, 0, b"host"),
    ],
)
def test_identities_that_are_no_network(identity: wire.Identification) -> None:
    with pytest.raises(MalformedMessage):
        offers.parse_identity(identity)


def test_covers() -> None:
    wide = TrafficSelector(IPv4Network("10.0.0.0/24"), IPv4Network("10.1.0.0/24"), 6)
    inside = TrafficSelector(IPv4Network("10.0.0.1"), IPv4Network("10.1.0.1"), 6, 1024, 80)
    assert wide.covers(inside)
    assert not inside.covers(wide)
    assert not wide.covers(inside.mirrored())
    assert not wide.covers(TrafficSelector(inside.source, inside.destination, 17))
