"""Protected packets that nobody of this project made, with their keys, and what is inside of them."""

from __future__ import annotations

import csv
import hashlib
import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path

from oracle import HMACS, Sa, attach, place

RESERVED = 256
"""SPIs below are IANA's (RFC 4303 2.1) and the driver takes none of them, but testers of old liked small numbers."""
MOVED_BY = 0x5000_0000


@dataclass(frozen=True, slots=True)
class Published:
    """`packet`: the protected one; `iv_length` and `icv_length` in bytes; `sequence` with its high half."""

    name: str
    sa: Sa
    packet: bytes
    sequence: int
    iv_length: int
    icv_length: int
    inner: bytes | None = None
    """What comes out, or None where only a digest of what the IPsec header carries is known."""
    digest: str = ""

    @property
    def at(self) -> int:
        """Where the IPsec header begins."""
        return place(self.packet)[0]

    @property
    def ends(self) -> tuple[str, str]:
        packet = self.packet
        addresses = (packet[12:16], packet[16:20]) if packet[0] >> 4 == 4 else (packet[8:24], packet[24:40])
        return str(ip_address(addresses[0])), str(ip_address(addresses[1]))

    @property
    def iv(self) -> bytes:
        begin = self.at + (8 if self.sa.protocol == "esp" else 12)
        return self.packet[begin : begin + self.iv_length]

    def allowed(self) -> Published:
        """The same with an SPI that is not reserved: all as it was but the SPI and the ICV that covers it."""
        if self.sa.spi >= RESERVED:
            return self
        sa = replace(self.sa, spi=self.sa.spi + MOVED_BY)
        return replace(self, sa=sa, packet=self.packet[: self.at] + self._with_icv(sa))

    def _with_icv(self, sa: Sa) -> bytes:
        if self.inner is not None:
            return self.sealed_by(sa)
        # Nothing but the digest of the inside is known: only the ICV is made anew.
        covered = self.packet[self.at : len(self.packet) - self.icv_length]
        assert self.sa.hmac(covered) == self.packet[len(self.packet) - self.icv_length :]
        moved = struct.pack("!I", sa.spi) + covered[4:]
        return moved + sa.hmac(moved)

    def sealed_by(self, sa: Sa) -> bytes:
        """From the IPsec header on, as the oracle makes it with the published IV."""
        assert self.inner is not None
        carried, next_header = self.inner, 4 if self.inner[0] >> 4 == 4 else 41
        if sa.tunnel is None:
            length, next_at = place(self.inner)
            carried, next_header = self.inner[length:], self.inner[next_at]
        if sa.protocol == "ah":
            return sa.ah(self.packet[: self.at], next_header, carried, self.sequence, self.iv)[self.at :]
        return sa.esp(carried, next_header, self.sequence, self.iv)


def _hex(text: str) -> bytes:
    return bytes.fromhex(text)


def _transport(header: bytes, text: bytes) -> bytes:
    """What comes out in transport mode: the header as it came, and the text without its trailer."""
    return attach(header, text[-1], text[: len(text) - 2 - text[-2]])


def _header(body: bytes) -> bytes:
    """A header for vectors that have none."""
    ends = ip_address("10.1.0.1").packed + ip_address("10.1.0.2").packed
    return attach(struct.pack("!BBHHHBBH", 0x45, 0, 0, 1, 0, 64, 0, 0) + ends, 50, body)[:20]


TUNNEL = ("0.0.0.0", "0.0.0.0")  # tunnel mode; the ends are those of the packet


