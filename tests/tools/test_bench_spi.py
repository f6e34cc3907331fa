"""The SPI benchmark: the peer's figure is read as it is told, and the median pair is reported."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ipsec_core.errors import DriverError
from ipsec_core.tools import bench_spi

OUTPUT = "ADD 4 rules, 273.00 cycles/rule, 9523809.52 ADD/sec\nAverage lookup cycles 44.21, lookups/sec: 58815364.46"


@pytest.fixture
def peer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The place where the peer is looked for, alone on the path."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path / bench_spi.TOOL


def install(peer: Path, output: str, code: int = 0) -> None:
    peer.write_text(f"#!/bin/sh\necho \"$@\" >'{peer}.arguments'\necho '{output}'\nexit {code}\n")
    peer.chmod(0o755)


def loop(sas: int, slots: int, bursts: int, seed: int) -> float:
    """100 million look-ups a second; 50 million with many SAs."""
    assert slots == 65536
    return bursts * 64 / (5e7 if sas > slots else 1e8)


def test_the_figure_of_the_peer(peer: Path) -> None:
    install(peer, OUTPUT)
    assert bench_spi.dpdk_rate(16384) == 58815364.46
    core = max(os.sched_getaffinity(0))
    wanted = f"-l {core} --no-huge -m 3000 --no-pci -- -n 16384 -l 1000000 -b 64\n"
    assert Path(f"{peer}.arguments").read_text() == wanted


def test_rows(peer: Path) -> None:
    install(peer, OUTPUT.replace("58815364.46", "25000000"))
    rows = list(bench_spi.spi_rows(0.01, 3, loop=loop))
    assert [row.params for row in rows] == [{"sas": n, "slots": 65536, "burst": 64} for n in (16384, 1000000)]
    assert [round(row.value) for row in rows] == [100_000_000, 50_000_000]
    assert [(row.peer_value, row.install) for row in rows] == [(25e6, None)] * 2
    assert [round(row.ratio or 0, 6) for row in rows] == [4, 2]
    assert all((row.min, row.max) == (row.ratio, row.ratio) for row in rows)


def test_the_median_pair_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    peers = iter([1e8, 2.5e7, 5e7] * 2)
    monkeypatch.setattr(bench_spi, "dpdk_rate", lambda _: next(peers))
    row = next(bench_spi.spi_rows(0.01, 3, loop=loop))
    assert (row.peer_value, row.min, row.ratio, row.max) == pytest.approx((5e7, 1, 2, 4))


def test_a_peer_that_is_not_installed(peer: Path) -> None:
    assert not peer.exists()
    row = next(bench_spi.spi_rows(0.01, 3, loop=loop))
    assert (row.peer_value, row.ratio, row.min, row.max, row.install) == (None, None, None, None, "dpdk-dev")
    assert round(row.value) == 100_000_000


@pytest.mark.parametrize(("output", "code"), [("EAL: Cannot get memory", 1), ("nothing", 0), (OUTPUT, 3)])
def test_a_peer_that_fails(peer: Path, output: str, code: int) -> None:
    install(peer, output, code)
    with pytest.raises(DriverError, match=rf"^dpdk-test-sad: exit code {code}, no look-ups a second: \w.*$"):
        bench_spi.dpdk_rate(10)
