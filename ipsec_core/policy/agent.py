"""The IPSEC Policy Agent service: which policy is in effect, where it comes from, and what it tells about that.

The policy of the domain counts, else its cached copy, else the one that is assigned on the computer, else none; they
are not merged. What is in effect stays when the domain is down or slow, or says what cannot be carried out
([MS-GPIPSEC] 3.2.5): only its word that no policy is assigned ends it.

Sans-IO: times (seconds) and answers come in, events go out, and `PolicyAgent.active` is to be in effect. Whoever owns
the agent asks the domain when `next_poll` says so, loads the filters of `active`, and files the events.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from typing import Generic, Literal, Protocol, TypeAlias, TypeVar

from ipsec_core.errors import IpsecError, PolicyError
from ipsec_core.policy.compile import DriverFilter, compile_policy
from ipsec_core.policy.dynamic_rules import DynamicRules
from ipsec_core.policy.model import DEFAULT_POLLING_SECONDS, Policy
from ipsec_core.policy.objects import StoredObject
from ipsec_core.policy.storage import read_policy

Source = Literal["domain", "cache", "local"]
Plan = TypeVar("Plan")

# The first four are informational numbers of Windows 2000's agent, for its own log; 279 and 284 are those of KB 257225.
NOTHING_CHANGED = 4
POLLING = 18
STOPPING = 21
STARTED = 22
POLICY_IN_EFFECT = 279
NO_CONTACT = 284
CANNOT_BE_USED = 308

# After a failure: the square of minutes + 1, from 0 on, so 1, 4, 25, 166 ([MS-GPIPSEC] 3.2.5.1).
LONGEST_BACK_OFF_MINUTES = 166

_SOURCES: dict[Source, str] = {
    "local": "local computer policy",
    "domain": "Group Policy from Active Directory",
    "cache": "cached copy of the Active Directory policy",
}


@dataclass(frozen=True, slots=True)
class Reading:
    """All that a domain said at one moment: its objects, and the GUID of the policy assigned to this computer.

    `stamp` differs from that of every other state of the same domain. `container` is the DN in which the objects are.
    """

    stamp: str
    assigned: uuid.UUID | None
    objects: tuple[StoredObject, ...]
    container: str = ""


class Directory(Protocol):
    """The policies of a domain, as a directory service gives them."""

    def read(self, since: Reading | None = None) -> Reading:
        """What is there now; `since` itself, without reading the objects, when nothing has changed after that.

        It may take its time. Raises IpsecError, one line, when there is no answer.
        """


class PolicyCache(Protocol):
    """Where a computer keeps its copy of the domain's policy. Both methods raise IpsecError, one line."""

    def read(self) -> Policy | None:
        """The copy; None when nothing was assigned."""

    def keep(self, now: float, reading: Reading) -> None:
        """Takes the place of the former copy, all of it or nothing."""


@dataclass(frozen=True, slots=True)
class AgentEvent:
    """One event of source PolicyAgent; `time` in seconds, `strings` the lines of its text."""

    time: float
    event_id: int
    strings: tuple[str, ...]


Events: TypeAlias = tuple[AgentEvent, ...]


@dataclass(frozen=True, slots=True)
class ActivePolicy(Generic[Plan]):
    """What is in effect; without filters all traffic passes in the clear.

    `pushed` are the rules that are in effect beside those of the policy. `plan` is what `prepare` made of both, None
    where there are neither.
    """

    policy: Policy | None
    filters: tuple[DriverFilter, ...]
    source: Source
    since: float
    plan: Plan | None
    pushed: Mapping[str, DynamicRules]


