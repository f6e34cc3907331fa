"""The Main Modes of an engine: exchanges and SAs by cookies and by peer, and what comes of them."""

from __future__ import annotations

from collections.abc import Callable

from ipsec_core.ike import wire
from ipsec_core.ike.conversations import MainConversation, Pending
from ipsec_core.ike.events import MainModeDeleted, MainModeEstablished, SoftAssociation
from ipsec_core.ike.failures import (
    FailurePoint,
    FailureReason,
    MalformedMessage,
    ProposalMismatch,
    Refused,
    Unverified,
    reason_of_notify,
)
from ipsec_core.ike.iana import FIRST_STATUS_NOTIFY, UDP_PORT, ExchangeType, Notify, Protocol
from ipsec_core.ike.main_mode import MainMode, State
from ipsec_core.ike.outbox import Acquires, Children, Outbox
from ipsec_core.ike.phase_two import QuickModes
from ipsec_core.ike.timers import Timer

# Main Modes that others began and that are not established yet: in all, and from one address.
MAX_HALF_OPEN = 256
MAX_HALF_OPEN_PER_PEER = 16


class MainModes:
    """`advance` is called with (now, remote) when acquires may be able to go on."""

    def __init__(
        self,
        out: Outbox,
        acquires: Acquires,
        children: Children,
        quick_modes: QuickModes,
        advance: Callable[[float, str], None],
    ) -> None:
        self._out = out
        self._acquires = acquires
        self._children = children
        self._quick_modes = quick_modes
        self._advance = advance
        # By (initiator cookie, responder cookie); the latter is zero until message 2 tells it.
        self._by_cookies: dict[tuple[bytes, bytes], MainConversation] = {}
        # Those that a peer began, by (address, initiator cookie): to know a repeated message 1.
        self._openings: dict[tuple[str, bytes], MainConversation] = {}
        self._by_peer: dict[str, list[MainConversation]] = {}
        self._half_open: dict[MainConversation, str] = {}

    def all(self) -> list[MainConversation]:
        return list(self._by_cookies.values())

    def with_peer(self, remote: str) -> list[MainConversation]:
        """Oldest first."""
        return list(self._by_peer.get(remote, ()))

    def established(self, header: wire.Header, remote: str) -> MainConversation:
        """The SA that a message of phase 2 belongs to; MalformedMessage if it cannot be one."""
        main = self._by_cookies.get((header.initiator_cookie, header.responder_cookie))
        if main is None or main.established is None or main.remote != remote:
            raise MalformedMessage(Notify.INVALID_COOKIE, "no Main Mode SA with these cookies and this peer")
        if not header.encrypted:
            raise MalformedMessage(Notify.INVALID_FLAGS, "phase 2 in clear")
        if not header.message_id:
            raise MalformedMessage(Notify.INVALID_MESSAGE_ID, "message id 0 in phase 2")
        return main

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
        main = MainConversation(remote, UDP_PORT, exchange=exchange, created=now)
        self._by_cookies[exchange.initiator_cookie, wire.NO_COOKIE] = main
        self._by_peer.setdefault(remote, []).append(main)
        self._out.send_new(now, main, exchange.start())
        return main

    def _is_stranger(self, remote: str) -> bool:
        """Nothing is established with `remote`: INITIAL-CONTACT may tell it so (RFC 2407 section 4.6.3.3)."""
        return not self._children.with_peer(remote) and all(main.established is None for main in self.with_peer(remote))

    def _new_cookie(self) -> bytes:
        taken = {cookie for pair in self._by_cookies for cookie in pair} | {wire.NO_COOKIE}
        while (cookie := self._out.random(wire.COOKIE_LENGTH)) in taken:
            pass
        return cookie

    # Receiving

    def receive(self, now: float, header: wire.Header, data: bytes, source: tuple[str, int]) -> None:
        if header.message_id:
            raise MalformedMessage(Notify.INVALID_MESSAGE_ID, "a message id in Main Mode")
        main = self._find(header, source[0])
        if main is None:
            self._open(now, header, data, source)
        elif data != main.last_received:
            self._continue(now, main, header, data)
        elif main.established is None or not main.exchange.initiator:
            # What we sent last got lost. An initiator that is done owes nothing.
            self._out.repeat(main)

    def _find(self, header: wire.Header, remote: str) -> MainConversation | None:
        """The negotiation that a message belongs to; None for one that can only be a new message 1."""
        if header.responder_cookie == wire.NO_COOKIE:
            if (header.initiator_cookie, wire.NO_COOKIE) in self._by_cookies:
                raise MalformedMessage(Notify.INVALID_COOKIE, "our own first message came back")
            return self._openings.get((remote, header.initiator_cookie))
        main = self._lookup(header)
        if main is None or main.remote != remote:
            raise MalformedMessage(Notify.INVALID_COOKIE, "no such negotiation with this peer")
        return main

    def _lookup(self, header: wire.Header) -> MainConversation | None:
        cookies = (header.initiator_cookie, header.responder_cookie)
        return self._by_cookies.get(cookies) or self._by_cookies.get((header.initiator_cookie, wire.NO_COOKIE))

    def _open(self, now: float, header: wire.Header, data: bytes, source: tuple[str, int]) -> None:
        remote = source[0]
        half_open = list(self._half_open.values())
        if len(half_open) >= MAX_HALF_OPEN or half_open.count(remote) >= MAX_HALF_OPEN_PER_PEER:
            self._out.counters["Half-open main modes refused"] += 1
            return
        policy = self._out.policy.main_mode(self._out.local, remote)
        cookie = self._new_cookie()
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
                peer_cookie=header.initiator_cookie,
                options=self._out.options,
            )
            answer = exchange.receive(header, data, now=now, remote_port=source[1])
        except Refused as refusal:
            self._notify_clear(header, cookie, len(data), source, refusal.notify)
            self._out.main_mode_failed(now, remote, None, refusal.reason, FailurePoint.ME, refusal.details)
            return
        assert answer is not None
        main = MainConversation(remote, source[1], exchange=exchange, created=now, heard=True, last_received=data)
        self._by_cookies[header.initiator_cookie, cookie] = main
        self._openings[remote, header.initiator_cookie] = main
        self._half_open[main] = remote
        self._by_peer.setdefault(remote, []).append(main)
        self._out.send_new(now, main, answer)

    def _notify_clear(
        self, header: wire.Header, cookie: bytes, request_length: int, source: tuple[str, int], notify: Notify
    ) -> None:
        """Refuse message 1. The answer is not longer than the request, whose sender may be forged."""
        payloads = (wire.Notification(Protocol.ISAKMP, b"", notify),)
        answer = wire.Header(
            header.initiator_cookie,
            cookie,
            ExchangeType.INFORMATIONAL,
            message_id=int.from_bytes(self._out.random(4)) or 1,
            next_payload=wire.first_type(payloads),
        )
        message = wire.encode_clear(answer, payloads)
        if len(message) <= request_length:
            self._out.send(message, source, "Notify")

    def _continue(self, now: float, main: MainConversation, header: wire.Header, data: bytes) -> None:
        exchange = main.exchange
        unanswered = exchange.responder_cookie == wire.NO_COOKIE
        try:
            answer = exchange.receive(header, data, now=now, remote_port=main.port)
        except Unverified:
            # Damage does not repeat itself; a peer with another key sends the same bytes again.
            if data == main.suspect:
                self.failed(now, main, FailureReason.CREDENTIALS_UNACCEPTABLE, FailurePoint.PEER)
            main.suspect = data
            raise
        except Refused as refusal:
            self.failed(now, main, refusal.reason, FailurePoint.ME, refusal.details)
            return
        main.last_received, main.heard = data, True
        if unanswered:
            del self._by_cookies[exchange.initiator_cookie, wire.NO_COOKIE]
            self._by_cookies[exchange.initiator_cookie, exchange.responder_cookie] = main
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

    def _established(self, now: float, main: MainConversation) -> None:
        exchange = main.exchange
        assert exchange.peer is not None
        main.established = now
        self._half_open.pop(main, None)
        self._out.counters["Oakley main modes"] += 1
        self._out.timers.set((Timer.LIFETIME, main), now + exchange.offer.lifetime_seconds)
        self._out.trace(f"Main mode established with {main.remote}")
        self._out.events.append(
            MainModeEstablished(
                now,
                self._out.local,
                main.remote,
                exchange.initiator,
                exchange.offer,
                exchange.offer.lifetime_seconds,
                exchange.initiator_cookie,
                exchange.responder_cookie,
                exchange.session.cipher.key if self._out.key_log else None,
                exchange.peer,
            )
        )
        if exchange.peer_initial_contact:
            self.initial_contact(now, main)
        self._advance(now, main.remote)

    def receive_clear_notify(self, now: float, header: wire.Header, data: bytes, remote: str) -> None:
        """In clear only an error about a Main Mode of ours counts, and only until that is established."""
        payloads = wire.parse_clear(header, data)
        main = self._lookup(header)
        if main is None or main.remote != remote or not main.exchange.initiator or main.established is not None:
            raise MalformedMessage(Notify.INVALID_COOKIE, "clear notify without a negotiation of ours")
        for notification in wire.every(payloads, wire.Notification):
            if notification.notify < FIRST_STATUS_NOTIFY:
                self.failed(now, main, reason_of_notify(notification.notify), FailurePoint.PEER)
                return

    def initial_contact(self, now: float, main: MainConversation) -> None:
        """The peer has lost what it had with us before. What began after this exchange did it cannot mean."""
        for other in self.with_peer(main.remote):
            if other is not main and other.established is not None and other.established < main.created:
                self.end(now, other, FailurePoint.PEER)
        for child in self._children.with_peer(main.remote):
            if child.created < main.created:
                self._children.forget(now, child, FailurePoint.PEER)

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
        self._remove(main)
        if reason is FailureReason.CREDENTIALS_UNACCEPTABLE:
            self._out.counters["Authentication failures"] += 1
        hopeless = main.exchange.initiator and not any(
            other.ready or other.promising for other in self.with_peer(main.remote)
        )
        waiting: list[Pending | None] = [*self._acquires.waiting(main.remote)] if hopeless else []
        for pending in waiting or [None]:
            if pending is not None:
                self._acquires.answered([pending])
            self._out.main_mode_failed(now, main.remote, pending, reason, point, details)
        self._advance(now, main.remote)

    def end(self, now: float, main: MainConversation, by: FailurePoint, *, tell: bool = True) -> None:
        """Take away a Main Mode in any state. Acquires that a Quick Mode under it carries begin anew."""
        if main.established is None:
            self.failed(now, main, FailureReason.DELETED_BEFORE_COMPLETION, by)
            return
        exchange = main.exchange
        if tell and by is FailurePoint.ME:
            spi = exchange.initiator_cookie + exchange.responder_cookie
            self._out.send_informational(main, wire.Delete(Protocol.ISAKMP, len(spi), (spi,)))
        self._remove(main)
        self._out.trace(f"Main mode with {main.remote} deleted by {by.value}")
        self._out.events.append(
            MainModeDeleted(now, self._out.local, main.remote, exchange.initiator_cookie, exchange.responder_cookie, by)
        )
        reason = FailureReason.DELETED_BY_PEER if by is FailurePoint.PEER else FailureReason.DELETED_BEFORE_COMPLETION
        for quick in list(main.quick.values()):
            if quick.over:
                self._quick_modes.forget(now, quick)
            else:
                self._quick_modes.failed(now, quick, reason, by, again=True)

    def _remove(self, main: MainConversation) -> None:
        exchange, remote = main.exchange, main.remote
        del self._by_cookies[exchange.initiator_cookie, exchange.responder_cookie]
        if not exchange.initiator:
            del self._openings[remote, exchange.initiator_cookie]
        self._half_open.pop(main, None)
        self._by_peer[remote].remove(main)
        if not self._by_peer[remote]:
            del self._by_peer[remote]
        for kind in (Timer.RETRANSMIT, Timer.LIFETIME, Timer.SOFT):
            self._out.timers.cancel((kind, main))

    def give_in(self, now: float, main: MainConversation) -> None:
        """The peer has been silent for long: acquires that allow it go on in clear."""
        remote = main.remote
        for pending in self._acquires.waiting(remote):
            if pending.request.allow_soft:
                self._out.counters["Soft associations"] += 1
                self._out.trace(f"Soft association with {remote}: {pending.request.selectors}")
                answers = self._acquires.answered([pending])
                self._out.events.append(
                    SoftAssociation(now, self._out.local, remote, pending.request.selectors, answers)
                )
        if not self._acquires.waiting(remote):
            self._remove(main)
