"""`ipsec-core bench`: ours and the peer in turn, in one run (see `bench_esp` for the method)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import click
from rich import box
from rich.live import Live
from rich.table import Table

from ipsec_core.tools.bench_cipher import ah_rows, cipher_rows
from ipsec_core.tools.bench_embed import embed_rows
from ipsec_core.tools.bench_esp import MAXIMUM_SIZE, MINIMUM_SIZE, esp_rows
from ipsec_core.tools.bench_filter import filter_rows
from ipsec_core.tools.bench_ike import ike_rows
from ipsec_core.tools.bench_rows import Row
from ipsec_core.tools.bench_spi import spi_rows
from ipsec_core.tools.common import Seconds, console, json_option, print_json

BENCHES: dict[str, Callable[[float, int, int | None], Iterator[Row]]] = {
    "esp": esp_rows,
    "ah": ah_rows,
    "cipher": cipher_rows,
    "spi": spi_rows,
    "filter": filter_rows,
    "ike": ike_rows,
    "embed": embed_rows,
}


@click.command("bench")
@click.argument("name")
@click.option(
    "--seconds",
    type=Seconds(0.001, 60),
    default=0.1,
    show_default=True,
    metavar="S",
    help="Length of one measurement of ours.",
)
@click.option("--pairs", type=click.IntRange(1, 1000), default=7, show_default=True, metavar="N", help="Turns a row.")
@click.option(
    "--size", type=click.IntRange(MINIMUM_SIZE, MAXIMUM_SIZE), metavar="BYTES", help="Only IP packets of this size."
)
@json_option
def command(name: str, seconds: float, pairs: int, size: int | None, as_json: bool) -> None:
    """Measure NAME against its peer in turn, in the same run; the median pair is reported.

    NAME: esp (the bare crypto call), ah and cipher (OpenSSL), spi (DPDK), filter (a linear walk), ike (its library
    calls alone), embed (scapy, one thread), all. Ratio above 1: ours is faster.
    """
    if name not in BENCHES and name != "all":
        raise click.UsageError(f"{name!r} is not a benchmark; accepted: {', '.join(BENCHES)}, all")
    rows: list[Row] = []
    # No thread that refreshes the screen: it would be measured too.
    with Live("Measuring ...", console=console(stderr=True), auto_refresh=False, transient=True) as live:
        for bench in BENCHES if name == "all" else (name,):
            for row in BENCHES[bench](seconds, pairs, size):
                rows.append(row)
                live.update(f"Measuring ... {row.name}", refresh=True)
    if as_json:
        print_json([row.to_table() for row in rows])
    else:
        console().print(_table(rows))
        for hint in sorted({row.install for row in rows if row.install}):
            click.echo(f"A peer is missing. Install {hint}; a library (lib...) takes a new build of ipsec_core, too.")


def _table(rows: Sequence[Row]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("Measured", overflow="fold")
    for column in ("Ours", "Peer", "Ratio"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        spread = "" if row.min is None or row.max is None else f"\n{row.min:.2f} to {row.max:.2f}"
        given = ", ".join(f"{name} {value}" for name, value in row.params.items())
        table.add_row(
            f"{row.name}\n{given}" + ("" if row.peer == "none" else f"\npeer: {row.peer}"),
            f"{_number(row.value)}\n{row.unit}",
            ""
            if row.peer == "none"
            else "none"
            if row.peer_value is None
            else f"{_number(row.peer_value)}\n{row.unit}",
            "" if row.ratio is None else f"{row.ratio:.2f}{spread}",
        )
    return table


def _number(value: float) -> str:
    return f"{value:,.0f}".replace(",", " ") if value >= 1000 else f"{value:.4g}"
