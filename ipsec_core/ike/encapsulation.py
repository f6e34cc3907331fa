"""What a NAT between two peers changes in Quick Mode (RFC 3947 section 5; draft-ietf-ipsec-nat-t-ike-02 section 5)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

from ipsec_core.ike import wire
from ipsec_core.ike.failures import MalformedMessage
from ipsec_core.ike.iana import Encapsulation, IdType, Notify
from ipsec_core.ike.nat import ORIGINAL_ADDRESS, NatPath
from ipsec_core.ike.offers import QuickModeOffer, TrafficSelector, host
from ipsec_core.ike.options import NatTraversal
from ipsec_core.ike.values import value

_IN_UDP = {
    NatTraversal.RFC_3947: {
        Encapsulation.TUNNEL: Encapsulation.UDP_TUNNEL,
        Encapsulation.TRANSPORT: Encapsulation.UDP_TRANSPORT,
    },
    NatTraversal.DRAFT_02: {
        Encapsulation.TUNNEL: Encapsulation.UDP_TUNNEL_DRAFT,
        Encapsulation.TRANSPORT: Encapsulation.UDP_TRANSPORT_DRAFT,
    },
}
_PLAIN = {udp: plain for modes in _IN_UDP.values() for plain, udp in modes.items()}


def on_the_wire(offers: Iterable[QuickModeOffer], nat: NatPath | None) -> tuple[QuickModeOffer, ...]:
    """The offers with the encapsulation modes that proposals name. AH does not pass a NAT and drops out."""
    if nat is None:
        return tuple(offers)
    modes = _IN_UDP[nat.dialect]
    return tuple(replace(offer, encapsulation=modes[offer.encapsulation]) for offer in offers if offer.ah is None)


def agreed(offer: QuickModeOffer) -> QuickModeOffer:
    """The way back from `on_the_wire`."""
    plain = _PLAIN.get(offer.encapsulation)
    return replace(offer, encapsulation=plain) if plain else offer


@value
class Originals:
    """NAT-OA: the addresses that the peer's packets carry before any NAT, its own and the one it has for us."""

    remote: IPv4Address | None = None
    local: IPv4Address | None = None


def encode_originals(nat: NatPath, local: str, remote: str, *, initiator: bool) -> tuple[wire.Payload, ...]:
    """Our NAT-OA payloads, for transport mode: both ends as we see them, the initiator's first (RFC 3947 section 5.2).

    The draft has one only, of an end that is behind a NAT.
    """
    if nat.dialect is NatTraversal.DRAFT_02:
        ends: tuple[str, ...] = (local,) if nat.local_behind else ()
    else:
        ends = (local, remote) if initiator else (remote, local)
    kind = ORIGINAL_ADDRESS[nat.dialect]
    return tuple(wire.NatOriginalAddress(kind, IdType.IPV4_ADDR, IPv4Address(end).packed) for end in ends)


def parse_originals(payloads: Iterable[wire.Payload], *, initiator: bool) -> Originals:
    """What the peer's NAT-OA payloads say; a single one is its own address. `initiator`: we are."""
    addresses = [_address(payload) for payload in wire.every(payloads, wire.NatOriginalAddress)]
    match addresses:
        case []:
            return Originals()
        case [own]:
            return Originals(own)
        case [first, second]:
            return Originals(second, first) if initiator else Originals(first, second)
    raise MalformedMessage(Notify.INVALID_PAYLOAD_TYPE, f"{len(addresses)} original addresses, 2 are allowed")


def _address(payload: wire.NatOriginalAddress) -> IPv4Address:
    if payload.kind == IdType.IPV4_ADDR and len(payload.address) == 4:
        return IPv4Address(payload.address)
    raise MalformedMessage(Notify.INVALID_ID_INFORMATION, "original address is not an IPv4 address")


def behind_nat(
    selectors: TrafficSelector, nat: NatPath, originals: Originals, local: str, remote: str
) -> TrafficSelector:
    """Transport mode selectors with the addresses of the two peers as we see them.

    The peer names itself by the address that it has behind its NAT, and us by that of the NAT before us. NAT-OA says
    which these are; in the draft's dialect not always, then a single host on that side is the peer, or we.
    """
    return replace(
        selectors,
        source=_translated(selectors.source, local, originals.local, behind=nat.local_behind),
        destination=_translated(selectors.destination, remote, originals.remote, behind=nat.remote_behind),
    )


def _translated(network: IPv4Network, actual: str, original: IPv4Address | None, *, behind: bool) -> IPv4Network:
    single = network.prefixlen == network.max_prefixlen and original in (None, network.network_address)
    return host(actual) if behind and single else network
