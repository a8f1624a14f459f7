"""Members of a population: their seeds, the hyperparameters that a sweep varies, and those that change."""

import dataclasses
import itertools
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from xql_jax.errors import UserError, advice
from xql_jax.settings import Setting, with_values
from xql_jax.types import Array, Learner, Numeric

OF_RUNS = ("hidden_dims", "batch_size", "n_step", "action_chunk")  # which a sweep of programs varies
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


def fields_given(text: str) -> list[tuple[str, str]]:
    """Splits 'beta=0.6,1,2 tau=0.005' into pairs (FIELD, VALUES); semicolons separate as spaces do."""
    parts = (part.partition("=") for part in text.replace(";", " ").split())
    return [(name, values) for name, _, values in parts]


def numbers_given(
    text: str, known: Mapping[str, Setting], flag: str, verb: str, separator: str
) -> Iterator[tuple[str, list[float], str]]:
    """Parses the flag's text, such as 'beta=0.6,1,2': yields each field, its numbers, and their text.

    Of the `known` settings of the learner, those that are traced may be given.
    """
    seen, traced = set(), {name: one for name, one in known.items() if one.traced}
    for name, values in fields_given(text):
        given = f"{name}={values}"
        if name not in traced:
            hint = advice(name, traced)
            if name in known or name in OF_RUNS:
                hint = f"xql-sweep --methods=METHOD:{name}=VALUE,... trains a run for each value"
            raise UserError(f"{flag} cannot {verb} {name!r}; {hint}")
        if name in seen:
            raise UserError(f"{flag} gives {name} twice")
        try:
            numbers = [float(value) for value in values.split(separator)]
        except ValueError:
            raise UserError(f"{flag} wants FIELD=NUMBER{separator}NUMBER..., not {given!r}") from None
        for number in numbers:
            traced[name].checked(f"{flag}: {name}", number)
        seen.add(name)
        yield name, numbers, given


def parse_sweep(text: str, known: Mapping[str, Setting]) -> dict[str, list[float]]:
    """Parses 'beta=0.6,1,2 tau=0.005,0.01' into a grid."""
    grid = {}
    for name, numbers, given in numbers_given(text, known, "--sweep", "vary", ","):
        if len(np.unique(np.asarray(numbers, np.float32))) < len(numbers):
            raise UserError(f"--sweep gives {name} the same value (in float32) twice: {given!r}")
        grid[name] = [float(f"{number:.9g}") for number in numbers]  # as runs and members are named
    return grid


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


def parse_ramps(
    text: str, known: Mapping[str, Setting], steps: int, flag: str, taken: Collection[str] = ()
) -> tuple[Ramp, ...]:
    """Parses text such as 'beta=1:0.2 awr_temperature=3'.

    In the example beta goes from 1 to 0.2 in `steps` steps, and awr_temperature is 3 from the first step on.
    With 'beta=2:0.5@0.3:2' it goes to 0.5 in the first 0.3 of the steps, and then back. `taken` are the
    fields that a sweep varies, which a ramp cannot change. Values are float32, as a learner's. Last values
    that change nothing are left out.
    """
    ramps, places = [], dict(fields_given(text))
    plain = " ".join(f"{name}={re.sub('@[^:]*', '', values)}" for name, values in fields_given(text))
    for name, numbers, _ in numbers_given(plain, known, flag, "change", ":"):
        given = f"{name}={places[name]}"
        if known[name].of_start:
            raise UserError(f"{flag}={given}: {name} is of the first state alone: give --{name} or --sweep")
        if name in taken:
            raise UserError(
                f"{flag}={given}: --sweep, if only of --checkpoint's run, gives members their {name}"
            )
        if len(numbers) > 1 and not np.isfinite(numbers).all():
            raise UserError(f"{flag}={given}: nothing goes linearly to or from inf")
        shares = [place.partition("@")[2] for place in places[name].split(":")]
        if len(shares) > 1:
            shares[-1] = shares[-1] or "1"
        try:
            reached = [0.0, *(float(f"{float(share):.9g}") for share in shares[1:])]
        except ValueError:
            reached = []
        if shares[0] or not reached or not all(a < b <= 1 for a, b in itertools.pairwise(reached)):
            raise UserError(
                f"{flag} wants FIELD=NUMBER, FIELD=NUMBER:NUMBER or FIELD=NUMBER:NUMBER@SHARE:NUMBER with "
                f"ascending shares of the steps between 0 and 1, not {given!r}"
            )
        values = [float(str(np.float32(number))) for number in numbers]
        while len(values) > 1 and values[-1] == values[-2]:
            del values[-1], reached[-1]
        ramps.append(
            Ramp(name, tuple(values), tuple(x * steps for x in reached), _typed(name, values, reached))
        )
    return tuple(ramps)


def _typed(name: str, values: Sequence[float], shares: Sequence[float]) -> str:
    """Returns a ramp as it is shortest to type, such as beta=2:0.5@0.3:2."""
    shown = [f"@{share:.9g}" if 0 < share < 1 else "" for share in shares]
    places = (f"{value:.9g}{share}" for value, share in zip(values, shown, strict=True))
    return f"{name}={':'.join(places)}"


def as_recorded(ramps: Sequence[Ramp]) -> str:
    """Returns the text of ramps in the form in which runs record it, one for the same numbers."""
    return " ".join(sorted(ramp.text for ramp in ramps))


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