def dpdk(captures: Path) -> Iterator[Published]:
    """DPDK's test vectors; AES-CCM is not ours."""
    hmacs = {"MD5_HMAC": "HMAC-MD5-96"} | {f"SHA{n}_HMAC": f"HMAC-SHA2-{n}-{n // 2}" for n in (256, 384, 512)}
    for vector in json.loads((captures / "dpdk-vectors/dpdk_ipsec_vectors.shared.json").read_text())["vectors"]:
        if vector["aead"] == "AES_CCM":
            continue
        key = _hex(vector["key"])
        bits, salted = 8 * len(key), key + _hex(vector["salt"])
        cipher, auth = vector["cipher"], vector["auth"]
        encryption = {"3DES_CBC": "3DES-CBC", "DES_CBC": "DES-CBC", "AES_CBC": f"AES-{bits}-CBC"}.get(cipher, "NULL")
        encryption_key = key if cipher else b""
        if cipher == "AES_CTR" or vector["aead"]:
            encryption, encryption_key = f"AES-{bits}-{'CTR' if cipher else 'GCM'}", salted
        integrity, integrity_key = hmacs.get(auth, "none"), _hex(vector["auth_key"])
        if auth == "AES_GMAC":
            integrity, integrity_key = f"AES-{8 * len(integrity_key)}-GMAC", integrity_key + _hex(vector["salt"])
        inner, packet = _hex(vector["input"]), _hex(vector["output"])
        if vector["direction"] == "INGRESS":
            inner, packet = packet, inner
        at, _ = place(packet)
        yield Published(
            vector["name"],
            Sa(
                int.from_bytes(packet[at + (4 if vector["proto"] == "AH" else 0) :][:4], "big"),
                vector["proto"].lower(),
                encryption,
                encryption_key,
                integrity,
                integrity_key,
                tunnel=TUNNEL if vector["mode"] == "TUNNEL" else None,
                esn=bool(vector["esn"]),
            ),
            packet,
            int.from_bytes(packet[at + (8 if vector["proto"] == "AH" else 4) :][:4], "big") | vector["seq_hi"] << 32,
            len(_hex(vector["iv"])) if vector["proto"] == "ESP" or auth == "AES_GMAC" else 0,
            vector["digest_length"],
            inner,
        )


def rfc3602(captures: Path) -> Iterator[Published]:
    """RFC 3602 section 4, cases 5 to 8: whole packets without ICV."""
    for case in json.loads((captures / "rfc-vectors/rfc3602.shared.json").read_text())["cases"]:
        if case["type"] == "esp-packet":
            header, text = _hex(case["esp_ip_header"]), _hex(case["pre_encryption"])
            tunnel = case["mode"] == "tunnel"
            yield Published(
                f"RFC 3602 case {case['id']}",
                Sa(
                    int(case["spi"], 16),
                    "esp",
                    "AES-128-CBC",
                    _hex(case["key"]),
                    "none",
                    b"",
                    TUNNEL if tunnel else None,
                ),
                _hex(case["packet"]),
                case["seq"],
                16,
                0,
                text[: len(text) - 2 - text[-2]] if tunnel else _transport(header, text),
            )


def gcm_draft(captures: Path) -> Iterator[Published]:
    """draft-mcgrew-gcm-test-01; the IP header is missing. All say that an ICMP message is inside: transport mode."""
    for case in json.loads((captures / "rfc-vectors/draft-mcgrew-gcm-test-01.shared.json").read_text())["cases"]:
        key, body = _hex(case["key"]), _hex(case["esp_packet_after_ip"])
        header = _header(body)
        yield Published(
            f"draft-mcgrew-gcm-test-01 case {case['id']}",
            Sa(
                *(int(case["spi"], 16), "esp", f"AES-{8 * len(key)}-GCM", key + _hex(case["salt"]), "none", b""),
                esn=case["esn"],
            ),
            header + body,
            int(case["seq"], 16),
            8,
            16,
            _transport(header, _hex(case["plaintext"])),
        )


LINUX = {
    "cbc(des)": ("DES-CBC", 8, 0),
    "cbc(aes)": ("AES-128-CBC", 16, 0),
    "rfc3686(ctr(aes))": ("AES-128-CTR", 8, 0),
    "rfc4106(gcm(aes))": ("AES-128-GCM", 8, 16),
    "rfc4543(gcm(aes))": ("AES-128-GMAC", 8, 16),
}


