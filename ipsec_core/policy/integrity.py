"""The policy integrity check: every link between the objects of a store, both ways, and what their blobs say.

Two administrators who edit at the same time break links, because whoever writes an object last wins (KB 257225). What
`repair` mends has one right answer:

    an object does not name an owner that refers to it                  the owner is added
    an object names an owner that is gone or does not refer to it       the owner is dropped, if none of these is true:
    - a rule that is whole and in no policy names one policy            the policy gets it as its last rule (a default
                                                                        response only where the policy has none)
    - Main Mode settings, a filter action, a filter list whose owner    the owner's reference is set
      has none that exists, and no second one claims it
    - a rule in no policy that is broken itself                         left alone: its owner is the last trace of it
    a policy names a rule that is gone, a rule a filter list, and       the reference is dropped
      others remain
    a reference stands twice; the data type is none                     once; that of registries

All else takes a decision and is only reported: a rule without its filter list would secure anything, a policy without
rules nothing. Filter lists and filter actions that no rule uses are no problem.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial

from ipsec_core.errors import PolicyError
from ipsec_core.policy import records
from ipsec_core.policy.blobs import (
    BlobData,
    FilterData,
    IsakmpData,
    NegotiationData,
    NfaData,
    PolicyData,
    VersionData,
    decode,
)
from ipsec_core.policy.objects import (
    DATA_TYPES,
    DEFAULT_RESPONSE_TYPE,
    REGISTRY_DATA_TYPE,
    Changes,
    ObjectClass,
    ObjectName,
    StoredObject,
    by_name,
)
from ipsec_core.policy.storage import read_policy

ISAKMP, NFA = "ipsecISAKMPReference", "ipsecNFAReference"
NEGOTIATION, FILTER = "ipsecNegotiationPolicyReference", "ipsecFilterReference"
OWNERS = "ipsecOwnersReference"

_Fix = Callable[[StoredObject], StoredObject]
_DATA: dict[ObjectClass, tuple[type[BlobData], ...]] = {
    ObjectClass.POLICY: (PolicyData,),
    ObjectClass.ISAKMP: (IsakmpData,),
    ObjectClass.NFA: (NfaData, VersionData),
    ObjectClass.NEGOTIATION: (NegotiationData,),
    ObjectClass.FILTER: (FilterData,),
}


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with an object; as text one line. `repairable`: `repair` mends it."""

    name: ObjectName
    text: str
    repairable: bool

    def __str__(self) -> str:
        return f"{self.name}: {self.text}"


@dataclass(frozen=True, slots=True)
class _Finding:
    """`name` and `text` as in `Problem`; `fix` makes the object `fixed` right, None where there is no one answer."""

    name: ObjectName
    text: str
    fix: _Fix | None = None


def check(objects: Iterable[StoredObject], assigned: uuid.UUID | None = None) -> tuple[Problem, ...]:
    """All that is wrong, object by object."""
    known = by_name(objects)
    problems = [Problem(one.name, one.text, one.fix is not None) for one in _Links(known).findings()]
    if assigned is not None and ObjectName.of(ObjectClass.POLICY, assigned) not in known:
        problems.append(Problem(ObjectName.of(ObjectClass.POLICY, assigned), "is assigned, and does not exist", False))
    return tuple(problems)


def repair(objects: Iterable[StoredObject]) -> Changes:
    """What mends all problems that are `repairable`, those that show after others are mended too."""
    before = by_name(objects)
    now = dict(before)
    while fixes := [one for one in _Links(now).findings() if one.fix is not None]:
        for one in fixes:
            assert one.fix is not None
            now[one.name] = one.fix(now[one.name])
    return Changes(tuple(item for name, item in now.items() if item != before[name]))


