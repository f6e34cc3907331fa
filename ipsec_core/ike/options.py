"""What an engine does beyond RFC 2409, and its limits and times as data: the switches of a computer's profile."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from ipsec_core.ike.timers import RETRANSMISSION_GAPS


class NatTraversal(Enum):
    """The dialects of NAT traversal: draft-ietf-ipsec-nat-t-ike-02 (KB 818043) and RFC 3947."""

    DRAFT_02 = "draft-ietf-ipsec-nat-t-ike-02"
    RFC_3947 = "RFC 3947"


@dataclass(frozen=True, slots=True)
class IkeOptions:
    """One engine's. Times in seconds.

    `vendor_version`: that of the MS NT5 ISAKMPOAKLEY vendor id, 2 is Windows 2000. `nat_traversal`: the dialects in
    order of preference, none as in Windows 2000 without its update. `fragmentation`: of IKE messages that carry an ID
    payload ([MS-IKEE] 2.2.3.1). `commit_bit`: as a responder, ask the initiator to wait for CONNECTED. `dos_protect`:
    EnableDOSProtect, cookies before state when many first messages come in. `soft_fallback`: silence after which a peer
    counts as one that does not speak IKE. `pretend_nat`: find a NAT where there is none, so that ESP goes in UDP.
    """

    vendor_version: int = 2
    nat_traversal: tuple[NatTraversal, ...] = ()
    fragmentation: bool = False
    commit_bit: bool = False
    dos_protect: bool = False
    pretend_nat: bool = False
    retransmission_gaps: tuple[float, ...] = RETRANSMISSION_GAPS
    soft_fallback: float = 3.0
    keep_alive: float = 20.0
    max_half_open: int = 256
    max_half_open_per_peer: int = 16
