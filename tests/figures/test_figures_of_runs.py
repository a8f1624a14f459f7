"""Figures 1, 3, 5, 6 and 7 from runs made by hand: numbers by formula, and what the pictures show."""

import contextlib
import math

import numpy as np
import pytest
from run_folders import make_run

from xql_jax.errors import UserError
from xql_jax.figures import FIGURES_OF_RUNS
from xql_jax.figures.paper_figure import where
from xql_jax.figures.recorded_runs import find_runs
from xql_jax.reports.palette import LINES
from xql_jax.reports.style import render

T_1, T_2 = 12.7062047, 4.3026527  # Student's 97.5% quantiles of one and two degrees of freedom


def tables(name, root):
    return FIGURES_OF_RUNS[name].tables(find_runs(root), "--runs=here")


@pytest.fixture
def online_runs(tmp_path):
    """SAC with seeds 0 and 1 in two runs, TD3 with seeds 0, 1 and 2 in one, on two tasks."""
    for seed, values in ((0, (10.0, 30.0)), (1, (14.0, 38.0))):
        evaluations = [(step, seed, value) for step, value in zip((10, 20), values, strict=True)]
        make_run(tmp_path, "walker-run", "sac", f"seed{seed}", evaluations=evaluations)
    evaluations = [(step, seed, step * seed) for step in (10, 20) for seed in (0, 1, 2)]
    make_run(tmp_path, "walker-run", "td3", "seeds", evaluations=evaluations)
    make_run(tmp_path, "hopper-hop", "td3", "seed5", evaluations=[(10, 5, 1.0), (20, 5, 2.0)])
    make_run(tmp_path, "hopper-medium-v2", "xql", "seed0", evaluations=[(10, 0, 500.0)])
    return tmp_path


def test_figure_3_has_means_and_students_intervals(online_runs):
    curves = tables("3", online_runs)["curves"]
    assert set(curves["method"]) == {"sac", "td3"}  # no offline learner
    sac = where(curves, method="sac")
    np.testing.assert_allclose(sac["mean"], [12.0, 34.0])
    half_width = np.array([2.0, 4.0]) * T_1  # |a - b| / 2
    np.testing.assert_allclose(sac["high"] - sac["mean"], half_width, rtol=1e-6)
    np.testing.assert_allclose(sac["mean"] - sac["low"], sac["high"] - sac["mean"])
    td3 = where(curves, method="td3", task="walker-run")
    np.testing.assert_allclose(td3["mean"], [10.0, 20.0])
    half_width = np.array([10.0, 20.0]) * T_2 / np.sqrt(3)
    np.testing.assert_allclose(td3["high"] - td3["mean"], half_width, rtol=1e-6)
    assert where(curves, task="hopper-hop")["seeds"].tolist() == [1, 1]
    assert np.isnan(where(curves, task="hopper-hop")["low"]).all()  # of one seed nothing is known


def test_figure_3_has_a_column_a_task_and_a_row_a_family(online_runs):
    make_run(online_runs, "walker-run", "xtd3", "seed0", evaluations=[(10, 0, 8.0), (20, 0, 9.0)])
    figure = FIGURES_OF_RUNS["3"].draw(tables("3", online_runs))
    panels = {}
    for axes in figure.axes:
        names = tuple(text.get_text() for text in axes.get_legend().get_texts())
        panels[axes.get_title(), names] = axes
    assert set(panels) == {
        ("walker-run", ("sac",)), ("walker-run", ("td3", "xtd3")), ("hopper-hop", ("td3",))
    }  # fmt: skip
    sac = panels["walker-run", ("sac",)]
    mean, *of_seeds = sac.get_lines()
    assert (mean.get_label(), list(mean.get_ydata())) == ("sac", [12.0, 34.0])
    assert [list(line.get_ydata()) for line in of_seeds] == [[10.0, 30.0], [14.0, 38.0]]
    assert not sac.collections  # an interval of two seeds says nothing
    (band,) = panels["walker-run", ("td3", "xtd3")].collections  # of three seeds; of XTD3 there is one
    assert band.get_paths()[0].vertices[:, 1].max() == pytest.approx(20.0 + 20.0 * T_2 / np.sqrt(3))
    assert sac.get_ylim() == (10.0 - 1.4, 38.0 + 1.4)  # of the seeds, with a twentieth around
    colours = {axes.get_lines()[0].get_color() for key, axes in panels.items() if key[1][0] == "td3"}
    assert colours == {LINES[0]}  # the same on every task


