"""The commit bit (RFC 2408 section 3.1): message 4 with CONNECTED, and what happens without it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipsec_core.ike import (
    FailurePoint,
    FailureReason,
    IkeOptions,
    NegotiationFailed,
    QuickModeAnswered,
    QuickModeEstablished,
    protected,
    wire,
)
from ipsec_core.ike.iana import ExchangeType, Flags, Notify, Protocol

COMMIT = IkeOptions(commit_bit=True)
WAITS = "Commit waits without CONNECTED"


def start(kit: Any, harm: Any = None, *, alice: IkeOptions | None = None, bob: IkeOptions | None = COMMIT) -> Any:
    net = kit.Net(harm=harm)
    net.add(kit.ALICE, options=alice)
    net.add(kit.BOB, options=bob)
    net.engines[kit.ALICE].acquire(0.0, kit.wish())
    return net


def quick_messages(net: Any) -> list[tuple[float, str, wire.Header, bytes]]:
    headers = ((time, who, wire.parse_header(data), data) for time, who, data in net.wire)
    return [item for item in headers if item[2].exchange == ExchangeType.QUICK_MODE]


def drop(kit: Any, number: int) -> tuple[Callable[[bytes], list[tuple[float, bytes]]], list[bytes]]:
    """A wire on which the Quick Mode message of that number never arrives."""
    seen: list[bytes] = []

    def harm(data: bytes) -> list[tuple[float, bytes]]:
        if wire.parse_header(data).exchange == ExchangeType.QUICK_MODE and data not in seen:
            seen.append(data)
        return [] if len(seen) >= number and data == seen[number - 1] else [(0.01, data)]

    return harm, seen


@pytest.mark.parametrize("alice", [None, COMMIT])
def test_four_messages(kit: Any, alice: IkeOptions | None) -> None:
    """Only the responder's option counts. Nobody waits for anything longer than a way there and back."""
    net = start(kit, alice=alice)
    net.run()
    messages = quick_messages(net)
    assert [who for _, who, _, _ in messages] == [kit.ALICE, kit.BOB, kit.ALICE, kit.BOB]
    flags = [header.flags for _, _, header, _ in messages]
    assert flags == [Flags.ENCRYPTION, Flags.ENCRYPTION | Flags.COMMIT, Flags.ENCRYPTION, Flags.ENCRYPTION]
    assert len({header.message_id for _, _, header, _ in messages}) == 1
    (a,), (b,) = net.of(kit.ALICE, QuickModeEstablished), net.of(kit.BOB, QuickModeEstablished)
    assert (a.inbound, a.outbound) == (b.outbound, b.inbound)
    assert a.time == pytest.approx(b.time + 0.01)
    assert net.engines[kit.ALICE].statistics()[WAITS] == 0
    for who, initiator in ((kit.ALICE, True), (kit.BOB, False)):
        (answered,) = net.of(who, QuickModeAnswered)
        (established,) = net.of(who, QuickModeEstablished)
        assert (answered.inbound, answered.initiator) == (established.inbound, initiator)
        assert answered.time < established.time
    assert net.engines[kit.ALICE].next_timer() is not None, "the Main Mode lives"


def test_message_four(kit: Any) -> None:
    """HASH | N(CONNECTED) of the SA, prf(SKEYID_a, M-ID | N), on the IV chain of this Quick Mode."""
    net = start(kit)
    net.run()
    (main,) = net.engines[kit.ALICE]._mains.all()
    session = main.exchange.session
    messages = quick_messages(net)
    three, header, four = messages[2][3], messages[3][2], messages[3][3]
    opened = protected.unseal(session, header, three[-8:], four)
    opened.verify(session.message_hash(header.message_id, opened.rest))
    (b,) = net.of(kit.BOB, QuickModeEstablished)
    assert opened.payloads == (wire.Notification(Protocol.ESP, b.inbound_spi.to_bytes(4), Notify.CONNECTED),)


def test_off_is_as_ever(kit: Any) -> None:
    net = start(kit, alice=COMMIT, bob=None)
    net.run()
    assert [header.flags for _, _, header, _ in quick_messages(net)] == [Flags.ENCRYPTION] * 3


