"""Online run: trains a population in its own environments."""

import functools
import logging
from collections.abc import Sequence
from typing import Any

from xql_jax.data import replay
from xql_jax.data.preprocessing import Preprocessing
from xql_jax.data.sampling import room_on_device
from xql_jax.envs import action_bounds, environment_maker
from xql_jax.envs.compiled import compiled_environment
from xql_jax.envs.vector import Patience
from xql_jax.errors import UserError
from xql_jax.logs.csv_rows import Row
from xql_jax.runs.folder import RunFolder, folder_of
from xql_jax.runs.kinds import Acting, Online
from xql_jax.runs.load import Run
from xql_jax.runs.machine import prepare_acting
from xql_jax.runs.run import make_evaluator, run_resources, train_and_summarize
from xql_jax.runs.run_data import scored
from xql_jax.training.compiled_population import CompiledPopulation
from xql_jax.training.host_population import HostPopulation
from xql_jax.training.loop import RowCallback
from xql_jax.training.population import Population
from xql_jax.training.replay_files import ReplayFiles
from xql_jax.training.signals import StopSignals
from xql_jax.types import Json, Learner

LOG = logging.getLogger(__name__)


def run_online(
    settings: Online, stop: StopSignals | None = None, callbacks: Sequence[RowCallback] = ()
) -> Run:
    """Trains a population whose members have their own environments and buffers; see `run_offline`."""
    prepare_acting()
    stop = stop or StopSignals()
    task = scored(settings.task, (settings.random_return, settings.expert_return))
    with run_resources(settings) as resources:
        evaluator = make_evaluator(settings, resources)
        sizes = environment_maker(task, settings.simulation).sizes(task)
        check_room(settings, sizes, "--buffer_size")
        about: Json = {"warnings": evaluator.caveats if evaluator else []}
        folder = folder_of(settings, task.name, task, sizes, about)
        if settings.resume and (finished := folder.finished()):
            return finished

        resources.enter_context(folder.locked(settings.resume))
        preprocessing = Preprocessing(action_bounds=action_bounds(task), action_chunk=settings.action_chunk)
        preprocessing.save(folder.files.preprocessing, folder.run_id)
        LOG.info(
            f"{task.name}, {settings.method}: {len(settings.members)} member(s), "
            f"{settings.max_steps:,} steps; files in {folder.path}"
        )
        if task.suite.is_compiled:
            files = ReplayFiles(folder.files.replay, folder.run_id)
            environment = compiled_environment(task)
            population: Population = CompiledPopulation(
                settings.learner, settings.members, environment, settings.acting, files
            )
        else:
            population = host_population(settings.learner, folder, stop, preprocessing=preprocessing)
        return train_and_summarize(
            folder, population, evaluator, task, stop, preprocessing, callbacks, details=details_of
        )


def host_population(learner: Learner, folder: RunFolder, stop: StopSignals, **options: Any) -> HostPopulation:
    """Returns the population that steps simulators while it learns; for the options see `HostPopulation`."""
    settings: Any = folder.settings
    schedule = settings.acting
    rounds, lag = schedule.round_steps, schedule.policy_lag
    LOG.info(f"  rounds of {rounds} step(s): the policy that acts is at most {lag} updates behind")
    return HostPopulation(
        learner,
        settings.members,
        functools.partial(environment_maker(settings.task, settings.simulation).make, settings.task),
        schedule,
        ReplayFiles(folder.files.replay, folder.run_id),
        Patience(settings.environment_timeout, lambda: stop.received is not None),
        **options,
    )


def details_of(population: Population, rows: Sequence[Row]) -> Json:
    """Returns the entries of summary.json that only online runs have."""
    seconds = {name: round(value, 3) for name, value in population.seconds.items()}
    details: Json = {"seconds_by_work": seconds}
    if isinstance(population, CompiledPopulation):
        details["policy_lag"] = 0
        details["failed_episodes"] = population.failures
    elif isinstance(population, HostPopulation):
        details["policy_lag"] = population.schedule.policy_lag
    return details


def check_room(settings: Acting, sizes: tuple[int, int], flag: str) -> None:
    """Raises UserError if the members' replay buffers, whose size the flag sets, do not fit into memory.

    `sizes` are the lengths of an observation and of an action.
    """
    buffer_size, num_members = settings.acting.buffer_size, len(settings.members)
    wanted, room = (num_members + 1) * replay.num_bytes(buffer_size, *sizes), room_on_device()
    if wanted > room:
        raise UserError(
            f"{flag}={buffer_size}: {num_members} buffer(s) of that size, and one more while a "
            f"resumed run reads their files, take {wanted / 2**30:.1f} GiB, and there is room for "
            f"{room / 2**30:.1f}: give a smaller one or fewer members"
        )
