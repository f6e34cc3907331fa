"""Policies as tables: round trip, the short form, and one clear line for each kind of mistake."""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipsec_core.errors import PolicyError
from ipsec_core.policy import toml
from ipsec_core.policy.methods import Confidentiality, DiffieHellmanGroup, Integrity, KeyExchangeMethod, SecurityMethod
from ipsec_core.policy.model import (
    AuthenticationKind,
    AuthenticationMethod,
    ConnectionType,
    FilterAction,
    FilterActionKind,
    KeyExchangeSettings,
    Policy,
    Rule,
)
from ipsec_core.policy.selectors import ANY, MY, Address, Filter, FilterList
from ipsec_core.policy.toml import policy_from_table, policy_to_table

LAB = """
name = "Lab policy"
[[rules]]
name = "Secure all IP"
filters = [{ source = "me", destination = "10.0.0.2" }]
action = { negotiate = ["ESP[3DES,SHA1]:100000k/3600s"] }
authentication = [{ preshared_key = "ipsec_core lab" }]
"""


def _read(text: str) -> Policy:
    return policy_from_table(tomllib.loads(text), "lab.toml")


def test_short_form() -> None:
    policy = _read(LAB)
    method = SecurityMethod(Confidentiality.TRIPLE_DES, Integrity.SHA1)
    assert policy == Policy(
        "Lab policy",
        rules=(
            Rule(
                "Secure all IP",
                FilterList("", "", (Filter("", MY, Address.parse("10.0.0.2")),)),
                FilterAction("", FilterActionKind.NEGOTIATE, (method,)),
                (AuthenticationMethod(AuthenticationKind.PRESHARED_KEY, "ipsec_core lab"),),
            ),
        ),
    )


def test_long_form() -> None:
    policy = _read(
        """
        name = "Long"
        description = "everything"
        polling_interval_seconds = 600
        key_exchange = { methods = ["3DES-SHA1-2"], lifetime_seconds = 9, master_key_pfs = true, quick_mode_limit = 3 }
        filter_lists = [{ name = "All ICMP Traffic", filters = [{ source = "me", destination = "any", protocol = 1 }] }]
        filter_actions = [{ name = "Permit", action = "permit" }]
        [[rules]]
        filters = "All ICMP Traffic"
        action = "Permit"
        connection_type = "lan"
        [[rules]]
        filters = { name = "net", description = "d", filters = [{ source = "10.1.0.0/16", destination = "any" }] }
        action = { name = "Tunnel", negotiate = ["AH[MD5]"], allow_unsecured = true, pfs = true }
        authentication = ["kerberos", { certificate = "CN=Root" }]
        tunnel_endpoint = "192.0.2.2"
        active = false
        """
    )
    permit, tunnel = policy.rules
    assert policy.key_exchange == KeyExchangeSettings((KeyExchangeMethod.parse("3DES-SHA1-2"),), 9, True, 3)
    assert (policy.description, policy.polling_interval_seconds) == ("everything", 600)
    assert permit.filter_list == FilterList("All ICMP Traffic", "", (Filter("", MY, ANY, 1),))
    assert permit.filter_action == FilterAction("Permit", FilterActionKind.PERMIT)
    assert permit.connection_type is ConnectionType.LAN
    assert permit.authentication_methods == (AuthenticationMethod(AuthenticationKind.KERBEROS),)
    assert tunnel.tunnel_endpoint == IPv4Address("192.0.2.2")
    assert not tunnel.active
    assert not tunnel.filter_list.filters[0].mirrored
    assert (tunnel.filter_list.name, tunnel.filter_list.description) == ("net", "d")
    assert tunnel.filter_action.pfs
    assert tunnel.filter_action.allow_unsecured
    assert [item.kind.name for item in tunnel.authentication_methods] == ["KERBEROS", "CERTIFICATE"]


