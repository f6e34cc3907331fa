"""The queue of control events: by time, then by entry. Timers alone keep no world running."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from random import Random

import pytest
from sim_kit import HOST_A, HOST_B, A, B, ethernet, sized, write_pcap

from ipsec_core import Driver
from ipsec_core.computer import udp
from ipsec_core.errors import IpsecError
from ipsec_core.sim._world import NEVER, Trace, VirtualTime

END = 10**9
REACTION = 1_000_000
DELAY = 4_321


def bare() -> VirtualTime:
    time = VirtualTime(REACTION)
    for address in (A, B):
        time.add_node(Driver(), IPv4Address(address), b"\x02\0" + IPv4Address(address).packed)
    time.add_link(0, 1, 10**9, DELAY, 1500, 0)
    return time


@pytest.fixture
def time(tmp_path: Path) -> VirtualTime:
    """A world whose second frame leaves at END."""
    time = bare()
    trace = Trace(write_pcap(tmp_path / "t.pcap", [(0, ethernet(sized(60))), (END, ethernet(sized(60)))]))
    trace.map([(IPv4Network(HOST_A), 0, IPv4Address(A)), (IPv4Network(HOST_B), 1, IPv4Address(B))], True)
    time.set_trace(trace, 1, 0, False)
    return time


def events(time: VirtualTime, until: int = NEVER) -> list[tuple[int, ...]]:
    found = []
    while (event := time.run(until, 1000))[0] not in ("idle", "until"):
        if event[0] == "timer":
            found.append((time.now, event[1], event[2]))
    return found


def test_random_timers_come_in_order(time: VirtualTime) -> None:
    random = Random(4)
    # Few different times, so that most timers share theirs with others.
    entered = [(random.randrange(0, END, END // 997), random.randrange(2), token) for token in range(10_000)]
    for timer in entered:
        time.timer(*timer)
    assert events(time) == sorted(entered, key=lambda timer: timer[0])


def test_timers_entered_on_the_way(time: VirtualTime) -> None:
    """A queue that grows and shrinks gives what a sorted list gives."""
    random = Random(5)
    waiting: list[tuple[int, int, int]] = []
    token = 0

    def enter(count: int) -> None:
        nonlocal token
        for _ in range(count):
            timer = (min(time.now + random.randrange(0, 50_000), END - 1), random.randrange(2), token)
            time.timer(*timer)
            waiting.append(timer)
            token += 1

    enter(50)
    while waiting:
        event = time.run(NEVER, 1000)
        if event[0] == "yield":
            continue
        expected = min(waiting, key=lambda timer: (timer[0], timer[2]))
        assert (time.now, *event[1:]) == expected
        waiting.remove(expected)
        enter(random.randrange(3) if token < 5000 else 0)
    assert token >= 5000


def test_the_past_is_now(time: VirtualTime) -> None:
    time.timer(500, 0, 1)
    assert time.run(NEVER, 1000) == ("timer", 0, 1)
    time.timer(100, 1, 2)
    assert time.run(NEVER, 1000) == ("timer", 1, 2)
    assert time.now == 500


def test_until_comes_before_a_later_timer(time: VirtualTime) -> None:
    time.timer(5000, 0, 1)
    assert time.run(4999, 100) == ("until",)
    assert time.now == 4999
    assert time.run(5000, 100) == ("timer", 0, 1)


def test_timers_alone_do_not_keep_a_world_running() -> None:
    time = bare()
    time.timer(5, 0, 1)
    assert time.run(NEVER, 1) == ("idle",)


@pytest.mark.parametrize("length", [1, 100, 1000])
def test_a_datagram_arrives_with_its_last_bit(length: int) -> None:
    """Serialisation of preamble, frame and FCS, then propagation, then the reaction of ISAKMP/Oakley."""
    time = bare()
    packet = udp.build(IPv4Address(A), IPv4Address(B), 500, 500, bytes(length), 1)
    time.send(0, packet)
    assert time.run(NEVER, 1) == ("datagram", 1, packet)
    on_wire = 8 + max(14 + 28 + length, 60) + 4
    assert time.now == on_wire * 8 + DELAY + REACTION


def test_both_directions_at_once() -> None:
    """Full duplex: two frames that start together arrive together."""
    time = bare()
    packets = [udp.build(IPv4Address(x), IPv4Address(y), 500, 500, bytes(1000), 1) for x, y in ((A, B), (B, A))]
    for number, packet in enumerate(packets):
        time.send(number, packet)
        time.send(number, packet)
    arrivals = []
    for _ in range(4):
        event = time.run(NEVER, 1)
        assert event[0] == "datagram"
        arrivals.append((time.now, event[1]))
    first, second = (8 + 1042 + 4) * 8, (8 + 1042 + 4 + 12 + 8 + 1042 + 4) * 8
    assert [at - DELAY - REACTION for at, _ in arrivals] == [first, first, second, second]
    assert sorted(node for _, node in arrivals) == [0, 0, 1, 1]


@pytest.mark.parametrize(
    "call",
    [
        lambda time: VirtualTime(0),
        lambda time: VirtualTime(1, 257),
        lambda time: VirtualTime(1, 0, 65536),
        lambda time: time.add_node(Driver(), IPv4Address(A), b"12345"),
        lambda time: time.add_link(0, 1, 10**9, 0, 1500, 0),
        lambda time: time.add_link(0, 2, 10**9, 0, 1500, 0),
        lambda time: time.send(2, sized(60)),
        lambda time: time.send(0, bytes(4000)),
        lambda time: time.node_counters(2),
        lambda time: time.link_counters(0, 2),
        lambda time: time.link_counters(1, 0),
        lambda time: time.link_counters(0, -1),
        lambda time: time.stop_capture(1),
    ],
)
def test_wrong_calls_are_refused(call: object) -> None:
    with pytest.raises(IpsecError) as raised:
        call(bare())  # type: ignore[operator]
    assert str(raised.value).isprintable()
