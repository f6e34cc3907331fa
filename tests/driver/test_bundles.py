"""SAs around each other (RFC 2401 4.3): adjacent and nested, and what may not come without the other."""

from __future__ import annotations

from typing import Any

import pytest
from driver_kit import SPI, add, changed, ip, make, negotiate, of_family, oracle, run, statuses

from ipsec_core import Burst, Driver, Status
from ipsec_core.errors import DriverError

GOOD, BAD_SPI, WRONG = Status.PROTECTED, Status.BAD_SPI, Status.WRONG_SELECTOR
FAMILIES = pytest.mark.parametrize("family", [4, 6])
# Inner SA, outer SA: suite and mode.
PAIRS = {
    "AH around ESP": (("gcm", "transport"), ("ah-sha1", "transport")),
    "AH around NULL": (("null-sha256", "transport"), ("ah-gmac", "transport")),
    "ESP around AH": (("ah-sha256", "transport"), ("3des-sha1", "transport")),
    "ESP in a tunnel": (("gcm", "transport"), ("3des-sha1", "tunnel")),
    "tunnel in a tunnel": (("3des-sha1", "tunnel"), ("gcm", "tunnel")),
    "AH tunnel around ESP": (("null-gmac", "transport"), ("ah-sha1", "tunnel")),
    "ESP around a tunnel": (("gcm", "tunnel"), ("null-sha1", "transport")),
}
ALL = pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS.keys())


def ends(pair: Any, family: int) -> dict[str, Any]:
    """A transport SA around a tunnel is between the gateways."""
    from driver_kit import GATEWAYS

    if pair[0][1] == "tunnel" and pair[1][1] == "transport":
        return dict(zip(("source", "destination"), GATEWAYS[family], strict=True))
    return {}


def nested(direction: Any, pair: Any, family: int = 4, **inner: Any) -> tuple[Driver, int, int]:
    driver = Driver(seed=1)
    driver.set_filters([negotiate(source=None, destination=None)])
    (inner_name, inner_mode), (outer_name, outer_mode) = pair
    outer = add(driver, make(direction, outer_name, outer_mode, family, spi=SPI + 1, filter=9, **ends(pair, family)))
    return driver, add(driver, make(direction, inner_name, inner_mode, family, outer=outer, **inner)), outer


def sealed(pair: Any, packet: bytes, number: int, family: int = 4) -> bytes:
    (inner_name, inner_mode), (outer_name, outer_mode) = pair
    once = oracle(inner_name, inner_mode, family).seal(packet, number)
    return oracle(outer_name, outer_mode, family, SPI + 1).seal(once, number)


@ALL
@FAMILIES
def test_both_ways(pair: Any, family: int, backend: str) -> None:
    """Out and in again, and in as the oracle makes it; each SA counts what it carries."""
    out, _, _ = nested("out", pair, family)
    packets = [of_family(family, bytes(range(n))) for n in (0, 1, 20, 64, 150)]
    wires = [wire for _, wire in run(out, "out", packets)]
    for source in (wires, [sealed(pair, packet, n, family) for n, packet in enumerate(packets, 1)]):
        into, inner, outer = nested("in", pair, family)
        assert run(into, "in", source) == [(GOOD, packet) for packet in packets]
        assert into.sa_info(inner).packets == into.sa_info(outer).packets == 5
        assert out.sas()[1].bytes == into.sa_info(inner).bytes
        assert out.sas()[0].bytes == into.sa_info(outer).bytes > into.sa_info(inner).bytes


@ALL
@FAMILIES
def test_overhead_is_exact(pair: Any, family: int) -> None:
    out, inner, _ = nested("out", pair, family)
    for size in (0, 1, 5, 33, 100):
        packet = of_family(family, bytes(size))
        ((_, wire),) = run(out, "out", [packet])
        assert out.overhead(inner, len(packet), 20 if family == 4 else 40) == len(wire) - len(packet)


def test_counters() -> None:
    """20 bytes of payload under ESP; AH carries ESP with its header, IV, 2 pad bytes, trailer and ICV."""
    pair = PAIRS["AH around ESP"]
    out, inner, outer = nested("out", pair)
    before = out.counters()
    ((_, wire),) = run(out, "out", [ip(bytes(20))])
    carried = 8 + 8 + 20 + 2 + 2 + 16
    c = changed(out, before)
    assert (c["confidential_bytes_sent"], c["authenticated_bytes_sent"]) == (20, 20 + carried)
    assert (out.sa_info(inner).bytes, out.sa_info(outer).bytes) == (20, carried)
    into, _, _ = nested("in", pair)
    before = into.counters()
    run(into, "in", [wire])
    c = changed(into, before)
    assert (c["confidential_bytes_received"], c["authenticated_bytes_received"]) == (20, 20 + carried)


