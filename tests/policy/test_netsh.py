"""Scripts of netsh ipsec static: what each command does, one clear line for each mistake, there and back."""

from __future__ import annotations

import uuid
from dataclasses import replace
from ipaddress import IPv4Address
from itertools import count

import pytest

from ipsec_core.errors import PolicyError
from ipsec_core.policy.catalogue import Catalogue
from ipsec_core.policy.methods import (
    DiffieHellmanGroup,
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
from ipsec_core.policy.netsh import default_response_rule, run, run_batch
from ipsec_core.policy.netsh_writer import write_all
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


def refusal(script: str, catalogue: Catalogue | None = None) -> str:
    with pytest.raises(PolicyError) as raised:
        run(script, catalogue or numbered(), "x.netsh", resolve=resolve)
    assert "\n" not in str(raised.value)
    return str(raised.value)


# What the commands do


def test_a_whole_policy() -> None:
    """The order of work of the Server 2003 documentation: list, filters, action, policy, rule, assignment."""
    catalogue = after(
        """
        # Telnet between two subnets is secured, from elsewhere it is dropped
        pushd ipsec static
        add filterlist name="Telnet inside" description="both ways"
        add filter filterlist="Telnet inside" srcaddr=10.1.0.0 srcmask=255.255.0.0 dstaddr=10.2.0.0 dstmask=16 \
protocol=TCP dstport=23 description=telnet mirrored=yes
        popd
        ipsec static
        add filterlist name="Telnet"
        add filter filterlist="Telnet" srcaddr=any dstaddr=me protocol=tcp srcport=0 dstport=23
        add filteraction name="Require" qmpfs=yes inpass=no soft=no action=negotiate \
qmsecmethods="ESP[3DES,SHA1]:50000k/1800s AH[SHA1]+ESP[DES,None]"
        add filteraction name="Drop" action=block
        add policy name="Telnet policy" description="for servers" mmpfs=no qmpermm=2 mmlifetime=120 \
activatedefaultrule=no pollinginterval=60 assign=no mmsecmethods="3DES-SHA1-2 DES-MD5-1"
        add rule name="Inside" policy="Telnet policy" filterlist="Telnet inside" filteraction="Require" \
conntype=lan activate=yes kerberos=yes rootca="C=DE,O=Example,CN=Root certmap:no excludecaname:no"
        add rule name="Elsewhere" policy="Telnet policy" filterlist="Telnet" filteraction="Drop" activate=no
        set policy name="Telnet policy" assign=yes
        exit
        this is not read
        """
    )
    inside = Filter("telnet", Address.parse("10.1.0.0/16"), Address.parse("10.2.0.0/16"), 6, 0, 23)
    methods = tuple(SecurityMethod.parse(text) for text in ("ESP[3DES,SHA1]:50000k/1800s", "AH[SHA1]+ESP[DES,NONE]"))
    certificate = AuthenticationMethod(AuthenticationKind.CERTIFICATE, "C=DE,O=Example,CN=Root")
    assert catalogue.assigned == Policy(
        "Telnet policy",
        "for servers",
        (
            default_response_rule(active=False),
            Rule(
                "Inside",
                FilterList("Telnet inside", "both ways", (inside,)),
                FilterAction("Require", FilterActionKind.NEGOTIATE, methods, pfs=True),
                (KERBEROS, certificate),
                connection_type=ConnectionType.LAN,
            ),
            Rule(
                "Elsewhere",
                FilterList("Telnet", "", (Filter("", ANY, MY, 6, 0, 23),)),
                FilterAction("Drop", FilterActionKind.BLOCK),
                active=False,
            ),
        ),
        KeyExchangeSettings(
            (KeyExchangeMethod.parse("3DES-SHA1-2"), KeyExchangeMethod.parse("DES-MD5-1")), 7200, False, 2
        ),
        3600,
    )


def test_defaults() -> None:
    catalogue = after(BASE + "add rule R P L A")
    assert catalogue.policies == (
        Policy("P", rules=(default_response_rule(), Rule("R", FILTERS, catalogue.filter_action("A")))),
    )
    assert [str(method) for method in catalogue.filter_action("A").methods] == [
        f"ESP[{name}]:100000k/3600s" for name in ("3DES,SHA1", "3DES,MD5", "DES,SHA1", "DES,MD5")
    ]
    assert catalogue.assigned is None


@pytest.mark.parametrize(
    "line",
    [
        "add policy name=Q mmpfs=yes",
        "ADD POLICY NAME=Q MMPFS=YES",
        "netsh ipsec static add policy name=Q mmpfs=yes",
        'netsh.exe -c "ipsec static" add policy name=Q mmpfs=yes',
        "ipsec static add policy name=Q mmpfs=yes",
        "\tstatic add policy Q mmpfs= yes\r",
        "add pol n=Q mmp=y",
        "netsh ips st add pol n=Q mmp=y",
        'add policy "Q" "" y',
        'add policy "Q" mmpfs = "yes"',
        "\ufeffadd policy Q mmpfs=yes",
    ],
)
def test_ways_to_write_one_command(line: str) -> None:
    policy = after(line).policy("q")
    assert policy == Policy("Q", "", (default_response_rule(),), KeyExchangeSettings(master_key_pfs=True))


def test_quotes() -> None:
    catalogue = after('add filterlist "a \\\'b\\\' = c\\" "#"\nadd filterlist n=a=b d="x"\'"y"')
    assert [(item.name, item.description) for item in catalogue.filter_lists] == [('a "b" = c\\', "#"), ("a=b", "x'y")]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("me any", Filter("", MY, ANY)),
        ("any me srcmask=0.0.0.0 dstmask=32", Filter("", ANY, MY)),
        ("0.0.0.0 me srcmask=0", Filter("", ANY, MY)),
        ("10.0.0.1 10.1.0.0 dstmask=255.255.0.0", Filter("", Address.parse("10.0.0.1"), Address.parse("10.1.0.0/16"))),
        ("10.0.0.1 any mirrored=no", Filter("", Address.parse("10.0.0.1"), ANY, mirrored=False)),
        ("me any protocol=ICMP", Filter("", MY, ANY, 1)),
        ("me any protocol=raw", Filter("", MY, ANY, 255)),
        ("me any protocol=47 description=GRE", Filter("GRE", MY, ANY, 47)),
        ("me any protocol=udp srcport=500 dstport=4500", Filter("", MY, ANY, 17, 500, 4500)),
        ("me gw.example", Filter("", MY, Address.parse("192.0.2.1"))),
        ("me gw.example dstmask=255.255.255.255", Filter("", MY, Address.parse("192.0.2.1"))),
    ],
)
def test_filters(words: str, expected: Filter) -> None:
    catalogue = after(f"add filter Fresh {words}")
    assert catalogue.filter_lists == (FilterList("Fresh", "", (expected,)),)
    after(f"delete filter fresh {words.replace(' description=GRE', '')}", catalogue)
    assert catalogue.filter_lists == (FilterList("Fresh", "", ()),)


