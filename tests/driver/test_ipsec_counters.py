"""The nine statistics of IP Security Monitor for every kind of SA: what moves each of them, and what must not.

The rules are those beside the counters (COUNTER_RULES); each case says the whole change of the nine.
"""

from __future__ import annotations

from typing import Any

import pytest
from driver_kit import (
    MODES,
    SPI,
    SUITES,
    add,
    changed,
    ip,
    make,
    of_family,
    opening,
    oracle,
    protecting,
    soft,
    statuses,
)
from driver_kit import negotiate as negotiation

from ipsec_core import Driver, Status
from ipsec_core.driver import COUNTER_RULES, COUNTERS

NINE = [name for name, _ in COUNTERS[:9]]
CLEAR = ip(bytes(33))
ALL = pytest.mark.parametrize("name", SUITES)
CIPHER = {name for name in SUITES if SUITES[name].get("encryption")}
ICV = {name for name in SUITES if not name.endswith("-bare")}
NOT_AUTHENTICATED, NOT_DECRYPTED = "packets_not_authenticated", "packets_not_decrypted"


def moved(driver: Driver, direction: Any, *packets: bytes, now: float = 0.0) -> dict[str, int]:
    """What the packets move of the nine."""
    before = driver.counters()
    statuses(driver, direction, packets, now=now)
    return {name: n for name, n in changed(driver, before).items() if name in NINE}


def bytes_of(name: str, way: str, size: int) -> dict[str, int]:
    counted = {f"confidential_bytes_{way}": name in CIPHER, f"authenticated_bytes_{way}": name in ICV}
    return {counter: size for counter, counts in counted.items() if counts}


def losses(name: str, *, authentic: bool = False) -> dict[str, int]:
    """What a packet counts whose ICV is wrong or whose SA has expired; `authentic`: only its content is wrong."""
    counted = {NOT_AUTHENTICATED: name in ICV and not authentic, NOT_DECRYPTED: name in CIPHER}
    return {counter: 1 for counter, counts in counted.items() if counts}


@pytest.mark.parametrize("name", [name for name, _ in COUNTERS])
def test_every_counter_has_a_rule(name: str) -> None:
    """The docs show them: a sentence that says what is counted, not the name again."""
    rule = COUNTER_RULES[name]
    assert len(rule.split()) >= 3
    assert rule != dict(COUNTERS)[name]
    assert "\n" not in rule
    assert "  " not in rule


@ALL
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("family", [4, 6])
def test_bytes(name: str, mode: Any, family: int) -> None:
    """Before padding: the IP payload, with the whole header around it in tunnel mode."""
    packet = of_family(family, bytes(33))
    size = 33 if mode == "transport" else len(packet)
    assert moved(protecting(name, mode, family), "out", packet) == bytes_of(name, "sent", size)
    into = opening(name, mode, family)
    assert moved(into, "in", oracle(name, mode, family).seal(packet, 1)) == bytes_of(name, "received", size)


@ALL
def test_an_empty_payload_counts_no_bytes(name: str) -> None:
    assert moved(protecting(name), "out", ip(b"")) == {}
    assert moved(opening(name), "in", oracle(name).seal(ip(b""), 1)) == {}


@ALL
def test_unauthenticated_packets(name: str) -> None:
    """A counter of the driver's own: without integrity, both ways."""
    bare = int(name not in ICV)
    out, into = protecting(name), opening(name)
    statuses(out, "out", [CLEAR])
    statuses(into, "in", [oracle(name).seal(CLEAR, 1)])
    assert out.counters()["unauthenticated_packets"] == into.counters()["unauthenticated_packets"] == bare


@ALL
def test_wrong_icv(name: str) -> None:
    into = opening(name)
    whole = oracle(name).seal(CLEAR, 1)
    at = 20 + 12 + 8 if name.startswith("ah") else len(whole) - 1
    damaged = whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :]
    if name in ICV:
        assert moved(into, "in", damaged) == losses(name)
        assert into.sas()[0].dropped == 1
    else:
        assert not {NOT_AUTHENTICATED, "authenticated_bytes_received"} & moved(into, "in", damaged).keys()
    assert moved(into, "in", oracle(name).seal(CLEAR, 2)) == bytes_of(name, "received", 33), "and the SA goes on"


@ALL
def test_replay(name: str) -> None:
    into = opening(name)
    wire = oracle(name).seal(CLEAR, 1)
    moved(into, "in", wire)
    assert moved(into, "in", wire, wire) == {}
    assert into.sas()[0].dropped == into.status_counters("in")["REPLAYED"] == 2


@ALL
def test_bad_spi(name: str) -> None:
    """SPI, destination and protocol together name an SA (RFC 2401 4.1)."""
    wire = oracle(name).seal(CLEAR, 1)
    assert moved(opening(name, spi=SPI + 1), "in", wire) == {"bad_spi_packets": 1}
    assert moved(opening(name, destination="10.1.0.9"), "in", wire) == {"bad_spi_packets": 1}
    other = "null-sha1" if name.startswith("ah") else "ah-sha1"
    assert moved(opening(other), "in", wire) == {"bad_spi_packets": 1}, "the SPI of the other protocol"
    short = ip(bytes(7), protocol=51 if name.startswith("ah") else 50)
    assert moved(opening(name), "in", short) == {}, "there is no SPI"


