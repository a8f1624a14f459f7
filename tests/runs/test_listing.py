"""Lists of runs whose scores, states and settings are written by hand."""

import math
import os

import pytest
from written_runs import write_run

from xql_jax.errors import UserError
from xql_jax.files import locked
from xql_jax.runs.listing import LOCKS, differences, differing, filtered, list_runs


@pytest.fixture
def listed(tmp_path):
    """Two runs of XQL with two betas, one of IQL that was stopped, one that is damaged."""
    write_run(tmp_path, "hopper-medium-v2", "xql", {0: [1.0, 4.0], 1: [2.0, 8.0]}, beta=1.0)
    write_run(tmp_path, "hopper-medium-v2", "xql", {0: [1.0, 5.0]}, beta=2.0)
    write_run(tmp_path, "hopper-medium-v2", "iql", {3: [7.0]}, status="interrupted", expectile=0.9)
    damaged = write_run(tmp_path, "pen-human-v1", "bc", {0: [1.0]})
    (damaged / "config.json").write_text("{")
    return list_runs([str(tmp_path)])


def test_states_scores_and_what_differs(listed):
    damaged, iql, *both = listed
    assert (damaged.state, damaged.task) == ("damaged", "")
    assert "config.json" in damaged.reason
    assert (iql.state, iql.method, iql.seeds, iql.score) == ("interrupted", "iql", (3, 3), 7.0)
    by_beta = {run.settings["config.beta"]: run for run in both}
    assert by_beta["1"].seeds == (0, 1)
    assert by_beta["1"].score == 6.0  # the mean of the last scores of the seeds, 4 and 8
    assert by_beta["2"].score == 5.0
    assert all(run.state == "finished" for run in both)
    told = differences(listed)
    assert told[by_beta["1"].name] == ["beta=1"]
    assert told[by_beta["2"].name] == ["beta=2"]
    assert told[iql.name] == []
    assert differing(both) == ["config.beta"]


def test_the_score_of_a_sweep_is_its_best_settings_that_is_finite(tmp_path):
    scores = {(0, 1.0): [math.nan], (0, 2.0): [3.0], (0, 4.0): [math.inf]}
    write_run(tmp_path, "maze", "xql", scores, swept=["beta"])
    (run,) = list_runs([str(tmp_path)])
    assert (run.state, run.score, run.best_of) == ("finished", 3.0, "beta=2")


def test_a_filter_takes_columns_and_settings(listed):
    assert [run.settings["config.beta"] for run in filtered(listed, "method=xql beta=2.0")] == ["2"]
    assert [run.method for run in filtered(listed, "state=interrupted")] == ["iql"]
    assert filtered(listed, "method=xql beta=9") == []
    assert [run.state for run in filtered(listed, "state=damaged")] == ["damaged"]
    assert [run.state for run in filtered(listed[:1], "state=damaged")] == ["damaged"]
    with pytest.raises(UserError, match=r"--filter=state=done: a state is one of finished, running,"):
        filtered(listed, "state=done")
    with pytest.raises(UserError, match=r"--filter: no run has 'betta'; nearest: beta"):
        filtered(listed, "betta=1")
    with pytest.raises(UserError, match=r"--filter wants NAME=VALUE"):
        filtered(listed, "xql")


@pytest.mark.parametrize(
    "text", ["hidden_dims=[8,16]", "hidden_dims=[8, 16] method=bc", "names=mine.npz", 'names=["mine.npz"]']
)
def test_a_filter_takes_lists_as_they_are_shown_or_typed(tmp_path, text):
    write_run(tmp_path, "maze", "bc", {0: [1.0]}, hidden_dims=[8, 16], names=["mine.npz"])
    write_run(tmp_path, "maze", "bc", {0: [1.0]}, hidden_dims=[8], names=["other.npz"])
    (run,) = filtered(list_runs([str(tmp_path)]), text)
    assert run.settings["config.hidden_dims"] == "[8, 16]"


def test_a_run_below_two_folders_is_listed_once(tmp_path):
    write_run(tmp_path, "maze", "bc", {0: [1.0]})
    assert len(list_runs([str(tmp_path), f"{tmp_path}/", str(tmp_path / "maze")])) == 1


@pytest.mark.skipif(not os.path.exists(LOCKS), reason="the system does not tell what is locked")
def test_a_run_that_a_process_is_at_is_running(tmp_path):
    folder = write_run(tmp_path, "maze", "xql", {0: [1.0]}, status=None)
    assert [run.state for run in list_runs([str(tmp_path)])] == ["interrupted"]
    with locked(folder / ".lock"):
        assert [run.state for run in list_runs([str(tmp_path)])] == ["running"]
    assert [run.state for run in list_runs([str(tmp_path)])] == ["interrupted"]
    assert list_runs([str(tmp_path)])[0].score == 1.0
