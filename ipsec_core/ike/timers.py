"""Deadlines as data: the retransmission schedule, and a queue that tells the next one."""

from __future__ import annotations

import heapq
from enum import Enum, auto
from itertools import count

# Seven copies at 0, 1, 3, 7, 15, 31 and 63 s: observed from Windows 2000 (ike-scan, ike-backoff-patterns).
RETRANSMISSION_GAPS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
# The last copy gets as long as the first; about a minute in all.
LAST_WAIT = 1.0


class Timer(Enum):
    """What a deadline is for; the engine's keys are (Timer, conversation)."""

    RETRANSMIT = auto()
    LIFETIME = auto()
    FORGET = auto()
    SOFT = auto()


Key = tuple[Timer, object]


class Timers:
    """At most one deadline per key. Moved and cancelled ones stay in the heap until they surface."""

    def __init__(self) -> None:
        self._due: dict[Key, tuple[float, int]] = {}
        self._heap: list[tuple[float, int, Key]] = []
        self._order = count()

    def set(self, key: Key, when: float) -> None:
        entry = (when, next(self._order))
        self._due[key] = entry
        heapq.heappush(self._heap, (*entry, key))

    def cancel(self, key: Key) -> None:
        self._due.pop(key, None)

    def next(self) -> float | None:
        while self._heap:
            when, order, key = self._heap[0]
            if self._due.get(key) == (when, order):
                return when
            heapq.heappop(self._heap)
        return None

    def expired(self, now: float) -> Key | None:
        """One key whose deadline is not after `now`, taken out of the queue; earliest first."""
        when = self.next()
        if when is None or when > now:
            return None
        key = heapq.heappop(self._heap)[2]
        del self._due[key]
        return key


class Retransmission:
    """How often the last message of an exchange has gone out."""

    __slots__ = ("_copies",)

    def __init__(self) -> None:
        self._copies = 0

    def sent(self) -> float:
        """A copy has just gone out on schedule; the wait until `overdue` or the next one, in seconds."""
        self._copies += 1
        return RETRANSMISSION_GAPS[self._copies - 1] if not self.exhausted else LAST_WAIT

    @property
    def exhausted(self) -> bool:
        return self._copies > len(RETRANSMISSION_GAPS)
