"""The back end against the oracle: sizes, bursts, forgeries, and the memory around packets."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .conftest import HEADER, Backend, CSuite, Guarded, Packet, Suite, make, seal

LONG = [1364, 1412, 1500, 1519, 1520, 1521, 1584, 1585, 1776, 1777, 3055, 3056, 3057, 9000, 16384, 65532, 65535]


def test_every_length_in_mixed_bursts(backend: Backend, suite: Suite) -> None:
    rng = random.Random(1)
    keys = [rng.randbytes(suite.key + 4) for _ in range(3)]
    lengths = rng.sample(range(601), 601)
    for start in range(0, len(lengths), 256):
        burst = lengths[start : start + 256]
        backend.check(suite, [make(suite, length, rng, keys[0]) for length in burst])
        backend.check(suite, [make(suite, length, rng, rng.choice(keys)) for length in burst])


def test_every_length_alone(backend: Backend, some_suite: Suite) -> None:
    rng = random.Random(2)
    key = rng.randbytes(some_suite.key + 4)
    for length in range(601):
        backend.check(some_suite, [make(some_suite, length, rng, key)])


def test_long_packets(backend: Backend, some_suite: Suite) -> None:
    """Around the ends of the table of powers, and up to the largest that IPv4 can hold."""
    rng = random.Random(3)
    key = rng.randbytes(some_suite.key + 4)
    backend.check(some_suite, [make(some_suite, length, rng, key) for length in LONG])
    for length in (1412, 1519, 1520, 1521):
        backend.check(some_suite, [make(some_suite, length - i, rng, key) for i in range(5)])


@pytest.mark.parametrize("one_key", [True, False])
def test_sizes_of_bursts(backend: Backend, some_suite: Suite, one_key: bool) -> None:
    rng = random.Random(4)
    keys = [rng.randbytes(some_suite.key + 4) for _ in range(1 if one_key else 5)]
    for count in [*range(1, 34), *range(37, 256, 31), 256]:
        backend.check(
            some_suite, [make(some_suite, rng.choice((44, 68, 104, 100)), rng, rng.choice(keys)) for _ in range(count)]
        )


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 500).map(lambda n: 4 * n)), max_size=40),
    st.randoms(use_true_random=False),
)
def test_any_burst(backend: Backend, some_suite: Suite, shape: list[tuple[int, int]], rng: random.Random) -> None:
    keys = [rng.randbytes(some_suite.key + 4) for _ in range(3)]
    backend.check(some_suite, [make(some_suite, length, rng, keys[key]) for key, length in shape])


@pytest.mark.parametrize("length", [0, 20, 68, 212])
def test_every_bit_counts(backend: Backend, suite: Suite, length: int) -> None:
    """Whatever bit is wrong, this packet is refused; those beside it are not."""
    rng = random.Random(5)
    packet = make(suite, length, rng)
    sealed = seal(suite, packet)
    bits = range(8 * len(sealed.wire))
    for start in range(0, len(bits), 128):
        burst = [p for bit in bits[start : start + 128] for p in (sealed.flip(bit), sealed)]
        opened = backend.run("decrypt", suite, burst)
        assert [p.ok for p in opened] == [0, 1] * (len(burst) // 2)
        assert {p.text for p in opened[1::2]} == {packet.text}
    alone = [backend.run("decrypt", suite, [sealed.flip(bit)])[0].ok for bit in rng.sample(bits, 32)]
    assert alone == [0] * 32


def test_high_half_of_sequence_number(backend: Backend, suite: Suite) -> None:
    sealed = seal(suite, make(suite, 68, random.Random(6)))
    burst = [replace(sealed, high=sealed.high ^ 1 << bit) for bit in range(32)]
    assert [p.ok for p in backend.run("decrypt", suite, burst)] == [0 if suite.esn else 1] * 32


def test_wrong_among_right(backend: Backend, suite: Suite) -> None:
    """The same text under two ICVs in one burst: each is judged by its own."""
    sealed = seal(suite, make(suite, 100, random.Random(7)))
    wrong = replace(sealed, icv=bytes(b ^ 0x80 for b in sealed.icv))
    assert [p.ok for p in backend.run("decrypt", suite, [wrong, sealed, wrong, wrong, sealed])] == [0, 1, 0, 0, 1]


def test_no_byte_beyond_the_packet_is_touched(backend: Backend, some_suite: Suite) -> None:
    """Packets that begin where a forbidden page ends, and such that end where one begins."""
    rng = random.Random(8)
    key = rng.randbytes(some_suite.key + 4)
    memory = [Guarded(2048) for _ in range(4)]
    for length in [*range(300), 1412, 1519, 1520]:
        packets = [make(some_suite, length, rng, key) for _ in memory]
        sealed = [seal(some_suite, p) for p in packets]
        size = HEADER + length + some_suite.icv
        for at in ([m.base for m in memory], [m.base + m.size - size for m in memory]):
            for count in (1, 4):
                assert backend.run("encrypt", some_suite, packets[:count], at[:count]) == sealed[:count]
                opened = backend.run("decrypt", some_suite, sealed[:count], at[:count])
                assert [p.text for p in opened] == [p.text for p in packets[:count]]
                assert all(p.ok for p in opened)


def test_ranks_what_it_can_do(backend: Backend) -> None:
    can = {e for e in range(20) if backend.rank(CSuite(e, 0, 0, 0))}
    assert can == set(range(9, 18))
    assert all(backend.rank(CSuite(e, 0, 1, 0)) for e in can)
    for wrong in (CSuite(9, 2, 0, 0), CSuite(9, 6, 0, 0), CSuite(9, 0, 0, 1), CSuite(0, 6, 0, 0), CSuite(255, 0, 0, 0)):
        assert backend.rank(wrong) == 0
        assert not backend.table.key_create(backend.engine, wrong, bytes(36), bytes(36))


def test_names(backend: Backend) -> None:
    assert backend.table.name == b"vaes"
    assert b"VAES" in backend.table.version()
    backend.table.key_destroy(None)


def test_keys_are_aligned_and_wiped(backend: Backend, suite: Suite) -> None:
    before = backend.wiped.value
    key = backend.table.key_create(backend.engine, suite.c, bytes(suite.key + 4), None)
    assert key % 64 == 0
    assert backend.wiped.value - before >= 4 * 4 * (suite.key // 4 + 7), "the schedule is built in memory of its own"
    before = backend.wiped.value
    backend.table.key_destroy(key)
    assert backend.wiped.value - before == backend.table.key_size(suite.c)


def test_empty_burst(backend: Backend, suite: Suite) -> None:
    assert backend.run("encrypt", suite, []) == backend.run("decrypt", suite, []) == []


def test_packet_of_known_bytes(backend: Backend) -> None:
    """Without the oracle: the text of test case 2 of the GCM specification."""
    suite = Suite(16, 16)
    packet = Packet(bytes(20), bytes(8), bytes(8), bytes(16))
    (sealed,) = backend.run("encrypt", suite, [packet])
    assert sealed.text.hex() == "0388dace60b6a392f328c2b971b2fe78"
