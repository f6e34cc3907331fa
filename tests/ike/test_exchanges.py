"""Main Mode, Quick Mode and Informational one against one, with a peer that knows the keys and cheats."""

from __future__ import annotations

from ipaddress import IPv4Network
from random import Random
from typing import Any

import pytest
from quick_kit import I_COOKIE, R_COOKIE, give, quick_modes, reseal

from ipsec_core.ike import ChildDeleted, MainModeEstablished, QuickModeEstablished, protected, wire
from ipsec_core.ike.events import MainModePolicy
from ipsec_core.ike.failures import FailureReason, MalformedMessage, Refused, Unverified
from ipsec_core.ike.iana import ExchangeType, Notify, Protocol
from ipsec_core.ike.main_mode import TRANSITIONS, MainMode, State
from ipsec_core.ike.offers import TrafficSelector, encode_identity
from ipsec_core.ike.quick_mode import State as QuickState


def main_modes(kit: Any) -> tuple[MainMode, MainMode]:
    policy = MainModePolicy((kit.MAIN_OFFER,), kit.KEY)
    ends = {"local": kit.ALICE, "remote": kit.BOB}, {"local": kit.BOB, "remote": kit.ALICE}
    initiator = MainMode(initiator=True, policy=policy, random=Random(1).randbytes, cookie=I_COOKIE, **ends[0])
    responder = MainMode(
        initiator=False, policy=policy, random=Random(2).randbytes, cookie=R_COOKIE, peer_cookie=I_COOKIE, **ends[1]
    )
    return initiator, responder


def up_to_message_five(initiator: MainMode, responder: MainMode) -> bytes | None:
    return give(initiator, give(responder, give(initiator, give(responder, initiator.start()))))


def test_both_tables_end_established(kit: Any) -> None:
    initiator, responder = main_modes(kit)
    assert give(initiator, give(responder, up_to_message_five(initiator, responder))) is None
    assert initiator.state is responder.state is State.ESTABLISHED
    assert initiator.session.last_block == responder.session.last_block
    assert initiator.microsoft_peer
    assert responder.microsoft_peer
    reached = {state for change in TRANSITIONS.values() for state in (change.following, change.unfinished) if state}
    assert reached | {State.START, State.LISTENING, State.SA_SENT} == set(State)


@pytest.mark.parametrize("liar", ["initiator", "responder"])
def test_wrong_proof_under_the_right_key(kit: Any, liar: str, monkeypatch: pytest.MonkeyPatch) -> None:
    initiator, responder = main_modes(kit)
    false = (encode_identity(IPv4Network(kit.ALICE if liar == "initiator" else kit.BOB)), wire.HashData(bytes(20)))
    monkeypatch.setattr(initiator if liar == "initiator" else responder, "_own_proof", lambda: false)
    five = up_to_message_five(initiator, responder)
    if liar == "initiator":
        with pytest.raises(Unverified):
            give(responder, five)
        assert responder.state is State.KEY_ANSWERED
    else:
        six = give(responder, five)
        with pytest.raises(Unverified):
            give(initiator, six)
        assert initiator.state is State.AUTH_SENT


def test_identity_of_another_address(kit: Any) -> None:
    initiator, responder = main_modes(kit)
    initiator.local = "10.0.0.99"
    with pytest.raises(Refused) as caught:
        give(responder, up_to_message_five(initiator, responder))
    assert caught.value.reason is FailureReason.ID_PAYLOAD


def test_a_damaged_message_five_leaves_the_iv_alone(kit: Any) -> None:
    initiator, responder = main_modes(kit)
    five = up_to_message_five(initiator, responder)
    assert five is not None
    damaged = five[:40] + bytes([five[40] ^ 1]) + five[41:]
    for _ in range(2):
        with pytest.raises(Unverified):
            give(responder, damaged)
    give(initiator, give(responder, five))
    assert initiator.state is State.ESTABLISHED


@pytest.mark.parametrize("choice", [2, 0])
def test_answer_that_was_not_offered_is_ignored(kit: Any, choice: int) -> None:
    initiator, _ = main_modes(kit)
    message = initiator.start()
    sa, vendor = wire.parse_clear(wire.parse_header(message), message)
    assert isinstance(sa, wire.SecurityAssociation)
    proposal = sa.proposals[0]
    false = wire.SecurityAssociation((wire.Proposal(1, 1, b"", proposal.transforms * choice),))
    header = wire.Header(I_COOKIE, R_COOKIE, 2, next_payload=1)
    with pytest.raises(MalformedMessage):
        give(initiator, wire.encode_clear(header, (false, vendor)))
    with pytest.raises(MalformedMessage):
        give(initiator, wire.encode_clear(wire.Header(I_COOKIE, wire.NO_COOKIE, 2, next_payload=1), (sa, vendor)))
    assert initiator.state is State.SA_SENT
    give(initiator, wire.encode_clear(header, (sa, vendor)))
    assert initiator.responder_cookie == R_COOKIE


