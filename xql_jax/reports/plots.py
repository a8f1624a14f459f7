"""Pictures of a run: its learning curve, and for the mazes the values and the policy's paths."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.text import Text

from xql_jax.envs.mazes import Maze
from xql_jax.files import replacing
from xql_jax.logs.csv_reader import Row
from xql_jax.reports.summary import by_setting, scores_by_seed


def plot_learning_curve(rows: Sequence[Row], title: str, path: Path, unit: str = "updates") -> None:
    """Draws normalised score against steps: the mean over seeds, and each seed thinly; a colour a setting.

    Args:
        rows: of an evaluations.csv, not empty.
        path: of the PNG.
        unit: what the steps are.
    """
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    for number, (setting, group) in enumerate(by_setting(rows).items()):
        steps, seeds, scores = scores_by_seed(group)
        label = ", ".join(f"{name}={value:g}" for name, value in setting) or f"mean of {len(seeds)} seeds"
        marker = "o" if len(steps) == 1 else None
        axes.plot(steps, scores.mean(0), color=f"C{number}", label=label, marker=marker)
        if len(seeds) > 1:
            axes.plot(steps, scores.T, color=f"C{number}", linewidth=0.6, alpha=0.6)
    axes.set(title=title, xlabel=unit, ylabel="normalised score")
    axes.grid(alpha=0.3)
    axes.legend()
    save(figure, path)


def plot_maze(
    maze: Maze, values: np.ndarray | None, paths: Sequence[np.ndarray], title: str, path: Path
) -> None:
    """Draws the walls, V at rest over the free positions, and the policy's paths from start (dot) to end.

    Args:
        maze: whose positions grow with the row (downwards in the picture) and the column.
        values: f32[H, W], V on `position_grid(maze)`; None for a method without V.
        paths: each f32[T + 1, O], its first two columns the position.
        path: of the PNG.
    """
    rows, columns = maze.walls.shape
    extent = (-0.7, columns - 0.7, rows - 0.7, -0.7)  # D4RL's free cell (r, c) spans [r - 0.7, r + 0.3]
    size = (1 + columns, 0.5 + 0.9 * rows) if columns < 8 else (columns, rows)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.add_subplot()
    if values is not None:
        image = axes.imshow(values, extent=extent, cmap="viridis", interpolation="bilinear")
        figure.colorbar(image, ax=axes, label="V(s) at rest", shrink=0.85)
    walls = np.ma.masked_where(~maze.walls, np.ones(maze.walls.shape))
    axes.imshow(walls, extent=extent, cmap="gray", vmin=0, vmax=3)
    color = "white" if values is not None else "C0"
    for positions in paths:
        x, y = positions[:, :2].T
        axes.plot(y, x, color=color, linewidth=1, alpha=0.8)
        axes.plot(y[0], x[0], "o", color="C1", markersize=4)
    axes.plot(maze.goal[1], maze.goal[0], "*", color="red", markersize=18, markeredgecolor="white")
    axes.set(title=title, xlabel="y (columns)", ylabel="x (rows)")
    save(figure, path)


def position_grid(maze: Maze, points_per_cell: int = 12) -> np.ndarray:
    """Returns f32[H, W, 2], positions that cover the maze, its walls included, row by row."""
    rows, columns = maze.walls.shape
    offsets = (np.arange(points_per_cell) + 0.5) / points_per_cell - 0.7
    x = (np.arange(rows)[:, None] + offsets).ravel()
    y = (np.arange(columns)[:, None] + offsets).ravel()
    return np.stack(np.meshgrid(x, y, indexing="ij"), axis=-1).astype(np.float32)


def save(figure: Figure, path: Path, dpi: int = 120) -> None:
    """Writes a PNG that is there whole or not at all."""
    picture = png(figure, dpi)
    with replacing(path, f".{path.name}.tmp") as unfinished:
        unfinished.write_bytes(picture)


def png(figure: Figure, dpi: int = 120) -> bytes:
    """Returns the picture; what stands in titles, labels and legends is drawn as it is.

    Names of tasks, files and settings come from users: between two dollar signs matplotlib would take them
    for mathematics, and raise where they are none.
    """
    of_axes = {text for axis in figure.findobj(Axis) for text in axis.findobj(Text) if text is not axis.label}
    for text in figure.findobj(Text):
        if text not in of_axes:  # powers of ten at an axis are matplotlib's own mathematics
            text.set_parse_math(False)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=dpi)
    return picture.getvalue()
