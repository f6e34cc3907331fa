"""Command lines of ipsecpol: documented examples, each option, one clear line for each mistake, batch files."""

from __future__ import annotations

import uuid
from ipaddress import IPv4Address
from itertools import count
from subprocess import list2cmdline

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipsec_core.errors import PolicyError
from ipsec_core.policy.catalogue import Catalogue
from ipsec_core.policy.cmd_lines import batch_lines, expand, split_arguments
from ipsec_core.policy.dynamic_rules import DynamicRules
from ipsec_core.policy.ipsecpol import Store, parse, run, run_file
from ipsec_core.policy.methods import DiffieHellmanGroup, KeyExchangeMethod, SecurityMethod
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
from ipsec_core.policy.netsh import default_response_rule
from ipsec_core.policy.netsh_writer import write_all
from ipsec_core.policy.selectors import ANY, MY, Address, Filter, FilterList

KERBEROS = AuthenticationMethod(AuthenticationKind.KERBEROS)
HOSTS = {"srv": ["192.0.2.10", "192.0.2.11"]}
# KB 813878 has this command in its section for Windows 2000.
SLAMMER = 'ipsecpol -w REG -p "Block UDP 1434 Filter" -r "Block Inbound UDP 1434 Rule" -f *=0:1434:UDP -n BLOCK -x'
NEW = "-w REG -p P -r R "


def resolve(name: str) -> list[IPv4Address]:
    return [IPv4Address(text) for text in HOSTS.get(name, [])]


def numbered(*policies: Policy) -> Catalogue:
    numbers = count(1)
    return Catalogue(policies, new_guid=lambda: uuid.UUID(int=next(numbers)))


def after(*lines: str, catalogue: Catalogue | None = None) -> Catalogue:
    catalogue = catalogue or numbered()
    for line in lines:
        assert run(line, catalogue, "x", resolve=resolve) is None
    return catalogue


def dynamic(line: str) -> DynamicRules:
    catalogue = numbered()
    rules = run(line, catalogue, "x", resolve=resolve)
    assert rules is not None
    assert catalogue.policies == catalogue.filter_lists == ()
    return rules


def refusal(line: str, catalogue: Catalogue | None = None) -> str:
    with pytest.raises(PolicyError) as raised:
        run(line, catalogue or numbered(), "x", resolve=resolve)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def esp(*texts: str) -> tuple[SecurityMethod, ...]:
    return tuple(SecurityMethod.parse(text) for text in texts)


# Static mode


def test_the_example_of_kb_813878() -> None:
    catalogue = after(SLAMMER)
    rule = Rule(
        "Block Inbound UDP 1434 Rule",
        FilterList("Block Inbound UDP 1434 Rule filter list", "", (Filter("", ANY, MY, 17, 0, 1434, False),)),
        FilterAction("Block Inbound UDP 1434 Rule filter action", FilterActionKind.BLOCK),
    )
    assert catalogue.policies == (Policy("Block UDP 1434 Filter", rules=(rule,)),)
    assert catalogue.assigned is catalogue.policies[0]
    after('ipsecpol -w REG -p "Block UDP 1434 Filter" -y', catalogue=catalogue)
    assert catalogue.assigned is None
    after(
        'ipsecpol -w REG -p "Block UDP 1434 Filter" -r "Block Inbound UDP 1434 Rule" -o',
        catalogue=catalogue,
    )
    assert (catalogue.policies, catalogue.filter_lists, catalogue.filter_actions) == ((), (), ())


