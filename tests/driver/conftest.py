"""Makes esp_oracle.py and driver_kit.py importable (the tests run in importlib mode, which leaves sys.path alone)."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from ipsec_core import algorithms

# A back end that knows some algorithms alone (AES-GCM on vector units) is what the default picks where it can.
GENERAL = [name for one in algorithms() if one.name == "3DES-CBC" for name in one.backends]


@pytest.fixture(params=[*sorted(GENERAL), None], ids=lambda name: name or "default")
def backend(request: pytest.FixtureRequest) -> str | None:
    """The name of each back end of the build that has all algorithms, and None: the best one for each SA."""
    return request.param  # type: ignore[no-any-return]
