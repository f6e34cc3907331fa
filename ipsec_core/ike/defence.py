"""Against floods of first messages: cookies that need no memory, and bounded tables of half-open Main Modes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from hashlib import blake2s
from hmac import compare_digest

from ipsec_core.ike.conversations import MainConversation
from ipsec_core.ike.wire import COOKIE_LENGTH

# How long a responder cookie is the same for one peer; it is recognised for once to twice as long.
BUCKET_SECONDS = 60.0


class Cookies:
    """Responder cookies from a secret, the peer's address and its cookie (RFC 2408 section 2.5.3).

    Only who gets mail at that address can know one, and nothing has to be kept to recognise it.
    """

    def __init__(self, random: Callable[[int], bytes]) -> None:
        self._secret = random(32)

    def make(self, now: float, remote: str, initiator_cookie: bytes) -> bytes:
        return self._cookie(int(now // BUCKET_SECONDS), remote, initiator_cookie)

    def recognise(self, now: float, remote: str, initiator_cookie: bytes, cookie: bytes) -> bool:
        bucket = int(now // BUCKET_SECONDS)
        return any(
            compare_digest(cookie, self._cookie(made, remote, initiator_cookie)) for made in (bucket, bucket - 1)
        )

    def _cookie(self, bucket: int, remote: str, initiator_cookie: bytes) -> bytes:
        data = initiator_cookie + bucket.to_bytes(8, signed=True) + remote.encode()
        return blake2s(data, key=self._secret, digest_size=COOKIE_LENGTH).digest()


class Allowance:
    """So many events a second on average, and as many at once: what anybody can cause must not fill the event log."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._left = rate
        self._time = 0.0

    def take(self, now: float) -> bool:
        self._left = min(self._rate, self._left + (now - self._time) * self._rate)
        self._time = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class HalfOpen:
    """Main Modes that others began, oldest first: at most `limit` in all and `per_peer` with one address.

    Every operation takes the same time however many there are.
    """

    def __init__(self, limit: int, per_peer: int) -> None:
        self._limit = limit
        self._per_peer = per_peer
        self._all: OrderedDict[MainConversation, None] = OrderedDict()
        self._by_peer: dict[str, OrderedDict[MainConversation, None]] = {}

    def __len__(self) -> int:
        return len(self._all)

    def __contains__(self, main: MainConversation) -> bool:
        return main in self._all

    @property
    def busy(self) -> bool:
        """Whether more are here than honest peers explain."""
        return len(self._all) >= self._limit // 2

    def of(self, remote: str) -> int:
        return len(self._by_peer.get(remote, ()))

    def add(self, main: MainConversation) -> MainConversation | None:
        """Take in the newest; the oldest that has to go for it, already taken out."""
        peers = self._by_peer.setdefault(main.remote, OrderedDict())
        oldest: MainConversation | None = None
        if len(peers) >= self._per_peer:
            oldest = next(iter(peers))
        elif len(self._all) >= self._limit:
            oldest = next(iter(self._all))
        self._all[main] = peers[main] = None
        if oldest is not None:
            self.remove(oldest)
        return oldest

    def remove(self, main: MainConversation) -> bool:
        """Take one out; whether it was here."""
        if main not in self._all:
            return False
        del self._all[main]
        peers = self._by_peer[main.remote]
        del peers[main]
        if not peers:
            del self._by_peer[main.remote]
        return True
