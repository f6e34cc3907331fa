"""Several drivers side by side, so that threads scale: an SA belongs to one driver, a driver to one thread at a time.

Inbound, an IPsec packet goes by its SPI: `Shards.allocate_spi` hands out SPIs that name their shard (SPI modulo
count), so that no table is asked. Outbound, a packet goes by its flow, a hash of addresses, protocol and ports. So
the flows of one filter spread over all shards, and each shard has outbound SAs of its own for them: one SA could not
be shared, because its sequence numbers and its window would have to be locked. A shard asks for them by upcalls of
its own (as RFC 9611 makes a Child SA for each CPU), and a pair negotiated for shard i has an inbound SPI of shard i.
The peer needs nothing but to accept several SAs with the same selectors, which RFC 2401 4.4.3 allows.

    >>> from ipaddress import ip_address
    >>> from ipsec_core import Action, Filter, SecurityAssociation, Shards
    >>> shards = Shards(2, seed=1)
    >>> shards.set_filters([Filter(1, "out", Action.NEGOTIATE, tunnel=ip_address("192.0.2.2"))])
    >>> for shard in range(2):
    ...     ends = {"mode": "tunnel", "encryption": "AES-128-GCM", "encryption_key": bytes([shard]) * 20}
    ...     mine = shards.allocate_spi("192.0.2.1", shard)
    ...     inbound = SecurityAssociation("in", mine, "192.0.2.2", "192.0.2.1", **ends)
    ...     outbound = SecurityAssociation("out", 4096 + shard, "192.0.2.1", "192.0.2.2", filter=1, **ends)
    ...     handles = shards.add_sa(inbound), shards.add_sa(outbound, shard)
    >>> packet = bytes.fromhex("4500001c00010000401100000a0100010a020002 1234 5678 0008 0000")
    >>> [outcome.status.name for outcome in shards.run("out", [packet] * 3, now=0.0)]
    ['PROTECTED', 'PROTECTED', 'PROTECTED']
    >>> shards.counters()["active_associations"]
    4
    >>> shards.close()

`run` is the simple way; Python's part of it (lists of bytes) runs under the GIL. A program that wants all of the
threads keeps its packets in bursts, one thread and one burst for each of `Shards.drivers`, and asks `steer` where a
packet belongs.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor, wait
from dataclasses import replace
from types import TracebackType
from typing import Any, Literal, NamedTuple

from ipsec_core.driver._core import BURST_MAX, Burst, Driver, Status
from ipsec_core.driver._path import shard_of_spi, steer
from ipsec_core.driver.types import Address, Filter, SecurityAssociation, Upcall
from ipsec_core.errors import DriverError

SHARDS_MAX = 256
STATUSES = tuple(Status)
# Verdicts on a fragment of an IPsec packet before it is whole; with any other it has been put together.
OF_FRAGMENTS = (Status.REASSEMBLING, Status.MALFORMED, Status.FRAGMENT, Status.TOO_BIG)


class Outcome(NamedTuple):
    """What became of a packet: its verdict, and its bytes as the driver left them."""

    status: Status
    packet: bytes


class Shards:
    """`count` (1..256) drivers with the same filters that share the SAs and the traffic.

    `driver_options` are those of Driver, the same for all; a `seed` gives each shard its own. `pool` runs the shards
    of `run` (an Executor with threads; it stays the caller's), by default one of its own with `count` threads, which
    `close` ends; a Shards is a context manager. `max_packet` is that of the bursts of `run`. One `run` at a time; a
    driver of `drivers` may be used directly by one thread at a time, as any driver.

    Handles are the shards' own numbers: `locate` gives driver and handle for everything else that a Driver can do
    with an SA. SAs inside of SAs must name each other by `outer`: their SPIs are of one shard, and what comes out of
    a tunnel is not steered anew. Fragments of IPsec packets that come in are put together first, in the thread of
    `run`.
    """

    def __init__(
        self, count: int, *, pool: Executor | None = None, max_packet: int = 2048, **driver_options: Any
    ) -> None:
        if not 1 <= count <= SHARDS_MAX:
            raise DriverError(f"count: {count} is out of range; accepted: 1 to {SHARDS_MAX}")
        seed = driver_options.pop("seed", None)
        seeds = [None if seed is None else f"{seed!r} of shard {shard}".encode() for shard in range(count + 1)]
        self.count = count
        self.drivers = tuple(Driver(seed=own, **driver_options) for own in seeds[:-1])
        self.max_packet = max_packet
        # It has no SAs: what it puts together it does not know, and hands back whole.
        self._front = Driver(seed=seeds[-1], **driver_options)
        self._front_burst = Burst(BURST_MAX, max_packet)
        # Room for the rounding of slots: what the front could put together fits.
        self._bursts = tuple(Burst(BURST_MAX, min(max_packet + 128, 65535)) for _ in range(count))
        self._nat_traversal = bool(driver_options.get("nat_traversal", False))
        self._pool = pool
        self._own_pool: ThreadPoolExecutor | None = None
        self._running = threading.Lock()

    def __enter__(self) -> Shards:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the threads; the next `run` makes new ones. A pool of the caller stays."""
        if self._own_pool is not None:
            self._own_pool.shutdown()
            self._own_pool = None

    # --- control ---

    def set_filters(self, filters: Iterable[Filter]) -> None:
        """Replaces the filters of all shards. Raises DriverError as a Driver does; nothing has changed then."""
        filters = list(filters)
        for driver in self.drivers:
            driver.set_filters(filters)

    def shard_of_spi(self, spi: int) -> int:
        """The shard of an inbound SA: SPI modulo count."""
        return shard_of_spi(spi, self.count)

    def allocate_spi(self, destination: Address | str, shard: int) -> int:
        """An SPI of a shard that no inbound SA to `destination` uses."""
        self._check_shard(shard)
        while True:
            spi = self.drivers[shard].allocate_spi(destination)
            if self.shard_of_spi(spi) == shard:
                return spi

    def add_sa(self, sa: SecurityAssociation, shard: int | None = None) -> int:
        """Adds an SA and returns its handle, which is the shards' own.

        An inbound SA goes to the shard of its SPI. `shard` says whose flows an outbound or soft SA serves: that of the
        upcall that asked for it. `outer` is a handle of an SA of the same shard.
        """
        if sa.direction == "in" and sa.protocol != "none":
            own = self.shard_of_spi(sa.spi)
            if shard not in (None, own):
                raise DriverError(f"shard: {shard} is not that of SPI 0x{sa.spi:08x}; accepted: {own}, or None")
            shard = own
        elif shard is None:
            raise DriverError(f"shard: None does not say whose flows the SA serves; accepted: 0 to {self.count - 1}")
        self._check_shard(shard)
        if sa.outer:
            around, outer = divmod(sa.outer, self.count)[::-1]
            if around != shard:
                raise DriverError(f"outer: an SA of shard {around}; accepted: one of shard {shard}")
            sa = replace(sa, outer=outer)
        return self.drivers[shard].add_sa(sa) * self.count + shard

    def locate(self, handle: int) -> tuple[Driver, int]:
        """The driver of an SA and its handle there: `driver, own = shards.locate(h); driver.retire_sa(own, 60.0)`."""
        return self.drivers[handle % self.count], handle // self.count

    def delete_sa(self, handle: int) -> None:
        """Deletes an SA. A handle of an SA that is gone raises DriverError."""
        driver, own = self.locate(handle)
        driver.delete_sa(own)

    def upcalls(self) -> list[tuple[int, Upcall]]:
        """Takes all waiting upcalls with their shards, shard by shard; `sa` is the shards' own handle, 0 for none."""
        return [
            (shard, replace(upcall, sa=upcall.sa * self.count + shard if upcall.sa else 0))
            for shard, driver in enumerate(self.drivers)
            for upcall in driver.upcalls()
        ]

    def acquire_failed(self, shard: int, filter: int, source: Address | str, destination: Address | str) -> int:
        """The negotiation that a shard asked for failed: drops its waiting packets and returns how many."""
        self._check_shard(shard)
        return self.drivers[shard].acquire_failed(filter, source, destination)

    def tick(self, now: float) -> float | None:
        """Looks after lifetimes in seconds and idle timers; returns when to call again (seconds), None: nothing due."""
        return min((due for driver in self.drivers if (due := driver.tick(now)) is not None), default=None)

    def counters(self) -> dict[str, int]:
        """The sums of the drivers' counters, by name."""
        sums = self._sums([driver.counters() for driver in self.drivers])
        sums["packets_inbound"] += sum(self._kept().values())
        return sums

    def status_counters(self, direction: Literal["out", "in"]) -> dict[str, int]:
        """Packets per verdict in a direction, summed over the drivers."""
        sums = self._sums([driver.status_counters(direction) for driver in self.drivers])
        for name, packets in self._kept().items():
            sums[name] += packets if direction == "in" else 0
        return sums

    def reset_counters(self) -> None:
        """All counters to zero but the active associations."""
        for driver in (*self.drivers, self._front):
            driver.reset_counters()

    @staticmethod
    def _sums(counters: list[dict[str, int]]) -> dict[str, int]:
        return {name: sum(one[name] for one in counters) for name in counters[0]}

    def _kept(self) -> dict[str, int]:
        """Packets that ended at the front, by verdict."""
        found = self._front.status_counters("in")
        return {status.name: found[status.name] for status in OF_FRAGMENTS}

    def _check_shard(self, shard: int) -> None:
        if not 0 <= shard < self.count:
            raise DriverError(f"shard: {shard} is out of range; accepted: 0 to {self.count - 1}")

    # --- packets ---

    def split(self, direction: Literal["out", "in"], packets: Burst | Sequence[bytes]) -> list[list[int]]:
        """The indices of the packets for each shard, in order, as `count` lists and one more.

        The last list has the fragments of IPsec packets that come in, which belong to no shard before they are whole.
        """
        shards = steer(packets, direction, self.count, self._nat_traversal)
        parts: list[list[int]] = [[] for _ in range(self.count + 1)]
        for i, shard in enumerate(shards.tolist()):
            parts[shard].append(i)
        return parts

    def run(self, direction: Literal["out", "in"], packets: Iterable[bytes], now: float = 0.0) -> list[Outcome]:
        """Runs IP packets through the shards, each in a thread; returns an Outcome for each packet, in their order.

        Packets of one shard keep their order. Raises DriverError, and nothing has run then, when a packet is longer
        than `max_packet` or another `run` is under way.
        """
        work = list(packets)
        for i, packet in enumerate(work):
            if len(packet) > self.max_packet:
                raise DriverError(f"packet {i}: {len(packet)} bytes; accepted: up to {self.max_packet} (max_packet)")
        if not self._running.acquire(blocking=False):
            raise DriverError("Shards: in use by another thread; accepted: one run at a time")
        try:
            *parts, fragments = self.split(direction, work)
            outcomes: dict[int, Outcome] = {}
            if fragments:
                whole = self._put_together(work, fragments, now, outcomes)
                shards = steer([work[i] for i in whole], direction, self.count, self._nat_traversal)
                for i, shard in zip(whole, shards.tolist(), strict=True):
                    parts[shard].append(i)
                parts = [sorted(part) for part in parts]
            pool = self._pool or self._threads()
            jobs = [
                pool.submit(self._run, shard, direction, work, part, now) for shard, part in enumerate(parts) if part
            ]
            wait(jobs)
            for job in jobs:
                outcomes.update(job.result())
            return [outcomes[i] for i in range(len(work))]
        finally:
            self._running.release()

    def release(self, now: float = 0.0) -> list[Outcome]:
        """Runs the packets that waited for an SA which has come: call it behind `add_sa`, before newer packets."""
        outcomes = []
        for driver, burst in zip(self.drivers, self._bursts, strict=True):
            while driver.release(burst, now):
                driver.outbound(burst, now)
                outcomes += _outcomes(burst)
        return outcomes

    def _threads(self) -> Executor:
        if self._own_pool is None:
            self._own_pool = ThreadPoolExecutor(self.count, "ipsec-shard")
        return self._own_pool

    def _run(
        self, shard: int, direction: Literal["out", "in"], packets: list[bytes], part: list[int], now: float
    ) -> dict[int, Outcome]:
        driver, burst = self.drivers[shard], self._bursts[shard]
        outcomes: dict[int, Outcome] = {}
        for start in range(0, len(part), BURST_MAX):
            these = part[start : start + BURST_MAX]
            burst.load(packets[i] for i in these)
            (driver.outbound if direction == "out" else driver.inbound)(burst, now)
            outcomes.update(zip(these, _outcomes(burst), strict=True))
        return outcomes

    def _put_together(
        self, packets: list[bytes], fragments: list[int], now: float, outcomes: dict[int, Outcome]
    ) -> list[int]:
        """Gives fragments that end here their outcome; the others become whole packets, whose indices are returned."""
        whole = []
        for start in range(0, len(fragments), BURST_MAX):
            these = fragments[start : start + BURST_MAX]
            self._front_burst.load(packets[i] for i in these)
            self._front.inbound(self._front_burst, now)
            for i, outcome in zip(these, _outcomes(self._front_burst), strict=True):
                if outcome.status in OF_FRAGMENTS:
                    outcomes[i] = outcome
                else:
                    packets[i] = outcome.packet
                    whole.append(i)
        return whole


def _outcomes(burst: Burst) -> list[Outcome]:
    return [Outcome(STATUSES[status], burst.packet(i)) for i, status in enumerate(burst.status.tolist())]
