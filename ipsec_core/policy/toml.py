"""Policies as plain tables: what `tomllib` and `json` read and what a TOML writer takes.

The keys are the names of the model. The shortest useful policy:

    name = "Lab policy"
    [[rules]]
    filters = [{ source = "me", destination = "10.0.0.2" }]
    action = { negotiate = ["ESP[3DES,SHA1]"] }                # or "permit", "block"
    authentication = [{ preshared_key = "..." }]               # or "kerberos", { certificate = "root CA" }

`filters` is a list of filters, a table `{ name, description, filters }`, or the name of one of the policy's
`filter_lists`; `action` may be the name of one of its `filter_actions`. Filters are mirrored by default, those written
in a rule with a tunnel endpoint are not. Every mistake is a `PolicyError` of one line, "WHERE: rules[0].filters[1]:
what is wrong; accepted: ...". A wrong type is reported without the value, and a preshared key never appears.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import TypeVar

from ipsec_core.errors import IpsecError, PolicyError
from ipsec_core.policy.methods import DEFAULT_RESPONSE_METHODS, KeyExchangeMethod, SecurityMethod, parse_group
from ipsec_core.policy.model import (
    DEFAULT_POLLING_SECONDS,
    AuthenticationKind,
    AuthenticationMethod,
    ConnectionType,
    FilterAction,
    FilterActionKind,
    KeyExchangeSettings,
    Policy,
    Rule,
)
from ipsec_core.policy.selectors import Address, Filter, FilterList, parse_protocol, protocol_text

_T = TypeVar("_T")
_Named = TypeVar("_Named", FilterList, FilterAction)

_POLICY_KEYS = (
    "name",
    "description",
    "rules",
    "filter_lists",
    "filter_actions",
    "key_exchange",
    "polling_interval_seconds",
)
_STORE_KEYS = ("assigned", "policies", "filter_lists", "filter_actions")
_RULE_KEYS = (
    "name",
    "description",
    "filters",
    "action",
    "authentication",
    "tunnel_endpoint",
    "connection_type",
    "active",
    "default_response",
)
_FILTER_LIST_KEYS = ("name", "description", "filters")
_FILTER_KEYS = ("name", "source", "destination", "protocol", "source_port", "destination_port", "mirrored")
_ACTION_KEYS = (
    "name",
    "description",
    "action",
    "negotiate",
    "inbound_passthrough",
    "allow_unsecured",
    "pfs",
    "pfs_group",
)
_AUTHENTICATION_KEYS = ("preshared_key", "certificate")
_KEY_EXCHANGE_KEYS = ("methods", "lifetime_seconds", "master_key_pfs", "quick_mode_limit", "soft_lifetime_seconds")
_AUTHENTICATION_FORMS = 'accepted: "kerberos", { preshared_key = "..." }, { certificate = "root CA" }'
_HIDDEN_KEY = "***"

_SIMPLE_ACTIONS = {kind.text: kind for kind in (FilterActionKind.PERMIT, FilterActionKind.BLOCK)}
_CONNECTION_TYPES = {kind.value: kind for kind in ConnectionType}


# ---- reading --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Value:
    """One value of the file and its place."""

    where: str
    path: str
    value: object

    def error(self, text: str) -> PolicyError:
        return PolicyError(": ".join(part for part in (self.where, self.path, text) if part))

    def _typed(self, kind: type[_T], name: str) -> _T:
        if not isinstance(self.value, kind) or (kind is int and isinstance(self.value, bool)):
            given = {dict: "a table", list: "a list", str: "text", bool: "true or false", int: "a whole number"}
            raise self.error(f"expected {name}, got {given.get(type(self.value), type(self.value).__name__)}")
        return self.value

    @property
    def text(self) -> str:
        return self._typed(str, "text")

    @property
    def number(self) -> int:
        return self._typed(int, "a whole number")

    @property
    def flag(self) -> bool:
        return self._typed(bool, "true or false")

    @property
    def items(self) -> list[_Value]:
        values: list[object] = list(self._typed(list, "a list"))
        return [_Value(self.where, f"{self.path}[{index}]", value) for index, value in enumerate(values)]

    def table(self, keys: tuple[str, ...]) -> _Table:
        """The entries of a table that may have only `keys`."""
        entries: dict[str, object] = self._typed(dict, "a table")
        for key in entries:
            if key not in keys:
                raise self.error(f"unknown key {key!r}; accepted: {', '.join(keys)}")
        prefix = f"{self.path}." if self.path else ""
        return _Table(self, {key: _Value(self.where, prefix + key, value) for key, value in entries.items()})

    def build(self, make: Callable[..., _T], *args: object, **named: object) -> _T:
        """`make(...)`, with this place in front of what it complains about."""
        try:
            return make(*args, **named)
        except PolicyError as error:
            raise self.error(str(error)) from None

    def choose(self, choices: Mapping[str, _T]) -> _T:
        if self.text not in choices:
            raise self.error(f"{self.text!r} is not known; accepted: {', '.join(choices) or 'none is defined'}")
        return choices[self.text]


@dataclass(frozen=True, slots=True)
class _Table:
    """The entries of a table and the place of the table."""

    place: _Value
    entries: dict[str, _Value]

    def __contains__(self, key: str) -> bool:
        return key in self.entries

    def __getitem__(self, key: str) -> _Value:
        if key not in self.entries:
            raise self.place.error(f"{key!r} is missing")
        return self.entries[key]

    def text(self, key: str, default: str = "") -> str:
        return self[key].text if key in self else default

    def number(self, key: str, default: int = 0) -> int:
        return self[key].number if key in self else default

    def flag(self, key: str, default: bool = False) -> bool:
        return self[key].flag if key in self else default

    def items(self, key: str) -> list[_Value]:
        return self[key].items if key in self else []


def read_toml(path: Path, what: str, refusal: type[IpsecError]) -> dict[str, object]:
    """The tables of a TOML file; `refusal` of one line when it is none, in which `what` says what it should be."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise refusal(f"{path}: {error.strerror}; accepted: {what} (TOML)") from None
    except UnicodeDecodeError:
        raise refusal(f"{path}: not UTF-8 text; accepted: {what} (TOML)") from None
    except tomllib.TOMLDecodeError as error:
        raise refusal(f"{path}: not TOML: {error}") from None


