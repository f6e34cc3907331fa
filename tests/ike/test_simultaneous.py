"""Both ends negotiate the same traffic at once, and rekeys: no pair is ended that the other end has chosen."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ipsec_core.ike import ChildDeleted, IkeOptions, NegotiationFailed, QuickModeEstablished


@dataclass
class Caller:
    """A computer as far as pairs go: uses the newest, ends what that replaces when `OVERLAP` has gone by."""

    OVERLAP = 60.0

    engine: Any
    pairs: dict[int, QuickModeEstablished] = field(default_factory=dict)
    doomed: dict[int, float] = field(default_factory=dict)

    def take(self, events: list[Any]) -> None:
        for event in events:
            if isinstance(event, QuickModeEstablished):
                if event.previous is not None:
                    oldest = self.pairs[event.previous].time
                    self.doomed |= {
                        spi: event.time + self.OVERLAP for spi, pair in self.pairs.items() if pair.time <= oldest
                    }
                self.pairs[event.inbound_spi] = event
            elif isinstance(event, ChildDeleted):
                self.pairs.pop(event.inbound_spi)
                self.doomed.pop(event.inbound_spi, None)

    def end(self, now: float) -> None:
        for spi in [spi for spi, when in self.doomed.items() if when <= now]:
            self.engine.delete_child(now, spi)

    def live(self) -> set[tuple[int, int]]:
        return {(pair.inbound_spi, pair.outbound_spi) for pair in self.pairs.values()}


def play(kit: Any, net: Any, until: float, wishes: list[tuple[float, str]], check: Any) -> tuple[Caller, Caller]:
    """Run in steps; `check(alice, bob)` is asked after each."""
    callers = {who: Caller(net.engines[who]) for who in (kit.ALICE, kit.BOB)}
    seen = dict.fromkeys(callers, 0)
    reference = 0
    while net.now < until:
        while wishes and wishes[0][0] <= net.now:
            _, who = wishes.pop(0)
            reference += 1
            other = kit.BOB if who == kit.ALICE else kit.ALICE
            net.engines[who].acquire(net.now, kit.wish(other, reference=reference))
        net.run(net.now + 0.05)
        for who, caller in callers.items():
            events = net.events[who]
            caller.take(events[seen[who] :])
            seen[who] = len(events)
            caller.end(net.now)
        net.collect()
        check(callers[kit.ALICE], callers[kit.BOB])
    return callers[kit.ALICE], callers[kit.BOB]


def newest(caller: Caller) -> tuple[int, int]:
    pair = list(caller.pairs.values())[-1]
    return pair.inbound_spi, pair.outbound_spi


@settings(deadline=None, max_examples=30)
@given(
    st.integers(0, 1 << 32),
    st.lists(st.tuples(st.floats(1, 12), st.booleans()), min_size=1, max_size=6),
    st.booleans(),
)
@example(159, [(1.0, False)], False)
def test_what_one_end_uses_the_other_has(kit: Any, seed: int, rekeys: list[tuple[float, bool]], commit: bool) -> None:
    """Rekeys from both ends, at the same time or one into the other, on a wire with any delay.

    At the latest a second after the last change both ends have the pair on which the other sends.
    """
    random = Random(seed)
    net = kit.pair(seed, lambda data: [(random.uniform(0.001, 0.4), data)], options=IkeOptions(commit_bit=commit))
    wishes = sorted([(0.0, kit.ALICE)] + [(time, kit.ALICE if mine else kit.BOB) for time, mine in rekeys])

    def check(alice: Caller, bob: Caller) -> None:
        # A DELETE takes at most 0.4 s, and is seen a step of 0.05 s later; until then only one end has the pair.
        gone = (event for who in (kit.ALICE, kit.BOB) for event in net.of(who, ChildDeleted))
        if any(net.now - event.time < 0.5 for event in gone):
            return
        for one, other in ((alice, bob), (bob, alice)):
            if net.now > 16 and one.pairs:
                inbound, outbound = newest(one)
                assert outbound in {pair.inbound_spi for pair in other.pairs.values()}
                assert inbound in {pair.outbound_spi for pair in other.pairs.values()}

    alice, bob = play(kit, net, 90.0, wishes, check)
    assert alice.live() == {(outbound, inbound) for inbound, outbound in bob.live()}
    assert alice.pairs, "traffic never is without a pair"
    for who in (kit.ALICE, kit.BOB):
        assert not net.of(who, NegotiationFailed)


def both_at_once(kit: Any, delay: float = 0.0) -> Any:
    net = kit.pair()
    net.engines[kit.ALICE].acquire(0.0, kit.wish())
    net.run(5.0)
    net.engines[kit.ALICE].acquire(5.0, kit.wish(reference=2))
    net.run(5.0 + delay)
    net.engines[kit.BOB].acquire(net.now, kit.wish(kit.ALICE, reference=3))
    net.run(20.0)
    return net


@pytest.mark.parametrize("delay", [0.0, 0.005])
def test_two_rekeys_at_once_replace_the_old_pair_and_not_each_other(kit: Any, delay: float) -> None:
    net = both_at_once(kit, delay)
    for who in (kit.ALICE, kit.BOB):
        first, *others = net.of(who, QuickModeEstablished)
        assert [event.previous for event in others] == [first.inbound_spi] * 2
        assert not net.of(who, ChildDeleted), "ending the old pair is the caller's, when traffic has moved"
        assert net.engines[who].statistics()["Active quick modes"] == 3


def test_the_next_rekey_replaces_what_is_in_use(kit: Any) -> None:
    """After the two of the test before, each end names its own newest."""
    net = both_at_once(kit)
    before = {who: net.of(who, QuickModeEstablished)[-1].inbound_spi for who in (kit.ALICE, kit.BOB)}
    net.engines[kit.ALICE].acquire(net.now, kit.wish(reference=4))
    net.run(net.now + 5)
    for who, spi in before.items():
        assert net.of(who, QuickModeEstablished)[-1].previous == spi


def test_first_pairs_at_once(kit: Any) -> None:
    net = kit.pair()
    net.engines[kit.ALICE].acquire(0.0, kit.wish())
    net.engines[kit.BOB].acquire(0.0, kit.wish(kit.ALICE, reference=2))
    net.run(20.0)
    for who in (kit.ALICE, kit.BOB):
        events = net.of(who, QuickModeEstablished)
        assert events
        assert all(event.previous is None for event in events)
    assert net.of(kit.ALICE, QuickModeEstablished)[0].answers or net.of(kit.BOB, QuickModeEstablished)[0].answers


def test_rekey_keeps_the_selectors(kit: Any) -> None:
    traffic = kit.selectors(protocol=17, destination_port=1701)
    net = kit.pair()
    for when, reference in ((0.0, 1), (10.0, 2), (20.0, 3)):
        net.run(when)
        net.engines[kit.ALICE].acquire(when, kit.wish(reference=reference, traffic=traffic))
    net.run(30.0)
    events = net.of(kit.ALICE, QuickModeEstablished)
    assert [event.selectors for event in events] == [traffic] * 3
    assert [event.previous for event in events] == [None, *(event.inbound_spi for event in events[:2])]
    assert [event.selectors for event in net.of(kit.BOB, QuickModeEstablished)] == [traffic.mirrored()] * 3
    # Another port is other traffic: nothing is replaced.
    other = kit.selectors(protocol=17, destination_port=1702)
    net.engines[kit.ALICE].acquire(30.0, kit.wish(reference=4, traffic=other))
    net.run(40.0)
    assert net.of(kit.ALICE, QuickModeEstablished)[-1].previous is None


def test_a_pair_that_went_during_the_rekey_is_not_named(kit: Any) -> None:
    net = kit.pair()
    net.engines[kit.ALICE].acquire(0.0, kit.wish())
    net.run(5.0)
    net.engines[kit.ALICE].acquire(5.0, kit.wish(reference=2))
    net.engines[kit.ALICE].delete_child(5.0, net.of(kit.ALICE, QuickModeEstablished)[0].inbound_spi)
    net.run(20.0)
    assert net.of(kit.ALICE, QuickModeEstablished)[1].previous is None
