"""X-TD3 (Garg et al. 2023): TD3 whose Q is fitted by Gumbel regression.

That is Q iteration for deterministic dynamics: Q goes to r + discount * Q(s', a'). `beta` is the scale of
the regression, which Eq. 42 prints as discount * beta and Appendix C.1 renames beta'; the authors' code and
Table 6 mean it too. The soft value that Q learns has scale beta / discount.

Source: Garg et al. 2023, Eq. 41 and 42, Lemma C.1, Sec. 3.5 (Online RL).
"""

import functools

import flax.struct

from xql_jax.learners import fields
from xql_jax.learners.critics import Critic
from xql_jax.learners.methods import Method
from xql_jax.learners.td3 import DEFAULTS, DelayedTwin
from xql_jax.learners.value_fits.gumbel import GumbelRegression
from xql_jax.networks.squashed_policies import td3_init
from xql_jax.types import Array


@flax.struct.dataclass
class GumbelCritic(Critic):
    """Q goes to L^beta of its targets, Eq. 42."""

    regression: GumbelRegression = fields.part(GumbelRegression)

    def loss_of(self, values: Array, targets: Array) -> Array:
        return self.regression(values, targets)


CLIP = {"clip": 8.0}  # of z = (target - Q) / beta, Appendix D.6
CRITIC = functools.partial(GumbelCritic, critic_init=td3_init)
XTD3 = Method(DelayedTwin, {**DEFAULTS, **CLIP}, critic=CRITIC)
XTD3_DQ = Method(DelayedTwin, {**DEFAULTS, **CLIP, "num_critics": 1}, critic=CRITIC)  # one Q