def test_all_options() -> None:
    catalogue = after(
        "IPSECCMD.EXE -W reg -p Net:15 -r Inside -f 10.1.*+10.2.0.0/255.255.0.0:80:TCP 0:500=srv:500:17 -t 192.0.2.1 "
        '-n ESP[3DES,SHA]3600S/50000KPFS2 "AH[MD5]+ESP[DES,NONE]PFS2" -a PRESHARE:"a \\"key\\"" C:"CN=Root CA" Kerb '
        "-1s 3DES-SHA-3 DES-MD5-1 -1k 10Q/3600S -1e 600 -1p -soft -lan -confirm"
    )
    filters = (
        Filter("", Address.parse("10.1.0.0/16"), Address.parse("10.2.0.0/16"), 6, 0, 80, True),
        Filter("", MY, Address.parse("192.0.2.10"), 17, 500, 500, False),
        Filter("", MY, Address.parse("192.0.2.11"), 17, 500, 500, False),
    )
    action = FilterAction(
        "Inside filter action", FilterActionKind.NEGOTIATE, esp("ESP[3DES,SHA1]:50000k/3600s", "AH[MD5]+ESP[DES,NONE]"),
        allow_unsecured=True, pfs=True, pfs_group=DiffieHellmanGroup.MODP_1024,
    )  # fmt: skip
    authentication = (
        AuthenticationMethod(AuthenticationKind.PRESHARED_KEY, 'a "key"'),
        AuthenticationMethod(AuthenticationKind.CERTIFICATE, "CN=Root CA"),
        KERBEROS,
    )
    rule = Rule(
        "Inside", FilterList("Inside filter list", "", filters), action, authentication, IPv4Address("192.0.2.1"),
        ConnectionType.LAN,
    )  # fmt: skip
    methods = (KeyExchangeMethod.parse("3DES-SHA1-14"), KeyExchangeMethod.parse("DES-MD5-1"))
    exchange = KeyExchangeSettings(methods, 3600, True, 10, 600)
    assert catalogue.policies == (Policy("Net", "", (rule,), exchange, 900),)


def test_defaults() -> None:
    rule = after(NEW + "-f 0+*").rule("P", "R")
    methods = esp("ESP[3DES,SHA1]", "ESP[3DES,MD5]", "ESP[DES,SHA1]", "ESP[DES,MD5]")
    assert rule.filter_action == FilterAction("R filter action", FilterActionKind.NEGOTIATE, methods)
    assert (rule.authentication_methods, rule.tunnel_endpoint, rule.active) == ((KERBEROS,), None, True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0=*", Filter("", MY, ANY, mirrored=False)),
        ("0+*", Filter("", MY, ANY)),
        ("*=0:1434:UDP", Filter("", ANY, MY, 17, 0, 1434, False)),
        ("10.0.0.1+10.0.0.2::6", Filter("", Address.parse("10.0.0.1"), Address.parse("10.0.0.2"), 6)),
        ("10.0.0.1:80=0", None),
        ("10.0.0.1:80=0::tcp", Filter("", Address.parse("10.0.0.1"), MY, 6, 80, 0, False)),
        ("0+10.0.0.0/255.0.0.0::ICMP", Filter("", MY, Address.parse("10.0.0.0/8"), 1)),
        ("0+10.*::raw", Filter("", MY, Address.parse("10.0.0.0/8"), 255)),
        ("0+10.*.*.*", Filter("", MY, Address.parse("10.0.0.0/8"))),
        ("0+10.1.*.*", Filter("", MY, Address.parse("10.1.0.0/16"))),
        ("0+10.1.2.*:*:*", Filter("", MY, Address.parse("10.1.2.0/24"))),
    ],
)
def test_filters(text: str, expected: Filter | None) -> None:
    if expected is None:
        assert "a port needs protocol tcp or udp" in refusal(NEW + f"-f {text}")
    else:
        assert after(NEW + f"-f {text}").rule("P", "R").filters == (expected,)


@pytest.mark.parametrize(
    ("options", "action"),
    [
        ("-n BLOCK ESP[3DES,SHA]", FilterAction("", FilterActionKind.BLOCK)),
        ("-n pass", FilterAction("", FilterActionKind.PERMIT)),
        ("-n AH[SHA]", FilterAction("", FilterActionKind.NEGOTIATE, esp("AH[SHA1]"))),
        ("-n AH[SHA]600S", FilterAction("", FilterActionKind.NEGOTIATE, esp("AH[SHA1]:100000k/600s"))),
        ("-n esp[none,md5]5000k/60s", FilterAction("", FilterActionKind.NEGOTIATE, esp("ESP[NULL,MD5]:5000k/60s"))),
        ("-n ESP[DES,MD5]P", FilterAction("", FilterActionKind.NEGOTIATE, esp("ESP[DES,MD5]"), pfs=True)),
        ("-n INPASS AH[MD5]", FilterAction("", FilterActionKind.NEGOTIATE, esp("AH[MD5]"), inbound_passthrough=True)),
        ("-n AH[MD5] -soft", FilterAction("", FilterActionKind.NEGOTIATE, esp("AH[MD5]"), allow_unsecured=True)),
    ],
)
def test_negotiation(options: str, action: FilterAction) -> None:
    (rule,) = dynamic(f"-f 0+* {options}").rules
    assert rule.filter_action == action


