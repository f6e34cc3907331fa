"""The IPsec driver: Cython over src_c."""

from __future__ import annotations

from ipsec_core.driver._core import (
    BURST_MAX,
    COUNTERS,
    NO_SA,
    PASSES,
    STATUS_TEXT,
    Burst,
    Driver,
    Status,
    algorithms,
    crypto_backends,
    esp_overhead,
)
from ipsec_core.driver.types import Action, Algorithm, Filter, SaInfo, SecurityAssociation, Upcall, UpcallKind

__all__ = [
    "BURST_MAX",
    "COUNTERS",
    "NO_SA",
    "PASSES",
    "STATUS_TEXT",
    "Action",
    "Algorithm",
    "Burst",
    "Driver",
    "Filter",
    "SaInfo",
    "SecurityAssociation",
    "Status",
    "Upcall",
    "UpcallKind",
    "algorithms",
    "crypto_backends",
    "esp_overhead",
]
