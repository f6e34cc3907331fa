"""The SA pairs of a computer: their lifetimes, their rekeying, and the overlap of old and new."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Literal

from ipsec_core.computer.negotiation import suite_of
from ipsec_core.driver import Driver, SecurityAssociation
from ipsec_core.ike import ChildSa, Encapsulation, QuickModeAnswered, QuickModeEstablished

QuickModeEvent = QuickModeAnswered | QuickModeEstablished

KILOBYTE = 1024

# When a replacement is asked for. Windows 2000's own thresholds are not documented; these are ours: the end that began
# the pair asks first, so that the two ends do not both negotiate, and the other end only if it did not.
SOFT_SHARE = {True: 0.85, False: 0.92}
# An old inbound SA lives on for packets still under way ("bad SPI" messages, KB 257225).
OVERLAP_SECONDS = 60.0


@dataclass(slots=True)
class Pair:
    """Two SAs of one Quick Mode. `replaced`: a newer pair carries the traffic.

    `idle_at`: when it is looked at whether any packet came since the last look, of which there had been `packets`.
    """

    event: QuickModeEstablished
    inbound: int
    outbound: int
    rekey_at: float
    expires_at: float
    idle_at: float
    packets: int = 0
    rekeying: bool = False
    replaced: bool = False

    @property
    def inbound_spi(self) -> int:
        return self.event.inbound.spi

    @property
    def next_look(self) -> float:
        """When something is due."""
        soft = self.expires_at if self.rekeying or self.replaced else self.rekey_at
        return min(soft, self.expires_at, self.idle_at)

    def idle(self, driver: Driver, now: float, idle_seconds: float) -> bool:
        """Whether no packet used either SA for SAIdleTime (KB 257225); the next look is one SAIdleTime later."""
        packets = driver.sa_info(self.inbound).packets + driver.sa_info(self.outbound).packets
        unused = packets == self.packets
        self.packets, self.idle_at = packets, now + idle_seconds
        return unused


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """One SA's keys for Wireshark's SA table; kept only on explicit request."""

    source: IPv4Address
    destination: IPv4Address
    spi: int
    encryption: str
    encryption_key: bytes
    integrity: str
    integrity_key: bytes


def _driver_sa(
    event: QuickModeEvent, child: ChildSa, direction: Literal["out", "in"], initiator: bool
) -> SecurityAssociation:
    suite = suite_of(event.offer)
    outbound = direction == "out"
    selectors = event.selectors if outbound else event.selectors.mirrored()
    hard = event.offer.lifetime_kilobytes * KILOBYTE
    return SecurityAssociation(
        direction=direction,
        spi=child.spi,
        source=event.local if outbound else event.remote,
        destination=event.remote if outbound else event.local,
        encryption=suite.driver_encryption,
        encryption_key=child.encryption_key + child.salt,
        integrity=suite.driver_integrity,
        integrity_key=child.authentication_key,
        mode="tunnel" if event.offer.encapsulation is Encapsulation.TUNNEL else "transport",
        inner_source=selectors.source,
        inner_destination=selectors.destination,
        inner_protocol=selectors.protocol,
        source_port=selectors.source_port,
        destination_port=selectors.destination_port,
        filter=event.reference,
        soft_bytes=int(hard * SOFT_SHARE[initiator]),
        hard_bytes=hard,
    )


def install_inbound(driver: Driver, event: QuickModeEvent, *, initiator: bool) -> int:
    """Hands the inbound SA to the driver and returns its handle."""
    return driver.add_sa(_driver_sa(event, event.inbound, "in", initiator))


def install(driver: Driver, event: QuickModeEstablished, inbound: int | None, idle_seconds: float) -> Pair:
    """Hands the outbound SA to the driver, and the inbound one if it is not there yet.

    From the next packet on the new pair is used.
    """
    if inbound is None:
        inbound = install_inbound(driver, event, initiator=event.initiator)
    outbound = driver.add_sa(_driver_sa(event, event.outbound, "out", event.initiator))
    soft = event.lifetime_seconds * SOFT_SHARE[event.initiator]
    return Pair(
        event, inbound, outbound, event.time + soft, event.time + event.lifetime_seconds, event.time + idle_seconds
    )


def key_records(event: QuickModeEstablished) -> tuple[KeyRecord, KeyRecord]:
    """The pair's keys in Wireshark's words, inbound first."""
    suite = suite_of(event.offer)
    local, remote = IPv4Address(event.local), IPv4Address(event.remote)

    def record(source: IPv4Address, destination: IPv4Address, child: ChildSa) -> KeyRecord:
        return KeyRecord(
            source,
            destination,
            child.spi,
            suite.wireshark_encryption,
            child.encryption_key + child.salt,
            suite.wireshark_integrity,
            child.authentication_key,
        )

    return record(remote, local, event.inbound), record(local, remote, event.outbound)
