"""What the two command languages, netsh ipsec static and ipsecpol, say in the same words."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from ipaddress import IPv4Address

from ipsec_core.errors import PolicyError
from ipsec_core.policy.catalogue import Catalogue
from ipsec_core.policy.methods import KeyExchangeMethod, SecurityMethod
from ipsec_core.policy.model import FilterAction, Policy, Rule
from ipsec_core.policy.objects import guid_text
from ipsec_core.policy.selectors import Address, FilterList

Resolve = Callable[[str], Sequence[IPv4Address]]
"""The addresses of a DNS name; none for a name that there is not."""

DEFAULT_METHODS = tuple(
    SecurityMethod.parse(text) for text in ("ESP[3DES,SHA1]", "ESP[3DES,MD5]", "ESP[DES,SHA1]", "ESP[DES,MD5]")
)
_LIST_WORD = re.compile(r"(?:\[[^\[\]]*\]|[^ \t])+")
_DNS_NAME = re.compile(
    r"(?=[^A-Za-z]*[A-Za-z])[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9])?(\.[A-Za-z0-9_-]+)*\.?", re.ASCII
)
_GROUPS = {"3": "14"}  # the third of both languages is the one of 2048 bits


def whole_number(text: str, low: int, high: int) -> int:
    if not re.fullmatch("[0-9]{1,10}", text) or not low <= int(text) <= high:
        raise PolicyError(f"{text!r} is not such a number; accepted: {low} to {high}")
    return int(text)


def list_words(text: str) -> list[str]:
    """The parts of a list of methods, as spaces outside of brackets part them."""
    return _LIST_WORD.findall(text)


def security_methods(text: str) -> tuple[SecurityMethod, ...]:
    """From "ESP[3DES,SHA1]:100000k/3600s AH[MD5]"."""
    return tuple(SecurityMethod.parse(word) for word in list_words(text))


def key_exchange_methods(words: Iterable[str]) -> tuple[KeyExchangeMethod, ...]:
    """From "3DES-SHA1-2"; group 3 is the one of 2048 bits, which IANA calls 14."""
    return tuple(KeyExchangeMethod.parse(_with_group(word)) for word in words)


def _with_group(word: str) -> str:
    head, dash, tail = word.rpartition("-")
    group, colon, lifetime = tail.partition(":")
    return f"{head}{dash}{group_number(group)}{colon}{lifetime}"


def group_number(text: str) -> str:
    return _GROUPS.get(text, text)


def addresses(text: str, resolve: Resolve | None) -> tuple[Address, ...]:
    """What `Address.parse` takes, or a DNS name: then all its addresses."""
    if text.lower() in ("any", "me") or not _DNS_NAME.fullmatch(text):
        return (Address.parse(text),)
    if resolve is None:
        raise PolicyError(f"the DNS name {text!r} cannot be resolved here; accepted: me, any, a.b.c.d")
    found = resolve(text)
    if not found:
        raise PolicyError(f"the DNS name {text!r} has no address; accepted: a name that DNS knows, me, any, a.b.c.d")
    return tuple(Address(Address.parse(str(one)).network, text) for one in found)


def endpoint(text: str, resolve: Resolve | None) -> IPv4Address:
    """The address of a tunnel endpoint; of a DNS name the first."""
    found = addresses(text, resolve)[0]
    if found.is_any or found.is_my or found.network.prefixlen != 32:
        raise PolicyError(f"{text!r} is not a tunnel endpoint; accepted: a.b.c.d, a DNS name")
    return found.network.network_address


def reference(item: Policy | Rule | FilterList | FilterAction) -> str:
    """What a catalogue finds an object of its own by, whatever its name."""
    assert item.guid is not None
    return guid_text(item.guid)


def drop_unused(catalogue: Catalogue, rules: Iterable[Rule], *, named: bool) -> None:
    """Deletes the filter lists and actions of former rules that no rule uses, `named` ones too or only those without
    a name, which nobody would find again."""
    lists = {rule.filter_list.guid for rule in rules if rule.filter_list}
    actions = {rule.filter_action.guid for rule in rules}
    for one in catalogue.filter_lists:
        if one.guid in lists and (named or not one.name) and not catalogue.users(one):
            catalogue.delete_filter_list(reference(one))
    for action in catalogue.filter_actions:
        if action.guid in actions and (named or not action.name) and not catalogue.users(action):
            catalogue.delete_filter_action(reference(action))
