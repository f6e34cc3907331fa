"""Makes sim_kit.py importable (the tests run in importlib mode, which leaves sys.path alone)."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from sim_kit import Lab


@pytest.fixture
def lab(tmp_path: Path) -> Callable[..., Lab]:
    """Makes worlds of two computers, each in a folder of its own."""
    made = 0

    def make(*args: Any, **options: Any) -> Lab:
        nonlocal made
        made += 1
        folder = tmp_path / f"lab{made}"
        folder.mkdir()
        return Lab(folder, *args, **options)

    return make
