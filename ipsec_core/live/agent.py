"""One computer in real time: sockets, TUN device and state directory around a `Computer`.

One thread does everything. Where asyncio would wait for events, the packet loop (C) waits in its place and moves
packets without the interpreter; what it leaves to Python are IKE datagrams, questions of the driver and timers.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from ipsec_core.computer import udp
from ipsec_core.computer.audit import AuditPolicy
from ipsec_core.computer.certificates import MachineStore
from ipsec_core.computer.computer import Computer
from ipsec_core.computer.kerberos import MachineKerberos
from ipsec_core.computer.profiles import MODERN, profile_of
from ipsec_core.driver import UpcallKind
from ipsec_core.errors import AgentError, IpsecError, PolicyError
from ipsec_core.ike import IkeOptions
from ipsec_core.live import devices, network
from ipsec_core.live.control import Answer, Control
from ipsec_core.live.directory import open_state
from ipsec_core.live.domain import DomainWatch
from ipsec_core.live.guard import guarded
from ipsec_core.live.loop import Clock, PacketSelector
from ipsec_core.live.mtu import clear_mtu
from ipsec_core.live.paths import Paths
from ipsec_core.policy.agent import ActivePolicy, Directory
from ipsec_core.policy.compile import DriverFilter
from ipsec_core.policy.dynamic_rules import DynamicRules
from ipsec_core.policy.model import Policy
from ipsec_core.policy.toml import policy_from_table, read_toml

# Seconds that what was written may wait to be seen by others.
_COMMIT = 1.0
# Datagrams of port 500 before packets get their turn.
_DATAGRAMS = 32
_AUDIT = AuditPolicy(frozenset({("logon_events", True), ("logon_events", False)}))
_IP_HEADER, _UDP_HEADER = 20, 8
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Settings:
    """What `ipsec-core agent` is told.

    `policy`: a file with the local policy; None: the one that is assigned in the registry of the state directory.
    `directory`: where the computer's `domain` (a name for people) keeps its policies, which go before the local one.
    `name`: that of the computer, empty for the one in the state directory, or the host's. `interval`: seconds between
    two writings of the state directory. `udp`: pretend a NAT, so that ESP goes in UDP. `certificates`: a folder as
    `MachineStore.load_folder` reads it. `kerberos`: the computer's principal and its key tab.
    """

    state: Path
    policy: Path | None
    listen: IPv4Address
    tun: str = "ipsec0"
    name: str = ""
    profile: str = "windows-2000"
    key_log: bool = False
    trace: bool = False
    udp: bool = False
    interval: float = 5.0
    certificates: Path | None = None
    kerberos: tuple[str, Path] | None = None
    domain: str = ""
    directory: Directory | None = field(default=None, repr=False)

    def options(self) -> IkeOptions:
        """What the computer's IKE does: as its profile, or with ESP in UDP in any case."""
        options = profile_of(self.profile).options
        if not self.udp:
            return options
        dialects = options.nat_traversal or MODERN.options.nat_traversal
        return replace(options, nat_traversal=dialects, pretend_nat=True)


def load_policy(path: Path) -> Policy:
    """The policy in a TOML file."""
    return policy_from_table(read_toml(path, "a policy file", PolicyError), str(path))


def _dynamic_rules(active: ActivePolicy[Any] | None) -> int:
    """How many are in effect beside the policy."""
    return sum(len(pushed.rules) for pushed in active.pushed.values()) if active else 0


