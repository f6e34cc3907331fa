"""Look-ups of bursts equal single look-ups in both tables, whatever the tables hold."""

from __future__ import annotations

import random
from typing import Any

import pytest

ESP, AH, IPV6 = 50, 51, 0x100
Key = tuple[int, int]


def fill(table: Any, rng: random.Random, keys: list[Key], tag: int, share: float) -> None:
    """Up to `share` of the slots, at most all but one."""
    while table.used < min(round(table.size * share), table.size - 1):
        assert table.insert(*rng.choice(keys), tag, rng.getrandbits(31)) == 0


def check(library: Any, main: Any, overflow: Any, keys: list[Key], tag: int) -> None:
    tables = [table for table in (main, overflow) if table]
    wanted = {key: [index for table in tables for index in table.all(*key, tag)] for key in set(keys)}
    found = library.burst(main, overflow, keys, tag)
    for key, index in zip(keys, found, strict=True):
        assert index in (wanted[key] or [library.none])


@pytest.mark.parametrize("sizes", [(2, 2), (3, 8), (8, 3), (4, 4), (5, 6), (16, 16), (7, 64), (64, 256), (256, 9)])
@pytest.mark.parametrize("shares", [(0.5, 0.5), (1, 1), (0, 1), (1, 0), (0.25, 0.9), (0, 0)])
def test_burst_equals_single_look_ups(library: Any, sizes: tuple[int, int], shares: tuple[float, float]) -> None:
    for seed in range(2):
        rng = random.Random(seed)
        # Half of what is asked for was never put in; some keys are in both tables, some twice in one.
        keys = [(rng.getrandbits(32), rng.choice([0x0A010002, 0x0A010003])) for _ in range(sum(sizes))]
        absent = [(rng.getrandbits(32), 0x0A010002) for _ in keys]
        seeded = rng.getrandbits(64)
        main, overflow = (library.table(size, seeded) for size in sizes)
        fill(main, rng, keys, ESP, shares[0])
        fill(overflow, rng, keys, ESP, shares[1])
        for count in (1, 2, 31, 64, 256):
            asked = rng.choices(keys + absent, k=count)
            check(library, main, overflow, asked, ESP)
            check(library, main, None, asked, ESP)
            check(library, main, library.table(0), asked, ESP)
        assert library.burst(main, overflow, asked, AH) == [library.none] * 256
        assert library.burst(main, overflow, asked, ESP | IPV6) == [library.none] * 256


def test_every_sa_of_main_and_overflow_is_found(library: Any) -> None:
    """As a driver fills them: the main table to the half, the rest in the one that grows."""
    rng = random.Random(3)
    for sas in (20, 128, 129, 200, 300, 5000):
        main, overflow = library.table(256, 9), library.table(0)
        keys = list(dict.fromkeys((rng.getrandbits(32), 0x0A010000 + rng.randrange(4)) for _ in range(sas)))
        for index, key in enumerate(keys):
            table = main
            if main.used >= main.size // 2:
                if not overflow.size:
                    overflow = library.table(512, 9)
                assert overflow.reserve() == 0
                table = overflow
            assert table.insert(*key, ESP, index) == 0
        order = list(range(len(keys)))
        rng.shuffle(order)
        for at in range(0, len(order), 64):
            part = order[at : at + 64]
            assert library.burst(main, overflow, [keys[i] for i in part], ESP) == part
            # Hits among misses: one wrong bit in the SPI, the address or both.
            spoilt = [(keys[i][0] ^ (i & 1), keys[i][1] ^ (i >> 1 & 1) << 31) for i in part]
            known = {key: index for index, key in enumerate(keys)}
            assert library.burst(main, overflow, spoilt, ESP) == [known.get(key, library.none) for key in spoilt]


def test_no_look_ups(library: Any) -> None:
    main = library.table(4)
    assert library.c.ipc_spi_find_burst(main.t, None, None, None, ESP, 0, None) is None
    assert main.insert(1, 2, ESP, 3) == 0
    assert library.c.ipc_spi_find_burst(main.t, None, None, None, ESP, 0, None) is None


@pytest.mark.parametrize(("sas", "slots"), [(1, 4), (1000, 64), (1000, 65536)])
def test_the_benchmark_does_its_look_ups(library: Any, sas: int, slots: int) -> None:
    """It gives a code instead of a time when a look-up finds the wrong SA."""
    code, seconds = library.bench(sas, slots, 2000)
    assert code == 0
    assert seconds > 0


def test_the_benchmark_refuses(library: Any) -> None:
    for arguments in ((0, 64, 1), (1, 3, 1), (1, 64, 0), (1, 2**31, 1)):
        assert library.bench(*arguments)[0] == library.invalid