@ALL
@FAMILIES
def test_the_inner_one_alone_is_refused(pair: Any, family: int) -> None:
    into, inner, _ = nested("in", pair, family)
    alone = oracle(*pair[0], family).seal(of_family(family, b"x"), 1)
    assert statuses(into, "in", [alone]) == [WRONG]
    info = into.sa_info(inner)
    assert (info.packets, info.sequence, info.dropped) == (0, 0, 1)
    assert run(into, "in", [sealed(pair, of_family(family, b"x"), 1, family)])[0][0] is GOOD


@ALL
def test_inside_of_another_one_it_is_refused(pair: Any) -> None:
    """An SA of the same kind around it, authentic, but not the one agreed on."""
    into, inner, _ = nested("in", pair)
    add(into, make("in", *pair[1], spi=SPI + 2, **ends(pair, 4)))
    once = oracle(*pair[0]).seal(ip(b"x"), 1)
    other = oracle(*pair[1], spi=SPI + 2).seal(once, 1)
    assert statuses(into, "in", [other]) == [WRONG]
    assert into.sa_info(inner).packets == 0


def test_the_wrong_order_is_refused() -> None:
    pair = PAIRS["AH around ESP"]
    into, inner, outer = nested("in", pair)
    once = oracle("ah-sha1", spi=SPI + 1).seal(ip(b"x"), 1)
    assert statuses(into, "in", [oracle("gcm").seal(once, 1)]) == [WRONG]
    assert (into.sa_info(inner).packets, into.sa_info(outer).packets) == (0, 0)


@ALL
def test_damage_inside(pair: Any) -> None:
    """The outer SA is content, the inner one is not: each counts for itself."""
    into, inner, outer = nested("in", pair)
    once = bytearray(oracle(*pair[0]).seal(ip(bytes(40)), 1))
    once[-1 if not pair[0][0].startswith("ah") else 40] ^= 1
    wire = oracle(*pair[1], spi=SPI + 1).seal(bytes(once), 1)
    assert statuses(into, "in", [wire, sealed(pair, ip(b"x"), 2)]) == [Status.NOT_AUTHENTICATED, GOOD]
    assert [(i.packets, i.dropped) for i in map(into.sa_info, (inner, outer))] == [(1, 1), (2, 0)]


@ALL
def test_replay_is_asked_of_both(pair: Any) -> None:
    into, inner, outer = nested("in", pair)
    once = oracle(*pair[0]).seal(ip(b"x"), 1)
    around = oracle(*pair[1], spi=SPI + 1)
    wires = [around.seal(once, 1), around.seal(once, 1), around.seal(once, 2)]
    assert statuses(into, "in", wires) == [GOOD, Status.REPLAYED, Status.REPLAYED]
    assert (into.sa_info(outer).dropped, into.sa_info(inner).dropped) == (1, 1)


def test_an_spi_inside_that_nobody_knows() -> None:
    """After AH in transport mode the packet is this host's; in a tunnel it may be for somebody behind it."""
    adjacent, _, _ = nested("in", PAIRS["AH around ESP"])
    once = oracle("gcm", spi=SPI + 7).seal(ip(b"x"), 1)
    assert statuses(adjacent, "in", [oracle("ah-sha1", spi=SPI + 1).seal(once, 1)]) == [BAD_SPI]
    assert adjacent.counters()["bad_spi_packets"] == 1
    tunnel, _, _ = nested("in", PAIRS["ESP in a tunnel"])
    assert run(tunnel, "in", [oracle("3des-sha1", "tunnel", spi=SPI + 1).seal(once, 1)]) == [(GOOD, once)]


@ALL
def test_selectors_inside(pair: Any) -> None:
    into, inner, _ = nested("in", pair, inner_protocol=6)
    assert statuses(into, "in", [sealed(pair, ip(b"x"), 1)]) == [WRONG]
    assert (into.sa_info(inner).dropped, into.sa_info(inner).packets) == (1, 0)


@ALL
def test_without_the_outer_sa_nothing_goes_out(pair: Any) -> None:
    """The inner one serves its filter no more: an older SA does, or the packet waits for a new bundle."""
    out, _, outer = nested("out", pair)
    assert statuses(out, "out", [ip(b"x")]) == [GOOD]
    out.delete_sa(outer)
    for _ in range(2):
        assert run(out, "out", [ip(b"x")]) == [(Status.HELD, ip(b"x"))]
    assert [upcall.kind.name for upcall in out.upcalls()] == ["ACQUIRE"]
    older = Driver()
    older.set_filters([negotiate()])
    add(older, make("out", spi=SPI + 3))
    around = add(older, make("out", "ah-sha1", spi=SPI + 1, filter=9))
    add(older, make("out", outer=around))
    assert run(older, "out", [ip(b"x")])[0][1][9] == 51
    older.delete_sa(around)
    assert run(older, "out", [ip(b"x")])[0][1][20:24] == (SPI + 3).to_bytes(4, "big")


