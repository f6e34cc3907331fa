"""What an SPI look-up costs: the driver's table against DPDK's SA database (librte_ipsec), side by side.

Method
    Ours is a loop in C over bursts of 64 look-ups in the tables as a driver holds them: a main table of the largest
    SAHashSize (1024 KB: 65 536 slots of 16 bytes), half full at most, and the SAs beyond that in the overflow table.
    All look-ups hit, in random order; SPIs are random 32-bit numbers, destinations few. The list of look-ups has 2^20
    entries and streams through the caches with the tables; it is run through and checked once before the clock starts.

    The peer is DPDK's own test of its database, `dpdk-test-sad`, with as many SAs and a million look-ups in bursts of
    64, all hits in random order. Nine tenths of its rules are by SPI alone, the others by SPI and addresses: ours
    always compares the destination (RFC 2401 4.4.3).

    Ours and the peer take turns. The figures say what memory costs as much as what the code costs.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator

from ipsec_core.driver._peer import spi_seconds
from ipsec_core.errors import DriverError
from ipsec_core.tools.bench_rows import Pair, Row, rate_row

# (SAs, slots of the main table, bursts, seed) -> seconds
Loop = Callable[[int, int, int, int], float]

TOOL = "dpdk-test-sad"
PACKAGE = "dpdk-dev"
BURST = 64
SLOTS = 65536
SAS = (16_384, 1_000_000)
PEER_LOOKUPS = 1_000_000

_SEED = 2401
_TIMEOUT = 120.0
_FIGURE = re.compile(r"lookups/sec:\s*([0-9.]+)")


def dpdk_rate(sas: int) -> float | None:
    """Look-ups a second of `dpdk-test-sad` with so many SAs; None when Debian's dpdk-dev is not installed.

    DriverError when it runs and tells no figure (3000 MB of memory, root for /var/run/dpdk).
    """
    if shutil.which(TOOL) is None:
        return None
    core = max(os.sched_getaffinity(0))
    command = [TOOL, "-l", str(core), "--no-huge", "-m", "3000", "--no-pci"]
    command += ["--", "-n", str(sas), "-l", str(PEER_LOOKUPS), "-b", str(BURST)]
    try:
        run = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=_TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired:
        raise DriverError(f"{TOOL}: no end after {_TIMEOUT:.0f} s") from None
    found = _FIGURE.search(run.stdout)
    if run.returncode != 0 or found is None:
        last = (run.stdout.strip().splitlines() or ["no output"])[-1].strip()
        raise DriverError(f"{TOOL}: exit code {run.returncode}, no look-ups a second: {last}")
    return float(found[1])


def measure(loop: Loop, sas: int, seconds: float, pairs: int) -> list[Pair]:
    """So many pairs, each about `seconds` long for ours (and a set-up not timed), the peer's turn after ours."""
    trial = 4096
    bursts = max(1, round(seconds * trial / loop(sas, SLOTS, trial, _SEED)))
    return [Pair(bursts * BURST / loop(sas, SLOTS, bursts, _SEED + turn), dpdk_rate(sas)) for turn in range(pairs)]


def spi_rows(seconds: float = 0.1, pairs: int = 7, size: int | None = None, loop: Loop = spi_seconds) -> Iterator[Row]:
    """The rows of `ipsec-core bench spi`, for 16 384 and 1 000 000 SAs; `size` is of packets and means nothing here."""
    for sas in SAS:
        params: dict[str, int | str] = {"sas": sas, "slots": SLOTS, "burst": BURST}
        yield rate_row("spi look-up", params, "lookups/s", measure(loop, sas, seconds, pairs), f"DPDK, {TOOL}", PACKAGE)
