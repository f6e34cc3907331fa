"""The fuzz target of .reg files without a fuzzer: on its seeds, on noise, and whether it notices what it is for."""

from __future__ import annotations

from random import Random

import pytest
import reg_reader
import seeds
from reg_reader import Broken, read

from ipsec_core.computer import reg_file
from ipsec_core.computer.registry import Registry, Value


def test_seeds() -> None:
    verdicts = [read(data) for data in seeds.reg_files()]
    assert verdicts.count(True) >= 6
    assert verdicts.count(False) >= 2


def test_noise() -> None:
    random = Random(1)
    files = list(seeds.reg_files())
    for _ in range(300):
        data = bytearray(random.choice(files))
        for _ in range(random.randrange(1, 4)):
            data[random.randrange(len(data))] = random.randrange(256)
        read(bytes(data))


def test_a_writer_that_loses_something_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    original = reg_file._raw
    monkeypatch.setattr(reg_file, "_raw", lambda kind, data: original(kind, data)[:-1])
    with pytest.raises(Broken, match="came back as something else"):
        read(b'\1"v"=hex:01,02')


def test_half_an_import_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def careless(registry: Registry, operations: tuple[reg_file.Operation, ...]) -> None:
        for operation in operations:
            with registry.transaction():
                reg_file.apply(registry, [operation])

    monkeypatch.setattr(reg_reader, "apply", careless)
    with pytest.raises(Broken, match="has changed something"):
        read(b'\1"v"=dword:2\n[HKCR]')


def test_another_error_comes_through(monkeypatch: pytest.MonkeyPatch) -> None:
    def outside(number: int, data: bytes, encoding: str) -> Value:
        raise IndexError("outside")

    monkeypatch.setattr(reg_file, "_typed", outside)
    with pytest.raises(IndexError):
        read(b'\1"v"=hex:01')
