"""Random lives of a driver: every kind of table decides as a list that is walked does, and nothing leaks in clear.

Drivers with large, tiny and no tables, with and without the compiled matcher, get the same calls as a slow model.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Any, ClassVar

import pytest
from driver_kit import GATEWAYS, add, ip, ip6, make, oracle, soft, tcp, udp
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from ipsec_core import Action, Burst, Driver, Filter, SecurityAssociation, Status
from ipsec_core.driver import NO_SA, PASSES
from ipsec_core.errors import DriverError

NONE = 0xFFFFFFFF
SECRET = b"in clear nobody may see this"
HOSTS = {4: ["10.0.0.1", "10.0.0.2", "10.0.1.1"], 6: ["fd00::1", "fd00::2", "fd00:1::1"]}
NETWORKS: dict[int, list[Any]] = {
    4: [ip_network(n) for n in ("0.0.0.0/0", "10.0.0.0/24", "10.0.0.1/32", "10.0.1.0/24")],
    6: [ip_network(n) for n in ("::/0", "fd00::/64", "fd00::1/128", "fd00:1::/64")],
    0: [None],
}
SPIS = range(0x1000, 0x1006)
TABLES: list[dict[str, Any]] = [
    {},
    {"cache_slots": 2, "spi_slots": 2},
    {"cache_slots": 5, "spi_slots": 4, "matcher": False},
    {"cache_slots": 16, "spi_slots": 16},
    {"cache": False, "spi_slots": 8},
    {"cache": False, "matcher": False},
]

REACHED = {("out", s) for s in (Status.HELD, Status.EXEMPT, Status.SOFT, Status.PROTECTED)}
REACHED |= {("in", s) for s in (Status.SHOULD_BE_SECURED, Status.EXEMPT, Status.PROTECTED)}
# Without shrinking: a life of forty steps takes minutes to be made shorter, and its steps are printed anyway.
LIVES = settings(max_examples=50, stateful_step_count=40, deadline=None, phases=(Phase.reuse, Phase.generate))


@dataclass(frozen=True)
class Flow:
    family: int
    source: str
    destination: str
    protocol: int
    ports: tuple[int, int]
    fragment: int

    def packet(self) -> bytes:
        fields: dict[str, Any] = {"source": self.source, "destination": self.destination}
        if self.family == 6:
            header = b"".join(port.to_bytes(2, "big") for port in self.ports) + bytes(4)
            data = header + SECRET if self.protocol in (6, 17) else SECRET
            return ip6(data, protocol=self.protocol, **fields)
        fields["fragment"] = self.fragment
        if self.protocol in (6, 17):
            return (tcp if self.protocol == 6 else udp)(*self.ports, SECRET, **fields)
        return ip(SECRET, protocol=self.protocol, **fields)

    @property
    def seen_ports(self) -> tuple[int, int]:
        return self.ports if self.protocol in (6, 17) and not self.fragment & 0x1FFF else (0, 0)

    def exempt(self) -> bool:
        special = self.protocol == 46 or ip_address(self.destination).is_multicast
        special |= self.protocol == 17 and self.seen_ports[1] == 500
        return special or (self.protocol in (6, 17) and 88 in self.seen_ports)

    def fits(self, source: Any, destination: Any, protocol: int, ports: tuple[int, int]) -> bool:
        inside = source is None or (
            source.version == self.family
            and ip_address(self.source) in source
            and ip_address(self.destination) in destination
        )
        wanted = all(port in (0, own) for port, own in zip(ports, self.seen_ports, strict=True))
        return inside and protocol in (0, self.protocol) and wanted


@dataclass
class Sa:
    """An SA of the model."""

    config: SecurityAssociation
    hard_time: float
    dead: bool = False
    bytes: int = 0
    packets: int = 0
    number: int = 0
    wires: list[tuple[bytes, bytes]] = field(default_factory=list)

    def fits(self, flow: Flow) -> bool:
        c = self.config
        ports = (c.source_port, c.destination_port)
        return flow.fits(c.inner_source, c.inner_destination, c.inner_protocol, ports)

    def take(self, size: int, now: float) -> bool:
        """Counts a packet, or ends."""
        if self.dead:
            return False
        if (self.config.hard_bytes and self.bytes + size > self.config.hard_bytes) or now >= self.hard_time:
            self.dead = True
            return False
        self.bytes += size
        self.packets += 1
        return True


@st.composite
def selectors(draw: Any, families: tuple[int, ...] = (0, 4, 6)) -> tuple[Any, Any]:
    """Mostly wide ones: narrow ones seldom meet a packet."""
    family = draw(st.sampled_from(families))
    if draw(st.booleans()):
        return NETWORKS[family][0], NETWORKS[family][0]
    return draw(st.sampled_from(NETWORKS[family])), draw(st.sampled_from(NETWORKS[family]))


@st.composite
def flows(draw: Any) -> Flow:
    family = draw(st.sampled_from([4, 4, 6]))
    hosts = HOSTS[family] * 5 + ["224.0.0.9" if family == 4 else "ff05::9"]
    port = st.sampled_from([80, 4000, 80, 4000, 80, 4000, 80, 88, 500])
    fragment = draw(st.sampled_from([0, 0, 0, 0, 0x2000, 0x2003])) if family == 4 else 0
    protocol = draw(st.sampled_from([253, 17, 6, 17, 253, 17, 253, 6, 46]))
    return Flow(
        family,
        draw(st.sampled_from(hosts[:3])),
        draw(st.sampled_from(hosts)),
        protocol,
        (draw(port), draw(port)),
        fragment,
    )


filters = st.lists(
    st.builds(
        lambda way, action, nets, protocol, ports: (way, action, *nets, protocol, *ports),
        st.sampled_from(["out", "out", "in"]),
        st.sampled_from([*Action, Action.NEGOTIATE, Action.NEGOTIATE]),
        selectors(),
        st.sampled_from([0, 0, 6, 17]),
        st.sampled_from([(0, 0), (0, 0), (0, 80), (4000, 0)]),
    ),
    max_size=4,
)
REFERENCES = st.sampled_from([1, 1, 1, 3, 4])
limits = st.fixed_dictionaries(
    {}, optional={"hard_bytes": st.sampled_from([40, 150, 400]), "hard_seconds": st.sampled_from([3.0, 20.0])}
)


class Life(RuleBasedStateMachine):
    seen: ClassVar[Counter[tuple[str, Status]]] = Counter()

    @initialize(first=filters)
    def begin(self, first: Any) -> None:
        self.drivers = [Driver(seed=9, hold_packets=4, hold_bytes=2048, **tables) for tables in TABLES]
        self.sas: dict[int, Sa] = {}
        self.gone: list[tuple[int, Sa]] = []
        self.handles: set[int] = set()
        self.filters: list[Filter] = []
        self.now = 1.0
        self.waiting = False
        self.last: tuple[str, list[Flow]] = ("out", [])
        self.set_filters(first)

    # --- control ---

    def each(self, call: Any) -> Any:
        """The result of the call on every driver, which must be one."""
        results = [call(driver) for driver in self.drivers]
        assert all(result == results[0] for result in results[1:])
        return results[0]

    @rule(chosen=filters)
    def set_filters(self, chosen: Any) -> None:
        """The last ones negotiate for all that the others leave, so that most packets meet SAs."""
        self.filters = [Filter(n, *fields) for n, fields in enumerate(chosen, 3)]
        self.filters += [Filter(1, way, Action.NEGOTIATE, None, None) for way in ("out", "in")[: 2 - len(chosen) // 3]]
        for driver in self.drivers:
            driver.set_filters(self.filters)
        self.send(*self.last)

    def enter(self, association: SecurityAssociation) -> None:
        handle = self.each(lambda driver: add(driver, association))
        assert handle not in self.handles, "a handle names one SA for ever"
        self.handles.add(handle)
        seconds = association.hard_seconds
        self.sas[handle] = Sa(association, self.now + seconds if seconds else float("inf"))
        self.send(*self.last)

    @rule(
        mode=st.sampled_from(["transport", "tunnel"]),
        nets=selectors((4, 6)),
        protocol=st.sampled_from([0, 0, 17]),
        reference=REFERENCES,
        limit=limits,
        family=st.sampled_from([4, 6]),
    )
    def add_outbound(self, mode: Any, nets: Any, protocol: int, reference: int, limit: Any, family: int) -> None:
        if mode == "transport":
            family = nets[0].version
        self.enter(
            make(
                "out",
                "gcm",
                mode,
                family,
                filter=reference,
                inner_source=nets[0],
                inner_destination=nets[1],
                inner_protocol=protocol,
                created=self.now,
                **limit,
            )
        )

    @rule(way=st.sampled_from(["out", "in"]), nets=selectors(), reference=REFERENCES, limit=limits)
    def add_soft(self, way: Any, nets: Any, reference: int, limit: Any) -> None:
        inside = {"inner_source": nets[0], "inner_destination": nets[1]}
        self.enter(soft(way, filter=reference, created=self.now, **inside, **limit))

    @rule(
        spi=st.sampled_from(SPIS),
        name=st.sampled_from(["gcm", "ah-sha1"]),
        family=st.sampled_from([4, 6]),
        nets=selectors(),
        limit=limits,
    )
    def add_inbound(self, spi: int, name: str, family: int, nets: Any, limit: Any) -> None:
        inside = {"inner_source": nets[0], "inner_destination": nets[1]}
        association = make("in", name, "tunnel", family, spi=spi, created=self.now, **inside, **limit)
        key = (spi, association.destination, association.protocol)
        if any((s.config.spi, s.config.destination, s.config.protocol) == key for s in self.inbound().values()):
            for driver in self.drivers:
                with pytest.raises(DriverError, match="exists"):
                    add(driver, association)
        else:
            self.enter(association)

    def inbound(self) -> dict[int, Sa]:
        return {h: s for h, s in self.sas.items() if s.config.direction == "in" and s.config.protocol != "none"}

    @precondition(lambda self: self.sas)
    @rule(data=st.data(), really=st.sampled_from([True, False, False]))
    def delete(self, data: Any, really: bool) -> None:
        if not really:
            return
        handle = data.draw(st.sampled_from(sorted(self.sas)))
        self.gone.append((handle, self.sas.pop(handle)))
        self.each(lambda driver: driver.delete_sa(handle))
        self.send(*self.last)  # what the caches know is old

    @precondition(lambda self: self.sas)
    @rule(data=st.data(), after=st.sampled_from([300.0, 30.0, 2.0, 0.0]))
    def retire(self, data: Any, after: float) -> None:
        handle = data.draw(st.sampled_from(sorted(self.sas)))
        association = self.sas[handle]
        if not association.dead:
            association.hard_time = min(association.hard_time, self.now + after)
        self.each(lambda driver: driver.retire_sa(handle, self.now + after))
        self.send(*self.last)

    @rule(step=st.sampled_from([0.0, 1.0, 10.0]), look=st.booleans())
    def time_passes(self, step: float, look: bool) -> None:
        self.now += step
        if look:
            later = self.each(lambda driver: driver.tick(self.now))
            for association in self.sas.values():
                association.dead |= self.now >= association.hard_time
            assert later is None or later > self.now

    # --- packets ---

    def run(self, direction: str, packets: list[bytes]) -> list[tuple[Status, int, int, bytes]]:
        def once(driver: Driver) -> Any:
            burst = Burst(64, 512).load(packets)
            (driver.outbound if direction == "out" else driver.inbound)(burst, self.now)
            columns = (burst.status.tolist(), burst.filter.tolist(), burst.sa.tolist())
            return [(Status(s), f, a, burst.packet(i)) for i, (s, f, a) in enumerate(zip(*columns, strict=True))]

        found: list[tuple[Status, int, int, bytes]] = self.each(once)
        self.seen.update((direction, status) for status, *_ in found)
        return found

    def expect(self, direction: str, flow: Flow, packet: bytes) -> tuple[set[Status], int, int]:
        """Verdicts that are right, index of the filter, index of the SA."""
        if flow.exempt():
            return {Status.EXEMPT}, NONE, NO_SA
        for i, f in enumerate(self.filters):
            ports = (f.source_port, f.destination_port)
            if f.direction == direction and flow.fits(f.source, f.destination, f.protocol, ports):
                return self.expect_of(f, i, flow, packet)
        return {Status.NO_FILTER}, NONE, NO_SA

    def expect_of(self, f: Filter, i: int, flow: Flow, packet: bytes) -> tuple[set[Status], int, int]:
        """The same for a packet that filter `i` decides."""
        direction = f.direction
        if f.action in (Action.BLOCK, Action.PERMIT):
            return {Status.BLOCKED if f.action is Action.BLOCK else Status.PERMITTED}, i, NO_SA
        if f.action is Action.PASSTHROUGH and direction == "out":
            return {Status.PERMITTED}, i, NO_SA
        for handle, s in reversed(self.sas.items()):
            c = s.config
            if c.direction != direction or c.filter != f.reference or s.dead or not s.fits(flow):
                continue
            if direction == "in" and c.protocol != "none":
                continue
            good = Status.SOFT if c.protocol == "none" else Status.PROTECTED
            size = len(packet)
            if good is Status.PROTECTED and c.mode == "transport":
                if flow.fragment:
                    return {Status.FRAGMENT}, i, handle & NONE
                size -= 20 if flow.family == 4 else 40
            return {good if s.take(size, self.now) else Status.EXPIRED}, i, handle & NONE
        if direction == "out":
            return {Status.HELD, Status.NOT_HELD}, i, NO_SA
        return {Status.PASSED_THROUGH if f.action is Action.PASSTHROUGH else Status.SHOULD_BE_SECURED}, i, NO_SA

    @rule(direction=st.sampled_from(["out", "out", "in"]), some=st.lists(flows(), min_size=1, max_size=6))
    def clear_packets(self, direction: str, some: list[Flow]) -> None:
        self.last = (direction, some)
        self.send(direction, some)

    def send(self, direction: str, some: list[Flow]) -> None:
        packets = [flow.packet() for flow in some] * 2
        for flow, packet, found in zip(some * 2, packets, self.run(direction, packets), strict=True):
            status, filter_index, sa_index, after = found
            self.waiting |= status is Status.HELD
            wanted = self.expect(direction, flow, packet)
            assert status in wanted[0]
            assert (filter_index, sa_index) == wanted[1:]
            if status is Status.PROTECTED:
                assert SECRET not in after
            elif status in PASSES:
                assert after == packet
                negotiated = filter_index != NONE and self.filters[filter_index].action is Action.NEGOTIATE
                assert status is Status.SOFT or not negotiated, "in clear without a soft SA"

    @precondition(lambda self: self.inbound() or self.gone)
    @rule(data=st.data(), flow=flows(), again=st.sampled_from([False, False, True]))
    def protected_packets(self, data: Any, flow: Flow, again: bool) -> None:
        """Of an SA that lives or lived: opened, refused as seen before, expired, or of nobody."""
        alive = self.inbound()
        lost = [s for _, s in self.gone if s.config.direction == "in" and s.config.protocol != "none"]
        if not alive and not lost:
            return
        s = data.draw(st.sampled_from([*list(alive.values()) * 3, *lost]))
        c = s.config
        holders = {(o.config.spi, o.config.destination, o.config.protocol): h for h, o in alive.items()}
        holder = holders.get((c.spi, c.destination, c.protocol))
        s = self.sas[holder] if holder is not None else s
        name, family = ("gcm" if c.protocol == "esp" else "ah-sha1"), ip_address(str(c.destination)).version
        packet = flow.packet()
        if again and s.wires:
            wire, packet = s.wires[-1]
        else:
            s.number += 1
            wire = oracle(name, "tunnel", family, c.spi).seal(packet, s.number)
        ((status, _, index, after),) = self.run("in", [wire])
        if holder is None:
            assert status is Status.BAD_SPI
            assert index == NO_SA
            return
        assert index == holder & NONE
        if again and s.wires:
            assert status is Status.REPLAYED
            return
        dead = s.dead or self.now >= s.hard_time
        if dead:
            s.dead = True
            assert status is Status.EXPIRED
            return
        s.wires.append((wire, packet))
        if not s.fits(flow):
            assert status is Status.WRONG_SELECTOR
        elif s.take(len(packet), self.now):
            assert (status, after) == (Status.PROTECTED, packet)
        else:
            assert status is Status.EXPIRED

    @precondition(lambda self: self.waiting)
    @rule()
    def release(self) -> None:
        def once(driver: Driver) -> list[bytes]:
            burst = Burst(16, 512)
            driver.release(burst, self.now)
            return [burst.packet(i) for i in range(len(burst))]

        self.each(once)
        self.waiting = False

    # --- what always holds ---

    @invariant()
    def drivers_agree(self) -> None:
        if not hasattr(self, "drivers"):
            return

        def state(driver: Driver) -> Any:
            counters = {n: v for n, v in driver.counters().items() if not n.startswith("cache_")}
            return counters, driver.filter_packets(), driver.sas(), driver.upcalls()

        counters, _, infos, _ = self.each(state)
        hard = sum(s.config.protocol != "none" for s in self.sas.values())
        assert (counters["active_associations"], counters["soft_associations"]) == (hard, len(self.sas) - hard)
        assert counters["key_additions"] - counters["key_deletions"] == hard
        assert {info.handle: (info.packets, info.bytes, info.expired) for info in infos} == {
            handle: (s.packets, s.bytes, s.dead) for handle, s in self.sas.items()
        }

    @invariant()
    def spi_lookups(self) -> None:
        if not hasattr(self, "drivers"):
            return
        inbound = {
            (s.config.spi, s.config.destination, 50 if s.config.protocol == "esp" else 51): handle & NONE
            for handle, s in self.inbound().items()
        }
        for spi in (SPIS[0], *{key[0] for key in inbound}, *{s.config.spi for _, s in self.gone[-3:]}):
            for family in (4, 6):
                for protocol in (50, 51):
                    wanted = inbound.get((spi, GATEWAYS[family][1], protocol), NO_SA)
                    for driver in self.drivers:
                        assert driver.spi_lookup(spi, GATEWAYS[family][1], protocol) == wanted

    @invariant()
    def handles_never_alias(self) -> None:
        for handle, _ in getattr(self, "gone", [])[-3:]:
            for call in (Driver.sa_info, Driver.delete_sa):
                with pytest.raises(DriverError, match="no such object"):
                    call(self.drivers[0], handle)


def test_random_lives() -> None:
    run_state_machine_as_test(Life, settings=LIVES)


def test_the_lives_are_rich() -> None:
    """The same lives every time, in which all verdicts that matter come up."""
    Life.seen.clear()
    run_state_machine_as_test(Life, settings=settings(LIVES, derandomize=True, database=None))
    assert Life.seen.keys() >= REACHED
