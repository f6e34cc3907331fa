"""The registry of one computer: keys, typed values, and the values of the IPsec subsystem with their ranges.

Keys and names are compared without regard to case (of ASCII letters), as references in stored policies need it: "IPSec"
and "IPSEC" differ between value and reference in live data. A key and a name keep the case of their first writing. A
value that the subsystem knows is checked on write; its type, default and range are in `KNOWN_VALUES` alone, and the
types of the references to a domain's policy in `POLICY_REFERENCES`. All other values are free.

Every write is whole on disk when its method returns, or belongs to the `transaction` around it.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from typing import Literal, NamedTuple

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

HIVES = {"HKLM": "HKEY_LOCAL_MACHINE", "HKCU": "HKEY_CURRENT_USER", "HKU": "HKEY_USERS"}
"""The hives by their short names. HKEY_CLASSES_ROOT and HKEY_CURRENT_CONFIG are views of others, and not kept."""

# "Registry element size limits" of the Windows documentation.
_KEY_NAME_MAXIMUM = 255
_LEVELS_MAXIMUM = 512
_VALUE_NAME_MAXIMUM = 16383


class RegistryType(IntEnum):
    """Value types by their number in Windows."""

    REG_NONE = 0
    REG_SZ = 1
    REG_EXPAND_SZ = 2
    REG_BINARY = 3
    REG_DWORD = 4
    REG_DWORD_BIG_ENDIAN = 5
    REG_LINK = 6
    REG_MULTI_SZ = 7
    REG_RESOURCE_LIST = 8
    REG_FULL_RESOURCE_DESCRIPTOR = 9
    REG_RESOURCE_REQUIREMENTS_LIST = 10
    REG_QWORD = 11


SYSTEM_TYPES = (
    RegistryType.REG_DWORD_BIG_ENDIAN,
    RegistryType.REG_LINK,
    RegistryType.REG_RESOURCE_LIST,
    RegistryType.REG_FULL_RESOURCE_DESCRIPTOR,
    RegistryType.REG_RESOURCE_REQUIREMENTS_LIST,
)
"""Of the system's own keys, kept for the exports of whole machines; nothing here looks into them."""

# The first type of a Python type is what a value of it becomes by itself.
_PYTHON_TYPES: dict[RegistryType, type] = {
    RegistryType.REG_SZ: str,
    RegistryType.REG_BINARY: bytes,
    RegistryType.REG_DWORD: int,
    RegistryType.REG_MULTI_SZ: tuple,
    RegistryType.REG_NONE: bytes,
    RegistryType.REG_EXPAND_SZ: str,
    RegistryType.REG_QWORD: int,
    **dict.fromkeys(SYSTEM_TYPES, bytes),
}
_BITS = {RegistryType.REG_DWORD: 32, RegistryType.REG_QWORD: 64}


class Value(NamedTuple):
    """A value as `Registry.walk` gives it."""

    type: RegistryType
    data: Data


SERVICES = r"HKEY_LOCAL_MACHINE\SYSTEM\CurrentControlSet\Services"
IPSEC_KEY = SERVICES + r"\IPSEC"
POLICY_AGENT_KEY = SERVICES + r"\PolicyAgent"
OAKLEY_KEY = POLICY_AGENT_KEY + r"\Oakley"
RASMAN_KEY = SERVICES + r"\RasMan\Parameters"

_GROUP_POLICY = r"HKEY_CURRENT_USER\SOFTWARE\Microsoft\GroupPolicyObjects\{GUID}Machine"
POLICY_REFERENCE_KEYS = (
    POLICY_AGENT_KEY + r"\Policy\GPTIPSECPolicy",
    r"HKEY_LOCAL_MACHINE\SOFTWARE\Policies\Microsoft\Windows\IPsec\GPTIPSECPolicy",
    _GROUP_POLICY + r"\Software\Policies\Microsoft\Windows\IPsec\GPTIPSECPolicy",
    _GROUP_POLICY + r"\System\CurrentControlSet\Services\PolicyAgent\Policy\GPTIPSECPolicy",
    r"HKEY_LOCAL_MACHINE\SOFTWARE\Microsoft\Windows\IPsec\GPTIPSECPolicy",
)
"""Where the global IPsec policy references are (KB 257225); {GUID} is that of any Group Policy object."""


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
            return self.unit or "text"
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


# It is written inside of the state directory, and must not become one of the other files there.
_LOG = KnownValue(
    POLICY_AGENT_KEY,
    "Log",
    RegistryType.REG_SZ,
    "ipsecpa.log",
    0,
    0,
    "file name without a folder that ends in .log or .txt, not oakley.log",
    "service",
    "KB 257225",
)
_LOG_NAME = re.compile(r"(?!oakley\.log$)[\w. -]{1,60}\.(log|txt)", re.IGNORECASE)

