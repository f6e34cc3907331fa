"""AH, ESP and AH around ESP in one Quick Mode: proposals, choice, SAs, deletes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.isakmp import ISAKMP, IPSECAttributeTypes

from ipsec_core.errors import NegotiationError
from ipsec_core.ike import (
    AhTransform,
    AuthAlgorithm,
    ChildDeleted,
    Encapsulation,
    EspTransform,
    FailurePoint,
    FailureReason,
    Group,
    NegotiationFailed,
    ProposalMismatch,
    QuickModeAnswered,
    QuickModeEstablished,
    QuickModeOffer,
    QuickModePolicy,
    keys,
    proposals,
    protected,
    wire,
)
from ipsec_core.ike.iana import ExchangeType, Protocol

SPI = {Protocol.AH: b"\x11\x11\x11\x11", Protocol.ESP: b"\x22\x22\x22\x22"}
AH = QuickModeOffer(None, None, Encapsulation.TRANSPORT, ah=AhTransform.SHA1)
ESP = QuickModeOffer(EspTransform.TRIPLE_DES, AuthAlgorithm.HMAC_MD5, Encapsulation.TRANSPORT)
BOTH = replace(ESP, ah=AhTransform.SHA1)
BARE = replace(BOTH, transform=EspTransform.DES, integrity=None)


@st.composite
def any_offers(draw: st.DrawFn) -> QuickModeOffer:
    """ESP, AH or both; everything that an offer can be."""
    shared = {
        "encapsulation": draw(st.sampled_from([Encapsulation.TUNNEL, Encapsulation.TRANSPORT])),
        "lifetime_seconds": draw(st.integers(1, 0xFFFF_FFFF)),
        "lifetime_kilobytes": draw(st.integers(0, 0xFFFF_FFFF)),
        "pfs_group": draw(st.none() | st.sampled_from(Group)),
    }
    ah = draw(st.none() | st.sampled_from(AhTransform))
    transform = draw(st.sampled_from(EspTransform) if ah is None else st.none() | st.sampled_from(EspTransform))
    if transform is None:
        return QuickModeOffer(None, None, ah=ah, **shared)
    bare = transform.combined or (ah is not None and transform is not EspTransform.NULL and draw(st.booleans()))
    return QuickModeOffer(
        transform,
        None if bare else draw(st.sampled_from(AuthAlgorithm)),
        key_bits=draw(st.sampled_from([128, 192, 256])) if transform.variable else 0,
        ah=ah,
        **shared,
    )


mixes = st.lists(any_offers(), min_size=1, max_size=8)


@given(mixes)
def test_any_mix_survives(mix: list[QuickModeOffer]) -> None:
    sa = proposals.quick_mode_proposal(mix, SPI)
    assert proposals.quick_mode_offers(sa) == mix
    assert proposals.quick_mode_offers(wire.SecurityAssociation.parse(wire.Reader(sa.body()))) == mix
    assert {p.spi for p in sa.proposals} == {SPI[protocol] for offer in mix for protocol in offer.protocols}


@given(mixes, mixes)
def test_the_choice_is_the_initiators_first_that_the_responder_has(
    theirs: list[QuickModeOffer], ours: list[QuickModeOffer]
) -> None:
    """Against a choice made on the offers themselves, without any proposal."""

    def same(a: QuickModeOffer, b: QuickModeOffer) -> bool:
        return a == replace(b, lifetime_seconds=a.lifetime_seconds, lifetime_kilobytes=a.lifetime_kilobytes)

    expected = next((b for a in theirs for b in ours if same(a, b)), None)
    choice = proposals.choose_quick_mode(proposals.quick_mode_proposal(theirs, SPI), ours)
    if expected is None:
        assert choice is None
        return
    assert choice is not None
    assert same(choice.offer, expected)
    answer = wire.SecurityAssociation(choice.proposals)
    assert proposals.is_answer(answer)
    again = proposals.choose_quick_mode(answer, theirs)
    assert again is not None
    assert same(again.offer, expected)
    assert again.offer == choice.offer or choice.shortened


@given(mixes)
@settings(max_examples=30)
def test_scapy_sees_the_same_proposals(mix: list[QuickModeOffer]) -> None:
    """One at a time: scapy forgets the SPI when it looks for the end of a proposal."""
    for proposal in proposals.quick_mode_proposal(mix, SPI).proposals:
        header = wire.Header(b"initiatr", b"respondr", ExchangeType.QUICK_MODE, message_id=7, next_payload=1)
        layer = ISAKMP(wire.encode_clear(header, (wire.SecurityAssociation((proposal,)),))).payload.prop
        assert (layer.proposal, layer.proto, layer.SPIsize) == (proposal.number, proposal.protocol, 4)
        assert (layer.SPI, layer.trans_nb) == (proposal.spi, len(proposal.transforms))
        transform = layer.trans
        for expected in proposal.transforms:
            assert (transform.transform_count, transform.transform_id) == (expected.number, expected.identifier)
            read = [scapy_number(*attribute) for attribute in transform.transforms]
            assert read == [(attribute.type, attribute.number) for attribute in expected.attributes]
            transform = transform.payload


def scapy_number(kind: str | int, value: str | int) -> tuple[int, int]:
    """scapy has words for ESP and none for AH."""
    if isinstance(kind, int):
        return kind, int(value)
    number, words, _ = IPSECAttributeTypes[kind]
    return number, words.get(value, value)


def test_bundle_on_the_wire() -> None:
    """RFC 2408 section 4.2: two proposals with one number, AH first, each with its own SPI and lifetimes."""
    sa = proposals.quick_mode_proposal((BOTH, ESP, replace(ESP, transform=EspTransform.DES), AH), SPI)
    shape = [(p.number, p.protocol, p.spi, [t.identifier for t in p.transforms]) for p in sa.proposals]
    assert shape == [
        (1, 2, SPI[Protocol.AH], [3]),
        (1, 3, SPI[Protocol.ESP], [3]),
        (2, 3, SPI[Protocol.ESP], [3, 2]),
        (3, 2, SPI[Protocol.AH], [3]),
    ]
    ah = sa.proposals[0].transforms[0]
    # Life type, duration, type, duration, transport mode, HMAC-SHA.
    assert [(a.type, a.number) for a in ah.attributes] == [(1, 1), (2, 3600), (1, 2), (2, 100_000), (4, 2), (5, 2)]


@pytest.mark.parametrize(
    ("transform", "integrity"), [(AhTransform.MD5, 1), (AhTransform.SHA1, 2), (AhTransform.SHA256, 5)]
)
def test_ah_needs_its_own_hmac(transform: AhTransform, integrity: int) -> None:
    (proposal,) = proposals.quick_mode_proposal((replace(AH, ah=transform),), SPI).proposals
    (good,) = proposal.transforms
    assert good.attributes[-1] == wire.Attribute.basic(5, integrity)
    for attributes in (good.attributes[:-1], (*good.attributes[:-1], wire.Attribute.basic(5, 7))):
        bad = replace(proposal, transforms=(replace(good, attributes=attributes),))
        assert proposals.quick_mode_offers(wire.SecurityAssociation((bad,))) == []
        assert proposals.choose_quick_mode(wire.SecurityAssociation((bad,)), (replace(AH, ah=transform),)) is None


@pytest.mark.parametrize("change", [{"encapsulation": Encapsulation.TUNNEL}, {"pfs_group": Group.MODP_1024}])
def test_a_bundle_that_contradicts_itself_is_no_offer(change: dict[str, Any]) -> None:
    ah, esp = proposals.quick_mode_proposal((BOTH,), SPI).proposals
    other = proposals.quick_mode_proposal((replace(BOTH, **change),), SPI).proposals[1]
    assert proposals.quick_mode_offers(wire.SecurityAssociation((ah, esp))) == [BOTH]
    odd = wire.SecurityAssociation((ah, other))
    assert proposals.quick_mode_offers(odd) == []
    assert proposals.choose_quick_mode(odd, (BOTH, replace(BOTH, **change))) is None


def test_many_transforms_in_a_bundle_combine_freely() -> None:
    """RFC 2408 section 4.2: one transform of each protocol; the peer's proposals may come ESP first and apart."""
    md5 = replace(BOTH, ah=AhTransform.MD5, transform=EspTransform.DES)
    pairs = [proposals.quick_mode_proposal((offer,), SPI).proposals for offer in (BOTH, md5)]
    ah = replace(pairs[0][0], transforms=(pairs[0][0].transforms[0], replace(pairs[1][0].transforms[0], number=2)))
    esp = replace(pairs[0][1], transforms=(pairs[0][1].transforms[0], replace(pairs[1][1].transforms[0], number=2)))
    other = wire.Proposal(9, 4, b"\0\1", (wire.Transform(1, 2),))
    sa = wire.SecurityAssociation((esp, other, ah))
    mixed = replace(BOTH, transform=EspTransform.DES)
    assert set(proposals.quick_mode_offers(sa)) == {BOTH, md5, mixed, replace(BOTH, ah=AhTransform.MD5)}
    choice = proposals.choose_quick_mode(sa, (mixed,))
    assert choice is not None
    assert choice.offer == mixed
    assert [(p.protocol, p.transforms[0].number) for p in choice.proposals] == [(3, 2), (2, 1)]


