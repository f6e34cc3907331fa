"""Entries of directories and LDIF files <-> policy objects, and the order of changes."""

from __future__ import annotations

import base64
import uuid
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ipsec_core.errors import PolicyError
from ipsec_core.policy.directory import (
    DEFAULT_DOMAIN_GPO,
    LdifStore,
    assigned_policy,
    assignment_dn,
    container_dn,
    from_entry,
    gpo_dn,
    object_dn,
    parse_dn,
    parse_time,
    to_attributes,
)
from ipsec_core.policy.directory_changes import Step, gpo_containers, plan, plan_assignment
from ipsec_core.policy.objects import DIRECTORY_DATA_TYPE, Changes, ObjectClass, ObjectName, StoredObject, by_name

DOMAIN = "DC=ad,DC=lab,DC=test"
CONTAINER = container_dn(DOMAIN)
GUIDS = st.integers(0, 7).map(lambda number: uuid.UUID(int=number))
TEXTS = st.text(max_size=20)


def names(*kinds: ObjectClass) -> st.SearchStrategy[ObjectName]:
    return st.builds(ObjectName.of, st.sampled_from(kinds or tuple(ObjectClass)), GUIDS)


def references(*kinds: ObjectClass) -> st.SearchStrategy[tuple[ObjectName, ...]]:
    return st.lists(names(*kinds), max_size=3, unique=True).map(tuple)


OBJECTS = st.builds(
    StoredObject,
    name=names(),
    data=st.binary(max_size=20),
    data_type=st.just(DIRECTORY_DATA_TYPE),
    display_name=TEXTS,
    description=TEXTS,
    isakmp=st.none() | names(ObjectClass.ISAKMP),
    nfas=references(ObjectClass.NFA),
    negotiation=st.none() | names(ObjectClass.NEGOTIATION),
    filters=references(ObjectClass.FILTER),
    owners=references(ObjectClass.POLICY, ObjectClass.NFA),
    action=st.none() | GUIDS,
    kind=st.none() | GUIDS,
)


def entry(item: StoredObject) -> dict[str, list[bytes]]:
    """As a search gives it."""
    attributes = {name.casefold(): values for name, values in to_attributes(item, CONTAINER).items() if values}
    return {"objectclass": [item.name.class_name.encode()], **attributes}


# --- names and times ---


def test_names() -> None:
    name = ObjectName.of(ObjectClass.NFA, uuid.UUID("6A1F5C6F-72B7-11D2-ACF0-0060B0ECCA17"))
    for dn in (
        object_dn(name, CONTAINER),
        "cn=IPSECNFA{6a1f5c6f-72b7-11d2-acf0-0060b0ecca17},cn=ip security",
        " CN = ipsecNFA{6A1F5C6F-72B7-11D2-ACF0-0060B0ECCA17} ,DC=lab",
        r"CN=ipsecNFA\7B6A1F5C6F-72B7-11D2-ACF0-0060B0ECCA17\},DC=lab",
        # What Active Directory leaves in a reference to an object that is gone.
        r"CN=ipsecNFA{6A1F5C6F-72B7-11D2-ACF0-0060B0ECCA17}\0ADEL:8a171dd3-77e3-11d1-8659-a04f00000000,"
        "CN=Deleted Objects,DC=lab",
        "CN=ipsecNFA{6A1F5C6F-72B7-11D2-ACF0-0060B0ECCA17}",
    ):
        assert parse_dn(dn) == name
    for wrong in ("", "CN=", "OU=ipsecNFA{6A1F5C6F-72B7-11D2-ACF0-0060B0ECCA17}", "CN=IP Security,CN=System", "CN=a+b"):
        with pytest.raises(PolicyError, match="accepted: "):
            parse_dn(wrong)


@given(st.text(max_size=60))
@example("CN=" + " " * 100_000 + "+")
@example(" " * 100_000)
def test_any_name(text: str) -> None:
    for candidate in (text, "CN=" + text):
        with suppress(PolicyError):
            assert str(parse_dn(candidate)).startswith("ipsec")


