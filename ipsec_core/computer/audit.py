"""The audit policy of a computer (Local Policies, Audit Policy): which successes and failures reach the Security log.

KB 257225 has the user enable "Audit logon events" and "Audit object access"; IKE writes only into the first, category
Logon/Logoff.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ipsec_core.errors import ScenarioError

AUDIT_CATEGORIES = {
    "account_logon": "Audit account logon events",
    "account_management": "Audit account management",
    "directory_service_access": "Audit directory service access",
    "logon_events": "Audit logon events",
    "object_access": "Audit object access",
    "policy_change": "Audit policy change",
    "privilege_use": "Audit privilege use",
    "process_tracking": "Audit process tracking",
    "system_events": "Audit system events",
}
"""The nine categories of Windows 2000: key of the tables here, and the name in the snap-in."""

_OUTCOMES = {"success": True, "failure": False}


@dataclass(frozen=True, slots=True)
class AuditPolicy:
    """The audited pairs (category key, success). The default audits nothing, as Windows 2000 is installed."""

    audited: frozenset[tuple[str, bool]] = frozenset()

    def audits(self, category: str, success: bool) -> bool:
        """Whether a success (or a failure) in a category, given by key, is logged."""
        if category not in AUDIT_CATEGORIES:
            raise KeyError(category)
        return (category, success) in self.audited

    @classmethod
    def from_table(cls, table: Mapping[str, object], where: str) -> AuditPolicy:
        """From `{ logon_events = ["success", "failure"] }`; ScenarioError with `where` in front."""
        audited: set[tuple[str, bool]] = set()
        for category, outcomes in table.items():
            if category not in AUDIT_CATEGORIES:
                raise ScenarioError(f"{where}: unknown key {category!r}; accepted: {', '.join(AUDIT_CATEGORIES)}")
            for outcome in outcomes if isinstance(outcomes, list) else [None]:
                if not isinstance(outcome, str) or outcome not in _OUTCOMES:
                    given = outcomes if outcome is None else outcome
                    raise ScenarioError(
                        f'{where}.{category}: {given!r} is not accepted; accepted: a list of "success", "failure"'
                    )
                audited.add((category, _OUTCOMES[outcome]))
        return cls(frozenset(audited))

    def to_table(self) -> dict[str, list[str]]:
        """The table that `from_table` reads, in the order of the snap-in."""
        table = {
            category: [outcome for outcome, success in _OUTCOMES.items() if (category, success) in self.audited]
            for category in AUDIT_CATEGORIES
        }
        return {category: outcomes for category, outcomes in table.items() if outcomes}
