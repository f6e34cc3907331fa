"""NAT traversal (RFC 3947; draft-ietf-ipsec-nat-t-ike-02): what was found out about the way to a peer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address

from ipsec_core.ike import keys, wire
from ipsec_core.ike.iana import Hash, PayloadType
from ipsec_core.ike.options import NatTraversal

DETECTION = {NatTraversal.RFC_3947: PayloadType.NAT_D, NatTraversal.DRAFT_02: PayloadType.NAT_D_DRAFT}
ORIGINAL_ADDRESS = {NatTraversal.RFC_3947: PayloadType.NAT_OA, NatTraversal.DRAFT_02: PayloadType.NAT_OA_DRAFT}
# What no packet has as its source: the hash of it makes the peer find a NAT in front of us.
NOWHERE = ("0.0.0.0", 0)


@dataclass(frozen=True, slots=True)
class NatPath:
    """A NAT between us and the peer, as Main Mode found it: who is behind it, and in which dialect that is spoken."""

    dialect: NatTraversal
    local_behind: bool
    remote_behind: bool


@dataclass(frozen=True, slots=True)
class UdpEncapsulation:
    """How the ESP packets of an SA pair travel in UDP (RFC 3948).

    The ports as seen from us, and where the peer is; the original addresses (NAT-OA, transport mode only) are those
    that the peer's packets carry before any NAT, its own and the one it has for us; None where they are not known.
    """

    local_port: int
    remote_port: int
    remote_address: str
    original_local: str | None = None
    original_remote: str | None = None


def detection_hash(algorithm: Hash, cookies: bytes, end: tuple[str, int]) -> bytes:
    """HASH(CKY-I | CKY-R | IP | Port), RFC 3947 section 3.2; `end` is an (IPv4 address, UDP port)."""
    address, port = end
    return keys.digest(algorithm, cookies + IPv4Address(address).packed + port.to_bytes(2))


def detection_payloads(
    dialect: NatTraversal, algorithm: Hash, cookies: bytes, local: tuple[str, int], remote: tuple[str, int]
) -> tuple[wire.NatDetection, ...]:
    """Our NAT-D payloads: the destination first, then the source."""
    return tuple(
        wire.NatDetection(DETECTION[dialect], detection_hash(algorithm, cookies, end)) for end in (remote, local)
    )


def find_nat(
    dialect: NatTraversal,
    payloads: Iterable[wire.Payload],
    algorithm: Hash,
    cookies: bytes,
    local: tuple[str, int],
    remote: tuple[str, int],
    *,
    pretend: bool = False,
) -> NatPath | None:
    """What the peer's NAT-D payloads say: what it sent to against where that came, where it sent from against whence.

    None without a NAT. A peer may name several sources, one of which counts (RFC 3947 section 3.2). With `pretend` we
    are behind one in any case. A peer that sends no pair of hashes after all does no NAT traversal.
    """
    kind = DETECTION[dialect]
    hashes = [payload.data for payload in wire.every(payloads, wire.NatDetection) if kind == payload.TYPE]
    if len(hashes) < 2:
        return None
    local_behind = pretend or hashes[0] != detection_hash(algorithm, cookies, local)
    remote_behind = detection_hash(algorithm, cookies, remote) not in hashes[1:]
    return NatPath(dialect, local_behind, remote_behind) if local_behind or remote_behind else None