class _Links:
    """One look at all objects of a store."""

    def __init__(self, objects: dict[ObjectName, StoredObject]) -> None:
        self._objects = objects
        self._data: dict[ObjectName, BlobData] = {}
        self._wrong: dict[ObjectName, str] = {}  # blobs that cannot be read
        self._users: dict[ObjectName, list[ObjectName]] = {name: [] for name in objects}
        self._claims: dict[ObjectName, list[ObjectName]] = {name: [] for name in objects}
        for name, item in objects.items():
            try:
                self._data[name] = _decoded(item)
            except PolicyError as error:
                self._wrong[name] = str(error)
            for target in dict.fromkeys(item.references):
                if target in self._users:
                    self._users[target].append(name)
        for name, item in objects.items():
            for owner in dict.fromkeys(item.owners):
                if owner in objects and owner not in self._users[name]:
                    self._claims[owner].append(name)

    def findings(self) -> Iterator[_Finding]:
        broken: set[ObjectName] = set()
        for item in self._objects.values():
            for one in (*self._blob(item), *self._forward(item)):
                broken.add(item.name)
                yield one
            yield from self._backward(item)
            yield from self._place(item)
        for item in self._objects.values():
            if item.object_class is ObjectClass.POLICY:
                parts = self._closure(item)
                if broken.isdisjoint(parts):
                    yield from self._whole(item, parts)

    # -- the object itself --

    def _blob(self, item: StoredObject) -> Iterator[_Finding]:
        if item.name in self._wrong:
            yield _Finding(item.name, f"ipsecData: {self._wrong[item.name]}")
        if item.data_type not in DATA_TYPES:
            accepted = ", ".join(map(str, DATA_TYPES))
            yield _Finding(
                item.name,
                f"ipsecDataType {item.data_type}; accepted: {accepted}",
                lambda one: replace(one, data_type=REGISTRY_DATA_TYPE),
            )

    def _place(self, item: StoredObject) -> Iterator[_Finding]:
        """Orphans, and what belongs to two."""
        policies = [name for name in self._users[item.name] if name.object_class is ObjectClass.POLICY]
        kind = item.object_class
        single = kind is ObjectClass.ISAKMP or (kind is ObjectClass.NFA and not self._is_version(item))
        if single and len(policies) > 1:
            yield _Finding(item.name, f"is part of {len(policies)} policies: {', '.join(map(str, policies))}")
        response = kind is ObjectClass.NEGOTIATION and item.kind == DEFAULT_RESPONSE_TYPE
        if (single and not policies) or (response and not self._users[item.name]):
            relinked = any(item.name in self._claimants(owner) for owner in item.owners if owner in self._objects)
            if not relinked:
                yield _Finding(item.name, f"orphan: no {'rule' if response else 'policy'} refers to it")

    # -- forward --

    def _forward(self, item: StoredObject) -> Iterator[_Finding]:
        if item.object_class is ObjectClass.POLICY:
            yield from self._single(item, ISAKMP, item.isakmp, ObjectClass.ISAKMP)
            yield from self._several(item, NFA, item.nfas, ObjectClass.NFA)
        elif item.object_class is ObjectClass.NFA and not self._is_version(item):
            yield from self._single(item, NEGOTIATION, item.negotiation, ObjectClass.NEGOTIATION)
            yield from self._several(item, FILTER, item.filters, ObjectClass.FILTER)
            if not item.filters and not self._responds(item) and not self._claimants(item.name, ObjectClass.FILTER):
                yield _Finding(item.name, f"{FILTER} is missing, and its filter action is no default response")

    def _single(
        self, item: StoredObject, attribute: str, target: ObjectName | None, kind: ObjectClass
    ) -> Iterator[_Finding]:
        if target is not None and self._is(target, kind):
            return
        claims = self._claimants(item.name, kind)
        text = f"{attribute} is missing" if target is None else f"{attribute} {target} {self._lack(target, kind)}"
        if not claims:
            yield _Finding(item.name, text)
        elif attribute == ISAKMP:
            yield _Finding(item.name, text, lambda one: replace(one, isakmp=claims[0]))
        else:
            yield _Finding(item.name, text, lambda one: replace(one, negotiation=claims[0]))

    def _several(
        self, item: StoredObject, attribute: str, targets: tuple[ObjectName, ...], kind: ObjectClass
    ) -> Iterator[_Finding]:
        claims = self._claimants(item.name, kind)
        others = bool(claims) or any(self._is(one, kind) for one in targets)
        for target in dict.fromkeys(targets):
            if not self._is(target, kind):
                text = f"{attribute} {target} {self._lack(target, kind)}"
                yield _Finding(item.name, text, partial(_drop, attribute, target) if others else None)
            elif targets.count(target) > 1:
                yield _Finding(item.name, f"{attribute} {target} stands twice", partial(_once, attribute))
        for claim in claims:
            yield _Finding(item.name, f"{attribute} lacks {claim}, which it owns", partial(_add, attribute, claim))

    def _claimants(self, owner: ObjectName, kind: ObjectClass | None = None) -> list[ObjectName]:
        """What names `owner`, is not referred to by it, and is to be."""
        item = self._objects[owner]
        found: list[ObjectName] = []
        if item.object_class is ObjectClass.POLICY:
            if kind in (None, ObjectClass.ISAKMP) and not self._is(item.isakmp, ObjectClass.ISAKMP):
                found += self._only(owner, ObjectClass.ISAKMP, lambda name: not self._users[name])
            if kind in (None, ObjectClass.NFA):
                found += self._lost_rules(owner)
        elif item.object_class is ObjectClass.NFA and not self._is_version(item):
            if kind in (None, ObjectClass.NEGOTIATION) and not self._is(item.negotiation, ObjectClass.NEGOTIATION):
                found += self._only(owner, ObjectClass.NEGOTIATION, lambda name: True)
            lacks = not any(self._is(one, ObjectClass.FILTER) for one in item.filters)
            if kind in (None, ObjectClass.FILTER) and lacks and (item.filters or not self._responds(item)):
                found += self._only(owner, ObjectClass.FILTER, lambda name: True)
        return found

    def _only(self, owner: ObjectName, kind: ObjectClass, wanted: Callable[[ObjectName], bool]) -> list[ObjectName]:
        found = [name for name in self._claims[owner] if name.object_class is kind and wanted(name)]
        return found if len(found) == 1 else []

    def _lost_rules(self, policy: ObjectName) -> list[ObjectName]:
        lost = [name for name in self._claims[policy] if self._is_lost_rule(name) and self._has_parts(name)]
        kept = [name for name in self._objects[policy].nfas if self._is(name, ObjectClass.NFA)]
        responses = [name for name in (*kept, *lost) if not self._objects[name].filters]
        return lost if len(responses) <= 1 else [name for name in lost if self._objects[name].filters]

    def _is_lost_rule(self, name: ObjectName) -> bool:
        """A rule in no policy that names one policy."""
        item = self._objects[name]
        owners = [one for one in item.owners if self._is(one, ObjectClass.POLICY)]
        return isinstance(self._data.get(name), NfaData) and not self._users[name] and len(set(owners)) == 1

    def _has_parts(self, name: ObjectName) -> bool:
        item = self._objects[name]
        filters = all(self._is(one, ObjectClass.FILTER) for one in item.filters)
        return (
            self._is(item.negotiation, ObjectClass.NEGOTIATION)
            and filters
            and bool(item.filters or self._responds(item))
        )

    # -- backward --

    def _backward(self, item: StoredObject) -> Iterator[_Finding]:
        users = self._users[item.name]
        for user in users:
            if user not in item.owners:
                yield _Finding(item.name, f"{OWNERS} lacks {user}, which refers to it", partial(_add, OWNERS, user))
        for owner in dict.fromkeys(item.owners):
            if item.owners.count(owner) > 1:
                yield _Finding(item.name, f"{OWNERS} {owner} stands twice", partial(_once, OWNERS))
            if owner in users:
                continue
            if owner not in self._objects:
                yield _Finding(item.name, f"{OWNERS} {owner} does not exist", partial(_drop, OWNERS, owner))
            elif item.name not in self._claimants(owner):
                trace = self._is_lost_rule(item.name) and not self._has_parts(item.name)
                fix = None if trace and self._is(owner, ObjectClass.POLICY) else partial(_drop, OWNERS, owner)
                yield _Finding(item.name, f"{OWNERS} {owner} does not refer to it", fix)

    # -- a policy as a whole --

    def _closure(self, item: StoredObject) -> list[ObjectName]:
        found = [item.name, *item.references]
        for name in item.nfas:
            found += self._objects[name].references if name in self._objects else ()
        return found

    def _whole(self, item: StoredObject, parts: list[ObjectName]) -> Iterator[_Finding]:
        try:
            read_policy([self._objects[name] for name in parts], item.guid)
        except PolicyError as error:
            name, _, text = str(error).partition(": ")
            yield _Finding(ObjectName.parse(name), text)

    # -- questions --

    def _is(self, name: ObjectName | None, kind: ObjectClass) -> bool:
        return name is not None and name.object_class is kind and name in self._objects

    def _lack(self, name: ObjectName, kind: ObjectClass) -> str:
        return "does not exist" if name.object_class is kind else f"is not of class {kind.value}"

    def _is_version(self, item: StoredObject) -> bool:
        return isinstance(self._data.get(item.name), VersionData)

    def _responds(self, item: StoredObject) -> bool:
        """Whether the filter action of a rule is a default response, or there is no telling."""
        action = self._objects.get(item.negotiation) if item.negotiation else None
        return action is None or action.kind in (DEFAULT_RESPONSE_TYPE, None)