class PolicyAgent(Generic[Plan]):
    """The service of one computer; `active` is None while it is stopped.

    `local` gives the policy that is assigned on the computer. `prepare` makes of a policy and its compiled filters what
    the computer needs to carry it out, or raises PolicyError if it cannot be carried out there.
    """

    def __init__(
        self,
        local: Callable[[], Policy | None],
        prepare: Callable[[Policy, tuple[DriverFilter, ...]], Plan],
        cache: PolicyCache | None = None,
    ) -> None:
        self.active: ActivePolicy[Plan] | None = None
        self.domain = ""
        self._local = local
        self._prepare = prepare
        self._cache = cache
        self._copy: Policy | None = None  # what the cache holds, or should
        self._addresses: tuple[IPv4Address, ...] = ()
        self._above: tuple[Source, Policy] | None = None  # what goes before a local policy
        self._pushed: dict[str, DynamicRules] = {}
        self._known: Reading | None = None
        self._not_kept: Reading | None = None  # what the cache should hold and could not
        self._next_poll: float | None = None
        self._minutes = 0  # of the last back-off; 0: the domain has answered

    # The service

    def start(
        self, now: float, my_addresses: Sequence[IPv4Address], *, domain: str = "", cached: bool = False
    ) -> Events:
        """Start. Who is in a domain has to ask it at once; until it answers, the cached copy is in effect.

        `cached`: the cached copy counts although there is no domain to ask. PolicyError when the service runs already;
        IpsecError, and it stays stopped, when the policy assigned on the computer is the one and cannot be used.
        """
        if self.active is not None:
            raise PolicyError("the Policy Agent is running already; restart it instead")
        return self._begin(now, my_addresses, domain, cached)

    def stop(self, now: float) -> Events:
        """Stop; nothing is in effect afterwards. Event 279 says so, once."""
        if self.active is None:
            return ()
        self.active = self._next_poll = None
        self._pushed = {}
        return _stopped(now)

    def restart(
        self, now: float, my_addresses: Sequence[IPv4Address], *, domain: str = "", cached: bool = False
    ) -> Events:
        """Stop and start. IpsecError, and all as before, when it could not start again."""
        ended = () if self.active is None else _stopped(now)
        return ended + self._begin(now, my_addresses, domain, cached)

    def update(self, now: float, my_addresses: Sequence[IPv4Address]) -> Events:
        """Other addresses, or another policy on the computer, while running; no event when nothing changed.

        The domain is to be asked at once. IpsecError, and all as before, when the policy cannot be used.
        """
        if self.active is None:
            raise PolicyError("the Policy Agent is not running")
        events = self._take_effect(now, self._above, tuple(my_addresses))
        self._known = None
        if self.domain:
            self._next_poll = now
        return events

    def cannot_be_used(self, now: float, error: IpsecError) -> AgentEvent:
        """The event for an error that `start`, `restart` or `update` raised."""
        stays = "stopped" if self.active is None else "with the policy that was in effect"
        lines = (f"The IPsec policy cannot be used: {error}", f"The Policy Agent remains {stays}.")
        return AgentEvent(now, CANNOT_BE_USED, lines)

    # Rules of programs

    def push(self, now: float, name: str, rules: DynamicRules) -> None:
        """Rules beside those of the policy, whatever that is, until `withdraw` or the end of the service.

        They are in no store, and the event log does not hear of them (KB 248750). `name` is that of who pushes them.
        PolicyError when the service does not run; IpsecError, and all as before, when they cannot be used.
        """
        if self.active is None:
            raise PolicyError("the Policy Agent is not running")
        before, after = self._pushed, replace(rules.after(self._pushed.get(name)), delete=False)
        self._pushed = before | {name: after}
        if after == DynamicRules():
            del self._pushed[name]
        try:
            self._take_effect(now, self._above, self._addresses)
        except IpsecError:
            self._pushed = before
            raise

    def withdraw(self, now: float, name: str) -> None:
        """The rules that were pushed under a name go; a name that is not known is no error."""
        if name in self._pushed:
            self.push(now, name, DynamicRules(delete=True))

    # The domain

    @property
    def next_poll(self) -> float | None:
        """When the domain is to be asked; None while nobody is to ask, or an answer is waited for."""
        return self._next_poll

    def poll(self, now: float) -> tuple[Reading | None, Events]:
        """The owner asks now: `Directory.read` of the reading, then `directory_answered` or `directory_failed`."""
        self._next_poll = None
        return self._known, (AgentEvent(now, POLLING, (f"Asking the domain {self.domain}.",)),)

    def directory_answered(self, now: float, reading: Reading) -> Events:
        """What the domain says takes effect and is kept in the cache; all as before if it cannot be used.

        An answer to a service that has stopped is nothing.
        """
        if self.active is None or not self.domain:
            return ()
        self._minutes = 0
        if reading is self._known:
            events: Events = (AgentEvent(now, NOTHING_CHANGED, ("Nothing has changed in the domain.",)),)
            if reading is self._not_kept:
                events += self._keep(now, reading)
        else:
            self._known = reading
            events = self._obey(now, reading)
        policy = self.active.policy if self.active.source != "local" else None
        self._next_poll = now + (policy.polling_interval_seconds if policy else DEFAULT_POLLING_SECONDS)
        return events

    def directory_failed(self, now: float, reason: str) -> Events:
        """No answer: what is in effect stays. Event 284, once until the domain answers again."""
        if self.active is None or not self.domain:
            return ()
        first = self._minutes == 0
        self._minutes = min((self._minutes + 1) ** 2, LONGEST_BACK_OFF_MINUTES)
        self._next_poll = now + 60 * self._minutes
        return (AgentEvent(now, NO_CONTACT, (self.domain, reason)),) if first else ()

    # Inside

    def _begin(self, now: float, addresses: Sequence[IPv4Address], domain: str, cached: bool) -> Events:
        """Nothing is changed before nothing can fail any more."""
        mine = tuple(addresses)
        copy, events = self._cached_copy(now) if domain or cached else (None, ())
        above: tuple[Source, Policy] | None = ("cache", copy) if copy else None
        try:
            active = self._made(now, above, mine, {}, None)
        except IpsecError as error:
            if above is None:
                raise
            events += (_no_copy(now, error),)
            above, active = None, self._made(now, None, mine, {}, None)
        self.active = active
        self._addresses, self._above, self._copy, self.domain = mine, above, copy, domain
        self._pushed, self._known, self._minutes = {}, None, 0
        self._next_poll = now if domain else None
        return (AgentEvent(now, STARTED, ("The Policy Agent started.",)), *events, *_in_effect(active))

    def _cached_copy(self, now: float) -> tuple[Policy | None, Events]:
        if self._cache is None or self._not_kept is not None:
            return self._copy, ()
        try:
            return self._cache.read(), ()
        except IpsecError as error:
            return self._copy, (_no_copy(now, error),)

    def _obey(self, now: float, reading: Reading) -> Events:
        try:
            policy = None if reading.assigned is None else read_policy(reading.objects, reading.assigned)
            events = self._take_effect(now, ("domain", policy) if policy else None, self._addresses)
        except IpsecError as error:
            return (self.cannot_be_used(now, error),)
        self._copy = policy
        return events + self._keep(now, reading)

    def _keep(self, now: float, reading: Reading) -> Events:
        """Tries again with every answer that changes nothing; the event is filed once."""
        again, self._not_kept = reading is self._not_kept, None
        try:
            if self._cache is not None:
                self._cache.keep(now, reading)
        except IpsecError as error:
            self._not_kept = reading
            text = f"There is no copy of the domain's policy for a time when it cannot be asked: {error}"
            return () if again else (AgentEvent(now, CANNOT_BE_USED, (text,)),)
        return ()

    def _take_effect(
        self, now: float, above: tuple[Source, Policy] | None, addresses: tuple[IPv4Address, ...]
    ) -> Events:
        before = self.active
        after = self._made(now, above, addresses, self._pushed, before)
        self._addresses, self._above = addresses, above
        same = before is not None and _same(after, before)
        if before is not None and same and after.source == before.source:
            return ()
        self.active = after
        return _in_effect(after, *(() if same else ("Updating IPsec Policy.",)))

    def _made(
        self,
        now: float,
        above: tuple[Source, Policy] | None,
        addresses: tuple[IPv4Address, ...],
        pushed: Mapping[str, DynamicRules],
        before: ActivePolicy[Plan] | None,
    ) -> ActivePolicy[Plan]:
        """What is to be in effect; with policy, filters and pushed rules of `before` the plan is the same object."""
        source: Source = "local"
        policy: Policy | None
        source, policy = above if above is not None else (source, self._local())
        whole = _with(policy, pushed)
        made: ActivePolicy[Plan] = ActivePolicy(policy, (), source, now, None, pushed)
        if whole is None:
            return made
        made = replace(made, filters=compile_policy(whole, addresses))
        same = before is not None and _same(made, before)
        return replace(made, plan=before.plan if before and same else self._prepare(whole, made.filters))


def _with(policy: Policy | None, pushed: Mapping[str, DynamicRules]) -> Policy | None:
    """A policy and the rules beside it as one: their filters are in one order."""
    for rules in pushed.values():
        policy = rules.added_to(policy or Policy(", ".join(pushed)))
    return policy


def _same(one: ActivePolicy[Plan], other: ActivePolicy[Plan]) -> bool:
    return (one.policy, one.filters, one.pushed) == (other.policy, other.filters, other.pushed)


def _stopped(now: float) -> Events:
    return (
        AgentEvent(now, STOPPING, ("The Policy Agent is stopping.",)),
        AgentEvent(now, POLICY_IN_EFFECT, ("The Policy Agent stopped. No IPsec policy is in effect.",)),
    )


def _no_copy(now: float, error: IpsecError) -> AgentEvent:
    return AgentEvent(now, CANNOT_BE_USED, (f"The cached copy of the domain's policy cannot be used: {error}",))


def _in_effect(active: ActivePolicy[Plan], *lines: str) -> Events:
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