@given(st.datetimes(datetime(1601, 1, 1), datetime(9999, 12, 30)).map(lambda moment: moment.replace(microsecond=0)))
def test_times(moment: datetime) -> None:
    seconds = int(moment.replace(tzinfo=UTC).timestamp())
    text = moment.strftime("%Y%m%d%H%M%S").zfill(14)
    for zone in (".0Z", "Z", ",25Z", "+0000", "-00"):
        assert parse_time(text + zone) == seconds
    assert parse_time(text + "+0130") == seconds - 5400
    assert parse_time(text + "-01") == seconds + 3600


def test_short_and_wrong_times() -> None:
    assert parse_time("1970010101Z") == 3600
    for text in ("", "20001231235959", "20001331000000Z", "2000123123595Z", "yesterday", "2000123123595\u0669Z"):
        with pytest.raises(PolicyError, match="is not a time"):
            parse_time(text)


# --- objects ---


@given(OBJECTS)
def test_objects(item: StoredObject) -> None:
    assert from_entry(object_dn(item.name, CONTAINER), entry(item)) == item


def test_data_types() -> None:
    item = StoredObject(ObjectName.of(ObjectClass.FILTER, uuid.UUID(int=1)), b"")
    for text, number in ((b"598", 0x256), (b"0x256", 0x256), (b"256", 0x100), (b"0x100", 0x100), (b"0X100", 0x100)):
        found = from_entry(object_dn(item.name, CONTAINER), {**entry(item), "ipsecdatatype": [text]})
        assert found.data_type == number


def test_assignment() -> None:
    """To a GPO that had no policy, and one that had another."""
    policy = StoredObject(ObjectName.of(ObjectClass.POLICY, uuid.UUID(int=1)), b"", display_name="Büro")
    dn = assignment_dn(DEFAULT_DOMAIN_GPO, DOMAIN)
    assert dn.startswith("CN=IPSEC,CN=Windows,CN=Microsoft,CN=Machine,CN={31B2F340-016D-11D2-945F-00C04FB984F9},CN=Pol")
    containers = gpo_containers(DEFAULT_DOMAIN_GPO, DOMAIN)
    assert containers[0] == f"CN=Machine,{gpo_dn(DEFAULT_DOMAIN_GPO, DOMAIN)}"
    assert dn == f"CN=IPSEC,{containers[-1]}"
    (first,) = plan_assignment(None, policy, DEFAULT_DOMAIN_GPO, DOMAIN, CONTAINER)
    assert first.before is None
    assert first.after == {
        "objectClass": [b"ipsecPolicy"],
        "ipsecOwnersReference": [object_dn(policy.name, CONTAINER).encode()],
        "ipsecName": ["Büro".encode()],
    }
    assert assigned_policy(dn, {name.casefold(): values for name, values in first.after.items()}) == policy.guid
    # One that is not there has no name to show.
    (second,) = plan_assignment(first.after, uuid.UUID(int=2), DEFAULT_DOMAIN_GPO, DOMAIN, CONTAINER)
    assert second.after is not None
    assert second.after["ipsecName"] == []
    assert second.before == {
        "description": [],
        **{name: first.after[name] for name in second.after if name in first.after},
    }
    (third,) = plan_assignment(first.after, None, DEFAULT_DOMAIN_GPO, DOMAIN, CONTAINER)
    assert (third.before, third.after) == (first.after, None)
    assert plan_assignment(None, None, DEFAULT_DOMAIN_GPO, DOMAIN, CONTAINER) == []
    for owners in (
        [],
        [b"CN=ipsecNFA{00000000-0000-0000-0000-000000000001}"],
        [object_dn(policy.name, "DC=a").encode()] * 2,
    ):
        with pytest.raises(PolicyError, match=f"^entry {dn}: ipsecOwnersReference names .*accepted: one policy"):
            assigned_policy(dn, {"ipsecownersreference": owners})


# --- files ---


