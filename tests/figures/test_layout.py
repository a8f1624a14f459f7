"""Nothing on a picture covers anything else: boxes as they are drawn, for every figure."""

import functools
import itertools

import numpy as np
import pytest
from matplotlib.transforms import Bbox
from run_folders import make_run

from xql_jax.figures import FIGURES, FIGURES_OF_RUNS
from xql_jax.figures.recorded_runs import find_runs

SLACK = 1.0  # pixels, at 100 a inch


@functools.cache
def computed(name):
    return FIGURES[name].draw(FIGURES[name].compute(1))


def sweep(root, betas, steps=(10, 20)):
    """A run of XQL over several betas with three seeds, and of IQL with one."""
    folder = make_run(root, "hopper-medium-v2", "xql", "sweep", swept=["beta"])
    lines = ["step,seed,beta,return,score,length,diverged_at,seconds"]
    lines += [
        f"{s},{seed},{beta},0,{s + seed + beta},5,,1" for s in steps for seed in (0, 1, 2) for beta in betas
    ]
    (folder / "evaluations.csv").write_text("\n".join([*lines, ""]))
    make_run(root, "hopper-medium-v2", "iql", "seed0", evaluations=[(steps[0], 0, 300.0)])


def of_runs(name, root):
    tables = FIGURES_OF_RUNS[name].tables(find_runs(root), "")
    return FIGURES_OF_RUNS[name].draw(tables)


def seen_labels(axis, direction):
    """The boxes of an axis's numbers; ticks beyond its ends have some, too, which are not drawn."""
    low, high = axis.axes.get_window_extent().get_points()[:, direction]
    boxes = [label.get_window_extent() for label in axis.get_ticklabels() if label.get_text()]
    middles = [box.get_points()[:, direction].mean() for box in boxes]
    return [
        box for box, middle in zip(boxes, middles, strict=True) if box.width and low - 1 < middle < high + 1
    ]


def assert_nothing_is_covered(figure, narrowest=1.4):
    figure.set_dpi(100)
    figure.draw_without_rendering()
    paper = figure.bbox
    panels = [axes for axes in figure.axes if axes.get_label() != "<colorbar>"]
    legends = [axes.get_legend() for axes in figure.axes if axes.get_legend()] + figure.legends
    boxes = {
        **{f"axes {number}": axes.get_window_extent() for number, axes in enumerate(figure.axes)},
        **{f"legend {number}": legend.get_window_extent() for number, legend in enumerate(legends)},
        **{
            f"title of {axes.get_title()}": axes.title.get_window_extent()
            for axes in panels
            if axes.get_title()
        },
        **{
            f"x of {n}": axes.xaxis.label.get_window_extent()
            for n, axes in enumerate(panels)
            if axes.get_xlabel()
        },
        **{
            f"y of {n}": axes.yaxis.label.get_window_extent()
            for n, axes in enumerate(panels)
            if axes.get_ylabel()
        },
    }
    for number, axes in enumerate(panels):
        for direction, axis in enumerate((axes.xaxis, axes.yaxis)):
            if labels := seen_labels(axis, direction):
                boxes[f"ticks of {'xy'[direction]} {number}"] = Bbox.union(labels)
    for name, box in boxes.items():
        inside = [box.x0 - paper.x0, box.y0 - paper.y0, paper.x1 - box.x1, paper.y1 - box.y1]
        assert min(inside) > -SLACK, (name, inside)
    for (first, a), (second, b) in itertools.combinations(boxes.items(), 2):
        common = Bbox.intersection(a, b)
        assert common is None or min(common.width, common.height) <= SLACK, (first, second)
    for axes in panels:
        assert axes.get_window_extent().width > 100 * narrowest, axes  # none has collapsed
        for axis in (axes.xaxis, axes.yaxis):
            assert axis.get_major_formatter().get_offset() == ""
        places = sorted(seen_labels(axes.xaxis, 0), key=lambda box: box.x0)
        assert all(left.x1 < right.x0 for left, right in itertools.pairwise(places)), axes


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in ("2", "4") else name for name in FIGURES]
)
def test_figures_from_a_seed(name):
    assert_nothing_is_covered(computed(name))


