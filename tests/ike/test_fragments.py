"""IKE fragmentation: cutting, putting together, and not being led astray (CVE-2016-10396)."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipsec_core.ike import IkeOptions, NegotiationFailed, QuickModeEstablished, fragments, wire
from ipsec_core.ike.failures import MalformedMessage
from ipsec_core.ike.fragments import MAX_BYTES, MAX_FRAGMENTS, MAX_MESSAGE, MAX_MESSAGES, Reassembly, split
from ipsec_core.ike.iana import Flags, PayloadType

ADDRESS = "10.0.0.1"


def message(length: int, seed: int = 1) -> bytes:
    header = wire.Header(b"initiato", b"responde", 2, Flags.ENCRYPTION, 0, PayloadType.IDENTIFICATION)
    return header.encode(length) + Random(seed).randbytes(length)


def fragment(
    number: int, part: bytes, *, last: bool = False, identifier: int = 1, cookie: bytes = b"initiato"
) -> bytes:
    header = wire.Header(cookie, b"responde", 2, next_payload=PayloadType.FRAGMENT)
    body = identifier.to_bytes(2) + bytes((number, last)) + part
    return wire.encode_clear(header, (wire.Opaque(PayloadType.FRAGMENT, body),))


def add(table: Reassembly, data: bytes, now: float = 0.0, address: str = ADDRESS) -> bytes | None:
    return table.add(now, wire.parse_header(data), data, address)


@given(st.integers(0, 4000), st.randoms(use_true_random=False))
def test_in_any_order_and_repeated(length: int, random: Random) -> None:
    table, whole = Reassembly(), message(length)
    parts = split(whole)
    assert all(len(part) <= MAX_MESSAGE for part in parts)
    assert parts == split(whole)
    shuffled = parts[:-1] * 2
    random.shuffle(shuffled)
    results = [add(table, part) for part in [*shuffled, parts[-1]]]
    assert results == [None] * (len(results) - 1) + [whole]
    assert len(table) == 0


def test_layout() -> None:
    """[MS-IKEE] 2.2.3.1: id, number from 1, flags with 1 for the last; IPv4 datagrams of at most 576 bytes."""
    first, second = split(message(700))
    header = wire.parse_header(first)
    assert (header.next_payload, header.flags, header.exchange, header.message_id) == (132, 0, 2, 0)
    assert 20 + 8 + 4 + len(first) == 576
    assert first[28:30] == second[28:30] == b"\0\0"
    assert first[32:34] == second[32:34], "one id"
    assert (first[34], first[35], second[34], second[35]) == (1, 0, 2, 1)
    assert first[36:] + second[36:] == message(700)


@pytest.mark.parametrize(
    ("before", "lie"),
    [
        ([], fragment(0, b"x")),
        ([], fragment(MAX_FRAGMENTS + 1, b"x")),
        ([], fragment(1, b"")),
        ([fragment(1, b"a")], fragment(1, b"b")),
        ([fragment(3, b"a", last=True)], fragment(4, b"b")),
        ([fragment(3, b"a", last=True)], fragment(2, b"b", last=True)),
        ([fragment(3, b"a", last=True)], fragment(3, b"a")),
        ([fragment(3, b"a")], fragment(2, b"b", last=True)),
        ([fragment(2, bytes(MAX_BYTES - 1))], fragment(1, b"xy")),
    ],
)
def test_lies_are_refused_and_change_nothing(before: list[bytes], lie: bytes) -> None:
    table = Reassembly()
    assert [add(table, data) for data in before] == [None] * len(before)
    with pytest.raises(MalformedMessage):
        add(table, lie)
    assert len(table) == len(before)


def test_a_lie_first_does_not_stop_another_message() -> None:
    table, whole = Reassembly(), message(700)
    add(table, fragment(1, b"a lie", identifier=7))
    assert [add(table, part) for part in split(whole)] == [None, whole]


def test_too_short_for_its_own_header() -> None:
    header = wire.Header(b"initiato", b"responde", 2, next_payload=PayloadType.FRAGMENT)
    for length in range(4):
        with pytest.raises(MalformedMessage):
            add(Reassembly(), wire.encode_clear(header, (wire.Opaque(PayloadType.FRAGMENT, bytes(length)),)))


def test_time_runs_out() -> None:
    table, (first, second) = Reassembly(), split(message(700))
    add(table, first)
    assert add(table, second, now=70.0) is None
    assert len(table) == 1
    assert add(table, first, now=71.0) == message(700)


def test_bounds_of_one_peer_and_of_all() -> None:
    """Every new message of a peer costs it the oldest of its own; only when all is full somebody else's."""
    table = Reassembly()
    add(table, fragment(1, b"a"), address="10.0.0.2")
    for identifier in range(1000):
        add(table, fragment(1, b"a", identifier=identifier))
    assert len(table) == 1 + fragments.MAX_MESSAGES_PER_PEER
    assert add(table, fragment(2, b"b", last=True), address="10.0.0.2") == b"ab"
    for number in range(1000):
        add(table, fragment(1, b"a"), address=f"10.1.{number // 250}.{number % 250}")
    assert len(table) == MAX_MESSAGES


