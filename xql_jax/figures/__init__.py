"""The paper's figures, by their names on the command line."""

from xql_jax.figures import bellman_errors, error_waves, maze, runs, theory
from xql_jax.figures.tables import PaperFigure

FIGURES: dict[str, PaperFigure] = {
    "2": theory.FIGURE_2,
    "4": maze.FIGURE,
    "B1": theory.FIGURE_B1,
    "B2": theory.FIGURE_B2,
    "GEM": error_waves.FIGURE,
}
FIGURES_OF_RUNS: dict[str, PaperFigure] = {
    "1": bellman_errors.FIGURE_1,
    "3": runs.FIGURE_3,
    "5": bellman_errors.FIGURE_5,
    "6": bellman_errors.FIGURE_6,
    "7": runs.FIGURE_7,
    "8": runs.FIGURE_8,
    "9": runs.FIGURE_9,
    "10": runs.FIGURE_10,
    "11": runs.FIGURE_11,
    "12": runs.FIGURE_12,
}
