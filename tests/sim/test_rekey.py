"""Make before break: while keys change, in the midst of traffic, no packet is lost and none goes out in clear."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from sim_kit import Lab, Stamped, ethernet, policy, read_pcapng, sized

from ipsec_core.ike import IkeOptions, NatTraversal

SECOND = 10**9
PROFILES = {"modern": "ESP[AES-128-GCM]", "windows-2000": "ESP[DES,MD5]", "bundle": "AH[SHA1]+ESP[AES-128-CBC,SHA1]"}


def stream(seconds: float, gap: int, length: int, ways: Sequence[bool] = (False, True)) -> list[Stamped]:
    """One packet, a second for the first negotiation, then packets of `length` bytes every `gap` ns each way."""
    frames = [(0, ethernet(sized(60)))]
    for number in range(int(seconds * SECOND) // gap):
        at = SECOND + number * gap
        frames += [(at + way * gap // 2, ethernet(sized(length, back=way), back=way)) for way in ways]
    return frames


def run(folder: Path, frames: list[Stamped], profile: str, limits: str, **options: Any) -> Lab:
    """Both computers, their policy and the traffic. Nothing may be missing at the end, on either side."""
    made = policy(methods=[f"{PROFILES[profile]}:{limits}"], key_exchange=options.pop("key_exchange", {}))
    computer = {"profile": "windows-2000" if profile == "windows-2000" else "modern"}
    lab = Lab(folder, frames, made, made, computer=computer, **options)
    wire = lab.run()
    assert clear(wire) == []
    nodes = [lab.node(number) for number in range(2)]
    sent = [node["packets_sent"] for node in nodes]
    assert sum(sent) == len(frames)
    assert [node["packets_delivered"] for node in nodes] == sent[::-1]
    for one in lab.world.computers:
        counters = one.counters()
        assert {key for key in counters if key.startswith(("in_", "out_"))} <= {
            "out_protected",
            "in_protected",
            "out_held",
            "out_exempt",
            "in_exempt",
        }
        assert counters["bad_spi_packets"] == 0
        assert counters["acquires"] == int(one is lab.alice), "traffic never had to wait again"
    return lab


def clear(wire: list[Stamped]) -> list[Stamped]:
    """What is neither AH nor ESP nor IKE, nor ESP in UDP."""
    ports = [port.to_bytes(2) for port in (500, 4500)]
    return [(at, frame) for at, frame in wire if frame[23] not in (50, 51) and frame[36:38] not in ports]


def rekeys(lab: Lab) -> tuple[int, int]:
    counters = lab.alice.counters()
    return counters["oakley_quick_modes"], counters["oakley_main_modes"]


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("ways", [(False,), (True,), (False, True)], ids=["there", "back", "both ways"])
def test_by_time(tmp_path: Path, profile: str, ways: tuple[bool, ...]) -> None:
    """Keys of 5 seconds; Main Mode ends after 7, so every second Quick Mode needs a new one."""
    lab = run(tmp_path, stream(20, 50_000_000, 300, ways), profile, "100000k/5s", key_exchange={"lifetime_seconds": 7})
    quick, main = rekeys(lab)
    assert quick >= 5
    assert main >= 3


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("ways", [(False,), (False, True)], ids=["there", "both ways"])
def test_by_bytes(tmp_path: Path, profile: str, ways: tuple[bool, ...]) -> None:
    """Keys for 50 kB at 250 kB a second; Main Mode ends every second."""
    lab = run(tmp_path, stream(3, 4_000_000, 1000, ways), profile, "50k/3600s", key_exchange={"lifetime_seconds": 1})
    quick, main = rekeys(lab)
    assert quick >= 12
    assert main >= 3


def test_in_udp(tmp_path: Path) -> None:
    """Behind a NAT that is not there: IKE and ESP share port 4500, and the world hands up the one and not the other."""
    options = IkeOptions(nat_traversal=(NatTraversal.RFC_3947,), pretend_nat=True)
    made = policy(methods=["ESP[AES-128-GCM]:100000k/5s"])
    lab = Lab(tmp_path, stream(20, 50_000_000, 300), made, made, computer={"options": options})
    wire = lab.run()
    assert clear(wire) == []
    assert sum(lab.node(number)["packets_delivered"] for number in range(2)) == 801
    payloads = [frame[42:] for _, frame in wire if frame[36:38] == (4500).to_bytes(2)]
    ike = sum(payload[:4] == bytes(4) for payload in payloads)
    keep_alives = sum(payload[:1] == b"\xff" and not any(payload[1:]) for payload in payloads)
    assert (ike > 10, keep_alives) == (True, 2)
    assert len(payloads) - ike - keep_alives == 801
    assert {frame[23] for _, frame in wire} == {17}
    assert rekeys(lab)[0] >= 4


def test_by_bytes_under_load(tmp_path: Path) -> None:
    """On a full link of 1 Gbit/s: what is left of the keys is enough for the time that a negotiation takes."""
    lab = run(tmp_path, stream(0.05, 12_500, 1400), "modern", "2000k/3600s", reaction="100us")
    quick, _ = rekeys(lab)
    assert quick >= 3


@pytest.mark.parametrize("way", [False, True], ids=["there", "back"])
def test_traffic_that_comes_late(tmp_path: Path, way: bool) -> None:
    """The second pair is not used until it should have been replaced: its end must not come under the traffic."""
    frames = [(0, ethernet(sized(60)))]
    frames += [(9 * SECOND + at * 50_000, ethernet(sized(100, back=way), back=way)) for at in range(10_000)]
    made = policy(methods=["ESP[AES-128-GCM]:100000k/5s"])
    lab = Lab(tmp_path, frames, made, made)
    assert clear(lab.run()) == []
    assert sum(lab.node(number)["packets_delivered"] for number in range(2)) == len(frames)
    assert [one.counters()["bad_spi_packets"] for one in lab.world.computers] == [0, 0]


@pytest.mark.parametrize("end", [0, 1], ids=["ALICE", "BOB"])
@pytest.mark.parametrize("change", ["restart", "policy"])
def test_the_agent_restarts_under_traffic(tmp_path: Path, end: int, change: str) -> None:
    """What was under way when the SAs went may be lost; nothing goes out in clear, and both ways come back."""
    made = policy(methods=["ESP[AES-128-GCM]"])
    lab = Lab(tmp_path, stream(2, 1_000_000, 300), made, made)
    lab.world.capture(0, lab.path)
    lab.world.run(2.0)
    one = lab.world.computers[end]
    before = [sa.spi for sa in one.associations()]
    if change == "restart":
        one.restart_agent(lab.world.now)
    else:
        one.update_policy(lab.world.now, policy(methods=["ESP[AES-256-GCM]", "ESP[AES-128-GCM]"]))
    lab.world.settle(one)
    lab.world.run()
    assert clear(read_pcapng(lab.path)) == []
    assert set(before).isdisjoint(sa.spi for sa in one.associations())
    sent, delivered = (
        [lab.node(number)[name] for number in range(2)] for name in ("packets_sent", "packets_delivered")
    )
    assert sum(sent) == 4001
    assert sum(sent) - sum(delivered) < 30
    assert all(computer.counters()["oakley_quick_modes"] for computer in lab.world.computers)


def test_the_check_sees_clear_text(tmp_path: Path) -> None:
    lab = Lab(tmp_path, stream(0.1, 10_000_000, 300), None, None)
    lab.run()
    assert len(clear(read_pcapng(lab.path))) == 21
