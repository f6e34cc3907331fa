"""Makes nic_kit.py and the driver's kit importable (the tests run in importlib mode, which leaves sys.path alone)."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "driver")]
