"""What a policy of many filters costs: compiled and loaded once, and a decision for each packet.

Method
    A policy with one filter for each of so many servers (UDP port of its own, permitted, mirrored) is compiled and
    given to a driver as the Policy Agent does it: `policy, compiled and loaded`. 64 packets to the last 64 servers go
    out through the whole outbound loop, which changes nothing in a permitted packet, so that a burst is run again and
    again: after the first time the header cache knows them (hit). With a flow to every server in turn, up to five times
    as many as a cache of 64 KB has places, it does not (miss), and the compiled matcher decides. Parsing and counting
    are in all figures. Ours and the linear walk over the same filters for the same packets (`cache=False,
    matcher=False`) take turns.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network

from ipsec_core.computer.credentials import Credentials
from ipsec_core.computer.negotiation import PolicyView
from ipsec_core.computer.profiles import profile_of
from ipsec_core.driver import Burst, Driver
from ipsec_core.driver._peer import passes
from ipsec_core.policy.compile import compile_policy
from ipsec_core.policy.model import FilterAction, FilterActionKind, Policy, Rule
from ipsec_core.policy.selectors import MY, Address, Filter, FilterList
from ipsec_core.tools.bench_rows import Pair, Row, figure_row, rate_row

PACKETS = 64
FILTERS = (1000, 5000)
ME = IPv4Address("10.1.0.1")
PORT = 4000
UDP = 17
_SERVERS = 0x0A020000  # 10.2.0.0


def _server(number: int) -> IPv4Address:
    return IPv4Address(_SERVERS + number)


def policy_of(filters: int) -> Policy:
    """A policy with so many filters."""
    made = (Filter("", MY, Address(IPv4Network(_server(one))), UDP, 0, PORT) for one in range(filters))
    permit = FilterAction("Permit", FilterActionKind.PERMIT)
    return Policy("Servers", rules=(Rule("Servers", FilterList("Servers", "", tuple(made)), permit),))


def _packet(number: int) -> bytes:
    return (
        struct.pack("!BBHHHBBH", 0x45, 0, 64, 0, 0, 64, UDP, 0)
        + ME.packed
        + _server(number).packed
        + struct.pack("!HHHH", 1024, PORT, 44, 0)
        + bytes(36)
    )


def load(policy: Policy, driver: Driver) -> None:
    """What happens when a policy takes effect."""
    filters = compile_policy(policy, [ME])
    driver.set_filters(
        PolicyView(policy, filters, profile_of("windows-2000"), Credentials(None, None)).driver_filters()
    )


class FilterLoop:
    """A driver with a policy of so many filters, and bursts to its last 64 servers or, to miss the cache, to all."""

    def __init__(self, filters: int, *, miss: bool = False, cache: bool = True, matcher: bool = True) -> None:
        self._driver = Driver(cache_size=64 if miss else 1024, seed=1, cache=cache, matcher=matcher)
        load(policy_of(filters), self._driver)
        first = 0 if miss else filters - PACKETS
        self._bursts = [
            Burst(PACKETS).load([_packet(number) for number in range(start, start + PACKETS)])
            for start in range(first, filters - PACKETS + 1, PACKETS)
        ]
        self._run(1)

    def _run(self, rounds: int) -> float:
        if len(self._bursts) == 1:
            return passes(self._driver, self._bursts[0], rounds)
        return sum(passes(self._driver, burst, 1) for _ in range(rounds) for burst in self._bursts)

    def rate(self, seconds: float) -> float:
        """Decisions a second."""
        rounds = max(1, round(4 * seconds / max(self._run(4), 1e-9)))
        return rounds * len(self._bursts) * PACKETS / self._run(rounds)

    @property
    def hits(self) -> float:
        """Share of the decisions that the header cache made."""
        counters = self._driver.counters()
        return counters["cache_hits"] / (counters["cache_hits"] + counters["cache_misses"])


def _loading(filters: int, pairs: int) -> Row:
    policy, taken = policy_of(filters), []
    for _ in range(pairs):
        start = time.perf_counter()
        load(policy, Driver(seed=1))
        taken.append(time.perf_counter() - start)
    return figure_row("policy, compiled and loaded", {"filters": filters}, sorted(taken)[pairs // 2] * 1e3, "ms")


def filter_rows(seconds: float = 0.1, pairs: int = 7, size: int | None = None) -> Iterator[Row]:
    """The rows of `ipsec-core bench filter`; `size` means nothing here."""
    for filters in FILTERS:
        yield _loading(filters, min(pairs, 3))
        for name, miss in (("filter decision, header cache hit", False), ("filter decision, header cache miss", True)):
            walk = FilterLoop(filters, miss=miss, cache=False, matcher=False)
            loop = FilterLoop(filters, miss=miss)
            measured = [Pair(loop.rate(seconds), walk.rate(seconds)) for _ in range(pairs)]
            params: dict[str, int | str] = {"filters": filters, "burst": PACKETS}
            yield rate_row(name, params, "decisions/s", measured, f"linear walk of {filters} filters")
