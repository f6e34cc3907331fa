"""Deadlines as data: the retransmission schedule, and a queue that tells the next one."""

from __future__ import annotations

import heapq
from enum import IntEnum, auto
from itertools import count

# Seven copies at 0, 1, 3, 7, 15, 31 and 63 s: observed from Windows 2000 (ike-scan, ike-backoff-patterns).
RETRANSMISSION_GAPS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
# The last copy gets as long as the first; about a minute in all.
LAST_WAIT = 1.0


# When an ISAKMP SA is to be replaced: after this share of its seconds, but no earlier than so many before the end, as
# with the SA pairs. Windows 2000's own thresholds are not documented.
REKEY_SHARE = 0.85
REKEY_SECONDS_LEFT = 45.0
# Stale entries that the queue may hold beside as many live ones before it is swept.
STALE = 64


def rekey_after(lifetime: float) -> float:
    """Seconds after which an ISAKMP SA of this lifetime is to be replaced."""
    return lifetime - min(REKEY_SECONDS_LEFT, lifetime * (1 - REKEY_SHARE))


class Timer(IntEnum):
    """What a deadline is for; the engine's keys are (Timer, conversation), for KEEP_ALIVE (Timer, address)."""

    RETRANSMIT = auto()
    LIFETIME = auto()
    FORGET = auto()
    SOFT = auto()
    REKEY = auto()
    RETIRE = auto()
    KEEP_ALIVE = auto()
    BEGIN = auto()


Key = tuple[Timer, object]


class Timers:
    """At most one deadline per key. Moved and cancelled ones stay in the heap until they surface or are swept out."""

    def __init__(self) -> None:
        self._due: dict[Key, tuple[float, int]] = {}
        self._heap: list[tuple[float, int, Key]] = []
        self._order = count()

    def set(self, key: Key, when: float) -> None:
        entry = (when, next(self._order))
        self._due[key] = entry
        heapq.heappush(self._heap, (*entry, key))
        if len(self._heap) > 2 * len(self._due) + STALE:
            self._heap = [(*due, key) for key, due in self._due.items()]
            heapq.heapify(self._heap)

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
    """How often the last message of an exchange has gone out: copies with `gaps` between them, then the `last` wait."""

    __slots__ = ("_copies", "_gaps", "_last")

    def __init__(self, gaps: tuple[float, ...] = RETRANSMISSION_GAPS, last: float = LAST_WAIT) -> None:
        self._gaps = gaps
        self._last = last
        self._copies = 0

    def sent(self) -> float:
        """A copy has just gone out on schedule; the wait until `overdue` or the next one, in seconds."""
        self._copies += 1
        return self._gaps[self._copies - 1] if not self.exhausted else self._last

    @property
    def exhausted(self) -> bool:
        return self._copies > len(self._gaps)

    @property
    def copies(self) -> int:
        return self._copies
