"""What makes the first observations of data's episodes an environment's: a shift, a factor, another order.

Both are samples. If episodes of the data begin as resets do, in each entry's mean, spread and first step,
nothing is told. If they do not, but do after one simple change, this is what was done to the data. Data of
other starts, such as those of people or of other rooms, do not become the environment's by any such change.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

FEWEST = 10  # episodes, of which spreads are known
SIGMAS = 5.0  # between means
STEP_FACTOR = 4.0  # between first steps, which also depend on who acts
BOTH_WAYS = 10.0  # between first steps of some entries, and the inverse of others
RESCALED = 3.0  # the factor of single entries
SCALED = 1.5  # the factor of all entries
AGREEMENT = 2.5  # between the factors of an entry's spread and of its first step
NARROW = 0.05  # of a spread beside a distance
FEWEST_NARROW = 3  # entries that hardly vary
ROUNDING = 1e-3  # of an entry's size
FEW_LEFT = 0.1  # of the entries, that begin elsewhere as such
MOST_ENTRIES = 500  # that are ordered anew


class Starts(NamedTuple):
    """The first observations of K episodes by entry, f64[O] each."""

    mean: np.ndarray
    std: np.ndarray
    step: np.ndarray  # mean |change| in the first step; NaN if it is not known
    episodes: int  # K

    @classmethod
    def of(cls, first: np.ndarray, second: np.ndarray | None) -> "Starts":
        """Returns the statistics of first observations [K, O] and of those after a step, if known."""
        first = np.asarray(first, np.float64)
        steps = np.abs(second - first).mean(axis=0) if second is not None else np.full(first.shape[1], np.nan)
        return cls(first.mean(axis=0), first.std(axis=0), steps, len(first))

    def changed(self, factor: np.ndarray | float = 1.0, shift: float = 0.0) -> "Starts":
        """Returns those of the observations times the factors, plus the shift."""
        return Starts(self.mean * factor + shift, self.std * factor, self.step * factor, self.episodes)


def what_was_done(own: Starts, seen: Starts) -> tuple[np.ndarray, str] | None:
    """Returns the entries of data that begin otherwise than in resets, and what was done to them, in words.

    None if they begin alike, or if no simple change makes them alike.
    """
    is_unlike = unlike(own, seen)
    entries = np.flatnonzero(is_unlike.any(axis=0))
    if min(own.episodes, seen.episodes) < FEWEST or not entries.size:
        return None
    shift = float(np.median(own.mean - seen.mean))
    is_moved = 2 * np.count_nonzero(is_unlike[0]) > len(own.mean) > 2  # a few entries may be places
    shifted = own.changed(shift=-shift)
    if (is_moved and _explains(shifted, seen, entries)) or _all_narrow_move(own, seen, shift):
        return entries, f"the data's are {shift:.3g} larger in all entries: are they shifted?"
    for factor in _factors(own, seen):
        if abs(factor) > np.log(SCALED) and _is_scaled(own, seen, factor, entries):
            return entries, f"the data's are {np.exp(factor):.3g} times as large: are they scaled?"
    if pairs := _order(own, seen, entries):
        return (
            entries,
            f"are they in another order? Entries begin as others of the data: {pairs}",
        )
    return _rescaled(own, seen)


def unlike(own: Starts, seen: Starts, pace: float | None = None) -> np.ndarray:
    """Returns bool[3, O], whose mean, spread and first step differ by more than samples and policies do.

    `pace` is the logarithm of how much farther the data's policy moves. Starts with arrays [O, 1] are
    compared with each of the others', bool[3, O, O].
    """
    tiny = _tiny(own, seen)
    error = np.sqrt(own.std**2 / own.episodes + seen.std**2 / seen.episodes)
    is_elsewhere = np.abs(own.mean - seen.mean) > SIGMAS * error + tiny
    # A spread of n numbers is known to about 0.7 / sqrt(n) of its size.
    tolerance = 0.2 + 3 * np.sqrt(1 / own.episodes + 1 / seen.episodes)
    is_wider = np.abs(_log_ratios(own.std, seen.std, tiny)) > tolerance
    ratios = _log_ratios(own.step, seen.step, tiny)
    is_faster = np.abs(ratios - (_pace(own, seen) if pace is None else pace)) > np.log(STEP_FACTOR)
    return np.stack([is_elsewhere, is_wider, is_faster & (ratios != 0)])


def _explains(changed: Starts, seen: Starts, entries: np.ndarray) -> bool:
    """Whether after a change few entries have another mean or spread, and far fewer than were unlike."""
    return _are_few(np.any(unlike(changed, seen)[:2], axis=0), entries)


def _are_few(is_left: Any, entries: np.ndarray) -> bool:
    left = np.count_nonzero(is_left)
    return bool(left <= FEW_LEFT * len(is_left) and 4 * left <= len(entries))


def _all_narrow_move(own: Starts, seen: Starts, shift: float) -> bool:
    """Whether all entries that hardly vary, as of things at rest, are elsewhere by the shift."""
    narrow = np.maximum(own.std, seen.std) < NARROW * abs(shift)
    moved = own.mean[narrow] - seen.mean[narrow]
    return len(moved) >= FEWEST_NARROW and bool((np.abs(moved - shift) < 2 * NARROW * abs(shift)).all())


def _away(own: Starts, seen: Starts) -> np.ndarray:
    """Returns bool[O], the entries that hardly vary beside their distance from 0."""
    is_away = [each.std < NARROW * np.abs(each.mean) for each in (own, seen)]
    return np.asarray(is_away[0] & is_away[1] & (own.mean * seen.mean > 0))


def _factors(own: Starts, seen: Starts) -> Iterator[float]:
    """Yields logarithms of the factor of all entries: by entries that lie away from 0, and by spreads."""
    if (away := _away(own, seen)).any():
        yield float(np.median(_log_ratios(np.abs(own.mean), np.abs(seen.mean))[away]))
    known = np.minimum(own.std, seen.std) > _tiny(own, seen)
    if known.sum() > 1:
        yield float(np.median(_log_ratios(own.std, seen.std)[known]))


def _is_scaled(own: Starts, seen: Starts, factor: float, entries: np.ndarray) -> bool:
    """Whether the data's starts are the environment's times exp(factor): all, or all that hardly vary."""
    if _explains(own.changed(np.exp(-factor)), seen, entries):
        # Where episodes only begin in wider ranges, steps are as large.
        return _pace(own, seen) / factor > 0.5
    away = _away(own, seen)
    ratios = _log_ratios(np.abs(own.mean), np.abs(seen.mean))[away]
    return len(ratios) >= FEWEST_NARROW and bool((np.abs(ratios - factor) < 2 * NARROW).all())


def _tiny(own: Starts, seen: Starts) -> np.ndarray:
    """Returns sizes that may be roundings, of a simulator, too."""
    return ROUNDING * np.maximum(ROUNDING, np.maximum(np.abs(own.mean), np.abs(seen.mean)))


def _log_ratios(own: np.ndarray, seen: np.ndarray, tiny: np.ndarray | float = 0.0) -> np.ndarray:
    """Returns logarithms of ratios of sizes; 0 where both are no larger than `tiny`, or one is unknown."""
    floor = np.maximum(tiny, np.finfo(np.float32).tiny)
    ratios = np.log(np.maximum(own, floor)) - np.log(np.maximum(seen, floor))
    return np.nan_to_num(ratios)


def _pace(own: Starts, seen: Starts) -> float:
    """Returns the logarithm of how much larger the data's first steps are, in whatever order entries are."""
    logs = [np.log(each.step[each.step > 0]) for each in (own, seen)]
    if not all(map(len, logs)):
        return 0.0
    slow, fast = (np.quantile(each, np.linspace(0, 1, 21)) for each in logs)
    return float(np.median(slow - fast))


