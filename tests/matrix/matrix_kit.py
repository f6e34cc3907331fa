"""The matrix: every suite of algorithms, every shape of a protected packet, and the drivers that make and open them."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from ipaddress import ip_address
from typing import Any, Literal

from oracle import Sa, with_length

from ipsec_core import Action, Burst, Driver, Filter, SecurityAssociation, Status, algorithms

MTU = 1500
SIZES = range(MTU + 64 + 1)
SPI = 0x1234_5678
HOSTS = {4: ("10.1.0.1", "10.1.0.2"), 6: ("2001:db8:1::1", "2001:db8:1::2")}
GATEWAYS = {4: ("192.0.2.1", "192.0.2.2"), 6: ("2001:db8:ffff::1", "2001:db8:ffff::2")}
NAT_PORTS = (40001, 4500)
EXPERIMENT = 253  # RFC 3692
HEADER = {4: 20, 6: 40}
MAX_PACKET = 2048
# Those that have all algorithms, and None: the best one for each SA.
BACKENDS: list[str | None] = [name for one in algorithms() if one.name == "3DES-CBC" for name in one.backends]
BACKENDS.append(None)
ALGORITHMS = {(a.kind, a.name): a for a in algorithms()}


@dataclass(frozen=True, slots=True)
class Suite:
    protocol: Literal["esp", "ah"]
    encryption: str
    integrity: str

    def __str__(self) -> str:
        return f"{self.protocol}-{self.encryption}-{self.integrity}".lower()

    @property
    def block(self) -> int:
        return ALGORITHMS["encryption", self.encryption].block_length

    @property
    def icv(self) -> int:
        combined = ALGORITHMS["encryption", self.encryption].icv_length
        return combined or ALGORITHMS["integrity", self.integrity].icv_length

    @property
    def iv(self) -> int:
        names = (("encryption", self.encryption), ("integrity", self.integrity))
        return sum(ALGORITHMS[name].iv_length for name in names)

    def key(self, kind: Literal["encryption", "integrity"]) -> bytes:
        """Some bytes of the length that the algorithm wants; salt included."""
        name = self.encryption if kind == "encryption" else self.integrity
        return hashlib.shake_128(f"{kind} {name}".encode()).digest(ALGORITHMS[kind, name].key_length)


def _suites() -> Iterable[Suite]:
    hmacs = [name for kind, name in ALGORITHMS if kind == "integrity" and name.startswith("HMAC")]
    gmacs = [name for kind, name in ALGORITHMS if kind == "integrity" and name.endswith("GMAC")]
    for (kind, name), algorithm in ALGORITHMS.items():
        if kind == "encryption":
            yield Suite("esp", name, "none")
            if not algorithm.icv_length:
                yield from (Suite("esp", name, hmac) for hmac in hmacs)
    yield from (Suite("esp", "NULL", gmac) for gmac in gmacs)
    yield from (Suite("ah", "NULL", integrity) for integrity in hmacs + gmacs)


SUITES = tuple(_suites())
AUTHENTICATED = tuple(suite for suite in SUITES if suite.icv)


@dataclass(frozen=True, slots=True)
class Shape:
    """`outer`: family of the IPsec packet; `inner`: of the packet that it carries, the same in transport mode."""

    mode: Literal["transport", "tunnel"]
    inner: int
    outer: int
    udp: bool = False

    def __str__(self) -> str:
        what = f"{self.inner}in{self.outer}" if self.mode == "tunnel" else f"transport{self.outer}"
        return what + ("-udp" if self.udp else "")

    @property
    def ends(self) -> tuple[str, str]:
        return (GATEWAYS if self.mode == "tunnel" else HOSTS)[self.outer]


PLAIN = (
    *(Shape("transport", family, family) for family in (4, 6)),
    *(Shape("tunnel", inner, outer) for inner in (4, 6) for outer in (4, 6)),
)
SHAPES = PLAIN + tuple(replace(shape, udp=True) for shape in PLAIN)


def shapes(suite: Suite) -> tuple[Shape, ...]:
    """AH has no UDP encapsulation (RFC 3948 covers ESP alone)."""
    return SHAPES if suite.protocol == "esp" else PLAIN


def spread(sizes: Sequence[int], count: int) -> list[list[int]]:
    """`sizes` dealt out to `count` hands so that each hand gets every remainder of 16."""
    return [[size for size in sizes if (size + size // 16) % count == hand] for hand in range(count)]


def edges(suite: Suite, shape: Shape) -> list[int]:
    """Payload sizes at which something changes: nothing, one byte, around a block of padding, and around the MTU."""
    header = HEADER[shape.inner]
    around = max(16, suite.block)
    least = MTU - header - len(_around(suite, shape))
    fits = least - (least - around) % suite.block
    return sorted({0, 1, around - 2, around - 1, around, fits - 2, fits - 1, fits, MTU - header, SIZES[-1]})


def _around(suite: Suite, shape: Shape) -> bytes:
    outer = HEADER[shape.outer] if shape.mode == "tunnel" else 0
    return bytes(outer + 8 * shape.udp + (8 if suite.protocol == "esp" else 12) + suite.iv + suite.icv)


@cache
def payload(size: int) -> bytes:
    return hashlib.shake_128(size.to_bytes(2, "big")).digest(size)


def ipv4(data: bytes, *, protocol: int = EXPERIMENT, options: bytes = b"", **fields: int) -> bytes:
    """Between the hosts. `fields`: tos, identification, fragment (flags and offset), ttl."""
    tos, identification = fields.get("tos", 0), fields.get("identification", 7)
    words = (0x45 + len(options) // 4, tos, 0, identification, fields.get("fragment", 0), fields.get("ttl", 64), 0, 0)
    header = struct.pack("!BBHHHBBH", *words) + b"".join(ip_address(host).packed for host in HOSTS[4]) + options
    return with_length(header, protocol, data)


def ipv6(data: bytes, *, protocol: int = EXPERIMENT, extensions: bytes = b"", **fields: int) -> bytes:
    """Between the hosts. `protocol` names the first of `extensions`, or `data`; `fields`: tos, flow, ttl."""
    first = 6 << 28 | fields.get("tos", 0) << 20 | fields.get("flow", 0)
    header = struct.pack("!IHBB", first, len(extensions) + len(data), protocol, fields.get("ttl", 64))
    return header + b"".join(ip_address(host).packed for host in HOSTS[6]) + extensions + data


@cache
def clear(family: int, size: int) -> bytes:
    """A packet of the hosts with `size` bytes of payload; its other fields depend on the size, too."""
    data, tos = payload(size), size * 5 % 256
    if family == 4:
        return ipv4(data, tos=tos, identification=size, fragment=0x4000 * (size % 3 == 0), ttl=size % 255 + 1)
    return ipv6(data, tos=tos, flow=size * 11, ttl=size % 255 + 1)


def association(direction: Literal["out", "in"], suite: Suite, shape: Shape, **fields: Any) -> SecurityAssociation:
    source, destination = shape.ends
    values: dict[str, Any] = {
        "spi": SPI,
        "protocol": suite.protocol,
        "mode": shape.mode,
        "source": source,
        "destination": destination,
        "encryption": suite.encryption,
        "encryption_key": suite.key("encryption"),
        "integrity": suite.integrity,
        "integrity_key": suite.key("integrity"),
        "allow_unauthenticated": not suite.icv,
        "encapsulation": NAT_PORTS if shape.udp else None,
        "filter": 1 if direction == "out" else 0,
        "replay_window": 64 if direction == "in" else 0,
        **fields,
    }
    return SecurityAssociation(direction, **values)


def twin(suite: Suite, shape: Shape, *, esn: bool = False) -> Sa:
    """The oracle's SA."""
    return Sa(
        SPI,
        suite.protocol,
        suite.encryption,
        suite.key("encryption"),
        suite.integrity,
        suite.key("integrity"),
        tunnel=shape.ends if shape.mode == "tunnel" else None,
        udp=NAT_PORTS if shape.udp else None,
        esn=esn,
    )