def test_real_domain(captures: Path) -> None:
    file = captures.parent / "reference" / "data" / "ad-ip-security.ldif"
    if not file.exists():
        pytest.skip("no objects of a real domain beside the captures")
    store = LdifStore(file)
    objects = by_name(store.objects())
    kinds = [name.object_class for name in objects]
    assert {kind: kinds.count(kind) for kind in ObjectClass} == {
        ObjectClass.POLICY: 3,
        ObjectClass.ISAKMP: 3,
        ObjectClass.NFA: 8,
        ObjectClass.NEGOTIATION: 6,
        ObjectClass.FILTER: 2,
    }
    assert store.assigned() is None
    assert {item.data_type for item in objects.values()} == {DIRECTORY_DATA_TYPE}
    # Every link is there both ways.
    for item in objects.values():
        for name in item.references:
            assert item.name in objects[name].owners
        for name in item.owners:
            assert item.name in objects[name].references
    secure = next(item for item in objects.values() if item.display_name == "Secure Server (Require Security)")
    assert secure.description.endswith("Do NOT allow unsecured communication with untrusted clients.")
    assert [objects[name].display_name for name in secure.nfas] == [
        "Permit unsecure ICMP packets to pass through.",
        "",
        "Require Security",
    ]
    assert datetime.fromtimestamp(secure.when_changed, UTC).strftime("%Y%m%d%H%M%S") == "20261123073738"


def test_files(tmp_path: Path) -> None:
    item = StoredObject(ObjectName.of(ObjectClass.FILTER, uuid.UUID(int=1)), b"blob", DIRECTORY_DATA_TYPE, "Büro")
    policy = ObjectName.of(ObjectClass.POLICY, uuid.UUID(int=2))

    def text(dn: str, attributes: dict[str, list[bytes]]) -> str:
        pairs = ((name, base64.b64encode(value).decode()) for name, values in attributes.items() for value in values)
        return "\n".join([f"dn: {dn}", *(f"{name}:: {value}" for name, value in pairs), "", ""])

    entries = text(object_dn(item.name, CONTAINER), entry(item)) + "dn: DC=lab\nobjectClass: domain\n\n"
    file = tmp_path / "policies.ldif"
    file.write_text(entries)
    store = LdifStore(file)
    assert (store.objects(), store.assigned()) == ((item,), None)
    with pytest.raises(PolicyError, match=r"policies\.ldif: an LDIF file is only read"):
        store.apply(Changes(assign=None), 0)

    assigned = {"objectclass": [b"ipsecPolicy"], "ipsecownersreference": [object_dn(policy, CONTAINER).encode()]}
    dn = assignment_dn(DEFAULT_DOMAIN_GPO, DOMAIN)
    file.write_text(entries + text(dn.replace(",", " , ").lower(), assigned))
    assert LdifStore(file).assigned() == policy.guid

    for content, message in (
        (text("CN=a", entry(item)), "entry CN=a: 'a' is not the name of a policy object"),
        (entries * 2, f"entry {object_dn(item.name, CONTAINER)}: a second entry with this name"),
        ("dn", "line 1: not LDIF"),
    ):
        file.write_text(content)
        with pytest.raises(PolicyError) as caught:
            LdifStore(file)
        assert str(caught.value).startswith(f"{file}: {message}")
    with pytest.raises(PolicyError, match=r"missing\.ldif: No such file"):
        LdifStore(tmp_path / "missing.ldif")


# --- changes ---

Tree = dict[str, dict[str, list[bytes]]]


def tree(objects: Iterable[StoredObject]) -> Tree:
    """A directory of these objects, by DN."""
    return {
        object_dn(item.name, CONTAINER): {
            "objectClass": [item.name.class_name.encode()],
            **{name: values for name, values in to_attributes(item, CONTAINER).items() if values},
        }
        for item in objects
    }


