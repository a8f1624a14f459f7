"""Figure B2: how far estimates of L^beta from N samples go, and what Lemma B.2 allows."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from xql_jax.figures.paper_figure import PaperFigure, Table, where
from xql_jax.reports.palette import BLUE, GREEN, LINES, VERMILION
from xql_jax.theory.bounds import (
    linear_log_partition_upper_bound,
    log_partition_upper_bound,
    partition_upper_bound,
)
from xql_jax.theory.log_partition import log_partition

X_MAX = 1.0  # X is uniform in [-X_MAX, X_MAX], reward units
BETAS = (0.2, 1.0)
DELTA = 0.05
SAMPLES = np.unique(np.geomspace(5, 2_000, 14).astype(int))
DELTAS = np.geomspace(0.001, 0.5, 25)
NUM_SAMPLES = 50  # where failures are counted
REPLICATIONS = 20_000


def exact_partition(beta: float) -> float:
    """E[exp(X / beta)] of the uniform law."""
    return float(np.sinh(X_MAX / beta) * beta / X_MAX)


def compute(seed: int) -> dict[str, Table]:
    generator = np.random.default_rng(seed)
    estimates: dict[str, list] = {}
    failures: dict[str, list] = {}
    for beta in BETAS:
        partition = exact_partition(beta)
        exact = beta * np.log(partition)
        for count in SAMPLES:
            x = generator.uniform(-X_MAX, X_MAX, (REPLICATIONS // 4, count))
            quantile = np.quantile(log_partition(x, beta), 1.0 - DELTA)
            bounds = (exact, X_MAX, beta, count, DELTA)
            row = {
                "beta": beta,
                "num_samples": count,
                "exact": exact,
                "simulated_quantile": quantile,
                "bound_eq_30": float(log_partition_upper_bound(*bounds)),
                "bound_eq_32": float(linear_log_partition_upper_bound(*bounds)),
            }
            for name, value in row.items():
                estimates.setdefault(name, []).append(value)
        x = generator.uniform(-X_MAX, X_MAX, (REPLICATIONS, NUM_SAMPLES))
        estimate = np.exp(log_partition(x, beta) / beta)
        for delta in DELTAS:
            bound = partition_upper_bound(partition, X_MAX, beta, NUM_SAMPLES, delta)
            row = {"beta": beta, "delta": delta, "frequency": float((estimate > bound).mean())}
            for name, value in row.items():
                failures.setdefault(name, []).append(value)
    return {
        "estimates": {name: np.array(column) for name, column in estimates.items()},
        "failures": {name: np.array(column) for name, column in failures.items()},
    }


def draw(tables: Mapping[str, Table]) -> Figure:
    figure = Figure(figsize=(15, 4.5), layout="constrained")
    *of_betas, right = figure.subplots(1, 3)
    for beta, axes in zip(BETAS, of_betas, strict=True):
        rows = where(tables["estimates"], beta=beta)
        count = rows["num_samples"]
        axes.plot(count, rows["bound_eq_32"], color=VERMILION, linestyle="-.", label="bound of Eq. 32")
        axes.plot(count, rows["bound_eq_30"], color=GREEN, linestyle="--", label="bound of Eq. 30")
        label = f"{100 * (1 - DELTA):g}% of estimates lie below"
        axes.plot(count, rows["simulated_quantile"], "o-", color=BLUE, markersize=4, label=label)
        axes.plot(count, rows["exact"], color="0.4", linewidth=1, label="L^β(X), exact")
        axes.set(
            title=f"Lemma B.2, β = {beta:g}, δ = {DELTA:g}",
            xlabel="N (samples)",
            ylabel="L^β (reward units)",
            xscale="log",
        )
        axes.legend(fontsize="small")
    for beta, color, style in zip(BETAS, LINES, ("o-", "s--"), strict=False):
        rows = where(tables["failures"], beta=beta)
        seen = rows["frequency"] > 0
        right.plot(
            rows["delta"][seen],
            rows["frequency"][seen],
            style,
            color=color,
            markersize=4,
            label=f"β = {beta:g}",
        )
    right.plot(DELTAS, DELTAS, color="0.4", linewidth=1, label="δ, the most that is allowed")
    right.set(
        title=f"How often exp(L̂/β) exceeds its bound (N = {NUM_SAMPLES})",
        xlabel="δ (probability)",
        ylabel="frequency of failures",
        xscale="log",
        yscale="log",
    )
    right.legend(fontsize="small")
    for axes in figure.axes:
        axes.grid(alpha=0.3)
    return figure


FIGURE = PaperFigure(
    "Lemma B.2: estimates from N samples against both bounds, and how often they fail", compute, draw
)
