"""NAT traversal from end to end: IKE and ESP through a NAT that rewrites addresses and ports (RFC 3947, 3948)."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Any

import pytest
from computer_kit import A, B, Pair, policy
from scapy.layers.inet import ICMP, IP, UDP
from scapy.packet import Raw

from ipsec_core.computer.computer import Computer
from ipsec_core.driver import Burst, Status
from ipsec_core.ike import IkeOptions, NatTraversal
from ipsec_core.policy.model import Policy
from ipsec_core.policy.toml import policy_from_table

PUBLIC = "10.0.0.77"
METHOD = "ESP[3DES,SHA1]"
UPDATED: dict[str, Any] = {"profile": "windows-2000-update"}


class NatPair(Pair):
    """ALICE is behind a NAT with the address PUBLIC; it adds `shift` to her ports, and has `seen` all UDP ports."""

    shift = 20000
    seen: set[tuple[int, int]]

    def carry(self, sender: Computer, packet: bytes) -> bytes:
        layer = IP(packet)
        if UDP not in layer:
            return packet
        self.seen = getattr(self, "seen", set()) | {(layer[UDP].sport, layer[UDP].dport)}
        if sender is self.a:
            layer.src = PUBLIC
            layer[UDP].sport += self.shift
        else:
            assert layer.dst == PUBLIC, "BOB knows no other address"
            layer.dst = A
            layer[UDP].dport -= self.shift
        if layer[UDP].chksum:
            del layer[UDP].chksum
        del layer.chksum
        return bytes(layer)

    def answer(self, size: int) -> bytes:
        """A packet of BOB to whom he takes for ALICE."""
        packet = bytes(IP(src=B, dst=PUBLIC) / UDP(sport=40002, dport=40001) / Raw(bytes(size)))
        self._out(self.b, Burst(1).load([packet]))
        self.settle()
        return packet


def connected(method: str = METHOD, **options: Any) -> NatPair:
    pair = NatPair(policy(method), policy(method), key_log=True, **(options or UPDATED))
    pair.send(10, number=1)
    assert len(pair.delivered) == 1
    return pair


def inner(packet: bytes) -> tuple[str, str, bytes]:
    layer = IP(packet)
    return layer.src, layer.dst, bytes(layer[UDP].payload)


@pytest.mark.parametrize("profile", ["windows-2000-update", "modern"])
def test_both_ways(profile: str) -> None:
    pair = connected(profile=profile)
    assert inner(pair.delivered[0]) == (PUBLIC, B, bytes(10))
    pair.answer(30)
    assert inner(pair.delivered[1]) == (B, A, bytes(30))
    assert IP(pair.delivered[1]).dst == A
    assert (500, 500) in pair.seen
    assert (4500, 4500) in pair.seen
    assert all(sa.security == METHOD for sa in (*pair.a.associations(), *pair.b.associations()))
    assert pair.b.associations()[0].peer == PUBLIC


@pytest.mark.parametrize("profile", ["windows-2000-update", "modern"])
def test_the_checksum_inside_is_right_again(profile: str) -> None:
    """RFC 3948 3.1.2: what ALICE computed over her own address BOB's stack could not verify.

    In the draft's dialect only an end behind a NAT names its address, so ALICE does not learn by which BOB knows her.
    """
    pair = connected(profile=profile)
    pair.answer(31)
    for packet in pair.delivered[: 2 if profile == "modern" else 1]:
        layer = IP(packet)
        given = layer[UDP].chksum
        del layer[UDP].chksum
        assert IP(bytes(layer))[UDP].chksum == given


def test_keep_alives() -> None:
    pair = connected()
    sent: list[bytes] = []
    carry = pair.carry

    def watch(sender: Computer, packet: bytes) -> bytes:
        sent.append(packet)
        return carry(sender, packet)

    pair.carry = watch  # type: ignore[method-assign]
    pair.until(pair.now + 70.0)
    alive = [IP(packet) for packet in sent if bytes(IP(packet)[UDP].payload) == b"\xff"]
    assert len(alive) == 3
    assert {(packet.src, packet[UDP].sport, packet[UDP].dport) for packet in alive} == {(A, 4500, 4500)}


def rules(*protocols: str) -> Policy:
    made = [
        {
            "filters": [{"source": "me", "destination": "10.0.0.0/24", "protocol": protocol}],
            "action": {"negotiate": [METHOD]},
            "authentication": [{"preshared_key": "lab"}],
        }
        for protocol in protocols
    ]
    return policy_from_table({"name": "Lab", "rules": made}, "test")


def test_another_mapping() -> None:
    """The NAT forgets; the next message that proves itself tells the new port, and BOB's packets follow it."""
    both = rules("udp", "icmp")
    pair = NatPair(both, both, **UPDATED)
    pair.send(10)
    pair._out(pair.a, Burst(1).load([bytes(IP(src=A, dst=B) / ICMP())]))
    pair.settle()
    assert len(pair.a.associations()) == 4
    pair.answer(20)
    before = pair.b.associations()[0]
    pair.shift = 30000
    pair.send(11)
    assert len(pair.delivered) == 4, "what comes from a new port is still ALICE's"
    pair.a.update_policy(pair.now, rules("udp"))
    pair.settle()
    pair.answer(21)
    assert inner(pair.delivered[-1]) == (B, A, bytes(21))
    after = pair.b.associations()[0]
    assert (after.spi, after.established) == (before.spi, before.established)
    (key,) = [sa.sequence for sa in pair.b.driver.sas() if sa.direction == "out"]
    assert key == 2, "sequence numbers go on"


@pytest.mark.parametrize("what", ["ESP", "IKE"])
def test_nobody_is_at_port_0(what: str) -> None:
    """Nothing protects the ports of a packet: who changes them on its way to 0 does no more than that."""
    pair = connected(profile="modern")
    before = [sa.handle for sa in pair.b.driver.sas()]
    pair.shift = -4500
    if what == "ESP":
        pair.send(11)
        assert inner(pair.delivered[-1]) == (PUBLIC, B, bytes(11))
    else:
        pair.a.update_policy(pair.now, None)
        pair.settle()
    assert (4500, 4500) in pair.seen
    assert [sa.handle for sa in pair.b.driver.sas()] == before


def test_ah_does_not_pass() -> None:
    pair = NatPair(policy("AH[SHA1]", METHOD), policy("AH[SHA1]", METHOD), **UPDATED)
    pair.send(10)
    assert [sa.security for sa in pair.a.associations()] == [METHOD] * 2


def test_windows_2000_without_the_update_does_not_pass_either() -> None:
    """Main Mode works, ESP goes out by itself, and the NAT has no port to change."""
    pair = NatPair(policy(METHOD), policy(METHOD), profile="windows-2000")
    pair.send(10)
    pair.until(pair.now + 100.0)
    assert (4500, 4500) not in pair.seen
    burst = Burst(1).load([bytes(IP(src=A, dst=B) / UDP(sport=4500, dport=4500) / Raw(b"x" * 20))])
    pair.a.driver.outbound(burst)
    assert burst.status[0] != Status.EXEMPT


def test_a_nat_that_is_not_there() -> None:
    options = IkeOptions(nat_traversal=(NatTraversal.RFC_3947,), pretend_nat=True)
    pair = Pair(policy(METHOD), policy(METHOD), options=options)
    packet = pair.send(10)
    assert pair.delivered == [packet]
    burst = Burst(1).load([packet])
    pair.a.driver.outbound(burst)
    assert (IP(burst.packet(0))[UDP].sport, IP(burst.packet(0))[UDP].dport) == (4500, 4500)
    assert IPv4Address(A) == pair.a.address
