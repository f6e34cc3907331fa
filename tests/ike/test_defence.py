"""Half-open Main Modes, cookies against floods, answers to senders that may be forged."""

from __future__ import annotations

import sys
from random import Random
from typing import Any

import pytest

from ipsec_core.ike import (
    FailurePoint,
    FailureReason,
    IkeOptions,
    MainModeEstablished,
    MainModePolicy,
    NegotiationFailed,
    QuickModeEstablished,
    SoftAssociation,
    wire,
)
from ipsec_core.ike.defence import BUCKET_SECONDS, Cookies, HalfOpen
from ipsec_core.ike.failures import reason_of_notify
from ipsec_core.ike.iana import FIRST_STATUS_NOTIFY, MICROSOFT_VENDOR_ID, Notify, Protocol
from ipsec_core.ike.timers import STALE, Timer, Timers


def first_message(kit: Any) -> bytes:
    net = kit.Net(77)
    net.add(kit.ALICE).acquire(0.0, kit.wish())
    net.collect()
    return bytes(net.wire[0][2])


def flood(kit: Any, net: Any, until: float, rate: int, source: Any) -> None:
    """First messages to Bob, `rate` a second; their answers go nowhere."""
    template, random = first_message(kit), Random(5)
    bob, start = net.engines[kit.BOB], net.now
    for number in range(round((until - start) * rate)):
        net.run(start + number / rate)
        bob.receive_datagram(net.now, random.randbytes(8) + template[8:], (source(number), 500))
    net.collect()


def spoofed(number: int) -> str:
    return f"172.16.{number // 250 % 250}.{number % 250}"


def test_a_peer_gets_through_a_flood_from_everywhere(kit: Any) -> None:
    """A tenth of a second to and fro, in which half a table of forged first messages comes in."""
    net = kit.Net(harm=lambda data: [(0.05, data)])
    net.add(kit.ALICE)
    net.add(kit.BOB, options=IkeOptions(max_half_open=200))
    flood(kit, net, 1.0, 1000, spoofed)
    net.engines[kit.ALICE].acquire(net.now, kit.wish())
    flood(kit, net, 2.5, 1000, spoofed)
    (event,) = net.of(kit.ALICE, QuickModeEstablished)
    assert event.time - 1.0 < 0.6
    assert net.engines[kit.BOB].statistics()["Half-open main modes refused"] > 2000


def test_a_flood_in_the_name_of_the_peer_does_not_lock_it_out(kit: Any) -> None:
    net = kit.pair()
    flood(kit, net, 1.0, 1000, lambda number: kit.ALICE)
    net.engines[kit.ALICE].acquire(net.now, kit.wish())
    flood(kit, net, 2.0, 1000, lambda number: kit.ALICE)
    assert len(net.of(kit.ALICE, QuickModeEstablished)) == 1


def test_a_flood_leaves_nothing_behind(kit: Any) -> None:
    """Neither memory nor deadlines grow with the number of messages."""
    net = kit.Net()
    bob = net.add(kit.BOB, options=IkeOptions(max_half_open=50))
    sizes = []
    for _ in range(3):
        flood(kit, net, net.now + 1.0, 500, spoofed)
        sizes.append(sys.getsizeof(bob._out.timers._heap))
        assert len(bob._mains.all()) == 50
        assert len(bob._out.timers._heap) <= 2 * 50 + STALE
    assert len(set(sizes)) == 1
    net.run(net.now + 100)
    assert (bob._mains.all(), bob.next_timer()) == ([], None)


def test_what_is_established_survives_every_flood(kit: Any) -> None:
    net = kit.pair(options=IkeOptions(max_half_open=20, max_half_open_per_peer=5))
    net.engines[kit.ALICE].acquire(0.0, kit.wish())
    net.run(1.0)
    flood(kit, net, 2.0, 200, spoofed)
    flood(kit, net, 3.0, 200, lambda number: kit.ALICE)
    statistics = net.engines[kit.BOB].statistics()
    assert statistics["Active main modes"] == statistics["Active quick modes"] == 1


