"""The style of all pictures, and how they are written: the user's matplotlib settings have no effect."""

import functools
import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from cycler import cycler
from matplotlib import style as styles
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, MaxNLocator
from matplotlib.transforms import ScaledTranslation

from xql_jax.files import replacing
from xql_jax.reports.charts import short_number
from xql_jax.reports.palette import INK, LINES

FORMATS = ("png", "pdf", "svg")
LEAST_FOR_BAND = 3  # fewest seeds for an interval: with two it is too wide to say anything
MOST_WITH_DOTS = 20  # largest number of evaluations for which a line marks each one
BELOW = 36.0  # points from the axes down to a legend: room for the ticks and the label
LEGEND_LINE = 0.19  # inches

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
    "image.cmap": "cividis",
    "pdf.fonttype": 42,  # TrueType fonts, which journals accept and which make text searchable
    "svg.hashsalt": "xql_jax",  # gives the elements of an SVG file the same names every time
}
# The time of creation is left out, so that the same numbers give the same bytes.
METADATA: dict[str, dict[str, Any]] = {
    "png": {},
    "pdf": {"CreationDate": None},
    "svg": {"Date": None},
}

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


def legend_below(axes: Axes, columns: int = 1, title: str = "", handles: Sequence[Artist] = ()) -> Legend:
    """Puts the legend below the axes and their label, where it covers nothing.

    Constrained layout makes room for it. The figure should be higher by `legend_height`.
    """
    figure = axes.get_figure(root=True)
    assert figure is not None
    under = axes.transAxes + ScaledTranslation(0.0, -BELOW / 72.0, figure.dpi_scale_trans)
    given = {"handles": list(handles)} if handles else {}
    return axes.legend(
        loc="upper left",
        bbox_to_anchor=(0.0, 0.0),
        bbox_transform=under,
        ncols=columns,
        title=title or None,
        alignment="left",
        **given,
    )


def legend_height(entries: int, columns: int = 1, title: str = "") -> float:
    """Returns the height in inches of a legend with that number of entries."""
    return LEGEND_LINE * (-(-entries // columns) + bool(title))


def count_axis(axis: Axis) -> None:
    """Labels an axis of steps or counts with a few short numbers, such as 20k, so that they do not touch."""
    axis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10], integer=True))
    axis.set_major_formatter(FuncFormatter(lambda value, _: short_number(value)))


def dots(count: int) -> str | None:
    """Returns the marker for a line through `count` points, None for many. A lone point needs a marker."""
    return "o" if count <= MOST_WITH_DOTS else None


def render(figure: Figure, kind: str = "png", dpi: int = 200) -> bytes:
    """Returns the picture as the bytes of a file.

    Text is drawn literally. Names of tasks, files and settings come from users: if they contain two dollar
    signs, matplotlib would read the text between them as mathematics, and might raise an error.

    Args:
        kind: one of `FORMATS`.
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