def test_a_dns_name_stands_for_all_its_addresses_and_remains() -> None:
    script = "add filter L me srv.example\nadd filter L me 192.0.2.9 dstname=other.example"
    found = [one.destination for one in after(script).filter_list("L").filters]
    assert [str(one) for one in found] == ["192.0.2.10", "192.0.2.11", "192.0.2.9"]
    assert [one.dns_name for one in found] == ["srv.example", "srv.example", "other.example"]


def test_filters_of_an_existing_list_come_last() -> None:
    catalogue = after("add filter L me any\nadd filter M me any\nadd filter L any me\nadd filter l me any protocol=1")
    assert [one.protocol for one in catalogue.filter_list("L").filters] == [0, 0, 1]
    after("add filter {00000000-0000-0000-0000-000000000001} me any protocol=2", catalogue)
    assert [one.protocol for one in catalogue.filter_list("L").filters] == [0, 0, 1, 2]


def test_set() -> None:
    catalogue = after(BASE + "add rule R P L A psk=old\nadd filteraction B permit")
    after(
        """
        set policy P newname=Q mmlifetime=10 pollinginterval=5 activatedefaultrule=no mmsec="DES-SHA1-3" assign=y
        set filterlist L newname=M description="of m"
        set filteraction A newname=N soft=yes qmpfs=yes qmpfsgroup=14 qmsec=AH[MD5]
        set rule R policy=Q newname=S tunnel=gw.example conntype=dialup activate=no psk="a key" kerberos=y
        set filteraction B action=negotiate
        """,
        catalogue,
    )
    policy = catalogue.policy("Q")
    action = FilterAction(
        "N", FilterActionKind.NEGOTIATE, (SecurityMethod.parse("AH[MD5]"),), allow_unsecured=True, pfs=True,
        pfs_group=DiffieHellmanGroup.MODP_2048,
    )  # fmt: skip
    rule = Rule(
        "S", FilterList("M", "of m", FILTERS.filters), action,
        (AuthenticationMethod(AuthenticationKind.PRESHARED_KEY, "a key"), KERBEROS),
        IPv4Address("192.0.2.1"), ConnectionType.REMOTE_ACCESS, active=False,
    )  # fmt: skip
    exchange = KeyExchangeSettings((KeyExchangeMethod.parse("DES-SHA1-14"),), 600)
    assert policy == Policy("Q", "", (default_response_rule(False), rule), exchange, 300)
    assert catalogue.assigned is policy
    assert len(catalogue.filter_action("B").methods) == 4
    after(
        "set rule id=2 policy=Q tunnel=none newname=R\nset filteraction N qmpfs=no action=n\nset policy Q assign=no",
        catalogue,
    )
    (_, rule) = catalogue.policy("Q").rules
    assert (rule.name, rule.tunnel_endpoint, rule.filter_action.pfs_group) == ("R", None, None)
    assert catalogue.assigned is None
    after("set filteraction N action=block", catalogue)
    assert catalogue.filter_action("N") == FilterAction("N", FilterActionKind.BLOCK)


