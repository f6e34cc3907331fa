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
from ipsec_core.driver._path import (
    icmp_path_mtu,
    icmp_too_big,
    learn_path_mtu,
    shard_of_spi,
    steer,
)
from ipsec_core.driver.pmtu import PathMtuDiscovery
from ipsec_core.driver.sharding import Outcome, Shards
from ipsec_core.driver.types import (
    Action,
    Address,
    Algorithm,
    Filter,
    Network,
    PathMtu,
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
    "Outcome",
    "PathMtu",
    "PathMtuDiscovery",
    "SaInfo",
    "SecurityAssociation",
    "Shards",
    "Status",
    "Upcall",
    "UpcallKind",
    "algorithms",
    "crypto_backends",
    "icmp_path_mtu",
    "icmp_too_big",
    "key_bytes",
    "learn_path_mtu",
    "overhead",
    "shard_of_spi",
    "steer",
]
