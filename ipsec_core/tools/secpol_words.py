"""The words of secpol create and edit: options, and how each is read.

An option is called as in the article and, where netsh ipsec has another word, like that too.
"""

from __future__ import annotations

import socket
import sys
import warnings
from collections.abc import Callable, Mapping
from getpass import GetPassWarning
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, TypeVar

import click

from ipsec_core.errors import PolicyError
from ipsec_core.policy import words
from ipsec_core.policy.methods import DiffieHellmanGroup, SecurityMethod, parse_group
from ipsec_core.policy.model import AuthenticationKind, AuthenticationMethod, ConnectionType, FilterActionKind
from ipsec_core.policy.ranges import DWORD
from ipsec_core.policy.selectors import parse_protocol

_Function = TypeVar("_Function", bound=Callable[..., Any])

ACTIONS = {kind.text: kind for kind in FilterActionKind}
CONNECTIONS = {
    "all": ConnectionType.ALL,
    "lan": ConnectionType.LAN,
    "dialup": ConnectionType.REMOTE_ACCESS,
    "remote_access": ConnectionType.REMOTE_ACCESS,
}
MINUTE = 60
_CERTIFICATE = "certificate:"
_AUTHENTICATION = f"kerberos, {_CERTIFICATE}ROOT CA, preshared (the key comes from --psk-file, or is asked for)"


# ---- the words ------------------------------------------------------------------------------------------------------


class Commands(click.Group):
    """Says what is accepted in place of a wrong command, or of none."""

    def parse_args(self, context: click.Context, arguments: list[str]) -> list[str]:
        if not arguments:
            raise click.UsageError(f"a command is missing; accepted: {', '.join(self.commands)}", context)
        return super().parse_args(context, arguments)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in self.commands:
            raise click.UsageError(f"{name!r} is not a command; accepted: {', '.join(self.commands)}", context)
        return super().get_command(context, name)


