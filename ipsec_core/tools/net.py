"""`ipsec-core net`: the services of a computer that runs, as net start and net stop of Windows 2000."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import click

from ipsec_core.live.control import ask
from ipsec_core.tools.common import counted, json_option, print_json

SERVICE = "IPSEC Policy Agent"
_NAMES = ("policyagent", SERVICE.casefold())
_DONE = {
    "start": "The {service} service was started successfully.",
    "stop": "The {service} service was stopped successfully.",
    "restart": "The {service} service was restarted successfully.",
    "update": "The {service} service has read its policy again.",
}
_WORDS = (*_DONE, "status")
_SOURCES = {
    "domain": "Group Policy from Active Directory",
    "cache": "Group Policy, the cached copy",
    "local": "local computer policy",
}


@click.command("net")
@click.argument("words", nargs=-1, metavar="start|stop|restart|update|status [policyagent]")
@click.option(
    "--state",
    default=Path(),
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="State directory of a running agent. [default: the current folder]",
)
@json_option
def command(words: tuple[str, ...], state: Path, as_json: bool) -> None:
    """Start and stop the IPSEC Policy Agent of a running computer.

    stop ends all its SAs and its protection; start and restart begin with the policy as it is then, and with statistics
    at 0; update reads the policy again without a restart; status tells which one is in effect. start without a name
    lists the services that run. Words may be in capitals.
    """
    do, name = _parsed(words)
    if do == "start" and not name:
        status = ask(state, "status")
        if as_json:
            print_json({"services": [SERVICE] if status["running"] else []})
        else:
            click.echo(f"These services run on {status['name']}:" if status["running"] else "No service runs.")
            click.echo(f"   {SERVICE}\n" if status["running"] else "", nl=False)
        return
    if do == "status":
        _print_status(ask(state, "status"), as_json)
        return
    answer = ask(state, do)
    if as_json:
        print_json(answer)
    else:
        click.echo(f"{_DONE[do].format(service=SERVICE)}\n{_sentence(str(answer['text']))}")


def _parsed(words: tuple[str, ...]) -> tuple[str, str]:
    accepted = f"{', '.join(_WORDS)}, each with policyagent"
    do = words[0].casefold() if words else ""
    name = " ".join(words[1:]).casefold()
    if do not in _WORDS:
        raise click.UsageError(
            f"{words[0]!r} is no command; accepted: {accepted}" if words else f"accepted: {accepted}"
        )
    if name not in _NAMES and (name or do not in ("start", "status")):
        given = f"{' '.join(words[1:])!r} is no service" if name else f"{do} needs a service"
        raise click.UsageError(f"{given}; accepted: policyagent")
    return do, name


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _print_status(status: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(status)
        return
    lines = [("Service", f"{SERVICE} of {status['name']}"), ("State", "running" if status["running"] else "stopped")]
    if status["running"]:
        lines.append(("Policy", status["policy"] or "none"))
    if status["source"]:
        lines.append(("Source", _SOURCES[status["source"]]))
    if status["dynamic_rules"]:
        lines.append(("Beside it", counted(status["dynamic_rules"], "dynamic rule")))
    if status["since"] is not None:
        lines.append(("Since", _time(status["since"])))
    if status["domain"]:
        lines.append(("Domain", status["domain"]))
    if status["next_poll"] is not None:
        lines.append(("Asked next", _time(status["next_poll"])))
    if status["domain_failure"]:
        lines.append(("Failure", status["domain_failure"]))
    for label, text in lines:
        click.echo(f"{label:<12}{text}")


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).isoformat(" ", "seconds")