def policy_from_table(table: Mapping[str, object], where: str) -> Policy:
    """The policy that a table describes; `where` (a file name, say) opens every error."""
    return _policy(_Value(where, "", dict(table)))


def _policy(value: _Value) -> Policy:
    top = value.table(_POLICY_KEYS)
    lists = _by_name(top.items("filter_lists"), lambda item: _filter_list(item, True))
    actions = _by_name(top.items("filter_actions"), lambda item: _filter_action(item, {}))
    return top.place.build(
        Policy,
        name=top["name"].text,
        description=top.text("description"),
        rules=tuple(_rule(item, lists, actions) for item in top.items("rules")),
        key_exchange=_key_exchange(top["key_exchange"]) if "key_exchange" in top else KeyExchangeSettings(),
        polling_interval_seconds=top.number("polling_interval_seconds", DEFAULT_POLLING_SECONDS),
    )


@dataclass(frozen=True, slots=True)
class StoreTable:
    """A whole store as one document: `filter_lists` and `filter_actions` are those that no rule of it has."""

    policies: tuple[Policy, ...]
    filter_lists: tuple[FilterList, ...] = ()
    filter_actions: tuple[FilterAction, ...] = ()
    assigned: str | None = None


def store_from_table(table: Mapping[str, object], where: str) -> StoreTable:
    """From a table { policies, filter_lists, filter_actions, assigned }; PolicyError as of `policy_from_table`."""
    top = _Value(where, "", dict(table)).table(_STORE_KEYS)
    policies = tuple(_policy(item) for item in top["policies"].items)
    assigned = top["assigned"].choose({one.name: one.name for one in policies}) if "assigned" in top else None
    return StoreTable(
        policies,
        tuple(_filter_list(item, True) for item in top.items("filter_lists")),
        tuple(_filter_action(item, {}) for item in top.items("filter_actions")),
        assigned,
    )


def _by_name(values: list[_Value], make: Callable[[_Value], _Named]) -> dict[str, _Named]:
    found: dict[str, _Named] = {}
    for value in values:
        item = make(value)
        if not item.name or item.name in found:
            raise value.error("a name of its own is needed to refer to it")
        found[item.name] = item
    return found


def _rule(value: _Value, lists: Mapping[str, FilterList], actions: Mapping[str, FilterAction]) -> Rule:
    table = value.table(_RULE_KEYS)
    tunnel = "tunnel_endpoint" in table
    named: dict[str, object] = {}
    if "authentication" in table:
        named["authentication_methods"] = tuple(_authentication(item) for item in table.items("authentication"))
    if "connection_type" in table:
        named["connection_type"] = table["connection_type"].choose(_CONNECTION_TYPES)
    return value.build(
        Rule,
        name=table.text("name"),
        description=table.text("description"),
        filter_list=_rule_filters(table, lists, not tunnel),
        filter_action=_rule_action(table, actions),
        tunnel_endpoint=_tunnel_endpoint(table["tunnel_endpoint"]) if tunnel else None,
        active=table.flag("active", True),
        **named,
    )


