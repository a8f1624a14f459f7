"""Trains the cells (runs) of a sweep, each in the process that an executor chooses."""

import dataclasses
import logging
import os
import signal
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import xql_jax
from xql_jax.errors import Busy, UserError
from xql_jax.runs.acting_settings import ActingSettings
from xql_jax.runs.machine import prepare_acting
from xql_jax.runs.settings import RunSettings
from xql_jax.runs.train import train_run
from xql_jax.sweeps.plan import Cell, Plan, refreshed
from xql_jax.sweeps.settings import SweepSettings
from xql_jax.training.signals import StopSignals

LOG = logging.getLogger(__name__)
SECONDS_PER_LOOK = 1.0  # between two checks whether another process has released the run


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a cell's training ended: the run's summary, or the reason why there is none."""

    summary: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    stopped: signal.Signals | None = None  # the signal that it got; it may have finished nevertheless
    failure: str = ""


class Executor(Protocol):
    """Trains cells in some place: in this process, on a Ray cluster or by SLURM."""

    def run(self, cells: Sequence[Cell], stop: StopSignals) -> Iterator[tuple[Cell, Outcome]]:
        """Trains each cell, and yields it when it has ended. When stopped, running cells are saved."""
        ...


class InProcess:
    """The executor that needs no cluster and no extra packages: one cell after the other, here."""

    def run(self, cells: Sequence[Cell], stop: StopSignals) -> Iterator[tuple[Cell, Outcome]]:
        """See `Executor`."""
        for cell in cells:
            if stop.received:
                return
            outcome = work(cell.settings, stop=stop)
            stop.received = stop.received or outcome.stopped
            yield cell, outcome


def train(
    plan: Plan, settings: SweepSettings, executor: Executor, stop: StopSignals
) -> Iterator[tuple[Cell, Outcome]]:
    """Trains the unfinished cells, going on from their checkpoints, whatever becomes of the others.

    Yields each cell when it has finished or stopped, or has failed. One whose worker was stopped goes on as
    long as it gets further each time.
    """
    cells = plan.to_do
    while cells and not stop.received:
        begun_at = {str(cell): cell.step for cell in cells}
        for cell, outcome in executor.run(cells, stop):
            if outcome.failure:
                del begun_at[str(cell)]
            yield cell, outcome
        plan = refreshed(plan, settings.save_dir)
        cells = [cell for cell in plan.to_do if cell.step > begun_at.get(str(cell), cell.step)]


def work(
    settings: RunSettings,
    version: str = xql_jax.__version__,
    folder: str | None = None,
    stop: StopSignals | None = None,
) -> Outcome:
    """Trains the run with these settings, or goes on with it if it was begun before.

    If another process is training the run, waits for it: it may be a worker whose driver was killed.

    Args:
        version: of xql_jax where the sweep was started; it must be the same here.
        folder: where the sweep was started: relative paths begin there. None: the current folder.
        stop: checked while waiting. The run itself has its own signal handlers.
    """
    if version != xql_jax.__version__:
        return Outcome(
            failure=f"xql_jax is {xql_jax.__version__} here, and {version} where the sweep was started"
        )
    said = False
    try:
        if folder:
            os.chdir(folder)
        if isinstance(settings, ActingSettings):
            prepare_acting()
        while not (stop and stop.received):
            own = StopSignals()
            own.outer = stop
            try:
                return Outcome(train_run(settings, own).content, own.received)
            except Busy as error:
                if not said:
                    LOG.info(f"{error}; waiting for it")
                said = True
                time.sleep(SECONDS_PER_LOOK)
    except UserError as error:
        return Outcome(failure=str(error))
    except Exception as error:  # other cells go on
        LOG.warning(traceback.format_exc())
        return Outcome(failure=f"{type(error).__name__}: {error}")
    assert stop is not None
    return Outcome(stopped=stop.received)


def extra(name: str, error: ImportError) -> UserError:
    """Returns the error for an executor whose package is not installed."""
    return UserError(f"--executor={name}: {error.name} is not installed: pip install 'xql_jax[sweep]'")
