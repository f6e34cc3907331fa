"""Scripts of `netsh ipsec static` (the grammar of Windows Server 2003), carried out on a catalogue.

The default response rule that `add policy` makes comes first; the first `set defaultrule` of the same script puts it
behind the rules that there are then, since netsh has no order of rules and the model has.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from ipaddress import IPv4Address
from itertools import product
from typing import Any, TypeVar

from ipsec_core.errors import PolicyError
from ipsec_core.policy import words
from ipsec_core.policy.catalogue import Catalogue
from ipsec_core.policy.cmd_lines import batch_lines, expand
from ipsec_core.policy.methods import DEFAULT_RESPONSE_METHODS, DiffieHellmanGroup, parse_group
from ipsec_core.policy.model import (
    AuthenticationKind,
    AuthenticationMethod,
    ConnectionType,
    FilterAction,
    FilterActionKind,
    Policy,
    Rule,
)
from ipsec_core.policy.netsh_lines import AUTHENTICATION_TAGS, Command, choose, flag, read_line, read_value
from ipsec_core.policy.objects import parse_guid
from ipsec_core.policy.ranges import DWORD
from ipsec_core.policy.selectors import Address, Filter, FilterList, parse_protocol
from ipsec_core.policy.words import Resolve, reference, whole_number

_Named = TypeVar("_Named", Policy, FilterList, FilterAction)

CONNECTION_TYPES = {"lan": ConnectionType.LAN, "dialup": ConnectionType.REMOTE_ACCESS, "all": ConnectionType.ALL}
_ACTIONS = {kind.text: kind for kind in FilterActionKind}
_SPECIAL_SERVERS = ("wins", "dhcp", "dns", "gateway")
_NUMBERS = re.compile("[0-9./]+")
_NETSH = re.compile(r"[ \t]*netsh(?:\.exe)?(?=[ \t]|$)", re.IGNORECASE)
_ANY_MASKS = ("0", "0.0.0.0")
_HOST_MASKS = ("32", "255.255.255.255")


def run(script: str, catalogue: Catalogue, where: str, *, resolve: Resolve | None = None) -> list[str]:
    """Carries out all of a script or, with a PolicyError "WHERE:LINE: what; accepted: ...", nothing of it.

    Lines are as typed at the prompt or as in a file of `netsh -f`. Comes back: what was left out, a line each (`show`,
    what Windows 2000 has no notion of). No preshared key is in an error or in what comes back.
    """
    lines = enumerate(script.removeprefix("\ufeff").split("\n"), 1)
    return _run(((number, line.removesuffix("\r")) for number, line in lines), str, catalogue, where, resolve)


def run_batch(script: str, catalogue: Catalogue, where: str, *, resolve: Resolve | None = None) -> list[str]:
    """Carries out the lines `netsh ipsec static ...` of a .cmd or .bat file as `run` does, or none."""
    return _run(batch_lines(script), _netsh_line, catalogue, where, resolve)


def _netsh_line(line: str) -> str:
    """What cmd hands to netsh. Another program's line may have a key in it: it is not repeated."""
    text = expand(line)
    if not _NETSH.match(text):
        raise PolicyError("not such a command; accepted: netsh ipsec static, rem, ::, echo, exit")
    if '\\"' in text:
        # A double quote to the C runtime, a backslash and the end of a text to netsh.
        raise PolicyError("a backslash before a double quote; accepted: \\' for a double quote in a text, tag=text\\")
    return text


def _run(
    lines: Iterable[tuple[int, str]],
    expanded: Callable[[str], str],
    catalogue: Catalogue,
    where: str,
    resolve: Resolve | None,
) -> list[str]:
    session = _Session(catalogue, resolve)
    notes: list[str] = []
    number = 0
    try:
        with catalogue.all_or_nothing():
            for number, line in lines:
                command = read_line(expanded(line))
                if command is not None and command.verb == "exit":
                    break
                if command is not None:
                    notes += (f"{where}:{number}: {note}" for note in session.carry_out(command))
            session.flush()
    except PolicyError as error:
        raise PolicyError(f"{where}:{number}: {error}") from None
    return notes


def default_response_rule(active: bool = True) -> Rule:
    """The default response rule that a policy begins with."""
    return Rule("", None, FilterAction("", FilterActionKind.NEGOTIATE, DEFAULT_RESPONSE_METHODS), active=active)


