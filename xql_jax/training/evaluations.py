"""Evaluations during training: at once, or in a thread while training goes on."""

import concurrent.futures
import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np

from xql_jax.data.preprocessing import Preprocessing
from xql_jax.rollout.acting import prepared, with_memory_of
from xql_jax.rollout.evaluation import EpisodeResults, Evaluator
from xql_jax.suites.tasks import Task
from xql_jax.training.checkpoints import Progress
from xql_jax.training.population import Population
from xql_jax.training.signals import StopSignals
from xql_jax.types import State

# The arguments of `Checkpoints.save`.
Snapshot = tuple[dict[str, dict[str, State]], Progress, Callable[[Path], None]]


class EvaluationInterrupted(Exception):
    """By a signal, or because training ends."""


@dataclasses.dataclass(frozen=True)
class BegunEvaluation:
    """An evaluation whose rows are not written yet."""

    step: int
    results: Callable[[], EpisodeResults]  # waits for the thread; without one, runs the episodes now
    # In a thread: the state of its step, to which training goes back if it is abandoned or a member diverged.
    snapshot: Snapshot | None
    not_finite: set[int]  # members with an action that was not finite


class PolicyEvaluations:
    """Evaluates a population's policies as they are when an evaluation begins."""

    def __init__(self, evaluator: Evaluator, task: Task, preprocessing: Preprocessing | None):
        self._evaluator, self._task, self._preprocessing = evaluator, task, preprocessing
        self._thread = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="evaluation")
        self._is_closing = False

    def begin(self, population: Population, stop: StopSignals, snapshot: Snapshot | None) -> BegunEvaluation:
        """Begins an evaluation, in the thread if there is a snapshot of this step.

        Asking for its results raises EvaluationInterrupted after a signal, or EnvironmentFailure.
        """
        not_finite: set[int] = set()
        policy = population.policy(not_finite.add, snapshot is not None)
        if self._preprocessing:
            policy = prepared(policy, self._preprocessing)

        def act(observations: np.ndarray) -> np.ndarray:
            if stop.received or self._is_closing:
                raise EvaluationInterrupted
            return policy(observations)

        def run() -> EpisodeResults:
            results = self._evaluator.run(with_memory_of(policy, act))
            if results.successes is None and self._task.suite.tells_success_late:  # it may tell it later
                results = dataclasses.replace(results, successes=np.full(results.returns.shape, np.nan))
            return results

        results = self._thread.submit(run).result if snapshot else run
        return BegunEvaluation(population.step, results, snapshot, not_finite)

    def close(self) -> None:
        """Interrupts the evaluation in the thread, if any, and waits for it."""
        self._is_closing = True
        self._thread.shutdown()


def means_by_member(results: EpisodeResults, task: Task) -> dict[str, list[float]]:
    """Returns by name each member's mean return, score, length and, if the task tells it, rate of success."""
    returns, rates = results.returns.mean(axis=1), None
    if results.successes is not None:
        rates = results.successes.mean(axis=1)
    score = np.asarray(task.normalized_score(returns, rates))
    means = {"return": returns, "score": score, "length": results.lengths.mean(axis=1)}
    if rates is not None:
        means["success_rate"] = rates
    return {name: mean.tolist() for name, mean in means.items()}
