"""Members of a population: each has a seed and the hyperparameters that a sweep gives it."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from xql_jax.errors import UserError, nearest
from xql_jax.learners.fields import check_value, traced_names, with_hyperparameters

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


def fields_given(text: str) -> list[tuple[str, str]]:
    """Splits 'beta=0.6,1,2 tau=0.005' into pairs (FIELD, VALUES); semicolons separate as spaces do."""
    parts = (part.partition("=") for part in text.replace(";", " ").split())
    return [(name, values) for name, _, values in parts]


def parse_sweep(text: str, learner: Any, algorithm: str) -> dict[str, list[float]]:
    """Parses 'beta=0.6,1,2 tau=0.005,0.01' into a grid over the learner's traced hyperparameters.

    Args:
        algorithm: the learner's name in error messages.
    Raises:
        UserError: if the text has another form, or if a field is unknown, not traced, or has an impossible
            value.
    """
    grid: dict[str, list[float]] = {}
    for name, values in fields_given(text):
        given = f"{name}={values}"
        known = traced_names(learner)
        if name not in known:
            raise UserError(
                f"--sweep cannot vary {name!r} of {algorithm}; nearest of what it can: {nearest(name, known)}"
            )
        if name in grid:
            raise UserError(f"--sweep gives {name} twice: write all its values as {name}=NUMBER,NUMBER,...")
        try:
            grid[name] = [float(value) for value in values.split(",")]
        except ValueError:
            raise UserError(f"--sweep wants FIELD=NUMBER,NUMBER,..., not {given!r}") from None
        for value in grid[name]:
            check_value(learner, f"--sweep: {name}", name, value)
        if len(np.unique(np.asarray(grid[name], np.float32))) < len(grid[name]):
            raise UserError(f"--sweep gives {name} the same value (in float32) twice: {given!r}")
    return grid


def make_members(seeds: Sequence[int], grid: Mapping[str, Sequence[float]]) -> list[Member]:
    """Returns one member per combination of grid values and seed; seeds of a combination are adjacent."""
    combinations = itertools.product(*grid.values())
    settings = [dict(zip(grid, combination, strict=True)) for combination in combinations]
    return [Member(seed, setting) for setting in settings for seed in seeds]


def learners_of(learner: Any, members: Sequence[Member]) -> list[Any]:
    """Returns one learner per member, with that member's hyperparameters; leaves are arrays f32[]."""
    learners = (with_hyperparameters(learner, member.hyperparameters) for member in members)
    return [jax.tree.map(jnp.asarray, member) for member in learners]


def stacked(trees: Sequence[Tree]) -> Tree:
    """Stacks trees of the same structure along a new leading axis of every leaf."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def member_shapes(stack: Any) -> Any:
    """Returns the shapes and types of one member's part of stacked arrays."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), stack)


def unstack(tree: Tree, members: Sequence[Member]) -> dict[str, Tree]:
    """Splits a stacked tree into one tree per member, by member name; the leaves are NumPy arrays.

    The leaves are copies, not views, because the next update may overwrite the donated device memory.
    """
    arrays = jax.device_get(tree)
    return {
        member.name: jax.tree.map(lambda leaf, index=index: np.array(leaf[index]), arrays)
        for index, member in enumerate(members)
    }
