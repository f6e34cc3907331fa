"""A thousand computers and one server, in virtual time."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable
from ipaddress import IPv4Address
from random import Random
from typing import Any

import pytest

from ipsec_core.ike import Event, IkeEngine, MainModeEstablished, NegotiationFailed, QuickModeEstablished

SERVER = "10.0.0.1"
CLIENTS = [str(IPv4Address("10.1.0.0") + number) for number in range(1000)]
DELAY = 0.01


class Star:
    """Engines by address; what is due next is found in a heap, because there are many."""

    def __init__(self, kit: Any, addresses: list[str], lost: Callable[[], bool] = lambda: False) -> None:
        self.lost = lost
        self.engines = {}
        self.events: dict[str, list[Event]] = {}
        self._queue: list[tuple[float, int, str, tuple[bytes, str] | None]] = []
        self._order = 0
        rules = kit.Rules()
        for address in addresses:
            random = Random(address)
            self.events[address] = []
            self.engines[address] = IkeEngine(
                address,
                rules,
                random=random.randbytes,
                allocate_spi=lambda random=random: random.randrange(256, 1 << 32),
            )

    def _push(self, time: float, address: str, what: tuple[bytes, str] | None) -> None:
        self._order += 1
        heapq.heappush(self._queue, (time, self._order, address, what))

    def collect(self, now: float, address: str) -> None:
        engine = self.engines[address]
        self.events[address] += engine.events()
        for datagram in engine.datagrams():
            if not self.lost():
                self._push(now + DELAY, datagram.destination[0], (datagram.data, address))
        timer = engine.next_timer()
        if timer is not None:
            self._push(timer, address, None)

    def run(self, until: float) -> None:
        while self._queue and self._queue[0][0] <= until:
            now, _, address, what = heapq.heappop(self._queue)
            engine = self.engines[address]
            if what is not None:
                engine.receive_datagram(now, what[0], (what[1], 500))
            else:
                timer = engine.next_timer()
                # Another timer has taken the place of this one.
                if timer is None or timer > now:
                    continue
                engine.handle_timer(now)
            self.collect(now, address)

    def of(self, address: str, kind: type) -> list[Any]:
        return [event for event in self.events[address] if isinstance(event, kind)]


def check(star: Star, clients: list[str]) -> None:
    for address in (SERVER, *clients):
        assert not star.of(address, NegotiationFailed)
    ours = {event.remote: event for event in star.of(SERVER, QuickModeEstablished)}
    assert set(ours) == set(clients)
    assert Counter(event.remote for event in star.of(SERVER, MainModeEstablished)) == dict.fromkeys(clients, 1)
    for address in clients:
        (theirs,) = star.of(address, QuickModeEstablished)
        assert (theirs.inbound, theirs.outbound) == (ours[address].outbound, ours[address].inbound)
    keys = {sa.encryption_key for event in ours.values() for sa in (*event.inbound, *event.outbound)}
    assert len(keys) == 2 * len(clients)


def test_a_thousand_computers_come_in_one_after_the_other(kit: Any) -> None:
    star = Star(kit, [SERVER, *CLIENTS])
    for number, address in enumerate(CLIENTS):
        start = number * DELAY
        star.run(start)
        star.engines[address].acquire(start, kit.wish(SERVER, traffic=kit.selectors(address, SERVER)))
        star.collect(start, address)
    star.run(30)
    check(star, CLIENTS)
    assert len(star.of(SERVER, QuickModeEstablished)) == len(CLIENTS)


@pytest.mark.parametrize("loss", [0.0, 0.1])
def test_computers_that_all_come_at_once(kit: Any, loss: float) -> None:
    """The server takes them all half-open at a time; what gets lost comes again with the next copy."""
    clients = CLIENTS[:400]
    random = Random(1)
    star = Star(kit, [SERVER, *clients], lambda: random.random() < loss)
    for address in clients:
        star.engines[address].acquire(0.0, kit.wish(SERVER, traffic=kit.selectors(address, SERVER)))
        star.collect(0.0, address)
    star.run(63)
    check(star, clients)
    # All are through within the round trips; the gap after the first message is 1 s.
    times = sorted(star.of(address, QuickModeEstablished)[0].time for address in clients)
    assert times[-1] < 1 or loss
