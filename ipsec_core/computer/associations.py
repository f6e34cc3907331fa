"""The SA pairs of a computer: what Quick Mode agreed becomes SAs of the driver with their lifetimes.

A pair has one SA a direction, or two for AH and ESP together (RFC 2401 4.3): ESP inside, which serves the filter and in
tunnel mode holds the tunnel, and AH around it. What becomes of one becomes of all.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network
from typing import Any, Literal

from ipsec_core.computer.suites import Suite, suite_of
from ipsec_core.driver import Driver, SaInfo, SecurityAssociation
from ipsec_core.ike import ChildSa, Encapsulation, QuickModeAnswered, QuickModeEstablished, UdpEncapsulation
from ipsec_core.ike.iana import Protocol

QuickModeEvent = QuickModeAnswered | QuickModeEstablished

KILOBYTE = 1024

# When a replacement is asked for: at this share of the bytes; of the seconds, when no more than the rest of that share
# and no more than so many are left. Windows 2000's own thresholds are not documented; these are ours. The end that
# began the pair (True) asks first, so that the two ends do not both negotiate, and the other end only if it did not.
SOFT_SHARE = {True: 0.85, False: 0.92}
SOFT_SECONDS_LEFT = {True: 45.0, False: 24.0}
# An old SA lives on for packets still under way ("bad SPI" messages, KB 257225).
OVERLAP_SECONDS = 60.0
# Message 3 has no answer, and its receiver may take in packets of the new SA only some moments after it: until then
# what is replaced goes on carrying the traffic of the end that began, if it has the bytes for that.
SWITCH_SECONDS = 0.25
# The number of no filter: what an outer SA serves.
NO_FILTER = 0xFFFF_FFFF


@dataclass(slots=True)
class Pair:
    """The SAs of one Quick Mode by their handles, AH before ESP. `replaced`: a newer pair carries the traffic."""

    event: QuickModeEstablished
    inbound: tuple[int, ...]
    outbound: tuple[int, ...]
    replaced: bool = False

    @property
    def inbound_spi(self) -> int:
        return self.event.inbound_spi

    @property
    def handles(self) -> tuple[int, ...]:
        return self.outbound + self.inbound

    def retire(self, driver: Driver, now: float) -> None:
        """A newer pair has taken over: the end comes after `OVERLAP_SECONDS`, and no SA asks for a successor."""
        self.replaced = True
        for handle in self.handles:
            driver.retire_sa(handle, now + OVERLAP_SECONDS)

    def runs_out(self, driver: Driver) -> bool:
        """Whether it has carried so many bytes that it asks for a successor."""
        limit = self.event.lifetime_kilobytes * KILOBYTE * SOFT_SHARE[self.event.initiator]
        return 0 < limit <= max(driver.sa_info(handle).bytes for handle in self.handles)

    @property
    def peer(self) -> tuple[str, int] | None:
        """Where ESP in UDP goes, as (address, port)."""
        udp = self.event.udp
        return (udp.remote_address, udp.remote_port) if udp else None

    def used(self, driver: Driver) -> bool:
        """Whether any SA has carried a packet."""
        return any(driver.sa_info(handle).packets for handle in self.handles)


def idle(driver: Driver, handles: tuple[int, ...], now: float, seconds: float) -> bool:
    """Whether no SA had a packet for so long (KB 257225: SAIdleTime); compared in the driver's nanoseconds."""
    last = max(driver.sa_info(handle).last for handle in handles)
    return round((now - last) * 1e9) >= round(seconds * 1e9)


def delete(driver: Driver, handles: tuple[int, ...]) -> None:
    """Takes SAs from the driver, the inner before the outer one."""
    for handle in reversed(handles):
        driver.delete_sa(handle)


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


