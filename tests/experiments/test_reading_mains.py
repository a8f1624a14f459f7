"""What the figures, the report and the inspector write and print, from a command line."""

import json
import re

import numpy as np
from driver import FIGURES, INSPECT, REPORT, contents, succeed, write_dataset
from written_runs import write_run

TABLES = ("scores.csv", "statistics.csv", "scores.md", "scores.tex")


def test_figures_are_drawn_from_runs(tmp_path):
    write_run(tmp_path / "runs", "walker-run", "sac", {0: [2.5]}, scale=10.0)
    succeed(["--figure=3", "--runs=runs", "--output=new"], tmp_path, FIGURES)
    names = {path.name for path in (tmp_path / "new").iterdir()}
    assert "figure_3.png" in names
    seeds = (tmp_path / "new" / "figure_3_seeds.csv").read_text()
    assert seeds.endswith("walker-run,sac,0,1000,25,False\n")


def test_the_report_is_written_and_the_runs_stay_as_they_are(tmp_path):
    write_run(tmp_path / "runs", "pen-human-v0", "xql", {0: [1.0, 12.25], 1: [2.0, 13.75]})
    broken = write_run(tmp_path / "runs", "pen-human-v0", "bc", {0: [1.0]})
    (broken / "evaluations.csv").write_text("step\n")
    before = contents(tmp_path)
    for folder in ("a", "b"):
        out = succeed(["runs", f"--output={folder}", "--bootstrap_samples=100"], tmp_path, REPORT)
    assert "1 runs, 1 scores" in out
    assert f"left out: {broken.relative_to(tmp_path / 'runs')}: evaluations.csv: damaged" in out
    after = contents(tmp_path)
    names = {f"{folder}/{name}" for folder in "ab" for name in TABLES}
    assert after.keys() - before.keys() == {"a", "b", *names}
    assert {name: after[name] for name in before} == before
    assert "pen-human-v0  13.0 ± 9.5" in out  # t(0.975, 1) * 1.5 / 2
    assert b",13," in after["a/scores.csv"]
    assert [after[f"a/{name}"] for name in TABLES] == [after[f"b/{name}"] for name in TABLES]


def test_the_inspector_prints_and_writes_what_is_in_two_files(tmp_path):
    first = "a.npz"
    write_dataset(tmp_path / first)  # 120 rows, each 40th a time-out and the last unused: 117 transitions
    write_dataset(tmp_path / "b.hdf5", size=81)
    data = ["--env_name=pointmaze-umaze-v0", f"--dataset={first}", "--dataset=b.hdf5"]
    out = succeed([*data, "--json=new/a.json"], tmp_path, INSPECT)
    assert re.search(r"transitions +195\n", out)
    numbers = json.loads((tmp_path / "new" / "a.json").read_text())
    assert (numbers["transitions"], numbers["lengths"]["most"]) == (195, 39)


def test_the_inspector_tells_of_each_source_and_each_action_by_itself(tmp_path):
    for name, bound in {"full.npz": 2, "unit.npz": 1}.items():  # of Pendulum's torque, which is within ±2
        arrays = {"observations": np.eye(120, 3), "actions": np.linspace(-bound, bound, 120)[:, None]}
        write_dataset(tmp_path / name, **arrays)
    data = ["--env_name=Pendulum-v1", "--dataset=full.npz", "--dataset=unit.npz"]
    out = succeed([*data, "--json=a.json"], tmp_path, INSPECT)
    told = [line for line in out.splitlines() if "within ±1" in line]
    assert len(told) == 1
    assert "/unit.npz: all actions are within ±1, and the environment takes -2 to 2" in told[0]
    numbers = json.loads((tmp_path / "a.json").read_text())
    assert np.allclose(numbers["action_ranges"], [[-2, 2]], atol=0.05)  # the last row is left out
