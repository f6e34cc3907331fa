"""Scenario files: what is wrong is said in one line that names the file, the key and what is accepted."""

from __future__ import annotations

from ipaddress import IPv4Network
from pathlib import Path

import pytest
from sim_kit import LABS, SCENARIO, SECRET, write_scenario

from ipsec_core.errors import IpsecError, ScenarioError
from ipsec_core.policy.agent import Reading
from ipsec_core.policy.builtin import BUILTIN_NAMES, builtin_objects, builtin_policy
from ipsec_core.policy.methods import Confidentiality
from ipsec_core.sim.scenario import load_scenario

TOP = "name, seed, reaction, policies, computers, epoch, realm, link, traffic, steps"
COMPUTER_KEYS = "address, policy, profile, audit, registry, hold_packets, high_encryption, certificates, rras, dial"
TRAFFIC_KEYS = "file, hosts, place, repeat, pause, pace"
CATEGORIES = (
    "account_logon, account_management, directory_service_access, logon_events, "
    "object_access, policy_change, privilege_use, process_tracking, system_events"
)
POLICY_KEYS = "name, description, rules, filter_lists, filter_actions, key_exchange, polling_interval_seconds"
RULE_KEYS = (
    "name, description, filters, action, authentication, tunnel_endpoint, connection_type, active, default_response"
)
ADDRESS = "is not an address; accepted: IPv4, such as 10.0.0.1"
NO_HOST = "is not the address of a host"
NETWORK = "not an address; accepted: IPv4 host or network, such as 10.0.0.1 or 10.0.0.0/24"
KB = "accepted: 64 to 1024 (KB)"
ALGORITHMS = "is not an algorithm here; accepted: " + ", ".join(item.text for item in Confidentiality) + ", NONE"
REGISTRY = (
    "SAIdleTime, CacheSize, SAHashSize, EnableOffload, NoDefaultExempt, Debug, Log, EnableLogging, EnableDOSProtect, "
    "StrongCrlCheck, ProhibitIpSec"
)
NAME = (
    "not a computer name; accepted: printable, without /, not beginning with a dot, "
    "not the name of a file of the results"
)
RATE = "is not a rate; accepted: 1bit/s to 10Tbit/s, such as 100Mbit/s, 1Gbit/s, 2.5Gbit/s"
DURATION = "is not a duration; accepted: whole nanoseconds, such as 0s, 250ns, 5us, 1.5ms, 2s, 3min, 1h"
Change = str | tuple[str, str]


def traffic(rest: str) -> tuple[str, str]:
    return 'traffic = "traffic.pcap"', f'traffic = {{ file = "traffic.pcap", {rest} }}'


def link(line: str) -> tuple[str, str]:
    return 'between = ["ALICE", "BOB"]', line


