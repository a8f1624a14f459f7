"""Figures 2, B1 and B2: Gumbel regression, and the bounds of Appendix B. They need no runs."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from scipy.stats import gumbel_r

from xql_jax.errors import needing
from xql_jax.pictures import style
from xql_jax.theory import bounds
from xql_jax.theory.log_partition import log_partition
from xql_jax.workshop.paper.columns import Table, Tables, long_table, where

# Figure 2: Gumbel density, Gumbel loss, and regression of a two-dimensional variable at several betas.

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
    with needing("Figure 2", "theory"):
        from xql_jax.theory.regression import GumbelRegressor

    x, error, line = np.linspace(-6.0, 12.0, 400), np.linspace(-4.0, 4.0, 400), np.linspace(-2.0, 2.0, 200)
    generator = np.random.default_rng(seed)
    inputs = generator.uniform(-2.0, 2.0, NUM_SAMPLES)
    y = np.sin(2.0 * inputs) + spread_around(inputs) * generator.uniform(-1.0, 1.0, NUM_SAMPLES)
    how: Any = {"hidden_dims": (64, 64), "learning_rate": 3e-3, "num_updates": 20_000, "random_state": seed}
    models = [GumbelRegressor(beta, **how).fit(inputs[:, None], y) for beta in REGRESSION_BETAS]
    fitted = [model.predict(line[:, None]) for model in models]
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


# Figures B1 and B2: soft values and estimates of L^beta against the bounds of Lemmas B.1 and B.2.

Q_MAX = 1.0  # size of the estimates, reward units
NUM_ACTIONS = 20
NUM_ESTIMATES = 20_000
B1_BETAS = np.geomspace(0.02, 20.0, 60)
# P(Q = +Q_MAX); estimates are either Q_MAX or -Q_MAX. With 0.25 the bound printed in the paper fails.
CASES = {"E[Q] = 0": 0.5, "E[Q] = −0.5": 0.25}
B1_LINES = (  # column, colour, dashes, width, label
    ("corrected_bound", style.GREEN, "--", 1.6, "upper bound, corrected (2β log cosh)"),
    ("printed_bound", style.VERMILION, "-.", 1.6, "upper bound, as printed (β log cosh)"),
    ("estimated_value", style.BLUE, "-", 2.2, "E[V̂], simulated"),
    ("true_value", style.ORANGE, ":", 2.2, "V, the lower bound"),
    ("mean", "0.5", "-", 0.8, "E[Q]"),
)
X_MAX = 1.0  # X is uniform in [-X_MAX, X_MAX], reward units
B2_BETAS = (0.2, 1.0)
DELTA = 0.05
SAMPLES = np.unique(np.geomspace(5, 2_000, 14).astype(int))
DELTAS = np.geomspace(0.001, 0.5, 25)
NUM_FAILING = 50  # N for which failures of the bound are counted
REPLICATIONS = 20_000
B2_LINES = (  # column, colour, marker and dashes, width, label
    ("bound_eq_32", style.VERMILION, "-.", 1.6, "bound of Eq. 32"),
    ("bound_eq_30", style.GREEN, "--", 1.6, "bound of Eq. 30"),
    ("simulated_quantile", style.BLUE, "o-", 1.6, f"{1 - DELTA:.0%} of estimates lie below"),
    ("exact", style.SOFT, "-", 1.0, "L^β(X), exact"),
)


def compute_b1(seed: int) -> Tables:
    """Simulates unbiased estimates that are either Q_MAX or -Q_MAX; mu is uniform over the actions."""
    generator = np.random.default_rng(seed)
    rows: list[tuple] = []
    for case, probability in CASES.items():
        # P(estimate = +Q_MAX) for each action; its mean is `probability`.
        chances = np.clip(probability + 0.2 * np.linspace(-1.0, 1.0, NUM_ACTIONS), 0.0, 1.0)
        expected = Q_MAX * (2.0 * chances - 1.0)
        estimates = np.where(generator.random((NUM_ESTIMATES, NUM_ACTIONS)) < chances, Q_MAX, -Q_MAX)
        mean_q = float(expected.mean())
        for beta in B1_BETAS:
            simulated = log_partition(estimates, beta)
            error = simulated.std() / np.sqrt(NUM_ESTIMATES)
            printed = mean_q + bounds.log_cosh_bias(Q_MAX, beta)
            corrected = bounds.soft_value_upper_bound(mean_q, Q_MAX, beta)
            exact = log_partition(expected, beta)
            rows.append((case, beta, exact, simulated.mean(), error, printed, corrected, mean_q))
    names = ("true_value", "estimated_value", "standard_error", "printed_bound", "corrected_bound", "mean")
    return {"values": long_table("case", "beta", *names, rows=rows)}


@style.styled()
def draw_b1(tables: Tables) -> Figure:
    figure = Figure(figsize=(7.5, 3.7))
    for case, axes in zip(CASES, figure.subplots(1, 2, sharey=True), strict=True):
        rows = where(tables["values"], case=case)
        beta, printed, estimated = rows["beta"], rows["printed_bound"], rows["estimated_value"]
        for column, color, dashes, width, label in B1_LINES:
            axes.plot(beta, rows[column], dashes, color=color, linewidth=width, label=label)
        fails = estimated > printed + 4.0 * rows["standard_error"]  # beyond what the simulation can miss
        if fails.any():
            axes.fill_between(beta, printed, estimated, where=fails, color=style.VERMILION, alpha=0.2)
            shown = np.flatnonzero(fails)[fails.sum() // 3]
            place = {"xytext": (0.06, 0.2), "textcoords": "axes fraction", "arrowprops": {"arrowstyle": "->"}}
            axes.annotate("the printed bound\nfails here", (beta[shown], estimated[shown]), **place)
        axes.set(title=f"Lemma B.1, {case}", xlabel="β (reward units)", xscale="log")
    figure.axes[0].set_ylabel("value (reward units, estimates within ±1)")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def compute_b2(seed: int) -> Tables:
    generator = np.random.default_rng(seed)
    estimates: list[tuple] = []
    failures: list[tuple] = []
    for beta in B2_BETAS:
        partition = float(np.sinh(X_MAX / beta) * beta / X_MAX)  # E[exp(X / beta)]
        exact = beta * np.log(partition)
        for count in SAMPLES:
            x = generator.uniform(-X_MAX, X_MAX, (REPLICATIONS // 4, count))
            quantile = np.quantile(log_partition(x, beta), 1.0 - DELTA)
            bound_eq_30 = float(bounds.log_partition_upper_bound(exact, X_MAX, beta, count, DELTA))
            bound_eq_32 = float(bounds.linear_log_partition_upper_bound(exact, X_MAX, beta, count, DELTA))
            estimates.append((beta, count, exact, quantile, bound_eq_30, bound_eq_32))
        x = generator.uniform(-X_MAX, X_MAX, (REPLICATIONS, NUM_FAILING))
        estimate = np.exp(log_partition(x, beta) / beta)
        for delta in DELTAS:
            bound = bounds.partition_upper_bound(partition, X_MAX, beta, NUM_FAILING, delta)
            failures.append((beta, delta, float((estimate > bound).mean())))
    columns = ("beta", "num_samples", "exact", "simulated_quantile", "bound_eq_30", "bound_eq_32")
    return {
        "estimates": long_table(*columns, rows=estimates),
        "failures": long_table("beta", "delta", "frequency", rows=failures),
    }


@style.styled()
def draw_b2(tables: Tables) -> Figure:
    figure = Figure(figsize=(9.6, 3.9))
    *of_betas, right = figure.subplots(1, 3)
    for beta, axes, color, marker in zip(B2_BETAS, of_betas, style.LINES, ("o-", "s--"), strict=False):
        rows = where(tables["estimates"], beta=beta)
        for column, tint, form, width, label in B2_LINES:
            axes.plot(rows["num_samples"], rows[column], form, color=tint, linewidth=width, label=label)
        axes.set(title=f"Lemma B.2, β = {beta:g}, δ = {DELTA:g}", xscale="log")
        axes.set(xlabel="N (samples)", ylabel="L^β (reward units)")
        rows = where(tables["failures"], beta=beta)
        seen = rows["frequency"] > 0
        right.plot(rows["delta"][seen], rows["frequency"][seen], marker, color=color, label=f"β = {beta:g}")
    right.plot(DELTAS, DELTAS, color=style.SOFT, linewidth=1, label="δ, the most that is allowed")
    right.set(title=f"exp(L̂/β) beyond its bound, N = {NUM_FAILING}", xscale="log", yscale="log")
    right.set(xlabel="δ (probability)", ylabel="frequency of failures")
    for axes in figure.axes:
        style.legend_below(axes)
    return figure
