"""Offline run: trains a population on a dataset.

The way to the gradient: `Population.advance` (`training/population.py`), which the loop calls again and again
(`train_and_summarize` in run.py, `training/loop.py`). It calls `train`, that `run_program`, and that the
compiled program: `train_member`, which is `run_updates` (`training/program.py`), on minibatches that
`Resident` or `Streamed` draws (`training/data_kinds.py`). Its line `learner.update(...)` is the method's own:
that of XQL, the default method, is `InSample.update` in `learners/xql.py`. Its `value.fit` comes to
`jax.grad` in `Trained.minimize` of `learners/parts.py`, of the mean of `GumbelRegression.loss_of`: by default
`gumbel_rescaled_loss` in `losses/gumbel.py`. The fields, such as `clip_rule`, have the values of the config
file, which override a class's defaults.
"""

import logging
from collections.abc import Sequence

from xql_jax.data.sampling import Trajectories, fits, room_on_device
from xql_jax.runs.job import Job, log_beginning, make_job
from xql_jax.runs.kinds import Offline
from xql_jax.runs.load import Run
from xql_jax.runs.machine import prepare_acting
from xql_jax.runs.run import make_evaluator, run_resources, train_and_summarize
from xql_jax.runs.run_data import load_data, run_folder
from xql_jax.training.data_kinds import offline_population
from xql_jax.training.loop import RowCallback
from xql_jax.training.signals import StopSignals
from xql_jax.training.values import watch_values

LOG = logging.getLogger(__name__)


def offline_job(settings: Offline) -> Job:
    """Returns the run's job; raises UserError for mistakes in the settings."""
    settings = settings.resolved()
    return make_job(settings, settings.learner.scheduled(settings.max_steps), settings.ramp)


def run_offline(job: Job, stop: StopSignals | None = None, callbacks: Sequence[RowCallback] = ()) -> Run:
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
        folder = run_folder(job, data)
        if settings.resume and (finished := folder.finished()):
            return finished

        resources.enter_context(folder.locked(settings.resume))
        data.preprocessing.save(folder.files.preprocessing, folder.run_id)
        streamed = settings.data_on == "host"
        if settings.data_on == "auto":
            streamed = not fits(data.dataset.batch, room_on_device())
        log_beginning(job, folder.env_name, folder.path, data.dataset, streamed)
        source = data.dataset if streamed else data.dataset.batch
        population = offline_population(
            job.learner, job.members, source, settings.batch_size, ramps=job.ramps
        )
        if not isinstance(data.dataset.batch, Trajectories):  # what learns from these has no V
            callbacks = *callbacks, watch_values(job.learner, job.members, data.rewards, job.ramps)
        return train_and_summarize(
            job, folder, population, evaluator, data.task, stop, data.preprocessing, callbacks
        )