def test_figure_7_after_a_sweep(tmp_path):
    sweep(tmp_path, [0.1, 0.2, 0.3, 0.5, 0.7, 1, 2, 3, 5, 7, 10, 20])
    figure = of_runs("7", tmp_path)
    assert_nothing_is_covered(figure)
    (axes,) = figure.axes
    assert "the best 12 of 13" in axes.get_title()
    means = [line for line in axes.get_lines() if line.get_label()[0] != "_"]
    assert len({(line.get_color(), line.get_linestyle()) for line in means}) == 12
    assert all(line.get_marker() == "o" for line in means)


def test_figure_7_of_a_sweep_evaluated_once(tmp_path):
    sweep(tmp_path, [0.5, 1, 2], steps=(10,))
    figure = of_runs("7", tmp_path)
    assert_nothing_is_covered(figure)
    means = [line for line in figure.axes[0].get_lines() if line.get_label()[0] != "_"]
    assert sorted(line.get_xdata()[0] for line in means) == [0, 1, 2, 3]  # side by side
    assert all(line.get_marker() == "o" for line in means)
    lines = FIGURES_OF_RUNS["7"].describe(FIGURES_OF_RUNS["7"].tables(find_runs(tmp_path), ""))
    assert lines == [
        "last on hopper-medium-v2, mean over seeds:",
        "   1. iql              30.0 (1 seed)",
        "   2. xql beta=2       13.0 ± 2.5 (3 seeds)",
        "   3. xql beta=1       12.0 ± 2.5 (3 seeds)",
        "   4. xql beta=0.5     11.5 ± 2.5 (3 seeds)",
    ]


def test_figures_8_and_9(tmp_path):
    sweep(tmp_path, [0.05, 0.5, 2, 20])
    figure = of_runs("8", tmp_path)
    assert len(figure.axes) == 3
    assert_nothing_is_covered(figure)


def test_figure_3_of_runs_that_diverged(tmp_path):
    for algorithm in ("sac", "xsac"):
        rows = [(10_000, 0, 5.0, 9_000), (10_000, 1, 7.0), (20_000, 0, 5.0, 9_000), (20_000, 1, 8.0)]
        make_run(
            tmp_path, "walker-run", algorithm, "s", evaluations=rows, summary={"restarts": [{"step": 7}]}
        )
    figure = of_runs("3", tmp_path)
    assert_nothing_is_covered(figure)
    texts = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert texts[0] == "sac (1 of 2 diverged) (restarts: 1)"


@pytest.mark.parametrize("seeds", [2, 3])
def test_figure_3_has_bands_from_three_seeds_on(tmp_path, seeds):
    for task, algorithm in itertools.product(("walker-run", "hopper-hop"), ("sac", "xsac", "td3_dq")):
        evaluations = [(step, seed, step * seed) for step in (50_000, 100_000) for seed in range(seeds)]
        make_run(tmp_path, task, algorithm, "seeds", evaluations=evaluations)
    figure = of_runs("3", tmp_path)
    assert_nothing_is_covered(figure)
    for axes in figure.axes:
        bands = [band for band in axes.collections if band.get_paths()]
        assert len(bands) == (len(axes.get_legend().get_texts()) if seeds == 3 else 0)


def test_figure_5_says_what_is_pooled(tmp_path):
    generator = np.random.default_rng(0)
    errors = [(s, seed, e) for s in (5, 10) for seed in (0, 1) for e in generator.normal(size=400)]
    for value in (True, False):
        make_run(tmp_path, "cheetah-run", "sac", f"{value}", errors=errors, uses_value_network=value)
    figure = of_runs("5", tmp_path)
    assert_nothing_is_covered(figure)
    titles = [axes.get_title() for axes in figure.axes]
    assert all("pooled: 2 snapshots of 2 seeds" in title for title in titles)
    words = " ".join(figure.get_suptitle().split())
    assert "A log-likelihood is a mean over the errors" in words
    assert "moved to its ends, where they make two atoms" in words
    legend = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert legend[0] == "1,600 errors, 16 moved to the ends"
    assert all(" nats an error, KS " in text for text in legend[1:])
