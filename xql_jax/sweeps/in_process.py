"""Trains the cells (runs) of a sweep in this process, one after the other."""

from collections.abc import Iterator, Sequence

from xql_jax.sweeps.plan import Cell
from xql_jax.sweeps.worker import Outcome, work
from xql_jax.training.signals import StopSignals


class InProcess:
    """The executor that needs no cluster and no extra packages."""

    def run(self, cells: Sequence[Cell], stop: StopSignals) -> Iterator[tuple[Cell, Outcome]]:
        """See `Executor`."""
        for cell in cells:
            if stop.received:
                return
            outcome = work(cell.settings, stop=stop)
            stop.received = stop.received or outcome.stopped
            yield cell, outcome