KNOWN_VALUES = (
    _dword(IPSEC_KEY, "SAIdleTime", 300, 3600, "seconds", minimum=300),
    _dword(IPSEC_KEY, "CacheSize", 64, 1024, "KB", minimum=64),
    _dword(IPSEC_KEY, "SAHashSize", 64, 1024, "KB", minimum=64),
    _dword(IPSEC_KEY, "EnableOffload", 1, 1),
    _dword(IPSEC_KEY, "NoDefaultExempt", 0, 3, source="KB 254728, KB 811832"),
    _dword(POLICY_AGENT_KEY, "Debug", 0, 1, restart="service"),
    _LOG,
    _dword(OAKLEY_KEY, "EnableLogging", 0, 1, restart="service"),
    _dword(OAKLEY_KEY, "EnableDOSProtect", 0, 1, restart="service", source="[MS-IKEE] appendix A, note 29"),
    _dword(OAKLEY_KEY, "StrongCrlCheck", 0, 2, restart="service", source="Windows Server 2003"),
    _dword(RASMAN_KEY, "ProhibitIpSec", 0, 1, source="KB 248750"),
)

POLICY_REFERENCES = tuple(
    item
    for key in POLICY_REFERENCE_KEYS
    for item in (
        *(
            KnownValue(key, name, RegistryType.REG_SZ, "", 0, 0, "", "service", "KB 257225")
            for name in ("DSIPSECPolicyPath", "DSIPSECPolicyName", "DSIPSECPolicyDescription")
        ),
        _dword(key, "DSIPSECPolicyFlags", 0, 0xFFFF_FFFF, restart="service"),
    )
)
"""The values of a reference to a domain's policy, in each of the places that KB 257225 names."""


def _fold(text: str) -> bytes:
    """For comparison and order as SQLite's NOCASE has them: without the case of ASCII letters, by UTF-8."""
    return text.encode().lower()


_BY_NAME = {item.name.casefold(): item for item in KNOWN_VALUES}
_BY_PATH = {(_fold(item.key), _fold(item.name)): item for item in KNOWN_VALUES + POLICY_REFERENCES}
_GROUP_POLICY_OBJECT = re.compile(rb"(?<=\\grouppolicyobjects\\)\{[0-9a-f-]{36}\}(?=machine\\)")


def known_value(name: str) -> KnownValue:
    """The declaration of a value of the subsystem by its name, any case."""
    if name.casefold() not in _BY_NAME:
        accepted = ", ".join(item.name for item in KNOWN_VALUES)
        raise RegistryError(f"{name!r} is not a registry value of IPsec; accepted: {accepted}")
    return _BY_NAME[name.casefold()]


