"""Two engines and a wire in virtual time: what is agreed, what fails, when what is sent."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP
from scapy.layers.isakmp import ISAKMP
from scapy.packet import Raw
from scapy.utils import wrpcap

from ipsec_core.errors import NegotiationError
from ipsec_core.ike import (
    Acquire,
    AuthAlgorithm,
    ChildDeleted,
    Encapsulation,
    Encryption,
    EspTransform,
    FailurePoint,
    FailureReason,
    Group,
    Hash,
    IkeEngine,
    MainModeDeleted,
    MainModeEstablished,
    MainModeOffer,
    MainModePolicy,
    Mode,
    NegotiationFailed,
    ProposalMismatch,
    QuickModeEstablished,
    QuickModeOffer,
    QuickModePolicy,
    SoftAssociation,
    TrafficSelector,
    wire,
)
from ipsec_core.ike.iana import WINDOWS_2000_VENDOR_ID

SCHEDULE = [0, 1, 3, 7, 15, 31, 63]


def established(kit: Any, net: Any) -> tuple[Any, Any]:
    """The one Quick Mode of either end, checked to be the same SA pair."""
    (a,), (b,) = net.of(kit.ALICE, QuickModeEstablished), net.of(kit.BOB, QuickModeEstablished)
    assert (a.inbound, a.outbound) == (b.outbound, b.inbound)
    assert a.selectors == b.selectors.mirrored()
    assert a.offer == b.offer
    return a, b


def run_acquire(kit: Any, **options: Any) -> Any:
    net = kit.pair(**options)
    net.engines[kit.ALICE].acquire(0.0, kit.wish())
    net.run()
    return net


def test_six_and_three_messages(kit: Any) -> None:
    net = run_acquire(kit, key_log=True)
    a, b = established(kit, net)
    assert (a.initiator, a.reference, a.answers, a.previous) == (True, 1, (1,), None)
    assert (b.initiator, b.reference, b.answers, b.previous) == (False, 7, (), None)
    assert a.inbound_spi != a.outbound_spi
    assert len(a.inbound[0].encryption_key) == 24
    assert len(a.inbound[0].authentication_key) == 20
    mains = [net.of(who, MainModeEstablished)[0] for who in (kit.ALICE, kit.BOB)]
    assert mains[0].encryption_key == mains[1].encryption_key
    assert mains[0].encryption_key is not None
    assert (mains[0].initiator_cookie, mains[0].responder_cookie) == (
        mains[1].initiator_cookie,
        mains[1].responder_cookie,
    )
    assert [wire.parse_header(data).exchange for _, _, data in net.wire] == [2] * 6 + [32] * 3
    assert [who for _, who, _ in net.wire] == [kit.ALICE, kit.BOB] * 4 + [kit.ALICE]
    statistics = net.engines[kit.BOB].statistics()
    assert statistics["Oakley main modes"] == statistics["Oakley quick modes"] == 1
    assert statistics["Active quick modes"] == statistics["Active main modes"] == 1
    assert statistics["Retransmissions"] == statistics["Discarded messages"] == 0


def test_keys_stay_out_of_events_and_texts(kit: Any) -> None:
    lines: list[str] = []
    net = run_acquire(kit, trace=lines.append)
    (main,) = net.of(kit.ALICE, MainModeEstablished)
    assert main.encryption_key is None
    a, _ = established(kit, net)
    for secret in (a.inbound[0].encryption_key, kit.KEY):
        assert repr(secret) not in repr(a)
        assert not any(secret.hex() in line for line in lines)
    assert any(line.startswith("Sending: Main Mode") for line in lines)
    assert any(line.startswith("Receive:") for line in lines)


def test_windows_2000_message_one(kit: Any) -> None:
    net = run_acquire(kit)
    data = net.wire[0][2]
    sa, vendor = wire.parse_clear(wire.parse_header(data), data)
    assert vendor == wire.VendorId(WINDOWS_2000_VENDOR_ID)
    assert [attribute.type for attribute in sa.proposals[0].transforms[0].attributes] == [1, 2, 4, 3, 11, 12]
    key, nonce = wire.parse_clear(wire.parse_header(net.wire[2][2]), net.wire[2][2])
    assert len(key.data) == 96
    assert len(nonce.data) == 20


def test_scapy_reads_our_messages(kit: Any) -> None:
    net = run_acquire(kit)
    for _, _, data in net.wire:
        packet = ISAKMP(data)
        header = wire.parse_header(data)
        assert (packet.init_cookie, packet.resp_cookie) == (header.initiator_cookie, header.responder_cookie)
        assert (packet.exch_type, packet.id, packet.length) == (header.exchange, header.message_id, len(data))
        if header.encrypted:
            assert packet.flags == 1
            continue
        layer, kinds = packet.payload, []
        while layer:
            if hasattr(layer, "next_payload"):
                kinds.append(layer)
            layer = layer.payload
        chain = wire.parse_clear(header, data)
        assert len(kinds) == len(chain)
        assert packet.next_payload == chain[0].TYPE
    sa = ISAKMP(net.wire[0][2]).payload
    assert (sa.doi, sa.situation, sa.prop.trans_nb) == (1, 1, 1)
    assert dict(sa.prop.trans.transforms) == {
        "Encryption": "3DES-CBC",
        "Hash": "SHA",
        "GroupDesc": "768MODPgr",
        "Authentication": "PSK",
        "LifeType": "Seconds",
        "LifeDuration": 28800,
    }


@pytest.mark.skipif(shutil.which("tshark") is None, reason="no tshark")
def test_tshark_decrypts_our_conversation(kit: Any, tmp_path: Path) -> None:
    """With the cookie and the key of the event, Wireshark's dissector reads every payload and finds nothing wrong."""
    net = run_acquire(kit, key_log=True)
    net.engines[kit.ALICE].close(net.now)
    net.run(net.now + 1)
    (main,) = net.of(kit.ALICE, MainModeEstablished)
    assert main.encryption_key is not None
    packets = [
        IP(src=who, dst=kit.BOB if who == kit.ALICE else kit.ALICE) / UDP(sport=500, dport=500) / Raw(data)
        for _, who, data in net.wire
    ]
    wrpcap(str(tmp_path / "ike.pcap"), packets, linktype=101)
    table = f"uat:ikev1_decryption_table:{main.initiator_cookie.hex()},{main.encryption_key.hex()}"
    columns = ["-T", "fields", "-e", "isakmp.typepayload", "-e", "_ws.malformed"]
    command = ["tshark", "-r", str(tmp_path / "ike.pcap"), "-o", table, *columns]
    rows = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert [row.rstrip() for row in rows] == [
        *["1,2,3,13"] * 2,
        *["4,10"] * 2,
        "5,8,11",
        "5,8",
        *["8,1,2,3,10,5,5"] * 2,
        "8",
        *["8,12"] * 2,
    ]


