"""The policies of one store as administrators edit them: policies, filter lists and filter actions by name.

Filter lists and filter actions stand beside the policies; a rule that uses one has it by value, with its GUID. A change
of a shared one is a change of all rules that use it. What was edited is in the store after `storage.save`, not before.
"""

from __future__ import annotations

import operator
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TypeVar

from ipsec_core.errors import PolicyError
from ipsec_core.policy.model import FilterAction, KeyExchangeSettings, Policy, Rule
from ipsec_core.policy.objects import ObjectName, StoredObject, guid_text, parse_guid
from ipsec_core.policy.selectors import FilterList

_Named = TypeVar("_Named", Policy, FilterList, FilterAction)
_Shared = TypeVar("_Shared", FilterList, FilterAction)
_NO_GUID = uuid.UUID(int=0)
Model = Policy | KeyExchangeSettings | Rule | FilterAction | FilterList


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a catalogue was read from: all objects of the store, what those say that were understood, the assignment."""

    objects: Mapping[ObjectName, StoredObject] = field(default_factory=dict)
    models: Mapping[ObjectName, Model] = field(default_factory=dict)
    assigned: uuid.UUID | None = None


class Catalogue:
    """Names are found without regard to case, or as a GUID in braces. `new_guid` numbers what is added.

    Every method that cannot be carried out raises PolicyError of one line and changes nothing. `loaded` is for
    `storage`. The filter action of a default response rule is its own, and not offered to others.
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
        self.loaded = Loaded()
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

    @property
    def assigned_guid(self) -> uuid.UUID | None:
        """The assignment, also that of a policy that there is not."""
        return self._assigned

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
        """The policy as it is kept; its name must be new. What has no GUID, or another policy's, gets one."""
        _refuse_known("policy", self._policies, policy.name)
        if policy.guid in self._policies:
            policy = replace(policy, guid=None)
        return self._put(policy)

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

    def replace_filter_list(self, name: str, item: FilterList, *, unique: bool = True) -> FilterList:
        """Another content, or name, for a filter list, in all rules that use it. Not `unique`: a name of others too."""
        old = self.filter_list(name)
        if unique and item.name.casefold() != old.name.casefold():
            _refuse_known("filter list", self._lists, item.name)
        with self._step():
            return self._adopt_list(replace(item, guid=old.guid))

    def delete_filter_list(self, name: str) -> None:
        old = self.filter_list(name)
        self._refuse_used("filter list", old)
        del self._lists[_guid(old)]

    def add_filter_action(self, item: FilterAction) -> FilterAction:
        _refuse_known("filter action", self._actions, item.name)
        return self._adopt_action(item)

    def replace_filter_action(self, name: str, item: FilterAction, *, unique: bool = True) -> FilterAction:
        """Another content, or name, for a filter action, in all rules that use it. `unique` as of a filter list."""
        old = self.filter_action(name)
        if unique and item.name.casefold() != old.name.casefold():
            _refuse_known("filter action", self._actions, item.name)
        with self._step():
            return self._adopt_action(replace(item, guid=old.guid))

    def delete_filter_action(self, name: str) -> None:
        old = self.filter_action(name)
        self._refuse_used("filter action", old)
        del self._actions[_guid(old)]

    @contextmanager
    def all_or_nothing(self) -> Iterator[None]:
        """What is edited inside stays only if no exception leaves it."""
        before = dict(self._policies), dict(self._lists), dict(self._actions), self._assigned
        try:
            yield
        except BaseException:
            self._policies, self._lists, self._actions, self._assigned = before
            raise

    # -- inside --

    @contextmanager
    def _step(self) -> Iterator[None]:
        """All of an editing step or nothing; after it every rule says what its filter list and action now say."""
        before = dict(self._policies), dict(self._lists), dict(self._actions)
        try:
            yield
            self._policies = {guid: self._current(policy) for guid, policy in self._policies.items()}
        except PolicyError:
            self._policies, self._lists, self._actions = before
            raise

    def _current(self, policy: Policy) -> Policy:
        rules = tuple(self._current_rule(rule) for rule in policy.rules)
        return policy if all(map(operator.is_, rules, policy.rules)) else replace(policy, rules=rules)

    def _current_rule(self, rule: Rule) -> Rule:
        action = self._actions.get(rule.filter_action.guid or _NO_GUID, rule.filter_action)
        filter_list = rule.filter_list and self._lists.get(rule.filter_list.guid or _NO_GUID, rule.filter_list)
        if action is rule.filter_action and filter_list is rule.filter_list:
            return rule
        return replace(rule, filter_list=filter_list, filter_action=action)

    def _put(self, policy: Policy) -> Policy:
        """Keeps a policy. What it says of a filter list or action that others share is said of theirs too."""
        guid = policy.guid or self._new_guid()
        with self._step():
            others = [other for other in self._policies.values() if other.guid != guid]
            taken = {guid for other in others for rule in other.rules for guid in (rule.guid, rule.filter_action.guid)}
            rules: list[Rule] = []
            for rule in self._agreed(policy.rules):
                rules.append(self._adopt_rule(rule, taken))
                taken.add(rules[-1].guid)
            settings = policy.key_exchange
            if settings.guid is None or any(other.key_exchange.guid == settings.guid for other in others):
                settings = replace(settings, guid=self._new_guid())
            self._policies[guid] = replace(policy, guid=guid, key_exchange=settings, rules=tuple(rules))
        return self._policies[guid]

    def _agreed(self, rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
        """The rules of a policy; what one of them says anew of a shared filter list or action, all of them say."""
        lists: dict[uuid.UUID, FilterList] = {}
        actions: dict[uuid.UUID, FilterAction] = {}
        for rule in rules:
            if rule.filter_list is not None:
                _settle("filter list", lists, self._lists, rule.filter_list)
            _settle("filter action", actions, self._actions, rule.filter_action)
        return tuple(
            replace(
                rule,
                filter_list=rule.filter_list and lists.get(rule.filter_list.guid or _NO_GUID, rule.filter_list),
                filter_action=actions.get(rule.filter_action.guid or _NO_GUID, rule.filter_action),
            )
            for rule in rules
        )

    def _adopt_rule(self, rule: Rule, taken: set[uuid.UUID | None]) -> Rule:
        """A rule belongs to one policy, as its default response does: the copy of another's becomes a new one."""
        action = rule.filter_action
        if rule.filter_list is not None:
            action = self._adopt_action(_shared("filter action", self._actions, action))
        elif action.guid is None or action.guid in taken or action.guid in self._actions:
            action = replace(action, guid=self._new_guid())
        return replace(
            rule,
            guid=self._new_guid() if rule.guid is None or rule.guid in taken else rule.guid,
            filter_list=rule.filter_list and self._adopt_list(_shared("filter list", self._lists, rule.filter_list)),
            filter_action=action,
        )

    def _numbered(self, item: FilterList) -> FilterList:
        if item.guid is not None and all(one.guid is not None for one in item.filters):
            return item
        filters = tuple(one if one.guid else replace(one, guid=self._new_guid()) for one in item.filters)
        return replace(item, guid=item.guid or self._new_guid(), filters=filters)

    def _adopt_list(self, item: FilterList) -> FilterList:
        kept = self._numbered(item)
        self._lists[_guid(kept)] = kept
        return kept

    def _adopt_action(self, item: FilterAction) -> FilterAction:
        kept = item if item.guid else replace(item, guid=self._new_guid())
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


def _matches(item: Rule, name: str) -> bool:
    wanted = name.casefold()
    return item.name.casefold() == wanted or (item.guid is not None and guid_text(item.guid).casefold() == wanted)


def _guids_in(name: str) -> tuple[uuid.UUID, ...]:
    try:
        return (parse_guid(name),)
    except PolicyError:
        return ()


def _find(what: str, items: dict[uuid.UUID, _Named], name: str) -> _Named:
    wanted = name.casefold()
    guids = {guid for guid, item in items.items() if item.name.casefold() == wanted}
    guids |= {guid for guid in _guids_in(name) if guid in items}
    found = [items[guid] for guid in guids]
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


def _settle(what: str, settled: dict[uuid.UUID, _Shared], known: dict[uuid.UUID, _Shared], item: _Shared) -> None:
    """Notes what a rule says of a shared one; two rules that each say something new must say the same."""
    if item.guid is None:
        return
    now, earlier = known.get(item.guid), settled.get(item.guid)
    if earlier is None or earlier == now:
        settled[item.guid] = item
    elif item not in (now, earlier):
        raise PolicyError(f"two rules of a policy say different things of the {what} {item.name!r}")


def _refuse_known(what: str, items: dict[uuid.UUID, _Named], name: str) -> None:
    if name and any(item.name.casefold() == name.casefold() for item in items.values()):
        raise PolicyError(f"there is a {what} {name!r} already")
