"""Whether several sources of data follow one convention: the same units, signs and order of entries."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from xql_jax.data.dataset import Dataset, listed, spread_rows
from xql_jax.data.starts import Starts, what_was_done

FEW_VALUES = 10  # distinct rewards
FACTOR = 5.0  # ratio of the sizes of numbers that are in different units
FEW_EPISODES = 8  # of fewer, the first observations say nothing
TWICE = 0.1  # share of the transitions that another source has, too
MARGIN = 0.1  # of a range: by so much disjoint ranges are apart


def differences(sources: Sequence[Dataset]) -> list[str]:
    """Returns what suggests that sources have another convention than the first, or the same transitions."""
    told = []
    for index, source in enumerate(sources):
        again = [(shared_rows(source, other), other.source) for other in sources[:index]]
        share, other = max(again, default=(0.0, ""))
        if share > TWICE:
            told.append(
                f"{source.source}: {share:.0%} of the transitions are in {other}, too: leave them out"
            )
        elif index:
            for check in (_rewards, _observations, _actions):
                told += [f"{source.source}: {line}" for line in check(source, sources[0])]
    return told


def shared_rows(source: Dataset, other: Dataset) -> float:
    """Returns the share of the smaller source's observations and actions, rounded, that the larger has."""
    small, large = sorted((source, other), key=lambda each: each.size)
    rows, every = (
        _rounded(np.column_stack(each.batch[:2])) for each in (small.part(spread_rows(small.size)), large)
    )
    sums = [each.sum(axis=1, dtype=np.float64) for each in (rows, every)]
    known = {row.tobytes() for row in every[np.isin(sums[1], sums[0])]}
    return sum(row.tobytes() in known for row in rows) / len(rows)


def _rounded(numbers: np.ndarray) -> np.ndarray:
    """Returns f32[...] with the digits of half precision, but of any size; -0 is 0."""
    bits = np.ascontiguousarray(numbers + np.float32(0)).view(np.uint32)
    rounded: np.ndarray = (bits + np.uint32(0xFFF) + ((bits >> 13) & 1)) & np.uint32(0xFFFFE000)
    return rounded.view(np.float32)


def _rewards(ours: Dataset, theirs: Dataset) -> Iterator[str]:
    """Rewards of opposite signs, in ranges apart, or of other sizes.

    The policies may differ, so larger rewards alone say nothing: the first ones of episodes are larger, too,
    or the few values that there are have none in common.
    """
    rewards = [each.batch.rewards for each in (ours, theirs)]
    (low, high), (their_low, their_high) = ((each.min() + 0.0, each.max() + 0.0) for each in rewards)  # no -0
    is_opposite = low >= 0 >= their_high and high > 0 > their_low
    is_opposite |= their_low >= 0 >= high and their_high > 0 > low
    is_apart = (low > their_high or their_low > high) and (low < high or their_low < their_high)
    sizes = [np.abs(each[each != 0]) for each in rewards]
    is_scaled = all(map(len, sizes)) and _is_scaled(ours, theirs, *sizes)
    if is_opposite or is_apart or is_scaled:
        yield (
            f"rewards are {low:g} to {high:g}, and {their_low:g} to {their_high:g} in {theirs.source}: are "
            "they of one convention (unit, sign, offset)?"
        )


def _is_scaled(ours: Dataset, theirs: Dataset, sizes: np.ndarray, their_sizes: np.ndarray) -> bool:
    """Whether a source's nonzero rewards, of these sizes, are the other source's times a factor."""
    values = np.unique(sizes), np.unique(their_sizes)
    if max(map(len, values)) <= FEW_VALUES:
        apart = not np.isin(*values).any()
        return apart and _far(values[0][-1], values[1][-1]) != 0
    first = (np.median(np.abs(each.batch.rewards[each.begins])) for each in (ours, theirs))
    starts = _far(*first)
    of_middle = _far(float(np.median(sizes)), float(np.median(their_sizes)))
    return (starts != 0 and of_middle == starts) or all_far(sizes, their_sizes) != 0


def all_far(sizes: np.ndarray, others: np.ndarray) -> int:
    """Returns 1 or -1 if the sizes f64[N] are far above or below the others: the small and the large ones."""
    signs = {_far(*(float(np.quantile(each, q)) for each in (sizes, others))) for q in (0.1, 0.5, 0.9)}
    return signs.pop() if len(signs) == 1 else 0


