"""Members of a population: their seeds, the hyperparameters that a sweep varies, and those that change."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from xql_jax.settings import with_values
from xql_jax.types import Array, Learner, Numeric

AXIS = "members"  # of those that share a program under `vmap`
DEVICES = "devices"
Tree = TypeVar("Tree")


@dataclasses.dataclass(frozen=True)
class Member:
    """One training of the population: a seed and one setting of the swept hyperparameters."""

    seed: int
    hyperparameters: Mapping[str, float]

    def __str__(self) -> str:
        settings = (f"{name}={value:g}" for name, value in self.hyperparameters.items())
        return ", ".join((f"seed {self.seed}", *settings))

    @property
    def name(self) -> str:
        """Its name in files and folders, such as seed3_beta=0.5; unique for each float32 value."""
        settings = (f"{name}={value:.9g}" for name, value in self.hyperparameters.items())
        return "_".join((f"seed{self.seed}", *settings))


@dataclasses.dataclass(frozen=True)
class Divergence:
    """When a member's metrics, state or actions were found not to be all finite."""

    # The end of the updates, offline, or of the round; of actions, the step that they were for.
    step: int
    quantity: str  # the metrics that were not finite, or "state", or "actions"
    after: int | None = None  # the step at which the member stays, where all was finite; None: just before

    def when(self, unit: str) -> str:
        if self.after is None:
            return f"at {unit} {self.step}"
        return f"between {unit}s {self.after} and {self.step}"


@dataclasses.dataclass(frozen=True)
class Ramp:
    """A hyperparameter that changes linearly from each value to the next, and then stays constant."""

    name: str
    values: tuple[float, ...]
    steps: tuple[float, ...]  # at which they are reached, ascending from 0
    text: str = dataclasses.field(default="", compare=False)  # one for all ways to type it

    def at(self, step: int | Array) -> Numeric:
        value: Numeric = self.values[0]
        for place, (begin, end) in enumerate(itertools.pairwise(self.steps)):
            change = self.values[place + 1] - self.values[place]
            share = (step - begin) / (end - begin)
            value += change * (min(max(share, 0.0), 1.0) if isinstance(step, int) else jnp.clip(share, 0, 1))
        return value


def ramped(learner: Learner, ramps: Sequence[Ramp], step: int | Array, count: int | None = None) -> Learner:
    """Returns the learner, or `count` stacked learners, with the ramps' values at `step`."""
    if not ramps:
        return learner
    values: dict[str, Numeric] = {ramp.name: ramp.at(step) for ramp in ramps}
    if count:
        values = {name: jnp.full(count, value, jnp.float32) for name, value in values.items()}
    return with_values(learner, values)  # type: ignore[type-var]


def make_members(seeds: Sequence[int], grid: Mapping[str, Sequence[float]]) -> list[Member]:
    """Returns one member per combination of grid values and seed; seeds of a combination are adjacent."""
    combinations = itertools.product(*grid.values())
    settings = [dict(zip(grid, combination, strict=True)) for combination in combinations]
    return [Member(seed, setting) for setting in settings for seed in seeds]


def learners_of(learner: Any, members: Sequence[Member]) -> list[Any]:
    """Returns one learner per member, with its hyperparameters; leaves are arrays f32[]."""
    learners = (with_values(learner, member.hyperparameters) for member in members)
    return [jax.tree.map(jnp.asarray, member) for member in learners]


def stacked(trees: Sequence[Tree]) -> Tree:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)
