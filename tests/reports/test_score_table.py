"""Tables of scores: means and intervals by hand, what is missing, and that every format says the same."""

import csv

from members import member

from xql_jax.workshop.reports.score_table import (
    latex_table,
    markdown_table,
    score_csv,
    score_rows,
    text_table,
)
from xql_jax.workshop.reports.scores import PAPER_TABLES, MethodScore, read_paper_table

# Mean 3, deviation 1: the half-width is t(0.975, 2) / sqrt(3) = 4.302653 / 1.7320508 = 2.484138.
THREE = {"members": [member(seed, 9.0, 2.0 + seed) for seed in range(3)], "paper": 2.5}
ONE = {"members": [member(0, 1.0, -7.25, diverged=True)]}
SCORES = [
    MethodScore("kitchen", "xql", **THREE),
    MethodScore("kitchen", "td3_bc", **ONE),
    MethodScore("maze_a", "xql", **ONE),
    MethodScore("maze_a", "td3_bc", **THREE),
    MethodScore("maze_b", "td3_bc", paper=60.0, note="no data: x_y.hdf5"),
]
ROWS = score_rows(SCORES)


def test_fine_tuning_is_before_and_after():
    run = {"handover": 10}
    seeds = [member(seed, seed, 147.0, 2.0 + seed, run=run, diverged=seed == 0) for seed in range(3)]
    tuned = [MethodScore(task, "xql", seeds, paper=2.5, paper_before=1.5) for task in ("a", "b")]
    assert tuned[0].cell() == "1.0 ± 2.5 → 3.0 ± 2.5 div [1.5 → 2.5]"
    assert score_rows(tuned)[-1] == ["mean of 2", "1.0 → 3.0 div"]
    row = next(csv.DictReader(score_csv(tuned).splitlines()))
    names = ("offline_score_by_seed", "offline_score", "paper_offline_score")
    assert [row[name] for name in names] == ["0 1 2", "1", "1.5"]


def test_rows_and_the_mean_of_the_datasets_that_are_whole():
    assert ROWS == [
        ["", "xql", "td3_bc"],
        ["kitchen", "3.0 ± 2.5 [2.5]", "-7.2 div"],
        ["maze_a", "-7.2 div", "3.0 ± 2.5 [2.5]"],
        ["maze_b", "–", "– [60]"],
        ["mean of 2", "-2.1 div", "-2.1 div"],
    ]


def test_text_csv_markdown_and_latex_hold_the_same_numbers():
    text = text_table(ROWS).splitlines()
    assert text[1].split() == ["kitchen", "3.0", "±", "2.5", "[2.5]", "-7.2", "div"]
    first, *_, missing = csv.DictReader(score_csv(SCORES).splitlines())
    assert [first[name] for name in ("last_score", "best_score_by_seed", "run")] == ["3", "9 9 9", "there"]
    assert (missing["last_score"], missing["note"]) == ("", "no data: x_y.hdf5")
    markdown = markdown_table(ROWS).splitlines()
    assert [line.strip("| ").split(" | ") for line in markdown[2:]] == ROWS[1:]
    latex = latex_table(ROWS)
    assert " & xql & td3\\_bc \\\\" in latex
    assert "kitchen & 3.0 $\\pm$ 2.5 [2.5] & -7.2 div \\\\" in latex


def test_the_papers_tables():
    """Some cells read off the paper."""
    tables = {name: read_paper_table(name) for name in PAPER_TABLES}
    assert {name: len(set(table.datasets)) for name, table in tables.items()} == {"1": 18, "2": 6, "3": 8}
    for name, dataset, method, score in (
        ("1", "kitchen-complete-v0", "xql", 72.5),
        ("1", "antmaze-large-play-v0", "xql_t", 46.5),
        ("2", "antmaze-umaze-diverse-v0", "cql", 99.4),
        ("3", "pen-human-v0", "brac_p", 8.1),
    ):
        assert tables[name].scores.get((dataset, method)) == score
    assert tables["2"].before["antmaze-umaze-diverse-v0", "cql"] == 31.1
