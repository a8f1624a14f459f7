"""Checks of what the functions of this room are given: each names the argument and its value."""

import numpy as np
from numpy.typing import ArrayLike


def samples(name: str, values: ArrayLike) -> np.ndarray:
    """Returns the values as float64; raises ValueError if there is none, or one is not finite."""
    array = np.asarray(values, np.float64)
    if array.size == 0:
        raise ValueError(f"{name} is empty: its shape is {array.shape}")
    if not np.isfinite(array).all():
        place = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise ValueError(f"{name} must be finite, not {array[place]} as at {place}")
    return array


def positive(name: str, value: float) -> float:
    """Returns the number; raises ValueError unless it is positive and finite."""
    if not 0.0 < value < np.inf:
        raise ValueError(f"{name} must be positive and finite, not {value}")
    return float(value)


def positive_count(name: str, value: int) -> int:
    """Returns the whole number; raises ValueError unless it is at least 1."""
    if not (value >= 1 and value % 1 == 0):  # neither for NaN nor for inf
        raise ValueError(f"{name} must be a whole number, at least 1, not {value}")
    return int(value)


def within_open_unit(name: str, value: float) -> float:
    """Returns the number; raises ValueError unless it lies strictly between 0 and 1."""
    if not 0.0 < value < 1.0:
        raise ValueError(f"{name} must be within (0, 1), not {value}")
    return float(value)


def discount(name: str, value: float) -> float:
    """Returns the number; raises ValueError unless it is within [0, 1)."""
    if not 0.0 <= value < 1.0:
        raise ValueError(f"{name} must be within [0, 1), not {value}")
    return float(value)


def probabilities(name: str, rows: ArrayLike) -> np.ndarray:
    """Returns the rows f64[..., N] along the last axis; raises ValueError unless each is a distribution."""
    array = samples(name, rows)
    if (array < 0).any():
        place = tuple(int(i) for i in np.argwhere(array < 0)[0])
        raise ValueError(f"{name} must not be negative, and is {array[place]} at {place}")
    sums = array.sum(-1)
    if not np.allclose(sums, 1.0, rtol=0.0, atol=1e-9):
        place = np.unravel_index(np.abs(sums - 1.0).argmax(), sums.shape)
        row = f"row {tuple(int(i) for i in place)} of {name}" if place else name
        raise ValueError(f"{row} must sum to 1, and sums to {sums[place]:.9g}")
    return array
