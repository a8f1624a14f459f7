"""Online run: puts environments, learner and population together."""

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
from xql_jax.runs.run import TrainingRun
from xql_jax.runs.settings import ActingSettings, OnlineSettings
from xql_jax.tasks import COMPILED, ONLINE_TASKS, Task
from xql_jax.training.compiled_online import CompiledPopulation
from xql_jax.training.loop import Recording, TrainingLoop
from xql_jax.training.online import OnlinePopulation
from xql_jax.training.replay_files import ReplayFiles
from xql_jax.training.rounds import OnlineSchedule
from xql_jax.training.schedule import Schedule

LOG = logging.getLogger(__name__)


class OnlineRun(TrainingRun):
    """Trains a population online; each member has its own environments."""

    settings: OnlineSettings
    unit = OnlinePopulation.unit

    def resolve(self) -> None:
        settings = self.settings = self.settings.resolved()
        self.task = task = self.scored(settings.task)
        _tell_of_dataset(task)
        self.online = online_schedule(
            settings,
            self.schedule,
            online_fields(settings.config),
            bellman_error_interval=settings.bellman_error_interval,
            restarts=settings.on_divergence == "restart",
        )
        self.is_compiled = task.suite == COMPILED
        if self.is_compiled:
            _check_compiled(task, settings)
            self.online = dataclasses.replace(self.online, round_steps=self.online.num_environments)
        self.make_members(self.schedule.max_steps)
        if task.suite not in SUITES:
            raise UserError(
                f"--env_name={task.name}: no environment here; there are some for: {', '.join(SUITES)}"
            )

    @property
    def identity(self) -> dict[str, Any]:
        return {**self.settings.identity, "round_steps": self.online.round_steps}

    def open(self) -> None:
        self.resolve()
        assert self.task is not None
        self.suite = choose_suite(self.task, self.simulation)
        self.make_evaluator(self.task, self.suite)
        sizes = self.suite.sizes(self.task)
        check_room(sizes, self.online.buffer_size, len(self.members), "config.buffer_size")
        self.make_folder(self.task.name, sizes, **self.identity)

    def population(self) -> OnlinePopulation | CompiledPopulation:
        assert self.task is not None
        LOG.info(
            f"{self.task.name}, {self.config.algorithm}: {len(self.members)} member(s), "
            f"{self.schedule.max_steps:,} steps"
        )
        behind = "not" if self.is_compiled else f"at most {self.online.policy_lag} updates"
        LOG.info(
            f"  rounds of {self.online.round_steps} step(s): the policy that acts is {behind} behind"
            + f"; files in {self.folder.path}"
        )
        files = self.folder.files
        replay_files = ReplayFiles(files.replay, files.run, self.settings.on_damaged_replay == "drop")
        if self.is_compiled:
            environment = compiled_environment(self.task)
            return CompiledPopulation(self.learner, self.members, environment, self.online, replay_files)
        make = functools.partial(self.suite.make, self.task)
        patience = Patience(self.settings.environment_timeout, lambda: self.stop.received is not None)
        return OnlinePopulation(self.learner, self.members, make, self.online, replay_files, patience)

    def loop(self, population: OnlinePopulation | CompiledPopulation) -> TrainingLoop:
        interval = self.settings.bellman_error_interval
        path = self.folder.files.bellman_errors
        recordings = [Recording(path, "error", interval, population.bellman_errors)] if interval else []
        return TrainingLoop(
            population,
            self.evaluator,
            self.task,
            self.schedule,
            self.folder.files,
            recordings,
        )

    def details(self, population: OnlinePopulation | CompiledPopulation) -> dict[str, Any]:
        failed = (
            {"failed_episodes": population.failures} if isinstance(population, CompiledPopulation) else {}
        )
        return {
            **failed,
            "policy_lag": 0 if self.is_compiled else self.online.policy_lag,
            "restarts": [
                {"member": str(self.members[index]), **dataclasses.asdict(divergence)}
                for index, restarts in population.restarts.items()
                for divergence in restarts
            ],
            "seconds_by_work": {name: round(value, 3) for name, value in population.seconds.items()},
        }


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


def _tell_of_dataset(task: Task) -> None:
    """Logs a hint if the task's name is that of a dataset, because an online run does not read it."""
    if task.dataset_url is None:
        return
    robot = task.name.split("-")[0]
    names = {name.partition("-")[0].lower(): name for name in ONLINE_TASKS if name.endswith("-v5")}
    other = f"; the task without a dataset is {names[robot]}" if robot in names else ""
    LOG.info(
        f"{task.name} is the name of a dataset, which online training does not read: it learns in the "
        f"environment of that dataset alone{other}"
    )


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
