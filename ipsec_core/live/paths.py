"""Path MTUs of a live computer: that of the link for every SA, lower ones for a while when a router says so."""

from __future__ import annotations

from ipaddress import IPv4Address

from ipsec_core.driver import Driver, PathMtu, PathMtuDiscovery, SaInfo, learn_path_mtu

# RFC 1191 6.3: how long a router's word is believed.
_BELIEVED = 600.0
_LEAST = 68
_PROTOCOLS = {"esp": 50, "ah": 51}


class Paths:
    """Of one driver; times in seconds."""

    def __init__(self, driver: Driver, address: IPv4Address, link_mtu: int) -> None:
        self._driver = driver
        self._mtu = link_mtu
        self._discovery = PathMtuDiscovery(driver, address)
        self._lowered: dict[int, float] = {}

    def new_sas(self) -> None:
        """Gives outbound SAs that have no path MTU yet that of the link; an SA inside of another one gets less."""
        for sa in sorted(self._outbound(), key=lambda item: item.protocol != "ah"):
            if self._driver.sa_info(sa.handle).path_mtu == 0:
                self._begin(sa)

    def on_icmp(self, now: float, packet: bytes) -> None:
        """An ICMP message to this computer."""
        self._lowered |= dict.fromkeys(self._discovery.on_icmp(packet), now)

    def forget(self, now: float) -> None:
        """Path MTUs that were lowered long ago are those of the link again."""
        alive = {sa.handle: sa for sa in self._outbound()} if self._lowered else {}
        for handle, since in list(self._lowered.items()):
            if handle not in alive:
                del self._lowered[handle]
            elif now >= since + _BELIEVED:
                del self._lowered[handle]
                self._driver.set_path_mtu(handle, self._mtu)

    def _outbound(self) -> list[SaInfo]:
        return [sa for sa in self._driver.sas() if sa.direction == "out" and sa.protocol in _PROTOCOLS]

    def _begin(self, sa: SaInfo) -> None:
        assert sa.source is not None
        assert sa.destination is not None
        # As if a router had said it: what is inside of this SA learns it, too.
        said = PathMtu(sa.source, sa.destination, sa.source, _PROTOCOLS[sa.protocol], sa.spi, 0, 0, self._mtu)
        if sa.handle not in learn_path_mtu(self._driver, said, _LEAST):
            self._driver.set_path_mtu(sa.handle, self._mtu)
