"""A slow, readable ESP over `cryptography` (RFC 2406, 2451, 2404, 4106): the twin that the driver is held against."""

from __future__ import annotations

import hashlib
import hmac
import struct
import warnings
from dataclasses import dataclass
from ipaddress import IPv4Address

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES

IPV4, ESP = 4, 50
BLOCK = {"3DES-CBC": 8, "AES-128-GCM": 4}
ICV = {"3DES-CBC": 12, "AES-128-GCM": 16}


@dataclass(frozen=True, slots=True)
class Esp:
    """One SA as the oracle sees it. `outer` is the pair of tunnel ends, None in transport mode."""

    spi: int
    encryption: str
    encryption_key: bytes
    integrity_key: bytes = b""
    outer: tuple[str, str] | None = None

    def crypt(self, iv: bytes, text: bytes, *, encrypt: bool) -> bytes:
        """3DES-CBC, without padding (RFC 2451)."""
        cipher = Cipher(TripleDES(self.encryption_key), modes.CBC(iv))
        context = cipher.encryptor() if encrypt else cipher.decryptor()
        return context.update(text) + context.finalize()

    def mac(self, data: bytes) -> bytes:
        """HMAC-SHA1-96 (RFC 2404)."""
        return hmac.digest(self.integrity_key, data, hashlib.sha1)[: ICV["3DES-CBC"]]

    def body(self, sequence: int, iv: bytes, payload: bytes, next_header: int) -> bytes:
        """From the SPI to the ICV (RFC 2406 2). `iv` is the one on the wire, 8 bytes in both algorithms."""
        pad = -(len(payload) + 2) % BLOCK[self.encryption]
        return self.seal_text(sequence, iv, payload + bytes(range(1, pad + 1)) + bytes((pad, next_header)))

    def seal_text(self, sequence: int, iv: bytes, text: bytes) -> bytes:
        """The same around any text, trailer included."""
        header = struct.pack("!II", self.spi, sequence)
        if self.encryption == "AES-128-GCM":
            key, salt = self.encryption_key[:16], self.encryption_key[16:]
            return header + iv + AESGCM(key).encrypt(salt + iv, text, header)
        sealed = header + iv + self.crypt(iv, text, encrypt=True)
        return sealed + self.mac(sealed)

    def seal(self, packet: bytes, sequence: int, iv: bytes, identification: int = 1) -> bytes:
        """The protected packet. `identification` is the one of the outer header that tunnel mode makes."""
        if self.outer is None:
            length = packet[0] % 16 * 4
            header, payload, next_header = bytearray(packet[:length]), packet[length:], packet[9]
        else:
            source, destination = (IPv4Address(a).packed for a in self.outer)
            fragment = struct.unpack_from("!H", packet, 6)[0] & 0x4000
            header = bytearray(struct.pack("!BBHHHBBH", 0x45, packet[1], 0, identification, fragment, 128, 0, 0))
            header += source + destination
            payload, next_header = packet, IPV4
        body = self.body(sequence, iv, payload, next_header)
        return with_length(header, ESP, len(body)) + body

    def open(self, packet: bytes) -> bytes | None:
        """The packet inside, or None when the ICV is wrong."""
        length = packet[0] % 16 * 4
        body = packet[length:]
        size = ICV[self.encryption]
        header, iv, text, icv = body[:8], body[8:16], body[16:-size], body[-size:]
        if self.encryption == "AES-128-GCM":
            try:
                text = AESGCM(self.encryption_key[:16]).decrypt(self.encryption_key[16:] + iv, text + icv, header)
            except InvalidTag:
                return None
        else:
            if not hmac.compare_digest(self.mac(header + iv + text), icv):
                return None
            text = self.crypt(iv, text, encrypt=False)
        pad, next_header = text[-2:]
        assert text[-2 - pad : -2] == bytes(range(1, pad + 1))
        payload = text[: -2 - pad]
        return payload if self.outer else with_length(bytearray(packet[:length]), next_header, len(payload)) + payload


def with_length(header: bytearray, protocol: int, payload: int) -> bytes:
    """The IPv4 header with protocol, total length and checksum filled in."""
    header[9] = protocol
    struct.pack_into("!H", header, 2, len(header) + payload)
    header[10:12] = b"\0\0"
    struct.pack_into("!H", header, 10, checksum(header))
    return bytes(header)


def checksum(header: bytes | bytearray) -> int:
    """RFC 1071."""
    total = sum(struct.unpack(f"!{len(header) // 2}H", header))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
