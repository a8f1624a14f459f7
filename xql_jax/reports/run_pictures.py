"""Pictures of a run: its learning curve, and for mazes also the values and the policy's paths."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.patheffects import Normal, Stroke

from xql_jax.envs.mazes import Cell, Maze
from xql_jax.logs.csv_rows import Row
from xql_jax.reports import style
from xql_jax.reports.run_summary import scores_by_setting

POINTS_PER_CELL = 24  # of the picture of V over a maze, each way


@style.styled()
def plot_learning_curve(
    rows: Sequence[Row],
    title: str,
    path: Path,
    unit: str = "updates",
    handover: int | None = None,
    quantity: str = "normalised score",
) -> None:
    """Draws the score against steps: a line per setting, see `draw_curves`.

    Args:
        rows: of an evaluations.csv, not empty.
        path: of the PNG.
        unit: what the steps are.
        handover: the step at which fine-tuning begins. It is marked, and steps before it are updates.
        quantity: what the score is: of a task without references, the return.
    """
    groups = {
        " ".join(f"{name}={value:g}" for name, value in setting): scores
        for setting, scores in scores_by_setting(rows).items()
    }
    looks = style.looks_of(groups)
    if len(groups) == 1:
        ((name, (_, seeds, _)),) = groups.items()
        band = ", 95% interval" if len(seeds) >= style.LEAST_FOR_BAND else ""
        looks[name]["label"] = f"mean of {len(seeds)} seeds{band}" if len(seeds) > 1 else f"seed {seeds[0]}"
    figure, axes = style.single_axes([look["label"] for look in looks.values()])
    style.draw_curves(axes, groups, looks, len(groups) <= style.MOST_WITH_SEEDS, handover)
    axes.set(title=title, xlabel=f"updates, then {unit}" if handover else unit, ylabel=quantity)
    style.save(figure, path)


@style.styled()
def plot_maze(
    maze: Maze, values: np.ndarray | None, paths: Sequence[np.ndarray], title: str, path: Path
) -> None:
    """Draws the walls, V at rest over the free positions, and the policy's paths from start (dot) to end.

    Args:
        maze: positions in it grow with the row (downwards in the picture) and the column.
        values: f32[H, W], V on `position_grid(maze)`; None for a method without V. Values inside walls, where
            the point mass never is, are neither drawn nor part of the colours' range.
        paths: each f32[T + 1, O]; the first two columns are the position.
        path: of the PNG.
    """
    rows, columns = maze.walls.shape
    extent = (-0.7, columns - 0.7, rows - 0.7, -0.7)  # D4RL's free cell (r, c) spans [r - 0.7, r + 0.3]
    inch = 0.95 if columns < 8 else 0.7
    figure = Figure(figsize=(inch * columns + 0.8 * (values is not None), inch * rows + 0.7))
    axes = figure.add_subplot()
    axes.grid(False)
    color, edge = style.BLUE, []
    if values is not None:
        color, edge = "white", [Stroke(linewidth=1.6, foreground=style.INK), Normal()]
        cell = np.ones((POINTS_PER_CELL, POINTS_PER_CELL))
        free = np.ma.masked_where(np.kron(maze.walls, cell) > 0, values)
        image = axes.imshow(free, extent=extent, interpolation="nearest")
        bar = figure.colorbar(image, ax=axes, label="V(s) at rest (reward units)", shrink=0.8)
        bar.outline.set_visible(False)  # type: ignore[operator]
    walls = np.zeros((rows, columns, 4))
    walls[maze.walls] = to_rgba(style.WALL)
    axes.imshow(walls, extent=extent, interpolation="nearest")
    for number, positions in enumerate(paths):
        x, y = positions[:, :2].T
        label = f"{len(paths)} paths" if number == 0 else None
        axes.plot(y, x, color=color, linewidth=0.9, alpha=0.9, path_effects=edge, label=label)
    mark_ends(axes, [positions[0, :2] for positions in paths], maze.goal, size=4.5)
    edges = {"xlim": (0.0, columns - 1.4), "ylim": (rows - 1.4, 0.0)}  # three tenths of the outer walls
    axes.set(title=title, xlabel="y (columns)", ylabel="x (rows)", **edges)
    axes.set(xticks=range(1, columns - 1), yticks=range(1, rows - 1))
    axes.spines[:].set_visible(False)
    handles, _ = axes.get_legend_handles_labels()
    style.legend_below(axes, 4, handles=[*handles, Patch(color=style.WALL, label="wall")])
    style.save(figure, path)


def mark_ends(axes: Axes, starts: Sequence[np.ndarray | Cell], goal: Cell, size: float) -> None:
    """Marks the starts with dots of that size, and the goal with a star; all are (row, column)."""
    rows, columns = np.array(starts).reshape(-1, 2).T
    edge: style.Look = {"markeredgecolor": style.INK, "markeredgewidth": 0.6, "zorder": 3}
    axes.plot(columns, rows, "o", color=style.ORANGE, markersize=size, label="start", **edge)
    edge = {"markeredgecolor": "white", "zorder": 4}
    axes.plot(goal[1], goal[0], "*", color=style.VERMILION, markersize=15, label="goal", **edge)


def position_grid(maze: Maze) -> np.ndarray:
    """Returns positions f32[H, W, 2] that cover the maze, its walls included, row by row."""
    offsets = (np.arange(POINTS_PER_CELL) + 0.5) / POINTS_PER_CELL - 0.7
    x, y = ((np.arange(cells)[:, None] + offsets).ravel() for cells in maze.walls.shape)
    return np.stack(np.meshgrid(x, y, indexing="ij"), axis=-1).astype(np.float32)