@ALL
def test_an_outer_sa_that_ends(pair: Any) -> None:
    out, _, outer = nested("out", pair)
    out.retire_sa(outer, 5.0)
    assert statuses(out, "out", [ip(b"x")], now=4.0) == [GOOD]
    assert statuses(out, "out", [ip(b"x")], now=5.0) == [Status.EXPIRED]
    assert statuses(out, "out", [ip(b"x")], now=6.0) == [Status.HELD]
    assert [upcall.kind.name for upcall in out.upcalls()] == ["EXPIRED", "ACQUIRE"]


@ALL
def test_a_later_sa_in_the_place_of_the_outer_one(pair: Any) -> None:
    """Handles never alias: whoever has its index now is not what the bundle was made with."""
    out, _, outer = nested("out", pair)
    out.delete_sa(outer)
    again = add(out, make("out", *pair[1], spi=SPI + 1, filter=9, **ends(pair, 4)))
    assert again & 0xFFFFFFFF == outer & 0xFFFFFFFF
    assert statuses(out, "out", [ip(b"x")]) == [Status.HELD]
    into, _, outer = nested("in", pair)
    into.delete_sa(outer)
    assert statuses(into, "in", [sealed(pair, ip(b"x"), 1)]) == [BAD_SPI]
    add(into, make("in", *pair[1], spi=SPI + 1, **ends(pair, 4)))
    assert statuses(into, "in", [sealed(pair, ip(b"x"), 2)]) == [WRONG]


# --- depth ---


def stack(direction: Any, depth: int) -> tuple[Driver, list[int]]:
    driver = Driver(seed=1)
    driver.set_filters([negotiate()])
    handles: list[int] = []
    for level in range(depth, 0, -1):
        outer = handles[-1] if handles else 0
        handles.append(add(driver, make(direction, "null-sha1", spi=SPI + level, filter=int(level == 1), outer=outer)))
    return driver, handles


@pytest.mark.parametrize("direction", ["out", "in"])
def test_four_sas_around_one_packet(direction: Any) -> None:
    packet = ip(b"deep")
    driver, handles = stack(direction, 4)
    wire = packet
    for level in range(1, 5):
        wire = oracle("null-sha1", spi=SPI + level).seal(wire, 1)
    given, wanted = (packet, wire) if direction == "out" else (wire, packet)
    assert run(driver, direction, [given]) == [(GOOD, wanted)]
    with pytest.raises(DriverError, match="table full"):
        add(driver, make(direction, outer=handles[-1]))


def test_five_sas_that_nobody_declared() -> None:
    """Without `outer` any SA may be inside of any other whose selectors cover it, but not without end."""
    driver = Driver()
    wire = ip(b"deep")
    for level in range(5):
        add(driver, make("in", "null-sha1", spi=SPI + level))
        wire = oracle("null-sha1", spi=SPI + level).seal(wire, 1)
    wire = ip(b"deep")
    for level in range(4):
        wire = oracle("null-sha1", spi=SPI + level).seal(wire, 1)
    assert run(driver, "in", [wire]) == [(GOOD, ip(b"deep"))]
    deeper = ip(b"deep")
    for level in range(5):
        deeper = oracle("null-sha1", spi=SPI + level).seal(deeper, 2)
    assert statuses(driver, "in", [deeper]) == [WRONG]


@pytest.mark.parametrize("direction", ["out", "in"])
def test_what_an_outer_sa_must_be(direction: Any) -> None:
    driver = Driver()
    other = add(driver, make("in" if direction == "out" else "out", spi=SPI + 1))
    with pytest.raises(DriverError, match="value out of range"):
        add(driver, make(direction, outer=other))
    driver.delete_sa(other)
    with pytest.raises(DriverError, match="no such object"):
        add(driver, make(direction, outer=other))
    assert driver.sas() == []


def test_bundles_and_others_in_one_burst() -> None:
    """Packets of the second pass do not disturb those that were done after the first."""
    out, _, _ = nested("out", PAIRS["AH around ESP"], inner_protocol=253)
    add(out, make("out", "3des-sha1", spi=SPI + 2, inner_protocol=17))
    packets = [ip(bytes([n]) * n, protocol=17 if n % 3 else 253) for n in range(1, 200)]
    wires = run(out, "out", packets)
    assert {status for status, _ in wires} == {GOOD}
    into, _, _ = nested("in", PAIRS["AH around ESP"], inner_protocol=253)
    add(into, make("in", "3des-sha1", spi=SPI + 2, inner_protocol=17, replay_window=512))
    assert run(into, "in", [wire for _, wire in wires]) == [(GOOD, packet) for packet in packets]


def test_no_room_for_the_outer_one() -> None:
    """The packet that fits with one SA but not with two does not go out half protected."""
    out, _, outer = nested("out", PAIRS["ESP in a tunnel"])
    size = 65535 - out.overhead(outer, 60000) - 30
    burst = Burst(1, 65535).load([ip(bytes(size - 20))])
    assert out.outbound(burst) == 0
    assert burst.status[0] == Status.TOO_BIG
    assert out.sa_info(outer).packets == 0
