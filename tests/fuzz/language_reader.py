"""The two command languages, for fuzz_netsh.py and fuzz_ipsecpol.py.

What must hold: only PolicyError comes out, in one line that begins with the place; what is refused has changed nothing;
and what was carried out is a store that, written as a script of netsh, makes the same store again.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from ipaddress import IPv4Address
from itertools import count

from ipsec_core.errors import PolicyError
from ipsec_core.policy import ipsecpol, netsh
from ipsec_core.policy.catalogue import Catalogue
from ipsec_core.policy.dynamic_rules import DynamicRules
from ipsec_core.policy.model import Policy
from ipsec_core.policy.netsh_writer import write, write_all

_NAMESPACE = uuid.UUID("3b0e3f2e-6f5a-4d1c-9f57-0b6f9c1d2e3f")
_BASE = """add filterlist L
add filter L me any
add filteraction A
add policy P
add rule R P L A psk=k
add filteraction B permit
add policy Q assign=yes
add rule S Q L B"""
_NUMBERS = count(1)
_UNQUOTABLE = "accepted: text without them"


class Broken(AssertionError):
    """Something that must hold does not."""


def _store(script: str = "") -> Catalogue:
    """GUIDs that no input guesses, for none comes again: a name that is another object's GUID is nobody's fault."""
    catalogue = Catalogue(new_guid=lambda: uuid.uuid5(_NAMESPACE, str(next(_NUMBERS))))
    netsh.run(script, catalogue, "base")
    return catalogue


def _resolve(name: str) -> list[IPv4Address]:
    return [IPv4Address("192.0.2.1"), IPv4Address("192.0.2.2")] if name.endswith("e") else []


def _state(catalogue: Catalogue) -> object:
    return catalogue.policies, catalogue.filter_lists, catalogue.filter_actions, catalogue.assigned_guid


def _refused(catalogue: Catalogue, carry_out: Callable[[], object]) -> bool:
    before = _state(catalogue)
    try:
        carry_out()
    except PolicyError as error:
        if not str(error).startswith("x:") or "\n" in str(error):
            raise Broken(f"not one line with its place: {str(error)!r}") from None
        if _state(catalogue) != before:
            raise Broken("what was refused has changed something") from None
        return True
    return False


def _check_scripts(catalogue: Catalogue) -> None:
    for policy in catalogue.policies:
        try:
            script = write(policy)
        except PolicyError as error:
            if _UNQUOTABLE not in str(error):
                raise Broken(f"cannot be written: {error}") from None
            return
        if _store(script).policies != (policy,):
            raise Broken("a policy came back as another one")
    try:
        script = write_all(catalogue)
    except PolicyError:
        return  # a list or an action that no policy uses
    again = _store(script)
    if again.policies != catalogue.policies or again.assigned != catalogue.assigned:
        raise Broken("the store came back as another one")


def read_netsh(data: bytes) -> bool:
    """Whether the script is in order, and all the rest holds."""
    catalogue = _store(_BASE)
    script = data.decode("utf-8", "replace")
    if _refused(catalogue, lambda: netsh.run(script, catalogue, "x", resolve=_resolve)):
        return False
    _check_scripts(catalogue)
    return True


def read_ipsecpol(data: bytes) -> bool:
    """Whether all is in order: a batch file behind a byte of 1, or command lines by themselves."""
    catalogue = _store(_BASE)
    text = data.decode("utf-8", "replace")
    dynamic: list[ipsecpol.DynamicRules | None] = []
    refused, before = False, _state(catalogue)
    if text.startswith("\1"):
        refused = _refused(
            catalogue, lambda: dynamic.extend(ipsecpol.run_file(text[1:], catalogue, "x", resolve=_resolve))
        )
    else:
        for line in text.split("\n"):
            refused |= _refused(
                catalogue, lambda line=line: dynamic.append(ipsecpol.run(line, catalogue, "x", resolve=_resolve))
            )
    for rules in dynamic:
        if rules is not None:
            policy = rules.added_to(catalogue.assigned or Policy("none"))
            table = json.loads(json.dumps(rules.to_table()))
            added = policy.rules[len(policy.rules) - len(rules.rules) :]
            if DynamicRules.from_table(table) != rules or added != rules.rules:
                raise Broken("dynamic rules got lost")
    if _state(catalogue) != before:
        _check_scripts(catalogue)
    return not refused
