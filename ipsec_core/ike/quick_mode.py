"""Quick Mode for AH, ESP and both (RFC 2409 section 5.5) as a transition table.

A `QuickMode` takes and gives whole messages of one message id. Its IV moves on only with a message whose HASH is right.

The commit bit (RFC 2408 section 3.1): a responder that sets it in message 2 wants the initiator to wait for a fourth
message, HASH | N(CONNECTED), before it uses the SAs. Neither RFC 2408 nor 2409 defines that HASH; it is the one of
RFC 2409 section 5.7 here, prf(SKEYID_a, M-ID | N). We send the message as one more of this Quick Mode, as Windows does,
and take it as an Informational of the same message id, too, which is what RFC 2408 says. The flags of a header are
covered by no HASH: whoever changes the bit on the way can make an initiator wait until its retransmissions end or until
ESP comes, or not wait at all, and nothing more. In a message whose HASH is wrong it counts for nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import IntEnum, auto

from ipsec_core.ike import keys, protected, wire
from ipsec_core.ike.encapsulation import (
    Originals,
    agreed,
    behind_nat,
    encode_originals,
    on_the_wire,
    parse_originals,
)
from ipsec_core.ike.events import ChildSa, QuickModePolicy
from ipsec_core.ike.failures import FailureReason, MalformedMessage, Refused, Unverified, reason_of_notify
from ipsec_core.ike.groups import DiffieHellman
from ipsec_core.ike.iana import FIRST_STATUS_NOTIFY, Encapsulation, ExchangeType, Flags, Group, Notify, Protocol
from ipsec_core.ike.nat import NatPath
from ipsec_core.ike.offers import (
    QuickModeOffer,
    TrafficSelector,
    encode_identity,
    encode_selectors,
    host,
    parse_selectors,
)
from ipsec_core.ike.proposals import (
    Choice,
    choose_quick_mode,
    is_answer,
    lifetimes,
    parse_lifetimes,
    quick_mode_mismatch,
    quick_mode_offers,
    quick_mode_proposal,
    shortest_volume,
)

NONCE_LENGTH = 20
SPI_LENGTH = 4
# RFC 2406 section 2.1: SPIs up to 255 are reserved.
MIN_SPI = 256


class State(IntEnum):
    START = auto()
    OFFERED = auto()
    LISTENING = auto()
    ANSWERED = auto()
    CONFIRMED = auto()
    ESTABLISHED = auto()


class Kind(IntEnum):
    """What a message is: 1 or 2 (with an SA payload), 2 with the commit bit, 3 (a HASH alone), 4, or an error."""

    OFFER = auto()
    COMMITTED = auto()
    CONFIRMATION = auto()
    CONNECTED = auto()
    ERROR = auto()


class RefusedByPeer(Exception):
    """The peer has ended the exchange with an error notify, whose number this is."""

    def __init__(self, notify: int) -> None:
        super().__init__(notify)
        self.notify = notify


class QuickMode:
    """One exchange under `session`; everything is seen from us.

    `find_policy` is asked by a responder for the selectors that the peer proposes; `allocate_spi` is called once for
    each protocol, by an initiator in `start`, by a responder when it accepts; `spis` has what came of it, AH first.
    After ESTABLISHED, `offer`, `selectors`, `inbound` and `outbound` tell the result; `reference` is the filter it
    belongs to. In CONFIRMED, when an initiator waits for CONNECTED, they do so already. `nat` is what Main Mode found
    on the way; `originals` then are the peer's NAT-OA. `notifications` are those of the last message. With `commit` a
    responder asks the initiator to wait.
    """

    def __init__(
        self,
        session: keys.Session,
        message_id: int,
        *,
        initiator: bool,
        local: str,
        remote: str,
        random: Callable[[int], bytes],
        allocate_spi: Callable[[], int],
        find_policy: Callable[[TrafficSelector], QuickModePolicy | None],
        nat: NatPath | None = None,
        commit: bool = False,
    ) -> None:
        self.session = session
        self.message_id = message_id
        self.initiator = initiator
        self.local = local
        self.remote = remote
        self.state = State.START if initiator else State.LISTENING
        self.spis: dict[Protocol, int] = {}
        self.reference = 0
        self.selectors: TrafficSelector | None = None
        self.offer: QuickModeOffer
        self.inbound: tuple[ChildSa, ...]
        self.outbound: tuple[ChildSa, ...]
        self.nat = nat
        self.originals = Originals()
        self.notifications: tuple[wire.Notification, ...] = ()
        self._commit = commit
        self._random = random
        self._allocate_spi = allocate_spi
        self._find_policy = find_policy
        self._offers: tuple[QuickModeOffer, ...] = ()
        self._iv = session.iv(message_id)
        self._own_nonce = b""
        self._peer_nonce = b""
        self._exchange: DiffieHellman | None = None

    def start(self, selectors: TrafficSelector, offers: tuple[QuickModeOffer, ...], reference: int) -> bytes:
        """Message 1 of the initiator. Raises Refused if none of the offers can be made to this peer."""
        self.selectors, self.reference = selectors, reference
        self._offers = on_the_wire(offers, self.nat)
        if not self._offers:
            raise Refused(Notify.NO_PROPOSAL_CHOSEN, FailureReason.ATTRIBUTES_UNACCEPTABLE)
        self._allocate({protocol for offer in self._offers for protocol in offer.protocols})
        payloads: tuple[wire.Payload, ...] = (
            quick_mode_proposal(
                self._offers, {protocol: spi.to_bytes(SPI_LENGTH) for protocol, spi in self.spis.items()}
            ),
            *self._own_key(self._offers[0].pfs_group),
            *encode_selectors(selectors),
            *self._own_originals(offers),
        )
        self.state = State.OFFERED
        return self._seal(self._first_hash, payloads)

    def receive(self, header: wire.Header, data: bytes) -> bytes | None:
        """The answer to the peer's next message, if there is one.

        Raises Unverified or MalformedMessage for what has to be ignored. What an authenticated peer does wrong raises
        Refused and ends the exchange; its own refusal raises RefusedByPeer.
        """
        opened = self._open(header, data)
        kind = self._kind(header, opened.payloads)
        transition = TRANSITIONS.get((self.state, kind))
        if transition is None:
            raise MalformedMessage(Notify.INVALID_PAYLOAD_TYPE, f"{kind.name} message in state {self.state.name}")
        opened.verify(transition.expected(self, opened.rest))
        self._iv = data[-self.session.cipher.block :]
        self.notifications = wire.every(opened.payloads, wire.Notification)
        try:
            reply = transition.handler(self, opened.payloads)
        except MalformedMessage as error:
            raise Refused(error.notify, reason_of_notify(error.notify)) from error
        self.state = transition.following
        return reply

    def fall_through(self) -> None:
        """Wait for CONNECTED no longer."""
        self.state = State.ESTABLISHED

    def _open(self, header: wire.Header, data: bytes) -> protected.Opened:
        if header.exchange != ExchangeType.INFORMATIONAL:
            return protected.unseal(self.session, header, self._iv, data)
        # An exchange of its own or a part of this one: the RFCs leave it open which IV that means.
        try:
            opened = protected.unseal(self.session, header, self.session.iv(self.message_id), data)
            opened.verify(self._first_hash(opened.rest))
        except Unverified:
            opened = protected.unseal(self.session, header, self._iv, data)
        return opened

    def _kind(self, header: wire.Header, payloads: tuple[wire.Payload, ...]) -> Kind:
        if wire.every(payloads, wire.SecurityAssociation):
            return Kind.COMMITTED if self.initiator and header.flags & Flags.COMMIT else Kind.OFFER
        notifies = [payload.notify for payload in wire.every(payloads, wire.Notification)]
        if Notify.CONNECTED in notifies:
            return Kind.CONNECTED
        return Kind.ERROR if min(notifies, default=FIRST_STATUS_NOTIFY) < FIRST_STATUS_NOTIFY else Kind.CONFIRMATION

    # HASH(1), HASH(2), HASH(3)

    def _first_hash(self, rest: bytes) -> bytes:
        return self.session.message_hash(self.message_id, rest)

    def _second_hash(self, rest: bytes) -> bytes:
        return self.session.message_hash(self.message_id, self._nonces()[0] + rest)

    def _third_hash(self, rest: bytes) -> bytes:
        nonces = b"".join(self._nonces())
        return keys.confirmation_hash(self.session.hash, self.session.skeyid_a, self.message_id, nonces)

    def _nonces(self) -> tuple[bytes, bytes]:
        return (self._own_nonce, self._peer_nonce) if self.initiator else (self._peer_nonce, self._own_nonce)

    # Handlers

    def _answer(self, payloads: tuple[wire.Payload, ...]) -> bytes:
        proposals = wire.only(payloads, wire.SecurityAssociation)
        self.originals = parse_originals(payloads, initiator=False)
        self.selectors = selectors = self._proposed_selectors(payloads)
        transport = self.nat is not None and any(
            agreed(offer).encapsulation is Encapsulation.TRANSPORT for offer in quick_mode_offers(proposals)
        )
        if transport:
            self.selectors = self._behind_nat(selectors)
        policy = self._find_policy(self.selectors)
        if policy is None:
            raise Refused(Notify.INVALID_ID_INFORMATION, FailureReason.NO_POLICY)
        offers = policy.offers
        if self.selectors != selectors:
            # Only in transport mode these addresses mean the two peers.
            offers = tuple(offer for offer in offers if offer.encapsulation is Encapsulation.TRANSPORT)
        offers = on_the_wire(offers, self.nat)
        choice = choose_quick_mode(proposals, offers)
        if choice is None:
            details = quick_mode_mismatch(proposals, offers)
            raise Refused(Notify.NO_PROPOSAL_CHOSEN, FailureReason.ATTRIBUTES_UNACCEPTABLE, details)
        offer = agreed(choice.offer)
        peer_spis = _spis(choice)
        self._check_encapsulation(offer)
        self._peer_nonce = wire.only(payloads, wire.Nonce).data
        key = self._own_key(offer.pfs_group)
        shared = self._shared(payloads)
        self.reference = policy.reference
        self._allocate(peer_spis)
        self._derive(offer, peer_spis, shared)
        chosen = [
            wire.Proposal(p.number, p.protocol, self.spis[Protocol(p.protocol)].to_bytes(SPI_LENGTH), p.transforms)
            for p in choice.proposals
        ]
        answer = (
            wire.SecurityAssociation(tuple(chosen)),
            *key,
            *wire.every(payloads, wire.Identification),
            *self._own_originals((offer,)),
            *(self._own_lifetimes() if choice.shortened else ()),
        )
        flags = Flags.ENCRYPTION | Flags.COMMIT if self._commit else Flags.ENCRYPTION
        return self._seal(self._second_hash, answer, flags)

    def _finish(self, payloads: tuple[wire.Payload, ...]) -> bytes:
        answer = wire.only(payloads, wire.SecurityAssociation)
        choice = choose_quick_mode(answer, self._offers) if is_answer(answer) else None
        if choice is None:
            raise MalformedMessage(Notify.BAD_PROPOSAL_SYNTAX, "the answer is none of our offers")
        offer = agreed(choice.offer)
        self.originals = parse_originals(payloads, initiator=True)
        selectors = self._parse_selectors(wire.every(payloads, wire.Identification))
        if offer.encapsulation is Encapsulation.TRANSPORT:
            selectors = self._behind_nat(selectors)
        if selectors != self.selectors:
            raise MalformedMessage(Notify.INVALID_ID_INFORMATION, "the answer names other traffic")
        peer_spis = _spis(choice)
        self._peer_nonce = wire.only(payloads, wire.Nonce).data
        self._derive(self._shortened(offer), peer_spis, self._shared(payloads))
        return self._seal(self._third_hash, ())

    def _confirm(self, payloads: tuple[wire.Payload, ...]) -> bytes | None:
        """Message 3 carries nothing but its HASH. Message 4 under the commit bit."""
        if not self._commit:
            return None
        protocol, spi = next(iter(self.spis.items()))
        connected = (wire.Notification(protocol, spi.to_bytes(SPI_LENGTH), Notify.CONNECTED),)
        return self._seal(self._first_hash, connected)

    def _connected(self, payloads: tuple[wire.Payload, ...]) -> None:
        """Message 4: the SAs are ready at both ends."""

    def _refused(self, payloads: tuple[wire.Payload, ...]) -> None:
        raise RefusedByPeer(next(n.notify for n in self.notifications if n.notify < FIRST_STATUS_NOTIFY))

    # Parts

    def _proposed_selectors(self, payloads: tuple[wire.Payload, ...]) -> TrafficSelector:
        """What the initiator wants to protect, seen from us."""
        identities = wire.every(payloads, wire.Identification) or (
            # RFC 2409 section 5.5: without identities the SA is between the two IKE peers.
            encode_identity(host(self.remote)),
            encode_identity(host(self.local)),
        )
        return self._parse_selectors(identities).mirrored()

    def _behind_nat(self, selectors: TrafficSelector) -> TrafficSelector:
        if self.nat is None:
            return selectors
        return behind_nat(selectors, self.nat, self.originals, self.local, self.remote)

    def _own_originals(self, offers: tuple[QuickModeOffer, ...]) -> tuple[wire.Payload, ...]:
        if self.nat is None or all(offer.encapsulation is not Encapsulation.TRANSPORT for offer in offers):
            return ()
        return encode_originals(self.nat, self.local, self.remote, initiator=self.initiator)

    def _own_lifetimes(self) -> tuple[wire.Notification, ...]:
        """RESPONDER-LIFETIME (RFC 2407 section 4.6.3.1): the transform goes back as it came, this counts."""
        life = lifetimes(self.offer.lifetime_seconds, self.offer.lifetime_kilobytes)
        data = b"".join(attribute.encode() for attribute in life)
        return tuple(
            wire.Notification(protocol, spi.to_bytes(SPI_LENGTH), Notify.RESPONDER_LIFETIME, data)
            for protocol, spi in self.spis.items()
        )

    def _shortened(self, offer: QuickModeOffer) -> QuickModeOffer:
        """`offer` with the lifetimes that the responder's RESPONDER-LIFETIME leaves of it."""
        for notification in self.notifications:
            if notification.notify == Notify.RESPONDER_LIFETIME and notification.protocol in offer.protocols:
                seconds, kilobytes = parse_lifetimes(notification.data)
                offer = offer.with_lifetimes(
                    min(offer.lifetime_seconds, seconds or offer.lifetime_seconds),
                    shortest_volume((offer.lifetime_kilobytes, kilobytes)),
                )
        return offer

    @staticmethod
    def _parse_selectors(identities: tuple[wire.Identification, ...]) -> TrafficSelector:
        if len(identities) != 2:
            raise MalformedMessage(Notify.INVALID_ID_INFORMATION, f"{len(identities)} identities, 2 are needed")
        return parse_selectors(*identities)

    def _check_encapsulation(self, offer: QuickModeOffer) -> None:
        """Transport mode protects the two peers' own packets (RFC 2401 section 4.1) and no others."""
        if offer.encapsulation is Encapsulation.TRANSPORT and self.selectors is not None:
            ends = ((self.local, self.selectors.source), (self.remote, self.selectors.destination))
            if not all(host(address).network_address in network for address, network in ends):
                raise MalformedMessage(Notify.INVALID_ID_INFORMATION, "transport mode for other hosts")

    def _own_key(self, group: Group | None) -> tuple[wire.Payload, ...]:
        """Our nonce and, under PFS, our public value: NONCE [, KE]."""
        self._own_nonce = self._random(NONCE_LENGTH)
        if group is None:
            return (wire.Nonce(self._own_nonce),)
        self._exchange = DiffieHellman(group, self._random)
        return wire.Nonce(self._own_nonce), wire.KeyExchange(self._exchange.public)

    def _shared(self, payloads: tuple[wire.Payload, ...]) -> bytes:
        """g(qm)^xy, or nothing without PFS."""
        values = wire.every(payloads, wire.KeyExchange)
        if len(values) != (self._exchange is not None):
            raise MalformedMessage(Notify.INVALID_KEY_INFORMATION, f"{len(values)} KE payloads for the group agreed on")
        return self._exchange.shared(values[0].data) if self._exchange else b""

    def _allocate(self, protocols: Collection[Protocol]) -> None:
        """An SPI of ours for each SA that comes in."""
        self.spis = {
            protocol: self._allocate_spi() for protocol in (Protocol.AH, Protocol.ESP) if protocol in protocols
        }

    def _derive(self, offer: QuickModeOffer, peer_spis: dict[Protocol, int], shared: bytes) -> None:
        self.offer = offer
        self.spis = {protocol: self.spis[protocol] for protocol in offer.protocols}
        lengths = {
            protocol: keys.ah_key_length(offer.ah)
            if protocol is Protocol.AH and offer.ah
            else sum(keys.esp_key_lengths(offer))
            for protocol in self.spis
        }
        nonces = b"".join(self._nonces())

        def child(protocol: Protocol, spi: int) -> ChildSa:
            material = keys.keymat(
                self.session.hash,
                self.session.skeyid_d,
                protocol,
                spi.to_bytes(SPI_LENGTH),
                nonces,
                lengths[protocol],
                shared,
            )
            if protocol is Protocol.AH:
                return ChildSa(spi, b"", material, b"", protocol)
            esp = keys.split_keymat(offer, material)
            return ChildSa(spi, esp.encryption_key, esp.authentication_key, esp.salt, protocol)

        self.inbound = tuple([child(protocol, spi) for protocol, spi in self.spis.items()])
        self.outbound = tuple([child(protocol, peer_spis[protocol]) for protocol in self.spis])

    def _seal(
        self, proof: Callable[[bytes], bytes], payloads: tuple[wire.Payload, ...], flags: Flags = Flags.ENCRYPTION
    ) -> bytes:
        message = protected.seal(
            self.session, ExchangeType.QUICK_MODE, self.message_id, self._iv, proof, payloads, flags
        )
        self._iv = message[-self.session.cipher.block :]
        return message


