"""The policies of a computer in its registry: the local store, and the cached copy of a domain's policy.

    HKLM\\SOFTWARE\\Policies\\Microsoft\\Windows\\IPSec\\Policy\\Local   ActivePolicy: path of the assigned policy
        ipsecPolicy{GUID}   ipsecISAKMPPolicy{GUID}   ipsecNFA{GUID}   ipsecNegotiationPolicy{GUID}   ipsecFilter{GUID}

Layout, names and types of the values are those of real exports. References are paths without the hive, compared without
regard to case. Keys and values of others remain as they are; a value that is missing, or has another type that can say
the same, is no error.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Literal, Protocol, TypeVar

from ipsec_core.errors import PolicyError
from ipsec_core.policy.builtin import builtin_objects
from ipsec_core.policy.objects import (
    REGISTRY_DATA_TYPE,
    Changes,
    ObjectClass,
    ObjectName,
    StoredObject,
    guid_text,
    parse_guid,
)

_HIVE = "HKEY_LOCAL_MACHINE"
_PATH = r"SOFTWARE\Policies\Microsoft\Windows\IPSec\Policy"
_ACTIVE = "ActivePolicy"

_Data = int | str | bytes | tuple[str, ...]
_Read = TypeVar("_Read")


class RegistryValue(Protocol):
    @property
    def data(self) -> _Data: ...


class RegistryKeys(Protocol):
    """What the store takes of a registry."""

    def transaction(self) -> AbstractContextManager[None]: ...

    def exists(self, key: str, name: str | None = None) -> bool: ...

    def get(self, key: str, name: str) -> _Data: ...

    def create_key(self, key: str) -> str: ...

    def set(self, key: str, name: str, value: object) -> None: ...

    def delete(self, key: str, name: str | None = None) -> None: ...

    def walk(self, key: str) -> Iterator[tuple[str, Mapping[str, RegistryValue]]]: ...


class RegistryStore:
    """A `PolicyStore` in a registry: `Local`, or `Cache` for the cached domain policy."""

    def __init__(self, registry: RegistryKeys, root: Literal["Local", "Cache"] = "Local") -> None:
        self._registry = registry
        self._path = rf"{_PATH}\{root}"
        self._key = rf"{_HIVE}\{self._path}"

    def __str__(self) -> str:
        return self._key

    @property
    def exists(self) -> bool:
        return self._registry.exists(self._key)

    def objects(self) -> tuple[StoredObject, ...]:
        """PolicyError of one line with key and value where one cannot be read."""
        if not self.exists:
            return ()
        found: list[StoredObject] = []
        for path, values in self._registry.walk(self._key):
            parent, _, key = path.rpartition("\\")
            try:
                name = ObjectName.parse(key)
            except PolicyError:
                continue  # the root, or somebody else's
            if parent.casefold() == self._key.casefold():
                found.append(_Values(path, values).stored(name))
        return tuple(found)

    def assigned(self) -> uuid.UUID | None:
        if not self._registry.exists(self._key, _ACTIVE):
            return None
        path = self._registry.get(self._key, _ACTIVE)
        if path == "":
            return None
        name = _Values(self._key, {}).read(_ACTIVE, path, _reference)
        if name.object_class is not ObjectClass.POLICY:
            raise PolicyError(f"{self._key}: {_ACTIVE}: {name} is no {ObjectClass.POLICY.value}")
        return name.guid

    def apply(self, changes: Changes, now: int) -> None:
        with self._registry.transaction():
            self._registry.create_key(self._key)
            for item in changes.put:
                self._put(item, now)
            for name in changes.delete:
                if self._registry.exists(self._key_of(name)):
                    self._registry.delete(self._key_of(name))
            if changes.assign is not ...:
                path = self._path_of(ObjectName.of(ObjectClass.POLICY, changes.assign)) if changes.assign else None
                self._set(self._key, _ACTIVE, path)

    def _key_of(self, name: ObjectName) -> str:
        return rf"{self._key}\{name}"

    def _path_of(self, name: ObjectName) -> str:
        return rf"{self._path}\{name}"

    def _put(self, item: StoredObject, now: int) -> None:
        values: dict[str, _Data | None] = {
            "className": item.name.class_name,
            "name": str(item.name),
            "ipsecName": item.display_name or None,
            "description": item.description or None,
            "ipsecID": guid_text(item.guid),
            "ipsecDataType": REGISTRY_DATA_TYPE,
            "ipsecData": item.data,
            "whenChanged": now,
            "ipsecISAKMPReference": self._path_of(item.isakmp) if item.isakmp else None,
            "ipsecNFAReference": tuple(map(self._path_of, item.nfas)) or None,
            "ipsecNegotiationPolicyReference": self._path_of(item.negotiation) if item.negotiation else None,
            "ipsecFilterReference": tuple(map(self._path_of, item.filters)) or None,
            "ipsecOwnersReference": tuple(map(self._path_of, item.owners)) or None,
            "ipsecNegotiationPolicyAction": guid_text(item.action) if item.action else None,
            "ipsecNegotiationPolicyType": guid_text(item.kind) if item.kind else None,
        }
        for name, value in values.items():
            self._set(self._key_of(item.name), name, value)

    def _set(self, key: str, name: str, value: _Data | None) -> None:
        if value is not None:
            self._registry.set(key, name, value)
        elif self._registry.exists(key, name):
            self._registry.delete(key, name)


def populate(store: RegistryStore, now: int) -> bool:
    """Puts the three built-in policies into a store that is not there yet, none assigned; whether it was not."""
    if store.exists:
        return False
    store.apply(Changes(builtin_objects()), now)
    return True


class _Values:
    """The values of one object's key, by name in any case."""

    def __init__(self, path: str, values: Mapping[str, RegistryValue]) -> None:
        self._path = path
        self._values = {name.casefold(): value.data for name, value in values.items()}

    def stored(self, name: ObjectName) -> StoredObject:
        return StoredObject(
            name,
            self._one("ipsecData", _bytes) or b"",
            self._default("ipsecDataType", _number, REGISTRY_DATA_TYPE),
            self._one("ipsecName", _text) or "",
            self._one("description", _text) or "",
            self._default("whenChanged", _number, 0),
            self._one("ipsecISAKMPReference", _reference),
            self._one("ipsecNFAReference", _references) or (),
            self._one("ipsecNegotiationPolicyReference", _reference),
            self._one("ipsecFilterReference", _references) or (),
            self._one("ipsecOwnersReference", _references) or (),
            self._one("ipsecNegotiationPolicyAction", _guid),
            self._one("ipsecNegotiationPolicyType", _guid),
        )

    def _one(self, name: str, convert: Callable[[_Data], _Read]) -> _Read | None:
        """What a value says; None where there is none, or an empty one."""
        data = self._values.get(name.casefold())
        return None if data is None or data in ("", (), b"") else self.read(name, data, convert)

    def _default(self, name: str, convert: Callable[[_Data], int], default: int) -> int:
        number = self._one(name, convert)
        return default if number is None else number

    def read(self, name: str, data: _Data, convert: Callable[[_Data], _Read]) -> _Read:
        try:
            return convert(data)
        except PolicyError as error:
            raise PolicyError(f"{self._path}: {name}: {error}") from None


