"""Notifies about Quick Modes: whose they are, what they end, what they do not."""

from __future__ import annotations

from typing import Any

import pytest
from quick_kit import quick_modes

from ipsec_core.ike import (
    FailurePoint,
    FailureReason,
    NegotiationFailed,
    QuickModeEstablished,
    protected,
    wire,
)
from ipsec_core.ike.iana import ExchangeType, Notify, Protocol


def offered(kit: Any, count: int = 1) -> tuple[Any, Any, list[Any]]:
    """Alice under an SA with her Quick Modes' messages 1 on the way to nowhere: (net, session, exchanges)."""
    net = kit.pair()
    net.engines[kit.ALICE].acquire(0.0, kit.wish())
    net.run(1.0)
    net.harm = lambda data: []
    for port in range(1, count + 1):
        traffic = kit.selectors(protocol=6, source_port=port)
        net.engines[kit.ALICE].acquire(1.0, kit.wish(reference=10 + port, traffic=traffic))
    net.collect()
    (main,) = net.engines[kit.ALICE]._mains.all()
    exchanges = [quick.exchange for quick in main.quick.values() if not quick.over]
    assert len(exchanges) == count
    return net, main.exchange.session, exchanges


def deliver(kit: Any, net: Any, message: bytes) -> list[Any]:
    net.engines[kit.ALICE].receive_datagram(net.now, message, (kit.BOB, 500))
    before = len(net.events[kit.ALICE])
    net.collect()
    return net.events[kit.ALICE][before:]


def sealed(session: Any, exchange: ExchangeType, message_id: int, iv: bytes, *payloads: wire.Payload) -> bytes:
    proof = session.message_hash(message_id, wire.encode_payloads(payloads))
    return protected.seal(session, exchange, message_id, iv, lambda rest: proof, payloads)


ERROR = wire.Notification(Protocol.ESP, b"", Notify.NO_PROPOSAL_CHOSEN)


def failure(events: list[Any], reference: int) -> NegotiationFailed:
    (event,) = events
    assert isinstance(event, NegotiationFailed)
    assert (event.answers, event.failure_point) == ((reference,), FailurePoint.PEER)
    return event


@pytest.mark.parametrize("exchange", [ExchangeType.QUICK_MODE, ExchangeType.INFORMATIONAL])
def test_error_under_the_message_id_in_place_of_message_two(kit: Any, exchange: ExchangeType) -> None:
    """As a part of Quick Mode on its chain of IVs, or as an Informational with the first IV of that id."""
    net, session, (first, second) = offered(kit, 2)
    iv = second._iv if exchange is ExchangeType.QUICK_MODE else session.iv(second.message_id)
    events = deliver(kit, net, sealed(session, exchange, second.message_id, iv, ERROR))
    event = failure(events, 12)
    assert event.reason is FailureReason.ATTRIBUTES_UNACCEPTABLE
    assert event.inbound_spi == next(iter(second.spis.values()))
    assert first.state.name == "OFFERED"


def test_error_with_a_wrong_hash_is_nothing(kit: Any) -> None:
    net, session, (exchange,) = offered(kit)
    for kind in (ExchangeType.QUICK_MODE, ExchangeType.INFORMATIONAL):
        for iv in (exchange._iv, session.iv(exchange.message_id)):
            message = protected.seal(session, kind, exchange.message_id, iv, lambda rest: bytes(20), (ERROR,))
            assert deliver(kit, net, message) == []
    assert net.engines[kit.ALICE].statistics()["Unverified messages"] == 4
    net.harm = lambda data: [(0.01, data)]
    net.run(10.0)
    assert [event.answers for event in net.of(kit.ALICE, QuickModeEstablished)] == [(1,), (11,)]


@pytest.mark.parametrize("microsoft", [True, False])
def test_informational_that_names_the_quick_mode(kit: Any, microsoft: bool) -> None:
    """Microsoft: the message id in the data, an SPI of 8 bytes ([MS-IKEE] 2.2.6). Others: our SPI."""
    net, session, (_, second) = offered(kit, 2)
    spi, data = (bytes(8), second.message_id.to_bytes(4) + b"more") if microsoft else (b"", b"")
    if not microsoft:
        spi = next(iter(second.spis.values())).to_bytes(4)
    notify = wire.Notification(Protocol.ESP, spi, Notify.INVALID_ID_INFORMATION, data)
    event = failure(deliver(kit, net, protected.seal_informational(session, 4711, (notify,))), 12)
    assert event.reason is FailureReason.ID_PAYLOAD


