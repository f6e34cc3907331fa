"""Stored policy objects <-> the model: policies as a store keeps them, read, edited in a `Catalogue`, and saved.

Reading refuses what is broken with a PolicyError of one line that names the object and the reference. Saving writes the
objects that an editing step changed, from what was read then: like the tools of Windows 2000, whoever saves last wins
object by object, and two that edit at the same time can break links between objects (KB 257225), which `integrity`
finds.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TypeVar

from ipsec_core.errors import PolicyError
from ipsec_core.policy import records
from ipsec_core.policy.blobs import (
    BlobData,
    FilterData,
    IsakmpData,
    NegotiationData,
    NfaData,
    PolicyData,
    decode,
    encode,
)
from ipsec_core.policy.catalogue import Catalogue, Loaded, Model
from ipsec_core.policy.model import FilterAction, KeyExchangeSettings, Policy, Rule
from ipsec_core.policy.objects import (
    DEFAULT_RESPONSE_TYPE,
    REGISTRY_DATA_TYPE,
    STANDARD_TYPE,
    Changes,
    ObjectClass,
    ObjectName,
    PolicyStore,
    StoredObject,
    by_name,
)
from ipsec_core.policy.selectors import FilterList

_Data = TypeVar("_Data", PolicyData, IsakmpData, NfaData, NegotiationData, FilterData)
_Read = TypeVar("_Read")

# Who refers to another comes after it when objects are written, and before it when they are deleted; a rule goes before
# its policy ([MS-GPIPSEC] 3.1.5.7).
_WRITTEN = (
    ObjectClass.FILTER,
    ObjectClass.NEGOTIATION,
    ObjectClass.ISAKMP,
    ObjectClass.NFA,
    ObjectClass.POLICY,
)
_DELETED = (ObjectClass.NFA, ObjectClass.POLICY, ObjectClass.ISAKMP, ObjectClass.NEGOTIATION, ObjectClass.FILTER)


def read_policy(objects: Iterable[StoredObject], guid: uuid.UUID) -> Policy:
    """The policy of that GUID; PolicyError where a link is broken or a blob wrong."""
    return _Reader(by_name(objects)).policy(ObjectName.of(ObjectClass.POLICY, guid))


def find_policy(objects: Iterable[StoredObject], name: str) -> Policy:
    """The policy of that name, in any case, or GUID in braces, whatever is broken in others; PolicyError otherwise."""
    known = tuple(objects)
    policies = (item for item in known if item.object_class is ObjectClass.POLICY)
    named = Catalogue(Policy(item.display_name or str(item.name), guid=item.guid) for item in policies).policy(name)
    assert named.guid is not None
    try:
        return read_policy(known, named.guid)
    except PolicyError as error:
        raise _with_advice(error) from None


def read_catalogue(store: PolicyStore, *, new_guid: Callable[[], uuid.UUID] = uuid.uuid4) -> Catalogue:
    """All that a store has, for editing. Objects that no policy refers to and nobody understands remain as they are."""
    objects, assigned = by_name(store.objects()), store.assigned()
    reader = _Reader(objects)
    try:
        policies = [reader.policy(name) for name in objects if name.object_class is ObjectClass.POLICY]
    except PolicyError as error:
        raise _with_advice(error) from None
    lists: list[FilterList] = []
    actions: list[FilterAction] = []
    for name, item in objects.items():
        try:
            if name.object_class is ObjectClass.FILTER:
                lists.append(reader.filter_list(name))
            elif name.object_class is ObjectClass.NEGOTIATION and item.kind != DEFAULT_RESPONSE_TYPE:
                actions.append(reader.filter_action(name))
        except PolicyError:
            continue  # used by no policy, or it had been refused above
    catalogue = Catalogue(policies, lists, actions, assigned, new_guid=new_guid)
    catalogue.loaded = Loaded(objects, reader.models, assigned)
    return catalogue


def save(catalogue: Catalogue, store: PolicyStore, now: int) -> Changes:
    """Writes to the store what was edited since the catalogue was read or saved; `now` in seconds since 1970.

    An object that means what it meant is written only where its links changed, and keeps its blob. What the catalogue
    had and has no longer is deleted, what it never understood is left alone. All of it is one `apply`.
    """
    writer = _Writer(catalogue.loaded, now)
    for item in catalogue.filter_lists:
        writer.filter_list(item)
    offered = {item.guid for item in catalogue.filter_actions}
    for action in catalogue.filter_actions:
        writer.filter_action(action, STANDARD_TYPE)
    for policy in catalogue.policies:
        for rule in policy.rules:
            if rule.filter_action.guid not in offered:
                writer.filter_action(rule.filter_action, DEFAULT_RESPONSE_TYPE)
        writer.policy(policy)
    objects = writer.linked()
    old = catalogue.loaded.objects
    put = [item for name, item in objects.items() if item != old.get(name)]
    gone = [name for name in old if name not in objects]
    changes = Changes(
        tuple(sorted(put, key=lambda item: _WRITTEN.index(item.object_class))),
        tuple(sorted(gone, key=lambda name: _DELETED.index(name.object_class))),
        ... if catalogue.assigned_guid == catalogue.loaded.assigned else catalogue.assigned_guid,
    )
    if changes:
        store.apply(changes, now)
    catalogue.loaded = Loaded(objects, writer.models, catalogue.assigned_guid)
    return changes


def _with_advice(error: PolicyError) -> PolicyError:
    return PolicyError(f"{error}; secpol check lists all that is broken")


def reference(item: StoredObject, attribute: str, name: ObjectName) -> str:
    """How an error names a reference of an object."""
    return f"{item.name}: {attribute} {name}"


class _Reader:
    """Models of the objects of one store, each made once: what rules share is one object."""

    def __init__(self, objects: Mapping[ObjectName, StoredObject]) -> None:
        self._objects = objects
        self.models: dict[ObjectName, Model] = {}

    def policy(self, name: ObjectName) -> Policy:
        item = self._objects.get(name)
        if item is None:
            raise PolicyError(f"there is no {name}")
        data = _named(item, lambda: _data(item, PolicyData))
        if item.isakmp is None:
            raise PolicyError(f"{item.name}: ipsecISAKMPReference is missing")
        key_exchange = self._key_exchange(self._target(item, "ipsecISAKMPReference", item.isakmp, ObjectClass.ISAKMP))
        nfas = [self._target(item, "ipsecNFAReference", one, ObjectClass.NFA) for one in item.nfas]
        rules = tuple(self._rule(one) for one in nfas)
        return self._made(
            item,
            Policy,
            lambda: Policy(
                item.display_name or str(name),
                item.description,
                rules,
                key_exchange,
                records.polling_of(data),
                name.guid,
            ),
        )

    def filter_list(self, name: ObjectName) -> FilterList:
        item = self._objects[name]
        return self._made(
            item,
            FilterList,
            lambda: FilterList(
                item.display_name, item.description, records.filters_of(_data(item, FilterData)), item.guid
            ),
        )

    def filter_action(self, name: ObjectName) -> FilterAction:
        item = self._objects[name]
        return self._made(
            item,
            FilterAction,
            lambda: records.action_of(
                _data(item, NegotiationData), item.guid, item.action, item.display_name, item.description
            ),
        )

    def _key_exchange(self, item: StoredObject) -> KeyExchangeSettings:
        return self._made(
            item, KeyExchangeSettings, lambda: records.key_exchange_of(_data(item, IsakmpData), item.guid)
        )

    def _rule(self, item: StoredObject) -> Rule:
        data = _named(item, lambda: _data(item, NfaData))
        if item.negotiation is None:
            raise PolicyError(f"{item.name}: ipsecNegotiationPolicyReference is missing")
        if len(item.filters) > 1:
            raise PolicyError(
                f"{item.name}: ipsecFilterReference names {len(item.filters)} filter lists; accepted: one"
            )
        negotiation = self._target(item, "ipsecNegotiationPolicyReference", item.negotiation, ObjectClass.NEGOTIATION)
        filters = [self._target(item, "ipsecFilterReference", one, ObjectClass.FILTER) for one in item.filters]
        filter_list = self.filter_list(filters[0].name) if filters else None
        action = self.filter_action(negotiation.name)
        return self._made(
            item,
            Rule,
            lambda: Rule(
                item.display_name,
                filter_list,
                action,
                records.authentication_of(data),
                records.tunnel_of(data),
                records.connection_of(data),
                bool(data.active),
                item.description,
                item.guid,
            ),
        )

    def _target(self, item: StoredObject, attribute: str, name: ObjectName, kind: ObjectClass) -> StoredObject:
        if name.object_class is not kind:
            raise PolicyError(f"{reference(item, attribute, name)} is not of class {kind.value}")
        target = self._objects.get(name)
        if target is None:
            raise PolicyError(f"{reference(item, attribute, name)} does not exist")
        return target

    def _made(self, item: StoredObject, kind: type[_Read], make: Callable[[], _Read]) -> _Read:
        known = self.models.get(item.name)
        if isinstance(known, kind):
            return known
        made = _named(item, make)
        self.models[item.name] = made  # type: ignore[assignment]
        return made


def _named(item: StoredObject, make: Callable[[], _Read]) -> _Read:
    """What `make` gives; the object's name stands in front of what it refuses."""
    try:
        return make()
    except PolicyError as error:
        raise PolicyError(f"{item.name}: {error}") from None