@pytest.mark.parametrize("name", [name for name in SUITES if not name.startswith("ah")])
def test_bad_padding_under_a_good_icv(name: str) -> None:
    into = opening(name)
    twin = oracle(name)
    wrong = ip(twin.seal_text(bytes(36) + b"\1\3\2\6", 1), protocol=50)
    too_long = ip(twin.seal_text(bytes(36) + b"\1\2\xff\6", 2), protocol=50)
    for packet in (wrong, too_long):
        assert moved(into, "in", packet) == losses(name, authentic=True)
    assert into.status_counters("in")["NOT_DECRYPTED"] == into.sas()[0].dropped == 2


@ALL
def test_something_else_than_a_packet_in_a_tunnel(name: str) -> None:
    into = opening(name, "tunnel")
    twin = oracle(name, "tunnel")
    header, _, _ = twin.around(CLEAR, 1)
    inside = b"\x45 no packet at all" * 2
    if name.startswith("ah"):
        wire = twin.seal_ah(header, inside[:36], 4, 1, bytes(8))
    else:
        wire = ip(
            twin.body(inside, 4, 1),
            protocol=50,
            source=str(make("in", "gcm", "tunnel").source),
            destination=str(make("in", "gcm", "tunnel").destination),
        )
    assert moved(into, "in", wire) == losses(name, authentic=True)
    assert into.status_counters("in")["NOT_DECRYPTED"] == 1


@ALL
def test_what_the_sa_is_not_for(name: str) -> None:
    """It decrypts and is authentic; there is no statistic for it, but a verdict."""
    into = opening(name, inner_protocol=6)
    assert moved(into, "in", oracle(name).seal(CLEAR, 1)) == {}
    assert into.status_counters("in")["WRONG_SELECTOR"] == into.sas()[0].dropped == 1


@ALL
@pytest.mark.parametrize("limit", ["bytes", "seconds"])
def test_expired(name: str, limit: str) -> None:
    limits = {"hard_bytes": 33} if limit == "bytes" else {"hard_seconds": 5.0}
    now = 4.999999999 if limit == "seconds" else 0.0
    later = now if limit == "bytes" else 5.0
    twin = oracle(name)
    into = opening(name, **limits)
    assert moved(into, "in", twin.seal(CLEAR, 1), now=now) == bytes_of(name, "received", 33)
    for number in (2, 3):
        assert moved(into, "in", twin.seal(CLEAR, number), now=later) == losses(name)
    assert into.counters()["expirations"] == 1
    out = protecting(name, **limits)
    assert moved(out, "out", CLEAR, now=now) == bytes_of(name, "sent", 33)
    assert moved(out, "out", CLEAR, CLEAR, now=later) == {}
    assert out.status_counters("out")["EXPIRED"] == out.status_counters("out")["HELD"] == 1


@pytest.mark.parametrize("name", [name for name in SUITES if not name.startswith("ah")])
def test_dummy_packets(name: str) -> None:
    """RFC 4303 2.6: authentic, dropped in silence; nothing went wrong with them."""
    into = opening(name)
    dummy = ip(oracle(name).body(b"anything", 59, 1), protocol=50)
    assert moved(into, "in", dummy) == {}
    assert into.status_counters("in")["DUMMY"] == 1
    (info,) = into.sas()
    assert (info.sequence, info.packets, info.bytes, info.dropped) == (1, 0, 0, 0)
    assert moved(into, "in", dummy) == {}
    assert into.status_counters("in")["REPLAYED"] == 1


@ALL
def test_keys(name: str) -> None:
    driver = Driver()
    handles = [add(driver, make(way, name)) for way in ("in", "out")]  # type: ignore[arg-type]

    def figures() -> tuple[int, ...]:
        c = driver.counters()
        return c["active_associations"], c["key_additions"], c["key_deletions"], c["soft_associations"]

    assert figures() == (2, 2, 0, 0)
    driver.delete_sa(handles[0])
    assert figures() == (1, 2, 1, 0)
    driver.retire_sa(handles[1], 1.0)
    driver.tick(2.0)
    assert figures() == (1, 2, 1, 0), "an expired SA exists until it is deleted"
    driver.delete_sa(handles[1])
    assert figures() == (0, 2, 2, 0)


def test_soft_associations_have_a_counter_of_their_own() -> None:
    driver = Driver()
    driver.set_filters([negotiation()])
    before = driver.counters()
    handles = [driver.add_sa(soft("out")), driver.add_sa(soft("in"))]
    assert changed(driver, before) == {"soft_associations": 2}
    assert moved(driver, "out", CLEAR) == {}
    assert statuses(driver, "out", [CLEAR]) == [Status.SOFT]
    driver.reset_counters()
    assert driver.counters()["soft_associations"] == 2
    for handle in handles:
        driver.delete_sa(handle)
    assert not any(driver.counters()[name] for name in NINE)


def test_refused_outbound_packets_count_no_bytes() -> None:
    driver = protecting("gcm", hard_bytes=100, path_mtu=100)
    before = driver.counters()
    packets = [ip(bytes(200), fragment=0x4000), ip(bytes(9), fragment=0x2000), ip(bytes(101)), b"\x45", b"\0"]
    assert [s.name for s in statuses(driver, "out", packets)] == [
        "EXCEEDS_MTU",
        "FRAGMENT",
        "EXPIRED",
        "MALFORMED",
        "NOT_IP",
    ]
    assert not {name for name in changed(driver, before) if name in NINE}


def test_the_reset_keeps_what_exists() -> None:
    driver = opening()
    driver.add_sa(soft("out"))
    wire = oracle().seal(CLEAR, 1)
    statuses(driver, "in", [wire, wire, CLEAR, ip(bytes(9), protocol=50)])
    driver.reset_counters()
    left = {name: value for name, value in driver.counters().items() if value}
    assert left == {"active_associations": 1, "soft_associations": 1}
