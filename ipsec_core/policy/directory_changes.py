"""Changes to a directory as single operations, in an order in which a reader never follows a reference to nothing.

A directory has no transactions. Each step knows its way back, for the one that fails.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from ipsec_core.policy.directory import assignment_attributes, assignment_dn, gpo_dn, object_dn, to_attributes
from ipsec_core.policy.objects import Changes, ObjectClass, ObjectName, StoredObject

Attributes: TypeAlias = Mapping[str, Sequence[bytes]]

# [MS-GPIPSEC] 2.2.1: the order in which the objects of a policy are made.
_CREATION = (
    ObjectClass.POLICY,
    ObjectClass.ISAKMP,
    ObjectClass.NFA,
    ObjectClass.NEGOTIATION,
    ObjectClass.FILTER,
)
# The policy comes last: who polls its whenChanged then finds all that it refers to. And rules before their policy.
_UPWARDS = (*reversed(_CREATION[2:]), ObjectClass.ISAKMP, ObjectClass.POLICY)


@dataclass(frozen=True, slots=True)
class Step:
    """One operation: `before` and `after` are the attributes that it changes; None: there is no such entry."""

    dn: str
    before: Attributes | None
    after: Attributes | None

    @property
    def back(self) -> Step:
        return Step(self.dn, self.after, self.before)

    def __str__(self) -> str:
        verb = "add" if self.before is None else "delete" if self.after is None else "modify"
        return f"{verb} {self.dn}"


def plan(current: Mapping[ObjectName, StoredObject], changes: Changes, container: str) -> tuple[list[Step], list[Step]]:
    """The steps from the objects that are there to the `put` and `delete` of changes: those that give, those that take.

    First new objects without references, then what is added to objects, from filters up to policies; then what is taken
    from them, from policies down; then deletions. What is deleted first loses its own references.
    """
    wanted = {item.name: item for item in changes.put}
    gone = [name for name in dict.fromkeys(changes.delete) if name in current]
    wanted |= {name: _bare(current[name]) for name in gone}
    new = [item for item in wanted.values() if item.name not in current]
    giving = [
        Step(object_dn(item.name, container), None, _present(_entry(_bare(item), container)))
        for item in sorted(new, key=lambda item: _CREATION.index(item.object_class))
    ]
    growing: list[tuple[ObjectClass, Step]] = []
    shrinking: list[tuple[ObjectClass, Step]] = []
    for name, item in wanted.items():
        old = current.get(name) or _bare(item)
        before, after = to_attributes(old, container), to_attributes(item, container)
        changed = [key for key in after if before[key] != after[key]]
        if changed:
            step = Step(object_dn(name, container), *({key: side[key] for key in changed} for side in (before, after)))
            only_less = all(set(after[key]) < set(before[key]) and _is_reference(key) for key in changed)
            (shrinking if only_less else growing).append((name.object_class, step))
    giving += _in_order(growing, _UPWARDS)
    taking = _in_order(shrinking, tuple(reversed(_UPWARDS)))
    deletions = [
        (name.object_class, Step(object_dn(name, container), _present(_entry(_bare(current[name]), container)), None))
        for name in gone
    ]
    return giving, taking + _in_order(deletions, _UPWARDS)


def plan_assignment(
    before: Attributes | None, policy: StoredObject | uuid.UUID | None, gpo: uuid.UUID, domain: str, container: str
) -> list[Step]:
    """From the assignment object's attributes (None: no such object) to one that names the policy; None: to none."""
    dn = assignment_dn(gpo, domain)
    if policy is None:
        return [] if before is None else [Step(dn, _with_class("ipsecPolicy", before), None)]
    stored, guid = (policy, policy.guid) if isinstance(policy, StoredObject) else (None, policy)
    after = assignment_attributes(guid, stored, container)
    if before is None:
        return [Step(dn, None, _with_class("ipsecPolicy", _present(after)))]
    return [Step(dn, {key: before.get(key, []) for key in after}, after)]


def gpo_containers(gpo: uuid.UUID, domain: str) -> list[str]:
    """What an assignment object stands in, outermost first; GPOs of which no tool used it lack the last ones."""
    outer = gpo_dn(gpo, domain)
    return [outer := f"CN={part},{outer}" for part in ("Machine", "Microsoft", "Windows")]


def _bare(item: StoredObject) -> StoredObject:
    return replace(item, isakmp=None, nfas=(), negotiation=None, filters=(), owners=())


def _is_reference(attribute: str) -> bool:
    return attribute.endswith("Reference")


def _present(attributes: Attributes) -> dict[str, Sequence[bytes]]:
    return {key: values for key, values in attributes.items() if values}


def _with_class(name: str, attributes: Attributes) -> dict[str, Sequence[bytes]]:
    return {"objectClass": [name.encode()], **attributes}


def _entry(item: StoredObject, container: str) -> dict[str, Sequence[bytes]]:
    return _with_class(item.name.class_name, to_attributes(item, container))


def _in_order(steps: Sequence[tuple[ObjectClass, Step]], order: Sequence[ObjectClass]) -> list[Step]:
    return [step for _, step in sorted(steps, key=lambda pair: order.index(pair[0]))]
