"""The paper's figures, by their names on the command line."""

from xql_jax.figures import bellman_errors, error_waves, maze, runs, theory
from xql_jax.figures.tables import PaperFigure

FIGURES: dict[str, PaperFigure] = dict(sorted((theory.FIGURES | maze.FIGURES | error_waves.FIGURES).items()))
FIGURES_OF_RUNS: dict[str, PaperFigure] = runs.FIGURES | bellman_errors.FIGURES
