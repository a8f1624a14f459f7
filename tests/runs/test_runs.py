"""Runs in plain Python: begun, stopped, gone on with, read; what they hold is let go, whatever happens."""

import dataclasses
import shutil
import signal
from pathlib import Path

import filelock
import numpy as np
import pytest
from tiny_runs import (
    SCHEDULE,
    SIX,
    assert_same_bits,
    contents,
    offline_settings,
    online_settings,
    stopped_at,
    untimed,
)

from xql_jax.config_files import OFFLINE, load_config
from xql_jax.configuration import suite_config
from xql_jax.data.preprocessing import Preprocessing
from xql_jax.errors import UserError
from xql_jax.rollout.evaluation import Evaluator
from xql_jax.runs.evaluation import EvaluationRun
from xql_jax.runs.load import load_run
from xql_jax.runs.offline import OfflineRun
from xql_jax.runs.online import OnlineRun
from xql_jax.runs.run import EVALUATION_SEED
from xql_jax.runs.settings import OfflineSettings
from xql_jax.runs.tool_settings import EvaluationSettings
from xql_jax.training.online import OnlinePopulation
from xql_jax.training.population import Population

O, A = 4, 2


def states_of(run, step):
    """A run's states by the member's name, from its files."""
    return load_run(run.folder.path, step).states


def is_free(run):
    """Whether nobody is at the run."""
    try:
        with filelock.FileLock(run.folder.path / ".lock", timeout=0):
            return True
    except filelock.Timeout:
        return False


def without_times(summary):
    return {key: value for key, value in summary.items() if "second" not in key and key != "logs"}


@pytest.mark.parametrize(
    ("updates", "sweep", "told"),
    [
        (12, "", "warm_start=12: this first phase of learning takes all 12 updates of the run"),
        (13, "", None),
        (13, "warm_start=5,14", "warm_start=14: this first phase of learning takes all 13 updates"),
    ],
)
def test_a_first_phase_of_learning_that_is_the_whole_run_is_told_of(
    data, tmp_path, caplog, updates, sweep, told
):
    config = suite_config(
        "bear", suites=("pointmaze",), differences={"bear": {"hidden_dims": (8,), "warm_start": 12.0}}
    )
    schedule = dataclasses.replace(SCHEDULE, max_steps=updates)
    changes = {"config": config, "schedule": schedule, "sweep": sweep, "save_dir": str(tmp_path)}
    with OfflineRun(offline_settings(data, **changes)) as run:
        run.placed()
    warned = [record.message for record in caplog.records if "warm_start" in record.message]
    assert len(warned) == (told is not None)
    assert not told or warned[0].startswith(told)


@pytest.mark.parametrize(("given", "batch_size"), [({}, 1024), ({"batch_size": 512}, 512)])
def test_a_batch_size_that_is_given_wins_over_table_4(tmp_path, given, batch_size):
    """Kitchen's batch size is 1024 in Table 4."""
    config = load_config("kitchen:xql", OFFLINE)
    settings = OfflineSettings(
        config=config, env_name="kitchen-complete-v0", save_dir=str(tmp_path), tuned=True, **given
    )
    assert settings.resolved().batch_size == batch_size


def test_a_summary_is_a_value_and_what_the_file_holds(unbroken):
    run, summary = unbroken
    record = load_run(run.folder.path)
    assert summary == record.summary
    assert (summary["status"], summary["step"], summary["algorithm"]) == ("finished", 12, "bc")
    (result,) = summary["results"]
    assert (result["seeds"], result["last_step"]) == ([3, 4, 5, 6, 7, 8], 12)
    scores = {row.seed: row.results["score"] for row in run.evaluations if row.step == 12}
    assert result["last_score_by_seed"] == list(scores.values())
    assert record.rows(record.files.evaluations) == run.evaluations
    assert [(row.step, row.seed) for row in record.rows(record.files.metrics)] == [
        (step, seed) for step in (4, 8, 12) for seed in range(3, 9)
    ]
    assert (record.steps, record.env_name, record.unit) == ([6, 12], "pointmaze-umaze-v0", "update")
    assert (run.folder.path / "maze.png").exists()
    assert (run.folder.path / "learning_curve.png").exists()


