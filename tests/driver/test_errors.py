"""Every refused control call raises DriverError with one line that names the field and what is accepted."""

from __future__ import annotations

import re
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest
from driver_kit import SHA1_KEY, network, sa

from ipsec_core import Action, Driver, Filter, algorithms, overhead
from ipsec_core.errors import DriverError, SecurityWarning

DES = "3DES-CBC"
GCM = "AES-128-GCM"
ENCRYPTIONS = ", ".join(a.name for a in algorithms() if a.kind == "encryption")
INTEGRITIES = ", ".join(a.name for a in algorithms() if a.kind == "integrity")
HMACS = "HMAC-MD5-96, HMAC-SHA1-96, HMAC-SHA2-256-128, HMAC-SHA2-384-192, HMAC-SHA2-512-256"
GMACS = "AES-128-GMAC, AES-192-GMAC, AES-256-GMAC"
ONE_FAMILY = "accepted: networks of one family, or None twice"
BOTH_FAMILIES = "accepted: an IPv4 or IPv6 address"

SA_ERRORS = [
    ({"direction": "both"}, "direction: 'both' is unknown; accepted: out, in"),
    ({"mode": "beet"}, "mode: 'beet' is unknown; accepted: transport, tunnel"),
    ({"protocol": "ipcomp"}, "protocol: 'ipcomp' is unknown; accepted: esp, ah, none"),
    ({"df": "keep"}, "df: 'keep' is unknown; accepted: copy, set, clear"),
    ({"encryption": "ROT13"}, f"encryption: 'ROT13' is unknown; accepted: {ENCRYPTIONS}"),
    ({"integrity": "CRC"}, f"integrity: 'CRC' is unknown; accepted: {INTEGRITIES}"),
    (
        {"protocol": "ah"},
        "integrity: 'none' does not go with ah AES-128-GCM; accepted: no integrity with this encryption",
    ),
    (
        {"protocol": "ah", "encryption": "NULL", "encryption_key": b""},
        f"integrity: 'none' does not go with ah NULL; accepted: {HMACS}, {GMACS}",
    ),
    (
        {"protocol": "ah", "encryption": "NULL", "encryption_key": b"", "allow_unauthenticated": True},
        f"integrity: 'none' does not go with ah NULL; accepted: {HMACS}, {GMACS}",
    ),
    ({"spi": 255}, "spi: 255 is out of range; accepted: 256 to 4294967295 (RFC 2406 2.1)"),
    ({"spi": 2**32}, "spi: 4294967296 is out of range; accepted: 256 to 4294967295 (RFC 2406 2.1)"),
    ({"encryption_key": bytes(16)}, "encryption_key: 16 bytes; accepted: 20 bytes for AES-128-GCM"),
    ({"integrity_key": b"1"}, "integrity_key: 1 bytes; accepted: 0 bytes for none"),
    (
        {"integrity": "HMAC-SHA1-96", "integrity_key": SHA1_KEY},
        "integrity: 'HMAC-SHA1-96' does not go with esp AES-128-GCM; accepted: none",
    ),
    ({"replay_window": 31}, "replay_window: 31 is out of range; accepted: 0, or 32 to 4096 in steps of 32"),
    ({"replay_window": 33}, "replay_window: 33 is out of range; accepted: 0, or 32 to 4096 in steps of 32"),
    ({"replay_window": 4128}, "replay_window: 4128 is out of range; accepted: 0, or 32 to 4096 in steps of 32"),
    ({"replay_window": -32}, "replay_window: -32 is out of range; accepted: 0, or 32 to 4096 in steps of 32"),
    ({"soft_bytes": 11, "hard_bytes": 10}, "soft_bytes: 11 is out of range; accepted: 0 to hard_bytes, 10"),
    ({"soft_bytes": -1}, "soft_bytes: -1 is out of range; accepted: 0 to 18446744073709551615"),
    ({"hard_bytes": 2**64}, "hard_bytes: 18446744073709551616 is out of range; accepted: 0 to 18446744073709551615"),
    ({"sequence": -1}, "sequence: -1 is out of range; accepted: 0 to 4294967295"),
    ({"sequence": 2**32}, "sequence: 4294967296 is out of range; accepted: 0 to 4294967295"),
    ({"source_port": 65536}, "source_port: 65536 is out of range; accepted: 0 to 65535"),
    ({"destination_port": -1}, "destination_port: -1 is out of range; accepted: 0 to 65535"),
    ({"inner_protocol": 256}, "inner_protocol: 256 is out of range; accepted: 0 to 255"),
    ({"filter": -1}, "filter: -1 is out of range; accepted: 0 to 4294967295"),
    ({"source": "10.0.0"}, f"source: '10.0.0' is not an IP address; {BOTH_FAMILIES}"),
    ({"source": "::"}, f"source: '::' is no address of a host; {BOTH_FAMILIES}"),
    ({"source": "::ffff:10.0.0.1"}, f"source: '::ffff:10.0.0.1' is no address of a host; {BOTH_FAMILIES}"),
    ({"source": None}, f"source: missing; {BOTH_FAMILIES}"),
    ({"destination": None}, f"destination: missing; {BOTH_FAMILIES}"),
    ({"original_source": "x"}, f"original_source: 'x' is not an IP address; {BOTH_FAMILIES}"),
    (
        {"destination": "::1"},
        "destination: ::1/128 does not go with source 10.1.0.1/32; accepted: networks of one family, or None twice",
    ),
    (
        {"inner_source": network("10.0.0.0/8")},
        "destination: None does not go with source 10.0.0.0/8; accepted: networks of one family, or None twice",
    ),
    (
        {"soft_seconds": 11, "hard_seconds": 10},
        "soft_seconds: 11 is out of range; accepted: 0 to hard_seconds, 10",
    ),
    ({"soft_seconds": -1}, "soft_seconds: -1 is out of range; accepted: 0 to 1000000000.0"),
    ({"hard_seconds": 1e10}, "hard_seconds: 10000000000.0 is out of range; accepted: 0 to 1000000000.0"),
    ({"idle_seconds": -1}, "idle_seconds: -1 is out of range; accepted: 0 to 1000000000.0"),
    ({"encapsulation": (0, 4500)}, "encapsulation: 0 is out of range; accepted: 1 to 65535"),
    ({"encapsulation": (4500, 65536)}, "encapsulation: 65536 is out of range; accepted: 1 to 65535"),
    ({"path_mtu": 67}, "path_mtu: 67 is out of range; accepted: 0, or 68 to 65535 (bytes)"),
    ({"path_mtu": 65536}, "path_mtu: 65536 is out of range; accepted: 0, or 68 to 65535 (bytes)"),
    (
        {"esn": True, "replay_window": 0},
        "replay_window: 0 does not go with esn; accepted: 32 to 4096 in steps of 32 (RFC 4303 3.3.3)",
    ),
    ({"esn": True, "sequence": 2**64}, f"sequence: {2**64} is out of range; accepted: 0 to {2**64 - 1}"),
    ({"outer": 77}, "SA 0x00001001: no such object"),
    (
        {
            "protocol": "ah",
            "encryption": "NULL",
            "encryption_key": b"",
            "integrity": "HMAC-SHA1-96",
            "integrity_key": SHA1_KEY,
            "encapsulation": (4500, 4500),
        },
        "SA 0x00001001: value out of range",
    ),
]


