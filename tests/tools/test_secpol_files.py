"""secpol export and import, files as stores, and the languages of netsh and ipsecpol."""

from __future__ import annotations

import json
import os
import shutil
import stat
from pathlib import Path

import pytest
from click.testing import Result
from secpol_kit import KEY, catalogue_of, objects_of, run

from ipsec_core.computer import reg_file
from ipsec_core.computer.state import State
from ipsec_core.policy.builtin import BUILTIN_NAMES
from ipsec_core.policy.catalogue import Catalogue
from ipsec_core.policy.registry_store import RegistryStore
from ipsec_core.policy.storage import read_catalogue

CLIENT, SERVER, SECURE = BUILTIN_NAMES
SUFFIXES = ("reg", "ldif", "json", "toml", "netsh")
DOMAIN = ("--domain", "DC=example,DC=com")


def call(*words: object, stdin: str | bytes | None = None) -> Result:
    result = run(*words, stdin=stdin)
    assert result.exit_code == 0, result.output
    return result


def refused(*words: object, stdin: str | bytes | None = None) -> str:
    result = run(*words, stdin=stdin)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    return result.stderr.strip()


def said(catalogue: Catalogue) -> object:
    """All that a catalogue says, without GUIDs and order."""
    return (
        {policy.name: policy for policy in catalogue.policies},
        {item.name: item for item in catalogue.filter_lists},
        {item.name: item for item in catalogue.filter_actions},
        catalogue.assigned.name if catalogue.assigned else None,
    )


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Beside the built-in policies: Lab, assigned, with all kinds of settings; and a filter list that nobody uses."""
    folder = tmp_path_factory.mktemp("template")
    home, key = folder / "ALICE", folder / "key"
    key.write_text(KEY)
    ours = ("--state", home)
    call(*ours, "create", "policy", "Lab", "--description", "Für Büro & “Labor”", "--method", "3DES-SHA1-2", "--pfs")
    call(*ours, "create", "filterlist", "Far")
    call(*ours, "create", "filter", "Far", "--from", "me", "--to", "10.2.0.0/16", "--not-mirrored", "--name", "out")
    call(*ours, "create", "filterlist", "unused", "--description", "nobody's")
    call(*ours, "create", "filter", "unused", "--from", "any", "--to", "me", "--protocol", "tcp", "--to-port", 80)
    call(*ours, "create", "filteraction", "Strong", "--method", "AH[SHA1]+ESP[3DES,NONE]:50000k/900s", "--pfs")
    call(
        *(*ours, "create", "rule", "Lab", "out", "--filterlist", "Far", "--filteraction", "Strong", "--tunnel"),
        *(
            "192.0.2.2",
            "--auth",
            "certificate:CN=Root",
            "--auth",
            "preshared",
            "--psk-file",
            key,
            "--connection",
            "lan",
        ),
    )
    call(*ours, "assign", "Lab")
    return home


@pytest.fixture
def home(template: Path, tmp_path: Path) -> Path:
    return shutil.copytree(template, tmp_path / "ALICE")


# ---- there and back -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["reg", "ldif"])
def test_a_store_as_objects_comes_back_the_same(home: Path, tmp_path: Path, suffix: str) -> None:
    file, other = tmp_path / f"store.{suffix}", tmp_path / "BOB"
    call("--state", home, "export", file, *(DOMAIN if suffix == "ldif" else ()))
    assert call("--state", other, "import", file).stdout == f"{file} is imported.\n"
    before, after = ({item.name: item for item in objects_of(one)} for one in (home, other))
    assert {name: (item.data, item.references, item.owners, item.display_name) for name, item in before.items()} == {
        name: (item.data, item.references, item.owners, item.display_name) for name, item in after.items()
    }
    assert said(catalogue_of(home)) == said(catalogue_of(other))
    assert call("--state", other, "check").stdout.endswith("no problems\n")


@pytest.mark.parametrize("suffix", ["json", "netsh", "txt"])
def test_a_store_as_words_comes_back_with_the_same_meaning(home: Path, tmp_path: Path, suffix: str) -> None:
    file, other = tmp_path / f"store.{suffix}", tmp_path / "BOB"
    call("--state", home, "export", file)
    call("--state", other, "create", "policy", "x")
    for policy in ("x", *BUILTIN_NAMES):
        call("--state", other, "delete", "policy", policy)
    for kind in ("filterlist", "filteraction"):
        listed = json.loads(call("--state", other, "list", f"{kind}s", "--json").stdout)
        for (item,) in zip(next(iter(listed.values())), strict=True):
            call("--state", other, "delete", kind, item["name"])
    call("--state", other, "import", file)
    assert said(catalogue_of(home)) == said(catalogue_of(other))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_one_policy_of_a_store(home: Path, tmp_path: Path, suffix: str) -> None:
    file, other = tmp_path / f"lab.{suffix}", tmp_path / "BOB"
    call("--state", home, "export", file, "lab", *(DOMAIN if suffix == "ldif" else ()))
    call("--state", other, "import", file)
    catalogue = catalogue_of(other)
    assert {policy.name for policy in catalogue.policies} == {*BUILTIN_NAMES, "Lab"}
    assert catalogue.policy("Lab") == catalogue_of(home).policy("Lab")
    assert call("--state", other, "check").stdout.endswith("no problems\n")


def test_a_registry_export_is_what_windows_makes(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "store.reg"
    call("--state", home, "export", file)
    with State.open(home) as state:
        expected = reg_file.export(state.registry, str(RegistryStore(state.registry)))
    assert file.read_bytes() == reg_file.encode(expected)


def test_exports_are_for_their_owner_alone(home: Path, tmp_path: Path) -> None:
    for suffix in SUFFIXES:
        call("--state", home, "export", tmp_path / f"x.{suffix}", "Lab", *DOMAIN)
        assert stat.S_IMODE((tmp_path / f"x.{suffix}").stat().st_mode) == 0o600
        text = (tmp_path / f"x.{suffix}").read_bytes()
        assert (KEY.encode() in text) == (suffix in ("json", "toml", "netsh"))
    assert {path.name for path in tmp_path.iterdir()} == {"ALICE"} | {f"x.{suffix}" for suffix in SUFFIXES}


def test_an_export_does_not_replace_unasked(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    file.write_text("mine")
    assert refused("--state", home, "export", file, "Lab").endswith("exists already; accepted: another file, or -y")
    assert file.read_text() == "mine"
    call("--state", home, "export", file, "Lab", "-y")
    assert file.read_text().startswith('name = "Lab"')


def test_the_objects_of_a_real_domain(captures: Path, tmp_path: Path) -> None:
    """Samba's, which are Windows 2000's."""
    file = captures.parent / "reference" / "data" / "ad-ip-security.ldif"
    if not file.exists():
        pytest.skip("no objects of a real domain beside the captures")
    listed = json.loads(call("--file", file, "list", "--json").stdout)
    assert [policy["name"] for policy in listed["policies"]] == sorted(BUILTIN_NAMES)
    assert "All ICMP Traffic" in call("--file", file, "show", SECURE).stdout
    call("--state", tmp_path / "BOB", "import", file)
    with State.open(tmp_path / "BOB") as state:
        assert said(read_catalogue(RegistryStore(state.registry))) == said(catalogue_of(tmp_path / "BOB"))
    assert refused("--file", file, "assign", SECURE) == (
        f"ipsec-core: {file}: a .ldif file is only read; accepted: --file with .reg or .json, --state, --ldap"
    )


# ---- import ---------------------------------------------------------------------------------------------------------


def test_replacing_a_policy_keeps_its_objects(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "lab.toml"
    call("--state", home, "export", file, "Lab")
    before = catalogue_of(home).policy("Lab")
    file.write_text(file.read_text().replace('destination = "10.2.0.0/16"', 'destination = "10.3.0.0/16"'))
    where = f"ipsec-core: {file}: "
    assert refused("--state", home, "import", file) == (
        f"{where}there is a policy 'Lab' already; accepted: another name, or --replace"
    )
    call("--state", home, "import", file, "--replace")
    after = catalogue_of(home).policy("Lab")
    assert str(after.rules[1].filters[0].destination) == "10.3.0.0/16"
    assert (after.guid, after.key_exchange.guid) == (before.guid, before.key_exchange.guid)
    assert [rule.guid for rule in after.rules] == [rule.guid for rule in before.rules]
    assert after.rules[1].filter_list is not None
    assert before.rules[1].filter_list is not None
    assert after.rules[1].filter_list.guid == before.rules[1].filter_list.guid
    assert after.rules[0].filter_action.guid == before.rules[0].filter_action.guid
    assert len(objects_of(home)) == len({item.name for item in objects_of(home)})
    assert call("--state", home, "check").stdout.endswith("no problems\n")


def test_what_another_policy_shares_is_not_replaced(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "lab.toml"
    call("--state", home, "export", file, "Lab")
    call("--state", home, "create", "rule", SERVER, "too", "--filterlist", "Far", "--filteraction", "Permit")
    call("--state", home, "import", file, "--replace")  # says the same
    before = objects_of(home)
    file.write_text(file.read_text().replace("10.2.0.0/16", "10.3.0.0/16"))
    assert refused("--state", home, "import", file, "--replace") == (
        f"ipsec-core: {file}: the filter list 'Far' says something else than the store's, which {SERVER!r} has too"
    )
    assert objects_of(home) == before


def test_lists_without_a_name_go_with_their_rule(tmp_path: Path) -> None:
    home, file = tmp_path / "ALICE", tmp_path / "x.toml"
    rule = '[[rules]]\nname = "{}"\nfilters = [{{ source = "me", destination = "{}" }}]\naction = "block"\n'
    file.write_text('name = "X"\n' + rule.format("a", "10.0.0.1") + rule.format("b", "10.0.0.2"))
    call("--state", home, "import", file)
    count = len(objects_of(home))
    file.write_text('name = "X"\n' + rule.format("b", "10.0.0.3"))
    call("--state", home, "import", file, "--replace")
    assert len(objects_of(home)) == count - 3  # rule, filter list, filter action
    assert str(catalogue_of(home).policy("X").rules[0].filters[0].destination) == "10.0.0.3"
    call("--state", home, "delete", "policy", "X")
    assert {policy.name for policy in catalogue_of(home).policies} == set(BUILTIN_NAMES)
    assert all(item.name for item in catalogue_of(home).filter_lists)
    assert all(item.name for item in catalogue_of(home).filter_actions)


def test_imported_objects_know_the_rules_that_are_there(home: Path, tmp_path: Path) -> None:
    """The shared filter list of a built-in policy comes again: the rule of Lab that uses it stays its owner."""
    file = tmp_path / "server.reg"
    call("--state", home, "export", file, SERVER)
    call("--state", home, "create", "rule", "Lab", "all", "--filterlist", "All IP Traffic", "--filteraction", "Permit")
    call("--state", home, "import", file)
    assert call("--state", home, "check").stdout.endswith("no problems\n")
    assert catalogue_of(home).assigned == catalogue_of(home).policy("Lab")


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("x.toml", 'name = "X"\nrulez = 1\n', "unknown key 'rulez'; accepted: name, "),
        ("x.json", "[1, 2]", "not a policy; accepted: an object with policies, or with name and rules"),
        ("x.json", "{", "not JSON: "),
        ("x.json", '{"policies": [{"name": "A"}, {"name": "B", "x": 1}]}', "policies[1]: unknown key 'x'; accepted: "),
        ("x.json", '{"policies": [], "assigned": "A"}', "assigned: 'A' is not known; accepted: none is defined"),
        ("x.json", '{"policies": [], "more": 1}', "unknown key 'more'; accepted: assigned, policies, filter_lists, "),
        ("x.reg", "Windows Registry Editor Version 6\n", "not a file of the Registry Editor"),
        ("x.ldif", "dn: x\nwhat\n", "line 2: not LDIF"),
        ("x.netsh", "ipsec static add policy name=Y\nipsec static add polizei\n", "x.netsh:2: "),
        ("x.txt", "bogus\n", "x.txt:1: "),
        ("x.exe", "", "the suffix says what the file is; accepted: .reg, .ldif, .toml, .json, .netsh, .txt"),
    ],
)
def test_a_wrong_file_changes_nothing(home: Path, tmp_path: Path, name: str, text: str, expected: str) -> None:
    before = objects_of(home)
    (tmp_path / name).write_text(text)
    line = refused("--state", home, "import", tmp_path / name)
    assert line.startswith(f"ipsec-core: {tmp_path}/{name}:")
    assert expected in line
    assert objects_of(home) == before


@pytest.mark.parametrize("suffix", [*SUFFIXES, "txt"])
def test_a_file_that_is_not_there(home: Path, tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"missing.{suffix}"
    line = refused("--state", home, "import", file)
    assert line.startswith(f"ipsec-core: {file}: No such file or directory; accepted: ")


@pytest.mark.parametrize("name", ["x.reg", "x.ldif"])
def test_a_file_without_policies_is_not_imported(home: Path, tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    head = "Windows Registry Editor Version 5.00\n\n[HKEY_LOCAL_MACHINE\\SOFTWARE\\Others]\n"
    file.write_text(head if name.endswith(".reg") else "")
    before = objects_of(home)
    result = run("--state", home, "import", file)
    line = f"ipsec-core: {file}: no policy objects in it; accepted: a file with policies\n"
    assert (result.exit_code, result.stderr, objects_of(home)) == (2, line, before)


def test_deletions_in_a_registry_file_count(home: Path, tmp_path: Path) -> None:
    """As the Registry Editor would carry them out: from top to bottom."""
    file = tmp_path / "x.reg"
    assert run("--state", home, "assign", "Lab").exit_code == 0
    assert run("--state", home, "export", file).exit_code == 0
    local = r"HKEY_LOCAL_MACHINE\SOFTWARE\Policies\Microsoft\Windows\IPSec\Policy\Local"
    text = file.read_bytes().decode("utf-16") + f'[{local}]\r\n"ActivePolicy"=-\r\n'
    file.write_bytes(text.encode("utf-16"))
    assert run("--state", tmp_path / "BOB", "import", file).exit_code == 0
    assert catalogue_of(tmp_path / "BOB").assigned is None
    refused = run("--file", file, "assign", "Lab")
    assert refused.exit_code == 2
    assert refused.stderr.endswith("a deletion would be lost; accepted: keys and values\n")


def test_a_file_with_broken_links_is_not_imported(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "broken.reg"
    call("--state", home, "export", file, "Lab")
    text = file.read_text(encoding="utf-16")
    start = text.index("[", text.index(r"\ipsecFilter{") - 90)
    end = text.index("\n[", start)
    file.write_text(text[:start] + text[end + 1 :], encoding="utf-16")
    other = tmp_path / "BOB"
    line = refused("--state", other, "import", file)
    assert line.startswith(f"ipsec-core: {file}: ipsecNFA{{")
    assert "does not exist" in line
    assert not other.exists()
    result = run("--file", file, "check")
    assert result.exit_code == 1


def test_no_key_is_in_a_complaint(home: Path, tmp_path: Path) -> None:
    """`run` looks for it."""
    (tmp_path / "x.toml").write_text(f'name = "X"\n[[rules]]\nauthentication = ["{KEY}"]\n')
    (tmp_path / "x.netsh").write_text(f'ipsec static add rule name=x policy=y psk="{KEY}" bogus=1\n')
    (tmp_path / "x.cmd").write_text(f'ipsecpol -w REG -p x -r y -f 0+* -a PRESHARE:"{KEY}" -bogus\n')
    for words in (("import", tmp_path / "x.toml"), ("netsh", tmp_path / "x.netsh")):
        refused("--state", home, *words)
    refused("--state", home, "ipsecpol", "--file", tmp_path / "x.cmd")
    refused("--state", home, "create", "rule", "Lab", "x", "--auth", KEY)


# ---- a file as a store ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["reg", "json"])
def test_editing_a_file(home: Path, tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"store.{suffix}"
    call("--state", home, "export", file)
    before = file.read_bytes()
    assert "no filter list 'x'" in refused("--file", file, "delete", "filterlist", "x")
    assert file.read_bytes() == before
    call("--file", file, "edit", "policy", "Lab", "--name", "Lab 2")
    call("--file", file, "delete", "filterlist", "unused")
    call("--file", file, "assign", SECURE)
    assert call("--file", file, "check").stdout.endswith("no problems\n")
    call("--state", tmp_path / "BOB", "import", file, *(["--replace"] if suffix == "json" else []))
    catalogue = catalogue_of(tmp_path / "BOB")
    assert {policy.name for policy in catalogue.policies} == {*BUILTIN_NAMES, "Lab 2"}
    assert catalogue.assigned == catalogue.policy(SECURE)
    assert catalogue.policy("Lab 2").rules == catalogue_of(home).policy("Lab").rules


def test_a_file_with_more_than_policies_is_not_written(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "machine.reg"
    call("--state", home, "export", file)
    text = file.read_text(encoding="utf-16") + "\n[HKEY_LOCAL_MACHINE\\SOFTWARE\\Others]\n"
    file.write_text(text, encoding="utf-16")
    assert "Lab" in call("--file", file, "list").stdout
    line = refused("--file", file, "unassign")
    assert f"{file}:" in line
    assert r"HKEY_LOCAL_MACHINE\SOFTWARE\Others is outside of the policies; accepted below: HKEY_LOCAL_MACHINE" in line
    assert file.read_text(encoding="utf-16") == text


def test_a_toml_policy_to_look_at(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "lab.toml"
    call("--state", home, "export", file, "Lab")
    text = call("--file", file, "show", "Lab").stdout
    assert "Preshared key ***" in text
    assert text == call("--file", file, "show", "Lab").stdout  # its GUIDs as well
    assert "a .toml file is only read" in refused("--file", file, "assign", "Lab")


# ---- the languages of administrators --------------------------------------------------------------------------------


def test_a_netsh_script(home: Path, tmp_path: Path) -> None:
    script = (
        'ipsec static add filterlist name="Web"\n'
        'ipsec static add filter filterlist="Web" srcaddr=any dstaddr=me protocol=tcp dstport=80\n'
        'ipsec static add filteraction name="Stop" action=block\n'
        'ipsec static add policy name="No web" activatedefaultrule=no\n'
        'ipsec static add rule name="r" policy="No web" filterlist="Web" filteraction="Stop"\n'
        'ipsec static set policy name="No web" assign=yes\n'
    )
    file = tmp_path / "x.netsh"
    file.write_bytes(b"\xff\xfe" + script.encode("utf-16-le"))
    call("--state", home, "netsh", file)
    catalogue = catalogue_of(home)
    assert catalogue.assigned == catalogue.policy("No web")
    assert call("--state", tmp_path / "BOB", "netsh", "-", stdin=script).stdout == "stdin is carried out.\n"
    assert catalogue_of(tmp_path / "BOB").policy("No web") == catalogue.policy("No web")
    before = objects_of(home)
    wrong = script.replace("No web", "other").replace("Web", "W2").replace("Stop", "S2") + "ipsec static add what\n"
    assert refused("--state", home, "netsh", "-", stdin=wrong).startswith("ipsec-core: stdin:7: ")
    assert objects_of(home) == before


def test_a_batch_file_of_netsh(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "x.CMD"
    file.write_text('@echo off\nnetsh ipsec static add policy ^\n  name="No web" >nul\n')
    call("--state", home, "netsh", file)
    assert catalogue_of(home).policy("No web").rules
    file.write_text("@echo off\nadd policy Other\n")
    assert refused("--state", home, "netsh", file).startswith(f"ipsec-core: {file}:2: not such a command; accepted: ")


def test_a_policy_as_a_netsh_script(home: Path, tmp_path: Path) -> None:
    result = run_with_key("--state", home, "netsh", "--write", "lab")
    assert f'psk="{KEY}"' in result
    call("--state", tmp_path / "BOB", "netsh", "-", stdin=result)
    assert catalogue_of(tmp_path / "BOB").policy("Lab") == catalogue_of(home).policy("Lab")


def run_with_key(*words: object) -> str:
    """Of the one command that is asked for the key."""
    from click.testing import CliRunner

    from ipsec_core.tools.main import main

    result = CliRunner().invoke(main, ["secpol", *map(str, words)])
    assert result.exit_code == 0
    return result.stdout


def test_an_ipsecpol_command_line(home: Path, tmp_path: Path) -> None:
    words = ["-w", "REG", "-p", "Block 1434", "-r", "Block inbound", "-f", "*=0:1434:UDP", "-n", "BLOCK", "-x"]
    assert call("--state", home, "ipsecpol", *words).stdout == "ipsecpol is carried out.\n"
    catalogue = catalogue_of(home)
    assert catalogue.assigned == catalogue.policy("Block 1434")
    rule = next(one for one in catalogue.policy("Block 1434").rules if one.filters)
    assert [(str(one.source), str(one.destination), one.destination_port) for one in rule.filters] == [
        ("any", "me", 1434)
    ]
    file = tmp_path / "block.cmd"
    quoted = " ".join(f'"{word}"' if " " in word else word for word in words)
    file.write_text(f"@echo off\r\nrem KB 813878\r\nipsecpol {quoted}\r\n")
    call("--state", tmp_path / "BOB", "ipsecpol", "--file", file)
    assert catalogue_of(tmp_path / "BOB").policy("Block 1434") == catalogue.policy("Block 1434")


def test_wrong_ipsecpol_command_lines(home: Path, tmp_path: Path) -> None:
    before = objects_of(home)
    assert "-bogus" in refused("--state", home, "ipsecpol", "-w", "REG", "-p", "x", "-bogus")
    assert "no agent runs there; accepted: the state directory of a running agent" in refused(
        "--state", home, "ipsecpol", "-f", "0+*"
    )
    assert "ipsecpol: without -w, rules are for an agent that runs; accepted: --state DIR, or -w -p -r" in refused(
        "--ldap", "ldap://192.0.2.1", "ipsecpol", "-f", "0+*"
    )
    file = tmp_path / "x.cmd"
    file.write_text("ipsecpol -w REG -p x -r y -f 0+* -n BLOCK\nipsecpol -u\n")
    assert f"{file}:2: without -w, and other lines have it; accepted: -w in all lines, or in none" in refused(
        "--state", home, "ipsecpol", "--file", file
    )
    file.write_text("ipsecpol -w REG -p x -r y -f 0+* -n BLOCK\nformat c:\n")
    assert refused("--state", home, "ipsecpol", "--file", file).startswith(f"ipsec-core: {file}:2: ")
    assert "is needed" in refused("--state", home, "ipsecpol")
    assert "is needed" in refused("--state", home, "ipsecpol", "--file", file, "-f", "0+*")
    assert "is needed" in refused("--state", home, "netsh")
    assert objects_of(home) == before


def test_a_file_that_cannot_be_written(home: Path, tmp_path: Path) -> None:
    assert refused("--state", home, "export", tmp_path / "no" / "x.reg").endswith(
        "No such file or directory; accepted: a file that can be written"
    )
    assert refused("--state", home, "export", tmp_path / "x.ldif") == (
        f"ipsec-core: {tmp_path}/x.ldif: an LDIF file names a domain; accepted: --domain DC=example,DC=com"
    )
    assert "a TOML file holds one policy; accepted: '" in refused("--state", home, "export", tmp_path / "x.toml")
    assert "there is no policy 'nope'" in refused("--state", home, "export", tmp_path / "x.reg", "nope")
    assert sorted(os.listdir(tmp_path)) == ["ALICE"]
