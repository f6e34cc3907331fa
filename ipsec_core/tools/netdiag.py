"""`ipsec-core netdiag DIR /test:ipsec`: what the Policy Agent has given to the driver (KB 257225, KB 813878)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from ipsec_core.computer.state import Association, State
from ipsec_core.computer.statistics import OAKLEY_STATISTICS
from ipsec_core.policy.compile import DriverFilter
from ipsec_core.policy.model import Policy, Rule
from ipsec_core.policy.selectors import protocol_text
from ipsec_core.policy.toml import policy_to_table
from ipsec_core.tools.common import json_option, moment, print_json

TEST, DEBUG, VERBOSE = "test:ipsec", "debug", "v"
ACCEPTED = f"/{TEST}, /{DEBUG}, /{VERBOSE}"

_STORE = r"SOFTWARE\Policies\Microsoft\Windows\IPSec\Policy"


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What the test found; `policy` None: nothing is assigned."""

    computer: str
    policy: Policy | None
    source: object
    filters: tuple[tuple[DriverFilter, int], ...]
    associations: tuple[Association, ...]
    clock: object
    oakley_statistics: dict[str, int]

    @classmethod
    def read(cls, state: State) -> Diagnosis:
        counters = state.counters()
        return cls(
            computer=state.name,
            policy=state.policy(),
            source=state.meta("policy_source") or "local",
            filters=state.filters(),
            associations=state.associations(),
            clock=state.meta("clock"),
            oakley_statistics={key: counters.get(key, 0) for _, key in OAKLEY_STATISTICS},
        )

    @property
    def path(self) -> str | None:
        """Where Windows 2000 keeps a policy of this identifier, or the copy of a domain's, below HKEY_LOCAL_MACHINE."""
        if self.policy is None:
            return None
        return rf"{_STORE}\{'Local' if self.source == 'local' else 'Cache'}\ipsecPolicy{_guid(self.policy.policy_id)}"

    def to_table(self) -> dict[str, object]:
        """All that the switches can show; preshared keys are hidden."""
        return {
            "computer": self.computer,
            "test": "IP Security",
            "result": "Passed",
            "active_policy": None if self.policy is None else self.policy.name,
            "source": None if self.policy is None else self.source,
            "path": self.path,
            "policy": None if self.policy is None else policy_to_table(self.policy, hide_keys=True),
            "filters": [_filter_table(item, hits) for item, hits in self.filters],
            "associations": [asdict(item) for item in self.associations],
            "oakley_statistics": self.oakley_statistics,
        }

    def lines(self, debug: bool, verbose: bool) -> Iterator[str]:
        """The report, line by line."""
        yield "IP Security test . . . . . . . . . : Passed"
        if self.policy is None:
            yield "    IPSec policy service is active, but no policy is assigned."
            if not self.filters:
                return
        else:
            kind = "Local" if self.source == "local" else "Domain"
            yield f"    {kind} IPSec Policy Active: '{self.policy.name}'"
            yield f"    IP Security Policy Path: {self.path}"
            if self.source == "cache":
                yield "    The domain has not answered since the Policy Agent started: its cached policy is used."
        yield ""
        count = len(self.filters)
        yield f"    There {'is 1 filter' if count == 1 else f'are {count} filters'}"
        if debug:
            for item, hits in self.filters:
                yield from _filter_lines(item, hits)
            yield from _association_lines(self.associations, self.clock)
        if verbose:
            if self.policy is not None:
                yield from _policy_lines(self.policy)
            yield ""
            yield "    ISAKMP/Oakley Statistics"
            for label, key in OAKLEY_STATISTICS:
                yield f"        {label} : {self.oakley_statistics[key]}"


@click.command("netdiag", context_settings={"ignore_unknown_options": True})
@click.argument("words", nargs=-1, metavar=f"DIR /{TEST} [/{DEBUG}] [/{VERBOSE}]", type=click.UNPROCESSED)
@json_option
def command(words: tuple[str, ...], as_json: bool) -> None:
    """The IP Security test of netdiag on the computer whose state directory is DIR.

    /debug adds the driver's filters and the security associations (phase two), /v the policy and the IKE statistics
    (phase one). Switches are as in Windows: any case, with / or -.
    """
    directory, switches = _parse(words)
    with State.open(directory) as state:
        diagnosis = Diagnosis.read(state)
    if as_json:
        print_json(diagnosis.to_table())
    else:
        click.echo("\n".join(diagnosis.lines(DEBUG in switches, VERBOSE in switches)))


