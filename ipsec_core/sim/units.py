"""Rates and durations as people write them."""

from __future__ import annotations

import re
from fractions import Fraction

from ipsec_core.errors import ScenarioError

_RATE = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([kMGT]?)bit/s\s*")
_DURATION = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*(ns|us|ms|s|min|h)\s*")
_PREFIX = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_NANOSECONDS = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9, "min": 60 * 10**9, "h": 3600 * 10**9}
_MAXIMUM_RATE = 10 * 10**12
_MAXIMUM_DURATION = 10**9 * 10**9


def parse_rate(text: object, where: str) -> int:
    """Bits per second."""
    match = _RATE.fullmatch(text) if isinstance(text, str) else None
    rate = Fraction(match[1]) * _PREFIX[match[2]] if match else Fraction(0)
    if rate.denominator != 1 or not 1 <= rate <= _MAXIMUM_RATE:
        raise ScenarioError(
            f"{where}: {text!r} is not a rate; accepted: 1bit/s to 10Tbit/s, such as 100Mbit/s, 1Gbit/s, 2.5Gbit/s"
        )
    return int(rate)


def parse_duration(text: object, where: str) -> int:
    """Nanoseconds."""
    match = _DURATION.fullmatch(text) if isinstance(text, str) else None
    if match:
        duration = Fraction(match[1]) * _NANOSECONDS[match[2]]
        if duration.denominator == 1 and duration <= _MAXIMUM_DURATION:
            return int(duration)
    raise ScenarioError(
        f"{where}: {text!r} is not a duration; accepted: whole nanoseconds, such as 0s, 250ns, 5us, 1.5ms, 2s, 3min, 1h"
    )
