"""What traffic a rule is for: addresses, filters and filter lists ([MS-GPIPSEC] 2.2.1.5.1)."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network

from ipsec_core.errors import PolicyError
from ipsec_core.policy.ranges import DWORD, check_range

PROTOCOLS = {"any": 0, "icmp": 1, "tcp": 6, "udp": 17}
_PROTOCOLS_WITH_PORTS = (PROTOCOLS["tcp"], PROTOCOLS["udp"])
_ADDRESS_FORMS = "any, me, a.b.c.d, a.b.c.d/len, a.b.c.d/mask"


def parse_protocol(text: str | int) -> int:
    """An IP protocol number from "any", "icmp", "tcp", "udp" or a number 0 to 255 (0 is any)."""
    number = PROTOCOLS.get(text.lower()) if isinstance(text, str) else text
    if number is None and isinstance(text, str) and re.fullmatch("[0-9]{1,3}", text):
        number = int(text)
    if number is None or not 0 <= number <= 255:
        raise PolicyError(f"{text!r} is not a protocol; accepted: any, icmp, tcp, udp, 0 to 255")
    return number


def protocol_text(protocol: int) -> str:
    """The name of a protocol number where it has one here, else the number as text."""
    return next((name for name, number in PROTOCOLS.items() if number == protocol), str(protocol))


@dataclass(frozen=True, slots=True)
class Address:
    """One side of a filter: any address, my addresses, a host or a subnet.

    Held as stored in a policy ([MS-GPIPSEC] 2.2.1.5.1 and the default policies of a domain): *Any* is 0.0.0.0 mask
    0.0.0.0, *My IP address* is 0.0.0.0 mask 255.255.255.255. `dns_name` is the name that the administrator wrote; the
    address is what it was then.
    """

    network: IPv4Network
    dns_name: str = field(default="", compare=False)

    @property
    def is_any(self) -> bool:
        return self == ANY

    @property
    def is_my(self) -> bool:
        return self == MY

    @classmethod
    def parse(cls, text: str) -> Address:
        """From "any", "me", "10.0.0.1", "10.0.0.0/24" or "10.0.0.0/255.255.255.0"; PolicyError otherwise."""
        word = text.strip().lower()
        if word in ("any", "me"):
            return ANY if word == "any" else MY
        base, slash, mask = word.partition("/")
        try:
            address = IPv4Address(base)
            length = _mask_length(mask) if slash else 32
        except ValueError:
            raise PolicyError(f"{text!r} is not an address; accepted: {_ADDRESS_FORMS}") from None
        network = IPv4Network((address, length), strict=False)
        if network.network_address != address:
            raise PolicyError(f"{text!r} has bits set beyond its mask; the subnet is {network}")
        if network == MY.network:
            raise PolicyError(f"{text!r} is not an address of a host; accepted: {_ADDRESS_FORMS}")
        return cls(network)

    def __str__(self) -> str:
        if self.is_any or self.is_my:
            return "any" if self.is_any else "me"
        return str(self.network.network_address if self.network.prefixlen == 32 else self.network)


ANY = Address(IPv4Network("0.0.0.0/0"))
MY = Address(IPv4Network("0.0.0.0/32"))


def _mask_length(text: str) -> int:
    """The prefix length of "24" or "255.255.255.0"; ValueError. A mask with holes cannot be a route or a subnet."""
    if text.isascii() and text.isdigit() and int(text) <= 32:
        return int(text)
    mask = int(IPv4Address(text))
    length = mask.bit_count()
    if mask != (DWORD << (32 - length)) & DWORD:
        raise ValueError(text)
    return length


@dataclass(frozen=True, slots=True)
class Filter:
    """Selectors of one traffic description ([MS-GPIPSEC] 2.2.1.5.1); protocol 0 and port 0 mean any.

    `mirrored` adds the same filter with addresses and ports swapped; it means nothing in a rule with a tunnel endpoint.
    """

    name: str
    source: Address
    destination: Address
    protocol: int = 0
    source_port: int = 0
    destination_port: int = 0
    mirrored: bool = True
    guid: uuid.UUID | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        check_range("protocol", self.protocol, 0, 255)
        check_range("source_port", self.source_port, 0, 65535)
        check_range("destination_port", self.destination_port, 0, 65535)
        if (self.source_port or self.destination_port) and self.protocol not in _PROTOCOLS_WITH_PORTS:
            raise PolicyError(f"a port needs protocol tcp or udp, not {protocol_text(self.protocol)}")
        if self.source.is_my and self.destination.is_my:
            raise PolicyError("source and destination cannot both be me")


@dataclass(frozen=True, slots=True)
class FilterList:
    """Named collection of filters; the rule applies to what any of them matches."""

    name: str
    description: str
    filters: tuple[Filter, ...]
    guid: uuid.UUID | None = field(default=None, compare=False)
