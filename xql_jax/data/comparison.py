"""Compares data with an environment: the observations, and the first rewards of episodes.

Training, fine-tuning, evaluation and collection all use these functions. What differs by design must pass:
data of other starts and goals, of one start, or of rows in no order; rewards not reached yet.
"""

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from xql_jax.data.conventions import all_far
from xql_jax.data.dataset import Dataset, listed, spread_rows
from xql_jax.data.starts import FEWEST, Starts, what_was_done
from xql_jax.errors import EnvironmentFailure
from xql_jax.types import Json

if TYPE_CHECKING:
    from xql_jax.envs.vector import VectorEnv

LOG = logging.getLogger(__name__)
QUANTILES = np.array([0.0, 0.01, 0.25, 0.5, 0.75, 0.99, 1.0])
MOST_ENTRIES = 1_000  # of an observation whose ranges a run records
RESETS = 32
STEPS = 200  # of random actions, to see whether an environment keeps to its own Box
FEW = 5  # starts whose spread says nothing
FACTOR = 3.0  # between spreads of first observations
MOST = 0.75  # of the entries of an observation
EXACT = 1e-3
ALL = 0.9  # share of the entries; a few may be constant but for roundings
SHARE = 0.2  # of the distance between starts, which another order of entries leaves
NORMALISED = (
    "the data look normalised (VecNormalize, NormalizeObservation): store raw observations, and let "
    "--normalize_observations do it, or give the environment the same wrapper with the data's numbers"
)


class Ranges(NamedTuple):
    """The observations of data, by entry."""

    rows: np.ndarray  # f64[7, O], `QUANTILES` over the rows
    starts: np.ndarray  # f64[7, O], those over the first rows of episodes
    mean: np.ndarray  # f64[O], over the rows
    std: np.ndarray  # f64[O]
    start_std: np.ndarray  # f64[O], over the first rows of episodes
    episodes: int
    start_mean: np.ndarray | None = None  # f64[O]; as `first_step` None in runs of earlier versions
    first_step: np.ndarray | None = None  # f64[O], the mean |change| in the first steps of episodes

    @classmethod
    def of(cls, dataset: Dataset) -> "Ranges":
        """Returns the ranges of data before any preprocessing; spreads are of up to 16,384 rows or starts."""
        observations, starts = dataset.batch.observations, np.flatnonzero(dataset.begins)
        rows = np.asarray(observations[spread_rows(dataset.size)], np.float64)
        some = starts[spread_rows(len(starts))]
        first = np.asarray(observations[some], np.float64)
        begun = Starts.of(first, dataset.batch.next_observations[some])
        quantiles = _quantiles(rows)
        quantiles[[0, -1]] = observations.min(axis=0), observations.max(axis=0)
        mean, spreads = observations.mean(axis=0, dtype=np.float64), (rows.std(axis=0), begun.std)
        own = begun.mean, begun.step
        return cls(quantiles, _quantiles(first), mean, *spreads, len(starts), *own)

    @classmethod
    def of_json(cls, content: Json) -> "Ranges":
        """Returns what `as_json` made."""
        arrays = {name: np.array(value, np.float64) for name, value in content.items() if name != "episodes"}
        return cls(**arrays, episodes=int(content["episodes"]))

    def as_json(self) -> Json | None:
        """Returns the ranges as lists of numbers, for config.json; None if an observation is too long."""
        if len(self.mean) > MOST_ENTRIES:
            return None
        return {
            name: value.tolist() if isinstance(value, np.ndarray) else value
            for name, value in self._asdict().items()
            if value is not None
        }


