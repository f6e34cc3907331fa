"""The socket of an LDAP connection: a deadline, bounds on what a server may send, Kerberos signing and sealing.

It stands in for the socket in an `ldap3.Connection`, which knows neither: that waits for every piece anew, keeps all
that comes, and has GSS-API without security layers.
"""

from __future__ import annotations

import socket
import time
from typing import Any

# No policy is as large: of a connection, and of an LDAP message.
MOST_OCTETS = 64 << 20
LARGEST_MESSAGE = 8 << 20
# Answers to one request: the entries of a page, or of all where a server does not know pages.
MOST_MESSAGES = 20_000

_PIECE = 1 << 18
_SEQUENCE = 0x30
_NOT_LDAP = "sends something that is not LDAP"
# What a wrapped piece from the server may have (RFC 4752 3.1): we say so to it.
LARGEST_SEALED = 0xFF_FFFF


class Channel:
    """Around a connected stream socket, TLS or not. OSErrors tell in words what the server did wrong."""

    def __init__(self, stream: socket.socket, end: float) -> None:
        """Good until `end` (of time.monotonic)."""
        self.stream = stream
        self._end = end
        self._security: Any = None
        self._largest = 0
        self._octets = MOST_OCTETS
        self._messages = 0
        # Of the LDAP message that is coming: octets of its header, and those still to come.
        self._header = b""
        self._rest = 0

    def seal(self, security: Any, largest: int) -> None:
        """From now on everything is wrapped by a `gssapi.SecurityContext`, in pieces of at most `largest` octets."""
        self._security = security
        self._largest = security.get_wrap_size_limit(largest, True)
        if self._largest <= 0:
            raise OSError(f"takes sealed pieces of {largest} octets, too few")

    # --- what ldap3 calls ---

    def sendall(self, data: bytes) -> None:
        self._messages = 0
        self.stream.settimeout(self._left())
        if self._security is None:
            self.stream.sendall(data)
            return
        for start in range(0, len(data), self._largest):
            sealed = self._security.wrap(data[start : start + self._largest], True).message
            self.stream.sendall(len(sealed).to_bytes(4, "big") + sealed)

    def recv(self, size: int) -> bytes:
        """More than `size` octets, too: ldap3 takes them, and a large answer costs less."""
        data = self._receive(_PIECE) if self._security is None else self._unseal()
        self._watch(data)
        return data

    def shutdown(self, how: int) -> None:
        self.stream.shutdown(how)

    def close(self) -> None:
        self.stream.close()

    def getpeername(self) -> Any:
        return self.stream.getpeername()

    # --- underneath ---

    def _left(self) -> float:
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        return left

    def _receive(self, size: int) -> bytes:
        self.stream.settimeout(self._left())
        data = self.stream.recv(size)
        self._octets -= len(data)
        if self._octets < 0:
            raise OSError(f"sends more than {MOST_OCTETS >> 20} MB")
        return data

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            piece = self._receive(min(size - len(data), _PIECE))
            if not piece:
                return b""
            data += piece
        return data

    def _unseal(self) -> bytes:
        length = int.from_bytes(self._exactly(4), "big")
        if length > LARGEST_SEALED:
            raise OSError(f"sends a sealed piece of {length} octets, more than {LARGEST_SEALED}")
        sealed = self._exactly(length)
        if not sealed:
            return b""
        unwrapped = self._security.unwrap(sealed)
        if not unwrapped.encrypted:
            raise OSError("sends what is signed, but not encrypted")
        return bytes(unwrapped.message)

    def _watch(self, data: bytes) -> None:
        """Follows the BER headers (X.690 8.1.3; RFC 4511 5.1: definite lengths only)."""
        position = 0
        while position < len(data):
            if self._rest:
                step = min(self._rest, len(data) - position)
                self._rest -= step
                position += step
                continue
            self._header += data[position : position + 1]
            position += 1
            self._rest = self._length()
            if self._rest:
                self._header = b""
                self._messages += 1
            if self._messages > MOST_MESSAGES:
                raise OSError(f"sends more than {MOST_MESSAGES} messages at once")

    def _length(self) -> int:
        """Of the message with this header; 0 until the header is complete."""
        header = self._header
        if header[0] != _SEQUENCE:
            raise OSError(_NOT_LDAP)
        if len(header) < 2:
            return 0
        octets = header[1] & 0x7F
        if header[1] < 0x80:
            length = octets
        elif not 1 <= octets <= 4:
            raise OSError(_NOT_LDAP)
        elif len(header) < 2 + octets:
            return 0
        else:
            length = int.from_bytes(header[2:], "big")
        if length == 0:
            raise OSError(_NOT_LDAP)
        if length > LARGEST_MESSAGE:
            raise OSError(f"sends a message of {length} octets; accepted: up to {LARGEST_MESSAGE}")
        return length
