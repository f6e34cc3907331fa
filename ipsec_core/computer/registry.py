"""The registry of one computer: keys, typed values, and the values of the IPsec subsystem with their ranges.

Keys and names are compared without regard to case (of ASCII letters), as references in stored policies need it: "IPSec"
and "IPSEC" differ between value and reference in live data. A value that the subsystem knows is checked on write; its
type, default and range are in `KNOWN_VALUES` alone.
"""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

from ipsec_core.errors import RegistryError

Data = int | str | bytes | tuple[str, ...]

SCHEMA = """
CREATE TABLE registry_keys (
    path TEXT PRIMARY KEY COLLATE NOCASE
);
CREATE TABLE registry_values (
    path TEXT NOT NULL COLLATE NOCASE REFERENCES registry_keys (path),
    name TEXT NOT NULL COLLATE NOCASE,
    type INTEGER NOT NULL,
    data NOT NULL,
    PRIMARY KEY (path, name)
);
"""

_HIVES = {"HKLM": "HKEY_LOCAL_MACHINE", "HKCU": "HKEY_CURRENT_USER"}
_DWORD_MAXIMUM = 0xFFFF_FFFF


class RegistryType(IntEnum):
    """Value types by their number in Windows."""

    REG_SZ = 1
    REG_BINARY = 3
    REG_DWORD = 4
    REG_MULTI_SZ = 7


_PYTHON_TYPES: dict[RegistryType, type] = {
    RegistryType.REG_SZ: str,
    RegistryType.REG_BINARY: bytes,
    RegistryType.REG_DWORD: int,
    RegistryType.REG_MULTI_SZ: tuple,
}

SERVICES = r"HKEY_LOCAL_MACHINE\SYSTEM\CurrentControlSet\Services"
IPSEC_KEY = SERVICES + r"\IPSEC"
POLICY_AGENT_KEY = SERVICES + r"\PolicyAgent"
OAKLEY_KEY = POLICY_AGENT_KEY + r"\Oakley"


@dataclass(frozen=True, slots=True)
class KnownValue:
    """A value of the IPsec subsystem. `restart`: what has to restart before a change counts."""

    key: str
    name: str
    type: RegistryType
    default: int | str
    minimum: int
    maximum: int
    unit: str
    restart: Literal["computer", "service"]
    source: str

    @property
    def accepted(self) -> str:
        if self.type is RegistryType.REG_SZ:
            return "text"
        return f"{self.minimum} to {self.maximum}" + (f" ({self.unit})" if self.unit else "")


def _dword(
    key: str,
    name: str,
    default: int,
    maximum: int,
    unit: str = "",
    minimum: int = 0,
    restart: Literal["computer", "service"] = "computer",
    source: str = "KB 257225",
) -> KnownValue:
    return KnownValue(key, name, RegistryType.REG_DWORD, default, minimum, maximum, unit, restart, source)


KNOWN_VALUES = (
    _dword(IPSEC_KEY, "SAIdleTime", 300, 3600, "seconds", minimum=300),
    _dword(IPSEC_KEY, "CacheSize", 64, 1024, "KB", minimum=64),
    _dword(IPSEC_KEY, "SAHashSize", 64, 1024, "KB", minimum=64),
    _dword(IPSEC_KEY, "EnableOffload", 1, 1),
    _dword(IPSEC_KEY, "NoDefaultExempt", 0, 3, source="KB 254728, KB 811832"),
    _dword(POLICY_AGENT_KEY, "Debug", 0, 1, restart="service"),
    KnownValue(POLICY_AGENT_KEY, "Log", RegistryType.REG_SZ, "ipsecpa.log", 0, 0, "file name", "service", "KB 257225"),
    _dword(OAKLEY_KEY, "EnableLogging", 0, 1, restart="service"),
    _dword(OAKLEY_KEY, "EnableDOSProtect", 0, 1, restart="service", source="[MS-IKEE] appendix A, note 29"),
    _dword(OAKLEY_KEY, "StrongCrlCheck", 0, 2, restart="service", source="Windows Server 2003"),
)

_BY_NAME = {item.name.casefold(): item for item in KNOWN_VALUES}
_BY_PATH = {(item.key.casefold(), item.name.casefold()): item for item in KNOWN_VALUES}


def known_value(name: str) -> KnownValue:
    """The declaration of a value of the subsystem by its name, any case."""
    if name.casefold() not in _BY_NAME:
        accepted = ", ".join(item.name for item in KNOWN_VALUES)
        raise RegistryError(f"{name!r} is not a registry value of IPsec; accepted: {accepted}")
    return _BY_NAME[name.casefold()]


