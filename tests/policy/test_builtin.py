"""The built-in policies: what they say, and that they are the objects of a real domain."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ipsec_core.errors import PolicyError
from ipsec_core.policy.builtin import BUILTIN_NAMES, builtin_objects, builtin_policy
from ipsec_core.policy.directory import LdifStore
from ipsec_core.policy.integrity import check
from ipsec_core.policy.methods import DEFAULT_KEY_EXCHANGE_METHODS, DEFAULT_RESPONSE_METHODS
from ipsec_core.policy.model import DEFAULT_POLLING_SECONDS, AuthenticationKind, FilterActionKind, Policy, Rule
from ipsec_core.policy.objects import REGISTRY_DATA_TYPE, by_name
from ipsec_core.policy.selectors import ANY, MY


def _rules(name: str) -> tuple[Rule, ...]:
    return builtin_policy(name).rules


def test_they_are_the_objects_of_a_real_domain(domain: Path) -> None:
    real = by_name(replace(item, data_type=REGISTRY_DATA_TYPE, when_changed=0) for item in LdifStore(domain).objects())
    assert by_name(builtin_objects()) == real
    assert len(real) == 22


@pytest.mark.parametrize("name", BUILTIN_NAMES)
def test_what_all_three_have(name: str) -> None:
    policy = builtin_policy(name.upper())
    assert isinstance(policy, Policy)
    assert policy.name == name
    assert policy.key_exchange.methods == DEFAULT_KEY_EXCHANGE_METHODS
    assert (policy.key_exchange.lifetime_seconds, policy.key_exchange.master_key_pfs) == (28_800, False)
    assert policy.polling_interval_seconds == DEFAULT_POLLING_SECONDS
    assert policy.default_response is not None
    assert policy.default_response.filter_action.methods == DEFAULT_RESPONSE_METHODS
    for rule in policy.rules:
        assert [method.kind for method in rule.authentication_methods] == [AuthenticationKind.KERBEROS]


def test_server_policies() -> None:
    for name, optional in (("Server (Request Security)", True), ("Secure Server (Require Security)", False)):
        icmp, response, secure = _rules(name)
        assert icmp.filter_action.action is FilterActionKind.PERMIT
        assert [(one.source, one.destination, one.protocol, one.mirrored) for one in icmp.filters] == [
            (MY, ANY, 1, True)
        ]
        assert response.filter_list is None
        assert [(one.source, one.destination, one.protocol, one.mirrored) for one in secure.filters] == [
            (MY, ANY, 0, True)
        ]
        assert secure.filter_action.inbound_passthrough
        assert secure.filter_action.allow_unsecured is optional
    methods = {name: [str(one) for one in _rules(name)[2].filter_action.methods] for name in BUILTIN_NAMES[1:]}
    assert methods == {
        "Server (Request Security)": [
            "ESP[3DES,SHA1]:100000k/900s",
            "ESP[DES,SHA1]:100000k/900s",
            "AH[SHA1]:100000k/300s",
            "AH[MD5]:100000k/300s",
        ],
        "Secure Server (Require Security)": [
            "ESP[3DES,SHA1]:100000k/900s",
            "ESP[3DES,MD5]:100000k/900s",
            "ESP[DES,SHA1]:100000k/900s",
            "ESP[DES,MD5]:100000k/900s",
        ],
    }


def test_client_only_responds() -> None:
    assert [rule.filter_list for rule in _rules("Client (Respond Only)")] == [None]


def test_they_share_filter_lists_and_actions() -> None:
    server, secure = (_rules(name) for name in BUILTIN_NAMES[1:])
    assert server[0].filter_list is not None
    assert secure[0].filter_list is not None
    assert server[0].filter_list.guid == secure[0].filter_list.guid
    assert server[0].filter_action.guid == secure[0].filter_action.guid
    assert server[0].guid != secure[0].guid


def test_their_links_are_whole() -> None:
    assert check(builtin_objects()) == ()
    assert {item.when_changed for item in builtin_objects(7)} == {7}


def test_another_name_is_refused() -> None:
    with pytest.raises(PolicyError, match=r"'Server' is not a built-in policy; accepted: Client \(Respond Only\), "):
        builtin_policy("Server")
