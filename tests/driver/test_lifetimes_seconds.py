"""Lifetimes in seconds, idle timers, tick, retirement, and SAs that overlap after a rekey."""

from __future__ import annotations

import random
from typing import Any

import pytest
from driver_kit import SPI, add, ip, make, opening, oracle, protecting, run, soft, statuses

from ipsec_core import Driver, Status
from ipsec_core.errors import DriverError

GOOD, EXPIRED, HELD = Status.PROTECTED, Status.EXPIRED, Status.HELD
DIRECTIONS = pytest.mark.parametrize("direction", ["out", "in"])
NS = 1e-9


def one(direction: str, **limits: Any) -> Driver:
    return protecting(**limits) if direction == "out" else opening(**limits)


class Line:
    """Good packets for a driver with one SA, numbered by themselves."""

    def __init__(self, driver: Driver, direction: Any) -> None:
        self.driver, self.direction, self.number = driver, direction, 0

    def send(self, now: float, count: int = 1, payload: int = 10) -> list[Status]:
        packets = []
        for _ in range(count):
            self.number += 1
            packet = ip(bytes(payload))
            packets.append(packet if self.direction == "out" else oracle().seal(packet, self.number))
        return statuses(self.driver, self.direction, packets, now=now)


def kinds(driver: Driver) -> list[str]:
    return [upcall.kind.name for upcall in driver.upcalls()]


def over(direction: str, count: int = 1) -> list[Status]:
    """The packet that finds the SA's end, and those after it."""
    return [EXPIRED, *[HELD if direction == "out" else EXPIRED] * (count - 1)]


# --- found by packets ---


@DIRECTIONS
def test_soft_limit(direction: Any) -> None:
    """The packet at the moment itself asks, once; one a nanosecond earlier does not."""
    driver = one(direction, created=100.0, soft_seconds=50.0)
    line = Line(driver, direction)
    assert line.send(150.0 - NS * 100) == [GOOD]
    assert kinds(driver) == []
    assert line.send(150.0, 5) == [GOOD] * 5
    (upcall,) = driver.upcalls()
    assert (upcall.kind.name, upcall.time, upcall.sa) == ("REKEY", 150.0, driver.sas()[0].handle)
    assert line.send(1e6, 5) == [GOOD] * 5
    assert (kinds(driver), driver.counters()["rekeys"]) == ([], 1)


@DIRECTIONS
def test_hard_limit(direction: Any) -> None:
    driver = one(direction, created=100.0, hard_seconds=50.0)
    line = Line(driver, direction)
    assert line.send(150.0 - NS * 100, 2) == [GOOD] * 2
    assert line.send(150.0, 3) == over(direction, 3)
    assert kinds(driver) == ["EXPIRED"] + ["ACQUIRE"] * (direction == "out")
    assert driver.sas()[0].expired
    assert line.send(200.0) == over(direction, 2)[1:]
    assert driver.counters()["expirations"] == 1


@DIRECTIONS
def test_seconds_and_bytes_together(direction: Any) -> None:
    """Whichever comes first; each upcall once, though both limits are passed."""
    driver = one(direction, soft_seconds=50.0, hard_seconds=60.0, soft_bytes=30, hard_bytes=1000)
    line = Line(driver, direction)
    assert line.send(1.0, 4) == [GOOD] * 4
    assert kinds(driver) == ["REKEY"]
    assert line.send(55.0) == [GOOD]
    assert kinds(driver) == []
    assert line.send(60.0) == [EXPIRED]
    assert kinds(driver) == ["EXPIRED"]


@DIRECTIONS
def test_both_limits_at_once(direction: Any) -> None:
    driver = one(direction, soft_seconds=50.0, hard_seconds=50.0)
    assert Line(driver, direction).send(50.0) == [EXPIRED]
    assert kinds(driver) == ["EXPIRED"]