SUITES = [
    (EspTransform.TRIPLE_DES, AuthAlgorithm.HMAC_SHA1, 0, (24, 20, 0)),
    (EspTransform.TRIPLE_DES, AuthAlgorithm.HMAC_MD5, 0, (24, 16, 0)),
    (EspTransform.DES, AuthAlgorithm.HMAC_MD5, 0, (8, 16, 0)),
    (EspTransform.NULL, AuthAlgorithm.HMAC_SHA1, 0, (0, 20, 0)),
    (EspTransform.AES_CBC, AuthAlgorithm.HMAC_SHA256, 256, (32, 32, 0)),
    (EspTransform.AES_CBC, AuthAlgorithm.HMAC_SHA384, 192, (24, 48, 0)),
    (EspTransform.AES_CTR, AuthAlgorithm.HMAC_SHA512, 128, (16, 64, 4)),
    (EspTransform.AES_GCM_8, None, 192, (24, 0, 4)),
    (EspTransform.AES_GCM_12, None, 256, (32, 0, 4)),
    (EspTransform.AES_GCM_16, None, 128, (16, 0, 4)),
    (EspTransform.AES_GCM_16, None, 256, (32, 0, 4)),
]


@pytest.mark.parametrize("group", [None, Group.MODP_1024])
@pytest.mark.parametrize("encapsulation", [Encapsulation.TUNNEL, Encapsulation.TRANSPORT])
@pytest.mark.parametrize(("transform", "integrity", "bits", "lengths"), SUITES)
def test_quick_mode_suites(
    kit: Any, transform: Any, integrity: Any, bits: int, lengths: Any, encapsulation: Any, group: Any
) -> None:
    offer = QuickModeOffer(transform, integrity, encapsulation, bits, 900, 0, group)
    rules = [kit.Rules(quick=QuickModePolicy((offer,), 7)) for _ in range(2)]
    net = kit.pair(alice=rules[0], bob=rules[1])
    net.engines[kit.ALICE].acquire(0.0, kit.wish(offers=(offer,)))
    net.run()
    a, _ = established(kit, net)
    assert (len(a.inbound[0].encryption_key), len(a.inbound[0].authentication_key), len(a.inbound[0].salt)) == lengths
    assert (a.offer, a.encapsulation, a.lifetime_seconds, a.lifetime_kilobytes) == (offer, encapsulation, 900, 0)