def test_figure_7_shows_scores_of_offline_runs(online_runs):
    curves = tables("7", online_runs)["curves"]
    assert (curves["method"].tolist(), curves["mean"].tolist()) == (["xql"], [50.0])


def test_figure_7_leaves_fine_tuned_runs_out(online_runs):
    """Their steps are of an environment."""
    make_run(online_runs, "hopper-medium-v2", "xql", "tuned", evaluations=[(10, 1, 900.0)],
             settings={"num_pretraining_steps": 5})  # fmt: skip
    curves = tables("7", online_runs)["curves"]
    assert (curves["method"].tolist(), curves["mean"].tolist()) == (["xql"], [50.0])


def test_curves_go_by_step_where_seeds_have_other_steps(tmp_path):
    make_run(tmp_path, "walker-run", "sac", "seed0", evaluations=[(10, 0, 1.0), (30, 0, 3.0)])
    evaluations = [(10, 1, 3.0), (20, 1, 2.0), (30, 1, 5.0, 25)]
    make_run(tmp_path, "walker-run", "sac", "seed1", evaluations=evaluations)
    found = tables("3", tmp_path)
    assert found["curves"]["step"].tolist() == [10, 20, 30]
    assert found["curves"]["mean"].tolist() == [2.0, 2.0, 4.0]
    (axes,) = FIGURES_OF_RUNS["3"].draw(found).axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["sac (1 of 2 diverged)"]


def test_each_panel_shows_the_best_of_its_own_task(tmp_path):
    for number in range(20):
        for task, value in (("hopper-medium-v2", number), ("walker2d-medium-v2", 20 - number)):
            make_run(tmp_path, task, "xql", str(number), evaluations=[(10, 0, value), (20, 0, value)],
                     beta=float(number))  # fmt: skip
    figure = FIGURES_OF_RUNS["7"].draw(tables("7", tmp_path))
    for axes, best in zip(figure.axes, (range(8, 20), range(12)), strict=True):
        assert axes.get_title().endswith(": the best 12 of 20")
        named = {text.get_text() for text in axes.get_legend().get_texts()}
        assert named == {str(number) for number in best}


def test_a_sweeps_settings_are_methods(tmp_path):
    folder = make_run(tmp_path, "walker-run", "sac", "sweep", swept=["tau"])
    lines = ["step,seed,tau,return,score,length,diverged_at,seconds"]
    lines += [f"10,{seed},{tau},{seed + tau},0,5,,1" for seed in (0, 1) for tau in (0.5, 8)]
    (folder / "evaluations.csv").write_text("\n".join([*lines, ""]))
    curves = tables("3", tmp_path)["curves"]
    assert dict(zip(curves["method"].tolist(), curves["mean"].tolist(), strict=True)) == {
        "sac tau=0.5": 1.0,
        "sac tau=8": 8.5,
    }


def test_a_seed_that_is_there_twice_is_counted_once(tmp_path, caplog):
    for place, value in (("a", 1.0), ("b", 5.0)):
        make_run(tmp_path / place, "walker-run", "sac", "seed0", evaluations=[(10, 0, value)])
    assert tables("3", tmp_path)["curves"]["mean"].tolist() == [1.0]
    (message,) = caplog.messages
    assert message.startswith(f"{tmp_path}/b/")
    assert "seed 0 is counted once, in " in message


def test_divergence_and_restarts_stand_in_tables_and_legend(tmp_path):
    make_run(tmp_path, "walker-run", "sac", "seed0", evaluations=[(10, 0, 1.0), (20, 0, 2.0)])
    make_run(tmp_path, "walker-run", "sac", "seed1", evaluations=[(10, 1, 1.0), (20, 1, 0.0, 15)])
    restarts = {"restarts": [{"step": 7}, {"step": 9}]}
    make_run(tmp_path, "walker-run", "xsac", "seed0", evaluations=[(10, 0, 4.0)], summary=restarts)
    found = tables("3", tmp_path)
    assert where(found["curves"], method="sac")["diverged"].tolist() == [0, 1]
    assert found["seeds"]["diverged"].tolist() == [False, False, False, True, False]
    (axes,) = FIGURES_OF_RUNS["3"].draw(found).axes
    texts = [text.get_text() for text in axes.get_legend().get_texts()]
    assert texts == ["sac (1 of 2 diverged)", "xsac (restarts: 2)"]