def test_a_bundle_with_ipcomp_is_left_alone() -> None:
    (esp,) = proposals.quick_mode_proposal((ESP,), SPI).proposals
    compressed = wire.Proposal(1, 4, b"\0\1", (wire.Transform(1, 2),))
    assert proposals.choose_quick_mode(wire.SecurityAssociation((esp, compressed)), (ESP,)) is None


def test_mismatch_in_the_words_of_event_546() -> None:
    def words(theirs: QuickModeOffer, ours: QuickModeOffer) -> ProposalMismatch | None:
        return proposals.quick_mode_mismatch(proposals.quick_mode_proposal((theirs,), SPI), (ours,))

    assert words(AH, ESP) == ProposalMismatch("Phase II protocol", "ESP", "AH")
    assert words(ESP, BOTH) == ProposalMismatch("Phase II protocol", "AH+ESP", "ESP")
    assert words(AH, replace(AH, ah=AhTransform.MD5)) == ProposalMismatch("Phase II AH Algorithm", "MD5", "SHA1")


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ((None, None), "at least one is needed"),
        ((None, AuthAlgorithm.HMAC_MD5), "transform is None"),
        ((EspTransform.NULL, None), "takes an integrity algorithm"),
        ((EspTransform.AES_GCM_16, AuthAlgorithm.HMAC_MD5), "takes no integrity"),
    ],
)
def test_impossible_offers(fields: tuple[Any, Any], text: str) -> None:
    ah = None if fields == (None, None) else AhTransform.MD5
    bits = 128 if fields[0] is EspTransform.AES_GCM_16 else 0
    with pytest.raises(NegotiationError, match=text):
        QuickModeOffer(*fields, Encapsulation.TUNNEL, bits, ah=ah)


