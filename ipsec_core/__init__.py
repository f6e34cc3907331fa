"""The Windows 2000 IPsec subsystem as an embeddable engine (KB 257225), with a virtual-time Ethernet around it."""

from __future__ import annotations

from pathlib import Path

from ipsec_core.driver import (
    Action,
    Burst,
    Driver,
    Filter,
    SecurityAssociation,
    Status,
    algorithms,
    crypto_backends,
    esp_overhead,
)
from ipsec_core.errors import IpsecError

__version__ = "0.1.0"

__all__ = [
    "Action",
    "Burst",
    "Driver",
    "Filter",
    "IpsecError",
    "SecurityAssociation",
    "Status",
    "algorithms",
    "crypto_backends",
    "esp_overhead",
    "get_include",
]


def get_include() -> str:
    """Folder of the public C headers (for `-I`); the Cython declarations are found through `cimport ipsec_core.driver`."""
    here = Path(__file__).parent
    installed = here / "include"
    return str(installed if installed.is_dir() else here.parent / "src_c" / "include")
