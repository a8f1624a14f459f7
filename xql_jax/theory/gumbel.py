"""The Gumbel-max trick (Garg et al. 2023, Sec. 2.2). SciPy's `gumbel_r` is the Gumbel distribution itself."""

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats
from scipy.special import logsumexp, softmax

from xql_jax.theory import arguments


def gumbel_max_law(x: ArrayLike, beta: float) -> tuple[stats.distributions.rv_frozen, np.ndarray]:
    """Returns the laws of max(x + noise) and of its index, for x f64[N] and independent noise G(0, beta).

    Source: Garg et al. 2023, Section 2.2 (Gumbel-Max trick): G(beta log sum exp(x / beta), beta) and
        softmax(x / beta). Here the sum is not a mean: the location is L^beta(x) + beta log N.
    """
    arguments.positive("beta", beta)
    largest = np.max(x)
    z = (np.asarray(x, np.float64) - largest) / beta  # the division first would cost digits at a small beta
    return stats.gumbel_r(largest + beta * logsumexp(z), beta), softmax(z)
