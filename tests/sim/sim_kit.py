"""Captures to replay, scenarios to run, and a reader of pcapng that shares nothing with the code under test."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Sequence
from fractions import Fraction
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from ipsec_core.computer.computer import Computer
from ipsec_core.policy.model import Policy
from ipsec_core.policy.toml import policy_from_table
from ipsec_core.sim.world import World

LABS = Path(__file__).resolve().parents[2] / "labs"
A, B = "10.0.0.1", "10.0.0.2"
HOST_A, HOST_B, STRANGER = "192.168.1.10", "192.168.1.20", "192.168.1.99"
MAC_A, MAC_B = b"\x02\x00\xc0\xa8\x01\x0a", b"\x02\x00\xc0\xa8\x01\x14"
SECRET = "a preshared key that must not be seen"
DONT_FRAGMENT = 0x4000
PROTOCOL_UDP, PROTOCOL_TEST = 17, 253
Stamped = tuple[int, bytes]


def checksum(data: bytes) -> int:
    """RFC 1071, slowly."""
    total = sum(int.from_bytes(data[i : i + 2].ljust(2, b"\0")) for i in range(0, len(data), 2))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def ip(source: str, destination: str, payload: bytes, protocol: int = PROTOCOL_TEST, flags: int = 0) -> bytes:
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 7, flags, 64, protocol, 0)
    header += IPv4Address(source).packed + IPv4Address(destination).packed
    return header[:10] + struct.pack("!H", checksum(header)) + header[12:] + payload


def sized(length: int, *, back: bool = False, flags: int = 0) -> bytes:
    """An IPv4 packet of `length` bytes from host A to host B, or back."""
    ends = (HOST_B, HOST_A) if back else (HOST_A, HOST_B)
    return ip(*ends, bytes(i & 0xFF for i in range(length - 20)), flags=flags)


def ethernet(
    packet: bytes, *, back: bool = False, tags: Sequence[tuple[int, int]] = (), ethertype: int = 0x800
) -> bytes:
    ends = (MAC_A, MAC_B) if back else (MAC_B, MAC_A)
    return b"".join((*ends, *(struct.pack("!HH", *tag) for tag in tags), struct.pack("!H", ethertype), packet))


def write_pcap(path: Path, frames: Iterable[Stamped], link_type: int = 1) -> Path:
    """A classic capture with nanosecond stamps."""
    out = [struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 262144, link_type)]
    for at, frame in frames:
        out += [struct.pack("<IIII", at // 10**9, at % 10**9, len(frame), len(frame)), frame]
    path.write_bytes(b"".join(out))
    return path


def read_pcapng(path: Path) -> list[Stamped]:
    """Enhanced packet blocks of one section with stamps in ns."""
    data, at, found = path.read_bytes(), 0, []
    while at < len(data):
        kind, size = struct.unpack_from("<II", data, at)
        if kind == 1:
            assert b"\x09\x00\x01\x00\x09" in data[at : at + size]  # if_tsresol: 10^-9
        elif kind == 6:
            _, high, low, length, original = struct.unpack_from("<IIIII", data, at + 8)
            assert length == original
            found.append((high << 32 | low, data[at + 28 : at + 28 + length]))
        at += size
    return found


def wire_bytes(frame: int) -> int:
    """IEEE 802.3: preamble and SFD 8, at least 60 and FCS 4, gap 12."""
    return 8 + max(frame, 60) + 4 + 12


def schedule(frames: Iterable[tuple[int, int, int]], rate: int) -> list[int]:
    """When recorded frames of (time, sender, bytes) leave a link that may be slower than where they were recorded.

    Each host sends one frame after the other, with 57 bytes of room for ESP; the delay of one is the delay of all after
    it, of both hosts.
    """
    free, late, found = {0: 0, 1: 0}, 0, []
    for at, sender, length in frames:
        late += max(0, free[sender] - at - late)
        found.append(at + late)
        free[sender] = at + late + wire_bytes(length + 57) * 8 * 10**9 // rate
    return found


def starts(frames: Sequence[tuple[int, int]], rate: int) -> list[int]:
    """When frames of (time wanted, bytes) begin on a link, one after the other: exact, then cut to nanoseconds."""
    free, found = Fraction(0), []
    for wanted, length in frames:
        begin = max(Fraction(wanted), free)
        found.append(int(begin))
        free = begin + Fraction(wire_bytes(length) * 8 * 10**9, rate)
    return found


def policy(
    *rules: dict[str, Any],
    methods: Sequence[str] = ("ESP[AES-128-GCM]",),
    key: str = SECRET,
    exchange: Sequence[str] = ("3DES-SHA1-1",),
    key_exchange: dict[str, Any] | None = None,
    **action: Any,
) -> Policy:
    """Two computers protect all between them; or the rules given. Group 1 keeps the handshakes cheap."""
    rule = {
        "name": "all",
        "filters": [{"name": "lab", "source": "me", "destination": "10.0.0.0/24"}],
        "action": {"negotiate": list(methods), **action},
        "authentication": [{"preshared_key": key}],
    }
    settings = {"methods": list(exchange), **(key_exchange or {})}
    table = {"name": "Lab", "key_exchange": settings, "rules": list(rules) or [rule]}
    return policy_from_table(table, "test")


def simple(action: str, **filters: Any) -> Policy:
    """A policy that permits or blocks."""
    chosen = {"source": "me", "destination": "any", **filters}
    return policy_from_table({"name": action, "rules": [{"filters": [chosen], "action": action}]}, "test")


class Lab:
    """A world of two computers, its capture, and what came of it."""

    def __init__(
        self,
        folder: Path,
        frames: Iterable[Stamped] | Path,
        alice: Policy | None = None,
        bob: Policy | None = None,
        *,
        link: dict[str, Any] | None = None,
        replay: dict[str, Any] | None = None,
        computer: dict[str, Any] | None = None,
        **world: Any,
    ) -> None:
        source = frames if isinstance(frames, Path) else write_pcap(folder / "traffic.pcap", frames)
        self.path = folder / "link.pcapng"
        self.world = World(**{"seed": 7, **world})
        options = {"audit": None, "hold_packets": 64, "profile": "modern", **(computer or {})}
        self.alice: Computer = self.world.computer("ALICE", A, alice, **options)
        self.bob: Computer = self.world.computer("BOB", B, bob, **options)
        self.world.link(self.alice, self.bob, **(link or {}))
        self.world.replay(source, self.alice, self.bob, **(replay or {}))

    def run(self, until: float | None = None, *, capture: bool = True) -> list[Stamped]:
        if capture:
            self.world.capture(0, self.path)
        self.world.run(until)
        return read_pcapng(self.path) if capture else []

    def node(self, number: int) -> dict[str, int]:
        return self.world.time.node_counters(number)

    def direction(self, number: int) -> dict[str, int]:
        return self.world.time.link_counters(0, number)

    @property
    def everything(self) -> str:
        """All counters as text, to compare worlds."""
        return json.dumps(
            [
                self.world.now,
                [self.node(i) for i in range(2)],
                [self.direction(i) for i in range(2)],
                [made.counters() for made in self.world.computers],
                [made.driver.tables() for made in self.world.computers],
                [[repr(sa) for sa in made.driver.sas()] for made in self.world.computers],
            ]
        )


SCENARIO = """
name = "Test"
seed = 1
traffic = "traffic.pcap"

