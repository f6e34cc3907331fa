"""The IPSEC Policy Agent of one computer: with the policies in its registry, its event log, and its own log.

The agent's log (ipsecpa.log, unless the registry calls it otherwise) is written when `Debug` is 1. Its last line always
says whether Group Policy or local policy is used (KB 257225, "Group Policy").
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from ipaddress import IPv4Address

from ipsec_core.computer import oakley_log
from ipsec_core.computer.group_policy import GroupPolicy, local_policy
from ipsec_core.computer.negotiation import PolicyView
from ipsec_core.computer.reports import Reports
from ipsec_core.computer.state import State
from ipsec_core.errors import IpsecError
from ipsec_core.policy.agent import Events, PolicyAgent, Reading, Source
from ipsec_core.policy.compile import DriverFilter
from ipsec_core.policy.dynamic_rules import DynamicRules
from ipsec_core.policy.model import Policy

_USED: dict[Source, str] = {
    "domain": "Group Policy settings are used",
    "cache": "Group Policy settings are used, from the cached copy",
    "local": "Local computer policy settings are used",
}


class PolicyService:
    """`policy` is what the computer's owner gives as its local policy, None: the one assigned in the registry.

    `changed` is called when another policy may be in effect.
    """

    def __init__(
        self,
        state: State,
        reports: Reports,
        prepare: Callable[[Policy, tuple[DriverFilter, ...]], PolicyView],
        changed: Callable[[float], None],
        policy: Policy | None,
        domain: str,
    ) -> None:
        self.policy = policy
        self._domain = domain
        self._state = state
        self._reports = reports
        self._changed = changed
        self._group_policy = GroupPolicy(state.registry)
        self._log = ""
        self.agent = PolicyAgent(self._local, prepare, self._group_policy)

    # The service

    def start(self, now: float, addresses: Sequence[IPv4Address], policy: Policy | None) -> None:
        with self._trying(now, policy, running=False):
            events = self.agent.start(now, addresses, domain=self._domain, cached=self._cached())
        self._begin_log()
        self._file(now, events)

    def stop(self, now: float) -> None:
        self._file(now, self.agent.stop(now))

    def restart(self, now: float, addresses: Sequence[IPv4Address], policy: Policy | None) -> None:
        with self._trying(now, policy, running=self.agent.active is not None):
            events = self.agent.restart(now, addresses, domain=self._domain, cached=self._cached())
        self._begin_log()
        self._file(now, events)

    def update(self, now: float, addresses: Sequence[IPv4Address], policy: Policy | None) -> None:
        with self._trying(now, policy, running=True):
            events = self.agent.update(now, addresses)
        self._file(now, events)
        self._changed(now)

    # Rules of programs

    def push(self, now: float, name: str, rules: DynamicRules) -> None:
        """See `PolicyAgent.push`."""
        self.agent.push(now, name, rules)
        self._changed(now)

    def withdraw(self, now: float, name: str) -> None:
        """See `PolicyAgent.withdraw`."""
        self.agent.withdraw(now, name)
        self._changed(now)

    # The domain

    @property
    def next_poll(self) -> float | None:
        """When the computer's domain is to be asked; None without one, while stopped, and while it is asked."""
        return self.agent.next_poll

    def poll(self, now: float) -> Reading | None:
        """The owner asks the domain now, with this for `Directory.read`; then one of the two below."""
        since, events = self.agent.poll(now)
        self._file(now, events)
        return since

    def directory_answered(self, now: float, reading: Reading) -> None:
        """The policy of the domain takes effect, or if it cannot be used all remains as it is, and an event tells."""
        self._file(now, self.agent.directory_answered(now, reading))
        self._changed(now)

    def directory_failed(self, now: float, reason: str) -> None:
        """The domain has not answered; what is in effect stays."""
        self._file(now, self.agent.directory_failed(now, reason))

    # Inside

    def _local(self) -> Policy | None:
        return local_policy(self._state.registry) if self.policy is None else self.policy

    def _cached(self) -> bool:
        """Without a domain to ask, and with nothing else from its owner, a computer goes by what its registry says."""
        return self.policy is None and self._group_policy.assigned

    @contextmanager
    def _trying(self, now: float, policy: Policy | None, *, running: bool) -> Iterator[None]:
        """With another policy of the owner, which is forgotten if that cannot be used; then an event says so."""
        before, self.policy = self.policy, policy
        try:
            yield
        except IpsecError as error:
            self.policy = before
            if (self.agent.active is not None) is running:
                self._file(now, (self.agent.cannot_be_used(now, error),))
            raise

    def _begin_log(self) -> None:
        registry = self._state.registry
        self._log = str(registry.known("Log")) if registry.known_number("Debug") else ""
        if self._log:
            self._state.begin_file(self._log)

    def _file(self, now: float, events: Events) -> None:
        self._reports.agent(events)
        if self._log and events:
            for text in (line for event in events for line in event.strings):
                self._state.add_line(self._log, oakley_log.line(now, text))
            self._state.add_line(self._log, oakley_log.line(now, self._used()))

    def _used(self) -> str:
        active = self.agent.active
        if active is None or active.policy is None:
            return "No IPsec policy is used."
        return f"{_USED[active.source]}: {active.policy.name!r}."
