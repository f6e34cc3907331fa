"""The Policy Agent as a service: policies of the registry and of a domain, its log, and what a change leaves alone."""

from __future__ import annotations

import uuid
from dataclasses import replace
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, Literal

import pytest
from computer_kit import A, B, Pair, policy
from scapy.layers.inet import IP, UDP
from scapy.packet import Raw

from ipsec_core.computer.computer import Computer
from ipsec_core.computer.group_policy import local_policy
from ipsec_core.computer.state import State
from ipsec_core.driver import Burst
from ipsec_core.errors import IpsecError, PolicyError
from ipsec_core.policy.agent import Reading
from ipsec_core.policy.model import Policy
from ipsec_core.policy.objects import Changes, ObjectClass, guid_text
from ipsec_core.policy.registry_store import RegistryStore
from ipsec_core.policy.storage import read_catalogue, save
from ipsec_core.policy.toml import policy_from_table

METHOD = "ESP[3DES,SHA1]"
CONTAINER = "CN=IP Security,CN=System,DC=lab,DC=example"
REFERENCE = r"HKLM\SOFTWARE\Policies\Microsoft\Windows\IPsec\GPTIPSECPolicy"


def named(name: str, *methods: str, **more: Any) -> Policy:
    return replace(policy(*(methods or (METHOD,)), **more), name=name)


def assign(state: State, made: Policy, root: Literal["Local", "Cache"] = "Local") -> None:
    """As an administrator does it."""
    store = RegistryStore(state.registry, root)
    catalogue = read_catalogue(store)
    if all(one.name != made.name for one in catalogue.policies):
        catalogue.add_policy(made)
    else:
        catalogue.replace_policy(made.name, made)
    catalogue.assign(made.name)
    save(catalogue, store, 0)


def answer(made: Policy | None) -> Reading:
    """What a domain says that has other policies, too."""
    with State.memory("domain") as state:
        assign(state, named("Another one"))
        if made is not None:
            assign(state, made)
        store = RegistryStore(state.registry)
        return Reading(f"{made}", store.assigned() if made else None, store.objects(), CONTAINER)


def computer(state: State | None = None, given: Policy | None = None, **options: Any) -> Computer:
    return Computer("A", IPv4Address(A), given, seed=b"a", state=state or State.memory("A"), **options)


def in_effect(made: Computer) -> tuple[str, str | None]:
    active = made.agent.active
    assert active is not None
    assert len(made.driver.filter_packets()) == len(active.filters)
    return active.source, active.policy.name if active.policy else None


def events(made: Computer) -> list[int]:
    return [event.event_id for event in made.log.events(source="PolicyAgent")]


# ---- the registry ---------------------------------------------------------------------------------------------------


def test_the_policy_assigned_in_the_registry_protects() -> None:
    states = [State.memory(name) for name in ("ALICE", "BOB")]
    for state in states:
        assign(state, named("Assigned"))
    pair = Pair(None, None, alice={"state": states[0]}, bob={"state": states[1]}, audit={})
    assert in_effect(pair.a) == ("local", "Assigned")
    packet = pair.send(10)
    assert pair.delivered == [packet]
    saved = pair.a.snapshot(pair.now).policy()
    assert saved is not None
    assert saved.name == "Assigned"


def test_the_owners_policy_goes_before_the_registrys() -> None:
    state = State.memory("A")
    assign(state, named("Assigned"))
    made = computer(state, named("Given"))
    made.start(0.0)
    assert in_effect(made) == ("local", "Given")
    made.update_policy(1.0, None)
    assert in_effect(made) == ("local", "Assigned")
    made.restart_agent(2.0)
    assert in_effect(made) == ("local", "Assigned")


