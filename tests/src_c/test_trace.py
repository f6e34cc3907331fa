"""ipc_trace_load and conversations against scapy; link types, tags, short and damaged captures."""

from __future__ import annotations

import struct
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from scapy.layers.inet import IP, UDP, IPOption
from scapy.layers.l2 import ARP, Dot1AD, Dot1Q, Ether
from scapy.packet import Packet, Raw
from scapy.utils import PcapReader, RawPcapReader, wrpcap

RAW = 101
GIB = 1 << 30


def pcap(
    path: Path, frames: list[tuple[int, bytes, int]], link: int = 1, magic: int = 0xA1B23C4D, order: str = "<"
) -> Path:
    """A nanosecond pcap file of (ns, bytes, length on the wire)."""
    data = struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 262144, link)
    for time, frame, length in frames:
        data += struct.pack(order + "IIII", *divmod(time, 10**9), len(frame), length) + frame
    path.write_bytes(data)
    return path


def whole(*frames: bytes) -> list[tuple[int, bytes, int]]:
    return [(1000 + i, frame, len(frame)) for i, frame in enumerate(frames)]


def udp(payload: bytes = b"hello", src: str = "10.0.0.1", dst: str = "10.0.0.2") -> bytes:
    return bytes(IP(src=src, dst=dst) / UDP(sport=1, dport=2) / Raw(payload))


def ethernet(packet: bytes, kind: int = 0x800, src: int = 1, dst: int = 2) -> bytes:
    return bytes(5) + bytes([dst]) + bytes(5) + bytes([src]) + kind.to_bytes(2, "big") + packet


def is_capture(path: Path) -> bool:
    magics = ("a1b2c3d4", "d4c3b2a1", "a1b23c4d", "4d3cb2a1", "0a0d0d0a")
    return path.is_file() and path.read_bytes()[:4].hex() in magics


def files(folder: Path) -> list[Path]:
    return sorted(x for x in folder.rglob("*") if is_capture(x))


def test_every_file_loads_or_says_why(library: Any, names: SimpleNamespace, captures: Path) -> None:
    loaded = 0
    for path in sorted(x for x in captures.rglob("*") if x.is_file()):
        trace = library.trace(path)
        if trace.code == 0:
            loaded += 1
            with RawPcapReader(str(path)) as reader:
                assert trace.stats.frames == sum(1 for _ in reader), path
            assert trace.map() == 0
            stats = trace.stats
            assert (stats.mapped, stats.unmapped + stats.unsendable) == (0, stats.frames)
        else:
            assert trace.code in (names.FORMAT, names.IO)
            assert trace.error
            assert trace.error.isprintable()
            assert not is_capture(path) or "interface" in trace.error or "link type 107 (FRELAY)" in trace.error
    assert loaded > 100


def slow_conversations(path: Path) -> list[tuple[int, int, int, int]]:
    def number(text: str) -> int:
        return int.from_bytes(bytes(map(int, text.split("."))), "big")

    packets: Counter[tuple[int, int]] = Counter()
    bytes_: Counter[tuple[int, int]] = Counter()
    with PcapReader(str(path)) as reader:
        for frame in reader:
            layer: Packet = frame
            if isinstance(layer, Ether) and int(layer.dst[:2], 16) & 1:
                continue
            tags = 0
            while isinstance(layer, (Dot1Q, Dot1AD)) or (layer is frame and not isinstance(layer, IP)):
                tags += isinstance(layer, (Dot1Q, Dot1AD))
                layer = layer.payload
            if not isinstance(layer, IP) or tags > 2:
                continue
            missing = (frame.wirelen or len(frame.original)) - len(frame.original)
            if layer.ihl < 5 or layer.ihl * 4 > layer.len or layer.len > len(layer.original) + missing:
                continue
            a, b = sorted((number(layer.src), number(layer.dst)))
            if 0 < a < b < 224 << 24:
                packets[a, b] += 1
                bytes_[a, b] += layer.len
    rows = [(a, b, count, bytes_[a, b]) for (a, b), count in packets.items()]
    return sorted(rows, key=lambda x: (-x[2], x[0], x[1]))