class Met(NamedTuple):
    """What an environment shows at resets, and in the step after them."""

    low: np.ndarray  # f32[O], of its Box
    high: np.ndarray  # f32[O]
    first: np.ndarray  # f32[K, O], at resets
    # Returns f32[N, O] of random actions; called if data are beyond its Box.
    explored: Callable[[], np.ndarray]
    second: np.ndarray | None = None  # f32[K, O], after a step by random actions, if it was taken
    # Returns f64[K] twice, the rewards of first steps: by random actions, and in the middle of the bounds.
    rewards: Callable[[], tuple[np.ndarray, np.ndarray]] | None = None

    @classmethod
    def of(cls, env: "VectorEnv", seeds: Sequence[int]) -> "Met":
        """Resets an environment with each of the seeds."""
        space, random = env.observation_space, np.random.default_rng(seeds[0])
        first, second, rewards = _begun(env, seeds, random)

        def explored() -> np.ndarray:
            observations: list[np.ndarray] = []
            env.reset([seeds[0], *[None] * (env.num_envs - 1)])
            while env.running.any() and len(observations) < STEPS:
                observations.append(env.step(_random_actions(env, random)).final_observations[0])
            return np.stack(observations)

        def both_rewards() -> tuple[np.ndarray, np.ndarray]:
            return rewards, _begun(env, seeds, random, share=0.0)[2]

        return cls(space.low, space.high, first, explored, second, both_rewards)


