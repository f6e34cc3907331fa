"""The table of faults in nic.h: each moves exactly the counters that the article tells an administrator to look at."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from driver_kit import changed, ip, run, statuses
from nic_kit import AH, MODES, SUITES, TRIPLE_DES, Suite, add, association, computer, moved, offloaded, sent

from ipsec_core import Driver, Status
from ipsec_core.driver import Nic

DATA = bytes(range(64, 164))
DIRECTIONS: tuple[Literal["out", "in"], ...] = ("out", "in")


def pair(suite: Suite, mode: Any, **nics: Nic) -> tuple[Driver, Driver]:
    return computer("A", suite, mode, nics.get("a")), computer("B", suite, mode, nics.get("b"))


def failed(suite: Suite, *, authenticated: bool = True, count: int = 1) -> dict[str, int]:
    """What a receiver counts of packets that failed."""
    expected = {"packets_inbound": count}
    if suite.confidential:
        expected["packets_not_decrypted"] = count
    if suite.authenticated and authenticated:
        expected["packets_not_authenticated"] = count
    return expected


def carried(mode: str) -> int:
    return len(DATA) + (20 if mode == "tunnel" else 0)


def grown(suite: Suite, mode: str, way: str) -> dict[str, int]:
    """What a packet that goes well counts."""
    expected = {"packets_outbound" if way == "sent" else "packets_inbound": 1}
    if suite.confidential:
        expected[f"confidential_bytes_{way}"] = carried(mode)
    if suite.authenticated:
        expected[f"authenticated_bytes_{way}"] = carried(mode)
    else:
        expected["unauthenticated_packets"] = 1
    if way == "sent":
        expected["cache_misses"] = 1
    return expected


every_suite = pytest.mark.parametrize("suite", SUITES, ids="-".join)
every_mode = pytest.mark.parametrize("mode", MODES)


@every_mode
@every_suite
def test_wrong_icv_on_send(suite: Suite, mode: Any) -> None:
    nic = Nic()
    nic.fault = "wrong-icv"
    a, b = pair(suite, mode, a=nic)
    zero_a, zero_b = a.counters(), b.counters()
    (packet,) = sent(a, [ip(DATA)])
    assert changed(a, zero_a) == grown(suite, mode, "sent")
    found = statuses(b, "in", [packet])
    if suite.authenticated:
        assert found == [Status.NOT_AUTHENTICATED]
        assert changed(b, zero_b) == failed(suite)
        assert b.sas()[1].dropped == 1
        assert nic.statistics()["faults"] == 1
    else:
        assert found == [Status.PROTECTED]
        assert changed(b, zero_b) == grown(suite, mode, "received")
        assert nic.statistics()["faults"] == 0


@every_mode
@every_suite
def test_lost_sa_on_send(suite: Suite, mode: Any) -> None:
    """The packet is framed, but in clear and with no ICV: 3DES over clear text gives the peer no trailer."""
    nic = Nic()
    nic.fault = "lost-sa"
    a, b = pair(suite, mode, a=nic)
    zero_a, zero_b = a.counters(), b.counters()
    (packet,) = sent(a, [ip(DATA)])
    assert changed(a, zero_a) == grown(suite, mode, "sent")
    assert DATA in packet
    if suite.authenticated:
        at = 32 if suite.protocol == "ah" else len(packet) - 12  # RFC 2402 2, RFC 2406 2
        assert packet[at : at + 12] == bytes(12)
    found = statuses(b, "in", [packet])
    if suite.authenticated:
        assert found == [Status.NOT_AUTHENTICATED]
        assert changed(b, zero_b) == failed(suite)
    elif suite.confidential:
        assert found == [Status.NOT_DECRYPTED]
        assert changed(b, zero_b) == failed(suite)
    else:
        assert found == [Status.PROTECTED]  # NULL without ICV: nothing was left to compute
    assert nic.statistics()["faults"] == 1


@pytest.mark.parametrize("status", range(8))
@every_mode
@every_suite
def test_failed_status_on_receive(suite: Suite, mode: Any, status: int) -> None:
    nic = Nic()
    nic.fault, nic.fault_status = "failed-status", status
    a, b = pair(suite, mode, b=nic)
    zero = b.counters()
    (packet,) = sent(a, [ip(DATA)])
    verdict = Status.NOT_AUTHENTICATED if suite.authenticated else Status.NOT_DECRYPTED
    expected = failed(suite)
    if status >= 6:
        verdict, expected = Status.MALFORMED, {"packets_inbound": 1}
    assert statuses(b, "in", [packet]) == [verdict]
    assert changed(b, zero) == expected
    assert moved(Nic().statistics(), nic.statistics()) == {
        "sas": 2,
        "sa_offers": 2,
        "ipsec_received": 1,
        "ipsec_failed": 1,
        "faults": 1,
    }
    # The host has not taken the number: the same packet passes once the NIC is well.
    nic.fault = "none"
    assert statuses(b, "in", [packet]) == [Status.PROTECTED]


@every_mode
@every_suite
def test_garbage_on_receive(suite: Suite, mode: Any) -> None:
    nic = Nic()
    nic.fault = "garbage"
    a, b = pair(suite, mode, b=nic)
    zero = b.counters()
    (packet,) = sent(a, [ip(DATA)])
    ((status, received),) = run(b, "in", [packet])
    if suite.protocol == "esp":
        assert status == Status.NOT_DECRYPTED
        assert changed(b, zero) == failed(suite, authenticated=False)
    else:
        assert (status, received) == (Status.PROTECTED, ip(DATA))
        assert changed(b, zero) == grown(suite, mode, "received")
    assert nic.statistics()["faults"] == 1
    assert nic.statistics()["ipsec_failed"] == 0


def test_garbage_of_any_length_has_no_trailer() -> None:
    nic = Nic()
    nic.fault = "garbage"
    a, b = pair(TRIPLE_DES, "transport", b=nic)
    packets = sent(a, [ip(bytes([n & 0xFF]) * n) for n in range(1400)])
    assert set(statuses(b, "in", packets)) == {Status.NOT_DECRYPTED}


@every_mode
def test_garbage_success_lets_a_forged_ah_packet_in(mode: Any) -> None:
    nic = Nic()
    a, b = pair(AH, mode, b=nic)
    (packet,) = sent(a, [ip(DATA)])
    forged = packet[:-1] + bytes([packet[-1] ^ 1])
    assert statuses(b, "in", [forged]) == [Status.NOT_AUTHENTICATED]
    nic.fault = "garbage"
    ((status, received),) = run(b, "in", [forged])
    assert (status, received) == (Status.PROTECTED, ip(DATA[:-1] + bytes([DATA[-1] ^ 1])))


@every_mode
@every_suite
def test_lost_sa_on_receive(suite: Suite, mode: Any) -> None:
    """Flags clear: the host does it in software, and what is forged it drops."""
    nic = Nic()
    nic.fault = "lost-sa"
    a, b = pair(suite, mode, b=nic)
    zero = b.counters()
    first, second = sent(a, [ip(DATA), ip(DATA)])
    assert run(b, "in", [first]) == [(Status.PROTECTED, ip(DATA))]
    assert changed(b, zero) == grown(suite, mode, "received")
    assert nic.statistics()["ipsec_received"] == 0
    assert nic.statistics()["software_received"] == 1
    if suite.authenticated:
        forged = second[:-1] + bytes([second[-1] ^ 1])
        assert statuses(b, "in", [forged]) == [Status.NOT_AUTHENTICATED]


@every_mode
@every_suite
def test_delete_request(suite: Suite, mode: Any) -> None:
    """The inbound SA and the outbound one that was negotiated with it leave the NIC; older and other pairs stay."""
    nic = Nic()
    a, b = computer("A", suite, mode), Driver(seed=7)
    b.attach_nic(nic)
    other = {"source": "10.9.0.1", "destination": "10.9.0.2"}
    for old in (0x4000, 0x5000, 0):
        for direction in DIRECTIONS:
            fields: dict[str, Any] = {"spi": old} if old else {}
            if old == 0x5000:
                fields |= other if direction == "in" else {"source": "10.9.0.2", "destination": "10.9.0.1"}
            add(b, association(direction, suite, mode, backwards=direction == "out", **fields))
    zero = b.counters()
    nic.fault = "delete-request"
    packets = sent(a, [ip(DATA)] * 3)
    assert statuses(b, "in", packets[:2]) == [Status.PROTECTED] * 2
    assert offloaded(b) == [True] * 4 + [False] * 2
    assert nic.statistics()["sa_deletions"] == 2
    assert nic.statistics()["ipsec_received"] == 2
    assert statuses(b, "in", packets[2:]) == [Status.PROTECTED]
    assert nic.statistics()["ipsec_received"] == 2
    expected = {name: 3 * value for name, value in grown(suite, mode, "received").items()}
    assert changed(b, zero) == expected


@pytest.mark.parametrize("every", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("size", [1, 5, 64])
def test_every_nth_packet(every: int, size: int) -> None:
    """Counted over bursts and runs."""
    nic = Nic()
    nic.fault, nic.fault_every = "wrong-icv", every
    a, b = pair(TRIPLE_DES, "transport", a=nic)
    packets: list[bytes] = []
    for start in range(0, 64, size):
        packets += sent(a, [ip(DATA)] * min(size, 64 - start))
    found = statuses(b, "in", packets)
    wrong = [i for i, status in enumerate(found) if status == Status.NOT_AUTHENTICATED]
    assert wrong == list(range(every - 1, 64, every))
    assert found.count(Status.PROTECTED) == 64 - len(wrong)


@pytest.mark.parametrize("fault", ["failed-status", "garbage", "lost-sa", "delete-request"])
def test_every_third_received_packet(fault: str) -> None:
    nic = Nic()
    nic.fault, nic.fault_every = fault, 3
    a, b = pair(TRIPLE_DES, "tunnel", b=nic)
    found = statuses(b, "in", sent(a, [ip(DATA)] * 9))
    bad = {"failed-status": Status.NOT_AUTHENTICATED, "garbage": Status.NOT_DECRYPTED}.get(fault, Status.PROTECTED)
    assert found == [Status.PROTECTED, Status.PROTECTED, bad] * 3
    assert nic.statistics()["faults"] == 3


@pytest.mark.parametrize("fault", ["wrong-icv", "failed-status", "garbage", "lost-sa", "delete-request"])
def test_enable_offload_0_cures_it(fault: str) -> None:
    """KB 257225: when the connection works without offload, offload is to blame."""
    near, far = Nic(), Nic()
    near.fault = far.fault = fault
    a, b = pair(TRIPLE_DES, "transport", a=near, b=far)
    a.enable_offload(False)
    b.enable_offload(False)
    zero_a, zero_b = a.counters(), b.counters()
    assert statuses(b, "in", sent(a, [ip(DATA)] * 5)) == [Status.PROTECTED] * 5
    assert changed(a, zero_a)["confidential_bytes_sent"] == changed(b, zero_b)["confidential_bytes_received"] == 500


def test_faults_change_nothing_for_sas_that_are_not_on_the_nic() -> None:
    near = Nic([])
    near.fault = "wrong-icv"
    a, b = pair(TRIPLE_DES, "transport", a=near)
    assert statuses(b, "in", sent(a, [ip(DATA)] * 5)) == [Status.PROTECTED] * 5
    assert near.statistics()["faults"] == 0
