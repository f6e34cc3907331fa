"""What goes into and comes out of an `IkeEngine`: requests, policy, datagrams, events. Times are float seconds."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from ipsec_core.errors import NegotiationError
from ipsec_core.ike import iana
from ipsec_core.ike.credentials import Certificates, Kerberos, PeerIdentity
from ipsec_core.ike.failures import FailurePoint, FailureReason, ProposalMismatch
from ipsec_core.ike.iana import UDP_PORT, AuthMethod, Encapsulation
from ipsec_core.ike.nat import UdpEncapsulation
from ipsec_core.ike.offers import MainModeOffer, QuickModeOffer, TrafficSelector
from ipsec_core.ike.values import value


class Mode(Enum):
    """The words of audits 541 and 547 for the two phases."""

    MAIN = "Key Exchange Mode (Main Mode)"
    QUICK = "Data Protection Mode (Quick Mode)"


@dataclass(frozen=True, slots=True)
class Acquire:
    """A wish for a Quick Mode SA with `remote`, an IPv4 address.

    `selectors` are seen from us (source = local side), `offers` are in order of preference and share one `pfs_group`
    (RFC 2409 section 5.5: there is one KE payload for all). `reference` is the caller's number of the filter; the event
    that answers carries it back. With `allow_soft` a peer that stays silent is given up early with `SoftAssociation`.
    """

    remote: str
    selectors: TrafficSelector
    offers: tuple[QuickModeOffer, ...]
    reference: int
    allow_soft: bool = False

    def __post_init__(self) -> None:
        if not self.offers:
            raise NegotiationError("Acquire.offers: empty, at least one offer is needed")
        if len({offer.pfs_group for offer in self.offers}) > 1:
            raise NegotiationError("Acquire.offers: pfs_group differs, all offers of one Quick Mode share one group")


@dataclass(frozen=True, slots=True)
class MainModePolicy:
    """How Main Mode with one peer is done. `quick_modes_limit` 0 is unlimited; 1 is "master key PFS".

    The offers, in order of preference, name authentication methods; what each of them needs is in `preshared_key`,
    `certificates` or `kerberos`.
    """

    offers: tuple[MainModeOffer, ...]
    preshared_key: bytes = field(default=b"", repr=False)
    quick_modes_limit: int = 0
    certificates: Certificates | None = None
    kerberos: Kerberos | None = None

    def __post_init__(self) -> None:
        if not self.offers:
            raise NegotiationError("MainModePolicy.offers: empty, at least one offer is needed")
        needed = {
            AuthMethod.PRESHARED_KEY: ("preshared_key", self.preshared_key),
            AuthMethod.RSA_SIGNATURES: ("certificates", self.certificates),
            AuthMethod.KERBEROS: ("kerberos", self.kerberos),
        }
        for method in {offer.auth for offer in self.offers}:
            name, value = needed[method]
            if not value:
                raise NegotiationError(f"MainModePolicy.{name}: empty, an offer authenticates by {method.name}")


@dataclass(frozen=True, slots=True)
class QuickModePolicy:
    """A responder's view: what it accepts for some selectors, and the caller's number of the filter that matched."""

    offers: tuple[QuickModeOffer, ...]
    reference: int


class IkePolicy(Protocol):
    """What the computer knows and the engine asks for. None means that no rule of the policy covers it."""

    def main_mode(self, local: str, remote: str) -> MainModePolicy | None: ...

    def quick_mode(self, local: str, remote: str, selectors: TrafficSelector) -> QuickModePolicy | None:
        """`selectors` as seen from us."""


@value
class Datagram:
    """One UDP payload to send, as it is; `destination` is (address, port), `source_port` our own."""

    data: bytes
    destination: tuple[str, int]
    source_port: int = UDP_PORT


@value
class ChildSa:
    """One direction of an AH or ESP SA. `salt` (RFC 3686, RFC 4106) is that of AES-CTR and AES-GCM, else empty."""

    spi: int
    encryption_key: bytes = field(repr=False)
    authentication_key: bytes = field(repr=False)
    salt: bytes = field(repr=False)
    protocol: iana.Protocol = iana.Protocol.ESP


@dataclass(frozen=True, slots=True)
class MainModeEstablished:
    """Audit 541. `encryption_key` is the cipher key of the ISAKMP SA, only with `key_log`, else None."""

    time: float
    local: str
    remote: str
    initiator: bool
    offer: MainModeOffer
    lifetime_seconds: int
    initiator_cookie: bytes
    responder_cookie: bytes
    encryption_key: bytes | None = field(repr=False)
    peer: PeerIdentity


@dataclass(frozen=True, slots=True)
class QuickModeAnswered:
    """A responder has sent message 2, or an initiator that was asked to wait (commit bit) message 3.

    The peer may protect traffic as soon as it has sent its next message, and its first packets may come with or before
    that: whoever installs `inbound` now loses none of them ("bad SPI", KB 257225). QuickModeEstablished or
    NegotiationFailed with the same inbound SPI follows. Fields as there.
    """

    time: float
    local: str
    remote: str
    selectors: TrafficSelector
    reference: int
    offer: QuickModeOffer
    inbound: tuple[ChildSa, ...]
    udp: UdpEncapsulation | None
    initiator: bool = False

    @property
    def inbound_spi(self) -> int:
        return self.inbound[0].spi


@dataclass(frozen=True, slots=True)
class QuickModeEstablished:
    """Audit 541. A pair of SAs is ready.

    `selectors` are seen from us; `reference` is the filter of our acquire or of our responder's policy; `answers` are
    the references of all acquires that this pair answers (none on a plain responder). `inbound` and `outbound` have an
    SA for each protocol of the offer, AH before ESP (AH is outside, RFC 2401 section 4.5); the SPI of the first names
    the pair. `udp`: ESP in UDP, None without a NAT. `peer_id` (its ID payload of Main Mode) tells the peer from others
    that are behind the same NAT.

    `previous` is the inbound SPI of the pair with the same selectors that this one replaces (a rekey): the caller ends
    it with `delete_child` when traffic has moved over, and with it those that are older still. When both ends negotiate
    at once, neither of the two pairs is `previous` to the other: the ends may not see them come in the same order, and
    each could end what the other has chosen.
    """

    time: float
    local: str
    remote: str
    initiator: bool
    selectors: TrafficSelector
    reference: int
    answers: tuple[int, ...]
    offer: QuickModeOffer
    inbound: tuple[ChildSa, ...]
    outbound: tuple[ChildSa, ...]
    lifetime_seconds: int
    lifetime_kilobytes: int
    encapsulation: Encapsulation
    previous: int | None
    udp: UdpEncapsulation | None
    peer_id: bytes = b""

    @property
    def inbound_spi(self) -> int:
        return self.inbound[0].spi

    @property
    def outbound_spi(self) -> int:
        return self.outbound[0].spi


@dataclass(frozen=True, slots=True)
class NegotiationFailed:
    """Audits 545, 546 and 547. `answers` are the acquires that end here.

    `selectors` is None when a Main Mode fails that nothing waited for. `details` names the attribute when the two lists
    of offers have nothing in common. `inbound_spi` is the SPI that was reserved for it and is free again. `peer` is who
    the peer claimed to be, where a certificate was refused (audit 544).
    """

    time: float
    mode: Mode
    remote: str
    selectors: TrafficSelector | None
    reason: FailureReason
    failure_point: FailurePoint
    details: ProposalMismatch | None = None
    answers: tuple[int, ...] = ()
    inbound_spi: int | None = None
    peer: PeerIdentity | None = None


@dataclass(frozen=True, slots=True)
class SoftAssociation:
    """The peer did not answer at all and every acquire in `answers` allows clear text with such computers."""

    time: float
    local: str
    remote: str
    selectors: TrafficSelector
    answers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ChildDeleted:
    """Audit 542. The pair is gone from the engine; `deleted_by` tells whose wish it was."""

    time: float
    remote: str
    selectors: TrafficSelector
    inbound_spi: int
    outbound_spi: int
    deleted_by: FailurePoint


@dataclass(frozen=True, slots=True)
class MainModeDeleted:
    """Audit 543. The ISAKMP SA is gone; its Quick Mode SAs live on."""

    time: float
    local: str
    remote: str
    initiator_cookie: bytes
    responder_cookie: bytes
    deleted_by: FailurePoint


@dataclass(frozen=True, slots=True)
class PathChanged:
    """A NAT has given the peer `remote` another address or port (RFC 3947 section 7).

    ESP in UDP that went to `former`, an (address, port), goes from our `local_port` to (`address`, `port`) from now on.
    Others behind the same NAT, which have another `peer_id`, stay where they are: a NAT that begins anew may give one
    the port of another.
    """

    time: float
    local: str
    remote: str
    former: tuple[str, int]
    address: str
    port: int
    local_port: int
    peer_id: bytes


Event = (
    MainModeEstablished
    | QuickModeAnswered
    | QuickModeEstablished
    | NegotiationFailed
    | SoftAssociation
    | ChildDeleted
    | MainModeDeleted
    | PathChanged
)
