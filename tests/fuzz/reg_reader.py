"""The reader of .reg files, for fuzz_reg.py.

The input is a file; a first byte of 1 to 4 in front of it gives it the head of one of the forms, so that the fuzzer
need not find it. What must hold: only RegistryError comes out, in one line; what is refused on its way into a registry
has changed nothing; what is in the registry is exported, read back and the same, and its export is the same text.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from ipsec_core.computer.reg_file import HEADER, OLD_HEADER, apply, encode, export, parse
from ipsec_core.computer.registry import HIVES, SCHEMA, Registry
from ipsec_core.errors import RegistryError

_HEADS = {
    1: f"{HEADER}\n[HKLM\\x]\n".encode(),
    2: b"\xff\xfe" + f"{HEADER}\n[HKLM\\x]\n".encode("utf-16-le"),
    3: f"{OLD_HEADER}\n[HKLM\\x]\n".encode(),
    4: f"{HEADER}\r\n\r\n".encode(),
}


class Broken(AssertionError):
    """Something that must hold does not."""


@contextmanager
def _registry() -> Iterator[Registry]:
    connection = sqlite3.connect(":memory:")
    try:
        connection.executescript(SCHEMA)
        yield Registry(connection)
    finally:
        connection.close()


def _exports(registry: Registry) -> list[str]:
    return [export(registry, hive) for hive in HIVES]


def read(data: bytes) -> bool:
    """Whether the file is in order, and all the rest holds."""
    if data and data[0] in _HEADS:
        data = _HEADS[data[0]] + data[1:]
    with _registry() as registry, _registry() as second:
        registry.set(r"HKLM\x", "old", 1)
        before = _exports(registry)
        try:
            apply(registry, parse(data, "x.reg"))
        except RegistryError as error:
            if not str(error).startswith("x.reg:") or "\n" in str(error):
                raise Broken(f"not one line with its place: {str(error)!r}") from None
            if _exports(registry) != before:
                raise Broken("a refused file has changed something") from None
            return False
        texts = _exports(registry)
        for number, text in enumerate(texts):
            apply(second, parse(encode(text, utf8=bool(number)), "export"))
        if _exports(second) != texts:
            raise Broken("what was exported came back as something else")
        for hive in HIVES:
            if list(second.walk(hive)) != list(registry.walk(hive)):
                raise Broken(f"{hive} is not what was exported")
        return True
