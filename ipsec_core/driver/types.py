"""What the driver's callers hand in and get back: plain frozen records, no behaviour."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from ipaddress import IPv4Address, IPv4Network
from typing import Literal

ANY = IPv4Network("0.0.0.0/0")


class Action(IntEnum):
    """What a filter does with a packet. PASSTHROUGH is the inbound half of "accept unsecured communication"."""

    PERMIT = 0
    BLOCK = 1
    NEGOTIATE = 2
    PASSTHROUGH = 3


class UpcallKind(IntEnum):
    """What the driver asks of ISAKMP/Oakley."""

    ACQUIRE = 0
    REKEY = 1
    EXPIRED = 2


@dataclass(frozen=True, slots=True)
class Filter:
    """One directional filter of the driver; the list that holds it is walked in order (KB 257225; RFC 2401 4.4.1).

    Ports 0 and protocol 0 mean any. `reference` is the caller's number for the filter, unique within the list; SAs name
    their filter by it. `tunnel` is the tunnel endpoint, None for transport mode.
    """

    reference: int
    direction: Literal["out", "in"]
    action: Action
    source: IPv4Network = ANY
    destination: IPv4Network = ANY
    protocol: int = 0
    source_port: int = 0
    destination_port: int = 0
    tunnel: IPv4Address | None = None


@dataclass(frozen=True, slots=True)
class SecurityAssociation:
    """A security association as it is handed to the driver (RFC 2401 4.4.3).

    Keys are bytes of the length that the algorithm wants (`ipsec_core.algorithms()`); for AES-GCM key and 4-byte salt
    one after the other (RFC 4106 8.1). `source` and `destination` are the ends of the ESP packets; the `inner_`
    selectors, protocol and ports limit what the SA may carry, in the SA's own direction. Lifetimes are bytes of ESP
    payload before padding, 0: none. `replay_window` (inbound): 32..4096 in steps of 32, 0: no check. `sequence`: last
    number used (out) or seen (in).
    """

    direction: Literal["out", "in"]
    spi: int
    source: IPv4Address | str
    destination: IPv4Address | str
    encryption: str
    encryption_key: bytes = field(repr=False)
    integrity: str = "none"
    integrity_key: bytes = field(default=b"", repr=False)
    mode: Literal["transport", "tunnel"] = "transport"
    protocol: Literal["esp"] = "esp"
    inner_source: IPv4Network | None = None
    inner_destination: IPv4Network | None = None
    inner_protocol: int = 0
    source_port: int = 0
    destination_port: int = 0
    filter: int = 0
    replay_window: int = 64
    soft_bytes: int = 0
    hard_bytes: int = 0
    sequence: int = 0


@dataclass(frozen=True, slots=True)
class SaInfo:
    """What the driver says of an SA. `sequence` is the last number used, or the right edge of the replay window."""

    handle: int
    index: int
    direction: Literal["out", "in"]
    mode: Literal["transport", "tunnel"]
    spi: int
    source: IPv4Address
    destination: IPv4Address
    inner_source: IPv4Network
    inner_destination: IPv4Network
    inner_protocol: int
    source_port: int
    destination_port: int
    encryption: str
    integrity: str
    backend: str
    filter: int
    packets: int
    bytes: int
    sequence: int
    dropped: int
    lost: int


@dataclass(frozen=True, slots=True)
class Upcall:
    """A question of the driver.

    `time` in seconds, `sa` the handle (REKEY, EXPIRED), `filter` the filter's reference.
    """

    kind: UpcallKind
    time: float
    sa: int
    filter: int
    peer: IPv4Address
    source: IPv4Address
    destination: IPv4Address
    protocol: int
    source_port: int
    destination_port: int


@dataclass(frozen=True, slots=True)
class Algorithm:
    """An algorithm of the driver. Lengths in bytes; `key_length` includes `salt_length`."""

    name: str
    kind: Literal["encryption", "integrity"]
    key_length: int
    salt_length: int
    iv_length: int
    block_length: int
    icv_length: int
    windows_2000: bool
    backends: tuple[str, ...]