def test_conversations_equal_a_slow_count(library: Any, captures: Path) -> None:
    compared = 0
    for path in files(captures):
        trace = library.trace(path)
        if trace.code or path.stat().st_size > 200_000:
            continue
        expected = slow_conversations(path)
        assert trace.conversations() == expected, path
        assert trace.conversations(1) == expected[:1] or not expected
        compared += len(expected)
    assert compared > 200


@pytest.mark.parametrize("order", ["<", ">"])
def test_times_never_decrease(library: Any, names: SimpleNamespace, tmp_path: Path, order: str) -> None:
    stamps = [5_000_000_000, 4_999_999_999, 5_000_000_001, 5_000_000_000, 2_000_000_000_000_000_007]
    path = pcap(tmp_path / "x", [(t, ethernet(udp()), 47) for t in stamps], order=order)
    trace = library.trace(path)
    assert trace.map(names.host("10.0.0.1", 0), names.host("10.0.0.2", 1)) == 0
    assert [x.time for x in trace.frames()] == [0, 0, 1, 1, 2_000_000_000_000_000_007 - 5_000_000_000]
    assert [x.number for x in trace.frames()] == [1, 2, 3, 4, 5]
    assert trace.stats.duration == 2_000_000_000_000_000_007 - 5_000_000_000


def loaded(library: Any, names: SimpleNamespace, path: Path) -> list[SimpleNamespace]:
    trace = library.trace(path)
    assert (trace.code, trace.error) == (0, "")
    assert trace.map(names.host("10.0.0.1", 0), names.host("10.0.0.2", 1)) == 0
    frames: list[SimpleNamespace] = trace.frames()
    return frames


MADE = bytes.fromhex("02000a000002 02000a000001 0800")
SLL = struct.pack(">HHH8sH", 0, 1, 6, bytes(8), 0x800)
SLL2 = struct.pack(">HHIHBB8s", 0x800, 0, 1, 1, 0, 6, bytes(8))


@pytest.mark.parametrize(
    ("link", "header"),
    [
        *((link, b"") for link in (12, 14, RAW, 228)),
        (113, SLL),
        (276, SLL2),
        *((0, struct.pack(order + "I", 2)) for order in "<>"),
        (108, struct.pack(">I", 2)),
    ],
)
def test_link_types_without_ethernet(
    library: Any, names: SimpleNamespace, tmp_path: Path, link: int, header: bytes
) -> None:
    (frame,) = loaded(library, names, pcap(tmp_path / "x", whole(header + udp() + b"trailer"), link))
    assert frame.l2 == MADE
    assert frame.l3 == udp()
    assert (frame.ethertype, frame.sender, frame.receiver) == (0x800, 0, 1)


def test_made_up_addresses_of_groups(library: Any, names: SimpleNamespace, tmp_path: Path) -> None:
    packets = [udp(dst=x) for x in ("239.129.2.3", "255.255.255.255", "10.0.0.255")]
    broadcast = struct.pack(">HHH8sH", 1, 1, 6, bytes(8), 0x800)
    path = pcap(
        tmp_path / "x", whole(SLL + packets[0], SLL + packets[1], broadcast + packets[2], SLL + packets[2]), 113
    )
    frames = loaded(library, names, path)
    assert [x.l2[:6].hex() for x in frames] == ["01005e010203", "ffffffffffff", "ffffffffffff"]
    assert all(x.sender == x.receiver == 0 for x in frames)


@pytest.mark.parametrize(
    ("link", "header"), [(229, b""), (RAW, b""), (0, struct.pack("<I", 30)), (0, struct.pack(">I", 10))]
)
def test_ipv6_without_ethernet_stays_unmapped(
    library: Any, names: SimpleNamespace, tmp_path: Path, link: int, header: bytes
) -> None:
    packet = b"\x60" + bytes(39)
    trace = library.trace(pcap(tmp_path / "x", whole(header + packet), link))
    assert trace.map(names.host("0.0.0.0", 0, prefix=0)) == 0
    assert (trace.stats.unmapped, trace.stats.unsendable) == (1, 0)


