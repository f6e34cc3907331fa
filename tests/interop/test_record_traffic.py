"""labs/record-traffic.sh with real programs in real namespaces: a recording passes the checks of the committed one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "labs" / "record-traffic.sh"
CHECKS = ROOT / "tests" / "labs" / "test_office_capture.py"
BASH = "/bin/bash"

pytestmark = pytest.mark.interop
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make network namespaces")


def record(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([BASH, SCRIPT, *arguments], text=True, capture_output=True, timeout=60, cwd=cwd)


def namespaces() -> set[str]:
    listed = subprocess.run(["ip", "netns", "list"], check=True, capture_output=True, text=True).stdout
    return {line.split()[0] for line in listed.splitlines()}


def work_directories() -> set[Path]:
    return set(Path("/tmp").glob("ipsec-office.*"))


@needs_root
def test_a_fresh_recording_passes_the_same_checks(tmp_path: Path) -> None:
    out = tmp_path / "office.pcap"
    before = namespaces(), work_directories()
    recorded = record(out)
    assert recorded.returncode == 0, recorded.stderr
    assert recorded.stdout.startswith(f"{out}: ")
    assert (namespaces(), work_directories()) == before
    checked = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "not readme", str(CHECKS)],
        cwd=ROOT,
        env={**os.environ, "IPSEC_CORE_OFFICE_CAPTURE": str(out)},
        capture_output=True,
        text=True,
    )
    assert checked.returncode == 0, checked.stdout


@needs_root
def test_missing_programs_are_named_by_package(tmp_path: Path) -> None:
    """With a path that has only what the script itself uses, all packages are named, in one line."""
    for name in ("id", "dirname"):
        (tmp_path / name).symlink_to(f"/usr/bin/{name}")
    script = tmp_path / "record-traffic.sh"
    script.write_text(SCRIPT.read_text().replace('"$PATH:/usr/sbin:/sbin"', '"$PATH"'))
    refused = subprocess.run(
        [BASH, script, tmp_path / "x.pcap"], env={"PATH": str(tmp_path)}, capture_output=True, text=True
    )
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1
    assert "install the Debian packages: iproute2 ethtool tcpdump nginx-light curl dnsmasq-base" in refused.stderr


@needs_root
@pytest.mark.parametrize("arguments", [[], ["a", "b"], ["no-such-directory/x.pcap"], ["."]])
def test_bad_arguments_are_one_line(arguments: list[str], tmp_path: Path) -> None:
    refused = record(*arguments, cwd=tmp_path)
    assert refused.returncode == 2
    assert refused.stderr.startswith("record-traffic.sh: ")
    assert refused.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@needs_root
def test_without_root_is_one_line(tmp_path: Path) -> None:
    refused = subprocess.run(
        [BASH, "-s", "--", tmp_path / "x.pcap"], input=SCRIPT.read_text(), user=65534, capture_output=True, text=True
    )
    assert refused.returncode == 2
    assert refused.stderr == "record-traffic.sh: needs root to make network namespaces\n"
