"""The fuzz targets of the command languages without a fuzzer: on their seeds, on noise, and whether they notice what
they are for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

import language_reader
import pytest
import seeds
from language_reader import Broken, read_ipsecpol, read_netsh

from ipsec_core.errors import PolicyError
from ipsec_core.policy import ipsecpol, netsh, netsh_lines
from ipsec_core.policy.catalogue import Catalogue
from ipsec_core.policy.model import Policy

LANGUAGES = pytest.mark.parametrize(
    ("read", "inputs"), [(read_netsh, seeds.netsh_scripts), (read_ipsecpol, seeds.ipsecpol_lines)]
)


@LANGUAGES
def test_seeds(read: Callable[[bytes], bool], inputs: Any) -> None:
    verdicts = [read(data) for data in inputs()]
    assert verdicts.count(True) >= 6
    assert verdicts.count(False) >= 2


@LANGUAGES
def test_noise(read: Callable[[bytes], bool], inputs: Any) -> None:
    random = Random(1)
    texts = list(inputs())
    for _ in range(150):
        data = bytearray(random.choice(texts))
        for _ in range(random.randrange(1, 4)):
            data[random.randrange(len(data))] = random.choice(b"\0\r\n \"'\\=+[](){}#%^*0aA\xff")
        read(bytes(data))


def test_a_writer_that_loses_something_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    original = language_reader.write

    def careless(policy: Policy) -> str:
        return original(replace(policy, description=""))

    monkeypatch.setattr(language_reader, "write", careless)
    with pytest.raises(Broken, match="came back as another one"):
        read_netsh(b"set policy P description=x")


def test_half_a_script_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    original = netsh.run

    def careless(script: str, catalogue: Catalogue, where: str, **more: Any) -> list[str]:
        return [note for line in script.split("\n") for note in original(line, catalogue, where, **more)]

    monkeypatch.setattr(language_reader.netsh, "run", careless)
    with pytest.raises(Broken, match="has changed something"):
        read_netsh(b"set policy P description=x\nadd")


def test_an_error_of_two_lines_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def careless(*_: Any, **__: Any) -> None:
        raise PolicyError("x: one\ntwo")

    monkeypatch.setattr(ipsecpol, "parse", careless)
    with pytest.raises(Broken, match="not one line"):
        read_ipsecpol(b"-w REG")


def test_another_error_comes_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(netsh_lines, "_VERBS", None)
    with pytest.raises(TypeError):
        read_netsh(b"show")
