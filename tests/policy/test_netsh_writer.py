"""Policies as scripts of netsh ipsec static, and those scripts as policies again."""

from __future__ import annotations

import re
import uuid
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from itertools import count
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ipsec_core.errors import PolicyError
from ipsec_core.policy.catalogue import Catalogue
from ipsec_core.policy.methods import (
    DEFAULT_RESPONSE_METHODS,
    Confidentiality,
    DiffieHellmanGroup,
    Integrity,
    KeyExchangeMethod,
    SecurityMethod,
)
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
from ipsec_core.policy.netsh import default_response_rule, run
from ipsec_core.policy.netsh_writer import write, write_all
from ipsec_core.policy.selectors import ANY, MY, Address, Filter, FilterList

KERBEROS = AuthenticationMethod(AuthenticationKind.KERBEROS)
NEGOTIATE = FilterAction("A", FilterActionKind.NEGOTIATE, (SecurityMethod.parse("ESP[3DES,SHA1]"),))
FILTERS = FilterList("L", "", (Filter("", MY, ANY),))
HOSTS = {"srv.example": ["192.0.2.10", "192.0.2.11"], "gw.example": ["192.0.2.1"]}
BASE = "add filterlist L\nadd filter L me any\nadd filteraction A\nadd policy P\n"


def resolve(name: str) -> list[IPv4Address]:
    return [IPv4Address(text) for text in HOSTS.get(name, [])]


def numbered(*policies: Policy) -> Catalogue:
    numbers = count(1)
    return Catalogue(policies, new_guid=lambda: uuid.UUID(int=next(numbers)))


def after(script: str, catalogue: Catalogue | None = None) -> Catalogue:
    catalogue = catalogue or numbered()
    assert run(script, catalogue, "x.netsh", resolve=resolve) == []
    return catalogue


UNQUOTABLE = re.compile(r"\n|\r|\\'")

names = st.text(max_size=3) | st.sampled_from(
    ["", "a", "A", "a (2)", "rule (1)", "filter list (1)", "\u00df", "SS", '"', "'"]
)
words = st.text(min_size=1, max_size=8) | st.sampled_from(["CN=x certmap:yes", " excludecaname:no", "x ", '"', "yes"])
addresses = st.just(ANY) | st.builds(
    lambda host, length, name: Address(IPv4Network((host, length), strict=False), name),
    st.integers(0x01000000, 0xFFFFFFFF),
    st.integers(1, 32),
    st.sampled_from(["", "", "host.example"]),
)
ports = st.sampled_from([0, 1, 80, 65535])
port_filters = st.builds(
    Filter, names, addresses | st.just(MY), addresses, st.sampled_from([6, 17]), ports, ports, st.booleans()
)
other_filters = st.builds(
    Filter, names, addresses, addresses | st.just(MY), st.integers(0, 255), mirrored=st.booleans()
)
guids = st.none() | st.sampled_from([uuid.UUID(int=number) for number in range(1 << 64, (1 << 64) + 6)])
lists = st.builds(FilterList, names, names, st.lists(port_filters | other_filters, max_size=3).map(tuple), guids)
methods = st.builds(
    SecurityMethod,
    st.sampled_from([one for one in Confidentiality if not one.combined and one is not Confidentiality.NULL]),
    st.none() | st.sampled_from(Integrity),
    st.none() | st.sampled_from(Integrity),
    st.integers(1, 172_799),
    st.integers(1, 2_147_483_647),
) | st.sampled_from(
    [SecurityMethod.parse(text) for text in ("ESP[NULL,MD5]", "AH[SHA1]")]
    + [SecurityMethod(one, None, ah) for one in Confidentiality if one.combined for ah in (None, Integrity.SHA256)]
)
negotiating = st.builds(
    FilterAction,
    name=names,
    action=st.just(FilterActionKind.NEGOTIATE),
    methods=st.lists(methods, min_size=1, max_size=3).map(tuple) | st.just(DEFAULT_RESPONSE_METHODS),
    inbound_passthrough=st.booleans(),
    allow_unsecured=st.booleans(),
    pfs=st.booleans(),
    description=names,
    guid=guids,
)
negotiating |= st.builds(
    lambda action, group: replace(action, pfs=True, pfs_group=group), negotiating, st.sampled_from(DiffieHellmanGroup)
)
simple = st.builds(
    FilterAction,
    names,
    st.sampled_from([FilterActionKind.PERMIT, FilterActionKind.BLOCK]),
    description=names,
    guid=guids,
)
authentication = st.just(KERBEROS) | st.builds(
    AuthenticationMethod,
    st.sampled_from([AuthenticationKind.PRESHARED_KEY, AuthenticationKind.CERTIFICATE]),
    words,
)
some_authentication = st.lists(authentication, min_size=1, max_size=3).map(tuple)
common = {
    "name": names,
    "connection_type": st.sampled_from(ConnectionType),
    "active": st.booleans(),
    "description": names,
}
negotiating_rules = st.builds(
    Rule,
    filter_list=lists,
    filter_action=negotiating,
    authentication_methods=some_authentication,
    tunnel_endpoint=st.none() | st.ip_addresses(v=4, network="10.0.0.0/8"),
    **common,
)
simple_rules = st.builds(
    Rule,
    filter_list=lists,
    filter_action=simple,
    authentication_methods=st.just(()) | some_authentication,
    **common,
)
default_rules = st.builds(default_response_rule, st.booleans()) | st.builds(
    Rule, filter_list=st.none(), filter_action=negotiating, authentication_methods=some_authentication, **common
)
exchanges = st.just(KeyExchangeSettings()) | st.builds(
    KeyExchangeSettings,
    methods=st.lists(
        st.builds(
            KeyExchangeMethod,
            st.sampled_from([Confidentiality.DES, Confidentiality.TRIPLE_DES, Confidentiality.AES_256_CBC]),
            st.sampled_from(Integrity),
            st.sampled_from(DiffieHellmanGroup),
            st.sampled_from([0, 1, 60, 600, 0xFFFF_FFFF]),
        ),
        min_size=1,
        max_size=3,
    ).map(tuple),
    lifetime_seconds=st.sampled_from([1, 60, 61, 600, 28_800, 0xFFFF_FFFF]),
    master_key_pfs=st.booleans(),
    quick_mode_limit=st.sampled_from([0, 1, 5, 0xFFFF_FFFF]),
    soft_lifetime_seconds=st.sampled_from([0, 1, 600, 0xFFFF_FFFF]),
)


