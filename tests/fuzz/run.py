"""`run.py FOLDER` runs each FOLDER/fuzz_TARGET that `make fuzz` built, and those in Python beside this file, with the
seeds of FOLDER/TARGET, two at a time: FUZZ_SECONDS (60) of wall time for the data plane, as many of one processor for
each of the others. One line a target; findings end up in FOLDER, and the exit status is then 1.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

# Shares of the time of two processors: the data plane as a whole gets one of them.
SHARES = {"inbound": 4, "frag": 1, "trace": 1, "icmp": 1, "matcher": 1}
LONGEST = {"inbound": 4096, "frag": 4096, "trace": 32768, "icmp": 2048, "matcher": 2048}
# In Python, by atheris.
PYTHON = {
    "isakmp": 2048,
    "responder": 512,
    "initiator": 512,
    "reg": 4096,
    "blobs": 1024,
    "netsh": 2048,
    "ipsecpol": 1024,
}
HERE = Path(__file__).resolve().parent
# What Python says of an invariant; what a sanitizer or libFuzzer does.
REASONS = (
    r"^[\w.]*(Error|Exception|Broken)\b.*$",
    r"^.*(not true|ERROR: \w+Sanitizer|runtime error|ERROR: libFuzzer).*$",
)


def fuzz(folder: Path, target: str, seconds: int) -> bool:
    """Whether the target ran to its end without a finding."""
    corpus, log = folder / "corpus" / target, folder / f"{target}.log"
    corpus.mkdir(parents=True, exist_ok=True)
    program = [sys.executable, f"{HERE}/fuzz_{target}.py"] if target in PYTHON else [f"{folder}/fuzz_{target}"]
    command = [*program, str(corpus), f"{folder}/{target}", f"-max_len={(LONGEST | PYTHON)[target]}"]
    command += [f"-max_total_time={seconds}", "-timeout=20", "-rss_limit_mb=2048", "-verbosity=1"]
    # The same start every time: a change is judged by what it changed. FUZZ_SEED=0 looks elsewhere.
    command += [f"-artifact_prefix={folder}/{target}-", f"-seed={os.environ.get('FUZZ_SEED') or 1}"]
    with log.open("wb") as out:
        status = subprocess.run(command, stdout=out, stderr=subprocess.STDOUT, check=False).returncode
    text = log.read_text(errors="replace")
    done = re.search(r"^Done (\d+) runs in (\d+) second", text, re.MULTILINE)
    covered = re.findall(r"cov: (\d+)", text)
    edges = covered[-1] if covered else 0
    figures = f"{int(done[1]):9} runs, {edges:>5} edges, {done[2]:>4} s" if done else "ended early"
    unit = re.search(r"Test unit written to (\S+)", text)
    failure = "" if status == 0 else "  FOUND SOMETHING" if unit else f"  STOPPED with status {status}"
    print(f"fuzz_{target:9} {figures}{failure}", flush=True)
    if status:
        found = (re.search(pattern, text, re.MULTILINE) for pattern in REASONS)
        reason = next((one for one in found if one), None)
        print(f"    {reason[0] if reason else text[-200:].strip()}\n    all of it: {log}", flush=True)
    if unit:
        print(f"    again: {' '.join(program)} {unit[1]}", flush=True)
    return status == 0


def main(folder: Path) -> int:
    seconds = int(os.environ.get("FUZZ_SECONDS") or 60)
    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(fuzz, folder, t, max(1, seconds * share // 4)) for t, share in SHARES.items()]
        runs += [pool.submit(fuzz, folder, target, seconds) for target in PYTHON]
        return 0 if all(run.result() for run in runs) else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
