"""Instructions a packet of the driver's loops, counted by callgrind, against a stored baseline.

    python bench/instructions.py            count and print
    python bench/instructions.py --check    exit 1 when a figure is more than 3 % above bench/instructions.json
    python bench/instructions.py --store    write the baseline

Wall time on a shared machine is noise; the same binary executes the same instructions every time. callgrind offers no
AVX-512 to the program, so the crypto it counts is that of other machines: figures are of the loops around the crypto
(functions of src_c alone, `own`) and of everything below them (`all`).
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BASELINE = ROOT / "bench" / "instructions.json"
CASES = [("null", 64), ("null", 1408), ("gcm", 64), ("gcm", 1408), ("cbc-sha1", 1408)]
LOOPS = {"ipc_outbound": "outbound", "ipc_inbound": "inbound"}
PACKETS = 64
TOLERANCE = 1.03


def build(folder: Path) -> Path:
    """The counted program, compiled as the package is."""
    binary = folder / "instructions"
    sources = sorted(str(path) for path in (ROOT / "src_c").glob("*.c") if not path.name.startswith(("trace", "world")))
    subprocess.run(
        [
            *("gcc", "-std=c11", "-O3", "-g", "-D_GNU_SOURCE", "-DIPC_HAVE_IPSECMB", "-DIPC_HAVE_OPENSSL"),
            *(f"-I{ROOT / 'src_c'}", f"-I{ROOT / 'src_c' / 'include'}", str(ROOT / "bench" / "instructions.c")),
            *(*sources, "-lIPSec_MB", "-lcrypto", "-o", str(binary)),
        ],
        check=True,
    )
    return binary


def counted(binary: Path, suite: str, size: int, rounds: int, folder: Path) -> dict[str, int]:
    """Instructions below each loop, and in src_c below it, of one run."""
    found = {}
    for loop, name in LOOPS.items():
        out = folder / f"{suite}-{size}-{rounds}-{name}"
        subprocess.run(
            [
                *("valgrind", "--tool=callgrind", "--collect-atstart=no", f"--toggle-collect={loop}"),
                *(f"--callgrind-out-file={out}", str(binary), suite, str(size), str(rounds)),
            ],
            check=True,
            capture_output=True,
        )
        text = subprocess.run(
            ["callgrind_annotate", "--threshold=100", str(out)], check=True, capture_output=True, text=True
        ).stdout
        lines = re.findall(r"^\s*([\d,]+) \([^)]*\)\s+(\S+)", text, re.MULTILINE)
        found[f"{name} all"] = next(_number(count) for count, what in lines if what == "PROGRAM")
        own = (_number(count) for count, what in lines if "src_c/" in what and "crypto_" not in what)
        found[f"{name} own"] = sum(own)
    return found


def measure() -> dict[str, float]:
    """Figures by "suite size loop", instructions a packet: the difference of two runs, so that set-up cancels out."""
    figures = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        binary = build(folder)
        for suite, size in CASES:
            few, many = (counted(binary, suite, size, rounds, folder) for rounds in (2, 10))
            for what, count in many.items():
                figures[f"{suite} {size} {what}"] = round((count - few[what]) / (8 * PACKETS), 1)
    return figures


def _number(text: str) -> int:
    return int(text.replace(",", ""))


def main() -> int:
    """Exit status: 0, 1 for a regression, 2 without callgrind."""
    parser = argparse.ArgumentParser(description="Instructions a packet, counted by callgrind.")
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--check", action="store_true", help="compare with the baseline")
    choice.add_argument("--store", action="store_true", help="write the baseline")
    options = parser.parse_args()
    if not shutil.which("valgrind"):
        print("valgrind is not installed; install: valgrind", file=sys.stderr)
        return 2
    figures = measure()
    if options.store:
        BASELINE.write_text(json.dumps(figures, indent=2) + "\n")
    baseline = json.loads(BASELINE.read_text()) if BASELINE.exists() else {}
    worse = 0
    for what, figure in figures.items():
        known = baseline.get(what)
        mark = ""
        # What lies below the loops in the crypto libraries may change with the machine: it is shown, not judged.
        if options.check and what.endswith("own") and known is not None and figure > known * TOLERANCE + 1:
            worse, mark = worse + 1, "  more than the baseline"
        print(f"{what:<28} {figure:9.1f}  baseline {known if known is not None else 'none'}{mark}")
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
