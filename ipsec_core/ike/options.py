"""What an engine does beyond RFC 2409, and its limits and times as data: the switches of a computer's profile."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from ipsec_core.ike.timers import LAST_WAIT, RETRANSMISSION_GAPS


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

    `retransmit_first_reply`: a responder sends message 2 on the whole schedule, as Windows 2000 was seen to do
    (ike-scan's backoff pattern), and not only when message 1 comes again. Forged first messages then make it send
    seven times as many bytes as it got (CVE-2016-5361); therefore it does so for one negotiation per address only, and
    for none while many are half-open. `max_half_open` bounds the Main Modes that others began, in all and from one
    address, before and again after the peer's address is proven by message 3; the oldest gives way. Of the failures
    that anybody can cause, `unproven_failures` a second become events.
    """

    vendor_version: int = 2
    nat_traversal: tuple[NatTraversal, ...] = ()
    fragmentation: bool = False
    commit_bit: bool = False
    dos_protect: bool = False
    pretend_nat: bool = False
    retransmission_gaps: tuple[float, ...] = RETRANSMISSION_GAPS
    soft_fallback: float = 3.0
    retransmit_first_reply: bool = True
    keep_alive: float = 20.0
    max_half_open: int = 2048
    max_half_open_per_peer: int = 64
    unproven_failures: float = 10.0

    @property
    def patience(self) -> float:
        """Seconds from the first copy of a message to the end of hope."""
        return sum(self.retransmission_gaps) + LAST_WAIT
