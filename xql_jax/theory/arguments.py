"""Checks of arguments that would otherwise give a plausible wrong number; errors name the argument."""

from typing import SupportsFloat

import numpy as np
from numpy.typing import ArrayLike


def positive(name: str, value: SupportsFloat) -> None:
    """Raises ValueError unless the number is positive and finite."""
    if not 0.0 < float(value) < np.inf:
        raise ValueError(f"{name} must be positive and finite, not {value}")


def probabilities(name: str, rows: ArrayLike) -> np.ndarray:
    """Returns the rows f64[..., N] along the last axis; raises ValueError unless each is a distribution."""
    array = np.asarray(rows, np.float64)
    sums = array.sum(-1)
    if (array < 0).any():
        raise ValueError(f"{name} must not be negative, and is {array.min()}")
    if not np.allclose(sums, 1.0, rtol=0.0, atol=1e-9):
        raise ValueError(f"{name} must sum to 1, and sums to {sums.flat[np.abs(sums - 1.0).argmax()]:.9g}")
    return array
