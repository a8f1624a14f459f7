"""Figure 2: Gumbel density, Gumbel loss, and regression of a two-dimensional variable at several betas."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from xql_jax.figures.paper_figure import PaperFigure, Table, where
from xql_jax.reports.palette import LINES
from xql_jax.theory.gumbel import Gumbel
from xql_jax.theory.log_partition import log_partition
from xql_jax.theory.regression import GumbelRegressor

SCALES = (0.5, 1.0, 2.0, 4.0)  # of the density and the loss, reward units
BETAS = (0.05, 0.2, 1.0, 10.0)  # of the regression
NUM_SAMPLES = 4_000
STYLES = ("-", "--", "-.", ":")


def spread_around(x: np.ndarray) -> np.ndarray:
    """Half the width of Y's law at x: Y is uniform around sin(2x), more spread on the right."""
    return 0.3 + 0.9 * (x + 2.0) / 4.0


def exact_regression(x: np.ndarray, beta: float) -> np.ndarray:
    """L^beta(Y | x) by the quadrature of the uniform law's quantiles."""
    quantiles = (np.arange(2_000) + 0.5) / 1_000 - 1.0
    y = np.sin(2.0 * x)[:, None] + spread_around(x)[:, None] * quantiles
    return log_partition(y, beta)


def by_beta(betas: Sequence[float], name: str, points: np.ndarray, **columns: Sequence[np.ndarray]) -> Table:
    """Returns a row for every beta and point; a column is given as an array over the points for each beta."""
    grid = {"beta": np.repeat(betas, len(points)), name: np.tile(points, len(betas))}
    return grid | {column: np.concatenate(arrays) for column, arrays in columns.items()}


def compute(seed: int) -> dict[str, Table]:
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


def draw(tables: Mapping[str, Table]) -> Figure:
    figure = Figure(figsize=(15, 4.5), layout="constrained")
    left, centre, right = figure.subplots(1, 3)
    for beta, color, style in zip(SCALES, LINES, STYLES, strict=False):
        look = {"color": color, "linestyle": style, "label": f"β = {beta:g}"}
        rows = where(tables["density"], beta=beta)
        left.plot(rows["x"], rows["density"], **look)
        rows = where(tables["loss"], beta=beta)
        centre.plot(rows["error"], rows["loss"], **look)
    left.set(title="Gumbel density G(0, β)", xlabel="x (reward units)", ylabel="density (1 / reward units)")
    left.set_xlim(-6, 12)
    centre.set(title="Gumbel loss exp(z) − z − 1, z = (x − h) / β", ylim=(0, 8))
    centre.set(xlabel="error x − h (reward units)", ylabel="loss (dimensionless)")

    samples = tables["samples"]
    right.plot(samples["x"], samples["y"], ".", color="0.8", markersize=2, label="samples")
    for beta, color, style in zip(BETAS, LINES, STYLES, strict=False):
        rows = where(tables["regression"], beta=beta)
        label = f"β = {beta:g}"
        right.plot(rows["x"], rows["exact"], color=color, linewidth=0.8)
        right.plot(rows["x"], rows["fitted"], color=color, linestyle=style, linewidth=2.2, label=label)
    right.plot([], [], color="0.4", linewidth=0.8, label="exact β log E[exp(y/β) | x]")
    right.set(title="Gumbel regression of y given x", xlabel="x (input units)", ylabel="y (reward units)")
    right.set_ylim(-2.2, 3.4)
    left.legend(fontsize="small", loc="upper right")
    centre.legend(fontsize="small", loc="upper center")
    right.legend(fontsize="small", loc="upper left", ncols=2)
    for axes in figure.axes:
        axes.grid(alpha=0.3)
    return figure


FIGURE = PaperFigure("Gumbel density, Gumbel loss, and regression at several β", compute, draw)