@pytest.mark.parametrize("tag", [Dot1Q, Dot1AD])
@pytest.mark.parametrize("tags", [0, 1, 2])
def test_tags_stay_in_l2(library: Any, names: SimpleNamespace, tmp_path: Path, tag: type[Packet], tags: int) -> None:
    frame = Ether(src="00:00:00:00:00:01", dst="00:00:00:00:00:02")
    for number in range(tags):
        frame /= tag(vlan=number + 5)
    data = bytes(frame / IP(udp())) + bytes(9)
    (got,) = loaded(library, names, pcap(tmp_path / "x", whole(data)))
    assert got.l2 == data[: 14 + 4 * tags]
    assert got.l3 == udp()
    assert got.ethertype == 0x800


def test_a_third_tag_is_an_unknown_payload(library: Any, names: SimpleNamespace, tmp_path: Path) -> None:
    tagged = bytes(Ether(src="00:00:00:00:00:01", dst="00:00:00:00:00:02") / Dot1Q() / Dot1Q() / Dot1Q() / IP(udp()))
    back = ethernet(udp(src="10.0.0.2", dst="10.0.0.1"), src=2, dst=1)
    frames = loaded(library, names, pcap(tmp_path / "x", whole(tagged, ethernet(udp()), back)))
    assert (frames[0].ethertype, frames[0].l2_length, frames[0].l3) == (0x8100, 22, tagged[22:])
    assert (frames[0].sender, frames[0].receiver) == (0, 1)


def test_sll_with_tag(library: Any, names: SimpleNamespace, tmp_path: Path) -> None:
    data = struct.pack(">HHH8sHHH", 0, 1, 6, bytes(8), 0x8100, 5, 0x800) + udp()
    (got,) = loaded(library, names, pcap(tmp_path / "x", whole(data), 113))
    assert got.l2 == MADE[:12] + bytes.fromhex("8100 0005 0800")
    assert got.l3 == udp()


def test_snapshot_is_filled_with_zeros(library: Any, names: SimpleNamespace, tmp_path: Path) -> None:
    packet = udp(b"p" * 1000)
    frame = ethernet(packet)
    path = pcap(tmp_path / "x", [(0, frame[:96], len(frame)), (0, frame, len(frame) + 4), *whole(frame)])
    trace = library.trace(path)
    assert trace.map(names.host("10.0.0.1", 0), names.host("10.0.0.2", 1)) == 0
    cut, *others = trace.frames()
    assert cut.l3 == packet[:82] + bytes(len(packet) - 82)
    assert [x.l3 for x in others] == [packet, packet]
    assert trace.stats.padded == 1
    assert trace.stats.bytes == 3 * len(frame)
    assert trace.stats.max_l3 == len(packet)


def test_unsendable_frames(library: Any, names: SimpleNamespace, tmp_path: Path) -> None:
    def changed(at: int, value: bytes) -> bytes:
        return ethernet(udp()[:at] + value + udp()[at + len(value) :])

    frames = [
        (0, changed(2, b"\0\0"), 47),  # segmentation offload
        (0, changed(2, b"\0\x22"), 47),  # longer than the frame
        (0, changed(2, b"\0\x13"), 47),  # shorter than its header
        (0, changed(0, b"\x44"), 47),
        (0, changed(0, b"\x65"), 47),
        (0, changed(0, b"\x4f"), 47),  # header beyond the frame
        (0, ethernet(udp())[:33], 47),  # header not captured
        (0, ethernet(bytes(IP(src="10.0.0.1", dst="10.0.0.2", options=[IPOption(b"\x94\4\0\0")])))[:36], 38),
        (0, ethernet(udp())[:13], 47),  # no Ethernet header
        (0, ethernet(b"\0\1\x08", 0x8100), 17),  # tag cut
        (0, ethernet(bytes(65536), 0x86DD), 65550),
        (0, ethernet(bytes(60), 0x86DD), GIB),
        (0, ethernet(b"\0\0\0", 0x9999), 0),  # length on the wire 0: what was captured counts
    ]
    trace = library.trace(pcap(tmp_path / "x", frames))
    assert trace.map(names.host("10.0.0.1", 0), names.host("10.0.0.2", 1)) == 0
    assert (trace.stats.frames, trace.stats.unsendable, trace.stats.unmapped) == (13, 12, 1)
    assert trace.conversations() == []


