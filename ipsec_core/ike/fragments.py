"""IKE fragmentation, payload 132 ([MS-IKEE] 2.2.3.1): large messages as datagrams that no IP router has to cut."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from zlib import crc32

from ipsec_core.ike import wire
from ipsec_core.ike.failures import MalformedMessage
from ipsec_core.ike.iana import Flags, Notify, PayloadType

# An IPv4 datagram of 576 bytes without its IP and UDP headers, and without what stands before IKE on port 4500.
MAX_MESSAGE = 576 - 20 - 8 - 4
# ISAKMP header, payload header, fragment id, number and flags.
OVERHEAD = wire.HEADER_LENGTH + 4 + 4
LAST_FRAGMENT = 1
REASSEMBLY_SECONDS = 70.0
# What may wait for its missing parts: messages in all and of one address, fragments and bytes of each.
MAX_MESSAGES = 64
MAX_MESSAGES_PER_PEER = 4
MAX_FRAGMENTS = 64
MAX_BYTES = 32_768


def split(message: bytes) -> list[bytes]:
    """`message` as fragments, each a message of at most MAX_MESSAGE bytes; always the same ones."""
    whole = wire.parse_header(message)
    header = wire.Header(
        whole.initiator_cookie,
        whole.responder_cookie,
        whole.exchange,
        # A fragment is not encrypted, only what it holds a part of is.
        Flags.NONE,
        whole.message_id,
        PayloadType.FRAGMENT,
    )
    room = MAX_MESSAGE - OVERHEAD
    parts = [message[start : start + room] for start in range(0, len(message), room)]
    identifier = (crc32(message) & 0xFFFF).to_bytes(2)
    return [
        wire.encode_clear(
            header,
            (wire.Opaque(PayloadType.FRAGMENT, identifier + bytes((number, number == len(parts))) + part),),
        )
        for number, part in enumerate(parts, 1)
    ]


@dataclass(slots=True)
class _Message:
    """One that is not whole yet. The first fragment of each number counts, later ones change nothing."""

    begun: float
    parts: dict[int, bytes] = field(default_factory=dict)
    size: int = 0
    last: int | None = None


class Reassembly:
    """Messages that wait for their missing parts, oldest first."""

    def __init__(self) -> None:
        self._messages: OrderedDict[tuple[str, bytes, bytes, int], _Message] = OrderedDict()

    def __len__(self) -> int:
        return len(self._messages)

    def add(self, now: float, header: wire.Header, data: bytes, address: str) -> bytes | None:
        """Take in a fragment, a whole message `data` with `header`; the message that it completes, if it does."""
        payload = wire.parse_clear(header, data)[0]
        assert isinstance(payload, wire.Opaque)
        reader = wire.Reader(payload.data)
        identifier, number, flags = reader.number(2), reader.number(1), reader.number(1)
        part = reader.rest()
        self._expire(now)
        key = (address, header.initiator_cookie, header.responder_cookie, identifier)
        message = self._messages.get(key) or _Message(now)
        _check(message, number, part, last=bool(flags & LAST_FRAGMENT))
        if number not in message.parts:
            message.parts[number] = part
            message.size += len(part)
        if flags & LAST_FRAGMENT:
            message.last = number
        if len(message.parts) == message.last:
            self._messages.pop(key, None)
            return b"".join(message.parts[number] for number in range(1, message.last + 1))
        if key not in self._messages:
            self._make_room(address)
            self._messages[key] = message
        return None

    def _expire(self, now: float) -> None:
        while self._messages:
            key, message = next(iter(self._messages.items()))
            if now < message.begun + REASSEMBLY_SECONDS:
                return
            del self._messages[key]

    def _make_room(self, address: str) -> None:
        of_peer = [key for key in self._messages if key[0] == address]
        if len(of_peer) >= MAX_MESSAGES_PER_PEER:
            del self._messages[of_peer[0]]
        elif len(self._messages) >= MAX_MESSAGES:
            self._messages.popitem(last=False)


def _check(message: _Message, number: int, part: bytes, *, last: bool) -> None:
    """MalformedMessage for a fragment that does not agree with those before it or is beyond the bounds."""
    highest = max(message.parts, default=0)
    if not part or not 1 <= number <= MAX_FRAGMENTS:
        raise _refused(f"fragment {number} of {len(part)} bytes, numbers are 1 to {MAX_FRAGMENTS}")
    if message.last is not None and (number > message.last or last is not (number == message.last)):
        raise _refused(f"fragment {number} of a message that ends with {message.last}")
    if last and number < highest:
        raise _refused(f"fragment {number} is the last one, but there is {highest}")
    if message.parts.get(number, part) != part:
        raise _refused(f"another fragment {number}")
    if message.size + len(part) > MAX_BYTES:
        raise _refused(f"more than {MAX_BYTES} bytes in fragments")


def _refused(text: str) -> MalformedMessage:
    return MalformedMessage(Notify.PAYLOAD_MALFORMED, text)
