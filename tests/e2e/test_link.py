"""The link of the main job: what crosses it, when, and what scapy finds inside with the exported keys."""

from __future__ import annotations

from itertools import pairwise

import pytest
from link_oracles import (
    ALICE,
    COMPUTERS,
    ETHERNET_HEADER,
    ETHERTYPE_ARP,
    ETHERTYPE_IPV4,
    IP,
    IP_HEADER,
    PROTO_ESP,
    PROTO_UDP,
    Lab,
    checksum,
    in4_chksum,
    office,
    replayed,
    scheduled,
    wire_ns,
)

IKE = 500
MTU = 1500
DELAY, REACTION = 5_000, 1_000_000
GAP = 12 * 8
PAUSE = 1_000_000


def is_ike(packet: bytes) -> bool:
    ports = packet[IP_HEADER : IP_HEADER + 4]
    return packet[9] == PROTO_UDP and ports == IKE.to_bytes(2) * 2


@pytest.mark.parametrize("sender", COMPUTERS.values(), ids=COMPUTERS)
def test_the_capture_is_inside(lab: Lab, sender: str) -> None:
    assert lab.opened_by_scapy(sender) == [each.data for each in replayed(sender, lab.tunnel)]


def test_every_packet_was_sent_and_delivered(lab: Lab) -> None:
    """ARP counts as a packet, a datagram that a computer sends in its own name counts once."""
    arp = sum(frame.ethertype == ETHERTYPE_ARP for frame in office())
    packets = sum(len(replayed(sender, lab.tunnel)) for sender in COMPUTERS.values()) + arp
    assert lab.result["traffic"]["packets"] == packets
    assert lab.result["traffic"]["delivered"] == packets
    assert sum(frame.ethertype == ETHERTYPE_ARP for frame in lab.frames) == arp
    traffic = {COMPUTERS[name]: computer["traffic"] for name, computer in lab.result["computers"].items()}
    for sender, frames in lab.directions():
        own_arp = sum(frame.ethertype == ETHERTYPE_ARP for frame in frames)
        (receiver,) = traffic.keys() - {sender}
        assert traffic[sender]["packets_sent"] == len(replayed(sender, lab.tunnel)) + own_arp
        assert traffic[receiver]["packets_delivered"] == traffic[sender]["packets_sent"]
        assert traffic[sender]["packets_too_big"] == traffic[sender]["fragments_refused"] == 0
    assert lab.result["notes"] == []


def test_nothing_is_in_the_clear(lab: Lab) -> None:
    for frame in lab.frames:
        if frame.ethertype != ETHERTYPE_ARP:
            assert frame.ethertype == ETHERTYPE_IPV4
            assert frame.protocol == PROTO_ESP or is_ike(frame.packet)
            assert frame.source in COMPUTERS.values()


def test_no_text_of_the_capture_is_on_the_wire(lab: Lab) -> None:
    recorded = b"".join(frame.data for frame in office())
    wire = b"".join(frame.data for frame in lab.frames)
    for text in (b"the office opens", b"HTTP/1.1 200 OK", b"\x06office"):
        assert text in recorded
        assert text not in wire


def test_checksums_on_the_wire_are_right(lab: Lab) -> None:
    for frame in lab.frames:
        if frame.ethertype == ETHERTYPE_IPV4:
            header, payload = frame.packet[:IP_HEADER], frame.packet[IP_HEADER:]
            assert checksum(header) == 0
            assert frame.protocol == PROTO_ESP or in4_chksum(PROTO_UDP, IP(header), payload) == 0


def test_no_frame_is_longer_than_the_mtu(lab: Lab) -> None:
    assert max(len(frame.data) for frame in lab.frames) <= ETHERNET_HEADER + MTU


def test_the_capture_is_ordered(lab: Lab) -> None:
    starts = [frame.start for frame in lab.frames]
    assert starts == sorted(starts)


def test_frames_of_one_direction_never_overlap(lab: Lab) -> None:
    for _, frames in lab.directions():
        for before, after in pairwise(frames):
            assert after.start >= before.start + wire_ns(len(before.data))


def test_frames_and_wire_bytes_are_counted(lab: Lab) -> None:
    names = {address: name for name, address in COMPUTERS.items()}
    for sender, frames in lab.directions():
        (key,) = [key for key in lab.result["link"]["directions"] if key.startswith(f"{names[sender]} to ")]
        counted = lab.result["link"]["directions"][key]
        assert counted["frames"] == len(frames)
        assert counted["bytes"] == sum(len(frame.data) for frame in frames)
        assert counted["wire_bytes"] == sum(wire_ns(len(frame.data)) for frame in frames) // 8
        assert counted["busy_ns"] == sum(wire_ns(len(frame.data)) for frame in frames)


def test_a_packet_leaves_as_soon_as_the_link_is_free(lab: Lab) -> None:
    """When it is due or behind the frame before it; the first packet waits for the negotiation."""
    for sender, frames in lab.directions():
        free = {after.start: before.start + wire_ns(len(before.data)) for before, after in pairwise(frames)}
        protected, due = lab.esp(sender), scheduled(lab.tunnel)[sender]
        held = sender == ALICE
        for on_wire, time in list(zip(protected, due, strict=True))[held:]:
            assert on_wire.first == max(time, free[on_wire.first])


def test_no_answer_overtakes_what_it_answers(lab: Lab) -> None:
    """The order of the capture is the order on the link, although the recorded hosts were faster than the link."""
    on_wire = {sender: iter(lab.esp(sender)) for sender in COMPUTERS.values()}
    merged = sorted((x.last, sender) for sender in COMPUTERS.values() for x in replayed(sender, lab.tunnel))
    starts = [next(on_wire[sender]).first for _, sender in merged]
    assert starts[1:] == sorted(starts[1:])


def test_the_negotiation_answers_each_message_after_the_reaction(lab: Lab) -> None:
    first, *others = ike = [f for f in lab.frames if f.ethertype == ETHERTYPE_IPV4 and is_ike(f.packet)]
    assert first.start == replayed(ALICE, lab.tunnel)[0].first + REACTION
    for question, answer in zip(ike, others, strict=False):
        assert answer.start == question.start + wire_ns(len(question.data)) - GAP + DELAY + REACTION
    # The packet that caused it follows the last message at once: her own, or CONNECTED after she has thought about it.
    after = wire_ns(len(ike[-1].data)) + (0 if lab.modern else DELAY + REACTION - GAP)
    assert lab.esp(ALICE)[0].first == ike[-1].start + after


def test_repeated_twice_the_second_time_follows_after_the_pause(twice: Lab) -> None:
    for sender in COMPUTERS.values():
        packets = replayed(sender, False)
        assert twice.opened_by_scapy(sender) == [packet.data for packet in packets] * 2
        again = twice.esp(sender)[len(packets)]
        period = max(times[-1] for times in scheduled(False).values()) + PAUSE
        assert again.first == period + scheduled(False)[sender][0]
    once = sum(len(replayed(sender, False)) for sender in COMPUTERS.values())
    arp = sum(frame.ethertype == ETHERTYPE_ARP for frame in office())
    assert twice.result["traffic"]["packets"] == twice.result["traffic"]["delivered"] == 2 * (once + arp)