def test_the_life_of_a_soft_sa_is_in_seconds() -> None:
    catalogue = after("add policy P softsaexpirationtime=300\nadd policy Q softsaexpirationtime=300S")
    after("set policy Q softsaexpirationtime=0", after("add policy R", catalogue))
    assert [catalogue.policy(name).key_exchange.soft_lifetime_seconds for name in "PQR"] == [300, 0, 0]


def test_set_by_guid() -> None:
    catalogue = after(BASE)
    for noun, item in (
        ("policy", catalogue.policy("P")),
        ("filterlist", catalogue.filter_list("L")),
        ("filteraction", catalogue.filter_action("A")),
    ):
        after(f"set {noun} guid={{{item.guid}}} newname=renamed", catalogue)
    assert catalogue.policy("renamed").rules
    assert catalogue.filter_list("renamed").filters
    assert catalogue.filter_action("renamed").methods


def test_a_change_of_a_shared_list_is_one_of_all_rules() -> None:
    catalogue = after(BASE + "add rule R P L A\nadd rule S P L A\nset filterlist L description=d\nadd filter L any me")
    for name in "RS":
        assert catalogue.rule("P", name).filter_list == catalogue.filter_list("L")
    assert len(catalogue.filter_list("L").filters) == 2


def test_default_rule() -> None:
    catalogue = after(
        BASE + "add rule R P L A\nset defaultrule P qmpfs=y activate=n qmsec=AH[SHA1] psk=k\nadd rule S P L A"
    )
    action = FilterAction("", FilterActionKind.NEGOTIATE, (SecurityMethod.parse("AH[SHA1]"),), pfs=True)
    key = AuthenticationMethod(AuthenticationKind.PRESHARED_KEY, "k")
    policy = catalogue.policy("P")
    assert [rule.name for rule in policy.rules] == ["R", "", "S"]
    assert policy.rules[1] == Rule("", None, action, (key,), active=False)
    # A later script leaves it where it is, and knows nothing of its order.
    after("set defaultrule P qmsec=AH[MD5] soft=yes conntype=lan name=d description=e actionname=f", catalogue)
    rule = catalogue.policy("P").rules[1]
    assert (rule.name, rule.description, rule.connection_type) == ("d", "e", ConnectionType.LAN)
    assert (rule.filter_action.name, rule.filter_action.allow_unsecured, rule.filter_action.pfs) == ("f", True, True)
    after("delete defaultrule P", catalogue)
    assert [rule.name for rule in catalogue.policy("P").rules] == ["R", "S"]
    after("set policy P activatedefaultrule=yes", catalogue)
    assert catalogue.policy("P").rules[-1] == default_response_rule()


def test_set_defaultrule_leaves_an_action_of_other_rules_alone() -> None:
    action = replace(NEGOTIATE, guid=uuid.UUID(int=77))
    catalogue = numbered(Policy("P", rules=(Rule("", None, action), Rule("R", FILTERS, action))))
    after("set defaultrule P qmsec=AH[MD5]", catalogue)
    assert catalogue.rule("P", "1").filter_action == FilterAction(
        "", NEGOTIATE.action, (SecurityMethod.parse("AH[MD5]"),)
    )
    assert catalogue.rule("P", "R").filter_action == NEGOTIATE


