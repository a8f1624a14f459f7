"""The paper's figures, by their names on the command line."""

from xql_jax.figures import ablations, bellman_errors, bounds, error_waves, figure_2, figure_4, runs
from xql_jax.figures.tables import PaperFigure

FIGURES: dict[str, PaperFigure] = {
    "2": figure_2.FIGURE,
    "4": figure_4.FIGURE,
    "B1": bounds.FIGURE_B1,
    "B2": bounds.FIGURE_B2,
    "GEM": error_waves.FIGURE,
}
FIGURES_OF_RUNS: dict[str, PaperFigure] = {
    "1": bellman_errors.FIGURE_1,
    "3": runs.FIGURE_3,
    "5": bellman_errors.FIGURE_5,
    "6": bellman_errors.FIGURE_6,
    "7": runs.FIGURE_7,
    "8": ablations.FIGURE_8,
    "9": ablations.FIGURE_9,
    "10": runs.FIGURE_10,
    "11": runs.FIGURE_11,
    "12": runs.FIGURE_12,
}
