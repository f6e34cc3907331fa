"""Two computers on a wire that loses, repeats, delays and damages, in virtual time and from one seed.

Makes udp_captures.py and quick_kit.py importable (the tests run in importlib mode).
"""

from __future__ import annotations

import heapq
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from pathlib import Path
from random import Random
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "fuzz"))

from ipsec_core.ike import (
    Acquire,
    AuthAlgorithm,
    Encapsulation,
    Encryption,
    EspTransform,
    Event,
    Group,
    Hash,
    IkeEngine,
    MainModeOffer,
    MainModePolicy,
    QuickModeOffer,
    QuickModePolicy,
    TrafficSelector,
)

End = tuple[str, int]
ALICE, BOB = "10.0.0.1", "10.0.0.2"
KEY = b"a pre-shared key"
# Group 1 keeps the many simulated handshakes cheap.
MAIN_OFFER = MainModeOffer(Encryption.TRIPLE_DES_CBC, Hash.SHA1, Group.MODP_768)
ESP_OFFER = QuickModeOffer(EspTransform.TRIPLE_DES, AuthAlgorithm.HMAC_SHA1, Encapsulation.TRANSPORT)
MAIN_POLICY = MainModePolicy((MAIN_OFFER,), KEY)
QUICK_POLICY = QuickModePolicy((ESP_OFFER,), 7)


@dataclass
class Rules:
    """A policy that says the same for every peer; `quick` may be None to refuse all traffic."""

    main: MainModePolicy | None = MAIN_POLICY
    quick: QuickModePolicy | None = QUICK_POLICY
    asked: list[TrafficSelector] = field(default_factory=list)

    def main_mode(self, local: str, remote: str) -> MainModePolicy | None:
        return self.main

    def quick_mode(self, local: str, remote: str, selectors: TrafficSelector) -> QuickModePolicy | None:
        self.asked.append(selectors)
        return self.quick


class Net:
    """Engines by address. `harm(data)` returns the copies that arrive, as (delay, data).

    `nat(source, destination)`, both (address, port), gives the two that the receiver sees, None drops the datagram.
    """

    def __init__(self, seed: int = 1, harm: Callable[[bytes], list[tuple[float, bytes]]] | None = None) -> None:
        self.random = Random(seed)
        self.now = 0.0
        self.harm = harm or (lambda data: [(0.01, data)])
        self.nat: Callable[[End, End], tuple[End, End] | None] = lambda source, destination: (source, destination)
        self.engines: dict[str, IkeEngine] = {}
        self.events: dict[str, list[Event]] = {}
        self.wire: list[tuple[float, str, bytes]] = []
        self._order = 0
        self._queue: list[tuple[float, int, End, bytes, End]] = []

    def add(self, address: str, rules: Rules | None = None, **options: Any) -> IkeEngine:
        spis = Random(f"{address}{self.random.random()}")
        source = Random(f"{address}{self.random.random()}")
        engine = IkeEngine(
            address,
            rules or Rules(),
            random=source.randbytes,
            allocate_spi=lambda: spis.randrange(256, 1 << 32),
            **options,
        )
        self.engines[address], self.events[address] = engine, []
        return engine

    def collect(self) -> None:
        for address, engine in self.engines.items():
            self.events[address] += engine.events()
            for datagram in engine.datagrams():
                self.wire.append((self.now, address, datagram.data))
                ends = self.nat((address, datagram.source_port), datagram.destination)
                for delay, data in self.harm(datagram.data) if ends else []:
                    self._order += 1
                    heapq.heappush(self._queue, (self.now + delay, self._order, ends[1], data, ends[0]))

    def run(self, until: float = 200.0) -> None:
        """Run to `until` or until nothing can happen before that."""
        self.collect()
        while True:
            timers = [t for engine in self.engines.values() if (t := engine.next_timer()) is not None]
            due = min([*timers, *(item[0] for item in self._queue[:1])], default=None)
            if due is None or due > until:
                break
            self.now = max(self.now, due)
            while self._queue and self._queue[0][0] <= self.now:
                _, _, destination, data, source = heapq.heappop(self._queue)
                if destination[0] in self.engines:
                    self.engines[destination[0]].receive_datagram(self.now, data, source, destination[1])
            for engine in self.engines.values():
                if (timer := engine.next_timer()) is not None and timer <= self.now:
                    engine.handle_timer(self.now)
            self.collect()
        self.now = max(self.now, until)

    def of(self, address: str, kind: type) -> list[Any]:
        return [event for event in self.events[address] if isinstance(event, kind)]


def selectors(source: str = ALICE, destination: str = BOB, **rest: int) -> TrafficSelector:
    return TrafficSelector(IPv4Network(source), IPv4Network(destination), **rest)


def wish(
    remote: str = BOB, offers: tuple[QuickModeOffer, ...] = (ESP_OFFER,), reference: int = 1, **rest: Any
) -> Acquire:
    local = ALICE if remote == BOB else BOB
    traffic = rest.pop("traffic", selectors(local, remote))
    return Acquire(remote, traffic, offers, reference, **rest)


class Kit:
    """What the tests of this folder share."""

    Net, Rules = Net, Rules
    ALICE, BOB, KEY = ALICE, BOB, KEY
    MAIN_OFFER, ESP_OFFER = MAIN_OFFER, ESP_OFFER
    selectors = staticmethod(selectors)
    wish = staticmethod(wish)

    @staticmethod
    def pair(
        seed: int = 1, harm: Any = None, alice: Rules | None = None, bob: Rules | None = None, **options: Any
    ) -> Net:
        net = Net(seed, harm)
        net.add(ALICE, alice, **options)
        net.add(BOB, bob, **options)
        return net


@pytest.fixture(scope="session")
def kit() -> type[Kit]:
    return Kit
