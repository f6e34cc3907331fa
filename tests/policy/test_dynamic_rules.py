"""Rules that a program pushes: one after another, beside a policy, and over a socket."""

from __future__ import annotations

import json

import pytest

from ipsec_core.errors import PolicyError
from ipsec_core.policy.catalogue import Catalogue
from ipsec_core.policy.dynamic_rules import DynamicRules
from ipsec_core.policy.ipsecpol import run
from ipsec_core.policy.model import KeyExchangeSettings, Policy


def rules(line: str) -> DynamicRules:
    found = run(line, Catalogue(), "x")
    assert found is not None
    return found


ONE, OTHER = rules("-f 0+192.0.2.1 -1k 5Q"), rules("-f 0+192.0.2.2")


def test_one_after_another() -> None:
    both = OTHER.after(ONE)
    assert both == DynamicRules((*ONE.rules, *OTHER.rules), KeyExchangeSettings(quick_mode_limit=5))
    assert ONE.after(None) is ONE
    fresh = rules("-u -f 0+192.0.2.3")
    assert fresh.after(both) == fresh
    assert OTHER.after(fresh) == DynamicRules((*fresh.rules, *OTHER.rules), None, delete=True)
    # In whatever way they are put together.
    assert OTHER.after(fresh.after(ONE)) == OTHER.after(fresh).after(ONE)


def test_beside_a_policy() -> None:
    policy = Policy("P", rules=ONE.rules)
    assert OTHER.added_to(policy).rules == (*ONE.rules, *OTHER.rules)
    assert OTHER.added_to(policy).key_exchange == policy.key_exchange
    assert ONE.added_to(Policy("Q")).key_exchange.quick_mode_limit == 5


@pytest.mark.parametrize(
    "line",
    [
        "-u",
        "-u -f 0+192.0.2.1",
        "-f DEFAULT -n AH[MD5] -1p",
        "-f 0+* -1s 3DES-SHA-2",
        '-f 10.1.*=10.2.*:80:TCP (0+192.0.2.7) [*=0:1434:UDP] -n ESP[3DES,SHA]PFS -t 192.0.2.9 -a P:"k" K -dialup',
    ],
)
def test_as_json(line: str) -> None:
    assert DynamicRules.from_table(json.loads(json.dumps(rules(line).to_table()))) == rules(line)


def test_wrong_tables() -> None:
    good = ONE.to_table()
    for name in good:
        for bad in (good | {name: 1}, {key: value for key, value in good.items() if key != name}):
            with pytest.raises(PolicyError, match=r"^not dynamic rules; accepted: policy, key_exchange, delete$"):
                DynamicRules.from_table(bad)
    with pytest.raises(PolicyError, match=r"^dynamic rules: "):
        DynamicRules.from_table(good | {"policy": {"name": "x", "rules": [1]}})


def test_texts_that_are_no_unicode() -> None:
    """JSON has them, and arguments that are no UTF-8; the state directory could not be written any more."""
    for line in ('-f 0+192.0.2.1 -a P:"\udcff"', '-f 0+192.0.2.1 -a CERT:"\udcff"'):
        table = json.loads(json.dumps(rules(line).to_table()))
        with pytest.raises(PolicyError, match=r"^dynamic rules: a text has half a surrogate pair; accepted: Unicode"):
            DynamicRules.from_table(table)
