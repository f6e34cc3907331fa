"""The figures of IP Security Monitor, in the order and words of KB 257225, with the keys under which they are kept."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from ipsec_core.driver import Driver


class Statistic(NamedTuple):
    """A line of the monitor: the article's words and the stable key."""

    label: str
    key: str


IPSEC_STATISTICS = (
    Statistic("Active Associations", "active_associations"),
    Statistic("Confidential Bytes Sent", "confidential_bytes_sent"),
    Statistic("Confidential Bytes Received", "confidential_bytes_received"),
    Statistic("Authenticated Bytes Sent", "authenticated_bytes_sent"),
    Statistic("Authenticated Bytes Received", "authenticated_bytes_received"),
    Statistic("Bad SPI Packets", "bad_spi_packets"),
    Statistic("Packets Not Decrypted", "packets_not_decrypted"),
    Statistic("Packets Not Authenticated", "packets_not_authenticated"),
    Statistic("Key Additions", "key_additions"),
)

OAKLEY_STATISTICS = (
    Statistic("Oakley main modes", "oakley_main_modes"),
    Statistic("Oakley quick mode", "oakley_quick_modes"),
    Statistic("Soft Associations", "soft_associations"),
    Statistic("Authentication failures", "authentication_failures"),
)


def all_counters(driver: Driver, engine: Mapping[str, int]) -> dict[str, int]:
    """IPsec statistics, ISAKMP/Oakley statistics, then the driver's and the engine's own, in this order."""
    counters = driver.counters()
    values = {key: counters.pop(key) for _, key in IPSEC_STATISTICS}
    isakmp = {re.sub(r"[ -]", "_", name.lower()): count for name, count in engine.items()}
    values |= {key: isakmp.pop(key) for _, key in OAKLEY_STATISTICS}
    # The driver's are those that exist, the article's those that were negotiated.
    values["active_soft_associations"] = counters.pop("soft_associations")
    values |= counters
    values |= {f"ike_{name}": count for name, count in isakmp.items()}
    for direction in ("out", "in"):
        values |= {f"{direction}_{name.lower()}": n for name, n in driver.status_counters(direction).items() if n}
    return values
