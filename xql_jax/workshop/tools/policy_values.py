"""Values of policies by fitted-Q evaluation (FQE), with their errors.

A value counts for as much as its error allows. So each policy has three critics, which begin as the same
networks for all policies: one learns from all episodes, two from a half each. Their differences tell the
error of a sample of this size, and of actions that few data are near to, where each half extrapolates alone.
Source: the halves are a delete-half jackknife (Efron 1982, "The Jackknife, the Bootstrap and Other
Resampling Plans").
"""

import dataclasses
import logging
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from xql_jax.data.dataset import Dataset, spread_rows
from xql_jax.data.sampling import Packed, gather, sample_indices
from xql_jax.data.views import discounted_returns
from xql_jax.learners.fitted_q_evaluation import FittedQEvaluation
from xql_jax.training.members import Member, Ramp, stacked
from xql_jax.training.population import Population
from xql_jax.training.program import MemberState, Resident
from xql_jax.training.progress import progress_bar
from xql_jax.types import Array, Batch, Json, PRNGKey

LOG = logging.getLogger(__name__)
LEAST_STEPS, MOST_STEPS = 5_000, 100_000
TIME_CONSTANTS = 5  # of the target's way to its limit, 1 / (tau * (1 - discount)) updates each
ALL, HALF, OTHER = range(3)  # a policy's critics, by the episodes that they learn from
CRITICS = 3
STILL_MOVING = 0.02  # of a value; if it changes by more in the last fifth of the updates, it is said
SIGMAS = 2.0  # a difference that is smaller, in units of its error, tells nothing


def steps_needed(tau: float, discount: float) -> int:
    """Returns the updates that bring Q within 1% of its limit, if the network keeps up with its target."""
    needed = TIME_CONSTANTS / (tau * max(1.0 - discount, 1e-9))
    return int(min(max(needed, LEAST_STEPS), MOST_STEPS))


def unit_of_values(dataset: Dataset, discount: float) -> float:
    """Returns the root mean square of the data's discounted returns: in this unit values are near 1.

    So are a network's first outputs, and Adam's steps do not grow with the values that they have to reach.
    """
    batch, discount = dataset.batch, min(discount, 1.0 - 1e-6)
    ends = np.append(dataset.ends[:-1], True)  # of drawn rows the last may be none
    returns = discounted_returns(batch.rewards, batch.masks, ends, discount, endless=False)
    return float(np.sqrt(np.mean(np.square(returns, dtype=np.float64)))) or 1.0


class Halves(Resident):
    """Data of which each critic learns from its own `FittedQEvaluation.rows`."""

    def draw(self, member: MemberState, data: Any, key: PRNGKey, step: Array) -> Batch:
        first, size = member.learner.rows  # type: ignore[attr-defined]
        rows = first + sample_indices(key, size, self._batch_size)
        batch: Any = data.take(rows) if isinstance(data, Packed) else gather(data, rows)
        return batch


def halved(dataset: Dataset, seed: int) -> tuple[Dataset, int]:
    """Returns the rows with their episodes in a random order, and the number of rows of the first half.

    It ends where an episode does, unless there is but one.
    """
    episodes = np.split(np.arange(dataset.size), np.flatnonzero(dataset.begins[1:]) + 1)
    shuffled = [episodes[place] for place in np.random.default_rng(seed).permutation(len(episodes))]
    stops = np.cumsum([len(rows) for rows in shuffled])[:-1]
    middle = dataset.size / 2
    half = stops[np.abs(stops - middle).argmin()] if len(stops) else middle
    return dataset.part(np.concatenate(shuffled)), max(1, int(half))


class Evaluated(NamedTuple):
    """M policies with their critics."""

    critics: list[tuple[Any, Any] | None]  # of all episodes: evaluation and state; None: it diverged
    # f64[2, M, CRITICS], in units of `scale`: each critic's mean of Q(s0, pi(s0)) over the initial states of
    # its episodes, after four fifths of the updates and after all; NaN if it diverged.
    values: np.ndarray
    scale: float  # in reward units


