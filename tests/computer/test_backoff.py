"""The pause after a failed negotiation."""

from __future__ import annotations

from ipaddress import IPv4Network

from ipsec_core.computer.backoff import LONGEST_SECONDS, Backoff
from ipsec_core.ike import TrafficSelector

FLOW = ("10.0.0.2", TrafficSelector(IPv4Network("10.0.0.1/32"), IPv4Network("10.0.0.2/32")))
OTHER = ("10.0.0.3", FLOW[1])


def test_pauses_double_up_to_the_longest() -> None:
    backoff, now = Backoff(), 100.0
    assert not backoff.waits(now, FLOW)
    for length in (1, 2, 4, 8, 16, 32, 32, 32):
        backoff.failed(now, FLOW)
        assert backoff.waits(now + length - 0.01, FLOW)
        assert not backoff.waits(now + length, FLOW)
        assert not backoff.waits(now, OTHER)
        now += length
    assert length == LONGEST_SECONDS


def test_success_with_the_peer_ends_its_pauses_alone() -> None:
    backoff = Backoff()
    backoff.failed(0.0, FLOW)
    backoff.failed(0.0, OTHER)
    backoff.succeeded(FLOW[0])
    assert not backoff.waits(0.5, FLOW)
    assert backoff.waits(0.5, OTHER)
    backoff.failed(1.0, FLOW)
    assert not backoff.waits(2.0, FLOW)
    backoff.clear()
    assert not backoff.waits(0.5, OTHER)


def test_it_does_not_grow_without_end() -> None:
    backoff = Backoff()
    for number in range(10_000):
        backoff.failed(0.0, (f"peer {number}", FLOW[1]))
    assert not backoff.waits(0.5, ("peer 0", FLOW[1]))
    assert backoff.waits(0.5, ("peer 9999", FLOW[1]))
