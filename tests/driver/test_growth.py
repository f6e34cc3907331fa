"""Ten million bad packets: memory does not grow, and every one of them is counted."""

from __future__ import annotations

import os
import random
import resource
from pathlib import Path

import pytest
from driver_kit import SPI, SUITES, add, ip, ip6, make, negotiate, oracle, udp

from ipsec_core import Burst, Driver

# A sanitizer is slow and keeps freed memory; it has eyes of its own for leaks and overruns.
SANITIZED = os.environ.get("IPSEC_CORE_SANITIZE") == "1"
PACKETS = 500_000 if SANITIZED else 10_000_000
STATM = Path("/proc/self/statm")
# What the allocator may keep at hand; a leak of one byte a packet is six times as much.
ROOM = 256 * 1024
PAGE = resource.getpagesize()


def resident() -> int:
    return int(STATM.read_text().split()[1]) * PAGE


def receiver() -> Driver:
    """Every suite, filters, soft SAs and a table of fragments."""
    driver = Driver(seed=1, nat_traversal=True)
    driver.set_filters([negotiate(), *[negotiate(n, protocol=n) for n in range(2, 20)]])
    for n, name in enumerate(SUITES):
        add(driver, make("in", name, spi=SPI + n))
        add(driver, make("in", name, "tunnel", spi=SPI + 100 + n))
        add(driver, make("in", name, family=6, spi=SPI + n))
    return driver


def grown(before: int) -> int:
    return 0 if SANITIZED else resident() - before


rng = random.Random(1)


def storm() -> list[bytes]:
    """SPIs that nobody has, of both protocols and families."""
    packets = []
    for n in range(256):
        make_one = ip if n % 2 else ip6
        body = rng.randbytes(4) + (0x7000_0000 + rng.getrandbits(24)).to_bytes(4, "big")
        body = body[4:] + body[:4] if n % 4 < 2 else body
        packets.append(make_one(body + bytes(40), protocol=50 if n % 4 < 2 else 51))
    return packets


def garbage() -> list[bytes]:
    """Any bytes, mostly with the first nibble of an IP packet."""
    return [
        bytes([rng.choice([0x45, 0x46, 0x60, rng.getrandbits(8)])]) + rng.randbytes(rng.randrange(120))
        for _ in range(256)
    ]


def forged() -> list[bytes]:
    """Known SPIs, wrong ICVs."""
    packets = []
    for n in range(256):
        name = [name for name in SUITES if not name.endswith("-bare")][n % 8]
        wire = bytearray(oracle(name, spi=SPI + list(SUITES).index(name)).seal(ip(rng.randbytes(n)), 1 + n))
        wire[20 + 12 + 8 if name.startswith("ah") else -1] ^= 1
        packets.append(bytes(wire))
    return packets


def truncated() -> list[bytes]:
    """Protected packets cut anywhere, some with a total length that says so."""
    packets = []
    for n in range(256):
        name = list(SUITES)[n % len(SUITES)]
        wire = oracle(name, spi=SPI + n % len(SUITES)).seal(ip(rng.randbytes(30)), 1 + n)
        wire = wire[: rng.randrange(20, len(wire))]
        packets.append(wire if n % 2 else wire[:2] + len(wire).to_bytes(2, "big") + wire[4:])
    return packets


def empty() -> list[bytes]:
    """Nothing, a header, a header of IPsec and nothing in it."""
    kinds = [b"", ip(b""), ip(b"", protocol=50), ip(b"", protocol=51), ip6(b"", protocol=50), udp(1, 4500, b"")]
    kinds += [ip(SPI.to_bytes(4, "big") + bytes(4), protocol=50), ip(bytes(12), protocol=51)]
    return (kinds * 32)[:256]


def hostile_fragments() -> list[bytes]:
    """First pieces of datagrams that never come, overlaps, pieces past the end."""
    packets = []
    for n in range(256):
        word = rng.choice([0x2000, 0x2001, 0x0002, 0x1FFF, 0x3FFF])
        packets.append(
            ip(
                rng.randbytes(rng.choice([8, 16, 64, 7])),
                protocol=rng.choice([50, 51, 17]),
                fragment=word,
                identification=n % 64,
            )
        )
    return packets


STORMS = {f.__name__: f for f in (storm, garbage, forged, truncated, empty, hostile_fragments)}


