"""Burst: loading, views, limits."""

from __future__ import annotations

import gc
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from driver_kit import ip, sender

from ipsec_core import Burst, Status
from ipsec_core.driver import BURST_MAX, NO_SA
from ipsec_core.errors import DriverError

VIEWS = {"status": np.uint8, "length": np.uint32, "sa": np.uint32, "filter": np.uint32, "time": np.uint64}


def contents(burst: Burst) -> list[bytes]:
    return [burst.packet(i) for i in range(len(burst))]


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, lambda b: np.frombuffer(b, np.uint8)])
def test_load_takes_anything_like_bytes(kind: Callable[[bytes], Any]) -> None:
    packets = [b"", b"a", ip(b"x"), bytes(2048)]
    burst = Burst().load(kind(packet) for packet in packets)
    assert contents(burst) == packets
    assert burst.length.tolist() == [len(packet) for packet in packets]
    assert burst.status.tolist() == [Status.UNPROCESSED] * 4
    assert burst.sa.tolist() == [NO_SA] * 4
    assert burst.packets() == []


@pytest.mark.parametrize("lengths", [[0, 3, 5], np.array([0, 3, 5]), np.array([0, 3, 5], np.uint16)])
def test_load_of_rows(lengths: Any) -> None:
    rows = np.arange(15, dtype=np.uint8).reshape(3, 5)
    burst = Burst().load(rows, lengths)
    assert contents(burst) == [b"", bytes([5, 6, 7]), bytes(range(10, 15))]
    assert contents(Burst().load(rows)) == [row.tobytes() for row in rows]


def test_load_replaces() -> None:
    burst = Burst(4).load([b"1", b"2", b"3"])
    assert contents(burst.load([b"4"])) == [b"4"]
    assert len(burst.load([])) == 0
    assert burst.status.tolist() == []


def failing() -> Iterator[bytes]:
    yield b"first"
    raise RuntimeError("no more")


ROWS = np.zeros((2, 30), np.uint8)


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        (([b""] * 5,), DriverError, "Burst.load: more than 4 packets"),
        (([b"", bytes(101)],), DriverError, "Burst.load: packet 1 is longer than 100 bytes"),
        ((ROWS, [1, 31]), DriverError, "Burst.load: length 31 of packet 1 is out of range; accepted: 0 to 30"),
        ((ROWS, [1]), DriverError, "Burst.load: 1 lengths for 2 rows"),
        ((ROWS, [1, 2, 3]), DriverError, "Burst.load: 3 lengths for 2 rows"),
        ((ROWS, [-1, 2]), DriverError, "Burst.load: length -1 of packet 0 is out of range; accepted: 0 to 30"),
        (([b"", "text"],), TypeError, "bytes-like"),
        (([b"", np.zeros(3, np.uint16)],), ValueError, "Buffer dtype mismatch"),
        ((failing(),), RuntimeError, "no more"),
    ],
)
def test_load_that_fails_leaves_the_burst_empty(arguments: Any, error: type[Exception], text: str) -> None:
    burst = Burst(4, 100).load([b"old"])
    with pytest.raises(error, match=re.escape(text)):
        burst.load(*arguments)
    assert len(burst) == 0
    assert contents(burst.load([b"new"])) == [b"new"]


@pytest.mark.parametrize("arguments", [(0,), (BURST_MAX + 1,), (1, 19), (1, 65536), (-1,), (1, -1), (2**32 + 1,)])
def test_limits(arguments: tuple[int, ...]) -> None:
    with pytest.raises(DriverError, match=r"accepted: capacity 1\.\.256, max_packet 20\.\.65535"):
        Burst(*arguments)


def test_largest() -> None:
    burst = Burst(256, 65535)
    assert (burst.capacity, burst.max_packet) == (256, 65535)
    packets = [bytes([i]) * 65535 for i in range(256)]
    assert contents(burst.load(packets)) == packets


def test_packet_past_the_end() -> None:
    burst = Burst().load([b"1"])
    for i in (1, -1, 2**31):
        with pytest.raises(IndexError, match="burst has 1 packets"):
            burst.packet(i)


@pytest.mark.parametrize("name", VIEWS)
def test_views(name: str) -> None:
    burst = Burst(4).load([ip(b"x")] * 3)
    view = getattr(burst, name)
    assert (view.dtype, view.shape) == (VIEWS[name], (3,))
    assert not view.flags.writeable, "what the C loops rely on is not for Python to change"
    with pytest.raises(ValueError, match="WRITEABLE"):
        view.flags.writeable = True


def test_views_show_what_the_driver_writes_later() -> None:
    burst = Burst(4).load([ip(b"x")])
    status, length, time = burst.status, burst.length, burst.time
    sender().outbound(burst, 1.5)
    assert (status[0], length[0], time[0]) == (Status.PROTECTED, len(burst.packet(0)), 1_500_000_000)


def test_views_keep_the_burst_alive() -> None:
    views = [getattr(Burst(256, 60000).load([ip(b"x")] * 256), name) for name in VIEWS]
    gc.collect()
    others = [Burst(256, 60000).load([b"other"] * 256) for _ in range(4)]
    assert views[1].tolist() == [21] * 256
    assert len(others) == 4
