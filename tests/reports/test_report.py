"""The report's files: numbers by hand, the same in every format."""

import csv
import io

import pytest
from written_runs import COMMIT, write_run

from xql_jax.workshop.reports.score_table import report_files
from xql_jax.workshop.reports.scores import method_scores, read_runs
from xql_jax.workshop.reports.statistics import compared_scores


def scores_in(root):
    return method_scores(read_runs([str(root)]).members)


def files_of(scores):
    return report_files(scores, compared_scores(scores, 200)[0])


@pytest.fixture(scope="module")
def scores(tmp_path_factory):
    """Two methods on two datasets of the paper, a sweep with a diverged member, a return, and damage."""
    root = tmp_path_factory.mktemp("results")
    for task, base in (("kitchen-complete-v0", 60.0), ("pen-human-v0", 40.0)):
        write_run(root, task, "iql", {seed: [1.0, base + seed] for seed in range(3)})
        for seed in range(8):
            write_run(root, task, "bc", {seed: [99.0, base / 2 + seed]})
    swept = {(seed, beta): [5.0, 10 * beta + seed] for seed in range(2) for beta in (0.5, 2.0)}
    write_run(root, "kitchen-complete-v0", "xql", swept, swept=["beta"], diverged=[(1, 0.5)], beta=1.0)
    write_run(root, "Hopper-v5", "sac", {0: [1234.5]})
    (write_run(root, "pen-human-v0", "xql", {0: [1.0]}) / "summary.json").write_text("{")
    return scores_in(root)


def test_returns_are_marked(tmp_path):
    for task, scale in (("Hopper-v5", 1.0), ("Walker2d-v5", 10.0)):
        write_run(tmp_path, task, "sac", {seed: [scale * (200 + 100 * seed)] for seed in range(3)})
        write_run(tmp_path, task, "td3", {seed: [scale * 1200] for seed in range(3)})
    written = files_of(scores_in(tmp_path))
    assert written["scores.tex"].count("(return)") == 4
    rows = list(csv.DictReader(io.StringIO(written["scores.csv"])))
    assert {(row["quantity"], row["commit"]) for row in rows} == {("return", COMMIT)}


def test_every_file_has_every_score(scores):
    files = files_of(scores)
    rows = {(row["dataset"], row["method"]): row for row in csv.DictReader(io.StringIO(files["scores.csv"]))}
    # 60, 61 and 62: t(0.975, 2) / sqrt(3) = 2.484 to either side. The paper's is that of Table 1.
    iql = rows["kitchen-complete-v0", "iql"]
    names = ("last_score", "interval_95", "last_score_by_seed", "step", "paper_score")
    assert [iql[name] for name in names] == ["61", "2.48414", "60 61 62", "2000", "62.5"]
    swept = rows["kitchen-complete-v0", "xql beta=0.5"]
    assert (swept["last_score"], swept["diverged_seeds"]) == ("5.5", "1")
    assert len(rows) == 7
    for name in ("scores.md", "scores.tex"):
        assert all(cell in files[name] for cell in ("2.5 [62.5]", "5.5", "1234.5 (return)"))
    statistics = list(csv.DictReader(io.StringIO(files["statistics.csv"])))
    [improvement] = [row for row in statistics if row["statistic"] == "probability_of_improvement"]
    assert (improvement["method"], improvement["other"], improvement["value"]) == ("iql", "bc", "1")


def test_statistics_are_over_what_can_be_compared(scores):
    statistics, left_out = compared_scores(scores, 200)
    assert list(statistics.datasets) == ["kitchen-complete-v0", "pen-human-v0"]
    assert list(statistics.aggregates) == ["iql", "bc"]
    assert statistics.aggregates["iql"][0, 0] == 51.0  # the mean of 61 and 41
    assert statistics.improvements["iql", "bc"][0] == 1.0
    assert dict(left_out) == {
        "sac on Hopper-v5": "a return, which is in its task's own unit",
        "xql beta=0.5 on kitchen-complete-v0": "the method has no score on pen-human-v0",
        "xql beta=2 on kitchen-complete-v0": "the method has no score on pen-human-v0",
    }
