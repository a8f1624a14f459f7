"""Evaluations behind the training: the same numbers, whatever the training does meanwhile."""

import threading
from unittest import mock

import pytest
from slow_cases import slow_but
from tiny_runs import (
    assert_same_bits,
    assert_same_rows,
    breaking,
    offline_settings,
    small,
    states_of,
    write_dataset,
)

from xql_jax.errors import EnvironmentFailure
from xql_jax.rollout.evaluation import Evaluator
from xql_jax.runs.load import load_run
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


@pytest.mark.parametrize("stops", slow_but([False, True], True))
def test_a_member_whose_actions_break_late_in_an_episode_is_frozen_at_the_evaluated_step(
    settings, ahead, monkeypatch, stops
):
    """Member 1 in the evaluation of step 4, which ends when training is at step 6; member 0 in that of 8."""
    breaking(monkeypatch, {0: 8, 1: 4})
    if stops:
        stop = StopSignals()
        stop_at_8 = [lambda step, columns: step == 8 and stop.request()]
        stopped = run_offline(settings("a", background_evaluation=True), stop, stop_at_8)
        assert stopped.summary["status"] == "interrupted"
    background = run_offline(settings("a", background_evaluation=True, resume=stops))
    expected = run_offline(settings("b"))
    assert [found["step"] for found in expected.summary["diverged"]] == [4, 8]
    assert background.summary["diverged"] == expected.summary["diverged"]
    assert_equal(background, expected)
    assert stops or load_run(background.path).steps == load_run(expected.path).steps


def test_a_stop_goes_back_to_the_step_whose_evaluation_is_not_over(settings, ahead):
    (in_background, reached), stop = ahead, StopSignals()
    expected = run_offline(settings("b"))
    in_background.clear()
    reached.clear()

    def stopping(loop, end):
        given = TRAIN(loop, end)
        if loop.population.step >= 5:
            stop.request()
            reached.set()
        return given

    # The checkpoint of step 3 is older, and that of 6 would need the evaluation's rows.
    with mock.patch.object(TrainingLoop, "_train", stopping):
        stopped = run_offline(settings("a", background_evaluation=True), stop)
    assert (stopped.summary["status"], stopped.summary["step"]) == ("interrupted", 4)
    run = load_run(stopped.path)
    assert run.step == 4
    assert not run.rows(run.files.evaluations)
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
