"""Packets cost no allocation, and destroyed keys leave nothing in freed memory."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from crypto_oracle import SUITES


def test_no_allocation_per_packet_and_no_key_left_behind(
    compile_c: Callable[..., Path], backends: dict[str, Any], c_suite: Any
) -> None:
    program = compile_c("allocations", [Path(__file__).with_name("allocations.c")])
    output = subprocess.run([program], check=True, capture_output=True, text=True, env={}).stdout
    lines = {line.rpartition(" ")[0].rpartition(" ")[0]: line.split()[2:] for line in output.splitlines()}
    numbers = [(s.encryption, s.integrity, s.esn, s.ah) for s in SUITES]
    served = {
        f"{name} {','.join(map(str, n))}" for name, b in backends.items() for n in numbers if b.table.rank(c_suite(*n))
    }
    assert set(lines) == served
    assert {suite: figures for suite, figures in lines.items() if figures != ["0", "0"]} == {}
