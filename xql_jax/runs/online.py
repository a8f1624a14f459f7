"""Online run: trains a population in its own environments."""

import contextlib
import dataclasses
import functools
import logging
import math
from typing import Any

from xql_jax.configuration import OnlineFields, online_fields
from xql_jax.data import replay
from xql_jax.data.memory import room_on_device
from xql_jax.envs import SUITES, choose_suite
from xql_jax.envs.compiled import compiled_environment
from xql_jax.envs.vector import Patience
from xql_jax.errors import UserError
from xql_jax.runs.acting_settings import ActingSettings, OnlineSettings
from xql_jax.runs.folder import RunFolder
from xql_jax.runs.machine import prepare_acting, settings_of_jax
from xql_jax.runs.run import (
    Job,
    Summary,
    draw_curve,
    evaluating,
    folder_of,
    make_job,
    naming_lack_of_memory,
    scored,
    simulation_of,
    train,
    write_summary,
)
from xql_jax.tasks import COMPILED, Task
from xql_jax.training.compiled import Compiled
from xql_jax.training.host import Host, bellman_errors
from xql_jax.training.loop import Recording, TrainingLoop
from xql_jax.training.population import Population
from xql_jax.training.replay_files import ReplayFiles
from xql_jax.training.schedule import OnlineSchedule, Schedule
from xql_jax.training.signals import StopSignals

LOG = logging.getLogger(__name__)


def online_job(settings: OnlineSettings) -> Job:
    """Returns the run's job; raises UserError for mistakes in the settings."""
    settings = settings.resolved()
    task = settings.task
    schedule = online_schedule(
        settings,
        settings.schedule,
        online_fields(settings.config),
        bellman_error_interval=settings.bellman_error_interval,
        restarts=settings.on_divergence == "restart",
    )
    if task.suite == COMPILED:
        _check_compiled(task, settings)
        schedule = dataclasses.replace(schedule, round_steps=schedule.num_environments)
    if task.suite not in SUITES:
        raise UserError(
            f"--env_name={task.name}: no environment here; there are some for: {', '.join(SUITES)}"
        )
    job = make_job(settings, settings.max_steps, round_steps=schedule.round_steps)
    return job._replace(acting=schedule)


def train_online(settings: OnlineSettings, stop: StopSignals | None = None) -> Summary:
    """Trains a population online; each member has its own environments and replay buffer.

    Args:
        stop: as for `train_offline`.
    Raises:
        UserError: if a setting is invalid; earlier runs are not changed then.
    """
    prepare_acting()
    job, stop = online_job(settings), stop or StopSignals()
    schedule = job.acting
    assert schedule is not None
    task = scored(job.settings, job.settings.task)
    with contextlib.ExitStack() as held, naming_lack_of_memory():
        held.enter_context(settings_of_jax())
        evaluator = held.enter_context(evaluating(job))
        sizes = choose_suite(task, simulation_of(settings)).sizes(task)
        check_room(sizes, schedule.buffer_size, len(job.members), "config.buffer_size")
        folder = folder_of(job, task.name, task, sizes, {})
        if settings.resume and (finished := folder.finished_summary()):
            return Summary(folder.path, settings.unit, finished, had_ended=True)

        held.enter_context(folder.locked(settings.resume))
        population = online_population(job, task, folder, stop)
        held.callback(population.close)
        interval, path = settings.bellman_error_interval, folder.files.bellman_errors
        measure = functools.partial(bellman_errors, population)
        errors = [Recording(path, "error", interval, measure)] if interval else []
        loop = TrainingLoop(population, evaluator, task, settings.schedule, folder.files, errors)
        held.enter_context(loop)
        rows = train(loop, job, folder, stop)
        if loop.finished:  # an interrupted run skips the pictures
            draw_curve(rows, job, task, folder)
        strategy: Any = population.strategy  # `Host` or `Compiled`
        restarts = [
            {"member": str(job.members[index]), **dataclasses.asdict(divergence)}
            for index, divergences in strategy.restarts.items()
            for divergence in divergences
        ]
        work = {name: round(value, 3) for name, value in strategy.seconds.items()}
        details: dict[str, Any] = {"policy_lag": schedule.policy_lag}
        if isinstance(strategy, Compiled):
            details = {"policy_lag": 0, "failed_episodes": strategy.failures}
        return write_summary(
            loop, rows, job, folder, stop, restarts=restarts, seconds_by_work=work, **details
        )


