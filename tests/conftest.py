"""Shared fixtures. Real captures and published vectors live outside the repository; tests skip without them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# The sanitizers watch C: what is Python alone they only slow down, and so do the tools and the labs as a whole, whose C
# the other tests run as well. Of IKE, test_groups is about a module in C.
if os.environ.get("IPSEC_CORE_SANITIZE") == "1":
    collect_ignore_glob = [
        "policy/test_*.py",
        "ike/test_[!g]*.py",
        "fuzz/test_*.py",
        "tools/test_*.py",
        "e2e/test_*.py",
        "labs/test_*.py",
    ]


def find_captures() -> Path | None:
    """The folder of real captures: IPSEC_CORE_CAPTURES, else ../shared/captures of the checkout or of a parent."""
    named = os.environ.get("IPSEC_CORE_CAPTURES")
    if named:
        return Path(named)
    for parent in Path(__file__).resolve().parents:
        folder = parent / "shared" / "captures"
        if folder.is_dir():
            return folder
    return None


@pytest.fixture(scope="session")
def captures() -> Path:
    folder = find_captures()
    if folder is None or not folder.is_dir():
        pytest.skip("no folder of real captures (set IPSEC_CORE_CAPTURES)")
    return folder
