"""Files that secpol reads and writes, told apart by their suffix.

.reg         the local store as the Registry Editor exports it       whole stores: the same objects, with GUIDs
.ldif        the container of a domain as ldifde, ldapsearch write it
.json        all policies, filter lists and filter actions by name   the same policies, new objects
.toml        one policy, as scenarios use it
.netsh .txt  a script of netsh ipsec static
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import TypeVar

from ipsec_core.computer import reg_file
from ipsec_core.computer.registry import full_path
from ipsec_core.computer.state import State
from ipsec_core.errors import PolicyError, RegistryError
from ipsec_core.policy.catalogue import Catalogue
from ipsec_core.policy.directory import LdifStore
from ipsec_core.policy.ldif_writer import write_ldif
from ipsec_core.policy.model import FilterAction, Policy, Rule
from ipsec_core.policy.netsh_writer import write, write_all
from ipsec_core.policy.objects import Changes, ObjectClass, ObjectName, PolicyStore, StoredObject, by_name, guid_text
from ipsec_core.policy.registry_store import RegistryStore
from ipsec_core.policy.selectors import FilterList
from ipsec_core.policy.storage import read_catalogue, save
from ipsec_core.policy.toml import StoreTable, policy_from_table, read_toml, store_from_table, store_to_table
from ipsec_core.policy.toml_writer import policy_to_toml
from ipsec_core.tools.secpol_store import MemoryStore, Place, now

_Item = TypeVar("_Item", FilterList, FilterAction)

OBJECT_SUFFIXES = (".reg", ".ldif")
TABLE_SUFFIXES = (".toml", ".json")
SCRIPT_SUFFIXES = (".netsh", ".txt")
_EDITED_SUFFIXES = (".reg", ".json")
_STORE_SUFFIXES = OBJECT_SUFFIXES + TABLE_SUFFIXES
SUFFIXES = _STORE_SUFFIXES + SCRIPT_SUFFIXES

# Objects of a file that has no GUIDs have the same whenever it is read.
_NAMESPACE = uuid.UUID("0f5d3f0c-5a39-5e0b-8a4e-3e9e6a1c7f11")


def suffix_of(path: Path, accepted: tuple[str, ...] = SUFFIXES) -> str:
    """In lower case; PolicyError when it is none of those."""
    suffix = path.suffix.lower()
    if suffix not in accepted:
        raise PolicyError(f"{path}: the suffix says what the file is; accepted: {', '.join(accepted)}")
    return suffix


@dataclass(frozen=True, slots=True)
class FilePlace(Place):
    """A file as a store. Written as a whole, and so only where nothing is lost that the store does not have."""

    path: Path

    @contextmanager
    def reading(self) -> Iterator[PolicyStore]:
        yield read_store(self.path)

    @contextmanager
    def writing(self) -> Iterator[PolicyStore]:
        suffix = suffix_of(self.path, _STORE_SUFFIXES)
        if suffix not in _EDITED_SUFFIXES:
            accepted = f"--file with {' or '.join(_EDITED_SUFFIXES)}, --state, --ldap"
            raise PolicyError(f"{self.path}: a {suffix} file is only read; accepted: {accepted}")
        store = read_store(self.path, whole=True)
        yield store
        write_store(self.path, store)

    def after_change(self) -> str | None:
        return None


# ---- reading --------------------------------------------------------------------------------------------------------


def read_store(path: Path, *, whole: bool = False) -> MemoryStore:
    """The store that a file describes; `whole` refuses a file that has something else besides."""
    suffix = suffix_of(path, _STORE_SUFFIXES)
    if suffix == ".ldif":
        found = LdifStore(path)
        return MemoryStore(found.objects(), found.assigned())
    if suffix == ".reg":
        return _read_reg(path, whole)
    numbers = count()
    catalogue = Catalogue(new_guid=lambda: uuid.uuid5(_NAMESPACE, str(next(numbers))))
    put_tables(catalogue, read_tables(path), str(path), replacing=False)
    store = MemoryStore()
    save(catalogue, store, 0)
    return store


def _read_reg(path: Path, whole: bool) -> MemoryStore:
    """Of a whole machine's registry only what the local policy store has."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise RegistryError(f"{path}: {error.strerror}; accepted: a file of the Registry Editor") from None
    with State.memory("") as state:
        store = RegistryStore(state.registry)
        operations: list[reg_file.Operation] = []
        for one in reg_file.parse(data, str(path)):
            written = isinstance(one, reg_file.CreateKey | reg_file.SetValue)
            if _is_below(one.key, str(store)) and (written or not whole):
                operations.append(one)
            elif whole:
                if not written:
                    raise PolicyError(f"{one.where}: a deletion would be lost; accepted: keys and values")
                raise PolicyError(f"{one.where}: {one.key} is outside of the policies; accepted below: {store}")
        reg_file.apply(state.registry, operations)
        try:
            return MemoryStore(store.objects(), store.assigned())
        except PolicyError as error:
            raise PolicyError(f"{path}: {error}") from None


