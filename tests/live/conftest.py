"""Makes live_kit.py importable (the tests run in importlib mode, which leaves sys.path alone)."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
