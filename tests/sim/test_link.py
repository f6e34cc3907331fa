"""The Ethernet of the world, bit by bit, against IEEE 802.3 arithmetic in fractions. No computer has a policy here."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest
from sim_kit import DONT_FRAGMENT, MAC_A, Lab, Stamped, ethernet, policy, schedule, sized, starts, wire_bytes

from ipsec_core.errors import ScenarioError

Make = Callable[..., Lab]
SECOND = 10**9
LINK_PACE = {"as_fast_as_possible": True}


@pytest.mark.parametrize(
    ("frame", "rate", "delivered", "until"),
    [
        (64, "1Gbit/s", 1_488_095, 1.0),
        (1518, "1Gbit/s", 81_274, 1.0),
        (64, "10Gbit/s", 1_488_095, 0.1),  # 14,880,952 a second
        (1518, "10Gbit/s", 812_743, 1.0),
        (64, "2.5Gbit/s", 372_023, 0.1),
        (1518, "2.5Gbit/s", 203_185, 1.0),
        (64, "100Mbit/s", 148_809, 1.0),
        (64, "10Mbit/s", 14_881, 1.0),  # 14,880.95: the gap after the last one is still to come
        (1518, "10Mbit/s", 812, 1.0),
    ],
)
def test_line_rate(lab: Make, frame: int, rate: str, delivered: int, until: float) -> None:
    """The well-known frame rates: the link is saturated, and not a frame more than it carries gets through."""
    packet = ethernet(sized(max(frame - 18, 21)))
    made = lab([(0, packet)], link={"rate": rate, "delay": "0s"}, replay={"repeat": 2_000_000, **LINK_PACE})
    made.run(until, capture=False)
    assert made.node(1)["packets_delivered"] == delivered


def both_ways(seed: int, count: int, spread: int) -> list[Stamped]:
    random = Random(seed)
    frames, at = [], 0
    for _ in range(count):
        back = random.random() < 0.4
        frames.append((at, ethernet(sized(random.choice([21, 46, 64, 300, 1000, 1500]), back=back), back=back)))
        at += random.choice([0, 0, random.randrange(spread)])
    return frames


def split(stamped: list[Stamped]) -> list[list[Stamped]]:
    """By direction: the destination is BOB's MAC address, or ALICE's."""
    return [[frame for frame in stamped if frame[1][5] == last] for last in (2, 1)]


RATES = [
    ("7Mbit/s", 7 * 10**6),
    ("10Mbit/s", 10**7),
    ("1Gbit/s", 10**9),
    ("2.5Gbit/s", 25 * 10**8),
    ("10Gbit/s", 10**10),
    ("40Gbit/s", 4 * 10**10),
]


@pytest.mark.parametrize(("text", "rate"), RATES)
@pytest.mark.parametrize("pace", ["recorded", "link"])
def test_stamps_to_the_nanosecond(lab: Make, text: str, rate: int, pace: str) -> None:
    """Every frame's first bit, in both directions apart: full duplex, no rate drifts."""
    # Half of the time the link is busy and half of it idle.
    frames = both_ways(rate, 3000, 2 * 600 * 8 * SECOND // rate)
    made = lab(frames, link={"rate": text, "delay": "3us"}, replay={"as_fast_as_possible": pace == "link"})
    got = split(made.run())
    back = [frame[5] == MAC_A[5] for _, frame in frames]
    times = schedule(((at, back[i], len(frame)) for i, (at, frame) in enumerate(frames)), rate)
    assert times[-1] > frames[-1][0]
    for direction in (0, 1):
        sent = [(at, frame) for at, (_, frame), reply in zip(times, frames, back, strict=True) if reply == direction]
        wanted = [(0 if pace == "link" else at, len(frame)) for at, frame in sent]
        assert [len(frame) for _, frame in got[direction]] == [len(frame) for _, frame in sent]
        assert [at for at, _ in got[direction]] == starts(wanted, rate)
        counters = made.direction(direction)
        assert counters["frames"] == len(sent)
        assert counters["bytes"] == sum(len(frame) for _, frame in sent)
        assert counters["wire_bytes"] == sum(wire_bytes(len(frame)) for _, frame in sent)
        # Each idle time begins and ends at a whole nanosecond: at most one is cut off for it.
        assert abs(counters["busy_ns"] - counters["wire_bytes"] * 8 * SECOND / rate) <= len(sent)


def test_capture_is_in_order_of_time(lab: Make) -> None:
    stamps = [at for at, _ in lab(both_ways(3, 2000, 5000), link={"rate": "100Mbit/s"}).run()]
    assert len(stamps) == 2000
    assert stamps == sorted(stamps)


@pytest.mark.parametrize(("delay", "ns"), [("0s", 0), ("5us", 5000), ("1ms", 10**6), ("250ms", 250 * 10**6)])
def test_propagation_delay(lab: Make, delay: str, ns: int) -> None:
    """A packet is there when its last bit is, and not a nanosecond sooner."""
    arrival = (8 + 114 + 4) * 8 + ns
    for until, delivered in ((arrival - 1, 0), (arrival, 1)):
        made = lab([(0, ethernet(sized(100)))], link={"delay": delay})
        made.run(until / 1e9, capture=False)
        assert made.node(1)["packets_delivered"] == delivered


@pytest.mark.parametrize(("repeat", "pause", "ns"), [(1, "5s", 0), (3, "0s", 0), (4, "7us", 7000), (3, "1ms", 10**6)])
def test_repeat_and_pause(lab: Make, repeat: int, pause: str, ns: int) -> None:
    """A cycle begins `pause` after the stamp of the last frame of the one before."""
    frames = [(at, ethernet(sized(length))) for at, length in ((0, 60), (10_000, 1500), (10_001, 90), (500_000, 700))]
    got = lab(frames, replay={"repeat": repeat, "pause": pause}).run()
    times = schedule(((at, 0, len(frame)) for at, frame in frames), SECOND)
    period = times[-1] + ns
    wanted = [
        (at + cycle * period, len(frame))
        for cycle in range(repeat)
        for at, (_, frame) in zip(times, frames, strict=True)
    ]
    assert [at for at, _ in got] == starts(wanted, SECOND)
    assert len(got) == 4 * repeat


def test_progress_counts_repeats(lab: Make) -> None:
    made = lab([(0, ethernet(sized(60))), (5, ethernet(sized(60)))], replay={"repeat": 7})
    made.run()
    assert made.world.time.progress() == (14, 14)


@pytest.mark.parametrize("tags", [[(0x8100, 0x2005)], [(0x88A8, 0x0064), (0x8100, 0xE00A)], []])
def test_tags_stay(lab: Make, tags: list[tuple[int, int]]) -> None:
    """802.1Q and 802.1ad: the whole tag; the addresses are the computers'."""
    ((_, frame),) = lab([(0, ethernet(sized(100), tags=tags))]).run()
    macs = b"\x02\x00\x0a\x00\x00\x02" + b"\x02\x00\x0a\x00\x00\x01"
    expected = ethernet(b"", tags=tags)[12:]
    assert frame[: 12 + len(expected)] == macs + expected
    assert len(frame) == 12 + len(expected) + 100


def test_tagged_frames_are_protected_and_keep_tags(lab: Make) -> None:
    frames = [(n * 50_000_000, ethernet(sized(100), tags=[(0x8100, 5)])) for n in range(4)]
    made = lab(frames, policy(), policy())
    protected = [frame for _, frame in made.run() if frame[12:14] == b"\x81\x00"]
    # The first one waited for the negotiation, and the driver keeps packets, not frames.
    assert len(protected) == 3
    assert {frame[14:18] for frame in protected} == {b"\x00\x05\x08\x00"}
    assert {frame[18 + 9] for frame in protected} == {50}
    assert made.node(1)["packets_delivered"] == 4


def test_frames_that_are_not_ipv4_pass(lab: Make) -> None:
    """IPsec of Windows 2000 is for IPv4: the rest goes past the driver, policy or not."""
    ipv6 = b"\x60" + bytes(3) + b"\x00\x08\x3b\x40" + bytes(15) + b"\x01" + bytes(15) + b"\x02" + b"12345678"
    frames = [
        (0, ethernet(sized(60, back=True), back=True)),  # teaches whose MAC address it is
        (10**8, ethernet(ipv6, ethertype=0x86DD)),
        (2 * 10**8, ethernet(b"x" * 50, ethertype=0x88B5)),
        (3 * 10**8, ethernet(sized(60))),
    ]
    made = lab(frames, policy(), policy())
    got = made.run()
    assert [(at, frame[14:]) for at, frame in got if frame[12:14] == b"\x86\xdd"] == [(10**8, ipv6)]
    assert [(at, frame[14:]) for at, frame in got if frame[12:14] == b"\x88\xb5"] == [(2 * 10**8, b"x" * 50)]
    assert made.node(0)["frames_not_ipv4"] == 2
    assert [made.node(i)["packets_delivered"] for i in range(2)] == [1, 3]


@pytest.mark.parametrize("queue", [3000, 20_000, 100_000])
def test_queue_makes_the_source_wait(lab: Make, queue: int) -> None:
    """ESP makes small packets longer: a source at the pace of the plain ones fills the NIC until it has to pause.

    The gate is looked at once a window of `reaction`, in which each packet adds what ESP adds to it.
    """
    frames = [(0, ethernet(sized(46)))]
    peaks = {}
    for limit in (queue, 10**9):
        # What comes before the SA does is dropped: about a millisecond's worth.
        replay = {"repeat": 6000, **LINK_PACE}
        made = lab(frames, policy(), policy(), reaction="100us", link={"queue": limit}, replay=replay)
        got = made.run()
        peaks[limit] = made.direction(0)["queue_peak_bytes"]
        held = made.alice.counters()["packets_held"]
        esp = [(at, frame) for at, frame in got if frame[23] == 50][held:]
        assert made.node(1)["packets_delivered"] == len(esp) + held
        assert len(esp) > 3000
        # Back to back either way: a pause never leaves the wire idle.
        assert [at for at, _ in esp] == starts([(esp[0][0], len(f)) for _, f in esp], SECOND)
    growth = 100_000 // wire_bytes(60) // 8 * (wire_bytes(len(esp[0][1])) - wire_bytes(60))
    assert queue < peaks[queue] <= queue + growth + 2 * wire_bytes(len(esp[0][1]))
    assert peaks[10**9] > 150_000


def test_too_long_for_the_link(lab: Make) -> None:
    """RFC 791: with "don't fragment" a packet that does not fit goes no further; without it travels in fragments."""
    frames = [(n * 10**6, ethernet(sized(1400 + n, flags=DONT_FRAGMENT * (n % 2)))) for n in range(20)]
    made = lab(frames, link={"mtu": 1410})
    got = made.run()
    assert made.node(0)["packets_too_big"] == 5  # 1411, 1413, ... 1419
    assert made.node(0)["packets_fragmented"] == 4  # 1412, 1414, ... 1418
    assert made.node(1)["datagrams_reassembled"] == 4
    assert made.node(1)["packets_delivered"] == 15
    assert made.node(1)["bytes_delivered"] == sum(1400 + n for n in range(20) if n <= 10 or n % 2 == 0)
    assert max(len(frame) for _, frame in got) <= 1410 + 14
    assert sum(frame[20] & 0x20 != 0 or frame[20:22] != b"\0\0" for _, frame in got if not frame[20] & 0x40) == 8


def test_protection_makes_them_too_long(lab: Make) -> None:
    """ESP with AES-GCM adds 34 bytes and padding; fragments of ESP packets are joined before IPsec (RFC 2401 5.2)."""
    frames = [(n * 10**8, ethernet(sized(1500, flags=DONT_FRAGMENT * (n % 2)))) for n in range(6)]
    made = lab(frames, policy(), policy())
    got = made.run()
    assert made.node(0)["packets_too_big"] == 3
    assert made.node(0)["packets_fragmented"] == 3
    assert made.node(1)["datagrams_reassembled"] == 3
    assert made.node(1)["packets_delivered"] == 3
    assert made.bob.counters()["confidential_bytes_received"] == 3 * 1480
    assert {frame[23] for _, frame in got if len(frame) > 1000} == {50}


def test_jumbo_frames(lab: Make) -> None:
    frames = [(n * 10**8, ethernet(sized(9000, flags=DONT_FRAGMENT))) for n in range(3)]
    made = lab(frames, policy(), policy(), link={"mtu": 9100})
    assert max(len(frame) for _, frame in made.run()) > 9000
    assert made.node(1)["packets_delivered"] == 3
    assert made.node(1)["datagrams_reassembled"] == 0


def test_no_reaction_no_world(lab: Make) -> None:
    with pytest.raises(ScenarioError) as raised:
        lab([(0, ethernet(sized(60)))], reaction="0s")
    assert str(raised.value) == (
        "reaction: '0s' is not possible; accepted: 1ns or more (it is the lookahead of the simulation)"
    )
