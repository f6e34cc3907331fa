"""Compiled driver filters against an independent, literal reading of the policy."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from hypothesis import example, given, settings
from hypothesis import strategies as st

from ipsec_core.policy.compile import Direction, DriverFilter, compile_policy, linear_match
from ipsec_core.policy.methods import SecurityMethod
from ipsec_core.policy.model import ConnectionType, FilterAction, FilterActionKind, Policy, Rule
from ipsec_core.policy.selectors import ANY, MY, Address, Filter, FilterList

METHODS = (SecurityMethod.parse("ESP[3DES,SHA1]"),)
PERMIT = FilterAction("", FilterActionKind.PERMIT)
BLOCK = FilterAction("", FilterActionKind.BLOCK)
NEGOTIATE = FilterAction("", FilterActionKind.NEGOTIATE, METHODS)
REQUEST = FilterAction("", FilterActionKind.NEGOTIATE, METHODS, inbound_passthrough=True)
MINE = (IPv4Address("10.0.0.1"), IPv4Address("10.0.1.1"))
REMOTE = IPv4Address("192.0.2.2")

# Few addresses, protocols and ports, so that filters and packets meet often.
hosts = st.sampled_from([*MINE, *map(IPv4Address, ("10.0.0.2", "10.0.1.2", "192.0.2.2"))])
addresses = st.sampled_from(
    [ANY, MY, *map(Address.parse, ("10.0.0.1", "10.0.0.2", "10.0.0.0/24", "10.0.1.0/24", "10.0.0.0/23", "192.0.2.2"))]
)
ports = st.sampled_from([0, 80, 500])


@st.composite
def filters(draw: st.DrawFn) -> Filter:
    source = draw(addresses)
    destination = draw(addresses.filter(lambda address: not (address.is_my and source.is_my)))
    protocol = draw(st.sampled_from([0, 1, 6, 17]))
    with_ports = protocol in (6, 17)
    return Filter(
        "",
        source,
        destination,
        protocol,
        draw(ports) if with_ports else 0,
        draw(ports) if with_ports else 0,
        draw(st.booleans()),
    )


@st.composite
def rules(draw: st.DrawFn) -> Rule:
    endpoint = draw(st.sampled_from([None, None, None, REMOTE, MINE[0]]))
    action = draw(st.sampled_from([NEGOTIATE, REQUEST] if endpoint else [PERMIT, BLOCK, NEGOTIATE, REQUEST]))
    items = tuple(draw(st.lists(filters(), min_size=1, max_size=3)))
    return Rule("r", FilterList("", "", items), action, tunnel_endpoint=endpoint, active=draw(st.integers(0, 5)) > 0)


policies = st.lists(rules(), max_size=5).map(lambda found: Policy("p", rules=tuple(found)))


@dataclass(frozen=True)
class Packet:
    direction: Direction
    source: IPv4Address
    destination: IPv4Address
    protocol: int
    source_port: int
    destination_port: int


@st.composite
def packets(draw: st.DrawFn) -> Packet:
    """What can come by: never a packet to me on the way out, nor one from me on the way in."""
    direction: Direction = draw(st.sampled_from(("outbound", "inbound")))
    other = hosts.filter(lambda host: host not in MINE)
    source, destination = draw(hosts if direction == "outbound" else other), draw(hosts)
    if direction == "outbound":
        destination = draw(other)
    protocol = draw(st.sampled_from([1, 6, 17]))
    both = (draw(ports), draw(ports)) if protocol != 1 else (0, 0)
    return Packet(direction, source, destination, protocol, *both)


def _covers(address: Address, host: IPv4Address) -> bool:
    if address.is_my:
        return host in MINE
    mask = int(address.network.netmask)
    return int(host) & mask == int(address.network.network_address)


def _length(address: Address) -> int:
    return bin(int(address.network.netmask)).count("1")


def brute_force(policy: Policy, packet: Packet) -> tuple[int, str] | None:
    """(rule, action) that the policy's text gives: of all filters that describe the packet, the most specific."""
    best: tuple[object, ...] | None = None
    verdict: tuple[int, str] | None = None
    order = 0
    for index, rule in enumerate(policy.rules):
        if not rule.active:
            continue
        tunnel = rule.tunnel_endpoint is not None
        inbound_rule = rule.tunnel_endpoint in MINE
        for item in rule.filter_list.filters:
            order += 1
            if tunnel and inbound_rule != (packet.direction == "inbound"):
                continue
            there = (packet.source, packet.destination, packet.source_port, packet.destination_port)
            back = (packet.destination, packet.source, packet.destination_port, packet.source_port)
            readings = [there, back] if item.mirrored and not tunnel else [there]
            if not any(
                _covers(item.source, source)
                and _covers(item.destination, destination)
                and (item.protocol == 0 or item.protocol == packet.protocol)
                and (item.source_port == 0 or item.source_port == source_port)
                and (item.destination_port == 0 or item.destination_port == destination_port)
                for source, destination, source_port, destination_port in readings
            ):
                continue
            rank = (
                tunnel,
                _length(item.source) + _length(item.destination),
                item.protocol != 0,
                item.destination_port != 0,
                item.source_port != 0,
                -order,
            )
            if best is None or rank > best:
                best = rank
                action = rule.filter_action
                passes = action.inbound_passthrough and packet.direction == "inbound"
                verdict = (index, "passthrough" if passes else action.action.text)
    return verdict


