"""A world in virtual time: computers, Ethernet links, recorded traffic.

    world = World(seed=7)
    a = world.computer("ALICE", "10.0.0.1", policy=policy)
    b = world.computer("BOB", "10.0.0.2", policy=policy)
    world.link(a, b, rate="1Gbit/s", delay="5us")
    world.replay("traffic.pcap", a, b)
    world.run()

The same seed gives the same packets at the same nanoseconds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv4Address, IPv4Network
from itertools import count
from os import PathLike

from ipsec_core.computer.audit import AuditPolicy
from ipsec_core.computer.computer import Computer
from ipsec_core.computer.credentials import CertificateStore
from ipsec_core.computer.state import State
from ipsec_core.errors import DirectoryError, ScenarioError, TrafficError
from ipsec_core.ike import IkeOptions, Kerberos
from ipsec_core.policy.agent import Directory
from ipsec_core.policy.model import Policy
from ipsec_core.sim._world import NEVER, Capture, Trace, VirtualTime
from ipsec_core.sim.realm import DEFAULT_EPOCH, Realm
from ipsec_core.sim.units import parse_duration, parse_rate

DEFAULT_REACTION = "1ms"
DEFAULT_RATE = "1Gbit/s"
DEFAULT_DELAY = "5us"
DEFAULT_MTU = 1500
# Packets between two calls of a progress function: a few hundredths of a second.
PROGRESS_PACKETS = 20_000
_MINIMUM_PACKET = 2048


@dataclass(frozen=True, slots=True)
class Link:
    """A full-duplex Ethernet link.

    Rate in bits/s, propagation delay in ns, MTU in bytes of layer 3, NIC queue in bytes (0: default).
    """

    a: int
    b: int
    rate: int
    delay: int
    mtu: int
    queue: int


class World:
    """See the module. `reaction`: what ISAKMP/Oakley needs to answer a datagram or a question of the driver, > 0."""

    def __init__(self, *, seed: int = 0, reaction: str = DEFAULT_REACTION, burst: int = 64) -> None:
        self.seed = seed
        self.reaction = parse_duration(reaction, "reaction")
        if self.reaction == 0:
            raise ScenarioError(
                "reaction: '0s' is not possible; accepted: 1ns or more (it is the lookahead of the simulation)"
            )
        self.burst = burst
        self.computers: list[Computer] = []
        self.links: list[Link] = []
        self._directories: dict[int, Directory] = {}  # of the nodes in a domain
        self.trace: Trace | None = None
        self._replay = (1, 0, False)
        self._captures: dict[int, str] = {}
        self._time: VirtualTime | None = None
        self._started = False
        self._scheduled: dict[int, tuple[int, int]] = {}  # node -> (time, token) of its timer in the queue
        self._token = 0
        self._steps: list[tuple[int, int, Callable[[float], None]]] = []  # time, node, what to do

    def computer(
        self,
        name: str,
        address: str | IPv4Address,
        policy: Policy | None = None,
        *,
        profile: str = "windows-2000",
        options: IkeOptions | None = None,
        high_encryption: bool = True,
        certificates: CertificateStore | None = None,
        kerberos: Kerberos | None = None,
        directory: Directory | None = None,
        domain: str = "",
        state: State | None = None,
        audit: AuditPolicy | None = None,
        registry: Mapping[str, object] | None = None,
        hold_packets: int = 0,
        backend: str | None = None,
        key_log: bool = False,
    ) -> Computer:
        """Adds a computer with one NIC; see `Computer`. `directory` has the policies of its `domain`, a name."""
        seed = hashlib.sha256(f"{self.seed} {name}".encode()).digest()
        made = Computer(
            name,
            IPv4Address(address),
            policy,
            seed=seed,
            profile=profile,
            options=options,
            high_encryption=high_encryption,
            certificates=certificates,
            kerberos=kerberos,
            domain=domain or ("Active Directory" if directory else ""),
            state=state,
            audit=audit,
            registry=registry,
            hold_packets=hold_packets,
            backend=backend,
            key_log=key_log,
        )
        if directory is not None:
            self._directories[len(self.computers)] = directory
        self.computers.append(made)
        return made

    def realm(self, name: str, epoch: datetime = DEFAULT_EPOCH) -> Realm:
        """A Kerberos realm; hand `realm.join(NAME)` to the computers that are its members. `epoch` is second 0."""
        numbers = count()

        def random(size: int) -> bytes:
            return hashlib.shake_256(f"{self.seed} {name} {next(numbers)}".encode()).digest(size)

        return Realm(name, lambda: self.now, random, epoch)

    def link(
        self,
        a: Computer,
        b: Computer,
        *,
        rate: str = DEFAULT_RATE,
        delay: str = DEFAULT_DELAY,
        mtu: int = DEFAULT_MTU,
        queue: int = 0,
    ) -> int:
        """Joins two computers and returns the link's number.

        `queue`: bytes that wait in a NIC before its traffic source pauses.
        """
        ends = self.computers.index(a), self.computers.index(b)
        self.links.append(Link(*ends, parse_rate(rate, "rate"), parse_duration(delay, "delay"), mtu, queue))
        return len(self.links) - 1

    def replay(
        self,
        traffic: str | PathLike[str] | Trace,
        *ends: Computer,
        hosts: Sequence[tuple[IPv4Network, Computer]] = (),
        gateways: bool = False,
        repeat: int = 1,
        pause: str = "0s",
        as_fast_as_possible: bool = False,
    ) -> None:
        """Replays a capture (pcap, pcapng).

        The two hosts with most packets between them become the two `ends` (the lower address the first one), or `hosts`
        says which networks of the capture belong to which computer. As hosts, the computers' addresses replace those of
        the capture; as `gateways` the packets travel unchanged between the two. TrafficError when there is nothing to
        replay.
        """
        trace = traffic if isinstance(traffic, Trace) else Trace(traffic)
        if not hosts:
            hosts = self._busiest(trace, ends)
        trace.map(
            [(network, self.computers.index(c), None if gateways else c.address) for network, c in hosts],
            not gateways,
        )
        if trace.stats()["mapped"] == 0:
            raise TrafficError(f"{trace.path}: no packets between the hosts given; nothing to replay")
        self.trace = trace
        self._replay = (repeat, parse_duration(pause, "pause"), as_fast_as_possible)

    def _busiest(self, trace: Trace, ends: Sequence[Computer]) -> list[tuple[IPv4Network, Computer]]:
        """The two IPv4 hosts, or without any the two stations (by MAC address), with most packets between them."""
        conversations = trace.conversations(1)
        if conversations:
            a, b = conversations[0][:2]
            return [(IPv4Network(a), ends[0]), (IPv4Network(b), ends[1])]
        stations = trace.stations(1)
        if not stations:
            raise TrafficError(f"{trace.path}: no packets between two hosts; nothing to replay")
        for mac, end in zip(stations[0][:2], ends, strict=True):
            trace.assign(mac, self.computers.index(end))
        return []

    def at(self, seconds: float, made: Computer, do: Callable[[float], None]) -> None:
        """Has something done to a computer at a time of the world: `do(seconds)`, which may be `made.restart_agent`.

        The world runs until then, at least. What is to be done at the same time is done in the order of the calls.
        """
        step = (round(seconds * 1e9), self.computers.index(made), do)
        self._steps.append(step)
        if self._time is not None:
            self._time.step(step[0], step[1], len(self._steps) - 1)

    def capture(self, link: int, path: str | PathLike[str]) -> None:
        """Writes what crosses the link to a pcapng file, stamped with the nanosecond of the first bit."""
        self._captures[link] = str(path)

    @property
    def time(self) -> VirtualTime:
        """The native world; made at the first use, when all computers, links and traffic are known."""
        if self._time is None:
            self._time = self._build()
        return self._time

    @property
    def now(self) -> float:
        """Seconds since the start."""
        return self.time.now / 1e9

    def _build(self) -> VirtualTime:
        longest = self.trace.stats()["max_l3"] if self.trace else 0
        time = VirtualTime(self.reaction, self.burst, min(max(longest, _MINIMUM_PACKET), 65535))
        for made in self.computers:
            time.add_node(made.driver, made.address, b"\x02\x00" + made.address.packed)
        for link in self.links:
            time.add_link(link.a, link.b, link.rate, link.delay, link.mtu, link.queue)
        if self.trace:
            time.set_trace(self.trace, *self._replay)
        for number, (at, node, _) in enumerate(self._steps):
            time.step(at, node, number)
        return time

    def run(self, until: float | None = None, progress: Callable[[], None] | None = None) -> float:
        """Runs until all traffic has arrived, every negotiation has ended and every step is done, or until `until`.

        `until` and the time that is returned are in seconds.
        `progress` is called every `PROGRESS_PACKETS` packets; an exception of it ends the run.
        """
        time = self.time
        captures = self._open_captures(time)
        try:
            if not self._started:
                self._started = True
                for node, made in enumerate(self.computers):
                    made.start(0.0)
                    self._settle(node, made)
            self._loop(time, NEVER if until is None else round(until * 1e9), progress)
        finally:
            for link, capture in captures:
                time.stop_capture(link)
                capture.close()
        return self.now

    def _open_captures(self, time: VirtualTime) -> list[tuple[int, Capture]]:
        opened = []
        for number, path in self._captures.items():
            link = self.links[number]
            capture = Capture(path, "ipsec_core")
            name = f"{self.computers[link.a].name}-{self.computers[link.b].name}"
            time.capture(number, capture, capture.interface(name, link.rate))
            opened.append((number, capture))
        self._captures.clear()
        return opened

    def _loop(self, time: VirtualTime, until: int, progress: Callable[[], None] | None) -> None:
        while True:
            event = time.run(until, PROGRESS_PACKETS)
            if event[0] == "idle" or event[0] == "until":
                return
            if event[0] == "yield":
                if progress:
                    progress()
                continue
            node = event[1]
            made = self.computers[node]
            if event[0] == "upcall":
                made.upcall(self.now, event[2])
            elif event[0] == "datagram":
                made.datagram(self.now, event[2])
            elif event[0] == "step":
                self._steps[event[2]][2](self.now)
            elif event[2] == self._scheduled.get(node, (0, -1))[1]:
                del self._scheduled[node]
                made.timer(self.now)
            self._settle(node, made)

    def _ask_directory(self, node: int, made: Computer) -> None:
        """Reads the domain's policies when the Policy Agent wants to. A directory takes no virtual time."""
        if node in self._directories and made.service.next_poll is not None and made.service.next_poll <= self.now:
            since = made.service.poll(self.now)
            try:
                made.service.directory_answered(self.now, self._directories[node].read(since))
            except DirectoryError as error:
                made.service.directory_failed(self.now, str(error))

    def settle(self, made: Computer) -> None:
        """To be called after a call of a computer's own between two runs (`restart_agent`, `update_policy`, `stop`)."""
        self._settle(self.computers.index(made), made)

    def _settle(self, node: int, made: Computer) -> None:
        """Sends what the computer wants to send and keeps one timer of it in the queue.

        Older ones are known by their number and ignored.
        """
        self._ask_directory(node, made)
        for packet in made.take_packets():
            self.time.send(node, packet)
        wanted = min((at for at in (made.next_timer(), made.service.next_poll) if at is not None), default=None)
        if wanted is None:
            self._scheduled.pop(node, None)
            return
        at = max(round(wanted * 1e9), self.time.now + 1)
        before = self._scheduled.get(node)
        if before is None or before[0] != at:
            self._token += 1
            self._scheduled[node] = (at, self._token)
            self.time.timer(at, node, self._token)