def _is_below(key: str, root: str) -> bool:
    try:
        return f"{full_path(key)}\\".casefold().startswith(f"{root}\\".casefold())
    except RegistryError:
        return False


def read_tables(path: Path) -> StoreTable:
    """The policy of a TOML file; of a JSON file that, or a whole store."""
    if suffix_of(path, TABLE_SUFFIXES) == ".toml":
        return StoreTable((policy_from_table(read_toml(path, "a policy", PolicyError), str(path)),))
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise PolicyError(f"{path}: {error.strerror}; accepted: policies (JSON)") from None
    except (ValueError, RecursionError) as error:
        raise PolicyError(f"{path}: not JSON: {error}") from None
    if not isinstance(document, dict):
        raise PolicyError(f"{path}: not a policy; accepted: an object with policies, or with name and rules")
    if "policies" in document:
        return store_from_table(document, str(path))
    return StoreTable((policy_from_table(document, str(path)),))


def read_script(path: Path | None, what: str) -> str:
    """Text of a file, None is stdin; `what` says in errors what it should be."""
    place = path or "stdin"
    try:
        return _decoded(path.read_bytes() if path is not None else sys.stdin.buffer.read())
    except OSError as error:
        raise PolicyError(f"{place}: {error.strerror}; accepted: {what}") from None
    except UnicodeDecodeError:
        raise PolicyError(f"{place}: not text; accepted: {what}, in UTF-8 or UTF-16") from None


def _decoded(data: bytes) -> str:
    """As Notepad writes it, UTF-16 with a byte order mark, or UTF-8."""
    return data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")


# ---- into a store ---------------------------------------------------------------------------------------------------


def put_objects(store: PolicyStore, found: MemoryStore, where: str) -> None:
    """All objects of `found`, in place of those of the same GUID; with its assignment, if it has one."""
    try:
        read_catalogue(found)
    except PolicyError as error:
        raise PolicyError(f"{where}: {error}") from None
    incoming = by_name(found.objects())
    if not incoming and found.assigned() is None:
        raise PolicyError(f"{where}: no policy objects in it; accepted: a file with policies")
    # Rules that are there already and use an object that comes: it has to know its way back to them.
    users: dict[ObjectName, list[ObjectName]] = {}
    for item in store.objects():
        if item.name not in incoming:
            for name in item.references:
                users.setdefault(name, []).append(item.name)
    put = tuple(
        replace(item, owners=tuple(dict.fromkeys((*item.owners, *users.get(name, ())))))
        for name, item in incoming.items()
    )
    assigned = found.assigned()
    store.apply(Changes(put, assign=... if assigned is None else assigned), now())


