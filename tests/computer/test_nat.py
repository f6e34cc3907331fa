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


def test_another_address_of_the_nat(monkeypatch: pytest.MonkeyPatch) -> None:
    """In transport mode the peer is another host from now on: all that was with the former one begins anew."""
    pair = connected(profile="modern")
    monkeypatch.setitem(globals(), "PUBLIC", "10.0.0.78")
    pair.send(11)
    assert len(pair.delivered) == 1
    assert pair.b.associations() == pair.a.associations() == []
    pair.until(pair.now + 1)
    pair.send(12)
    pair.send(13)
    assert inner(pair.delivered[-1]) == ("10.0.0.78", B, bytes(13))
    (main,) = pair.b._engine.main_modes()
    assert (main.remote, main.address) == ("10.0.0.78", "10.0.0.78")
    pair.answer(14)
    assert inner(pair.delivered[-1]) == (B, A, bytes(14))


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


def tunnels(me: str, *ends: tuple[str, str, str]) -> Policy:
    """For each (host, our network, its network)."""
    made = [
        {
            "filters": [{"source": source, "destination": destination}],
            "action": {"negotiate": [METHOD]},
            "authentication": [{"preshared_key": "lab"}],
            "tunnel_endpoint": endpoint,
        }
        for host, ours, theirs in ends
        for source, destination, endpoint in ((ours, theirs, host), (theirs, ours, me))
    ]
    return policy_from_table({"name": "Lab", "rules": made}, "test")


class Branches:
    """Two computers behind one NAT, which gives each a `port` for its port 4500, and the `gate` that knows PUBLIC."""

    def __init__(self) -> None:
        self.now = 0.0
        self.port = {"10.0.0.11": 20011, "10.0.0.12": 20012}
        nets = dict(zip(self.port, ("10.1.0.0/16", "10.2.0.0/16"), strict=True))
        server = "10.9.0.0/16"
        self.gate = self._computer(B, tunnels(B, *((PUBLIC, server, net) for net in nets.values())))
        self.inside = {host: self._computer(host, tunnels(host, (B, net, server))) for host, net in nets.items()}

    def _computer(self, address: str, policy: Policy) -> Computer:
        computer = Computer(address, IPv4Address(address), policy, seed=address.encode(), hold_packets=8, **UPDATED)
        computer.start(0.0)
        return computer

    def send(self, sender: Computer, source: str, destination: str) -> list[bytes]:
        """A packet of a user, and all that follows; what has come out at the other end."""
        burst = Burst(1).load([bytes(IP(src=source, dst=destination) / UDP(sport=40001, dport=40002))])
        return self._carry(sender, burst) + self.settle()

    def settle(self) -> list[bytes]:
        come: list[bytes] = []
        moved = True
        while moved:
            moved = False
            for computer in (self.gate, *self.inside.values()):
                for upcall in computer.driver.upcalls():
                    computer.upcall(self.now, upcall)
                    moved = True
                for packet in computer.take_packets():
                    self.now += 0.001
                    receiver, packet = self._translated(computer, packet)
                    receiver.datagram(self.now, packet)
                    moved = True
                held = Burst(8)
                if computer.driver.release(held, self.now):
                    come += self._carry(computer, held)
                    moved = True
        return come

    def _carry(self, sender: Computer, burst: Burst) -> list[bytes]:
        come: list[bytes] = []
        sender.driver.outbound(burst, self.now)
        for number in range(len(burst)):
            if burst.status[number] == Status.PROTECTED:
                receiver, packet = self._translated(sender, burst.packet(number))
                arrived = Burst(1).load([packet])
                if receiver.driver.inbound(arrived, self.now):
                    come += arrived.packets()
        return come

    def _translated(self, sender: Computer, packet: bytes) -> tuple[Computer, bytes]:
        layer = IP(packet)
        del layer.chksum, layer[UDP].chksum
        if sender is not self.gate:
            layer[UDP].sport += self.port[layer.src] - 4500
            layer.src = PUBLIC
            return self.gate, bytes(layer)
        host, shift = next((h, p - 4500) for h, p in self.port.items() if layer[UDP].dport - p in (0, 500 - 4500))
        layer.dst = host
        layer[UDP].dport -= shift
        return self.inside[host], bytes(layer)


def test_two_behind_one_nat_change_places() -> None:
    """A NAT that begins anew may give each the port of the other: what is for one does not go to the other."""
    lab = Branches()
    one, two = lab.inside.values()

    def all_arrive() -> bool:
        ways = ((one, "10.1.0.1", "10.9.0.1"), (two, "10.2.0.1", "10.9.0.1"))
        back = [(lab.gate, there, here) for _, here, there in ways]
        return all(len(lab.send(*way)) == 1 for way in (*ways, *back))

    assert all_arrive()
    lab.port = dict(zip(lab.port, reversed(lab.port.values()), strict=True))
    assert all_arrive()
    assert [main.port for main in lab.gate._engine.main_modes()] == [20012, 20011]


def test_of_two_behind_one_nat_the_right_one_hears_of_an_end() -> None:
    lab = Branches()
    for host, source in zip(lab.inside.values(), ("10.1.0.1", "10.2.0.1"), strict=True):
        assert len(lab.send(host, source, "10.9.0.1")) == 1
    ((_, first), _) = lab.gate._pairs.items()
    lab.gate._engine.delete_child(lab.now, first.inbound_spi)
    lab.gate.timer(lab.now)
    lab.settle()
    assert [len(host.associations()) for host in lab.inside.values()] == [0, 2]


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
