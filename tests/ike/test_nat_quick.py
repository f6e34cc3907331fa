"""Quick Mode through NATs: modes in UDP, NAT-OA, identities of peers that a NAT hides (RFC 3947 section 5)."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest

from ipsec_core.ike import (
    AhTransform,
    Encapsulation,
    FailurePoint,
    FailureReason,
    IkeOptions,
    Mode,
    NatTraversal,
    NegotiationFailed,
    ProposalMismatch,
    QuickModeAnswered,
    QuickModeEstablished,
    QuickModePolicy,
    TrafficSelector,
    UdpEncapsulation,
    encapsulation,
    protected,
    wire,
)
from ipsec_core.ike.failures import MalformedMessage
from ipsec_core.ike.iana import ExchangeType, PayloadType
from ipsec_core.ike.nat import NatPath

OUTSIDE = "203.0.113.1"
SERVER_OUTSIDE = "198.51.100.2"
RFC, DRAFT = NatTraversal.RFC_3947, NatTraversal.DRAFT_02
MODES = {
    (RFC, Encapsulation.TUNNEL): 3,
    (RFC, Encapsulation.TRANSPORT): 4,
    (DRAFT, Encapsulation.TUNNEL): 61443,
    (DRAFT, Encapsulation.TRANSPORT): 61444,
}
NAT_OA = {RFC: PayloadType.NAT_OA, DRAFT: PayloadType.NAT_OA_DRAFT}


def before_alice(kit: Any) -> Any:
    """A NAT that gives Alice another address and, on port 4500, another port."""

    def nat(source: Any, destination: Any) -> Any:
        ports = {500: 1500, 4500: 14500}
        if source[0] == kit.ALICE:
            source = (OUTSIDE, ports[source[1]])
        if destination[0] == OUTSIDE:
            destination = (kit.ALICE, {outer: inner for inner, outer in ports.items()}[destination[1]])
        return source, destination

    return nat


def before_both(kit: Any) -> Any:
    """Bob has a NAT, too; Alice knows him by its address."""
    alice = before_alice(kit)

    def nat(source: Any, destination: Any) -> Any:
        source, destination = alice(source, destination)
        if source[0] == kit.BOB:
            source = (SERVER_OUTSIDE, source[1])
        if destination[0] == SERVER_OUTSIDE:
            destination = (kit.BOB, destination[1])
        return source, destination

    return nat


def negotiate(
    kit: Any, mode: Encapsulation, dialect: NatTraversal, *, both: bool = False, wishes: Any = None, bobs: Any = None
) -> Any:
    offer = replace(kit.ESP_OFFER, encapsulation=mode)
    options = IkeOptions(nat_traversal=(dialect,))
    net = kit.pair(bob=kit.Rules(quick=QuickModePolicy(bobs or (offer,), 7)), options=options)
    net.nat = before_both(kit) if both else before_alice(kit)
    peer = SERVER_OUTSIDE if both else kit.BOB
    traffic = kit.selectors(kit.ALICE, peer)
    if mode is Encapsulation.TUNNEL:
        traffic = TrafficSelector(IPv4Network("192.168.1.0/24"), IPv4Network("192.168.2.0/24"))
    net.engines[kit.ALICE].acquire(0.0, kit.wish(peer, offers=wishes or (offer,), traffic=traffic))
    net.run(20.0)
    return net


def opened(kit: Any, net: Any) -> list[tuple[wire.Payload, ...]]:
    """The payloads of messages 1 and 2 of Quick Mode."""
    (main,) = net.engines[kit.ALICE]._mains.all()
    session = main.exchange.session
    found, iv = [], b""
    for _, _, data in net.wire:
        message = data.removeprefix(bytes(4))
        if len(message) < wire.HEADER_LENGTH or message[18] != ExchangeType.QUICK_MODE:
            continue
        header = wire.parse_header(message)
        found.append(protected.unseal(session, header, iv or session.iv(header.message_id), message).payloads)
        iv = message[-8:]
    return found[:2]


@pytest.mark.parametrize("mode", [Encapsulation.TUNNEL, Encapsulation.TRANSPORT])
@pytest.mark.parametrize("dialect", NatTraversal)
@pytest.mark.parametrize("both", [False, True])
def test_modes_ports_and_original_addresses(kit: Any, mode: Encapsulation, dialect: NatTraversal, both: bool) -> None:
    net = negotiate(kit, mode, dialect, both=both)
    (a,), (b,) = net.of(kit.ALICE, QuickModeEstablished), net.of(kit.BOB, QuickModeEstablished)
    assert (a.inbound, a.outbound) == (b.outbound, b.inbound)
    assert a.offer == b.offer
    assert a.encapsulation is b.encapsulation is a.offer.encapsulation is mode
    (answered,) = net.of(kit.BOB, QuickModeAnswered)
    assert answered.udp == b.udp

    payloads = opened(kit, net)
    proposed = [wire.only(chain, wire.SecurityAssociation).proposals[0].transforms[0] for chain in payloads]
    numbers = [{attribute.type: attribute.number for attribute in transform.attributes}[4] for transform in proposed]
    assert numbers == [MODES[dialect, mode]] * 2

    bob_as_seen = SERVER_OUTSIDE if both else kit.BOB
    sent = [[(p.TYPE, str(IPv4Address(p.address))) for p in wire.every(chain, wire.NatOriginalAddress)]
            for chain in payloads]  # fmt: skip
    if mode is Encapsulation.TUNNEL:
        assert sent == [[], []]
        assert (a.udp, b.udp) == (
            UdpEncapsulation(4500, 4500, bob_as_seen),
            UdpEncapsulation(4500, 14500, OUTSIDE),
        )
        return
    kind = NAT_OA[dialect]
    if dialect is DRAFT:
        # Each end that is behind a NAT tells its own address.
        assert sent == [[(kind, kit.ALICE)], [(kind, kit.BOB)] if both else []]
        assert a.udp == UdpEncapsulation(4500, 4500, bob_as_seen, None, kit.BOB if both else None)
        assert b.udp == UdpEncapsulation(4500, 14500, OUTSIDE, None, kit.ALICE)
    else:
        # Both addresses as each end sees them, the initiator's first (the example of RFC 3947 section 5.2).
        assert sent == [[(kind, kit.ALICE), (kind, bob_as_seen)], [(kind, OUTSIDE), (kind, kit.BOB)]]
        assert a.udp == UdpEncapsulation(4500, 4500, bob_as_seen, OUTSIDE, kit.BOB)
        assert b.udp == UdpEncapsulation(4500, 14500, OUTSIDE, bob_as_seen, kit.ALICE)


@pytest.mark.parametrize("dialect", NatTraversal)
@pytest.mark.parametrize("both", [False, True])
def test_transport_mode_selectors_have_the_addresses_that_each_end_sees(
    kit: Any, dialect: NatTraversal, both: bool
) -> None:
    """The identities on the wire are those behind the NAT; policy and driver know the others."""
    net = negotiate(kit, Encapsulation.TRANSPORT, dialect, both=both)
    (a,), (b,) = net.of(kit.ALICE, QuickModeEstablished), net.of(kit.BOB, QuickModeEstablished)
    bob_as_seen = SERVER_OUTSIDE if both else kit.BOB
    assert a.selectors == kit.selectors(kit.ALICE, bob_as_seen)
    assert b.selectors == kit.selectors(kit.BOB, OUTSIDE)
    assert b.remote == OUTSIDE
    for chain in opened(kit, net):
        identities = [str(IPv4Address(identity.data)) for identity in wire.every(chain, wire.Identification)]
        assert identities == [kit.ALICE, bob_as_seen]


def test_ah_drops_out(kit: Any) -> None:
    """An AH method before an ESP method: the latter is all that is proposed."""
    ah = replace(kit.ESP_OFFER, transform=None, integrity=None, ah=AhTransform.SHA1)
    net = negotiate(kit, Encapsulation.TRANSPORT, RFC, wishes=(ah, kit.ESP_OFFER), bobs=(ah, kit.ESP_OFFER))
    (a,) = net.of(kit.ALICE, QuickModeEstablished)
    assert a.offer == kit.ESP_OFFER
    (proposal,) = wire.only(opened(kit, net)[0], wire.SecurityAssociation).proposals
    assert proposal.protocol == 3


def test_nothing_but_ah_fails_here(kit: Any) -> None:
    ah = replace(kit.ESP_OFFER, transform=None, integrity=None, ah=AhTransform.SHA1)
    bundle = replace(kit.ESP_OFFER, ah=AhTransform.SHA1)
    net = negotiate(kit, Encapsulation.TRANSPORT, RFC, wishes=(ah, bundle))
    (failure,) = net.of(kit.ALICE, NegotiationFailed)
    assert (failure.mode, failure.reason, failure.failure_point, failure.answers, failure.inbound_spi) == (
        Mode.QUICK,
        FailureReason.ATTRIBUTES_UNACCEPTABLE,
        FailurePoint.ME,
        (1,),
        None,
    )
    assert not net.of(kit.BOB, NegotiationFailed)
    assert net.engines[kit.ALICE].statistics()["Active main modes"] == 1


def test_several_wishes_of_which_one_cannot_be(kit: Any) -> None:
    ah = replace(kit.ESP_OFFER, transform=None, integrity=None, ah=AhTransform.SHA1)
    net = kit.pair(options=IkeOptions(nat_traversal=(RFC,)))
    net.nat = before_alice(kit)
    for reference, offers in ((1, (ah,)), (2, (kit.ESP_OFFER,)), (3, (ah,))):
        traffic = kit.selectors(protocol=6, source_port=reference)
        net.engines[kit.ALICE].acquire(0.0, kit.wish(offers=offers, reference=reference, traffic=traffic))
    net.run(20.0)
    assert [event.answers for event in net.of(kit.ALICE, NegotiationFailed)] == [(1,), (3,)]
    assert [event.answers for event in net.of(kit.ALICE, QuickModeEstablished)] == [(2,)]


def test_responder_with_nothing_but_ah_refuses(kit: Any) -> None:
    ah = replace(kit.ESP_OFFER, transform=None, integrity=None, ah=AhTransform.SHA1)
    net = negotiate(kit, Encapsulation.TRANSPORT, RFC, bobs=(ah,))
    for who in (kit.ALICE, kit.BOB):
        (failure,) = net.of(who, NegotiationFailed)
        assert failure.reason is FailureReason.ATTRIBUTES_UNACCEPTABLE


@pytest.mark.parametrize("nat", [None, NatPath(RFC, True, False), NatPath(DRAFT, False, True)])
def test_modes_go_by_the_way_only(kit: Any, nat: NatPath | None) -> None:
    """Plain modes without a NAT, those in UDP of the dialect with one: no other is taken."""
    ways = [None, NatPath(RFC, True, False), NatPath(DRAFT, True, False)]
    (mine,) = encapsulation.on_the_wire((kit.ESP_OFFER,), nat)
    assert encapsulation.agreed(mine) == kit.ESP_OFFER
    for way in ways:
        same = (way and way.dialect) == (nat and nat.dialect)
        assert (encapsulation.on_the_wire((kit.ESP_OFFER,), way) == (mine,)) is same


def test_plain_mode_through_a_nat_is_a_mismatch(kit: Any) -> None:
    """An initiator that finds no NAT where there is one; the responder does."""
    offer = replace(kit.ESP_OFFER, encapsulation=Encapsulation.TUNNEL)
    net = kit.pair(bob=kit.Rules(quick=QuickModePolicy((offer,), 7)), options=IkeOptions(nat_traversal=(RFC,)))
    net.engines[kit.ALICE].acquire(0.0, kit.wish(offers=(offer,)))
    net.run(0.055)
    (main,) = net.engines[kit.BOB]._mains.all()
    main.exchange.nat = NatPath(RFC, False, True)
    net.run(20.0)
    (at_bob,) = net.of(kit.BOB, NegotiationFailed)
    assert at_bob.details == ProposalMismatch("Encapsulation Mode", "UDP_TUNNEL", "TUNNEL")
    assert net.of(kit.ALICE, NegotiationFailed)[0].reason is FailureReason.ATTRIBUTES_UNACCEPTABLE


# NAT-OA and selectors by themselves


def original(text: str, kind: int = 1) -> wire.NatOriginalAddress:
    return wire.NatOriginalAddress(PayloadType.NAT_OA, kind, IPv4Address(text).packed)


def test_whose_address_is_whose() -> None:
    ours, theirs = IPv4Address("10.0.0.1"), IPv4Address("10.0.0.2")
    pair = (original(str(ours)), original(str(theirs)))
    parse = encapsulation.parse_originals
    assert parse(pair, initiator=True) == encapsulation.Originals(theirs, ours)
    assert parse(pair, initiator=False) == encapsulation.Originals(ours, theirs)
    assert parse(pair[:1], initiator=True) == encapsulation.Originals(ours)
    assert parse((wire.Nonce(bytes(8)),), initiator=True) == encapsulation.Originals()


@pytest.mark.parametrize(
    "payloads",
    [
        (original("10.0.0.1"),) * 3,
        (original("10.0.0.1", 5),),
        (wire.NatOriginalAddress(PayloadType.NAT_OA_DRAFT, 1, bytes(3)),),
        (wire.NatOriginalAddress(PayloadType.NAT_OA, 5, bytes(16)),),
    ],
)
def test_broken_original_addresses(payloads: tuple[wire.Payload, ...]) -> None:
    with pytest.raises(MalformedMessage):
        encapsulation.parse_originals(payloads, initiator=True)


LOCAL, REMOTE, INSIDE = "10.0.0.2", OUTSIDE, "192.168.0.7"


@pytest.mark.parametrize(
    ("source", "destination", "behind", "original_address", "expected"),
    [
        # The peer names itself by what NAT-OA says: it is the peer.
        (LOCAL, INSIDE, (False, True), INSIDE, (LOCAL, REMOTE)),
        # By something else: it is not.
        (LOCAL, "192.168.0.8", (False, True), INSIDE, (LOCAL, "192.168.0.8")),
        # The draft's dialect has no address for an end without a NAT, or for us.
        (SERVER_OUTSIDE, INSIDE, (True, True), INSIDE, (LOCAL, REMOTE)),
        (SERVER_OUTSIDE, REMOTE, (True, False), None, (LOCAL, REMOTE)),
        # Nobody is behind a NAT that hides this end.
        (SERVER_OUTSIDE, INSIDE, (False, False), INSIDE, (SERVER_OUTSIDE, INSIDE)),
        # A network is no peer.
        (LOCAL, "192.168.0.0/24", (True, True), None, (LOCAL, "192.168.0.0/24")),
    ],
)
def test_selectors_behind_a_nat(
    source: str, destination: str, behind: Any, original_address: str | None, expected: tuple[str, str]
) -> None:
    traffic = TrafficSelector(IPv4Network(source), IPv4Network(destination), 17, 1701, 0)
    originals = encapsulation.Originals(IPv4Address(original_address) if original_address else None)
    seen = encapsulation.behind_nat(traffic, NatPath(DRAFT, *behind), originals, LOCAL, REMOTE)
    assert seen == TrafficSelector(IPv4Network(expected[0]), IPv4Network(expected[1]), 17, 1701, 0)
