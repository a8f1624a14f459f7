"""Why Gumbel regression is conservative: the KL divergence, its dual and CQL's chi-square, in float64.

Source: Garg et al. 2023, Lemma 3.4 and Appendix C.2. Everywhere pi and mu are f64[..., A], distributions over
actions, and broadcast; where an action's mu is 0 but its pi is not, a divergence is inf.
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import rel_entr

from xql_jax.theory import arguments


def cql_divergence(pi: ArrayLike, mu: ArrayLike) -> np.ndarray:
    """Returns D_CQL(pi, mu) = sum over actions of pi * (pi / mu - 1), f64[...] (Appendix C.2).

    It is `chi_square_divergence`, written as CQL has it.
    """
    pi, mu = _pair(pi, mu)
    ratio = np.divide(pi, mu, out=np.full_like(pi, np.inf), where=mu > 0)
    return np.multiply(pi, ratio - 1.0, out=np.zeros_like(pi), where=pi > 0).sum(-1)


def chi_square_divergence(pi: ArrayLike, mu: ArrayLike) -> np.ndarray:
    """Returns chi^2(pi || mu) = E_mu[(pi / mu - 1)^2], f64[...] (Appendix C.2)."""
    pi, mu = _pair(pi, mu)
    beyond = np.where(pi > 0, np.inf, 0.0)
    return np.divide((pi - mu) ** 2, mu, out=beyond, where=mu > 0).sum(-1)


def kl_divergence(pi: ArrayLike, mu: ArrayLike) -> np.ndarray:
    """Returns KL(pi || mu) = E_pi[log(pi / mu)], nats, f64[...]."""
    return rel_entr(*_pair(pi, mu)).sum(-1)


def kl_dual(x: ArrayLike, pi: ArrayLike, mu: ArrayLike) -> np.ndarray:
    """Returns E_mu[-exp(-x)] - E_pi[x] + 1, nats: its maximum over x is KL(pi || mu), at `kl_dual_maximizer`.

    Source: Garg et al. 2023, Appendix C.2.
    Differs: the paper prints the constant as -1, see `printed_kl_dual`.
    Args:
        x: f64[..., A], dimensionless; an action to which neither pi nor mu gives weight does not matter.
    Returns:
        f64[...]; -inf where the exponential overflows.
    """
    pi, mu = _pair(pi, mu)
    x = arguments.samples("x", x)
    with np.errstate(over="ignore"):
        exponential = np.exp(-np.where(mu > 0, x, 0.0))
    return 1.0 - (mu * exponential).sum(-1) - (pi * x).sum(-1)


def printed_kl_dual(x: ArrayLike, pi: ArrayLike, mu: ArrayLike) -> np.ndarray:
    """Returns E_mu[-exp(-x)] - E_pi[x] - 1, the dual as printed in Appendix C.2: its maximum is KL - 2."""
    return kl_dual(x, pi, mu) - 2.0


def kl_dual_maximizer(pi: ArrayLike, mu: ArrayLike) -> np.ndarray:
    """Returns x = -log(pi / mu), where `kl_dual` is largest, f64[..., A] (Appendix C.2).

    It is 0 for an action to which neither gives weight: there any value would do. If only one of them gives
    weight to an action, there is no maximiser, and a ValueError says so.
    """
    pi, mu = _pair(pi, mu)
    if ((pi > 0) != (mu > 0)).any():
        place = tuple(int(i) for i in np.argwhere((pi > 0) != (mu > 0))[0])
        raise ValueError(
            f"pi and mu must give weight to the same actions, and are {pi[place]}, {mu[place]} at {place}"
        )
    return -np.log(np.divide(pi, mu, out=np.ones_like(pi), where=mu > 0))


def soft_backup_loss(
    q: ArrayLike, targets: ArrayLike, pi: ArrayLike, mu: ArrayLike, beta: float
) -> np.ndarray:
    """Returns E_mu[exp(z)] - E_pi[z] - 1 with z = (targets - q) / beta.

    Its minimiser over q is `soft_backup`; the minimum is -KL(pi || mu).

    Source: Garg et al. 2023, Eq. 8 and Appendix C.2.
    Differs: Eq. 8 has mu under both expectations, see `printed_soft_backup_loss`; Appendix C.2 has pi under
    the second, as here, but says that the minimum is the expected KL(pi || mu), without the minus.
    Args:
        q: f64[..., A], Q of every action, reward units.
        targets: f64[..., A], T^pi Q of the last iterate, reward units.
        beta: positive, reward units.
    Returns:
        f64[...], dimensionless, of each state; inf where the exponential overflows.
    """
    beta = arguments.positive("beta", beta)
    return -kl_dual((arguments.samples("q", q) - arguments.samples("targets", targets)) / beta, pi, mu)


def printed_soft_backup_loss(q: ArrayLike, targets: ArrayLike, mu: ArrayLike, beta: float) -> np.ndarray:
    """Returns the loss of Eq. 8 as printed, with mu under both expectations: its minimiser is q = targets.

    So it regularises nothing. Arguments as `soft_backup_loss`.
    """
    return soft_backup_loss(q, targets, mu, mu, beta)


def soft_backup(targets: ArrayLike, pi: ArrayLike, mu: ArrayLike, beta: float) -> np.ndarray:
    """Returns B^pi Q = T^pi Q - beta log(pi / mu), f64[..., A], reward units (Lemma 3.4).

    Arguments as `soft_backup_loss`. If only one of pi and mu gives weight to an action, the loss has no
    minimiser, and a ValueError says so.
    """
    beta = arguments.positive("beta", beta)
    return arguments.samples("targets", targets) + beta * kl_dual_maximizer(pi, mu)


def _pair(pi: ArrayLike, mu: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Returns both as float64 of one shape, checked."""
    pi, mu = arguments.probabilities("pi", pi), arguments.probabilities("mu", mu)
    if pi.shape[-1] != mu.shape[-1]:
        raise ValueError(f"pi is over {pi.shape[-1]} actions, mu over {mu.shape[-1]}")
    pi, mu = np.broadcast_arrays(pi, mu)
    return pi, mu
