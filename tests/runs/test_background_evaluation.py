"""Evaluations behind the training: the same numbers, whatever the training does meanwhile."""

import shutil
import threading

import numpy as np
import pytest
from driver import Driver, failing, outcome, rows, watched
from tiny_runs import breaking, write_dataset

import xql_jax
from xql_jax.errors import EnvironmentFailure, UserError
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


def stopped_ahead(run):
    """Stops at step 6, in the evaluation of step 4."""
    came = threading.Event()

    def wait(name):
        if name == "step" and threading.current_thread() is not threading.main_thread():
            came.wait(30)

    def call_back(step, numbers):
        if step >= 6:
            came.set()

    with watched(wait):
        run.step(at=2, of=("row",), callback=call_back, keep_checkpoints=1, **BEHIND)
    assert run.steps == [4, 6]
    assert run.path.joinpath("evaluations.csv").read_text() == ""


def test_a_stop_keeps_the_checkpoint_whose_evaluation_is_missing(make):
    """Also if but one is to be kept, until its rows are written."""
    waiting, run = make("a"), make("b")
    waiting.resume(**WAITING)
    stopped_ahead(run)
    run.resume(keep_checkpoints=1, **BEHIND)
    assert run.outcome() == waiting.outcome()
    assert run.steps == [12]


def test_if_that_checkpoint_is_damaged_the_run_goes_on_from_an_earlier_one(make):
    waiting, run = make("a"), make("b")
    waiting.resume(**WAITING)
    stopped_ahead(run)
    (run.path / "checkpoints" / "4" / "states.npz").write_bytes(b"")
    with pytest.raises(UserError, match="no checkpoint is whole"):
        run.resume(**BEHIND)
    shutil.rmtree(run.path / "checkpoints")
    run.resume(**BEHIND)
    assert run.outcome() == waiting.outcome()


def test_an_evaluation_whose_checkpoint_is_not_there_is_left_out(make, caplog):
    """Earlier versions saved the states of step 4 in the checkpoint of step 6."""
    waiting, run = make("a"), make("b")
    waiting.resume(**WAITING)
    stopped_ahead(run)
    shutil.rmtree(run.path / "checkpoints" / "4")
    run.resume(**BEHIND)
    assert "the evaluation of update 4 is left out" in caplog.text
    assert [row["step"] for row in rows(run.path / "evaluations.csv")] == ["8", "8", "12", "12"]
    assert run.outcome()[0] == waiting.outcome()[0]


def test_if_an_environment_fails_the_run_goes_on_from_there(make):
    run, expected = make("a"), make("b")
    expected.resume(**WAITING)
    with failing(6 + 32 + 2, 6 + 32 + 3), pytest.raises(EnvironmentFailure, match="it stands still"):
        run.resume(**BEHIND)
    assert outcome(run.resume(**BEHIND)) == expected.outcome()
