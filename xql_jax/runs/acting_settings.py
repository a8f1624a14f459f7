"""The settings of trainings that act in environments: online, and fine-tuning."""

import copy
import dataclasses
import logging
from typing import Self

from xql_jax.errors import UserError
from xql_jax.method_settings import BufferSettings, CollectingSettings, FinetuningSettings
from xql_jax.runs.run_settings import OfflineSettings, RunSettings
from xql_jax.settings import (
    AT_LEAST_ONE,
    COUNT,
    COUNT_OR_NONE,
    EITHER,
    TEXT,
    one_of,
    recorded,
    setting,
    within,
)
from xql_jax.tasks import Task, get_task
from xql_jax.training.members import fields_given
from xql_jax.training.schedule import Schedule

LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ActingSettings(CollectingSettings):
    """Settings of every training that acts in environments."""

    num_environments: int = recorded(1, within(1, 10_000), "Environments per member, stepped together.")
    processes: bool = setting(False, EITHER, "Run each environment in a process of its own.")
    environment_timeout: float = setting(
        60.0,
        AT_LEAST_ONE,
        "With --processes, seconds to wait for an environment before the run is saved and ends.",
    )
    max_policy_lag: int = setting(
        100, within(1, 1_000_000), "Most updates by which the policy that acts may lag behind the learner."
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class OnlineSettings(BufferSettings, ActingSettings, RunSettings):
    """Settings of `xql-train-online`."""

    env_name: str = setting(
        "cartpole-swingup",
        TEXT,
        "Task: cheetah-run, HalfCheetah-v5, playground:CheetahRun, or MODULE:ID, which MODULE registers.",
        theirs="env env_id env_names task tasks",
    )
    eval_interval: int = recorded(
        10_000, COUNT, "{Steps} between evaluations.", theirs="eval_freq eval_every eval_period"
    )
    checkpoint_interval: int = setting(
        10_000, COUNT, "{Steps} between checkpoints.", theirs="save_freq save_interval"
    )
    on_divergence: str = recorded(
        "freeze",
        one_of("freeze", "restart"),
        "What to do if a member's numbers stop being finite. freeze: keep its last finite state. restart: "
        "begin with new networks and the same buffer; the summary says so.",
    )
    network: str = recorded(
        "paper", one_of("paper", "small"), 'Size of the networks: "paper", or "small" for a laptop.'
    )
    bellman_error_interval: int = recorded(
        5_000, COUNT_OR_NONE, "{Steps} between rows of bellman_errors.csv; 0: none."
    )

    unit = "step"

    @property
    def task(self) -> Task:
        return get_task(self.env_name)

    def resolved(self) -> Self:
        return dataclasses.replace(super().resolved(), env_name=self.task.name)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FinetuneSettings(FinetuningSettings, ActingSettings, OfflineSettings):
    """Settings of `xql-train-finetune`; `max_steps` counts environment steps."""

    data_on: str = "device"  # no setting here: the online phase adds to them
    checkpoint: str | None = setting(
        None,
        TEXT,
        "A run of xql-train-offline, or RUN/checkpoints/STEP of it, to go on from: its learner, "
        "hyperparameters, members, data and preprocessing.",
    )
    background_evaluation: bool = False  # no setting here: the members act on these cores
    ramp: str = ""  # no setting here: `online` has them
    member: int | None = setting(
        None, COUNT_OR_NONE, "With --checkpoint, its member, counted from 0. Default: all."
    )
    replay_buffer_size: int = recorded(
        2_000_000,
        within(1, 100_000_000),
        "Transitions in the replay buffer, the data included unless there is an --offline_fraction.",
    )
    init_dataset_size: int | None = recorded(None, COUNT, "Transitions drawn from the data. Default: all.")
    exploration_noise: float = recorded(
        0.0, within(0, 10), "Standard deviation of Gaussian noise that is added to the policy's actions."
    )

    unit = "step"

    @property
    def schedule(self) -> Schedule:
        """The schedule of both phases."""
        handover = self.num_pretraining_steps or 0
        return dataclasses.replace(super().schedule, max_steps=handover + self.max_steps, handover=handover)

    def resolved(self) -> Self:
        resolved = super().resolved()
        if self.checkpoint is not None:
            resolved = dataclasses.replace(resolved, num_pretraining_steps=0)
        if self.online is None:  # the config's changes are not for what the user sets or sweeps
            given = {*dict(fields_given(self.sweep)), *self.given}
            changes = []
            for name, value in fields_given(resolved.online):
                if name in given:
                    LOG.info(f"{name} stays after the hand-over: --online={name}={value} was the config's")
                else:
                    changes.append(f"{name}={value}")
            resolved = dataclasses.replace(resolved, online=" ".join(changes))
        if "exploration_noise" in self.given and "exploration_noise" in self.config:  # its own, as td3_bc's
            config = copy.deepcopy(resolved.config)
            config.exploration_noise = self.exploration_noise
            resolved = dataclasses.replace(resolved, config=config)
        if resolved.task is None:
            raise UserError("fine-tuning needs an environment: give --env_name")
        return resolved