@pytest.mark.parametrize("encryption", Encryption)
@pytest.mark.parametrize("algorithm", Hash)
@pytest.mark.parametrize("group", Group)
def test_main_mode_suites(kit: Any, encryption: Encryption, algorithm: Hash, group: Group) -> None:
    offer = MainModeOffer(encryption, algorithm, group, key_bits=256 if encryption is Encryption.AES_CBC else 0)
    rules = [kit.Rules(main=MainModePolicy((offer,), kit.KEY)) for _ in range(2)]
    net = run_acquire(kit, alice=rules[0], bob=rules[1])
    established(kit, net)
    assert net.of(kit.BOB, MainModeEstablished)[0].offer == offer


def test_responder_sees_the_mirrored_selectors(kit: Any) -> None:
    offer = replace(kit.ESP_OFFER, encapsulation=Encapsulation.TUNNEL)
    bob = kit.Rules(quick=QuickModePolicy((offer,), 9))
    net = kit.pair(bob=bob)
    traffic = TrafficSelector(IPv4Network("192.168.1.0/24"), IPv4Network("172.16.0.0/12"), 6, 0, 80)
    net.engines[kit.ALICE].acquire(0.0, kit.wish(offers=(offer,), traffic=traffic))
    net.run()
    established(kit, net)
    assert bob.asked == [traffic.mirrored()]


def test_transport_mode_is_for_the_two_peers_only(kit: Any) -> None:
    net = kit.pair()
    net.engines[kit.ALICE].acquire(0.0, kit.wish(traffic=kit.selectors("192.168.1.1", kit.BOB)))
    net.run()
    (failure,) = net.of(kit.ALICE, NegotiationFailed)
    assert (failure.reason, failure.failure_point) == (FailureReason.ID_PAYLOAD, FailurePoint.PEER)


# Failures


@pytest.mark.parametrize("soft", [False, True])
def test_nobody_answers(kit: Any, soft: bool) -> None:
    net = kit.Net()
    engine = net.add(kit.ALICE)
    engine.acquire(0.0, kit.wish(allow_soft=soft))
    net.run()
    times = [time for time, _, _ in net.wire]
    if soft:
        (event,) = net.events[kit.ALICE]
        assert isinstance(event, SoftAssociation)
        assert (event.time, event.answers) == (3.0, (1,))
        assert times == [0, 1]
        assert engine.statistics()["Soft associations"] == 1
    else:
        (event,) = net.events[kit.ALICE]
        assert isinstance(event, NegotiationFailed)
        assert (event.mode, event.reason, event.answers) == (Mode.MAIN, FailureReason.NO_RESPONSE, (1,))
        assert event.reason == 0x32D
        assert times == SCHEDULE
        assert event.time == 64.0
        assert len({data for _, _, data in net.wire}) == 1
    assert engine.next_timer() is None


