"""Extreme Q-learning (Garg et al. 2023)."""

import flax.struct

from xql_jax.learners.gumbel_regression import GumbelRegression
from xql_jax.learners.in_sample import InSample


@flax.struct.dataclass
class XQL(GumbelRegression, InSample):
    """V is fitted to beta * log E[exp(Q / beta)] over the data's actions by Gumbel regression, Eq. 11."""
