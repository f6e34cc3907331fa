"""What every suite must do, in Python: `cryptography`, hashlib and hmac, nothing of the project's own.

The algorithms are written down here once more, from the RFCs, so that the tables of the C side are checked, too.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, replace
from typing import NamedTuple

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.ciphers.algorithms import AES

ROOM = 4  # bytes behind text and ICV that an operation may write


class Encryption(NamedTuple):
    """Lengths in bytes; `key` with the salt at its end."""

    text: str
    mode: str
    key: int
    salt: int
    iv: int
    block: int
    icv: int
    windows_2000: int = 0


class Integrity(NamedTuple):
    text: str
    hash: str
    key: int
    salt: int
    iv: int
    icv: int
    windows_2000: int = 0


ENCRYPTIONS = [
    Encryption("NULL", "null", 0, 0, 0, 4, 0, 1),
    Encryption("DES-CBC", "des", 8, 0, 8, 8, 0, 1),
    Encryption("3DES-CBC", "des", 24, 0, 8, 8, 0, 1),
    *[Encryption(f"AES-{8 * k}-CBC", "cbc", k, 0, 16, 16, 0) for k in (16, 24, 32)],
    *[Encryption(f"AES-{8 * k}-CTR", "ctr", k + 4, 4, 8, 4, 0) for k in (16, 24, 32)],
    *[
        Encryption(f"AES-{8 * k}-GCM{'' if icv == 16 else f'-{icv}'}", "gcm", k + 4, 4, 8, 4, icv)
        for icv in (16, 12, 8)
        for k in (16, 24, 32)
    ],
    Encryption("ChaCha20-Poly1305", "chacha", 36, 4, 8, 4, 16),
]

INTEGRITIES = [
    Integrity("none", "", 0, 0, 0, 0, 1),
    Integrity("HMAC-MD5-96", "md5", 16, 0, 0, 12, 1),
    Integrity("HMAC-SHA1-96", "sha1", 20, 0, 0, 12, 1),
    Integrity("HMAC-SHA2-256-128", "sha256", 32, 0, 0, 16),
    Integrity("HMAC-SHA2-384-192", "sha384", 48, 0, 0, 24),
    Integrity("HMAC-SHA2-512-256", "sha512", 64, 0, 0, 32),
    *[Integrity(f"AES-{8 * k}-GMAC", "gmac", k + 4, 4, 8, 16) for k in (16, 24, 32)],
]


@dataclass(frozen=True, slots=True)
class Packet:
    """A packet in its parts; `high` is the upper half of the sequence number, `ok` what a back end said of the ICV.

    ESP: `aad` is the ESP header, and the parts lie on the wire in the order of the fields. AH: `aad` is what comes
    before the IV (GMAC) and the ICV, `text` what comes behind them.
    """

    aad: bytes
    iv: bytes
    text: bytes
    icv: bytes
    high: int = 0
    ok: int = 1

    @property
    def bits(self) -> int:
        return 8 * len(self.aad + self.iv + self.text + self.icv)

    def flip(self, bit: int) -> Packet:
        """The packet with one bit of aad, iv, text, icv turned over."""
        parts = [self.aad, self.iv, self.text, self.icv]
        for i, part in enumerate(parts):
            if bit < 8 * len(part):
                parts[i] = part[: bit // 8] + bytes([part[bit // 8] ^ 1 << bit % 8]) + part[bit // 8 + 1 :]
                break
            bit -= 8 * len(part)
        return replace(self, aad=parts[0], iv=parts[1], text=parts[2], icv=parts[3])


def cbc(key: bytes, iv: bytes, text: bytes, *, decrypt: bool = False) -> bytes:
    """AES-CBC, or DES-CBC and 3DES-CBC by the length of the IV."""
    algorithm = AES(key) if len(iv) == 16 else TripleDES(key * 3 if len(key) == 8 else key)
    cipher = Cipher(algorithm, modes.CBC(iv))
    context = cipher.decryptor() if decrypt else cipher.encryptor()
    return context.update(text) + context.finalize()


def ctr(key: bytes, block: bytes, text: bytes) -> bytes:
    context = Cipher(AES(key), modes.CTR(block)).encryptor()
    return context.update(text) + context.finalize()


@dataclass(frozen=True, slots=True)
class Suite:
    """A combination of algorithms by their numbers."""

    encryption: int
    integrity: int
    esn: int = 0
    ah: int = 0

    @property
    def cipher(self) -> Encryption:
        return ENCRYPTIONS[self.encryption]

    @property
    def mac(self) -> Integrity:
        return INTEGRITIES[self.integrity]

    @property
    def name(self) -> str:
        algorithms = self.mac.text if self.ah else f"{self.cipher.text}+{self.mac.text}"
        return f"{'AH' if self.ah else 'ESP'}:{algorithms}{':ESN' if self.esn else ''}"

    @property
    def key_lengths(self) -> tuple[int, int]:
        return self.cipher.key, self.mac.key

    @property
    def iv(self) -> int:
        return self.cipher.iv or self.mac.iv

    @property
    def block(self) -> int:
        """What the length of a text is a multiple of. AH covers payloads of any length."""
        return 1 if self.ah else self.cipher.block

    @property
    def icv(self) -> int:
        return self.cipher.icv or self.mac.icv

    def wire(self, packet: Packet, *, received: bool) -> bytes:
        """The packet as an operation gets it. AH: the ICV is zero in its place (RFC 2402 3.3.3.1)."""
        if self.ah:
            return packet.aad + packet.iv + bytes(len(packet.icv)) + packet.text
        return packet.aad + packet.iv + packet.text + (packet.icv if received else bytes(len(packet.icv)))

    def unwire(self, packet: Packet, wire: bytes, ok: int) -> Packet:
        """What an operation left. AH inbound leaves the zeros in the place of the ICV, which `packet` keeps."""
        aad, iv = len(packet.aad), len(packet.aad + packet.iv)
        icv = iv if self.ah else iv + len(packet.text)
        behind = icv + len(packet.icv)
        text = wire[behind:] if self.ah else wire[iv:icv]
        return replace(packet, aad=wire[:aad], iv=wire[aad:iv], text=text, icv=wire[icv:behind], ok=ok)

    def seal(self, key: bytes, integrity_key: bytes, packet: Packet) -> Packet:
        """The packet encrypted and with its ICV."""
        high = packet.high.to_bytes(4, "big") if self.esn else b""
        associated = packet.aad[:4] + high + packet.aad[4:]  # ESP
        secret, salt = key[: len(key) - self.cipher.salt], key[len(key) - self.cipher.salt :]
        text, iv = packet.text, packet.iv
        match self.cipher.mode:
            case "gcm" | "chacha":
                aead = AESGCM(secret) if self.cipher.mode == "gcm" else ChaCha20Poly1305(secret)
                sealed = aead.encrypt(salt + iv, text, associated)
                return replace(packet, text=sealed[:-16], icv=sealed[-16:][: self.icv])
            case "cbc" | "des":
                both = cbc(secret, bytes(self.iv), iv + text)
                iv, text = both[: self.iv], both[self.iv :]
            case "ctr":
                text = ctr(secret, salt + iv + (1).to_bytes(4, "big"), text)
        sealed_packet = replace(packet, iv=iv, text=text)
        if not self.integrity:
            return sealed_packet
        if self.ah:
            covered = self.wire(sealed_packet, received=True) + high
        elif self.mac.hash == "gmac":
            covered = associated + iv + text
        else:
            covered = packet.aad + iv + text + high
        if self.mac.hash == "gmac":
            icv = AESGCM(integrity_key[:-4]).encrypt(integrity_key[-4:] + iv, b"", covered)
        else:
            icv = hmac.new(integrity_key, covered, getattr(hashlib, self.mac.hash)).digest()
        return replace(sealed_packet, icv=icv[: self.icv])


def valid(encryption: int, integrity: int, esn: int, ah: int) -> bool:
    """An ESN needs an ICV: its high half is in nothing else."""
    cipher, mac = ENCRYPTIONS[encryption], INTEGRITIES[integrity]
    if esn and not (cipher.icv or mac.hash):
        return False
    if ah:
        return cipher.mode == "null" and bool(mac.hash)
    if cipher.icv:
        return not mac.hash
    return cipher.mode == "null" or mac.hash != "gmac"


SUITES = [
    Suite(encryption, integrity, esn, ah)
    for ah in (0, 1)
    for encryption in range(len(ENCRYPTIONS))
    for integrity in range(len(INTEGRITIES))
    for esn in (0, 1)
    if valid(encryption, integrity, esn, ah)
]


def suite_named(encryption: str, integrity: str = "none", *, esn: int = 0, ah: int = 0) -> Suite:
    numbers = [a.text for a in ENCRYPTIONS].index(encryption), [a.text for a in INTEGRITIES].index(integrity)
    return Suite(*numbers, esn, ah)
