"""The report's files: numbers by hand, the same in every format; names are never obeyed."""

import csv
import io
import re

import pytest
from written_runs import COMMIT, write_run

from xql_jax.errors import UserError
from xql_jax.suites.tasks import references_given
from xql_jax.workshop.reports.read_runs import read_runs
from xql_jax.workshop.reports.report import Report

EVIL = "<b>&{{7*7}}"  # a name that is text, and neither HTML nor a template


def report_of(root, title, *references):
    return Report(read_runs([str(root)]), title, 200, references)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """Two methods on two datasets of the paper, a sweep with a diverged member, a return, and damage."""
    root = tmp_path_factory.mktemp("results")
    for task, base in (("kitchen-complete-v0", 60.0), ("pen-human-v0", 40.0)):
        write_run(root, task, "iql", {seed: [1.0, base + seed] for seed in range(3)})
        for seed in range(8):
            write_run(root, task, "bc", {seed: [99.0, base / 2 + seed]})
    swept = {(seed, beta): [5.0, 10 * beta + seed] for seed in range(2) for beta in (0.5, 2.0)}
    write_run(root, "kitchen-complete-v0", "xql", swept, swept=["beta"], diverged=[(1, 0.5)], beta=1.0)
    write_run(root, "Hopper-v5", "sac", {0: [1234.5]}, content={"note": EVIL})
    (write_run(root, "pen-human-v0", "xql", {0: [1.0]}) / "summary.json").write_text("{")
    return report_of(root, "results")


def test_returns_are_marked_and_reference_returns_make_scores_of_them(tmp_path):
    for task, scale in (("Hopper-v5", 1.0), ("Walker2d-v5", 10.0)):
        write_run(tmp_path, task, "sac", {seed: [scale * (200 + 100 * seed)] for seed in range(3)})
        write_run(tmp_path, task, "td3", {seed: [scale * 1200] for seed in range(3)})
    written = report_of(tmp_path, "results").files("")
    assert written["scores.tex"].count("(return)") == 4
    rows = list(csv.DictReader(io.StringIO(written["scores.csv"])))
    assert {(row["quantity"], row["commit"], row["cumulative_regret"]) for row in rows} == {
        ("return", COMMIT, "")
    }
    of_one = report_of(tmp_path, "results", "Hopper-v5=200,1200").files("")
    assert "<td>0.0, 10.0, 20.0</td>" in of_one["index.html"]  # by seed, as the mean
    assert of_one["scores.tex"].count("(return)") == 2
    assert "10.0 $\\pm$ 24.8 & 100.0" in of_one["scores.tex"]  # 0, 10 and 20: t(0.975, 2) * 10 / sqrt(3)
    both = report_of(tmp_path, "results", "Hopper-v5=200,1200", "Walker2d-v5=2000,12000")
    assert "(return)" not in both.files("")["scores.tex"]
    assert both.statistics.aggregates["sac"][0, 1] == pytest.approx(10.0)


@pytest.mark.parametrize("text", ["Hopper-v5=1,1", "Hopper-v5=a,2", "Ant-v5=1,2"])
def test_reference_returns_that_cannot_be_are_refused(text):
    with pytest.raises(UserError, match=re.escape(text)):
        references_given([text], {"Hopper-v5"})


@pytest.fixture(scope="module")
def files(report):
    return report.files("Made by hand.")


def test_the_page_has_every_score_and_run_and_needs_nothing_from_elsewhere(files):
    page = files["index.html"]
    rows = [" ".join(re.sub("<[^>]+>", " ", row).split()) for row in page.split("<tr>")]
    # 60, 61 and 62: t(0.975, 2) / sqrt(3) = 2.484 to either side. The paper's is that of Table 1.
    (iql,) = (row for row in rows if row.startswith("kitchen-complete-v0 iql"))
    assert iql.startswith("kitchen-complete-v0 iql 61.0 ± 2.5 61.0 62.5 2,000 60.0, 61.0, 62.0")
    assert any(row.startswith("kitchen-complete-v0 xql beta=0.5 5.5") and "diverged" in row for row in rows)
    links = set(re.findall(r'href="([^"]*)"', page))
    assert {link for link in links if not link.startswith("#")} == files.keys() - {"index.html"}
    assert {link[1:] for link in links if link.startswith("#")} <= set(re.findall(r'id="([^"]*)"', page))
    assert page.count('src="data:image/png;base64,') == page.count("src=") == 3
    assert f"commit: {COMMIT}" in page
    assert "61.0 min" in page
    assert "250 updates per second" in page
    assert "simulator:  mujoco=3.8.1" in page
    assert "note in config.json: &lt;b&gt;&amp;{{7*7}}" in page
    assert "summary.json: damaged: it is not JSON" in page


def test_statistics_are_over_what_can_be_compared(report):
    statistics = report.statistics
    assert list(statistics.datasets) == ["kitchen-complete-v0", "pen-human-v0"]
    assert list(statistics.aggregates) == ["iql", "bc"]
    assert statistics.aggregates["iql"][0, 1] == 51.0  # the mean of 61 and 41
    assert statistics.improvements["iql", "bc"][0] == 1.0
    assert dict(report.not_compared) == {
        "sac on Hopper-v5": "a return, which is in its task's own unit",
        "xql beta=0.5 on kitchen-complete-v0": "the method has no score on pen-human-v0",
        "xql beta=2 on kitchen-complete-v0": "the method has no score on pen-human-v0",
    }
