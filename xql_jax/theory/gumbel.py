"""The Gumbel-max trick (Garg et al. 2023, Sec. 2.2). SciPy's `gumbel_r` is the Gumbel distribution itself."""

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats
from scipy.special import logsumexp, softmax

from xql_jax.theory import arguments


def gumbel_max_law(x: ArrayLike, beta: float) -> tuple[stats.distributions.rv_frozen, np.ndarray]:
    """Returns the laws of max(x + noise) and of its index, for x f64[..., N] and independent G(0, beta).

    Source: Garg et al. 2023, Section 2.2 (Gumbel-Max trick): G(beta log sum exp(x / beta), beta) and
        softmax(x / beta). Here the sum is not a mean: the location is L^beta(x) + beta log N.
    """
    values = arguments.samples("x", x)
    largest = values.max(-1)
    # Subtracted before the division, so that at a small beta nothing cancels.
    z = (values - largest[..., None]) / arguments.positive("beta", beta)
    return stats.gumbel_r(largest + beta * logsumexp(z, axis=-1), beta), softmax(z, axis=-1)
