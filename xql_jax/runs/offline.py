"""Offline run: trains a population on a dataset.

The way to the gradient: `Population.advance` (`training/population.py`), which the loop calls again and again
(`train_and_summarize` in run.py, `training/loop.py`). Its compiled program (`training/program.py`) is
`run_updates`, whose line `learner.update(...)` is the method's own: XQL's is `InSample.update` in
`learners/xql.py`.
"""

import logging
import math
from collections.abc import Mapping, Sequence

import numpy as np

from xql_jax.data.sampling import Trajectories, fits_on_device
from xql_jax.learners.method import Part
from xql_jax.learners.registry import make_learner
from xql_jax.runs.job import Job, log_beginning, make_job
from xql_jax.runs.kinds import Offline
from xql_jax.runs.machine import prepare_acting
from xql_jax.runs.run import Summary, make_evaluator, run_resources, train_and_summarize
from xql_jax.runs.run_data import data_folder, load_data
from xql_jax.settings import values_of
from xql_jax.training.data_population import offline_population
from xql_jax.training.loop import RowCallback
from xql_jax.training.members import Member, learners_of
from xql_jax.training.schedule import Ramp
from xql_jax.training.signals import StopSignals

LOG = logging.getLogger(__name__)


def offline_job(settings: Offline) -> Job:
    """Returns the run's job; raises UserError for mistakes in the settings."""
    settings = settings.resolved()
    return make_job(
        settings, make_learner(settings.method, settings.config).scheduled(settings.max_steps), settings.ramp
    )


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
            return Summary(folder.path, settings, finished, had_ended=True)

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
            callbacks = *callbacks, watch_values(job.learner, job.members, data.rewards, job.ramps)
        return train_and_summarize(
            job, folder, population, evaluator, data.task, stop, data.preprocessing, callbacks
        )


def watch_values(
    learner: Part,
    members: Sequence[Member],
    rewards: np.ndarray,
    ramps: Sequence[Ramp] = (),
    until: float = math.inf,
) -> RowCallback:
    """Returns a callback that warns once of each member whose V is beyond every return that rewards allow.

    Returns lie between the least and the largest reward at every step, and 0, as episodes may end. With XQL a
    beta that is too small lets V run away without being infinite. V may be beyond them by 1, near which
    networks start, or by a tenth of the largest size of a return.

    Args:
        rewards: f32[N] of single steps of the data that are learned from.
        ramps: hyperparameters that change with the step.
        until: the last step at which nothing but these is learned from.
    """
    least, most = min(0.0, float(rewards.min())), max(0.0, float(rewards.max()))
    discounts = [float(getattr(own, "discount", 1.0)) for own in learners_of(learner, members)]
    is_xql = "beta" in values_of(learner)
    hint = "it needs a larger beta, or use xql_bellman" if is_xql else "try lower learning rates"
    warned: set[str] = set()

    def watch(step: int, columns: Mapping[str, Sequence[float]]) -> None:
        # The largest so far, because V follows a falling discount slowly.
        ramped = [
            float(ramp.at(int(min(place, step))))
            for ramp in ramps
            if ramp.name == "discount"
            for place in (*ramp.steps, step)
        ]
        values = columns.get("value/v_mean", [math.nan] * len(members))
        for member, discount, value in zip(members, discounts, values, strict=True):
            steps = 1.0 / max(1.0 - max(ramped, default=discount), 1e-12)
            low, high = least * steps, most * steps
            margin = max(1.0, 0.1 * max(high, -low))
            is_beyond = math.isfinite(value) and not low - margin <= value <= high + margin
            if is_beyond and step <= until and member.name not in warned:
                warned.add(member.name)
                bound = f"above {high:.4g}" if value > high else f"below {low:.4g}"
                LOG.warning(
                    f"{member}: V is {value:.4g} on average, but the rewards allow no return {bound}: V has "
                    f"run away: {hint}"
                )

    return watch