def _read(parse: Callable[[str], object]) -> Callable[[click.Context, click.Parameter, Any], Any]:
    """A callback of an option that one of the policy's own readers reads; of each of its values if it has several."""

    def callback(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
        try:
            if isinstance(value, tuple):
                return tuple(parse(one) for one in value)
            return None if value is None else parse(value)
        except PolicyError as error:
            raise click.BadParameter(str(error), context, parameter) from None

    return callback


def _parse_group(text: str) -> DiffieHellmanGroup:
    return parse_group(int(text) if text.isascii() and text.isdigit() and len(text) < 6 else -1)


def _parse_endpoint(text: str) -> IPv4Address:
    try:
        return IPv4Address(text)
    except ValueError:
        raise PolicyError(f"{text!r} is not a tunnel endpoint; accepted: a.b.c.d") from None


def _parse_authentication(text: str) -> AuthenticationMethod | str:
    """A text for a preshared key, which is still to come. What is wrong may be a key, so it is not repeated."""
    word = text.casefold()
    if word == "kerberos":
        return AuthenticationMethod(AuthenticationKind.KERBEROS)
    if word == "preshared":
        return word
    if word.startswith(_CERTIFICATE):
        return AuthenticationMethod(AuthenticationKind.CERTIFICATE, text[len(_CERTIFICATE) :].strip())
    raise PolicyError(f"not an authentication method; accepted: {_AUTHENTICATION}")


_ADDRESSES = _read(lambda text: words.addresses(text, resolve))
# No method at all is not a list of methods.
_KEY_METHODS = _read(lambda text: words.key_exchange_methods(words.list_words(text) or [text]))
_SECURITY_METHODS = _read(lambda text: words.security_methods(text) or (SecurityMethod.parse(text),))
_PORT = click.IntRange(0, 65535)


def _options(*options: Callable[[Any], Any]) -> Callable[[_Function], _Function]:
    def decorate(function: _Function) -> _Function:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


description_option = click.option("--description", metavar="TEXT", help="A line for people.")
new_name_option = click.option("--name", "new_name", metavar="NAME", help="Another name.")

policy_options = _options(
    description_option,
    click.option(
        "--default-response/--no-default-response",
        "--activatedefaultrule/--no-activatedefaultrule",
        "default_response",
        default=None,
        help="Whether the default response rule is active. [new policies: yes]",
    ),
    click.option(
        "--poll",
        "--pollinginterval",
        type=click.IntRange(1, DWORD // MINUTE),
        metavar="MINUTES",
        help="Check for policy changes every MINUTES. [new policies: 180]",
    ),
    click.option(
        "--method",
        "--mmsecmethods",
        "methods",
        multiple=True,
        callback=_KEY_METHODS,
        metavar="METHOD",
        help="Key exchange security method, such as 3DES-SHA1-2; more of them in order of preference.",
    ),
    click.option(
        "--lifetime",
        "--mmlifetime",
        type=click.IntRange(1, DWORD // MINUTE),
        metavar="MINUTES",
        help="Authenticate and generate a new key after every MINUTES. [new policies: 480]",
    ),
    click.option(
        "--sessions",
        "--qmpermm",
        type=click.IntRange(0, DWORD),
        metavar="N",
        help="... or after every N sessions (Quick Modes); 0: no limit. [new policies: 0]",
    ),
    click.option(
        "--pfs/--no-pfs", "--mmpfs/--no-mmpfs", "pfs", default=None, help="Master key Perfect Forward Secrecy."
    ),
    click.option(
        "--soft-lifetime",
        "--softsaexpirationtime",
        type=click.IntRange(0, DWORD),
        metavar="SECONDS",
        help="Soft associations end after SECONDS; 0: when no traffic needs them.",
    ),
)

filter_options = _options(
    click.option(
        "--from",
        "--srcaddr",
        "source",
        callback=_ADDRESSES,
        metavar="ADDRESS",
        help="Source: any, me, a.b.c.d, a.b.c.d/len, a.b.c.d/mask, a DNS name.",
    ),
    click.option(
        "--to", "--dstaddr", "destination", callback=_ADDRESSES, metavar="ADDRESS", help="Destination, the same."
    ),
    click.option(
        "--protocol",
        callback=_read(parse_protocol),
        metavar="PROTOCOL",
        help="any, icmp, tcp, udp, 0 to 255. [new: any]",
    ),
    click.option("--from-port", "--srcport", type=_PORT, metavar="PORT", help="0: any. [new: any]"),
    click.option("--to-port", "--dstport", type=_PORT, metavar="PORT", help="0: any. [new: any]"),
    click.option("--mirrored/--not-mirrored", default=None, help="Also the way back. [new: mirrored]"),
    click.option("--name", "new_name", metavar="NAME", help="A name for people."),
)

action_options = _options(
    description_option,
    click.option("--action", type=click.Choice(list(ACTIONS)), help="[new: negotiate]"),
    click.option(
        "--method",
        "--qmsecmethods",
        "methods",
        multiple=True,
        callback=_SECURITY_METHODS,
        metavar="METHOD",
        help="Security method, such as ESP[3DES,SHA1]:100000k/3600s; more of them in order of preference.",
    ),
    click.option(
        "--accept-unsecured/--no-accept-unsecured",
        "--inpass/--no-inpass",
        "inbound_passthrough",
        default=None,
        help="Accept unsecured communication, but always respond using IPsec.",
    ),
    click.option(
        "--allow-unsecured/--no-allow-unsecured",
        "--soft/--no-soft",
        "allow_unsecured",
        default=None,
        help="Allow unsecured communication with computers that do not know IPsec.",
    ),
    click.option(
        "--pfs/--no-pfs", "--qmpfs/--no-qmpfs", "pfs", default=None, help="Session key Perfect Forward Secrecy."
    ),
    click.option(
        "--pfs-group",
        callback=_read(_parse_group),
        metavar="GROUP",
        help="Its Diffie-Hellman group, by number. [as Main Mode]",
    ),
)

rule_options = _options(
    description_option,
    click.option("--filterlist", "--filter-list", metavar="NAME", help="The traffic: a filter list."),
    click.option("--filteraction", "--filter-action", metavar="NAME", help="What to do with it: a filter action."),
    click.option(
        "--auth",
        "authentication",
        multiple=True,
        callback=_read(_parse_authentication),
        metavar="METHOD",
        help=f"{_AUTHENTICATION}; more of them in order of preference. [new rules: kerberos]",
    ),
    click.option(
        "--psk-file",
        type=click.Path(path_type=Path, allow_dash=True),
        metavar="FILE",
        help="The preshared key: the only line of FILE, - is stdin.",
    ),
    click.option(
        "--tunnel",
        callback=_read(_parse_endpoint),
        metavar="ADDRESS",
        help="Tunnel endpoint: the other gateway, and in the rule for the way back the own address.",
    ),
    click.option(
        "--connection",
        "--conntype",
        "connection",
        type=click.Choice(list(CONNECTIONS)),
        help="Network connections that it is for. [new rules: all]",
    ),
    click.option("--active/--inactive", default=None, help="[new rules: active]"),
)


def resolve(name: str) -> tuple[IPv4Address, ...]:
    """The addresses of a DNS name, as this machine knows them; none of one that it does not know."""
    try:
        found = socket.getaddrinfo(name, None, socket.AF_INET, socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return ()
    return tuple(dict.fromkeys(IPv4Address(address[0]) for *_, address in found))


def ask(what: str, other: str, *, twice: bool = False) -> str:
    """Asks a person for a secret; PolicyError where nobody answers. `other` is the way without a person."""
    try:
        with warnings.catch_warnings():
            # Without a terminal it is read from stdin; that warning is lines of source code.
            warnings.simplefilter("ignore", GetPassWarning)
            answer: str = click.prompt(what, hide_input=True, confirmation_prompt=twice, err=True)
    except click.Abort as error:
        if not isinstance(error.__context__, EOFError):
            raise
        click.echo(err=True)
        raise PolicyError(f"{what}: nobody answers; accepted: {other}, or an answer at the terminal") from None
    return answer


def preshared_key(given: Mapping[str, Any]) -> AuthenticationMethod | None:
    """The key is read before the store is locked: a person may take a while."""
    path: Path | None = given["psk_file"]
    wanted = sum(isinstance(method, str) for method in given["authentication"])
    if wanted > 1:
        raise click.UsageError("--auth preshared: a rule has one preshared key")
    if path is None:
        if not wanted:
            return None
        key = ask("Preshared key", "--psk-file FILE", twice=True)
        return AuthenticationMethod(AuthenticationKind.PRESHARED_KEY, key)
    if given["authentication"] and not wanted:
        raise click.UsageError("--psk-file without --auth preshared; accepted: both, or --psk-file alone")
    place = "stdin" if str(path) == "-" else str(path)
    try:
        data = sys.stdin.buffer.read() if place == "stdin" else path.read_bytes()
        text = data.decode()
    except UnicodeDecodeError:
        raise PolicyError(f"{place}: not UTF-8 text; accepted: one line, the preshared key") from None
    except OSError as error:
        raise PolicyError(f"{place}: {error.strerror}; accepted: a file with one line, the preshared key") from None
    lines = text.removeprefix("\ufeff").splitlines()
    if len(lines) != 1 or not lines[0]:
        raise PolicyError(f"{place}: {len(lines)} lines; accepted: one line, the preshared key")
    return AuthenticationMethod(AuthenticationKind.PRESHARED_KEY, lines[0])
