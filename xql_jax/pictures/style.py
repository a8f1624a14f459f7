"""The style of all pictures: colours, lines, curves, legends, and how pictures are written.

The user's matplotlib settings have no effect.
"""

import functools
import io
import itertools
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib import style as styles
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator
from matplotlib.transforms import ScaledTranslation

from xql_jax.numerics.statistics import BySeed, has_all_seeds, mean_and_interval

# Okabe and Ito's colours, which colour-blind readers can tell apart, from dark to light.
BLUE, VERMILION, GREEN, ORANGE = "#0072B2", "#D55E00", "#009E73", "#E69F00"
LINES = (BLUE, VERMILION, GREEN, "#CC79A7", ORANGE, "#56B4E9")
DASHES = ("-", "--", "-.", ":")
WALL, INK, SOFT = "0.3", "0.15", "0.45"  # walls of mazes; text and axes; background elements

LEAST_FOR_BAND = 3  # fewest seeds for an interval: with two it is too wide to say anything
MOST_WITH_DOTS = 20  # largest number of points that a line marks
MOST_WITH_SEEDS = 3  # with more lines in one picture, bands and single seeds are not drawn
# The time of creation is left out, so that the same numbers give the same bytes.
METADATA: dict[str, dict[str, None]] = {"png": {}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}
FORMATS = tuple(METADATA)

Look = dict[str, Any]  # a line's colour, dashes, label and the like, as matplotlib names them

# Context manager and decorator in which matplotlib uses the project's style, and ignores the user's.
styled = functools.partial(styles.context, ["default", Path(__file__).with_name("style.mplstyle")])


def looks_of(names: Iterable[str]) -> dict[str, Look]:
    """Returns the label, colour and dashes of a line for each name, ordered by name, numbers as numbers.

    More than six have colours from dark to light, and dashes that change from line to line.
    """
    ordered = sorted(dict.fromkeys(names), key=number_order)
    is_many = len(ordered) > len(LINES)
    colors: Iterable[Any] = colormaps["viridis"](np.linspace(0.0, 0.85, len(ordered))) if is_many else LINES
    looks = zip(ordered, colors, itertools.cycle(DASHES if is_many else "-"), strict=False)
    return {name: {"label": wrapped(name), "color": color, "linestyle": dash} for name, color, dash in looks}


def wrapped(label: str) -> str:
    """Returns a line's label in lines of at most 50 characters, which fit below axes."""
    return textwrap.fill(label, 50, break_on_hyphens=False)


def number_order(text: str) -> list[tuple[float, str]]:
    """Sort key for texts such as `beta=0.5`, in which numbers are ordered by their size."""
    parts = re.split(r"(-?\d+\.?\d*(?:e[-+]?\d+)?)", text)
    return [(float(part), "") if index % 2 else (0.0, part) for index, part in enumerate(parts)]


def legend_below(axes: Axes, columns: int = 1) -> None:
    """Puts the legend below the axes and their label; the figure should be higher by `legend_height`."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    half_an_inch = ScaledTranslation(0.0, -0.5, figure.dpi_scale_trans)  # for the ticks
    axes.legend(
        loc="upper left",
        bbox_to_anchor=(0.0, 0.0),
        bbox_transform=axes.transAxes + half_an_inch,
        alignment="left",
        ncols=columns,
    )


def legend_height(labels: Iterable[str]) -> float:
    """Returns the height of a legend of one column, in inches."""
    return 0.19 * sum(1 + wrapped(label).count("\n") for label in labels)


def single_axes(labels: Iterable[str]) -> tuple[Figure, Axes]:
    """Returns a figure with one panel, and room for a legend of these labels below it."""
    figure = Figure(figsize=(5.0, 3.2 + legend_height(labels)))
    return figure, figure.add_subplot()


def count_axis(axis: Axis) -> None:
    """Labels an axis of steps or counts with a few short numbers, such as 20k, so that they do not touch."""
    axis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10], integer=True))
    axis.set_major_formatter(EngFormatter(sep=""))


def draw_curves(
    axes: Axes,
    curves: Mapping[str, BySeed],
    looks: Mapping[str, Look],
    with_seeds: bool,
    handover: int | None = None,
) -> None:
    """Draws the curves that have a look, see `draw_curve`, the hand-over, if any, and a legend below.

    The axis spans the lines, with a margin; a wider band is cut off. It has a least height, so that rounding
    errors of almost equal values are not magnified.
    """
    for name, look in looks.items():
        steps, _, values = curves[name]
        draw_curve(axes, steps, values, look, with_seeds)
    drawn = np.concatenate([np.asarray(line.get_ydata(), float) for line in axes.lines])
    finite = drawn[np.isfinite(drawn)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 0.0)
    margin = max(0.05 * (high - low), 0.01 * max(abs(low), abs(high)), 1e-3)
    axes.set_ylim(low - margin, high + margin)
    if handover is not None:
        axes.axvline(handover, color=INK, linestyle="--", linewidth=1, label="hand-over")
    count_axis(axes.xaxis)
    legend_below(axes)


def draw_curve(axes: Axes, steps: Sequence[int], values: np.ndarray, look: Look, with_seeds: bool) -> None:
    """Draws the mean over seeds; `with_seeds` also each seed, thinly, and from three seeds on a band.

    The band is the 95% interval of the mean (Student's t). The mean is drawn at the steps at which every seed
    that has not ended has a value, see `has_all_seeds`. `values` are f64[seeds, steps], NaN if not finite.
    """
    marker = "o" if len(steps) <= MOST_WITH_DOTS else None
    whole = has_all_seeds(values)
    known = [column[np.isfinite(column)] for column in values.T[whole]]
    of_mean = np.array(steps)[whole]
    means, half_widths = np.transpose(
        [mean_and_interval(column) if len(column) else (np.nan, np.nan) for column in known]
    )
    if with_seeds and len(values) > 1:
        thin = {"color": look["color"], "linewidth": 0.6, "alpha": 0.6, "markersize": 2}
        axes.plot(steps, values.T, marker=marker, **thin)
        has_band = np.array([len(column) >= LEAST_FOR_BAND for column in known])
        if has_band.any():
            ends = means - half_widths, means + half_widths
            axes.fill_between(of_mean, *ends, where=has_band, color=look["color"], alpha=0.15, linewidth=0)
    axes.plot(of_mean, means, marker=marker, zorder=3, **look)


def render(figure: Figure, kind: str = "png") -> bytes:
    """Returns the picture as the bytes of a file of that kind, in `FORMATS`."""
    picture = io.BytesIO()
    with styled():
        figure.savefig(picture, format=kind, dpi=200, metadata=METADATA[kind])
    return picture.getvalue()
