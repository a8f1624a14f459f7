"""Figure 2: Gumbel density, Gumbel loss, and regression of a two-dimensional variable at several betas."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from scipy.stats import gumbel_r

from xql_jax.pictures import style
from xql_jax.theory.log_partition import log_partition
from xql_jax.theory.regression import gumbel_regression
from xql_jax.workshop.paper.columns import Table, Tables, where

DENSITY_BETAS = (0.5, 1.0, 2.0, 4.0)  # beta of the density and the loss, reward units
REGRESSION_BETAS = (0.05, 0.2, 1.0, 10.0)  # beta of the regression, reward units
NUM_SAMPLES = 4_000


def spread_around(x: np.ndarray) -> np.ndarray:
    """Returns half the width of Y's distribution at x. Y is uniform around sin(2x), wider for larger x."""
    return 0.3 + 0.9 * (x + 2.0) / 4.0


def by_beta(betas: Sequence[float], name: str, points: np.ndarray, **columns: Sequence[np.ndarray]) -> Table:
    """Returns a table with a row for every beta and point; each column is given as an array for each beta."""
    grid = {"beta": np.repeat(betas, len(points)), name: np.tile(points, len(betas))}
    return grid | {column: np.concatenate(arrays) for column, arrays in columns.items()}


def compute_2(seed: int) -> Tables:
    x, error, line = np.linspace(-6.0, 12.0, 400), np.linspace(-4.0, 4.0, 400), np.linspace(-2.0, 2.0, 200)
    generator = np.random.default_rng(seed)
    inputs = generator.uniform(-2.0, 2.0, NUM_SAMPLES)
    y = np.sin(2.0 * inputs) + spread_around(inputs) * generator.uniform(-1.0, 1.0, NUM_SAMPLES)
    how: Any = {"hidden_dims": (64, 64), "learning_rate": 3e-3, "num_updates": 20_000, "seed": seed}
    models = [gumbel_regression(inputs[:, None], y, beta, **how) for beta in REGRESSION_BETAS]
    fitted = [model(line[:, None]) for model in models]
    # L^beta(Y | x), integrated numerically over the quantiles of the uniform distribution.
    quantiles = (np.arange(2_000) + 0.5) / 1_000 - 1.0
    values = np.sin(2.0 * line)[:, None] + spread_around(line)[:, None] * quantiles
    exact = [log_partition(values, beta) for beta in REGRESSION_BETAS]
    density = [gumbel_r.pdf(x, scale=beta) for beta in DENSITY_BETAS]
    loss = [np.expm1(error / beta) - error / beta for beta in DENSITY_BETAS]
    return {
        "density": by_beta(DENSITY_BETAS, "x", x, density=density),
        "loss": by_beta(DENSITY_BETAS, "error", error, loss=loss),
        "samples": {"x": inputs, "y": y},
        "regression": by_beta(REGRESSION_BETAS, "x", line, fitted=fitted, exact=exact),
    }


@style.styled()
def draw_2(tables: Tables) -> Figure:
    figure = Figure(figsize=(9.6, 3.5))
    left, centre, right = figure.subplots(1, 3)
    lines = zip(style.LINES, style.DASHES, strict=False)
    looks = [{"color": color, "linestyle": dash} for color, dash in lines]
    for beta, look in zip(DENSITY_BETAS, looks, strict=True):
        for axes, name, x, y in ((left, "density", "x", "density"), (centre, "loss", "error", "loss")):
            rows = where(tables[name], beta=beta)
            axes.plot(rows[x], rows[y], label=f"β = {beta:g}", **look)
    left.set(title="Gumbel density G(0, β)", xlabel="x (reward units)", ylabel="density (1 / reward units)")
    left.set_xlim(-6, 12)
    centre.set(title="Gumbel loss, z = (x − h) / β", ylim=(0, 8))
    centre.set(xlabel="error x − h (reward units)", ylabel="exp(z) − z − 1 (dimensionless)")
    samples = tables["samples"]
    right.plot(samples["x"], samples["y"], ".", color="0.75", markersize=1.5, label="samples")
    for beta, look in zip(REGRESSION_BETAS, looks, strict=True):
        rows = where(tables["regression"], beta=beta)
        right.plot(rows["x"], rows["exact"], color=style.INK, linewidth=0.6, zorder=3)
        right.plot(rows["x"], rows["fitted"], linewidth=2.6, label=f"β = {beta:g}", **look)
    right.plot([], [], color=style.INK, linewidth=0.7, label="exact β log E[exp(y/β) | x]")
    right.set(title="Gumbel regression of y given x", xlabel="x (input units)", ylabel="y (reward units)")
    for axes, columns in ((left, 4), (centre, 4), (right, 2)):
        style.legend_below(axes, columns)
    return figure