def linux(captures: Path) -> Iterator[Published]:
    """Made by Linux kernels; Blowfish and CAST are not ours."""
    for vector in json.loads((captures / "scapy/linux_kernel_esp_vectors.shared.json").read_text())["vectors"]:
        if vector["algorithm"] not in LINUX:
            continue
        name, iv_length, icv_length = LINUX[vector["algorithm"]]
        gmac = name.endswith("GMAC")
        algorithms = ("NULL", b"", name, _hex(vector["key"])) if gmac else (name, _hex(vector["key"]), "none", b"")
        spi, text = int(vector["spi"], 16), _hex(vector["plaintext"])
        body = struct.pack("!II", spi, vector["seq"]) + _hex(vector["esp_after_seq"])
        yield Published(
            f"{vector['kernel'].split('-')[0]} {vector['algorithm']}",
            Sa(spi, "esp", *algorithms, tunnel=TUNNEL),
            _header(body) + body,
            vector["seq"],
            iv_length,
            icv_length,
            text[: len(text) - 2 - text[-2]],
        )


CIPHERS = {"AES": ("AES-128-CBC", 16), "Tri": ("3DES-CBC", 8), "DES": ("DES-CBC", 8), "NUL": ("NULL", 0)}
HMAC_NAMES = {"HMAC-SHA-1-96 [RFC2404]": "HMAC-SHA1-96", "HMAC-MD5-96 [RFC2403]": "HMAC-MD5-96", "NULL": "none"}


def wireshark(captures: Path, frames: list[bytes], expected: str) -> Iterator[Published]:
    """Transport mode of KAME with the keys of Wireshark's table; of the inside there are length and SHA-256."""
    table = (captures / "wireshark-wiki-esp/capture_1/esp_sa").read_text().splitlines()
    sas: dict[tuple[str, str, int], Sa] = {}
    for row in csv.reader(line for line in table if line.startswith('"')):
        cipher, hmac = CIPHERS[row[4][:3]][0], HMAC_NAMES[row[6]]
        spi = int(row[3])
        sas[row[1], row[2], spi] = Sa(spi, "esp", cipher, row[5].encode(), hmac, row[7].encode())
    for packet in json.loads((captures / expected).read_text())["packets"]:
        sa = sas[packet["src"], packet["dst"], int(packet["spi"], 16)]
        yield Published(
            f"frame {packet['frame']}",
            sa,
            frames[packet["frame"] - 1],
            packet["seq"],
            dict(CIPHERS.values())[sa.encryption],
            HMACS[sa.integrity][1] if sa.integrity in HMACS else 0,
            digest=packet["plaintext_sha256"],
        )


# The command lines of tcpdump's tests esp1 and esp5; its file esp-secrets.txt has the first key rotated by a byte.
TCPDUMP_KEYS = {
    0x12345678: ("3DES-CBC", 8, _hex("4043434545464649494a4a4c4c4f4f515152525454575758")),
    0xD1234567: ("AES-256-CBC", 16, _hex("aaaabbbbccccdddd4043434545464649494a4a4c4c4f4f515152525454575758")),
}


def tcpdump(captures: Path, frames: list[bytes], name: str) -> Iterator[Published]:
    """Tunnel mode. Nobody tells the key of the ICV: its 12 bytes are taken off."""
    for packet in json.loads((captures / f"tcpdump/{name}.expected.json").read_text())["packets"]:
        spi, frame = int(packet["spi"], 16), frames[packet["frame"] - 1]
        encryption, iv_length, key = TCPDUMP_KEYS[spi]
        yield Published(
            f"{name} frame {packet['frame']}",
            Sa(spi, "esp", encryption, key, "none", b"", TUNNEL),
            attach(frame[:20], 50, frame[20:-12]),
            packet["seq"],
            iv_length,
            0,
            digest=packet["plaintext_sha256"],
        )


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
