"""The MTU of the TUN device: what the host may send so that it fits the link once it is protected."""

from __future__ import annotations

from ipaddress import IPv4Network
from typing import Literal

from ipsec_core.computer.suites import suite_for
from ipsec_core.driver import SecurityAssociation, algorithms, overhead
from ipsec_core.policy.methods import SecurityMethod
from ipsec_core.policy.model import FilterActionKind, Policy, Rule

_HOST = "192.0.2.1"
_PORTS = (4500, 4500)

Mode = Literal["tunnel", "transport"]


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
        return link_mtu
    tunnel = rule.tunnel_endpoint is not None
    room = link_mtu
    if suite.ah is not None:
        # Around ESP it is in transport mode: the tunnel is the inner one's (RFC 2401 4.3).
        around: Mode = "tunnel" if tunnel and suite.cipher is None else "transport"
        room = _longest(_sa(around, "ah", "NULL", suite.ah.driver, None), room)
    if suite.cipher is not None:
        mode: Mode = "tunnel" if tunnel else "transport"
        room = _longest(_sa(mode, "esp", suite.cipher.driver, suite.driver_integrity, _PORTS if udp else None), room)
    return room


def _sa(
    mode: Mode, protocol: Literal["esp", "ah"], encryption: str, integrity: str, ports: tuple[int, int] | None
) -> SecurityAssociation:
    lengths = {item.name: item.key_length for item in algorithms()}
    return SecurityAssociation(
        "out",
        4096,
        _HOST,
        _HOST,
        encryption,
        bytes(lengths[encryption]),
        integrity,
        bytes(lengths[integrity]),
        mode=mode,
        protocol=protocol,
        inner_source=IPv4Network(_HOST),
        inner_destination=IPv4Network(_HOST),
        encapsulation=ports,
        allow_unauthenticated=True,
    )


def _longest(sa: SecurityAssociation, room: int) -> int:
    length = room
    while length + overhead(sa, length) > room:
        length -= 1
    return length
