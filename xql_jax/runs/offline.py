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

from typing import Any

from xql_jax.data.sampling import Trajectories, fits, room_on_device
from xql_jax.runs.beginning import log_beginning
from xql_jax.runs.folder import RunFolder
from xql_jax.runs.run import Populations
from xql_jax.runs.run_data import RunData
from xql_jax.training.data_kinds import offline_population
from xql_jax.training.values import watch_values


def populate_offline(folder: RunFolder, data: RunData) -> Populations:
    """Makes the population that learns from the data, on the device or streamed from the host."""
    settings: Any = folder.settings
    batch, learner, members, ramps = data.dataset.batch, settings.learner, settings.members, settings.ramps
    streamed = settings.data_on == "host"
    if settings.data_on == "auto":
        streamed = not fits(batch, room_on_device())
    log_beginning(folder, data.dataset, streamed)
    source = data.dataset if streamed else batch
    population = offline_population(learner, members, source, settings.batch_size, ramps=ramps)
    if isinstance(batch, Trajectories):  # what learns from these has no V
        return Populations(population)
    return Populations(population, (watch_values(learner, members, data.rewards, ramps),))
