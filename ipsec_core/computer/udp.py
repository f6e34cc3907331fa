"""IPv4/UDP packets for the computer's own datagrams (RFC 791, RFC 768)."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address
from typing import NamedTuple

UDP = 17


class Datagram(NamedTuple):
    """What a UDP packet carries, and between which ports; `source` is its sender."""

    source: IPv4Address
    source_port: int
    destination_port: int
    data: bytes


def _checksum(data: bytes) -> int:
    """RFC 1071."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def build(
    source: IPv4Address,
    destination: IPv4Address,
    source_port: int,
    destination_port: int,
    data: bytes,
    identification: int,
) -> bytes:
    """A whole IPv4 packet with both checksums."""
    length = 8 + len(data)
    pseudo = source.packed + destination.packed + struct.pack("!BBH", 0, UDP, length)
    udp = struct.pack("!HHHH", source_port, destination_port, length, 0) + data
    udp = udp[:6] + struct.pack("!H", _checksum(pseudo + udp) or 0xFFFF) + udp[8:]
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + length, identification & 0xFFFF, 0, 128, UDP, 0)
    header += source.packed + destination.packed
    return header[:10] + struct.pack("!H", _checksum(header)) + header[12:] + udp


def parse(packet: bytes) -> Datagram | None:
    """The datagram in an IPv4/UDP packet; None when there is none or its checksum is wrong."""
    if len(packet) < 28 or packet[0] >> 4 != 4 or packet[9] != UDP:
        return None
    header = (packet[0] & 15) * 4
    if len(packet) < header + 8:
        return None
    source_port, destination_port, length, checksum = struct.unpack_from("!HHHH", packet, header)
    if length < 8 or header + length > len(packet):
        return None
    datagram = packet[header : header + length]
    if checksum and _checksum(packet[12:20] + struct.pack("!BBH", 0, UDP, length) + datagram):
        return None
    return Datagram(IPv4Address(packet[12:16]), source_port, destination_port, datagram[8:])
