"""ISAKMP/Oakley of one computer: datagrams, time and wishes in; datagrams, deadlines and events out.

No input makes it raise but a caller's own mistake. Unauthenticated input never changes what is established; what it can
do to a negotiation under way is to waste it, and only if it carries that negotiation's cookies and the peer's address.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from ipaddress import AddressValueError, IPv4Address

from ipsec_core.errors import NegotiationError
from ipsec_core.ike import protected, wire
from ipsec_core.ike.conversations import (
    HOLD_BACK,
    Conversation,
    MainConversation,
    MainModeRecord,
    Path,
    Pending,
    QuickConversation,
)
from ipsec_core.ike.events import Acquire, Datagram, Event, IkePolicy, Mode, NegotiationFailed
from ipsec_core.ike.failures import FailurePoint, FailureReason, MalformedMessage, Unverified, reason_of_notify
from ipsec_core.ike.fragments import Reassembly
from ipsec_core.ike.iana import FIRST_STATUS_NOTIFY, NAT_T_PORT, UDP_PORT, ExchangeType, Notify, PayloadType, Protocol
from ipsec_core.ike.main_table import MainTable
from ipsec_core.ike.options import IkeOptions
from ipsec_core.ike.outbox import KEEP_ALIVE, NON_ESP_MARKER, STATISTICS, Acquires, Children, Outbox
from ipsec_core.ike.phase_one import MainModes
from ipsec_core.ike.phase_two import QuickModes
from ipsec_core.ike.quick_mode import SPI_LENGTH
from ipsec_core.ike.timers import Timer


class IkeEngine:
    """The IKE service of one computer with the IPv4 address `local`.

    `random(n)` gives n bytes; two engines with the same source and input behave the same, bit for bit. `allocate_spi`
    gives an unused inbound SPI of 256..2^32-1. With `key_log` events carry the ISAKMP cipher key. `trace` gets one line
    of text per interesting thing.
    """

    def __init__(
        self,
        local: str,
        policy: IkePolicy,
        *,
        random: Callable[[int], bytes],
        allocate_spi: Callable[[], int],
        key_log: bool = False,
        trace: Callable[[str], None] | None = None,
        options: IkeOptions | None = None,
    ) -> None:
        self.local = _address("local", local)
        self._out = Outbox(self.local, policy, random, trace, key_log, options or IkeOptions())
        self._acquires = Acquires()
        self._children = Children(self._out)
        self._quick_modes = QuickModes(self._out, self._acquires, self._children, allocate_spi, self._advance)
        self._mains = MainTable()
        self._main_modes = MainModes(
            self._out, self._mains, self._acquires, self._children, self._quick_modes, self._advance
        )
        self._fragments = Reassembly()

    # What comes out

    def next_timer(self) -> float | None:
        """When `handle_timer` wants to be called, if nothing else happens before."""
        return self._out.timers.next()

    def datagrams(self) -> list[Datagram]:
        """What has to be sent, in order; each is returned once."""
        datagrams, self._out.datagrams = self._out.datagrams, []
        return datagrams

    def events(self) -> list[Event]:
        """What has happened, in order; each is returned once."""
        events, self._out.events = self._out.events, []
        return events

    def statistics(self) -> dict[str, int]:
        """Counters since the engine was made, by the name that the monitor shows, and how many SAs are alive."""
        return {name: self._out.counters[name] for name in STATISTICS} | {
            "Active main modes": sum(main.established is not None for main in self._mains.all()),
            "Active quick modes": len(self._children),
        }

    def main_modes(self) -> list[MainModeRecord]:
        """The ISAKMP SAs and the negotiations of some, without those that only a first message asks for."""
        mains = self._mains.all()
        return [MainModeRecord.of(main) for main in mains if main.established is not None or main.promising]

    # What goes in

    def acquire(self, now: float, request: Acquire) -> None:
        """Ask for an SA pair. Exactly one event answers: its `answers` contain `request.reference`."""
        remote = _address("Acquire.remote", request.remote)
        for pending in self._acquires.towards(remote):
            if pending.request.selectors == request.selectors:
                pending.references.append(request.reference)
                if not request.allow_soft:
                    # One event answers all: clear text is for them only if all allow it.
                    pending.request = replace(pending.request, allow_soft=False)
                return
        self._out.note("Acquire: %s peer %s", request.selectors, remote)
        self._acquires.add(Pending(request, [request.reference]))
        self._advance(now, remote)

    def receive_datagram(self, now: float, data: bytes, source: tuple[str, int], port: int = UDP_PORT) -> None:
        """One UDP payload that came to our `port` (500 or 4500) from `source`, an (address, port).

        On port 4500 IKE is what begins with four zero bytes (RFC 3948 section 2.2); ESP is not for this method.
        """
        counters = self._out.counters
        if data == KEEP_ALIVE:
            counters["Keep-alives received"] += 1
            return
        counters["Received"] += 1
        try:
            if port == NAT_T_PORT:
                data = _without_marker(data)
            self._receive(now, data, Path(*source, port))
        except MalformedMessage as error:
            counters["Unverified messages" if isinstance(error, Unverified) else "Discarded messages"] += 1
            self._out.note("Discarded: %s: %s", error.notify.name, error)

    def handle_timer(self, now: float) -> None:
        """Do everything that is due at `now`."""
        while (key := self._out.timers.expired(now)) is not None:
            kind, conversation = key
            if isinstance(conversation, str):
                self._main_modes.keep_alive(now, conversation)
            elif isinstance(conversation, MainConversation):
                _MAIN_MODE_TIMERS[kind](self, now, conversation)
            elif isinstance(conversation, QuickConversation):
                _QUICK_MODE_TIMERS[kind](self, now, conversation)

    def delete_child(self, now: float, inbound_spi: int) -> None:
        """End the SA pair (or bundle) that an SPI of ours belongs to, and tell the peer.

        An SPI that is not known (any more) is no error.
        """
        child = self._children.get(inbound_spi)
        if child is None:
            return
        alive = self._mains.alive(child.remote)
        # Behind one NAT there may be several.
        alive = [main for main in alive if main.exchange.peer_id == child.peer_id] or alive
        if alive:
            for protocol, spi in child.inbound.items():
                delete = wire.Delete(protocol, SPI_LENGTH, (spi.to_bytes(SPI_LENGTH),))
                self._out.send_informational(alive[-1], delete)
        self._children.forget(now, child, FailurePoint.ME)

    def inbound_traffic(self, now: float, spi: int) -> None:
        """A packet has come in under an SPI of ours whose pair is not established yet, if that is of interest."""
        self._quick_modes.inbound_traffic(now, spi)

    def traffic_from(self, now: float, inbound_spi: int, former: tuple[str, int], origin: tuple[str, int]) -> None:
        """A good packet in UDP under an SA of ours came from `origin`, an (address, port), those before from `former`.

        A peer behind a NAT is there from now on, for its other SAs and for IKE, too (RFC 3947 section 7); nobody else.
        """
        child = self._children.get(inbound_spi)
        if child is None or not child.peer_behind:
            return
        path = Path(*origin, NAT_T_PORT)
        for main in self._mains.alive(child.remote):
            if main.exchange.peer_id == child.peer_id and (main.path.address, main.path.port) == former:
                main.path = path
        self._out.moved(now, child.remote, child.peer_id, former, path)

    def end_main_modes(self, now: float, remote: str, peer_id: bytes) -> None:
        """End the Main Modes with one of those that are at an address, and tell it. Its SA pairs live on."""
        for main in self._mains.alive(remote):
            if main.exchange.peer_id == peer_id:
                self._main_modes.end(now, main, FailurePoint.ME)

    def close(
        self,
        now: float,
        reason: FailureReason = FailureReason.DELETED_BEFORE_COMPLETION,
        concerns: Callable[[str], bool] = lambda remote: True,
    ) -> None:
        """End everything with the peers that it `concerns`: the service stops, or its policy is another one for them.

        The engine can be used again afterwards. `reason` is what acquires under way hear.
        """
        for pending in [one for one in self._acquires.all() if concerns(one.request.remote)]:
            request = pending.request
            self._out.events.append(
                NegotiationFailed(
                    now,
                    Mode.MAIN if pending.carrier is None else Mode.QUICK,
                    request.remote,
                    request.selectors,
                    reason,
                    FailurePoint.ME,
                    answers=self._acquires.answered([pending]),
                )
            )
        for child in [one for one in self._children.all() if concerns(one.remote)]:
            self.delete_child(now, child.inbound_spi)
        for main in [one for one in self._mains.all() if concerns(one.remote)]:
            self._main_modes.end(now, main, FailurePoint.ME)

    # Acquires

    def _advance(self, now: float, remote: str) -> None:
        """Find a carrier for every acquire towards `remote` that has none, or begin a Main Mode for it."""
        for pending in self._acquires.waiting(remote):
            mains = self._mains.with_peer(remote)
            ready = [main for main in self._mains.alive(remote) if main.ready]
            if any(self._quick_modes.join(main, pending) for main in mains):
                continue
            if ready and ready[-1].holds_back(now):
                self._out.timers.set((Timer.BEGIN, ready[-1]), (ready[-1].established or now) + HOLD_BACK)
                continue
            if ready:
                self._quick_modes.start(now, ready[-1], pending)
                continue
            under_way = next((main for main in mains if main.promising), None)
            main = under_way or self._main_modes.start(now, remote)
            if main is None:
                return
            if pending.request.allow_soft and not (main.heard or main.alive):
                self._out.timers.set((Timer.SOFT, main), main.created + self._out.options.soft_fallback)

    # Datagrams

    def _receive(self, now: float, data: bytes, origin: Path) -> None:
        self._main_modes.note_life(data, origin.address)
        header = wire.parse_header(data)
        if self._out.trace is not None:
            self._out.note(
                "Receive: %s from %s port %d, %d bytes", _describe(header), origin.address, origin.port, len(data)
            )
        receive = _EXCHANGES.get(header.exchange)
        if receive is None:
            # Aggressive Mode among them: Windows 2000 does Main Mode only.
            self._out.counters["Refused exchanges"] += 1
            raise MalformedMessage(Notify.INVALID_EXCHANGE_TYPE, f"exchange type {header.exchange}")
        if header.next_payload == PayloadType.FRAGMENT and not header.encrypted and self._out.options.fragmentation:
            self._receive_fragment(now, header, data, origin)
        else:
            receive(self, now, header, data, origin)

    def _receive_fragment(self, now: float, header: wire.Header, data: bytes, origin: Path) -> None:
        if not self._mains.negotiation(header, origin).exchange.common.fragmentation:
            raise MalformedMessage(Notify.INVALID_PAYLOAD_TYPE, "a fragment from a peer that has not announced any")
        self._out.counters["Fragments received"] += 1
        whole = self._fragments.add(now, header, data, origin.address)
        if whole is None:
            return
        inner = wire.parse_header(whole)
        if inner.next_payload == PayloadType.FRAGMENT or inner.exchange not in _EXCHANGES:
            raise MalformedMessage(Notify.INVALID_PAYLOAD_TYPE, "fragments of a fragment or of an unknown exchange")
        _EXCHANGES[inner.exchange](self, now, inner, whole, origin)

    def _receive_main_mode(self, now: float, header: wire.Header, data: bytes, origin: Path) -> None:
        self._main_modes.receive(now, header, data, origin)

    def _receive_quick_mode(self, now: float, header: wire.Header, data: bytes, origin: Path) -> None:
        self._quick_modes.receive(now, self._mains.established(header, origin), header, data)

    def _receive_informational(self, now: float, header: wire.Header, data: bytes, origin: Path) -> None:
        if not header.encrypted:
            self._main_modes.receive_clear_notify(now, header, data, origin)
            return
        main = self._mains.negotiation(header, origin)
        if main.established is None:
            self._main_modes.receive_early_notify(now, main, header, data)
            return
        main = self._mains.established(header, origin)
        quick = main.quick.get(header.message_id)
        if quick is not None and not quick.over:
            # CONNECTED (RFC 2408 section 3.1) and errors may come under the message id of what they are about.
            self._quick_modes.receive(now, main, header, data)
            return
        main.check_message_id(header.message_id)
        try:
            payloads = protected.open_informational(main.exchange.session, header, data)
        except Unverified:
            if main.exchange.initiator or main.quick:
                raise
            self._main_modes.receive_late_notify(now, main, header, data)
            return
        self._out.proved(now, main, header.message_id)
        for payload in payloads:
            if isinstance(payload, wire.Delete):
                self._receive_delete(now, main, payload)
            elif isinstance(payload, wire.Notification):
                self._receive_notify(now, main, payload)

    def _receive_delete(self, now: float, main: MainConversation, delete: wire.Delete) -> None:
        """RFC 2408 section 3.15: the SPIs are the sender's inbound ones. The Quick Mode SAs outlive their Main Mode."""
        if delete.protocol == Protocol.ISAKMP:
            for other in self._mains.alive(main.remote):
                if b"".join(other.cookies) in delete.spis:
                    self._main_modes.end(now, other, FailurePoint.PEER)
        elif delete.protocol in (Protocol.AH, Protocol.ESP):
            gone = {int.from_bytes(spi) for spi in delete.spis}
            for child in self._children.with_peer(main.remote):
                if child.outbound.get(Protocol(delete.protocol)) in gone:
                    self._children.forget(now, child, FailurePoint.PEER)

    def _receive_notify(self, now: float, main: MainConversation, notify: wire.Notification) -> None:
        self._out.note("Notify: type %s from %s", notify.notify, main.remote)
        if notify.notify == Notify.INITIAL_CONTACT:
            self._main_modes.initial_contact(now, main)
        elif notify.notify < FIRST_STATUS_NOTIFY:
            ours = [quick for quick in main.quick.values() if quick.exchange.initiator and not quick.over]
            named = [
                quick
                for quick in ours
                if notify.data[:4] == quick.exchange.message_id.to_bytes(4)
                or int.from_bytes(notify.spi) in quick.exchange.spis.values()
            ]
            # Others than Microsoft may not say which Quick Mode they mean.
            for quick in named or (ours if len(ours) == 1 else []):
                self._quick_modes.failed(now, quick, reason_of_notify(notify.notify), FailurePoint.PEER)

    # Deadlines

    def _main_mode_overdue(self, now: float, main: MainConversation) -> None:
        if main.retransmission.exhausted:
            self._main_modes.failed(now, main, _silence(main), FailurePoint.ME)
        else:
            self._out.retransmit(now, main, silent=self._main_modes.dubious(main))

    def _quick_mode_overdue(self, now: float, quick: QuickConversation) -> None:
        if not quick.retransmission.exhausted:
            self._out.retransmit(now, quick)
            return
        if self._quick_modes.fall_through(now, quick):
            return
        self._quick_modes.failed(now, quick, _silence(quick), FailurePoint.ME)
        if quick.exchange.initiator and quick.main in self._mains.with_peer(quick.remote):
            # Nothing came back under this SA: the peer has probably lost it. The next acquire begins anew.
            self._main_modes.end(now, quick.main, FailurePoint.ME, tell=False)

    def _lifetime_over(self, now: float, main: MainConversation) -> None:
        self._main_modes.end(now, main, FailurePoint.ME)

    def _ends_soon(self, now: float, main: MainConversation) -> None:
        self._main_modes.rekey(now, main)

    def _held_back(self, now: float, main: MainConversation) -> None:
        self._advance(now, main.remote)

    def _superseded(self, now: float, main: MainConversation) -> None:
        self._main_modes.retire(now, main)

    def _silent_for_long(self, now: float, main: MainConversation) -> None:
        self._main_modes.give_in(now, main)

    def _forget(self, now: float, quick: QuickConversation) -> None:
        self._quick_modes.forget(now, quick)


