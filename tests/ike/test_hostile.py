"""Forged, damaged, replayed and excessive input."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipsec_core.ike import (
    ChildDeleted,
    IkeOptions,
    MainModeDeleted,
    MainModeEstablished,
    NegotiationFailed,
    QuickModeEstablished,
    phase_two,
    wire,
)
from ipsec_core.ike.conversations import MAX_MESSAGE_IDS, MainConversation, Path
from ipsec_core.ike.iana import Flags, Notify, Protocol

MALLORY = "10.0.0.66"


def flip(data: bytes, bit: int) -> bytes:
    bit %= 8 * len(data)
    damaged = bytearray(data)
    damaged[bit // 8] ^= 1 << bit % 8
    return bytes(damaged)


@settings(deadline=None, max_examples=150)
@given(st.integers(0, 8), st.integers(0, 2000))
def test_one_flipped_bit(kit: Any, number: int, bit: int) -> None:
    """The first copy of one message arrives damaged. Both ends have the same keys or none."""
    seen: list[bytes] = []

    def harm(data: bytes) -> list[tuple[float, bytes]]:
        if data in seen:
            return [(0.01, data)]
        seen.append(data)
        return [(0.01, flip(data, bit) if len(seen) == number + 1 else data)]

    net = kit.pair(harm=harm)
    net.engines[kit.ALICE].acquire(0.0, kit.wish())
    net.run(500.0)
    answers = [
        a for e in net.of(kit.ALICE, QuickModeEstablished) + net.of(kit.ALICE, NegotiationFailed) for a in e.answers
    ]
    assert answers == [1]
    at_bob = {event.outbound_spi: event for event in net.of(kit.BOB, QuickModeEstablished)}
    for event in net.of(kit.ALICE, QuickModeEstablished):
        other = at_bob[event.inbound_spi]
        assert (event.inbound, event.outbound) == (other.outbound, other.inbound)
        assert event.offer == other.offer == kit.ESP_OFFER
    # From message 5 on damage is dropped and the next copy does it. Two things no HASH of RFC 2409 covers: the
    # padding, whose cipher block is the next IV, and what follows the HASH payload in message 5.
    position = bit % (8 * len(seen[number])) // 8
    covered = 28 + 36 if number == 4 else len(seen[number]) - 8
    if number >= 4 and position < covered:
        assert len(net.of(kit.ALICE, QuickModeEstablished)) == 1


@pytest.mark.parametrize("position", range(28))
def test_header_damage_after_establishment_changes_nothing(kit: Any, position: int) -> None:
    net = kit.pair()
    net.engines[kit.ALICE].acquire(0.0, kit.wish())
    net.run()
    before = len(net.events[kit.BOB]), net.engines[kit.BOB].statistics()
    for _, who, data in list(net.wire):
        if who == kit.ALICE and wire.parse_header(data).encrypted:
            net.engines[kit.BOB].receive_datagram(net.now, flip(data, 8 * position), (kit.ALICE, 500))
    after = net.engines[kit.BOB].statistics()
    assert len(net.engines[kit.BOB].events()) == 0
    assert all(after[name] == before[1][name] for name in ("Active main modes", "Active quick modes"))
    assert len(net.events[kit.BOB]) == before[0]


def established(kit: Any) -> Any:
    net = kit.pair()
    net.engines[kit.ALICE].acquire(0.0, kit.wish())
    net.run()
    return net


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_fuzz_of_an_established_engine(kit: Any, data: st.DataObject) -> None:
    """Random datagrams and mutations of real ones, from the peer's address and from another."""
    net = established_once(kit)
    engine = net.engines[kit.BOB]
    before = engine.statistics()
    messages = [message for _, _, message in net.wire]
    for _ in range(10):
        base = data.draw(st.sampled_from(messages) | st.binary(max_size=300))
        kind = data.draw(st.sampled_from(["bits", "cut", "grow", "splice", "raw"]))
        if kind == "bits":
            for _ in range(data.draw(st.integers(1, 4))):
                base = flip(base, data.draw(st.integers(0, 4000))) if base else base
        elif kind == "cut":
            base = base[: data.draw(st.integers(0, len(base)))]
        elif kind == "grow":
            base += data.draw(st.binary(max_size=40))
        elif kind == "splice":
            other = data.draw(st.sampled_from(messages))
            base = base[:28] + other[data.draw(st.integers(0, len(other))) :]
        if len(base) >= 28 and data.draw(st.booleans()):
            base = base[:24] + len(base).to_bytes(4) + base[28:]
        source = data.draw(st.sampled_from([kit.ALICE, MALLORY]))
        engine.receive_datagram(net.now, base, (source, data.draw(st.sampled_from([500, 4500]))))
    events = engine.events()
    assert not [e for e in events if isinstance(e, QuickModeEstablished | ChildDeleted | MainModeDeleted)]
    assert not [e for e in events if isinstance(e, MainModeEstablished)]
    after = engine.statistics()
    assert after["Active main modes"] == before["Active main modes"]
    assert after["Active quick modes"] == before["Active quick modes"]


