"""Soft SAs (KB 257225: security "None"): clear text with an entry, a count and an end, in both directions."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Any

import pytest
from driver_kit import (
    A6,
    B6,
    A,
    B,
    add,
    ip,
    ip6,
    make,
    names,
    network,
    network6,
    opening,
    oracle,
    run,
    soft,
    statuses,
    udp,
)

from ipsec_core import Action, Burst, Driver, Filter, SecurityAssociation, Status
from ipsec_core.errors import DriverError

SOFT, HELD, REFUSED, PASSED = Status.SOFT, Status.HELD, Status.SHOULD_BE_SECURED, Status.PASSED_THROUGH
DIRECTIONS = pytest.mark.parametrize("direction", ["out", "in"])
PACKET = ip(bytes(80))


def negotiating(direction: Any, action: Action = Action.NEGOTIATE, **options: Any) -> Driver:
    driver = Driver(seed=1, **options)
    driver.set_filters([Filter(1, direction, action, None, None)])
    return driver


def without(direction: str) -> Status:
    return HELD if direction == "out" else REFUSED


def kinds(driver: Driver) -> list[str]:
    return [upcall.kind.name for upcall in driver.upcalls()]


@DIRECTIONS
@pytest.mark.parametrize("packet", [PACKET, ip6(bytes(60))], ids=["IPv4", "IPv6"])
def test_clear_text_while_it_lives(direction: Any, packet: bytes) -> None:
    driver = negotiating(direction)
    handle = driver.add_sa(soft(direction, created=1.0))
    assert driver.sa_info(handle).last == 1.0
    for now, count in ((2.0, 1), (3.5, 3)):
        assert run(driver, direction, [packet] * count, now=now) == [(SOFT, packet)] * count
        assert driver.sa_info(handle).last == now
    info = driver.sa_info(handle)
    assert (info.protocol, info.packets, info.bytes, info.spi, info.backend) == ("none", 4, 4 * len(packet), 0, "")
    assert (info.source, info.inner_source, info.dropped, info.expired) == (None, None, 0, False)
    c = driver.counters()
    assert (c["soft_associations"], c["active_associations"], c["key_additions"], c["acquires"]) == (1, 0, 0, 0)
    assert {n for name, n in c.items() if name.startswith(("confidential", "authenticated"))} == {0}
    assert driver.status_counters(direction)["SOFT"] == 4
    assert driver.filter_packets() == [(1, 4)]
    assert kinds(driver) == []


@DIRECTIONS
def test_deletion_brings_back_what_was_before(direction: Any) -> None:
    driver = negotiating(direction)
    assert statuses(driver, direction, [PACKET]) == [without(direction)]
    handle = driver.add_sa(soft(direction))
    assert statuses(driver, direction, [PACKET]) == [SOFT]
    driver.delete_sa(handle)
    assert statuses(driver, direction, [PACKET] * 2) == [without(direction)] * 2
    with pytest.raises(DriverError, match="no such object"):
        driver.sa_info(handle)
    assert driver.counters()["soft_associations"] == driver.counters()["key_deletions"] == 0


def test_what_waited_goes_in_clear() -> None:
    driver = negotiating("out")
    assert statuses(driver, "out", [PACKET, PACKET]) == [HELD] * 2
    assert kinds(driver) == ["ACQUIRE"]
    driver.add_sa(soft("out"))
    burst = Burst(8)
    assert driver.release(burst, 1.0) == 2
    driver.outbound(burst, 1.0)
    assert burst.packets() == [PACKET] * 2
    assert kinds(driver) == []


def test_what_waited_for_a_tunnel_goes_in_clear() -> None:
    """Its packets wait for the filter and not for a pair of hosts."""
    driver = Driver()
    driver.set_filters([Filter(1, "out", Action.NEGOTIATE, tunnel=IPv4Address("192.0.2.2"))])
    assert statuses(driver, "out", [PACKET]) == [HELD]
    driver.add_sa(soft("out", inner_source=network(f"{A}/32"), inner_destination=network(f"{B}/32")))
    burst = Burst(8)
    assert driver.release(burst) == 1
    assert driver.outbound(burst) == 1
    assert burst.packets() == [PACKET]


@pytest.mark.parametrize(("action", "before"), [(Action.NEGOTIATE, REFUSED), (Action.PASSTHROUGH, PASSED)])
def test_inbound_filters(action: Action, before: Status) -> None:
    """ "Accept unsecured communication" lets the packet in anyway, but with a soft SA it is that SA's."""
    driver = negotiating("in", action)
    assert statuses(driver, "in", [PACKET]) == [before]
    handle = driver.add_sa(soft("in", hard_seconds=10.0))
    assert statuses(driver, "in", [PACKET], now=9.0) == [SOFT]
    assert statuses(driver, "in", [PACKET, PACKET], now=10.0) == [Status.EXPIRED, before]
    assert driver.sa_info(handle).packets == 1


