"""A network with its parameters, its optimiser's state, and one step of Adam."""

from collections.abc import Callable
from typing import Any, Self

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax

from xql_jax.pytrees import Distinct
from xql_jax.types import Array, Metrics, Numeric, Params

ADAM = optax.scale_by_adam()  # the rate is multiplied outside optax, so that it can be traced and swept


class Model(Distinct, flax.struct.PyTreeNode):
    """A network and its parameters: all that acting needs of an actor."""

    network: Any = flax.struct.field(pytree_node=False)  # a flax module; None for parameters alone
    params: Params

    def __call__(self, *inputs: Array, **options: Any) -> Any:
        return self.at(self.params, *inputs, **options)

    def at(self, params: Params, *inputs: Array, **options: Any) -> Any:
        """The network's output under other parameters."""
        return self.network.apply(params, *inputs, **options)


class TrainState(Model):
    """A model, Adam's moments, and the parameters of its target network if it has one."""

    optimizer_state: Any
    target: Params = None

    @classmethod
    def create(
        cls, network: nn.Module | None, params: Params, with_target: bool = False, **fields: Any
    ) -> Self:
        target = jax.tree.map(jnp.copy, params) if with_target else None  # a shared buffer cannot be donated
        return cls(network, params, ADAM.init(params), target, **fields)

    @classmethod
    def extending(cls, state: "TrainState", **fields: Any) -> Self:
        """A subclass's state, with the fields of a `TrainState` and its own."""
        return cls(state.network, state.params, state.optimizer_state, state.target, **fields)

    def minimize(
        self, loss: Callable[[Params], tuple[Array, Metrics]], learning_rate: Numeric, max_grad_norm: Numeric
    ) -> tuple[Self, Metrics]:
        """One Adam step on loss(params) -> (scalar, metrics), the gradient's global norm clipped first."""
        gradients, metrics = jax.grad(loss, has_aux=True)(self.params)
        shrink = jnp.minimum(1.0, max_grad_norm / (optax.global_norm(gradients) + 1e-12))
        shrink = jnp.where(jnp.isinf(max_grad_norm), 1.0, shrink)  # the norm may overflow where no entry does
        gradients = jax.tree.map(lambda gradient: gradient * shrink, gradients)
        directions, optimizer_state = ADAM.update(gradients, self.optimizer_state)
        params = jax.tree.map(lambda param, step: param - learning_rate * step, self.params, directions)
        return self.replace(params=params, optimizer_state=optimizer_state), metrics

    def followed(self, tau: Numeric) -> Self:
        """The target moved towards the parameters at the Polyak rate tau."""
        return self.replace(target=optax.incremental_update(self.params, self.target, tau))


class LearnerState(Distinct, flax.struct.PyTreeNode):
    """A learner's train states; the critic's params are a tuple with one entry per network."""

    step: Array  # i32[], updates done
    policy: Any
    value: Any = None  # callable, V(s) f32[B] of observations f32[B, O]; None: there is no network V
    critic: Any = None
