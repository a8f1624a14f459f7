"""Figures 8 and 9 from runs that vary beta or the batch size: numbers by hand, and what is no ablation."""

import math
from pathlib import Path

import numpy as np
import pytest

from xql_jax.errors import UserError
from xql_jax.figures import FIGURES_OF_RUNS
from xql_jax.figures.ablations import read
from xql_jax.figures.paper_figure import where
from xql_jax.logs.csv_reader import Row


class FakeRun:
    """A run of XQL with two seeds of each value, whose score is 10 * value + seed, doubled at the end."""

    name, algorithm = "maze", "xql"

    def __init__(self, betas, batch_size=256, diverged=()):
        self.settings = {"config.loss": "plain", "config.beta": 2.0, "batch_size": batch_size}
        self.betas, self.diverged = betas, diverged

    path = Path("maze", "xql", "run")

    def rows(self, file, column):
        assert file.name == "evaluations.csv"
        for step in (100, 200):
            for beta in self.betas:
                for seed in (0, 1):
                    value = 2.0 if beta is None else beta
                    at = 50.0 if (value, seed) in self.diverged else math.nan
                    results = {"score": (10 * value + seed) * step / 100, "diverged_at": at}
                    yield Row(step, seed, () if beta is None else (("beta", beta),), results)


def tables(field, *runs):
    return read(runs, field=field)


def test_figure_8_has_means_intervals_and_shares_of_the_last_scores():
    last = tables("beta", FakeRun([0.5, 4.0], diverged=[(0.5, 1)]))["last"]
    np.testing.assert_array_equal(last["value"], [0.5, 4.0])
    np.testing.assert_allclose(last["score"], [2 * 5.5, 2 * 40.5])
    np.testing.assert_allclose(
        last["interval"], 12.706205 * np.sqrt(2) / np.sqrt(2), rtol=1e-5
    )  # t(0.975, 1)
    np.testing.assert_array_equal(last["share_diverged"], [0.5, 0.0])
    np.testing.assert_array_equal(last["method"], "xql")


def test_figure_9_joins_runs_of_several_batch_sizes():
    found = tables("batch_size", FakeRun([None]), FakeRun([None], batch_size=1024))
    np.testing.assert_array_equal(found["last"]["value"], [256, 1024])
    assert len(where(found["curves"], value=1024.0)["step"]) == 4


@pytest.mark.parametrize("field", ["beta", "batch_size", "expectile"])
def test_runs_that_vary_nothing_are_no_ablation(field):
    with pytest.raises(UserError, match=f"no runs that vary {field}: .*{field}="):
        tables(field, FakeRun([None]))


def test_runs_of_other_settings_are_no_seeds_of_one_method():
    wide = FakeRun([0.5, 4.0], batch_size=1024)
    last = tables("beta", FakeRun([0.5, 4.0]), wide)["last"]
    assert set(last["method"].tolist()) == {"xql batch_size=256", "xql batch_size=1024"}
    assert last["seeds"].tolist() == [2] * 4
    twice = tables("beta", FakeRun([0.5, 4.0]), FakeRun([0.5, 4.0]))["last"]
    assert twice["seeds"].tolist() == [2, 2]  # each seed counts once


@pytest.mark.parametrize("name", ["8", "9"])
def test_it_is_drawn_with_a_panel_for_scores_shares_and_curves(name):
    runs = [FakeRun([0.5, 4.0]), FakeRun([0.5, 4.0], batch_size=1024)]
    figure = FIGURES_OF_RUNS[name].draw(tables({"8": "beta", "9": "batch_size"}[name], *runs))
    assert len(figure.axes) == 3
    assert figure.axes[1].get_ylabel() == "share diverged"


def test_each_tasks_curves_are_of_a_method_that_it_has():
    other = FakeRun([0.5, 4.0])
    other.name = "pen"
    both = (FakeRun([0.5, 4.0]), FakeRun([0.5, 4.0], batch_size=1024), other)
    figure = FIGURES_OF_RUNS["8"].draw(tables("beta", *both))
    curves = [axes for axes in figure.axes if axes.get_ylabel().startswith("score (percent): ")]
    assert [axes.get_ylabel() for axes in curves] == [
        "score (percent): batch_size=1024", "score (percent): as configured",
    ]  # fmt: skip
    assert all(len(line.get_xdata()) == 2 for axes in curves for line in axes.get_lines())


def test_figures_10_to_12_are_of_xql_on_the_suites():
    tasks = {name: FIGURES_OF_RUNS[name].tasks for name in ("10", "11", "12")}
    assert "hopper-medium-v2" in tasks["10"]
    assert "antmaze-umaze-v0" in tasks["11"]
    assert set(tasks["12"]) == {f"kitchen-{kind}-v0" for kind in ("complete", "partial", "mixed")}
