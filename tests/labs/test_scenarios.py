"""The troubleshooting labs: each shows what its first lines say, in the monitor, in the event logs and on the wire."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from scapy.utils import RawPcapNgReader

from ipsec_core.computer.state import State
from ipsec_core.errors import IpsecError
from ipsec_core.sim.run import Result, simulate

LABS = Path(__file__).resolve().parents[2] / "labs"
ICMP, TCP, UDP, AH = 1, 6, 17, 51


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Result]:
    folder = tmp_path_factory.mktemp("labs")
    names = ("ah-and-esp", "soft-association", "export-strength", "l2tp")
    return {name: simulate(LABS / f"{name}.toml", folder / name) for name in names}


def state(result: Result, computer: str) -> State:
    return State.open(result.out / computer)


def securities(result: Result, computer: str) -> list[str]:
    with state(result, computer) as opened:
        return [item.security for item in opened.associations()]


def events(result: Result, computer: str, source: str) -> list[Any]:
    with state(result, computer) as opened:
        return list(opened.event_log().events(source=source))


def protocols(result: Result) -> Counter[tuple[int, bool]]:
    """IP protocols on the wire, with whether it is IKE."""
    reader = RawPcapNgReader(str(result.out / "link.pcapng"))
    frames = [frame for frame, _ in reader if frame[12:14] == b"\x08\x00"]
    reader.close()
    return Counter((frame[23], frame[23] == UDP and frame[36:38] == b"\x01\xf4") for frame in frames)


def test_ah_and_esp(results: dict[str, Result]) -> None:
    result = results["ah-and-esp"]
    for computer in ("ALICE", "BOB"):
        assert securities(result, computer) == ["AH[SHA1]+ESP[3DES,MD5]"] * 2
        main, quick = events(result, computer, "Security")
        assert (main.event_id, quick.event_id) == (541, 541)
        assert "AH Algorithm SHA\n" in quick.text
    assert set(protocols(result)) == {(AH, False), (UDP, True)}
    traffic = result.data["traffic"]
    assert traffic["delivered"] == traffic["packets"]
    assert not result.notes


def test_soft_association(results: dict[str, Result]) -> None:
    result = results["soft-association"]
    assert securities(result, "ALICE") == ["None", "None"]
    assert securities(result, "BOB") == []
    assert events(result, "ALICE", "Security") == []
    statistics = result.data["computers"]["ALICE"]["oakley_statistics"]
    assert statistics["soft_associations"] == 1
    assert statistics["oakley_main_modes"] == 0
    wire = protocols(result)
    assert {(ICMP, False), (TCP, False), (UDP, False)} <= set(wire)
    assert 0 < wire[UDP, True] < 6, "the first copies of one message"
    counters = result.data["computers"]["ALICE"]["counters"]
    assert counters["acquires"] == 1
    assert counters["out_soft"] >= 726 + 64, "the second replay, and what waited"
    assert (counters["out_held"], counters["out_not_held"]) > (0, 0)


def test_export_strength(results: dict[str, Result]) -> None:
    result = results["export-strength"]
    assert securities(result, "ALICE") == securities(result, "BOB") == ["ESP[DES,SHA1]"] * 2
    assert events(result, "ALICE", "Oakley") == []
    warnings = events(result, "BOB", "Oakley")
    assert {event.event_id for event in warnings} == {541, 542}
    assert {(event.log, event.type) for event in warnings} == {("Application", "Warning")}
    assert "ESP Algorithm DES CBC" in events(result, "ALICE", "Security")[0].text
    traffic = result.data["traffic"]
    assert traffic["delivered"] == traffic["packets"]


def test_l2tp(results: dict[str, Result]) -> None:
    result = results["l2tp"]
    with state(result, "SERVER") as opened:
        assert opened.policy() is None
        names = [(item.name, item.flags) for item, _ in opened.filters()]
    assert names == [("L2TP Server", "Outbound Negotiate"), ("L2TP Server", "Inbound Negotiate")]
    assert securities(result, "CLIENT") == securities(result, "SERVER") == ["ESP[3DES,SHA1]"] * 2
    assert "server.lab.example" in events(result, "CLIENT", "Security")[0].text
    reader = RawPcapNgReader(str(result.out / "link.pcapng"))
    frames = [(packet, at.tshigh << 32 | at.tslow) for packet, at in reader]
    reader.close()
    l2tp = [at / 1e9 for packet, at in frames if packet[23] == UDP and packet[36:38] == b"\x06\xa5"]
    assert len(l2tp) == result.data["computers"]["CLIENT"]["counters"]["in_should_be_secured"] == 4
    assert all(4.2 < second < 6.2 for second in l2tp), "in clear while the rules are gone, and at no other time"
    assert sum(packet[23] == ICMP for packet, _ in frames) == 40, "the pings beside the tunnel"
    traffic = result.data["traffic"]
    assert traffic["delivered"] == traffic["packets"] - len(l2tp)


def test_l2tp_when_it_is_prohibited(tmp_path: Path) -> None:
    text = (LABS / "l2tp.toml").read_text()
    for name in ("CLIENT", "SERVER"):
        text = text.replace(f"[computers.{name}]", f"[computers.{name}]\nregistry = {{ ProhibitIpSec = 1 }}")
    text = re.sub(r'certificates = "l2tp/.*"\n', "", text)
    scenario = tmp_path / "scenario.toml"
    scenario.write_text(text)
    result = simulate(scenario, tmp_path / "out", traffic=LABS / "l2tp.pcap")
    assert set(protocols(result)) == {(UDP, False), (ICMP, False)}
    assert result.data["traffic"]["delivered"] == 98


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('dial = "SERVER"', 'dial = "CLIENT"', "CLIENT.dial: 'CLIENT' is not another computer; accepted: SERVER"),
        ('dial = "SERVER"', 'dial = "BOB"', "CLIENT.dial: 'BOB' is not another computer; accepted: SERVER"),
        ("rras = true", "rras = 1", "SERVER.rras: 1 is not true or false"),
        (
            'certificates = "LABS/l2tp/server"\n',
            "",
            "SERVER.rras: L2TP over IPsec authenticates by certificate; accepted: beside certificates with one under a "
            "trusted root, or ProhibitIpSec = 1 in registry",
        ),
    ],
)
def test_l2tp_that_cannot_be(tmp_path: Path, old: str, new: str, message: str) -> None:
    scenario = tmp_path / "scenario.toml"
    text = (LABS / "l2tp.toml").read_text().replace('"l2tp/', '"LABS/l2tp/')
    assert old in text
    scenario.write_text(text.replace(old, new).replace("LABS/", f"{LABS}/"))
    with pytest.raises(IpsecError) as raised:
        simulate(scenario, tmp_path / "out", traffic=LABS / "l2tp.pcap")
    assert str(raised.value) == f"{scenario}: computers.{message}"


@pytest.mark.parametrize(("old", "mode"), [(', "ESP[DES,SHA1]"', "Quick Mode"), (', "DES-SHA1-2"', "Main Mode")])
def test_export_strength_without_des_in_the_policy(tmp_path: Path, old: str, mode: str) -> None:
    text = (LABS / "export-strength.toml").read_text()
    assert old in text
    scenario = tmp_path / "scenario.toml"
    scenario.write_text(text.replace(old, ""))
    result = simulate(scenario, tmp_path / "out", traffic=LABS / "office.pcap")
    told = [event for event in events(result, "ALICE", "Security") if event.event_id == 547]
    assert told
    assert all("IKE security attributes are unacceptable" in event.text and mode in event.text for event in told)
    assert securities(result, "ALICE") == []


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "high_encryption = false",
            'high_encryption = "no"',
            "computers.BOB.high_encryption: 'no' is not true or false",
        ),
        (
            "high_encryption = false",
            'high_encryption = false\nprofile = "modern"',
            "computers.BOB.high_encryption: false is not of the profile modern",
        ),
    ],
)
def test_a_strength_that_is_none(tmp_path: Path, old: str, new: str, message: str) -> None:
    scenario = tmp_path / "scenario.toml"
    scenario.write_text((LABS / "export-strength.toml").read_text().replace(old, new))
    with pytest.raises(IpsecError) as raised:
        simulate(scenario, tmp_path / "out", traffic=LABS / "office.pcap")
    assert str(raised.value) == f"{scenario}: {message}"
