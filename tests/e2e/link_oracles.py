"""What a run left, read by tshark and by scapy with nothing but the exported keys, and the capture replayed."""

from __future__ import annotations

import csv
import json
import os
import shutil
import struct
import subprocess
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what its import says of old ciphers
    from scapy.layers.inet import IP, in4_chksum
    from scapy.layers.ipsec import ESP, SecurityAssociation
    from scapy.utils import RawPcapNgReader, RawPcapReader, checksum

LABS = Path(__file__).resolve().parents[2] / "labs"
OFFICE = LABS / "office.pcap"
ALICE, BOB = "10.0.0.1", "10.0.0.2"
CLIENT, SERVER = "192.168.57.10", "192.168.57.20"
COMPUTERS = {"ALICE": ALICE, "BOB": BOB}
TAKES_THE_PLACE_OF = {ALICE: CLIENT, BOB: SERVER}
ETHERTYPE_IPV4, ETHERTYPE_ARP = 0x0800, 0x0806
PROTO_TCP, PROTO_UDP, PROTO_ESP = 6, 17, 50
ETHERNET_HEADER, IP_HEADER = 14, 20
# Outer header 20, ESP header 8, IV 8, padding and trailer 9, ICV 12 (3DES and SHA-1 in a tunnel).
ESP_ROOM = 57
DONT_FRAGMENT, FRAGMENT = 0x4000, 0x3FFF  # FRAGMENT: more fragments, and the offset
CHECKSUM_AT = {PROTO_TCP: 16, PROTO_UDP: 6}

PREFERENCES = ("-o", "esp.enable_encryption_decode:TRUE", "-o", "esp.enable_authentication_check:TRUE")
FIELDS = (
    *("frame.time_epoch", "eth.src", "frame.protocols", "_ws.malformed"),
    *("ip.src", "ip.dst", "ip.dsfield", "ip.id", "ip.flags.df", "ip.ttl"),
    *("esp.spi", "esp.sequence", "esp.icv_good", "esp.icv_bad", "esp.protocol", "esp.contained_data"),
    *("isakmp.ispi", "isakmp.rspi", "isakmp.exchangetype", "isakmp.flag_e", "isakmp.flag_c", "isakmp.messageid"),
    *("isakmp.typepayload", "isakmp.id.data.ipv4_addr", "isakmp.hash", "isakmp.vid_bytes", "isakmp.prop.protoid"),
    *("isakmp.trans.id", "isakmp.spi", "isakmp.ipsec.attr.encap_mode", "isakmp.ipsec.attr.auth_algorithm"),
    "isakmp.notify.msgtype",
)
OUTER_ONLY = frozenset(field for field in FIELDS if field.startswith("ip."))
SCAPY_NAMES = {
    "TripleDES-CBC [RFC2451]": "3DES",
    "HMAC-SHA-1-96 [RFC2404]": "HMAC-SHA1-96",
    "AES-GCM with 16 octet ICV [RFC4106]": "AES-GCM",
    "NULL": None,
}

Row = dict[str, list[str]]
"""The values of each of FIELDS in one frame."""


def wire_ns(length: int) -> int:
    """Time on a link of 1 Gbit/s: preamble, at least 60 bytes, FCS, gap."""
    return (8 + max(60, length) + 4 + 12) * 8


# ---- packets --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Frame:
    """An Ethernet frame; `start` in ns."""

    start: int
    data: bytes

    @property
    def ethertype(self) -> int:
        return int.from_bytes(self.data[12:14])

    @property
    def packet(self) -> bytes:
        """The IPv4 packet in it, without padding."""
        packet = self.data[ETHERNET_HEADER:]
        return packet[: int.from_bytes(packet[2:4])]

    @property
    def protocol(self) -> int:
        return self.packet[9]

    @property
    def source(self) -> str:
        return str(IPv4Address(self.packet[12:16]))


@dataclass(frozen=True, slots=True)
class Datagram:
    """An IPv4 datagram and when its first and last fragments were seen (ns)."""

    first: int
    last: int
    data: bytes


def with_header(packet: bytes, fragment: int, payload: bytes) -> bytes:
    """The packet with another word of flags and offset, and another payload; length and checksum follow."""
    assert packet[0] == 0x45, "the labs' packets have no options"
    header = bytearray(packet[:IP_HEADER])
    struct.pack_into("!H", header, 2, IP_HEADER + len(payload))
    struct.pack_into("!H", header, 6, fragment)
    struct.pack_into("!H", header, 10, 0)
    struct.pack_into("!H", header, 10, checksum(bytes(header)))
    return bytes(header) + payload


