"""Soft SAs: clear text, with an entry in driver and monitor, for a peer that does not speak IKE (KB 257225).

They are not audited when they are made, only when they end, and IP Security Monitor shows their security as "None".
While one exists nothing is negotiated for its traffic; that traffic keeps it alive.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ipsec_core.computer.associations import delete, idle
from ipsec_core.computer.negotiation import PolicyView
from ipsec_core.driver import Driver, SecurityAssociation
from ipsec_core.ike import SoftAssociation, TrafficSelector


@dataclass(frozen=True, slots=True)
class Soft:
    """The soft SAs of one negotiation by their handles: outbound, and inbound where the policy has a filter."""

    event: SoftAssociation
    handles: tuple[int, ...]


class SoftAssociations:
    """Those of one computer; `ended(now, selectors)` is called when one is gone."""

    def __init__(self, driver: Driver, ended: Callable[[float, TrafficSelector], None]) -> None:
        self._driver = driver
        self._ended = ended
        self._all: list[Soft] = []

    def times(self) -> dict[int, float]:
        """When each SA was made, by its handle."""
        return {handle: soft.event.time for soft in self._all for handle in soft.handles}

    def with_peer(self, remote: str) -> tuple[int, ...]:
        """The handles of those with a peer."""
        return tuple(handle for soft in self._all if soft.event.remote == remote for handle in soft.handles)

    def install(self, event: SoftAssociation, view: PolicyView, idle_seconds: float) -> None:
        """Clear text for the traffic of all acquires that the event answers."""
        references = [("out", number, event.selectors) for number in event.answers if number in view.filters]
        back = event.selectors.mirrored()
        inbound = view.inbound_filter(back)
        if references and inbound is not None:
            references.append(("in", inbound, back))
        self._all.append(
            Soft(
                event,
                tuple(
                    self._driver.add_sa(
                        SecurityAssociation(
                            "out" if direction == "out" else "in",
                            protocol="none",
                            inner_source=selectors.source,
                            inner_destination=selectors.destination,
                            inner_protocol=selectors.protocol,
                            source_port=selectors.source_port,
                            destination_port=selectors.destination_port,
                            filter=number,
                            hard_seconds=view.policy.key_exchange.soft_lifetime_seconds,
                            idle_seconds=idle_seconds,
                            created=event.time,
                        )
                    )
                    for direction, number, selectors in references
                ),
            )
        )

    def upcall(self, now: float, handle: int, expired: bool, idle_seconds: float) -> None:
        """The driver says that an SA has expired, or has been idle; it ends when its other direction is idle, too."""
        for soft in self._all:
            if handle in soft.handles and (expired or idle(self._driver, soft.handles, now, idle_seconds)):
                self._remove(now, [soft])
                return

    def remove(self, now: float, remote: str | None = None) -> None:
        """The peer speaks IKE after all; without one, all go: a new policy, or the end of the Policy Agent."""
        self._remove(now, [soft for soft in self._all if remote in (None, soft.event.remote)])

    def _remove(self, now: float, gone: list[Soft]) -> None:
        for soft in gone:
            self._all.remove(soft)
            delete(self._driver, soft.handles)
            self._ended(now, soft.event.selectors)
