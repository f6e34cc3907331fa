"""Lifetimes of Quick Mode: both kinds sent, the shorter one counts at both ends (RFC 2407 sections 4.5 and 4.6.3.1)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from quick_kit import give, quick_modes, reseal

from ipsec_core.ike import (
    AhTransform,
    AuthAlgorithm,
    Encapsulation,
    EspTransform,
    FailureReason,
    NegotiationFailed,
    QuickModeEstablished,
    QuickModeOffer,
    QuickModePolicy,
    proposals,
    protected,
    wire,
)
from ipsec_core.ike.failures import MalformedMessage, Refused
from ipsec_core.ike.iana import ExchangeType, Notify, Protocol

SPI = {Protocol.AH: b"ahah", Protocol.ESP: b"espe"}
ESP = QuickModeOffer(EspTransform.DES, AuthAlgorithm.HMAC_MD5, Encapsulation.TRANSPORT)


def offer(seconds: int, kilobytes: int, ah: AhTransform | None = None) -> QuickModeOffer:
    return replace(ESP, lifetime_seconds=seconds, lifetime_kilobytes=kilobytes, ah=ah)


def negotiate(kit: Any, mine: QuickModeOffer, theirs: QuickModeOffer, harm: Any = None) -> Any:
    net = kit.pair(harm=harm, bob=kit.Rules(quick=QuickModePolicy((theirs,), 7)))
    net.engines[kit.ALICE].acquire(0.0, kit.wish(offers=(mine,)))
    net.run()
    return net


def message_two(kit: Any, net: Any) -> tuple[wire.Payload, ...]:
    one, two = [data for _, _, data in net.wire if wire.parse_header(data).exchange == ExchangeType.QUICK_MODE][:2]
    (main,) = net.engines[kit.BOB]._mains.all()
    return protected.unseal(main.exchange.session, wire.parse_header(two), one[-8:], two).payloads


@pytest.mark.parametrize(
    ("mine", "theirs", "agreed", "told"),
    [
        ((3600, 100_000), (3600, 100_000), (3600, 100_000), False),
        ((3600, 100_000), (900, 100_000), (900, 100_000), True),
        ((3600, 100_000), (3600, 50_000), (3600, 50_000), True),
        ((900, 50_000), (3600, 100_000), (900, 50_000), False),
        ((900, 100_000), (3600, 50_000), (900, 50_000), True),
        ((3600, 0), (3600, 50_000), (3600, 50_000), True),
        ((3600, 50_000), (3600, 0), (3600, 50_000), False),
        ((3600, 0), (3600, 0), (3600, 0), False),
    ],
)
@pytest.mark.parametrize("ah", [None, AhTransform.SHA1])
def test_both_ends_keep_to_the_shorter(kit: Any, mine: Any, theirs: Any, agreed: Any, told: bool, ah: Any) -> None:
    net = negotiate(kit, offer(*mine, ah), offer(*theirs, ah))
    (a,), (b,) = net.of(kit.ALICE, QuickModeEstablished), net.of(kit.BOB, QuickModeEstablished)
    for event in (a, b):
        assert (event.lifetime_seconds, event.lifetime_kilobytes) == agreed
        assert (event.offer.lifetime_seconds, event.offer.lifetime_kilobytes) == agreed
    payloads = message_two(kit, net)
    notices = wire.every(payloads, wire.Notification)
    assert [(n.notify, n.protocol, int.from_bytes(n.spi)) for n in notices] == [
        (Notify.RESPONDER_LIFETIME, child.protocol, child.spi) for child in b.inbound
    ] * told
    assert all(proposals.parse_lifetimes(n.data) == agreed for n in notices)
    # RFC 2408 section 4.2: the chosen transform goes back as it came.
    (*_, esp) = wire.only(payloads, wire.SecurityAssociation).proposals
    (*_, sent) = proposals.quick_mode_proposal((offer(*mine, ah),), SPI).proposals
    assert esp.transforms == sent.transforms


def test_notice_as_bytes(kit: Any) -> None:
    """RFC 2407 section 4.6.3.1: DOI 1, protocol 3, SPI size 4, type 24576, the SPI, attributes."""
    net = negotiate(kit, offer(3600, 100_000), offer(900, 50_000))
    (notice,) = wire.every(message_two(kit, net), wire.Notification)
    (b,) = net.of(kit.BOB, QuickModeEstablished)
    attributes = "80010001 00020004 00000384 80010002 00020004 0000c350"
    assert notice.body() == bytes.fromhex(f"00000001 03 04 6000 {b.inbound_spi:08x} {attributes}")


def changed_answer(kit: Any, change: Any) -> Any:
    """An initiator that gets message 2 with other payloads, under a right HASH(2)."""
    initiator, responder = quick_modes(kit)
    two = give(responder, initiator.start(kit.selectors(), (kit.ESP_OFFER,), 1))
    assert two is not None
    give(initiator, reseal(initiator, two, change, initiator._own_nonce))
    return initiator.offer


def notice(protocol: int, data: str) -> Any:
    payload = wire.Notification(protocol, b"spi!", Notify.RESPONDER_LIFETIME, bytes.fromhex(data))
    return lambda payloads: (*payloads, payload)


@pytest.mark.parametrize(
    ("protocol", "data", "expected"),
    [
        (3, "80010001 80020064", (100, 100_000)),
        (3, "80010002 80020064", (3600, 100)),
        (3, "80010001 00020008 00000001 00000000", (3600, 100_000)),
        (3, "80010001 00020004 00000000", (3600, 100_000)),
        (3, "80010001 00020004 000f4240", (3600, 100_000)),
        (3, "", (3600, 100_000)),
        (3, "80020064", (3600, 100_000)),
        (2, "80010001 80020064", (3600, 100_000)),
        (1, "80010001 80020064", (3600, 100_000)),
    ],
)
def test_what_an_initiator_makes_of_a_notice(kit: Any, protocol: int, data: str, expected: Any) -> None:
    """It only ever shortens, and only the SAs that it names."""
    agreed = changed_answer(kit, notice(protocol, data))
    assert (agreed.lifetime_seconds, agreed.lifetime_kilobytes) == expected


@pytest.mark.parametrize("data", ["80", "800100", "00020004 0000", "0002ffff 00"])
def test_a_broken_notice_ends_the_quick_mode(kit: Any, data: str) -> None:
    with pytest.raises(Refused) as caught:
        changed_answer(kit, notice(3, data))
    assert caught.value.reason is FailureReason.INVALID_PAYLOAD
    with pytest.raises(MalformedMessage):
        proposals.parse_lifetimes(bytes.fromhex(data))


def proposal_with(*attributes: str) -> wire.SecurityAssociation:
    """DES/MD5 in transport mode under other lifetimes."""
    reader = wire.Reader(bytes.fromhex("".join((*attributes, "80040002", "80050001"))))
    found = wire.Attribute.parse_all(reader)
    return wire.SecurityAssociation((wire.Proposal(1, 3, b"spi!", (wire.Transform(1, 2, found),)),))


@pytest.mark.parametrize(
    ("attributes", "seconds", "kilobytes"),
    [
        ((), 28_800, 0),
        (("80010002", "00020004000f4240"), 28_800, 1_000_000),
        (("80010001", "8002012c"), 300, 0),
        (("80010001", "000200080000000100000000"), 0xFFFF_FFFF, 0),
        (("80010001", "0002000c000000000000000000000e10"), 3600, 0),
        (("80010001", "0002000400000000"), 28_800, 0),
        (("80010001", "0002000400000000", "80010002", "0002000400000000"), 28_800, 0),
        (("80010001", "00020000"), 28_800, 0),
        (("80010003", "8002012c"), 28_800, 0),
        # The first of two counts, and a duration without a type before it means nothing.
        (("80010001", "8002012c", "80010001", "80020064"), 300, 0),
        (("80020064",), 28_800, 0),
    ],
)
def test_lifetimes_of_proposals(attributes: tuple[str, ...], seconds: int, kilobytes: int) -> None:
    """More than 32 bits, zero and none at all: 28800 s is what none means (RFC 2407 section 4.5)."""
    sa = proposal_with(*attributes)
    assert proposals.quick_mode_offers(sa) == [offer(seconds, kilobytes)]
    choice = proposals.choose_quick_mode(sa, (offer(3600, 100_000),))
    assert choice is not None
    assert choice.offer == offer(min(3600, seconds), min(100_000, kilobytes or 100_000))


def test_a_life_type_of_many_bytes_does_no_harm() -> None:
    sa = proposal_with("0001000a00000000000000000001", "8002012c")
    assert proposals.quick_mode_offers(sa) == [offer(300, 0)]


def test_initiators_own_limits_stay(kit: Any) -> None:
    net = negotiate(kit, offer(300, 0), offer(300, 0))
    assert not net.of(kit.ALICE, NegotiationFailed)
    assert net.of(kit.ALICE, QuickModeEstablished)[0].lifetime_seconds == 300