def test_a_forged_packet_finds_the_limit_but_posts_nothing_twice() -> None:
    driver = opening(hard_seconds=5.0)
    wire = bytearray(oracle().seal(ip(b"x"), 1))
    wire[-1] ^= 1
    assert statuses(driver, "in", [bytes(wire)] * 3, now=5.0) == [EXPIRED] * 3
    assert kinds(driver) == ["EXPIRED"]
    assert driver.sas()[0].sequence == 0


# --- found by tick ---


@DIRECTIONS
def test_tick_does_what_is_due_once(direction: Any) -> None:
    driver = one(direction, created=10.0, soft_seconds=50.0, hard_seconds=80.0, idle_seconds=20.0)
    assert driver.tick(10.0) == 30.0
    assert kinds(driver) == []
    assert driver.tick(30.0) == 50.0
    assert kinds(driver) == ["IDLE"]
    assert driver.tick(50.0) == 60.0
    assert kinds(driver) == [], "still idle, said once"
    assert driver.tick(60.0) == 80.0
    assert kinds(driver) == ["REKEY"]
    assert driver.tick(80.0) == 90.0
    assert kinds(driver) == []
    assert driver.tick(90.0) is None
    assert kinds(driver) == ["EXPIRED"]
    assert driver.tick(1e6) is None
    c = driver.counters()
    assert (kinds(driver), c["rekeys"], c["expirations"], c["idle_expirations"]) == ([], 1, 1, 1)
    assert Line(driver, direction).send(1e6) == over(direction, 2)[1:]


def test_tick_of_nothing() -> None:
    driver = Driver()
    assert driver.tick(0.0) is None
    add(driver, make("out"))
    assert driver.tick(1e9) is None, "no limits"
    with pytest.raises(DriverError, match="is not a time"):
        driver.tick(-1.0)


@pytest.mark.parametrize("start", [0.0, 1e6, 1e7, 1.7e9])
def test_at_the_moment_that_tick_named_something_is_due(start: float) -> None:
    """Seconds are rounded to nanoseconds; never so that the caller comes too early and is sent away for no time."""
    rng = random.Random(start)
    for _ in range(200):
        driver, now = Driver(), start + rng.random() * 1000
        driver.add_sa(soft("out", created=now, idle_seconds=rng.random() * 300 + 1))
        then = driver.tick(now)
        assert then is not None
        driver.tick(then)
        assert kinds(driver) == ["IDLE"]


def test_tick_before_the_moment_is_early() -> None:
    driver = Driver()
    for spi, seconds in ((1000, 70.0), (1001, 30.0), (1002, 50.0)):
        add(driver, make("in", spi=spi, hard_seconds=seconds))
    for now, then, expired in ((0.0, 30.0, 0), (29.999, 30.0, 0), (30.0, 50.0, 1), (60.0, 70.0, 1), (70.0, None, 1)):
        assert driver.tick(now) == then
        assert kinds(driver) == ["EXPIRED"] * expired
    add(driver, make("in", spi=1003, created=80.0, hard_seconds=5.0))
    assert driver.tick(81.0) == 85.0, "a new SA is looked at, too"


@DIRECTIONS
def test_idle_begins_again_with_traffic(direction: Any) -> None:
    driver = one(direction, idle_seconds=30.0)
    line = Line(driver, direction)
    assert driver.tick(0.0) == 30.0
    line.send(20.0)
    assert driver.tick(30.0) == 50.0
    assert kinds(driver) == []
    assert driver.tick(50.0) == 80.0
    assert kinds(driver) == ["IDLE"]
    line.send(60.0)
    assert driver.tick(80.0) == 90.0
    assert kinds(driver) == []
    assert driver.tick(90.0) == 120.0
    assert kinds(driver) == ["IDLE"], "said again after new traffic"
    assert driver.counters()["idle_expirations"] == 2


