"""The automatic rules of L2TP over IPsec (KB 248750): for a server, and for a client that dials one.

Routing and Remote Access pushes them into the Policy Agent; they are in no store, no tool edits them, and they are gone
with the service. The article does not say which security methods they have: these are ours, with the default lifetimes.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network

from ipsec_core.policy.methods import SecurityMethod
from ipsec_core.policy.model import AuthenticationMethod, FilterAction, FilterActionKind, Rule
from ipsec_core.policy.selectors import ANY, MY, PROTOCOLS, Address, Filter, FilterList

PORT = 1701  # RFC 2661 8.1
SERVER = "L2TP Server"
CLIENT = "L2TP Client"

_ACTION = FilterAction(
    "L2TP",
    FilterActionKind.NEGOTIATE,
    tuple(map(SecurityMethod.parse, ("ESP[3DES,SHA1]", "ESP[3DES,MD5]", "ESP[DES,SHA1]", "ESP[DES,MD5]"))),
)


def server_rules(authentication: Sequence[AuthenticationMethod]) -> tuple[Rule, ...]:
    """Of a server for all clients: from me, any source port, to any address, UDP 1701; mirrored."""
    return _rules(SERVER, Filter("", MY, ANY, PROTOCOLS["udp"], destination_port=PORT), authentication)


def client_rules(server: IPv4Address, authentication: Sequence[AuthenticationMethod]) -> tuple[Rule, ...]:
    """Of a client for one connection: from me, UDP 1701, to the server, any destination port; mirrored."""
    there = Address(IPv4Network(server))
    return _rules(CLIENT, Filter("", MY, there, PROTOCOLS["udp"], source_port=PORT), authentication)


def _rules(name: str, traffic: Filter, authentication: Sequence[AuthenticationMethod]) -> tuple[Rule, ...]:
    return (Rule(name, FilterList(name, "", (traffic,)), _ACTION, tuple(authentication)),)