def test_lost_message_four_is_sent_again(kit: Any) -> None:
    """The initiator repeats message 3 on schedule and gets the same message 4."""
    lost: list[bytes] = []

    def harm(data: bytes) -> list[tuple[float, bytes]]:
        if len(quick_messages(net)) == 4:
            lost.append(data)
            return []
        return [(0.01, data)]

    net = start(kit)
    net.harm = harm
    net.run()
    messages = quick_messages(net)
    assert lost == [messages[3][3]]
    assert [data for *_, data in messages[4:]] == [messages[2][3], messages[3][3]]
    (a,) = net.of(kit.ALICE, QuickModeEstablished)
    assert a.time == pytest.approx(messages[2][0] + 1 + 0.02)
    assert net.engines[kit.ALICE].statistics()[WAITS] == 0
    assert len(net.of(kit.BOB, QuickModeEstablished)) == 1


def test_esp_that_comes_first_ends_the_wait(kit: Any) -> None:
    harm, seen = drop(kit, 4)
    net = start(kit, harm)
    net.run(2.0)
    assert len(seen) == 4
    alice = net.engines[kit.ALICE]
    (answered,) = net.of(kit.ALICE, QuickModeAnswered)
    alice.inbound_traffic(net.now, answered.inbound_spi ^ 1)
    assert not alice.events()
    alice.inbound_traffic(net.now, answered.inbound_spi)
    (a,) = alice.events()
    assert isinstance(a, QuickModeEstablished)
    assert (a.time, a.inbound, a.answers) == (2.0, answered.inbound, (1,))
    assert alice.statistics()[WAITS] == 1
    alice.inbound_traffic(net.now, answered.inbound_spi)
    assert not alice.events()
    sent = len(net.wire)
    net.run()
    assert len(net.wire) == sent, "message 3 is not repeated any more"


def test_without_connected_the_wait_ends_with_the_schedule(kit: Any) -> None:
    harm, _ = drop(kit, 4)
    net = start(kit, harm)
    net.run()
    three = quick_messages(net)[2]
    times = [time - three[0] for time, _, data in net.wire if data == three[3]]
    assert times == pytest.approx([0, 1, 3, 7, 15, 31, 63])
    (a,) = net.of(kit.ALICE, QuickModeEstablished)
    assert a.time == pytest.approx(three[0] + 64)
    statistics = net.engines[kit.ALICE].statistics()
    assert (statistics[WAITS], statistics["Active main modes"], statistics["Negotiation failures"]) == (1, 1, 0)


def test_the_bit_of_a_message_with_a_wrong_hash_counts_for_nothing(kit: Any) -> None:
    """Anyone can write flags: a damaged copy with the bit comes first, the true message 2 without it decides."""

    def harm(data: bytes) -> list[tuple[float, bytes]]:
        header = wire.parse_header(data)
        if header.exchange != ExchangeType.QUICK_MODE or len(quick_messages(net)) != 2:
            return [(0.01, data)]
        forged = data[:19] + bytes([data[19] | Flags.COMMIT]) + data[20:-1] + bytes([data[-1] ^ 1])
        return [(0.01, forged), (0.02, data)]

    net = start(kit, bob=None)
    net.harm = harm
    net.run()
    assert len(quick_messages(net)) == 3
    (a,) = net.of(kit.ALICE, QuickModeEstablished)
    assert a.time < 1
    assert not net.of(kit.ALICE, QuickModeAnswered)
    assert net.engines[kit.ALICE].statistics()["Unverified messages"] == 1


def test_a_bit_that_was_set_on_the_way_costs_time_only(kit: Any) -> None:
    """No HASH covers the flags. The initiator waits for what never comes, and then has its SAs."""

    def harm(data: bytes) -> list[tuple[float, bytes]]:
        committed = data[:19] + bytes([data[19] | Flags.COMMIT]) + data[20:]
        two = len(quick_messages(net)) == 2
        return [(0.01, committed if two else data)]

    net = start(kit, bob=None)
    net.harm = harm
    net.run()
    (a,), (b,) = net.of(kit.ALICE, QuickModeEstablished), net.of(kit.BOB, QuickModeEstablished)
    assert (a.inbound, a.outbound) == (b.outbound, b.inbound)
    assert (b.time < 1, a.time < 65) == (True, True)


def in_place_of_message_four(kit: Any, exchange: ExchangeType, notify: int, *, chained: bool) -> Any:
    """Bob's message 4 gets lost; a notify of his with the same message id comes instead."""
    harm, _ = drop(kit, 4)
    net = start(kit, harm)
    net.run(0.5)
    (main,) = net.engines[kit.BOB]._mains.all()
    session, messages = main.exchange.session, quick_messages(net)
    message_id = messages[0][2].message_id
    payloads = (wire.Notification(Protocol.ESP, b"", notify),)
    proof = session.message_hash(message_id, wire.encode_payloads(payloads))
    iv = messages[2][3][-8:] if chained else session.iv(message_id)
    message = protected.seal(session, exchange, message_id, iv, lambda rest: proof, payloads)
    net.engines[kit.ALICE].receive_datagram(net.now, message, (kit.BOB, 500))
    net.collect()
    return net


