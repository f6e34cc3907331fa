"""Where a simulated computer's policy comes from: `policy` of a computer in a scenario.

    policy = "Lab"                                  a policy of the scenario, by name
    policy = "Secure Server (Require Security)"     a built-in one
    policy = "office.toml"                          a policy in a file of its own
    policy = "server.reg"                           a registry export: all of it is imported, the assigned policy counts
    policy = "domain.ldif"                          policies of a domain, exported from its directory
    policy = "ldap://dc.example.com"                the same from the directory itself, when the scenario is loaded
    policy = { from = "domain.ldif", name = "..." } another one than the one that is assigned there
    policy = { from = "ldap://dc.example.com", user = "bob@example.com", password_file = "bob.txt", ca_file = "ca.pem" }

Those of a domain reach the computer as Group Policy does. File names count from the scenario's folder.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ipsec_core.computer.reg_file import Operation, apply, parse
from ipsec_core.computer.state import State
from ipsec_core.errors import IpsecError, PolicyError
from ipsec_core.policy.agent import Directory, Reading
from ipsec_core.policy.builtin import BUILTIN_NAMES, builtin_policy
from ipsec_core.policy.directory import LdifStore
from ipsec_core.policy.model import Policy
from ipsec_core.policy.objects import Changes, ObjectClass, ObjectName, PolicyStore, by_name
from ipsec_core.policy.registry_store import RegistryStore
from ipsec_core.policy.storage import read_policy
from ipsec_core.policy.toml import policy_from_table, read_toml

# Reads a directory at an address "ldap://...", as whom; whoever may open a socket hands it in.
ReadDirectory = Callable[[str, "Login"], Reading]

_ADDRESSES = ("ldap://", "ldaps://")
_FILES = (".toml", ".reg", ".ldif")


@dataclass(frozen=True, slots=True)
class Login:
    """Who asks a directory (nobody: anonymous), and the authority whose certificates it has to have (none: anyone that
    the system knows)."""

    user: str = ""
    password_file: Path | None = None
    ca_file: Path | None = None


@dataclass(frozen=True, slots=True)
class PolicySource:
    """`policy` will be in effect, None: none. It is handed to the computer, or comes to it on another way.

    That is what an import writes into its `registry`, or the `reading` of a domain called `domain`.
    """

    policy: Policy | None = None
    registry: tuple[Operation, ...] = ()
    assign: uuid.UUID | None = None
    reading: Reading | None = None
    domain: str = ""

    @property
    def given(self) -> Policy | None:
        """What the computer is handed as its local policy."""
        return None if self.registry or self.reading else self.policy

    def prepare(self, state: State) -> None:
        """Writes what the registry of the computer is to have."""
        apply(state.registry, self.registry)
        if self.assign is not None:
            RegistryStore(state.registry).apply(Changes(assign=self.assign), 0)


class Unchanging(Directory):
    """A domain that always says the same."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading

    def read(self, since: Reading | None = None) -> Reading:
        return self._reading


@dataclass(frozen=True, slots=True)
class Sources:
    """What a scenario's computers may name: its `own` policies, files of its folder, a directory."""

    own: Mapping[str, Policy]
    folder: Path
    directory: ReadDirectory | None

    def find(self, wanted: str, name: str = "", login: Login | None = None) -> PolicySource:
        """`name` chooses another policy of a registry, domain or directory. IpsecError, one line."""
        if wanted.startswith(_ADDRESSES):
            if self.directory is None:
                raise PolicyError(f"{wanted!r}: no directory is asked here; accepted: a file, or the name of a policy")
            return _of_domain(self.directory(wanted, login or Login()), wanted, name)
        if login not in (None, Login()):
            raise PolicyError(
                f"{wanted!r} asks nobody to log on; user, password_file, ca_file are accepted beside ldap://"
            )
        file = self.folder / wanted
        suffix = file.suffix.lower()
        if suffix == ".ldif":
            store = LdifStore(file)
            return _of_domain(_reading(store), str(file), name)
        if suffix == ".reg":
            return _of_registry(file, name)
        if name:
            raise PolicyError(f"name: {wanted!r} is one policy; accepted: beside a .reg or .ldif file, or ldap://")
        if suffix == ".toml":
            return PolicySource(policy_from_table(read_toml(file, "a policy file", PolicyError), str(file)))
        return PolicySource(self.own.get(wanted) or _built_in(wanted, self.own))


def _built_in(wanted: str, own: Mapping[str, Policy]) -> Policy:
    if wanted.casefold() not in map(str.casefold, BUILTIN_NAMES):
        accepted = ", ".join((*own, *BUILTIN_NAMES, *(f"a {end} file" for end in _FILES), *_ADDRESSES))
        raise PolicyError(f"{wanted!r} is not known; accepted: {accepted}")
    return builtin_policy(wanted)


def _of_domain(reading: Reading, place: str, name: str) -> PolicySource:
    if name:
        reading = replace(reading, assigned=_chosen(reading, place, name))
    if reading.assigned is None:
        raise PolicyError(f"{place}: no policy is assigned there; accepted: {_choice(reading)}")
    return PolicySource(_read(reading, place), reading=reading, domain=place)


def _of_registry(file: Path, name: str) -> PolicySource:
    try:
        operations = parse(file.read_bytes(), str(file))
    except OSError as error:
        raise PolicyError(f"{file}: {error.strerror}; accepted: a .reg file") from None
    with State.memory("check") as state:
        apply(state.registry, operations)
        store = RegistryStore(state.registry)
        reading = _reading(store)
    assign = _chosen(reading, str(file), name) if name else None
    reading = replace(reading, assigned=assign or reading.assigned)
    policy = _read(reading, str(file)) if reading.assigned else None
    return PolicySource(policy, registry=operations, assign=assign)


def _reading(store: PolicyStore) -> Reading:
    return Reading("", store.assigned(), store.objects())


def _read(reading: Reading, place: str) -> Policy:
    assert reading.assigned is not None
    wanted = ObjectName.of(ObjectClass.POLICY, reading.assigned)
    if wanted not in by_name(reading.objects):
        raise PolicyError(f"{place}: {wanted} is assigned, but is not there; accepted: {_choice(reading)}")
    try:
        return read_policy(reading.objects, reading.assigned)
    except IpsecError as error:
        raise PolicyError(f"{place}: {error}") from None


def _chosen(reading: Reading, place: str, name: str) -> uuid.UUID:
    for item in reading.objects:
        if item.object_class is ObjectClass.POLICY and item.display_name.casefold() == name.casefold():
            return item.guid
    raise PolicyError(f"{place}: there is no policy {name!r}; accepted: {_names(reading)}")


def _choice(reading: Reading) -> str:
    has = any(item.object_class is ObjectClass.POLICY for item in reading.objects)
    return ("{ from = ..., name = ... } with one of " if has else "") + _names(reading)


def _names(reading: Reading) -> str:
    found = [item.display_name for item in reading.objects if item.object_class is ObjectClass.POLICY]
    return ", ".join(map(repr, found)) or "a file with policies"
