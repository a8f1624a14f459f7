"""X-TD3 (Garg et al. 2023): TD3 with Q fitted by Gumbel regression.

This is Q iteration for deterministic dynamics: Q goes to r + discount * Q(s', a'). `beta` is the scale of the
regression. Eq. 42 prints this scale as discount * beta, and Appendix C.1 renames it beta'. It is also the
beta of the authors' code and of Table 6. The soft value that Q learns has scale beta / discount.

Source: Garg et al. 2023, Eq. 41 and 42, Lemma C.1, Sec. 3.5 (Online RL).
"""

import flax.struct

from xql_jax.learners import fields
from xql_jax.learners.parts import Critic
from xql_jax.learners.td3 import DEFAULTS, TD3
from xql_jax.learners.value_fits.xql import GumbelRegression
from xql_jax.types import Array


@flax.struct.dataclass
class GumbelCritic(Critic):
    """Critics fitted to L^beta of their targets, Eq. 42."""

    regression: GumbelRegression = fields.part(GumbelRegression)

    def loss_of(self, values: Array, targets: Array) -> Array:
        return self.regression(values, targets)


@flax.struct.dataclass
class XTD3(TD3):
    """TD3 with a `GumbelCritic`; all else is TD3's."""

    critic: Critic = fields.part(GumbelCritic)


CLIP = {"clip": 8.0}  # of z = (target - Q) / beta, Appendix D.6
METHODS = {
    "xtd3": fields.Method(XTD3, {**DEFAULTS, **CLIP}),
    "xtd3_dq": fields.Method(XTD3, {**DEFAULTS, **CLIP, "num_critics": 1}),  # one Q
}
