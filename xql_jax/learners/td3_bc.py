"""TD3+BC (Fujimoto & Gu 2021): TD3 with a policy that also stays near the data's actions.

Source: Fujimoto & Gu 2021, "A Minimalist Approach to Offline Reinforcement Learning", Section 5: the policy
maximises lambda * Q(s, pi(s)) - (pi(s) - a)^2 with lambda = q_weight / mean |Q|; observations are normalised.
Hyperparameters: sfujim/TD3_BC, TD3_BC.py lines 71 to 85, main.py lines 48 to 57; the paper has the same.
Differs: in lambda the paper averages |Q(s, a)| over the data's actions. The authors' code averages |Q(s,
pi(s))|, and it also averages the squared error over the action's components. This file follows the code.
"""

import jax
import jax.numpy as jnp

from xql_jax.learners.method import Method
from xql_jax.learners.parts import CriticState, where_carried_out
from xql_jax.learners.td3 import DelayedDeterministic
from xql_jax.settings import NOT_NEGATIVE, traced
from xql_jax.types import AnyBatch, Array, Numeric


def normalized_mean(q: Array) -> Array:
    """The mean of q f32[B] in units of the mean of |q|, which is a constant for gradients."""
    return q.mean() / jax.lax.stop_gradient(jnp.abs(q).mean())


class TD3_BC(DelayedDeterministic):
    """TD3 whose policy maximises the first Q and clones the data; the scale of Q does not matter."""

    q_weight: Numeric = traced(
        2.5, NOT_NEGATIVE, "Weight of Q relative to cloning the data; 0: only cloning."
    )

    def actor_loss(self, critic: CriticState, batch: AnyBatch, actions: Array) -> Array:
        q = critic.apply(critic.params[0], batch.observations, actions)
        errors = where_carried_out(jnp.square(actions - batch.actions), batch)
        return -self.q_weight * normalized_mean(q) + errors.mean()


METHODS = {
    "td3_bc": Method(
        TD3_BC,
        {"actor_lr": 3e-4, "critic_lr": 3e-4},
        settings={"normalize_observations": True, "scale_rewards": False},
    )
}
