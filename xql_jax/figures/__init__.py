"""The paper's figures, by their names on the command line."""

from xql_jax.figures import (
    ablations,
    bellman_errors,
    error_waves,
    figure_2,
    figure_4,
    figure_b1,
    figure_b2,
    learning_curves,
)
from xql_jax.figures.paper_figure import PaperFigure, RunsFigure

FIGURES: dict[str, PaperFigure] = {
    "2": figure_2.FIGURE,
    "4": figure_4.FIGURE,
    "B1": figure_b1.FIGURE,
    "B2": figure_b2.FIGURE,
    "GEM": error_waves.FIGURE,
}
FIGURES_OF_RUNS: dict[str, RunsFigure] = {
    "1": bellman_errors.FIGURE_1,
    "3": learning_curves.FIGURE_3,
    "5": bellman_errors.FIGURE_5,
    "6": bellman_errors.FIGURE_6,
    "7": learning_curves.FIGURE_7,
    "8": ablations.FIGURE_8,
    "9": ablations.FIGURE_9,
    "10": learning_curves.FIGURE_10,
    "11": learning_curves.FIGURE_11,
    "12": learning_curves.FIGURE_12,
}
