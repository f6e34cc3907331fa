"""The IPsec driver: Cython over src_c."""

from __future__ import annotations

from ipsec_core.driver._core import (
    BURST_MAX,
    COUNTER_RULES,
    COUNTERS,
    NO_SA,
    PASSES,
    STATUS_TEXT,
    Burst,
    Driver,
    Status,
    algorithms,
    crypto_backends,
    key_bytes,
    overhead,
)
from ipsec_core.driver._nic import NIC_CAPABILITIES, NIC_FAULTS, NIC_STATISTICS, Nic, NicCheck, NicTask
from ipsec_core.driver.types import (
    Action,
    Address,
    Algorithm,
    Filter,
    Network,
    SaInfo,
    SecurityAssociation,
    Upcall,
    UpcallKind,
)

__all__ = [
    "BURST_MAX",
    "COUNTERS",
    "COUNTER_RULES",
    "NIC_CAPABILITIES",
    "NIC_FAULTS",
    "NIC_STATISTICS",
    "NO_SA",
    "PASSES",
    "STATUS_TEXT",
    "Action",
    "Address",
    "Algorithm",
    "Burst",
    "Driver",
    "Filter",
    "Network",
    "Nic",
    "NicCheck",
    "NicTask",
    "SaInfo",
    "SecurityAssociation",
    "Status",
    "Upcall",
    "UpcallKind",
    "algorithms",
    "crypto_backends",
    "key_bytes",
    "overhead",
]
