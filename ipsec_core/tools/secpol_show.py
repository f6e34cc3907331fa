"""What secpol shows: lists of policies, filter lists and filter actions, and the tree of each. Keys stay hidden."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from ipsec_core.policy.catalogue import Catalogue
from ipsec_core.policy.methods import DiffieHellmanGroup, KeyExchangeMethod
from ipsec_core.policy.model import (
    AuthenticationKind,
    AuthenticationMethod,
    ConnectionType,
    FilterAction,
    FilterActionKind,
    KeyExchangeSettings,
    Policy,
    Rule,
)
from ipsec_core.policy.objects import guid_text
from ipsec_core.policy.selectors import Filter, FilterList, protocol_text
from ipsec_core.policy.toml import filter_action_to_table, filter_list_to_table, policy_to_table
from ipsec_core.tools.common import counted

_CONNECTIONS = {
    ConnectionType.ALL: "all network connections",
    ConnectionType.LAN: "local area network",
    ConnectionType.REMOTE_ACCESS: "remote access",
}
_ACTION_STYLES = {FilterActionKind.PERMIT: "green", FilterActionKind.BLOCK: "red", FilterActionKind.NEGOTIATE: "cyan"}
_WORDS = {FilterActionKind.PERMIT: "Permit", FilterActionKind.BLOCK: "Block", FilterActionKind.NEGOTIATE: "Negotiate"}
_DEFAULT_RESPONSE = "Default Response"
_DYNAMIC = "<Dynamic>"
_NO_NAME = "(no name)"


def _text(value: object, style: str = "") -> Text:
    """Text of a store: what would control a terminal is a space."""
    return Text("".join(one if one.isprintable() else " " for one in str(value)), style)


def by_name(item: Policy | FilterList | FilterAction) -> tuple[str, str]:
    """The order of lists."""
    return item.name.casefold(), str(item.guid)


def _yes(value: bool) -> Text:
    return Text("yes" if value else "no")


# ---- lists ----------------------------------------------------------------------------------------------------------


def list_policies(catalogue: Catalogue) -> RenderableType:
    """A line and the description of each policy, the assigned one marked."""
    table = _list("Policy", "Assigned", "Rules")
    for item in sorted(catalogue.policies, key=by_name):
        assigned = item is catalogue.assigned
        mark = Text("yes", "bold green") if assigned else Text("no")
        name = _text(item.name, "bold green" if assigned else "bold")
        table.add_row(_described(name, item.description), mark, str(len(item.rules)))
    return table


def list_filter_lists(catalogue: Catalogue) -> RenderableType:
    """A line and the description of each filter list, with the number of its filters and of the rules that use it."""
    table = _list("Filter List", "Filters", "Used By")
    for item in sorted(catalogue.filter_lists, key=by_name):
        name = _described(_name(item), item.description)
        table.add_row(name, str(len(item.filters)), _users(catalogue, item))
    return table


def list_filter_actions(catalogue: Catalogue) -> RenderableType:
    """A line and the description of each filter action, with what it does and the number of the rules that use it."""
    table = _list("Filter Action", "Action", "Used By")
    for item in sorted(catalogue.filter_actions, key=by_name):
        kind = Text(_WORDS[item.action], _ACTION_STYLES[item.action])
        table.add_row(_described(_name(item), item.description), kind, _users(catalogue, item))
    return table


def _list(first: str, *others: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, header_style="", pad_edge=False, show_edge=False)
    table.add_column(first, overflow="fold", ratio=1)
    for name in others:
        table.add_column(name, no_wrap=True)
    return table


def _described(name: Text, description: str) -> RenderableType:
    return Group(name, Padding(_text(description, "dim"), (0, 0, 0, 2))) if description else name


def _users(catalogue: Catalogue, item: FilterList | FilterAction) -> str:
    return counted(len(catalogue.users(item)), "rule")


def _table(*columns: str) -> Table:
    table = Table(box=None, header_style="dim", pad_edge=False, show_edge=False, padding=(0, 2, 0, 0))
    for name in columns:
        table.add_column(name, overflow="fold")
    return table


def _name(item: FilterList | FilterAction) -> Text:
    return _text(item.name, "bold") if item.name else _text(guid_text(item.guid) if item.guid else _NO_NAME)


# ---- trees ----------------------------------------------------------------------------------------------------------


def policy_tree(policy: Policy, assigned: bool) -> Tree:
    """All of a policy: policy, key exchange settings, rules with filter list, filter action, authentication, tunnel."""
    head = _text(f"{policy.name}  ", "bold")
    head.append("assigned" if assigned else "not assigned", "bold green" if assigned else "dim")
    tree = Tree(head, guide_style="dim")
    general = tree.add(_heading("General"))
    if policy.description:
        _add(general, "Description", _text(policy.description))
    if policy.guid:
        _add(general, "GUID", guid_text(policy.guid))
    _add(general, "Check for policy changes every", _minutes(policy.polling_interval_seconds))
    _add_key_exchange(tree.add(_heading("Key Exchange Settings")), policy.key_exchange)
    for number, rule in enumerate(policy.rules, 1):
        title = rule.name or (_DEFAULT_RESPONSE if rule.filter_list is None else "")
        head = _text(f"Rule {number}: {title}" if title else f"Rule {number}", "bold")
        if not rule.active:
            head.append("  ").append("not active", "yellow")
        _add_rule(tree.add(head), rule)
    return tree


def filter_list_tree(item: FilterList, users: Iterable[tuple[Policy, Rule]]) -> Tree:
    tree = _item_tree(_name(item), item.description, users)
    _add_filters(tree, item.filters)
    return tree


def filter_action_tree(item: FilterAction, users: Iterable[tuple[Policy, Rule]]) -> Tree:
    tree = _item_tree(_name(item), item.description, users)
    _add_action(tree, item)
    return tree


def _item_tree(name: Text, description: str, users: Iterable[tuple[Policy, Rule]]) -> Tree:
    tree = Tree(name, guide_style="dim")
    if description:
        _add(tree, "Description", _text(description))
    for policy, rule in users:
        _add(tree, "Used by", _text(f"{policy.name}, rule {rule.name or _number(policy, rule)}"))
    return tree


def _number(policy: Policy, rule: Rule) -> int:
    return next(number for number, one in enumerate(policy.rules, 1) if one is rule)


def _heading(text: str) -> Text:
    return Text(text, "bold")


def _add(tree: Tree, label: str, value: Text | str) -> Tree:
    return tree.add(Text.assemble((f"{label}: ", "dim"), value))


def _minutes(seconds: int) -> str:
    return f"{seconds // 60} minutes" if seconds % 60 == 0 else f"{seconds} seconds"


def _add_key_exchange(tree: Tree, settings: KeyExchangeSettings) -> None:
    methods = _table("", "Encryption", "Integrity", "Diffie-Hellman Group")
    for number, method in enumerate(settings.methods, 1):
        methods.add_row(str(number), method.encryption_text, method.integrity.text, _group(method))
    tree.add(Text("Security methods, in order of preference", "dim")).add(methods)
    _add(tree, "Authenticate and generate a new key after every", _minutes(settings.lifetime_seconds))
    sessions = settings.quick_modes_per_main_mode
    _add(tree, "Sessions for one such key", str(sessions) if sessions else "no limit")
    _add(tree, "Master key Perfect Forward Secrecy", _yes(settings.master_key_pfs))
    if settings.soft_lifetime_seconds:
        _add(tree, "Soft associations end after", f"{settings.soft_lifetime_seconds} seconds")


def _group(method: KeyExchangeMethod) -> str:
    own = f", {_minutes(method.lifetime_seconds)}" if method.lifetime_seconds else ""
    return _group_text(method.group) + own


def _group_text(group: DiffieHellmanGroup) -> str:
    words = {DiffieHellmanGroup.MODP_768: "Low", DiffieHellmanGroup.MODP_1024: "Medium"}
    kind, _, bits = group.name.partition("_")
    return f"{words[group]} ({int(group)})" if group in words else f"{kind} {bits} ({int(group)})"


def _add_rule(tree: Tree, rule: Rule) -> None:
    if rule.description:
        _add(tree, "Description", _text(rule.description))
    if rule.filter_list is None:
        _add(tree, "Filter list", _DYNAMIC)
    else:
        _add_filters(_add(tree, "Filter list", _name(rule.filter_list)), rule.filters)
    action = rule.filter_action
    name = _text(_DEFAULT_RESPONSE) if rule.filter_list is None and not action.name else _name(action)
    _add_action(_add(tree, "Filter action", name), action)
    if action.action is FilterActionKind.NEGOTIATE:
        authentication = tree.add(Text("Authentication methods, in order of preference", "dim"))
        for method in rule.authentication_methods:
            authentication.add(_authentication(method))
    endpoint = f"{rule.tunnel_endpoint}" if rule.tunnel_endpoint else "none (transport mode)"
    _add(tree, "Tunnel endpoint", endpoint)
    _add(tree, "Connection type", _CONNECTIONS[rule.connection_type])


def _add_filters(tree: Tree, filters: Sequence[Filter]) -> None:
    if not filters:
        tree.add(Text("no filters", "yellow"))
        return
    table = _table("From", "Port", "To", "Port", "Protocol", "Mirrored")
    named = any(item.name for item in filters)
    if named:
        table.add_column("Name", overflow="fold")
    for item in filters:
        row = (
            _text(item.source.dns_name or item.source),
            _port(item.source_port),
            _text(item.destination.dns_name or item.destination),
            _port(item.destination_port),
            Text(protocol_text(item.protocol)),
            _yes(item.mirrored),
        )
        table.add_row(*row, *([_text(item.name)] if named else []))
    tree.add(table)


def _port(number: int) -> str:
    return str(number) if number else "any"


def _add_action(tree: Tree, action: FilterAction) -> None:
    _add(tree, "Action", Text(_WORDS[action.action], _ACTION_STYLES[action.action]))
    if action.action is not FilterActionKind.NEGOTIATE:
        return
    table = _table("", "AH Integrity", "ESP Confidentiality", "ESP Integrity", "KB/seconds")
    for number, method in enumerate(action.methods, 1):
        table.add_row(
            str(number),
            method.ah.text if method.ah else "none",
            method.confidentiality.text if method.confidentiality else "none",
            method.integrity.text if method.integrity else "none",
            f"{method.lifetime_kilobytes}/{method.lifetime_seconds}",
        )
    tree.add(Text("Security methods, in order of preference", "dim")).add(table)
    _add(tree, "Accept unsecured communication, but always respond using IPsec", _yes(action.inbound_passthrough))
    _add(tree, "Allow unsecured communication with other computers", _yes(action.allow_unsecured))
    group = Text(f" (group {int(action.pfs_group)})" if action.pfs_group is not None else "")
    _add(tree, "Session key Perfect Forward Secrecy", _yes(action.pfs) + group)


def _authentication(method: AuthenticationMethod) -> Text:
    if method.kind is AuthenticationKind.KERBEROS:
        return Text("Kerberos V5")
    if method.kind is AuthenticationKind.CERTIFICATE:
        return Text("Certificate of ") + _text(method.value)
    return Text("Preshared key ***")


# ---- for programs ---------------------------------------------------------------------------------------------------


def policy_document(policy: Policy, assigned: bool) -> dict[str, object]:
    """GUID and assignment, then what `policy_to_table` gives, keys hidden."""
    return {"guid": _guid(policy), "assigned": assigned, **policy_to_table(policy, hide_keys=True)}


def filter_list_document(catalogue: Catalogue, item: FilterList) -> dict[str, object]:
    return {"guid": _guid(item), "used_by": _user_documents(catalogue, item), **filter_list_to_table(item)}


def filter_action_document(catalogue: Catalogue, item: FilterAction) -> dict[str, object]:
    return {"guid": _guid(item), "used_by": _user_documents(catalogue, item), **filter_action_to_table(item)}


def _guid(item: Policy | FilterList | FilterAction) -> str | None:
    return guid_text(item.guid) if item.guid else None


def _user_documents(catalogue: Catalogue, item: FilterList | FilterAction) -> list[dict[str, object]]:
    return [
        {"policy": policy.name, "rule": _number(policy, rule), "name": rule.name}
        for policy, rule in catalogue.users(item)
    ]
