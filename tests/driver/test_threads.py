"""Drivers are independent of each other; one driver is for one thread at a time and says so."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from typing import Any

from driver_kit import ENCRYPTIONS, SPI, ip, sa, sender, twin

from ipsec_core import Burst, Driver, Status
from ipsec_core.errors import DriverError

IN_USE = re.compile(r"^(Driver: in use by another thread; one driver|Burst: in use by a driver in another thread)")
PACKETS = [ip(bytes([i]) * 1400, identification=i) for i in range(256)]


def work(encryption: str) -> tuple[list[bytes], dict[str, int]]:
    driver = sender(encryption, "tunnel")
    driver.add_sa(sa("in", encryption, "tunnel", replay_window=4096))
    out = []
    for _ in range(6):
        burst = Burst(256).load(PACKETS)
        driver.outbound(burst)
        out += burst.packets()
        driver.inbound(burst)
        assert burst.packets() == PACKETS
    return out, driver.counters()


def in_threads(*jobs: Callable[[], Any]) -> list[Any]:
    results: list[Any] = [None] * len(jobs)

    def run(i: int, job: Callable[[], Any]) -> None:
        results[i] = job()

    threads = [threading.Thread(target=run, args=(i, job)) for i, job in enumerate(jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_two_drivers_in_two_threads_equal_one_thread() -> None:
    alone = [work(encryption) for encryption in ENCRYPTIONS]
    assert in_threads(*(lambda e=e: work(e) for e in (*ENCRYPTIONS, *ENCRYPTIONS))) == alone * 2


def while_running(call: Callable[[Driver, Burst, Burst], object]) -> tuple[int, int]:
    """(refused, done) of calls from this thread while another one keeps the driver and its burst busy."""
    driver = sender("3DES-CBC")
    mine, theirs = Burst(256).load(PACKETS), Burst(256).load(PACKETS)
    stop = threading.Event()

    def loop() -> None:
        while not stop.is_set():
            try:
                driver.outbound(theirs)
            except DriverError:
                continue

    other = threading.Thread(target=loop)
    other.start()
    refused = done = 0
    try:
        for _ in range(20000):
            time.sleep(0)  # gives the other thread the GIL
            try:
                call(driver, mine, theirs)
                done += 1
            except DriverError as error:
                refused += IN_USE.match(str(error)) is not None
            if refused > 5:
                break
    finally:
        stop.set()
        other.join()
    return refused, done


def test_a_busy_driver_refuses() -> None:
    def add_and_delete(driver: Driver, mine: Burst, theirs: Burst) -> None:
        driver.delete_sa(driver.add_sa(sa("in", spi=SPI + 1)))

    calls: list[Callable[[Driver, Burst, Burst], object]] = [
        lambda driver, mine, theirs: driver.outbound(mine),
        lambda driver, mine, theirs: driver.inbound(mine),
        lambda driver, mine, theirs: driver.release(mine),
        lambda driver, mine, theirs: driver.set_filters([]),
        lambda driver, mine, theirs: driver.upcalls(),
        lambda driver, mine, theirs: driver.reset_counters(),
        lambda driver, mine, theirs: driver.acquire_failed(1, "10.1.0.1", "10.1.0.2"),
        lambda driver, mine, theirs: Driver().outbound(theirs),
        lambda driver, mine, theirs: Driver().release(theirs),
        lambda driver, mine, theirs: theirs.load(PACKETS),
    ]
    for i, call in enumerate(calls):
        refused, _ = while_running(call)
        assert refused > 0, i


def test_a_driver_moves_from_thread_to_thread() -> None:
    driver = sender()
    for number in range(1, 5):
        (wire,) = in_threads(lambda: Burst(1).load([ip(b"x")]) if driver.counters() else None)
        in_threads(lambda wire=wire: driver.outbound(wire))
        assert wire.status[0] == Status.PROTECTED
        assert wire.packet(0) == twin().seal(ip(b"x"), number, wire.packet(0)[28:36])


def test_a_load_from_inside_of_a_load_is_refused() -> None:
    burst, driver = Burst(4), Driver()
    refusals = []

    def packets() -> Any:
        yield b"1"
        for call in (lambda: burst.load([]), lambda: driver.outbound(burst), lambda: driver.release(burst)):
            try:
                call()
            except DriverError as error:
                refusals.append(str(error))
        yield b"2"

    assert len(burst.load(packets())) == 2
    assert len(refusals) == 3
