"""What all parts of an engine share: the way out (datagrams, events, deadlines, counters, trace) and random numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from ipsec_core.ike import fragments, protected, wire
from ipsec_core.ike.conversations import Child, Conversation, MainConversation, Path, Pending
from ipsec_core.ike.credentials import PeerIdentity
from ipsec_core.ike.events import ChildDeleted, Datagram, Event, IkePolicy, Mode, NegotiationFailed, PathChanged
from ipsec_core.ike.failures import FailurePoint, FailureReason, ProposalMismatch
from ipsec_core.ike.iana import NAT_T_PORT
from ipsec_core.ike.offers import TrafficSelector
from ipsec_core.ike.options import IkeOptions
from ipsec_core.ike.timers import Retransmission, Timer, Timers

STATISTICS = (
    "Oakley main modes",
    "Oakley quick modes",
    "Soft associations",
    "Authentication failures",
    "Negotiation failures",
    "Rekeys",
    "Commit waits without CONNECTED",
    "Sent",
    "Received",
    "Retransmissions",
    "Duplicate messages",
    "Discarded messages",
    "Unverified messages",
    "Refused exchanges",
    "Half-open main modes refused",
    "Cookies demanded",
    "Failures not reported",
    "Fragments received",
    "Fragments sent",
    "Keep-alives received",
    "Keep-alives sent",
)
# RFC 3948 section 2.2: four zero bytes, where the SPI of an ESP packet would be.
NON_ESP_MARKER = bytes(4)
# RFC 3948 section 2.3.
KEEP_ALIVE = b"\xff"
# Copies that go out whole before large messages are fragmented: the third one is due after the first two gaps, when
# Windows' fragmentation timer ends ([MS-IKEE] appendix A).
WHOLE_COPIES = 2


@dataclass(slots=True)
class Outbox:
    """One per engine; `local` is its IPv4 address."""

    local: str
    policy: IkePolicy
    random: Callable[[int], bytes]
    trace: Callable[[str], None] | None
    key_log: bool
    options: IkeOptions
    timers: Timers = field(default_factory=Timers)
    datagrams: list[Datagram] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    counters: Counter[str] = field(default_factory=Counter)

    def note(self, text: str, *values: object) -> None:
        """A line for whoever traces the engine; without one nothing is formatted."""
        if self.trace is not None:
            self.trace(text % values)

    def send(self, data: bytes, path: Path, what: str) -> None:
        self.counters["Sent"] += 1
        self.note("Sending: %s to %s port %d, %d bytes", what, path.address, path.port, len(data))
        marker = NON_ESP_MARKER if path.local_port == NAT_T_PORT else b""
        self.datagrams.append(Datagram(marker + data, (path.address, path.port), path.local_port))

    def send_keep_alive(self, path: Path) -> None:
        self.counters["Keep-alives sent"] += 1
        self.datagrams.append(Datagram(KEEP_ALIVE, (path.address, path.port), path.local_port))

    def transmit(self, conversation: Conversation) -> None:
        """A copy of the last message of `conversation`."""
        main, message = conversation.sa, conversation.last_sent
        # Every encrypted message that is sent more than once has an ID payload, and only those are fragmented.
        if main.fragmenting and len(message) > fragments.MAX_MESSAGE and wire.parse_header(message).encrypted:
            for fragment in fragments.split(message):
                self.counters["Fragments sent"] += 1
                self.send(fragment, main.path, f"{conversation.name} fragment")
        else:
            self.send(message, main.path, conversation.name)

    def send_new(self, now: float, conversation: Conversation, message: bytes, *, retransmit: bool = True) -> None:
        """Send a message that wants an answer, and begin its retransmission schedule.

        Without `retransmit` the answer may take as long, but there is one copy.
        """
        options = self.options
        conversation.last_sent = message
        conversation.repeats = 0
        conversation.retransmission = (
            Retransmission(options.retransmission_gaps) if retransmit else Retransmission((), options.patience)
        )
        self.transmit(conversation)
        self.timers.set((Timer.RETRANSMIT, conversation), now + conversation.retransmission.sent())

    def retransmit(self, now: float, conversation: Conversation, *, silent: bool = False) -> None:
        """The next copy on schedule; if `silent` its time only passes."""
        if not silent:
            self.counters["Retransmissions"] += 1
            self._large_ones_fail(conversation.sa, conversation.retransmission.copies)
            self.transmit(conversation)
        self.timers.set((Timer.RETRANSMIT, conversation), now + conversation.retransmission.sent())

    def send_informational(self, main: MainConversation, payload: wire.Payload) -> bytes:
        """Send one payload under the SA of `main`; it is not retransmitted. Returns the message."""
        message = protected.seal_informational(main.exchange.session, self.new_message_id(main), (payload,))
        self.send(message, main.path, "Informational")
        return message

    def repeat(self, conversation: Conversation) -> None:
        """Answer a message that came again: with the same bytes, whatever the schedule."""
        self.counters["Duplicate messages"] += 1
        conversation.repeats += 1
        self._large_ones_fail(conversation.sa, conversation.repeats)
        self.transmit(conversation)

    def _large_ones_fail(self, main: MainConversation, copies: int) -> None:
        if copies >= WHOLE_COPIES and self.options.fragmentation and main.exchange.common.fragmentation:
            main.fragmenting = True

    def proved(self, now: float, main: MainConversation, message_id: int) -> None:
        """The message in hand is the peer's: its id is not new any more, and where it came from is where the peer is.

        RFC 3947 section 7: a NAT may change its mapping at any time, and only authenticated messages tell the new one.
        """
        main.remember(message_id)
        main.used = now
        if main.origin != main.path:
            former, main.path = main.path, main.origin
            self.moved(now, main.remote, main.exchange.peer_id, (former.address, former.port), main.path)

    def moved(self, now: float, remote: str, peer_id: bytes, former: tuple[str, int], path: Path) -> None:
        """Report where a peer is now."""
        self.note("Path: %s is at %s port %d", remote, path.address, path.port)
        self.events.append(
            PathChanged(now, self.local, remote, former, path.address, path.port, path.local_port, peer_id)
        )

    def new_message_id(self, main: MainConversation) -> int:
        while not (message_id := int.from_bytes(self.random(4))) or message_id in main.message_ids:
            pass
        main.remember(message_id)
        return message_id

    def main_mode_failed(
        self,
        now: float,
        remote: str,
        pending: Pending | None,
        reason: FailureReason,
        point: FailurePoint,
        details: ProposalMismatch | None = None,
        peer: PeerIdentity | None = None,
    ) -> None:
        """Report that a Main Mode failed, to `pending` if there is one that this answers."""
        self.counters["Negotiation failures"] += 1
        self.note("Main mode with %s failed: %s (%s)", remote, reason.name, point.value)
        selectors = pending.request.selectors if pending else None
        references = tuple(pending.references) if pending else ()
        self.events.append(
            NegotiationFailed(now, Mode.MAIN, remote, selectors, reason, point, details, references, peer=peer)
        )


class Acquires:
    """The acquires that are not answered yet, by peer."""

    def __init__(self) -> None:
        self._pending: dict[str, list[Pending]] = {}

    def add(self, pending: Pending) -> None:
        self._pending.setdefault(pending.request.remote, []).append(pending)

    def towards(self, remote: str) -> tuple[Pending, ...]:
        return tuple(self._pending.get(remote, ()))

    def waiting(self, remote: str) -> list[Pending]:
        """Those that wait for a Main Mode."""
        return [pending for pending in self.towards(remote) if pending.carrier is None]

    def carried(self, remote: str, carrier: object) -> list[Pending]:
        return [pending for pending in self.towards(remote) if pending.carrier is carrier]

    def answered(self, gone: list[Pending]) -> tuple[int, ...]:
        """Take out acquires because an event answers them; the references for that event."""
        for pending in gone:
            remote = pending.request.remote
            self._pending[remote].remove(pending)
            if not self._pending[remote]:
                del self._pending[remote]
        return tuple(reference for pending in gone for reference in pending.references)

    def all(self) -> list[Pending]:
        return [pending for waiting in self._pending.values() for pending in waiting]


class Children:
    """The live SA pairs, by each of their inbound SPIs."""

    def __init__(self, out: Outbox) -> None:
        self._out = out
        self._by_spi: dict[int, Child] = {}
        self._by_peer: dict[str, dict[int, Child]] = {}
        self._latest: dict[tuple[str, TrafficSelector], int] = {}

    def __len__(self) -> int:
        return sum(len(children) for children in self._by_peer.values())

    def __contains__(self, inbound_spi: int) -> bool:
        return inbound_spi in self._by_spi

    def get(self, inbound_spi: int) -> Child | None:
        return self._by_spi.get(inbound_spi)

    def with_peer(self, remote: str) -> list[Child]:
        return list(self._by_peer.get(remote, {}).values())

    def all(self) -> list[Child]:
        return [child for children in self._by_peer.values() for child in children.values()]

    def latest(self, remote: str, selectors: TrafficSelector) -> int | None:
        """The inbound SPI of the newest pair for some traffic."""
        if remote not in self._by_peer:
            return None
        return self._latest.get((remote, selectors))

    def add(self, child: Child) -> None:
        key = (child.remote, child.selectors)
        self._by_spi |= dict.fromkeys(child.inbound.values(), child)
        self._by_peer.setdefault(child.remote, {})[child.inbound_spi] = child
        self._latest[key] = child.inbound_spi

    def forget(self, now: float, child: Child, by: FailurePoint) -> None:
        for spi in child.inbound.values():
            del self._by_spi[spi]
        del self._by_peer[child.remote][child.inbound_spi]
        if not self._by_peer[child.remote]:
            del self._by_peer[child.remote]
        key = (child.remote, child.selectors)
        if self._latest.get(key) == child.inbound_spi:
            del self._latest[key]
        self._out.events.append(
            ChildDeleted(now, child.remote, child.selectors, child.inbound_spi, child.outbound_spi, by)
        )