def online_population(job: Job, task: Task, folder: RunFolder, stop: StopSignals) -> Population:
    """Makes the members' environments and the population, and logs a description."""
    schedule = job.acting
    assert schedule is not None
    settings, is_compiled = job.settings, task.suite == COMPILED
    LOG.info(
        f"{task.name}, {settings.config.algorithm}: {len(job.members)} member(s), "
        f"{settings.max_steps:,} steps"
    )
    behind = "not" if is_compiled else f"at most {schedule.policy_lag} updates"
    LOG.info(
        f"  rounds of {schedule.round_steps} step(s): the policy that acts is {behind} behind; files in "
        f"{folder.path}"
    )
    files = ReplayFiles(folder.files.replay, folder.run)
    if is_compiled:
        strategy = Compiled(compiled_environment(task), schedule, files)
        return Population(job.learner, job.members, strategy)
    make = functools.partial(choose_suite(task, simulation_of(settings)).make, task)
    patience = Patience(settings.environment_timeout, lambda: stop.received is not None)
    return Population(job.learner, job.members, Host(make, schedule, files, patience))


def online_schedule(
    settings: ActingSettings,
    schedule: Schedule,
    fields: OnlineFields,
    *,
    prefix: str = "config.",
    bellman_error_interval: int = 0,
    **others: Any,
) -> OnlineSchedule:
    """Chooses the schedule of acting and learning.

    The rounds are as long as --max_policy_lag allows, and every interval of `schedule` is a multiple of them.

    Args:
        schedule: in environment steps.
        prefix: of the fields' names on the command line, for messages.
        bellman_error_interval: in steps; 0: none.
        others: further fields of the `OnlineSchedule`.
    Raises:
        UserError: if the settings contradict each other, or if nothing would be learned.
    """
    number = settings.num_environments
    intervals = {
        name: getattr(schedule, name)
        for name in ("max_steps", "log_interval", "eval_interval", "checkpoint_interval")
    }
    intervals["bellman_error_interval"] = bellman_error_interval  # 0 is a multiple of everything
    unfit = [f"--{name}={interval}" for name, interval in intervals.items() if interval % number]
    if unfit:
        raise UserError(f"{', '.join(unfit)}: must be a multiple of --num_environments={number}")
    for name, least in ((f"{prefix}batch_size", fields.batch_size), ("--num_environments", number)):
        if fields.buffer_size < least:
            raise UserError(f"{prefix}buffer_size={fields.buffer_size}: smaller than {name}={least}")
    shortest = OnlineSchedule(
        num_environments=number,
        processes=settings.processes,
        buffer_size=fields.buffer_size,
        batch_size=fields.batch_size,
        warmup_steps=fields.warmup_steps,
        keep_checkpoints=schedule.keep_checkpoints,
        updates_per_step=fields.updates_per_step,
        round_steps=number,
        **others,
    )
    if not shortest.updates_by(schedule.max_steps):
        raise UserError(
            f"--max_steps={schedule.max_steps}: nothing is learned in so few: {prefix}warmup_steps="
            f"{fields.warmup_steps} are random, and {prefix}updates_per_step={fields.updates_per_step:g}"
        )
    strides = math.gcd(*intervals.values()) // number
    rounds = (
        dataclasses.replace(shortest, round_steps=number * length)
        for length in range(strides, 0, -1)
        if strides % length == 0 and number * length <= fields.buffer_size
    )
    fit = [rounds_of for rounds_of in rounds if rounds_of.policy_lag <= settings.max_policy_lag]
    if not fit:
        raise UserError(
            f"--max_policy_lag={settings.max_policy_lag}: too small for --num_environments={number}, with "
            f"which it is at least {shortest.policy_lag}"
        )
    return fit[0]


def _check_compiled(task: Task, settings: OnlineSettings) -> None:
    """Raises UserError for settings that environments inside the compiled program do not support."""
    if settings.processes:
        raise UserError(f"--processes: {task.name} is part of the compiled program and has no processes")
    if settings.on_divergence == "restart":
        raise UserError(f"--on_divergence=restart is not for {task.name}, which is compiled: give freeze")


def check_room(sizes: tuple[int, int], buffer_size: int, num_members: int, flag: str) -> None:
    """Raises UserError if the members' replay buffers do not fit into the device's memory.

    Args:
        sizes: the lengths of an observation and of an action.
        flag: the flag that sets the buffer's size, for the message.
    """
    one, room = replay.num_bytes(buffer_size, *sizes), room_on_device()
    wanted = (num_members + 1) * one
    if wanted > room:
        raise UserError(
            f"{flag}={buffer_size}: {num_members} buffer(s) of that size, and one more while a "
            f"resumed run reads their files, take {wanted / 2**30:.1f} GiB, and there is room for "
            f"{room / 2**30:.1f}: give a smaller one or fewer members"
        )