def _add(
    driver: Driver,
    event: QuickModeEvent,
    direction: Literal["out", "in"],
    initiator: bool,
    idle_seconds: float,
    before: SaInfo | None = None,
) -> tuple[int, ...]:
    """The SAs of one direction, the outer first; `before` is what one of them goes on from."""
    suite, outbound, offer = suite_of(event.offer), direction == "out", event.offer
    if isinstance(event, QuickModeEstablished):
        children = event.outbound if outbound else event.inbound
        seconds, kilobytes = event.lifetime_seconds, event.lifetime_kilobytes
    else:
        children, seconds, kilobytes = event.inbound, offer.lifetime_seconds, offer.lifetime_kilobytes
    local, remote = IPv4Address(event.local), IPv4Address(event.udp.remote_address if event.udp else event.remote)
    common: dict[str, Any] = {
        "direction": direction,
        "source": local if outbound else remote,
        "destination": remote if outbound else local,
        "soft_bytes": int(kilobytes * KILOBYTE * SOFT_SHARE[initiator]),
        "hard_bytes": kilobytes * KILOBYTE,
        "soft_seconds": soft_seconds(seconds, initiator=initiator),
        "hard_seconds": seconds,
        "idle_seconds": idle_seconds,
        "created": event.time,
    }
    if before is not None:
        spent = {key: max(common[key] - before.bytes, 1) for key in ("soft_bytes", "hard_bytes") if common[key]}
        common |= {"sequence": before.sequence, **spent}
    selectors = event.selectors if outbound else event.selectors.mirrored()
    traffic = {
        "mode": "tunnel" if offer.encapsulation is Encapsulation.TUNNEL else "transport",
        "inner_source": selectors.source,
        "inner_destination": selectors.destination,
        "inner_protocol": selectors.protocol,
        "source_port": selectors.source_port,
        "destination_port": selectors.destination_port,
        "filter": event.reference,
    }
    between = {
        "inner_source": IPv4Network(common["source"]),
        "inner_destination": IPv4Network(common["destination"]),
        "inner_protocol": Protocol.ESP,
        "filter": NO_FILTER,
    }
    handles: tuple[int, ...] = ()
    for child in children:
        innermost = child is children[-1]
        fields = common | (traffic if innermost else between) | _algorithms(suite, child)
        if event.udp is not None and child.protocol is Protocol.ESP:
            fields |= _encapsulation(event.udp, outbound)
        outer = handles[-1] if handles else 0
        handles += (
            driver.add_sa(SecurityAssociation(spi=child.spi, outer=outer, allow_unauthenticated=outer != 0, **fields)),
        )
    return handles


def _algorithms(suite: Suite, child: ChildSa) -> dict[str, Any]:
    if child.protocol is Protocol.AH:
        assert suite.ah is not None
        return {"protocol": "ah", "integrity": suite.ah.driver, "integrity_key": child.authentication_key}
    assert suite.cipher is not None
    return {
        "encryption": suite.cipher.driver,
        "encryption_key": child.encryption_key + child.salt,
        "integrity": suite.driver_integrity,
        "integrity_key": child.authentication_key,
    }


def _encapsulation(udp: UdpEncapsulation, outbound: bool) -> dict[str, Any]:
    """RFC 3948; the addresses before the NAT are for the checksums of what comes in (3.1.2)."""
    if outbound:
        return {"encapsulation": (udp.local_port, udp.remote_port)}
    return {
        "encapsulation": (udp.remote_port, udp.local_port),
        "original_source": udp.original_remote,
        "original_destination": udp.original_local,
    }


def install_inbound(driver: Driver, event: QuickModeEvent, idle_seconds: float, *, initiator: bool) -> tuple[int, ...]:
    """Hands the inbound SAs to the driver and returns their handles, the outer first."""
    return _add(driver, event, "in", initiator, idle_seconds)


def install(driver: Driver, event: QuickModeEstablished, inbound: tuple[int, ...] | None, idle_seconds: float) -> Pair:
    """Hands the inbound SAs to the driver if they are not there yet. `switch` completes the pair."""
    if inbound is None:
        inbound = install_inbound(driver, event, idle_seconds, initiator=event.initiator)
    return Pair(event, inbound, ())


def switch(driver: Driver, pair: Pair, idle_seconds: float) -> None:
    """Hands the outbound SAs to the driver if they are not there yet: from the next packet on the pair is used."""
    if not pair.outbound:
        pair.outbound = _add(driver, pair.event, "out", pair.event.initiator, idle_seconds)


def move(driver: Driver, pair: Pair, address: str, port: int, local_port: int, idle_seconds: float) -> None:
    """ESP in UDP goes to another address or port from now on: an SA in the place of the outbound one, with its keys."""
    event = pair.event
    assert event.udp is not None
    (handle,) = pair.outbound
    before = driver.sa_info(handle)
    driver.delete_sa(handle)
    there = replace(event.udp, local_port=local_port, remote_port=port, remote_address=address)
    pair.event = replace(event, udp=there)
    pair.outbound = _add(driver, pair.event, "out", event.initiator, idle_seconds, before)


def key_records(event: QuickModeEstablished) -> tuple[KeyRecord, ...]:
    """The keys of the ESP SAs in Wireshark's words, inbound first; AH needs none to be read."""
    suite = suite_of(event.offer)
    local, remote = IPv4Address(event.local), IPv4Address(event.remote)
    ways = ((remote, local, event.inbound), (local, remote, event.outbound))
    return tuple(
        KeyRecord(
            source,
            destination,
            child.spi,
            suite.cipher.wireshark,
            child.encryption_key + child.salt,
            suite.wireshark_integrity,
            child.authentication_key,
        )
        for source, destination, children in ways
        for child in children
        if suite.cipher and child.protocol is Protocol.ESP
    )