def test_informational_that_names_nothing(kit: Any) -> None:
    """With one Quick Mode under way it can only mean that; with two it means neither."""
    net, session, _ = offered(kit, 2)
    assert deliver(kit, net, protected.seal_informational(session, 4711, (ERROR,))) == []
    net, session, _ = offered(kit, 1)
    failure(deliver(kit, net, protected.seal_informational(session, 4711, (ERROR,))), 11)


@pytest.mark.parametrize(
    "notify", [Notify.REPLAY_STATUS, Notify.CONNECTED, Notify.RESPONDER_LIFETIME, Notify.MICROSOFT_STATUS, 30000]
)
def test_status_changes_nothing_and_is_traced(kit: Any, notify: int) -> None:
    lines: list[str] = []
    net, session, (exchange,) = offered(kit)
    net.engines[kit.ALICE]._out.trace = lines.append
    status = wire.Notification(Protocol.ESP, bytes(4), notify, exchange.message_id.to_bytes(4))
    assert deliver(kit, net, protected.seal_informational(session, 4711, (status,))) == []
    assert f"Notify: type {int(notify)} from {kit.BOB}" in [line.replace("Notify.", "") for line in lines]
    assert deliver(kit, net, sealed(session, ExchangeType.QUICK_MODE, exchange.message_id, exchange._iv, status)) == []
    net.harm = lambda data: [(0.01, data)]
    net.run(10.0)
    assert [event.answers for event in net.of(kit.ALICE, QuickModeEstablished)] == [(1,), (11,)]


def test_status_beside_the_other_payloads(kit: Any) -> None:
    """REPLAY-STATUS (RFC 2407 section 4.6.3.2) in message 1 of another implementation."""
    net, session, _ = offered(kit)
    (b,) = net.of(kit.BOB, QuickModeEstablished)
    lines: list[str] = []
    net.engines[kit.BOB]._out.trace = lines.append
    initiator, _ = quick_modes(kit)
    initiator.session, initiator._iv = session, session.iv(77)
    one = initiator.start(kit.selectors(), (kit.ESP_OFFER,), 1)
    opened = protected.unseal(session, wire.parse_header(one), session.iv(77), one)
    status = wire.Notification(Protocol.ESP, b"spi!", Notify.REPLAY_STATUS, bytes(4))
    message = sealed(session, ExchangeType.QUICK_MODE, 77, session.iv(77), *opened.payloads, status)
    net.engines[kit.BOB].receive_datagram(net.now, message, (kit.ALICE, 500))
    assert [type(event).__name__ for event in net.engines[kit.BOB].events()] == ["QuickModeAnswered"]
    assert f"Notify: type {int(Notify.REPLAY_STATUS)} from {kit.ALICE}" in lines
    assert b.inbound


def test_our_refusal_names_the_quick_mode(kit: Any) -> None:
    """To a Microsoft peer: data with the message id, an SPI of 8 bytes."""
    net = kit.pair(bob=kit.Rules(quick=None))
    net.engines[kit.ALICE].acquire(0.0, kit.wish())
    net.run(5.0)
    (main,) = net.engines[kit.ALICE]._mains.all()
    messages = [(wire.parse_header(data), data) for _, _, data in net.wire]
    quick = next(header for header, _ in messages if header.exchange == ExchangeType.QUICK_MODE)
    (informational,) = [item for item in messages if item[0].exchange == ExchangeType.INFORMATIONAL]
    (notify,) = protected.open_informational(main.exchange.session, *informational)
    assert isinstance(notify, wire.Notification)
    assert (notify.notify, len(notify.spi)) == (Notify.INVALID_ID_INFORMATION, 8)
    assert notify.data == quick.message_id.to_bytes(4)
    assert informational[0].message_id != quick.message_id


def test_initiators_error_ends_the_responders_quick_mode(kit: Any) -> None:
    """An error under the message id in place of message 3."""
    net = kit.pair(harm=lambda data: [(0.01, data)] if len(net.wire) < 9 else [])
    net.engines[kit.ALICE].acquire(0.0, kit.wish())
    net.run(0.5)
    (main,) = net.engines[kit.BOB]._mains.all()
    (quick,) = main.quick.values()
    session = main.exchange.session
    message = sealed(session, ExchangeType.QUICK_MODE, quick.exchange.message_id, quick.exchange._iv, ERROR)
    net.engines[kit.BOB].receive_datagram(net.now, message, (kit.ALICE, 500))
    net.collect()
    (event,) = net.of(kit.BOB, NegotiationFailed)
    assert event.failure_point is FailurePoint.PEER
    assert event.inbound_spi == quick.exchange.inbound[0].spi
