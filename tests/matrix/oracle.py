"""A slow, readable ESP (RFC 4303) and AH (RFC 4302) over `cryptography` and `hmac`; the driver is held against it."""

from __future__ import annotations

import hmac
import struct
import warnings
from dataclasses import dataclass
from ipaddress import ip_address

from cryptography.hazmat.primitives.ciphers import Cipher, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.ciphers.algorithms import AES

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES

HOP_BY_HOP, UDP, ROUTING, FRAGMENT, ESP, AH, DESTINATION = 0, 17, 43, 44, 50, 51, 60
IN_IP = {4: 4, 6: 41}
SALT = 4
# RFC 2403, RFC 2404, RFC 4868
HMACS = {
    "HMAC-MD5-96": ("md5", 12),
    "HMAC-SHA1-96": ("sha1", 12),
    "HMAC-SHA2-256-128": ("sha256", 16),
    "HMAC-SHA2-384-192": ("sha384", 24),
    "HMAC-SHA2-512-256": ("sha512", 32),
}
# RFC 4302 appendix A1: IPv4 options that no router changes.
IMMUTABLE_OPTIONS = {0, 1, 130, 133, 134, 148, 149}
END, NO_OPERATION = 0, 1


@dataclass(frozen=True, slots=True)
class Sa:
    """`tunnel`: addresses of the outer header, None in transport mode; `udp`: ports (RFC 3948)."""

    spi: int
    protocol: str
    encryption: str
    encryption_key: bytes
    integrity: str
    integrity_key: bytes
    tunnel: tuple[str, str] | None = None
    udp: tuple[int, int] | None = None
    esn: bool = False

    def seal(self, packet: bytes, sequence: int, iv: bytes, identification: int = 0, padding: int = 0) -> bytes:
        """The protected packet. `identification`: of an outer IPv4 header; `padding`: bytes more than needed."""
        header, next_header, carried = self._split(packet, identification)
        if self.protocol == "ah":
            return self.ah(header, next_header, carried, sequence, iv)
        body = self.esp(carried, next_header, sequence, iv, padding)
        if self.udp is None:
            return attach(header, ESP, body)
        datagram = struct.pack("!HHHH", *self.udp, 8 + len(body), 0) + body
        if header[0] >> 4 == 6:
            datagram = with_udp_checksum(header, datagram)
        return attach(header, UDP, datagram)

    def _split(self, packet: bytes, identification: int) -> tuple[bytes, int, bytes]:
        """The header in front of IPsec, what IPsec names as its next header, and what it carries."""
        if self.tunnel:
            return outer_header(self.tunnel, packet, identification), IN_IP[packet[0] >> 4], packet
        length, next_at = place(packet)
        return packet[:length], packet[next_at], packet[length:]

    def esp(self, carried: bytes, next_header: int, sequence: int, iv: bytes, padding: int = 0) -> bytes:
        """RFC 4303 2: from the SPI to the ICV."""
        pad = -(len(carried) + 2) % BLOCK.get(self.encryption, 4) + padding
        text = carried + bytes(range(1, pad + 1)) + bytes((pad, next_header))
        return self.esp_text(text, sequence, iv)

    def esp_text(self, text: bytes, sequence: int, iv: bytes) -> bytes:
        """The same around any text, whose trailer may be wrong."""
        high, low = divmod(sequence, 1 << 32)
        header = struct.pack("!II", self.spi, low)
        above = struct.pack("!I", high) if self.esn else b""
        associated = header[:4] + above + header[4:]  # RFC 4106 5
        if self.encryption in COMBINED:
            return header + iv + combined(self.encryption, self.encryption_key, iv, text, associated)
        sealed = header + iv + encrypt(self.encryption, self.encryption_key, iv, text)
        if self.integrity.endswith("GMAC"):
            return sealed + gmac(self.integrity_key, iv, associated + iv + text)  # RFC 4543 3.2
        return sealed + self.hmac(sealed + above)

    def ah(self, header: bytes, next_header: int, carried: bytes, sequence: int, iv: bytes) -> bytes:
        high, low = divmod(sequence, 1 << 32)
        size = len(iv) + (16 if self.integrity.endswith("GMAC") else HMACS[self.integrity][1])
        size += -(12 + size) % (8 if header[0] >> 4 == 6 else 4)  # RFC 4302 2.6
        fixed = struct.pack("!BBHII", next_header, (12 + size) // 4 - 2, 0, self.spi, low)
        packet = attach(header, AH, fixed + iv.ljust(size, b"\0") + carried)
        covered = immutable(packet[: len(header)]) + packet[len(header) :]
        covered += struct.pack("!I", high) if self.esn else b""
        icv = gmac(self.integrity_key, iv, covered) if iv else self.hmac(covered)
        at = len(header) + 12 + len(iv)
        return packet[:at] + icv + packet[at + len(icv) :]

    def hmac(self, data: bytes) -> bytes:
        if self.integrity == "none":
            return b""
        name, length = HMACS[self.integrity]
        return hmac.digest(self.integrity_key, data, name)[:length]


# ---- algorithms ------------------------------------------------------------------------------------------------------

BLOCK = {"DES-CBC": 8, "3DES-CBC": 8} | {f"AES-{bits}-CBC": 16 for bits in (128, 192, 256)}
COMBINED = {"ChaCha20-Poly1305": 16} | {
    f"AES-{bits}-GCM{suffix}": icv for bits in (128, 192, 256) for suffix, icv in (("", 16), ("-12", 12), ("-8", 8))
}


def encrypt(name: str, key: bytes, iv: bytes, text: bytes) -> bytes:
    """NULL (RFC 2410), CBC (RFC 2405, 2451, 3602) and CTR, whose block counter begins at 1 (RFC 3686 4)."""
    if name == "NULL":
        return text
    if name.endswith("CTR"):
        nonce = key[-SALT:] + iv + b"\0\0\0\1"
        context = Cipher(AES(key[:-SALT]), modes.CTR(nonce)).encryptor()
    elif name.startswith("AES"):
        context = Cipher(AES(key), modes.CBC(iv)).encryptor()
    else:
        context = Cipher(TripleDES(key * 3 if name == "DES-CBC" else key), modes.CBC(iv)).encryptor()
    return context.update(text) + context.finalize()


def combined(name: str, key: bytes, iv: bytes, text: bytes, associated: bytes) -> bytes:
    """Ciphertext and ICV of GCM (RFC 4106) and ChaCha20-Poly1305 (RFC 7634)."""
    cipher = ChaCha20Poly1305 if name.startswith("ChaCha") else AESGCM
    sealed = cipher(key[:-SALT]).encrypt(key[-SALT:] + iv, text, associated)
    return sealed[: len(text) + COMBINED[name]]


def gmac(key: bytes, iv: bytes, data: bytes) -> bytes:
    """RFC 4543 3.1: GCM with nothing but associated data."""
    return AESGCM(key[:-SALT]).encrypt(key[-SALT:] + iv, b"", data)


# ---- headers ---------------------------------------------------------------------------------------------------------


def place(packet: bytes) -> tuple[int, int]:
    """Where a transport-mode header goes, and the byte in front of it that names what follows.

    Destination options stay in front only if a routing header follows them (RFC 4303 3.1.1).
    """
    if packet[0] >> 4 == 4:
        return packet[0] % 16 * 4, 9
    at, next_at = 40, 6
    while True:
        protocol = packet[next_at]
        stays = protocol in (HOP_BY_HOP, ROUTING, FRAGMENT)
        if protocol == DESTINATION:
            stays = packet[at] == ROUTING
        if not stays:
            return at, next_at
        next_at, at = at, at + (8 if protocol == FRAGMENT else 8 + packet[at + 1] * 8)


def attach(header: bytes, protocol: int, body: bytes) -> bytes:
    """The header, which now says that `protocol` follows, with `body` behind it."""
    if header[0] >> 4 == 4:
        return with_length(header, protocol, body)
    changed, at, next_at = bytearray(header), 40, 6
    while at < len(header):
        next_at, at = at, at + (8 if changed[next_at] == FRAGMENT else 8 + changed[at + 1] * 8)
    changed[next_at] = protocol
    struct.pack_into("!H", changed, 4, len(header) - 40 + len(body))
    return bytes(changed) + body


def with_length(header: bytes, protocol: int, body: bytes) -> bytes:
    """IPv4: protocol, total length and checksum filled in, and `body` behind it."""
    changed = bytearray(header)
    changed[9] = protocol
    struct.pack_into("!H", changed, 2, len(header) + len(body))
    changed[10:12] = b"\0\0"
    struct.pack_into("!H", changed, 10, checksum(changed))
    return bytes(changed) + body


def outer_header(tunnel: tuple[str, str], inner: bytes, identification: int) -> bytes:
    """RFC 2401 5.1.2: type of service and DF are those inside; IPv6 inside is never fragmented on the way."""
    ends = b"".join(ip_address(end).packed for end in tunnel)
    v4 = inner[0] >> 4 == 4
    tos = inner[1] if v4 else int.from_bytes(inner[:2], "big") >> 4 & 0xFF
    if len(ends) == 32:
        return struct.pack("!IHBB", 6 << 28 | tos << 20, 0, 0, 128) + ends
    dont_fragment = inner[6] << 8 & 0x4000 if v4 else 0x4000
    return struct.pack("!BBHHHBBH", 0x45, tos, 0, identification, dont_fragment, 128, 0, 0) + ends


def immutable(header: bytes) -> bytes:
    """RFC 4302 3.3.3.1: what may change on the way is zero."""
    hidden = bytearray(header)
    if header[0] >> 4 == 4:
        for at in (1, 6, 7, 8, 10, 11):
            hidden[at] = 0
        _hide_ipv4_options(hidden)
    else:
        hidden[0:4] = b"\x60\0\0\0"
        hidden[7] = 0
        at, next_at = 40, 6
        while at < len(header):
            size = 8 if header[next_at] == FRAGMENT else 8 + header[at + 1] * 8
            if header[next_at] in (HOP_BY_HOP, DESTINATION):
                _hide_ipv6_options(hidden, at + 2, at + size)
            next_at, at = at, at + size
    return bytes(hidden)


def _hide_ipv4_options(header: bytearray) -> None:
    at = 20
    while at < len(header) and header[at] != END:
        size = 1 if header[at] == NO_OPERATION else header[at + 1]
        if header[at] not in IMMUTABLE_OPTIONS:
            header[at : at + size] = bytes(size)
        at += size


def _hide_ipv6_options(header: bytearray, at: int, end: int) -> None:
    """The third bit of the type tells that the data may change (RFC 8200 4.2)."""
    while at < end:
        size = 1 if header[at] == 0 else 2 + header[at + 1]
        if header[at] & 0x20:
            header[at + 2 : at + size] = bytes(size - 2)
        at += size


def with_udp_checksum(header: bytes, datagram: bytes) -> bytes:
    """RFC 8200 8.1: under IPv6 it is a must."""
    pseudo = header[8:40] + struct.pack("!II", len(datagram), UDP)
    found = checksum(pseudo + datagram + bytes(len(datagram) % 2)) or 0xFFFF
    return datagram[:6] + struct.pack("!H", found) + datagram[8:]


def checksum(data: bytes | bytearray) -> int:
    """RFC 1071."""
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
