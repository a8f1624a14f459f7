"""The report and the list of runs at the command line: what is written and printed, and mistakes."""

import re

from main_runs import REPORT, contents
from mistakes import assert_told
from written_runs import write_run

MISTAKES = {
    "report of nothing": ("report", "name folders of runs"),
    "report of no folder": ("report nowhere", "nowhere: no such folder"),
    "report of a file": ("report good.hdf5", "good.hdf5: no such folder"),
    "report without runs": ("report minari", "no runs there"),
    "report into a run": ("report {run} --out={run}/checkpoints", "--out=", "that is of the run in"),
    "report into a file": ("report {run} --out=good.hdf5", "--out=good.hdf5", "cannot be made"),
}


def test_mistakes_are_told_in_a_line_and_touch_nothing(place):
    (place.folder / "minari").mkdir(exist_ok=True)
    for name, outcome in place.outcomes(MISTAKES).items():
        assert_told(outcome, MISTAKES[name][1:])


def test_the_page_and_the_tables_are_written(server, tmp_path):
    write_run(tmp_path / "runs", "pen-human-v0", "xql", {0: [1.0, 12.25], 1: [2.0, 13.75]})
    broken = write_run(tmp_path / "runs", "pen-human-v0", "bc", {0: [1.0]})
    (broken / "evaluations.csv").write_text("step\n")
    before = contents(tmp_path)
    outcome = server.run(["runs", "--out=new/report", "--bootstrap_samples=100"], tmp_path, main=REPORT)
    assert (outcome.code, outcome.err) == (0, "")
    assert "1 runs, 1 scores" in outcome.out
    assert f"left out: {broken.relative_to(tmp_path / 'runs')}: evaluations.csv: damaged" in outcome.out
    after = contents(tmp_path)
    files = {
        f"new/report/{name}"
        for name in ("index.html", "scores.csv", "statistics.csv", "runs.csv", "scores.md", "scores.tex")
    }
    assert after.keys() - before.keys() == {"new", "new/report", *files}
    assert {name: after[name] for name in before} == before  # the runs' files are as they were
    assert b"13.0" in after["new/report/index.html"]
    assert b",13," in after["new/report/scores.csv"]


def test_the_same_runs_are_the_same_report(server, tmp_path):
    for seed in range(3):
        write_run(tmp_path / "runs", "pen-human-v0", "xql", {seed: [1.0, seed]})
    for out in ("a", "b"):
        assert server.run(["runs", f"--out={out}"], tmp_path, main=REPORT).code == 0
    found = contents(tmp_path)
    for name in ("scores.csv", "statistics.csv", "runs.csv", "scores.md", "scores.tex"):
        assert found[f"a/{name}"] == found[f"b/{name}"]
    made = [re.sub(rb"Made [0-9-]+ [0-9:]+", b"", found[f"{out}/index.html"]) for out in "ab"]
    assert made[0] == made[1]