class Registry:
    """One computer's registry on an SQLite connection, of a file or in memory, that has `SCHEMA`.

    RegistryError, besides what the methods say: another process keeps the file locked, or it cannot be written.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All writes inside, or when an exception leaves it none; may be nested, and then belongs to the outer one.

        Writes are on disk at its end; where the connection has uncommitted work of others, with the end of that.
        """
        if self._connection.in_transaction:
            begin, end, undo = "SAVEPOINT registry", "RELEASE registry", "ROLLBACK TO registry"
        else:
            # Not deferred: what is read inside is still true when it is written.
            begin, end, undo = "BEGIN IMMEDIATE", "COMMIT", ""
        self._execute(begin)
        try:
            yield
            self._execute(end)
        except BaseException:
            if not undo:
                self._connection.rollback()
            elif self._connection.in_transaction:  # a full disk has rolled back all of it
                self._execute(undo)
                self._execute(end)
            raise

    # -- known values --

    def known(self, name: str) -> int | str:
        """What a value of the subsystem is now: as set, else its default."""
        item = known_value(name)
        row = self._row(item.key, item.name)
        return item.default if row is None else row.data  # type: ignore[return-value]

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
        """Make a key and its parents where they are missing; the full path in the case in which it is kept."""
        path = full_path(key)
        with self.transaction():
            return self._create(path)

    def set(self, key: str, name: str, value: object, type: RegistryType | None = None) -> None:
        """Write a value, and its key where missing. The type is the given one, else follows from the Python type.

        int is REG_DWORD, str REG_SZ, bytes REG_BINARY, tuple of str REG_MULTI_SZ (the last not empty). The empty name
        is that of the key's default value.
        """
        path = full_path(key)
        kind, data = _check(path, name, value, type)
        with self.transaction():
            self._execute(
                "INSERT INTO registry_values VALUES (?, ?, ?, ?) "
                "ON CONFLICT (path, name) DO UPDATE SET type = excluded.type, data = excluded.data",
                (self._create(path), name, int(kind), _stored(kind, data)),
            )

    def get(self, key: str, name: str) -> Data:
        """The data of a value; RegistryError when there is none."""
        return self._value(key, name).data

    def type_of(self, key: str, name: str) -> RegistryType:
        """The type of a value; RegistryError when there is none."""
        return self._value(key, name).type

    def exists(self, key: str, name: str | None = None) -> bool:
        """Whether there is a value, or without `name` a key; a hive is always there."""
        path = full_path(key)
        if name is not None:
            return self._row(path, name) is not None
        return "\\" not in path or self._spelling(path) is not None

    def delete(self, key: str, name: str | None = None) -> None:
        """Remove a value, or without `name` a key with all below it; RegistryError when there is none."""
        path = full_path(key)
        if "\\" not in path and name is None:
            raise RegistryError(f"{path}: a hive cannot be deleted; accepted: a key below it")
        with self.transaction():
            if name is not None:
                self._value(path, name)
                self._execute("DELETE FROM registry_values WHERE path = ? AND name = ?", (path, name))
                return
            self._require_key(path)
            for table in ("registry_values", "registry_keys"):
                self._execute(f"DELETE FROM {table} WHERE {_TREE}", _tree(path))

    def keys(self, key: str) -> tuple[str, ...]:
        """The names of the keys directly below a key, in order."""
        path = full_path(key)
        self._require_key(path)
        start = len(path) + 1  # of the name: the case may differ, the length does not
        rows = self._execute(f"SELECT path FROM registry_keys WHERE {_TREE} ORDER BY path", _tree(path))
        return tuple(name for (found,) in rows if (name := found[start:]) and "\\" not in name)

    def values(self, key: str) -> dict[str, Data]:
        """The values of a key by name, in order."""
        path = full_path(key)
        self._require_key(path)
        rows = self._execute("SELECT name, type, data FROM registry_values WHERE path = ? ORDER BY name", (path,))
        return {name: _data(kind, data) for name, kind, data in rows}

    def walk(self, key: str) -> Iterator[tuple[str, dict[str, Value]]]:
        """A key and all below it, each before those below it, in order: its full path, and its values by name.

        All is read in one query at the first step, so that the registry may be changed meanwhile.
        """
        path = full_path(key)
        self._require_key(path)
        rows = self._execute(
            "SELECT path, name, type, data FROM registry_keys LEFT JOIN registry_values USING (path) "
            f"WHERE {_TREE} ORDER BY name",
            _tree(path),
        )
        tree: dict[str, dict[str, Value]] = {} if "\\" in path else {path: {}}
        for found, name, kind, data in rows:
            values = tree.setdefault(found, {})
            if name is not None:
                values[name] = Value(RegistryType(kind), _data(kind, data))
        yield from sorted(tree.items(), key=lambda item: _fold(item[0]).split(b"\\"))

    def _create(self, path: str) -> str:
        names = path.split("\\")
        depth, found = len(names), None
        while depth and (found := self._spelling("\\".join(names[:depth]))) is None:
            depth -= 1
        for name in names[depth:]:
            found = name if found is None else f"{found}\\{name}"
            self._execute("INSERT INTO registry_keys VALUES (?)", (found,))
        return str(found)

    def _value(self, key: str, name: str) -> Value:
        path = full_path(key)
        value = self._row(path, name)
        if value is None:
            raise RegistryError(f"{path}: there is no {value_text(name)}")
        return value

    def _row(self, path: str, name: str) -> Value | None:
        row = self._execute(
            "SELECT type, data FROM registry_values WHERE path = ? AND name = ?", (path, name)
        ).fetchone()
        return None if row is None else Value(RegistryType(row[0]), _data(row[0], row[1]))

    def _spelling(self, path: str) -> str | None:
        """The path in the case in which it is kept; None when there is no such key."""
        row = self._execute("SELECT path FROM registry_keys WHERE path = ?", (path,)).fetchone()
        return None if row is None else row[0]

    def _require_key(self, path: str) -> None:
        if not self.exists(path):
            raise RegistryError(f"there is no key {path}")

    def _execute(self, statement: str, parameters: Sequence[object] = ()) -> sqlite3.Cursor:
        try:
            return self._connection.execute(statement, parameters)
        except sqlite3.Error as error:
            if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:
                raise RegistryError("the registry is locked: another process writes to it; try again") from None
            raise RegistryError(f"the registry cannot be used ({error})") from None


# A path and all that begin with "PATH\\": "]" is the character after the backslash.
_TREE = "(path = ? OR (path > ? AND path < ?))"


def _tree(path: str) -> tuple[str, str, str]:
    return path, path + "\\", path + "]"


def value_text(name: str) -> str:
    """How an error calls a value of a key; the empty name is that of the default one."""
    return f"value {name!r}" if name else "default value"