def test_a_script_that_clears_the_way_can_run_again_and_again() -> None:
    """What is not there to be deleted is a note, and what is assigned is not any more."""
    script = "delete policy W\ndelete filterlist F\ndelete filteraction B\n" + (
        "add filter F any me protocol=udp dstport=1434\nadd filteraction B action=block\nadd policy W\n"
        "add rule R W F B\nset policy W assign=yes"
    )
    catalogue = numbered()
    missing = ["policy 'W'", "filter list 'F'", "filter action 'B'"]
    found = run(script, catalogue, "x.netsh")
    assert found == [f"x.netsh:{line}: there is no {what} to delete" for line, what in enumerate(missing, 1)]
    first = catalogue.policy("W")
    assert run(script, catalogue, "x.netsh")[0] == "x.netsh:1: the policy 'W' was assigned; no policy is now"
    assert catalogue.policies == (first,)
    assert catalogue.assigned is catalogue.policy("W")
    assert "is not a GUID" not in refusal("delete policy {66365DA2-2CE3-4729-AB4E-C8EE5E2908D9}", catalogue)


def test_delete() -> None:
    catalogue = after(
        BASE + "add rule R P L A\nadd rule S P L A\nadd policy Q\nadd filterlist M\nadd filteraction B permit"
    )
    after("delete rule R policy=P\ndelete filterlist M\ndelete filteraction name=B\ndelete policy Q", catalogue)
    assert [rule.name for rule in catalogue.policy("P").rules] == ["", "S"]
    assert [item.name for item in catalogue.filter_lists] == ["L"]
    after("delete rule all policy=P\ndelete filterlist all", catalogue)
    assert catalogue.policy("P").rules == (default_response_rule(),)
    assert catalogue.filter_lists == ()
    after("set policy P assign=yes\ndelete all", catalogue)
    assert (catalogue.policies, catalogue.filter_actions, catalogue.assigned) == ((), (), None)
    assert write_all(catalogue) == "pushd ipsec static\npopd\n"


def test_what_only_says_something_is_left_out_with_a_note() -> None:
    script = (
        BASE + 'show policy name=P level=verbose\nadd rule R P L A rootca="CN=R certmap:yes"\nset store location=local'
    )
    assert run(script, numbered(), "x.netsh") == [
        "x.netsh:5: show is left out; ipsec-core secpol show answers it",
        "x.netsh:6: certmap:yes is left out; Windows 2000 has no such option",
    ]