def test_half_open_is_fair_and_bounded(kit: Any) -> None:
    class Main:
        def __init__(self, remote: str) -> None:
            self.remote = remote

    table = HalfOpen(3, 2)
    one, two, three, four = (Main(remote) for remote in "aaab")
    assert [table.add(main) for main in (one, two)] == [None, None]  # type: ignore[arg-type]
    assert table.add(three) is one  # type: ignore[arg-type, comparison-overlap]
    assert table.add(four) is None  # type: ignore[arg-type]
    assert (len(table), table.of("a"), table.of("b"), table.of("c")) == (3, 2, 1, 0)
    assert table.add(Main("c")) is two  # type: ignore[arg-type, comparison-overlap]
    assert table.remove(three)  # type: ignore[arg-type]
    assert not table.remove(three)  # type: ignore[arg-type]
    assert (len(table), table.of("a")) == (2, 0)


def test_cookies_need_no_memory() -> None:
    cookies, others = Cookies(Random(1).randbytes), Cookies(Random(2).randbytes)
    cookie = cookies.make(100.0, "10.0.0.1", b"initiato")
    assert len(cookie) == 8
    for seconds in (0.0, BUCKET_SECONDS):
        assert cookies.recognise(100.0 + seconds, "10.0.0.1", b"initiato", cookie)
    assert not cookies.recognise(100.0 + 2 * BUCKET_SECONDS, "10.0.0.1", b"initiato", cookie)
    assert not cookies.recognise(100.0, "10.0.0.2", b"initiato", cookie)
    assert not cookies.recognise(100.0, "10.0.0.1", b"initiatO", cookie)
    assert not others.recognise(100.0, "10.0.0.1", b"initiato", cookie)


# EnableDOSProtect


def protected_bob(kit: Any) -> Any:
    net = kit.Net()
    net.add(kit.ALICE)
    net.add(kit.BOB, options=IkeOptions(max_half_open=20, dos_protect=True))
    return net


def test_a_cookie_first_when_many_are_half_open(kit: Any) -> None:
    """[MS-IKEE] 2.2.6: the answer to message 1 is a cookie, kept by nobody; message 1 comes again with it."""
    net = protected_bob(kit)
    flood(kit, net, 0.1, 1000, spoofed)
    bob = net.engines[kit.BOB]
    before = len(bob._mains.all())
    flood(kit, net, 0.2, 1000, spoofed)
    assert len(bob._mains.all()) == before == 10
    sent = len(net.wire)
    net.engines[kit.ALICE].acquire(net.now, kit.wish())
    net.run(net.now + 1.0)
    assert len(net.of(kit.ALICE, QuickModeEstablished)) == 1
    first, demand, again = (data for _, _, data in net.wire[sent : sent + 3])
    header = wire.parse_header(demand)
    (notify,) = wire.parse_clear(header, demand)
    assert (header.exchange, notify.notify, notify.data) == (5, 0x9C44, header.responder_cookie)
    assert len(demand) <= len(first)
    assert again == first[:8] + notify.data + first[16:]
    assert wire.parse_header(net.wire[sent + 3][2]).responder_cookie == notify.data
    assert bob.statistics()["Cookies demanded"] > 50


def test_others_than_microsoft_get_no_cookie(kit: Any) -> None:
    net = protected_bob(kit)
    flood(kit, net, 0.1, 1000, spoofed)
    bob, template = net.engines[kit.BOB], first_message(kit)
    header = wire.parse_header(template)
    stranger = wire.encode_clear(header, wire.parse_clear(header, template)[:1])
    bob.datagrams()
    bob.receive_datagram(net.now, stranger, ("10.0.0.9", 500))
    (answer,) = bob.datagrams()
    assert wire.parse_header(answer.data).exchange == 2


