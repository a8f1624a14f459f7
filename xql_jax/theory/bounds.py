"""Bounds on how much soft values exceed means, and estimates exceed the truth (Garg et al. 2023, Appendix B).

All arguments broadcast, and every function returns f64 of the broadcast shape. beta, q_max and x_max are
positive, in reward units; nothing is checked.
"""

import numpy as np

Numbers = np.ndarray | float


def log_cosh_bias(q_max: Numbers, beta: Numbers) -> np.ndarray:
    """Returns beta * log cosh(q_max / beta), reward units: the bound on V_hat - E[Q] that Lemma B.1 prints.

    It falls with beta, from q_max at 0 to q_max**2 / (2 beta) for a large beta.
    """
    with np.errstate(over="ignore"):
        ratio = q_max / beta
    # A small ratio leaves nothing of |x| - log 2; a large ratio overflows the hyperbolic sine.
    small = beta * np.log1p(2.0 * np.sinh(np.minimum(ratio, 1.0) / 2.0) ** 2)
    large = q_max + beta * (np.log1p(np.exp(-2.0 * ratio)) - np.log(2.0))
    return np.where(ratio < 1.0, small, large)


def soft_value_upper_bound(mean_q: Numbers, q_max: Numbers, beta: Numbers) -> np.ndarray:
    """Returns E[Q] + 2 beta log cosh(q_max / beta), an upper bound on E[V_hat] = E[L^beta(Q_hat)].

    The lower bound of the lemma is V = L^beta(E[Q_hat]), `log_partition` of the expected values.

    Source: Garg et al. 2023, Lemma B.1.
    Differs: the paper lacks the factor 2: the reverse Jensen inequality that its proof cites ends in
    -2 f((a + b) / 2). For any q_max and beta, some distribution of Q exceeds the bound as printed, which is
    tight at E[Q] = 0. It also assumes Q within [-q_max, q_max], but the proof needs the estimates Q_hat
    within it.
    `mean_q` is the expectation over actions from mu of unbiased estimates Q_hat, and q_max bounds |Q_hat|.
    """
    return mean_q + 2.0 * log_cosh_bias(q_max, beta)


def partition_upper_bound(
    partition: Numbers, x_max: Numbers, beta: Numbers, num_samples: Numbers, delta: Numbers
) -> np.ndarray:
    """Returns a bound that the mean of exp(X / beta) over samples exceeds with probability at most delta.

    It is Z + sinh(x_max / beta) * sqrt(2 log(1 / delta) / N), by Hoeffding's inequality; inf if it overflows.
    `partition` is Z = E[exp(X / beta)], x_max bounds |X|, and N is the number of independent samples.

    Source: Garg et al. 2023, Lemma B.2, first part, and Eq. 29.
    """
    with np.errstate(over="ignore"):
        return partition + np.exp(x_max / beta + _log_deviation(x_max, beta, num_samples, delta))


def log_partition_upper_bound(
    log_partition: Numbers, x_max: Numbers, beta: Numbers, num_samples: Numbers, delta: Numbers
) -> np.ndarray:
    """Returns a bound that the estimate of L^beta(X) from samples exceeds with probability at most delta.

    It is beta times the logarithm of `partition_upper_bound`, and finite at any beta.
    Source: Garg et al. 2023, Eq. 30, the sharper of Lemma B.2's two bounds on L^beta.
    """
    # beta * log(1 + exp(excess / beta)), which overflows only in the middle.
    excess = (x_max - log_partition) + beta * _log_deviation(x_max, beta, num_samples, delta)
    with np.errstate(over="ignore"):
        return log_partition + np.maximum(excess, 0.0) + beta * np.log1p(np.exp(-np.abs(excess) / beta))


def linear_log_partition_upper_bound(
    log_partition: Numbers, x_max: Numbers, beta: Numbers, num_samples: Numbers, delta: Numbers
) -> np.ndarray:
    """Returns L + beta * sinh(x_max / beta) / Z * sqrt(2 log(1 / delta) / N), with Z = exp(L / beta).

    It is never below `log_partition_upper_bound`, because log(1 + x) <= x; inf if it overflows.
    Source: Garg et al. 2023, Lemma B.2, second part, and Eq. 31 and 32.
    Differs: Eq. 31 prints "=" but "<=" is meant. The paper also says that the bound tightens as beta grows,
    but for some X the term after L grows: for X = +-x_max, each with probability 1/2, it is beta * tanh(x_max
    / beta) times the root.
    """
    log_factor = _log_deviation(x_max, beta, num_samples, delta)
    with np.errstate(over="ignore"):
        return log_partition + np.exp((x_max - log_partition) / beta + log_factor + np.log(beta))


def _log_deviation(x_max: Numbers, beta: Numbers, num_samples: Numbers, delta: Numbers) -> Numbers:
    """Returns f with sinh(x_max / beta) * sqrt(2 log(1 / delta) / N) = exp(x_max / beta + f)."""
    with np.errstate(over="ignore", divide="ignore"):
        log_half = np.log(-np.expm1(-2.0 * x_max / beta) / 2.0)
    return log_half + 0.5 * np.log(-2.0 * np.log(delta) / num_samples)
