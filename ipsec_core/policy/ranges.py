"""Ranges of the policy model."""

from __future__ import annotations

from ipsec_core.errors import PolicyError

DWORD = 0xFFFF_FFFF


def check_range(what: str, value: int, low: int, high: int, unit: str = "") -> None:
    if not low <= value <= high:
        raise PolicyError(f"{what}: {value} is out of range; accepted: {low} to {high}{unit}")
