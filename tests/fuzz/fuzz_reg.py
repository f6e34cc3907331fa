"""The reader of .reg files; reg_reader.py says what must hold."""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["ipsec_core.computer.reg_file", "ipsec_core.computer.registry"]):
    from reg_reader import read


def one_input(data: bytes) -> None:
    read(data)


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
