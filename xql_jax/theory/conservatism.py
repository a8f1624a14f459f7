"""Why Gumbel regression is conservative: its policy, and the KL divergence that this pays for, in float64.

Source: Garg et al. 2023, Eq. 13 and Appendix C.2. pi and mu are always distributions over actions,
f64[..., A], and broadcast.
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import rel_entr, softmax

from xql_jax.theory import arguments


def kl_divergence(pi: ArrayLike, mu: ArrayLike) -> np.ndarray:
    """Returns KL(pi || mu) = E_pi[log(pi / mu)], nats, f64[...]; inf if mu is 0 for an action that pi has."""
    return rel_entr(arguments.probabilities("pi", pi), arguments.probabilities("mu", mu)).sum(-1)


def soft_policy(q: ArrayLike, mu: ArrayLike, beta: float) -> np.ndarray:
    """Returns mu * exp((Q - V) / beta) with V = L^beta_mu(Q), f64[..., A]: the policy of Eq. 2, 12, 13."""
    advantages, weights = below_largest(q, mu)
    with np.errstate(divide="ignore", over="ignore"):  # the logarithm of 0 is -inf
        return softmax(np.log(weights) + advantages / arguments.positive("beta", beta), axis=-1)


def below_largest(q: ArrayLike, mu: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Returns Q less its largest value with weight, so that at a small beta nothing cancels, and mu."""
    weights = arguments.probabilities("mu", mu)
    values, weights = np.broadcast_arrays(np.asarray(q, np.float64), weights)
    largest = values.max(-1, where=weights > 0, initial=-np.inf, keepdims=True)
    return np.where(weights > 0, values - largest, 0.0), weights
