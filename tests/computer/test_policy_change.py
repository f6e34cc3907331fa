"""The Policy Agent at work: another policy, a restart, the end (KB 257225, "Restarting the policy agent")."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from computer_kit import A, B, Pair

from ipsec_core.driver import Status
from ipsec_core.errors import PolicyError
from ipsec_core.policy.model import Policy
from ipsec_core.policy.toml import policy_from_table


def rules(*protocols: str, **changed: Any) -> Policy:
    """A rule for each protocol; a change is for the last one."""
    made: list[dict[str, Any]] = [
        {
            "name": protocol,
            "filters": [{"source": "me", "destination": "10.0.0.0/24", "protocol": protocol}],
            "action": {"negotiate": ["ESP[3DES,SHA1]"]},
            "authentication": [{"preshared_key": "lab"}],
        }
        for protocol in protocols
    ]
    if made:
        made[-1] |= changed
    return policy_from_table({"name": "Lab", "rules": made}, "test")


def connected(*protocols: str) -> Pair:
    pair = Pair(rules(*protocols), rules(*protocols))
    packet = pair.send(10)
    assert pair.delivered == [packet]
    return pair


def ids(pair: Pair, source: str = "Security") -> list[int]:
    return [event.event_id for event in pair.a.log.events(source=source)]


def test_the_same_filter_keeps_its_sas() -> None:
    """Whatever else the policy has now, and wherever the filter stands in it."""
    pair = connected("udp")
    before = [sa.spi for sa in pair.a.associations()]
    pair.a.update_policy(pair.now, rules("tcp", "udp", "icmp"))
    assert [sa.spi for sa in pair.a.associations()] == before
    packet = pair.send(20)
    assert pair.delivered[-1] == packet
    assert [sa.packets for sa in pair.a.associations()] == [2, 0]
    assert [item.name for item, hits in pair.a.snapshot(pair.now).filters() if hits] == ["udp"]
    assert pair.a.counters()["oakley_quick_modes"] == 1
    assert "Updating IPsec Policy." in pair.a.log.events(source="PolicyAgent")[-1].text


@pytest.mark.parametrize(
    "after",
    [
        rules("tcp"),
        rules("udp", action="permit"),
        rules("udp", action={"negotiate": ["ESP[3DES,SHA1]"], "pfs": True}),
        rules("udp", action={"negotiate": ["ESP[DES,SHA1]"]}),
        rules("udp", authentication=[{"preshared_key": "another"}]),
        None,
    ],
    ids=["gone", "permitted", "pfs", "method", "key", "no policy"],
)
def test_sas_whose_filter_is_another_one_now_end_on_both_sides(after: Policy | None) -> None:
    pair = connected("udp")
    pair.a.update_policy(pair.now, after)
    pair.settle()
    assert pair.a.associations() == pair.b.associations() == []
    assert pair.a.driver.sas() == pair.b.driver.sas() == []
    assert ids(pair).count(542) == pair.audits(pair.b).count(542) == 1


def test_another_key_ends_main_mode_as_well() -> None:
    pair = connected("udp")
    change = [{"preshared_key": "another"}]
    pair.a.update_policy(pair.now, rules("udp", authentication=change))
    pair.settle()
    assert pair.audits(pair.a) == [541, 541, 542, 543]
    pair.b.update_policy(pair.now, rules("udp", authentication=change))
    packet = pair.send(20)
    assert pair.delivered[-1] == packet
    assert pair.a.counters()["oakley_main_modes"] == 2


def test_without_a_policy_everything_passes() -> None:
    pair = connected("udp")
    for computer in (pair.a, pair.b):
        computer.update_policy(pair.now, None)
    packet = pair.send(30)
    assert pair.clear == [packet]
    pair.until(400.0)
    assert pair.a.next_timer() is None


def test_what_waits_is_dropped_when_its_filter_goes() -> None:
    pair = Pair(rules("udp"), None)
    pair.send(10)
    pair.a.update_policy(pair.now, rules("tcp"))
    pair.until(100.0)
    assert pair.a.driver.status_counters("out")["NEGOTIATION_FAILED"] == 1
    assert pair.clear == []


def test_a_pair_that_comes_too_late_is_given_back() -> None:
    """The policy changes while Quick Mode runs; the peer's SAs end again."""
    pair = Pair(rules("udp"), rules("udp"))
    receive, seen = pair.a.datagram, []

    def change(now: float, packet: bytes) -> None:
        seen.append(packet)
        if len(seen) == 4:  # Main Mode 2, 4, 6, then Quick Mode 2
            pair.a.update_policy(
                now, rules("udp", action={"negotiate": ["ESP[3DES,SHA1]"], "inbound_passthrough": True})
            )
        receive(now, packet)

    pair.a.datagram = change  # type: ignore[method-assign]
    pair.send(10)
    pair.settle()
    assert len(seen) >= 4
    assert pair.a.driver.sas() == pair.b.driver.sas() == []
    assert pair.delivered == pair.clear == []
    pair.send(20)
    assert len(pair.delivered) == 1