def test_refused_packets_are_no_traffic() -> None:
    driver = opening(idle_seconds=30.0)
    line = Line(driver, "in")
    line.send(1.0)
    again = oracle().seal(ip(bytes(10)), 1)
    forged = again[:-1] + bytes([again[-1] ^ 1])
    wrong = oracle().seal(ip(b"x", source="10.9.9.9"), 9)
    statuses(driver, "in", [again, forged, wrong], now=29.0)
    assert driver.sas()[0].last == 1.0
    assert driver.tick(31.0) == 61.0
    assert kinds(driver) == ["IDLE"]


# --- overlap of old and new ---


def spi_of(wire: bytes) -> int:
    return int.from_bytes(wire[20:24], "big")


def test_the_new_outbound_sa_is_used_at_once() -> None:
    """RFC 2408 2.1, RFC 2401 4.4.3: the old one stays until nobody needs it; when the new one goes it is there."""
    driver = protecting(hard_seconds=100.0)
    assert spi_of(run(driver, "out", [ip(b"x")])[0][1]) == SPI
    new = add(driver, make("out", spi=SPI + 1))
    assert [spi_of(wire) for _, wire in run(driver, "out", [ip(b"x")] * 3)] == [SPI + 1] * 3
    driver.delete_sa(new)
    assert spi_of(run(driver, "out", [ip(b"x")])[0][1]) == SPI
    assert kinds(driver) == []


def test_when_the_newest_dies_the_older_one_serves() -> None:
    """The packet that hits the limit is lost, the next has the older SA, without an acquire."""
    driver = protecting()
    add(driver, make("out", spi=SPI + 1, hard_bytes=20))
    found = run(driver, "out", [ip(bytes(20)), ip(b"y"), ip(b"z"), ip(bytes(99))])
    assert [status for status, _ in found] == [GOOD, EXPIRED, GOOD, GOOD]
    assert [spi_of(wire) for _, wire in found if wire[9] == 50] == [SPI + 1, SPI, SPI]
    assert kinds(driver) == ["EXPIRED"]


def test_tick_hands_over_to_the_older_one() -> None:
    driver = protecting()
    add(driver, make("out", spi=SPI + 1, hard_seconds=5.0))
    assert spi_of(run(driver, "out", [ip(b"x")])[0][1]) == SPI + 1, "the cache knows the newer one"
    driver.tick(5.0)
    assert [(s, spi_of(wire)) for s, wire in run(driver, "out", [ip(b"x")], now=5.0)] == [(GOOD, SPI)]


def test_both_inbound_sas_take_packets_until_the_old_one_ends() -> None:
    driver = opening()
    (old,) = [info.handle for info in driver.sas()]
    add(driver, make("in", spi=SPI + 1))
    driver.retire_sa(old, 30.0)

    def both(number: int, now: float) -> list[Status]:
        wires = [oracle(spi=spi).seal(ip(b"x"), number) for spi in (SPI, SPI + 1)]
        return statuses(driver, "in", wires, now=now)

    assert both(1, 1.0) == [GOOD, GOOD]
    assert both(2, 29.0) == [GOOD, GOOD]
    assert both(3, 30.0) == [EXPIRED, GOOD]
    driver.delete_sa(old)
    assert both(4, 31.0) == [Status.BAD_SPI, GOOD]


@DIRECTIONS
def test_a_retired_sa_asks_for_no_successor(direction: Any) -> None:
    driver = one(direction, soft_seconds=10.0, soft_bytes=15, hard_bytes=1000)
    (info,) = driver.sas()
    line = Line(driver, direction)
    driver.retire_sa(info.handle, 60.0)
    assert line.send(20.0, 3) == [GOOD] * 3
    assert driver.tick(20.0) == 60.0
    assert kinds(driver) == []
    assert driver.tick(60.0) is None
    assert kinds(driver) == ["EXPIRED"]