WRONG: list[tuple[Change, str]] = [
    # Unknown keys at every level.
    ("speed = 1\n", f"speed: unknown key; accepted: {TOP}"),
    (("registry =", "color = 1\nregistry ="), f"computers.ALICE.color: unknown key; accepted: {COMPUTER_KEYS}"),
    (link("color = 1"), "link.color: unknown key; accepted: between, rate, delay, mtu, queue"),
    (traffic("speed = 2"), f"traffic.speed: unknown key; accepted: {TRAFFIC_KEYS}"),
    (
        ('logon_events = ["success", "failure"] }\nregistry', "logons = [] }\nregistry"),
        f"computers.ALICE.audit: unknown key 'logons'; accepted: {CATEGORIES}",
    ),
    (
        ("CacheSize = 64", "Cachesize2 = 64"),
        f"computers.ALICE.registry: 'Cachesize2' is not a registry value of IPsec; accepted: {REGISTRY}",
    ),
    (("[[policies]]", "[[policies]]\ncolor = 1"), f"policies[0]: unknown key 'color'; accepted: {POLICY_KEYS}"),
    (
        ("[[policies.rules]]", "[[policies.rules]]\ncolor = 1"),
        f"policies[0]: rules[0]: unknown key 'color'; accepted: {RULE_KEYS}",
    ),
    # Addresses.
    (("10.0.0.1", "10.0.0.256"), f"computers.ALICE.address: '10.0.0.256' {ADDRESS}"),
    (("10.0.0.1", "fe80::1"), f"computers.ALICE.address: 'fe80::1' {ADDRESS}"),
    (("10.0.0.1", "10.0.0.1/24"), f"computers.ALICE.address: '10.0.0.1/24' {ADDRESS}"),
    (("10.0.0.1", "224.0.0.1"), f"computers.ALICE.address: 224.0.0.1 {NO_HOST}"),
    (("10.0.0.1", "0.0.0.0"), f"computers.ALICE.address: 0.0.0.0 {NO_HOST}"),
    (("10.0.0.1", "255.255.255.255"), f"computers.ALICE.address: 255.255.255.255 {NO_HOST}"),
    (("10.0.0.1", "127.0.0.1"), f"computers.ALICE.address: 127.0.0.1 {NO_HOST}"),
    (("10.0.0.1", "0.1.2.3"), f"computers.ALICE.address: 0.1.2.3 {NO_HOST}"),
    (("10.0.0.1", "10.0.0.2"), "computers: both have the address 10.0.0.2"),
    (('address = "10.0.0.1"', ""), "computers.ALICE.address: missing; accepted: text"),
    (('address = "10.0.0.1"', "address = 1"), "computers.ALICE.address: 1 is not text"),
    # The registry.
    (("CacheSize = 64", "CacheSize = 63"), f"computers.ALICE.registry.CacheSize: 63 is out of range; {KB}"),
    (("CacheSize = 64", "CacheSize = 1025"), f"computers.ALICE.registry.CacheSize: 1025 is out of range; {KB}"),
    (("CacheSize = 64", "SAHashSize = 0"), f"computers.ALICE.registry.SAHashSize: 0 is out of range; {KB}"),
    (
        ("CacheSize = 64", 'SAHashSize = "big"'),
        "computers.ALICE.registry.SAHashSize: 'big' is of the wrong type; accepted: REG_DWORD, 64 to 1024 (KB)",
    ),
    # Policies.
    (
        ('policy = "Lab"\naudit = { logon_events = ["success", "failure"] }\nregistry', 'policy = "Lob"\nregistry'),
        "computers.ALICE.policy: 'Lob' is not known; accepted: Lab, Client (Respond Only), Server (Request Security), "
        "Secure Server (Require Security), a .toml file, a .reg file, a .ldif file, ldap://, ldaps://",
    ),
    (
        ('[[policies]]\nname = "Lab"', '[[policies]]\nname = "Lab"\n[[policies]]\nname = "Lab"'),
        "policies[1].name: 'Lab' is the name of an earlier policy",
    ),
    (("ESP[3DES,SHA1]", "ESP[4DES,SHA1]"), f"policies[0]: rules[0].action.negotiate[0]: '4DES' {ALGORITHMS}"),
    # Profiles.
    (
        ("registry =", 'profile = "windows-95"\nregistry ='),
        "computers.ALICE.profile: 'windows-95' is not known; accepted: windows-2000, windows-2000-update, modern",
    ),
    (("registry =", "profile = 2000\nregistry ="), "computers.ALICE.profile: 2000 is not text"),
    (
        ("ESP[3DES,SHA1]", "ESP[AES-128-GCM]"),
        "computers.ALICE.policy: policy 'Lab', rule '': security method ESP[AES-128-GCM]:100000k/3600s is not of the "
        "profile windows-2000; accepted: ESP[NULL|DES|3DES,MD5|SHA1], AH[MD5|SHA1], AH+ESP, or profile modern",
    ),
    (
        ("3DES-SHA1-1", "3DES-SHA1-14"),
        "computers.ALICE.policy: policy 'Lab': key exchange method 3DES-SHA1-14 is not of the profile windows-2000; "
        "accepted: DES, 3DES with MD5, SHA1 and groups 1, 2, or profile modern",
    ),
    # Times, rates, numbers.
    (("1Gbit/s", "1 Gigabit"), f"link.rate: '1 Gigabit' {RATE}"),
    (("1Gbit/s", "0bit/s"), f"link.rate: '0bit/s' {RATE}"),
    (("5us", "5"), f"link.delay: '5' {DURATION}"),
    (('delay = "5us"', "delay = 5"), "link.delay: 5 is not text"),
    (traffic('pause = "1 day"'), f"traffic.pause: '1 day' {DURATION}"),
    ('reaction = "0s"\n', "reaction: '0s' is not possible; accepted: 1ns or more"),
    ('reaction = "fast"\n', f"reaction: 'fast' {DURATION}"),
    (("seed = 1", "seed = -1"), "seed: -1 is out of range; accepted: 0 to 9223372036854775807"),
    (("seed = 1", "seed = true"), "seed: True is not a whole number"),
    (link("mtu = 67"), "link.mtu: 67 is out of range; accepted: 68 to 65535 bytes"),
    (link("mtu = 65536"), "link.mtu: 65536 is out of range; accepted: 68 to 65535 bytes"),
    (link("mtu = 1500.0"), "link.mtu: 1500.0 is not a whole number"),
    (link("queue = -1"), "link.queue: -1 is out of range; accepted: 0 to 2147483648 bytes (0: 256 KiB)"),
    (traffic("repeat = 0"), "traffic.repeat: 0 is out of range; accepted: 1 to 1000000"),
    (traffic("repeat = 1000001"), "traffic.repeat: 1000001 is out of range; accepted: 1 to 1000000"),
    (
        ("registry =", "hold_packets = 0\nregistry ="),
        "computers.ALICE.hold_packets: 0 is out of range; accepted: 1 to 4096",
    ),
    # Computers and what names them.
    (("[computers.BOB]", "[computers.BOB.audit2]"), "computers.BOB.address: missing; accepted: text"),
    (
        ("[link]", '[computers.CAROL]\naddress = "10.0.0.3"\n[link]'),
        "computers: 3 tables; accepted: two, such as [computers.ALICE]",
    ),
    (("[computers.BOB]", '[computers."B/B"]'), f"computers.'B/B': {NAME}"),
    (("[computers.BOB]", '[computers.""]'), f"computers.'': {NAME}"),
    (("[computers.BOB]", '[computers."..BOB"]'), f"computers.'..BOB': {NAME}"),
    (("[computers.BOB]", '[computers."B\\nB"]'), f"computers.'B\\nB': {NAME}"),
    (("[computers.BOB]", '[computers."result.json"]'), f"computers.'result.json': {NAME}"),
    (link('between = ["ALICE", "CAROL"]'), "link.between: ['ALICE', 'CAROL']; accepted: ['ALICE', 'BOB']"),
    (link('between = ["ALICE", "ALICE"]'), "link.between: ['ALICE', 'ALICE']; accepted: ['ALICE', 'BOB']"),
    (link('between = ["ALICE"]'), "link.between: ['ALICE']; accepted: ['ALICE', 'BOB']"),
    (link('between = "ALICE"'), "link.between: 'ALICE' is not a list"),
    (traffic('hosts = { "10.1" = "BOB" }'), f'traffic.hosts."10.1": {NETWORK}'),
    (traffic('hosts = { "10.0.0.1/24" = "BOB" }'), f'traffic.hosts."10.0.0.1/24": {NETWORK}'),
    (traffic('hosts = { "10.0.0.0/33" = "BOB" }'), f'traffic.hosts."10.0.0.0/33": {NETWORK}'),
    (
        traffic('hosts = { "10.1.0.1" = "CAROL" }'),
        "traffic.hosts.\"10.1.0.1\": 'CAROL' is not a computer; accepted: ALICE, BOB",
    ),
    (
        traffic('hosts = { "10.1.0.1" = ["BOB"] }'),
        "traffic.hosts.\"10.1.0.1\": ['BOB'] is not a computer; accepted: ALICE, BOB",
    ),
    (traffic('place = "cloud"'), "traffic.place: 'cloud' is not known; accepted: hosts, gateways"),
    (traffic('pace = "fast"'), "traffic.pace: 'fast' is not known; accepted: recorded, link"),
    (('traffic = "traffic.pcap"', "traffic = {}"), "traffic.file: missing; accepted: text"),
    (('traffic = "traffic.pcap"', ""), "traffic: missing; accepted: a table"),
    (('traffic = "traffic.pcap"', "traffic = 7"), "traffic: 7 is not a table"),
    # Kinds.
    (("[link]", "[[link]]"), "link: a list is not a table"),
    (("[[policies]]", "[policies]"), "policies: a table is not a list"),
    (
        ('audit = { logon_events = ["success", "failure"] }\nregistry', "audit = 1\nregistry"),
        "computers.ALICE.audit: 1 is not a table",
    ),
    (
        ('["success", "failure"] }\nregistry', '"both" }\nregistry'),
        'computers.ALICE.audit.logon_events: \'both\' is not accepted; accepted: a list of "success", "failure"',
    ),
]


