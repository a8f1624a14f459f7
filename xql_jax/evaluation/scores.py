"""What a handful of scores says about their mean; a return becomes a score in `Task.normalized_score`."""

import numpy as np
from scipy import stats


def mean_and_interval(scores: np.ndarray, confidence: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Returns the mean and the half-width of Student's t interval over the last axis.

    Args:
        scores: f64[..., N], one an independent run, any unit.
        confidence: in (0, 1).
    Returns:
        f64[...] each, in the scores' unit; the half-width is NaN for N = 1, where nothing is known of the
        spread.
    """
    scores = np.asarray(scores, dtype=np.float64)
    n = scores.shape[-1]
    mean = scores.mean(-1)
    if n == 1:
        return mean, np.full_like(mean, np.nan)
    quantile = stats.t.ppf(0.5 + confidence / 2, df=n - 1)
    return mean, quantile * scores.std(-1, ddof=1) / np.sqrt(n)