def _match(compiled: tuple[DriverFilter, ...], packet: Packet) -> DriverFilter | None:
    return linear_match(
        compiled,
        packet.direction,
        packet.source,
        packet.destination,
        packet.protocol,
        packet.source_port,
        packet.destination_port,
    )


@settings(deadline=None, max_examples=400)
@given(policies, st.lists(packets(), min_size=1, max_size=20))
def test_linear_walk_is_the_literal_reading(policy: Policy, burst: list[Packet]) -> None:
    compiled = compile_policy(policy, MINE)
    for packet in burst:
        found = _match(compiled, packet)
        assert (None if found is None else (found.rule, found.action)) == brute_force(policy, packet)


@settings(deadline=None)
@given(policies)
def test_order_identity_and_no_duplicates(policy: Policy) -> None:
    compiled = compile_policy(policy, MINE)
    assert [item.weight for item in compiled] == sorted((item.weight for item in compiled), reverse=True)
    assert len({item.filter_id for item in compiled}) == len(compiled)
    selectors = {
        (
            item.direction,
            item.source,
            item.destination,
            item.protocol,
            item.source_port,
            item.destination_port,
            item.tunnel_endpoint is None,
        )
        for item in compiled
    }
    assert len(selectors) == len(compiled)
    assert compile_policy(policy, MINE) == compiled


@settings(deadline=None)
@given(filters(), st.booleans())
@example(Filter("", MY, ANY), True)
def test_mirrored_equals_both_filters_written_out(item: Filter, reverse_order: bool) -> None:
    if item.mirrored:
        there = Filter("", item.source, item.destination, item.protocol, item.source_port, item.destination_port, False)
        back = Filter("", item.destination, item.source, item.protocol, item.destination_port, item.source_port, False)
        pair = (back, there) if reverse_order else (there, back)
        assert _ways(compile_policy(_policy(NEGOTIATE, item), MINE)) == _ways(
            compile_policy(_policy(NEGOTIATE, *pair), MINE)
        )


@settings(deadline=None)
@given(filters(), st.sampled_from([PERMIT, BLOCK, NEGOTIATE, REQUEST]))
def test_me_equals_each_address_written_out(item: Filter, action: FilterAction) -> None:
    def spelled(address: Address) -> list[Address]:
        return [Address(IPv4Network(mine)) for mine in MINE] if address.is_my else [address]

    items = [
        Filter("", source, destination, item.protocol, item.source_port, item.destination_port, item.mirrored)
        for source in spelled(item.source)
        for destination in spelled(item.destination)
    ]
    assert _ways(compile_policy(_policy(action, item), MINE)) == _ways(compile_policy(_policy(action, *items), MINE))


