"""Offline run: trains a population on a dataset.

The way to the gradient: `train_and_summarize` (run.py) runs the loop (`training/loop.py`), which calls
`Population.advance`; its compiled program is `run_updates` (`training/updates.py`), whose line
`learner.update(...)` is the method's own: XQL's is `InSample.update` in `learners/xql.py`.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from xql_jax.configuration import learner_from_config
from xql_jax.data.sampling import Trajectories, fits_on_device
from xql_jax.runs.job import Job, log_beginning, make_job
from xql_jax.runs.machine import prepare_acting
from xql_jax.runs.run import Summary, make_evaluator, run_resources, train_and_summarize
from xql_jax.runs.run_data import data_folder, load_data
from xql_jax.runs.run_settings import OfflineSettings
from xql_jax.training.data_population import offline_population
from xql_jax.training.loop import RowCallback
from xql_jax.training.members import Member, learners_of
from xql_jax.training.signals import StopSignals

LOG = logging.getLogger(__name__)


def offline_job(settings: OfflineSettings) -> Job:
    """Returns the run's job; raises UserError for mistakes in the settings."""
    settings = settings.resolved()
    return make_job(settings, learner_from_config(settings.config, settings.max_steps), settings.ramp)


def run_offline(job: Job, stop: StopSignals | None = None, callbacks: Sequence[RowCallback] = ()) -> Summary:
    """Trains a population on a dataset, and evaluates it in the task's environment.

    Args:
        stop: ends it after saving a checkpoint; it takes the signals SIGINT and SIGTERM meanwhile.
        callbacks: see `RowCallback`.
    Raises:
        UserError: if a setting or the data are invalid; earlier runs are not changed then.
    """
    settings, stop = job.settings, stop or StopSignals()
    if settings.background_evaluation:
        prepare_acting()
    with run_resources(settings) as resources:
        evaluator = make_evaluator(job, resources)
        data = load_data(job, evaluator)
        folder = data_folder(job, data)
        if settings.resume and (finished := folder.finished_summary()):
            return Summary(folder.path, settings.unit, finished, had_ended=True)

        resources.enter_context(folder.locked(settings.resume))
        data.preprocessing.save(folder.files.preprocessing, folder.run_id)
        streamed = settings.data_on == "host"
        if settings.data_on == "auto":
            streamed = not fits_on_device(data.dataset.batch)
        log_beginning(job, folder, data.dataset, streamed)
        source = data.dataset if streamed else data.dataset.batch
        population = offline_population(
            job.learner, job.members, source, settings.batch_size, ramps=job.ramps
        )
        if not isinstance(data.dataset.batch, Trajectories):  # what learns from these has no V
            callbacks = *callbacks, watch_values(job.learner, job.members, data.rewards)
        return train_and_summarize(
            job, folder, population, evaluator, data.task, stop, data.preprocessing, callbacks
        )


def watch_values(
    learner: Any, members: Sequence[Member], rewards: np.ndarray, until: float = math.inf
) -> RowCallback:
    """Returns a callback that warns once of each member whose V is above every return that the rewards allow.

    No return is above the largest reward at every step, nor above 0 if all are negative and episodes may end.
    With XQL a beta that is too small lets V run away without being infinite. V may be above by 1, near which
    networks start, or by a tenth of the largest size of a return.

    Args:
        rewards: f32[N] of single steps of the data that are learned from.
        until: the last step at which nothing but these is learned from.
    """
    discounts = np.array([float(getattr(own, "discount", 1.0)) for own in learners_of(learner, members)])
    lengths = 1.0 / np.maximum(1.0 - discounts, 1e-12)  # steps
    highest = max(0.0, float(np.max(rewards))) * lengths
    most = highest + np.maximum(1.0, 0.1 * float(np.abs(rewards).max()) * lengths)
    warned: set[str] = set()

    def watch(step: int, columns: Mapping[str, Sequence[float]]) -> None:
        values = np.array(columns.get("value/v_mean", np.full(len(members), np.nan)))
        for index in np.flatnonzero((values > most) & (step <= until)).tolist():
            member = members[index]
            if member.name not in warned:
                warned.add(member.name)
                LOG.warning(
                    f"{member}: V is {values[index]:.4g} on average, but the rewards allow no return above "
                    f"{highest[index]:.4g}: V has run away (XQL needs a larger beta, or use xql_bellman)"
                )

    return watch