def _far(size: float, other: float, factor: float = FACTOR) -> int:
    """Returns 1 or -1 if the first size is far above or below the other; 0 if not, or if a size is 0."""
    if min(size, other) <= 0:
        return 0
    return int(size >= factor * other) - int(other >= factor * size)


class _Ranges(NamedTuple):
    """Where most numbers of each entry lie, f64[O]."""

    low: np.ndarray
    high: np.ndarray

    @classmethod
    def of(cls, rows: np.ndarray) -> "_Ranges":
        return cls(*np.quantile(rows[spread_rows(len(rows))], (0.01, 0.99), axis=0))

    @property
    def spread(self) -> np.ndarray:
        return self.high - self.low

    def varies(self) -> np.ndarray:
        """bool[O]: by more than roundings."""
        return np.asarray(self.spread > 1e-5 * np.maximum(np.abs(self.low), np.abs(self.high)))


def _unlike(ours: _Ranges, theirs: _Ranges, scale: np.ndarray, factor: float = FACTOR) -> np.ndarray:
    """Returns bool[O], the entries with a spread that is far larger or smaller, or in ranges apart."""
    both = ours.varies() & theirs.varies()
    least, most = (pick(ours.spread, theirs.spread) for pick in (np.minimum, np.maximum))
    gap = np.maximum(ours.low - theirs.high, theirs.low - ours.high)
    return (both & (most >= factor * least)) | (gap > MARGIN * scale)


def _observations(ours: Dataset, theirs: Dataset) -> Iterator[str]:
    """Entries in other units or another order.

    What differs in all observations may be the policy's doing; the first ones of episodes are not.
    """
    both = ours, theirs
    seen, their_seen = (_Ranges.of(each.batch.observations) for each in both)
    vary, scale = seen.varies() & their_seen.varies(), np.maximum(seen.spread, their_seen.spread)
    has_starts = min(np.count_nonzero(each.begins) for each in both) >= FEW_EPISODES
    # A few episodes may be in a part of the space.
    unlike = vary & _unlike(seen, their_seen, scale, FACTOR if has_starts else 2 * FACTOR)
    # First observations that are all alike, such as speeds of 0, tell no units.
    if 2 * np.count_nonzero(unlike) <= np.count_nonzero(vary):
        first, their_first = (_Ranges.of(each.batch.observations[each.begins]) for each in both)
        unlike &= _unlike(first, their_first, scale) & has_starts
    if unlike.any():
        at = unlike.argmax()
        yield (
            f"observation entries {listed(np.flatnonzero(unlike))} are others than in {theirs.source}, such "
            f"as entry {at}: {seen.low[at]:.3g} to {seen.high[at]:.3g}, there {their_seen.low[at]:.3g} to "
            f"{their_seen.high[at]:.3g}: are they in other units or another order, or normalised?"
        )
    elif told := what_was_done(*map(_starts, both)):
        where = listed(np.sort(told[0]))
        yield f"episodes begin otherwise than in {theirs.source} in entries {where}: {told[1]}"


def _starts(source: Dataset) -> Starts:
    """Returns how the episodes of a source begin."""
    some = np.flatnonzero(source.begins)
    some = some[spread_rows(len(some))]
    return Starts.of(source.batch.observations[some], source.batch.next_observations[some])


def _actions(ours: Dataset, theirs: Dataset) -> Iterator[str]:
    """Actions that are smaller in all entries, or far smaller in one, which a policy may hardly use."""
    sizes, their_sizes = (
        np.quantile(np.abs(each.batch.actions[spread_rows(each.size)]), 0.999, axis=0)
        for each in (ours, theirs)
    )
    if _far(float(sizes.max()), float(their_sizes.max())):
        size, their_size, where = sizes.max(), their_sizes.max(), ""
    else:
        at = [
            entry
            for entry, pair in enumerate(zip(sizes, their_sizes, strict=True))
            if _far(*pair, 3 * FACTOR)
        ]
        if not at:
            return
        size, their_size, where = sizes[at[0]], their_sizes[at[0]], f" in entry {at[0]}"
    yield (
        f"actions reach {size:.3g}{where}, and {their_size:.3g} in {theirs.source}: are they in one unit? "
        "Scale all to the units that the environment takes"
    )