def test_restarts_in_a_sweep_are_their_settings(tmp_path):
    restarts = {"restarts": [{"member": "seed 0, beta=2", "step": 7}] * 2}
    folder = make_run(tmp_path, "walker-run", "xsac", "swept", swept=["beta"], summary=restarts)
    rows = "10,0,1,4.0,0.4,5,,1\n10,0,2,3.0,0.3,5,,1\n"
    (folder / "evaluations.csv").write_text(f"step,seed,beta,return,score,length,diverged_at,seconds\n{rows}")
    found = tables("3", tmp_path)["restarts"]
    assert dict(zip(found["method"], found["restarts"], strict=True)) == {"xsac beta=1": 0, "xsac beta=2": 2}


@pytest.mark.parametrize("row", ["20,0", "20,0,x,0,5,,1"])
def test_a_run_whose_file_is_damaged_is_left_out(tmp_path, caplog, row):
    damaged = make_run(tmp_path, "walker-run", "sac", "seed0", evaluations=[(10, 0, 1.0)])
    make_run(tmp_path, "walker-run", "sac", "seed1", evaluations=[(10, 1, 2.0)])
    with (damaged / "evaluations.csv").open("a") as file:
        file.write(f"{row}\n")
    assert tables("3", tmp_path)["seeds"]["seed"].tolist() == [1]
    (message,) = caplog.messages
    assert message.startswith(f"{damaged}/evaluations.csv: damaged: ")
    assert message.endswith("; its run is left out")


def test_returns_that_are_not_finite_are_left_out(tmp_path, caplog):
    values = [(10, 0, 1.0), (20, 0, math.nan), (30, 0, math.inf), (40, 0, 1e308), (50, 0, -2.0)]
    make_run(tmp_path, "walker-run", "sac", "seed0", evaluations=values)
    found = tables("3", tmp_path)
    assert found["curves"]["step"].tolist() == [10, 50]
    assert caplog.messages == ["3 of 5 returns are not finite, and left out"]
    render(FIGURES_OF_RUNS["3"].draw(found))


def test_a_name_between_dollars_is_drawn(tmp_path):
    name = r"$\foo$"
    for beta in (1.0, name):
        make_run(tmp_path, name, "sac", f"{beta}", evaluations=[(10, 0, 1.0)], errors=gumbel_errors(0.0, 1.0),
                 beta=beta)  # fmt: skip
    for figure in ("3", "5"):
        picture = FIGURES_OF_RUNS[figure].draw(tables(figure, tmp_path))
        assert name in "".join(axes.get_title() for axes in picture.axes)
        assert render(picture)[:4] == b"\x89PNG"


FUZZED = ("config.json", "summary.json", "evaluations.csv", "bellman_errors.csv")


@pytest.mark.slow
@pytest.mark.parametrize("file_name", FUZZED)
def test_a_flipped_byte_is_told_or_left_out(tmp_path, file_name):
    """Never more than a warning and a line, whatever one byte of a run's files becomes."""
    generator = np.random.default_rng(0)
    for seed in (0, 1):
        errors = [(step, seed, error) for step, _, error in gumbel_errors(0.0, 1.0, count=40)]
        evaluations, more = [(10, seed, 1.5), (20, seed, 33.25)], {"restarts": [{"step": 3}]}
        make_run(tmp_path, "cheetah-run", "sac", f"seed{seed}", evaluations=evaluations, errors=errors,
                 summary=more, beta=1.0, widths=[8, 8])  # fmt: skip
    file = tmp_path / "cheetah-run" / "sac" / "seed0" / file_name
    content = file.read_bytes()
    name = "1" if file_name == "bellman_errors.csv" else "3"
    read = 0
    for trial in range(50):
        damaged = bytearray(content)
        position = generator.integers(min(len(content), 400))
        damaged[position] = generator.integers(256) if trial % 2 else damaged[position] ^ 1 << trial % 8
        file.write_bytes(damaged)
        with contextlib.suppress(UserError):
            found = tables(name, tmp_path)
            read += 1
            if trial % 10 == 0:
                render(FIGURES_OF_RUNS[name].draw(found), dpi=10)
    assert read > 25