@pytest.mark.slow
def test_a_stopped_run_goes_on_as_if_nothing_had_been(data, unbroken, stopped, tmp_path, capsys):
    """Bit for bit: states, rows and results; and nothing is printed."""
    begun, summary = stopped
    assert (summary["status"], summary["step"]) == ("interrupted", 6)
    assert begun.stop.received is signal.SIGINT
    assert not (begun.folder.path / "learning_curve.png").exists()
    shutil.copytree(begun.folder.save_dir, tmp_path / "runs")
    capsys.readouterr()
    settings = offline_settings(data, save_dir=str(tmp_path / "runs"), resume=True, **SIX)
    with OfflineRun(settings) as run:
        assert run.folder.path.is_dir()
        summary = run.run()
    assert capsys.readouterr() == ("", "")
    expected, expected_summary = unbroken
    assert summary["status"] == "finished"
    assert without_times(summary) == without_times(expected_summary)
    assert (run.stop.received, run.had_ended) == (None, False)
    for name in ("metrics", "evaluations"):
        assert untimed(getattr(run.folder.files, name)) == untimed(getattr(expected.folder.files, name))
    for step in (6, 12):
        assert_same_bits(states_of(run, step), states_of(expected, step))
    assert is_free(run)

    before = contents(run.folder.path)
    with OfflineRun(settings) as again:
        assert again.run() == summary
    assert again.had_ended
    assert contents(run.folder.path) == before