@pytest.mark.parametrize(("change", "message"), WRONG)
def test_wrong(tmp_path: Path, change: Change, message: str) -> None:
    old, new = ("seed = 1\n", "seed = 1\n" + change) if isinstance(change, str) else change
    assert old in SCENARIO
    path = write_scenario(tmp_path, SCENARIO.replace(old, new, 1))
    with pytest.raises(IpsecError) as raised:
        load_scenario(path)
    assert type(raised.value) is ScenarioError
    assert str(raised.value) == f"{path}: {message}"


def test_nothing_secret_is_repeated(tmp_path: Path) -> None:
    text = SCENARIO.replace("[[policies]]", "[policies]").replace("[[policies.rules]]", "[policies.rules]")
    with pytest.raises(ScenarioError, match=r": policies: a table is not a list$"):
        load_scenario(write_scenario(tmp_path, text))
    text = SCENARIO[: SCENARIO.index("[[policies]]")] + f'[traffic]\npolicies = ["{SECRET}"]'
    with pytest.raises(IpsecError) as raised:
        load_scenario(write_scenario(tmp_path, text.replace("traffic = ", "#")))
    assert SECRET not in str(raised.value)


def test_computers_as_numbers(tmp_path: Path) -> None:
    """`between` may hold what is no text; it never names a computer."""
    text = SCENARIO.replace("ALICE", "1").replace("BOB", "2")
    scenario = load_scenario(write_scenario(tmp_path, text.replace('["1", "2"]', "[2, 1]")))
    assert scenario.link.between == ("2", "1")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"name = \n", "not TOML: Invalid value (at line 1, column 8)"),
        (b"\xff\xfe\x00", "not UTF-8 text; accepted: a scenario file (TOML)"),
        (b"", "computers: missing; accepted: a table"),
    ],
)
def test_not_a_scenario(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "x.toml"
    path.write_bytes(content)
    with pytest.raises(ScenarioError) as raised:
        load_scenario(path)
    assert str(raised.value) == f"{path}: {message}"


def test_no_file(tmp_path: Path) -> None:
    missing = tmp_path / "missing.toml"
    for path, reason in ((missing, "No such file or directory"), (tmp_path, "Is a directory")):
        with pytest.raises(ScenarioError) as raised:
            load_scenario(path)
        assert str(raised.value) == f"{path}: {reason}; accepted: a scenario file (TOML)"


@pytest.mark.parametrize("name", ["missing.pcap", "."])
def test_no_traffic(tmp_path: Path, name: str) -> None:
    path = write_scenario(tmp_path, SCENARIO.replace("traffic.pcap", name))
    with pytest.raises(ScenarioError) as raised:
        load_scenario(path)
    place = tmp_path / name
    assert str(raised.value) == f"{path}: traffic.file: {place}: no such file; accepted: a pcap or pcapng capture"
    with pytest.raises(ScenarioError) as raised:
        load_scenario(path, Path("nowhere.pcap"))
    assert str(raised.value) == "--traffic: nowhere.pcap: no such file; accepted: a pcap or pcapng capture"


@pytest.mark.parametrize(
    "line", ['traffic = "missing.pcap"', "", "traffic = { repeat = 3 }", 'traffic = { file = "x", repeat = 3 }']
)
def test_other_traffic(tmp_path: Path, line: str) -> None:
    """--traffic takes the place of the file and leaves the rest."""
    path = write_scenario(tmp_path, SCENARIO.replace('traffic = "traffic.pcap"', line))
    other = tmp_path / "traffic.pcap"
    scenario = load_scenario(path, other)
    assert scenario.traffic.file == other
    assert scenario.traffic.repeat == (3 if "repeat" in line else 1)


def test_files_count_from_the_scenario(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_scenario(tmp_path / "labs")
    monkeypatch.chdir(tmp_path)
    assert load_scenario(Path("labs/scenario.toml")).traffic.file == Path("labs/traffic.pcap")


def test_defaults(tmp_path: Path) -> None:
    text = 'traffic = "traffic.pcap"\n[computers.A]\naddress = "100.64.0.1"\n[computers.B]\naddress = "8.8.8.8"'
    scenario = load_scenario(write_scenario(tmp_path, text))
    assert (scenario.name, scenario.seed, scenario.reaction) == ("scenario", 0, "1ms")
    assert [(c.name, str(c.address), c.policy.policy, c.registry, c.hold_packets) for c in scenario.computers] == [
        ("A", "100.64.0.1", None, {}, 64),
        ("B", "8.8.8.8", None, {}, 64),
    ]
    link = scenario.link
    assert (link.between, link.rate, link.delay, link.mtu, link.queue) == (("A", "B"), "1Gbit/s", "5us", 1500, 0)
    played = scenario.traffic
    assert (played.hosts, played.gateways, played.repeat, played.pause, played.pace) == ((), False, 1, "0s", "recorded")


def test_labs() -> None:
    domain = Reading("", builtin_policy(BUILTIN_NAMES[0]).guid, builtin_objects())
    for path in sorted(LABS.glob("*.toml")):
        scenario = load_scenario(path, directory=lambda address, login: domain)
        names = ["CLIENT", "SERVER"] if path.name == "l2tp.toml" else ["ALICE", "BOB"]
        assert [computer.name for computer in scenario.computers] == names
        assert scenario.traffic.gateways == ("tunnel" in path.name)


def test_all_keys(tmp_path: Path) -> None:
    table = """traffic = { file = "traffic.pcap", place = "gateways", repeat = 5, pause = "2ms", pace = "link",
hosts = { "192.168.1.10" = "ALICE", "192.168.2.0/24" = "BOB" } }"""
    text = SCENARIO.replace('traffic = "traffic.pcap"', table.replace("\n", " ") + '\nreaction = "2ms"')
    text = text.replace(*link('between = ["BOB", "ALICE"]\nmtu = 9000\nqueue = 1000'))
    scenario = load_scenario(write_scenario(tmp_path, text))
    assert scenario.reaction == "2ms"
    assert scenario.link.between == ("BOB", "ALICE")
    assert (scenario.link.mtu, scenario.link.queue) == (9000, 1000)
    played = scenario.traffic
    assert (played.gateways, played.repeat, played.pause, played.pace) == (True, 5, "2ms", "link")
    assert played.hosts == ((IPv4Network("192.168.1.10"), "ALICE"), (IPv4Network("192.168.2.0/24"), "BOB"))
    assert scenario.computers[0].audit.audits("logon_events", success=False)
    assert scenario.computers[0].registry == {"CacheSize": 64}
