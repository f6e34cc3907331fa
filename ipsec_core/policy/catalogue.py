"""The policies of one store as administrators edit them: policies, filter lists and filter actions by name.

Filter lists and filter actions stand beside the policies; a rule that uses one has it by value, with its GUID. A change
of a shared one is a change of all rules that use it. What was edited is in the store after `storage.save`, not before.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TypeVar

from ipsec_core.errors import PolicyError
from ipsec_core.policy.model import FilterAction, Policy, Rule
from ipsec_core.policy.objects import guid_text
from ipsec_core.policy.selectors import FilterList

_Named = TypeVar("_Named", Policy, FilterList, FilterAction)


class Catalogue:
    """Names are found without regard to case, or as a GUID in braces. `new_guid` numbers what is added.

    Every method that cannot be carried out raises PolicyError of one line and changes nothing.
    """

    def __init__(
        self,
        policies: Iterable[Policy] = (),
        filter_lists: Iterable[FilterList] = (),
        filter_actions: Iterable[FilterAction] = (),
        assigned: uuid.UUID | None = None,
        *,
        new_guid: Callable[[], uuid.UUID] = uuid.uuid4,
    ) -> None:
        self._new_guid = new_guid
        self._policies: dict[uuid.UUID, Policy] = {}
        self._lists: dict[uuid.UUID, FilterList] = {}
        self._actions: dict[uuid.UUID, FilterAction] = {}
        self._assigned = assigned
        for filter_list in filter_lists:
            self._adopt_list(filter_list)
        for action in filter_actions:
            self._adopt_action(action)
        for policy in policies:
            self._put(policy)

    # -- what there is --

    @property
    def policies(self) -> tuple[Policy, ...]:
        return tuple(self._policies.values())

    @property
    def filter_lists(self) -> tuple[FilterList, ...]:
        return tuple(self._lists.values())

    @property
    def filter_actions(self) -> tuple[FilterAction, ...]:
        return tuple(self._actions.values())

    @property
    def assigned(self) -> Policy | None:
        return self._policies.get(self._assigned) if self._assigned else None

    def policy(self, name: str) -> Policy:
        return _find("policy", self._policies, name)

    def filter_list(self, name: str) -> FilterList:
        return _find("filter list", self._lists, name)

    def filter_action(self, name: str) -> FilterAction:
        return _find("filter action", self._actions, name)

    def rule(self, policy: str, name: str) -> Rule:
        """A rule of a policy by name, by GUID, or by number from 1 on."""
        return _rule(self.policy(policy), name)

    def users(self, item: FilterList | FilterAction) -> tuple[tuple[Policy, Rule], ...]:
        """The rules that use a filter list or action."""
        return tuple(
            (policy, rule)
            for policy in self.policies
            for rule in policy.rules
            if item.guid in (rule.filter_action.guid, rule.filter_list.guid if rule.filter_list else None)
        )

    # -- policies --

    def add_policy(self, policy: Policy) -> Policy:
        """The policy as it is kept; its name must be new. Filter lists and actions without a GUID become new ones."""
        _refuse_known("policy", self._policies, policy.name)
        return self._put(replace(policy, guid=policy.guid or self._new_guid()))

    def replace_policy(self, name: str, policy: Policy) -> Policy:
        """Another content, or name, for a policy; rules that keep their GUID remain the same objects."""
        old = self.policy(name)
        if policy.name.casefold() != old.name.casefold():
            _refuse_known("policy", self._policies, policy.name)
        return self._put(replace(policy, guid=old.guid))

    def delete_policy(self, name: str) -> None:
        """Removes a policy with its rules; filter lists and actions remain. An assigned one is unassigned first."""
        policy = self.policy(name)
        if policy.guid == self._assigned:
            raise PolicyError(f"the policy {policy.name!r} is assigned; un-assign it first")
        del self._policies[_guid(policy)]

    def assign(self, name: str | None) -> None:
        """Assigns one policy, which un-assigns another, or with None un-assigns."""
        self._assigned = None if name is None else self.policy(name).guid

    # -- rules --

    def add_rule(self, policy: str, rule: Rule) -> Policy:
        """Adds a rule at the end; its name must be new in the policy."""
        found = self.policy(policy)
        if rule.name and any(one.name.casefold() == rule.name.casefold() for one in found.rules):
            raise PolicyError(f"the policy {found.name!r} has a rule {rule.name!r} already")
        return self._put(replace(found, rules=(*found.rules, rule)))

    def replace_rule(self, policy: str, name: str, rule: Rule) -> Policy:
        found = self.policy(policy)
        old = _rule(found, name)
        kept = replace(rule, guid=old.guid)
        return self._put(replace(found, rules=tuple(kept if one is old else one for one in found.rules)))

    def delete_rule(self, policy: str, name: str) -> Policy:
        found = self.policy(policy)
        old = _rule(found, name)
        if old.filter_list is None:
            raise PolicyError("the default response rule cannot be deleted; switch it off (active = no) instead")
        return self._put(replace(found, rules=tuple(one for one in found.rules if one is not old)))

    # -- filter lists and filter actions --

    def add_filter_list(self, item: FilterList) -> FilterList:
        _refuse_known("filter list", self._lists, item.name)
        return self._adopt_list(item)

    def replace_filter_list(self, name: str, item: FilterList) -> FilterList:
        """Another content, or name, for a filter list, in all rules that use it."""
        old = self.filter_list(name)
        if item.name.casefold() != old.name.casefold():
            _refuse_known("filter list", self._lists, item.name)
        kept = replace(item, guid=old.guid)
        self._change(old, lambda rule: replace(rule, filter_list=kept))
        return self._adopt_list(kept)

    def delete_filter_list(self, name: str) -> None:
        old = self.filter_list(name)
        self._refuse_used("filter list", old)
        del self._lists[_guid(old)]

    def add_filter_action(self, item: FilterAction) -> FilterAction:
        _refuse_known("filter action", self._actions, item.name)
        return self._adopt_action(item)

    def replace_filter_action(self, name: str, item: FilterAction) -> FilterAction:
        """Another content, or name, for a filter action, in all rules that use it."""
        old = self.filter_action(name)
        if item.name.casefold() != old.name.casefold():
            _refuse_known("filter action", self._actions, item.name)
        kept = replace(item, guid=old.guid)
        self._change(old, lambda rule: replace(rule, filter_action=kept))
        return self._adopt_action(kept)

    def delete_filter_action(self, name: str) -> None:
        old = self.filter_action(name)
        self._refuse_used("filter action", old)
        del self._actions[_guid(old)]

    # -- inside --

    def _change(self, item: FilterList | FilterAction, change: Callable[[Rule], Rule]) -> None:
        """All new rules are made before one is kept: one that is refused leaves all as they were."""
        changed: dict[uuid.UUID, Policy] = {}
        for policy, rule in self.users(item):
            now = changed.get(_guid(policy), policy)
            rules = tuple(change(one) if one.guid == rule.guid else one for one in now.rules)
            changed[_guid(policy)] = replace(now, rules=rules)
        self._policies |= changed

    def _put(self, policy: Policy) -> Policy:
        lists, actions = dict(self._lists), dict(self._actions)
        try:
            rules = tuple(self._adopt_rule(rule) for rule in policy.rules)
        except PolicyError:
            self._lists, self._actions = lists, actions
            raise
        kept = replace(
            policy,
            guid=policy.guid or self._new_guid(),
            key_exchange=replace(policy.key_exchange, guid=policy.key_exchange.guid or self._new_guid()),
            rules=rules,
        )
        self._policies[_guid(kept)] = kept
        return kept

    def _adopt_rule(self, rule: Rule) -> Rule:
        return replace(
            rule,
            guid=rule.guid or self._new_guid(),
            filter_list=self._adopt_list(_shared("filter list", self._lists, rule.filter_list))
            if rule.filter_list
            else None,
            filter_action=self._adopt_action(_shared("filter action", self._actions, rule.filter_action)),
        )

    def _adopt_list(self, item: FilterList) -> FilterList:
        filters = tuple(replace(one, guid=one.guid or self._new_guid()) for one in item.filters)
        kept = replace(item, guid=item.guid or self._new_guid(), filters=filters)
        self._lists[_guid(kept)] = kept
        return kept

    def _adopt_action(self, item: FilterAction) -> FilterAction:
        kept = replace(item, guid=item.guid or self._new_guid())
        self._actions[_guid(kept)] = kept
        return kept

    def _refuse_used(self, what: str, item: FilterList | FilterAction) -> None:
        users = self.users(item)
        if users:
            rules = ", ".join(f"{policy.name!r} rule {rule.name!r}" for policy, rule in users)
            raise PolicyError(f"the {what} {item.name!r} is in use: {rules}")


def _guid(item: Policy | FilterList | FilterAction) -> uuid.UUID:
    assert item.guid is not None
    return item.guid


def _matches(item: Policy | FilterList | FilterAction | Rule, name: str) -> bool:
    wanted = name.casefold()
    return item.name.casefold() == wanted or (item.guid is not None and guid_text(item.guid).casefold() == wanted)


def _find(what: str, items: dict[uuid.UUID, _Named], name: str) -> _Named:
    found = [item for item in items.values() if _matches(item, name)]
    if len(found) == 1:
        return found[0]
    if found:
        raise PolicyError(f"{len(found)} have the name {name!r}; accepted: the GUID of a {what} in braces")
    known = ", ".join(repr(item.name) for item in items.values() if item.name) or "there is none"
    raise PolicyError(f"there is no {what} {name!r}; accepted: {known}")


def _rule(policy: Policy, name: str) -> Rule:
    found = [rule for rule in policy.rules if name and _matches(rule, name)]
    if not found and name.isascii() and name.isdigit() and 1 <= int(name) <= len(policy.rules):
        found = [policy.rules[int(name) - 1]]
    if len(found) == 1:
        return found[0]
    if found:
        raise PolicyError(f"{len(found)} rules of {policy.name!r} have the name {name!r}; accepted: a GUID in braces")
    known = ", ".join(repr(rule.name) for rule in policy.rules if rule.name)
    raise PolicyError(
        f"the policy {policy.name!r} has no rule {name!r}; accepted: "
        + (f"{known}, " if known else "")
        + f"1 to {len(policy.rules)}, a GUID in braces"
    )


def _shared(what: str, items: dict[uuid.UUID, _Named], item: _Named) -> _Named:
    """The one of that name, where a rule brings one without a GUID: it must say the same."""
    if item.guid is not None or not item.name:
        return item
    known = next((one for one in items.values() if one.name.casefold() == item.name.casefold()), None)
    if known is not None and known != item:
        raise PolicyError(f"there is a {what} {item.name!r} already that says something else; accepted: another name")
    return known or item


def _refuse_known(what: str, items: dict[uuid.UUID, _Named], name: str) -> None:
    if name and any(item.name.casefold() == name.casefold() for item in items.values()):
        raise PolicyError(f"there is a {what} {name!r} already")
