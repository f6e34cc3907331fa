"""`ipsec-core agent`: one computer in real time."""

from __future__ import annotations

import sys
from ipaddress import AddressValueError, IPv4Address
from pathlib import Path

import click

from ipsec_core.computer.suites import PROFILES
from ipsec_core.live.agent import Agent, Settings


def _address(context: click.Context, parameter: click.Parameter, value: str) -> IPv4Address:
    try:
        return IPv4Address(value)
    except AddressValueError:
        raise click.BadParameter(f"{value!r}; accepted: an IPv4 address", context, parameter) from None


@click.command("agent")
@click.option("--state", required=True, metavar="DIR", type=click.Path(path_type=Path), help="State directory.")
@click.option("--policy", required=True, metavar="FILE", type=click.Path(path_type=Path), help="Policy (TOML).")
@click.option("--listen", required=True, metavar="ADDRESS", callback=_address, help="IPv4 address of this computer.")
@click.option("--tun", default="ipsec0", show_default=True, metavar="NAME", help="TUN device for protected traffic.")
@click.option("--name", default="", metavar="NAME", help="Name of the computer. [default: the host's name]")
@click.option("--profile", type=click.Choice(PROFILES), default="windows-2000", show_default=True, help="Algorithms.")
@click.option("--udp", is_flag=True, help="Pretend a NAT, so that ESP goes in UDP.")
@click.option("--key-log", is_flag=True, help="Keep all keys in DIR, for Wireshark.")
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
    key_log: bool,
    interval: float,
) -> None:
    """Run one computer in real time, until SIGTERM or Ctrl-C.

    IKE listens on UDP 500 and 4500 of ADDRESS; what the policy protects or blocks goes through the TUN device. DIR
    shows the running computer to ipsecmon, events and netdiag.
    """
    settings = Settings(state, policy, listen, tun, name, profile, key_log, interval, udp)
    with Agent(settings, lambda line: print(line, file=sys.stderr, flush=True)) as agent:
        agent.run()
