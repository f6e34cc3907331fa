"""The fuzz target of ipsecData without a fuzzer: on its seeds, on noise, and whether it notices what it is for."""

from __future__ import annotations

from random import Random

import blob_reader
import pytest
import seeds
from blob_reader import OBJECTS, OWN, Broken, blob_of, read

from ipsec_core.policy import blobs, records
from ipsec_core.policy.integrity import Problem
from ipsec_core.policy.objects import StoredObject


def test_seeds() -> None:
    """The built-in blobs, and real ones where they are at hand."""
    given = list(seeds.policy_blobs())
    assert [blob_of(data) for data in given[: len(OBJECTS)]] == [(item, item.data) for item in OBJECTS]
    assert all(read(data) for data in given[: len(OBJECTS)])
    verdicts = [read(data) for data in given[len(OBJECTS) :]]
    assert verdicts.count(True) >= 5


def test_noise() -> None:
    random = Random(1)
    for _ in range(100):
        number = random.randrange(len(OBJECTS))
        noise = bytearray(len(OBJECTS[number].data))
        for _ in range(random.randrange(1, 4)):
            noise[random.randrange(len(noise))] = random.randrange(256)
        read(bytes([OWN + number]) + bytes(noise))


def test_a_lost_byte_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blob_reader, "encode", lambda data: blobs.encode(data)[:-1])
    with pytest.raises(Broken, match="came back as something else"):
        read(bytes([OWN]))


def test_a_blind_check_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def blind(objects: tuple[StoredObject, ...]) -> tuple[Problem, ...]:
        return ()

    monkeypatch.setattr(blob_reader, "check", blind)
    with pytest.raises(Broken, match="the check passes a policy that cannot be read"):
        read(bytes([OWN, 1]))


def test_a_setting_that_is_not_written_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "policy_data", lambda seconds, old: old or blobs.PolicyData(0))
    with pytest.raises(Broken, match="a policy written anew says something else"):
        read(bytes([OWN]) + bytes(20) + b"\1")
