"""The driver's SAs as the tools list them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ipsec_core.computer.state import Association
from ipsec_core.computer.suites import security
from ipsec_core.driver import Network, SaInfo


def associations(
    sas: Sequence[SaInfo],
    policy_name: str,
    filters: Mapping[int, str],
    times: Mapping[int, float],
    around: Mapping[int, int],
) -> list[Association]:
    """The lines of IP Security Monitor, outbound before inbound.

    `filters`: their names by number; `times`: when a handle's SA was made; `around`: the outer SA's handle by that of
    the inner one, both of which are one line.
    """
    by_handle = {sa.handle: sa for sa in sas}
    outer = set(around.values())
    return [
        _association(sa, by_handle.get(around.get(sa.handle, 0)), policy_name, filters, times.get(sa.handle))
        for sa in sorted(sas, key=lambda sa: (sa.direction != "out", sa.handle))
        if sa.handle not in outer
    ]


def _association(
    sa: SaInfo, outer: SaInfo | None, policy_name: str, filters: Mapping[int, str], established: float | None
) -> Association:
    """What an SA leaves open (a soft one most of it) is "Any"."""
    outbound = sa.direction == "out"
    end, inside = (sa.destination, sa.inner_destination) if outbound else (sa.source, sa.inner_source)
    return Association(
        policy_name=policy_name,
        security=security(sa, outer),
        filter_name=filters.get(sa.filter, ""),
        source_address=_address(sa.inner_source),
        destination_address=_address(sa.inner_destination),
        protocol=sa.inner_protocol,
        source_port=sa.source_port,
        destination_port=sa.destination_port,
        tunnel_endpoint=str(sa.destination) if sa.mode == "tunnel" and sa.destination else None,
        direction="outbound" if outbound else "inbound",
        spi=(outer or sa).spi,
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
