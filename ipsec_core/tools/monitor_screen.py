"""The screen of IP Security Monitor: the three boxes of KB 257225, in its order and words, on a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from ipsec_core.computer.state import Association, State
from ipsec_core.computer.statistics import IPSEC_STATISTICS, OAKLEY_STATISTICS, Statistic
from ipsec_core.policy.selectors import protocol_text
from ipsec_core.tools.common import moment

COLUMNS = (
    "Policy Name",
    "Security",
    "Filter Name",
    "Source Address",
    "Dest. Address",
    "Protocol",
    "Src. Port",
    "Dest. Port",
    "Tunnel Endpoint",
)
"""The columns of the upper box in the order of Windows 2000."""

# Where the nine do not fit side by side, those that belong together share a column, on two lines.
_STACKED = (
    ("Policy Name", "Filter Name"),
    ("Security", "Tunnel Endpoint"),
    ("Source Address", "Dest. Address"),
    ("Protocol",),
    ("Src. Port", "Dest. Port"),
)
# Likewise the two lower boxes.
_SIDE_BY_SIDE = 72
_FRAME = 2


@dataclass(frozen=True, slots=True)
class Monitor:
    """What IP Security Monitor shows of one computer; as a rich renderable it is the screen.

    `time` in seconds. `height`, in lines, is what the screen has to fit in; None: it may be as high as it likes.
    """

    computer: str
    time: float | None
    clock: object
    enabled: bool
    associations: tuple[Association, ...]
    counters: Mapping[str, int]
    height: int | None = None

    @classmethod
    def read(cls, state: State) -> Monitor:
        time = state.meta("time")
        return cls(
            computer=state.name,
            time=float(time) if isinstance(time, int | float) else None,
            clock=state.meta("clock"),
            enabled=bool(state.meta("ip_security_enabled")),
            associations=state.associations(),
            counters=state.counters(),
        )

    def to_table(self) -> dict[str, object]:
        """The same for programs, with the keys of the state directory."""
        return {
            "computer": self.computer,
            "time": self.time,
            "ip_security_enabled": self.enabled,
            "associations": [asdict(item) for item in self.associations],
            "ipsec_statistics": _figures(IPSEC_STATISTICS, self.counters),
            "oakley_statistics": _figures(OAKLEY_STATISTICS, self.counters),
        }

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        ipsec, oakley = (_statistics(items, self.counters) for items in (IPSEC_STATISTICS, OAKLEY_STATISTICS))
        when = "" if self.time is None else f" at {moment(self.time, self.clock)}"
        side_by_side = options.max_width >= _SIDE_BY_SIDE
        space = len(IPSEC_STATISTICS) - len(OAKLEY_STATISTICS) - 1 if side_by_side else 1
        word = Text("enabled", "bold green") if self.enabled else Text("not enabled", "bold yellow")
        boxes = (
            _box("IPSEC Statistics", ipsec),
            _box(
                "ISAKMP/Oakley Statistics",
                Group(oakley, Text("\n" * (space - 1)), Text.assemble("IP Security is ", word)),
            ),
        )
        height = len(IPSEC_STATISTICS) + _FRAME + (0 if side_by_side else len(OAKLEY_STATISTICS) + 2 + _FRAME)
        space_above = None if self.height is None else self.height - height - _FRAME
        upper = _associations(self.associations, console, options.max_width - 4, space_above)
        yield _box(f"IP Security Monitor: {self.computer}{when}", upper)
        if not side_by_side:
            yield from boxes
            return
        lower = Table.grid(expand=True)
        lower.add_column(ratio=3)
        lower.add_column(ratio=2)
        lower.add_row(*boxes)
        yield lower


def _box(title: str, content: RenderableType) -> Panel:
    return Panel(content, title=Text(title, "bold"), title_align="left", box=box.ROUNDED)


def _figures(statistics: Iterable[Statistic], counters: Mapping[str, int]) -> dict[str, int]:
    return {item.key: counters.get(item.key, 0) for item in statistics}


def _statistics(statistics: Iterable[Statistic], counters: Mapping[str, int]) -> Table:
    table = Table.grid(padding=(0, 1), expand=True)
    table.add_column(ratio=1)
    table.add_column(justify="right", no_wrap=True)
    for item in statistics:
        table.add_row(Text(item.label), Text(f"{counters.get(item.key, 0):,}".replace(",", " ")))
    return table


def _cells(item: Association) -> dict[str, str]:
    cells = (
        item.policy_name,
        item.security,
        item.filter_name,
        item.source_address,
        item.destination_address,
        protocol_text(item.protocol),
        str(item.source_port or "any"),
        str(item.destination_port or "any"),
        item.tunnel_endpoint or "none",
    )
    return dict(zip(COLUMNS, cells, strict=True))


def _associations(
    associations: Sequence[Association], console: Console, width: int, height: int | None
) -> RenderableType:
    """The list; where the height is limited, as many as fit and how many there are besides."""
    if not associations:
        return Text("No security associations.", "dim")
    groups: tuple[tuple[str, ...], ...] = tuple((name,) for name in COLUMNS)
    if console.measure(_table(associations, groups)).maximum > width:
        groups = _STACKED
    # The last row of the stacked table has no empty line below it.
    header, lines, last = (3, 3, 1) if groups == _STACKED else (2, 1, 0)
    if height is None or header + lines * len(associations) - last <= height:
        return _table(associations, groups)
    shown = max(0, height - header + last - 1) // lines
    more = Text(f"and {len(associations) - shown} more associations: ipsecmon --once lists all", "dim")
    return Group(_table(associations[:shown], groups), more)


def _table(associations: Iterable[Association], groups: tuple[tuple[str, ...], ...]) -> Table:
    """A row for each association; a column for each group of cells, one above the other."""
    table = Table(box=box.SIMPLE_HEAD, expand=True, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for group in groups:
        table.add_column(Text("\n".join(group)), no_wrap=not _gives_way(group))
    for item in associations:
        cells = _cells(item)
        row = (Text("\n".join(cells[name] for name in group), no_wrap=True, overflow="ellipsis") for group in groups)
        table.add_row(*row, style="yellow" if item.soft else None, end_section=groups == _STACKED)
    return table


def _gives_way(group: tuple[str, ...]) -> bool:
    """Names are cut first: rich takes from the columns that could wrap, and their cells do not."""
    return "Policy Name" in group or "Filter Name" in group
