"""Types of the timed loops of the ESP benchmark."""

from typing import Literal

from ipsec_core.driver._core import Burst, Driver

PEERS: dict[str, tuple[int, int]]
BLOCKS: dict[str, int]

def round_trips(sender: Driver, receiver: Driver, burst: Burst, rounds: int) -> tuple[float, float]: ...
def peer_seconds(
    name: Literal["gcm_encrypt", "gcm_decrypt", "cbc_sha1_jobs", "evp_3des_sha1"],
    key: bytes,
    burst: Burst,
    text_length: int,
    rounds: int,
) -> float | None: ...
def phases(
    sender: Driver, receiver: Driver, burst: Burst, rounds: int
) -> tuple[dict[str, float], dict[str, float]]: ...
def passes(driver: Driver, burst: Burst, rounds: int) -> float: ...
def spi_seconds(sas: int, slots: int, bursts: int, seed: int) -> float: ...