def test_a_cookie_of_the_wrong_address_opens_nothing(kit: Any) -> None:
    net = protected_bob(kit)
    bob, template = net.engines[kit.BOB], first_message(kit)
    for cookie in (b"anything", bob._main_modes._cookies.make(0.0, kit.ALICE, template[:8])):
        bob.receive_datagram(0.0, template[:8] + cookie + template[16:], ("10.0.0.9", 500))
    assert (bob.datagrams(), bob._mains.all()) == ([], [])
    assert bob.statistics()["Discarded messages"] == 2


def test_cookies_without_end_are_not_obeyed(kit: Any) -> None:
    net = kit.Net()
    alice = net.add(kit.ALICE)
    alice.acquire(0.0, kit.wish())
    (first,) = alice.datagrams()
    for number in range(1, 20):
        payload = wire.Notification(Protocol.ISAKMP, b"", Notify.MICROSOFT_COOKIE, number.to_bytes(8))
        header = wire.Header(first.data[:8], number.to_bytes(8), 5, message_id=number, next_payload=payload.TYPE)
        alice.receive_datagram(0.0, wire.encode_clear(header, (payload,)), (kit.BOB, 500))
    assert len(alice.datagrams()) == 3
    assert alice.events() == []


# Answers to who may be forged


def test_message_2_is_never_longer_than_message_1(kit: Any) -> None:
    """Without any vendor id in message 1 there is no room for Microsoft's in message 2."""
    bob, template = kit.Net().add(kit.BOB), first_message(kit)
    header = wire.parse_header(template)
    sa, _ = wire.parse_clear(header, template)
    request = wire.encode_clear(header, (sa,))
    bob.receive_datagram(0.0, request, (kit.ALICE, 500))
    (answer,) = bob.datagrams()
    assert len(answer.data) == len(request)
    assert wire.parse_clear(wire.parse_header(answer.data), answer.data) == (sa,)
    bob.receive_datagram(0.0, b"another!" + template[8:], (kit.ALICE, 500))
    assert MICROSOFT_VENDOR_ID in bob.datagrams()[0].data


def copies(kit: Any, options: IkeOptions, messages: int) -> list[int]:
    """How many bytes come back for each first message of one address that never says more."""
    net = kit.Net()
    bob, template = net.add(kit.BOB, options=options), first_message(kit)
    for number in range(messages):
        bob.receive_datagram(0.0, number.to_bytes(8) + template[8:], (kit.ALICE, 500)) if number else None
    net.run(200.0)
    answers = [data[:8] for _, _, data in net.wire]
    return [answers.count(number.to_bytes(8)) for number in range(1, messages)]


def test_message_2_is_retransmitted_for_one_negotiation_of_an_address(kit: Any) -> None:
    assert copies(kit, IkeOptions(), 4) == [7, 1, 1]
    assert copies(kit, IkeOptions(retransmit_first_reply=False), 4) == [1, 1, 1]


def test_the_schedule_is_data(kit: Any) -> None:
    net = kit.Net()
    net.add(kit.ALICE, options=IkeOptions(retransmission_gaps=(0.5, 0.25)))
    net.engines[kit.ALICE].acquire(0.0, kit.wish())
    net.run(10.0)
    assert [time for time, _, _ in net.wire] == [0, 0.5, 0.75]
    assert net.of(kit.ALICE, NegotiationFailed)[0].time == 1.75


@pytest.mark.parametrize("exchange", [4, 33, 0, 243])
def test_refused_exchanges_are_counted_and_traced(kit: Any, exchange: int) -> None:
    lines: list[str] = []
    bob, data = kit.Net().add(kit.BOB, trace=lines.append), bytearray(first_message(kit))
    data[18] = exchange
    bob.receive_datagram(0.0, bytes(data), (kit.ALICE, 500))
    assert bob.statistics()["Refused exchanges"] == 1
    assert any(f"exchange type {exchange}" in line for line in lines)


# Clear text only for those who say nothing