def _begun(
    env: "VectorEnv", seeds: Sequence[int], random: np.random.Generator, share: float = 1.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns observations f32[K, O] at resets by the seeds; f32[K, O] and rewards f64[K] a step later."""
    places = env.num_envs
    padded: list[int | None] = [*seeds, *[None] * (-len(seeds) % places)]
    steps = []
    for i in range(0, len(padded), places):
        first = env.reset(padded[i : i + places])
        step = env.step(_random_actions(env, random, share))
        steps.append((first, step.final_observations, step.rewards))
    first, second, rewards = (np.concatenate(each)[: len(seeds)] for each in zip(*steps, strict=True))
    return first, second, rewards


def _random_actions(env: "VectorEnv", random: np.random.Generator, share: float = 1.0) -> np.ndarray:
    """Returns f32[N, A], drawn uniformly within this share of the bounds, about their middle."""
    low, high = env.action_space.low, env.action_space.high
    drawn = share * random.uniform(-1, 1, (env.num_envs, *low.shape))
    return ((low + high) / 2 + drawn * (high - low) / 2).astype(np.float32)


def warned(lines: list[str]) -> list[str]:
    """Warns of each of the lines, and returns them."""
    for line in lines:
        LOG.warning(line)
    return lines


def compared(
    data: Ranges, env: "VectorEnv", seeds: Sequence[int], name: str, dataset: Dataset | None = None
) -> list[str]:
    """Warns if data cannot be those of the environment, which is reset with the seeds; returns the lines.

    With a `dataset`, the first rewards of its episodes are compared, too.
    """
    try:
        met = Met.of(env, seeds)
        told = observations_told(data, met, name)
        if dataset is not None:
            told += first_rewards_told(dataset, met, name)
    except EnvironmentFailure as error:  # by a random action, which no policy may ever choose
        told = [f"{error}; so how its episodes begin is not compared with the data"]
    return warned(told)


def first_rewards_told(dataset: Dataset, met: Met, name: str) -> list[str]:
    """Returns a line if the first rewards of episodes are in another unit than the environment's, else none.

    The first rewards depend little on the policy: they are compared with rewards of random actions, and of
    actions in the middle of the bounds. Later rewards depend on it, so a better policy's are no other unit.
    """
    own = np.asarray(dataset.batch.rewards[dataset.begins], np.float64)
    if len(own) < FEWEST or met.rewards is None:
        return []
    of_random, of_middle = met.rewards()
    if {all_far(np.abs(own), np.abs(rewards)) for rewards in (of_random, of_middle)} not in ({1}, {-1}):
        return []
    ranges = [f"{rewards.min():.3g} to {rewards.max():.3g}" for rewards in (own, of_random)]
    return [
        f"{name}: the first rewards of the data's episodes are {ranges[0]}, the environment's are "
        f"{ranges[1]}: are they in another unit, or is an offset added? One Q learns from both: give the "
        "data the environment's rewards"
    ]


def observations_told(data: Ranges, met: Met, name: str) -> list[str]:
    """Returns a line if the data's observations cannot be those of the environment `name`, else none."""
    if len(met.low) != data.rows.shape[1]:  # `check_spaces` refuses that where the environment is used
        return []
    told = _difference(data, met)
    if not told:
        return []
    entries, why = told
    entry = int(entries[0])
    bounds = met.low[entry], met.high[entry]
    ranges = [
        f"{np.min(each):.3g} to {np.max(each):.3g}"
        for each in (data.rows[:, entry], data.starts[:, entry], met.first[:, entry], bounds)
    ]
    line = (
        f"{name}: the data's observations are not the environment's in {len(entries)} of {len(data.mean)} "
        f"entries ({listed(np.sort(entries))}): entry {entry} is {ranges[0]} in the data, {ranges[1]} where "
        f"episodes begin; in the environment they begin at {ranges[2]}, in a Box of {ranges[3]}: {why}"
    )
    return [line]


def _difference(data: Ranges, met: Met) -> tuple[np.ndarray, str] | None:
    """Returns the entries that differ, the clearest first, and the usual cause; None if data may be right.

    Starts elsewhere are no fault yet: the starts of data may be others, wider, or a single state.
    """
    if told := _of_starts(data, met):
        return told
    seen = np.asarray(met.first, np.float64)
    first, own, varies = _quantiles(seen), data.starts, data.std > 0
    gaps = _gap(own, first) / _width(own, first, data.std)
    moved = gaps > 1  # both begin in ranges that are farther apart than either is wide
    spreads, counts = seen.std(0), (len(seen), data.episodes)
    has_spread = (spreads > 0) & (data.start_std > 0) & (min(counts) >= FEW)
    ratios = np.zeros(len(varies))
    ratios[has_spread] = np.log(data.start_std[has_spread] / spreads[has_spread])
    by_clarity = np.argsort(-gaps - np.abs(ratios), kind="stable")

    def clearest(entries: np.ndarray) -> np.ndarray:
        return by_clarity[entries[by_clarity]]

    # A spread of n numbers is known to about 0.7 / sqrt(n) of its size.
    is_off = moved | (np.abs(ratios) > 0.2 + 3 * np.sqrt(sum(1 / count for count in counts)))
    is_unit = (np.abs(data.mean) < 0.2) & (data.std > 0.7) & (data.std < 1.4)
    if varies.sum() > 1 and is_unit[varies].mean() >= MOST and is_off.any():
        return clearest(is_off), NORMALISED
    if varies.sum() > 2 and is_off.sum() > 1 and (fitted := _fitted(data, varies)):
        return clearest(is_off), fitted
    if order := _other_order(own, first, data.std, moved):
        return clearest(moved), f"are they in another order? {order}"
    whole, scaled = (
        data.rows[-1] - data.rows[0],
        "are they scaled, as 0 to 255 and 0 to 1, or in another unit?",
    )
    below, above = data.rows[0] - first, first - data.rows[-1]  # beyond every row
    is_far = varies & ((below[3] > whole) | (above[3] > whole))
    share = 0.5 if data.episodes >= FEW else MOST  # a few episodes know a part of all places
    if is_far.sum() >= max(1, share * varies.sum()):
        return clearest(is_far), scaled
    tells = has_spread & (data.start_std < 0.5 * data.std)  # else rows may begin anywhere
    for known, factor in ((tells, ratios), _factors(own, first)):
        common = float(np.median(factor[known])) if known.sum() > 1 else 0.0
        is_common = np.abs(factor[known] - common).max(initial=0.0) < np.log(FACTOR) / 2
        scaled_too = np.abs(own[3] - np.exp(common) * first[3]) <= own[-1] - own[0] + 0.1 * np.abs(own[3])
        if is_common and abs(common) > np.log(FACTOR) and scaled_too[known].all():
            return clearest(known), f"the data's are {np.exp(common):.3g} times as large: {scaled}"
    is_wide = (own[-1] - own[0] > 0.3 * whole) & (data.episodes >= 4 * FEW)
    is_out = varies & is_wide & (np.maximum(below.min(axis=0), above.min(axis=0)) > 0.01 * whole)
    if 2 * is_out.sum() >= varies.sum() > 1:
        return clearest(is_out), f"{scaled} Or in another order?"
    if moved[varies].sum() > MOST * varies.sum():
        return clearest(moved), "are they normalised, scaled or shifted?"
    beyond = _beyond_box(data, met)
    return (clearest(beyond), "are they normalised, scaled, or in another order?") if beyond.any() else None


def _fitted(data: Ranges, varies: np.ndarray) -> str:
    """Returns in words which exact means or bounds tell of numbers fitted to the data; "" if none do."""
    if (np.abs(data.mean) < EXACT * data.std)[varies].mean() > ALL:
        return "the entries of the data have the mean 0: were their means subtracted?"
    for low in (0.0, -1.0):
        ends = np.abs(data.rows[[0, -1]] - [[low], [1.0]]).max(axis=0)
        if (ends < EXACT)[varies].mean() > ALL:
            return f"the entries of the data reach from {low:g} to 1: were they scaled to that?"
    return ""


def _of_starts(data: Ranges, met: Met) -> tuple[np.ndarray, str] | None:
    """Returns the entries that begin unlike resets, if a simple change explains it; else None."""
    if data.start_mean is None or data.first_step is None:
        return None
    own = Starts(data.start_mean, data.start_std, data.first_step, data.episodes)
    return what_was_done(own, Starts.of(met.first, met.second))


def _factors(own: np.ndarray, first: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns which entries begin in narrow ranges away from 0, bool[O], and the logs of their ratios."""
    narrow = [np.abs(each[3]) > 5 * (each[-1] - each[0]) for each in (own, first)]
    known = narrow[0] & narrow[1] & (own[3] * first[3] > 0)
    return known, np.log(np.divide(own[3], first[3], out=np.ones_like(own[3]), where=known))


def _beyond_box(data: Ranges, met: Met) -> np.ndarray:
    """Returns bool[O], the entries with 1% of the data beyond a Box to which the environment keeps."""
    with np.errstate(over="ignore", invalid="ignore"):
        low, high = met.low.astype(np.float64), met.high.astype(np.float64)
        slack = np.where(
            np.isfinite(high - low), 0.01 * (high - low), 0.01 * np.maximum(1.0, np.abs(data.mean))
        )

    def outside(seen: np.ndarray) -> np.ndarray:
        is_out: np.ndarray = (seen < low - slack) | (seen > high + slack)
        return np.asarray(is_out.any(axis=0))

    beyond = outside(data.rows[[1, -2]]) & ~outside(met.first)
    return beyond & ~outside(met.explored()) if beyond.any() else beyond


def _other_order(own: np.ndarray, first: np.ndarray, std: np.ndarray, moved: np.ndarray) -> str:
    """Returns the order in which the environment's entries begin like the data's, in words; "" if in none."""
    count = len(std)
    if not 2 <= moved.sum() <= count <= MOST_ENTRIES // 2:
        return ""
    from scipy.optimize import linear_sum_assignment  # takes a while to import

    costs = np.abs(own[:, None, :] - first[:, :, None]).sum(axis=0)  # [environment's, data's]
    places, sources = linear_sum_assignment(costs)
    ordered, spread = own[:, sources], std[sources]
    is_like = ~(_gap(ordered, first) / _width(ordered, first, spread) > 1)
    if not is_like.all() or costs[places, sources].sum() > SHARE * np.trace(costs):
        return ""
    changed = [(place, source) for place, source in enumerate(sources) if place != source and moved[place]]
    pairs = ", ".join(f"{place} like {source}" for place, source in changed[:5])
    return f"The environment's entries begin as others of the data: {pairs}"


def _gap(own: np.ndarray, first: np.ndarray) -> np.ndarray:
    return np.maximum(0.0, np.maximum(own[0] - first[-1], first[0] - own[-1]))


def _width(own: np.ndarray, first: np.ndarray, std: np.ndarray) -> np.ndarray:
    widths = np.maximum(own[-1] - own[0], first[-1] - first[0])
    return widths + 0.1 * std + 1e-3 * np.maximum(1e-3, np.abs(own).max(axis=0))


def _quantiles(rows: np.ndarray) -> np.ndarray:
    return np.quantile(rows, QUANTILES, axis=0)