@DIRECTIONS
def test_to_retire_never_makes_a_life_longer(direction: Any) -> None:
    driver = one(direction, hard_seconds=50.0, hard_bytes=25)
    (info,) = driver.sas()
    driver.retire_sa(info.handle, 60.0)
    assert driver.tick(0.0) == 50.0
    driver.retire_sa(info.handle, 40.0)
    assert driver.tick(0.0) == 40.0
    line = Line(driver, direction)
    assert line.send(1.0, 3) == [GOOD, GOOD, EXPIRED], "the limit of bytes stays"


@DIRECTIONS
def test_retired_at_once(direction: Any) -> None:
    """Moment 0 of the clock is a moment, too."""
    driver = one(direction)
    driver.retire_sa(driver.sas()[0].handle, 0.0)
    driver.tick(1.0)
    assert kinds(driver) == ["EXPIRED"]
    assert Line(driver, direction).send(1.0) == over(direction, 2)[1:]


def test_retirement_of_a_dead_sa_does_not_wake_it() -> None:
    """Seen through the SA in it, which does not ask the filters again."""
    driver = Driver()
    driver.set_filters([protecting_filter()])
    outer = add(driver, make("out", "ah-sha1", spi=SPI + 1, hard_bytes=100, filter=9))
    add(driver, make("out", outer=outer))
    assert statuses(driver, "out", [ip(b"x")]) == [GOOD]
    driver.delete_sa(driver.sas()[1].handle)
    add(driver, make("out", outer=outer))
    assert statuses(driver, "out", [ip(bytes(100))] * 2)[0] == EXPIRED
    dead = driver.sa_info(outer)
    assert dead.expired
    driver.retire_sa(outer, 1e6)
    for size in (0, 1, 100):
        assert statuses(driver, "out", [ip(bytes(size))])[0] is not GOOD
    after = driver.sa_info(outer)
    assert (after.packets, after.bytes) == (dead.packets, dead.bytes)


def protecting_filter() -> Any:
    from driver_kit import negotiate

    return negotiate()


@pytest.mark.parametrize("handle", [0, 77, 2**64])
def test_only_an_sa_that_exists_can_retire(handle: int) -> None:
    with pytest.raises(DriverError, match="no such object"):
        Driver().retire_sa(handle, 1.0)


# --- the end of the numbers ---


@pytest.mark.parametrize("esn", [False, True])
@pytest.mark.parametrize("together", [1, 256])
def test_numbers_never_wrap(esn: bool, together: int) -> None:
    """RFC 4303 3.3.3: with 64 bits the end is as final as with 32."""
    top = 2**64 - 1 if esn else 2**32 - 1
    driver = protecting(sequence=top - 2, esn=esn)
    found = [s for _ in range(0, 256, together) for s in statuses(driver, "out", [ip(b"x")] * together)]
    assert found == [GOOD] * 2 + [Status.SEQUENCE_EXHAUSTED] * 254
    assert kinds(driver) == ["REKEY"]
    assert driver.sas()[0].sequence == top
    add(driver, make("out", spi=SPI + 1))
    assert statuses(driver, "out", [ip(b"x")]) == [GOOD]


def test_with_esn_the_middle_of_the_numbers_is_nothing_special() -> None:
    driver = protecting(sequence=2**32 - 3, esn=True)
    assert set(statuses(driver, "out", [ip(b"x")] * 9)) == {GOOD}
    assert (driver.sas()[0].sequence, kinds(driver)) == (2**32 + 6, [])


def test_retired_before_its_numbers_run_low() -> None:
    driver = protecting(sequence=2**32 - 2)
    driver.retire_sa(driver.sas()[0].handle, 100.0)
    assert statuses(driver, "out", [ip(b"x")] * 2) == [GOOD, Status.SEQUENCE_EXHAUSTED]
    assert kinds(driver) == []


def test_upcalls_of_many_sas_in_one_tick() -> None:
    driver = Driver()
    handles = [driver.add_sa(soft("out", filter=n, hard_seconds=5.0)) for n in range(300)]
    driver.tick(5.0)
    assert [upcall.sa for upcall in driver.upcalls()] == handles
