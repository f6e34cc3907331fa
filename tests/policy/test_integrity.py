"""The integrity check: whole stores have no problem, every broken link is found, repair mends what has one answer."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from policy_kit import MemoryStore, policies, stored

import ipsec_core
from ipsec_core.computer.state import State
from ipsec_core.errors import PolicyError
from ipsec_core.policy.blobs import FilterData, decode, encode
from ipsec_core.policy.builtin import builtin_objects
from ipsec_core.policy.catalogue import Catalogue
from ipsec_core.policy.integrity import check, repair
from ipsec_core.policy.methods import SecurityMethod
from ipsec_core.policy.model import FilterAction, FilterActionKind, Policy, Rule
from ipsec_core.policy.objects import ObjectClass, ObjectName, StoredObject
from ipsec_core.policy.registry_store import RegistryStore, populate
from ipsec_core.policy.selectors import MY, Address, Filter, FilterList
from ipsec_core.policy.storage import read_catalogue, read_policy, save

FAMILY = "70FA-11D1-864C-14A300000000}"
SERVER = "ipsecPolicy{72385230-" + FAMILY
CLIENT = "ipsecPolicy{72385236-" + FAMILY
MAIN_MODE = "ipsecISAKMPPolicy{72385231-" + FAMILY
REQUEST = "ipsecNegotiationPolicy{72385233-" + FAMILY
PERMIT = "ipsecNegotiationPolicy{7238523B-" + FAMILY
RULE = "ipsecNFA{72385232-" + FAMILY
SECURE_RULE = "ipsecNFA{7238523E-" + FAMILY
CLIENT_RULE = "ipsecNFA{59319C04-5EE3-11D2-ACE8-0060B0ECCA17}"
RESPONSE = "ipsecNFA{59319BE2-5EE3-11D2-ACE8-0060B0ECCA17}"
ICMP_RULE = "ipsecNFA{594272E2-071D-11D3-AD22-0060B0ECCA17}"
ALL_IP = "ipsecFilter{7238523A-" + FAMILY
GONE = ObjectName.of(ObjectClass.NFA, uuid.UUID(int=9))

Break = Callable[[MemoryStore], None]


def setting(text: str, **fields: object) -> Break:
    def change(store: MemoryStore) -> None:
        item = store.named(text)
        store.kept[item.name] = replace(item, **fields)

    return change


def without(text: str) -> Break:
    def change(store: MemoryStore) -> None:
        del store.kept[ObjectName.parse(text)]

    return change


def lines(store: MemoryStore) -> list[str]:
    return [str(problem) for problem in check(store.objects(), store.assigned())]


def repaired(store: MemoryStore) -> list[str]:
    """Carries repair out; what it leaves."""
    changes = repair(store.objects())
    assert not changes.delete
    assert changes.assign is ...
    store.apply(changes, 2)
    assert not repair(store.objects())
    left = check(store.objects())
    assert not any(problem.repairable for problem in left)
    return [str(problem) for problem in left]


ANSWERS = [
    # what is broken, the problem that says so, the objects that repair writes
    (setting(ALL_IP, owners=()), f"{ALL_IP}: ipsecOwnersReference lacks {RULE}, which refers to it", {ALL_IP}),
    (setting(RULE, owners=(GONE,)), f"{RULE}: ipsecOwnersReference {GONE} does not exist", {RULE}),
    (
        setting(REQUEST, owners=(ObjectName.parse(RULE), ObjectName.parse(ICMP_RULE))),
        f"{REQUEST}: ipsecOwnersReference {ICMP_RULE} does not refer to it",
        {REQUEST},
    ),
    (
        setting(SERVER, nfas=(ObjectName.parse(ICMP_RULE), ObjectName.parse(RESPONSE))),
        f"{SERVER}: ipsecNFAReference lacks {RULE}, which it owns",
        {SERVER},
    ),
    (
        setting(SERVER, nfas=(ObjectName.parse(ICMP_RULE), ObjectName.parse(RULE))),
        f"{SERVER}: ipsecNFAReference lacks {RESPONSE}, which it owns",
        {SERVER},
    ),
    (setting(SERVER, nfas=()), f"{SERVER}: ipsecNFAReference lacks {RULE}, which it owns", {SERVER}),
    (setting(SERVER, isakmp=None), f"{SERVER}: ipsecISAKMPReference is missing", {SERVER}),
    (
        setting(SERVER, isakmp=GONE),
        f"{SERVER}: ipsecISAKMPReference {GONE} is not of class ipsecISAKMPPolicy",
        {SERVER},
    ),
    (setting(RULE, negotiation=None), f"{RULE}: ipsecNegotiationPolicyReference is missing", {RULE}),
    (setting(RULE, filters=(GONE,)), f"{RULE}: ipsecFilterReference {GONE} is not of class ipsecFilter", {RULE}),
    (setting(RULE, filters=()), f"{RULE}: ipsecFilterReference lacks {ALL_IP}, which it owns", {RULE}),
    (
        without(ICMP_RULE),
        f"{SERVER}: ipsecNFAReference {ICMP_RULE} does not exist",
        {SERVER, PERMIT, "ipsecFilter{72385235-" + FAMILY},
    ),
    (
        setting(SERVER, nfas=tuple(map(ObjectName.parse, (ICMP_RULE, RESPONSE, RULE, RULE)))),
        f"{SERVER}: ipsecNFAReference {RULE} stands twice",
        {SERVER},
    ),
    (setting(SERVER, data_type=5), f"{SERVER}: ipsecDataType 5; accepted: 256, 598", {SERVER}),
]


@pytest.mark.parametrize(("change", "line", "written"), ANSWERS, ids=lambda value: "")
def test_what_has_one_right_answer(change: Break, line: str, written: set[str]) -> None:
    store = MemoryStore(builtin_objects(1))
    change(store)
    assert line in lines(store)
    assert {str(item.name) for item in repair(store.objects()).put} == written
    assert repaired(store) == []
    assert len(read_catalogue(store).policies) == 3


def test_a_rule_whose_owner_is_forgotten() -> None:
    store = MemoryStore(builtin_objects(1))
    setting(RULE, owners=())(store)
    assert lines(store) == [f"{RULE}: ipsecOwnersReference lacks {SERVER}, which refers to it"]
    assert repaired(store) == []
    assert store.named(RULE).owners == (ObjectName.parse(SERVER),)


def test_a_lost_rule_becomes_the_last() -> None:
    store = MemoryStore(builtin_objects(1))
    setting(SERVER, nfas=(ObjectName.parse(RESPONSE), ObjectName.parse(RULE)))(store)
    assert repaired(store) == []
    assert [str(name) for name in store.named(SERVER).nfas] == [RESPONSE, RULE, ICMP_RULE]


def _change_data(text: str, **fields: object) -> Break:
    def change(store: MemoryStore) -> None:
        item = store.named(text)
        store.kept[item.name] = replace(item, data=encode(replace(decode(item.data), **fields)))

    return change


def _counting(text: str, number: int) -> bytes:
    """The blob of a filter action whose number of offers says fewer than there are."""
    data = next(item.data for item in builtin_objects() if item.name == ObjectName.parse(text))
    return data[:20] + number.to_bytes(4, "little") + data[24:]


def _two_lists(store: MemoryStore) -> None:
    """Linked both ways, but more than a rule may have."""
    other = ObjectName.parse("ipsecFilter{72385235-" + FAMILY)
    setting(RULE, filters=(ObjectName.parse(ALL_IP), other))(store)
    setting(str(other), owners=(*store.kept[other].owners, ObjectName.parse(RULE)))(store)


def _shared_rule(store: MemoryStore) -> None:
    setting(CLIENT, nfas=(*store.named(CLIENT).nfas, ObjectName.parse(RULE)))(store)
    setting(RULE, owners=(ObjectName.parse(SERVER), ObjectName.parse(CLIENT)))(store)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (without(MAIN_MODE), f"{SERVER}: ipsecISAKMPReference {MAIN_MODE} does not exist"),
        (without(REQUEST), f"{RULE}: ipsecNegotiationPolicyReference {REQUEST} does not exist"),
        (without(ALL_IP), f"{RULE}: ipsecFilterReference {ALL_IP} does not exist"),
        (without(CLIENT), f"{CLIENT_RULE}: orphan: no policy refers to it"),
        (without(CLIENT_RULE), f"{CLIENT}: ipsecNFAReference {CLIENT_RULE} does not exist"),
        (setting(RULE, data=b""), f"{RULE}: ipsecData: GUID of the kind at byte 0 takes 16 bytes, and 0 are left"),
        (
            setting(RULE, data=builtin_objects()[0].data),
            f"{RULE}: ipsecData: is not that of an ipsecNFA",
        ),
        (
            setting(REQUEST, data=_counting(REQUEST, 2)),
            f"{REQUEST}: ipsecData: the length counts 240 bytes more than what is in it takes",
        ),
        (_change_data(RULE, is_tunnel=1), f"{RULE}: ipsecData: a tunnel without an endpoint"),
        (setting(REQUEST, action=None), f"{REQUEST}: ipsecData: ipsecNegotiationPolicyAction: none; accepted: "),
        (_two_lists, f"{RULE}: ipsecFilterReference names 2 filter lists; accepted: one"),
        (_shared_rule, f"{RULE}: is part of 2 policies: {CLIENT}, {SERVER}"),
        (
            setting(CLIENT_RULE, negotiation=ObjectName.parse(PERMIT)),
            f"{CLIENT_RULE}: ipsecFilterReference is missing, and its filter action is no default response",
        ),
    ],
)
def test_what_takes_a_decision_is_reported_and_left(change: Break, line: str) -> None:
    store = MemoryStore(builtin_objects(1))
    change(store)
    assert any(found.startswith(line) for found in lines(store))
    assert any(left.startswith(line) for left in repaired(store))


def test_a_filter_list_that_is_not_understood() -> None:
    store = MemoryStore(builtin_objects(1))
    data = decode(store.named(ALL_IP).data)
    assert isinstance(data, FilterData)
    _change_data(ALL_IP, records=(replace(data.records[0], special=2),))(store)
    (line,) = lines(store)
    assert line.startswith(f"{ALL_IP}: ipsecData: filter 1: special address 2 ")


def test_a_policy_without_rules_is_one() -> None:
    """Nothing is wrong with it yet: somebody is about to add them."""
    catalogue = Catalogue([Policy("A")])
    store = MemoryStore()
    save(catalogue, store, 0)
    assert check(store.objects(), store.assigned()) == ()


def test_an_assigned_policy_that_is_not_there() -> None:
    store = MemoryStore(builtin_objects(), uuid.UUID(int=3))
    (problem,) = check(store.objects(), store.assigned())
    assert str(problem) == "ipsecPolicy{00000000-0000-0000-0000-000000000003}: is assigned, and does not exist"
    assert not problem.repairable


def test_a_second_default_response_is_not_put_into_a_policy() -> None:
    store = MemoryStore(builtin_objects(1))
    twin = replace(store.named(RESPONSE), name=GONE)
    store.kept[GONE] = twin
    repaired(store)
    assert GONE not in store.named(SERVER).nfas
    read_policy(store.objects(), ObjectName.parse(SERVER).guid)


def test_a_broken_lost_rule_keeps_the_trace_of_its_owner() -> None:
    store = MemoryStore(builtin_objects(1))
    setting(SERVER, nfas=(ObjectName.parse(ICMP_RULE), ObjectName.parse(RESPONSE)))(store)
    without(ALL_IP)(store)
    left = repaired(store)
    assert f"{RULE}: ipsecOwnersReference {SERVER} does not refer to it" in left
    assert store.named(RULE).owners == (ObjectName.parse(SERVER),)


# -- properties --


def _referring(item: StoredObject) -> list[str]:
    return [name for name in ("isakmp", "nfas", "negotiation", "filters", "owners") if getattr(item, name)]


def _broken(item: StoredObject, attribute: str, number: int, target: ObjectName | None) -> StoredObject:
    """One of the references of an object dropped, or turned to `target`."""
    links = getattr(item, attribute)
    if isinstance(links, ObjectName):
        return replace(item, **{attribute: target})
    at = number % len(links)
    return replace(item, **{attribute: (*links[:at], *((target,) if target else ()), *links[at + 1 :])})


def _store(policy: Policy | None) -> MemoryStore:
    return MemoryStore(builtin_objects()) if policy is None else stored(policy)


@settings(max_examples=40)
@given(st.none() | policies.filter(lambda policy: bool(policy.rules)), st.data())
def test_every_broken_link_is_found(policy: Policy | None, draw: st.DataObject) -> None:
    store = _store(policy)
    assert check(store.objects()) == ()
    item = draw.draw(st.sampled_from([one for one in store.objects() if _referring(one)]))
    attribute = draw.draw(st.sampled_from(_referring(item)))
    targets = st.none() | st.sampled_from(sorted(store.kept)) | st.just(GONE)
    changed = _broken(item, attribute, draw.draw(st.integers(0, 9)), draw.draw(targets))
    store.kept[item.name] = changed
    same = replace(changed, owners=item.owners) == item and set(changed.owners) == set(item.owners)
    assert bool(check(store.objects())) != same
    repaired(store)


@settings(max_examples=40)
@given(st.none() | policies, st.data())
def test_whatever_is_broken_repair_ends_and_is_done(policy: Policy | None, draw: st.DataObject) -> None:
    store = _store(policy)
    known = sorted(store.kept)
    for name in draw.draw(st.lists(st.sampled_from(known), max_size=3, unique=True)):
        del store.kept[name]
    for _ in range(draw.draw(st.integers(0, 6))):
        some = [one for one in store.objects() if _referring(one)]
        if some:
            item = draw.draw(st.sampled_from(some))
            attribute = draw.draw(st.sampled_from(_referring(item)))
            target = draw.draw(st.none() | st.sampled_from(known))
            store.kept[item.name] = _broken(item, attribute, draw.draw(st.integers(0, 9)), target)
    before = len(check(store.objects()))
    left = repaired(store)
    assert len(left) <= before
    for problem in check(store.objects()):
        assert "\n" not in str(problem)
    if not left:
        read_catalogue(store)


@given(st.data())
def test_a_store_without_problems_can_be_read(draw: st.DataObject) -> None:
    """What the check passes, reading takes: blobs with single bytes changed."""
    store = MemoryStore(builtin_objects())
    item = draw.draw(st.sampled_from(store.objects()))
    data = bytearray(item.data)
    data[draw.draw(st.integers(0, len(data) - 1))] = draw.draw(st.integers(0, 255))
    store.kept[item.name] = replace(item, data=bytes(data))
    if check(store.objects()):
        return
    read_catalogue(store)
    for name in store.kept:
        if name.object_class is ObjectClass.POLICY:
            read_policy(store.objects(), name.guid)


# -- two administrators --

SECURE = FilterAction("Secure", FilterActionKind.NEGOTIATE, (SecurityMethod.parse("ESP[3DES,SHA1]"),))


def _rule(name: str) -> Rule:
    return Rule(name, FilterList(name, "", (Filter("", MY, Address.parse("10.0.0.0/8")),)), SECURE)


# Another administrator, in a process of its own: reads, says so, waits, and saves one more rule.
OTHER = """
import sys
from pathlib import Path
from test_integrity import SERVER_NAME, _rule
from ipsec_core.computer.state import State
from ipsec_core.policy.registry_store import RegistryStore
from ipsec_core.policy.storage import read_catalogue, save

