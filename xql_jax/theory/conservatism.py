"""Why Gumbel regression is conservative: the KL divergence, its dual and CQL's chi-square, in float64.

Source: Garg et al. 2023, Lemma 3.4, Eq. 13 and Appendix C.2. pi and mu are always distributions over actions,
f64[..., A], and broadcast. If mu is 0 for an action and pi is not, a divergence is inf.
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import rel_entr

from xql_jax.theory import arguments
from xql_jax.theory.log_partition import weighted_log_partition


def chi_square_divergence(pi: ArrayLike, mu: ArrayLike) -> np.ndarray:
    """Returns chi^2(pi || mu) = E_mu[(pi / mu - 1)^2] = E_pi[pi / mu - 1], f64[...]: CQL's (Appendix C.2)."""
    pi, mu = _pair(pi, mu)
    beyond = np.where(pi > 0, np.inf, 0.0)
    return np.divide((pi - mu) ** 2, mu, out=beyond, where=mu > 0).sum(-1)


def kl_divergence(pi: ArrayLike, mu: ArrayLike) -> np.ndarray:
    """Returns KL(pi || mu) = E_pi[log(pi / mu)], nats, f64[...]."""
    return rel_entr(*_pair(pi, mu)).sum(-1)


def kl_dual(x: ArrayLike, pi: ArrayLike, mu: ArrayLike) -> np.ndarray:
    """Returns E_mu[-exp(-x)] - E_pi[x] + 1, nats: its maximum over x is KL(pi || mu), at `kl_dual_maximizer`.

    x is f64[..., A], dimensionless. The result is f64[...], and -inf where the exponential overflows.

    Source: Garg et al. 2023, Appendix C.2, which prints the constant as -1: then the maximum is KL - 2.
    """
    pi, mu = _pair(pi, mu)
    x = np.asarray(x, np.float64)
    with np.errstate(over="ignore"):
        exponential = np.exp(-np.where(mu > 0, x, 0.0))
    return 1.0 - (mu * exponential).sum(-1) - (pi * x).sum(-1)


def kl_dual_maximizer(pi: ArrayLike, mu: ArrayLike) -> np.ndarray:
    """Returns x = -log(pi / mu), at which `kl_dual` is largest, f64[..., A] (Appendix C.2).

    It is 0 for an action to which neither gives weight, because any value is a maximiser there. If only one
    of them gives weight to an action, there is no maximiser, and a ValueError says so.
    """
    pi, mu = _pair(pi, mu)
    if ((pi > 0) != (mu > 0)).any():
        raise ValueError("pi and mu must give weight to the same actions")
    return -np.log(np.divide(pi, mu, out=np.ones_like(pi), where=mu > 0))


def soft_backup_loss(
    q: ArrayLike, targets: ArrayLike, pi: ArrayLike, mu: ArrayLike, beta: float
) -> np.ndarray:
    """Returns E_mu[exp(z)] - E_pi[z] - 1 with z = (targets - q) / beta.

    Its minimiser over q is `soft_backup`; the minimum is -KL(pi || mu).

    Source: Garg et al. 2023, Eq. 8 and Appendix C.2.
    Differs: Eq. 8 has mu under both expectations, so its minimiser is q = targets: nothing is regularised.
    Appendix C.2 has pi under the second, as here, but says that the minimum is KL(pi || mu), without minus.
    Args:
        q: f64[..., A], Q of every action, reward units.
        targets: f64[..., A], T^pi Q of the last iterate, reward units.
    """
    difference = np.asarray(q, np.float64) - np.asarray(targets, np.float64)
    return -kl_dual(difference / arguments.positive("beta", beta), pi, mu)


def soft_backup(targets: ArrayLike, pi: ArrayLike, mu: ArrayLike, beta: float) -> np.ndarray:
    """Returns T^pi Q - beta log(pi / mu), f64[..., A], reward units: the minimiser of Lemma 3.4's loss.

    The paper calls it B^pi Q, the soft backup. The soft backup of Section 2.1 subtracts the logarithm at the
    next state and action instead; its fixed point is higher by beta log(pi / mu).

    Arguments as `soft_backup_loss`. If only one of pi and mu gives weight to an action, the loss has no
    minimiser, and a ValueError says so.
    """
    return np.asarray(targets, np.float64) + arguments.positive("beta", beta) * kl_dual_maximizer(pi, mu)


def soft_objective(pi: ArrayLike, q: ArrayLike, mu: ArrayLike, beta: float) -> np.ndarray:
    """Returns E_pi[Q - beta log(pi / mu)] of each state, f64[...], reward units (Garg et al. 2023, Eq. 13).

    Its maximum over pi is L^beta_mu(Q), reached by `soft_policy`. Any other pi is lower by beta * KL(pi ||
    soft_policy). q is Q of every action, f64[..., A].
    """
    expected = (np.asarray(pi, np.float64) * np.asarray(q, np.float64)).sum(-1)
    return expected - arguments.positive("beta", beta) * kl_divergence(pi, mu)


def soft_policy(q: ArrayLike, mu: ArrayLike, beta: float) -> np.ndarray:
    """Returns mu * exp((Q - V) / beta) with V = L^beta_mu(Q), f64[..., A]: the policy of Eq. 12 and 13."""
    values, weights = _weighted(q, mu, beta)
    v = weighted_log_partition(values, weights, beta)[..., None]
    pi = weights * np.exp(np.where(weights > 0, values - v, 0.0) / beta)
    return pi / pi.sum(-1, keepdims=True)  # 1 except for rounding


def chi_square_policy(q: ArrayLike, mu: ArrayLike, beta: float) -> np.ndarray:
    """Returns the pi that maximises E_pi[Q] - beta * chi^2(pi || mu), f64[..., A]: Eq. 13 with CQL's chi^2.

    It is mu * max(0, 1 + (Q - c) / (2 beta)), with the c that makes it sum to 1. Arguments as `soft_policy`.
    """
    values, weights = _weighted(q, mu, beta)
    largest = values.max(-1, where=weights > 0, initial=-np.inf, keepdims=True)
    values = values - largest  # so that at a small beta nothing cancels
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


def _pair(pi: ArrayLike, mu: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Returns both as float64 of one shape, checked."""
    pi, mu = np.broadcast_arrays(arguments.probabilities("pi", pi), arguments.probabilities("mu", mu))
    return pi, mu


def _weighted(q: ArrayLike, mu: ArrayLike, beta: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns q and mu as float64 of one shape; checks mu and beta."""
    arguments.positive("beta", beta)
    values, weights = np.broadcast_arrays(np.asarray(q, np.float64), arguments.probabilities("mu", mu))
    return values, weights