class Agent:
    """Use it in a `with` statement: all that it takes of the machine is given back at the end."""

    def __init__(
        self,
        settings: Settings,
        report: Callable[[str], None],
        *,
        write_keys: Callable[[Path, Computer], None] | None = None,
    ) -> None:
        """`report` gets one line for each thing that a watcher should know; `write_keys` the state directory whenever
        it is written, if `settings.key_log` says so."""
        self.settings = settings
        self._say = report
        self._write_keys = write_keys if settings.key_log else None
        self._clock = Clock()
        self._options = settings.options()
        self._timer: asyncio.TimerHandle | None = None
        self._stopped = asyncio.Event()
        self._failure: AgentError | None = None
        self._faults: set[str] = set()  # why the state could not be written since it last was
        self._changing = asyncio.Lock()
        self._worker = ThreadPoolExecutor(1)
        self._tasks: set[asyncio.Task[None]] = set()
        self._keys = -1
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
        keep.callback(self._worker.shutdown)
        given = self._given()
        folder = settings.certificates
        certificates = None if folder is None else MachineStore.load_folder(folder, epoch=_EPOCH)
        self._ike = {}
        for port in (devices.IKE_PORT, devices.NAT_T_PORT):
            self._ike[port] = keep.enter_context(devices.open_udp(settings.listen, port))
        raw = [keep.enter_context(devices.open_raw(settings.listen, protocol)) for protocol in devices.RAW_PROTOCOLS]
        self._icmp = keep.enter_context(devices.open_icmp(settings.listen))
        link = network.link_of(settings.listen)
        state = keep.enter_context(open_state(settings.state, settings.name, self._say if settings.trace else None))
        self.computer = Computer(
            state.name,
            settings.listen,
            given,
            seed=os.urandom(32),
            domain=settings.domain,
            profile=settings.profile,
            options=self._options,
            certificates=certificates,
            kerberos=MachineKerberos(*settings.kerberos) if settings.kerberos else None,
            audit=_AUDIT,
            registry={"EnableLogging": 1} if settings.trace else None,
            state=state,
            key_log=settings.key_log,
        )
        self.computer.start(self._clock())
        self._paths = Paths(self.computer.driver, settings.listen, link.mtu)
        tun = devices.open_tun(settings.tun)
        keep.callback(os.close, tun)
        self._network = network.Network(settings.tun, link)
        keep.callback(self._network.down)
        self._network.up(self._mtu(), self._routes())
        self._shown, self._shown_version = self.computer.agent.active, self._version()
        self._guard()
        self._selector = PacketSelector(
            self.computer.driver,
            settings.listen,
            self._clock,
            self._work,
            tun=tun,
            udp=self._ike[devices.NAT_T_PORT].fileno(),
            esp=raw[0].fileno(),
            ah=raw[1].fileno(),
            raw=raw[2].fileno(),
            mtu=link.mtu,
        )
        keep.callback(self._selector.close)
        self._control = Control(settings.state, self._obey)
        self._watch: DomainWatch | None = None
        if settings.directory is not None:
            self._watch = DomainWatch(
                settings.directory, self.computer.service, self._clock, self._domain_settled, self._report
            )

    def _given(self) -> Policy | None:
        """The policy file as it is now."""
        return None if self.settings.policy is None else load_policy(self.settings.policy)

    def _mtu(self) -> int:
        active, whole = self.computer.agent.active, self._network.link.mtu
        if active is None or active.plan is None:
            return whole
        return clear_mtu(active.plan.policy, whole, udp=bool(self._options.nat_traversal))

    def _routes(self) -> tuple[network.Route, ...]:
        return network.routes(self._filters(), network.addresses())

    def _guard(self) -> None:
        fault = self._network.guard(guarded(self._filters(), self.settings.listen))
        if fault is not None:
            self._report(f"packets that come in clear are not checked: {fault}")

    def _filters(self) -> tuple[DriverFilter, ...]:
        """All that are in effect, with those of the default response rule."""
        active = self.computer.agent.active
        return tuple(active.plan.all_filters().values()) if active and active.plan else ()

    def _version(self) -> int:
        active = self.computer.agent.active
        return active.plan.dynamic.version if active and active.plan else 0

    def _report(self, text: str) -> None:
        self._say(f"{self.computer.name}: {text}")

    # The run

    def run(self) -> None:
        """Until SIGTERM or SIGINT; SIGHUP reads the policy anew. AgentError when the TUN device is taken away."""
        with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(self._selector)) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopped.set)
        loop.add_signal_handler(signal.SIGHUP, lambda: self._begin(self._hang_up()))
        loop.add_reader(self._ike[devices.IKE_PORT], self._datagrams)
        loop.add_reader(self._icmp, self._messages)
        await self._control.open()
        self._settle()
        self._write(self._snapshot)
        self._begin(self._keep_writing())
        self._begin(self._keep_committing())
        policy = self._shown.policy if self._shown else None
        for line in policy.warnings() if policy else ("no IPsec policy is in effect",):
            self._report(f"policy {policy.name!r}, {line}" if policy else line)
        self._report(
            f"listening on {self.settings.listen}, traffic through {self.settings.tun} (MTU {self._mtu()}), "
            f"state in {self.settings.state}"
        )
        await self._stopped.wait()
        await self._control.close()
        for task in self._tasks:
            task.cancel()
        if self._watch:
            self._watch.close()
        loop.remove_reader(self._ike[devices.IKE_PORT])
        loop.remove_reader(self._icmp)
        self.computer.stop(self._clock())
        self._settle()
        self._write(self._snapshot)
        if self._failure is not None:
            raise self._failure
        self._report("stopped")

    def _begin(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # The Policy Agent

    async def _hang_up(self) -> None:
        answer = await self._obey({"do": "update"})
        if "error" in answer:
            self._report(f"the policy stays as it was: {answer['error']}")

    async def _obey(self, order: dict[str, Any]) -> Answer:
        """What `live.control` is asked to do."""
        do = order.get("do")
        if do == "status":
            return self._status()
        works: dict[str, Callable[[float], None]] = {
            "start": self._start,
            "stop": self._stop,
            "restart": self._restart,
            "update": self._update,
            "push": partial(self._push, order.get("rules")),
        }
        work = works.get(do) if isinstance(do, str) else None
        if work is None:
            return {"error": f"{do!r} is not an order; accepted: status, {', '.join(works)}"}
        try:
            work(self._clock())
        except IpsecError as error:
            return {"error": str(error)}
        finally:
            self._settle()
        await self._follow()
        self._report(self._in_effect())
        self._write(self._snapshot)
        return {"text": self._in_effect()}

    def _start(self, now: float) -> None:
        self.computer.start(now, self._given())

    def _stop(self, now: float) -> None:
        if self.computer.agent.active is None:
            raise PolicyError("the Policy Agent is not running")
        self.computer.stop(now)

    def _restart(self, now: float) -> None:
        self.computer.restart_agent(now, self._given())

    def _update(self, now: float) -> None:
        self.computer.update_policy(now, self._given())

    def _push(self, rules: object, now: float) -> None:
        dynamic = DynamicRules.from_table(rules if isinstance(rules, dict) else {})
        self.computer.service.push(now, "ipsecpol", dynamic)

    def _status(self) -> Answer:
        active = self.computer.agent.active
        return {
            "name": self.computer.name,
            "running": active is not None,
            "policy": active.policy.name if active and active.policy else None,
            "source": active.source if active and active.policy else None,
            "dynamic_rules": _dynamic_rules(active),
            "since": active.since if active else None,
            "domain": self.settings.domain or None,
            "next_poll": self.computer.service.next_poll,
            "domain_failure": (self._watch.failure if self._watch else "") or None,
        }

    def _in_effect(self) -> str:
        active = self.computer.agent.active
        if active is None:
            return "the Policy Agent is stopped, no IPsec policy is in effect"
        count = _dynamic_rules(active)
        dynamic = f"{count} dynamic rule{'s' * (count > 1)}"
        if active.policy is None:
            return f"no IPsec policy is in effect{f', but {dynamic}' * bool(count)}"
        return f"policy {active.policy.name!r} is in effect{f', and {dynamic}' * bool(count)}"

    def _domain_settled(self) -> None:
        """The domain has answered, or has not."""
        self._settle()
        self._begin(self._follow_domain())

    async def _follow_domain(self) -> None:
        if await self._follow():
            self._report(self._in_effect())

    async def _follow(self) -> bool:
        """The network becomes what the policy in effect needs; whether that is another one."""
        async with self._changing:
            active = self.computer.agent.active
            if active is self._shown:
                return False
            self._shown, self._shown_version = active, self._version()
            await asyncio.get_running_loop().run_in_executor(self._worker, self._change)
            return True

    def _follow_dynamic(self) -> None:
        """Waits until the network has the filters of the default response rule: what it answers a packet that came
        protected would leave in clear before."""
        if self._shown is self.computer.agent.active and self._shown_version != self._version():
            self._shown_version = self._version()
            self._worker.submit(self._change).result()

    def _change(self) -> None:
        """In a thread of its own: netlink waits for the kernel in a loop of its own."""
        try:
            self._network.change(self._mtu(), self._routes())
            self._guard()
        except AgentError as error:
            self._report(str(error))

    def _work(self, datagrams: list[bytes], gone: bool) -> None:
        """What the packet loop has left: IKE datagrams of port 4500 and questions of the driver."""
        upcalls = self.computer.driver.upcalls()
        for packet in datagrams:
            self.computer.datagram(self._clock(), packet)
        if any(upcall.kind is UpcallKind.ACQUIRE for upcall in upcalls):
            # What has come over IKE's own port may be the answer already.
            self._datagrams()
        for upcall in upcalls:
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

    def _messages(self) -> None:
        """ICMP: a router may say that IPsec packets are too long for it."""
        for _ in range(_DATAGRAMS):
            try:
                packet = self._icmp.recv(65535)
            except OSError:
                break
            self._paths.on_icmp(self._clock(), packet)

    def _due(self) -> None:
        self._timer = None
        self.computer.timer(self._clock())
        self._settle()

    def _settle(self) -> None:
        """Sends what the computer wants to send, gives new SAs their path MTU, and sets the computer's timer."""
        self._follow_dynamic()
        for packet in self.computer.take_packets():
            self._send(packet)
        keys = self.computer.driver.counters()["key_additions"] + self.computer.driver.counters()["soft_associations"]
        if keys != self._keys:
            self._keys = keys
            self._paths.new_sas()
            self._selector.release()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        wanted = self.computer.next_timer()
        if wanted is not None:
            delay = max(wanted - self._clock(), 0.0)
            self._timer = asyncio.get_running_loop().call_later(delay, self._due)
        if self._watch:
            self._watch.schedule()

    def _send(self, packet: bytes) -> None:
        """An IKE datagram leaves by its socket, which makes headers of its own. One that cannot be sent is lost."""
        source_port, port = (int.from_bytes(packet[at : at + 2]) for at in (_IP_HEADER, _IP_HEADER + 2))
        destination = str(IPv4Address(packet[16:20]))
        try:
            self._ike[source_port].sendto(packet[_IP_HEADER + _UDP_HEADER :], (destination, port))
        except OSError as error:
            self._report(f"IKE to {destination}: {error.strerror}")

    # The state directory

    async def _keep_writing(self) -> None:
        while True:
            await asyncio.sleep(self.settings.interval)
            self._paths.forget(self._clock())
            self._write(self._snapshot)

    async def _keep_committing(self) -> None:
        """Other programs that write the registry wait as long as something is not committed."""
        while True:
            await asyncio.sleep(_COMMIT)
            self._write(self.computer.state.commit)

    def _snapshot(self) -> None:
        self.computer.snapshot(self._clock())
        if self._write_keys:
            self._write_keys(self.settings.state, self.computer)
        self._faults.clear()

    def _write(self, work: Callable[[], None]) -> None:
        try:
            work()
        except (OSError, sqlite3.Error, IpsecError) as error:
            if str(error) not in self._faults:
                self._report(f"{self.settings.state}: the state cannot be written: {error}")
            self._faults.add(str(error))
