"""Command lines of ipsecpol.exe (Windows 2000 Resource Kit) and, where it says the same, of Windows XP's ipseccmd.

static    -w REG|DS[:DOMAIN] -p POLICY[:MINUTES] -r RULE ... [-x] [-y] [-o]     edits a catalogue
dynamic   without -w: `DynamicRules`, for a Policy Agent that runs
"""

from __future__ import annotations

import ntpath
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import Enum
from ipaddress import IPv4Address
from itertools import count
from typing import Any, TypeVar

from ipsec_core.errors import PolicyError
from ipsec_core.policy import words
from ipsec_core.policy.catalogue import Catalogue
from ipsec_core.policy.cmd_lines import batch_lines, expand, split_arguments
from ipsec_core.policy.dynamic_rules import DynamicRules
from ipsec_core.policy.ipsecpol_words import (
    AUTHENTICATION_FORMS,
    FILTER_FORMS,
    METHOD_FORMS,
    REKEY_FORMS,
    FilterSpecification,
    Offer,
    Pass,
    authentication_method,
    filter_action,
    filter_specification,
    main_mode_rekey,
    offers,
)
from ipsec_core.policy.methods import KeyExchangeMethod
from ipsec_core.policy.model import (
    AuthenticationMethod,
    ConnectionType,
    FilterAction,
    FilterActionKind,
    KeyExchangeSettings,
    Policy,
    Rule,
)
from ipsec_core.policy.ranges import DWORD
from ipsec_core.policy.selectors import Filter, FilterList
from ipsec_core.policy.words import Resolve, reference, whole_number

_T = TypeVar("_T")

_PROGRAMS = ("ipsecpol", "ipseccmd")
_LISTS = ("-f", "-n", "-a", "-1s")
_SINGLE = ("-t", "-1k", "-1e", "-w", "-p", "-r")
_FLAGS = ("-1p", "-soft", "-lan", "-dialup", "-x", "-y", "-o", "-u", "-confirm")
_OPTIONS = (*_LISTS, *_SINGLE, *_FLAGS)
_OF_RULES = ("-f", "-n", "-t", "-a", "-soft", "-lan", "-dialup")
_OF_KEY_EXCHANGE = ("-1s", "-1k", "-1e", "-1p")
_STATIC = ("-p", "-r", "-x", "-y", "-o")


class Store(Enum):
    """Where `-w` puts a policy."""

    REGISTRY = "REG"
    DIRECTORY = "DS"


@dataclass(frozen=True, slots=True)
class CommandLine:
    """One command line, read. `store` None is dynamic mode; `computer` is "" for this one, `domain` for the default.
    `place` is where it stands, for errors."""

    given: frozenset[str]
    computer: str = ""
    store: Store | None = None
    domain: str = ""
    policy: str = ""
    polling_seconds: int | None = None
    rule: str = ""
    filters: tuple[FilterSpecification, ...] = ()
    offers: tuple[Offer | Pass, ...] = ()
    authentication_methods: tuple[AuthenticationMethod, ...] = ()
    tunnel_endpoint: IPv4Address | None = None
    key_exchange_methods: tuple[KeyExchangeMethod, ...] = ()
    main_mode: tuple[tuple[str, int], ...] = ()
    place: str = ""

    @property
    def settings(self) -> dict[str, Any]:
        """The fields of the key exchange settings that it gives."""
        fields: dict[str, Any] = dict(self.main_mode)
        if self.key_exchange_methods:
            fields["methods"] = self.key_exchange_methods
        if "-1p" in self.given:
            fields["master_key_pfs"] = True
        return fields

    @property
    def connection_type(self) -> ConnectionType | None:
        if "-lan" in self.given:
            return ConnectionType.LAN
        return ConnectionType.REMOTE_ACCESS if "-dialup" in self.given else None


def run(
    arguments: Sequence[str] | str,
    catalogue: Catalogue,
    where: str,
    *,
    store: Store = Store.REGISTRY,
    resolve: Resolve | None = None,
) -> DynamicRules | None:
    """Carries out all of a command line on the catalogue of `store` or, with a PolicyError "WHERE: argument N (-x):
    what; accepted: ...", nothing of it. Of dynamic mode the rules come back, None of static mode.

    `arguments` may begin with the program; as one text they are parted as Windows does it. No preshared key is in an
    error.
    """
    found = carry_out([parse(arguments, where, resolve=resolve)], catalogue, store)
    return found[0] if found else None


