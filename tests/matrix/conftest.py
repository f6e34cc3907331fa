"""Makes the modules of this folder importable (the tests run in importlib mode, which leaves sys.path alone)."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from ipsec_core import crypto_backends


@pytest.fixture(params=sorted(crypto_backends()))
def backend(request: pytest.FixtureRequest) -> str:
    """The name of each crypto back end of the build."""
    return str(request.param)
