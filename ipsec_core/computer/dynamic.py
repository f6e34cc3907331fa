"""The default response rule: filters for traffic that peers ask to protect, as long as there are SAs for it.

Nobody writes these filters; the tools of Windows 2000 call their list <Dynamic>. With them a computer that begins no
negotiation of its own sends what it answers protected, too. They stand behind all filters of the policy, so that none
of those is ever overruled, and are made when Quick Mode ends, of what the peer, authenticated by then, has proposed.

What comes in clear is still taken in: it is the peer that wants security, and what it sends without (ICMP, say the
policies of Windows 2000's servers) its own policy permits. That is no less than without a filter.
"""

from __future__ import annotations

import uuid
from bisect import bisect_left, insort
from collections import Counter
from dataclasses import dataclass, field

from ipsec_core.ike import QuickModeEstablished, TrafficSelector
from ipsec_core.policy.compile import Direction, DriverFilter
from ipsec_core.policy.model import ConnectionType, Policy

NAME = "<Dynamic>"
# How much of a peer's, and of all peers' traffic has filters at once, two for each: nobody can fill the driver.
MAX_FLOWS_OF_PEER = 64
MAX_FLOWS = 4096
# The numbers of dynamic filters begin here, those of the policy's own filters stay below.
FIRST_NUMBER = 1 << 30


@dataclass(slots=True)
class _Flow:
    """Traffic of a peer, seen from us, and the pairs that protect it by their inbound SPIs."""

    remote: str
    selectors: TrafficSelector
    pairs: set[int] = field(default_factory=set)


class DynamicFilters:
    """Those under one policy; `rule` is the index of its default response rule, None: it has none, and no filters.

    A flow has two numbers, that of its outbound filter, by which its SAs name it, and the next one. No number serves
    twice, also not under the policy after the one of `before`: SAs whose filter is gone do not find another one.
    """

    def __init__(self, policy: Policy, before: DynamicFilters | None = None) -> None:
        rule = policy.default_response
        self.rule: int | None = None
        if rule is not None and rule.connection_type is not ConnectionType.REMOTE_ACCESS:
            self.rule = policy.rules.index(rule)
        self.filters: dict[int, DriverFilter] = {}
        self._order: list[tuple[int, int]] = []  # weights below 0 and numbers of the outbound filters
        self._added: set[int] = set()
        self._removed: set[int] = set()
        self._policy_id = policy.policy_id
        self._first: int = before._next if before else FIRST_NUMBER
        self._next: int = self._first
        self._flows: dict[int, _Flow] = {}
        self._numbers: dict[tuple[str, TrafficSelector], int] = {}
        self._of_peer: Counter[str] = Counter()
        self.version = 0  # another one whenever the filters are others

    def number(self, remote: str, selectors: TrafficSelector) -> int | None:
        """The number for traffic that a peer wants protected; None when too much of it is, already."""
        known = self._numbers.get((remote, selectors))
        if known is not None:
            return known
        if self._full(remote):
            return None
        self._next += 2
        return self._next - 2

    def hold(self, pair: QuickModeEstablished) -> bool:
        """The traffic of a pair has filters until the pair is gone.

        False, and no change, if the pair was agreed under another policy or there are too many filters.
        """
        number, remote, selectors = pair.reference, pair.remote, pair.selectors
        if self.rule is None or not self._first <= number < self._next:
            return False
        flow = self._flows.get(number)
        if flow is None:
            if self._full(remote):
                return False
            flow = self._flows[number] = _Flow(remote, selectors)
            self._numbers[remote, selectors] = number
            self._of_peer[remote] += 1
            weight = _weight(selectors)
            self.filters[number] = self._filter("outbound", selectors, weight)
            self.filters[number + 1] = self._filter("inbound", selectors.mirrored(), weight)
            insort(self._order, (-weight, number))
            self.version += 1
            _either(number, self._added, self._removed)
        flow.pairs.add(pair.inbound_spi)
        return True

    def release(self, pair: QuickModeEstablished) -> None:
        """A pair is gone, and with the last one of its traffic the filters."""
        number = pair.reference
        flow = self._flows.get(number)
        if flow is None:
            return
        flow.pairs.discard(pair.inbound_spi)
        if flow.pairs:
            return
        self._order.remove((-self.filters[number].weight, number))
        del self._flows[number], self.filters[number], self.filters[number + 1]
        if self._numbers.get((flow.remote, flow.selectors)) == number:
            del self._numbers[flow.remote, flow.selectors]
        self.version += 1
        self._of_peer[flow.remote] -= 1
        if not self._of_peer[flow.remote]:
            del self._of_peer[flow.remote]
        _either(number, self._removed, self._added)

    def in_order(self) -> dict[int, DriverFilter]:
        """The filters by number, the most specific first."""
        return {number: self.filters[number] for _, first in self._order for number in (first, first + 1)}

    def changes(self) -> tuple[list[int], list[tuple[int, dict[int, DriverFilter]]]]:
        """What has changed since the last call: the numbers of filters that are gone, then what to insert where."""
        removed = [number for first in self._removed for number in (first, first + 1)]
        added = []
        for first in sorted(self._added, key=lambda first: (-self.filters[first].weight, first)):
            place = 2 * bisect_left(self._order, (-self.filters[first].weight, first))
            added.append((place, {number: self.filters[number] for number in (first, first + 1)}))
        self._added.clear()
        self._removed.clear()
        return removed, added

    def _full(self, remote: str) -> bool:
        return len(self._flows) >= MAX_FLOWS or self._of_peer[remote] >= MAX_FLOWS_OF_PEER

    def _filter(self, direction: Direction, way: TrafficSelector, weight: int) -> DriverFilter:
        assert self.rule is not None
        return DriverFilter(
            filter_id=uuid.uuid5(self._policy_id, f"{self.rule} {direction} {way}"),
            policy_id=self._policy_id,
            name=NAME,
            direction=direction,
            source=way.source,
            destination=way.destination,
            protocol=way.protocol,
            source_port=way.source_port,
            destination_port=way.destination_port,
            action="negotiate" if direction == "outbound" else "passthrough",
            tunnel_endpoint=None,
            weight=weight,
            rule=self.rule,
        )


def _either(number: int, put: set[int], taken: set[int]) -> None:
    """Into a set, or out of the one with the opposite: then it is as the driver has it."""
    if number in taken:
        taken.remove(number)
    else:
        put.add(number)


def _weight(flow: TrafficSelector) -> int:
    """As compile.filter_weight has it, between two hosts."""
    return 64 << 3 | (flow.protocol != 0) << 2 | (flow.destination_port != 0) << 1 | (flow.source_port != 0)
