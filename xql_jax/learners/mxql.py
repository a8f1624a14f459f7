"""MXQL (Omura et al. 2024, "Stabilizing Extreme Q-learning by Maclaurin Expansion", RLC).

Hyperparameters: motokiomura/MXQL, README.md (order 4 offline) and offline/reproduce/*.sh (beta, as XQL's).
Differs: the authors' code (offline/critic.py, `update_v`) computes the expanded loss, but then always
replaces it by XQL's rescaled or log loss. Here the expanded loss is used, as in the paper, and not divided by
the batch's largest term (line 21 there).
"""

import jax.numpy as jnp

from xql_jax.learners import parts
from xql_jax.learners.method import Method
from xql_jax.learners.xql import InSample
from xql_jax.losses.regression import difference
from xql_jax.settings import POSITIVE, Domain, static, traced
from xql_jax.types import Array, Numeric

EVEN = Domain("even and at least 2", lambda n: n >= 2 and n % 2 == 0)


class Maclaurin(parts.ValueFit):
    """Fits V to a value between the mean of Q, at order 2, and its soft maximum, as the order grows."""

    beta: Numeric = traced(2.0, POSITIVE, "Scale of the expanded Gumbel loss, reward units.")
    order: int = static(4, EVEN, "Order of the expansion: 2 is least squares, a high one nearly XQL.")

    def loss_of(self, values: Array, targets: Array) -> Array:
        """The Gumbel loss exp(z) - z - 1 up to its term of this order: sum over j = 2, ..., n of z^j / j!.

        z = (targets - values) / beta. Convex for an even order; its slope grows as z^(n - 1), not as exp(z),
        so that no clip is needed. Source: Omura et al. 2024, Eq. 12.
        """
        z = difference(values, targets) / self.beta
        total = jnp.ones_like(z)
        for j in range(self.order, 2, -1):  # Horner's scheme: 1 + z / 3 * (1 + z / 4 * (...))
            total = 1.0 + z / j * total
        return 0.5 * z**2 * total


METHODS = {"mxql": Method(InSample, {"layer_norm": True}, value=Maclaurin)}
