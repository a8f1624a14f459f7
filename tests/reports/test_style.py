"""Colours can be told apart, names stay short and in order, files have the same bytes every time."""

import itertools
import xml.etree.ElementTree as ElementTree

import matplotlib
import numpy as np
import pytest
from colour_sight import SIGHTS, lab
from matplotlib.figure import Figure

from xql_jax.reports import style
from xql_jax.reports.line_looks import looks_of
from xql_jax.reports.palette import INK, LINES, WALL, scale


def test_lab_of_known_colours():
    np.testing.assert_allclose(lab("white"), (100, 0, 0), atol=0.02)
    np.testing.assert_allclose(lab("red"), (53.24, 80.09, 67.20), atol=0.05)
    # Who lacks a cone sees reds and greens of one lightness alike.
    far, near = (
        np.linalg.norm(lab("#c05000", sight) - lab("#8a7a00", sight)) for sight in ("normal", "deuteranopia")
    )
    assert near < 0.35 * far


@pytest.mark.parametrize("sight", SIGHTS)
def test_colours_are_told_apart(sight):
    distances = [np.linalg.norm(lab(a, sight) - lab(b, sight)) for a, b in itertools.combinations(LINES, 2)]
    assert min(distances) > 12
    on_paper = [np.linalg.norm(lab(color, sight) - lab("white", sight)) for color in (*LINES, *scale(12))]
    assert min(on_paper) > 30


@pytest.mark.parametrize("sight", SIGHTS)
@pytest.mark.parametrize("count", [3, 12])
def test_the_scale_grows_lighter_and_never_repeats(sight, count):
    lightness = [lab(color, sight)[0] for color in scale(count)]
    assert (np.diff(lightness) > 40 / count).all()


def test_looks_have_an_order_and_short_names():
    looks = looks_of(f"xql loss=plain beta={beta}" for beta in (10, 2, 0.5))
    assert [look.label for look in looks.by_name.values()] == [
        "loss=plain beta=0.5", "loss=plain beta=2", "loss=plain beta=10",
    ]  # fmt: skip
    assert looks.title == "xql"
    looks = looks_of(["xql beta=10", "xql beta=2"])
    assert (looks.title, [look.label for look in looks.by_name.values()]) == ("xql beta", ["2", "10"])
    looks = looks_of(["xsac", 'sac widths=[8, 8] loss="a"', "sac"])
    assert [look.label for look in looks.by_name.values()] == ["sac", "sac widths=[8, 8] loss=a", "xsac"]
    assert looks_of(["beta=0.5"]).by_name["beta=0.5"].label == "beta=0.5"


@pytest.mark.parametrize("count", [2, 6, 7, 40])
def test_no_two_lines_look_the_same(count):
    for names in (
        [f"m{number}" for number in range(count)],
        [f"xql beta={number}" for number in range(count)],
    ):
        looks = looks_of(names).by_name.values()
        assert len({(look.color, look.linestyle) for look in looks}) == count


def figure_of_a_line():
    with style.the_style():
        figure = Figure(figsize=(3, 2))
        axes = figure.add_subplot()
        axes.plot([0, 100_000], [12.5, 13.5], label="a line")
        axes.set(xlabel="updates", title="a title")
        style.count_axis(axes.xaxis)
        style.legend_below(axes)
    return figure


@pytest.mark.parametrize("kind", style.FORMATS)
def test_the_same_figure_has_the_same_bytes(kind, monkeypatch):
    first = style.render(figure_of_a_line(), kind)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1")  # at another time
    assert style.render(figure_of_a_line(), kind) == first
    head = {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}[kind]
    assert first.startswith(head)
    if kind == "svg":
        root = ElementTree.fromstring(first)
        paper = root.find(".//{*}g[@id='patch_1']/{*}path")
        assert "fill: #ffffff" in paper.get("style")  # on a dark page, too, it stands on white


def test_the_users_own_settings_play_no_part(monkeypatch):
    first = style.render(figure_of_a_line())
    monkeypatch.setitem(matplotlib.rcParams, "lines.linewidth", 9.0)
    monkeypatch.setitem(matplotlib.rcParams, "text.usetex", True)
    assert style.render(figure_of_a_line()) == first
    assert matplotlib.rcParams["lines.linewidth"] == 9.0  # and stay as they were


def test_steps_are_short_and_do_not_touch():
    figure = figure_of_a_line()
    figure.draw_without_rendering()
    labels = [label for label in figure.axes[0].get_xticklabels() if label.get_text()]
    assert {"0", "50k", "100k"} <= {label.get_text() for label in labels}
    boxes = [label.get_window_extent() for label in labels]
    assert all(left.x1 < right.x0 for left, right in itertools.pairwise(boxes))


def test_text_can_be_read_on_white():
    assert lab(INK)[0] < 20
    assert lab(WALL)[0] < 40
