"""The header cache never decides otherwise than the linear walk (first match in list order), whatever its size."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Any

import pytest
from driver_kit import ip, network, sa, tcp, udp

from ipsec_core import Action, Burst, Driver, Filter, SecurityAssociation, Status
from ipsec_core.driver import NO_SA, PASSES

NONE = 0xFFFFFFFF
HOSTS = ["10.0.0.1", "10.0.0.2", "10.0.1.1", "224.0.0.5"]
NETWORKS = [network(n) for n in ("0.0.0.0/0", "10.0.0.0/8", "10.0.0.0/24", "10.0.0.1/32", "10.0.0.2/32", "10.0.1.0/24")]
PORTS = [80, 80, 80, 4000, 4000, 4000, 4000, 88, 500]
DECIDED = {
    Action.PERMIT: (Status.PERMITTED, Status.PERMITTED),
    Action.BLOCK: (Status.BLOCKED, Status.BLOCKED),
    Action.PASSTHROUGH: (Status.PERMITTED, Status.PASSED_THROUGH),
    Action.NEGOTIATE: (None, Status.SHOULD_BE_SECURED),
}
DROPPED = {Status.HELD, Status.NOT_HELD, Status.BLOCKED, Status.SHOULD_BE_SECURED, Status.FRAGMENT}


@dataclass(frozen=True)
class Flow:
    """A packet by its selectors. `part`: a whole datagram, a first or a later fragment."""

    source: str
    destination: str
    protocol: int
    source_port: int
    destination_port: int
    part: int

    def packet(self) -> bytes:
        fields: dict[str, Any] = {"source": self.source, "destination": self.destination}
        fields["fragment"] = (0, 0x2000, 0x2005)[self.part]
        make = {6: tcp, 17: udp}.get(self.protocol)
        if make:
            return make(self.source_port, self.destination_port, **fields)
        return ip(b"payload", protocol=self.protocol, **fields)

    @property
    def ports(self) -> tuple[int, int]:
        return (self.source_port, self.destination_port) if self.protocol in (6, 17) and self.part < 2 else (0, 0)

    def exempt(self) -> bool:
        """KB 253169: IKE, Kerberos, RSVP, broadcast and multicast."""
        ike = self.protocol == 17 and self.ports[1] == 500
        kerberos = self.protocol in (6, 17) and 88 in self.ports
        return IPv4Address(self.destination).is_multicast or ike or kerberos or self.protocol == 46

    def fits(self, source: Any, destination: Any, protocol: int, ports: tuple[int, int]) -> bool:
        return (
            IPv4Address(self.source) in source
            and IPv4Address(self.destination) in destination
            and protocol in (0, self.protocol)
            and all(wanted in (0, port) for wanted, port in zip(ports, self.ports, strict=True))
        )


@dataclass
class Walk:
    """The oracle: lists, walked from the start for every packet."""

    filters: list[Filter] = field(default_factory=list)
    decided: list[int] = field(default_factory=list)
    sas: list[tuple[int, SecurityAssociation]] = field(default_factory=list)  # oldest first

    def decide(self, direction: str, flow: Flow) -> tuple[Status | None, int, int]:
        """(status or None for held, filter, SA index)."""
        if flow.exempt():
            return Status.EXEMPT, NONE, NO_SA
        for i, f in enumerate(self.filters):
            ports = (f.source_port, f.destination_port)
            if f.direction != direction or not flow.fits(f.source, f.destination, f.protocol, ports):
                continue
            self.decided[i] += 1
            status = DECIDED[f.action][direction == "in"]
            if status is not None:
                return status, i, NO_SA
            for handle, s in reversed(self.sas):
                ports = (s.source_port, s.destination_port)
                if s.filter == f.reference and flow.fits(s.inner_source, s.inner_destination, s.inner_protocol, ports):
                    index = handle & NONE
                    return (Status.PROTECTED if s.mode == "tunnel" or not flow.part else Status.FRAGMENT), i, index
            return None, i, NO_SA
        return Status.NO_FILTER, NONE, NO_SA


class Script:
    """Random operations that often hit what earlier ones left behind."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.flows = [self.flow() for _ in range(12)]

    def flow(self) -> Flow:
        pick = self.random.choice
        return Flow(
            pick(HOSTS[:3]),
            pick(HOSTS + HOSTS[:3]),
            pick([6, 17, 17, 1, 1, 46]),
            pick(PORTS),
            pick(PORTS),
            pick([0, 0, 1, 2]),
        )

    def filters(self) -> list[Filter]:
        pick = self.random.choice
        return [
            Filter(
                reference,
                pick(["out", "out", "in"]),
                pick([*Action, Action.NEGOTIATE, Action.NEGOTIATE]),
                pick(NETWORKS),
                pick(NETWORKS),
                pick([0, 0, 6, 17]),
                pick([0, 0, 0, 80]),
                pick([0, 0, 0, 4000]),
                pick([None, IPv4Address("192.0.2.2")]),
            )
            for reference in range(1, 3 + self.random.randrange(5))
        ]

    def sa(self) -> SecurityAssociation:
        pick = self.random.choice
        return sa(
            "out",
            pick(["AES-128-GCM", "3DES-CBC"]),
            pick(["transport", "tunnel"]),
            filter=pick([1, 2, 3]),
            inner_source=pick(NETWORKS),
            inner_destination=pick(NETWORKS),
            inner_protocol=pick([0, 0, 17]),
            source_port=pick([0, 0, 80]),
        )

    def operation(self) -> str:
        return self.random.choices(["filters", "add", "delete", "out", "in", "release"], [2, 5, 2, 12, 4, 1])[0]


def comparable(driver: Driver) -> dict[str, int]:
    return {name: value for name, value in driver.counters().items() if not name.startswith("cache_")}


