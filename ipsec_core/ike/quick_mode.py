"""Quick Mode for AH, ESP and both (RFC 2409 section 5.5) as a transition table.

A `QuickMode` takes and gives whole messages of one message id. Its IV moves on only with a message whose HASH is right.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from enum import Enum, auto
from ipaddress import IPv4Address, IPv4Network

from ipsec_core.ike import keys, protected, wire
from ipsec_core.ike.events import ChildSa, QuickModePolicy
from ipsec_core.ike.failures import FailureReason, MalformedMessage, Refused, reason_of_notify
from ipsec_core.ike.groups import DiffieHellman
from ipsec_core.ike.iana import Encapsulation, ExchangeType, Group, Notify, Protocol
from ipsec_core.ike.offers import (
    QuickModeOffer,
    TrafficSelector,
    encode_identity,
    encode_selectors,
    parse_selectors,
)
from ipsec_core.ike.proposals import Choice, choose_quick_mode, is_answer, quick_mode_mismatch, quick_mode_proposal

NONCE_LENGTH = 20
SPI_LENGTH = 4
# RFC 2406 section 2.1: SPIs up to 255 are reserved.
MIN_SPI = 256


class State(Enum):
    START = auto()
    OFFERED = auto()
    LISTENING = auto()
    ANSWERED = auto()
    ESTABLISHED = auto()


class Kind(Enum):
    """What a message is: with an SA payload (1 and 2) or a HASH alone (3)."""

    OFFER = auto()
    CONFIRMATION = auto()


class QuickMode:
    """One exchange under `session`; everything is seen from us.

    `find_policy` is asked by a responder for the selectors that the peer proposes; `allocate_spi` is called once for
    each protocol, by an initiator in `start`, by a responder when it accepts; `spis` has what came of it, AH first.
    After ESTABLISHED, `offer`, `selectors`, `inbound` and `outbound` tell the result; `reference` is the filter it
    belongs to.
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
        self._random = random
        self._allocate_spi = allocate_spi
        self._find_policy = find_policy
        self._offers: tuple[QuickModeOffer, ...] = ()
        self._iv = session.iv(message_id)
        self._own_nonce = b""
        self._peer_nonce = b""
        self._exchange: DiffieHellman | None = None

    def start(self, selectors: TrafficSelector, offers: tuple[QuickModeOffer, ...], reference: int) -> bytes:
        """Message 1 of the initiator."""
        self.selectors, self._offers, self.reference = selectors, offers, reference
        self._allocate({protocol for offer in offers for protocol in offer.protocols})
        payloads: tuple[wire.Payload, ...] = (
            quick_mode_proposal(offers, {protocol: spi.to_bytes(SPI_LENGTH) for protocol, spi in self.spis.items()}),
            *self._own_key(offers[0].pfs_group),
            *encode_selectors(selectors),
        )
        self.state = State.OFFERED
        return self._seal(self._first_hash(wire.encode_payloads(payloads)), payloads)

    def receive(self, header: wire.Header, data: bytes) -> bytes | None:
        """The answer to the peer's next message, if there is one.

        Raises Unverified or MalformedMessage for what has to be ignored. What an authenticated peer does wrong raises
        Refused and ends the exchange.
        """
        opened = protected.unseal(self.session, header, self._iv, data)
        kind = Kind.OFFER if wire.every(opened.payloads, wire.SecurityAssociation) else Kind.CONFIRMATION
        transition = TRANSITIONS.get((self.state, kind))
        if transition is None:
            raise MalformedMessage(Notify.INVALID_PAYLOAD_TYPE, f"{kind.name} message in state {self.state.name}")
        opened.verify(transition.expected(self, opened.rest))
        self._iv = data[-self.session.cipher.block :]
        try:
            reply = transition.handler(self, opened.payloads)
        except MalformedMessage as error:
            raise Refused(error.notify, reason_of_notify(error.notify)) from error
        self.state = transition.following
        return reply

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
        identities = wire.every(payloads, wire.Identification) or (
            # RFC 2409 section 5.5: without identities the SA is between the two IKE peers.
            encode_identity(IPv4Network(self.remote)),
            encode_identity(IPv4Network(self.local)),
        )
        self.selectors = self._parse_selectors(identities).mirrored()
        policy = self._find_policy(self.selectors)
        if policy is None:
            raise Refused(Notify.INVALID_ID_INFORMATION, FailureReason.NO_POLICY)
        proposals = wire.only(payloads, wire.SecurityAssociation)
        choice = choose_quick_mode(proposals, policy.offers)
        if choice is None:
            details = quick_mode_mismatch(proposals, policy.offers)
            raise Refused(Notify.NO_PROPOSAL_CHOSEN, FailureReason.ATTRIBUTES_UNACCEPTABLE, details)
        offer = choice.offer
        peer_spis = _spis(choice)
        self._check_encapsulation(offer)
        self._peer_nonce = wire.only(payloads, wire.Nonce).data
        key = self._own_key(offer.pfs_group)
        shared = self._shared(payloads)
        self.reference = policy.reference
        self._allocate(peer_spis)
        self._derive(offer, peer_spis, shared)
        chosen = (
            replace(proposal, spi=self.spis[Protocol(proposal.protocol)].to_bytes(SPI_LENGTH))
            for proposal in choice.proposals
        )
        answer = (
            wire.SecurityAssociation(tuple(chosen)),
            *key,
            *wire.every(payloads, wire.Identification),
        )
        return self._seal(self._second_hash(wire.encode_payloads(answer)), answer)

    def _finish(self, payloads: tuple[wire.Payload, ...]) -> bytes:
        answer = wire.only(payloads, wire.SecurityAssociation)
        choice = choose_quick_mode(answer, self._offers) if is_answer(answer) else None
        if choice is None:
            raise MalformedMessage(Notify.BAD_PROPOSAL_SYNTAX, "the answer is none of our offers")
        if self._parse_selectors(wire.every(payloads, wire.Identification)) != self.selectors:
            raise MalformedMessage(Notify.INVALID_ID_INFORMATION, "the answer names other traffic")
        peer_spis = _spis(choice)
        self._peer_nonce = wire.only(payloads, wire.Nonce).data
        self._derive(choice.offer, peer_spis, self._shared(payloads))
        return self._seal(self._third_hash(b""), ())

    def _confirm(self, payloads: tuple[wire.Payload, ...]) -> None:
        """Message 3 carries nothing but its HASH."""

    # Parts

    @staticmethod
    def _parse_selectors(identities: tuple[wire.Identification, ...]) -> TrafficSelector:
        if len(identities) != 2:
            raise MalformedMessage(Notify.INVALID_ID_INFORMATION, f"{len(identities)} identities, 2 are needed")
        return parse_selectors(*identities)

    def _check_encapsulation(self, offer: QuickModeOffer) -> None:
        """Transport mode protects the two peers' own packets (RFC 2401 section 4.1) and no others."""
        if offer.encapsulation is Encapsulation.TRANSPORT and self.selectors is not None:
            ends = ((self.local, self.selectors.source), (self.remote, self.selectors.destination))
            if not all(IPv4Address(address) in network for address, network in ends):
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
        if self._exchange is not None:
            return self._exchange.shared(wire.only(payloads, wire.KeyExchange).data)
        if wire.every(payloads, wire.KeyExchange):
            raise MalformedMessage(Notify.INVALID_KEY_INFORMATION, "KE payload without a group")
        return b""

    def _allocate(self, protocols: Collection[Protocol]) -> None:
        """An SPI of ours for each SA that comes in."""
        self.spis = {
            protocol: self._allocate_spi() for protocol in (Protocol.AH, Protocol.ESP) if protocol in protocols
        }

    def _derive(self, offer: QuickModeOffer, peer_spis: dict[Protocol, int], shared: bytes) -> None:
        self.offer = offer
        self.spis = {protocol: self.spis[protocol] for protocol in offer.protocols}
        self.inbound = tuple(self._child(protocol, spi, shared) for protocol, spi in self.spis.items())
        self.outbound = tuple(self._child(protocol, peer_spis[protocol], shared) for protocol in self.spis)

    def _child(self, protocol: Protocol, spi: int, shared: bytes) -> ChildSa:
        def material(length: int) -> bytes:
            return keys.keymat(
                self.session.hash,
                self.session.skeyid_d,
                protocol,
                spi.to_bytes(SPI_LENGTH),
                b"".join(self._nonces()),
                length,
                shared,
            )

        if protocol is Protocol.AH:
            assert self.offer.ah is not None
            return ChildSa(spi, b"", material(keys.ah_key_length(self.offer.ah)), b"", protocol)
        esp = keys.split_keymat(self.offer, material(sum(keys.esp_key_lengths(self.offer))))
        return ChildSa(spi, esp.encryption_key, esp.authentication_key, esp.salt, protocol)

    def _seal(self, proof: bytes, payloads: tuple[wire.Payload, ...]) -> bytes:
        message = protected.seal(self.session, ExchangeType.QUICK_MODE, self.message_id, self._iv, proof, payloads)
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
    (State.ANSWERED, Kind.CONFIRMATION): Transition(QuickMode._third_hash, QuickMode._confirm, State.ESTABLISHED),
}
