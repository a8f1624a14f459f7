"""Figure 4: V over a maze, fitted by mean squared error and by Gumbel regression, and the exact maximum.

Source: Garg et al. 2023, Appendix D.1. Its caption says that V comes closer to the maximum with a larger
beta. By Lemma 3.1 it does so with a smaller beta, which this figure confirms.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.patheffects import Normal, Stroke

from xql_jax.envs.mazes import Cell
from xql_jax.learners.deterministic_dynamics import ValueIteration
from xql_jax.learners.method import Method
from xql_jax.learners.parts import ValueFit
from xql_jax.pictures import style
from xql_jax.pictures.style import INK, WALL, styled
from xql_jax.settings import with_values
from xql_jax.theory.error_model import optimal_q
from xql_jax.theory.gridworld import FIGURE_4, greedy_path, gridworld
from xql_jax.theory.soft_mdp import value_iteration
from xql_jax.types import Array, Batch
from xql_jax.workshop.paper.columns import Tables, long_table, unique, where

START: Cell = (7, 1)
MAZE_DISCOUNT = 0.95
MAZE_BETAS = (1.0, 0.1, 0.02)
NUM_UPDATES = ((1e-3, 6_000), (1e-4, 2_000))  # pairs of Adam's learning rate and a number of updates
RESOLVED = 1e-4  # largest error of the networks; a smaller V is noise
LARGE_BETA = 1e6  # so large that the exact soft value equals the mean

GUMBEL_FIT = Method(ValueIteration)
MEAN_FIT = Method(ValueIteration, value=ValueFit)  # V goes to the mean of r + discount * V(s')


@jax.jit
def fit(learner: ValueIteration, batch: Batch, key: Array) -> Array:
    """Returns V at every state, f32[S], fitted by gradient descent to the data only."""
    state = learner.init(key, batch.observations, batch.actions)
    for rate, count in NUM_UPDATES:
        stage = with_values(learner, {"value_lr": rate})
        state = jax.lax.fori_loop(0, count, lambda i, s, by=stage: by.update(s, batch, key)[0], state)
    return state.value(jnp.eye(batch.observations.shape[1]))


def compute_maze(seed: int) -> Tables:
    mdp = gridworld(FIGURE_4, discount=MAZE_DISCOUNT)
    cells = FIGURE_4.free_cells
    goal = int(np.flatnonzero((cells == FIGURE_4.goal).all(1))[0])
    # Every action once in every state except the goal; states are one-hot.
    states, actions = np.indices(mdp.rewards.shape).reshape(2, -1)
    states, actions = states[states != goal], actions[states != goal]
    after = mdp.next_states[states, actions, 0]
    batch = Batch(
        observations=jnp.eye(len(cells))[states],
        actions=jnp.eye(mdp.rewards.shape[1])[actions],
        rewards=jnp.asarray(mdp.rewards[states, actions], jnp.float32),
        masks=jnp.asarray(after != goal, jnp.float32),
        next_observations=jnp.eye(len(cells))[after],
    )
    # No clip: clipped targets have no gradient, and with a small beta all may be clipped at first.
    widths = {"actor_hidden_dims": (64, 64), "value_hidden_dims": (64, 64)}
    common = {**widths, "discount": MAZE_DISCOUNT, "tau": 0.1}
    methods = {"mean squared error": (MEAN_FIT(**common), LARGE_BETA)}
    for beta in MAZE_BETAS:
        methods[f"Gumbel, β = {beta:g}"] = (GUMBEL_FIT(**common, clip=jnp.inf, beta=beta), beta)
    fits = {}
    for method, (learner, beta) in methods.items():
        fitted = np.asarray(fit(learner, batch, jax.random.key(seed)), np.float64)
        fits[method] = fitted, value_iteration(gridworld(FIGURE_4, discount=MAZE_DISCOUNT, beta=beta)).v
    best = optimal_q(mdp).max(-1)
    fits["exact maximum"] = best, best
    values: list[tuple] = []
    paths: list[tuple] = []
    for method, (v, exact) in fits.items():
        v = np.where(np.arange(len(v)) == goal, 0.0, v)  # terminal: its value is known, not fitted
        values += [(method, *cell, *pair) for cell, *pair in zip(cells.tolist(), v, exact, strict=True)]
        path = greedy_path(FIGURE_4, mdp.backup(v), START)
        paths += [(method, step, *cell) for step, cell in enumerate(path)]
    return {
        "values": long_table("method", "row", "column", "fitted", "exact", rows=values),
        "paths": long_table("method", "step", "row", "column", rows=paths),
    }


@styled()
def draw_maze(tables: Tables) -> Figure:
    methods = unique(tables["values"]["method"])
    figure = Figure(figsize=(2.1 * len(methods) + 0.7, 2.75))
    row_of_axes = figure.subplots(1, len(methods))
    edge = [Stroke(linewidth=2.6, foreground=INK), Normal()]
    for method, axes in zip(methods, row_of_axes, strict=True):
        rows, path = (where(tables[name], method=method) for name in ("values", "paths"))
        grid = np.full(FIGURE_4.walls.shape, np.nan)
        grid[rows["row"], rows["column"]] = rows["fitted"]
        v_start = grid[START]
        grid[FIGURE_4.goal] = np.nan
        axes.grid(False)
        image = axes.imshow(grid, vmin=0.0, vmax=1.0)
        axes.set_facecolor(WALL)
        look = {"color": "white", "linewidth": 1.4, "path_effects": edge, "label": "greedy path"}
        axes.plot(path["column"], path["row"], **look)
        mark_ends(axes, [START], FIGURE_4.goal, size=7)
        moves = f"{len(path['step']) - 1} moves"
        reached = (path["row"][-1], path["column"][-1]) == FIGURE_4.goal
        value = f"= {v_start:.2g}" if v_start > RESOLVED else "≈ 0"
        outcome = f"V(start) {value}; {moves if reached else f'stuck after {moves}'}"
        axes.set(title=f"{method}\n{outcome}", xticks=[], yticks=[], xlabel="column (cells)")
        axes.title.set_fontsize("small")
        axes.spines[:].set_visible(False)
    row_of_axes[0].set_ylabel("row (cells)")
    handles = [*row_of_axes[0].get_legend_handles_labels()[0], Patch(color=WALL, label="wall")]
    figure.legend(handles=handles, loc="outside lower center", ncols=4)
    label = f"V(s) (reward units, γ = {MAZE_DISCOUNT:g})"
    bar = figure.colorbar(image, ax=row_of_axes, label=label, shrink=0.75)
    bar.outline.set_visible(False)  # type: ignore[operator]
    return figure


def mark_ends(axes: Axes, starts: Sequence[np.ndarray | Cell], goal: Cell, size: float) -> None:
    """Marks the starts with dots of that size, and the goal with a star; all are (row, column)."""
    rows, columns = np.array(starts).reshape(-1, 2).T
    edge: style.Look = {"markeredgecolor": style.INK, "markeredgewidth": 0.6, "zorder": 3}
    axes.plot(columns, rows, "o", color=style.ORANGE, markersize=size, label="start", **edge)
    edge = {"markeredgecolor": "white", "zorder": 4}
    axes.plot(goal[1], goal[0], "*", color=style.VERMILION, markersize=15, label="goal", **edge)
