"""Main Mode (RFC 2409 section 5) as a transition table; `authentication` has what differs between the methods.

A `MainMode` takes whole messages and gives whole messages; it knows neither time nor timers. It changes only after a
message has proved right, so a forged, damaged or late one leaves it as it was.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum, auto
from functools import lru_cache

from ipsec_core.ike import keys, protected, vendor_ids, wire
from ipsec_core.ike.authentication import Authentication, authentication, with_gss_name, without_nameless
from ipsec_core.ike.credentials import CredentialRefused, PeerIdentity
from ipsec_core.ike.events import MainModePolicy
from ipsec_core.ike.failures import FailureReason, MalformedMessage, Refused, Unverified
from ipsec_core.ike.groups import DiffieHellman
from ipsec_core.ike.iana import UDP_PORT, ExchangeType, Flags, IdType, Notify, PayloadType, Protocol
from ipsec_core.ike.nat import NOWHERE, NatPath, detection_payloads, find_nat
from ipsec_core.ike.offers import (
    MainModeOffer,
    choose_main_mode,
    host,
    main_mode_mismatch,
    main_mode_proposal,
    single_transform,
)
from ipsec_core.ike.options import IkeOptions
from ipsec_core.ike.values import value

NONCE_LENGTH = 20
UDP = 17
# Names that the proof of the method vouches for; no packet can confirm or deny them.
NAMES = (IdType.FQDN, IdType.USER_FQDN, IdType.DER_ASN1_DN, IdType.KEY_ID)
# What the peer is told of credentials that were refused, where that is not just AUTHENTICATION-FAILED.
NOTIFY = {
    FailureReason.INVALID_SIGNATURE: Notify.INVALID_SIGNATURE,
    FailureReason.ID_PAYLOAD: Notify.INVALID_ID_INFORMATION,
    FailureReason.CERTIFICATE_PAYLOAD: Notify.INVALID_CERTIFICATE,
}


class State(IntEnum):
    """Where an exchange stands; `TRANSITIONS` tells how it gets on."""

    START = auto()
    SA_SENT = auto()
    KEY_SENT = auto()
    TOKEN_SENT = auto()
    AUTH_SENT = auto()
    LISTENING = auto()
    SA_ANSWERED = auto()
    KEY_ANSWERED = auto()
    ESTABLISHED = auto()


class Kind(IntEnum):
    """What a message is, told by its payloads or, when it is encrypted, by that."""

    SA = auto()
    KEY = auto()
    TOKEN = auto()
    AUTH = auto()


@value
class Message:
    """One of the peer's: when it came, and from which (address, port) to which; `data` is all of it."""

    header: wire.Header
    data: bytes
    payloads: tuple[wire.Payload, ...]
    now: float
    local: tuple[str, int]
    remote: tuple[str, int]


