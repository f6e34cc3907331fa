"""A slow, readable ESP and AH of both families over `cryptography` (RFC 2402, 2406, 4302, 4303, 4543, 3948)."""

from __future__ import annotations

import hashlib
import hmac
import struct
from dataclasses import dataclass
from ipaddress import ip_address

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from esp_oracle import TripleDES, checksum, with_length

ESP, AH, UDP = 50, 51, 17
HASHES = {"HMAC-SHA1-96": (hashlib.sha1, 12), "HMAC-SHA2-256-128": (hashlib.sha256, 16)}
IV = {"NULL": 0, "3DES-CBC": 8, "AES-128-GCM": 8}
BLOCK = {"NULL": 4, "3DES-CBC": 8, "AES-128-GCM": 4}


@dataclass(frozen=True, slots=True)
class Ipsec:
    """One SA. `outer`: tunnel ends, None in transport mode; `encapsulation`: ports of UDP around ESP."""

    spi: int
    encryption: str = "NULL"
    encryption_key: bytes = b""
    integrity: str = "none"
    integrity_key: bytes = b""
    protocol: str = "esp"
    esn: bool = False
    outer: tuple[str, str] | None = None
    encapsulation: tuple[int, int] | None = None

    @property
    def gmac(self) -> bool:
        return self.integrity == "AES-128-GMAC"

    @property
    def icv(self) -> int:
        if self.gmac or self.encryption == "AES-128-GCM":
            return 16
        return HASHES[self.integrity][1] if self.integrity != "none" else 0

    def seal(self, packet: bytes, number: int, iv: bytes = bytes(8), identification: int = 1) -> bytes:
        """The protected packet with sequence number `number` (64 bits)."""
        header, payload, next_header = self.around(packet, identification)
        if self.protocol == "ah":
            return self.seal_ah(header, payload, next_header, number, iv)
        body = self.body(payload, next_header, number, iv)
        protocol = ESP
        if self.encapsulation:
            protocol = UDP
            body = under_udp(header, self.encapsulation, body)
        return joined(header, protocol, body)

    def around(self, packet: bytes, identification: int) -> tuple[bytes, bytes, int]:
        """Header in front, what is carried, its protocol number."""
        if self.outer is None:
            size = 40 if packet[0] >> 4 == 6 else packet[0] % 16 * 4
            return packet[:size], packet[size:], packet[6 if packet[0] >> 4 == 6 else 9]
        inner = packet[0] >> 4
        tos = packet[1] if inner == 4 else struct.unpack_from("!H", packet)[0] >> 4 & 0xFF
        ends = b"".join(ip_address(end).packed for end in self.outer)
        if len(ends) == 8:
            df = struct.unpack_from("!H", packet, 6)[0] & 0x4000 if inner == 4 else 0x4000
            header = struct.pack("!BBHHHBBH", 0x45, tos, 0, identification, df, 128, 0, 0) + ends
        else:
            header = struct.pack("!IHBB", 6 << 28 | tos << 20, 0, 0, 128) + ends
        return header, packet, 4 if inner == 4 else 41

    def body(self, payload: bytes, next_header: int, number: int, iv: bytes = bytes(8)) -> bytes:
        """From the SPI to the ICV, with padding 1, 2, 3, ..."""
        pad = -(len(payload) + 2) % BLOCK[self.encryption]
        return self.seal_text(payload + bytes(range(1, pad + 1)) + bytes((pad, next_header)), number, iv)

    def seal_text(self, text: bytes, number: int, iv: bytes = bytes(8)) -> bytes:
        """The same around any text, trailer included."""
        start = struct.pack("!II", self.spi, number & 0xFFFFFFFF)
        high = struct.pack("!I", number >> 32) if self.esn else b""
        if self.encryption == "AES-128-GCM":
            aad = start[:4] + high + start[4:]
            key, salt = self.encryption_key[:16], self.encryption_key[16:]
            return start + iv + AESGCM(key).encrypt(salt + iv, text, aad)
        if self.encryption == "3DES-CBC":
            context = Cipher(TripleDES(self.encryption_key), modes.CBC(iv)).encryptor()
            text = iv + context.update(text) + context.finalize()
        if self.gmac:
            aad = start[:4] + high + start[4:] + iv + text
            return start + iv + text + self.tag(iv, aad)
        return start + text + self.mac(start + text + high)

    def open(self, body: bytes, high: int = 0) -> bytes | None:
        """The text of an ESP body, None when its ICV is wrong. `high`: upper half of the sequence number."""
        size, iv = self.icv, body[8 : 8 + IV[self.encryption]]
        number = int.from_bytes(body[4:8], "big") | high << 32
        text = body[8 + len(iv) : len(body) - size]
        if self.encryption == "AES-128-GCM":
            aad = body[:4] + (struct.pack("!I", high) if self.esn else b"") + body[4:8]
            try:
                return AESGCM(self.encryption_key[:16]).decrypt(self.encryption_key[16:] + iv, body[16:], aad)
            except InvalidTag:
                return None
        if self.encryption == "3DES-CBC":
            context = Cipher(TripleDES(self.encryption_key), modes.CBC(iv)).decryptor()
            text = context.update(text) + context.finalize()
        if self.gmac:
            iv, text = text[:8], text[8:]
        return text if self.seal_text(text, number, iv) == body else None

    def mac(self, data: bytes) -> bytes:
        if self.integrity == "none":
            return b""
        name, size = HASHES[self.integrity]
        return hmac.digest(self.integrity_key, data, name)[:size]

    def tag(self, iv: bytes, aad: bytes) -> bytes:
        return AESGCM(self.integrity_key[:16]).encrypt(self.integrity_key[16:] + iv, b"", aad)

    def seal_ah(self, header: bytes, payload: bytes, next_header: int, number: int, iv: bytes) -> bytes:
        unit = 8 if header[0] >> 4 == 6 else 4
        iv = iv if self.gmac else b""
        pad = -(12 + len(iv) + self.icv) % unit
        words = (12 + len(iv) + self.icv + pad) // 4 - 2
        start = struct.pack("!BBHII", next_header, words, 0, self.spi, number & 0xFFFFFFFF)
        whole = bytearray(joined(header, AH, start + iv + bytes(self.icv + pad) + payload))
        covered = bytes(immutable(whole)) + (struct.pack("!I", number >> 32) if self.esn else b"")
        at = len(header) + 12 + len(iv)
        whole[at : at + self.icv] = self.tag(iv, covered) if self.gmac else self.mac(covered)
        return bytes(whole)


