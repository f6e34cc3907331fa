"""Types of the Cython module. tests/live/test_stub.py holds stub and module equal in names."""

from collections.abc import Iterable
from ipaddress import IPv4Address

from ipsec_core.driver import Driver

VNET_HEADER: int

class PacketLoop:
    def __init__(
        self,
        driver: Driver,
        local: IPv4Address | str,
        *,
        tun: int,
        udp: int,
        esp: int,
        ah: int,
        raw: int,
        control: int,
        mtu: int,
        offset: float,
        gso: bool = True,
    ) -> None: ...
    def run(self, timeout: int, release: bool = False) -> tuple[bool, bool]: ...
    def datagrams(self) -> list[bytes]: ...
    def statistics(self) -> dict[str, int]: ...

def segment(header: bytes, packet: bytes) -> list[bytes]: ...
def coalesce(packets: Iterable[bytes]) -> list[tuple[bytes, bytes]]: ...