def test_parentheses_and_brackets_are_rules_of_their_own() -> None:
    catalogue = after(NEW + "-f [*=0:23:6] 0+10.* (0+10.0.0.1) [*=0:25:6] -a K -t 192.0.2.1")
    rules = catalogue.policy("P").rules
    assert [(rule.name, rule.filter_action.action.text, len(rule.filters)) for rule in rules] == [
        ("R", "negotiate", 1),
        ("R (permit)", "permit", 1),
        ("R (block)", "block", 2),
    ]
    assert [rule.tunnel_endpoint is None for rule in rules] == [False, True, True]
    (rule,) = after(NEW + "-f [*=0:23:6]").policy("P").rules
    assert (rule.name, rule.filter_action.action) == ("R", FilterActionKind.BLOCK)


def test_the_default_response_rule() -> None:
    rules = after(NEW + "-f 0+10.*", "-w REG -p P -r D -f DEFAULT -n AH[MD5] -a P:k").policy("P").rules
    key = AuthenticationMethod(AuthenticationKind.PRESHARED_KEY, "k")
    assert rules[1:] == (Rule("D", None, FilterAction("", FilterActionKind.NEGOTIATE, esp("AH[MD5]")), (key,)),)
    catalogue = after("-w REG -p P -r D -f default", catalogue=numbered(Policy("P", rules=(default_response_rule(),))))
    assert [rule.name for rule in catalogue.policy("P").rules] == ["D"]


def test_what_is_given_changes_in_a_rule_that_there_is() -> None:
    catalogue = after(NEW + "-f 0+10.* -n AH[MD5] -a P:k -lan", NEW + "-f 0+192.0.2.1", "-w REG -p P:5 -r r -soft")
    policy = catalogue.policy("P")
    (rule,) = policy.rules
    assert rule.filters == (Filter("", MY, Address.parse("192.0.2.1")),)
    assert rule.filter_action == FilterAction(
        "R filter action", FilterActionKind.NEGOTIATE, esp("AH[MD5]"), allow_unsecured=True
    )
    assert (rule.connection_type, rule.authentication_methods[0].value) == (ConnectionType.LAN, "k")
    assert (policy.polling_interval_seconds, catalogue.filter_lists) == (300, (rule.filter_list,))
    after(NEW + "-n BLOCK -a K -dialup", catalogue=catalogue)
    (rule,) = catalogue.policy("P").rules
    assert rule.filter_action == FilterAction("R filter action", FilterActionKind.BLOCK)
    assert (rule.connection_type, rule.authentication_methods) == (ConnectionType.REMOTE_ACCESS, (KERBEROS,))
    assert catalogue.filter_actions == (rule.filter_action,)


def test_what_others_use_remains() -> None:
    filters = FilterList("All IP Traffic", "", (Filter("", MY, ANY),), uuid.UUID(int=99))
    action = FilterAction("Permit", FilterActionKind.PERMIT, guid=uuid.UUID(int=98))
    catalogue = numbered(*(Policy(name, rules=(Rule("R", filters, action),)) for name in "PQ"))
    after(NEW + "-f 0+10.* -n BLOCK", catalogue=catalogue)
    assert catalogue.rule("Q", "R") == Rule("R", filters, action)
    assert catalogue.rule("P", "R").filter_list == FilterList(
        "R filter list", "", (Filter("", MY, Address.parse("10.0.0.0/8")),)
    )
    assert catalogue.rule("P", "R").filter_action == FilterAction("R filter action", FilterActionKind.BLOCK)
    after("-w REG -p P -o", catalogue=catalogue)
    assert (catalogue.filter_lists, catalogue.filter_actions) == ((filters,), (action,))


def test_rules_of_one_name_in_two_policies() -> None:
    catalogue = after(NEW + "-f 0+*", "-w REG -p Q -r R -f *=0 -n BLOCK")
    assert [item.name for item in catalogue.filter_lists] == ["R filter list", "R filter list (2)"]
    assert [item.name for item in catalogue.filter_actions] == ["R filter action", "R filter action (2)"]


def test_settings_without_a_rule() -> None:
    catalogue = after("-w REG -p P:30 -1p", "-w REG -p Q", "-w REG -p Q -x", "-w REG -y")
    assert catalogue.policies == (Policy("P", "", (), KeyExchangeSettings(master_key_pfs=True), 1800), Policy("Q"))
    assert catalogue.assigned is None
    after("-w REG -p P -x", "-w REG -p Q -y", catalogue=catalogue)
    assert catalogue.assigned == catalogue.policy("P")
    after("-w REG -p P -y -o", catalogue=catalogue)
    assert [policy.name for policy in catalogue.policies] == ["Q"]


