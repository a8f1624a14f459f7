"""docs/claims.md is what its program makes of docs/results/; scores without a file are in its template."""

import re
import runpy

import numpy as np
import pytest
from guides import ROOT

from xql_jax.numerics.statistics import mean_and_interval

PROGRAM = "docs/site/claims.py"
NUMBER = r"(−?\d+(?:,\d{3})*(?:\.\d+)?)"
SCORE = rf"{NUMBER}\s+±\s+{NUMBER}"  # which a line may part
claims = runpy.run_path(str(ROOT / PROGRAM))
ELSEWHERE = {  # files that the program does not read, by the page or program that does
    "docs/choosing-beta.md": {
        "nats",
        "stability/kitchen-complete-v0/xql_bellman",
        "stability/kitchen-complete-v0/xql_rescaled",
        "stability/pen-mixed/xql_bellman_huber",
        "stability/pointmaze-umaze-v0/mxql",  # figure_8.png
        "stability/pointmaze-umaze-v0/xql_bellman",
        "stability/pointmaze-umaze-v0/xql_plain",
        "stability/pointmaze-umaze-v0/xql_rescaled_saturate",
    },
    "docs/site/claims.template": {  # its prose
        "antmaze-large-diverse/values_200k",
        "antmaze-medium-diverse/values_appendix_d",
        "antmaze-medium-diverse/xql_beta_1",
        "antmaze-medium-diverse/xql_beta_5",
        "halfcheetah-medium-replay/xql",
        "halfcheetah-medium-replay/xql_awr_temperature_0.3",
        "published",
    },
    "docs/online.md": {
        "finetune/kitchen-causes/actor_lr_3e-5",
        "finetune/kitchen-causes/as-before",
        "finetune/kitchen-causes/temperature_0",
        "finetune/kitchen-causes/temperature_0_actor_lr_3e-5",
    },
    "docs/speed.md": {"accelerator"},
    "benchmarks/losses.py": {"losses/values"},
}


def test_the_page_is_up_to_date():
    page = (ROOT / "docs/claims.md").read_text("utf-8")
    assert claims["page"]() == page, f"run `python {PROGRAM}`"
    assert "{{" not in page  # a cell over two lines was printed as it is typed


@pytest.mark.parametrize(
    ("name", "least", "also"),  # `least` of scores, so that a page that changes its form is not passed over
    [("README.md", 15, False), ("docs/choosing-beta.md", 8, True), ("CHANGELOG.md", 15, True)],
)
def test_scores_of_other_pages_are_the_pages_or_also_of_nats(name, least, also):
    """But of what `make demo` prints, and of earlier releases."""
    text = (ROOT / name).read_text("utf-8").split("\n## 1.0.0", 1)[0]
    shown = re.findall(SCORE, "\n".join(line for line in text.splitlines() if "make demo" not in line))
    known = set(re.findall(SCORE, (ROOT / "docs/claims.md").read_text("utf-8")))
    known |= scores_of_nats() if also else set()
    assert len(shown) >= least
    assert [score for score in shown if score not in known] == []


def scores_of_nats():
    """Means and intervals of docs/results/nats.csv, as pages write them."""
    groups = runpy.run_path(str(ROOT / "benchmarks/nats.py"))["groups"]()
    both = [mean_and_interval([float(row["score"]) for row in rows]) for _, rows in groups if len(rows) > 1]
    written = {tuple(f"{number:,.{digits}f}" for number in pair) for pair in both for digits in (0, 1)}
    return {(mean.replace("-", "−"), interval) for mean, interval in written}


def test_a_number_that_changes_changes_the_page_and_every_file_has_a_reader(monkeypatch):
    functions, read_files = claims["page"].__globals__, set()
    page, read = claims["page"](), functions["read"]

    def changed(name):
        read_files.add(name)
        rows = read(name)
        return (
            [row | {"score": str(float(row["score"]) + 1)} for row in rows]
            if name == "hopper-medium-replay/dt"
            else rows
        )

    monkeypatch.setitem(functions, "read", changed)
    before, after = page.splitlines(), claims["page"]().splitlines()
    (line,) = (one for one, other in zip(before, after, strict=True) if one != other)
    assert line.startswith("| `dt` ")
    present = {str(path.relative_to(claims["RESULTS"]))[:-4] for path in claims["RESULTS"].rglob("*.csv")}
    assert present == read_files.union(*ELSEWHERE.values())


