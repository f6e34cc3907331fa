"""What a decision costs: header cache, compiled matcher and linear walk over the same filters.

Method
    A list of permit filters (hosts, protocol and port of their own each) whose last ones decide: 64 UDP packets, each
    decided by a filter of its own among the last 64. They go out through the whole outbound loop, which changes nothing
    in a permitted packet, so that a burst is run again and again; parsing and counting are in all figures. Ours and the
    linear walk (`cache=False, matcher=False`) take turns.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network

from ipsec_core.driver import Action, Burst, Driver, Filter
from ipsec_core.driver._peer import passes
from ipsec_core.tools.bench_rows import Pair, Row, rate_row

PACKETS = 64
FILTERS = (1000, 5000)
PORT = 4000


def _filter(number: int) -> Filter:
    return Filter(
        number,
        "out",
        Action.PERMIT,
        IPv4Network("10.1.0.0/16"),
        IPv4Network((0x0A020000 + number, 32)),
        protocol=17,
        destination_port=PORT,
    )


def _packet(number: int) -> bytes:
    addresses = IPv4Address("10.1.0.1").packed + IPv4Address(0x0A020000 + number).packed
    return (
        struct.pack("!BBHHHBBH", 0x45, 0, 64, 0, 0, 64, 17, 0)
        + addresses
        + struct.pack("!HHHH", 1024, PORT, 44, 0)
        + bytes(36)
    )


class FilterLoop:
    """A driver with so many filters, and a burst that the last 64 of them decide."""

    def __init__(self, filters: int, *, cache: bool, matcher: bool) -> None:
        self._driver = Driver(seed=1, cache_size=1024, cache=cache, matcher=matcher)
        self._driver.set_filters([_filter(number) for number in range(filters)])
        self._burst = Burst(PACKETS).load([_packet(filters - PACKETS + number) for number in range(PACKETS)])
        passes(self._driver, self._burst, 2)

    def rate(self, seconds: float) -> float:
        """Decisions a second."""
        rounds = max(1, round(4 * seconds / max(passes(self._driver, self._burst, 4), 1e-9)))
        return rounds * PACKETS / passes(self._driver, self._burst, rounds)


def filter_rows(seconds: float = 0.1, pairs: int = 7, size: int | None = None) -> Iterator[Row]:
    """The rows of `ipsec-core bench filter`; `size` means nothing here."""
    for filters in FILTERS:
        walk = FilterLoop(filters, cache=False, matcher=False)
        for name, cache in (("filter decision, header cache hit", True), ("filter decision, compiled matcher", False)):
            loop = FilterLoop(filters, cache=cache, matcher=True)
            measured = [Pair(loop.rate(seconds), walk.rate(seconds)) for _ in range(pairs)]
            params: dict[str, int | str] = {"filters": filters, "burst": PACKETS}
            yield rate_row(name, params, "decisions/s", measured, f"linear walk of {filters} filters")
