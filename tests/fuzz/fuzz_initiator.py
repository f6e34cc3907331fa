"""An engine that asks first; ike_scene.py says what an input does and what must hold."""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["ipsec_core.ike"]):
    from ike_scene import Scene


def one_input(data: bytes) -> None:
    Scene(data, initiator=True)


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