def put_tables(catalogue: Catalogue, tables: StoreTable, where: str, *, replacing: bool) -> None:
    """All that a document has; what is there by the same name is replaced, or refused if not `replacing`."""
    try:
        for policy in tables.policies:
            put_policy(catalogue, policy, replacing=replacing)
        for item in tables.filter_lists:
            old = _of_name(catalogue.filter_lists, item.name) if replacing else None
            if old is None:
                catalogue.add_filter_list(item)
            else:
                catalogue.replace_filter_list(_key(old), item)
        for action in tables.filter_actions:
            known = _of_name(catalogue.filter_actions, action.name) if replacing else None
            if known is None:
                catalogue.add_filter_action(action)
            else:
                catalogue.replace_filter_action(_key(known), action)
        if tables.assigned is not None:
            catalogue.assign(tables.assigned)
    except PolicyError as error:
        raise PolicyError(f"{where}: {error}") from None


def put_policy(catalogue: Catalogue, policy: Policy, *, replacing: bool) -> None:
    """Adds a policy that may be there. A replaced one, and its rules of the same name, remain the same objects."""
    old = next((one for one in catalogue.policies if one.name.casefold() == policy.name.casefold()), None)
    if old is None:
        catalogue.add_policy(policy)
        return
    if not replacing:
        raise PolicyError(f"there is a policy {old.name!r} already; accepted: another name, or --replace")
    before = list(old.rules)
    rules: list[Rule] = []
    for rule in policy.rules:
        known = next((one for one in before if _same_place(one, rule)), None)
        if known is not None:
            before.remove(known)
        rules.append(_adopted(catalogue, old, rule, known))
    exchange = replace(policy.key_exchange, guid=old.key_exchange.guid)
    catalogue.replace_policy(_key(old), replace(policy, rules=tuple(rules), key_exchange=exchange))
    drop_unnamed(catalogue, old.rules)


def _same_place(old: Rule, new: Rule) -> bool:
    return (old.filter_list is None) == (new.filter_list is None) and old.name.casefold() == new.name.casefold()


def _adopted(catalogue: Catalogue, policy: Policy, rule: Rule, known: Rule | None) -> Rule:
    """The rule with the GUIDs of what it replaces."""
    filters, action = rule.filter_list, rule.filter_action
    if filters is not None:
        mine = known.filter_list if known is not None else None
        filters = _replacing("filter list", catalogue, policy, catalogue.filter_lists, filters, mine)
    if rule.filter_list is None and known is not None:
        action = replace(action, guid=known.filter_action.guid)
    else:
        mine_too = known.filter_action if known is not None else None
        action = _replacing("filter action", catalogue, policy, catalogue.filter_actions, action, mine_too)
    return replace(rule, filter_list=filters, filter_action=action, guid=known.guid if known is not None else None)


def _replacing(
    what: str, catalogue: Catalogue, policy: Policy, items: tuple[_Item, ...], item: _Item, mine: _Item | None
) -> _Item:
    old = _of_name(items, item.name) if item.name else mine if mine is not None and not mine.name else None
    if old is None:
        return item
    others = [user.name for user, _ in catalogue.users(old) if user.guid != policy.guid]
    if others and old != item:
        users = ", ".join(repr(name) for name in dict.fromkeys(others))
        raise PolicyError(f"the {what} {item.name!r} says something else than the store's, which {users} has too")
    return replace(item, guid=old.guid)


def _of_name(items: tuple[_Item, ...], name: str) -> _Item | None:
    return next((item for item in items if name and item.name.casefold() == name.casefold()), None)


def _key(item: Policy | FilterList | FilterAction) -> str:
    assert item.guid is not None
    return guid_text(item.guid)


def drop_unnamed(catalogue: Catalogue, rules: Iterable[Rule]) -> None:
    """Filter lists and actions without a name belong to the rule that has them, and go when no rule has them."""
    for rule in rules:
        filters, action = rule.filter_list, rule.filter_action
        if filters is not None and not filters.name and _is_left(filters, catalogue.filter_lists, catalogue):
            catalogue.delete_filter_list(_key(filters))
        if not action.name and _is_left(action, catalogue.filter_actions, catalogue):
            catalogue.delete_filter_action(_key(action))