def immutable(packet: bytearray) -> bytearray:
    """RFC 2402 3.3.3.1 for headers without options and extension headers."""
    out = bytearray(packet)
    if packet[0] >> 4 == 6:
        out[:4], out[7] = b"\x60\0\0\0", 0
    else:
        out[1] = out[8] = 0
        out[6:8] = out[10:12] = b"\0\0"
    return out


def joined(header: bytes, protocol: int, payload: bytes) -> bytes:
    """Header, with what follows and the length put right, and payload."""
    if header[0] >> 4 == 4:
        return with_length(bytearray(header), protocol, len(payload)) + payload
    return header[:4] + struct.pack("!HB", len(payload), protocol) + header[7:] + payload


def under_udp(header: bytes, ports: tuple[int, int], data: bytes) -> bytes:
    """RFC 3948 2.1: checksum zero under IPv4; IPv6 wants a right one (RFC 8200 8.1)."""
    datagram = struct.pack("!HHHH", *ports, 8 + len(data), 0) + data
    if header[0] >> 4 == 4:
        return datagram
    pseudo = header[8:40] + struct.pack("!II", len(datagram), UDP)
    total = pseudo + datagram
    return datagram[:6] + struct.pack("!H", checksum(total + bytes(len(total) % 2)) or 0xFFFF) + data
