"""How V is fitted to what it learns from: a method's loss, on a network and steps that all share."""

from collections.abc import Callable

import flax.struct

from xql_jax.learners import fields
from xql_jax.learners.train_state import TrainState
from xql_jax.losses import gumbel
from xql_jax.losses.critic import mse_loss
from xql_jax.losses.value import expectile_loss
from xql_jax.networks.mlp import Initializer, Value, iql_init
from xql_jax.types import Array, Metrics, Numeric, PRNGKey


@flax.struct.dataclass
class ValueFit(fields.Part):
    """V goes to the mean of what it learns from. A method has its own `loss_of`, and may keep more."""

    value_lr: Numeric = fields.traced(3e-4, fields.POSITIVE)
    value_hidden_dims: tuple[int, ...] = fields.widths(256, 256)
    layer_norm: bool = fields.static(False, fields.EITHER)
    v_updates: int = fields.static(1, fields.AT_LEAST_ONE)  # steps on the same batch, per update
    value_init: Initializer = fields.internal(iql_init)

    def loss_of(self, values: Array, targets: Array) -> Array:
        """The method's loss of V(s) f32[B] against its targets f32[B]; the caller takes the mean."""
        return mse_loss(values, targets)

    def init(self, key: PRNGKey, observations: Array, with_target: bool = False) -> TrainState:
        """What the fit keeps: callable, V(s) f32[B] of observations f32[B, O]."""
        network = Value(self.value_hidden_dims, self.layer_norm, self.value_init)
        return TrainState.create(network, network.init(key, observations), with_target)

    def fit(
        self, value: TrainState, observations: Array, targets: Array, max_grad_norm: Numeric
    ) -> tuple[TrainState, Metrics]:
        """`v_updates` steps of V(s) towards what `loss_of` makes of the targets f32[B]."""

        def loss(params):
            v = value.at(params, observations)
            value_loss = self.loss_of(v, targets).mean()
            return value_loss, {"value/loss": value_loss, "value/v": v.mean()}

        for _ in range(self.v_updates):
            value, info = value.minimize(loss, self.value_lr, max_grad_norm)
        return value, info


@flax.struct.dataclass
class GumbelRegression(fields.Part):
    """The loss whose minimiser is L^beta of its targets, with the hyperparameters of its scale and clip."""

    beta: Numeric = fields.traced(2.0, fields.POSITIVE)  # Gumbel scale, reward units
    clip: Numeric = fields.traced(
        7.0, fields.POSITIVE_OR_OFF
    )  # of z = (Q - V) / beta; "Grad Clip" in Table 4
    loss: Callable[..., Array] = fields.choice(
        rescaled=gumbel.gumbel_rescaled_loss, plain=gumbel.gumbel_loss, log=gumbel.gumbel_log_loss
    )
    clip_rule: gumbel.ClipRule = fields.choice(both=gumbel.clip_both, above=gumbel.clip_above)

    def __call__(self, values: Array, targets: Array, scale: Numeric = 1.0) -> Array:
        """The loss of values f32[B] against targets f32[B] at scale * beta; see `losses.gumbel`."""
        return self.loss(values, targets, beta=scale * self.beta, clip=self.clip, clip_rule=self.clip_rule)


@flax.struct.dataclass
class Gumbel(ValueFit):
    """V goes to beta * log E[exp(Q / beta)], the soft maximum of Q (Garg et al. 2023, Eq. 11)."""

    regression: GumbelRegression = fields.part(GumbelRegression)

    def loss_of(self, values: Array, targets: Array) -> Array:
        return self.regression(values, targets)


@flax.struct.dataclass
class Expectile(ValueFit):
    """V goes to an expectile of Q (IQL; Kostrikov et al. 2021, Eq. 5)."""

    expectile: Numeric = fields.traced(0.7, fields.OPEN_UNIT_INTERVAL)

    def loss_of(self, values: Array, targets: Array) -> Array:
        return expectile_loss(values, targets, expectile=self.expectile)
