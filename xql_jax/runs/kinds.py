"""The kinds of training, each a list of groups of settings and its own."""

import dataclasses
import logging
from typing import Self

from xql_jax.errors import UserError
from xql_jax.learners.registry import ONLINE
from xql_jax.runs.shared_settings import Acting, FromData
from xql_jax.settings import (
    ANY,
    COUNT,
    COUNT_OR_NONE,
    EITHER,
    TEXT,
    UNIT_INTERVAL,
    by_config,
    one_of,
    recorded,
    setting,
    settings_of,
    within,
)
from xql_jax.suites.tasks import Task, get_task
from xql_jax.training.members import fields_given
from xql_jax.training.schedule import Schedule
from xql_jax.types import Json

LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Offline(FromData):
    """The settings of `xql-train-offline`."""

    command = "xql-train-offline"
    function = "train"

    data_on: str = setting(
        "auto",
        one_of("auto", "device", "host"),
        "device: the data are in its memory; host: streamed from the host's; auto: device if there is room.",
    )
    ramp: str = recorded(
        "",
        ANY,
        "Hyperparameters that change with the update: 'beta=2:0.5' goes linearly from 2 to 0.5, "
        "'beta=2:0.5@0.3:2' to 0.5 in the first 0.3 of --max_steps, and then back.",
        neutral="",
    )
    background_evaluation: bool = setting(
        False,
        EITHER,
        "Evaluate on the host's cores while training goes on: for accelerators. The numbers are the same; a "
        "stop goes back to the step of an evaluation that is not over.",
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Online(Acting):
    """The settings of `xql-train-online`."""

    command = "xql-train-online"
    function = "train_online"
    methods = ONLINE
    default_method = "xsac"

    env_name: str = setting(
        "cartpole-swingup",
        TEXT,
        "Task: cheetah-run, HalfCheetah-v5, playground:CheetahRun, or MODULE:ID, which MODULE registers.",
        theirs="env env_id env_names task tasks",
    )
    eval_interval: int = recorded(10_000, COUNT, "")
    checkpoint_interval: int = setting(10_000, COUNT, "")
    buffer_size: int = by_config(
        1_000_000,
        within(1, 100_000_000),
        "Transitions that the replay buffer of each seed holds; the oldest are overwritten.",
    )
    network: str = recorded(
        "paper", one_of("paper", "small"), 'Size of the networks: "paper", or "small" for a laptop.'
    )
    bellman_error_interval: int = recorded(
        5_000, COUNT_OR_NONE, "{Steps} between rows of bellman_errors.csv; 0: none."
    )

    @property
    def task(self) -> Task:
        return get_task(self.env_name)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finetune(FromData, Acting):
    """The settings of `xql-train-finetune`; `max_steps` counts environment steps."""

    command = "xql-train-finetune"
    function = "train_finetune"

    checkpoint: str | None = setting(
        None,
        TEXT,
        "A run of xql-train-offline, or RUN/checkpoints/STEP of it, to go on from: its learner, "
        "hyperparameters, members, data and preprocessing.",
    )
    member: int | None = setting(
        None, COUNT_OR_NONE, "With --checkpoint, its member, counted from 0. Default: all."
    )
    num_pretraining_steps: int = by_config(
        1_000_000, within(0, 2**30), "Updates before the hand-over; none with --checkpoint."
    )
    offline_fraction: float | None = by_config(
        None,
        UNIT_INTERVAL,
        "Share of the data in every minibatch after the hand-over, 0.5 in RLPD. None: data and online "
        "transitions are drawn with equal probability, as in IQL.",
        kind=float,
    )
    acting_temperature: float = by_config(
        1.0,
        within(0, 10),
        "Scale of the policy's own spread while it collects; 0: its centre, by which it is evaluated.",
    )
    online: str = by_config(
        "",
        ANY,
        "Hyperparameters that change at the hand-over: 'beta=0.5' sets another value, 'beta=1:0.2' goes "
        "linearly from one to another over --max_steps.",
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

    @property
    def schedule(self) -> Schedule:
        """The schedule of both phases."""
        handover = self.num_pretraining_steps
        return dataclasses.replace(super().schedule, max_steps=handover + self.max_steps, handover=handover)

    def resolved(self) -> Self:
        resolved = super().resolved()
        if resolved.env_name is None:
            raise UserError("fine-tuning needs an environment: give --env_name")
        handover = 0 if self.checkpoint is not None else self.num_pretraining_steps
        online = self.online if "online" in self.given else self._online_of_config()
        return dataclasses.replace(resolved, num_pretraining_steps=handover, online=online)

    def _online_of_config(self) -> str:
        """Returns the config's changes at the hand-over, without those of what the user sets or sweeps."""
        given, changes = {*dict(fields_given(self.sweep)), *self.given}, []
        for name, value in fields_given(self.online):
            if name in given:
                LOG.info(f"{name} stays after the hand-over: --online={name}={value} was the config's")
            else:
                changes.append(f"{name}={value}")
        return " ".join(changes)


OF_OFFLINE = {name: one for name, one in settings_of(Finetune).items() if one.by_config}
OF_ONLINE = {name: one for name, one in settings_of(Online).items() if one.by_config}
METHOD_SETTINGS = OF_OFFLINE | OF_ONLINE  # those that methods and config files give defaults to

# By the name that a run's folder has; `Run.kind` is one.
OFFLINE_TRAINING, ONLINE_TRAINING, FINE_TUNING = "offline", "online", "finetune"
KINDS = {OFFLINE_TRAINING: Offline, ONLINE_TRAINING: Online, FINE_TUNING: Finetune}


def kind_of(method: str, identity: Json) -> str:
    """Returns the kind of a run's training: `OFFLINE_TRAINING`, `ONLINE_TRAINING` or `FINE_TUNING`."""
    if method in ONLINE:
        return ONLINE_TRAINING
    return FINE_TUNING if "num_pretraining_steps" in identity else OFFLINE_TRAINING
