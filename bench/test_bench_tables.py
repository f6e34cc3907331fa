"""SA table, filters and Python face under pytest-benchmark; docs/tools/bench.md says what is measured."""

from __future__ import annotations

import random
from ipaddress import IPv4Address
from typing import Any

import pytest

from ipsec_core import Action, Burst, Driver, Filter
from ipsec_core.driver._peer import spi_seconds
from ipsec_core.tools.bench_embed import association, together
from ipsec_core.tools.bench_esp import GCM, PACKETS, EspLoop, packet
from ipsec_core.tools.bench_filter import FILTERS, FilterLoop
from ipsec_core.tools.bench_spi import BURST, SAS, SLOTS

BURSTS = 2000


@pytest.mark.parametrize("sas", SAS)
def test_spi_look_up(benchmark: Any, sas: int) -> None:
    """Building the table is in the time of the benchmark; `seconds` of the look-ups alone is in extra_info."""
    benchmark.group = "SPI table"
    taken = benchmark.pedantic(spi_seconds, (sas, SLOTS, BURSTS, 1), rounds=3)
    benchmark.extra_info.update(look_ups=BURSTS * BURST, seconds=taken)
    assert taken > 0


@pytest.mark.parametrize("filters", FILTERS)
@pytest.mark.parametrize(("miss", "fast"), [(False, True), (True, True), (True, False)])
def test_filter_decision(benchmark: Any, filters: int, miss: bool, fast: bool) -> None:
    benchmark.group = f"{filters} filters"
    rate = benchmark.pedantic(FilterLoop(filters, miss=miss, cache=fast, matcher=fast).rate, (0.02,), rounds=3)
    benchmark.extra_info.update(decisions_per_second=rate)
    assert rate > 0


def test_python(benchmark: Any) -> None:
    source = random.Random(1)
    driver, burst = Driver(seed=1), Burst(PACKETS)
    driver.set_filters([Filter(1, "out", Action.NEGOTIATE, tunnel=IPv4Address("192.0.2.2"))])
    driver.add_sa(association(source.randbytes(GCM.key_length)))
    packets = [packet(1408, flow, source) for flow in range(PACKETS)]

    def protect() -> int:
        driver.outbound(burst.load(packets))
        return len(burst.packets())

    benchmark.group = "Python"
    assert benchmark(protect) == PACKETS


@pytest.mark.parametrize("threads", [1, 2])
def test_threads(benchmark: Any, threads: int) -> None:
    """The same work in each thread: twice the packets in the same time when they scale."""
    benchmark.group = "threads"
    loops = [EspLoop(GCM, 1408) for _ in range(threads)]
    benchmark.extra_info.update(packets=threads * 500 * PACKETS)
    assert benchmark.pedantic(together, (loops, 500), rounds=5) > 0
