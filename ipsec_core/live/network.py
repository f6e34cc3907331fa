"""What the kernel has to know so that protected traffic comes to the TUN device, and how it forgets it again.

A routing table of our own has a route into the device for every destination that the policy protects or blocks. A rule
leads all traffic there first, but that of our own sockets, which bear a mark: so that host-to-host traffic can be
protected although its IPsec packets have the same addresses. What no route of the table fits goes on as always.
"""

from __future__ import annotations

import socket
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from ipsec_core.errors import AgentError
from ipsec_core.live.devices import MARK
from ipsec_core.live.guard import Guard
from ipsec_core.policy.compile import DriverFilter

RULE_PRIORITY = 500
_TABLES = 0x49500000  # "IP"; the rest is of the device's name
_INVERT = 0x2  # FIB_RULE_INVERT: for packets that do not bear the mark
_LOOSE = "2"
_SETTINGS = Path("/proc/sys/net")
# Bytes that a TCP segment of the kernel may have, so that it fits one message of UDP_SEGMENT once it is protected.
_LARGEST = 60000


@dataclass(frozen=True, slots=True)
class Link:
    """The interface that has the agent's address."""

    name: str
    mtu: int
    index: int
    address: IPv4Address


@dataclass(frozen=True, slots=True)
class Route:
    """Traffic to a network goes into the TUN device, with this source address unless its sender says another one."""

    destination: IPv4Network
    source: IPv4Address | None


def routing_table(tun: str) -> int:
    """The number of a device's routing table: the same in every run."""
    return _TABLES | zlib.crc32(tun.encode()) & 0xFFFF


def routes(filters: Iterable[DriverFilter], addresses: Iterable[IPv4Address]) -> tuple[Route, ...]:
    """The routes that filters ask for: what goes out and is negotiated or blocked has to pass the driver."""
    mine = tuple(addresses)
    found: dict[IPv4Network, Route] = {}
    for item in filters:
        if item.direction == "outbound" and item.action in ("negotiate", "block"):
            source = next((one for one in mine if one in item.source), None)
            known = found.get(item.destination)
            if known is None or known.source is None:
                found[item.destination] = Route(item.destination, source)
    return tuple(found.values())


def link_of(address: IPv4Address) -> Link:
    """The interface of an address; AgentError when no interface has it."""
    with _netlink() as ipr:
        for item in ipr.get_addr(family=socket.AF_INET):
            if item.get_attr("IFA_LOCAL") == str(address):
                link = ipr.get_links(item["index"])[0]
                return Link(link.get_attr("IFLA_IFNAME"), link.get_attr("IFLA_MTU"), item["index"], address)
    raise AgentError(f"address {address}: not one of this computer; accepted: an address of an interface")


def addresses() -> tuple[IPv4Address, ...]:
    """The IPv4 addresses of this computer, loopback ones last."""
    with _netlink() as ipr:
        found = {IPv4Address(item.get_attr("IFA_LOCAL")) for item in ipr.get_addr(family=socket.AF_INET)}
    return tuple(sorted(found, key=lambda one: (one.is_loopback, one)))


class Network:
    """Device, routes and rule of one agent; `down` takes back all that was done.

    AgentError when that is not permitted.
    """

    def __init__(self, tun: str, link: Link) -> None:
        self.tun = tun
        self.link = link
        self.table = routing_table(tun)
        self._filter: tuple[Path, str] | None = None
        self._guard = Guard.of(link.index, link.address, tun)

    def up(self, mtu: int, wanted: tuple[Route, ...]) -> None:
        """Also takes over what a run that was killed has left: its rule."""
        with _netlink() as ipr:
            self._drop_rules(ipr)
            index = ipr.link_lookup(ifname=self.tun)[0]
            _set("ipv6", self.tun, "disable_ipv6", "1")
            _set("ipv4", self.tun, "rp_filter", _LOOSE)
            ipr.link("set", index=index, mtu=mtu, state="up")
            with suppress(NetlinkError):  # older kernels
                ipr.link("set", index=index, gso_max_size=_LARGEST)
            self._routes(ipr, index, wanted)
            ipr.rule("add", family=socket.AF_INET, priority=RULE_PRIORITY, table=self.table, fwmark=MARK, flags=_INVERT)
        self._loosen()

    def guard(self, sources: tuple[IPv4Network, ...]) -> str | None:
        """Clear packets from these networks have to pass the driver. Says why they cannot, None: they do."""
        with _netlink() as ipr:
            try:
                self._guard.up(ipr, ipr.link_lookup(ifname=self.tun)[0], sources)
            except NetlinkError as error:
                return str(error.args[-1])
        return None

    def change(self, mtu: int, wanted: tuple[Route, ...]) -> None:
        """Other routes take the place of those that are there."""
        with _netlink() as ipr:
            index = ipr.link_lookup(ifname=self.tun)[0]
            ipr.link("set", index=index, mtu=mtu)
            self._routes(ipr, index, wanted)

    def down(self) -> None:
        """The device itself goes when its descriptor is closed, and its routes with it."""
        with _netlink() as ipr:
            self._drop_rules(ipr)
            self._guard.down(ipr)
            with suppress(NetlinkError):
                ipr.flush_routes(table=self.table, family=socket.AF_INET)
        if self._filter is not None:
            with suppress(OSError):
                self._filter[0].write_text(self._filter[1])

    def _routes(self, ipr: Any, index: int, wanted: tuple[Route, ...]) -> None:
        ipr.flush_routes(table=self.table, family=socket.AF_INET)
        for route in wanted:
            options = {"prefsrc": str(route.source)} if route.source else {}
            ipr.route("add", dst=str(route.destination), oif=index, table=self.table, scope="link", **options)

    def _drop_rules(self, ipr: Any) -> None:
        for item in ipr.get_rules(family=socket.AF_INET):
            if item.get_attr("FRA_TABLE") == self.table:
                ipr.rule("del", family=socket.AF_INET, priority=item.get_attr("FRA_PRIORITY"), table=self.table)

    def _loosen(self) -> None:
        """A strict reverse path filter refuses IPsec packets of a peer whose traffic is routed into the device."""
        own = _SETTINGS / "ipv4" / "conf" / self.link.name / "rp_filter"
        everywhere = _SETTINGS / "ipv4" / "conf" / "all" / "rp_filter"
        values = [path.read_text().strip() for path in (own, everywhere)]
        if "1" in values and _LOOSE not in values:
            self._filter = (own, values[0])
            own.write_text(_LOOSE)


def _set(family: str, device: str, name: str, value: str) -> None:
    with suppress(FileNotFoundError):
        (_SETTINGS / family / "conf" / device / name).write_text(value)


@contextmanager
def _netlink() -> Iterator[Any]:
    try:
        with IPRoute() as ipr:
            yield ipr
    except NetlinkError as error:
        raise AgentError(f"network: {error.args[-1]}; accepted: root, or CAP_NET_ADMIN") from None
