"""Scenario files (TOML): computers, their policies, the link, the traffic.

Every error names file, key and what is accepted.

name = "First link"
seed = 2000
epoch = 2026-11-23T12:00:00Z        # the date of second 0, for certificates
realm = "EXAMPLE.COM"               # the domain of all computers: they can authenticate with Kerberos
traffic = "office.pcap"             # or a table, see Traffic

[computers.ALICE]
address = "10.0.0.1"
policy = "Lab"                      # a policy below, a built-in one, a file or an address: see ipsec_core.sim.policies
profile = "windows-2000"            # or "windows-2000-update": NAT-T; "modern": algorithms of today as well
high_encryption = true              # false: export strength, DES at most
certificates = "alice"              # a folder with own, roots, intermediates, crls; needs epoch
rras = true                         # a server of L2TP over IPsec
dial = "BOB"                        # a client of that server; both need certificates
audit = { logon_events = ["success", "failure"] }
registry = { CacheSize = 128 }

[link]
between = ["ALICE", "BOB"]
rate = "1Gbit/s"
delay = "5us"

[[policies]]                        # see ipsec_core.policy.toml
name = "Lab"

[[steps]]
at = 2.5                            # seconds
computer = "ALICE"
do = "restart policyagent"          # or "stop policyagent", "start policyagent", "restart remoteaccess"
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import AddressValueError, IPv4Address, IPv4Network, NetmaskValueError
from pathlib import Path
from typing import TypeVar

from ipsec_core.computer.audit import AuditPolicy
from ipsec_core.computer.certificates import MachineStore
from ipsec_core.computer.computer import Computer
from ipsec_core.computer.credentials import Credentials
from ipsec_core.computer.negotiation import PolicyView
from ipsec_core.computer.profiles import PROFILES, profile_of
from ipsec_core.computer.registry import known_value
from ipsec_core.computer.state import State
from ipsec_core.errors import IpsecError, PolicyError, RegistryError, ScenarioError
from ipsec_core.policy.model import AuthenticationKind, Policy
from ipsec_core.policy.toml import policy_from_table, read_toml
from ipsec_core.sim.policies import Login, PolicySource, ReadDirectory, Sources
from ipsec_core.sim.realm import DEFAULT_EPOCH, Realm
from ipsec_core.sim.units import parse_duration, parse_rate
from ipsec_core.sim.world import DEFAULT_DELAY, DEFAULT_MTU, DEFAULT_RATE, DEFAULT_REACTION

T = TypeVar("T", str, int, dict[str, object], list[object], datetime)
_NO_DATE = datetime.max.replace(tzinfo=UTC)

_THIS_NETWORK = IPv4Network("0.0.0.0/8")  # RFC 1122 3.2.1.3
_TYPES = {
    str: "text",
    int: "a whole number",
    dict: "a table",
    list: "a list",
    datetime: "a date and time with its zone",
}


@dataclass(frozen=True, slots=True)
class ComputerScenario:
    """A computer: its address, policy, profile, audit policy, registry values by name.

    `rras`: it is a server of L2TP; `dial`: the name of the one whose client it is, or empty.
    """

    name: str
    address: IPv4Address
    policy: PolicySource
    profile: str
    audit: AuditPolicy
    registry: dict[str, object]
    hold_packets: int
    high_encryption: bool
    certificates: MachineStore | None
    rras: bool
    dial: str


@dataclass(frozen=True, slots=True)
class LinkScenario:
    """The Ethernet link between two computers, as written."""

    between: tuple[str, str]
    rate: str
    delay: str
    mtu: int
    queue: int


@dataclass(frozen=True, slots=True)
class TrafficScenario:
    """The capture to replay.

    `hosts`: networks of the capture and the computer each belongs to; empty: the two busiest hosts.
    `gateways`: the packets travel unchanged between the two computers; otherwise the computers take the hosts' places.
    `pace`: "recorded" or "link" (as fast as the link takes them).
    """

    file: Path
    hosts: tuple[tuple[IPv4Network, str], ...]
    gateways: bool
    repeat: int
    pause: str
    pace: str


@dataclass(frozen=True, slots=True)
class StepScenario:
    """What happens to a computer at a time: `at` in seconds, `do` a key of `STEPS`."""

    at: float
    computer: str
    do: str


_RESTART_RRAS = "restart remoteaccess"
STEPS: Mapping[str, Callable[[Computer], Callable[[float], None]]] = {
    "stop policyagent": lambda computer: computer.stop,
    "start policyagent": lambda computer: computer.start,
    "restart policyagent": lambda computer: computer.restart_agent,
    _RESTART_RRAS: lambda computer: computer.start_rras,
}
_LAST_STEP = 1e6


@dataclass(frozen=True, slots=True)
class Scenario:
    """A whole scenario; `table` is what the file said."""

    path: Path
    name: str
    seed: int
    reaction: str
    realm: str
    epoch: datetime
    computers: tuple[ComputerScenario, ...]
    link: LinkScenario
    traffic: TrafficScenario
    steps: tuple[StepScenario, ...]
    table: dict[str, object]


# What stands in the folder of results beside the computers' directories.
_TAKEN = frozenset({"link.pcapng", "esp_sa", "ikev1_decryption_table", "result.json", "timing.json"})


def _given(value: object) -> str:
    """A value in a message; tables and lists are not repeated, a preshared key may be in them."""
    return _TYPES[type(value)] if isinstance(value, dict | list) else repr(value)


class _Table:
    """A TOML table being read: every key must be asked for, the rest are errors."""

    def __init__(self, values: Mapping[str, object], where: str) -> None:
        self.values = dict(values)
        self.where = where
        self._known: list[str] = []

    def at(self, key: str) -> str:
        return f"{self.where}{key}"

    def take(self, key: str, kind: type[T], default: T | None = None) -> T:
        self._known.append(key)
        if key not in self.values:
            if default is None:
                raise ScenarioError(f"{self.at(key)}: missing; accepted: {_TYPES[kind]}")
            return default
        value = self.values.pop(key)
        if not isinstance(value, kind) or isinstance(value, bool):
            raise ScenarioError(f"{self.at(key)}: {_given(value)} is not {_TYPES[kind]}")
        return value

    def number(self, key: str, default: int, low: int, high: int, unit: str = "") -> int:
        value = self.take(key, int, default)
        if not low <= value <= high:
            raise ScenarioError(
                f"{self.at(key)}: {value} is out of range; accepted: {low} to {high}{unit and ' ' + unit}"
            )
        return value

    def seconds(self, key: str, high: float) -> float:
        self._known.append(key)
        value = self.values.pop(key, None)
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= high:
            given = "missing" if value is None else f"{_given(value)} is no such time"
            raise ScenarioError(f"{self.at(key)}: {given}; accepted: 0 to {high:g} seconds")
        return float(value)

    def flag(self, key: str, default: bool) -> bool:
        self._known.append(key)
        value = self.values.pop(key, default)
        if not isinstance(value, bool):
            raise ScenarioError(f"{self.at(key)}: {_given(value)} is not true or false")
        return value

    def choice(self, key: str, default: str, accepted: tuple[str, ...]) -> str:
        value = self.take(key, str, default)
        if value not in accepted:
            raise ScenarioError(f"{self.at(key)}: {value!r} is not known; accepted: {', '.join(accepted)}")
        return value

    def table(self, key: str, default: dict[str, object] | None = None) -> _Table:
        return _Table(self.take(key, dict, default), f"{self.at(key)}.")

    def end(self) -> None:
        for key in self.values:
            raise ScenarioError(f"{self.at(key)}: unknown key; accepted: {', '.join(self._known)}")


def load_scenario(path: Path, traffic: Path | None = None, directory: ReadDirectory | None = None) -> Scenario:
    """Reads and checks a scenario; `traffic` takes the place of its traffic file, `directory` reads "ldap://...".

    File names count from the scenario's folder.
    """
    return read_scenario(read_toml(path, "a scenario file", ScenarioError), path, traffic, directory)


def read_scenario(
    table: dict[str, object], path: Path, traffic: Path | None = None, directory: ReadDirectory | None = None
) -> Scenario:
    """The scenario in a parsed TOML document; `path` is for messages and relative file names."""
    top = _Table(table, f"{path}: ")
    name = top.take("name", str, path.stem)
    seed = top.number("seed", 0, 0, 2**63 - 1)
    reaction = top.take("reaction", str, DEFAULT_REACTION)
    if parse_duration(reaction, top.at("reaction")) == 0:
        raise ScenarioError(f"{top.at('reaction')}: {reaction!r} is not possible; accepted: 1ns or more")
    policies = _policies(top)
    machines = top.table("computers")
    if len(machines.values) != 2:
        raise ScenarioError(
            f"{path}: computers: {len(machines.values)} tables; accepted: two, such as [computers.ALICE]"
        )
    epoch = top.take("epoch", datetime, _NO_DATE)
    if epoch.tzinfo is None:
        raise ScenarioError(f"{top.at('epoch')}: {epoch} is not {_TYPES[datetime]}, such as 2026-11-23T12:00:00Z")
    realm = top.take("realm", str, "")
    if not realm.isprintable() or "@" in realm or " " in realm:
        raise ScenarioError(f"{top.at('realm')}: {realm!r} is not the name of a realm; accepted: such as EXAMPLE.COM")
    member = Realm(realm, lambda: 0.0, bytes) if realm else None
    sources = Sources(policies, path.parent, directory)
    computers = tuple(_computer(machines, key, sources, epoch, member) for key in list(machines.values))
    if computers[0].address == computers[1].address:
        raise ScenarioError(f"{path}: computers: both have the address {computers[0].address}")
    names = tuple(computer.name for computer in computers)
    link = _link(top.table("link", {}), (names[0], names[1]))
    played = _traffic(top, path, names, traffic)
    _check_dialling(machines, computers)
    steps = _steps(top, computers)
    top.end()
    began = DEFAULT_EPOCH if epoch == _NO_DATE else epoch
    return Scenario(path, name, seed, reaction, realm, began, computers, link, played, steps, table)


def _policies(top: _Table) -> dict[str, Policy]:
    found: dict[str, Policy] = {}
    for number, table in enumerate(top.take("policies", list, [])):
        where = top.at(f"policies[{number}]")
        if not isinstance(table, dict):
            raise ScenarioError(f"{where}: {_given(table)} is not a table")
        try:
            policy = policy_from_table(table, where)
        except PolicyError as error:
            raise ScenarioError(str(error)) from None
        if policy.name in found:
            raise ScenarioError(f"{where}.name: {policy.name!r} is the name of an earlier policy")
        found[policy.name] = policy
    return found


def _check_dialling(machines: _Table, computers: tuple[ComputerScenario, ...]) -> None:
    for computer in computers:
        others = [other.name for other in computers if other is not computer]
        if computer.dial and computer.dial not in others:
            where = machines.at(f"{computer.name}.dial")
            raise ScenarioError(f"{where}: {computer.dial!r} is not another computer; accepted: {', '.join(others)}")


def _steps(top: _Table, computers: tuple[ComputerScenario, ...]) -> tuple[StepScenario, ...]:
    """In order of time; what a service cannot do at that moment is refused."""
    names = tuple(computer.name for computer in computers)
    servers = {computer.name for computer in computers if computer.rras}
    found: list[tuple[str, StepScenario]] = []
    for number, values in enumerate(top.take("steps", list, [])):
        where = top.at(f"steps[{number}]")
        if not isinstance(values, dict):
            raise ScenarioError(f"{where}: {_given(values)} is not a table")
        table = _Table(values, f"{where}.")
        at = table.seconds("at", _LAST_STEP)
        step = StepScenario(at, table.choice("computer", "", names), table.choice("do", "", tuple(STEPS)))
        table.end()
        found.append((table.at("do"), step))
    found.sort(key=lambda item: item[1].at)
    running = dict.fromkeys(names, True)
    for where, step in found:
        if step.do == _RESTART_RRAS and step.computer not in servers:
            raise ScenarioError(f"{where}: {step.do!r}, but {step.computer} is no server; accepted: with rras = true")
        if running[step.computer] is (step.do == "start policyagent"):
            state = "running" if running[step.computer] else "stopped"
            raise ScenarioError(f"{where}: {step.do!r}, but at {step.at:g} s the service of {step.computer} is {state}")
        running[step.computer] = step.do != "stop policyagent"
    return tuple(step for _, step in found)


def _address(text: str, where: str) -> IPv4Address:
    try:
        return IPv4Address(text)
    except AddressValueError:
        raise ScenarioError(f"{where}: {text!r} is not an address; accepted: IPv4, such as 10.0.0.1") from None


def _computer(machines: _Table, name: str, sources: Sources, epoch: datetime, realm: Realm | None) -> ComputerScenario:
    if not name or not name.isprintable() or "/" in name or name.startswith(".") or name in _TAKEN:
        raise ScenarioError(
            f"{machines.at(repr(name))}: not a computer name; accepted: printable, without /, "
            "not beginning with a dot, not the name of a file of the results"
        )
    table = machines.table(name)
    address = _address(table.take("address", str), table.at("address"))
    if address.is_multicast or address.is_reserved or address.is_loopback or address in _THIS_NETWORK:
        raise ScenarioError(f"{table.at('address')}: {address} is not the address of a host")
    source = _policy(table, sources)
    policy = source.policy
    profile = profile_of(table.choice("profile", "windows-2000", tuple(PROFILES)))
    audit = AuditPolicy.from_table(table.take("audit", dict, {}), table.at("audit"))
    registry = table.take("registry", dict, {})
    _check_registry(registry, table.at("registry"))
    hold = table.number("hold_packets", 64, 1, 4096)
    strong = table.flag("high_encryption", True)
    if not strong and profile.every_algorithm:
        raise ScenarioError(f"{table.at('high_encryption')}: false is not of the profile {profile.name}")
    store = table.take("certificates", str, "")
    certificates = _certificates(table.at("certificates"), sources.folder / store, epoch) if store else None
    rras, dial = table.flag("rras", False), table.take("dial", str, "")
    if (rras or dial) and not (certificates and certificates.usable_roots()) and not _prohibited(registry):
        raise ScenarioError(
            f"{table.at('rras' if rras else 'dial')}: L2TP over IPsec authenticates by certificate; "
            "accepted: beside certificates with one under a trusted root, or ProhibitIpSec = 1 in registry"
        )
    if policy is not None:
        try:
            # Its filters are compiled when it takes effect; here it is whether the computer can carry it out.
            PolicyView(
                policy,
                (),
                profile,
                Credentials(certificates, realm.join(name) if realm else None),
                high_encryption=strong,
            )
        except PolicyError as error:
            kinds = {method.kind for rule in policy.rules for method in rule.authentication_methods}
            lacking = realm is None and AuthenticationKind.KERBEROS in kinds
            hint = (
                '; for Kerberos the scenario needs a realm: realm = "EXAMPLE.COM" above its tables' if lacking else ""
            )
            raise ScenarioError(f"{table.at('policy')}: {error}{hint}") from None
    table.end()
    return ComputerScenario(
        name, address, source, profile.name, audit, registry, hold, strong, certificates, rras, dial
    )


def _prohibited(registry: dict[str, object]) -> bool:
    return any(key.casefold() == "prohibitipsec" and value == 1 for key, value in registry.items())


def _policy(table: _Table, sources: Sources) -> PolicySource:
    where, name, login = table.at("policy"), "", None
    if isinstance(table.values.get("policy"), dict):
        inner = table.table("policy")
        wanted, name = inner.take("from", str), inner.take("name", str, "")
        user = inner.take("user", str, "")
        files = [inner.take(key, str, "") for key in ("password_file", "ca_file")]
        login = Login(user, *(sources.folder / file if file else None for file in files))
        inner.end()
    else:
        wanted = table.take("policy", str, "")
    if not wanted:
        return PolicySource()
    try:
        return sources.find(wanted, name, login)
    except IpsecError as error:
        raise ScenarioError(f"{where}: {error}") from None


def _certificates(where: str, store: Path, epoch: datetime) -> MachineStore:
    if epoch == _NO_DATE:
        raise ScenarioError(f"{where}: the scenario has no epoch; accepted: beside an epoch at which they are valid")
    try:
        return MachineStore.load_folder(store, epoch=epoch)
    except PolicyError as error:
        raise ScenarioError(f"{where}: {error}") from None


def _check_registry(values: dict[str, object], where: str) -> None:
    with State.memory("check") as state:
        for key, value in values.items():
            try:
                item = known_value(key)
            except RegistryError as error:
                raise ScenarioError(f"{where}: {error}") from None
            try:
                state.registry.set_known(key, value)
            except RegistryError as error:
                raise ScenarioError(f"{where}.{str(error).removeprefix(f'{item.key}: ')}") from None


def _link(table: _Table, names: tuple[str, str]) -> LinkScenario:
    between = table.take("between", list, list(names))
    if sorted(map(str, between)) != sorted(names):
        raise ScenarioError(f"{table.at('between')}: {between!r}; accepted: {list(names)!r}")
    rate = table.take("rate", str, DEFAULT_RATE)
    delay = table.take("delay", str, DEFAULT_DELAY)
    parse_rate(rate, table.at("rate"))
    parse_duration(delay, table.at("delay"))
    mtu = table.number("mtu", DEFAULT_MTU, 68, 65535, "bytes")
    queue = table.number("queue", 0, 0, 2**31, "bytes (0: 256 KiB)")
    table.end()
    return LinkScenario((str(between[0]), str(between[1])), rate, delay, mtu, queue)


def _traffic(top: _Table, path: Path, names: tuple[str, ...], override: Path | None) -> TrafficScenario:
    given = top.values.get("traffic")
    if isinstance(given, str):
        top.values["traffic"] = {"file": given}
    if given is None and override is not None:
        top.values["traffic"] = {"file": str(override)}
    table = top.table("traffic")
    file = path.parent / table.take("file", str, "" if override else None)
    hosts = []
    for text, computer in table.take("hosts", dict, {}).items():
        where = table.at(f'hosts."{text}"')
        try:
            network = IPv4Network(text)
        except (AddressValueError, NetmaskValueError, ValueError):
            raise ScenarioError(
                f"{where}: not an address; accepted: IPv4 host or network, such as 10.0.0.1 or 10.0.0.0/24"
            ) from None
        if computer not in names:
            raise ScenarioError(f"{where}: {computer!r} is not a computer; accepted: {', '.join(names)}")
        hosts.append((network, computer))
    place = table.choice("place", "hosts", ("hosts", "gateways"))
    repeat = table.number("repeat", 1, 1, 10**6)
    pause = table.take("pause", str, "0s")
    parse_duration(pause, table.at("pause"))
    pace = table.choice("pace", "recorded", ("recorded", "link"))
    table.end()
    file = override or file
    if not file.is_file():
        raise ScenarioError(
            f"{'--traffic' if override else table.at('file')}: {file}: no such file; accepted: a pcap or pcapng capture"
        )
    return TrafficScenario(file, tuple(hosts), place == "gateways", repeat, pause, pace)
