"""Values of policies by fitted-Q evaluation (FQE), with their errors.

A value counts for as much as its error allows. So each policy has three critics, which begin as the same
networks for all policies. One learns from all rows. The others learn from a half each: from the rows whose
actions are nearest to the policy's, and from the rest. Q of an action does not depend on which other actions
are in the data, so where these cover what the policy does, the halves agree up to the error of a sample of
this size. Where they do not, a critic extrapolates, and each half in its own way.
Source: the halves are a delete-half jackknife (Efron 1982, "The Jackknife, the Bootstrap and Other
Resampling Plans"). That they are chosen by the distance is this project's own.
"""

import dataclasses
import functools
import logging
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from xql_jax.data.dataset import ROWS_OF_SAMPLE, Dataset, spread_rows
from xql_jax.data.sampling import Packed, gather, sample_indices
from xql_jax.data.views import discounted_returns
from xql_jax.learners.fitted_q_evaluation import FittedQEvaluation
from xql_jax.training.members import Member, MemberState, Ramp, stacked
from xql_jax.training.population import Population
from xql_jax.training.progress import progress_bar
from xql_jax.training.trainer import OfflineTrainer, resident
from xql_jax.types import Array, Batch, Json, PRNGKey

LOG = logging.getLogger(__name__)
LEAST_STEPS, MOST_STEPS = 5_000, 100_000
TIME_CONSTANTS = 5  # of the target's way to its limit, 1 / (tau * (1 - discount)) updates each
ALL, NEAR, FAR = range(3)  # a policy's critics, by the rows that they learn from
CRITICS = 3
CANDIDATES = 8  # rows that are drawn for a row of a half: all are of the other in 1 of 256 cases
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


def drawn_of_own_rows(batch_size: int, member: MemberState, data: Any, key: PRNGKey, step: Array) -> Batch:
    """Draws for a critic from its own `FittedQEvaluation.rows`."""
    is_own = member.learner.rows  # type: ignore[attr-defined]
    drawn = sample_indices(key, len(is_own), CANDIDATES * batch_size)
    drawn = drawn.reshape(CANDIDATES, batch_size)
    rows = chosen(drawn, is_own[drawn].argmax(0))
    batch: Any = data.take(rows) if isinstance(data, Packed) else gather(data, rows)
    return batch


def chosen(drawn: Array, place: Array) -> Array:
    """Returns i32[B], of i32[K, B] in each column the number at this place."""
    return jnp.take_along_axis(drawn, place[None], axis=0)[0]


_act = jax.jit(lambda learner, actor, seen: learner.act(actor, seen, jax.random.key(0), True))


def is_near(learner: Any, actor: Any, dataset: Dataset) -> np.ndarray:
    """Returns bool[N]: the action is nearer to the policy's than in half of the rows."""
    distances = np.empty(dataset.size, np.float32)
    for start in range(0, dataset.size, ROWS_OF_SAMPLE):
        part = np.arange(start, min(start + ROWS_OF_SAMPLE, dataset.size))
        rows = dataset.take(part)
        actions = np.asarray(_act(learner, actor, rows.observations))
        distances[part] = np.square(actions - rows.actions).sum(-1)
    return distances < np.median(distances)


