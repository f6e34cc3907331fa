"""One SA in the place of another: Main Mode rekey, both ends at once, session limits, INITIAL-CONTACT."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from random import Random
from typing import Any

import pytest

from ipsec_core.ike import (
    ChildDeleted,
    FailurePoint,
    MainModeDeleted,
    MainModeEstablished,
    MainModePolicy,
    NegotiationFailed,
    QuickModeEstablished,
    wire,
)
from ipsec_core.ike.conversations import HOLD_BACK
from ipsec_core.ike.iana import ExchangeType, Notify
from ipsec_core.ike.timers import rekey_after


def rules(kit: Any, lifetime: int = 28_800, limit: int = 0) -> list[Any]:
    policy = MainModePolicy((replace(kit.MAIN_OFFER, lifetime_seconds=lifetime),), kit.KEY, limit)
    return [kit.Rules(main=policy) for _ in range(2)]


def pair(kit: Any, lifetime: int = 28_800, limit: int = 0, **rest: Any) -> Any:
    alice, bob = rules(kit, lifetime, limit)
    return kit.pair(alice=alice, bob=bob, **rest)


def active(kit: Any, net: Any, name: str = "main") -> list[int]:
    return [net.engines[who].statistics()[f"Active {name} modes"] for who in (kit.ALICE, kit.BOB)]


# Main Mode rekey


@pytest.mark.parametrize(("lifetime", "due"), [(100, 85.0), (300, 255.0), (28_800, 28_755.0)])
def test_when_a_main_mode_is_replaced(lifetime: int, due: float) -> None:
    assert rekey_after(lifetime) == pytest.approx(due)


def test_main_mode_is_made_before_the_old_one_breaks(kit: Any) -> None:
    net = pair(kit, 100)
    net.engines[kit.ALICE].acquire(0.0, kit.wish())
    for second in range(1, 1000):
        net.run(float(second))
        assert min(active(kit, net)) >= 1, second
    mains = net.of(kit.ALICE, MainModeEstablished)
    assert len(mains) >= 10
    assert all(main.initiator for main in mains), "the end that began it begins the next one"
    assert {round(b.time - a.time) for a, b in pairwise(mains)} == {85}
    gone = net.of(kit.ALICE, MainModeDeleted)
    assert {event.deleted_by for event in gone} == {FailurePoint.ME}
    assert max(active(kit, net)) <= 2
    assert not net.of(kit.ALICE, NegotiationFailed)
    assert not net.of(kit.ALICE, ChildDeleted)
    assert active(kit, net, "quick") == [1, 1]


def test_quick_modes_outlive_the_rekey_under_them(kit: Any) -> None:
    """One a second for three lifetimes: every one ends well."""
    net = pair(kit, 100)
    for second in range(300):
        net.run(float(second))
        who, other = ((kit.ALICE, kit.BOB), (kit.BOB, kit.ALICE))[second % 2]
        traffic = kit.selectors(who, other, protocol=6, source_port=second + 1)
        net.engines[who].acquire(net.now, kit.wish(other, reference=second, traffic=traffic))
    net.run(310.0)
    answers = [a for who in (kit.ALICE, kit.BOB) for e in net.of(who, QuickModeEstablished) for a in e.answers]
    assert sorted(answers) == list(range(300))
    assert not any(net.of(who, NegotiationFailed) for who in (kit.ALICE, kit.BOB))


def test_an_unused_main_mode_gets_no_successor(kit: Any) -> None:
    net = pair(kit, 1000)
    net.engines[kit.ALICE].acquire(0.0, kit.wish())
    net.run(1.0)
    net.engines[kit.ALICE].delete_child(1.0, net.of(kit.ALICE, QuickModeEstablished)[0].inbound_spi)
    net.run(3000.0)
    assert len(net.of(kit.ALICE, MainModeEstablished)) == 1
    assert active(kit, net) == [0, 0]


def test_a_failed_rekey_leaves_the_sa_pairs(kit: Any) -> None:
    net = pair(kit, 100)
    net.engines[kit.ALICE].acquire(0.0, kit.wish())
    net.run(50.0)
    net.harm = lambda data: []
    net.run(300.0)
    (failure,) = net.of(kit.ALICE, NegotiationFailed)
    assert failure.answers == ()
    assert active(kit, net, "quick") == [1, 1]


# Session limit


@pytest.mark.parametrize("limit", [1, 3])
def test_a_session_limit_takes_new_main_modes_and_leaves_one(kit: Any, limit: int) -> None:
    net = pair(kit, limit=limit)
    for number in range(9):
        traffic = kit.selectors(protocol=6, source_port=number + 1)
        net.engines[kit.ALICE].acquire(net.now, kit.wish(reference=number, traffic=traffic))
        net.run(net.now + 5.0)
    assert len(net.of(kit.ALICE, MainModeEstablished)) == 9 // limit
    net.run(net.now + 200.0)
    assert active(kit, net) == [1, 1], "used up ones go when nothing is under way in them"
    assert active(kit, net, "quick") == [9, 9]
    assert not net.of(kit.ALICE, NegotiationFailed)


# Both ends at once


@pytest.mark.parametrize("seed", range(30))
def test_both_ends_at_once_leave_one_main_mode(kit: Any, seed: int) -> None:
    random = Random(seed)
    net = pair(kit, seed=seed, harm=lambda data: [(random.uniform(0.01, 0.3), data)])
    net.engines[kit.ALICE].acquire(0.0, kit.wish())
    net.engines[kit.BOB].acquire(0.0, kit.wish(kit.ALICE, reference=2))
    net.run(200.0)
    assert active(kit, net) == [1, 1]
    (a,), (b,) = net.engines[kit.ALICE].main_modes(), net.engines[kit.BOB].main_modes()
    assert (a.initiator_cookie, a.responder_cookie) == (b.initiator_cookie, b.responder_cookie)
    mains = [(e.initiator_cookie, e.responder_cookie) for e in net.of(kit.ALICE, MainModeEstablished)]
    assert (a.initiator_cookie, a.responder_cookie) == max(mains)
    for who in (kit.ALICE, kit.BOB):
        assert not net.of(who, NegotiationFailed)
        assert not net.of(who, ChildDeleted)


@pytest.mark.parametrize("seed", range(30))
def test_both_ends_at_once_never_replace_each_others_pair(kit: Any, seed: int) -> None:
    """Each end deletes what its new pair replaced: with the same traffic from both ends, one pair is left at least."""
    random = Random(seed)
    net = pair(kit, seed=seed, harm=lambda data: [(random.uniform(0.01, 0.3), data)] if random.random() > 0.1 else [])
    net.engines[kit.ALICE].acquire(0.0, kit.wish())
    net.engines[kit.BOB].acquire(0.0, kit.wish(kit.ALICE, reference=2))
    net.run(100.0)
    for who in (kit.ALICE, kit.BOB):
        for event in net.of(who, QuickModeEstablished):
            if event.previous is not None:
                net.engines[who].delete_child(net.now, event.previous)
    net.harm = lambda data: [(0.01, data)]
    net.run(110.0)
    assert min(active(kit, net, "quick")) >= 1


# INITIAL-CONTACT


def test_a_responder_that_lost_everything_says_so(kit: Any) -> None:
    """Alice has pairs but no Main Mode any more, Bob begins anew: his INITIAL-CONTACT comes after message 6."""
    net = pair(kit)
    net.engines[kit.ALICE].acquire(0.0, kit.wish())
    net.run(1.0)
    alice = net.engines[kit.ALICE]
    (old,) = net.of(kit.ALICE, QuickModeEstablished)
    alice._main_modes.end(1.0, alice._mains.all()[0], FailurePoint.ME, tell=False)
    net.add(kit.BOB)
    alice.acquire(2.0, kit.wish(reference=2))
    net.run(10.0)
    (gone,) = net.of(kit.ALICE, ChildDeleted)
    assert (gone.inbound_spi, gone.deleted_by) == (old.inbound_spi, FailurePoint.PEER)
    assert len(net.of(kit.ALICE, QuickModeEstablished)) == 2
    assert active(kit, net, "quick") == [1, 1]


def test_initial_contact_of_a_recorded_message_changes_nothing(kit: Any) -> None:
    net = pair(kit)
    net.engines[kit.ALICE].acquire(0.0, kit.wish())
    net.run(1.0)
    bob = net.engines[kit.BOB]
    main = bob._mains.all()[0]
    payload = wire.Notification(1, b"".join(main.cookies), Notify.INITIAL_CONTACT)
    header = wire.Header(*main.cookies, 5, message_id=9, next_payload=payload.TYPE)
    bob.receive_datagram(1.0, wire.encode_clear(header, (payload,)), (kit.ALICE, 500))
    assert bob.events() == []
    assert active(kit, net, "quick") == [1, 1]


def test_a_responder_leaves_the_first_quick_mode_to_the_initiator(kit: Any) -> None:
    """Its own would come right behind message 6, which strongSwan does not bear: it waits a tenth of a second."""
    net = kit.pair()
    net.engines[kit.ALICE].acquire(0.0, kit.wish(traffic=kit.selectors(protocol=6)))
    net.run(0.045)
    net.engines[kit.BOB].acquire(net.now, kit.wish(kit.ALICE, reference=2))
    net.run(2.0)
    (main,) = net.of(kit.BOB, MainModeEstablished)
    assert not main.initiator
    firsts: dict[int, tuple[float, str]] = {}
    for when, who, data in net.wire:
        if (header := wire.parse_header(data)).exchange == ExchangeType.QUICK_MODE:
            firsts.setdefault(header.message_id, (when, who))
    assert [when for when, who in firsts.values() if who == kit.BOB] == [pytest.approx(main.time + HOLD_BACK)]
    assert [event.answers for event in net.of(kit.BOB, QuickModeEstablished)] == [(), (2,)]
