"""Parameters with their optimiser's state, and one step of Adam."""

import dataclasses
from collections.abc import Callable
from typing import Any, Self

import flax.struct
import jax
import jax.numpy as jnp
import optax

from xql_jax.types import Array, Metrics, Numeric, Params

ADAM = optax.scale_by_adam()  # the rate is multiplied outside optax, so that it can be traced and swept


@flax.struct.dataclass
class TrainState:
    """A network's parameters and Adam's moments."""

    params: Params
    optimizer_state: optax.OptState

    @classmethod
    def create(cls, params: Params) -> Self:
        return cls(params, ADAM.init(params))

    def minimize(
        self,
        loss: Callable[[Params], tuple[Array, Metrics]],
        *,
        learning_rate: Numeric,
        max_grad_norm: Numeric,
    ) -> tuple[Self, Metrics]:
        """One Adam step on loss(params) -> (scalar, metrics), the gradient's global norm clipped first."""
        gradients, metrics = jax.grad(loss, has_aux=True)(self.params)
        shrink = jnp.minimum(1.0, max_grad_norm / (optax.global_norm(gradients) + 1e-12))
        gradients = jax.tree.map(lambda gradient: gradient * shrink, gradients)
        directions, optimizer_state = ADAM.update(gradients, self.optimizer_state)
        params = jax.tree.map(lambda param, step: param - learning_rate * step, self.params, directions)
        return dataclasses.replace(self, params=params, optimizer_state=optimizer_state), metrics


def static(default: Any) -> Any:
    """A learner's field that shapes the program: changing it compiles another one."""
    return flax.struct.field(default=default, pytree_node=False)
