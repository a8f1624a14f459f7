"""Which folders are runs, and which of them are one method."""

from pathlib import Path

import pytest
from run_folders import make_run

from xql_jax.errors import UserError
from xql_jax.figures.recorded_runs import find_runs, group_runs


def test_only_what_has_finished_is_found(tmp_path, caplog, monkeypatch):
    kept = [make_run(tmp_path / "deep" / "er", "walker-run", "sac", f"seed{seed}") for seed in (1, 0)]
    make_run(tmp_path, "walker-run", "sac", "stopped", status="interrupted")
    (make_run(tmp_path, "walker-run", "td3", "begun") / "summary.json").unlink()
    damaged = make_run(tmp_path, "walker-run", "td3", "damaged") / "config.json"
    damaged.write_text("{")
    inner = kept[0] / "checkpoints" / "walker-run" / "sac" / "x"  # what a run holds is no run
    inner.mkdir(parents=True)
    (inner / "config.json").write_text((kept[0] / "config.json").read_text())
    (inner / "summary.json").write_text((kept[0] / "summary.json").read_text())
    runs = find_runs(tmp_path)
    assert [run.path for run in runs] == sorted(kept)
    told = f"{damaged}: damaged: it is not JSON; its run is left out"
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [("WARNING", told)]
    assert {(run.name, run.algorithm) for run in runs} == {("walker-run", "sac")}
    for place in (kept[0], kept[0].parent, kept[0].parents[1]):  # names do not come from where one looks
        monkeypatch.chdir(place)
        assert {run.name for run in find_runs(Path())} == {"walker-run"}
    with pytest.raises(UserError, match=r"--runs=.*nothing: no such folder"):
        find_runs(tmp_path / "nothing")


def test_runs_that_differ_in_more_than_the_seed_are_methods_apart(tmp_path):
    for name, beta in (("a", 1.0), ("b", 1.0), ("c", 2.0)):
        make_run(tmp_path, "walker-run", "xsac", name, beta=beta, tau=0.5)
    make_run(tmp_path, "walker-run", "sac", "d", tau=0.5)
    make_run(tmp_path, "cheetah-run", "xsac", "e", beta=7.0, tau=0.5)
    groups = group_runs(find_runs(tmp_path))
    assert [(group.task, group.method, [run.path.name for run in group.runs]) for group in groups] == [
        ("cheetah-run", "xsac", ["e"]),
        ("walker-run", "sac", ["d"]),
        ("walker-run", "xsac beta=1.0", ["a", "b"]),
        ("walker-run", "xsac beta=2.0", ["c"]),
    ]


def test_a_label_names_what_can_explain_a_difference(tmp_path):
    """How often a run was logged is no part of it, unless nothing else tells two groups apart."""
    make_run(tmp_path, "walker-run", "xsac", "a", beta=1.0, settings={"log_interval": 5})
    make_run(tmp_path, "walker-run", "xsac", "b", beta=2.0, settings={"log_interval": 10, "sweep": "tau=1"})
    make_run(tmp_path, "walker-run", "sac", "c", settings={"log_interval": 5})
    make_run(tmp_path, "walker-run", "sac", "d", settings={"log_interval": 10})
    assert [group.method for group in group_runs(find_runs(tmp_path))] == [
        "sac log_interval=10", "sac log_interval=5", "xsac beta=1.0", "xsac beta=2.0",
    ]  # fmt: skip