CACHE: list[Any] = []


def established_once(kit: Any) -> Any:
    """One conversation for all examples; an example may leave half-open Main Modes behind, which are bounded."""
    if not CACHE:
        CACHE.append(established(kit))
    return CACHE[0]


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 1 << 32))
def test_fuzz_during_the_handshake(kit: Any, seed: int) -> None:
    """Beside every true message come three false ones. The handshake succeeds or fails, and says so once."""
    random = Random(seed)

    def harm(data: bytes) -> list[tuple[float, bytes]]:
        forged = [flip(data, random.randrange(4000)) for _ in range(2)] + [data[: random.randrange(len(data))]]
        return [(0.01, data), *((random.choice([0.005, 0.02]), item) for item in forged)]

    net = kit.pair(seed, harm)
    net.engines[kit.ALICE].acquire(0.0, kit.wish())
    net.run(500.0)
    events = net.of(kit.ALICE, QuickModeEstablished) + net.of(kit.ALICE, NegotiationFailed)
    assert [answer for event in events for answer in event.answers] == [1]
    at_bob = {event.outbound_spi: event for event in net.of(kit.BOB, QuickModeEstablished)}
    for event in net.of(kit.ALICE, QuickModeEstablished):
        assert at_bob[event.inbound_spi].outbound == event.inbound


@pytest.mark.parametrize("exchange", [0, 1, 3, 4, 6, 33, 243, 255])
def test_other_exchanges_are_refused_in_silence(kit: Any, exchange: int) -> None:
    net = established(kit)
    engine, sent = net.engines[kit.BOB], len(net.wire)
    data = bytearray(net.wire[0][2])
    data[18] = exchange
    engine.receive_datagram(net.now, bytes(data), (kit.ALICE, 500))
    assert engine.statistics()["Discarded messages"] == 1
    assert (engine.datagrams(), engine.events(), len(net.wire)) == ([], [], sent)


def test_nothing_is_believed_from_another_address(kit: Any) -> None:
    net = established(kit)
    for _, who, data in list(net.wire)[1:]:
        target = kit.BOB if who == kit.ALICE else kit.ALICE
        if wire.parse_header(data).responder_cookie != wire.NO_COOKIE:
            net.engines[target].receive_datagram(net.now, data, (MALLORY, 500))
    for engine in net.engines.values():
        assert (engine.datagrams(), engine.events()) == ([], [])


def test_replay_of_the_whole_conversation(kit: Any) -> None:
    net = established(kit)
    bob = net.engines[kit.BOB]
    for _, who, data in list(net.wire):
        if who == kit.ALICE:
            bob.receive_datagram(net.now, data, (kit.ALICE, 500))
    assert bob.events() == []
    assert bob.statistics()["Active quick modes"] == 1
    # Only the last answer of Main Mode comes again; Quick Mode is not opened again by its old first message.
    assert {datagram.data for datagram in bob.datagrams()} <= {net.wire[5][2]}


def test_clear_informational_is_ignored_once_established(kit: Any) -> None:
    net = established(kit)
    alice = net.engines[kit.ALICE]
    main = net.of(kit.ALICE, MainModeEstablished)[0]
    child = net.of(kit.ALICE, QuickModeEstablished)[0]
    both = main.initiator_cookie + main.responder_cookie
    for payload in (
        wire.Delete(Protocol.ESP, 4, (child.outbound_spi.to_bytes(4),)),
        wire.Delete(Protocol.ISAKMP, 16, (both,)),
        wire.Notification(Protocol.ISAKMP, both, Notify.INITIAL_CONTACT),
        wire.Notification(Protocol.ISAKMP, both, Notify.NO_PROPOSAL_CHOSEN),
    ):
        for message_id in (0, 77):
            header = wire.Header(
                main.initiator_cookie, main.responder_cookie, 5, message_id=message_id, next_payload=payload.TYPE
            )
            data = wire.encode_clear(header, (payload,))
            alice.receive_datagram(net.now, data, (kit.BOB, 500))
            sealed = wire.Header(
                main.initiator_cookie, main.responder_cookie, 5, Flags.ENCRYPTION, message_id, payload.TYPE
            )
            body = wire.encode_payloads((payload,))
            body += bytes(-len(body) % 8)
            alice.receive_datagram(net.now, sealed.encode(len(body)) + body, (kit.BOB, 500))
    assert alice.events() == []
    assert alice.statistics()["Discarded messages"] + alice.statistics()["Unverified messages"] == 16