@pytest.mark.parametrize("garbage", [b"", b"\0" * 8, b"nonsense" * 10])
def test_a_peer_that_says_anything_with_our_cookie_gets_no_clear_text(kit: Any, garbage: bytes) -> None:
    net = kit.Net()
    alice = net.add(kit.ALICE)
    alice.acquire(0.0, kit.wish(allow_soft=True))
    cookie = alice.datagrams()[0].data[:8]
    alice.receive_datagram(1.0, cookie + garbage, (kit.BOB, 500))
    alice.acquire(1.5, kit.wish(allow_soft=True, reference=2, traffic=kit.selectors(protocol=6)))
    net.run(100.0)
    assert not net.of(kit.ALICE, SoftAssociation)
    assert [event.answers for event in net.of(kit.ALICE, NegotiationFailed)] == [(1,), (2,)]


def test_garbage_from_elsewhere_changes_nothing(kit: Any) -> None:
    net = kit.Net()
    alice = net.add(kit.ALICE, options=IkeOptions(soft_fallback=2.0))
    alice.acquire(0.0, kit.wish(allow_soft=True))
    cookie = alice.datagrams()[0].data[:8]
    alice.receive_datagram(1.0, cookie, ("10.0.0.9", 500))
    alice.receive_datagram(1.0, b"anything", (kit.BOB, 500))
    net.run(100.0)
    assert net.of(kit.ALICE, SoftAssociation)[0].time == 2.0


def test_clear_text_only_if_all_that_wait_for_it_allow_it(kit: Any) -> None:
    net = kit.Net()
    alice = net.add(kit.ALICE)
    alice.acquire(0.0, kit.wish(allow_soft=True))
    alice.acquire(0.0, kit.wish(allow_soft=False, reference=2))
    alice.acquire(0.0, kit.wish(allow_soft=True, reference=3, traffic=kit.selectors(protocol=6)))
    net.run(100.0)
    assert [event.answers for event in net.of(kit.ALICE, SoftAssociation)] == [(3,)]
    assert net.of(kit.ALICE, NegotiationFailed)[0].answers == (1, 2)


def test_a_failure_never_becomes_clear_text(kit: Any) -> None:
    net = kit.pair(bob=kit.Rules(main=None))
    net.engines[kit.ALICE].acquire(0.0, kit.wish(allow_soft=True))
    net.run(100.0)
    assert not net.of(kit.ALICE, SoftAssociation)
    assert len(net.of(kit.ALICE, NegotiationFailed)) == 1


# Reasons


@pytest.mark.parametrize("notify", [item for item in Notify if item < FIRST_STATUS_NOTIFY])
def test_every_error_notify_has_a_reason(notify: Notify) -> None:
    general = notify in (Notify.ADDRESS_NOTIFICATION, Notify.NOTIFY_SA_LIFETIME)
    assert (reason_of_notify(notify) is FailureReason.GENERAL_ERROR) is general


@pytest.mark.parametrize("right", [True, False])
def test_a_sealed_refusal_ends_a_main_mode_only_if_it_verifies(kit: Any, right: bool) -> None:
    """Instead of message 6 comes a notify under the keys of the exchange."""
    net = kit.pair(harm=lambda data: [] if len(net.wire) >= 5 else [(0.01, data)])
    net.engines[kit.ALICE].acquire(0.0, kit.wish())
    net.run(0.5)
    (at_alice,), (at_bob,) = (net.engines[who]._mains.all() for who in (kit.ALICE, kit.BOB))
    notification = wire.Notification(Protocol.ISAKMP, b"", Notify.AUTHENTICATION_FAILED)
    message = at_bob.exchange.seal_notify(9, notification)
    message = message if right else message[:-1] + bytes((message[-1] ^ 1,))
    net.engines[kit.ALICE].receive_datagram(0.5, message, (kit.BOB, 500))
    net.run(0.6)
    assert bool(net.of(kit.ALICE, NegotiationFailed)) is right
    assert (at_alice in net.engines[kit.ALICE]._mains.all()) is not right
    if right:
        (failure,) = net.of(kit.ALICE, NegotiationFailed)
        assert (failure.reason, failure.failure_point) == (
            FailureReason.CREDENTIALS_UNACCEPTABLE,
            FailurePoint.PEER,
        )
        assert net.engines[kit.ALICE].statistics()["Authentication failures"] == 1


