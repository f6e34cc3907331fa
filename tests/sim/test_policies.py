"""Where a computer of a scenario has its policy from: every form protects, and every mistake is a line."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest
from ldif import LDIFWriter  # type: ignore[import-untyped]
from sim_kit import LABS

from ipsec_core.computer.reg_file import encode, export
from ipsec_core.computer.state import State
from ipsec_core.errors import IpsecError, ScenarioError
from ipsec_core.policy.agent import Reading
from ipsec_core.policy.builtin import BUILTIN_NAMES, builtin_objects, builtin_policy
from ipsec_core.policy.directory import (
    DEFAULT_DOMAIN_GPO,
    assignment_attributes,
    assignment_dn,
    container_dn,
    object_dn,
    to_attributes,
)
from ipsec_core.policy.model import Policy
from ipsec_core.policy.objects import Changes, ObjectClass
from ipsec_core.policy.registry_store import RegistryStore, populate
from ipsec_core.sim.policies import Login
from ipsec_core.sim.run import simulate
from ipsec_core.sim.scenario import load_scenario

SECURE = "Secure Server (Require Security)"
SERVER = "Server (Request Security)"
DOMAIN = "DC=example,DC=com"
SCENARIO = """
realm = "EXAMPLE.COM"
traffic = "{traffic}"
[computers.ALICE]
address = "10.0.0.1"
policy = {policy}
[computers.BOB]
address = "10.0.0.2"
policy = {policy}
"""


def guid_of(name: str) -> uuid.UUID:
    policy = builtin_policy(name)
    assert policy.guid
    return policy.guid


def write_reg(path: Path, assigned: str | None, cache_size: int = 64) -> None:
    with State.memory("MADE") as state:
        store = RegistryStore(state.registry)
        populate(store, 0)
        store.apply(Changes(assign=guid_of(assigned) if assigned else None), 0)
        state.registry.set_known("CacheSize", cache_size)
        path.write_bytes(encode(export(state.registry, "HKLM")))


def write_ldif(path: Path, assigned: str | uuid.UUID | None) -> None:
    container = container_dn(DOMAIN)
    with path.open("wb") as out:
        writer = LDIFWriter(out)
        for item in builtin_objects():
            attributes = {key: values for key, values in to_attributes(item, container).items() if values}
            writer.unparse(
                object_dn(item.name, container), {"objectClass": [item.name.class_name.encode()]} | attributes
            )
        if assigned:
            guid = guid_of(assigned) if isinstance(assigned, str) else assigned
            attributes = assignment_attributes(guid, None, container)
            kept = {key: values for key, values in attributes.items() if values}
            writer.unparse(assignment_dn(DEFAULT_DOMAIN_GPO, DOMAIN), {"objectClass": [b"ipsecPolicy"]} | kept)


def scenario(tmp_path: Path, policy: str) -> Path:
    path = tmp_path / "scenario.toml"
    path.write_text(SCENARIO.format(traffic=LABS / "office.pcap", policy=policy))
    return path


def loaded(tmp_path: Path, policy: str) -> Policy | None:
    return load_scenario(scenario(tmp_path, policy)).computers[0].policy.policy


FORMS = {
    "built-in": (f'"{SECURE}"', "local computer policy"),
    "reg": ('"made.reg"', "local computer policy"),
    "ldif": ('"made.ldif"', "Group Policy from Active Directory"),
    "named": (f'{{ from = "made.ldif", name = "{SECURE}" }}', "Group Policy from Active Directory"),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_protects(tmp_path: Path, form: str) -> None:
    text, source = FORMS[form]
    write_reg(tmp_path / "made.reg", SECURE, cache_size=128)
    write_ldif(tmp_path / "made.ldif", SERVER if form == "named" else SECURE)
    simulate(scenario(tmp_path, text), tmp_path / "out")
    for name in ("ALICE", "BOB"):
        with State.open(tmp_path / "out" / name) as state:
            policy = state.policy()
            assert policy == builtin_policy(SECURE)
            texts = [event.text for event in state.event_log().events()]
            assert any(source in text for text in texts), texts
            assert state.counters()["confidential_bytes_received"] > 100_000
            # Import takes the whole registry, not the policy alone.
            assert state.registry.known("CacheSize") == (128 if form == "reg" else 64)


def test_suffixes_in_any_case(tmp_path: Path) -> None:
    write_reg(tmp_path / "MADE.REG", SECURE)
    write_ldif(tmp_path / "MADE.LDIF", SERVER)
    assert loaded(tmp_path, '"MADE.REG"') == builtin_policy(SECURE)
    assert loaded(tmp_path, '"MADE.LDIF"') == builtin_policy(SERVER)


@pytest.mark.parametrize(
    ("realm", "message"),
    [
        ("", '; for Kerberos the scenario needs a realm: realm = "EXAMPLE.COM" above its tables'),
        ("EXAMPLE COM", "realm: 'EXAMPLE COM' is not the name of a realm; accepted: such as EXAMPLE.COM"),
    ],
)
def test_the_realm(tmp_path: Path, realm: str, message: str) -> None:
    path = scenario(tmp_path, f'"{SECURE}"')
    path.write_text(path.read_text().replace("EXAMPLE.COM", realm))
    with pytest.raises(ScenarioError) as caught:
        load_scenario(path)
    assert str(caught.value).endswith(message)


@pytest.mark.parametrize("name", BUILTIN_NAMES)
def test_built_in_by_name(tmp_path: Path, name: str) -> None:
    assert loaded(tmp_path, f'"{name}"') == builtin_policy(name)
    assert loaded(tmp_path, f'"{name.upper()}"') == builtin_policy(name)


def test_a_file_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('name = "Mine"')
    assert loaded(tmp_path, '"mine.toml"') == Policy("Mine")


def test_a_registry_without_an_assigned_policy(tmp_path: Path) -> None:
    write_reg(tmp_path / "made.reg", None)
    assert loaded(tmp_path, '"made.reg"') is None
    assert loaded(tmp_path, f'{{ from = "made.reg", name = "{SERVER.upper()}" }}') == builtin_policy(SERVER)


def test_a_real_domain(tmp_path: Path, captures: Path) -> None:
    file = captures.parent / "reference" / "data" / "ad-ip-security.ldif"
    if not file.is_file():
        pytest.skip("no objects of a real domain")
    for name in BUILTIN_NAMES:
        assert loaded(tmp_path, f'{{ from = "{file}", name = "{name}" }}') == builtin_policy(name)


def test_a_directory(tmp_path: Path) -> None:
    asked: list[tuple[str, Login]] = []

    def read(address: str, login: Login) -> Reading:
        asked.append((address, login))
        return Reading("1", guid_of(SERVER), builtin_objects())

    text = '{ from = "ldap://dc.example.com", user = "bob", password_file = "word", ca_file = "ca.pem" }'
    computer = load_scenario(scenario(tmp_path, text), directory=read).computers[1]
    assert computer.policy.policy == builtin_policy(SERVER)
    assert computer.policy.given is None
    assert asked[1] == ("ldap://dc.example.com", Login("bob", tmp_path / "word", tmp_path / "ca.pem"))


NAMES = f"'{SERVER}', 'Client (Respond Only)', '{SECURE}'"
CHOICE = "{{ from = ..., name = ... }} with one of "
ZEROS = "0000-0000-0000-000000000000"
WRONG = [
    ('"none.reg"', "{0}/none.reg: No such file or directory; accepted: a .reg file"),
    ('"none.ldif"', "{0}/none.ldif: No such file or directory; accepted: an LDIF file"),
    ('"none.toml"', "{0}/none.toml: No such file or directory; accepted: a policy file (TOML)"),
    ('"bad.reg"', "{0}/bad.reg:1: not a file of the Registry Editor; accepted: "),
    ('"bad.ldif"', "{0}/bad.ldif: line 1: not LDIF; accepted: "),
    ('"made.ldif"', "{0}/made.ldif: no policy is assigned there; accepted: " + CHOICE + NAMES),
    ('"empty.ldif"', "{0}/empty.ldif: no policy is assigned there; accepted: a file with policies"),
    ('{{ from = "empty.ldif", name = "x" }}', "{0}/empty.ldif: there is no policy 'x'; accepted: a file with policies"),
    (
        '"lost.ldif"',
        "{0}/lost.ldif: ipsecPolicy{{00000000-" + ZEROS + "}} is assigned, but is not there; accepted: " + CHOICE,
    ),
    ('{{ from = "made.ldif", user = "bob" }}', "'made.ldif' asks nobody to log on; user, password_file, ca_file are"),
    ('{{ from = "made.ldif", name = "x" }}', "{0}/made.ldif: there is no policy 'x'; accepted: " + NAMES),
    ('{{ from = "made.reg", name = "x" }}', "{0}/made.reg: there is no policy 'x'; accepted: "),
    ('{{ from = "mine.toml", name = "x" }}', "name: 'mine.toml' is one policy; accepted: beside a .reg or .ldif file"),
    ('"ldap://dc.example.com"', "'ldap://dc.example.com': no directory is asked here; accepted: a file, or the name"),
]


@pytest.mark.parametrize(("policy", "message"), WRONG, ids=[policy for policy, _ in WRONG])
def test_wrong(tmp_path: Path, policy: str, message: str) -> None:
    write_ldif(tmp_path / "made.ldif", None)
    write_ldif(tmp_path / "lost.ldif", uuid.UUID(int=0))
    (tmp_path / "empty.ldif").write_text("")
    write_reg(tmp_path / "made.reg", None)
    (tmp_path / "mine.toml").write_text('name = "Mine"')
    for name in ("bad.reg", "bad.ldif"):
        (tmp_path / name).write_text("nothing\n")
    with pytest.raises(ScenarioError) as caught:
        loaded(tmp_path, policy.format())
    text = str(caught.value)
    assert text.startswith(f"{tmp_path}/scenario.toml: computers.ALICE.policy: " + message.format(tmp_path))
    assert "\n" not in text


def test_a_broken_store(tmp_path: Path) -> None:
    """A domain whose objects lost a link: which one, in one line."""
    objects = [item for item in builtin_objects() if item.object_class is not ObjectClass.FILTER]

    def read(address: str, login: Login) -> Reading:
        return Reading("1", guid_of(SECURE), tuple(objects))

    with pytest.raises(IpsecError, match=r"ldap://dc: .*ipsecFilterReference.*ipsecFilter\{") as caught:
        load_scenario(scenario(tmp_path, '"ldap://dc"'), directory=read)
    assert "\n" not in str(caught.value)