def test_a_list_of_arguments_needs_no_quotes() -> None:
    catalogue = numbered()
    run(["-w", "REG", "-p", "My policy", "-r", "R", "-f", "0+*", "-a", 'P:a "b" \\'], catalogue, "x")
    assert catalogue.rule("My policy", "R").authentication_methods[0].value == 'a "b" \\'


def test_the_caller_finds_the_store() -> None:
    line = parse("ipsecpol \\\\SRV1 -w DS:example.com -p P -x")
    assert (line.computer, line.store, line.domain, line.policy) == ("SRV1", Store.DIRECTORY, "example.com", "P")
    catalogue = numbered(Policy("P"))
    assert run("-w DS -p P -x", catalogue, "x", store=Store.DIRECTORY) is None
    assert catalogue.assigned is catalogue.policy("P")


# Dynamic mode


def test_dynamic_rules() -> None:
    found = dynamic("ipsecpol -f 0+srv [*=0:1434:UDP] -n AH[SHA] -a P:k -1k 5Q")
    key = (AuthenticationMethod(AuthenticationKind.PRESHARED_KEY, "k"),)
    secured = FilterAction("", FilterActionKind.NEGOTIATE, esp("AH[SHA1]"))
    assert found == DynamicRules(
        (
            # Of a DNS name the first address alone.
            Rule("", FilterList("", "", (Filter("", MY, Address.parse("192.0.2.10")),)), secured, key),
            Rule(
                "",
                FilterList("", "", (Filter("", ANY, MY, 17, 0, 1434, False),)),
                FilterAction("", FilterActionKind.BLOCK),
                key,
            ),
        ),
        KeyExchangeSettings(quick_mode_limit=5),
    )
    assert "'k'" not in repr(found)


def test_dynamic_rules_stand_beside_a_policy() -> None:
    block = FilterAction("", FilterActionKind.BLOCK)
    base = Policy("P", rules=(default_response_rule(), Rule("R", FilterList("L", "", ()), block)))
    more = dynamic("-f 0+* -u")
    assert more.delete
    assert more.added_to(base) == Policy("P", rules=(*base.rules, *more.rules))
    assert more.added_to(Policy("none")).rules == more.rules
    default = dynamic("-f DEFAULT -n AH[MD5] -1p")
    changed = default.added_to(base)
    assert changed.rules == (base.rules[1], *default.rules)
    assert changed.key_exchange.master_key_pfs
    assert dynamic("ipseccmd -u") == DynamicRules(delete=True)