def test_conversations_leave_groups_out(library: Any, tmp_path: Path) -> None:
    destinations = ["10.0.0.2", "10.0.0.3", "10.0.0.3", "224.0.0.1", "255.255.255.255", "0.0.0.0", "10.0.0.1"]
    frames = [ethernet(udp(dst=x)) for x in destinations]
    frames += [b"\xff" * 6 + ethernet(udp(dst="10.0.0.255"))[6:]]
    trace = library.trace(pcap(tmp_path / "x", whole(*frames)))
    base = 10 << 24
    assert trace.conversations() == [(base + 1, base + 3, 2, 66), (base + 1, base + 2, 1, 33)]


def test_many_conversations(library: Any, tmp_path: Path) -> None:
    frames = [ethernet(udp(src=f"10.{i % 50}.{i % 7}.1", dst=f"10.77.{i % 200}.{i % 9}")) for i in range(1500)]
    path = pcap(tmp_path / "x", whole(*frames))
    assert library.trace(path).conversations() == slow_conversations(path)


def test_empty_captures(library: Any, names: SimpleNamespace, tmp_path: Path) -> None:
    trace = library.trace(pcap(tmp_path / "x", []))
    assert (trace.code, trace.stats.frames, trace.conversations()) == (0, 0, [])
    assert trace.frames() == []
    assert trace.map(names.host("10.0.0.1", 0)) == 0
    assert trace.frames() == []
    assert trace.map() == names.INVALID


def test_bad_files(library: Any, names: SimpleNamespace, tmp_path: Path) -> None:
    good = pcap(tmp_path / "good", whole(ethernet(udp()), ethernet(udp()))).read_bytes()

    def load(data: bytes) -> tuple[int, str]:
        path = tmp_path / "bad"
        path.write_bytes(data)
        trace = library.trace(path)
        return trace.code, trace.error

    assert load(b"") == (names.FORMAT, "the file is empty; accepted: pcap and pcapng captures")
    code, error = load(good[:13])
    assert (code, error[:30]) == (names.FORMAT, "not a pcap or pcapng capture: ")
    assert load(b"What is this?" * 9)[1] == "not a pcap or pcapng capture: unknown file format"
    assert load(b"\x1f\x8b\x08")[1] == "the file is compressed (gzip); unpack it first"
    for cut in (len(good) - 1, len(good) - 60):
        code, error = load(good[:cut])
        assert code == names.FORMAT
        assert error.startswith("packet 2: truncated dump file")
    link = good[:20] + struct.pack("<I", 105) + good[24:]
    code, error = load(link)
    assert code == names.FORMAT
    assert error.startswith("link type 105 (IEEE802_11) is not supported; accepted: Ethernet, raw IP,")
    assert load(good[:20] + struct.pack("<I", 50000) + good[24:])[1].startswith("link type 50000 (unknown) is not")
    missing = library.trace(tmp_path / "missing")
    assert (missing.code, missing.error) == (names.IO, "No such file or directory")
    folder = library.trace(tmp_path)
    assert (folder.code, folder.error) == (names.IO, "Is a directory")


def test_arp_only(library: Any, names: SimpleNamespace, tmp_path: Path) -> None:
    path = tmp_path / "x"
    wrpcap(str(path), [Ether() / ARP(pdst="10.0.0.2")])
    trace = library.trace(path)
    assert trace.conversations() == []
    assert trace.map(names.host("10.0.0.1", 0), names.host("10.0.0.2", 1)) == 0
    assert trace.stats.unmapped == 1
