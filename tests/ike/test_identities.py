"""Client identities of Quick Mode (RFC 2407 section 4.6.2, RFC 2409 section 5.5), and what is refused for them."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from quick_kit import give, quick_modes

from ipsec_core.ike import (
    Encapsulation,
    FailurePoint,
    FailureReason,
    NegotiationFailed,
    QuickModeEstablished,
    QuickModePolicy,
    TrafficSelector,
    protected,
    wire,
)
from ipsec_core.ike.failures import MalformedMessage, Refused
from ipsec_core.ike.iana import ExchangeType, IdType, Notify
from ipsec_core.ike.offers import encode_identity, parse_identity


def address(text: str, protocol: int = 0, port: int = 0) -> wire.Identification:
    return wire.Identification(IdType.IPV4_ADDR, protocol, port, IPv4Address(text).packed)


def span(first: str, last: str, protocol: int = 0, port: int = 0) -> wire.Identification:
    data = IPv4Address(first).packed + IPv4Address(last).packed
    return wire.Identification(IdType.IPV4_ADDR_RANGE, protocol, port, data)


@given(st.integers(0, 0xFFFF_FFFF), st.integers(0, 0xFFFF_FFFF))
def test_a_range_is_a_network_or_nothing(a: int, b: int) -> None:
    """Against the definition: as many addresses as a power of two, beginning at a multiple of it."""
    payload = span(str(IPv4Address(a)), str(IPv4Address(b)))
    size = b - a + 1
    if size > 0 and size & (size - 1) == 0 and a % size == 0:
        network = parse_identity(payload)
        assert (int(network.network_address), int(network.broadcast_address)) == (a, b)
    else:
        with pytest.raises(MalformedMessage) as caught:
            parse_identity(payload)
        assert caught.value.notify is Notify.INVALID_ID_INFORMATION


@given(st.integers(0, 32), st.integers(0, 0xFFFF_FFFF))
def test_every_network_as_a_range(prefix: int, number: int) -> None:
    network = IPv4Network((number >> (32 - prefix) << (32 - prefix), prefix))
    assert parse_identity(span(str(network[0]), str(network[-1]))) == network
    assert parse_identity(encode_identity(network)) == network


@pytest.mark.parametrize(
    "identity",
    [
        wire.Identification(IdType.IPV6_ADDR, 0, 0, bytes(16)),
        wire.Identification(IdType.IPV6_ADDR_SUBNET, 0, 0, bytes(32)),
        wire.Identification(IdType.IPV6_ADDR_RANGE, 0, 0, bytes(32)),
        wire.Identification(IdType.FQDN, 0, 0, b"host.example"),
        wire.Identification(IdType.DER_ASN1_DN, 0, 0, b"0\0"),
        wire.Identification(99, 0, 0, b""),
        span("10.0.0.0", "10.0.0.2"),
        span("10.0.0.9", "10.0.0.1"),
        wire.Identification(IdType.IPV4_ADDR_RANGE, 0, 0, bytes(7)),
    ],
)
def test_what_the_driver_cannot_select_is_refused(kit: Any, identity: wire.Identification) -> None:
    """INVALID-ID-INFORMATION, and the exchange is over: the peer is authenticated and means it."""
    with pytest.raises(Refused) as caught:
        propose(kit, (identity, address(kit.BOB)))
    assert caught.value.notify is Notify.INVALID_ID_INFORMATION
    assert caught.value.reason is FailureReason.ID_PAYLOAD


def propose(kit: Any, identities: tuple[wire.Identification, ...]) -> tuple[Any, tuple[wire.Payload, ...]]:
    """A responder that got these identities, and what it answers."""
    initiator, responder = quick_modes(kit)
    message = initiator.start(kit.selectors(), (kit.ESP_OFFER,), 1)
    session = initiator.session
    opened = protected.unseal(session, wire.parse_header(message), session.iv(77), message)
    payloads = (*opened.payloads[:2], *identities)
    proof = session.message_hash(77, wire.encode_payloads(payloads))
    one = protected.seal(session, ExchangeType.QUICK_MODE, 77, session.iv(77), lambda rest: proof, payloads)
    two = give(responder, one)
    assert two is not None
    return responder, protected.unseal(session, wire.parse_header(two), one[-8:], two).payloads


@pytest.mark.parametrize(
    "identities",
    [
        (),
        (address("10.0.0.1"), address("10.0.0.2")),
        (address("10.0.0.1", 6, 1024), address("10.0.0.2", 6, 80)),
        (address("10.0.0.1", 17, 1701), address("10.0.0.2", 17)),
        (span("10.0.0.1", "10.0.0.1", 1), wire.Identification(4, 1, 0, bytes.fromhex("0a000002ffffffff"))),
    ],
)
def test_identities_of_the_peers_come_back_as_they_are(kit: Any, identities: tuple[wire.Identification, ...]) -> None:
    responder, answer = propose(kit, identities)
    assert wire.every(answer, wire.Identification) == identities
    first, second = identities or (address(kit.ALICE), address(kit.BOB))
    assert responder.selectors == TrafficSelector(
        IPv4Network(kit.BOB), IPv4Network(kit.ALICE), first.protocol, second.port, first.port
    )


@pytest.mark.parametrize(
    "identities",
    [
        (address("10.0.0.1"),),
        (address("10.0.0.1"), address("10.0.0.2"), address("10.0.0.2")),
        (address("10.0.0.1", 6), address("10.0.0.2", 17)),
        (address("10.0.0.2"), address("10.0.0.1")),
        (address("10.0.0.1"), wire.Identification(4, 0, 0, bytes.fromhex("0a000200ffffff00"))),
    ],
)
def test_wrong_sets_of_identities(kit: Any, identities: tuple[wire.Identification, ...]) -> None:
    """One, three, two protocols; in transport mode also those of others than the peers."""
    with pytest.raises(Refused) as caught:
        propose(kit, identities)
    assert (caught.value.notify, caught.value.reason) == (Notify.INVALID_ID_INFORMATION, FailureReason.ID_PAYLOAD)


@pytest.mark.parametrize(
    "traffic",
    [
        TrafficSelector(IPv4Network("192.168.0.0/16"), IPv4Network("0.0.0.0/0")),
        TrafficSelector(IPv4Network("192.168.7.9"), IPv4Network("172.16.0.0/30"), 17, 53, 0),
        TrafficSelector(IPv4Network("192.168.7.8/29"), IPv4Network("172.16.0.1"), 6, 0, 443),
        TrafficSelector(IPv4Network("192.168.7.8/31"), IPv4Network("172.16.0.1"), 1),
    ],
)
def test_selectors_reach_the_other_end(kit: Any, traffic: TrafficSelector) -> None:
    tunnel = replace(kit.ESP_OFFER, encapsulation=Encapsulation.TUNNEL)
    bob = kit.Rules(quick=QuickModePolicy((tunnel,), 7))
    net = kit.pair(bob=bob)
    net.engines[kit.ALICE].acquire(0.0, kit.wish(offers=(tunnel,), traffic=traffic))
    net.run()
    assert bob.asked == [traffic.mirrored()]
    assert [net.of(who, QuickModeEstablished)[0].selectors for who in (kit.ALICE, kit.BOB)] == [
        traffic,
        traffic.mirrored(),
    ]


def test_no_policy_for_the_traffic(kit: Any) -> None:
    net = kit.pair(bob=kit.Rules(quick=None))
    net.engines[kit.ALICE].acquire(0.0, kit.wish())
    net.run()
    (at_bob,), (at_alice,) = net.of(kit.BOB, NegotiationFailed), net.of(kit.ALICE, NegotiationFailed)
    assert (at_bob.reason, at_bob.failure_point) == (FailureReason.NO_POLICY, FailurePoint.ME)
    assert at_bob.selectors == kit.selectors().mirrored()
    assert (at_alice.reason, at_alice.failure_point) == (FailureReason.ID_PAYLOAD, FailurePoint.PEER)
