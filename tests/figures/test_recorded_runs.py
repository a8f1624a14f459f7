"""Which folders are runs, and which of them are one method."""

from pathlib import Path

import pytest
from run_folders import make_run

from xql_jax.errors import UserError
from xql_jax.figures.recorded_runs import find_runs, read_parts


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


def make_evaluated(root, task, algorithm, name, **options):
    return make_run(root, task, algorithm, name, evaluations=[(10, options.pop("seed", 0), 1.0)], **options)


def make_swept(root, name, betas, **options):
    folder = make_run(root, "walker-run", "xsac", name, swept=["beta"], **options)
    rows = [f"10,{seed},{beta},{beta},0,5,,1" for beta in betas for seed in (0, 1)]
    (folder / "evaluations.csv").write_text(
        "\n".join(["step,seed,beta,return,score,length,diverged_at,seconds", *rows, ""])
    )


def found(root, but=""):
    parts = read_parts(find_runs(root), "evaluations.csv", "return", "returns", but=but)
    return [(part.method, part.run.path.name, [row.seed for row in part.rows]) for part in parts]


def test_runs_that_differ_in_more_than_the_seed_are_methods_apart(tmp_path):
    for seed, (name, beta) in enumerate((("a", 1.0), ("b", 1.0), ("c", 2.0))):
        make_evaluated(tmp_path, "walker-run", "xsac", name, seed=seed, beta=beta, tau=0.5)
    make_evaluated(tmp_path, "walker-run", "sac", "d", tau=0.5)
    make_evaluated(tmp_path, "cheetah-run", "xsac", "e", beta=7.0, tau=0.5)
    assert found(tmp_path) == [
        ("xsac", "e", [0]),
        ("sac", "d", [0]),
        ("xsac beta=1", "a", [0]),
        ("xsac beta=1", "b", [1]),
        ("xsac beta=2", "c", [2]),
    ]


def test_a_sweeps_value_is_a_setting_like_any_other(tmp_path):
    """The config of a sweep has the default, which no member was trained with."""
    make_swept(tmp_path, "a", [0.5, 1.0], beta=5.0, settings={"sweep": "beta=0.5,1"})
    make_evaluated(tmp_path, "walker-run", "xsac", "b", seed=2, beta=1.0, settings={"sweep": ""})
    assert found(tmp_path) == [
        ("xsac beta=0.5", "a", [0, 1]),
        ("xsac beta=1", "a", [0, 1]),
        ("xsac beta=1", "b", [2]),
    ]
    assert found(tmp_path, but="beta") == [("xsac", "a", [0, 1]), ("xsac", "a", [0, 1]), ("xsac", "b", [2])]


def test_a_seed_of_two_runs_with_the_same_settings_is_counted_once(tmp_path, caplog):
    make_swept(tmp_path, "a", [0.5, 1.0], beta=5.0, settings={"sweep": "beta=0.5,1"})
    make_swept(tmp_path, "b", [1.0], beta=1.0)
    make_evaluated(tmp_path, "walker-run", "xsac", "c", seed=1, beta=0.5)
    assert found(tmp_path) == [("xsac beta=0.5", "a", [0, 1]), ("xsac beta=1", "a", [0, 1])]
    at = tmp_path / "walker-run" / "xsac"
    assert caplog.messages == [
        *(f"{at}/b: xsac beta=1: seed {seed} is counted once, in {at}/a" for seed in (0, 1)),
        f"{at}/c: xsac: seed 1 is counted once, in {at}/a",
    ]


def test_a_label_names_what_can_explain_a_difference(tmp_path):
    """How often a run was logged is no part of it, unless nothing else tells two groups apart."""
    make_evaluated(tmp_path, "walker-run", "xsac", "a", beta=1.0, settings={"log_interval": 5})
    make_evaluated(tmp_path, "walker-run", "xsac", "b", beta=2.0, settings={"log_interval": 10})
    make_evaluated(tmp_path, "walker-run", "sac", "c", settings={"log_interval": 5})
    make_evaluated(tmp_path, "walker-run", "sac", "d", settings={"log_interval": 10})
    assert [method for method, *_ in found(tmp_path)] == [
        "sac log_interval=10", "sac log_interval=5", "xsac beta=1", "xsac beta=2",
    ]  # fmt: skip
