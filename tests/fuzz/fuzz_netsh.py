"""Scripts of netsh ipsec static; language_reader.py says what must hold."""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["ipsec_core.policy"]):
    from language_reader import read_netsh


def one_input(data: bytes) -> None:
    read_netsh(data)


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