def test_reflection_goes_nowhere(kit: Any) -> None:
    """An engine gets its own messages back, as if they came from the peer."""
    net = kit.Net()
    alice = net.add(kit.ALICE)
    alice.acquire(0.0, kit.wish())
    (first,) = alice.datagrams()
    alice.receive_datagram(0.0, first.data, (kit.BOB, 500))
    assert alice.datagrams() == []
    assert alice.statistics()["Discarded messages"] == 1


def first_message(kit: Any, number: int) -> bytes:
    net = kit.Net(number)
    net.add(kit.ALICE).acquire(0.0, kit.wish())
    net.collect()
    return bytes(net.wire[0][2])


def test_half_open_main_modes_are_bounded(kit: Any) -> None:
    net = kit.Net()
    bob = net.add(kit.BOB, options=IkeOptions(max_half_open=100))
    template = first_message(kit, 1)
    for number in range(1, 400):
        source = f"10.9.{number // 250}.{number % 250}"
        bob.receive_datagram(0.0, number.to_bytes(8) + template[8:], (source, 500))
    assert len(bob.datagrams()) == 399
    assert bob.statistics()["Half-open main modes refused"] == 399 - 100
    # After the schedule has run out nothing is left of them.
    while (due := bob.next_timer()) is not None:
        bob.handle_timer(due)
    assert due is None
    bob.datagrams()
    bob.receive_datagram(100.0, template, (kit.ALICE, 500))
    assert len(bob.datagrams()) == 1


def test_half_open_main_modes_of_one_peer_are_bounded(kit: Any) -> None:
    bob = kit.Net().add(kit.BOB, options=IkeOptions(max_half_open_per_peer=16))
    template = first_message(kit, 1)
    for number in range(1, 50):
        bob.receive_datagram(0.0, number.to_bytes(8) + template[8:], (kit.ALICE, 500))
    assert bob.statistics()["Half-open main modes refused"] == 49 - 16


def test_forged_first_messages_do_not_hold_up_an_acquire(kit: Any) -> None:
    """Somebody sends message 1 in the peer's name: our own Main Mode does not wait for that."""
    net = kit.pair()
    net.engines[kit.ALICE].receive_datagram(0.0, first_message(kit, 9), (kit.BOB, 500))
    net.engines[kit.ALICE].acquire(0.0, kit.wish())
    net.run(1.0)
    assert net.of(kit.ALICE, QuickModeEstablished)[0].answers == (1,)


def test_quick_modes_of_a_peer_are_bounded(kit: Any) -> None:
    """Message 2 of every Quick Mode gets lost, and the peer asks for more than the bound."""
    wanted = phase_two.MAX_QUICK_MODES + 10
    net = kit.pair(harm=lambda data: [(0.01, data)])
    net.engines[kit.ALICE].acquire(0.0, kit.wish())
    net.run(1.0)
    net.harm = lambda data: [(0.01, data)] if net.wire[-1][1] == kit.ALICE else []
    for port in range(1, wanted + 1):
        traffic = kit.selectors(protocol=6, source_port=port)
        net.engines[kit.ALICE].acquire(1.0, kit.wish(traffic=traffic, reference=port))
    before = net.engines[kit.BOB].statistics()["Discarded messages"]
    net.run(1.5)
    assert net.engines[kit.BOB].statistics()["Discarded messages"] - before == 10
    net.harm = lambda data: [(0.01, data)]
    net.run(100.0)
    assert len(net.of(kit.ALICE, QuickModeEstablished)) == wanted + 1


def test_message_ids_are_bounded() -> None:
    main = MainConversation("10.0.0.1", exchange=None, path=Path("10.0.0.1"), created=0.0)  # type: ignore[arg-type]
    for message_id in range(MAX_MESSAGE_IDS + 10):
        main.remember(message_id)
    assert len(main.message_ids) == MAX_MESSAGE_IDS
    main.check_message_id(0)


def test_answers_before_authentication_are_not_amplified(kit: Any) -> None:
    net = established(kit)
    sizes = [len(data) for _, _, data in net.wire]
    assert sizes[1] <= sizes[0]
    assert sizes[3] <= sizes[2]
    bob = kit.Net().add(kit.BOB, kit.Rules(main=None))
    tiny = wire.SecurityAssociation((wire.Proposal(1, 1, b"", ()),))
    header = wire.Header(b"12345678", wire.NO_COOKIE, 2, next_payload=1)
    request = wire.encode_clear(header, (tiny,))
    bob.receive_datagram(0.0, request, (kit.ALICE, 500))
    assert all(len(datagram.data) <= len(request) for datagram in bob.datagrams())