@pytest.mark.parametrize("how", ["update", "restart", "stop and start"])
def test_a_change_in_the_registry(how: str) -> None:
    """It counts when the service reads the registry again."""
    state = State.memory("A")
    made = computer(state)
    made.start(0.0)
    assert in_effect(made) == ("local", None)
    assign(state, named("Assigned"))
    assert in_effect(made) == ("local", None)
    if how == "update":
        made.update_policy(1.0, None)
    elif how == "restart":
        made.restart_agent(1.0)
    else:
        made.stop(1.0)
        made.start(1.0)
    assert in_effect(made) == ("local", "Assigned")
    RegistryStore(state.registry).apply(Changes(assign=None), 0)
    made.update_policy(2.0, None)
    assert in_effect(made) == ("local", None)


def test_what_is_broken_in_the_registry_leaves_the_last_policy() -> None:
    state = State.memory("ALICE")
    assign(state, named("Assigned"))
    pair = Pair(None, named("Assigned"), alice={"state": state})
    pair.send(10)
    before = pair.a.associations()
    store = RegistryStore(state.registry)
    store.apply(Changes(delete=tuple(one.name for one in store.objects() if one.object_class is ObjectClass.ISAKMP)), 0)
    for number, change in enumerate((partial(pair.a.update_policy, policy=None), pair.a.restart_agent)):
        with pytest.raises(PolicyError, match="ipsecISAKMPReference"):
            change(pair.now)  # type: ignore[operator]
        assert events(pair.a).count(308) == number + 1
    assert pair.a.associations() == before
    assert pair.send(20) == pair.delivered[-1]
    text = pair.a.log.events(source="PolicyAgent")[-1].text
    assert "cannot be used" in text
    assert "remains with the policy that was in effect" in text
    pair.a.stop(pair.now)
    with pytest.raises(PolicyError, match="ipsecISAKMPReference"):
        pair.a.start(pair.now)
    assert pair.a.agent.active is None


def test_a_wrong_moment_is_no_event() -> None:
    made = computer(None, named("Given"))
    with pytest.raises(PolicyError, match="not running"):
        made.update_policy(0.0, None)
    made.start(0.0)
    with pytest.raises(PolicyError, match="running already"):
        made.start(0.0)
    assert events(made) == [279]
    made.restart_agent(1.0)
    assert in_effect(made) == ("local", "Given")


# ---- the domain -----------------------------------------------------------------------------------------------------


def test_a_policy_of_the_domain() -> None:
    """It is in effect, kept with nothing that is not its own, named in the registry, and goes when it is unassigned."""
    made = computer(None, named("Given"), domain="lab.example")
    made.start(0.0)
    assert in_effect(made) == ("local", "Given")
    assert made.service.next_poll == 0.0
    since = made.service.poll(0.0)
    assert since is None
    said = answer(named("Group", "ESP[DES,MD5]"))
    made.service.directory_answered(0.5, said)
    assert in_effect(made) == ("domain", "Group")
    assert made.service.next_poll == 10800.5
    registry = made.state.registry
    path = f"LDAP://CN=ipsecPolicy{guid_text(said.assigned or uuid.UUID(int=0))},{CONTAINER}"
    assert registry.get(REFERENCE, "DSIPSECPolicyPath") == path
    assert registry.get(REFERENCE, "DSIPSECPolicyName") == "Group"
    kept = RegistryStore(registry, "Cache")
    assert kept.assigned() == said.assigned
    assert len([one for one in kept.objects() if one.object_class is ObjectClass.POLICY]) == 1
    assert len(kept.objects()) == 5
    assert local_policy(registry) is None
    made.service.directory_answered(1.0, answer(None))
    assert in_effect(made) == ("local", "Given")
    assert not registry.exists(REFERENCE)
    assert kept.objects() == ()
    assert kept.assigned() is None
    assert "Updating IPsec Policy." in made.log.events(source="PolicyAgent")[-1].text