def full_path(key: str) -> str:
    """The full path of a key, whose hive may be written short (HKLM, HKCU, HKU); RegistryError when it is none."""
    hive, *names = key.strip("\\").split("\\")
    hives = {long: long for long in HIVES.values()} | HIVES
    if hive.upper() not in hives or not all(names):
        short, *others = HIVES
        accepted = f"{short}\\... or {HIVES[short]}\\..., " + ", ".join(f"{other}\\..." for other in others)
        raise RegistryError(f"{key!r} is not a registry key; accepted: {accepted}")
    if len(names) > _LEVELS_MAXIMUM:
        raise RegistryError(f"{key[:60]!r}... has {len(names)} levels; accepted: up to {_LEVELS_MAXIMUM}")
    for name in names:
        _check_name(name, "key", _KEY_NAME_MAXIMUM)
    return "\\".join((hives[hive.upper()], *names))


_HALF_PAIR = re.compile("[\ud800-\udfff]")
_NOT_IN_NAMES = re.compile("[\0-\x1f\ud800-\udfff]")


def _check_name(name: str, what: str, maximum: int) -> None:
    if len(name) > maximum or _NOT_IN_NAMES.search(name):
        shown = name if len(name) <= 60 else f"{name[:60]}..."
        accepted = f"up to {maximum} characters, no control characters, no halves of surrogate pairs"
        raise RegistryError(f"{shown!r} is not a name of a {what}; accepted: {accepted}")


def _stored(kind: RegistryType, data: Data) -> int | str | bytes:
    if isinstance(data, tuple):
        return json.dumps(data)
    # SQLite has no unsigned 64-bit number.
    return data.to_bytes(8, "little") if kind is RegistryType.REG_QWORD and isinstance(data, int) else data


def _data(kind: int, stored: int | str | bytes) -> Data:
    if kind == RegistryType.REG_MULTI_SZ:
        return tuple(json.loads(str(stored)))
    return int.from_bytes(stored, "little") if kind == RegistryType.REG_QWORD and isinstance(stored, bytes) else stored


def known_at(path: str, name: str) -> KnownValue | None:
    """What the subsystem knows of a value of a key (full path), if anything."""
    return _BY_PATH.get((_GROUP_POLICY_OBJECT.sub(b"{guid}", _fold(path)), _fold(name)))


def _check(path: str, name: str, value: object, type: RegistryType | None) -> tuple[RegistryType, Data]:
    """The type and data to store, or a RegistryError with key, name, and what is accepted.

    It shows the given value only where the subsystem knows what it is: others may hold a preshared key.
    """
    _check_name(name, "value", _VALUE_NAME_MAXIMUM)
    item = known_at(path, name)
    if isinstance(value, list):
        value = tuple(value)
    kind = type if type is not None else _type_for(value)
    place = f"{path}: {item.name if item else name}"
    shown = repr(value) if item else "the data"
    if kind is None or not _fits(kind, value) or (item is not None and kind is not item.type):
        wanted = item.type if item is not None else type
        what = wanted.name if wanted is not None else ", ".join(kind.name for kind in RegistryType)
        accepted = f"{what}, {item.accepted}" if item is not None else what
        raise RegistryError(f"{place}: {shown} is of the wrong type; accepted: {accepted}")
    if isinstance(value, int):
        low, high = (item.minimum, item.maximum) if item is not None else (0, (1 << _BITS[kind]) - 1)
        if not low <= value <= high:
            accepted = item.accepted if item is not None else f"{low} to {high}"
            raise RegistryError(f"{place}: {value} is out of range; accepted: {accepted}")
    if item is _LOG and not _LOG_NAME.fullmatch(str(value)):
        raise RegistryError(f"{place}: {shown} is no name of a log; accepted: {item.accepted}")
    texts: tuple[str, ...] = (value,) if isinstance(value, str) else value if isinstance(value, tuple) else ()
    for text in texts:
        if _HALF_PAIR.search(text) or (kind is RegistryType.REG_MULTI_SZ and ("\0" in text or not texts[-1])):
            accepted = "texts without halves of surrogate pairs; in REG_MULTI_SZ without NUL, the last not empty"
            raise RegistryError(f"{place}: {shown} cannot be kept as {kind.name}; accepted: {accepted}")
    return kind, value  # type: ignore[return-value]


def _type_for(value: object) -> RegistryType | None:
    return next((kind for kind, python in _PYTHON_TYPES.items() if isinstance(value, python)), None)


def _fits(kind: RegistryType, value: object) -> bool:
    parts = value if isinstance(value, tuple) else ()
    return (
        isinstance(value, _PYTHON_TYPES[kind])
        and not isinstance(value, bool)
        and all(isinstance(part, str) for part in parts)
    )
