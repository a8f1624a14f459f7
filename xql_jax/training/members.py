"""Members of a population: each has a seed, and the hyperparameters that a sweep gives it."""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from xql_jax.errors import UserError, advice
from xql_jax.settings import Setting, with_values
from xql_jax.types import Array

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


def member_keys(member: Member) -> Array:
    """Returns a member's keys [4]: for its initial state, its updates, its acting, and its episodes."""
    return jax.random.split(jax.random.key(member.seed), 4)


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


def member_shapes(stack: Tree) -> Tree:
    """Returns the shapes and types of one member's part."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), stack)