@pytest.mark.parametrize("lost", range(2, 10))
def test_schedule_of_every_message(kit: Any, lost: int) -> None:
    """Message `lost` and every repetition vanish: its sender keeps to Windows 2000's rhythm, with the same bytes."""
    sent: list[bytes] = []

    def harm(data: bytes) -> list[tuple[float, bytes]]:
        if data in sent:
            return []
        sent.append(data)
        return [(0.0, data)] if len(sent) < lost else []

    net = kit.pair(harm=harm)
    net.engines[kit.ALICE].acquire(0.0, kit.wish())
    net.run(64.0)
    times = [time for time, _, data in net.wire if data == sent[lost - 1]]
    # Message 6 and the third of Quick Mode want no answer: they are sent again only for a repeated question.
    assert times == ([0] if lost in (6, 9) else SCHEDULE)
    if lost == 9:
        assert net.of(kit.ALICE, QuickModeEstablished)
        assert net.of(kit.BOB, NegotiationFailed)[0].reason is FailureReason.TIMED_OUT
        return
    (failure,) = net.of(kit.ALICE, NegotiationFailed)
    assert (failure.time, failure.answers) == (64.0, (1,))
    # To messages 1 and 7 there never was any answer.
    assert failure.reason is (FailureReason.NO_RESPONSE if lost in (2, 7, 8) else FailureReason.TIMED_OUT)


def test_answers_do_not_advance_anything_when_repeated(kit: Any) -> None:
    """Every message arrives three times: nine different messages, one SA pair."""
    net = kit.pair(harm=lambda data: [(0.01, data), (0.02, data), (0.03, data)])
    net.engines[kit.ALICE].acquire(0.0, kit.wish())
    net.run()
    established(kit, net)
    assert len({data for _, _, data in net.wire}) == 9
    assert net.engines[kit.BOB].statistics()["Duplicate messages"] > 0
    assert net.engines[kit.BOB].statistics()["Retransmissions"] == 0


def test_wrong_key(kit: Any) -> None:
    bob = kit.Rules(main=MainModePolicy((kit.MAIN_OFFER,), b"another key"))
    net = run_acquire(kit, bob=bob)
    (at_bob,) = net.events[kit.BOB]
    assert (at_bob.mode, at_bob.reason) == (Mode.MAIN, FailureReason.CREDENTIALS_UNACCEPTABLE)
    assert net.engines[kit.BOB].statistics()["Authentication failures"] == 1
    (at_alice,) = net.events[kit.ALICE]
    assert (at_alice.reason, at_alice.answers, at_alice.selectors) == (
        FailureReason.TIMED_OUT,
        (1,),
        kit.selectors(),
    )
    assert net.engines[kit.ALICE].next_timer() is net.engines[kit.BOB].next_timer() is None


def test_no_common_main_mode_offer(kit: Any) -> None:
    offer = replace(kit.MAIN_OFFER, hash=Hash.MD5)
    net = run_acquire(kit, bob=kit.Rules(main=MainModePolicy((offer,), kit.KEY)))
    (at_bob,), (at_alice,) = net.events[kit.BOB], net.events[kit.ALICE]
    assert at_bob.details == ProposalMismatch("Phase I Hash Algorithm", "MD5", "SHA1")
    assert (at_bob.reason, at_bob.failure_point) == (FailureReason.ATTRIBUTES_UNACCEPTABLE, FailurePoint.ME)
    assert (at_alice.reason, at_alice.failure_point) == (FailureReason.ATTRIBUTES_UNACCEPTABLE, FailurePoint.PEER)
    assert at_alice.answers == (1,)
    assert len(net.wire) == 2
    assert len(net.wire[1][2]) <= len(net.wire[0][2])
    header = wire.parse_header(net.wire[1][2])
    (notify,) = wire.parse_clear(header, net.wire[1][2])
    assert notify.notify == 14
    assert any(header.responder_cookie)


