"""The labs of where a policy comes from, and of a restart of the Policy Agent: the figures that their lines say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from scapy.utils import RawPcapNgReader

from ipsec_core.computer.reg_file import encode, export, parse
from ipsec_core.computer.state import State
from ipsec_core.policy.builtin import BUILTIN_NAMES, builtin_policy
from ipsec_core.policy.directory import LdifStore
from ipsec_core.policy.integrity import check
from ipsec_core.policy.storage import read_catalogue
from ipsec_core.sim.run import Result, simulate

LABS = Path(__file__).resolve().parents[2] / "labs"
ICMP, TCP, UDP, ESP = 1, 6, 17, 50
PACKETS, PACKETS_OF_BOB = 1550, 824
NAMES = ("builtin-policies", "exported-registry", "domain-policy", "restart-policy-agent")
LOCAL, DOMAIN = "local computer policy", "Group Policy from Active Directory"


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Result]:
    folder = tmp_path_factory.mktemp("labs")
    return {name: simulate(LABS / f"{name}.toml", folder / name) for name in NAMES}


def state(result: Result, computer: str) -> State:
    return State.open(result.out / computer)


def events(result: Result, computer: str, source: str) -> list[Any]:
    with state(result, computer) as opened:
        return list(opened.event_log().events(source=source))


def filters(result: Result, computer: str) -> list[str]:
    with state(result, computer) as opened:
        return [item.name for item, _ in opened.filters()]


def securities(result: Result, computer: str) -> list[tuple[str, str]]:
    with state(result, computer) as opened:
        return [(item.policy_name, item.security) for item in opened.associations()]


def counters(result: Result, computer: str) -> dict[str, int]:
    found: dict[str, int] = result.data["computers"][computer]["counters"]
    return found


def in_effect(result: Result, computer: str) -> str:
    """What the Policy Agent said last."""
    text: str = events(result, computer, "PolicyAgent")[-1].text
    return text


def in_clear(result: Result) -> list[tuple[float, int, str]]:
    """Second, protocol and sender of what is neither ESP nor IKE, each packet once."""
    reader = RawPcapNgReader(str(result.out / "link.pcapng"))
    found = []
    for frame, at in reader:
        is_first = frame[12:14] == b"\x08\x00" and not int.from_bytes(frame[20:22]) & 0x1FFF
        if is_first and frame[23] != ESP and not (frame[23] == UDP and frame[36:38] == b"\x01\xf4"):
            second = ((at.tshigh << 32) | at.tslow) / 1e9
            found.append((second, frame[23], "ALICE" if frame[26:30] == b"\x0a\x00\x00\x01" else "BOB"))
    reader.close()
    return found


def assert_all_protected(result: Result) -> None:
    """Between both from the first packet on, which waited."""
    assert in_clear(result) == []
    assert result.data["traffic"]["delivered"] == PACKETS
    assert counters(result, "ALICE")["out_held"] == 1
    assert counters(result, "ALICE")["in_protected"] == PACKETS_OF_BOB - 1
    assert result.notes == ()


def test_builtin_policies(results: dict[str, Result]) -> None:
    result = results["builtin-policies"]
    assert filters(result, "ALICE") == ["<Dynamic>", "<Dynamic>"]
    assert securities(result, "ALICE") == [("Client (Respond Only)", "ESP[3DES,SHA1]")] * 2
    assert securities(result, "BOB") == [("Secure Server (Require Security)", "ESP[3DES,SHA1]")] * 2
    for computer, peer in (("ALICE", "bob"), ("BOB", "alice")):
        main, quick = events(result, computer, "Security")
        assert main.event_id == quick.event_id == 541
        assert f"Kerberos based Identity: {peer}$@EXAMPLE.COM" in main.text
        assert LOCAL in in_effect(result, computer)
    assert counters(result, "ALICE")["acquires"] == 0
    assert counters(result, "BOB")["acquires"] == 1
    # The first message and the first ping of ALICE and its answer, then only what BOB's policy permits: ICMP.
    clear = in_clear(result)
    assert [item[1:] for item in clear[:2]] == [(UDP, "ALICE"), (ICMP, "ALICE")]
    after = [item for item in clear if item[0] > events(result, "ALICE", "Security")[1].time]
    assert {item[1:] for item in after} == {(ICMP, "BOB")}
    assert counters(result, "ALICE")["in_passed_through"] == len(after) == 91
    assert result.data["traffic"]["delivered"] == PACKETS
    assert result.notes == ()


def test_exported_registry(results: dict[str, Result]) -> None:
    result = results["exported-registry"]
    for computer in ("ALICE", "BOB"):
        assert securities(result, computer) == [("Office", "ESP[3DES,SHA1]")] * 2
        assert LOCAL in in_effect(result, computer)
        assert "Preshared key ID." in events(result, computer, "Security")[0].text
        with state(result, computer) as opened:
            assert opened.registry.known("CacheSize") == 128
        # Of 64 bytes each.
        assert result.data["computers"][computer]["tables"]["cache_slots"] == 2048
    assert results["domain-policy"].data["computers"]["ALICE"]["tables"]["cache_slots"] == 1024
    assert_all_protected(result)


def test_the_registry_file_is_as_the_registry_editor_writes_it(results: dict[str, Result]) -> None:
    data = (LABS / "office.reg").read_bytes()
    assert data.startswith("\ufeffWindows Registry Editor Version 5.00\r\n\r\n".encode("utf-16-le"))
    keys = {operation.key.upper() for operation in parse(data, "office.reg")}
    assert {key for key in keys if "SOFTWARE\\POLICIES\\MICROSOFT\\WINDOWS\\IPSEC" not in key} <= {
        "HKEY_LOCAL_MACHINE",
        "HKEY_LOCAL_MACHINE\\SOFTWARE",
        "HKEY_LOCAL_MACHINE\\SOFTWARE\\POLICIES",
        "HKEY_LOCAL_MACHINE\\SOFTWARE\\POLICIES\\MICROSOFT",
        "HKEY_LOCAL_MACHINE\\SOFTWARE\\POLICIES\\MICROSOFT\\WINDOWS",
        "HKEY_LOCAL_MACHINE\\SYSTEM",
        "HKEY_LOCAL_MACHINE\\SYSTEM\\CURRENTCONTROLSET",
        "HKEY_LOCAL_MACHINE\\SYSTEM\\CURRENTCONTROLSET\\SERVICES",
        "HKEY_LOCAL_MACHINE\\SYSTEM\\CURRENTCONTROLSET\\SERVICES\\IPSEC",
    }
    with state(results["exported-registry"], "BOB") as opened:
        assert encode(export(opened.registry, "HKLM")) == data


def test_domain_policy(results: dict[str, Result]) -> None:
    result = results["domain-policy"]
    assert filters(result, "ALICE") == ["All IP Traffic"] * 2
    assert filters(result, "BOB") == ["<Dynamic>"] * 2
    for computer, name in (("ALICE", "Domain members"), ("BOB", "Client (Respond Only)")):
        assert f"'{name}' is in effect" in in_effect(result, computer)
        assert DOMAIN in in_effect(result, computer)
        assert securities(result, computer) == [(name, "ESP[3DES,SHA1]")] * 2
    assert "bob$@EXAMPLE.COM" in events(result, "ALICE", "Security")[0].text
    assert_all_protected(result)


def test_the_file_of_the_domain() -> None:
    store = LdifStore(LABS / "domain.ldif")
    assert check(store.objects()) == ()
    catalogue = read_catalogue(store)
    assert catalogue.assigned is not None
    assert catalogue.assigned.name == "Domain members"
    for name in BUILTIN_NAMES:
        assert catalogue.policy(name) == builtin_policy(name)


def test_restart_policy_agent(results: dict[str, Result]) -> None:
    result = results["restart-policy-agent"]
    clear = in_clear(result)
    assert min(item[0] for item in clear if item[1:] == (TCP, "ALICE")) > 3, "silence at first"
    for began, ended in ((4, 8), (8, 12)):
        assert {item[1:] for item in clear if began < item[0] < ended} == {
            (protocol, computer) for protocol in (ICMP, TCP, UDP) for computer in ("ALICE", "BOB")
        }
    # ICMP is what the built-in policy of ALICE permits, and BOB's dynamic filters take in.
    assert {item[1:] for item in clear if item[0] > 12} == {(ICMP, "ALICE")}
    assert [event.time for event in events(result, "ALICE", "PolicyAgent")] == [0, 12, 12]
    assert [event.time for event in events(result, "BOB", "PolicyAgent")] == [0, 0, 8]
    ended, main, quick = events(result, "ALICE", "Security")
    assert (ended.event_id, main.event_id, quick.event_id) == (542, 541, 541)
    assert ended.time == 12
    assert 12.5 < main.time < quick.time < 12.52
    alice = result.data["computers"]["ALICE"]
    assert alice["oakley_statistics"] == {
        "oakley_main_modes": 1,
        "oakley_quick_modes": 1,
        "soft_associations": 0,
        "authentication_failures": 0,
    }
    assert alice["ipsec_statistics"]["confidential_bytes_received"] == 921879, "of the last replay alone"
    assert counters(result, "BOB")["in_passed_through"] == 92
    assert result.data["traffic"]["packets"] == 4 * PACKETS
