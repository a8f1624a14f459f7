"""An online run: environments, learner and population put together."""

import dataclasses
import functools
import logging
import math
from typing import Any

from xql_jax.configuration import OnlineFields, online_fields, resolve_online
from xql_jax.data import replay
from xql_jax.data.memory import room_on_device
from xql_jax.envs import SUITES, choose_suite
from xql_jax.envs.workers import Patience
from xql_jax.errors import UserError
from xql_jax.runs.run import TrainingRun
from xql_jax.runs.settings import OnlineSettings
from xql_jax.tasks import get_task
from xql_jax.training.loop import Recording, TrainingLoop
from xql_jax.training.online import OnlinePopulation
from xql_jax.training.rounds import OnlineSchedule
from xql_jax.types import Environment

LOG = logging.getLogger(__name__)


class OnlineRun(TrainingRun):
    """Trains a population in environments of its own."""

    settings: OnlineSettings
    unit = OnlinePopulation.unit

    def open(self) -> None:
        settings, config = self.settings, self.config
        self.task = task = get_task(settings.env_name)
        self.values_of_task = resolve_online(config, task.name, settings.config_overrides)
        fields = online_fields(config)
        self.online = _schedule(settings, fields)
        self.make_members()
        if task.suite not in SUITES:
            raise UserError(
                f"--env_name={task.name}: no environment here; there are some for: {', '.join(SUITES)}"
            )
        self.suite = choose_suite(task, "mujoco", legacy_inertia=False)
        self.make_evaluator(task, self.suite)
        _check_room(self.suite.make(task), fields.buffer_size, len(self.members))
        self.make_folder(
            task.name,
            **self.shared_identity,
            bellman_error_interval=settings.bellman_error_interval,
            num_environments=self.online.num_environments,
            round_steps=self.online.round_steps,
            on_divergence=settings.on_divergence,
            env_backend="mujoco",
            legacy_inertia=False,
        )

    def population(self) -> OnlinePopulation:
        assert self.task is not None
        by_task = ", ".join(f"{name}={value:g}" for name, value in self.values_of_task.items())
        LOG.info(
            f"{self.task.name}, {self.config.algorithm}: {len(self.members)} member(s), "
            f"{self.schedule.max_steps:,} steps"
        )
        LOG.info(
            f"  rounds of {self.online.round_steps} step(s): the policy that acts "
            f"lacks at most {self.online.policy_lag} updates"
            + (f"; for this task {by_task}" if by_task else "")
            + f"; files in {self.folder.path}"
        )
        make = functools.partial(self.suite.make, self.task)
        patience = Patience(self.settings.environment_timeout, lambda: self.stop.received is not None)
        return OnlinePopulation(
            self.learner,
            self.members,
            make,
            self.online,
            self.folder.files.replay,
            patience,
            owner=self.folder.run,
            drops_damaged=self.settings.on_damaged_replay == "drop",
        )

    def loop(self, population: OnlinePopulation) -> TrainingLoop:
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
            run=self.folder.run,
        )

    def details(self, population: OnlinePopulation) -> dict[str, Any]:
        return {
            "policy_lag": self.online.policy_lag,
            "restarts": [
                {"member": str(self.members[index]), **dataclasses.asdict(divergence)}
                for index, restarts in population.restarts.items()
                for divergence in restarts
            ],
            "seconds_by_work": {name: round(value, 3) for name, value in population.seconds.items()},
        }


def _schedule(settings: OnlineSettings, fields: OnlineFields) -> OnlineSchedule:
    """The rounds: as long as the lag allows, and such that each interval is a whole number of them."""
    schedule, number = settings.schedule, settings.num_environments
    intervals = {
        name: getattr(schedule, name)
        for name in ("max_steps", "log_interval", "eval_interval", "checkpoint_interval")
    }
    intervals["bellman_error_interval"] = settings.bellman_error_interval  # 0 is a multiple of everything
    unfit = [f"--{name}={interval}" for name, interval in intervals.items() if interval % number]
    if unfit:
        raise UserError(f"{', '.join(unfit)}: must be a multiple of --num_environments={number}")
    for name, least in (("config.batch_size", fields.batch_size), ("--num_environments", number)):
        if fields.buffer_size < least:
            raise UserError(f"config.buffer_size={fields.buffer_size}: smaller than {name}={least}")
    shortest = OnlineSchedule(
        num_environments=number,
        processes=settings.processes,
        buffer_size=fields.buffer_size,
        batch_size=fields.batch_size,
        warmup_steps=fields.warmup_steps,
        keep_checkpoints=schedule.keep_checkpoints,
        restarts=settings.on_divergence == "restart",
        updates_per_step=fields.updates_per_step,
        round_steps=number,
    )
    if not shortest.updates_by(schedule.max_steps):
        raise UserError(
            f"--max_steps={schedule.max_steps}: nothing is learned in so few: config.warmup_steps="
            f"{fields.warmup_steps} are random, and config.updates_per_step={fields.updates_per_step:g}"
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


def _check_room(environment: Environment, buffer_size: int, num_members: int) -> None:
    """Raises UserError if the members' buffers have no room. The environment is closed."""
    sizes = environment.observation_space.shape[0], environment.action_space.shape[0]
    environment.close()
    one, room = replay.num_bytes(buffer_size, *sizes), room_on_device()
    wanted = (num_members + 1) * one
    if wanted > room:
        raise UserError(
            f"config.buffer_size={buffer_size}: {num_members} buffer(s) of that size, and one more while a "
            f"resumed run reads their files, take {wanted / 2**30:.1f} GiB, and there is room for "
            f"{room / 2**30:.1f}: give a smaller one or fewer members"
        )
