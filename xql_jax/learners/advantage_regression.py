"""V by a method's own loss, and a policy that weighs the data's actions by their advantage over V."""

from typing import cast

import flax.struct

from xql_jax.learners.policy_regression import PolicyRegression
from xql_jax.learners.train_state import TrainState, static
from xql_jax.losses.actor import exponential_advantage_weight
from xql_jax.networks.mlp import StateValue
from xql_jax.types import Array, Metrics, Numeric, Params, State


@flax.struct.dataclass
class AdvantageRegression(PolicyRegression):
    """A network V and the policy's weights. Its states have a field `value`; a method fills two holes."""

    value_lr: Numeric = 3e-4
    discount: Numeric = 0.99
    tau: Numeric = 0.005  # Polyak rate of the target network, per update
    awr_temperature: Numeric = 3.0  # 1 / reward units, multiplies the advantage
    max_weight: Numeric = 100.0  # cap of the AWR weight
    layer_norm: bool = static(False)  # on V
    v_updates: int = static(1)  # steps on V, on the same batch, per update

    def value_loss(self, values: Array, targets: Array) -> Array:
        """The method's own loss of V(s) f32[B] against Q(s, a) f32[B]; the caller takes the mean."""
        raise NotImplementedError

    def policy_weight(self, advantages: Array) -> Array:
        """How much each data action counts in the policy's regression, f32[B] from Q - V f32[B]; Eq. 12."""
        return exponential_advantage_weight(
            advantages, awr_temperature=self.awr_temperature, max_weight=self.max_weight
        )

    def fit_value(self, value: TrainState, observations: Array, targets: Array) -> tuple[TrainState, Metrics]:
        """`v_updates` steps of V(s) towards what `value_loss` makes of the targets f32[B]."""

        def loss(params):
            v = self.v(params, observations)
            value_loss = self.value_loss(v, targets).mean()
            return value_loss, {"value/loss": value_loss, "value/v": v.mean()}

        for _ in range(self.v_updates):
            value, info = value.minimize(loss, learning_rate=self.value_lr, max_grad_norm=self.max_grad_norm)
        return value, info

    def values(self, state: State, observations: Array) -> Array:
        """V(s), f32[B], reward units, for observations f32[B, O]."""
        return self.v(state.value.params, observations)

    def v(self, params: Params, observations: Array) -> Array:
        """V(s) under `params`, f32[B]."""
        return cast(Array, self.value_network.apply(params, observations))

    @property
    def value_network(self) -> StateValue:
        return StateValue(self.hidden_dims, self.layer_norm)