def reassembled(frames: Iterable[Frame]) -> list[Datagram]:
    """Whole datagrams, in the order in which they were complete."""
    whole: list[Datagram] = []
    waiting: dict[bytes, dict[int, Frame]] = {}
    for frame in frames:
        packet = frame.packet
        word = int.from_bytes(packet[6:8])
        if not word & FRAGMENT:
            whole.append(Datagram(frame.start, frame.start, packet))
            continue
        key = packet[4:6] + packet[9:10] + packet[12:20]
        parts = waiting.setdefault(key, {})
        parts[(word & 0x1FFF) * 8] = frame
        payload, last = b"", False
        for offset, part in sorted(parts.items()):
            assert offset >= len(payload), "fragments overlap"
            if offset > len(payload):
                break
            payload += part.packet[IP_HEADER:]
            last = not int.from_bytes(part.packet[6:8]) & 0x2000
        else:
            if last:
                data = with_header(parts[0].packet, word & DONT_FRAGMENT, payload)
                whole.append(Datagram(min(part.start for part in parts.values()), frame.start, data))
                del waiting[key]
    assert not waiting, "fragments without their datagram"
    return whole


def readdressed(packet: bytes) -> bytes:
    """A datagram of the office between the computers of the lab, with scapy's checksums."""
    header = IP(packet[:IP_HEADER])
    address = {office: lab for lab, office in TAKES_THE_PLACE_OF.items()}
    header.src, header.dst = address[header.src], address[header.dst]
    moved = packet[:12] + IPv4Address(header.src).packed + IPv4Address(header.dst).packed
    payload = bytearray(packet[IP_HEADER:])
    at = CHECKSUM_AT.get(header.proto)
    if at is not None:
        struct.pack_into("!H", payload, at, 0)
        # Zero would mean "none" (RFC 768).
        struct.pack_into("!H", payload, at, in4_chksum(header.proto, header, bytes(payload)) or 0xFFFF)
    return with_header(moved, int.from_bytes(packet[6:8]), bytes(payload))


@cache
def office() -> tuple[Frame, ...]:
    """The capture; its first frame is at 0."""
    with RawPcapReader(str(OFFICE)) as reader:
        assert reader.nano
        read = [(stamp.sec * 10**9 + stamp.usec, data) for data, stamp in reader]
    return tuple(Frame(stamp - read[0][0], data) for stamp, data in read)


@cache
def replayed(sender: str, tunnel: bool) -> tuple[Datagram, ...]:
    """What a computer is given to send: packets unchanged through the tunnel, datagrams in its own name otherwise."""
    frames = [f for f in office() if f.ethertype == ETHERTYPE_IPV4 and f.source == TAKES_THE_PLACE_OF[sender]]
    if tunnel:
        return tuple(Datagram(frame.start, frame.start, frame.packet) for frame in frames)
    return tuple(Datagram(each.first, each.last, readdressed(each.data)) for each in reassembled(frames))


@cache
def scheduled(tunnel: bool) -> dict[str, tuple[int, ...]]:
    """When each of `replayed` is due, by sender: a frame that has to wait for the one before it, with room for ESP,
    makes everything later in the capture as late (the recorded hosts were faster than the link).
    """
    # Time in the capture, sender, bytes of layer 3, whether it is one of `replayed`.
    given = [(x.last, sender, len(x.data), True) for sender in TAKES_THE_PLACE_OF for x in replayed(sender, tunnel)]
    lab = {office: lab for lab, office in TAKES_THE_PLACE_OF.items()}
    for frame in office():
        if frame.ethertype == ETHERTYPE_ARP:
            arp = frame.data[ETHERNET_HEADER:]
            given.append((frame.start, lab[str(IPv4Address(arp[14:18]))], len(arp), False))
    due: dict[str, list[int]] = {sender: [] for sender in TAKES_THE_PLACE_OF}
    free = dict.fromkeys(TAKES_THE_PLACE_OF, 0)
    late = 0
    for recorded, sender, length, counts in sorted(given):
        late = max(late, free[sender] - recorded)
        free[sender] = recorded + late + wire_ns(ETHERNET_HEADER + length + ESP_ROOM)
        if counts:
            due[sender].append(recorded + late)
    return {sender: tuple(times) for sender, times in due.items()}


# ---- a run's folder -------------------------------------------------------------------------------------------------


def environment(config: Path) -> dict[str, str]:
    """For tshark: the folder that its tables are in, and no sanitizer that was loaded into Python."""
    kept = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    return kept | {"WIRESHARK_CONFIG_DIR": str(config)}


def tshark(capture: Path, tables: Sequence[Path], config: Path) -> list[Row]:
    """The frames as tshark sees them with these tables, and nothing else, in its configuration folder."""
    if shutil.which("tshark") is None:
        if "CI" in os.environ:
            pytest.fail("tshark, the oracle, is missing")
        pytest.skip("no tshark")
    config.mkdir()
    for table in tables:
        shutil.copy(table, config)
    fields = [word for field in FIELDS for word in ("-e", field)]
    output = subprocess.run(
        ["tshark", "-r", str(capture), *PREFERENCES, "-T", "fields", "-E", "separator=/t", *fields],
        check=True,
        capture_output=True,
        text=True,
        env=environment(config),
    ).stdout
    assert {path.name for path in config.iterdir()} == {table.name for table in tables}
    rows = []
    for line in output.splitlines():
        values = [text.split(",") if text else [] for text in line.split("\t")]
        row = dict(zip(FIELDS, values, strict=True))
        rows.append({field: found[:1] if field in OUTER_ONLY else found for field, found in row.items()})
    return rows


