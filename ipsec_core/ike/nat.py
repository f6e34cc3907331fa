"""NAT traversal (RFC 3947; draft-ietf-ipsec-nat-t-ike-02): what was found out about the way to a peer."""

from __future__ import annotations

from dataclasses import dataclass

from ipsec_core.ike.options import NatTraversal


@dataclass(frozen=True, slots=True)
class NatPath:
    """A NAT between us and the peer, as Main Mode found it: who is behind it, and in which dialect that is spoken."""

    dialect: NatTraversal
    local_behind: bool
    remote_behind: bool


@dataclass(frozen=True, slots=True)
class UdpEncapsulation:
    """How the ESP packets of an SA pair travel in UDP (RFC 3948).

    The ports as seen from us; the original addresses (NAT-OA, transport mode only) are those that each end's own
    packets carried before the NAT, None where they are not known.
    """

    local_port: int
    remote_port: int
    original_local: str | None = None
    original_remote: str | None = None
