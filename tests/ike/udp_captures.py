"""The IKE messages of real captures: what is in UDP on ports 500 and 4500 of any pcap or pcapng file."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import struct
import subprocess
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what its import says of old ciphers
    from scapy.utils import RawPcapNgReader, RawPcapReader

PCAP = (b"\xd4\xc3\xb2\xa1", b"\xa1\xb2\xc3\xd4", b"\x4d\x3c\xb2\xa1", b"\xa1\xb2\x3c\x4d")
PCAPNG = b"\x0a\x0d\x0d\x0a"
# Link types (pcap-linktype(7)); the upper bits of the field say other things.
NULL, ETHERNET, LINUX_COOKED, RAW_IP = 0, 1, 113, (12, 101, 228, 229)
UDP = 17


def ip_packets(path: Path) -> Iterator[bytes]:
    """The IP packets of a capture, fragments as they are; nothing of a file that is no capture."""
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        magic = file.read(4)
    if magic not in (*PCAP, PCAPNG):
        return
    with RawPcapNgReader(str(path)) if magic == PCAPNG else RawPcapReader(str(path)) as packets:
        for data, meta in packets:
            link = (getattr(meta, "linktype", None) or getattr(packets, "linktype", ETHERNET)) & 0xFFFF
            if link == ETHERNET:
                at = 12
                while data[at : at + 2] in (b"\x81\x00", b"\x88\xa8"):
                    at += 4
                if data[at : at + 2] in (b"\x08\x00", b"\x86\xdd"):
                    yield data[at + 2 :]
            elif link in (NULL, LINUX_COOKED, *RAW_IP):
                yield data[{NULL: 4, LINUX_COOKED: 16}.get(link, 0) :]


def whole(packets: Iterable[bytes]) -> Iterator[tuple[bytes, int, bytes]]:
    """(source, protocol, payload) of each packet, of IPv4 fragments when all are there."""
    parts: dict[bytes, dict[int, bytes]] = {}
    ends: dict[bytes, int] = {}
    for packet in packets:
        if len(packet) >= 40 and packet[0] >> 4 == 6:
            yield packet[8:24], packet[6], packet[40 : 40 + int.from_bytes(packet[4:6])]
        elif len(packet) >= 20 and packet[0] >> 4 == 4:
            payload = packet[4 * (packet[0] & 15) : int.from_bytes(packet[2:4]) or None]
            fragment = int.from_bytes(packet[6:8])
            if fragment & 0x3FFF == 0:
                yield packet[12:16], packet[9], payload
                continue
            key, at = packet[4:6] + packet[9:10] + packet[12:20], 8 * (fragment & 0x1FFF)
            pieces = parts.setdefault(key, {})
            pieces[at] = payload
            if not fragment & 0x2000:
                ends[key] = at + len(payload)
            together = b"".join(pieces[at] for at in sorted(pieces))
            if len(together) == ends.get(key):
                del parts[key], ends[key]
                yield packet[12:16], packet[9], together


def ike_datagrams(path: Path) -> list[tuple[bytes, bytes]]:
    """(source, UDP payload) of all on an IKE port, without the non-ESP marker; ESP and keep-alives left out."""
    datagrams = []
    for source, protocol, datagram in whole(ip_packets(path)):
        if protocol != UDP or len(datagram) < 8:
            continue
        *ports, length = struct.unpack_from(">HHH", datagram)
        data = datagram[8:length]
        if 4500 in ports:
            if data[:4] == bytes(4):
                datagrams.append((source, data[4:]))
        elif 500 in ports:
            datagrams.append((source, data))
    return datagrams


def ike_messages(path: Path) -> list[bytes]:
    return [data for _, data in ike_datagrams(path)]


def sample_messages(captures: Path) -> dict[str, list[bytes]]:
    """Messages that lie in other files than captures: those of ike-scan, libreswan and scapy, by file."""
    files = sorted((captures / "ike-scan").glob("*.dat"))
    found = {str(path.relative_to(captures)): [path.read_bytes()] for path in files}
    packets = captures / "scapy" / "isakmp_packets.json"
    if packets.exists():
        listed = json.loads(packets.read_text())["packets"]
        datagrams = [bytes.fromhex(item["hex"])[8:] for item in listed if item["layer"] == "UDP"]
        found[str(packets.relative_to(captures))] = [data.removeprefix(bytes(4)) for data in datagrams]
    return found


def all_messages(captures: Path) -> dict[str, list[bytes]]:
    """Every IKE message of the folder of captures and of the lab beside it, by file."""
    found = sample_messages(captures)
    for root in (captures, captures.parent / "lab"):
        for path in sorted(root.rglob("*")) if root.is_dir() else []:
            if path.is_file() and (messages := ike_messages(path)):
                found[str(path.relative_to(root.parent if root.name == "lab" else root))] = messages
    return found


def write_pcap(path: Path, datagrams: Iterable[tuple[bytes, bytes]]) -> Path:
    """(source, message) as UDP datagrams on port 500, for tshark."""
    with path.open("wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, RAW_IP[1]))
        for number, (source, data) in enumerate(datagrams):
            total = 28 + len(data)
            packet = struct.pack(">BBHHHBBH", 0x45, 0, total, number & 0xFFFF, 0, 64, UDP, 0)
            packet += source[:4] + bytes([10, 0, 0, 255]) + struct.pack(">HHHH", 500, 500, 8 + len(data), 0) + data
            file.write(struct.pack("<IIII", number, 0, total, total) + packet)
    return path


def tshark_fields(path: Path, fields: Sequence[str], keys: Iterable[tuple[str, str]] = ()) -> list[list[list[str]]]:
    """Per packet and field the values that tshark sees, in their order; `keys` are (initiator cookie, cipher key)."""
    tshark = shutil.which("tshark")
    if tshark is None:
        if "CI" in os.environ:
            pytest.fail("tshark is not installed")
        pytest.skip("tshark is not installed")
    command = [tshark, "-n", "-r", str(path), "-T", "fields", "-E", "occurrence=a", "-E", "aggregator=;"]
    for cookie, key in keys:
        command += ["-o", f"uat:ikev1_decryption_table:{cookie},{key}"]
    for field in fields:
        command += ["-e", field]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [[value.split(";") if value else [] for value in line.split("\t")] for line in out.splitlines()]