def test_a_domain_that_is_down_after_a_restart_of_the_computer(tmp_path: Path) -> None:
    with State.create(tmp_path / "A", "A") as state:
        made = computer(state, domain="lab.example")
        made.start(0.0)
        made.service.directory_answered(1.0, answer(named("Group")))
        made.snapshot(2.0)
    with State.open(tmp_path / "A", readonly=False) as state:
        made = computer(state, domain="lab.example")
        made.start(100.0)
        assert in_effect(made) == ("cache", "Group")
        for now in (100.0, 160.0):
            made.service.poll(now)
            made.service.directory_failed(now, "no answer in 30 s")
        assert in_effect(made) == ("cache", "Group")
        assert events(made) == [279, 279, 279, 284]
        assert "lab.example: no answer in 30 s" in made.log.events(source="PolicyAgent")[-1].text
        assert made.service.next_poll == 400.0
    # Without its domain it goes by what its registry says, if its owner gives it nothing else.
    for given, wanted in ((None, ("cache", "Group")), (named("Given"), ("local", "Given"))):
        with State.open(tmp_path / "A", readonly=False) as state:
            made = computer(state, given)
            made.start(200.0)
            assert in_effect(made) == wanted


def test_a_domain_that_lies_changes_nothing() -> None:
    pair = Pair(named("Group"), named("Group"), alice={"domain": "lab.example"})
    said = answer(named("Group"))
    pair.a.service.directory_answered(0.0, said)
    pair.send(10)
    before = pair.a.associations()
    lies = [
        replace(said, assigned=uuid.UUID(int=7)),
        replace(said, objects=tuple(one for one in said.objects if one.object_class is not ObjectClass.FILTER)),
        replace(said, objects=tuple(replace(one, data=b"\xff" * 40) for one in said.objects)),
        replace(said, objects=()),
    ]
    for number, lie in enumerate(lies):
        pair.a.service.directory_answered(1.0, lie)
        assert in_effect(pair.a) == ("domain", "Group")
        assert events(pair.a).count(308) == number + 1
    assert pair.a.associations() == before
    kept = RegistryStore(pair.a.state.registry, "Cache")
    assert kept.assigned() == said.assigned


def test_the_domains_policy_is_one_that_this_computer_cannot_carry_out() -> None:
    made = computer(None, named("Given"), domain="lab.example")
    made.start(0.0)
    made.service.directory_answered(1.0, answer(named("Modern", "ESP[AES-128-GCM]")))
    assert in_effect(made) == ("local", "Given")
    assert "is not of the profile windows-2000" in made.log.events(event_id=308)[0].text


def test_the_same_policy_from_local_to_domain_keeps_the_sas() -> None:
    """Neither the news that it comes from a domain nor a new GUID ends what protects."""
    pair = Pair(named("Same"), named("Same"), alice={"domain": "lab.example"})
    pair.send(10)
    before = [sa.spi for sa in pair.a.associations()]
    pair.a.service.directory_answered(pair.now, answer(named("Same")))
    pair.a.service.directory_answered(pair.now, answer(named("Same")))
    assert in_effect(pair.a) == ("domain", "Same")
    assert [sa.spi for sa in pair.a.associations()] == before
    assert pair.send(20) == pair.delivered[-1]


# ---- a change under traffic -----------------------------------------------------------------------------------------


def among_others(made: Policy, before: int, behind: int) -> Policy:
    """With rules for other computers, which authenticate otherwise."""
    others = [
        {
            "filters": [{"source": "me", "destination": f"10.9.{number}.0/24"}],
            "action": "block" if number % 2 else {"negotiate": [METHOD]},
            "authentication": [{"preshared_key": f"key {number}"}],
        }
        for number in range(before + behind)
    ]
    rules = policy_from_table({"name": "others", "rules": others}, "test").rules
    return replace(made, rules=(*rules[:before], *made.rules, *rules[before:]))


def test_a_running_flow_loses_no_packet_over_updates() -> None:
    """All policies protect it: with other rules before and behind, other names, from the owner and from the domain."""
    pair = Pair(named("First"), named("First"), alice={"domain": "lab.example"})
    sent = [pair.send(10)]
    spis = [sa.spi for sa in pair.a.associations()]
    for number in range(1, 13):
        changed = among_others(named(f"Number {number}"), number, 13 - number)
        if number <= 6:
            pair.a.update_policy(pair.now, changed)
        else:
            pair.a.service.directory_answered(pair.now, answer(changed))
        pair.b.update_policy(pair.now, changed)
        for sender in (pair.a, pair.b):
            sent.append(pair.send(10, sender, number=number))
        assert pair.delivered == sent
    assert in_effect(pair.a) == ("domain", "Number 12")
    assert [sa.spi for sa in pair.a.associations()] == spis
    assert pair.a.counters()["oakley_main_modes"] == pair.a.counters()["oakley_quick_modes"] == 1
    assert pair.clear == []


