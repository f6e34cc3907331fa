"""Clear packets that come in have to pass the driver, too: it knows which the policy takes and which should be secured.

Where they arrive, before the kernel sees them, those to our address that an inbound filter of the policy is about are
redirected into the TUN device (traffic control: ingress, u32, mirred). What comes out of it with our address as its
destination is such a packet. IPsec packets and whole IKE datagrams stay with the kernel, which has our sockets; all
fragments but those of IPsec packets go the long way, since only the first one of a datagram says what it is.
"""

from __future__ import annotations

import socket
import zlib
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from pyroute2.netlink.exceptions import NetlinkError

from ipsec_core.live.devices import IKE_PORT, NAT_T_PORT
from ipsec_core.policy.compile import DriverFilter

_INGRESS = 0xFFFFFFF2  # of an ingress and of a clsact queueing discipline
_IP = 0x0800
_CLASS = 0x10001
_ESP, _AH = 50, 51


def guarded(filters: Iterable[DriverFilter], address: IPv4Address) -> tuple[IPv4Network, ...]:
    """The sources whose packets to us the driver has to see: what is negotiated or blocked in transport mode."""
    return tuple(
        dict.fromkeys(
            item.source
            for item in filters
            if item.direction == "inbound"
            and item.action != "permit"
            and item.tunnel_endpoint is None
            and address in item.destination
        )
    )


@dataclass(slots=True)
class Guard:
    """The redirection of one agent on one interface, `link` and `tun` by their indices."""

    link: int
    address: IPv4Address
    priority: int
    made: bool = False

    @classmethod
    def of(cls, link: int, address: IPv4Address, tun: str) -> Guard:
        """Priorities come from the device's name, so that a later run finds what a dead one has left."""
        return cls(link, address, 1000 + (zlib.crc32(tun.encode()) & 0x1FFF) * 2)

    def up(self, ipr: Any, tun: int, sources: Iterable[IPv4Network]) -> None:
        """Replaces what is there. NetlinkError when the kernel cannot do that."""
        self._remove(ipr)
        found = tuple(sources)
        if not found:
            return
        try:
            ipr.tc("add", "ingress", self.link)
            self.made = True
        except NetlinkError as error:
            if error.code != 17:  # EEXIST: somebody has one, which serves as well
                raise
        for protocol in (_ESP, _AH):
            self._add(ipr, self.priority, [_key(protocol << 16, 0xFF0000, 8)])
        for port in (IKE_PORT, NAT_T_PORT):
            whole = [_key(socket.IPPROTO_UDP << 16, 0xFF0000, 8), _key(0, 0x3FFF, 4), _key(port, 0xFFFF, 20)]
            self._add(ipr, self.priority, [_key(0x45 << 24, 0xFF << 24, 0), *whole])
        action = {"kind": "mirred", "direction": "egress", "action": "redirect", "ifindex": tun}
        to_us = _key(int(self.address), 0xFFFFFFFF, 16)
        for source in found:
            keys = [_key(int(source.network_address), int(source.netmask), 12), to_us]
            self._add(ipr, self.priority + 1, keys, action=action)

    def down(self, ipr: Any) -> None:
        self._remove(ipr)
        if self.made and not ipr.get_filters(index=self.link, parent=_INGRESS):
            with suppress(NetlinkError):
                ipr.tc("del", "ingress", self.link)

    def _add(self, ipr: Any, priority: int, keys: list[str], **options: object) -> None:
        ipr.tc(
            "add-filter",
            "u32",
            self.link,
            parent=_INGRESS,
            prio=priority,
            protocol=_IP,
            target=_CLASS,
            keys=keys,
            **options,
        )

    def _remove(self, ipr: Any) -> None:
        for priority in (self.priority, self.priority + 1):
            with suppress(NetlinkError):
                ipr.tc("del-filter", index=self.link, parent=_INGRESS, prio=priority, protocol=_IP)


def _key(value: int, mask: int, offset: int) -> str:
    """Of u32: a word of the IP packet."""
    return f"0x{value:08x}/0x{mask:08x}+{offset}"
