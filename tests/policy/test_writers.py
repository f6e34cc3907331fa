"""Policies as TOML, as one document, as LDIF, and back."""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from policy_kit import MemoryStore, filter_lists, negotiating, policies

from ipsec_core.errors import PolicyError
from ipsec_core.policy.builtin import builtin_objects, builtin_policy
from ipsec_core.policy.catalogue import Catalogue
from ipsec_core.policy.directory import LdifStore
from ipsec_core.policy.ldif_writer import write_ldif
from ipsec_core.policy.model import FilterAction, Policy
from ipsec_core.policy.objects import DIRECTORY_DATA_TYPE, StoredObject
from ipsec_core.policy.selectors import FilterList
from ipsec_core.policy.storage import save
from ipsec_core.policy.toml import StoreTable, policy_from_table, store_from_table, store_to_table
from ipsec_core.policy.toml_writer import policy_to_toml

DOMAIN = "DC=example,DC=com"
# All that TOML and LDIF write in a way of their own, and much that is nothing special.
texts = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=90)


@settings(deadline=None, max_examples=60)
@given(policies, texts)
def test_a_policy_as_toml(policy: Policy, description: str) -> None:
    policy = replace(policy, description=description)
    text = policy_to_toml(policy)
    assert policy_from_table(tomllib.loads(text), "x") == policy
    assert policy_to_toml(policy_from_table(tomllib.loads(text), "x")) == text


def test_the_layout_of_toml() -> None:
    lines = policy_to_toml(builtin_policy("Secure Server (Require Security)")).splitlines()
    assert lines[0] == 'name = "Secure Server (Require Security)"'
    assert lines.count("[[rules]]") == 3
    assert lines.count("[rules.filters]") == 2
    assert '    { name = "ICMP", source = "me", destination = "any", protocol = "icmp" },' in lines
    assert 'authentication = ["kerberos"]' in lines
    assert all(len(line) <= 120 or line.startswith("description") for line in lines)


def test_a_key_is_hidden_on_demand() -> None:
    table = {
        "name": "x",
        "rules": [{"default_response": True, "authentication": [{"preshared_key": "the secret of a test"}]}],
    }
    policy = policy_from_table(table, "x")
    assert "the secret of a test" in policy_to_toml(policy)
    assert "the secret of a test" not in policy_to_toml(policy, hide_keys=True)


@settings(deadline=None, max_examples=30)
@given(st.lists(policies, max_size=2), filter_lists, negotiating)
def test_a_store_as_one_document(some: list[Policy], filters: FilterList, action: FilterAction) -> None:
    numbered = tuple(replace(policy, name=f"{policy.name} {number}") for number, policy in enumerate(some))
    store = StoreTable(numbered, (filters,), (action,), numbered[0].name if numbered else None)
    assert store_from_table(json.loads(json.dumps(store_to_table(store))), "x") == store


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({}, "x: 'policies' is missing"),
        ({"policies": {}}, "x: policies: expected a list, got a table"),
        ({"policies": [], "rules": []}, "x: unknown key 'rules'; accepted: assigned, policies, "),
        ({"policies": [{"name": "A"}], "assigned": "B"}, "x: assigned: 'B' is not known; accepted: A"),
        ({"policies": [{"rules": []}]}, "x: policies[0]: 'name' is missing"),
        ({"policies": [], "filter_lists": [{"name": "L"}]}, "x: filter_lists[0]: 'filters' is missing"),
        ({"policies": [], "filter_actions": ["permits"]}, "x: filter_actions[0]: 'permits' is not known; accepted: "),
    ],
)
def test_wrong_documents(document: dict[str, object], expected: str) -> None:
    with pytest.raises(PolicyError) as caught:
        store_from_table(document, "x")
    assert str(caught.value).startswith(expected)
    assert "\n" not in str(caught.value)


def read_back(text: str) -> LdifStore:
    with TemporaryDirectory() as folder:
        file = Path(folder) / "x.ldif"
        file.write_bytes(text.encode())
        return LdifStore(file)


def as_directory(objects: tuple[StoredObject, ...]) -> set[StoredObject]:
    """What a directory does not keep, or keeps in a way of its own, is left out."""
    return {
        replace(item, when_changed=0, data_type=DIRECTORY_DATA_TYPE, owners=(), nfas=(), filters=()) for item in objects
    }


@settings(deadline=None, max_examples=40)
@given(policies, texts)
def test_objects_as_ldif(policy: Policy, description: str) -> None:
    store, catalogue = MemoryStore(), Catalogue()
    added = catalogue.add_policy(replace(policy, description=description))
    catalogue.assign(added.name)
    save(catalogue, store, 1)
    text = write_ldif(store.objects(), store.assigned(), DOMAIN)
    found = read_back(text)
    assert as_directory(found.objects()) == as_directory(store.objects())
    assert {item.name: set(item.references) | set(item.owners) for item in found.objects()} == {
        item.name: set(item.references) | set(item.owners) for item in store.objects()
    }
    assert found.assigned() == store.assigned()
    assert all(len(line) <= 76 and line.isascii() and "\x00" not in line for line in text.split("\n"))
    assert not text.startswith("version")  # which slapadd takes for an attribute


def test_the_built_in_policies_as_ldif() -> None:
    text = write_ldif(builtin_objects(), None, DOMAIN)
    assert as_directory(read_back(text).objects()) == as_directory(builtin_objects())
    assert read_back(text).assigned() is None
    assert text.count("dn: CN=ipsecPolicy{") == 3