# What is refused


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("-q", "argument 1: '-q' is not an option; accepted: -f, -n, -a, -1s, -t, -1k, -1e, -w, -p, -r, -1p, -soft"),
        ("ipsecpol show all", "argument 1: a value of no option; accepted: -f, -n"),
        ("-f 0+* -1f x", "argument 3: '-1f' is not an option;"),
        ("-w REG -p A B -x", "argument 5: a value of no option; accepted: -f"),
        ("-w REG -p P -x y", "argument 6: a value of no option"),
        ("-w REG -w REG", "argument 3: -w is given twice; accepted: each option once"),
        ("-w REG -p -x", "-p has no value; accepted: a name, name:minutes"),
        ("-f", "-f has no value; accepted: A.B.C.D/mask:port=A.B.C.D/mask:port:protocol, + for mirrored, 0 for me"),
        ("-w REG -x", "static mode needs the name of the policy; accepted: -p NAME"),
        ("-w REG", "static mode needs the name of the policy; accepted: -p NAME"),
        ("-w PERS -p P", "argument 2 (-w): 'PERS' is not a store; accepted: REG, DS, DS:domain"),
        ("-w DS: -p P", "argument 2 (-w): 'DS:' is not a store; accepted: REG, DS, DS:domain"),
        ("-w DS:d -p P", "-w DS:d: these are the policies of another store; accepted: -w REG"),
        ("\\\\SRV -w REG -p P", "another computer's policies are not reached from here; accepted: no computer name"),
        ("-w REG -p P -f 0+*", "a rule needs a name; accepted: -r NAME"),
        (NEW + "-n BLOCK", "the policy 'P' has no rule 'R' yet; accepted: -f with its filters"),
        ("-w REG -p P -x", "there is no policy 'P'; accepted: there is none"),
        ("-w REG -p P -x -y", "-x and -y exclude each other; accepted: one of them"),
        (NEW + "-f 0+* -o", "-o deletes the policy; accepted: -w, -p, -r, -y beside it"),
        ("-w REG -p P -u", "-u deletes dynamic rules; accepted: without -w"),
        ("-p P -f 0+*", "-p is for a policy that is stored; accepted: with -w REG, -w DS"),
        ("-n BLOCK", "dynamic mode needs filters; accepted: -f, -u, or static mode with -w"),
        ("-w REG -p P:99999999999", "argument 4 (-p): '99999999999' is not such a number; accepted: 1 to 71582788"),
        ("-w REG -p P:0", "argument 4 (-p): '0' is not such a number; accepted: 1 to 71582788"),
        ("-f 0+* 0", "argument 3 (-f): '0' is not a filter; accepted: A.B.C.D/mask:port=A.B.C.D/mask:port:protocol"),
        ("-f 0+", "argument 2 (-f): '0+' is not a filter"),
        ("-f 0:1:2+*", "argument 2 (-f): '0:1:2+*' is not a filter"),
        ("-f 0+*:1:6:7", "argument 2 (-f): '0+*:1:6:7' is not a filter"),
        ("-f 0+*:65536:6", "argument 2 (-f): '65536' is not such a number; accepted: 0 to 65535"),
        ("-f 0+*::gre", "argument 2 (-f): 'gre' is not a protocol; accepted: any, icmp, tcp, udp, 0 to 255"),
        ("-f 0+300.*", "argument 2 (-f): '300.0.0.0/8' is not an address"),
        ("-f 0+0", "argument 2 (-f): source and destination cannot both be me"),
        ("-f 0+nobody", "argument 2 (-f): the DNS name 'nobody' has no address; accepted: a name that DNS knows"),
        ("-f (DEFAULT)", "argument 2 (-f): '(DEFAULT)': the default response rule negotiates; accepted: DEFAULT"),
        ("-f DEFAULT 0+*", "-f: DEFAULT is a rule of its own; accepted: DEFAULT alone"),
        ("-f DEFAULT -n BLOCK", "the default response rule negotiates"),
        ("-f 0+* -n ESP", "argument 4 (-n): 'ESP' is not a security method; accepted: BLOCK, PASS, INPASS, ESP[3DES"),
        ("-f 0+* -n ESP[3DES,SHA]5Q", "argument 4 (-n): 'ESP[3DES,SHA]5Q' is not a security method"),
        ("-f 0+* -n ESP[3DES,SHA]5K/6K", "argument 4 (-n): 'ESP[3DES,SHA]5K/6K' has two limits of one kind"),
        ("-f 0+* -n ESP[NONE,NONE]", "argument 4 (-n): ESP needs encryption or integrity"),
        ("-f 0+* -n ESP[RC5,SHA]", "argument 4 (-n): 'RC5' is not an algorithm here; accepted: NULL, DES, 3DES"),
        ("-f 0+* -n AH[MD5]P9", "argument 4 (-n): 9 is not a Diffie-Hellman group here; accepted: 1, 2, 5"),
        ("-f 0+* -n AH[MD5]P AH[SHA]", "-n: methods with different PFS; accepted: the same PFS behind each method"),
        ("-f 0+* -a PSK:x", "argument 4 (-a): not an authentication method; accepted: KERBEROS, PRESHARE:"),
        ("-f 0+* -a P:", "argument 4 (-a): a preshared key must not be empty"),
        ("-f 0+* -1s 3DES-SHA", "argument 4 (-1s): '3DES-SHA' is not a key exchange method"),
        ("-f 0+* -1k 5", "argument 4 (-1k): '5' is not a limit of Main Mode; accepted: 10Q, 3600S, 10Q/3600S"),
        ("-f 0+* -1k 5Q/6Q", "argument 4 (-1k): '5Q/6Q' is not a limit of Main Mode"),
        ("-f 0+* -1k 0S", "argument 4 (-1k): '0' is not such a number; accepted: 1 to 4294967295"),
        ("-f 0+* -t 10.0.0.0/8", "argument 4 (-t): '10.0.0.0/8' is not a tunnel endpoint; accepted: a.b.c.d, a DNS"),
        ("-f 0+* -t 10.0.0.1 -n PASS", "a tunnel needs the action negotiate, not permit"),
        ('-p "P', 'a quote is not closed; accepted: "text", \\" for a double quote in it'),
        ("", "dynamic mode needs filters"),
    ],
)
def test_refusals(line: str, message: str) -> None:
    assert refusal(line).startswith(f"x: {message}")


