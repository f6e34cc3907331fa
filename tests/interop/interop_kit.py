"""What several files here share."""

from __future__ import annotations

import os

import pytest

LONGEST_GAP = 35
BACKOFF_SECONDS = 63 + LONGEST_GAP + 5.0


def need(there: bool, what: str) -> None:
    """Without a peer there is no proof: a failure where CI is set, a skip elsewhere."""
    if there:
        return
    if "CI" in os.environ:
        pytest.fail(f"{what} is missing (make test-interop installs it)")
    pytest.skip(f"no {what}")
