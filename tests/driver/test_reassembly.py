"""IPv4 fragments of IPsec packets are put together before IPsec looks at them (RFC 2401 B.2)."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest
from driver_kit import SPI, add, ip, make, oracle, run, statuses, udp
from esp_oracle import with_length

from ipsec_core import Action, Driver, Filter, Status

GOOD, WAITS, MALFORMED = Status.PROTECTED, Status.REASSEMBLING, Status.MALFORMED
INNER = ip(bytes(range(256)) * 2, identification=99)
KINDS = ["esp", "ah", "udp"]
ALL = pytest.mark.parametrize("kind", KINDS)


def receiving(**options: Any) -> Driver:
    """ESP, AH and ESP under UDP, each with an SA."""
    driver = Driver(seed=1, nat_traversal=True, **options)
    add(driver, make("in", "gcm", replay_window=512))
    add(driver, make("in", "ah-sha1", replay_window=512))
    add(driver, make("in", "3des-sha1", spi=SPI + 1, encapsulation=(1029, 4500), replay_window=512))
    return driver


def sealed(kind: str, number: int = 1, packet: bytes = INNER) -> bytes:
    if kind == "udp":
        return oracle("3des-sha1", spi=SPI + 1, encapsulation=(1029, 4500)).seal(packet, number)
    return oracle("gcm" if kind == "esp" else "ah-sha1").seal(packet, number)


def fragments(packet: bytes, size: int, identification: int | None = None) -> list[bytes]:
    """Pieces of `size` bytes of payload (a multiple of 8), RFC 791 3.2."""
    header, payload = packet[:20], packet[20:]
    if identification is not None:
        header = header[:4] + identification.to_bytes(2, "big") + header[6:]
    return [piece(header, payload[at : at + size], at, at + size < len(payload)) for at in range(0, len(payload), size)]


def piece(header: bytes, payload: bytes, at: int, more: bool) -> bytes:
    word = (0x2000 if more else 0) | at // 8
    return with_length(bytearray(header[:6] + word.to_bytes(2, "big") + header[8:]), header[9], len(payload)) + payload


@ALL
@pytest.mark.parametrize("together", [1, 256])
def test_all_orders(kind: str, together: int) -> None:
    """Whichever comes last stands for the datagram."""
    driver = receiving()
    for number, order in enumerate(itertools.permutations(range(4)), 1):
        inner = ip(bytes(range(256)) * 2, identification=number)
        pieces = fragments(sealed(kind, number, inner), 144)
        assert len(pieces) == 4
        given = [pieces[i] for i in order]
        bursts = [given] if together > 1 else [[one] for one in given]
        found = [result for burst in bursts for result in run(driver, "in", burst)]
        assert [status for status, _ in found[:3]] == [WAITS] * 3
        assert found[3] == (GOOD, inner)
    assert driver.status_counters("in")["REASSEMBLING"] == 24 * 3
    assert driver.counters()["packets_not_authenticated"] == 0


def test_ah_covers_the_identification() -> None:
    """So it must be the sender's own: fragments of another one do not verify."""
    driver = receiving()
    assert statuses(driver, "in", fragments(sealed("ah"), 144, 4711))[-1] is Status.NOT_AUTHENTICATED
    assert run(driver, "in", fragments(sealed("ah"), 144))[-1] == (GOOD, INNER)


@ALL
def test_interleaved(kind: str) -> None:
    """Pieces of eight datagrams in one burst, in any order, and whole packets between them."""
    driver = receiving()
    packets = [ip(bytes([n]) * (300 + n), identification=n) for n in range(8)]
    pieces = [p for n, packet in enumerate(packets, 1) for p in fragments(sealed(kind, n, packet), 104)]
    pieces += [sealed(kind, n, ip(b"whole")) for n in range(20, 25)]
    random.Random(3).shuffle(pieces)
    found = run(driver, "in", pieces)
    wanted = sorted([*packets, *[ip(b"whole")] * 5])
    assert sorted(packet for status, packet in found if status is GOOD) == wanted
    assert {status for status, _ in found} == {GOOD, WAITS}


@ALL
def test_time_is_bounded(kind: str) -> None:
    """60 seconds (RFC 8200 4.5) from the first piece; what comes later begins another datagram."""
    for late, wanted in ((59.999, GOOD), (60.0, WAITS)):
        driver = receiving()
        first, *rest = fragments(sealed(kind), 264)
        assert statuses(driver, "in", [first], now=10.0) == [WAITS]
        assert statuses(driver, "in", rest, now=10.0 + late)[-1] is wanted
    assert statuses(driver, "in", [first], now=70.5) == [GOOD], "the late pieces waited for it"


@ALL
def test_count_is_bounded(kind: str) -> None:
    """Of three datagrams with room for two the oldest goes."""
    driver = receiving(fragments=2)
    begun = [fragments(sealed(kind, n, ip(bytes(400), identification=n)), 264) for n in (1, 2, 3)]
    assert statuses(driver, "in", [pieces[0] for pieces in begun]) == [WAITS] * 3
    assert [statuses(driver, "in", pieces[1:])[-1] for pieces in begun[1:]] == [GOOD, GOOD]
    assert statuses(driver, "in", begun[0][1:])[-1] is WAITS


