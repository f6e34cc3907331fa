"""The command line `ipsec-core`: all tools, each imported when it is used, and the one place for errors."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import click

from ipsec_core import __version__
from ipsec_core.errors import IpsecError

TOOLS = {
    "simulate": "Run a scenario in virtual time and keep the results.",
    "agent": "Run one computer in real time, on sockets and a TUN device.",
    "ipsecmon": "IP Security Monitor: associations and statistics of a computer.",
    "events": "The event logs of a computer.",
    "netdiag": "Policy and driver filters of a computer, as netdiag /test:ipsec.",
    "net": "Start and stop the Policy Agent of a running computer.",
    "secpol": "IPsec policies: list, show, edit, assign, check, exchange.",
    "reg": "The registry of a computer, and files of the Registry Editor.",
    "bench": "Measure the engine against its peers, side by side.",
}
"""Every tool and its line in the list; the command is `command` of the module of the same name."""


class Tools(click.Group):
    """Imports a tool when it is named, so that the list and wrong commands cost nothing."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(TOOLS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in TOOLS:
            raise click.UsageError(f"{name!r} is not a tool; accepted: {', '.join(TOOLS)}", context)
        command: click.Command = importlib.import_module(f"ipsec_core.tools.{name}").command
        return command

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Tools"):
            formatter.write_dl(list(TOOLS.items()))

    def main(  # type: ignore[override]
        self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any
    ) -> NoReturn:
        """Runs a tool and exits: 0, 2 with one line on stderr for wrong input, 130 for Ctrl-C."""
        extra["standalone_mode"] = False
        sys.exit(_status(lambda: click.Group.main(self, args, prog_name or self.name, **extra)))


def _status(run: Callable[[], object]) -> int:
    try:
        status = run()
        sys.stdout.flush()
        return status if isinstance(status, int) else 0
    except click.UsageError as error:
        place = error.ctx.command_path if error.ctx is not None else "ipsec-core"
        return _refuse(place, error.format_message())
    except click.ClickException as error:
        return _refuse("ipsec-core", error.format_message())
    except IpsecError as error:
        return _refuse("ipsec-core", str(error))
    except BrokenPipeError:
        # Whoever read our output has seen enough; the interpreter must not flush into the pipe again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        return _refuse("ipsec-core", f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except click.Abort:
        return 130


def _refuse(place: str, text: str) -> int:
    print(f"{place}: {' '.join(text.splitlines())}", file=sys.stderr)
    return 2


@click.command(
    "ipsec-core", cls=Tools, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(__version__)
@click.pass_context
def main(context: click.Context) -> None:
    """The Windows 2000 IPsec subsystem (Microsoft KB 257225) as an engine: simulate, watch, troubleshoot, measure."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())