def evaluated(
    evaluation: FittedQEvaluation,
    policies: Sequence[tuple[Any, Any]],
    dataset: Dataset,
    steps: int,
    batch_size: int,
    seed: int,
    tqdm: bool,
) -> Evaluated:
    """Trains the critics of policies, which are pairs of a learner and what its `actor` returned.

    The learning rate is constant in the first half of the updates and then falls to a tenth. In the same
    update the critics of the same kind have the same minibatch, whatever the policy.
    """
    rows, half = halved(dataset, seed)
    parts = [(0, rows.size), (0, half), (half, max(1, rows.size - half))]
    scale = unit_of_values(dataset, float(evaluation.discount))
    batch = rows.batch._replace(rewards=rows.batch.rewards / np.float32(scale))
    packed = jax.default_backend() != "cpu"
    kind = Halves(Packed.of(batch) if packed else batch, batch_size)
    rate = float(evaluation.critic.critic_lr)
    kind.ramps = (Ramp("critic_lr", (rate, rate, 0.1 * rate), (0.0, steps / 2, float(steps))),)
    members = [Member(seed + critic, {}) for _ in policies for critic in range(CRITICS)]
    population = Population(evaluation, members, kind)
    judges, states = [], []
    for index in range(len(members)):
        (learner, actor), critic = policies[index // CRITICS], index % CRITICS
        judge = dataclasses.replace(evaluation, evaluated=learner, rows=np.array(parts[critic], np.int32))
        judges.append(jax.tree.map(jnp.asarray, judge))
        states.append(population.member(index)[1].replace(policy=actor))
    population.set_in_members(learner=stacked(judges), state=stacked(states))
    values = np.full((2, len(members)), np.nan)
    stops = np.unique(np.linspace(1, steps, 200).astype(int)).tolist()
    late = next(stop for stop in stops if stop >= 0.8 * steps)
    with progress_bar(steps, "update", tqdm, name="evaluating") as bar:
        for before, stop in zip([0, *stops], stops, strict=False):
            population.advance(stop)
            bar.update(stop - before)
            if stop == late:
                values[0] = _values(population, rows, parts)
    values[1] = _values(population, rows, parts)
    critics: list[tuple[Any, Any] | None] = []
    for index in range(ALL, len(members), CRITICS):
        critics.append(None if index in population.diverged else population.member(index))
    return Evaluated(critics, values.reshape(2, -1, CRITICS), scale)


def _values(population: Population, rows: Dataset, parts: Sequence[tuple[int, int]]) -> np.ndarray:
    """Returns f64[M * CRITICS], see `Evaluated`."""
    starts = np.flatnonzero(rows.begins)
    starts = starts[spread_rows(len(starts))]
    initial, values = rows.take(starts).observations, np.full(len(population.members), np.nan)
    for index in {*range(len(values))} - population.diverged.keys():
        evaluation, state = population.member(index)
        first, size = parts[index % CRITICS]
        is_own = (starts >= first) & (starts < first + size)
        q = np.asarray(_initial_q(evaluation, state, initial), np.float64)
        values[index] = q[is_own].mean() if is_own.any() else q.mean()
    return values


@jax.jit
def _initial_q(evaluation: FittedQEvaluation, state: Any, observations: Array) -> Array:
    """Q(s, pi(s)) by the target, which averages the last 1 / tau updates: it is steadier than the last."""
    actions = evaluation.act(evaluation.actor(state), observations, jax.random.key(0), True)
    return state.critic.at_target().min_q(observations, actions)


def moving(values: np.ndarray) -> np.ndarray:
    """Returns bool[M]: the values of `Evaluated` that have not converged."""
    before, now = values[:, :, ALL]
    size = np.abs(now).max(initial=1.0, where=np.isfinite(now))
    return np.abs(now - before) > STILL_MOVING * size


def error_of(values: np.ndarray) -> float:
    """Returns the error of a value f64[2, CRITICS] of `Evaluated`, or of a difference of two.

    It has three parts. The value by all episodes varies half as much as the difference of the halves' values.
    Its bias, which falls with the sample's size, is their mean less it. And it may still move. inf if a
    critic diverged.
    """
    before, now = values
    sample = (now[HALF] - now[OTHER]) / 2
    bias = (now[HALF] + now[OTHER]) / 2 - now[ALL]
    error = math.sqrt(sample**2 + bias**2 + (now[ALL] - before[ALL]) ** 2)
    return error if math.isfinite(error) else math.inf


def told_apart(
    entries: Sequence[Json], values: np.ndarray, indices_of: Callable[[Json], Sequence[int]]
) -> list[Json]:
    """Returns the entries, best first, with `fqe_uncertainty`, and if `told_apart` from the first.

    An entry's value is the mean over its policies that have one. A difference has an error of its own, as the
    same episodes and networks judge both; added are the variances of means over seeds. The halves of one
    sample may agree by chance, so no difference has a smaller error than differences have on average.

    Args:
        values: f64[2, M, CRITICS], see `Evaluated`.
        indices_of: returns an entry's policies.
    """
    means, seeds = [], []
    for entry in entries:
        own = values[:, [index for index in indices_of(entry) if np.isfinite(values[1, index, ALL])]]
        means.append(own.mean(1) if own.size else np.full((2, CRITICS), np.nan))
        seeds.append(own[1, :, ALL].var(ddof=1) / own.shape[1] if own.shape[1] > 1 else 0.0)
    errors = [error_of(means[0] - mean) for mean in means]
    known = [error for error in errors[1:] if math.isfinite(error)]
    usual = math.sqrt(np.mean(np.square(known))) if known else 0.0
    found = []
    for place, entry in enumerate(entries):
        difference, own_error = means[0][1, ALL] - means[place][1, ALL], error_of(means[place])
        error = math.sqrt(max(errors[place], usual) ** 2 + seeds[0] + seeds[place])
        of_it = {
            "fqe_uncertainty": own_error if math.isfinite(own_error) else None,
            "told_apart": bool(place > 0 and difference > SIGMAS * error),
        }
        found.append(entry | of_it)
    return found


def verdict(entries: Sequence[Json], title: str) -> str:
    """Returns in words from which entries, best first, the first is told; "" if there are no others."""
    others = [entry for entry in entries[1:] if entry["fqe_value"] is not None]
    alike = [entry[title] for entry in others if not entry["told_apart"]]
    if not others:
        return ""
    if not alike:
        return f"fitted-Q evaluation: {entries[0][title]} is best by more than twice the error"
    which = "which is best" if len(alike) == len(others) else f"{entries[0][title]} from {'; '.join(alike)}"
    return f"fitted-Q evaluation cannot tell {which}: the values differ by less than twice the error of that"