def test_another_address() -> None:
    """The SAs of the former one end, *me* is the new one, and IKE goes on there."""
    pair = Pair(named("Lab"), named("Lab"))
    pair.send(10)
    other = IPv4Address("10.0.0.77")
    pair.a.change_address(pair.now, other)
    pair.settle()
    assert pair.a.associations() == pair.b.associations() == []
    assert pair.audits(pair.b)[-2:] == [542, 543]
    active = pair.a.agent.active
    assert active is not None
    assert {str(item.source) for item in active.filters if item.direction == "outbound"} == {"10.0.0.77/32"}
    assert "Updating IPsec Policy." in pair.a.log.events(source="PolicyAgent")[-1].text
    packet = bytes(IP(src=str(other), dst=B) / UDP(sport=1, dport=2) / Raw(b"from there"))
    pair._out(pair.a, Burst(1).load([packet]))
    pair.settle()
    assert pair.delivered[-1] == packet
    assert {one.source_address for one in pair.a.associations() if one.direction == "outbound"} == {"10.0.0.77"}
    pair.a.stop(pair.now)
    pair.a.change_address(pair.now, IPv4Address(A))
    assert pair.a.agent.active is None


# ---- ipsecpa.log ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ipsecpa.log", "agent.txt"])
def test_the_agents_log(name: str, tmp_path: Path) -> None:
    with State.create(tmp_path / "A", "A") as state:
        made = computer(state, named("Given"), domain="lab", registry={"Debug": 1, "Log": name})
        made.start(0.0)
        file = tmp_path / "A" / name
        made.snapshot(0.0)
        assert file.read_text().splitlines()[-1] == (
            " 1-01: 00:00:00:000:0 Local computer policy settings are used: 'Given'."
        )
        said = answer(named("Group"))
        made.service.poll(1.0)
        made.service.directory_answered(1.0, said)
        made.service.poll(2.0)
        made.service.directory_answered(2.0, said)
        made.snapshot(3.0)
        lines = [line.split(" ", 3)[-1] for line in file.read_text().splitlines()]
        assert lines[-1] == "Group Policy settings are used: 'Group'."
        assert lines[-2] == "Nothing has changed in the domain."
        assert "Asking the domain lab." in lines
        made.restart_agent(4.0)
        made.snapshot(4.0)
        assert file.with_name(f"{name}.sav").read_text().splitlines()[-1].endswith("'Group'.")
        lines = [line.split(" ", 3)[-1] for line in file.read_text().splitlines()]
        assert lines[-1] == "Group Policy settings are used, from the cached copy: 'Group'."
        made.stop(5.0)
        made.snapshot(5.0)
        assert file.read_text().splitlines()[-1].endswith("No IPsec policy is used.")
        state.registry.set_known("Debug", 0)
        made.start(6.0)
        made.snapshot(6.0)
        assert file.read_text().splitlines()[-1].endswith("No IPsec policy is used.")


def test_without_debug_no_log(tmp_path: Path) -> None:
    made = computer(None, named("Given"))
    made.start(0.0)
    made.snapshot(0.0).save_as(tmp_path / "A")
    assert [path.name for path in (tmp_path / "A").iterdir()] == ["state.sqlite"]


def test_an_error_of_the_start_is_in_the_event_log() -> None:
    state = State.memory("A")
    RegistryStore(state.registry).apply(Changes(assign=uuid.UUID(int=5)), 0)
    made = computer(state)
    with pytest.raises(IpsecError):
        made.start(0.0)
    assert events(made) == [308]
    assert "The Policy Agent remains stopped." in made.log.events(event_id=308)[0].text
