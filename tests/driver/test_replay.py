"""The replay window against a set (RFC 2401 appendix C), and what may never move it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from driver_kit import KEYS, SPI, ip, receiver, run, sa, statuses, twin
from esp_oracle import Esp

from ipsec_core import Status

TOP = 0xFFFFFFFF
SIZES = [32, 64, 96, 128, 160, 192, 512, 1024, 2016, 2048, 4032, 4064, 4096]
GOOD, SEEN = Status.PROTECTED, Status.REPLAYED


@dataclass
class Window:
    """All numbers ever taken. Number `n` is left of the window when `top - n >= size`."""

    size: int
    top: int = 0
    seen: set[int] = field(default_factory=set)

    def take(self, number: int) -> Status:
        if number == 0 or number in self.seen or (self.size and number <= self.top - self.size):
            return SEEN
        self.seen.add(number)
        self.top = max(self.top, number)
        return GOOD

    @property
    def lost(self) -> int:
        """Numbers that left the window and were never taken. Not for a start in the middle of the number space."""
        edge = max(self.top - self.size, 0)
        return edge - sum(number <= edge for number in self.seen)


def packet(number: int) -> bytes:
    return twin().seal(ip(b"replay"), number, number.to_bytes(8, "big"))


def scripts(size: int) -> Iterator[list[int]]:
    rng = random.Random(size)
    top = 0
    numbers = []
    for _ in range(700):
        step = rng.choice([1, 1, 1, 1, 2, 3, 63, 64, 65, size - 1, size, size + 1])
        if rng.random() < 0.6:
            top += step
            numbers.append(top)
        else:
            numbers.append(max(0, top - rng.randrange(0, size + 3)))
    yield numbers
    edge = 3 * size + 7
    yield [edge, edge - size, edge - size + 1, edge - size + 1, edge - 1, edge, 0, 1, edge + 1, edge - size + 1]
    yield [0, 1, 1, 2, 0, size, size + 1, 1, 2, size + 1]
    shuffled = list(range(1, 2 * size))
    rng.shuffle(shuffled)
    yield shuffled[:600]


@pytest.mark.parametrize("size", SIZES)
def test_window_equals_set(size: int) -> None:
    for numbers in scripts(size):
        driver, oracle = receiver(replay_window=size), Window(size)
        found = statuses(driver, "in", [packet(number) for number in numbers])
        assert found == [oracle.take(number) for number in numbers]
        info = driver.sas()[0]
        assert (info.sequence, info.lost) == (oracle.top, oracle.lost)
        assert (info.packets, info.dropped) == (found.count(GOOD), found.count(SEEN))


@pytest.mark.parametrize("size", range(32, 4097, 32))
def test_edges_of_every_size(size: int) -> None:
    top = 2 * size + 13
    numbers = [top, top - size, top - size + 1, top - size + 1, top]
    assert statuses(receiver(replay_window=size), "in", map(packet, numbers)) == [GOOD, SEEN, GOOD, SEEN, SEEN]


@pytest.mark.parametrize("size", [32, 64, 4096])
def test_end_of_the_number_space(size: int) -> None:
    numbers = [TOP - 5, TOP, TOP, TOP - size, TOP - size + 1, TOP - 1, TOP - 5, 0, 1]
    driver = receiver(replay_window=size)
    assert statuses(driver, "in", map(packet, numbers)) == [GOOD, GOOD, SEEN, SEEN, GOOD, GOOD, SEEN, SEEN, SEEN]
    assert (driver.sas()[0].sequence, driver.sas()[0].lost) == (TOP, TOP - size)


def test_without_a_window_only_zero_is_refused() -> None:
    driver = receiver(replay_window=0)
    assert statuses(driver, "in", map(packet, [5, 5, 1, 0, 5])) == [GOOD, GOOD, GOOD, SEEN, GOOD]
    assert (driver.sas()[0].sequence, driver.sas()[0].lost) == (5, 0)


@pytest.mark.parametrize("together", [1, 2, 6])
def test_duplicates(together: int, backend: str) -> None:
    """In one burst or in several."""
    driver = receiver("3DES-CBC", driver={"backend": backend})
    wire = twin("3DES-CBC").seal(ip(b"twice"), 9, bytes(8))
    found = [status for _ in range(0, 6, together) for status in statuses(driver, "in", [wire] * together)]
    assert found == [GOOD] + [SEEN] * 5


def test_a_saved_right_edge_is_not_accepted_again() -> None:
    """`sequence` is the highest number seen; what came before it is unknown, so none of it is taken again."""
    for last in (1, 63, 64, 65, 1000, TOP - 1):
        driver = receiver(replay_window=64, sequence=last)
        numbers = [last, max(last - 1, 0), max(last - 63, 0), last + 1, last + 1]
        assert statuses(driver, "in", map(packet, numbers)) == [SEEN, SEEN, SEEN, GOOD, SEEN]
        assert driver.sas()[0].lost == 0


def forged(number: int) -> bytes:
    """A packet of somebody who does not have the key."""
    stranger = Esp(SPI, "AES-128-GCM", bytes(reversed(KEYS["AES-128-GCM"])))
    return stranger.seal(ip(b"replay"), number, bytes(8))


def test_only_a_good_icv_moves_the_window(backend: str) -> None:
    driver = receiver(replay_window=64, driver={"backend": backend})
    bad = Status.NOT_AUTHENTICATED
    sequence = [
        packet(1),
        forged(TOP),
        forged(TOP),
        packet(2),
        forged(2),
        forged(3),
        packet(3),
        forged(1000),
        packet(4),
    ]
    wanted = [GOOD, bad, bad, GOOD, SEEN, bad, GOOD, bad, GOOD]
    together = receiver(replay_window=64, driver={"backend": backend})
    assert [run(driver, "in", [p])[0][0] for p in sequence] == wanted
    assert statuses(together, "in", sequence) == wanted
    for each in (driver, together):
        assert (each.sas()[0].sequence, each.sas()[0].lost) == (4, 0)


def test_a_packet_that_fails_after_its_icv_was_good_counts_as_seen() -> None:
    """RFC 2406 3.4.3: the window is updated when the integrity check succeeds."""
    driver = receiver()
    wrong = twin().seal(ip(b"x", source="10.9.9.9"), 8, bytes(8))
    assert statuses(driver, "in", [wrong, wrong]) == [Status.WRONG_SELECTOR, SEEN]


def test_sas_have_windows_of_their_own() -> None:
    driver = receiver(replay_window=64)
    driver.add_sa(sa("in", spi=SPI + 1, replay_window=4096))
    other = twin(spi=SPI + 1)
    assert statuses(driver, "in", [packet(70), other.seal(ip(b"x"), 1, bytes(8)), packet(1)]) == [GOOD, GOOD, SEEN]
