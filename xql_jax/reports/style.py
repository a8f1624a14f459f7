"""The one style of all pictures: colours, lines, curves, legends, and how pictures are written.

The user's matplotlib settings have no effect.
"""

import functools
import io
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy as np
from cycler import cycler
from matplotlib import colormaps
from matplotlib import style as styles
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, MaxNLocator
from matplotlib.transforms import ScaledTranslation

from xql_jax.files import replacing
from xql_jax.rollout.scores import mean_and_interval

# Okabe and Ito's colours, which colour-blind readers can tell apart, roughly from dark to light.
BLUE, VERMILION, GREEN, ORANGE = "#0072B2", "#D55E00", "#009E73", "#E69F00"
LINES = (BLUE, VERMILION, GREEN, "#CC79A7", ORANGE, "#56B4E9")
DASHES = ("-", "--", "-.", ":")
HEAT = "cividis"  # matplotlib's colour map for values over a plane
WALL, INK, SOFT = "0.3", "0.15", "0.45"  # walls of mazes; text and axes; background elements

FORMATS = ("png", "pdf", "svg")
LEAST_FOR_BAND = 3  # fewest seeds for an interval: with two it is too wide to say anything
MOST_WITH_DOTS = 20  # largest number of points that a line marks

STYLE = {
    "figure.constrained_layout.use": True,
    "font.size": 9.0,
    "axes.titlesize": 10.0,
    "axes.labelsize": 9.0,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "legend.fontsize": 8.0,
    "legend.title_fontsize": 8.0,
    "legend.frameon": False,
    "legend.borderaxespad": 0.0,
    "legend.borderpad": 0.0,
    "legend.handlelength": 1.6,
    "legend.handletextpad": 0.5,
    "legend.columnspacing": 1.0,
    "lines.linewidth": 1.6,
    "lines.markersize": 4.0,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "0.9",
    "grid.linewidth": 0.7,
    "axes.formatter.useoffset": False,
    "axes.prop_cycle": cycler(color=LINES),
    "image.cmap": HEAT,
    "pdf.fonttype": 42,  # TrueType fonts, which journals accept and which make text searchable
    "svg.hashsalt": "xql_jax",  # gives the elements of an SVG file the same names every time
}
# The time of creation is left out, so that the same numbers give the same bytes.
METADATA: dict[str, dict[str, Any]] = {"png": {}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}

P = ParamSpec("P")
R = TypeVar("R")


@contextmanager
def the_style() -> Iterator[None]:
    """Context manager in which matplotlib uses the project's style and ignores the user's matplotlibrc."""
    with styles.context(["default", STYLE]):
        yield


def styled(draw: Callable[P, R]) -> Callable[P, R]:
    """Decorator that makes a function draw in the project's style."""

    @functools.wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> R:
        with the_style():
            return draw(*args, **kwargs)

    return drawn


def scale(count: int) -> list[str]:
    """Returns `count` different colours from dark to light, in equal steps."""
    return [to_hex(colormaps["viridis"](0.85 * number / max(count - 1, 1))) for number in range(count)]


