"""Path MTU discovery across IPsec (RFC 2401 6.1, RFC 4301 8.2): what a driver learns, and what it tells the hosts.

The way of one discovery: a router that cannot take an IPsec packet says so (`on_icmp`: the SA's path MTU goes down);
the next packet that would be too long is refused with EXCEEDS_MTU, and its host is told an MTU that leaves room for
IPsec (`on_outbound`); the host sends shorter ones. Packets that may be fragmented, and IPv6 packets of up to 1280
bytes, pass the driver whole and are fragmented after it: `Burst.fragment`.
"""

from __future__ import annotations

from ipaddress import ip_address

import numpy as np

from ipsec_core.driver._core import Burst, Driver, Status
from ipsec_core.driver._path import PATH_MTU_LEAST, burst_too_big, icmp_path_mtu, learn_path_mtu
from ipsec_core.driver.types import Address
from ipsec_core.errors import DriverError


class PathMtuDiscovery:
    """Path MTU discovery of one driver.

    `sources` are the addresses that the messages to the hosts come from, one of each family that is protected. Give
    every outbound SA the MTU of its link as `path_mtu`: without one nothing is refused. With SAs inside of SAs, the
    innermost one needs it: `Driver.clear_mtu` of the SA around it. `least` (68..65535 bytes): no message of a router
    lowers a path MTU under it. `unanswered` counts packets that were refused without a message: none may be sent (see
    `icmp_too_big`), or `sources` has no address of the family. How long a path MTU is believed is the caller's affair
    (RFC 1191 6.3: ten minutes): `driver.set_path_mtu(handle, link_mtu)` begins anew.
    """

    def __init__(self, driver: Driver, *sources: Address | str, least: int = PATH_MTU_LEAST) -> None:
        if not 68 <= least <= 65535:
            raise DriverError(f"least: {least} is out of range; accepted: 68 to 65535 (bytes)")
        self.driver = driver
        self.least = least
        self.unanswered = 0
        self._sources: dict[int, Address] = {}
        for source in sources:
            try:
                address = ip_address(source)
            except ValueError:
                raise DriverError(
                    f"sources: {source!r} is not an IP address; accepted: an IPv4 or IPv6 address"
                ) from None
            if address.version in self._sources:
                raise DriverError(f"sources: {source} is the second one of its family; accepted: one IPv4, one IPv6")
            self._sources[address.version] = address
        if not self._sources:
            raise DriverError("sources: none; accepted: an address of each family that is protected")

    def on_outbound(self, burst: Burst) -> list[bytes]:
        """The ICMP messages to the hosts whose packets the driver has just refused with EXCEEDS_MTU.

        Call it behind `Driver.outbound`, before anything else changes burst or driver. Limit how many you send a second
        (RFC 4443 2.4 f).
        """
        messages = []
        for i in np.flatnonzero(burst.status == Status.EXCEEDS_MTU).tolist():
            source = self._sources.get(burst.packet(i)[0] >> 4)
            message = source and burst_too_big(self.driver, burst, i, source)
            if message:
                messages.append(message)
            else:
                self.unanswered += 1
        return messages

    def on_icmp(self, packet: bytes) -> list[int]:
        """Takes an IP packet that came to this computer; returns handles of outbound SAs whose path MTU it lowers.

        Anything but a message about an IPsec packet of one of the driver's SAs lowers none.
        """
        found = icmp_path_mtu(packet)
        return learn_path_mtu(self.driver, found, self.least) if found else []