names = st.text(max_size=8)
words = st.text(min_size=1, max_size=8)
addresses = st.just(ANY) | st.builds(
    lambda host, length: Address(IPv4Network((host, length), strict=False)),
    st.integers(0x01000000, 0xFFFFFFFF),
    st.integers(1, 32),
)
port_filters = st.builds(
    Filter,
    name=names,
    source=addresses | st.just(MY),
    destination=addresses,
    protocol=st.sampled_from([6, 17]),
    source_port=st.integers(0, 65535),
    destination_port=st.integers(0, 65535),
    mirrored=st.booleans(),
)
other_filters = st.builds(
    Filter,
    name=names,
    source=addresses,
    destination=addresses | st.just(MY),
    protocol=st.integers(0, 255),
    mirrored=st.booleans(),
)
methods = st.builds(
    SecurityMethod,
    confidentiality=st.sampled_from([Confidentiality.DES, Confidentiality.TRIPLE_DES, Confidentiality.AES_256_CTR]),
    integrity=st.none() | st.sampled_from(Integrity),
    ah=st.none() | st.sampled_from(Integrity),
    lifetime_seconds=st.integers(1, 172_799),
    lifetime_kilobytes=st.integers(1, 2_147_483_647),
) | st.sampled_from([SecurityMethod.parse(text) for text in ("ESP[AES-128-GCM]", "ESP[NULL,MD5]", "AH[SHA1]")])
negotiating = st.builds(
    FilterAction,
    name=names,
    action=st.just(FilterActionKind.NEGOTIATE),
    methods=st.lists(methods, min_size=1, max_size=3).map(tuple),
    inbound_passthrough=st.booleans(),
    allow_unsecured=st.booleans(),
    pfs=st.booleans(),
)
negotiate = negotiating | st.builds(
    lambda action, group: replace(action, pfs=True, pfs_group=group), negotiating, st.sampled_from(DiffieHellmanGroup)
)
simple = st.builds(FilterAction, names, st.sampled_from([FilterActionKind.PERMIT, FilterActionKind.BLOCK]))
authentication = st.just(AuthenticationMethod(AuthenticationKind.KERBEROS)) | st.builds(
    AuthenticationMethod,
    st.sampled_from([AuthenticationKind.PRESHARED_KEY, AuthenticationKind.CERTIFICATE]),
    words,
)
common = {
    "name": names,
    "filter_list": st.builds(FilterList, names, names, st.lists(port_filters | other_filters, max_size=3).map(tuple)),
    "connection_type": st.sampled_from(ConnectionType),
    "active": st.booleans(),
}
rules = st.builds(
    Rule,
    filter_action=negotiate,
    authentication_methods=st.lists(authentication, min_size=1, max_size=2).map(tuple),
    tunnel_endpoint=st.none() | st.ip_addresses(v=4, network="10.0.0.0/8"),
    **common,
) | st.builds(
    Rule, filter_action=simple, authentication_methods=st.lists(authentication, max_size=2).map(tuple), **common
)
exchanges = st.builds(
    KeyExchangeSettings,
    methods=st.lists(
        st.builds(
            KeyExchangeMethod,
            st.sampled_from([Confidentiality.DES, Confidentiality.TRIPLE_DES, Confidentiality.AES_256_CBC]),
            st.sampled_from(Integrity),
            st.sampled_from(DiffieHellmanGroup),
            st.integers(0, 100_000),
        ),
        min_size=1,
        max_size=3,
    ).map(tuple),
    lifetime_seconds=st.integers(1, 100_000),
    master_key_pfs=st.booleans(),
    quick_mode_limit=st.integers(0, 5),
    soft_lifetime_seconds=st.integers(0, 600),
)
policies = st.builds(
    Policy,
    name=words,
    description=names,
    rules=st.lists(rules, max_size=3).map(tuple),
    key_exchange=exchanges | st.just(KeyExchangeSettings()),
    polling_interval_seconds=st.integers(1, 100_000),
)


@settings(deadline=None)
@given(policies)
def test_round_trip(policy: Policy) -> None:
    table = policy_to_table(policy)
    assert policy_from_table(table, "x") == policy
    assert policy_from_table(json.loads(json.dumps(table)), "x") == policy