def test_seeds_of_several_files_count_once():
    scores = claims["scores"]
    assert len(scores("xql", "maze")) == 8
    by_seed = [62.32073, 68.8131266, 67.3940018, 65.2766201, 66.0777188]
    assert scores("printed", "walker2d") == pytest.approx(by_seed)
    assert len(scores("default", "walker2d")) == 3
    assert len(scores("xql_rescaled:0.2", "betas")) == 3


def test_the_best_of_several_values_is_taken_on_the_seeds_that_all_have(monkeypatch):
    """On all seeds `a` would be the best with a mean of 5, on seeds 0 and 1 `b` is."""
    runs = {"a": {0: 1.0, 1: 1.0, 2: 13.0}, "b": {0: 2.0, 1: 4.0}, "c": {1: 1.0, 0: 1.5}}
    functions = claims["cell"].__globals__
    monkeypatch.setitem(functions, "of_seeds", lambda method, task: runs[method])
    monkeypatch.setitem(functions, "GROUPS", {"one": (("maze",), ())})
    best_ones, best_others = claims["bests"]("maze", "a,b", "c")
    np.testing.assert_array_equal(best_ones, [2.0, 4.0])
    np.testing.assert_array_equal(best_others, [1.5, 1.0])
    (row,) = claims["cell"]("best_rows one a,b c").splitlines()
    assert row.startswith("| point maze | 1.0 ± 0.0 | 3.0 ± 12.7 | 1.2 ± 3.2 | +1.8 (")
    assert claims["cell"]("best_holds one a,b c") == "0"
    runs["b"] = {0: 20.0, 1: 20.1}
    assert (claims["cell"]("best_holds one a,b c"), claims["cell"]("best_holds one c a,b")) == ("1", "0")


def test_differences_have_the_interval_of_welch():
    """Two pairs with variance 2: standard error sqrt(2), 2 degrees of freedom, quantile 4.3027."""
    value, low, high = claims["difference"](np.array([0.0, 2.0]), np.array([10.0, 12.0]))
    assert (value, low, high) == pytest.approx((-10, -10 - 6.0849, -10 + 6.0849), abs=1e-4)


def test_holms_correction_stops_at_the_first_that_fails():
    """0.005 and 0.01 are below 0.05 / 4 and 0.05 / 3, 0.03 is not below 0.05 / 2, so 0.04 fails, too."""
    together = claims["significant_together"]
    np.testing.assert_array_equal(together(np.array([0.01, 0.04, 0.03, 0.005])), [1, 0, 0, 1])
    assert not together(np.array([0.026, 0.03])).any()


def test_what_holds_is_above_and_not_only_different(monkeypatch):
    """One task is certainly above, one certainly below, and one above but not after the correction."""
    low, high = [0.0, 0.1, 0.2], [10.0, 10.1, 10.2]
    cells = {
        ("xql", "up"): high,
        ("iql", "up"): low,
        ("xql", "down"): low,
        ("iql", "down"): high,
        ("xql", "near"): low,
        ("iql", "near"): [-0.25, -0.15, -0.05],  # p = 0.04
    }
    functions = claims["cell"].__globals__
    monkeypatch.setitem(functions, "GROUPS", {"three": (("up", "down", "near"), ())})
    monkeypatch.setitem(functions, "scores", lambda method, task: np.array(cells[method, task]))
    assert claims["cell"]("holds three xql iql") == "2"
    assert claims["cell"]("holm three xql iql") == "2"
    cells["iql", "down"] = [0.0, 0.1, 0.3]  # p = 0.8: the third is then compared with 0.05 / 2
    assert claims["cell"]("holds three xql iql") == "2"
    assert claims["cell"]("holm three xql iql") == "1"
