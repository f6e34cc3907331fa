"""Real captures of all kinds, whole and damaged: a result or one line, never a crash, and nothing half-written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from sim_kit import LABS

from ipsec_core.errors import IpsecError
from ipsec_core.sim._world import Trace
from ipsec_core.sim.run import Result, build_world, simulate
from ipsec_core.sim.scenario import load_scenario

SUFFIXES = (".pcap", ".pcapng", ".cap", ".gz")


def capture_files(captures: Path, most: int) -> Iterator[Path]:
    for path in sorted(captures.rglob("*")):
        if path.suffix in SUFFIXES and path.is_file() and path.stat().st_size <= most:
            yield path


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    """labs/first-link-gcm.toml, once over."""
    text = (LABS / "first-link-gcm.toml").read_text()
    assert "repeat = 20" in text
    path = tmp_path / "scenario.toml"
    path.write_text(text.replace("repeat = 20", "repeat = 1"))
    (tmp_path / "office.pcap").touch()
    return path


def outcome(scenario: Path, traffic: Path) -> Result | str:
    out = scenario.parent / "out"
    before = sorted(scenario.parent.iterdir())
    try:
        result = simulate(scenario, out, traffic=traffic)
    except IpsecError as error:
        assert sorted({*scenario.parent.iterdir()} - {out}) == [path for path in before if path != out]
        return str(error)
    assert sorted(scenario.parent.iterdir()) == sorted({*before, out})
    return result


def ipsec_packets(scenario: Path, traffic: Path) -> list[int]:
    """AH and ESP packets, in UDP as well, that the capture has for each of the two computers.

    Out of the protection of the two they are IPsec packets to the receiver, of an SA that it does not have (RFC 2401
    5.2.1).
    """
    plan = load_scenario(scenario, traffic)
    trace = Trace(plan.traffic.file)
    build_world(plan, trace)
    frames = [(sender, packet) for _, sender, _, ethertype, packet, _ in trace.frames() if ethertype == 0x800]
    return [sum(sender != to and is_ipsec(packet) for sender, packet in frames) for to in range(2)]


def is_ipsec(packet: bytes) -> bool:
    """AH, ESP, or UDP to port 4500 with an SPI (RFC 3948 2)."""
    udp = packet[(packet[0] & 15) * 4 :]
    in_udp = packet[9] == 17 and udp[2:4] == (4500).to_bytes(2) and len(udp) > 12 and any(udp[8:12])
    return packet[9] in (50, 51) or in_udp


def check(result: Result, ipsec: list[int]) -> None:
    traffic = result.data["traffic"]
    counts = traffic["capture"]
    assert traffic["packets"] == counts["mapped"]
    assert counts["mapped"] + counts["unmapped"] + counts["unsendable"] <= counts["frames"]
    assert counts["frames"] <= counts["mapped"] + counts["unmapped"] + counts["unsendable"] + counts["reassembled"]
    nodes = [computer["traffic"] for computer in result.data["computers"].values()]
    assert sum(node["packets_sent"] for node in nodes) == traffic["packets"]
    frames = [direction["frames"] for direction in result.data["link"]["directions"].values()]
    for node, counted in zip(nodes, frames, strict=True):
        assert counted >= node["frames_not_ipv4"] + node["ike_sent"]
    for computer in result.data["computers"].values():
        counters = computer["counters"]
        assert counters.get("in_malformed", 0) == 0 or counters["packets_inbound"] >= counters["in_malformed"]
        # All that was encrypted could be decrypted.
        assert computer["ipsec_statistics"]["packets_not_decrypted"] == 0
        assert computer["ipsec_statistics"]["packets_not_authenticated"] == 0
    computers = result.data["computers"].values()
    assert [computer["ipsec_statistics"]["bad_spi_packets"] for computer in computers] == ipsec


def test_whole(captures: Path, scenario: Path) -> None:
    results = with_ipsec = 0
    for path in capture_files(captures, 3_000_000):
        found = outcome(scenario, path)
        if isinstance(found, str):
            assert found.startswith(f"{path}: "), path
            assert found.isprintable(), path
        else:
            results += 1
            ipsec = ipsec_packets(scenario, path)
            with_ipsec += any(ipsec)
            check(found, ipsec)
    assert results > 60
    assert 10 < with_ipsec < results / 2


def test_damaged(captures: Path, scenario: Path, tmp_path: Path) -> None:
    """Cut somewhere, then with a few bytes changed; the headers of file and packets are hit most."""
    random = Random(257225)
    traffic = tmp_path / "damaged.pcap"
    traffic.touch()
    kinds = set()
    for path in capture_files(captures, 12_000):
        data = bytearray(path.read_bytes())
        traffic.write_bytes(data[: random.randrange(len(data))])
        found = outcome(scenario, traffic)
        kinds.add(type(found))
        for _ in range(random.randrange(1, 6)):
            data[random.randrange(min(len(data), random.choice([64, 200, len(data)])))] = random.randrange(256)
        traffic.write_bytes(data)
        found = outcome(scenario, traffic)
        kinds.add(type(found))
        if isinstance(found, str):
            assert found.startswith(f"{traffic}: "), path
            assert found.isprintable(), path
    assert kinds == {str, Result}