def run_file(
    script: str, catalogue: Catalogue, where: str, *, store: Store = Store.REGISTRY, resolve: Resolve | None = None
) -> list[DynamicRules]:
    """Carries out all lines of a .cmd or .bat file as `run` does, or with a PolicyError "WHERE:LINE: ..." none."""
    return carry_out(read_file(script, where, resolve=resolve), catalogue, store)


def carry_out(lines: Sequence[CommandLine], catalogue: Catalogue, store: Store = Store.REGISTRY) -> list[DynamicRules]:
    """Carries out all lines on the catalogue of `store` or, with a PolicyError, none. Of those of dynamic mode the
    rules come back, in their order."""
    dynamic: list[DynamicRules] = []
    with catalogue.all_or_nothing():
        for line in lines:
            with _placed(line.place):
                found = _carry_out(line, catalogue, store)
            dynamic += [found] if found else []
    return dynamic


def read_file(script: str, where: str, *, resolve: Resolve | None = None) -> list[CommandLine]:
    """The lines of a .cmd or .bat file; PolicyError "WHERE:LINE: ..."."""
    return [_read(line, f"{where}:{number}", resolve) for number, line in batch_lines(script)]


def _read(line: str, place: str, resolve: Resolve | None) -> CommandLine:
    with _placed(place):
        arguments = split_arguments(expand(line))
        if not arguments or not _is_program(arguments[0]):
            raise PolicyError(f"not such a command; accepted: {', '.join(_PROGRAMS)}, rem, ::, echo, exit")
    return parse(arguments, place, resolve=resolve)


@contextmanager
def _placed(place: str) -> Iterator[None]:
    """An error says where it is."""
    try:
        yield
    except PolicyError as error:
        raise PolicyError(f"{place}: {error}" if place else str(error)) from None


def parse(arguments: Sequence[str] | str, place: str = "", *, resolve: Resolve | None = None) -> CommandLine:
    """A command line by itself, for a caller that finds the catalogue by its `store`, `domain` and `computer`."""
    with _placed(place):
        return replace(_parse(arguments, resolve), place=place)


def _parse(arguments: Sequence[str] | str, resolve: Resolve | None) -> CommandLine:
    given = split_arguments(arguments) if isinstance(arguments, str) else list(arguments)
    if given and _is_program(given[0]):
        del given[0]
    computer = given[0][2:] if given and given[0].startswith("\\\\") else ""
    options = _options(given, 1 if computer else 0)
    static = "-w" in options
    for name in _STATIC:
        if name in options and not static:
            raise PolicyError(f"{name} is for a policy that is stored; accepted: with -w REG, -w DS")
    if static and "-u" in options:
        raise PolicyError("-u deletes dynamic rules; accepted: without -w")
    return _Reader(options, computer, resolve if static else _first(resolve)).command_line()


def _first(resolve: Resolve | None) -> Resolve | None:
    """Dynamic mode takes the first address of a DNS name alone."""
    return resolve and (lambda name: resolve(name)[:1])


def _is_program(text: str) -> bool:
    return ntpath.basename(text).casefold().removesuffix(".exe") in _PROGRAMS


_Values = list[tuple[int, str]]


def _options(arguments: list[str], start: int) -> dict[str, _Values]:
    """The values of each option with their positions. What follows -a may be a key: it is not repeated."""
    options: dict[str, _Values] = {}
    open_option = ""
    for number, text in enumerate(arguments[start:], start + 1):
        name = text.casefold()
        if not text.startswith("-"):
            if not open_option or (open_option in _SINGLE and options[open_option]):
                raise PolicyError(f"argument {number}: a value of no option; accepted: {', '.join(_OPTIONS)}")
            options[open_option].append((number, text))
            continue
        if name not in _OPTIONS:
            shown = "not an option" if "-a" in options else f"{text!r} is not an option"
            raise PolicyError(f"argument {number}: {shown}; accepted: {', '.join(_OPTIONS)}")
        if name in options:
            raise PolicyError(f"argument {number}: {name} is given twice; accepted: each option once")
        options[name] = []
        open_option = "" if name in _FLAGS else name
    for name, values in options.items():
        if not values and name not in _FLAGS:
            raise PolicyError(f"{name} has no value; accepted: {_FORMS[name]}")
    return options


_FORMS = {
    "-f": FILTER_FORMS,
    "-n": METHOD_FORMS,
    "-a": AUTHENTICATION_FORMS,
    "-1s": "3DES-SHA-2, DES-MD5-1",
    "-t": "a.b.c.d, a DNS name",
    "-1k": REKEY_FORMS,
    "-1e": "seconds",
    "-w": "REG, DS, DS:domain",
    "-p": "a name, name:minutes",
    "-r": "a name",
}