# What is refused


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("modify policy Q", "not a command of netsh ipsec static; accepted: add, set, delete, show, exportpolicy, imp"),
        ("delete", "delete what; accepted: policy, filterlist, filter, filteraction, rule, all, defaultrule"),
        ("add pokicy Q", "not a command of netsh ipsec static; accepted: policy, filterlist, filter, filteraction,"),
        ("ipsec dynamic add mmpolicy x", "another context of netsh; accepted: ipsec static"),
        ("pushd interface ip", "another context of netsh; accepted: ipsec static"),
        ("netsh -r other show", 'an option of netsh that is not for a script; accepted: -c "ipsec static"'),
        ("exportpolicy file=x", "exportpolicy is not for a script; accepted: ipsec-core secpol export"),
        ("importpolicy x", "importpolicy is not for a script; accepted: ipsec-core secpol import"),
        ("set store location=domain domain=d", "whoever runs a script chooses the store; accepted: location=local"),
        ('add policy "Q', 'a quote is not closed; accepted: tag="text", \\\' for a double quote in it'),
        ("add policy name=", 'no value for name=; accepted: tag=value, tag="text"'),
        ("add policy name= description=x", "no value for name=;"),
        ("add policy description=x", "add policy needs name=; accepted: name=, description=, mmpfs=, qmpermm="),
        ('add policy name=""', "add policy needs name=;"),
        ("add policy Q nam=R", "name= is given twice; accepted: each tag once but kerberos, psk, rootca"),
        ("add policy Q colour=red", "'colour' is not a tag of add policy; accepted: name=, description=, mmpfs="),
        ("add rule R P fil=L", "'fil' may be filterlist or filteraction; accepted: name=, policy=, filterlist="),
        ("add policy Q softsa=5", "'softsa' is not a tag of add policy"),
        ("add policy name=Q My policy", "a value without a tag after the others; accepted: name=, description="),
        ("add policy Q mmpfs=maybe", "mmpfs: 'maybe' is not known here; accepted: yes, no"),
        ("add policy Q qmpermm=-1", "qmpermm: '-1' is not such a number; accepted: 0 to 4294967295"),
        ("add policy Q mmlifetime=71582789", "mmlifetime: '71582789' is not such a number; accepted: 1 to 71582788"),
        ("add policy Q mmlifetime=0", "mmlifetime: '0' is not such a number; accepted: 1 to 71582788"),
        ("add policy Q pollinginterval=0", "pollinginterval: '0' is not such a number; accepted: 1 to 71582788"),
        ("add policy Q mmsec=3DES-SHA1", "mmsecmethods: '3DES-SHA1' is not a key exchange method; accepted: 3DES-SHA1"),
        ("add policy p", "there is a policy 'p' already"),
        ("set policy Q assign=yes", "there is no policy 'Q'; accepted: 'P'"),
        ("set policy P newname=\"\"", "a policy needs a name"),
        ("add filterlist l", "there is a filter list 'l' already"),
        ("add filter L me any srcmask=24", "srcaddr: 'me' with the mask '24'; accepted: no mask, or that of one"),
        ("add filter L 10.0.0.1 any srcmask=24", "srcaddr: '10.0.0.1/24' has bits set beyond its mask; the subnet is"),
        ("add filter L 10.0.0.300 any", "srcaddr: '10.0.0.300' is not an address; accepted: any, me, a.b.c.d"),
        ("add filter L ::1 any", "srcaddr: '::1' is not an address; accepted: any, me, a.b.c.d"),
        ("add filter L me DHCP", "dstaddr: 'DHCP': Windows 2000 has no filters for special servers; accepted: their"),
        ("add filter L me nobody.example", "dstaddr: the DNS name 'nobody.example' has no address; accepted: a name"),
        ("add filter L me any protocol=gre", "protocol: 'gre' is not a protocol; accepted: any, icmp, tcp, udp, 0"),
        ("add filter L me any protocol=tcp dstport=65536", "dstport: '65536' is not such a number; accepted: 0 to"),
        ("add filter L me any dstport=80", "a port needs protocol tcp or udp, not any"),
        ("add filter L me", "add filter needs dstaddr=;"),
        ("delete filter L any me", "the filter list 'L' has no such filter; accepted: all tags as it was added"),
        ("add filteraction B qmsec=ESP[RC4,MD5]", "qmsecmethods: 'RC4' is not an algorithm here; accepted: NULL, DES"),
        ('add filteraction B qmsec=" "', "negotiate needs at least one security method"),
        ("add filteraction B action=drop", "action: 'drop' is not known here; accepted: permit, block, negotiate"),
        ("add filteraction B action=block soft=yes", "block takes no security methods and no options of negotiate"),
        ("add filteraction B qmpfs=yes qmpfsgroup=6", "qmpfsgroup: 6 is not a Diffie-Hellman group here; accepted: 1"),
        ("add filteraction B qmpfsgroup=2", "a group for PFS without PFS"),
        ("add rule R P L", "add rule needs filteraction=;"),
        ("add rule R P M A", "filterlist: there is no filter list 'M'; accepted: 'L'"),
        ("add rule R P L A tunnel=10.0.0.0/8", "tunnel: '10.0.0.0/8' is not a tunnel endpoint; accepted: a.b.c.d"),
        ("add rule R P L A conntype=wan", "conntype: 'wan' is not known here; accepted: lan, dialup, all"),
        ("add rule R P L A kerberos=no", "a rule that negotiates needs at least one authentication method"),
        ('add rule R P L A psk=""', "psk: a preshared key must not be empty"),
        ('add rule R P L A rootca=" certmap:no"', "rootca: the name of a root CA must not be empty"),
        ("set rule 7 policy=P", "the policy 'P' has no rule '7'; accepted: 1 to 1, a GUID in braces"),
        ("set rule 1 policy=P activate=no", "this is the default response rule; accepted: set defaultrule"),
        ("set filterlist L newname=M unique=maybe", "unique: 'maybe' is not known here; accepted: yes, no"),
        ("delete rule 1 policy=P", "the default response rule cannot be deleted; switch it off"),
        ("set defaultrule P kerberos=no", "a rule that negotiates needs at least one authentication method"),
    ],
)  # fmt: skip
def test_refusals(line: str, message: str) -> None:
    text = refusal(BASE + line)
    assert text.startswith("x.netsh:5: ")
    assert message in text


