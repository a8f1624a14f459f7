"""Steps from row to row: whether the next row goes on, and how far steps lead."""

from collections.abc import Iterator

import numpy as np

CLEARLY = 0.9  # share of pairs in which a step is larger than a step of another kind, see `exceeds`
SINGLE, HALF = 1e-6, 2.0**-9  # relative size of some roundings in float32, in float16


def jumps(next_observations: np.ndarray, observations: np.ndarray, are_marked: bool) -> np.ndarray:
    """Returns bool[N - 1]: the next observation, f32[N, O], is not the next row's, even if it was rounded.

    If ends are marked, or one array was in half precision, a rounding is as large as half precision's.
    """
    with np.errstate(over="ignore"):
        halves = [(each.astype(np.float16) == each).all() for each in (next_observations, observations)]
    is_coarse = are_marked or halves[0] != halves[1]
    return differ(next_observations[:-1], observations[1:], HALF if is_coarse else SINGLE)


def differ(vectors: np.ndarray, others: np.ndarray, rounding: float = SINGLE) -> np.ndarray:
    """Returns bool[N]: an entry of f32[N, O] differs from the other by more than this share of its size.

    The size of an entry is its own plus the mean of its column, because numbers may have been shifted.
    """
    mean = np.abs(others).sum(axis=0, dtype=np.float64) / max(1, len(others))
    with np.errstate(over="ignore"):  # an overflow is a difference
        return (np.abs(vectors - others) > rounding * (np.abs(others) + np.float32(mean))).any(axis=1)


def step_sizes(observations: np.ndarray, following: np.ndarray, *rows: np.ndarray) -> Iterator[np.ndarray]:
    """Yields for each i64[K], row numbers, f64[K], how far their steps are from f32[N, O] to f32[N, O].

    That is the largest over the entries, each in units of its own mean step in the first rows.
    """
    moved = [np.abs(following[each] - observations[each], dtype=np.float64) for each in rows]
    size = moved[0].mean(axis=0) + np.finfo(np.float32).tiny
    yield from ((each / size).max(axis=1) for each in moved)


def exceeds(numbers: np.ndarray, others: np.ndarray) -> float:
    """Returns the share of pairs, a number and another, in which the number is larger; a tie is a half."""
    ranked = np.sort(others)
    below = np.searchsorted(ranked, numbers, "left") + np.searchsorted(ranked, numbers, "right")
    return float(below.mean() / (2 * len(others))) if len(numbers) and len(others) else 0.5


def are_larger(numbers: np.ndarray, others: np.ndarray) -> bool:
    """Whether the numbers are larger than nearly all others; a single number or two must exceed all."""
    return exceeds(numbers, others) > (CLEARLY if len(numbers) > 2 else 1 - 1e-3)