def _rule_filters(table: _Table, lists: Mapping[str, FilterList], mirrored: bool) -> FilterList | None:
    if table.flag("default_response"):
        if "filters" in table:
            raise table.place.error("the default response rule makes its own filters; leave filters out")
        return None
    filters = table["filters"]
    return filters.choose(lists) if isinstance(filters.value, str) else _filter_list(filters, mirrored)


def _rule_action(table: _Table, actions: Mapping[str, FilterAction]) -> FilterAction:
    if table.flag("default_response") and "action" not in table:
        return FilterAction("", FilterActionKind.NEGOTIATE, DEFAULT_RESPONSE_METHODS)
    return _filter_action(table["action"], actions)


def _filter_list(value: _Value, mirrored: bool) -> FilterList:
    if isinstance(value.value, list):
        return FilterList("", "", tuple(_filter(item, mirrored) for item in value.items))
    table = value.table(_FILTER_LIST_KEYS)
    filters = tuple(_filter(item, mirrored) for item in table["filters"].items)
    return FilterList(table.text("name"), table.text("description"), filters)


def _filter(value: _Value, mirrored: bool) -> Filter:
    table = value.table(_FILTER_KEYS)
    protocol = 0
    if "protocol" in table:
        given = table["protocol"]
        protocol = given.build(parse_protocol, given.text if isinstance(given.value, str) else given.number)
    return value.build(
        Filter,
        name=table.text("name"),
        source=table["source"].build(Address.parse, table["source"].text),
        destination=table["destination"].build(Address.parse, table["destination"].text),
        protocol=protocol,
        source_port=table.number("source_port"),
        destination_port=table.number("destination_port"),
        mirrored=table.flag("mirrored", mirrored),
    )


def _filter_action(value: _Value, actions: Mapping[str, FilterAction]) -> FilterAction:
    if isinstance(value.value, str):
        simple = {text: FilterAction("", kind) for text, kind in _SIMPLE_ACTIONS.items()}
        return value.choose({**actions, **simple})
    table = value.table(_ACTION_KEYS)
    if ("negotiate" in table) == ("action" in table):
        raise value.error('either negotiate = ["ESP[3DES,SHA1]", ...] or action = "permit" or "block" is needed')
    kind = table["action"].choose(_SIMPLE_ACTIONS) if "action" in table else FilterActionKind.NEGOTIATE
    return value.build(
        FilterAction,
        name=table.text("name"),
        description=table.text("description"),
        action=kind,
        methods=tuple(item.build(SecurityMethod.parse, item.text) for item in table.items("negotiate")),
        inbound_passthrough=table.flag("inbound_passthrough"),
        allow_unsecured=table.flag("allow_unsecured"),
        pfs=table.flag("pfs"),
        pfs_group=table["pfs_group"].build(parse_group, table["pfs_group"].number) if "pfs_group" in table else None,
    )


def _authentication(value: _Value) -> AuthenticationMethod:
    # What stands here by mistake may well be a key, so it is never repeated.
    if value.value == "kerberos":
        return AuthenticationMethod(AuthenticationKind.KERBEROS)
    if not isinstance(value.value, dict):
        raise value.error(f"not an authentication method; {_AUTHENTICATION_FORMS}")
    table = value.table(_AUTHENTICATION_KEYS)
    if len(table.entries) != 1:
        raise value.error(f"one entry is needed; {_AUTHENTICATION_FORMS}")
    kind = AuthenticationKind.PRESHARED_KEY if "preshared_key" in table else AuthenticationKind.CERTIFICATE
    (entry,) = table.entries.values()
    return entry.build(AuthenticationMethod, kind, entry.text)


def _tunnel_endpoint(value: _Value) -> IPv4Address:
    try:
        return IPv4Address(value.text)
    except ValueError:
        raise value.error(f"{value.text!r} is not a tunnel endpoint; accepted: a.b.c.d") from None


def _key_exchange(value: _Value) -> KeyExchangeSettings:
    table = value.table(_KEY_EXCHANGE_KEYS)
    named: dict[str, object] = {
        key: table.number(key)
        for key in ("lifetime_seconds", "quick_mode_limit", "soft_lifetime_seconds")
        if key in table
    }
    if "methods" in table:
        methods = (item.build(KeyExchangeMethod.parse, item.text) for item in table.items("methods"))
        named["methods"] = tuple(methods)
    return value.build(KeyExchangeSettings, master_key_pfs=table.flag("master_key_pfs"), **named)


# ---- writing --------------------------------------------------------------------------------------------------------