def test_errors_of_a_sweep_are_apart_and_those_that_are_not_finite_left_out(tmp_path, caplog):
    folder = make_run(tmp_path, "walker-run", "sac", "sweep", swept=["tau"])
    generator = np.random.default_rng(0)
    lines = [f"5,0,{tau},{error}" for tau in (1, 100) for error in generator.normal(tau, 1.0, 500)]
    text = "\n".join(["step,seed,tau,error", *lines, "10,0,1,nan", "10,0,1,inf", "10,0,1,3.0", ""])
    (folder / "bellman_errors.csv").write_text(text)
    found = tables("5", tmp_path)
    assert found["ranges"]["method"].tolist() == ["sac tau=1", "sac tau=100"]
    np.testing.assert_allclose(found["ranges"]["low"], [-2.0, 97.0], atol=1.5)
    assert "2 of 1003 Bellman errors are not finite, and left out" in caplog.messages
    assert set(found["fits_by_step"]["step"].tolist()) == {5}  # one error alone has no scale


def gumbel_errors(location, scale, steps=(5_000, 10_000), count=4_000):
    generator = np.random.default_rng(0)
    return [(step, 0, error) for step in steps for error in generator.gumbel(location, scale, count)]


def test_figure_1_finds_the_law_that_the_errors_have(tmp_path):
    errors = gumbel_errors(1.0, 2.0)
    make_run(tmp_path, "cheetah-run", "sac", "seed0", errors=errors)
    make_run(tmp_path, "walker-run", "sac", "seed0", errors=[(step, seed, -e) for step, seed, e in errors])
    found = tables("1", tmp_path)
    assert set(found["errors"]["task"]) == {"cheetah-run"}
    values = np.array([error for *_, error in errors])
    np.testing.assert_allclose(found["errors"]["value"], values, rtol=1e-8)
    clip_range = [found["ranges"]["low"][0], found["ranges"]["high"][0]]
    np.testing.assert_allclose(clip_range, np.quantile(values, [0.005, 0.995]), rtol=1e-7)
    fits = found["fits"]
    assert fits["law"][fits["log_likelihood"].argmax()] == "Gumbel (right-skewed)"
    assert fits["law"][fits["kolmogorov_smirnov"].argmin()] == "Gumbel (right-skewed)"
    # The mean log density of G(1, 2) is minus its entropy, log 2 + 0.5772 + 1; the clip moves 1% of them.
    assert fits["log_likelihood"].max() == pytest.approx(-np.log(2.0) - np.euler_gamma - 1.0, abs=0.03)
    assert sorted(set(found["fits_by_step"]["step"].tolist())) == [5_000, 10_000]
    both = tables("5", tmp_path)["fits"]
    assert set(where(both, task="walker-run")["law"]) == {"Gumbel (left-skewed)", "Gaussian", "logistic"}
    figure = FIGURES_OF_RUNS["5"].draw(tables("5", tmp_path))
    assert [axes.get_title().split("\n")[0] for axes in figure.axes] == [
        "sac on cheetah-run",
        "sac on walker-run",
    ]
    assert "80 moved to the ends" in figure.axes[0].get_legend().get_texts()[0].get_text()


def test_a_steps_own_fit_is_of_its_errors_alone(tmp_path):
    errors = [*gumbel_errors(0.0, 1.0, steps=(5_000,)), *gumbel_errors(100.0, 1.0, steps=(10_000,))]
    make_run(tmp_path, "cheetah-run", "td3", "seed0", errors=errors)
    found = tables("6", tmp_path)
    own = where(found["fits_by_step"], law="Gumbel (right-skewed)")["log_likelihood"]
    np.testing.assert_allclose(own, -np.euler_gamma - 1.0, atol=0.03)
    assert where(found["fits"], law="Gaussian")["log_likelihood"][0] < -5.0  # of two heaps together


def test_what_is_lacking_is_told(tmp_path):
    make_run(tmp_path, "walker-run", "sac", "seed0")
    with pytest.raises(UserError, match=r"--runs=here: needs .* of td3; there are: sac on walker-run"):
        tables("6", tmp_path)
    with pytest.raises(UserError, match=r"needs .* of sac on cheetah-run; there are: sac on walker-run"):
        tables("1", tmp_path)
    with pytest.raises(UserError, match="--bellman_error_interval"):
        tables("5", tmp_path)
    with pytest.raises(UserError, match="nothing was evaluated"):
        tables("3", tmp_path)
