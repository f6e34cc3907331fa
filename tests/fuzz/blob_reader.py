"""The ipsecData of policy objects, for fuzz_blobs.py.

The first byte of an input says which object of Server (Request Security) gets a blob: from 0 on what follows, from 128
on its own with what follows XORed onto it, so that the fuzzer need not find one. What must hold: only PolicyError comes
out, in one line that names an object; what decodes encodes to the same bytes; what the integrity check passes can be
read, and saving it writes nothing; a policy that was read can be written under new GUIDs and means the same.
"""

from __future__ import annotations

import itertools
import uuid
from dataclasses import replace

from ipsec_core.errors import PolicyError
from ipsec_core.policy.blobs import decode, encode
from ipsec_core.policy.builtin import builtin_objects
from ipsec_core.policy.catalogue import Catalogue
from ipsec_core.policy.integrity import check, repair
from ipsec_core.policy.model import Policy
from ipsec_core.policy.objects import Changes, ObjectClass, ObjectName, StoredObject, by_name
from ipsec_core.policy.storage import read_catalogue, read_policy, save

OWN = 128
POLICY = uuid.UUID("72385230-70FA-11D1-864C-14A300000000")


def _objects() -> tuple[StoredObject, ...]:
    """Those of one built-in policy, and the one that no policy refers to."""
    known = by_name(builtin_objects())
    policy = known[ObjectName.of(ObjectClass.POLICY, POLICY)]
    names = [policy.name, *policy.references, *(name for rule in policy.nfas for name in known[rule].references)]
    names += [name for name, item in known.items() if item.display_name == "Version Information Object"]
    return tuple(
        replace(known[name], owners=tuple(one for one in known[name].owners if one in names)) for name in names
    )


OBJECTS = _objects()


class Broken(AssertionError):
    """Something that must hold does not."""


class Kept:
    """A store that nothing is written to but what `save` gives."""

    def __init__(self, objects: tuple[StoredObject, ...]) -> None:
        self._objects = objects
        self.given = Changes()

    def objects(self) -> tuple[StoredObject, ...]:
        return self._objects

    def assigned(self) -> uuid.UUID | None:
        return None

    def apply(self, changes: Changes, now: int) -> None:
        self.given = changes
        self._objects = changes.put


def blob_of(data: bytes) -> tuple[StoredObject, bytes]:
    """The object that an input is about, and its new blob."""
    number, rest = (data[0], data[1:]) if data else (0, b"")
    item = OBJECTS[number % OWN % len(OBJECTS)]
    if number < OWN:
        return item, rest
    return item, bytes(a ^ b for a, b in itertools.zip_longest(item.data, rest, fillvalue=0))


def read(data: bytes) -> bool:
    """Whether the blob is one, and all the rest holds."""
    item, blob = blob_of(data)
    objects = tuple(replace(one, data=blob) if one is item else one for one in OBJECTS)
    try:
        again = encode(decode(blob))
    except PolicyError as error:
        _one_line(str(error))
        again = None
    if again not in (None, blob):
        raise Broken("a blob came back as something else")
    problems = check(objects)
    for problem in problems:
        _one_line(str(problem))
    if repair(objects):
        raise Broken("links are repaired that no blob can break")
    policy = _policy(objects)
    if not problems:
        store = Kept(objects)
        if policy is None:
            raise Broken("the check passes a policy that cannot be read")
        if save(read_catalogue(store), store, 1):
            raise Broken("saving what was read has written something")
    if policy is not None:
        _written_anew(policy)
    return again is not None


def _one_line(text: str) -> None:
    if "\n" in text or not text:
        raise Broken(f"not one line: {text!r}")


def _policy(objects: tuple[StoredObject, ...]) -> Policy | None:
    try:
        return read_policy(objects, POLICY)
    except PolicyError as error:
        _one_line(str(error))
        if not any(str(error).startswith(f"{one.name}: ") for one in objects):
            raise Broken(f"no object in front: {error}") from None
        return None


def _written_anew(policy: Policy) -> None:
    numbers = itertools.count(1)
    catalogue = Catalogue(new_guid=lambda: uuid.UUID(int=next(numbers)))
    bare = replace(
        policy,
        guid=None,
        key_exchange=replace(policy.key_exchange, guid=None),
        rules=tuple(
            replace(
                rule,
                guid=None,
                filter_list=rule.filter_list and replace(rule.filter_list, guid=None),
                filter_action=replace(rule.filter_action, guid=None),
            )
            for rule in policy.rules
        ),
    )
    store = Kept(())
    catalogue.add_policy(bare)
    save(catalogue, store, 1)
    if check(store.objects()) or read_catalogue(store).policies != (policy,):
        raise Broken("a policy written anew says something else")
