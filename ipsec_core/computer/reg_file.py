r"""Files of the Registry Editor (.reg) and a `Registry`.

Read: "Windows Registry Editor Version 5.00", in UTF-16LE or UTF-8, each with or without a byte order mark; and
"REGEDIT4", in code page 1252. Written: version 5, with a byte order mark and CRLF.

    ; a comment, also behind a value
    [HKEY_LOCAL_MACHINE\SOFTWARE\...]     makes the key; HKLM, HKCU, HKU or their long names
    [-HKEY_LOCAL_MACHINE\SOFTWARE\...]    removes it with all below it
    "name"="text"                         REG_SZ; \\ and \" inside of the quotes; a line break stands for itself
    @="text"                              the key's default value
    "name"=dword:0000012c                 REG_DWORD, hexadecimal
    "name"=hex:01,02,\                    REG_BINARY; a backslash at the end continues in the next line
      03
    "name"=hex(7):61,00,00,00,00,00       by the number of a type: 0 REG_NONE, 1 REG_SZ, 2 REG_EXPAND_SZ, 3 REG_BINARY,
                                          4 REG_DWORD, 7 REG_MULTI_SZ, b REG_QWORD; texts are UTF-16LE, in REGEDIT4
                                          8-bit, and end with a NUL; 5, 6, 8, 9, a as bytes, which is all they are here
    "name"=-                              removes the value

Not accepted: HKEY_CLASSES_ROOT and HKEY_CURRENT_CONFIG (views of other hives), numbers that are no type, other
escapes in quotes, comments within continued lines or behind a key, a REG_DWORD or REG_QWORD of another length than 4 or
8. Empty texts at the end of a REG_MULTI_SZ are its end.

Every error is one line, `FILE:LINE: what; accepted: ...`, and never shows data: it may be a preshared key.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ipsec_core.computer.registry import Registry, RegistryType, Value
from ipsec_core.errors import RegistryError

HEADER = "Windows Registry Editor Version 5.00"
OLD_HEADER = "REGEDIT4"

_BOM, _UTF8_BOM = b"\xff\xfe", b"\xef\xbb\xbf"
_OLD_ENCODING = "cp1252"
_ENCODINGS = {"utf-16-le": "UTF-16LE", "utf-8": "UTF-8", _OLD_ENCODING: "code page 1252"}
_TEXTS = (RegistryType.REG_SZ, RegistryType.REG_EXPAND_SZ)
_NUMBERS = {RegistryType.REG_DWORD: 4, RegistryType.REG_QWORD: 8}
_TYPES = ", ".join(f"hex({kind:x}) {kind.name}" for kind in RegistryType)
_DATA_ACCEPTED = r'"text" with \\ and \" inside, dword:0000012c, hex:01,02 or hex(TYPE):01,02, -'

# Possessive (*+), so that no text costs more than one pass. The Registry Editor has room for 25 bytes in a line.
_SPACE = r"[ \t]*+"
_TEXT = r'"((?:[^"\\]|\\["\\])*+)"'
_NEXT_LINE = rf"(?:\\{_SPACE}\r?\n{_SPACE})*+"
_BYTE = rf"{_NEXT_LINE}[0-9a-f]{{1,2}}{_SPACE}"
_BYTES = rf"(?:{_BYTE}(?:,{_SPACE}{_BYTE})*+)?"
_TO_NEXT_BYTE = re.compile(rf",?{_SPACE}{_NEXT_LINE}")
_END = re.compile(rf"{_SPACE}(?:;[^\n]*)?(?:\r?\n|\Z)")
_KEY = re.compile(rf"{_SPACE}\[(-?)([^\r\n]*)\]{_SPACE}(?:\r?\n|\Z)")
_NAME = re.compile(rf"{_SPACE}(?:@|{_TEXT}){_SPACE}={_SPACE}")
_DATA = re.compile(
    rf"(-)|{_TEXT}|dword:{_SPACE}([0-9a-f]{{1,8}})|hex(?:\(([0-9a-f]{{1,8}})\))?:{_SPACE}({_BYTES})", re.I
)
_LINE_BYTES_END = 77


@dataclass(frozen=True, slots=True)
class CreateKey:
    """`where` is FILE:LINE of the operation, in all of them."""

    where: str
    key: str


@dataclass(frozen=True, slots=True)
class DeleteKey:
    where: str
    key: str


@dataclass(frozen=True, slots=True)
class SetValue:
    where: str
    key: str
    name: str
    value: Value


@dataclass(frozen=True, slots=True)
class DeleteValue:
    where: str
    key: str
    name: str


Operation = CreateKey | DeleteKey | SetValue | DeleteValue


def parse(data: bytes, where: str) -> tuple[Operation, ...]:
    """What a .reg file says, in its order. `where` names the file in errors; RegistryError when it is malformed.

    Whether a key or a value can be kept is for `apply` to say.
    """
    text, encoding = _decoded(data, where)
    header, expected = text.partition("\n")[0], HEADER if encoding == "utf-16-le" else OLD_HEADER
    if header.rstrip() != expected:
        raise RegistryError(f"{where}:1: not a file of the Registry Editor; accepted: {HEADER}, {OLD_HEADER}")
    return tuple(_operations(text, len(header) + 1, encoding, where))


def apply(registry: Registry, operations: Iterable[Operation]) -> None:
    """Do all operations, or none and raise RegistryError. To remove what is not there is no error."""
    with registry.transaction():
        for operation in operations:
            try:
                _apply(registry, operation)
            except RegistryError as error:
                raise RegistryError(f"{operation.where}: {error}") from None


def export(registry: Registry, key: str) -> str:
    """The text of a .reg file with a key and all below it; the same for the same content. See `encode`."""
    lines = [HEADER, ""]
    for path, values in registry.walk(key):
        lines.append(f"[{path}]")
        lines += (f"{_quoted(name) if name else '@'}={_written(name, value)}" for name, value in values.items())
        lines.append("")
    return "".join(f"{line}\r\n" for line in lines)


def encode(text: str, utf8: bool = False) -> bytes:
    """An exported text as the Registry Editor writes it, in UTF-16LE, or in UTF-8; with a byte order mark."""
    return _UTF8_BOM + text.encode() if utf8 else _BOM + text.encode("utf-16-le")


# -- reading --


def _decoded(data: bytes, where: str) -> tuple[str, str]:
    """The text, and how texts in lists of bytes are encoded."""
    skipped, encoding, inner = 0, "utf-8", "utf-16-le"
    if data.startswith(OLD_HEADER.encode()):
        encoding = inner = _OLD_ENCODING
    elif data.startswith((_BOM, HEADER[:1].encode("utf-16-le"))):
        skipped, encoding = len(_BOM) if data.startswith(_BOM) else 0, "utf-16-le"
    elif data.startswith(_UTF8_BOM):
        skipped = len(_UTF8_BOM)
    try:
        return data[skipped:].decode(encoding), inner
    except UnicodeDecodeError as error:
        line = data[skipped : skipped + error.start].decode(encoding).count("\n") + 1
        accepted = "UTF-16LE, UTF-8; for REGEDIT4 code page 1252"
        raise RegistryError(f"{where}:{line}: not {_ENCODINGS[encoding]}; accepted: {accepted}") from None


def _operations(text: str, position: int, encoding: str, where: str) -> Iterator[Operation]:
    """From line 2 on, which begins at `position`."""
    line = 2
    key, kept = "", False
    while position < len(text):
        place = f"{where}:{line}"
        if found := _END.match(text, position):
            end = found.end()
        elif found := _KEY.match(text, position):
            key, kept = found[2], not found[1]
            yield CreateKey(place, key) if kept else DeleteKey(place, key)
            end = found.end()
        elif found := _NAME.match(text, position):
            name = _unquoted(found[1] or "")
            if not kept:
                what = f"the key {key!r} above it is deleted" if key else "no key above it"
                raise RegistryError(f"{place}: value {name!r}: {what}; accepted: [KEY] first")
            value, end = _read_data(text, found.end(), encoding, where, line, name)
            yield DeleteValue(place, key, name) if value is None else SetValue(place, key, name, value)
        else:
            accepted = '[KEY] or [-KEY] and nothing behind it, "NAME"=DATA, @=DATA, ; COMMENT'
            raise RegistryError(f"{place}: neither a key nor a value; accepted: {accepted}")
        line += text.count("\n", position, end)
        position = end


def _read_data(text: str, position: int, encoding: str, where: str, line: int, name: str) -> tuple[Value | None, int]:
    """The data of a value, None for one to delete, and where the next line begins."""
    found = _DATA.match(text, position)
    if not found:
        raise RegistryError(f"{where}:{line}: value {name!r}: its data cannot be read; accepted: {_DATA_ACCEPTED}")
    minus, quoted, dword, number, listed = found.groups()
    end = _END.match(text, found.end())
    if not end:
        # A text without its closing quote went on to the next one: what is wrong is where it begins.
        accepted, wrong = "; COMMENT", line
        if listed is not None:
            stop = _TO_NEXT_BYTE.match(text, found.end()).end()  # type: ignore[union-attr]
            accepted, wrong = (
                "bytes of two hexadecimal digits with commas between",
                line + text.count("\n", position, stop),
            )
        raise RegistryError(f"{where}:{wrong}: value {name!r}: something else follows its data; accepted: {accepted}")
    if minus:
        return None, end.end()
    if quoted is not None:
        return Value(RegistryType.REG_SZ, _unquoted(quoted)), end.end()
    if dword is not None:
        return Value(RegistryType.REG_DWORD, int(dword, 16)), end.end()
    try:
        data = bytes(int(digits, 16) for digits in re.findall("[0-9a-fA-F]+", listed))
        return _typed(3 if number is None else int(number, 16), data, encoding), end.end()
    except RegistryError as error:
        raise RegistryError(f"{where}:{line}: value {name!r}: {error}") from None


def _typed(number: int, data: bytes, encoding: str) -> Value:
    """A value from its bytes in the registry."""
    try:
        kind = RegistryType(number)
    except ValueError:
        raise RegistryError(f"hex({number:x}) is a type that is not kept here; accepted: {_TYPES}") from None
    if kind in _NUMBERS:
        if len(data) != _NUMBERS[kind]:
            raise RegistryError(f"{kind.name} of {len(data)} bytes; accepted: {_NUMBERS[kind]} bytes")
        return Value(kind, int.from_bytes(data, "little"))
    if kind not in (*_TEXTS, RegistryType.REG_MULTI_SZ):
        return Value(kind, data)
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        raise RegistryError(f"{kind.name} of bytes that are no text; accepted: {_ENCODINGS[encoding]}") from None
    if kind in _TEXTS:
        return Value(kind, text.removesuffix("\0"))
    return Value(kind, tuple(text.rstrip("\0").split("\0")) if text.strip("\0") else ())


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)


def _apply(registry: Registry, operation: Operation) -> None:
    match operation:
        case CreateKey(_, key):
            registry.create_key(key)
        case DeleteKey(_, key):
            if registry.exists(key):
                registry.delete(key)
        case SetValue(_, key, name, value):
            registry.set(key, name, value.data, value.type)
        case DeleteValue(_, key, name):
            if registry.exists(key, name):
                registry.delete(key, name)


# -- writing --


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _written(name: str, value: Value) -> str:
    """What stands behind the equals sign, in lines as the Registry Editor breaks them."""
    kind, data = value
    if kind is RegistryType.REG_DWORD and isinstance(data, int):
        return f"dword:{data:08x}"
    # A line break within quotes is read by us, but not by everybody.
    if kind is RegistryType.REG_SZ and isinstance(data, str) and min(data, default=" ") >= " ":
        return _quoted(data)
    lines = ["hex:" if kind is RegistryType.REG_BINARY else f"hex({kind:x}):"]
    column = len(_quoted(name) if name else "@") + 1 + len(lines[0])
    raw = _raw(kind, data)
    for number, byte in enumerate(raw):
        last = number == len(raw) - 1
        lines[-1] += f"{byte:02x}" + ("" if last else ",")
        column += 3
        if column >= _LINE_BYTES_END and not last:
            lines[-1] += "\\"
            lines.append("  ")
            column = 2
    return "\r\n".join(lines)


def _raw(kind: RegistryType, data: int | str | bytes | tuple[str, ...]) -> bytes:
    """A value's bytes in the registry; texts are followed by a NUL, a REG_MULTI_SZ by one more."""
    match data:
        case int():
            return data.to_bytes(_NUMBERS[kind], "little")
        case str():
            return f"{data}\0".encode("utf-16-le")
        case bytes():
            return data
        case _:
            return "".join(f"{text}\0" for text in (*data, "")).encode("utf-16-le")
