"""The loop that trains a sweep: its missing cells, and with halving one round after the other.

A cell is one method on one dataset, with seeds and settings that are trained as one run (see `plan.Cell`). A
round trains the remaining cells up to the next step at which they are compared, or to their end.
"""

import dataclasses
from collections.abc import Iterator

from xql_jax.runs.settings import SweepSettings
from xql_jax.sweeps.halving import Round, next_round
from xql_jax.sweeps.plan import NO_DATA, Cell, Plan, refreshed
from xql_jax.sweeps.worker import Executor, Outcome
from xql_jax.training.signals import StopSignals

# For a cell that ends too early without a step: its worker was stopped, or its files are in another place.
TRIES = 4


def train(
    plan: Plan, settings: SweepSettings, executor: Executor, stop: StopSignals
) -> Iterator[tuple[Cell, Outcome]]:
    """Trains the unfinished cells, going on from their checkpoints. With `halve_at`, only the best go on.

    Yields each cell when it has finished, was paused or stopped, or has failed. Other cells go on after a
    failure.
    """
    failed: set[str] = set()
    tried: dict[tuple[str, int | None, int], int] = {}
    while not stop.received:
        coming = planned_round(
            dataclasses.replace(plan, cells=[c for c in plan.cells if str(c) not in failed]), settings
        )
        cells = [
            dataclasses.replace(cell, settings=dataclasses.replace(cell.settings, pause_at=coming.until))
            for cell in coming.cells
            if tried.get((str(cell), coming.until, cell.step), 0) < TRIES
        ]
        if not cells:
            for cell in coming.cells:  # a comparison must not wait for them
                failed.add(str(cell))
                goal = "its end" if coming.until is None else f"an evaluation of step {coming.until}"
                yield cell, Outcome(failure=f"did not come to {goal} in {TRIES} tries")
            if not coming.cells:
                return
            continue
        begun_at = {str(cell): cell.step for cell in cells}
        for cell, outcome in executor.run(cells, stop):
            beginning = str(cell), coming.until, begun_at[str(cell)]
            tried[beginning] = tried.get(beginning, 0) + 1
            if outcome.failure:
                failed.add(str(cell))
            yield cell, outcome
        plan = refreshed(plan, settings.save_dir)


def planned_round(plan: Plan, settings: SweepSettings) -> Round:
    """Returns the cells to train next, and all comparisons that halving has made."""
    there = [cell for cell in plan.cells if cell.state != NO_DATA]
    return next_round(there, settings.halve_at, settings.keep)
