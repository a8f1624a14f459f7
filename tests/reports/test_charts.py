"""Charts as SVG: where points lie, worked by hand; gaps, crosses, names; and that nothing breaks them."""

import math
import re
from xml.etree import ElementTree

import pytest

from xql_jax.reports.charts import (
    BOTTOM,
    HEIGHT,
    LEFT,
    MOST_POINTS,
    RIGHT,
    TOP,
    WIDTH,
    Chart,
    Line,
    Mark,
    as_svg,
    interval_bar,
    short_number,
    style_class,
    swatch,
)

NAN = math.nan


def parsed(chart):
    return ElementTree.fromstring(as_svg(chart))


def paths(element, style):
    return [path.get("d") for path in element.iter("path") if path.get("class").split()[0] == style]


def places(path):
    return [tuple(map(float, pair)) for pair in re.findall(r"(-?[0-9.]+) (-?[0-9.]+)", path)]


def test_a_line_goes_through_its_points():
    # x from 0 to 10 takes the whole width; y from 0 to 10 that without a twentieth of it at either end.
    element = parsed(Chart("", "", "", [Line([(0, 0), (5, 10), (10, 0)], 0)]))
    (path,) = paths(element, "line")
    height = HEIGHT - TOP - BOTTOM
    low, high = HEIGHT - BOTTOM - height * 0.5 / 11, HEIGHT - BOTTOM - height * 10.5 / 11
    expected = [(LEFT, low), ((LEFT + WIDTH - RIGHT) / 2, high), (WIDTH - RIGHT, low)]
    assert places(path) == [(pytest.approx(x, abs=0.06), pytest.approx(y, abs=0.06)) for x, y in expected]


def test_a_band_goes_there_above_and_back_below():
    element = parsed(Chart("", "", "", [Line([(0, 1), (1, 1)], 3, band=[(0, 0, 2), (1, 0, 2)])]))
    (band,) = paths(element, "band")
    corners = places(band)
    assert len(corners) == 4
    assert [x for x, _ in corners] == [LEFT, WIDTH - RIGHT, WIDTH - RIGHT, LEFT]
    assert corners[0][1] == corners[1][1] < corners[2][1] == corners[3][1]


def test_numbers_that_are_not_finite_are_gaps():
    line = Line([(0, 1), (1, 2), (2, NAN), (3, 1), (4, math.inf), (5, 1), (6, 2)], 0)
    element = parsed(Chart("", "", "", [line], [Mark(1, NAN, 0, "nothing")]))
    assert [len(places(path)) for path in paths(element, "line")] == [2, 2]
    assert len(list(element.iter("circle"))) == 1  # the point that is alone
    assert "nan" not in as_svg(Chart("", "", "", [line])).lower()


def test_who_diverged_is_a_cross_with_a_name():
    marks = [Mark(0, 1, 2, "seed 0"), Mark(1, 2, 2, "seed 1, diverged", is_cross=True)]
    element = parsed(Chart("", "", "", marks=marks, categories=["a", "b"]))
    (cross,) = [path for path in element.iter("path") if "cross" in path.get("class")]
    (dot,) = element.iter("circle")
    assert (cross.find("title").text, dot.find("title").text) == ("seed 1, diverged", "seed 0")
    texts = [text.text for text in element.iter("text")]
    assert {"a", "b"} <= set(texts)


def test_long_lines_are_thinned_and_keep_their_ends():
    element = parsed(Chart("", "", "", [Line([(x, x % 7) for x in range(10_000)], 0)]))
    (path,) = paths(element, "line")
    found = places(path)
    assert len(found) == MOST_POINTS
    assert (found[0][0], found[-1][0]) == (LEFT, WIDTH - RIGHT)


@pytest.mark.parametrize(
    "points",
    [
        [],
        [(5, 5)],
        [(1, 0), (1, 0)],
        [(0, 1e38), (1, -1e38)],
        [(0, 1e-300), (1, 2e-300)],
        [(2**53, 7.0)],
        [(0, NAN)],
    ],
)
def test_any_numbers_can_be_drawn(points):
    svg = as_svg(Chart("", "", "", [Line(points, 0)], divider=None))
    assert "nan" not in svg
    assert "inf" not in svg
    ElementTree.fromstring(svg)


def test_what_is_written_is_escaped():
    evil = '"><script>alert(1)</script>&'
    chart = Chart(evil, evil, evil, marks=[Mark(0, 0, 0, evil)], categories=[evil])
    svg = as_svg(chart)
    assert "<script" not in svg
    assert ElementTree.fromstring(svg).get("aria-label") == evil


def test_styles_differ_until_colours_and_dashes_are_used_up():
    assert len({style_class(style) for style in range(24)}) == 24
    assert style_class(24) == style_class(0)
    assert style_class(7) in swatch(7)


def test_an_interval_lies_on_its_scale():
    bar = ElementTree.fromstring(interval_bar(50.0, 0.0, 100.0, (0.0, 100.0)))
    assert bar.find("path").get("d") == "M4.0 6H116.0"
    assert bar.find("circle").get("cx") == "60.0"
    assert ElementTree.fromstring(interval_bar(1.0, NAN, NAN, (1.0, 1.0))).find("path") is None


def test_numbers_at_axes_are_short():
    numbers = [0, 0.25, 999, 1_000, 250_000, 1_500_000, -2e9]
    assert [short_number(number) for number in numbers] == ["0", "0.25", "999", "1k", "250k", "1.5M", "-2G"]
