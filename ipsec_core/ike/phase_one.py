"""The Main Modes of an engine: exchanges and SAs by cookies and by peer, and what comes of them."""

from __future__ import annotations

from collections.abc import Callable

from ipsec_core.ike import wire
from ipsec_core.ike.conversations import MainConversation, Path, Pending
from ipsec_core.ike.credentials import PeerIdentity
from ipsec_core.ike.defence import Allowance, Cookies, HalfOpen
from ipsec_core.ike.events import MainModeDeleted, MainModeEstablished, SoftAssociation
from ipsec_core.ike.failures import (
    AUTHENTICATION_FAILURES,
    FailurePoint,
    FailureReason,
    MalformedMessage,
    ProposalMismatch,
    Refused,
    Unverified,
    reason_of_notify,
)
from ipsec_core.ike.iana import (
    FIRST_STATUS_NOTIFY,
    MICROSOFT_VENDOR_ID,
    NAT_T_PORT,
    AuthMethod,
    ExchangeType,
    Notify,
    Protocol,
)
from ipsec_core.ike.main_mode import MainMode, State
from ipsec_core.ike.main_table import MainTable
from ipsec_core.ike.outbox import Acquires, Children, Outbox
from ipsec_core.ike.phase_two import QuickModes
from ipsec_core.ike.timers import Timer, rekey_after

# How long after its last use by the peer an SA without SA pairs is still worth a successor (the default SAIdleTime).
RECENT_SECONDS = 300.0
# How often a superseded SA is looked at, whether nothing is under way in it any more.
RETIRE_SECONDS = 10.0
# Cookies against floods that one negotiation of ours obeys.
MAX_COOKIES = 3


