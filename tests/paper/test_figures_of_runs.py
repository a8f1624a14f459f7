"""Figures of runs made by hand: numbers by formula, and what the pictures show."""

import numpy as np
import pytest
from written_runs import write_run

from xql_jax.pictures.style import render
from xql_jax.workshop.paper.columns import where
from xql_jax.workshop.paper.figures import FIGURES_OF_RUNS

T_1 = 12.7062047  # Student's 97.5% quantile of one degree of freedom


def tables(name, root):
    return FIGURES_OF_RUNS[name].compute(root)


def write_errors(folder, errors, swept=""):
    """Writes bellman_errors.csv: rows of step, seed, the swept value if any, and error."""
    lines = [",".join(map(str, row)) for row in errors]
    names = ",".join(filter(None, ("step", "seed", swept, "error")))
    (folder / "bellman_errors.csv").write_text("\n".join([names, *lines, ""]))


def test_figure_3_has_means_and_students_intervals(tmp_path):
    for seed, values in enumerate(([10.0, 30.0], [14.0, 38.0])):
        write_run(tmp_path, "walker-run", "sac", {seed: values}, scale=1.0)
    write_run(tmp_path, "walker-run", "sac", {2: [9.0, 9.0]}, status="interrupted")
    write_run(tmp_path, "hopper-hop", "td3", {5: [1.0, 2.0]}, scale=1.0)
    write_run(tmp_path, "hopper-medium-v2", "xql", {0: [50.0]})
    write_run(tmp_path, "hopper-medium-v2", "xql", {1: [90.0]}, content={"num_pretraining_steps": 5})
    curves = tables("3", tmp_path)["curves"]
    assert set(curves["method"]) == {"sac", "td3"}  # no offline learner
    sac = where(curves, method="sac")
    np.testing.assert_allclose(sac["mean"], [12.0, 34.0])  # of what has finished
    half_width = np.array([2.0, 4.0]) * T_1  # |a - b| / 2
    np.testing.assert_allclose(sac["high"] - sac["mean"], half_width, rtol=1e-6)
    np.testing.assert_allclose(sac["mean"] - sac["low"], sac["high"] - sac["mean"])
    assert np.isnan(where(curves, task="hopper-hop")["low"]).all()  # one seed has no interval
    curves = tables("7", tmp_path)["curves"]  # of offline runs, and none that was fine-tuned
    assert (curves["method"].tolist(), curves["mean"].tolist()) == (["xql"], [50.0])


def test_curves_go_by_step_and_divergence_stands_in_the_legend(tmp_path):
    write_run(tmp_path, "walker-run", "sac", {0: [1.0, None, 3.0]}, scale=1.0)
    write_run(tmp_path, "walker-run", "sac", {1: [3.0, 2.0, 5.0]}, scale=1.0, diverged=[1])
    write_run(tmp_path, "walker-run", "xsac", {(0, 1.0): [4.0], (0, 2.0): [3.0]}, swept=["beta"])
    found = tables("3", tmp_path)
    sac = where(found["curves"], method="sac")
    # At 2,000 only one of the seeds was evaluated, although the other goes on: its value alone is no mean.
    assert (sac["step"].tolist(), sac["mean"].tolist()) == ([1_000, 3_000], [2.0, 4.0])
    assert sac["diverged"].tolist() == [1, 1]
    (axes,) = FIGURES_OF_RUNS["3"].draw(found).axes
    shown = [text.get_text() for text in axes.get_legend().get_texts()]
    assert shown == ["sac (1 of 2 diverged)", "xsac beta=1", "xsac beta=2"]


