"""More upcalls at one moment than the ring holds: none of those about SAs is lost."""

from __future__ import annotations

from collections import Counter

from driver_kit import make

from ipsec_core import Driver
from ipsec_core.driver import UpcallKind

RING = 1024


def test_every_sa_is_reported_once() -> None:
    driver = Driver(seed=1)
    count = 2 * RING + 7
    handles = [driver.add_sa(make("in", spi=0x1000 + n, soft_seconds=10, hard_seconds=20)) for n in range(count)]
    for moment, kind in ((10.0, UpcallKind.REKEY), (20.0, UpcallKind.EXPIRED)):
        seen: Counter[int] = Counter()
        turns = 0
        while (next_one := driver.tick(moment)) is not None and next_one <= moment:
            upcalls = driver.upcalls()
            assert len(upcalls) <= RING
            assert {one.kind for one in upcalls} == {kind}
            seen.update(one.sa for one in upcalls)
            turns += 1
        seen.update(one.sa for one in driver.upcalls())
        assert seen == Counter(handles)
        assert turns == 2
    counters = driver.counters()
    assert counters["rekeys"] == counters["expirations"] == count
    assert counters["upcalls_lost"] > 0