def test_no_common_quick_mode_offer(kit: Any) -> None:
    offer = replace(kit.ESP_OFFER, pfs_group=Group.MODP_1024)
    net = run_acquire(kit, bob=kit.Rules(quick=QuickModePolicy((offer,), 7)))
    (at_bob,), (at_alice,) = net.of(kit.BOB, NegotiationFailed), net.of(kit.ALICE, NegotiationFailed)
    assert at_bob.mode is at_alice.mode is Mode.QUICK
    assert at_bob.details == ProposalMismatch("Phase II DH group", "MODP_1024", "None")
    assert (at_alice.reason, at_alice.failure_point, at_alice.answers) == (
        FailureReason.ATTRIBUTES_UNACCEPTABLE,
        FailurePoint.PEER,
        (1,),
    )
    assert at_alice.time < 1
    assert at_alice.inbound_spi is not None
    assert at_bob.inbound_spi is None


def test_lost_refusal_is_repeated(kit: Any) -> None:
    refusals: list[bytes] = []

    def harm(data: bytes) -> list[tuple[float, bytes]]:
        if wire.parse_header(data).exchange == 5:
            refusals.append(data)
            return [(0.0, data)] if len(refusals) > 2 else []
        return [(0.0, data)]

    net = run_acquire(kit, harm=harm, bob=kit.Rules(quick=None))
    assert len(refusals) == 3
    assert len(set(refusals)) == 1
    (failure,) = net.of(kit.ALICE, NegotiationFailed)
    assert (failure.time, failure.reason) == (3.0, FailureReason.ID_PAYLOAD)
    assert net.of(kit.BOB, NegotiationFailed)[0].reason is FailureReason.NO_POLICY


@pytest.mark.parametrize("side", ["alice", "bob"])
def test_no_policy(kit: Any, side: str) -> None:
    net = run_acquire(kit, **{side: kit.Rules(main=None)})
    (at_alice,) = net.events[kit.ALICE]
    assert at_alice.answers == (1,)
    assert at_alice.time < 1
    if side == "alice":
        assert (at_alice.reason, net.wire) == (FailureReason.NO_POLICY, [])
    else:
        assert net.events[kit.BOB][0].reason is FailureReason.NO_POLICY


def test_callers_mistakes_raise(kit: Any) -> None:
    pfs = replace(kit.ESP_OFFER, pfs_group=Group.MODP_768)
    with pytest.raises(NegotiationError, match="share one group"):
        kit.wish(offers=(kit.ESP_OFFER, pfs))
    with pytest.raises(NegotiationError, match="at least one offer"):
        kit.wish(offers=())
    with pytest.raises(NegotiationError, match="preshared_key"):
        MainModePolicy((kit.MAIN_OFFER,), b"")
    with pytest.raises(NegotiationError, match=r"MainModePolicy\.offers"):
        MainModePolicy((), b"key")
    with pytest.raises(NegotiationError, match="'nowhere' is not an IPv4 address"):
        kit.Net().add(kit.ALICE).acquire(0.0, replace(kit.wish(), remote="nowhere"))
    net = kit.pair()
    net.engines[kit.ALICE] = IkeEngine(kit.ALICE, kit.Rules(), random=Random(1).randbytes, allocate_spi=lambda: 255)
    net.engines[kit.ALICE].acquire(0.0, kit.wish())
    with pytest.raises(NegotiationError, match=r"allocate_spi: 0xff .* 256\.\."):
        net.run()


# Several wishes


def test_wishes_for_the_same_traffic_merge(kit: Any) -> None:
    net = kit.pair()
    for reference in (1, 2, 3):
        net.engines[kit.ALICE].acquire(0.0, kit.wish(reference=reference))
    net.run()
    a, _ = established(kit, net)
    assert a.answers == (1, 2, 3)


def test_one_main_mode_serves_many_quick_modes(kit: Any) -> None:
    net = kit.pair()
    for port in range(1, 9):
        net.engines[kit.ALICE].acquire(
            0.0, kit.wish(reference=port, traffic=kit.selectors(protocol=6, source_port=port))
        )
    net.run(1.0)
    net.engines[kit.BOB].acquire(1.0, kit.wish(kit.ALICE, reference=99))
    net.run()
    assert sorted(a for event in net.of(kit.ALICE, QuickModeEstablished) for a in event.answers) == list(range(1, 9))
    assert len(net.of(kit.ALICE, MainModeEstablished)) == 1
    assert net.of(kit.BOB, QuickModeEstablished)[-1].answers == (99,)
    assert len({event.inbound_spi for event in net.of(kit.ALICE, QuickModeEstablished)}) == 9


