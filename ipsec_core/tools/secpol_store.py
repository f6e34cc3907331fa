"""Where secpol works: the local store of a computer, a domain, or a file; read, or edited in one transaction."""

from __future__ import annotations

import socket
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from shlex import quote
from typing import ClassVar

import click

from ipsec_core.computer.state import STATE_FILE, State
from ipsec_core.errors import PolicyError
from ipsec_core.live.control import FILE as CONTROL_FILE
from ipsec_core.live.control import ask
from ipsec_core.policy.builtin import builtin_objects
from ipsec_core.policy.catalogue import Catalogue
from ipsec_core.policy.dynamic_rules import DynamicRules
from ipsec_core.policy.objects import Changes, PolicyStore, StoredObject, by_name
from ipsec_core.policy.registry_store import RegistryStore, populate
from ipsec_core.policy.storage import read_catalogue, save
from ipsec_core.tools.common import PATIENCE


class MemoryStore:
    """A `PolicyStore` that is nowhere else."""

    def __init__(self, objects: Iterable[StoredObject] = (), assigned: uuid.UUID | None = None) -> None:
        self._objects = by_name(objects)
        self._assigned = assigned

    def objects(self) -> tuple[StoredObject, ...]:
        return tuple(self._objects.values())

    def assigned(self) -> uuid.UUID | None:
        return self._assigned

    def apply(self, changes: Changes, now: int) -> None:
        gone = set(changes.delete)
        kept = {name: item for name, item in self._objects.items() if name not in gone}
        self._objects = kept | by_name(changes.put)
        if changes.assign is not ...:
            self._assigned = changes.assign


class Place(ABC):
    """A store; what is done in `writing` is there when that ends well, and nothing of it otherwise."""

    is_domain: ClassVar[bool] = False

    @abstractmethod
    def reading(self) -> AbstractContextManager[PolicyStore]: ...

    @abstractmethod
    def writing(self) -> AbstractContextManager[PolicyStore]: ...

    @abstractmethod
    def after_change(self) -> str | None:
        """What people should know about when a change counts."""

    def push(self, where: str, dynamic: Sequence[DynamicRules]) -> None:
        """Rules for a computer that runs, without a store."""
        raise PolicyError(f"{where}: without -w, rules are for an agent that runs; accepted: --state DIR, or -w -p -r")


class Nowhere(Place):
    """Not said; which matters only when somebody wants to look."""

    def reading(self) -> AbstractContextManager[PolicyStore]:
        raise click.UsageError("--state DIR, --ldap URL or --file FILE is missing: where the policies are")

    def writing(self) -> AbstractContextManager[PolicyStore]:
        return self.reading()

    def after_change(self) -> str | None:
        return None


@dataclass(frozen=True, slots=True)
class StatePlace(Place):
    """The local store of a computer; a state directory or a store that is not there yet begins with the built-ins."""

    directory: Path

    @contextmanager
    def reading(self) -> Iterator[PolicyStore]:
        with State.open(self.directory, patience=PATIENCE) as state:
            store = RegistryStore(state.registry)
            yield store if store.exists else MemoryStore(builtin_objects())

    @contextmanager
    def writing(self) -> Iterator[PolicyStore]:
        directory = self.directory
        is_new = not (directory / STATE_FILE).exists() and (
            not directory.exists() or (directory.is_dir() and not any(directory.iterdir()))
        )
        if is_new:
            with State.memory(socket.gethostname()) as state:
                yield _populated(state)
                directory.resolve().parent.mkdir(parents=True, exist_ok=True)
                state.save_as(directory.resolve())
            return
        with (
            State.open(directory, readonly=False, patience=PATIENCE) as state,
            # From the first look to the last change: two who edit one registry wait for each other.
            state.registry.transaction(),
        ):
            yield _populated(state)

    def after_change(self) -> str | None:
        if not (self.directory / CONTROL_FILE).exists():
            return None
        return f"a running agent takes the change on: ipsec-core net update --state {quote(str(self.directory))}"

    def push(self, where: str, dynamic: Sequence[DynamicRules]) -> None:
        whole = reduce(lambda former, rules: rules.after(former), dynamic)
        ask(self.directory, "push", rules=whole.to_table())


@contextmanager
def reading(place: Place) -> Iterator[Catalogue]:
    """The policies of a place, to look at."""
    with place.reading() as store:
        yield read_catalogue(store)


@contextmanager
def editing(place: Place) -> Iterator[Catalogue]:
    """The policies of a place, to change; saved at the end, all or nothing. What is advised against is said."""
    with place.writing() as store:
        catalogue = read_catalogue(store)
        before = _warnings(catalogue)
        yield catalogue
        save(catalogue, store, now())
    for line in _warnings(catalogue):
        if line not in before:
            click.echo(f"warning: {line}", err=True)
    tell(place)


def tell(place: Place) -> None:
    """After a change."""
    line = place.after_change()
    if line is not None:
        click.echo(line, err=True)


def now() -> int:
    """Seconds since 1970."""
    return int(time.time())


def _populated(state: State) -> RegistryStore:
    store = RegistryStore(state.registry)
    populate(store, now())
    return store


def _warnings(catalogue: Catalogue) -> dict[str, None]:
    """In order."""
    return {f"policy {policy.name!r}, {line}": None for policy in catalogue.policies for line in policy.warnings()}
