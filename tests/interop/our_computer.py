"""Our computer on real sockets in a namespace, driven by the test's own thread: an owner of `Computer`, no more.

UDP 500 and 4500 for IKE; raw sockets for protocols 50 and 51, which also keep the kernel from answering ESP and AH with
"protocol unreachable". Packets of users are made and taken here, the namespace routes none.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from ipaddress import IPv4Address
from typing import Any

from namespaces import OUR_ADDRESS, OUR_HOST, PEER_ADDRESS, PEER_HOST, Namespace
from scapy.layers.inet import ICMP, IP
from scapy.packet import Raw

from ipsec_core.computer import udp
from ipsec_core.computer.audit import AuditPolicy
from ipsec_core.computer.computer import Computer
from ipsec_core.computer.eventlog import Event
from ipsec_core.driver import PASSES, Burst, Status
from ipsec_core.policy.model import Policy
from ipsec_core.policy.toml import policy_from_table

ESP, AH = 50, 51
IKE_PORTS = (500, 4500)
HELD_PACKETS = 4
PING_SECONDS = 0.3
ECHO_ID, ECHO_DATA = 7, bytes(range(56))
MTU = 2048


def policy(
    main_mode: Iterable[str],
    quick_mode: Iterable[str],
    authentication: Mapping[str, str],
    *,
    tunnel: bool = False,
    ours: str = OUR_ADDRESS,
    peer: str = PEER_ADDRESS,
    hosts: tuple[str, str] = (OUR_HOST, PEER_HOST),
    pfs: bool = False,
    **key_exchange: int,
) -> Policy:
    """Everything between `ours` and `peer` is protected, or with `tunnel` what goes between the hosts behind them."""
    action = {"negotiate": list(quick_mode), "pfs": pfs}
    rest = {"action": action, "authentication": [dict(authentication)]}
    rules: list[dict[str, object]] = [{"name": "Peer", "filters": [{"source": "me", "destination": peer}], **rest}]
    if tunnel:
        rules = [
            {"name": name, "filters": [{"source": here, "destination": there}], "tunnel_endpoint": gateway, **rest}
            for name, here, there, gateway in (("Out", *hosts, peer), ("In", *reversed(hosts), ours))
        ]
    exchange = {"methods": list(main_mode), **key_exchange}
    return policy_from_table({"name": "Interop", "key_exchange": exchange, "rules": rules}, "policy")


class OurComputer:
    """`computer` at `address`, its sockets inside `space`. Times are those of the system's clock."""

    def __init__(
        self, space: Namespace, policy: Policy, *, address: str = OUR_ADDRESS, seed: bytes = b"ours", **options: Any
    ) -> None:
        self.address, self.policy = address, policy
        self.computer = Computer(
            "OURS",
            IPv4Address(address),
            policy,
            seed=seed,
            audit=AuditPolicy.from_table({"logon_events": ["success", "failure"]}, "audit"),
            hold_packets=HELD_PACKETS,
            key_log=True,
            **{"profile": "modern", **options},
        )
        self.computer.start(time.time())
        self.received: list[IP] = []
        self.refused: list[Status] = []
        self.first = 0.0, b""
        """When the first packet of a user went out, and that packet."""
        self.sent: list[bytes] = []
        """The IKE messages, as they went out."""
        self.loses: Callable[[bytes], bool] = lambda data: False
        """Which of them get lost on the way."""
        self._answers: set[int] = set()
        self._sequence = 0
        with space.entered():
            self._ports = {port: socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for port in IKE_PORTS}
            self._raw = {
                number: socket.socket(socket.AF_INET, socket.SOCK_RAW, number)
                for number in (ESP, AH, socket.IPPROTO_RAW)
            }
        for port, made in self._ports.items():
            made.bind((address, port))

    def close(self) -> None:
        for made in (*self._ports.values(), *self._raw.values()):
            made.close()

    def stop(self) -> None:
        """Ends everything and tells the peers."""
        self.computer.stop(time.time())
        self.settle()

    # What users of the computer do

    def ping(self, source: str = OUR_ADDRESS, destination: str = PEER_ADDRESS) -> int:
        """Sends an echo request, protected or held as the policy wants; its number."""
        self._sequence += 1
        request = ICMP(type=8, id=ECHO_ID, seq=self._sequence) / Raw(ECHO_DATA)
        self._outbound(bytes(IP(src=source, dst=destination, id=self._sequence) / request))
        return self._sequence

    def answered(self, number: int) -> bool:
        """Whether the echo reply to `ping` has come, protected as the policy wants, with the data that was sent."""
        return number in self._answers

    def _outbound(self, packet: bytes) -> None:
        if not self.first[0]:
            self.first = time.time(), packet
        burst = Burst(1, MTU).load([packet])
        self.computer.driver.outbound(burst, time.time())
        self._transmit(burst)
        self.settle()

    def _transmit(self, burst: Burst) -> None:
        for number, status in enumerate(map(Status, burst.status)):
            if status in PASSES:
                packet = burst.packet(number)
                self._raw[socket.IPPROTO_RAW].sendto(packet, (socket.inet_ntoa(packet[16:20]), 0))

    # What the network and the clock do

    def settle(self) -> None:
        """Carries out what waits inside."""
        now = time.time()
        computer = self.computer
        if (timer := computer.next_timer()) is not None and timer <= now:
            computer.timer(now)
        for upcall in computer.driver.upcalls():
            computer.upcall(now, upcall)
        for packet in computer.take_packets():
            header = (packet[0] & 15) * 4
            ports = [int.from_bytes(packet[at : at + 2]) for at in (header, header + 2)]
            data = packet[header + 8 :]
            self.sent.append(data)
            if not self.loses(data):
                self._ports[ports[0]].sendto(data, (socket.inet_ntoa(packet[16:20]), ports[1]))
        burst = Burst(HELD_PACKETS, MTU)
        if computer.driver.release(burst, now):
            computer.driver.outbound(burst, now)
            self._transmit(burst)

    def sockets(self) -> list[socket.socket]:
        return [*self._ports.values(), self._raw[ESP], self._raw[AH]]

    def wait_seconds(self) -> float:
        timer = self.computer.next_timer()
        return 0.1 if timer is None else min(0.1, max(0.0, timer - time.time()))

    def receive(self, ready: socket.socket) -> None:
        if ready in (self._raw[ESP], self._raw[AH]):
            self._inbound(ready.recv(MTU))
        else:
            data, (address, port) = ready.recvfrom(65_535)
            local = ready.getsockname()[1]
            packet = udp.build(IPv4Address(address), IPv4Address(self.address), port, local, data, 0)
            if local == 500 or data[:4] == bytes(4):
                self.computer.datagram(time.time(), packet)
            else:
                self._inbound(packet)

    def _inbound(self, packet: bytes) -> None:
        burst = Burst(1, MTU).load([packet])
        self.computer.driver.inbound(burst, time.time())
        status = Status(burst.status[0])
        if status in PASSES:
            self._deliver(IP(burst.packet(0)))
        else:
            self.refused.append(status)

    def _deliver(self, packet: IP) -> None:
        self.received.append(packet)
        if ICMP not in packet:
            return
        echo = packet[ICMP]
        if echo.type == 8:
            reply = ICMP(type=0, id=echo.id, seq=echo.seq) / echo.payload
            self._outbound(bytes(IP(src=packet.dst, dst=packet.src) / reply))
        elif (echo.type, echo.id, bytes(echo.payload)) == (0, ECHO_ID, ECHO_DATA):
            self._answers.add(echo.seq)

    # What a test asks

    @property
    def events(self) -> list[Event]:
        return list(self.computer.log.events())

    def audits(self, number: int) -> list[str]:
        """The text of every event with this number, oldest first."""
        return [event.text for event in self.events if event.event_id == number]