def test_wrong_key_is_not_told(kit: Any) -> None:
    """A notify would be made from our preshared key: whoever did the key exchange could try keys on it at home."""
    net = kit.pair(bob=kit.Rules(main=MainModePolicy((kit.MAIN_OFFER,), b"another key")))
    net.engines[kit.ALICE].acquire(0.0, kit.wish())
    net.run(20.0)
    assert not [data for _, who, data in net.wire if who == kit.BOB and wire.parse_header(data).exchange == 5]
    assert net.of(kit.BOB, NegotiationFailed)[0].reason is FailureReason.CREDENTIALS_UNACCEPTABLE
    assert not net.of(kit.ALICE, NegotiationFailed)
    net.run(100.0)
    assert net.of(kit.ALICE, NegotiationFailed)[0].reason is FailureReason.TIMED_OUT


def test_listing(kit: Any) -> None:
    net = kit.pair()
    net.engines[kit.ALICE].acquire(0.0, kit.wish())
    net.run(1.0)
    (at_alice,), (at_bob,) = (net.engines[who].main_modes() for who in (kit.ALICE, kit.BOB))
    (event,) = net.of(kit.ALICE, MainModeEstablished)
    assert (at_alice.initiator_cookie, at_alice.responder_cookie) == (event.initiator_cookie, event.responder_cookie)
    assert (at_alice.remote, at_alice.initiator, at_alice.offer, at_alice.established) == (
        kit.BOB,
        True,
        kit.MAIN_OFFER,
        event.time,
    )
    assert (at_alice.address, at_alice.port, at_alice.local_port, at_alice.nat) == (kit.BOB, 500, 500, None)
    assert (at_alice.quick_modes, at_bob.quick_modes, at_bob.initiator) == (1, 0, False)
    net.engines[kit.BOB].receive_datagram(1.0, first_message(kit), ("10.0.0.9", 500))
    assert len(net.engines[kit.BOB].main_modes()) == 1, "anybody can send a first message"


def test_deadlines_do_not_pile_up() -> None:
    timers = Timers()
    for number in range(10_000):
        timers.set((Timer.RETRANSMIT, "one"), float(number))
        timers.set((Timer.LIFETIME, number), 5.0)
        timers.cancel((Timer.LIFETIME, number))
    assert len(timers._heap) <= 2 + STALE
    assert timers.next() == 9999.0


def test_who_refuses_message_6_ends_the_sa_at_the_responder(kit: Any) -> None:
    """Its notify is sealed under the Main Mode that is not over for it."""
    net = kit.pair(harm=lambda data: [] if len(net.wire) >= 6 else [(0.01, data)])
    net.engines[kit.ALICE].acquire(0.0, kit.wish())
    net.run(0.5)
    (at_alice,), (at_bob,) = (net.engines[who]._mains.all() for who in (kit.ALICE, kit.BOB))
    assert at_bob.established is not None
    refusal = wire.Notification(Protocol.ISAKMP, b"", Notify.INVALID_CERTIFICATE)
    message = at_alice.exchange.seal_notify(9, refusal)
    forged = message[:-1] + bytes((message[-1] ^ 1,))
    net.engines[kit.BOB].receive_datagram(0.5, forged, (kit.ALICE, 500))
    assert net.engines[kit.BOB].main_modes()
    net.engines[kit.BOB].receive_datagram(0.5, message, (kit.ALICE, 500))
    assert not net.engines[kit.BOB].main_modes()
    net.collect()
    (failure,) = net.of(kit.BOB, NegotiationFailed)
    assert failure.failure_point is FailurePoint.PEER


def test_failures_that_anybody_can_cause_are_reported_so_many_a_second(kit: Any) -> None:
    net = kit.pair(bob=kit.Rules(main=None))
    flood(kit, net, 10.0, 100, spoofed)
    reported = len(net.of(kit.BOB, NegotiationFailed))
    assert 90 <= reported <= 120
    assert net.engines[kit.BOB].statistics()["Failures not reported"] == 1000 - reported
