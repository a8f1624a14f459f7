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
