"""Packets of one burst have moments of their own, which a burst from Python has not; so this is a C program."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_an_sa_ends_for_later_packets_alone(tmp_path: Path) -> None:
    sources = [p for p in (ROOT / "src_c").glob("*.c") if not p.name.startswith(("peer", "bench", "trace", "world"))]
    program = tmp_path / "burst_times"
    subprocess.run(
        [
            *shlex.split(os.environ.get("CC", "cc")),
            *("-std=c11", "-D_GNU_SOURCE", "-DIPC_HAVE_OPENSSL", f"-I{ROOT}/src_c", f"-I{ROOT}/src_c/include"),
            *map(str, [Path(__file__).with_name("burst_times.c"), *sources]),
            *("-o", str(program), "-lcrypto"),
        ],
        check=True,
    )
    output = subprocess.run([program], check=True, capture_output=True, text=True, env={}).stdout
    assert output.split() == ["PROTECTED", "EXPIRED"] * 2