def _parse(words: Sequence[str]) -> tuple[Path, set[str]]:
    """The state directory and the switches: the one word that is no switch may itself begin with a slash."""
    directory: Path | None = None
    switches: set[str] = set()
    for word in words:
        name = word[1:].casefold()
        if word[:1] in "/-" and name in (TEST, DEBUG, VERBOSE):
            switches.add(name)
        elif directory is None and not word.startswith("-"):
            directory = Path(word)
        else:
            raise click.UsageError(f"unknown switch {word!r}; accepted: {ACCEPTED}")
    if directory is None:
        raise click.UsageError("DIR is missing: the state directory of a computer")
    if TEST not in switches:
        raise click.UsageError(f"a test is missing; accepted: {ACCEPTED}")
    return directory, switches


def _guid(value: object) -> str:
    return f"{{{str(value).upper()}}}"


def _filter_lines(item: DriverFilter, hits: int) -> Iterator[str]:
    tunnel = item.tunnel_endpoint
    source, destination = item.source, item.destination
    yield f"    {item.name or 'No Name'}"
    yield f"        Filter Id: {_guid(item.filter_id)}"
    yield f"        Policy Id: {_guid(item.policy_id)}"
    yield f"        Src Addr : {source.network_address!s:<15}  Src Mask : {source.netmask}"
    yield f"        Dest Addr : {destination.network_address!s:<15}  Dest Mask : {destination.netmask}"
    ports = f"Src Port : {item.source_port}  Dest Port : {item.destination_port}"
    yield f"        Tunnel Addr : {tunnel or '0.0.0.0'}  {ports}"
    yield f"        Protocol : {item.protocol}  TunnelFilter: {'Yes' if tunnel else 'No'}"
    yield f"        Flags : {item.flags}"
    yield f"        Packets : {hits}"


def _filter_table(item: DriverFilter, hits: int) -> dict[str, object]:
    return {
        "name": item.name,
        "filter_id": str(item.filter_id),
        "policy_id": str(item.policy_id),
        "direction": item.direction,
        "action": item.action,
        "source": str(item.source),
        "destination": str(item.destination),
        "tunnel_endpoint": None if item.tunnel_endpoint is None else str(item.tunnel_endpoint),
        "protocol": item.protocol,
        "source_port": item.source_port,
        "destination_port": item.destination_port,
        "packets": hits,
    }


def _association_lines(associations: Sequence[Association], clock: object) -> Iterator[str]:
    yield ""
    count = len(associations)
    yield f"    There {'is 1 security association' if count == 1 else f'are {count} security associations'}"
    for item in associations:
        yield f"    {item.filter_name or 'No Name'}"
        yield f"        {item.direction.capitalize()} {item.source_address} to {item.destination_address}"
        yield f"        SPI : {item.spi} ({item.spi:#010x})  Peer : {item.peer}"
        yield f"        Security : {item.security}  Protocol : {protocol_text(item.protocol)}"
        established = "" if item.established is None else f"  Established : {moment(item.established, clock)}"
        yield f"        Bytes : {item.bytes}  Packets : {item.packets}{established}"


def _policy_lines(policy: Policy) -> Iterator[str]:
    exchange = policy.key_exchange
    yield ""
    yield f"    Policy settings of '{policy.name}'"
    if policy.description:
        yield f"        Description : {policy.description}"
    yield f"        Check for policy changes every {policy.polling_interval_seconds} s"
    yield f"        Key Exchange Methods : {', '.join(map(str, exchange.methods))}"
    yield f"        Main Mode Lifetime : {exchange.lifetime_seconds} s"
    yield f"        Master Key PFS : {_yes(exchange.master_key_pfs)}"
    for number, rule in enumerate(policy.rules):
        yield from _rule_lines(number, rule)


def _rule_lines(number: int, rule: Rule) -> Iterator[str]:
    action = rule.filter_action
    yield f"    Rule {number} : {rule.name or 'No Name'}{'' if rule.active else ' (not active)'}"
    yield f"        Filter Action : {action.action.text.capitalize()}"
    if not action.methods:
        return
    for method in action.methods:
        yield f"            {method}"
    yield (
        f"        Accept Unsecured : {_yes(action.inbound_passthrough)}  "
        f"Allow Unsecured : {_yes(action.allow_unsecured)}  PFS : {_yes(action.pfs)}"
    )
    methods = (item.kind.name.replace("_", " ").capitalize() for item in rule.authentication_methods)
    yield f"        Authentication Methods : {', '.join(methods)}"
    yield f"        Tunnel Endpoint : {rule.tunnel_endpoint or 'none'}"


def _yes(value: bool) -> str:
    return "Yes" if value else "No"
