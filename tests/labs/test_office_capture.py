"""The recorded traffic is what labs/README.md says. IPSEC_CORE_OFFICE_CAPTURE names another recording to check."""

from __future__ import annotations

import os
import re
import struct
import subprocess
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

LABS = Path(__file__).resolve().parents[2] / "labs"
COMMITTED = LABS / "office.pcap"
RECORDING = Path(os.environ.get("IPSEC_CORE_OFFICE_CAPTURE", COMMITTED))
ETHERNET_HEADER, MTU = 14, 1400
CLIENT, SERVER = "192.168.57.10", "192.168.57.20"
PROTOCOLS = ("ip", "tcp", "udp", "icmp")
VERIFY_CHECKSUMS = [word for name in ("ip", "tcp", "udp") for word in ("-o", f"{name}.check_checksum:TRUE")]
README_ROW = re.compile(r"^\| `(?P<filter>.+?)` \| (?P<frames>\d+) \|", re.MULTILINE)


def readme_rows() -> list[tuple[str, int]]:
    return [(row["filter"], int(row["frames"])) for row in README_ROW.finditer((LABS / "README.md").read_text())]


# Display filter, and the frames that there are at least.
PRESENT = [
    ("frame", 1500),
    (f"ip.src == {CLIENT}", 600),
    (f"ip.src == {SERVER}", 600),
    (f"frame.len > 1000 and ip.src == {CLIENT}", 300),
    (f"frame.len > 1000 and ip.src == {SERVER}", 500),
    ("dns.flags.response == 0", 20),
    ("dns.flags.response == 1", 20),
    ("http.request", 30),
    ("http.response.code == 200", 30),
    ('ftp.request.command == "RETR"', 1),
    ('ftp.request.command == "STOR"', 1),
    (f"ftp-data and ip.src == {CLIENT}", 100),
    (f"ftp-data and ip.src == {SERVER}", 100),
    (f"ip.flags.mf == 1 and ip.src == {CLIENT}", 80),
    (f"ip.flags.mf == 1 and ip.src == {SERVER}", 80),
    (f"ip.reassembled.length == 4008 and ip.src == {CLIENT}", 40),
    (f"ip.reassembled.length == 4008 and ip.src == {SERVER}", 40),
    ("tcp.flags.fin == 1", 40),
]
ABSENT = [
    f"not arp and not (ip.addr == {CLIENT} and ip.addr == {SERVER})",
    "ipv6",
    "tcp.analysis.lost_segment",
    "_ws.malformed",
    *(f"{protocol}.checksum.status == 0" for protocol in PROTOCOLS),
]


@cache
def counts(capture: Path) -> dict[str, int]:
    """Frames of `capture` by display filter, for every filter used here, in one run of tshark."""
    filters = [shown for shown, _ in PRESENT + readme_rows()] + ABSENT
    filters += [shown for protocol in PROTOCOLS for shown in (protocol, f"{protocol}.checksum.status == 1")]
    command = ["tshark", "-r", str(capture), *VERIFY_CHECKSUMS, "-q", "-z", ",".join(["io", "stat", "0", *filters])]
    table = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    row = next(line for line in table.splitlines() if "<>" in line)
    return dict(zip(filters, map(int, row.split("|")[2:-1:2]), strict=True))


class Record(NamedTuple):
    stamp: int  # nanoseconds
    length: int  # on the wire
    frame: bytes


def records(capture: Path) -> list[Record]:
    """The records of a classic pcap with nanosecond stamps."""
    data = capture.read_bytes()
    assert struct.unpack_from("<I", data) == (0xA1B23C4D,)
    found, at = [], 24
    while at < len(data):
        seconds, nanoseconds, captured, length = struct.unpack_from("<4I", data, at)
        found.append(Record(seconds * 10**9 + nanoseconds, length, data[at + 16 : at + 16 + captured]))
        at += 16 + captured
    return found


def test_size() -> None:
    assert 1_200_000 < RECORDING.stat().st_size < 2_000_000
    assert counts(RECORDING)["frame"] == len(records(RECORDING)) <= 4000


def test_records_are_whole_ordered_and_below_the_mtu() -> None:
    found = records(RECORDING)
    stamps = [record.stamp for record in found]
    assert stamps == sorted(stamps)
    assert any(stamp % 1000 for stamp in stamps)
    assert all(len(record.frame) == record.length for record in found)
    assert max(record.length for record in found) == ETHERNET_HEADER + MTU


def test_one_datagram_without_an_answer_then_silence() -> None:
    """Time for an IKE negotiation between the first packet and the traffic, which only the client begins."""
    syslog, following = [record for record in records(RECORDING) if record.frame[12:14] == b"\x08\x00"][:2]
    port = ETHERNET_HEADER + 20 + 2
    assert syslog.frame[port : port + 2] == (514).to_bytes(2)
    assert following.stamp - syslog.stamp >= 300_000_000


@pytest.mark.parametrize(("display_filter", "at_least"), PRESENT)
def test_traffic_is_there(display_filter: str, at_least: int) -> None:
    assert counts(RECORDING)[display_filter] >= at_least


@pytest.mark.parametrize("display_filter", ABSENT)
def test_nothing_else_is_there(display_filter: str) -> None:
    assert counts(RECORDING)[display_filter] == 0


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_checksum_was_verified(protocol: str) -> None:
    """Status 1 is "good". That none is wrong is not enough: tshark might have looked at none."""
    assert counts(RECORDING)[f"{protocol}.checksum.status == 1"] == counts(RECORDING)[protocol]


def test_readme_has_the_table() -> None:
    assert len(readme_rows()) >= 15


@pytest.mark.parametrize(("display_filter", "frames"), readme_rows())
def test_readme_counts(display_filter: str, frames: int) -> None:
    assert counts(COMMITTED)[display_filter] == frames
