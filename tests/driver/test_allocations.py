"""No allocation for a packet, good or bad (a counted allocator under the loops)."""

from __future__ import annotations

import subprocess
from pathlib import Path

from test_downstream import DRIVER, ROOT  # type: ignore[import-not-found]

WRAPPED = ("malloc", "calloc", "realloc", "aligned_alloc", "free")


def test_no_packet_costs_an_allocation(tmp_path: Path) -> None:
    binary = tmp_path / "allocations"
    subprocess.run(
        [
            *("cc", "-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-D_GNU_SOURCE", "-DIPC_HAVE_OPENSSL"),
            *(f"-I{ROOT / 'src_c'}", f"-I{ROOT / 'src_c' / 'include'}", str(Path(__file__).with_name("allocations.c"))),
            *(str(ROOT / "src_c" / f"{name}.c") for name in DRIVER),
            *("-Wl," + ",".join(f"--wrap={name}" for name in WRAPPED), "-lcrypto", "-o", str(binary)),
        ],
        check=True,
    )
    run = subprocess.run([str(binary)], check=True, capture_output=True, text=True)
    assert run.stdout == "0\n"
