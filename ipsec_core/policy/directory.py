"""Policy objects as a directory keeps them: entries of an LDAP server or of an LDIF file <-> StoredObjects.

The container is CN=IP Security,CN=System of a domain; a GPO is assigned a policy by an object of its own ([MS-GPIPSEC]
2.2.1, 3.1.5). Names of attributes are given in lower case on reading, values as the octets of the directory.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeAlias

from ipsec_core.errors import PolicyError
from ipsec_core.policy.ldif import Entry, read_ldif
from ipsec_core.policy.objects import (
    DATA_TYPES,
    DIRECTORY_DATA_TYPE,
    Changes,
    ObjectClass,
    ObjectName,
    StoredObject,
    guid_text,
    parse_guid,
)

# The Default Domain Policy, which every domain has.
DEFAULT_DOMAIN_GPO = uuid.UUID("31B2F340-016D-11D2-945F-00C04FB984F9")

OWNERS = "ipsecOwnersReference"
_NAME, _DESCRIPTION = "ipsecName", "description"
# What a search asks for; modifyTimestamp is whenChanged outside of Active Directory.
READ = (
    "objectClass",
    "cn",
    _NAME,
    _DESCRIPTION,
    "ipsecID",
    "ipsecDataType",
    "ipsecData",
    "ipsecISAKMPReference",
    "ipsecNFAReference",
    "ipsecNegotiationPolicyReference",
    "ipsecFilterReference",
    OWNERS,
    "iPSECNegotiationPolicyAction",
    "iPSECNegotiationPolicyType",
    "whenChanged",
    "modifyTimestamp",
)
CONDITION = "(|" + "".join(f"(objectClass={item.value})" for item in ObjectClass) + ")"

# Possessive: nobody's DN makes this take more than linear time.
_RDN = re.compile(r"\s*+cn\s*+=((?:\\.|[^\\,+])*+)(?:,|$)", re.IGNORECASE | re.DOTALL)
_ESCAPED = re.compile(r"\\([0-9A-Fa-f]{2}|.)", re.DOTALL)
# Active Directory renames what is deleted, in the references to it as well ([MS-ADTS] 3.1.1.5.5).
_DELETED = re.compile(r"\nDEL:.*", re.DOTALL)
_TIME = re.compile(r"(\d{10})(\d\d)?(\d\d)?(?:[.,]\d+)?(Z|[+-]\d\d(?:\d\d)?)", re.ASCII)
_ASSIGNMENT = re.compile(r"cn=ipsec,cn=windows,cn=microsoft,cn=machine,cn=(\{[^,]*\}),cn=policies,cn=system,")

Values: TypeAlias = Mapping[str, Sequence[bytes]]


# --- names ---


def container_dn(domain: str) -> str:
    return f"CN=IP Security,CN=System,{domain}"


def gpo_dn(gpo: uuid.UUID, domain: str) -> str:
    return f"CN={guid_text(gpo)},CN=Policies,CN=System,{domain}"


def assignment_dn(gpo: uuid.UUID, domain: str) -> str:
    return f"CN=IPSEC,CN=Windows,CN=Microsoft,CN=Machine,{gpo_dn(gpo, domain)}"


def object_dn(name: ObjectName, container: str) -> str:
    return f"CN={name},{container}"


def parse_dn(dn: str) -> ObjectName:
    """The object that a DN names, wherever it is, deleted or not; PolicyError if it is no policy object's."""
    match = _RDN.match(dn)
    if match is None:
        raise PolicyError(f"{dn!r} is not the DN of a policy object; accepted: CN=ipsecNFA{{GUID}},CN=IP Security,...")
    value = _ESCAPED.sub(lambda part: chr(int(part[1], 16)) if len(part[1]) == 2 else part[1], match[1])
    return ObjectName.parse(_DELETED.sub("", value).strip())


def _shown(dn: str) -> str:
    """Fit for one line."""
    return dn if dn.isprintable() and len(dn) <= 300 else ascii(dn[:300])


