"""The SA pairs of a computer: what Quick Mode agreed becomes two SAs of the driver with their lifetimes."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Literal

from ipsec_core.computer.suites import suite_of
from ipsec_core.driver import Driver, SecurityAssociation
from ipsec_core.ike import ChildSa, Encapsulation, QuickModeAnswered, QuickModeEstablished

QuickModeEvent = QuickModeAnswered | QuickModeEstablished

KILOBYTE = 1024

# When a replacement is asked for: at this share of the bytes; of the seconds, when no more than the rest of that share
# and no more than so many are left. Windows 2000's own thresholds are not documented; these are ours. The end that
# began the pair (True) asks first, so that the two ends do not both negotiate, and the other end only if it did not.
SOFT_SHARE = {True: 0.85, False: 0.92}
SOFT_SECONDS_LEFT = {True: 45.0, False: 24.0}
# An old SA lives on for packets still under way ("bad SPI" messages, KB 257225).
OVERLAP_SECONDS = 60.0


@dataclass(slots=True)
class Pair:
    """Two SAs of one Quick Mode by their handles. `replaced`: a newer pair carries the traffic."""

    event: QuickModeEstablished
    inbound: int
    outbound: int
    replaced: bool = False

    @property
    def inbound_spi(self) -> int:
        return self.event.inbound_spi

    def retire(self, driver: Driver, now: float) -> None:
        """A newer pair has taken over: the end comes after `OVERLAP_SECONDS`, and no SA asks for a successor."""
        self.replaced = True
        for handle in (self.inbound, self.outbound):
            driver.retire_sa(handle, now + OVERLAP_SECONDS)

    def used(self, driver: Driver) -> bool:
        """Whether either SA has carried a packet."""
        return any(driver.sa_info(handle).packets for handle in (self.inbound, self.outbound))

    def idle(self, driver: Driver, now: float, seconds: float) -> bool:
        """Whether neither SA had a packet for so long (KB 257225: SAIdleTime); compared in the driver's nanoseconds."""
        last = max(driver.sa_info(handle).last for handle in (self.inbound, self.outbound))
        return round((now - last) * 1e9) >= round(seconds * 1e9)


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


def soft_seconds(lifetime: float, *, initiator: bool) -> float:
    """Seconds after which a pair of this lifetime is to be replaced."""
    return lifetime - min(SOFT_SECONDS_LEFT[initiator], lifetime * (1 - SOFT_SHARE[initiator]))


def _driver_sa(
    event: QuickModeEvent, child: ChildSa, direction: Literal["out", "in"], initiator: bool, idle_seconds: float
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
        encryption=suite.cipher.driver,
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
        soft_seconds=soft_seconds(event.offer.lifetime_seconds, initiator=initiator),
        hard_seconds=event.offer.lifetime_seconds,
        idle_seconds=idle_seconds,
        created=event.time,
    )


def install_inbound(driver: Driver, event: QuickModeEvent, idle_seconds: float, *, initiator: bool) -> int:
    """Hands the inbound SA to the driver and returns its handle."""
    return driver.add_sa(_driver_sa(event, event.inbound[0], "in", initiator, idle_seconds))


def install(driver: Driver, event: QuickModeEstablished, inbound: int | None, idle_seconds: float) -> Pair:
    """Hands the outbound SA to the driver, and the inbound one if it is not there yet.

    From the next packet on the new pair is used.
    """
    if inbound is None:
        inbound = install_inbound(driver, event, idle_seconds, initiator=event.initiator)
    return Pair(
        event, inbound, driver.add_sa(_driver_sa(event, event.outbound[0], "out", event.initiator, idle_seconds))
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
            suite.cipher.wireshark,
            child.encryption_key + child.salt,
            suite.wireshark_integrity,
            child.authentication_key,
        )

    return record(remote, local, event.inbound[0]), record(local, remote, event.outbound[0])