def test_hidden_keys() -> None:
    policy = _read(LAB)
    assert "ipsec_core lab" in json.dumps(policy_to_table(policy))
    hidden = policy_to_table(policy, hide_keys=True)
    assert "ipsec_core lab" not in json.dumps(hidden)
    assert policy_from_table(hidden, "x").rules[0].filter_list == policy.rules[0].filter_list


FILTER = 'name = "p"\n[[rules]]\naction = "block"\nfilters = [{ source = "me", destination = "any" }, %s]'
ACTION = 'name = "p"\n[[rules]]\nfilters = []\naction = %s'
RULE = 'name = "p"\n[[rules]]\nfilters = []\naction = { negotiate = ["AH[MD5]"] }\n%s'
TOP = 'name = "p"\n%s'

ADDRESS_FORMS = "any, me, a.b.c.d, a.b.c.d/len, a.b.c.d/mask"
POLICY_KEYS = "name, description, rules, filter_lists, filter_actions, key_exchange, polling_interval_seconds"


@pytest.mark.parametrize(
    ("template", "text", "message"),
    [
        (
            FILTER,
            '{ source = "10.0.0.300", destination = "any" }',
            f"rules[0].filters[1].source: '10.0.0.300' is not an address; accepted: {ADDRESS_FORMS}",
        ),
        (FILTER, '{ source = "me" }', "rules[0].filters[1]: 'destination' is missing"),
        (
            FILTER,
            '{ source = 7, destination = "any" }',
            "rules[0].filters[1].source: expected text, got a whole number",
        ),
        (FILTER, '"any"', "rules[0].filters[1]: expected a table, got text"),
        (
            FILTER,
            '{ source = "me", destination = "any", port = 80 }',
            "rules[0].filters[1]: unknown key 'port'; accepted: "
            "name, source, destination, protocol, source_port, destination_port, mirrored",
        ),
        (
            FILTER,
            '{ source = "me", destination = "any", protocol = "esp" }',
            "rules[0].filters[1].protocol: 'esp' is not a protocol; accepted: any, icmp, tcp, udp, 0 to 255",
        ),
        (
            FILTER,
            '{ source = "me", destination = "any", protocol = true }',
            "rules[0].filters[1].protocol: expected a whole number, got true or false",
        ),
        (
            FILTER,
            '{ source = "me", destination = "any", protocol = "tcp", source_port = 70000 }',
            "rules[0].filters[1]: source_port: 70000 is out of range; accepted: 0 to 65535",
        ),
        (
            FILTER,
            '{ source = "me", destination = "any", mirrored = "yes" }',
            "rules[0].filters[1].mirrored: expected true or false, got text",
        ),
        (ACTION, '"allow"', "rules[0].action: 'allow' is not known; accepted: permit, block"),
        (ACTION, "5", "rules[0].action: expected a table, got a whole number"),
        (ACTION, "{ negotiate = [] }", "rules[0].action: negotiate needs at least one security method"),
        (
            ACTION,
            "{ pfs = true }",
            'rules[0].action: either negotiate = ["ESP[3DES,SHA1]", ...] or action = "permit" or "block" is needed',
        ),
        (
            ACTION,
            '{ negotiate = ["ESP[RC4,MD5]"] }',
            "rules[0].action.negotiate[0]: 'RC4' is not an algorithm here; "
            f"accepted: {', '.join(item.text for item in Confidentiality)}, NONE",
        ),
        (
            ACTION,
            '{ action = "block", pfs = true }',
            "rules[0].action: block takes no security methods and no options of negotiate",
        ),
        (
            ACTION,
            '{ negotiate = ["AH[MD5]"], pfs_group = 2 }',
            "rules[0].action: a group for PFS without PFS; set pfs to true, or leave the group out",
        ),
        (
            ACTION,
            '{ negotiate = ["AH[MD5]"], pfs = true, pfs_group = 3 }',
            "rules[0].action.pfs_group: 3 is not a Diffie-Hellman group here; "
            "accepted: 1, 2, 5, 14, 15, 16, 17, 18, 19, 20, 21",
        ),
        (
            RULE,
            'tunnel_endpoint = "gate"',
            "rules[0].tunnel_endpoint: 'gate' is not a tunnel endpoint; accepted: a.b.c.d",
        ),
        (
            RULE,
            'connection_type = "wlan"',
            "rules[0].connection_type: 'wlan' is not known; accepted: all, lan, remote_access",
        ),
        (RULE, "authentication = []", "rules[0]: a rule that negotiates needs at least one authentication method"),
        (
            RULE,
            "authentication = [{ preshared_key = 5 }]",
            "rules[0].authentication[0].preshared_key: expected text, got a whole number",
        ),
        (
            RULE,
            'authentication = [{ preshared_key = "" }]',
            "rules[0].authentication[0].preshared_key: a preshared key must not be empty",
        ),
        (RULE, "active = 1", "rules[0].active: expected true or false, got a whole number"),
        (
            TOP,
            "[[rules]]\nfilters = 'x'\naction = 'block'",
            "rules[0].filters: 'x' is not known; accepted: none is defined",
        ),
        (TOP, "[[rules]]\naction = 'block'", "rules[0]: 'filters' is missing"),
        (TOP, "[[rules]]\nfilters = []", "rules[0]: 'action' is missing"),
        (TOP, "rules = 3", "rules: expected a list, got a whole number"),
        (TOP, "rule = []", f"unknown key 'rule'; accepted: {POLICY_KEYS}"),
        (TOP, "polling_interval_seconds = 1.5", "polling_interval_seconds: expected a whole number, got float"),
        (TOP, "polling_interval_seconds = 0", "polling_interval_seconds: 0 is out of range; accepted: 1 to 4294967295"),
        (TOP, "key_exchange = { methods = [] }", "key_exchange: key exchange needs at least one method"),
        (
            TOP,
            'key_exchange = { methods = ["3DES-SHA1-6"] }',
            "key_exchange.methods[0]: 6 is not a Diffie-Hellman group here; "
            "accepted: 1, 2, 5, 14, 15, 16, 17, 18, 19, 20, 21",
        ),
        ("%s", "rules = []", "'name' is missing"),
        (TOP, "filter_lists = [{ filters = [] }]", "filter_lists[0]: a name of its own is needed to refer to it"),
        (
            TOP,
            'filter_actions = [{ name = "a", action = "block" }, { name = "a", action = "permit" }]',
            "filter_actions[1]: a name of its own is needed to refer to it",
        ),
    ],
)
def test_bad_input(template: str, text: str, message: str) -> None:
    with pytest.raises(PolicyError) as raised:
        _read(template % text)
    assert str(raised.value) == f"lab.toml: {message}"