# --- times ---


def parse_time(text: str) -> int:
    """GeneralizedTime (RFC 4517 3.3.13), "20001231235959.0Z", as seconds since 1970."""
    match = _TIME.fullmatch(text)
    try:
        if match is None:
            raise ValueError
        moment = datetime.strptime(match[1] + (match[2] or "00") + (match[3] or "00"), "%Y%m%d%H%M%S")
        zone = match[4]
        ahead = timedelta() if zone == "Z" else timedelta(hours=int(zone[1:3]), minutes=int(zone[3:] or 0))
        return int(((moment + ahead if zone[0] == "-" else moment - ahead).replace(tzinfo=UTC)).timestamp())
    except (ValueError, OverflowError):
        raise PolicyError(f"{text!r} is not a time; accepted: 20001231235959.0Z") from None


# --- objects ---


def from_entry(dn: str, values: Values) -> StoredObject:
    """An entry with what READ names, keys in lower case. PolicyError: "entry DN: what"."""
    try:
        return _from_entry(dn, values)
    except PolicyError as error:
        raise PolicyError(f"entry {_shown(dn)}: {error}") from None


def _from_entry(dn: str, values: Values) -> StoredObject:
    name = parse_dn(dn)
    if name.class_name.lower().encode() not in {value.lower() for value in values.get("objectclass", ())}:
        raise PolicyError(f"objectClass is not {name.class_name}, as its name says")
    data = _octets(values, "ipsecData")
    number = _text(values, "ipsecDataType")
    if data is None or number is None:
        raise PolicyError(f"has no {'ipsecDataType' if number is None else 'ipsecData'}")
    changed = _text(values, "whenChanged") or _text(values, "modifyTimestamp")
    return StoredObject(
        name=name,
        data=data,
        data_type=_data_type(number),
        display_name=_text(values, _NAME) or "",
        description=_text(values, _DESCRIPTION) or "",
        when_changed=parse_time(changed) if changed else 0,
        isakmp=_reference(values, "ipsecISAKMPReference"),
        nfas=_references(values, "ipsecNFAReference"),
        negotiation=_reference(values, "ipsecNegotiationPolicyReference"),
        filters=_references(values, "ipsecFilterReference"),
        owners=_references(values, OWNERS),
        action=_guid(values, "iPSECNegotiationPolicyAction"),
        kind=_guid(values, "iPSECNegotiationPolicyType"),
    )


def to_attributes(item: StoredObject, container: str) -> dict[str, list[bytes]]:
    """All of the object's attributes but cn, objectClass and what the server sets; [] for one that it has not."""

    def dns(*names: ObjectName | None) -> list[bytes]:
        return [object_dn(name, container).encode() for name in names if name is not None]

    def text(value: str) -> list[bytes]:
        return [value.encode()] if value else []

    return {
        _NAME: text(item.display_name),
        _DESCRIPTION: text(item.description),
        "ipsecID": text(guid_text(item.guid)),
        "ipsecDataType": text(str(DIRECTORY_DATA_TYPE)),
        "ipsecData": [item.data],
        "ipsecISAKMPReference": dns(item.isakmp),
        "ipsecNFAReference": dns(*item.nfas),
        "ipsecNegotiationPolicyReference": dns(item.negotiation),
        "ipsecFilterReference": dns(*item.filters),
        OWNERS: dns(*item.owners),
        "iPSECNegotiationPolicyAction": text(guid_text(item.action) if item.action else ""),
        "iPSECNegotiationPolicyType": text(guid_text(item.kind) if item.kind else ""),
    }


def assignment_attributes(policy: uuid.UUID, stored: StoredObject | None, container: str) -> dict[str, list[bytes]]:
    """Of the object that assigns `policy` to a GPO; its name and description are for people."""
    name = ObjectName.of(ObjectClass.POLICY, policy)
    shown = to_attributes(stored, container) if stored else {}
    return {OWNERS: [object_dn(name, container).encode()]} | {key: shown.get(key, []) for key in (_NAME, _DESCRIPTION)}


