"""The state directory of one computer: what the tools open after (or the agent keeps during) a run.

A directory with one SQLite file, `state.sqlite`, and text files for people (`oakley.log`). When the writer has closed
it, the write-ahead log is folded in and the one file can be copied and read anywhere. A `State` may also live in memory
and be written out once, at the end.

Schema, version 1 (`PRAGMA user_version`; `PRAGMA application_id` tells that it is a state file at all)

    meta              key, value (JSON): "name" of the computer, and whatever its owner puts there
    registry_keys     path
    registry_values   path, name, type (number of Windows), data
    events            number, time (s), log, source, event_id, type, category, user, computer, strings (JSON), text
    associations      a snapshot of the security associations, one row each: the fields of `Association`
    counters          name, value: IPSEC_STATISTICS, then OAKLEY_STATISTICS, then details of the driver, in this order
    filters           the driver's filters in its order: the fields of `DriverFilter` as text or number, and hits
    policy            table_json: the active policy as `policy_to_table` gives it, keys hidden; no row without a policy

All rows keep the order in which they were saved. Errors are `StateError`, one line that begins with the path.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields, replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from ipsec_core.computer.audit import AuditPolicy
from ipsec_core.computer.eventlog import SCHEMA as EVENTS_SCHEMA
from ipsec_core.computer.eventlog import EventLog
from ipsec_core.computer.registry import SCHEMA as REGISTRY_SCHEMA
from ipsec_core.computer.registry import Registry
from ipsec_core.errors import StateError
from ipsec_core.policy.compile import DriverFilter
from ipsec_core.policy.model import Policy
from ipsec_core.policy.toml import policy_from_table, policy_to_table

SCHEMA_VERSION = 1
STATE_FILE = "state.sqlite"

_APPLICATION_ID = 0x49504353  # "IPCS"


@dataclass(frozen=True, slots=True)
class Association:
    """A security association as IP Security Monitor lists it; a soft one has security "None" and SPI 0.

    Addresses are text (a host or a subnet), port and protocol 0 are any, `tunnel_endpoint` is None in transport mode,
    `established` is in seconds, None where no negotiation made it. `bytes` and `packets` are those it carried.
    """

    policy_name: str
    security: str
    filter_name: str
    source_address: str
    destination_address: str
    protocol: int
    source_port: int
    destination_port: int
    tunnel_endpoint: str | None
    direction: Literal["outbound", "inbound"]
    spi: int
    peer: str
    bytes: int
    packets: int
    soft: bool
    established: float | None


_ASSOCIATION_COLUMNS = tuple(field.name for field in fields(Association))
_FILTER_COLUMNS = tuple(field.name for field in fields(DriverFilter))
_FILTER_TYPES: dict[str, Callable[[str], object]] = {
    "filter_id": uuid.UUID,
    "policy_id": uuid.UUID,
    "source": IPv4Network,
    "destination": IPv4Network,
    "tunnel_endpoint": IPv4Address,
}

_SCHEMA = f"""
PRAGMA application_id = {_APPLICATION_ID};
PRAGMA user_version = {SCHEMA_VERSION};
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
{REGISTRY_SCHEMA}
{EVENTS_SCHEMA}
CREATE TABLE associations ({", ".join(_ASSOCIATION_COLUMNS)});
CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
CREATE TABLE filters ({", ".join(_FILTER_COLUMNS)}, hits INTEGER NOT NULL);
CREATE TABLE policy (table_json TEXT NOT NULL);
"""


class State:
    """One computer's state. Close it, or use it in a `with` statement."""

    def __init__(self, connection: sqlite3.Connection, readonly: bool, path: Path | None = None) -> None:
        """Use `memory`, `create` or `open`."""
        self._connection = connection
        self._readonly = readonly
        self._path = path
        self._lines: dict[str, list[str]] = {}  # of text files, not written yet
        self._closed = False
        self.registry = Registry(connection)

    @classmethod
    def memory(cls, name: str) -> State:
        """The empty state of a computer called `name`, in memory; `save_as` writes it out."""
        connection = sqlite3.connect(":memory:")
        connection.executescript(_SCHEMA)
        state = cls(connection, readonly=False)
        state.set_meta("name", name)
        return state

    @classmethod
    def create(cls, path: Path, name: str) -> State:
        """A new state directory, open for writing; StateError when something is there already."""
        with cls.memory(name) as state:
            state.save_as(path)
        return cls.open(path, readonly=False)

    @classmethod
    def open(cls, path: Path, readonly: bool = True, patience: float = 5.0) -> State:
        """An existing state directory. Where another process writes, it is waited for up to `patience` seconds."""
        file = path / STATE_FILE
        if not path.exists():
            raise StateError(f"{path}: there is no such directory")
        if not file.is_file():
            raise StateError(f"{path}: not a state directory (no {STATE_FILE} in it)")
        try:
            mode = "ro" if readonly else "rw"
            connection = sqlite3.connect(f"{file.absolute().as_uri()}?mode={mode}", patience, uri=True)
            try:
                _check(connection, file)
                if not readonly:
                    _write_ahead(connection)
            except BaseException:
                connection.close()
                raise
        except sqlite3.Error as error:
            if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:
                raise StateError(f"{file}: locked by another process that writes to it; try again") from None
            raise StateError(f"{file}: damaged or unreadable ({error})") from None
        return cls(connection, readonly, path)

    def save_as(self, path: Path) -> None:
        """Write a copy as a new state directory; nothing is left behind when that fails."""
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise StateError(f"{path}: exists already and is not an empty directory")
        self.commit()
        partial = path.with_name(f".{path.name}.partial")
        try:
            partial.mkdir()
            try:
                copy = sqlite3.connect(partial / STATE_FILE)
                try:
                    self._connection.backup(copy)
                finally:
                    copy.close()
                # A registry with policies has preshared keys in clear; SQLite's other files follow this one.
                (partial / STATE_FILE).chmod(0o600)
                self._write_lines(partial)
                partial.rename(path)
            except BaseException:
                shutil.rmtree(partial)
                raise
        except (OSError, sqlite3.Error) as error:
            raise StateError(f"{path}: cannot be written ({error})") from None

    def commit(self) -> None:
        """Make what was written visible to readers of the directory."""
        self._connection.commit()
        if self._path is not None:
            try:
                self._write_lines(self._path)
            except OSError as error:
                raise StateError(f"{self._path}: cannot be written ({error})") from None
            self._lines.clear()

    def close(self) -> None:
        """Commit, fold the write-ahead log into the one file, and close; a second time does nothing."""
        if self._closed:
            return
        self._closed = True
        if not self._readonly:
            self.commit()
            # Refused while somebody reads; the reader's close then folds the log in.
            with contextlib.suppress(sqlite3.OperationalError):
                self._connection.execute("PRAGMA journal_mode = DELETE")
        self._connection.close()

    def __enter__(self) -> State:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- text files --

    def add_line(self, file: str, text: str) -> None:
        """A line at the end of a text file of the directory; it is there after the next `commit` or `save_as`."""
        self._lines.setdefault(file, []).append(text)

    def begin_file(self, file: str) -> None:
        """A text file starts anew; what it held before is in one with the ending .sav, as Windows does it."""
        if self._path is None:
            if file in self._lines:
                self._lines[f"{file}.sav"] = self._lines.pop(file)
        else:
            self.commit()
            with contextlib.suppress(FileNotFoundError):
                (self._path / file).replace(self._path / f"{file}.sav")
        self._lines[file] = []

    def _write_lines(self, folder: Path) -> None:
        for file, lines in self._lines.items():
            with (folder / file).open("a", encoding="utf-8") as out:
                out.writelines(f"{text}\n" for text in lines)

    # -- parts --

    @property
    def name(self) -> str:
        """The computer's name."""
        return str(self.meta("name"))

    def event_log(self, audit: AuditPolicy | None = None) -> EventLog:
        """The event logs in this state, written under an audit policy."""
        return EventLog(self._connection, self.name, audit)

    def meta(self, key: str) -> object:
        """A value kept by `set_meta`; None when there is none."""
        row = self._connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else json.loads(row[0])

    def set_meta(self, key: str, value: object) -> None:
        """Keep a value that JSON can express."""
        self._connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, json.dumps(value)))

    def save_associations(self, associations: Iterable[Association]) -> None:
        """Replace the snapshot of the security associations."""
        self._replace("associations", (astuple(item) for item in associations))

    def associations(self) -> tuple[Association, ...]:
        rows = self._rows("associations")
        return tuple(Association(**{**row, "soft": bool(row["soft"])}) for row in rows)

    def save_counters(self, counters: Mapping[str, int]) -> None:
        """Replace the counters; they keep the order of the mapping."""
        self._replace("counters", counters.items())

    def counters(self) -> dict[str, int]:
        return {row["name"]: row["value"] for row in self._rows("counters")}

    def save_filters(self, filters: Iterable[tuple[DriverFilter, int]]) -> None:
        """Replace the driver's filters, each with the number of packets that it matched."""
        self._replace("filters", ((*_filter_row(item), hits) for item, hits in filters))

    def filters(self) -> tuple[tuple[DriverFilter, int], ...]:
        return tuple((_filter(row), row["hits"]) for row in self._rows("filters"))

    def save_policy(self, policy: Policy | None) -> None:
        """Replace the active policy; preshared keys are not written."""
        tables = [] if policy is None else [(json.dumps(policy_to_table(policy, hide_keys=True)),)]
        self._replace("policy", tables)
        self.set_meta("policy_id", None if policy is None else str(policy.policy_id))

    def policy(self) -> Policy | None:
        """The active policy, its preshared keys replaced by "***"."""
        for row in self._rows("policy"):
            policy = policy_from_table(json.loads(row["table_json"]), self.name)
            guid = self.meta("policy_id")
            return replace(policy, guid=uuid.UUID(str(guid))) if guid else policy
        return None

    def _replace(self, table: str, rows: Iterable[Sequence[object]]) -> None:
        self._connection.execute(f"DELETE FROM {table}")
        for row in rows:
            marks = ", ".join("?" * len(row))
            self._connection.execute(f"INSERT INTO {table} VALUES ({marks})", row)

    def _rows(self, table: str) -> list[dict[str, Any]]:
        cursor = self._connection.execute(f"SELECT * FROM {table} ORDER BY rowid")
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor]


