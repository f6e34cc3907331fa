"""Sequence numbers that never wrap, byte lifetimes exact at their limits, and each upcall once."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from driver_kit import MODES, SPI, ip, negotiate, receiver, run, sa, sender, statuses, twin

from ipsec_core import Driver, Status
from ipsec_core.driver import Upcall, UpcallKind

TOP = 0xFFFFFFFF
GOOD, EXPIRED, EXHAUSTED = Status.PROTECTED, Status.EXPIRED, Status.SEQUENCE_EXHAUSTED
PAYLOAD = 100
DIRECTIONS = pytest.mark.parametrize("direction", ["out", "in"])
# 1: a burst for each packet; 256: all in one, so that a limit is crossed inside of it.
BURSTS = pytest.mark.parametrize("together", [1, 256])


def kinds(upcalls: list[Upcall]) -> list[str]:
    return [upcall.kind.name for upcall in upcalls]


def pass_through(driver: Driver, direction: Literal["out", "in"], together: int, sizes: list[int]) -> list[Status]:
    """Statuses of packets with these payload sizes."""
    packets = [ip(bytes(size)) for size in sizes]
    if direction == "in":
        packets = [twin().seal(packet, number, bytes(8)) for number, packet in enumerate(packets, 1)]
    if together > 1:
        return statuses(driver, direction, packets, now=3.0)
    return [run(driver, direction, [packet], now=3.0)[0][0] for packet in packets]


def after_the_end(direction: str, count: int) -> list[Status]:
    """The packet that finds the limit, and those after it."""
    return [EXPIRED] * count if direction == "in" else [EXPIRED] + [Status.HELD] * (count - 1)


def limited(direction: str, **limits: int) -> Driver:
    return sender(**limits) if direction == "out" else receiver(**limits)


@BURSTS
def test_numbers_never_wrap(together: int) -> None:
    driver = sender(sequence=TOP - 2)
    wanted = [GOOD, GOOD, EXHAUSTED, EXHAUSTED, EXHAUSTED]
    packets = [ip(b"end")] * 5
    results = run(driver, "out", packets) if together > 1 else [run(driver, "out", [p])[0] for p in packets]
    assert [status for status, _ in results] == wanted
    assert [packet[24:28].hex() for _, packet in results[:2]] == ["fffffffe", "ffffffff"]
    assert results[2][1] == packets[2], "left as it was, and not sent"
    (upcall,) = driver.upcalls()
    assert upcall.kind == UpcallKind.REKEY
    info = driver.sas()[0]
    assert (info.sequence, info.packets, info.bytes) == (TOP, 2, 6)
    assert driver.status_counters("out")["SEQUENCE_EXHAUSTED"] == 3


def test_rekey_is_asked_for_long_before_the_last_number() -> None:
    limit = TOP - (1 << 20)
    driver = sender(sequence=limit - 2)
    for wanted in (0, 0, 1, 0, 0):
        assert run(driver, "out", [ip(b"x")])[0][0] == GOOD
        assert kinds(driver.upcalls()) == ["REKEY"] * wanted
    assert driver.counters()["rekeys"] == 1


def test_first_number_is_one() -> None:
    driver = sender()
    results = run(driver, "out", [ip(b"x")] * 300)
    assert [int.from_bytes(packet[24:28], "big") for _, packet in results] == list(range(1, 301))


@DIRECTIONS
@BURSTS
@pytest.mark.parametrize("short", [0, 1])
def test_soft_limit(direction: Any, together: int, short: int) -> None:
    """The packet that reaches the limit asks for a rekey, once; one byte less does not."""
    driver = limited(direction, soft_bytes=3 * PAYLOAD, hard_bytes=100 * PAYLOAD)
    assert set(pass_through(driver, direction, together, [PAYLOAD, PAYLOAD, PAYLOAD - short])) == {GOOD}
    assert kinds(driver.upcalls()) == ["REKEY"] * (1 - short)
    if direction == "out":
        assert set(pass_through(driver, direction, together, [PAYLOAD] * 9)) == {GOOD}
        assert kinds(driver.upcalls()) == ["REKEY"] * short


@DIRECTIONS
@BURSTS
def test_hard_limit_is_the_last_byte_that_passes(direction: Any, together: int) -> None:
    driver = limited(direction, soft_bytes=0, hard_bytes=3 * PAYLOAD)
    found = pass_through(driver, direction, together, [PAYLOAD] * 3 + [0, 1, 0, PAYLOAD])
    assert found == [GOOD] * 4 + after_the_end(direction, 3)
    assert kinds(driver.upcalls()) == ["EXPIRED"] + ["ACQUIRE"] * (direction == "out")
    info = driver.sas()[0]
    assert (info.packets, info.bytes) == (4, 3 * PAYLOAD)
    assert driver.counters()["expirations"] == 1
    assert driver.counters()["rekeys"] == 0, "no soft limit, no rekey"


@DIRECTIONS
@BURSTS
def test_an_expired_sa_stays_expired(direction: Any, together: int) -> None:
    """A packet too big for what is left ends the SA; a smaller one after it, that would have fitted, does not pass.

    Outbound the SA serves its filter no more, so that the packets after the first ask for another one.
    """
    driver = limited(direction, soft_bytes=150, hard_bytes=250)
    wanted = [GOOD, GOOD, *after_the_end(direction, 3)]
    assert pass_through(driver, direction, together, [100, 100, 100, 10, 0]) == wanted
    assert kinds(driver.upcalls()) == ["REKEY", "EXPIRED"] + ["ACQUIRE"] * (direction == "out")
    (info,) = driver.sas()
    assert (info.packets, info.bytes, info.expired) == (2, 200, True)
    c = driver.counters()
    assert (c["rekeys"], c["expirations"], c["upcalls_lost"]) == (1, 1, 0)
    assert c["packets_not_decrypted"] == (3 if direction == "in" else 0)
    assert c["confidential_bytes_sent"] + c["confidential_bytes_received"] == 200
    assert driver.status_counters(direction)["EXPIRED"] == (3 if direction == "in" else 1)


@DIRECTIONS
@BURSTS
def test_both_limits_passed_by_one_packet(direction: Any, together: int) -> None:
    driver = limited(direction, soft_bytes=50, hard_bytes=80)
    assert pass_through(driver, direction, together, [81, 1]) == after_the_end(direction, 2)
    assert kinds(driver.upcalls()) == ["EXPIRED"] + ["ACQUIRE"] * (direction == "out")


@DIRECTIONS
def test_soft_equal_to_hard(direction: Any) -> None:
    driver = limited(direction, soft_bytes=200, hard_bytes=200)
    assert pass_through(driver, direction, 256, [100, 100, 1]) == [GOOD, GOOD, EXPIRED]
    assert kinds(driver.upcalls()) == ["REKEY", "EXPIRED"]


@DIRECTIONS
def test_without_limits_nothing_expires(direction: Any) -> None:
    driver = limited(direction)
    assert set(pass_through(driver, direction, 256, [1400] * 64)) == {GOOD}
    assert driver.upcalls() == []


@pytest.mark.parametrize("mode", MODES)
def test_bytes_are_the_payload_before_padding(mode: Any) -> None:
    """Transport: without the IP header; tunnel: the whole packet."""
    clear = ip(bytes(33))
    size = 33 if mode == "transport" else 53
    out, into = sender("3DES-CBC", mode), receiver("3DES-CBC", mode)
    ((_, wire),) = run(out, "out", [clear])
    assert run(into, "in", [wire])[0][0] == GOOD
    assert (out.sas()[0].bytes, into.sas()[0].bytes) == (size, size)


@DIRECTIONS
def test_what_an_upcall_says(direction: Any) -> None:
    driver = limited(direction, soft_bytes=1, filter=7, inner_protocol=253)
    if direction == "out":
        driver = Driver()
        driver.set_filters([negotiate(7)])
        driver.add_sa(sa("out", soft_bytes=1, filter=7, inner_protocol=253))
    assert pass_through(driver, direction, 256, [10]) == [GOOD]
    (upcall,) = driver.upcalls()
    (info,) = driver.sas()
    assert (upcall.kind, upcall.time, upcall.sa, upcall.filter) == (UpcallKind.REKEY, 3.0, info.handle, 7)
    assert (str(upcall.source), str(upcall.destination), upcall.protocol) == ("10.1.0.1", "10.1.0.2", 253)
    assert str(upcall.peer) == ("10.1.0.2" if direction == "out" else "10.1.0.1")


def test_a_forged_packet_uses_up_no_lifetime() -> None:
    driver = receiver(soft_bytes=10, hard_bytes=20)
    wire = bytearray(twin().seal(ip(bytes(50)), 1, bytes(8)))
    wire[-1] ^= 1
    assert statuses(driver, "in", [bytes(wire)]) == [Status.NOT_AUTHENTICATED]
    assert (driver.upcalls(), driver.sas()[0].bytes) == ([], 0)


def test_limits_are_of_each_sa() -> None:
    driver = receiver(hard_bytes=50)
    driver.add_sa(sa("in", spi=SPI + 1))
    wires = [twin(spi=SPI + n % 2).seal(ip(bytes(40)), 1 + n // 2, bytes(8)) for n in range(6)]
    assert statuses(driver, "in", wires) == [GOOD, GOOD, EXPIRED, GOOD, EXPIRED, GOOD]
    assert kinds(driver.upcalls()) == ["EXPIRED"]
