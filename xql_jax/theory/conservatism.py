"""Why Gumbel regression is conservative: the KL divergence and CQL's chi-square, in float64.

Source: Garg et al. 2023, Eq. 13 and Appendix C.2. pi and mu are always distributions over actions,
f64[..., A], and broadcast. If mu is 0 for an action and pi is not, a divergence is inf.
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import rel_entr, softmax

from xql_jax.theory import arguments


def chi_square_divergence(pi: ArrayLike, mu: ArrayLike) -> np.ndarray:
    """Returns chi^2(pi || mu) = E_mu[(pi / mu - 1)^2] = E_pi[pi / mu - 1], f64[...]: CQL's (Appendix C.2)."""
    pi, mu = _weighted(arguments.probabilities("pi", pi), mu)
    beyond = np.where(pi > 0, np.inf, 0.0)
    return np.divide((pi - mu) ** 2, mu, out=beyond, where=mu > 0).sum(-1)


def kl_divergence(pi: ArrayLike, mu: ArrayLike) -> np.ndarray:
    """Returns KL(pi || mu) = E_pi[log(pi / mu)], nats, f64[...]."""
    return rel_entr(*_weighted(arguments.probabilities("pi", pi), mu)).sum(-1)


def soft_policy(q: ArrayLike, mu: ArrayLike, beta: float) -> np.ndarray:
    """Returns mu * exp((Q - V) / beta) with V = L^beta_mu(Q), f64[..., A]: the policy of Eq. 2, 12, 13."""
    advantages, weights = below_largest(q, mu)
    with np.errstate(divide="ignore", over="ignore"):  # the logarithm of 0 is -inf
        return softmax(np.log(weights) + advantages / arguments.positive("beta", beta), axis=-1)


def chi_square_policy(q: ArrayLike, mu: ArrayLike, beta: float) -> np.ndarray:
    """Returns the pi that maximises E_pi[Q] - beta * chi^2(pi || mu), f64[..., A]: Eq. 13 with CQL's chi^2.

    It is mu * max(0, 1 + (Q - c) / (2 beta)), with the c that makes it sum to 1. Arguments as `soft_policy`.
    """
    arguments.positive("beta", beta)
    values, weights = below_largest(q, mu)
    order = np.argsort(-values, axis=-1)
    ordered, mass = np.take_along_axis(values, order, -1), np.take_along_axis(weights, order, -1)
    total, moment = mass.cumsum(-1), (mass * ordered).cumsum(-1)
    with np.errstate(divide="ignore", invalid="ignore"):  # total is 0 before the first action of mu
        c = (moment - 2.0 * beta * (1.0 - total)) / total
    # c[k] is the c of the best k actions. The actions in use are the best ones with a positive weight.
    in_use = (total > 0) & (ordered - c > -2.0 * beta)
    last = in_use.shape[-1] - 1 - np.argmax(in_use[..., ::-1], axis=-1)
    c = np.take_along_axis(c, last[..., None], -1)
    return weights * np.maximum(0.0, 1.0 + (values - c) / (2.0 * beta))


def below_largest(q: ArrayLike, mu: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Returns Q less its largest value with weight, so that at a small beta nothing cancels, and mu."""
    values, weights = _weighted(q, mu)
    largest = values.max(-1, where=weights > 0, initial=-np.inf, keepdims=True)
    return np.where(weights > 0, values - largest, 0.0), weights


def _weighted(values: ArrayLike, mu: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Returns the values and mu, which is checked, as float64 of one shape."""
    values, weights = np.broadcast_arrays(np.asarray(values, np.float64), arguments.probabilities("mu", mu))
    return values, weights
