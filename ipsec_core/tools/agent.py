"""`ipsec-core agent`: one computer in real time."""

from __future__ import annotations

import sys
from ipaddress import AddressValueError, IPv4Address
from pathlib import Path

import click

from ipsec_core.computer.computer import Computer
from ipsec_core.computer.profiles import PROFILES
from ipsec_core.errors import AgentError
from ipsec_core.live.agent import Agent, Settings
from ipsec_core.policy.agent import Directory
from ipsec_core.policy.objects import parse_guid
from ipsec_core.sim.wireshark import write_esp_sa, write_ikev1_table
from ipsec_core.tools.common import Seconds


def _address(context: click.Context, parameter: click.Parameter, value: str) -> IPv4Address:
    try:
        address = IPv4Address(value)
    except AddressValueError:
        raise click.BadParameter(f"{value!r}; accepted: an IPv4 address", context, parameter) from None
    if address.is_loopback:
        raise click.BadParameter(f"{value}; accepted: an address that peers can reach", context, parameter)
    return address


def _report(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _write_keys(directory: Path, computer: Computer) -> None:
    for name in ("esp_sa", "ikev1_decryption_table"):
        (directory / name).touch(mode=0o600)
    write_esp_sa(directory / "esp_sa", computer.keys)
    write_ikev1_table(directory / "ikev1_decryption_table", computer.ike_keys)


def _password(file: Path) -> str:
    try:
        lines = file.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise AgentError(f"{file}: {reason}; accepted: a file with a password in its first line") from None
    return lines[0] if lines else ""


def _directory(
    url: str, gpos: tuple[str, ...], user: str, password: str, account: tuple[str, Path] | None, ca: Path | None
) -> tuple[Directory, str]:
    """And what people call the domain."""
    from ipsec_core.live.ldap import LdapStore
    from ipsec_core.live.ldap_connection import DirectoryServer

    if not user and account is not None:
        server = DirectoryServer(url, account[0], kerberos=True, keytab=account[1], ca_file=ca)
    else:
        server = DirectoryServer(url, user, password, ca_file=ca)
    store = LdapStore(server, [parse_guid(gpo) for gpo in gpos]) if gpos else LdapStore(server)
    parts = [part.strip() for part in server.domain.casefold().split(",")]
    return store, ".".join(part.removeprefix("dc=") for part in parts) if server.domain else server.host


@click.command("agent")
@click.option("--state", required=True, metavar="DIR", type=click.Path(path_type=Path), help="State directory.")
@click.option(
    "--policy",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Local policy (TOML). [default: the one assigned in the registry of DIR]",
)
@click.option("--listen", required=True, metavar="ADDRESS", callback=_address, help="IPv4 address of this computer.")
@click.option("--tun", default="ipsec0", show_default=True, metavar="NAME", help="TUN device for protected traffic.")
@click.option("--name", default="", metavar="NAME", help="Name of the computer. [default: the host's name]")
@click.option(
    "--profile",
    type=click.Choice(list(PROFILES)),
    default="windows-2000",
    show_default=True,
    help="The system that it is.",
)
@click.option("--udp", is_flag=True, help="Pretend a NAT, so that ESP goes in UDP.")
@click.option(
    "--certificates",
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    help="Certificates: FOLDER/own, roots, intermediates, crls.",
)
@click.option("--kerberos", metavar="PRINCIPAL", help="The computer's Kerberos account.")
@click.option("--keytab", metavar="FILE", type=click.Path(path_type=Path), help="Its key.")
@click.option(
    "--domain", metavar="URL", help="The computer's domain, ldap[s]://HOST[:PORT][/DN]; its policy counts first."
)
@click.option("--gpo", multiple=True, metavar="GUID", help="A GPO that applies, several: the last one goes first.")
@click.option(
    "--domain-user", metavar="NAME", help="Who asks the domain. [default: the account of --kerberos, or nobody]"
)
@click.option("--domain-password", metavar="FILE", type=click.Path(path_type=Path), help="The file with its password.")
@click.option(
    "--domain-ca", metavar="FILE", type=click.Path(path_type=Path), help="Who has certified the server (PEM)."
)
@click.option("--key-log", is_flag=True, help="Keep all keys in DIR, in the files of Wireshark's tables.")
@click.option("--trace", is_flag=True, help="Show the lines of Oakley.log, and keep them in DIR (EnableLogging).")
@click.option(
    "--interval",
    type=Seconds(0.1, 3600),
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="Between two writings of DIR.",
)
def command(
    state: Path,
    policy: Path | None,
    listen: IPv4Address,
    tun: str,
    name: str,
    profile: str,
    udp: bool,
    certificates: Path | None,
    kerberos: str | None,
    keytab: Path | None,
    domain: str | None,
    gpo: tuple[str, ...],
    domain_user: str | None,
    domain_password: Path | None,
    domain_ca: Path | None,
    key_log: bool,
    trace: bool,
    interval: float,
) -> None:
    """Run one computer in real time, until SIGTERM or Ctrl-C.

    IKE listens on UDP 500 and 4500 of ADDRESS; what the policy protects or blocks goes through the TUN device. DIR
    shows the running computer to ipsecmon, events and netdiag. SIGHUP reads the policy anew; net stops and starts the
    Policy Agent.
    """
    if (kerberos is None) != (keytab is None):
        raise click.UsageError("--kerberos and --keytab go together")
    if domain is None and (gpo or domain_user or domain_password or domain_ca):
        raise click.UsageError("--gpo and --domain-... go with --domain")
    if (domain_user is None) != (domain_password is None):
        raise click.UsageError("--domain-user and --domain-password go together")
    account = (kerberos, keytab) if kerberos is not None and keytab is not None else None
    directory, place = None, ""
    if domain is not None:
        password = "" if domain_password is None else _password(domain_password)
        directory, place = _directory(domain, gpo, domain_user or "", password, account, domain_ca)
    settings = Settings(
        state,
        policy,
        listen,
        tun,
        name,
        profile,
        key_log,
        trace,
        udp,
        interval,
        certificates,
        account,
        place,
        directory,
    )
    with Agent(settings, _report, write_keys=_write_keys) as agent:
        agent.run()
