"""Makes the modules of this folder importable (the tests run in importlib mode, which leaves sys.path alone)."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

# The sanitizers watch the C code, to which the other files give the same suites and shapes with more packets; the time
# of these is mostly the oracles' own, many times as long under them.
if os.environ.get("IPSEC_CORE_SANITIZE") == "1":
    collect_ignore = ["test_scapy.py", "test_wireshark.py"]

sys.path.insert(0, str(Path(__file__).parent))

from matrix_kit import BACKENDS


@pytest.fixture(params=BACKENDS, ids=lambda name: name or "default")
def backend(request: pytest.FixtureRequest) -> str | None:
    """The name of each general crypto back end of the build, and None."""
    return request.param  # type: ignore[no-any-return]
