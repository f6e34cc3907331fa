"""An LDAP server of a few lines that says what a test wants it to say (RFC 4511, BER)."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

BIND, UNBIND, SEARCH, MODIFY, ADD, DELETE, EXTENDED = 0x60, 0x42, 0x63, 0x66, 0x68, 0x4A, 0x77
RESPONSES = {BIND: 0x61, SEARCH: 0x65, MODIFY: 0x67, ADD: 0x69, DELETE: 0x6B, EXTENDED: 0x78}
PAGED_RESULTS = b"1.2.840.113556.1.4.319"


def tlv(tag: int, *parts: bytes) -> bytes:
    data = b"".join(parts)
    length = len(data)
    octets = length.to_bytes((length.bit_length() + 7) // 8, "big")
    head = bytes((length,)) if length < 0x80 else bytes((0x80 | len(octets),)) + octets
    return bytes((tag,)) + head + data


def read_tlv(data: bytes) -> tuple[int, bytes, bytes]:
    """Tag, content, and what follows."""
    length, start = data[1], 2
    if length >= 0x80:
        start += length & 0x7F
        length = int.from_bytes(data[2:start], "big")
    return data[0], data[start : start + length], data[start + length :]


@dataclass(frozen=True)
class Request:
    number: bytes
    operation: int
    name: str  # DN of a search, an addition, ...

    def message(self, *parts: bytes) -> bytes:
        return tlv(0x30, tlv(0x02, self.number), *parts)

    def result(self, code: int = 0, text: str = "", referrals: Sequence[str] = (), cookie: bytes = b"") -> bytes:
        links = tlv(0xA3, *(tlv(0x04, link.encode()) for link in referrals)) if referrals else b""
        head = tlv(0x0A, bytes((code,))), tlv(0x04), tlv(0x04, text.encode())
        controls = b""
        if cookie:
            value = tlv(0x30, tlv(0x02, b"\0"), tlv(0x04, cookie))
            controls = tlv(0xA0, tlv(0x30, tlv(0x04, PAGED_RESULTS), tlv(0x04, value)))
        return self.message(tlv(RESPONSES[self.operation], *head, links), controls)

    def entry(self, dn: str, attributes: Mapping[str, Sequence[bytes]]) -> bytes:
        pairs = (
            tlv(0x30, tlv(0x04, name.encode()), tlv(0x31, *(tlv(0x04, value) for value in values)))
            for name, values in attributes.items()
        )
        return self.message(tlv(0x64, tlv(0x04, dn.encode()), tlv(0x30, *pairs)))

    def reference(self, url: str) -> bytes:
        return self.message(tlv(0x73, tlv(0x04, url.encode())))


Answer = Callable[[Request], bytes | None]


def _requests(connection: socket.socket) -> Iterator[Request]:
    buffer = b""
    while True:
        piece = connection.recv(1 << 16)
        if not piece:
            return
        buffer += piece
        while len(buffer) >= 6:
            # Lengths of up to 65535 octets; the pieces of these tests come whole.
            _, message, buffer = read_tlv(buffer)
            _, number, rest = read_tlv(message)
            operation, content, _ = read_tlv(rest)
            name = content if operation == DELETE else b"" if operation in (BIND, UNBIND) else read_tlv(content)[1]
            yield Request(number, operation, name.decode())


class Liar:
    """`answer` gives the octets for a request, or None to hang up.

    `drip`: seconds between two octets. `last`: the operation after whose answer it hangs up.
    """

    def __init__(self, answer: Answer, drip: float = 0.0, last: int = UNBIND) -> None:
        self._answer, self._drip, self._last = answer, drip, last
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"ldap://127.0.0.1:{self._socket.getsockname()[1]}/DC=lab"
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._ended.set()
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)
        self._socket.close()

    def _serve(self) -> None:
        while not self._ended.is_set():
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection, suppress(OSError):
                connection.settimeout(5)
                self._talk(connection)

    def _talk(self, connection: socket.socket) -> None:
        for request in _requests(connection):
            data = None if request.operation == UNBIND else self._answer(request)
            if data is None:
                return
            if not self._drip:
                connection.sendall(data)
            for octet in data if self._drip else b"":
                connection.sendall(bytes((octet,)))
                time.sleep(self._drip)
                if self._ended.is_set():
                    return
            if request.operation == self._last:
                return


@contextmanager
def liar(answer: Answer, drip: float = 0.0, last: int = UNBIND) -> Iterator[Liar]:
    made = Liar(answer, drip, last)
    try:
        yield made
    finally:
        made.close()