class MainMode:
    """One exchange. `cookie` is ours; `initial_contact` tells, when asked, whether we have no SA with the peer.

    What it finds out: `offer` and `common` with message 1 or 2, `nat` with message 3 or 4 (None: no NAT, or one end
    does no NAT traversal), `session` and `peer` when it is established. After a refusal `peer` is who the peer claimed
    to be, if it came to that.
    """

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
        options: IkeOptions | None = None,
    ) -> None:
        self.initiator = initiator
        self.local = local
        self.remote = remote
        self.policy = policy
        self.options = options or IkeOptions()
        self.initiator_cookie, self.responder_cookie = (cookie, peer_cookie) if initiator else (peer_cookie, cookie)
        self.state = State.START if initiator else State.LISTENING
        self.offer: MainModeOffer
        self.session: keys.Session
        self.common = vendor_ids.Capabilities()
        self.nat: NatPath | None = None
        self.peer: PeerIdentity | None = None
        self.peer_id = b""
        self.peer_initial_contact = False
        self._random = random
        self._initial_contact = initial_contact
        # What both HASHes cover: the initiator's SA payload as it was sent.
        self._sa_body = b""
        self._authentication: Authentication
        self._exchange: DiffieHellman
        self._nonce = b""
        self._peer_public = b""
        self._skeyids: keys.Skeyids
        self._cipher: keys.PhaseOneCipher
        self._iv = b""
        self._first_iv = b""
        # The last cipher blocks that went out and came in; only notifies before the end need them apart.
        self._sent_block = b""
        self._received_block = b""

    @property
    def microsoft_peer(self) -> bool:
        return self.common.microsoft_version is not None

    @property
    def keyed(self) -> bool:
        """Past the first two round trips, in which notifies go in clear ([MS-IKEE] 3.1.5)."""
        return self.state in (State.KEY_ANSWERED, State.AUTH_SENT, State.ESTABLISHED)

    def start(self) -> bytes:
        """Message 1 of the initiator."""
        self.state = State.SA_SENT
        self._sa_body = _proposal(self.policy.offers, self._gss_name)
        return self._encode((wire.Opaque(PayloadType.SA, self._sa_body), *vendor_ids.announce(self.options)))

    def receive(
        self,
        header: wire.Header,
        data: bytes,
        *,
        now: float = 0.0,
        local_port: int = UDP_PORT,
        remote_port: int = UDP_PORT,
    ) -> bytes | None:
        """The answer to the peer's next message, if there is one.

        `now` is for the validity of certificates; the ports are those of the datagram, without which there is no
        telling a NAT. The answer goes back between the same ports, but message 5 and later ones go to port 4500 when
        there is a NAT (RFC 3947 section 4).

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
        message = Message(header, data, payloads, now, (self.local, local_port), (self.remote, remote_port))
        try:
            answer = transition.handler(self, message)
        except CredentialRefused as error:
            self.peer = error.identity
            raise Refused(NOTIFY.get(error.reason, Notify.AUTHENTICATION_FAILED), error.reason) from error
        if header.encrypted:
            self._iv = self._received_block
        wait = transition.unfinished
        self.state = wait if wait and self._authentication.unfinished else transition.following
        reply = self._encode(answer) if answer else None
        if self.state is State.ESTABLISHED:
            self.session = self._session(self._iv)
        return reply

    def _session(self, last_block: bytes) -> keys.Session:
        return keys.Session(
            self.offer.hash,
            self._skeyids.derive,
            self._skeyids.authenticate,
            self._cipher,
            last_block,
            self.initiator_cookie,
            self.responder_cookie,
        )

    # Notifies before the SA is established

    def seal_notify(self, message_id: int, payload: wire.Payload) -> bytes:
        """A protected Informational message, for an exchange that is `keyed` but will not be established.

        Its IV comes from the last block that we sent if the peer is of Microsoft with version 2 to 5, from the last
        that we decrypted otherwise ([MS-IKEE] appendix A); where there is none, from the IV of message 5.
        """
        sent = self.common.microsoft_version in range(2, 6)
        session = self._session(self._sent_block if sent else self._received_block)
        return protected.seal_informational(session, message_id, (payload,))

    def open_notify(self, header: wire.Header, data: bytes) -> tuple[wire.Payload, ...]:
        """The payloads of an Informational message that the peer sealed before it was done; Unverified if it did not.

        Which rule for the IV the peer follows cannot be known: the HASH tells.
        """
        for block in {self._received_block: None, self._sent_block: None, self._first_iv: None}:
            try:
                return protected.open_informational(self._session(block), header, data)
            except Unverified as error:
                refusal = error
        raise refusal

    @staticmethod
    def _clear_kind(payloads: tuple[wire.Payload, ...]) -> Kind:
        # RFC 2409 section 5: the SA payload comes before all others in phase 1.
        if payloads and isinstance(payloads[0], wire.SecurityAssociation):
            return Kind.SA
        if wire.every(payloads, wire.KeyExchange):
            return Kind.KEY
        if wire.every(payloads, wire.GssToken):
            return Kind.TOKEN
        raise MalformedMessage(Notify.INVALID_PAYLOAD_TYPE, "neither an SA nor a KE message")

    def _open(self, header: wire.Header, sealed: bytes) -> tuple[wire.Payload, ...]:
        clear = self._cipher.open(self._iv, sealed)
        self._received_block = sealed[-self._cipher.block :]
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
        self._iv = self._sent_block = body[-self._cipher.block :]
        return header.encode(len(body)) + body

    # Messages 1 and 2

    @property
    def _gss_name(self) -> str | None:
        return self.policy.kerberos.name if self.policy.kerberos else None

    def _answer_sa(self, message: Message) -> tuple[wire.Payload, ...]:
        proposal = wire.only(message.payloads, wire.SecurityAssociation)
        choice = self._choose(proposal)
        if choice is None:
            details = main_mode_mismatch(proposal, self.policy.offers)
            raise Refused(Notify.NO_PROPOSAL_CHOSEN, FailureReason.ATTRIBUTES_UNACCEPTABLE, details)
        answer, offer = choice
        self._sa_body = wire.first_body(message.data)
        self._agree_on(answer, offer, message.payloads)
        sa = wire.Opaque(PayloadType.SA, with_gss_name(answer, self._gss_name).body())
        payloads: tuple[wire.Payload, ...] = (sa, *vendor_ids.answer(self.options, self.common))
        # Anybody may have sent message 1 in anybody's name: the answer does not amplify it. It has one transform of
        # many and ids that message 1 had, but for Microsoft's, which only names us, and the GSS name.
        room = len(message.data) - wire.HEADER_LENGTH
        if len(wire.encode_payloads(payloads)) > room:
            payloads = (sa, *payloads[2:])
            if len(wire.encode_payloads(payloads)) > room:
                raise MalformedMessage(Notify.PAYLOAD_MALFORMED, "message 1 is shorter than the answer to it")
        return payloads

    def _send_key(self, message: Message) -> tuple[wire.Payload, ...]:
        answer = wire.only(message.payloads, wire.SecurityAssociation)
        choice = self._choose(answer) if single_transform(answer) else None
        if choice is None or message.header.responder_cookie == wire.NO_COOKIE:
            # Nothing protects message 2: a bad one is ignored, the true one may still come.
            raise MalformedMessage(Notify.BAD_PROPOSAL_SYNTAX, "the answer is none of our offers")
        self._agree_on(*choice, message.payloads)
        self._draw()
        said = self._authentication.say()
        self.responder_cookie = message.header.responder_cookie
        return self._own_key(message, said)

    def _choose(self, sa: wire.SecurityAssociation) -> tuple[wire.SecurityAssociation, MainModeOffer] | None:
        return choose_main_mode(without_nameless(sa) if self.policy.kerberos else sa, self.policy.offers)

    def _agree_on(
        self, answer: wire.SecurityAssociation, offer: MainModeOffer, payloads: tuple[wire.Payload, ...]
    ) -> None:
        self.offer = offer
        self.common = vendor_ids.common(self.options, payloads)
        transform = answer.proposals[0].transforms[0]
        self._authentication = authentication(self.policy, offer.auth, transform, payloads, initiator=self.initiator)

    # Messages 3 and 4

    @property
    def _cookies(self) -> bytes:
        return self.initiator_cookie + self.responder_cookie

    def _draw(self) -> None:
        self._exchange = DiffieHellman(self.offer.group, self._random)
        self._nonce = self._random(NONCE_LENGTH)

    def _own_key(self, message: Message, said: tuple[wire.Payload, ...]) -> tuple[wire.Payload, ...]:
        payloads = wire.KeyExchange(self._exchange.public), wire.Nonce(self._nonce), *said
        if self.common.dialect is None:
            return payloads
        source = NOWHERE if self.options.pretend_nat else message.local
        return *payloads, *detection_payloads(
            self.common.dialect, self.offer.hash, self._cookies, source, message.remote
        )

    def _answer_key(self, message: Message) -> tuple[wire.Payload, ...]:
        self._draw()
        self._agree(message)
        return self._own_key(message, self._authentication.say())

    def _send_auth(self, message: Message) -> tuple[wire.Payload, ...]:
        self._agree(message)
        return self._after_key()

    def _after_key(self) -> tuple[wire.Payload, ...]:
        if self._authentication.unfinished:
            return self._authentication.say()
        proof = self._own_proof()
        if self._initial_contact():
            return *proof, wire.Notification(Protocol.ISAKMP, self._cookies, Notify.INITIAL_CONTACT)
        return proof

    def _agree(self, message: Message) -> None:
        payloads = message.payloads
        public, nonce = wire.only(payloads, wire.KeyExchange).data, wire.only(payloads, wire.Nonce).data
        shared = self._exchange.shared(public)
        ours, theirs = self._exchange.public, public
        nonces, publics = (
            ((self._nonce, nonce), (ours, theirs)) if self.initiator else ((nonce, self._nonce), (theirs, ours))
        )
        algorithm = self.offer.hash
        self._authentication.hear(payloads)
        root = self._authentication.skeyid(algorithm, nonces, shared)
        self._skeyids = keys.derive_skeyids(algorithm, root, shared, self._cookies)
        self._cipher = keys.phase_one_cipher(self.offer, self._skeyids.encrypt)
        self._iv = self._first_iv = keys.phase_one_iv(algorithm, *publics, self._cipher.block)
        self._sent_block = self._received_block = self._iv
        self._peer_public = public
        if self.common.dialect is not None:
            self.nat = find_nat(
                self.common.dialect,
                payloads,
                algorithm,
                self._cookies,
                message.local,
                message.remote,
                pretend=self.options.pretend_nat,
            )

    # More round trips, in clear, for tokens alone

    def _answer_token(self, message: Message) -> tuple[wire.Payload, ...]:
        return self._authentication.answer(message.payloads)

    def _send_auth_after_token(self, message: Message) -> tuple[wire.Payload, ...]:
        self._authentication.hear(message.payloads)
        return self._after_key()

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
            identity.body() + self._authentication.covered(by_us=own),
        )

    def _own_proof(self) -> tuple[wire.Payload, ...]:
        identity = self._authentication.identity(self.local)
        return identity, *self._authentication.prove(self._proof(identity, by_initiator=self.initiator))

    def _verify(self, message: Message) -> None:
        try:
            identity = wire.only(message.payloads, wire.Identification)
            self._authentication.hear(message.payloads)
            proof = self._proof(identity, by_initiator=not self.initiator)
            peer = self._authentication.verify(message.now, identity, message.payloads, proof)
        except MalformedMessage as error:
            raise Unverified(str(error)) from error
        self.peer, self.peer_id = peer, identity.body()
        self._check_identity(identity)
        self.peer_initial_contact = any(
            notification.notify == Notify.INITIAL_CONTACT
            for notification in wire.every(message.payloads, wire.Notification)
        )

    def _check_identity(self, identity: wire.Identification) -> None:
        """RFC 2407 section 4.6.2: protocol and port are 0 or UDP and 500. An address is that of the peer's packets,
        unless a NAT has changed that."""
        usual = identity.protocol in (0, UDP) and identity.port in (0, UDP_PORT)
        if identity.kind == IdType.IPV4_ADDR:
            moved = self.nat is not None and self.nat.remote_behind and len(identity.data) == 4
            good = moved or identity.data == host(self.remote).network_address.packed
        else:
            good = identity.kind in NAMES and bool(identity.data)
        if not (usual and good):
            raise Refused(Notify.INVALID_ID_INFORMATION, FailureReason.ID_PAYLOAD)

    def _answer_auth(self, message: Message) -> tuple[wire.Payload, ...]:
        self._verify(message)
        return self._own_proof()

    def _finish(self, message: Message) -> tuple[wire.Payload, ...]:
        self._verify(message)
        return ()


@lru_cache(maxsize=64)
def _proposal(offers: tuple[MainModeOffer, ...], name: str | None) -> bytes:
    """The body of our SA payload; `name` is ours in GSS-API."""
    return with_gss_name(main_mode_proposal(offers), name).body()


@dataclass(frozen=True, slots=True)
class Transition:
    """`handler` verifies the payloads, updates the exchange and returns the payloads of the answer (or none).

    `unfinished` is the next state instead of `following` while the authentication wants more round trips.
    """

    handler: Callable[[MainMode, Message], tuple[wire.Payload, ...]]
    following: State
    unfinished: State | None = None


TRANSITIONS: dict[tuple[State, Kind], Transition] = {
    (State.LISTENING, Kind.SA): Transition(MainMode._answer_sa, State.SA_ANSWERED),
    (State.SA_SENT, Kind.SA): Transition(MainMode._send_key, State.KEY_SENT),
    (State.SA_ANSWERED, Kind.KEY): Transition(MainMode._answer_key, State.KEY_ANSWERED),
    (State.KEY_SENT, Kind.KEY): Transition(MainMode._send_auth, State.AUTH_SENT, State.TOKEN_SENT),
    (State.KEY_ANSWERED, Kind.TOKEN): Transition(MainMode._answer_token, State.KEY_ANSWERED),
    (State.TOKEN_SENT, Kind.TOKEN): Transition(MainMode._send_auth_after_token, State.AUTH_SENT, State.TOKEN_SENT),
    (State.KEY_ANSWERED, Kind.AUTH): Transition(MainMode._answer_auth, State.ESTABLISHED),
    (State.AUTH_SENT, Kind.AUTH): Transition(MainMode._finish, State.ESTABLISHED),
}
