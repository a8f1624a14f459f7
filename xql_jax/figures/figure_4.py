"""Figure 4: V over a maze, fitted by mean squared error and by Gumbel regression, and the exact maximum.

Source: Garg et al. 2023, Appendix D.1. Its caption says that V comes closer to the maximum with a larger
beta. By Lemma 3.1 it does so with a smaller beta, which this figure confirms.
"""

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.patheffects import Normal, Stroke

from xql_jax.envs.mazes import Cell
from xql_jax.figures.tables import PaperFigure, Tables, long_table, where
from xql_jax.learners.fields import Method, with_hyperparameters
from xql_jax.learners.parts import ValueFit
from xql_jax.learners.value_iteration import ValueIteration
from xql_jax.reports.style import HEAT, INK, ORANGE, VERMILION, WALL, styled
from xql_jax.theory.error_model import optimal_q
from xql_jax.theory.gridworld import FIGURE_4, greedy_path, gridworld
from xql_jax.theory.soft_mdp import SoftMDP, value_iteration
from xql_jax.types import Array, Batch

START: Cell = (7, 1)
DISCOUNT = 0.95
BETAS = (1.0, 0.1, 0.02)
NUM_UPDATES = ((1e-3, 6_000), (1e-4, 2_000))  # pairs of Adam's learning rate and a number of updates
RESOLVED = 1e-4  # largest error of the networks; a smaller V is noise
LARGE_BETA = 1e6  # so large that the exact soft value equals the mean


XQL = Method(ValueIteration)
MEAN = Method(ValueIteration, value=ValueFit)  # V goes to the mean of r + discount * V(s')


def transitions(mdp: SoftMDP, goal: int) -> Batch:
    """Returns a batch with every action once in every state except the goal; states are one-hot."""
    num_states, num_actions = mdp.rewards.shape
    states, actions = np.indices(mdp.rewards.shape).reshape(2, -1)
    states, actions = states[states != goal], actions[states != goal]
    after = mdp.next_states[states, actions, 0]
    return Batch(
        observations=jnp.eye(num_states)[states],
        actions=jnp.eye(num_actions)[actions],
        rewards=jnp.asarray(mdp.rewards[states, actions], jnp.float32),
        masks=jnp.asarray(after != goal, jnp.float32),
        next_observations=jnp.eye(num_states)[after],
    )


@jax.jit
def fit(learner: ValueIteration, batch: Batch, key: Array) -> Array:
    """Returns V at every state, f32[S], fitted by gradient descent to the data only."""
    state = learner.init(key, batch.observations, batch.actions)
    for rate, count in NUM_UPDATES:
        stage = with_hyperparameters(learner, {"value_lr": rate})
        state = jax.lax.fori_loop(0, count, lambda i, s, by=stage: by.update(s, batch, key)[0], state)
    return state.value(jnp.eye(batch.observations.shape[1]))


def compute(seed: int) -> Tables:
    mdp = gridworld(FIGURE_4, discount=DISCOUNT)
    cells = FIGURE_4.free_cells
    goal = int(np.flatnonzero((cells == FIGURE_4.goal).all(1))[0])
    batch = transitions(mdp, goal)
    # No clip: clipped targets have no gradient, and with a small beta all may be clipped at first.
    widths = {"actor_hidden_dims": (64, 64), "value_hidden_dims": (64, 64)}
    common = {**widths, "discount": DISCOUNT, "tau": 0.1}

    methods: dict[str, tuple[ValueIteration, float]] = {"mean squared error": (MEAN(**common), LARGE_BETA)}
    for beta in BETAS:
        methods[f"Gumbel, β = {beta:g}"] = (XQL(**common, clip=jnp.inf, beta=beta), beta)
    values: list[tuple] = []
    paths: list[tuple] = []

    def add(method: str, v: np.ndarray, exact: np.ndarray) -> None:
        v = np.where(np.arange(len(v)) == goal, 0.0, v)  # terminal: its value is known, not fitted
        q = mdp.backup(v)
        values.extend((method, *cell, *pair) for cell, *pair in zip(cells.tolist(), v, exact, strict=True))
        paths.extend((method, step, *cell) for step, cell in enumerate(greedy_path(FIGURE_4, q, START)))

    for method, (learner, beta) in methods.items():
        fitted = np.asarray(fit(learner, batch, jax.random.key(seed)), np.float64)
        add(method, fitted, value_iteration(gridworld(FIGURE_4, discount=DISCOUNT, beta=beta)).v)
    best = optimal_q(mdp).max(-1)
    add("exact maximum", best, best)
    return {
        "values": long_table("method", "row", "column", "fitted", "exact", rows=values),
        "paths": long_table("method", "step", "row", "column", rows=paths),
    }


@styled
def draw(tables: Tables) -> Figure:
    values, paths = tables["values"], tables["paths"]
    methods = list(dict.fromkeys(values["method"]))
    figure = Figure(figsize=(2.1 * len(methods) + 0.7, 2.75))
    row_of_axes = figure.subplots(1, len(methods))
    goal_row, goal_column = FIGURE_4.goal
    edge = [Stroke(linewidth=2.6, foreground=INK), Normal()]
    for method, axes in zip(methods, row_of_axes, strict=True):
        rows = where(values, method=method)
        grid = np.full(FIGURE_4.walls.shape, np.nan)
        grid[rows["row"], rows["column"]] = rows["fitted"]
        grid[FIGURE_4.goal] = np.nan
        axes.grid(False)
        image = axes.imshow(grid, cmap=HEAT, vmin=0.0, vmax=1.0)
        axes.set_facecolor(WALL)
        path = where(paths, method=method)
        look = {"color": "white", "linewidth": 1.4, "path_effects": edge, "label": "greedy path"}
        axes.plot(path["column"], path["row"], **look)
        look = {"color": ORANGE, "markeredgecolor": INK, "linestyle": "none", "zorder": 3, "label": "start"}
        axes.plot(START[1], START[0], "o", markersize=7, **look)
        look |= {"color": VERMILION, "markeredgecolor": "white", "zorder": 4, "label": "goal"}
        axes.plot(goal_column, goal_row, "*", markersize=14, **look)
        reached = (path["row"][-1], path["column"][-1]) == FIGURE_4.goal
        moves = f"{len(path['step']) - 1} moves"
        v_start = rows["fitted"][(rows["row"] == START[0]) & (rows["column"] == START[1])][0]
        value = f"= {v_start:.2g}" if v_start > RESOLVED else "≈ 0"
        outcome = f"V(start) {value}; {moves if reached else f'stuck after {moves}'}"
        axes.set(title=f"{method}\n{outcome}", xticks=[], yticks=[], xlabel="column (cells)")
        axes.title.set_fontsize("small")
        axes.spines[:].set_visible(False)
    row_of_axes[0].set_ylabel("row (cells)")
    handles, _ = row_of_axes[0].get_legend_handles_labels()
    wall = Patch(color=WALL, label="wall")
    figure.legend(handles=[*handles, wall], loc="outside lower center", ncols=4)
    bar = figure.colorbar(image, ax=row_of_axes, label=f"V(s) (reward units, γ = {DISCOUNT:g})", shrink=0.75)
    bar.outline.set_visible(False)  # type: ignore[operator]
    return figure


FIGURE = PaperFigure(
    "V and greedy paths in a maze: squared error, Gumbel at several β, exact maximum", compute, draw
)
