"""One or several networks Q that learn from the same targets."""

from collections.abc import Callable, Sequence
from typing import ClassVar, cast

import flax.struct
import jax.numpy as jnp

from xql_jax.learners.train_state import TrainState, static
from xql_jax.networks.mlp import ActionValue, iql_init
from xql_jax.types import Array, Batch, Metrics, Numeric, Params, PRNGKey


@flax.struct.dataclass
class CriticEnsemble:
    """The critics' hyperparameters and operations. Their parameters are a tuple with one entry a critic."""

    kernel_init: ClassVar[Callable] = staticmethod(iql_init)  # of the value networks
    critic_lr: Numeric = 3e-4
    max_grad_norm: Numeric = jnp.inf  # of each network's gradient; inf: not clipped
    hidden_dims: tuple[int, ...] = static((256, 256))
    num_critics: int = static(2)

    def init_critic(self, keys: Sequence[PRNGKey], observations: Array, actions: Array) -> TrainState:
        """One critic a key."""
        return TrainState.create(tuple(self.critic_network.init(key, observations, actions) for key in keys))

    def fit_critic(
        self, critic: TrainState, batch: Batch, targets: Array, loss_of: Callable[[Array, Array], Array]
    ) -> tuple[TrainState, Metrics]:
        """One step of every Q(s, a) towards the targets f32[B]. `loss_of` is per example; its means over the
        batch are summed over the critics."""

        def loss(params):
            qs = [self.q(p, batch.observations, batch.actions) for p in params]
            critic_loss = sum(loss_of(q, targets).mean() for q in qs)
            return critic_loss, {"critic/loss": critic_loss, "critic/q": qs[0].mean()}

        return critic.minimize(loss, learning_rate=self.critic_lr, max_grad_norm=self.max_grad_norm)

    def min_q(self, critic: Params, observations: Array, actions: Array) -> Array:
        """The least of the critics' Q(s, a), f32[B]."""
        qs = [self.q(params, observations, actions) for params in critic]
        return jnp.stack(qs).min(axis=0)

    def q(self, params: Params, observations: Array, actions: Array) -> Array:
        """Q(s, a) of the one critic with `params`, f32[B]."""
        return cast(Array, self.critic_network.apply(params, observations, actions))

    @property
    def critic_network(self) -> ActionValue:
        return ActionValue(self.hidden_dims, self.kernel_init)
