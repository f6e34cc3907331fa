"""Two computers and a wire in memory, with time that only moves when a test moves it."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address
from typing import Any

from scapy.layers.inet import IP, UDP
from scapy.packet import Raw

from ipsec_core.computer.audit import AuditPolicy
from ipsec_core.computer.computer import Computer
from ipsec_core.driver import Burst, Status
from ipsec_core.policy.model import Policy
from ipsec_core.policy.toml import policy_from_table

A, B = "10.0.0.1", "10.0.0.2"
AUDITED = {"logon_events": ["success", "failure"]}
STEP = 0.001


def policy(
    *methods: str,
    key: str = "lab",
    authentication: Sequence[object] = (),
    exchange: Sequence[str] = ("3DES-SHA1-2",),
    key_exchange: dict[str, object] | None = None,
    protocol: str = "any",
    tunnel: Sequence[str] = (),
    **action: object,
) -> Policy:
    """All between the two is negotiated; `tunnel`: the own address and the peer's, for two rules of a tunnel."""
    base = {
        "action": {"negotiate": list(methods or ("ESP[AES-128-GCM]",)), **action},
        "authentication": list(authentication) or [{"preshared_key": key}],
    }
    filters = {"source": "me", "destination": "10.0.0.0/24", "protocol": protocol}
    rules: list[dict[str, object]] = [{"name": "All", "filters": [filters], **base}]
    if tunnel:
        ways = [(tunnel[0], tunnel[1]), (tunnel[1], tunnel[0])]
        rules = [{"filters": [{"source": a, "destination": b}], "tunnel_endpoint": b, **base} for a, b in ways]
    table = {"name": "Lab", "key_exchange": {"methods": list(exchange), **(key_exchange or {})}, "rules": rules}
    return policy_from_table(table, "test")


class Pair:
    """Two computers; `settle` carries packets until nobody has any, a millisecond a packet."""

    def __init__(
        self,
        a: Policy | None,
        b: Policy | None,
        *,
        audit: dict[str, object] | None = None,
        key_log: bool = False,
        alice: dict[str, Any] | None = None,
        bob: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        self.now = 0.0
        table = AUDITED if audit is None else audit
        self.a, self.b = (
            Computer(
                name,
                IPv4Address(address),
                given,
                seed=name.encode(),
                audit=AuditPolicy.from_table(table, "audit"),
                key_log=key_log,
                **{"profile": "modern", **options, **(own or {})},
            )
            for name, address, given, own in (("ALICE", A, a, alice), ("BOB", B, b, bob))
        )
        self.clear: list[bytes] = []
        self.soft: list[bytes] = []
        self.delivered: list[bytes] = []
        for computer in (self.a, self.b):
            computer.start(0.0)

    def send(self, size: int, sender: Computer | None = None, *, number: int = 0) -> bytes:
        """One packet of a user from ALICE (or `sender`); it travels at once if it may."""
        sender = sender or self.a
        source, destination = (A, B) if sender is self.a else (B, A)
        packet = bytes(IP(src=source, dst=destination, id=number) / UDP(sport=40001, dport=40002) / Raw(bytes(size)))
        self._out(sender, Burst(1).load([packet]))
        self.settle()
        return packet

    def settle(self) -> None:
        moved = True
        while moved:
            moved = False
            for computer, peer in ((self.a, self.b), (self.b, self.a)):
                for upcall in computer.driver.upcalls():
                    self.now += STEP
                    computer.upcall(self.now, upcall)
                    moved = True
                for packet in computer.take_packets():
                    self.now += STEP
                    peer.datagram(self.now, self.carry(computer, packet))
                    moved = True
                burst = Burst(8)
                if computer.driver.release(burst, self.now):
                    self._out(computer, burst)
                    moved = True

    def until(self, time: float) -> None:
        """Fires every timer up to `time`."""
        while True:
            due = [(t, c) for c in (self.a, self.b) if (t := c.next_timer()) is not None and t <= time]
            if not due:
                break
            at, computer = min(due, key=lambda item: item[0])
            self.now = max(self.now, at)
            computer.timer(self.now)
            self.settle()
        self.now = max(self.now, time)

    def _out(self, sender: Computer, burst: Burst) -> None:
        sender.driver.outbound(burst, self.now)
        receiver = self.b if sender is self.a else self.a
        for i in range(len(burst)):
            if burst.status[i] == Status.PROTECTED:
                arrived = Burst(1).load([self.carry(sender, burst.packet(i))])
                receiver.driver.inbound(arrived, self.now)
                self.delivered += arrived.packets()
            elif burst.status[i] == Status.NO_FILTER:
                self.clear.append(burst.packet(i))
            elif burst.status[i] == Status.SOFT:
                arrived = Burst(1).load([burst.packet(i)])
                if receiver.driver.inbound(arrived, self.now):
                    self.soft += arrived.packets()

    def carry(self, sender: Computer, packet: bytes) -> bytes:
        """What arrives of a packet; a NAT changes it."""
        return packet

    def audits(self, computer: Computer) -> list[int]:
        return [event.event_id for event in computer.log.events(log="Security")]
