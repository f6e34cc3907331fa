"""The objects of a policy store and what a store is, whatever keeps them: registry, directory, file.

A policy is five kinds of objects with references both ways, forward and to their owners. A store takes and gives them
whole; what their `ipsecData` says is for `blobs` and `storage`.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from types import EllipsisType
from typing import Protocol

from ipsec_core.errors import PolicyError

# ipsecDataType: in registries 0x100, in directories 0x256 (written as 598) or 0x100 as text.
REGISTRY_DATA_TYPE = 0x100
DIRECTORY_DATA_TYPE = 0x256
DATA_TYPES = (REGISTRY_DATA_TYPE, DIRECTORY_DATA_TYPE)

STANDARD_TYPE = uuid.UUID("62F49E10-6C37-11D1-864C-14A300000000")
DEFAULT_RESPONSE_TYPE = uuid.UUID("62F49E13-6C37-11D1-864C-14A300000000")


class ObjectClass(Enum):
    """The classes by their name in every store."""

    POLICY = "ipsecPolicy"
    ISAKMP = "ipsecISAKMPPolicy"
    NFA = "ipsecNFA"
    NEGOTIATION = "ipsecNegotiationPolicy"
    FILTER = "ipsecFilter"


_CLASSES = {item.value.casefold(): item for item in ObjectClass}


def guid_text(guid: uuid.UUID) -> str:
    """As stores write it: "{72385230-70FA-11D1-864C-14A300000000}"."""
    return f"{{{guid}}}".upper()


def parse_guid(text: str) -> uuid.UUID:
    """From the stored form, any case."""
    if not re.fullmatch(r"\{[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}\}", text):
        raise PolicyError(f"{text!r} is not a GUID; accepted: {{72385230-70FA-11D1-864C-14A300000000}}")
    return uuid.UUID(text)


@dataclass(frozen=True, slots=True, order=True)
class ObjectName:
    """What references name: class and GUID. Compared by GUID without case, as references in live data need it."""

    class_name: str
    guid: uuid.UUID

    @classmethod
    def of(cls, kind: ObjectClass, guid: uuid.UUID) -> ObjectName:
        return cls(kind.value, guid)

    @classmethod
    def parse(cls, text: str) -> ObjectName:
        """From "ipsecNFA{GUID}", any case; PolicyError otherwise."""
        head, brace, tail = text.partition("{")
        kind = _CLASSES.get(head.casefold())
        if kind is None or not brace:
            accepted = ", ".join(f"{item.value}{{GUID}}" for item in ObjectClass)
            raise PolicyError(f"{text!r} is not the name of a policy object; accepted: {accepted}")
        return cls(kind.value, parse_guid(brace + tail))

    @property
    def object_class(self) -> ObjectClass:
        return ObjectClass(self.class_name)

    def __str__(self) -> str:
        return self.class_name + guid_text(self.guid)


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One object as stored. `when_changed` in seconds since 1970 (UTC), set by the store on writing.

    Forward references: `isakmp` and `nfas` (in the order of the rules) of a policy; `negotiation` and `filters` of an
    NFA. `owners` are the way back: policies of an ISAKMP object or NFA, NFAs of a negotiation policy or filter.
    `action` and `kind` (ipsecNegotiationPolicyType) are those of a negotiation policy.
    """

    name: ObjectName
    data: bytes
    data_type: int = REGISTRY_DATA_TYPE
    display_name: str = ""
    description: str = ""
    when_changed: int = 0
    isakmp: ObjectName | None = None
    nfas: tuple[ObjectName, ...] = ()
    negotiation: ObjectName | None = None
    filters: tuple[ObjectName, ...] = ()
    owners: tuple[ObjectName, ...] = ()
    action: uuid.UUID | None = None
    kind: uuid.UUID | None = None

    @property
    def guid(self) -> uuid.UUID:
        return self.name.guid

    @property
    def object_class(self) -> ObjectClass:
        return self.name.object_class

    @property
    def references(self) -> tuple[ObjectName, ...]:
        """All forward references."""
        single = (one for one in (self.isakmp, self.negotiation) if one is not None)
        return (*single, *self.nfas, *self.filters)


@dataclass(frozen=True, slots=True)
class Changes:
    """What one editing step does to a store. `assign`: the GUID of the policy to assign, None to unassign."""

    put: tuple[StoredObject, ...] = ()
    delete: tuple[ObjectName, ...] = ()
    assign: uuid.UUID | EllipsisType | None = ...

    def __bool__(self) -> bool:
        return bool(self.put or self.delete or self.assign is not ...)


class PolicyStore(Protocol):
    """A place that keeps policy objects. Errors are `IpsecError`s of one line that name the place."""

    def objects(self) -> tuple[StoredObject, ...]:
        """All of them, also those that no policy refers to."""

    def assigned(self) -> uuid.UUID | None:
        """The GUID of the assigned policy, whether it exists or not."""

    def apply(self, changes: Changes, now: int) -> None:
        """Carries all of it out or nothing; `now` in seconds since 1970. Whoever writes an object last wins."""


def by_name(objects: Iterable[StoredObject]) -> dict[ObjectName, StoredObject]:
    return {item.name: item for item in objects}
