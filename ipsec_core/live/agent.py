"""One computer in real time: sockets, TUN device and state directory around a `Computer`.

One thread does everything. Where asyncio would wait for events, the packet loop (C) waits in its place and moves
packets without the interpreter; what it leaves to Python are IKE datagrams, questions of the driver and timers.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import tomllib
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from ipsec_core.computer import udp
from ipsec_core.computer.audit import AuditPolicy
from ipsec_core.computer.computer import Computer
from ipsec_core.errors import AgentError, IpsecError, PolicyError
from ipsec_core.live import devices, network
from ipsec_core.live.loop import Clock, PacketSelector
from ipsec_core.live.mtu import clear_mtu
from ipsec_core.live.storage import StateDirectory
from ipsec_core.policy.model import Policy
from ipsec_core.policy.toml import policy_from_table

# Datagrams of port 500 before packets get theirs.
_DATAGRAMS = 32
_AUDIT = AuditPolicy(frozenset({("logon_events", True), ("logon_events", False)}))
_IP_HEADER, _UDP_HEADER = 20, 8


@dataclass(frozen=True, slots=True)
class Settings:
    """What `ipsec-core agent` is told. `interval`: seconds between two writings of the state directory."""

    state: Path
    policy: Path
    listen: IPv4Address
    tun: str = "ipsec0"
    name: str = ""
    profile: str = "windows-2000"
    key_log: bool = False
    interval: float = 5.0
    udp: bool = False


def load_policy(path: Path) -> Policy:
    """The policy in a TOML file."""
    try:
        return policy_from_table(tomllib.loads(path.read_text(encoding="utf-8")), str(path))
    except OSError as error:
        raise PolicyError(f"{path}: {error.strerror}; accepted: a policy file (TOML)") from None
    except UnicodeDecodeError:
        raise PolicyError(f"{path}: not UTF-8 text; accepted: a policy file (TOML)") from None
    except tomllib.TOMLDecodeError as error:
        raise PolicyError(f"{path}: not TOML: {error}") from None


class Agent:
    """Use it in a `with` statement: all that it takes of the machine is given back at the end."""

    def __init__(self, settings: Settings, report: Callable[[str], None]) -> None:
        """`report` gets one line for each thing that a watcher should know."""
        self.settings = settings
        self._report = report
        self._clock = Clock()
        self._policy = load_policy(settings.policy)
        self.computer = Computer(
            settings.name or socket.gethostname(),
            settings.listen,
            self._policy,
            seed=os.urandom(32),
            profile=settings.profile,
            audit=_AUDIT,
            key_log=settings.key_log,
        )
        self._timer: asyncio.TimerHandle | None = None
        self._stopped = asyncio.Event()
        self._failure: AgentError | None = None
        self._keys = 0
        self._resources = ExitStack()

    def __enter__(self) -> Agent:
        try:
            self._open()
        except BaseException:
            self._resources.close()
            raise
        return self

    def __exit__(self, *unused: object) -> None:
        self._resources.close()

    def _open(self) -> None:
        settings, keep = self.settings, self._resources
        self.computer.start(self._clock())
        self._directory = StateDirectory(settings.state)
        keep.callback(self._directory.close)
        ike = {port: devices.open_udp(settings.listen, port) for port in (devices.IKE_PORT, devices.NAT_T_PORT)}
        raw = [devices.open_raw(settings.listen, number) for number in (50, 51)] + [devices.open_sender()]
        for made in (*ike.values(), *raw):
            keep.callback(made.close)
        tun = devices.open_tun(settings.tun)
        keep.callback(os.close, tun)
        self._ike = ike
        self._network = network.Network(settings.tun, network.link_of(settings.listen))
        keep.callback(self._network.down)
        self._network.up(self._mtu(), self._routes())
        self._selector = PacketSelector(
            self.computer.driver,
            settings.listen,
            self._clock,
            self._work,
            tun=tun,
            udp=ike[devices.NAT_T_PORT].fileno(),
            esp=raw[0].fileno(),
            ah=raw[1].fileno(),
            raw=raw[2].fileno(),
            mtu=self._network.link.mtu,
        )

    def _mtu(self) -> int:
        udp_possible = self.settings.udp or self.settings.profile == "modern"
        return clear_mtu(self._policy, self._network.link.mtu, udp=udp_possible)

    def _routes(self) -> tuple[network.Route, ...]:
        active = self.computer.agent.active
        return network.routes(active.filters if active else (), network.addresses())

    # The run

    def run(self) -> None:
        """Until SIGTERM or SIGINT. AgentError when the TUN device is taken away."""
        loop = asyncio.SelectorEventLoop(self._selector)
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopped.set)
        loop.add_reader(self._ike[devices.IKE_PORT].fileno(), self._datagrams)
        self._settle()
        self._write()
        self._report(
            f"{self.computer.name}: listening on {self.settings.listen}, traffic through {self.settings.tun} "
            f"(MTU {self._mtu()}), state in {self.settings.state}"
        )
        writer = asyncio.create_task(self._keep_writing())
        try:
            await self._stopped.wait()
        finally:
            writer.cancel()
            loop.remove_reader(self._ike[devices.IKE_PORT].fileno())
        self._stop()
        if self._failure is not None:
            raise self._failure

    def _work(self, datagrams: list[bytes], gone: bool) -> None:
        """What the packet loop has left: IKE datagrams of port 4500 and questions of the driver."""
        for packet in datagrams:
            self.computer.datagram(self._clock(), packet)
        for upcall in self.computer.driver.upcalls():
            self.computer.upcall(self._clock(), upcall)
        self._settle()
        if gone and not self._stopped.is_set():
            self._failure = AgentError(f"TUN device {self.settings.tun}: somebody has removed it")
            self._stopped.set()

    def _datagrams(self) -> None:
        """IKE on port 500, as the packets that a computer takes."""
        for _ in range(_DATAGRAMS):
            try:
                data, (address, port) = self._ike[devices.IKE_PORT].recvfrom(65535)
            except OSError:
                break
            packet = udp.build(IPv4Address(address), self.settings.listen, port, devices.IKE_PORT, data, 0)
            self.computer.datagram(self._clock(), packet)
        self._settle()

    def _due(self) -> None:
        self._timer = None
        self.computer.timer(self._clock())
        self._settle()

    def _settle(self) -> None:
        """Sends what the computer wants to send, gives new SAs their path MTU, and sets its timer."""
        for packet in self.computer.take_packets():
            self._send(packet)
        keys = self.computer.driver.counters()["key_additions"]
        if keys != self._keys:
            self._keys = keys
            for sa in self.computer.driver.sas():
                if sa.direction == "out" and not sa.path_mtu and sa.protocol != "none":
                    self.computer.driver.set_path_mtu(sa.handle, self._network.link.mtu)
            self._selector.release()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        wanted = self.computer.next_timer()
        if wanted is not None:
            delay = max(wanted - self._clock(), 0.0)
            self._timer = asyncio.get_running_loop().call_later(delay, self._due)

    def _send(self, packet: bytes) -> None:
        """An IKE datagram leaves by its socket, which makes headers of its own. One that cannot be sent is lost."""
        source_port, port = (int.from_bytes(packet[at : at + 2]) for at in (_IP_HEADER, _IP_HEADER + 2))
        destination = str(IPv4Address(packet[16:20]))
        try:
            self._ike[source_port].sendto(packet[_IP_HEADER + _UDP_HEADER :], (destination, port))
        except OSError as error:
            self._report(f"{self.computer.name}: IKE to {destination}: {error.strerror}")

    # The state directory

    async def _keep_writing(self) -> None:
        while True:
            await asyncio.sleep(self.settings.interval)
            self._write()

    def _write(self) -> None:
        try:
            self._directory.write(self.computer.snapshot(self._clock()).image())
        except (OSError, IpsecError) as error:
            self._report(f"{self.computer.name}: {self.settings.state}: the state cannot be written: {error}")

    def _stop(self) -> None:
        self.computer._engine.close(self._clock())
        self.computer._settle(self._clock())
        for packet in self.computer.take_packets():
            self._send(packet)
        self._write()
