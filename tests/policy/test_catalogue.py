"""Editing the policies of a store: names and GUIDs, what is shared, steps that are whole or nothing."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address

import pytest
from policy_kit import guids

from ipsec_core.errors import PolicyError
from ipsec_core.policy.builtin import BUILTIN_NAMES, builtin_policy
from ipsec_core.policy.catalogue import Catalogue
from ipsec_core.policy.methods import DEFAULT_RESPONSE_METHODS, SecurityMethod
from ipsec_core.policy.model import FilterAction, FilterActionKind, Policy, Rule
from ipsec_core.policy.selectors import ANY, MY, Address, Filter, FilterList

SECURE = FilterAction("Secure", FilterActionKind.NEGOTIATE, (SecurityMethod.parse("ESP[3DES,SHA1]"),))
PERMIT = FilterAction("Permit", FilterActionKind.PERMIT)
LAN = FilterList("LAN", "", (Filter("", MY, Address.parse("10.0.0.0/8")),))
WEB = (Filter("web", MY, ANY, 6, 0, 80),)
RESPONSE = FilterAction("", FilterActionKind.NEGOTIATE, DEFAULT_RESPONSE_METHODS)
HOME = Policy("Home", rules=(Rule("lan", LAN, SECURE), Rule("", None, RESPONSE)))


@pytest.fixture
def catalogue() -> Catalogue:
    catalogue = Catalogue(new_guid=guids())
    catalogue.add_policy(HOME)
    catalogue.add_policy(replace(HOME, name="Office"))
    return catalogue


def snapshot(catalogue: Catalogue) -> tuple[object, ...]:
    """All of it, with the GUIDs, which do not count in comparisons."""
    return repr(catalogue.policies), repr(catalogue.filter_lists), repr(catalogue.filter_actions), catalogue.assigned


def test_everything_gets_a_guid_and_what_has_a_name_is_shared(catalogue: Catalogue) -> None:
    home, office = catalogue.policies
    assert home.rules[0].filter_list is office.rules[0].filter_list is catalogue.filter_list("lan")
    assert home.rules[0].filter_action is office.rules[0].filter_action is catalogue.filter_action("SECURE")
    parts = [home, office, home.key_exchange, office.key_exchange, *home.rules, *office.rules]
    parts += [home.rules[1].filter_action, office.rules[1].filter_action, *catalogue.filter_lists]
    numbers = [part.guid for part in parts]
    assert None not in numbers
    assert len(set(numbers)) == len(numbers)
    assert all(one.guid for one in catalogue.filter_list("LAN").filters)


def test_a_default_response_is_not_offered(catalogue: Catalogue) -> None:
    assert [item.name for item in catalogue.filter_actions] == ["Secure"]
    catalogue.add_policy(Policy("P", rules=(Rule("", None, catalogue.filter_action("Secure")),)))
    own = catalogue.policy("P").rules[0].filter_action
    assert own == SECURE
    assert own.guid != catalogue.filter_action("Secure").guid


def test_a_copy_has_parts_of_its_own(catalogue: Catalogue) -> None:
    copy = catalogue.add_policy(replace(catalogue.policy("Home"), name="Copy"))
    home = catalogue.policy("Home")
    assert copy == replace(home, name="Copy")
    assert copy.guid != home.guid
    assert copy.key_exchange.guid != home.key_exchange.guid
    assert {rule.guid for rule in copy.rules}.isdisjoint(rule.guid for rule in home.rules)
    assert copy.rules[1].filter_action.guid != home.rules[1].filter_action.guid
    assert copy.rules[0].filter_list is home.rules[0].filter_list


def test_guids_of_rules_remain_when_a_policy_is_replaced(catalogue: Catalogue) -> None:
    before = catalogue.policy("Home")
    more = replace(before, rules=(Rule("new", LAN, PERMIT), *before.rules))
    after = catalogue.replace_policy("Home", more)
    assert after.guid == before.guid
    assert [rule.guid for rule in after.rules[1:]] == [rule.guid for rule in before.rules]


def test_the_built_in_ones_keep_their_guids() -> None:
    catalogue = Catalogue(new_guid=guids())
    for name in BUILTIN_NAMES:
        policy = builtin_policy(name)
        assert repr(catalogue.add_policy(policy)) == repr(policy)
    assert {item.name for item in catalogue.filter_actions} == {
        "Permit",
        "Request Security (Optional)",
        "Require Security",
    }


def test_a_changed_filter_list_is_changed_in_all_rules(catalogue: Catalogue) -> None:
    catalogue.replace_filter_list("LAN", FilterList("Web", "", WEB))
    now = catalogue.filter_list("Web")
    assert now.filters[0].guid is not None
    for policy in catalogue.policies:
        assert policy.rules[0].filter_list is now


def test_a_changed_filter_action_is_changed_in_all_rules(catalogue: Catalogue) -> None:
    catalogue.replace_filter_action("Secure", replace(SECURE, pfs=True))
    for policy in catalogue.policies:
        assert policy.rules[0].filter_action is catalogue.filter_action("Secure")
        assert policy.rules[0].filter_action.pfs


def test_a_rule_that_says_it_anew_says_it_for_all(catalogue: Catalogue) -> None:
    """In other policies, and in other rules of its own."""
    catalogue.add_rule("Home", Rule("second", LAN, SECURE))
    rule = catalogue.rule("Home", "lan")
    assert rule.filter_list is not None
    catalogue.replace_rule("Home", "lan", replace(rule, filter_list=replace(rule.filter_list, filters=WEB)))
    lists = [rule.filter_list for policy in catalogue.policies for rule in policy.rules if rule.filter_list]
    assert len(lists) == 3
    assert all(one is catalogue.filter_list("LAN") for one in lists)
    assert lists[0].filters == WEB


def test_two_rules_must_not_say_different_things(catalogue: Catalogue) -> None:
    known = catalogue.filter_list("LAN")
    rules = tuple(Rule(name, replace(known, filters=filters), SECURE) for name, filters in (("a", WEB), ("b", ())))
    with pytest.raises(PolicyError, match="two rules of a policy say different things of the filter list 'LAN'"):
        catalogue.replace_policy("Home", replace(HOME, rules=rules))


def _tunnel(catalogue: Catalogue) -> None:
    """A tunnel in one policy, and the action that it shares turned to one without negotiation."""
    tunnel = Rule("tunnel", LAN, SECURE, tunnel_endpoint=IPv4Address("192.0.2.1"))
    catalogue.add_rule("Office", tunnel)


@pytest.mark.parametrize(
    ("prepare", "step", "line"),
    [
        (None, lambda one: one.add_policy(HOME), "there is a policy 'Home' already"),
        (None, lambda one: one.replace_policy("Home", replace(HOME, name="OFFICE")), "a policy 'OFFICE' already"),
        (None, lambda one: one.policy("Nobody"), "there is no policy 'Nobody'; accepted: 'Home', 'Office'"),
        (None, lambda one: one.add_rule("Home", Rule("LAN", LAN, SECURE)), "'Home' has a rule 'LAN' already"),
        (None, lambda one: one.delete_rule("Home", "2"), "the default response rule cannot be deleted; switch it off"),
        (None, lambda one: one.rule("Home", "3"), "has no rule '3'; accepted: 'lan', 1 to 2, a GUID in braces"),
        (None, lambda one: one.delete_filter_list("LAN"), "'LAN' is in use: 'Home' rule 'lan', 'Office' rule 'lan'"),
        (None, lambda one: one.delete_filter_action("Secure"), "the filter action 'Secure' is in use: "),
        (None, lambda one: one.add_filter_list(LAN), "there is a filter list 'LAN' already"),
        (None, lambda one: one.add_filter_action(SECURE), "there is a filter action 'Secure' already"),
        (
            None,
            lambda one: one.add_rule("Home", Rule("r", replace(LAN, filters=()), SECURE)),
            "there is a filter list 'LAN' already that says something else; accepted: another name",
        ),
        (
            _tunnel,
            lambda one: one.replace_filter_action("Secure", replace(PERMIT, name="Secure")),
            "a tunnel needs the action negotiate, not permit",
        ),
        (
            _tunnel,
            lambda one: one.replace_rule(
                "Home", "lan", Rule("lan", LAN, replace(PERMIT, guid=one.filter_action("Secure").guid))
            ),
            "a tunnel needs the action negotiate, not permit",
        ),
        (lambda one: one.assign("Home"), lambda one: one.delete_policy("Home"), "'Home' is assigned; un-assign it"),
    ],
)
def test_what_cannot_be_done_changes_nothing(
    catalogue: Catalogue,
    prepare: Callable[[Catalogue], object] | None,
    step: Callable[[Catalogue], object],
    line: str,
) -> None:
    if prepare is not None:
        prepare(catalogue)
    before = snapshot(catalogue)
    with pytest.raises(PolicyError) as raised:
        step(catalogue)
    assert line in str(raised.value)
    assert "\n" not in str(raised.value)
    assert snapshot(catalogue) == before


def test_names_and_guids(catalogue: Catalogue) -> None:
    office = catalogue.policy("office")
    assert catalogue.policy(f"{{{office.guid}}}") is office
    assert catalogue.rule("Office", "1") is office.rules[0]
    assert catalogue.rule("Office", f"{{{office.rules[1].guid}}}".upper()) is office.rules[1]
    twins = Catalogue((replace(HOME, guid=uuid.UUID(int=n)) for n in (1, 2)), new_guid=uuid.uuid4)
    with pytest.raises(PolicyError, match="2 have the name 'home'; accepted: the GUID of a policy in braces"):
        twins.policy("home")
    assert twins.policy("{00000000-0000-0000-0000-000000000002}").guid == uuid.UUID(int=2)


def test_assigning(catalogue: Catalogue) -> None:
    catalogue.assign("home")
    assert catalogue.assigned is catalogue.policy("Home")
    catalogue.assign("Office")
    assert catalogue.assigned is catalogue.policy("Office")
    catalogue.assign(None)
    assert catalogue.assigned is None
    lost = Catalogue(assigned=uuid.UUID(int=5))
    assert (lost.assigned, lost.assigned_guid) == (None, uuid.UUID(int=5))


def test_deleting(catalogue: Catalogue) -> None:
    catalogue.delete_rule("Home", "lan")
    catalogue.delete_policy("Office")
    catalogue.delete_filter_list("LAN")
    catalogue.delete_filter_action("Secure")
    assert [rule.filter_list for rule in catalogue.policy("Home").rules] == [None]
    assert (catalogue.filter_lists, catalogue.filter_actions) == ((), ())


def test_who_uses_what(catalogue: Catalogue) -> None:
    users = catalogue.users(catalogue.filter_list("LAN"))
    assert [(policy.name, rule.name) for policy, rule in users] == [("Home", "lan"), ("Office", "lan")]
    spare = catalogue.add_filter_action(PERMIT)
    assert catalogue.users(spare) == ()
