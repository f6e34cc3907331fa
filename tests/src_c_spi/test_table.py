"""The SPI table against a list of its entries, with so few slots that everything collides and wraps around."""

from __future__ import annotations

import ctypes
import random
from typing import Any

import pytest

ESP, AH, IPV6 = 50, 51, 0x100
SPIS = [256, 257, 0x1001, 0x10010000, 0xFFFFFFFF, 0x80000100]
WORDS = [0x0A010002, 0x0A010003, 0xFFFFFFFF, 0]
Entry = tuple[int, int, int, int]


def indices(entries: list[Entry], key: tuple[int, int, int]) -> list[int]:
    return sorted(entry[3] for entry in entries if entry[:3] == key)


@pytest.mark.parametrize("size", [*range(2, 18), 33])
def test_table_equals_list(library: Any, size: int) -> None:
    keys = [(spi, word, tag) for spi in SPIS for word in WORDS for tag in (ESP, AH, ESP | IPV6)]
    for seed in range(3):
        rng = random.Random(size * 100 + seed)
        table = library.table(size, rng.getrandbits(64))
        entries: list[Entry] = []
        for step in range(12 * size):
            # From empty to full and back, several times.
            if rng.random() < (0.8 if step // (3 * size) % 2 == 0 else 0.2):
                key = rng.choice(keys)
                # IPv6 addresses may share a word, IPv4 ones are keys by themselves.
                if indices(entries, key) and not key[2] & IPV6:
                    continue
                entry = (*key, step)
                if len(entries) == size - 1:
                    assert table.insert(*entry) == library.full
                else:
                    assert table.insert(*entry) == 0
                    entries.append(entry)
            elif entries:
                entry = entries.pop(rng.randrange(len(entries)))
                assert table.delete(*entry[:3], 1 << 30) == library.not_found
                assert table.delete(*entry) == 0
                assert table.delete(*entry) == library.not_found
            assert table.used == len(entries)
            assert table.size == size
            probes = keys if step % size == 0 else rng.sample(keys, 8)
            for key in [*probes, *(entry[:3] for entry in entries)]:
                wanted = indices(entries, key)
                assert sorted(table.all(*key)) == wanted
                assert table.find(*key) in (wanted or [library.none])


@pytest.mark.parametrize("size", [4, 7, 8, 16])
def test_full_table_emptied_in_any_order(library: Any, size: int) -> None:
    """Every deletion closes its gap: no other key is lost, whatever the run of collisions looks like."""
    for seed in range(20):
        rng = random.Random(seed)
        table = library.table(size, rng.getrandbits(64))
        entries = [(rng.getrandbits(32), WORDS[i % 2], ESP, i) for i in range(size - 1)]
        assert [table.insert(*entry) for entry in entries] == [0] * (size - 1)
        assert table.insert(1, 2, ESP, 3) == library.full
        rng.shuffle(entries)
        while entries:
            gone = entries.pop()
            assert table.delete(*gone) == 0
            assert table.find(*gone[:3]) == library.none
            assert [table.find(*entry[:3]) for entry in entries] == [entry[3] for entry in entries]
        assert all(slot.tag == 0 for slot in table.t.slots[:size])


def test_growing_keeps_everything(library: Any) -> None:
    rng = random.Random(1)
    table = library.table(2)
    entries = [(rng.getrandbits(32), rng.choice(WORDS), ESP | IPV6 * (i % 2), i) for i in range(20000)]
    for entry in entries:
        assert table.reserve() == 0
        assert table.used <= table.size // 2
        assert table.insert(*entry) == 0
    assert table.size == 65536
    for entry in entries:
        assert table.find(*entry[:3]) == entry[3]
    gone = entries[::3]
    for entry in gone:
        assert table.delete(*entry) == 0
    assert all(table.find(*entry[:3]) == library.none for entry in gone)
    assert all(table.find(*entry[:3]) == entry[3] for i, entry in enumerate(entries) if i % 3)


def test_a_table_of_huge_pages(library: Any) -> None:
    rng = random.Random(2)
    table = library.table(131072 + 5)
    assert ctypes.addressof(table.t.slots.contents) % (2 << 20) == 0
    keys = [(rng.getrandbits(32), WORDS[0]) for _ in range(65000)]
    for i, key in enumerate(keys):
        assert table.insert(*key, ESP, i) == 0
    for at in range(0, len(keys), 256):
        part = keys[at : at + 256]
        assert library.burst(table, None, part, ESP) == list(range(at, at + len(part)))


def test_sizes_out_of_range(library: Any) -> None:
    assert [library.create(size) for size in (0, 1, 2**31 + 1)] == [library.invalid] * 3


def test_a_table_of_zeros_is_empty_and_full(library: Any) -> None:
    table = library.table(0)
    assert table.find(0, 0, ESP) == library.none
    assert table.insert(1, 2, ESP, 3) == library.full
    assert table.delete(1, 2, ESP, 3) == library.not_found
    assert library.burst(table, None, [(1, 2)] * 5, ESP) == [library.none] * 5


MAPPED = 0xFFFF << 32


def test_tags_tell_protocol_and_family(library: Any) -> None:
    assert library.tag(50, MAPPED | 0x0A010002) == ESP
    assert library.tag(51, MAPPED | 0x0A010002) == AH
    assert library.tag(50, 0xFE80 << 112 | 1) == ESP | IPV6
    assert library.tag(51, 0x0A010002) == AH | IPV6, "::10.1.0.2 is not the mapped address"


def test_words(library: Any) -> None:
    """The word of an IPv4 address is the address; of an IPv6 address every bit and the seed count."""
    first, same, other = library.table(2, 5), library.table(50, 5), library.table(2, 6)
    for address in (0, 0x0A010002, 0xFFFFFFFF):
        assert first.word(MAPPED | address) == other.word(MAPPED | address) == address
    address = 0x20010DB8 << 96 | 0x1234
    near = [address, *(address ^ 1 << bit for bit in range(128))]
    assert len({first.word(one) for one in near}) == len(near)
    assert [first.word(one) for one in near] == [same.word(one) for one in near]
    assert all(first.word(one) != other.word(one) for one in near)


def test_ipv6_addresses_that_share_a_word(library: Any) -> None:
    """What a driver does: go on with the cursor until the SA's record has the address that was asked for."""
    table = library.table(64, 11)
    prefix = 0x20010DB8 << 96
    seen: dict[int, int] = {}
    pairs: list[tuple[int, int]] = []
    for host in range(400_000):
        address = prefix | host * 0x9E3779B97F4A7C15 % 2**64
        other = seen.setdefault(table.word(address), address)
        if other != address:
            pairs.append((other, address))
            if len(pairs) == 4:
                break
    assert len(pairs) == 4
    records = [address for pair in pairs for address in pair]
    for index, address in enumerate(records):
        assert table.insert(0x1001, table.word(address), ESP | IPV6, index) == 0
    for index, address in enumerate(records):
        candidates = table.all(0x1001, table.word(address), ESP | IPV6)
        assert sorted(candidates) == [index & ~1, index | 1]
        assert [one for one in candidates if records[one] == address] == [index]
        assert library.burst(table, None, [(0x1001, table.word(address))], ESP | IPV6)[0] in candidates
    for index, address in enumerate(records[::2]):
        assert table.delete(0x1001, table.word(address), ESP | IPV6, 2 * index) == 0
    for index, address in enumerate(records):
        assert table.all(0x1001, table.word(address), ESP | IPV6) == [index | 1]