# Whole Quick Modes


def negotiate(kit: Any, wishes: tuple[QuickModeOffer, ...], accepted: tuple[QuickModeOffer, ...]) -> Any:
    net = kit.pair(bob=kit.Rules(quick=QuickModePolicy(accepted, 7)))
    net.engines[kit.ALICE].acquire(0.0, kit.wish(offers=wishes))
    net.run()
    return net


@pytest.mark.parametrize("offer", [AH, ESP, BOTH, BARE, replace(BOTH, pfs_group=Group.MODP_768)])
def test_sas_of_each_protocol(kit: Any, offer: QuickModeOffer) -> None:
    everything = tuple(replace(item, pfs_group=offer.pfs_group) for item in (BARE, BOTH, ESP, AH))
    net = negotiate(kit, everything, (offer,))
    (a,), (b,) = net.of(kit.ALICE, QuickModeEstablished), net.of(kit.BOB, QuickModeEstablished)
    assert (a.inbound, a.outbound) == (b.outbound, b.inbound)
    assert a.offer == b.offer == offer
    assert tuple(child.protocol for child in a.inbound) == offer.protocols
    spis = [child.spi for child in (*a.inbound, *a.outbound)]
    assert len(set(spis)) == 2 * len(offer.protocols)
    assert (a.inbound_spi, b.outbound_spi) == (spis[0], spis[0])
    lengths = {child.protocol: (len(child.encryption_key), len(child.authentication_key)) for child in a.inbound}
    if offer.ah:
        assert lengths[Protocol.AH] == (0, 20)
    if offer.transform:
        assert lengths[Protocol.ESP] == (8 if offer is BARE else 24, 0 if offer is BARE else 16)
    (answered,) = net.of(kit.BOB, QuickModeAnswered)
    assert answered.inbound == b.inbound
    assert net.engines[kit.ALICE].statistics()["Active quick modes"] == 1