@ALL
def test_overlaps_refuse_the_datagram(kind: str) -> None:
    """RFC 5722 4, RFC 1858: and all that still comes of it."""
    whole = sealed(kind)
    header, payload = whole[:20], whole[20:]
    a, b, c = (piece(header, payload[at : at + 192], at, True) for at in (0, 192, 384))
    end = piece(header, payload[576:], 576, False) if len(payload) > 576 else piece(header, payload[384:], 384, False)
    rest = [c, end] if len(payload) > 576 else [end]
    other = piece(header, b"\xff" * 192, 192, True)
    shifted = piece(header, payload[184:376], 184, True)
    for evil in (other, shifted):
        driver = receiving()
        assert statuses(driver, "in", [a, b, evil]) == [WAITS, WAITS, MALFORMED]
        assert set(statuses(driver, "in", rest)) == {MALFORMED}
        assert driver.counters()["packets_not_authenticated"] == 0
    driver = receiving()
    assert statuses(driver, "in", [a, b, b, a, *rest])[-1] is GOOD, "a duplicate harms nobody"


@ALL
def test_ends_that_contradict(kind: str) -> None:
    whole = sealed(kind)
    header, payload = whole[:20], whole[20:]
    early = piece(header, payload[192:200], 192, False)
    beyond = piece(header, payload[384:392], 384, True)
    assert statuses(receiving(), "in", [early, beyond]) == [WAITS, MALFORMED]
    assert statuses(receiving(), "in", [beyond, early]) == [WAITS, MALFORMED]


@ALL
def test_malformed_fragments(kind: str) -> None:
    header = sealed(kind)[:20]
    table = {
        "length no multiple of 8": piece(header, bytes(9), 0, True),
        "nothing in it": piece(header, b"", 8, True),
        "nothing at the end": piece(header, b"", 8, False),
        "past 65535": piece(header, bytes(64), 8191 * 8, False),
    }
    for name, packet in table.items():
        assert statuses(receiving(), "in", [packet]) == [MALFORMED], name


@ALL
def test_a_datagram_of_64_kb(kind: str) -> None:
    """With the largest burst; one byte less room than the whole takes is TOO_BIG, and no harm."""
    driver = receiving()
    association = driver.sas()[KINDS.index(kind)].handle
    size = max(n for n in range(65000, 65536) if n + driver.overhead(association, n) <= 65535)
    inner = ip(random.Random(1).randbytes(size - 20))
    whole = sealed(kind, 1, inner)
    assert len(whole) > 65527
    pieces = fragments(whole, 1480)
    random.Random(2).shuffle(pieces)
    found = run(driver, "in", pieces, max_packet=65535)
    assert [status for status, _ in found] == [WAITS] * (len(pieces) - 1) + [GOOD]
    assert found[-1][1] == inner
    small = receiving()
    assert statuses(small, "in", pieces, max_packet=60000)[-1] is Status.TOO_BIG
    assert [info.packets for info in small.sas()] == [0, 0, 0]
    assert run(small, "in", fragments(sealed(kind), 144))[-1][0] is GOOD


def test_room_for_the_datagram_decides_and_not_the_size_of_the_pieces() -> None:
    driver = receiving()
    assert statuses(driver, "in", fragments(sealed("esp"), 144), max_packet=200)[-1] is Status.TOO_BIG


def test_clear_fragments_are_the_hosts() -> None:
    """Only IPsec packets, and under NAT traversal UDP, whose ports are in the first piece alone, are put together."""
    clear = fragments(ip(bytes(600), protocol=6), 264)
    driver = receiving()
    assert run(driver, "in", clear) == [(Status.NO_FILTER, one) for one in clear]
    plain = Driver()
    pieces = fragments(udp(1, 2, bytes(600)), 264)
    assert run(plain, "in", pieces) == [(Status.NO_FILTER, one) for one in pieces]
    whole = udp(1, 2, bytes(600))
    assert run(receiving(), "in", pieces)[-1] == (Status.NO_FILTER, whole)


def test_udp_that_is_whole_again_meets_the_filters() -> None:
    driver = receiving()
    driver.set_filters([Filter(1, "in", Action.BLOCK, protocol=17, destination_port=2)])
    assert statuses(driver, "in", fragments(udp(1, 2, bytes(600)), 264)) == [WAITS, WAITS, Status.BLOCKED]
    assert statuses(driver, "in", fragments(udp(1, 3, bytes(600)), 264)) == [WAITS, WAITS, Status.NO_FILTER]


def test_fragments_inside_of_a_tunnel_stay_fragments() -> None:
    driver = Driver()
    add(driver, make("in", "gcm", "tunnel"))
    part = ip(bytes(64), fragment=0x2003)
    wire = oracle("gcm", "tunnel").seal(part, 1)
    assert run(driver, "in", fragments(wire, 48))[-1] == (GOOD, part)


def test_fragments_of_a_bundle() -> None:
    driver = Driver()
    outer = add(driver, make("in", "ah-sha1", spi=SPI + 1))
    add(driver, make("in", "gcm", outer=outer))
    wire = oracle("ah-sha1", spi=SPI + 1).seal(oracle("gcm").seal(INNER, 1), 1)
    assert run(driver, "in", fragments(wire, 144))[-1] == (GOOD, INNER)


def test_transport_mode_sends_no_fragments_of_fragments() -> None:
    """RFC 2401 B.2: AH and ESP in transport mode are for whole datagrams."""
    from driver_kit import protecting

    for name in ("gcm", "ah-sha1"):
        driver = protecting(name)
        for one in fragments(INNER, 264):
            assert run(driver, "out", [one]) == [(Status.FRAGMENT, one)]
        assert driver.sas()[0].sequence == 0


@ALL
def test_an_unknown_spi_in_pieces(kind: str) -> None:
    driver = Driver(nat_traversal=True)
    assert statuses(driver, "in", fragments(sealed(kind), 264))[-1] is Status.BAD_SPI
    assert driver.counters()["bad_spi_packets"] == 1
