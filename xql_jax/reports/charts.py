"""Line charts as SVG for the report's page: small files, a thousand of them drawn in a second.

matplotlib takes a tenth of a second and 20 KB per picture, and fixes the colours. Here a line has a CSS
class, and the page's style sheet gives it a colour for light and for dark mode.
"""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import TypeVar
from xml.etree import ElementTree

from matplotlib.ticker import MaxNLocator

from xql_jax.reports.palette import LINES

COLOURS, DASHES = len(LINES), 4  # numbers of colours and of dash patterns; together they make 24 styles
MOST_POINTS = 80  # per line: more could not be seen
WIDTH, HEIGHT = 420, 260
LEFT, RIGHT, TOP, BOTTOM = 54, 12, 10, 42  # margins

T = TypeVar("T")
Point = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Line:
    """A line through points, with a gap where y is NaN, and a band from low to high around it."""

    points: Sequence[Point]
    style: int  # counted from 0
    is_thin: bool = False
    band: Sequence[tuple[float, float, float]] = ()  # x, low, high
    has_dots: bool = False


@dataclasses.dataclass(frozen=True)
class Mark:
    """One point, whose title is shown when the mouse is over it. Diverged members are drawn as crosses."""

    x: float
    y: float
    style: int
    title: str
    is_cross: bool = False


@dataclasses.dataclass(frozen=True)
class Chart:
    """A picture. `title` describes it in words for screen readers."""

    title: str
    x_label: str
    y_label: str
    lines: Sequence[Line] = ()
    marks: Sequence[Mark] = ()
    divider: float | None = None  # x of a vertical line
    categories: Sequence[str] = ()  # names of x = 0, 1, ...; empty: x is a number


def style_class(style: int) -> str:
    """Returns the CSS classes of a line of that style."""
    return f"c{style % COLOURS} d{style // COLOURS % DASHES}"


def as_svg(chart: Chart) -> str:
    """Returns the chart as SVG text; a chart without lines and marks shows only the axes."""
    return ElementTree.tostring(_Drawing(chart).element, encoding="unicode")


def swatch(style: int) -> str:
    """Returns a short line of that style as SVG text, for a legend."""
    svg = ElementTree.Element("svg", {"class": "swatch", "viewBox": "0 0 28 8", "aria-hidden": "true"})
    ElementTree.SubElement(svg, "path", {"class": f"line {style_class(style)}", "d": "M0 4H28"})
    return ElementTree.tostring(svg, encoding="unicode")


def interval_bar(value: float, low: float, high: float, ends: tuple[float, float]) -> str:
    """Returns SVG text: a bar from low to high with a dot at the value, on a scale between the ends."""
    span = ends[1] - ends[0] or 1.0

    def x(number: float) -> str:
        return f"{4 + 112 * (number - ends[0]) / span:.1f}"

    svg = ElementTree.Element("svg", {"class": "interval", "viewBox": "0 0 120 12", "aria-hidden": "true"})
    if not math.isnan(low):
        ElementTree.SubElement(svg, "path", {"class": "line c0 d0", "d": f"M{x(low)} 6H{x(high)}"})
    ElementTree.SubElement(svg, "circle", {"class": "dot c0", "cx": x(value), "cy": "6", "r": "4"})
    return ElementTree.tostring(svg, encoding="unicode")


def short_number(value: float) -> str:
    """Returns the number as short text for an axis: 250k, 1.5M, 0.25."""
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= unit:
            return f"{value / unit:.6g}{letter}"
    return f"{value:.6g}"


