"""What the engine keeps about exchanges and SAs while they live."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from ipsec_core.ike.events import Acquire
from ipsec_core.ike.failures import MalformedMessage
from ipsec_core.ike.iana import Notify, Protocol
from ipsec_core.ike.main_mode import MainMode
from ipsec_core.ike.main_mode import State as MainState
from ipsec_core.ike.offers import TrafficSelector
from ipsec_core.ike.quick_mode import QuickMode
from ipsec_core.ike.timers import Retransmission

# Message ids of one Main Mode SA that are remembered, so that a recorded message cannot open an exchange again.
MAX_MESSAGE_IDS = 4096


@dataclass(slots=True, eq=False)
class Conversation:
    """The part that Main Mode and Quick Mode share: the last good message in, the last message out, the schedule."""

    name: ClassVar[str]
    remote: str
    port: int
    last_sent: bytes = b""
    last_received: bytes = b""
    heard: bool = False
    retransmission: Retransmission = field(default_factory=Retransmission)

    @property
    def peer(self) -> tuple[str, int]:
        """Where its messages go to."""
        return self.remote, self.port


@dataclass(slots=True, eq=False)
class Pending:
    """An acquire that is not answered yet, with the references of all that asked the same.

    `carrier` negotiates it; `tries` counts the Quick Modes of ours that did.
    """

    request: Acquire
    references: list[int]
    carrier: QuickConversation | None = None
    tries: int = 0


@dataclass(slots=True, eq=False, kw_only=True)
class MainConversation(Conversation):
    """A Main Mode and, once it is established, its SA. `suspect` is the last message that did not verify."""

    name: ClassVar[str] = "Main Mode"
    exchange: MainMode
    created: float
    established: float | None = None
    suspect: bytes = b""
    quick_modes_started: int = 0
    quick: dict[int, QuickConversation] = field(default_factory=dict)
    message_ids: dict[int, None] = field(default_factory=dict)

    @property
    def ready(self) -> bool:
        """Established and good for another Quick Mode of ours."""
        limit = self.exchange.policy.quick_modes_limit
        return self.established is not None and (not limit or self.quick_modes_started < limit)

    @property
    def promising(self) -> bool:
        """Under way, and not only because of a first message whose sender may be forged."""
        return self.established is None and (self.exchange.initiator or self.exchange.state is MainState.KEY_ANSWERED)

    @property
    def quick_modes_of_peer(self) -> int:
        """How many that the peer began are under way."""
        return sum(not quick.over and not quick.exchange.initiator for quick in self.quick.values())

    def check_message_id(self, message_id: int) -> None:
        """MalformedMessage if a message id is not new."""
        if message_id in self.message_ids:
            raise MalformedMessage(Notify.INVALID_MESSAGE_ID, f"message id {message_id:#010x} was used before")

    def remember(self, message_id: int) -> None:
        self.message_ids[message_id] = None
        if len(self.message_ids) > MAX_MESSAGE_IDS:
            del self.message_ids[next(iter(self.message_ids))]


@dataclass(slots=True, eq=False, kw_only=True)
class QuickConversation(Conversation):
    """A Quick Mode. `over` keeps it only to answer retransmissions of the peer's last message."""

    name: ClassVar[str] = "Quick Mode"
    exchange: QuickMode
    main: MainConversation
    over: bool = False


@dataclass(slots=True, eq=False)
class Child:
    """A live SA pair, or a bundle of two; SPIs by protocol, AH first. The first ones name it."""

    remote: str
    selectors: TrafficSelector
    inbound: dict[Protocol, int]
    outbound: dict[Protocol, int]
    created: float

    @property
    def inbound_spi(self) -> int:
        return next(iter(self.inbound.values()))

    @property
    def outbound_spi(self) -> int:
        return next(iter(self.outbound.values()))