def test_a_rule_of_that_name() -> None:
    base = BASE + "add rule R P L A\nadd rule S P L A\n"
    assert refusal(base + "add rule r P L A") == "x.netsh:7: the policy 'P' has a rule 'r' already"
    assert refusal(base + "set rule S policy=P newname=r") == "x.netsh:7: the policy 'P' has a rule 'r' already"
    assert [rule.name for rule in after(base + "set rule S P newname=R unique=no").policy("P").rules] == ["", "R", "R"]


def test_without_a_resolver_names_are_refused() -> None:
    with pytest.raises(
        PolicyError, match=r"x:1: srcaddr: the DNS name 'a' cannot be resolved here; accepted: me, any, a"
    ):
        run("add filter L a any", numbered(), "x")


def test_an_error_on_the_last_line_changes_nothing() -> None:
    catalogue = after(BASE + "add rule R P L A\nset policy P assign=yes")
    before = write_all(catalogue), catalogue.policies, catalogue.filter_lists, catalogue.filter_actions
    script = """
    add filter L any me
    set filteraction A soft=yes
    add policy Q assign=yes
    delete rule R policy=P
    delete filterlist L
    delete policy P
    add nonsense"""
    assert "x.netsh:8: " in refusal(script, catalogue)
    assert (write_all(catalogue), catalogue.policies, catalogue.filter_lists, catalogue.filter_actions) == before
    assert catalogue.assigned is catalogue.policy("P")


@pytest.mark.parametrize(
    "rest",
    [
        "psk=sesame open",
        'psk="sesame" open',
        'psk="sesame',
        "psk=open sesame=1",
        "psk=sesame psk=",
        "psk=sesame conntype=wan",
        "psk=sesame kerberos=maybe",
        "psk=sesame tunnel=none activate=perhaps",
        '"" "" "" "" "" sesame extra',
        "psk=\nsesame",
        "psk=x\nopen sesame",
    ],
)
def test_a_preshared_key_is_not_in_an_error(rest: str) -> None:
    assert "sesame" not in refusal(BASE + f"add rule R P L A {rest}")


BATCH = r"""@echo off
rem What the worm knocks at
netsh ipsec static add policy name="P" ^
    description="50%% of it" >nul
netsh.exe ipsec static add filter filterlist=L srcaddr=any dstaddr=me ^
    protocol=tcp dstport=135 1>nul 2>&1
@netsh ipsec static add filteraction name=A action=block
netsh ipsec static add rule name=R policy=P filterlist=L filteraction=A
netsh ipsec static show all
echo done
exit /b
format c:
"""


def test_a_batch_file() -> None:
    catalogue = numbered()
    notes = run_batch(BATCH.replace("\n", "\r\n"), catalogue, "x.cmd")
    assert notes == ["x.cmd:9: show is left out; ipsec-core secpol show answers it"]
    (policy,) = catalogue.policies
    assert policy.description == "50% of it"
    assert [rule.name for rule in policy.rules] == ["", "R"]
    assert catalogue.filter_list("L").filters == (Filter("", ANY, MY, 6, destination_port=135),)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("set KEY=a key", "not such a command; accepted: netsh ipsec static, rem, ::, echo, exit"),
        ("add policy Q", "not such a command; accepted: netsh ipsec static, rem, ::, echo, exit"),
        ("netsh ipsec static add policy %1", "variables are not expanded here; accepted: %% for a percent sign"),
        ("netsh ipsec static add policy Q && rem", "cmd's & is not carried out here; accepted: one program a line"),
        (
            r'netsh ipsec static add policy name="a \"Q\""',
            "a backslash before a double quote; accepted: \\' for a double",
        ),
        ("netsh ipsec static add polizei Q", "not a command of netsh ipsec static"),
    ],
)
def test_a_batch_file_is_carried_out_as_a_whole(line: str, message: str) -> None:
    catalogue = numbered()
    with pytest.raises(PolicyError) as raised:
        run_batch(f"netsh ipsec static add policy ^\nP\n{line}\n", catalogue, "x.cmd")
    assert str(raised.value).startswith(f"x.cmd:3: {message}")
    assert not catalogue.policies