def _spis(choice: Choice) -> dict[Protocol, int]:
    """The peer's inbound SPIs."""
    return {Protocol(proposal.protocol): _check_spi(proposal.spi) for proposal in choice.proposals}


def _check_spi(spi: bytes) -> int:
    number = int.from_bytes(spi)
    if len(spi) != SPI_LENGTH or number < MIN_SPI:
        raise MalformedMessage(Notify.INVALID_SPI, f"SPI {spi.hex()}")
    return number


@dataclass(frozen=True, slots=True)
class Transition:
    """`expected` computes the HASH that the message must have; `handler` acts on its payloads and gives the answer."""

    expected: Callable[[QuickMode, bytes], bytes]
    handler: Callable[[QuickMode, tuple[wire.Payload, ...]], bytes | None]
    following: State


TRANSITIONS: dict[tuple[State, Kind], Transition] = {
    (State.LISTENING, Kind.OFFER): Transition(QuickMode._first_hash, QuickMode._answer, State.ANSWERED),
    (State.OFFERED, Kind.OFFER): Transition(QuickMode._second_hash, QuickMode._finish, State.ESTABLISHED),
    (State.OFFERED, Kind.COMMITTED): Transition(QuickMode._second_hash, QuickMode._finish, State.CONFIRMED),
    (State.ANSWERED, Kind.CONFIRMATION): Transition(QuickMode._third_hash, QuickMode._confirm, State.ESTABLISHED),
    (State.CONFIRMED, Kind.CONNECTED): Transition(QuickMode._first_hash, QuickMode._connected, State.ESTABLISHED),
} | {
    (state, Kind.ERROR): Transition(QuickMode._first_hash, QuickMode._refused, state)
    for state in (State.OFFERED, State.ANSWERED, State.CONFIRMED)
}