def shared(rules: list[Rule], random: Random) -> list[Rule]:
    """Some rules with the list or the action of another."""
    lists = [rule.filter_list for rule in rules if rule.filter_list]
    actions = [rule.filter_action for rule in rules]
    for index, rule in enumerate(rules):
        if rule.filter_list and random.random() < 0.3:
            rule = replace(rule, filter_list=random.choice(lists))
        action = random.choice(actions)
        if action.action is rule.filter_action.action and random.random() < 0.3:
            rule = replace(rule, filter_action=action)
        rules[index] = rule
    return rules


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    rules = draw(st.lists(negotiating_rules | simple_rules, max_size=4))
    if draw(st.booleans()):
        rules.insert(draw(st.integers(0, len(rules))), draw(default_rules))
    return Policy(
        draw(st.text(min_size=1, max_size=5)),
        draw(names),
        tuple(shared(rules, draw(st.randoms(use_true_random=False)))),
        draw(exchanges),
        draw(st.sampled_from([1, 59, 60, 61, 10_800, 0xFFFF_FFFF])),
    )


def without_guids(policy: Policy) -> Policy:
    """As they come from a file: what a catalogue then holds agrees with itself."""
    return replace(
        policy,
        rules=tuple(
            replace(
                rule,
                filter_list=rule.filter_list and replace(rule.filter_list, guid=None),
                filter_action=replace(rule.filter_action, guid=None),
            )
            for rule in policy.rules
        ),
    )


def unquotable(policy: Policy) -> bool:
    # repr shows no preshared key.
    keys = [one.value for rule in policy.rules for one in rule.authentication_methods]
    fields = [policy.name, policy.description, *keys]
    for rule in policy.rules:
        fields += [rule.name, rule.description, rule.filter_action.name, rule.filter_action.description]
        if rule.filter_list:
            fields += [rule.filter_list.name, rule.filter_list.description, *(one.name for one in rule.filters)]
    return any(map(UNQUOTABLE.search, fields))


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(policies())
def test_round_trip(policy: Policy) -> None:
    if unquotable(policy):
        with pytest.raises(PolicyError, match=r"accepted: text without them"):
            write(policy)
        return
    script = write(policy)
    again = after(script).policies
    assert again == (policy,)
    for one, two in zip(policy.rules, again[0].rules, strict=True):
        for before, behind in zip(one.filters, two.filters, strict=True):
            assert (before.source.dns_name, before.destination.dns_name) == (
                behind.source.dns_name,
                behind.destination.dns_name,
            )
    assert write(again[0]) == script


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.lists(policies(), max_size=2, unique_by=lambda policy: policy.name.casefold()), st.lists(lists, max_size=2))
def test_round_trip_of_a_store(policies: list[Policy], more: list[FilterList]) -> None:
    catalogue = numbered()
    for policy in policies:
        try:
            catalogue.add_policy(without_guids(policy))
            catalogue.assign(policy.name)
        except PolicyError:
            continue  # two lists of one name that say different things
    for one in more:
        catalogue._adopt_list(replace(one, guid=None))
    texts = [one.name + one.description + "".join(item.name for item in one.filters) for one in catalogue.filter_lists]
    if any(unquotable(policy) for policy in catalogue.policies) or any(map(UNQUOTABLE.search, texts)):
        return
    script = write_all(catalogue)
    again = after(script)
    assert again.policies == catalogue.policies
    assert again.assigned == catalogue.assigned
    for made, kept in ((again.filter_lists, catalogue.filter_lists), (again.filter_actions, catalogue.filter_actions)):
        assert {item for item in made if item.name} == {item for item in kept if item.name}


