"""secpol create, edit, delete: policies, filter lists and their filters, filter actions, rules, stored objects.

What an `edit` does not name stays as it is.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import Any, TypeVar

import click

from ipsec_core.errors import PolicyError
from ipsec_core.policy.catalogue import Catalogue
from ipsec_core.policy.integrity import check
from ipsec_core.policy.methods import DEFAULT_RESPONSE_METHODS
from ipsec_core.policy.model import (
    AuthenticationMethod,
    FilterAction,
    FilterActionKind,
    KeyExchangeSettings,
    Policy,
    Rule,
)
from ipsec_core.policy.objects import Changes, ObjectClass, ObjectName, StoredObject, by_name, guid_text
from ipsec_core.policy.selectors import Filter, FilterList
from ipsec_core.tools.common import counted
from ipsec_core.tools.secpol_files import drop_unnamed
from ipsec_core.tools.secpol_store import Place, editing, now, tell
from ipsec_core.tools.secpol_words import (
    ACTIONS,
    CONNECTIONS,
    MINUTE,
    Commands,
    action_options,
    description_option,
    filter_options,
    new_name_option,
    policy_options,
    preshared_key,
    rule_options,
)

_T = TypeVar("_T")

_NO_GUID = uuid.UUID(int=0)
_DEFAULT_RULE = "default"


# ---- create ---------------------------------------------------------------------------------------------------------


@click.group("create", cls=Commands)
def create() -> None:
    """Create a policy, filter list, filter, action or rule."""


@create.command("policy")
@click.argument("name")
@policy_options
@click.option("--assign", is_flag=True, help="Assign it as well.")
@click.pass_obj
def create_policy(place: Place, /, name: str, assign: bool, **given: Any) -> None:
    """Create a policy with the default response rule alone."""
    action = FilterAction("", FilterActionKind.NEGOTIATE, DEFAULT_RESPONSE_METHODS)
    with editing(place) as catalogue, _naming("policy", name):
        catalogue.add_policy(_with_policy(Policy(name, rules=(Rule("", None, action),)), given))
        if assign:
            catalogue.assign(name)
    click.echo(f"The policy {name!r} is created{' and assigned' if assign else ''}.")


@create.command("filterlist")
@click.argument("name")
@description_option
@click.pass_obj
def create_filter_list(place: Place, name: str, description: str | None) -> None:
    """Create a filter list without filters."""
    with editing(place) as catalogue:
        catalogue.add_filter_list(FilterList(_named(name), description or "", ()))
    click.echo(f"The filter list {name!r} is created.")


@create.command("filter")
@click.argument("filterlist")
@filter_options
@click.pass_obj
def create_filter(place: Place, /, filterlist: str, **given: Any) -> None:
    """Add a filter to a filter list.

    --from and --to are needed. Of a DNS name: one filter for each of its addresses.
    """
    sources, destinations = given.pop("source"), given.pop("destination")
    for option, value in (("--from", sources), ("--to", destinations)):
        if value is None:
            raise click.UsageError(f"{option} is missing")
    with editing(place) as catalogue, _naming("filter list", filterlist):
        found = catalogue.filter_list(filterlist)
        fresh = (_with_filter(Filter("", *pair), given) for pair in product(sources, destinations))
        changed = replace(found, filters=(*found.filters, *fresh))
        catalogue.replace_filter_list(filterlist, changed)
    click.echo(f"The filter list {found.name!r} has {counted(len(changed.filters), 'filter')}.")


@create.command("filteraction")
@click.argument("name")
@action_options
@click.pass_obj
def create_filter_action(place: Place, /, name: str, **given: Any) -> None:
    """Create a filter action, which permits, blocks or negotiates."""
    with editing(place) as catalogue, _naming("filter action", name):
        kind = ACTIONS[given.pop("action") or "negotiate"]
        catalogue.add_filter_action(FilterAction(_named(name), kind, **_action_fields(given)))
    click.echo(f"The filter action {name!r} is created.")


@create.command("rule")
@click.argument("policy")
@click.argument("name")
@rule_options
@click.pass_obj
def create_rule(place: Place, /, policy: str, name: str, **given: Any) -> None:
    """Add a rule to a policy.

    --filterlist and --filteraction are needed.
    """
    for option in ("filterlist", "filteraction"):
        if given[option] is None:
            raise click.UsageError(f"--{option} is missing")
    key = preshared_key(given)
    with editing(place) as catalogue, _naming("rule", name):
        parts = _rule_parts(catalogue, given, key)
        catalogue.add_rule(policy, Rule(_named(name), **parts))
    click.echo(f"The rule {name!r} is added to the policy {policy!r}.")


# ---- edit -----------------------------------------------------------------------------------------------------------


@click.group("edit", cls=Commands)
def edit() -> None:
    """Edit a policy, filter list, filter, action or rule."""


@edit.command("policy")
@click.argument("name")
@new_name_option
@policy_options
@click.pass_obj
def edit_policy(place: Place, /, name: str, new_name: str | None, **given: Any) -> None:
    """Change a policy.

    --method replaces all its key exchange methods.
    """
    _require_change(given, new_name)
    with editing(place) as catalogue, _naming("policy", name):
        old = catalogue.policy(name)
        catalogue.replace_policy(name, _with_policy(replace(old, name=_renamed(old.name, new_name)), given))
    click.echo(f"The policy {_renamed(old.name, new_name)!r} is changed.")


@edit.command("filterlist")
@click.argument("name")
@new_name_option
@description_option
@click.pass_obj
def edit_filter_list(place: Place, name: str, new_name: str | None, description: str | None) -> None:
    """Change name or description of a filter list."""
    _require_change({"description": description}, new_name)
    with editing(place) as catalogue:
        old = catalogue.filter_list(name)
        changed = replace(old, name=_renamed(old.name, new_name), **_present(description=description))
        catalogue.replace_filter_list(name, changed)
    click.echo(f"The filter list {changed.name!r} is changed.")


@edit.command("filter")
@click.argument("filterlist")
@click.argument("filter", metavar="FILTER")
@filter_options
@click.pass_obj
def edit_filter(place: Place, /, filterlist: str, filter: str, **given: Any) -> None:
    """Change a filter of a filter list.

    FILTER is a number from 1 on, a name, or a GUID in braces.
    """
    _require_change(given, None)
    for option in ("source", "destination"):
        addresses = given[option]
        if addresses is not None:
            if len(addresses) > 1:
                raise PolicyError(f"{addresses[0].dns_name!r} has {len(addresses)} addresses; accepted: one of them")
            given[option] = addresses[0]
    with editing(place) as catalogue, _naming("filter list", filterlist):
        found = catalogue.filter_list(filterlist)
        index = _filter_index(found, filter)
        changed = _with_filter(found.filters[index], given)
        filters = (*found.filters[:index], changed, *found.filters[index + 1 :])
        catalogue.replace_filter_list(filterlist, replace(found, filters=filters))
    click.echo(f"Filter {index + 1} of the filter list {found.name!r} is changed.")


@edit.command("filteraction")
@click.argument("name")
@new_name_option
@action_options
@click.pass_obj
def edit_filter_action(place: Place, /, name: str, new_name: str | None, **given: Any) -> None:
    """Change a filter action, for all rules that use it.

    --method replaces all its security methods.
    """
    _require_change(given, new_name)
    with editing(place) as catalogue, _naming("filter action", name):
        old = catalogue.filter_action(name)
        fields = _action_fields(given)
        kind = given["action"]
        if kind not in (None, FilterActionKind.NEGOTIATE.text):
            # Methods and options of negotiate go with it, but not those that were asked for at once.
            plain = FilterAction(old.name, ACTIONS[kind], description=old.description, guid=old.guid)
            changed = replace(plain, name=_renamed(old.name, new_name), **fields)
        else:
            action = ACTIONS[kind] if kind else old.action
            changed = replace(old, name=_renamed(old.name, new_name), action=action, **fields)
        catalogue.replace_filter_action(name, changed)
    click.echo(f"The filter action {changed.name!r} is changed.")


@edit.command("rule")
@click.argument("policy")
@click.argument("rule")
@new_name_option
@rule_options
@click.option("--no-tunnel", is_flag=True, help="Transport mode.")
@click.pass_obj
def edit_rule(place: Place, /, policy: str, rule: str, new_name: str | None, no_tunnel: bool, **given: Any) -> None:
    """Change a rule of a policy.

    RULE is a name, a number from 1 on, a GUID in braces, or "default" for the default response rule.
    """
    if no_tunnel and given["tunnel"] is not None:
        raise click.UsageError("--tunnel and --no-tunnel exclude each other")
    _require_change(given | {"no_tunnel": no_tunnel or None}, new_name)
    key = preshared_key(given)
    with editing(place) as catalogue, _naming("rule", rule):
        word = _rule_word(catalogue.policy(policy), rule)
        old = catalogue.rule(policy, word)
        parts = _rule_parts(catalogue, given, key) | ({"tunnel_endpoint": None} if no_tunnel else {})
        if old.filter_list is None and "filter_list" in parts:
            raise PolicyError("the default response rule makes its own filters; leave --filterlist out")
        name = _renamed(old.name, new_name)
        if name.casefold() != old.name.casefold() and any(
            one.name.casefold() == name.casefold() for one in catalogue.policy(policy).rules
        ):
            raise PolicyError(f"the policy {policy!r} has a rule {name!r} already")
        catalogue.replace_rule(policy, word, replace(old, name=name, **parts))
    click.echo(f"The rule {name or rule!r} of the policy {policy!r} is changed.")


# ---- delete ---------------------------------------------------------------------------------------------------------


@click.group("delete", cls=Commands)
def delete() -> None:
    """Delete a policy, filter list, filter, action or rule."""


@delete.command("policy")
@click.argument("name")
@click.pass_obj
def delete_policy(place: Place, name: str) -> None:
    """Delete a policy with its rules.

    Filter lists and filter actions that have a name remain.
    """
    with editing(place) as catalogue:
        old = catalogue.policy(name)
        catalogue.delete_policy(name)
        drop_unnamed(catalogue, old.rules)
    click.echo(f"The policy {old.name!r} is deleted.")


@delete.command("filterlist")
@click.argument("name")
@click.pass_obj
def delete_filter_list(place: Place, name: str) -> None:
    """Delete a filter list that no rule uses."""
    with editing(place) as catalogue:
        old = catalogue.filter_list(name)
        catalogue.delete_filter_list(name)
    click.echo(f"The filter list {old.name!r} is deleted.")


@delete.command("filter")
@click.argument("filterlist")
@click.argument("filter", metavar="FILTER")
@click.pass_obj
def delete_filter(place: Place, filterlist: str, filter: str) -> None:
    """Delete a filter of a filter list.

    FILTER is a number from 1 on, a name, or a GUID in braces.
    """
    with editing(place) as catalogue:
        found = catalogue.filter_list(filterlist)
        index = _filter_index(found, filter)
        filters = found.filters[:index] + found.filters[index + 1 :]
        catalogue.replace_filter_list(filterlist, replace(found, filters=filters))
    click.echo(f"Filter {index + 1} of the filter list {found.name!r} is deleted.")


@delete.command("filteraction")
@click.argument("name")
@click.pass_obj
def delete_filter_action(place: Place, name: str) -> None:
    """Delete a filter action that no rule uses."""
    with editing(place) as catalogue:
        old = catalogue.filter_action(name)
        catalogue.delete_filter_action(name)
    click.echo(f"The filter action {old.name!r} is deleted.")


@delete.command("rule")
@click.argument("policy")
@click.argument("rule")
@click.pass_obj
def delete_rule(place: Place, policy: str, rule: str) -> None:
    """Delete a rule of a policy.

    RULE is a name, a number from 1 on, or a GUID in braces.
    """
    with editing(place) as catalogue:
        word = _rule_word(catalogue.policy(policy), rule)
        old = catalogue.rule(policy, word)
        catalogue.delete_rule(policy, word)
        drop_unnamed(catalogue, (old,))
    click.echo(f"The rule {rule!r} of the policy {policy!r} is deleted.")


@delete.command("object")
@click.argument("name", metavar="CLASS{GUID}")
@click.pass_obj
def delete_object(place: Place, name: str) -> None:
    """Delete one stored object, and references to it.

    For what check reports and --repair leaves to people.
    """
    wanted = ObjectName.parse(name)
    with place.writing() as store:
        known = by_name(store.objects())
        if wanted not in known:
            raise PolicyError(f"there is no {wanted}; secpol check lists what there is to mend")
        if wanted == ObjectName.of(ObjectClass.POLICY, store.assigned() or _NO_GUID):
            raise PolicyError(f"{wanted} is assigned; un-assign it first")
        put = (_without(item, wanted) for item in known.values() if wanted in (*item.references, *item.owners))
        store.apply(Changes(tuple(put), (wanted,)), now())
        problems = check(store.objects(), store.assigned())
    tell(place)
    click.echo(f"{wanted} is deleted; {counted(len(problems), 'problem')} in the store.")


# ---- inside ---------------------------------------------------------------------------------------------------------


def _without(item: StoredObject, name: ObjectName) -> StoredObject:
    return replace(
        item,
        isakmp=None if item.isakmp == name else item.isakmp,
        negotiation=None if item.negotiation == name else item.negotiation,
        nfas=tuple(one for one in item.nfas if one != name),
        filters=tuple(one for one in item.filters if one != name),
        owners=tuple(one for one in item.owners if one != name),
    )


class _naming:
    """In front of what the model complains about: the object that the command is about."""

    def __init__(self, what: str, name: str) -> None:
        self._place = f"{what} {name!r}"

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, PolicyError):
            raise PolicyError(f"{self._place}: {error}") from None


def _present(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _named(name: str) -> str:
    if not name.strip():
        raise PolicyError("the name is empty; accepted: a text")
    return name


def _renamed(old: str, new: str | None) -> str:
    return old if new is None else _named(new)


def _require_change(given: dict[str, Any], new_name: str | None) -> None:
    if new_name is None and all(value in (None, ()) for value in given.values()):
        raise click.UsageError("nothing to change; accepted: one option or more, see --help")


def _joined(groups: Sequence[Sequence[_T]]) -> tuple[_T, ...]:
    return tuple(item for group in groups for item in group)


def _minutes(value: int | None) -> int | None:
    return None if value is None else value * MINUTE


def _with_policy(policy: Policy, given: dict[str, Any]) -> Policy:
    settings: KeyExchangeSettings = replace(
        policy.key_exchange,
        **_present(
            methods=_joined(given["methods"]) or None,
            lifetime_seconds=_minutes(given["lifetime"]),
            master_key_pfs=given["pfs"],
            quick_mode_limit=given["sessions"],
            soft_lifetime_seconds=given["soft_lifetime"],
        ),
    )
    rules = policy.rules
    active = given["default_response"]
    if active is not None:
        if all(rule.filter_list is not None for rule in rules):
            raise PolicyError("it has no default response rule to switch on or off")
        rules = tuple(replace(rule, active=active) if rule.filter_list is None else rule for rule in rules)
    return replace(
        policy,
        rules=rules,
        key_exchange=settings,
        **_present(description=given["description"], polling_interval_seconds=_minutes(given["poll"])),
    )


def _with_filter(item: Filter, given: dict[str, Any]) -> Filter:
    return replace(
        item,
        **_present(
            name=given["new_name"],
            source=given.get("source"),
            destination=given.get("destination"),
            protocol=given["protocol"],
            source_port=given["from_port"],
            destination_port=given["to_port"],
            mirrored=given["mirrored"],
        ),
    )


def _action_fields(given: dict[str, Any]) -> dict[str, Any]:
    fields = _present(
        description=given["description"],
        methods=_joined(given["methods"]) or None,
        inbound_passthrough=given["inbound_passthrough"],
        allow_unsecured=given["allow_unsecured"],
        pfs=given["pfs"],
        pfs_group=given["pfs_group"],
    )
    return fields | ({"pfs_group": None} if given["pfs"] is False and given["pfs_group"] is None else {})


def _rule_parts(catalogue: Catalogue, given: dict[str, Any], key: AuthenticationMethod | None) -> dict[str, Any]:
    parts = _present(description=given["description"], tunnel_endpoint=given["tunnel"], active=given["active"])
    if given["filterlist"] is not None:
        parts["filter_list"] = catalogue.filter_list(given["filterlist"])
    if given["filteraction"] is not None:
        parts["filter_action"] = catalogue.filter_action(given["filteraction"])
    if given["connection"] is not None:
        parts["connection_type"] = CONNECTIONS[given["connection"]]
    methods = given["authentication"] or (("preshared",) if key is not None else ())
    if methods:
        parts["authentication_methods"] = tuple(key if isinstance(one, str) else one for one in methods)
    return parts


def _rule_word(policy: Policy, word: str) -> str:
    """ "default" is the default response rule, unless a rule has that name."""
    if word.casefold() != _DEFAULT_RULE or any(rule.name.casefold() == _DEFAULT_RULE for rule in policy.rules):
        return word
    number = next((number for number, rule in enumerate(policy.rules, 1) if rule.filter_list is None), None)
    if number is None:
        raise PolicyError(f"the policy {policy.name!r} has no default response rule")
    return str(number)


def _filter_index(item: FilterList, word: str) -> int:
    found = [
        index
        for index, one in enumerate(item.filters)
        if (one.name and one.name.casefold() == word.casefold())
        or (one.guid is not None and guid_text(one.guid) == word.upper())
    ]
    if not found and word.isascii() and word.isdigit() and 1 <= int(word) <= len(item.filters):
        found = [int(word) - 1]
    if len(found) != 1:
        what = f"{len(found)} filters of {item.name!r} have the name" if found else f"{item.name!r} has no filter"
        numbers = f"1 to {len(item.filters)}, a name of one, a GUID in braces" if item.filters else "it has none"
        raise PolicyError(f"{what} {word!r}; accepted: {numbers}")
    return found[0]
