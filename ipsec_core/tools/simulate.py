"""`ipsec-core simulate`: a scenario in virtual time, with progress while it runs and the monitors at its end."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.progress import BarColumn, TaskProgressColumn, TextColumn
from rich.progress import Progress as Bar
from rich.text import Text

from ipsec_core.errors import ScenarioError
from ipsec_core.live.ldap import LdapStore
from ipsec_core.live.ldap_connection import DirectoryServer
from ipsec_core.policy.agent import Reading
from ipsec_core.sim.policies import Login
from ipsec_core.sim.run import Progress, Result
from ipsec_core.sim.run import simulate as run_scenario
from ipsec_core.tools.common import console, json_option, print_json
from ipsec_core.tools.ipsecmon import read

Report = Callable[[Progress], None]

_SECONDS_BETWEEN_LINES = 1.0


@click.command("simulate")
@click.argument("scenario", type=click.Path(path_type=Path))
@click.option("--out", required=True, metavar="DIR", type=click.Path(path_type=Path), help="Where the results go.")
@click.option(
    "--traffic", metavar="FILE", type=click.Path(path_type=Path), help="Capture to replay instead of the scenario's."
)
@click.option("--quiet", is_flag=True, help="No progress and no report; notes and errors go to stderr.")
@json_option
def command(scenario: Path, out: Path, traffic: Path | None, quiet: bool, as_json: bool) -> None:
    """Run SCENARIO (a TOML file) in virtual time.

    DIR gets link.pcapng, result.json, timing.json, keys for Wireshark, and a state directory for each computer.
    """
    with _progress(quiet) as report:
        result = run_scenario(scenario, out, traffic=traffic, directory=_read_directory, progress=report)
    if as_json:
        print_json(_table(result))
    elif not quiet:
        _print(result)
    if as_json or quiet:
        for note in result.notes:
            click.echo(f"note: {note}", err=True)


def _read_directory(address: str, login: Login) -> Reading:
    file = login.password_file
    try:
        password = file.read_text(encoding="utf-8").rstrip("\r\n") if file else ""
    except (OSError, UnicodeDecodeError):
        raise ScenarioError(f"{file}: cannot be read; accepted: a file with the password of {login.user!r}") from None
    return LdapStore(DirectoryServer(address, login.user, password, ca_file=login.ca_file)).read()


@contextmanager
def _progress(quiet: bool) -> Iterator[Report | None]:
    screen = console(stderr=True)
    if quiet:
        yield None
    elif not screen.is_terminal:
        lines = _Lines()
        yield lines.report
        lines.finish()
    else:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[text]}"),
        )
        with Bar(*columns, console=screen, transient=True) as bar:
            task = bar.add_task("Simulating", total=None, text="")

            def report(state: Progress) -> None:
                bar.update(task, completed=state.packets, total=state.total_packets, text=_text(state))

            yield report


class _Lines:
    """Progress where there is no terminal: a line at most every second of real time, and the last state."""

    def __init__(self) -> None:
        self._printed = time.monotonic()
        self._waiting: Progress | None = None

    def report(self, state: Progress) -> None:
        self._waiting = state
        if time.monotonic() - self._printed >= _SECONDS_BETWEEN_LINES:
            self.finish()

    def finish(self) -> None:
        if self._waiting is not None:
            total = self._waiting.total_packets
            share = f"{100 * self._waiting.packets // total:3d} %  " if total else ""
            print(f"{share}{_text(self._waiting)}", file=sys.stderr, flush=True)
        self._printed = time.monotonic()
        self._waiting = None


def _text(state: Progress) -> str:
    rate = state.packets / state.wall_seconds / 1e6 if state.wall_seconds else 0.0
    return f"{state.simulated_seconds:.3f} s simulated  {state.packets:,} packets  {rate:.3f} Mpkt/s"


def _table(result: Result) -> dict[str, object]:
    return {
        "out": str(result.out),
        "computers": list(result.computers),
        "result": result.data,
        "timing": result.timing,
        "notes": list(result.notes),
    }


def _print(result: Result) -> None:
    screen = console()
    for name in result.computers:
        screen.print(read(result.out / name))
    for note in result.notes:
        screen.print(Text(f"Note: {note}", "yellow"), soft_wrap=True)
    timing = result.timing
    screen.print(
        f"{result.data['traffic']['packets']:,} packets, {result.data['link']['bytes_on_wire']:,} bytes on the wire, "
        f"{result.data['simulated_seconds']:.6f} s simulated in {timing['wall_seconds']:.3f} s: "
        f"{timing['packets_per_wall_second']:,.0f} packets per wall second",
        soft_wrap=True,
    )
    first = result.out / result.computers[0] if result.computers else result.out
    screen.print(f"Results: {result.out}", soft_wrap=True)
    screen.print("Next:", soft_wrap=True)
    for rest in ("ipsecmon {} --once", "events {}", "netdiag {} /test:ipsec /debug"):
        screen.print(f"  ipsec-core {rest.format(first)}", soft_wrap=True)
