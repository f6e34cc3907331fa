"""`ipsec-core events`: the event logs in a state directory (KB 257225, "Event logs")."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import get_args

import click
from rich.text import Text

from ipsec_core.computer.eventlog import Event, Log
from ipsec_core.computer.state import State
from ipsec_core.tools.common import console, directory_argument, json_option, moment, print_json

LOGS: tuple[Log, ...] = get_args(Log)

_STYLES = {"Warning": "yellow", "Error": "red", "Failure Audit": "red"}


@click.command("events")
@directory_argument
@click.option("--log", type=click.Choice(LOGS, case_sensitive=False), help="Only this log.")
@click.option("--id", "event_id", type=click.IntRange(0, 65535), metavar="N", help="Only events with this number.")
@json_option
def command(directory: Path, log: Log | None, event_id: int | None, as_json: bool) -> None:
    """The events of the computer whose state directory is DIR, oldest first.

    The first line of each: seconds in the world's time (an agent's: date and time), type, source, category, number and
    computer. 4268, the number of the article for bad SPIs, finds 4283, the number that Windows 2000 logs.
    """
    with State.open(directory) as state:
        name = state.name
        events = state.event_log().events(log=log, event_id=event_id)
        clock = state.meta("clock")
        audits = bool(state.event_log().events(log="Security"))
    if as_json:
        print_json({"computer": name, "events": [asdict(event) for event in events]})
        return
    screen = console()
    for event in events:
        screen.print(_render(event, clock), soft_wrap=True)
    for line in _remarks(name, events, log, event_id, audits):
        screen.print(Text(line, "dim"), soft_wrap=True)


def _render(event: Event, clock: object) -> Text:
    header = (moment(event.time, clock), event.type, event.source, event.category, str(event.event_id), event.computer)
    style = _STYLES.get(event.type, "green")
    lines = (f"    {line}" for line in event.text.splitlines())
    return Text.assemble(("  ".join(header), f"bold {style}"), *(f"\n{line}" for line in lines), "\n")


def _remarks(name: str, events: Sequence[Event], log: Log | None, event_id: int | None, audits: bool) -> list[str]:
    """Why there is nothing, where the reader may wonder."""
    asked = log == "Security" or (log is None and (event_id is None or not events))
    if asked and not audits:
        return [
            f"The Security log of {name} is empty: nothing was audited "
            "(the audit policy decides what is: Audit logon events, Success and Failure)."
        ]
    if not events:
        what = "no event" if event_id is None else f"no event {event_id}"
        return [f"There is {what} in {f'the {log} log' if log else 'the logs'} of {name}."]
    return []