def one_line(error: pytest.ExceptionInfo[DriverError], text: str) -> None:
    assert str(error.value) == text
    assert "\n" not in text


@pytest.mark.parametrize(("fields", "text"), SA_ERRORS, ids=lambda value: str(value)[:40])
def test_add_sa(fields: dict[str, Any], text: str) -> None:
    driver = Driver()
    with pytest.raises(DriverError) as error:
        driver.add_sa(replace(sa("in", GCM), **fields))
    one_line(error, text)
    assert driver.sas() == []
    driver.add_sa(sa("in", GCM))


def test_encryption_without_integrity() -> None:
    with pytest.raises(DriverError) as error:
        Driver().add_sa(sa("in", DES, integrity="none", integrity_key=b""))
    hint = "or none with allow_unauthenticated"
    one_line(error, f"integrity: 'none' does not go with esp 3DES-CBC; accepted: {HMACS} ({hint})")
    with pytest.raises(DriverError, match=r"^integrity: 'none' does not go with esp NULL"):
        Driver().add_sa(sa("in", "NULL"))


@pytest.mark.parametrize(("name", "length"), [(DES, 24), ("NULL", 0)])
def test_allowed_without_integrity_warns(name: str, length: int) -> None:
    """Paterson and Yau 2006: whoever asks for it is told."""
    fields = {"integrity": "none", "integrity_key": b"", "encryption_key": bytes(length)}
    driver = Driver()
    with pytest.warns(SecurityWarning, match=f"^SA 0x00001001: ESP {name} without integrity; anybody can forge"):
        driver.add_sa(sa("in", name, allow_unauthenticated=True, **fields))
    assert len(driver.sas()) == 1


def test_duplicate_sa() -> None:
    driver = Driver()
    driver.add_sa(sa("in"))
    with pytest.raises(DriverError) as error:
        driver.add_sa(sa("in"))
    one_line(error, "SA 0x00001001: an SA with this SPI, destination and protocol exists")
    driver.add_sa(sa("out"))
    driver.add_sa(sa("out"))


@pytest.mark.parametrize("handle", [0, 1, 2**33, 2**64 - 1, -1, 2**64])
def test_unknown_handle(handle: int) -> None:
    driver = Driver()
    driver.add_sa(sa("in"))
    for call in (driver.delete_sa, driver.sa_info):
        with pytest.raises(DriverError, match=f"^SA handle {re.escape(hex(handle))}: no such object$"):
            call(handle)