@DIRECTIONS
@pytest.mark.parametrize(("action", "wanted"), [(Action.PERMIT, Status.PERMITTED), (Action.BLOCK, Status.BLOCKED)])
def test_other_filters_take_no_notice(direction: Any, action: Action, wanted: Status) -> None:
    driver = negotiating(direction, action)
    driver.add_sa(soft(direction))
    assert statuses(driver, direction, [PACKET]) == [wanted]
    assert driver.sas()[0].packets == 0


@DIRECTIONS
def test_only_its_own_direction_and_filter(direction: Any) -> None:
    driver = negotiating(direction)
    driver.add_sa(soft("in" if direction == "out" else "out"))
    driver.add_sa(soft(direction, filter=2))
    assert statuses(driver, direction, [PACKET]) == [without(direction)]


@DIRECTIONS
def test_selectors(direction: Any) -> None:
    driver = negotiating(direction)
    hosts = {"inner_source": network(f"{A}/32"), "inner_destination": network(f"{B}/32")}
    driver.add_sa(soft(direction, inner_protocol=17, destination_port=53, **hosts))
    other = udp(1, 53, destination="10.1.0.9")
    packets = [udp(1, 53), udp(1, 54), other, ip(b"x"), ip6(b"x"), udp(9, 53)]
    wanted = [SOFT, *[without(direction)] * 4, SOFT]
    assert statuses(driver, direction, packets) == wanted
    family = negotiating(direction)
    family.add_sa(soft(direction, inner_source=network6(f"{A6}/128"), inner_destination=network6(f"{B6}/128")))
    assert statuses(family, direction, [ip6(b"x"), ip(b"x"), ip6(b"x", source="2001:db8::9")]) == [
        SOFT,
        without(direction),
        without(direction),
    ]


@DIRECTIONS
def test_lifetimes(direction: Any) -> None:
    """Bytes are those of the whole packet; limits are as exact as those of hard SAs."""
    driver = negotiating(direction)
    driver.add_sa(soft(direction, soft_bytes=200, hard_bytes=300))
    assert names(statuses(driver, direction, [PACKET] * 5)) == [
        "SOFT",
        "SOFT",
        "SOFT",
        "EXPIRED",
        without(direction).name,
    ]
    assert kinds(driver) == ["REKEY", "EXPIRED"] + ["ACQUIRE"] * (direction == "out")
    (info,) = driver.sas()
    assert (info.bytes, info.packets, info.expired) == (300, 3, True)
    c = driver.counters()
    assert (c["rekeys"], c["expirations"], c["packets_not_decrypted"], c["packets_not_authenticated"]) == (1, 1, 0, 0)


@DIRECTIONS
def test_idle(direction: Any) -> None:
    """KB 257225: the soft SA goes when nobody speaks any more."""
    driver = negotiating(direction)
    handle = driver.add_sa(soft(direction, created=10.0, idle_seconds=300.0))
    assert driver.tick(10.0) == 310.0
    statuses(driver, direction, [PACKET], now=200.0)
    assert driver.tick(310.0) == 500.0, "traffic began it again"
    assert kinds(driver) == []
    assert driver.tick(500.0) == 800.0
    (upcall,) = driver.upcalls()
    assert (upcall.kind.name, upcall.sa, upcall.filter, upcall.time) == ("IDLE", handle, 1, 500.0)
    assert driver.counters()["idle_expirations"] == 1
    assert statuses(driver, direction, [PACKET], now=501.0) == [SOFT], "reported, not ended"


def test_a_newer_hard_sa_takes_over_and_back() -> None:
    driver = negotiating("out")
    driver.add_sa(soft("out"))
    hard = add(driver, make("out"))
    assert statuses(driver, "out", [PACKET]) == [Status.PROTECTED]
    driver.delete_sa(hard)
    assert statuses(driver, "out", [PACKET]) == [SOFT]


def test_inbound_protected_packets_pass_by_a_soft_sa() -> None:
    driver = opening()
    driver.set_filters([Filter(1, "in", Action.NEGOTIATE)])
    driver.add_sa(soft("in"))
    assert statuses(driver, "in", [oracle().seal(PACKET, 1), PACKET]) == [Status.PROTECTED, SOFT]
    assert [info.packets for info in driver.sas()] == [1, 1]


def test_no_fragment_is_too_small_for_clear_text() -> None:
    driver = negotiating("out")
    driver.add_sa(soft("out"))
    assert statuses(driver, "out", [ip(b"x", fragment=0x2001), ip(b"")]) == [SOFT, SOFT]


def test_overhead_is_nothing() -> None:
    from ipsec_core import overhead

    driver = negotiating("out")
    handle = driver.add_sa(soft("out"))
    assert driver.overhead(handle, 1000) == overhead(soft("out"), 1000) == 0


def test_no_soft_sa_around_or_in_another() -> None:
    driver = Driver()
    inner = driver.add_sa(soft("out"))
    with pytest.raises(DriverError, match="value out of range"):
        driver.add_sa(make("out", outer=inner))


def test_keys_of_a_soft_sa_are_not_asked_for() -> None:
    """Only what it needs is read: neither SPI, nor ends, nor keys."""
    driver = Driver()
    driver.add_sa(SecurityAssociation("out", protocol="none"))
    assert driver.sas()[0].encryption == "NULL"
