"""Online run: trains a population in its own environments."""

import dataclasses
import functools
import logging
import math
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
from xql_jax.runs.job import Job, make_job
from xql_jax.runs.kinds import Finetune, Online
from xql_jax.runs.load import Run
from xql_jax.runs.machine import prepare_acting
from xql_jax.runs.run import make_evaluator, run_resources, train_and_summarize
from xql_jax.runs.run_data import scored
from xql_jax.training.acting import HostActing
from xql_jax.training.compiled_acting import CompiledActing
from xql_jax.training.loop import RowCallback
from xql_jax.training.population import Population
from xql_jax.training.replay_files import ReplayFiles
from xql_jax.training.schedule import ActingSchedule
from xql_jax.training.signals import StopSignals
from xql_jax.types import Json, Learner

LOG = logging.getLogger(__name__)


def online_job(settings: Online) -> Job:
    """Returns the run's job; raises UserError for mistakes in the settings."""
    settings = settings.resolved()
    task, schedule = settings.task, acting_schedule(settings)
    if task.suite.is_compiled:
        refused = {
            "--processes": settings.processes,
            "--n_step": settings.n_step > 1,
            "--action_chunk": settings.action_chunk > 1,
        }
        for flag in (flag for flag, is_given in refused.items() if is_given):
            raise UserError(f"{flag} is not for {task.name}, which is part of the compiled program")
        schedule = dataclasses.replace(schedule, round_steps=schedule.num_environments)
    learner = settings.learner.scheduled(settings.max_steps)
    job = make_job(settings, learner, round_steps=schedule.round_steps)
    return job._replace(acting=schedule)


def run_online(job: Job, stop: StopSignals | None = None, callbacks: Sequence[RowCallback] = ()) -> Run:
    """Trains a population whose members have their own environments and buffers; see `run_offline`."""
    prepare_acting()
    settings, stop = job.settings, stop or StopSignals()
    task = scored(settings.task, (settings.random_return, settings.expert_return))
    with run_resources(settings) as resources:
        evaluator = make_evaluator(job, resources)
        sizes = environment_maker(task, settings.simulation).sizes(task)
        check_room(job, sizes, "--buffer_size")
        about: Json = {"warnings": evaluator.caveats if evaluator else []}
        folder = folder_of(job, task.name, task, sizes, about)
        if settings.resume and (finished := folder.finished()):
            return finished

        resources.enter_context(folder.locked(settings.resume))
        preprocessing = Preprocessing(action_bounds=action_bounds(task), action_chunk=settings.action_chunk)
        preprocessing.save(folder.files.preprocessing, folder.run_id)
        LOG.info(
            f"{task.name}, {settings.method}: {len(job.members)} member(s), "
            f"{settings.max_steps:,} steps; files in {folder.path}"
        )
        if task.suite.is_compiled:
            files = ReplayFiles(folder.files.replay, folder.run_id)
            acting = CompiledActing(compiled_environment(task), job.acting, files)
            population = Population(job.learner, job.members, acting)
        else:
            population = host_population(job, job.learner, folder, stop, preprocessing=preprocessing)
        return train_and_summarize(
            job, folder, population, evaluator, task, stop, preprocessing, callbacks,
            details=details_of,
        )  # fmt: skip


def host_population(
    job: Job, learner: Learner, folder: RunFolder, stop: StopSignals, **options: Any
) -> Population:
    """Returns the population that steps simulators while it learns; for the options see `HostActing`."""
    settings, schedule = job.settings, job.acting
    rounds, lag = schedule.round_steps, schedule.policy_lag
    LOG.info(f"  rounds of {rounds} step(s): the policy that acts is at most {lag} updates behind")
    acting = HostActing(
        job.members,
        functools.partial(environment_maker(settings.task, settings.simulation).make, settings.task),
        schedule,
        ReplayFiles(folder.files.replay, folder.run_id),
        Patience(settings.environment_timeout, lambda: stop.received is not None),
        **options,
    )
    return Population(learner, job.members, acting)


def details_of(population: Population, rows: Sequence[Row]) -> Json:
    """Returns the entries of summary.json that only online runs have."""
    seconds = {name: round(value, 3) for name, value in population.seconds.items()}
    details: Json = {"seconds_by_work": seconds}
    if isinstance(population.kind, CompiledActing):
        details["policy_lag"] = 0
        details["failed_episodes"] = population.kind.failures
    elif isinstance(population.kind, HostActing):
        details["policy_lag"] = population.kind.schedule.policy_lag
    return details


def acting_schedule(settings: Online | Finetune, **fields: Any) -> ActingSchedule:
    """Chooses how acting and learning alternate; UserError if settings contradict, or nothing is learned.

    The rounds are as long as --max_policy_lag allows, and every interval of the settings is a multiple of
    them. `fields` are those of the `ActingSchedule` that are no settings.
    """
    number = settings.num_environments
    names = ("max_steps", "log_interval", "eval_interval", "checkpoint_interval", "bellman_error_interval")
    intervals = {name: getattr(settings, name, 0) for name in names}  # 0 is a multiple of everything
    if unfit := [f"--{name}={interval}" for name, interval in intervals.items() if interval % number]:
        raise UserError(f"{', '.join(unfit)}: must be a multiple of --num_environments={number}")
    for field in dataclasses.fields(ActingSchedule):
        if hasattr(settings, field.name):
            fields.setdefault(field.name, getattr(settings, field.name))
    shortest = ActingSchedule(round_steps=number, **fields)
    flag = "--replay_buffer_size" if isinstance(settings, Finetune) else "--buffer_size"
    for name, least in (("--batch_size", shortest.batch_size), ("--num_environments", number)):
        if shortest.buffer_size < least:
            raise UserError(f"{flag}={shortest.buffer_size}: smaller than {name}={least}")
    if not shortest.updates_by(settings.max_steps):
        raise UserError(
            f"--max_steps={settings.max_steps}: nothing is learned in so few: --warmup_steps="
            f"{shortest.warmup_steps} are random, and --updates_per_step={shortest.updates_per_step:g}"
        )
    strides = math.gcd(*intervals.values()) // number
    for length in range(min(strides, shortest.buffer_size // number), 0, -1):
        if strides % length == 0:
            chosen = dataclasses.replace(shortest, round_steps=number * length)
            if chosen.policy_lag <= settings.max_policy_lag:
                return chosen
    raise UserError(
        f"--max_policy_lag={settings.max_policy_lag}: too small for --num_environments={number}, with which "
        f"it is at least {shortest.policy_lag}"
    )


def check_room(job: Job, sizes: tuple[int, int], flag: str) -> None:
    """Raises UserError if the members' replay buffers, whose size the flag sets, do not fit into memory.

    `sizes` are the lengths of an observation and of an action.
    """
    buffer_size, num_members = job.acting.buffer_size, len(job.members)
    wanted, room = (num_members + 1) * replay.num_bytes(buffer_size, *sizes), room_on_device()
    if wanted > room:
        raise UserError(
            f"{flag}={buffer_size}: {num_members} buffer(s) of that size, and one more while a "
            f"resumed run reads their files, take {wanted / 2**30:.1f} GiB, and there is room for "
            f"{room / 2**30:.1f}: give a smaller one or fewer members"
        )