def sender(suite: Suite, shape: Shape, *, backend: str | None = None, **fields: Any) -> Driver:
    driver = Driver(seed=1, backend=backend)
    tunnel = ip_address(shape.ends[1]) if shape.mode == "tunnel" else None
    driver.set_filters([Filter(1, "out", Action.NEGOTIATE, None, None, tunnel=tunnel)])
    driver.add_sa(association("out", suite, shape, **fields))
    return driver


def receiver(suite: Suite, shape: Shape, *, backend: str | None = None, **fields: Any) -> Driver:
    driver = Driver(seed=2, backend=backend, nat_traversal=shape.udp)
    driver.add_sa(association("in", suite, shape, **fields))
    return driver


def run(driver: Driver, direction: Literal["out", "in"], packets: Sequence[bytes]) -> list[tuple[Status, bytes]]:
    """Status and bytes of each packet, in bursts of 256."""
    results: list[tuple[Status, bytes]] = []
    for start in range(0, len(packets), 256):
        burst = Burst(256, MAX_PACKET).load(packets[start : start + 256])
        (driver.outbound if direction == "out" else driver.inbound)(burst)
        results += [(Status(int(status)), burst.packet(i)) for i, status in enumerate(burst.status)]
    return results


def passed(driver: Driver, direction: Literal["out", "in"], packets: Sequence[bytes]) -> list[bytes]:
    """All packets go through the SA."""
    results: list[bytes] = []
    for start in range(0, len(packets), 256):
        burst = Burst(256, MAX_PACKET).load(packets[start : start + 256])
        (driver.outbound if direction == "out" else driver.inbound)(burst)
        assert [Status(status).name for status in set(burst.status.tolist())] == ["PROTECTED"]
        results += burst.packets()
    return results
