"""SAC (Haarnoja et al. 2018), with a value network as the paper's baseline, or without."""

import flax.struct

from xql_jax.learners.soft_actor_critic import SoftActorCritic, SoftActorCriticState
from xql_jax.learners.train_state import TrainState, static
from xql_jax.losses.critic import mse_loss
from xql_jax.types import Array, Metrics, Params, PRNGKey


@flax.struct.dataclass
class SAC(SoftActorCritic):
    """V is fitted by least squares to min Q - entropy_coef * log pi, the soft value of the policy.

    Without V, as SAC is mostly used, Q learns from that soft value itself, at one action in s' and with
    target networks of the critics.

    Source: Haarnoja et al. 2018; with V: the baseline of Garg et al. 2023, Appendix D.6.
    """

    uses_value_network: bool = static(True)

    def value_loss(self, values: Array, targets: Array) -> Array:
        return mse_loss(values, targets)

    def value_targets(self, q: Array, log_probs: Array, entropy_coef: Array) -> Array:
        return q - entropy_coef * log_probs

    def init_value(self, key: PRNGKey, observations: Array) -> TrainState | None:
        return super().init_value(key, observations) if self.uses_value_network else None

    def followed(self, critic: TrainState, value: TrainState | None) -> Params:
        return super().followed(critic, value) if self.uses_value_network else critic.params

    def next_values(self, state: SoftActorCriticState, observations: Array, key: PRNGKey) -> Array:
        if self.uses_value_network:
            return super().next_values(state, observations, key)
        return self.sampled_values(state, state.target, observations, key)

    def update_value(
        self, state: SoftActorCriticState, observations: Array, key: PRNGKey
    ) -> tuple[TrainState | None, Metrics]:
        return super().update_value(state, observations, key) if self.uses_value_network else (None, {})
