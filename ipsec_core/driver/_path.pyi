"""Types of the Cython module. tests/driver/test_lists.py holds stub and module equal in names."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ipsec_core.driver._core import Burst, Driver
from ipsec_core.driver.types import Address, PathMtu

PATH_MTU_LEAST: int

def icmp_too_big(packet: bytes | bytearray | memoryview, mtu: int, source: Address | str) -> bytes | None: ...
def icmp_path_mtu(packet: bytes | bytearray | memoryview) -> PathMtu | None: ...
def learn_path_mtu(driver: Driver, found: PathMtu, least: int = ...) -> list[int]: ...
def burst_too_big(driver: Driver, burst: Burst, i: int, source: Address | str) -> bytes | None: ...
def shard_of_spi(spi: int, count: int) -> int: ...
def steer(
    packets: Burst | Sequence[bytes | bytearray | memoryview],
    direction: Literal["out", "in"],
    count: int,
    nat_traversal: bool = False,
) -> NDArray[np.int32]: ...