def test_an_error_changes_nothing() -> None:
    catalogue = after(SLAMMER)
    before = write_all(catalogue)
    for line in (NEW + "-f 0+* -t 192.0.2.1 -n BLOCK", NEW + "-f 0+* [0=*] -n AH[MD5]P9", "-w REG -p P -x"):
        refusal(line, catalogue)
        assert write_all(catalogue) == before
    assert "is assigned; un-assign it first" in refusal('-w REG -p "Block UDP 1434 Filter" -o', catalogue)


@pytest.mark.parametrize(
    "rest",
    [
        "PRESHARE:open sesame",
        'PRESHARE:"sesame',
        "PRESHAR-sesame",
        "P:open -sesame",
        "P:sesame -n NOTHING",
        "P:sesame -t nobody",
        "K:sesame",
    ],
)
def test_a_preshared_key_is_not_in_an_error(rest: str) -> None:
    assert "sesame" not in refusal(NEW + f"-f 0+* -a {rest}")


# Windows' command lines


@given(st.lists(st.text('ab \t\\"\n\u00fc', max_size=6)))
def test_arguments_are_those_that_python_quotes_for_windows(arguments: list[str]) -> None:
    assert split_arguments(list2cmdline(arguments)) == arguments


@pytest.mark.parametrize(
    ("line", "arguments"),
    [
        ("", []),
        (" \t", []),
        ('"a b"c d', ["a bc", "d"]),
        ('a "" b', ["a", "", "b"]),
        ('"a""b"', ['a"b']),
        ("C:\\x\\y.exe \\\\srv", ["C:\\x\\y.exe", "\\\\srv"]),
        ('a\\\\"b c"', ["a\\b c"]),
        ('a\\\\\\"b', ['a\\"b']),
    ],
)
def test_arguments(line: str, arguments: list[str]) -> None:
    assert split_arguments(line) == arguments


BATCH = """@echo off\r
rem ipsecpol -w REG -p "never"\r
:: ipsecpol %nothing%\r
setlocal\r
"C:\\Program Files\\ipsecpol.exe" -w REG -p "50%% ^ up" -r R ^\r
   -f 0+10.* -n AH[MD5] ^\r
   -a P:a^&b >nul 2>&1\r
\r
@ipsecpol -f [*=0:1434:UDP]\r
ipsecpol -w REG -p "50%% ^ up" -x\r
pause\r
exit /b 0\r
format c:\r
"""


def test_a_batch_file() -> None:
    catalogue = numbered()
    (found,) = run_file(BATCH, catalogue, "x.cmd")
    policy = catalogue.policy("50% ^ up")
    assert policy.rules[0].authentication_methods[0].value == "a&b"
    assert policy.rules[0].filter_action.methods == esp("AH[MD5]")
    assert catalogue.assigned is policy
    assert found.rules[0].filter_action.action is FilterActionKind.BLOCK


def test_lines_of_a_batch_file() -> None:
    assert list(batch_lines("\ufeffa ^\nb\n\nrem ^\nc^^\nd \"^\ne\n:label\nf ^")) == [
        (1, "a b"), (5, "c^^"), (6, 'd "^'), (7, "e"), (9, "f ^"),
    ]  # fmt: skip
    assert [expand(line) for line in ("a ^^ ^| \"^|\" %%", "a >nul b 1>>NUL", "x2>nul", "a ^")] == [
        'a ^ | "^|" %', "a  b ", "x2", "a ",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("net stop policyagent", "not such a command; accepted: ipsecpol, ipseccmd, rem, ::, echo, exit"),
        ("ipsecpol -f 0+%1", "variables are not expanded here; accepted: %% for a percent sign"),
        ("ipsecpol -f 0+* | more", "cmd's | is not carried out here; accepted: one program a line, ^| for itself"),
        ("ipsecpol -f 0+* > log.txt", "cmd's > is not carried out here"),
        ("ipsecpol -f 0+* && echo", "cmd's & is not carried out here"),
        ("ipsecpol -p P", "-p is for a policy that is stored"),
    ],
)
def test_refusals_in_a_batch_file(line: str, message: str) -> None:
    catalogue = numbered()
    with pytest.raises(PolicyError) as raised:
        run_file(f"{SLAMMER}\n{NEW.replace('-w', 'ipsecpol -w')} -f ^\n 0+*\n{line}", catalogue, "x.cmd")
    assert str(raised.value).startswith(f"x.cmd:4: {message}")
    assert catalogue.policies == catalogue.filter_lists == ()