@pytest.mark.skipif(not STATM.exists(), reason="needs /proc")
@pytest.mark.parametrize("kind", STORMS)
def test_bad_packets(kind: str) -> None:
    """The burst is loaded once and runs again and again: a bad packet stays what it is."""
    driver, packets = receiver(), STORMS[kind]()
    burst = Burst(256, 512).load(packets)
    rounds = PACKETS // len(STORMS) // len(burst)

    def times(count: int) -> None:
        for n in range(count):
            driver.inbound(burst, float(n))

    times(64)
    before, counted = resident(), driver.status_counters("in")
    times(rounds)
    after = driver.status_counters("in")
    assert grown(before) < ROOM
    assert sum(after.values()) - sum(counted.values()) == rounds * len(packets)
    assert driver.counters()["packets_inbound"] == (rounds + 64) * len(packets)
    moved = {name for name in after if after[name] != counted[name]}
    c, all_after = driver.counters(), sum(after.values())
    if kind == "storm":
        assert moved == {"BAD_SPI"}
        assert c["bad_spi_packets"] == all_after
    elif kind == "forged":
        assert moved == {"NOT_AUTHENTICATED"}
        ciphers = sum(
            SUITES[[s for s in SUITES if not s.endswith("-bare")][n % 8]].get("encryption") is not None
            for n in range(256)
        )
        assert c["packets_not_authenticated"] == all_after
        assert c["packets_not_decrypted"] == all_after // 256 * ciphers
        assert sum(info.dropped for info in driver.sas()) == all_after
    elif kind == "hostile_fragments":
        assert moved <= {"REASSEMBLING", "MALFORMED", "BAD_SPI", "NO_FILTER", "NOT_AUTHENTICATED", "REPLAYED"}
        assert "REASSEMBLING" in moved
    assert "UNPROCESSED" not in moved
    assert c["confidential_bytes_received"] == 0 or kind != "forged"


@pytest.mark.skipif(not STATM.exists(), reason="needs /proc")
def test_jumbo_datagrams_in_pieces() -> None:
    """64 KB, in 45 pieces that never end, end wrongly, or end."""
    driver = receiver()
    whole = [oracle("null-sha1", spi=SPI + 2).seal(ip(bytes(65535 - 64), identification=n), 1 + n) for n in range(4)]
    bursts = []
    for n, packet in enumerate(whole):
        pieces = []
        for at in range(0, len(packet) - 20, 1480):
            end = at + 1480 >= len(packet) - 20
            word = (0 if end else 0x2000) | at // 8
            pieces.append(ip(packet[20 + at : 1500 + at], protocol=50, fragment=word, identification=n))
        bursts.append(Burst(64, 65535).load(pieces[: -1 if n == 0 else None]))

    def times(count: int) -> int:
        for n in range(count):
            for burst in bursts:
                driver.inbound(burst, 1000.0 + n)
                # What was put together lies in its last slot now.
                burst.load([burst.packet(i) for i in range(len(burst) - 1)] + [rest[id(burst)]])
        return count

    rest = {id(burst): burst.packet(len(burst) - 1) for burst in bursts}
    times(4)
    before = resident()
    done = 4 + times(250)
    assert grown(before) < 4 * ROOM, "bursts of 64 slots of 64 KB come and go"
    counted = driver.status_counters("in")
    assert counted["PROTECTED"] == 3
    assert counted["REPLAYED"] == 3 * (done - 1)
    assert driver.counters()["packets_inbound"] == sum(counted.values()) == done * (44 + 3 * 45)


@pytest.mark.skipif(not STATM.exists(), reason="needs /proc")
def test_the_queue_of_held_packets_is_bounded() -> None:
    """Flows that nobody negotiates for: bounded acquires, bounded upcalls, bounded bytes."""
    driver = Driver(seed=1)
    driver.set_filters([negotiate()])
    bursts = [Burst(256, 256).load([udp(1, 2, destination=f"10.{n}.{i}.1") for i in range(256)]) for n in range(1, 9)]

    def times(count: int) -> None:
        for _ in range(count):
            for burst in bursts:
                driver.outbound(burst)

    times(8)
    before = resident()
    rounds = 250
    times(rounds)
    assert grown(before) < ROOM
    counted = driver.status_counters("out")
    assert counted["HELD"] + counted["NOT_HELD"] == (rounds + 8) * 2048
    assert driver.counters()["acquires"] == 256


@pytest.mark.skipif(not STATM.exists(), reason="needs /proc")
def test_sas_that_come_and_go() -> None:
    """Keys, windows and table entries are given back."""
    driver = Driver(seed=1, spi_slots=4)
    driver.set_filters([negotiate()])

    def times(count: int) -> None:
        for n in range(count):
            handles = [
                add(driver, make("in", name, spi=SPI + i, replay_window=4096))
                for i, name in enumerate(("3des-sha1", "gcm", "ah-gmac", "null-sha256", "ah-sha1"))
            ]
            handles += [add(driver, make("out", "gcm", outer=0)) for _ in range(3)]
            for handle in handles if n % 2 else reversed(handles):
                driver.delete_sa(handle)

    times(300)
    before = resident()
    times(2000)
    assert grown(before) < ROOM
    assert driver.tables()["spi_used"] == driver.tables()["spi_overflow"] == 0
    assert driver.counters()["key_additions"] == driver.counters()["key_deletions"]
