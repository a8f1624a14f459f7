"""The score under a tuning budget: the best policy found against the number of evaluation episodes."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from xql_jax.reports.aggregates import score_matrix
from xql_jax.reports.method_scores import MethodScore, RunFacts
from xql_jax.reports.run_summary import grouped
from xql_jax.rollout.scores import mean_and_interval


class TuningCurve(NamedTuple):
    """The score of the best policy that a search over an algorithm's trained policies finds."""

    run: RunFacts  # of one of the policies
    settings: int  # that were tried
    policies: int  # of all settings and seeds
    found: np.ndarray  # f64[3, pulls], after each evaluation episode, see `best_found`


def tuning_curves(scores: Sequence[MethodScore]) -> Iterator[TuningCurve]:
    """Yields a curve of each algorithm on the datasets where one of them was trained with several settings.

    Args:
        scores: of methods whose members have the scores of single episodes as their values. Those of the last
            evaluation count, and finished runs alone.
    """
    finished = [score for score in scores if not score.note]
    for group in grouped(finished, lambda score: (score.dataset, score.facts.phase)).values():
        by_algorithm = grouped(group, lambda score: score.facts.algorithm).values()
        if max(map(len, by_algorithm)) == 1:
            continue
        for methods in by_algorithm:
            members = [member for score in methods for member in score.members]
            episodes = [member.values[member.steps.index(member.steps[-1]) :] for member in members]
            found = best_found(score_matrix(episodes).T)
            yield TuningCurve(methods[0].facts, len(methods), len(members), found)


def best_found(
    scores: np.ndarray,
    *,
    policies: int = 8,
    pulls: int = 200,
    alpha: float = 2.0,
    searches: int = 1_000,
    seed: int = 0,
) -> np.ndarray:
    """Returns the mean score of the policy that looks best after each episode, over simulated searches.

    A search has some of the policies, drawn without replacement in random order. Each pull evaluates the one
    with the largest upper confidence bound, its mean so far + sqrt(alpha * log(pull) / its pulls), in one of
    its episodes, drawn with replacement. It has found the policy with the best mean so far, and is worth that
    policy's mean over all of its episodes. A policy without an episode is tried before the others.

    Source: Jackson et al. 2025, "A Clean Slate for Offline Reinforcement Learning", and its code, Unifloral.
    Differs: the bonus is for scores that are scaled to [0, 1] here, by the least and the largest of all; in
    their code a policy without an episode looks like one with score 0; the interval is Student's, which for
    so many searches equals their bootstrap's.
    Args:
        scores: f64[P, E], of E episodes of each policy, in any unit.
        policies: of a search; all if there are fewer.
    Returns:
        f64[3, pulls], in the scores' unit: the mean, and the two ends of its 95% interval. The interval tells
        what more searches among the same policies would change, and nothing of other trainings.
    """
    generator, every, worth = np.random.default_rng(seed), np.arange(searches), scores.mean(axis=1)
    scaled = (scores - scores.min()) / (np.ptp(scores) or 1.0)
    arms = generator.permuted(np.tile(np.arange(len(scores)), (searches, 1)), axis=1)[:, :policies]
    counts, sums, found = np.zeros(arms.shape), np.zeros(arms.shape), np.empty((pulls, searches))
    for pull in range(pulls):
        tried = np.maximum(counts, 1)
        bounds = sums / tried + np.sqrt(alpha * np.log(pull + 1) / tried)
        pulled = every, np.where(counts, bounds, np.inf).argmax(axis=1)
        episode = generator.integers(scores.shape[1], size=searches)
        sums[pulled] += scaled[arms[pulled], episode]
        counts[pulled] += 1
        looks_best = np.where(counts, sums / np.maximum(counts, 1), -np.inf).argmax(axis=1)
        found[pull] = worth[arms[every, looks_best]]
    means, half_widths = mean_and_interval(found)
    return np.stack([means, means - half_widths, means + half_widths])
