"""docs/ike.md: its blocks run one after the other and print what stands behind them; its tables are the source's."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path
from shutil import which

import pytest

import ipsec_core
from ipsec_core.computer.eventlog import FAILURE_REASONS
from ipsec_core.computer.profiles import PROFILES
from ipsec_core.ike import FailureReason, Group, IkeOptions
from ipsec_core.ike.failures import reason_of_notify
from ipsec_core.policy.methods import Confidentiality, Integrity
from ipsec_core.policy.model import KeyExchangeSettings

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "ike.md").read_text()
BLOCKS = re.findall(r"^```(python|sh)\n(.*?)^```$", PAGE, re.S | re.M)


def table(first: str) -> list[list[str]]:
    """The rows of the table whose first column has this title."""
    found = re.search(rf"^\| ?{re.escape(first)} ?\|.*\n\|[- |]+\n((?:\|.*\n)+)", PAGE, re.M)
    assert found, f"no table of {first}"
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in found[1].splitlines()]


def prints(text: str) -> list[str]:
    """What stands behind the lines that print, or on lines of its own below them."""
    return re.findall(r"^(?:\s*print\(.*\S  )?# (.*)$", text, re.M)


def test_blocks(tmp_path: Path) -> None:
    if which("openssl") is None:
        pytest.skip("the page makes certificates (install: openssl)")
    environment = {**os.environ, "PYTHONPATH": str(Path(ipsec_core.__file__).parents[1])}
    script = "".join(text for language, text in BLOCKS if language == "python")
    for text in (text for language, text in BLOCKS if language == "sh"):
        subprocess.run(["sh", "-e", "-c", text], cwd=tmp_path, capture_output=True, check=True)
    (tmp_path / "example.py").write_text(script)
    done = subprocess.run(
        [sys.executable, "-W", "error", "example.py"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == prints(script)
    assert len(prints(script)) == script.count("print(") + 1


def test_reasons() -> None:
    rows = table("code")
    assert [(code, name, text) for code, name, text, _ in rows] == [
        (f"{int(reason):#x}", reason.name, FAILURE_REASONS[int(reason)]) for reason in FailureReason
    ]
    # Those that the source names anywhere else than where they are defined and counted, and those of notifies.
    sources = (path for path in (ROOT / "ipsec_core").rglob("*.py") if path.name != "failures.py")
    given = {name for path in sources for name in re.findall(r"FailureReason\.([A-Z_]+)", path.read_text())}
    given |= {reason_of_notify(number).name for number in range(1 << 16)}
    assert {name for _, name, _, advice in rows if advice != "-"} == given


def test_limits() -> None:
    for _, bound, name in table("what | bound"):
        module, _, constant = name.strip("`").rpartition(".")
        owner = IkeOptions() if module == "IkeOptions" else importlib.import_module(f"ipsec_core.ike.{module}")
        assert float(bound) == getattr(owner, constant), name


def test_profiles() -> None:
    rows = {row[0]: row[1:] for row in table("")}
    for number, profile in enumerate(PROFILES.values()):
        options = profile.options
        assert rows["NAT traversal"][number] == (", ".join(item.value for item in options.nat_traversal) or "none")
        assert rows["fragmentation"][number] == ("yes" if options.fragmentation else "no")
        assert rows["commit bit as responder"][number] == ("yes" if options.commit_bit else "no")
    windows, _, modern = rows["Diffie-Hellman groups"]
    assert f"{windows}, {modern.removeprefix('and ')}" == ", ".join(str(int(group)) for group in Group)
    assert rows["hash"][0] == ", ".join(item.text for item in Integrity if item.windows_2000)
    assert rows["ESP"][0] == ", ".join(item.text for item in Confidentiality if item.windows_2000)
    methods = ", ".join(f"`{method}`" for method in KeyExchangeSettings().methods)
    assert f"has the methods {methods} in this order" in PAGE
