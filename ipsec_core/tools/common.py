"""What the tools share: the console, JSON output, and the argument that names a state directory."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import datetime
from math import isnan
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.console import Console

PATIENCE = 15.0
"""Seconds to wait for other writers: people, and an agent, which lets others in every second."""

_Function = TypeVar("_Function", bound=Callable[..., Any])


class Seconds(click.FloatRange):
    """A range of seconds; "nan" is in none, though it compares with no limit."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        seconds: float = super().convert(value, param, ctx)
        if isnan(seconds):
            self.fail(f"{value!r} is not a number of seconds.", param, ctx)
        return seconds


def console(stderr: bool = False) -> Console:
    """Colour on a terminal only, NO_COLOR honoured; texts are printed as they are: "[3DES,SHA1]" is no markup."""
    return Console(stderr=stderr, markup=False, emoji=False, highlight=False, soft_wrap=False)


def moment(seconds: float, clock: object) -> str:
    """A time as people read it: of day where the state's `clock` is "unix" (an agent's), else of the world."""
    if clock != "unix":
        return f"{seconds:.6f} s"
    return datetime.fromtimestamp(seconds).isoformat(" ", "milliseconds")


def print_json(value: object) -> None:
    """One JSON document on stdout, keys in the order given, no colour."""
    json.dump(value, sys.stdout, indent=2)
    sys.stdout.write("\n")


def json_option(function: _Function) -> _Function:
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document, for programs.")(function)


def directory_argument(function: _Function) -> _Function:
    """DIR as a Path; whether it is a state directory is for `State.open` to say."""
    return click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))(function)


def counted(number: int, what: str) -> str:
    """ "no filter", "1 filter", "2 filters"."""
    return f"{number or 'no'} {what}{'' if number == 1 else 's'}"
