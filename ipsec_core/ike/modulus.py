"""The twin of `_modexp.pyx` for a build without libcrypto: Python's `pow`, ten times as slow, its time not constant."""

from __future__ import annotations


class Modulus:
    __slots__ = ("_modulus", "length")

    def __init__(self, modulus: bytes) -> None:
        self._modulus = int.from_bytes(modulus)
        self.length = len(modulus)

    def power(self, base: bytes, exponent: bytes) -> bytes:
        return pow(int.from_bytes(base), int.from_bytes(exponent), self._modulus).to_bytes(self.length)
