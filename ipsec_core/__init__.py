"""The Windows 2000 IPsec subsystem as an embeddable engine (KB 257225), with a virtual-time Ethernet around it."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from ipsec_core.errors import IpsecError

if TYPE_CHECKING:
    from ipsec_core.driver import (
        Action,
        Burst,
        Driver,
        Filter,
        Nic,
        PathMtuDiscovery,
        SecurityAssociation,
        Shards,
        Status,
        algorithms,
        crypto_backends,
        key_bytes,
        overhead,
    )
    from ipsec_core.policy.model import Policy
    from ipsec_core.sim.world import World

__version__ = "0.1.0"

__all__ = [
    "Action",
    "Burst",
    "Driver",
    "Filter",
    "IpsecError",
    "Nic",
    "PathMtuDiscovery",
    "Policy",
    "SecurityAssociation",
    "Shards",
    "Status",
    "World",
    "algorithms",
    "crypto_backends",
    "get_include",
    "key_bytes",
    "overhead",
]

_ELSEWHERE = {"Policy": "ipsec_core.policy.model", "World": "ipsec_core.sim.world"}


def __getattr__(name: str) -> object:
    """Loads a name at first use (PEP 562): a command that only prints its help needs neither NumPy nor the driver."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(_ELSEWHERE.get(name, "ipsec_core.driver")), name)
    globals()[name] = value
    return value


def get_include() -> str:
    """Folder of the public C headers (for `-I`); Cython finds its declarations through `cimport ipsec_core.driver`."""
    here = Path(__file__).parent
    installed = here / "include"
    return str(installed if installed.is_dir() else here.parent / "src_c" / "include")
