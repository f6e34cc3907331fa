"""Rules beside the policy: a program pushes them into a running Policy Agent; they are in no store."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace

from ipsec_core.errors import PolicyError
from ipsec_core.policy.model import KeyExchangeSettings, Policy, Rule
from ipsec_core.policy.toml import policy_from_table, policy_to_table

_KEYS = {"policy": dict, "key_exchange": bool, "delete": bool}


@dataclass(frozen=True, slots=True)
class DynamicRules:
    """What a program pushes. `key_exchange` None is that of the policy. `delete`: what the same program has pushed
    before goes first."""

    rules: tuple[Rule, ...] = ()
    key_exchange: KeyExchangeSettings | None = None
    delete: bool = False

    def after(self, former: DynamicRules | None) -> DynamicRules:
        """Both, one after the other."""
        if self.delete or former is None:
            return self
        return DynamicRules(former.rules + self.rules, self.key_exchange or former.key_exchange, former.delete)

    def added_to(self, policy: Policy) -> Policy:
        """The policy with these rules too; a default response rule takes the place of the policy's."""
        default = any(rule.filter_list is None for rule in self.rules)
        kept = (rule for rule in policy.rules if not (default and rule.filter_list is None))
        return replace(policy, rules=(*kept, *self.rules), key_exchange=self.key_exchange or policy.key_exchange)

    def to_table(self) -> dict[str, object]:
        """What JSON can express, preshared keys and all; `from_table` gives equal rules."""
        policy = policy_to_table(self.added_to(Policy("dynamic rules")))
        return {"policy": policy, "key_exchange": self.key_exchange is not None, "delete": self.delete}

    @classmethod
    def from_table(cls, table: Mapping[str, object]) -> DynamicRules:
        """PolicyError when a table is none of `to_table`."""
        values = [table.get(name) for name in _KEYS]
        if any(not isinstance(value, kind) for value, kind in zip(values, _KEYS.values(), strict=True)):
            raise PolicyError(f"not dynamic rules; accepted: {', '.join(_KEYS)}")
        described, key_exchange, delete = values
        assert isinstance(described, dict)
        try:
            json.dumps(described, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            # The state directory takes none, nor does what is made of a preshared key.
            raise PolicyError("dynamic rules: a text has half a surrogate pair; accepted: Unicode text") from None
        policy = policy_from_table(described, "dynamic rules")
        return cls(policy.rules, policy.key_exchange if key_exchange else None, bool(delete))
