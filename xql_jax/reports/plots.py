"""Pictures of a run: its learning curve, and for mazes also the values and the policy's paths."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.patheffects import Normal, Stroke

from xql_jax.envs.mazes import Maze
from xql_jax.logs.csv_reader import Row
from xql_jax.reports.style import (
    BLUE,
    HEAT,
    INK,
    LEAST_FOR_BAND,
    ORANGE,
    VERMILION,
    WALL,
    count_axis,
    draw_curve,
    fit_height,
    legend_below,
    legend_columns,
    legend_height,
    looks_of,
    save,
    styled,
)
from xql_jax.reports.summary import by_setting, scores_by_seed

MOST_WITH_SEEDS = 3  # with more lines, bands and single seeds are not drawn


@styled
def plot_learning_curve(
    rows: Sequence[Row],
    title: str,
    path: Path,
    unit: str = "updates",
    handover: int | None = None,
    quantity: str = "normalised score",
) -> None:
    """Draws the score against steps: a line per setting, see `draw_curve`.

    The axis spans the seeds' scores; a wider band is cut off.

    Args:
        rows: of an evaluations.csv, not empty.
        path: of the PNG; the same picture as SVG is written beside it.
        unit: what the steps are.
        handover: the step at which fine-tuning begins. It is marked, and steps before it are updates.
        quantity: what the score is: of a task without references, the return.
    """
    groups = {
        " ".join(f"{name}={value:g}" for name, value in setting): scores_by_seed(group)
        for setting, group in by_setting(rows).items()
    }
    looks = looks_of(groups)
    if len(groups) == 1:
        (name,) = groups
        looks[name]["label"] = _seeds(groups[name][1])
    labels = [look["label"] for look in looks.values()] + ["hand-over"] * (handover is not None)
    columns = legend_columns(labels)
    figure = Figure(figsize=(5.0, 3.2 + legend_height(labels, columns)))
    axes = figure.add_subplot()
    for name, look in looks.items():
        steps, _, scores = groups[name]
        draw_curve(axes, steps, scores, len(groups) <= MOST_WITH_SEEDS, **look)
    fit_height(axes)
    if handover is not None:
        axes.axvline(handover, color=INK, linestyle="--", linewidth=1, label="hand-over")
        unit = f"updates, then {unit}" if handover else unit
    axes.set(title=title, xlabel=unit, ylabel=quantity)
    count_axis(axes.xaxis)
    legend_below(axes, columns)
    save(figure, path)


def _seeds(seeds: Sequence[int]) -> str:
    band = ", 95% interval" if len(seeds) >= LEAST_FOR_BAND else ""
    return f"mean of {len(seeds)} seeds{band}" if len(seeds) > 1 else f"seed {seeds[0]}"


@styled
def plot_maze(
    maze: Maze, values: np.ndarray | None, paths: Sequence[np.ndarray], title: str, path: Path
) -> None:
    """Draws the walls, V at rest over the free positions, and the policy's paths from start (dot) to end.

    Args:
        maze: positions in it grow with the row (downwards in the picture) and the column.
        values: f32[H, W], V on `position_grid(maze)`; None for a method without V. Values inside walls, where
            the point mass never is, are neither drawn nor part of the colours' range.
        paths: each f32[T + 1, O]; the first two columns are the position.
        path: of the PNG; the same picture as SVG is written beside it.
    """
    rows, columns = maze.walls.shape
    extent = (-0.7, columns - 0.7, rows - 0.7, -0.7)  # D4RL's free cell (r, c) spans [r - 0.7, r + 0.3]
    inch = 0.95 if columns < 8 else 0.7
    figure = Figure(figsize=(inch * columns + 0.8 * (values is not None), inch * rows + 0.7))
    axes = figure.add_subplot()
    axes.grid(False)
    if values is not None:
        free = np.ma.masked_where(np.kron(maze.walls, np.ones(_cell_shape(maze, values))) > 0, values)
        image = axes.imshow(free, extent=extent, cmap=HEAT, interpolation="nearest")
        bar = figure.colorbar(image, ax=axes, label="V(s) at rest (reward units)", shrink=0.8)
        bar.outline.set_visible(False)  # type: ignore[operator]
    walls = np.zeros((rows, columns, 4))
    walls[maze.walls] = to_rgba(WALL)
    axes.imshow(walls, extent=extent, interpolation="nearest")
    color = "white" if values is not None else BLUE
    edge = [Stroke(linewidth=1.6, foreground=INK), Normal()] if values is not None else []
    for number, positions in enumerate(paths):
        x, y = positions[:, :2].T
        label = f"{len(paths)} paths" if number == 0 else None
        axes.plot(y, x, color=color, linewidth=0.9, alpha=0.9, path_effects=edge, label=label)
    starts = np.array([positions[0, :2] for positions in paths]).reshape(-1, 2)
    look: dict[str, Any] = {"color": ORANGE, "markeredgecolor": INK, "markeredgewidth": 0.6, "zorder": 3}
    axes.plot(starts[:, 1], starts[:, 0], "o", linestyle="none", markersize=4.5, label="start", **look)
    look |= {"color": VERMILION, "markeredgecolor": "white", "linestyle": "none", "zorder": 4}
    axes.plot(maze.goal[1], maze.goal[0], "*", markersize=15, label="goal", **look)
    edges = {"xlim": (0.0, columns - 1.4), "ylim": (rows - 1.4, 0.0)}  # three tenths of the outer walls
    axes.set(title=title, xlabel="y (columns)", ylabel="x (rows)", **edges)
    axes.set(xticks=range(1, columns - 1), yticks=range(1, rows - 1))
    axes.spines[:].set_visible(False)
    handles, _ = axes.get_legend_handles_labels()
    legend_below(axes, 4, handles=[*handles, Patch(color=WALL, label="wall")])
    save(figure, path)


def _cell_shape(maze: Maze, values: np.ndarray) -> tuple[int, int]:
    """Returns how many rows and columns of the values lie in a cell."""
    rows, columns = maze.walls.shape
    return values.shape[0] // rows, values.shape[1] // columns


def position_grid(maze: Maze, points_per_cell: int = 24) -> np.ndarray:
    """Returns positions f32[H, W, 2] that cover the maze, its walls included, row by row."""
    rows, columns = maze.walls.shape
    offsets = (np.arange(points_per_cell) + 0.5) / points_per_cell - 0.7
    x = (np.arange(rows)[:, None] + offsets).ravel()
    y = (np.arange(columns)[:, None] + offsets).ravel()
    return np.stack(np.meshgrid(x, y, indexing="ij"), axis=-1).astype(np.float32)