class Registry:
    """One computer's registry on an SQLite connection, of a file or in memory, that has `SCHEMA`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    # -- known values --

    def known(self, name: str) -> int | str:
        """What a value of the subsystem is now: as set, else its default."""
        item = known_value(name)
        row = self._row(item.key, item.name)
        return item.default if row is None else row[1]  # type: ignore[return-value]

    def known_number(self, name: str) -> int:
        """The same for a REG_DWORD."""
        value = self.known(name)
        if not isinstance(value, int):
            raise RegistryError(f"{known_value(name).name} is {known_value(name).type.name}, not REG_DWORD")
        return value

    def set_known(self, name: str, value: object) -> None:
        """Write a value of the subsystem where it belongs; RegistryError when it is out of range."""
        item = known_value(name)
        self.set(item.key, item.name, value)

    # -- any value --

    def create_key(self, key: str) -> str:
        """Make a key and its parents where they are missing; the full path."""
        path = _path(key)
        parts = path.split("\\")
        self._connection.executemany(
            "INSERT OR IGNORE INTO registry_keys VALUES (?)",
            [("\\".join(parts[:depth]),) for depth in range(1, len(parts) + 1)],
        )
        return path

    def set(self, key: str, name: str, value: object, type: RegistryType | None = None) -> None:
        """Write a value, and its key where missing. The type is the given one, else follows from the Python type.

        int is REG_DWORD, str REG_SZ, bytes REG_BINARY, tuple of str REG_MULTI_SZ.
        """
        path = _path(key)
        kind, data = _check(path, name, value, type)
        self.create_key(path)
        stored = json.dumps(data) if isinstance(data, tuple) else data
        self._connection.execute(
            "INSERT OR REPLACE INTO registry_values VALUES (?, ?, ?, ?)", (path, name, int(kind), stored)
        )

    def get(self, key: str, name: str) -> Data:
        """The data of a value; RegistryError when there is none."""
        row = self._row(_path(key), name)
        if row is None:
            raise RegistryError(f"{_path(key)}: there is no value {name!r}")
        return row[1]

    def type_of(self, key: str, name: str) -> RegistryType:
        row = self._row(_path(key), name)
        if row is None:
            raise RegistryError(f"{_path(key)}: there is no value {name!r}")
        return row[0]

    def delete(self, key: str, name: str | None = None) -> None:
        """Remove a value, or without `name` a key with all below it; RegistryError when there is none."""
        path = _path(key)
        if name is not None:
            self.get(path, name)
            self._connection.execute("DELETE FROM registry_values WHERE path = ? AND name = ?", (path, name))
            return
        self._require_key(path)
        for table in ("registry_values", "registry_keys"):
            self._connection.execute(f"DELETE FROM {table} WHERE path = ? OR {_BELOW}", (path, *_below(path)))

    def keys(self, key: str) -> tuple[str, ...]:
        """The names of the keys directly below a key, in order."""
        path = _path(key)
        self._require_key(path)
        rows = self._connection.execute(f"SELECT path FROM registry_keys WHERE {_BELOW} ORDER BY path", _below(path))
        names = (row[0][len(path) + 1 :] for row in rows)
        return tuple(name for name in names if "\\" not in name)

    def values(self, key: str) -> dict[str, Data]:
        """The values of a key by name, in order."""
        path = _path(key)
        self._require_key(path)
        rows = self._connection.execute(
            "SELECT name, type, data FROM registry_values WHERE path = ? ORDER BY name", (path,)
        )
        return {name: _data(kind, data) for name, kind, data in rows}

    def _row(self, path: str, name: str) -> tuple[RegistryType, Data] | None:
        row = self._connection.execute(
            "SELECT type, data FROM registry_values WHERE path = ? AND name = ?", (path, name)
        ).fetchone()
        return None if row is None else (RegistryType(row[0]), _data(row[0], row[1]))

    def _require_key(self, path: str) -> None:
        if self._connection.execute("SELECT 1 FROM registry_keys WHERE path = ?", (path,)).fetchone() is None:
            raise RegistryError(f"there is no key {path}")


# All paths that begin with "PATH\\": "]" is the character after the backslash.
_BELOW = "(path > ? AND path < ?)"


def _below(path: str) -> tuple[str, str]:
    return path + "\\", path + "]"


def _path(key: str) -> str:
    """The full path of a key; HKLM and HKCU may be written short."""
    hive, *rest = key.strip("\\").split("\\")
    names = {long: long for long in _HIVES.values()} | _HIVES
    if hive.upper() not in names or not all(rest):
        raise RegistryError(f"{key!r} is not a registry key; accepted: HKLM\\... or HKEY_LOCAL_MACHINE\\..., HKCU\\...")
    return "\\".join((names[hive.upper()], *rest))


def _data(kind: int, stored: int | str | bytes) -> Data:
    return tuple(json.loads(str(stored))) if kind == RegistryType.REG_MULTI_SZ else stored


def _check(path: str, name: str, value: object, type: RegistryType | None) -> tuple[RegistryType, Data]:
    """The type and data to store, or a RegistryError with key, name, the given value and what is accepted."""
    item = _BY_PATH.get((path.casefold(), name.casefold()))
    if isinstance(value, list):
        value = tuple(value)
    kind = type or next((kind for kind, python in _PYTHON_TYPES.items() if isinstance(value, python)), None)
    place = f"{path}: {item.name if item else name}"
    fits = kind is not None and isinstance(value, _PYTHON_TYPES[kind]) and not isinstance(value, bool)
    if fits and isinstance(value, tuple):
        fits = all(isinstance(part, str) for part in value)
    if kind is None or not fits or (item is not None and kind is not item.type):
        wanted = item.type if item is not None else type
        what = wanted.name if wanted is not None else ", ".join(kind.name for kind in RegistryType)
        accepted = f"{what}, {item.accepted}" if item is not None else what
        raise RegistryError(f"{place}: {value!r} is of the wrong type; accepted: {accepted}")
    if isinstance(value, int):
        low, high = (item.minimum, item.maximum) if item is not None else (0, _DWORD_MAXIMUM)
        if not low <= value <= high:
            accepted = item.accepted if item is not None else f"{low} to {high}"
            raise RegistryError(f"{place}: {value} is out of range; accepted: {accepted}")
    return kind, value  # type: ignore[return-value]
