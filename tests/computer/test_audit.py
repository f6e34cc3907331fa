"""Audit policy: nothing by default, one category and outcome at a time."""

from __future__ import annotations

import pytest

from ipsec_core.computer.audit import AUDIT_CATEGORIES, AuditPolicy
from ipsec_core.errors import ScenarioError


def test_default_audits_nothing() -> None:
    assert not any(
        AuditPolicy().audits(category, success) for category in AUDIT_CATEGORIES for success in (True, False)
    )


def test_table() -> None:
    table: dict[str, object] = {"logon_events": ["success", "failure"], "object_access": ["failure"]}
    policy = AuditPolicy.from_table(table, "x")
    assert policy.audits("logon_events", True)
    assert policy.audits("logon_events", False)
    assert not policy.audits("object_access", True)
    assert policy.audits("object_access", False)
    assert policy.to_table() == table
    assert AuditPolicy.from_table({"logon_events": []}, "x") == AuditPolicy()


def test_unknown_category_is_a_bug_of_the_caller() -> None:
    with pytest.raises(KeyError):
        AuditPolicy().audits("logons", True)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"logon": ["success"]}, "lab.toml: unknown key 'logon'; accepted: account_logon, account_management"),
        (
            {"logon_events": ["sucess"]},
            'lab.toml.logon_events: \'sucess\' is not accepted; accepted: a list of "success", "failure"',
        ),
        ({"logon_events": "success"}, "lab.toml.logon_events: 'success' is not accepted; accepted: a list of"),
        ({"logon_events": [True]}, "lab.toml.logon_events: True is not accepted"),
        ({"logon_events": [["success"]]}, "lab.toml.logon_events: ['success'] is not accepted"),
    ],
)
def test_bad_table(table: dict[str, object], message: str) -> None:
    with pytest.raises(ScenarioError) as raised:
        AuditPolicy.from_table(table, "lab.toml")
    assert str(raised.value).startswith(message)
