"""The report's files: numbers by hand, the same in every format."""

import csv
import io
import re

import pytest
from scipy import stats
from written_runs import COMMIT, write_run

from xql_jax.errors import UserError
from xql_jax.workshop.reports.score_table import report_files
from xql_jax.workshop.reports.scores import method_scores, read_runs, references_given
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


def tables(text):
    """The cells of the tables in Markdown."""
    blocks = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    return [[line.strip("| ").split(" | ") for line in block] for block in blocks]


def test_success_has_wilsons_interval_in_a_table_and_in_the_csv(tmp_path):
    """2 + 9 of 2 * 10 episodes; a method that tells none has none."""
    rates = {0: 0.2, 1: 0.9}
    write_run(tmp_path, "kitchen-complete-v0", "xql", {0: [5.0], 1: [7.0]}, success=rates)
    write_run(tmp_path, "kitchen-complete-v0", "bc", {0: [5.0], 1: [7.0]})
    files = files_of(scores_in(tmp_path))
    low, high = stats.binomtest(11, 20).proportion_ci(method="wilson")
    cell = f"55.0% [{low:.1%}, {high:.1%}]"
    assert tables(files["scores.md"])[1][2] == ["kitchen-complete-v0", "–", cell]
    assert cell.replace("%", "\\%") in files["scores.tex"]
    bc, xql = csv.DictReader(io.StringIO(files["scores.csv"]))
    names = ("success_rate", "success_low_95", "success_high_95")
    assert [float(xql[name]) for name in names] == pytest.approx([0.55, low, high], rel=1e-5)
    assert [bc[name] for name in names] == ["", "", ""]


def test_what_left_parts_runs_in_which_it_had_an_effect(tmp_path):
    """A policy followed `policy_sharpness` where beta was found; where it was given, it stood there idle."""
    for task, nats in (("kitchen-complete-v0", 0.25), ("pen-human-v0", 0.0)):
        for seed, sharpness, score in ((0, 0.5, 10.0), (1, 6.0, 90.0)):
            write_run(tmp_path, task, "xql", {seed: [score]}, beta_nats=nats, policy_sharpness=sharpness)
    told = {(one.dataset, one.method): one.last for one in scores_in(tmp_path)}
    assert told == {
        ("kitchen-complete-v0", "xql policy_sharpness=0.5"): (10.0,),
        ("kitchen-complete-v0", "xql policy_sharpness=6"): (90.0,),
        ("pen-human-v0", "xql"): (10.0, 90.0),
    }


def test_settings_of_a_sweep_are_rows(tmp_path):
    """With one column each; in LaTeX all lines have as many cells as the head declares."""
    grid = [(seed, beta, tau) for seed in (0, 1) for beta in (0.5, 10.0, 2.0) for tau in (0.1, 0.2)]
    for dataset in ("[mine]_1|2", "<other>"):
        swept = {key: [10 * key[1] + key[2]] for key in grid}
        content = {"references": [0.0, 100.0]}
        write_run(
            tmp_path, dataset, "xql", swept, swept=["beta", "tau"], content=content, success={0: 1, 1: 0}
        )
        write_run(tmp_path, dataset, "bc", {0: [1.0]}, content=content)
    files = files_of(scores_in(tmp_path))
    [head, _, *rows] = tables(files["scores.md"])[0]
    assert head == ["method", "beta", "tau", "score", "success"]
    assert [row[2:4] for row in rows[:7]] == [
        *([["", ""]]),
        *([beta, tau] for beta in ("0.5", "2", "10") for tau in ("0.1", "0.2")),
    ]
    assert rows[4][1:] == ["xql", "2", "0.2", "20.2 ± 0.0", "50.0% [29.9%, 70.1%]"]
    assert rows[-1][:5] == ["mean of 2", "xql", "10", "0.2", "100.2"]
    latex = files["scores.tex"].split("\n\n")[0]
    columns = re.search(r"\\begin\{tabular\}\{(l(r*))\}", latex)[1]
    lines = [line for line in latex.splitlines() if line.endswith("\\\\")]
    assert {len(line.split(" & ")) for line in lines} == {len(columns)}
    assert not any(line.startswith("[") for line in lines)  # an argument of the line's end before
    assert "{}[mine]\\_1\\textbar{}2 & xql & 0.5 & 0.1" in latex


def test_references_make_scores_of_returns(tmp_path):
    """Returns 200 and 400 between 100 and 300 are 50 and 150, also of a run that had others."""
    write_run(tmp_path, "mine", "xql", {0: [200.0], 1: [400.0]}, scale=1.0)
    write_run(tmp_path, "mine", "bc", {0: [20.0]}, scale=10.0, content={"references": [0.0, 1_000.0]})
    given = references_given(["mine=100,300"])
    bc, xql = method_scores(read_runs([str(tmp_path)], references=given).members)
    assert (xql.method, xql.last, bc.method, bc.last) == ("xql", (50.0, 150.0), "bc", (50.0,))
    statistics, left_out = compared_scores([bc, xql], 200)
    assert ([*statistics.aggregates], left_out) == (["xql", "bc"], [])


@pytest.mark.parametrize("text", ["mine", "mine=1", "mine=a,2", "mine=2,1", "mine=0,inf", "pen-human-v0=0,1"])
def test_references_that_cannot_be_are_refused(text):
    with pytest.raises(UserError, match=f"^--references={text}: "):
        references_given([text])
