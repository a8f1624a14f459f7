"""When a training logs, evaluates, saves and ends; how acting and learning alternate.

The settings of these are declared here. The kinds of training in runs/kinds.py inherit them.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence

from xql_jax.settings import (
    AT_LEAST_ONE,
    COUNT,
    COUNT_OR_NONE,
    EITHER,
    NOT_NEGATIVE,
    Checked,
    by_config,
    recorded,
    setting,
    within,
)
from xql_jax.training.checkpoints import KEPT
from xql_jax.training.members import Ramp
from xql_jax.types import ONE_STEP, Horizon


@dataclasses.dataclass(frozen=True)
class Intervals(Checked):
    """What every training does at intervals. The last step is always logged, evaluated and saved."""

    max_steps: int = setting(1_000_000, COUNT, "Number of {steps}.")
    log_interval: int = recorded(1_000, COUNT, "{Steps} between rows of metrics.csv.")
    eval_interval: int = recorded(
        5_000, COUNT, "{Steps} between evaluations; checkpoints are saved by --checkpoint_interval."
    )
    checkpoint_interval: int = setting(5_000, COUNT, "{Steps} between checkpoints.")
    checkpoint_minutes: float = setting(
        10.0, NOT_NEGATIVE, "Also save when the last checkpoint is so old; 0: never."
    )
    keep_checkpoints: int = setting(
        KEPT, COUNT_OR_NONE, "Checkpoints to keep, the last and a hand-over's; 0: all."
    )
    eval_at_start: bool = recorded(False, EITHER, "Also evaluate before the first step: a row for step 0.")

    @property
    def intervals(self) -> dict[str, int]:
        """All intervals, by the names of their settings; 0: never."""
        names = [field.name for field in dataclasses.fields(self) if field.name.endswith("_interval")]
        return {name: getattr(self, name) for name in names}


@dataclasses.dataclass(frozen=True)
class Schedule(Intervals):
    """The intervals as the training loop has them.

    In fine-tuning, steps are updates until the hand-over and environment steps after it.
    """

    handover: int | None = None  # the step from which intervals are counted; None: there is no hand-over
    # What the trainer measures besides, by the name of its method: --NAME_interval is of `NAMEs`.
    measured: Mapping[str, int] = dataclasses.field(default_factory=dict)
    background_evaluation: bool = False  # while training goes on

    def is_due(self, step: int, interval: int) -> bool:
        return interval > 0 and (self.is_multiple(step, interval) or step == self.max_steps)

    def is_multiple(self, step: int, interval: int) -> bool:
        return (step - (self.handover or 0)) % interval == 0

    def next_stop(self, step: int) -> int:
        """Returns the next step at which something is due."""
        since = step - (self.handover or 0)
        intervals = *self.intervals.values(), *self.measured.values()
        stops = (step + each - since % each for each in intervals)
        return min(self.max_steps, *stops)


@dataclasses.dataclass(frozen=True)
class ActingSettings(Checked):
    """Settings of every training that acts. `acting.py` and `compiled_acting.py` read them.

    A step of any environment counts as one step.
    """

    warmup_steps: int = by_config(
        0,
        COUNT_OR_NONE,
        "Steps of random actions without updates: at the start, in fine-tuning after the hand-over.",
    )
    updates_per_step: float = by_config(1.0, within(1e-6, 1_000), "Updates per step of the environment.")
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


@dataclasses.dataclass(frozen=True)
class Exploration(Checked):
    """How a policy that was learned from data acts, to collect more."""

    acting_temperature: float = by_config(
        1.0,
        within(0, 10),
        "Scale of the policy's own spread while it collects; 0: its centre, by which it is evaluated.",
    )
    exploration_noise: float = recorded(
        0.0, within(0, 10), "Standard deviation of Gaussian noise that is added to the policy's actions."
    )


@dataclasses.dataclass(frozen=True)
class ActingSchedule(ActingSettings, Exploration):
    """How acting and learning alternate."""

    buffer_size: int = 1_000_000  # transitions per member
    batch_size: int = 256
    round_steps: int = 1  # transitions per round, which are inserted at once; a multiple of num_environments
    horizon: Horizon = ONE_STEP  # of the transitions that are learned from
    ramps: Sequence[Ramp] = ()  # hyperparameters that change with the step

    def updates_by(self, step: int) -> int:
        """The updates that are due after `step` steps."""
        return max(0, int((step - self.warmup_steps) * self.updates_per_step + 1e-9))

    @property
    def policy_lag(self) -> int:
        """The most updates by which the acting policy is behind those that are due before its step."""
        return math.ceil((2 * self.round_steps - self.num_environments) * self.updates_per_step)


def steps_in_words(step: int, unit: str, handover: int | None = None) -> str:
    """Returns how far a training is, such as '600 steps'; with a hand-over '200 updates + 400 steps'."""
    if not handover:
        return f"{step:,} {unit}s"
    acted = f" + {step - handover:,} {unit}s" if step > handover else ""
    return f"{min(step, handover):,} updates{acted}"
