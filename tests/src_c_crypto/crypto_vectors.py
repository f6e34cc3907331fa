"""Readers of the published vectors, as the projects that publish them lay them out."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def unhex(record: dict[str, Any], *names: str) -> tuple[bytes, ...]:
    return tuple(bytes.fromhex(record[name]) for name in names)


def wycheproof(path: Path) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Group and test of Wycheproof's JSON, which ipsec-mb uses, too."""
    for group in json.loads(path.read_text())["testGroups"]:
        for test in group["tests"]:
            yield group, test


def acvp(captures: Path, name: str) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Group and test of NIST's ACVP. Monte Carlo groups are chains of 1000 calls, no single operations."""
    packed = captures / "nist-acvp" / f"{name}__internalProjection.json.gz"
    for group in json.loads(gzip.decompress(packed.read_bytes()))["testGroups"]:
        if group["testType"] == "AFT":
            for test in group["tests"]:
                yield group, test


def records(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Section and fields of a file of `Name = value` lines with records between empty lines. Names in upper case."""
    section, fields = "", {}
    for line in [*path.read_text().splitlines(), ""]:
        if line.startswith("["):
            section = line.strip("[]").lower()
        elif " = " in line and not line.startswith("#"):
            name, value = line.split(" = ")
            fields[name.upper()] = value
        elif not line and fields:
            yield section, fields
            fields = {}