def _is_left(item: _Item, items: tuple[_Item, ...], catalogue: Catalogue) -> bool:
    return any(one.guid == item.guid for one in items) and not catalogue.users(item)


# ---- writing --------------------------------------------------------------------------------------------------------


def write_store(path: Path, store: PolicyStore, policy: str | None = None, domain: str | None = None) -> None:
    """The whole store, or one policy with what it uses, as the file that the suffix of `path` says."""
    suffix = suffix_of(path)
    if suffix in OBJECT_SUFFIXES:
        objects, assigned = store.objects(), store.assigned()
        if policy is not None:
            found = read_catalogue(store).policy(policy)
            objects = _of_policy(objects, found)
            assigned = assigned if assigned == found.guid else None
        if suffix == ".reg":
            data = _reg_bytes(objects, assigned)
        elif domain is None:
            raise PolicyError(f"{path}: an LDIF file names a domain; accepted: --domain DC=example,DC=com")
        else:
            data = write_ldif(objects, assigned, domain).encode()
    else:
        data = _text(path, suffix, read_catalogue(store), policy).encode()
    write_file(path, data)


def _text(path: Path, suffix: str, catalogue: Catalogue, name: str | None) -> str:
    if suffix == ".toml":
        return policy_to_toml(_the_policy(path, catalogue, name))
    if suffix in SCRIPT_SUFFIXES:
        return write_all(catalogue) if name is None else write(catalogue.policy(name))
    if name is not None:
        tables = StoreTable((catalogue.policy(name),))
    else:
        tables = StoreTable(
            catalogue.policies,
            tuple(item for item in catalogue.filter_lists if not catalogue.users(item)),
            tuple(item for item in catalogue.filter_actions if not catalogue.users(item)),
            catalogue.assigned.name if catalogue.assigned is not None else None,
        )
    return json.dumps(store_to_table(tables), indent=2, ensure_ascii=False) + "\n"


def _the_policy(path: Path, catalogue: Catalogue, name: str | None) -> Policy:
    if name is not None:
        return catalogue.policy(name)
    if len(catalogue.policies) != 1:
        names = ", ".join(repr(policy.name) for policy in catalogue.policies) or "there is none"
        raise PolicyError(f"{path}: a TOML file holds one policy; accepted: {names}")
    return catalogue.policies[0]


def _of_policy(objects: tuple[StoredObject, ...], policy: Policy) -> tuple[StoredObject, ...]:
    """A policy and what it refers to, which then knows no other owners."""
    known = by_name(objects)
    assert policy.guid is not None
    found: dict[ObjectName, StoredObject] = {}
    todo = [ObjectName.of(ObjectClass.POLICY, policy.guid)]
    while todo:
        name = todo.pop()
        if name in known and name not in found:
            found[name] = known[name]
            todo += known[name].references
    return tuple(
        replace(item, owners=tuple(one for one in item.owners if one in found))
        for item in objects
        if item.name in found
    )


def _reg_bytes(objects: Iterable[StoredObject], assigned: uuid.UUID | None) -> bytes:
    with State.memory("") as state:
        store = RegistryStore(state.registry)
        store.apply(Changes(assign=assigned), 0)
        for item in objects:
            store.apply(Changes((item,)), item.when_changed)
        return reg_file.encode(reg_file.export(state.registry, str(store)))


def write_file(path: Path, data: bytes) -> None:
    """All of it or nothing; for its owner alone, since policies have keys in them."""
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        partial = Path(name)
        try:
            with os.fdopen(handle, "wb") as out:
                out.write(data)
            partial.replace(path)
        except BaseException:
            partial.unlink()
            raise
    except OSError as error:
        raise PolicyError(f"{path}: {error.strerror}; accepted: a file that can be written") from None