def _check(connection: sqlite3.Connection, file: Path) -> None:
    def pragma(name: str) -> object:
        return connection.execute(f"PRAGMA {name}").fetchone()[0]

    if pragma("application_id") != _APPLICATION_ID:
        raise StateError(f"{file}: not a state of ipsec_core")
    version = pragma("user_version")
    if version != SCHEMA_VERSION:
        raise StateError(f"{file}: schema version {version}; accepted: {SCHEMA_VERSION}")
    if pragma("quick_check") != "ok":
        raise StateError(f"{file}: damaged or unreadable (the integrity check failed)")


def _write_ahead(connection: sqlite3.Connection) -> None:
    """From now on, and until nobody has the file open any more."""
    for _ in range(10):
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            break
        except sqlite3.OperationalError:
            # Another process does the same, or the contrary: this pragma does not wait for it, BEGIN does.
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("COMMIT")
    # Whoever has read the log keeps others from ending it.
    connection.execute("SELECT 1 FROM meta").fetchall()


def _filter_row(item: DriverFilter) -> list[object]:
    values = (getattr(item, column) for column in _FILTER_COLUMNS)
    return [value if isinstance(value, int) or value is None else str(value) for value in values]


def _filter(row: Mapping[str, Any]) -> DriverFilter:
    values = {column: row[column] for column in _FILTER_COLUMNS}
    for column, kind in _FILTER_TYPES.items():
        if values[column] is not None:
            values[column] = kind(values[column])
    return DriverFilter(**values)
