"""The settings of trainings that act in environments: online, and fine-tuning."""

import dataclasses
from typing import Any, Self

from xql_jax.config_files import FINETUNE, ONLINE
from xql_jax.configuration import resolve_online
from xql_jax.errors import UserError
from xql_jax.runs.run_settings import OfflineSettings, RunSettings
from xql_jax.settings import Settings, setting
from xql_jax.tasks import Task, get_task, name_in_dm_control
from xql_jax.training.members import fields_given
from xql_jax.training.schedule import Schedule


@dataclasses.dataclass(frozen=True, kw_only=True)
class ActingSettings(Settings):
    """Settings of every training that acts in environments."""

    num_environments: int = setting(1, "Environments per member, stepped together.", least=1, most=10_000)
    processes: bool = setting(False, "Run each environment in a process of its own.")
    environment_timeout: float = setting(
        60.0,
        "With --processes, seconds to wait for an environment before the run is saved and ends.",
        least=1,
    )
    max_policy_lag: int = setting(
        100, "Most updates by which the policy that acts may lag behind the learner.", least=1, most=1_000_000
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class OnlineSettings(RunSettings, ActingSettings):
    """Settings of `xql-train-online`."""

    env_name: str = setting("cartpole-swingup", "Task: cheetah-run, HalfCheetah-v5, playground:CheetahRun.")
    eval_interval: int = setting(10_000, "{Steps} between evaluations.", least=1)
    checkpoint_interval: int = setting(10_000, "{Steps} between checkpoints.", least=1)
    on_divergence: str = setting(
        "freeze",
        "What to do if a member's numbers stop being finite. freeze: keep its last finite state. restart: "
        "begin with new networks and the same buffer; the summary says so.",
        choices=("freeze", "restart"),
    )
    bellman_error_interval: int = setting(5_000, "{Steps} between rows of bellman_errors.csv; 0: none.")

    unit = "step"
    config_kind = ONLINE
    recorded = (*RunSettings.recorded, "bellman_error_interval", "num_environments", "on_divergence")

    @property
    def task(self) -> Task:
        return get_task(self.env_name)

    def resolved(self) -> Self:
        config = resolve_online(self.config, name_in_dm_control(self.task), self.given)
        return dataclasses.replace(self, env_name=self.task.name, config=config)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FinetuneSettings(OfflineSettings, ActingSettings):
    """Settings of `xql-train-finetune`; `max_steps` counts environment steps."""

    data_on: str = "device"  # no setting here: the online phase adds to them
    checkpoint: str | None = setting(
        None,
        "A run of xql-train-offline, or RUN/checkpoints/STEP of it, to go on from: its learner, "
        "hyperparameters, members, data and preprocessing.",
    )
    background_evaluation: bool = False  # no setting here: the members act on these cores
    extend: bool = False  # no setting here
    member: int | None = setting(None, "With --checkpoint, its member, counted from 0. Default: all.")
    num_pretraining_steps: int = setting(
        None, "Updates before the hand-over. Default: the method's own; none with --checkpoint.", most=2**30
    )
    replay_buffer_size: int = setting(
        2_000_000,
        "Transitions in the replay buffer, the data included unless there is an --offline_fraction.",
        least=1,
        most=100_000_000,
    )
    init_dataset_size: int | None = setting(None, "Transitions drawn from the data. Default: all.", least=1)
    offline_fraction: float | None = setting(
        None,
        "Share of the data in every minibatch after the hand-over, 0.5 in RLPD. Default: the method's own; "
        "for most, data and online transitions are drawn with equal probability, as in IQL.",
        least=0,
        most=1,
    )
    warmup_steps: int = setting(
        None, "Steps of random actions after the hand-over. Default: the method's own, 0 for most."
    )
    updates_per_step: float = setting(
        None,
        "Updates per step of the environment. Default: the method's own, 1 for most.",
        least=1e-6,
        most=1_000,
    )
    acting_temperature: float = setting(
        None,
        "Scale of the policy's own spread while it collects; 0: its centre, by which it is evaluated. "
        "Default: the config's own, 1 for most.",
        least=0,
        most=10,
    )
    exploration_noise: float = setting(
        0.0, "Standard deviation of Gaussian noise that is added to the policy's actions.", least=0, most=10
    )
    online: str = setting(
        None,
        "Hyperparameters that change at the hand-over: 'beta=0.5' sets another value, 'beta=1:0.2' goes "
        "linearly from one to another over --max_steps. Default: the config's own, for most none.",
        empty=True,
    )

    unit = "step"
    config_kind = FINETUNE
    recorded = (
        *OfflineSettings.recorded,
        *("num_pretraining_steps", "replay_buffer_size", "init_dataset_size", "offline_fraction"),
        *("warmup_steps", "updates_per_step", "exploration_noise", "online", "num_environments"),
    )

    @property
    def identity(self) -> dict[str, Any]:
        own = {} if self.acting_temperature == 1 else {"acting_temperature": self.acting_temperature}
        return {**super().identity, **own}

    @property
    def schedule(self) -> Schedule:
        """The schedule of both phases."""
        handover = self.num_pretraining_steps or 0
        return dataclasses.replace(super().schedule, max_steps=handover + self.max_steps, handover=handover)

    def resolved(self) -> Self:
        defaults = self.config.about.finetune.to_dict()
        decided = {name: getattr(self, name) for name in defaults if getattr(self, name) is not None}
        if self.checkpoint is not None:
            decided["num_pretraining_steps"] = 0
        if self.online is None:  # the config's changes are not for what the user sets or sweeps
            given = {*dict(fields_given(self.sweep)), *self.given}
            changes = (
                f"{name}={values}" for name, values in fields_given(defaults["online"]) if name not in given
            )
            decided["online"] = " ".join(changes)
        resolved = dataclasses.replace(super().resolved(), **{**defaults, **decided})
        if resolved.task is None:
            raise UserError("fine-tuning needs an environment: give --env_name")
        size, least = self.replay_buffer_size, max(resolved.batch_size, self.num_environments)
        if size < least:
            raise UserError(
                f"--replay_buffer_size={size}: smaller than --batch_size or --num_environments, {least}"
            )
        return resolved