def test_a_policy_that_cannot_be_carried_out_changes_nothing() -> None:
    pair = connected("udp")
    before = pair.a.associations()
    for change in (pair.a.update_policy, pair.a.restart_agent):
        with pytest.raises(PolicyError, match="no authentication method can be carried out"):
            change(pair.now, rules("udp", authentication=["kerberos"]))
    assert pair.a.associations() == before
    assert pair.send(20) == pair.delivered[-1]


def test_restart() -> None:
    """All SAs and the statistics begin anew; the peer is told."""
    pair = connected("udp")
    pair.a.restart_agent(pair.now)
    pair.settle()
    assert pair.a.driver.sas() == pair.b.driver.sas() == []
    assert pair.audits(pair.b)[-2:] == [542, 543]
    assert ids(pair, "PolicyAgent") == [279, 279, 279]
    assert {n for name, n in pair.a.counters().items() if name != "ike_active_main_modes"} == {0}
    packet = pair.send(20)
    assert pair.delivered[-1] == packet
    assert pair.a.counters()["oakley_main_modes"] == 1


def test_restart_with_another_policy() -> None:
    pair = connected("udp")
    pair.a.restart_agent(pair.now, rules("tcp"))
    pair.send(20)
    assert len(pair.clear) == 1


def test_stop() -> None:
    pair = connected("udp")
    pair.a.stop(pair.now)
    pair.settle()
    assert pair.a.driver.sas() == pair.b.driver.sas() == []
    assert pair.audits(pair.b)[-2:] == [542, 543]
    assert pair.a.snapshot(pair.now).meta("ip_security_enabled") is False
    pair.send(20, pair.b)
    pair.until(70.0)
    assert pair.b.driver.status_counters("out")[Status.NEGOTIATION_FAILED.name] == 1, "nobody answers"
    pair.a.start(pair.now)
    assert {n for name, n in pair.a.counters().items() if name != "ike_active_main_modes"} == {0}
    assert pair.send(20) == pair.delivered[-1]
    pair.a.stop(pair.now)
    pair.a.start(pair.now, rules("tcp"))
    pair.send(30)
    assert len(pair.clear) == 1


@pytest.mark.parametrize("enabled", [0, 1])
def test_oakley_log(enabled: int, tmp_path: Path) -> None:
    pair = Pair(rules("udp"), rules("udp"), registry={"EnableLogging": enabled})
    pair.send(10)
    pair.a.restart_agent(pair.now)
    pair.a.snapshot(pair.now).save_as(tmp_path / "ALICE")
    file = tmp_path / "ALICE" / "oakley.log"
    assert file.exists() is bool(enabled)
    if enabled:
        before = file.with_name("oakley.log.sav").read_text().splitlines()
        assert all(line.startswith(" 1-01: 00:00:00:0") for line in before)
        assert any("Acquire" in line and A in line and B in line for line in before)
        assert sum("Receive" in line for line in before) >= 4


def test_oakley_log_of_an_open_directory(tmp_path: Path) -> None:
    """It grows with every commit, and begins anew with the service."""
    from ipaddress import IPv4Address

    from ipsec_core.computer.computer import Computer
    from ipsec_core.computer.state import State

    with State.create(tmp_path / "A", "A") as state:
        made = Computer("A", IPv4Address(A), rules("udp"), seed=b"x", state=state, registry={"EnableLogging": 1})
        made.start(0.0)
        made._trace.trace("one")  # type: ignore[union-attr]
        made.snapshot(1.0)
        made._trace.trace("two")  # type: ignore[union-attr]
        made.snapshot(2.0)
        lines = [line.split(" ", 3)[-1] for line in (tmp_path / "A" / "oakley.log").read_text().splitlines()]
        assert lines[-2:] == ["one", "two"]
        made.restart_agent(3.0)
        made.snapshot(3.0)
        assert "two" in (tmp_path / "A" / "oakley.log.sav").read_text()
        assert (tmp_path / "A" / "oakley.log").read_text() == ""
