"""Colours that colour-blind readers can tell apart: six distinct ones, and a scale for ordered values."""

from matplotlib import colormaps
from matplotlib.colors import to_hex

# Okabe and Ito's colours, roughly from dark to light. Dashes tell the lines apart in grey prints.
BLUE, VERMILION, GREEN = "#0072B2", "#D55E00", "#009E73"
PURPLE, SKY, ORANGE = "#CC79A7", "#56B4E9", "#E69F00"
LINES = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY)
DASHES = ("-", "--", "-.", ":")
HEAT = "cividis"  # matplotlib's colour map for values over a plane
SCALE, SCALE_END = "viridis", 0.85  # for lines; colours beyond the end are too pale on white paper
WALL = "0.3"
INK, SOFT = "0.15", "0.45"  # of text and axes; of background elements


def scale(count: int) -> list[str]:
    """Returns `count` different colours from dark to light, in equal steps."""
    steps = [SCALE_END * number / max(count - 1, 1) for number in range(count)]
    return [to_hex(colormaps[SCALE](step)) for step in steps]
