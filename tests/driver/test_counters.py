"""The nine statistics of IP Security Monitor (KB 257225): for each a packet that moves it and one that must not."""

from __future__ import annotations

from typing import Any

import pytest
from driver_kit import (
    ENCRYPTIONS,
    MODES,
    SPI,
    changed,
    ip,
    negotiate,
    receiver,
    run,
    sa,
    sender,
    statuses,
    twin,
    udp,
)

from ipsec_core import Action, Driver, Filter, Status

MONITOR = [
    "Active Associations",
    "Confidential Bytes Sent",
    "Confidential Bytes Received",
    "Authenticated Bytes Sent",
    "Authenticated Bytes Received",
    "Bad SPI Packets",
    "Packets Not Decrypted",
    "Packets Not Authenticated",
    "Key Additions",
]
NINE = {text.lower().replace(" ", "_") for text in MONITOR}
CLEAR = ip(bytes(33))


def moved(driver: Driver, direction: Any, *packets: bytes) -> dict[str, int]:
    """What the packets move of the nine."""
    before = driver.counters()
    statuses(driver, direction, packets)
    return {name: n for name, n in changed(driver, before).items() if name in NINE}


def wire(number: int = 1, *, mode: str = "transport", encryption: str = "AES-128-GCM", flip: bool = False) -> bytes:
    packet = twin(encryption, mode).seal(CLEAR, number, bytes(8))
    return packet[:-1] + bytes([packet[-1] ^ flip])


def test_the_nine_come_first_and_start_at_zero() -> None:
    from ipsec_core.driver import COUNTERS

    assert [text for _, text in COUNTERS[:9]] == MONITOR
    assert [name for name, _ in COUNTERS[:9]] == list(Driver().counters())[:9]
    assert set(Driver().counters().values()) == {0}


@pytest.mark.parametrize("encryption", ENCRYPTIONS)
@pytest.mark.parametrize("mode", MODES)
def test_bytes(encryption: str, mode: Any) -> None:
    size = 33 if mode == "transport" else 53
    sent = {"confidential_bytes_sent": size, "authenticated_bytes_sent": size}
    received = {"confidential_bytes_received": size, "authenticated_bytes_received": size}
    assert moved(sender(encryption, mode), "out", CLEAR) == sent
    assert moved(receiver(encryption, mode), "in", wire(encryption=encryption, mode=mode)) == received


def test_bytes_of_clear_and_refused_packets_do_not_count() -> None:
    out = sender(hard_bytes=40)
    assert moved(out, "out", udp(500, 500)) == {}
    assert moved(out, "out", ip(bytes(33), fragment=0x2000)) == {}
    assert moved(out, "out", ip(bytes(41))) == {}, "expired"
    into = receiver()
    assert moved(into, "in", CLEAR, udp(500, 500)) == {}
    driver = Driver()
    driver.set_filters([Filter(1, "out", Action.PERMIT, protocol=17), negotiate(2)])
    assert moved(driver, "out", udp(1, 2), CLEAR) == {}


def test_bytes_of_a_tunnel_leave_out_what_follows_the_packet() -> None:
    assert moved(sender(mode="tunnel"), "out", CLEAR + bytes(9))["confidential_bytes_sent"] == 53


def test_a_replayed_packet_moves_nothing() -> None:
    driver = receiver()
    moved(driver, "in", wire())
    assert moved(driver, "in", wire()) == {}
    assert driver.status_counters("in")["REPLAYED"] == driver.sas()[0].dropped == 1


def test_bad_spi() -> None:
    driver = receiver(spi=SPI + 1)
    assert moved(driver, "in", wire()) == {"bad_spi_packets": 1}
    assert moved(driver, "in", ip(bytes(7), protocol=50)) == {}, "no SPI in it"
    assert moved(driver, "in", ip(bytes(8), protocol=50, fragment=1)) == {}
    elsewhere = receiver(destination="10.1.0.9")
    assert moved(elsewhere, "in", wire()) == {"bad_spi_packets": 1}, "the SPI of another destination"
    assert moved(sender(), "out", wire()) == {"confidential_bytes_sent": 68, "authenticated_bytes_sent": 68}


def test_not_authenticated_and_not_decrypted() -> None:
    driver = receiver()
    assert moved(driver, "in", wire(flip=True)) == {"packets_not_authenticated": 1, "packets_not_decrypted": 1}
    bad_trailer = ip(twin().seal_text(2, bytes(8), bytes(36) + b"\1\3\2\6"), protocol=50)
    assert moved(driver, "in", bad_trailer) == {"packets_not_decrypted": 1}
    assert moved(driver, "in", wire(2)) == {}, "replayed"
    cut = wire(3)[:-1]
    assert moved(driver, "in", cut, cut[:2] + len(cut).to_bytes(2, "big") + cut[4:]) == {}, "malformed"
    other = twin().seal(ip(bytes(33), source="10.1.0.9"), 4, bytes(8))
    assert moved(driver, "in", other) == {}, "decrypted, but not what the SA is for"
    assert driver.status_counters("in")["WRONG_SELECTOR"] == 1


def test_expired_packets_are_not_decrypted() -> None:
    driver = receiver(hard_bytes=40)
    moved(driver, "in", wire())
    assert moved(driver, "in", wire(2), wire(3)) == {"packets_not_authenticated": 2, "packets_not_decrypted": 2}


def test_associations_and_keys() -> None:
    driver = Driver()

    def figures() -> tuple[int, int, int]:
        c = driver.counters()
        return c["active_associations"], c["key_additions"], c["key_deletions"]

    first = driver.add_sa(sa("in"))
    driver.add_sa(sa("out"))
    assert figures() == (2, 2, 0)
    with pytest.raises(Exception, match="exists"):
        driver.add_sa(sa("in"))
    assert figures() == (2, 2, 0)
    driver.delete_sa(first)
    assert figures() == (1, 2, 1)
    driver.set_filters([])
    assert figures() == (1, 2, 1)


def test_reset_keeps_the_active_associations() -> None:
    driver = receiver()
    driver.set_filters([Filter(1, "in", Action.PERMIT)])
    statuses(driver, "in", [wire(), wire(), CLEAR])
    driver.reset_counters()
    assert {name: value for name, value in driver.counters().items() if value} == {"active_associations": 1}
    assert set(driver.status_counters("in").values()) == {0}
    assert driver.sas()[0].packets == 1
    assert driver.filter_packets() == [(1, 1)], "the filters' own figures stay"


def test_every_packet_has_one_status() -> None:
    driver = sender()
    run(driver, "out", [CLEAR, udp(500, 500), b"", ip(b"", fragment=1)] * 10)
    counted = driver.status_counters("out")
    assert sum(counted.values()) == driver.counters()["packets_outbound"] == 40
    assert {name for name, n in counted.items() if n == 10} == {"PROTECTED", "EXEMPT", "MALFORMED", "FRAGMENT"}
    assert counted[Status.UNPROCESSED.name] == 0