def _bytes(data: _Data) -> bytes:
    if not isinstance(data, bytes):
        raise PolicyError("accepted: REG_BINARY")
    return data


def _text(data: _Data) -> str:
    if isinstance(data, tuple) and len(data) == 1:
        data = data[0]
    if not isinstance(data, str):
        raise PolicyError("accepted: REG_SZ")
    return data


def _number(data: _Data) -> int:
    """Also as text, which is how directories have it."""
    if isinstance(data, str) and re.fullmatch("[0-9]{1,10}", data):
        return int(data)
    if not isinstance(data, int):
        raise PolicyError("accepted: REG_DWORD")
    return data


def _guid(data: _Data) -> uuid.UUID:
    return parse_guid(_text(data))


def _reference(data: _Data) -> ObjectName:
    """From "SOFTWARE\\...\\ipsecNFA{GUID}"; a cached domain policy may have the name in a directory instead."""
    text = _text(data)
    found = re.match(r"(?:.*\\|CN=)?([^\\,={}]+\{[^{}]*\})(?:,|\Z)", text, re.IGNORECASE)
    if found is None:
        raise PolicyError(f"{text!r} is not a reference; accepted: {_PATH}\\Local\\CLASS{{GUID}}")
    return ObjectName.parse(found[1])


def _references(data: _Data) -> tuple[ObjectName, ...]:
    return tuple(map(_reference, data if isinstance(data, tuple) else (data,)))
