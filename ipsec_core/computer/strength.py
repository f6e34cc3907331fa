"""Export strength: Windows 2000 without the High Encryption Pack encrypts with DES and nothing stronger.

A policy that asks for 3DES is not refused, it is weakened in both phases (KB 257225, events 541 and 542 of Oakley). Two
methods that become the same stand once, at the place of the first.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ipsec_core.policy.methods import Confidentiality, KeyExchangeMethod, SecurityMethod


def exported_exchanges(methods: Iterable[KeyExchangeMethod]) -> tuple[KeyExchangeMethod, ...]:
    """Main Mode methods at export strength."""
    return tuple(dict.fromkeys(replace(item, encryption=_weakened(item.encryption)) for item in methods))


def exported_methods(methods: Iterable[SecurityMethod]) -> tuple[SecurityMethod, ...]:
    """Quick Mode methods at export strength; AH and ESP with NULL are what they were."""
    return tuple(
        dict.fromkeys(
            item if item.confidentiality is None else replace(item, confidentiality=_weakened(item.confidentiality))
            for item in methods
        )
    )


def _weakened(cipher: Confidentiality) -> Confidentiality:
    return Confidentiality.DES if cipher is Confidentiality.TRIPLE_DES else cipher
