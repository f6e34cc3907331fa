"""The Quick Modes of an engine: exchanges by message id under each Main Mode SA, and what comes of them."""

from __future__ import annotations

from collections.abc import Callable

from ipsec_core.errors import NegotiationError
from ipsec_core.ike import wire
from ipsec_core.ike.conversations import Child, MainConversation, Pending, QuickConversation
from ipsec_core.ike.events import ChildSa, Mode, NegotiationFailed, QuickModeAnswered, QuickModeEstablished
from ipsec_core.ike.failures import (
    FailurePoint,
    FailureReason,
    MalformedMessage,
    ProposalMismatch,
    Refused,
    reason_of_notify,
)
from ipsec_core.ike.iana import NAT_T_PORT, Notify, Protocol
from ipsec_core.ike.nat import UdpEncapsulation
from ipsec_core.ike.outbox import Acquires, Children, Outbox
from ipsec_core.ike.quick_mode import MIN_SPI, QuickMode, RefusedByPeer, State
from ipsec_core.ike.timers import Timer

# Quick Modes that a peer may have under way at once under one Main Mode SA.
MAX_QUICK_MODES = 64
# Quick Modes for one acquire whose Main Mode SA is deleted under them.
MAX_TRIES = 3
MAX_SPI = 0xFFFF_FFFF