def converse(pinger: Any, others: Iterable[Any], source: str, destination: str, seconds: float = 10.0) -> None:
    """Echo requests from `pinger` until one is answered: the first may come before the peer has installed its SA."""
    numbers: list[int] = []
    begun = time.monotonic()

    def answered() -> bool:
        if time.monotonic() - begun >= len(numbers) * PING_SECONDS:
            numbers.append(pinger.ping(source, destination))
        return any(pinger.answered(number) for number in numbers)

    run([pinger, *others], answered, f"ping from {source} to {destination}", seconds)


def run(owners: Iterable[OurComputer], until: Callable[[], object], what: str, seconds: float = 15.0) -> None:
    """Lets the computers work until something is so; TimeoutError, with their event logs, when it does not come."""
    running = list(owners)
    end = time.monotonic() + seconds
    while not until():
        if time.monotonic() > end:
            told = "\n".join(f"{event.event_id} {event.text}" for owner in running for event in owner.events)
            raise TimeoutError(f"{what}: not within {seconds} s\n{told}")
        by_socket = {made: owner for owner in running for made in owner.sockets()}
        ready, _, _ = select.select(list(by_socket), [], [], min(owner.wait_seconds() for owner in running))
        for made in ready:
            by_socket[made].receive(made)
            by_socket[made].settle()  # IKE's last message goes out before what it allows
        for owner in running:
            owner.settle()
