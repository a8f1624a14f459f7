"""Runs read for reports and lists: every number from its files, damage with its reason."""

import math

import pytest
from written_runs import COMMIT, write_run

from xql_jax.errors import UserError
from xql_jax.files import read_record, write_record
from xql_jax.runs.kinds import FINE_TUNING, OFFLINE_TRAINING, ONLINE_TRAINING
from xql_jax.runs.load import load_run
from xql_jax.workshop.reports.scores import method_scores, read_runs
from xql_jax.workshop.tools.list_runs import list_runs, score_text


def found_in(*folders):
    return read_runs([str(folder) for folder in folders])


def test_a_run_is_read_as_its_files_say(tmp_path):
    scores = {(0, 0.5): [1.0, 2.5], (0, 2.0): [3.0, 4.5], (1, 0.5): [5.0, 6.0], (1, 2.0): [7.0, 8.0]}
    write_run(tmp_path, "pen-human-v1", "xql", scores, swept=["beta"], diverged=[(1, 2.0)], beta=9.0)
    found = found_in(tmp_path)
    (run,) = found.runs
    expected = {
        "seeds": range(2), "method": "xql", "kind": OFFLINE_TRAINING, "status": "finished", "reached": 2_000,
        "unit": "update", "is_normalised": True,
    }  # fmt: skip
    assert {name: getattr(run, name) for name in expected} == expected
    assert run.record["commit"] == COMMIT
    assert run.settings_text["config.tau"] == "0.005"
    members = {(member.seed, float(member.settings["config.beta"])): member for member in found.members}
    assert {key: list(member.values) for key, member in members.items()} == scores
    assert all(list(member.steps) == [1_000, 2_000] and member.is_finished for member in found.members)
    assert [key for key, member in members.items() if any(member.diverged)] == [(1, 2.0)]
    returns = read_runs([str(tmp_path)], column="return").members
    assert next(list(member.values) for member in returns) == [2.0, 5.0]


def test_unfinished_runs_are_read_with_their_state(tmp_path):
    write_run(tmp_path, "walker-run", "sac", {0: [1.0, 2.0]}, status=None, content={"max_steps": 9_000})
    write_run(tmp_path, "walker-run", "xsac", {0: [None]})
    found = found_in(tmp_path)
    run, _ = sorted(found.runs, key=lambda run: run.method)
    assert (run.status, run.reached, run.kind, run.unit) == ("interrupted", 2_000, ONLINE_TRAINING, "step")
    assert [member.is_finished for member in found.members] == [False]
    # One of two members was cut.
    write_run(tmp_path / "cut", "pen-human-v1", "xql", {0: [1.0, 2.0, 3.0], 1: [4.0]})
    kept, cut = found_in(tmp_path / "cut").members
    assert (kept.is_finished, cut.is_finished, list(cut.steps)) == (True, False, [1_000])


def test_a_hand_over(tmp_path):
    content = {"num_pretraining_steps": 1_000}
    write_run(tmp_path, "antmaze-umaze-v0", "iql", {0: [50.0, 80.0]}, content=content)
    found = found_in(tmp_path)
    assert (found.runs[0].kind, found.runs[0].handover) == (FINE_TUNING, 1_000)
    (score,) = method_scores(found.members)
    assert (score.before, score.last) == ((50.0,), (80.0,))


def test_damage_is_listed_and_the_rest_is_read(tmp_path):
    names = ("cut config", "cut rows", "no rows", "whole")
    runs = {name: write_run(tmp_path, name, "bc", {0: [1.0, 2.5]}) for name in names}
    for file in (runs["cut config"] / "config.json", runs["cut rows"] / "evaluations.csv"):
        file.write_bytes(file.read_bytes()[:-30])
    (runs["cut rows"] / "summary.json").unlink()  # else its digest would tell
    (runs["no rows"] / "evaluations.csv").unlink()
    found = found_in(tmp_path)
    assert [run.path for run in found.runs] == [runs["whole"]]
    reasons = ("config.json: damaged: it is not JSON", "evaluations.csv: damaged", "not as the run wrote it")
    for name, left_out, reason in zip(names, found.left_out, reasons, strict=False):
        assert left_out.run == str(runs[name].relative_to(tmp_path))
        assert reason in left_out.reason
    assert len(found.left_out) == 3


@pytest.fixture
def listed(tmp_path):
    """Two runs of XQL with two betas, one of IQL that was stopped, one that is damaged."""
    write_run(tmp_path, "hopper-medium-v2", "xql", {0: [1.0, 4.0], 1: [2.0, 8.0]}, beta=1.0)
    write_run(tmp_path, "hopper-medium-v2", "xql", {0: [1.0, 5.0]}, beta=2.0)
    write_run(tmp_path, "hopper-medium-v2", "iql", {3: [7.0]}, status="interrupted", expectile=0.9)
    damaged = write_run(tmp_path, "pen-human-v1", "bc", {0: [1.0]})
    (damaged / "config.json").write_text("{")
    listed, [left_out] = list_runs([str(tmp_path)])
    assert left_out.run == str(damaged.relative_to(tmp_path))
    return listed


def test_states_and_scores(listed, tmp_path):
    iql, *both = sorted(listed, key=lambda run: run.method)
    assert (iql.status, iql.method, [*iql.seeds], listed[iql].mean) == ("interrupted", "iql", [3], 7.0)
    # The mean of the last scores of the seeds, 4 and 8.
    assert {run.settings_text["config.beta"]: listed[run].mean for run in both} == {"1": 6.0, "2": 5.0}
    # Student's interval of 4 and 8: 12.706 times 2.828 / sqrt(2). Of one seed there is none.
    widths = {run.settings_text["config.beta"]: listed[run].interval for run in both}
    assert widths == {"1": pytest.approx(25.41, abs=0.01), "2": pytest.approx(math.nan, nan_ok=True)}
    write_run(tmp_path / "h", "maze", "xql", {0: [1.0]}, diverged=[0], beta=1.0)
    [each] = list_runs([str(tmp_path / "h")])[0].items()
    assert "1 diverged" in score_text(*each)
    # The score of a sweep is that of its best setting that is finite.
    scores = {(0, 1.0): [math.nan], (0, 2.0): [3.0], (0, 4.0): [math.inf]}
    write_run(tmp_path / "swept", "maze", "xql", scores, swept=["beta"])
    [(run, best)] = list_runs([str(tmp_path / "swept")])[0].items()
    assert (run.status, score_text(run, best)) == ("finished", "3.0 (beta=2)")
    # Without evaluations the summary tells it.
    write_run(tmp_path / "none", "maze", "xql", {0: [None], 1: [None]}, diverged=[1])
    [each] = list_runs([str(tmp_path / "none")])[0].items()
    assert score_text(*each) == "(1 diverged)"


def test_a_run_of_another_version_is_told_in_one_line(tmp_path):
    path = write_run(tmp_path, "maze", "bc", {0: [1.0]})
    content = read_record(path / "config.json")
    write_record(path / "config.json", {name: value for name, value in content.items() if name != "sizes"})
    with pytest.raises(UserError, match=r"config\.json: of another version: KeyError\('sizes'\)"):
        load_run(path)
