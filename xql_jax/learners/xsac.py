"""X-SAC (Garg et al. 2023): extreme Q-learning for online RL."""

import flax.struct

from xql_jax.learners.gumbel_regression import GumbelRegression
from xql_jax.learners.soft_actor_critic import SoftActorCritic
from xql_jax.types import Array, Numeric


@flax.struct.dataclass
class XSAC(GumbelRegression, SoftActorCritic):
    """V is fitted to beta * log E[exp(min Q / beta)] over the policy's actions by Gumbel regression, Eq. 11.

    The actions' probabilities play no part in it (Sec. 3.5, Online RL).
    """

    clip: Numeric = 8.0  # of z = (Q - V) / beta, Appendix D.6

    def value_targets(self, q: Array, log_probs: Array, entropy_coef: Array) -> Array:
        return q
