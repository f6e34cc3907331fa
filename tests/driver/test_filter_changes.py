"""Some filters come and go while the others stay: as if all had been given anew, and nothing to their SAs."""

from __future__ import annotations

from typing import Literal

import pytest
from driver_kit import A, B, negotiate, sender, statuses, udp
from hypothesis import given
from hypothesis import strategies as st

from ipsec_core import Action, Driver, Filter, Status
from ipsec_core.errors import DriverError

Direction = Literal["out", "in"]
PORTS = range(1000, 1008)


def numbered(number: int, action: Action = Action.PERMIT, port: int = 0, direction: Direction = "out") -> Filter:
    return Filter(number, direction, action, protocol=17 if port else 0, destination_port=port)


def references(driver: Driver) -> list[int]:
    return [number for number, _ in driver.filter_packets()]


changes = st.lists(
    st.one_of(
        st.tuples(st.just("insert"), st.integers(0, 40), st.lists(st.sampled_from(PORTS), max_size=4)),
        st.tuples(st.just("remove"), st.integers(0, 40), st.lists(st.integers(0, 40), max_size=4)),
    ),
    max_size=12,
)


@given(changes)
def test_the_walk_is_that_of_the_whole_list(steps: list[tuple[str, int, list[int]]]) -> None:
    changed, whole = Driver(cache_slots=4), Driver(cache_slots=4)
    mirror: list[Filter] = []
    packets = [udp(5, port) for port in PORTS]
    number = 0
    for step, place, given_ in steps:
        if step == "insert":
            made = [numbered(number := number + 1, Action(port % 2), port) for port in given_]
            at = place % (len(mirror) + 1)
            changed.insert_filters(at, made)
            mirror[at:at] = made
        else:
            changed.remove_filters(given_)
            mirror = [item for item in mirror if item.reference not in given_]
        whole.set_filters(mirror)
        assert references(changed) == [item.reference for item in mirror]
        for driver in (changed, whole):
            statuses(driver, "out", packets)
        assert changed.filter_packets() == whole.filter_packets()
        assert changed.status_counters("out") == whole.status_counters("out")


def test_an_sa_serves_its_filter_wherever_that_stands() -> None:
    driver = sender()
    sas = driver.sas()
    packet = udp(5, 1000, source=A, destination=B)
    assert statuses(driver, "out", [packet]) == [Status.PROTECTED]
    driver.insert_filters(0, [numbered(number, Action.BLOCK, 2000 + number) for number in range(100, 150)])
    assert statuses(driver, "out", [packet, udp(5, 2101)]) == [Status.PROTECTED, Status.BLOCKED]
    driver.remove_filters(range(100, 125))
    kept = [Status.PROTECTED, Status.PROTECTED, Status.BLOCKED]
    assert statuses(driver, "out", [packet, udp(5, 2101), udp(5, 2130)]) == kept
    assert [sa.handle for sa in driver.sas()] == [sa.handle for sa in sas]
    assert (driver.sas()[0].packets, driver.sas()[0].sequence) == (4, 4)


def test_an_sa_that_comes_before_its_filter() -> None:
    driver = sender()
    kept = driver.filter_packets()
    driver.set_filters([])
    packet = udp(5, 1000, source=A, destination=B)
    assert statuses(driver, "out", [packet]) == [Status.NO_FILTER]
    driver.insert_filters(0, [negotiate(kept[0][0])])
    assert statuses(driver, "out", [packet]) == [Status.PROTECTED]
    driver.remove_filters([kept[0][0]])
    assert statuses(driver, "out", [packet]) == [Status.NO_FILTER]


def test_what_cannot_be() -> None:
    driver = Driver()
    driver.set_filters([numbered(1), numbered(2)])
    with pytest.raises(DriverError, match=r"^at: 3 is out of range; accepted: 0 to 2$"):
        driver.insert_filters(3, [numbered(3)])
    with pytest.raises(
        DriverError, match=r"^filter 1, reference: 7 is taken by filter 0; accepted: a number of its own$"
    ):
        driver.insert_filters(0, [numbered(7), numbered(7)])
    with pytest.raises(DriverError):
        driver.insert_filters(0, [numbered(2)])
    assert references(driver) == [1, 2]
    driver.insert_filters(1, [numbered(2, direction="in")])
    assert references(driver) == [1, 2, 2]
    driver.remove_filters([2, 99])
    assert references(driver) == [1]