def _policy(action: FilterAction, *items: Filter, endpoint: IPv4Address | None = None) -> Policy:
    return Policy("p", rules=(Rule("rule", FilterList("list", "", items), action, tunnel_endpoint=endpoint),))


def _ways(compiled: tuple[DriverFilter, ...]) -> set[tuple[str, str, str, int, int, int]]:
    return {
        (
            item.flags,
            str(item.source),
            str(item.destination),
            item.protocol,
            item.source_port,
            item.destination_port,
        )
        for item in compiled
    }


def test_one_mirrored_filter_on_two_addresses() -> None:
    compiled = compile_policy(_policy(REQUEST, Filter("web", MY, ANY, 6, 0, 80)), MINE)
    assert _ways(compiled) == {
        ("Outbound Negotiate", "10.0.0.1/32", "0.0.0.0/0", 6, 0, 80),
        ("Outbound Negotiate", "10.0.1.1/32", "0.0.0.0/0", 6, 0, 80),
        ("Inbound Passthrough", "0.0.0.0/0", "10.0.0.1/32", 6, 80, 0),
        ("Inbound Passthrough", "0.0.0.0/0", "10.0.1.1/32", 6, 80, 0),
    }
    assert {item.name for item in compiled} == {"web"}


def test_names_come_from_filter_then_list_then_rule() -> None:
    (item,) = compile_policy(_policy(BLOCK, Filter("", MY, ANY, mirrored=False)), MINE[:1])
    assert item.name == "list"
    rule = Rule("rule", FilterList("", "", (Filter("", MY, ANY, mirrored=False),)), BLOCK)
    (item,) = compile_policy(Policy("p", rules=(rule,)), MINE[:1])
    assert item.name == "rule"
    assert item.flags == "Outbound Block"


def test_tunnel_filters_go_one_way() -> None:
    there = Filter("", Address.parse("10.0.0.0/24"), Address.parse("10.9.0.0/24"))
    (item,) = compile_policy(_policy(NEGOTIATE, there, endpoint=REMOTE), MINE)
    assert (item.flags, item.tunnel_endpoint) == ("Outbound Negotiate", REMOTE)
    back = Filter("", Address.parse("10.9.0.0/24"), Address.parse("10.0.0.0/24"))
    (item,) = compile_policy(_policy(NEGOTIATE, back, endpoint=MINE[0]), MINE)
    assert (item.flags, item.tunnel_endpoint) == ("Inbound Negotiate", MINE[0])


def test_both_halves_of_a_conversation_fall_under_one_rule() -> None:
    """A filter on the source port and one on the destination port keep their order on the way back."""
    by_source = Rule("source", FilterList("", "", (Filter("", MY, ANY, 6, 500, 0),)), BLOCK)
    by_destination = Rule("destination", FilterList("", "", (Filter("", MY, ANY, 6, 0, 80),)), PERMIT)
    compiled = compile_policy(Policy("p", rules=(by_source, by_destination)), MINE)
    out = linear_match(compiled, "outbound", MINE[0], REMOTE, 6, 500, 80)
    back = linear_match(compiled, "inbound", REMOTE, MINE[0], 6, 80, 500)
    assert out is not None
    assert back is not None
    assert out.rule == back.rule == 1


def test_connection_type() -> None:
    rule = Rule("r", FilterList("", "", (Filter("", MY, ANY),)), BLOCK, connection_type=ConnectionType.REMOTE_ACCESS)
    policy = Policy("p", rules=(rule,))
    assert compile_policy(policy, MINE) == ()
    assert len(compile_policy(policy, MINE, ConnectionType.REMOTE_ACCESS)) == 4


def test_no_match_is_none() -> None:
    compiled = compile_policy(_policy(BLOCK, Filter("", MY, ANY, 6)), MINE)
    assert linear_match(compiled, "outbound", MINE[0], REMOTE, 17) is None
