"""Evaluations behind the training: the same numbers, whatever the training does meanwhile."""

import threading
from unittest import mock

import numpy as np
import pytest
from tiny_runs import (
    assert_same_bits,
    assert_same_rows,
    breaking,
    evaluations_of,
    offline_settings,
    small,
    states_of,
    write_dataset,
)

from xql_jax.errors import EnvironmentFailure
from xql_jax.rollout.evaluation import Evaluator
from xql_jax.runs.train import train_run as run_offline
from xql_jax.training.loop import TrainingLoop
from xql_jax.training.signals import StopSignals

TRAIN = TrainingLoop._train
STEPS = {"max_steps": 12, "log_interval": 2, "eval_interval": 4, "checkpoint_interval": 3}


@pytest.fixture
def settings(tmp_path):
    write_dataset(tmp_path / "data.npz")

    def make(name, **changes):
        config = small("xql", decay_actor_lr=False)
        return offline_settings(
            tmp_path, config=config, save_dir=str(tmp_path / name), num_seeds=2, **STEPS, **changes
        )

    return make


@pytest.fixture
def ahead():
    """Lets an evaluation of step 4 end only when the training has come to step 6."""
    reached, evaluate, in_background = threading.Event(), Evaluator.run, []

    def evaluated(self, policy, **options):
        in_background.append(threading.current_thread() is not threading.main_thread())
        if in_background == [True]:
            assert reached.wait(30)
        return evaluate(self, policy, **options)

    def trained(loop, end):
        given = TRAIN(loop, end)
        if loop.population.step >= 6:
            reached.set()
        return given

    with mock.patch.object(Evaluator, "run", evaluated), mock.patch.object(TrainingLoop, "_train", trained):
        yield in_background, reached


def assert_equal(run, other):
    assert_same_rows(run, other)
    assert_same_bits(states_of(run, 12), states_of(other, 12))
    for key in ("results", "status", "step"):
        assert run.summary[key] == other.summary[key]


def test_rows_and_states_are_those_of_a_training_that_waits(settings, ahead):
    background = run_offline(settings("a", background_evaluation=True))
    assert ahead[0] == [True, True, False]  # the last, when training has ended
    assert_equal(background, run_offline(settings("b")))


def test_a_row_says_whose_actions_broke_and_no_member_changes(settings, ahead, monkeypatch):
    """Member 1 in the evaluation of step 4, which ends when training is at step 6; member 0 in that of 8."""
    expected = run_offline(settings("finite"))
    breaking(monkeypatch, {0: 8, 1: 4})
    ahead[0].clear()
    background, foreground = (
        run_offline(settings(str(way), background_evaluation=way)) for way in (True, False)
    )
    assert_equal(background, foreground)
    diverged_at = [row.results["diverged_at"] for row in evaluations_of(background)]
    np.testing.assert_array_equal(diverged_at, [np.nan, 4, 8, 8, 12, 12])
    assert background.summary["results"][0]["diverged_seeds"] == [42, 43]
    assert background.summary["diverged"] == []
    assert_same_bits(states_of(background, 12), states_of(expected, 12))


def test_a_stop_keeps_the_policies_whose_evaluation_is_not_over(settings, ahead):
    (in_background, reached), stop = ahead, StopSignals()
    expected = run_offline(settings("b"))
    in_background.clear()
    reached.clear()

    def stopping(loop, end):
        given = TRAIN(loop, end)
        if loop.population.step >= 6:
            stop.request()
            reached.set()
        return given

    with mock.patch.object(TrainingLoop, "_train", stopping):
        stopped = run_offline(settings("a", background_evaluation=True), stop)
    assert (stopped.summary["status"], stopped.summary["step"]) == ("interrupted", 6)
    assert not evaluations_of(stopped)
    assert_equal(run_offline(settings("a", resume=True)), expected)


def test_two_evaluations_that_a_stop_cut_short_are_both_made(settings, ahead):
    """A stop at step 8, which is to be evaluated, while the evaluation of step 4 is not over."""
    (in_background, reached), stop, save = ahead, StopSignals(), TrainingLoop._save
    expected = run_offline(settings("b"))
    in_background.clear()
    reached.clear()

    def stopping(loop, end):
        given = TRAIN(loop, end)
        if loop.population.step >= 8:
            stop.request()
            reached.set()
        return given

    def saving(loop):
        return save(loop) if loop.progress.step != 6 else None  # which would wait

    with (
        mock.patch.object(TrainingLoop, "_train", stopping),
        mock.patch.object(TrainingLoop, "_save", saving),
    ):
        run_offline(settings("a", background_evaluation=True), stop)
    assert_equal(run_offline(settings("a", resume=True)), expected)


def test_if_an_environment_fails_the_run_goes_on_from_there(settings):
    expected, evaluate = run_offline(settings("b")), Evaluator.run

    def failing(self, policy):
        raise EnvironmentFailure("pointmaze-umaze-v0: it broke")

    with mock.patch.object(Evaluator, "run", failing), pytest.raises(EnvironmentFailure, match="it broke"):
        run_offline(settings("a", background_evaluation=True))
    assert Evaluator.run is evaluate
    resumed = run_offline(settings("a", resume=True, background_evaluation=True))
    assert_equal(resumed, expected)
