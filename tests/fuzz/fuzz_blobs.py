"""The ipsecData of policy objects; blob_reader.py says what must hold."""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["ipsec_core.policy"]):
    from blob_reader import read


def one_input(data: bytes) -> None:
    read(data)


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
