"""Main Mode with a pre-shared key (RFC 2409 section 5.4) as a transition table.

A `MainMode` takes whole messages and gives whole messages; it knows neither time nor timers. It changes only after a
message has proved right, so a forged, damaged or late one leaves it as it was.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from hmac import compare_digest
from ipaddress import IPv4Address, IPv4Network

from ipsec_core.ike import keys, wire
from ipsec_core.ike.events import MainModePolicy
from ipsec_core.ike.failures import FailureReason, MalformedMessage, Refused, Unverified
from ipsec_core.ike.groups import DiffieHellman
from ipsec_core.ike.iana import (
    MICROSOFT_VENDOR_ID,
    WINDOWS_2000_VENDOR_ID,
    ExchangeType,
    Flags,
    IdType,
    Notify,
    Protocol,
)
from ipsec_core.ike.offers import (
    MainModeOffer,
    choose_main_mode,
    encode_identity,
    main_mode_mismatch,
    main_mode_proposal,
    single_transform,
)

NONCE_LENGTH = 20


class State(Enum):
    """Where an exchange stands; `TRANSITIONS` tells how it gets on."""

    START = auto()
    SA_SENT = auto()
    KEY_SENT = auto()
    AUTH_SENT = auto()
    LISTENING = auto()
    SA_ANSWERED = auto()
    KEY_ANSWERED = auto()
    ESTABLISHED = auto()


class Kind(Enum):
    """What a message is, told by its payloads or, when it is encrypted, by that."""

    SA = auto()
    KEY = auto()
    AUTH = auto()


class MainMode:
    """One exchange. `cookie` is ours; `initial_contact` tells, when asked, whether we have no SA with the peer."""

    def __init__(
        self,
        *,
        initiator: bool,
        local: str,
        remote: str,
        policy: MainModePolicy,
        random: Callable[[int], bytes],
        cookie: bytes,
        peer_cookie: bytes = wire.NO_COOKIE,
        initial_contact: Callable[[], bool] = lambda: False,
    ) -> None:
        self.initiator = initiator
        self.local = local
        self.remote = remote
        self.policy = policy
        self.initiator_cookie, self.responder_cookie = (cookie, peer_cookie) if initiator else (peer_cookie, cookie)
        self.state = State.START if initiator else State.LISTENING
        self.offer: MainModeOffer
        self.session: keys.Session
        self.microsoft_peer = False
        self.peer_initial_contact = False
        self._random = random
        self._initial_contact = initial_contact
        self._proposal = main_mode_proposal(policy.offers)
        self._sa_body = self._proposal.body()
        self._exchange: DiffieHellman
        self._nonce = b""
        self._peer_public = b""
        self._skeyids: keys.Skeyids
        self._cipher: keys.PhaseOneCipher
        self._iv = b""

    def start(self) -> bytes:
        """Message 1 of the initiator."""
        self.state = State.SA_SENT
        return self._encode((self._proposal, wire.VendorId(WINDOWS_2000_VENDOR_ID)))

    def receive(self, header: wire.Header, data: bytes) -> bytes | None:
        """The answer to the peer's next message, if there is one.

        Raises MalformedMessage for what has to be ignored, Unverified for an encrypted message that is not from a
        holder of the same key, Refused for a peer that policy does not accept.
        """
        payloads: tuple[wire.Payload, ...] = ()
        kind = Kind.AUTH
        if not header.encrypted:
            payloads = wire.parse_clear(header, data)
            kind = self._clear_kind(payloads)
        transition = TRANSITIONS.get((self.state, kind))
        if transition is None:
            raise MalformedMessage(Notify.INVALID_PAYLOAD_TYPE, f"{kind.name} message in state {self.state.name}")
        if header.encrypted:
            payloads = self._open(header, data[wire.HEADER_LENGTH :])
        answer = transition.handler(self, header, payloads)
        if header.encrypted:
            self._iv = data[-self._cipher.block :]
        self.state = transition.following
        reply = self._encode(answer) if answer else None
        if self.state is State.ESTABLISHED:
            self.session = keys.Session(
                self.offer.hash,
                self._skeyids.derive,
                self._skeyids.authenticate,
                self._cipher,
                self._iv,
                self.initiator_cookie,
                self.responder_cookie,
            )
        return reply

    @staticmethod
    def _clear_kind(payloads: tuple[wire.Payload, ...]) -> Kind:
        # RFC 2409 section 5: the SA payload comes before all others in phase 1.
        if payloads and isinstance(payloads[0], wire.SecurityAssociation):
            return Kind.SA
        if wire.every(payloads, wire.KeyExchange):
            return Kind.KEY
        raise MalformedMessage(Notify.INVALID_PAYLOAD_TYPE, "neither an SA nor a KE message")

    def _open(self, header: wire.Header, sealed: bytes) -> tuple[wire.Payload, ...]:
        clear = self._cipher.open(self._iv, sealed)
        try:
            return wire.parse_payloads(header.next_payload, clear)[0]
        except MalformedMessage as error:
            raise Unverified(f"decrypts to no payload chain ({error})") from error

    def _encode(self, payloads: tuple[wire.Payload, ...]) -> bytes:
        sealed = self.state in (State.AUTH_SENT, State.ESTABLISHED)
        header = wire.Header(
            self.initiator_cookie,
            self.responder_cookie,
            ExchangeType.MAIN_MODE,
            Flags.ENCRYPTION if sealed else Flags.NONE,
            next_payload=wire.first_type(payloads),
        )
        if not sealed:
            return wire.encode_clear(header, payloads)
        body = self._cipher.seal(self._iv, wire.encode_payloads(payloads))
        self._iv = body[-self._cipher.block :]
        return header.encode(len(body)) + body

    # Messages 1 and 2

    def _answer_sa(self, header: wire.Header, payloads: tuple[wire.Payload, ...]) -> tuple[wire.Payload, ...]:
        proposal = wire.only(payloads, wire.SecurityAssociation)
        choice = choose_main_mode(proposal, self.policy.offers)
        if choice is None:
            details = main_mode_mismatch(proposal, self.policy.offers)
            raise Refused(Notify.NO_PROPOSAL_CHOSEN, FailureReason.ATTRIBUTES_UNACCEPTABLE, details)
        answer, self.offer = choice
        self._sa_body = proposal.body()
        self._note_vendor(payloads)
        return answer, wire.VendorId(WINDOWS_2000_VENDOR_ID)

    def _send_key(self, header: wire.Header, payloads: tuple[wire.Payload, ...]) -> tuple[wire.Payload, ...]:
        answer = wire.only(payloads, wire.SecurityAssociation)
        choice = choose_main_mode(answer, self.policy.offers) if single_transform(answer) else None
        if choice is None or header.responder_cookie == wire.NO_COOKIE:
            # Nothing protects message 2: a bad one is ignored, the true one may still come.
            raise MalformedMessage(Notify.BAD_PROPOSAL_SYNTAX, "the answer is none of our offers")
        self.offer = choice[1]
        self.responder_cookie = header.responder_cookie
        self._note_vendor(payloads)
        return self._own_key()

    def _note_vendor(self, payloads: tuple[wire.Payload, ...]) -> None:
        vendors = wire.every(payloads, wire.VendorId)
        self.microsoft_peer = any(vendor.data.startswith(MICROSOFT_VENDOR_ID) for vendor in vendors)

    # Messages 3 and 4

    def _own_key(self) -> tuple[wire.Payload, ...]:
        self._exchange = DiffieHellman(self.offer.group, self._random)
        self._nonce = self._random(NONCE_LENGTH)
        return wire.KeyExchange(self._exchange.public), wire.Nonce(self._nonce)

    def _answer_key(self, header: wire.Header, payloads: tuple[wire.Payload, ...]) -> tuple[wire.Payload, ...]:
        answer = self._own_key()
        self._agree(payloads)
        return answer

    def _send_auth(self, header: wire.Header, payloads: tuple[wire.Payload, ...]) -> tuple[wire.Payload, ...]:
        self._agree(payloads)
        identity, proof = self._own_proof()
        if self._initial_contact():
            spi = self.initiator_cookie + self.responder_cookie
            return identity, proof, wire.Notification(Protocol.ISAKMP, spi, Notify.INITIAL_CONTACT)
        return identity, proof

    def _agree(self, payloads: tuple[wire.Payload, ...]) -> None:
        public, nonce = wire.only(payloads, wire.KeyExchange).data, wire.only(payloads, wire.Nonce).data
        shared = self._exchange.shared(public)
        ours, theirs = self._exchange.public, public
        nonces, publics = (
            ((self._nonce, nonce), (ours, theirs)) if self.initiator else ((nonce, self._nonce), (theirs, ours))
        )
        algorithm = self.offer.hash
        root = keys.skeyid_preshared(algorithm, self.policy.preshared_key, *nonces)
        self._skeyids = keys.derive_skeyids(algorithm, root, shared, self.initiator_cookie + self.responder_cookie)
        self._cipher = keys.phase_one_cipher(self.offer, self._skeyids.encrypt)
        self._iv = keys.phase_one_iv(algorithm, *publics, self._cipher.block)
        self._peer_public = public

    # Messages 5 and 6

    def _proof(self, identity: wire.Identification, *, by_initiator: bool) -> bytes:
        """HASH_I or HASH_R over `identity`."""
        own = by_initiator is self.initiator
        publics = (self._exchange.public, self._peer_public) if own else (self._peer_public, self._exchange.public)
        cookies = (self.initiator_cookie, self.responder_cookie)
        return keys.main_mode_hash(
            self.offer.hash,
            self._skeyids.root,
            b"".join(publics),
            b"".join(cookies if by_initiator else reversed(cookies)),
            self._sa_body,
            identity.body(),
        )

    def _own_proof(self) -> tuple[wire.Payload, wire.Payload]:
        identity = encode_identity(IPv4Network(self.local))
        return identity, wire.HashData(self._proof(identity, by_initiator=self.initiator))

    def _verify(self, payloads: tuple[wire.Payload, ...]) -> None:
        try:
            identity, proof = wire.only(payloads, wire.Identification), wire.only(payloads, wire.HashData)
        except MalformedMessage as error:
            raise Unverified(str(error)) from error
        if not compare_digest(proof.data, self._proof(identity, by_initiator=not self.initiator)):
            raise Unverified("HASH of the peer is wrong")
        if identity.kind == IdType.IPV4_ADDR and identity.data != IPv4Address(self.remote).packed:
            raise Refused(Notify.INVALID_ID_INFORMATION, FailureReason.ID_PAYLOAD)
        self.peer_initial_contact = any(
            notification.notify == Notify.INITIAL_CONTACT for notification in wire.every(payloads, wire.Notification)
        )

    def _answer_auth(self, header: wire.Header, payloads: tuple[wire.Payload, ...]) -> tuple[wire.Payload, ...]:
        self._verify(payloads)
        return self._own_proof()

    def _finish(self, header: wire.Header, payloads: tuple[wire.Payload, ...]) -> tuple[wire.Payload, ...]:
        self._verify(payloads)
        return ()


@dataclass(frozen=True, slots=True)
class Transition:
    """`handler` verifies the payloads, updates the exchange and returns the payloads of the answer (or none)."""

    handler: Callable[[MainMode, wire.Header, tuple[wire.Payload, ...]], tuple[wire.Payload, ...]]
    following: State


TRANSITIONS: dict[tuple[State, Kind], Transition] = {
    (State.LISTENING, Kind.SA): Transition(MainMode._answer_sa, State.SA_ANSWERED),
    (State.SA_SENT, Kind.SA): Transition(MainMode._send_key, State.KEY_SENT),
    (State.SA_ANSWERED, Kind.KEY): Transition(MainMode._answer_key, State.KEY_ANSWERED),
    (State.KEY_SENT, Kind.KEY): Transition(MainMode._send_auth, State.AUTH_SENT),
    (State.KEY_ANSWERED, Kind.AUTH): Transition(MainMode._answer_auth, State.ESTABLISHED),
    (State.AUTH_SENT, Kind.AUTH): Transition(MainMode._finish, State.ESTABLISHED),
}