@pytest.mark.slow
def test_some_seeds_of_a_run_go_on_in_another(data, unbroken, stopped, tmp_path):
    begun = stopped[0]
    settings = {"save_dir": str(tmp_path), "checkpoint": begun.folder.path}
    with OfflineRun(offline_settings(data, seed=4, num_seeds=3, **settings)) as run:
        summary = run.run()
    assert (summary["step"], summary["results"][0]["seeds"]) == (12, [4, 5, 6])
    names = ["seed4", "seed5", "seed6"]
    expected = unbroken[0]
    assert_same_bits(states_of(run, 12), {name: states_of(expected, 12)[name] for name in names})
    later = [line for line in untimed(expected.folder.files.evaluations) if line.startswith("12,")]
    assert untimed(run.folder.files.evaluations)[1:] == later[1:4]
    assert_same_bits(states_of(run, 6), {name: states_of(begun, 6)[name] for name in names})
    assert begun.folder.finished_summary() is None

    (run.folder.path / "summary.json").unlink()
    gone = {
        **settings,
        "checkpoint": tmp_path / "gone",
        "resume": True,
    }  # its beginning is not asked for again
    with OfflineRun(offline_settings(data, seed=4, num_seeds=3, **gone)) as again:
        assert again.run()["results"] == summary["results"]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"seed": 8, "num_seeds": 2}, r"the run has no member seed9; it has: seed3, .*seed8$"),
        ({"batch_size": 9}, r"^--checkpoint=.*: another run: batch_size=8, here 9$"),
        (
            {"schedule": dataclasses.replace(SCHEDULE, eval_at_start=True)},
            "another run: eval_at_start=the default, here True$",
        ),
        ({"normalize_observations": False}, r"another run: .*; normalize_observations=True, here False$"),
        ({"checkpoint": Path("/nowhere")}, r"^/nowhere: not the folder of a run: it has no config.json$"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(data, stopped, tmp_path, changes, told):
    settings = {"seed": 4, "checkpoint": stopped[0].folder.path, "save_dir": str(tmp_path), **changes}
    with pytest.raises(UserError, match=told), OfflineRun(offline_settings(data, **settings)):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_has_ended_leaves_nothing_to_go_on_with(data, unbroken, tmp_path):
    settings = {"seed": 4, "checkpoint": unbroken[0].folder.path, "save_dir": str(tmp_path)}
    told = pytest.raises(
        UserError, match=r"^--checkpoint=.*: the run has ended: there is nothing left to train$"
    )
    with told, OfflineRun(offline_settings(data, **settings)):
        pass
    assert list(tmp_path.iterdir()) == []


def test_saved_policies_come_to_what_they_came_to_in_training(unbroken):
    """Put through the starts of training's own evaluation."""
    run = unbroken[0]
    checkpoint = str(run.folder.files.checkpoints / "6")
    with EvaluationRun(
        EvaluationSettings(checkpoint=checkpoint, episodes=2, seed=EVALUATION_SEED)
    ) as evaluation:
        report = evaluation.run()
    found = [
        (entry["member"], entry["return_mean"], entry["length_mean"], entry["success_rate"])
        for entry in report["members"]
    ]
    rows = [row for row in run.evaluations if row.step == 6]
    expected = [
        (f"seed {row.seed}", *(row.results[name] for name in ("return", "length", "success_rate")))
        for row in rows
    ]
    assert found == expected
    assert any(row.results["return"] > 0 for row in rows)  # else any policy would do


def test_saved_policies_normalise_observations(data, unbroken):
    """As by hand from the file: its last rows of trajectories are no transitions."""
    saved = load_run(unbroken[0].folder.path)
    with np.load(data / "data.npz") as arrays:
        kept = ~arrays["timeouts"]
        returns = np.where(kept, arrays["rewards"], 0).reshape(3, 40).sum(1)
        kept &= np.repeat(returns >= np.sort(returns)[1], 40)  # two trajectories of three are learned from
        transitions = arrays["observations"][kept].astype(np.float64)
    observations = np.random.default_rng(0).uniform(0.5, 3.5, (6, 5, O)).astype(np.float32)
    normalised = (observations - transitions.mean(0)) / transitions.std(0)
    unsaved = load_run(unbroken[0].folder.path)
    vars(unsaved)["preprocessing"] = Preprocessing()  # instead of reading it
    unprepared, actions = unsaved.policy(), saved.policy()(observations)
    np.testing.assert_allclose(actions, unprepared(normalised.astype(np.float32)), rtol=1e-4, atol=1e-6)
    assert np.abs(actions - unprepared(observations)).max() > 0.01


def test_a_run_that_exists_is_not_begun_again(data, unbroken):
    expected = unbroken[0]
    before = contents(expected.folder.path)
    settings = offline_settings(data, save_dir=str(expected.folder.save_dir), **SIX)
    with pytest.raises(UserError, match="this run exists"), OfflineRun(settings) as run:
        run.run()
    assert contents(expected.folder.path) == before
    assert is_free(expected)


@pytest.mark.slow
def test_what_a_run_holds_is_let_go_whatever_ends_it(data, tmp_path, monkeypatch):
    """An error in the midst: lock, environments, threads and signals are as before, and the run goes on."""
    closed, handlers = [], [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    close, advance, made = Evaluator.close, Population.advance, []
    monkeypatch.setattr(Evaluator, "close", lambda self: (closed.append(self), close(self))[1])
    loop = OfflineRun.loop
    monkeypatch.setattr(
        OfflineRun, "loop", lambda run, population: made.append(loop(run, population)) or made[0]
    )

    def fail(population, stop):
        if stop > 8:
            raise RuntimeError("in the midst")
        return advance(population, stop)

    settings = offline_settings(data, save_dir=str(tmp_path))
    with monkeypatch.context() as patch:
        patch.setattr(Population, "advance", fail)
        with pytest.raises(RuntimeError, match="in the midst"), OfflineRun(settings) as run:
            run.run()
    assert closed == [run.evaluator]
    (training,) = made
    assert training._checkpoints._thread._shutdown
    assert training.logs[training._files.metrics]._file.closed
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert is_free(run)
    assert load_run(run.folder.path).steps == [6]  # was in flight, and is written
    monkeypatch.undo()
    with OfflineRun(offline_settings(data, save_dir=str(tmp_path), resume=True)) as resumed:
        assert resumed.run()["status"] == "finished"
    assert [row.step for row in resumed.evaluations] == [6, 12]


def test_a_run_that_cannot_be_opened_lets_go_too(data, tmp_path, monkeypatch):
    closed = []
    monkeypatch.setattr(Evaluator, "close", lambda self: closed.append(self))
    run = OfflineRun(offline_settings(data, save_dir=str(tmp_path), dataset=(str(tmp_path / "none.npz"),)))
    with pytest.raises(UserError, match=r"none\.npz"), run:
        pytest.fail("it was entered")
    assert closed == [run.evaluator]
    assert list(tmp_path.iterdir()) == []


def test_settings_are_not_changed_by_a_run(data, tmp_path):
    settings = offline_settings(data, save_dir=str(tmp_path), env_name=None, schedule=SCHEDULE)
    before = settings.config.to_json()
    with OfflineRun(settings) as run:
        assert run.config.to_json() != before  # its own copy has no widths left open
    assert settings.config.to_json() == before


@pytest.mark.slow
def test_an_online_run(tmp_path, capsys, monkeypatch):
    """Begun, stopped, gone on with and read, as offline; and its threads and environments are let go."""
    closed, close = [], OnlinePopulation.close
    monkeypatch.setattr(OnlinePopulation, "close", lambda self: (closed.append(self), close(self))[1])
    with OnlineRun(online_settings(tmp_path)) as run, stopped_at(run, "step 6: score"):
        summary = run.run()
    assert (summary["status"], summary["step"], run.stop.received) == ("interrupted", 6, signal.SIGINT)
    with OnlineRun(online_settings(tmp_path, resume=True)) as run:
        summary = run.run()
    assert capsys.readouterr() == ("", "")
    assert len(closed) == 2
    assert is_free(run)
    record = load_run(run.folder.path)
    assert summary == record.summary
    assert (summary["status"], summary["step"], summary["restarts"]) == ("finished", 12, [])
    assert (record.steps, record.unit) == ([6, 12], "step")
    assert [row.step for row in record.rows(record.files.evaluations)] == [6, 12]
    assert [row.step for row in record.rows(record.files.metrics)] == [8, 12]  # 4 steps are of the warm-up
    errors = record.rows(record.files.bellman_errors)
    assert {row.step for row in errors} == {6, 12}
    assert all(np.isfinite(row.results["error"]) for row in errors)
    (state,) = record.states.values()
    assert int(state.step) == 12 - 4
    actions = record.policy()(np.zeros((1, 5, O), np.float32))
    assert actions.shape == (1, 5, A)
    assert (record.files.replay / "seed42").is_dir()
