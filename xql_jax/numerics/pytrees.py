"""A base for pytree dataclasses that makes JAX distinguish their classes; a choice between two pytrees."""

import inspect
from typing import Any, TypeVar

import flax.struct
import jax
import jax.numpy as jnp

Tree = TypeVar("Tree")


class Distinct:
    """Base of pytree dataclasses that makes the class part of the pytree's structure.

    jaxlib 0.10 compares the fields of dataclasses but not their classes. If two learners have equally many
    numbers and the same static fields, their pytrees have the same structure, and JAX may run one tree with
    the program compiled for the other. So this base gives every class a static field with the class as value.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        cls.__annotations__ = inspect.get_annotations(cls) | {"pytree_class": type}
        field = flax.struct.field(default=cls, pytree_node=False, repr=False, kw_only=True)
        cls.pytree_class = field  # type: ignore[attr-defined]
        super().__init_subclass__(**options)


def select_leaves(mask: jax.Array, first: Tree, second: Tree) -> Tree:
    """Returns, per row, leaves [N, ...] of `first` where mask bool[N] is true, else of `second`."""

    def pick(a: jax.Array, b: jax.Array) -> jax.Array:
        return jnp.where(mask.reshape(-1, *[1] * (a.ndim - 1)), a, b)

    return jax.tree.map(pick, first, second)
