"""Online run: trains a population in its own environments."""

import functools
import logging
from typing import Any

from xql_jax.envs import environment_maker
from xql_jax.envs.compiled import compiled_environment
from xql_jax.runs.folder import RunFolder
from xql_jax.runs.run import Populations
from xql_jax.runs.run_data import RunData
from xql_jax.training.acting import HostActing
from xql_jax.training.compiled_acting import CompiledActing
from xql_jax.training.population import Population
from xql_jax.training.replay_files import ReplayFiles
from xql_jax.types import Learner

LOG = logging.getLogger(__name__)


def populate_online(folder: RunFolder, data: RunData) -> Populations:
    """Makes the population whose members have their own environments and buffers."""
    settings: Any = folder.settings
    LOG.info(
        f"{folder.env_name}, {settings.method}: {len(settings.members)} member(s), "
        f"{settings.max_steps:,} steps; files in {folder.path}"
    )
    if not settings.task.suite.is_compiled:
        preprocessing = data.preprocessing
        return Populations(host_population(settings.learner, folder, preprocessing=preprocessing))
    files = ReplayFiles(folder.files.replay, folder.run_id)
    acting = CompiledActing(compiled_environment(settings.task), settings.acting, files)
    return Populations(Population(settings.learner, settings.members, acting))


def host_population(learner: Learner, folder: RunFolder, **options: Any) -> Population:
    """Returns the population that steps simulators while it learns; for the options see `HostActing`."""
    settings: Any = folder.settings
    schedule = settings.acting
    rounds, lag = schedule.round_steps, schedule.policy_lag
    LOG.info(f"  rounds of {rounds} step(s): the policy that acts is at most {lag} updates behind")
    acting = HostActing(
        settings.members,
        functools.partial(environment_maker(settings.task).make, settings.task),
        schedule,
        ReplayFiles(folder.files.replay, folder.run_id),
        **options,
    )
    return Population(learner, settings.members, acting)
