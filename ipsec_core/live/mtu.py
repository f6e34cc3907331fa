"""The MTU of the TUN device: what the host may send so that it fits the link once it is protected."""

from __future__ import annotations

from ipaddress import IPv4Network

from ipsec_core.computer.suites import suite_for
from ipsec_core.driver import SecurityAssociation, algorithms, overhead
from ipsec_core.policy.model import FilterActionKind, Policy, Rule, SecurityMethod

# AH with the longest ICV (RFC 4868 2.6) in a tunnel, and ESP inside of it: for methods that are not one ESP SA.
_LARGEST_OVERHEAD = 160
_HOST = "192.0.2.1"
_PORTS = (4500, 4500)


def clear_mtu(policy: Policy, link_mtu: int, *, udp: bool) -> int:
    """The longest packet that every security method of the policy turns into one of at most `link_mtu` bytes.

    `udp`: ESP may have to go in UDP (RFC 3948).
    """
    found = [link_mtu]
    for rule in policy.rules:
        if rule.active and rule.filter_action.action is FilterActionKind.NEGOTIATE:
            found += [_fitting(rule, method, link_mtu, udp) for method in rule.filter_action.methods]
    return min(found)


def _fitting(rule: Rule, method: SecurityMethod, link_mtu: int, udp: bool) -> int:
    suite = suite_for(method)
    if suite is None:
        return link_mtu - _LARGEST_OVERHEAD
    lengths = {item.name: item.key_length for item in algorithms()}
    network = IPv4Network(_HOST)
    sa = SecurityAssociation(
        "out",
        4096,
        _HOST,
        _HOST,
        suite.cipher.driver,
        bytes(lengths[suite.cipher.driver]),
        suite.driver_integrity,
        bytes(lengths[suite.driver_integrity]),
        mode="transport" if rule.tunnel_endpoint is None else "tunnel",
        inner_source=network,
        inner_destination=network,
        encapsulation=_PORTS if udp else None,
    )
    longest = link_mtu
    while longest + overhead(sa, longest) > link_mtu:
        longest -= 1
    return longest