def assigned_policy(dn: str, values: Values) -> uuid.UUID:
    """The policy that an assignment object names, whether it exists or not."""
    try:
        owners = _references(values, OWNERS)
        if len(owners) != 1 or owners[0].object_class is not ObjectClass.POLICY:
            raise PolicyError(f"{OWNERS} names {', '.join(map(str, owners)) or 'nothing'}; accepted: one policy")
    except PolicyError as error:
        raise PolicyError(f"entry {_shown(dn)}: {error}") from None
    return owners[0].guid


def _octets(values: Values, name: str) -> bytes | None:
    found = values.get(name.casefold(), ())
    if len(found) > 1:
        raise PolicyError(f"{name} has {len(found)} values; accepted: one")
    return found[0] if found else None


def _decoded(name: str, value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise PolicyError(f"{name} is not UTF-8") from None


def _text(values: Values, name: str) -> str | None:
    value = _octets(values, name)
    return None if value is None else _decoded(name, value)


def _guid(values: Values, name: str) -> uuid.UUID | None:
    text = _text(values, name)
    try:
        return None if text is None else parse_guid(text)
    except PolicyError as error:
        raise PolicyError(f"{name}: {error}") from None


def _references(values: Values, name: str) -> tuple[ObjectName, ...]:
    try:
        return tuple(parse_dn(_decoded(name, value)) for value in values.get(name.casefold(), ()))
    except PolicyError as error:
        raise PolicyError(f"{name}: {error}") from None


def _reference(values: Values, name: str) -> ObjectName | None:
    found = _references(values, name)
    if len(found) > 1:
        raise PolicyError(f"{name} has {len(found)} values; accepted: one")
    return found[0] if found else None


def _data_type(text: str) -> int:
    """598 and 256 as decimal numbers, or 0x256 and 0x100."""
    try:
        number = int(text, 16 if text.lower().startswith("0x") else 10)
    except ValueError:
        number = -1
    if number not in DATA_TYPES:
        raise PolicyError(f"ipsecDataType {text!r}; accepted: {', '.join(map(str, DATA_TYPES))}")
    return number


# --- files ---


class LdifStore:
    """The objects of an LDIF file (RFC 2849), as ldifde, ldapsearch and ldbsearch write them; read-only.

    Of other entries only the assignments to GPOs count, of those the last. PolicyError: "FILE: entry DN: what".
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            content = path.read_bytes()
        except OSError as error:
            raise PolicyError(f"{path}: {error.strerror}; accepted: an LDIF file") from None
        self._assigned: uuid.UUID | None = None
        found: dict[ObjectName, StoredObject] = {}
        try:
            for entry in read_ldif(content):
                self._take(entry, found)
        except PolicyError as error:
            raise PolicyError(f"{path}: {error}") from None
        self._objects = tuple(found[name] for name in sorted(found))

    def _take(self, entry: Entry, found: dict[ObjectName, StoredObject]) -> None:
        if _ASSIGNMENT.match(",".join(part.strip() for part in entry.dn.casefold().split(","))):
            self._assigned = assigned_policy(entry.dn, entry.values)
            return
        classes = {value.lower() for value in entry.values.get("objectclass", ())}
        if not classes & _CLASSES:
            return
        item = from_entry(entry.dn, entry.values)
        if item.name in found:
            raise PolicyError(f"entry {_shown(entry.dn)}: a second entry with this name")
        found[item.name] = item

    def objects(self) -> tuple[StoredObject, ...]:
        return self._objects

    def assigned(self) -> uuid.UUID | None:
        return self._assigned

    def apply(self, changes: Changes, now: int) -> None:
        raise PolicyError(f"{self._path}: an LDIF file is only read; accepted: a registry or a directory")


_CLASSES = {item.value.lower().encode() for item in ObjectClass}
