"""When a training logs, evaluates, saves and ends; how acting and learning alternate; what changes then.

The settings of these are declared here. The kinds of training in runs/kinds.py inherit them.
"""

import dataclasses
import itertools
import math
import re
from collections.abc import Collection, Mapping, Sequence

import jax.numpy as jnp
import numpy as np

from xql_jax.errors import UserError
from xql_jax.settings import (
    AT_LEAST_ONE,
    COUNT,
    COUNT_OR_NONE,
    EITHER,
    NOT_NEGATIVE,
    Checked,
    Setting,
    by_config,
    recorded,
    setting,
    with_values,
    within,
)
from xql_jax.training.checkpoints import KEPT
from xql_jax.training.members import fields_given, numbers_given
from xql_jax.types import ONE_STEP, Array, Horizon, Learner, Numeric


@dataclasses.dataclass(frozen=True)
class Ramp:
    """A hyperparameter that changes linearly from each value to the next, and then stays constant."""

    name: str
    values: tuple[float, ...]
    steps: tuple[float, ...]  # at which they are reached, ascending from 0

    def at(self, step: int | Array) -> Numeric:
        value: Numeric = self.values[0]
        for place, (begin, end) in enumerate(itertools.pairwise(self.steps)):
            change = self.values[place + 1] - self.values[place]
            share = (step - begin) / (end - begin)
            value += change * (min(max(share, 0.0), 1.0) if isinstance(step, int) else jnp.clip(share, 0, 1))
        return value


def parse_ramps(
    text: str, known: Mapping[str, Setting], steps: int, flag: str, taken: Collection[str] = ()
) -> tuple[Ramp, ...]:
    """Parses text such as 'beta=1:0.2 awr_temperature=3'.

    In the example beta goes from 1 to 0.2 in `steps` steps, and awr_temperature is 3 from the first step on.
    With 'beta=2:0.5@0.3:2' it goes to 0.5 in the first 0.3 of the steps, and then back. `taken` are the
    fields that a sweep varies, which a ramp cannot change.
    """
    ramps, places = [], dict(fields_given(text))
    plain = " ".join(f"{name}={re.sub('@[^:]*', '', values)}" for name, values in fields_given(text))
    for name, numbers, _ in numbers_given(plain, known, flag, "change", ":"):
        given = f"{name}={places[name]}"
        if name in taken:
            raise UserError(f"{flag}={given}: --sweep varies {name}, whose members would become alike")
        if len(numbers) > 1 and not np.isfinite(numbers).all():
            raise UserError(f"{flag}={given}: nothing goes linearly to or from inf")
        shares = [place.partition("@")[2] for place in places[name].split(":")]
        if len(shares) > 1:
            shares[-1] = shares[-1] or "1"
        try:
            reached = [0.0, *(float(share) for share in shares[1:])]
        except ValueError:
            reached = []
        if shares[0] or not reached or not all(a < b <= 1 for a, b in itertools.pairwise(reached)):
            raise UserError(
                f"{flag} wants FIELD=NUMBER, FIELD=NUMBER:NUMBER or FIELD=NUMBER:NUMBER@SHARE:NUMBER with "
                f"ascending shares of the steps between 0 and 1, not {given!r}"
            )
        ramps.append(Ramp(name, tuple(numbers), tuple(share * steps for share in reached)))
    return tuple(ramps)


def ramped(learner: Learner, ramps: Sequence[Ramp], step: int | Array, count: int | None = None) -> Learner:
    """Returns the learner, or `count` stacked learners, with the ramps' values at `step`."""
    if not ramps:
        return learner
    values: dict[str, Numeric] = {ramp.name: ramp.at(step) for ramp in ramps}
    if count:
        values = {name: jnp.full(count, value, jnp.float32) for name, value in values.items()}
    return with_values(learner, values)  # type: ignore[type-var]


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
    bellman_error_interval: int = 0  # of members that act; 0: none are recorded
    background_evaluation: bool = False  # while training goes on

    def is_due(self, step: int, interval: int) -> bool:
        return interval > 0 and (self.is_multiple(step, interval) or step == self.max_steps)

    def is_multiple(self, step: int, interval: int) -> bool:
        return (step - (self.handover or 0)) % interval == 0

    def next_stop(self, step: int) -> int:
        """Returns the next step at which something is due."""
        since = step - (self.handover or 0)
        stops = (step + each - since % each for each in self.intervals.values() if each)
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
class ActingSchedule(ActingSettings):
    """How acting and learning alternate."""

    buffer_size: int = 1_000_000  # transitions per member
    batch_size: int = 256
    round_steps: int = 1  # transitions per round, which are inserted at once; a multiple of num_environments
    acting_temperature: float = 1.0  # scale of the actions' distance from the policy's centre
    exploration_noise: float = 0.0  # standard deviation of Gaussian noise added to actions, in their units
    horizon: Horizon = ONE_STEP  # of the transitions that are learned from
    ramps: Sequence[Ramp] = ()  # hyperparameters that change with the step

    def updates_by(self, step: int) -> int:
        """The updates that are due after `step` steps."""
        return max(0, int((step - self.warmup_steps) * self.updates_per_step + 1e-9))

    @property
    def policy_lag(self) -> int:
        """The most updates by which the acting policy is behind those that are due before its step."""
        return math.ceil((2 * self.round_steps - self.num_environments) * self.updates_per_step)
