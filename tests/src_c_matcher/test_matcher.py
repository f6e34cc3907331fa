"""The compiled matcher answers as the walk through the list, whatever the list, the hash and the memory are."""

from __future__ import annotations

import struct
import subprocess
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

NONE = 0xFFFFFFFF
MAPPED = 0xFFFF << 32


def packets_for(filters: list[Any], pool: Any, count: int) -> list[Any]:
    """A third of them are made for no filter."""
    return [pool.packet(pool.random.choice(filters) if filters and i % 3 else None) for i in range(count)]


def subsets(fields: tuple[str, ...]) -> list[tuple[str, ...]]:
    return [some for size in range(len(fields) + 1) for some in combinations(fields, size)]


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 1 << 32), st.integers(0, 70), st.tuples(*[st.integers(0, (1 << 64) - 1)] * 2))
def test_both_searches_equal_python(libraries: Any, kit: Any, number: int, count: int, seed: tuple[int, int]) -> None:
    filters, pool = kit.lists[number % 4](Random(number), count)
    packets = packets_for(filters, pool, 30)
    expected = [kit.first(filters, p) for p in packets]
    library = libraries[list(libraries)[number // 4 % len(libraries)]]
    assert library.walk(filters, packets) == expected
    assert library.find(filters, packets, seed) == expected


def test_thousands_of_filters(library: Any, make_list: Any) -> None:
    filters, pool = make_list(Random(1), 3000)
    packets = packets_for(filters, pool, 2000)
    walked = library.walk(filters, packets)
    hits = [i for i in walked if i != NONE]
    # The lists are worth the name: hits and misses, many different answers, deep ones among them.
    assert 200 < len(hits) < 2000
    assert len(set(hits)) > 10
    assert max(hits) > 20
    assert library.find(filters, packets) == walked


def test_every_combination_of_fields_that_match_everything(library: Any, kit: Any) -> None:
    pool = kit.Pool(Random(2), addresses=2, ports=3)
    packets = [pool.packet() for _ in range(60)]
    everything = []
    for any_of in subsets(kit.fields):
        filters = [pool.filter(any_of) for _ in range(12)]
        everything += filters
        for part in (filters[:1], filters):
            expected = [kit.first(part, p) for p in packets]
            assert library.find(part, packets) == expected, any_of
            assert library.walk(part, packets) == expected, any_of
    for _ in range(5):
        pool.random.shuffle(everything)
        assert library.find(everything, packets) == library.walk(everything, packets)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 8, 9, 11, 12, 13, 16, 17, 29])
def test_shapes_of_every_small_size(library: Any, kit: Any, count: int) -> None:
    """Around the limits between single filters and tables, with few and with many tables."""
    for shapes in (1, 40):
        filters = [
            kit.Filter(MAPPED | i, ~(1 << 40 + shape), destination_port=port + 1)
            for i in range(count)
            for shape in range(shapes)
            for port in (i % 3,)
        ]
        packets = [kit.Packet(MAPPED | i, 0, 0, port) for i in range(count + 1) for port in range(5)]
        assert library.find(filters, packets) == [kit.first(filters, p) for p in packets]


def test_families(library: Any, kit: Any) -> None:
    v4, v6 = kit.Packet(MAPPED | 1, MAPPED | 2, family=4), kit.Packet(1 << 127, 1, family=6)
    for family, expected in ((0, [0, 0]), (4, [0, NONE]), (6, [NONE, 0])):
        assert library.find([kit.Filter(family=family)], [v4, v6]) == expected


@pytest.mark.parametrize("direction", [0, 1])
def test_directions(library: Any, kit: Any, direction: int) -> None:
    ours, theirs = kit.Filter(direction=direction), kit.Filter(direction=1 - direction)
    packet = kit.Packet(MAPPED, MAPPED, direction=direction)
    assert library.find([theirs] * 9 + [ours] * 9, [packet]) == [9]
    assert library.find([theirs] * 9, [packet]) == [NONE]


def test_later_fragment_matches_no_port(library: Any, kit: Any) -> None:
    filters = [kit.Filter(destination_port=80), kit.Filter(source_port=80), kit.Filter()]
    assert library.find(filters, [kit.Packet(MAPPED, MAPPED, 0, 0, 6)]) == [2]
    assert library.find(filters[:2], [kit.Packet(MAPPED, MAPPED, 0, 0, 6)]) == [NONE]


def test_empty_list(library: Any, kit: Any) -> None:
    packets = [kit.Packet(0, 0, direction=direction) for direction in (0, 1)]
    assert library.find([], packets) == [NONE, NONE]


@pytest.mark.parametrize("end", ["source", "destination"])
def test_every_bit_of_an_address_counts(full: Any, kit: Any, end: str) -> None:
    zero = kit.Packet(0, 0)
    packets = [zero] + [replace(zero, **{end: 1 << bit}) for bit in range(128)]
    whole = (1 << 128) - 1
    table = [kit.Filter(**{f"{end}_mask": whole, end: 1 << bit}) for bit in range(128)]
    assert full.find(table, packets) == [NONE, *range(128)]
    for bit in range(128):
        assert full.find(table[bit : bit + 1], packets[: bit + 2]) == [NONE] * (bit + 1) + [0]
    blind = [kit.Filter(**{f"{end}_mask": whole ^ 1 << bit}) for bit in range(128)]
    assert full.find(blind, packets) == [0, *range(128)]


def test_seeds_do_not_change_the_answer(full: Any, make_list: Any) -> None:
    filters, pool = make_list(Random(3), 500)
    packets = packets_for(filters, pool, 300)
    walked = full.walk(filters, packets)
    for seed in ((0, 0), (1, 0), (0, (1 << 64) - 1), (0x9E3779B97F4A7C15, 12345)):
        assert full.find(filters, packets, seed) == walked


def test_every_allocation_may_fail(full: Any, make_list: Any) -> None:
    filters, _ = make_list(Random(4), 300)
    before = full.c.test_blocks()
    for number in range(1, 100):
        full.c.test_fail_allocation(number)
        rc, matcher = full.create(filters)
        full.c.test_fail_allocation(0)
        if rc == 0:
            break
        assert (rc, matcher) == (-1, None)
        assert full.c.test_blocks() == before
    assert number > 5
    assert full.c.test_blocks() > before
    full.c.ipc_matcher_destroy(matcher)
    assert full.c.test_blocks() == before
    full.c.ipc_matcher_destroy(None)


def test_memory_is_linear(full: Any, make_list: Any) -> None:
    for count in (500, 4000):
        before = full.c.test_bytes()
        with full.matcher(make_list(Random(5), count)[0]):
            assert full.c.test_bytes() - before < 160 * count + 1024
        assert full.c.test_bytes() == before


def test_sanitizers(sanitized: list[Path], make_list: Any) -> None:
    cases = []
    for number, count in enumerate((0, 1, 3, 4, 5, 40, 700)):
        filters, pool = make_list(Random(number), count)
        packets = packets_for(filters, pool, 200)
        records = [f.c(i) for i, f in enumerate(filters)] + [p.c() for p in packets]
        cases.append(struct.pack("=QQII", number, 7, len(filters), len(packets)) + b"".join(map(bytes, records)))
    for program in sanitized:
        done = subprocess.run([program], input=b"".join(cases), capture_output=True, env={})
        assert (done.returncode, done.stderr.decode(), done.stdout.split()) == (0, "", [b"0"] * len(cases))
