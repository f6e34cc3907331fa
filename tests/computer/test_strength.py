"""Export strength (KB 257225, Oakley events 541 and 542): 3DES becomes DES in both phases, and what then is agreed."""

from __future__ import annotations

from typing import Any

import pytest
from computer_kit import Pair, policy

from ipsec_core.computer.computer import Computer
from ipsec_core.computer.strength import exported_exchanges, exported_methods
from ipsec_core.errors import PolicyError
from ipsec_core.policy.methods import DEFAULT_KEY_EXCHANGE_METHODS, SecurityMethod

EXPORT: dict[str, Any] = {"high_encryption": False}
PLAIN: dict[str, Any] = {"profile": "windows-2000"}


def oakley(computer: Computer) -> list[int]:
    return [event.event_id for event in computer.log.events(source="Oakley")]


def test_methods() -> None:
    assert [str(item) for item in exported_exchanges(DEFAULT_KEY_EXCHANGE_METHODS)] == [
        "DES-SHA1-2",
        "DES-MD5-2",
        "DES-SHA1-1",
        "DES-MD5-1",
    ]
    given = ["ESP[3DES,SHA1]", "ESP[DES,SHA1]", "ESP[NULL,MD5]", "AH[SHA1]+ESP[3DES,NONE]", "AH[MD5]"]
    weak = exported_methods(SecurityMethod.parse(text) for text in given)
    assert [item.algorithms for item in weak] == ["ESP[DES,SHA1]", "ESP[NULL,MD5]", "AH[SHA1]+ESP[DES,NONE]", "AH[MD5]"]


@pytest.mark.parametrize("export", ["alice", "bob"])
def test_with_a_domestic_computer_des_is_agreed(export: str) -> None:
    """It takes DES because its policy has DES as well; whoever begins."""
    methods = ("ESP[3DES,SHA1]", "ESP[DES,SHA1]")
    exchange = ("3DES-SHA1-2", "DES-SHA1-2")
    both = policy(*methods, exchange=exchange)
    pair = Pair(both, both, **PLAIN, **{export: EXPORT})
    packet = pair.send(10)
    assert pair.delivered == [packet]
    assert [sa.security for sa in pair.a.associations()] == ["ESP[DES,SHA1]"] * 2
    main = pair.b.log.events(log="Security")[0].text
    assert "ESP Algorithm DES CBC" in main
    weak, strong = (pair.a, pair.b) if export == "alice" else (pair.b, pair.a)
    assert sorted(oakley(weak)) == [541, 542]
    assert oakley(strong) == []
    event = weak.log.events(source="Oakley")[0]
    assert (event.log, event.type, event.category) == ("Application", "Warning", "None")


def test_two_export_computers() -> None:
    """A policy of 3DES alone is the same weak one for both."""
    pair = Pair(policy("ESP[3DES,SHA1]"), policy("ESP[3DES,SHA1]"), **PLAIN, **EXPORT)
    assert pair.send(10) == pair.delivered[0]
    assert pair.send(20) == pair.delivered[1]
    assert sorted(oakley(pair.a)) == sorted(oakley(pair.b)) == [541, 542]
    pair.until(400.0)
    pair.send(10)
    assert len(oakley(pair.a)) == 2, "once for each peer"


@pytest.mark.parametrize("export", ["alice", "bob"])
@pytest.mark.parametrize("phase", [1, 2])
def test_des_only_against_3des_only(export: str, phase: int) -> None:
    """Attributes unacceptable, told on the side that refuses and on the side that is refused."""
    exchange = ["3DES-SHA1-2"] if phase == 1 else ["3DES-SHA1-2", "DES-SHA1-2"]
    both = policy("ESP[3DES,SHA1]", exchange=exchange)
    pair = Pair(both, both, **PLAIN, **{export: EXPORT})
    pair.send(10)
    pair.until(200.0)
    assert pair.delivered == pair.clear == []
    refused = pair.b.log.events(log="Security")[-1]
    assert refused.event_id == 546
    assert ("Phase I Encryption Algorithm" if phase == 1 else "Phase II ESP Algorithm") in refused.text
    told = pair.a.log.events(log="Security", event_id=547)[-1].text
    assert "IKE security attributes are unacceptable" in told
    assert "Failure Point:\nPeer" in told


def test_a_policy_without_3des_is_not_weakened() -> None:
    both = policy("ESP[DES,SHA1]", "AH[SHA1]", exchange=["DES-SHA1-2"])
    pair = Pair(both, both, **PLAIN, **EXPORT)
    pair.send(10)
    assert oakley(pair.a) == oakley(pair.b) == []


def test_only_windows_2000_has_an_export_version() -> None:
    with pytest.raises(PolicyError) as raised:
        Pair(policy(), policy(), **EXPORT)
    assert str(raised.value) == "high_encryption: false is not of the profile modern; accepted: windows-2000"