class _Drawing:
    """Draws a chart into an SVG element."""

    def __init__(self, chart: Chart):
        self._chart = chart
        self._x = _span(list(self._numbers(0)), 0.03 if chart.categories else 0.0)
        self._y = _span(list(self._numbers(1)), 0.05)
        if chart.categories:
            self._x = (-0.5, len(chart.categories) - 0.5)
        self.element = ElementTree.Element(
            "svg",
            {"viewBox": f"0 0 {WIDTH} {HEIGHT}", "role": "img", "class": "chart", "aria-label": chart.title},
        )
        self._draw_axes()
        for line in sorted(chart.lines, key=lambda line: not line.is_thin):
            self._draw_line(line)
        for mark in chart.marks:
            self._draw_mark(mark)

    def _numbers(self, axis: int) -> Iterator[float]:
        """Yields all numbers that the axis must span."""
        for line in self._chart.lines:
            yield from (point[axis] for point in line.points)
            yield from (number for x, *ends in line.band for number in ([x] if axis == 0 else ends))
        yield from ((mark.x, mark.y)[axis] for mark in self._chart.marks)
        if axis == 0 and self._chart.divider is not None:
            yield self._chart.divider

    def _at_x(self, x: float) -> float:
        low, high = self._x
        return LEFT + (WIDTH - LEFT - RIGHT) * (x - low) / (high - low)

    def _at_y(self, y: float) -> float:
        low, high = self._y
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (y - low) / (high - low)

    def _draw_axes(self) -> None:
        bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
        for y in _ticks(self._y, 5):
            self._path(f"M{LEFT} {self._at_y(y):.1f}H{right}", "grid")
            self._text(LEFT - 6, self._at_y(y) + 4, short_number(y), "end")
        categories = self._chart.categories
        if categories:
            names = [
                (float(x), name if len(name) < 12 else f"{name[:10]}…") for x, name in enumerate(categories)
            ]
            names = names[:: math.ceil(len(names) / 8)]  # at most 8 have room
        else:
            names = [(x, short_number(x)) for x in _ticks(self._x, 5)]
        for x, name in names:
            self._path(f"M{self._at_x(x):.1f} {bottom}v4", "axis")
            self._text(self._at_x(x), bottom + 17, name, "middle")
        self._path(f"M{LEFT} {bottom}H{right}", "axis")
        if self._chart.divider is not None:
            self._path(f"M{self._at_x(self._chart.divider):.1f} {TOP}V{bottom}", "divider")
        self._text((LEFT + right) / 2, HEIGHT - 6, self._chart.x_label, "middle")
        label = self._text(0, 0, self._chart.y_label, "middle")
        label.set("transform", f"translate(12 {(TOP + bottom) / 2:.0f}) rotate(-90)")

    def _draw_line(self, line: Line) -> None:
        style = style_class(line.style)
        band = _thinned([place for place in line.band if not any(map(math.isnan, place))])
        if len(band) > 1:
            upper = [f"{self._at_x(x):.1f} {self._at_y(high):.1f}" for x, _, high in band]
            lower = [f"{self._at_x(x):.1f} {self._at_y(low):.1f}" for x, low, _ in reversed(band)]
            self._path(f"M{'L'.join(upper + lower)}Z", f"band {style}")
        for run in _without_gaps(_thinned(line.points)):
            places = [f"{self._at_x(x):.1f} {self._at_y(y):.1f}" for x, y in run]
            if len(run) > 1:
                self._path(f"M{'L'.join(places)}", f"{'thin' if line.is_thin else 'line'} {style}")
            if len(run) == 1 or line.has_dots:
                for x, y in run:
                    self._dot(x, y, style, 2.5)

    def _draw_mark(self, mark: Mark) -> None:
        if math.isnan(mark.y):
            return
        if mark.is_cross:
            x, y = self._at_x(mark.x), self._at_y(mark.y)
            cross = f"M{x - 5:.1f} {y - 5:.1f}l10 10m0-10l-10 10"
            element = self._path(cross, f"cross {style_class(mark.style)}")
        else:
            element = self._dot(mark.x, mark.y, style_class(mark.style), 3.5)
        ElementTree.SubElement(element, "title").text = mark.title

    def _path(self, path: str, style: str) -> ElementTree.Element:
        return ElementTree.SubElement(self.element, "path", {"class": style, "d": path})

    def _dot(self, x: float, y: float, style: str, radius: float) -> ElementTree.Element:
        place = {"cx": f"{self._at_x(x):.1f}", "cy": f"{self._at_y(y):.1f}", "r": f"{radius:g}"}
        return ElementTree.SubElement(self.element, "circle", {"class": f"dot {style}", **place})

    def _text(self, x: float, y: float, text: str, anchor: str) -> ElementTree.Element:
        place = {"x": f"{x:.1f}", "y": f"{y:.1f}", "text-anchor": anchor}
        element = ElementTree.SubElement(self.element, "text", place)
        element.text = text
        return element


def _span(numbers: Sequence[float], margin: float) -> tuple[float, float]:
    """Returns the range of the finite numbers, widened a little on either side."""
    finite = [number for number in numbers if math.isfinite(number)] or [0.0]
    low, high = min(finite), max(finite)
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        low, high = low - 0.5 * (abs(low) or 1.0), high + 0.5 * (abs(high) or 1.0)
    return low - margin * (high - low), high + margin * (high - low)


def _ticks(span: tuple[float, float], count: int) -> list[float]:
    values = MaxNLocator(nbins=count, steps=[1, 2, 2.5, 5, 10]).tick_values(*span)
    return [float(value) for value in values if span[0] <= value <= span[1]]


def _thinned(points: Sequence[T]) -> Sequence[T]:
    """Returns at most `MOST_POINTS` of the points, the first and the last included."""
    if len(points) <= MOST_POINTS:
        return points
    return [points[round(i * (len(points) - 1) / (MOST_POINTS - 1))] for i in range(MOST_POINTS)]


def _without_gaps(points: Sequence[Point]) -> Iterator[list[Point]]:
    """Yields the stretches in which y is finite."""
    stretch: list[Point] = []
    for point in points:
        if math.isfinite(point[1]):
            stretch.append(point)
        elif stretch:
            yield stretch
            stretch = []
    if stretch:
        yield stretch
