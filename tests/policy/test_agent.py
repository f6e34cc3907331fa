"""Policy Agent: what is in effect, and event 279 as KB 257225 describes it."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest

from ipsec_core.errors import PolicyError
from ipsec_core.policy.agent import PolicyAgent
from ipsec_core.policy.compile import compile_policy
from ipsec_core.policy.model import FilterAction, FilterActionKind, Policy, Rule
from ipsec_core.policy.selectors import ANY, MY, Filter, FilterList

MINE = (IPv4Address("10.0.0.1"),)


def _policy(name: str) -> Policy:
    rule = Rule("r", FilterList("", "", (Filter("", MY, ANY),)), FilterAction("", FilterActionKind.BLOCK))
    return Policy(name, rules=(rule,), polling_interval_seconds=7200)


def test_local_policy() -> None:
    agent = PolicyAgent()
    (event,) = agent.start(2.5, _policy("Lab"), MINE)
    assert (event.time, event.event_id) == (2.5, 279)
    assert event.strings == ("The IPsec policy 'Lab' is in effect.", "Source of the policy: local computer policy.")
    assert agent.active is not None
    assert agent.active.filters == compile_policy(_policy("Lab"), MINE)
    assert (agent.active.source, agent.active.since) == ("local", 2.5)


def test_polling_interval_only_from_a_domain() -> None:
    for source, told in (("domain", True), ("cache", False), ("local", False)):
        (event,) = PolicyAgent().start(0.0, _policy("Lab"), MINE, source)  # type: ignore[arg-type]
        assert ("Active Directory polling interval: 120 minutes." in event.strings) is told


def test_no_policy() -> None:
    agent = PolicyAgent()
    (event,) = agent.start(0.0, None, MINE)
    assert event.strings == ("No IPsec policy is in effect.",)
    assert agent.active is not None
    assert agent.active.filters == ()


def test_update_tells_only_changes() -> None:
    agent = PolicyAgent()
    agent.start(0.0, _policy("Lab"), MINE)
    first = agent.active
    assert agent.update(1.0, _policy("Lab"), MINE) == ()
    assert agent.active is first
    (event,) = agent.update(2.0, _policy("Other"), MINE)
    assert event.strings[:2] == ("Updating IPsec Policy.", "The IPsec policy 'Other' is in effect.")
    (event,) = agent.update(3.0, _policy("Other"), (*MINE, IPv4Address("10.0.1.1")))
    assert event.strings[0] == "Updating IPsec Policy."
    (event,) = agent.update(4.0, None, MINE)
    assert event.strings == ("Updating IPsec Policy.", "No IPsec policy is in effect.")


def test_stop_and_restart() -> None:
    agent = PolicyAgent()
    agent.start(0.0, _policy("Lab"), MINE)
    stopped, started = agent.restart(5.0, _policy("Lab"), MINE)
    assert "stopped" in stopped.strings[0]
    assert "in effect" in started.strings[0]
    assert len(agent.stop(6.0)) == 1
    assert agent.active is None
    assert agent.stop(7.0) == ()


def test_wrong_moment() -> None:
    agent = PolicyAgent()
    with pytest.raises(PolicyError, match="not running"):
        agent.update(0.0, None, MINE)
    agent.start(0.0, None, MINE)
    with pytest.raises(PolicyError, match="running already"):
        agent.start(0.0, None, MINE)
