"""Every suite of every back end against Python's crypto, byte for byte."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
from crypto_oracle import SUITES, Packet, Suite


def secrets_of(r: random.Random, suite: Suite, count: int) -> list[tuple[bytes, bytes]]:
    return [(r.randbytes(suite.key_lengths[0]), r.randbytes(suite.key_lengths[1])) for _ in range(count)]


def packet_of(r: random.Random, suite: Suite, length: int) -> Packet:
    head = r.randrange(32, 80) if suite.ah else 8
    high = r.randrange(2**32) if suite.esn else 0
    return Packet(r.randbytes(head), r.randbytes(suite.iv), r.randbytes(length), bytes(suite.icv), high)


def check(r: random.Random, suite: Suite, backend: Any, lengths: list[int], keys: int) -> None:
    """Seal as the oracle does; open what the oracle sealed."""
    secrets = secrets_of(r, suite, keys)
    chosen = [r.choice(secrets) for _ in lengths]
    plain = [packet_of(r, suite, length) for length in lengths]
    sealed = [suite.seal(*secret, packet) for secret, packet in zip(chosen, plain, strict=True)]
    handles = [backend.key(suite, *secret) for secret in chosen]
    assert backend.run("encrypt", suite, handles, plain) == sealed
    opened = [replace(s, text=p.text) for s, p in zip(sealed, plain, strict=True)]
    if suite.ah:
        opened = [replace(p, icv=bytes(suite.icv)) for p in opened]
    assert backend.run("decrypt", suite, handles, sealed) == opened


def test_every_text_length(backend: Any, suite: Suite) -> None:
    r = random.Random(f"{suite.name} lengths")
    lengths = [*range(0, 161, suite.block), *(n - n % suite.block for n in (511, 576, 1408, 1500, 4001, 9000))]
    r.shuffle(lengths)
    check(r, suite, backend, lengths, keys=3)


def test_bursts_from_1_to_256(backend: Any, suite: Suite) -> None:
    """Around the numbers of lanes (4, 8, 16) and of packets that a back end takes together."""
    r = random.Random(f"{suite.name} counts")
    for count in (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 64, 65, 127, 129, 256):
        check(r, suite, backend, [suite.block * r.randrange(12) for _ in range(count)], keys=min(count, 5))


def test_an_empty_burst_is_nothing(backend: Any, suite: Suite) -> None:
    assert backend.run("encrypt", suite, [], []) == []
    assert backend.run("decrypt", suite, [], []) == []


@pytest.mark.parametrize("count", [257, 1000])
def test_more_than_the_library_queues(backend: Any, count: int) -> None:
    for suite in SUITES[::11]:
        if backend.serves(suite):
            check(random.Random(count), suite, backend, [suite.block * (i % 9) for i in range(count)], keys=9)


def test_the_longest_packets_beside_the_shortest(backend: Any) -> None:
    for suite in SUITES[::7]:
        if backend.serves(suite):
            longest = 65480 - 65480 % suite.block
            check(random.Random(3), suite, backend, [longest, 16, 16, longest, 32, 16] * 3, keys=5)


def test_one_wrong_packet_harms_no_other(backend: Any, suite: Suite) -> None:
    """Every bit of the ICV and some of the rest, one at a time, beside right packets."""
    if not suite.icv:
        return
    r = random.Random(f"{suite.name} bits")
    (secret,) = secrets_of(r, suite, 1)
    plain = packet_of(r, suite, 5 * suite.block)
    sealed = suite.seal(*secret, plain)
    wrong = [sealed.flip(b) for b in range(sealed.bits) if b % 13 == 0 or b >= sealed.bits - 8 * suite.icv]
    if suite.esn:
        wrong += [replace(sealed, high=sealed.high ^ 1), replace(sealed, high=sealed.high ^ 1 << 31)]
    burst = [packet for bad in wrong for packet in (bad, sealed)]
    results = backend.run("decrypt", suite, [backend.key(suite, *secret)] * len(burst), burst)
    kept = bytes(suite.icv) if suite.ah else sealed.icv
    assert results[1::2] == [replace(sealed, text=plain.text, icv=kept)] * len(wrong)
    assert [p.ok for p in results[::2]] == [0] * len(wrong)
    if suite.integrity and not suite.ah:  # verified before anything is decrypted
        assert results[::2] == [replace(p, ok=0) for p in wrong]


def test_a_wrong_key_opens_nothing(backend: Any, suite: Suite) -> None:
    if not suite.icv:
        return
    r = random.Random(8)
    secrets = secrets_of(r, suite, 2)
    sealed = suite.seal(*secrets[0], packet_of(r, suite, 9 * suite.block))
    keys = [backend.key(suite, *secret) for secret in secrets]
    assert [p.ok for p in backend.run("decrypt", suite, keys, [sealed, sealed])] == [1, 0]
