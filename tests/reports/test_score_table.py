"""Tables of scores: means and intervals by hand, what is missing, and that every format says the same."""

import csv
import math

import pytest

from xql_jax.reports.paper_tables import TABLES, read_paper_table
from xql_jax.reports.score_table import Entry, ScoreTable

# Mean 3, deviation 1: the half-width is t(0.975, 2) / sqrt(3) = 4.302653 / 1.7320508 = 2.484138.
THREE = Entry(last=(2.0, 3.0, 4.0), best=(9.0, 9.0, 9.0), updates=500, paper=2.5, run="there")
ONE = Entry(last=(-7.25,), best=(1.0,), diverged=1, updates=500)
NONE = Entry(paper=60.0, note="no data: x_y.hdf5")
TABLE = ScoreTable(
    ["kitchen", "maze_a", "maze_b"],
    ["xql", "td3_bc"],
    {
        ("kitchen", "xql"): THREE,
        ("kitchen", "td3_bc"): ONE,
        ("maze_a", "xql"): ONE,
        ("maze_a", "td3_bc"): THREE,
        ("maze_b", "td3_bc"): NONE,
    },
)


def test_an_entry_is_the_last_scores_mean_never_the_best():
    assert (THREE.mean, THREE.interval) == (3.0, pytest.approx(2.484138))
    assert THREE.cell() == "3.0 ± 2.5 [2.5]"
    assert (ONE.cell(), math.isnan(ONE.interval)) == ("-7.2 div", True)
    assert NONE.cell() == "– [60]"
    assert Entry().cell() == "–"


def test_rows_and_the_mean_of_the_datasets_that_are_whole():
    assert TABLE.rows() == [
        ["", "xql", "td3_bc"],
        ["kitchen", "3.0 ± 2.5 [2.5]", "-7.2 div"],
        ["maze_a", "-7.2 div", "3.0 ± 2.5 [2.5]"],
        ["maze_b", "–", "– [60]"],
        ["mean of 2", "-2.1 div", "-2.1 div"],
    ]


def test_text_markdown_and_latex_hold_the_same_cells():
    text = TABLE.as_text().splitlines()
    assert len({len(line) for line in text}) == 1  # the last column is aligned to the right
    assert text[1].split() == ["kitchen", "3.0", "±", "2.5", "[2.5]", "-7.2", "div"]
    markdown = TABLE.as_markdown().splitlines()
    assert markdown[1] == "| --- | ---: | ---: |"
    assert [line.strip("| ").split(" | ") for line in markdown[2:]] == TABLE.rows()[1:]
    latex = TABLE.as_latex()
    assert "\\begin{tabular}{lrr}" in latex
    assert " & xql & td3\\_bc \\\\" in latex
    assert "kitchen & 3.0 $\\pm$ 2.5 [2.5] & -7.2 div \\\\" in latex


def test_csv_has_the_numbers_in_full_and_best_scores_under_their_own_name():
    rows = list(csv.DictReader(TABLE.as_csv().splitlines()))
    assert len(rows) == 6
    first, missing = rows[0], rows[5]
    assert (first["last_score"], first["last_score_by_seed"], first["best_score_by_seed"]) == (
        "3",
        "2 3 4",
        "9 9 9",
    )
    assert (first["paper_score"], first["updates"], first["run"]) == ("2.5", "500", "there")
    assert (missing["last_score"], missing["note"]) == ("", "no data: x_y.hdf5")


@pytest.mark.parametrize("name", TABLES)
def test_the_papers_tables(name):
    table = read_paper_table(name)
    assert len(table.datasets) == len(set(table.datasets)) == {"1": 18, "3": 8}[name]
    assert "xql" in table.methods
    if name == "1":  # read off the paper
        assert table.scores["kitchen-complete-v0", "xql"] == 72.5
        assert table.scores["antmaze-large-play-v0", "xql_t"] == 46.5
        assert table.scores["hopper-medium-replay-v2", "bc10"] == 75.9
        assert ("kitchen-complete-v0", "td3_bc") not in table.scores
    else:
        assert table.scores["pen-human-v0", "brac_p"] == 8.1
