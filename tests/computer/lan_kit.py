"""Any number of computers on one wire, with time that only moves when a test moves it. Clear packets travel, too."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address
from typing import Any

from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.packet import Packet, Raw

from ipsec_core.computer.audit import AuditPolicy
from ipsec_core.computer.computer import Computer
from ipsec_core.driver import PASSES, Burst, Status
from ipsec_core.policy.model import Policy

STEP = 0.001
UDP_PROTOCOL, IKE = 17, b"\x01\xf4"


def echo(source: str, destination: str) -> Packet:
    return IP(src=source, dst=destination) / ICMP() / Raw(b"ping")


def segment(source: str, destination: str, ports: tuple[int, int] = (1025, 80), text: bytes = b"text") -> Packet:
    return IP(src=source, dst=destination) / TCP(sport=ports[0], dport=ports[1]) / Raw(text)


def datagram(source: str, destination: str, ports: tuple[int, int] = (1025, 53), text: bytes = b"text") -> Packet:
    return IP(src=source, dst=destination) / UDP(sport=ports[0], dport=ports[1]) / Raw(text)


class Lan:
    """`policies` by address, `each` the options of one computer.

    `wire` is what was sent, `sent` the status of each packet of users on its way out, and `arrived` what came in: each
    packet with its status.
    """

    def __init__(
        self, policies: Mapping[str, Policy | None], each: Mapping[str, Mapping[str, Any]] | None = None, **options: Any
    ) -> None:
        self.now = 0.0
        self.wire: list[bytes] = []
        self.sent: list[Status] = []
        self.arrived: list[tuple[bytes, Status]] = []
        self.lost = False
        audit = AuditPolicy.from_table({"logon_events": ["success", "failure"]}, "audit")
        self.computers = {
            address: Computer(
                f"HOST{number}",
                IPv4Address(address),
                policy,
                seed=address.encode(),
                audit=audit,
                key_log=True,
                hold_packets=8,
                **options,
                **(each or {}).get(address, {}),
            )
            for number, (address, policy) in enumerate(policies.items())
        }
        for computer in self.computers.values():
            computer.start(0.0)

    def __getitem__(self, address: str) -> Computer:
        return self.computers[address]

    def send(self, packet: Packet) -> tuple[Status, Status | None]:
        """How a packet of a user leaves and, if it does at once, how it comes in; then all that follows happens."""
        self.sent.clear()
        self.arrived.clear()
        self._out(self[packet.src], Burst(1).load([bytes(packet)]))
        first = self.arrived[0][1] if self.arrived else None
        left = self.sent[0]
        self.settle()
        return left, first

    def settle(self) -> None:
        moved = True
        while moved:
            moved = False
            for computer in self.computers.values():
                for upcall in computer.driver.upcalls():
                    self.now += STEP
                    computer.upcall(self.now, upcall)
                    moved = True
                for packet in computer.take_packets():
                    self.now += STEP
                    self.wire.append(packet)
                    moved = True
                    if not self.lost:
                        self[str(IPv4Address(packet[16:20]))].datagram(self.now, packet)
                burst = Burst(8)
                if computer.driver.release(burst, self.now):
                    self._out(computer, burst)
                    moved = True

    def until(self, time: float) -> None:
        """Fires every timer up to `time`."""
        while True:
            due = [(t, n) for n, c in self.computers.items() if (t := c.next_timer()) is not None and t <= time]
            if not due:
                break
            at, address = min(due)
            self.now = max(self.now, at)
            self[address].timer(self.now)
            self.settle()
        self.now = max(self.now, time)

    def ike(self) -> int:
        """IKE datagrams on the wire so far."""
        return sum(packet[9] == UDP_PROTOCOL and packet[22:24] == IKE for packet in self.wire)

    def _out(self, sender: Computer, burst: Burst) -> None:
        sender.driver.outbound(burst, self.now)
        for i in range(len(burst)):
            status = Status(burst.status[i])
            self.sent.append(status)
            if status not in PASSES:
                continue
            packet = burst.packet(i)
            self.wire.append(packet)
            receiver = self.computers.get(str(IPv4Address(packet[16:20])))
            if receiver is not None and not self.lost:
                came = Burst(1).load([packet])
                receiver.driver.inbound(came, self.now)
                self.arrived.append((came.packet(0), Status(came.status[0])))
