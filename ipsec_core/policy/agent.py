"""The IPSEC Policy Agent service: which policy is in effect, and what it tells the event log about that.

Sans-IO: `now` and the policy come in, event records go out, the compiled filters stand in `PolicyAgent.active`. Whoever
owns the driver loads the filters; whoever owns the event log writes the records. Stopping the service ends protection,
and a restart also removes every soft SA (KB 257225, "Restarting the policy agent"); both are up to their owner.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Literal

from ipsec_core.errors import PolicyError
from ipsec_core.policy.compile import DriverFilter, compile_policy
from ipsec_core.policy.model import Policy

Source = Literal["local", "domain", "cache"]

POLICY_IN_EFFECT = 279

_SOURCES: dict[Source, str] = {
    "local": "local computer policy",
    "domain": "Group Policy from Active Directory",
    "cache": "cached copy of the Active Directory policy",
}


@dataclass(frozen=True, slots=True)
class AgentEvent:
    """One event for the log of source PolicyAgent; `time` in seconds, `strings` the lines of its text."""

    time: float
    event_id: int
    strings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ActivePolicy:
    """What is in effect; without a policy the filters are empty and all traffic passes in the clear."""

    policy: Policy | None
    filters: tuple[DriverFilter, ...]
    source: Source
    since: float


class PolicyAgent:
    """The service of one computer; `active` is None while it is stopped."""

    def __init__(self) -> None:
        self.active: ActivePolicy | None = None

    def start(
        self, now: float, policy: Policy | None, my_addresses: Sequence[IPv4Address], source: Source = "local"
    ) -> tuple[AgentEvent, ...]:
        """Start with a policy or with none assigned; PolicyError when the service runs already."""
        if self.active is not None:
            raise PolicyError("the Policy Agent is running already; restart it instead")
        self.active = _compile(now, policy, my_addresses, source)
        return _in_effect(self.active)

    def stop(self, now: float) -> tuple[AgentEvent, ...]:
        """Stop; nothing is in effect afterwards. Event 279 says so, once."""
        if self.active is None:
            return ()
        self.active = None
        return (AgentEvent(now, POLICY_IN_EFFECT, ("The Policy Agent stopped. No IPsec policy is in effect.",)),)

    def restart(
        self, now: float, policy: Policy | None, my_addresses: Sequence[IPv4Address], source: Source = "local"
    ) -> tuple[AgentEvent, ...]:
        return self.stop(now) + self.start(now, policy, my_addresses, source)

    def update(
        self, now: float, policy: Policy | None, my_addresses: Sequence[IPv4Address], source: Source = "local"
    ) -> tuple[AgentEvent, ...]:
        """Take over another policy or other addresses while running; no event when nothing changed."""
        before = self.active
        if before is None:
            raise PolicyError("the Policy Agent is not running")
        after = _compile(now, policy, my_addresses, source)
        if (after.policy, after.filters, after.source) == (before.policy, before.filters, before.source):
            return ()
        self.active = after
        return _in_effect(after, "Updating IPsec Policy.")


def _compile(now: float, policy: Policy | None, my_addresses: Sequence[IPv4Address], source: Source) -> ActivePolicy:
    return ActivePolicy(policy, compile_policy(policy, my_addresses) if policy else (), source, now)


def _in_effect(active: ActivePolicy, *lines: str) -> tuple[AgentEvent, ...]:
    policy = active.policy
    if policy is None:
        lines += ("No IPsec policy is in effect.",)
    else:
        lines += (
            f"The IPsec policy {policy.name!r} is in effect.",
            f"Source of the policy: {_SOURCES[active.source]}.",
        )
        if active.source == "domain":
            lines += (f"Active Directory polling interval: {policy.polling_interval_seconds // 60} minutes.",)
    return (AgentEvent(active.since, POLICY_IN_EFFECT, lines),)
