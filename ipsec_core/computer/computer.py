"""One Windows 2000 computer: registry, event logs, Policy Agent, ISAKMP/Oakley and the IPsec driver, wired together.

Nothing here reads a clock or opens a socket: whoever owns the computer (a simulated world, the live agent) hands in
upcalls of the driver, datagrams and due timers with their time in seconds, and takes out packets to send and the time
of the next timer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from ipaddress import IPv4Address
from math import inf

from ipsec_core.computer import oakley_log, udp
from ipsec_core.computer.associations import (
    SWITCH_SECONDS,
    KeyRecord,
    Pair,
    delete,
    idle,
    install,
    install_inbound,
    key_records,
    move,
    switch,
)
from ipsec_core.computer.audit import AuditPolicy
from ipsec_core.computer.backoff import Backoff
from ipsec_core.computer.credentials import CertificateStore, Credentials, lacks_kerberos
from ipsec_core.computer.listing import associations
from ipsec_core.computer.negotiation import PolicyView
from ipsec_core.computer.profiles import Profile, profile_of
from ipsec_core.computer.remote_access import RemoteAccess
from ipsec_core.computer.reports import ENCRYPTION_WEAKENED, KEY_MATERIAL_WEAKENED, Reports
from ipsec_core.computer.service import PolicyService
from ipsec_core.computer.soft import SoftAssociations
from ipsec_core.computer.state import Association, State
from ipsec_core.computer.statistics import all_counters
from ipsec_core.driver import Driver, Upcall, UpcallKind
from ipsec_core.errors import PolicyError
from ipsec_core.ike import (
    Acquire,
    ChildDeleted,
    Encapsulation,
    Event,
    FailureReason,
    IkeEngine,
    IkeOptions,
    Kerberos,
    MainModeDeleted,
    MainModeEstablished,
    MainModePolicy,
    NegotiationFailed,
    PathChanged,
    QuickModeAnswered,
    QuickModeEstablished,
    QuickModePolicy,
    SoftAssociation,
    TrafficSelector,
)
from ipsec_core.policy.compile import DriverFilter
from ipsec_core.policy.model import Policy


def _random_source(seed: bytes) -> Callable[[int], bytes]:
    """A stream of bytes that a seed determines: SHAKE-256 over seed and a counter."""
    counter = 0

    def take(count: int) -> bytes:
        nonlocal counter
        counter += 1
        return hashlib.shake_256(seed + counter.to_bytes(8)).digest(count)

    return take


# Ends of a negotiation after which the next one may be better at once.
_NO_FAULT = (FailureReason.DELETED_BEFORE_COMPLETION, FailureReason.POLICY_CHANGED)


class Computer(RemoteAccess):
    """A computer with one IPv4 address.

    Its IPsec policy is that of `domain` (a name for people; `service` says when to ask the domain), else `policy`, else
    what is assigned in the registry.
    `seed` (bytes) determines every random choice; use bytes of the operating system for real keys. `registry` gives
    values of the subsystem by name (SAHashSize, CacheSize, ...). `profile` is "windows-2000" (only its algorithms are
    offered and accepted), "windows-2000-update" (with NAT traversal and IKE fragmentation) or "modern" (all that the
    driver can); `options` stand in the place of the profile's. Without `high_encryption` it encrypts with DES at most.
    `certificates` and `kerberos` are what it proves its identity with, beside the policy's preshared keys. `state` is
    where registry, event logs and Oakley.log are, in memory if not given. With `key_log` the keys of all SAs are kept
    in `keys` and `ike_keys`.
    """

    def __init__(
        self,
        name: str,
        address: IPv4Address,
        policy: Policy | None = None,
        *,
        seed: bytes,
        domain: str = "",
        profile: str = "windows-2000",
        options: IkeOptions | None = None,
        high_encryption: bool = True,
        certificates: CertificateStore | None = None,
        kerberos: Kerberos | None = None,
        audit: AuditPolicy | None = None,
        registry: Mapping[str, object] | None = None,
        state: State | None = None,
        hold_packets: int = 0,
        backend: str | None = None,
        key_log: bool = False,
    ) -> None:
        self.name = name
        self.address = address
        self.state = state or State.memory(name)
        for value, data in (registry or {}).items():
            self.state.registry.set_known(value, data)
        self.log = self.state.event_log(audit)
        self.keys: list[KeyRecord] = []
        self.ike_keys: list[tuple[bytes, bytes]] = []
        self.packets: list[bytes] = []
        self._profile = profile_of(profile)
        self._options = options or self._profile.options
        self.driver = Driver(
            self.state.registry.known_number("SAHashSize"),
            self.state.registry.known_number("CacheSize"),
            seed=hashlib.sha256(seed + b" driver").digest(),
            hold_packets=hold_packets,
            backend=backend,
            no_default_exempt=self.state.registry.known_number("NoDefaultExempt"),
            nat_traversal=bool(self._options.nat_traversal),
        )
        self._idle_seconds = float(self.state.registry.known_number("SAIdleTime"))
        self._high_encryption = high_encryption
        _check_strength(self._profile, high_encryption)
        self._credentials = Credentials(certificates, kerberos)
        self._key_log = key_log
        self._random = _random_source(hashlib.sha256(seed + b" ike").digest())
        self._identification = 0
        self._now = 0.0
        self._ended = False  # the service, at least once
        self._view: PolicyView | None = None
        self._pairs: dict[int, Pair] = {}
        self._backoff = Backoff()
        self._answered: dict[int, tuple[int, ...]] = {}  # inbound SPI -> SAs whose Quick Mode is not over yet
        self._switches: dict[int, float] = {}  # inbound SPI -> when a pair is to carry what another one still does
        self._next_tick: float | None = None
        self._reports = Reports(self.log, address)
        self.service = PolicyService(self.state, self._reports, self._prepare, self._changed, policy, domain)
        self.agent = self.service.agent
        self._soft = SoftAssociations(self.driver, self._reports.soft_ended)
        self._trace: oakley_log.OakleyLog | None = None
        self._engine = self._new_engine()

    def _new_engine(self) -> IkeEngine:
        """ISAKMP/Oakley as the service starts it, with what the registry says now."""
        if self._credentials.certificates is not None:
            self._credentials.certificates.crl_level = self.state.registry.known_number("StrongCrlCheck")
        self._trace = None
        if self.state.registry.known_number("EnableLogging"):
            self.state.begin_file(oakley_log.FILE)
            self._trace = oakley_log.OakleyLog(lambda line: self.state.add_line(oakley_log.FILE, line))
        protect = self._options.dos_protect or bool(self.state.registry.known_number("EnableDOSProtect"))
        return IkeEngine(
            str(self.address),
            self,
            random=self._random,
            allocate_spi=lambda: self.driver.allocate_spi(self.address),
            key_log=self._key_log,
            trace=self._trace.trace if self._trace else None,
            options=replace(self._options, dos_protect=protect),
        )

    # What the IKE engine asks

    def main_mode(self, local: str, remote: str) -> MainModePolicy | None:
        found = self._view.main_mode(local, remote) if self._view else None
        if found is not None and self._view and self._view.weak_key_exchange:
            self._reports.weakened(self._now, ENCRYPTION_WEAKENED, remote)
        return found

    def quick_mode(self, local: str, remote: str, selectors: TrafficSelector) -> QuickModePolicy | None:
        found = self._view.quick_mode(local, remote, selectors) if self._view else None
        if found is not None:
            self._warn_of_weak_methods(found.reference, remote)
        return found

    def _warn_of_weak_methods(self, reference: int, remote: str) -> None:
        if self._view and self._view.weak_methods(reference):
            self._reports.weakened(self._now, KEY_MATERIAL_WEAKENED, remote)

    # The Policy Agent

    def start(self, now: float, policy: Policy | None = None) -> None:
        """Starts the Policy Agent: its policy goes into driver and IKE, and the statistics begin at 0.

        It takes `policy`, or reads anew what it had, and the registry. IpsecError, and it stays stopped, when the
        policy cannot be read or carried out.
        """
        self._at(now)
        self.service.start(now, [self.address], policy or self.service.policy)
        self._begin(now)

    def update_policy(self, now: float, policy: Policy | None) -> None:
        """Another policy of the owner, or the old one changed, or none: then that of the registry, read anew.

        Soft SAs end, and so do the SAs whose filter is gone or has another filter action or authentication. IpsecError,
        and all as before, if it cannot be read or carried out.
        """
        self.service.update(now, [self.address], policy)

    def change_address(self, now: float, address: IPv4Address) -> None:
        """The interface has another address: all SAs of the former one end, and filters with *me* have the new one."""
        self._at(now)
        self._engine.close(now)
        self._settle(now)
        self.address = self._reports.address = address
        self._engine = self._new_engine()
        if self.agent.active is not None:
            self.service.update(now, [address], self.service.policy)

    def restart_agent(self, now: float, policy: Policy | None = None) -> None:
        """Stops and starts the service. IpsecError, and all as before, if it could not start again."""
        self._at(now)
        self.service.restart(now, [self.address], policy or self.service.policy)
        self._end(now)
        self._begin(now)

    def stop(self, now: float) -> None:
        """Stops the service: all SAs end, hard and soft, peers are told, and nothing is protected any more."""
        self._at(now)
        self.service.stop(now)
        self._end(now)

    def _plan(self) -> PolicyView | None:
        return self.agent.active.plan if self.agent.active else None

    def _changed(self, now: float) -> None:
        self._at(now)
        if self._plan() is not self._view:
            self._take_over(now, self._plan())
            self._settle(now)

    def _begin(self, now: float) -> None:
        if self._ended:
            self._ended = False
            self.driver.reset_counters()
            self._reports.forget()
            self._engine = self._new_engine()
        self._take_over(now, self._plan())

    def _end(self, now: float) -> None:
        self._ended = True
        self._engine.close(now)
        self._settle(now)
        self._take_over(now, None)
        self._settle(now)

    def _prepare(self, policy: Policy, filters: tuple[DriverFilter, ...]) -> PolicyView:
        return PolicyView(
            policy,
            filters,
            self._profile,
            self._credentials,
            high_encryption=self._high_encryption,
            before=self._view,
        )

    def _take_over(self, now: float, view: PolicyView | None) -> None:
        before, self._view = self._view, view
        if view is not None and lacks_kerberos(view.policy.rules, self._credentials):
            self._reports.no_kerberos(now)
        self._soft.remove(now)
        self._backoff.clear()
        self.driver.set_filters(view.driver_filters() if view else ())
        if before is not None:
            self._engine.close(
                now,
                FailureReason.POLICY_CHANGED,
                lambda remote: view is None or not view.same_key_exchange(before, remote),
            )
        for pair in list(self._pairs.values()):
            if view is None or pair.event.reference not in view.filters:
                self._engine.delete_child(now, pair.inbound_spi)

    # What comes in

    def upcall(self, now: float, upcall: Upcall) -> None:
        """A question of the driver."""
        self._at(now)
        self._upcall(now, upcall)
        self._settle(now)

    def datagram(self, now: float, packet: bytes) -> None:
        """An IPv4/UDP packet to port 500 or 4500. Without a policy in effect IKE keeps silent.

        Nobody can be answered at port 0: what comes from there is nothing.
        """
        self._at(now)
        parsed = udp.parse(packet)
        if parsed and parsed.source_port and self._view:
            self._engine.receive_datagram(
                now, parsed.data, (str(parsed.source), parsed.source_port), parsed.destination_port
            )
        self._settle(now)

    def timer(self, now: float) -> None:
        """Does what is due."""
        self._at(now)
        self._engine.handle_timer(now)
        self._settle(now)

    def next_timer(self) -> float | None:
        """When `timer` wants to be called."""
        times = (self._engine.next_timer(), self._next_tick, *self._switches.values())
        return min((time for time in times if time is not None), default=None)

    def take_packets(self) -> list[bytes]:
        """IPv4 packets to send, in order; each is returned once."""
        packets, self.packets = self.packets, []
        return packets

    # What happens inside

    def _at(self, now: float) -> None:
        self._now = now
        if self._trace:
            self._trace.now = now

    def _upcall(self, now: float, upcall: Upcall) -> None:
        if upcall.kind is UpcallKind.ACQUIRE:
            self._acquire(now, upcall)
            return
        pair = next((p for p in self._pairs.values() if upcall.sa in p.handles), None)
        if pair is None:
            if upcall.kind is not UpcallKind.MOVED:
                self._soft.upcall(now, upcall.sa, upcall.kind is UpcallKind.EXPIRED, self._idle_seconds)
        elif upcall.kind is UpcallKind.MOVED:
            origin = (str(upcall.peer), upcall.source_port)
            if pair.peer is not None and origin != pair.peer:
                self._engine.traffic_from(now, pair.inbound_spi, pair.peer, origin)
        elif upcall.kind is UpcallKind.REKEY:
            self._rekey(now, pair)
        elif upcall.kind is UpcallKind.EXPIRED or idle(self.driver, pair.handles, now, self._idle_seconds):
            self._engine.delete_child(now, pair.inbound_spi)

    def _acquire(self, now: float, upcall: Upcall) -> None:
        if self._view is None or not self._view.has(upcall.filter):
            # The policy has changed since the question.
            assert upcall.source is not None
            assert upcall.destination is not None
            self.driver.acquire_failed(upcall.filter, upcall.source, upcall.destination)
            return
        if self._has_come(upcall):
            return
        request = self._view.acquire(upcall)
        if self._backoff.waits(now, (request.remote, request.selectors)):
            self._give_up(request.selectors, (request.reference,))
            return
        self._warn_of_weak_methods(request.reference, request.remote)
        self._engine.acquire(now, request)

    def _has_come(self, acquire: Upcall) -> bool:
        """Whether an SA has come for the flow of a question since it was asked.

        So it is with a peer whose first packet comes at once behind its last message of Quick Mode.
        """
        remote = str(acquire.peer)
        pairs = (pair.outbound for pair in self._pairs.values() if pair.event.remote == remote)
        return any(
            sa.direction == "out"
            and sa.filter == acquire.filter
            and not sa.expired
            and (sa.inner_source is None or acquire.source in sa.inner_source)
            and (sa.inner_destination is None or acquire.destination in sa.inner_destination)
            and sa.inner_protocol in (0, acquire.protocol)
            and sa.source_port in (0, acquire.source_port)
            and sa.destination_port in (0, acquire.destination_port)
            for handles in (*pairs, self._soft.with_peer(remote))
            for sa in map(self.driver.sa_info, handles)
        )

    def _rekey(self, now: float, pair: Pair) -> None:
        """Asks for a successor. All SAs of a pair may want one; the engine negotiates once for the same traffic.

        A pair that nobody used gets none: where a lifetime is shorter than SAIdleTime it would be replaced for ever. It
        ends now, so that traffic that comes late does not find it at its end.
        """
        if pair.replaced or self._view is None:
            return
        if not pair.used(self.driver):
            self._engine.delete_child(now, pair.inbound_spi)
            return
        event = pair.event
        self._engine.acquire(
            now, Acquire(event.remote, event.selectors, self._view.offers_of(event.reference), event.reference)
        )

    def _settle(self, now: float) -> None:
        """Carries out what IKE has decided and what is due in the driver, until neither has anything more to say."""
        due = True
        while due:
            self._fall_through(now)
            events = self._engine.events()
            for event in events:
                self._handle(now, event)
            if self._view:
                self._view.change_filters(self.driver)
            self._switch(now)
            self._next_tick = self.driver.tick(now)
            upcalls = self.driver.upcalls()
            for upcall in upcalls:
                self._upcall(now, upcall)
            due = bool(upcalls or events)
        for datagram in self._engine.datagrams():
            address, port = datagram.destination
            self._identification += 1
            self.packets.append(
                udp.build(
                    self.address, IPv4Address(address), datagram.source_port, port, datagram.data, self._identification
                )
            )

    def _fall_through(self, now: float) -> None:
        """Traffic of a pair that waits for CONNECTED says as much as that (RFC 2408 section 3.1)."""
        for spi, handles in list(self._answered.items()):
            if any(self.driver.sa_info(handle).packets for handle in handles):
                self._engine.inbound_traffic(now, spi)

    def _handle(self, now: float, event: Event) -> None:
        match event:
            case MainModeEstablished():
                if event.encryption_key is not None:
                    self.ike_keys.append((event.initiator_cookie, event.encryption_key))
                self._reports.main_mode(event)
            case QuickModeAnswered():
                self._answered[event.inbound_spi] = install_inbound(
                    self.driver, event, self._idle_seconds, initiator=event.initiator
                )
            case QuickModeEstablished():
                self._established(now, event)
            case NegotiationFailed():
                self._failed(event)
            case ChildDeleted():
                self._deleted(event)
            case MainModeDeleted():
                self._reports.main_mode_ended(event)
            case PathChanged():
                self._follow(now, event)
            case SoftAssociation():
                if self._view is not None:
                    self._soft.install(event, self._view, self._idle_seconds)

    def _established(self, now: float, event: QuickModeEstablished) -> None:
        # The peer speaks IKE.
        self._soft.remove(now, event.remote)
        self._backoff.succeeded(event.remote)
        answered = self._answered.pop(event.inbound_spi, None)
        if self._view is None or not self._view.takes(event):
            delete(self.driver, answered or ())
            self._give_up(event.selectors, event.answers)
            self._engine.delete_child(now, event.inbound_spi)
            return
        previous = self._pairs.get(event.previous or 0)
        if previous is not None:
            self._retire(previous, event.time)
        later = event.initiator and previous is not None and not previous.runs_out(self.driver)
        self._pairs[event.inbound_spi] = install(self.driver, event, answered, self._idle_seconds)
        self._switches[event.inbound_spi] = event.time + SWITCH_SECONDS if later else event.time
        self._switch(event.time)
        if self._key_log:
            self.keys.extend(key_records(event))
        self._reports.quick_mode(event)

    def _switch(self, now: float) -> None:
        """Moves traffic to the pairs whose time has come."""
        for spi in [spi for spi, due in self._switches.items() if due <= now]:
            del self._switches[spi]
            if spi in self._pairs:
                switch(self.driver, self._pairs[spi], self._idle_seconds)

    def _retire(self, previous: Pair, now: float) -> None:
        """What another pair replaces, and what is older still.

        Not what the other end began at the same time: both pairs carry traffic, and each may be an end's choice.
        """
        last = previous.event
        for old in self._pairs.values():
            same = old.event.selectors == last.selectors and old.event.remote == last.remote
            if same and old.event.time <= last.time and not old.replaced:
                old.retire(self.driver, now)

    def _follow(self, now: float, event: PathChanged) -> None:
        """A NAT has moved the peer. In transport mode another address is another host to the selectors: begin anew.

        With Main Mode, too, which names the peer by the address that it had.
        """
        anew = False
        for pair in list(self._pairs.values()):
            same = pair.event.remote == event.remote and pair.event.peer_id == event.peer_id
            if not same or pair.peer != event.former or pair.replaced:
                continue
            if event.address == event.former[0] or pair.event.encapsulation is Encapsulation.TUNNEL:
                switch(self.driver, pair, self._idle_seconds)
                move(self.driver, pair, event.address, event.port, event.local_port, self._idle_seconds)
            else:
                self._engine.delete_child(now, pair.inbound_spi)
                anew = True
        if anew:
            self._engine.end_main_modes(now, event.remote, event.peer_id)

    def _failed(self, event: NegotiationFailed) -> None:
        if event.inbound_spi in self._answered:
            delete(self.driver, self._answered.pop(event.inbound_spi))
        if event.selectors:
            self._give_up(event.selectors, event.answers)
            if event.answers and event.reason not in _NO_FAULT:
                self._backoff.failed(event.time, (event.remote, event.selectors))
        self._reports.failed(event)

    def _give_up(self, selectors: TrafficSelector, references: tuple[int, ...]) -> None:
        """What waits for these filters is dropped."""
        for reference in references:
            self.driver.acquire_failed(
                reference, selectors.source.network_address, selectors.destination.network_address
            )

    def _deleted(self, event: ChildDeleted) -> None:
        pair = self._pairs.pop(event.inbound_spi, None)
        if pair is not None:
            delete(self.driver, pair.inbound)
            delete(self.driver, pair.outbound)
            if self._view:
                self._view.dynamic.release(pair.event)
            self._reports.quick_mode_ended(event)
            self._switch(inf)  # it may have been what carried the traffic of another

    # What the tools see

    def counters(self) -> dict[str, int]:
        """IPsec statistics, ISAKMP/Oakley statistics, then the driver's and the engine's own, in this order."""
        return all_counters(self.driver, self._engine.statistics())

    def associations(self) -> list[Association]:
        """The SAs of the driver as IP Security Monitor lists them, outbound before inbound; AH and ESP together."""
        times = self._soft.times() | {
            handle: pair.event.time for pair in self._pairs.values() for handle in pair.handles
        }
        hidden = {handle for handles in self._answered.values() for handle in handles}
        around = {way[-1]: way[0] for pair in self._pairs.values() for way in (pair.inbound, pair.outbound) if way}
        names = {number: item.name for number, item in self._view.all_filters().items()} if self._view else {}
        return associations(
            [sa for sa in self.driver.sas() if sa.handle not in hidden],
            self._view.policy.name if self._view else "",
            names,
            times,
            {inner: outer for inner, outer in around.items() if inner != outer},
        )

    def snapshot(self, now: float) -> State:
        """Brings the state up to date: what a tool would see at `now`. Save it with `State.save_as`."""
        hits = dict(self.driver.filter_packets())
        filters = self._view.all_filters() if self._view else {}
        self.state.set_meta("time", now)
        self.state.set_meta("address", str(self.address))
        self.state.set_meta("ip_security_enabled", self._view is not None)
        self.state.set_meta("policy_source", self.agent.active.source if self.agent.active else None)
        self.state.save_policy(self.agent.active.policy if self.agent.active else None)
        self.state.save_filters([(item, hits.get(number, 0)) for number, item in filters.items()])
        self.state.save_counters(self.counters())
        self.state.save_associations(self.associations())
        self.state.commit()
        return self.state


def _check_strength(profile: Profile, high_encryption: bool) -> None:
    if profile.every_algorithm and not high_encryption:
        raise PolicyError(f"high_encryption: false is not of the profile {profile.name}; accepted: windows-2000")
