"""secpol: the life of a policy on a computer, what it shows, and that what is wrong changes nothing."""

from __future__ import annotations

import json
import os
import pty
import shutil
import socket
import subprocess
from collections.abc import Callable
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from click.testing import Result
from secpol_kit import KEY, Secpol, catalogue_of, objects_of, run

from ipsec_core.computer.state import State
from ipsec_core.policy.builtin import BUILTIN_NAMES, builtin_objects
from ipsec_core.policy.methods import KeyExchangeMethod, SecurityMethod
from ipsec_core.policy.model import AuthenticationKind, ConnectionType, FilterActionKind
from ipsec_core.policy.objects import Changes, ObjectClass, ObjectName
from ipsec_core.policy.registry_store import RegistryStore
from ipsec_core.policy.selectors import ANY, MY, Filter

CLIENT, SERVER, SECURE = BUILTIN_NAMES
Refuse = Callable[..., str]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "ALICE"


@pytest.fixture
def secpol(home: Path) -> Secpol:
    """A command on ALICE that must succeed."""

    def call(*words: object, stdin: str | None = None, columns: int = 100) -> Result:
        result = run("--state", home, *words, stdin=stdin, columns=columns)
        assert result.exit_code == 0, result.output
        return result

    return call


@pytest.fixture
def refuse(home: Path) -> Refuse:
    """A command on ALICE that must be refused with one line, and change nothing; the line."""

    def call(*words: object, stdin: str | None = None) -> str:
        before = objects_of(home) if home.exists() else None
        result = run("--state", home, *words, stdin=stdin)
        assert result.exit_code == 2, result.output
        assert result.stdout == ""
        assert result.stderr.count("\n") == 1
        assert (objects_of(home) if home.exists() else None) == before
        return result.stderr.strip()

    return call


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy of its own beside the built-in ones, with a rule for L2TP."""
    folder = tmp_path_factory.mktemp("template")
    home, key = folder / "ALICE", folder / "key"
    key.write_text(KEY + "\n")
    for words in (
        ["create", "policy", "Lab", "--description", "For tests"],
        ["create", "filterlist", "L2TP"],
        ["create", "filter", "L2TP", "--from", "me", "--to", "any", "--protocol", "udp", "--to-port", "1701"],
        ["create", "filteraction", "Strong", "--method", "ESP[3DES,SHA1]:100000k/900s"],
        ["create", "rule", "Lab", "L2TP", "--filterlist", "L2TP", "--filteraction", "Strong", "--psk-file", key],
    ):
        assert run("--state", home, *words).exit_code == 0
    return home


@pytest.fixture
def lab(template: Path, home: Path) -> None:
    """ALICE is like the template."""
    shutil.copytree(template, home)


# ---- the life of a policy -------------------------------------------------------------------------------------------


def test_the_first_change_makes_the_state_directory(home: Path, secpol: Secpol) -> None:
    assert secpol("create", "policy", "Lab").stdout == "The policy 'Lab' is created.\n"
    catalogue = catalogue_of(home)
    assert {policy.name for policy in catalogue.policies} == {*BUILTIN_NAMES, "Lab"}
    assert catalogue.assigned is None
    with State.open(home) as state:
        assert state.name == socket.gethostname()


def test_the_current_folder_if_it_is_a_computers(home: Path, secpol: Secpol, monkeypatch: pytest.MonkeyPatch) -> None:
    secpol("create", "policy", "Lab")
    monkeypatch.chdir(home)
    assert run("assign", "Lab").exit_code == 0
    assert "Lab" in run("show").stdout


def test_a_refused_first_change_leaves_no_directory(home: Path, refuse: Refuse) -> None:
    refuse("assign", "nothing")
    assert not home.exists()
    assert list(home.parent.iterdir()) == []


def test_a_computer_that_never_had_a_policy_has_the_built_in_ones(home: Path, secpol: Secpol) -> None:
    State.create(home, "ALICE").close()
    listed = json.loads(secpol("list", "--json").stdout)
    assert [policy["name"] for policy in listed["policies"]] == sorted(BUILTIN_NAMES)
    assert not any(policy["assigned"] for policy in listed["policies"])
    assert objects_of(home) == ()  # looking writes nothing
    secpol("assign", SECURE.upper())
    assert catalogue_of(home).assigned.name == SECURE  # type: ignore[union-attr]
    with State.open(home) as state:
        assert state.name == "ALICE"


@pytest.mark.usefixtures("lab")
def test_what_was_created(home: Path) -> None:
    policy = catalogue_of(home).policy("lab")
    assert (policy.description, policy.polling_interval_seconds) == ("For tests", 10_800)
    default, rule = policy.rules
    assert default.filter_list is None
    assert default.active
    assert rule.filters == (Filter("", MY, ANY, 17, 0, 1701, True),)
    assert rule.filter_action.methods == (SecurityMethod.parse("ESP[3DES,SHA1]:100000k/900s"),)
    (method,) = rule.authentication_methods
    assert (method.kind, method.value) == (AuthenticationKind.PRESHARED_KEY, KEY)


def test_all_that_a_policy_can_be_given(home: Path, secpol: Secpol) -> None:
    secpol(
        *("create", "policy", "P", "--poll", 5, "--pfs", "--sessions", 7, "--lifetime", 60, "--no-default-response"),
        *("--method", "3DES-SHA1-2", "--method", "DES-MD5-1 AES-128-SHA256-14", "--soft-lifetime", 90, "--assign"),
    )
    catalogue = catalogue_of(home)
    policy = catalogue.policy("P")
    exchange = policy.key_exchange
    assert policy is catalogue.assigned
    assert policy.polling_interval_seconds == 300
    assert policy.default_response is None
    assert exchange.methods == tuple(map(KeyExchangeMethod.parse, ("3DES-SHA1-2", "DES-MD5-1", "AES-128-SHA256-14")))
    assert (exchange.lifetime_seconds, exchange.quick_mode_limit, exchange.soft_lifetime_seconds) == (3600, 7, 90)
    assert exchange.master_key_pfs


@pytest.mark.parametrize(
    ("ours", "netsh"),
    [
        ("--poll 7", "--pollinginterval 7"),
        ("--method DES-MD5-1", "--mmsecmethods DES-MD5-1"),
        ("--lifetime 7", "--mmlifetime 7"),
        ("--sessions 3", "--qmpermm 3"),
        ("--pfs", "--mmpfs"),
        ("--no-default-response", "--no-activatedefaultrule"),
        ("--soft-lifetime 9", "--softsaexpirationtime 9"),
    ],
)
def test_the_words_of_netsh_mean_the_same(home: Path, secpol: Secpol, ours: str, netsh: str) -> None:
    secpol("create", "policy", "P", *ours.split())
    secpol("create", "policy", "N", *netsh.split())
    secpol("create", "policy", "plain")
    first, second, plain = (catalogue_of(home).policy(name) for name in ("P", "N", "plain"))
    assert (first.key_exchange, first.rules, first.polling_interval_seconds) == (
        second.key_exchange,
        second.rules,
        second.polling_interval_seconds,
    )
    assert (first.key_exchange, first.rules, first.polling_interval_seconds) != (
        plain.key_exchange,
        plain.rules,
        plain.polling_interval_seconds,
    )


@pytest.mark.usefixtures("lab")
def test_editing(home: Path, secpol: Secpol) -> None:
    before = catalogue_of(home).policy("Lab")
    secpol("edit", "policy", "lab", "--name", "Lab 2", "--no-default-response", "--poll", 1)
    secpol("edit", "filterlist", "L2TP", "--name", "Tunnels", "--description", "UDP 1701")
    secpol("edit", "filter", "tunnels", 1, "--to", "10.0.0.0/8", "--not-mirrored", "--name", "ten")
    secpol("edit", "filter", "tunnels", "ten", "--from-port", 1701)
    secpol("edit", "filteraction", "strong", "--qmsecmethods", "AH[SHA1] AH[MD5]", "--soft", "--qmpfs", "--inpass")
    secpol("edit", "rule", "lab 2", "l2tp", "--name", "R", "--connection", "dialup", "--inactive", "--description", "d")
    secpol("edit", "rule", "lab 2", "default", "--auth", "certificate:CN=Root, O=Lab", "--auth", "kerberos")
    catalogue = catalogue_of(home)
    policy = catalogue.policy("Lab 2")
    assert policy.guid == before.guid
    assert policy.key_exchange.guid == before.key_exchange.guid
    assert [rule.guid for rule in policy.rules] == [rule.guid for rule in before.rules]
    assert policy.description == "For tests"
    assert policy.polling_interval_seconds == 60
    default, rule = policy.rules
    assert not default.active
    assert [method.value for method in default.authentication_methods] == ["CN=Root, O=Lab", ""]
    assert (rule.name, rule.connection_type, rule.active) == ("R", ConnectionType.REMOTE_ACCESS, False)
    assert rule.filter_list is not None
    assert (rule.filter_list.name, rule.filter_list.description) == ("Tunnels", "UDP 1701")
    (item,) = rule.filters
    assert (item.name, str(item.destination), item.mirrored, item.source_port) == ("ten", "10.0.0.0/8", False, 1701)
    action = rule.filter_action
    assert [str(method) for method in action.methods] == ["AH[SHA1]:100000k/3600s", "AH[MD5]:100000k/3600s"]
    assert (action.allow_unsecured, action.inbound_passthrough, action.pfs) == (True, True, True)
    assert [method.value for method in rule.authentication_methods] == [KEY]
    secpol("check")


@pytest.mark.usefixtures("lab")
def test_a_filter_action_becomes_block_and_negotiates_again(home: Path, secpol: Secpol, refuse: Refuse) -> None:
    secpol("edit", "filteraction", "Strong", "--allow-unsecured", "--description", "d")
    secpol("edit", "filteraction", "Strong", "--action", "block")
    action = catalogue_of(home).filter_action("Strong")
    assert (action.action, action.methods, action.allow_unsecured) == (FilterActionKind.BLOCK, (), False)
    assert action.description == "d"
    assert "at least one security method" in refuse("edit", "filteraction", "Strong", "--action", "negotiate")
    secpol("edit", "filteraction", "Strong", "--action", "negotiate", "--method", "AH[MD5]")
    assert catalogue_of(home).policy("Lab").rules[1].filter_action.action is FilterActionKind.NEGOTIATE


@pytest.mark.usefixtures("lab")
def test_a_tunnel_comes_and_goes(home: Path, secpol: Secpol) -> None:
    result = secpol("edit", "rule", "Lab", "2", "--tunnel", "192.0.2.1")
    assert catalogue_of(home).policy("Lab").rules[1].tunnel_endpoint == IPv4Address("192.0.2.1")
    assert "warning: policy 'Lab', rule 'L2TP': the filter me to any is mirrored" in result.stderr
    assert (
        "warning" not in secpol("edit", "rule", "Lab", "2", "--description", "the same advice is not repeated").stderr
    )
    secpol("edit", "rule", "Lab", "2", "--no-tunnel")
    assert catalogue_of(home).policy("Lab").rules[1].tunnel_endpoint is None


@pytest.mark.usefixtures("lab")
def test_assigning(home: Path, secpol: Secpol, refuse: Refuse) -> None:
    assert secpol("assign", "LAB").stdout == "The policy 'Lab' is assigned.\n"
    secpol("assign", CLIENT)
    assert catalogue_of(home).assigned == catalogue_of(home).policy(CLIENT)
    assert secpol("unassign").stdout == f"The policy {CLIENT!r} is not assigned any more.\n"
    assert catalogue_of(home).assigned is None
    assert refuse("unassign") == "ipsec-core: no policy is assigned"


def _lose(home: Path, name: ObjectName) -> None:
    """Another tool deletes an object, and leaves what refers to it."""
    with State.open(home, readonly=False) as state:
        RegistryStore(state.registry).apply(Changes(delete=(name,)), 0)


def _isakmp(home: Path, policy: str) -> ObjectName:
    guid = catalogue_of(home).policy(policy).key_exchange.guid
    assert guid is not None
    return ObjectName.of(ObjectClass.ISAKMP, guid)


@pytest.mark.usefixtures("lab")
def test_what_is_broken_can_be_unassigned_and_replaced(home: Path, secpol: Secpol, refuse: Refuse) -> None:
    secpol("assign", "Lab")
    _lose(home, _isakmp(home, "Lab"))
    assert secpol("unassign").stdout == "The policy 'Lab' is not assigned any more.\n"
    assert refuse("assign", "lab").endswith("does not exist; secpol check lists all that is broken")
    assert secpol("assign", CLIENT.upper()).stdout == f"The policy {CLIENT!r} is assigned.\n"
    assert "ipsecISAKMPReference" in refuse("builtin")  # which would not mend it


def test_a_broken_default_policy_is_restored(home: Path, secpol: Secpol) -> None:
    secpol("create", "policy", "Mine")
    secpol("create", "rule", "Mine", "mine", "--filterlist", "All IP Traffic", "--filteraction", "Require Security")
    everything = {item.name: (item.data, item.references, set(item.owners)) for item in objects_of(home)}
    for item in builtin_objects():
        _lose(home, item.name)
        secpol("builtin")
        secpol("check")
    now = {item.name: (item.data, item.references, set(item.owners)) for item in objects_of(home)}
    assert now == everything


@pytest.mark.usefixtures("lab")
def test_the_end_of_a_policy(home: Path, secpol: Secpol, refuse: Refuse) -> None:
    fresh = {item.name for item in builtin_objects()}
    assert "is in use: 'Lab' rule 'L2TP'" in refuse("delete", "filterlist", "L2TP")
    assert "is in use: 'Lab' rule 'L2TP'" in refuse("delete", "filteraction", "Strong")
    secpol("create", "filter", "L2TP", "--from", "me", "--to", "192.0.2.0/24", "--name", "second")
    secpol("delete", "filter", "L2TP", "1")
    assert [one.name for one in catalogue_of(home).policy("Lab").rules[1].filters] == ["second"]
    secpol("delete", "rule", "Lab", "l2tp")
    secpol("assign", "Lab")
    assert "is assigned; un-assign it first" in refuse("delete", "policy", "Lab")
    secpol("unassign")
    secpol("delete", "policy", "lab")
    secpol("delete", "filterlist", "l2tp")
    secpol("delete", "filteraction", "strong")
    assert {item.name for item in objects_of(home)} == fresh
    assert secpol("check").stdout.splitlines()[-1] == f"{len(fresh)} objects, no problems"


def test_restoring_the_default_policies(home: Path, secpol: Secpol) -> None:
    secpol("edit", "policy", SERVER, "--description", "changed", "--pfs")
    secpol("create", "rule", SERVER, "more", "--filterlist", "All IP Traffic", "--filteraction", "Permit")
    secpol("create", "policy", "Mine")
    secpol("create", "rule", "Mine", "mine", "--filterlist", "All IP Traffic", "--filteraction", "Require Security")
    secpol("delete", "filter", "All IP Traffic", 1)
    secpol("delete", "policy", CLIENT)
    secpol("builtin")
    now = {item.name: item for item in objects_of(home)}
    expected = {item.name: item for item in builtin_objects()}
    assert {name: now[name].data for name in expected} == {name: item.data for name, item in expected.items()}
    assert {name: now[name].references for name in expected} == {
        name: item.references for name, item in expected.items()
    }
    assert len(catalogue_of(home).policy("Mine").rules) == 2
    secpol("check")


def test_a_dns_name_is_all_its_addresses(
    home: Path, secpol: Secpol, refuse: Refuse, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(host: str, *rest: object) -> list[object]:
        if host != "www.example.com":
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return [(0, 0, 0, "", (address, 0)) for address in ("192.0.2.1", "192.0.2.2", "192.0.2.1")]

    monkeypatch.setattr(socket, "getaddrinfo", ask)
    secpol("create", "filterlist", "web")
    secpol("create", "filter", "web", "--from", "me", "--to", "www.example.com", "--protocol", "tcp", "--to-port", 80)
    found = catalogue_of(home).filter_list("web").filters
    assert [str(one.destination) for one in found] == ["192.0.2.1", "192.0.2.2"]
    assert {one.destination.dns_name for one in found} == {"www.example.com"}
    assert "www.example.com" in secpol("show", "filterlist", "web").stdout
    assert "has 2 addresses" in refuse("edit", "filter", "web", 1, "--to", "www.example.com")
    assert "has no address" in refuse("edit", "filter", "web", 1, "--to", "nobody.example.com")


# ---- what it shows --------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("lab")
def test_the_list_marks_the_assigned_policy(secpol: Secpol) -> None:
    secpol("assign", "Lab")
    lines = secpol("list").stdout.splitlines()
    assert lines[0].split() == ["Policy", "Assigned", "Rules"]
    rows = {name: line.split() for line in lines for name in ("Lab", SERVER) if line.startswith(name)}
    assert rows["Lab"] == ["Lab", "yes", "2"]
    assert rows[SERVER][-2:] == ["no", "3"]


@pytest.mark.usefixtures("lab")
@pytest.mark.parametrize(
    ("words", "keys"),
    [
        ([], ["policies"]),
        (["filterlists"], ["filter_lists"]),
        (["policies", "filteractions"], ["policies", "filter_actions"]),
        (["--lists", "--actions"], ["policies", "filter_lists", "filter_actions"]),
        (["all"], ["policies", "filter_lists", "filter_actions"]),
    ],
)
def test_what_is_listed(secpol: Secpol, words: list[str], keys: list[str]) -> None:
    document = json.loads(secpol("list", *words, "--json").stdout)
    assert list(document) == keys
    text = secpol("list", *words).stdout
    for key, name in (("policies", "Lab"), ("filter_lists", "L2TP"), ("filter_actions", "Strong")):
        assert (key in keys) == any(line.startswith(f"{name} ") for line in text.splitlines())
        assert key not in keys or name in [item["name"] for item in document[key]]


@pytest.mark.usefixtures("lab")
def test_the_tree(secpol: Secpol) -> None:
    secpol("assign", "Lab")
    text = secpol("show").stdout
    assert text == secpol("show", "policy", "lab").stdout == secpol("show", "LAB").stdout
    lines = [line.lstrip("│├└─ ").rstrip() for line in text.splitlines()]
    assert lines[0] == "Lab  assigned"
    wanted = [
        "General",
        "Description: For tests",
        "Check for policy changes every: 180 minutes",
        "Key Exchange Settings",
        "1  3DES        SHA1       Medium (2)",
        "Authenticate and generate a new key after every: 480 minutes",
        "Rule 1: Default Response",
        "Filter list: <Dynamic>",
        "Kerberos V5",
        "Rule 2: L2TP",
        "me    any   any  1701  udp       yes",
        "Action: Negotiate",
        "1  none          3DES                 SHA1           100000/900",
        "Allow unsecured communication with other computers: no",
        "Preshared key ***",
        "Tunnel endpoint: none (transport mode)",
        "Connection type: all network connections",
    ]
    rest = iter(lines)
    assert [line for line in wanted if line not in rest] == []  # in this order
    assert lines[-2:] == wanted[-2:]


@pytest.mark.usefixtures("lab")
def test_nothing_is_cut_on_a_narrow_screen_and_no_line_is_wider(secpol: Secpol) -> None:
    text = secpol("show", SECURE, columns=80).stdout
    assert max(map(len, text.splitlines())) <= 80
    for word in ("Require Security", "100000/900", "ESP Confidentiality", "{7238523C-70FA-11D1-864C-14A300000000}"):
        assert word in text
    assert "…" not in text


@pytest.mark.usefixtures("lab")
def test_documents_for_programs(secpol: Secpol) -> None:
    document = json.loads(secpol("show", "lab", "--json").stdout)
    assert document["name"] == "Lab"
    assert document["assigned"] is False
    assert document["guid"].startswith("{")
    assert document["rules"][1]["authentication"] == [{"preshared_key": "***"}]
    filters = json.loads(secpol("show", "filterlist", "l2tp", "--json").stdout)
    assert filters["filters"] == [{"source": "me", "destination": "any", "protocol": "udp", "destination_port": 1701}]
    assert filters["used_by"] == [{"policy": "Lab", "rule": 2, "name": "L2TP"}]
    action = json.loads(secpol("show", "filteraction", "Permit", "--json").stdout)
    assert (action["action"], len(action["used_by"])) == ("permit", 2)


def test_names_of_others_do_not_control_the_terminal(secpol: Secpol) -> None:
    secpol("create", "policy", "evil\x1b]0;title\x07\nname", "--description", "\x1b[2J")
    secpol("create", "filterlist", "\x1b[31m[bold]")
    for words in (["list", "all"], ["show", "evil\x1b]0;title\x07\nname"], ["show", "filterlist", "\x1b[31m[bold]"]):
        text = secpol(*words).stdout
        assert "\x1b" not in text
        assert "\x07" not in text
    assert "[bold]" in text


def test_colours_are_for_terminals(secpol: Secpol, home: Path, program: list[str]) -> None:
    secpol("create", "policy", "Lab")
    assert "\x1b" not in secpol("show", "Lab").stdout
    primary, secondary = pty.openpty()
    try:
        words = [*program, "secpol", "--state", str(home), "show", "Lab"]
        environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
        subprocess.run(words, stdout=secondary, env=environment | {"TERM": "xterm-256color"}, check=True, timeout=60)
        assert b"\x1b[" in os.read(primary, 4096)
    finally:
        os.close(primary)
        os.close(secondary)
