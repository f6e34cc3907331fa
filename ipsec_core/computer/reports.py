"""What IKE and the Policy Agent tell the event logs of a computer: audits 541 to 547, and the warnings of Oakley."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network

from ipsec_core.computer import eventlog
from ipsec_core.computer.eventlog import EventLog
from ipsec_core.computer.negotiation import main_mode_words
from ipsec_core.computer.suites import suite_of
from ipsec_core.ike import (
    AuthMethod,
    ChildDeleted,
    Encapsulation,
    FailurePoint,
    FailureReason,
    MainModeDeleted,
    MainModeEstablished,
    NegotiationFailed,
    PeerIdentity,
    QuickModeEstablished,
    TrafficSelector,
)
from ipsec_core.policy.agent import AgentEvent

KEY_MATERIAL_WEAKENED = 541
ENCRYPTION_WEAKENED = 542
NO_KERBEROS = 507

_IDENTITY_REFUSED = (FailureReason.CREDENTIALS_UNACCEPTABLE, FailureReason.INVALID_SIGNATURE, FailureReason.KERBEROS)


class Reports:
    """Files the events of the computer at `address`."""

    def __init__(self, log: EventLog, address: IPv4Address) -> None:
        self._log = log
        self.address = address
        self._peers: dict[str, PeerIdentity] = {}  # as their last Main Mode has shown
        self._warned: set[tuple[int, str]] = set()

    def agent(self, events: Sequence[AgentEvent]) -> None:
        """Those that Windows 2000 files; the others are for the agent's own log."""
        for event in events:
            if ("PolicyAgent", event.event_id) in eventlog.MESSAGES:
                self._log.report(event.time, "PolicyAgent", event.event_id, event.strings)

    def forget(self) -> None:
        """The service starts anew."""
        self._peers.clear()
        self._warned.clear()

    def no_kerberos(self, now: float) -> None:
        """IKE goes on without the method."""
        self._log.report(now, "Oakley", NO_KERBEROS)

    def weakened(self, now: float, event_id: int, remote: str) -> None:
        """Export strength in a negotiation; once for each peer."""
        if (event_id, remote) not in self._warned:
            self._warned.add((event_id, remote))
            self._log.report(now, "Oakley", event_id)

    def main_mode(self, event: MainModeEstablished) -> None:
        self._peers[event.remote] = event.peer
        encryption, integrity = main_mode_words(event.offer)
        parameters = eventlog.main_mode_parameters(encryption, integrity, event.lifetime_seconds)
        strings = eventlog.main_mode_established(
            _identity(event.peer, event.remote), self._hosts(event.remote), parameters
        )
        self._audit(event.time, 541, strings)

    def main_mode_ended(self, event: MainModeDeleted) -> None:
        self._audit(event.time, 543, eventlog.main_mode_ended(self._hosts(event.remote)))

    def quick_mode(self, event: QuickModeEstablished) -> None:
        parameters = eventlog.quick_mode_parameters(
            *suite_of(event.offer).texts,
            event.encapsulation is Encapsulation.TUNNEL,
            event.inbound_spi,
            event.outbound_spi,
            event.lifetime_seconds,
            event.lifetime_kilobytes,
        )
        identity = _identity(self._peers.get(event.remote), event.remote)
        self._audit(event.time, 541, eventlog.quick_mode_established(identity, _lines(event.selectors), parameters))

    def quick_mode_ended(self, event: ChildDeleted) -> None:
        strings = eventlog.quick_mode_ended(_lines(event.selectors), event.inbound_spi, event.outbound_spi)
        self._audit(event.time, 542, strings)

    def soft_ended(self, now: float, selectors: TrafficSelector) -> None:
        """A soft SA has no SPI."""
        self._audit(now, 542, eventlog.quick_mode_ended(_lines(selectors), 0, 0))

    def failed(self, event: NegotiationFailed) -> None:
        """544 for a certificate that is not good enough, 545 for another proof, 546 for offers, 547 for the rest."""
        lines = _lines(event.selectors) if event.selectors else self._hosts(event.remote)
        identity = _identity(event.peer, event.remote)
        named = event.peer is not None and event.peer.method is AuthMethod.RSA_SIGNATURES and event.peer.name != ""
        by_us = event.failure_point is FailurePoint.ME
        if named and by_us and event.reason is not FailureReason.INVALID_SIGNATURE:
            self._audit(event.time, 544, eventlog.authentication_failed(identity, lines))
        elif event.reason in _IDENTITY_REFUSED:
            self._audit(event.time, 545, eventlog.authentication_failed(identity, lines))
        elif event.details is not None:
            details = event.details
            strings = eventlog.invalid_proposal(
                event.mode.value, lines, details.attribute, details.expected, details.received
            )
            self._audit(event.time, 546, strings)
        else:
            self._audit(event.time, 547, eventlog.negotiation_failed(event.mode.value, lines, by_us, event.reason))

    def _audit(self, now: float, number: int, strings: Sequence[str]) -> None:
        self._log.report(now, "Security", number, tuple(strings))

    def _hosts(self, remote: str) -> str:
        return eventlog.filter_lines(IPv4Network(self.address), IPv4Network(remote), 0, 0, 0)


def _identity(peer: PeerIdentity | None, remote: str) -> str:
    if peer is not None and peer.method is AuthMethod.KERBEROS:
        return eventlog.kerberos_identity(peer.name, remote)
    if peer is not None and peer.method is AuthMethod.RSA_SIGNATURES:
        return eventlog.certificate_identity(peer.name, peer.issuer, peer.root, remote)
    return eventlog.preshared_key_identity(remote)


def _lines(selectors: TrafficSelector) -> str:
    return eventlog.filter_lines(
        selectors.source, selectors.destination, selectors.protocol, selectors.source_port, selectors.destination_port
    )
