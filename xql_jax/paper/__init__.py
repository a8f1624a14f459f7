"""The paper's figures, by their names on the command line."""

from xql_jax.paper import bellman_errors, curves, error_waves, maze, theory
from xql_jax.paper.figure import PaperFigure

FIGURES: dict[str, PaperFigure] = dict(sorted((theory.FIGURES | maze.FIGURES | error_waves.FIGURES).items()))
FIGURES_OF_RUNS: dict[str, PaperFigure] = curves.FIGURES | bellman_errors.FIGURES