class QuickModes:
    """`advance` is called with (now, remote) when acquires may have lost their carrier."""

    def __init__(
        self,
        out: Outbox,
        acquires: Acquires,
        children: Children,
        allocate_spi: Callable[[], int],
        advance: Callable[[float, str], None],
    ) -> None:
        self._out = out
        self._acquires = acquires
        self._children = children
        self._allocate = allocate_spi
        self._advance = advance
        # Those of ours that wait for CONNECTED, by inbound SPI.
        self._unconnected: dict[int, QuickConversation] = {}

    def start(self, now: float, main: MainConversation, pending: Pending) -> None:
        """Begin a Quick Mode for an acquire."""
        quick = self._new(main, self._out.new_message_id(main), initiator=True)
        request = pending.request
        try:
            message = quick.exchange.start(request.selectors, request.offers, request.reference)
        except Refused as refusal:
            answers = self._acquires.answered([pending])
            self._report_failure(now, quick, refusal.reason, FailurePoint.ME, refusal.details, answers)
            return
        quick.previous = self._children.latest(main.remote, request.selectors)
        main.quick[quick.exchange.message_id] = quick
        main.quick_modes_started += 1
        pending.carrier = quick
        pending.tries += 1
        self._out.send_new(now, quick, message)

    def join(self, main: MainConversation, pending: Pending) -> bool:
        """Let a Quick Mode that the peer began serve an acquire of ours as well, if there is one that does."""
        for quick in main.quick.values():
            if _serves(quick.exchange, pending):
                pending.carrier = quick
                return True
        return False

    def receive(self, now: float, main: MainConversation, header: wire.Header, data: bytes) -> None:
        """A message under the SA of `main`."""
        quick = main.quick.get(header.message_id)
        if quick is None:
            main.check_message_id(header.message_id)
            if main.quick_modes_of_peer >= MAX_QUICK_MODES:
                raise MalformedMessage(Notify.INVALID_MESSAGE_ID, f"more than {MAX_QUICK_MODES} Quick Modes at once")
            quick = self._new(main, header.message_id, initiator=False)
        elif data == quick.last_received:
            self._out.repeat(quick)
            return
        elif quick.over:
            raise MalformedMessage(Notify.INVALID_MESSAGE_ID, "that Quick Mode is over")
        self._continue(now, quick, header, data)

    def _new(self, main: MainConversation, message_id: int, *, initiator: bool) -> QuickConversation:
        local, remote = self._out.local, main.remote
        exchange = QuickMode(
            main.exchange.session,
            message_id,
            initiator=initiator,
            local=local,
            remote=remote,
            random=self._out.random,
            allocate_spi=self._new_spi,
            find_policy=lambda selectors: self._out.policy.quick_mode(local, remote, selectors),
            nat=main.exchange.nat,
            commit=self._out.options.commit_bit,
        )
        return QuickConversation(remote, exchange=exchange, main=main)

    def _new_spi(self) -> int:
        spi = self._allocate()
        if not MIN_SPI <= spi <= MAX_SPI or spi in self._children:
            raise NegotiationError(f"allocate_spi: {spi:#x} is in use or outside {MIN_SPI}..{MAX_SPI}")
        return spi

    def _continue(self, now: float, quick: QuickConversation, header: wire.Header, data: bytes) -> None:
        main, exchange = quick.main, quick.exchange
        refusal: Refused | None = None
        end: RefusedByPeer | None = None
        answer: bytes | None = None
        try:
            answer = exchange.receive(header, data)
        except Refused as refused:
            refusal = refused
        except RefusedByPeer as refused:
            end = refused
        for notification in exchange.notifications:
            self._out.note("Notify: type %s from %s", notification.notify, quick.remote)
        # Only now is it known that the message is the peer's.
        self._out.proved(now, main, exchange.message_id)
        main.quick[exchange.message_id] = quick
        quick.last_received, quick.heard = data, True
        self._out.timers.cancel((Timer.RETRANSMIT, quick))
        if refusal is not None:
            quick.last_sent = self._out.send_informational(main, _refusal(quick, refusal.notify))
            self.failed(now, quick, refusal.reason, FailurePoint.ME, refusal.details, linger=True)
        elif end is not None:
            self.failed(now, quick, reason_of_notify(end.notify), FailurePoint.PEER)
        elif exchange.state is State.ESTABLISHED:
            self._established(now, quick, answer)
        else:
            assert answer is not None
            assert exchange.selectors is not None
            self._out.send_new(now, quick, answer)
            if exchange.initiator:
                self._unconnected |= dict.fromkeys(exchange.spis.values(), quick)
            else:
                quick.previous = self._children.latest(quick.remote, exchange.selectors)
            self._out.events.append(
                QuickModeAnswered(
                    now,
                    self._out.local,
                    quick.remote,
                    exchange.selectors,
                    exchange.reference,
                    exchange.offer,
                    exchange.inbound,
                    self._udp(quick),
                    exchange.initiator,
                )
            )
            # Acquires of ours that wait may be served by what the peer has begun.
            self._advance(now, quick.remote)

    def inbound_traffic(self, now: float, spi: int) -> None:
        """ESP or AH has come in under one of our SPIs: whoever sent it has message 3, whatever became of CONNECTED."""
        quick = self._unconnected.get(spi)
        if quick is not None:
            self._connect(now, quick)

    def fall_through(self, now: float, quick: QuickConversation) -> bool:
        """Whether a Quick Mode whose retransmissions are over can do without an answer: CONNECTED is a courtesy."""
        if quick.exchange.state is not State.CONFIRMED or quick.over:
            return False
        self._connect(now, quick)
        return True

    def _connect(self, now: float, quick: QuickConversation) -> None:
        self._out.counters["Commit waits without CONNECTED"] += 1
        quick.exchange.fall_through()
        self._established(now, quick, None)

    def _established(self, now: float, quick: QuickConversation, confirmation: bytes | None) -> None:
        exchange, remote = quick.exchange, quick.remote
        assert exchange.selectors is not None
        self._close(quick)
        if confirmation is None:
            self.forget(now, quick)
        else:
            # The last message wants no answer, but what it answers may come again.
            quick.last_sent = confirmation
            self._out.transmit(quick)
            self._out.timers.set((Timer.FORGET, quick), now + self._out.options.patience)
        previous = self._children.get(quick.previous) if quick.previous is not None else None
        main, peer_id = quick.main, quick.main.exchange.peer_id
        child = Child(
            remote, exchange.selectors, spis(exchange.inbound), spis(exchange.outbound), now, main.peer_behind, peer_id
        )
        self._children.add(child)
        self._out.counters["Oakley quick modes"] += 1
        self._out.counters["Rekeys"] += previous is not None
        self._out.note("Quick mode established with %s: %s SPI %#010x", remote, child.selectors, child.inbound_spi)
        self._out.events.append(
            QuickModeEstablished(
                now,
                self._out.local,
                remote,
                exchange.initiator,
                exchange.selectors,
                exchange.reference,
                self._acquires.answered(self._acquires.carried(remote, quick)),
                exchange.offer,
                exchange.inbound,
                exchange.outbound,
                exchange.offer.lifetime_seconds,
                exchange.offer.lifetime_kilobytes,
                exchange.offer.encapsulation,
                previous.inbound_spi if previous else None,
                self._udp(quick),
                peer_id,
            )
        )

    def failed(
        self,
        now: float,
        quick: QuickConversation,
        reason: FailureReason,
        point: FailurePoint,
        details: ProposalMismatch | None = None,
        *,
        again: bool = False,
        linger: bool = False,
    ) -> None:
        """End a Quick Mode without success.

        Acquires that had only joined it get another try, and with `again` those that it was made for, so many times.
        The others are answered. With `linger` the exchange stays to repeat its last message.
        """
        exchange, remote = quick.exchange, quick.remote
        carried = self._acquires.carried(remote, quick)
        for pending in carried:
            pending.carrier = None
        given_up = [pending for pending in carried if not again or pending.tries >= MAX_TRIES]
        answers = self._acquires.answered(given_up) if exchange.initiator else ()
        self._close(quick)
        if linger:
            self._out.timers.set((Timer.FORGET, quick), now + self._out.options.patience)
        else:
            self.forget(now, quick)
        self._report_failure(now, quick, reason, point, details, answers)
        self._advance(now, remote)

    def _report_failure(
        self,
        now: float,
        quick: QuickConversation,
        reason: FailureReason,
        point: FailurePoint,
        details: ProposalMismatch | None,
        answers: tuple[int, ...],
    ) -> None:
        exchange, remote = quick.exchange, quick.remote
        inbound_spi = next(iter(exchange.spis.values()), None)
        self._out.counters["Negotiation failures"] += 1
        self._out.note("Quick mode with %s failed: %s (%s)", remote, reason.name, point.value)
        self._out.events.append(
            NegotiationFailed(now, Mode.QUICK, remote, exchange.selectors, reason, point, details, answers, inbound_spi)
        )

    def _close(self, quick: QuickConversation) -> None:
        quick.over = True
        self._out.timers.cancel((Timer.RETRANSMIT, quick))
        for spi in quick.exchange.spis.values():
            self._unconnected.pop(spi, None)

    def _udp(self, quick: QuickConversation) -> UdpEncapsulation | None:
        """How ESP travels to this peer."""
        exchange = quick.exchange
        if exchange.nat is None:
            return None
        originals = exchange.originals
        return UdpEncapsulation(
            NAT_T_PORT,
            quick.main.path.port,
            quick.main.path.address,
            str(originals.local) if originals.local else None,
            str(originals.remote) if originals.remote else None,
        )

    def forget(self, now: float, quick: QuickConversation) -> None:
        self._out.timers.cancel((Timer.FORGET, quick))
        quick.main.quick.pop(quick.exchange.message_id, None)


def spis(children: tuple[ChildSa, ...]) -> dict[Protocol, int]:
    return {child.protocol: child.spi for child in children}


def _serves(exchange: QuickMode, pending: Pending) -> bool:
    return (
        not exchange.initiator
        and exchange.state is State.ANSWERED
        and exchange.selectors is not None
        and exchange.selectors.covers(pending.request.selectors)
        and any(offer.encapsulation is exchange.offer.encapsulation for offer in pending.request.offers)
    )


def _refusal(quick: QuickConversation, notify: Notify) -> wire.Notification:
    """The message id tells which Quick Mode is meant; towards Microsoft's IKE with an SPI of 8 ([MS-IKEE] 2.2.6)."""
    spi = quick.main.exchange.initiator_cookie if quick.main.exchange.microsoft_peer else b""
    return wire.Notification(Protocol.ESP, spi, notify, quick.exchange.message_id.to_bytes(4))
