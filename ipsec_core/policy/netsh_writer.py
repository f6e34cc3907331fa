"""Scripts of `netsh ipsec static` that make policies.

What netsh has no word for stands on lines of its own behind what it has, so that the netsh of Windows refuses those
lines alone and makes the nearest policy that it can; names that are empty or not unique come last, so that the lines
before can tell the objects apart.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from itertools import count

from ipsec_core.policy.catalogue import Catalogue
from ipsec_core.policy.methods import KeyExchangeMethod, SecurityMethod
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
from ipsec_core.policy.netsh import CONNECTION_TYPES, certificate_options, default_response_rule
from ipsec_core.policy.netsh_lines import quote
from ipsec_core.policy.selectors import Address, Filter, FilterList, protocol_text

_CONNECTION_WORDS = {kind: word for word, kind in CONNECTION_TYPES.items()}


def write(policy: Policy) -> str:
    """The script that makes an equal policy, preshared keys and all, where its names are not taken yet.

    PolicyError of one line that names the object when it has a text in it that netsh has no quotes for.
    """
    rules = [rule for rule in policy.rules if rule.filter_list]
    return _Script(
        (policy,), (rule.filter_list for rule in rules if rule.filter_list), (rule.filter_action for rule in rules)
    ).text()


def write_all(catalogue: Catalogue) -> str:
    """The script that makes all of a store's policies, filter lists and filter actions, and assigns one again."""
    script = _Script(catalogue.policies, catalogue.filter_lists, catalogue.filter_actions)
    for item in catalogue.filter_lists:
        script.filter_list(item)
    for action in catalogue.filter_actions:
        users = catalogue.users(action)
        if not users or any(rule.filter_list for _, rule in users):
            script.filter_action(action)
    return script.text(catalogue.assigned)


class _Names:
    """Names by which a script tells objects of one kind apart: their own where it is the first of that name."""

    def __init__(self, kind: str, names: Iterable[str]) -> None:
        self._kind = kind
        self._real = {name.casefold() for name in names}
        self._given: set[str] = set()

    def give(self, name: str) -> str:
        if not name or name.casefold() in self._given:
            taken = self._real | self._given
            words = (f"{name or self._kind} ({number})" for number in count(2 if name else 1))
            name = next(word for word in words if word.casefold() not in taken)
        self._given.add(name.casefold())
        return name


class _Script:
    def __init__(
        self, policies: Iterable[Policy], lists: Iterable[FilterList], actions: Iterable[FilterAction]
    ) -> None:
        self._policies = tuple(policies)
        self._list_names = _Names("filter list", (item.name for item in lists))
        self._action_names = _Names("filter action", (item.name for item in actions))
        self._known: dict[object, str] = {}
        self._lines: list[str] = []
        self._renames: list[str] = []
        self._default_rules: list[str] = []

    def text(self, assigned: Policy | None = None) -> str:
        for policy in self._policies:
            self._policy(policy)
        lines = [*self._lines, *self._renames, *self._default_rules]
        if assigned is not None:
            lines.append(f"set policy name={quote(assigned.name, 'the policy')} assign=yes")
        return "\n".join(("pushd ipsec static", *lines, "popd", ""))

    def filter_list(self, item: FilterList) -> str:
        """The quoted name by which the lines that follow know it."""
        key = _key(item)
        if key not in self._known:
            what = f"the filter list {item.name!r}"
            name = self._known[key] = self._name(self._list_names, "filterlist", item.name, what)
            self._add(f"add filterlist name={name}", _text("description", item.description, what))
            for one in item.filters:
                self._add(f"add filter filterlist={name}", *_filter(one, what))
        return self._known[key]

    def filter_action(self, item: FilterAction) -> str:
        key = _key(item)
        if key not in self._known:
            what = f"the filter action {item.name!r}"
            name = self._known[key] = self._name(self._action_names, "filteraction", item.name, what)
            fields = [f"action={item.action.text}"]
            if item.action is FilterActionKind.NEGOTIATE:
                fields = [_flag("qmpfs", item.pfs), *_clear(item), *fields, _security_methods(item.methods)]
            self._add(f"add filteraction name={name}", _text("description", item.description, what), *fields)
            self._set(f"set filteraction name={name}", _group(item))
        return self._known[key]

    def _policy(self, policy: Policy) -> None:
        what = f"the policy {policy.name!r}"
        name = quote(policy.name, what)
        default = next((rule for rule in policy.rules if rule.filter_list is None), None)
        uses = [
            (self.filter_list(rule.filter_list), self.filter_action(rule.filter_action)) if rule.filter_list else None
            for rule in policy.rules
        ]
        self._add(
            f"add policy name={name}",
            _text("description", policy.description, what),
            *_key_exchange(policy.key_exchange),
            _flag("activatedefaultrule", default is not None and default.active),
            f"pollinginterval={_minutes(policy.polling_interval_seconds)}",
            _main_mode_methods(policy.key_exchange.methods, own=False),
        )
        self._set(f"set policy name={name}", *_own_policy_tags(policy))
        if default is None:
            self._add(f"delete defaultrule policy={name}")
        names = _Names("rule", (rule.name for rule in policy.rules))
        for rule, used in zip(policy.rules, uses, strict=True):
            place = f"{what} rule {rule.name!r}"
            if used is not None:
                self._rule(rule, used, name, names, place)
            elif rule is not policy.rules[0] or rule != default_response_rule(rule.active):
                self._default_rule(rule, name, place)

    def _rule(self, rule: Rule, used: tuple[str, str], policy: str, names: _Names, what: str) -> None:
        name = self._name(names, "rule", rule.name, what, f" policy={policy}")
        self._add(
            f"add rule name={name} policy={policy}",
            f"filterlist={used[0]}",
            f"filteraction={used[1]}",
            f"tunnel={rule.tunnel_endpoint}" if rule.tunnel_endpoint else "",
            f"conntype={_CONNECTION_WORDS[rule.connection_type]}",
            _flag("activate", rule.active),
            _text("description", rule.description, what),
            *_authentication(rule.authentication_methods, what),
        )

    def _default_rule(self, rule: Rule, policy: str, what: str) -> None:
        action = rule.filter_action
        self._add(
            f"set defaultrule policy={policy}",
            _flag("qmpfs", action.pfs),
            _flag("activate", rule.active),
            _security_methods(action.methods),
            *_authentication(rule.authentication_methods, what),
        )
        own = (
            _text("name", rule.name, what),
            _text("description", rule.description, what),
            "" if rule.connection_type is ConnectionType.ALL else f"conntype={_CONNECTION_WORDS[rule.connection_type]}",
            *(_clear(action) if action.inbound_passthrough or action.allow_unsecured else ()),
            _group(action),
            _text("actionname", action.name, what),
            _text("actiondescription", action.description, what),
        )
        if any(own):
            self._default_rules.append(_join(f"set defaultrule policy={policy}", own))

    def _name(self, names: _Names, noun: str, name: str, what: str, more: str = "") -> str:
        """The name to add an object by, in quotes; one that is not its own is put right in the end."""
        given, real = quote(names.give(name), what), quote(name, what)
        if given != real:
            self._renames.append(f"set {noun} name={given}{more} newname={real}{' unique=no' if name else ''}")
        return given

    def _add(self, command: str, *words: str) -> None:
        self._lines.append(_join(command, words))

    def _set(self, command: str, *words: str) -> None:
        """A line of our own tags, where there are any."""
        if any(words):
            self._add(command, *words)