@dataclass(frozen=True, slots=True)
class ExportedSA:
    """A line of Wireshark's table esp_sa."""

    protocol: str
    source: str
    destination: str
    spi: int
    encryption: str
    encryption_key: bytes
    integrity: str
    integrity_key: bytes


def read_esp_sa(path: Path) -> list[ExportedSA]:
    return [
        ExportedSA(*line[:3], int(line[3], 16), line[4], _key(line[5]), line[6], _key(line[7]))
        for line in csv.reader(path.read_text().splitlines())
    ]


def _key(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))


class Lab:
    """What `simulate` left in `folder`."""

    def __init__(self, folder: Path, *, tunnel: bool = False, cipher: str = "3DES") -> None:
        self.folder = folder
        self.tunnel = tunnel
        self.cipher = cipher
        self.modern = cipher == "AES-GCM"

    @cached_property
    def result(self) -> dict[str, Any]:
        return json.loads((self.folder / "result.json").read_text())

    @cached_property
    def sas(self) -> dict[str, ExportedSA]:
        """The exported SAs by sender."""
        found = {sa.source: sa for sa in read_esp_sa(self.folder / "esp_sa")}
        assert set(found) == set(COMPUTERS.values())
        return found

    @property
    def tables(self) -> tuple[Path, Path]:
        return self.folder / "esp_sa", self.folder / "ikev1_decryption_table"

    @cached_property
    def frames(self) -> list[Frame]:
        with RawPcapNgReader(str(self.folder / "link.pcapng")) as reader:
            read = list(reader)
        assert {stamp.tsresol for _, stamp in read} == {10**9}
        return [Frame(stamp.tshigh << 32 | stamp.tslow, data) for data, stamp in read]

    def directions(self) -> Iterator[tuple[str, list[Frame]]]:
        """The frames of each direction, by the address of the computer whose MAC address they carry."""
        cards = {
            frame.data[6:12]: frame.source
            for frame in self.frames
            if frame.ethertype == ETHERTYPE_IPV4 and frame.protocol in (PROTO_ESP, PROTO_UDP)
        }
        assert sorted(cards.values()) == [ALICE, BOB]
        for card, source in cards.items():
            yield source, [frame for frame in self.frames if frame.data[6:12] == card]

    def esp(self, sender: str) -> list[Datagram]:
        """The ESP datagrams of one computer."""
        packets = [frame for frame in self.frames if frame.ethertype == ETHERTYPE_IPV4 and frame.source == sender]
        return reassembled(frame for frame in packets if frame.protocol == PROTO_ESP)

    @cached_property
    def rows(self) -> list[Row]:
        """The link as tshark sees it."""
        return tshark(self.folder / "link.pcapng", self.tables, self.folder.with_name(f"{self.folder.name}-wireshark"))

    @property
    def ike_rows(self) -> list[Row]:
        return [row for row in self.rows if row["isakmp.ispi"]]

    def esp_rows(self, sender: str) -> list[Row]:
        return [row for row in self.rows if row["esp.spi"] and row["ip.src"] == [sender]]

    def contained(self, sender: str) -> list[bytes]:
        """What ESP carries, without padding, decrypted by tshark."""
        return [bytes.fromhex(*row["esp.contained_data"]) for row in self.esp_rows(sender)]

    def opened_by_tshark(self, sender: str) -> list[bytes]:
        """IPv4 packets; in transport mode with the header that tshark reads, and the protocol that ESP carried."""
        if self.tunnel:
            return self.contained(sender)
        headers = [
            IP(
                src=row["ip.src"][0],
                dst=row["ip.dst"][0],
                tos=int(row["ip.dsfield"][0], 16),
                id=int(row["ip.id"][0], 16),
                flags="DF" if row["ip.flags.df"][0] in ("1", "True") else 0,
                ttl=int(row["ip.ttl"][0]),
                proto=int(row["esp.protocol"][0], 0),
                len=IP_HEADER + len(payload),
            )
            for row, payload in zip(self.esp_rows(sender), self.contained(sender), strict=True)
        ]
        return [bytes(header) + payload for header, payload in zip(headers, self.contained(sender), strict=True)]

    def opened_by_scapy(self, sender: str) -> list[bytes]:
        """IPv4 packets; scapy checks ICVs and padding."""
        sa = self.sas[sender]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what it says of old ciphers
            opener = SecurityAssociation(
                ESP,
                spi=sa.spi,
                crypt_algo=SCAPY_NAMES[sa.encryption],
                crypt_key=sa.encryption_key,
                auth_algo=SCAPY_NAMES[sa.integrity],
                auth_key=sa.integrity_key or None,
                tunnel_header=IP(src=sa.source, dst=sa.destination) if self.tunnel else None,
            )
            return [bytes(opener.decrypt(IP(each.data))) for each in self.esp(sender)]
