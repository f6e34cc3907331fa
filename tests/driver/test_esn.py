"""64-bit sequence numbers (RFC 4303 2.2.1, appendix A): the half that is not sent is found again, and protected."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

import pytest
from driver_kit import ip, ip6, names, opening, oracle, protecting, run, statuses
from hypothesis import given, settings
from hypothesis import strategies as st

from ipsec_core import Status

GOOD, SEEN, FORGED = Status.PROTECTED, Status.REPLAYED, Status.NOT_AUTHENTICATED
HALF = 1 << 32
SUITES = ["gcm", "3des-sha1", "null-sha256", "null-gmac", "ah-sha1", "ah-sha256", "ah-gmac"]
ALL = pytest.mark.parametrize("name", SUITES)
SIZES = [32, 64, 96, 128, 512, 2048, 4064, 4096]
PACKET = ip(b"esn")


def extend(top: int, size: int, low: int) -> int | None:
    """RFC 4303 A2.2 by its idea and not by its cases.

    Of all numbers with this low half take the one that is inside of the window, or, when there is none, the first one
    to the right of it. None: it would lie before the first number or past the last.
    """
    left = top - size + 1
    for high in range((top >> 32) - 1, (top >> 32) + 3):
        number = high * HALF + low
        if number >= left:
            return number if 0 <= number < 2**64 else None
    raise AssertionError("one of them is right of the left edge")


@dataclass
class Window:
    """All numbers taken, and the driver's view of a packet that was sent with `number`."""

    size: int
    top: int = 0
    start: int = 0
    seen: set[int] = field(default_factory=set)

    def take(self, number: int) -> Status:
        taken_for = extend(self.top, self.size, number % HALF)
        if taken_for is None or taken_for <= max(self.start, self.top - self.size) or taken_for in self.seen:
            return SEEN
        if taken_for != number:
            return FORGED
        self.seen.add(number)
        self.top = max(self.top, number)
        return GOOD


def wires(numbers: list[int], name: str = "gcm") -> list[bytes]:
    twin = oracle(name, esn=True)
    return [twin.seal(PACKET, number) for number in numbers]


def compare(size: int, numbers: list[int], start: int = 0, name: str = "gcm") -> None:
    """One packet in a burst, so that the window is where the oracle thinks it is."""
    driver = opening(name, esn=True, replay_window=size, sequence=start)
    window = Window(size, start, start)
    for number, wire in zip(numbers, wires(numbers, name), strict=True):
        assert names(statuses(driver, "in", [wire])) == [window.take(number).name], (hex(number), hex(window.top))
        assert driver.sas()[0].sequence == window.top