def test_master_key_pfs_takes_a_main_mode_each(kit: Any) -> None:
    net = kit.pair(alice=kit.Rules(main=MainModePolicy((kit.MAIN_OFFER,), kit.KEY, quick_modes_limit=1)))
    for port in (1, 2, 3):
        net.engines[kit.ALICE].acquire(
            0.0, kit.wish(reference=port, traffic=kit.selectors(protocol=6, source_port=port))
        )
    net.run()
    assert len(net.of(kit.ALICE, QuickModeEstablished)) == len(net.of(kit.ALICE, MainModeEstablished)) == 3


def test_acquire_joins_the_quick_mode_of_the_peer(kit: Any) -> None:
    net = kit.pair()
    net.engines[kit.ALICE].acquire(0.0, kit.wish())
    net.run(0.085)
    assert len(net.wire) == 9, "message 3 is on the way"
    traffic = kit.selectors(kit.BOB, kit.ALICE, protocol=6)
    net.engines[kit.BOB].acquire(0.085, kit.wish(kit.ALICE, reference=5, traffic=traffic))
    net.run()
    a, b = established(kit, net)
    assert (a.answers, b.answers) == ((1,), (5,))
    assert b.reference == 7
    assert len(net.wire) == 9


def test_acquire_outlives_the_quick_mode_that_it_joined(kit: Any) -> None:
    """Message 3 never arrives: the acquire that had joined gets a Quick Mode of its own."""
    blocked: list[bytes] = []

    def harm(data: bytes) -> list[tuple[float, bytes]]:
        if not blocked and len(net.wire) == 9:
            blocked.append(data)
        return [] if data in blocked else [(0.01, data)]

    net = kit.pair(harm=harm)
    net.engines[kit.ALICE].acquire(0.0, kit.wish())
    net.run(0.085)
    net.engines[kit.BOB].acquire(0.085, kit.wish(kit.ALICE, reference=5))
    net.run()
    assert net.of(kit.BOB, NegotiationFailed)[0].answers == ()
    assert net.of(kit.BOB, QuickModeEstablished)[0].answers == (5,)


def test_both_ends_start_at_once(kit: Any) -> None:
    net = kit.pair()
    net.engines[kit.ALICE].acquire(0.0, kit.wish())
    net.engines[kit.BOB].acquire(0.0, kit.wish(kit.ALICE, reference=2))
    net.run()
    for who, reference in ((kit.ALICE, 1), (kit.BOB, 2)):
        answers = [answer for event in net.of(who, QuickModeEstablished) for answer in event.answers]
        assert answers == [reference]
        assert not net.of(who, NegotiationFailed)
        assert not net.of(who, ChildDeleted)
        assert len(net.of(who, MainModeDeleted)) == 1, "one is enough"
        assert net.engines[who].statistics()["Active main modes"] == 1
    pairs = [{(e.inbound_spi, e.outbound_spi) for e in net.of(kit.ALICE, QuickModeEstablished)}]
    pairs.append({(e.outbound_spi, e.inbound_spi) for e in net.of(kit.BOB, QuickModeEstablished)})
    assert pairs[0] == pairs[1]


# Life and death of SAs


def test_rekey(kit: Any) -> None:
    net = run_acquire(kit)
    first, first_bob = established(kit, net)
    net.engines[kit.ALICE].acquire(net.now, kit.wish(reference=2))
    net.run(net.now + 10)
    second, second_bob = net.of(kit.ALICE, QuickModeEstablished)[1], net.of(kit.BOB, QuickModeEstablished)[1]
    assert (second.previous, second_bob.previous) == (first.inbound_spi, first_bob.inbound_spi)
    assert second.inbound_spi != first.inbound_spi
    assert second.inbound[0].encryption_key != first.inbound[0].encryption_key
    assert len(net.of(kit.ALICE, MainModeEstablished)) == 1
    net.engines[kit.ALICE].delete_child(net.now, first.inbound_spi)
    net.run(net.now + 10)
    (gone,) = net.of(kit.BOB, ChildDeleted)
    assert (gone.inbound_spi, gone.outbound_spi) == (first_bob.inbound_spi, first.inbound_spi)
    assert gone.deleted_by is FailurePoint.PEER
    assert net.of(kit.ALICE, ChildDeleted)[0].deleted_by is FailurePoint.ME
    # The next one replaces the second, not the dead first.
    net.engines[kit.BOB].acquire(net.now, kit.wish(kit.ALICE))
    net.run(net.now + 10)
    assert net.of(kit.ALICE, QuickModeEstablished)[2].previous == second.inbound_spi


