"""Path MTU and DF (RFC 2401 6.1): what would not fit and must stay whole is refused before it costs a number."""

from __future__ import annotations

from typing import Any

import pytest
from driver_kit import GATEWAY_A, MODES, SUITES, ip, ip6, protecting, run, statuses

from ipsec_core import Status
from ipsec_core.errors import DriverError

GOOD, EXCEEDS = Status.PROTECTED, Status.EXCEEDS_MTU
DF = 0x4000


@pytest.mark.parametrize("name", SUITES)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("family", [4, 6])
def test_to_the_byte(name: str, mode: Any, family: int) -> None:
    """IPv4 with DF, and IPv6, which has no other way."""
    packet = ip(bytes(1401), fragment=DF) if family == 4 else ip6(bytes(1401))
    driver = protecting(name, mode, family)
    handle = driver.sas()[0].handle
    wire = len(packet) + driver.overhead(handle, len(packet), 20 if family == 4 else 40)
    for mtu, wanted in ((wire, GOOD), (wire - 1, EXCEEDS), (0, GOOD)):
        driver.set_path_mtu(handle, mtu)
        ((status, found),) = run(driver, "out", [packet])
        assert status is wanted
        assert len(found) == wire or found == packet
    assert driver.sas()[0].sequence == 2
    assert driver.status_counters("out")["EXCEEDS_MTU"] == 1


@pytest.mark.parametrize("mode", MODES)
def test_who_may_be_fragmented_goes_whole(mode: Any) -> None:
    """Whoever sends it makes fragments of it afterwards (RFC 2401 B.2)."""
    driver = protecting(mode=mode, path_mtu=500)
    assert statuses(driver, "out", [ip(bytes(1000))]) == [GOOD]


@pytest.mark.parametrize("inner", [4, 6])
@pytest.mark.parametrize(("df", "clear", "marked"), [("copy", 0, DF), ("set", DF, DF), ("clear", 0, 0)])
def test_df_of_a_tunnel(inner: int, df: Any, clear: int, marked: int) -> None:
    """IPv6 inside counts as marked (RFC 2401 6.1)."""
    driver = protecting(mode="tunnel", df=df)
    packets = [ip(b"x"), ip(b"x", fragment=DF)] if inner == 4 else [ip6(b"x")] * 2
    wires = [wire for _, wire in run(driver, "out", packets)]
    found = [int.from_bytes(wire[6:8], "big") for wire in wires]
    assert found == [clear if inner == 4 else marked, marked]
    assert {wire[12:16] for wire in wires} == {bytes(map(int, GATEWAY_A.split(".")))}
    driver.set_path_mtu(driver.sas()[0].handle, 1300)
    large = [ip(bytes(1300)), ip(bytes(1300), fragment=DF)] if inner == 4 else [ip6(bytes(1300))] * 2
    assert statuses(driver, "out", large) == [EXCEEDS if bits else GOOD for bits in found]


@pytest.mark.parametrize("df", ["copy", "set"])
def test_the_least_that_ipv6_carries_goes_whole(df: Any) -> None:
    """Its source cannot be told to send less than 1280 bytes (RFC 8200 5, RFC 2473 7.1); only the SA may refuse it."""
    driver = protecting(mode="tunnel", df=df, path_mtu=1280)
    packets = [ip6(bytes(1280 - 40)), ip6(bytes(1281 - 40))]
    assert statuses(driver, "out", packets) == [GOOD if df == "copy" else EXCEEDS, EXCEEDS]


def test_which_values_and_which_sas() -> None:
    driver = protecting(path_mtu=1280)
    handle = driver.sas()[0].handle
    for mtu in (68, 1500, 65535, 0):
        driver.set_path_mtu(handle, mtu)
    for mtu in (1, 67):
        with pytest.raises(DriverError, match=f"path MTU {mtu}: value out of range"):
            driver.set_path_mtu(handle, mtu)
    with pytest.raises(DriverError, match="no such object"):
        driver.set_path_mtu(handle + 1, 1500)


def test_a_bundle_asks_each_of_its_sas() -> None:
    from driver_kit import add, make, negotiate

    from ipsec_core import Driver

    driver = Driver()
    driver.set_filters([negotiate()])
    outer = add(driver, make("out", "ah-sha1", spi=0x2000, filter=9, path_mtu=200))
    add(driver, make("out", outer=outer))
    packet = ip(bytes(100), fragment=DF)
    assert statuses(driver, "out", [packet]) == [GOOD]
    assert statuses(driver, "out", [ip(bytes(140), fragment=DF)]) == [EXCEEDS]
    assert [info.sequence for info in driver.sas()] == [1, 2]