def looks_of(names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Returns the label, colour and dashes of a line for each name, ordered by name, numbers as numbers.

    Up to six lines have colours of their own. More have colours from dark to light, and dashes that change
    from line to line.
    """
    ordered = sorted(dict.fromkeys(names), key=number_order)
    is_many = len(ordered) > len(LINES)
    colors = scale(len(ordered)) if is_many else LINES
    return {
        name: {
            "label": textwrap.fill(name, 50, break_on_hyphens=False),
            "color": colors[number],
            "linestyle": DASHES[number % len(DASHES)] if is_many else "-",
        }
        for number, name in enumerate(ordered)
    }


def number_order(text: str) -> list[tuple[float, str]]:
    """Sort key for texts such as `beta=0.5`, in which numbers are ordered by their size."""
    parts = re.split(r"(-?\d+\.?\d*(?:e[-+]?\d+)?)", text)
    return [(float(part), "") if index % 2 else (0.0, part) for index, part in enumerate(parts)]


def legend_below(axes: Axes, columns: int = 1, title: str = "", handles: Sequence[Artist] = ()) -> Legend:
    """Puts the legend below the axes and their label, where it covers nothing.

    Constrained layout makes room for it. The figure should be higher by `legend_height`.
    """
    figure = axes.get_figure(root=True)
    assert figure is not None
    under = axes.transAxes + ScaledTranslation(
        0.0, -0.5, figure.dpi_scale_trans
    )  # half an inch for the ticks
    return axes.legend(
        handles=list(handles) or axes.get_legend_handles_labels()[0],
        loc="upper left",
        bbox_to_anchor=(0.0, 0.0),
        bbox_transform=under,
        alignment="left",
        ncols=columns,
        title=title or None,
    )


def legend_columns(labels: Iterable[str], inches: float = 4.3) -> int:
    """Returns how many columns of these labels fit below axes of that width, at most four."""
    return max(1, min(4, int(13.5 * inches) // (max(map(len, labels), default=0) + 6)))


def legend_height(labels: Iterable[str], columns: int = 1) -> float:
    """Returns the height of a legend in inches."""
    lines = sum(1 + label.count("\n") for label in labels)
    return 0.19 * -(-lines // columns)


def short_number(value: float) -> str:
    """Returns the number as short text for an axis: 250k, 1.5M, 0.25."""
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= unit:
            return f"{value / unit:.6g}{letter}"
    return f"{value:.6g}"


def count_axis(axis: Axis) -> None:
    """Labels an axis of steps or counts with a few short numbers, such as 20k, so that they do not touch."""
    axis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10], integer=True))
    axis.set_major_formatter(FuncFormatter(lambda value, _: short_number(value)))


def dots(count: int) -> str | None:
    """Returns the marker for a line through `count` points, None for many. A lone point needs a marker."""
    return "o" if count <= MOST_WITH_DOTS else None


def draw_curve(axes: Axes, steps: Sequence[int], values: np.ndarray, with_seeds: bool, **look: Any) -> None:
    """Draws the mean over seeds; `with_seeds` also each seed, thinly, and from three seeds on a band.

    The band is the 95% interval of the mean (Student's t).

    Args:
        values: f64[seeds, steps]; NaN where a seed has no finite value, which counts in no mean.
        look: of the mean's line: its colour, label and dashes.
    """
    marker = dots(len(steps))
    known = [column[np.isfinite(column)] for column in values.T]
    means, half_widths = np.transpose(
        [mean_and_interval(column) if len(column) else (np.nan, np.nan) for column in known]
    )
    if with_seeds and len(values) > 1:
        thin = {"color": look["color"], "linewidth": 0.6, "alpha": 0.6, "markersize": 2}
        axes.plot(steps, values.T, marker=marker, **thin)
        has_band = np.array([len(column) >= LEAST_FOR_BAND for column in known])
        if has_band.any():
            ends = means - half_widths, means + half_widths
            axes.fill_between(steps, *ends, where=has_band, color=look["color"], alpha=0.15, linewidth=0)
    axes.plot(steps, means, marker=marker, zorder=3, **look)


def fit_height(axes: Axes) -> None:
    """Has the axes span their lines, with a margin; a wider band is cut off.

    The range has a least width, so that rounding errors of almost equal values are not magnified.
    """
    drawn = np.concatenate([np.asarray(line.get_ydata(), float) for line in axes.lines])
    finite = drawn[np.isfinite(drawn)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 0.0)
    least = max(0.02 * max(abs(low), abs(high)), 1e-3)
    missing = max(0.0, least - (high - low)) / 2.0
    margin = 0.05 * max(high - low, least)
    axes.set_ylim(low - missing - margin, high + missing + margin)


def render(figure: Figure, kind: str = "png", dpi: int = 200) -> bytes:
    """Returns the picture as the bytes of a file of that kind, one of `FORMATS`.

    Text is drawn literally. Names of tasks, files and settings come from users: if they contain two dollar
    signs, matplotlib would read the text between them as mathematics, and might raise an error.
    """
    of_axes = {text for axis in figure.findobj(Axis) for text in axis.findobj(Text) if text is not axis.label}
    for text in figure.findobj(Text):
        if text not in of_axes:  # tick labels may be powers of ten, which need mathematics
            text.set_parse_math(False)
    picture = io.BytesIO()
    with the_style():
        figure.savefig(picture, format=kind, dpi=dpi, metadata=METADATA[kind])
    return picture.getvalue()


def save(figure: Figure, path: Path) -> None:
    """Writes the picture to `path` and beside it as SVG; each file is written whole or not at all."""
    for target in (path, path.with_suffix(".svg")):
        picture = render(figure, target.suffix[1:])
        with replacing(target, f".{target.name}.tmp") as unfinished:
            unfinished.write_bytes(picture)
