"""docs/claims.md is what its program makes of docs/results/, and no figure of its tables is typed."""

import runpy

import numpy as np
import pytest
from guides import ROOT

PROGRAM = "docs/site/claims.py"
claims = runpy.run_path(str(ROOT / PROGRAM))


def test_the_page_is_up_to_date():
    page = (ROOT / "docs/claims.md").read_text("utf-8")
    assert claims["page"]() == page, f"run `python {PROGRAM}`"


def test_seeds_of_several_files_count_once():
    scores = claims["scores"]
    assert len(scores("xql@maze")) == 8
    by_seed = [62.32073, 68.8131266, 67.3940018, 65.2766201, 66.0777188]
    assert scores("printed@walker2d") == pytest.approx(by_seed)
    assert len(scores("default@walker2d")) == 3
    assert len(scores("xql_rescaled@betas:0.2")) == 3


def test_differences_have_the_interval_of_welch():
    """Two pairs with variance 2: standard error sqrt(2), 2 degrees of freedom, quantile 4.3027."""
    value, low, high = claims["difference"](np.array([0.0, 2.0]), np.array([10.0, 12.0]))
    assert (value, low, high) == pytest.approx((-10, -10 - 6.0849, -10 + 6.0849), abs=1e-4)


def test_holms_correction_stops_at_the_first_that_fails():
    """0.005 and 0.01 are below 0.05 / 4 and 0.05 / 3, 0.03 is not below 0.05 / 2, so 0.04 fails, too."""
    np.testing.assert_array_equal(claims["holm"](np.array([0.01, 0.04, 0.03, 0.005])), [1, 0, 0, 1])
    assert not claims["holm"](np.array([0.026, 0.03])).any()


def test_what_holds_is_above_and_not_only_different(monkeypatch):
    """One task is certainly above, one certainly below, and one above but not after the correction."""
    low, high = [0.0, 0.1, 0.2], [10.0, 10.1, 10.2]
    cells = {
        "xql@up": high,
        "iql@up": low,
        "xql@down": low,
        "iql@down": high,
        "xql@near": low,
        "iql@near": [-0.25, -0.15, -0.05],  # p = 0.04
    }
    functions = claims["figure"].__globals__
    monkeypatch.setitem(functions, "GROUPS", {"three": (("up", "down", "near"), ())})
    monkeypatch.setitem(functions, "scores", lambda cell: np.array(cells[cell]))
    assert claims["figure"]("three holds xql - iql") == "2"
    assert claims["figure"]("three Holm xql - iql") == "2"
    cells["iql@down"] = [0.0, 0.1, 0.3]  # p = 0.8: the third is then compared with 0.05 / 2
    assert claims["figure"]("three holds xql - iql") == "2"
    assert claims["figure"]("three Holm xql - iql") == "1"


def test_gains_are_in_pairs(tmp_path, monkeypatch):
    (tmp_path / "run.csv").write_text("step,seed,score\n0,3,1\n0,4,5\n10,4,6\n10,3,4\n20,3,2\n20,4,9\n")
    monkeypatch.setitem(claims["read"].__globals__, "RESULTS", tmp_path)
    np.testing.assert_array_equal(claims["gains"]("run", 0), [1, 4])
    np.testing.assert_array_equal(claims["gains"]("run", 10), [-2, 3])


def test_an_area_is_the_mean_of_all_evaluations_up_to_the_last_that_counts(tmp_path, monkeypatch):
    (tmp_path / "cheetah-run").mkdir()
    rows = "step,seed,score\n50000,1,4\n100000,1,6\n50000,0,1\n100000,0,2\n100001,0,99\n"
    (tmp_path / "cheetah-run" / "sac.csv").write_text(rows)
    monkeypatch.setitem(claims["read"].__globals__, "RESULTS", tmp_path)
    np.testing.assert_array_equal(claims["scores"]("sac@cheetah-run"), [2, 6])
    np.testing.assert_array_equal(claims["scores"]("sac@cheetah-run", area=True), [1.5, 5])


def test_laws_are_compared_by_seed(tmp_path, monkeypatch):
    (tmp_path / "bellman_errors.csv").write_text(
        "task,method,seed,law,log_likelihood\nrun,sac,0,Gumbel,0.5\nrun,sac,0,Gaussian,0.25\n"
        "run,td3,0,Gumbel,9\nrun,td3,0,Gaussian,9\nrun,sac,1,Gaussian,1\nrun,sac,1,Gumbel,-1\n"
    )
    monkeypatch.setitem(claims["read"].__globals__, "RESULTS", tmp_path)
    np.testing.assert_array_equal(claims["log_likelihoods"]("sac@run"), [0.25, -2])
    assert claims["figure"]("nearer sac@run") == "1 of 2"