def carry_out(step: Step, directory: Tree) -> None:
    """As strict as a server."""
    if step.before is None:
        assert step.after is not None
        assert step.dn not in directory
        assert all(step.after.values())
        directory[step.dn] = {name: list(values) for name, values in step.after.items()}
    elif step.after is None:
        del directory[step.dn]
    else:
        there = directory[step.dn]
        for name, values in step.after.items():
            assert there.get(name, []) == list(step.before[name])
            there.pop(name, None)
            if values:
                there[name] = list(values)


def dangling(directory: Tree) -> set[tuple[str, bytes]]:
    there = {dn.encode() for dn in directory}
    return {
        (dn, value)
        for dn, attributes in directory.items()
        for name, values in attributes.items()
        if name.endswith("Reference")
        for value in values
        if value not in there
    }


def closed(objects: Iterable[StoredObject]) -> dict[ObjectName, StoredObject]:
    """Without references to what is not among them."""
    found = by_name(objects)

    def kept(references: tuple[ObjectName, ...]) -> tuple[ObjectName, ...]:
        return tuple(name for name in references if name in found)

    return {
        item.name: replace(
            item,
            isakmp=item.isakmp if item.isakmp in found else None,
            nfas=kept(item.nfas),
            negotiation=item.negotiation if item.negotiation in found else None,
            filters=kept(item.filters),
            owners=kept(item.owners),
        )
        for item in found.values()
    }


STORES = st.lists(OBJECTS, max_size=8).map(closed)


@given(STORES, STORES)
@settings(max_examples=50)
def test_no_step_leaves_a_reference_to_nothing(
    before: dict[ObjectName, StoredObject], after: dict[ObjectName, StoredObject]
) -> None:
    """And all of them together do what was asked for; and back."""
    put = tuple(item for item in after.values() if before.get(item.name) != item)
    changes = Changes(put=put, delete=tuple(name for name in before if name not in after))
    directory = tree(before.values())
    giving, taking = plan(before, changes, CONTAINER)
    for step in giving + taking:
        carry_out(step, directory)
        assert not dangling(directory)
    assert directory == tree(after.values())
    for step in reversed(giving + taking):
        carry_out(step.back, directory)
        assert not dangling(directory)
    assert directory == tree(before.values())


def test_what_is_there_needs_no_step() -> None:
    item = StoredObject(ObjectName.of(ObjectClass.FILTER, uuid.UUID(int=1)), b"blob")
    assert plan({item.name: item}, Changes(put=(item,)), CONTAINER) == ([], [])
    assert plan({}, Changes(delete=(item.name,)), CONTAINER) == ([], [])


def test_order_of_a_new_policy() -> None:
    """[MS-GPIPSEC] 2.2.1: policy, ISAKMP, NFA, negotiation policy, filter; then references, the policy's last."""
    policy, isakmp, rule, action, filters = (ObjectName.of(kind, uuid.UUID(int=1)) for kind in ObjectClass)
    objects = (
        StoredObject(filters, b"", owners=(rule,)),
        StoredObject(action, b"", owners=(rule,)),
        StoredObject(rule, b"", owners=(policy,), negotiation=action, filters=(filters,)),
        StoredObject(isakmp, b"", owners=(policy,)),
        StoredObject(policy, b"", isakmp=isakmp, nfas=(rule,)),
    )
    giving, taking = plan({}, Changes(put=objects), CONTAINER)
    assert taking == []
    dns = [object_dn(name, CONTAINER) for name in (policy, isakmp, rule, action, filters)]
    assert [str(step) for step in giving[:5]] == [f"add {dn}" for dn in dns]
    modified = [step.dn for step in giving[5:]]
    assert modified == [dns[4], dns[3], dns[2], dns[1], dns[0]]
    _, gone = plan(by_name(objects), Changes(delete=tuple(item.name for item in objects)), CONTAINER)
    assert [step.dn for step in gone[:5]] == [dns[0], dns[1], dns[2], dns[3], dns[4]]
    assert [str(step) for step in gone[5:]] == [f"delete {dn}" for dn in reversed(dns[2:])] + [
        f"delete {dn}" for dn in (dns[1], dns[0])
    ]
