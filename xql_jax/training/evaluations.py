"""Evaluations during training: they read policies that the loop hands over, and change nothing of a run."""

import concurrent.futures
import contextlib
import dataclasses
from collections.abc import Callable

import numpy as np

from xql_jax.data.preprocessing import Preprocessing
from xql_jax.rollout.acting import Act, finite_policy, prepared, with_memory_of
from xql_jax.rollout.evaluation import Evaluator
from xql_jax.rollout.quantities import EpisodeResults
from xql_jax.suites.tasks import Task
from xql_jax.training.signals import StopSignals


class EvaluationInterrupted(Exception):
    """By a signal, or because training ends."""


class Evaluations:
    """Evaluates policies, at once or in a thread while training goes on."""

    def __init__(self, evaluator: Evaluator | None, task: Task | None, preprocessing: Preprocessing | None):
        self.step: int | None = None  # of the policies that are evaluated, until their rows are written
        self.not_finite: set[int] = set()  # members with actions that were not finite: see `finite_policy`
        self.evaluator, self._task, self._preprocessing = evaluator, task, preprocessing
        self._thread = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="evaluation")
        self._results: Callable[[], EpisodeResults] | None = None  # waits for the thread; else acts now
        self._is_closing = False

    def begin(self, step: int, policy: Act, stop: StopSignals, in_background: bool) -> None:
        """Begins to evaluate the policies of a step: f32[M, K, O] to f32[M, K, A]."""
        self.step, self.not_finite = step, set()
        by_policy = finite_policy(policy, self.not_finite.add)
        if self._preprocessing:
            by_policy = prepared(by_policy, self._preprocessing)

        def act(observations: np.ndarray) -> np.ndarray:
            if stop.received or self._is_closing:
                raise EvaluationInterrupted
            return by_policy(observations)

        def run() -> EpisodeResults:
            assert self.evaluator is not None
            assert self._task is not None
            results = self.evaluator.run(with_memory_of(by_policy, act))
            if results.successes is None and self._task.suite.tells_success_late:  # it may tell it later
                results = dataclasses.replace(results, successes=np.full(results.returns.shape, np.nan))
            return results

        self._results = self._thread.submit(run).result if in_background else run

    def finish(self) -> EpisodeResults | None:
        """Returns the results of the evaluation that has begun; None if none has, or a signal ended it.

        Raises EnvironmentFailure.
        """
        results, self._results = self._results, None
        with contextlib.suppress(EvaluationInterrupted):
            return results() if results else None
        return None

    def close(self) -> None:
        self._is_closing = True
        self._thread.shutdown()