def test_keymat_depends_on_protocol_and_spi(kit: Any) -> None:
    """RFC 2409 section 5.5: KEYMAT = prf(SKEYID_d, protocol | SPI | Ni_b | Nr_b), a seed for each SA."""
    net = kit.pair(bob=kit.Rules(quick=QuickModePolicy((BOTH,), 7)))
    sessions: list[Any] = []
    net.harm = lambda data: (sessions.extend(net.engines[kit.ALICE]._mains.all()), [(0.01, data)])[1]
    net.engines[kit.ALICE].acquire(0.0, kit.wish(offers=(BOTH,)))
    net.run()
    (a,) = net.of(kit.ALICE, QuickModeEstablished)
    session = sessions[-1].exchange.session
    two = next(data for _, who, data in reversed(net.wire) if who == kit.BOB)
    one = next(data for _, who, data in net.wire if who == kit.ALICE and wire.parse_header(data).exchange == 32)
    iv = session.iv(wire.parse_header(one).message_id)
    first = protected.unseal(session, wire.parse_header(one), iv, one)
    second = protected.unseal(session, wire.parse_header(two), one[-8:], two)
    nonces = b"".join(wire.only(opened.payloads, wire.Nonce).data for opened in (first, second))
    for child in (*a.inbound, *a.outbound):
        length = len(child.encryption_key) + len(child.authentication_key)
        material = keys.keymat(session.hash, session.skeyid_d, child.protocol, child.spi.to_bytes(4), nonces, length)
        assert child.encryption_key + child.authentication_key == material
    answer = wire.only(second.payloads, wire.SecurityAssociation)
    assert [(p.number, p.protocol, len(p.transforms)) for p in answer.proposals] == [(1, 2, 1), (1, 3, 1)]


def test_ah_against_esp_fails_with_the_protocol(kit: Any) -> None:
    net = negotiate(kit, (AH,), (ESP,))
    (at_bob,), (at_alice,) = net.of(kit.BOB, NegotiationFailed), net.of(kit.ALICE, NegotiationFailed)
    assert at_bob.details == ProposalMismatch("Phase II protocol", "ESP", "AH")
    assert at_alice.reason is at_bob.reason is FailureReason.ATTRIBUTES_UNACCEPTABLE
    assert at_alice.inbound_spi is not None


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("who", ["alice", "bob"])
def test_any_spi_names_the_bundle_and_both_deletes_are_sent(kit: Any, place: int, who: str) -> None:
    net = negotiate(kit, (BOTH,), (BOTH,))
    me = kit.ALICE if who == "alice" else kit.BOB
    (event,) = net.of(me, QuickModeEstablished)
    before = len(net.wire)
    net.engines[me].delete_child(net.now, event.inbound[place].spi)
    net.run(net.now + 1)
    assert len(net.wire) - before == 2
    for address in (kit.ALICE, kit.BOB):
        (gone,) = net.of(address, ChildDeleted)
        (established,) = net.of(address, QuickModeEstablished)
        assert (gone.inbound_spi, gone.outbound_spi) == (established.inbound_spi, established.outbound_spi)
        assert gone.deleted_by is (FailurePoint.ME if address == me else FailurePoint.PEER)
        assert net.engines[address].statistics()["Active quick modes"] == 0


def send(net: Any, kit: Any, *payloads: wire.Payload) -> None:
    """An authentic Informational of Alice to Bob that she did not mean to send."""
    alice = net.engines[kit.ALICE]
    (main,) = alice._mains.all()
    for payload in payloads:
        alice._out.send_informational(main, payload)
    net.run(net.now + 1)


def test_a_delete_counts_for_its_own_protocol_only(kit: Any) -> None:
    net = negotiate(kit, (BOTH,), (BOTH,))
    (event,) = net.of(kit.ALICE, QuickModeEstablished)
    ah, esp = (child.spi.to_bytes(4) for child in event.inbound)
    send(net, kit, wire.Delete(Protocol.ESP, 4, (ah,)), wire.Delete(Protocol.AH, 4, (esp, b"\1\2\3\4")))
    assert not net.of(kit.BOB, ChildDeleted)
    send(net, kit, wire.Delete(Protocol.ESP, 4, (b"\1\2\3\4", esp)))
    assert len(net.of(kit.BOB, ChildDeleted)) == 1


def test_one_delete_for_many(kit: Any) -> None:
    net = kit.pair(bob=kit.Rules(quick=QuickModePolicy((AH,), 7)))
    for port in (1, 2, 3, 4):
        traffic = kit.selectors(protocol=6, source_port=port)
        net.engines[kit.ALICE].acquire(0.0, kit.wish(offers=(AH,), reference=port, traffic=traffic))
    net.run(10)
    spis = [event.inbound_spi for event in net.of(kit.ALICE, QuickModeEstablished)]
    send(net, kit, wire.Delete(Protocol.AH, 4, tuple(spi.to_bytes(4) for spi in spis[:3])))
    assert {event.outbound_spi for event in net.of(kit.BOB, ChildDeleted)} == set(spis[:3])
    assert net.engines[kit.BOB].statistics()["Active quick modes"] == 1
