"""X-TD3 (Garg et al. 2023): extreme Q-learning for online RL with a deterministic policy."""

import flax.struct

from xql_jax.learners.gumbel_regression import GumbelRegression
from xql_jax.learners.td3 import TD3
from xql_jax.learners.train_state import static
from xql_jax.types import Array, Numeric


@flax.struct.dataclass
class XTD3(GumbelRegression, TD3):
    """Q is fitted to r + discount * Q(s', a') by Gumbel regression: Q iteration for deterministic dynamics.

    `beta` is the scale of that regression, which Eq. 42 prints as discount * beta and Appendix C.1 renames
    beta'; the authors' code and Table 6 mean it too. The soft value that Q learns has scale beta / discount.
    With one critic it is X-TD3 - DQ.

    Source: Garg et al. 2023, Eq. 41 and 42, Lemma C.1, Sec. 3.5 (Online RL).
    """

    clip: Numeric = 8.0  # of z = (target - Q) / beta, Appendix D.6

    def critic_loss(self, values: Array, targets: Array) -> Array:
        return self.gumbel_loss(values, targets, self.beta)


@flax.struct.dataclass
class SingleCriticXTD3(XTD3):
    """X-TD3 - DQ: without the double Q trick."""

    num_critics: int = static(1)
