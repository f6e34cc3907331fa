"""Types of the Cython module. tests/nic/test_lists.py holds stub and module equal in names."""

from collections.abc import Iterable, Sequence
from enum import IntFlag

import numpy as np
from numpy.typing import NDArray

from ipsec_core.driver._core import Burst

NIC_CAPABILITIES: dict[str, str]
NIC_FAULTS: dict[str, str]
NIC_STATISTICS: dict[str, str]

class NicTask(IntFlag):
    IPV4_CHECKSUM = 1
    TCP_CHECKSUM = 2
    UDP_CHECKSUM = 4
    LARGE_SEND = 8

class NicCheck(IntFlag):
    IPV4_GOOD = 1
    IPV4_BAD = 2
    TCP_GOOD = 4
    TCP_BAD = 8
    UDP_GOOD = 16
    UDP_BAD = 32

class Nic:
    fault: str
    fault_every: int
    fault_status: int
    def __init__(
        self,
        capabilities: Iterable[str] | None = None,
        *,
        sa_capacity: int = 128,
        mtu: int = 1500,
        large_send_max: int = 65495,
        large_send_min_segments: int = 2,
    ) -> None: ...
    @property
    def attached(self) -> bool: ...
    @property
    def capabilities(self) -> frozenset[str]: ...
    @property
    def sa_capacity(self) -> int: ...
    @property
    def mtu(self) -> int: ...
    @property
    def large_send_max(self) -> int: ...
    @property
    def large_send_min_segments(self) -> int: ...
    def statistics(self) -> dict[str, int]: ...
    def transmit(
        self,
        source: Burst,
        target: Burst,
        tasks: int | Sequence[int] = 0,
        mss: int | Sequence[int] = 0,
        cursor: tuple[int, int] | None = None,
    ) -> tuple[int, int] | None: ...
    def receive(self, burst: Burst) -> NDArray[np.uint8]: ...
