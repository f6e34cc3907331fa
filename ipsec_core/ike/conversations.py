"""Records that the engine keeps about exchanges and SAs while they live."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from ipsec_core.ike.events import Acquire
from ipsec_core.ike.failures import MalformedMessage
from ipsec_core.ike.iana import UDP_PORT, Notify, Protocol
from ipsec_core.ike.main_mode import MainMode
from ipsec_core.ike.main_mode import State as MainState
from ipsec_core.ike.nat import NatPath
from ipsec_core.ike.offers import MainModeOffer, TrafficSelector
from ipsec_core.ike.quick_mode import QuickMode
from ipsec_core.ike.timers import Retransmission
from ipsec_core.ike.values import value

# Seconds that a Main Mode's responder leaves to its initiator: strongSwan spoils a Quick Mode that comes right behind
# message 6.
HOLD_BACK = 0.1
# Message ids of one Main Mode SA that are remembered, so that a recorded message cannot open an exchange again.
MAX_MESSAGE_IDS = 4096


@value
class Path:
    """A way that datagrams take: the peer's address and port, and our own port."""

    address: str
    port: int = UDP_PORT
    local_port: int = UDP_PORT


@dataclass(slots=True, eq=False)
class Conversation:
    """The part that Main Mode and Quick Mode share: the last good message in, the last message out, the schedule.

    `repeats` counts how often the peer's last message has come again.
    """

    name: ClassVar[str]
    remote: str
    last_sent: bytes = b""
    last_received: bytes = b""
    heard: bool = False
    repeats: int = 0
    retransmission: Retransmission = field(default_factory=Retransmission)

    @property
    def sa(self) -> MainConversation:
        """The Main Mode that it is or that it lives under."""
        raise NotImplementedError


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
    """A Main Mode and, once it is established, its SA.

    `remote` is the address that it was begun with and stays its name; `path` is where its messages go, which a NAT may
    change, and `origin` where the message in hand came from. `suspect` is the last message that did not verify. `used`
    is when the peer last proved itself under it. `superseded`: another SA with the peer has its place. `fragmenting`:
    large messages do not get through whole. `alive`: something with our cookie has come from the peer's address.
    `cookies_asked` counts how often it wanted a cookie first.
    """

    name: ClassVar[str] = "Main Mode"
    exchange: MainMode
    path: Path
    created: float
    established: float | None = None
    origin: Path = field(init=False)
    used: float = 0.0
    suspect: bytes = b""
    alive: bool = False
    superseded: bool = False
    fragmenting: bool = False
    cookies_asked: int = 0
    quick_modes_started: int = 0
    quick: dict[int, QuickConversation] = field(default_factory=dict)
    message_ids: dict[int, None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.origin = self.path

    @property
    def sa(self) -> MainConversation:
        return self

    @property
    def nat(self) -> NatPath | None:
        return self.exchange.nat

    @property
    def peer_behind(self) -> bool:
        """Whether a NAT is in front of the peer."""
        return self.nat is not None and self.nat.remote_behind

    @property
    def cookies(self) -> tuple[bytes, bytes]:
        """(initiator's, responder's); the latter is zero until message 2 has told it."""
        return self.exchange.initiator_cookie, self.exchange.responder_cookie

    @property
    def ready(self) -> bool:
        """Established and good for another Quick Mode of ours."""
        limit = self.exchange.policy.quick_modes_limit
        return self.established is not None and (not limit or self.quick_modes_started < limit)

    def holds_back(self, now: float) -> bool:
        """Whether the peer that began it may still be busy with message 6, and begins with a Quick Mode itself."""
        return self.established is not None and not self.exchange.initiator and now < self.established + HOLD_BACK

    @property
    def promising(self) -> bool:
        """Under way, and not only because of a first message whose sender may be forged."""
        return self.established is None and (self.exchange.initiator or self.exchange.state is MainState.KEY_ANSWERED)

    @property
    def quick_modes_of_peer(self) -> int:
        """How many that the peer began are under way."""
        return sum(not quick.over and not quick.exchange.initiator for quick in self.quick.values())

    def expects(self, address: str) -> bool:
        """Whether a message under the SA may come from there.

        RFC 3947 section 7: a peer behind a NAT may get another address; one that is not has no reason to.
        """
        return address == self.remote or address == self.path.address or self.peer_behind

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
    """A Quick Mode. `over` keeps it only to answer retransmissions of the peer's last message.

    `previous`: inbound SPI of the pair that protected its traffic when it began.
    """

    name: ClassVar[str] = "Quick Mode"
    exchange: QuickMode
    main: MainConversation
    over: bool = False
    previous: int | None = None

    @property
    def sa(self) -> MainConversation:
        return self.main


@dataclass(slots=True, eq=False)
class Child:
    """A live SA pair, or a bundle of two; SPIs by protocol, AH first. The first ones name it.

    `peer_behind`: a NAT is in front of the peer, which may turn up elsewhere; `peer_id` tells it from others there.
    """

    remote: str
    selectors: TrafficSelector
    inbound: dict[Protocol, int]
    outbound: dict[Protocol, int]
    created: float
    peer_behind: bool
    peer_id: bytes

    @property
    def inbound_spi(self) -> int:
        return next(iter(self.inbound.values()))

    @property
    def outbound_spi(self) -> int:
        return next(iter(self.outbound.values()))


@dataclass(frozen=True, slots=True)
class MainModeRecord:
    """A Main Mode as the diagnostic tools list it; `offer` and `established` are None as long as there is none.

    `address`, `port` and `local_port` are where its messages go; `quick_modes` is how many we began under it.
    """

    remote: str
    initiator: bool
    initiator_cookie: bytes
    responder_cookie: bytes
    offer: MainModeOffer | None
    established: float | None
    address: str
    port: int
    local_port: int
    nat: NatPath | None
    quick_modes: int

    @classmethod
    def of(cls, main: MainConversation) -> MainModeRecord:
        path = main.path
        return cls(
            main.remote,
            main.exchange.initiator,
            *main.cookies,
            getattr(main.exchange, "offer", None),
            main.established,
            path.address,
            path.port,
            path.local_port,
            main.nat,
            main.quick_modes_started,
        )
