"""asyncio with the packet loop inside: packets are moved where other event loops wait."""

from __future__ import annotations

import math
import selectors
import time
from collections.abc import Callable
from ipaddress import IPv4Address

from ipsec_core.driver import Driver
from ipsec_core.live._io import PacketLoop


class Clock:
    """Seconds since 1970, by a clock that never goes back."""

    def __init__(self) -> None:
        self.offset = time.time() - time.monotonic()

    def __call__(self) -> float:
        return self.offset + time.monotonic()


class PacketSelector(selectors.EpollSelector):
    """A selector for asyncio that serves a `PacketLoop` until one of its own descriptors is ready.

    `work(datagrams, gone)` is called when the packet loop has something for Python: IPv4 packets with IKE datagrams,
    upcalls of the driver, or the news that the TUN device is gone. The other arguments are those of `PacketLoop`.
    """

    def __init__(
        self,
        driver: Driver,
        local: IPv4Address,
        clock: Clock,
        work: Callable[[list[bytes], bool], None],
        *,
        tun: int,
        udp: int,
        esp: int,
        ah: int,
        raw: int,
        mtu: int,
    ) -> None:
        super().__init__()
        self._work = work
        self._release = False
        self.packets = PacketLoop(
            driver,
            local,
            tun=tun,
            udp=udp,
            esp=esp,
            ah=ah,
            raw=raw,
            control=self.fileno(),
            mtu=mtu,
            offset=clock.offset,
        )

    def release(self) -> None:
        """An SA has come: packets may have waited for it."""
        self._release = True

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        milliseconds = -1 if timeout is None else math.ceil(max(timeout, 0.0) * 1000)
        up, gone = self.packets.run(milliseconds, self._release)
        self._release = False
        if up or gone:
            self._work(self.packets.datagrams(), gone)
        return super().select(0)