with State.open(Path(sys.argv[1]), readonly=False) as state:
    store = RegistryStore(state.registry)
    catalogue = read_catalogue(store)
    print("read", flush=True)
    sys.stdin.readline()
    catalogue.add_rule(SERVER_NAME, _rule("B"))
    save(catalogue, store, 3)
"""
SERVER_NAME = "Server (Request Security)"


@pytest.fixture
def computer(tmp_path: Path) -> Iterator[tuple[Path, RegistryStore]]:
    """A computer's state directory and the local store in it."""
    folder = tmp_path / "computer"
    with State.create(folder, "COMPUTER") as state:
        store = RegistryStore(state.registry)
        populate(store, 1)
        yield folder, store


def test_two_who_edit_at_the_same_time_break_links(computer: tuple[Path, RegistryStore]) -> None:
    """KB 257225: the last one to save wins. Each object is whole; a link between them is not."""
    folder, store = computer
    paths = os.pathsep.join((str(Path(ipsec_core.__file__).parents[1]), str(Path(__file__).parent)))
    command = [sys.executable, "-c", OTHER, str(folder)]
    environment = os.environ | {"PYTHONPATH": paths}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "read\n"
        catalogue = read_catalogue(store)
        catalogue.add_rule(SERVER_NAME, _rule("A"))
        save(catalogue, store, 2)
        other.communicate("save\n", timeout=20)
    assert other.returncode == 0
    (problem,) = check(store.objects())
    assert (str(problem.name), problem.text.split("{")[0]) == (SERVER, "ipsecNFAReference lacks ipsecNFA")
    names = [rule.name for rule in read_policy(store.objects(), problem.name.guid).rules]
    assert "B" in names
    assert "A" not in names
    store.apply(repair(store.objects()), 4)
    assert check(store.objects()) == ()
    assert [rule.name for rule in read_catalogue(store).policy(SERVER_NAME).rules][-2:] == ["B", "A"]


def test_one_uses_what_the_other_deletes(computer: tuple[Path, RegistryStore]) -> None:
    folder, first = computer
    with State.open(folder, readonly=False) as state:
        second = RegistryStore(state.registry)
        catalogue = read_catalogue(first)
        spare = catalogue.add_filter_action(SECURE)
        save(catalogue, first, 1)
        mine, yours = read_catalogue(first), read_catalogue(second)
        mine.delete_filter_action("Secure")
        yours.add_rule("Client (Respond Only)", replace(_rule("R"), filter_action=yours.filter_action("Secure")))
        save(yours, second, 2)
        save(mine, first, 3)
    target = ObjectName.of(ObjectClass.NEGOTIATION, spare.guid or uuid.UUID(int=0))
    (problem,) = check(first.objects())
    assert problem.text == f"ipsecNegotiationPolicyReference {target} does not exist"
    assert not problem.repairable
    with pytest.raises(PolicyError, match="does not exist; secpol check lists all that is broken"):
        read_catalogue(first)
