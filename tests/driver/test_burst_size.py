"""What becomes of a packet, and every counter, is the same however packets are put into bursts."""

from __future__ import annotations

import random
from typing import Any

import pytest
from driver_kit import ENCRYPTIONS, SPI, ip, negotiate, sa, twin, udp

from ipsec_core import Action, Burst, Driver, Filter

SIZES = [1, 2, 7, 64, 256]


def outcome(driver: Driver, direction: str, packets: list[bytes], size: int) -> list[Any]:
    results: list[Any] = []
    for start in range(0, len(packets), size):
        burst = Burst(size).load(packets[start : start + size])
        (driver.outbound if direction == "out" else driver.inbound)(burst)
        results += zip(burst.status.tolist(), burst.sa.tolist(), burst.filter.tolist(), strict=True)
    upcalls = driver.upcalls()
    return [results, upcalls, driver.counters(), driver.status_counters(direction), driver.sas()]  # type: ignore[arg-type]


def damaged(rng: random.Random, packet: bytes) -> bytes:
    """Often whole, otherwise cut, flipped or forged."""
    kind = rng.randrange(8)
    if kind == 0:
        at = rng.randrange(20, len(packet))
        return packet[:at] + bytes([packet[at] ^ 1 << rng.randrange(8)]) + packet[at + 1 :]
    if kind == 1:
        length = rng.randrange(20, len(packet))
        return packet[:2] + length.to_bytes(2, "big") + packet[4:length]
    return packet


@pytest.mark.parametrize("seed", range(6))
def test_inbound(seed: int, backend: str) -> None:
    rng = random.Random(seed)
    sas = [
        sa(
            "in",
            ENCRYPTIONS[i % 2],
            spi=SPI + i,
            replay_window=32,
            soft_bytes=200 + 100 * i,
            hard_bytes=600 + 200 * i,
        )
        for i in range(4)
    ]
    packets = []
    for _ in range(500):
        i = rng.randrange(5)
        number = max(0, len(packets) // 6 + rng.randrange(-40, 8))
        clear = ip(bytes(rng.randrange(60)), source=rng.choice(["10.1.0.1"] * 9 + ["10.1.0.9"]))
        packets.append(damaged(rng, twin(ENCRYPTIONS[i % 2], spi=SPI + i).seal(clear, number, bytes(8))))
    results = []
    for size in SIZES:
        driver = Driver(seed=1, backend=backend)
        for record in sas:
            driver.add_sa(record)
        results.append(outcome(driver, "in", packets, size))
    assert len({status for status, _, _ in results[0][0]}) == 7
    assert all(other == results[0] for other in results[1:])


@pytest.mark.parametrize("seed", range(6))
def test_outbound(seed: int, backend: str) -> None:
    rng = random.Random(seed)
    packets = [
        udp(4000, 4000 + rng.randrange(5), bytes(rng.randrange(60)), destination=f"10.1.0.{rng.randrange(2, 5)}")
        for _ in range(400)
    ]
    results = []
    for size in SIZES:
        driver = Driver(seed=1, backend=backend, hold_packets=9)
        driver.set_filters(
            [Filter(3, "out", Action.BLOCK, protocol=17, destination_port=4003), negotiate(1)],
        )
        driver.add_sa(sa("out", soft_bytes=1000, hard_bytes=2000))
        driver.add_sa(sa("out", "3DES-CBC", destination="10.1.0.3", spi=SPI + 1, sequence=0xFFFFFFFF - 20))
        results.append(outcome(driver, "out", packets, size))
    assert len({status for status, _, _ in results[0][0]}) == 6
    assert all(other == results[0] for other in results[1:])
