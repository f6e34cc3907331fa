"""Packets cost no allocation, and destroyed keys leave nothing in freed memory."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any


def test_no_allocation_per_packet_and_no_key_left_behind(compile_c: Callable[..., Path], library: Any) -> None:
    program = compile_c("allocations", [Path(__file__).with_name("allocations.c")])
    output = subprocess.run([program], check=True, capture_output=True, text=True, env={}).stdout
    lines = [line.split() for line in output.splitlines()]
    assert len(lines) == 3 * len(library.tables())
    assert [line[2:] for line in lines] == [["0", "0"]] * len(lines), output