def _decoded(item: StoredObject) -> BlobData:
    """The record of an object, of its class and with a meaning; PolicyError otherwise."""
    data = decode(item.data)
    if not isinstance(data, _DATA[item.object_class]):
        raise PolicyError(f"is not that of an {item.name.class_name}")
    if not isinstance(data, FilterData) and data.rest:
        # Read is by the numbers of records; where the length says more, one of the two is wrong.
        raise PolicyError(f"the length counts {len(data.rest)} bytes more than what is in it takes")
    if isinstance(data, IsakmpData):
        records.key_exchange_of(data, item.guid)
    elif isinstance(data, NegotiationData):
        records.action_of(data, item.guid, item.action)
    elif isinstance(data, FilterData):
        records.filters_of(data)
    elif isinstance(data, NfaData):
        records.authentication_of(data)
        records.connection_of(data)
        if data.is_tunnel and not int(data.tunnel_endpoint):
            raise PolicyError("a tunnel without an endpoint")
    return data


def _links(item: StoredObject, attribute: str) -> tuple[ObjectName, ...]:
    return {NFA: item.nfas, FILTER: item.filters, OWNERS: item.owners}[attribute]


def _with(item: StoredObject, attribute: str, links: Iterable[ObjectName]) -> StoredObject:
    names = tuple(links)
    if attribute == NFA:
        return replace(item, nfas=names)
    return replace(item, filters=names) if attribute == FILTER else replace(item, owners=names)


def _drop(attribute: str, name: ObjectName, item: StoredObject) -> StoredObject:
    return _with(item, attribute, (one for one in _links(item, attribute) if one != name))


def _once(attribute: str, item: StoredObject) -> StoredObject:
    return _with(item, attribute, dict.fromkeys(_links(item, attribute)))


def _add(attribute: str, name: ObjectName, item: StoredObject) -> StoredObject:
    return _with(item, attribute, (*_links(item, attribute), name))
