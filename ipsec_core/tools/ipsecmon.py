"""`ipsec-core ipsecmon`: IP Security Monitor on a state directory (KB 257225, "Using IP Security Monitor")."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import click
from rich.live import Live

from ipsec_core.computer.state import State
from ipsec_core.tools.common import Seconds, console, directory_argument, json_option, print_json
from ipsec_core.tools.monitor_screen import Monitor

DEFAULT_INTERVAL = 15.0
"""Seconds between two looks, as in Windows 2000 (KB 231587)."""


@click.command("ipsecmon")
@directory_argument
@click.option(
    "--once", is_flag=True, help="Print the screen once and end; so it is anyway where stdout is no terminal."
)
@click.option(
    "--interval",
    type=Seconds(min=0.1),
    default=DEFAULT_INTERVAL,
    show_default=True,
    metavar="SECONDS",
    help="Time between two updates.",
)
@json_option
def command(directory: Path, once: bool, interval: float, as_json: bool) -> None:
    """IP Security Monitor of the computer whose state directory is DIR, until Ctrl-C.

    The upper box has the security associations ("None" under Security is a soft one), the lower ones the statistics
    and whether IP Security is enabled.
    """
    monitor = read(directory)
    screen = console()
    if as_json:
        print_json(monitor.to_table())
    elif once or not screen.is_terminal:
        screen.print(monitor)
    else:
        with Live(console=screen, screen=True, auto_refresh=False) as live:
            while True:
                live.update(replace(monitor, height=screen.height), refresh=True)
                time.sleep(interval)
                monitor = read(directory)


def read(directory: Path) -> Monitor:
    """What the monitor shows of a state directory now; StateError."""
    with State.open(directory) as state:
        return Monitor.read(state)
