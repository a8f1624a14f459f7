"""The paper's figures as computations, by the names under which a command line asks for them."""

from xql_jax.figures import error_waves, figure_2, figure_4, figure_b1, figure_b2
from xql_jax.figures.paper_figure import PaperFigure

FIGURES: dict[str, PaperFigure] = {
    "2": figure_2.FIGURE,
    "4": figure_4.FIGURE,
    "B1": figure_b1.FIGURE,
    "B2": figure_b2.FIGURE,
    "GEM": error_waves.FIGURE,
}
