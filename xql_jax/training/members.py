"""Members of a population: a seed each, and the hyperparameters that a sweep gives them."""

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
    """One run of the population."""

    seed: int
    hyperparameters: Mapping[str, float]

    def __str__(self) -> str:
        settings = (f"{name}={value:g}" for name, value in self.hyperparameters.items())
        return ", ".join((f"seed {self.seed}", *settings))

    @property
    def name(self) -> str:
        """Its name in files and folders: seed3_beta=0.5. No two float32 values share one."""
        settings = (f"{name}={value:.9g}" for name, value in self.hyperparameters.items())
        return "_".join((f"seed{self.seed}", *settings))


def parse_sweep(text: str, learner: Any, algorithm: str) -> dict[str, list[float]]:
    """Parses 'beta=0.6,1,2 tau=0.005,0.01' into a grid over the learner's traced hyperparameters.

    UserError, which calls the learner `algorithm`, if the text has another form, or a field is unknown, not
    traced, or given an impossible value.
    """
    grid: dict[str, list[float]] = {}
    for part in text.replace(";", " ").split():
        name, _, values = part.partition("=")
        known = traced_names(learner)
        if name not in known:
            raise UserError(f"--sweep cannot vary {name!r} of {algorithm}; it varies: {nearest(name, known)}")
        if name in grid:
            raise UserError(f"--sweep gives {name} twice: write all its values as {name}=NUMBER,NUMBER,...")
        try:
            grid[name] = [float(value) for value in values.split(",")]
        except ValueError:
            raise UserError(f"--sweep wants FIELD=NUMBER,NUMBER,..., not {part!r}") from None
        for value in grid[name]:
            check_value(learner, f"--sweep: {name}", name, value)
        if len(np.unique(np.asarray(grid[name], np.float32))) < len(grid[name]):
            raise UserError(f"--sweep gives {name} the same value (in float32) twice: {part!r}")
    return grid


def make_members(seeds: Sequence[int], grid: Mapping[str, Sequence[float]]) -> list[Member]:
    """Every combination of the grid's values with every seed; seeds of one combination are neighbours."""
    combinations = itertools.product(*grid.values())
    settings = [dict(zip(grid, combination, strict=True)) for combination in combinations]
    return [Member(seed, setting) for setting in settings for seed in seeds]


def learners_of(learner: Any, members: Sequence[Member]) -> list[Any]:
    """Returns the learner with each member's hyperparameters, leaves f32[]."""
    learners = (with_hyperparameters(learner, member.hyperparameters) for member in members)
    return [jax.tree.map(jnp.asarray, member) for member in learners]


def stacked(trees: Sequence[Tree]) -> Tree:
    """Returns one tree for many alike, each leaf with a leading axis over them."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def member_shapes(states: Any, members: Sequence[Member]) -> dict[str, Any]:
    """Returns the shapes and types of each member's part of states [M, ...], by its name."""
    one = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), states)
    return {member.name: one for member in members}


def parted(tree: Tree, members: Sequence[Member]) -> dict[str, Tree]:
    """Returns each member's tree by its name, NumPy copies of what `stacked` put together.

    Copies, no views: the next update is given the arrays' own memory to write to.
    """
    arrays = jax.device_get(tree)
    return {
        member.name: jax.tree.map(lambda leaf, index=index: np.array(leaf[index]), arrays)
        for index, member in enumerate(members)
    }
