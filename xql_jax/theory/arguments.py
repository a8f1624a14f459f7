"""Checks of arguments that would otherwise give a plausible wrong number; errors name the argument."""

from typing import SupportsFloat

import numpy as np
from numpy.typing import ArrayLike


def samples(name: str, values: ArrayLike) -> np.ndarray:
    """Returns the values as float64; raises ValueError if there are none or some are not finite."""
    array = np.asarray(values, np.float64)
    if array.size == 0 or not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite and not empty")
    return array


def positive(name: str, value: SupportsFloat) -> float:
    """Returns the number; raises ValueError unless it is positive and finite."""
    if not 0.0 < float(value) < np.inf:
        raise ValueError(f"{name} must be positive and finite, not {value}")
    return float(value)


def probabilities(name: str, rows: ArrayLike) -> np.ndarray:
    """Returns the rows f64[..., N] along the last axis; raises ValueError unless each is a distribution."""
    array = samples(name, rows)
    if (array < 0).any() or not np.allclose(array.sum(-1), 1.0, rtol=0.0, atol=1e-9):
        raise ValueError(f"{name} must not be negative, and must sum to 1")
    return array
