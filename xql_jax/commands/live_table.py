"""A sweep's progress as a table on the terminal.

A cell is one row of the table: one method on one dataset. Its seeds are trained as one run.
"""

import contextlib
import sys
from collections.abc import Iterator

from rich.console import Console
from rich.live import Live
from rich.table import Table

from xql_jax.sweeps.plan import FINISHED, NO_DATA
from xql_jax.sweeps.watch import Watch

PER_SECOND = 1.0  # how often the runs' folders are read
ROWS = 30  # largest number of rows: cells in training come first; the caption counts all by state


@contextlib.contextmanager
def live_table(watch: Watch, show: bool) -> Iterator[None]:
    """Context manager that draws the table on stderr if that is a terminal."""
    if not (show and sys.stderr.isatty()):
        yield
        return
    with Live(
        get_renderable=lambda: _table(watch),
        console=Console(stderr=True),
        refresh_per_second=PER_SECOND,
        redirect_stdout=sys.stdout.isatty(),  # if stdout is a file, it gets the printed lines
    ):
        yield


def _table(watch: Watch) -> Table:
    standings = watch.look()
    order = {"running": 0, FINISHED: 2, NO_DATA: 3}
    shown = sorted(standings, key=lambda standing: order.get(standing.state, 1))[:ROWS]
    counts: dict[str, int] = {}
    for standing in standings:
        counts[standing.state] = counts.get(standing.state, 0) + 1
    table = Table(caption=", ".join(f"{count} {state}" for state, count in counts.items()))
    for name in ("dataset", "method", "seeds", "state", "steps", "", "last score"):
        table.add_column(
            name, justify="right" if name in ("steps", "", "last score") else "left", overflow="fold"
        )
    for cell, state, step, score in shown:
        seeds = cell.settings.seeds
        table.add_row(
            cell.dataset.partition("=")[0],
            " ".join(filter(None, (cell.method, cell.settings.sweep))),
            f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}",
            state,
            f"{step:,} of {cell.steps:,}",
            f"{step / cell.steps:.0%}",
            "" if score is None else f"{score:.1f}",
        )
    return table