def swap(kind: type, make: Any) -> Any:
    return lambda payloads: tuple(make(item) if isinstance(item, kind) else item for item in payloads)


def with_spi(spi: bytes) -> Any:
    return lambda sa: wire.SecurityAssociation((wire.Proposal(1, 3, spi, sa.proposals[0].transforms),))


@pytest.mark.parametrize(
    ("change", "notify"),
    [
        (swap(wire.Identification, lambda item: wire.Identification(1, 0, 0, bytes(4))), Notify.INVALID_ID_INFORMATION),
        (lambda payloads: payloads[:2], Notify.INVALID_ID_INFORMATION),
        (swap(wire.SecurityAssociation, with_spi((255).to_bytes(4))), Notify.INVALID_SPI),
        (swap(wire.SecurityAssociation, with_spi(b"123")), Notify.INVALID_SPI),
        (lambda payloads: (*payloads, wire.KeyExchange(bytes(96))), Notify.INVALID_KEY_INFORMATION),
        (lambda payloads: (*payloads, wire.Nonce(bytes(8))), Notify.INVALID_PAYLOAD_TYPE),
        (
            swap(wire.SecurityAssociation, lambda sa: wire.SecurityAssociation(sa.proposals * 2)),
            Notify.BAD_PROPOSAL_SYNTAX,
        ),
    ],
)
def test_cheating_responder_of_quick_mode(kit: Any, change: Any, notify: Notify) -> None:
    initiator, responder = quick_modes(kit)
    two = give(responder, initiator.start(kit.selectors(), (kit.ESP_OFFER,), 1))
    assert two is not None
    false = reseal(initiator, two, change, initiator._own_nonce)
    with pytest.raises(Refused) as caught:
        give(initiator, false)
    assert caught.value.notify is notify
    assert initiator.state is QuickState.OFFERED


def test_quick_mode_without_identities_is_between_the_peers(kit: Any) -> None:
    initiator, responder = quick_modes(kit)
    message = initiator.start(kit.selectors(), (kit.ESP_OFFER,), 1)
    session = initiator.session
    opened = protected.unseal(session, wire.parse_header(message), session.iv(77), message)
    payloads = opened.payloads[:2]
    proof = session.message_hash(77, wire.encode_payloads(payloads))
    bare = protected.seal(session, ExchangeType.QUICK_MODE, 77, session.iv(77), lambda rest: proof, payloads)
    assert give(responder, bare) is not None
    assert responder.selectors == TrafficSelector(IPv4Network(kit.BOB), IPv4Network(kit.ALICE))


def test_third_message_needs_both_nonces(kit: Any) -> None:
    initiator, responder = quick_modes(kit)
    two = give(responder, initiator.start(kit.selectors(), (kit.ESP_OFFER,), 1))
    session = responder.session
    false = protected.seal(session, ExchangeType.QUICK_MODE, 77, responder._iv, lambda rest: bytes(20), ())
    with pytest.raises(Unverified):
        give(responder, false)
    assert give(responder, give(initiator, two)) is None
    assert responder.state is QuickState.ESTABLISHED
    assert responder.inbound == initiator.outbound


def test_protected_delete_needs_its_hash_and_counts_once(kit: Any) -> None:
    net = kit.pair()
    net.engines[kit.ALICE].acquire(0.0, kit.wish())
    net.run()
    bob = net.engines[kit.BOB]
    child = net.of(kit.BOB, QuickModeEstablished)[0]
    (main,) = net.engines[kit.ALICE]._mains.all()
    session = main.exchange.session
    payload = (wire.Delete(Protocol.ESP, 4, (child.outbound_spi.to_bytes(4),)),)
    false = protected.seal(session, ExchangeType.INFORMATIONAL, 99, session.iv(99), lambda rest: bytes(20), payload)
    true = protected.seal_informational(session, 99, payload)
    bob.receive_datagram(net.now, false, (kit.ALICE, 500))
    assert bob.events() == []
    bob.receive_datagram(net.now, true, (kit.ALICE, 500))
    assert [type(event) for event in bob.events()] == [ChildDeleted]
    before = bob.statistics()["Discarded messages"]
    bob.receive_datagram(net.now, true, (kit.ALICE, 500))
    assert bob.statistics()["Discarded messages"] == before + 1
    assert len(net.of(kit.BOB, MainModeEstablished)) == 1
