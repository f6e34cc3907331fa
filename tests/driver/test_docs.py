"""The tables of docs/driver.md are those of the source."""

from __future__ import annotations

import re
from pathlib import Path

from ipsec_core import Status, algorithms
from ipsec_core.driver import COUNTER_RULES, COUNTERS, PASSES, STATUS_TEXT

PAGE = Path(__file__).resolve().parents[2] / "docs" / "driver.md"


def table(first: str) -> list[list[str]]:
    """The rows of the table whose first column has this title."""
    found = re.search(rf"^\| {first} \|.*\n\|[- |]+\n((?:\|.*\n)+)", PAGE.read_text(), re.M)
    assert found, f"no table of {first}"
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in found[1].splitlines()]


def test_verdicts() -> None:
    rows = table("verdict")
    assert [(name, text) for name, _, text in rows] == [(status.name, STATUS_TEXT[status]) for status in Status]
    assert {name for name, goes, _ in rows if goes == "passes"} == {status.name for status in PASSES}


def test_counters() -> None:
    assert [tuple(row) for row in table("counter")] == [(text, name, COUNTER_RULES[name]) for name, text in COUNTERS]


def test_algorithms() -> None:
    rows = [(name, kind, windows) for name, kind, _, _, _, windows in table("algorithm")]
    assert rows == [(a.name, a.kind, "yes" if a.windows_2000 else "-") for a in algorithms()]
    lengths = [row[2:5] for row in table("algorithm")]
    for a, (key, iv, icv) in zip(algorithms(), lengths, strict=True):
        assert sum(map(int, key.split(" + "))) == a.key_length
        assert (iv, icv) == (str(a.iv_length or "-"), str(a.icv_length or "-"))
