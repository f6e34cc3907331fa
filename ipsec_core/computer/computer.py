"""One Windows 2000 computer: registry, event logs, Policy Agent, ISAKMP/Oakley and the IPsec driver, wired together.

Nothing here reads a clock or opens a socket: whoever owns the computer (a simulated world, the live agent) hands in
upcalls of the driver, datagrams and due timers with their time in seconds, and takes out packets to send and the time
of the next timer.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network

from ipsec_core.computer import eventlog, udp
from ipsec_core.computer.associations import KeyRecord, Pair, install, install_inbound, key_records
from ipsec_core.computer.audit import AuditPolicy
from ipsec_core.computer.listing import association
from ipsec_core.computer.negotiation import ENCRYPTION_WORDS, HASH_WORDS, PolicyView
from ipsec_core.computer.state import Association, State
from ipsec_core.computer.statistics import IPSEC_STATISTICS, OAKLEY_STATISTICS
from ipsec_core.computer.suites import profile_of, suite_of
from ipsec_core.driver import Action, Driver, Filter, Upcall, UpcallKind
from ipsec_core.ike import (
    Acquire,
    ChildDeleted,
    Encapsulation,
    Event,
    FailurePoint,
    FailureReason,
    IkeEngine,
    MainModeDeleted,
    MainModeEstablished,
    MainModePolicy,
    NegotiationFailed,
    QuickModeAnswered,
    QuickModeEstablished,
    QuickModePolicy,
    SoftAssociation,
    TrafficSelector,
)
from ipsec_core.policy.agent import AgentEvent, PolicyAgent
from ipsec_core.policy.compile import DriverFilter
from ipsec_core.policy.model import Policy

_ACTIONS = {
    "permit": Action.PERMIT,
    "block": Action.BLOCK,
    "negotiate": Action.NEGOTIATE,
    "passthrough": Action.PASSTHROUGH,
}


def _random_source(seed: bytes) -> Callable[[int], bytes]:
    """A stream of bytes that a seed determines: SHAKE-256 over seed and a counter."""
    counter = 0

    def take(count: int) -> bytes:
        nonlocal counter
        counter += 1
        return hashlib.shake_256(seed + counter.to_bytes(8)).digest(count)

    return take


class Computer:
    """A computer with one IPv4 address.

    `seed` (bytes) determines every random choice; use bytes of the operating system for real keys. `registry` gives
    values of the subsystem by name (SAHashSize, CacheSize, ...). `profile` is "windows-2000" (only its algorithms are
    offered and accepted) or "modern" (all that the driver can). With `key_log` the keys of all SAs are kept in `keys`
    and `ike_keys`.
    """

    def __init__(
        self,
        name: str,
        address: IPv4Address,
        policy: Policy | None,
        *,
        seed: bytes,
        profile: str = "windows-2000",
        audit: AuditPolicy | None = None,
        registry: Mapping[str, object] | None = None,
        hold_packets: int = 0,
        backend: str | None = None,
        key_log: bool = False,
    ) -> None:
        self.name = name
        self.address = address
        self.state = State.memory(name)
        for value, data in (registry or {}).items():
            self.state.registry.set_known(value, data)
        self.log = self.state.event_log(audit)
        self.agent = PolicyAgent()
        self.driver = Driver(
            self.state.registry.known_number("SAHashSize"),
            self.state.registry.known_number("CacheSize"),
            seed=hashlib.sha256(seed + b" driver").digest(),
            hold_packets=hold_packets,
            backend=backend,
            no_default_exempt=self.state.registry.known_number("NoDefaultExempt"),
        )
        self.keys: list[KeyRecord] = []
        self.ike_keys: list[tuple[bytes, bytes]] = []
        self.packets: list[bytes] = []
        self._idle_seconds = float(self.state.registry.known_number("SAIdleTime"))
        self._policy = policy
        self._profile = profile_of(profile)
        self._key_log = key_log
        self._identification = 0
        self._view: PolicyView | None = None
        self._pairs: dict[int, Pair] = {}
        self._answered: dict[int, int] = {}  # inbound SPI -> handle of an SA whose Quick Mode is not over yet
        self._next_tick: float | None = None
        self._engine = IkeEngine(
            str(address),
            self,
            random=_random_source(hashlib.sha256(seed + b" ike").digest()),
            allocate_spi=lambda: self.driver.allocate_spi(address),
            key_log=key_log,
        )

    # What the IKE engine asks

    def main_mode(self, local: str, remote: str) -> MainModePolicy | None:
        return self._view.main_mode(local, remote) if self._view else None

    def quick_mode(self, local: str, remote: str, selectors: TrafficSelector) -> QuickModePolicy | None:
        return self._view.quick_mode(local, remote, selectors) if self._view else None

    # What comes in

    def start(self, now: float) -> None:
        """Starts the Policy Agent: the policy goes into driver and IKE. PolicyError when it cannot be carried out."""
        self._report(self.agent.start(now, self._policy, [self.address]))
        active = self.agent.active
        if active is None or active.policy is None:
            return
        self._view = PolicyView(active.policy, active.filters, self._profile)
        self.driver.set_filters(
            Filter(
                reference,
                "out" if item.direction == "outbound" else "in",
                _ACTIONS[item.action],
                item.source,
                item.destination,
                item.protocol,
                item.source_port,
                item.destination_port,
                item.tunnel_endpoint if item.direction == "outbound" else None,
            )
            for reference, item in enumerate(active.filters)
        )

    def upcall(self, now: float, upcall: Upcall) -> None:
        """A question of the driver."""
        self._upcall(now, upcall)
        self._settle(now)

    def datagram(self, now: float, packet: bytes) -> None:
        """An IPv4/UDP packet to port 500."""
        parsed = udp.parse(packet)
        if parsed:
            source, port, data = parsed
            self._engine.receive_datagram(now, data, (str(source), port))
        self._settle(now)

    def timer(self, now: float) -> None:
        """Does what is due."""
        self._engine.handle_timer(now)
        self._settle(now)

    def next_timer(self) -> float | None:
        """When `timer` wants to be called."""
        times = (self._engine.next_timer(), self._next_tick)
        return min((time for time in times if time is not None), default=None)

    def take_packets(self) -> list[bytes]:
        """IPv4 packets to send, in order; each is returned once."""
        packets, self.packets = self.packets, []
        return packets

    # What happens inside

    def _upcall(self, now: float, upcall: Upcall) -> None:
        if upcall.kind is UpcallKind.ACQUIRE:
            if self._view:
                self._engine.acquire(now, self._view.acquire(upcall))
            return
        pair = next((p for p in self._pairs.values() if upcall.sa in (p.inbound, p.outbound)), None)
        if pair is None:
            return
        if upcall.kind is UpcallKind.REKEY:
            self._rekey(now, pair)
        elif upcall.kind is UpcallKind.EXPIRED or pair.idle(self.driver, now, self._idle_seconds):
            self._engine.delete_child(now, pair.inbound_spi)

    def _rekey(self, now: float, pair: Pair) -> None:
        """Asks for a successor. Both SAs of a pair may want one; the engine negotiates once for the same traffic.

        A pair that nobody used gets none: where a lifetime is shorter than SAIdleTime it would be replaced for ever.
        """
        if pair.replaced or self._view is None or not pair.used(self.driver):
            return
        event = pair.event
        self._engine.acquire(
            now, Acquire(event.remote, event.selectors, self._view.offers_of(event.reference), event.reference)
        )

    def _settle(self, now: float) -> None:
        """Carries out what IKE has decided and what is due in the driver, until neither has anything more to say."""
        due = True
        while due:
            for event in self._engine.events():
                self._handle(now, event)
            self._next_tick = self.driver.tick(now)
            upcalls = self.driver.upcalls()
            for upcall in upcalls:
                self._upcall(now, upcall)
            due = bool(upcalls)
        for datagram in self._engine.datagrams():
            address, port = datagram.destination
            self._identification += 1
            self.packets.append(
                udp.build(self.address, IPv4Address(address), udp.IKE_PORT, port, datagram.data, self._identification)
            )

    def _handle(self, now: float, event: Event) -> None:
        match event:
            case MainModeEstablished():
                if event.encryption_key is not None:
                    self.ike_keys.append((event.initiator_cookie, event.encryption_key))
                parameters = eventlog.main_mode_parameters(
                    ENCRYPTION_WORDS[event.offer.encryption], HASH_WORDS[event.offer.hash], event.lifetime_seconds
                )
                self._audit(
                    541, eventlog.main_mode_established(_peer(event.remote), self._hosts(event.remote), parameters), now
                )
            case QuickModeAnswered():
                self._answered[event.inbound_spi] = install_inbound(
                    self.driver, event, self._idle_seconds, initiator=False
                )
            case QuickModeEstablished():
                self._install(event)
            case NegotiationFailed():
                self._failed(now, event)
            case ChildDeleted():
                self._remove(now, event)
            case MainModeDeleted():
                self._audit(543, eventlog.main_mode_ended(self._hosts(event.remote)), now)
            case SoftAssociation():
                # Never asked for: soft SAs need clear-text entries in the driver.
                raise AssertionError("soft association without a request for one")

    def _install(self, event: QuickModeEstablished) -> None:
        for old in self._pairs.values():
            if old.event.selectors == event.selectors and old.event.remote == event.remote and not old.replaced:
                old.retire(self.driver, event.time)
        self._pairs[event.inbound_spi] = install(
            self.driver, event, self._answered.pop(event.inbound_spi, None), self._idle_seconds
        )
        if self._key_log:
            self.keys.extend(key_records(event))
        suite = suite_of(event.offer)
        parameters = eventlog.quick_mode_parameters(
            suite.cipher.confidentiality.text,
            suite.integrity_text,
            "",
            event.encapsulation is Encapsulation.TUNNEL,
            event.inbound_spi,
            event.outbound_spi,
            event.lifetime_seconds,
            event.lifetime_kilobytes,
        )
        strings = eventlog.quick_mode_established(_peer(event.remote), _lines(event.selectors), parameters)
        self._audit(541, strings, event.time)

    def _failed(self, now: float, event: NegotiationFailed) -> None:
        selectors = event.selectors
        if event.inbound_spi in self._answered:
            self.driver.delete_sa(self._answered.pop(event.inbound_spi))
        for reference in event.answers:
            if selectors:
                self.driver.acquire_failed(
                    reference, selectors.source.network_address, selectors.destination.network_address
                )
        lines = _lines(selectors) if selectors else self._hosts(event.remote)
        if event.reason is FailureReason.CREDENTIALS_UNACCEPTABLE:
            self._audit(545, eventlog.authentication_failed(_peer(event.remote), lines), now)
        elif event.details is not None:
            strings = eventlog.invalid_proposal(
                event.mode.value, lines, event.details.attribute, event.details.expected, event.details.received
            )
            self._audit(546, strings, now)
        else:
            failed_at_me = event.failure_point is FailurePoint.ME
            self._audit(547, eventlog.negotiation_failed(event.mode.value, lines, failed_at_me, event.reason), now)

    def _remove(self, now: float, event: ChildDeleted) -> None:
        pair = self._pairs.pop(event.inbound_spi, None)
        if pair is None:
            return
        self.driver.delete_sa(pair.inbound)
        self.driver.delete_sa(pair.outbound)
        self._audit(542, eventlog.quick_mode_ended(_lines(event.selectors), event.inbound_spi, event.outbound_spi), now)

    # Event logs

    def _report(self, events: Sequence[AgentEvent]) -> None:
        for event in events:
            self.log.report(event.time, "PolicyAgent", event.event_id, event.strings)

    def _audit(self, number: int, strings: Sequence[str], now: float) -> None:
        self.log.report(now, "Security", number, tuple(strings))

    def _hosts(self, remote: str) -> str:
        return eventlog.filter_lines(IPv4Network(self.address), IPv4Network(remote), 0, 0, 0)

    # What the tools see

    def counters(self) -> dict[str, int]:
        """IPsec statistics, ISAKMP/Oakley statistics, then the driver's and the engine's own, in this order."""
        driver, engine = self.driver.counters(), self._engine.statistics()
        values = {key: driver.pop(key) for _, key in IPSEC_STATISTICS}
        isakmp = {re.sub(r"[ -]", "_", name.lower()): count for name, count in engine.items()}
        values |= {key: isakmp.pop(key) for _, key in OAKLEY_STATISTICS}
        values |= driver
        values |= {f"ike_{name}": count for name, count in isakmp.items()}
        for direction in ("out", "in"):
            values |= {
                f"{direction}_{name.lower()}": n for name, n in self.driver.status_counters(direction).items() if n
            }
        return values

    def associations(self) -> list[Association]:
        """The SAs of the driver as IP Security Monitor lists them, outbound before inbound."""
        times = {handle: pair.event.time for pair in self._pairs.values() for handle in (pair.outbound, pair.inbound)}
        policy = self.agent.active.policy if self.agent.active else None
        names = {number: item.name for number, item in enumerate(self._filters())}
        return [
            association(sa, policy.name if policy else "", names.get(sa.filter, ""), times.get(sa.handle))
            for sa in sorted(self.driver.sas(), key=lambda sa: (sa.direction != "out", sa.handle))
            if sa.handle not in self._answered.values()
        ]

    def _filters(self) -> tuple[DriverFilter, ...]:
        return self.agent.active.filters if self.agent.active else ()

    def snapshot(self, now: float) -> State:
        """Brings the state up to date: what a tool would see at `now`. Save it with `State.save_as`."""
        hits = dict(self.driver.filter_packets())
        self.state.set_meta("time", now)
        self.state.set_meta("address", str(self.address))
        self.state.set_meta("ip_security_enabled", self._view is not None)
        self.state.save_policy(self._policy)
        self.state.save_filters([(item, hits.get(number, 0)) for number, item in enumerate(self._filters())])
        self.state.save_counters(self.counters())
        self.state.save_associations(self.associations())
        self.state.commit()
        return self.state


def _peer(remote: str) -> str:
    return eventlog.preshared_key_identity(remote)


def _lines(selectors: TrafficSelector) -> str:
    return eventlog.filter_lines(
        selectors.source, selectors.destination, selectors.protocol, selectors.source_port, selectors.destination_port
    )