def run_all(drivers: list[Driver], direction: str, packets: list[bytes], walk: Walk, flows: list[Flow]) -> list[Status]:
    seen = []
    for driver in drivers:
        burst = Burst(64).load(packets)
        (driver.outbound if direction == "out" else driver.inbound)(burst)
        count = range(len(burst))
        seen.append((burst.status.tolist(), burst.filter.tolist(), burst.sa.tolist(), [burst.packet(i) for i in count]))
    assert all(other == seen[0] for other in seen[1:])
    for flow, status, decided, index in zip(flows, *seen[0][:3], strict=True):
        wanted, filter_index, sa_index = walk.decide(direction, flow)
        assert (decided, index) == (filter_index, sa_index)
        assert Status(status) == wanted if wanted is not None else Status(status) in (Status.HELD, Status.NOT_HELD)
    return [Status(status) for status in seen[0][0]]


def play(seed: int, steps: int = 200) -> Counter[Status]:
    """Runs a script on drivers with all kinds of caches, holds them equal to each other and to the walk."""
    script = Script(seed)
    options: list[dict[str, Any]] = [{}, {"cache_slots": 1 + seed % 4}, {"cache": False}]
    drivers = [Driver(seed=5, hold_packets=3, hold_bytes=512, **o) for o in options]
    walk = Walk()
    seen: Counter[Status] = Counter()
    for _ in range(steps):
        what = script.operation()
        if what == "filters":
            counted = {(f.direction, f.reference): n for f, n in zip(walk.filters, walk.decided, strict=True)}
            walk.filters = script.filters()
            walk.decided = [counted.get((f.direction, f.reference), 0) for f in walk.filters]
            for driver in drivers:
                driver.set_filters(walk.filters)
        elif what == "add":
            added = script.sa()
            handles = {driver.add_sa(added) for driver in drivers}
            assert len(handles) == 1
            walk.sas.append((handles.pop(), added))
        elif what == "delete" and walk.sas:
            handle, _ = walk.sas.pop(script.random.randrange(len(walk.sas)))
            for driver in drivers:
                driver.delete_sa(handle)
        elif what in ("out", "in"):
            flows = script.random.choices(script.flows, k=script.random.randint(1, 20))
            seen.update(run_all(drivers, what, [flow.packet() for flow in flows], walk, flows))
        elif what == "release":
            released = [Burst(64) for _ in drivers]
            counts = {driver.release(burst) for driver, burst in zip(drivers, released, strict=True)}
            assert len(counts) == 1
            contents = [[burst.packet(i) for i in range(len(burst))] for burst in released]
            assert all(other == contents[0] for other in contents)
        for driver in drivers:
            assert driver.filter_packets() == [
                (f.reference, n) for f, n in zip(walk.filters, walk.decided, strict=True)
            ]
            assert comparable(driver) == comparable(drivers[0])
            assert driver.status_counters("out") == drivers[0].status_counters("out")
            assert driver.status_counters("in") == drivers[0].status_counters("in")
        upcalls = [driver.upcalls() for driver in drivers]
        assert upcalls[1:] == upcalls[:-1]
    off = drivers[2].counters()
    assert {off[name] for name in off if name.startswith("cache_")} == {0}
    for driver in drivers[:2]:
        c = driver.counters()
        assert c["cache_hits"] + c["cache_misses"] == sum(walk_count(driver))
        assert c["cache_hits"] > 50
        assert c["cache_overwrites"] + c["cache_stale"] <= c["cache_misses"]
    return seen


@pytest.mark.parametrize("seed", range(24))
def test_cache_equals_walk(seed: int) -> None:
    play(seed)


def test_the_scripts_reach_every_decision() -> None:
    seen = sum((play(seed, 100) for seed in range(100, 110)), Counter())
    assert seen.keys() == {*PASSES, *DROPPED} - {Status.NOT_IP, Status.SOFT}
    assert min(seen.values()) > 20


def walk_count(driver: Driver) -> list[int]:
    """Packets that the cache or the filters were asked for; whether a flow is exempt the cache remembers, too."""
    unasked = ("MALFORMED", "NOT_IP")
    return [
        sum(n for name, n in driver.status_counters(direction).items() if name not in unasked)
        for direction in ("out", "in")
    ]


def test_cache_counters() -> None:
    driver = Driver(cache_slots=1)
    driver.set_filters([Filter(1, "out", Action.PERMIT)])
    one, two = udp(4000, 4001), udp(4000, 4002)

    def send(packet: bytes) -> dict[str, int]:
        before = driver.counters()
        driver.outbound(Burst(1).load([packet]))
        after = driver.counters()
        return {n[6:]: after[n] - before[n] for n in after if n.startswith("cache_") and after[n] != before[n]}

    assert send(one) == {"misses": 1}
    assert send(one) == {"hits": 1}
    assert send(two) == {"misses": 1, "overwrites": 1}
    driver.set_filters([Filter(1, "out", Action.BLOCK)])
    assert send(two) == {"misses": 1, "stale": 1}
    assert send(two) == {"hits": 1}
    assert driver.status_counters("out")["BLOCKED"] == 2


def test_directions_do_not_share_entries() -> None:
    driver = Driver(cache_slots=1)
    driver.set_filters([Filter(1, "out", Action.PERMIT), Filter(2, "in", Action.BLOCK)])
    packet = udp(4000, 4001)
    for _ in range(2):
        for run, wanted in ((driver.outbound, Status.PERMITTED), (driver.inbound, Status.BLOCKED)):
            burst = Burst(1).load([packet])
            run(burst)
            assert burst.status[0] == wanted
    assert driver.counters()["cache_hits"] == 2