def _join(command: str, words: Iterable[str]) -> str:
    return " ".join((command, *(word for word in words if word)))


def _key(item: FilterList | FilterAction) -> object:
    """Equal for what is one object to several rules: that of a GUID or, before it is in a store, of a name."""
    return (item.guid, item) if item.guid or item.name else object()


def _text(tag: str, value: str, what: str) -> str:
    return f"{tag}={quote(value, what)}" if value else ""


def _flag(tag: str, value: bool) -> str:
    return f"{tag}={'yes' if value else 'no'}"


def _filter(item: Filter, what: str) -> Iterable[str]:
    sides = ("src", item.source), ("dst", item.destination)
    yield from (f"{side}addr={_address(address)}" for side, address in sides)
    yield _text("description", item.name, what)
    yield f"protocol={protocol_text(item.protocol)}"
    yield _flag("mirrored", item.mirrored)
    for side, address in sides:
        if not (address.is_any or address.network.prefixlen == 32):
            yield f"{side}mask={address.network.netmask}"
    for side, port in (("src", item.source_port), ("dst", item.destination_port)):
        if port:
            yield f"{side}port={port}"
    yield from (_text(f"{side}name", address.dns_name, what) for side, address in sides)


def _address(address: Address) -> str:
    return str(address) if address.is_any or address.is_my else str(address.network.network_address)


def _clear(action: FilterAction) -> tuple[str, ...]:
    return _flag("inpass", action.inbound_passthrough), _flag("soft", action.allow_unsecured)


def _group(action: FilterAction) -> str:
    return f"qmpfsgroup={int(action.pfs_group)}" if action.pfs_group is not None else ""


def _security_methods(methods: Iterable[SecurityMethod]) -> str:
    words = " ".join(str(method) for method in methods)
    return f'qmsecmethods="{words.replace("[NULL,", "[NONE,")}"'


def _main_mode_methods(methods: Iterable[KeyExchangeMethod], *, own: bool) -> str:
    """netsh has no lifetime of a single method; its group of 2048 bits is the third."""
    shown = ((method if own else replace(method, lifetime_seconds=0)) for method in methods)
    words = (re.sub("-14(?=:|$)", "-3", str(method)) for method in shown)
    return f'mmsecmethods="{" ".join(words)}"'


def _key_exchange(settings: KeyExchangeSettings) -> Iterable[str]:
    yield _flag("mmpfs", settings.master_key_pfs)
    yield f"qmpermm={settings.quick_mode_limit}"
    yield f"mmlifetime={_minutes(settings.lifetime_seconds)}"


def _own_policy_tags(policy: Policy) -> Iterable[str]:
    settings = policy.key_exchange
    times = ("mmlifetime", settings.lifetime_seconds), ("pollinginterval", policy.polling_interval_seconds)
    yield from (f"{tag}={value}s" for tag, value in times if value % 60)
    if any(method.lifetime_seconds for method in settings.methods):
        yield _main_mode_methods(settings.methods, own=True)
    if settings.soft_lifetime_seconds:
        yield f"softsaexpirationtime={settings.soft_lifetime_seconds}s"


def _minutes(seconds: int) -> int:
    return max(1, seconds // 60)


def _authentication(methods: Iterable[AuthenticationMethod], what: str) -> tuple[str, ...]:
    return tuple(_authentication_tag(method, what) for method in methods) or ("kerberos=no",)


def _authentication_tag(method: AuthenticationMethod, what: str) -> str:
    if method.kind is AuthenticationKind.KERBEROS:
        return "kerberos=yes"
    if method.kind is AuthenticationKind.PRESHARED_KEY:
        return f"psk={quote(method.value, f'{what}: a preshared key')}"
    # A name that ends as options do gets some that say nothing.
    bare = certificate_options(method.value)[0] == method.value
    return f"rootca={quote(method.value + ('' if bare else ' certmap:no excludecaname:no'), what)}"