def _data(item: StoredObject, kind: type[_Data]) -> _Data:
    data: BlobData = decode(item.data)
    if not isinstance(data, kind):
        raise PolicyError("its ipsecData is that of another class")
    return data


class _Writer:
    """The objects of a catalogue, from those that it was read from and what they said."""

    def __init__(self, loaded: Loaded, now: int) -> None:
        self._loaded = loaded
        self._now = now
        self._objects: dict[ObjectName, StoredObject] = {}
        self.models: dict[ObjectName, Model] = {}
        types = {item.data_type for item in loaded.objects.values()}
        self._data_type = min(types, default=REGISTRY_DATA_TYPE)

    def policy(self, policy: Policy) -> None:
        settings = policy.key_exchange
        isakmp, said, stored = self._item(ObjectClass.ISAKMP, settings)
        if said != settings:
            data: BlobData = records.isakmp_data(settings, _data(stored, IsakmpData) if stored else None)
            isakmp = replace(isakmp, data=encode(data))
        self._keep(isakmp, settings)
        for rule in policy.rules:
            self._rule(rule)
        item, _, stored = self._item(ObjectClass.POLICY, policy)
        data = records.policy_data(policy.polling_interval_seconds, _data(stored, PolicyData) if stored else None)
        shown = stored and not stored.display_name and policy.name == str(stored.name)
        self._keep(
            replace(
                item,
                data=encode(data),
                display_name="" if shown else policy.name,
                description=policy.description,
                isakmp=isakmp.name,
                nfas=tuple(_name(ObjectClass.NFA, rule.guid) for rule in policy.rules),
            ),
            policy,
        )

    def _rule(self, rule: Rule) -> None:
        item, _, stored = self._item(ObjectClass.NFA, rule)
        data = records.nfa_data(rule, _data(stored, NfaData) if stored else None)
        self._keep(
            replace(
                item,
                data=encode(data),
                display_name=rule.name,
                description=rule.description,
                negotiation=_name(ObjectClass.NEGOTIATION, rule.filter_action.guid),
                filters=(_name(ObjectClass.FILTER, rule.filter_list.guid),) if rule.filter_list else (),
            ),
            rule,
        )

    def filter_action(self, action: FilterAction, kind: uuid.UUID) -> None:
        item, said, stored = self._item(ObjectClass.NEGOTIATION, action)
        if said != action:
            data = records.negotiation_data(action, _data(stored, NegotiationData) if stored else None)
            item = replace(item, data=encode(data), action=action.action_guid, kind=item.kind or kind)
        self._keep(replace(item, display_name=action.name, description=action.description), action)

    def filter_list(self, filters: FilterList) -> None:
        item, said, stored = self._item(ObjectClass.FILTER, filters)
        if not isinstance(said, FilterList) or not records.same_filters(said.filters, filters.filters):
            data = records.filter_data(filters.filters, _data(stored, FilterData) if stored else None)
            item = replace(item, data=encode(data))
        self._keep(replace(item, display_name=filters.name, description=filters.description), filters)

    def linked(self) -> dict[ObjectName, StoredObject]:
        """All objects that the store is to have, with the way back in those of the catalogue."""
        loaded = self._loaded
        objects = {name: item for name, item in loaded.objects.items() if name not in loaded.models} | self._objects
        owners: dict[ObjectName, list[ObjectName]] = {name: [] for name in self._objects}
        for item in objects.values():
            for name in item.references:
                if name in owners and item.name not in owners[name]:
                    owners[name].append(item.name)
        for name, item in self._objects.items():
            right = owners[name]
            kept = [one for one in item.owners if one in right]
            links = tuple(dict.fromkeys((*kept, *right)))
            changed = replace(item, owners=links)
            if changed != loaded.objects.get(name):
                changed = replace(changed, when_changed=self._now)
            objects[name] = changed
        return objects

    def _item(self, kind: ObjectClass, model: Model) -> tuple[StoredObject, Model | None, StoredObject | None]:
        """The object to change (as stored, or a new one), what it said, and the stored one if it was understood."""
        name = _name(kind, model.guid)
        said = self._loaded.models.get(name)
        stored = self._loaded.objects[name] if said is not None else None
        return stored or StoredObject(name, b"", self._data_type), said, stored

    def _keep(self, item: StoredObject, model: Model) -> None:
        self._objects[item.name] = item
        self.models[item.name] = model


def _name(kind: ObjectClass, guid: uuid.UUID | None) -> ObjectName:
    assert guid is not None
    return ObjectName.of(kind, guid)
