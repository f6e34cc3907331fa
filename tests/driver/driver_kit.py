"""Packets, SAs and bursts that the tests of the driver are made of."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any, Literal

import pytest
from esp_oracle import Esp, with_length
from ipsec_oracle import Ipsec

from ipsec_core import Action, Burst, Driver, Filter, SecurityAssociation, Status
from ipsec_core.errors import SecurityWarning

A, B = "10.1.0.1", "10.1.0.2"
GATEWAY_A, GATEWAY_B = "192.0.2.1", "192.0.2.2"
A6, B6 = "2001:db8::1", "2001:db8::2"
GATEWAY_A6, GATEWAY_B6 = "2001:db8:1::1", "2001:db8:1::2"
HOSTS = {4: (A, B), 6: (A6, B6)}
GATEWAYS = {4: (GATEWAY_A, GATEWAY_B), 6: (GATEWAY_A6, GATEWAY_B6)}
SPI = 0x1001
KEYS = {"3DES-CBC": bytes(range(1, 25)), "AES-128-GCM": bytes(range(101, 121))}
SHA1_KEY = bytes(range(51, 71))
ENCRYPTIONS = tuple(KEYS)
MODES: tuple[Literal["transport", "tunnel"], ...] = ("transport", "tunnel")


def ip(
    payload: bytes,
    *,
    source: str = A,
    destination: str = B,
    protocol: int = 253,
    options: bytes = b"",
    fragment: int = 0,
    tos: int = 0,
    identification: int = 7,
) -> bytes:
    """An IPv4 packet; `fragment` is the 16-bit word of flags and offset. Protocol 253 is for experiments (RFC 3692)."""
    first = 0x40 | (5 + len(options) // 4)
    header = bytearray(struct.pack("!BBHHHBBH", first, tos, 0, identification, fragment, 64, 0, 0))
    header += IPv4Address(source).packed + IPv4Address(destination).packed + options
    return with_length(header, protocol, len(payload)) + payload


def ip6(
    payload: bytes,
    *,
    source: str = A6,
    destination: str = B6,
    protocol: int = 253,
    extensions: bytes = b"",
    first: int | None = None,
    traffic_class: int = 0,
    hop_limit: int = 64,
) -> bytes:
    """An IPv6 packet. `extensions` come before the payload and name `protocol` themselves; `first` names them."""
    start = struct.pack(
        "!IHBB",
        6 << 28 | traffic_class << 20,
        len(extensions) + len(payload),
        protocol if first is None else first,
        hop_limit,
    )
    return start + IPv6Address(source).packed + IPv6Address(destination).packed + extensions + payload


def of_family(family: int, payload: bytes, **fields: Any) -> bytes:
    return (ip if family == 4 else ip6)(payload, **fields)


def udp(source_port: int, destination_port: int, data: bytes = b"data", **fields: Any) -> bytes:
    return ip(
        struct.pack("!HHHH", source_port, destination_port, 8 + len(data), 0) + data, **{"protocol": 17, **fields}
    )


def tcp(source_port: int, destination_port: int, data: bytes = b"", **fields: Any) -> bytes:
    header = struct.pack("!HHIIBBHHH", source_port, destination_port, 1, 0, 0x50, 2, 8192, 0, 0)
    return ip(header + data, **{"protocol": 6, **fields})


def network(text: str) -> IPv4Network:
    return IPv4Network(text)


def network6(text: str) -> IPv6Network:
    return IPv6Network(text)


def sa(
    direction: Literal["out", "in"],
    encryption: str = "AES-128-GCM",
    mode: Literal["transport", "tunnel"] = "transport",
    **fields: Any,
) -> SecurityAssociation:
    """An SA for packets from A to B, between the gateways in tunnel mode, with the keys of KEYS."""
    ends = (A, B) if mode == "transport" else (GATEWAY_A, GATEWAY_B)
    values: dict[str, Any] = {
        "spi": SPI,
        "source": ends[0],
        "destination": ends[1],
        "encryption_key": KEYS.get(encryption, b""),
        "integrity": "HMAC-SHA1-96" if encryption == "3DES-CBC" else "none",
        "integrity_key": SHA1_KEY if encryption == "3DES-CBC" else b"",
        "filter": 1,
        **fields,
    }
    return SecurityAssociation(direction=direction, encryption=encryption, mode=mode, **values)


# What an SA does with a packet, by name: fields of SecurityAssociation and of the oracle alike.
SUITES: dict[str, dict[str, Any]] = {
    "3des-sha1": {"encryption": "3DES-CBC", "integrity": "HMAC-SHA1-96"},
    "gcm": {"encryption": "AES-128-GCM"},
    "null-sha1": {"integrity": "HMAC-SHA1-96"},
    "null-sha256": {"integrity": "HMAC-SHA2-256-128"},
    "null-gmac": {"integrity": "AES-128-GMAC"},
    "ah-sha1": {"protocol": "ah", "integrity": "HMAC-SHA1-96"},
    "ah-sha256": {"protocol": "ah", "integrity": "HMAC-SHA2-256-128"},
    "ah-gmac": {"protocol": "ah", "integrity": "AES-128-GMAC"},
    "3des-bare": {"encryption": "3DES-CBC"},
    "null-bare": {},
}
INTEGRITY_KEYS = {
    "HMAC-SHA1-96": SHA1_KEY,
    "HMAC-SHA2-256-128": bytes(range(1, 33)),
    "AES-128-GMAC": bytes(range(20, 40)),
}


def suite(name: str) -> dict[str, Any]:
    fields = {"encryption": "NULL", "integrity": "none", "protocol": "esp", **SUITES[name]}
    fields["encryption_key"] = KEYS.get(fields["encryption"], b"")
    fields["integrity_key"] = INTEGRITY_KEYS.get(fields["integrity"], b"")
    return fields


def make(
    direction: Literal["out", "in"],
    name: str = "gcm",
    mode: Literal["transport", "tunnel"] = "transport",
    family: int = 4,
    **fields: Any,
) -> SecurityAssociation:
    """An SA of a named suite between the hosts, or the gateways in tunnel mode, of a family."""
    ends = (HOSTS if mode == "transport" else GATEWAYS)[family]
    values = {"spi": SPI, "source": ends[0], "destination": ends[1], "filter": 1, **suite(name), **fields}
    values["allow_unauthenticated"] = name.endswith("-bare")
    return SecurityAssociation(direction=direction, mode=mode, **values)


def add(driver: Driver, association: SecurityAssociation) -> int:
    """Adds it, with the warning that it deserves."""
    if association.allow_unauthenticated:
        with pytest.warns(SecurityWarning):
            return int(driver.add_sa(association))
    return int(driver.add_sa(association))


def oracle(name: str = "gcm", mode: str = "transport", family: int = 4, spi: int = SPI, **fields: Any) -> Ipsec:
    """The oracle of `make(...)`."""
    return Ipsec(spi, **suite(name), outer=GATEWAYS[family] if mode == "tunnel" else None, **fields)


def protecting(
    name: str = "gcm", mode: Any = "transport", family: int = 4, *, driver: Any = None, **fields: Any
) -> Driver:
    """A driver that protects everything with one outbound SA."""
    made = Driver(seed=1, **(driver or {}))
    tunnel = ip_address(GATEWAYS[family][1]) if mode == "tunnel" else None
    made.set_filters([Filter(1, "out", Action.NEGOTIATE, None, None, tunnel=tunnel)])
    add(made, make("out", name, mode, family, **fields))
    return made


def opening(
    name: str = "gcm", mode: Any = "transport", family: int = 4, *, driver: Any = None, **fields: Any
) -> Driver:
    """A driver with one inbound SA and no filters."""
    made = Driver(seed=2, **(driver or {}))
    add(made, make("in", name, mode, family, **fields))
    return made


def soft(direction: Literal["out", "in"], **fields: Any) -> SecurityAssociation:
    """A soft SA for everything that filter 1 negotiates."""
    return SecurityAssociation(direction=direction, **{"protocol": "none", "filter": 1, **fields})


def twin(encryption: str = "AES-128-GCM", mode: str = "transport", spi: int = SPI) -> Esp:
    """The oracle of `sa(...)`."""
    outer = (GATEWAY_A, GATEWAY_B) if mode == "tunnel" else None
    return Esp(spi, encryption, KEYS[encryption], SHA1_KEY if encryption == "3DES-CBC" else b"", outer)


def negotiate(reference: int = 1, mode: str = "transport", **fields: Any) -> Filter:
    tunnel = IPv4Address(GATEWAY_B) if mode == "tunnel" else None
    return Filter(reference, "out", Action.NEGOTIATE, tunnel=tunnel, **fields)


def sender(encryption: str = "AES-128-GCM", mode: Any = "transport", *, driver: Any = None, **fields: Any) -> Driver:
    """A driver that protects everything with one outbound SA (the only one in `sas()`)."""
    made = Driver(seed=1, **(driver or {}))
    made.set_filters([negotiate(mode=mode)])
    made.add_sa(sa("out", encryption, mode, **fields))
    return made


def receiver(encryption: str = "AES-128-GCM", mode: Any = "transport", *, driver: Any = None, **fields: Any) -> Driver:
    """A driver with one inbound SA and no filters."""
    made = Driver(seed=2, **(driver or {}))
    made.add_sa(sa("in", encryption, mode, **fields))
    return made


def run(
    driver: Driver, direction: Literal["out", "in"], packets: Iterable[bytes], now: float = 0.0, max_packet: int = 2048
) -> list[tuple[Status, bytes]]:
    """Status and bytes of each packet, in bursts of 256."""
    results: list[tuple[Status, bytes]] = []
    packets = list(packets)
    for start in range(0, len(packets), 256):
        burst = Burst(256, max_packet).load(packets[start : start + 256])
        passed = (driver.outbound if direction == "out" else driver.inbound)(burst, now)
        these = [(Status(int(burst.status[i])), burst.packet(i)) for i in range(len(burst))]
        assert passed == len(burst.packets())
        results += these
    return results


def statuses(driver: Driver, direction: Literal["out", "in"], packets: Iterable[bytes], **options: Any) -> list[Status]:
    return [status for status, _ in run(driver, direction, packets, **options)]


def names(found: Sequence[Status]) -> list[str]:
    return [status.name for status in found]


def changed(driver: Driver, before: dict[str, int]) -> dict[str, int]:
    """The counters that differ from an earlier `counters()`."""
    return {name: value - before[name] for name, value in driver.counters().items() if value != before[name]}
