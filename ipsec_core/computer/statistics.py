"""The figures of IP Security Monitor, in the order and words of KB 257225, with the keys under which they are kept."""

from __future__ import annotations

from typing import NamedTuple


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