class Evaluated(NamedTuple):
    """M policies with their critics, in units of `scale`; numbers of critics that diverged are NaN."""

    critics: list[tuple[Any, Any] | None]  # of all rows: evaluation and state; None: it diverged
    values: np.ndarray  # f64[2, M, CRITICS], means of Q(s0, pi(s0)), after four fifths of the updates and all
    of_starts: np.ndarray  # f64[M, S], Q(s0, pi(s0)) by the critic of all rows
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

    The learning rate is constant in the first half of the updates and then falls to a tenth.
    """
    scale = unit_of_values(dataset, float(evaluation.discount))
    batch = dataset.batch._replace(rewards=dataset.batch.rewards / np.float32(scale))
    rate = float(evaluation.critic.critic_lr)
    ramp = Ramp("critic_lr", (rate, rate, 0.1 * rate), (0.0, steps / 2, float(steps)))
    draw = functools.partial(drawn_of_own_rows, batch_size)
    source = dataclasses.replace(resident(batch, batch_size, (ramp,)), draw=draw)
    members = [Member(seed + critic, {}) for _ in policies for critic in range(CRITICS)]
    population = Population(evaluation, members, source)
    trainer = OfflineTrainer(population)
    judges: list[Any] = []
    states: list[Any] = []
    for learner, actor in policies:
        own = dataclasses.replace(evaluation, evaluated=learner)
        near = is_near(own, actor, dataset)
        for rows in (np.ones_like(near), near, ~near):  # by `ALL`, `NEAR`, `FAR`
            judge = dataclasses.replace(own, rows=rows)
            states.append(population.member(len(judges))[1].replace(policy=actor))
            judges.append(jax.tree.map(jnp.asarray, judge))
    population.set_in_members(learner=stacked(judges), state=stacked(states))
    starts = np.flatnonzero(dataset.begins)
    initial = dataset.take(starts[spread_rows(len(starts))]).observations
    stops = np.unique(np.linspace(1, steps, 200).astype(int)).tolist()
    late = next(stop for stop in stops if stop >= 0.8 * steps)
    with progress_bar(steps, "update", tqdm, name="evaluating") as bar:
        for before, stop in zip([0, *stops], stops, strict=False):
            trainer.advance(stop)
            bar.update(stop - before)
            if stop == late:
                earlier = _values(population, initial)
    now = _values(population, initial)
    critics: list[tuple[Any, Any] | None] = []
    for index in range(ALL, len(members), CRITICS):
        critics.append(None if index in population.diverged else population.member(index))
    return Evaluated(critics, np.stack([earlier, now]).mean(-1), now[:, ALL], scale)


def _values(population: Population, initial: np.ndarray) -> np.ndarray:
    """Returns f64[M, CRITICS, S], each critic's Q(s, pi(s)) of states f32[S, O]."""
    values = np.full((len(population.members), len(initial)), np.nan)
    for index in {*range(len(values))} - population.diverged.keys():
        values[index] = _initial_q(*population.member(index), initial)
    return values.reshape(-1, CRITICS, len(initial))


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


def errors_of(values: np.ndarray) -> np.ndarray:
    """Returns f64[M], the errors of the values f64[2, M, CRITICS] of `Evaluated` but for the initial states'.

    An error has three parts. The value by all rows varies half as much as the difference of the halves'
    values. Its bias, which falls with the sample's size, is their mean less it. And it may still move. The
    halves of one policy may agree by chance, so no error is below the root mean square of all. inf if a
    critic diverged.
    """
    earlier, now = values
    half = (now[:, NEAR] - now[:, FAR]) / 2
    bias = (now[:, NEAR] + now[:, FAR]) / 2 - now[:, ALL]
    squares = half**2 + bias**2 + (now[:, ALL] - earlier[:, ALL]) ** 2
    known = squares[np.isfinite(squares)]
    usual = known.mean() if known.size else np.inf
    return np.sqrt(np.where(np.isfinite(squares), np.maximum(squares, usual), np.inf))


def told_apart(
    entries: Sequence[Json], judged: Evaluated, indices_of: Callable[[Json], Sequence[int]], unit: float = 1.0
) -> list[Json]:
    """Returns the entries, best first, with `fqe_uncertainty`, and if `told_apart` from the first.

    An entry's value is the mean over its policies with a value, and its error the mean of their errors,
    which a bias that they share does not let fall. Added are the variances of means: over initial states,
    which all policies have in common, and over seeds, if there are several.

    Args:
        indices_of: returns an entry's policies.
        unit: of the errors that are returned, by `Evaluated.scale`.
    """
    errors, means, seeds = errors_of(judged.values), [], []
    entry_errors = []
    for entry in entries:
        own = [index for index in indices_of(entry) if np.isfinite(judged.values[1, index, ALL])]
        values = judged.of_starts[own]
        means.append(values.mean(0) if own else np.full(judged.of_starts.shape[1], np.nan))
        seeds.append(variance_of_mean(values.mean(1)))
        entry_errors.append(errors[own].mean() if own else np.inf)
    marked = []
    for place, entry in enumerate(entries):
        own_error = math.sqrt(entry_errors[place] ** 2 + variance_of_mean(means[place]))
        difference = means[0] - means[place]
        squares = entry_errors[0] ** 2, entry_errors[place] ** 2, seeds[0], seeds[place]
        error = math.sqrt(sum(squares) + variance_of_mean(difference))
        of_it = {
            "fqe_uncertainty": own_error * unit if math.isfinite(own_error) else None,
            "told_apart": bool(place > 0 and difference.mean() > SIGMAS * error),
        }
        marked.append(entry | of_it)
    return marked


def variance_of_mean(numbers: np.ndarray) -> float:
    """Returns the variance of the mean of independent numbers f64[n]; 0 if there is a single number."""
    return float(numbers.var(ddof=1) / len(numbers)) if len(numbers) > 1 else 0.0


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
