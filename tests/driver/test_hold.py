"""Packets that wait for an SA: one acquire for each negotiation, bounds, order of release; SAs that take over."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Any

import pytest
from driver_kit import SPI, A, ip, negotiate, network, receiver, run, sa, statuses, twin, udp

from ipsec_core import Action, Burst, Driver, Filter, Status
from ipsec_core.driver import NO_SA, UpcallKind
from ipsec_core.driver.types import ANY

HELD, NOT_HELD, GOOD = Status.HELD, Status.NOT_HELD, Status.PROTECTED
B, C = "10.1.0.2", "10.1.0.3"


def waiting(mode: str = "transport", **options: Any) -> Driver:
    driver = Driver(seed=1, **options)
    driver.set_filters([negotiate(1, mode)])
    return driver


def to(destination: str, data: bytes = b"wait", port: int = 4001) -> bytes:
    return udp(4000, port, data, destination=destination)


def released(driver: Driver, capacity: int = 64) -> list[bytes]:
    burst = Burst(capacity)
    count = driver.release(burst)
    packets = [burst.packet(i) for i in range(len(burst))]
    assert count == len(packets)
    return packets


def test_transport_asks_once_for_each_pair_of_hosts() -> None:
    driver = waiting()
    packets = [to(B), to(C), to(B, port=9), to(C), udp(1, 2, source="10.1.0.9", destination=B), to(B)]
    assert set(statuses(driver, "out", packets, now=2.5)) == {HELD}
    upcalls = driver.upcalls()
    assert [(str(u.source), str(u.destination)) for u in upcalls] == [(A, B), (A, C), ("10.1.0.9", B)]
    first = upcalls[0]
    assert (first.kind, first.time, first.sa, first.filter, first.peer) == (
        UpcallKind.ACQUIRE,
        2.5,
        0,
        1,
        IPv4Address(B),
    )
    assert (first.protocol, first.source_port, first.destination_port) == (17, 4000, 4001)
    assert statuses(driver, "out", packets) == [HELD] * 6
    assert driver.upcalls() == []
    c = driver.counters()
    assert (c["acquires"], c["packets_held"]) == (3, 12)


def test_tunnel_asks_once_for_the_filter() -> None:
    driver = waiting("tunnel")
    assert set(statuses(driver, "out", [to(B), to(C), to("172.16.0.1")])) == {HELD}
    (upcall,) = driver.upcalls()
    assert upcall.peer == IPv4Address("192.0.2.2")


def test_filters_wait_apart() -> None:
    driver = Driver()
    driver.set_filters([negotiate(5, protocol=17), negotiate(6)])
    assert set(statuses(driver, "out", [to(B), ip(b"x", destination=B)])) == {HELD}
    assert [u.filter for u in driver.upcalls()] == [5, 6]
    driver.add_sa(sa("out", filter=6))
    assert released(driver) == [ip(b"x", destination=B)]


def test_bound_of_packets() -> None:
    driver = waiting(hold_packets=3)
    assert statuses(driver, "out", [to(B)] * 5 + [to(C)]) == [HELD] * 3 + [NOT_HELD] * 2 + [HELD]
    assert driver.status_counters("out")["NOT_HELD"] == 2
    assert driver.counters()["packets_held"] == 4


def test_default_bound_of_packets() -> None:
    assert statuses(waiting(), "out", [to(B)] * 66) == [HELD] * 64 + [NOT_HELD] * 2


def test_bound_of_bytes() -> None:
    """Each packet takes 16 bytes and its length rounded up to 8."""
    driver = waiting(hold_bytes=440 * 2)
    assert statuses(driver, "out", [ip(bytes(400))] * 3) == [HELD, HELD, NOT_HELD]
    driver = waiting(hold_bytes=440 * 2 - 1)
    assert statuses(driver, "out", [ip(bytes(400)), ip(bytes(400)), ip(bytes(300))]) == [HELD, NOT_HELD, HELD]


def test_bound_of_acquires() -> None:
    driver = waiting()
    destinations = [f"10.2.{i // 200}.{1 + i % 200}" for i in range(258)]
    found = statuses(driver, "out", [to(d) for d in destinations])
    assert found == [HELD] * 256 + [NOT_HELD] * 2
    assert len(driver.upcalls()) == driver.counters()["acquires"] == 256
    assert driver.acquire_failed(1, A, destinations[7]) == 1
    assert statuses(driver, "out", [to(destinations[257])]) == [HELD]
    assert [str(u.destination) for u in driver.upcalls()] == [destinations[257]]


def test_full_upcall_ring_is_asked_again() -> None:
    driver = waiting()
    for i in range(1024):
        destination = f"10.3.{i // 200}.{1 + i % 200}"
        assert statuses(driver, "out", [to(destination)]) == [HELD]
        assert driver.acquire_failed(1, A, destination) == 1
    assert statuses(driver, "out", [to(B)] * 2) == [NOT_HELD] * 2
    assert driver.counters()["upcalls_lost"] == 2
    assert len(driver.upcalls()) == 1024
    assert statuses(driver, "out", [to(B)] * 2) == [HELD] * 2
    assert [str(u.destination) for u in driver.upcalls()] == [B]


def test_release_keeps_the_order() -> None:
    driver = waiting()
    packets = [to(B if i % 3 else C, bytes([i]) * (1 + i % 11)) for i in range(40)]
    assert set(statuses(driver, "out", packets)) == {HELD}
    assert released(driver) == [], "no SA yet"
    driver.add_sa(sa("out", destination=B))
    wanted = [packet for i, packet in enumerate(packets) if i % 3]
    assert released(driver, 10) == wanted[:10]
    assert released(driver, 10) == wanted[10:20]
    driver.add_sa(sa("out", destination=C, spi=SPI + 1))
    rest = wanted[20:] + [packet for i, packet in enumerate(packets) if i % 3 == 0]
    assert sorted(released(driver)) == sorted(rest)
    assert released(driver) == []


def test_released_packets_are_protected_and_stamped() -> None:
    driver = waiting()
    packets = [to(B, bytes([i])) for i in range(5)]
    statuses(driver, "out", packets, now=1.0)
    driver.add_sa(sa("out"))
    burst = Burst(8)
    assert driver.release(burst, now=4.0) == 5
    assert burst.time.tolist() == [4_000_000_000] * 5
    assert burst.status.tolist() == [Status.UNPROCESSED] * 5
    assert driver.outbound(burst, now=4.0) == 5
    into = receiver()
    assert run(into, "in", burst.packets()) == [(GOOD, packet) for packet in packets]


def test_a_released_packet_longer_than_the_burst_allows() -> None:
    driver = waiting()
    assert statuses(driver, "out", [ip(bytes(500)), ip(bytes(50))]) == [HELD] * 2
    driver.add_sa(sa("out"))
    burst = Burst(8, 100)
    driver.release(burst)
    assert [burst.packet(i) for i in range(len(burst))] == [ip(bytes(50))]
    assert driver.status_counters("out")["TOO_BIG"] == 1


def test_failure_drops_what_waits() -> None:
    driver = waiting()
    statuses(driver, "out", [to(B), to(C), to(B)])
    driver.upcalls()
    assert driver.acquire_failed(1, A, B) == 2
    assert driver.acquire_failed(1, A, B) == 0
    assert driver.acquire_failed(2, A, C) == 0
    assert driver.status_counters("out")["NEGOTIATION_FAILED"] == 2
    assert statuses(driver, "out", [to(B)]) == [HELD]
    assert [str(u.destination) for u in driver.upcalls()] == [B], "the next packet asks again"
    driver.add_sa(sa("out", destination=C))
    assert released(driver) == [to(C)]


def test_failure_of_a_tunnel() -> None:
    driver = waiting("tunnel")
    statuses(driver, "out", [to(B), to(C)])
    assert driver.acquire_failed(1, A, C) == 2


def test_an_sa_that_goes_before_the_release_is_asked_for_again() -> None:
    driver = waiting()
    statuses(driver, "out", [to(B, b"1")])
    driver.delete_sa(driver.add_sa(sa("out")))
    assert len(driver.upcalls()) == 1
    assert statuses(driver, "out", [to(B, b"2")]) == [HELD]
    assert [u.kind for u in driver.upcalls()] == [UpcallKind.ACQUIRE]
    driver.add_sa(sa("out", spi=SPI + 1))
    assert released(driver) == [to(B, b"1"), to(B, b"2")]


def test_the_sa_of_another_flow_releases_nothing() -> None:
    driver = waiting()
    statuses(driver, "out", [to(B)])
    driver.add_sa(sa("out", destination=C))
    driver.add_sa(sa("out", spi=SPI + 1, filter=2))
    driver.add_sa(sa("in", spi=SPI + 2))
    assert released(driver) == []
    assert statuses(driver, "out", [to(C)]) == [GOOD]


# --- SAs that replace each other ---


def spi_of(wire: bytes) -> int:
    return int.from_bytes(wire[20:24], "big")


def test_newest_sa_takes_over_and_the_older_one_comes_back() -> None:
    driver = waiting()
    handles = [driver.add_sa(sa("out", spi=SPI + i)) for i in range(3)]

    def used() -> int:
        ((status, wire),) = run(driver, "out", [to(B)])
        return spi_of(wire) - SPI if status is GOOD else -1

    assert used() == 2
    driver.delete_sa(handles[1])
    assert used() == 2
    driver.delete_sa(handles[2])
    assert used() == 0
    handles[2] = driver.add_sa(sa("out", spi=SPI + 5))
    assert used() == 5
    driver.set_filters([Filter(9, "out", Action.BLOCK, protocol=6), negotiate(1)])
    assert used() == 5, "a change of the filters keeps the SAs and their order"
    driver.delete_sa(handles[2])
    assert used() == 0
    driver.delete_sa(handles[0])
    assert used() == -1
    assert len(driver.upcalls()) == 1


def test_filters_that_go_and_return() -> None:
    driver = waiting()
    driver.add_sa(sa("out"))
    driver.set_filters([negotiate(2)])
    assert statuses(driver, "out", [to(B)]) == [HELD]
    driver.set_filters([])
    assert statuses(driver, "out", [to(B)]) == [Status.NO_FILTER]
    driver.set_filters([negotiate(1)])
    assert statuses(driver, "out", [to(B)]) == [GOOD]


def test_older_inbound_sa_still_decrypts() -> None:
    driver = Driver()
    old = driver.add_sa(sa("in"))
    driver.add_sa(sa("in", spi=SPI + 1))
    wires = [twin(spi=SPI + i % 2).seal(ip(b"x"), 1 + i, bytes(8)) for i in range(4)]
    assert statuses(driver, "in", wires[:2]) == [GOOD, GOOD]
    driver.delete_sa(old)
    assert statuses(driver, "in", wires[2:]) == [Status.BAD_SPI, GOOD]


def test_narrower_sas_serve_their_part_of_a_filter() -> None:
    driver = waiting("tunnel")
    driver.add_sa(sa("out", mode="tunnel"))
    driver.add_sa(sa("out", mode="tunnel", spi=SPI + 1, inner_source=ANY, inner_destination=network("10.1.0.3/32")))
    driver.add_sa(sa("out", mode="tunnel", spi=SPI + 2, inner_protocol=17, destination_port=53))
    wires = [wire for _, wire in run(driver, "out", [to(B), to(C), to(C, port=53), ip(b"x", destination=C)])]
    assert [spi_of(wire) - SPI for wire in wires] == [0, 1, 2, 1]


@pytest.mark.parametrize("encryption", ["3DES-CBC", "AES-128-GCM"])
def test_index_in_the_burst(encryption: str) -> None:
    driver = waiting()
    handle = driver.add_sa(sa("out", encryption))
    burst = Burst(3).load([to(B), udp(500, 500), to(C)])
    driver.outbound(burst)
    assert burst.sa.tolist() == [handle & 0xFFFFFFFF, NO_SA, NO_SA]
    assert burst.filter.tolist() == [0, 0xFFFFFFFF, 0]
