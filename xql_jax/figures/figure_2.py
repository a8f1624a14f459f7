"""Figure 2: Gumbel density, Gumbel loss, and regression of a two-dimensional variable at several betas."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from xql_jax.errors import needing
from xql_jax.figures.tables import PaperFigure, Table, Tables, where
from xql_jax.reports.style import DASHES, INK, LINES, legend_below, styled
from xql_jax.theory.gumbel import Gumbel
from xql_jax.theory.log_partition import log_partition

SCALES = (0.5, 1.0, 2.0, 4.0)  # beta of the density and the loss, reward units
BETAS = (0.05, 0.2, 1.0, 10.0)  # beta of the regression, reward units
NUM_SAMPLES = 4_000


def spread_around(x: np.ndarray) -> np.ndarray:
    """Returns half the width of Y's distribution at x. Y is uniform around sin(2x), wider for larger x."""
    return 0.3 + 0.9 * (x + 2.0) / 4.0


def exact_regression(x: np.ndarray, beta: float) -> np.ndarray:
    """Returns L^beta(Y | x), integrated numerically over the quantiles of the uniform distribution."""
    quantiles = (np.arange(2_000) + 0.5) / 1_000 - 1.0
    y = np.sin(2.0 * x)[:, None] + spread_around(x)[:, None] * quantiles
    return log_partition(y, beta)


def by_beta(betas: Sequence[float], name: str, points: np.ndarray, **columns: Sequence[np.ndarray]) -> Table:
    """Returns a table with a row for every beta and point.

    Args:
        name: of the column with the points.
        columns: for each further column, an array over the points for each beta.
    """
    grid = {"beta": np.repeat(betas, len(points)), name: np.tile(points, len(betas))}
    return grid | {column: np.concatenate(arrays) for column, arrays in columns.items()}


def compute(seed: int) -> Tables:
    with needing("Figure 2", "theory"):
        from xql_jax.theory.regression import GumbelRegressor

    x = np.linspace(-6.0, 12.0, 400)
    density = by_beta(SCALES, "x", x, density=[Gumbel(0.0, beta).density(x) for beta in SCALES])
    error = np.linspace(-4.0, 4.0, 400)
    losses = [np.expm1(error / beta) - error / beta for beta in SCALES]
    loss = by_beta(SCALES, "error", error, loss=losses)

    generator = np.random.default_rng(seed)
    x = generator.uniform(-2.0, 2.0, NUM_SAMPLES)
    y = np.sin(2.0 * x) + spread_around(x) * generator.uniform(-1.0, 1.0, NUM_SAMPLES)
    regressor = GumbelRegressor(
        BETAS, hidden_dims=(64, 64), learning_rate=3e-3, num_updates=20_000, random_state=seed
    )
    line = np.linspace(-2.0, 2.0, 200)
    fitted = regressor.fit(x[:, None], y).predict(line[:, None])
    exact = [exact_regression(line, beta) for beta in BETAS]
    regression = by_beta(BETAS, "x", line, fitted=list(fitted.T), exact=exact)
    return {"density": density, "loss": loss, "samples": {"x": x, "y": y}, "regression": regression}


@styled
def draw(tables: Tables) -> Figure:
    figure = Figure(figsize=(9.6, 3.5))
    left, centre, right = figure.subplots(1, 3)
    for beta, color, style in zip(SCALES, LINES, DASHES, strict=False):
        look = {"color": color, "linestyle": style, "label": f"β = {beta:g}"}
        rows = where(tables["density"], beta=beta)
        left.plot(rows["x"], rows["density"], **look)
        rows = where(tables["loss"], beta=beta)
        centre.plot(rows["error"], rows["loss"], **look)
    left.set(title="Gumbel density G(0, β)", xlabel="x (reward units)", ylabel="density (1 / reward units)")
    left.set_xlim(-6, 12)
    centre.set(title="Gumbel loss, z = (x − h) / β", ylim=(0, 8))
    centre.set(xlabel="error x − h (reward units)", ylabel="exp(z) − z − 1 (dimensionless)")

    samples = tables["samples"]
    right.plot(samples["x"], samples["y"], ".", color="0.75", markersize=1.5, label="samples")
    for beta, color, style in zip(BETAS, LINES, DASHES, strict=False):
        rows = where(tables["regression"], beta=beta)
        label = f"β = {beta:g}"
        right.plot(rows["x"], rows["exact"], color=INK, linewidth=0.6, zorder=3)
        right.plot(rows["x"], rows["fitted"], color=color, linestyle=style, linewidth=2.6, label=label)
    right.plot([], [], color=INK, linewidth=0.7, label="exact β log E[exp(y/β) | x]")
    right.set(title="Gumbel regression of y given x", xlabel="x (input units)", ylabel="y (reward units)")
    for axes in (left, centre):
        legend_below(axes, 4)
    legend_below(right, 2)
    return figure


FIGURE = PaperFigure("Gumbel density, Gumbel loss, and regression at several β", compute, draw)
