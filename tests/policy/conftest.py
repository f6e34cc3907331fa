"""Makes policy_kit.py importable (the tests run in importlib mode); the objects of a real domain."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def domain(captures: Path) -> Path:
    """The LDIF file of a freshly made domain, beside the captures."""
    path = captures.parent / "reference" / "data" / "ad-ip-security.ldif"
    if not path.exists():
        pytest.skip(f"no {path.name} beside the captures")
    return path
