"""Samba's registry reads our .reg files, and we read what it writes of them."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from interop_kit import need

from ipsec_core.computer.reg_file import apply, encode, export, parse
from ipsec_core.computer.registry import SCHEMA, Registry, RegistryType

pytestmark = pytest.mark.interop

KEY = r"HKEY_LOCAL_MACHINE\SOFTWARE\ipsec-core"


@pytest.fixture
def registries() -> Iterator[tuple[Registry, Registry]]:
    with closing(sqlite3.connect(":memory:")) as first, closing(sqlite3.connect(":memory:")) as second:
        for connection in (first, second):
            connection.executescript(SCHEMA)
        yield Registry(first), Registry(second)


def net(folder: Path, *words: str) -> None:
    """Samba's `net registry` on a registry of its own in a folder."""
    kinds = ("private dir", "lock directory", "state directory", "cache directory")
    for kind in kinds:
        (folder / kind[:4]).mkdir(exist_ok=True)
    lines = ["[global]", f"log file = {folder}/log", *(f"{kind} = {folder / kind[:4]}" for kind in kinds)]
    (folder / "smb.conf").write_text("\n".join(lines))
    subprocess.run(["net", "-s", str(folder / "smb.conf"), "registry", *words], check=True, timeout=60)


@pytest.mark.parametrize("utf8", [False, True])
def test_samba_takes_and_gives_the_same(registries: tuple[Registry, Registry], tmp_path: Path, utf8: bool) -> None:
    need(shutil.which("net") is not None, "Samba")
    source, target = registries
    values: dict[str, object] = {
        "": "default",
        'quote"\\': r'"C:\WINNT\" ä€',
        "lines": "one\r\ntwo",
        "empty": "",
        "number": 0xFFFF_FFFF,
        "bytes": bytes(range(256)),
        "no bytes": b"",
        "texts": ("SOFTWARE\\x", "ä€\U0001f600"),
        "no texts": (),
    }
    for name, value in values.items():
        source.set(KEY + r"\ipsecPolicy{7238523c-70fa-11d1-864c-14a300000000}", name, value)
    source.set(KEY, "ImagePath", r"%SystemRoot%\system32\lsass.exe", RegistryType.REG_EXPAND_SZ)
    source.set(KEY, "wide", (1 << 64) - 1, RegistryType.REG_QWORD)
    (tmp_path / "ours.reg").write_bytes(encode(export(source, KEY), utf8))
    net(tmp_path, "import", str(tmp_path / "ours.reg"))
    for name, options in (("theirs.reg", ()), ("theirs-16.reg", ("enc=UTF-16LE",))):
        net(tmp_path, "export", KEY, str(tmp_path / name), *options)
        apply(target, parse((tmp_path / name).read_bytes(), name))
        assert list(target.walk(KEY)) == list(source.walk(KEY))
        target.delete(KEY)