@pytest.mark.parametrize(
    ("exchange", "chained"),
    [(ExchangeType.QUICK_MODE, True), (ExchangeType.INFORMATIONAL, True), (ExchangeType.INFORMATIONAL, False)],
)
def test_connected_in_every_shape(kit: Any, exchange: ExchangeType, chained: bool) -> None:
    """RFC 2408 section 3.1 has an Informational of this message id; which IV that means is left open."""
    net = in_place_of_message_four(kit, exchange, Notify.CONNECTED, chained=chained)
    (a,) = net.of(kit.ALICE, QuickModeEstablished)
    assert a.time == 0.5
    assert net.engines[kit.ALICE].statistics()[WAITS] == 0


@pytest.mark.parametrize("exchange", [ExchangeType.QUICK_MODE, ExchangeType.INFORMATIONAL])
def test_an_error_in_place_of_connected(kit: Any, exchange: ExchangeType) -> None:
    net = in_place_of_message_four(kit, exchange, Notify.INVALID_HASH_INFORMATION, chained=True)
    (failure,) = net.of(kit.ALICE, NegotiationFailed)
    (answered,) = net.of(kit.ALICE, QuickModeAnswered)
    assert (failure.reason, failure.failure_point) == (FailureReason.HASH_PAYLOAD, FailurePoint.PEER)
    assert (failure.answers, failure.inbound_spi) == ((1,), answered.inbound_spi)


def test_another_status_in_place_of_connected_changes_nothing(kit: Any) -> None:
    net = in_place_of_message_four(kit, ExchangeType.QUICK_MODE, Notify.REPLAY_STATUS, chained=True)
    assert not net.of(kit.ALICE, QuickModeEstablished)
    net.run()
    assert len(net.of(kit.ALICE, QuickModeEstablished)) == 1


def test_main_mode_that_ends_under_the_wait(kit: Any) -> None:
    """The acquire gets another Quick Mode under another Main Mode."""
    harm, _ = drop(kit, 4)
    net = start(kit, harm)
    net.run(0.5)
    (main,) = net.engines[kit.BOB]._mains.all()
    net.engines[kit.BOB]._main_modes.end(net.now, main, FailurePoint.ME)
    net.run()
    (a,) = net.of(kit.ALICE, QuickModeEstablished)
    assert a.answers == (1,)
    assert not net.engines[kit.ALICE]._quick_modes._unconnected


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 1 << 32), st.floats(0, 0.5), st.booleans(), st.booleans())
def test_loss_and_reordering(kit: Any, seed: int, loss: float, both: bool, soon: bool) -> None:
    random = Random(seed)

    def harm(data: bytes) -> list[tuple[float, bytes]]:
        copies = [data] * (random.random() >= loss) + [data] * (random.random() < 0.2)
        return [(random.uniform(0.001, 1.0 if soon else 3.0), copy) for copy in copies]

    net = start(kit, harm, alice=COMMIT)
    if both:
        net.engines[kit.BOB].acquire(0.0, kit.wish(kit.ALICE, reference=2))
    net.run(600.0)
    for who, reference in ((kit.ALICE, 1), (kit.BOB, 2))[: 2 if both else 1]:
        events = net.of(who, QuickModeEstablished) + net.of(who, NegotiationFailed)
        assert [answer for event in events for answer in event.answers] == [reference]
    at_bob = {event.outbound_spi: event for event in net.of(kit.BOB, QuickModeEstablished)}
    for event in net.of(kit.ALICE, QuickModeEstablished):
        if other := at_bob.get(event.inbound_spi):
            assert (event.inbound, event.outbound) == (other.outbound, other.inbound)
    for engine in net.engines.values():
        assert engine.statistics()["Unverified messages"] == 0
        assert not engine._quick_modes._unconnected


def test_same_messages_with_and_without_but_for_the_bit(kit: Any) -> None:
    runs = []
    for options in (COMMIT, replace(COMMIT, commit_bit=False)):
        net = start(kit, bob=options)
        net.run()
        runs.append([data for *_, data in quick_messages(net)])
    assert len(runs[0]) == len(runs[1]) + 1
    assert [data[20:] for data in runs[0][:3]] == [data[20:] for data in runs[1]]
