"""Runs in plain Python: begun, stopped, gone on with, read; what they hold is let go, whatever happens."""

import dataclasses
import signal

import filelock
import pytest
from slow_cases import slow_but
from tiny_runs import (
    assert_same_bits,
    assert_same_rows,
    contents,
    evaluations_of,
    offline_settings,
    small,
    states_of,
    stopped_at,
)

from xql_jax.errors import UserError
from xql_jax.rollout.evaluation import Evaluator
from xql_jax.runs.load import load_run
from xql_jax.runs.train import train_run as run_offline
from xql_jax.training.population import Population

O, A = 4, 2


def is_free(path):
    """Whether nobody is at the run."""
    try:
        with filelock.FileLock(path / ".lock", timeout=0):
            return True
    except filelock.Timeout:
        return False


def without_times(content):
    return {key: value for key, value in content.items() if "second" not in key and key != "logs"}


def test_a_summary_is_a_value_and_what_the_file_holds(unbroken):
    run = load_run(unbroken.path)
    assert unbroken.summary == run.summary
    assert (run.summary["status"], run.summary["step"], run.summary["algorithm"]) == ("finished", 12, "bc")
    (result,) = run.summary["results"]
    rows = run.rows(run.files.evaluations)
    assert result["last_score_by_seed"] == [row.results["score"] for row in rows if row.step == 12]
    assert (run.steps, run.env_name, run.unit, run.sizes) == ([6, 12], "pointmaze-umaze-v0", "update", (O, A))
    assert (run.path / "learning_curve.png").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "sizes"),
    [("dt", {"embed_dim": 4, "num_layers": 1, "context_length": 3}), ("xql+flow", {}), ("fql", {})],
)
def test_a_stopped_run_goes_on_as_if_nothing_had_been(data, tmp_path, capsys, method, sizes):
    """Bit for bit: states, rows and results; and nothing is printed."""
    config = small(method, **sizes)
    settings = offline_settings(data, config=config, save_dir=str(tmp_path / "unbroken"), num_seeds=2)
    whole = run_offline(settings)
    broken = dataclasses.replace(settings, save_dir=str(tmp_path / "broken"), resume=True)
    with stopped_at("update 6: score") as stop:
        begun = run_offline(broken, stop)
    assert (begun.summary["status"], begun.summary["step"]) == ("interrupted", 6)
    assert begun.stopped_by is signal.SIGINT
    summary = run_offline(broken)
    assert capsys.readouterr() == ("", "")
    assert without_times(summary.summary) == without_times(whole.summary)
    assert_same_rows(summary, whole)
    for step in (6, 12):
        assert_same_bits(states_of(summary, step), states_of(whole, step))
    assert is_free(summary.path)

    before = contents(summary.path)
    again = run_offline(broken)
    assert (again.summary, again.had_ended) == (summary.summary, True)
    assert contents(summary.path) == before


def test_a_run_that_cannot_begin_leaves_nothing(data, tmp_path):
    with pytest.raises(UserError, match=r"none\.npz"):
        run_offline(offline_settings(data, dataset=("/none.npz",), save_dir=str(tmp_path)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_what_a_run_holds_is_let_go_whatever_ends_it(data, tmp_path, monkeypatch):
    """An error in the midst: lock, environments and signals are as before, and the run goes on."""
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    closed, close, advance = [], Evaluator.close, Population.advance
    monkeypatch.setattr(Evaluator, "close", lambda self: (closed.append(self), close(self))[1])

    def fail(population, stop):
        if stop > 8:
            raise RuntimeError("in the midst")
        return advance(population, stop)

    settings = offline_settings(data, save_dir=str(tmp_path))
    with monkeypatch.context() as patch:
        patch.setattr(Population, "advance", fail)
        with pytest.raises(RuntimeError, match="in the midst"):
            run_offline(settings)
    assert len(closed) == 1
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    (path,) = (file.parent for file in tmp_path.rglob("config.json"))
    assert is_free(path)
    assert load_run(path).steps == [6]  # was in flight, and is written
    resumed = run_offline(dataclasses.replace(settings, resume=True))
    assert resumed.summary["status"] == "finished"
    assert [row.step for row in evaluations_of(resumed)] == [6, 12]


@pytest.mark.parametrize("length", slow_but([1, 10], 10))
def test_windows_streamed_from_the_host_are_learned_from_as_on_the_device(
    length, data, tmp_path, monkeypatch
):
    """In two blocks, the second of which is not full; bit for bit in every row, and with a dropped layer."""
    monkeypatch.setattr("xql_jax.training.data_kinds.BLOCK_BYTES", 8 * 16 * length * 4 * (4 + 2 + 3))
    sizes = {"embed_dim": 16, "num_layers": 2, "context_length": length, "actor_warmup_steps": 1.0}
    changes = {"config": small("dt", hidden_dims=(), **sizes), "batch_size": 16, "log_interval": 1}
    device, host = (
        run_offline(offline_settings(data, data_on=place, save_dir=str(tmp_path / place), **changes))
        for place in ("device", "host")
    )
    assert_same_rows(host, device)
    assert_same_bits(states_of(host, 12), states_of(device, 12))