def test_what_windows_knows_is_written_in_its_words() -> None:
    """No tag of ours where netsh has words: each line is one that Server 2003 takes."""
    script = BASE + "add rule R P L A\nset defaultrule P qmsec=AH[SHA1]\nset policy P assign=yes"
    assert write_all(after(script)) == (
        "pushd ipsec static\n"
        'add filterlist name="L"\n'
        'add filter filterlist="L" srcaddr=me dstaddr=any protocol=any mirrored=yes\n'
        'add filteraction name="A" qmpfs=no inpass=no soft=no action=negotiate qmsecmethods="'
        "ESP[3DES,SHA1]:100000k/3600s "
        'ESP[3DES,MD5]:100000k/3600s ESP[DES,SHA1]:100000k/3600s ESP[DES,MD5]:100000k/3600s"\n'
        'add policy name="P" mmpfs=no qmpermm=0 mmlifetime=480 activatedefaultrule=yes pollinginterval=180 '
        'mmsecmethods="3DES-SHA1-2 3DES-MD5-2 DES-SHA1-1 DES-MD5-1"\n'
        'add rule name="R" policy="P" filterlist="L" filteraction="A" conntype=all activate=yes kerberos=yes\n'
        'set defaultrule policy="P" qmpfs=no activate=yes qmsecmethods="AH[SHA1]:100000k/3600s" kerberos=yes\n'
        'set policy name="P" assign=yes\n'
        "popd\n"
    )


def test_what_windows_does_not_know_stands_on_lines_of_its_own() -> None:
    action = FilterAction("", NEGOTIATE.action, NEGOTIATE.methods, pfs=True, pfs_group=DiffieHellmanGroup.ECP_256)
    exchange = KeyExchangeSettings((KeyExchangeMethod.parse("3DES-SHA1-14:90s"),), 61, soft_lifetime_seconds=600)
    rules = (Rule("R", FILTERS, action), Rule("R", replace(FILTERS, description="other"), action))
    lines = write(Policy("P", "", rules, exchange, 90)).splitlines()
    ours = [
        'set filteraction name="filter action (1)" qmpfsgroup=19',
        'set filteraction name="filter action (2)" qmpfsgroup=19',
        'set policy name="P" mmlifetime=61s pollinginterval=90s mmsecmethods="3DES-SHA1-3:90s" '
        "softsaexpirationtime=600s",
        'delete defaultrule policy="P"',
        'set filteraction name="filter action (1)" newname=""',
        'set filterlist name="L (2)" newname="L" unique=no',
        'set filteraction name="filter action (2)" newname=""',
        'set rule name="R (2)" policy="P" newname="R" unique=no',
    ]
    assert [line for line in lines if line in ours] == ours
    nearest = after("\n".join(line for line in lines if line not in ours)).policy("P")
    assert [rule.name for rule in nearest.rules] == ["", "R", "R (2)"]
    assert nearest.key_exchange == KeyExchangeSettings((KeyExchangeMethod.parse("3DES-SHA1-14"),), 60)


def test_text_without_quotes_names_the_object() -> None:
    key = AuthenticationMethod(AuthenticationKind.PRESHARED_KEY, "sesame\nopen")
    for policy, what in (
        (Policy("a\nb"), r"the policy 'a\nb' has a line break"),
        (Policy("P", "\\'"), "the policy 'P' has a line break or \\' (netsh's double quote) in it; accepted"),
        (Policy("P", rules=(Rule("R", FILTERS, NEGOTIATE, (key,)),)), "the policy 'P' rule 'R': a preshared key has a"),
        (Policy("P", rules=(Rule("R", replace(FILTERS, description="\r"), NEGOTIATE),)), "the filter list 'L' has"),
    ):  # fmt: skip
        with pytest.raises(PolicyError) as raised:
            write(policy)
        assert str(raised.value).startswith(what)
        assert "sesame" not in str(raised.value)


def test_many_filters() -> None:
    """One by one they would take a minute."""
    script = "\n".join(f"add filter L me 10.0.{n >> 8}.{n & 255} protocol=tcp dstport={n + 1}" for n in range(5000))
    catalogue = after(script)
    assert len(catalogue.filter_list("L").filters) == 5000
    assert len(write_all(catalogue).splitlines()) == 5003
