"""The settings of a run that methods and config files give defaults to, as they do to hyperparameters.

There is a class for each kind of training, which also says what trains it and the methods that it is for.
"""

import dataclasses
from collections.abc import Collection
from typing import Any, ClassVar

from xql_jax.errors import UserError
from xql_jax.learners.registry import OFFLINE, ONLINE
from xql_jax.settings import (
    ANY,
    COUNT_OR_NONE,
    EITHER,
    TEXT,
    UNIT_INTERVAL,
    Checked,
    Domain,
    Setting,
    recorded,
    settings_of,
    within,
)
from xql_jax.types import Horizon, horizon_of


def of_method(usual: Any, domain: Domain, meaning: str, **more: Any) -> Any:
    """Declares a setting that is None until a config decides it; `usual` is its value for most methods."""
    default = usual if "neutral" in more else "the method's own"
    more = {"kind": type(usual), **more}
    return recorded(None, domain, f"{meaning} Default: {default}.", usual=usual, **more)


HORIZON = ("n_step", "action_chunk")  # the settings of a `Horizon`


@dataclasses.dataclass(frozen=True, kw_only=True)
class LearningSettings(Checked):
    """Settings of all learning."""

    command: ClassVar[str]
    function: ClassVar[str]  # of `xql_jax`, which does the same
    methods: ClassVar[Collection[str]]
    default_method: ClassVar[str]

    batch_size: int = of_method(256, within(1, 100_000_000), "Transitions in a minibatch.", theirs="batch")
    n_step: int = of_method(
        1,
        within(1, 1_000),
        "Steps of reward in the targets of V and Q. The later actions are the data's: uncorrected.",
        neutral=1,
    )
    action_chunk: int = of_method(
        1,
        within(1, 1_000),
        "Actions that the policy decides on together and carries out one after the other.",
        neutral=1,
    )

    @property
    def horizon(self) -> Horizon:
        """What a transition spans; UserError if the two settings ask for different spans."""
        if self.n_step > 1 and self.action_chunk > 1:
            raise UserError(
                f"--n_step={self.n_step}: --action_chunk={self.action_chunk} learns from the rewards of as "
                "many steps: leave out --n_step"
            )
        return horizon_of(self.n_step, self.action_chunk)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataSettings(LearningSettings):
    """Settings of learning from data."""

    command = "xql-train-offline"
    function = "train"
    methods = OFFLINE
    default_method = "xql"

    normalize_observations: bool = of_method(
        False, EITHER, "Observations of mean 0 and standard deviation 1 (divided by 0.001 at least)."
    )
    scale_rewards: bool = of_method(True, EITHER, "Scale the rewards where IQL does, on locomotion.")
    top_returns: float = of_method(
        1.0, within(1e-6, 1), "Share of the transitions that is learned from, of the highest returns."
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class CollectingSettings(Checked):
    """Settings of learning from what the policy collects."""

    warmup_steps: int = of_method(
        0,
        COUNT_OR_NONE,
        "Steps of random actions without updates: at the start, in fine-tuning after the hand-over.",
    )
    updates_per_step: float = of_method(
        1.0, within(1e-6, 1_000), "Updates per step of the environment.", theirs="utd utd_ratio"
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class FinetuningSettings(DataSettings, CollectingSettings):
    """Settings of fine-tuning."""

    command = "xql-train-finetune"
    function = "train_finetune"

    num_pretraining_steps: int = of_method(
        1_000_000, within(0, 2**30), "Updates before the hand-over; none with --checkpoint."
    )
    offline_fraction: float | None = of_method(
        None,
        UNIT_INTERVAL,
        "Share of the data in every minibatch after the hand-over, 0.5 in RLPD. None: data and online "
        "transitions are drawn with equal probability, as in IQL.",
        kind=float,
    )
    acting_temperature: float = of_method(
        1.0,
        within(0, 10),
        "Scale of the policy's own spread while it collects; 0: its centre, by which it is evaluated.",
    )
    online: str = of_method(
        "",
        ANY,
        "Hyperparameters that change at the hand-over: 'beta=0.5' sets another value, 'beta=1:0.2' goes "
        "linearly from one to another over --max_steps.",
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class BufferSettings(LearningSettings, CollectingSettings):
    """Settings of learning online."""

    command = "xql-train-online"
    function = "train_online"
    methods = ONLINE
    default_method = "xsac"

    buffer_size: int = of_method(
        1_000_000,
        within(1, 100_000_000),
        "Transitions that the replay buffer of each seed holds; the oldest are overwritten.",
    )


METHOD_SETTINGS = settings_of(FinetuningSettings) | settings_of(BufferSettings)
METHOD = Setting(None, TEXT, "The method, and after a plus its policy.", str, theirs="algo algorithm agent")