FILTER_ERRORS = [
    ({"direction": "up"}, "filter 1, direction: 'up' is unknown; accepted: out, in"),
    ({"action": 9}, "filter 1, action: 9 is unknown; accepted: PERMIT, BLOCK, NEGOTIATE, PASSTHROUGH"),
    ({"protocol": 300}, "filter 1, protocol: 300 is out of range; accepted: 0 to 255"),
    ({"source_port": -1}, "filter 1, source_port: -1 is out of range; accepted: 0 to 65535"),
    ({"destination_port": 65536}, "filter 1, destination_port: 65536 is out of range; accepted: 0 to 65535"),
    ({"reference": 2**32}, "filter 1, reference: 4294967296 is out of range; accepted: 0 to 4294967295"),
    ({"tunnel": "gateway"}, f"filter 1, tunnel: 'gateway' is not an IP address; {BOTH_FAMILIES}"),
    (
        {"source": None},
        f"filter 1, destination: 0.0.0.0/0 does not go with source None; {ONE_FAMILY}",
    ),
    ({"reference": 1}, "filter 1, reference: 1 is taken by filter 0; accepted: a number of its own"),
]


@pytest.mark.parametrize(("fields", "text"), FILTER_ERRORS, ids=lambda value: str(value)[:40])
def test_set_filters(fields: dict[str, Any], text: str) -> None:
    """The filters that were there stay."""
    driver = Driver()
    good = Filter(1, "out", Action.PERMIT)
    driver.set_filters([good])
    with pytest.raises(DriverError) as error:
        driver.set_filters([good, replace(good, **{"reference": 2, **fields})])
    one_line(error, text)
    assert driver.filter_packets() == [(1, 0)]
    driver.set_filters([])


def test_filters_take_addresses_and_networks() -> None:
    driver = Driver()
    net = IPv4Network("10.0.0.0/8")
    driver.set_filters(
        [Filter(2**32 - 1, "out", Action.NEGOTIATE, net, net, 255, 65535, 65535, IPv4Address("1.2.3.4"))]
    )
    assert driver.filter_packets() == [(2**32 - 1, 0)]


KB = "accepted: 64 to 1024 (KB)"
DRIVER_ERRORS = [
    ({"sa_hash_size": 63}, f"SAHashSize: 63 is out of range; {KB}"),
    ({"sa_hash_size": 1025}, f"SAHashSize: 1025 is out of range; {KB}"),
    ({"cache_size": 0}, f"CacheSize: 0 is out of range; {KB}"),
    ({"cache_size": -1}, f"CacheSize: -1 is out of range; {KB}"),
    ({"spi_slots": 1}, "spi_slots: 1 is out of range; accepted: 0, or 2 to 1073741824"),
    ({"spi_slots": -1}, "spi_slots: -1 is out of range; accepted: 0, or 2 to 1073741824"),
    ({"cache_slots": 2**26 + 1}, "cache_slots: 67108865 is out of range; accepted: 0 to 67108864"),
    ({"hold_packets": -1}, "hold_packets: -1 is out of range; accepted: 0 to 4294967295"),
    ({"hold_bytes": 2**26 + 1}, "hold_bytes: 67108865 is out of range; accepted: 0 to 67108864"),
    ({"no_default_exempt": 4}, "NoDefaultExempt: 4 is out of range; accepted: 0 to 3"),
    ({"no_default_exempt": -1}, "NoDefaultExempt: -1 is out of range; accepted: 0 to 3"),
    ({"fragments": 257}, "fragments: 257 is out of range; accepted: 0 to 256"),
]


@pytest.mark.parametrize(("fields", "text"), DRIVER_ERRORS, ids=lambda value: str(value)[:40])
def test_driver(fields: dict[str, Any], text: str) -> None:
    with pytest.raises(DriverError) as error:
        Driver(**fields)
    one_line(error, text)


def test_unknown_back_end() -> None:
    with pytest.raises(DriverError, match=r"^backend: 'abacus' is not in this build; accepted: \w"):
        Driver(backend="abacus")


@pytest.mark.parametrize("now", [-1e-9, float("nan"), float("inf"), 1e11])
def test_time(now: float) -> None:
    from ipsec_core import Burst

    driver, burst = Driver(), Burst(1)
    for call in (driver.outbound, driver.inbound, driver.release):
        with pytest.raises(DriverError, match=r"^now: .* is not a time; accepted: seconds from 0 on$"):
            call(burst, now)
        call(burst, 1.0)


def test_other_calls() -> None:
    driver = Driver()
    for call, field in (
        (lambda: driver.spi_lookup(1, "x"), "destination"),
        (lambda: driver.allocate_spi("x"), "destination"),
        (lambda: driver.acquire_failed(1, "x", "10.0.0.1"), "source"),
        (lambda: driver.acquire_failed(1, "10.0.0.1", "x"), "destination"),
    ):
        with pytest.raises(
            DriverError, match=rf"^{field}: 'x' is not an IP address; accepted: an IPv4 or IPv6 address$"
        ):
            call()
    with pytest.raises(DriverError, match=r"^direction: 'up' is unknown; accepted: out, in$"):
        driver.status_counters("up")  # type: ignore[arg-type]
    for length in (-1, 65536):
        with pytest.raises(DriverError, match=f"^length: {length} is out of range; accepted: 0 to 65535$"):
            overhead(sa("out"), length)
    with pytest.raises(DriverError, match=r"^header: 101 is out of range; accepted: 0 to 100$"):
        overhead(sa("out"), 100, 101)