def around(top: int, size: int) -> list[int]:
    """Numbers near the edges of the window, and those with the same low half one turn before and after."""
    near = [top + d for d in (-2, -1, 0, 1, 2)]
    near += [top - size + d for d in (-1, 0, 1, 2)]
    near += [top - size // 2, top + size]
    return [n + turn for n in near for turn in (-HALF, 0, HALF)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("turn", [0, 1, 2, 2**31])
def test_cases_a_and_b(size: int, turn: int) -> None:
    """Case A: the window is inside of one turn of the low half; case B: it straddles two."""
    rng = random.Random(size * 31 + turn)
    middles = [size - 2, size - 1, size, 0, 1, size // 2, HALF - 1, HALF - 2, HALF - size, HALF // 2]
    for low in middles:
        top = turn * HALF + low
        if top == 0:
            continue
        numbers = [n for n in around(top, size) if 0 <= n < 2**64]
        rng.shuffle(numbers)
        compare(size, [top + 1, *numbers], start=top)


@pytest.mark.parametrize("size", SIZES)
def test_first_packets(size: int) -> None:
    """Nothing has come before: there is no turn before the first one."""
    compare(size, [0, 1, 1, 3, 2, 0, HALF, HALF - 1, HALF + 1, 4])
    compare(size, [size - 1, 1, size, 1, 0, size + 1, 2, 1])
    compare(size, [size + 5, 5, 6, 7, HALF - 1, size + 6])


@pytest.mark.parametrize("size", SIZES)
@ALL
def test_over_the_turn(name: str, size: int) -> None:
    """In order, in one burst and packet by packet, with some that come late."""
    start = HALF - size // 2 - 3
    numbers = list(range(start + 1, start + 60)) if size == 32 else list(range(start + 1, start + size + 9))
    numbers = numbers[:: max(1, len(numbers) // 60)]
    for i in range(3, len(numbers), 5):
        numbers[i - 1], numbers[i] = numbers[i], numbers[i - 1]
    compare(size, numbers, start, name)
    driver = opening(name, esn=True, replay_window=size, sequence=start)
    assert set(statuses(driver, "in", wires(numbers, name))) == {GOOD}
    assert driver.sas()[0].sequence == max(numbers) > HALF


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(SIZES),
    st.sampled_from([0, 1, 5, 2**32 - 2]),
    st.lists(
        st.tuples(st.sampled_from(["near", "edge", "turn", "jump"]), st.integers(-70, 70), st.sampled_from([-1, 0, 1])),
        max_size=40,
    ),
    st.integers(0, HALF - 1),
)
def test_window_equals_the_oracle(size: int, turn: int, moves: list[tuple[str, int, int]], low: int) -> None:
    start = turn * HALF + low
    driver = opening(esn=True, replay_window=size, sequence=start)
    window = Window(size, start, start)
    for kind, step, turns in moves:
        number = window.top + step
        number += {"near": 0, "edge": -size, "turn": turns * HALF, "jump": abs(step) << 24}[kind]
        if not 0 <= number < 2**64:
            continue
        assert names(statuses(driver, "in", wires([number]))) == [window.take(number).name], (kind, step, turns)
        assert driver.sas()[0].sequence == window.top


@pytest.mark.parametrize("size", [32, 64, 4096])
def test_the_very_end(size: int) -> None:
    top = 2**64 - 1
    compare(size, [top - 1, top, top, top - 1, top - size, top - size + 1, 0, 1], start=top - 2 * size)


# --- the half that is not sent is protected ---


@ALL
@pytest.mark.parametrize("mode", ["transport", "tunnel"])
@pytest.mark.parametrize("family", [4, 6])
def test_sent_over_the_turn(name: str, mode: Any, family: int, backend: str) -> None:
    """Bytes equal the oracle's on both sides of 2^32, which the receiver crosses with them."""
    start = 3 * HALF - 4
    out = protecting(name, mode, family, esn=True, sequence=start, driver={"backend": backend})
    packet = (ip if family == 4 else ip6)(bytes(range(60)))
    found = [wire for _, wire in run(out, "out", [packet] * 8)]
    twin = oracle(name, mode, family, esn=True)
    at = (20 if family == 4 else 40) + (12 if name.startswith("ah") else 8)
    for n, wire in enumerate(found, 1):
        assert wire == twin.seal(packet, start + n, wire[at : at + 8], n)
    into = opening(name, mode, family, esn=True, sequence=start, driver={"backend": backend})
    assert run(into, "in", found) == [(GOOD, packet)] * 8
    assert into.sas()[0].sequence == out.sas()[0].sequence == start + 8


@ALL
def test_the_icv_covers_the_high_half(name: str, backend: str) -> None:
    """The same low half a turn earlier or later, and a sender without ESN: the text is right, the ICV is not."""
    start = 5 * HALF + 100
    into = opening(name, esn=True, sequence=start, driver={"backend": backend})
    number = start + 1
    wrong = [oracle(name, esn=True).seal(PACKET, n) for n in (number - HALF, number + HALF, number % HALF)]
    wrong.append(oracle(name).seal(PACKET, number))
    assert statuses(into, "in", wrong) == [FORGED] * 4
    assert into.sas()[0].sequence == start
    assert run(into, "in", wires([number], name)) == [(GOOD, PACKET)]
    plain = opening(name, driver={"backend": backend})
    assert statuses(plain, "in", wires([1], name)) == [FORGED]


@ALL
def test_a_forged_packet_moves_nothing(name: str) -> None:
    into = opening(name, esn=True, sequence=HALF - 10)
    stranger = oracle(name, esn=True, spi=0x1001)
    far = bytearray(stranger.seal(PACKET, HALF + 5000))
    far[-1 if not name.startswith("ah") else 20 + 12 + 9] ^= 1
    assert statuses(into, "in", [bytes(far)] * 2) == [FORGED] * 2
    assert (into.sas()[0].sequence, into.sas()[0].lost) == (HALF - 10, 0)
    assert run(into, "in", wires([HALF - 9], name))[0][0] is GOOD


def test_lost_counts_over_the_turn() -> None:
    """Numbers that left the window unseen, the turn in the middle of them."""
    into = opening(esn=True, replay_window=32, sequence=HALF - 50)
    statuses(into, "in", wires([HALF - 49]))
    statuses(into, "in", wires([HALF + 100]))
    seen_or_lost = (HALF + 100 - 32) - (HALF - 50)
    assert into.sas()[0].lost == seen_or_lost - 1


@ALL
def test_bytes_are_the_same_with_and_without_esn_but_for_the_icv(name: str) -> None:
    """The high half is never on the wire."""
    with_esn, without = (run(protecting(name, esn=esn), "out", [PACKET])[0][1] for esn in (True, False))
    assert len(with_esn) == len(without)
    assert with_esn != without