def _store(text: str) -> tuple[Store, str]:
    kind, colon, domain = text.partition(":")
    if kind.upper() not in ("REG", "DS") or (colon and (kind.upper() == "REG" or not domain)):
        raise PolicyError(f"{text!r} is not a store; accepted: {_FORMS['-w']}")
    return Store(kind.upper()), domain


def _policy_and_polling(text: str) -> tuple[str, int | None]:
    found = re.fullmatch("(.+):([0-9]+)", text, re.DOTALL)
    return (found[1], 60 * whole_number(found[2], 1, DWORD // 60)) if found else (text, None)


class _Reader:
    """The values of the options."""

    def __init__(self, options: dict[str, _Values], computer: str, resolve: Resolve | None) -> None:
        self._options, self._computer, self._resolve = options, computer, resolve

    def command_line(self) -> CommandLine:
        options = self._options
        for one, other in (("-lan", "-dialup"), ("-x", "-y"), ("-x", "-o")):
            if one in options and other in options:
                raise PolicyError(f"{one} and {other} exclude each other; accepted: one of them")
        store, domain = self._one("-w", _store) or (None, "")
        policy, polling = self._one("-p", _policy_and_polling) or ("", None)
        main_mode = [*(self._one("-1k", main_mode_rekey) or ())]
        soft = self._one("-1e", lambda text: whole_number(text, 0, DWORD))
        if soft is not None:
            main_mode.append(("soft_lifetime_seconds", soft))
        methods = self._each("-1s", lambda text: words.key_exchange_methods(words.list_words(text)))
        return CommandLine(
            frozenset(options),
            self._computer,
            store,
            domain,
            policy,
            polling,
            self._one("-r", str) or "",
            tuple(self._each("-f", lambda text: filter_specification(text, self._resolve))),
            tuple(one for several in self._each("-n", offers) for one in several),
            tuple(self._each("-a", authentication_method)),
            self._one("-t", lambda text: words.endpoint(text, self._resolve)),
            tuple(one for several in methods for one in several),
            tuple(main_mode),
        )

    def _one(self, name: str, reader: Callable[[str], _T]) -> _T | None:
        return next(iter(self._each(name, reader)), None)

    def _each(self, name: str, reader: Callable[[str], _T]) -> list[_T]:
        found: list[_T] = []
        for number, text in self._options.get(name, ()):
            try:
                found.append(reader(text))
            except PolicyError as error:
                raise PolicyError(f"argument {number} ({name}): {error}") from None
        return found


def _carry_out(line: CommandLine, catalogue: Catalogue, store: Store) -> DynamicRules | None:
    if line.computer:
        raise PolicyError("another computer's policies are not reached from here; accepted: no computer name")
    if line.store is None:
        return _dynamic(line)
    if line.store is not store:
        asked = f"-w {line.store.value}{':' * bool(line.domain)}{line.domain}"
        raise PolicyError(f"{asked}: these are the policies of another store; accepted: -w {store.value}")
    apply(line, catalogue)
    return None


def apply(line: CommandLine, catalogue: Catalogue) -> None:
    """Edits the catalogue as static mode says. After a PolicyError of one line it may be half edited."""
    edits = bool(line.given & {*_OF_RULES, *_OF_KEY_EXCHANGE})
    if not line.policy and not ("-y" in line.given and line.given <= {"-w", "-y", "-confirm"}):
        raise PolicyError("static mode needs the name of the policy; accepted: -p NAME")
    if "-o" in line.given and edits:
        raise PolicyError("-o deletes the policy; accepted: -w, -p, -r, -y beside it")
    if "-y" in line.given:
        policy = catalogue.policy(line.policy) if line.policy else None
        if policy is None or catalogue.assigned is policy:
            catalogue.assign(None)
    if "-o" in line.given:
        policy = catalogue.policy(line.policy)
        catalogue.delete_policy(reference(policy))
        words.drop_unused(catalogue, policy.rules, named=True)
    elif edits or not line.given & {"-x", "-y"}:
        _edit(line, catalogue)
    if "-x" in line.given:
        catalogue.assign(line.policy)


def _edit(line: CommandLine, catalogue: Catalogue) -> None:
    if not any(one.name.casefold() == line.policy.casefold() for one in catalogue.policies):
        catalogue.add_policy(Policy(line.policy))
    policy = catalogue.policy(line.policy)
    polling = policy.polling_interval_seconds if line.polling_seconds is None else line.polling_seconds
    settings = replace(policy.key_exchange, **line.settings)
    catalogue.replace_policy(
        reference(policy), replace(policy, key_exchange=settings, polling_interval_seconds=polling)
    )
    if line.given & set(_OF_RULES):
        if not line.rule:
            raise PolicyError("a rule needs a name; accepted: -r NAME")
        for group in _groups(line):
            _put_rule(line, catalogue, group)


@dataclass(frozen=True, slots=True)
class _Group:
    """The filters of one rule; kind None is what -n says, filters None are those that the rule has or will make."""

    name: str
    filters: tuple[Filter, ...] | None = None
    kind: FilterActionKind | None = None
    default: bool = False


def _groups(line: CommandLine) -> list[_Group]:
    """A rule has one action, so filters in parentheses and in brackets have rules of their own."""
    if any(one.filters is None for one in line.filters):
        if len(line.filters) > 1:
            raise PolicyError("-f: DEFAULT is a rule of its own; accepted: DEFAULT alone")
        return [_Group(line.rule, default=True)]
    groups: list[_Group] = []
    for kind in (None, FilterActionKind.PERMIT, FilterActionKind.BLOCK):
        filters = tuple(item for one in line.filters if one.kind is kind for item in one.filters or ())
        if filters:
            name = f"{line.rule} ({kind.text})" if groups and kind else line.rule
            groups.append(_Group(name, filters, kind))
    return groups or [_Group(line.rule)]


def _put_rule(line: CommandLine, catalogue: Catalogue, group: _Group) -> None:
    """A new rule; or, in a rule that there is, another content of what the line gives."""
    policy = catalogue.policy(line.policy)
    old = next((rule for rule in policy.rules if _is_rule(rule, group)), None)
    fields = _rule_fields(line, group)
    if old is None:
        if group.filters is None and not group.default:
            raise PolicyError(
                f"the policy {policy.name!r} has no rule {group.name!r} yet; accepted: -f with its filters"
            )
        action = _action(line, group)
        if not group.default:
            action = replace(action, name=_free(f"{group.name} filter action", catalogue.filter_actions))
        catalogue.add_rule(reference(policy), Rule(group.name, _new_list(catalogue, group), action, **fields))
        return
    if group.filters is not None and old.filter_list is not None:
        if len(catalogue.users(old.filter_list)) > 1:
            fields["filter_list"] = _new_list(catalogue, group)
        else:
            fields["filter_list"] = replace(old.filter_list, filters=group.filters)
    if group.kind is not None or "-n" in line.given or "-soft" in line.given:
        before = old.filter_action
        action = _action(line, group)
        if group.kind is None and "-n" not in line.given:
            action = replace(before, allow_unsecured=True)
        alone = len(catalogue.users(before)) <= 1
        name = before.name if alone else _free(f"{group.name} filter action", catalogue.filter_actions)
        fields["filter_action"] = replace(action, name=name, guid=before.guid if alone else None)
    catalogue.replace_rule(reference(policy), reference(old), replace(old, name=group.name, **fields))


def _is_rule(rule: Rule, group: _Group) -> bool:
    if group.default or rule.filter_list is None:
        return group.default and rule.filter_list is None
    return rule.name.casefold() == group.name.casefold()


def _rule_fields(line: CommandLine, group: _Group) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    if line.authentication_methods:
        fields["authentication_methods"] = line.authentication_methods
    if line.tunnel_endpoint is not None and group.kind is None:
        fields["tunnel_endpoint"] = line.tunnel_endpoint
    if line.connection_type is not None:
        fields["connection_type"] = line.connection_type
    return fields


def _action(line: CommandLine, group: _Group) -> FilterAction:
    return FilterAction("", group.kind) if group.kind else filter_action(line.offers, "-soft" in line.given)


def _new_list(catalogue: Catalogue, group: _Group) -> FilterList | None:
    if group.filters is None:
        return None
    return FilterList(_free(f"{group.name} filter list", catalogue.filter_lists), "", group.filters)


def _free(name: str, items: Iterable[FilterList | FilterAction]) -> str:
    taken = {item.name.casefold() for item in items}
    names = (name if number == 1 else f"{name} ({number})" for number in count(1))
    return next(one for one in names if one.casefold() not in taken)


def _dynamic(line: CommandLine) -> DynamicRules:
    if not line.filters and "-u" not in line.given:
        raise PolicyError("dynamic mode needs filters; accepted: -f, -u, or static mode with -w")
    rules = tuple(
        Rule("", FilterList("", "", group.filters) if group.filters else None, _action(line, group), **fields)
        for group in (_groups(line) if line.filters else ())
        for fields in (_rule_fields(line, group),)
    )
    settings = KeyExchangeSettings(**line.settings) if line.settings else None
    return DynamicRules(rules, settings, "-u" in line.given)
