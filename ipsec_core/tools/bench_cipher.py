"""Every algorithm through the whole path of the driver: the fastest back end against OpenSSL, one packet at a time."""

from __future__ import annotations

from collections.abc import Iterator

from ipsec_core.driver import algorithms, crypto_backends
from ipsec_core.tools.bench_esp import SIZES, EspLoop, Suite, suite
from ipsec_core.tools.bench_rows import Pair, Row, rate_row

PEER = "openssl"
_INTEGRITY = "HMAC-SHA1-96"
_NS = 1e9


def _suites(protocol: str) -> Iterator[Suite]:
    for one in algorithms():
        if protocol == "esp" and one.kind == "encryption":
            yield suite(one.name, "none" if one.icv_length else _INTEGRITY)
        if one.kind == "integrity" and one.key_length:
            if protocol == "ah":
                yield suite("NULL", one.name, "ah")
            elif one.name != _INTEGRITY:
                yield suite("NULL" if one.iv_length else "AES-128-CBC", one.name)


def _rows(protocol: str, seconds: float, pairs: int, size: int) -> Iterator[Row]:
    for one in _suites(protocol):
        ours = EspLoop(one, size)
        peer = EspLoop(one, size, PEER) if PEER in crypto_backends() else None
        rounds = max(1, int(seconds * _NS / (64 * sum(ours.ours(4)))))
        turns = [(ours.ours(rounds), peer.ours(max(1, rounds // 4)) if peer else None) for _ in range(pairs)]
        for direction, name in enumerate(("outbound", "inbound")):
            measured = [Pair(_NS / mine[direction], _NS / other[direction] if other else None) for mine, other in turns]
            yield rate_row(
                f"{'ah' if protocol == 'ah' else 'cipher'} {name}",
                {"suite": one.name, "mode": "tunnel", "size": size, "burst": 64},
                "packets/s",
                measured,
                "OpenSSL back end",
                "libssl-dev",
            )


def cipher_rows(seconds: float = 0.1, pairs: int = 7, size: int | None = None) -> Iterator[Row]:
    """The rows of `ipsec-core bench cipher`: ESP with every algorithm."""
    yield from _rows("esp", seconds, pairs, size or SIZES[0])


def ah_rows(seconds: float = 0.1, pairs: int = 7, size: int | None = None) -> Iterator[Row]:
    """The rows of `ipsec-core bench ah`."""
    yield from _rows("ah", seconds, pairs, size or SIZES[0])
