"""`ipsec-core agent`: one computer in real time."""

from __future__ import annotations

import sys
from ipaddress import AddressValueError, IPv4Address
from pathlib import Path

import click

from ipsec_core.computer.computer import Computer
from ipsec_core.computer.profiles import PROFILES
from ipsec_core.live.agent import Agent, Settings
from ipsec_core.sim.wireshark import write_esp_sa, write_ikev1_table


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


@click.command("agent")
@click.option("--state", required=True, metavar="DIR", type=click.Path(path_type=Path), help="State directory.")
@click.option("--policy", required=True, metavar="FILE", type=click.Path(path_type=Path), help="Policy (TOML).")
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
@click.option("--key-log", is_flag=True, help="Keep all keys in DIR, in the files of Wireshark's tables.")
@click.option("--trace", is_flag=True, help="Show the lines of Oakley.log, and keep them in DIR (EnableLogging).")
@click.option(
    "--interval",
    type=click.FloatRange(0.1, 3600),
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="Between two writings of DIR.",
)
def command(
    state: Path,
    policy: Path,
    listen: IPv4Address,
    tun: str,
    name: str,
    profile: str,
    udp: bool,
    certificates: Path | None,
    kerberos: str | None,
    keytab: Path | None,
    key_log: bool,
    trace: bool,
    interval: float,
) -> None:
    """Run one computer in real time, until SIGTERM or Ctrl-C.

    IKE listens on UDP 500 and 4500 of ADDRESS; what the policy protects or blocks goes through the TUN device. DIR
    shows the running computer to ipsecmon, events and netdiag. SIGHUP reads the policy anew.
    """
    if (kerberos is None) != (keytab is None):
        raise click.UsageError("--kerberos and --keytab go together")
    account = (kerberos, keytab) if kerberos is not None and keytab is not None else None
    settings = Settings(state, policy, listen, tun, name, profile, key_log, trace, udp, interval, certificates, account)
    with Agent(settings, _report, write_keys=_write_keys) as agent:
        agent.run()
