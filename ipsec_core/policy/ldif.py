"""LDIF content records (RFC 2849), in time and memory linear in the file, whoever wrote it."""

from __future__ import annotations

import base64
import binascii
import codecs
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ipsec_core.errors import PolicyError

_ATTRIBUTE = re.compile(rb"([A-Za-z0-9][A-Za-z0-9.-]*)(?:;[A-Za-z0-9;-]*)?:(:|<)?[ ]*(.*)", re.DOTALL)
_CHANGE = "a change record; accepted: entries, or changetype: add"


@dataclass(frozen=True, slots=True)
class Entry:
    """`values` by the attribute's name in lower case; `line` where the record begins."""

    dn: str
    values: Mapping[str, Sequence[bytes]]
    line: int


def read_ldif(content: bytes) -> Iterator[Entry]:
    """The entries of a file, in UTF-8 or, as ldifde -u writes it, UTF-16. PolicyError: "line N: what"."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        try:
            content = content.decode("utf-16").encode()
        except UnicodeError:
            raise PolicyError("line 1: not UTF-16, as its first two octets say") from None
    record: list[tuple[int, str, bytes]] = []
    for number, line in _unfolded(content.removeprefix(codecs.BOM_UTF8)):
        if line:
            record.append((number, *_attribute(number, line)))
        elif record:
            yield from _entry(record)
            record = []
    if record:
        yield from _entry(record)


def _unfolded(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Lines with their numbers, continuations joined, without comments; at the end of a record an empty one."""
    begin, parts = 0, list[bytes]()
    for number, line in enumerate(content.split(b"\n"), 1):
        line = line.removesuffix(b"\r")
        if line.startswith(b" ") and parts:
            parts.append(line[1:])
            continue
        if parts and not parts[0].startswith(b"#"):
            yield begin, b"".join(parts)
        begin, parts = number, [line]
    if parts and not parts[0].startswith(b"#"):
        yield begin, b"".join(parts)


def _attribute(number: int, line: bytes) -> tuple[str, bytes]:
    match = _ATTRIBUTE.fullmatch(line)
    if line == b"-":  # between the modifications of one entry
        raise PolicyError(f"line {number}: {_CHANGE}")
    if match is None:
        raise PolicyError(f"line {number}: not LDIF; accepted: NAME: VALUE, NAME:: BASE64")
    name, kind, value = match[1].decode("ascii").casefold(), match[2], match[3]
    if kind == b"<":
        raise PolicyError(f"line {number}: the value is elsewhere; accepted: NAME: VALUE, NAME:: BASE64")
    if kind == b":":
        try:
            return name, base64.b64decode(value.rstrip(b" "), validate=True)
        except binascii.Error:
            raise PolicyError(f"line {number}: {name} is not base64") from None
    return name, value


def _entry(record: Sequence[tuple[int, str, bytes]]) -> Iterator[Entry]:
    """None for the version of the file and for ldapsearch's summary of its results."""
    values: dict[str, list[bytes]] = {}
    lines = iter(record)
    number, name, value = next(lines)
    if name == "version":
        number, name, value = next(lines, (number, "", b""))
    if name in ("", "search", "ref"):
        return
    if name != "dn":
        raise PolicyError(f"line {number}: {name} begins a record; accepted: dn")
    try:
        dn = value.decode()
    except UnicodeDecodeError:
        raise PolicyError(f"line {number}: dn is not UTF-8") from None
    for at, key, octets in lines:
        if key == "dn":
            raise PolicyError(f"line {at}: a second dn in the record of line {number}")
        if key == "changetype":
            if octets.strip().lower() != b"add":
                raise PolicyError(f"line {at}: {_CHANGE}")
            continue
        values.setdefault(key, []).append(octets)
    yield Entry(dn, values, number)