def _order(own: Starts, seen: Starts, entries: np.ndarray) -> str:
    """Returns in words the order in which all of the data's entries begin like the environment's, or ""."""
    if len(entries) < 2 or len(own.mean) > MOST_ENTRIES:
        return ""
    pace = _pace(own, seen)
    paces = _log_ratios(own.step, seen.step, _tiny(own, seen)) - pace
    # Someone who keeps joints still moves the others as fast, so steps have to differ both ways.
    is_both = paces.max() > np.log(BOTH_WAYS) and paces.min() < -np.log(BOTH_WAYS)
    if not is_both and not unlike(own, seen)[:2].any():
        return ""
    from scipy.optimize import linear_sum_assignment  # takes a while to import

    column = Starts(seen.mean[:, None], seen.std[:, None], seen.step[:, None], seen.episodes)
    is_unlike: np.ndarray = np.any(unlike(own, column, pace), axis=0)  # [environment's, data's]
    distance = np.abs(_log_ratios(own.std, column.std)) + np.abs(_log_ratios(own.step, column.step) - pace)
    costs = is_unlike + 1e-3 * np.minimum(distance, 100.0) / len(own.mean) - 1e-6 * np.eye(len(own.mean))
    places, sources = linear_sum_assignment(costs)
    if not _are_few(is_unlike[places, sources], entries):
        return ""
    changed = [place for place in entries if sources[place] != place]
    return ", ".join(f"{place} like {sources[place]}" for place in changed[:5])


def _rescaled(own: Starts, seen: Starts) -> tuple[np.ndarray, str] | None:
    """Returns the entries that are in other units, whose spread and first step have changed by one factor."""
    *is_other, _ = unlike(own, seen)
    is_like = ~np.logical_or(*is_other) & (own.std > 0) & (own.step > 0) & (seen.step > 0)
    spreads, steps = _log_ratios(own.std, seen.std), _log_ratios(own.step, seen.step)
    pace = float(np.median(steps[is_like])) if is_like.sum() > 1 else 0.0
    has_both = np.minimum(np.minimum(own.std, seen.std), np.minimum(own.step, seen.step)) > ROUNDING**2
    agrees = np.abs(steps - pace - spreads) < np.log(AGREEMENT)
    rescaled = has_both & (np.abs(spreads) > np.log(RESCALED)) & agrees
    others = unlike(own, seen)[:2].any(axis=0) & ~rescaled
    if not rescaled.any() or 2 * others.sum() > rescaled.sum():
        return None
    entries = np.flatnonzero(rescaled)
    at = entries[np.abs(spreads[entries]).argmax()]
    return entries[np.argsort(-np.abs(spreads[entries]))], (
        f"spread and first step of entry {at} are {np.exp(spreads[at]):.3g} times as large: is it "
        "in another unit (degrees and radians, divided by a range or by a standard deviation)?"
    )
