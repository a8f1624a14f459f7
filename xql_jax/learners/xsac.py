"""X-SAC (Garg et al. 2023): extreme Q-learning for online RL."""

import functools

import flax.struct

from xql_jax.learners.critics import Critic
from xql_jax.learners.maximum_entropy import MaximumEntropy
from xql_jax.learners.methods import Method
from xql_jax.learners.soft_actor_critic import DEFAULTS, SoftActorCritic
from xql_jax.learners.value_fits.gumbel import Gumbel
from xql_jax.networks.squashed_policies import sac_init
from xql_jax.types import Array


@flax.struct.dataclass
class ExtremeValues(SoftActorCritic):
    """V is fitted to beta * log E[exp(min Q / beta)] over the policy's actions by Gumbel regression, Eq. 11.

    The log probabilities of the actions do not enter (Sec. 3.5, Online RL).
    """

    def value_targets(self, q: Array, log_probs: Array, entropy_coef: Array) -> Array:
        return q


XSAC = Method(
    ExtremeValues,
    {**DEFAULTS, "clip": 8.0},  # of z = (Q - V) / beta, Appendix D.6
    value=functools.partial(Gumbel, value_init=sac_init),
    policy=MaximumEntropy,
    critic=functools.partial(Critic, critic_init=sac_init),
)
