"""Pictures of a run: its learning curve, and for the mazes the values and the policy's paths."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from xql_jax.envs.mazes import Maze
from xql_jax.reports.summary import by_setting, scores_by_seed


def plot_learning_curve(
    rows: Sequence[Mapping[str, str]], title: str, path: Path, unit: str = "updates"
) -> None:
    """Draws normalised score against steps: the mean over seeds, and each seed thinly; a colour a setting.

    Args:
        rows: of an evaluations.csv, not empty.
        title: above the picture.
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
    _save(figure, path)


def plot_maze(
    maze: Maze, values: np.ndarray | None, paths: Sequence[np.ndarray], title: str, path: Path
) -> None:
    """Draws the walls, V at rest over the free positions, and the policy's paths from start (dot) to end.

    Args:
        maze: whose positions grow with the row (downwards in the picture) and the column.
        values: f32[H, W], V on `position_grid(maze)`; None for a method without V.
        paths: each f32[T + 1, O], its first two columns the position.
        title: above the picture.
        path: of the PNG.
    """
    rows, columns = maze.walls.shape
    extent = (-0.7, columns - 0.7, rows - 0.7, -0.7)  # D4RL's free cell (r, c) spans [r - 0.7, r + 0.3]
    figure = Figure(
        figsize=(1 + columns, 0.5 + 0.9 * rows) if columns < 8 else (columns, rows), layout="constrained"
    )
    axes = figure.add_subplot()
    if values is not None:
        image = axes.imshow(values, extent=extent, cmap="viridis", interpolation="bilinear")
        figure.colorbar(image, ax=axes, label="V(s) at rest", shrink=0.85)
    walls = np.ma.masked_where(~maze.walls, np.ones(maze.walls.shape))
    axes.imshow(walls, extent=extent, cmap="gray", vmin=0, vmax=3)
    for positions in paths:
        axes.plot(
            positions[:, 1],
            positions[:, 0],
            color="white" if values is not None else "C0",
            linewidth=1,
            alpha=0.8,
        )
        axes.plot(positions[0, 1], positions[0, 0], "o", color="C1", markersize=4)
    axes.plot(maze.goal[1], maze.goal[0], "*", color="red", markersize=18, markeredgecolor="white")
    axes.set(title=title, xlabel="y (columns)", ylabel="x (rows)")
    _save(figure, path)


def position_grid(maze: Maze, points_per_cell: int = 12) -> np.ndarray:
    """Returns f32[H, W, 2], positions that cover the maze, its walls included, row by row."""
    rows, columns = maze.walls.shape
    offsets = (np.arange(points_per_cell) + 0.5) / points_per_cell - 0.7
    x = (np.arange(rows)[:, None] + offsets).ravel()
    y = (np.arange(columns)[:, None] + offsets).ravel()
    return np.stack(np.meshgrid(x, y, indexing="ij"), axis=-1).astype(np.float32)


def _save(figure: Figure, path: Path) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    figure.savefig(temporary, format="png", dpi=120)
    os.replace(temporary, path)
