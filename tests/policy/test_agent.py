"""Policy Agent: which policy is in effect, when the domain is asked, and event 279 as KB 257225 describes it."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipsec_core.errors import IpsecError, PolicyError, RegistryError
from ipsec_core.policy.agent import PolicyAgent, Reading
from ipsec_core.policy.catalogue import Catalogue
from ipsec_core.policy.compile import DriverFilter, compile_policy
from ipsec_core.policy.model import FilterAction, FilterActionKind, Policy, Rule
from ipsec_core.policy.objects import Changes, ObjectClass, StoredObject, by_name
from ipsec_core.policy.selectors import ANY, MY, Filter, FilterList
from ipsec_core.policy.storage import read_policy, save

MINE = (IPv4Address("10.0.0.1"),)
MINUTE = 60.0


def _policy(name: str, polling: int = 7200) -> Policy:
    rule = Rule(
        "r", FilterList(f"list of {name}", "", (Filter("", MY, ANY),)), FilterAction("Block", FilterActionKind.BLOCK)
    )
    return Policy(name, rules=(rule,), polling_interval_seconds=polling)


class Store:
    """A `PolicyStore` in memory."""

    def __init__(self) -> None:
        self.kept: tuple[StoredObject, ...] = ()
        self.guid: uuid.UUID | None = None

    def objects(self) -> tuple[StoredObject, ...]:
        return self.kept

    def assigned(self) -> uuid.UUID | None:
        return self.guid

    def apply(self, changes: Changes, now: int) -> None:
        self.kept = tuple((by_name(self.kept) | by_name(changes.put)).values())
        if not isinstance(changes.assign, type(...)):
            self.guid = changes.assign


def reading(policy: Policy | None, stamp: str = "") -> Reading:
    """What a domain says that has assigned a policy, or none."""
    store = Store()
    if policy is not None:
        catalogue = Catalogue([policy])
        catalogue.assign(policy.name)
        save(catalogue, store, 0)
    return Reading(stamp or f"{policy}", store.guid, store.kept)


def broken(policy: Policy) -> Reading:
    """One whose rules have gone."""
    whole = reading(policy)
    return replace(whole, objects=tuple(one for one in whole.objects if one.object_class is not ObjectClass.NFA))


class Cache:
    """A `PolicyCache` in memory; `broken` makes its disk fail."""

    def __init__(self, kept: Reading | None = None) -> None:
        self.kept = kept
        self.broken = False

    def read(self) -> Policy | None:
        if self.broken:
            raise RegistryError("the disk is broken")
        if self.kept is None or self.kept.assigned is None:
            return None
        return read_policy(self.kept.objects, self.kept.assigned)

    def keep(self, now: float, reading: Reading) -> None:
        if self.broken:
            raise RegistryError("the disk is broken")
        self.kept = reading


def prepare(policy: Policy, filters: tuple[DriverFilter, ...]) -> str:
    if policy.name == "Impossible":
        raise PolicyError("policy 'Impossible': not on this computer")
    return policy.name


def made(local: Policy | None = None, cache: Cache | None = None) -> PolicyAgent[str]:
    return PolicyAgent(lambda: local, prepare, cache)


def ids(events: tuple[object, ...]) -> list[int]:
    return [event.event_id for event in events if event.event_id > 30]  # type: ignore[attr-defined]


def in_effect(agent: PolicyAgent[str]) -> tuple[str, str | None]:
    assert agent.active is not None
    policy = agent.active.policy
    assert agent.active.plan == (policy and policy.name)
    assert agent.active.filters == (compile_policy(policy, MINE) if policy else ())
    return agent.active.source, policy.name if policy else None


# ---- the service ----------------------------------------------------------------------------------------------------


def test_local_policy() -> None:
    agent = made(_policy("Lab"))
    started, event = agent.start(2.5, MINE)
    assert (started.event_id, event.time, event.event_id) == (22, 2.5, 279)
    assert event.strings == ("The IPsec policy 'Lab' is in effect.", "Source of the policy: local computer policy.")
    assert in_effect(agent) == ("local", "Lab")
    assert agent.active is not None
    assert agent.active.since == 2.5
    assert agent.next_poll is None


def test_no_policy() -> None:
    agent = made()
    assert agent.start(0.0, MINE)[-1].strings == ("No IPsec policy is in effect.",)
    assert in_effect(agent) == ("local", None)


def test_it_compiles_and_prepares_once() -> None:
    calls: list[str] = []

    def count(policy: Policy, filters: tuple[DriverFilter, ...]) -> str:
        calls.append(policy.name)
        return prepare(policy, filters)

    agent = PolicyAgent(lambda: _policy("Lab"), count, Cache())
    agent.start(0.0, MINE, domain="lab")
    agent.update(1.0, MINE)
    agent.poll(1.0)
    agent.directory_answered(1.0, reading(_policy("Group")))
    agent.update(2.0, MINE)
    assert calls == ["Lab", "Group"]


def test_update_tells_only_changes() -> None:
    current = [_policy("Lab")]
    agent = PolicyAgent(lambda: current[0] if current else None, prepare)
    agent.start(0.0, MINE)
    first = agent.active
    assert agent.update(1.0, MINE) == ()
    assert agent.active is first
    current[:] = [_policy("Other")]
    (event,) = agent.update(2.0, MINE)
    assert event.strings[:2] == ("Updating IPsec Policy.", "The IPsec policy 'Other' is in effect.")
    (event,) = agent.update(3.0, (*MINE, IPv4Address("10.0.1.1")))
    assert event.strings[0] == "Updating IPsec Policy."
    assert agent.active is not None
    assert {str(item.source) for item in agent.active.filters} == {"10.0.0.1/32", "10.0.1.1/32", "0.0.0.0/0"}
    current.clear()
    (event,) = agent.update(4.0, MINE)
    assert event.strings == ("Updating IPsec Policy.", "No IPsec policy is in effect.")


def test_stop_and_restart() -> None:
    agent = made(_policy("Lab"))
    agent.start(0.0, MINE)
    before = agent.active
    stopping, stopped, started, in_effect_again = agent.restart(5.0, MINE)
    assert (stopping.event_id, started.event_id) == (21, 22)
    assert "stopped" in stopped.strings[0]
    assert "in effect" in in_effect_again.strings[0]
    assert agent.active is not before
    assert ids(agent.stop(6.0)) == [279]
    assert agent.active is None
    assert agent.stop(7.0) == ()
    assert [event.event_id for event in agent.restart(8.0, MINE)] == [22, 279]


def test_wrong_moment() -> None:
    agent = made()
    with pytest.raises(PolicyError, match="not running"):
        agent.update(0.0, MINE)
    agent.start(0.0, MINE)
    with pytest.raises(PolicyError, match="running already"):
        agent.start(0.0, MINE)


@pytest.mark.parametrize("bad", [_policy("Impossible"), None])
def test_a_local_policy_that_cannot_be_used_changes_nothing(bad: Policy | None) -> None:
    current: list[Policy | None] = [_policy("Lab")]

    def local() -> Policy:
        if current[0] is None:
            raise RegistryError("the store is broken")
        return current[0]

    agent = PolicyAgent(local, prepare)
    agent.start(0.0, MINE)
    before = agent.active
    current[0] = bad
    for change in (agent.update, agent.restart):
        with pytest.raises(IpsecError) as caught:
            change(1.0, MINE)
        assert agent.active is before
    event = agent.cannot_be_used(1.0, caught.value)
    assert event.event_id == 308
    assert str(caught.value) in event.strings[0]
    agent.stop(2.0)
    with pytest.raises(IpsecError):
        agent.start(3.0, MINE)
    assert agent.active is None


# ---- precedence -----------------------------------------------------------------------------------------------------

_SAYS: dict[str, Callable[[], Reading]] = {
    "a policy": lambda: reading(_policy("Group")),
    "none": lambda: reading(None),
    "broken links": lambda: broken(_policy("Group")),
    "no such policy": lambda: replace(reading(_policy("Group")), assigned=uuid.UUID(int=1)),
    "impossible": lambda: reading(_policy("Impossible")),
    "garbage": lambda: replace(
        reading(_policy("Group")),
        objects=tuple(replace(one, data=one.data[:7]) for one in reading(_policy("Group")).objects),
    ),
}


@pytest.mark.parametrize("local", ["Lab", None])
@pytest.mark.parametrize("cached", ["Copy", None])
@pytest.mark.parametrize("says", [*_SAYS, "nothing"])
def test_precedence(says: str, cached: str | None, local: str | None) -> None:
    """Active Directory, else the cached copy, else the local policy, else none."""
    cache = Cache(reading(_policy(cached)) if cached else None)
    agent = made(_policy(local) if local else None, cache)
    agent.start(0.0, MINE, domain="lab.example")
    without = ("cache", cached) if cached else ("local", local)
    assert in_effect(agent) == without
    assert agent.poll(0.0)[0] is None
    if says == "nothing":
        events = agent.directory_failed(1.0, "no answer")
        assert events[0].strings == ("lab.example", "no answer")
    else:
        events = agent.directory_answered(1.0, _SAYS[says]())
    wanted = {"a policy": ("domain", "Group"), "none": ("local", local)}.get(says, without)
    assert in_effect(agent) == wanted
    told = {"a policy": [279], "none": [279] if cached else [], "nothing": [284]}
    assert ids(events) == told.get(says, [308])
    # After a restart of the computer only the cache is left.
    again = made(_policy(local) if local else None, cache)
    again.start(9.0, MINE, domain="lab.example")
    assert in_effect(again) == (("cache", wanted[1]) if wanted[0] == "domain" else wanted)


def test_the_same_policy_from_the_domain_is_no_other_policy() -> None:
    answer = reading(_policy("Group"))
    agent = made(None, Cache(answer))
    agent.start(0.0, MINE, domain="lab")
    before = agent.active
    (event,) = agent.directory_answered(1.0, answer)
    assert "Updating IPsec Policy." not in event.strings
    assert event.strings[1] == "Source of the policy: Group Policy from Active Directory."
    assert agent.active is not None
    assert before is not None
    assert agent.active.plan is before.plan


def test_polling_interval_only_from_a_domain() -> None:
    agent = made(_policy("Lab"), Cache(reading(_policy("Copy"))))
    line = "Active Directory polling interval: 120 minutes."
    assert line not in agent.start(0.0, MINE, domain="lab")[-1].strings
    (event,) = agent.directory_answered(1.0, reading(_policy("Group")))
    assert line in event.strings


def test_a_cached_copy_without_a_domain_to_ask() -> None:
    cache = Cache(reading(_policy("Copy")))
    agent = made(_policy("Lab"), cache)
    agent.start(0.0, MINE)
    assert in_effect(agent) == ("local", "Lab")
    agent.restart(1.0, MINE, cached=True)
    assert in_effect(agent) == ("cache", "Copy")
    assert agent.next_poll is None


@pytest.mark.parametrize("bad", [broken(_policy("Copy")), reading(_policy("Impossible"))])
def test_a_cached_copy_that_cannot_be_used(bad: Reading) -> None:
    agent = made(_policy("Lab"), Cache(bad))
    assert ids(agent.start(0.0, MINE, domain="lab")) == [308, 279]
    assert in_effect(agent) == ("local", "Lab")


def test_a_cache_that_cannot_be_written() -> None:
    """The policy is in effect, and stays over a restart of the service without the domain."""
    cache = Cache(reading(_policy("Older")))
    agent = made(None, cache)
    agent.start(0.0, MINE, domain="lab")
    cache.broken = True
    events = agent.directory_answered(1.0, reading(_policy("Group")))
    assert ids(events) == [279, 308]
    assert "the disk is broken" in events[-1].strings[0]
    agent.restart(2.0, MINE, domain="lab")
    agent.directory_failed(3.0, "no answer")
    assert in_effect(agent) == ("cache", "Group")
    answer = reading(_policy("Group"))
    assert ids(agent.directory_answered(4.0, answer)) == [279, 308]
    assert ids(agent.directory_answered(5.0, answer)) == []
    cache.broken = False
    agent.directory_answered(6.0, answer)
    assert cache.kept is answer, "it is tried again"


# ---- when the domain is asked ---------------------------------------------------------------------------------------


def test_back_off() -> None:
    """[MS-GPIPSEC] 3.2.5.1: the square of minutes + 1, not more than 166; event 284 once an outage."""
    agent = made(None, Cache(reading(_policy("Copy"))))
    agent.start(100.0, MINE, domain="lab")
    assert agent.next_poll == 100.0
    now = 100.0
    waited: list[float] = []
    told: list[int] = []
    for _ in range(6):
        agent.poll(now)
        assert agent.next_poll is None, "one question at a time"
        told += ids(agent.directory_failed(now + 5, "timeout"))
        assert agent.next_poll is not None
        waited.append((agent.next_poll - now - 5) / MINUTE)
        now = agent.next_poll
    assert waited == [1, 4, 25, 166, 166, 166]
    assert told == [284]
    agent.poll(now)
    agent.directory_answered(now, reading(_policy("Group")))
    assert agent.next_poll == now + 7200
    now = agent.next_poll
    agent.poll(now)
    assert ids(agent.directory_failed(now, "timeout")) == [284], "another outage"
    assert agent.next_poll == now + MINUTE
    assert in_effect(agent) == ("domain", "Group")


def test_polling_interval_is_that_of_the_domains_policy() -> None:
    agent = made(_policy("Lab", 60), Cache())
    agent.start(0.0, MINE, domain="lab")
    agent.directory_answered(0.0, reading(None))
    assert agent.next_poll == 10800.0
    agent.directory_answered(10.0, reading(_policy("Group", 300)))
    assert agent.next_poll == 310.0
    agent.directory_answered(310.0, broken(_policy("Other")))
    assert agent.next_poll == 610.0


def test_what_is_known_is_not_downloaded_again() -> None:
    """The domain is given the last reading; it gives it back when whenChanged, or what is finer, has not moved."""
    cache = Cache()
    agent = made(None, cache)
    agent.start(0.0, MINE, domain="lab")
    first = reading(_policy("Group"))
    agent.directory_answered(0.0, first)
    cache.broken = True  # is not touched
    since, _ = agent.poll(7200.0)
    assert since is first
    (event,) = agent.directory_answered(7201.0, first)
    assert event.event_id == 4
    assert agent.next_poll == 7201.0 + 7200
    agent.update(8000.0, MINE)
    assert agent.poll(8000.0)[0] is None, "asked for anew, all is read"


def test_a_lie_is_told_once() -> None:
    agent = made(_policy("Lab"), Cache())
    agent.start(0.0, MINE, domain="lab")
    lie = broken(_policy("Group"))
    assert ids(agent.directory_answered(0.0, lie)) == [308]
    assert agent.poll(7200.0)[0] is lie
    assert ids(agent.directory_answered(7200.0, lie)) == []
    assert ids(agent.directory_answered(9000.0, reading(_policy("Group")))) == [279]


def test_answers_to_a_stopped_service() -> None:
    agent = made(_policy("Lab"), Cache())
    agent.start(0.0, MINE, domain="lab")
    agent.poll(0.0)
    agent.stop(1.0)
    assert agent.directory_answered(2.0, reading(_policy("Group"))) == ()
    assert agent.directory_failed(2.0, "late") == ()
    assert agent.active is None
    assert agent.next_poll is None


# ---- any sequence ---------------------------------------------------------------------------------------------------

_STEPS = st.sampled_from(
    [*_SAYS, "another policy", "the same", "failed", "restart", "stop and start", "new process", "update", "disk"]
)


@given(st.lists(_STEPS, max_size=25))
def test_never_without_the_last_policy(steps: list[str]) -> None:
    """What the domain said last that could be used is in effect until it takes it back, whatever happens."""
    cache = Cache()
    agent = made(_policy("Lab"), cache)
    agent.start(0.0, MINE, domain="lab")
    word: str | None = None
    kept: str | None = None  # on the disk
    last = reading(None)
    now = 0.0
    for step in steps:
        now += 10
        if agent.next_poll is not None and agent.next_poll <= now:
            agent.poll(now)
        if step == "restart":
            agent.restart(now, MINE, domain="lab")
        elif step == "stop and start":
            agent.stop(now)
            agent.start(now, MINE, domain="lab")
        elif step == "new process":
            cache.broken = False
            agent, word = made(_policy("Lab"), cache), kept
            agent.start(now, MINE, domain="lab")
        elif step == "update":
            agent.update(now, MINE)
        elif step == "disk":
            cache.broken = not cache.broken
        elif step == "failed":
            agent.directory_failed(now, "no answer")
        else:
            if step != "the same":
                last = _SAYS[step]() if step in _SAYS else reading(_policy("Another"))
            agent.directory_answered(now, last)
            try:
                policy = read_policy(last.objects, last.assigned) if last.assigned else None
            except PolicyError:
                pass
            else:
                if policy is None or policy.name != "Impossible":
                    word = policy.name if policy else None
                    kept = kept if cache.broken else word
        assert agent.active is not None
        if word is None:
            assert in_effect(agent) == ("local", "Lab")
        else:
            assert in_effect(agent)[0] in ("domain", "cache")
            assert in_effect(agent)[1] == word
        assert agent.next_poll is None or agent.next_poll >= now