# Between engines


def pair(kit: Any, limit: int, **options: Any) -> Any:
    """A wire that drops datagrams above `limit` bytes, and Quick Modes of so many offers that they are larger."""
    net = kit.pair(
        harm=lambda data: [(0.01, data)] if len(data) <= limit else [],
        options=IkeOptions(fragmentation=True, **options),
    )
    net.engines[kit.ALICE].acquire(0.0, kit.wish(offers=(kit.ESP_OFFER,) * 20))
    return net


def test_large_messages_are_cut_after_three_seconds(kit: Any) -> None:
    net = pair(kit, MAX_MESSAGE)
    net.run(10.0)
    (event,) = net.of(kit.ALICE, QuickModeEstablished)
    assert 3.0 < event.time < 3.3
    large = [(round(time), len(data)) for time, _, data in net.wire if len(data) > MAX_MESSAGE]
    assert [time for time, _ in large] == [0, 1], "whole at first"
    alice, bob = (net.engines[who].statistics() for who in (kit.ALICE, kit.BOB))
    assert alice["Fragments sent"] == bob["Fragments received"] == 2
    assert bob["Discarded messages"] == 0


def test_an_open_way_needs_no_fragments(kit: Any) -> None:
    net = pair(kit, 10_000)
    net.run(10.0)
    assert net.of(kit.ALICE, QuickModeEstablished)[0].time < 1.0
    assert net.engines[kit.ALICE].statistics()["Fragments sent"] == 0


@pytest.mark.parametrize("who", ["alice", "bob"])
def test_both_ends_have_to_announce_it(kit: Any, who: str) -> None:
    net = kit.Net(harm=lambda data: [(0.01, data)] if len(data) <= MAX_MESSAGE else [])
    net.add(kit.ALICE, options=IkeOptions(fragmentation=who == "alice"))
    net.add(kit.BOB, options=IkeOptions(fragmentation=who == "bob"))
    net.engines[kit.ALICE].acquire(0.0, kit.wish(offers=(kit.ESP_OFFER,) * 20))
    net.run(100.0)
    assert len(net.of(kit.ALICE, NegotiationFailed)) == 1
    assert net.engines[kit.ALICE].statistics()["Fragments sent"] == 0


def test_fragments_of_strangers_are_dropped(kit: Any) -> None:
    net = pair(kit, 10_000)
    net.run(10.0)
    bob = net.engines[kit.BOB]
    template = net.wire[0][2]
    for data, source in (
        (split(message(700))[0], kit.ALICE),
        (split(net.wire[-1][2])[0], "10.0.0.9"),
    ):
        bob.receive_datagram(net.now, data, (source, 500))
    assert bob.statistics()["Fragments received"] == 0
    assert len(bob._fragments) == 0
    assert bob.statistics()["Discarded messages"] == 2
    # Known cookies, but what comes together is no message, or one of fragments again.
    main = bob._mains.all()[0]
    for inner in (b"nonsense", split(net.wire[-1][2])[0], template[:18] + b"\x04" + template[19:]):
        header = wire.Header(*main.cookies, 2, next_payload=PayloadType.FRAGMENT)
        outer = wire.Opaque(PayloadType.FRAGMENT, b"\0\7\1\1" + inner)
        bob.receive_datagram(net.now, wire.encode_clear(header, (outer,)), (kit.ALICE, 500))
    assert bob.statistics()["Discarded messages"] == 5
    assert (bob.datagrams(), bob.events()) == ([], [])


def test_repeated_answers_are_cut_as_well(kit: Any) -> None:
    """The answer of a responder that has nothing more to say (message 6) is lost whole, and repeated in fragments."""
    net = kit.pair(options=IkeOptions(fragmentation=True))
    limit = 68
    net.harm = lambda data: [] if len(data) > limit and wire.parse_header(data).encrypted else [(0.01, data)]
    original = fragments.MAX_MESSAGE
    fragments.MAX_MESSAGE = limit
    try:
        net.engines[kit.ALICE].acquire(0.0, kit.wish())
        net.run(30.0)
    finally:
        fragments.MAX_MESSAGE = original
    assert len(net.of(kit.ALICE, QuickModeEstablished)) == 1
