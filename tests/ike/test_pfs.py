"""Perfect forward secrecy of Quick Mode (RFC 2409 section 5.5): groups, KE payloads, and who wants them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from quick_kit import give, quick_modes, reseal

from ipsec_core.ike import (
    FailurePoint,
    FailureReason,
    Group,
    NegotiationFailed,
    ProposalMismatch,
    QuickModeEstablished,
    QuickModePolicy,
    wire,
)
from ipsec_core.ike.failures import Refused
from ipsec_core.ike.iana import Notify

# That of Main Mode, in these tests, is MODP_768.
GROUPS = [Group.MODP_768, Group.MODP_1024, Group.MODP_2048, Group.ECP_256]


def with_group(kit: Any, group: Group | None) -> Any:
    return replace(kit.ESP_OFFER, pfs_group=group)


def negotiate(kit: Any, wishes: tuple[Any, ...], accepted: tuple[Any, ...]) -> Any:
    net = kit.pair(bob=kit.Rules(quick=QuickModePolicy(accepted, 7)))
    net.engines[kit.ALICE].acquire(0.0, kit.wish(offers=wishes))
    net.run()
    return net


@pytest.mark.parametrize("group", GROUPS)
def test_same_or_another_group(kit: Any, group: Group) -> None:
    """The responder has several methods with several groups; the initiator's group decides."""
    accepted = tuple(with_group(kit, item) for item in (None, *GROUPS))
    net = negotiate(kit, (with_group(kit, group),), accepted)
    (a,), (b,) = net.of(kit.ALICE, QuickModeEstablished), net.of(kit.BOB, QuickModeEstablished)
    assert (a.inbound, a.outbound) == (b.outbound, b.inbound)
    assert a.offer.pfs_group is b.offer.pfs_group is group


def test_fresh_secret_for_every_quick_mode(kit: Any) -> None:
    """With everything else the same (nonces, SPIs), another exponent gives other keys."""
    offer = with_group(kit, Group.MODP_768)
    found = []
    for exponent in (b"\1", b"\2"):
        initiator, responder = quick_modes(kit)
        for end in (initiator, responder):
            end._random = lambda n, exponent=exponent: exponent * n if n == 32 else b"n" * n
        responder._find_policy = lambda selectors: QuickModePolicy((offer,), 7)
        give(initiator, give(responder, initiator.start(kit.selectors(), (offer,), 1)))
        assert initiator.inbound == responder.outbound
        found.append(initiator.inbound[0])
    assert found[0].spi == found[1].spi
    assert found[0].encryption_key != found[1].encryption_key


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [(None, Group.MODP_1024), (Group.MODP_1024, None), (Group.MODP_768, Group.MODP_1024)],
)
def test_groups_that_differ(kit: Any, mine: Group | None, theirs: Group | None) -> None:
    net = negotiate(kit, (with_group(kit, mine),), (with_group(kit, theirs),))
    (at_bob,), (at_alice,) = net.of(kit.BOB, NegotiationFailed), net.of(kit.ALICE, NegotiationFailed)
    words = [str(group and group.name) for group in (theirs, mine)]
    assert at_bob.details == ProposalMismatch("Phase II DH group", *words)
    assert at_alice.reason is at_bob.reason is FailureReason.ATTRIBUTES_UNACCEPTABLE
    assert (at_bob.failure_point, at_alice.failure_point) == (FailurePoint.ME, FailurePoint.PEER)


def without_key(payloads: tuple[wire.Payload, ...]) -> tuple[wire.Payload, ...]:
    return tuple(payload for payload in payloads if not isinstance(payload, wire.KeyExchange))


@pytest.mark.parametrize(
    "change",
    [
        without_key,
        lambda payloads: (*payloads, *wire.every(payloads, wire.KeyExchange)),
        lambda payloads: (*without_key(payloads), wire.KeyExchange(bytes(96))),
        lambda payloads: (*without_key(payloads), wire.KeyExchange(bytes(95) + b"\1")),
        lambda payloads: (*without_key(payloads), wire.KeyExchange(b"\x55" * 128)),
        lambda payloads: (*without_key(payloads), wire.KeyExchange(b"")),
    ],
)
@pytest.mark.parametrize("liar", ["initiator", "responder"])
def test_key_payloads_are_checked(kit: Any, change: Any, liar: str) -> None:
    """None, two, 0, 1, those of another group's size: INVALID-KEY-INFORMATION, whoever sends it."""
    offer = with_group(kit, Group.MODP_768)
    initiator, responder = quick_modes(kit)
    responder._find_policy = lambda selectors: QuickModePolicy((offer,), 7)
    fresh, _ = quick_modes(kit)
    one = initiator.start(kit.selectors(), (offer,), 1)
    victim, false = responder, b""
    if liar == "initiator":
        false = reseal(fresh, one, change, b"")
    else:
        two = give(responder, one)
        assert two is not None
        victim, false = initiator, reseal(initiator, two, change, initiator._own_nonce)
    with pytest.raises(Refused) as caught:
        give(victim, false)
    assert caught.value.notify is Notify.INVALID_KEY_INFORMATION
    assert caught.value.reason is FailureReason.KEY_EXCHANGE_PAYLOAD
    assert not (liar == "initiator" and responder.spis), "nothing is reserved for it"


def test_key_payload_without_a_group(kit: Any) -> None:
    fresh, responder = quick_modes(kit)
    initiator, _ = quick_modes(kit)
    one = initiator.start(kit.selectors(), (kit.ESP_OFFER,), 1)
    with pytest.raises(Refused) as caught:
        give(responder, reseal(fresh, one, lambda payloads: (*payloads, wire.KeyExchange(bytes(96))), b""))
    assert caught.value.notify is Notify.INVALID_KEY_INFORMATION