def test_figures_8_and_9_have_means_intervals_and_shares_of_the_last_scores(tmp_path):
    """Two seeds of two betas at two batch sizes; a score is 10 * beta + seed, doubled at the end."""
    swept = {"swept": ["beta"], "beta": 2.0}
    scores = {(seed, beta): (10 * beta + seed) * np.array([1, 2]) for beta in (0.5, 4.0) for seed in (0, 1)}
    for batch_size in (256, 1024):
        content = {"batch_size": batch_size}
        write_run(tmp_path, "maze", "xql", scores, diverged=[(1, 0.5)], content=content, **swept)
    write_run(tmp_path, "pen-human-v1", "xql", {(0, 1.0): [1.0, 2.0], (0, 2.0): [3.0, 4.0]}, **swept)
    found = tables("8", tmp_path)
    last = where(found["last"], task="maze", method="xql batch_size=256")
    np.testing.assert_array_equal(last["value"], [0.5, 4.0])
    np.testing.assert_allclose(last["score"], [2 * 5.5, 2 * 40.5])
    np.testing.assert_allclose(last["interval"], T_1, rtol=1e-5)
    np.testing.assert_array_equal(last["share_diverged"], [0.5, 0.0])
    assert len(FIGURES_OF_RUNS["8"].draw(found).axes) == 2 * 2  # scores and shares of two tasks
    found = tables("9", tmp_path)
    np.testing.assert_array_equal(np.unique(found["last"]["value"]), [256, 1024])


def test_an_axis_says_of_each_task_whether_it_shows_returns(tmp_path):
    swept = {(0, 1.0): [1.0], (0, 2.0): [2.0]}
    write_run(tmp_path, "Hopper-v5", "xql", swept, scale=1.0, swept=["beta"])
    write_run(tmp_path, "pen-human-v1", "xql", swept, swept=["beta"])
    returns, scores = FIGURES_OF_RUNS["7"].draw(tables("7", tmp_path)).axes
    assert returns.get_title() == "Hopper-v5 (return)"
    assert (returns.get_ylabel(), scores.get_ylabel()) == (
        "return (reward units)",
        "normalised score (percent)",
    )
    returns, scores, *_ = FIGURES_OF_RUNS["8"].draw(tables("8", tmp_path)).axes
    assert (returns.get_ylabel(), scores.get_ylabel()) == (
        "last return (reward units)",
        "last score (percent)",
    )


def test_figure_1_finds_the_law_that_the_errors_have(tmp_path):
    generator = np.random.default_rng(0)
    errors = [(step, 0, error) for step in (5_000, 10_000) for error in generator.gumbel(1.0, 2.0, 4_000)]
    write_errors(write_run(tmp_path, "cheetah-run", "sac", {0: [1.0]}), errors)
    write_errors(write_run(tmp_path, "walker-run", "sac", {0: [1.0]}), errors)
    found = tables("1", tmp_path)
    assert set(found["errors"]["task"]) == {"cheetah-run"}
    values = np.array([error for *_, error in errors])
    clip_range = [found["ranges"]["low"][0], found["ranges"]["high"][0]]
    np.testing.assert_allclose(clip_range, np.quantile(values, [0.005, 0.995]), rtol=1e-7)
    fits = found["fits"]
    assert fits["law"][fits["log_likelihood"].argmax()] == "Gumbel (right-skewed)"
    # The mean log density of G(1, 2) is minus its entropy, log 2 + 0.5772 + 1; the clip moves 1% of them.
    assert fits["log_likelihood"].max() == pytest.approx(-np.log(2.0) - np.euler_gamma - 1.0, abs=0.03)
    found = tables("5", tmp_path)
    assert set(found["errors"]["task"]) == {"cheetah-run", "walker-run"}
    render(FIGURES_OF_RUNS["5"].draw(found))


def test_errors_of_a_sweep_are_apart(tmp_path, caplog):
    swept = {(0, 1): [1.0], (0, 100): [1.0]}
    folder = write_run(tmp_path, "walker-run", "td3", swept, swept=["tau"])
    generator = np.random.default_rng(0)
    rows = [(5, 0, tau, error) for tau in (1, 100) for error in generator.gumbel(0.0, 1.0, 4_000)]
    rows += [(9, 0, 1, error) for error in generator.gumbel(100.0, 1.0, 4_000)]
    write_errors(folder, [*rows, (10, 0, 1, "nan"), (10, 0, 1, 3.0)], "tau")
    found = tables("6", tmp_path)
    assert found["ranges"]["method"].tolist() == ["td3 tau=1", "td3 tau=100"]
    assert "1 of 12002 Bellman errors are not finite, and left out" in caplog.messages
    of_two_heaps = where(found["fits"], law="Gaussian", method="td3 tau=1")
    assert of_two_heaps["log_likelihood"][0] < -5.0
