"""Evaluations behind the training: the same numbers, whatever the training does meanwhile."""

import threading

import numpy as np
import pytest
from driver import Driver, failing, outcome, watched
from tiny_runs import breaking, write_dataset

import xql_jax
from xql_jax.errors import EnvironmentFailure
from xql_jax.runs.load import load_run

SETTINGS = {
    "method": "xql", "hidden_dims": (8,), "batch_size": 8, "num_seeds": 2, "eval_episodes": 2,
    "max_steps": 12, "log_interval": 2, "eval_interval": 4, "checkpoint_interval": 3,
}  # fmt: skip
WAITING, BEHIND = {"background_evaluation": False}, {"background_evaluation": True}


@pytest.fixture
def make(tmp_path):
    data = dict(np.load(write_dataset(tmp_path / "data.npz")))
    of_drift = {
        "env_name": "driver:Drift-v0",
        "dataset": data | {"observations": data["observations"][:, :3]},
    }
    of_maze = {"env_name": "pointmaze-umaze-v0", "dataset": data}

    def make(name, in_maze=False):
        return Driver(xql_jax.train, tmp_path / name, SETTINGS | (of_maze if in_maze else of_drift))

    return make


def resumed_ahead(run):
    """Goes on with an evaluation of step 4 that ends only when the training has come to step 6."""
    reached, waited = threading.Event(), []

    def wait(name):
        if name == "step" and threading.current_thread() is not threading.main_thread():
            waited.append(reached.wait(30))

    with watched(wait):
        run.resume(lambda step, numbers: reached.set() if step >= 6 else None, **BEHIND)
    assert all(waited)
    return run.outcome(), bool(waited)


def test_rows_and_states_are_those_of_a_training_that_waits(make):
    waiting = make("a")
    waiting.resume(**WAITING)
    assert resumed_ahead(make("b")) == (waiting.outcome(), True)


def test_a_row_says_whose_actions_broke_and_no_member_changes(make, monkeypatch):
    """Member 1 in the evaluation of step 4; member 0 in that of 8. In the background they end later."""
    finite = make("finite", in_maze=True)
    finite.resume(**WAITING)
    breaking(monkeypatch, {0: 8, 1: 4})
    runs = [make(name, in_maze=True) for name in ("behind", "waiting")]
    for run, how in zip(runs, (BEHIND, WAITING), strict=True):
        run.resume(**how)
    assert runs[0].outcome() == runs[1].outcome()
    assert runs[0].outcome()[0] == finite.outcome()[0]
    run = load_run(runs[0].path)
    diverged_at = [row.results["diverged_at"] for row in run.rows(run.files.evaluations)]
    np.testing.assert_array_equal(diverged_at, [np.nan, 4, 8, 8, 12, 12])
    assert (run.summary["results"][0]["diverged_seeds"], run.summary["diverged"]) == ([42, 43], [])


def test_if_an_environment_fails_the_run_goes_on_from_there(make):
    run, expected = make("a"), make("b")
    expected.resume(**WAITING)
    with failing(8, 9), pytest.raises(EnvironmentFailure, match="it stands still"):
        run.resume(**BEHIND)
    assert outcome(run.resume(**BEHIND)) == expected.outcome()