def test_delete_of_an_unknown_spi_is_no_error(kit: Any) -> None:
    net = run_acquire(kit)
    before = len(net.wire)
    net.engines[kit.ALICE].delete_child(net.now, 0x12345)
    net.run(net.now + 1)
    assert len(net.wire) == before


def test_main_mode_expires(kit: Any) -> None:
    policy = MainModePolicy((replace(kit.MAIN_OFFER, lifetime_seconds=100),), kit.KEY)
    net = run_acquire(kit, bob=kit.Rules(main=policy))
    (main,) = net.of(kit.BOB, MainModeEstablished)
    (gone,) = net.of(kit.BOB, MainModeDeleted)
    assert main.lifetime_seconds == 100
    assert gone.time == main.time + 100
    assert gone.deleted_by is FailurePoint.ME
    (told,) = net.of(kit.ALICE, MainModeDeleted)
    assert told.deleted_by is FailurePoint.PEER
    assert not net.of(kit.ALICE, ChildDeleted), "the Quick Mode SAs live on"
    net.engines[kit.ALICE].acquire(net.now, kit.wish(reference=2))
    net.run(net.now + 10)
    assert len(net.of(kit.ALICE, MainModeEstablished)) == 2
    assert len(net.of(kit.ALICE, QuickModeEstablished)) == 2


@pytest.mark.parametrize("bobs", [5, 4])
def test_main_mode_expires_under_a_quick_mode(kit: Any, bobs: int) -> None:
    """The acquire does not get lost, whoever ends the Main Mode: the next one carries it."""
    policies = [MainModePolicy((replace(kit.MAIN_OFFER, lifetime_seconds=s),), kit.KEY) for s in (5, bobs)]
    rules = [kit.Rules(main=policy) for policy in policies]
    net = kit.pair(alice=rules[0], bob=rules[1])
    net.harm = lambda data: [(0.01, data)] if wire.parse_header(data).exchange == 2 or net.now > bobs else []
    net.engines[kit.ALICE].acquire(0.0, kit.wish())
    net.run(bobs + 4.0)
    (event,) = net.of(kit.ALICE, QuickModeEstablished)
    assert event.answers == (1,)
    assert bobs < event.time < bobs + 1
    assert all(failure.answers == () for failure in net.of(kit.ALICE, NegotiationFailed))


def test_close(kit: Any) -> None:
    net = run_acquire(kit)
    alice = net.engines[kit.ALICE]
    alice.acquire(net.now, kit.wish(reference=3))
    alice.acquire(net.now, kit.wish("10.0.0.3", reference=4, traffic=kit.selectors(kit.ALICE, "10.0.0.3")))
    alice.close(net.now)
    assert alice.next_timer() is None
    net.run(net.now + 1)
    answered = [a for event in net.of(kit.ALICE, NegotiationFailed) for a in event.answers]
    assert sorted(answered) == [3, 4]
    for who in (kit.ALICE, kit.BOB):
        assert len(net.of(who, ChildDeleted)) == len(net.of(who, MainModeDeleted)) == 1
        assert net.engines[who].statistics()["Active main modes"] == 0
    alice.acquire(net.now, kit.wish(reference=5))
    net.run(net.now + 10)
    assert net.of(kit.ALICE, QuickModeEstablished)[-1].answers == (5,)