class MainModes:
    """`advance` is called with (now, remote) when acquires may be able to go on."""

    def __init__(
        self,
        out: Outbox,
        table: MainTable,
        acquires: Acquires,
        children: Children,
        quick_modes: QuickModes,
        advance: Callable[[float, str], None],
    ) -> None:
        self._out = out
        self._table = table
        self._acquires = acquires
        self._children = children
        self._quick_modes = quick_modes
        self._advance = advance
        options = out.options
        self._cookies = Cookies(out.random)
        # Half-open: before and after message 3, which shows that the peer gets mail at its address.
        self._allowance = Allowance(options.unproven_failures)
        self._unproven = HalfOpen(options.max_half_open, options.max_half_open_per_peer)
        self._proven = HalfOpen(options.max_half_open, options.max_half_open_per_peer)
        # Where to keep a NAT's mapping alive, by peer.
        self._kept_alive: dict[str, Path] = {}

    def start(self, now: float, remote: str) -> MainConversation | None:
        """Begin a Main Mode with `remote`. None if policy has none for it, which answers what waits."""
        policy = self._out.policy.main_mode(self._out.local, remote)
        if policy is None:
            for pending in self._acquires.waiting(remote):
                self._acquires.answered([pending])
                self._out.main_mode_failed(now, remote, pending, FailureReason.NO_POLICY, FailurePoint.ME)
            return None
        exchange = MainMode(
            initiator=True,
            local=self._out.local,
            remote=remote,
            policy=policy,
            random=self._out.random,
            cookie=self._new_cookie(),
            initial_contact=lambda: self._is_stranger(remote),
            options=self._out.options,
        )
        main = MainConversation(remote, exchange=exchange, path=Path(remote), created=now)
        self._table.add(main)
        self._out.send_new(now, main, exchange.start())
        return main

    def _is_stranger(self, remote: str) -> bool:
        """Nothing is established with `remote`: INITIAL-CONTACT may tell it so (RFC 2407 section 4.6.3.3)."""
        return not self._children.with_peer(remote) and not self._table.alive(remote)

    def _new_cookie(self) -> bytes:
        while (cookie := self._out.random(wire.COOKIE_LENGTH)) == wire.NO_COOKIE or self._table.taken(cookie):
            pass
        return cookie

    # Receiving

    def note_life(self, data: bytes, address: str) -> None:
        """Whoever sends anything with our cookie in it speaks IKE: no acquire goes on in clear for its silence."""
        main = self._table.unanswered(data[: wire.COOKIE_LENGTH])
        if main is not None and main.remote == address:
            main.alive = True
            self._out.timers.cancel((Timer.SOFT, main))

    def receive(self, now: float, header: wire.Header, data: bytes, origin: Path) -> None:
        if header.message_id:
            raise MalformedMessage(Notify.INVALID_MESSAGE_ID, "a message id in Main Mode")
        main = self._find(now, header, origin)
        if main is None:
            self._open(now, header, data, origin)
            return
        main.origin = origin
        if data != main.last_received:
            self._continue(now, main, header, data)
        elif main.established is None or not main.exchange.initiator:
            # What we sent last got lost. An initiator that is done owes nothing.
            self._out.repeat(main)

    def _find(self, now: float, header: wire.Header, origin: Path) -> MainConversation | None:
        """The negotiation that a message belongs to; None for one that can only be a new message 1."""
        if header.responder_cookie == wire.NO_COOKIE:
            if self._table.taken(header.initiator_cookie):
                raise MalformedMessage(Notify.INVALID_COOKIE, "our own first message came back")
            return self._table.opened(origin.address, header.initiator_cookie)
        if not self._table.known(header) and self._cookies.recognise(
            now, origin.address, header.initiator_cookie, header.responder_cookie
        ):
            # Message 1 again, with the cookie that it was refused for, or one that was half-open and had to go.
            return None
        return self._table.negotiation(header, origin)

    def _open(self, now: float, header: wire.Header, data: bytes, origin: Path) -> None:
        remote, initiator_cookie = origin.address, header.initiator_cookie
        proven = header.responder_cookie != wire.NO_COOKIE
        cookie = header.responder_cookie if proven else self._cookies.make(now, remote, initiator_cookie)
        if header.encrypted or self._table.taken(initiator_cookie, cookie):
            raise MalformedMessage(Notify.INVALID_COOKIE, "not the first message of a negotiation")
        if not proven and self._out.options.dos_protect and self._unproven.busy and MICROSOFT_VENDOR_ID in data:
            # [MS-IKEE] 2.2.6: others than Microsoft do not know this notify and go the usual way.
            self._out.counters["Cookies demanded"] += 1
            self._notify_clear(header, cookie, len(data), origin, Notify.MICROSOFT_COOKIE, cookie)
            return
        policy = self._out.policy.main_mode(self._out.local, remote)
        try:
            if policy is None:
                wire.only(wire.parse_clear(header, data), wire.SecurityAssociation)
                raise Refused(Notify.NO_PROPOSAL_CHOSEN, FailureReason.NO_POLICY)
            exchange = MainMode(
                initiator=False,
                local=self._out.local,
                remote=remote,
                policy=policy,
                random=self._out.random,
                cookie=cookie,
                peer_cookie=initiator_cookie,
                options=self._out.options,
            )
            answer = exchange.receive(header, data, now=now, local_port=origin.local_port, remote_port=origin.port)
        except Refused as refusal:
            self._notify_clear(header, cookie, len(data), origin, refusal.notify)
            if proven or self._allowed(now):
                self._out.main_mode_failed(now, remote, None, refusal.reason, FailurePoint.ME, refusal.details)
            return
        assert answer is not None
        main = MainConversation(remote, exchange=exchange, path=origin, created=now, heard=True, last_received=data)
        self._table.add(main)
        self._admit(now, main, self._proven if proven else self._unproven)
        alone = not self._unproven.busy and self._unproven.of(remote) <= 1
        self._out.send_new(now, main, answer, retransmit=proven or (alone and self._out.options.retransmit_first_reply))

    def _allowed(self, now: float) -> bool:
        """Whether a failure that anybody can cause may become an event."""
        allowed = self._allowance.take(now)
        self._out.counters["Failures not reported"] += not allowed
        return allowed

    def dubious(self, main: MainConversation) -> bool:
        """Whether nobody may be there to read another copy of message 2: many others are half-open, too."""
        return self._unproven.busy and main in self._unproven

    def _admit(self, now: float, main: MainConversation, table: HalfOpen) -> None:
        oldest = table.add(main)
        if oldest is None:
            return
        self._out.counters["Half-open main modes refused"] += 1
        if table is self._unproven:
            # Probably forged, and in any case nobody here waits for it: no event.
            self._remove(oldest)
        else:
            self.failed(now, oldest, FailureReason.MAIN_MODE_QUEUE_DROPPED, FailurePoint.ME)

    def _notify_clear(
        self,
        header: wire.Header,
        cookie: bytes,
        request_length: int,
        origin: Path,
        notify: Notify,
        data: bytes = b"",
    ) -> None:
        """Answer message 1 with a notify. That is not longer than the request, whose sender may be forged."""
        payloads = (wire.Notification(Protocol.ISAKMP, b"", notify, data),)
        answer = wire.Header(
            header.initiator_cookie,
            cookie,
            ExchangeType.INFORMATIONAL,
            message_id=int.from_bytes(self._out.random(4)) or 1,
            next_payload=wire.first_type(payloads),
        )
        message = wire.encode_clear(answer, payloads)
        if len(message) <= request_length:
            self._out.send(message, origin, "Notify")

    def _continue(self, now: float, main: MainConversation, header: wire.Header, data: bytes) -> None:
        exchange = main.exchange
        cookies = main.cookies
        try:
            answer = exchange.receive(
                header, data, now=now, local_port=main.origin.local_port, remote_port=main.origin.port
            )
        except Unverified:
            # Damage does not repeat itself; a peer with another key sends the same bytes again.
            if data == main.suspect:
                if exchange.initiator or exchange.offer.auth is not AuthMethod.PRESHARED_KEY:
                    self._refuse(main, header, len(data), Notify.AUTHENTICATION_FAILED)
                # A notify would be under keys made from our preshared key: whoever has done the key exchange with us
                # could try keys on it at home.
                self.failed(now, main, FailureReason.CREDENTIALS_UNACCEPTABLE, FailurePoint.PEER)
            main.suspect = data
            raise
        except Refused as refusal:
            self._refuse(main, header, len(data), refusal.notify)
            self.failed(now, main, refusal.reason, FailurePoint.ME, refusal.details)
            return
        main.last_received, main.heard = data, True
        if header.encrypted:
            main.path = main.origin
        if main.cookies != cookies:
            self._table.answered(main)
        if exchange.state is State.AUTH_SENT and main.nat is not None and main.path.local_port != NAT_T_PORT:
            # RFC 3947 section 4: away from the port that NATs with a mind of their own treat as IKE.
            main.path = Path(main.remote, NAT_T_PORT, NAT_T_PORT)
        if exchange.state is State.KEY_ANSWERED and self._unproven.remove(main):
            self._admit(now, main, self._proven)
        self._out.timers.cancel((Timer.RETRANSMIT, main))
        self._out.timers.cancel((Timer.SOFT, main))
        if exchange.state is not State.ESTABLISHED:
            assert answer is not None
            self._out.send_new(now, main, answer)
            return
        if answer is not None:
            main.last_sent = answer
            self._out.transmit(main)
        self._established(now, main)

    def _refuse(self, main: MainConversation, header: wire.Header, request_length: int, notify: Notify) -> None:
        """Tell the peer why its message ends the exchange, protected if there are keys ([MS-IKEE] 3.1.5)."""
        exchange = main.exchange
        if not exchange.keyed:
            self._notify_clear(header, exchange.responder_cookie, request_length, main.origin, notify)
            return
        notification = wire.Notification(Protocol.ISAKMP, b"".join(main.cookies), notify)
        message = exchange.seal_notify(self._out.new_message_id(main), notification)
        # Another address has proved nothing, and the notify is longer than what may have come from there.
        path = main.origin if main.origin.address == main.remote else main.path
        self._out.send(message, path, "Notify")

    def _established(self, now: float, main: MainConversation) -> None:
        exchange, lifetime = main.exchange, main.exchange.offer.lifetime_seconds
        assert exchange.peer is not None
        stranger = self._is_stranger(main.remote)
        main.established = main.used = now
        self._proven.remove(main)
        self._out.counters["Oakley main modes"] += 1
        self._out.timers.set((Timer.LIFETIME, main), now + lifetime)
        if exchange.initiator:
            self._out.timers.set((Timer.REKEY, main), now + rekey_after(lifetime))
        if main.nat is not None and main.nat.local_behind:
            self._kept_alive[main.remote] = main.path
            self._out.timers.set((Timer.KEEP_ALIVE, main.remote), now + self._out.options.keep_alive)
        self._out.note("Main mode established with %s", main.remote)
        self._out.events.append(
            MainModeEstablished(
                now,
                self._out.local,
                main.remote,
                exchange.initiator,
                exchange.offer,
                lifetime,
                *main.cookies,
                exchange.session.cipher.key if self._out.key_log else None,
                exchange.peer,
            )
        )
        if exchange.peer_initial_contact:
            self.initial_contact(now, main)
        elif stranger and not exchange.initiator:
            # The peer thinks that it knows us, but we have lost what it may have with us (RFC 2407 section 4.6.3.3).
            contact = wire.Notification(Protocol.ISAKMP, b"".join(main.cookies), Notify.INITIAL_CONTACT)
            self._out.send_informational(main, contact)
        self._supersede(now, main)
        self._advance(now, main.remote)

    def receive_clear_notify(self, now: float, header: wire.Header, data: bytes, origin: Path) -> None:
        """In clear only an error about a Main Mode of ours counts, and only until that is established."""
        payloads = wire.parse_clear(header, data)
        main = self._table.negotiation(header, origin)
        if not main.exchange.initiator or main.established is not None:
            raise MalformedMessage(Notify.INVALID_COOKIE, "clear notify without a negotiation of ours")
        for notification in wire.every(payloads, wire.Notification):
            if notification.notify == Notify.MICROSOFT_COOKIE:
                self._begin_with_cookie(main, notification.data)
        self._refused_by_peer(now, main, payloads)

    def receive_early_notify(self, now: float, main: MainConversation, header: wire.Header, data: bytes) -> None:
        """A protected notify before the SA is established."""
        if not main.exchange.keyed:
            raise MalformedMessage(Notify.INVALID_FLAGS, "encrypted before there are keys")
        try:
            payloads = main.exchange.open_notify(header, data)
        except Unverified as error:
            # It may have overtaken the message that establishes the SA under which it is sealed.
            raise MalformedMessage(Notify.INVALID_COOKIE, f"under no keys of now: {error}") from error
        self._refused_by_peer(now, main, payloads)

    def receive_late_notify(self, now: float, main: MainConversation, header: wire.Header, data: bytes) -> None:
        """An initiator that refuses our message 6 seals its notify with the keys of a Main Mode that is not over."""
        payloads = main.exchange.open_notify(header, data)
        self._out.proved(now, main, header.message_id)
        reason = _error(payloads)
        if reason is not None:
            self._out.counters["Authentication failures"] += reason in AUTHENTICATION_FAILURES
            self._out.main_mode_failed(now, main.remote, None, reason, FailurePoint.PEER, peer=_claimed(main, reason))
            self.end(now, main, FailurePoint.PEER)

    def _refused_by_peer(self, now: float, main: MainConversation, payloads: tuple[wire.Payload, ...]) -> None:
        reason = _error(payloads)
        if reason is not None:
            self.failed(now, main, reason, FailurePoint.PEER)

    def _begin_with_cookie(self, main: MainConversation, cookie: bytes) -> None:
        """Message 1 again with the responder cookie that a peer under a flood asks for ([MS-IKEE] 2.2.6)."""
        if main.exchange.state is not State.SA_SENT or len(cookie) != wire.COOKIE_LENGTH:
            raise MalformedMessage(Notify.INVALID_COOKIE, "a cookie that nobody needs")
        if main.cookies_asked >= MAX_COOKIES:
            raise MalformedMessage(Notify.INVALID_COOKIE, f"more than {MAX_COOKIES} cookies")
        main.cookies_asked += 1
        first = main.last_sent
        main.last_sent = first[: wire.COOKIE_LENGTH] + cookie + first[2 * wire.COOKIE_LENGTH :]
        self._out.transmit(main)

    def initial_contact(self, now: float, main: MainConversation) -> None:
        """The peer has lost what it had with us before. What began after this exchange did it cannot mean.

        Behind a NAT other computers share its address, and nobody can tell whose the SAs are: they end by themselves.
        """
        if main.peer_behind:
            return
        for other in self._table.alive(main.remote):
            if other is not main and other.established is not None and other.established < main.created:
                self.end(now, other, FailurePoint.PEER)
        for child in self._children.with_peer(main.remote):
            if child.created < main.created:
                self._children.forget(now, child, FailurePoint.PEER)

    # One in the place of another

    def _supersede(self, now: float, main: MainConversation) -> None:
        """Leave one SA with the peer.

        Of two that the same end began the newer stays. Of two that both ends began at once, that with the higher
        cookies stays: both ends know them and come to the same result. The end that began the other one deletes it when
        nothing is under way in it any more; until then it does its work.
        """
        for other in self._table.alive(main.remote):
            if other is main or other.superseded:
                continue
            newer = other.exchange.initiator is main.exchange.initiator
            loser = other if newer or other.cookies < main.cookies else main
            loser.superseded = True
            if loser.exchange.initiator:
                self._out.timers.set((Timer.RETIRE, loser), now + RETIRE_SECONDS)
            if loser is main:
                return

    def retire(self, now: float, main: MainConversation) -> None:
        """Delete a superseded SA, unless it is needed after all."""
        if self._table.alive(main.remote)[-1].superseded:
            main.superseded = False
        elif main.quick:
            self._out.timers.set((Timer.RETIRE, main), now + RETIRE_SECONDS)
        else:
            self.end(now, main, FailurePoint.ME)

    def rekey(self, now: float, main: MainConversation) -> None:
        """Begin the successor of an SA of ours that ends soon, if there is use for one. The old one stays meanwhile."""
        others = [other for other in self._table.with_peer(main.remote) if other is not main]
        if any(other.promising or (other.established is not None and not other.superseded) for other in others):
            return
        if self._children.with_peer(main.remote) or main.quick or now < main.used + RECENT_SECONDS:
            self.start(now, main.remote)

    def keep_alive(self, now: float, remote: str) -> None:
        """RFC 3948 section 4: while there is an SA with the peer, our NAT has to remember us."""
        alive = self._table.alive(remote)
        path = alive[-1].path if alive else self._kept_alive.pop(remote)
        if alive or self._children.with_peer(remote):
            self._kept_alive[remote] = path
            self._out.send_keep_alive(path)
            self._out.timers.set((Timer.KEEP_ALIVE, remote), now + self._out.options.keep_alive)

    # Ending

    def failed(
        self,
        now: float,
        main: MainConversation,
        reason: FailureReason,
        point: FailurePoint,
        details: ProposalMismatch | None = None,
    ) -> None:
        """End a Main Mode without success, and answer what waited for it, unless there is another way."""
        if main in self._unproven and not self._allowed(now):
            self._remove(main)
            return
        self._remove(main)
        self._out.counters["Authentication failures"] += reason in AUTHENTICATION_FAILURES
        hopeless = main.exchange.initiator and not any(
            other.ready or other.promising for other in self._table.with_peer(main.remote)
        )
        waiting: list[Pending | None] = [*self._acquires.waiting(main.remote)] if hopeless else []
        for pending in waiting or [None]:
            if pending is not None:
                self._acquires.answered([pending])
            self._out.main_mode_failed(now, main.remote, pending, reason, point, details, _claimed(main, reason))
        self._advance(now, main.remote)

    def end(self, now: float, main: MainConversation, by: FailurePoint, *, tell: bool = True) -> None:
        """Take away a Main Mode in any state. Acquires that a Quick Mode under it carries begin anew."""
        if main.established is None:
            self.failed(now, main, FailureReason.DELETED_BEFORE_COMPLETION, by)
            return
        if tell and by is FailurePoint.ME:
            spi = b"".join(main.cookies)
            self._out.send_informational(main, wire.Delete(Protocol.ISAKMP, len(spi), (spi,)))
        self._remove(main)
        self._out.note("Main mode with %s deleted by %s", main.remote, by.value)
        self._out.events.append(MainModeDeleted(now, self._out.local, main.remote, *main.cookies, by))
        reason = FailureReason.DELETED_BY_PEER if by is FailurePoint.PEER else FailureReason.DELETED_BEFORE_COMPLETION
        for quick in list(main.quick.values()):
            if quick.over:
                self._quick_modes.forget(now, quick)
            else:
                self._quick_modes.failed(now, quick, reason, by, again=True)
        # What held back for the peer's first Quick Mode waited for a timer of this one.
        self._advance(now, main.remote)

    def _remove(self, main: MainConversation) -> None:
        self._table.remove(main)
        self._unproven.remove(main)
        self._proven.remove(main)
        for kind in (Timer.RETRANSMIT, Timer.LIFETIME, Timer.SOFT, Timer.REKEY, Timer.RETIRE, Timer.BEGIN):
            self._out.timers.cancel((kind, main))

    def give_in(self, now: float, main: MainConversation) -> None:
        """The peer has been silent for long: acquires that allow it go on in clear."""
        remote = main.remote
        for pending in self._acquires.waiting(remote):
            if pending.request.allow_soft:
                self._out.counters["Soft associations"] += 1
                self._out.note("Soft association with %s: %s", remote, pending.request.selectors)
                answers = self._acquires.answered([pending])
                self._out.events.append(
                    SoftAssociation(now, self._out.local, remote, pending.request.selectors, answers)
                )
        if not self._acquires.waiting(remote):
            self._remove(main)


def _error(payloads: tuple[wire.Payload, ...]) -> FailureReason | None:
    """What the first error among notifies says."""
    errors = (item.notify for item in wire.every(payloads, wire.Notification) if item.notify < FIRST_STATUS_NOTIFY)
    return next(map(reason_of_notify, errors), None)


def _claimed(main: MainConversation, reason: FailureReason) -> PeerIdentity | None:
    """Who the peer said it was; where one end refused the other before that, by what method it would have."""
    offer = getattr(main.exchange, "offer", None)
    if main.exchange.peer is None and offer is not None and reason in AUTHENTICATION_FAILURES:
        return PeerIdentity(offer.auth)
    return main.exchange.peer
