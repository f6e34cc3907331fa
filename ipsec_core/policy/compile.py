"""From a policy to the directional filters of the IPsec driver.

What the Policy Agent does when a policy takes effect (KB 257225; the object model is [MS-GPIPSEC] 2.2.1): *My IP
address* becomes one filter per local address, mirrored filters become two, tunnel filters one, and all of them are put
in one order, most specific first, across all rules. Administrators cannot order filters.

The weight
    Windows 2000's numbers are not published; these follow its documented principle. From the most significant part:

    ========== ==================================================================================================
    bits       meaning
    ========== ==================================================================================================
    10         the rule has a tunnel endpoint: tunnel filters are a list of their own, searched before transport
    3 to 9     prefix length of source plus that of destination, 0 (any to any) to 64 (host to host); me is a host
    2          a protocol is given
    1          a destination port is given
    0          a source port is given
    ========== ==================================================================================================

    The weight is taken from the filter as written, and its mirror inherits it: otherwise a filter on a source port and
    one on a destination port would change places on the way back, and the two halves of a conversation could fall
    under different rules. Equal weights keep the order of the policy.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Literal

from ipsec_core.policy.model import ConnectionType, FilterActionKind, Policy, Rule
from ipsec_core.policy.selectors import Address, Filter

Direction = Literal["outbound", "inbound"]
DriverAction = Literal["permit", "block", "negotiate", "passthrough"]

_ACTIONS: dict[FilterActionKind, DriverAction] = {
    FilterActionKind.PERMIT: "permit",
    FilterActionKind.BLOCK: "block",
    FilterActionKind.NEGOTIATE: "negotiate",
}


@dataclass(frozen=True, slots=True)
class DriverFilter:
    """One filter as the driver holds it: one direction, real addresses. Protocol 0 and port 0 match any.

    `rule` is the index into `Policy.rules`; `tunnel_endpoint` is None in transport mode. `passthrough` lets clear
    packets in although the way out is negotiated.
    """

    filter_id: uuid.UUID
    policy_id: uuid.UUID
    name: str
    direction: Direction
    source: IPv4Network
    destination: IPv4Network
    protocol: int
    source_port: int
    destination_port: int
    action: DriverAction
    tunnel_endpoint: IPv4Address | None
    weight: int
    rule: int

    @property
    def flags(self) -> str:
        """As netdiag prints it: "Outbound Negotiate", "Inbound Block"."""
        return f"{self.direction} {self.action}".title()

    def matches(
        self, source: IPv4Address, destination: IPv4Address, protocol: int, source_port: int, destination_port: int
    ) -> bool:
        """Whether a packet has these selectors; the direction is the caller's."""
        return (
            source in self.source
            and destination in self.destination
            and self.protocol in (0, protocol)
            and self.source_port in (0, source_port)
            and self.destination_port in (0, destination_port)
        )


_Way = tuple[Direction, IPv4Network, IPv4Network, int, int]


def compile_policy(
    policy: Policy, my_addresses: Sequence[IPv4Address], connection: ConnectionType = ConnectionType.LAN
) -> tuple[DriverFilter, ...]:
    """The filters of all active rules for interfaces of the kind `connection`, both directions, most specific first.

    A filter between two other computers counts in both directions: a router sees its packets come and go. One whose
    source is exactly one of my addresses is outbound only, one whose destination is, inbound only. Of filters with the
    same selectors the first stands.
    """
    mine = tuple(dict.fromkeys(my_addresses))
    found: dict[tuple[_Way, int, bool], DriverFilter] = {}
    for item in sorted(_driver_filters(policy, mine, connection), key=lambda item: -item.weight):
        way = (item.direction, item.source, item.destination, item.source_port, item.destination_port)
        found.setdefault((way, item.protocol, item.tunnel_endpoint is not None), item)
    return tuple(found.values())


def linear_match(
    filters: Iterable[DriverFilter],
    direction: Direction,
    source: IPv4Address,
    destination: IPv4Address,
    protocol: int,
    source_port: int = 0,
    destination_port: int = 0,
) -> DriverFilter | None:
    """The first filter that matches a packet, by plain search: what every faster matcher has to agree with."""
    for item in filters:
        if item.direction == direction and item.matches(source, destination, protocol, source_port, destination_port):
            return item
    return None


def filter_weight(item: Filter, tunnel: bool) -> int:
    """The weight of a filter as written; see the table above."""
    prefixes = item.source.network.prefixlen + item.destination.network.prefixlen
    return (
        tunnel << 10
        | prefixes << 3
        | (item.protocol != 0) << 2
        | (item.destination_port != 0) << 1
        | (item.source_port != 0)
    )


def _driver_filters(policy: Policy, mine: Sequence[IPv4Address], connection: ConnectionType) -> Iterator[DriverFilter]:
    """Every directional filter in the order of the policy."""
    policy_id = policy.policy_id
    for index, rule in enumerate(policy.rules):
        if not rule.active or rule.connection_type not in (ConnectionType.ALL, connection):
            continue
        kind = _ACTIONS[rule.filter_action.action]
        for item in rule.filters:
            for direction, source, destination, source_port, destination_port in _ways(item, rule, mine):
                selectors = f"{source}:{source_port} {destination}:{destination_port} {item.protocol}"
                yield DriverFilter(
                    filter_id=uuid.uuid5(policy_id, f"{index} {direction} {selectors} {rule.tunnel_endpoint}"),
                    policy_id=policy_id,
                    name=item.name or (rule.filter_list.name if rule.filter_list else "") or rule.name,
                    direction=direction,
                    source=source,
                    destination=destination,
                    protocol=item.protocol,
                    source_port=source_port,
                    destination_port=destination_port,
                    action="passthrough" if rule.filter_action.inbound_passthrough and direction == "inbound" else kind,
                    tunnel_endpoint=rule.tunnel_endpoint,
                    weight=filter_weight(item, rule.tunnel_endpoint is not None),
                    rule=index,
                )


def _ways(item: Filter, rule: Rule, mine: Sequence[IPv4Address]) -> Iterator[_Way]:
    """The one-way filters of one filter of a rule, with *me* put in."""
    for source in _networks(item.source, mine):
        for destination in _networks(item.destination, mine):
            way = (source, destination, item.source_port, item.destination_port)
            if rule.tunnel_endpoint is not None:
                # The endpoint receives the tunnelled packets: my address there means that they come to me.
                yield ("inbound" if rule.tunnel_endpoint in mine else "outbound", *way)
                continue
            back = (destination, source, item.destination_port, item.source_port)
            for one in (way, back) if item.mirrored else (way,):
                for direction in _directions(one[0], one[1], mine):
                    yield (direction, *one)


def _networks(address: Address, mine: Sequence[IPv4Address]) -> list[IPv4Network]:
    return [IPv4Network(one) for one in mine] if address.is_my else [address.network]


def _directions(source: IPv4Network, destination: IPv4Network, mine: Sequence[IPv4Address]) -> tuple[Direction, ...]:
    from_me = source.prefixlen == 32 and source.network_address in mine
    to_me = destination.prefixlen == 32 and destination.network_address in mine
    if from_me == to_me:
        return ("outbound", "inbound")
    return ("outbound",) if from_me else ("inbound",)