[computers.ALICE]
address = "10.0.0.1"
policy = "Lab"
audit = { logon_events = ["success", "failure"] }
registry = { CacheSize = 64 }

[computers.BOB]
address = "10.0.0.2"
policy = "Lab"
audit = { logon_events = ["success", "failure"] }

[link]
between = ["ALICE", "BOB"]
rate = "1Gbit/s"
delay = "5us"

[[policies]]
name = "Lab"
key_exchange = { methods = ["3DES-SHA1-1"] }

[[policies.rules]]
filters = [{ source = "me", destination = "10.0.0.0/24" }]
action = { negotiate = ["ESP[3DES,SHA1]"] }
authentication = [{ preshared_key = "a preshared key that must not be seen" }]
"""


def dialogue(count: int, gap: int = 200_000, first: int = 1_000_000_000) -> list[Stamped]:
    """One packet, a second of silence for the negotiation, then packets there and back."""
    frames = [(0, ethernet(sized(60)))]
    for number in range(count):
        back = number % 2 == 1
        frames.append((first + number * gap, ethernet(sized(100 + number % 7 * 180, back=back), back=back)))
    return frames


def write_scenario(folder: Path, text: str = SCENARIO, frames: Iterable[Stamped] | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    write_pcap(folder / "traffic.pcap", dialogue(60) if frames is None else frames)
    path = folder / "scenario.toml"
    path.write_text(text, encoding="utf-8")
    return path
