"""What a state holds while an accelerator trains: the same up to rounding, in fewer kernels."""

from collections.abc import Callable
from typing import Any, Self, TypeVar

import flax.struct
import jax
import jax.numpy as jnp
import optax

from xql_jax.numerics.pytrees import Distinct
from xql_jax.types import Numeric, Params

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8  # Adam's
T = TypeVar("T")


class SideBySide(Distinct, flax.struct.PyTreeNode):
    """Trees of equal shapes along a new leading axis of each leaf; it is read as a tuple of these trees."""

    joined: Params

    def __len__(self) -> int:
        return len(jax.tree.leaves(self.joined)[0])

    def __getitem__(self, place: int) -> Params:
        if place >= len(self):
            raise IndexError(place)
        return jax.tree.map(lambda leaf: leaf[place], self.joined)


class FusedAdam(optax.ScaleByAdamState):
    """Adam's state while an accelerator trains: `minimize` then takes its step in fewer operations.

    XLA then has one kernel for each array and for each network's scalars; of optax's step it makes more.
    """

    def step(self, params: Params, gradients: Params, rate: Numeric) -> tuple[Params, Self]:
        count = optax.safe_increment(self.count)
        scale = jnp.sqrt(1.0 - BETA_2**count)
        mu = jax.tree.map(lambda m, g: m + (1.0 - BETA_1) * (g - m), self.mu, gradients)
        nu = jax.tree.map(lambda n, g: n + (1.0 - BETA_2) * (g * g - n), self.nu, gradients)
        size, least = rate * scale / (1.0 - BETA_1**count), EPSILON * scale
        moved = jax.tree.map(lambda p, m, n: p - size * (m / (jnp.sqrt(n) + least)), params, mu, nu)
        return moved, FusedAdam(count, mu, nu)


def as_kept(state: T) -> T:
    """Undoes `parts.in_few_kernels`."""
    return retyped(FusedAdam, lambda adam: optax.ScaleByAdamState(*adam), retyped(SideBySide, tuple, state))


def retyped(kind: type, change: Callable[[Any], Any], state: T) -> T:
    """Returns the state with `change` of each part of this type."""

    def is_kind(part: Any) -> bool:
        return isinstance(part, kind)

    return jax.tree.map(lambda part: change(part) if is_kind(part) else part, state, is_leaf=is_kind)