def certificate_options(name: str) -> tuple[str, tuple[str, ...]]:
    """The name of a root CA and the options behind it that say yes."""
    options: list[str] = []
    for option in ("excludecaname", "certmap"):
        head, blank, last = name.rpartition(" ")
        word, _, value = last.casefold().partition(":")
        if blank and word == option and value in ("yes", "no"):
            name = head.rstrip(" ")
            options += [option] if value == "yes" else []
    return name, tuple(options)


def seconds(text: str) -> int:
    """Minutes, as netsh has them; or, ours, seconds: "90s"."""
    if text[-1:].casefold() == "s":
        return whole_number(text[:-1], 1, DWORD)
    return 60 * whole_number(text, 1, DWORD // 60)


def _soft_seconds(text: str) -> int:
    """Seconds, as of softsaexpirationtime everywhere; 0, the default, is until the traffic stops."""
    return whole_number(text[:-1] if text[-1:].casefold() == "s" else text, 0, DWORD)


class _Session:
    """The commands of one script. Filters of one list are added together, and rules of one policy: singly is slow."""

    def __init__(self, catalogue: Catalogue, resolve: Resolve | None) -> None:
        self._notes: list[str] = []
        self._catalogue = catalogue
        self._resolve = resolve
        self._new_policies: set[uuid.UUID | None] = set()
        self._open_list = ""
        self._open_name = ""
        self._filters: list[Filter] = []
        self._open_policy: Policy | None = None
        self._rules: list[Rule] = []
        self._rule_names: set[str] = set()
        self._commands: dict[tuple[str, str], Callable[[Command], None]] = {
            ("add", "policy"): self._add_policy,
            ("set", "policy"): self._set_policy,
            ("delete", "policy"): self._delete_policy,
            ("add", "filterlist"): self._add_filter_list,
            ("set", "filterlist"): self._set_filter_list,
            ("delete", "filterlist"): self._delete_filter_list,
            ("add", "filter"): self._add_filter,
            ("delete", "filter"): self._delete_filter,
            ("add", "filteraction"): self._add_filter_action,
            ("set", "filteraction"): self._set_filter_action,
            ("delete", "filteraction"): self._delete_filter_action,
            ("add", "rule"): self._add_rule,
            ("set", "rule"): self._set_rule,
            ("delete", "rule"): self._delete_rule,
            ("set", "defaultrule"): self._set_default_rule,
            ("delete", "defaultrule"): self._delete_default_rule,
            ("set", "store"): self._set_store,
            ("set", "batch"): self._set_batch,
            ("delete", "all"): self._delete_all,
        }

    def carry_out(self, command: Command) -> list[str]:
        """What it left out of a command."""
        self._notes = []
        if command.verb == "show":
            self._notes.append("show is left out; ipsec-core secpol show answers it")
        elif command.verb in ("exportpolicy", "importpolicy"):
            raise PolicyError(f"{command.verb} is not for a script; accepted: ipsec-core secpol {command.verb[:6]}")
        else:
            name = command.verb, command.noun
            if name != ("add", "filter"):
                self._flush_filters()
            if name != ("add", "rule"):
                self._flush_rules()
            self._commands[name](command)
        return self._notes

    def flush(self) -> None:
        self._flush_filters()
        self._flush_rules()

    def _flush_rules(self) -> None:
        policy, rules = self._open_policy, self._rules
        self._open_policy, self._rules = None, []
        if policy is not None:
            self._catalogue.replace_policy(reference(policy), replace(policy, rules=(*policy.rules, *rules)))

    def _flush_filters(self) -> None:
        if self._filters:
            found = self._catalogue.filter_list(self._open_list)
            self._catalogue.replace_filter_list(
                self._open_list, replace(found, filters=(*found.filters, *self._filters))
            )
        self._open_list, self._open_name, self._filters = "", "", []

    # -- policies --

    def _add_policy(self, command: Command) -> None:
        policy = Policy(command.need("name"), rules=(default_response_rule(),))
        kept = self._catalogue.add_policy(_policy_fields(command, policy))
        self._new_policies.add(kept.guid)
        if command.read("assign", flag):
            self._catalogue.assign(reference(kept))

    def _set_policy(self, command: Command) -> None:
        policy = self._catalogue.policy(_name_or_guid(command))
        name = reference(policy)
        policy = self._catalogue.replace_policy(
            name, _policy_fields(command, replace(policy, **command.fields(name=("newname", str))))
        )
        assign = command.read("assign", flag)
        if assign or (assign is False and self._catalogue.assigned is policy):
            self._catalogue.assign(name if assign else None)

    def _delete_policy(self, command: Command) -> None:
        for policy in self._to_delete(command, "policy", self._catalogue.policies, self._catalogue.policy):
            if self._catalogue.assigned is policy:
                self._catalogue.assign(None)
                self._notes.append(f"the policy {policy.name!r} was assigned; no policy is now")
            self._catalogue.delete_policy(reference(policy))
            words.drop_unused(self._catalogue, policy.rules, named=False)

    def _to_delete(
        self, command: Command, kind: str, items: Sequence[_Named], find: Callable[[str], _Named]
    ) -> Sequence[_Named]:
        """All, or the one that is named. What is not there any more is no reason to stop: many scripts clear the way
        before they begin, and netsh goes on after that."""
        if "all" in command:
            return items
        name = command.need("name")
        if not _is_known(name, items):
            self._notes.append(f"there is no {kind} {name!r} to delete")
            return ()
        return (find(name),)

    # -- filter lists --

    def _add_filter_list(self, command: Command) -> None:
        fields = command.fields(description=("description", str))
        self._catalogue.add_filter_list(replace(FilterList(command.need("name"), "", ()), **fields))

    def _set_filter_list(self, command: Command) -> None:
        old = self._catalogue.filter_list(_name_or_guid(command))
        new = replace(old, **command.fields(name=("newname", str), description=("description", str)))
        self._catalogue.replace_filter_list(reference(old), new, unique=_unique(command))

    def _delete_filter_list(self, command: Command) -> None:
        catalogue = self._catalogue
        for item in self._to_delete(command, "filter list", catalogue.filter_lists, catalogue.filter_list):
            catalogue.delete_filter_list(reference(item))

    def _add_filter(self, command: Command) -> None:
        name = command.need("filterlist")
        if name.casefold() != self._open_name or not self._open_list:
            self._flush_filters()
            known = _is_known(name, self._catalogue.filter_lists)
            find = self._catalogue.filter_list if known else self._new_filter_list
            self._open_list, self._open_name = reference(find(name)), name.casefold()
        self._filters += self._read_filters(command)

    def _new_filter_list(self, name: str) -> FilterList:
        return self._catalogue.add_filter_list(FilterList(name, "", ()))

    def _delete_filter(self, command: Command) -> None:
        old = self._catalogue.filter_list(command.need("filterlist"))
        # Its description is none of what a filter is looked for by.
        wanted = {replace(item, name="") for item in self._read_filters(command)}
        kept = tuple(item for item in old.filters if replace(item, name="") not in wanted)
        if len(kept) == len(old.filters):
            raise PolicyError(f"the filter list {old.name!r} has no such filter; accepted: all tags as it was added")
        self._catalogue.replace_filter_list(reference(old), replace(old, filters=kept))

    def _read_filters(self, command: Command) -> list[Filter]:
        fields = command.fields(
            name=("description", str),
            protocol=("protocol", _protocol),
            mirrored=("mirrored", flag),
            source_port=("srcport", _port),
            destination_port=("dstport", _port),
        )
        sides = (self._side(command, side) for side in ("src", "dst"))
        return [replace(Filter("", one, two), **fields) for one, two in product(*sides)]

    def _side(self, command: Command, side: str) -> tuple[Address, ...]:
        tag = f"{side}addr"
        mask = command.read(f"{side}mask", str) or ""
        found = read_value(tag, command.need(tag), lambda text: _addresses(text, mask, self._resolve))
        name = command.read(f"{side}name", str)
        return tuple(replace(one, dns_name=name) for one in found) if name else found

    # -- filter actions --

    def _add_filter_action(self, command: Command) -> None:
        name = command.need("name")
        self._catalogue.add_filter_action(_action_fields(command, replace(_NEW_ACTION, name=name)))

    def _set_filter_action(self, command: Command) -> None:
        old = self._catalogue.filter_action(_name_or_guid(command))
        new = _action_fields(command, replace(old, **command.fields(name=("newname", str))))
        self._catalogue.replace_filter_action(reference(old), new, unique=_unique(command))

    def _delete_filter_action(self, command: Command) -> None:
        catalogue = self._catalogue
        for item in self._to_delete(command, "filter action", catalogue.filter_actions, catalogue.filter_action):
            catalogue.delete_filter_action(reference(item))

    # -- rules --

    def _add_rule(self, command: Command) -> None:
        parts = self._rule_parts(command)
        for tag in ("filterlist", "filteraction"):
            command.need(tag)
        rule = Rule(command.need("name"), **parts)
        policy = self._catalogue.policy(command.need("policy"))
        if policy is not self._open_policy:
            self._flush_rules()
            self._open_policy = policy = self._catalogue.policy(reference(policy))
            self._rule_names = {one.name.casefold() for one in policy.rules if one.name}
        if rule.name.casefold() in self._rule_names:
            raise PolicyError(f"the policy {policy.name!r} has a rule {rule.name!r} already")
        self._rule_names.add(rule.name.casefold())
        self._rules.append(rule)

    def _set_rule(self, command: Command) -> None:
        policy = self._catalogue.policy(command.need("policy"))
        name = reference(policy)
        old = self._catalogue.rule(name, _name_or_id(command))
        if old.filter_list is None:
            raise PolicyError("this is the default response rule; accepted: set defaultrule")
        new = replace(old, **command.fields(name=("newname", str)), **self._rule_parts(command))
        taken = {rule.name.casefold() for rule in policy.rules if rule is not old and rule.name}
        if _unique(command) and "newname" in command and new.name.casefold() in taken:
            raise PolicyError(f"the policy {policy.name!r} has a rule {new.name!r} already")
        self._catalogue.replace_rule(name, reference(old), new)

    def _delete_rule(self, command: Command) -> None:
        policy = self._catalogue.policy(command.need("policy"))
        name = reference(policy)
        rules = [rule for rule in policy.rules if rule.filter_list is not None]
        for rule in rules if "all" in command else [self._catalogue.rule(name, _name_or_id(command))]:
            self._catalogue.delete_rule(name, reference(rule))
            words.drop_unused(self._catalogue, (rule,), named=False)

    def _rule_parts(self, command: Command) -> dict[str, Any]:
        parts = command.fields(
            description=("description", str),
            filter_list=("filterlist", self._catalogue.filter_list),
            filter_action=("filteraction", self._catalogue.filter_action),
            tunnel_endpoint=("tunnel", self._tunnel),
            connection_type=("conntype", _connection_type),
            active=("activate", flag),
        )
        return parts | self._authentication(command)

    def _tunnel(self, text: str) -> IPv4Address | None:
        return None if text.casefold() == "none" else words.endpoint(text, self._resolve)

    def _authentication(self, command: Command) -> dict[str, Any]:
        """Methods in the order of their tags; without one of these tags nothing."""
        methods: list[AuthenticationMethod] = []
        given = [(tag, text) for tag, text in command.values if tag in AUTHENTICATION_TAGS]
        for tag, text in given:
            if tag == "kerberos":
                if read_value(tag, text, flag):
                    methods.append(AuthenticationMethod(AuthenticationKind.KERBEROS))
            elif tag == "psk":
                methods.append(read_value(tag, text, _preshared_key))
            else:
                name, options = certificate_options(text)
                methods.append(read_value(tag, name, _certificate))
                self._notes += (f"{option}:yes is left out; Windows 2000 has no such option" for option in options)
        return {"authentication_methods": tuple(methods)} if given else {}

    # -- the default response rule --

    def _set_default_rule(self, command: Command) -> None:
        policy = self._catalogue.policy(command.need("policy"))
        old = _default_response(policy)
        base = old.filter_action
        if len(self._catalogue.users(base)) > 1:
            base = replace(base, name="", guid=None)
        action = _action_fields(command, base, description="actiondescription")
        action = replace(action, **command.fields(name=("actionname", str)))
        fields = command.fields(
            name=("name", str),
            description=("description", str),
            active=("activate", flag),
            connection_type=("conntype", _connection_type),
        )
        new = replace(old, filter_action=action, **fields, **self._authentication(command))
        if policy.guid in self._new_policies or old not in policy.rules:
            self._new_policies.discard(policy.guid)
            rules = (*(rule for rule in policy.rules if rule.filter_list is not None), new)
        else:
            rules = tuple(new if rule is old else rule for rule in policy.rules)
        self._catalogue.replace_policy(reference(policy), replace(policy, rules=rules))

    def _delete_default_rule(self, command: Command) -> None:
        policy = self._catalogue.policy(command.need("policy"))
        rules = tuple(rule for rule in policy.rules if rule.filter_list is not None)
        self._catalogue.replace_policy(reference(policy), replace(policy, rules=rules))
        words.drop_unused(self._catalogue, policy.rules, named=False)

    # -- the store --

    def _set_store(self, command: Command) -> None:
        if command.read("location", lambda text: choose(text, ("local", "domain"))) != "local" or "domain" in command:
            raise PolicyError("set store: whoever runs a script chooses the store; accepted: location=local")

    def _set_batch(self, command: Command) -> None:
        command.read("mode", lambda text: choose(text, ("enable", "disable")))

    def _delete_all(self, command: Command) -> None:
        self._catalogue.assign(None)
        everything = Command("delete", "all", (("all", ""),))
        for delete in (self._delete_policy, self._delete_filter_list, self._delete_filter_action):
            delete(everything)


_NEW_ACTION = FilterAction("", FilterActionKind.NEGOTIATE, words.DEFAULT_METHODS)


def _policy_fields(command: Command, policy: Policy) -> Policy:
    exchange = command.fields(
        master_key_pfs=("mmpfs", flag),
        quick_mode_limit=("qmpermm", lambda text: whole_number(text, 0, DWORD)),
        lifetime_seconds=("mmlifetime", seconds),
        soft_lifetime_seconds=("softsaexpirationtime", _soft_seconds),
        methods=("mmsecmethods", lambda text: words.key_exchange_methods(words.list_words(text))),
    )
    fields = command.fields(description=("description", str), polling_interval_seconds=("pollinginterval", seconds))
    active = command.read("activatedefaultrule", flag)
    if active is not None:
        rules = [replace(rule, active=active) if rule.filter_list is None else rule for rule in policy.rules]
        if active and not any(rule.filter_list is None for rule in rules):
            rules.append(default_response_rule())
        fields["rules"] = tuple(rules)
    return replace(policy, key_exchange=replace(policy.key_exchange, **exchange), **fields)


def _action_fields(command: Command, old: FilterAction, description: str = "description") -> FilterAction:
    fields = command.fields(
        description=(description, str),
        action=("action", lambda text: _ACTIONS[choose(text, _ACTIONS)]),
        inbound_passthrough=("inpass", flag),
        allow_unsecured=("soft", flag),
        pfs=("qmpfs", flag),
        pfs_group=("qmpfsgroup", _group),
        methods=("qmsecmethods", words.security_methods),
    )
    if not fields.get("pfs", old.pfs):
        fields.setdefault("pfs_group", None)
    if fields.get("action", old.action) is FilterActionKind.NEGOTIATE:
        if not old.methods:
            fields.setdefault("methods", words.DEFAULT_METHODS)
    else:
        # netsh ignores them then.
        fields["methods"] = ()
        if old.action is FilterActionKind.NEGOTIATE:
            off = dict.fromkeys(("inbound_passthrough", "allow_unsecured", "pfs"), False)
            fields = {**off, **fields}
    return replace(old, **fields)


def _default_response(policy: Policy) -> Rule:
    return next((rule for rule in policy.rules if rule.filter_list is None), default_response_rule())


def _addresses(text: str, mask: str, resolve: Resolve | None) -> tuple[Address, ...]:
    if text.casefold() in _SPECIAL_SERVERS:
        raise PolicyError(f"{text!r}: Windows 2000 has no filters for special servers; accepted: their addresses")
    if mask and _NUMBERS.fullmatch(text):
        return (Address.parse(f"{text}/{mask}"),)
    found = words.addresses(text, resolve)
    if mask and mask not in (_ANY_MASKS if found[0].is_any else _HOST_MASKS):
        raise PolicyError(f"{text!r} with the mask {mask!r}; accepted: no mask, or that of one address (of all: 0)")
    return found


def _protocol(text: str) -> int:
    return 255 if text.casefold() == "raw" else parse_protocol(text)


def _port(text: str) -> int:
    return whole_number(text, 0, 65535)


def _group(text: str) -> DiffieHellmanGroup:
    return parse_group(whole_number(words.group_number(text), 0, 255))


def _connection_type(text: str) -> ConnectionType:
    return CONNECTION_TYPES[choose(text, CONNECTION_TYPES)]


def _preshared_key(text: str) -> AuthenticationMethod:
    return AuthenticationMethod(AuthenticationKind.PRESHARED_KEY, text)


def _certificate(text: str) -> AuthenticationMethod:
    return AuthenticationMethod(AuthenticationKind.CERTIFICATE, text)


def _is_guid(text: str) -> bool:
    try:
        parse_guid(text)
    except PolicyError:
        return False
    return True


def _is_known(name: str, items: Iterable[_Named]) -> bool:
    """Whether something is there by that name; a GUID is one that should be."""
    return _is_guid(name) or any(item.name.casefold() == name.casefold() for item in items)


def _unique(command: Command) -> bool:
    return command.read("unique", flag) is not False


def _name_or_guid(command: Command) -> str:
    return command.need("guid" if "guid" in command and "name" not in command else "name")


def _name_or_id(command: Command) -> str:
    return command.need("id" if "id" in command and "name" not in command else "name")