def policy_to_table(policy: Policy, *, hide_keys: bool = False) -> dict[str, object]:
    """The table of a policy, defaults left out, so that `policy_from_table` gives an equal policy.

    `hide_keys` writes preshared keys as "***", for whatever other people may read.
    """
    table: dict[str, object] = {"name": policy.name}
    _put(table, "description", policy.description, "")
    _put(table, "rules", [_rule_table(rule, hide_keys) for rule in policy.rules], [])
    exchange: dict[str, object] = {}
    defaults = KeyExchangeSettings()
    if policy.key_exchange.methods != defaults.methods:
        exchange["methods"] = [str(method) for method in policy.key_exchange.methods]
    _put_fields(exchange, policy.key_exchange, defaults, _KEY_EXCHANGE_KEYS[1:])
    _put(table, "key_exchange", exchange, {})
    _put(table, "polling_interval_seconds", policy.polling_interval_seconds, DEFAULT_POLLING_SECONDS)
    return table


def store_to_table(store: StoreTable) -> dict[str, object]:
    """The table that `store_from_table` reads, preshared keys and all."""
    table: dict[str, object] = {}
    _put(table, "assigned", store.assigned, None)
    return table | {
        "policies": [policy_to_table(policy) for policy in store.policies],
        "filter_lists": [filter_list_to_table(item) for item in store.filter_lists],
        "filter_actions": [filter_action_to_table(item) for item in store.filter_actions],
    }


def _put(table: dict[str, object], key: str, value: object, default: object) -> None:
    if value != default:
        table[key] = value


def _put_fields(table: dict[str, object], item: object, defaults: object, fields: tuple[str, ...]) -> None:
    for field in fields:
        _put(table, field, getattr(item, field), getattr(defaults, field))


def _rule_table(rule: Rule, hide_keys: bool) -> dict[str, object]:
    table: dict[str, object] = {}
    _put(table, "name", rule.name, "")
    _put(table, "description", rule.description, "")
    if rule.filter_list is None:
        table["default_response"] = True
    else:
        filters = [_filter_table(item, rule.tunnel_endpoint is None) for item in rule.filters]
        listing: dict[str, object] = {}
        _put_fields(listing, rule.filter_list, FilterList("", "", ()), ("name", "description"))
        table["filters"] = {**listing, "filters": filters} if listing else filters
    table["action"] = _action_table(rule.filter_action)
    table["authentication"] = [_authentication_table(item, hide_keys) for item in rule.authentication_methods]
    if rule.tunnel_endpoint is not None:
        table["tunnel_endpoint"] = str(rule.tunnel_endpoint)
    _put(table, "connection_type", rule.connection_type.value, ConnectionType.ALL.value)
    _put(table, "active", rule.active, True)
    return table


def _filter_table(item: Filter, mirrored: bool) -> dict[str, object]:
    table: dict[str, object] = {}
    _put(table, "name", item.name, "")
    table |= {"source": str(item.source), "destination": str(item.destination)}
    if item.protocol:
        table["protocol"] = protocol_text(item.protocol)
    _put(table, "source_port", item.source_port, 0)
    _put(table, "destination_port", item.destination_port, 0)
    _put(table, "mirrored", item.mirrored, mirrored)
    return table


def _action_table(action: FilterAction) -> object:
    table = filter_action_to_table(action)
    return action.action.text if list(table) == ["action"] else table


def filter_list_to_table(item: FilterList) -> dict[str, object]:
    """The table of a filter list, as in `filter_lists` of a policy."""
    table: dict[str, object] = {}
    _put_fields(table, item, FilterList("", "", ()), ("name", "description"))
    return table | {"filters": [_filter_table(one, True) for one in item.filters]}


def filter_action_to_table(action: FilterAction) -> dict[str, object]:
    """The table of a filter action, as in `filter_actions` of a policy."""
    table: dict[str, object] = {}
    _put(table, "name", action.name, "")
    _put(table, "description", action.description, "")
    if action.action is not FilterActionKind.NEGOTIATE:
        return table | {"action": action.action.text}
    table["negotiate"] = [str(method) for method in action.methods]
    _put_fields(
        table, action, FilterAction("", FilterActionKind.BLOCK), ("inbound_passthrough", "allow_unsecured", "pfs")
    )
    if action.pfs_group is not None:
        table["pfs_group"] = int(action.pfs_group)
    return table


def _authentication_table(method: AuthenticationMethod, hide_keys: bool) -> object:
    if method.kind is AuthenticationKind.KERBEROS:
        return "kerberos"
    if method.kind is AuthenticationKind.CERTIFICATE:
        return {"certificate": method.value}
    return {"preshared_key": _HIDDEN_KEY if hide_keys else method.value}
