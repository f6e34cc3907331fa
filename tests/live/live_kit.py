"""Packets of the kernel as a TUN device with virtio headers hands them over, made and read by scapy."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from scapy.layers.inet import IP, TCP, UDP
from scapy.packet import Raw

NONE, TCPV4, UDP_L4, ECN = 0, 1, 5, 0x80
NEEDS_CSUM = 1
HOSTS = ("10.1.0.1", "10.2.0.1")


@dataclass(frozen=True)
class Header:
    """A virtio_net_hdr (linux/virtio_net.h), in the order of its fields."""

    flags: int = 0
    gso_type: int = NONE
    hdr_len: int = 0
    gso_size: int = 0
    csum_start: int = 0
    csum_offset: int = 0

    def __bytes__(self) -> bytes:
        return struct.pack(
            "=BBHHHH",
            self.flags,
            self.gso_type,
            self.hdr_len,
            self.gso_size,
            self.csum_start,
            self.csum_offset,
        )

    @classmethod
    def read(cls, data: bytes) -> Header:
        return cls(*struct.unpack("=BBHHHH", data))


def tcp(
    data: bytes, seq: int = 1000, flags: str = "A", ack: int = 5, ident: int = 7, options: object = (), **ip: object
) -> bytes:
    """A TCP segment with right checksums."""
    header = TCP(sport=1234, dport=80, seq=seq, ack=ack, flags=flags, window=500, options=list(options))  # type: ignore[call-overload]
    return bytes(IP(src=HOSTS[0], dst=HOSTS[1], id=ident, flags="DF", **ip) / header / Raw(data))


def udp(data: bytes) -> bytes:
    return bytes(IP(src=HOSTS[0], dst=HOSTS[1], id=7) / UDP(sport=1234, dport=53) / Raw(data))


def without_checksum(packet: bytes, field: int) -> bytes:
    """The transport checksum as the kernel leaves it: the sum of the pseudo-header, to be completed."""
    size = len(packet) - 20
    pseudo = packet[12:20] + bytes([0, packet[9]]) + size.to_bytes(2)
    return packet[: 20 + field] + fold(pseudo).to_bytes(2) + packet[22 + field :]


def fold(data: bytes) -> int:
    """The sum of RFC 1071."""
    total = sum(int.from_bytes(data[i : i + 2].ljust(2, b"\0")) for i in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def checksums_are_right(packet: bytes) -> bool:
    """scapy computes them anew."""
    parsed = IP(packet)
    layer = TCP if TCP in parsed else UDP
    given = (parsed.chksum, parsed[layer].chksum)
    del parsed.chksum, parsed[layer].chksum
    again = IP(bytes(parsed))
    return given == (again.chksum, again[layer].chksum)
