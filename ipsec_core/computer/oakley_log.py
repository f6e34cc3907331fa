"""Oakley.log: what IKE does, line by line, when `EnableLogging` is 1 (KB 257225, "Obtaining an Oakley log").

Each line begins with month-day, time to the millisecond, and a thread, as Windows writes it; there is one thread here.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

FILE = "oakley.log"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def line(now: float, text: str) -> str:
    """`now` in seconds since 1970, or since the start of a simulated world."""
    time = _EPOCH + timedelta(seconds=now)
    return f"{time.month:2}-{time.day:02}: {time:%H:%M:%S}:{time.microsecond // 1000:03}:0 {text}"


class OakleyLog:
    """The trace of an engine, with the time that its owner sets before every call into it."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self.now = 0.0
        self._write = write

    def trace(self, text: str) -> None:
        self._write(line(self.now, text))
