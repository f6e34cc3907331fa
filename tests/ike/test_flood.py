"""A flood of first messages: 1000 a second for 30 s of virtual time, and a legitimate peer in between."""

from __future__ import annotations

import gc
import sys
import time
import tracemalloc
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from ipsec_core.ike import IkeEngine, IkeOptions, QuickModeEstablished, wire

RATE = 1000
PATIENCE = 2.0
# (seconds of flood, when the legitimate peer begins: the tables have long been full)
LONG, SHORT = (30.0, 20.0), (4.0, 2.5)


def from_everywhere(number: int, random: Random) -> str:
    return f"10.{1 + number // 65000}.{number // 250 % 250}.{1 + number % 250}"


def from_one(number: int, random: Random) -> str:
    return "10.0.0.66"


def from_the_peer(number: int, random: Random) -> str:
    """With the address of the legitimate peer: forged, as all first messages can be."""
    return "10.0.0.1"


def from_few(number: int, random: Random) -> str:
    return f"10.1.0.{1 + random.randrange(40)}"


def opening_of(kit: Any) -> bytes:
    stranger = kit.Net(99).add(kit.ALICE)
    stranger.acquire(0.0, kit.wish())
    (opening,) = stranger.datagrams()
    return opening.data  # type: ignore[no-any-return]


class Flood:
    """The two ends of `net` and a flood on BOB between `begin` and `end`; virtual time."""

    def __init__(self, kit: Any, source: Callable[[int, Random], str], **options: Any) -> None:
        self.net = kit.pair(**options)
        self.kit, self.source = kit, source
        self.random = Random(1)
        self.opening = opening_of(kit)
        self.sent = self.replied = 0

    @property
    def bob(self) -> IkeEngine:
        return self.net.engines[self.kit.BOB]  # type: ignore[no-any-return]

    def run(self, until: float) -> None:
        """From now on, message by message, with all that is due in between."""
        now = self.net.now
        while now < until:
            now += 1.0 / RATE
            self.net.run(now)
            self.sent += 1
            data = self.random.randbytes(8) + self.opening[8:]
            self.bob.receive_datagram(now, data, (self.source(self.sent, self.random), 500))
            # What is sent to the flood is counted and goes nowhere, but the peer may get some of it, too.
            self.replied += len(self.bob._out.datagrams)
        self.net.run(now)


@pytest.mark.parametrize(
    ("source", "times", "protect"),
    [
        # The whole length where a message of the flood costs least; the state is the same after a few seconds.
        (from_everywhere, LONG, True),
        (from_everywhere, SHORT, False),
        (from_one, SHORT, True),
        (from_one, SHORT, False),
        (from_the_peer, SHORT, True),
        (from_the_peer, SHORT, False),
        (from_few, SHORT, False),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_a_peer_gets_through(
    kit: Any, source: Callable[[int, Random], str], times: tuple[float, float], protect: bool
) -> None:
    """The peer wants an SA in the middle of it, with nothing known of it before."""
    seconds, knocks = times
    flood = Flood(kit, source, options=IkeOptions(dos_protect=protect))
    started = time.process_time()
    flood.run(knocks)
    flood.net.engines[kit.ALICE].acquire(knocks, kit.wish())
    flood.run(knocks + PATIENCE)
    (event,) = flood.net.of(kit.ALICE, QuickModeEstablished)
    at_bob = flood.net.of(kit.BOB, QuickModeEstablished)
    assert event.answers == (1,)
    assert event.time < knocks + PATIENCE
    assert (event.inbound, event.outbound) == (at_bob[0].outbound, at_bob[0].inbound)
    flood.run(seconds)
    assert flood.bob.statistics()["Active quick modes"] == 1
    assert flood.sent >= 0.99 * RATE * seconds
    sys.stderr.write(f"{source.__name__}: {1e6 * (time.process_time() - started) / flood.sent:.0f} us a message\n")


@pytest.mark.parametrize("protect", [False, True], ids=["no cookies", "cookies"])
def test_memory_is_flat(kit: Any, protect: bool) -> None:
    """What is allocated once the tables are full, and later; and when the flood is over, it is given back."""
    tracemalloc.start()
    try:
        flood = Flood(kit, from_everywhere, options=IkeOptions(dos_protect=protect, max_half_open=100))
        sizes = []
        for seconds in (0.0, 0.5, 1.0, 1.5, 200.0):
            flood.run(seconds) if seconds < 100.0 else flood.net.run(seconds)
            flood.net.wire.clear()
            flood.net.events[kit.BOB].clear()
            # What refers to itself and to nothing else is gone, too, whenever Python comes to it.
            gc.collect()
            sizes.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    empty, full, *later, after = sizes
    assert full > empty
    assert max(later) - empty <= 1.2 * (full - empty)
    assert after - empty <= 0.2 * (full - empty)
    assert flood.bob.next_timer() is None


def test_an_established_peer_notices_nothing(kit: Any) -> None:
    """Its SAs live, and more Quick Modes come under its Main Mode as if nothing was."""
    flood = Flood(kit, from_the_peer, options=IkeOptions(dos_protect=True))
    alice = flood.net.engines[kit.ALICE]
    alice.acquire(0.0, kit.wish())
    flood.net.run(0.5)
    flood.run(3.0)
    alice.acquire(3.0, kit.wish(traffic=kit.selectors(protocol=6), reference=2))
    flood.run(3.2)
    assert [event.answers for event in flood.net.of(kit.ALICE, QuickModeEstablished)] == [(1,), (2,)]
    assert flood.bob.statistics()["Active main modes"] == 1


def test_the_flood_gets_no_more_than_it_sent(kit: Any) -> None:
    flood = Flood(kit, from_everywhere, options=IkeOptions(dos_protect=True))
    flood.run(3.0)
    flood.net.run(200.0)
    sent = sum(len(data) for _, who, data in flood.net.wire if who == kit.BOB)
    assert sent <= 1.5 * flood.sent * len(flood.opening)
    assert {wire.parse_header(data).exchange for _, who, data in flood.net.wire if who == kit.BOB} <= {2, 5}
