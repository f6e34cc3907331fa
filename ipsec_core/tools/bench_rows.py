"""What all benchmarks have in common: a row, and the median pair of ours and the peer's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """One measured figure. `ratio` above 1: ours is faster than the peer.

    Without the peer's library `peer_value`, `ratio`, `min` and `max` are None and `install` names the Debian package; a
    row that has its peer has `install` None. A straight line has no `min` and `max`.
    """

    name: str
    params: dict[str, int | str]
    value: float
    unit: str
    peer: str
    peer_value: float | None
    ratio: float | None
    min: float | None
    max: float | None
    install: str | None

    def to_table(self) -> dict[str, object]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Pair:
    """Rates (things a second) of ours and of the peer, measured one after the other; None: there is no peer here."""

    ours: float
    peer: float | None

    @property
    def ratio(self) -> float:
        """How many times as fast as the peer ours is."""
        return self.ours / self.peer if self.peer else 0.0


def median(pairs: Sequence[Pair]) -> Pair:
    """The middle one by ratio; without a peer by rate."""
    return sorted(pairs, key=lambda one: (one.ratio, one.ours))[len(pairs) // 2]


def rate_row(
    name: str, params: dict[str, int | str], unit: str, pairs: Sequence[Pair], peer: str, install: str | None = None
) -> Row:
    """The row of the median pair. `install` names what brings the peer when it is missing."""
    middle = median(pairs)
    ratios = [one.ratio for one in pairs if one.peer is not None]
    return Row(
        name=name,
        params=params,
        value=middle.ours,
        unit=unit,
        peer=peer,
        peer_value=middle.peer,
        ratio=middle.ratio if ratios else None,
        min=min(ratios, default=None),
        max=max(ratios, default=None),
        install=None if ratios else install,
    )


def figure_row(name: str, params: dict[str, int | str], value: float, unit: str) -> Row:
    """A figure that has no peer."""
    return Row(name, params, value, unit, "none", None, None, None, None, None)
