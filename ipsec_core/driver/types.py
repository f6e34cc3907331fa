"""What the driver's callers hand in and get back: plain frozen records, no behaviour."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Literal

ANY = IPv4Network("0.0.0.0/0")

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


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
    IDLE = 3
    MOVED = 4


@dataclass(frozen=True, slots=True)
class Filter:
    """One directional filter of the driver; the list that holds it is walked in order (KB 257225; RFC 2401 4.4.1).

    Ports 0 and protocol 0 mean any. `reference` is the caller's number for the filter, unique within the list; SAs name
    their filter by it. `tunnel` is the tunnel endpoint, None for transport mode. Source and destination are of one
    family, or both None: any address of either family.
    """

    reference: int
    direction: Literal["out", "in"]
    action: Action
    source: Network | None = ANY
    destination: Network | None = ANY
    protocol: int = 0
    source_port: int = 0
    destination_port: int = 0
    tunnel: Address | None = None


@dataclass(frozen=True, slots=True)
class SecurityAssociation:
    """A security association as it is handed to the driver (RFC 2401 4.4.3).

    `protocol` "none" is a soft SA: its packets go in clear, with an entry (KB 257225). Keys are bytes of the length
    that the algorithm wants (`ipsec_core.algorithms()`); for AES-GCM, AES-CTR, ChaCha20-Poly1305 and AES-GMAC key and
    4-byte salt one after the other (RFC 4106 8.1). `source` and `destination` are the ends of the IPsec packets; the
    `inner_` selectors, protocol and ports limit what the SA may carry, in the SA's own direction.

    `filter`: reference of the filter that an outbound or soft SA serves. `replay_window` (inbound): 32..4096 in steps
    of 32, 0: no check. `esn`: 64-bit sequence numbers (RFC 4303 2.2.1). `encapsulation`: source and destination port of
    ESP in UDP (RFC 3948); `original_source` and `original_destination`: the addresses of the peer's packets before the
    NAT (NAT-OA). `outer`: handle of the SA around this one (bundles and nested SAs, RFC 2401 4.3). `df`: the DF bit of
    the outer header. `path_mtu`: bytes of the largest IPsec packet that the path takes, 0: not known.
    `allow_unauthenticated` must be True for ESP without integrity, which is open to forgery.

    Lifetimes: bytes carried before padding; seconds from `created` (seconds on the driver's clock); 0: none.
    `sequence`: last number used (out) or seen (in).
    """

    direction: Literal["out", "in"]
    spi: int = 0
    source: Address | str | None = None
    destination: Address | str | None = None
    encryption: str = "NULL"
    encryption_key: bytes = field(default=b"", repr=False)
    integrity: str = "none"
    integrity_key: bytes = field(default=b"", repr=False)
    mode: Literal["transport", "tunnel"] = "transport"
    protocol: Literal["esp", "ah", "none"] = "esp"
    inner_source: Network | None = None
    inner_destination: Network | None = None
    inner_protocol: int = 0
    source_port: int = 0
    destination_port: int = 0
    filter: int = 0
    replay_window: int = 64
    esn: bool = False
    encapsulation: tuple[int, int] | None = None
    original_source: Address | str | None = None
    original_destination: Address | str | None = None
    outer: int = 0
    df: Literal["copy", "set", "clear"] = "copy"
    path_mtu: int = 0
    allow_unauthenticated: bool = False
    soft_bytes: int = 0
    hard_bytes: int = 0
    soft_seconds: float = 0
    hard_seconds: float = 0
    idle_seconds: float = 0
    created: float = 0
    sequence: int = 0


@dataclass(frozen=True, slots=True)
class SaInfo:
    """What the driver says of an SA.

    `sequence` is the last number used, or the right edge of the replay window; `last` the time of the last packet (or
    of the creation) in seconds. Addresses are None where a soft SA has none, selectors None: any address of either
    family. `offloaded`: it is on the NIC (its packets that the NIC cannot take are still done by `backend`).
    `path_mtu` of an outbound SA in bytes, 0: not known.
    """

    handle: int
    index: int
    direction: Literal["out", "in"]
    mode: Literal["transport", "tunnel"]
    protocol: Literal["esp", "ah", "none"]
    spi: int
    source: Address | None
    destination: Address | None
    inner_source: Network | None
    inner_destination: Network | None
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
    last: float
    expired: bool
    offloaded: bool
    path_mtu: int


@dataclass(frozen=True, slots=True)
class Upcall:
    """A question of the driver.

    `time` in seconds, `sa` the handle (REKEY, EXPIRED, IDLE, MOVED), `filter` the filter's reference. MOVED: `peer` and
    `source_port` are where the last good packet in UDP came from (RFC 3947 section 7).
    """

    kind: UpcallKind
    time: float
    sa: int
    filter: int
    peer: Address | None
    source: Address | None
    destination: Address | None
    protocol: int
    source_port: int
    destination_port: int


@dataclass(frozen=True, slots=True)
class PathMtu:
    """What an ICMP message says about an IPsec packet of ours (RFC 1191, RFC 4443 3.2, RFC 2401 6.1.2).

    `source` and `destination` of our packet, `router` who says so, `protocol` 50 (ESP), 51 (AH) or 17 (ESP in UDP, with
    the ports). `spi` 0: the message does not reach so far. `mtu` in bytes, not under 68 (IPv4) or 1280 (IPv6).
    """

    source: Address
    destination: Address
    router: Address
    protocol: int
    spi: int
    source_port: int
    destination_port: int
    mtu: int


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
