"""Where the Main Modes of an engine are found: by cookies, by peer, by the first message."""

from __future__ import annotations

from ipsec_core.ike import wire
from ipsec_core.ike.conversations import MainConversation, Path
from ipsec_core.ike.failures import MalformedMessage
from ipsec_core.ike.iana import Notify


class MainTable:
    """Every operation takes the same time however many peers there are."""

    def __init__(self) -> None:
        # By (initiator cookie, responder cookie); the latter is zero until message 2 tells it.
        self._by_cookies: dict[tuple[bytes, bytes], MainConversation] = {}
        # Those that a peer began, by (address, initiator cookie): to know a repeated message 1.
        self._openings: dict[tuple[str, bytes], MainConversation] = {}
        self._by_peer: dict[str, dict[MainConversation, None]] = {}

    # Which there are

    def all(self) -> list[MainConversation]:
        return list(self._by_cookies.values())

    def with_peer(self, remote: str) -> list[MainConversation]:
        """Oldest first."""
        return list(self._by_peer.get(remote, ()))

    def alive(self, remote: str) -> list[MainConversation]:
        """The established ones; those that another has superseded first, then oldest first."""
        alive = [main for main in self._by_peer.get(remote, ()) if main.established is not None]
        return sorted(alive, key=lambda main: not main.superseded) if len(alive) > 1 else alive

    # What belongs to a message

    def taken(self, initiator_cookie: bytes, responder_cookie: bytes = wire.NO_COOKIE) -> bool:
        return (initiator_cookie, responder_cookie) in self._by_cookies

    def unanswered(self, initiator_cookie: bytes) -> MainConversation | None:
        """One of ours that waits for message 2."""
        return self._by_cookies.get((initiator_cookie, wire.NO_COOKIE))

    def opened(self, remote: str, initiator_cookie: bytes) -> MainConversation | None:
        """What message 1 of a peer has begun."""
        return self._openings.get((remote, initiator_cookie))

    def known(self, header: wire.Header) -> bool:
        return self._lookup(header) is not None

    def negotiation(self, header: wire.Header, origin: Path) -> MainConversation:
        """What a message with cookies of ours belongs to; MalformedMessage if there is nothing with this peer."""
        main = self._lookup(header)
        if main is None or not main.expects(origin.address):
            raise MalformedMessage(Notify.INVALID_COOKIE, "no such negotiation with this peer")
        return main

    def established(self, header: wire.Header, origin: Path) -> MainConversation:
        """The SA that a message of phase 2 belongs to; MalformedMessage if it cannot be one."""
        main = self._by_cookies.get((header.initiator_cookie, header.responder_cookie))
        if main is None or main.established is None or not main.expects(origin.address):
            raise MalformedMessage(Notify.INVALID_COOKIE, "no Main Mode SA with these cookies and this peer")
        if not header.encrypted:
            raise MalformedMessage(Notify.INVALID_FLAGS, "phase 2 in clear")
        if not header.message_id:
            raise MalformedMessage(Notify.INVALID_MESSAGE_ID, "message id 0 in phase 2")
        main.origin = origin
        return main

    def _lookup(self, header: wire.Header) -> MainConversation | None:
        cookies = (header.initiator_cookie, header.responder_cookie)
        return self._by_cookies.get(cookies) or self.unanswered(header.initiator_cookie)

    # Changes

    def add(self, main: MainConversation) -> None:
        self._by_cookies[main.cookies] = main
        self._by_peer.setdefault(main.remote, {})[main] = None
        if not main.exchange.initiator:
            self._openings[main.remote, main.exchange.initiator_cookie] = main

    def answered(self, main: MainConversation) -> None:
        """Message 2 has told the responder's cookie."""
        del self._by_cookies[main.exchange.initiator_cookie, wire.NO_COOKIE]
        self._by_cookies[main.cookies] = main

    def remove(self, main: MainConversation) -> None:
        del self._by_cookies[main.cookies]
        if not main.exchange.initiator:
            del self._openings[main.remote, main.exchange.initiator_cookie]
        peers = self._by_peer[main.remote]
        del peers[main]
        if not peers:
            del self._by_peer[main.remote]