_EXCHANGES: dict[int, Callable[[IkeEngine, float, wire.Header, bytes, Path], None]] = {
    ExchangeType.MAIN_MODE: IkeEngine._receive_main_mode,
    ExchangeType.QUICK_MODE: IkeEngine._receive_quick_mode,
    ExchangeType.INFORMATIONAL: IkeEngine._receive_informational,
}
_MAIN_MODE_TIMERS: dict[Timer, Callable[[IkeEngine, float, MainConversation], None]] = {
    Timer.RETRANSMIT: IkeEngine._main_mode_overdue,
    Timer.LIFETIME: IkeEngine._lifetime_over,
    Timer.SOFT: IkeEngine._silent_for_long,
    Timer.REKEY: IkeEngine._ends_soon,
    Timer.RETIRE: IkeEngine._superseded,
    Timer.BEGIN: IkeEngine._held_back,
}
_QUICK_MODE_TIMERS: dict[Timer, Callable[[IkeEngine, float, QuickConversation], None]] = {
    Timer.RETRANSMIT: IkeEngine._quick_mode_overdue,
    Timer.FORGET: IkeEngine._forget,
}


@lru_cache(maxsize=1024)
def _address(name: str, text: str) -> str:
    try:
        return str(IPv4Address(text))
    except AddressValueError:
        raise NegotiationError(f"{name}: {text!r} is not an IPv4 address") from None


def _without_marker(data: bytes) -> bytes:
    if not data.startswith(NON_ESP_MARKER):
        raise MalformedMessage(Notify.INVALID_COOKIE, f"no IKE message on port {NAT_T_PORT}")
    return data[len(NON_ESP_MARKER) :]


def _silence(conversation: Conversation) -> FailureReason:
    return FailureReason.TIMED_OUT if conversation.heard else FailureReason.NO_RESPONSE


def _describe(header: wire.Header) -> str:
    cookies = f"{header.initiator_cookie.hex()}:{header.responder_cookie.hex()}"
    return f"exchange {header.exchange} message {header.message_id:08x} cookies {cookies}"
