"""The SPI table against a dict, with so few slots that everything collides and overflows."""

from __future__ import annotations

import random
from typing import Any

import pytest
from driver_kit import SPI, ip, receiver, sa, statuses, twin
from hypothesis import given, settings
from hypothesis import strategies as st

from ipsec_core import Driver, Status
from ipsec_core.driver import NO_SA
from ipsec_core.errors import DriverError

SPIS = [256, 257, 0x1001, 0x10010000, 0xFFFFFFFF, 0x80000100]
DESTINATIONS = ["10.1.0.2", "10.1.0.3", "255.255.255.255"]
keys = st.tuples(st.sampled_from(SPIS), st.sampled_from(DESTINATIONS))


@settings(max_examples=150, deadline=None)
@given(st.integers(2, 8), st.integers(0, 1000), st.lists(st.tuples(st.booleans(), keys), max_size=60))
def test_table_equals_dict(slots: int, seed: int, script: list[tuple[bool, tuple[int, str]]]) -> None:
    driver = Driver(seed=seed, spi_slots=slots)
    known: dict[tuple[int, str], int] = {}
    for add, key in script:
        record = sa("in", spi=key[0], destination=key[1])
        if add and key in known:
            with pytest.raises(DriverError, match="exists"):
                driver.add_sa(record)
        elif add:
            known[key] = driver.add_sa(record)
        elif key in known:
            driver.delete_sa(known.pop(key))
        for spi in SPIS:
            for destination in DESTINATIONS:
                wanted = known.get((spi, destination))
                found = driver.spi_lookup(spi, destination)
                assert found == (NO_SA if wanted is None else wanted & 0xFFFFFFFF)
                assert driver.spi_lookup(spi, destination, 51) == NO_SA
        tables = driver.tables()
        assert tables["spi_slots"] == slots
        assert tables["spi_used"] + tables["spi_overflow"] == len(known) == driver.counters()["active_associations"]
        assert tables["spi_used"] < slots


@pytest.mark.parametrize("slots", [4, 8, 16])
def test_full_table_emptied_in_any_order(slots: int) -> None:
    """Every deletion closes its gap: no other key is lost, whatever the run of collisions looks like."""
    for seed in range(60):
        rng = random.Random(seed)
        driver = Driver(seed=seed, spi_slots=slots)
        handles = {spi: driver.add_sa(sa("in", spi=spi)) for spi in rng.sample(range(256, 2**32), 2 * slots)}
        order = list(handles)
        rng.shuffle(order)
        for spi in order:
            driver.delete_sa(handles.pop(spi))
            assert driver.spi_lookup(spi, "10.1.0.2") == NO_SA
            for other, handle in handles.items():
                assert driver.spi_lookup(other, "10.1.0.2") == handle & 0xFFFFFFFF


def test_ten_thousand_sas_in_a_table_of_eight() -> None:
    rng = random.Random(1)
    driver = Driver(seed=3, spi_slots=8)
    handles = {spi: driver.add_sa(sa("in", spi=spi)) for spi in rng.sample(range(256, 2**32), 10000)}
    assert driver.tables()["spi_overflow"] == 10000 - driver.tables()["spi_used"] > 9000
    order = list(handles)
    gone = set(order[:7000])
    for spi in gone:
        driver.delete_sa(handles[spi])
    for spi in [*order, *rng.sample(range(256, 2**32), 1000)]:
        alive = spi in handles and spi not in gone
        assert driver.spi_lookup(spi, "10.1.0.2") == (handles[spi] & 0xFFFFFFFF if alive else NO_SA)


def test_default_sizes() -> None:
    assert Driver().tables() == {"spi_slots": 4096, "spi_used": 0, "spi_overflow": 0, "cache_slots": 1024}
    assert Driver(1024, 1024).tables()["spi_slots"] == 65536
    assert Driver(1024, 1024).tables()["cache_slots"] == 16384


def test_packets_find_sas_of_the_overflow() -> None:
    driver = receiver(driver={"spi_slots": 2}, spi=SPI - 1)
    driver.add_sa(sa("in", spi=SPI))
    assert driver.tables()["spi_overflow"] == 1
    packets = [twin(spi=SPI - i).seal(ip(b"x"), 1, bytes(8)) for i in range(3)]
    assert statuses(driver, "in", packets) == [Status.PROTECTED, Status.PROTECTED, Status.BAD_SPI]


def test_a_handle_never_names_a_later_sa() -> None:
    driver = Driver()
    old = driver.add_sa(sa("in"))
    driver.delete_sa(old)
    new = driver.add_sa(sa("in"))
    assert new != old
    assert new & 0xFFFFFFFF == old & 0xFFFFFFFF, "the index is used again"
    calls: list[Any] = [driver.delete_sa, driver.sa_info]
    for call in calls:
        with pytest.raises(DriverError, match="no such object"):
            call(old)
    assert driver.sa_info(new).handle == new


def test_allocated_spis_are_free_and_not_repeated() -> None:
    driver = Driver(seed=9)
    spis = [driver.allocate_spi("10.1.0.2") for _ in range(70000)]
    assert len(set(spis)) == len(spis)
    assert min(spis) >= 256
    twin_of = Driver(seed=9)
    taken = twin_of.add_sa(sa("in", spi=spis[0]))
    assert twin_of.allocate_spi("10.1.0.2") == spis[1]
    assert twin_of.sa_info(taken).spi == spis[0]
