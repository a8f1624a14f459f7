"""Draws what a policy does in a point maze: V over the free positions, if the method learns V, and its paths.

  python examples/draw_maze.py results/pointmaze-umaze-v0

The argument is a run's folder, or one that contains runs. Each run gets a maze.png: V at rest, and the paths
of its first member in 20 episodes, from their starts (dots).
"""

import contextlib
import sys

import numpy as np
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import Normal, Stroke

from xql_jax.envs import environment_maker
from xql_jax.envs.mazes import Maze, maze_of
from xql_jax.errors import UserError
from xql_jax.files import write_atomically
from xql_jax.pictures import style
from xql_jax.policy import Policy, load_policy
from xql_jax.rollout import rollout
from xql_jax.rollout.evaluation import episode_seed
from xql_jax.runs.find import find_runs
from xql_jax.runs.load import Run
from xql_jax.workshop.paper.maze import mark_ends

EPISODES = 20
POINTS_PER_CELL = 24  # of the picture of V, each way


def main(folder: str) -> None:
    runs, _ = find_runs([folder])
    for run in runs:
        if not run.steps:
            continue  # it has no policy yet
        first, maze = run.members[0], maze_of(run.task.name)
        policy = load_policy(run.path).select(seed=first.seed, **first.hyperparameters)
        figure = draw(maze, values_in(maze, policy), paths_of(run), f"{run.method} on {run.dataset}, {first}")
        write_atomically(run.path / "maze.png", style.render(figure))
        print(f"written: {run.path / 'maze.png'}")


def values_in(maze: Maze, policy: Policy) -> np.ndarray | None:
    """V at rest on `position_grid(maze)`, f32[H, W]; None if the method learns no V."""
    positions = position_grid(maze)
    at_rest = np.concatenate([positions, np.zeros_like(positions)], axis=-1)
    with contextlib.suppress(UserError):
        return policy.value(at_rest)
    return None


def position_grid(maze: Maze) -> np.ndarray:
    """Positions f32[H, W, 2] that cover the maze, its walls included, row by row."""
    offsets = (np.arange(POINTS_PER_CELL) + 0.5) / POINTS_PER_CELL - 0.7
    x, y = ((np.arange(cells)[:, None] + offsets).ravel() for cells in maze.walls.shape)
    return np.stack(np.meshgrid(x, y, indexing="ij"), axis=-1).astype(np.float32)


def paths_of(run: Run) -> list[np.ndarray]:
    """The observations f32[T + 1, 4] of each episode of the first member."""
    maker = environment_maker(run.task)
    with contextlib.closing(maker.vector_env(run.task, EPISODES)) as env:
        start = env.reset([episode_seed(0, episode) for episode in range(EPISODES)])
        steps = [step for _, step in rollout(env, run.policy(run.members[:1]), start)]
    seen = np.stack([start, *(step.observations for step in steps)])
    return [seen[: length + 1, episode] for episode, length in enumerate(steps[-1].lengths)]


@style.styled()
def draw(maze: Maze, values: np.ndarray | None, paths: list[np.ndarray], title: str) -> Figure:
    """The walls, V over the free positions, and the paths. Positions grow with the row and the column."""
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
        free = np.ma.masked_where(np.kron(maze.walls, cell) > 0, values)  # walls are no part of the colours
        image = axes.imshow(free, extent=extent, interpolation="nearest")
        bar = figure.colorbar(image, ax=axes, label="V(s) at rest (training's reward units)", shrink=0.8)
        bar.outline.set_visible(False)
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
    axes.add_patch(Rectangle((0.0, 0.0), 0.0, 0.0, color=style.WALL, label="wall"))  # for the legend
    style.legend_below(axes, 4)
    return figure


if __name__ == "__main__":
    main(*sys.argv[1:])
