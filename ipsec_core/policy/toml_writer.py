"""TOML text of a policy table, laid out for people: a section a rule, a line a filter, lines of at most 120 columns."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from ipsec_core.policy.model import Policy
from ipsec_core.policy.toml import policy_to_table

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_LINE = 120


def policy_to_toml(policy: Policy, *, hide_keys: bool = False) -> str:
    """The file that `read_toml` and `policy_from_table` read as an equal policy."""
    return "\n".join(_section(policy_to_table(policy, hide_keys=hide_keys), "", "")) + "\n"


def _section(table: Mapping[str, object], path: str, head: str) -> list[str]:
    """Plain values first: what follows a header in TOML belongs to it."""
    lines = [head] if head else []
    sections: list[str] = []
    for name, value in table.items():
        key = name if _BARE_KEY.fullmatch(name) else _string(name)
        inner = f"{path}.{key}" if path else key
        if isinstance(value, Mapping):
            sections += ["", *_section(value, inner, f"[{inner}]")]
        elif not path and isinstance(value, list) and all(isinstance(item, Mapping) for item in value):
            for item in value:
                sections += ["", *_section(item, inner, f"[[{inner}]]")]
        else:
            lines.append(_entry(key, value))
    return lines + sections


def _entry(key: str, value: object) -> str:
    line = f"{key} = {_inline(value)}"
    if isinstance(value, list) and (len(line) > _LINE or any(isinstance(item, Mapping) for item in value)):
        return f"{key} = [\n" + "".join(f"    {_inline(item)},\n" for item in value) + "]"
    return line


def _inline(value: object) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_inline(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_inline, value)) + "]"
    return _string(value) if isinstance(value, str) else json.dumps(value)


def _string(text: str) -> str:
    """A basic string: JSON's, but that TOML wants DEL escaped as well."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007F")