def test_restarted_peer_makes_contact_anew(kit: Any) -> None:
    """INITIAL-CONTACT in message 5: Bob drops what the Alice of before had."""
    net = run_acquire(kit)
    _, old = established(kit, net)
    net.add(kit.ALICE)
    net.engines[kit.ALICE].acquire(net.now, kit.wish(reference=2))
    net.run(net.now + 10)
    assert [event.inbound_spi for event in net.of(kit.BOB, ChildDeleted)] == [old.inbound_spi]
    assert len(net.of(kit.BOB, MainModeDeleted)) == 1
    assert net.engines[kit.BOB].statistics()["Active quick modes"] == 1


def test_peer_that_lost_the_main_mode_is_found_out(kit: Any) -> None:
    net = run_acquire(kit)
    net.add(kit.BOB)
    alice = net.engines[kit.ALICE]
    alice.acquire(net.now, kit.wish(reference=2))
    net.run(net.now + 70)
    (failure,) = net.of(kit.ALICE, NegotiationFailed)
    assert (failure.reason, failure.answers) == (FailureReason.NO_RESPONSE, (2,))
    alice.acquire(net.now, kit.wish(reference=3))
    net.run(net.now + 10)
    assert net.of(kit.ALICE, QuickModeEstablished)[-1].answers == (3,)


# A bad wire


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 1 << 32), st.floats(0, 0.6), st.floats(0, 0.4), st.booleans())
def test_loss_duplication_reordering(kit: Any, seed: int, loss: float, repeat: float, both: bool) -> None:
    random = Random(seed)

    def harm(data: bytes) -> list[tuple[float, bytes]]:
        copies = [data] * (random.random() >= loss) + [data] * (random.random() < repeat)
        return [(random.uniform(0.001, 3.0), copy) for copy in copies]

    net = kit.pair(seed, harm)
    net.engines[kit.ALICE].acquire(0.0, kit.wish())
    if both:
        net.engines[kit.BOB].acquire(random.uniform(0, 2), kit.wish(kit.ALICE, reference=2))
    net.run(500.0)
    for who, reference in ((kit.ALICE, 1), (kit.BOB, 2))[: 2 if both else 1]:
        events = net.of(who, QuickModeEstablished) + net.of(who, NegotiationFailed)
        assert [answer for event in events for answer in event.answers] == [reference]
    # A pair that both ends have is the same at both ends.
    at_bob = {event.outbound_spi: event for event in net.of(kit.BOB, QuickModeEstablished)}
    for event in net.of(kit.ALICE, QuickModeEstablished):
        if other := at_bob.get(event.inbound_spi):
            assert (event.inbound, event.outbound) == (other.outbound, other.inbound)
            assert event.selectors == other.selectors.mirrored()
    for engine in net.engines.values():
        assert engine.statistics()["Unverified messages"] == 0


def test_a_wire_that_only_reorders_loses_nothing(kit: Any) -> None:
    for seed in range(20):
        random = Random(seed)
        net = kit.pair(seed, lambda data, random=random: [(random.uniform(0, 1.5), data)])
        net.engines[kit.ALICE].acquire(0.0, kit.wish())
        net.engines[kit.BOB].acquire(0.0, kit.wish(kit.ALICE, reference=2))
        net.run(500.0)
        for who in (kit.ALICE, kit.BOB):
            assert not net.of(who, NegotiationFailed)
            assert len(net.of(who, QuickModeEstablished)) == 2


def test_same_source_same_bytes(kit: Any) -> None:
    runs = []
    for _ in range(2):
        net = kit.pair(5, lambda data: [(0.01, data)] if data[-1] % 3 else [])
        net.engines[kit.ALICE].acquire(0.0, kit.wish())
        net.run(500.0)
        runs.append((net.wire, net.events))
    assert runs[0] == runs[1]
    other = kit.pair(6)
    other.engines[kit.ALICE].acquire(0.0, kit.wish())
    other.run()
    assert other.wire[0][2] != runs[0][0][0][2]


def test_acquire_is_a_value(kit: Any) -> None:
    assert Acquire(kit.BOB, kit.selectors(), (kit.ESP_OFFER,), 1) == kit.wish()
