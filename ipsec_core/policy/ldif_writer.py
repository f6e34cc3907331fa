"""LDIF content records (RFC 2849) of policy objects, as a directory server or `LdifStore` takes them."""

from __future__ import annotations

import base64
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence

from ipsec_core.policy.directory import (
    DEFAULT_DOMAIN_GPO,
    assignment_attributes,
    assignment_dn,
    container_dn,
    object_dn,
    to_attributes,
)
from ipsec_core.policy.objects import ObjectClass, ObjectName, StoredObject, by_name

_UNSAFE = re.compile(rb"[\x00\n\r\x80-\xff]")
_COLUMNS = 76
# What is referred to comes first, as far as that goes: policies and what they own refer to each other.
_ORDER = (ObjectClass.FILTER, ObjectClass.NEGOTIATION, ObjectClass.ISAKMP, ObjectClass.NFA, ObjectClass.POLICY)


def write_ldif(objects: Iterable[StoredObject], assigned: uuid.UUID | None, domain: str) -> str:
    """The file of all objects, in the domain with the DN `domain`; `assigned` goes to the Default Domain Policy."""
    container = container_dn(domain)
    known = by_name(objects)
    # Without a line for the version, which slapadd does not know and ldifde does not write.
    lines: list[str] = []
    for item in sorted(known.values(), key=lambda item: (_ORDER.index(item.object_class), item.name)):
        classes = [b"top", b"ipsecBase", item.name.class_name.encode()]
        named = {"objectClass": classes, "cn": [str(item.name).encode()]}
        lines += _record(object_dn(item.name, container), named | to_attributes(item, container))
    if assigned is not None:
        stored = known.get(ObjectName.of(ObjectClass.POLICY, assigned))
        attributes = assignment_attributes(assigned, stored, container)
        classes = [b"top", b"ipsecBase", b"ipsecPolicy"]
        named = {"objectClass": classes, "cn": [b"IPSEC"]}
        lines += _record(assignment_dn(DEFAULT_DOMAIN_GPO, domain), named | attributes)
    return "\n".join(lines)


def _record(dn: str, attributes: Mapping[str, Sequence[bytes]]) -> Iterator[str]:
    yield from _line("dn", dn.encode())
    for name, values in attributes.items():
        for value in values:
            yield from _line(name, value)
    yield ""


def _line(name: str, value: bytes) -> Iterator[str]:
    # SAFE-STRING; a space at the end would be lost on the way (RFC 2849, note 8).
    safe = not value or (value[:1] not in (b" ", b":", b"<") and value[-1:] != b" " and not _UNSAFE.search(value))
    text = f"{name}: {value.decode('ascii')}" if safe else f"{name}:: {base64.b64encode(value).decode('ascii')}"
    yield text[:_COLUMNS]
    for start in range(_COLUMNS, len(text), _COLUMNS - 1):
        yield " " + text[start : start + _COLUMNS - 1]
