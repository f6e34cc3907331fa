"""ESP under pytest-benchmark: the driver's loops and the peers', one round trip of a burst at a time.

    .venv/bin/pytest bench --benchmark-only

The loops and the method are those of `ipsec-core bench esp` (docs/tools/bench.md); here each is timed for itself, so
that a run can be stored and compared (`--benchmark-save`, `--benchmark-compare`). Figures are seconds for 64 packets
times the rounds; `extra_info` has ns a packet as measured in C.
"""

from __future__ import annotations

from typing import Any

import pytest

from ipsec_core.tools.bench_esp import CBC, GCM, PACKETS, SIZES, TRIPLE_DES, EspLoop, Suite

ROUNDS = {GCM.name: 200, CBC.name: 100, TRIPLE_DES.name: 4}
CASES = [(GCM, size) for size in SIZES] + [(CBC, SIZES[0]), (TRIPLE_DES, SIZES[0])]


@pytest.fixture(params=CASES, ids=lambda case: f"{case[0].name}-{case[1]}")
def loop(request: Any) -> EspLoop:
    suite, size = request.param
    return EspLoop(suite, size)


def test_round_trip(benchmark: Any, loop: EspLoop) -> None:
    """Outbound and inbound together; the two apart are in extra_info."""
    rounds = ROUNDS[loop.suite.name]
    benchmark.group = _group(loop.suite)
    outbound, inbound = benchmark(loop.ours, rounds)
    benchmark.extra_info.update(
        packets=rounds * PACKETS, outbound_ns_per_packet=outbound, inbound_ns_per_packet=inbound
    )
    assert min(outbound, inbound) > 0


def test_peer(benchmark: Any, loop: EspLoop) -> None:
    """The bare library, outbound."""
    rounds = ROUNDS[loop.suite.name]
    benchmark.group = _group(loop.suite)
    taken = benchmark(loop.peer, loop.suite.outbound_peer, rounds)
    if taken is None:
        pytest.skip(f"the peer is not in this build (install {loop.suite.install})")
    benchmark.extra_info.update(packets=rounds * PACKETS, outbound_ns_per_packet=taken)


def _group(suite: Suite) -> str:
    return f"esp {suite.name}"
