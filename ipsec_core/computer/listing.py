"""The driver's SAs as the tools list them."""

from __future__ import annotations

from ipsec_core.computer.state import Association
from ipsec_core.computer.suites import security
from ipsec_core.driver import Network, SaInfo


def association(sa: SaInfo, policy_name: str, filter_name: str, established: float | None) -> Association:
    """One line of IP Security Monitor. What an SA leaves open (a soft one most of it) is "Any"."""
    outbound = sa.direction == "out"
    end, inside = (sa.destination, sa.inner_destination) if outbound else (sa.source, sa.inner_source)
    return Association(
        policy_name=policy_name,
        security=security(sa),
        filter_name=filter_name,
        source_address=_address(sa.inner_source),
        destination_address=_address(sa.inner_destination),
        protocol=sa.inner_protocol,
        source_port=sa.source_port,
        destination_port=sa.destination_port,
        tunnel_endpoint=str(sa.destination) if sa.mode == "tunnel" and sa.destination else None,
        direction="outbound" if outbound else "inbound",
        spi=sa.spi,
        peer=str(end) if end else _address(inside),
        bytes=sa.bytes,
        packets=sa.packets,
        soft=sa.protocol == "none",
        established=established,
    )


def _address(network: Network | None) -> str:
    if network is None or network.prefixlen == 0:
        return "Any"
    return str(network.network_address) if network.prefixlen == network.max_prefixlen else str(network)
