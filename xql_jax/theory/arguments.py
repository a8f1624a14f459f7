"""Argument checks of the functions in this package; each error names the argument and its value."""

from typing import SupportsFloat

import numpy as np
from numpy.typing import ArrayLike


def samples(name: str, values: ArrayLike) -> np.ndarray:
    """Returns the values as float64; raises ValueError if the array is empty or a value is not finite."""
    array = np.asarray(values, np.float64)
    if array.size == 0:
        raise ValueError(f"{name} is empty: its shape is {array.shape}")
    if not np.isfinite(array).all():
        place = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise ValueError(f"{name} must be finite, not {array[place]} as at {place}")
    return array


def number(name: str, value: SupportsFloat) -> float:
    """Returns the number as a float; raises ValueError if the value is not a number."""
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be a number, not {value!r}") from None


def positive(name: str, value: SupportsFloat) -> float:
    """Returns the number; raises ValueError unless it is positive and finite."""
    if not 0.0 < number(name, value) < np.inf:
        raise ValueError(f"{name} must be positive and finite, not {value}")
    return float(value)


def positive_count(name: str, value: int) -> int:
    """Returns the whole number; raises ValueError unless it is at least 1."""
    if not (number(name, value) >= 1 and value % 1 == 0):  # false for NaN and for inf
        raise ValueError(f"{name} must be a whole number, at least 1, not {value}")
    return int(value)


def within_open_unit(name: str, value: SupportsFloat) -> float:
    """Returns the number; raises ValueError unless it lies strictly between 0 and 1."""
    if not 0.0 < number(name, value) < 1.0:
        raise ValueError(f"{name} must be within (0, 1), not {value}")
    return float(value)


def discount(name: str, value: SupportsFloat) -> float:
    """Returns the number; raises ValueError unless it is within [0, 1)."""
    if not 0.0 <= number(name, value) < 1.0:
        raise ValueError(f"{name} must be within [0, 1), not {value}")
    return float(value)


def vector(name: str, values: ArrayLike) -> np.ndarray:
    """Returns the values as f64[N]; raises ValueError unless they are finite and have one axis."""
    array = samples(name, values)
    if array.ndim != 1:
        raise ValueError(f"{name} must have one axis, not the shape {array.shape}")
    return array


def indices(name: str, values: ArrayLike, size: int) -> np.ndarray:
    """Returns the values as i64[N]; raises ValueError unless they are whole numbers from 0 to size - 1."""
    array = vector(name, values)
    unfit = (array < 0) | (array >= size) | (array % 1 != 0)
    if unfit.any():
        place = int(unfit.argmax())
        raise ValueError(
            f"{name} must be whole numbers from 0 to {size - 1}, not {array[place]:g} as at {place}"
        )
    return array.astype(np.int64)


def of_shape(name: str, values: ArrayLike, shape: tuple[int, ...]) -> np.ndarray:
    """Returns the values as float64; raises ValueError unless they are finite and of that shape."""
    array = samples(name, values)
    if array.shape != shape:
        raise ValueError(f"{name} must have the shape {shape}, not {array.shape}")
    return array


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
