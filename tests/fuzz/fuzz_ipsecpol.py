"""Command lines of ipsecpol; language_reader.py says what must hold."""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["ipsec_core.policy"]):
    from language_reader import read_ipsecpol


def one_input(data: bytes) -> None:
    read_ipsecpol(data)


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
