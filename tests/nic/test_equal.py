"""Offload on equals offload off, packet for packet and counter for counter, when no fault is set."""

from __future__ import annotations

import random
from typing import Any, Literal

import pytest
from driver_kit import A, B, ip, negotiate, run
from hypothesis import given, settings
from hypothesis import strategies as st
from nic_kit import AH, MODES, SUITES, TRIPLE_DES, Suite, add, association, computer, offloaded, state

from ipsec_core import Driver
from ipsec_core.driver import NIC_CAPABILITIES, Nic

OPTIONS = bytes([148, 4, 0, 0])  # router alert: AH covers it, it does not change on the way
MODE = Literal["transport", "tunnel"]


def traffic(rng: random.Random, source: str, destination: str, count: int) -> list[bytes]:
    packets = []
    for _ in range(count):
        size = rng.choice([0, 1, rng.randrange(64), rng.randrange(1400), rng.randrange(1440, 1560)])
        fields: dict[str, Any] = {"identification": rng.randrange(1 << 16), "tos": rng.randrange(256)}
        if rng.random() < 0.2:
            fields["options"] = OPTIONS
        if rng.random() < 0.1:
            fields["fragment"] = rng.choice([0x2000, 0x0010])
        if rng.random() < 0.05:
            destination_now = rng.choice(["255.255.255.255", "224.0.0.5", "10.1.0.77"])
        else:
            destination_now = destination
        packets.append(ip(rng.randbytes(size), source=source, destination=destination_now, **fields))
    return packets


def on_the_wire(rng: random.Random, packets: list[bytes]) -> list[bytes]:
    """What a bad network makes of them: lost, twice, out of order, damaged, cut."""
    arrived = []
    for packet in packets:
        kind = rng.randrange(12)
        if kind == 0:
            continue
        if kind == 1:
            arrived.append(packet)
        if kind == 2 and len(packet) > 20:
            at = rng.randrange(20, len(packet))
            packet = packet[:at] + bytes([packet[at] ^ 1 << rng.randrange(8)]) + packet[at + 1 :]
        if kind == 3:
            packet = packet[: rng.randrange(len(packet))]
        arrived.insert(len(arrived) - (kind == 4 and len(arrived) > 0), packet)
    return arrived


def exchange(a: Driver, b: Driver, seed: int) -> list[Any]:
    rng = random.Random(seed)
    seen: list[Any] = []
    for sender, receiver, ends in ((a, b, (A, B)), (b, a, (B, A))) * 2:
        out = run(sender, "out", traffic(rng, *ends, 60))
        wire = on_the_wire(rng, [packet for status, packet in out if status.name == "PROTECTED"])
        seen += [out, run(receiver, "in", wire)]
    return [*seen, state(a), state(b)]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("suite", SUITES, ids="-".join)
@settings(deadline=None, max_examples=5)
@given(
    seed=st.integers(0, 1 << 32),
    capabilities=st.sets(st.sampled_from(sorted(NIC_CAPABILITIES))),
    everything=st.booleans(),
)
def test_equal(suite: Suite, mode: MODE, seed: int, capabilities: set[str], everything: bool) -> None:
    nics = [Nic(None if everything else capabilities) for _ in range(2)]
    plain = exchange(computer("A", suite, mode), computer("B", suite, mode), seed)
    a, b = computer("A", suite, mode, nics[0]), computer("B", suite, mode, nics[1])
    assert exchange(a, b, seed) == plain
    if everything:
        assert offloaded(a) == offloaded(b) == [True, True]
        for figures in (nic.statistics() for nic in nics):
            assert figures["ipsec_sent"] > 30
            assert figures["ipsec_received"] > 30
            assert figures["software_sent"] > 0
            assert figures["faults"] == 0


def bundle(direction: Literal["out", "in"], kind: str, nic: Nic | None) -> Driver:
    """Two SAs around one packet; "tunnel" is transport mode in a tunnel, "bundle" AH around ESP."""
    driver = Driver(seed=3)
    if nic is not None:
        driver.attach_nic(nic)
    driver.set_filters([negotiate()])
    if kind == "bundle":
        outer = association(direction, AH, filter=9)
    else:
        outer = association(direction, AH if kind == "tunnel-ah" else TRIPLE_DES, "tunnel", spi=0x3000, filter=9)
    handle = add(driver, outer)
    add(driver, association(direction, TRIPLE_DES, outer=handle))
    return driver


NESTED = {
    "bundle": {"ah-esp-combined"},
    "tunnel": {"transport-tunnel-combined"},
    "tunnel-ah": {"transport-tunnel-combined", "ah-esp-combined"},
}


@pytest.mark.parametrize("without", [None, "ah-esp-combined", "transport-tunnel-combined"])
@pytest.mark.parametrize("kind", NESTED)
def test_two_sas_around_one_packet(kind: str, without: str | None) -> None:
    """RFC 2401 4.3. The NIC takes both or, when a bit is off, what it takes changes nothing."""
    packets = [ip(bytes(n), options=OPTIONS if n % 7 == 0 else b"") for n in range(100)]
    packets.append(ip(bytes(1430)))  # fits after one SA, not after both
    nics = [Nic(set(NIC_CAPABILITIES) - {without or ""}) for _ in range(2)]
    out = run(bundle("out", kind, None), "out", packets)
    sender = bundle("out", kind, nics[0])
    assert run(sender, "out", packets) == out
    assert offloaded(sender) == [True, True]
    wire = [packet for _, packet in out]
    plain, receiver = bundle("in", kind, None), bundle("in", kind, nics[1])
    assert run(receiver, "in", wire) == run(plain, "in", wire)
    assert state(receiver) == state(plain)
    sent, received = nics[0].statistics(), nics[1].statistics()
    if without in NESTED[kind]:
        assert (sent["ipsec_sent"], sent["software_sent"]) == (0, 202)
        # Under ESP the NIC does not see that there is more inside before it has taken the outer one off.
        assert received["ipsec_received"] == (101 if kind == "tunnel" else 0)
    else:
        assert (sent["ipsec_sent"], sent["software_sent"]) == (200, 2)
        assert (received["ipsec_received"], received["software_received"]) == (202, 0)


def test_three_sas_stay_in_software() -> None:
    nic = Nic()
    driver = Driver(seed=3)
    driver.attach_nic(nic)
    driver.set_filters([negotiate()])
    outer = add(driver, association("out", AH, filter=9, spi=0x3000))
    middle = add(driver, association("out", TRIPLE_DES, filter=9, spi=0x3001, outer=outer))
    add(driver, association("out", AH, outer=middle))
    run(driver, "out", [ip(b"data")])
    assert (nic.statistics()["ipsec_sent"], nic.statistics()["software_sent"]) == (1, 2)
