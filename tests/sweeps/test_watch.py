"""How far runs are, read while they are written."""

import pytest
from tiny_sweeps import TINY, sweep_settings, train_all

from xql_jax.sweeps.plan import make_plan
from xql_jax.sweeps.watch import Watch


@pytest.mark.slow
def test_a_sweep_from_nothing_to_its_end(tmp_path):
    settings = sweep_settings(tmp_path, methods=(f"bc{TINY}", f"iql{TINY}"))
    plan = make_plan(settings)
    watch = Watch(plan.cells)
    assert [(state, step, score) for _, state, step, score in watch.look()] == [("to do", 0, None)] * 2

    outcomes = dict(zip(("bc", "iql"), train_all(settings), strict=True))
    watch.ended(plan.cells[0], "finished")
    first, second = watch.look()  # the second's end was not told, but its rows are there
    assert (first.state, first.step, second.state, second.step) == ("finished", 20, "running", 20)
    for (_, outcome), progress in zip(outcomes.values(), (first, second), strict=True):
        [result] = outcome.summary["results"]
        assert progress.score == sum(result["last_score_by_seed"]) / 2


def test_a_row_that_is_being_written_is_none(tmp_path):
    settings = sweep_settings(tmp_path, methods=(f"bc{TINY}",))
    [cell] = make_plan(settings).cells
    train_all(settings)
    [metrics] = (tmp_path / "runs").glob("*/*/*/metrics.csv")
    with metrics.open("a") as file:
        file.write("999999,0,")
    [progress] = Watch([cell]).look()
    assert progress.step == 20