@pytest.mark.parametrize(
    "text", ['"s3cret"', '["s3cret"]', '{ preshared_key = ["s3cret"] }', '[{ preshared_key = ["s3cret"] }]']
)
def test_a_misplaced_key_is_not_repeated(text: str) -> None:
    with pytest.raises(PolicyError) as raised:
        _read(RULE % f"authentication = {text}")
    assert "s3cret" not in str(raised.value)


KEYS = st.sampled_from([key for name, keys in vars(toml).items() if name.endswith("_KEYS") for key in keys])
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["any", "me", "10.0.0.0/24", "permit", "block", "kerberos", "ESP[3DES,SHA1]", "3DES-SHA1-2"])
)
TREES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4))


@settings(deadline=None, max_examples=300)
@given(st.dictionaries(KEYS, TREES, max_size=5), st.dictionaries(KEYS, TREES, max_size=5))
def test_any_tree_is_a_policy_or_one_line(top: dict[str, object], rule: dict[str, object]) -> None:
    for table in (top, {"name": "p", "rules": [{"filters": [], "action": "permit", **rule}]}):
        message = "x: "
        try:
            policy = policy_from_table(table, "x")
            assert policy_from_table(policy_to_table(policy), "again") == policy
        except PolicyError as error:
            message = str(error)
        assert message.startswith("x: ")
        assert "\n" not in message


@settings(deadline=None)
@given(st.text() | st.text("ESPAH[],+:/0123456789ks-D.me"))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    for parse in (Address.parse, SecurityMethod.parse, KeyExchangeMethod.parse):
        try:
            value = parse(text)
        except PolicyError:
            continue
        assert parse(str(value)) == value
